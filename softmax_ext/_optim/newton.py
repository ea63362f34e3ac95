"""Newton's method: with the whole Hessian if parameters are few, else by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor
from .._inputs.dtypes import EPS
from .._objective.parameters import Parameters
from .descent import Callback, Descent, Solution, TwiceDifferentiable, check_optimiser
from .line_search import search

Vector = npt.NDArray[np.float64]

# Up to this many parameters Newton's method has the whole Hessian, and is the fastest method on every data set that was
# tried; see "Newton's method for few parameters" in docs/notes.md.
FEW = 128
# Up to MANY parameters a whole Hessian takes less time than 250 products. It becomes the preconditioner after a step of
# more than LONG products, and is computed again after one of more than AGAIN; see "A Hessian as preconditioner" in
# docs/notes.md.
MANY, LONG, AGAIN = 2000, 100, 20
# Near the minimum a step by the Hessian of the point before multiplies the gradient by about twice what the last step
# did. If LAST times that leads to the end, no other Hessian is computed; see "The last step of Newton's method" in
# docs/notes.md.
LAST = 2.0
# The Hessian of all rows replaces that of fewer rows if a step leaves more than this part of the predicted decrease. A
# step usually leaves a hundredth.
SLOW = 0.3


def newton(
    objective: TwiceDifferentiable,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
) -> Solution:
    """Minimise by Newton's method: with the whole Hessian up to 128 parameters, else by conjugate gradients.

    It is meant for tight tolerances and ill-conditioned data. The conjugate gradients use products from `hessp` and the
    preconditioner of `lbfgs`, and stop early far from the minimum (Nocedal and Wright 2006, algorithm 7.1).

    Parameters
    ----------
    objective : object
        A `SoftmaxObjective`, or an object with the methods ``value_and_grad`` and ``hessp``, and optionally ``hessian``
        and ``preconditioner``.
    w, tol, max_iter, callback
        As in `lbfgs`.

    Returns
    -------
    Solution
        As from `lbfgs`.

    Raises
    ------
    ValueError, TypeError
        If the objective has an L1 penalty, which `proximal` minimises, and if an argument is not as it is described.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> objective = SoftmaxObjective([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], l2=0.1)
    >>> found = optim.newton(objective, np.zeros(objective.size), tol=1e-12)
    >>> found.converged, found.n_iter < 10
    (True, True)
    """
    run = Descent(objective, *check_optimiser(w, tol, max_iter), callback)
    follow(run)
    return run.solution()


def follow(run: Descent) -> None:
    """Take steps of Newton's method until the descent ends.

    The first whole Hessians may be those of an objective of fewer rows, if the objective has a method `thinned` that
    returns one. A step then has a relative error of about an eighth. If steps gain too little for that, the Hessian of
    all rows is used from there on.

    The last step may be by the whole Hessian of the point before. Conjugate gradients take their preconditioner from
    the whole Hessian of a point if they have taken long.
    """
    since, many = (run.n_iter, run.evaluations), has_hessian(run)
    exact = many and run.w.size <= FEW
    inverse: Callable[[Vector], Vector] | None = None
    whole: Callable[[Vector], Vector] | None = None  # the preconditioner, once it is a whole Hessian's inverse
    products = 0  # with the Hessian, by the last step's conjugate gradients
    predicted: list[float] = []
    fresh = aged = False  # whether `inverse` is of where the last step began, and whether the next step is by it
    thinned = getattr(run.objective, "thinned", None) if exact else None
    model = (thinned and thinned()) or run.objective
    while math.isfinite(run.value):
        if inverse is not None and (run.reason or run.largest_gradient <= run.tol or run.n_iter >= run.max_iter):
            run.judge(-run.dot(run.grad, inverse(run.grad)))  # by the Hessian of the point before, to save one
            if run.reason:
                break
        if exact:
            aged = fresh and _nearly_ends(run)
            if inverse is None or not aged:
                inverse = inverse_hessian(model, run.w)
            fresh, direction = not aged, -inverse(run.grad)
        else:
            if many and products > (LONG if whole is None else AGAIN):
                if whole is None:
                    predicted = []  # before, they were those of steps that ended early, and fall as they like
                run.preconditioner = whole = inverse_hessian(run.objective, run.w)
            elif whole is None:
                run.refresh()
            inverse, before = run.invert, run.products
            direction = _conjugate_gradients(run)
            products = run.products - before
        slope, tried = run.dot(run.grad, direction), run.evaluations
        run.judge(slope)
        predicted = [] if aged else [*predicted, run.predicted_decrease]
        over = bool(run.reason)
        if (exact or whole is not None) and not over and _is_rounding(predicted, run):
            run.reason = "the predicted decrease no longer falls as it should: it is rounding of the gradient"
        went = not run.reason and search(run, direction, slope)
        if model is not run.objective and not over:
            slow = len(predicted) > 1 and predicted[-1] > SLOW * predicted[-2]
            if not went or slow or run.evaluations > tried + 1:
                model, predicted, run.reason, fresh = run.objective, [], run.reason if went else "", False
                continue
        if not went and aged and not over:
            run.reason = ""  # a decrease may be found with a Hessian of this point
        elif not went:
            break
    run.tell("Newton's method" if exact else "Newton's method by conjugate gradients", since)


def has_hessian(run: Descent) -> bool:
    """Return whether there is a whole Hessian, and it takes less time than many products."""
    return run.w.size <= MANY and hasattr(run.objective, "hessian")


def _nearly_ends(run: Descent) -> bool:
    """Return whether a step by the Hessian of the point before is likely to be the last one."""
    before, now = run.largest_gradients[-2:]
    return run.tol < now and LAST * now * now <= run.tol * before


def _is_rounding(predicted: list[float], run: Descent) -> bool:
    """Return whether the decreases that whole Hessians predict are only rounding of the gradient.

    Near the minimum each step reduces the predicted decrease by a larger factor than the step before. So it is rounding
    if the factor gets smaller while the decrease is too small for values to show it, or if two steps have not reduced a
    decrease that is small enough for the end. Further steps would go back and forth; see "Newton's method for few
    parameters" in docs/notes.md.
    """
    if len(predicted) < 3:
        return False
    first, second, last = predicted[-3:]
    if last <= run.rounding:
        return last * first >= second**2
    if second <= run.rounding:  # and now it is larger again
        return True
    return max(predicted[-3:]) <= run.most_decrease and min(second, last) >= first / 2


def inverse_hessian(objective: Any, w: Vector) -> Callable[[Vector], Vector]:
    """Return a function that multiplies by the inverse of an objective's whole Hessian at w.

    If the same can be added to a parameter of all classes without a change of the loss, the Hessian is singular along
    that direction. A gradient's component along it is only rounding, some 1e-8 of a float32 pass, but the ridge of the
    factor would enlarge it to 1e5. So it is removed, if the objective's layout tells the direction. If features nearly
    depend on one another, a gradient has no correct digits along some other directions. So each second derivative is
    increased by the rounding error that it would have if its feature's mean were 0; with the mean, features far from 0
    would be damped too much.
    """
    H, parameters = objective.hessian(w), getattr(objective, "parameters", None)
    if not isinstance(parameters, Parameters):
        return Factor(H).solve
    count, D = parameters.count, parameters.D
    factor = Factor(H, EPS[objective.dtype], classes=count, D=D, intercept=parameters.intercept)
    if factor.failed:
        return factor.solve
    penalised = objective.penalty.shrinks(D)
    return lambda v: factor.solve(parameters.determined(v, penalised))


def _conjugate_gradients(run: Descent) -> Vector:
    """Return an approximate Newton step, by preconditioned conjugate gradients."""
    direction, residual = np.zeros_like(run.w), -run.grad
    (z,) = run.precondition(residual)
    p, rz = z.copy(), run.dot(residual, z)
    # The tolerance falls with the gradient, so that Newton's steps converge faster than linearly.
    wanted = min(0.25, math.sqrt(run.largest_gradient)) ** 2 * rz
    for _ in range(min(250, 2 * run.w.size)):
        Hp = run.objective.hessp(run.w, p)
        run.products += 1
        curvature = run.dot(p, Hp)
        if not curvature > 0:
            break
        direction += rz / curvature * p
        residual -= rz / curvature * Hp
        (z,) = run.precondition(residual)
        rz, before = run.dot(residual, z), rz
        if rz <= wanted:
            break
        p *= rz / before
        p += z
    return direction if direction.any() else z
