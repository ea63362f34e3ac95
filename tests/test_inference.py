"""`LogisticRegression.inference` beside softmax_ext.discrete, of the same model in another base."""

import doctest
import warnings

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from softmax_ext import SoftmaxObjective
from softmax_ext.inference import Inference, InferenceDisplay, _display, _result
from softmax_ext.linear_model import LogisticRegression


def data(K, N=500, D=4, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D)) * [1, 3, 0.2, 1]
    W = rng.standard_normal((K, D)) / [1, 3, 0.2, 1]
    return X, (X @ W.T + rng.standard_normal(K) + rng.gumbel(size=(N, K))).argmax(axis=1)


def same(a, b, rtol=1e-6, atol=1e-9):
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3, 5])
def test_without_a_penalty_it_is_mnlogit_after_the_change_of_base(K, intercept):
    discrete = pytest.importorskip("softmax_ext.discrete")
    X, y = data(K)
    s = np.random.default_rng(1).integers(1, 3, len(y))
    exog = np.column_stack([X, np.ones(len(y))]) if intercept else X
    theirs = discrete.MNLogit(y, exog, freq_weights=s).fit(disp=0)
    ours = LogisticRegression(C=np.inf, fit_intercept=intercept).inference(X, y, s)
    if K > 2:
        same(ours.estimate.sum(axis=0), 0, atol=1e-10)
        same(ours.covariance.reshape(K, -1, K, ours.estimate.shape[1]).sum(axis=0), 0, atol=1e-10)
        assert ours.base is None
    against = ours.against(0)
    same(against.estimate, theirs.params.T)
    same(against.std_error, theirs.bse.T)
    same(against.covariance, theirs.cov_params(), rtol=1e-5)
    same(against.z, theirs.tvalues.T)
    same(against.p_value, theirs.pvalues.T, atol=1e-8)
    same(against.interval(0.9), theirs.conf_int(0.1))
    for name, value in {"log_likelihood": theirs.llf, "n_samples": s.sum(), "df": (K - 1) * exog.shape[1]}.items():
        same(getattr(ours, name), value)
    if intercept:
        same(ours.null_log_likelihood, theirs.llnull)
        same(ours.mcfadden_r2, theirs.prsquared)
        same([ours.aic, ours.bic], [theirs.aic, theirs.bic])
    same(ours.deviance, -2 * theirs.llf)
    other = ours.against(1)
    same(other.against(0).estimate, against.estimate)
    same(other.against(0).std_error, against.std_error)
    assert other.rows.tolist() == [k for k in range(K) if k != 1]


@pytest.mark.parametrize("kind", ["csr", "float32", "csr32", "chunks", "frame"])
@pytest.mark.parametrize("K", [2, 3])
def test_every_kind_of_data_gives_the_same_inference(K, kind, tmp_path):
    from softmax_ext import chunks

    X, y = data(K, N=900)
    model = LogisticRegression(C=np.inf)
    reference = model.inference(X, y)
    if kind == "chunks":
        ours = model.inference(
            chunks.from_iterable(lambda: ((X[i : i + 250], y[i : i + 250]) for i in (0, 250, 500, 750)))
        )
    elif kind == "frame":
        pandas = pytest.importorskip("pandas")
        ours = model.inference(pandas.DataFrame(X, columns=list("abcd")), y)
        assert ours.columns == ("a", "b", "c", "d", "intercept")
    else:
        other = X.astype(np.float32 if kind.endswith("32") else np.float64)
        ours = model.inference(scipy.sparse.csr_array(other) if kind.startswith("csr") else other, y)
    tolerance = {"rtol": 2e-4, "atol": 1e-5} if kind.endswith("32") else {"rtol": 1e-6}
    same(ours.estimate, reference.estimate, **tolerance)
    same(ours.std_error, reference.std_error, **tolerance)
    same(ours.log_likelihood, reference.log_likelihood, rtol=1e-5)
    same(ours.null_log_likelihood, reference.null_log_likelihood, rtol=1e-5)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("offset", [True, False])
