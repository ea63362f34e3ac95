"""LogisticRegressionCV: the folds' fits, scores without copies, the choice of C, and scikit-learn's interface."""

import doctest
import inspect
import signal
import sys
import threading
import tracemalloc
import warnings

import numpy as np
import pytest
import scipy.sparse

from softmax_ext._core import dispatch

sklearn = pytest.importorskip("sklearn", "1.6")

from sklearn import datasets, metrics  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegressionCV as ScikitLearns  # noqa: E402
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, StratifiedKFold  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from softmax_ext.chunks import from_iterable  # noqa: E402
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, _selection  # noqa: E402
from softmax_ext.linear_model._grid import one_standard_error  # noqa: E402
from softmax_ext.linear_model._trail import Ends  # noqa: E402

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
K_AND_D = pytest.mark.parametrize("K, D", [(2, 3), (3, 4), (4, 50)])  # whole Hessians; and preconditioners


def cv(**parameters):
    """Return an estimator with parameters that scikit-learn does not deprecate."""
    return LogisticRegressionCV(**{"l1_ratios": (0,), "scoring": None, "use_legacy_attributes": False} | parameters)


def problem(K, D=4, N=120, seed=0):
    rng = np.random.default_rng([seed, K, D])
    X = rng.standard_normal((N, D))
    return X, (X @ rng.standard_normal((D, K)) + 2 * rng.gumbel(size=(N, K))).argmax(axis=1)


# the fits


@K_AND_D
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("weights", [None, "sample", "balanced"])
def test_each_fit_is_that_of_its_fold_alone(K, D, storage, weights):
    X, y = problem(K, D)
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if weights == "sample" else None
    c = None
    if weights == "balanced":  # the labels of all rows are counted, not those of the fold
        c = dict(enumerate(len(y) / (K * np.bincount(y))))
    given = X if storage == "dense" else scipy.sparse.csr_array(X)
    Cs, folds = [1.0, 0.01, 30.0], KFold(3, shuffle=True, random_state=0)  # in no order
    balanced = "balanced" if c else None
    model = cv(Cs=Cs, cv=folds, tol=1e-9, max_iter=500, class_weight=balanced).fit(given, y, sample_weight=s)
    assert np.array_equal(model.Cs_, Cs)
    for f, (train, _) in enumerate(folds.split(X, y)):
        for j, C in enumerate(Cs):
            alone = LogisticRegression(C=C, tol=1e-9, max_iter=500, class_weight=c)
            alone.fit(X[train], y[train], None if s is None else s[train])
            expected = np.column_stack([alone.coef_, alone.intercept_])
            np.testing.assert_allclose(model.coefs_paths_[f, 0, j], expected, rtol=0, atol=1e-5)
    last = LogisticRegression(C=model.C_, tol=1e-9, max_iter=500, class_weight=balanced).fit(X, y, s)
    np.testing.assert_allclose(model.coef_, last.coef_, rtol=0, atol=1e-5)
    np.testing.assert_allclose(model.intercept_, last.intercept_, rtol=0, atol=1e-5)


def test_rows_named_twice_count_twice_and_masks_are_rows():
    X, y = problem(3)
    twice, rest = np.r_[:60, :30], np.arange(60, 120)
    mask = np.zeros(120, bool)
    mask[60:] = True
    model = cv(Cs=[0.5], cv=[(twice, rest), (~mask, mask), (np.arange(-120, -60), rest)], tol=1e-9).fit(X, y)
    for f, rows in enumerate([twice, np.arange(60), np.arange(60)]):
        alone = LogisticRegression(C=0.5, tol=1e-9).fit(X[rows], y[rows])
        np.testing.assert_allclose(model.coefs_paths_[f, 0, 0, :, :-1], alone.coef_, rtol=0, atol=1e-6)


