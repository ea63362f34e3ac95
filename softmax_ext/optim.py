"""First-order optimisers for mini-batches, with `fit`, which trains by them; and `lbfgs`, `newton` and `proximal`.

The last three minimise an objective over all samples at a time; the modules of their names in `_optim` hold them. The
other optimisers, and those that you write, are pairs of functions with optax's signatures::

    state = optimizer.init(params)
    state = optimizer.update(grads, state, params)

`params` and `grads` are tuples or lists of arrays, such as ``(W, b)`` and ``(dW, db)``. Unlike in optax, where a
compiler reuses memory, `update` writes into `params` and into the state's arrays. An optimiser remembers nothing else,
so a run continues with the same bits from a copied state (`copy.deepcopy`) and copied parameters.

The definitions are those of optax and PyTorch, with the letters of the papers: g is the gradient, α the learning rate,
t the number of the step.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._inputs.rows import Rows
from ._inputs.scalars import check_integer
from ._inputs.validation import Inputs, check_block, check_offset, check_problem, count_classes
from ._objective.penalty import Penalty
from ._optim.batches import batches, step
from ._optim.descent import Solution, takes
from ._optim.lbfgs import lbfgs
from ._optim.newton import newton
from ._optim.optimizers import (
    AdamState,
    AveragedState,
    MomentumState,
    Optimizer,
    SGDState,
    adam,
    averaged,
    check_optimizer,
    momentum,
    nesterov,
    sgd,
)
from ._optim.proximal import proximal
from ._optim.schedules import constant, cosine_decay, exponential_decay, inverse_time_decay
from .functional import loss_grad

__all__ = [
    "AdamState", "AveragedState", "FitResult", "MomentumState", "Optimizer", "Penalty", "SGDState", "Solution", "adam",
    "averaged", "constant", "cosine_decay", "exponential_decay", "fit", "inverse_time_decay", "lbfgs", "momentum",
    "nesterov", "newton", "proximal", "sgd",
]  # fmt: skip

Array = NDArray[np.floating[Any]]


class FitResult(NamedTuple):
    """What `fit` returns: weights W (K, D), intercept b (K,) or None, and the mean loss of each epoch (epochs,)."""

    W: Array
    b: Array | None
    history: NDArray[np.float64]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    optimizer: Optimizer[Any],
    *,
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    K: int | None = None,
    epochs: int,
    batch_size: int,
    l2: float = 0.0,
    sample_weight: ArrayLike | None = None,
    class_weight: ArrayLike | dict[int, float] | str | None = None,
    label_smoothing: float = 0.0,
    random_state: int | np.random.Generator | None = None,
    callback: Callable[..., object] | None = None,
    offset: ArrayLike | None = None,
    n_threads: int | None = None,
) -> FitResult:
    r"""Train a softmax classifier on shuffled mini-batches.

    Minimises :math:`J(W, b) + \tfrac{1}{2}\, l_2 \sum_{kd} W_{kd}^2` with J as in `loss_grad`. A batch B out of N rows
    contributes the gradient of :math:`\frac{N}{m |B|} \sum_{i \in B} s_i J_i`, whose mean over batches is the gradient
    of J however the weights s are spread. Rows of weight zero are left out and not counted in N.

    Parameters
    ----------
    X : array (N, D)
        Samples. Their dtype decides the dtype of the computation, as in `loss_grad`.
    y : integers (N,) or probabilities (N, K)
        Targets.
    optimizer : Optimizer
        ``sgd(0.1)``, ``adam()`` or another, or any pair of functions with the same signatures.
    W : array (K, D), optional
        Where to start; copied. Zeros if not given.
    b : array (K,), optional
        Where the intercept starts; copied. Zeros if neither `W` nor `b` is given; with `W` alone there is no intercept.
    K : int, optional
        Number of classes, if neither `W` nor an (N, K) `y` tells it. If not given, the largest label plus one, which
        must not exceed N.
    epochs : int
        How many times every row is used.
    batch_size : int
        Rows per step; the last batch of an epoch may be smaller. If it is N or more, each step takes all rows, without
        a shuffle.
    l2 : float >= 0
        Penalty on W, in units of the mean loss: scikit-learn's 1 / (C m). The intercept is not penalised.
    sample_weight : array (N,), optional
        Weights s_i >= 0.
    class_weight : array (K,), dict or "balanced", optional
        Multiplies `sample_weight`, as in `loss_grad`; "balanced" counts all of `y`, not each batch.
    label_smoothing : float in [0, 1]
        As in `loss_grad`.
    random_state : int, numpy.random.Generator or None
        The generator of the shuffles, or a seed from which `numpy.random.default_rng` makes one. With the same number
        two runs give the same bits.
    callback : callable, optional
        Called as ``callback(epoch, loss)`` after each epoch, counted from 0. If it has a parameter ``params``, it also
        gets the tuple ``(W, b)`` or ``(W,)`` by that name; it has to copy arrays that it keeps, since training changes
        them. Training stops when it returns True.
    offset : array (N, K), or (N,) for two classes, optional
        Added to the scores of its rows, as in `loss_grad`.
    n_threads : int, optional
        As in `loss_grad`. Every number of threads gives the same bits.

    Returns
    -------
    FitResult
        ``W`` and ``b`` in the dtype of the computation, and ``history``: for each epoch the mean loss without the
        penalty, where each batch's loss is the one before its step.

    Raises
    ------
    FloatingPointError
        As soon as a loss or a parameter is not finite.
    ValueError, TypeError
        As in `loss_grad`; also if `epochs` or `batch_size` is not a positive integer, or `l2` is negative or not
        finite.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([0, 0, 1, 1])
    >>> result = optim.fit(X, y, optim.nesterov(0.5), epochs=100, batch_size=2, random_state=0)
    >>> (X @ result.W.T + result.b).argmax(axis=1)
    array([0, 0, 1, 1])
    """
    check_optimizer(optimizer)
    epochs, batch_size = check_integer(epochs, "epochs"), check_integer(batch_size, "batch_size")
    penalty = Penalty(l2)
    inputs, W, b = _start(X, y, W, b, K, (sample_weight, class_weight, label_smoothing))
    added = check_offset(offset, inputs.X.shape[0], len(W))
    rows = Rows(inputs.X, inputs.y, inputs.Y, inputs.s, offset=added)
    params = (W,) if b is None else (W, b)
    state = optimizer.init(params)
    rng = np.random.default_rng(random_state)
    history: list[float] = []
    seen = {"params": params} if callback is not None and takes(callback, "params") else {}

    def evaluate(batch: Rows, weight: float) -> tuple[float, tuple[Array, ...]]:
        """Return the mean loss of a batch, and its gradient times `weight`, plus the penalty's gradient.

        `weight` is the mean weight of the batch's rows, over that of all rows.
        """
        loss, dW, db = loss_grad(
            batch.X,
            batch.targets,
            W,
            b,
            sample_weight=batch.s,
            label_smoothing=inputs.smoothing,
            offset=batch.offset,
            n_threads=n_threads,
        )
        _require(math.isfinite(loss), f"the loss is {loss}", epoch)
        grads = (dW,) if db is None else (dW, db)
        if weight != 1:
            for g in grads:
                g *= weight
        penalty.add_gradient(W, dW)
        return loss, grads

    for epoch in range(epochs):
        mean_loss, counted = 0.0, rows.weighing()
        if whole := batch_size >= len(counted):
            order = None
        else:
            rng.shuffle(counted)
            order = counted
        for batch in batches(rows, order, batch_size):
            fraction = 1.0 if whole else len(batch) / len(counted)
            share = fraction if batch.s is None else batch.total / inputs.m
            loss, state = step(optimizer.update, state, params, partial(evaluate, batch, share / fraction))
            mean_loss += share * loss
        _require(all(np.isfinite(theta).all() for theta in params), "a parameter is not finite", epoch)
        history.append(mean_loss)
        if callback is not None and callback(epoch, mean_loss, **seen):
            break
    return FitResult(W, b, np.array(history))


def _start(
    X: ArrayLike,
    y: ArrayLike,
    W: ArrayLike | None,
    b: ArrayLike | None,
    K: int | None,
    weighting: tuple[object, object, object],
) -> tuple[Inputs, Array, Array | None]:
    """Return the checked data, and copies of the parameters to start from.

    All data are checked here, before they are cut into batches, so that errors name the caller's indices.
    """
    if K is not None:
        K = check_integer(K, "K")
    if W is None:
        rows = count_classes(y) if K is None else K
        W = np.zeros((rows, np.shape(X)[1] if np.ndim(X) == 2 else 1))
        b = np.zeros(rows) if b is None else b
    inputs = check_problem(X, y, W, b, *weighting)
    if inputs.Y is not None:
        check_block(inputs.Y, 0)
    if K not in (None, len(inputs.W)):
        raise ValueError(f"K is {K}, but W has {len(inputs.W)} rows: leave K out")
    return inputs, inputs.W.copy(), None if inputs.b is None else inputs.b.copy()


def _require(fine: bool, trouble: str, epoch: int) -> None:
    """Raise FloatingPointError unless training is fine."""
    if not fine:
        raise FloatingPointError(
            f"{trouble} in epoch {epoch}: lower the learning rate, scale the columns of X alike, "
            "or look for values in X, W and b that are not finite"
        )
