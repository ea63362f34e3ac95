"""lbfgs, newton and minimize: where they end, that they end, and what they say of it."""

import inspect

import numpy as np
import pytest
import scipy.optimize
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from softmax_ext import SoftmaxObjective, _dispatch, optim
from softmax_ext._fisher import ROWS, systematic
from softmax_ext._solvers import FEW, minimize
from softmax_ext.objective import BinomialObjective

DATA = {"iris": load_iris, "wine": load_wine, "digits": load_digits, "breast cancer": load_breast_cancer}
SOLVERS = ["auto", "lbfgs", "newton"]


def objective_of(name, C=1.0, dtype=float):
    X, y = DATA[name](return_X_y=True)
    kind = BinomialObjective if y.max() == 1 else SoftmaxObjective
    return kind(np.ascontiguousarray(X, dtype), y, l2=1 / (C * len(X)))


class Quadratic:
    """wᵀ A w / 2 - b w: an objective of one's own, without a preconditioner."""

    def __init__(self, size, condition):
        rng = np.random.default_rng(size)
        Q = np.linalg.qr(rng.standard_normal((size, size)))[0]
        self.A = (Q * np.geomspace(1, condition, size)) @ Q.T
        self.b = rng.standard_normal(size)

    def value_and_grad(self, w):
        return 0.5 * w @ self.A @ w - self.b @ w, self.A @ w - self.b

    def hessp(self, w, v):
        return self.A @ v


@pytest.mark.parametrize("C", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("name", DATA)
def test_raw_data_converges_within_the_default_iterations(name, C):
    found = minimize(objective_of(name, C), np.zeros(objective_of(name).size))
    assert found.converged and found.gradient <= 1e-4 and found.n_iter <= 100


@pytest.mark.parametrize("solver", ["auto", "newton"])
@pytest.mark.parametrize("name", DATA)
def test_tight_tolerances_are_reached(name, solver):
    objective = objective_of(name)
    found = minimize(objective, np.zeros(objective.size), solver, tol=1e-10, max_iter=300)
    assert found.converged, found.report
    # From there on SciPy finds nothing lower.
    options = {"ftol": 0, "gtol": 0, "maxiter": 50}
    best = scipy.optimize.minimize(objective.value_and_grad, found.w, jac=True, method="L-BFGS-B", options=options)
    assert found.value <= best.fun * (1 + 1e-12)


@pytest.mark.parametrize("function", [optim.lbfgs, optim.newton])
@pytest.mark.parametrize("size, condition", [(1, 1), (7, 1e3), (200, 100)])
def test_an_objective_of_ones_own(function, size, condition):
    objective = Quadratic(size, condition)
    found = function(objective, np.zeros(size), tol=1e-9, max_iter=2000)
    assert found.converged, found.report
    np.testing.assert_allclose(found.w, np.linalg.solve(objective.A, objective.b), atol=1e-7)


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_lbfgs_keeps_no_more_pairs_than_it_is_told_to(memory):
    objective = objective_of("digits")
    kept = []

    def look(*_):
        frame = inspect.currentframe()
        while frame.f_code.co_name != "_lbfgs":
            frame = frame.f_back
        kept.append(len(frame.f_locals["steps"]))

    optim.lbfgs(objective, np.zeros(objective.size), memory=memory, max_iter=12, callback=look)
    assert max(kept) == memory


@pytest.mark.parametrize("solver", SOLVERS)
def test_record_of_a_fit(solver):
    objective, seen = objective_of("digits"), []
    found = minimize(objective, np.zeros(objective.size), solver, callback=lambda *state: seen.append(state))
    assert [iteration for iteration, _, _ in seen] == list(range(1, found.n_iter + 1))
    assert [value for _, value, _ in seen] == list(found.curve[1:])
    assert found.curve[0] == pytest.approx(np.log(10)) and found.curve[-1] == found.value == seen[-1][1]
    assert seen[-1][2] == found.gradient and (np.diff(found.curve) < 0).all()
    assert "stopped: the gradient is within tol = 0.0001" in found.report
    assert ("L-BFGS" in found.report) == (solver != "newton")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "options, reason",
    [({"max_iter": 3}, "max_iter = 3"), ({"callback": lambda i, f, g: i == 3}, "callback said so")],
)
def test_stops_where_it_is_told_to(solver, options, reason):
    objective = objective_of("digits")
    found = minimize(objective, np.zeros(objective.size), solver, tol=0, **options)
    assert found.n_iter == 3 and not found.converged and reason in found.report


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["iris", "digits"])
def test_ends_in_rounding_quietly(name, solver):
    objective = objective_of(name, dtype=np.float32)
    found = minimize(objective, np.zeros(objective.size), solver, tol=0, max_iter=500)
    assert not found.converged and found.n_iter < 500 and "rounding" in found.report
    assert found.gradient < 1e-3


