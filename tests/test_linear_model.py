"""LogisticRegression: scikit-learn's checks and tests, scikit-learn's optimum, odd data, and what is ours beyond it."""

import doctest
import functools
import inspect
import itertools
import pickle
import subprocess
import sys
import timeit
import warnings
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, loss_grad, reference

sklearn = pytest.importorskip("sklearn", "1.6")

from sklearn import datasets  # noqa: E402
from sklearn.base import clone  # noqa: E402
from sklearn.exceptions import ConvergenceWarning, NotFittedError  # noqa: E402
from sklearn.linear_model import LogisticRegression as ScikitLearns  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_validate  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402
from sklearn.utils.validation import validate_data  # noqa: E402

from softmax_ext._fit.observers import Course, observing  # noqa: E402
from softmax_ext._fit.training_data import check_data, encoded  # noqa: E402
from softmax_ext._optim.descent import Descent  # noqa: E402
from softmax_ext._optim.solvers import steps  # noqa: E402
from softmax_ext.chunks import from_iterable  # noqa: E402
from softmax_ext.linear_model import LogisticRegression, _logistic  # noqa: E402
from softmax_ext.linear_model._logistic import RULES, SOLVERS  # noqa: E402

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
DATA = {
    "iris": datasets.load_iris,
    "wine": datasets.load_wine,
    "cancer": datasets.load_breast_cancer,
    "digits": datasets.load_digits,
}
BINARY_AND_NOT = pytest.mark.parametrize("K", [2, 3])


def stored_kinds(*dtypes):
    """Each of the dtypes in each storage; SciPy has no sparse float16."""
    return [pair for pair in itertools.product(dtypes, ["dense", "csr"]) if pair != ("float16", "csr")]


tight = functools.partial(LogisticRegression, tol=1e-9, max_iter=1000)


class Theirs(ScikitLearns):
    """scikit-learn's, without its warnings."""

    def fit(self, X, y, sample_weight=None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().fit(X, y, sample_weight)


@functools.cache
def load(name, standardised=False):
    X, y = DATA[name](return_X_y=True)
    return (StandardScaler().fit_transform(X) if standardised else X), y


def problem(K, N=120, D=4, seed=0):
    """Classes that overlap, so that there is an optimum without penalty too."""
    rng = np.random.default_rng([seed, K])
    X = rng.standard_normal((N, D))
    y = (X @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y


def two_rows(model):
    """W and b with a row for each class."""
    W, b = model.coef_, model.intercept_
    return (np.vstack([0 * W, W]), np.append(0, b)) if len(W) == 1 else (W, b)


def objective(model, X, y, C, s=None):
    """What scikit-learn minimises, divided by C m, in plain NumPy."""
    m = X.shape[0] if s is None else s.sum()
    penalty = 0 if C == np.inf else (model.coef_.astype(float) ** 2).sum() / (2 * C * m)
    return reference.loss_grad(X, y, *two_rows(model), sample_weight=s).loss + penalty


def assert_same_model(ours, theirs, X, atol=1e-6):
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=0, atol=atol)


# scikit-learn's own


def broken_checks(estimator):
    """Checks that are themselves wrong: 1.6 makes labels binary after it has shuffled them on one side only."""
    if estimator.solver in RULES:
        few = "ten epochs of mini-batches are not yet at the optimum"
        weights = [f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")]
        return dict.fromkeys([*weights, "check_class_weight_classifiers"], few)
    broken = VERSION < (1, 7) and estimator.solver == "liblinear"
    return {"check_sample_weight_equivalence_on_dense_data": "labels differ between its two fits"} if broken else {}


@pytest.mark.thread_unsafe(reason="scikit-learn's checks catch warnings")
@parametrize_with_checks(
    [LogisticRegression(solver=solver) for solver in (*SOLVERS, "adam")], expected_failed_checks=broken_checks
)
def test_logistic_regression_passes_scikit_learns_checks(estimator, check):
    check(estimator)


@pytest.mark.skipif(VERSION > (1, 9), reason="the suite's list of tests is for 1.6 to 1.9")
def test_logistic_regression_passes_scikit_learns_suite():
    suite = Path(__file__).with_name("sklearn_suite.py")
    command = [sys.executable, suite, "-q", "--disable-warnings", "--tb=short"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr


@pytest.mark.skipif(VERSION != (1, 9), reason="the surface is that of 1.9")
def test_the_surface_of_logistic_regression_is_scikit_learns():
    theirs = ScikitLearns
    ours, wanted = (inspect.signature(estimator).parameters for estimator in (LogisticRegression, theirs))
    for name, parameter in wanted.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind)
    assert list(ours)[: len(wanted)] == list(wanted)
    X, y = load("iris")
    fitted = [estimator(max_iter=2000).fit(X, y) for estimator in (LogisticRegression, theirs)]
    public = [{name for name in dir(model) if not name.startswith("_")} for model in fitted]
    assert public[1] - public[0] == set()
    for name in ("coef_", "intercept_", "classes_", "n_iter_"):
        a, b = (getattr(model, name) for model in fitted)
        assert (a.shape, a.dtype) == (b.shape, b.dtype)


def test_examples_of_linear_model_run():
    assert doctest.testmod(_logistic) == (0, 23)


def test_without_scikit_learn_the_error_says_what_to_install():
    code = "import sys; sys.modules['sklearn'] = None; import softmax_ext; import softmax_ext.linear_model"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "pip install 'softmax_ext[sklearn]'" in result.stderr.splitlines()[-1]


# The same optimum as scikit-learn


@functools.cache
def scikit_learns_best(name, standardised, C):
    X, y = load(name, standardised)
    models = []
    for solver in ("newton-cholesky", "lbfgs")[: 1 + (standardised and name != "digits")]:  # lbfgs needs seconds there
        model = Theirs(C=C, tol=1e-10, max_iter=1000, solver=solver).fit(X, y)
        models.append((objective(model, X, y, C), model))
    return min(models, key=lambda pair: pair[0])


# Digits are slow because scikit-learn is: seconds for each C.
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("C", [1e-4, 1e-2, 1.0, 100.0])
@pytest.mark.parametrize("standardised", [False, True], ids=["raw", "standardised"])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "digits" else name for name in DATA]
)
def test_optimum_is_scikit_learns(name, standardised, C, solver):
    X, y = load(name, standardised)
    best, theirs = scikit_learns_best(name, standardised, C)
    ours = LogisticRegression(C=C, tol=1e-10, max_iter=1000, solver=solver).fit(X, y)
    assert objective(ours, X, y, C) <= best * (1 + 1e-8)
    assert_same_model(ours, theirs, X, atol=1e-5)


