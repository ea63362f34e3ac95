"""The choice of a full-batch optimiser, for `LogisticRegression` and its kin."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._objective.rows_space import RowsSpace
from . import newton
from .descent import Callback, Descent, Preconditioner, Solution, has_l1
from .lbfgs import LBFGS
from .newton import FEW
from .proximal import ProximalDescent, follow

Vector = npt.NDArray[np.float64]

# What L-BFGS gets before Newton's method takes over: iterations, and the tolerance that it need not go below.
LBFGS_ITERATIONS, LBFGS_TOL = 60, 1e-6
# With the curvature of a fit nearby: iterations where parameters are few, and the one in which it is first computed
# anew. Folds of digits along ten values of C take 488 evaluations and 44 preconditioners with 5, 506 and 15 with 15.
NEAR_ITERATIONS, NEAR_REFRESH = 8, 15


def choose(size: int) -> str:
    """Return what the solver "auto" begins with for so many parameters: "newton" or "lbfgs"."""
    return "newton" if size <= FEW else "lbfgs"


def within(objective: Any, solver: str = "auto") -> tuple[RowsSpace | None, Any]:
    """Return the space of the samples and the objective in it, where "auto" goes there; else None and the objective."""
    found = None
    if solver == "auto" and not has_l1(objective):
        found = getattr(objective, "in_rows_space", lambda: None)()
    return (None, objective) if found is None else found


def minimize(
    objective: Any,
    w: Vector,
    solver: str = "auto",
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
    preconditioner: Preconditioner | None = None,
    begun: Callable[[Descent], object] | None = None,
    asked: tuple[float, Vector] | None = None,
    space: RowsSpace | None = None,
) -> Solution:
    """Minimise by `solver`: "lbfgs", "newton", or "auto"; with an L1 penalty by `proximal`, whatever it is.

    "auto" takes Newton's method for up to 128 parameters. For more it takes L-BFGS, and from where that is after 60
    iterations, or at a gradient of 1e-6, Newton's method, which reaches tight tolerances in few steps.

    - Where the objective has an `in_rows_space()`, since samples are far fewer than features, all of it happens there.
    - Where it asks for it by an `easing()`, and w is 0, L-BFGS comes to it from stronger penalties.
    - With the `preconditioner` of a fit nearby L-BFGS begins with that, at once, also for few parameters, where it gets
      8 iterations.

    `begun` is called with the descent before its first step, for whoever wants to know how far it came if it is broken
    off. `asked` is the value and the gradient at w, where they are known. `space` is given where the objective and w
    are in it already.
    """
    if has_l1(objective):
        descent = ProximalDescent(objective, w, tol, max_iter, callback, asked=asked)
        if begun is not None:
            begun(descent)
        follow(descent)
        return descent.solution()
    near = preconditioner is not None
    if space is None and not near:
        space, objective = within(objective, solver)
        if space is not None:
            w, asked = space.lower(np.asarray(w)), None
    run = Descent(objective, w, tol, max_iter, callback, space, asked)
    if begun is not None:
        begun(run)
    if space is not None:
        run.lines.append(f"in the space of the samples: {space.narrow.D} features in the place of {space.wide.D}")
    chosen = choose(run.w.size) if solver == "auto" else solver
    if solver == "newton" or (chosen == "newton" and not near):
        newton.follow(run)
        return run.solution()
    if preconditioner is not None:
        run.preconditioner = preconditioner
    lbfgs = LBFGS(run, 10, refresh=NEAR_REFRESH if near else 0)
    if solver == "lbfgs":
        lbfgs.to_the_end()
        return run.solution()
    cold = not near and not run.w.any()
    easing = objective.easing() if cold and hasattr(objective, "easing") else None
    if easing is not None:
        lbfgs.ease(easing)
    most: int | None = LBFGS_ITERATIONS if chosen == "lbfgs" else NEAR_ITERATIONS
    tight = tol < LBFGS_TOL
    if easing is not None and not tight:  # Newton's method took Fashion-MNIST 4250 products with C = 10000
        most = None
    lbfgs.to_the_end(most, LBFGS_TOL if tight else 0.0)
    if not run.reason:
        newton.follow(run)
    return run.solution()