def test_fits_share_curvature(monkeypatch):
    """Folds take no more iterations beside the fits to all rows than they would alone, and few preconditioners."""
    from softmax_ext._objective.fisher import Fisher

    refreshes, refresh = [], Fisher.refresh
    monkeypatch.setattr(Fisher, "refresh", lambda fisher, *at: (refreshes.append(1), refresh(fisher, *at))[1])
    X, y = datasets.load_digits(return_X_y=True)
    model = cv(cv=3, Cs=[1e-4, 1e-3, 1e-2]).fit(X, y)
    shared = len(refreshes)
    alone = 0
    for f, (train, _) in enumerate(StratifiedKFold(3).split(X, y)):
        one = LogisticRegression(warm_start=True)
        for j, C in enumerate(model.Cs_):
            one.set_params(C=C).fit(X[train], y[train])
            alone += 1 - model.n_iter_[f, 0, j] / one.n_iter_[0]
    assert alone > -1.0  # no more than a ninth above them in the mean
    assert shared <= 0.7 * (len(refreshes) - shared)


def test_fits_begin_ahead_of_where_the_last_have_ended(monkeypatch):
    X, y = datasets.load_digits(return_X_y=True)
    ahead = cv(cv=2, Cs=8).fit(X, y)
    begin, lower = Ends.begin, []

    def at_the_end(ends, objective):
        (start, _), end = begin(ends, objective), ends.w
        lower.append(start is end or objective.value(start) < objective.value(end))
        return end, None

    monkeypatch.setattr(Ends, "begin", at_the_end)
    behind = cv(cv=2, Cs=8).fit(X, y)
    assert all(lower) and ahead.n_iter_.sum() < 0.8 * behind.n_iter_.sum()
    assert ahead.C_ == pytest.approx(0.0193, rel=1e-2)  # as fits with tol=1e-7 choose


