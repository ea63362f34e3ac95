"""Fits with L1 among some features of many: they end where a fit among all of them does."""

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, optim, reference
from softmax_ext._objective.penalty import Penalty
from softmax_ext._optim import proximal, working_set
from softmax_ext._optim.working_set import WorkingSet, chosen
from softmax_ext.linear_model import LogisticRegression, logistic_regression_path
from softmax_ext.objective import BinomialObjective


def text(K, storage="csr", N=157, D=431, dtype=np.float64):
    """Documents of a few words each, a few of which tell the class."""
    rng = np.random.default_rng([K, D])
    y = np.append(rng.integers(0, K, N - K), np.arange(K))
    X = (rng.random((N, D)) < 20 / D) * rng.integers(1, 4, (N, D))
    X[np.arange(N), y] += 3 * (rng.random(N) < 0.7)
    X = X.astype(dtype)
    return scipy.sparse.csr_array(X) if storage == "csr" else X, y, rng.integers(0, 3, N) + 0.5


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("storage", ["csr", "dense", "float32", "uint8"])
@pytest.mark.parametrize("K", [2, 3])
def test_an_objective_of_some_features_is_that_of_all_where_others_weigh_nothing(K, storage, intercept):
    X, y, s = text(K, storage, dtype=storage if "t" in storage else np.float64)
    penalty = Penalty(0.1, 0.1, weights=np.linspace(0, 2, X.shape[1]))
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    whole = Objective(X, y, penalty=penalty, sample_weight=s, fit_intercept=intercept)
    assert whole.mean_squares.shape == (X.shape[1] + intercept,)
    some = WorkingSet(whole, np.arange(3, X.shape[1], 7))
    v = 0.1 * np.random.default_rng(0).standard_normal(some.part.size)
    w = some.lift(v)
    np.testing.assert_array_equal(some.lower(w), v)
    assert np.count_nonzero(w) == len(v)
    (value, grad), (part, of_part) = whole.value_and_grad(w), some.part.value_and_grad(v)
    close = 1e-5 if whole.dtype == np.float32 else 1e-12
    assert part == pytest.approx(value, rel=close)
    np.testing.assert_allclose(of_part, some.lower(grad), atol=close)
    assert some.part.mean_squares.shape == (some.part.D + intercept,)


@pytest.mark.parametrize("kind", ["l1", "elastic net", "grouped", "weights", "free"])
@pytest.mark.parametrize("storage", ["csr", "dense"])
@pytest.mark.parametrize("K", [2, 4])
def test_a_fit_ends_where_one_among_all_features_does(K, storage, kind, monkeypatch):
    monkeypatch.setattr(working_set, "LEAST", 10)
    X, y, s = text(K, storage)
    D = X.shape[1]
    weights = {"weights": np.linspace(0.5, 2, D), "free": (np.arange(D) > 1) + 0.0}.get(kind)
    penalty = Penalty(0.01 * (kind == "elastic net"), 0.008, grouped=kind == "grouped", weights=weights)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    objective = Objective(X, y, penalty=penalty, sample_weight=s)
    want = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=1000)
    assert "working sets" not in want.report
    monkeypatch.setattr(working_set, "WIDE", 100)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=1000)
    assert "working sets" in found.report and found.n_iter > 1
    assert found.converged and want.converged, found.report
    assert found.value == pytest.approx(want.value, rel=2e-7) and found.largest_gradient <= 1e-6
    assert found.value == pytest.approx(objective.value(found.w), rel=1e-12)
    assert np.isnan(found.gap) if kind == "free" else found.gap <= 1e-7 * found.value
    W = objective.parameters.weights(found.w)
    assert 10 < np.count_nonzero(W.any(axis=0)) < D / 2
    again = optim.proximal(objective, found.w, tol=1e-6)
    assert again.n_iter == 0 and again.converged


