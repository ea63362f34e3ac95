"""The history of L-BFGS: the last steps and changes of the gradient, and the direction that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import CHUNK, PARALLEL, combine, dots, steady, subtract
from .._inputs.dtypes import TINY
from .descent import Descent

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class History:
    """The last steps s and changes of the gradient y, in the objective's dtype, and the direction that they give.

    The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) is done in four sweeps, each over half of the
    history. Its inner products follow from s_iᵀ g, s_iᵀ y_j and y_iᵀ H0 q, as in the compact form of Byrd, Nocedal and
    Schnabel (1994). Each of these is summed from the vectors themselves. Differences of products with gradients would
    give them with fewer sweeps, but with fewer correct digits; see "Inner products of the history" in docs/notes.md.
    """

    def __init__(self, memory: int, run: Descent) -> None:
        self.run, size = run, run.w.size
        self.S, self.Y = np.empty((memory, size), run.dtype), np.empty((memory, size), run.dtype)
        self.Sg = np.zeros(memory)
        self.SY = np.zeros((memory, memory))  # s_iᵀ y_j, where j is not older than i
        # The rows of S and Y: first those that hold a pair, the oldest first, and then the free ones, the next first.
        self.order = np.empty(memory, np.intp)
        self.q = np.empty(size)
        kernels = dispatch.kernels
        chunk = CHUNK if kernels is None else kernels.VECTOR_CHUNK
        work = np.empty(2 * memory * (-(-size // chunk) + 1))
        loops = Pairs if kernels is None else kernels.Pairs
        self.loops: Any = loops(self.S, self.Y, self.Sg, self.SY, self.order, work, run.n_threads, PARALLEL)

    def __len__(self) -> int:
        """Return the number of pairs."""
        return int(self.loops.count)

    def add(self, w: Vector, grad: Vector) -> None:
        """Add the pair from the point before to the present one, unless the objective does not curve upwards there."""
        self.loops.add(self.run.w, self.run.grad, w, grad)

    def forget(self) -> None:
        """Drop all pairs."""
        self.loops.forget()

    def ease(self, change: Vector) -> None:
        """Change the pairs for another penalty: each y changes by s times the change of the penalty's diagonal."""
        if len(self):
            self.loops.ease(steady(change), self.run.grad)

    def direction(self) -> Vector:
        """Return the direction of the next step, -H g, by the two-loop recursion."""
        run = self.run
        if not len(self):
            (z,) = run.precondition(run.grad)
            return np.negative(z, out=z)
        self.loops.back(run.grad, self.q)
        z, Hy = run.precondition(self.q, self.Y[self.order[len(self) - 1]])
        self.loops.forth(z, Hy)
        return z


class Pairs:
    """The loops of src/pass/history.pxi in NumPy."""

    def __init__(
        self, S: Array, Y: Array, Sg: Vector, SY: Vector, order: npt.NDArray[np.intp], work: Vector, *_: int
    ) -> None:
        self.S, self.Y, self.Sg, self.SY, self.order = S, Y, Sg, SY, order
        self.alpha = work[: len(S)]
        self.forget()

    def forget(self) -> None:
        """Drop all pairs."""
        self.count, self.order[:] = 0, np.arange(len(self.order))

    @property
    def used(self) -> slice:
        """The rows up to the last one that holds a pair."""
        return slice(self.order[: self.count].max() + 1)

    def add(self, w: Vector, grad: Vector, w0: Vector, grad0: Vector) -> None:
        """Add the pair from (w0, grad0) to (w, grad), unless the objective does not curve upwards there."""
        if not len(self.order):
            return
        if self.count == len(self.order):
            self.order[:] = np.roll(self.order, -1)
        else:
            self.count += 1
        row, used = self.order[self.count - 1], self.used
        subtract(w, w0, self.S[row])
        subtract(grad, grad0, self.Y[row])
        self.Sg[used], self.SY[used, row] = dots(self.S[used], grad, self.Y[row])
        self.count -= not self.SY[row, row] > 0

    def ease(self, change: Vector, grad: Vector) -> None:
        """Add to each y its s times the change of a penalty's diagonal; the gradient has changed to `grad`."""
        S = self.S[self.used]
        self.Sg[self.used] = dots(S, grad)
        for row in self.order[: self.count]:
            self.Y[row] += change * self.S[row]
            self.SY[self.used, row] = dots(S, self.Y[row].astype(np.float64, copy=False))

    def back(self, grad: Vector, q: Vector) -> None:
        """Compute the first loop: alpha, and q = g - Σ_i alpha_i y_i."""
        used = self.used
        alpha, SY = self.alpha[used], self.SY[used, used]
        alpha[:] = 0
        for i in self.order[: self.count][::-1]:
            alpha[i] = (self.Sg[i] - SY[i] @ alpha) / SY[i, i]
        combine(1.0, grad, -alpha, self.Y[used], out=q)

    def forth(self, z: Vector, Hy: Vector) -> None:
        """Compute the second loop from z = H0 q and Hy = H0 y of the newest pair, and write the direction to z.

        H0 is scaled so that it fits the newest pair: by Nocedal and Wright's (7.20), with H0 as the metric.
        """
        used, newest = self.used, self.order[self.count - 1]
        alpha, SY, shares = self.alpha[used], self.SY[used, used], np.zeros(used.stop)
        curvature = float(dots(self.Y[newest : newest + 1], Hy)[0])
        gamma = SY[newest, newest] / max(curvature, TINY)
        yz = gamma * dots(self.Y[used], z)
        for i in self.order[: self.count]:
            shares[i] = alpha[i] - (yz[i] + shares @ SY[:, i]) / SY[i, i]
        combine(-gamma, z, -shares, self.S[used], out=z)
