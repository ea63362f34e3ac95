"""Checks of the arguments of `cross_entropy` and `linear_cross_entropy`, which are those of PyTorch."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import as_array, check_real, entry, not_real, wrong_ndim
from .dtypes import COMPUTES_IN, LOGITS_COMPUTE_IN, cast, contiguous, is_real
from .scalars import check_nonnegative_number, check_smoothing, real_number
from .validation import check_parameters

Array = npt.NDArray[Any]


class Scores(NamedTuple):
    """The checked arguments of `cross_entropy`; exactly one of y and Y is not None."""

    Z: Array  # the caller's scores, of any real dtype and layout
    dtype: np.dtype[Any]  # the dtype of the computation, float32 or float64
    axis: int  # the axis of Z along which the classes lie
    y: npt.NDArray[np.intp] | None  # labels, one for each row of scores in C order, copied; 0 for ignored rows
    Y: Array | None  # probabilities, of `dtype` and Z's shape
    kept: npt.NDArray[np.bool_] | None  # whether each row counts, False for ignored ones; None if all rows count
    c: Array | None  # class weights (K,), C-contiguous, of `dtype`
    smoothing: float  # label smoothing


class Linear(NamedTuple):
    """The checked arguments of `linear_cross_entropy`; fields without a comment are those of `Inputs` and `Scores`."""

    X: Array  # (N, D)
    dtype: np.dtype[Any]
    W: Array
    b: Array | None
    y: npt.NDArray[np.intp] | None  # (N,)
    Y: Array | None  # the caller's probabilities (N, K), of any floating dtype and layout
    kept: npt.NDArray[np.bool_] | None
    c: Array | None
    smoothing: float
    z_loss: float
    cap: float  # the cap of the scores, 0 for none
    shape: tuple[int, ...]  # the shape of `input` without its last axis, which became the N rows


def check_scores(
    logits: object,
    target: object,
    weight: object,
    ignore_index: object,
    label_smoothing: object,
    reduction: object,
) -> Scores:
    """Return the checked arguments of `cross_entropy`; weights and probabilities may be any numbers, as in PyTorch."""
    Z = logits if type(logits) is np.ndarray else as_array(logits, "logits")
    if Z.dtype.char not in LOGITS_COMPUTE_IN:
        raise not_real(Z, "logits")
    if Z.ndim == 0:
        raise TypeError(f"logits must be an array, (K,), (N, K) or (N, K, d1, ...), got a scalar: {Z[()]!r}")
    dtype, axis = LOGITS_COMPUTE_IN[Z.dtype.char], min(Z.ndim - 1, 1)
    if Z.shape[axis] == 0:
        raise ValueError(f"logits have no classes: shape {Z.shape} has length 0 along axis {axis}")
    labels, Y, kept, c, smoothing = _check_entropy(
        target,
        "logits",
        Z.shape,
        axis,
        dtype,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    if Y is not None and not (Y.dtype == dtype and Y.flags.aligned):
        Y = cast(Y, dtype)
    return Scores(Z, dtype, axis, labels, Y, kept, c, smoothing)


def check_linear(
    input: object,
    linear_weight: object,
    target: object,
    *,
    linear_bias: object,
    weight: object,
    reduction: object,
    ignore_index: object,
    label_smoothing: object,
    z_loss: object,
    softcap: object,
) -> Linear:
    """Return the checked arguments of `linear_cross_entropy`."""
    X = input if type(input) is np.ndarray else as_array(input, "input")
    if not is_real(X.dtype):
        raise not_real(X, "input")
    if X.ndim == 0:
        raise wrong_ndim(X, "input", 1)
    dtype, D = COMPUTES_IN[X.dtype.char], X.shape[-1]
    if D == 0:
        raise ValueError(f"input has no features, shape {X.shape}: at least one is required")
    W, b = check_parameters(linear_weight, linear_bias, D, dtype, "linear_weight", "linear_bias", "input")
    K, rows = W.shape[0], X.shape[:-1]
    labels, Y, kept, c, smoothing = _check_entropy(
        target,
        "the scores",
        (*rows, K),
        len(rows),
        dtype,
        weight=weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction=reduction,
    )
    cap = 0.0 if softcap is None else real_number(softcap, "softcap")
    with np.errstate(all="ignore"):
        if softcap is not None and not 0 < dtype.type(cap) < np.inf:
            raise ValueError(f"softcap must be positive and finite in {dtype}, or None, got {softcap!r}")
    Y = None if Y is None else Y.reshape(-1, K)
    z_loss = check_nonnegative_number(z_loss, "z_loss")
    return Linear(
        X=X.reshape(-1, D),
        dtype=dtype,
        W=W,
        b=b,
        y=labels,
        Y=Y,
        kept=kept,
        c=c,
        smoothing=smoothing,
        z_loss=z_loss,
        cap=cap,
        shape=rows,
    )


def _check_entropy(
    target: object,
    scores: str,
    shape: tuple[int, ...],
    axis: int,
    dtype: np.dtype[Any],
    *,
    weight: object,
    ignore_index: object,
    label_smoothing: object,
    reduction: object,
) -> tuple[npt.NDArray[np.intp] | None, Array | None, npt.NDArray[np.bool_] | None, Array | None, float]:
    """Return the last five fields of `Scores`: y, Y, kept, c and smoothing; Y as it is given, of any floating dtype.

    `shape` is that of the scores, which errors call `scores`.
    """
    K = shape[axis]
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    smoothing, c = check_smoothing(label_smoothing), None
    if weight is not None:
        c = check_real(weight, "weight", 1)
        if c.shape[0] != K:
            raise ValueError(f"weight has {c.shape[0]} entries, but {scores} have {K} classes along axis {axis}")
        c = contiguous(c, dtype)
    if isinstance(ignore_index, (bool, np.bool)) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    given, rows = (
        target if type(target) is np.ndarray else as_array(target, "target"),
        shape[:axis] + shape[axis + 1 :],
    )
    if given.shape == shape:
        if given.dtype.kind != "f":
            raise TypeError(
                f"target has {scores}' shape {shape}, so it must hold probabilities of a floating dtype, got "
                f"{given.dtype}: labels have shape {rows}"
            )
        if ignore_index >= 0:
            raise ValueError(f"ignore_index = {ignore_index} needs integer labels, but target holds probabilities")
        return None, given, None, c, smoothing
    labels, kept = _check_targets(given, rows, scores, K, int(ignore_index))
    return labels, None, kept, c, smoothing


def _check_targets(
    target: Array, shape: tuple[int, ...], scores: str, K: int, ignore_index: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.bool_] | None]:
    """Return a copy of the labels as intp, 0 for ignored rows, and which rows count; None if all do."""
    if target.shape != shape:
        raise ValueError(
            f"target must be labels of shape {shape} or probabilities of {scores}' shape, got shape {target.shape}"
        )
    if target.dtype.kind not in "iu":
        raise TypeError(
            f"target must hold integer labels, or probabilities of {scores}' shape, got dtype {target.dtype}"
        )
    labels = target.astype(np.int64, order="C").reshape(-1)
    unsigned = labels.view(np.uint64)
    if not labels.size or (unsigned.item(unsigned.argmax()) < K and not 0 <= ignore_index < K):
        return labels.astype(np.intp, copy=False), None
    kept = labels != ignore_index
    wrong = (unsigned >= K) & kept
    if wrong.any():
        i = np.unravel_index(int(wrong.argmax()), shape)
        raise ValueError(
            f"{entry('target', i)} = {target[i]} is out of range: labels must be in 0..{K - 1}, or ignore_index"
        )
    if kept.all():
        return labels.astype(np.intp, copy=False), None
    labels[~kept] = 0
    return labels.astype(np.intp, copy=False), kept
