"""Many threads: up to 128 of them give the bits of one, find work where the samples are many, and share out all stages.

The machine need not have so many processors: the tests lift the bound on the threads of a small one.
"""

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, linear_cross_entropy, loss_grad, predict_proba
from softmax_ext._core import dispatch, sums, vectors
from softmax_ext._core import plan as _plan
from softmax_ext._core import threads as _threads
from softmax_ext._core.plan import binomial_plan, centred_plan, hessian_plan, plan
from softmax_ext._core.vectors import combine, dots
from softmax_ext._inputs.csr import check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext.objective import BinomialObjective

needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="nothing is compiled, so nothing is planned")
COUNTS = (8, 9, 32, 64, 128)


@pytest.fixture(autouse=True)
def many(monkeypatch):
    """Let a call have as many threads as it asks for."""
    monkeypatch.setattr(_threads, "_most", max(COUNTS))


def assert_same_bits(call):
    """Assert that `call`, which takes a number of threads and returns arrays, gives the same bits for every number."""
    one = [np.asarray(result).tobytes() for result in call(1)]
    for n_threads in COUNTS:
        assert [np.asarray(result).tobytes() for result in call(n_threads)] == one, f"n_threads={n_threads}"


# Slices, slices with two and with four strips, converted ones among them; owned classes, summed in double and not.
SHAPES = [(5003, 54, 7), (33_001, 100, 10), (66_003, 30, 7), (2048, 16, 300), (1100, 256, 1000), (130, 300, 7000)]


@needs_kernels
@pytest.mark.pairs
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_many_threads_change_no_bit_of_a_pass(isa, dtype, shape, make_problem):
    (X, y, W, b), _ = make_problem(*shape, dtype)
    converted = np.asfortranarray(X)

    def call(n_threads):
        whole = loss_grad(X, y, W, b, n_threads=n_threads)
        parts = loss_grad(converted, y, W, b, n_threads=n_threads)
        return *whole, *parts, predict_proba(X[:3000], W, b, n_threads=n_threads)

    assert_same_bits(call)


@needs_kernels
@pytest.mark.parametrize("strips", [1, 4])
@pytest.mark.parametrize("D, K", [(17, 3), (5, 70), (90, 70)])
def test_blocks_add_up_in_slices_and_strips(isa, tolerance, D, K, strips, small, make_problem, assert_like_reference):
    """Sums of a block go on from those of the block before; in the last block some strips are without a row."""
    small(BLOCK_FLOPS=1, PARALLEL_FLOPS=0, SLICE_ROWS=8, STRIPS=strips, STRIP_ROWS=8)
    size = tolerance.dtype.itemsize
    N = 3 * plan(100_000, D, K, size, isa).block + 11
    way = plan(N, D, K, size, isa)
    assert way.cut == "slices" and way.strips == strips and 3 * way.block < N < 4 * way.block and way.batch > 1
    assert N % way.block < way.slices * way.strips
    arguments, keywords = make_problem(N, D, K, tolerance.dtype)
    assert_like_reference(loss_grad(*arguments, **keywords, n_threads=1), arguments, keywords)
    assert_same_bits(lambda n_threads: loss_grad(*arguments, **keywords, n_threads=n_threads))


@needs_kernels
@pytest.mark.pairs
@pytest.mark.parametrize("shape", [(3001, 20, 10), (300, 1030, 200), (130, 300, 7000)], ids=str)
def test_many_threads_change_no_bit_of_the_gradient_of_the_input(isa, dtype, shape, make_problem):
    (X, y, W, b), _ = make_problem(*shape, dtype)

    assert_same_bits(
        lambda n_threads: linear_cross_entropy(X, W, y, linear_bias=b, grad_input=True, n_threads=n_threads)
    )


@needs_kernels
@pytest.mark.pairs
@pytest.mark.parametrize("K", [3, 40, 300])
def test_many_threads_change_no_bit_of_sparse_rows(isa, dtype, K):
    """Of three classes there are rows with more entries than eight or nine threads sort at a time."""
    rng, D = np.random.default_rng(0), 400_000 if K == 3 else 5000
    rows, columns = np.repeat(np.arange(3000), 20), rng.integers(0, D, 60_000)
    X = scipy.sparse.csr_array((rng.standard_normal(60_000).astype(dtype), (rows, columns)), (3000, D))
    if K == 3:
        full = scipy.sparse.csr_array(np.ones((1, D), dtype))
        X = scipy.sparse.vstack([X[:2000], full, X[2000:], full], "csr")
    y, W, b = rng.integers(0, K, X.shape[0]), rng.standard_normal((K, D)).astype(dtype), np.ones(K, dtype)
    assert_same_bits(lambda n_threads: loss_grad(X, y, W, b, n_threads=n_threads))


