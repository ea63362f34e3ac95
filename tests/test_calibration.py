"""Scalings of scores: their minima, what they are asked for, and measures of calibration."""

import doctest

import numpy as np
import pytest
import scipy.optimize
import scipy.special

pytest.importorskip("sklearn", reason="needs scikit-learn")
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import log_loss
from sklearn.model_selection import cross_val_predict
from sklearn.utils.estimator_checks import parametrize_with_checks

from softmax_ext import calibration, reference
from softmax_ext._core import scaled
from softmax_ext._inputs.rows import Rows
from softmax_ext.calibration import (
    MatrixScaling,
    TemperatureScaling,
    VectorScaling,
    _measures,
    _objectives,
    _scaling,
    expected_calibration_error,
    reliability_display,
)
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import SoftmaxObjective

SCALINGS = TemperatureScaling, VectorScaling, MatrixScaling


def scores_of(N, K, dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    Z = 2 * rng.standard_normal((N, K))
    y = (Z @ (np.eye(K) + 0.1 * rng.standard_normal((K, K))) + np.linspace(-1, 1, K) + rng.gumbel(size=Z.shape)).argmax(
        1
    )
    y[:K] = np.arange(K)
    return (2.5 * Z).astype(dtype), y


SHAPES = [(1, 2), (5, 1), (61, 3), (300, 17), (40, 128), (37, 129), (9, 5003), (9000, 10)]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("N, K", SHAPES)
def test_the_kernels_compute_what_the_reference_does(N, K, dtype, apart, weighted, isa):
    """They do so for every third row of an array as well, with the same bits for every number of threads."""
    rng = np.random.default_rng(N + K)
    Z = (9 * rng.standard_normal((3 * N, K))).astype(dtype)
    Z = Z[::3] if apart else Z[:N]
    y, s = rng.integers(0, K, N), rng.random(N) if weighted else None
    a, b = rng.random((2, K)).astype(dtype).astype("f8")
    wide, eps = Z.astype("f8"), 20 * np.finfo(dtype).eps
    for beta in (1e-3, 0.25, 1.0, 30.0):
        found = scaled.by_one(Z, y, s, beta, None)
        wanted = reference.scaled_by_one(wide, y, s, float(Z.dtype.type(beta)))
        assert found == scaled.by_one(Z, y, s, beta, 2) == scaled.by_one(Z, y, s, beta, 3)
        # Some hundreds of rounding errors of what is summed: a difference of scores, its square, beta times it.
        np.testing.assert_allclose(found[:2], wanted[:2], rtol=eps, atol=eps * max(1, beta) * 40)
        np.testing.assert_allclose(found.curvature, wanted[2], atol=eps * 1600)
    found, wanted = scaled.by_class(Z, y, s, a, b, None), reference.scaled_by_class(wide, y, s, a, b)
    for each, other, same in zip(found, wanted, scaled.by_class(Z, y, s, a, b, 3), strict=True):
        np.testing.assert_allclose(each, other, rtol=eps, atol=eps * 40)
        np.testing.assert_array_equal(each, same)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("K", [2, 200])
def test_rows_that_are_nearly_certain_keep_their_digits(K, dtype, isa):
    """If the other scores are 40 below, loss, slope and curvature are about K e^-40."""
    Z = np.full((6, K), -40, dtype)
    Z[:, 1] = 0
    others = (K - 1) * np.exp(-40.0)
    found = scaled.by_one(Z, np.ones(6, int), None, 1.0, None)
    np.testing.assert_allclose(found, [others, -40 * others, 1600 * others], rtol=1e-5 if dtype == "f4" else 1e-13)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("K", [3, 200])
def test_scores_at_both_ends_of_the_type_leave_no_nan(K, dtype):
    """Their difference is beyond the type, but the posterior is certain."""
    Z = np.zeros((5, K), dtype)
    Z[:, 0], Z[:, 1] = np.finfo(dtype).max, np.finfo(dtype).min
    assert scaled.by_one(Z, np.zeros(5, int), None, 1.0, None) == (0, 0, 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_objectives_have_the_derivatives_of_their_values(weighted):
    K = 5
    Z, y = scores_of(61, K)
    rows = Rows.of(Z, y, np.random.default_rng(1).random(61) if weighted else None)
    full = _objectives.Full(rows, K, off_diagonal=0.3, intercept=0.2, n_threads=None)
    for objective, size in ((_objectives.Factors(rows, n_threads=None), 2 * K), (full, K * K + K)):
        w, v = np.random.default_rng(size).random((2, size)) / 2
        value, grad = objective.value_and_grad(w)
        (up, up_grad), (down, down_grad) = (objective.value_and_grad(w + step * v) for step in (1e-5, -1e-5))
        assert np.isfinite(value) and grad @ v == pytest.approx((up - down) / 2e-5, abs=1e-8)
        if objective is full:
            np.testing.assert_allclose(full.hessp(w, v), (up_grad - down_grad) / 2e-5, atol=1e-7)
            np.testing.assert_allclose(full.hessian(w) @ v, full.hessp(w, v), rtol=1e-9, atol=1e-13)
            continue
        invert = objective.preconditioner(w)  # of each class's own second derivatives
        for k in range(K):
            own = [[(objective_at(rows, w, k, i, j)) for j in (k, K + k)] for i in (k, K + k)]
            unit = np.zeros(size)
            unit[k] = 1
            np.testing.assert_allclose(invert(unit)[[k, K + k]], np.linalg.inv(own)[0], rtol=1e-2)


def objective_at(rows, w, k, i, j):
    """Return the second derivative by parameters i and j, both of class k."""
    grads = []
    for step in (1e-5, -1e-5):
        moved = w.copy()
        moved[j] += step
        _, da, db = reference.scaled_by_class(rows.X, rows.targets, rows.s, *np.split(moved, 2))
        grads.append(np.concatenate([da, db])[i])
    return (grads[0] - grads[1]) / 2e-5


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("N, K", [(300, 2), (900, 3), (400, 70), (3000, 70), (50_000, 3)])
def test_each_scaling_ends_at_its_minimum(N, K, weighted, dtype):
    """Nothing that scipy.optimize does in float64 makes the loss smaller."""
    Z, y = scores_of(N, K, dtype)
    s = np.random.default_rng(2).random(N) if weighted else None
    wide = Z.astype("f8")
    share = np.full(N, 1 / N) if s is None else s / s.sum()

    def loss(scaled):
        return -share @ scipy.special.log_softmax(scaled, axis=1)[np.arange(N), y]

    def gradient(scaled):
        R = scipy.special.softmax(scaled, axis=1)
        R[np.arange(N), y] -= 1
        return share[:, None] * R

    model = TemperatureScaling().fit(Z, y, s)
    best = scipy.optimize.minimize_scalar(lambda beta: loss(beta * wide), (0.1, 1))
    far = 1e-10 if dtype == "f8" else 1e-6
    assert loss(wide / model.temperature_) <= best.fun + far and model.loss_ == pytest.approx(best.fun, abs=far * 10)
    model = VectorScaling().fit(Z, y, s)
    end = gradient(wide * model.scale_ + model.intercept_)
    assert max(abs((end * wide).sum(axis=0)).max(), abs(end.sum(axis=0)).max()) < (2e-6 if dtype == "f8" else 2e-4)
    if K < 50:
        model = MatrixScaling(off_diagonal=0.1, intercept=0.2).fit(Z, y, s)
        end = gradient(wide @ model.coef_.T + model.intercept_)
        off = model.coef_ - np.diag(np.diag(model.coef_))
        end_W = end.T @ wide + 2 * 0.1 / (K * (K - 1)) * off
        end_b = end.sum(axis=0) + 2 * 0.2 / K * model.intercept_
        assert max(abs(end_W).max(), abs(end_b).max()) < (2e-6 if dtype == "f8" else 2e-4)


def test_a_fit_that_begins_with_some_rows_ends_where_one_of_all_does(monkeypatch):
    Z, y = scores_of(3000, 4)
    s = np.random.default_rng(3).random(3000)
    plain = [kind(tol=1e-9).fit(Z, y, s) for kind in SCALINGS]
    monkeypatch.setattr(_objectives, "SOME", 500)
    asked, lowest, lbfgs = [], _objectives.lowest, _objectives.lbfgs

    def begun(kind, how):
        if how["tol"] == 1e-3:
            asked.append(kind)

    monkeypatch.setattr(_scaling, "Guided", lambda *both: asked.append(MatrixScaling) or _objectives.Guided(*both))
    monkeypatch.setattr(
        _objectives, "lowest", lambda *given, **how: begun(TemperatureScaling, how) or lowest(*given, **how)
    )
    monkeypatch.setattr(_objectives, "lbfgs", lambda *given, **how: begun(VectorScaling, how) or lbfgs(*given, **how))
    monkeypatch.setattr(_scaling, "SOME", 500)
    for kind, found in zip(SCALINGS, plain, strict=True):
        asked.clear()
        guided = kind(tol=1e-9).fit(Z, y, s)
        assert kind in asked and guided.loss_ == pytest.approx(found.loss_, rel=1e-13)
        np.testing.assert_allclose(guided.predict_proba(Z), found.predict_proba(Z), atol=1e-6)
    y[y == 2] = 1
    y[5] = 2  # a class that some rows have not
    for kind in (VectorScaling, MatrixScaling):
        asked.clear()
        kind().fit(Z, y)
        assert kind not in asked


@pytest.mark.parametrize("kind, K, most", [(TemperatureScaling, 10, 4), (TemperatureScaling, 200, 4),
                                            (VectorScaling, 10, 16), (VectorScaling, 200, 20)])  # fmt: skip
def test_a_scaling_takes_few_passes(kind, K, most, monkeypatch):
    """There may be few classes or many, if each has some rows."""
    Z, y = scores_of(20_000, K, "f4")
    passes = []
    for name in ("by_one", "by_class"):
        function = getattr(scaled, name)
        monkeypatch.setattr(_objectives, name, lambda Z, *given, of=function: passes.append(len(Z)) or of(Z, *given))
    model = kind().fit(Z, y)
    assert passes.count(len(Z)) < most and len(passes) < most + 24
    value, *grads = reference.scaled_by_class(
        Z.astype("f8"), y, None, *(np.full((2, K), [[1 / model.temperature_], [0]]) if kind is TemperatureScaling
                                   else (model.scale_, model.intercept_))
    )  # fmt: skip
    assert value == pytest.approx(model.loss_, rel=1e-6)
    assert (abs(grads[0].sum()) if kind is TemperatureScaling else abs(np.array(grads)).max()) < 3e-6


@pytest.mark.parametrize("best", [1e-6, np.exp(-9.5), 1e-3, 0.3, 1.0, 500.0, np.exp(9.9), 1e6])
@pytest.mark.parametrize("power", [1, 2, 4, 0.5])
def test_lowest_finds_the_minimum_of_a_convex_function(best, power):
    """The function is the smoothed distance to a power that makes Newton's steps too long or too short."""

    def at(beta):
        x = (beta - best) / best
        root = np.hypot(x, 0.1)
        if power == 0.5:  # a slope that changes at once
            return scaled.ByOne(root, x / root / best, 0.01 / root**3 / best**2)
        return scaled.ByOne(
            root ** (2 * power) / power, 2 * root ** (2 * power - 2) * x / best,
            (2 * root ** (2 * power - 2) + 4 * (power - 1) * root ** (2 * power - 4) * x * x) / best**2,
        )  # fmt: skip

    found = _objectives.lowest(at, 1.0, tol=1e-9 / best, max_iter=200)
    assert found.converged and found.n_iter < 60 * max(1, power - 1)  # a step takes 1 / (2 power - 1) of the way
    assert found.w[0] == pytest.approx(min(max(best, np.exp(-10)), np.exp(10)), rel=1e-3)


@pytest.mark.parametrize("K, dtype, apart, most", [(30, "f4", 0, 60), (15, "f8", 1, 150), (15, "f8", 4, 250)])
def test_a_matrix_of_many_classes_takes_few_passes(K, dtype, apart, most, monkeypatch):
    """Scores may be far apart. Without a preconditioner those of 100 classes did not end within minutes."""
    Z, y = scores_of(4000, K, dtype)
    Z += np.arange(K, dtype=dtype) * apart * 2.5
    passes = []
    for name in ("value_and_grad", "hessp"):
        function = getattr(SoftmaxObjective, name)
        monkeypatch.setattr(SoftmaxObjective, name, lambda *given, of=function: passes.append(1) or of(*given))
    model = MatrixScaling(off_diagonal=0.1, intercept=0.2).fit(Z, y)
    assert len(passes) < most
    full = _objectives.Full(Rows.of(Z, y), K, off_diagonal=0.1, intercept=0.2, n_threads=None)
    value, grad = full.value_and_grad(np.concatenate([model.coef_.ravel(), model.intercept_]))
    assert value == pytest.approx(model.loss_, rel=1e-6) and abs(grad).max() <= 2e-6


@pytest.mark.parametrize("kind", SCALINGS)
def test_the_number_of_threads_changes_no_bit_of_a_scaling(kind):
    for N, K in ((40_000, 5), (2000, 80)) if kind is not MatrixScaling else ((40_000, 5), (2000, 20)):
        Z, y = scores_of(N, K)
        first, *others = (kind(n_threads=n).fit(Z, y).predict_proba(Z) for n in (1, 2, 3))
        assert all((other == first).all() for other in others)


def test_temperature_is_scikit_learns():
    """Of two classes scikit-learn takes one column of scores for (-z, z)."""
    X, y = load_digits(return_X_y=True)
    model = LogisticRegression(C=100).fit(X[:600], y[:600])
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method="temperature").fit(X[600:], y[600:])
    ours = TemperatureScaling(FrozenEstimator(model)).fit(X[600:], y[600:])
    bare = TemperatureScaling().fit(model.decision_function(X[600:]), y[600:])
    assert 1 / theirs.calibrated_classifiers_[0].calibrators[0].beta_ == pytest.approx(ours.temperature_, rel=1e-4)
    assert bare.temperature_ == ours.temperature_ > 1
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-5)
    assert log_loss(y[600:], ours.predict_proba(X[600:])) <= log_loss(y[600:], theirs.predict_proba(X[600:])) + 1e-9
    np.testing.assert_array_equal(ours.predict(X), model.predict(X))
    two = y < 2
    model = LogisticRegression().fit(X[two][:100], y[two][:100] == 1)
    z = model.decision_function(X[two]) + np.random.default_rng(0).standard_normal(two.sum()) * 9
    from sklearn.calibration import _TemperatureScaling

    theirs = _TemperatureScaling().fit(z, y[two].astype(float))
    assert TemperatureScaling().fit(z, y[two]).temperature_ == pytest.approx(0.5 / theirs.beta_, rel=1e-5)


