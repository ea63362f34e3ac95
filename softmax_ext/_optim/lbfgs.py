"""L-BFGS with the Fisher preconditioner, and its way from stronger penalties to weak ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .descent import Callback, Descent, Objective, Solution
from .history import History
from .line_search import search

Vector = npt.NDArray[np.float64]

# Times that which L-BFGS may have gained in its last step: where it was more, its model has not seen the function yet.
# On the same data the first step leads from 1.386 to 0.054, and the model then promises 0.00001.
GAINED = 10

# How an extra penalty falls: its factor; iterations with the first; with the others, to which one is added for every
# second; and the part of the value that it may be when it is left out. Passes over Fashion-MNIST, and where they end:
#                     C = 100           10000             none
#     3, and so on    86, 0.31976       221, 0.31212      252, 0.31097
#     always 5        83, 0.31942       143, 0.31249      162, 0.31193
#     always 8        121, 0.31898      213, 0.31190      255, 0.31107
# Each of the strengths 1, 30 and 1000 followed to its end took 380 passes to 0.31246 for the second. All of these with
# a last part of 2e-4, which left what the model of the last penalty promised for the truth: without a penalty fits
# ended between 0.3110 and 0.3112. With 5e-5 one takes 201 evaluations to 0.31063.
EASE, EASE_FIRST, EASE_ITERATIONS, EASE_PART = 0.5, 10, 3, 5e-5
# Part of what may still be promised at the end, below which the next penalty comes at once; and the value below which
# none is needed any more, since the classes are apart: digits take 50 iterations so with C = 10000, and 104 without it,
# 50 and 119 without a penalty.
EASE_ENOUGH, EASE_VALUE = 1e-3, 1e-3


def lbfgs(
    objective: Objective,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    memory: int = 10,
    callback: Callback | None = None,
) -> Solution:
    """L-BFGS from w, its initial matrix the Fisher preconditioner, refreshed at iterations 0, 5, 15, 45, 75, ...

    Parameters
    ----------
    objective : object
        With ``value_and_grad(w) -> (float, (size,) float64)``, and ``preconditioner(w)`` if it has one:
        `SoftmaxObjective`, or one of your own.
    w : array_like, shape (size,)
        Where to start.
    tol : float
        For the largest component of the gradient; and the decrease which the quadratic model predicts, half of gᵀ H g
        with H the approximate inverse of the Hessian, must be at most ``1e-3 max(f, tol)``.
    max_iter : int
        Most iterations.
    memory : int
        Pairs of steps and gradients that are kept: 16 bytes a parameter each, or 8 where ``objective.dtype`` is
        float32. Besides, there are at most ten vectors of float64 of its own: with 10 pairs 240 bytes a parameter,
        or 160.
    callback : callable, optional
        Called as ``callback(iteration, value, gradient)`` with the largest component, and with ``w=``, a read-only
        array that it may keep, if it has a parameter of that name; True stops.

    Returns
    -------
    Solution
        w, value, largest_gradient, n_iter, curve, converged, report, which tells why it stopped, and
        predicted_decrease.

    References
    ----------
    J. Nocedal and S. Wright, "Numerical optimization", 2nd edition, 2006, algorithms 7.4 and 3.5. W. Hager and H.
    Zhang, SIAM Journal on Optimization 16 (2005), 170-192, for the conditions where values differ by rounding only.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> objective = SoftmaxObjective([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], l2=0.1)
    >>> found = optim.lbfgs(objective, np.zeros(objective.size))
    >>> found.converged, bool(found.largest_gradient <= 1e-4)
    (True, True)
    """
    run = Descent(objective, np.asarray(w, np.float64), tol, max_iter, callback)
    LBFGS(run, memory).to_the_end()
    return run.solution()


class LBFGS:
    """L-BFGS from the point of a run on, in stretches that share the pairs and the preconditioner."""

    def __init__(self, run: Descent, memory: int, refresh: int = 0) -> None:
        self.run, self.history = run, History(min(memory, run.max_iter), run)
        # Where the preconditioner has been computed, and where it will be computed anew.
        self.first, self.due = run.n_iter, run.n_iter + refresh

    def to_the_end(self, most: int | None = None, least: float = 0.0) -> None:
        """Go on to the end; or for `most` iterations, or until the gradient's largest component is `least`."""
        since = self.run.n_iter, self.run.evaluations
        self._go(self.run.max_iter if most is None else most, least)
        self.run.tell("L-BFGS", since)

    def ease(self, easing: Any) -> None:
        """Come to the objective from stronger penalties, whose minima are soon found, and each near the next.

        It is a continuation, or homotopy (Nocedal and Wright 2006, section 11.3), and the pairs go along: how another
        penalty changes them is known.
        """
        run, part, stage = self.run, 1.0, 0
        since = run.n_iter, run.evaluations
        run.ease(easing.diagonal)
        self._go(EASE_FIRST)
        while not run.reason:
            share, before, part, stage = run.value - run.asked[0], run.extra, EASE * part, stage + 1
            value = run.asked[0]
            over = part <= easing.least or share <= EASE_PART * max(value, run.tol) or value <= EASE_VALUE
            run.ease(None if over else part * easing.diagonal)
            assert before is not None
            self.history.ease(-before if run.extra is None else run.extra - before)
            if over:
                break
            self._go(EASE_ITERATIONS + (stage + 1) // 2)
        run.tell(f"L-BFGS with an extra penalty that falls to {part:.2g} of its strength", since)

    def _go(self, most: int, least: float = -math.inf) -> None:
        run, end = self.run, self.run.n_iter + most
        while math.isfinite(run.value):
            if run.extra is not None and run.n_iter == end < run.max_iter and not run.reason:
                break  # no direction is asked for, since it will be another's
            if run.n_iter == self.due:
                if self.history.pairs and run.largest_gradient <= run.tol:
                    self._aim()  # the preconditioner that is there may do to tell that this is the end
                    if run.reason:
                        break
                run.refresh()
                # Fashion-MNIST took 942 ms, and 1095 with 4, 8, 16, ... in the place of 5, 15, 45.
                gap = self.due - self.first
                self.due = self.first + (min(3 * gap, gap + 30) if gap else 5)
            direction, slope = self._aim()
            if run.reason or run.n_iter >= end or run.largest_gradient <= least:
                break
            if run.extra is not None and run.predicted_decrease <= EASE_ENOUGH * run.most_decrease:
                break
            point, grad = run.w, run.grad
            if search(run, direction, slope):
                self.history.add(point, grad)
            elif self.history.pairs:  # once more, from the preconditioner alone
                self.history.forget()
                run.reason = ""
                self.first = self.due = run.n_iter
            else:
                if run.extra is not None:
                    run.reason = ""  # the next penalty leaves more to be gained
                break

    def _aim(self) -> tuple[Vector, float]:
        """Return the direction and the slope along it, and tell the run whether that is the end."""
        run, direction = self.run, self.history.direction()
        slope = run.dot(run.grad, direction)
        # Separable classes may come to a loss of 1e-118 in one step, from where no more can be gained than that.
        nothing_left = run.largest_gradient == 0 or abs(run.value) <= run.most_decrease
        run.judge(slope, trusted=run.gained <= GAINED * run.most_decrease or nothing_left)
        return direction, slope
