"""The rows of data in pieces that are kept in memory, for the preconditioner and other matrices."""

from __future__ import annotations

from typing import Any

import numpy as np

from .._inputs.dtypes import COMPUTES_IN
from .._inputs.rows import Rows
from .fisher import POOL

# A sample has POOL rows or more, unless those take more bytes than this.
SAMPLE_BYTES = 128 * 2**20


class Sample:
    """A sample of the rows with weight: every 2^t-th of them, with t such that at most 2 POOL rows are kept.

    The sample does not depend on where pieces begin.
    """

    def __init__(self) -> None:
        self.stride, self.seen = 1, 0
        self.pieces: list[tuple[int, Rows]] = []  # for each piece: its first row's number among all, and rows of it

    def add(self, piece: Rows) -> Rows:
        """Add some rows of the next piece, and return them."""
        seen = self.seen + (len(piece) if piece.s is None else int(np.count_nonzero(piece.s)))
        most = most_of_a_sample(piece.D, piece.X.dtype)
        while -(-seen // self.stride) > most:  # rows are left out before new ones are copied, to save memory
            self._thin()
        some = every(piece, self.seen, self.stride)
        if len(some):
            self.pieces.append((self.seen + -self.seen % self.stride, some))
        self.seen = seen
        return some

    def _thin(self) -> None:
        """Leave out every second row."""
        self.stride *= 2
        old, self.pieces = self.pieces, []
        while old:
            first, some = old.pop(0)
            some = every(some, first // (self.stride // 2), 2)
            if len(some):
                self.pieces.append((first + -first % self.stride, some))

    def rows(self) -> Rows:
        """Return the sample as one `Rows`."""
        return Rows.joined([piece for _, piece in self.pieces])


def most_of_a_sample(D: int, dtype: np.dtype[Any]) -> int:
    """Return the most rows that a sample of D features in this dtype may have."""
    return 2 * min(POOL, max(1024, SAMPLE_BYTES // (2 * D * COMPUTES_IN[dtype.char].itemsize)))


def every(piece: Rows, first: int, stride: int) -> Rows:
    """Return every `stride`-th row with weight: those whose number is a multiple of `stride`.

    Rows with weight are numbered over all pieces, and the first one of this piece has the number `first`.
    """
    start = -first % stride
    some = piece[np.arange(start, len(piece), stride) if piece.s is None else np.flatnonzero(piece.s)[start::stride]]
    some.where = "a sample of the rows"
    return some
