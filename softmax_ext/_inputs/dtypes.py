"""Element types: what X computes in, and whether a kernel can read it as it lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

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
    return block if is_native(block, dtype) else cast(block, dtype)


def contiguous(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return x itself if it is C-contiguous, aligned and of `dtype`, else a copy that is."""
    flags = x.flags
    return x if x.dtype == dtype and flags.c_contiguous and flags.aligned else cast(x, dtype)


def cast(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return a C-contiguous copy in `dtype`; what is beyond its range becomes infinite without a warning."""
    with np.errstate(all="ignore"):
        return np.array(x, dtype, order="C")
