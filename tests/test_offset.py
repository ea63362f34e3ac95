"""Offsets, which are added to the scores, and stay with their rows wherever these go."""

import numpy as np
import pytest
import scipy.sparse
import sklearn
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import get_scorer, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import softmax_ext
from softmax_ext import chunks, loss_grad, optim, predict_proba, reference
from softmax_ext._inputs.rows import Rows
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path
from softmax_ext.objective import BinomialObjective, SoftmaxObjective

# In slices along lanes and along rows, tiles copied and not, owned classes.
SHAPES = [(5, 1, 2), (37, 23, 5), (701, 30, 7), (20011, 12, 2), (1003, 40, 150), (333, 1024, 1100)]


def problem(N, D, K, dtype=np.float64):
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D)).astype(dtype)
    W, b, offset = rng.standard_normal((K, D)) / np.sqrt(D), rng.standard_normal(K), rng.standard_normal((N, K))
    return X, rng.integers(0, K, N), W, b, offset


def explained(N, D, K):
    """Return samples, labels that depend on them and on an offset, and the offset as a user gives it."""
    X, _, W, b, offset = problem(N, D, K)
    Z = X @ W.T + b + 2 * offset
    y = (Z + np.random.default_rng(0).gumbel(size=Z.shape)).argmax(axis=1)
    return X, y, 2 * (offset if K > 2 else offset[:, 1] - offset[:, 0])


def stored(X, storage):
    return scipy.sparse.csr_array(X) if storage == "csr" else X


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_functions_with_offsets_are_those_of_the_reference(isa, shape, dtype, storage):
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


def test_the_reference_adds_offsets_as_a_column_with_the_weight_1():
    X, y, W, b, offset = problem(37, 4, 3)
    wide = np.hstack([X, offset])
    want = reference.loss_grad(wide, y, np.hstack([W, np.eye(3)]), b)
    found = reference.loss_grad(X, y, W, b, offset=offset)
    assert found.loss == pytest.approx(want.loss, rel=1e-14)
    np.testing.assert_allclose(found.dW, want.dW[:, :4], rtol=1e-12)


def test_the_offsets_layout_and_type_change_no_bit(isa):
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


def test_an_offset_of_minus_infinity_takes_a_class_out():
    X, _, W, b, offset = problem(37, 4, 3)
    offset[:, 2] = -np.inf
    S = predict_proba(X, W, b, offset=offset)
    np.testing.assert_array_equal(S[:, 2], 0)
    np.testing.assert_allclose(S[:, :2], predict_proba(X, W[:2], b[:2], offset=offset[:, :2]), rtol=1e-14)


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "reference"])
def test_objectives_take_offsets_as_columns_with_the_weight_1(monkeypatch, compiled, Objective, storage):
    """All results of an objective are those of one with the offsets as extra columns whose weights are 1."""
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


def test_a_fit_with_an_offset_is_that_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    X, y, _, _, offset = problem(501, 4, 2)
    want = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial(), offset=offset[:, 0]).fit(tol=1e-12)
    found = LogisticRegression(C=np.inf, tol=1e-10).fit(X, y, offset=offset[:, 0])
    np.testing.assert_allclose(np.append(found.intercept_, found.coef_), want.params, rtol=1e-6)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_mini_batches_take_the_offsets_of_their_rows(K, solver):
    """Rows in another order make other batches, but the fits to the same data end near one another."""
    X, y, W, _, _ = problem(2000, 4, K)
    offset = X @ W.T
    options = {"solver": solver, "epochs": 30, "random_state": 0, "C": np.inf}
    if solver == "adam":
        options["learning_rate"] = 0.05
    found = LogisticRegression(**options).fit(X, y, offset=offset)
    want = LogisticRegression(C=np.inf).fit(X, y, offset=offset)
    np.testing.assert_allclose(found.coef_, want.coef_, atol=0.1)


