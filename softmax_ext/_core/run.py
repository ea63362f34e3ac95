"""The one loop of a pass: a team of threads, work space, visit after visit, and the work space given back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._inputs.csr import CSR
from .._inputs.dtypes import F4, F8, is_native, native, read_as
from .._inputs.rows import Rows
from .._inputs.validation import check_block
from . import workspace
from .plan import visits

if TYPE_CHECKING:
    from .kernels_baseline import Pass, Plan, Visit

Array = npt.NDArray[Any]


def run(asked: Pass, plan: Plan, rows: Rows, n_threads: int, *, checked: bool = True) -> float:
    """Run a pass over all rows, on so many threads at most; return its loss.

    Parameters
    ----------
    asked : Pass
        What the pass is for, with the model and where results go.
    plan : Plan
        Which way it takes.
    rows : Rows
        Samples of any dtype and layout, which are converted a part at a time where a kernel cannot read them in place.
    n_threads : int
        Threads that may be used.
    checked : bool
        Whether probabilities among the targets are known to be neither negative nor NaN nor infinite.
    """
    team, dtype = plan.team(n_threads), F4 if plan.itemsize == 4 else F8
    space = workspace.take(plan.shared + team * plan.work, dtype, plan.sums if asked.summing else 0)
    loss = 0.0
    try:
        for visit, part in _parts(plan, rows, dtype, checked):
            loss = asked.visit(part, plan, visit, space, team)
    finally:
        workspace.give(space)
    return loss


def _parts(plan: Plan, rows: Rows, dtype: np.dtype[Any], checked: bool) -> Iterable[tuple[Visit, Rows]]:
    """Yield each visit with its rows, as a kernel reads them."""
    wanted, in_place = reading(plan, rows, dtype)
    if (
        plan.single and in_place and (rows.Y is None or checked)
    ):  # a small call is 2 µs sooner than through the generator
        return ((plan.single, rows),)
    return _converted(plan, rows, dtype, wanted, in_place=in_place, checked=checked)


def reading(plan: Plan, rows: Rows, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], bool]:
    """Return the dtype that X has for a kernel, and whether it reads all of these rows as they are."""
    X, Y = rows.X, rows.Y
    wanted = read_as(X.dtype) if plan.widens and X.dtype != dtype else dtype
    return wanted, (
        (type(X) is CSR or is_native(X, wanted))
        and (Y is None or is_native(Y, dtype))
        and (rows.offset is None or is_native(rows.offset, dtype))
    )


def _converted(
    plan: Plan, rows: Rows, dtype: np.dtype[Any], wanted: np.dtype[Any], *, in_place: bool, checked: bool
) -> Iterator[tuple[Visit, Rows]]:
    """Cut the rows into visits, and convert and check them on the way: X to the dtype wanted, the rest to the other."""
    numbers = 0 if isinstance(rows.X, CSR) else rows.X.shape[1]
    numbers += sum(each.shape[1] for each in (rows.Y, rows.offset) if each is not None)
    for visit, index in visits(plan, len(rows), 0 if in_place else numbers * dtype.itemsize):
        part = rows[index]
        if part.Y is not None:
            part.Y = native(part.Y, dtype)
            if not checked:
                check_block(part.Y, index.start)
        if part.offset is not None:
            part.offset = native(part.offset, dtype)
        if not isinstance(part.X, CSR):
            part.X = native(part.X, wanted)
        yield visit, part
