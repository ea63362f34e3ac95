"""`gap_` of fits with an L2 penalty: an upper bound of how far the objective lies above its minimum."""

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import optim, reference
from softmax_ext._core import dispatch
from softmax_ext._objective import constant
from softmax_ext._optim.duality import Dual, DualOfOne, by_kernel
from softmax_ext.chunks import from_iterable
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import BinomialObjective, SoftmaxObjective


def problem(K, N=120, D=7):
    rng = np.random.default_rng([K, N])
    X = rng.standard_normal((N, D)) * np.geomspace(0.1, 10, D) + 2
    y = np.append((X @ rng.standard_normal((D, K)) + 9 * rng.gumbel(size=(N, K))).argmax(axis=1)[K:], np.arange(K))
    return X, y, rng.integers(0, 3, N) + 0.5


@pytest.mark.pairs(3)
@pytest.mark.parametrize("tol", [1e-2, 1e-5])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 4])
@pytest.mark.parametrize(
    "kind",
    ["dense", "csr", "soft", "standardised", "weights", "wide", "warm", "chunks", "newton"]
    + [f"offset {kind}" for kind in ("csr", "soft", "standardised", "wide", "chunks")],
)
def test_the_gap_bounds_the_distance_to_the_minimum(kind, K, intercept, tol):
    kind, offsets = kind.split()[-1], kind.startswith("offset")
    X, y, s = problem(K, *((20, 300) if kind == "wide" else ()))
    model = LogisticRegression(
        C=3.0,
        tol=tol,
        fit_intercept=intercept,
        solver="newton-cg" if kind == "newton" else "lbfgs",
        standardize=kind == "standardised",
        penalty_weights=np.linspace(0.5, 2, X.shape[1]) if kind == "weights" else None,
        warm_start=kind == "warm",
        max_iter=1000,
    )
    given = (scipy.sparse.csr_array(X) if kind == "csr" else X, y, s)
    if kind == "soft":
        given = X, np.random.default_rng(0).dirichlet(np.ones(K), len(X)), s
    if offsets:
        offset = np.random.default_rng(1).standard_normal((len(X), K) if K > 2 else len(X)) + 1
        given = *given, offset
    if kind == "chunks":
        pieces = [tuple(each[i : i + 50] for each in given) for i in range(0, 120, 50)]
        given = (from_iterable(lambda: iter(pieces)),)
    elif kind == "warm":
        model.set_params(tol=1.0).fit(*given).set_params(tol=tol)
    value, gap = model.fit(*given).loss_curve_[-1], model.gap_
    best = model.set_params(tol=1e-10).fit(*given).loss_curve_[-1]
    assert value - best <= gap + 1e-12
    assert 0 <= gap <= (10 * value if kind == "wide" else 100 * tol * value)
    assert model.gap_ <= 1e-8


@pytest.mark.parametrize("moved", [0, 1])
@pytest.mark.parametrize("intercept", [True, False])
def test_the_gap_is_that_of_the_specification(intercept, moved):
    X, y, s = problem(4)
    offset = moved * (np.random.default_rng(1).standard_normal((120, 4)) + np.arange(4))
    model = LogisticRegression(C=3.0, tol=1e-3, fit_intercept=intercept).fit(X, y, s, offset if moved else None)
    b, l2 = model.intercept_ if intercept else None, 1 / (3.0 * s.sum())
    want = reference.duality_gap(X, reference.one_hot(y, 4), model.coef_, b, s, l2, 0.0, False, offset)
    assert model.gap_ == pytest.approx(want, rel=0.2, abs=1e-12)


def test_without_a_penalty_of_every_feature_there_is_no_gap():
    X, y, s = problem(3)
    assert np.isnan(LogisticRegression(C=np.inf).fit(X, y, s).gap_)
    assert np.isnan(LogisticRegression(penalty_weights=np.arange(7)).fit(X, y).gap_)
    never = np.where(np.arange(3) == (y[:, None] + 1) % 3, -np.inf, 0)  # each row has a class that it cannot be of
    objective = SoftmaxObjective(X, y, penalty=optim.Penalty(l1=0.01), offset=never)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=500)
    assert found.converged and np.isnan(found.gap), found.report


