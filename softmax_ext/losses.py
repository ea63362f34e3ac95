"""The cross-entropy of scores that the caller has, with the semantics of `torch.nn.functional.cross_entropy`."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import reference
from ._core import dispatch, workspace
from ._core import threads as _threads
from ._inputs.arrays import check_result
from ._inputs.cross_entropy import Scores, check_scores
from ._inputs.tensors import is_tensor, on_arrays

__all__ = ["CrossEntropyGrad", "cross_entropy", "cross_entropy_grad"]

Array = npt.NDArray[Any]


class CrossEntropyGrad(NamedTuple):
    """The loss and its gradient with respect to the scores."""

    loss: Any  # float, or an array of labels' shape with reduction="none"
    dlogits: Array  # of the scores' shape


def cross_entropy(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    n_threads: int | None = None,
) -> Any:
    """Return the cross-entropy of scores, as `torch.nn.functional.cross_entropy` does.

    A row is the K scores z of one sample, or of one position in a sample, such as a pixel. With log S = log_softmax(z),
    class weights w and label smoothing ε, its loss is ``-Σ_k w_k T_k log S_k``, where T = (1 - ε) Y + ε / K, and Y is
    the row's target: probabilities, or 1 at its label and 0 elsewhere.

    Parameters
    ----------
    logits : array_like, shape (K,), (N, K) or (N, K, d1, ...)
        Scores, of any real dtype: float32 and float16 are computed in float32, all others in float64. The classes lie
        along axis 1, or along axis 0 if there is no other.
    target : array_like
        Labels in 0..K-1 of an integer dtype, with the shape of logits without the axis of the classes; or probabilities
        of a floating dtype, with the shape of logits, whose values are not checked.
    weight : array_like, shape (K,), optional
        Weights of the classes; 1 by default.
    ignore_index : int, default -100
        Rows with this label are ignored. With probabilities it must be negative.
    reduction : "mean", "sum" or "none"
        The mean with labels is Σ loss / Σ w_label over the rows that are not ignored; with probabilities it is Σ loss
        over the number of rows.
    label_smoothing : float in [0, 1]
        The ε above.
    n_threads : int, optional
        As in `loss_grad`. Every number of threads gives the same bits.

    Returns
    -------
    float or ndarray
        The mean or the sum; with ``reduction="none"`` an array of the rows' losses, of labels' shape and the dtype of
        the computation, with 0 for ignored rows. The mean over no rows, or over weights that sum to 0, is NaN.

    Raises
    ------
    ValueError, TypeError
        If a shape, a label, a dtype or an option is wrong; the message names it.

    Examples
    --------
    >>> import numpy as np
    >>> Z = np.log([[1.0, 3.0], [2.0, 2.0], [9.0, 1.0]])
    >>> round(cross_entropy(Z, np.array([1, 0, -100])), 6)  # -(log 3/4 + log 1/2) / 2
    0.490415
    """
    return _run(
        logits,
        target,
        weight,
        ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        out=None,
        n_threads=n_threads,
        grad=False,
    ).loss


def cross_entropy_grad(
    logits: npt.ArrayLike,
    target: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    out: Array | None = None,
    n_threads: int | None = None,
) -> CrossEntropyGrad:
    """Return the cross-entropy of scores and its gradient; scores are read once, and the gradient is written once.

    The derivative of one row's loss by its score z_k is S_k Σ_j w_j T_j - w_k T_k, in the letters of `cross_entropy`.

    Parameters
    ----------
    logits, target, weight, ignore_index, reduction, label_smoothing, n_threads
        As in `cross_entropy`. With ``reduction="none"`` the gradient is that of the sum.
    out : ndarray of logits' shape and the dtype of the computation, optional
        Where to put the gradient; may be `logits` itself.

    Returns
    -------
    CrossEntropyGrad
        Named tuple of loss, as from `cross_entropy`, and dlogits, an array of logits' shape and the dtype of the
        computation, which is `out` itself if given. The gradient of ignored rows is 0.

    Raises
    ------
    ValueError, TypeError
        As in `cross_entropy`; also if `out` has another shape or dtype, is not writeable, or overlaps `target` or
        `weight`.

    Examples
    --------
    >>> import numpy as np
    >>> loss, dlogits = cross_entropy_grad(np.log([[1.0, 3.0], [2.0, 2.0]]), np.array([1, 0]))
    >>> dlogits
    array([[ 0.125, -0.125],
           [-0.25 ,  0.25 ]])
    """
    return _run(
        logits,
        target,
        weight,
        ignore_index,
        reduction=reduction,
        label_smoothing=label_smoothing,
        out=out,
        n_threads=n_threads,
        grad=True,
    )


def _run(
    logits: Any,
    target: Any,
    weight: Any,
    ignore_index: Any,
    *,
    reduction: Any,
    label_smoothing: Any,
    out: Any,
    n_threads: Any,
    grad: bool,
) -> CrossEntropyGrad:
    """Return the loss and, if `grad`, the gradient; the other arguments are those of `cross_entropy_grad`."""
    if type(logits) is not np.ndarray and is_tensor(logits):
        return on_arrays(
            _run,
            logits,
            target,
            weight,
            ignore_index,
            reduction=reduction,
            label_smoothing=label_smoothing,
            out=out,
            n_threads=n_threads,
            grad=grad,
        )
    threads = _threads.effective(n_threads)
    given = check_scores(logits, target, weight, ignore_index, label_smoothing, reduction)
    Z, dtype, axis, y, Y, kept, c, smoothing = given
    dlogits = _destination(given, out) if grad else None
    s, scale, m = _row_weights(given, reduction)
    # If a row's target is a single class, that class's weight is a weight of the row. Otherwise `spread` has the
    # weights of the terms.
    spread = c if c is not None and (Y is not None or smoothing > 0) else None
    losses = np.empty(Z.size // Z.shape[axis])  # doubles, which NumPy's sum adds in pairs for accuracy
    if losses.size:
        if dispatch.kernels is None:
            exact, R = reference.cross_entropy(given, spread)
            losses[:] = exact
            if dlogits is not None:
                weights = scale if s is None else np.expand_dims(s.reshape(np.delete(Z.shape, axis)), axis)
                with np.errstate(all="ignore"):
                    dlogits[...] = R * weights
        else:
            _kernel(given, spread, s, scale, losses, dlogits, threads)
    weigh_losses(losses, None if spread is not None else c, y, kept)
    return CrossEntropyGrad(
        reduce_losses(losses, m, reduction, dtype, tuple(np.delete(Z.shape, axis))),
        dlogits if out is None else out,  # type: ignore[arg-type]
    )


def weigh_losses(losses: npt.NDArray[np.float64], c: Array | None, y: Array | None, kept: Array | None) -> None:
    """Multiply the rows' losses by their labels' weights, if there are any, and set those of ignored rows to 0."""
    with np.errstate(all="ignore"):
        if c is not None:
            losses *= c.astype(np.float64)[y]
        if kept is not None:
            losses[~kept] = 0


def reduce_losses(
    losses: npt.NDArray[np.float64], m: float, reduction: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Any:
    """Return what `reduction` asks for: the rows' losses in this shape and dtype, their sum, or the sum over m."""
    with np.errstate(all="ignore"):
        if reduction == "none":
            return losses.astype(dtype).reshape(shape)
        return float(losses.sum() / np.float64(m)) if reduction == "mean" else float(losses.sum())


