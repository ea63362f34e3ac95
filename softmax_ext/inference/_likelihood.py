"""The mean loss of a logit model whose first class has no coefficients, computed by the fused pass.

    theta = [W_1; ...; W_{K-1}]   row after row, W_0 = 0    f(theta) = J(W), the mean loss of softmax_ext/reference.py

Tables of standard errors have this parametrisation: without a penalty the rows of W are only determined up to a vector
that is added to all of them, so that the information of all rows is singular.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._objective.binomial import BinomialObjective
from .._objective.memory import SoftmaxObjective
from .._objective.parameters import Parameters
from ..functional import predict_proba

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# How many doubles an array has that is made for a block of samples: 16 MiB.
BLOCK = 2**21


def blocks(N: int, width: int) -> Iterator[slice]:
    """Yield slices of N rows, such that an array with `width` numbers for each row of one has at most BLOCK."""
    rows = max(1, BLOCK // max(width, 1))
    for start in range(0, N, rows):
        yield slice(start, min(start + rows, N))


def dense(X: Any) -> Vector:
    """Return a block of samples as an array of float64."""
    return np.asarray(X.toarray() if scipy.sparse.issparse(X) else X, np.float64)


def beside_first(offset: Vector) -> Vector:
    """Return an offset of all classes but the first, (n, K - 1), with a column of 0 for the first."""
    return np.column_stack([np.zeros(len(offset)), offset])


class Likelihood:
    """f(theta), its derivatives, and each sample's loss, posteriors, residuals and scores.

    Parameters
    ----------
    X : array or CSR, shape (N, D)
        Samples, with a column of ones if there is an intercept.
    y : array, shape (N,) or (N, K)
        Classes 0..K-1, or probabilities.
    K : int
        Number of classes.
    weights : array, shape (N,), optional
        How often each sample was seen; by default once.
    offset : array, shape (N, K - 1), optional
        Added to the scores of all classes but the first.
    n_threads : int, optional
        Number of threads; by default softmax_ext's own.
    """

    def __init__(
        self,
        X: Any,
        y: Array,
        K: int,
        *,
        weights: Vector | None = None,
        offset: Vector | None = None,
        n_threads: int | None = None,
    ) -> None:
        (self.N, self.D), self.K = X.shape, K
        self.X, self.y, self.weights = X, y, weights
        self.offset = None if offset is None else beside_first(offset)
        binary = Parameters.of_model(K, self.D, False).binary
        kind = BinomialObjective if binary else SoftmaxObjective
        self.objective = kind(
            X, y, sample_weight=weights, fit_intercept=False, n_threads=n_threads, K=K, offset=self.offset
        )
        self.m = self.objective.m
        self._free = slice(self.objective.size - self.size, None)

    @property
    def size(self) -> int:
        """Length of theta."""
        return int((self.K - 1) * self.D)

    def _whole(self, theta: npt.ArrayLike) -> Vector:
        w = np.zeros(self.objective.size)
        w[self._free] = np.asarray(theta, np.float64)
        return w

    def coefficients(self, theta: npt.ArrayLike) -> Vector:
        """Return W (K, D), whose first row is 0."""
        W = np.zeros((self.K, self.D))
        W[1:] = np.reshape(theta, (self.K - 1, self.D))
        return W

    def value(self, theta: npt.ArrayLike) -> float:
        """Return f(theta)."""
        return self.objective.value(self._whole(theta))

    def value_and_grad(self, theta: npt.ArrayLike) -> tuple[float, Vector]:
        """Return f(theta) and its gradient."""
        value, grad = self.objective.value_and_grad(self._whole(theta))
        return value, grad[self._free]

    def hessian(self, theta: npt.ArrayLike) -> Vector:
        """Return the Hessian of f, which is the mean information of the samples."""
        H = self.objective.hessian(self._whole(theta))
        return H[self._free, self._free].copy() if len(H) > self.size else H

    def hessp(self, theta: npt.ArrayLike, v: npt.ArrayLike) -> Vector:
        """Return the Hessian of f times v."""
        return self.objective.hessp(self._whole(theta), self._whole(v))[self._free]

    def losses(self, theta: npt.ArrayLike) -> Vector:
        """Return each sample's loss (N,), not multiplied by its weight."""
        return self.objective.evaluate(self._whole(theta)).losses

    def probabilities(self, theta: npt.ArrayLike, rows: slice | Array = slice(None)) -> Vector:
        """Return the posteriors S (n, K) of some rows."""
        W, offset = self.coefficients(theta), None if self.offset is None else self.offset[rows]
        S = predict_proba(self.X[rows], W, offset=offset, n_threads=self.objective.n_threads)
        return np.asarray(S, np.float64)

    def residuals(self, theta: npt.ArrayLike, rows: slice | Array = slice(None)) -> Vector:
        """Return Y - S (n, K) of some rows, the negative of the project's residual S - Y."""
        R = -self.probabilities(theta, rows)
        if self.y.ndim == 2:
            R *= self.y[rows].sum(axis=1, keepdims=True)
            R += self.y[rows]
        else:
            R[np.arange(len(R)), self.y[rows]] += 1
        return R

    def scores(self, theta: npt.ArrayLike, rows: slice | Array) -> Vector:
        """Return the derivative (Y - S)_k x_d of each sample's log-likelihood, (n, size), without its weight."""
        R, X = self.residuals(theta, rows)[:, 1:], dense(self.X[rows])
        return np.asarray((R[:, :, np.newaxis] * X[:, np.newaxis, :]).reshape(len(R), self.size))

    def sizes(self) -> Vector:
        """Return the root mean square of each parameter's column, or 1 for a column of zeros."""
        squares = np.zeros(self.D)
        for rows in blocks(self.N, self.D):
            X = dense(self.X[rows])
            squares += np.einsum("ij,ij->j", X, X)
        size = np.sqrt(squares / self.N)
        return np.tile(np.where(size > 0, size, 1.0), self.K - 1)


def gram(X: Vector) -> Vector:
    """Return XᵀX / N, as four times the Hessian of two classes at 0: its pass does not wait for threads of a BLAS."""
    objective = BinomialObjective(X, np.zeros(len(X), np.intp), fit_intercept=False)
    return 4 * objective.hessian(np.zeros(objective.size))
