"""lbfgs, newton and minimize: where they end, that they end, and what they say of it."""

import contextlib
import inspect
import io
import itertools
import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from softmax_ext import SoftmaxObjective, optim, reference
from softmax_ext._core import dispatch
from softmax_ext._objective.fisher import LEAST_ROWS, _spread, class_weights, priority_samples
from softmax_ext._optim import newton
from softmax_ext._optim.descent import Descent
from softmax_ext._optim.history import History
from softmax_ext._optim.lbfgs import LBFGS
from softmax_ext._optim.newton import FEW, LAST
from softmax_ext._optim.solvers import minimize
from softmax_ext.objective import BinomialObjective

DATA = {"iris": load_iris, "wine": load_wine, "digits": load_digits, "breast cancer": load_breast_cancer}
SOLVERS = ["auto", "lbfgs", "newton"]


def objective_of(name, C=1.0, dtype=float):
    X, y = DATA[name](return_X_y=True)
    kind = BinomialObjective if y.max() == 1 else SoftmaxObjective
    return kind(np.ascontiguousarray(X, dtype), y, l2=1 / (C * len(X)))


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"tol": -1}, ValueError, "tol must be finite and not negative, got -1"),
        ({"tol": np.nan}, ValueError, "tol must be finite and not negative, got nan"),
        ({"tol": np.inf}, ValueError, "tol must be finite and not negative, got inf"),
        ({"tol": "small"}, TypeError, "tol must be a real number, got 'small'"),
        ({"tol": True}, TypeError, "tol must be a real number, got True"),
        ({"max_iter": -1}, ValueError, "max_iter must be at least 0, got -1"),
        ({"max_iter": 2.5}, TypeError, "max_iter must be an integer, got 2.5"),
        ({"w": 0.0}, TypeError, r"w must be an array, \(size,\), got a scalar"),
        ({"w": np.zeros((3, 5))}, ValueError, r"w must be 1-D, \(size,\), got 2-D"),
        ({"w": np.zeros(15, complex)}, ValueError, "Complex data not supported: w"),
        ({"w": ["a"] * 15}, TypeError, "w must hold real numbers"),
        ({"w": np.zeros(14)}, ValueError, r"15 entries, got \(14,\)"),
    ],
)
@pytest.mark.parametrize("solver", [optim.lbfgs, optim.newton, optim.proximal])
def test_optimisers_check_their_arguments(solver, arguments, error, words):
    objective = objective_of("iris")
    with pytest.raises(error, match=words):
        solver(objective, **{"w": np.zeros(objective.size)} | arguments)


@pytest.mark.parametrize("memory, error", [(-1, ValueError), (2.5, TypeError)])
def test_lbfgs_checks_its_memory(memory, error):
    objective = objective_of("iris")
    with pytest.raises(error, match="memory must be"):
        optim.lbfgs(objective, np.zeros(objective.size), memory=memory)


class Quadratic:
    """wᵀ A w / 2 - b w, as an objective of a user's, without a preconditioner."""

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
    assert found.converged and found.largest_gradient <= 1e-4 and found.n_iter <= 100


@pytest.fixture(scope="module")
def magnitudes():
    """Raw amounts: lognormal features whose scales span five decades, 6 classes, 546 parameters."""
    rng = np.random.default_rng(1)
    Z = rng.standard_normal((2500, 90))
    X = np.exp(1.5 * Z) * 10 ** rng.uniform(-2, 3, 90)
    return X, (0.3 * Z @ rng.standard_normal((90, 6)) + rng.gumbel(size=(2500, 6))).argmax(1)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference takes another path")
@pytest.mark.parametrize("tol", [1e-4, 1e-7])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0, 1e4, np.inf])
@pytest.mark.parametrize("max_iter, most", [(1000, 199), (100, 100)])
def test_features_of_all_magnitudes_converge_in_few_products(magnitudes, C, tol, max_iter, most):
    # The gradient of a feature of 1e5 is above tol while nothing is left to gain. L-BFGS took 1000 iterations and more
    # from there, and conjugate gradients with diagonal blocks thousands of products. With the default of 100 iterations
    # the extra penalty may not be over when Newton's method begins.
    X, y = magnitudes
    objective = SoftmaxObjective(X, y, l2=1 / (C * len(X)))
    found = minimize(objective, np.zeros(objective.size), tol=tol, max_iter=max_iter)
    assert found.converged, found.report
    assert found.n_iter <= most
    products = [int(line.rpartition(" ")[2]) for line in found.report.splitlines() if line.startswith("products")]
    assert sum(products) < 1000, found.report


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
@pytest.mark.parametrize("size, condition", [(1, 1), (7, 1e3), (200, 100), (200, 1e3), (1000, 1e3)])
def test_an_objective_of_ones_own_is_minimised(function, size, condition):
    objective = Quadratic(size, condition)
    found = function(objective, np.zeros(size), tol=1e-9, max_iter=2000)
    assert found.converged, found.report
    np.testing.assert_allclose(found.w, np.linalg.solve(objective.A, objective.b), atol=1e-7)


class Identity:
    """A preconditioner that counts its calls."""

    def __init__(self, scale):
        self.scale, self.calls = scale, 0

    def together(self, vectors):
        self.calls += 1
        return [v * self.scale for v in vectors]


class Points(Quadratic):
    """What the history of L-BFGS reads of a run: points on a quadratic."""

    def __init__(self, size, dtype, scale, n_threads=1):
        super().__init__(size, 50)
        self.dtype, self.n_threads, self.solve = dtype, n_threads, Identity(scale)
        self.w = np.zeros(size)
        self.grad = self.value_and_grad(self.w)[1]

    def precondition(self, *vectors):
        return self.solve.together(vectors)

    def move(self, w):
        before, self.w, self.grad = (self.w, self.grad), w, self.value_and_grad(w)[1]
        return before


