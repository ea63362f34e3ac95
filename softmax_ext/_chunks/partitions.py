"""Functions that run on the workers of a cluster for cluster.py and dask.py.

This module does not import scikit-learn, since that would take each worker seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import threads
from .._inputs.rows import Rows
from .._objective.folds import Ask, Places, answers
from .._objective.memory import SoftmaxObjective
from .._objective.pieces import Problem, plain, weighs
from .._objective.tree import Node, Sums, added_in_place, height, place

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def length(block: Any) -> int:
    """Return the number of rows in a block."""
    return int(block.shape[0])


def together(*parts: Any) -> tuple[Any, ...]:
    """Return several partitions, such as those of X and y with the same number, as one object."""
    return parts


def rejoined(blocks: list[Any], bounds: list[tuple[int, int]]) -> Array:
    """Return the rows a to b of each block, as one array; `bounds` has (a, b) for each block."""
    return np.concatenate([np.asarray(block)[a:b] for block, (a, b) in zip(blocks, bounds, strict=True)])


class Part(NamedTuple):
    """One piece on a worker, which is a term of the whole sum."""

    objective: SoftmaxObjective
    places: Places | None  # of its rows in the folds


def part_of(piece: Rows, problem: Problem, places: Places | None) -> Part | None:
    """Return the term of one piece; None if the piece has no weight."""
    if not len(piece):
        return None
    encoded = problem.encoded(piece)
    return Part(problem.objective(encoded), places) if weighs(encoded) else None


def evaluate(
    asks: list[tuple[Ask, int]], numbers: list[int], parts: list[Any], of: int, n_threads: int, *vectors: Vector
) -> dict[Node, Sums]:
    """Return the sums of the largest nodes of the tree over `of` parts that these make up.

    With each question comes how many of the vectors are its own. The parts are computed one after the other.
    """
    n_threads, rest = threads.effective(n_threads), iter(vectors)
    asked = [ask._replace(vectors=tuple(islice(rest, count))) for ask, count in asks]
    held: dict[Node, Sums] = {}
    for number, part in zip(numbers, parts, strict=True):
        sums: Sums = [None] * len(asks)
        if part is not None:
            part.objective.n_threads = n_threads
            sums = answers(part.objective, part.places, asked)
        place(held, (0, number), sums, added_in_place, of, height(of))
    return held


def apply(function: Callable[..., Any], piece: Rows, places: Places | None, *arguments: Any) -> Any:
    """Return what a function returns for a piece, and its places if there are any."""
    return function(piece, *arguments) if places is None else function(piece, places, *arguments)


def call(block: Any, model: Any, method: str, columns: int | None, dtype: Any, offset: Any = None) -> Array:
    """Return the results of an estimator's method for a block, which may be empty.

    `columns` is how many columns the result has, and None if it has one axis.
    """
    if not block.shape[0]:
        return np.empty((0,) if columns is None else (0, columns), dtype)
    found: Array = getattr(model, method)(block, None if offset is None else np.asarray(offset))
    return found


def right(predicted: Array, y: Any) -> Array:
    """Return whether each label is as predicted."""
    if len(predicted) != len(y):
        raise ValueError(f"a partition of X has {len(predicted)} rows, that of y or sample_weight {len(y)}")
    found: Array = predicted == plain(y)
    return found


def weighted(right: Array, s: Any) -> Array:
    """Return the weights of the samples that are predicted right, and 0 for the others."""
    if len(right) != len(s):
        raise ValueError(f"a partition of X has {len(right)} rows, that of sample_weight {len(s)}")
    return np.asarray(right * np.asarray(s, np.float64))