def test_around_a_classifier_scores_are_of_rows_that_it_has_not_seen():
    X, y = load_digits(return_X_y=True)
    X, y = X[:500], y[:500]
    model = LogisticRegression(C=1000)
    ours = TemperatureScaling(model, cv=3).fit(X, y)
    bare = TemperatureScaling().fit(cross_val_predict(model, X, y, cv=3, method="decision_function"), y)
    assert ours.temperature_ == bare.temperature_ > 2
    np.testing.assert_array_equal(ours.estimator_.coef_, model.fit(X, y).coef_)
    assert not hasattr(TemperatureScaling(model), "estimator_") and ours.n_features_in_ == 64


@pytest.mark.parametrize("kind", SCALINGS)
def test_probabilities_and_single_columns_are_scores_too(kind):
    Z, y = scores_of(500, 3)
    S = scipy.special.softmax(Z, axis=1)
    expected = kind().fit(np.log(S), y)
    np.testing.assert_allclose(kind(on="probabilities").fit(S, y).predict_proba(S), expected.predict_proba(np.log(S)))
    S[0] = [1, 0, 0]
    assert np.isfinite(kind(on="probabilities").fit(S, y).predict_log_proba(S)).all()
    z, two = Z[:, 0], y % 2
    one, other = kind().fit(z, two), kind().fit(z[:, None], np.array(["a", "b"])[two])
    np.testing.assert_array_equal(one.predict_proba(z), other.predict_proba(z[:, None]))
    assert set(other.predict(z)) <= {"a", "b"} and one.decision_function(z).shape == z.shape
    with pytest.raises(ValueError, match=r"X has 2 features, but \w+ is expecting 3 features"):
        expected.predict(Z[:, :2])
    with pytest.raises(ValueError, match="scores need on='scores'"):
        kind(on="probabilities").fit(Z, y)


