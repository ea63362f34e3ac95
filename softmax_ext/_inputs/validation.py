"""Checks of samples, targets and parameters: public functions pass theirs through here, and the kernels trust them.

An error names the argument, the wrong value with its index, and what to do instead. No argument is modified. NaN and
infinity are allowed in X, W and b (see `reference`), and are errors in targets and weights. X of float32, float16,
bfloat16, int8 or uint8 is computed in float32, X of every other real dtype in float64. W and b are cast to the dtype of
the computation, so a value beyond its range becomes infinite.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .arrays import SHAPES, as_array, check_nonnegative, check_out, check_real, not_real
from .csr import CSR, check_csr, is_sparse
from .dtypes import COMPUTES_IN, I8, INDEX, U8, contiguous, is_real
from .scalars import check_smoothing
from .weights import check_weights

Array = npt.NDArray[Any]

# Labels that are copied to memory of the caller's are checked so many at a time, while they are in the cache.
TOGETHER = 2**15


class Inputs(NamedTuple):
    """The checked arguments of `loss_grad`; exactly one of y and Y is not None."""

    # (N, D): the caller's array, of any real dtype, layout, byte order and alignment, which `native` converts; or CSR
    X: Array | CSR
    dtype: np.dtype[Any]  # the dtype of the computation, float32 or float64
    y: npt.NDArray[np.intp] | None  # (N,) labels in 0..K-1, copied so that nobody can change one after the check
    Y: Array | None  # (N, K): the caller's probabilities, as X; `check_block` has yet to check their values
    W: Array  # (K, D), C-contiguous, aligned, native, of `dtype`
    b: Array | None  # (K,), as W
    s: npt.NDArray[np.float64] | None  # (N,), C-contiguous: sample weights times class weights
    m: float  # Σ s, or N without weights
    smoothing: float  # label smoothing


class Scoring(NamedTuple):
    """The checked arguments of `predict_proba`; X, dtype, W and b are as in `Inputs`."""

    X: Array | CSR
    dtype: np.dtype[Any]
    W: Array
    b: Array | None
    out: Array | None  # (N, K), C-contiguous, aligned, native, writeable, of `dtype`, sharing no memory with the inputs


def check_problem(
    X: object,
    y: object,
    W: object,
    b: object,
    sample_weight: object,
    class_weight: object,
    label_smoothing: object,
) -> Inputs:
    """Return the checked arguments of `loss_grad`; `check_block` has yet to check the values of probabilities."""
    X, dtype, W, b = _check_scores(X, W, b)
    N, K = X.shape[0], W.shape[0]
    labels = Y = s = None
    if type(y) is not np.ndarray:
        y = as_array(y, "y")
    if y.ndim == 2:
        Y = _check_probabilities(y, N, K)
    else:
        labels = check_labels(y, N, K)
    m = float(N)
    if sample_weight is not None or class_weight is not None:
        s, m = check_weights(sample_weight, class_weight, labels, N, K)
    # `Inputs` would call a Python function, which a small call notices; see "Around a small call" in docs/notes.md.
    return tuple.__new__(Inputs, (X, dtype, labels, Y, W, b, s, m, check_smoothing(label_smoothing)))


def check_scoring(X: object, W: object, b: object, out: object) -> Scoring:
    """Return the checked arguments of `predict_proba`."""
    X, dtype, W, b = _check_scores(X, W, b)
    if out is not None:
        out = check_out(out, (X.shape[0], W.shape[0]), dtype, {"X": X, "W": W, "b": b})
    return Scoring(X, dtype, W, b, out)


def check_offset(offset: object, N: int, K: int) -> Array | None:
    """Return the offset of the scores, (N, K), or (N, 1) for class 1 of two; NaN and infinity are allowed.

    An offset that it returned is accepted again, so that the offsets of `Rows` can be passed as a caller's are.
    """
    if offset is None:
        return None
    array = offset if type(offset) is np.ndarray else as_array(offset, "offset")
    if not is_real(array.dtype):
        raise not_real(array, "offset")
    if K == 2 and array.shape in ((N,), (N, 1)):
        return array if array.ndim == 2 else array[:, np.newaxis]
    if array.shape != (N, K):
        two = f", or ({N},) of class 1" if K == 2 else ""
        raise ValueError(f"offset must be (N, K) = {(N, K)}{two}, got shape {array.shape}")
    return array


def check_offset_of_class_1(offset: object, N: int) -> Array | None:
    """Return the offset of class 1's score less that of class 0's, (N, 1)."""
    found = check_offset(offset, N, 2)
    if found is None or found.shape[1] == 1:
        return found
    with np.errstate(invalid="ignore"):
        difference: Array = found[:, 1:].astype(np.float64) - found[:, :1]
    return difference


def check_block(Y: Array, start: int) -> None:
    """Raise ValueError if a probability in these rows is negative or not finite; the first row's number is `start`."""
    check_nonnegative(Y, "y", start)