def test_features_beyond_their_threshold_come_in():
    dW = np.array([[0.5, -0.9, 0.2, 0.0, 0.7], [0.1, 0.1, -0.2, 0.3, 0.1]])
    W = np.zeros((2, 5))
    penalty = Penalty(l1=0.4)
    assert chosen(penalty, W, dW, None).tolist() == [0, 1, 4]
    W[0, 3] = 1
    assert chosen(penalty, W, dW, None).tolist() == [0, 1, 3, 4]
    assert chosen(Penalty(l1=0.4, weights=[1, 1, 0, 1, 1]), W, dW, None).tolist() == [0, 1, 2, 3, 4]
    assert chosen(Penalty(l1=0.6), W, dW, Penalty(l1=0.7)).tolist() == [0, 1, 3, 4]  # 0.5 = 2 * 0.6 - 0.7
    assert chosen(Penalty(l1=0.6), W, dW, Penalty(l1=0.65)).tolist() == [1, 3, 4]
    wide = np.zeros((1, 1000)), np.linspace(0, 1, 1000)[None]
    assert chosen(Penalty(l1=0.1), *wide, None).tolist() == list(range(900, 1000))
    assert chosen(Penalty(l1=0.1), *wide, Penalty(l1=0.11)).tolist() == list(range(900, 1000))
    assert chosen(Penalty(l1=0.99), *wide, Penalty(l1=1.0)).tolist() == list(range(980, 1000))


@pytest.mark.parametrize("storage", ["csr", "dense"])
def test_paths_and_estimators_go_among_some_features(storage, monkeypatch):
    X, y, s = text(4, storage)
    options = {"Cs": 12, "l1_ratio": 1.0, "tol": 1e-5, "sample_weight": s}
    want = logistic_regression_path(X, y, **options)
    monkeypatch.setattr(working_set, "WIDE", 100)
    found = logistic_regression_path(X, y, **options)
    np.testing.assert_allclose(found.objectives, want.objectives, rtol=2e-6)
    assert (found.gaps <= 1.001e-6 * np.maximum(found.objectives, 1e-5)).all()
    assert found.n_iters.max() < want.n_iters.max()
    penalty = {"C": found.Cs[6], "l1_ratio": 1.0, "solver": "saga", "tol": 1e-5}
    for standardize in (False, True):
        model = LogisticRegression(**penalty, standardize=standardize)
        seen = []
        model.set_params(callback=lambda i, f, g, w, seen=seen: seen.append(w.copy())).fit(X, y, s)
        assert model.converged_ and "working sets" in model.convergence_report_
        assert len(seen) == model.n_iter_[0]
        if not standardize:
            assert model.loss_curve_[-1] == pytest.approx(found.objectives[6], rel=2e-6)
        np.testing.assert_allclose(seen[-1][: model.coef_.size].reshape(model.coef_.shape), model.coef_, atol=1e-12)


def test_iterations_among_features_count_towards_max_iter(monkeypatch):
    X, y, s = text(4)
    monkeypatch.setattr(working_set, "WIDE", 100)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.005), sample_weight=s)
    found = optim.proximal(objective, np.zeros(objective.size), max_iter=3)
    assert not found.converged and "max_iter = 3 iterations" in found.report
    assert found.value < found.curve[0]
    whole = optim.proximal(objective, np.zeros(objective.size), max_iter=1000)
    among = int(whole.report.partition("working sets of the features: ")[2].split()[1])
    assert whole.converged and whole.n_iter > 1
    found = optim.proximal(objective, np.zeros(objective.size), max_iter=among - 1)  # in a later set than the first
    assert f"max_iter = {among - 1} iterations" in found.report


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_bit_of_a_working_set_depends_on_threads(dtype, monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    X, y, s = text(5, N=1203, dtype=dtype)
    ends = []
    for n_threads in (1, 2, 3):
        objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.004), sample_weight=s, n_threads=n_threads)
        ends.append(optim.proximal(objective, np.zeros(objective.size)).w.tobytes())
    assert len(set(ends)) == 1


def test_a_working_set_of_float32_ends_by_rounding_at_most(monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    X, y, _ = text(4, dtype=np.float32)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.01))
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-10, max_iter=500)
    assert not found.converged and "rounding" in found.report and found.violation < 1e-4
    assert reference.lasso_violations(
        *map(objective.parameters.weights, (found.w, objective.value_and_grad(found.w)[1])), 0.01, np.ones(X.shape[1])
    ).max() == pytest.approx(found.violation, abs=1e-6)


