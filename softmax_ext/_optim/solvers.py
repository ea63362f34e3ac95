"""`minimize` chooses a full-batch optimiser, for `LogisticRegression` and other estimators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.calls import Steps, alone
from .._objective.rows_space import RowsSpace
from . import newton
from .descent import Callback, Descent, Preconditioner, Solution, has_l1
from .lbfgs import LBFGS
from .newton import FEW
from .proximal import ProximalDescent, follow

Vector = npt.NDArray[np.float64]

# Newton's method takes over from L-BFGS after this many iterations, or when the largest gradient is this small.
LBFGS_ITERATIONS, LBFGS_TOL = 60, 1e-6
# A fit that begins with the preconditioner of a similar fit takes NEAR_ITERATIONS of L-BFGS if parameters are few, and
# computes the preconditioner again at iteration NEAR_REFRESH; see "The preconditioner of a similar fit" in
# docs/notes.md.
NEAR_ITERATIONS, NEAR_REFRESH = 8, 15
# L-BFGS after an extra penalty is followed by Newton's method where the predicted decrease is this part of the largest
# with which a fit may end, but the gradient is not small; see "A Hessian as preconditioner" in docs/notes.md.
SETTLED = 1e-3
# Where a whole Hessian can be the preconditioner, the last LAST_ITERATIONS of `max_iter`, or LAST_PART of them if that
# is less, are Newton's in any case: what has not converged until then is ill-conditioned, and they mostly reach its
# end; see there, too.
LAST_ITERATIONS, LAST_PART = 20, 0.2


def choose(size: int) -> str:
    """Return the method with which the solver "auto" begins for `size` parameters: "newton" or "lbfgs"."""
    return "newton" if size <= FEW else "lbfgs"


def within(objective: Any, solver: str = "auto") -> tuple[RowsSpace | None, Any]:
    """Return the space of the samples and the objective in it, if the solver uses it; else None and the objective."""
    found = None
    if solver == "auto" and not has_l1(objective):
        found = getattr(objective, "in_rows_space", lambda: None)()
    return (None, objective) if found is None else found


def spanning(objective: Any, solver: str) -> Steps[None]:
    """Yield the call that finds the space of the samples, if `within` needs it."""
    prepared = getattr(objective, "spanning", lambda: None)() if solver == "auto" else None
    if prepared is not None:
        yield prepared


def minimize(objective: Any, w: Vector, solver: str = "auto", **options: Any) -> Solution:
    """Minimise as `steps` says, which also has the other arguments."""
    return alone(steps(objective, w, solver, **options))


def steps(
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
    meeting: bool = False,
) -> Steps[Solution]:
    """Minimise by `solver`, "lbfgs", "newton" or "auto"; if the objective has an L1 penalty, always by `proximal`.

    "auto" takes Newton's method for up to 128 parameters. For more it begins with L-BFGS. After 60 iterations, or at a
    gradient of 1e-6, it goes on with Newton's method, which reaches tight tolerances in few steps.

    - If samples are far fewer than features, and the objective has a method `in_rows_space` for that, the fit takes
      place in the space of the samples.
    - If w is 0 and the objective's `easing()` returns an extra penalty, L-BFGS begins with that, and reduces it.
      Newton's method follows only where the predicted decrease is far below what is small enough for the end.
    - If the `preconditioner` of a similar fit is given, L-BFGS begins with it. With few parameters it takes 8
      iterations.

    `begun` is called with the descent before its first step, for callers that want the best point if the fit is broken
    off. `asked` is the value and the gradient at w, if they are known. `space` is given if the objective and w are
    already in the space of the samples.

    If it is `meeting` others, the long calls of a small fit are yielded before they are made, to be made together with
    those of others: for the space of the samples, for the first iterations, and for the gradient by all features.
    """
    if has_l1(objective):
        descent = ProximalDescent(objective, w, tol, max_iter, callback, asked=asked)
        if begun is not None:
            begun(descent)
        follow(descent)
        return descent.solution()
    near = preconditioner is not None
    if space is None and not near:
        if meeting:
            yield from spanning(objective, solver)
        space, objective = within(objective, solver)
        if space is not None:
            w, asked = space.lower(np.asarray(w)), None
    run = Descent(objective, w, tol, max_iter, callback, space, asked)
    if begun is not None:
        begun(run)
    if space is not None:
        run.lines.append(f"in the space of the samples: {space.narrow.D} features in the place of {space.wide.D}")
    chosen = solver if solver != "auto" else choose(run.w.size) if space is None else "lbfgs"
    if solver == "newton" or (chosen == "newton" and not near):
        newton.follow(run)
        return run.solution()
    if preconditioner is not None:
        run.preconditioner = preconditioner
    lbfgs = LBFGS(run, 10, refresh=NEAR_REFRESH if near else 0)
    if solver == "lbfgs":
        lbfgs.to_the_end()
        return run.solution()
    yield from follow_both(lbfgs, LBFGS_ITERATIONS if chosen == "lbfgs" else NEAR_ITERATIONS, near, meeting)
    return run.solution()


def follow_both(lbfgs: LBFGS, most: int, near: bool, meeting: bool) -> Steps[None]:
    """Take up to `most` iterations of L-BFGS, or more after an extra penalty, and go on by Newton's method."""
    run = lbfgs.run
    cold = not near and run.from_zero
    easing = run.objective.easing() if cold and hasattr(run.objective, "easing") else None
    tight = run.tol < LBFGS_TOL
    least, settled = LBFGS_TOL if tight else 0.0, 0.0
    if easing is not None:
        end = run.max_iter
        if newton.has_hessian(run):
            end -= min(LAST_ITERATIONS, int(LAST_PART * run.max_iter))
        lbfgs.ease(easing, end)
        left = max(0, end - run.n_iter)
        # Newton's method would now take thousands of products, unless the tolerance is tight, little is left to gain,
        # or there is a whole Hessian; see "From stronger penalties to weak ones" in docs/notes.md.
        most, settled = (min(most, left), 0.0) if tight else (left, SETTLED)
    if meeting and easing is None:
        yield from lbfgs.ahead(most, least)
    lbfgs.to_the_end(most, least, settled)
    if not run.reason:
        newton.follow(run)