def count_classes(y: npt.ArrayLike) -> int:
    """Return the number of classes K that `y` implies; it is not checked any further."""
    y = np.asarray(y)
    if y.ndim == 2:
        return max(int(y.shape[1]), 1)
    if y.dtype.kind not in "iu" or y.size == 0:
        return 1
    K = int(y.max()) + 1
    if y.size < K:  # y may hold identifiers instead of labels, and W of so many classes might not fit into memory
        raise ValueError(
            f"y has the label {K - 1} in {y.size} samples: pass K, the number of classes, if it is right, "
            "or encode the labels with np.unique(y, return_inverse=True)[1]"
        )
    return max(K, 1)


def _check_scores(X: Any, W: object, b: object) -> tuple[Array | CSR, np.dtype[Any], Array, Array | None]:
    """Return X, the dtype of the computation, W and b, once the scores Z = X Wᵀ + b can be computed of them."""
    sparse = type(X) is not np.ndarray and is_sparse(X)
    X = check_csr(X, "X", COMPUTES_IN) if sparse else check_real(X, "X", 2)
    dtype = COMPUTES_IN[X.dtype.char]
    N, D = X.shape
    if N == 0 or D == 0:
        raise ValueError(f"X has {N} sample(s) and {D} feature(s), shape {X.shape}: at least one of each is required")
    return X, dtype, *check_parameters(W, b, D, dtype, "W", "b", "X")


def check_parameters(
    W: object, b: object, D: int, dtype: np.dtype[Any], W_name: str, b_name: str, X_name: str
) -> tuple[Array, Array | None]:
    """Return W (K, D) and b (K,) or None, C-contiguous and of `dtype`; errors call them and X by the names given."""
    W = check_real(W, W_name, 2)
    K = W.shape[0]
    if K == 0 or W.shape[1] != D:
        hint = f": pass {W_name}.T" if K == D else ""
        needed = f"(K, D) with K >= 1 rows and D = {D} columns as {X_name} has"
        raise ValueError(f"{W_name} must be {needed}, got shape {W.shape}{hint}")
    if b is not None:
        b = check_real(b, b_name, 1)
        if b.shape[0] != K:
            raise ValueError(f"{b_name} has {b.shape[0]} entries, but {W_name} has {K} rows: {b_name} must be (K,)")
        b = contiguous(b, dtype)
    return contiguous(W, dtype), b


def check_labels(y: Array, N: int, K: int, room: npt.NDArray[np.intp] | None = None) -> npt.NDArray[np.intp]:
    """Return a checked copy of the labels as intp, since another thread may write to the caller's array later.

    The copy is in `room` if this is given: an array of at least N numbers.
    """
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise _wrong_labels(y)
    if y.shape[0] != N:
        raise ValueError(f"y has {y.shape[0]} labels, but X has {N} samples")
    if room is None or INDEX is not I8:
        labels = y.astype(I8, "C")
        _check_range(labels, y, 0, K)
        return labels if INDEX is I8 else labels.astype(INDEX)
    labels = room[:N]
    for start in range(0, N, TOGETHER):
        part = labels[start : start + TOGETHER]
        np.copyto(part, y[start : start + TOGETHER], casting="unsafe")
        _check_range(part, y, start, K)
    return labels


def _check_range(labels: npt.NDArray[np.int64], y: Array, start: int, K: int) -> None:
    """Raise ValueError unless these labels are in 0..K-1: those of y from `start` on, as int64."""
    # As unsigned numbers negative labels are huge, so one comparison finds them too. Labels of uint64 beyond the range
    # of int64 have become negative. `argmax` is faster than `max` on short arrays; see "Around a small call" in
    # docs/notes.md.
    unsigned = labels.view(U8)
    if unsigned.item(unsigned.argmax()) >= K:
        i = start + int((unsigned >= K).argmax())
        raise ValueError(f"y[{i}] = {y[i]} is out of range: labels must be in 0..{K - 1}, the rows of W")


def _wrong_labels(y: Array) -> Exception:
    """Return the error for targets that are no integer labels, with what to do instead."""
    if y.ndim == 0:
        return TypeError(f"y must be {SHAPES['y']}, got a scalar: {y[()]!r}")
    if y.ndim != 1:
        return ValueError(f"y must be {SHAPES['y']}, got {y.ndim}-D with shape {y.shape}")
    if y.dtype.kind == "c":
        return not_real(y, "y")
    i, way_out = 0, "encode them with np.unique(y, return_inverse=True)[1]"
    if y.dtype.kind in "fb":
        whole = np.isfinite(y) & (y == np.floor(y))
        i = int(whole.argmin()) if y.size else 0
        way_out = "use y.astype(int)" if whole.all() else "a label must be a whole number"
    value = f", y[{i}] = {y[i]!r}" if y.size else ""
    return TypeError(f"y must hold integer labels, got dtype {y.dtype}{value}: {way_out}")


def _check_probabilities(Y: Array, N: int, K: int) -> Array:
    """Return probabilities once their dtype and shape are checked."""
    Y = check_real(Y, "y", 2)
    if Y.shape != (N, K):
        hint = ": labels are 1-D, use y.ravel()" if Y.shape == (N, 1) else ""
        raise ValueError(f"y as probabilities must be (N, K) = {(N, K)}, as X and W have, got shape {Y.shape}{hint}")
    return Y
