"""softmax_ext.torch beside PyTorch's own functions: the losses, and whole steps of training."""

from collections.abc import Callable

import numpy as np

from .common import interleaved, typical

Step = Callable[[], object]
SCORES = {"4096x10": (4096, 10), "200000x10": (200_000, 10), "10000x1000": (10_000, 1000), "2048x32000": (2048, 32_000)}
LINEAR = {"4096x512x8000": (4096, 512, 8000), "2048x512x32000": (2048, 512, 32_000)}
# The ways to compute a linear layer with its loss. "eager" is PyTorch's function as it is, "chunked" the same with its
# chunks, and "compiled" the eager one under torch.compile.
WAYS = ["softmax_ext", "softmax_ext compiled", "eager", "chunked", "compiled"]
MODELS = ["vocabulary", "mlp256", "mlp8192"]


def modules() -> tuple[object, object, object]:
    """Return PyTorch, its module of functions, and ours."""
    try:
        import torch
        from torch.nn import LinearCrossEntropyOptions, functional

        from softmax_ext import torch as ours
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    assert LinearCrossEntropyOptions
    return torch, functional, ours


def scores_step(shape: str, module: object) -> Step:
    """Return a step of forward and backward of scores."""
    torch, _, _ = modules()
    (N, K), rng = SCORES[shape], torch.Generator().manual_seed(0)
    Z, y = torch.randn(N, K, generator=rng) * 3, torch.randint(0, K, (N,), generator=rng)

    def run() -> object:
        leaf = Z.detach().requires_grad_()
        module.cross_entropy(leaf, y).backward()
        return leaf.grad

    return run


def losses_of(way: str) -> tuple[Callable[..., object], Callable[..., object]]:
    """Return the loss of scores and that of a linear layer, computed in one of the ways, before any compilation."""
    torch, functional, ours = modules()
    if way.startswith("softmax_ext"):
        return ours.cross_entropy, ours.linear_cross_entropy
    options = torch.nn.LinearCrossEntropyOptions() if way == "chunked" else None

    def linear(x: object, W: object, y: object) -> object:
        return functional.linear_cross_entropy(x, W, y, options=options)

    return functional.cross_entropy, linear


def linear_step(shape: str, way: str) -> Step:
    """Return a step of forward and backward of a linear layer with its loss."""
    torch, _, _ = modules()
    (N, D, K), rng = LINEAR[shape], torch.Generator().manual_seed(0)
    x, W = torch.randn(N, D, generator=rng), torch.randn(K, D, generator=rng) * 0.02
    y, loss = torch.randint(0, K, (N,), generator=rng), losses_of(way)[1]
    loss = torch.compile(loss) if way.endswith("compiled") else loss

    def run() -> object:
        leaves = x.detach().requires_grad_(), W.detach().requires_grad_()
        loss(*leaves, y).backward()
        return leaves

    return run


def training(model: str, way: str) -> tuple[Step, Step]:
    """Return a training step, from zero_grad to the optimiser's, and its last stage alone, forward and backward.

    "vocabulary" has 2048 rows of 512 features (drawn, as an encoder would give them), a layer of 512, a head over 32000
    classes, and AdamW. Its last stage is the head with its loss. "mlp256" and "mlp8192" are a network 784-256-10 on
    batches of so many of Fashion-MNIST's images, with Adam. Their last stage is the loss.
    """
    torch, _, _ = modules()
    torch.manual_seed(0)
    of_scores, of_linear = losses_of(way)
    if model == "vocabulary":
        x, y = torch.randn(2048, 512), torch.randint(0, 32_000, (2048,))
        body = torch.nn.Sequential(torch.nn.Linear(512, 512), torch.nn.GELU())
        head = torch.nn.Linear(512, 32_000, bias=False)
        optimizer = torch.optim.AdamW([*body.parameters(), *head.parameters()], lr=1e-4)
        parts = body(x).detach(), head.weight.detach().clone()

        def loss_of(x: object, y: object) -> object:
            return of_linear(body(x), head.weight, y)

        last_of = of_linear
    else:
        x, y = (torch.from_numpy(a) for a in fashion_mnist(int(model.removeprefix("mlp"))))
        body = torch.nn.Sequential(torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10))
        optimizer = torch.optim.Adam(body.parameters(), lr=1e-3)
        parts = (body(x).detach(),)

        def loss_of(x: object, y: object) -> object:
            return of_scores(body(x), y)

        last_of = of_scores
    if way.endswith("compiled"):
        loss_of, last_of = torch.compile(loss_of), torch.compile(last_of)

    def step() -> object:
        optimizer.zero_grad()
        loss = loss_of(x, y)
        loss.backward()
        optimizer.step()
        return loss

    def last() -> object:
        leaves = [part.detach().requires_grad_() for part in parts]
        last_of(*leaves, y).backward()
        return leaves

    return step, last


def fashion_mnist(N: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first N images, as numbers from 0 to 1, and their labels."""
    from softmax_ext._data import datasets

    try:
        data = datasets.fashion_mnist(0)
    except FileNotFoundError as error:
        raise NotImplementedError(str(error)) from None
    return np.ascontiguousarray(data.X_train[:N], np.float32), data.y_train[:N].astype(np.int64)


class Scores:
    """Forward and backward of scores, by PyTorch's module of functions and by ours."""

    params = (list(SCORES), ["softmax_ext", "torch"])
    param_names = ("shape", "module")
    repeat = (2, 5, 4.0)

    def setup(self, shape, module):
        _, functional, ours = modules()
        self.run = scores_step(shape, ours if module == "softmax_ext" else functional)

    def time_step(self, shape, module):
        self.run()


class OverTorch:
    """PyTorch's time divided by ours, measured in turns."""

    params = (list(SCORES),)
    param_names = ("shape",)
    unit = "times as fast"

    def track_ratio_of_scores(self, shape):
        _, functional, ours = modules()
        seconds = interleaved({m: scores_step(shape, m) for m in (functional, ours)}, rounds=5)
        return round(typical(seconds[functional]) / typical(seconds[ours]), 2)


class LinearLayer:
    """Forward and backward of a linear layer with its loss, in each way."""

    params = (list(LINEAR), WAYS)
    param_names = ("shape", "way")
    repeat = (1, 3, 10.0)
    timeout = 600

    def setup(self, shape, way):
        self.run = linear_step(shape, way)
        self.run()

    def time_step(self, shape, way):
        self.run()


class Training:
    """A whole training step, in each way."""

    params = (MODELS, WAYS)
    param_names = ("model", "way")
    repeat = (1, 5, 10.0)
    timeout = 600

    def setup(self, model, way):
        if way == "chunked" and model != "vocabulary":
            raise NotImplementedError("scores of ten classes are not cut")
        self.run, _ = training(model, way)
        self.run()

    def time_step(self, model, way):
        self.run()
