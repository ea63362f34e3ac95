"""The Cholesky factor of a whole Hessian, for Newton's method and for the covariance of its minimum."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]

# A reciprocal condition number of a scaled matrix that leaves no doubt of its rank.
SOUND = 1e-10


class Factor:
    """The Cholesky factor of a Hessian, scaled to a diagonal of 1."""

    def __init__(self, H: Vector) -> None:
        from scipy.linalg.lapack import dpotrf  # here, since it takes as long to import as NumPy

        self.scale = 1 / np.sqrt(np.maximum(H.diagonal(), np.finfo(float).tiny))
        A = H * self.scale * self.scale[:, np.newaxis]
        ridge, self.failed = 1e-13, 1  # collinear columns, or no penalty, make it singular
        while self.failed and ridge < 1:
            A.reshape(-1)[:: len(A) + 1] += ridge
            self.L, self.failed = dpotrf(A, lower=True)  # scipy.linalg.cho_factor takes 40 µs more
            ridge *= 100

    @property
    def reciprocal_condition(self) -> float:
        """About the least eigenvalue of the scaled matrix; 0 if it is not positive definite."""
        from scipy.linalg.lapack import dpocon

        if self.failed or not len(self.L):
            return float(not self.failed)
        rcond, _ = dpocon(self.L, 1.0, uplo="L")
        return float(rcond)

    @property
    def sound(self) -> bool:
        """Whether the matrix is far from singular."""
        return self.reciprocal_condition > SOUND

    def solve(self, v: Vector) -> Vector:
        """Return H^-1 v; v itself if H holds what is not a number."""
        from scipy.linalg.lapack import dpotrs

        if self.failed:
            return v.copy()
        x, _ = dpotrs(self.L, v * self.scale, lower=True)
        return np.asarray(x * self.scale)