@pytest.mark.parametrize("C", [1e4, 1e6])
@pytest.mark.parametrize("name", ["iris", "wine", "cancer"])
def test_weak_penalty_is_no_worse_than_scikit_learn(name, C):
    X, y = load(name, True)
    best, _ = scikit_learns_best(name, True, C)
    ours = LogisticRegression(C=C, tol=1e-10, max_iter=1000).fit(X, y)
    assert objective(ours, X, y, C) <= best + 1e-8


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize(
    "solver, K, C",
    [
        (solver, K, C)
        for solver, K, C in itertools.product(SOLVERS, (2, 3), (0.1, np.inf))
        if solver != "liblinear" or (K == 2 and C < np.inf)  # which it refuses
    ],
)
def test_every_solver_ends_at_the_same_model(solver, fit_intercept, K, C, stored):
    X, y = problem(K)
    theirs = Theirs(C=C, fit_intercept=fit_intercept, tol=1e-10, solver="newton-cholesky").fit(X, y)
    ours = tight(C=C, fit_intercept=fit_intercept, solver=solver).fit(stored(X), y)
    assert_same_model(ours, theirs, X)
    if C < np.inf or K == 2:  # otherwise theirs may be any of many
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-6)
        np.testing.assert_allclose(ours.intercept_, theirs.intercept_, atol=1e-6)


@pytest.mark.parametrize("name", ["wine", "cancer", "digits"])
def test_default_parameters_converge_on_raw_data_without_a_warning(name, stored):
    X, y = load(name)
    model = LogisticRegression().fit(stored(X), y)
    assert model.converged_
    _, dW, db = loss_grad(X, y, *two_rows(model))
    gradient = np.concatenate([(dW[-len(model.coef_) :] + model.coef_ / len(X)).ravel(), db])
    assert abs(gradient).max() <= 1e-4 * (1 + 1e-6)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@BINARY_AND_NOT
def test_coefficients_sum_to_zero_over_classes(solver, K):
    X, y = problem(K)
    model = LogisticRegression(C=np.inf, solver=solver).fit(X, y)
    if K > 2:
        np.testing.assert_allclose(model.coef_.sum(axis=0), 0, atol=1e-12)
        np.testing.assert_allclose(model.intercept_.sum(), 0, atol=1e-12)
    assert model.coef_.shape == (1 if K == 2 else K, X.shape[1])
    assert model.intercept_.shape == (1 if K == 2 else K,)


# Weights


@BINARY_AND_NOT
@pytest.mark.parametrize("C", [1.0, np.inf])
def test_a_weight_is_a_number_of_copies(K, C):
    X, y = problem(K)
    s = np.arange(len(X)) % 4
    weighted = tight(C=C).fit(X, y, sample_weight=s)
    assert_same_model(weighted, tight(C=C).fit(X.repeat(s, axis=0), y.repeat(s)), X)
    theirs = Theirs(C=C, tol=1e-10, max_iter=1000).fit(X, y, sample_weight=s)
    assert objective(weighted, X, y, C, s) <= objective(theirs, X, y, C, s) * (1 + 1e-9)


@BINARY_AND_NOT
@pytest.mark.parametrize("weighted", [False, True])
def test_class_weights_multiply_sample_weights(K, weighted):
    X, y = problem(K)
    names = np.array(["b", "c", "a"])
    s = np.random.default_rng(0).exponential(size=len(X)) if weighted else None
    ones = np.ones(len(X)) if s is None else s
    given = {"b": 0.5, "c": 2.0}  # a counts once
    by_class = tight(class_weight=given).fit(X, names[y], sample_weight=s)
    by_sample = tight().fit(X, names[y], sample_weight=ones * np.array([0.5, 2.0, 1.0])[y])
    assert_same_model(by_class, by_sample, X)
    balance = ones.sum() / (K * np.bincount(y, ones))
    balanced = tight(class_weight="balanced").fit(X, names[y], sample_weight=s)
    assert_same_model(balanced, tight().fit(X, names[y], sample_weight=ones * balance[y]), X)
    theirs = functools.partial(Theirs, tol=1e-10, max_iter=1000)
    assert_same_model(by_class, theirs(class_weight=given).fit(X, names[y], sample_weight=s), X)
    if VERSION >= (1, 7) or s is None:  # before, "balanced" did not look at the sample weights
        assert_same_model(balanced, theirs(class_weight="balanced").fit(X, names[y], sample_weight=s), X)


def test_a_number_for_sample_weight_is_that_of_each():
    X, y = problem(3)
    assert_same_model(tight().fit(X, y, 2.0), tight(C=2).fit(X, y), X)


def test_weights_are_not_changed():
    X, y = problem(3)
    s = np.ones(len(X))
    LogisticRegression(class_weight="balanced").fit(X, y, sample_weight=s)
    assert (s == 1).all()


# Targets


@BINARY_AND_NOT
@pytest.mark.parametrize("kind", [np.asarray, np.ndarray.tolist, lambda Y: Y.astype(np.float32)])
def test_probabilities_are_weighted_copies(K, kind):
    X, _ = problem(K)
    Y = np.random.default_rng(K).dirichlet(np.ones(K), size=len(X)).astype(np.float32).astype(float)
    s = np.arange(len(X)) % 3
    soft = tight().fit(X, kind(Y), sample_weight=s)
    copies = tight().fit(X.repeat(K, axis=0), np.tile(np.arange(K), len(X)), (s[:, np.newaxis] * Y).ravel())
    assert_same_model(soft, copies, X)
    assert soft.coef_.shape == (1 if K == 2 else K, X.shape[1])
    assert soft.classes_.tolist() == list(range(K))
    assert soft.predict(X).dtype.kind == "i"


@BINARY_AND_NOT
def test_certain_probabilities_are_labels(K):
    X, y = problem(K)
    assert_same_model(tight().fit(X, np.eye(K)[y]), tight().fit(X, y), X)


@pytest.mark.parametrize(
    "labels",
    [
        ["no", "yes", "maybe"],
        np.array(["no", "yes", "maybe"], object),
        [-1, 7, 3],
        [0.0, 1.0, 2.0],
        [10**12, 5, 6],
        np.array([3, 200, 10], np.uint8),
    ],
)
@BINARY_AND_NOT
def test_labels_come_back(labels, K):
    X, y = problem(K)
    labels = np.asarray(labels)
    ours = LogisticRegression().fit(X, labels[y])
    theirs = Theirs().fit(X, labels[y])
    predicted = ours.predict(X)
    assert predicted.dtype == theirs.predict(X).dtype
    np.testing.assert_array_equal(predicted, theirs.predict(X))
    np.testing.assert_array_equal(ours.classes_, theirs.classes_)
    assert ours.score(X, labels[y]) == theirs.score(X, labels[y])


def test_boolean_labels_come_back_boolean():
    X, y = problem(2)
    assert LogisticRegression().fit(X, y == 1).predict(X).dtype == bool


