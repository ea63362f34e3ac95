"""Mini-batches: rows cut into batches, and one step of an optimiser on each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows

Array = npt.NDArray[Any]
State = TypeVar("State")


def batches(rows: Rows, order: npt.NDArray[np.intp] | None, size: int) -> Iterator[Rows]:
    """Yield rows in an order, `size` of them at a time; without an order all of them at once, and not copied."""
    if order is None:
        yield rows
        return
    for start in range(0, len(order), size):
        yield rows[order[start : start + size]]


def step(
    update: Callable[[Sequence[Array], State, Sequence[Array]], State],
    state: State,
    params: Sequence[Array],
    evaluate: Callable[[], tuple[float, Sequence[Array]]],
) -> tuple[float, State]:
    """Move the parameters along a batch's gradient; return the batch's loss there, and the optimiser's new state.

    Overflow is silent here: whoever takes the steps looks at what came of them.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        loss, grads = evaluate()
        return loss, update(grads, state, params)