@pytest.mark.parametrize("kind", ["dense", "csr", "soft", "chunks", "csr chunks", "soft chunks"])
@pytest.mark.parametrize("K", [2, 3])
def test_the_sandwich_is_that_of_its_formula(K, kind, offset, intercept, monkeypatch):
    from softmax_ext import chunks, reference
    from softmax_ext._objective import scores

    monkeypatch.setattr(scores, "BLOCK", 400)  # some rows at a time
    (X, y), rng = data(K), np.random.default_rng(1)
    s, added = rng.integers(0, 3, len(y)) + 0.5, rng.standard_normal((len(y), K)) if offset else None
    Y = np.eye(K)[y] if "soft" not in kind else 0.7 * np.eye(K)[y] + rng.dirichlet(np.ones(K), len(y))
    targets, rows = Y if "soft" in kind else y, scipy.sparse.csr_array(X) if "csr" in kind else X
    parts = [slice(i, i + 150) for i in range(0, len(y), 150)]
    given = (rows, targets, s, added)
    if "chunks" in kind:
        each = [tuple(None if one is None else one[part] for one in given) for part in parts]
        given = (chunks.from_iterable(lambda: each),)
    found = LogisticRegression(C=np.inf, fit_intercept=intercept).inference(*given, cov_type="HC0").against(0)
    Z = np.column_stack([X, np.ones(len(y))]) if intercept else X
    W = np.vstack([np.zeros(Z.shape[1]), found.estimate])
    S = reference.softmax(reference.scores(Z, W, None, added))
    mass = Y.sum(axis=1, keepdims=True)
    R = (S * mass - Y)[:, 1:]
    g = (R[:, :, np.newaxis] * Z[:, np.newaxis, :]).reshape(len(y), -1)
    size = Z.shape[1] * (K - 1)
    H = reference.hessian(Z, S[:, 1:], s * mass[:, 0]).reshape(size, size) * (s * mass[:, 0]).sum()
    bread = np.linalg.inv(H)
    same(found.covariance, bread @ (g.T * s @ g) @ bread, rtol=1e-5, atol=1e-7)
    assert "HC0" in found.note


def test_the_sandwich_is_that_of_statsmodels_and_not_for_penalties():
    discrete = pytest.importorskip("softmax_ext.discrete")
    X, y = data(3)
    exog = np.column_stack([X, np.ones(len(y))])
    want = discrete.MNLogit(y, exog).fit(disp=0, cov_type="HC0")
    found = LogisticRegression(C=np.inf).inference(X, y, cov_type="HC0").against(0)
    same(found.std_error, want.bse.T)
    with pytest.raises(ValueError, match=r"'HC0' is for C=np.inf"):
        LogisticRegression().inference(X, y, cov_type="HC0")
    with pytest.raises(ValueError, match="cov_type must be one of 'nonrobust', 'HC0', got 'HC7'"):
        LogisticRegression(C=np.inf).inference(X, y, cov_type="HC7")


def test_a_cluster_gives_the_inference_of_memory():
    da = pytest.importorskip("dask.array")
    distributed = pytest.importorskip("distributed")
    from softmax_ext.dask import LogisticRegression as OnDask

    X, y = data(3)
    reference = LogisticRegression(C=np.inf).inference(X, y)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        model = OnDask(C=np.inf, client=client)
        ours = model.inference(da.from_array(X, (200, 4)), da.from_array(y, 200))
        robust = model.inference(da.from_array(X, (200, 4)), da.from_array(y, 200), cov_type="HC0")
    same(ours.estimate, reference.estimate)
    same(ours.std_error, reference.std_error)
    same(robust.std_error, LogisticRegression(C=np.inf).inference(X, y, cov_type="HC0").std_error)