# Frames, dtypes, layouts


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_data_frames_are_taken_with_their_names(library):
    frames = pytest.importorskip(library)
    if library == "polars" and VERSION < (1, 9):
        pytest.skip("this scikit-learn does not read the names of this polars")
    X, y = problem(3)
    frame = frames.DataFrame({name: X[:, j] for j, name in enumerate("abcd")})
    model = LogisticRegression().fit(frame, frames.Series(y.astype(str)))
    assert model.feature_names_in_.tolist() == list("abcd")
    assert not hasattr(clone(model).fit(frame, y).fit(X, y), "feature_names_in_")
    np.testing.assert_array_equal(model.coef_, LogisticRegression().fit(X, y).coef_)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        getattr(model, method)(frame)  # the names fit: no warning
        with pytest.raises(ValueError, match="feature names"):
            getattr(model, method)(frame[["b", "a", "c", "d"]])
        with pytest.warns(UserWarning, match="does not have valid feature names"):
            getattr(model, method)(X)
    soft = frames.DataFrame({str(k): (y == k) * 1.0 for k in range(3)})
    S = LogisticRegression().fit(frame, soft).predict_proba(frame)
    np.testing.assert_allclose(S, model.predict_proba(frame), rtol=0, atol=1e-12)


@pytest.mark.parametrize("given, storage", stored_kinds("float32", "float64", "float16", "int8", "bool", "uint64"))
@BINARY_AND_NOT
def test_float32_is_kept_and_narrower_is_float32_and_all_else_float64(given, K, stored):
    X, y = problem(K)
    X = stored((X > 0).astype(given))
    model = LogisticRegression().fit(X, y)
    theirs = Theirs().fit(X, y)
    computes_in = "float32" if given in ("float32", "float16", "int8") else "float64"
    assert model.coef_.dtype == model.intercept_.dtype == computes_in
    for method in ("predict_proba", "predict_log_proba", "decision_function"):
        S = getattr(model, method)(X)
        assert S.dtype == model.coef_.dtype
        np.testing.assert_allclose(S, getattr(theirs, method)(X), atol=0.02)


@pytest.mark.parametrize("given, storage", stored_kinds("float32", "float64", "float16", "int64"))
@pytest.mark.parametrize("fitted", ["float32", "float64"])
def test_predictions_have_the_wider_dtype_of_fit_and_samples(given, fitted, stored):
    X, y = problem(3)
    X = stored(X)
    model = LogisticRegression().fit(X.astype(fitted), y)
    S = model.predict_proba(X.astype(given))
    assert S.dtype == np.result_type(given, fitted) == model.predict_log_proba(X.astype(given)).dtype
    np.testing.assert_allclose(S.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda X: np.repeat(X, 2, axis=1)[:, ::2], lambda X: X[::-1][::-1]]
)
def test_the_layout_of_X_changes_no_bit_of_a_fit(layout):
    X, y = problem(3)
    Z = layout(X)
    Z.flags.writeable = False
    np.testing.assert_array_equal(LogisticRegression().fit(Z, y).coef_, LogisticRegression().fit(X, y).coef_)


