"""The Hessian of those parameters that an L1 penalty leaves.

Blocks for each class know nothing of what couples the classes, which L-BFGS's pairs then learn pass by pass: digits
took 98 iterations. Where few weights are not 0, all of their Hessian costs a few passes, from all rows or a sample of
them, and serves for many iterations: digits takes 25, with three of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._inputs.csr import CSR
from .._inputs.dtypes import is_native, native, read_as
from .._inputs.rows import Rows
from .curvature import DAMPING, Whole
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# What it may cost: so many passes, and operations besides, which digits' 250 weights take three times in 10 ms.
PASSES, OPERATIONS = 8, 2**28
# The least rows of a sample, for each parameter; the most parameters; and bytes of all pieces' sums.
ROWS_PER_PARAMETER, MOST, BYTES = 4, 2048, 64 * 2**20
# What rows of CSR may take as an array, some at a time.
DENSE_BYTES = 16 * 2**20


def rows_for(objective: Any, kept: Indices) -> int:
    """Return from how many rows the Hessian of those parameters may be summed; 0 where that is too dear."""
    n = len(kept)
    if not n or n > MOST or dispatch.kernels is None or not hasattr(objective, "hessian_among"):
        return 0
    rows = min(objective.available, int((PASSES * objective.flops + OPERATIONS) / n**2))
    return rows if rows >= min(objective.available, ROWS_PER_PARAMETER * n) else 0


class Support(Whole):
    """M of some of the parameters, `kept` in their order, with all of the intercepts: others do not move."""

    kept: Indices

    def __init__(self, objective: Any, w: Vector, kept: Indices, rows: int) -> None:
        self.kept, self.rows = kept, rows
        super().__init__(objective, w)

    def refresh(self, w: Vector) -> None:
        """Compute the Hessian, and set the intercepts apart."""
        parameters = self.parameters
        first = int(np.searchsorted(self.kept, parameters.count * parameters.D))
        self._take(self.objective.hessian_among(w, self.kept, self.rows), first)
        if self.rows < self.objective.N:
            self.diagonal[:first] *= 1 + DAMPING
        assert self.M is not None
        self.M[0].flat[:: len(self.diagonal) + 1] = self.diagonal

    def arranged(self, v: Array) -> Vector:
        """Return what belongs to them."""
        return np.asarray(v, np.float64)[self.kept]

    def outward(self, d: Vector) -> Vector:
        """Return a step of all parameters."""
        step = np.zeros(self.parameters.size)
        step[self.kept] = super().outward(d)
        return step


def hessian_among(
    rows: Rows,
    S: Array,  # (N, count) posteriors of the classes that have parameters
    parameters: Parameters,
    kept: Indices,
    *,
    moments: Vector | None = None,  # (2, D): what is taken from each feature, and what then multiplies it
    n_threads: int,
) -> Vector:
    """Return Σ_i s_i times the Hessians of each row's loss, of the kept parameters alone: (n, n)."""
    assert dispatch.kernels is not None
    first, D = parameters.count * parameters.D, parameters.D
    of_class = np.where(kept < first, kept // D, kept - first)
    feature = np.where(kept < first, kept % D, D)
    used = np.arange(D)
    if isinstance(rows.X, CSR):
        used, feature = np.unique(np.append(feature, D), return_inverse=True)
        used, feature = used[:-1], feature[:-1]
        moments = None if moments is None else np.ascontiguousarray(moments[:, used])
    # Each class's columns begin at a whole vector.
    whole, counts = dispatch.kernels.lanes_of(8), np.bincount(of_class, minlength=parameters.count)
    begin = np.concatenate([[0], np.cumsum(-(-counts // whole) * whole)])
    order = np.argsort(of_class, kind="stable")
    place = np.empty_like(order)
    place[order] = np.arange(len(kept)) + np.repeat(begin[:-1] - (np.cumsum(counts) - counts), counts)
    columns = np.full(begin[-1], -1)
    columns[place] = feature
    pieces, work = dispatch.kernels.support_sizes(len(rows), len(used), len(columns))
    pieces = max(1, min(pieces, BYTES // (8 * len(columns) ** 2)))
    sums, threads = np.empty((pieces, len(columns), len(columns))), min(pieces, n_threads)
    upper, space = np.zeros(sums.shape[1:]), np.empty(threads * work)
    for part, X in _as_arrays(rows, used):
        dispatch.kernels.support_hessian(
            X,
            np.require(S[part], np.float64, ["C", "A"]),
            np.require(rows.weights()[part], np.float64, ["C", "A"]),
            moments=moments,
            first=begin,
            feature=columns,
            sums=sums,
            work=space,
            itemsize=rows.dtype.itemsize,
            n_threads=threads,
        )
        upper += np.triu(sums[0])
    upper += np.triu(upper, 1).T
    H: Vector = upper[np.ix_(place, place)]
    return H


def _as_arrays(rows: Rows, used: Indices) -> Iterator[tuple[slice, Array]]:
    """Yield the rows as a kernel reads them: sparse ones some at a time, the used features alone."""
    X = rows.X
    if not isinstance(X, CSR):
        yield slice(None), X if is_native(X, read_as(X.dtype)) else native(X, read_as(X.dtype))
        return
    at_once = max(1, DENSE_BYTES // (8 * max(1, len(used))))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        yield part, np.ascontiguousarray(X[part].scipy(rows.dtype)[:, used].toarray())
