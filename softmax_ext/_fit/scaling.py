"""Standardised features without a scaled copy of X: other coefficients give x the scores of (x - mean) / scale.

    v (x - mean) / scale + c  =  w x + b        w = v / scale,  b = c - w mean

This is a linear map T of the parameters. An objective of (w, b) becomes one of (v, c), whose gradient is Tᵀ times the
gradient and whose Hessian is Tᵀ H T; the penalty on v is added here. So passes read X in place, dense, narrow or
sparse. Without an intercept c is 0, but b is not.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self, cast

import numpy as np
import numpy.typing as npt

from .._core.calls import Steps
from .._core.coordinates import Columns
from .._core.vectors import combine, dots
from .._inputs.csr import CSR
from .._inputs.rows import Rows
from .._objective.binomial import BinomialObjective, objective_of
from .._objective.entries import scaled
from .._objective.fisher import Easing, Fisher, easing
from .._objective.memory import SoftmaxObjective
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Pieces, PiecesObjective
from .._optim.descent import Descent, Solution
from .._optim.solvers import steps

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# How many entries of X are converted to float64 at a time, so that they stay in the second-level cache.
AT_ONCE = 2**16


class Moments(NamedTuple):
    """The sum of some rows' weights, and each feature's weighted mean and sum of squares about the mean, (D,)."""

    total: float
    mean: Vector
    squares: Vector

    def joined(self, other: Moments) -> Moments:
        """Return the moments of the rows of both.

        The formula is that of Chan, Golub and LeVeque (The American Statistician 37, 1983), by which a large mean does
        not hide a small variance.
        """
        if not other.total:
            return self
        total = self.total + other.total
        with np.errstate(all="ignore"):  # NaN and infinity in X make the first objective NaN, which raises the error
            step = other.mean - self.mean
            mean = self.mean + step * (other.total / total)
            return Moments(total, mean, self.squares + other.squares + step**2 * (other.total * self.total / total))


def moments(rows: Rows, n_threads: int = 1) -> Moments:
    """Return the moments of samples with their weights, joined from those of blocks in their order."""
    X, (N, D) = rows.X, rows.X.shape
    found = Moments(0.0, np.zeros(D), np.zeros(D))
    entries = D if isinstance(X, np.ndarray) else max(1, X.nnz // max(N, 1))
    at_once = max(1, AT_ONCE // entries)
    for start in range(0, N, at_once):
        block = X[start : start + at_once]
        s = np.ones(block.shape[0]) if rows.s is None else np.asarray(rows.s[start : start + at_once], np.float64)
        if not (share := float(s.sum())):
            continue
        with np.errstate(all="ignore"):
            if isinstance(block, np.ndarray):
                mean, squares = _moments(block, s, share, n_threads)
            else:
                mean, squares = _sparse_moments(block, s, share)
        found = found.joined(Moments(share, mean, squares))
    return found


class Scaling:
    """Mean and scale of each feature, (D,) float64, as scikit-learn's StandardScaler has them.

    A constant feature always has the scale 1 and the coefficient 0: its entry of `inverse` is 0, and other features'
    is 1 / scale.
    """

    __slots__ = ("inverse", "mean", "scale")

    def __init__(self, mean: Vector, variance: Vector, total: float) -> None:
        eps = np.finfo(np.float64).eps
        # Rounding may leave a constant feature some variance. The bound is that of sklearn.preprocessing._data.
        constant = variance <= total * eps * variance + (total * mean * eps) ** 2
        self.mean, self.scale = mean, np.where(constant, 1.0, np.sqrt(variance))
        with np.errstate(divide="ignore"):
            self.inverse = np.where(constant, 0.0, 1 / self.scale)

    @classmethod
    def of(cls, X: Any, weights: Array | None = None, n_threads: int = 1) -> Self:
        """Return the scaling of X (N, D), an array, our CSR or SciPy's; weights (N,) count as in StandardScaler."""
        return cls.of_pieces([moments(Rows(X, s=weights), n_threads)])

    @classmethod
    def of_pieces(cls, pieces: Iterable[Moments]) -> Self:
        """Return the scaling by the moments of all pieces, joined in their order."""
        found = functools.reduce(Moments.joined, pieces)
        return cls(found.mean, found.squares / found.total, found.total)

    def of_features(self, which: npt.NDArray[np.intp]) -> Scaling:
        """Return the scaling of some features alone."""
        other = copy.copy(self)
        other.mean, other.scale, other.inverse = self.mean[which], self.scale[which], self.inverse[which]
        return other

    def raw(self, parameters: Parameters, v: Array) -> Vector:
        """Return the coefficients of x, [W, row after row; b], for parameters of standardised features."""
        V, c = parameters.views(np.asarray(v, np.float64))
        W = V * self.inverse
        b = -dots(W, self.mean)
        return np.concatenate([W.ravel(), b if c is None else c + b])

    def standardised(self, parameters: Parameters, w: Array) -> Vector:
        """Return the parameters of standardised features for coefficients w of x: the inverse of `raw`."""
        W, b = _raw_views(parameters, np.asarray(w, np.float64))
        V = W * self.scale * (self.inverse > 0)
        return parameters.join(V, b + dots(V * self.inverse, self.mean) if parameters.intercept else None)

    def pulled(self, parameters: Parameters, grad: Vector) -> Vector:
        """Return Tᵀ times a gradient with respect to [W, row after row; b]."""
        dW, db = _raw_views(parameters, grad)
        return parameters.join(
            (dW - np.multiply.outer(db, self.mean)) * self.inverse, db if parameters.intercept else None
        )


