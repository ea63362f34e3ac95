"""Parameters and samples as statsmodels has them, and as the pass takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def flat(params: npt.ArrayLike) -> Array:
    """Return parameters (D, K - 1), or a vector, as a vector with those of one class together."""
    return np.asarray(params).ravel("F")


def double(exog: Array) -> Vector:
    """Return exog as the pass takes it: statsmodels computes in float64, whatever exog is."""
    return np.asarray(exog, np.float64)
