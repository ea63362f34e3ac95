"""Sums of squared scores, the middle of sandwich covariances (HC0): M = 1/m Σ_i s_i g_i g_iᵀ.

g_i is the derivative of sample i's loss by all parameters, (S - Y)_ik (x_i, 1). It is computed for some samples at a
time, since N x size numbers might fill the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows
from .parameters import Parameters
from .plain import augmented

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# How many doubles the scores of some samples have: 16 MiB.
BLOCK = 2**21


class SquaredScores:
    """What `SoftmaxObjective` has besides for inference."""

    parameters: Parameters
    m: float
    _rows: Rows

    def squared_scores(self, w: npt.ArrayLike) -> Vector:
        """Return M at w, (size, size) float64, in the order of w."""
        objective: Any = self
        parameters, rows = self.parameters, self._rows
        size, classes = parameters.size, parameters.classes
        W, b = parameters.split(parameters.vector(w), objective.dtype)
        M = np.zeros((size, size))
        step = max(1, BLOCK // size)
        for start in range(0, len(rows), step):
            some = rows[start : start + step]
            R = np.asarray(objective._posterior(some, W, b), np.float64)
            if some.y is not None:
                R -= some.y[:, np.newaxis] == np.arange(classes.start, classes.stop)
            else:
                targets = some.targets.astype(np.float64)
                R *= targets.sum(axis=1, keepdims=True)
                R -= targets[:, classes.start : classes.stop]
            R *= np.sqrt(some.weights())[:, np.newaxis]
            X = augmented(some, parameters)
            G = (R[:, :, np.newaxis] * X[:, np.newaxis, :]).reshape(len(R), size)
            M += G.T @ G
        order = parameters.flat(np.arange(size).reshape(parameters.count, -1), np.intp)
        return np.asarray(M[np.ix_(order, order)] / self.m)
