"""`Penalty`: the term that a fit adds to the loss so that weights are small, or few are not 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.vectors import product, steady
from .._inputs.dtypes import is_real
from .._inputs.scalars import check_nonnegative_number
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Penalty:
    r"""The penalty on the coefficients W, with a factor v for each feature; intercepts are not penalised.

    .. math:: \sum_d v_d \Big( \frac{l_2}{2} \sum_k W_{kd}^2 + l_1 \sum_k |W_{kd}| \Big)

    If `grouped`, the norm :math:`(\sum_k W_{kd}^2)^{1/2}` takes the place of the second sum over k. At the minimum a
    feature's coefficients are then zero in all classes or in none. With one row of coefficients both are the same.

    What always holds: the penalty is never negative, and is 0 at W = 0. It depends only on W, which has a row for each
    class that has parameters (`Parameters.weights`). It is added to a mean loss: scikit-learn's C and l1_ratio r are
    ``l2 = (1 - r) / (C m)`` and ``l1 = r / (C m)`` with m = Σ s_i. Without `l1` it is smooth.

    Parameters
    ----------
    l2, l1 : float >= 0, default 0
        Strengths of the two terms; 0 leaves a term out.
    grouped : bool, default False
        Whether the l1 term has the norm of a feature's coefficients instead of the sum of their absolute values.
    weights : array_like, shape (D,), optional
        The factors v, not negative, 1 by default; a feature with factor 0 is not penalised. They are used as given,
        while glmnet scales them to the sum D.

    Raises
    ------
    ValueError
        If a strength or a factor is negative or not finite, or `weights` is not a vector of real numbers.
    TypeError
        If a strength is not a real number.

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
        """Return the same penalty with other strengths."""
        return Penalty(l2, l1, grouped=self.grouped, weights=self.weights)

    def of_features(self, which: npt.NDArray[np.intp]) -> Penalty:
        """Return the penalty for some of the features alone."""
        weights = None if self.weights is None else self.weights[which]
        return Penalty(self.l2, self.l1, grouped=self.grouped, weights=weights)

    @property
    def uniform(self) -> bool:
        """Whether the factor is 1 for all features."""
        return self.weights is None

    def factors(self, D: int) -> Vector:
        """Return the features' factors v (D,); raise ValueError if `weights` has another length."""
        self.check(D)
        return np.ones(D) if self.weights is None else self.weights

    def check(self, D: int) -> None:
        """Raise ValueError if `weights` has another length than D."""
        if self.weights is not None and len(self.weights) != D:
            raise ValueError(f"penalty weights must be one for each feature, ({D},), got shape {self.weights.shape}")

    def value(self, W: Array, n_threads: int = 1) -> float:
        """Return the penalty of W (K, D); every number of threads gives the same bits."""
        return self.l1_part(W) + self.l2_part(W, n_threads)

    def l2_part(self, W: Array, n_threads: int = 1) -> float:
        """Return the l2 term for W (K, D); every number of threads gives the same bits."""
        if not self.l2:
            return 0.0
        flat = steady(W if self.weights is None else W * np.sqrt(self.weights)).reshape(-1)
        return 0.5 * self.l2 * product(flat, flat, n_threads)

    def l1_part(self, W: Array) -> float:
        """Return the l1 term for W (K, D), which is not smooth."""
        if not self.l1:
            return 0.0
        sizes = self.sizes(W)
        return self.l1 * float((sizes if self.weights is None else sizes * self.weights).sum())

    def sizes(self, W: Array) -> Vector:
        """Return the numbers that the l1 term sums: absolute values (K, D), or norms (D,) if it is grouped."""
        W = W.astype(np.float64, copy=False)
        sizes: Vector = np.sqrt(np.square(W).sum(axis=0)) if self.grouped else np.abs(W)
        return sizes

    def add_gradient(self, W: Array, dW: Array) -> None:
        """Add the gradient of the l2 term at W to dW, both (K, D)."""
        if self.l2:
            dW += (self.l2 if self.weights is None else self.l2 * self.weights) * W

    def add_product(self, V: Array, dV: Array) -> None:
        """Add the Hessian of the l2 term times V to dV, both (K, D); that Hessian is the same at every W."""
        self.add_gradient(V, dV)

    def diagonal(self, D: int) -> Vector:
        """Return the l2 term's second derivatives by the weights of each feature, (D,), equal for all classes."""
        return self.l2 * self.factors(D)

    def shrinks(self, D: int) -> npt.NDArray[np.bool_] | bool:
        """Return whether the l2 term applies: for all features, or for each of them, (D,), if they have factors."""
        return self.l2 > 0 if self.weights is None else self.diagonal(D) > 0

    def fixes(self, D: int) -> npt.NDArray[np.bool_]:
        """Return, for each feature (D,), whether an l1 term forbids to add the same to its weights in all classes."""
        return self.thresholds(D) > 0

    def thresholds(self, D: int) -> Vector:
        """Return l1 v, (D,): a weight leaves 0 if its gradient, or if grouped the gradient's norm, is larger."""
        return self.l1 * self.factors(D)

    def add_hessian(self, parameters: Parameters, H: Vector) -> None:
        """Add the Hessian of the l2 term to H (size, size), the Hessian of the loss by all parameters."""
        diagonal = parameters.weights(H.reshape(-1)[:: parameters.size + 1])
        diagonal += self.l2 if self.weights is None else self.diagonal(parameters.D)

    def add_diagonal(self, parameters: Parameters, H: Vector, kept: npt.NDArray[np.intp]) -> Vector:
        """Add the Hessian of the l2 term to H, which has rows and columns of the kept parameters alone; return H."""
        diagonal = np.zeros(parameters.size)
        parameters.weights(diagonal)[:] = self.diagonal(parameters.D)
        H.flat[:: len(H) + 1] += diagonal[kept]
        return H

    def prox(self, W: Array, step: float = 1.0) -> Vector:
        """Return the V (K, D) that minimises ``½ |V - W|²`` plus `step` times the l1 term of V."""
        sizes = self.sizes(W)
        with np.errstate(divide="ignore", invalid="ignore"):
            shares = np.maximum(1 - step * self.thresholds(W.shape[1]) / sizes, 0)
        found: Vector = np.where(sizes > 0, shares, 0) * W
        return found

    def violations(self, W: Array, dW: Array) -> Vector:
        """Return by how much each weight of W (K, D) violates the conditions of a minimum.

        dW (K, D) is the gradient of all smooth terms. At a minimum the whole derivative by a weight that is not 0
        vanishes, and the derivative of the smooth terms by a weight that is 0 is at most l1 v in size. Of a group this
        holds for the norm, and the result is (D,).
        """
        limits, sizes, found = self.thresholds(W.shape[1]), self.sizes(W), self.sizes(dW)
        found -= limits
        np.maximum(found, 0, out=found)
        some = np.nonzero(sizes)  # a few of many
        entries: Any = (slice(None), *some) if self.grouped else some
        total = np.abs(dW[entries] + limits[some[-1]] / sizes[some] * W[entries])
        found[some] = total.max(axis=0) if self.grouped else total
        return found


def check_penalty_weights(weights: npt.ArrayLike) -> Vector:
    """Return the features' factors as a new vector of float64, once they are checked."""
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
