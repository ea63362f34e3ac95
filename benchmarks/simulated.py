"""Simulate an evaluation on a large cluster: the code of the tree as it is, over a transport that charges time.

`Simulation` stands in for Dask's client. It takes the tasks of `DaskObjective` with their workers, computes them for
real, on small data, and charges what they would take on large data: for operations, additions, bytes through each
worker's connection, and messages. Its result must have the bits of chunks in this process.
"""

import heapq
import itertools
import types
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from softmax_ext import chunks
from softmax_ext._chunks import cluster, partitions
from softmax_ext._objective.penalty import Penalty
from softmax_ext._objective.pieces import checked, survey
from softmax_ext._objective.tree import added


class Rates(NamedTuple):
    """What the simulation charges."""

    flops: float  # operations per second of one core
    bandwidth: float  # bytes per second in each direction of each connection
    additions: float  # bytes of a vector that are added per second
    link: float  # seconds from the end of a task to the start of one that waits for it on another worker
    task: float  # seconds of the client and the scheduler for each task, one after the other
    trip: float  # seconds of one task there and back


class Scale(NamedTuple):
    """The data that are charged for."""

    N: float
    D: int
    K: int
    cores: int
    workers: int
    parts: int  # partitions, which lie on the workers in order

    @property
    def vector(self):
        """Bytes of a gradient."""
        return 8 * self.K * (self.D + 1)


class Future:
    """The result of a task, or data that a worker holds."""

    numbers = itertools.count()

    def __init__(self, function, arguments, worker, known):
        self.function, self.arguments, self.worker, self.known = function, arguments, worker, known
        self.key, self.end, self.value = next(self.numbers), None, None

    @property
    def needs(self):
        """The futures among the arguments."""
        return [each for each in _flat(self.arguments) if isinstance(each, Future)]


def _flat(arguments):
    for each in arguments:
        yield from _flat(each) if isinstance(each, list | tuple) else [each]


def _filled(argument):
    if isinstance(argument, Future):
        return argument.value
    return [_filled(each) for each in argument] if isinstance(argument, list) else argument


class Simulation:
    """What `DaskObjective` asks of a client, with a clock."""

    def __init__(self, rates, scale):
        self.rates, self.scale = rates, scale
        self.holders = {}
        self.restart()

    def restart(self):
        """Set the clock and the counts to 0."""
        self.clock, self.tasks, self.made = 0.0, 0, []
        self.free = np.zeros(self.scale.workers)  # when each worker's processors are free
        self.sending, self.receiving = np.zeros(self.scale.workers), np.zeros(self.scale.workers)
        self.between = self.to_client = 0

    def as_current(self):
        """Do nothing."""
        return nullcontext()

    def map(self, function, *sequences, pure):
        """Compute at once: the partitions' own tasks, which are not part of an evaluation."""
        found = []
        for i, arguments in enumerate(zip(*sequences, strict=True)):
            future = Future(None, (), i * self.scale.workers // self.scale.parts, 0.0)
            future.value, future.end = function(*arguments), 0.0
            self.holders[future.key] = [future.worker]
            found.append(future)
        return found

    def who_has(self, futures):
        """Return the worker of each partition."""
        return {each.key: self.holders[each.key] for each in futures}

    def scatter(self, arrays, broadcast, hash):
        """Charge for a tree in which each worker that has the vectors sends them to another."""
        rounds = int(np.ceil(np.log2(self.scale.workers))) + 1
        self.clock += rounds * (self.rates.link + self.scale.vector / self.rates.bandwidth)
        return list(arrays)

    def submit(self, function, *arguments, workers, allow_other_workers, pure):
        """Take a task, which its worker knows of when the scheduler has come to it."""
        self.clock, self.tasks = self.clock + self.rates.task, self.tasks + 1
        self.made.append(Future(function, arguments, workers[0], self.clock))
        return self.made[-1]

    def gather(self, futures):
        """Compute all tasks, and charge for them and for the results' way to the client."""
        waiting = {each.key: sum(one.end is None for one in each.needs) for each in self.made}
        after = {}
        for each in self.made:
            for one in each.needs:
                after.setdefault(one.key, []).append(each)
        ready = [(each.known, each.key, each) for each in self.made if not waiting[each.key]]
        heapq.heapify(ready)
        while ready:
            now, _, task = heapq.heappop(ready)
            self._charge(task, now)
            task.value = task.function(*map(_filled, task.arguments))
            for each in after.get(task.key, []):
                waiting[each.key] -= 1
                if not waiting[each.key]:
                    at = max(each.known, *(one.end for one in each.needs))
                    heapq.heappush(ready, (at, each.key, each))
        for each in sorted(futures, key=lambda one: one.end):
            self.clock = max(self.clock, each.end) + self.scale.vector / self.rates.bandwidth
            self.to_client += 1
        self.clock += self.rates.trip
        return [each.value for each in futures]

    def _charge(self, task, now):
        """Set when a task ends that may begin now, after what other workers hold has come."""
        rates, w = self.rates, task.worker
        come = now
        for one in task.needs:
            if one.worker != w:
                begin = max(now + rates.link, self.sending[one.worker], self.receiving[w])
                end = begin + self.scale.vector / rates.bandwidth
                self.sending[one.worker] = self.receiving[w] = end
                come, self.between = max(come, end), self.between + 1
        begin, seconds = max(come, self.free[w]), 0.0
        if task.function is partitions.evaluate:
            parts, scale = len(task.arguments[2]), self.scale
            seconds = parts * 4 * scale.N / scale.parts * scale.D * scale.K / (scale.cores * rates.flops)
            seconds += (parts - 1) * scale.vector / rates.additions
        elif task.function is added:
            seconds = self.scale.vector / rates.additions
        task.end = self.free[w] = begin + seconds


class Found(NamedTuple):
    """What an evaluation took."""

    seconds: float
    tasks: int
    between: int  # gradients that travelled between workers
    to_client: int


@contextmanager
def _stood_in():
    """Let `cluster` wait for nobody, and scatter vectors of any size."""
    before = cluster.distributed, cluster.SCATTERED
    cluster.distributed, cluster.SCATTERED = types.SimpleNamespace(wait=lambda futures: None), 0
    try:
        yield
    finally:
        cluster.distributed, cluster.SCATTERED = before


def evaluation(rates: Rates, scale: Scale) -> Found:
    """Simulate one evaluation; raise AssertionError unless its result has the bits of chunks."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2 * scale.parts, 2)), np.arange(2 * scale.parts) % 3
    cuts = [slice(i, i + 2) for i in range(0, len(y), 2)]
    whole = chunks.ChunksObjective(chunks.from_iterable(lambda: [(X[i], y[i]) for i in cuts]), l2=0.01, n_threads=1)
    client = Simulation(rates, scale)
    data: Any = types.SimpleNamespace(client=client, places=lambda folds: [None] * scale.parts)
    data.pieces = [checked(X[i], y[i], None, "partition") for i in cuts]
    data.surveys = [survey(piece) for piece in data.pieces]
    with _stood_in():
        ours = cluster.DaskObjective(data, whole.problem._replace(penalty=Penalty(0.01)), whole.some)
        client.restart()
        w = rng.standard_normal(whole.size)
        value, grad = ours.value_and_grad(w)
    want = whole.value_and_grad(w)
    assert value == want[0] and grad.tobytes() == want[1].tobytes()
    return Found(client.clock, client.tasks, client.between, client.to_client)
