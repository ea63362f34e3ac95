"""Offsets: what is added to the scores, with the rows wherever these go."""

import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.model_selection import cross_validate

import softmax_ext
from softmax_ext import loss_grad, predict_proba, reference
from softmax_ext._inputs.rows import Rows
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import BinomialObjective, SoftmaxObjective

# In slices along lanes and along rows, tiles copied and not, owned classes.
SHAPES = [(5, 1, 2), (37, 23, 5), (701, 30, 7), (20011, 12, 2), (1003, 40, 150), (333, 1024, 1100)]


def problem(N, D, K, dtype=np.float64):
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D)).astype(dtype)
    W, b, offset = rng.standard_normal((K, D)) / np.sqrt(D), rng.standard_normal(K), rng.standard_normal((N, K))
    return X, rng.integers(0, K, N), W, b, offset


def stored(X, storage):
    return scipy.sparse.csr_array(X) if storage == "csr" else X


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_functions_are_those_of_the_reference(isa, shape, dtype, storage):
    X, y, W, b, offset = problem(*shape, dtype)
    close = {"rtol": 0, "atol": 3e-6 if dtype == np.float32 else 1e-14}
    want, X = reference.loss_grad(X, y, W, b, offset=offset), stored(X, storage)
    found = loss_grad(X, y, W, b, offset=offset)
    assert found.loss == pytest.approx(want.loss, rel=1e-5 if dtype == np.float32 else 1e-13)
    np.testing.assert_allclose(found.dW, want.dW, **close)
    np.testing.assert_allclose(found.db, want.db, **close)
    np.testing.assert_allclose(
        predict_proba(X, W, b, offset=offset), reference.predict_proba(X, W, b, offset=offset), **close
    )
    if shape[2] == 2:
        of_class_1 = offset[:, 1] - offset[:, 0]
        np.testing.assert_allclose(loss_grad(X, y, W, b, offset=of_class_1).dW, want.dW, **close)


def test_the_reference_adds_it_as_a_column_with_the_weight_1():
    X, y, W, b, offset = problem(37, 4, 3)
    wide = np.hstack([X, offset])
    want = reference.loss_grad(wide, y, np.hstack([W, np.eye(3)]), b)
    found = reference.loss_grad(X, y, W, b, offset=offset)
    assert found.loss == pytest.approx(want.loss, rel=1e-14)
    np.testing.assert_allclose(found.dW, want.dW[:, :4], rtol=1e-12)


def test_its_layout_and_type_change_no_bit(isa):
    X, y, W, b, offset = problem(20011, 12, 3, np.float32)
    offset = offset.astype(np.float32)
    want = loss_grad(X, y, W, b, offset=offset)
    for other in (
        np.asfortranarray(offset),
        offset.astype(np.float64),
        offset[::-1].copy()[::-1],
        offset.astype(">f4"),
    ):
        found = loss_grad(X, y, W, b, offset=other)
        assert found.loss == want.loss and found.dW.tobytes() == want.dW.tobytes()
    zero = loss_grad(X, y, W, b, offset=np.zeros_like(offset)), loss_grad(X, y, W, b)
    assert zero[0].loss == zero[1].loss and zero[0].dW.tobytes() == zero[1].dW.tobytes()


