"""`standardize=True`: the model of a StandardScaler and a fit after it, with coefficients for X as given."""

import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from softmax_ext._fit.scaling import Scaling, StandardisedObjective
from softmax_ext._inputs.csr import check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext._inputs.rows import Rows
from softmax_ext._objective.binomial import objective_of
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.penalty import Penalty
from softmax_ext.chunks import from_iterable
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path


def problem(N=203, D=9, K=3, dtype=np.float64):
    """Features of many scales, some far from 0, one nearly always 0, and two that are constant."""
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D)) * 10.0 ** rng.integers(-3, 4, D) + rng.integers(-5, 6, D)
    X[:, 1] = rng.standard_normal(N) + 300
    X[:, 2] *= rng.random(N) < 0.1
    X[:, 3], X[:, 4] = 0.1, 0
    Z = StandardScaler().fit_transform(X) @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))
    return X.astype(dtype), Z.argmax(axis=1), rng.integers(0, 3, N).astype(float)


def in_storage(X, storage):
    if storage == "csr":
        return scipy.sparse.csr_array(X)
    return np.asfortranarray(X) if storage == "Fortran order" else X


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("storage", ["C order", "Fortran order", "csr"])
@pytest.mark.parametrize("N", [1, 2, 203, 30011])
def test_moments_are_those_of_the_standard_scaler(storage, weighted, N):
    X, _, s = problem(N)
    s = s + (N < 3) if weighted else None
    stored = in_storage(X, storage)
    found = Scaling.of(check_csr(stored, "X", COMPUTES_IN) if storage == "csr" else stored, s)
    want = StandardScaler().fit(X, sample_weight=s)
    np.testing.assert_allclose(found.mean, want.mean_, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.scale, want.scale_, rtol=1e-9)
    np.testing.assert_array_equal(found.inverse[[3, 4]], 0)


def test_the_entries_of_a_feature_add_up_in_the_moments():
    rows = scipy.sparse.csr_array(([1.0, 2.0, 5.0], [0, 0, 0], [0, 2, 3]), shape=(2, 1))
    found = Scaling.of(rows)
    assert (found.mean, found.scale) == (4, 1) and rows.nnz == 3


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("storage", ["C order", "csr"])
def test_an_objective_is_that_of_scaled_samples(storage, K, intercept):
    X, y, s = problem(K=K)
    parameters, penalty = Parameters.of_model(K, X.shape[1], intercept), Penalty(0.03)
    scaling = Scaling.of(X, s)
    raw = objective_of(Rows.of(in_storage(X, storage), y, s), Parameters.of_model(K, X.shape[1], True), Penalty())
    ours = StandardisedObjective(raw, penalty, scaling, intercept=intercept)
    scaled = (X - scaling.mean) * scaling.inverse
    theirs = objective_of(Rows.of(scaled, y, s), parameters, penalty)
    v, u = np.random.default_rng(0).standard_normal((2, parameters.size))
    close = {"rtol": 1e-8, "atol": 1e-9}
    assert ours.value(v) == pytest.approx(theirs.value(v), rel=1e-10)
    for one, other in zip(ours.value_and_grad(v), theirs.value_and_grad(v), strict=True):
        np.testing.assert_allclose(one, other, **close)
    np.testing.assert_allclose(ours.hessp(v, u), theirs.hessp(v, u), **close)
    np.testing.assert_allclose(ours.hessian(v), theirs.hessian(v), **close)
    at = scaling.standardised(parameters, ours.raw(v))
    weights = parameters.weights(v) * (scaling.inverse > 0)
    np.testing.assert_allclose(parameters.weights(at), weights, **close)
    if intercept:
        np.testing.assert_allclose(parameters.intercepts(at), parameters.intercepts(v), **close)
    # How much a feature is damped follows its mean square, which without weights would be 1 in both.
    theirs.mean_squares = np.append(scaling.inverse > 0, np.ones(int(intercept))).astype(float)
    np.testing.assert_allclose(ours.preconditioner(v)(u), theirs.preconditioner(v)(u), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("storage", ["C order", "csr"])
def test_a_fit_is_that_of_a_pipeline(storage, K, intercept, weighted):
    X, y, s = problem(K=K)
    model = LogisticRegression(C=0.7, tol=1e-9, fit_intercept=intercept, class_weight={0: 2.0, 1: 1.0, 2: 0.5})
    if K == 2:
        model.set_params(class_weight={0: 2.0, 1: 1.0})
    weights = {"sample_weight": s} if weighted else {}
    scaler = StandardScaler().fit(X, **weights)
    want = clone(model).fit(scaler.transform(X), y, **weights)
    found = clone(model).set_params(standardize=True).fit(in_storage(X, storage), y, **weights)
    np.testing.assert_allclose(found.coef_ * scaler.scale_, want.coef_, atol=1e-7)
    np.testing.assert_array_equal(found.coef_[:, [3, 4]], 0)
    np.testing.assert_allclose(found.predict_proba(X), want.predict_proba(scaler.transform(X)), atol=1e-7)
    np.testing.assert_allclose(found.mean_, scaler.mean_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.scale_, scaler.scale_, rtol=1e-9)
    assert found.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=1e-9) and found.converged_


