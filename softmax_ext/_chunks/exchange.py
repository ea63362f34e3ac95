"""How a cluster's workers evaluate together: they tell one another what is asked, and fetch one another's sums.

Dask's scheduler takes some tenths of a millisecond for each task, and its client some milliseconds, so that an
evaluation on a thousand workers would wait longer for them than for the sums. So an evaluation is no task. `Exchange`,
a plugin, adds two operations to each worker. `ask` passes the question on to other workers and computes the parts that
this one holds, and `give` hands out the sums of a node of the tree. Both travel from worker to worker. What the workers
hold, and where, is Dask's matter: if a worker is lost, its parts are computed again, and then the client asks anew.
"""

from __future__ import annotations

import asyncio
import functools
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from distributed.diagnostics.plugin import WorkerPlugin
from distributed.protocol import to_serialize

from .._objective.tree import Node, Sums, added_in_place, height, journeys, place
from . import partitions

Vector = npt.NDArray[np.float64]

ASK, GIVE = "softmax_ext_ask", "softmax_ext_give"  # the operations' names
# How many workers each worker passes a question on to. With two a message of 8 MB reaches all of 1000 workers as soon
# as with four, and a small one later by half a millisecond for each level.
FAN = 2


class Lost(Exception):
    """A worker is gone, or what it held."""


class Order(NamedTuple):
    """What a worker does in an evaluation."""

    numbers: list[int]  # of the parts that it holds
    keys: list[str]  # of the same parts
    comes: list[tuple[Node, str]]  # the nodes that it fetches, and from whom
    below: list[tuple[str, bytes]]  # to whom it passes the question on, with their orders


class Question(NamedTuple):
    """What is asked of all workers."""

    of: str  # the objective
    turn: int  # the number of the evaluation, which is greater than those of all before
    pieces: int  # how many there are on all workers
    asks: list[Any]  # with how many of the vectors are each one's own
    n_threads: int | None


