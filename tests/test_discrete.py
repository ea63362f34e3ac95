"""softmax_ext.discrete beside statsmodels, whose models it replaces."""

import doctest
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog

pytest.importorskip("statsmodels")

import statsmodels.api as sm
from statsmodels.tools.sm_exceptions import (
    CollinearityWarning,
    ConvergenceWarning,
    PerfectSeparationError,
    PerfectSeparationWarning,
)

from softmax_ext.discrete import Logit, MNLogit, _logit, _mnlogit, logit, mnlogit
from softmax_ext.inference import _identified, _likelihood

THEIRS = {MNLogit: sm.MNLogit, Logit: sm.Logit}


def data(K, N=403, seed=0):
    """Columns of several kinds: a constant, numbers, one of another size, 0 and 1, counts."""
    rng = np.random.default_rng(seed)
    X = np.column_stack(
        [np.ones(N), rng.standard_normal((N, 2)), 50 * rng.standard_normal(N), rng.random(N) < 0.4, rng.poisson(2.0, N)]
    )
    W = rng.standard_normal((X.shape[1], K)) * [[0.5], [0.8], [0.8], [0.01], [0.7], [0.2]]
    return X, (X @ W + rng.gumbel(size=(N, K))).argmax(axis=1)


MODELS = [(MNLogit, 2), (MNLogit, 3), (MNLogit, 6), (Logit, 2)]


@pytest.fixture(params=MODELS, ids=lambda p: f"{p[0].__name__}{p[1]}")
def pair(request):
    Model, K = request.param
    X, y = data(K)
    return Model(y, X), THEIRS[Model](y, X)


def same(ours, theirs, rtol=1e-7, atol=1e-9):
    np.testing.assert_allclose(np.asarray(ours), np.asarray(theirs), rtol=rtol, atol=atol)


def test_every_function_of_the_parameters_is_statsmodels(pair):
    ours, theirs = pair
    rng = np.random.default_rng(1)
    params = 0.1 * rng.standard_normal(len(ours.fit(disp=0).params.ravel()))
    for name in ("loglike", "loglikeobs", "score", "score_obs", "score_factor", "hessian", "hessian_factor"):
        same(getattr(ours, name)(params), getattr(theirs, name)(params))
    same(ours.information(params), -theirs.hessian(params))
    matrix = params.reshape(ours.exog.shape[1], -1, order="F") if isinstance(ours, MNLogit) else params
    for exog in (None, ours.exog[:7]):
        for which in ("mean", "linear", "var"):
            same(ours.predict(matrix, exog, which=which), theirs.predict(matrix, exog, which=which))