def two_loops(g, S, Y, scale):
    """Return the direction by algorithm 7.4 of Nocedal and Wright, for pairs from the oldest to the newest."""
    q, alpha = g.copy(), []
    for s, y in zip(S[::-1], Y[::-1], strict=True):
        alpha.append(s @ q / (s @ y))
        q -= alpha[-1] * y
    gamma = S[-1] @ Y[-1] / (Y[-1] @ (scale * Y[-1]))
    r = gamma * scale * q
    for s, y, a in zip(S, Y, alpha[::-1], strict=True):
        r += s * (a - y @ r / (s @ y))
    return -r


@pytest.mark.parametrize("level", [*dispatch.available(), dispatch.REFERENCE])
@pytest.mark.parametrize("memory", [1, 3, 10])
@pytest.mark.parametrize("size", [1, 5, 300])
def test_the_direction_is_that_of_the_two_loop_recursion(level, dtype, size, memory):
    with dispatch.using(level):
        rng = np.random.default_rng(size)
        scale = rng.uniform(0.5, 2, size)
        run = Points(size, dtype, scale)
        history, S, Y = History(memory, run), [], []
        np.testing.assert_array_equal(history.direction(), -scale * run.grad)
        for _ in range(7):  # more than the shorter memories hold
            w, grad = run.move(run.w + rng.standard_normal(size))
            history.add(w, grad)
            S, Y = [*S, (run.w - w).astype(dtype)][-memory:], [*Y, (run.grad - grad).astype(dtype)][-memory:]
            want = two_loops(run.grad, [s.astype(float) for s in S], [y.astype(float) for y in Y], scale)
            # Both round in double, whatever the dtype, and many pairs of few coefficients cancel each other.
            np.testing.assert_allclose(history.direction(), want, rtol=0, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("level", dispatch.available())
def test_no_number_of_threads_changes_a_direction(level, dtype, monkeypatch):
    """Of vectors of several chunks, by teams from the first pair on; that of NumPy's loops differs by rounding."""
    size, rng = 5000, np.random.default_rng(0)
    scale, points = rng.uniform(0.5, 2, size), rng.standard_normal((5, size))

    def directions(n_threads):
        run = SimpleNamespace(w=points[0], grad=scale * points[0], dtype=dtype, n_threads=n_threads)
        run.precondition = lambda *vectors: [1.5 * v.astype(float) for v in vectors]
        history, found = History(3, run), []
        for w in points[1:]:
            before, run.w, run.grad = (run.w, run.grad), w, scale * w
            history.add(*before)
            found.append(history.direction())
        return np.array(found)

    with dispatch.using(level):
        alone = directions(1)
        monkeypatch.setattr("softmax_ext._optim.history.PARALLEL", 0)
        for n_threads in (1, 2, 3):
            np.testing.assert_array_equal(directions(n_threads), alone)
    with dispatch.using(dispatch.REFERENCE):
        np.testing.assert_allclose(directions(1), alone, rtol=0, atol=1e-9 * np.abs(alone).max())


@pytest.mark.parametrize("level", dispatch.available())
def test_another_penalty_changes_the_pairs_as_in_numpy(level, dtype, monkeypatch):
    """Of vectors of several chunks; every number of threads gives the same bits."""
    size, rng = 5000, np.random.default_rng(0)
    points, change = rng.standard_normal((5, size)), rng.uniform(-0.4, 0.4, size)

    def eased(n_threads):
        run = SimpleNamespace(w=points[0], grad=points[0], dtype=dtype, n_threads=n_threads)
        history = History(3, run)
        history.ease(change)  # there is no pair
        for w in points[1:]:
            before, run.w, run.grad = (run.w, run.grad), w, w
            history.add(*before)
        run.grad = (1 + change) * run.w
        history.ease(change)
        rows = history.order[:3]
        return history.Y.astype(float), history.Sg, np.triu(history.SY[np.ix_(rows, rows)])

    with dispatch.using(level):
        alone = eased(1)
        monkeypatch.setattr("softmax_ext._optim.history.PARALLEL", 0)
        for n_threads in (1, 2, 3):
            for one, other in zip(eased(n_threads), alone, strict=True):
                np.testing.assert_array_equal(one, other)
    with dispatch.using(dispatch.REFERENCE):
        for one, other in zip(eased(1), alone, strict=True):
            np.testing.assert_allclose(one, other, rtol=0, atol=(1e-6 if dtype == "f4" else 1e-12) * abs(other).max())


def test_a_pair_that_curves_downwards_is_left_out():
    run = Points(4, np.float64, np.ones(4))
    history = History(2, run)
    for step in (1.0, 2.0, -3.0, 5.0, 7.0):
        w, grad = run.move(run.w + step)
        history.add(w, grad if step > 0 else 2 * run.grad - grad)
        assert len(history) <= 2 and {*history.order} == {0, 1}
    rows = history.order[: len(history)]
    S, Y = history.S[rows], history.Y[rows]
    np.testing.assert_allclose(history.direction(), two_loops(run.grad, S, Y, np.ones(4)))


def test_the_preconditioner_is_applied_once_an_iteration():
    objective, solve = Quadratic(50, 10), Identity(1.0)
    objective.preconditioner = lambda w: solve
    found = optim.lbfgs(objective, np.zeros(50), tol=1e-8)
    assert found.converged and solve.calls == found.n_iter + 1  # once more to tell the end


def test_pairs_of_float32_are_kept_in_float32():
    size, memory = 10**6, 10

    class Wide:
        dtype = np.dtype(np.float32)
        A = np.linspace(1, 100, size)

        def value_and_grad(self, w):
            grad = self.A * w
            grad -= 1
            return 0.5 * float(w @ grad) - 0.5 * float(w.sum()), grad

    tracemalloc.start()
    found = optim.lbfgs(Wide(), np.zeros(size), tol=1e-5, max_iter=14)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.n_iter == 14 and peak <= size * (8 * memory + 80)


def test_lbfgs_without_pairs_follows_the_preconditioned_gradient():
    objective = objective_of("digits", C=1e-3)
    found = optim.lbfgs(objective, np.zeros(objective.size), memory=0, tol=1e-3)
    assert found.converged and found.n_iter > 2, found.report


@pytest.mark.parametrize("memory", [1, 2, 5])
def test_lbfgs_keeps_no_more_pairs_than_it_is_told_to(memory):
    objective = objective_of("digits")
    kept = []

    def look(*_):
        frame = inspect.currentframe()
        while frame.f_code.co_name != "_go":
            frame = frame.f_back
        kept.append(len(frame.f_locals["self"].history))

    optim.lbfgs(objective, np.zeros(objective.size), memory=memory, max_iter=12, callback=look)
    assert max(kept) == memory


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solution_records_its_fit(solver):
    objective, seen = objective_of("digits"), []
    found = minimize(objective, np.zeros(objective.size), solver, callback=lambda *state: seen.append(state))
    assert [iteration for iteration, _, _ in seen] == list(range(1, found.n_iter + 1))
    assert [value for _, value, _ in seen] == list(found.curve[1:])
    assert found.curve[0] == pytest.approx(np.log(10)) and found.curve[-1] == found.value == seen[-1][1]
    assert seen[-1][2] == found.largest_gradient
    assert (
        np.diff(found.curve) < 0
    ).all() or "extra penalty" in found.report  # which falls, with the objective beside it
    assert "stopped: the gradient is within tol = 0.0001" in found.report
    assert ("L-BFGS" in found.report) == (solver != "newton")


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_callback_sees_the_point_that_it_asks_for(solver):
    objective, seen = objective_of("digits"), []
    start = np.zeros(objective.size)

    def callback(iteration, value, gradient, w):
        assert not w.flags.writeable and objective.value_and_grad(w)[0] == value
        seen.append(w)

    found = minimize(objective, start, solver, max_iter=7, callback=callback)
    np.testing.assert_array_equal(seen[-1], found.w)
    np.testing.assert_array_equal(seen[3], minimize(objective, start, solver, max_iter=4).w)
    with contextlib.redirect_stdout(io.StringIO()) as out:  # print has no parameter w
        minimize(objective, start, solver, max_iter=1, callback=print)
    assert len(out.getvalue().split()) == 3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "options, reason",
    [({"max_iter": 3}, "max_iter = 3"), ({"callback": lambda i, f, g: i == 3}, "callback said so")],
)
def test_a_fit_stops_where_it_is_told_to(solver, options, reason):
    objective = objective_of("digits")
    found = minimize(objective, np.zeros(objective.size), solver, tol=0, **options)
    assert found.n_iter == 3 and not found.converged and reason in found.report


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["iris", "digits"])
def test_a_fit_ends_in_rounding_quietly(name, solver):
    objective = objective_of(name, dtype=np.float32)
    found = minimize(objective, np.zeros(objective.size), solver, tol=0, max_iter=500)
    assert not found.converged and found.n_iter < 500 and "rounding" in found.report
    assert found.largest_gradient < 1e-3


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
def test_odd_data_are_minimised(name, l2, solver):
    X, y = ODD[name]
    objective = (BinomialObjective if y.max() == 1 else SoftmaxObjective)(X, y, l2=l2)
    found = minimize(objective, np.zeros(objective.size), solver, max_iter=1000)
    assert np.isfinite(found.w).all() and found.value <= found.curve[0]
    if name != "scales":
        assert found.converged, found.report


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has no threads")
@pytest.mark.parametrize("solver", SOLVERS)
def test_every_number_of_threads_gives_a_solution_the_same_bits(solver):
    X, y = load_digits(return_X_y=True)
    ends = []
    for n_threads in (1, 2, 3):
        objective = SoftmaxObjective(np.repeat(X, 4, axis=0), np.repeat(y, 4), l2=1e-3, n_threads=n_threads)
        ends.append(minimize(objective, np.zeros(objective.size), solver).w)
    for end in ends[1:]:
        np.testing.assert_array_equal(end, ends[0])


