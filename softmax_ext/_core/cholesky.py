"""The Cholesky factor of a whole Hessian, for Newton's method and for the covariance of estimates."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import EPS, TINY
from . import dispatch
from .vectors import steady

Vector = npt.NDArray[np.float64]

# A scaled matrix has full rank beyond doubt if its reciprocal condition number is larger than this.
SOUND = 1e-10
# LAPACK factors a matrix of at most LAPACK rows, and the package's own kernel a larger one: the number of OpenBLAS's
# threads changes bits from 128 rows on; see "A Hessian as preconditioner" in docs/notes.md.
LAPACK = 64


class Factor:
    """The Cholesky factor of a Hessian that was scaled to a diagonal of 1.

    A matrix that is singular, as collinear columns make it, is factored with a small multiple of the identity added.

    Parameters
    ----------
    H : ndarray, shape (n, n)
        The Hessian.
    share : float
        The part of a feature's second derivative, as if its mean were 0, that is added to the diagonal before.
    classes, D, intercept : int
        The layout of the parameters, if there is a share: as many classes with D weights, and their intercepts.
    """

    def __init__(self, H: Vector, share: float = 0.0, *, classes: int = 0, D: int = 0, intercept: bool = False) -> None:
        if dispatch.kernels is None:
            self.scale, A = _scaled(H, share, classes, D, intercept)
        else:
            self.scale, A = np.empty(len(H)), np.empty(H.shape)
            dispatch.kernels.hessian_scale(steady(H), self.scale, A, classes, D, intercept, share)
        self.L: Vector
        self.own = dispatch.kernels is not None and len(A) > LAPACK
        ridge, self.failed = 1e-13, 1  # what is added to the diagonal, and grows until A is positive definite
        while self.failed and ridge < 1:
            A.reshape(-1)[:: len(A) + 1] += ridge
            # Not scipy.linalg.cho_factor, which is slower for small matrices; see "LAPACK without SciPy's wrappers" in
            # docs/notes.md.
            self.L, self.failed = own_factor(A) if self.own else _lapack().dpotrf(A, lower=True)
            ridge *= 100

    @property
    def reciprocal_condition(self) -> float:
        """An estimate of the scaled matrix's reciprocal condition number; 0 if it is not positive definite."""
        if self.failed or not len(self.L):
            return float(not self.failed)
        rcond, _ = _lapack().dpocon(self.L, 1.0, uplo="L")
        return float(rcond)

    @property
    def sound(self) -> bool:
        """Whether the matrix is far from singular."""
        return self.reciprocal_condition > SOUND

    def solve(self, v: Vector) -> Vector:
        """Return H^-1 v; or a copy of v if H could not be factored, as with a NaN in it."""
        if self.failed:
            return v.copy()
        x = v * self.scale
        if self.own:
            assert dispatch.kernels is not None
            for transposed in (True, False):
                dispatch.kernels.triangle_solve(self.L.T, x[np.newaxis], transposed)
        else:
            x, _ = _lapack().dpotrs(self.L, x, lower=True)
        return np.asarray(x * self.scale)


def own_factor(A: Vector) -> tuple[Vector, int]:
    """Return the lower Cholesky factor of a symmetric matrix, and how many of its rows have no positive pivot."""
    assert dispatch.kernels is not None
    ld, space = dispatch.kernels.gram_space(len(A))
    U, inverse = np.zeros((len(A), ld)), np.empty(len(A))
    U[:, : len(A)] = A
    dispatch.kernels.gram_factor(U, inverse, np.empty(space), EPS[A.dtype])
    L = np.triu(U[:, : len(A)])
    L /= inverse
    return L.T, len(A) - int(np.count_nonzero(U.diagonal())) if np.isfinite(L).all() else len(A)


@lru_cache(maxsize=1)
def _lapack() -> Any:
    """Return SciPy's LAPACK, which is not imported at the top, since that takes as long as to import NumPy."""
    from scipy.linalg import lapack

    return lapack


def _scaled(H: Vector, share: float, classes: int, D: int, intercept: bool) -> tuple[Vector, Vector]:
    """Return what rows and columns are multiplied by, and the scaled matrix; `Factor` has the arguments."""
    diagonal = H.diagonal().copy()
    if share:
        W, b = slice(classes * D), slice(classes * D, None)
        own = diagonal[W].copy()
        if intercept:
            sums = H[W, b].reshape(classes, D, classes).diagonal(axis1=0, axis2=2).T.ravel()
            weight = np.repeat(np.maximum(diagonal[b], TINY), D)  # all weights of a class may be 0
            with np.errstate(over="ignore", invalid="ignore"):
                own -= sums * (sums / weight)
        diagonal[W] += share * np.maximum(own, 0)
    A = H.copy()
    A.reshape(-1)[:: len(A) + 1] = diagonal
    scale = 1 / np.sqrt(np.maximum(diagonal, TINY))
    A *= scale
    A *= scale[:, np.newaxis]
    return scale, A