def _destination(given: Scores, out: Any) -> Array:
    """Return the array for the gradient: `out`, or else a new one in the layout of the logits."""
    if out is None:
        return np.empty_like(given.Z, given.dtype, subok=False)
    result = check_result(out, given.Z.shape, given.dtype)
    for name, array in {"target": given.Y, "weight": given.c}.items():
        if array is not None and np.may_share_memory(result, array):
            raise ValueError(f"out overlaps {name}, which is read while out is written: pass an array of its own")
    return result


def _row_weights(given: Scores, reduction: str) -> tuple[npt.NDArray[np.float64] | None, float, float]:
    """Return (s, scale, m): a factor for each row's residual, one factor for all rows, and what the mean divides by.

    s is None if all rows have the factor `scale`; else `scale` is 1.
    """
    rows = given.Z.size // given.Z.shape[given.axis]
    w, m = label_weights(given.y, given.kept, given.c, rows)
    with np.errstate(all="ignore"):
        scale = float(1 / np.float64(m)) if reduction == "mean" else 1.0
        if w is None and given.kept is None:
            return None, scale, m
        s = np.full(rows, scale) if w is None or given.smoothing > 0 else w * scale
    if given.kept is not None:
        s[~given.kept] = 0
    return s, 1.0, m


def label_weights(
    y: Array | None, kept: Array | None, c: Array | None, rows: int
) -> tuple[npt.NDArray[np.float64] | None, float]:
    """Return the class weight of each row's label, and the sum of these weights, by which the mean is divided.

    Without class weights, and for probabilities, which have no label, these are None and the number of rows that count.
    """
    if c is None or y is None:
        return None, float(rows if kept is None else np.count_nonzero(kept))
    w = c.astype(np.float64)[y]
    if kept is not None:
        w[~kept] = 0
    return w, float(w.sum())


def _kernel(
    given: Scores,
    spread: Array | None,
    s: npt.NDArray[np.float64] | None,
    scale: float,
    losses: npt.NDArray[np.float64],
    dlogits: Array | None,
    threads: int,
) -> None:
    """Run the kernel on the scores in place, or on a copy if it cannot read their dtype or layout."""
    assert dispatch.kernels is not None
    run = dispatch.kernels.cross_entropy
    Z, dtype, axis, y, Y, _, _, smoothing = given
    asked = dispatch.kernels.LogitLoss(y, s, spread, smoothing, scale, losses)
    space = workspace.take(threads * dispatch.kernels.logits_space(Z.shape[axis], dtype.itemsize), dtype, 0)
    try:
        native = Z.dtype == dtype and Z.flags.aligned
        if dlogits is not None and np.may_share_memory(Z, dlogits):
            native = native and Z.__array_interface__ == dlogits.__array_interface__
        if native and run(asked, Z, Y, axis, space.work, dlogits, threads):
            return
        copy = np.empty(Z.shape, dtype)
        with np.errstate(all="ignore"):
            np.copyto(copy, Z)
        Y = None if Y is None else np.ascontiguousarray(Y)
        run(asked, copy, Y, axis, space.work, None if dlogits is None else copy, threads)
        if dlogits is not None:
            np.copyto(dlogits, copy)
    finally:
        workspace.give(space)