# The Hessian of the first two is summed in slices, with and without strips, and that of the last on one tile.
@needs_kernels
@pytest.mark.parametrize("shape", [(3001, 10, 3), (33_001, 8, 2), (500, 500, 2)], ids=str)
def test_many_threads_change_no_bit_of_an_objective(isa, dtype, shape, make_problem):
    (X, y, _, _), _ = make_problem(*shape, dtype)
    kind = BinomialObjective if shape[2] == 2 else SoftmaxObjective
    w = np.random.default_rng(1).standard_normal(kind(X, y, l2=1.0).size) / 10

    def call(n_threads):
        objective = kind(X, y, l2=1.0, n_threads=n_threads)
        return *objective.value_and_grad(w), objective.hessp(w, w), objective.hessian(w)

    assert_same_bits(call)


@needs_kernels
def test_many_threads_change_no_bit_of_a_centred_hessian(isa, make_problem):
    X, y, *_ = make_problem(66_003, 60, 2, np.dtype(np.float32))[0]
    w = np.random.default_rng(1).standard_normal(61) / 10
    assert centred_plan(*X.shape, isa).strips > 1
    assert_same_bits(lambda n_threads: [BinomialObjective(X, y, l2=1.0, n_threads=n_threads).hessian(w)])


@needs_kernels
@pytest.mark.parametrize("K, D", [(2, 500), (300, 70)])
def test_sums_of_classes_are_right_and_the_same_bits_by_many_threads(
    isa, dtype, storage, K, D, make_problem, monkeypatch
):
    monkeypatch.setattr(vectors, "PARALLEL", 0)
    X, y, *_ = make_problem(1000, D, K, dtype, storage=storage)[0]
    dense = X.toarray() if storage == "csr" else X

    def call(n_threads):
        found = np.zeros((K, D))
        sums.add_classes(X if storage == "dense" else check_csr(X, "X", COMPUTES_IN), y, None, found, n_threads)
        return [found]

    assert_same_bits(call)
    np.testing.assert_allclose(call(128)[0], np.eye(K)[y].T @ dense, rtol=1e-12, atol=1e-12)


@needs_kernels
def test_many_threads_change_no_bit_of_a_history(isa, dtype):
    rng = np.random.default_rng(0)
    rows, v = rng.standard_normal((5, 70_001)).astype(dtype), rng.standard_normal(70_001)
    shares = rng.standard_normal(5)
    assert_same_bits(lambda n: [dots(rows, v, rows[0], n), combine(0.5, v, shares, rows, n_threads=n)])


# Rows, features, classes, and how many of 128 threads find work in a pass over them.
TEAMS = {
    "digits": ((1797, 64, 10), 8),
    "MNIST": ((60_000, 784, 10), 64),
    "covtype": ((581_012, 54, 7), 128),
    "embeddings": ((100_000, 384, 100), 128),
    "a thousand classes": ((20_000, 256, 1000), 128),
}


@needs_kernels
@pytest.mark.parametrize("shape, team", TEAMS.values(), ids=TEAMS)
def test_many_threads_find_work(isa, shape, team):
    assert plan(*shape, 4, isa).team(128) == team


@needs_kernels
def test_many_threads_find_work_in_two_classes(isa):
    assert binomial_plan(1_000_000, 30, 4, isa).team(128) == 128
    assert hessian_plan(1_000_000, 30, 2, 8, isa, intercept=True, binary=True).team(128) == 128
    assert centred_plan(1_000_000, 30, isa).team(128) == 128


@needs_kernels
@pytest.mark.parametrize("itemsize", [4, 8])
def test_strips_have_the_rows_and_the_room_that_they_need(isa, itemsize):
    for N in (10_000, 32_768, 65_536, 10**6):
        for D, K in ((4, 3), (54, 7), (784, 10), (1000, 60), (1, 32_000)):
            way = plan(N, D, K, itemsize, isa)
            if way.cut != "slices" or way.strips == 1:
                continue
            assert way.slices == _plan.SLICES and way.strips in (2, 4)
            assert N >= _plan.STRIP_ROWS * way.slices * way.strips
            assert way.slices * way.strips * K * D * 8 <= _plan.SLICED_BYTES


@needs_kernels
@pytest.mark.parametrize("D", [10, 60, 100])
def test_strips_of_hessians_have_a_quarter_of_their_room(isa, D):
    for way in (hessian_plan(10**6, D, 2, 4, isa, intercept=True, binary=True), centred_plan(10**6, D, isa)):
        assert way.strips == 1 or way.strips * way.slices * D * (D + 8) * 8 <= _plan.HESSIANS_BYTES // 4