@pytest.mark.pairs(3)
@pytest.mark.parametrize("few", [0, 1000], ids=["support", "whole"])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize("storage", ["C order", "csr"])
@pytest.mark.parametrize("kind", ["l1", "elastic net", "grouped", "weights", "weights of L2"])
def test_a_fit_with_l1_is_that_of_a_pipeline(kind, storage, K, intercept, few, monkeypatch):
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    X, y, s = problem(K=K)
    model = LogisticRegression(
        C=0.1,
        l1_ratio={"elastic net": 0.5, "weights of L2": 0.0}.get(kind, 1.0),
        solver="lbfgs" if kind == "weights of L2" else "saga",
        grouped=kind == "grouped",
        penalty_weights=np.linspace(0.5, 2, X.shape[1]) if "weights" in kind else None,
        tol=1e-6,
        max_iter=500,
        fit_intercept=intercept,
    )
    scaler = StandardScaler().fit(X, sample_weight=s)
    want = clone(model).fit(scaler.transform(X), y, s)
    found = clone(model).set_params(standardize=True).fit(in_storage(X, storage), y, s)
    assert found.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=2e-7)
    np.testing.assert_allclose(found.predict_proba(X), want.predict_proba(scaler.transform(X)), atol=2e-3)
    np.testing.assert_array_equal(found.coef_[:, [3, 4]], 0)
    if kind != "weights of L2":
        assert found.converged_ and found.gap_ <= 1.001e-7
        assert 0 < np.count_nonzero(found.coef_) < found.coef_.size
    if K == 2 or kind != "l1":  # of four classes other coefficients may cost the same
        np.testing.assert_allclose(found.coef_ * scaler.scale_, want.coef_, atol=1e-2)


@pytest.mark.parametrize("few", [0, 1000], ids=["support", "whole"])
def test_chunks_with_l1_are_as_in_memory(few, monkeypatch):
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    X, y, s = problem(K=4)
    model = LogisticRegression(C=0.1, l1_ratio=1.0, solver="saga", standardize=True, tol=1e-5, max_iter=500)
    want = clone(model).fit(X, y, s)
    found = model.fit(from_iterable(lambda: ((X[i : i + 60], y[i : i + 60], s[i : i + 60]) for i in range(0, 203, 60))))
    assert found.converged_ and found.loss_curve_[-1] == pytest.approx(want.loss_curve_[-1], rel=2e-6)
    np.testing.assert_array_equal(found.coef_ == 0, want.coef_ == 0)


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.uint8])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_many_features_of_narrow_types_are_fitted_as_in_a_pipeline(kind, solver):
    """With too many parameters for the whole Hessian, the preconditioner's blocks are those of the scaled rows."""
    rng = np.random.default_rng(0)
    X = rng.integers(0, 9, (600, 60)) * rng.integers(0, 12, 60)
    X = X.astype(kind)
    y = (X.astype(float) @ rng.standard_normal((60, 4)) + 30 * rng.gumbel(size=(600, 4))).argmax(axis=1)
    options = {"solver": solver, "tol": 1e-5, "C": 0.1}
    want = make_pipeline(StandardScaler(), LogisticRegression(**options)).fit(X.astype(float), y)
    found = LogisticRegression(standardize=True, **options).fit(X, y)
    assert found.coef_.dtype == np.float32 and found.converged_
    assert found.loss_curve_[-1] == pytest.approx(want[-1].loss_curve_[-1], rel=1e-5)
    assert found.n_iter_[0] <= want[-1].n_iter_[0] + 5
    np.testing.assert_allclose(found.predict_proba(X), want.predict_proba(X.astype(float)), atol=2e-3)


