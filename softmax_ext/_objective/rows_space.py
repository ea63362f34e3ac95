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

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import combinations, dots
from .._inputs.csr import CSR
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# X Xᵀ and its factor cost less than the passes that they save if there are at most MOST_ROWS samples, and at least
# FEATURES_PER_ROW features for each of them; see "The space of the samples" in docs/notes.md.
MOST_ROWS, FEATURES_PER_ROW = 512, 8
# X Xᵀ is summed over at most SLICES slices of the features at the same time, each of at least SLICE features. Ctrl-C is
# looked for after AT_ONCE multiplications, some tenths of a second.
SLICES, SLICE, AT_ONCE = 16, 1024, 2**32
# A sample adds a direction if at least this part of its square is orthogonal to the samples before it. A smaller part
# is rounding.
NEW = 1e-12


def is_wide(N: int, D: int) -> bool:
    """Return whether a fit of N samples and D features is faster in the space of the samples."""
    return N <= MOST_ROWS and D >= FEATURES_PER_ROW * N


class RowsSpace:
    """The space that the samples X span, and their coordinates in it, `Z` (N, r) float64.

    `kept` has the numbers of the r samples that added a direction, `R` (r, r) their rows of L, transposed. `wide` and
    `narrow` are the layouts of the parameters in all features and in this space.
    """

    def __init__(self, X: Any, parameters: Parameters, n_threads: int) -> None:
        self.n_threads, self.wide = n_threads, parameters
        self.X: Any = X.scipy(np.float64) if isinstance(X, CSR) else np.require(X, X.dtype, ["C", "A"])
        self.Z, self.R, self.kept = cholesky(self._gram())
        self.narrow = Parameters(parameters.K, self.Z.shape[1], parameters.intercept, parameters.binary)

    def _gram(self) -> Vector:
        """Return the upper triangle of X Xᵀ, in rows that are padded as the kernels need it."""
        kernels, (N, D) = dispatch.kernels, self.X.shape
        assert kernels is not None
        ld, space = kernels.gram_space(N)
        gram = np.zeros((N, ld))
        if not self._dense:
            gram[:, :N] = (self.X @ self.X.T).toarray()
            return gram
        work, at_once = np.empty((self.n_threads, space)), max(SLICE, AT_ONCE // N**2)
        sums = np.empty((max(1, min(SLICES, min(D, at_once) // SLICE)), N, ld))
        for start in range(0, D, at_once):
            kernels.gram_add(self.X[:, start : start + at_once], gram, work, sums, self.n_threads)
        return gram

    def lower(self, w: Array) -> Vector:
        """Return the parameters in this space that give the same scores as w."""
        V = np.zeros((self.wide.count, len(self.kept)))
        if w.any():
            for v, row in zip(V, self.wide.weights(w).astype(np.float64), strict=True):
                v[:] = (dots(self.X, row, n_threads=self.n_threads) if self._dense else self.X @ row)[self.kept]
            self._solve(V, True)
        return self.narrow.join(V, self.wide.intercepts(w))

    def lift(self, *vectors: Array) -> list[Vector]:
        """Return each vector of parameters of this space, or gradient by them, in the coordinates of all features."""
        V = np.concatenate([self.narrow.weights(v) for v in vectors])
        self._solve(V, False)
        shares = np.zeros((self.X.shape[0], len(V)))
        shares[self.kept] = V.T
        W = combinations(self.X, shares, self.n_threads) if self._dense else (self.X.T @ shares).T
        each = np.split(W, len(vectors))
        return [self.wide.join(W, self.narrow.intercepts(v)) for W, v in zip(each, vectors, strict=True)]

    def _solve(self, V: Vector, transposed: bool) -> None:
        """Replace each row v of V, coordinates in this space, by the shares of the kept samples whose sum it is.

        If `transposed`, replace scores of the kept samples by the coordinates that give them.
        """
        assert dispatch.kernels is not None
        dispatch.kernels.triangle_solve(self.R, V, transposed)

    @property
    def _dense(self) -> bool:
        """Whether X is an array, not sparse."""
        return isinstance(self.X, np.ndarray)

    def bounds(self, grad: Vector) -> tuple[float, float]:
        """Return a lower and an upper bound of the largest component that a gradient has after `lift`.

        They follow from the norms of its rows, which `lift` does not change, and often spare the call of `lift`.
        """
        V, b = self.narrow.weights(grad), self.narrow.intercepts(grad)
        norm = float(np.sqrt(np.square(V).sum(axis=1).max()))
        of_b = 0.0 if b is None else float(np.abs(b).max())
        return max(norm / np.sqrt(self.wide.D), of_b), max(norm, of_b)


def cholesky(gram: Vector) -> tuple[Vector, Vector, npt.NDArray[np.intp]]:
    """Return L (N, r) with L Lᵀ = gram; the transpose of the rows of L that added a column; and their numbers.

    Of `gram` the upper triangle is read, and overwritten.
    """
    assert dispatch.kernels is not None
    N = len(gram)
    inverse = np.empty(N)  # one over the roots of the diagonal
    dispatch.kernels.gram_factor(gram, inverse, np.empty(dispatch.kernels.gram_space(N)[1]), NEW)
    U = np.triu(gram[:, :N]) / inverse
    kept = np.flatnonzero(gram.diagonal())
    return U[kept].T.copy(), U[np.ix_(kept, kept)], kept
