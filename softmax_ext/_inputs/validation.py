"""The one gate: every public function passes its inputs through here, and the kernels trust what comes out.

An error names the argument, the offending value with its index, and the way out. No argument is modified. NaN and
infinity in X, W and b are data (see `reference`), in targets and weights they are errors. X of float32, float16,
bfloat16, int8 or uint8 computes in float32, of every other real dtype in float64; W and b are cast to that, so a value
beyond its range becomes infinite.
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


class Inputs(NamedTuple):
    """What `check_problem` hands to the kernels."""

    # (N, D): the caller's own, of any real dtype, layout, byte order, alignment; take blocks through `native`; or CSR
    X: Array | CSR
    dtype: np.dtype[Any]  # float32 or float64: what X's dtype computes in
    y: npt.NDArray[np.intp] | None  # (N,) in 0..K-1, a copy of ours: nobody can change a label after the check
    Y: Array | None  # (N, K): the caller's own, likewise; then `check_block`
    W: Array  # (K, D), C-contiguous, aligned, native, of `dtype`
    b: Array | None  # (K,), likewise
    s: npt.NDArray[np.float64] | None  # (N,), C-contiguous: sample weights times class weights
    m: float  # Σ s, or N
    smoothing: float


class Scoring(NamedTuple):
    """What `check_scoring` hands to the kernels; the fields are those of `Inputs`."""

    X: Array | CSR
    dtype: np.dtype[Any]
    W: Array
    b: Array | None
    out: Array | None  # (N, K), C-contiguous, aligned, native, writeable, of `dtype`, apart from the inputs


def check_problem(
    X: object,
    y: object,
    W: object,
    b: object,
    sample_weight: object,
    class_weight: object,
    label_smoothing: object,
) -> Inputs:
    """Check the inputs of `loss_grad`; the values of probability targets are left to `check_block`."""
    X, dtype, W, b = _check_scores(X, W, b)
    N, K = X.shape[0], W.shape[0]
    labels = Y = s = None
    if type(y) is not np.ndarray:
        y = as_array(y, "y")
    if y.ndim == 2:
        Y = _check_probabilities(y, N, K)
    else:
        labels = _check_labels(y, N, K)
    m = float(N)
    if sample_weight is not None or class_weight is not None:
        s, m = check_weights(sample_weight, class_weight, labels, N, K)
    # A NamedTuple's own __new__ is a Python function, and takes 0.3 µs of a small call's 10 longer.
    return tuple.__new__(Inputs, (X, dtype, labels, Y, W, b, s, m, check_smoothing(label_smoothing)))


def check_scoring(X: object, W: object, b: object, out: object) -> Scoring:
    """Check the inputs of `predict_proba`."""
    X, dtype, W, b = _check_scores(X, W, b)
    if out is not None:
        out = check_out(out, (X.shape[0], W.shape[0]), dtype, {"X": X, "W": W, "b": b})
    return Scoring(X, dtype, W, b, out)


def check_offset(offset: object, N: int, K: int) -> Array | None:
    """Return what is added to the scores, (N, K), or (N, 1) of class 1 of two; NaN and infinity are data.

    What it returns it also takes, so that the offsets of `Rows` are as good as a caller's.
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
    """Return what is added to class 1's score, (N, 1): of two columns, by how much the second is more."""
    found = check_offset(offset, N, 2)
    if found is None or found.shape[1] == 1:
        return found
    with np.errstate(invalid="ignore"):
        difference: Array = found[:, 1:].astype(np.float64) - found[:, :1]
    return difference


def check_block(Y: Array, start: int) -> None:
    """Raise ValueError for a negative or non-finite target in this block of rows, of which the first is row `start`."""
    check_nonnegative(Y, "y", start)


def count_classes(y: npt.ArrayLike) -> int:
    """Infer K from `y`; whether `y` is fit for use is not asked here."""
    y = np.asarray(y)
    if y.ndim == 2:
        return max(int(y.shape[1]), 1)
    if y.dtype.kind not in "iu" or y.size == 0:
        return 1
    K = int(y.max()) + 1
    if y.size < K:  # as with identifiers in place of labels, for which W might not even fit into memory
        raise ValueError(
            f"y has the label {K - 1} in {y.size} samples: pass K, the number of classes, if it is right, "
            "or encode the labels with np.unique(y, return_inverse=True)[1]"
        )
    return max(K, 1)


def _check_scores(X: Any, W: object, b: object) -> tuple[Array | CSR, np.dtype[Any], Array, Array | None]:
    """Check what the scores Z = X Wᵀ + b need."""
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
    """Check a matrix of D columns, and a vector with an entry for each of its rows."""
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


def _check_labels(y: Array, N: int, K: int) -> npt.NDArray[np.intp]:
    """Copy labels to intp, and check the copy: another thread may be writing to the caller's array."""
    if y.ndim != 1 or y.dtype.kind not in "iu":
        raise _wrong_labels(y)
    if y.shape[0] != N:
        raise ValueError(f"y has {y.shape[0]} labels, but X has {N} samples")
    labels = y.astype(I8, "C")
    # As unsigned numbers negative labels are huge, so one comparison does; uint64 beyond int64 has wrapped to them.
    # argmax, because it costs a seventh of max on short arrays (105 ns against 700, NumPy 2.4).
    unsigned = labels.view(U8)
    if unsigned.item(unsigned.argmax()) >= K:
        i = int((unsigned >= K).argmax())
        raise ValueError(f"y[{i}] = {y[i]} is out of range: labels must be in 0..{K - 1}, the rows of W")
    return labels if INDEX is I8 else labels.astype(INDEX)


def _wrong_labels(y: Array) -> Exception:
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
    Y = check_real(Y, "y", 2)
    if Y.shape != (N, K):
        hint = ": labels are 1-D, use y.ravel()" if Y.shape == (N, 1) else ""
        raise ValueError(f"y as probabilities must be (N, K) = {(N, K)}, as X and W have, got shape {Y.shape}{hint}")
    return Y
