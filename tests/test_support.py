"""The Hessian of the parameters that an L1 penalty leaves: a part of the whole one, and what it saves."""

import copy

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, optim
from softmax_ext._core import dispatch
from softmax_ext._inputs.rows import Rows
from softmax_ext._objective import fisher, support
from softmax_ext._objective.curvature import Blocks, Diagonal, Pairs, Whole
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.penalty import Penalty
from softmax_ext._objective.support import Support
from softmax_ext.linear_model import logistic_regression_path
from softmax_ext.objective import BinomialObjective

pytestmark = pytest.mark.skipif(dispatch.kernels is None, reason="there are no compiled kernels")


def problem(K, storage="dense", N=151, D=19, **options):
    rng = np.random.default_rng([K, N])
    X = rng.integers(0, 200, (N, D)) * (rng.random((N, D)) < 0.5)
    y = np.append(rng.integers(0, K, N - K), np.arange(K))
    if storage == "csr":
        X = scipy.sparse.csr_array(X.astype(float))
        X.data = np.ascontiguousarray(X.data)
    elif storage == "Fortran order":
        X = np.asfortranarray(X.astype(float))
    else:
        X = X.astype({"dense": float}.get(storage, storage))
    options.setdefault("sample_weight", rng.integers(0, 3, N) + 0.0)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    return Objective(X, y, penalty=Penalty(0.3, 0.1, weights=np.arange(D) % 3), **options)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3, 11])
@pytest.mark.parametrize("storage", ["dense", "csr", "Fortran order", "float32", "float16", "uint8"])
def test_the_support_is_that_part_of_the_whole_hessian(storage, K, intercept):
    objective, rng = problem(K, storage, fit_intercept=intercept), np.random.default_rng(0)
    w = 0.002 * rng.standard_normal(objective.size)
    whole = objective.hessian(w)
    close = 1e-12 if objective.dtype == np.float64 else 2e-6
    for share in (0.1, 0.6, 1):
        kept = np.flatnonzero((rng.random(objective.size) < share) | (np.arange(objective.size) >= objective.size - K))
        found = objective.hessian_among(w, kept, objective.N)
        np.testing.assert_allclose(found, whole[np.ix_(kept, kept)], atol=close * abs(whole).max())
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3, 11])
@pytest.mark.parametrize("twice", [False, True], ids=["", "some entries in two parts"])
def test_the_support_of_sparse_rows_is_summed_from_pairs_of_entries(twice, K, intercept, monkeypatch):
    monkeypatch.setattr(support, "PAIR", 0)
    objective, rng = problem(K, "csr", fit_intercept=intercept), np.random.default_rng(0)
    w = 0.002 * rng.standard_normal(objective.size)
    whole = objective.hessian(w)
    if twice:
        X = objective._rows.X.scipy(np.float64).tocoo()
        rows, columns, share = np.tile(X.row, 2), np.tile(X.col, 2), rng.random(X.nnz)
        order = np.argsort(rows, kind="stable")
        data = np.append(share * X.data, (1 - share) * X.data)[order]
        indptr = np.append(0, np.cumsum(np.bincount(rows, minlength=X.shape[0])))
        X = scipy.sparse.csr_array((data, columns[order], indptr), X.shape)
        objective = type(objective)(X, objective._rows.y, penalty=objective.penalty, sample_weight=objective._rows.s,
                                    fit_intercept=intercept)  # fmt: skip
    monkeypatch.setattr(support, "_as_arrays", None)  # so that no other way is taken
    for share in (0.1, 0.6, 1):
        kept = np.flatnonzero((rng.random(objective.size) < share) | (np.arange(objective.size) >= objective.size - K))
        found = objective.hessian_among(w, kept, objective.N)
        np.testing.assert_allclose(found, whole[np.ix_(kept, kept)], atol=1e-12 * abs(whole).max())
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("storage", ["dense", "csr", "float32"])
def test_many_rows_are_in_pieces_and_no_bit_depends_on_threads(storage, monkeypatch):
    ends = []
    for n_threads in (1, 2, 3):
        objective = problem(5, storage, N=5003, n_threads=n_threads)
        kept = np.flatnonzero(np.arange(objective.size) % 3)
        w = 0.002 * np.random.default_rng(0).standard_normal(objective.size)
        ends.append(objective.hessian_among(w, kept, objective.N))
    whole = objective.hessian(w)[np.ix_(kept, kept)]
    np.testing.assert_allclose(ends[0], whole, atol=2e-6 * abs(whole).max())
    assert len({H.tobytes() for H in ends}) == 1
    monkeypatch.setattr(support, "BYTES", 0)  # so that there is one piece
    np.testing.assert_allclose(objective.hessian_among(w, kept, objective.N), ends[0], rtol=1e-9, atol=1e-9)


