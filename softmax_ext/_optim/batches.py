"""Mini-batches: how rows are cut into batches, and the step that an optimiser takes on each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows

Array = npt.NDArray[Any]
State = TypeVar("State")


def batches(rows: Rows, order: npt.NDArray[np.intp] | None, size: int) -> Iterator[Rows]:
    """Yield `size` rows at a time, in the given order; without an order yield all rows at once, not copied."""
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
    """Move the parameters by one step on a batch; return its loss before the step, and the optimiser's new state.

    No warning is given for an overflow, since the callers check whether losses and parameters are finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        loss, grads = evaluate()
        return loss, update(grads, state, params)