def test_fits_begin_ahead_only_where_the_objective_is_lower(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.integers(0, 16, (900, 12)).astype(float)  # a path with bends
    y = (X @ rng.standard_normal((12, 20)) / 4 + rng.gumbel(size=(900, 20))).argmax(axis=1)
    begin, lower = Ends.begin, []

    def seen(ends, objective):
        start, asked = begin(ends, objective)
        lower.append(0 if start is ends.w else objective.value(ends.w) - objective.value(start))
        if asked is not None:  # what is known there without a pass, or from the one that looked ahead
            value, grad = objective.value_and_grad(start)
            assert asked[0] == pytest.approx(value, rel=1e-12)
            np.testing.assert_allclose(asked[1], grad, rtol=0, atol=1e-12 * abs(grad).max() + 1e-15)
        return start, asked

    monkeypatch.setattr(Ends, "begin", seen)
    cv(cv=KFold(2), Cs=10).fit(X, y)
    assert min(lower) >= 0 and np.count_nonzero(lower) > 5


def test_a_path_may_stand_still_or_have_no_penalty():
    X, y = problem(3)
    Cs = [np.inf, 1.0, 1e-3, 1e-3, 1e-2, 1.0, 100.0, np.inf]
    model = cv(Cs=Cs, cv=[(np.arange(60, 120), np.arange(60))], tol=1e-8, max_iter=500).fit(X, y)
    for j, C in enumerate(Cs):
        alone = LogisticRegression(C=C, tol=1e-8, max_iter=500).fit(X[60:], y[60:])
        np.testing.assert_allclose(model.coefs_paths_[0, 0, j, :, :-1], alone.coef_, rtol=1e-5, atol=1e-5)


def test_a_fold_knows_nothing_of_the_labels_that_it_is_scored_by():
    """Labels that are unrelated to X get scores of chance, even if penalties are so weak that all rows are fitted."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((300, 400)), rng.integers(0, 3, 300)
    model = cv(Cs=[1e-3, 1.0, 1e3, 1e6], cv=5).fit(X, y)
    assert model.score(X, y) > 0.95 or model.C_ == 1e-3
    assert model.scores_.mean(axis=0).max() < 0.42  # 1/3 and three standard errors


@pytest.mark.parametrize("K", [2, 3])
def test_float32_and_memory_maps_stay_what_they_are(K, tmp_path):
    X, y = problem(K, 20, 500)
    np.save(tmp_path / "X.npy", X.astype("f4"))
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    model, wide = cv().fit(mapped, y), cv().fit(X, y)
    assert model.coef_.dtype == model.intercept_.dtype == model.coefs_paths_.dtype == np.float32
    assert wide.coef_.dtype == np.float64
    np.testing.assert_allclose(model.scores_, wide.scores_, atol=0.02)


@pytest.mark.skipif(not dispatch.available(), reason="the reference converts X")
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.optimised
@pytest.mark.thread_unsafe(reason="measures memory")
def test_no_fold_is_a_copy(storage):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 100)).astype("f4")
    y = (X[:, :2].sum(axis=1) > 0) + (X[:, 2] > 0)
    if storage == "csr":
        X[rng.random(X.shape) > 0.5] = 0
        X = scipy.sparse.csr_array(X)
    folds = cv(Cs=[1e-2], cv=5, scoring="neg_log_loss")
    peaks = []
    for model in (LogisticRegression(C=1e-2), folds):
        tracemalloc.start()
        model.fit(X, y)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 0.75 * X.data.nbytes  # where a fold's rows are four fifths, and its others one


@pytest.mark.parametrize("K, D, N", [(2, 3, 200), (3, 5, 150), (10, 64, 500), (4, 100, 30_000)])
def test_the_number_of_threads_changes_no_bit_of_cross_validation(K, D, N):
    X, y = problem(K, D, N)
    models = [cv(n_threads=n, Cs=4, cv=3, scoring="neg_log_loss").fit(X, y) for n in (1, 2, 3, 16)]
    for other in models[1:]:
        for name in ("coef_", "intercept_", "coefs_paths_", "scores_", "n_iter_"):
            assert np.array_equal(getattr(other, name), getattr(models[0], name)), name


@pytest.mark.parametrize("K", [2, 3])
def test_a_fold_may_lack_a_class_and_a_class_have_one_row(K):
    X, y = problem(K, 3, 12)
    X, y = np.r_[X, X[:K]], np.r_[np.zeros(12, int), np.arange(K)]
    folds = [(np.arange(12 + K - 1), np.arange(12 + K - 1, 12 + K)), (np.arange(1, 12 + K), np.arange(12))]
    model = cv(cv=folds, scoring="neg_log_loss").fit(X, y)
    assert model.coefs_paths_.shape == (2, 1, 10, 1 if K == 2 else K, 4)
    assert np.isfinite(model.coefs_paths_).all() and np.isfinite(model.scores_).all()


# the scores


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr", "neg_brier_score"])
@pytest.mark.parametrize("weighted", [False, True])
def test_scores_are_those_of_the_rows_themselves(K, storage, scoring, weighted):
    """scikit-learn's scorers get predictions, and the same scorers wrapped in a function get the rows."""
    if scoring == "neg_brier_score" and K > 2 and VERSION < (1, 8):
        pytest.skip("it is for two classes there")
    X, y = problem(K)
    s = np.random.default_rng(1).random(len(y)) if weighted else None
    given = X if storage == "dense" else scipy.sparse.csr_array(X)
    scorer = metrics.get_scorer(scoring)
    seen = []

    def wrapped(estimator, X, y, **keywords):
        seen.append((X.shape, estimator.C, type(estimator)))
        return scorer(estimator, X, y, **keywords)

    folds = StratifiedKFold(4)
    models = [cv(Cs=3, cv=folds, scoring=each).fit(given, y, sample_weight=s) for each in (scoring, wrapped)]
    np.testing.assert_allclose(models[0].scores_, models[1].scores_, rtol=1e-12)
    tests = [test for _, test in folds.split(X, y)]
    expected = [((len(test), 4), C, LogisticRegression) for test in tests for C in models[0].Cs_]
    assert seen == expected  # in this order, one call each


@pytest.mark.parametrize("labels", [(0, 1), ("no", "yes")])
def test_the_second_of_two_classes_is_the_positive_one(labels):
    X, y = problem(2)
    y, folds = np.take(labels, y), StratifiedKFold(4)
    model = cv(Cs=[0.1], cv=folds, scoring="f1").fit(X, y)
    for f, (_, test) in enumerate(folds.split(X, y)):
        W = model.coefs_paths_[f, 0, 0, 0]
        predicted = np.take(labels, (X[test] @ W[:-1] + W[-1] > 0).astype(int))
        assert model.scores_[f, 0, 0] == metrics.f1_score(y[test], predicted, pos_label=labels[1])


def test_accuracy_counts_weights_and_score_is_by_scoring():
    X, y = problem(3)
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    folds = StratifiedKFold(4)
    model = cv(Cs=[0.1], cv=folds).fit(X, y, sample_weight=s)
    for f, (_, test) in enumerate(folds.split(X, y)):
        W = model.coefs_paths_[f, 0, 0]
        right = (X[test] @ W[:, :-1].T + W[:, -1]).argmax(axis=1) == y[test]
        assert model.scores_[f, 0, 0] == pytest.approx(np.average(right, weights=s[test]), abs=1e-15)
    assert model.score(X, y) == np.mean(model.predict(X) == y)
    by_loss = cv(scoring="neg_log_loss").fit(X, y)
    assert by_loss.score(X, y) == pytest.approx(-metrics.log_loss(y, by_loss.predict_proba(X)))


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("many", [1, 7, 1000])
def test_scores_in_blocks_are_those_of_the_whole(K, many, monkeypatch):
    from softmax_ext._fit import held_out

    X, y = problem(K)
    expected = cv(scoring="neg_log_loss").fit(X, y)
    monkeypatch.setattr(held_out, "BLOCK_BYTES", many * 32)
    monkeypatch.setattr(held_out, "SCORES_BYTES", many * 200)
    found = cv(scoring="neg_log_loss").fit(X, y)
    np.testing.assert_allclose(found.scores_, expected.scores_, rtol=1e-12)


# the choice


def test_one_se_is_the_strongest_within_one_standard_error():
    scores, Cs = np.array([[0.6, 0.8, 0.85, 0.9], [0.6, 0.8, 0.85, 0.8]]), np.array([1e3, 1e-2, 1.0, 10.0])
    assert one_standard_error(scores, Cs, 2) == 2  # no spread: 0.85 of both folds, but 3 has it too, and is weaker
    assert one_standard_error(scores, Cs, 3) == 1  # 0.85 - 0.05
    assert one_standard_error(scores[:1], Cs, 3) == 3


@pytest.mark.parametrize("refit", [True, "one_se", False])
@pytest.mark.parametrize("K", [2, 3])
def test_the_last_model_is_as_refit_says(refit, K):
    X, y = problem(K, 20)
    model = cv(refit=refit, Cs=[10.0, 1e-3, 0.1], scoring="neg_log_loss", tol=1e-8, max_iter=500).fit(X, y)
    scores = model.scores_[:, 0]
    best = scores.mean(axis=0).argmax()
    if refit:
        C = model.Cs_[best if refit is True else one_standard_error(scores, model.Cs_, best)]
        alone = LogisticRegression(C=C, tol=1e-8, max_iter=500).fit(X, y)
        W = alone.coef_
    else:
        each = scores.argmax(axis=1)
        C = model.Cs_[each].mean()
        W = np.mean([model.coefs_paths_[f, 0, j, :, :-1] for f, j in enumerate(each)], axis=0)
    assert model.C_ == C
    np.testing.assert_allclose(model.coef_, W, rtol=0, atol=1e-5)


def test_ties_go_to_the_first():
    X, y = problem(3)
    assert cv(Cs=[3.0, 0.1, 7.0], scoring=lambda model, X, y: 0.5).fit(X, y).C_ == 3.0


# scikit-learn's surface


@pytest.mark.thread_unsafe(reason="scikit-learn's checks catch warnings")
@pytest.mark.filterwarnings("ignore:The least populated class")  # one check has a class of two rows
@parametrize_with_checks([cv(max_iter=50, cv=2), cv(max_iter=50, cv=2, solver="newton-cholesky", refit="one_se")])
def test_cross_validation_passes_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.skipif(VERSION != (1, 9), reason="the surface is that of 1.9")
def test_the_surface_of_cross_validation_is_scikit_learns():
    ours, theirs = (inspect.signature(each).parameters for each in (LogisticRegressionCV, ScikitLearns))
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind)
    assert list(ours)[: len(theirs)] == list(theirs)
    public = {name for name in dir(ScikitLearns) if not name.startswith("_")}
    assert public - set(dir(LogisticRegressionCV)) == {"param"}  # a variable that theirs leaves behind
    assert not hasattr(LogisticRegressionCV, "partial_fit")