@pytest.mark.parametrize("intercept", [True, False])
def test_the_gap_takes_one_pass_with_intercepts_and_none_without(intercept, monkeypatch):
    X, y, s = problem(3)
    passes, ask = [], SoftmaxObjective.value_and_grad
    monkeypatch.setattr(SoftmaxObjective, "value_and_grad", lambda self, w: (passes.append(1), ask(self, w))[1])
    model = LogisticRegression(fit_intercept=intercept, solver="lbfgs").fit(X, y, s)
    assert np.isfinite(model.gap_)
    monkeypatch.setattr("softmax_ext._fit.observers.gap_of", lambda run: np.nan)
    with_it = len(passes)
    passes.clear()
    model.fit(X, y, s)
    assert with_it - len(passes) == intercept


@pytest.mark.parametrize("K", [2, 4])
def test_the_pass_of_the_gap_has_the_gradient_of_constant_probabilities(K):
    X, y, s = problem(K)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    objective = Objective(X, y, sample_weight=s)
    value, grad = objective.value_and_grad(np.zeros(objective.size))
    q = np.random.default_rng(0).dirichlet(np.ones(K))
    one = DualOfOne(objective, (value, objective.parameters.intercepts(grad)))
    np.testing.assert_allclose(one.gradient_of(q), Dual(objective).gradient_of(q), atol=1e-12)
    np.testing.assert_allclose(one.frequencies, s @ reference.one_hot(y, K) / s.sum())


@pytest.mark.parametrize("targets", ["labels", "soft", "of any mass"])
@pytest.mark.parametrize("kind", ["one row", "L2", "L1", "grouped"])
@pytest.mark.parametrize("moved", [False, True])
def test_the_gap_is_that_of_the_specification_far_from_the_minimum(moved, kind, targets, monkeypatch):
    """Far from the minimum, constant probabilities are a large part of the mixture.

    A target of mass a is a label with the weight a: the loss is c times that of labels, c = Σ s a / Σ s.
    """
    K = 2 if kind == "one row" else 4
    (X, y, s), rng = problem(K), np.random.default_rng(5)
    X, Y = X / 10, reference.one_hot(y, K)
    penalty = optim.Penalty(*((0.0, 0.1) if kind in ("L1", "grouped") else (0.1, 0.0)), grouped=kind == "grouped")
    offset = rng.standard_normal((120, K)) + np.arange(K)
    if kind == "one row":
        offset[:, 0] = 0
    mass = rng.uniform(0.5, 3, 120) if targets == "of any mass" else np.ones(120)
    objective = (BinomialObjective if kind == "one row" else SoftmaxObjective)(
        X, y if targets == "labels" else mass[:, np.newaxis] * Y, sample_weight=s, penalty=penalty,
        offset=None if not moved else offset[:, 1] if kind == "one row" else offset,
    )  # fmt: skip
    w = rng.standard_normal(objective.size)
    dual, asked = Dual(objective), objective.value_and_grad(w)
    got = dual.gap(w, *asked, penalty)
    found = by_kernel(objective, dual, w, asked)
    if dispatch.kernels is None or kind != "L2" or moved:
        assert found is None
    else:
        assert found == pytest.approx(got, rel=1e-12)
        monkeypatch.setattr(constant, "SUMMED_FLOPS", 0)  # sums over the classes replace its pass
        assert (by_kernel(objective, dual, w, asked) is None) == (targets == "labels")
    (W, b), half = objective.parameters.views(w), 1.0
    if kind == "one row":  # two rows that are half of it have its scores and half of its penalty
        W, b, half = np.vstack([-W / 2, W / 2]), np.append(-b / 2, b / 2), 2.0
    c = (s @ mass) / s.sum()
    of = s * mass, half * penalty.l2 / c, penalty.l1 / c, penalty.grouped, offset if moved else None
    assert got == pytest.approx(c * reference.duality_gap(X, Y, W, b, *of), rel=1e-9) and got > 0.1
