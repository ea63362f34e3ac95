"""Fits of few samples with many features: the same problem in the space of the samples."""

import warnings

import numpy as np
import pytest
import scipy.sparse
import threadpoolctl
from sklearn.model_selection import StratifiedKFold

from softmax_ext import SoftmaxObjective, explain_plan
from softmax_ext._objective import rows_space
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.rows_space import RowsSpace, is_wide, spanned
from softmax_ext._optim.solvers import minimize
from softmax_ext._optim.stretch import Stretch
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path
from softmax_ext.objective import BinomialObjective

N, D = 37, 700


def wide(kind="dense", dtype=np.float64, K=3, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D)).astype(dtype)
    y = (X[:, :20] @ rng.standard_normal((20, K)) + rng.standard_normal((N, K))).argmax(axis=1)
    y[:K] = range(K)
    if kind == "sparse":
        X *= rng.random((N, D)) < 0.1
    X[9] = X[4]  # a repeated sample adds no direction
    return (scipy.sparse.csr_array(X) if kind == "sparse" else X), y


def wide_objective(kind, dtype, K, C=1.0, **options):
    X, y = wide(kind, dtype, K)
    return (BinomialObjective if K == 2 else SoftmaxObjective)(X, y, l2=1 / (C * N), **options)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_coordinates_keep_scores_and_norms(kind, dtype, isa):
    X, _ = wide(kind, dtype)
    objective = SoftmaxObjective(X, wide()[1])
    space, narrow = objective.in_rows_space()
    rng, full = np.random.default_rng(1), X.toarray() if kind == "sparse" else X
    rank = np.linalg.matrix_rank(full.astype(np.float64))
    assert (narrow.N, narrow.D) == (N, rank) == space.Z.shape
    w = rng.standard_normal(objective.size)
    v = space.lower(w)
    np.testing.assert_allclose(space.Z @ space.narrow.weights(v).T, full @ objective.parameters.weights(w).T, atol=1e-4)
    np.testing.assert_allclose(space.lower(space.lift(v)[0]), v, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(space.lift(v)[0]), np.linalg.norm(v), rtol=1e-5)
    # Values and gradients are those of all features.
    value, grad = narrow.value_and_grad(v)
    wide_value, wide_grad = objective.value_and_grad(space.lift(v)[0])
    np.testing.assert_allclose(value, wide_value, rtol=1e-5)
    np.testing.assert_allclose(space.lift(grad)[0], wide_grad, atol=1e-5 * abs(wide_grad).max())


@pytest.mark.parametrize("K", [2, 3])
def test_bounds_of_the_largest_component_are_told_without_a_look_at_the_samples(K):
    space, _ = wide_objective("dense", np.float64, K).in_rows_space()
    v, u = np.random.default_rng(0).standard_normal((2, space.narrow.size))
    for intercepts in (0.01, 100):
        space.narrow.intercepts(v)[:] = intercepts
        both = space.lift(v, u)
        np.testing.assert_array_equal(both[0], space.lift(v)[0])
        (likely, most), largest = space.bounds(v), abs(both[0]).max()
        assert largest / 1.5 <= likely <= 1.5 * largest and largest <= most
        assert intercepts < 1 or likely == most == largest == intercepts


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-6])
def test_a_fit_ends_where_one_that_is_watched_does(tol):
    """A fit without a callback, too, looks at the largest component of all features before it goes on."""
    objective = wide_objective("dense", np.float64, 3)
    zero, watched = np.zeros(objective.size), []
    seen = minimize(objective, zero, tol=tol, max_iter=300, callback=lambda i, f, g: watched.append(g))
    found = minimize(objective, zero, tol=tol, max_iter=300)
    assert found.converged and found.n_iter == seen.n_iter == len(watched)
    assert found.w.tobytes() == seen.w.tobytes() and found.largest_gradient == watched[-1]


def test_the_last_iteration_is_judged_by_all_features(monkeypatch):
    """Even where the norm of the gradient says that it is not likely to be small."""
    bounds, objective = RowsSpace.bounds, wide_objective("dense", np.float64, 3)
    monkeypatch.setattr(RowsSpace, "bounds", lambda self, grad: (np.inf, bounds(self, grad)[1]))
    found = minimize(objective, np.zeros(objective.size), tol=1e-2, max_iter=12, callback=lambda *state: None)
    assert found.n_iter == 12 and found.converged and "the gradient is within tol" in found.report


