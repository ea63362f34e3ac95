"""The Cholesky factor of a whole Hessian, for Newton's method and for the covariance of estimates."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import TINY

Vector = npt.NDArray[np.float64]

# A scaled matrix has full rank beyond doubt if its reciprocal condition number is larger than this.
SOUND = 1e-10


class Factor:
    """The Cholesky factor of a Hessian that was scaled to a diagonal of 1.

    A matrix that is singular, as collinear columns make it, is factored with a small multiple of the identity added.
    """

    def __init__(self, H: Vector) -> None:
        from scipy.linalg.lapack import dpotrf  # not at the top, since it takes as long to import as NumPy

        self.scale = 1 / np.sqrt(np.maximum(H.diagonal(), TINY))
        A = H * self.scale * self.scale[:, np.newaxis]
        ridge, self.failed = 1e-13, 1  # what is added to the diagonal, and grows until A is positive definite
        while self.failed and ridge < 1:
            A.reshape(-1)[:: len(A) + 1] += ridge
            # Not scipy.linalg.cho_factor, which is slower for small matrices; see "LAPACK without SciPy's wrappers" in
            # docs/notes.md.
            self.L, self.failed = dpotrf(A, lower=True)
            ridge *= 100

    @property
    def reciprocal_condition(self) -> float:
        """An estimate of the scaled matrix's reciprocal condition number; 0 if it is not positive definite."""
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
        """Return H^-1 v; or a copy of v if H could not be factored, as with a NaN in it."""
        from scipy.linalg.lapack import dpotrs

        if self.failed:
            return v.copy()
        x, _ = dpotrs(self.L, v * self.scale, lower=True)
        return np.asarray(x * self.scale)