def test_labels_that_no_sample_has_are_passed_as_classes():
    Z, y = scores_of(200, 4)
    y[y == 3] = 2
    assert TemperatureScaling().fit(Z, y).classes_.tolist() == [0, 1, 2, 3]
    names = np.array(["a", "b", "c", "d"])
    with pytest.raises(ValueError, match="y has 3 classes, but the scores have 4 columns: pass classes="):
        TemperatureScaling().fit(Z, names[y])
    assert TemperatureScaling().fit(Z, names[y], classes=names).predict(Z).shape == y.shape
    with pytest.raises(ValueError, match=r"'c', which is none of classes"):
        TemperatureScaling().fit(Z, names[y], classes=["a", "b", "d", "e"])


def test_the_temperature_stays_between_its_ends():
    """It is largest where scores say the opposite, and small where they are always right."""
    Z = np.eye(3)[np.arange(90) % 3]
    wrong = TemperatureScaling().fit(-Z, np.arange(90) % 3)
    assert wrong.temperature_ == pytest.approx(np.exp(10))
    right = TemperatureScaling().fit(Z, np.arange(90) % 3)
    assert right.loss_ < 1e-4 and right.temperature_ < 0.2


@parametrize_with_checks([kind(LogisticRegression()) for kind in SCALINGS])
def test_scalings_pass_scikit_learns_checks(estimator, check):
    check(estimator)


