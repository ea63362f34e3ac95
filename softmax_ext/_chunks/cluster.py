"""A cluster's partitions as data in pieces, and the objective whose sums its workers compute.

An objective asks one worker for an evaluation, or for those of all folds, and that one asks the others (exchange.py). A
worker adds the whole subtrees of partitions that it holds. Their sums meet on workers, and the client gets the last.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import pickle
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import dask.array as da
import distributed
import numpy as np
import numpy.typing as npt
from distributed.protocol import to_serialize

from .._inputs.rows import Rows
from .._objective.folds import Ask, Folds
from .._objective.pieces import Pieces, PiecesObjective, Problem, Survey, checked, merged, survey
from .._objective.sample import every, most_of_a_sample
from .._objective.tree import Node, Sums, height
from . import partitions
from .exchange import ASK, Exchange, Lost, Question, orders, unpacked

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Arguments of tasks with more bytes than this are scattered, so that workers send them to each other. Smaller ones go
# with each task through the scheduler: its copies cost less than the second round trip of a scatter.
SCATTERED = 2**20
# How many seconds a cluster may be without any worker: on a busy machine a nanny needs some to replace a process.
PATIENCE = 60
# How many times an evaluation is asked for while workers are lost.
ATTEMPTS = 10
# Once in so many seconds of an evaluation the client asks whether all workers are there. Those that wait for one that
# is not would otherwise wait as long as a connection may take, by Dask's default 30 seconds.
LOOK = 1.0


class Partitions(Pieces):
    """The partitions of a Dask collection, with the targets, weights and offsets of their rows."""

    kind = "the partitions"

    def __init__(self, client: Any, X: Any, others: dict[str, Any]) -> None:
        self.client, self.pieces = client, distribute(client, X, others)
        self.names = tuple(str(name) for name in X.columns) if hasattr(X, "columns") else None
        self.surveys = gathered(client, client.map(survey, self.pieces, pure=False))

    def look(self) -> tuple[Survey, Rows]:
        """Return the survey of all partitions, and a sample of their rows."""
        found, client, pieces = merged(self.surveys), self.client, self.pieces
        counts = [int(one.counts.sum() if one.labels is not None else one.counts[0]) for one in self.surveys]
        if not any(counts):
            raise ValueError(f"Sample weights must contain at least one non-zero number: they sum to {found.total()}")
        stride = 1
        while math.ceil(sum(counts) / stride) > most_of_a_sample(found.D, found.dtype):
            stride *= 2
        firsts = np.cumsum([0, *counts[:-1]]).tolist()
        sample = gathered(client, client.map(every, pieces, firsts, [stride] * len(pieces), pure=False))
        return found, Rows.joined([piece for piece in sample if len(piece)])

    def objective(self, problem: Problem, sample: Rows, folds: Folds | None = None) -> DaskObjective:
        """Return the objective of a problem that the survey has found, with the sample."""
        return DaskObjective(self, problem, sample, folds)

    def places(self, folds: Folds | None) -> list[Any]:
        """Return the `Places` of each partition, None without folds."""
        firsts = np.cumsum([0, *(one.rows for one in self.surveys)]).tolist()
        return [
            None if folds is None else folds.places(first, one.rows)
            for first, one in zip(firsts, self.surveys, strict=False)
        ]

    def each(self, function: Callable[..., Any], *arguments: Any, folds: Folds | None = None) -> Iterator[Any]:
        """Yield what a function returns for each partition, and, with folds, its `Places`."""
        sent = scattered(self.client, arguments)
        more = self.places(folds)
        tasks = [
            self.client.submit(partitions.apply, function, piece, places, *sent, pure=False)
            for piece, places in zip(self.pieces, more, strict=True)
        ]
        yield from gathered(self.client, tasks)


class Turns:
    """The evaluations of an objective and of its copies, one after the other, on workers that hold its parts."""

    def __init__(self) -> None:
        self.name, self.numbers, self.lock = uuid.uuid4().hex, itertools.count(), threading.Lock()
        self.owners: list[str] | None = None  # of the parts; None if that has to be found out
        self.order = b""  # that of the first owner, who is asked


class DaskObjective(PiecesObjective):
    """The objective over a collection's partitions, each of which has an objective of its own on a worker."""

    def __init__(self, data: Partitions, problem: Problem, sample: Rows, folds: Folds | None = None) -> None:
        super().__init__(problem, problem.encoded(sample))
        self.client, self.folds, self.turns = data.client, folds, Turns()
        problems = [problem] * len(data.pieces)
        parts = data.client.map(partitions.part_of, data.pieces, problems, data.places(folds), pure=False)
        self.parts = [part for part, one in zip(parts, data.surveys, strict=True) if one.rows]
        self.client.register_plugin(Exchange())

    def _partials(self, asks: Sequence[Ask]) -> Iterator[tuple[Node, Sums]]:
        if not self.parts:
            return
        failures = 0
        with self.turns.lock:
            while True:
                try:
                    sums = self._asked(asks)
                    break
                except Lost as error:
                    self.turns.owners, failures = None, failures + 1
                    if failures == ATTEMPTS:
                        raise RuntimeError(
                            f"workers were lost in {ATTEMPTS} attempts at one evaluation, at last {error}: look why "
                            "they end, perhaps for lack of memory"
                        ) from error
                    time.sleep(min(0.05 * 2**failures, 5))  # meanwhile the scheduler notices, too
        # What has come through the network may not be written to.
        yield (
            (height(len(self.parts)), 0),
            [one if one is None or one.flags.writeable else one.copy() for one in sums],
        )

    def _asked(self, asks: Sequence[Ask]) -> Sums:
        """Return the sums of all parts, or raise Lost."""
        turns = self.turns
        if turns.owners is None:
            owners = self._owners()
            turns.order, turns.owners = orders(owners, [part.key for part in self.parts]), owners
        bare = [(ask._replace(vectors=()), len(ask.vectors)) for ask in asks]
        question = Question(turns.name, next(turns.numbers), len(self.parts), bare, self.problem.n_threads)
        vectors = [vector for ask in asks for vector in ask.vectors]
        message = {
            "op": ASK,
            "question": to_serialize(question),
            "order": turns.order,
            "vectors": to_serialize(vectors),
        }
        answer = self.client.sync(self._answer, message, turns.owners)
        sums: Sums = unpacked(turns.owners[0], answer)
        return sums

    async def _answer(self, message: dict[str, Any], owners: list[str]) -> Any:
        """Return the answer of the first owner; raise Lost if it, or another one, is gone.

        The scheduler passes the message on and knows nothing of it: not every client can reach a worker.
        """
        scheduler, (first, *_), all_of = self.client.scheduler, owners, list(dict.fromkeys(owners))
        telling = asyncio.ensure_future(scheduler.broadcast(msg=message, workers=[first], on_error="return_pickle"))
        try:
            while not (await asyncio.wait({telling}, timeout=LOOK))[0]:
                if gone := set(all_of) - set(await scheduler.ncores(workers=all_of)):
                    raise Lost(f"{min(gone)} is gone")
        finally:
            telling.cancel()
        answer = telling.result()[first]
        if isinstance(answer, bytes):
            raise Lost(f"{first}: {pickle.loads(answer)}")
        return answer

    def _owners(self) -> list[str]:
        """Return the worker that computes each part, which holds it."""
        self._wait()
        holders = self.client.who_has(self.parts)
        found = []
        for part in self.parts:
            if part.status != "finished":
                part.result()  # raises the error
            if not (workers := holders.get(part.key)):
                raise Lost(f"the worker that had {part.key}")
            found.append(min(workers))
        return found

    def _wait(self) -> None:
        """Wait until all parts are computed."""
        while True:
            self._workers()
            with suppress(TimeoutError), self.client.as_current():
                distributed.wait(self.parts, timeout=PATIENCE)
                return

    def _workers(self) -> list[str]:
        """Return the addresses of all workers; if there is none, wait for one."""
        while not (workers := list(self.client.scheduler_info(n_workers=-1)["workers"])):
            try:
                self.client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise RuntimeError(
                    f"the cluster has had no worker for {PATIENCE} seconds: look why they end, or give it others"
                ) from None
        return workers


