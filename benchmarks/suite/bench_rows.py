"""softmax, log_softmax, logsumexp and cross_entropy_grad of scores that exist already."""

from collections.abc import Callable

import numpy as np

import softmax_ext

from .common import interleaved, typical

SHAPES = {"200000x10": (200_000, 10), "10000x1000": (10_000, 1000), "2048x32000": (2048, 32_000)}
FUNCTIONS = ["softmax", "log_softmax", "logsumexp", "cross_entropy_grad"]


def make(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scores and labels."""
    N, K = SHAPES[shape]
    rng = np.random.default_rng([N, K])
    Z = rng.standard_normal((N, K), np.float32)
    Z *= 3
    return Z, rng.integers(K, size=N)


def ours(function: str, Z: np.ndarray, y: np.ndarray, **keywords: object) -> Callable[[], object]:
    run = getattr(softmax_ext, function)
    if function == "cross_entropy_grad":
        return lambda: run(Z, y, **keywords)
    return lambda: run(Z, axis=1, **keywords)


class Rows:
    """Results in new memory, whose pages cost as much as the numbers in it."""

    params = (FUNCTIONS, list(SHAPES), [1, 2])
    param_names = ("function", "shape", "n_threads")
    repeat = (2, 5, 4.0)

    def setup(self, function, shape, n_threads):
        self.run = ours(function, *make(shape), n_threads=n_threads)

    def time_call(self, function, shape, n_threads):
        self.run()


class Axes:
    """Functions along the first axis, or of a transposed array: 1000 x 10000 and 10 x 200000."""

    params = (["softmax", "log_softmax", "logsumexp"], ["200000x10", "10000x1000"], ["first axis", "transposed"])
    param_names = ("function", "shape", "layout")
    repeat = (2, 5, 4.0)

    def setup(self, function, shape, layout):
        Z, _ = make(shape)
        self.Z = Z.T.copy() if layout == "first axis" else np.asfortranarray(Z)
        self.axis = 0 if layout == "first axis" else 1

    def time_call(self, function, shape, layout):
        getattr(softmax_ext, function)(self.Z, axis=self.axis)


class OneRow:
    """One row of ten scores, where the call itself takes most of the time."""

    params = (["softmax", "log_softmax", "logsumexp", "np.exp"],)
    param_names = ("function",)

    def setup(self, function):
        self.Z = np.linspace(-1, 1, 10, dtype=np.float32)
        self.run = np.exp if function == "np.exp" else getattr(softmax_ext, function)

    def time_1000_calls(self, function):
        for _ in range(1000):
            self.run(self.Z)


class LongRow:
    """One row of 20 million scores, which all threads share."""

    params = (["softmax", "log_softmax", "logsumexp"], [1, 2])
    param_names = ("function", "n_threads")
    repeat = (2, 5, 4.0)

    def setup(self, function, n_threads):
        self.Z = np.random.default_rng(0).standard_normal(20_000_000, np.float32)
        self.run = getattr(softmax_ext, function)

    def time_call(self, function, n_threads):
        self.run(self.Z, n_threads=n_threads)


class OverCopy:
    """Our time, with results in existing memory, divided by that of np.copyto between the same arrays, in turns."""

    params = (["softmax", "log_softmax", "cross_entropy_grad"], list(SHAPES))
    param_names = ("function", "shape")
    unit = "copies"

    def setup(self, function, shape):
        self.Z, self.y = make(shape)
        self.out = np.empty_like(self.Z)

    def track_time_over_copyto(self, function, shape):
        contenders = {
            "ours": ours(function, self.Z, self.y, out=self.out),
            "copy": lambda: np.copyto(self.out, self.Z),
        }
        seconds = interleaved(contenders, rounds=5)
        return round(typical(seconds["ours"]) / typical(seconds["copy"]), 2)


class OverScipy:
    """SciPy's time divided by ours, measured in turns."""

    params = (["softmax", "log_softmax", "logsumexp"], list(SHAPES))
    param_names = ("function", "shape")
    unit = "times as fast"

    def setup(self, function, shape):
        self.Z, self.y = make(shape)

    def track_ratio_over_scipy(self, function, shape):
        from scipy import special

        theirs = getattr(special, function)
        contenders = {"ours": ours(function, self.Z, self.y), "scipy": lambda: theirs(self.Z, axis=1)}
        seconds = interleaved(contenders, rounds=3)
        return round(typical(seconds["scipy"]) / typical(seconds["ours"]), 2)


class OverTorch:
    """PyTorch's time for cross_entropy and its gradient divided by ours, measured in turns."""

    params = (list(SHAPES),)
    param_names = ("shape",)
    unit = "times as fast"

    def setup(self, shape):
        try:
            import torch
        except ImportError as error:
            raise NotImplementedError(str(error)) from None
        Z, y = make(shape)
        scores, labels = torch.from_numpy(Z), torch.from_numpy(y)

        def run():
            z = scores.detach().requires_grad_()
            torch.nn.functional.cross_entropy(z, labels).backward()
            return z.grad

        self.contenders = {"ours": ours("cross_entropy_grad", Z, y), "torch": run}

    def track_ratio_over_torch(self, shape):
        seconds = interleaved(self.contenders, rounds=3)
        return round(typical(seconds["torch"]) / typical(seconds["ours"]), 2)
