"""Work space for the kernels, which is kept from call to call.

To get new pages from the system takes longer than a kernel's work on them; see "Work space is kept" in docs/notes.md.
One work space is kept, the last one that was given back. Calls at the same time each get one of their own.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import F8

MOST = 64 * 2**20  # a work space of more bytes is not kept
SHARED = 2 * 2**20  # a space of at most so many bytes also has room for the call before
HUGE = 2**21  # bytes of a huge page of Linux on x86-64


class Space(NamedTuple):
    """Two arrays whose content is arbitrary when they are taken."""

    work: npt.NDArray[Any]  # float32 or float64
    sums: npt.NDArray[np.float64]
    small: bool  # whether it may be kept


_kept: list[Space] = []


def take(work: int, dtype: np.dtype[Any], sums: int) -> Space:
    """Return a work space of at least `work` elements of this dtype, and at least `sums` doubles."""
    try:
        space = _kept.pop()  # atomic: no other thread gets this one
    except IndexError:
        pass
    else:
        if space.work.dtype == dtype:
            if space.work.size >= work and space.sums.size >= sums:
                return space
            # Small calls in turn come to share one.
            most = max(work, space.work.size), max(sums, space.sums.size)
            if most[0] * dtype.itemsize + 8 * most[1] <= SHARED:
                work, sums = most
    return Space(_empty(work, dtype), _empty(sums, F8), work * dtype.itemsize + 8 * sums <= MOST)


def _empty(count: int, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return an array, of whole huge pages unless it takes less than half of one: see "Huge pages" in docs/notes.md."""
    needed = count * dtype.itemsize
    if needed < HUGE // 2:
        return np.empty(count, dtype)
    room = np.empty(-(-needed // HUGE) * HUGE + HUGE, np.uint8)  # of 4 MiB or more NumPy asks for huge pages
    start = -room.ctypes.data % HUGE
    return room[start : start + needed].view(dtype)


def give(space: Space) -> None:
    """Keep a work space for the next call, unless one is kept already or this one is too large."""
    if space.small and not _kept:
        _kept.append(space)
