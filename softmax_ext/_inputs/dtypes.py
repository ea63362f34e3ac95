"""Element types: in which dtype data are computed, and whether a kernel can read an array in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
# The rounding of these two, and the smallest normal number: np.finfo takes a microsecond to tell them.
EPS = {dtype: float(np.finfo(dtype).eps) for dtype in (F4, F8)}
TINY = float(np.finfo(F8).tiny)
I8, U8, INDEX = np.dtype(np.int64), np.dtype(np.uint64), np.dtype(np.intp)
# The dtype in which X is computed, by the type character of X's dtype: one entry then covers both byte orders. "E" is
# the bfloat16 of ml_dtypes, a package that is not imported here; see `is_real`.
COMPUTES_IN = dict.fromkeys("efEbB", F4) | dict.fromkeys("dg?hHiIlLqQ", F8)
# The numbers of NumPy's own dtypes among them. `is_real` looks here first, since that takes a third of the time of its
# other comparisons, and a small call asks it about three arrays.
REAL = frozenset(np.dtype(char).num for char in COMPUTES_IN if char != "E")
# The types that kernels widen to float32 while they read them, with their native dtypes; that of bfloat16 is only known
# where ml_dtypes has been imported.
NARROW: dict[str, np.dtype[Any] | None] = {
    "e": np.dtype(np.float16),
    "b": np.dtype(np.int8),
    "B": np.dtype(np.uint8),
    "E": None,
}
# The dtype in which logits are computed. Unlike in X, 8-bit integers are computed in float64, as in SciPy.
LOGITS_COMPUTE_IN = dict.fromkeys("ef", F4) | dict.fromkeys("dg?bBhHiIlLqQ", F8)


def is_real(dtype: np.dtype[Any]) -> bool:
    """Return whether X may have this dtype.

    A type character does not suffice, since dtypes of ml_dtypes that are not supported share characters with others.
    """
    return dtype.num in REAL or (dtype.char in COMPUTES_IN and dtype.name == "bfloat16")


def read_as(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype, in native byte order, in which a kernel reads X of this dtype."""
    return (NARROW[dtype.char] or dtype) if dtype.char in NARROW else COMPUTES_IN[dtype.char]


def is_native(block: Array, dtype: np.dtype[Any]) -> bool:
    """Return whether a kernel that reads `dtype` can read these rows in place.

    The dtype, its byte order and the alignment must fit, and each row must be contiguous. The distance between rows
    may be any whole number of entries, also zero or negative.
    """
    size = dtype.itemsize
    return (
        block.dtype == dtype
        and block.flags.aligned
        and (block.strides[1] == size or block.shape[1] == 1)
        and block.strides[0] % size == 0  # alignment does not imply it: i386 aligns a double to 4 bytes
    )


def native(block: Array, dtype: np.dtype[Any]) -> Array:
    """Return these rows themselves if a kernel can read them in place, else a C-contiguous copy in `dtype`."""
    return block if is_native(block, dtype) else cast(block, dtype)


def contiguous(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return x itself if it is C-contiguous, aligned and of `dtype`, else such a copy."""
    flags = x.flags
    return x if x.dtype == dtype and flags.c_contiguous and flags.aligned else cast(x, dtype)


def cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return a C-contiguous copy in `dtype`; numbers beyond its range become infinite without a warning."""
    with np.errstate(all="ignore"):
        return np.array(x, dtype, order="C")
