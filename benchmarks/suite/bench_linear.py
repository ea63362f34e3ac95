"""linear_cross_entropy: a linear layer over many classes, its loss and the gradients for weights and input."""

from collections.abc import Callable

import numpy as np

from softmax_ext import linear_cross_entropy

from .common import interleaved, typical

SHAPES = {
    "8192x256x1000": (8192, 256, 1000),
    "2048x512x8000": (2048, 512, 8000),
    "1024x1024x32000": (1024, 1024, 32_000),
}
OPTIONS = {
    "plain": {},
    "dX": {"grad_input": True},
    "dX, weighted and smoothed": {"grad_input": True, "label_smoothing": 0.1, "weight": True},
    "dX, z-loss and cap": {"grad_input": True, "z_loss": 1e-4, "softcap": 30.0},
}


def make(shape: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return samples, weights and labels."""
    N, D, K = SHAPES[shape]
    rng = np.random.default_rng([N, D, K])
    return (
        rng.standard_normal((N, D), np.float32),
        rng.standard_normal((K, D), np.float32) / D**0.5,
        rng.integers(K, size=N),
    )


def torchs(shape: str, chunked: bool) -> Callable[[], object]:
    """Return a call of PyTorch's function, in chunks or not, with the gradients of weights and input."""
    try:
        import torch
        from torch.nn import LinearCrossEntropyOptions
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    X, W, y = map(torch.from_numpy, make(shape))
    options = LinearCrossEntropyOptions() if chunked else None

    def run() -> object:
        leaves = X.detach().requires_grad_(), W.detach().requires_grad_()
        torch.nn.functional.linear_cross_entropy(*leaves, y, options=options).backward()
        return leaves

    return run


class Linear:
    params = (list(SHAPES), list(OPTIONS), [1, 2])
    param_names = ("shape", "options", "n_threads")
    repeat = (2, 5, 4.0)

    def setup(self, shape, options, n_threads):
        self.arguments = make(shape)
        self.keywords = {**OPTIONS[options], "n_threads": n_threads}
        if "weight" in self.keywords:
            self.keywords["weight"] = np.linspace(0.5, 1.5, SHAPES[shape][2], dtype=np.float32)

    def time_call(self, shape, options, n_threads):
        linear_cross_entropy(*self.arguments, **self.keywords)


class Torch:
    params = (list(SHAPES), [False, True])
    param_names = ("shape", "chunked")
    repeat = (2, 5, 4.0)

    def setup(self, shape, chunked):
        self.run = torchs(shape, chunked)

    def time_call(self, shape, chunked):
        self.run()


class OverTorch:
    """PyTorch's time with dW and dX divided by ours, measured in turns."""

    params = (list(SHAPES), [False, True])
    param_names = ("shape", "chunked")
    unit = "times as fast"

    def setup(self, shape, chunked):
        self.theirs, self.arguments = torchs(shape, chunked), make(shape)

    def track_ratio_over_torch(self, shape, chunked):
        contenders = {
            "ours": lambda: linear_cross_entropy(*self.arguments, grad_input=True),
            "torch": self.theirs,
        }
        seconds = interleaved(contenders, rounds=3)
        return round(typical(seconds["torch"]) / typical(seconds["ours"]), 2)
