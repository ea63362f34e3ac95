"""The objectives of the scalings, mean cross-entropy of softmax(W z + b), as functions of their few parameters.

For few classes the fused pass computes them, with the scores z as its samples. It does K² operations for each row, even
if W is diagonal. So from `MANY` classes on, a diagonal W is applied to blocks of rows instead, and the functions of
scores do the rest.

If there are many rows, some are fitted first. Their Hessian is nearly that of all rows, and replaces it, so that few
passes over all rows are left. A matrix of many classes has more parameters than some rows determine; there L-BFGS with
a preconditioner fits all rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows
from .._objective.memory import SoftmaxObjective
from ..losses import cross_entropy_grad
from ..special import softmax

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

MANY = 64
# How many rows are fitted first, if there are four times as many in all, and eight of each class among them.
SOME = 2**12
BLOCK = 2**16  # how many scores are computed at a time, so that they stay in cache from step to step


class Diagonal:
    """W = diag(a): the parameters are (a, b) if `vector`, else one number to which all entries of a are equal."""

    def __init__(self, rows: Rows, K: int, *, vector: bool, n_threads: int | None) -> None:
        self.K, self.vector, self.n_threads = K, vector, n_threads
        self.dtype = rows.dtype
        self._rows = rows
        self._pass: SoftmaxObjective | None = None
        if K < MANY:
            self._pass = SoftmaxObjective(
                rows.X, rows.targets, sample_weight=rows.s, fit_intercept=vector, n_threads=n_threads, K=K
            )

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return the mean loss, and its gradient with respect to the parameters."""
        if self._pass is not None:
            value, grad = self._pass.value_and_grad(self._spread(w))
            return value, self._gather(grad)
        a, b = self._split(w)
        value, da, db = 0.0, np.zeros(self.K), np.zeros(self.K)
        for X, y, s in self._blocks():
            losses, R = cross_entropy_grad(X * a + b, y, reduction="none", n_threads=self.n_threads)
            if s is not None:
                losses, R = losses * s, R * s[:, np.newaxis]
            value += float(losses.sum(dtype=np.float64))
            da += np.einsum("ik,ik->k", R, X)
            db += R.sum(axis=0)
        m = self._rows.total
        return value / m, self._join(da / m, db / m)

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the product of the Hessian at w and v."""
        if self._pass is not None:
            return self._gather(self._pass.hessp(self._spread(w), self._spread(v)))
        (a, b), (c, d) = self._split(w), self._split(v)
        da, db = np.zeros(self.K), np.zeros(self.K)
        for X, _, s in self._blocks():
            S = softmax(X * a + b, axis=1, n_threads=self.n_threads)
            Q = X * c + d
            Q -= np.einsum("ik,ik->i", S, Q)[:, np.newaxis]
            Q *= S
            if s is not None:
                Q *= s[:, np.newaxis]
            da += np.einsum("ik,ik->k", Q, X)
            db += Q.sum(axis=0)
        m = self._rows.total
        return self._join(da / m, db / m)

    def hessian(self, w: Vector) -> Array:
        """Return the whole Hessian, computed as a product for each column.

        The loss does not change when a number is added to all of b. There the Hessian is made regular.
        """
        H = np.stack([self.hessp(w, column) for column in np.eye(w.size)])
        if self.vector:
            H[self.K :, self.K :] += 1 / self.K
        return H

    def _split(self, w: Vector) -> tuple[Array, Array]:
        """Return a and b (K,), in the scores' dtype."""
        a, b = (w[: self.K], w[self.K :]) if self.vector else (np.full(self.K, w[0]), np.zeros(self.K))
        return a.astype(self.dtype), b.astype(self.dtype)

    def _join(self, a: Vector, b: Vector) -> Vector:
        return np.concatenate([a, b - b.mean()]) if self.vector else np.array([a.sum()])

    def _spread(self, w: Vector) -> Vector:
        """Return the parameters as the pass takes them: W row after row, then b."""
        if not self.vector:
            whole: Vector = (np.eye(self.K) * w[0]).ravel()
            return whole
        return np.concatenate([np.diag(w[: self.K]).ravel(), w[self.K :]])

    def _gather(self, g: Vector) -> Vector:
        """Return the gradient with respect to the parameters, from one of the pass."""
        return self._join(g[: self.K**2 : self.K + 1], g[self.K**2 :])

    def _blocks(self) -> Iterator[tuple[Array, Array, Array | None]]:
        rows, step = self._rows, max(1, BLOCK // self.K)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            s = None if rows.s is None else rows.s[part].astype(self.dtype)
            yield rows.X[part], rows.targets[part], s


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
    """The objective of all rows, with the Hessian of some rows.

    If there is one parameter, the Hessian is the slope of the gradient between the last two points instead.
    """

    def __init__(self, whole: Diagonal | Full, some: Diagonal | Full) -> None:
        self.dtype, self.n_threads = whole.dtype, whole.n_threads
        self._whole, self._some = whole, some
        self._seen: list[tuple[Vector, Vector]] = []

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return value and gradient of all rows."""
        value, grad = self._whole.value_and_grad(w)
        self._seen = [*self._seen[-1:], (w.copy(), grad)]
        return value, grad

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the product of v with the Hessian of some rows."""
        return self._some.hessp(w, v)

    def hessian(self, w: Vector) -> Array:
        """Return the Hessian of some rows, or, for one parameter, the slope of the gradient if that is positive."""
        if w.size == 1 and len(self._seen) == 2:
            (a, at_a), (b, at_b) = self._seen
            if (b - a) @ (at_b - at_a) > 0:
                return np.array([(at_b - at_a) / (b - a)])
        return self._some.hessian(w)


def some_of(rows: Rows, K: int) -> Rows | None:
    """Return about SOME of the rows, evenly spread, or None if they would not represent all."""
    step = len(rows) // SOME
    if step < 4:
        return None
    some = rows[::step]
    weighted = some.y if some.s is None or some.y is None else some.y[some.s > 0]
    if weighted is None or np.bincount(weighted, minlength=K).min() < 8:
        return None
    return Rows.of(np.ascontiguousarray(some.X), some.targets, some.s)
