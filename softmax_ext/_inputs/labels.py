"""Numbers of labels' classes: the k-th of the sorted classes has the number k."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

# Integer labels are counted instead of sorted if the largest minus the smallest is less than this.
COUNTED = 65536


def numbered(y: Array) -> tuple[Array, Array]:
    """Return the sorted classes, and for each label the number of its class."""
    return counted(y) or np.unique(y, return_inverse=True)


def counted(y: Array) -> tuple[Array, Array] | None:
    """Return what `numbered` does for integers that lie close together, by counting them; None for other labels.

    To sort labels, as scikit-learn's check and np.unique do, takes several passes over them.
    """
    if y.dtype.kind not in "iub" or not len(y):
        return None
    low, high = int(np.minimum.reduce(y)), int(np.maximum.reduce(y))
    if high - low >= COUNTED:
        return None
    # `low` is subtracted in the labels' type if they are unsigned, since they may be beyond the range of np.intp; else
    # in np.intp, since the difference may be beyond the range of their own type.
    unsigned = y.dtype.kind == "u"
    numbers = (y - y.dtype.type(low) if unsigned else y).astype(np.intp, copy=False)
    if low and not unsigned:
        numbers = numbers - low
    counts = np.bincount(numbers)
    (found,) = counts.nonzero()
    classes = found.astype(y.dtype) + y.dtype.type(low) if unsigned else (found + low).astype(y.dtype)
    if len(found) < len(counts):
        numbers = (np.cumsum(counts > 0) - 1)[numbers]
    return classes, numbers