def scattered(client: Any, arguments: Sequence[Any]) -> list[Any]:
    """Return arguments of tasks, as futures of arrays on all workers if the arrays are large."""
    if sum(getattr(one, "nbytes", 0) for one in arguments) <= SCATTERED:
        return list(arguments)
    found: list[Any] = client.scatter(list(arguments), broadcast=True, hash=False)
    return found


def gathered(client: Any, futures: list[Any]) -> list[Any]:
    """Return the results of futures, or raise the error of the first partition that has one."""
    with client.as_current():
        distributed.wait(futures)
    for future in futures:
        if future.status == "error":
            future.result()
    found: list[Any] = client.gather(futures)
    return found


def in_one_column(X: Any) -> Any:
    """Return an array whose chunks hold all columns, so that each is some whole samples."""
    return X.rechunk({1: -1}) if isinstance(X, da.Array) and X.ndim == 2 and X.numblocks[1] > 1 else X


def distribute(client: Any, X: Any, others: dict[str, Any]) -> list[Any]:
    """Return a future of checked `Rows` for each partition of X, with y, weights and offsets cut as X is."""
    given = {name: in_one_column(data) for name, data in {"X": X, **others}.items() if data is not None}
    to_compute = delayed_blocks(**given)
    # All collections are computed in one call, so that a file that holds both X and y is read once.
    futures = iter(client.compute([block for blocks in to_compute.values() for block in blocks]))
    found = {name: [next(futures) for _ in blocks] for name, blocks in to_compute.items()}
    rows, columns = known_rows(given.pop("X")), {"X": found["X"]}
    for name, data in given.items():
        blocks, theirs = found[name], known_rows(data)
        if not rows or rows != theirs:
            rows, theirs = rows or lengths(client, found["X"]), theirs or lengths(client, blocks)
            if sum(rows) != sum(theirs):
                raise ValueError(
                    f"X has {sum(rows)} rows in {len(rows)} partitions, but {name} has {sum(theirs)} in {len(theirs)}: "
                    "take both from the same rows, such as two columns of one data frame"
                )
        columns[name] = blocks if rows == theirs else _cut(client, blocks, theirs, rows)
    absent = [None] * len(found["X"])
    parts = zip(*(columns.get(name, absent) for name in ("X", "y", "sample_weight", "offset")), strict=True)
    return [
        client.submit(checked, X, y, s, f"partition {i} of X", offset, pure=False)
        for i, (X, y, s, offset) in enumerate(parts)
    ]


