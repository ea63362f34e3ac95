"""The objectives of the scalings: mean cross-entropy of scaled scores z, as functions of their few parameters.

- One factor β, the inverse of the temperature: `lowest` finds it by Newton's method, from the loss and its first two
  derivatives, which one read of the scores gives.
- A factor and a shift for each class: L-BFGS begins at the temperature's factor. There, the second derivatives of each
  class by its own two parameters precondition it so well that as many iterations suffice for 100 classes as for 10.
- A matrix: the scores are the samples of a softmax regression. If parameters are few, Newton's method takes the Hessian
  of some rows in place of that of all. If they are many, L-BFGS has the preconditioner of `LogisticRegression`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core.scaled import ByOne, by_class, by_one
from .._inputs.dtypes import TINY
from .._inputs.rows import Rows
from .._objective.memory import SoftmaxObjective
from .._optim.descent import Solution, most_decrease
from .._optim.lbfgs import lbfgs
from ..special import softmax

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# How many rows are fitted first, for factors at least EACH for each parameter, if there are four times as many in all,
# and, but for a temperature, eight of each class among them.
SOME, EACH = 2**12, 64
# The bounds of the inverse temperature are scikit-learn's, which looks for its logarithm in [-10, 10].
LEAST, MOST = math.exp(-10), math.exp(10)
# By what part the second derivatives of each class are increased, so that a score that is the same in all rows does
# no harm.
RIDGE = 1e-4


class Minimum(NamedTuple):
    """Where an optimiser has ended, with the names of `Solution`."""

    w: Vector
    value: float
    largest_gradient: float
    n_iter: int
    converged: bool


def temperature(rows: Rows, *, tol: float, max_iter: int, n_threads: int | None) -> Minimum:
    """Return the factor of all scores that minimises the loss, between `LEAST` and `MOST`."""
    beta, step = 1.0, len(rows) // SOME
    if step >= 4:
        some = rows[::step]
        if some.total > 0:
            beta = float(lowest(_by_one(some, n_threads), beta, tol=1e-3, max_iter=max_iter).w[0])
    return lowest(_by_one(rows, n_threads), beta, tol=tol, max_iter=max_iter)


def _by_one(rows: Rows, n_threads: int | None) -> Callable[[float], ByOne]:
    """Return the loss of scores times a number, with its derivatives, as a function of the number."""
    y, s = np.ascontiguousarray(rows.targets), None if rows.s is None else np.ascontiguousarray(rows.s)
    return lambda beta: by_one(rows.X, y, s, beta, n_threads)


def lowest(at: Callable[[float], ByOne], beta: float, *, tol: float, max_iter: int) -> Minimum:
    """Return the minimum of a convex function of a number between `LEAST` and `MOST`, by Newton's method.

    The slopes tell between which two numbers the minimum lies. A step that would leave them goes to a bound that has
    not been tried, or else to the geometric mean of the two.
    """
    low, high, untried = LEAST, MOST, {LEAST, MOST}
    iteration = 0
    while True:
        value, slope, curvature = at(beta)
        untried.discard(beta)
        outside = (slope >= 0 and beta == LEAST) or (slope <= 0 and beta == MOST)
        enough = abs(slope) <= tol and slope * slope <= 2 * most_decrease(value, tol) * curvature
        if outside or enough or iteration >= max_iter or not math.isfinite(value):
            return Minimum(np.array([beta]), value, abs(slope), iteration, outside or enough)
        iteration += 1
        low, high = (low, beta) if slope > 0 else (beta, high)
        step = beta - slope / curvature if curvature > 0 else -slope * math.inf
        if low < step < high:
            beta = step
        elif (end := low if slope > 0 else high) in untried:
            beta = end
        else:
            beta = math.sqrt(low * high)


def factors(rows: Rows, K: int, *, tol: float, max_iter: int, n_threads: int | None) -> Solution:
    """Return the factors a and shifts b of K classes that minimise the loss, from the temperature on."""
    some = some_of(rows, K, max(SOME, 2 * K * EACH))
    (beta,) = temperature(rows if some is None else some, tol=1e-3, max_iter=max_iter, n_threads=n_threads).w
    w = np.repeat([beta, 0.0], K)
    if some is not None:
        w = lbfgs(Factors(some, n_threads=n_threads), w, tol=1e-3, max_iter=max_iter).w
    return lbfgs(Factors(rows, n_threads=n_threads), w, tol=tol, max_iter=max_iter)


class Factors:
    """Scores a ∘ z + b: the parameters are (a, b)."""

    def __init__(self, rows: Rows, *, n_threads: int | None) -> None:
        self.dtype, self.n_threads = rows.dtype, n_threads
        self._rows = rows

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return the mean loss and its gradient."""
        (a, b), rows = np.split(w, 2), self._rows
        loss, da, db = by_class(rows.X, rows.targets, rows.s, a, b, self.n_threads)
        # The loss does not change when a number is added to all of b: what is found of such a change is rounding.
        return loss, np.concatenate([da, db - db.mean()])

    def preconditioner(self, w: Vector) -> Callable[[Vector], Vector]:
        """Return what multiplies a vector by the inverse of each class's second derivatives, from some of the rows."""
        (a, b), rows = np.split(w, 2), self._rows[:: max(1, len(self._rows) // SOME)]
        Z = rows.X.astype(np.float64)
        S = softmax(Z * a + b, axis=1, n_threads=self.n_threads)
        A = S * (1 - S) * (rows.weights() / rows.total if rows.total > 0 else rows.weights())[:, np.newaxis]
        bb, ab, aa = A.sum(axis=0), (A * Z).sum(axis=0), (A * Z * Z).sum(axis=0)
        aa, bb = np.maximum((1 + RIDGE) * aa, TINY), np.maximum((1 + RIDGE) * bb, TINY)
        determinant = np.maximum(aa * bb - ab * ab, TINY)

        def invert(v: Vector) -> Vector:
            of_a, of_b = np.split(v, 2)
            return np.concatenate([(bb * of_a - ab * of_b) / determinant, (aa * of_b - ab * of_a) / determinant])

        return invert


class Full:
    """A full W, with a penalty of its off-diagonal entries and of b, which Kull et al. (2019) call ODIR."""

    def __init__(self, rows: Rows, K: int, *, off_diagonal: float, intercept: float, n_threads: int | None) -> None:
        self.dtype, self.n_threads = rows.dtype, n_threads
        self._pass = SoftmaxObjective(rows.X, rows.targets, sample_weight=rows.s, n_threads=n_threads, K=K)
        off = np.full((K, K), 2 * off_diagonal / (K * (K - 1)))
        np.fill_diagonal(off, 0)
        self._penalties = np.concatenate([off.ravel(), np.full(K, 2 * intercept / K)])

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return the mean loss with the penalty, and its gradient."""
        value, grad = self._pass.value_and_grad(w)
        share = self._penalties * w
        return value + float(np.einsum("i,i->", share, w)) / 2, grad + share

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the product of the Hessian at w and v."""
        return self._pass.hessp(w, v) + self._penalties * v

    def preconditioner(self, w: Vector) -> Penalised:
        """Return what multiplies a vector by an approximate inverse of the Hessian at w."""
        return Penalised(self._pass, self._penalties, w)

    def hessian(self, w: Vector) -> Array:
        """Return the whole Hessian."""
        H = self._pass.hessian(w)
        H[np.diag_indices_from(H)] += self._penalties
        return H


class Penalised:
    """The preconditioner of a loss with a penalty of its own for each parameter."""

    def __init__(self, loss: SoftmaxObjective, penalties: Vector, w: Vector) -> None:
        self._penalties, self._fisher = penalties, loss.preconditioner(w, penalties)
        self.together = self._fisher.together

    def __call__(self, v: Vector) -> Vector:
        """Return the inverse times v."""
        return self._fisher(v)

    def refresh(self, w: Vector) -> None:
        """Bring it to another w, in the memory that it has."""
        self._fisher.refresh(w, self._penalties)


class Guided:
    """The objective of all rows, with the Hessian of some rows."""

    def __init__(self, whole: Full, some: Full) -> None:
        self.dtype, self.n_threads = whole.dtype, whole.n_threads
        self.value_and_grad, self.hessp, self.hessian = whole.value_and_grad, some.hessp, some.hessian


def some_of(rows: Rows, K: int, count: int) -> Rows | None:
    """Return about so many of the rows, evenly spread, or None if they would not represent all."""
    step = len(rows) // count
    if step < 4:
        return None
    some = rows[::step]
    weighted = some.y if some.s is None or some.y is None else some.y[some.s > 0]
    if weighted is None or np.bincount(weighted, minlength=K).min() < 8:
        return None
    s = None if some.s is None else np.ascontiguousarray(some.s)
    return Rows.of(np.ascontiguousarray(some.X), np.ascontiguousarray(some.targets), s)