ODD = {
    "separable": (np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])),
    "constant feature": (np.column_stack([np.ones(20), np.arange(20.0)]), np.arange(20) % 3),
    "duplicated features": (np.repeat(np.arange(30.0).reshape(10, 3) % 7, 3, axis=1), np.arange(10) % 2),
    "zero features": (np.zeros((6, 4)), np.array([0, 0, 0, 1, 1, 2])),
    "more features than samples": (np.random.default_rng(0).standard_normal((5, 300)), np.array([0, 1, 2, 1, 0])),
    "two samples": (np.array([[1.0, 2.0], [3.0, -1.0]]), np.array([0, 1])),
    "scales": (np.random.default_rng(1).standard_normal((90, 3)) * [1e-8, 1, 1e8], np.arange(90) % 3),
}


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("l2", [0.0, 1e-2])
@pytest.mark.parametrize("name", ODD)
def test_odd_data(name, l2, solver):
    X, y = ODD[name]
    objective = (BinomialObjective if y.max() == 1 else SoftmaxObjective)(X, y, l2=l2)
    found = minimize(objective, np.zeros(objective.size), solver, max_iter=1000)
    assert np.isfinite(found.w).all() and found.value <= found.curve[0]
    if name != "scales":
        assert found.converged, found.report


@pytest.mark.skipif(_dispatch.kernels is None, reason="the reference has no threads")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_number_of_threads_gives_the_same_bits(solver):
    X, y = load_digits(return_X_y=True)
    ends = []
    for n_threads in (1, 2, 3):
        objective = SoftmaxObjective(np.repeat(X, 4, axis=0), np.repeat(y, 4), l2=1e-3, n_threads=n_threads)
        ends.append(minimize(objective, np.zeros(objective.size), solver).w)
    for end in ends[1:]:
        np.testing.assert_array_equal(end, ends[0])


def test_start_that_is_not_finite_stops_at_once():
    objective = objective_of("iris")
    found = minimize(objective, np.full(objective.size, np.nan))
    assert found.n_iter == 0 and not found.converged and "nan at the start" in found.report


def blocks(objective, w, D):
    """M of each class, from all rows, as the sum says."""
    X = np.column_stack([objective._X.astype(float), np.ones(objective.N)])
    S = objective._probabilities(objective._X, *objective._parameters(w)).astype(float)[:, list(objective.rows)]
    s = objective._weights() / objective.m
    return [(X.T * (s * S_k * (1 - S_k))) @ X + np.diag([objective.l2] * D + [0]) for S_k in S.T]


@pytest.mark.skipif(_dispatch.kernels is None, reason="the reference has diagonals")
@pytest.mark.parametrize("kind", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("D", [1, 3, 15, 16, 31, 32, 33, 47, 100, 130])
def test_preconditioner_solves_with_the_blocks(isa, dtype, D, kind):
    rng = np.random.default_rng(D)
    N = ROWS - 1  # all are taken
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, 2 if kind is BinomialObjective else 3, N)
    objective = kind(X, y, l2=0.1, sample_weight=rng.random(N))
    w, g = rng.standard_normal(objective.size) / D, rng.standard_normal(objective.size)
    got = objective.preconditioner(w)(g)
    K = len(objective.rows)
    want = np.empty_like(g)
    for k, M in enumerate(blocks(objective, w, D)):
        z = np.linalg.solve(M, np.append(g[k * D : (k + 1) * D], g[K * D + k]))
        want[k * D : (k + 1) * D], want[K * D + k] = z[:D], z[D]
    np.testing.assert_allclose(got, want, rtol=0, atol=0.02 * np.abs(want).max())  # what the damping does


def test_diagonal_where_blocks_would_cost_too_much(dtype):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((50, 700)).astype(dtype), rng.integers(0, 3, 50)
    objective = SoftmaxObjective(X, y, l2=0.1)
    g = rng.standard_normal(objective.size)
    got = objective.preconditioner(np.zeros(objective.size))(g)
    want = g / np.concatenate([np.tile(2 / 9 * (X.astype(float) ** 2).mean(axis=0) + 0.1, 3), [2 / 9] * 3])
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("N, count", [(10, 20), (1000, 100), (1000, 999), (5000, 7)])
def test_systematic_sample(N, count):
    weights = np.random.default_rng(N).exponential(size=N) ** 3
    rows, stand_for = systematic(weights, count)
    assert (
        len(rows) <= max(count, N if N <= count else 0) and (np.diff(rows) > 0).all() if N > count else len(rows) == N
    )
    assert stand_for.sum() == pytest.approx(weights.sum())
    # A row that weighs more than what a mark stands for is always drawn, and as often as it weighs, to within one.
    share = weights.sum() / count
    for i in np.flatnonzero(weights > share) if N > count else []:
        assert abs(stand_for[rows == i][0] - weights[i]) <= share


def test_few_parameters_take_the_whole_hessian():
    assert objective_of("iris").size <= FEW < objective_of("digits").size
    found = minimize(objective_of("iris"), np.zeros(15))
    assert found.report.startswith("Newton's method:")