def orders(owners: Sequence[str], keys: Sequence[str]) -> bytes:
    """Return the order of the first owner, who is asked first, from the owner and the key of each part."""
    all_of: dict[str, Order] = {}
    for number, (owner, key) in enumerate(zip(owners, keys, strict=True)):
        order = all_of.setdefault(owner, Order([], [], [], []))
        order.numbers.append(number)
        order.keys.append(key)
    for node, source, target in journeys(owners):
        all_of[target].comes.append((node, source))
    workers = list(all_of)  # the first has the first part
    for i in range(len(workers) - 1, 0, -1):
        all_of[workers[(i - 1) // FAN]].below.append((workers[i], pickle.dumps(all_of[workers[i]])))
    return pickle.dumps(all_of[workers[0]])


class Meeting:
    """The sums of an evaluation that a worker holds, and those that others wait for."""

    def __init__(self, turn: int) -> None:
        self.turn, self.complete = turn, False
        self.held: dict[Node, Sums] = {}
        self.awaited: dict[Node, asyncio.Future[Sums]] = {}
        self.error: Exception | None = None

    def put(self, node: Node, sums: Sums, pieces: int) -> None:
        """Add sums, and hand out those that are awaited."""
        place(self.held, node, sums, added_in_place, pieces, height(pieces))
        for ready in self.held.keys() & self.awaited.keys():
            future = self.awaited.pop(ready)
            if not future.done():
                future.set_result(self.held.pop(ready))

    async def take(self, node: Node) -> Sums:
        """Return a node's sums, once they are there."""
        if self.error is not None:
            raise self.error
        if node in self.held:
            return self.held.pop(node)
        future: asyncio.Future[Sums] = asyncio.get_running_loop().create_future()
        self.awaited[node] = future
        return await future

    def fail(self, error: Exception) -> None:
        """Let all who wait, or will, have an error."""
        self.error = error
        self.held.clear()
        for future in self.awaited.values():
            if not future.done():
                future.set_exception(error)


class Exchange(WorkerPlugin):  # type: ignore[misc]
    """What a worker does for evaluations."""

    name = "softmax_ext"
    idempotent = True

    def setup(self, worker: Any) -> None:
        """Add the operations to a worker."""
        self.worker = worker
        self.meetings: dict[str, Meeting] = {}
        worker.handlers.update({ASK: self.ask, GIVE: self.give})

    async def ask(self, question: Question, order: bytes, vectors: list[Vector]) -> dict[str, Any]:
        """Return the sums of all parts, if this worker was asked first; else nothing, once all below have theirs."""
        return await _answered(self._asked(question, order, vectors))

    async def give(self, of: str, turn: int, node: Node) -> dict[str, Any]:
        """Return the sums of a node that is added here."""
        level, index = node
        return await _answered(self._given(of, turn, (level, index)))

    def _meeting(self, of: str, turn: int) -> Meeting:
        found = self.meetings.get(of)
        if found is not None and found.turn > turn:
            raise Lost("a later evaluation has begun")
        if found is None or found.turn < turn:
            if found is not None:
                found.fail(Lost("a later evaluation has begun"))
            found = self.meetings[of] = Meeting(turn)
        return found

    def _close(self, of: str, meeting: Meeting) -> None:
        """Forget a meeting that nobody will ask for."""
        if meeting.complete and not meeting.held and self.meetings.get(of) is meeting:
            del self.meetings[of]

    async def _given(self, of: str, turn: int, node: Node) -> Sums:
        meeting = self._meeting(of, turn)
        sums = await meeting.take(node)
        self._close(of, meeting)
        return sums

    async def _asked(self, question: Question, order: bytes, vectors: list[Vector]) -> Sums | None:
        meeting, mine = self._meeting(question.of, question.turn), Order(*pickle.loads(order))
        try:
            async with asyncio.TaskGroup() as group:
                for address, theirs in mine.below:
                    group.create_task(self._passed_on(address, question, theirs, vectors))
                group.create_task(self._computed(meeting, question, mine, vectors))
                for node, address in mine.comes:
                    group.create_task(self._fetched(meeting, question, node, address))
        except ExceptionGroup as errors:
            found = min(errors.exceptions, key=lambda error: isinstance(error, Lost))
            meeting.fail(found)
            raise found from None
        except asyncio.CancelledError:
            meeting.fail(Lost("whoever asked is gone"))
            raise
        first = meeting.held.pop((height(question.pieces), 0), None)
        meeting.complete = True
        self._close(question.of, meeting)
        return first

    async def _passed_on(self, address: str, question: Question, order: bytes, vectors: list[Vector]) -> None:
        await self._call(address, ASK, question=to_serialize(question), order=order, vectors=to_serialize(vectors))

    async def _fetched(self, meeting: Meeting, question: Question, node: Node, address: str) -> None:
        sums = await self._call(address, GIVE, of=question.of, turn=question.turn, node=node)
        meeting.put(node, sums, question.pieces)

    async def _computed(self, meeting: Meeting, question: Question, order: Order, vectors: list[Vector]) -> None:
        """Compute the parts that this worker holds, in a thread that Dask has for tasks."""
        worker = self.worker
        try:
            parts = [worker.data[key] for key in order.keys]
        except KeyError as error:
            raise Lost(f"{worker.address} has {error} no longer") from None
        n_threads = worker.state.nthreads if question.n_threads is None else question.n_threads
        compute = functools.partial(
            partitions.evaluate, question.asks, order.numbers, parts, question.pieces, n_threads, *vectors
        )
        found = await asyncio.get_running_loop().run_in_executor(worker.executors["default"], compute)
        for node, sums in found.items():
            meeting.put(node, sums, question.pieces)

    async def _call(self, address: str, operation: str, **message: Any) -> Any:
        """Return the answer of another worker."""
        try:
            answer = await getattr(self.worker.rpc(address), operation)(**message)
        except OSError as error:
            raise Lost(f"{address}: {error}") from error
        return unpacked(address, answer)


async def _answered(sums: Any) -> dict[str, Any]:
    """Return the message of an answer, or of an error, which Dask would write to the worker's log."""
    try:
        return {"sums": to_serialize(await sums)}
    except Exception as error:
        return {"error": to_serialize(error)}


def unpacked(address: str, answer: Any) -> Any:
    """Return what a worker has answered, or raise its error."""
    if answer is None:
        raise Lost(f"{address} does not know the operation yet")
    if (error := answer.get("error")) is not None:
        raise error
    return answer["sums"]
