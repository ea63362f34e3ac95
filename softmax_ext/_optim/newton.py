"""Newton's method: with the whole Hessian where parameters are few, else by conjugate gradients."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor
from .._objective.parameters import Parameters
from .descent import Callback, Descent, Solution, TwiceDifferentiable
from .line_search import search

Vector = npt.NDArray[np.float64]

# Few enough parameters for Newton's method with the whole Hessian: then it is the soonest on every data set tried.
FEW = 128  # Shuttle, 58000 x 9 in 7 classes: 39 evaluations, where L-BFGS takes over 400
# What a Hessian of fewer rows leaves of the predicted decrease, at most. As a rule it is a hundredth.
SLOW = 0.3


def newton(
    objective: TwiceDifferentiable,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
) -> Solution:
    """Newton's method from w: with the whole Hessian up to 128 parameters, else by conjugate gradients.

    For tight tolerances and ill-conditioned data. The conjugate gradients work on products from `hessp`, preconditioned
    as `lbfgs` is, and stop early far from the minimum (Nocedal and Wright 2006, algorithm 7.1).

    Parameters
    ----------
    objective : object
        With ``value_and_grad``, ``hessp``, and ``hessian`` and ``preconditioner`` if it has them: `SoftmaxObjective`.
    w, tol, max_iter, callback
        As in `lbfgs`.

    Returns
    -------
    Solution
        As from `lbfgs`.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> objective = SoftmaxObjective([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], l2=0.1)
    >>> found = optim.newton(objective, np.zeros(objective.size), tol=1e-12)
    >>> found.converged, found.n_iter < 10
    (True, True)
    """
    run = Descent(objective, np.asarray(w, np.float64), tol, max_iter, callback)
    follow(run)
    return run.solution()


def follow(run: Descent) -> None:
    """Take steps of Newton's method to the end.

    The first whole Hessians may be those of `thinned()`, an objective of fewer rows, if this one tells of such: the
    step then errs by an eighth or so. Where that shows, all rows follow.
    """
    since, exact = (run.n_iter, run.evaluations), run.w.size <= FEW and hasattr(run.objective, "hessian")
    inverse: Callable[[Vector], Vector] | None = None
    predicted: list[float] = []
    thinned = getattr(run.objective, "thinned", None) if exact else None
    model = (thinned and thinned()) or run.objective
    while math.isfinite(run.value):
        if inverse is not None and (run.reason or run.largest_gradient <= run.tol or run.n_iter >= run.max_iter):
            run.judge(-run.dot(run.grad, inverse(run.grad)))  # by the model of the point before, which is there
            if run.reason:
                break
        if exact:
            inverse = inverse_hessian(model, run.w)
            direction = -inverse(run.grad)
        else:
            run.refresh()
            inverse = run.invert
            direction = _conjugate_gradients(run)
        slope, tried = run.dot(run.grad, direction), run.evaluations
        run.judge(slope)
        predicted.append(run.predicted_decrease)
        over = bool(run.reason)
        if exact and not over and _is_rounding(predicted, run):
            run.reason = "the predicted decrease no longer falls as it should: it is rounding of the gradient"
        went = not run.reason and search(run, direction, slope)
        if model is not run.objective and not over:
            slow = len(predicted) > 1 and predicted[-1] > SLOW * predicted[-2]
            if not went or slow or run.evaluations > tried + 1:
                model, predicted, run.reason = run.objective, [], run.reason if went else ""
                continue
        if not went:
            break
    run.tell("Newton's method" if exact else "Newton's method by conjugate gradients", since)


def _is_rounding(predicted: list[float], run: Descent) -> bool:
    """Tell whether the decrease that whole Hessians predict is nothing but rounding of the gradient.

    The nearer the minimum, the larger the part of it that a step takes away. So it is where that part gets smaller and
    values cannot tell the rest; and where two steps have left it as it was, though the end's other rule holds. Further
    steps go here and there: up to 61 of them on raw float32 columns at offsets of 1000.
    """
    if len(predicted) < 3:
        return False
    first, second, last = predicted[-3:]
    if last <= run.rounding:
        return last * first >= second**2
    return max(predicted[-3:]) <= run.most_decrease and min(second, last) >= first / 2


def inverse_hessian(objective: Any, w: Vector) -> Callable[[Vector], Vector]:
    """Return what multiplies by the inverse of an objective's whole Hessian at w.

    Where it is singular, a vector has a part that is nothing but rounding, which a float32 pass leaves at 1e-8 and the
    factor's ridge would take to 1e5: that part is left out if the objective tells which it is. Where features nearly
    depend on one another, a gradient has no digits of some other direction. So to each curvature comes a rounding of
    what it would be if its feature's mean were 0: raw features, however far from 0, keep what they have.
    """
    H, parameters = objective.hessian(w), getattr(objective, "parameters", None)
    if isinstance(parameters, Parameters):
        H.reshape(-1)[:: len(H) + 1] += np.finfo(objective.dtype).eps * _spreads(H, parameters)
    factor = Factor(H)
    if not isinstance(parameters, Parameters) or factor.failed:
        return factor.solve
    penalised = objective.penalty.diagonal(parameters.D) > 0
    return lambda v: factor.solve(parameters.determined(v, penalised))


def _spreads(H: Vector, parameters: Parameters) -> Vector:
    """Return the diagonal that H would have if each feature's mean were 0, where there is an intercept."""
    spreads, b = H.diagonal().copy(), slice(parameters.count * parameters.D, None)
    if parameters.intercept:
        sums = H[: b.start, b].reshape(parameters.count, parameters.D, parameters.count)
        sums = sums.diagonal(axis1=0, axis2=2).T  # of the features, in each class
        weight = np.maximum(spreads[b], np.finfo(float).tiny)[:, np.newaxis]  # a class may have no sample near it
        with np.errstate(over="ignore", invalid="ignore"):
            parameters.weights(spreads)[:] -= sums * (sums / weight)
        spreads[b] = 0
    return np.maximum(spreads, 0)


def _conjugate_gradients(run: Descent) -> Vector:
    direction, residual = np.zeros_like(run.w), -run.grad
    (z,) = run.precondition(residual)
    p, rz = z.copy(), run.dot(residual, z)
    wanted = min(0.25, math.sqrt(run.largest_gradient)) ** 2 * rz  # so that the steps converge faster than linearly
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
