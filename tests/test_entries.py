"""The Hessian of sparse samples from their entries: it is the Hessian, and fits by it end where they should."""

import itertools

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, optim
from softmax_ext._core import coordinates, dispatch
from softmax_ext._core.coordinates import Entries, Quadratic, descend
from softmax_ext._fit.scaling import standardised
from softmax_ext._inputs.csr import check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext._inputs.rows import Rows
from softmax_ext._objective import entries as module
from softmax_ext._objective.entries import ByEntries, pays
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.penalty import Penalty
from softmax_ext._optim import proximal, working_set
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import BinomialObjective

pytestmark = pytest.mark.skipif(dispatch.kernels is None, reason="there are no compiled kernels")


def sparse(K, N=60, D=9, dtype=np.float64, seed=0):
    """Return samples with some entries stored twice, labels and weights."""
    rng = np.random.default_rng([K, seed])
    X = (rng.standard_normal((N, D)) * (rng.random((N, D)) < 0.3)).astype(dtype)
    entries = scipy.sparse.coo_array(X)
    first = slice(0, 20)
    data = np.append(entries.data, entries.data[first])
    rows, columns = (np.append(each, each[first]) for each in entries.coords)
    order = np.argsort(rows, kind="stable")
    indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=N)))
    X = scipy.sparse.csr_array((data[order], columns[order], indptr), shape=(N, D))
    return X, np.append(rng.integers(0, K, N - K), np.arange(K)), rng.integers(0, 3, N) + 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("K", [2, 4])
def test_a_descent_over_entries_ends_at_the_minimum_of_the_hessians_model(K, grouped, intercept, dtype):
    X, y, s = sparse(K, dtype=dtype)
    penalty = Penalty(0.05, 0.15, grouped=grouped, weights=np.linspace(0.5, 2, X.shape[1]))
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    objective = Objective(X, y, sample_weight=s, penalty=penalty, fit_intercept=intercept)
    layout, rng = objective.parameters, np.random.default_rng(1)
    w, g = rng.standard_normal(objective.size) * rng.integers(0, 2, objective.size), rng.standard_normal(objective.size)
    g *= 0.2
    limits = np.zeros(objective.size)
    layout.weights(limits)[:] = penalty.thresholds(layout.D)
    curvature = ByEntries(objective, w, 0.1)
    H = objective.hessian(w)
    least = 0.1 * (K - 1) / K**2 * objective.mean_squares
    H.flat[:: len(H) + 1] += layout.flat(np.tile(least, (layout.count, 1)))
    which, groups = np.arange(objective.size), 0
    if grouped and layout.count > 1:
        which, groups = np.delete(which, slice(layout.D, layout.count * layout.D)), layout.D
    among = Entries(which, groups, layout.count, layout.D)
    columns = curvature.columns, curvature.posterior
    none = np.zeros((objective.size, 0))
    u, _ = descend(Quadratic(None, curvature.diagonal, 1.0, none, none, g, limits, *columns), among, w, 1e-10)
    want, _ = descend(Quadratic(H[np.newaxis], H.diagonal().copy(), 1.0, none, none, g, limits), among, w, 1e-10)
    np.testing.assert_allclose(u, want, atol=1e-4 if dtype == np.float32 else 1e-7)
    assert (u == 0).tolist() == (want == 0).tolist() and 0 < np.count_nonzero(u) < len(u)


