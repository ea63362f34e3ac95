"""The maximum of a likelihood to the last digits, and the information there.

Standard errors need the Hessian at the maximum, which costs as much as ten to eighty gradients. So Newton's method
begins where L-BFGS has found some digits, keeps the Hessian that it has as long as its steps shrink (a chord method;
Kelley, "Iterative methods for linear and nonlinear equations", 1995, section 5.4), and ends when that is the Hessian of
the point where it is: two of them in all, as a rule.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor
from .._optim.lbfgs import lbfgs

Vector = npt.NDArray[np.float64]

# To what part of its length a step has to shrink for the Hessian to be kept: another one is dearer than the passes that
# it saves.
KEPT = 0.5
# Part of the tolerance to which an old Hessian takes the parameters.
AHEAD = 1e-4
# A change of the scores (their root mean square) that changes nothing: steps along collinear columns are only rounding.
NOTHING = 1e-9

HALVINGS, ARMIJO = 40, 1e-4


class Maximum(NamedTuple):
    """Where the mean loss is least."""

    theta: Vector
    value: float  # the mean loss
    grad: Vector
    hessian: Vector  # of the mean loss, there
    step: Vector  # of Newton's method, from there
    n_iter: int  # Hessians
    converged: bool  # whether the step is within the tolerance
    path: list[Vector]  # every point, the start too
    separated: Any  # what `divergence` has returned


def rough_start(f: Any) -> Vector:
    """Return where some passes of L-BFGS get to: a few digits, for less than one Hessian costs."""
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
    """Minimise f from theta until a step changes no parameter by more than tol.

    `divergence` is asked, with a point and the step from it, where steps do not get shorter, and `at_last` where it
    ends without convergence; anything true ends it. max_iter counts Hessians, between which there may be some steps.
    eps is the precision of f.
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
        # An old Hessian takes the parameters further than they need to be, so that the last is theirs to all digits.
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
        if not found:  # rounding hides the descent, unless it is an old Hessian's fault
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
        shrunk = math.sqrt(max(-float(grad @ after), 0.0)) / max(length, np.finfo(float).tiny)
        if shrunk > KEPT:
            factor = None
    if not (converged or separated or divergence is None):
        separated = divergence(theta, step, at_last=True)
    converged = converged and math.isfinite(value)
    if converged:  # as well take the last step, after which as many digits are right again
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
