"""The maximum of a likelihood to the last digits, and the information there.

Standard errors need the Hessian at the maximum, which costs as much as ten to eighty gradients. So Newton's method
begins where L-BFGS has found some digits, and keeps a Hessian as long as its steps shrink (a chord method; Kelley,
"Iterative methods for linear and nonlinear equations", 1995, section 5.4). It ends with a Hessian of the last point.
As a rule it computes two Hessians in all.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor
from .._inputs.dtypes import TINY
from .._optim.lbfgs import lbfgs

Vector = npt.NDArray[np.float64]

# A Hessian is kept while each step has at most this fraction of the length of the one before: a new Hessian costs more
# than the few passes that it saves.
KEPT = 0.5
# With a kept Hessian, steps go on until they are within this fraction of the tolerance.
AHEAD = 1e-4
# A step that changes the scores by less than this (root mean square) counts as none. Along collinear columns, where
# parameters move but scores do not, steps are only rounding.
NOTHING = 1e-9

HALVINGS, ARMIJO = 40, 1e-4


class Maximum(NamedTuple):
    """Where the mean loss is least, and how Newton's method came there."""

    theta: Vector
    value: float  # the mean loss
    grad: Vector
    hessian: Vector  # of the mean loss at theta
    step: Vector  # the next step of Newton's method, which was not taken unless the method has converged
    n_iter: int  # how many Hessians were computed
    converged: bool  # whether the step is within the tolerance
    path: list[Vector]  # every point, beginning with the start
    separated: Any  # what `divergence` has returned


def rough_start(f: Any) -> Vector:
    """Return the point that a few iterations of L-BFGS reach: some digits, for less than one Hessian costs."""
    w = lbfgs(f.objective, np.zeros(f.objective.size), tol=1e-3, max_iter=15).w.reshape(-1, f.D)
    return (w if len(w) < f.K else w[1:] - w[0]).ravel()


def newton(
    f: Any,
    theta: Vector,
    *,
    tol: float = 1e-8,
    max_iter: int = 100,
    callback: Callable[[Vector], object] | None = None,
    divergence: Callable[..., Any] | None = None,
    eps: float = float(np.finfo(float).eps),
) -> Maximum:
    """Return the minimum of f, found from theta: it ends when a step changes no parameter by more than tol.

    Where steps do not get shorter, `divergence` is called with a point and the step from it, and where the method ends
    without convergence, also with ``at_last=True``; if it returns something true, the method ends. `max_iter` counts
    Hessians, each of which may serve several steps. `eps` is the relative precision of f.
    """
    value, grad = f.value_and_grad(theta)
    path, factor, moved, separated, hessians = [theta], None, math.inf, None, 0
    H, nothing = np.empty((0, 0)), max(NOTHING, 100 * eps)
    shrunk, converged = 0.0, False
    while True:
        if factor is None:
            H, hessians = f.hessian(theta), hessians + 1
            factor, moved = Factor(H), 0.0
        step = factor.solve(-grad)
        length = math.sqrt(max(-float(grad @ step), 0.0))
        # With a kept Hessian the steps go on beyond the tolerance, so that the last Hessian, which is computed where
        # they end, is that of the maximum to all digits. `moved` is 0 while the Hessian is that of theta.
        ahead = 1.0 if moved == 0 else AHEAD
        converged = bool(np.abs(step).max(initial=0.0) <= ahead * tol) or not length > ahead * nothing
        if not converged and divergence is not None and moved == 0 and hessians > 3 and shrunk > KEPT:
            separated = divergence(theta, step)
        ended = converged or bool(separated) or hessians > max_iter
        if ended and moved == 0:
            break
        if ended:
            factor = None
            continue
        t, found = 1.0, False
        for _ in range(HALVINGS):
            new = theta + t * step
            value_, grad_ = f.value_and_grad(new)
            rounding = 8 * eps * abs(value)
            slope = float(grad_ @ step)
            if value_ <= value - ARMIJO * t * length**2 or (value_ <= value + rounding and abs(slope) <= length**2):
                found = True
                break
            t /= 2
        if not found:  # rounding hides the descent, if the Hessian is that of theta; else a new one may help
            if moved == 0:
                converged = bool(np.abs(step).max() <= 1e-6 * (1 + np.abs(theta).max()))
                break
            factor = None
            continue
        theta, value, grad = new, value_, grad_
        path.append(theta)
        if callback is not None:
            callback(theta)
        moved += t * length
        after = factor.solve(-grad)
        shrunk = math.sqrt(max(-float(grad @ after), 0.0)) / max(length, TINY)
        if shrunk > KEPT:
            factor = None
    if not (converged or separated or divergence is None):
        separated = divergence(theta, step, at_last=True)
    converged = converged and math.isfinite(value)
    if converged:  # the last step is known already, and taking it doubles the number of correct digits
        theta = theta + step
        value, grad = f.value_and_grad(theta)
    return Maximum(
        theta=theta,
        value=value,
        grad=grad,
        hessian=H,
        step=step,
        n_iter=hessians,
        converged=converged and not separated,
        path=path,
        separated=separated,
    )