@pytest.mark.parametrize("K", [2, 3])
def test_a_step_is_down_the_gradient_of_the_reference(K):
    X, y, offset = explained(203, 4, K)
    dW, db = reference.loss_grad(X, y, np.zeros((K, 4)), np.zeros(K), offset=offset)[1:]
    for given in (offset, offset[:, np.newaxis]) if K == 2 else (offset,):
        found = optim.fit(X, y, optim.sgd(0.1), K=K, epochs=1, batch_size=203, offset=given)
        np.testing.assert_allclose(found.W, -0.1 * dW, rtol=1e-12)
        np.testing.assert_allclose(found.b, -0.1 * db, rtol=1e-12)
    # Adam's first step goes as far in each coordinate.
    first = LogisticRegression(batch_size=203, C=np.inf).partial_fit(X, y, classes=range(K), offset=offset)
    if K == 2:
        np.testing.assert_array_equal(np.sign(first.coef_), -np.sign(dW[1:]))


@pytest.mark.parametrize("K", [2, 3])
def test_a_stream_takes_the_offsets_of_each_batch(K):
    X, y, offset = explained(3000, 4, K)
    stream = LogisticRegression(C=np.inf, learning_rate=0.03)
    for _ in range(15):
        for rows in np.split(np.arange(3000), 10):
            stream.partial_fit(X[rows], y[rows], classes=range(K), offset=offset[rows])
    want = LogisticRegression(C=np.inf).fit(X, y, offset=offset)
    without = LogisticRegression(C=np.inf).fit(X, y)
    assert np.linalg.norm(stream.coef_ - want.coef_) < 0.4 * np.linalg.norm(without.coef_ - want.coef_)
    assert stream.score(X, y, offset=offset) == np.mean(stream.predict(X, offset) == y)
    with pytest.raises(ValueError, match=r"offset must be \(N, K\)"):
        stream.partial_fit(X, y, offset=offset[1:])


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("K", [2, 3])
def test_cross_validation_takes_the_offsets_of_each_fold(K, standardize, storage):
    X, y, offset = explained(301, 4, K)
    folds = [(np.arange(301) % 3 != f, np.flatnonzero(np.arange(301) % 3 == f)) for f in range(3)]
    X = stored(X, storage)
    options = {"Cs": [0.01, 1.0], "l1_ratios": (0,), "use_legacy_attributes": False, "tol": 1e-9, "cv": folds}

    def whoever(model, X, y):
        return -log_loss(y, model.predict_proba(X))

    def asked(scoring):
        model = LogisticRegressionCV(**options, scoring=scoring, standardize=standardize)
        return model.fit(X, y, offset=offset)

    found, own = asked("neg_log_loss"), asked(whoever)
    np.testing.assert_allclose(found.scores_, own.scores_, rtol=1e-12)
    plain = LogisticRegression(tol=1e-9, standardize=standardize)
    for f, (train, test) in enumerate(folds):
        for j, C in enumerate(options["Cs"]):
            if standardize:  # with the moments of all rows
                continue
            one = clone(plain).set_params(C=C).fit(X[train], y[train], offset=offset[train])
            np.testing.assert_allclose(found.coefs_paths_[f, 0, j, :, :4], one.coef_, atol=1e-6)
            S = one.predict_proba(X[test], offset=offset[test])
            assert found.scores_[f, 0, j] == pytest.approx(-log_loss(y[test], S), abs=1e-6)
    whole = plain.set_params(C=found.C_).fit(X, y, offset=offset)
    np.testing.assert_allclose(found.coef_, whole.coef_, atol=1e-6)
    assert found.score(X, y, offset=offset) == pytest.approx(-log_loss(y, whole.predict_proba(X, offset)), abs=1e-6)
    right = asked("accuracy")
    assert right.score(X, y, offset=offset) == whole.set_params(C=right.C_).fit(X, y, offset=offset).score(
        X, y, offset=offset
    )


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("K", [2, 3])
def test_a_path_with_offsets_is_certified(K, l1_ratio, intercept):
    X, y, offset = explained(301, 4, K)
    s = np.random.default_rng(0).exponential(size=301)
    options = {"l1_ratio": l1_ratio, "fit_intercept": intercept}
    for tol in (1e-3, 1e-8):
        path = logistic_regression_path(X, y, Cs=4, tol=tol, sample_weight=s, offset=offset, **options)
        for j, C in enumerate(path.Cs):
            best = LogisticRegression(C=C, tol=1e-10, solver="saga" if l1_ratio else "lbfgs", **options)
            best.fit(X, y, s, offset=offset)
            least = best.loss_curve_[-1]
            assert least - 1e-12 <= path.objectives[j] <= least + path.gaps[j] + 1e-12
            assert best.gap_ < 1e-9
        assert tol > 1e-4 or path.gaps.max() < 1e-6
    null = LogisticRegression(C=np.inf, tol=1e-9, fit_intercept=intercept).fit(0 * X, y, s, offset=offset)
    assert path.null_loss == pytest.approx(null.loss_curve_[-1], rel=1e-9)
    assert l1_ratio == 0 or not path.coefs[0].any()


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("soft", [False, True])
def test_a_gap_with_offsets_bounds_the_distance(K, soft):
    """The bound holds for fits that end early, to labels and to probabilities whose rows do not sum to one."""
    X, y, offset = explained(301, 4, K)
    targets = np.random.default_rng(0).exponential(size=(301, K)) if soft else y
    best = LogisticRegression(C=0.1, tol=1e-10).fit(X, targets, offset=offset)
    for tol in (1e-1, 1e-3):
        early = LogisticRegression(C=0.1, tol=tol, solver="newton-cg").fit(X, targets, offset=offset)
        assert early.loss_curve_[-1] - best.loss_curve_[-1] <= early.gap_ + 1e-13
    assert 0 <= best.gap_ < 1e-10