@pytest.mark.skipif(VERSION < (1, 8), reason="the attributes are those since 1.8")
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("l1_ratios", [None, (0.0,), (0, 0)])
@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_attributes_have_scikit_learns_shapes(K, legacy, l1_ratios, refit, fit_intercept):
    X, y = problem(K)
    parameters = {"Cs": 3, "cv": 2, "scoring": "accuracy", "refit": refit, "fit_intercept": fit_intercept}
    parameters |= {"use_legacy_attributes": legacy, "l1_ratios": l1_ratios, "tol": 1e-7, "max_iter": 1000}
    labels = np.array(["a", "b", "c"])[y]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        models = [each(**parameters).fit(X, labels) for each in (LogisticRegressionCV, ScikitLearns)]
    for name in ("C_", "Cs_", "l1_ratio_", "l1_ratios_", "scores_", "coefs_paths_", "coef_", "intercept_", "classes_"):
        ours, theirs = (getattr(model, name) for model in models)
        assert type(ours) is type(theirs), name
        if isinstance(theirs, dict):
            assert list(ours) == list(theirs)
            ours, theirs = (np.array(list(each.values())) for each in (ours, theirs))
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert (ours.shape, ours.dtype.kind) == (theirs.shape, theirs.dtype.kind), name
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4, err_msg=name)
    assert (models[0].n_iter_.shape, models[0].n_iter_.dtype) == (models[1].n_iter_.shape, models[1].n_iter_.dtype)


