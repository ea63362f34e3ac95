"""L-BFGS with the Fisher preconditioner, and the continuation from strong penalties to weak ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.calls import Steps
from .._inputs.scalars import check_integer
from .descent import DIAGONAL_ITERATIONS, Callback, Descent, Objective, Solution, check_optimiser
from .history import History
from .line_search import search
from .stretch import Stretch

Vector = npt.NDArray[np.float64]

# The predicted decrease is trusted if the last step decreased the value by at most GAINED times the decrease that is
# small enough for the end. After a larger step the quadratic model does not know the function yet; see "A fit ends by
# its predicted decrease" in docs/notes.md.
GAINED = 10

# The iteration at which the preconditioner is computed again for the first time.
AGAIN = 5

# Each extra penalty is EASE times the one before. The first one has EASE_FIRST iterations, the others EASE_ITERATIONS,
# to which one is added for every second penalty. It is left out when it is less than EASE_PART of the value. See "From
# stronger penalties to weak ones" in docs/notes.md.
EASE, EASE_FIRST, EASE_ITERATIONS, EASE_PART = 0.5, 10, 3, 5e-5
# The next penalty follows at once if the predicted decrease is less than EASE_ENOUGH times what is small enough for the
# end. No extra penalty is needed once the value is less than EASE_VALUE, since the classes are separated then.
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
    """Minimise by L-BFGS, whose initial matrix is the Fisher preconditioner of iterations 0, 5, 15, 45, 75, ...

    Parameters
    ----------
    objective : object
        A `SoftmaxObjective`, or an object with the method ``value_and_grad(w) -> (float, (size,) float64)``, and
        optionally ``preconditioner(w)``.
    w : array_like, shape (size,)
        Where to start; copied.
    tol : float >= 0
        It ends where the largest component of the gradient is at most `tol`, and the decrease that the quadratic model
        predicts, half of gᵀ H g with H the approximate inverse of the Hessian, at most ``1e-3 max(f, tol)``.
    max_iter : int >= 0
        The most iterations.
    memory : int >= 0
        The number of pairs of steps and changes of the gradient that are kept. A pair takes 16 bytes for each
        parameter, or 8 if ``objective.dtype`` is float32. At most ten vectors of float64 are kept besides: with 10
        pairs 240 bytes for each parameter, or 160.
    callback : callable, optional
        Called after each iteration as ``callback(iteration, value, gradient)``, with the largest component of the
        gradient. If it has a parameter ``w``, it also gets w by that name, a read-only array that it may keep. The
        method stops if it returns True.

    Returns
    -------
    Solution
        Named tuple of w, value, largest_gradient, n_iter, curve, converged, report, which says why it stopped,
        predicted_decrease and gap, which is NaN here.

    Raises
    ------
    ValueError, TypeError
        If the objective has an L1 penalty, which `proximal` minimises, and if an argument is not as it is described.

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
    run = Descent(objective, *check_optimiser(w, tol, max_iter), callback)
    LBFGS(run, check_integer(memory, "memory", 0)).to_the_end()
    return run.solution()