class StandardisedObjective:
    """f(v) = J(T v) + the penalty of v, which equals the `SoftmaxObjective` of scaled samples up to rounding.

    J is an objective of rows in memory, or of pieces, with intercepts and without a penalty. Minimisers take this class
    as they take `SoftmaxObjective`. `raw` turns v into coefficients of x, and `standardised` turns these into v.
    """

    def __init__(
        self, inner: SoftmaxObjective | PiecesObjective, penalty: Penalty, scaling: Scaling, *, intercept: bool
    ) -> None:
        self.inner, self.penalty, self.scaling = inner, penalty, scaling
        wide = inner.parameters
        self.parameters = Parameters(wide.K, wide.D, intercept, wide.binary)
        self.N, self.D, self.K, self.m = inner.N, inner.parameters.D, inner.parameters.K, inner.m
        self.dtype, self.n_threads = inner.dtype, inner.n_threads

    def weighing(self, s: Vector, n_threads: int | None = None) -> Self:
        """Return the objective of the same rows and the same scaling, with other complete weights."""
        assert isinstance(self.inner, SoftmaxObjective)
        other = copy.copy(self)
        other.inner = self.inner.weighing(s, n_threads)
        other.m, other.n_threads = other.inner.m, other.inner.n_threads
        other.__dict__.pop("columns", None)  # cached for the weights before
        return other

    def beside(self, beside: Callable[..., Vector], fold: int | None) -> Self:
        """Return the objective of a fold with the same scaling; see `PiecesObjective.beside`."""
        assert isinstance(self.inner, PiecesObjective)
        other = copy.copy(self)
        other.inner = self.inner.beside(beside, fold)
        other.m, other.n_threads = other.inner.m, other.inner.n_threads
        return other

    @property
    def size(self) -> int:
        """Length of v."""
        return self.parameters.size

    def raw(self, v: Array) -> Vector:
        """Return the coefficients of x for v, always with intercepts."""
        return self.scaling.raw(self.parameters, self.parameters.vector(v))

    def standardised(self, w: Array) -> Vector:
        """Return v for coefficients of x, which include intercepts."""
        return self.scaling.standardised(self.parameters, w)

    def value(self, v: Array) -> float:
        """Return f(v)."""
        return self.inner.value(self.raw(v)) + self.penalty.value(self.parameters.weights(v), self.n_threads)

    def value_and_grad(self, v: Array) -> tuple[float, Vector]:
        """Return f(v) and its gradient, (size,) float64."""
        return self._pulled(v, *self.inner.value_and_grad(self.raw(v)))

    def _pulled(self, v: Array, value: float, grad: Vector) -> tuple[float, Vector]:
        """Return the value and the gradient at v, of those of the loss."""
        grad, weights = self.scaling.pulled(self.parameters, grad), self.parameters.weights
        self.penalty.add_gradient(weights(v), weights(grad))
        return value + self.penalty.value(weights(v), self.n_threads), grad

    @property
    def models_per_read(self) -> int:
        """See `BinomialObjective.models_per_read`."""
        return self.inner.models_per_read if isinstance(self.inner, BinomialObjective) else 0

    @staticmethod
    def together(objectives: Sequence[StandardisedObjective], at: Sequence[Vector]) -> list[tuple[float, Vector]]:
        """Return what `value_and_grad` of each does; see `BinomialObjective.together`."""
        inner = [cast("BinomialObjective", each.inner) for each in objectives]
        asked = BinomialObjective.together(inner, [each.raw(v) for each, v in zip(objectives, at, strict=True)])
        return [each._pulled(v, *found) for each, v, found in zip(objectives, at, asked, strict=True)]

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

    def hessian_among(self, v: Vector, kept: npt.NDArray[np.intp], rows: int) -> Vector:
        """Return the Hessian at v of the kept parameters alone, from about so many rows; see `Support`."""
        moments = np.stack([self.scaling.mean, self.scaling.inverse])
        H = self.inner.among(self.raw(v), self.parameters, kept, rows, moments)
        return self.penalty.add_diagonal(self.parameters, H, kept)

    def operations_among(self, kept: npt.NDArray[np.intp]) -> float:
        """Return about how many operations each sample takes in `hessian_among`."""
        return len(kept) ** 2

    @cached_property
    def columns(self) -> Columns | None:
        """The entries of sparse samples times their features' scales; None for arrays, or without intercepts."""
        return scaled(getattr(self.inner, "columns", None), self.scaling.inverse) if self.parameters.intercept else None

    @property
    def shift(self) -> Vector:
        """By how much each feature is moved once it is scaled, (D,)."""
        return self.scaling.mean * self.scaling.inverse

    def posterior(self, v: Vector) -> Array:
        """Return the posterior of all samples for v, (N, count)."""
        assert isinstance(self.inner, SoftmaxObjective)
        return self.inner.posterior(self.raw(v))

    @property
    def available(self) -> int:
        """The number of samples that preconditioners may be summed from."""
        return self.inner.available

    @property
    def in_memory(self) -> bool:
        """Whether X is in memory, so that some of its features can be copied."""
        return isinstance(self.inner, SoftmaxObjective)

    @property
    def flops(self) -> int:
        """The approximate number of floating-point operations of a pass."""
        return self.inner.flops

    @property
    def offset(self) -> Array | None:
        """The offset that is added to the samples' scores, or None."""
        return self.inner.offset

    def unmoved(self, v: Array) -> tuple[float, Vector]:
        """Return the loss and its gradient as they would be without the offset."""
        loss, grad = self.inner.unmoved(self.raw(v))
        return loss, self.scaling.pulled(self.parameters, grad)

    def offset_moments(self) -> Vector:
        """Return sums over the offset: see `SoftmaxObjective.offset_moments`."""
        return self.inner.offset_moments()

    def of_features(self, which: npt.NDArray[np.intp]) -> Self:
        """Return the objective of some features, which are copied, while the coefficients of the others are 0."""
        assert isinstance(self.inner, SoftmaxObjective)
        other, layout = copy.copy(self), self.parameters
        other.inner, other.scaling = self.inner.of_features(which), self.scaling.of_features(which)
        other.parameters = Parameters(layout.K, len(which), layout.intercept, layout.binary)
        other.penalty, other.D = self.penalty.of_features(which), len(which)
        other.__dict__.pop("columns", None)  # cached for all features
        return other

    def _each_pulled(self, rows: Iterable[Vector]) -> Vector:
        return np.array([self.scaling.pulled(self.parameters, row) for row in rows])

    def easing(self) -> Easing | None:
        """Return the extra penalty with which a fit should begin, or None."""
        return easing(self.parameters, self.penalty, self.mean_squares, self.N)

    def preconditioner(self, v: Vector, extra: Vector | None = None) -> Fisher:
        """Return the preconditioner at v, which multiplies a vector by an approximate inverse of the Hessian."""
        return self._fisher(v, extra)

    def curvature(self, v: Vector) -> Fisher:
        """Return the matrices whose inverse `preconditioner` returns."""
        return self._fisher(v, None, whole=True)

    def _fisher(self, v: Vector, extra: Vector | None, *, whole: bool = False) -> Fisher:
        return self.inner.fisher(
            v,
            self.parameters,
            self.penalty,
            extra,
            mean_squares=self.mean_squares,
            raw=self.raw,
            standard=(self.scaling.mean, self.scaling.inverse),
            whole=whole,
        )

    @property
    def mean_squares(self) -> Vector:
        """The mean squares of the standardised features, 1 or 0 for a constant one, and 1 for an intercept."""
        squares = np.ones(self.parameters.each)
        squares[: self.D] = self.scaling.inverse > 0
        return squares