@pytest.mark.parametrize("K", [2, 3])
def test_a_penalty_is_a_normal_prior(K):
    X, y = data(K)
    model = LogisticRegression(C=0.3)
    with pytest.warns(UserWarning, match="p values are not to be trusted"):
        result = model.inference(X, y)
    assert result.penalised
    assert result.note in str(result)
    fitted = clone(model).set_params(tol=1e-10).fit(X, y)
    same(result.coef, fitted.coef_, rtol=1e-5, atol=1e-7)
    same(result.intercept, fitted.intercept_, rtol=1e-5, atol=1e-7)
    # The posterior of one class's coefficients beside another's, from the penalised Hessian of all, made regular.
    from softmax_ext.objective import BinomialObjective

    l2, N = 1 / (0.3 * len(y)), len(y)
    objective = (BinomialObjective if K == 2 else SoftmaxObjective)(X, y, l2=l2)
    w = np.concatenate([result.coef.ravel(), result.intercept])
    inverse = np.linalg.pinv(objective.hessian(w), rcond=1e-12) / N
    if K == 2:
        same(result.std_error[0], np.sqrt(inverse.diagonal()), rtol=1e-5)
    else:
        a = np.zeros(objective.size)
        a[0], a[4] = -1, 1  # class 1 beside class 0, first feature
        same(result.against(0).std_error[0, 0], np.sqrt(a @ inverse @ a), rtol=1e-5)
    assert 1 < result.df < (K - 1) * 5
    small = LogisticRegression(C=1e12)
    with pytest.warns(UserWarning):
        same(small.inference(X, y).std_error, LogisticRegression(C=np.inf).inference(X, y).std_error, rtol=1e-4)


def test_the_estimator_stays_as_it_is():
    X, y = data(3)
    model = LogisticRegression(C=np.inf, solver="adam")
    result = model.inference(X, np.array(["a", "b", "c"])[y])
    assert not hasattr(model, "classes_")
    assert model.solver == "adam"
    assert result.rows.tolist() == ["a", "b", "c"]
    with pytest.raises(AttributeError):
        result.estimate = None
    fitted = LogisticRegression(C=np.inf).fit(X, y)
    before = fitted.coef_.copy()
    same(fitted.inference(X, y).estimate, result.estimate)
    assert (fitted.coef_ == before).all()


def test_class_weights_weigh_samples():
    X, y = data(3)
    weighted = LogisticRegression(C=np.inf, class_weight={0: 1, 1: 2, 2: 3}).inference(X, y)
    same(weighted.std_error, LogisticRegression(C=np.inf).inference(X, y, y + 1).std_error)


def test_tables_and_data_frames_show_the_numbers():
    X, y = data(3)
    result = LogisticRegression(C=np.inf).inference(X, y)
    text = str(result)
    assert "coefficients sum to 0 over the classes" in text
    assert "against class 2" in str(result.against(2))
    assert len(text.splitlines()) == 2 + 3 + 3 * 5 + 2
    assert result._repr_html_().count("<tr>") == 1 + 15
    pandas = pytest.importorskip("pandas")
    frame = result.to_frame()
    assert isinstance(frame, pandas.DataFrame)
    same(frame["std_err"], result.std_error.ravel())
    assert frame.index[-1] == (2, "intercept")
    assert isinstance(result, Inference)
    with pytest.raises(ValueError, match="base must be one of the classes"):
        result.against(7)
    with pytest.raises(ValueError, match="level must be between 0 and 1, got 95"):
        result.interval(95)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("sparse", [False, True])
def test_separation_is_said(K, sparse):
    X, y = data(K)
    only = np.zeros(len(y))
    only[np.flatnonzero(y == 1)[::7]] = 1
    Z = np.column_stack([X, only])
    with pytest.warns(ConvergenceWarning, match=r"Quasi-complete separation: .* samples separate 1 from 0"):
        result = LogisticRegression(C=np.inf).inference(scipy.sparse.csr_array(Z) if sparse else Z, y)
    assert result.separation is not None
    against = result.against(0)
    rest = LogisticRegression(C=np.inf).inference(X[only == 0], y[only == 0]).against(0)
    columns = [0, 1, 2, 3, 5]
    same(against.estimate[:, columns], rest.estimate, rtol=1e-4, atol=1e-5)
    same(against.std_error[:, columns], rest.std_error, rtol=1e-4)
    assert np.isinf(against.std_error[:, 4]).all()
    assert "inf" in str(result)


