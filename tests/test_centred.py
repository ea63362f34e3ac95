"""Two classes' whole Hessian of float32 samples, which are moved and scaled so that sums in float32 lose nothing."""

import numpy as np
import pytest

from softmax_ext import SoftmaxObjective, optim
from softmax_ext._core import dispatch
from softmax_ext._objective import binomial as objective
from softmax_ext.objective import BinomialObjective

pytestmark = pytest.mark.skipif(dispatch.kernels is None, reason="NumPy makes its Hessian in double")

RAW = {
    "plain": lambda X: X,
    "raw": lambda X: (X + 1000 * (np.arange(X.shape[1]) % 2)) * np.logspace(-4, 4, X.shape[1]),
    "apart": lambda X: X + 30 * (np.arange(X.shape[1]) % 2),
    "huge": lambda X: X * 1e30 + 1e30,  # whose squares overflow
    "tiny": lambda X: X * 1e-30,
    "counts": lambda X: np.floor(np.exp(2 * X)),
}


@pytest.fixture(autouse=True)
def _however_few(monkeypatch):
    monkeypatch.setattr(objective, "CENTRED_SAMPLES", 1)


def problem(N, D, kind="plain", *, intercept=True, weighted=False, **options):
    rng = np.random.default_rng(N)
    with np.errstate(over="ignore"):
        X = RAW[kind](rng.standard_normal((N, D))).astype(np.float32)
    y, s = rng.integers(0, 2, N), rng.exponential(size=N) * (rng.random(N) < 0.9) if weighted else None
    f = BinomialObjective(X, y, sample_weight=s, fit_intercept=intercept, **options)
    wide = X.astype(float)
    w = rng.standard_normal(D) / np.abs(wide - wide.mean(axis=0)).max(axis=0) / D
    return f, np.append(w, -wide.mean(axis=0) @ w) if intercept else w, X, y, s


def in_double(f, w):
    return SoftmaxObjective._whole_hessian(f, w)


@pytest.mark.parametrize(
    "N, D, kind, intercept, weighted",
    [(N, D, kind, True, N != 301) for N, D in [(301, 3), (5003, 30)] for kind in RAW]
    + [(999, 17, kind, False, True) for kind in ("plain", "tiny")],
)
def test_a_step_of_newtons_method_loses_nothing(isa, N, D, kind, intercept, weighted):
    f, w, X, _, s = problem(N, D, kind, intercept=intercept, weighted=weighted)
    A = np.hstack([X.astype(float), np.ones((N, 1))]) if intercept else X.astype(float)
    S, s = 1 / (1 + np.exp(-(A @ w))), np.ones(N) if s is None else s
    H = (A * (s * S * (1 - S))[:, np.newaxis]).T @ A / s.sum()
    got = f.hessian(w)
    assert f._centre is not None
    assert not np.array_equal(got, in_double(f, w)), "not the sums of floats"
    np.testing.assert_array_equal(got, got.T)
    # The error as a step sees it: in the metric of the Hessian itself, for which any features are of size 1.
    T = np.linalg.inv(np.linalg.cholesky(H / np.outer(d := np.sqrt(H.diagonal()), d))) / d
    assert np.abs(np.linalg.eigvalsh(T @ (got - H) @ T.T)).max() < 2e-6


@pytest.mark.parametrize("why", ["dependent", "constant", "separated", "not a number", "one outlier"])
def test_the_hessian_is_in_double_where_floats_would_show(isa, why):
    f, w, X, y, _ = problem(9000, 6)
    if why == "dependent":
        X[:, 3] = X[:, 1] - X[:, 2]
    elif why == "constant":
        X[:, 3] = 7
    elif why == "not a number":
        X[77, 3] = np.nan
    elif why == "one outlier":
        X[79, 3], w[3] = 1e38, 0  # whose square overflows, and of which a look at every second sample tells nothing
    f = BinomialObjective(X, y)
    w = w * 1e4 if why == "separated" else w  # and what the few samples on the edge weigh is flat across it
    np.testing.assert_array_equal(f.hessian(w), in_double(f, w))


def test_the_hessian_has_the_same_bits_however_samples_lie(isa):
    f, w, X, y, s = problem(30_011, 11, "raw", weighted=True)
    want = f.hessian(w)
    wide = np.zeros((len(X), 14), np.float32)
    wide[:, 1:12] = X
    for samples in (np.asfortranarray(X), wide[:, 1:12], X[::-1][::-1], X.astype(">f4")):
        for n_threads in (1, 2, 3):
            other = BinomialObjective(samples, y, sample_weight=s, n_threads=n_threads)
            np.testing.assert_array_equal(other.hessian(w), want)
    narrow = (X / np.abs(X).max(axis=0)).astype(np.float16)
    two = (BinomialObjective(samples, y).hessian(w * 0) for samples in (narrow, narrow.astype(np.float32)))
    np.testing.assert_array_equal(*two)


@pytest.mark.parametrize("kind", ["plain", "apart", "counts"])
def test_newtons_method_takes_as_many_steps_as_in_double(monkeypatch, kind):
    found = []
    for least in (1, 10**9):
        monkeypatch.setattr(objective, "CENTRED_SAMPLES", least)
        f, _, *_ = problem(20_000, 12, kind, weighted=True)
        found.append(optim.newton(f, np.zeros(f.size), tol=1e-6))
    assert found[0].n_iter <= found[1].n_iter
    np.testing.assert_allclose(found[0].value, found[1].value, rtol=1e-6)
