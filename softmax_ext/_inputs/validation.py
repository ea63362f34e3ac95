"""The one gate: every public function passes its inputs through here, and the kernels trust what comes out.

An error names the argument, the offending value with its index, and the way out. No argument is modified. NaN and
infinity in X, W and b are data (see `reference`), in targets and weights they are errors. X of float32, float16,
bfloat16, int8 or uint8 computes in float32, of every other real dtype in float64; W and b are cast to that, so a value
beyond its range becomes infinite.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .csr import CSR, check_csr, is_sparse
from .tensors import array_of, is_tensor

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
I8, U8, INDEX = np.dtype(np.int64), np.dtype(np.uint64), np.dtype(np.intp)
# What X computes in. By type character, not by dtype: one entry then covers both byte orders. E is ml_dtypes' bfloat16,
# which is never imported here; see `is_real`.
COMPUTES_IN = dict.fromkeys("efEbB", F4) | dict.fromkeys("dg?hHiIlLqQ", F8)
# NumPy's own among them, by number: a third of the time of two questions, and a small call asks them of three arrays.
REAL = frozenset(np.dtype(char).num for char in COMPUTES_IN if char != "E")
# What the kernels widen to float32 as they read it.
NARROW: dict[str, np.dtype[Any] | None] = {
    "e": np.dtype(np.float16),
    "b": np.dtype(np.int8),
    "B": np.dtype(np.uint8),
    "E": None,
}
# What logits compute in: functions of them take 8-bit integers for integers, as SciPy does.
LOGITS_COMPUTE_IN = dict.fromkeys("ef", F4) | dict.fromkeys("dg?bBhHiIlLqQ", F8)
SHAPES = {
    "X": "(N, D)", "W": "(K, D)", "b": "(K,)", "y": "(N,) labels or (N, K) probabilities",
    "sample_weight": "(N,)", "class_weight": "(K,)", "weight": "(K,)",
    "input": "(..., D)", "linear_weight": "(K, D)", "linear_bias": "(K,)",
}  # fmt: skip

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


class Scores(NamedTuple):
    """What `check_scores` hands to the kernels: scores, with their classes along `axis`."""

    Z: Array  # the caller's own, of any real dtype and layout
    dtype: np.dtype[Any]  # what Z's dtype computes in
    axis: int
    y: npt.NDArray[np.intp] | None  # labels of the rows in C order, a copy of ours; 0 for those that are ignored
    Y: Array | None  # probabilities, of `dtype` and Z's shape
    kept: npt.NDArray[np.bool_] | None  # which rows are not ignored; None for all
    c: Array | None  # (K,), C-contiguous, of `dtype`: class weights
    smoothing: float


class Linear(NamedTuple):
    """What `check_linear` hands to the kernels; the fields are those of `Inputs` and of `Scores`."""

    X: Array  # (N, D)
    dtype: np.dtype[Any]
    W: Array
    b: Array | None
    y: npt.NDArray[np.intp] | None  # (N,)
    Y: Array | None  # (N, K), the caller's own, of any floating dtype and layout
    kept: npt.NDArray[np.bool_] | None
    c: Array | None
    smoothing: float
    z_loss: float
    cap: float  # of the scores, 0 for none
    shape: tuple[int, ...]  # of the rows, as the caller has them


def check_scores(
    logits: object,
    target: object,
    weight: object,
    ignore_index: object,
    label_smoothing: object,
    reduction: object,
) -> Scores:
    """Check the inputs of `cross_entropy`; weights and probabilities may be any numbers, as in PyTorch."""
    Z = logits if type(logits) is np.ndarray else _as_array(logits, "logits")
    if Z.dtype.char not in LOGITS_COMPUTE_IN:
        raise _not_real(Z, "logits")
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
        Y = _cast(Y, dtype)
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
    """Check the inputs of `linear_cross_entropy`."""
    X = input if type(input) is np.ndarray else _as_array(input, "input")
    if not is_real(X.dtype):
        raise _not_real(X, "input")
    if X.ndim == 0:
        raise _wrong_ndim(X, "input", 1)
    dtype, D = COMPUTES_IN[X.dtype.char], X.shape[-1]
    if D == 0:
        raise ValueError(f"input has no features, shape {X.shape}: at least one is required")
    W, b = _check_parameters(linear_weight, linear_bias, D, dtype, "linear_weight", "linear_bias", "input")
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
    cap = 0.0 if softcap is None else _real_number(softcap, "softcap")
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
    """Return what `Scores` has from y on, but the probabilities as they are given; `scores` is what has the shape."""
    K = shape[axis]
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction must be "mean", "sum" or "none", got {reduction!r}')
    smoothing, c = _check_smoothing(label_smoothing), None
    if weight is not None:
        c = _check_real(weight, "weight", 1)
        if c.shape[0] != K:
            raise ValueError(f"weight has {c.shape[0]} entries, but {scores} have {K} classes along axis {axis}")
        c = _contiguous(c, dtype)
    if isinstance(ignore_index, (bool, np.bool)) or not isinstance(ignore_index, (int, np.integer)):
        raise TypeError(f"ignore_index must be an integer, got {ignore_index!r}")
    given, rows = (
        target if type(target) is np.ndarray else _as_array(target, "target"),
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
    """Copy labels to intp, and check the copy; and tell which rows are not ignored."""
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
            f"{_entry('target', i)} = {target[i]} is out of range: labels must be in 0..{K - 1}, or ignore_index"
        )
    if kept.all():
        return labels.astype(np.intp, copy=False), None
    labels[~kept] = 0
    return labels.astype(np.intp, copy=False), kept


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
        y = _as_array(y, "y")
    if y.ndim == 2:
        Y = _check_probabilities(y, N, K)
    else:
        labels = _check_labels(y, N, K)
    m = float(N)
    if sample_weight is not None or class_weight is not None:
        s, m = _check_weights(sample_weight, class_weight, labels, N, K)
    # A NamedTuple's own __new__ is a Python function, and takes 0.3 µs of a small call's 10 longer.
    return tuple.__new__(Inputs, (X, dtype, labels, Y, W, b, s, m, _check_smoothing(label_smoothing)))


def check_scoring(X: object, W: object, b: object, out: object) -> Scoring:
    """Check the inputs of `predict_proba`."""
    X, dtype, W, b = _check_scores(X, W, b)
    if out is not None:
        out = _check_out(out, (X.shape[0], W.shape[0]), dtype, {"X": X, "W": W, "b": b})
    return Scoring(X, dtype, W, b, out)


def check_offset(offset: object, N: int, K: int) -> Array | None:
    """Return what is added to the scores, (N, K), or (N, 1) of class 1 of two; NaN and infinity are data."""
    if offset is None:
        return None
    array = offset if type(offset) is np.ndarray else _as_array(offset, "offset")
    if not is_real(array.dtype):
        raise _not_real(array, "offset")
    if array.shape == (N,) and K == 2:
        return array[:, np.newaxis]
    if array.shape != (N, K):
        two = f", or ({N},) of class 1" if K == 2 else ""
        raise ValueError(f"offset must be (N, K) = {(N, K)}{two}, got shape {array.shape}")
    return array


def check_offset_of_class_1(offset: object, N: int) -> Array | None:
    """Return what is added to class 1's score, (N, 1): of two columns, by how much the second is more."""
    if isinstance(offset, np.ndarray) and offset.shape == (N, 1):  # as `Rows` have it
        offset = offset[:, 0]
    found = check_offset(offset, N, 2)
    if found is None or found.shape[1] == 1:
        return found
    with np.errstate(invalid="ignore"):
        difference: Array = found[:, 1:].astype(np.float64) - found[:, :1]
    return difference


