"""`run` is the one loop of every pass: it takes work space, makes visit after visit, and gives the work space back."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Run a pass over all rows on at most `n_threads` threads, and return its loss.

    Parameters
    ----------
    asked : Pass
        What the pass computes, with the model, and the arrays that the results are written to.
    plan : Plan
        How the pass is cut.
    rows : Rows
        Samples of any dtype and layout; where a kernel cannot read them in place, each visit's rows are converted.
    n_threads : int
        The most threads that are used.
    checked : bool
        Whether targets that are probabilities are known to be finite and not negative. If not, each visit's are
        checked.

    Raises
    ------
    ValueError
        If a probability that is checked is negative or not finite.
    """
    team, dtype = plan.team(n_threads), F4 if plan.itemsize == 4 else F8
    space = workspace.take(plan.shared + team * plan.work, dtype, plan.sums if asked.summing else 0)
    loss = 0.0
    try:
        wanted, in_place = reading(plan, rows, dtype)
        # A small call is faster without a generator; see "Around a small call" in docs/notes.md.
        if in_place and plan.single and (rows.Y is None or checked):
            return asked.visit(rows, plan, plan.single, space, team)
        for visit, part in _parts(plan, rows, dtype, wanted, in_place=in_place, checked=checked):
            loss = asked.visit(part, plan, visit, space, team)
    finally:
        workspace.give(space)
    return loss


def reading(plan: Plan, rows: Rows, dtype: np.dtype[Any]) -> tuple[np.dtype[Any], bool]:
    """Return the dtype in which a kernel reads X, and whether it can read all arrays of these rows in place."""
    X, Y = rows.X, rows.Y
    wanted = read_as(X.dtype) if plan.widens and X.dtype != dtype else dtype
    return wanted, (
        (X.dtype == wanted if isinstance(X, CSR) else is_native(X, wanted))
        and (Y is None or is_native(Y, dtype))
        and (rows.offset is None or is_native(rows.offset, dtype))
    )


def _parts(
    plan: Plan, rows: Rows, dtype: np.dtype[Any], wanted: np.dtype[Any], *, in_place: bool, checked: bool
) -> Iterator[tuple[Visit, Rows]]:
    """Yield the visits with their rows: X converted to `wanted`, targets and offsets to `dtype`, and checked."""
    X = rows.X
    numbers = X.shape[1] if not isinstance(X, CSR) else 0 if X.dtype == wanted else -(-X.nnz // len(X))
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
        elif part.X.dtype != wanted:
            part.X = part.X.astype(wanted)
        yield visit, part