def test_defaults_warn_as_scikit_learns_do():
    X, y = problem(2)
    for parameters in ({}, {"l1_ratios": None}, {"penalty": "l2"}, {"penalty": "l2", "l1_ratios": (0,)}):
        caught = []
        for each in (LogisticRegressionCV, ScikitLearns):
            with warnings.catch_warnings(record=True) as record:
                warnings.simplefilter("always")
                each(**parameters).fit(X, y)
            caught.append([warning for warning in record if warning.category is not ConvergenceWarning])
        kinds = [sorted(each.category.__name__ for each in warned) for warned in caught]
        if VERSION == (1, 9):
            assert kinds[0] == kinds[1], parameters
        assert all(each.filename == __file__ for each in caught[0])


@pytest.mark.skipif(VERSION < (1, 8), reason="splitters take groups by metadata routing")
def test_groups_reach_the_splitter():
    X, y = problem(3)
    groups = np.arange(120) // 10
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cv(cv=GroupKFold(4), scoring="accuracy").fit(X, y, groups=groups)
    given = cv(cv=list(GroupKFold(4).split(X, y, groups)), scoring="accuracy").fit(X, y)
    assert np.array_equal(routed.scores_, given.scores_)
    assert cv(cv=list(LeaveOneGroupOut().split(X, y, groups))).fit(X, y).scores_.shape == (12, 1, 10)


@pytest.mark.skipif(VERSION < (1, 9), reason="callbacks came with 1.9")
def test_scikit_learns_callbacks_see_each_fit():
    from sklearn.callback.tests._utils import RecordingCallback

    callback = RecordingCallback()
    X, y = problem(3)
    cv(Cs=2, cv=3).set_callbacks(callback).fit(X, y)
    assert callback.count_hooks("setup") == callback.count_hooks("teardown") == 1
    assert callback.count_hooks("on_fit_task_begin") == callback.count_hooks("on_fit_task_end") == 1 + 2 * 4


