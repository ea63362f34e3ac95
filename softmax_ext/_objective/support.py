"""The Hessian by the parameters that an L1 penalty leaves other than 0.

Blocks for each class do not tell what couples the classes, which the pairs of L-BFGS then learn pass by pass. If few
weights are not 0, their whole Hessian, from all rows or a sample of them, costs a few passes and serves for many
iterations; see "The Hessian of the weights that are left" in docs/notes.md.
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

# The Hessian may cost as much as PASSES passes, and OPERATIONS operations besides.
PASSES, OPERATIONS = 8, 2**28
# The least of it may cost as much again for each DEARER iterations of the model before it.
DEARER = 10
# A sample has at least ROWS_PER_PARAMETER rows for each parameter, of which there may be MOST. The sums of all slices
# of the rows take at most BYTES bytes.
ROWS_PER_PARAMETER, MOST, BYTES = 4, 2048, 64 * 2**20
# Rows of CSR become arrays of at most this many bytes. But a row has few of many parameters, and the Hessian is summed
# from the pairs of those if that is faster: a pair takes as long as PAIR operations on arrays.
DENSE_BYTES, PAIR = 16 * 2**20, 50


def rows_for(objective: Any, kept: Indices, iterations: int = 0) -> int:
    """Return from how many rows the Hessian by the kept parameters is summed; 0 if it would cost too much.

    `iterations` is how many the model before it has taken: the more, the more the least Hessian may cost.
    """
    n = len(kept)
    if not n or n > MOST or dispatch.kernels is None or not hasattr(objective, "hessian_among"):
        return 0
    rows = min(objective.available, int((PASSES * objective.flops + OPERATIONS) / objective.operations_among(kept)))
    least = min(objective.available, ROWS_PER_PARAMETER * n)
    return max(rows, least) if rows * (1 + iterations / DEARER) >= least else 0


class Support(Whole):
    """M for some of the parameters, whose numbers are `kept`, with all intercepts; the others do not move."""

    exact = False  # it may be summed from a sample of the rows, and serves for many iterations
    kept: Indices

    def __init__(self, objective: Any, w: Vector, kept: Indices, rows: int) -> None:
        self.kept, self.rows = kept, rows
        super().__init__(objective, w)

    def refresh(self, w: Vector) -> None:
        """Compute the Hessian at w, and separate the intercepts from the features."""
        parameters = self.parameters
        first = int(np.searchsorted(self.kept, parameters.count * parameters.D))
        self._take(self.objective.hessian_among(w, self.kept, self.rows), first)
        if self.rows < self.objective.N:
            self.diagonal[:first] *= 1 + DAMPING
        assert self.M is not None
        self.M[0].flat[:: len(self.diagonal) + 1] = self.diagonal

    def arranged(self, v: Array) -> Vector:
        """Return the entries of v for the kept parameters."""
        return np.asarray(v, np.float64)[self.kept]

    def outward(self, d: Vector) -> Vector:
        """Return an arranged step as one of all parameters, 0 for those that are not kept."""
        step = np.zeros(self.parameters.size)
        step[self.kept] = super().outward(d)
        return step


def operations_among(X: Any, parameters: Parameters, kept: Indices) -> float:
    """Return about how many operations each row of X takes in the Hessian by the kept parameters."""
    n = len(kept)
    return min(n**2, PAIR * _pairs(X, parameters, kept)) if isinstance(X, CSR) else n**2


def _pairs(X: CSR, parameters: Parameters, kept: Indices) -> float:
    """Return the mean number of pairs of kept parameters whose features a row of X has, and of intercepts."""
    from scipy.sparse import csr_array  # not at the top, since it takes as long to import as NumPy

    D = parameters.D
    weights = np.bincount(kept[kept < parameters.count * D] % D, minlength=D)
    entries = X.scipy(np.float64)
    ones = csr_array((np.ones(len(entries.data)), entries.indices, entries.indptr), entries.shape)
    return float(np.square(ones @ weights + 1.0).mean()) + parameters.count


def hessian_among(
    rows: Rows,
    S: Array,  # (N, count) posteriors of the classes that have parameters
    parameters: Parameters,
    kept: Indices,
    *,
    moments: Vector | None = None,  # (2, D): a shift that is subtracted from each feature, and a scale that follows
    n_threads: int,
) -> Vector:
    """Return Σ_i s_i times the Hessian of row i's loss by the kept parameters alone, (n, n)."""
    assert dispatch.kernels is not None
    first, D = parameters.count * parameters.D, parameters.D
    X = rows.X
    if isinstance(X, CSR) and moments is None and operations_among(X, parameters, kept) < len(kept) ** 2:
        return _from_pairs(X.scipy(np.float64), np.sqrt(rows.weights()), S.astype(np.float64), parameters, kept)
    of_class = np.where(kept < first, kept // D, kept - first)
    feature = np.where(kept < first, kept % D, D)
    used = np.arange(D)
    if isinstance(rows.X, CSR):
        used, feature = np.unique(np.append(feature, D), return_inverse=True)
        used, feature = used[:-1], feature[:-1]
        moments = None if moments is None else np.ascontiguousarray(moments[:, used])
    # The columns of each class begin at a multiple of a vector.
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


def _from_pairs(X: Any, roots: Vector, S: Vector, parameters: Parameters, kept: Indices) -> Vector:
    """Return the same for sparse rows, the roots of whose weights are given, from the pairs of their entries.

    With A_i = (S_ik x_ij)_kj for the kept parameters it is Σ_i s_i (diag_k(S_ik x_i x_iᵀ) - A_i A_iᵀ).
    """
    from scipy.sparse import csc_array  # not at the top, since it takes as long to import as NumPy

    (N, D), count = X.shape, parameters.count
    first = int(np.searchsorted(kept, count * D))
    of_class, of_b = kept[:first] // D, kept[first:] - count * D
    columns = X.tocsc()
    columns.sum_duplicates()  # so that the products are symmetric to the bit
    columns = columns[:, kept[:first] % D]
    of_entry, at = np.repeat(of_class, np.diff(columns.indptr)), columns.indices.astype(np.intp)
    s_root, share = roots[at] * columns.data, S[at, of_entry]

    # The rows of `own` are samples in one class after the other, so that its pairs are those within a class.
    own = csc_array((s_root * np.sqrt(share), of_entry * N + at, columns.indptr), shape=(count * N, first))
    A = csc_array((s_root * share, at, columns.indptr), shape=(N, first))
    H = np.empty((len(kept), len(kept)))
    H[:first, :first] = (own.T @ own - A.T @ A).toarray()
    weighted = roots[:, np.newaxis] * S
    beside = -(A.T @ weighted)
    beside[np.arange(first), of_class] += A.T @ roots
    corner = np.diag(np.square(roots) @ S) - np.einsum("ik,il->kl", weighted, weighted)
    H[:first, first:] = beside[:, of_b]
    H[first:, :first] = H[:first, first:].T
    H[first:, first:] = corner[np.ix_(of_b, of_b)]
    return H


def _as_arrays(rows: Rows, used: Indices) -> Iterator[tuple[slice, Array]]:
    """Yield slices of the rows, each with X as a kernel reads it.

    Sparse rows become arrays of the used features, some rows at a time.
    """
    X = rows.X
    if not isinstance(X, CSR):
        yield slice(None), X if is_native(X, read_as(X.dtype)) else native(X, read_as(X.dtype))
        return
    at_once = max(1, DENSE_BYTES // (8 * max(1, len(used))))
    for start in range(0, len(rows), at_once):
        part = slice(start, start + at_once)
        yield part, np.ascontiguousarray(X[part].scipy(rows.dtype)[:, used].toarray())