def test_a_start_that_is_not_finite_stops_at_once():
    objective = objective_of("iris")
    found = minimize(objective, np.full(objective.size, np.nan))
    assert found.n_iter == 0 and not found.converged and "nan at the start" in found.report


def blocks(objective, w, D):
    """Return M of each class, as the sum over all rows."""
    X = np.column_stack([objective._rows.X.astype(float), np.ones(objective.N)])
    S = objective._posterior(objective._rows, *objective.parameters.split(w, objective.dtype)).astype(float)
    s = objective._rows.weights() / objective.m
    return [(X.T * (s * S_k * (1 - S_k))) @ X + np.diag([objective.l2] * D + [0]) for S_k in S.T]


@pytest.mark.pairs(3)
@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has diagonals")
@pytest.mark.parametrize("kind", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("D", [1, 3, 15, 16, 31, 32, 33, 47, 100, 130])
def test_preconditioner_solves_with_the_blocks(isa, dtype, D, kind):
    rng = np.random.default_rng(D)
    N = LEAST_ROWS - 1  # all are taken
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, 2 if kind is BinomialObjective else 3, N)
    objective = kind(X, y, l2=0.1, sample_weight=rng.random(N))
    w, g = rng.standard_normal(objective.size) / D, rng.standard_normal(objective.size)
    fisher, h = objective.preconditioner(w), rng.standard_normal(objective.size)
    got = fisher(g)
    for vector, found in zip((h, g, h), fisher.together([h, g, h]), strict=True):  # the first two share each read of M
        np.testing.assert_array_equal(found, fisher(vector))
    K = len(objective.rows)
    want = np.empty_like(g)
    for k, M in enumerate(blocks(objective, w, D)):
        z = np.linalg.solve(M, np.append(g[k * D : (k + 1) * D], g[K * D + k]))
        want[k * D : (k + 1) * D], want[K * D + k] = z[:D], z[D]
    np.testing.assert_allclose(got, want, rtol=0, atol=0.02 * np.abs(want).max())  # what the damping does


