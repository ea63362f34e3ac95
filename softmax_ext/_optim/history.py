"""The history of L-BFGS: the last steps and changes of the gradient, and the direction that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import CHUNK, PARALLEL, combine, dots, subtract
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
        self.q = np.empty(size)
        self.pairs: list[int] = []  # the rows of S and Y that hold a pair, the oldest first
        self.free = list(range(memory))[::-1]
        kernels = dispatch.kernels
        chunk = CHUNK if kernels is None else kernels.VECTOR_CHUNK
        work = np.empty(2 * memory * (-(-size // chunk) + 1))
        loops = Pairs if kernels is None else kernels.Pairs
        self.loops: Any = loops(self.S, self.Y, self.Sg, self.SY, work, run.n_threads, PARALLEL)

    def add(self, w: Vector, grad: Vector) -> None:
        """Add the pair from the point before to the present one, unless the objective does not curve upwards there."""
        row = self.free.pop() if self.free else self.pairs.pop(0)
        self.pairs.append(row)
        self.loops.add(row, self.pairs, self.run.w, self.run.grad, w, grad)
        if not self.SY[row, row] > 0:
            self.free.append(self.pairs.pop())

    def forget(self) -> None:
        """Drop all pairs."""
        self.pairs, self.free = [], list(range(len(self.S)))[::-1]

    def ease(self, change: Vector) -> None:
        """Change the pairs for another penalty: each y changes by s times the change of the penalty's diagonal."""
        run = self.run
        for row in self.pairs:
            self.Y[row] += change * self.S[row]
        if self.pairs:
            used = slice(max(self.pairs) + 1)
            for row in self.pairs:
                self.Sg[used], self.SY[used, row] = dots(self.S[used], run.grad, self.Y[row], run.n_threads)

    def direction(self) -> Vector:
        """Return the direction of the next step, -H g, by the two-loop recursion."""
        run, pairs = self.run, self.pairs
        if not pairs:
            (z,) = run.precondition(run.grad)
            return np.negative(z, out=z)
        self.loops.back(pairs, run.grad, self.q)
        z, Hy = run.precondition(self.q, self.Y[pairs[-1]])
        self.loops.forth(pairs, z, Hy)
        return z


class Pairs:
    """The loops of src/pass/history.pxi in NumPy; `order` has the rows of S and Y that hold pairs, the oldest first."""

    def __init__(self, S: Array, Y: Array, Sg: Vector, SY: Vector, work: Vector, *_: int) -> None:
        self.S, self.Y, self.Sg, self.SY = S, Y, Sg, SY
        self.alpha = work[: len(S)]

    def add(self, row: int, order: list[int], w: Vector, grad: Vector, w0: Vector, grad0: Vector) -> None:
        """Write the pair from (w0, grad0) to (w, grad) to a row, and its inner products with the pairs in `order`."""
        used = slice(max(order) + 1)
        subtract(w, w0, self.S[row])
        subtract(grad, grad0, self.Y[row])
        self.Sg[used], self.SY[used, row] = dots(self.S[used], grad, self.Y[row])

    def back(self, order: list[int], grad: Vector, q: Vector) -> None:
        """Compute the first loop: alpha, and q = g - Σ_i alpha_i y_i."""
        used = slice(max(order) + 1)
        alpha, SY = self.alpha[used], self.SY[used, used]
        alpha[:] = 0
        for i in reversed(order):
            alpha[i] = (self.Sg[i] - SY[i] @ alpha) / SY[i, i]
        combine(1.0, grad, -alpha, self.Y[used], out=q)

    def forth(self, order: list[int], z: Vector, Hy: Vector) -> None:
        """Compute the second loop from z = H0 q and Hy = H0 y of the newest pair, and write the direction to z.

        H0 is scaled so that it fits the newest pair: by Nocedal and Wright's (7.20), with H0 as the metric.
        """
        used, newest = slice(max(order) + 1), order[-1]
        alpha, SY, shares = self.alpha[used], self.SY[used, used], np.zeros(max(order) + 1)
        curvature = float(dots(self.Y[newest : newest + 1], Hy)[0])
        gamma = SY[newest, newest] / max(curvature, TINY)
        yz = gamma * dots(self.Y[used], z)
        for i in order:
            shares[i] = alpha[i] - (yz[i] + shares @ SY[:, i]) / SY[i, i]
        combine(-gamma, z, -shares, self.S[used], out=z)
