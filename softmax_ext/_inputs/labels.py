"""Labels and the numbers of their classes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Integers are counted, not sorted, if they lie within so many of one another.
COUNTED = 65536


def numbered(y: Array) -> tuple[Array, Array]:
    """Return the classes, sorted, and the number of each label's class."""
    return counted(y) or np.unique(y, return_inverse=True)


def counted(y: Array) -> tuple[Array, Array] | None:
    """Return the same of integers close together by counting them; None for other labels.

    To sort a million labels, as scikit-learn's check and np.unique do, takes several passes over them.
    """
    low, high = (int(y.min()), int(y.max())) if y.dtype.kind in "iub" and len(y) else (0, COUNTED)
    if high - low >= COUNTED:
        return None
    # What is unsigned may be beyond np.intp, and the difference of what is not may be beyond its own type.
    unsigned = y.dtype.kind == "u"
    numbers = (y - y.dtype.type(low) if unsigned else y).astype(np.intp, copy=False)
    if low and not unsigned:
        numbers = numbers - low
    counts = np.bincount(numbers)
    found = np.flatnonzero(counts)
    classes = found.astype(y.dtype) + y.dtype.type(low) if unsigned else (found + low).astype(y.dtype)
    if len(found) < len(counts):
        numbers = (np.cumsum(counts > 0) - 1)[numbers]
    return classes, numbers
