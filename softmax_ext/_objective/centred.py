"""Two classes' whole Hessian H from sums in float32, of samples that are centred and scaled to keep H accurate.

With u = (x - shift) scale, and x' and u' for x and u with a 1 appended, x' = T u'. So

    H = T G Tᵀ,   G = 1/m Σ_i c_i u'_i u'_iᵀ,   T = [[1 / scale, shift], [0, 1]]

whatever the shift and the scale are. The relative error of a step of Newton's method is the error of G over G's
smallest eigenvalue. The error of G is some 1e-7 if its diagonal is 1. Features with large means or unlike sizes do not
make the eigenvalue small, since T has their means and sizes; features that nearly depend on one another do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Shifts and scales are computed from at least this many samples.
LOOK = 4096
# Sums in float32 are used if the reciprocal condition number of G is larger. They then change a step of Newton's method
# by at most a thousandth of itself.
SOUND = 1e-4


class Centre:
    """A shift and a scale for each feature: its mean in some samples, and a power of two near 1 over its deviation."""

    def __init__(self, X: Array) -> None:
        wide = X.astype(np.float64, order="C")  # in one layout, since NumPy's order of a sum depends on the layout
        self.shift = wide.mean(axis=0).astype(np.float32)
        wide -= self.shift
        squares = np.einsum("ij,ij->j", wide, wide) / len(wide)
        with np.errstate(all="ignore"):  # a feature may be constant or have NaN
            self.scale = np.exp2(np.rint(-0.5 * np.log2(squares))).astype(np.float32)
            self.in_range = bool(np.isfinite(self.scale).all() and np.isfinite(1 / self.scale).all())

    def coefficients(self, w: Vector, b: float) -> tuple[Vector, Vector]:
        """Return the coefficients of u (1, D) and the intercept (1,) that give the scores of w and b."""
        return (w / self.scale)[np.newaxis], np.array([b + np.sum(w * self.shift)])

    def hessian(self, G: Vector, intercept: bool) -> Vector | None:
        """Return H from G (D + 1, D + 1), or None if G is too close to singular for sums in float32.

        Without an intercept H is (D, D), else (D + 1, D + 1).
        """
        if not (np.isfinite(G).all() and Factor(G).reciprocal_condition > SOUND):
            return None
        D, shift, ones = len(self.shift), self.shift.astype(np.float64), G[-1, -1]
        spread = 1 / self.scale.astype(np.float64)
        moved = G[:D, D] * spread
        H = np.empty((D + intercept, D + intercept))
        H[:D, :D] = G[:D, :D] * (spread * spread[:, np.newaxis])
        H[:D, :D] += moved * shift[:, np.newaxis] + shift * moved[:, np.newaxis]
        H[:D, :D] += shift * shift[:, np.newaxis] * ones
        if intercept:
            H[D, :D] = H[:D, D] = moved + shift * ones
            H[D, D] = ones
        return H
