"""Fits that help each other: along a path of penalties, and of parts of the data beside it.

A trail goes from strong penalties to weak ones. Each of its fits begins at the end of the one before, as in Friedman,
Hastie and Tibshirani (Journal of Statistical Software 33(1), 2010), section 2.5, or ahead of it, where the ends so far
lead to. A fit of other weights of the same rows, such as those of a fold, goes beside it: from its own ends to its own
end, but with the trail's curvature in the place of its own, which L-BFGS corrects by its pairs of steps and gradients.

Curvature is all that they share. A fold that begins where all rows have ended, or moves as they have moved, needs fewer
steps; but it stops as soon as it is within the tolerance, and then knows something of the labels that it is scored by.
On digits, of which all rows are fitted without an error, weak penalties then scored 0.934, where converged fits score
0.907, and the weakest was chosen.

To begin ahead takes 40 % of the passes from digits' sixty fits, and adds 13 % to those of 20000 x 50 x 5, which with
weak penalties would not move. To begin with the pairs of the fit before, whose change with the penalty is known, took
19 % from digits and added 17 % to the others. The pairs of all rows' fit, handed on with its curvature, took 7 % from
digits and at most 13 % from others, for two more sweeps over them in each iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .._objective.penalty import Penalty
from .._objective.rows_space import RowsSpace
from .._optim.descent import Callback, Descent, Solution, most_decrease
from .._optim.duality import Dual
from .._optim.newton import FEW, inverse_hessian
from .._optim.proximal import Among, Model, ProximalDescent, follow
from .._optim.solvers import minimize

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Asked = tuple[float, Vector]  # a value and a gradient


class Ends:
    """Where the fits of one objective have ended along a path, and where the next had better begin.

    That is a predictor, as of any continuation (Allgower and Georg, "Numerical continuation methods", 1990): w goes on
    along the logarithm of the penalty as it went, by as much as its last step was of the one before where steps shrink.
    Where the objective is no lower there, the next fit begins where the last has ended.
    """

    def __init__(self, size: int) -> None:
        self.w: Vector = np.zeros(size)
        self.loss: Asked | None = None  # there, without a penalty, if that is known
        self.l2 = 0.0
        self.velocity: Vector | None = None  # of w, along the logarithm of l2
        self.speeds = (0.0, 0.0)  # of the step before the last, and of the last
        self.model: Model | Among | None = None  # of the loss, from the last fit with an L1 penalty
        self.dual: Dual | None = None

    def begin(self, objective: Any) -> tuple[Vector, Asked | None]:
        """Return where to begin the fit of the objective, which has its next penalty already; and its value there."""
        l2, (before, last), behind = objective.penalty.l2, self.speeds, self._penalised(objective)
        straight = objective.penalty.l1 == 0  # a weight that is 0 goes its own way
        if behind is None or self.velocity is None or not (straight and 0 < l2 < self.l2 and before > 0):
            return self.w, behind
        w = self.w + math.log(self.l2 / l2) * min(1.0, last / before) * self.velocity
        ahead = objective.value_and_grad(w)
        return (w, ahead) if ahead[0] < behind[0] else (self.w, behind)

    def _penalised(self, objective: Any) -> Asked | None:
        """Return the objective's value and gradient at w, which takes no pass: only the penalty has changed."""
        if self.loss is None:
            return None
        (loss, slope), weights = self.loss, objective.parameters.weights
        grad = slope.copy()
        objective.penalty.add_gradient(weights(self.w), weights(grad))
        return loss + objective.penalty.value(weights(self.w)), grad

    def end(self, objective: Any, run: Descent) -> None:
        """Note where the fit of the objective has ended."""
        w, (value, grad) = run.w, run.asked
        grad = grad.copy()
        l2, weights = objective.penalty.l2, objective.parameters.weights
        self.velocity = None
        if 0 < l2 < self.l2:
            self.velocity = (w - self.w) / math.log(self.l2 / l2)
            self.speeds = self.speeds[1], float(np.linalg.norm(self.velocity))
        self.w, self.l2 = w, l2
        objective.penalty.add_gradient(-weights(w), weights(grad))
        self.loss = value - objective.penalty.value(weights(w)), grad