class LBFGS:
    """L-BFGS from the present point of a descent on; its pairs and preconditioner are kept from method to method."""

    def __init__(self, run: Descent, memory: int, refresh: int = 0) -> None:
        self.run, self.history = run, History(min(memory, run.max_iter), run)
        self.stretch = Stretch(run, self.history, EASE_ENOUGH) if Stretch.serves(run) else None
        # The first iteration with a preconditioner of this history, and the one in which it is computed next.
        self.first, self.due = run.n_iter, run.n_iter + refresh
        self.again = AGAIN if run.space is None else DIAGONAL_ITERATIONS
        self.since = run.n_iter, run.evaluations  # where the part of the descent began that the report tells next

    def to_the_end(self, most: int | None = None, least: float = 0.0, settled: float = 0.0) -> None:
        """Go on until the descent ends, for `most` iterations, or until the gradient's largest component is `least`.

        L-BFGS also breaks off when the preconditioner is due and the predicted decrease is at most `settled` times the
        largest with which a fit may end: there Newton's method needs few steps to reduce the gradient, too.
        """
        self._go(self.since[0] + (self.run.max_iter if most is None else most), least, settled)
        self.run.tell("L-BFGS", self.since)

    def ahead(self, most: int, least: float) -> Steps[None]:
        """Yield the calls with which `to_the_end` begins, to be made before: of iterations, and of where they lead."""
        run = self.run
        if self.stretch is None or not math.isfinite(run.value):
            return
        if run.n_iter == self.due:
            self._refresh()
        prepared = self.stretch.ahead(self._until(run.n_iter + most), least)
        if prepared is not None:
            yield prepared
            if (prepared := run.ahead()) is not None:
                yield prepared

    def ease(self, easing: Any, end: int) -> None:
        """Approach the objective's minimum over those with stronger penalties, of which each is near the next.

        From iteration `end` on there is no other penalty.

        It is a continuation, or homotopy (Nocedal and Wright 2006, section 11.3). The minima with strong penalties take
        few iterations. The pairs are kept, since it is known how another penalty changes them.
        """
        run, part, stage = self.run, 1.0, 0
        run.ease(easing.diagonal)
        self._go(min(run.n_iter + EASE_FIRST, end))
        while not run.reason:
            share, before, part, stage = run.value - run.asked[0], run.extra, EASE * part, stage + 1
            value = run.asked[0]
            small = share <= EASE_PART * max(value, run.tol) or value <= EASE_VALUE
            over = small or part <= easing.least or run.n_iter >= end
            run.ease(None if over else part * easing.diagonal)
            assert before is not None
            self.history.ease(-before if run.extra is None else run.extra - before)
            if over:
                break
            self._go(min(run.n_iter + EASE_ITERATIONS + (stage + 1) // 2, end))
        run.tell(f"L-BFGS with an extra penalty that falls to {part:.2g} of its strength", self.since)
        self.since = run.n_iter, run.evaluations

    def _go(self, end: int, least: float = -math.inf, settled: float = 0.0) -> None:
        """Iterate up to iteration `end`, or until another one of the conditions of `to_the_end` holds."""
        run = self.run
        while math.isfinite(run.value):
            if run.extra is not None and run.n_iter == end < run.max_iter and not run.reason:
                break  # the next direction will be for another penalty
            if run.n_iter == self.due:
                if self.history and run.largest_gradient <= run.tol:
                    self._judge(self._aim()[1])  # the old preconditioner may suffice to see that this is the end
                    if run.reason:
                        break
                elif self.history and settled and -0.5 * self._aim()[1] <= settled * run.most_decrease:
                    break
                self._refresh()
            aimed = self._aim() if self.stretch is None else self.stretch.go(self._until(end), least)
            if aimed is None:
                continue
            direction, slope = aimed
            self._judge(slope)
            if run.reason or run.n_iter >= end or run.largest_gradient <= least:
                break
            if run.extra is not None and run.predicted_decrease <= EASE_ENOUGH * run.most_decrease:
                break
            point, grad = run.w, run.grad
            if search(run, direction, slope):
                self.history.add(point, grad)
            elif self.history:  # try again with the preconditioner alone
                self.history.forget()
                run.reason = ""
                self.first = self.due = run.n_iter
            else:
                if run.extra is not None:
                    run.reason = ""  # a decrease may be found with the next penalty
                break

    def _refresh(self) -> None:
        """Compute the preconditioner; see "When the preconditioner is computed again" in docs/notes.md."""
        self.run.refresh()
        gap = self.due - self.first
        self.due = self.first + (min(3 * gap, gap + 30) if gap else self.again)

    def _until(self, end: int) -> int:
        """Return how many iterations may be taken before something else than an iteration is due."""
        return min(end, self.due, self.run.max_iter) - self.run.n_iter

    def _aim(self) -> tuple[Vector, float]:
        """Return the next direction and the slope along it."""
        direction = self.history.direction()
        return direction, self.run.dot(self.run.grad, direction)

    def _judge(self, slope: float) -> None:
        """Let the descent judge whether this is the end."""
        run = self.run
        # With separable classes one step may lead to a loss of 1e-118. Then nothing is left to gain, however large the
        # step was.
        nothing_left = run.largest_gradient == 0 or abs(run.value) <= run.most_decrease
        run.judge(slope, trusted=run.gained <= GAINED * run.most_decrease or nothing_left)