@BINARY_AND_NOT
def test_the_number_of_threads_changes_no_bit_of_a_fit(K, stored):
    X, y = problem(K, N=20_000, D=30)
    X = stored(X)
    one, two = (LogisticRegression(n_threads=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(one.coef_, two.coef_)
    np.testing.assert_array_equal(one.predict_proba(X), two.predict_proba(X))


def words(N, D, K, dtype, seed=0):
    """Documents in which each class prefers words of its own, among frequent ones that all have."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, N)
    rows = np.repeat(np.arange(N), rng.integers(3, 20, N))
    columns = np.minimum(rng.zipf(1.3, len(rows)) - 1, D - 1)
    own = rng.random(len(rows)) < 0.4
    columns[own] = (columns[own] * K + y[rows[own]]) % D
    X = scipy.sparse.csr_array((np.ones(len(rows), dtype), (rows, columns)), shape=(N, D))
    X.sum_duplicates()
    return X, y


@functools.cache
def scikit_learns_fit_to_words(*shape):
    return Theirs(max_iter=2000).fit(*words(*shape, "float64"))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(600, 2000, 2), (900, 3000, 7), (300, 9000, 40)], ids=str)
def test_text_is_fitted_as_well_as_by_scikit_learn(shape, dtype):
    X, y = words(*shape, dtype)
    before = [array.tobytes() for array in (X.data, X.indices, X.indptr)]
    ours = LogisticRegression().fit(X, y)
    assert [array.tobytes() for array in (X.data, X.indices, X.indptr)] == before
    theirs = scikit_learns_fit_to_words(*shape)
    assert ours.converged_ and ours.coef_.dtype == dtype
    assert objective(ours, X, y, 1) <= objective(theirs, X, y, 1) * (1 + 1e-5)
    assert_same_model(ours, theirs, X, atol=0.02)
    np.testing.assert_allclose(ours.predict_proba(X), ours.predict_proba(X.toarray()), rtol=1e-5, atol=1e-7)


# Prediction


@BINARY_AND_NOT
def test_probabilities_agree_with_scores_and_predictions(K, stored):
    X, y = problem(K)
    X = stored(X)
    model = LogisticRegression().fit(X, y)
    Z = X @ two_rows(model)[0].T + two_rows(model)[1]
    np.testing.assert_allclose(model.predict_proba(X), reference.softmax(Z), rtol=1e-12)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(reference.softmax(Z)), rtol=1e-9)
    np.testing.assert_allclose(model.decision_function(X), Z[:, 1] if K == 2 else Z, rtol=1e-12, atol=1e-14)
    np.testing.assert_array_equal(model.predict(X), model.predict_proba(X).argmax(axis=1))


@BINARY_AND_NOT
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_log_probabilities_do_not_underflow(K, dtype):
    X, y = problem(K)
    model = LogisticRegression().fit(X.astype(dtype), y)
    far = (X * 1e5).astype(dtype)
    assert (model.predict_proba(far) == 0).any()
    assert np.isfinite(model.predict_log_proba(far)).all()


@BINARY_AND_NOT
def test_sparsified_coefficients_predict_the_same(K):
    X, y = problem(K)
    model = LogisticRegression().fit(X, y)
    S, log_S, coef = model.predict_proba(X), model.predict_log_proba(X), model.coef_
    assert scipy.sparse.issparse(model.sparsify().coef_)
    np.testing.assert_array_equal(model.predict_proba(X), S)
    np.testing.assert_allclose(model.predict_log_proba(X), log_S, rtol=1e-12)
    np.testing.assert_array_equal(model.densify().coef_, coef)
    model.sparsify().set_params(warm_start=True).fit(X, y)
    assert isinstance(model.coef_, np.ndarray)


@pytest.mark.optimised
@BINARY_AND_NOT
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_one_row_costs_less_than_its_validation(K, method):
    X, y = problem(K)
    model = LogisticRegression().fit(X, y)
    x = X[:1]

    calls = [lambda: getattr(model, method)(x), lambda: validate_data(model, x, reset=False)]
    whole, validation = np.min([[timeit.timeit(call, number=50) for call in calls] for _ in range(40)], axis=0)
    assert whole < validation  # 0.3 to 0.6 with scikit-learn 1.9


# Stopping


@pytest.mark.parametrize("solver", SOLVERS)
def test_max_iter_warns_in_scikit_learns_words(solver):
    X, y = load("cancer")
    model = LogisticRegression(max_iter=1, solver=solver)
    words = SOLVERS[solver][1].format(n=1).split("(")[0]
    with pytest.warns(ConvergenceWarning, match=words) as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__
    assert "Increase the number of iterations" in str(caught[0].message)
    assert not model.converged_
    assert model.n_iter_.tolist() == [1] and model.n_iter_.dtype == np.int32


def test_a_fit_tells_its_callback_of_each_iteration():
    X, y = problem(3)
    calls = []
    model = LogisticRegression(callback=lambda *state: calls.append(state)).fit(X, y)
    assert model.converged_ and model.convergence_report_
    assert [call[0] for call in calls] == list(range(1, model.n_iter_[0] + 1))
    np.testing.assert_array_equal(model.loss_curve_[1:], [call[1] for call in calls])
    assert model.loss_curve_[0] == pytest.approx(np.log(3))
    assert model.loss_curve_[-1] == pytest.approx(objective(model, X, y, 1.0))
    assert model.loss_curve_[-1] == model.loss_curve_.min()
    assert calls[-1][2] <= model.tol


@pytest.mark.parametrize("true", [True, np.True_, 1])
def test_a_callback_stops_the_fit_without_a_warning(true):
    X, y = problem(3)
    model = LogisticRegression(tol=0, callback=lambda i, *_: true if i == 2 else None).fit(X, y)
    assert model.n_iter_ == [2] and not model.converged_


def test_an_error_in_a_callback_reaches_the_caller():
    def fail(*state):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        LogisticRegression(callback=fail, verbose=1).fit(*problem(3))


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "adam"])
def test_label_smoothing_is_a_fit_to_smoothed_targets(K, solver):
    """The targets are those of `loss_grad`, however the data come; the minimum is where its gradient is that of C."""
    X, y = problem(K)
    Y = np.full((len(y), K), 0.2 / K)
    Y[np.arange(len(y)), np.unique(y, return_inverse=True)[1]] += 0.8
    model = LogisticRegression(label_smoothing=0.2, solver=solver, tol=1e-8, random_state=0, epochs=3)
    want = clone(model).set_params(label_smoothing=0.0).fit(X, Y).coef_
    np.testing.assert_array_equal(model.fit(X, y).coef_, want)
    if solver != "adam":
        W, b = (np.concatenate([0 * each, each]) if K == 2 else each for each in (model.coef_, model.intercept_))
        _, dW, db = loss_grad(X, model.classes_.searchsorted(y), W, b, label_smoothing=0.2)
        np.testing.assert_allclose(dW[-1], -W[-1] / len(y), atol=1e-7)
        np.testing.assert_allclose(db[-1], 0, atol=1e-7)
        np.testing.assert_allclose(clone(model).fit(scipy.sparse.csr_array(X), y).coef_, want, atol=1e-5)
        parts = from_iterable(lambda: iter([(X[:50], y[:50]), (X[50:], y[50:])]))
        np.testing.assert_allclose(clone(model).fit(parts).coef_, want, atol=1e-5)
    steps = [LogisticRegression(label_smoothing=e).partial_fit(X, Z, classes=k).coef_ for e, Z, k in
             ((0.2, y, np.unique(y)), (0.0, Y, None))]  # fmt: skip
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("bad", [-0.1, 1.1, "0.1"])
def test_label_smoothing_that_is_no_share_is_refused(bad):
    with pytest.raises(ValueError, match="label_smoothing"):
        LogisticRegression(label_smoothing=bad).fit(*problem(3))


def test_verbose_draws_a_progress_bar(capsys):
    pytest.importorskip("rich")
    model = LogisticRegression(verbose=1).fit(*problem(3))
    assert f"{model.n_iter_[0]}/100" in capsys.readouterr().out


def test_without_rich_verbose_prints_a_line_an_iteration(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    model = LogisticRegression(verbose=1).fit(*problem(3))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_[0] + 1 and lines[-1] == "converged"
    assert lines[0].startswith("iteration 1: objective ")


@pytest.mark.skipif(VERSION < (1, 9), reason="set_callbacks came with 1.9")
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_callbacks_of_scikit_learn_see_each_iteration(solver, capsys):
    from sklearn.callback import ProgressBar, ScoringMonitor

    X, y = problem(3)
    monitor = ScoringMonitor(scoring="neg_log_loss")
    model = LogisticRegression(solver=solver).set_callbacks(monitor, ProgressBar()).fit(X, y)
    scores = monitor.get_logs(select="most_recent").data
    assert len(scores) >= model.n_iter_[0]
    assert "LogisticRegression" in capsys.readouterr().out


@pytest.mark.skipif(VERSION < (1, 9), reason="set_callbacks came with 1.9")
def test_a_callback_of_scikit_learn_gets_the_fitted_estimator_without_another_fit(monkeypatch):
    X, y = problem(3)
    seen, fits = [], []

    class Look:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            if context.task_name == "iteration" and fitted_estimator is not None:
                seen.append(fitted_estimator.coef_.copy())

    monkeypatch.setattr(_logistic, "steps", lambda *args, **kw: fits.append(args) or steps(*args, **kw))
    model = LogisticRegression().set_callbacks(Look()).fit(X, y)
    assert len(fits) == 1 and len(seen) == model.n_iter_[0]
    np.testing.assert_array_equal(seen[-1], model.coef_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_array_equal(seen[1], LogisticRegression(max_iter=2).fit(X, y).coef_)


@pytest.mark.skipif(VERSION < (1, 9), reason="set_callbacks came with 1.9")
def test_a_callback_of_scikit_learn_stops_the_fit():
    class Stop:
        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context): ...
        def on_fit_task_end(self, estimator, context):
            return context.task_name == "iteration" and context.task_id == 1

    assert LogisticRegression(tol=0).set_callbacks(Stop()).fit(*problem(3)).n_iter_ == [2]


@BINARY_AND_NOT
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_warm_start_goes_on_from_the_last_fit(K, fit_intercept, solver):
    X, y = problem(K)
    model = LogisticRegression(warm_start=True, fit_intercept=fit_intercept, solver=solver).fit(X, y)
    curve, S = model.loss_curve_, model.predict_proba(X)
    model.fit(X, y)
    assert model.n_iter_ == [0]
    assert model.loss_curve_[0] == pytest.approx(curve[-1], rel=1e-12)
    np.testing.assert_allclose(model.predict_proba(X), S, rtol=1e-12)
    model.set_params(warm_start=False).fit(X, y)
    assert model.loss_curve_[0] == pytest.approx(np.log(K))


def test_warm_start_wants_the_same_shape():
    X, y = problem(3)
    model = LogisticRegression(warm_start=True).fit(X, y)
    with pytest.raises(ValueError, match=r"Initialization coef is of shape \(3, 4\), expected shape \(3, 2\)"):
        model.fit(X[:, :2], y)
    with pytest.raises(ValueError, match=r"expected shape \(1, 4\)"):
        model.fit(X, y > 0)


def test_a_fit_of_no_iterations_stays_at_the_start():
    X, y = problem(3)
    with pytest.warns(ConvergenceWarning):
        model = LogisticRegression(max_iter=0).fit(X, y)
    assert model.n_iter_ == [0] and not model.coef_.any() and len(model.loss_curve_) == 1


# scikit-learn's machinery


def test_a_clone_has_the_parameters():
    model = LogisticRegression(C=3, n_threads=1, callback=print)
    assert clone(model).get_params() == model.get_params()
    assert repr(LogisticRegression(C=3)) == "LogisticRegression(C=3)"
    assert clone(LogisticRegression().fit(*problem(3))).get_params() == LogisticRegression().get_params()


@BINARY_AND_NOT
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_fitted_model_survives_pickling(K, protocol, sparse):
    X, y = problem(K)
    model = LogisticRegression().fit(X, y)
    want = model.predict_proba(X)
    if sparse:
        model.sparsify()
    again = pickle.loads(pickle.dumps(model, protocol))
    np.testing.assert_array_equal(again.predict_proba(X), want)
    assert again.convergence_report_ == model.convergence_report_


def test_a_fitted_model_may_be_mapped_into_memory(tmp_path):
    """joblib's workers get it so, with coefficients that are read-only."""
    joblib = pytest.importorskip("joblib")
    X, y = problem(3)
    model = LogisticRegression(warm_start=True).fit(X, y)
    joblib.dump(model, tmp_path / "model")
    again = joblib.load(tmp_path / "model", mmap_mode="r")
    assert not again.coef_.flags.writeable
    np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
    np.testing.assert_array_equal(again.fit(X, y).coef_, model.fit(X, y).coef_)


def damaged_coefficients(column, kind="csr"):
    """A sparse matrix of the right shape, one of whose indices points elsewhere."""
    matrix = scipy.sparse.csr_matrix(np.ones((3, 4))).asformat(kind)
    (matrix.col if kind == "coo" else matrix.indices)[5] = column
    return matrix


# What a fitted attribute may be edited to, for three classes and four features.
EDITED = {
    "fewer features": ("coef_", np.ones((3, 3))),
    "more features": ("coef_", np.ones((3, 5))),
    "fewer classes": ("coef_", np.ones((2, 4))),
    "more classes": ("coef_", np.ones((4, 4))),
    "one class": ("coef_", np.ones((1, 4))),
    "no class": ("coef_", np.ones((0, 4))),
    "one dimension": ("coef_", np.ones(4)),
    "three dimensions": ("coef_", np.ones((1, 3, 4))),
    "None": ("coef_", None),
    "a list": ("coef_", [[1.0] * 4] * 3),
    "strings": ("coef_", np.full((3, 4), "a")),
    "objects": ("coef_", np.full((3, 4), None)),
    "complex": ("coef_", np.ones((3, 4)) * 1j),
    "masked": ("coef_", np.ma.ones((3, 4))),
    "nan": ("coef_", np.where(np.eye(3, 4, 1), np.nan, 1)),
    "inf": ("coef_", np.where(np.eye(3, 4), -np.inf, 1)),
    "sparse with more features": ("coef_", scipy.sparse.csr_matrix(np.ones((3, 5)))),
    "sparse with nan": ("coef_", scipy.sparse.csr_matrix(np.full((3, 4), np.nan))),
    "sparse with an index too large": ("coef_", damaged_coefficients(10**6)),
    "sparse with a negative index": ("coef_", damaged_coefficients(-(10**6))),
    "COO with an index too large": ("coef_", damaged_coefficients(10**6, "coo")),
    "CSC with an index too large": ("coef_", damaged_coefficients(10**6, "csc")),
    "fewer intercepts": ("intercept_", np.ones(2)),
    "more intercepts": ("intercept_", np.ones(4)),
    "a column of intercepts": ("intercept_", np.ones((3, 1))),
    "a number for the intercepts": ("intercept_", 1.0),
    "no intercept": ("intercept_", None),
    "intercepts of nan": ("intercept_", np.array([1, np.nan, 1])),
    "fewer labels": ("classes_", np.arange(2)),
    "more labels": ("classes_", np.arange(4)),
    "more features than before": ("n_features_in_", 5),
}


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function", "score"])
@pytest.mark.parametrize("name, value", EDITED.values(), ids=EDITED)
def test_a_model_that_was_edited_after_the_fit_raises(name, value, method):
    """What NumPy would broadcast, and memory that nobody has checked, is an error."""
    X, y = problem(3)
    model = LogisticRegression().fit(X, y)
    setattr(model, name, value)
    model = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=r"changed after the fit|out of range|features"):
        getattr(model, method)(*((X, y) if method == "score" else (X,)))


@pytest.mark.parametrize("name", ["nan", "sparse with an index too large", "COO with an index too large", "complex"])
def test_a_fit_does_not_go_on_from_edited_coefficients(name):
    X, y = problem(3)
    model = LogisticRegression(warm_start=True).fit(X, y)
    setattr(model, *EDITED[name])
    for go_on in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"changed after the fit|out of range"):
            go_on(X, y)