def test_a_sample_of_weight_0_is_not_against_a_separation():
    X, y = data(2)
    only, s = np.zeros(len(y)), np.ones(len(y))
    only[np.flatnonzero(y == 1)[::7]] = 1
    other = np.flatnonzero(y == 0)[0]
    only[other], s[other] = 1, 0
    with pytest.warns(ConvergenceWarning, match="Quasi-complete separation"):
        result = LogisticRegression(C=np.inf).inference(np.column_stack([X, only]), y, s)
    assert result.separation is not None


def test_separation_of_data_in_pieces_is_a_warning():
    from softmax_ext import chunks

    X, y = data(2)
    y = (X[:, 0] > 0).astype(int)
    with pytest.warns(ConvergenceWarning, match="no information left along .* for 1"):
        result = LogisticRegression(C=np.inf).inference(
            chunks.from_iterable(lambda: [(X[:250], y[:250]), (X[250:], y[250:])])
        )
    assert np.isinf(result.std_error[0, 0]) or result.std_error[0, 0] > 1e3


@pytest.mark.parametrize("K", [2, 4])
def test_collinear_columns_are_refused_by_name(K):
    X, y = data(K)
    cases = {
        r"column 'x4' is made of 'x0', 'x1'": X[:, 0] - X[:, 1],
        r"column 'intercept' is made of 'x4'": np.full(len(y), 2.0),
        r"column 'x4' is 0 throughout": np.zeros(len(y)),
    }
    for said, column in cases.items():
        Z = np.column_stack([X, column])
        with pytest.raises(ValueError, match=said):
            LogisticRegression(C=np.inf).inference(Z, y)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            assert np.isfinite(LogisticRegression().inference(Z, y).std_error).all()


def test_some_thousand_coefficients_have_standard_errors():
    rng = np.random.default_rng(3)
    X = scipy.sparse.random_array((3000, 400), density=0.05, rng=rng, format="csr")
    y = rng.integers(0, 4, 3000)
    with pytest.warns(UserWarning, match="penalised"):
        result = LogisticRegression().inference(X, y)
    assert result.covariance.shape == (1604, 1604)
    assert np.isfinite(result.std_error).all()


@pytest.mark.parametrize("K", [2, 3])
def test_the_display_shows_coefficients_and_intervals(K):
    pytest.importorskip("matplotlib")
    X, y = data(K)
    result = LogisticRegression(C=np.inf).inference(X, y)
    display = result.plot(level=0.9)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["x0", "x1", "x2", "x3"]
    assert display.ax_.get_xlabel() == "coefficient, with 90 % intervals"
    lines = display.ax_.containers
    assert len(lines) == len(result.rows)
    same(lines[0][0].get_xdata(), result.coef[0])
    ends = np.array([segment[:, 0] for segment in lines[0][2][0].get_segments()])
    same(ends, result.interval(0.9)[0, :4])
    axes = display.figure_.add_subplot()
    assert InferenceDisplay.from_inference(result, ax=axes, columns=["x3", "intercept"]).ax_ is axes
    with pytest.raises(ValueError, match="columns must be among"):
        result.plot(columns=["y"])
    with pytest.raises(ValueError, match="level"):
        result.plot(level=95)
    discrete = pytest.importorskip("softmax_ext.discrete")
    fitted = (discrete.Logit if K == 2 else discrete.MNLogit)(y, X).fit(disp=0)
    drawn = InferenceDisplay.from_results(fitted)
    same(drawn.std_error, np.atleast_2d(np.asarray(fitted.bse).T))
    drawn.figure_.canvas.draw()


@pytest.mark.parametrize("module", [_result, _display])
def test_examples_of_inference_run(module):
    pytest.importorskip("matplotlib")
    assert doctest.testmod(module).failed == 0