def test_inference_with_offsets_is_that_of_statsmodels():
    sm = pytest.importorskip("statsmodels.api")
    X, y, offset = explained(501, 4, 2)
    want = sm.GLM(y, sm.add_constant(X), family=sm.families.Binomial(), offset=offset).fit(tol=1e-12)
    null = sm.GLM(y, np.ones(501), family=sm.families.Binomial(), offset=offset).fit(tol=1e-12)
    pieces = [(X[rows], y[rows], None, offset[rows]) for rows in np.array_split(np.arange(501), 3)]
    model = LogisticRegression(C=np.inf)
    for found in (model.inference(X, y, offset=offset), model.inference(chunks.from_iterable(lambda: pieces))):
        np.testing.assert_allclose(np.roll(found.estimate[0], 1), want.params, rtol=1e-6)
        np.testing.assert_allclose(np.roll(found.std_error[0], 1), want.bse, rtol=1e-5)
        assert found.log_likelihood == pytest.approx(want.llf, rel=1e-10)
        assert found.null_log_likelihood == pytest.approx(null.llf, rel=1e-10)


def test_inference_beside_a_separated_column_is_that_of_the_rest():
    """What remains is that of the rows which the column does not separate, with their offsets."""
    X, y, offset = explained(501, 4, 2)
    X[:, 0] = np.arange(501) < 40
    y[:40] = 1
    model = LogisticRegression(C=np.inf)
    with pytest.warns(ConvergenceWarning, match="samples separate"):
        found = model.inference(X, y, offset=offset)
    rest = model.inference(X[40:, 1:], y[40:], offset=offset[40:])
    np.testing.assert_allclose(found.std_error[0, 1:], rest.std_error[0], rtol=1e-4)


def test_inference_of_more_classes_with_offsets_is_that_of_mnlogit():
    discrete = pytest.importorskip("softmax_ext.discrete", reason="needs statsmodels")
    X, y, offset = explained(501, 3, 3)
    want = discrete.MNLogit(y, np.column_stack([X, np.ones(501)]), offset=offset).fit(disp=0)
    found = LogisticRegression(C=np.inf).inference(X, y, offset=offset)
    ours = found.against(0)
    np.testing.assert_allclose(ours.estimate, want.params.T, rtol=1e-6)
    np.testing.assert_allclose(ours.std_error, want.bse.T, rtol=1e-5)
    assert found.null_log_likelihood == pytest.approx(want.llnull, rel=1e-9)


