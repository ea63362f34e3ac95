"""`Penalty`: what a fit adds to the loss to keep the weights small, or few."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.vectors import dots
from .._inputs.dtypes import is_real
from .._inputs.scalars import check_nonnegative_number
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Penalty:
    r"""The penalty on W, of each feature's coefficients by that feature's weight v; intercepts are free.

    .. math:: \sum_d v_d \Big( \frac{l_2}{2} \sum_k W_{kd}^2 + l_1 \sum_k |W_{kd}| \Big)

    `grouped`, the second sum is the norm :math:`(\sum_k W_{kd}^2)^{1/2}`: then a feature's coefficients are zero in all
    classes or in none. With one row of coefficients both are the same.

    What always holds: it is never negative, is 0 at W = 0, and knows of W alone, a row for each class that has
    parameters (`Parameters.weights`). It is scaled as a mean: scikit-learn's C and l1_ratio r are
    ``l2 = (1 - r) / (C m)`` and ``l1 = r / (C m)`` with m = Σ s_i. Without `l1` it is smooth.

    Parameters
    ----------
    l2, l1 : float >= 0, default 0
        Strengths of its two parts; 0 is none.
    grouped : bool, default False
        Whether the l1 part takes the coefficients of a feature together.
    weights : array_like, shape (D,), optional
        v, not negative, 1 by default; 0 leaves a feature free. As given: glmnet makes them sum to D.

    Raises
    ------
    ValueError, TypeError
        If a strength or a weight is negative or not finite; if it is no number; if `weights` is not a vector.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models via coordinate
    descent", Journal of Statistical Software 33(1), 2010; N. Simon, J. Friedman and T. Hastie, "A blockwise descent
    algorithm for group-penalized multiresponse and multinomial regression", arXiv:1311.6529, 2013.

    Examples
    --------
    >>> import numpy as np
    >>> W = np.array([[1.0, -2.0], [0.0, 0.0]])
    >>> Penalty(l2=0.5).value(W), Penalty(l1=0.5).value(W), Penalty(l1=0.5, weights=[1, 0]).value(W)
    (1.25, 1.5, 0.5)
    """

    __slots__ = ("grouped", "l1", "l2", "weights")

    def __init__(
        self, l2: float = 0.0, l1: float = 0.0, *, grouped: bool = False, weights: npt.ArrayLike | None = None
    ) -> None:
        self.l2, self.l1 = check_nonnegative_number(l2, "l2"), check_nonnegative_number(l1, "l1")
        self.grouped = bool(grouped)
        self.weights = None if weights is None else check_penalty_weights(weights)

    def __repr__(self) -> str:
        more = [f"l1={self.l1!r}"] * bool(self.l1) + ["grouped=True"] * self.grouped
        more += [f"weights={self.weights!r}"] * (self.weights is not None)
        return f"Penalty({', '.join([f'l2={self.l2!r}', *more])})"

    def with_strengths(self, l2: float, l1: float) -> Penalty:
        """Return the penalty of other strengths."""
        return Penalty(l2, l1, grouped=self.grouped, weights=self.weights)

    def of_features(self, which: npt.NDArray[np.intp]) -> Penalty:
        """Return the penalty of some features alone."""
        weights = None if self.weights is None else self.weights[which]
        return Penalty(self.l2, self.l1, grouped=self.grouped, weights=weights)

    @property
    def uniform(self) -> bool:
        """Whether it is the same for all features."""
        return self.weights is None

    def factors(self, D: int) -> Vector:
        """Return v (D,), or raise ValueError where there are other than D weights."""
        if self.weights is None:
            return np.ones(D)
        if len(self.weights) != D:
            raise ValueError(f"penalty weights must be one for each feature, ({D},), got shape {self.weights.shape}")
        return self.weights

    def value(self, W: Array, n_threads: int = 1) -> float:
        """Return the penalty of W (K, D); no number of threads changes a bit."""
        value = self.l1_part(W)
        if self.l2:
            flat = np.require(W if self.weights is None else W * np.sqrt(self.weights), np.float64, ["C", "A"])
            flat = flat.reshape(1, -1)
            value += 0.5 * self.l2 * float(dots(flat, flat[0], n_threads=n_threads)[0])
        return value

    def l1_part(self, W: Array) -> float:
        """Return the part of the penalty of W (K, D) that is not smooth."""
        if not self.l1:
            return 0.0
        sizes = self.sizes(W)
        return self.l1 * float((sizes if self.weights is None else sizes * self.weights).sum())

    def sizes(self, W: Array) -> Vector:
        """Return what the l1 part sums: absolute values (K, D), or norms (D,) where it is grouped."""
        W = W.astype(np.float64, copy=False)
        sizes: Vector = np.sqrt(np.square(W).sum(axis=0)) if self.grouped else np.abs(W)
        return sizes

    def add_gradient(self, W: Array, dW: Array) -> None:
        """Add the gradient of the l2 part at W to dW, both (K, D)."""
        if self.l2:
            dW += (self.l2 if self.weights is None else self.l2 * self.weights) * W

    def add_product(self, V: Array, dV: Array) -> None:
        """Add the Hessian times V to dV, both (K, D); the Hessian is the same everywhere."""
        self.add_gradient(V, dV)

    def diagonal(self, D: int) -> Vector:
        """Return the second derivative for the weight of each feature, (D,), which is the same in every class."""
        return self.l2 * self.factors(D)

    def fixes(self, D: int) -> npt.NDArray[np.bool_]:
        """Tell of which features the same must not be added to the weights of all classes, (D,)."""
        return self.thresholds(D) > 0

    def thresholds(self, D: int) -> Vector:
        """Return l1 v, (D,): what a gradient, or its norm over the classes, must exceed to move a weight from 0."""
        return self.l1 * self.factors(D)

    def add_hessian(self, parameters: Parameters, H: Vector) -> None:
        """Add the Hessian to H (size, size), that of the loss for a vector of all parameters."""
        diagonal = parameters.weights(H.reshape(-1)[:: parameters.size + 1])
        diagonal += self.diagonal(parameters.D)

    def add_diagonal(self, parameters: Parameters, H: Vector, kept: npt.NDArray[np.intp]) -> Vector:
        """Add the Hessian to H, which has the rows and columns of the kept parameters alone, and return it."""
        diagonal = np.zeros(parameters.size)
        parameters.weights(diagonal)[:] = self.diagonal(parameters.D)
        H.flat[:: len(H) + 1] += diagonal[kept]
        return H

    def prox(self, W: Array, step: float = 1.0) -> Vector:
        """Return the minimum over V (K, D) of ``½ |V - W|²`` + step times the l1 part of V's penalty."""
        sizes = self.sizes(W)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.maximum(1 - step * self.thresholds(W.shape[1]) / sizes, 0)
        found: Vector = np.where(sizes > 0, shares, 0) * W
        return found

    def violations(self, W: Array, dW: Array) -> Vector:
        """Return how far W (K, D) is from a minimum where the smooth part's gradient is dW: at most, of each weight.

        Where a weight is not 0 the whole gradient must vanish. Where it is, the smooth part's may be up to l1 v; of a
        group, (D,), its norm may.
        """
        limits, sizes = self.thresholds(W.shape[1]), self.sizes(W)
        with np.errstate(divide="ignore", invalid="ignore"):
            total = np.abs(dW + np.where(sizes > 0, limits / sizes, 0) * W)
        if self.grouped:
            total = total.max(axis=0)
        return np.where(sizes > 0, total, np.maximum(self.sizes(dW) - limits, 0))


def check_penalty_weights(weights: npt.ArrayLike) -> Vector:
    """Return weights of features as a vector of float64 of its own."""
    given = np.asarray(weights)
    if given.ndim != 1 or not (is_real(given.dtype)):
        raise ValueError(
            f"penalty weights must be a vector of real numbers, one for each feature, got shape {given.shape} of dtype "
            f"{given.dtype}"
        )
    wrong = np.flatnonzero(~((given >= 0) & (given < np.inf)))
    if len(wrong):
        raise ValueError(
            f"penalty weights must be finite and not negative, got {given[wrong[0]]} for feature {wrong[0]}"
        )
    return given.astype(np.float64)