@pytest.mark.parametrize("shape", [(2, 4), (0, 4), (4,), (1, 5)], ids=str)
def test_a_model_of_two_classes_that_was_edited_after_the_fit_raises(shape):
    """It has one row of coefficients, which NumPy would broadcast."""
    X, y = problem(2)
    model = LogisticRegression().fit(X, y)
    model.coef_ = np.ones(shape)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(ValueError, match="coef_ was changed after the fit"):
            getattr(model, method)(X)


@BINARY_AND_NOT
@pytest.mark.parametrize("of", [np.float16, np.float32, np.longdouble, ">f8", int, "F", "read-only"])
def test_coefficients_of_the_right_shape_are_used_whatever_holds_them(K, of):
    """Whoever edits a model may leave them in another type or layout, or read-only."""
    X, y = problem(K)
    model = LogisticRegression().fit(X, y)
    model.coef_ = np.round(4 * model.coef_)
    want = model.predict_proba(X)
    model.coef_ = np.asfortranarray(model.coef_) if of in ("F", "read-only") else model.coef_.astype(of)
    model.coef_.flags.writeable = of != "read-only"
    np.testing.assert_allclose(model.predict_proba(X), want, rtol=1e-12)
    assert (model.predict(X) == model.classes_[want.argmax(axis=1)]).all()


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function", "score", "sparsify"]
)
def test_a_model_that_is_not_fitted_raises(method):
    X, y = problem(3)
    arguments = {"score": (X, y), "sparsify": ()}.get(method, (X,))
    with pytest.raises(NotFittedError):
        getattr(LogisticRegression(), method)(*arguments)