def centred(parameters, w):
    """Compare what determines the scores: with more than two classes, all rows of W may have the same vector added."""
    W = parameters.by_class(w, np.float64)
    return W if parameters.binary else W - W.mean(axis=0)


@pytest.mark.parametrize("C", [1e-2, 1.0, 1e3])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_minimum_is_that_of_all_features(kind, K, C):
    objective = wide_objective(kind, np.float64, K, C)
    seen = []
    zero = np.zeros(objective.size)
    found = minimize(objective, zero, tol=1e-7, max_iter=500, callback=lambda i, f, g, w: seen.append((f, g, w)))
    assert found.converged and "in the space of the samples: 36 features in the place of 700" in found.report
    best = minimize(objective, zero, "newton", tol=1e-9, max_iter=200)
    fitted, least = (centred(objective.parameters, each.w) for each in (found, best))
    np.testing.assert_allclose(fitted, least, atol=1e-2 * max(abs(least).max(), 1))
    assert found.value == pytest.approx(best.value, rel=1e-3)
    value, grad = objective.value_and_grad(found.w)
    assert found.value == pytest.approx(value, rel=1e-9)
    assert found.largest_gradient == pytest.approx(abs(grad).max(), abs=1e-12)
    for f, g, w in seen[::3]:
        value, grad = objective.value_and_grad(w)
        assert f == pytest.approx(value, rel=1e-9) and g == pytest.approx(abs(grad).max(), abs=1e-11)
    again = minimize(objective, found.w + 1e-3, tol=1e-7, max_iter=500)  # removes the part of w that changes no score
    np.testing.assert_allclose(centred(objective.parameters, again.w), least, atol=1e-2 * max(abs(least).max(), 1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("K", [2, 4])
def test_no_number_of_threads_changes_a_bit_of_a_wide_fit(K, dtype):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 3300)).astype(dtype)
    y = np.arange(200) % K
    fits = []
    for n_threads, blas in ((1, 1), (2, 1), (2, 2), (7, 2)):
        with threadpoolctl.threadpool_limits(blas, "blas"):
            fits.append(LogisticRegression(n_threads=n_threads).fit(X, y))
    assert "space of the samples" in fits[0].convergence_report_
    for model in fits[1:]:
        assert model.coef_.tobytes() == fits[0].coef_.tobytes()
        assert model.loss_curve_.tobytes() == fits[0].loss_curve_.tobytes()


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_paths_and_folds_share_one_factor(kind, K, n_threads, monkeypatch):
    """All fits share one factor, and end where each would end alone."""
    made, create = [], RowsSpace.__init__
    monkeypatch.setattr(RowsSpace, "__init__", lambda space, *of: (made.append(1), create(space, *of))[1])
    (X, y), Cs, tol = wide(kind, np.float64, K), [0.01, 1.0, 100.0], 1e-7
    options = {"tol": tol, "max_iter": 500, "n_threads": n_threads}
    path = logistic_regression_path(X, y, Cs=Cs, **options)
    assert len(made) == 1 and (path.gaps <= 1e-2 * path.objectives).all()
    for C, coef, objective in zip(Cs, path.coefs, path.objectives, strict=True):
        alone = LogisticRegression(C=C, **options).fit(X, y)
        np.testing.assert_allclose(coef, alone.coef_, atol=1e-2 * abs(alone.coef_).max())
        assert objective == pytest.approx(alone.loss_curve_[-1], rel=2e-3)
    made.clear()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of scikit-learn's, about its legacy attributes
        chosen = LogisticRegressionCV(Cs=Cs, cv=3, **options).fit(X, y)
    assert len(made) == 1
    for f, (train, _) in enumerate(StratifiedKFold(3).split(X, y)):
        fold = LogisticRegression(C=100.0, **options).fit(X[train], y[train])
        got = chosen.coefs_paths_[1][f, -1] if K == 2 else np.array([chosen.coefs_paths_[k][f, -1] for k in range(K)])
        np.testing.assert_allclose(
            got[..., :D], fold.coef_.reshape(got[..., :D].shape), atol=2e-2 * abs(fold.coef_).max()
        )


def test_samples_that_span_nothing_are_fitted():
    X = np.zeros((5, 100))
    assert is_wide(*X.shape, 3) and SoftmaxObjective(X, [0, 1, 2, 0, 1]).in_rows_space() is None
    model = LogisticRegression().fit(X, [0, 1, 2, 0, 1])
    np.testing.assert_allclose(model.predict_proba(X)[0], [0.4, 0.4, 0.2], atol=1e-3)


