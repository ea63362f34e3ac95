"""Folds of data in pieces, by the places of rows, and what one visit to a piece answers for all of them.

A fold is a set of weights, as for data in memory (linear_model/_folds.py): a row that it holds out has the weight 0.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows
from .binomial import BinomialObjective
from .memory import SoftmaxObjective
from .tree import Sums, flat

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Places(NamedTuple):
    """The folds of one piece's rows."""

    first: int  # the number of its first row among all rows
    rows: int
    n: int  # how many folds there are
    trained: Array | None = None  # (folds, rows): how often each fold trains on each row; None for folds by turns
    held: Array | None = None  # (folds, rows): how often each row scores each fold

    def trains(self, fold: int) -> Vector:
        """Return how often a fold trains on each row."""
        return 1.0 - self._in_turn(fold) if self.trained is None else self.trained[fold].astype(np.float64)

    def tests(self, fold: int) -> Vector:
        """Return how often each row scores a fold."""
        return self._in_turn(fold) if self.held is None else self.held[fold].astype(np.float64)

    def _in_turn(self, fold: int) -> Vector:
        found = np.zeros(self.rows)
        found[(fold - self.first) % self.n :: self.n] = 1
        return found


class Folds(NamedTuple):
    """Folds by the places of rows: row i is held out by fold i modulo `n`, unless counts of each row are given."""

    n: int
    trained: Array | None = None  # (n, N)
    held: Array | None = None

    @classmethod
    def listed(cls, pairs: Sequence[tuple[Array, Array]], N: int) -> Self:
        """Return folds from pairs of row numbers, to train on and to score by."""
        trained, held = (_counts([pair[side] for pair in pairs], N) for side in (0, 1))
        return cls(len(pairs), trained, held)

    def fingerprint(self) -> list[int]:
        """Return numbers that tell these folds from others: how many there are, and a sum over the rows of each."""
        if self.trained is None:
            return [self.n]
        return [self.n, *(zlib.crc32(counts.tobytes()) for counts in self.trained)]

    def places(self, first: int, rows: int) -> Places:
        """Return the folds of some rows, of which the first has this number."""
        if self.trained is None or self.held is None:
            return Places(first, rows, self.n)
        here = slice(first, first + rows)
        return Places(first, rows, self.n, self.trained[:, here], self.held[:, here])


def _counts(lists: Sequence[Array], N: int) -> Array:
    """Return how often each list names each of N rows, in the smallest type that holds the counts."""
    found = np.stack([np.bincount(rows, minlength=N) for rows in lists])
    return found.astype(np.min_scalar_type(int(found.max())))


class Ask(NamedTuple):
    """What an optimiser asks of the sum over all pieces."""

    method: str  # of the pieces' objectives
    entries: int  # of the sum
    vectors: tuple[Vector, ...]  # the method's arguments
    fold: int | None  # None for all rows
    m: float  # Σ s of the fold


def answers(part: SoftmaxObjective, places: Places | None, asks: Sequence[Ask]) -> Sums:
    """Return what one piece contributes to each sum, None where a fold trains on none of its rows.

    Models of two classes that are asked for gradients read the rows together.
    """
    parts: dict[int | None, SoftmaxObjective | None] = {None: part}
    for ask in asks:
        if ask.fold not in parts:
            assert ask.fold is not None and places is not None
            s = part._rows.weights() * places.trains(ask.fold)
            parts[ask.fold] = part.weighing(s, m=ask.m) if s.any() else None
    found: list[Any] = [None] * len(asks)
    here: list[tuple[int, Any]] = [(i, one) for i, ask in enumerate(asks) if (one := parts[ask.fold]) is not None]
    joined = [(i, one) for i, one in here if asks[i].method == "value_and_grad"]
    if len(joined) > 1 and isinstance(part, BinomialObjective) and part.models_per_read > 1:
        here = [each for each in here if each not in joined]
        pairs = BinomialObjective.together([one for _, one in joined], [asks[i].vectors[0] for i, _ in joined])
        for (i, _), pair in zip(joined, pairs, strict=True):
            found[i] = pair
    for i, one in here:
        found[i] = getattr(one, asks[i].method)(*asks[i].vectors)
    return [flat(answer) for answer in found]


def totals(piece: Rows, places: Places, problem: Any) -> Vector:
    """Return for each fold the sum of the complete weights that it trains with, and of those it is scored by."""
    s, bare = problem.encoded(piece).weights(), piece.weights()
    return np.array([[places.trains(f) @ s, places.tests(f) @ bare] for f in range(places.n)])
