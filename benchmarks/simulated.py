"""Simulate an evaluation on a large cluster: the workers' code as it is, over a transport that charges time.

`Simulation` and `Worker` stand in for Dask's client and workers. An `Exchange` runs on each worker, in an event loop
whose clock moves only when all wait. Parts are computed for real, on small data, and charged as large: operations,
additions, messages, and bytes through each worker's connection. The result must have the bits of chunks here.
"""

import asyncio
import itertools
import selectors
import types
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from softmax_ext import chunks
from softmax_ext._chunks import cluster, exchange
from softmax_ext._objective.penalty import Penalty
from softmax_ext._objective.pieces import checked, survey


class Rates(NamedTuple):
    """What the simulation charges."""

    flops: float  # operations per second of one core
    bandwidth: float  # bytes per second in each direction of each connection
    additions: float  # bytes of a vector that are added per second
    call: float  # seconds of a call from one worker to another, there and back, without vectors
    trip: float  # seconds of a call from the client by the scheduler to a worker, and back


class Scale(NamedTuple):
    """The data that are charged for."""

    N: float
    D: int
    K: int
    cores: int
    workers: int
    parts: int  # partitions
    in_order: bool = True  # whether neighbours lie on the same worker; else each on the next

    @property
    def vector(self):
        """Bytes of a gradient."""
        return 8 * self.K * (self.D + 1)

    def owner(self, i):
        """Return the worker that has a partition."""
        return i * self.workers // self.parts if self.in_order else i % self.workers


class Clock(asyncio.SelectorEventLoop):
    """An event loop that does not wait: its time goes on to that of the next event."""

    def __init__(self):
        super().__init__(_Selector(self))
        self.now = 0.0

    def time(self):
        """Return the simulated time."""
        return self.now


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop):
        super().__init__()
        self.loop = loop

    def select(self, timeout=None):
        if timeout is None:
            raise RuntimeError("all of the simulation waits, and for nothing")
        self.loop.now += timeout
        return super().select(0)


class Worker:
    """What `Exchange` needs of a worker."""

    def __init__(self, number, simulation):
        self.number, self.simulation, self.address = number, simulation, str(number)
        self.data, self.handlers, self.executors = {}, {}, {"default": None}
        self.state = types.SimpleNamespace(nthreads=1)
        self.sending = self.receiving = 0.0  # until when its connections are busy
        self.adding = 0.0

    def rpc(self, address):
        """Return what calls another worker."""
        return Calls(self, self.simulation.workers[int(address)])

    async def adds(self):
        """Charge for an addition, one after the other."""
        loop = asyncio.get_running_loop()
        self.adding = max(self.adding, loop.time()) + self.simulation.scale.vector / self.simulation.rates.additions
        await asyncio.sleep(self.adding - loop.time())


class Calls:
    """Calls from one worker, or from the scheduler, to another: each attribute is a function that charges for one."""

    def __init__(self, source, target):
        self.source, self.target = source, target

    def __getattr__(self, operation):
        async def call(**message):
            simulation = self.target.simulation
            if "vectors" in message:
                simulation.down += 1
                await simulation.sent(self.source, self.target, simulation.scale.vector + len(message["order"]))
            await asyncio.sleep(simulation.rates.call / 2)
            given = {name: getattr(each, "data", each) for name, each in message.items()}
            answer = await self.target.handlers[operation](**given)
            answer = {name: getattr(each, "data", each) for name, each in answer.items()}
            if answer.get("sums") is not None:
                simulation.up += 1
                await simulation.sent(self.target, self.source, simulation.scale.vector)
            await asyncio.sleep(simulation.rates.call / 2)
            return answer

        return call


class Exchange(exchange.Exchange):
    """The real one, whose additions are charged for."""

    async def _fetched(self, *arguments):
        await super()._fetched(*arguments)
        await self.worker.adds()


class Future:
    """A result that a worker holds."""

    numbers = itertools.count()
    status = "finished"

    def __init__(self, value, worker):
        self.value, self.worker, self.key = value, worker, f"{'part_of-' + 32 * '0'}-{next(self.numbers)}"
        worker.data[self.key] = value


class Simulation:
    """What `DaskObjective` asks of a client, with a clock."""

    def __init__(self, rates, scale):
        self.rates, self.scale, self.loop = rates, scale, Clock()
        self.workers = [Worker(i, self) for i in range(scale.workers)]
        self.host, self.scheduler = Worker(-1, self), self
        self.up = self.down = 0  # vectors that were sent from worker to worker, or the scheduler
        self.loop.run_in_executor = self._computed

    async def sent(self, source, target, size):
        """Charge for bytes on their way from one worker to another: each sends one after the other, and receives so."""
        begin = max(self.loop.time(), source.sending, target.receiving)
        source.sending = target.receiving = begin + size / self.rates.bandwidth
        await asyncio.sleep(source.sending - self.loop.time())

    async def _computed(self, _, compute):
        """Compute, and charge for as many operations and additions as large parts take."""
        scale, rates, parts = self.scale, self.rates, len(compute.args[1])
        seconds = parts * 4 * scale.N / scale.parts * scale.D * scale.K / (scale.cores * rates.flops)
        await asyncio.sleep(seconds + (parts - 1) * scale.vector / rates.additions)
        return compute()

    def map(self, function, *sequences, pure):
        """Compute at once the partitions' own tasks, which are not part of an evaluation."""
        return [
            Future(function(*arguments), self.workers[self.scale.owner(i)])
            for i, arguments in enumerate(zip(*sequences, strict=True))
        ]

    def register_plugin(self, plugin):
        """Set up each worker."""
        for worker in self.workers:
            Exchange().setup(worker)

    def as_current(self):
        """Do nothing."""
        return nullcontext()

    def who_has(self, futures):
        """Return the worker of each part."""
        return {each.key: [each.worker.address] for each in futures}

    def scheduler_info(self, n_workers):
        """Return all workers."""
        return {"workers": {each.address: None for each in self.workers}}

    async def ncores(self, workers):
        """Return all workers: none is lost."""
        return workers

    def sync(self, function, *arguments):
        """Run until the function has ended."""
        return self.loop.run_until_complete(function(*arguments))

    async def broadcast(self, msg, workers, on_error):
        """Ask one worker, as the scheduler does, which passes on both the question and the answer."""
        message, (address,) = dict(msg), workers
        await asyncio.sleep(self.rates.trip)
        hop = self.scale.vector / self.rates.bandwidth
        await asyncio.sleep(hop)  # from the client to the scheduler
        answer = await getattr(Calls(self.host, self.workers[int(address)]), message.pop("op"))(**message)
        await asyncio.sleep(hop)
        return {address: answer}


@contextmanager
def _stood_in():
    """Let `cluster` wait for nobody."""
    before = cluster.distributed
    cluster.distributed = types.SimpleNamespace(wait=lambda futures, timeout: None)
    try:
        yield
    finally:
        cluster.distributed = before


class Found(NamedTuple):
    """What an evaluation took."""

    seconds: float
    down: int  # vectors of coefficients that were sent to workers
    between: int  # gradients that travelled between workers
    to_client: int


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
        w = rng.standard_normal(whole.size)
        value, grad = ours.value_and_grad(w)
    want = whole.value_and_grad(w)
    assert value == want[0] and grad.tobytes() == want[1].tobytes()
    client.loop.close()
    return Found(client.loop.now, client.down, client.up - 1, 1)
