"""What L-BFGS remembers: the last steps, the changes of the gradient, and the direction that follows from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import CHUNK, PARALLEL, combine, dots, subtract
from .descent import Descent

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class History:
    """The last steps s and changes of the gradient y, in the objective's dtype, and the direction that they give.

    The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) in four sweeps, each over half of the history: its
    products with what changes from pair to pair follow from s_iᵀ g, s_iᵀ y_j and y_iᵀ H0 q, as in the compact form of
    Byrd, Nocedal and Schnabel (1994). Each of these is summed as it is. To get them from differences of products with
    gradients would save sweeps, and digits too: at a condition of 1000 that came to an end at a gradient of 3e-7.
    """

    def __init__(self, memory: int, run: Descent) -> None:
        self.run, size = run, run.w.size
        self.S, self.Y = np.empty((memory, size), run.dtype), np.empty((memory, size), run.dtype)
        self.Sg = np.zeros(memory)
        self.SY = np.zeros((memory, memory))  # s_iᵀ y_j, where j is not older than i
        self.q = np.empty(size)
        self.pairs: list[int] = []  # their rows, oldest first
        self.free = list(range(memory))[::-1]
        kernels = dispatch.kernels
        chunk = CHUNK if kernels is None else kernels.VECTOR_CHUNK
        work = np.empty(2 * memory * (-(-size // chunk) + 1))
        threads = run.n_threads if self.S.size >= PARALLEL else 1
        self.loops: Any = (Pairs if kernels is None else kernels.Pairs)(self.S, self.Y, self.Sg, self.SY, work, threads)

    def add(self, w: Vector, grad: Vector) -> None:
        """Add the pair from an earlier point to the present, unless the objective does not curve upwards there."""
        row = self.free.pop() if self.free else self.pairs.pop(0)
        self.pairs.append(row)
        self.loops.add(row, self.pairs, self.run.w, self.run.grad, w, grad)
        if not self.SY[row, row] > 0:
            self.free.append(self.pairs.pop())

    def forget(self) -> None:
        """Be without pairs again."""
        self.pairs, self.free = [], list(range(len(self.S)))[::-1]

    def ease(self, change: Vector) -> None:
        """Follow the objective to another penalty: each y of a pair changes by as much as the diagonal times s."""
        run = self.run
        for row in self.pairs:
            self.Y[row] += change * self.S[row]
        if self.pairs:
            used = slice(max(self.pairs) + 1)
            for row in self.pairs:
                self.Sg[used], self.SY[used, row] = dots(self.S[used], run.grad, self.Y[row], run.n_threads)

    def direction(self) -> Vector:
        """Return -H g."""
        run, pairs = self.run, self.pairs
        if not pairs:
            (z,) = run.precondition(run.grad)
            return np.negative(z, out=z)
        self.loops.back(pairs, run.grad, self.q)
        z, Hy = run.precondition(self.q, self.Y[pairs[-1]])
        self.loops.forth(pairs, z, Hy)
        return z


class Pairs:
    """What src/pass/history.pxi has, in NumPy: rows of S and Y; an `order` names those that count, oldest first."""

    def __init__(self, S: Array, Y: Array, Sg: Vector, SY: Vector, work: Vector, n_threads: int) -> None:
        self.S, self.Y, self.Sg, self.SY = S, Y, Sg, SY
        self.alpha, self.n_threads = work[: len(S)], n_threads

    def add(self, row: int, order: list[int], w: Vector, grad: Vector, w0: Vector, grad0: Vector) -> None:
        """Make a pair of two points, and note its products with those in `order`, itself among them."""
        used = slice(max(order) + 1)
        subtract(w, w0, self.S[row])
        subtract(grad, grad0, self.Y[row])
        self.Sg[used], self.SY[used, row] = dots(self.S[used], grad, self.Y[row])

    def back(self, order: list[int], grad: Vector, q: Vector) -> None:
        """Go through the first loop: alpha, and q = g - Σ_i alpha_i y_i."""
        used = slice(max(order) + 1)
        alpha, SY = self.alpha[used], self.SY[used, used]
        alpha[:] = 0
        for i in reversed(order):
            alpha[i] = (self.Sg[i] - SY[i] @ alpha) / SY[i, i]
        combine(1.0, grad, -alpha, self.Y[used], out=q)

    def forth(self, order: list[int], z: Vector, Hy: Vector) -> None:
        """Go through the second, from z = H0 q and Hy = H0 y of the newest pair: z becomes the direction.

        H0 is taken times what makes it fit the last pair: Nocedal and Wright's (7.20), in its metric.
        """
        used, newest = slice(max(order) + 1), order[-1]
        alpha, SY, shares = self.alpha[used], self.SY[used, used], np.zeros(max(order) + 1)
        curvature = float(dots(self.Y[newest : newest + 1], Hy)[0])
        gamma = SY[newest, newest] / max(curvature, np.finfo(float).tiny)
        yz = gamma * dots(self.Y[used], z)
        for i in order:
            shares[i] = alpha[i] - (yz[i] + shares @ SY[:, i]) / SY[i, i]
        combine(-gamma, z, -shares, self.S[used], out=z)
