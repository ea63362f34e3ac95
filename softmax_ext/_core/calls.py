"""Kernel calls that are prepared first, so that several fits can make theirs at once.

A computation that pauses where a kernel is to be called is a generator of `Prepared` calls, which returns its result.
`alone` makes each call as it comes; `together` is for calls of several computations. See "Stages of many small fits" in
docs/notes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import numpy as np

from . import dispatch, turns, workspace

if TYPE_CHECKING:
    from .kernels_baseline import Call

Needs = tuple[int, np.dtype[Any], int]  # arguments of `workspace.take`
Result = TypeVar("Result")
Other = TypeVar("Other")


class Prepared(Generic[Result]):
    """A kernel call whose arrays are ready, and the function that returns its result once the call has been made.

    `needs` are the arguments of `workspace.take` for the work space of the call, if it has one.
    """

    def __init__(self, call: Call, result: Callable[[], Result], needs: Needs | None = None) -> None:
        self.call, self.result, self.needs = call, result, needs

    def then(self, use: Callable[[Result], Other]) -> Prepared[Other]:
        """Return the same call with what `use` makes of its result."""
        result = self.result
        return Prepared(self.call, lambda: use(result()), self.needs)

    def run(self) -> Result:
        """Make the call, and return its result."""
        found: Result = together([self])[0]
        return found


Steps = Generator[Prepared[Any], None, Result]


def together(prepared: Sequence[Prepared[Any]]) -> list[Any]:
    """Make calls one after the other, without Python's global lock in between, and return their results."""
    kernels = dispatch.kernels
    assert kernels is not None
    most: dict[np.dtype[Any], Needs] = {}
    for each in prepared:
        if each.needs is not None:
            work, dtype, sums = each.needs
            before = most.get(dtype, each.needs)
            most[dtype] = max(work, before[0]), dtype, max(sums, before[2])
    spaces = {dtype: workspace.take(*needs) for dtype, needs in most.items()}
    try:
        for each in prepared:
            if each.needs is not None:
                each.call.use(spaces[each.needs[1]])
        kernels.run_calls([each.call for each in prepared], turns.mine())
    finally:
        for space in spaces.values():
            workspace.give(space)
    return [each.result() for each in prepared]


def advance(steps: Steps[Result]) -> tuple[Prepared[Any] | None, Result | None]:
    """Go on to the next call, and return it, or None and the result at the end."""
    try:
        return next(steps), None
    except StopIteration as end:
        return None, end.value


def alone(steps: Steps[Result]) -> Result:
    """Return the result of a computation whose calls are made one by one."""
    while True:
        prepared, found = advance(steps)
        if prepared is None:
            return cast("Result", found)
        prepared.run()