@pytest.mark.parametrize("storage", ["csr", "dense"])
@pytest.mark.parametrize("K", [2, 3])
def test_a_penalty_that_no_feature_passes_leaves_the_intercepts(K, storage, monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    X, y, s = text(K, storage)
    model = LogisticRegression(C=1e-4, l1_ratio=0.5, solver="saga", tol=1e-6).fit(X, y, s)
    shares = np.bincount(y, s) / s.sum()
    assert model.converged_ and not model.coef_.any()
    np.testing.assert_allclose(model.predict_proba(X[:1])[0], shares, atol=1e-5)


def weak(K, storage="csr", kind="l1"):
    """Return an objective with a penalty that is far below the largest useful one, and the number of samples."""
    X, y, s = text(K, storage)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    weights = np.linspace(0.5, 2, X.shape[1]) if kind == "weights" else None
    if kind == "free":
        weights = (np.arange(X.shape[1]) > 1) + 0.0
    penalty = Penalty(1e-4 * (kind == "elastic net"), 5e-4, grouped=kind == "grouped", weights=weights)
    return Objective(X, y, penalty=penalty, sample_weight=s)


@pytest.mark.parametrize("kind", ["l1", "elastic net", "grouped", "weights", "free"])
@pytest.mark.parametrize("storage", ["csr", "dense"])
@pytest.mark.parametrize("K", [2, 4])
def test_a_weak_penalty_is_come_to_from_stronger_ones(K, storage, kind, monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    objective, seen = weak(K, storage, kind), []
    found = optim.proximal(
        objective, np.zeros(objective.size), tol=1e-6, max_iter=1000, callback=lambda *told, w: seen.append((*told, w))
    )
    assert found.converged and "extra penalties" in found.report, found.report
    monkeypatch.setattr(proximal, "EASE_FROM", np.inf)
    cold = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=1000)
    assert cold.converged and "extra penalties" not in cold.report
    assert found.value == pytest.approx(cold.value, rel=1e-6)
    assert len(seen) == found.n_iter and [each[0] for each in seen] == list(range(1, found.n_iter + 1))
    for (_, value, violation, w), kept in zip(seen, found.curve[1:], strict=True):  # of the problem that was asked for
        exact, grad = objective.value_and_grad(w)
        views = objective.parameters.views
        largest = objective.penalty.violations(views(w)[0], views(grad)[0]).max()
        assert value == kept == pytest.approx(exact, rel=1e-12)
        assert violation == pytest.approx(max(largest, np.abs(views(grad)[1]).max()), rel=1e-6, abs=1e-12)
    assert found.value == found.curve[-1] and (np.diff(found.curve) <= 0).all()


def test_a_fit_that_begins_elsewhere_or_near_its_penalty_does_not_ease(monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    objective = weak(4)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=1000)
    again = optim.proximal(objective, np.where(found.w, 0.9 * found.w, 0), tol=1e-6, max_iter=1000)
    assert again.converged and "extra penalties" not in again.report
    objective.penalty = Penalty(l1=0.03)
    assert "extra penalties" not in optim.proximal(objective, np.zeros(objective.size)).report


@pytest.mark.parametrize("stop", ["callback", "max_iter", "none"])
def test_a_fit_that_ends_while_it_eases_tells_of_what_was_asked(stop, monkeypatch):
    monkeypatch.setattr(working_set, "WIDE", 100)
    objective, most = weak(4), {"callback": 100, "max_iter": 4, "none": 0}[stop]
    found = optim.proximal(
        objective, np.zeros(objective.size), max_iter=most, callback=lambda *_: stop == "callback" or None
    )
    assert not found.converged
    assert ("the callback" if stop == "callback" else f"max_iter = {most} iterations") in found.report
    assert found.n_iter == {"callback": 1, "max_iter": 3, "none": 0}[stop]
    assert found.value == pytest.approx(objective.value(found.w), rel=1e-12)
