"""Few samples of many features: in the space that the samples span, the same fit has only N features.

    X Xᵀ = L Lᵀ (Cholesky)        Z = L (N, r)        X = L Q, Q (r, D) of orthonormal rows

The minimum of a loss with an L2 penalty is a combination of the samples, W = V Q, by the representer theorem (Kimeldorf
and Wahba, Journal of Mathematical Analysis and Applications 33, 1971): a component of W that is orthogonal to all
samples changes no score, and only adds to the penalty. Scores X Wᵀ = Z Vᵀ and penalty |W|² = |V|² are the same in both
spaces, and so is the objective.

The eigenvectors of X Xᵀ would serve as well, but are slower, and LAPACK's depend on the number of BLAS's threads; see
"The space of the samples" in docs/notes.md. The package's own kernels compute L in double (src/pass/gram.pxi). A sample
that is a combination of those before it adds no column to L, so repeated samples do no harm.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.calls import Prepared
from .._core.vectors import dots, largest, steady
from .._inputs.csr import CSR
from .._inputs.dtypes import F8, contiguous
from .._inputs.rows import Rows
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# X Xᵀ and its factor cost less than the passes that they save if there are at most MOST_ROWS samples, and at least
# FEATURES_PER_ROW features for each of them; or half as many features, if there are FEW_ROWS and more than two classes,
# which share the factor. See "The space of the samples" in docs/notes.md.
MOST_ROWS, FEW_ROWS, FEATURES_PER_ROW = 512, 128, 8
# X Xᵀ is summed over at most SLICES slices of the features at the same time, each of at least SLICE features. Ctrl-C is
# looked for after AT_ONCE multiplications, some tenths of a second.
SLICES, SLICE, AT_ONCE = 16, 1024, 2**32
# One thread multiplies fewer numbers than this in less time than a team of threads needs to start on a busy machine.
PARALLEL_PRODUCTS = 2**24
# A sample adds a direction if at least this part of its square is orthogonal to the samples before it. A smaller part
# is rounding.
NEW = 1e-12


def features_per_row(N: int, K: int) -> int:
    """Return with how many features for each of N samples a fit of K classes is faster in the space of the samples."""
    return FEATURES_PER_ROW // 2 if N <= FEW_ROWS and K > 2 else FEATURES_PER_ROW


def is_wide(N: int, D: int, K: int) -> bool:
    """Return whether a fit of N samples, D features and K classes is faster in the space of the samples."""
    return N <= MOST_ROWS and D >= features_per_row(N, K) * N


def space_of(rows: Rows, parameters: Parameters, n_threads: int) -> Prepared[RowsSpace | None] | None:
    """Return the call that finds the space of the samples, if features are far more, and a fit is faster there.

    Samples whose squares overflow have none.
    """
    X = rows.X
    if not is_wide(len(rows), parameters.D, parameters.K) or dispatch.kernels is None:
        return None
    if rows.narrow:
        X = X.astype(rows.dtype, order="C")
    if not isinstance(X, CSR) and X.dtype != rows.dtype:
        return None
    return spanned(X, parameters, n_threads)


def spanned(X: Any, parameters: Parameters, n_threads: int) -> Prepared[RowsSpace | None]:
    """Return the call that factors X Xᵀ, and so finds the space that the samples X span, if there is one."""
    kernels = dispatch.kernels
    assert kernels is not None
    X = X.scipy(np.float64) if isinstance(X, CSR) else contiguous(X, X.dtype)
    N, D = X.shape
    Z, R, kept = np.empty(N * N), np.empty(N * N), np.empty(N, np.intp)
    ld, space = kernels.gram_space(N)
    gram = np.zeros((N, ld))
    if not isinstance(X, np.ndarray):
        gram[:, :N] = (X @ X.T).toarray()
        X_last, work, sums, team = None, np.empty(space + N), None, 1
    else:
        team = n_threads if N * N * D >= PARALLEL_PRODUCTS else 1
        at_once, work = max(SLICE, AT_ONCE // N**2), np.empty(team * space + N)
        sums = np.empty((max(1, min(SLICES, min(D, at_once) // SLICE)), N, ld))
        last = D - 1 - (D - 1) % at_once
        for start in range(0, last, at_once):
            some = work[: team * space].reshape(team, space)
            kernels.gram_add(X[:, start : start + at_once], gram, some, sums, team)
        X_last = X[:, last:]
    call = kernels.Factoring(X_last, gram, work, sums, NEW, Z=Z, R=R, kept=kept, n_threads=team)

    def result() -> RowsSpace | None:
        space = RowsSpace(X, parameters, n_threads, Z, R, kept, call.rank)
        return space if call.rank and math.isfinite(largest(space.Z.reshape(-1))) else None

    return Prepared(call, result)


class RowsSpace:
    """The space that the samples X span, and their coordinates in it, `Z` (N, r) float64.

    `kept` has the numbers of the r samples that added a direction, `R` (r, r) their rows of L, transposed. `wide` and
    `narrow` are the layouts of the parameters in all features and in this space.
    """

    def __init__(
        self,
        X: Any,  # (N, D): an array of float32 or float64, or SciPy's
        parameters: Parameters,
        n_threads: int,
        Z: Vector,  # from here on what the call of `spanned` has found, in room for r = N
        R: Vector,
        kept: npt.NDArray[np.intp],
        r: int,
    ) -> None:
        N = X.shape[0]
        self.X, self.wide, self.n_threads = X, parameters, n_threads
        self.Z, self.R, self.kept = Z[: N * r].reshape(N, r), R[: r * r].reshape(r, r), kept[:r]
        self.narrow = Parameters(parameters.K, r, parameters.intercept, parameters.binary)

    def lower(self, w: Array) -> Vector:
        """Return the parameters in this space that give the same scores as w."""
        assert dispatch.kernels is not None
        if largest(steady(w)) == 0:  # not by NumPy, which lets the GIL go for a vector of more than 500 numbers
            return np.zeros(self.narrow.size)
        V = np.zeros((self.wide.count, len(self.kept)))
        for v, row in zip(V, self.wide.weights(w).astype(np.float64), strict=True):
            v[:] = (dots(self.X, row, n_threads=self.n_threads) if self._dense else self.X @ row)[self.kept]
        dispatch.kernels.triangle_solve(self.R, V, True)
        return self.narrow.join(V, self.wide.intercepts(w))

    def lift(self, *vectors: Array) -> list[Vector]:
        """Return each vector of parameters of this space, or gradient by them, in the coordinates of all features."""
        prepared = self.lifting(*vectors)
        if prepared is not None:
            return prepared.run()
        assert dispatch.kernels is not None
        V = np.concatenate([self.narrow.weights(v) for v in vectors])
        dispatch.kernels.triangle_solve(self.R, V, False)
        shares = np.zeros((self.X.shape[0], len(V)))
        shares[self.kept] = V.T
        each = np.split((self.X.T @ shares).T, len(vectors))
        return [self.wide.join(W, self.narrow.intercepts(v)) for W, v in zip(each, vectors, strict=True)]

    def lifting(self, *vectors: Array) -> Prepared[list[Vector]] | None:
        """Return the call that `lift` makes, or None if X is sparse."""
        if not self._dense:
            return None
        kernels, (N, D), count = dispatch.kernels, self.X.shape, self.wide.count
        assert kernels is not None
        V, W = np.array(vectors, np.float64), np.empty((len(vectors), self.wide.size))
        n_threads = self.n_threads if N * D * len(V) * count >= PARALLEL_PRODUCTS else 1
        call = kernels.Lifting(self.X, self.R, self.kept, V, W, count, n_threads)
        return Prepared(call, lambda: list(W), (kernels.lift_space(N, D, len(V) * count, n_threads), F8, 0))

    @property
    def _dense(self) -> bool:
        """Whether X is an array, not sparse."""
        return isinstance(self.X, np.ndarray)

    def bounds(self, grad: Vector) -> tuple[float, float]:
        """Return about what the largest component of a gradient is after `lift`, and what it is at most.

        They follow from the norms of its rows, which `lift` does not change, and mostly spare the call of `lift`.
        """
        assert dispatch.kernels is not None
        likely, most = dispatch.kernels.gradient_bounds(grad, self.narrow.count, self.narrow.D, self.wide.D)
        return likely, most
