"""Two classes' whole Hessian from sums in float32, of samples that are moved and scaled so that it loses nothing.

With u = (x - shift) scale, a sample and its 1 are x' = T u', so that

    H = T G Tᵀ,   G = 1/m Σ_i c_i u'_i u'_iᵀ,   T = [[1 / scale, shift], [0, 1]]

whatever the shift and the scale are. A step of Newton's method errs by what G has lost, over G's smallest eigenvalue.
Where G has a diagonal of 1 it loses some 1e-7, and raw features, whose means and sizes are in T, do not make that
eigenvalue small; features that nearly depend on one another do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.cholesky import Factor

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Samples from which shifts and scales are taken, at least.
LOOK = 4096
# The least reciprocal condition of G for which sums in float32 do: they change a step by a thousandth of itself.
SOUND = 1e-4


class Centre:
    """Where features lie, and how far they spread, by some of the samples."""

    def __init__(self, X: Array) -> None:
        wide = X.astype(np.float64, order="C")  # in which order it sums depends on how it lies
        self.shift = wide.mean(axis=0).astype(np.float32)
        wide -= self.shift
        squares = np.einsum("ij,ij->j", wide, wide) / len(wide)
        with np.errstate(all="ignore"):  # of a constant, or of what is not a number
            self.scale = np.exp2(np.rint(-0.5 * np.log2(squares))).astype(np.float32)
            self.in_range = bool(np.isfinite(self.scale).all() and np.isfinite(1 / self.scale).all())

    def coefficients(self, w: Vector, b: float) -> tuple[Vector, Vector]:
        """Return the coefficients of u and their intercept, (1, D) and (1,)."""
        return (w / self.scale)[np.newaxis], np.array([b + np.sum(w * self.shift)])

    def hessian(self, G: Vector, intercept: bool) -> Vector | None:
        """Return H of G, (D + 1, D + 1); or None if what sums in float32 have lost may show."""
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
