"""Few samples of many features: the space that the samples span, in which the same fit has N features.

    X Xᵀ = L Lᵀ (Cholesky)        Z = L (N, r)        X = L Q, Q (r, D) of orthonormal rows

The minimum of a loss with an L2 penalty is a combination of the samples, W = V Q, by the representer theorem (Kimeldorf
and Wahba, Journal of Mathematical Analysis and Applications 33, 1971): what is orthogonal to all of them changes no
score, and only adds to the penalty. Scores X Wᵀ = Z Vᵀ and penalty |W|² = |V|² are the same, and so is the objective.

The eigenvectors of X Xᵀ would do as well, but take ten times as long, and LAPACK's have other bits when BLAS has other
threads. All of this is done in double by kernels of our own (src/pass/gram.pxi); what is in no new direction leaves no
column, so repeated samples are no trouble.
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

# Samples at most, and features for each at least, where X Xᵀ and its factor cost less than the passes that they save.
MOST_ROWS, FEATURES_PER_ROW = 512, 16
# Slices of the features that are summed up side by side, at most, and features of one, at least; and products between
# two looks for Ctrl-C, some tenths of a second.
SLICES, SLICE, AT_ONCE = 16, 1024, 2**32
# Part of a sample's square that must be new for a direction of its own: beyond, a sum of squares is rounding.
NEW = 1e-12


def is_wide(N: int, D: int) -> bool:
    """Tell whether a fit had better go by the rows' space."""
    return N <= MOST_ROWS and D >= FEATURES_PER_ROW * N


class RowsSpace:
    """The samples X in coordinates of the space that they span: `Z`, (N, r) float64."""

    def __init__(self, X: Any, parameters: Parameters, n_threads: int) -> None:
        self.n_threads, self.wide = n_threads, parameters
        self.X: Any = X.scipy(np.float64) if isinstance(X, CSR) else np.require(X, X.dtype, ["C", "A"])
        self.Z, self.R, self.kept = cholesky(self._gram())
        self.narrow = Parameters(parameters.K, self.Z.shape[1], parameters.intercept, parameters.binary)

    def _gram(self) -> Vector:
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
        """Return the parameters of the same scores in the rows' space: w without what no sample sees."""
        V = np.zeros((self.wide.count, len(self.kept)))
        if w.any():
            for v, row in zip(V, self.wide.weights(w).astype(np.float64), strict=True):
                v[:] = (dots(self.X, row, n_threads=self.n_threads) if self._dense else self.X @ row)[self.kept]
            self._solve(V, True)
        return self.narrow.join(V, self.wide.intercepts(w))

    def lift(self, *vectors: Array) -> list[Vector]:
        """Return each v, or a gradient for it, in the coordinates of all features."""
        V = np.concatenate([self.narrow.weights(v) for v in vectors])
        self._solve(V, False)
        shares = np.zeros((self.X.shape[0], len(V)))
        shares[self.kept] = V.T
        W = combinations(self.X, shares, self.n_threads) if self._dense else (self.X.T @ shares).T
        each = np.split(W, len(vectors))
        return [self.wide.join(W, self.narrow.intercepts(v)) for W, v in zip(each, vectors, strict=True)]

    def _solve(self, V: Vector, transposed: bool) -> None:
        """Turn rows of V from coordinates into shares of the samples that are kept; transposed: from scores back."""
        assert dispatch.kernels is not None
        dispatch.kernels.triangle_solve(self.R, V, transposed)

    @property
    def _dense(self) -> bool:
        return isinstance(self.X, np.ndarray)

    def bounds(self, grad: Vector) -> tuple[float, float]:
        """Return what the largest component of a gradient that is lifted is at least, and at most: by rows' norms."""
        V, b = self.narrow.weights(grad), self.narrow.intercepts(grad)
        norm = float(np.sqrt(np.square(V).sum(axis=1).max()))
        of_b = 0.0 if b is None else float(np.abs(b).max())
        return max(norm / np.sqrt(self.wide.D), of_b), max(norm, of_b)


def cholesky(gram: Vector) -> tuple[Vector, Vector, npt.NDArray[np.intp]]:
    """Return L (N, r) with L Lᵀ = gram, those of its rows that led to a column, transposed, and which they are.

    The upper triangle of `gram` is read, and overwritten.
    """
    assert dispatch.kernels is not None
    N = len(gram)
    inverse = np.empty(N)  # of the diagonal's root
    dispatch.kernels.gram_factor(gram, inverse, np.empty(dispatch.kernels.gram_space(N)[1]), NEW)
    U = np.triu(gram[:, :N]) / inverse
    kept = np.flatnonzero(gram.diagonal())
    return U[kept].T.copy(), U[np.ix_(kept, kept)], kept
