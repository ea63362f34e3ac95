"""Sparse X beside what storage="csr" tests everywhere: formats, damage, groups of classes, tiles, memory, digits."""

import tracemalloc

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse

from softmax_ext import loss_grad, predict_proba, reference
from softmax_ext._core import dispatch, plan

MiB = 2**20
KINDS = ["csr", "csc", "coo", "lil", "dok", "dia", "bsr"]


def results(X, y, W, b, **keywords):
    return *loss_grad(X, y, W, b, **keywords), predict_proba(X, W, b)


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_array_equal(one, other)


@pytest.fixture
def problem(dtype, make_problem):
    (X, y, W, b), _ = make_problem(203, 37, 21, dtype, storage="csr")
    return X, y, W, b


@pytest.mark.parametrize("matrix", [True, False], ids=["matrix", "array"])
@pytest.mark.filterwarnings("ignore:Constructing a DIA matrix")
@pytest.mark.parametrize("kind", KINDS)
def test_every_sparse_format_gives_the_same_result(isa, problem, kind, matrix):
    X, *rest = problem
    other = (scipy.sparse.csr_matrix(X) if matrix else X).asformat(kind)
    assert_same(results(other, *rest), results(X, *rest))


@pytest.mark.parametrize("index", [np.int32, np.int64])
@pytest.mark.parametrize("change", ["big-endian", "strided", "longer than needed", "read only"])
def test_no_layout_of_sparse_X_changes_a_bit(isa, problem, index, change):
    X, *rest = problem
    other = X.copy()
    other.indices, other.indptr = X.indices.astype(index), X.indptr.astype(index)
    if change == "big-endian":
        other.indices, other.data = (a.astype(a.dtype.newbyteorder(">")) for a in (other.indices, other.data))
    elif change == "strided":
        other.indices, other.data, other.indptr = (a.repeat(2)[::2] for a in (other.indices, other.data, other.indptr))
    elif change == "longer than needed":
        other.indices, other.data = np.append(other.indices, -7), np.append(other.data, other.data[:1])
    else:
        for array in (other.indices, other.data, other.indptr):
            array.flags.writeable = False
    assert_same(results(other, *rest), results(X, *rest))


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(
    N=st.integers(1, 30),
    D=st.integers(1, 30),
    K=st.integers(1, 70),
    entries=st.integers(0, 300),
    seed=st.integers(0, 99),
)
def test_unsorted_duplicates_and_zeros_are_added_up(isa, dtype, assert_like_reference, N, D, K, entries, seed):
    """Entries as they fall, beside the reference of the array that they make; those of a feature have one sign.

    Of 265 that cancelled each other in one place, the rounding was more than what was left of them.
    """
    rng = np.random.default_rng(seed)
    indptr = np.sort(np.concatenate([[0, entries], rng.integers(0, entries + 1, N - 1)]))
    indices, signs = rng.integers(0, D, entries), rng.choice([-1, 1], D) / 32
    data = rng.exponential(size=entries) * signs[indices] * (rng.random(entries) < 0.8)
    X = scipy.sparse.csr_array((data.astype(dtype), indices, indptr), shape=(N, D))
    W, b, y = rng.standard_normal((K, D)).astype(dtype), rng.standard_normal(K).astype(dtype), rng.integers(0, K, N)
    before = [array.tobytes() for array in (X.data, X.indices, X.indptr)]
    got = loss_grad(X, y, W, b)
    assert [array.tobytes() for array in (X.data, X.indices, X.indptr)] == before
    assert_like_reference(got, (X.toarray(), y, W, b), {})


def damaged(kind="csr", **arrays):
    X = scipy.sparse.random_array((4, 5), density=0.5, format=kind, rng=np.random.default_rng(0))
    for name, array in arrays.items():
        setattr(X, name, array(getattr(X, name)))
    return X


def put(i, value):
    def change(array):
        array = array.copy()
        array[i] = value
        return array

    return change


