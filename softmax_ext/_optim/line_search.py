"""The line search of L-BFGS and Newton's method, for the strong Wolfe conditions."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from .descent import Descent

Vector = npt.NDArray[np.float64]

# Armijo's and Wolfe's constants (Nocedal and Wright 2006, section 3.1), and the most evaluations of one line search.
ARMIJO, WOLFE, TRIALS = 1e-4, 0.9, 30
# The value may rise by this part of itself if the slopes say that it falls, as in Hager and Zhang (2005). Near the
# minimum rounding hides the change of the values before that of the slopes, and the sums in an objective may round far
# more than its last operation.
APPROXIMATE = 1e-6


def search(run: Descent, direction: Vector, slope0: float) -> bool:
    """Move along the direction to where the strong Wolfe conditions hold, or by all of it where the slope still falls.

    `slope0` is the slope at the start. Return False, with a reason in the descent, if rounding hides the decrease.
    """
    f0 = run.value
    if not slope0 < 0:
        run.reason = "rounding leaves no direction of descent"
        return False
    low, f_low, slope_low = 0.0, f0, slope0
    high, t = math.inf, 1.0
    for _ in range(TRIALS):
        w = run.at(t, direction)
        asked = run.evaluate(w)
        value, grad = run.eased(w, *asked)
        slope = run.dot(grad, direction)
        fine = value <= f0 + ARMIJO * t * slope0
        if not fine and value <= f0 + APPROXIMATE * abs(f0):
            fine = (2 * ARMIJO - 1) * slope0 >= slope  # the approximate condition of Hager and Zhang
        # Where the first step leads still downhill, it is taken: longer ones would take as many evaluations as they
        # save. See "Whole steps that lead downhill" in docs/notes.md.
        whole = high == math.inf and value < f0 and slope < 0
        if fine and (whole or WOLFE * slope0 <= slope <= -WOLFE * slope0):
            run.move(w, asked, value, grad)
            return True
        if fine and slope < 0:
            low, f_low, slope_low = t, value, slope
            t = _minimum(low, f_low, slope_low, high)
        else:
            high = t
            t = _minimum(low, f_low, slope_low, high, value, slope)
        if high - low <= 1e-12 * high:
            break
    if low > 0 and f_low < f0:
        w = run.at(low, direction)
        asked = run.evaluate(w)
        run.move(w, asked, *run.eased(w, *asked))
        return True
    run.reason = "the line search sees only rounding"
    return False


def _minimum(a: float, f_a: float, slope_a: float, b: float, f_b: float = math.nan, slope_b: float = math.nan) -> float:
    """Return the minimum of the cubic through the values and slopes at a and b, kept away from both ends.

    Return the middle if the cubic has no minimum, or the value or slope at b is not given.
    """
    middle = (a + b) / 2
    if not (math.isfinite(f_b) and math.isfinite(slope_b)):
        return middle
    d1 = slope_a + slope_b - 3 * (f_a - f_b) / (a - b)
    square = d1 * d1 - slope_a * slope_b
    if square < 0:
        return middle
    d2 = math.sqrt(square)
    denominator = slope_b - slope_a + 2 * d2
    if denominator == 0:
        return middle
    t = b - (b - a) * (slope_b + d2 - d1) / denominator
    return min(max(t, a + 0.1 * (b - a)), b - 0.1 * (b - a))
