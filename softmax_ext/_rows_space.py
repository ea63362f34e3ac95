"""Few samples of many features: the space that the samples span, in which the same fit has N features.

    X Xᵀ = L Lᵀ (Cholesky)        Z = L (N, r)        X = L Q, Q (r, D) of orthonormal rows

The minimum of a loss with an L2 penalty is a combination of the samples, W = V Q, by the representer theorem (Kimeldorf
and Wahba, Journal of Mathematical Analysis and Applications 33, 1971): what is orthogonal to all of them changes no
score, and only adds to the penalty. Scores X Wᵀ = Z Vᵀ and penalty |W|² = |V|² are the same, and so is the objective.

The eigenvectors of X Xᵀ would do as well. Cholesky's columns are made here, since LAPACK's eigenvectors have other bits
when BLAS has other threads; what is in no new direction leaves no column, so repeated samples are no trouble.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._parameters import Parameters
from ._sparse import CSR
from ._vectors import combine, dots

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Samples at most, and features for each at least, where X Xᵀ and its factor cost less than the passes that they save.
MOST_ROWS, FEATURES_PER_ROW = 512, 16
# Entries of X that are widened to float64 at a time.
AT_ONCE = 2**20
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
        self.Z, self.kept = cholesky(self._gram())
        self.inverse = inverted(self.Z[self.kept])
        self.narrow = Parameters(parameters.K, self.Z.shape[1], parameters.intercept, parameters.binary)

    def _gram(self) -> Vector:
        N, D = self.X.shape
        if not isinstance(self.X, np.ndarray):
            found: Vector = (self.X @ self.X.T).toarray()
            return found
        gram, at_once = np.zeros((N, N)), max(1, AT_ONCE // N)
        for start in range(0, D, at_once):
            part = self.X[:, start : start + at_once].astype(np.float64, copy=False)
            gram += part @ part.T
        return gram

    def lower(self, w: Array) -> Vector:
        """Return the parameters of the same scores in the rows' space: w without what no sample sees."""
        V = np.zeros((self.wide.count, len(self.kept)))
        if w.any():
            for v, row in zip(V, self.wide.weights(w).astype(np.float64), strict=True):
                scores = dots(self.X, row, n_threads=self.n_threads) if self._dense else self.X @ row
                v[:] = (self.inverse * scores[self.kept]).sum(axis=1)
        return self.narrow.join(V, self.wide.intercepts(w))

    def lift(self, *vectors: Array) -> list[Vector]:
        """Return each v, or a gradient for it, in the coordinates of all features."""
        return [self._lifted(v) for v in vectors]

    def _lifted(self, v: Array) -> Vector:
        V, shares = self.narrow.weights(v), np.zeros((self.wide.count, len(self.Z)))
        for row, of_samples in zip(V, shares, strict=True):
            of_samples[self.kept] = (self.inverse * row[:, np.newaxis]).sum(axis=0)
        if self._dense:
            zero = np.zeros(self.wide.D)
            W = np.stack([combine(0.0, zero, row, self.X, n_threads=self.n_threads) for row in shares])
        else:
            W = np.stack([self.X.T @ row for row in shares])
        return self.wide.join(W, self.narrow.intercepts(v))

    @property
    def _dense(self) -> bool:
        return isinstance(self.X, np.ndarray)

    def bounds(self, grad: Vector) -> tuple[float, float]:
        """Return what the largest component of a gradient that is lifted is at least, and at most: by rows' norms."""
        V, b = self.narrow.weights(grad), self.narrow.intercepts(grad)
        norm = float(np.sqrt(np.square(V).sum(axis=1).max()))
        of_b = 0.0 if b is None else float(np.abs(b).max())
        return max(norm / np.sqrt(self.wide.D), of_b), max(norm, of_b)


def cholesky(gram: Vector) -> tuple[Vector, npt.NDArray[np.intp]]:
    """Return L (N, r) with L Lᵀ = gram, and the r rows that led to its columns. It is overwritten."""
    columns, kept, squares = [], [], gram.diagonal().copy()
    for i in range(len(gram)):
        if gram[i, i] > NEW * squares[i]:
            column = gram[:, i] / np.sqrt(gram[i, i])
            column[:i] = 0
            gram[i:, i:] -= np.multiply.outer(column[i:], column[i:])
            columns.append(column)
            kept.append(i)
    return np.array(columns).reshape(-1, len(gram)).T.copy(), np.array(kept, np.intp)


def inverted(L: Vector) -> Vector:
    """Return the inverse of a lower triangular matrix."""
    inverse = np.eye(len(L))
    for i in range(len(L)):
        inverse[i] /= L[i, i]
        inverse[i + 1 :, : i + 1] -= np.multiply.outer(L[i + 1 :, i], inverse[i, : i + 1])
    return inverse