def delayed_blocks(**collections: Any) -> dict[str, list[Any]]:
    """Return the delayed blocks of each collection.

    Data frames with equally many partitions get them from one common graph. If Dask optimised their graphs one by one,
    it would merge files of which few columns are read: of 12 files X might have 12 blocks, and y 3.
    """
    frames = {name: data for name, data in collections.items() if not isinstance(data, da.Array)}
    blocks = {name: list(data.to_delayed().ravel()) for name, data in collections.items() if name not in frames}
    if len(frames) > 1 and len({data.npartitions for data in frames.values()}) == 1:
        first, *others = frames.values()
        together = first.map_partitions(
            partitions.together, *others, meta=(None, object), enforce_metadata=False, align_dataframes=False
        ).to_delayed()
        return blocks | {name: [parts[i] for parts in together] for i, name in enumerate(frames)}
    return blocks | {name: list(data.to_delayed()) for name, data in frames.items()}


def known_rows(data: Any) -> list[int]:
    """Return the number of rows of each partition, or an empty list if these are not known."""
    known = isinstance(data, da.Array) and not any(math.isnan(n) for n in data.chunks[0])
    return [int(n) for n in data.chunks[0]] if known else []


def lengths(client: Any, blocks: list[Any]) -> list[int]:
    return [int(n) for n in gathered(client, client.map(partitions.length, blocks, pure=False))]


def _cut(client: Any, blocks: list[Any], old: list[int], new: list[int]) -> list[Any]:
    """Return futures of blocks with the numbers of rows `new`, made of blocks with the numbers of rows `old`."""
    starts, made, first = np.cumsum([0, *old]), [], 0
    for rows in new:
        parts = [
            (block, max(first - start, 0), min(first + rows - start, n))
            for block, start, n in zip(blocks, starts.tolist(), old, strict=False)
            if start < first + rows and first < start + n
        ]
        here = [block for block, _, _ in parts] or blocks[:1]
        bounds = [(begin, end) for _, begin, end in parts] or [(0, 0)]
        made.append(client.submit(partitions.rejoined, here, bounds, pure=False))
        first += rows
    return made