def test_a_warm_start_goes_on_and_callbacks_see_raw_coefficients():
    X, y, _ = problem()
    seen = []
    model = LogisticRegression(standardize=True, warm_start=True, tol=1e-6, callback=lambda i, f, g, w: seen.append(w))
    first = model.fit(X, y).coef_
    np.testing.assert_allclose(seen[-1][: first.size].reshape(first.shape), first, rtol=1e-6, atol=1e-9)
    assert model.n_iter_[0] > 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert model.fit(X, y).n_iter_[0] <= 1


def test_no_number_of_threads_changes_a_bit_of_a_standardised_fit():
    X, y, _ = problem(30011)
    one, two = (LogisticRegression(standardize=True, n_threads=n).fit(X, y) for n in (1, 2))
    assert one.coef_.tobytes() == two.coef_.tobytes() and one.scale_.tobytes() == two.scale_.tobytes()


def test_what_is_not_finite_is_refused():
    X, y, _ = problem()
    X[7, 0] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        LogisticRegression(standardize=True).fit(X, y)


@pytest.mark.pairs
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l1_ratio", [0, 0.5])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("storage", ["C order", "csr"])
def test_cross_validation_is_that_of_a_pipeline(storage, K, intercept, l1_ratio, weighted):
    X, y, s = problem(K=K)
    weights = {"sample_weight": s + 1} if weighted else {}
    options = {"Cs": [1e-3, 1e-1, 10.0], "cv": 3, "l1_ratios": (l1_ratio,), "scoring": "neg_log_loss"}
    model = LogisticRegressionCV(
        **options,
        solver="saga" if l1_ratio else "lbfgs",
        tol=1e-7 if l1_ratio else 1e-9,
        max_iter=500,
        fit_intercept=intercept,
        use_legacy_attributes=False,
    )
    scaler = StandardScaler().fit(X, **weights)
    want = clone(model).fit(scaler.transform(X), y, **weights)
    found = clone(model).set_params(standardize=True).fit(in_storage(X, storage), y, **weights)
    np.testing.assert_allclose(found.scores_, want.scores_, rtol=1e-4 if l1_ratio else 1e-6)
    assert found.C_ == want.C_ and found.converged_
    close = 1e-4 if l1_ratio else 1e-6
    np.testing.assert_allclose(found.coef_ * scaler.scale_, want.coef_, atol=close)
    np.testing.assert_allclose(found.predict_proba(X), want.predict_proba(scaler.transform(X)), atol=close)
    np.testing.assert_allclose(found.mean_, scaler.mean_, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.scale_, scaler.scale_, rtol=1e-9)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5])
@pytest.mark.parametrize("storage", ["C order", "csr"])
def test_a_path_is_that_of_scaled_samples(storage, l1_ratio, K, intercept):
    X, y, s = problem(K=K)
    options = {"Cs": 7, "tol": 1e-7, "max_iter": 500, "fit_intercept": intercept, "sample_weight": s}
    options["l1_ratio"] = l1_ratio
    scaler = StandardScaler().fit(X, sample_weight=s)
    found = logistic_regression_path(in_storage(X, storage), y, standardize=True, **options)
    want = logistic_regression_path(scaler.transform(X), y, **{**options, "Cs": found.Cs})
    np.testing.assert_allclose(found.coefs * scaler.scale_, want.coefs, atol=1e-4)
    np.testing.assert_allclose(found.objectives, want.objectives, rtol=1e-7)
    assert (found.gaps < 1e-6).all()
    Z = X @ found.coefs.transpose(0, 2, 1) + found.intercepts[:, np.newaxis]
    scaled = scaler.transform(X) @ want.coefs.transpose(0, 2, 1) + want.intercepts[:, np.newaxis]
    if K > 2:  # intercepts sum to 0 over the classes, which moves all scores of a sample alike
        Z, scaled = (each - each.mean(axis=2, keepdims=True) for each in (Z, scaled))
    np.testing.assert_allclose(Z, scaled, atol=1e-3)


def test_standardize_is_refused_where_it_cannot_be():
    X, y, _ = problem()
    model = LogisticRegression(standardize=True)
    batches, chunks = clone(model).set_params(solver="adam"), from_iterable(lambda: [(X, y)])
    calls = [
        lambda: model.partial_fit(X, y, classes=[0, 1, 2]),
        lambda: batches.fit(X, y),
        lambda: batches.fit(chunks),
        lambda: model.inference(X, y),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="standardize=True"):
            call()