def test_metadata_is_routed_in_a_pipeline_and_a_search():
    X, y = problem(3)
    s = np.arange(len(X)) % 3 + 1.0
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"C": [0.01, 1.0]}).fit(X, y, sample_weight=s)
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(X, y, sample_weight=s)
        assert cross_validate(model, X, y, params={"sample_weight": s})["test_score"].mean() > 0.5
    direct = LogisticRegression(**search.best_params_).fit(X, y, sample_weight=s)
    np.testing.assert_array_equal(search.predict_proba(X), direct.predict_proba(X))
    Z = StandardScaler().fit_transform(X)
    np.testing.assert_array_equal(pipeline.predict_proba(X), LogisticRegression().fit(Z, y, s).predict_proba(Z))


def test_skipped_parameter_validation_is_respected():
    with sklearn.config_context(skip_parameter_validation=True):
        LogisticRegression(tol=np.float64(1e-4), verbose=-1).fit(*problem(3))


# penalty and n_jobs, which scikit-learn deprecated in 1.8 and removes in 1.10

deprecates = VERSION >= (1, 8)


def fit_and_warnings(**parameters):
    X, y = problem(3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = tight(**parameters).fit(X, y)
    assert {warning.filename for warning in caught} <= {__file__}
    return model, [(warning.category, str(warning.message)) for warning in caught]


@pytest.mark.parametrize(
    ("parameters", "same_as", "deprecated", "others"),
    [
        ({}, {}, [], []),
        ({"C": np.inf}, {"C": np.inf}, [], []),
        ({"penalty": "l2"}, {}, ["penalty"], []),
        ({"penalty": None}, {"C": np.inf}, ["penalty"], []),
        ({"penalty": None, "C": 4}, {"C": np.inf}, ["penalty"], ["Setting penalty=None will ignore the C"]),
        ({"penalty": "l2", "l1_ratio": 1}, {}, ["penalty"], ["Inconsistent values: penalty=l2 with l1_ratio=1"]),
        ({"penalty": None, "l1_ratio": 0.5}, {"C": np.inf}, ["penalty"], ["l1_ratio parameter is only used when"]),
        ({"l1_ratio": None}, {}, ["l1_ratio=None"], []),
        ({"n_jobs": 2}, {}, ["n_jobs"], []),
        ({"solver": "saga", "random_state": 3, "intercept_scaling": 2}, {}, [], []),
    ],
)
def test_deprecated_parameters_mean_what_they_meant(parameters, same_as, deprecated, others):
    model, caught = fit_and_warnings(**parameters)
    assert_same_model(model, tight(**same_as).fit(*problem(3)), problem(3)[0])
    wanted = [(FutureWarning, f"'{word}'") for word in deprecated if deprecates] + [
        (UserWarning, word) for word in others
    ]
    assert [category for category, _ in caught] == [category for category, _ in wanted]
    for (_, message), (_, start) in zip(caught, wanted, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "sag"])
def test_what_is_refused_is_not_warned_of_besides(solver):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ValueError, match="supports only 'l2'"):
            LogisticRegression(penalty="l1", solver=solver).fit(*problem(3))
    assert [warning.category for warning in caught] == [FutureWarning] * deprecates


# Odd data: finite coefficients, no endless loop

