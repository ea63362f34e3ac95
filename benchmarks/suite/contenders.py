"""The same loss and gradient by other packages, each as its users write it.

Every function takes X, y and W, does what needs to be done only once, and returns a function without arguments that
does the rest. If its package is not installed, it raises NotImplementedError, by which asv skips the benchmark.
"""

from collections.abc import Callable

import numpy as np

from softmax_ext import reference

Pass = Callable[[], object]


def numpy(X: np.ndarray, y: np.ndarray, W: np.ndarray) -> Pass:
    """Return the pass in NumPy's vector form, in the data's own dtype, with all scores at once."""
    i = np.arange(len(y))

    def run() -> tuple[float, np.ndarray]:
        Z = X @ W.T
        Z -= Z.max(axis=1, keepdims=True)
        S = np.exp(Z)
        S /= S.sum(axis=1, keepdims=True)
        J = -np.log(S[i, y]).mean()
        S[i, y] -= 1
        return J, S.T @ X / len(X)

    return run


def numpy_float64(X: np.ndarray, y: np.ndarray, W: np.ndarray) -> Pass:
    """Return the pass by softmax_ext's specification, `reference.loss_grad`."""
    if len(X) * len(W) > 3 * 10**7:
        raise NotImplementedError("it would hold gigabytes of scores")
    return lambda: reference.loss_grad(X, y, W)


def sklearn(X: np.ndarray, y: np.ndarray, W: np.ndarray) -> Pass:
    """Return the pass that LogisticRegression minimises by, on one thread as in its fit; its class is private."""
    try:
        from sklearn._loss import HalfMultinomialLoss
        from sklearn.linear_model._linear_loss import LinearModelLoss
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    objective = LinearModelLoss(base_loss=HalfMultinomialLoss(n_classes=len(W)), fit_intercept=False)
    labels, coef = y.astype(X.dtype), np.asfortranarray(W)
    return lambda: objective.loss_gradient(coef, X, labels, n_threads=1)


def torch(X: np.ndarray, y: np.ndarray, W: np.ndarray) -> Pass:
    from_numpy, F = _torch()
    samples, labels = from_numpy(X), from_numpy(y)

    def run() -> tuple[float, object]:
        weight = from_numpy(W).requires_grad_()
        loss = F.cross_entropy(F.linear(samples, weight), labels)
        loss.backward()
        return loss.item(), weight.grad

    return run


def torch_chunked(X: np.ndarray, y: np.ndarray, W: np.ndarray) -> Pass:
    """Return the pass by PyTorch's own fused layer, which takes the rows in chunks."""
    from_numpy, F = _torch()
    try:
        from torch.nn import LinearCrossEntropyOptions
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    samples, labels, options = from_numpy(X), from_numpy(y), LinearCrossEntropyOptions()

    def run() -> tuple[float, object]:
        weight = from_numpy(W).requires_grad_()
        loss = F.linear_cross_entropy(samples, weight, labels, options=options)
        loss.backward()
        return loss.item(), weight.grad

    return run


def _torch():
    try:
        import torch
    except ImportError as error:
        raise NotImplementedError(str(error)) from None
    return torch.from_numpy, torch.nn.functional


CONTENDERS = {each.__name__: each for each in (numpy, numpy_float64, sklearn, torch, torch_chunked)}
