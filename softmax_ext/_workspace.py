"""Work space for the kernels, kept from call to call.

Fresh pages cost more than the work on them: 32 MiB of sums take 3 ms to be mapped and cleared and 1 ms to be used
again. One buffer is kept, the largest so far; calls at the same time get buffers of their own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Buffer = npt.NDArray[np.uint8]

MOST = 64 * 2**20  # bytes that are kept
_kept: list[Buffer] = []


def take(nbytes: int) -> Buffer:
    """Return at least so many bytes of any content."""
    try:
        buffer = _kept.pop()  # atomic: no other thread gets this one
    except IndexError:
        return np.empty(nbytes, np.uint8)
    return buffer if buffer.nbytes >= nbytes else np.empty(nbytes, np.uint8)


def give(buffer: Buffer) -> None:
    """Keep a buffer that is no longer used."""
    if buffer.nbytes <= MOST and not _kept:
        _kept.append(buffer)


def split(buffer: Buffer, work: int, dtype: np.dtype[Any], sums: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return `sums` doubles and, behind them, `work` numbers of dtype."""
    middle = sums * 8
    return buffer[middle : middle + work * dtype.itemsize].view(dtype), buffer[:middle].view(np.float64)
