"""Several models in one read of X: each gets the bits that it gets alone, whoever asks beside it. So do folds."""

import gc
import signal
import sys
import threading

import numpy as np
import pytest
import scipy.sparse

from softmax_ext._core import dispatch
from softmax_ext._core.plan import binomial_plan
from softmax_ext._inputs.rows import Rows
from softmax_ext._objective.penalty import Penalty
from softmax_ext.objective import BinomialObjective

pytestmark = pytest.mark.skipif(dispatch.kernels is None, reason="the reference has no reads to share")

SHAPES = [(1, 1), (37, 3), (1031, 30), (5003, 200), (20_011, 17)]


def problem(N, D, element="f4", storage="dense"):
    rng = np.random.default_rng([N, D])
    X = (rng.standard_normal((N, D)) * (40 if element in ("i1", "u1") else 1)).astype(element)
    if storage == "csr":
        X = scipy.sparse.csr_array(X * (rng.random((N, D)) < 0.2).astype(element))
    return X, rng.integers(0, 2, N)


def parts_of(whole, count, seed=0):
    """All rows, and parts of them, in which some count twice; and where each is asked."""
    rng, N = np.random.default_rng(seed), whole.N
    parts = [whole] + [whole.weighing(rng.integers(0, 3, N) + 1.0 * (np.arange(N) == 0)) for _ in range(count - 1)]
    return parts, [rng.standard_normal(whole.size) for _ in parts]


def assert_each_is_alone(parts, at, together=BinomialObjective.together):
    for part, w, (value, grad) in zip(parts, at, together(parts, at), strict=True):
        alone = part.value_and_grad(w)
        assert value == alone[0] and np.array_equal(grad, alone[1])


