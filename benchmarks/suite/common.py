"""What all benchmarks share: the table of shapes, their data, and the timing of contenders in turns."""

import os
import random
import statistics
import time
from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import NamedTuple, TypeVar

import numpy as np

Name = TypeVar("Name", bound=Hashable)


class Shape(NamedTuple):
    N: int
    D: int
    K: int
    dtype: str

    @property
    def flops(self) -> int:
        """The operations of a pass: two products, and about 20 for each score's maximum, exp, sum and residual."""
        return self.N * self.K * (4 * self.D + 20)


SHAPES = {
    "iris-f64": Shape(150, 4, 3, "f8"),
    "digits-f32": Shape(1797, 64, 10, "f4"),
    "mnist-f32": Shape(60_000, 784, 10, "f4"),
    "mnist-f64": Shape(60_000, 784, 10, "f8"),
    "covtype-f32": Shape(581_012, 54, 7, "f4"),
    "covtype-f64": Shape(581_012, 54, 7, "f8"),
    "embed-f32": Shape(100_000, 384, 100, "f4"),
    "k1000-f32": Shape(20_000, 256, 1000, "f4"),
    "k1000-f64": Shape(20_000, 256, 1000, "f8"),
    "manyclass-f32": Shape(100_000, 10, 1000, "f4"),
    "manyclass-f64": Shape(100_000, 10, 1000, "f8"),
    "vocab-f32": Shape(2048, 1024, 32_000, "f4"),
    # Mini-batches of MNIST, as stochastic gradient descent takes them.
    "batch32-f32": Shape(32, 784, 10, "f4"),
    "batch64-f32": Shape(64, 784, 10, "f4"),
    "batch128-f32": Shape(128, 784, 10, "f4"),
    "batch256-f32": Shape(256, 784, 10, "f4"),
}
SHORT = [
    name for name, shape in SHAPES.items() if shape.flops < 10**8
]  # these take well under a millisecond, and are timed in loops
LONG = [name for name in SHAPES if name not in SHORT]

# All levels, whichever this processor has, since a benchmark must have the same parameters on every machine.
LEVELS = ["avx512", "avx2", "baseline"]

# Environment variables that are set and keep OpenBLAS from choosing its kernel by the processor.
PINS = [name for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if name in os.environ]


@lru_cache(maxsize=1)
def make(shape: Shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y and W, drawn in their own dtype, so that drawing them does not set the peak of memory benchmarks."""
    N, D, K, dtype = shape
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D), dtype)
    W = rng.standard_normal((K, D), dtype)
    W *= 0.05
    return X, rng.integers(K, size=N), W


def interleaved(contenders: dict[Name, Callable[[], object]], rounds: int = 7) -> dict[Name, list[float]]:
    """Return the seconds of one call of each contender, in each round.

    Every round runs all contenders, each time in another order, so that drifts of a shared machine affect all alike. A
    first round is not counted.
    """
    rng = random.Random(0)
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):
        for name in rng.sample(list(contenders), k=len(contenders)):
            time.sleep(0.05)  # OpenBLAS's threads keep the processors busy for tens of milliseconds after a call
            seconds[name].append(_burst(contenders[name]))
    return {name: times[1:] for name, times in seconds.items()}


def typical(seconds: list[float]) -> float:
    """Return the lower quartile, since disturbances only make runs longer."""
    return float(np.quantile(seconds, 0.25, method="lower"))


def _burst(run: Callable[[], object], at_least: float = 0.02) -> float:
    """Return the median seconds of the calls that fit into `at_least`; the first of them wakes threads and caches."""
    times: list[float] = []
    while sum(times) < at_least:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)
