"""The best intercepts of an objective where all weights are 0, for samples with offsets.

Without offsets no fit is needed: they are the logarithms of the classes' frequencies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .lbfgs import lbfgs

Vector = npt.NDArray[np.float64]


class _Intercepts:
    """The objective as a function of b (count,), with W = 0; if samples are in memory it reads only one feature."""

    def __init__(self, objective: Any) -> None:
        few = getattr(objective, "in_memory", False) and objective.parameters.D > 1
        self.objective = objective.of_features(np.zeros(1, np.intp)) if few else objective
        self.dtype, self.n_threads = objective.dtype, objective.n_threads

    def value_and_grad(self, b: Vector) -> tuple[float, Vector]:
        """Return the value and its gradient, (count,)."""
        layout = self.objective.parameters
        w = layout.join(np.zeros((layout.count, layout.D)), b)
        value, grad = self.objective.value_and_grad(w)
        return value, layout.intercepts(grad).copy()


def of_intercepts(objective: Any) -> Vector:
    """Return w (size,) with W = 0 and the intercepts that minimise the objective; zeros without intercepts."""
    layout = objective.parameters
    b = np.zeros(layout.count) if layout.intercept else None
    if b is not None:
        tol = 10 * float(np.finfo(objective.dtype).eps)
        b = lbfgs(_Intercepts(objective), b, tol=tol).w
        b = b if layout.binary else b - b.mean()
    w: Vector = layout.join(np.zeros((layout.count, layout.D)), b)
    return w