DAMAGE = [
    ({"indices": put(3, 5)}, r"X\.indices\[3\] = 5 is out of range: a column must be in 0\.\.4"),
    ({"indices": put(0, -1)}, r"X\.indices\[0\] = -1 is out of range"),
    ({"indices": lambda a: put(1, 2**40)(a.astype(np.int64))}, r"X\.indices\[1\] = 1099511627776 is out of range"),
    ({"indices": lambda a: a.astype(float)}, r"X\.indices must be integers, got dtype float64"),
    ({"indices": lambda a: a[:-1]}, r"X\.data and X\.indices must be of one length, got shapes \(10,\) and \(9,\)"),
    ({"data": lambda a: a[:-1]}, "of one length"),
    ({"indptr": lambda a: a[:-1]}, r"X\.indptr must be 5 integers for shape \(4, 5\), got shape \(4,\)"),
    ({"indptr": lambda a: a.astype(float)}, r"X\.indptr must be 5 integers.* of float64"),
    ({"indptr": put(0, 1)}, r"X\.indptr\[0\] = 1 must be 0"),
    ({"indptr": put(2, 1000)}, r"X\.indptr\[3\] = \d+ is less than indptr\[2\] = 1000"),
    ({"indptr": put(1, -3)}, r"X\.indptr\[1\] = -3 is less than indptr\[0\] = 0"),
    ({"indptr": put(-1, 11)}, r"X\.indptr\[-1\] = 11 is beyond the 10 entries"),
    ({"kind": "csc", "indices": put(0, 4)}, r"X\.indices\[0\] = 4 is out of range: a row must be in 0\.\.3"),
    ({"kind": "coo", "coords": lambda c: (c[0], put(9, 5)(c[1]))}, r"X\.col\[9\] = 5 is out of range: a column"),
    ({"kind": "lil", "rows": put(1, [0, 2, 99])}, r"X\.rows\[1\] holds 99, out of range: a column must be in 0\.\.4"),
    ({"kind": "lil", "rows": put(1, [-1, 2, 3])}, r"X\.rows\[1\] holds -1, out of range"),
    ({"kind": "lil", "data": put(1, [1.0] * 20)}, r"X\.rows\[1\] has \d columns, but X\.data\[1\] 20 values"),
    ({"kind": "lil", "rows": lambda a: a[:2]}, r"X\.rows must hold 4 lists, got shape \(2,\)"),
    ({"kind": "dia", "offsets": lambda a: np.append(a, 1)}, r"X\.data must have a row for each of X\.offsets"),
    ({"kind": "bsr", "indices": put(0, 99)}, "column index values must be < "),
]


@pytest.mark.parametrize("changes, message", DAMAGE, ids=[message for _, message in DAMAGE])
def test_damage_is_found_before_memory_is_read(changes, message):
    X = damaged(**changes)
    with pytest.raises(ValueError, match=message):
        loss_grad(X, np.zeros(4, int), np.zeros((3, 5)))
    with pytest.raises(ValueError, match=message):
        predict_proba(X, np.zeros((3, 5)))