def test_a_sample_of_the_rows_weighs_what_all_do():
    objective = problem(4, N=3001)
    kept, w = np.arange(10, objective.size), np.zeros(objective.size)
    some = objective.hessian_among(w, kept, 1000)
    part = SoftmaxObjective(
        objective._rows.X[::3], objective._rows.y[::3], sample_weight=objective._rows.s[::3], K=4,
        penalty=objective.penalty,
    )  # fmt: skip
    np.testing.assert_allclose(some, part.hessian(w)[np.ix_(kept, kept)], rtol=1e-10, atol=1e-8)


def test_the_support_takes_offsets_and_probabilities():
    rng = np.random.default_rng(0)
    X, Y, offset = rng.standard_normal((70, 6)), rng.random((70, 3)), rng.standard_normal((70, 3))
    objective = SoftmaxObjective(X, Y, offset=offset)
    w, kept = rng.standard_normal(objective.size), np.arange(3, objective.size)
    np.testing.assert_allclose(
        objective.hessian_among(w, kept, 70), objective.hessian(w)[np.ix_(kept, kept)], atol=1e-13
    )


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("K", [2, 4])
def test_a_step_of_what_is_kept_leaves_the_rest(K, grouped):
    """The coordinates that separate intercepts from features are those of the same part of the whole Hessian."""
    objective, rng = problem(K), np.random.default_rng(0)
    layout, count = objective.parameters, objective.parameters.count
    kept = np.zeros(layout.size, bool)
    kept[-count:] = True
    layout.weights(kept)[:, [0, 3, 4, 11]] = True
    if not grouped:
        kept[[0, 2]] = False, True
    kept = np.flatnonzero(kept)
    w = 0.002 * rng.standard_normal(layout.size)
    M = Support(objective, w, kept, objective.N)
    d = M.outward(rng.standard_normal(len(kept)))
    assert set(np.flatnonzero(d)) <= set(kept)
    up, down = M.upward(d), M.inward(rng.standard_normal(layout.size))
    assert up.shape == down.shape == (len(kept),)
    H = objective.hessian(w)
    assert M.times(up) @ up == pytest.approx(d @ H @ d, rel=1e-9)
    np.testing.assert_allclose(M.outward(up), d, rtol=1e-6, atol=1e-9)
    if grouped:
        np.testing.assert_array_equal(kept[: M.apart], [0, 3, 4, 11])


def test_pairs_that_leave_the_support_are_forgotten():
    objective, rng = problem(3), np.random.default_rng(0)
    pairs, M, w = Pairs(objective.size), Diagonal(objective.parameters), np.zeros(objective.size)
    kept = np.arange(20, objective.size)
    for inside in (True, False, True):
        s = rng.standard_normal(objective.size)
        s[:20] *= not inside
        pairs.add(s, 2 * s, M)
    pairs.refresh(Support(objective, w, kept, objective.N))
    assert len(pairs.rows) == 2
    gamma, Q, _ = pairs.compact(np.arange(len(kept)))
    assert gamma > 0 and Q.shape == (len(kept), 8)
    pairs.refresh(Blocks(objective.curvature(w)))
    assert len(pairs.rows) == 2


@pytest.mark.parametrize("kind", ["whole", "support", "blocks", "one block", "diagonal"])
def test_a_model_follows_the_penalty_as_a_new_one_would_be(kind, monkeypatch):
    """Along a path of elastic nets it is kept from value to value."""
    objective, w = problem(3), 0.002 * np.random.default_rng(0).standard_normal(60)
    w *= kind != "one block"  # at 0 all classes have the same
    before, then, kept = objective.penalty, Penalty(1e4, 0.1, weights=objective.penalty.weights), np.arange(20, 60)

    def made():
        if kind == "whole":
            return Whole(objective, w)
        if kind == "support":
            return Support(objective, w, kept, objective.N)
        found = objective.curvature(w)
        return Diagonal(objective.parameters, found) if kind == "diagonal" else Blocks(found)

    if kind == "diagonal":
        monkeypatch.setattr(fisher, "BYTES", 0)  # which leaves no blocks
    M, change = made(), np.zeros(60)
    objective.parameters.weights(change)[:] = then.diagonal(19) - before.diagonal(19)
    objective = copy.copy(objective)  # as a fold's, which is another at each value
    objective.penalty = then
    M.follow(objective, change)
    want, s = made(), np.random.default_rng(1).standard_normal(len(M.diagonal))
    np.testing.assert_allclose(M.diagonal, want.diagonal, rtol=3e-3)  # damping is that of the first M
    np.testing.assert_allclose(M.times(s), want.times(s), rtol=3e-3, atol=3e-3 * abs(want.times(s)).max())
    M.refresh(w)
    np.testing.assert_allclose(M.times(s), want.times(s), rtol=3e-3, atol=3e-3 * abs(want.times(s)).max())


