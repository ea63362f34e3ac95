"""The Cholesky factor of a Hessian: by LAPACK and by the package's kernel, whose bits no BLAS changes."""

import numpy as np
import pytest
import scipy.linalg
from threadpoolctl import threadpool_limits

from softmax_ext._core import cholesky, dispatch
from softmax_ext._core.cholesky import LAPACK, Factor

pytestmark = pytest.mark.skipif(dispatch.kernels is None, reason="the reference has LAPACK alone")
SIZES = [1, 2, 31, LAPACK, LAPACK + 1, 128, 257, 500]  # at 128 OpenBLAS's threads begin


def hessian(n, rank=None):
    """Return a matrix of this rank, whose columns' magnitudes span six decades."""
    rng = np.random.default_rng(n)
    B = rng.standard_normal((n if rank is None else rank, n)) * 10 ** rng.uniform(-3, 3, n)
    return B.T @ B + (0 if rank is not None else np.diag(np.square(B).sum(axis=0)))


@pytest.mark.parametrize("n", SIZES)
def test_a_factor_solves_as_scipy_does(n, isa):
    H, v = hessian(n), np.random.default_rng(1).standard_normal(n)
    factor = Factor(H)
    assert not factor.failed and factor.sound
    d = 1 / np.sqrt(H.diagonal())
    expected = d * scipy.linalg.solve(H * d * d[:, np.newaxis], d * v, assume_a="pos")
    np.testing.assert_allclose(factor.solve(v), expected, rtol=1e-9, atol=1e-12 * abs(expected).max())


@pytest.mark.parametrize("n", SIZES)
def test_the_threads_of_blas_do_not_change_a_factor(n, isa):
    H, v, found = hessian(n), np.random.default_rng(1).standard_normal(n), set()
    for threads in (1, 2, 4):
        with threadpool_limits(threads, "blas"):
            found.add(Factor(H).solve(v).tobytes())
    assert len(found) == 1


@pytest.mark.parametrize("n", [n for n in SIZES if n > 1])
def test_a_singular_matrix_gets_a_ridge(n):
    H = hessian(n, rank=n // 2)
    factor = Factor(H)
    assert not factor.failed and not factor.sound
    v = H @ np.random.default_rng(1).standard_normal(n)  # within the range of H
    scale = 1 / np.sqrt(H.diagonal())
    assert np.linalg.norm(scale * (H @ factor.solve(v) - v)) <= 1e-5 * np.linalg.norm(scale * v)


@pytest.mark.parametrize("n", [n for n in SIZES if n > LAPACK])
def test_what_is_not_positive_definite_is_told(n):
    v, A = np.arange(1.0, n + 1), np.eye(n)
    A[-1, -1] = -1.0
    assert cholesky.own_factor(A)[1] == 1
    factor = Factor(np.full((n, n), np.nan))
    assert factor.failed and not factor.sound
    np.testing.assert_array_equal(factor.solve(v), v)