@pytest.mark.parametrize("kind", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("intercept", [False, True])
def test_a_diagonal_of_centred_features_is_taken_where_blocks_would_cost_too_much(
    dtype, storage, stored, kind, intercept
):
    """At w = 0 nothing of it is an estimate; without an intercept there is nothing to centre by."""
    rng, K, D = np.random.default_rng(0), 2 if kind is BinomialObjective else 3, 1100
    X = rng.standard_normal((50, D)) + 2
    X *= rng.random(X.shape) < (0.3 if storage == "csr" else 1)
    X = X.astype(dtype)
    objective = kind(stored(X), np.arange(50) % K, l2=0.1, fit_intercept=intercept)
    rows, c, x = objective.parameters.count, (K - 1) / K**2, X.astype(float)
    if intercept:
        A = np.eye(D + 1)
        A[D, :D] = x.mean(axis=0)
        M = A.T @ np.diag(np.append(c * x.var(axis=0) + 0.1, c)) @ A
    else:
        M = np.diag(c * (x**2).mean(axis=0) + 0.1)
    g = rng.standard_normal(objective.size)
    want = objective.parameters.flat(np.linalg.solve(M, objective.parameters.by_class(g, float).T).T)
    fisher = objective.preconditioner(np.zeros(objective.size))
    assert not fisher.blocks and len(objective.rows) == rows
    np.testing.assert_allclose(fisher(g), want, rtol=1e-6, atol=1e-9)
    both = fisher.together([g, -2 * g])
    np.testing.assert_array_equal(both[0], fisher(g))
    np.testing.assert_allclose(both[1], -2 * want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize(("C", "most"), [(1.0, 12), (1e4, 30)])
def test_levels_that_are_rare_do_not_mislead_a_fit(C, most, n_threads):
    """Each sample has one of many levels of each of ten properties, and one class is rare.

    All levels of a property together are collinear with the intercept: with the diagonal of the features as they are
    this took 20 iterations with C = 1, and 122 with C = 10000.
    """
    rng, N, columns, width = np.random.default_rng(3), 20_000, [], 0
    for levels in (5, 10, 50, 100, 400, 700, 7, 20, 40, 1000):
        often = 1 / np.arange(1, levels + 1)
        columns.append(width + rng.choice(levels, N, p=often / often.sum()))
        width += levels
    entries = np.stack(columns, axis=1).ravel()
    X = scipy.sparse.csr_array((np.ones(len(entries)), entries, np.arange(0, len(entries) + 1, 10)), shape=(N, width))
    y = (X @ rng.standard_normal(width) - 3 + rng.logistic(size=N) > 0).astype(int)
    objective = BinomialObjective(X, y, l2=1 / (C * N), n_threads=n_threads)
    assert not objective.preconditioner(np.zeros(objective.size)).blocks
    found = minimize(objective, np.zeros(objective.size), max_iter=400)
    assert found.converged and found.n_iter <= most


@pytest.mark.parametrize("kind", ["blocks", "diagonal", "sparse"])
@pytest.mark.parametrize("weighted", [False, True])
def test_preconditioner_at_zero_is_that_beside_it(kind, weighted):
    rng = np.random.default_rng(0)
    X, y, s = rng.random((100, 400 if kind == "diagonal" else 20)), rng.integers(0, 3, 100), rng.random(100)
    X = scipy.sparse.csr_array(X) if kind == "sparse" else X
    objective = SoftmaxObjective(X, y, l2=0.01, sample_weight=s if weighted else None)
    g = rng.standard_normal(objective.size)
    at, beside = (objective.preconditioner(np.full(objective.size, value)) for value in (0.0, 1e-200))
    assert at.blocks == (kind != "diagonal")
    np.testing.assert_allclose(at(g), beside(g), rtol=1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_class_has_a_diagonal_of_its_own(isa, weighted):
    """Away from 0 it is that of the Hessian over the rows that it is taken from."""
    rng, N, D, K = np.random.default_rng(0), 100, 400, 3
    X, y, s = rng.random((N, D)), rng.integers(0, K, N), rng.random(N)
    weights = {"sample_weight": s} if weighted else {}
    objective = SoftmaxObjective(X, y, l2=0.01, fit_intercept=False, **weights)
    w = rng.standard_normal(objective.size)
    fisher = objective.preconditioner(w)
    assert not fisher.blocks
    S = reference.predict_proba(fisher.rows.X, *objective.parameters.split(w, np.float64))
    want = (fisher.rows.weights()[:, np.newaxis] * S * (1 - S)).T @ np.square(fisher.rows.X) / fisher.rows.total + 0.01
    np.testing.assert_allclose(1 / fisher.inverse.reshape(K, D), want, rtol=1e-9)
    g = rng.standard_normal(objective.size)
    np.testing.assert_allclose(fisher(g), g / want.ravel(), rtol=1e-9)


@pytest.mark.parametrize("at", [0.0, 1.0])
def test_a_diagonal_of_centred_features_is_applied_as_in_numpy(isa, at):
    rng = np.random.default_rng(0)
    objective = SoftmaxObjective(rng.random((100, 400)) + 3, rng.integers(0, 3, 100), l2=0.01)
    fisher = objective.preconditioner(at * rng.standard_normal(objective.size))
    assert fisher.mean is not None and len(fisher.mean) == (3 if at else 1)
    for kind in ("f4", "f8"):
        g = rng.standard_normal(objective.size).astype(kind)
        found = fisher(g)
        with dispatch.using(dispatch.REFERENCE):
            np.testing.assert_allclose(found, fisher(g), rtol=1e-9, atol=1e-9 * abs(found).max())


def priority_sample(weights, count):
    """Return the rows that are drawn for one class, and what they stand for."""
    rows, stand_for = priority_samples(weights[:, np.newaxis], 1, count)
    drawn = stand_for[0] > 0
    return rows[0, drawn], stand_for[0, drawn]


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has diagonals")
@pytest.mark.parametrize("N, count", [(10, 20), (1000, 100), (1000, 999), (5000, 7)])
def test_sample_stands_for_all_rows(N, count):
    weights = np.random.default_rng(N).exponential(size=N) ** 3
    weights[::7] = 0
    rows, stand_for = priority_sample(weights, count)
    if N <= count:
        np.testing.assert_array_equal(rows, np.flatnonzero(weights))
        np.testing.assert_array_equal(stand_for, weights[rows])
        return
    assert len(rows) <= count and (np.diff(rows) > 0).all() and (weights[rows] > 0).all()
    assert stand_for.sum() == pytest.approx(weights.sum(), rel=2 / np.sqrt(count))
    # A row that weighs more than others stand for is always drawn, for itself.
    heavy = np.flatnonzero(weights > stand_for.min())
    assert np.isin(heavy, rows).all()
    np.testing.assert_array_equal(stand_for[np.isin(rows, heavy)], weights[heavy])
    assert (stand_for[~np.isin(rows, heavy)] == stand_for.min()).all()


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has diagonals")
@pytest.mark.parametrize("kind", ["usual", "tied", "tiny", "nothing", "NaN"])
@pytest.mark.parametrize("n, count", [(5, 9), (9, 9), (10, 9), (700, 64), (20_000, 1024)])
def test_samples_are_those_with_the_highest_priorities(isa, n, count, kind):
    rng, K = np.random.default_rng(n), 3
    c = rng.exponential(size=(n, K)) ** 3
    if kind == "tied":
        c = rng.integers(0, 3, (n, K)) * _spread(n)[:, np.newaxis]
    elif kind == "tiny":
        c = 10 ** rng.uniform(-322, -290, (n, K))
    elif kind != "usual":
        c[rng.random((n, K)) < 0.99] = 0
    used = c.copy()
    if kind == "NaN" and n > count:
        used[::3] = np.nan
        c[::3] = 0  # such samples are left out
    rows, weights = priority_samples(used, K, count)
    for k in range(K):
        want, stands_for = np.arange(n), c[:, k]
        if n > count:
            priorities = c[:, k] / _spread(n)
            left_out = np.sort(priorities)[-count - 1]
            want = np.flatnonzero(priorities > left_out)
            stands_for = np.maximum(c[want, k], left_out)
        m = len(want)
        np.testing.assert_array_equal(rows[k, :m], want)
        np.testing.assert_array_equal(weights[k, :m], stands_for)
        assert not weights[k, m:].any()
    for n_threads in (2, 3):
        for one, other in zip(priority_samples(used, K, count, n_threads), (rows, weights), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("K", [1, 2, 5])
def test_weights_of_classes_are_those_of_numpy(isa, dtype, K):
    rng = np.random.default_rng(K)
    S, s = rng.dirichlet(np.ones(K + 1), 300).astype(dtype)[:, 1:], rng.random((300, 1))
    for posteriors in (S, np.repeat(S[:, :1], K, axis=1)):
        c, sums, same = class_weights(posteriors, s)
        with dispatch.using(dispatch.REFERENCE):
            want, total, equal = class_weights(posteriors, s)
        np.testing.assert_array_equal(c, want)
        np.testing.assert_allclose(sums, total, rtol=1e-14)
        assert same == equal == (posteriors is not S or K == 1)


@pytest.mark.parametrize("at", [0.0, 0.1])
@pytest.mark.parametrize("eased", [False, True])
@pytest.mark.parametrize("intercept", [False, True])
def test_diagonals_are_those_of_numpy(isa, dtype, storage, stored, at, eased, intercept):
    rng = np.random.default_rng(0)
    X, y = (rng.random((100, 400)) + 3).astype(dtype), rng.integers(0, 3, 100)
    X[:, 5] = 0
    X[:, 7] = 1e-4
    w, extra = at * rng.standard_normal(3 * (400 + intercept)), np.arange(3.0 * (400 + intercept)) if eased else None
    options = {"l2": 0.01, "fit_intercept": intercept, "sample_weight": rng.random(100)}
    found = SoftmaxObjective(stored(X), y, **options).preconditioner(w, extra)
    with dispatch.using(dispatch.REFERENCE):
        want = SoftmaxObjective(stored(X), y, **options).preconditioner(w, extra)
    assert not found.blocks and (found.mean is None) == (want.mean is None) == (not intercept)
    np.testing.assert_allclose(found.inverse, want.inverse, rtol=2e-4 if dtype == "f4" else 1e-9)
    if intercept:
        np.testing.assert_allclose(found.mean, want.mean, rtol=2e-4 if dtype == "f4" else 1e-9)


@pytest.mark.parametrize("rows", [1, 3])
def test_what_blocks_need_besides_samples_is_that_of_numpy(isa, dtype, rows):
    """Features whose mean square is 0, infinite or NaN are not scaled."""
    if isa == dispatch.REFERENCE:
        pytest.skip("blocks are made by compiled kernels")
    rng = np.random.default_rng(0)
    weight, squares, added = rng.exponential(size=3), rng.exponential(size=13), rng.exponential(size=(rows, 13))
    squares[[2, 5, 7]], added[:, 2] = (0, np.inf, np.nan), 0
    penalty, unit = np.empty((3, 13), dtype), np.empty((3, 13)) if dtype == "f8" else None
    dispatch.kernels.block_units(weight, squares, added, 1e-3, penalty, unit)
    usual = weight[:, np.newaxis] * squares
    np.testing.assert_allclose(penalty, added + 1e-3 * usual, rtol=1e-6 if unit is None else 1e-15)
    if unit is not None:
        whole = usual + added
        want = 1 / np.sqrt(np.where((whole > 0) & (whole < np.inf), whole, 1))
        np.testing.assert_allclose(unit, want, rtol=1e-15)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has diagonals")
@pytest.mark.parametrize("D", [3, 23, 24, 25, 100, 181])
def test_threads_that_share_a_block_leave_its_bits(isa, dtype, D):
    rng, N = np.random.default_rng(D), 600
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, 3, N)
    objective = SoftmaxObjective(X, y, l2=0.1)
    fisher = objective.preconditioner(rng.standard_normal(objective.size) / D)
    P, size = D + 1, (3, fisher.count)
    rows, roots, added = rng.integers(0, N, size), rng.random(size).astype(dtype), np.ones((3, P), dtype)
    for classes in (1, 3):
        found = []
        for n_threads in (1, 2, 3, 4):
            fisher.U[:] = np.nan
            space = np.full(n_threads * dispatch.kernels.fisher_sizes(P, X.itemsize)[1], np.nan, dtype)
            factors = dispatch.kernels.Factors(fisher.U, np.empty((3, P), dtype), space, True)
            unit = np.linspace(0.5, 2, classes * P).reshape(classes, P) if dtype == "f8" else None
            factors.factor(X, rows[:classes], roots[:classes], added[:classes], 1e-6, n_threads, unit=unit)
            found.append(np.triu(fisher.U[:classes, :, :P]))
        assert np.isfinite(found[0]).all()
        for other in found[1:]:
            np.testing.assert_array_equal(other, found[0])


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has diagonals")
def test_rounding_of_the_weights_leaves_the_sample():
    rng = np.random.default_rng(0)
    weights = rng.exponential(size=16_000)
    rows, _ = priority_sample(weights, 2000)
    other, _ = priority_sample(weights * (1 + 1e-6 * rng.standard_normal(16_000)), 2000)
    assert len(np.setxor1d(rows, other)) <= 2


@pytest.mark.parametrize("K", [2, 7])
def test_float32_takes_newtons_method_no_more_steps_than_float64(K):
    """Of raw columns one is a difference of others, and the penalty hardly holds them.

    Without digits of that direction a step would be 10 of rounding, and take the scores' digits: 41 steps of 7 classes.
    """
    rng = np.random.default_rng(0)
    X = np.round(rng.standard_t(2, (20_000, 6)) * [3, 1, 20, 5, 10, 30] + [50, 0, 40, 0, 35, 0]).clip(-2000, 2000)
    X[:, 5] = X[:, 2] - X[:, 4]
    y = ((X / X.std(axis=0)) @ rng.standard_normal((6, K)) + rng.gumbel(size=(len(X), K))).argmax(axis=1)
    objective = BinomialObjective if K == 2 else SoftmaxObjective
    found = [optim.newton(f := objective(X.astype(t), y, l2=1e-9), np.zeros(f.size)) for t in ("f4", "f8")]
    assert found[0].converged and found[0].n_iter <= found[1].n_iter + 1
    np.testing.assert_allclose(found[0].value, found[1].value, rtol=1e-6)


@pytest.mark.parametrize("K", [2, 3, 7])
def test_newtons_method_ends_where_the_gradient_is_rounding(K):
    """Columns lie far from 0 and are of very different sizes.

    A search failed after 35 steps of 2 classes, 22 of 3 and 39 of 7.
    """
    for seed in range(4):
        rng = np.random.default_rng(seed)
        U = rng.standard_normal((4000, 6))
        y = (U @ (2 * rng.standard_normal((6, K))) + rng.gumbel(size=(len(U), K))).argmax(axis=1)
        X, objective = ((U + 100) * 10.0 ** np.linspace(-3, 3, 6)), BinomialObjective if K == 2 else SoftmaxObjective
        found = [optim.newton(f := objective(X.astype(t), y, l2=1 / len(X)), np.zeros(f.size)) for t in ("f4", "f8")]
        assert found[0].n_iter <= found[1].n_iter + 2
        np.testing.assert_allclose(found[0].value, found[1].value, rtol=1e-4)


@pytest.mark.parametrize(
    "predicted, expected",
    [
        ([0.0106, 3.2e-4, 7.3e-7], False),
        ([3.2e-4, 2.1e-6, 3.1e-8], True),
        ([3.2e-4, 7.3e-7, 1.5e-6], True),
        ([1e-8, 1e-6, 2e-6], True),
        ([3.2e-4, 7.3e-7, 1.5e-9], False),
    ],
)
def test_predicted_decreases_that_no_longer_fall_as_they_should_are_rounding(predicted, expected):
    """Those of floats in seven classes, as above: a decrease may seem larger again after one that is rounding."""
    run = SimpleNamespace(rounding=1.15e-6, most_decrease=1.2e-3)
    assert newton._is_rounding(predicted, run) is expected


def of_two_classes(kind, n_threads=None):
    """Samples so many that a fit begins with Hessians of some of them."""
    rng = np.random.default_rng(3)
    X, s = rng.standard_normal((41_000, 40)), None
    if kind == "raw":
        X = X * 10.0 ** rng.uniform(-2, 2, 40) + rng.uniform(-20, 20, 40)
    elif kind == "one-hot":
        X = scipy.sparse.csr_array(np.eye(40)[rng.integers(0, 20, len(X))] + np.eye(40)[rng.integers(20, 40, len(X))])
    elif kind == "weights of 0":
        s = (np.arange(len(X)) % 7 > 0) * 1.0
    elif kind == "in no sample":  # which is every seventh row or so
        X[:, 0] = 100.0 * (np.arange(len(X)) % 2310 == 1)
    z = (X - X.mean(axis=0)) @ (rng.standard_normal(40) / 6 / np.sqrt(np.mean(np.square(X - X.mean(axis=0)), axis=0)))
    y = (z + rng.logistic(size=len(z)) > 0).astype(int)
    return BinomialObjective(X, y, l2=1 / len(y), sample_weight=s, n_threads=n_threads)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference's Hessians of so many samples take a minute")
@pytest.mark.parametrize("kind", ["usual", "raw", "one-hot", "weights of 0", "in no sample"])
def test_newtons_method_begins_with_hessians_of_fewer_rows(kind, monkeypatch):
    objective, hessian, rows = of_two_classes(kind), BinomialObjective.hessian, []
    monkeypatch.setattr(BinomialObjective, "hessian", lambda self, w: rows.append(self.N) or hessian(self, w))
    found = optim.newton(objective, np.zeros(objective.size))
    few, of_all = [n for n in rows if n < objective.N], [n for n in rows if n == objective.N]
    assert few and (len(of_all) > 0) == (kind == "in no sample")
    monkeypatch.setattr(BinomialObjective, "thinned", lambda self: None)
    whole = optim.newton(objective, np.zeros(objective.size))
    assert found.converged and found.n_iter <= whole.n_iter + 3
    np.testing.assert_allclose(found.value, whole.value, rtol=1e-5)
    other = of_two_classes(kind, n_threads=1)
    monkeypatch.undo()
    np.testing.assert_array_equal(optim.newton(other, np.zeros(other.size)).w, found.w)


@pytest.mark.parametrize("last, tol, fewer", [(LAST, 1e-4, [1]), (LAST, 0.0, [-1, 0]), (0.0, 1e-10, range(3, 9))])
def test_a_step_that_is_likely_to_be_the_last_takes_the_hessian_of_the_one_before(last, tol, fewer, monkeypatch):
    """With LAST = 0 each other step is taken for the last one, and a Hessian of its own point must follow."""
    monkeypatch.setattr(newton, "LAST", last)
    objective, hessian, points = objective_of("breast cancer"), BinomialObjective.hessian, []
    monkeypatch.setattr(BinomialObjective, "hessian", lambda self, w: points.append(w) or hessian(self, w))
    found = optim.newton(objective, np.zeros(objective.size), tol=tol, max_iter=30)
    assert found.n_iter - len(points) in fewer
    best = minimize(objective, np.zeros(objective.size), tol=1e-12).value
    assert found.largest_gradient <= max(tol, 1e-10) and found.value - best <= 1e-3 * max(best, tol)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference's Hessians of so many samples take a minute")
@pytest.mark.parametrize("call", [0, 1])
def test_a_step_that_finds_no_decrease_is_followed_by_one_with_the_whole_hessian_there(call, monkeypatch):
    """The first one here is by a Hessian of fewer rows; or the next one by the whole Hessian of the point before."""
    objective, search, hessians, tried = of_two_classes("usual"), newton.search, [], []
    if call == 1:
        monkeypatch.setattr(BinomialObjective, "thinned", lambda self: None)

    def fails_once(run, *direction):
        tried.append((len(hessians), run.w.tobytes()))
        if len(tried) - 1 == call:
            run.reason = "the line search sees only rounding"
            return False
        return search(run, *direction)

    inverse = newton.inverse_hessian
    monkeypatch.setattr(newton, "LAST", 0.0)
    monkeypatch.setattr(newton, "search", fails_once)
    monkeypatch.setattr(newton, "inverse_hessian", lambda model, w: hessians.append(model) or inverse(model, w))
    found = optim.newton(objective, np.zeros(objective.size))
    (before, point), (after, same) = tried[call : call + 2]
    assert found.converged and point == same and after == before + 1 and hessians[after - 1] is objective


def test_few_parameters_take_the_whole_hessian():
    assert objective_of("iris").size <= FEW < objective_of("digits").size
    found = minimize(objective_of("iris"), np.zeros(15))
    assert found.report.startswith("Newton's method:")


def test_a_solution_has_its_gradient_under_the_former_name_too():
    found = optim.newton(SoftmaxObjective([[0.0], [1.0], [2.0]], [0, 1, 1], l2=0.1), np.zeros(4))
    with pytest.warns(FutureWarning, match="largest_gradient"):
        assert found.gradient == found.largest_gradient == found[2]


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("C", [1.0, 100.0])
def test_the_end_is_near_the_minimum_where_the_gradient_alone_says_nothing(C, solver):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 4000))
    objective = SoftmaxObjective(X, (X[:, :50] @ rng.standard_normal((50, 4))).argmax(1), l2=1 / (C * len(X)))
    best = minimize(objective, np.zeros(objective.size), "newton", tol=1e-9, max_iter=500).value
    found = minimize(objective, np.zeros(objective.size), solver, max_iter=500)
    assert found.converged, found.report
    assert found.value - best <= 1e-2 * max(best, 1e-4)
    assert f"predicted decrease {found.predicted_decrease:.3g}" in found.report


@pytest.mark.parametrize("name", ["wine", "breast cancer"])
def test_the_decrease_that_newton_s_method_predicts_is_the_decrease(name):
    objective = objective_of(name)
    best = minimize(objective, np.zeros(objective.size), tol=1e-12).value
    steps = (minimize(objective, np.zeros(objective.size), "newton", tol=0.0, max_iter=n) for n in range(3, 12))
    near = next(found for found in steps if found.predicted_decrease < 1e-3 * found.value)
    assert not near.converged  # by the Hessian of the point before: within a factor of two
    assert 0.5 * near.predicted_decrease <= near.value - best <= 2 * near.predicted_decrease


def test_a_stop_by_the_callback_where_both_rules_hold_is_an_end():
    objective = objective_of("wine")
    found = minimize(objective, np.zeros(objective.size), callback=lambda i, f, g: g <= 1e-4, tol=1e-4)
    assert found.converged and found.report.splitlines()[-2].startswith("stopped: the gradient is within tol")


@pytest.mark.parametrize("C", [1.0, 1e4, np.inf])
def test_weak_penalties_are_come_to_from_stronger_ones(C):
    objective = objective_of("digits", C)
    seen = []
    found = minimize(
        objective, np.zeros(objective.size), callback=lambda i, f, g, w: seen.append((i, f, g, w)), max_iter=300
    )
    assert found.converged and "extra penalty that falls" in found.report and found.n_iter <= 80
    # Whoever is told of an iteration is told of the problem that was asked for.
    for i, f, g, w in seen[:: len(seen) // 7]:
        value, grad = objective.value_and_grad(w)
        assert (f, g, f) == (value, abs(grad).max(), found.curve[i])
    best = minimize(objective, found.w, "newton", tol=1e-10, max_iter=100).value
    assert found.value - best <= 3e-2 * max(best, 1e-4)


@pytest.mark.parametrize("most", [0, 1, 12, 30])
@pytest.mark.parametrize("by", ["max_iter", "callback"])
def test_a_fit_may_be_ended_on_the_way_to_a_weak_penalty(most, by):
    objective = objective_of("digits", np.inf)
    options = {"max_iter": most} if by == "max_iter" else {"callback": lambda i, f, g: i >= most}
    found = minimize(objective, np.zeros(objective.size), **options)
    assert not found.converged and found.n_iter == (most if by == "max_iter" else max(most, 1))
    value = objective.value(found.w)  # at 0 found by a sum of another order
    assert found.value == found.curve[-1] == (value if found.w.any() else pytest.approx(value, rel=1e-15))


def test_no_extra_penalty_is_taken_where_it_is_of_no_use():
    weak = objective_of("digits", 1e4)
    warm = minimize(weak, np.full(weak.size, 1e-3), max_iter=300)
    assert "extra" not in warm.report  # it may be anywhere already
    assert objective_of("digits", 1e-3).easing() is None  # the penalty is as strong
    rng = np.random.default_rng(0)
    assert SoftmaxObjective(rng.standard_normal((800, 9)), rng.integers(0, 3, 800)).easing() is None  # rows are many


def test_pairs_follow_the_objective_to_another_penalty():
    objective, run = objective_of("digits"), None
    run = Descent(objective, np.zeros(objective.size), 0.0, 100, None)
    descent = LBFGS(run, 5)
    descent._go(8)
    history, change = descent.history, np.random.default_rng(0).uniform(0, 1e-3, objective.size)
    before = history.Y.copy()
    run.ease(change)
    history.ease(change)
    pairs = history.order[: len(history)]
    for row in pairs:
        np.testing.assert_allclose(history.Y[row], before[row] + change * history.S[row])
    np.testing.assert_allclose(history.Sg, history.S @ run.grad, atol=1e-12)
    for older, row in itertools.combinations_with_replacement(pairs, 2):
        np.testing.assert_allclose(history.SY[older, row], history.S[older] @ history.Y[row], atol=1e-12)


def test_mean_squares_of_sparse_samples_take_no_array_of_them():
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((5000, 30), density=0.1, rng=rng, format="csr")
    y = rng.integers(0, 3, 5000)
    dense = SoftmaxObjective(X.toarray(), y).mean_squares
    np.testing.assert_allclose(SoftmaxObjective(X, y).mean_squares, dense, rtol=1e-12)
    huge = SoftmaxObjective(scipy.sparse.csr_array((4096, 100_000)), np.arange(4096) % 3)
    tracemalloc.start()
    huge.easing()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # the samples as an array are 3 GB