@pytest.mark.pairs(3)
@pytest.mark.parametrize(
    "storage, element",
    [("dense", "f4"), ("dense", "f8"), ("dense", "f2"), ("dense", "i1"), ("csr", "f4"), ("csr", "f8")],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("models", [1, 2, 5])
@pytest.mark.parametrize("n_threads", [1, 3])
def test_each_model_gets_its_bits(isa, storage, element, shape, models, n_threads):
    X, y = problem(*shape, element, storage)
    parts, at = parts_of(BinomialObjective(X, y, l2=0.1, n_threads=n_threads), models)
    assert_each_is_alone(parts, at)


def test_each_model_is_that_of_the_reference(isa):
    X, y = problem(1031, 30, "f8")
    parts, at = parts_of(BinomialObjective(X, y, l2=0.1), 3)
    found = BinomialObjective.together(parts, at)
    with dispatch.using(dispatch.REFERENCE):
        for part, w, (value, grad) in zip(parts, at, found, strict=True):
            expected = part.value_and_grad(w)
            assert value == pytest.approx(expected[0], rel=1e-12)
            np.testing.assert_allclose(grad, expected[1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "what", ["offset", "probabilities", "no intercept", "penalty weights", "strided", "more than a kernel's"]
)
def test_each_model_gets_its_bits_whatever_belongs_to_its_samples(what):
    X, y = problem(60_007, 60 if what == "strided" else 9)  # whose conversion is cut into pieces
    rng, more = np.random.default_rng(0), {}
    if what == "offset":
        more = {"offset": rng.standard_normal(len(y)).astype("f4")}
    elif what == "probabilities":
        y = rng.random((len(y), 2))
    elif what == "strided":
        X = np.repeat(X, 2, axis=1)[:, ::2]
    elif what == "penalty weights":  # which a pass does not add
        more = {"penalty": Penalty(0.1, weights=rng.random(9))}
    more = more if "penalty" in more else more | {"l2": 0.1}
    whole = BinomialObjective(X, y, fit_intercept=what != "no intercept", **more)
    assert_each_is_alone(*parts_of(whole, 19 if what.startswith("more") else 3))


def test_each_model_gets_its_bits_over_several_blocks(monkeypatch):
    from softmax_ext._core import plan

    monkeypatch.setattr(plan, "BLOCK_BYTES", 2**18)
    for cached in (plan.plan, plan.binomial_plan):
        cached.cache_clear()
    X, y = problem(20_011, 17)
    assert binomial_plan(20_011, 17, 4, dispatch.isa, models=3).block < 20_011
    assert_each_is_alone(*parts_of(BinomialObjective(X, y), 3))
    for cached in (plan.plan, plan.binomial_plan):
        cached.cache_clear()


def test_standardised_models_get_their_bits():
    from softmax_ext._fit.scaling import standardised
    from softmax_ext._objective.parameters import Parameters

    X, y = problem(1031, 30)
    whole = standardised(Rows(X, y), Parameters.of_model(2, 30, True))
    whole.penalty = Penalty(0.1)
    assert whole.models_per_read
    assert_each_is_alone(*parts_of(whole, 4), type(whole).together)


def test_a_shared_read_names_what_it_refuses():
    X, y = problem(37, 3)
    whole = BinomialObjective(X, y)
    kernels, rows = dispatch.kernels, Rows(X, y)
    one = whole._function().asked
    with pytest.raises(ValueError, match="expected 1 to 16 models with their weights, got 17 and 17"):
        kernels.Together([one] * 17, [None] * 17)
    with pytest.raises(ValueError, match="got 1 and 2"):
        kernels.Together([one], [None] * 2)
    asked, way = kernels.Together([one], [None]), whole._one_row(models=2)
    with pytest.raises(ValueError, match="a plan of 2 models for 1"):
        asked.visit(rows, way, way.single, None, 1)
    short = kernels.Together([one] * 2, [np.ones(36)] * 2)
    with pytest.raises(ValueError, match="expected 37 numbers or more, got 36"):
        short.visit(rows, way, way.single, None, 1)
    loss = kernels.Together([kernels.LossGrad(np.zeros((1, 3), "f4"), None, None, None, 1.0)] * 2, [None] * 2)
    with pytest.raises(ValueError, match="expected passes with a gradient"):
        loss.visit(rows, way, way.single, None, 1)


# the folds


@pytest.fixture
def in_step(monkeypatch):
    """Small problems too."""
    pytest.importorskip("sklearn", "1.6")
    from softmax_ext.linear_model import _grid

    monkeypatch.setattr(_grid, "SIDE_BY_SIDE", 0)
    monkeypatch.setattr(_grid, "TOGETHER", 0)


def fit(X, y, offset=None, **parameters):
    from softmax_ext.linear_model import LogisticRegressionCV

    given = {"l1_ratios": (0,), "scoring": "neg_log_loss", "use_legacy_attributes": False, "Cs": 5, "cv": 4}
    return LogisticRegressionCV(**given | parameters).fit(X, y, **{} if offset is None else {"offset": offset})


@pytest.mark.parametrize("case", ["few", "many", "csr", "standardised", "offset", "tight", "newton", "wide"])
def test_folds_that_read_together_find_what_they_find_alone(case, in_step, monkeypatch):
    """They do to the bit, in fewer reads than half of the evaluations."""
    N, D = {"many": (900, 150), "wide": (60, 700)}.get(case, (1031, 12))
    X, y = problem(N, D, "f4", "csr" if case == "csr" else "dense")
    y = (X[:, :3].sum(axis=1) + np.random.default_rng(0).logistic(size=N) > 0).astype(int)
    parameters = {"standardize": case == "standardised", "tol": 1e-8 if case == "tight" else 1e-4}
    parameters["solver"] = "newton-cg" if case == "newton" else "lbfgs"
    if case == "offset":
        parameters["offset"] = np.random.default_rng(1).standard_normal(N)
    asked, together = [], BinomialObjective.together
    seen = staticmethod(lambda parts, at: asked.append(len(parts)) or together(parts, at))
    monkeypatch.setattr(BinomialObjective, "together", seen)
    found = fit(X, y, **parameters)
    assert sum(asked) > 2 * len(asked) > 0 and max(asked) == 5  # four folds, and all rows one C ahead
    monkeypatch.setattr(BinomialObjective, "models_per_read", 0)
    reads, alone = len(asked), fit(X, y, **parameters)
    assert len(asked) == reads
    for name in ("coef_", "intercept_", "coefs_paths_", "scores_", "n_iter_"):
        assert np.array_equal(getattr(found, name), getattr(alone, name)), name
    assert found.convergence_report_ == alone.convergence_report_


@pytest.mark.parametrize("where", ["an evaluation", "a fold's Hessian", "the callback"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
@pytest.mark.thread_unsafe(reason="counts threads")
def test_what_is_raised_ends_all_fits(where, error, in_step, monkeypatch):
    if error is KeyboardInterrupt and sys.platform == "win32":
        pytest.skip("Windows has no way to send SIGINT to a process")
    calls, more = [], {}

    def fails(*_):
        calls.append(1)
        if len(calls) == 5:
            if error is KeyboardInterrupt:
                signal.raise_signal(signal.SIGINT)
            raise error("the fifth")

    def failing(name):
        function = getattr(BinomialObjective, name)
        return lambda *arguments: fails() or function(*arguments)

    if where == "an evaluation":
        monkeypatch.setattr(BinomialObjective, "together", staticmethod(failing("together")))
    elif where == "a fold's Hessian":
        monkeypatch.setattr(BinomialObjective, "hessian", failing("hessian"))
    else:
        more = {"callback": fails}
    X, y = problem(1031, 12)
    gc.collect()
    before = threading.active_count()
    with pytest.raises(error):
        fit(X, y, tol=1e-10, **more)
    assert threading.active_count() == before and len(calls) == 5
    monkeypatch.undo()
    assert fit(X, y, Cs=2).scores_.shape == (4, 1, 2)


@pytest.mark.parametrize("n_threads", [2, 3])
def test_threads_change_no_bit_of_folds_that_read_together(n_threads, in_step):
    X, y = problem(20_011, 17)
    one, several = fit(X, y, n_threads=1), fit(X, y, n_threads=n_threads)
    for name in ("coef_", "coefs_paths_", "scores_", "n_iter_"):
        assert np.array_equal(getattr(one, name), getattr(several, name)), name


def test_more_folds_than_a_read_serves_are_fitted(in_step):
    X, y = problem(300, 4, "f8")
    assert fit(X, y, cv=20, Cs=2).coefs_paths_.shape == (20, 1, 2, 1, 5)
