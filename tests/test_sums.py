"""Sums of samples, of each class and each feature; loss and gradient that follow from them without a product."""

import numpy as np
import pytest
import scipy.sparse

from softmax_ext._core import dispatch, sums, vectors
from softmax_ext._inputs.csr import check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext._objective import constant
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import SoftmaxObjective

KINDS = ["array", "strided", "csr", "int64", "int8"]
needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="nothing is compiled: NumPy makes a pass")


def samples(kind, dtype, N=203, D=37, K=5):
    rng = np.random.default_rng(N)
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, K, N)
    y[y == 1] = 0  # a class without samples
    if kind == "strided":
        X = np.repeat(X, 2, axis=0)[::2]
    elif kind != "array":
        X = scipy.sparse.csr_array(X * (X > 0.3))
        X = scipy.sparse.csr_array((9 * X).astype(np.int8)) if kind == "int8" else X
        if kind == "int64":
            X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
        X = check_csr(X, "X", COMPUTES_IN)
    return X, y, rng.random(N), X.scipy(float).toarray() if hasattr(X, "scipy") else X.astype(float)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("blocks", [999, 2**30])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_sums_of_classes_are_right(isa, dtype, kind, weighed, blocks, monkeypatch):
    X, y, s, wide = samples(kind, dtype)
    s = s if weighed else None
    monkeypatch.setattr(vectors, "PARALLEL", 0)
    monkeypatch.setattr(sums, "BLOCK_BYTES", blocks)
    want = ((1 if s is None else s) * np.eye(5)[y].T) @ wide
    found = np.zeros((3, 5, 37))
    for n_threads, each in enumerate(found, start=1):
        sums.add_classes(X, y, s, each, n_threads)
    np.testing.assert_allclose(found[0], want, rtol=1e-13, atol=1e-13)
    assert (found == found[0]).all()
    sums.add_classes(X, y, s, found[0], 1)
    np.testing.assert_allclose(found[0], 2 * want, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_without_kernels_adds_the_same(kind, dtype, weighed):
    """The last classes may have no sample there."""
    X, y, s, wide = samples(kind, dtype)
    s = s if weighed else None
    found, features = np.ones((7, 37)), None if hasattr(X, "scipy") else np.ones((2, 37))
    with dispatch.using(dispatch.REFERENCE):
        sums.add_classes(X, y, s, found, 1, features)
    np.testing.assert_allclose(found, 1 + ((1 if s is None else s) * np.eye(7)[y].T) @ wide, rtol=1e-13, atol=1e-13)
    if features is not None:
        np.testing.assert_allclose(features, [1 + wide.sum(axis=0), 1 + np.square(wide).sum(axis=0)], rtol=1e-12)


@needs_kernels
@pytest.mark.pairs(3)
@pytest.mark.parametrize("K, D", [(5, 37), (32, 37), (33, 37), (33, 200), (3, 1100)])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("kind", ["array", "strided"])
def test_moments_beside_the_sums_of_classes_have_the_bits_of_each_alone(isa, dtype, kind, weighed, K, D, monkeypatch):
    X, y, s, wide = samples(kind, dtype, D=D, K=K)
    monkeypatch.setattr(vectors, "PARALLEL", 0)
    alone, found = np.zeros((K, D)), np.zeros((3, K + 2, D))
    sums.add_classes(X, y, s if weighed else None, alone, 1)
    for n_threads, each in enumerate(found, start=1):
        sums.add_classes(X, y, s if weighed else None, each[:K], n_threads, each[K:])
        np.testing.assert_array_equal(each, [*alone, *sums.moments(X, n_threads)])
    np.testing.assert_allclose(found[0, K:], [wide.sum(axis=0), np.square(wide).sum(axis=0)], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_moments_are_right(isa, dtype, kind):
    X, _, _, wide = samples(kind, dtype)
    want = [wide.sum(axis=0), np.square(wide).sum(axis=0)]
    np.testing.assert_allclose(sums.moments(X, 1), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", ["f4", "f8", "f2", "i1"])
def test_moments_of_whole_numbers_are_exact(isa, kind):
    X = np.random.default_rng(0).integers(-9, 9, (103, 37)).astype(kind)
    want = X.sum(axis=0, dtype=float), np.square(X, dtype=float).sum(axis=0)
    for given in (X, np.asfortranarray(X), np.hstack([X, X])[:, :37], X[::-1]):
        np.testing.assert_array_equal(sums.moments(given, 1), want)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", [*KINDS, "soft", "offset", "float16"])
def test_constant_posteriors_have_the_loss_and_gradient_of_a_pass(isa, dtype, kind, intercept, monkeypatch):
    """A pass over such parameters says the same."""
    monkeypatch.setattr(constant, "SUMMED_FLOPS", 0)
    X, y, s, wide = samples(kind if kind in KINDS else "array", dtype)
    more = {"offset": np.random.default_rng(0).random((203, 5))} if kind == "offset" else {}
    targets = np.random.default_rng(1).dirichlet(np.ones(5), 203) if kind == "soft" else y
    X = X.astype(np.float16) if kind == "float16" else X
    objective = SoftmaxObjective(
        X, targets, l2=0.3, sample_weight=s, fit_intercept=intercept, K=5, m=2.5 * s.sum(), n_threads=2, **more
    )
    for b in (None, np.array([0.5, -2.0, 1.0, 300.0, 0.0]) if intercept else None):
        w = np.zeros(objective.size)
        if b is not None:
            w[-5:] = b
        value, grad = objective.at_constant(w)
        pass_value, pass_grad = objective.value_and_grad(w)
        rtol = 20 * float(np.finfo(objective.dtype).eps)
        assert value == pytest.approx(pass_value, rel=rtol)
        np.testing.assert_allclose(grad, pass_grad, rtol=0, atol=rtol * np.abs(wide).max())


@needs_kernels
@pytest.mark.parametrize("other", ["columns", "swapped", "float16", "int8"])
def test_sums_of_any_layout_and_type_have_the_same_bits(dtype, other, monkeypatch):
    monkeypatch.setattr(constant, "SUMMED_FLOPS", 0)
    monkeypatch.setattr(sums, "CONVERTED_BYTES", 999)
    X, y, s, _ = samples("csr" if other == "int8" else "array", dtype)
    if other == "int8":
        like = (9 * X.scipy(dtype)).astype(np.int8)
        X = like.astype(np.float32)
    elif other == "float16":
        like = X.astype(np.float16)
        X = like.astype(np.float32)
    else:
        like = np.asfortranarray(X) if other == "columns" else X.astype(dtype.newbyteorder())
    one, two = (SoftmaxObjective(each, y, sample_weight=s, K=5) for each in (X, like))
    at = np.zeros(one.size)
    np.testing.assert_array_equal(one.at_constant(at)[1], two.at_constant(at)[1])
    np.testing.assert_array_equal(one.mean_squares, two.mean_squares)
    np.testing.assert_array_equal(one.means, two.means)


@needs_kernels
@pytest.mark.parametrize("kind", KINDS)
def test_sums_that_are_kept_are_of_the_objective_s_own_weights_and_features(dtype, kind, monkeypatch):
    monkeypatch.setattr(constant, "SUMMED_FLOPS", 0)
    X, y, s, wide = samples(kind, dtype)
    objective, some = SoftmaxObjective(X, y, sample_weight=s, K=5), np.array([3, 1, 36])
    before = objective.at_constant(np.zeros(objective.size))[1]
    for other, features, weights in (
        (objective.weighing(s[::-1].copy()), np.arange(37), s[::-1]), (objective.of_features(some), some, s)
    ):  # fmt: skip
        fresh = SoftmaxObjective(wide[:, features].astype(dtype), y, sample_weight=weights, K=5)
        value, grad = other.at_constant(np.zeros(other.size))
        want, want_grad = fresh.at_constant(np.zeros(other.size))
        assert value == pytest.approx(want, rel=1e-6)
        np.testing.assert_allclose(grad, want_grad, rtol=0, atol=1e-5 * np.abs(want_grad).max())
    np.testing.assert_array_equal(objective.at_constant(np.zeros(objective.size))[1], before)


@needs_kernels
def test_a_fit_begins_and_ends_without_a_product(monkeypatch):
    X, y, _, _ = samples("array", np.float64, 600, 60, 40)
    passes, ask = [], SoftmaxObjective.value_and_grad
    monkeypatch.setattr(SoftmaxObjective, "value_and_grad", lambda self, w: (passes.append(1), ask(self, w))[1])
    model = LogisticRegression().fit(X, y)
    report, gap, coef = model.convergence_report_, model.gap_, model.coef_
    assert f"{len(passes)} evaluations" in report
    monkeypatch.setattr(constant, "SUMMED_FLOPS", np.inf)
    with_sums = len(passes)
    passes.clear()
    assert model.fit(X, y).convergence_report_.partition("\n")[0] == report.partition("\n")[0]
    assert len(passes) == with_sums + 2
    assert model.gap_ == pytest.approx(gap, rel=1e-6)
    np.testing.assert_allclose(model.coef_, coef, atol=1e-12)
