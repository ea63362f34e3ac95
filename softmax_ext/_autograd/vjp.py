"""Cross-entropy for automatic differentiation: the losses of rows, and their vector-Jacobian products (v.j.p.).

A v.j.p. multiplies the gradient of each row's loss by an upstream gradient, one number for each row. The gradient of a
row is its residual times its weight, and the kernels take weights of rows. So the upstream gradient is multiplied into
these weights, and costs nothing. Labels are checked here; callers have checked shapes and dtypes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.plan import plan
from .._core.run import run
from .._inputs.cross_entropy import Scores
from .._inputs.rows import Rows
from ..losses import _kernel, label_weights, weigh_losses
from ..reference import LinearCrossEntropy

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]


class Targets(NamedTuple):
    """The targets of rows of scores, and the weights of the rows and classes."""

    rows: int
    y: npt.NDArray[np.intp] | None  # labels, a copy that nobody else can change; None if targets are probabilities
    kept: npt.NDArray[np.bool_] | None  # which rows are not ignored; None if none is
    c: Array | None  # (K,), class weights, C-contiguous and of the computing dtype
    smoothing: float

    @property
    def spread(self) -> Array | None:
        """The class weights if targets spread over several classes; None if each row simply has its label's weight."""
        return self.c if self.y is None or self.smoothing > 0 else None

    def mean_over(self) -> float:
        """Return the mean's divisor: the sum of the labels' weights, or the number of rows that are not ignored."""
        return label_weights(self.y, self.kept, self.c, self.rows)[1]

    def weights(self, upstream: Doubles | float) -> tuple[Doubles | None, float]:
        """Return a factor for each row's residual, or None if all are 1, and a factor that all rows share."""
        s = None if self.spread is not None else label_weights(self.y, self.kept, self.c, self.rows)[0]
        scale = 1.0
        with np.errstate(all="ignore"):
            if isinstance(upstream, np.ndarray):
                s = upstream if s is None else upstream * s
            else:
                scale = upstream
            if self.kept is not None:  # an ignored row gets exactly 0: an infinite upstream gradient times 0 is NaN
                s = np.where(self.kept, scale if s is None else s * scale, 0.0)
                scale = 1.0
        return s, scale

    def weigh(self, losses: Doubles) -> None:
        """Multiply the rows' losses by their labels' weights, and set those of ignored rows to 0."""
        weigh_losses(losses, None if self.spread is not None else self.c, self.y, self.kept)


class Block(NamedTuple):
    """Some rows of scores, of the computing dtype."""

    rows: slice
    Z: Array
    axis: int  # along which the classes lie
    Y: Array | None  # probabilities of Z's shape, if these are the targets
    out: Array | None  # where the gradient is written, which may be Z itself; None for no gradient


def labels(target: Array, K: int, ignore_index: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_] | None]:
    """Return a checked copy of the labels, and which rows are not ignored (None if no label is ignored).

    Raises
    ------
    IndexError
        If a label is neither in 0..K-1 nor ignore_index. The message begins as PyTorch's does.
    """
    y = target.astype(np.intp, order="C").reshape(-1)
    unsigned = y.view(np.uintp)
    # Read as an unsigned number, a negative label is huge, so the maximum alone finds labels on either side of 0..K-1.
    # It is taken by argmax, which is faster than max on short arrays.
    if not y.size or (unsigned.item(unsigned.argmax()) < K and not 0 <= ignore_index < K):
        return y, None
    kept = y != ignore_index
    wrong = (unsigned >= K) & kept
    if wrong.any():
        i = np.unravel_index(int(wrong.argmax()), target.shape)
        place = ", ".join(map(str, i))
        raise IndexError(
            f"Target {target[i]} is out of bounds.{f' It is target[{place}]:' if place else ''} labels must be in "
            f"0..{K - 1}, or ignore_index = {ignore_index}"
        )
    y[~kept] = 0
    return y, kept


def of_scores(
    blocks: Iterable[Block], targets: Targets, upstream: Doubles | float, losses: Doubles | None, threads: int
) -> None:
    """Write the rows' losses if `losses` is given, and each block's gradient if the block has an `out`."""
    s, scale = targets.weights(upstream)
    room = np.empty(targets.rows) if losses is None else losses  # the kernels write losses in any case
    for block in blocks:
        given = Scores(
            block.Z,
            block.Z.dtype,
            block.axis,
            _part(targets.y, block.rows),
            block.Y,
            None,
            targets.c,
            targets.smoothing,
        )
        _kernel(given, targets.spread, _part(s, block.rows), scale, room[block.rows], block.out, threads)
    if losses is not None:
        targets.weigh(losses)


def of_linear(
    X: Array,
    W: Array,
    b: Array | None,
    Y: Array | None,
    targets: Targets,
    upstream: Doubles | float,
    *,
    losses: Doubles | None,
    grad: bool,
    grad_input: bool,
    threads: int,
) -> LinearCrossEntropy:
    """Write the rows' losses if `losses` is given, and return the requested gradients.

    X (N, D), W (K, D) and b (K,) have the computing dtype, and W and b are C-contiguous; Y is (N, K).
    """
    assert dispatch.kernels is not None
    (N, D), K, dtype = X.shape, W.shape[0], X.dtype
    s, scale = targets.weights(upstream)
    dW = np.empty((K, D), dtype) if grad else None
    db = np.empty(K, dtype) if grad and b is not None else None
    dX = np.empty((N, D), dtype) if grad_input else None
    pairs = np.empty((N, 2))
    with np.errstate(all="ignore"):
        m = float(np.float64(1) / scale)
    way = plan(N, D, K, dtype.itemsize, dispatch.isa, copied=grad_input)
    asked = dispatch.kernels.LossGrad(W, b, dW, db, m, targets.smoothing, weight=targets.spread, dX=dX, losses=pairs)
    run(asked, way, Rows(X, targets.y, Y, s), threads)
    if losses is not None:
        losses[:] = pairs[:, 0]
        targets.weigh(losses)
    return LinearCrossEntropy(None, dW, db, dX)


def _part(x: Array | None, rows: slice) -> Array | None:
    return None if x is None else x[rows]