def standardised(
    rows: Rows, parameters: Parameters, weights: Array | None = None, n_threads: int | None = None
) -> StandardisedObjective:
    """Return the objective of rows in memory, without a penalty yet; `weights` (N,) are those of the moments."""
    wide = Parameters(parameters.K, parameters.D, True, parameters.binary)
    inner = objective_of(rows, wide, Penalty(), n_threads=n_threads)
    scaling = Scaling.of(rows.X, weights, inner.n_threads)
    return StandardisedObjective(inner, Penalty(), scaling, intercept=parameters.intercept)


def standardised_pieces(pieces: Pieces, objective: PiecesObjective, *, intercept: bool) -> StandardisedObjective:
    """Return the objective of data in pieces, with its penalty, by a pass that finds the moments."""
    scaling, penalty = Scaling.of_pieces(pieces.each(moments)), objective.penalty
    return StandardisedObjective(objective.bare(), penalty, scaling, intercept=intercept)


def _raw_views(parameters: Parameters, w: Vector) -> tuple[Array, Array]:
    """Return W (count, D) and b (count,) as views of a vector of coefficients of x."""
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
    """Return the same for sparse rows, in which several entries of one feature count as their sum."""
    rows = block.scipy(np.float64) if isinstance(block, CSR) else block.astype(np.float64)
    if not rows.has_canonical_format:
        rows = rows.copy()
        rows.sum_duplicates()
    D, of_entry = rows.shape[1], np.repeat(s, np.diff(rows.indptr))
    mean = np.bincount(rows.indices, of_entry * rows.data, D) / share
    spread = np.bincount(rows.indices, of_entry * (rows.data - mean[rows.indices]) ** 2, D)
    return mean, spread + (share - np.bincount(rows.indices, of_entry, D)) * mean**2


def steps_standardised(
    objective: StandardisedObjective,
    w: Vector,
    solver: str,
    *,
    tol: float,
    max_iter: int,
    callback: Callable[..., object] | None,
    begun: Callable[[Descent], object] | None = None,
    meeting: bool = False,
) -> Steps[Solution]:
    """Minimise as `steps` does. The given w, the callback's and the solution's are coefficients of x."""

    def told(iteration: int, value: float, gradient: float, w: Array) -> object:
        assert callback is not None
        return callback(iteration, value, gradient, objective.raw(w))

    start, tell = objective.standardised(w), None if callback is None else told
    options: dict[str, Any] = {"tol": tol, "max_iter": max_iter, "callback": tell, "begun": begun, "meeting": meeting}
    solution = yield from steps(objective, start, solver, **options)
    return solution._replace(w=objective.raw(solution.w))
