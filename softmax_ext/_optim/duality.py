"""The duality gap: a bound of how far an objective is above its minimum, from the gradient that a pass has computed.

Let R* be the penalty's conjugate. With intercepts, let the residuals of probabilities P sum to zero over the samples,
Σ_i s_i (P_i - Y_i) = 0. Then

    min f >= -1/m Σ_i s_i Σ_k P_ik log P_ik - R*(G),     G = 1/m Σ_i s_i (P_i - Y_i) x_iᵀ

(Boyd and Vandenberghe 2004, section 5.2, for labels). Here P = (1 - t) S + t q: the posterior, mixed with constant
probabilities q as far as the condition on the residuals requires. P needs no pass of its own. The gradient of the
mixture is the mixture of the gradients, and that of q follows from two passes at W = 0. By convexity
Σ P log P <= (1 - t) Σ S log S + t Σ q log q, where Σ_i s_i S_i log S_i / m = <∇J(w), w> - J(w).

An offset O adds 1/m Σ_i s_i <P_i - Y_i, O_i> to the bound. For P = S, <∇J(w), w> - J(w) already includes it, since the
scores do; for q it follows from `offset_moments`. Constant probabilities are those of W = 0 without an offset.

R*(G) is the sum over the features of (|G| - l1 v)₊² / (2 l2 v). Without l2 it is infinite as soon as one |G| exceeds
l1 v, which rounding makes happen. But at the minimum l1 Σ v |W| <= f(w), and over those W alone the conjugate is
f(w) / l1 times the largest (|G| / v - l1)₊. The smaller of the two is used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.vectors import combine, product, square, steady
from .._inputs.dtypes import TINY
from .._objective.memory import SoftmaxObjective
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .descent import Descent

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Dual:
    """The quantities at W = 0 that an objective's duality gaps need: residuals and gradients of constant probabilities.

    `at_zero` is the objective's value and gradient at w = 0, if they are known.
    """

    mass: float  # Σ_i s_i Σ_k Y_ik / m, which is 1 for labels
    frequencies: Vector  # (K,): Σ_i s_i Y_ik / m of each class
    ask: Callable[[Vector], tuple[float, Vector]]  # returns the value and the gradient for samples without offsets
    moments: Vector | None = None  # `offset_moments` of the objective

    def __init__(self, objective: Any, at_zero: tuple[float, Vector] | None = None) -> None:
        self._take(objective)
        layout, K = self.layout, self.K
        zero = np.zeros(layout.size)
        at_zero = self.ask(zero) if at_zero is None or self.moments is not None else at_zero
        of_b = layout.intercepts(at_zero[1])
        self._count(float(at_zero[0]), of_b)
        self.G0 = layout.weights(at_zero[1]).copy()  # the gradient for q = 1/K: q mean(x) - mean(Y x)
        self.G = self.G0
        if of_b is None:
            return
        odds = zero.copy()
        b = layout.intercepts(odds)
        assert b is not None
        b[-1] = np.log(2)  # the last class then has the probability 2 / (K + 1)
        other = layout.weights(self.ask(odds)[1])
        # The mean Σ_i s_i x_i Σ_k Y_ik / m of each feature follows from the difference of the two gradients.
        self.mean = (other[-1] - self.G0[-1]) / (2 / (K + 1) - 1 / K) if K > 1 else np.zeros(layout.D)
        q = self.frequencies[self.frequencies > 0] / self.mass
        self.loss = -self.mass * float(q @ np.log(q))
        self.G = self.gradient_of(self.frequencies / self.mass)

    def _take(self, objective: Any) -> None:
        """Set the layout, the moments of the offset, and the method that evaluates samples without offsets."""
        self.layout, self.K = objective.parameters, objective.parameters.K
        self.ask = getattr(objective, "at_constant", objective.value_and_grad)
        if getattr(objective, "offset", None) is not None:
            self.ask, self.moments = objective.unmoved, objective.offset_moments()

    def _count(self, loss: float, of_b: Vector | None) -> None:
        """Set the loss, and the targets' mass and frequencies, from the loss and the intercepts' gradient at w = 0."""
        layout, K = self.layout, self.K
        self.loss = loss
        self.mass = loss / np.log(K) if K > 1 else 1.0  # at w = 0 each target's loss is its sum times log K
        if of_b is not None:
            frequencies = self.mass / K - of_b  # of class 1 alone in a binary model
            self.frequencies = np.append(self.mass - frequencies, frequencies) if layout.binary else frequencies

    def of_features(self, which: npt.NDArray[np.intp]) -> Dual:
        """Return the same quantities for some of the features, without a pass."""
        other = copy.copy(self)
        layout = self.layout
        other.layout = Parameters(layout.K, len(which), layout.intercept, layout.binary)
        other.G0, other.G = self.G0[:, which], self.G[:, which]
        if layout.intercept:
            other.mean = self.mean[which]
        return other

    def gradient_of(self, q: Vector) -> Vector:
        """Return the gradient by W if every sample's posterior is q (K,)."""
        classes = self.layout.classes
        moved: Vector = self.G0 + np.outer((q - 1 / self.K)[classes.start : classes.stop], self.mean)
        return moved

    def null(self) -> Vector:
        """Return w with W = 0 and the intercepts that minimise the loss then; zeros if a class has no weight."""
        w = np.zeros(self.layout.size)
        if self.layout.intercept and self.frequencies.min() > 0:
            b = np.log(self.frequencies / self.mass)
            w[self.layout.count * self.layout.D :] = b[1:] - b[0] if self.layout.binary else b - b.mean()
        return w

    def gap(self, w: Vector, value: float, gradient: Vector, penalty: Penalty) -> float:
        """Return how far `value` is above the minimum at most; `gradient` is that of all terms but the l1 term.

        The result is infinite without a penalty. It is NaN if the penalty leaves features out, since their gradients
        would have to be exactly zero, or if offsets are infinite.
        """
        layout = self.layout
        W = layout.weights(w)
        if not (penalty.l1 or penalty.l2):
            return np.inf
        if penalty.weights is not None and not penalty.factors(layout.D).all():
            return np.nan
        if self.moments is not None and not np.isfinite(self.moments).all():
            return np.nan
        G, l2_part = layout.weights(gradient), penalty.l2_part(W)
        loss = value - penalty.l1_part(W) - l2_part
        # The loss's gradient by W is that of all terms but the l1 term, less that of the l2 term.
        if penalty.uniform:
            mixture = [(1.0, G), (-penalty.l2, W)]
        else:
            G = G.copy()
            penalty.add_gradient(-W, G)
            mixture = [(1.0, G)]
        entropy, t = product(gradient, w) - 2 * l2_part - loss, 0.0
        if layout.intercept:
            off = layout.intercepts(gradient)
            assert off is not None
            off = np.append(-off, off) if layout.binary else off
            posterior = self.frequencies + off  # Σ_i s_i S_ik / m
            if len(more := np.flatnonzero(off > 0)):
                t = min(1.0, float((off[more] / posterior[more]).max()))
                q = np.maximum(posterior - off / t, 0) / self.mass
                used = q[q > 0]
                entropy = (1 - t) * entropy + t * self.mass * float(used @ np.log(used))
                if self.moments is not None:
                    entropy -= t * float(q @ self.moments[:-1] - self.moments[-1])
                mixture = [((1 - t) * share, part) for share, part in mixture] + [(t, self.gradient_of(q))]
        return max(value + entropy + conjugate(mixture, value, penalty), 0.0)