def test_equal_penalty_weights_are_fitted_in_all_features():
    X, y = wide()
    model, plain = (LogisticRegression(penalty_weights=v, tol=1e-8).fit(X, y) for v in (np.ones(D), None))
    np.testing.assert_allclose(model.coef_, plain.coef_, atol=1e-6)


@pytest.mark.parametrize(("N", "D", "K", "expected"), [
    (128, 512, 3, True), (128, 511, 3, False), (128, 512, 2, False), (128, 1024, 2, True), (129, 1031, 9, False),
    (129, 1032, 9, True), (512, 4096, 2, True), (513, 9000, 3, False), (1, 4, 3, True),
])  # fmt: skip
def test_few_samples_need_fewer_features_for_each(N, D, K, expected):
    assert is_wide(N, D, K) is expected
    rng = np.random.default_rng(0)
    y = np.arange(N) % K
    objective = (BinomialObjective if K == 2 else SoftmaxObjective)(rng.standard_normal((N, D)), y, l2=1, K=K)
    assert (objective.in_rows_space() is not None) is expected
    assert ("in the space of the" in explain_plan(N, D, K)) is expected


@pytest.mark.parametrize("tol", [1e-2, 1e-4, 1e-9])
@pytest.mark.parametrize("C", [1e-2, 1.0, 1e4])
@pytest.mark.parametrize("options", [{}, {"fit_intercept": False}, {"weighted": True}])
@pytest.mark.parametrize("K", [2, 5])
def test_a_kernel_takes_the_iterations_of_python_in_the_space_of_the_samples(K, options, C, tol, isa, monkeypatch):
    X, y = wide("dense", np.float64, K)
    s = np.random.default_rng(3).uniform(0, 2, N) if options.get("weighted") else None
    kind = BinomialObjective if K == 2 else SoftmaxObjective
    objective = kind(X, y, l2=1 / (C * N), sample_weight=s, fit_intercept=options.get("fit_intercept", True))
    found = []
    for by_kernel in (True, False):
        if not by_kernel:
            monkeypatch.setattr(Stretch, "serves", staticmethod(lambda run: False))
        found.append(minimize(objective, np.zeros(objective.size), tol=tol, max_iter=60))
    for name, a, b in zip(found[0]._fields, *found, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)
    assert found[0].n_iter and "in the space of the samples" in found[0].report


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("N", "D"), [(1, 1), (2, 33), (9, 300), (40, 1027), (65, 9001)])
def test_samples_of_any_rank_keep_their_products(N, D, dtype, isa):
    """Sizes divide nothing, in several slices; every third sample depends on the others."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D)).astype(dtype)
    X[2::3] = -2 * X[1::3][: len(X[2::3])]
    X[-1] = 0 if N > 2 else X[-1]
    space = spanned(X, Parameters(4, D, True, False), 2).run()
    rank, whole = np.linalg.matrix_rank(X.astype(np.float64)), X.astype(np.float64)
    assert space.Z.shape == (N, rank) and len(space.kept) == rank
    gram = whole @ whole.T
    np.testing.assert_allclose(space.Z @ space.Z.T, gram, atol=1e-12 * gram.max())
    V = rng.standard_normal((4, rank))
    v = space.narrow.join(V, np.arange(4.0))
    for w, u in zip(space.lift(v, -2 * v), (v, -2 * v), strict=True):
        W = space.wide.weights(w)
        np.testing.assert_allclose(W @ whole.T, space.narrow.weights(u) @ space.Z.T, atol=1e-9 * gram.max())
        np.testing.assert_allclose(W @ W.T, space.narrow.weights(u) @ space.narrow.weights(u).T, atol=1e-9)
        np.testing.assert_allclose(space.lower(w), u, atol=1e-9 * gram.max())


def test_many_features_are_taken_in_several_goes(monkeypatch):
    """Python looks for Ctrl-C between them."""
    X = np.random.default_rng(0).standard_normal((40, 5000))
    of = Parameters(3, 5000, True, False)
    Z = spanned(X, of, 2).run().Z
    monkeypatch.setattr(rows_space, "AT_ONCE", 1)
    np.testing.assert_allclose(spanned(X, of, 2).run().Z, Z, atol=1e-10)