def test_results_are_statsmodels(pair):
    ours, theirs = (model.fit(disp=0) for model in pair)
    names = "params bse tvalues pvalues llf llr llr_pvalue prsquared aic bic df_model df_resid nobs resid_response"
    for name in names.split():
        same(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
    same(ours.llnull, theirs.llnull, rtol=1e-8)
    same(ours.cov_params(), theirs.cov_params(), rtol=1e-6)
    same(ours.conf_int(0.1), theirs.conf_int(0.1), rtol=1e-6)
    same(ours.pred_table(), theirs.pred_table())
    R = np.eye(ours.params.size)[:2]
    same(ours.t_test(R).pvalue, theirs.t_test(R).pvalue, rtol=1e-5)
    same(ours.wald_test(R, scalar=True).statistic, theirs.wald_test(R, scalar=True).statistic, rtol=1e-6)
    lines = [str(results.summary()).splitlines() for results in (ours, theirs)]
    assert [line for line in lines[0] if "Time" not in line] == [line for line in lines[1] if "Time" not in line]


@pytest.mark.parametrize("block", [2**21, 60])
@pytest.mark.parametrize("kind", ["HC0", "HC1", "cluster", "cluster by two", "HAC"])
def test_robust_covariances_are_statsmodels(pair, kind, block, monkeypatch):
    monkeypatch.setattr(_likelihood, "BLOCK", block)
    rng = np.random.default_rng(2)
    groups = rng.integers(0, 40, (403, 2))
    options = {"cov_type": kind}
    if kind.startswith("cluster"):
        options = {"cov_type": "cluster", "cov_kwds": {"groups": groups if kind.endswith("two") else groups[:, 0]}}
    if kind == "HAC":
        options["cov_kwds"] = {"maxlags": 2}
    ours, theirs = (model.fit(disp=0, **options) for model in pair)
    same(ours.cov_params(), theirs.cov_params(), rtol=1e-6)
    same(ours.pvalues, theirs.pvalues, rtol=1e-5)
    assert ours.cov_type == theirs.cov_type
    assert ours.cov_kwds["description"] == theirs.cov_kwds["description"]
    assert getattr(ours, "df_resid_inference", None) == getattr(theirs, "df_resid_inference", None)


@pytest.mark.parametrize("options", [{"use_correction": False}, {"scaling_factor": 1.1}, {"df_correction": False}])
def test_options_of_clusters_are_statsmodels(pair, options):
    names = np.array(list("abcdefgh"))[np.random.default_rng(0).integers(0, 8, 403)]
    kwds = {"groups": names, **options}
    ours, theirs = (model.fit(disp=0, cov_type="cluster", cov_kwds=dict(kwds), use_t=True) for model in pair)
    same(ours.bse, theirs.bse, rtol=1e-6)
    same(ours.pvalues, theirs.pvalues, rtol=1e-5)


EFFECTS = ["dydx", "eydx", "dyex", "eyex"]


@pytest.mark.filterwarnings("ignore:invalid value encountered in divide")  # z of an effect at 0 of a logarithm
@pytest.mark.parametrize("method", EFFECTS)
@pytest.mark.parametrize("at", ["overall", "mean", "median", "zero"])
def test_marginal_effects_are_statsmodels(pair, at, method, monkeypatch):
    if method.endswith("ex") and isinstance(pair[0], MNLogit):
        pytest.skip("statsmodels multiplies the samples with the classes; see the next test")
    monkeypatch.setattr(_likelihood, "BLOCK", 5000)
    ours, theirs = (model.fit(disp=0).get_margeff(at=at, method=method) for model in pair)
    for name in ("margeff", "margeff_se", "margeff_cov"):
        same(getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=1e-8)
    if not method.endswith("ex"):  # theirs writes -0
        assert str(ours.summary()) == str(theirs.summary())
    assert ours.summary_frame().shape == theirs.summary_frame().shape


@pytest.mark.parametrize("method", EFFECTS)
@pytest.mark.parametrize("kinds", [(), ("dummy",), ("count",), ("dummy", "count")])
def test_marginal_effects_and_their_derivatives_are_those_of_the_definition(pair, method, kinds):
    """Differences of posteriors are the oracle: of several classes statsmodels lacks some, or has them wrong."""
    if kinds and method.endswith("ex"):
        pytest.skip("refused, as by statsmodels")
    model = pair[0]
    fitted = model.fit(disp=0)
    margins = fitted.get_margeff(method=method, atexog={1: 0.25}, **dict.fromkeys(kinds, True))
    base = model.exog.copy()
    base[:, 1] = 0.25
    steps = {"dummy": (4, 0, 1, False), "count": (5, -1, 1, True)}
    h, logarithm = 1e-4, method.startswith("ey")

    def effects(params):
        params = params.reshape(base.shape[1], -1, order="F")
        found = []
        for d in range(2, base.shape[1]):
            low, high = base.copy(), base.copy()
            one = next((steps[kind] for kind in kinds if steps[kind][0] == d), None)
            if one is None:
                low[:, d] -= h
                high[:, d] += h
                over = 2 * h
            else:
                _, a, b, relative = one
                low[:, d], high[:, d], over = a + relative * base[:, d], b + relative * base[:, d], b - a
            P, Q = (model.predict(params if isinstance(model, MNLogit) else params[:, 0], x) for x in (low, high))
            change = (np.log(Q) - np.log(P) if logarithm else Q - P) / over
            times = base[:, d] if method.endswith("ex") else np.ones(len(base))
            found.append((times @ change) / len(base))
        return np.array(found).ravel()

    at = np.asarray(fitted.params).ravel("F")
    slopes = np.array([(effects(at + h * e) - effects(at - h * e)) / (2 * h) for e in np.eye(at.size)])
    rows = slice(0, None) if margins.margeff.shape[0] == 4 else slice(1, None)  # column 1 is constant here
    same(np.ravel(margins.margeff[rows]), effects(at), rtol=1e-5, atol=1e-7)
    errors = np.sqrt(np.diag(slopes.T @ fitted.cov_params() @ slopes))
    same(np.ravel(margins.margeff_se[rows]), errors, rtol=1e-4, atol=1e-7)


def test_marginal_effects_of_each_sample_are_statsmodels(pair):
    ours, theirs = (model.fit(disp=0).get_margeff(at="all").margeff for model in pair)
    same(ours, theirs)
    fitted = pair[0].fit(disp=0)
    for method in EFFECTS:
        same(
            fitted.get_margeff(at="all", method=method).margeff.mean(axis=0), fitted.get_margeff(method=method).margeff
        )


@pytest.mark.parametrize("Model", [MNLogit, Logit])
def test_weights_are_repeated_samples(Model):
    X, y = data(3 if Model is MNLogit else 2)
    s = np.random.default_rng(3).integers(0, 4, len(y))
    groups = np.arange(len(y)) % 29
    cluster = {"cov_type": "cluster", "cov_kwds": {"groups": groups}}
    repeated = {"cov_type": "cluster", "cov_kwds": {"groups": np.repeat(groups, s)}}
    for one, other in (({}, {}), ({"cov_type": "HC0"},) * 2, (cluster, repeated)):
        ours = Model(y, X, freq_weights=s).fit(disp=0, **one)
        theirs = THEIRS[Model](np.repeat(y, s), np.repeat(X, s, axis=0)).fit(disp=0, **other)
        names = "params bse llf llnull llr_pvalue prsquared aic bic nobs df_resid df_model"
        for name in names.split():
            same(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
        same(ours.pred_table(), theirs.pred_table())
    for at in ("overall", "mean", "median"):
        for name in ("margeff", "margeff_se"):
            same(getattr(ours.get_margeff(at), name), getattr(theirs.get_margeff(at), name), rtol=1e-5)
    same(ours.model.score_obs(ours.params).sum(axis=0), ours.model.score(ours.params), atol=1e-7)


@pytest.mark.parametrize("K", [2, 4])
def test_an_offset_shifts_the_coefficients(K):
    X, y = data(K)
    B = 0.3 * np.random.default_rng(4).standard_normal((X.shape[1], K)) / np.abs(X).max(axis=0)[:, np.newaxis]
    plain = MNLogit(y, X).fit(disp=0)
    ours = MNLogit(y, X, offset=X @ B).fit(disp=0)
    same(ours.params + B[:, 1:] - B[:, :1], plain.params, rtol=1e-6, atol=1e-7)
    same(ours.bse, plain.bse, rtol=1e-6)
    same(ours.llf, plain.llf)
    same(ours.predict(), plain.predict(), rtol=1e-6)
    same(ours.predict(X[:9], offset=X[:9] @ B), plain.predict(X[:9]), rtol=1e-6)
    same(ours.predict(X[:9], which="linear", offset=X[:9] @ B)[:, 1], (X[:9] @ (ours.params + B[:, 1:]))[:, 0])
    without = MNLogit(y, X, offset=X @ (B[:, 1:] - B[:, :1])).fit(disp=0)
    same(without.params, ours.params)
    assert ours.llnull < ours.llf
    with pytest.raises(NotImplementedError, match="offset"):
        ours.get_margeff()


def test_an_offset_of_two_classes_is_statsmodels():
    X, y = data(2)
    offset = np.random.default_rng(5).standard_normal(len(y))
    ours, theirs = (Model(y, X, offset=offset).fit(disp=0) for Model in (Logit, sm.Logit))
    several = MNLogit(y, X, offset=offset).fit(disp=0)
    for name in ("params", "bse", "llf", "llnull"):
        same(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
        same(np.ravel(getattr(several, name)), np.ravel(getattr(theirs, name)), rtol=1e-6)
    same(ours.predict(), theirs.predict())


def test_targets_between_0_and_1_are_shares():
    X, y = data(2)
    part = np.clip(y + 0.3 * (0.5 - y), 0, 1)
    ours, theirs = (Model(part, X).fit(disp=0) for Model in (Logit, sm.Logit))
    for name in ("params", "bse"):
        same(getattr(ours, name), getattr(theirs, name), rtol=1e-6)
    p = ours.predict()  # theirs has the likelihood of another model, whose derivative its score is not
    same(ours.llf, np.sum(part * np.log(p) + (1 - part) * np.log(1 - p)))
    same(ours.llnull, Logit(part, np.ones(len(part))).fit(disp=0).llf)


@pytest.mark.parametrize("method", ["bfgs", "lbfgs", "nm", "ncg", "cg", "powell", "minimize"])
def test_statsmodels_methods_reach_its_coefficients(method):
    X, y = data(2)
    ours = Logit(y, X[:, :3]).fit(method=method, disp=0, maxiter=2000, cov_type="HC0")
    same(ours.params, sm.Logit(y, X[:, :3]).fit(disp=0).params, rtol=1e-3, atol=1e-4)
    assert ours.mle_settings["optimizer"] == method


def test_names_formulas_and_pickles_work_as_in_statsmodels():
    anes = sm.datasets.anes96.load_pandas()
    results = MNLogit(anes.endog, sm.add_constant(anes.exog)).fit(disp=0)
    reference = sm.MNLogit(anes.endog, sm.add_constant(anes.exog)).fit(disp=0)
    same(results.params, reference.params, rtol=1e-6)
    assert results.params.index.tolist() == reference.params.index.tolist()
    assert results.conf_int().index.equals(reference.conf_int().index)
    by_formula = mnlogit("PID ~ age + C(educ > 4)", anes.data).fit(disp=0, cov_type="HC0")
    same(by_formula.bse, sm.MNLogit.from_formula("PID ~ age + C(educ > 4)", anes.data).fit(disp=0, cov_type="HC0").bse)
    same(by_formula.predict(anes.data[:3]), by_formula.predict()[:3])
    again = pickle.loads(pickle.dumps(results))
    (one, other) = (
        [line for line in str(each.summary()).splitlines() if "Time:" not in line] for each in (again, results)
    )
    assert one == other  # but for the second in which each was printed
    same(again.get_margeff().margeff_se, results.get_margeff().margeff_se)
    labels = pd.Series(np.array(["left", "middle", "right"])[(anes.endog.to_numpy() // 2.5).astype(int)], name="side")
    named = MNLogit(labels, sm.add_constant(anes.exog)).fit(disp=0)
    assert "side=right" in str(named.summary())
    same(logit("vote ~ age", anes.data).fit(disp=0).bse, sm.Logit.from_formula("vote ~ age", anes.data).fit(disp=0).bse)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.float16, bool])
def test_other_dtypes_are_computed_in_double(dtype):
    X, y = data(3)
    X = np.round(X).astype(dtype)[:, [0, 1, 4]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # theirs of the variance of float16
        ours, theirs = (Model(y, X, check_rank=False).fit(disp=0) for Model in (MNLogit, sm.MNLogit))
    same(ours.params, theirs.params, rtol=1e-6)
    same(ours.bse, theirs.bse, rtol=1e-6)


def test_samples_that_miss_values_are_dropped_or_refused():
    X, y = data(3)
    X[[3, 50], [1, 2]] = np.nan
    offset = np.random.default_rng(6).standard_normal((len(y), 3))
    ours, theirs = (Model(y, X, missing="drop").fit(disp=0) for Model in (MNLogit, sm.MNLogit))
    same(ours.bse, theirs.bse, rtol=1e-6)
    kept = np.isfinite(X).all(axis=1)
    s = np.arange(len(y)) % 3 + 1.0
    dropped = MNLogit(y, X, missing="drop", offset=offset, freq_weights=s).fit(disp=0)
    same(dropped.bse, MNLogit(y[kept], X[kept], offset=offset[kept], freq_weights=s[kept]).fit(disp=0).bse)
    for missing, said in (("raise", "NaNs"), ("none", "nans")):
        with pytest.raises(Exception, match=said):
            MNLogit(y, X, missing=missing)


def test_wrong_arguments_of_a_discrete_model_are_refused():
    X, y = data(3)
    with pytest.raises(ValueError, match=r"freq_weights must be finite and not negative, got -1"):
        MNLogit(y, X, freq_weights=np.where(y == 1, -1.0, 1.0))
    with pytest.raises(ValueError, match=r"freq_weights must be one number for each of the 403 samples"):
        MNLogit(y, X, freq_weights=np.ones(3))
    with pytest.raises(ValueError, match=r"offset must be \(403, 3\), or \(403, 2\) without the first class"):
        MNLogit(y, X, offset=np.ones((403, 5)))
    with pytest.raises(ValueError, match=r"offset must be finite, got nan"):
        MNLogit(y, X, offset=np.full((403, 2), np.nan))
    with pytest.raises(ValueError, match=r"needs cov_kwds=\{'groups'"):
        MNLogit(y, X).fit(disp=0, cov_type="cluster")
    with pytest.raises(ValueError, match=r"groups must be \(403,\)"):
        MNLogit(y, X).fit(disp=0, cov_type="cluster", cov_kwds={"groups": np.ones(7)})


# Separation


def is_separated(X, y, K):
    """Whether there is a direction, by linear programming: Konis 2007, the sum of all margins under bounds."""
    D = X.shape[1]
    rows = []
    for x, label in zip(X, y, strict=True):
        for k in range(K):
            if k != label:
                row = np.zeros((K, D))
                row[label], row[k] = x, -x
                rows.append(row[1:].ravel())
    A = np.array(rows)
    found = linprog(-A.sum(axis=0), A_ub=-A, b_ub=np.zeros(len(A)), bounds=(-1, 1))
    return found.fun < -1e-6


@pytest.mark.parametrize("largest", [2**21, 0])
@pytest.mark.parametrize("K", [2, 3])
def test_separation_is_found_where_there_is_one_and_nowhere_else(K, largest, monkeypatch):
    """The data are small and on a grid; about half of them are separated, most of these in part."""
    monkeypatch.setattr(_identified, "LARGEST", largest)
    told, truth = [], []
    for seed in range(80):
        rng = np.random.default_rng(seed)
        X = np.column_stack([np.ones(40), rng.integers(-2, 3, (40, 2)), rng.random(40) < 0.2])
        y = (X @ rng.standard_normal((4, K)) + rng.gumbel(size=(40, K))).argmax(axis=1)
        if len(np.unique(y)) < K or np.linalg.matrix_rank(X) < 4:
            continue
        truth.append(is_separated(X, y, K))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            results = MNLogit(y, X).fit(disp=0)
        told.append(results.separation is not None)
        assert told[-1] == any(issubclass(w.category, PerfectSeparationWarning) for w in caught)
        if told[-1]:  # the direction is one
            margins = X @ results.separation.direction.T
            margins = margins[np.arange(len(y)), y][:, np.newaxis] - margins
            assert margins.min() >= -1e-6 * margins.max()
            assert results.separation.complete == (np.sum(margins > 1e-6 * margins.max()) == len(y) * (K - 1))
        else:
            assert results.converged
            assert np.isfinite(results.bse).all()
    assert told == truth
    assert 15 < sum(truth) < len(truth) - 15


def test_complete_separation_is_told_with_its_pairs():
    rng = np.random.default_rng(8)
    X = sm.add_constant(rng.standard_normal((200, 3)))
    with pytest.warns((PerfectSeparationWarning, ConvergenceWarning)):
        separation = MNLogit((X[:, 1] > 0) + 0 + (X[:, 1] > 1), X).fit(disp=0).separation
    assert separation.complete
    assert separation.samples == 200
    assert separation.pairs == tuple((k, j) for k in range(3) for j in range(3) if j != k)


def test_what_is_not_separated_keeps_its_standard_errors():
    """A column is 0 but for samples of one class: the rest is what a fit without these samples has."""
    X, y = data(3)
    only = np.zeros(len(y))
    only[np.flatnonzero(y == 1)[::9]] = 1
    with pytest.warns((PerfectSeparationWarning, ConvergenceWarning)) as caught:
        results = MNLogit(y, np.column_stack([X, only])).fit(disp=0)
    text = next(str(w.message) for w in caught if w.category is PerfectSeparationWarning)
    assert "Quasi-complete" in text
    assert "1 from 0, 1 from 2" in text
    assert "+1 x6 for 1" in text
    assert text[:40] in str(results.summary()).replace("\n", " ")
    rest = MNLogit(y[only == 0], X[only == 0]).fit(disp=0)
    same(results.bse[:-1], rest.bse, rtol=1e-4)
    same(results.params[:-1], rest.params, rtol=1e-4, atol=1e-5)
    assert np.isinf(results.bse[-1]).all()
    assert (results.pvalues[-1] == 1).all()
    assert not results.converged


GROUPS = np.arange(300) // 4
COVARIANCES = {
    "nonrobust": {},
    "HC0": {"cov_type": "HC0"},
    "HC1": {"cov_type": "HC1"},
    "HAC": {"cov_type": "HAC", "cov_kwds": {"maxlags": 3}},
    "cluster": {"cov_type": "cluster", "cov_kwds": {"groups": GROUPS, "use_correction": False}},
    "clusters by two": {
        "cov_type": "cluster",
        "cov_kwds": {"groups": np.column_stack([GROUPS, np.arange(300) % 40]), "use_correction": False},
    },
}


def of_some(options, kept):
    """The same options of a fit to some of the samples."""
    kinds = options.get("cov_kwds", {})
    return options | {"cov_kwds": kinds | {"groups": kinds["groups"][kept]}} if "groups" in kinds else options


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", COVARIANCES)
def test_a_separated_class_leaves_robust_covariances_to_the_others(kind):
    """Class 2 is all of x1 > 1: the others have what a fit without it has, and effects averaged over more samples."""
    rng = np.random.default_rng(0)
    X = sm.add_constant(rng.standard_normal((300, 3)))
    noisy = (X @ [0.2, 0.5, 1, -0.5] + rng.logistic(size=300) > 0).astype(int)
    y = np.where(X[:, 1] > 1, 2, noisy)
    kept = y < 2
    options = COVARIANCES[kind]
    if kind == "HAC":  # is of samples one after the other
        order = np.argsort(~kept, kind="stable")
        X, y, kept = X[order], y[order], kept[order]
    results = MNLogit(y, X).fit(disp=0, **options)
    rest = MNLogit(y[kept], X[kept]).fit(disp=0, **of_some(options, kept))
    same(results.bse[:, 0], rest.bse[:, 0], rtol=1e-4)
    assert np.isinf(results.bse[:, 1]).all()
    same(results.cov_params()[:4, :4], rest.cov_params(), rtol=1e-4, atol=1e-6)
    assert np.isnan(results.cov_params()[:4, 4:]).all()
    contrast = np.eye(8)[1] - np.eye(8)[2]
    same(results.cov_params(contrast), rest.cov_params(contrast[:4]), rtol=1e-4)
    assert np.isinf(results.cov_params(np.eye(8)[6])) and np.isinf(results.cov_params(column=6))
    same(results.cov_params(column=[0, 2]), rest.cov_params(column=[0, 2]), rtol=1e-4, atol=1e-6)
    with_others = results.cov_params(contrast[np.newaxis], other=np.eye(8)[[1, 6]])
    same(with_others, [[results.cov_params()[1, :4] @ contrast[:4], np.nan]])
    ours, theirs = results.get_margeff(), rest.get_margeff()
    same(ours.margeff[:, :2], theirs.margeff * kept.mean(), rtol=1e-4, atol=1e-6)
    same(ours.margeff_se[:, :2], theirs.margeff_se * kept.mean(), rtol=1e-4)
    assert np.isinf(ours.margeff_se[:, 2]).all()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("Model", [MNLogit, Logit])
@pytest.mark.parametrize("kind", COVARIANCES)
def test_an_undetermined_column_leaves_robust_covariances_to_the_others(Model, kind):
    """A column is 0 but for samples of one class, or a copy of another, which leaves only their sum determined."""
    X, y = data(2 if Model is Logit else 3, N=300)
    only = np.zeros(300)
    only[np.flatnonzero(y == 1)[::9]] = 1
    kept, D = only == 0, X.shape[1]
    options = COVARIANCES[kind]
    if kind != "HAC":  # the samples that are left out would have been between others
        results = Model(y, np.column_stack([X, only])).fit(disp=0, **options)
        rest = Model(y[kept], X[kept]).fit(disp=0, **of_some(options, kept))
        same(results.bse[:D], rest.bse, rtol=1e-4)
        assert np.isinf(results.bse[D]).all()
    results, rest = (Model(y, Z).fit(disp=0, **options) for Z in (np.column_stack([X, X[:, 1]]), X))
    others = np.delete(np.arange(D), 1)
    same(results.bse[others], rest.bse[others], rtol=1e-5)
    assert np.isinf(results.bse[[1, D]]).all()
    both = np.eye(results.params.size)[[1, D]].sum(axis=0)
    same(results.cov_params(both), rest.cov_params(column=1), rtol=1e-5)
    ours, theirs = (each.get_margeff().margeff_se for each in (results, rest))
    same(ours[others[1:] - 1], theirs[others[1:] - 1], rtol=1e-5)
    assert np.isinf(ours[[0, D - 1]]).all()


def test_one_sample_on_the_other_side_is_no_separation():
    rng = np.random.default_rng(7)
    X = sm.add_constant(rng.standard_normal((5000, 2)))
    y = (X[:, 1] > 0).astype(int)
    y[np.argmax(X[:, 1])] = 0
    results = Logit(y, X).fit(disp=0, maxiter=100)
    assert results.separation is None
    assert results.converged
    assert np.isfinite(results.bse).all()


@pytest.mark.parametrize("method", ["newton", "bfgs"])
def test_separation_may_be_an_error(method):
    rng = np.random.default_rng(8)
    X = sm.add_constant(rng.standard_normal((60, 2)) * [1, 1e5])
    model = Logit((X[:, 2] > 0).astype(int), X)
    model.raise_on_perfect_prediction = True
    with pytest.raises(PerfectSeparationError, match="separation"):
        model.fit(disp=0, warn_convergence=False, method=method, maxiter=200)


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (lambda X: X[:, 1] + 2 * X[:, 2], "column 'x6' is made of x1, x2"),
        (lambda X: np.full(len(X), 3.0), "column 'x6' is made of const"),
        (lambda X: np.zeros(len(X)), "column 'x6' is 0 throughout"),
    ],
)
def test_collinear_columns_are_named(made, said):
    X, y = data(3)
    names = ["const", *[f"x{i}" for i in range(1, 7)]]
    frame = pd.DataFrame(np.column_stack([X, made(X)]), columns=names)
    with pytest.warns(CollinearityWarning, match=said):
        results = MNLogit(y, frame).fit(disp=0)
    assert results.df_model == 10
    rest = MNLogit(y, X).fit(disp=0)
    same(results.llf, rest.llf)
    undetermined = np.isinf(results.bse.to_numpy())
    assert undetermined[-1].all()
    assert not undetermined.all()
    same(results.bse.to_numpy()[:-1][~undetermined[:-1]], rest.bse[~undetermined[:-1]], rtol=1e-4)


@pytest.mark.parametrize("P", [1, 2, 7, 64, 65, 130])
def test_inverses_by_sweeps_and_by_lapack_are_right(P):
    rng = np.random.default_rng(P)
    X = rng.standard_normal((3 * P, P)) * np.logspace(-3, 3, P)
    X[:, -1] += 50 * X[:, 0]
    H = X.T @ X
    C, undetermined = _identified.covariance(H, 2.0)
    assert undetermined is None and np.array_equal(C, C.T)
    scale = np.sqrt(H.diagonal())
    expected = np.linalg.inv(H / scale / scale[:, np.newaxis])
    same(2 * C * scale * scale[:, np.newaxis], expected, rtol=0, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("N, D", [(1, 1), (7, 3), (5001, 37)])
def test_gram_matrices_are_hessians(N, D, order):
    X = np.random.default_rng(0).standard_normal((N, D)).astype(float, order=order)
    same(_likelihood.gram(X), X.T @ X / N, rtol=0, atol=1e-14)


def test_examples_of_discrete_run():
    assert doctest.testmod(_mnlogit) == (0, 6)
    assert doctest.testmod(_logit) == (0, 5)


# Memory, and statsmodels' own tests


@pytest.mark.optimised
def test_no_array_has_all_samples_and_all_parameters():
    """Of 100000 x 20 x 6 the scores would take 76 MiB, and their products with posteriors far more."""
    rng = np.random.default_rng(9)
    N, D, K = 100_000, 20, 6
    X = sm.add_constant(rng.standard_normal((N, D - 1)))
    y = (X @ rng.standard_normal((D, K)) * 0.3 + rng.gumbel(size=(N, K))).argmax(axis=1)
    results = MNLogit(y, X).fit(disp=0)
    peaks = []
    for call in (
        lambda: results._get_robustcov_results("HC0"),
        lambda: results._get_robustcov_results("cluster", groups=np.arange(N) // 3),
        results.get_margeff,
    ):
        tracemalloc.start()
        call()
        peaks.append(tracemalloc.get_traced_memory()[1] / 2**20)
        tracemalloc.stop()
    assert max(peaks) < 70, peaks


@pytest.mark.parametrize(
    "chosen, least",
    [
        # Without the fits by statsmodels' own optimisers that take more than half of the time.
        pytest.param("not L1 and not MNLogitLBFGS and not basinhopping", 165, id="quick"),
        pytest.param("", 270, marks=pytest.mark.slow, id="whole"),
    ],
)
def test_statsmodels_suite_passes(chosen, least):
    suite = Path(__file__).with_name("statsmodels_suite.py")
    command = [sys.executable, str(suite), "-q", "-k", chosen]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert int(result.stdout.split(" passed")[0].split()[-1]) >= least


def test_warnings_name_the_line_that_fits():
    rng = np.random.default_rng(0)
    X = np.column_stack([np.ones(200), rng.standard_normal(200)])
    y, apart = rng.integers(0, 3, 200), (X[:, 1] > 0).astype(int)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MNLogit(y, np.column_stack([X, X[:, 1]])).fit(disp=0)
        MNLogit(y, X).fit(disp=0, maxiter=0, full_output=0)
        Logit(apart, X).fit(disp=0)
    kinds = {CollinearityWarning, ConvergenceWarning, FutureWarning, PerfectSeparationWarning}
    assert {each.category for each in caught} == kinds
    assert {each.filename for each in caught} == {__file__}