def test_minus_infinity_takes_a_class_out():
    X, _, W, b, offset = problem(37, 4, 3)
    offset[:, 2] = -np.inf
    S = predict_proba(X, W, b, offset=offset)
    np.testing.assert_array_equal(S[:, 2], 0)
    np.testing.assert_allclose(S[:, :2], predict_proba(X, W[:2], b[:2], offset=offset[:, :2]), rtol=1e-14)


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
def test_objectives(monkeypatch, compiled, Objective, storage):
    """All that an objective tells is that of the extra columns of offsets, whose weights are 1."""
    if not compiled:
        monkeypatch.setattr(softmax_ext._core.dispatch, "kernels", None)
    K = 2 if Objective is BinomialObjective else 3
    X, y, _, _, offset = problem(203, 5, K)
    ours = Objective(stored(X, storage), y, l2=0.1, offset=offset)
    fixed = offset[:, 1:] - offset[:, :1] if K == 2 else offset
    theirs = Objective(np.hstack([X, fixed]), y, l2=0.0)
    layout, wide = ours.parameters, theirs.parameters
    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((2, ours.size))
    extra = np.eye(layout.count)
    at = wide.join(np.hstack([layout.weights(w), extra]), layout.intercepts(w))
    along = wide.join(np.hstack([layout.weights(v), 0 * extra]), layout.intercepts(v))
    few = np.concatenate([wide.weights(np.arange(wide.size))[:, :5].ravel(), wide.intercepts(np.arange(wide.size))])
    l2 = np.zeros(ours.size)
    layout.weights(l2)[:] = 0.1
    close = {"rtol": 1e-10, "atol": 1e-12}
    value, grad = ours.value_and_grad(w)
    assert value == pytest.approx(theirs.value(at) + 0.5 * l2 @ w**2, rel=1e-12) == ours.value(w)
    np.testing.assert_allclose(grad, theirs.value_and_grad(at)[1][few] + l2 * w, **close)
    np.testing.assert_allclose(ours.hessp(w, v), theirs.hessp(at, along)[few] + l2 * v, **close)
    np.testing.assert_allclose(ours.hessian(w), theirs.hessian(at)[np.ix_(few, few)] + np.diag(l2), **close)
    np.testing.assert_allclose(ours.evaluate(w).losses, theirs.evaluate(at).losses, **close)
    if compiled:
        H = ours.hessian(w)
        assert np.linalg.norm(ours.preconditioner(w)(H @ v) - v) < 0.7 * np.linalg.norm(v) or K > 2


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
def test_a_fit_takes_out_what_the_offset_explains(K, standardize, solver):
    X, y, W, _, _ = problem(3001, 6, K)
    known = X[:, :2] @ W[:, :2].T
    model = LogisticRegression(C=np.inf, tol=1e-9, solver=solver, standardize=standardize)
    whole = clone(model).fit(X, y)
    shift = X @ (whole.coef_ if K > 2 else np.vstack([0 * whole.coef_, whole.coef_])).T
    rest = clone(model).fit(X, y, offset=shift)
    np.testing.assert_allclose(rest.coef_, 0, atol=1e-6)
    np.testing.assert_allclose(rest.predict_proba(X, offset=shift), whole.predict_proba(X), atol=1e-7)
    found = clone(model).fit(X, y, offset=known if K > 2 else known[:, 1] - known[:, 0])
    gain = found.coef_ - whole.coef_
    expected = np.zeros_like(gain)
    expected[:, :2] = -(W[:, :2] - W[:, :2].mean(axis=0)) if K > 2 else W[:1, :2] - W[1:, :2]
    np.testing.assert_allclose(gain, expected, atol=1e-5)
    Z = found.decision_function(X, offset=known)
    np.testing.assert_allclose(found.predict_log_proba(X, offset=known), np.log(found.predict_proba(X, offset=known)))
    np.testing.assert_array_equal(found.predict(X, offset=known), Z > 0 if K == 2 else Z.argmax(axis=1))


def test_it_is_that_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    X, y, _, _, offset = problem(501, 4, 2)
    want = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial(), offset=offset[:, 0]).fit(tol=1e-12)
    found = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y, offset=offset[:, 0])
    np.testing.assert_allclose(np.append(found.intercept_, found.coef_), want.params, rtol=1e-6)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_mini_batches_take_their_own(K, solver):
    """Rows in another order are other batches, but the data are the same: the fits come near one another."""
    X, y, W, _, _ = problem(2000, 4, K)
    offset = X @ W.T
    options = {"solver": solver, "epochs": 30, "random_state": 0, "C": np.inf}
    if solver == "adam":
        options["learning_rate"] = 0.05
    found = LogisticRegression(**options).fit(X, y, offset=offset)
    want = LogisticRegression(C=np.inf).fit(X, y, offset=offset)
    np.testing.assert_allclose(found.coef_, want.coef_, atol=0.1)


def test_rows_and_their_offsets_stay_together():
    rows = Rows(np.arange(10.0).reshape(5, 2), np.arange(5), offset=np.arange(5.0)[:, np.newaxis])
    for index in (slice(1, 4), np.array([4, 0])):
        np.testing.assert_array_equal(rows[index].offset[:, 0], rows[index].y)
    np.testing.assert_array_equal(Rows.joined([rows[:2], rows[2:]]).offset, rows.offset)
    assert rows.curving().offset is rows.offset


def test_scikit_learn_routes_it():
    X, y, _, _, offset = problem(203, 4, 3)
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(offset=True)
        found = cross_validate(model, X, y, params={"offset": offset}, cv=2, return_estimator=True)
    first = found["estimator"][0]
    assert not np.allclose(
        first.coef_, cross_validate(LogisticRegression(), X, y, cv=2, return_estimator=True)["estimator"][0].coef_
    )


def test_what_is_no_offset_is_refused():
    X, y, W, b, offset = problem(37, 4, 3)
    calls = {
        r"offset must be \(N, K\) = \(37, 3\), got shape \(37,\)": lambda: loss_grad(X, y, W, b, offset=offset[:, 0]),
        r"got shape \(36, 3\)": lambda: predict_proba(X, W, b, offset=offset[1:]),
        "or \\(37,\\) of class 1": lambda: BinomialObjective(X, y % 2, offset=offset),
        "offset contains NaN": lambda: LogisticRegression().fit(X, y, offset=np.where(offset > 2, np.nan, offset)),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="offset must hold real numbers"):
        loss_grad(X, y, W, b, offset=offset.astype(str))


def test_the_hessian_of_many_floats_of_two_classes(isa):
    X, y, W, b, offset = problem(50021, 7, 2)
    w = np.append(W[1], b[1])
    ours = BinomialObjective(X.astype(np.float32), y, offset=offset)
    assert ours._centre is not None
    want = BinomialObjective(X, y, offset=offset).hessian(w)
    np.testing.assert_allclose(ours.hessian(w), want, rtol=1e-4, atol=1e-6)
    assert abs(BinomialObjective(X, y).hessian(w) / want - 1).max() > 0.01