def check_block(Y: Array, start: int) -> None:
    """Raise ValueError for a negative or non-finite target in this block of rows, of which the first is row `start`."""
    _check_nonnegative(Y, "y", start)


def check_nonnegative_number(value: object, name: str) -> float:
    """Return a finite real number that is not negative as a float."""
    number = _real_number(value, name)
    if not 0 <= number < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {number}")
    return number


def check_positive_number(value: object, name: str) -> float:
    """Return a finite real number above zero as a float."""
    number = check_nonnegative_number(value, name)
    if number == 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def check_fraction(value: object, name: str) -> float:
    """Return a real number in [0, 1) as a float."""
    number = check_nonnegative_number(value, name)
    if number >= 1:
        raise ValueError(f"{name} must lie in [0, 1), got {number}")
    return number


def check_integer(value: object, name: str, least: int = 1) -> int:
    """Return an integer that is not less than `least`."""
    if isinstance(value, (bool, np.bool)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


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


def check_result(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Check the `out` of a function that takes any strides, and that its input may overlap."""
    array = _check_shape_and_dtype(out, shape, dtype)
    if not (array.flags.aligned and array.flags.writeable):
        raise ValueError("out must be aligned and writeable: use np.empty(shape, dtype)")
    return array


def is_real(dtype: np.dtype[Any]) -> bool:
    """Tell whether X may have this dtype: ml_dtypes has others, one of them with the letter of a dtype of NumPy's."""
    return dtype.num in REAL or (dtype.char in COMPUTES_IN and dtype.name == "bfloat16")


def read_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype, native, in which a kernel reads X of this dtype."""
    return (NARROW[dtype.char] or dtype) if dtype.char in NARROW else COMPUTES_IN[dtype.char]


def is_native(block: Array, dtype: np.dtype[Any]) -> bool:
    """Tell whether a kernel can read these rows in place: dtype, byte order, alignment fit, columns are contiguous.

    The distance between rows is free, zero and negative included, as long as it is a whole number of entries.
    """
    size = dtype.itemsize
    return (
        block.dtype == dtype
        and block.flags.aligned
        and (block.strides[1] == size or block.shape[1] == 1)
        and block.strides[0] % size == 0  # not implied: i386 aligns a double to 4 bytes
    )


def native(block: Array, dtype: np.dtype[Any]) -> Array:
    """Return the block of rows itself if `is_native`, else a C-contiguous copy of it in `dtype`."""
    return block if is_native(block, dtype) else _cast(block, dtype)


def _check_scores(X: Any, W: object, b: object) -> tuple[Array | CSR, np.dtype[Any], Array, Array | None]:
    """Check what the scores Z = X Wᵀ + b need."""
    sparse = type(X) is not np.ndarray and is_sparse(X)
    X = check_csr(X, "X", COMPUTES_IN) if sparse else _check_real(X, "X", 2)
    dtype = COMPUTES_IN[X.dtype.char]
    N, D = X.shape
    if N == 0 or D == 0:
        raise ValueError(f"X has {N} sample(s) and {D} feature(s), shape {X.shape}: at least one of each is required")
    return X, dtype, *_check_parameters(W, b, D, dtype, "W", "b", "X")


def _check_parameters(
    W: object, b: object, D: int, dtype: np.dtype[Any], W_name: str, b_name: str, X_name: str
) -> tuple[Array, Array | None]:
    """Check a matrix of D columns, and a vector with an entry for each of its rows."""
    W = _check_real(W, W_name, 2)
    K = W.shape[0]
    if K == 0 or W.shape[1] != D:
        hint = f": pass {W_name}.T" if K == D else ""
        needed = f"(K, D) with K >= 1 rows and D = {D} columns as {X_name} has"
        raise ValueError(f"{W_name} must be {needed}, got shape {W.shape}{hint}")
    if b is not None:
        b = _check_real(b, b_name, 1)
        if b.shape[0] != K:
            raise ValueError(f"{b_name} has {b.shape[0]} entries, but {W_name} has {K} rows: {b_name} must be (K,)")
        b = _contiguous(b, dtype)
    return _contiguous(W, dtype), b


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
        return _not_real(y, "y")
    i, way_out = 0, "encode them with np.unique(y, return_inverse=True)[1]"
    if y.dtype.kind in "fb":
        whole = np.isfinite(y) & (y == np.floor(y))
        i = int(whole.argmin()) if y.size else 0
        way_out = "use y.astype(int)" if whole.all() else "a label must be a whole number"
    value = f", y[{i}] = {y[i]!r}" if y.size else ""
    return TypeError(f"y must hold integer labels, got dtype {y.dtype}{value}: {way_out}")


def _check_probabilities(Y: Array, N: int, K: int) -> Array:
    Y = _check_real(Y, "y", 2)
    if Y.shape != (N, K):
        hint = ": labels are 1-D, use y.ravel()" if Y.shape == (N, 1) else ""
        raise ValueError(f"y as probabilities must be (N, K) = {(N, K)}, as X and W have, got shape {Y.shape}{hint}")
    return Y


def _check_weights(
    sample_weight: object, class_weight: object, y: npt.NDArray[np.intp] | None, N: int, K: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Return s_i = sample_weight_i class_weight[y_i] and m = Σ s."""
    s = None if sample_weight is None else _weight_vector(sample_weight, "sample_weight", N)
    with np.errstate(all="ignore"):
        if class_weight is not None:
            if y is None:
                raise no_class_weights("integer labels")
            c = class_weights(class_weight, y, s, K)[y]
            s = c if s is None else s * c
        assert s is not None
        m = float(s.sum())
    if not 0 < m < np.inf:
        given = {"sample_weight": sample_weight, "class_weight": class_weight}
        names = " times ".join(name for name, weight in given.items() if weight is not None)
        raise ValueError(f"{names} sums to {m} over the samples: the sum must be positive and finite")
    return s, m


def no_class_weights(needed: str = "labels") -> ValueError:
    """Return the error of class weights beside probabilities, whose rows belong to no class."""
    return ValueError(f"class_weight needs {needed}, but y holds probabilities: use sample_weight")


def class_weights(
    class_weight: object, y: npt.NDArray[np.intp], s: npt.NDArray[np.float64] | None, K: int
) -> npt.NDArray[np.float64]:
    """Return (K,) class weights.

    "balanced" is Σ s / (P Σ_{y_i = k} s_i) with P the number of classes that have weight, as
    sklearn.utils.class_weight.compute_class_weight defines it when LogisticRegression passes it the sample weights;
    a class whose samples all weigh zero counts as absent.
    """
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced", a dict or a (K,) array, got {class_weight!r}')
        counts = np.bincount(y, s, minlength=K)
        present = counts > 0
        return np.where(present, counts.sum() / (present.sum() * counts), 0.0)
    if not isinstance(class_weight, Mapping):
        return _weight_vector(class_weight, "class_weight", K)
    c = np.ones(K)
    for label, weight in class_weight.items():
        if isinstance(label, (bool, np.bool)) or not isinstance(label, (int, np.integer)) or not 0 <= label < K:
            raise ValueError(f"class_weight has the key {label!r}: keys must be integer labels in 0..{K - 1}")
        c[label] = _real_number(weight, f"class_weight[{label}]")
    _check_nonnegative(c, "class_weight")
    return c


def _weight_vector(weight: object, name: str, length: int) -> npt.NDArray[np.float64]:
    vector = _check_real(weight, name, 1)
    if vector.shape[0] != length:
        raise ValueError(f"{name} has {vector.shape[0]} entries, but {SHAPES[name]} = ({length},) is needed")
    vector = _contiguous(vector, F8)
    _check_nonnegative(vector, name)
    return vector


def _check_nonnegative(x: Array, name: str, start: int = 0) -> None:
    # A NaN is the minimum of whatever holds it, and compares false.
    if x.min() >= 0 and x.max() < np.inf:
        return
    wrong = np.argwhere(~((x >= 0) & (x < np.inf)))
    if not len(wrong):  # another thread has written to it meanwhile; no value can harm the kernels
        return
    first = wrong[0]
    value = x[tuple(first)]
    first[0] += start
    raise ValueError(f"{_entry(name, first)} = {value} must be finite and not negative")


def _check_smoothing(label_smoothing: object) -> float:
    value = label_smoothing if type(label_smoothing) is float else _real_number(label_smoothing, "label_smoothing")
    if not 0 <= value <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {value}")
    return value


def _real_number(value: object, name: str) -> float:
    if isinstance(value, (bool, np.bool)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} = {value!r} does not fit in a float") from error


def _check_out(
    out: object, shape: tuple[int, int], dtype: np.dtype[Any], inputs: dict[str, Array | CSR | None]
) -> Array:
    array = _check_shape_and_dtype(out, shape, dtype)
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned and flags.writeable):
        raise ValueError("out must be C-contiguous, aligned and writeable: use np.empty((N, K), dtype)")
    for name, given in inputs.items():
        given = given.data if isinstance(given, CSR) else given
        if given is not None and np.may_share_memory(array, given):
            raise ValueError(f"out overlaps {name}, which is read while out is written: pass an array of its own")
    return array


def _check_shape_and_dtype(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out must be {shape} of native {dtype}, got {out.shape} of {out.dtype.str} ({out.dtype})")
    return np.asarray(out)


def _check_real(x: object, name: str, ndim: int) -> Array:
    """Return an ndarray of real numbers with `ndim` dimensions."""
    array = x if type(x) is np.ndarray else _as_array(x, name)
    if not is_real(array.dtype):
        raise _not_real(array, name)
    if array.ndim != ndim:
        raise _wrong_ndim(array, name, ndim)
    return array


def _as_array(x: object, name: str) -> Array:
    if hasattr(x, "tocsr"):
        raise TypeError(f"{name} is sparse ({type(x).__name__}), which is not supported here: pass {name}.toarray()")
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array and its mask would be ignored: fill it, with {name}.filled(...)")
    if is_tensor(x):
        return array_of(x, name)
    try:
        return np.asarray(x)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(f"{name} ({type(x).__name__}) cannot be read as an array: {error}") from error


def _not_real(x: Array, name: str) -> Exception:
    """Name the first entry that is to blame, or the first at all where it is only the dtype."""
    blame = np.zeros(x.shape, bool)
    if x.dtype.kind == "c":
        blame = x.imag != 0
    elif x.dtype.kind == "O":
        blame = np.array([not isinstance(value, numbers.Real) for value in x.flat], bool).reshape(x.shape)
    first = np.unravel_index(blame.argmax(), x.shape) if x.size else None
    found = f"dtype {x.dtype}" if first is None else f"dtype {x.dtype} with {_entry(name, first)} = {x[first]!r}"
    if x.dtype.kind == "c":
        return ValueError(f"Complex data not supported: {name} has {found}")
    return TypeError(f"{name} must hold real numbers, got {found}")


def _wrong_ndim(x: Array, name: str, ndim: int) -> Exception:
    if x.ndim == 0:
        return TypeError(f"{name} must be an array, {SHAPES[name]}, got a scalar: {x[()]!r}")
    hint = ": one sample is X.reshape(1, -1)" if name == "X" and x.ndim == 1 else ""
    return ValueError(f"{name} must be {ndim}-D, {SHAPES[name]}, got {x.ndim}-D with shape {x.shape}{hint}")


def _entry(name: str, index: Any) -> str:
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if len(index) else name


def _contiguous(x: Array, dtype: np.dtype[Any]) -> Array:
    flags = x.flags
    return x if x.dtype == dtype and flags.c_contiguous and flags.aligned else _cast(x, dtype)


def _cast(x: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(all="ignore"):
        return np.array(x, dtype, order="C")
