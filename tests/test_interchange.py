"""To scikit-learn and back: what is taken over is taken over to the bit."""

import copy
import doctest

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

pytest.importorskip("sklearn")
import sklearn.linear_model
from sklearn.datasets import load_iris

from softmax_ext import linear_model
from softmax_ext.linear_model import _interchange
from softmax_ext.linear_model._interchange import FITTED

NEW = {"l1_ratios": (0,), "scoring": "accuracy", "use_legacy_attributes": False}
OLD = NEW | {"use_legacy_attributes": True}
KINDS = {
    "plain": ("LogisticRegression", {"C": 3.0, "class_weight": {0: 2.0}, "solver": "newton-cg", "random_state": 4}),
    "without intercept": ("LogisticRegression", {"fit_intercept": False}),
    "cross-validated": ("LogisticRegressionCV", NEW | {"Cs": 3, "cv": 3}),
    "by classes": ("LogisticRegressionCV", OLD | {"Cs": [0.1, 1.0], "cv": 3}),
}


@pytest.fixture(params=KINDS)
def kind(request):
    name, parameters = KINDS[request.param]
    known = getattr(sklearn.linear_model, name)().get_params()  # before 1.8 there was no use_legacy_attributes
    return name, {key: value for key, value in parameters.items() if key in known}


def iris(K, dtype, frame):
    X, y = load_iris(return_X_y=True)
    X, y = X[y < K].astype(dtype), y[y < K]
    return (pd.DataFrame(X, columns=list("abcd")) if frame else X), y


def assert_same_fit(one, other):
    assert [name for name in FITTED if hasattr(one, name)] == [name for name in FITTED if hasattr(other, name)]
    for name in FITTED:
        if hasattr(one, name):
            np.testing.assert_equal(getattr(one, name), getattr(other, name))
            assert not isinstance(getattr(one, name), np.ndarray) or not np.shares_memory(
                getattr(one, name), getattr(other, name)
            )
    assert one.coef_.dtype == other.coef_.dtype


@pytest.mark.parametrize("frame", [False, True])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("K", [2, 3])
def test_an_estimator_comes_back_from_scikit_learn_as_it_was(kind, K, dtype, frame):
    name, parameters = kind
    X, y = iris(K, dtype, frame)
    ours = getattr(linear_model, name)(**parameters).fit(X, y)
    theirs = ours.to_sklearn()
    assert type(theirs) is getattr(sklearn.linear_model, name)
    assert_same_fit(ours, theirs)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(theirs.predict_proba(X), ours.predict_proba(X), rtol=200 * eps, atol=eps)
    np.testing.assert_array_equal(theirs.predict(X), ours.predict(X))
    again = type(ours).from_sklearn(theirs)
    assert type(again) is type(ours) and again.get_params() == ours.get_params()
    assert_same_fit(again, ours)
    np.testing.assert_array_equal(again.predict_proba(X), ours.predict_proba(X))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("K", [2, 3])
def test_an_estimator_of_scikit_learn_comes_back_as_it_was(kind, K):
    name, parameters = kind
    X, y = iris(K, "f8", True)
    theirs = getattr(sklearn.linear_model, name)(**parameters).fit(X, y)
    before = copy.deepcopy(theirs.__dict__)
    ours = getattr(linear_model, name).from_sklearn(theirs)
    np.testing.assert_equal(theirs.__dict__, before)
    assert_same_fit(ours, theirs)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12, atol=1e-15)
    again = ours.to_sklearn()
    assert again.get_params() == theirs.get_params()
    assert_same_fit(again, theirs)
    assert np.isfinite(
        ours.set_params(**({"warm_start": True} if name == "LogisticRegression" else {})).fit(X, y).coef_
    ).all()


def test_what_scikit_learn_has_not_is_left_behind():
    ours = linear_model.LogisticRegression(
        solver="adam", n_threads=1, label_smoothing=0.1, random_state=0, C=7, max_iter=2000
    )
    theirs = ours.to_sklearn()
    assert theirs.solver == "lbfgs" and theirs.C == 7 and not hasattr(theirs, "coef_")
    X, y = iris(3, "f8", False)
    theirs.fit(X, y).predict(X)
    np.testing.assert_array_equal(ours.fit(X, y).to_sklearn().predict(X), ours.predict(X))
    chosen = linear_model.LogisticRegressionCV(refit="one_se", **NEW).to_sklearn()
    assert chosen.refit is True


def test_sparse_coefficients_stay_sparse():
    X, y = iris(3, "f8", False)
    ours = linear_model.LogisticRegression().fit(X, y)
    expected = ours.predict(X)
    theirs = ours.sparsify().to_sklearn()
    assert scipy.sparse.issparse(theirs.coef_) and theirs.coef_ is not ours.coef_
    np.testing.assert_array_equal(theirs.predict(X), expected)


def test_a_subclass_stays_one():
    class Mine(linear_model.LogisticRegression):
        pass

    assert type(Mine.from_sklearn(Mine(C=2).to_sklearn())) is Mine


@pytest.mark.parametrize("name", ["LogisticRegression", "LogisticRegressionCV"])
def test_other_classes_are_refused(name):
    with pytest.raises(TypeError, match=rf"must be a sklearn.linear_model.{name}, got .*Ridge"):
        getattr(linear_model, name).from_sklearn(sklearn.linear_model.Ridge())


@pytest.mark.parametrize("K, changed", [(3, {"solver": "liblinear"}), (3, {"multi_class": "ovr"}), (2, {"multi_class":
                         "multinomial"})])  # fmt: skip
def test_other_models_are_refused(K, changed):
    """Today's scikit-learn does not fit such models any more, but unpickles them."""
    X, y = iris(K, "f8", False)
    theirs = linear_model.LogisticRegression().fit(X, y).to_sklearn()
    vars(theirs).update(changed)
    with pytest.raises(ValueError, match=f"fitted to {K} classes: that is another model"):
        linear_model.LogisticRegression.from_sklearn(theirs)


def test_examples_of_interchange_run():
    assert doctest.testmod(_interchange) == (0, 7)
