"""The ``bench`` command: times of one pass by softmax_ext and by other installed packages, taken in turns."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch, threads
from ..functional import loss_grad
from .report import row, rows_of

Array = npt.NDArray[Any]
Run = Callable[[], object]

SHAPES: dict[str, tuple[int, int, int, str]] = {
    "iris": (150, 4, 3, "float64"),
    "digits": (1797, 64, 10, "float32"),
    "mnist": (60_000, 784, 10, "float32"),
    "covtype": (581_012, 54, 7, "float32"),
    "embeddings": (100_000, 384, 100, "float32"),
    "manyclass": (100_000, 10, 1000, "float32"),
}
ROUNDS = 7  # each contender's time is the median of so many rounds


def bench(args: argparse.Namespace) -> None:
    """Time loss and gradient on random data of each shape, and print a table."""
    names = args.shapes or list(SHAPES)
    contenders: dict[str, None] = dict.fromkeys(["softmax_ext"])
    results = {}
    if not args.json:
        row("kernels", f"ISA level {dispatch.isa}, threads {threads.effective(args.threads)}")
    for name in names:
        runs = passes(*SHAPES[name], n_threads=args.threads)
        contenders |= dict.fromkeys(runs)
        results[name] = interleaved(runs)
    if args.json:
        print(json.dumps({"isa": dispatch.isa, "threads": threads.effective(args.threads), "seconds": results}))
        return
    body = []
    for name, seconds in results.items():
        N, D, K, dtype = SHAPES[name]
        ours = seconds["softmax_ext"]
        times = (f"{seconds[each] / ours:.1f}x" if each in seconds else "" for each in [*contenders][1:])
        body.append((f"{N} x {D} x {K}, {dtype} ({name})", duration(ours), *times))
    print(rows_of(["N x D x K", *contenders], body))
    print("\nOne pass, loss and gradient; under the others, how many times as long they take.")


def duration(seconds: float) -> str:
    """Return a time as text, with up to three digits and a unit that suits its size."""
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.3g} ms"


def passes(N: int, D: int, K: int, dtype: str, n_threads: int | None = None) -> dict[str, Run]:
    """Return a function for each installed package that computes the same loss and gradient."""
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D), np.dtype(dtype))
    y, W = rng.integers(K, size=N), 0.1 * rng.standard_normal((K, D), np.dtype(dtype))
    runs: dict[str, Run] = {"softmax_ext": lambda: loss_grad(X, y, W, n_threads=n_threads)}
    for name, make in {"NumPy": _numpy, "scikit-learn": _sklearn, "PyTorch": _torch}.items():
        try:
            runs[name] = make(X, y, W)
        except ImportError:
            continue
    return runs


def _numpy(X: Array, y: Array, W: Array) -> Run:
    i = np.arange(len(y))

    def run() -> tuple[float, Array]:
        Z = X @ W.T
        Z -= Z.max(axis=1, keepdims=True)
        S = np.exp(Z)
        S /= S.sum(axis=1, keepdims=True)
        J = -np.log(S[i, y]).mean()
        S[i, y] -= 1
        return J, S.T @ X / len(X)

    return run


def _sklearn(X: Array, y: Array, W: Array) -> Run:
    """Return the loss that scikit-learn's LogisticRegression minimises, on one thread as its fit computes it.

    It is private to scikit-learn and may move: then the contender is left out.
    """
    from sklearn._loss import HalfMultinomialLoss
    from sklearn.linear_model._linear_loss import LinearModelLoss

    objective = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=len(W)), fit_intercept=False)
    labels, coef = y.astype(X.dtype), np.asfortranarray(W)
    return lambda: objective.loss_gradient(coef, X, labels, n_threads=1)


def _torch(X: Array, y: Array, W: Array) -> Run:
    import torch

    samples, labels = torch.from_numpy(X), torch.from_numpy(y)

    def run() -> tuple[float, Any]:
        weight = torch.from_numpy(W).requires_grad_()
        loss = torch.nn.functional.cross_entropy(torch.nn.functional.linear(samples, weight), labels)
        loss.backward()
        return loss.item(), weight.grad

    return run


def interleaved(runs: Mapping[str, Run]) -> dict[str, float]:
    """Return the median seconds of each run, timed in turns.

    After a product, OpenBLAS's threads keep the processor busy for tens of milliseconds, so each contender begins with
    a pause. A short pass is repeated for 20 ms, since a single one is too short for the clock.
    """
    medians: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            time.sleep(0.05)
            run()  # not timed: it wakes the contender's threads
            burst: list[float] = []
            while sum(burst) < 0.02:
                start = time.perf_counter()
                run()
                burst.append(time.perf_counter() - start)
            medians[name].append(statistics.median(burst))
    return {name: statistics.median(seconds) for name, seconds in medians.items()}