@pytest.mark.parametrize(
    "parameters, data, error, words",
    [
        ({"Cs": [1.0, 0.0]}, {}, ValueError, "Cs must be a number of values, or a list of positive ones, got"),
        ({"Cs": []}, {}, ValueError, "Cs must be"),
        ({"Cs": [[1.0]]}, {}, ValueError, "Cs must be"),
        ({"Cs": [np.nan]}, {}, ValueError, "Cs must be"),
        ({"Cs": 0}, {}, ValueError, "The 'Cs' parameter"),
        ({"l1_ratios": (0.5,)}, {}, ValueError, "supports only 'l2' or None penalties, got elasticnet"),
        ({"l1_ratios": (0, 1.5), "solver": "saga"}, {}, ValueError, "l1_ratios must be numbers between 0 and 1"),
        ({"l1_ratios": (0, "a"), "solver": "saga"}, {}, ValueError, "l1_ratios must be"),
        ({"l1_ratios": (None,), "solver": "saga"}, {}, ValueError, "l1_ratios must be numbers between 0 and 1"),
        ({"l1_ratios": ()}, {}, ValueError, "l1_ratios must be a list of numbers"),
        ({"solver": "lbfgs", "dual": True}, {}, ValueError, "supports only dual=False"),
        ({"refit": "two_se"}, {}, ValueError, "The 'refit' parameter"),
        ({"cv": [(np.arange(60), np.arange(60, 121))]}, {}, ValueError, "fold 0 names rows that X with its 120"),
        ({"cv": [(np.arange(60), [])]}, {}, ValueError, "fold 0 has no rows to score by"),
        ({"cv": KFold(2)}, {"sample_weight": np.r_[np.ones(60), np.zeros(60)]}, ValueError, "that fold 0 trains on"),
        (
            {"cv": [(np.arange(60), np.arange(100, 120))]},
            {"sample_weight": np.r_[np.ones(100), np.zeros(20)]},
            ValueError,
            "that fold 0 is scored by have a weight of 0: leave",
        ),
        ({}, {"y": np.full((120, 3), 1 / 3)}, ValueError, "y holds probabilities, of shape"),
        ({}, {"X": from_iterable(lambda: iter([]))}, TypeError, "y, sample_weight and offset are in the chunks"),
        ({}, {"y": np.zeros(120)}, ValueError, "at least 2 classes"),
        ({}, {"extra": 1}, ValueError, "only supported if enable_metadata_routing=True"),
    ],
)
def test_cross_validation_names_what_it_refuses(parameters, data, error, words):
    X, y = problem(3)
    model = cv(**parameters)
    with pytest.raises(error, match=words):
        model.fit(**{"X": X, "y": y} | data)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_one_warning_tells_of_all_that_did_not_converge():
    X, y = datasets.load_digits(return_X_y=True)
    model = cv(max_iter=3, cv=2, Cs=3)
    with pytest.warns(
        ConvergenceWarning, match=r"of 9 fits ended with a gradient above tol=0.0001, the first that of"
    ) as caught:
        model.fit(X, y)
    assert len(caught) == 1 and not model.converged_ and "9 fits" in model.convergence_report_


def test_cross_validation_tells_its_callback_and_draws_a_bar(capsys):
    X, y = problem(3)
    seen = []
    cv(Cs=2, cv=3, callback=lambda *done: seen.append(done), verbose=1).fit(X, y)
    assert seen == [(i, 8) for i in range(1, 9)]
    assert "8/8 fits" in capsys.readouterr().out


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
@pytest.mark.thread_unsafe(reason="a signal is for the main thread")
def test_an_interrupted_cross_validation_leaves_no_model(n_threads):
    X, y = datasets.load_digits(return_X_y=True)

    def interrupt(done, fits):
        if done == 5:
            signal.raise_signal(signal.SIGINT)

    model, before = cv(callback=interrupt, n_threads=n_threads), threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert not hasattr(model, "coef_") and threading.active_count() == before
    assert model.set_params(callback=None, Cs=2, cv=2).fit(X, y).score(X, y) > 0.9


def test_cross_validation_is_cloned_and_its_examples_run():
    model = cv(Cs=[1, 2], refit="one_se", n_threads=1)
    assert clone(model).get_params() == model.get_params()
    assert doctest.testmod(_selection) == (0, 6)