def test_expected_calibration_error_is_its_definition():
    S = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    y = np.array([0, 1, 1, 1])
    assert expected_calibration_error(y, S) == pytest.approx((2 * 0.3 + 2 * 0.3) / 4)
    assert expected_calibration_error(y, S, n_bins=1) == pytest.approx(0)
    assert expected_calibration_error(y, S[:, 1], kind="classwise") == pytest.approx((0.3 + 0.3) / 2)
    assert expected_calibration_error(y, S, strategy="quantile", n_bins=2) == pytest.approx(0.3)
    assert expected_calibration_error(y, S, sample_weight=[1, 0, 1, 0]) == pytest.approx((0.2 + 0.3) / 2)
    Z, y = scores_of(4000, 3)
    before, after = (expected_calibration_error(y, p) for p in
                     (scipy.special.softmax(Z, axis=1), MatrixScaling().fit(Z, y).predict_proba(Z)))  # fmt: skip
    assert after < 0.02 < 0.1 < before
    for message, keywords in {
        "strategy must be": {"strategy": "x"}, "kind must be": {"kind": "x"}, "n_bins must be": {"n_bins": 0},
        "sample_weight must have": {"sample_weight": [1.0]}, "classes must be": {"classes": [1, 0]},
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match=message):
            expected_calibration_error([0, 1], S[:2], **keywords)
    with pytest.raises(ValueError, match="must lie in"):
        expected_calibration_error([0, 1], 2 * S[:2])


def test_reliability_display_draws_frequencies_over_probabilities():
    pytest.importorskip("matplotlib", reason="needs matplotlib").use("Agg")
    S = np.array([[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]])
    display = reliability_display([0, 1, 1, 1], S, name="a model")
    np.testing.assert_allclose(display.prob_pred, [0.7, 0.8])
    np.testing.assert_allclose(display.prob_true, [1, 0.5])
    display = reliability_display(["a", "b", "b", "b"], S, label="b", ax=display.ax_)
    np.testing.assert_allclose(display.prob_pred, [0.2, 0.7])
    with pytest.raises(ValueError, match="label = 'c' is none"):
        reliability_display(["a", "b", "b", "b"], S, label="c")


def test_examples_of_calibration_run():
    assert doctest.testmod(calibration).failed == 0
    assert [doctest.testmod(module).failed for module in (_scaling, _measures)] == [0, 0]
