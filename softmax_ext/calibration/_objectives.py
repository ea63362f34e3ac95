"""What the scalings minimise, as functions of their few parameters: mean cross-entropy of softmax(W z + b).

Where classes are few, the fused pass takes the scores for its samples, and W for its weights: a diagonal costs it no
more than a full matrix. It does K² operations for a row, so from `MANY` classes on a diagonal W is applied to blocks of
rows, and the functions of scores do the rest.

Of many rows some are fitted first, and tell all others the Hessian, which is nearly the same: few passes are left.
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
SOME = 2**12  # rows that are fitted first, if there are four times as many, and eight of each class among them
BLOCK = 2**16  # scores at a time, which stay in cache between the steps


class Diagonal:
    """W = diag(a), with b or without: from parameters (a, b), or from one number that is the whole of a."""

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
        """Return the mean loss, and its derivatives by the parameters."""
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
        """Return the whole Hessian, a product for each column, and regular along what changes nothing."""
        H = np.stack([self.hessp(w, column) for column in np.eye(w.size)])
        if self.vector:
            H[self.K :, self.K :] += 1 / self.K
        return H

    def _split(self, w: Vector) -> tuple[Array, Array]:
        """Return a and b, of the scores' dtype."""
        a, b = (w[: self.K], w[self.K :]) if self.vector else (np.full(self.K, w[0]), np.zeros(self.K))
        return a.astype(self.dtype), b.astype(self.dtype)

    def _join(self, a: Vector, b: Vector) -> Vector:
        return np.concatenate([a, b - b.mean()]) if self.vector else np.array([a.sum()])

    def _spread(self, w: Vector) -> Vector:
        """Return the parameters of the pass, row after row of W, then b."""
        if not self.vector:
            whole: Vector = (np.eye(self.K) * w[0]).ravel()
            return whole
        return np.concatenate([np.diag(w[: self.K]).ravel(), w[self.K :]])

    def _gather(self, g: Vector) -> Vector:
        """Return the part of a gradient of the pass that belongs to the parameters."""
        return self._join(g[: self.K**2 : self.K + 1], g[self.K**2 :])

    def _blocks(self) -> Iterator[tuple[Array, Array, Array | None]]:
        rows, step = self._rows, max(1, BLOCK // self.K)
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            s = None if rows.s is None else rows.s[part].astype(self.dtype)
            yield rows.X[part], rows.targets[part], s


class Full:
    """A full W, with the penalty that Kull et al. (2019) call ODIR: of what is not on the diagonal, and of b."""

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

    def hessian(self, w: Vector) -> Array:
        """Return the whole Hessian."""
        H = self._pass.hessian(w)
        H[np.diag_indices_from(H)] += self._penalties
        return H


class Guided:
    """The objective of all rows with the Hessian of some; of one parameter, with the slope between two points."""

    def __init__(self, whole: Diagonal | Full, some: Diagonal | Full) -> None:
        self.dtype, self.n_threads = whole.dtype, whole.n_threads
        self._whole, self._some = whole, some
        self._seen: list[tuple[Vector, Vector]] = []

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return value and gradient, of all rows."""
        value, grad = self._whole.value_and_grad(w)
        self._seen = [*self._seen[-1:], (w.copy(), grad)]
        return value, grad

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the product of some rows' Hessian and v."""
        return self._some.hessp(w, v)

    def hessian(self, w: Vector) -> Array:
        """Return some rows' Hessian, or the slope of the gradient."""
        if w.size == 1 and len(self._seen) == 2:
            (a, at_a), (b, at_b) = self._seen
            if (b - a) @ (at_b - at_a) > 0:
                return np.array([(at_b - at_a) / (b - a)])
        return self._some.hessian(w)


def some_of(rows: Rows, K: int) -> Rows | None:
    """Return some of the rows, evenly spread, or None where these would not speak for all."""
    step = len(rows) // SOME
    if step < 4:
        return None
    some = rows[::step]
    weighted = some.y if some.s is None or some.y is None else some.y[some.s > 0]
    if weighted is None or np.bincount(weighted, minlength=K).min() < 8:
        return None
    return Rows.of(np.ascontiguousarray(some.X), some.targets, some.s)
