"""Checks of arrays of real numbers, and of `out` arrays; errors name the first entry that is wrong."""

from __future__ import annotations

import numbers
from typing import Any

import numpy as np
import numpy.typing as npt

from .csr import CSR
from .dtypes import REAL, is_real
from .tensors import array_of, is_tensor

Array = npt.NDArray[Any]

SHAPES = {
    "X": "(N, D)", "W": "(K, D)", "b": "(K,)", "y": "(N,) labels or (N, K) probabilities",
    "w": "(size,)", "sample_weight": "(N,)", "class_weight": "(K,)", "weight": "(K,)",
    "input": "(..., D)", "linear_weight": "(K, D)", "linear_bias": "(K,)",
}  # fmt: skip


def check_result(out: object, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return `out` once it is checked, for a function that can write to any strides and whose input may overlap it."""
    array = _check_shape_and_dtype(out, shape, dtype)
    if not (array.flags.aligned and array.flags.writeable):
        raise ValueError("out must be aligned and writeable: use np.empty(shape, dtype)")
    return array


def check_nonnegative(x: Array, name: str, start: int = 0) -> None:
    """Raise ValueError if an entry is negative or not finite; errors count from `start` along the first axis."""
    # An array with a NaN has NaN as its minimum, and comparisons with NaN are false.
    if x.min() >= 0 and x.max() < np.inf:
        return
    wrong = np.argwhere(~((x >= 0) & (x < np.inf)))
    if not len(wrong):  # another thread has changed x since; let it pass, for no value can harm the kernels
        return
    first = wrong[0]
    value = x[tuple(first)]
    first[0] += start
    raise ValueError(f"{entry(name, first)} = {value} must be finite and not negative")


def check_out(
    out: object, shape: tuple[int, int], dtype: np.dtype[Any], inputs: dict[str, Array | CSR | None]
) -> Array:
    """Return `out` once it is checked, for a function that writes C-contiguous rows while it reads the inputs."""
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
    """Return `out` as a plain array, once its type, shape and dtype are checked."""
    if not isinstance(out, np.ndarray) or isinstance(out, np.ma.MaskedArray):
        raise TypeError(f"out must be a NumPy array, got {type(out).__name__}")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out must be {shape} of native {dtype}, got {out.shape} of {out.dtype.str} ({out.dtype})")
    return np.asarray(out)


def check_real(x: object, name: str, ndim: int) -> Array:
    """Return an argument as an array, which must hold real numbers and have `ndim` dimensions."""
    array = x if type(x) is np.ndarray else as_array(x, name)
    dtype = array.dtype
    if dtype.num not in REAL and not is_real(dtype):  # the first is a part of the second, without a call
        raise not_real(array, name)
    if array.ndim != ndim:
        raise wrong_ndim(array, name, ndim)
    return array


def as_array(x: object, name: str) -> Array:
    """Return an argument as an array of any dtype; sparse matrices and masked arrays are refused."""
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


def not_real(x: Array, name: str) -> Exception:
    """Return the error for an array that is not real; it names the first such entry, or entry 0 if all are alike."""
    blame = np.zeros(x.shape, bool)
    if x.dtype.kind == "c":
        blame = x.imag != 0
    elif x.dtype.kind == "O":
        blame = np.array([not isinstance(value, numbers.Real) for value in x.flat], bool).reshape(x.shape)
    first = np.unravel_index(blame.argmax(), x.shape) if x.size else None
    found = f"dtype {x.dtype}" if first is None else f"dtype {x.dtype} with {entry(name, first)} = {x[first]!r}"
    if x.dtype.kind == "c":
        return ValueError(f"Complex data not supported: {name} has {found}")
    return TypeError(f"{name} must hold real numbers, got {found}")


def wrong_ndim(x: Array, name: str, ndim: int) -> Exception:
    """Return the error for an array that does not have `ndim` dimensions."""
    if x.ndim == 0:
        return TypeError(f"{name} must be an array, {SHAPES[name]}, got a scalar: {x[()]!r}")
    hint = ": one sample is X.reshape(1, -1)" if name == "X" and x.ndim == 1 else ""
    return ValueError(f"{name} must be {ndim}-D, {SHAPES[name]}, got {x.ndim}-D with shape {x.shape}{hint}")


def entry(name: str, index: Any) -> str:
    """Return an entry as a user would write it, such as "X[3, 0]"."""
    return f"{name}[{', '.join(str(int(i)) for i in index)}]" if len(index) else name