def test_conjugate_gradients_in_turns_with_sweeps_end_at_the_same_minimum(monkeypatch):
    X, y, _ = sparse(3, N=80, D=30)
    objective = SoftmaxObjective(X, y, penalty=Penalty(1e-3, 5e-3))
    w, none = np.zeros(objective.size), np.zeros((objective.size, 0))
    _, g = objective.value_and_grad(w)
    curvature = ByEntries(objective, w, 0.0)
    limits = np.where(np.arange(objective.size) < 3 * 30, 5e-3, 0.0)
    model = Quadratic(None, curvature.diagonal, 1.0, none, none, g, limits, curvature.columns, curvature.posterior)
    entries, sweeps, solve = Entries(np.arange(objective.size)), [], coordinates.conjugate_gradients
    want, _ = descend(model, entries, w, 1e-11)
    monkeypatch.setattr(coordinates, "SWEPT", 1e3)
    monkeypatch.setattr(coordinates, "TURN", 1)
    monkeypatch.setattr(coordinates, "conjugate_gradients", lambda *given: (sweeps.append(1), solve(*given))[1])
    u, _ = descend(model, entries, w, 1e-11)
    np.testing.assert_allclose(u, want, atol=1e-8)
    assert 1 < len(sweeps) < coordinates.TURNS and (u == 0).tolist() == (want == 0).tolist()


@pytest.mark.parametrize("K", [2, 4])
def test_standardised_samples_stay_sparse(K):
    """A step of (W, b) of the features as they are moves the intercepts of the standardised ones, too."""
    X, y, s = sparse(K)
    rows = Rows(check_csr(X, "X", COMPUTES_IN), y, s=s)
    objective = standardised(rows, Parameters.of_model(K, X.shape[1], True), s)
    w, rng = 0.3 * np.random.default_rng(0).standard_normal(objective.size), np.random.default_rng(1)
    M = ByEntries(objective, w, 0.0)
    d, H = rng.standard_normal(objective.size), objective.hessian(w)
    np.testing.assert_allclose(M.outward(M.upward(d)), d, atol=1e-12)
    g = rng.standard_normal(objective.size)
    assert M.inward(g) @ M.upward(d) == pytest.approx(g @ d)
    everything = np.arange(objective.size)
    none = np.zeros((objective.size, 0))
    model = Quadratic(None, M.diagonal, 1.0, none, none, M.inward(g), 0 * g, M.columns, M.posterior)
    u, _ = descend(model, Entries(everything), 0 * g, 1e-11)
    fine = H + 1e-9 * np.eye(len(H))
    step = M.outward(u)
    slope = objective.parameters.determined(g + fine @ step, False)
    assert np.abs(slope).max() < 1e-5
    without = standardised(rows, Parameters.of_model(K, X.shape[1], False), s)
    assert without.columns is None  # the shift has no intercept to go to


@pytest.mark.parametrize("change", ["weights", "features"])
@pytest.mark.parametrize("kind", ["plain", "standardised"])
def test_entries_are_those_of_the_objective_that_has_them(kind, change):
    X, y, s = sparse(3)
    objective = SoftmaxObjective(X, y, sample_weight=s)
    if kind == "standardised":
        objective = standardised(Rows(check_csr(X, "X", COMPUTES_IN), y, s=s), Parameters(3, X.shape[1], True), s)
    before = objective.columns
    if change == "weights":
        other = objective.weighing(2 * s * (np.arange(len(y)) < 50))
        assert (other.columns.root == 0).sum() == 10 and (before.root == 0).sum() == 0
    else:
        other = objective.of_features(np.array([2, 5]))
        counts = np.diff(before.begin)
        assert np.diff(other.columns.begin).tolist() == counts[[2, 5]].tolist()
        np.testing.assert_allclose(other.columns.data[: counts[2]], before.data[before.begin[2] : before.begin[3]])
    assert objective.columns is before


def test_entries_pay_where_they_are_few_for_each_parameter():
    X, y, _ = sparse(3, N=500, D=40)
    objective = SoftmaxObjective(X, y)
    assert pays(objective, np.arange(objective.size))
    assert not pays(objective, np.arange(10))  # of a hundred entries each
    assert not pays(SoftmaxObjective(X.toarray(), y), np.arange(objective.size))
    assert not pays(object(), np.arange(3))


