"""Fits that share work: along a path of penalties, and for other weights of the same rows beside it.

A trail goes from strong penalties to weak ones. Each of its fits begins at the end of the one before (Friedman, Hastie
and Tibshirani, Journal of Statistical Software 33(1), 2010, section 2.5), or further on, at a point that is predicted
from the ends so far. A fit with other weights of the same rows, such as those of a fold, goes beside the trail. It
begins from its own ends, but its preconditioner is that of the trail, which L-BFGS corrects by its pairs of steps and
gradients.

Only the preconditioner is shared. If a fold began where all rows have ended, it would need fewer steps. But it would
stop as soon as it is within the tolerance, and would then know something of the labels that score it: weak penalties
get scores that are too good, and are chosen. (docs/notes.md, "What folds may share", also has other ways to begin.)
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
    """Where the fits of one objective have ended along a path, and where the next one should begin.

    The beginning is predicted, as in other continuation methods (Allgower and Georg, "Numerical continuation methods",
    1990): w goes on along the logarithm of the penalty with the velocity of the last step, reduced by the factor by
    which the last velocity was less than the one before. If the objective is not lower there, the next fit begins where
    the last one has ended.
    """

    def __init__(self, size: int) -> None:
        self.w: Vector = np.zeros(size)
        self.loss: Asked | None = None  # loss and gradient at w without the penalty, if they are known
        self.l2 = 0.0
        self.velocity: Vector | None = None  # the change of w by the logarithm of l2, in the last step
        self.speeds = (0.0, 0.0)  # the norms of the velocities of the last two steps, the last one second
        self.model: Model | Among | None = None  # the model of the loss from the last fit with an L1 penalty
        self.dual: Dual | None = None

    def begin(self, objective: Any) -> tuple[Vector, Asked | None]:
        """Return where to begin a fit, and value and gradient there; the objective has its next penalty already."""
        l2, (before, last), behind = objective.penalty.l2, self.speeds, self._penalised(objective)
        straight = objective.penalty.l1 == 0  # with L1, coefficients stay 0 for a while, which no line predicts
        if behind is None or self.velocity is None or not (straight and 0 < l2 < self.l2 and before > 0):
            return self.w, behind
        w = self.w + math.log(self.l2 / l2) * min(1.0, last / before) * self.velocity
        ahead = objective.value_and_grad(w)
        return (w, ahead) if ahead[0] < behind[0] else (self.w, behind)

    def _penalised(self, objective: Any) -> Asked | None:
        """Return the objective's value and gradient at w. This needs no pass, since only the penalty has changed."""
        if self.loss is None:
            return None
        (loss, slope), weights = self.loss, objective.parameters.weights
        grad = slope.copy()
        objective.penalty.add_gradient(weights(self.w), weights(grad))
        return loss + objective.penalty.value(weights(self.w)), grad

    def end(self, objective: Any, run: Descent) -> None:
        """Store where a fit of the objective has ended."""
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

    Where penalties are weak, a small change of the penalty leaves the gradient within `tol`, so that fits would not
    move. With `moving` each fit also brings the gradient to a tenth of what the change has made of it.

    The objective and the ends of its fits may be in the space of the samples (`solvers.within`). Then only solutions
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
        self.near: Shared | None = None  # the preconditioner from near the end of the last fit
        self.moved = True  # whether fits have moved on since it was computed

    @property
    def w(self) -> Vector:
        """The end of the last fit."""
        return self.ends.w

    def to(self, penalty: Penalty, callback: Callback | None = None) -> Solution:
        """Fit with the next penalty, and return the solution."""
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
        # With `moving` the fit may have had a smaller tolerance, but `self.tol` decides whether it has converged.
        small = solution.largest_gradient <= self.tol
        predicted = solution.predicted_decrease <= most_decrease(solution.value, self.tol)
        return solution._replace(converged=solution.converged or (small and predicted))

    def _follow(self, objective: Any, ends: Ends, curvature: Any, tol: float, callback: Callback | None) -> Solution:
        """Fit the objective from its own ends, store where it ends, and return the solution."""
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
        if ends.dual is None:
            ends.dual = Dual(objective)
        start, asked = ends.begin(objective)
        with np.errstate(over="ignore", invalid="ignore"):
            run = ProximalDescent(objective, start, self.tol, self.max_iter, callback, dual=ends.dual, asked=asked)
            ends.model = follow(run, ends.model)
        ends.end(objective, run)
        return run.solution()

    def curvature(self) -> Any:
        """Return the preconditioner at the end of the last fit; None for Newton's method and for L1.

        The next fit of the trail begins with it, too.
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
        """Fit other weights of the same rows with a penalty of the trail, from their own ends; return the solution."""
        objective.penalty = penalty
        if penalty.l1:
            return self._follow_l1(objective, ends, callback)
        return self._follow(objective, ends, curvature, self.tol, callback)


class Shared:
    """A Fisher preconditioner that several fits use at once, so that none of them may move it to another point."""

    def __init__(self, fisher: Callable[[Vector], Vector]) -> None:
        self.fisher: Any = fisher

    def __call__(self, g: Vector) -> Vector:
        """Return M⁻¹ g."""
        return self.together([g])[0]

    def together(self, vectors: Sequence[Array]) -> list[Vector]:
        """Return M⁻¹ g for each g."""
        found: list[Vector] = self.fisher.together(vectors)
        return found
