"""Conversions of parameters and samples from statsmodels' form to that of the pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def flat(params: npt.ArrayLike) -> Array:
    """Return parameters (D, K - 1), or a vector, as a vector, class after class."""
    return np.asarray(params).ravel("F")


def double(exog: Array) -> Vector:
    """Return exog as float64, in which statsmodels computes whatever dtype exog has."""
    return np.asarray(exog, np.float64)
