"""Marginal effects of a softmax model, averaged over samples, and the derivatives that the delta method needs.

With P_j = S_ij, β_j the coefficients of class j (β_0 = 0), and β̄_d = Σ_k P_k β_kd, the effect of column d on class j is

    dy/dx          P_j (β_jd - β̄_d)           d(ln y)/dx      β_jd - β̄_d

and x_d times this for d(ln x). Its derivative with respect to coefficient (l, e), to be multiplied by x_d likewise, is

    dy/dx          x_e [P_j δ_jl (β_jd - β̄_d) - P_j P_l (β_jd + β_ld - 2 β̄_d)] + δ_de P_j (δ_jl - P_l)
    d(ln y)/dx    -x_e P_l (β_ld - β̄_d)                                        + δ_de (δ_jl - P_l)

So the average over samples needs Σ_i P_j P_l x_e, and Σ_i P_j P_l β̄_d x_e for each d, which are matrix products over
blocks of rows. Sums with one factor P less follow from Σ_l P_l = 1. For a column that is 0 or 1, or a count, the effect
is a difference of two posteriors P or of their logarithms, and its derivative is the difference of
x_e P_j (δ_jl - P_l) or of x_e (δ_jl - P_l).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..functional import predict_proba
from ._likelihood import blocks

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Step(NamedTuple):
    """Two values of a column, between which its effect is the difference."""

    values: tuple[float, float]
    relative: bool  # whether the values are added to the column's own value, or replace it
    over: float  # the number that the difference is divided by


DUMMY, COUNT = Step((0.0, 1.0), False, 1.0), Step((-1.0, 1.0), True, 2.0)


def average_effects(
    X: Array,
    W: Vector,
    method: str,
    *,
    weights: Vector | None = None,
    steps: dict[int, Step] | None = None,
) -> tuple[Vector, Vector]:
    """Return the effects averaged over samples, (K, D), and their derivatives with respect to W, (K, D, K, D).

    Parameters
    ----------
    X : array, shape (N, D)
        The samples.
    W : array, shape (K, D)
        Coefficients of all classes.
    method : {"dydx", "eydx", "dyex", "eyex"}
        Which effect: the first letter is for y, the third for x, and e in its place means the logarithm.
    weights : array, shape (N,), optional
        Weight of each sample in the average.
    steps : dict, optional
        A `Step` for each column whose effect is a difference, by the column's number.
    """
    (N, D), K = X.shape, len(W)
    logarithm, elastic = "ey" in method, "ex" in method
    several, each, columns = D if elastic else 1, np.arange(K), np.arange(D)
    inner = (K,) if logarithm else (K, K)  # the shape of P_l or of P_j P_l
    sum_u, effects = np.zeros(several), np.zeros((K, D))
    # In these sums u_d is x_d for d(ln x) and else 1, and for d(ln y) there is no factor P_j.
    plain = np.zeros((*inner, several))  # Σ u_d P_j P_l
    with_x = np.zeros((several, *inner, D))  # Σ u_d P_j P_l x_e
    with_mean = np.zeros((D, *inner, D))  # Σ u_d P_j P_l β̄_d x_e
    moved = {d: (np.zeros(K), np.zeros((K, K, D))) for d in steps or {}}
    for rows in blocks(N, 5 * D + 2 * K * K):
        x = np.array(X[rows], np.float64)  # a copy, since columns with a Step are changed in it
        s = np.ones(len(x)) if weights is None else weights[rows]
        P = predict_proba(x, W)
        mean = P @ W  # β̄, (n, D)
        u = x * s[:, np.newaxis] if elastic else s[:, np.newaxis]
        products = P if logarithm else _pairs(P)
        sum_u += u.sum(axis=0)
        plain += (products.T @ u).reshape(plain.shape)
        effects -= (u * mean).sum(axis=0) if logarithm else P.T @ (u * mean)
        for d in range(several):
            with_x[d] += (products.T @ (x * u[:, d : d + 1])).reshape(with_x.shape[1:])
        for d in range(D):
            by = u[:, d if elastic else 0] * mean[:, d]
            with_mean[d] += (products.T @ (x * by[:, np.newaxis])).reshape(with_mean.shape[1:])
        for d, step in (steps or {}).items():
            for value, sign in zip(step.values, (-1 / step.over, 1 / step.over), strict=True):
                x_d = x[:, d].copy()
                x[:, d] = x_d + value if step.relative else value
                _add(moved[d], predict_proba(x, W), x, s * sign, logarithm)
                x[:, d] = x_d
    jacobian = np.zeros((K, D, K, D))
    sum_u = np.broadcast_to(sum_u, D)
    if logarithm:
        effects += W * sum_u
        for d in range(D):
            jacobian[:, d] = with_mean[d] - W[:, d, np.newaxis] * with_x[d if elastic else 0]
        jacobian[:, columns, :, columns] -= np.broadcast_to(plain, (K, D)).T[:, np.newaxis, :]
        for j in each:
            jacobian[j, columns, j, columns] += sum_u
    else:
        effects += W * plain.sum(axis=1)
        for d in range(D):
            by_x, by_mean = with_x[d if elastic else 0], with_mean[d]
            jacobian[:, d] = 2 * by_mean - (W[:, d, np.newaxis] + W[:, d])[:, :, np.newaxis] * by_x
            jacobian[each, d, each] += W[:, d, np.newaxis] * by_x.sum(axis=1) - by_mean.sum(axis=1)
        jacobian[:, columns, :, columns] -= np.broadcast_to(plain, (K, K, D)).transpose(2, 0, 1)
        for j in each:
            jacobian[j, columns, j, columns] += plain[j].sum(axis=0)
    for d, (difference, slopes) in moved.items():
        effects[:, d], jacobian[:, d] = difference, slopes
    total = float(N if weights is None else weights.sum())
    return effects / total + 0.0, jacobian / total  # no -0


def _pairs(P: Vector) -> Vector:
    """Return the products P_j P_l of each row, (n, K K)."""
    return np.asarray((P[:, :, np.newaxis] * P[:, np.newaxis, :]).reshape(len(P), -1))


def _add(moved: tuple[Vector, Vector], P: Vector, x: Vector, s: Vector, logarithm: bool) -> None:
    """Add what posteriors P at one value of a column contribute to its effect and to the effect's derivatives."""
    (effect, slopes), each, xs = moved, np.arange(len(moved[0])), x * s[:, np.newaxis]
    effect += s @ (np.log(P) if logarithm else P)
    if logarithm:
        slopes -= P.T @ xs
        slopes[each, each] += xs.sum(axis=0)
    else:
        slopes -= (_pairs(P).T @ xs).reshape(slopes.shape)
        slopes[each, each] += P.T @ xs