ODD = {
    "separable": (np.r_[-3.0:3:20j][:, np.newaxis], np.arange(20) // 10),
    "separable, 3 classes": (np.r_[-3.0:3:21j][:, np.newaxis], np.arange(21) // 7),
    "constant feature": (np.column_stack([problem(3)[0], np.full(120, 5.0)]), problem(3)[1]),
    "huge constant feature": (np.column_stack([problem(3)[0], np.full(120, 1e6)]), problem(3)[1]),
    "all features constant": (np.ones((12, 3)), np.arange(12) % 3),
    "X of zeros": (np.zeros((12, 3)), np.arange(12) % 2),
    "duplicated features": (np.tile(problem(3)[0], 3), problem(3)[1]),
    "class with one sample": (problem(2)[0], np.where(np.arange(120) == 17, 2, problem(2)[1])),
    "N = 2": (np.array([[0.0, 1.0], [1.0, 0.0]]), np.array([0, 1])),
    "N = K": (np.eye(5), np.arange(5)),
    "D > N": (np.random.default_rng(0).standard_normal((10, 200)), np.arange(10) % 3),
    "D = 1": (problem(3, D=1)[0], problem(3, D=1)[1]),
    "scales": (problem(3)[0] * [1e-8, 1.0, 1e8, 1.0], problem(3)[1]),
    "far from the origin": (problem(3)[0] + 1e4, problem(3)[1]),
    "many classes": (np.random.default_rng(1).standard_normal((90, 3)), np.arange(90) % 30),
}


@pytest.mark.pairs(3)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("C", [1.0, 1e6, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ODD)
def test_odd_data_are_fitted_to_finite_coefficients(name, dtype, C, solver):
    X, y = ODD[name]
    model = LogisticRegression(C=C, solver=solver).fit(X.astype(dtype), y)
    assert np.isfinite(model.coef_).all() and np.isfinite(model.intercept_).all()
    assert np.isfinite(model.predict_proba(X)).all()
    assert model.loss_curve_[-1] <= model.loss_curve_[0]
    if C == 1.0 and dtype == "float64" and name not in ("scales", "huge constant feature"):
        assert model.converged_, model.convergence_report_


def test_parameters_that_have_been_found_valid_stand_for_no_others():
    X, y = ODD["separable"]
    LogisticRegression(fit_intercept=True, max_iter=100).fit(X, y)
    for wrong in ({"fit_intercept": 1}, {"max_iter": 100.0}, {"C": -1.0}, {"n_threads": "1"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            LogisticRegression(**({"fit_intercept": True, "max_iter": 100} | wrong)).fit(X, y)

    class Stricter(LogisticRegression):
        _parameter_constraints = LogisticRegression._parameter_constraints | {"C": [None]}

    with pytest.raises(ValueError, match="C"):
        Stricter(fit_intercept=True, max_iter=100).fit(X, y)


@pytest.mark.parametrize("name", ["separable", "separable, 3 classes"])
def test_separable_data_without_penalty_converge_quietly(name):
    X, y = ODD[name]
    model = LogisticRegression(C=np.inf).fit(X, y)
    assert "the classes are separated" in model.convergence_report_
    assert "separated" not in LogisticRegression().fit(X, y).convergence_report_
    assert model.converged_ and model.score(X, y) == 1


@pytest.mark.parametrize("D", [4, 600, 1500])
@pytest.mark.parametrize("scale, dtype", [(1e200, "float64"), (1e300, "float64"), (1e36, "float32")])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_data_whose_squares_overflow_are_fitted_or_warned_of(solver, scale, dtype, D):
    """A fit that stays at 0 says why: it is never silent, nor is there a stray RuntimeWarning."""
    X, y = problem(3, D=D)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = LogisticRegression(solver=solver).fit((X * scale).astype(dtype), y)
    assert np.isfinite(model.coef_).all()
    if model.coef_.any():
        assert model.loss_curve_[-1] < model.loss_curve_[0]
    else:
        assert [warning.category for warning in caught] == [ConvergenceWarning] and "scale X" in str(caught[0].message)


@pytest.mark.parametrize(
    "y",
    [
        np.array([3, 1, 1, 2], np.int8),
        np.array([-5, 70, -5, 0], np.int16),
        np.array([2**63, 2**63 + 3, 2**63], np.uint64),
        np.array([-(2**63), 2**62, 0]),
        np.array([True, False, True]),
        np.array([0, 1, 0, 1]),
        np.array([1.0, 2.0, 1.0]),
        np.array(["b", "a", "b"]),
    ],
    ids=lambda y: f"{y.dtype} {y[0]}",
)
@pytest.mark.filterwarnings("ignore:The number of unique classes")
def test_labels_are_numbered_as_by_unique(y):
    """They are although integers close together are counted instead."""
    y = np.repeat(y, 3)
    for got, want in zip(encoded(y), np.unique(y, return_inverse=True), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype


# Bad input

X3, y3 = problem(3)
bad = X3.copy()
bad[5, 1] = np.nan
infinite = X3.copy()
infinite[5, 1] = np.inf
negative = np.ones(120)
negative[7] = -1
soft = np.full((120, 3), 1 / 3)


@pytest.mark.parametrize(
    ("parameters", "arguments", "error", "message"),
    [
        ({}, (bad, y3), ValueError, "Input X contains NaN"),
        ({}, (infinite, y3), ValueError, "Input X contains infinity"),
        ({}, (infinite, y3 > 0), ValueError, "Input X contains infinity"),
        ({}, (scipy.sparse.csr_array(bad), y3 > 0), ValueError, "Input X contains NaN"),
        ({"solver": "newton-cg"}, (bad, y3 > 0), ValueError, "Input X contains NaN"),
        ({}, (infinite, y3 > 0, (np.arange(120) != 5) + 0.0), ValueError, "Input X contains infinity"),
        ({}, (scipy.sparse.csr_array(bad), y3), ValueError, "Input X contains NaN"),
        ({}, (X3, np.where(y3 == 0, np.nan, y3)), ValueError, "Input y contains NaN"),
        ({}, (X3, y3 + 0.5), ValueError, "Unknown label type: continuous"),
        ({}, (X3, np.zeros(120)), ValueError, "at least 2 classes in the data, but the data contains only one class"),
        ({}, (X3, y3[:-1]), ValueError, "inconsistent numbers of samples"),
        ({}, (X3, None), ValueError, "requires y to be passed"),
        ({}, (X3, np.eye(3, dtype=int)[y3]), ValueError, "y should be a 1d array"),
        ({}, (X3, [[1, 2], [3]] * 60), ValueError, ""),
        ({}, (X3[:0], y3[:0]), ValueError, "0 sample"),
        ({}, (X3[0], y3), ValueError, "Expected 2D array, got 1D array instead"),
        ({}, (X3 + 1j, y3), ValueError, "Complex data not supported"),
        ({}, (X3, y3, np.zeros(120)), ValueError, "at least one non-zero number"),
        ({}, (X3, y3, negative), ValueError, "Negative values in data passed to `sample_weight`"),
        ({}, (X3, y3, np.full(120, np.nan)), ValueError, "Input sample_weight contains NaN"),
        ({}, (X3, y3, np.ones(119)), ValueError, "sample_weight.shape == (119,), expected (120,)"),
        ({}, (X3, -soft), ValueError, "y[0, 0] = -0.333"),
        ({}, (X3, soft * np.nan), ValueError, "Input y contains NaN"),
        ({}, (X3, soft[:-1]), ValueError, "inconsistent numbers of samples"),
        ({"class_weight": "balanced"}, (X3, soft), ValueError, "class_weight needs labels"),
        ({"class_weight": {9: 2.0}}, (X3, y3), ValueError, "class_weight"),
        ({"class_weight": {0: 0, 1: 0, 2: 0}}, (X3, y3), ValueError, "at least one non-zero number"),
        ({"solver": "liblinear"}, (X3, y3), ValueError, "does not support multiclass classification"),
        ({"solver": "liblinear", "C": np.inf}, (X3, y3), ValueError, "not supported for the liblinear solver"),
        ({"dual": True}, (X3, y3), ValueError, "Solver lbfgs supports only dual=False, got dual=True"),
        ({"l1_ratio": 1}, (X3, y3), ValueError, "Solver lbfgs supports only 'l2' or None penalties, got l1 penalty"),
        ({"l1_ratio": 0.5, "solver": "liblinear"}, (X3, y3), ValueError, "Only 'saga' solver supports elasticnet"),
        ({"n_threads": 0}, (X3, y3), ValueError, "n_threads"),
        ({"C": 0}, (X3, y3), ValueError, "The 'C' parameter of LogisticRegression"),
        ({"C": -1.0}, (X3, y3), ValueError, "The 'C' parameter of LogisticRegression"),
        ({"C": "1"}, (X3, y3), ValueError, "The 'C' parameter of LogisticRegression"),
        ({"tol": -1e-4}, (X3, y3), ValueError, "The 'tol' parameter of LogisticRegression"),
        ({"max_iter": -1}, (X3, y3), ValueError, "The 'max_iter' parameter of LogisticRegression"),
        ({"max_iter": 1.5}, (X3, y3), ValueError, "The 'max_iter' parameter of LogisticRegression"),
        ({"solver": "adagrad"}, (X3, y3), ValueError, "The 'solver' parameter of LogisticRegression"),
        ({"penalty": "none"}, (X3, y3), ValueError, "The 'penalty' parameter of LogisticRegression"),
        ({"class_weight": "equal"}, (X3, y3), ValueError, "The 'class_weight' parameter of LogisticRegression"),
        ({"callback": 3}, (X3, y3), ValueError, "The 'callback' parameter of LogisticRegression"),
        ({"n_threads": 1.5}, (X3, y3), ValueError, "The 'n_threads' parameter of LogisticRegression"),
    ],
)
def test_an_estimator_names_what_it_refuses(parameters, arguments, error, message):
    with pytest.raises(error) as caught:
        LogisticRegression(**parameters).fit(*arguments)
    assert message in str(caught.value)


def damaged(kind):
    """What SciPy would convert, or multiply, without a look at its indices."""
    X = scipy.sparse.csr_array(X3).asformat(kind)
    if kind == "lil":
        X.data[1] = [1.0] * 20
    elif kind == "coo":
        X.col[7] = 10**6
    else:
        X.indices[7] = 10**6
    return X


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil"])
@pytest.mark.parametrize(
    "call",
    [
        lambda X: LogisticRegression().fit(X, y3),
        lambda X: LogisticRegression().partial_fit(X, y3, classes=range(3)),
        lambda X: LogisticRegression().fit(X3, y3).partial_fit(X, y3),
        *(
            lambda X, method=method: getattr(LogisticRegression().fit(X3, y3), method)(X)
            for method in ("predict", "predict_proba", "predict_log_proba", "decision_function")
        ),
        lambda X: LogisticRegression().fit(X3, y3).score(X, y3),
        lambda X: LogisticRegression().fit(from_iterable(lambda: [(X, y3)])),
    ],
    ids=["fit", "partial_fit", "more", "predict", "proba", "log_proba", "scores", "score", "chunks"],
)
def test_damaged_sparse_data_are_refused(call, kind):
    with pytest.raises(ValueError, match=r"X\.(indices|col|rows)\[\d+\] (= 1000000 is out of range|has 4 columns)"):
        call(damaged(kind))


def test_masked_entries_are_refused():
    """scikit-learn reads what is behind the mask."""
    masked = np.ma.array(X3, mask=X3 > 2)
    model = LogisticRegression().fit(np.ma.array(X3), y3)  # nothing is
    for name, call in {
        "X": lambda: LogisticRegression().fit(masked, y3),
        "y": lambda: LogisticRegression().fit(X3, np.ma.array(y3, mask=y3 == 1)),
        "sample_weight": lambda: LogisticRegression().fit(X3, y3, np.ma.array(negative, mask=negative < 0)),
        "X of proba": lambda: model.predict_proba(masked),
        "X of scores": lambda: model.decision_function(masked),
        "X of more": lambda: model.partial_fit(masked, y3),
    }.items():
        with pytest.raises(TypeError, match=f"^{name.split()[0]} has masked entries"):
            call()


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba", "decision_function"])
def test_predictions_check_their_input(method):
    predict = getattr(LogisticRegression().fit(X3, y3), method)
    for X, message in [
        (X3[:, :2], "X has 2 features, but LogisticRegression is expecting 4"),
        (bad, "contains NaN"),
        (scipy.sparse.csr_array(bad), "contains NaN"),
        (X3[0], "Expected 2D array"),
        (X3[:0], "0 sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            predict(X)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("K", [2, 3])
def test_an_interrupted_fit_keeps_its_best_coefficients(K, error):
    X, y = problem(K)
    seen = []

    def callback(iteration, value, gradient, w):
        if iteration == 3:
            raise error
        seen.append((value, w))

    model = LogisticRegression(callback=callback)
    with pytest.raises(error):
        model.fit(X, y)
    best = model._coefficients(min(seen, key=lambda pair: pair[0])[1], X.dtype)
    np.testing.assert_array_equal(model.coef_, best["coef_"])
    np.testing.assert_array_equal(model.intercept_, best["intercept_"])
    assert model.predict(X).shape == y.shape and not model.converged_ and model.n_iter_ == [2]
    assert error.__name__ in model.convergence_report_


def test_a_fit_that_is_broken_off_ends_where_the_objective_was_least():
    """That need not be the last point: a step by slopes may lead up by rounding."""
    course, points = Course(np.zeros(2)), np.arange(6.0).reshape(3, 2)
    assert not course.broken_off(KeyboardInterrupt()).w.any()
    descent = Descent(SoftmaxObjective(np.eye(2), [0, 1], fit_intercept=False), np.zeros(4), 1e-4, 100, None)
    course.begin(descent)
    descent.least = np.inf  # what follows is made up
    for value, w in zip([2.0, 1.0, 1.5], points, strict=True):
        descent.move(w, (value, np.zeros(4)), value, np.zeros(4))
    solution = course.broken_off(KeyboardInterrupt())
    np.testing.assert_array_equal(solution.w, points[1])
    assert solution.n_iter == 3 and solution.curve.tolist() == [2.0, 1.0, 1.5] and not solution.converged


def test_observers_behind_one_that_stops_are_told_too():
    told = []
    with observing(lambda *_: True, 0, 1, lambda: False, [lambda *now: told.append(now)]) as tell:
        assert tell(1, 0.5, 0.1, np.zeros(2))
    assert len(told) == 1


@pytest.mark.parametrize("parameters", [{"checkpoint": "state.npz"}, {"early_stopping": True}])
def test_options_without_effect_are_told(parameters):
    with pytest.warns(UserWarning, match=f"{next(iter(parameters))} has no effect with solver='lbfgs'") as caught:
        LogisticRegression(**parameters).fit(*problem(3))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "call",
    [
        lambda model, X, y: model.fit(X, y),
        lambda model, X, y: model.fit(from_iterable(lambda: [(X, y)])),
        lambda model, X, y: model.partial_fit(X, y, classes=np.unique(y)),
        lambda model, X, y: model.inference(X, y),
    ],
    ids=["fit", "chunks", "partial_fit", "inference"],
)
def test_warnings_name_the_line_of_the_call(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(LogisticRegression(penalty=None, C=2.0, max_iter=1), *problem(3))
    assert "ignore the C" in str([warning.message for warning in caught])
    assert {warning.filename for warning in caught} == {__file__}


def test_score_of_probabilities_is_that_of_the_largest():
    X, y = problem(3)
    Y = np.eye(3)[y] * 0.8 + 0.1
    model = LogisticRegression().fit(X, Y)
    assert model.score(X, Y) == model.score(X, y) > 0.5
    with pytest.raises(ValueError, match="y has 2 columns, but the model has 3 classes"):
        model.score(X, Y[:, :2])


def test_a_progress_bar_says_that_the_fit_converged(capsys):
    model = LogisticRegression(verbose=1).fit(*problem(3))
    assert model.converged_ and "converged" in capsys.readouterr().out
    with pytest.warns(ConvergenceWarning):
        LogisticRegression(verbose=1, max_iter=1).fit(*problem(3))
    assert "converged" not in capsys.readouterr().out


def test_rows_that_lie_apart_are_fitted_where_they_are(dtype):
    X, y = datasets.load_iris(return_X_y=True)
    wide = np.hstack([X, X]).astype(dtype)
    checked = {"class_weight": None, "solver": "lbfgs", "finite": False}
    assert check_data(LogisticRegression(), wide[:, :4], y, None, **checked).rows.X.base is wide
    got, want = (LogisticRegression().fit(given, y) for given in (wide[:, :4], X.astype(dtype)))
    np.testing.assert_array_equal(got.coef_, want.coef_)