def test_what_cannot_be_a_matrix_of_samples_is_refused():
    with pytest.raises(ValueError, match=r"X must be 2-D, \(N, D\), got 1-D"):
        predict_proba(scipy.sparse.coo_array(np.ones(3)), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="Complex data not supported"):
        predict_proba(scipy.sparse.csr_array(np.ones((2, 3)) * 1j), np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        predict_proba(scipy.sparse.csr_array((0, 3)), np.zeros((2, 3)))
    with pytest.raises(TypeError, match="W is sparse"):
        predict_proba(np.ones((2, 3)), scipy.sparse.csr_array((2, 3)))


@pytest.mark.pairs(3)
@pytest.mark.parametrize("labels, weights", [("labels", "sample_weight"), ("probabilities", "unweighted")])
@pytest.mark.parametrize("shape", [(503, 40, 33), (503, 40, 3), (203, 21, 151)], ids=str)
@pytest.mark.parametrize(
    "constants",
    [
        {"SPARSE_BYTES": 0, "GROUP_BYTES": 3000, "GROUPED_BYTES": 9000},
        {"SCORES_BYTES": 8000},
        {"SCORES_BYTES": 8000, "BLOCK_FLOPS": 1},
        {"DOUBLES_BYTES": 0, "SCORES_BYTES": 8000},
        {"SPARSE_BYTES": 0, "GROUP_BYTES": 200, "GROUPED_BYTES": 9000, "BLOCK_FLOPS": 1},
    ],
    ids=lambda constants: ", ".join(constants),
)
def test_groups_tiles_and_blocks_of_sparse_rows_are_right(
    isa, tolerance, constants, shape, labels, weights, small, make_problem, assert_like_reference
):
    if dispatch.kernels is None:
        pytest.skip("the reference does not cut its work into groups, tiles and blocks")
    small(**constants, PARALLEL_FLOPS=0)
    arguments, keywords = make_problem(*shape, tolerance.dtype, labels=labels, weights=weights, storage="csr")
    N, D, K = shape
    way = plan.plan(N, D, K, tolerance.dtype.itemsize, isa, nnz=arguments[0].nnz)
    assert way.tile < N
    if K > 16:
        assert (way.classes < K) == ("SPARSE_BYTES" in constants)
    got = loss_grad(*arguments, **keywords, n_threads=1)
    assert_like_reference(got, arguments, keywords)
    assert_same(loss_grad(*arguments, **keywords, n_threads=3), got)
    X, _, W, b = arguments
    tiny = np.finfo(tolerance.dtype).tiny
    want = reference.predict_proba(X, W, b)
    np.testing.assert_allclose(predict_proba(X, W, b), want, rtol=2 * tolerance.rtol, atol=tiny)


def test_few_documents_of_many_words_are_right(isa, tolerance, make_problem):
    (X, _, W, b), _ = make_problem(4, 3, 7, tolerance.dtype, storage="csr")
    wide = scipy.sparse.csr_array((X.data, X.indices + 9990, X.indptr), shape=(4, 10000))
    V = np.zeros((7, 10000), tolerance.dtype)
    V[:, 9990:9993] = W
    np.testing.assert_allclose(predict_proba(wide, V, b), predict_proba(X, W, b), rtol=1e-6)
    np.testing.assert_allclose(predict_proba(wide * 0, V), 1 / 7, rtol=1e-6)


def test_a_sum_in_float32_errs_within_its_bound():
    """There are more than two million weights, and a feature that all samples have."""
    N, D, K = 30000, 30000, 80
    rng = np.random.default_rng(0)
    indices = np.column_stack([np.zeros(N, int), rng.integers(1, D, N)]).ravel()
    X = scipy.sparse.csr_array((rng.random(2 * N, np.float32), indices, np.arange(0, 2 * N + 1, 2)), shape=(N, D))
    y, W = rng.integers(0, K, N), np.zeros((K, D), np.float32)
    got, want = loss_grad(X, y, W).dW, reference.loss_grad(X, y, W).dW
    R = np.full((N, K), 1 / K)
    R[np.arange(N), y] -= 1
    magnitudes = (abs(X).astype(float).T @ abs(R)).T / N
    entries = np.bincount(indices, minlength=D)
    assert (abs(got - want) <= (entries + 4) * 2.0**-24 * magnitudes).all()


@pytest.mark.parametrize(
    "shape", [(3000, 60000, 40), (2000, 78307, 57), (1000, 10**6, 2), (2000, 30000, 1000)], ids=str
)
def test_a_pass_of_sparse_rows_takes_64_mib_and_a_gradient(dtype, shape):
    N, D, K = shape
    rng = np.random.default_rng(0)
    X = scipy.sparse.csr_array(
        (np.ones(5 * N, dtype), rng.integers(0, D, 5 * N), np.arange(0, 5 * N + 1, 5)), shape=(N, D)
    )
    W, y = np.zeros((K, D), dtype), rng.integers(0, K, N)
    tracemalloc.start()
    got = loss_grad(X, y, W)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(got.loss, np.log(K), rtol=1e-5)
    assert peak <= got.dW.nbytes + 64 * MiB