class Trail:
    """The fits of one objective along a path, each from the end of the one before.

    Where penalties are weak, a small change of one leaves the gradient within `tol`, and fits would not move. With
    `moving` each also brings the gradient to a tenth of what that change makes of it.

    The objective, and where its fits end, may be in the space of the samples (`solvers.within`): then solutions alone
    have all features.
    """

    def __init__(
        self,
        objective: Any,
        *,
        space: RowsSpace | None = None,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 100,
        moving: bool = False,
    ) -> None:
        self.objective, self.solver, self.tol, self.max_iter, self.moving = objective, solver, tol, max_iter, moving
        self.space, self.last = space, np.zeros(objective.size if space is None else space.wide.size)
        self.ends = Ends(objective.size)
        self.near: Shared | None = None  # the curvature near where the last fit has ended
        self.moved = True  # whether that is another place by now

    @property
    def w(self) -> Vector:
        """Where the last fit has ended."""
        return self.ends.w

    def to(self, penalty: Penalty, callback: Callback | None = None) -> Solution:
        """Fit with the next penalty."""
        if penalty.l1:
            self.objective.penalty = penalty
            return self._follow_l1(self.objective, self.ends, callback)
        of = self.objective.parameters if self.space is None else self.space.wide
        tol, W = self.tol, of.weights(self.last)
        if self.moving and W.any():
            change = np.zeros_like(W)
            penalty.add_gradient(W, change)
            self.objective.penalty.add_gradient(-W, change)
            tol = min(tol, 0.1 * float(np.abs(change).max()))
        self.objective.penalty = penalty
        solution = self._follow(self.objective, self.ends, self.near, tol, callback)
        self.moved |= solution.n_iter > 1
        self.last = solution.w
        # It may have been asked for less than `self.tol`, and is converged if it is there.
        small = solution.largest_gradient <= self.tol
        predicted = solution.predicted_decrease <= most_decrease(solution.value, self.tol)
        return solution._replace(converged=solution.converged or (small and predicted))

    def _follow(self, objective: Any, ends: Ends, curvature: Any, tol: float, callback: Callback | None) -> Solution:
        """Fit the objective from its own ends, and note where it ends."""
        runs: list[Descent] = []
        with np.errstate(over="ignore", invalid="ignore"):
            start, asked = ends.begin(objective)
            solution = minimize(
                objective,
                start,
                self.solver,
                tol=tol,
                max_iter=self.max_iter,
                callback=callback,
                preconditioner=curvature,
                begun=runs.append,
                asked=asked,
                space=self.space,
            )
        ends.end(objective, runs[0])
        return solution

    def _follow_l1(self, objective: Any, ends: Ends, callback: Callback | None) -> Solution:
        if objective.penalty.l2 != ends.l2:
            ends.model = None
        if ends.dual is None:
            ends.dual = Dual(objective)
        start, asked = ends.begin(objective)
        with np.errstate(over="ignore", invalid="ignore"):
            run = ProximalDescent(objective, start, self.tol, self.max_iter, callback, dual=ends.dual, asked=asked)
            ends.model = follow(run, ends.model)
        ends.end(objective, run)
        return run.solution()

    def curvature(self) -> Any:
        """Return what multiplies by an approximate inverse of the Hessian here; None for Newton's method and for L1.

        The next fit begins with it too.
        """
        objective = self.objective
        if self.solver == "newton" or objective.penalty.l1:
            return None
        if self.w.size <= FEW:
            return inverse_hessian(objective, self.w)
        if self.moved:
            self.near, self.moved = Shared(objective.preconditioner(self.w)), False
        return self.near

    def beside(
        self, objective: Any, penalty: Penalty, ends: Ends, curvature: Any, callback: Callback | None = None
    ) -> Solution:
        """Fit other weights of the same rows with a penalty of the trail, on from where their own fits have ended."""
        objective.penalty = penalty
        if penalty.l1:
            return self._follow_l1(objective, ends, callback)
        return self._follow(objective, ends, curvature, self.tol, callback)


class Shared:
    """A Fisher preconditioner that several fits use at once, and none may bring elsewhere."""

    def __init__(self, fisher: Callable[[Vector], Vector]) -> None:
        self.fisher: Any = fisher

    def __call__(self, g: Vector) -> Vector:
        """Return M⁻¹ g."""
        return self.together([g])[0]

    def together(self, vectors: Sequence[Array]) -> list[Vector]:
        """Return M⁻¹ g for each g."""
        found: list[Vector] = self.fisher.together(vectors)
        return found