def test_pairs_follow_the_penalty():
    objective, rng = problem(3), np.random.default_rng(0)
    pairs, M, change = Pairs(objective.size), Diagonal(objective.parameters), rng.random(objective.size)
    steps = rng.standard_normal((13, objective.size))  # of which ten stay, from row 3 of theirs on
    for s in steps:
        pairs.add(s, 2 * s, M)
    pairs.follow(change, M)
    assert len(pairs.rows) == 10
    for row, s in zip(pairs.rows, steps[3:], strict=True):
        np.testing.assert_allclose(pairs.Y[row] * pairs.S[row], (2 + change) * s**2 / ((2 + change) @ s**2), rtol=1e-9)
        assert pairs.SY[row, row] == pytest.approx(1)
    pairs.follow(np.full(objective.size, -9.0), M)  # which would curve downwards
    assert not pairs.rows


def test_a_path_of_elastic_nets_goes_on_with_its_model(monkeypatch):
    from softmax_ext._optim import proximal

    X, y = problem(4, N=400)._rows.X, np.arange(400) % 4
    made = []
    monkeypatch.setattr(proximal, "FEW", 0)
    monkeypatch.setattr(proximal, "Pairs", lambda size: made.append(size) or Pairs(size))
    followed, follow = [], Pairs.follow
    monkeypatch.setattr(Pairs, "follow", lambda self, *given: (followed.append(len(self.rows)), follow(self, *given)))
    changed = []
    for kind in (Blocks, Whole):
        to = kind.follow
        monkeypatch.setattr(kind, "follow", lambda self, *given, to=to: (changed.append(1), to(self, *given)))
    path = logistic_regression_path(X + y[:, None], y, Cs=10, l1_ratio=0.5)
    assert len(changed) > 5  # of the nine values after the first
    assert len(made) == 1 and max(followed) > 1 and path.gaps.max() < 1e-4 and path.n_iters[1:].all()


@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("grouped", [False, True])
def test_fits_take_fewer_passes_with_the_support(grouped, storage, monkeypatch):
    """The fits also end at the same minimum."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((600, 50)) @ np.diag(np.geomspace(0.1, 10, 50)) + 3
    y = (X[:, -6:] @ rng.standard_normal((6, 8)) * 0.3 + rng.gumbel(size=(600, 8))).argmax(axis=1)
    X = scipy.sparse.csr_array(X) if storage == "csr" else X
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.05, grouped=grouped))
    counts, values = [], []
    monkeypatch.setattr("softmax_ext._objective.entries.ENTRIES", 0)
    for most in (0, support.MOST):
        monkeypatch.setattr(support, "MOST", most)
        found = optim.proximal(objective, np.zeros(objective.size), tol=1e-5, max_iter=1000)
        assert found.converged, found.report
        counts.append(found.n_iter)
        values.append(found.value)
    assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert 2 * counts[1] < counts[0]


def test_there_is_no_support_where_it_would_cost_too_much():
    objective = problem(3)
    kept = np.arange(objective.size)
    assert support.rows_for(objective, kept) == objective.N
    assert not support.rows_for(objective, kept[:0])
    assert not support.rows_for(objective, np.arange(support.MOST + 1))

    class Large:
        available, flops, hessian_among = 10**6, 10**6, None
        operations_among = staticmethod(lambda kept: len(kept) ** 2)

    assert not support.rows_for(Large(), np.arange(1000))
    assert support.rows_for(Large(), np.arange(10)) == 10**6
    assert not support.rows_for(object(), kept)
    least = 1000 * support.ROWS_PER_PARAMETER
    assert support.rows_for(Large(), np.arange(1000), 1000) == least  # and so many iterations make it cheap enough


def test_the_support_of_standardised_features_is_that_of_scaled_ones():
    from softmax_ext._fit.scaling import Scaling, StandardisedObjective
    from softmax_ext._objective.binomial import objective_of

    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 7)) * [1, 10, 100, 1, 1, 1, 1] + 5, rng.integers(0, 3, 90)
    X[:, 3] = 2
    for storage in (np.asarray, scipy.sparse.csr_array):
        parameters, penalty, scaling = Parameters(3, 7, True), Penalty(0.1, 0.1), Scaling.of(X)
        inner = objective_of(Rows.of(_as_rows(storage(X)), y), parameters, Penalty())
        ours = StandardisedObjective(inner, penalty, scaling, intercept=True)
        theirs = objective_of(Rows.of((X - scaling.mean) * scaling.inverse, y), parameters, penalty)
        v, kept = rng.standard_normal(24), np.arange(4, 24)
        np.testing.assert_allclose(
            ours.hessian_among(v, kept, 90), theirs.hessian_among(v, kept, 90), rtol=1e-8, atol=1e-9
        )


def _as_rows(X):
    from softmax_ext._inputs.csr import check_csr
    from softmax_ext._inputs.dtypes import COMPUTES_IN

    return check_csr(X, "X", COMPUTES_IN) if scipy.sparse.issparse(X) else X