class DualOfOne(Dual):
    """The quantities for a single gap, with one pass instead of two: at the probabilities q which that gap needs."""

    def __init__(self, objective: Any, at_zero: tuple[float, Vector | None] | None) -> None:
        self._take(objective)
        if at_zero is None or self.moments is not None:
            at_zero = 0.0, None
            if self.layout.intercept:
                loss, gradient = self.ask(np.zeros(self.layout.size))
                at_zero = loss, self.layout.intercepts(gradient)
        self._count(*at_zero)

    def gradient_of(self, q: Vector) -> Vector:
        """Return the gradient by W if every sample's posterior is q (K,), from a pass."""
        layout, w = self.layout, np.zeros(self.layout.size)
        b = layout.intercepts(w)
        assert b is not None
        log_q = np.log(np.maximum(q, TINY))
        b[:] = log_q[1:] - log_q[0] if layout.binary else log_q
        G: Vector = layout.weights(self.ask(w)[1])
        return G


def gap_of(run: Descent) -> float:
    """Return how far a descent with an L2 penalty is above the minimum at most, or NaN without a penalty.

    It takes a pass if there are intercepts.
    """
    objective, value = run.objective, run.asked[0]
    penalty = objective.penalty
    if not penalty.l2 or not math.isfinite(value):
        return math.nan
    dual = DualOfOne(objective, run.at_zero)
    found = by_kernel(objective, dual, run.w, run.asked)
    return dual.gap(run.w, value, run.asked[1], penalty) if found is None else found


def by_kernel(objective: Any, dual: Dual, w: Vector, asked: tuple[float, Vector]) -> float | None:
    """Return the gap by one call of a kernel, or None where it has to be composed.

    `asked` is the value and the gradient at w. See "Around the passes of a small fit" in docs/notes.md.
    """
    layout = dual.layout
    if layout.binary or not layout.intercept or dual.moments is not None or not isinstance(objective, SoftmaxObjective):
        return None
    if not (objective.penalty.l2 and objective.lends) or objective.sums_classes:
        return None
    function = objective.borrow()
    found = function.gap(w, asked, dual.frequencies, dual.mass, objective.l2_of_a_pass)
    objective.give_back(function)
    return found


def conjugate(mixture: Sequence[tuple[float, Vector]], value: float, penalty: Penalty) -> float:
    """Return R*(G) for a sum G of matrices (K, D), each times its share.

    If the conjugate over those W whose l1 term is at most `value` is smaller, return that.
    """
    shares, parts = [share for share, _ in mixture], [steady(part).reshape(-1) for _, part in mixture]
    if not penalty.l1 and penalty.uniform:
        return square(parts, shares) / (2 * penalty.l2)
    total = shares[0] * parts[0]
    for share, part in zip(shares[1:], parts[1:], strict=True):  # without another array of their size
        combine(1.0, total, np.array([share]), part[np.newaxis], out=total)
    G: Array = total.reshape(mixture[0][1].shape)
    factors = penalty.factors(G.shape[1])
    excess = np.maximum(penalty.sizes(G) - penalty.l1 * factors, 0) if penalty.l1 else G
    least = np.inf
    if penalty.l2:
        least = float((np.square(excess) / factors).sum()) / (2 * penalty.l2)
    if penalty.l1:
        least = min(least, value / penalty.l1 * float((excess / factors).max(initial=0.0)))
    return least