def topics(N=1500, D=4000, K=8):
    """Return documents of a Zipf vocabulary, each with words of its topic, and a tenth of the labels wrong."""
    rng = np.random.default_rng(0)
    y, share = rng.integers(0, K, N), 1 / np.arange(1, D + 1) ** 1.05
    share /= share.sum()
    rows = np.repeat(np.arange(N), np.maximum(5, rng.poisson(60, N)))
    words = rng.choice(D, len(rows), p=share)
    of_topic = np.array([rng.choice(D, 300, p=share) for _ in range(K)])
    own = np.flatnonzero(rng.random(len(rows)) < 0.15)
    words[own] = of_topic[y[rows[own]], rng.integers(0, 300, len(own))]
    X = scipy.sparse.csr_array((np.ones(len(rows)), (rows, words)), shape=(N, D))
    X.sum_duplicates()
    X.data = (1 + np.log(X.data)) * np.log(N / np.bincount(X.indices, minlength=D)[X.indices])
    X.data /= np.repeat(np.sqrt(X.power(2).sum(axis=1)), np.diff(X.indptr))
    wrong = rng.random(N) < 0.1
    y[wrong] = rng.integers(0, K, wrong.sum())
    return X, y


def useful(X, y):
    """Return the largest useful l1."""
    K = y.max() + 1
    return abs((np.bincount(y) / len(y) - np.eye(K)[y]).T @ X / len(y)).max()


@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("part", [0.01, 0.003])
def test_wide_sparse_fits_converge_at_weak_penalties(part, standardize):
    """With the Hessian of at most 2048 weights, and a diagonal for more, they ended at max_iter."""
    X, y = topics()
    l1 = part * useful(X, y) * (10 if standardize else 1)
    model = LogisticRegression(C=1 / (l1 * len(y)), l1_ratio=1, solver="saga", standardize=standardize).fit(X, y)
    assert model.converged_ and model.n_iter_[0] < 30, model.convergence_report_
    assert np.count_nonzero(model.coef_) > 1500 and model.gap_ <= 1.001e-5 * max(model.loss_curve_[-1], 1e-4)


def test_no_bit_of_a_fit_by_entries_depends_on_threads(monkeypatch):
    monkeypatch.setattr(module, "ENTRIES", np.inf)
    monkeypatch.setattr(coordinates, "SWEPT", 1e3)
    monkeypatch.setattr(coordinates, "TURN", 1)  # so that conjugate gradients take their turn
    X, y = topics(150, 500, 4)
    ends = []
    for n_threads in (1, 2, 3):
        objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.01 * useful(X, y)), n_threads=n_threads)
        ends.append(optim.proximal(objective, np.zeros(objective.size), max_iter=6).w.tobytes())
    assert len(set(ends)) == 1


def test_a_working_set_goes_on_with_the_damping_of_the_one_before(monkeypatch):
    made = []
    init = proximal.Model.__init__
    monkeypatch.setattr(
        proximal.Model, "__init__", lambda self, *given: (made.append([given[-1], self]), init(self, *given))[1]
    )
    X, y = topics(400, 2000, 5)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.003 * useful(X, y)))
    assert optim.proximal(objective, np.zeros(objective.size)).converged
    assert made[0][0] == proximal.DAMPING and len(made) > 3
    for (_, before), (damping, _) in itertools.pairwise(made):
        assert damping == before.damping
    assert len({damping for damping, _ in made}) > 2


def test_a_working_set_ends_near_the_end_of_all_features(monkeypatch):
    """Its gap need not be smaller than a part of theirs, so that early sets are not fitted to the last digit."""
    monkeypatch.setattr(working_set, "WIDE", 100)
    monkeypatch.setattr(module, "ENTRIES", np.inf)
    ends, solution = [], proximal._follow

    def following(run, *given):
        ends.append((run, solution(run, *given)))
        return ends[-1][1]

    monkeypatch.setattr(proximal, "_follow", following)
    X, y = topics(400, 2000, 5)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.01 * useful(X, y)))
    found = optim.proximal(objective, np.zeros(objective.size))
    assert found.converged
    looser = [run for run, _ in ends if np.isfinite(run.enough) and run.enough > 2 * found.gap]
    assert looser and all(run.gap <= run.enough for run in looser if run.converged)