def test_rows_and_their_offsets_stay_together():
    rows = Rows(np.arange(10.0).reshape(5, 2), np.arange(5), offset=np.arange(5.0)[:, np.newaxis])
    for index in (slice(1, 4), np.array([4, 0])):
        np.testing.assert_array_equal(rows[index].offset[:, 0], rows[index].y)
    np.testing.assert_array_equal(Rows.joined([rows[:2], rows[2:]]).offset, rows.offset)
    assert rows.curving().offset is rows.offset


def test_scikit_learn_routes_offsets():
    X, y, _, _, offset = problem(203, 4, 3)
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression().set_fit_request(offset=True).set_score_request(offset=False)
        found = cross_validate(model, X, y, params={"offset": offset}, cv=2, return_estimator=True)
    first = found["estimator"][0]
    assert not np.allclose(
        first.coef_, cross_validate(LogisticRegression(), X, y, cv=2, return_estimator=True)["estimator"][0].coef_
    )


@pytest.mark.parametrize("K", [2, 3])
def test_scikit_learn_routes_offsets_to_scores_and_searches(K):
    X, y, offset = explained(301, 4, K)
    folds = [(np.arange(301) % 2 == f, np.arange(301) % 2 != f) for f in (0, 1)]
    folds = [(np.flatnonzero(train), np.flatnonzero(test)) for train, test in folds]
    want = []
    for train, test in folds:
        one = LogisticRegression(C=0.1).fit(X[train], y[train], offset=offset[train])
        want.append(one.score(X[test], y[test], offset=offset[test]))
    with sklearn.config_context(enable_metadata_routing=True):
        model = LogisticRegression(C=0.1).set_fit_request(offset=True).set_score_request(offset=True)
        found = cross_validate(model, X, y, params={"offset": offset}, cv=folds)
        np.testing.assert_array_equal(found["test_score"], want)
        search = GridSearchCV(model, {"C": [0.1]}, cv=folds).fit(X, y, offset=offset)
        assert search.best_score_ == np.mean(want)
        pipe = make_pipeline(
            StandardScaler(), LogisticRegression().set_fit_request(offset=True).set_predict_proba_request(offset=True)
        ).fit(X, y, offset=offset)
        scaled = StandardScaler().fit_transform(X)
        alone = LogisticRegression().fit(scaled, y, offset=offset)
        np.testing.assert_array_equal(pipe.predict_proba(X, offset=offset), alone.predict_proba(scaled, offset))
        options = {"Cs": [0.01, 1.0], "l1_ratios": (0,), "use_legacy_attributes": False, "cv": folds}
        inner = LogisticRegressionCV(**options, scoring="neg_log_loss")
        inner.set_fit_request(offset=True).set_score_request(offset=True)
        outer = cross_validate(inner.set_params(cv=2), X, y, params={"offset": offset}, cv=folds)
        plain = LogisticRegressionCV(**{**options, "cv": 2}, scoring="neg_log_loss")
        (train, test), _ = folds
        plain.fit(X[train], y[train], offset=offset[train])
        S = plain.predict_proba(X[test], offset[test])
        assert outer["test_score"][0] == pytest.approx(-log_loss(y[test], S), rel=1e-12)

        def largest(y, S, offset):
            return float(np.abs(offset).max())

        scorer = make_scorer(largest, response_method="predict_proba").set_score_request(offset=True)
        asked = LogisticRegressionCV(**options, scoring=scorer).fit(X, y, offset=offset)
        np.testing.assert_array_equal(asked.scores_[:, 0, 0], [np.abs(offset[test]).max() for _, test in folds])
    assert get_scorer("accuracy")(model.fit(X, y), X, y) == model.score(X, y)


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


def test_the_hessian_of_many_floats_takes_offsets(isa):
    X, y, W, b, offset = problem(50021, 7, 2)
    w = np.append(W[1], b[1])
    ours = BinomialObjective(X.astype(np.float32), y, offset=offset)
    assert ours._centre is not None
    want = BinomialObjective(X, y, offset=offset).hessian(w)
    np.testing.assert_allclose(ours.hessian(w), want, rtol=1e-4, atol=1e-6)
    assert abs(BinomialObjective(X, y).hessian(w) / want - 1).max() > 0.01
