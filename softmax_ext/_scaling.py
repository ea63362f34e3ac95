"""Standardised features without a scaled X: scores of (x - mean) / scale are scores of x, for other coefficients.

    v (x - mean) / scale + c  =  w x + b        w = v / scale,  b = c - w mean

That is a linear map T of parameters. An objective of (w, b) is one of (v, c), with Tᵀ times the gradient and
Tᵀ H T for the Hessian; a penalty on v is added here. So passes read X as it lies, dense, narrow or sparse. Without
an intercept c is 0, and b is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from ._descent import Descent, Solution
from ._fisher import Easing, Fisher, easing
from ._parameters import Parameters
from ._penalty import Penalty
from ._rows import Rows
from ._solvers import minimize
from ._sparse import CSR
from ._vectors import combine, dots
from .objective import SoftmaxObjective, objective_of

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Entries of X that are widened to float64 at a time: they stay in the second cache.
AT_ONCE = 2**16


class Scaling:
    """Mean and scale of each feature, (D,) float64, as scikit-learn's StandardScaler has them.

    What always holds: a constant feature has the scale 1, and its coefficient is 0 (`inverse` is 0 there, and 1 / scale
    elsewhere).
    """

    __slots__ = ("inverse", "mean", "scale")

    def __init__(self, mean: Vector, variance: Vector, total: float) -> None:
        eps = np.finfo(np.float64).eps
        # What rounding leaves of a constant feature: scikit-learn's bound, in sklearn.preprocessing._data.
        constant = variance <= total * eps * variance + (total * mean * eps) ** 2
        self.mean, self.scale = mean, np.where(constant, 1.0, np.sqrt(variance))
        with np.errstate(divide="ignore"):
            self.inverse = np.where(constant, 0.0, 1 / self.scale)

    @classmethod
    def of(cls, X: Any, weights: Array | None = None, n_threads: int = 1) -> Self:
        """Take the moments of X (N, D), an array, our CSR or SciPy's, by one pass; weights (N,) as StandardScaler's.

        Blocks of rows are joined as by Chan, Golub and LeVeque (The American Statistician 37, 1983): no large mean
        hides a small variance.
        """
        N, D = X.shape
        weights = np.ones(N) if weights is None else weights
        mean, squares, total = np.zeros(D), np.zeros(D), 0.0
        entries = D if isinstance(X, np.ndarray) else max(1, X.nnz // N)
        at_once = max(1, AT_ONCE // entries)
        for start in range(0, N, at_once):
            block = X[start : start + at_once]
            s = np.asarray(weights[start : start + at_once], np.float64)
            if not (share := float(s.sum())):
                continue
            with np.errstate(all="ignore"):  # what is not finite makes the first value NaN, and is told then
                if isinstance(block, np.ndarray):
                    here, spread = _moments(block, s, share, n_threads)
                else:
                    here, spread = _sparse_moments(block, s, share)
                step, total = here - mean, total + share
                mean += step * (share / total)
                squares += spread + step**2 * (share * (total - share) / total)
        return cls(mean, squares / total, total)

    def raw(self, parameters: Parameters, v: Array) -> Vector:
        """Return [W, row after row; b] of x, from the parameters of standardised features."""
        V, c = parameters.views(np.asarray(v, np.float64))
        W = V * self.inverse
        b = -dots(W, self.mean)
        return np.concatenate([W.ravel(), b if c is None else c + b])

    def standardised(self, parameters: Parameters, w: Array) -> Vector:
        """Return the parameters of standardised features with the scores of w, if there are: `raw` undone."""
        W, b = _raw_views(parameters, np.asarray(w, np.float64))
        V = W * self.scale * (self.inverse > 0)
        return parameters.join(V, b + dots(V * self.inverse, self.mean) if parameters.intercept else None)

    def pulled(self, parameters: Parameters, grad: Vector) -> Vector:
        """Return Tᵀ times a gradient for [W, row after row; b]."""
        dW, db = _raw_views(parameters, grad)
        return parameters.join(
            (dW - np.multiply.outer(db, self.mean)) * self.inverse, db if parameters.intercept else None
        )


class StandardisedObjective:
    """f(v) = J(T v) + the penalty of v: what a `SoftmaxObjective` of scaled samples is, up to rounding.

    It is for minimisers, as `SoftmaxObjective` is; `raw` and `standardised` take vectors there and back.
    """

    def __init__(
        self, rows: Rows, parameters: Parameters, penalty: Penalty, scaling: Scaling, n_threads: int | None = None
    ) -> None:
        wide = Parameters(parameters.K, parameters.D, True, parameters.binary)
        self.inner: SoftmaxObjective = objective_of(rows, wide, Penalty(), n_threads=n_threads)
        self.parameters, self.penalty, self.scaling = parameters, penalty, scaling
        self.N, self.D, self.K, self.m = self.inner.N, parameters.D, parameters.K, self.inner.m
        self.dtype, self.n_threads = self.inner.dtype, self.inner.n_threads

    @property
    def size(self) -> int:
        """Entries of v."""
        return self.parameters.size

    def raw(self, v: Array) -> Vector:
        """Return the coefficients of x, and always an intercept."""
        return self.scaling.raw(self.parameters, self.parameters.vector(v))

    def standardised(self, w: Array) -> Vector:
        """Return the v of such coefficients."""
        return self.scaling.standardised(self.parameters, w)

    def value(self, v: Array) -> float:
        """Return f(v)."""
        return self.inner.value(self.raw(v)) + self.penalty.value(self.parameters.weights(v), self.n_threads)

    def value_and_grad(self, v: Array) -> tuple[float, Vector]:
        """Return f(v) and its gradient, (size,) float64."""
        value, grad = self.inner.value_and_grad(self.raw(v))
        grad, weights = self.scaling.pulled(self.parameters, grad), self.parameters.weights
        self.penalty.add_gradient(weights(v), weights(grad))
        return value + self.penalty.value(weights(v), self.n_threads), grad

    def hessp(self, v: Array, u: Array) -> Vector:
        """Return the Hessian at v times u, (size,) float64."""
        product = self.scaling.pulled(self.parameters, self.inner.hessp(self.raw(v), self.raw(u)))
        self.penalty.add_product(self.parameters.weights(u), self.parameters.weights(product))
        return product

    def hessian(self, v: Array) -> Vector:
        """Return the Hessian at v, (size, size) float64: for few parameters."""
        H = self._each_pulled(self._each_pulled(self.inner.hessian(self.raw(v))).T)
        self.penalty.add_hessian(self.parameters, H)
        return H

    def _each_pulled(self, rows: Iterable[Vector]) -> Vector:
        return np.array([self.scaling.pulled(self.parameters, row) for row in rows])

    def easing(self) -> Easing | None:
        """Return the extra penalty from which a fit had better begin."""
        return easing(self.parameters, self.penalty, self._mean_squares(), self.N)

    def preconditioner(self, v: Vector, extra: Vector | None = None) -> Fisher:
        """Return what multiplies a vector by an approximate inverse of the Hessian at v."""
        return self.inner.fisher(
            v,
            self.parameters,
            self.penalty,
            extra,
            mean_squares=self._mean_squares(),
            raw=self.raw,
            standard=(self.scaling.mean, self.scaling.inverse),
        )

    def _mean_squares(self) -> Vector:
        """Return those of standardised features, and that of the intercept."""
        squares = np.ones(self.parameters.each)
        squares[: self.D] = self.scaling.inverse > 0
        return squares


def _raw_views(parameters: Parameters, w: Vector) -> tuple[Array, Array]:
    """Return W (count, D) and b (count,), views of coefficients of x."""
    size = parameters.count * parameters.D
    return w[:size].reshape(parameters.count, parameters.D), w[size:]


def _moments(block: Array, s: Vector, share: float, n_threads: int) -> tuple[Vector, Vector]:
    """Return the weighted mean of each column, and Σ s (x - mean)²."""
    wide, zero = block.astype(np.float64, order="C"), np.zeros(block.shape[1])
    mean = combine(0.0, zero, s / share, wide, n_threads=n_threads)
    wide -= mean
    np.square(wide, out=wide)
    return mean, combine(0.0, zero, s, wide, n_threads=n_threads)


def _sparse_moments(block: Any, s: Vector, share: float) -> tuple[Vector, Vector]:
    """Return the same of sparse rows, whose entries for one feature add up."""
    rows = block.scipy(np.float64) if isinstance(block, CSR) else block.astype(np.float64)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    D, of_entry = rows.shape[1], np.repeat(s, np.diff(rows.indptr))
    mean = np.bincount(rows.indices, of_entry * rows.data, D) / share
    spread = np.bincount(rows.indices, of_entry * (rows.data - mean[rows.indices]) ** 2, D)
    return mean, spread + (share - np.bincount(rows.indices, of_entry, D)) * mean**2


def minimize_standardised(
    objective: StandardisedObjective,
    w: Vector,
    solver: str,
    *,
    tol: float,
    max_iter: int,
    callback: Callable[..., object] | None,
    begun: Callable[[Descent], object] | None = None,
) -> Solution:
    """Minimise as `minimize` does; w, the callback's w and the solution's are coefficients of x, `objective.raw`."""

    def told(iteration: int, value: float, gradient: float, w: Array) -> object:
        assert callback is not None
        return callback(iteration, value, gradient, objective.raw(w))

    start, tell = objective.standardised(w), None if callback is None else told
    solution = minimize(objective, start, solver, tol=tol, max_iter=max_iter, callback=tell, begun=begun)
    return solution._replace(w=objective.raw(solution.w))
