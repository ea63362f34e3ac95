"""Sizes beyond 2**31, where a 32-bit index would wrap, against values known in closed form.

With W = 0 and no b every posterior is 1 / K: the loss is log K, and the gradient a matter of counting,
dW_k = 1/N Σ_i (1/K - Y_ik) x_i. Memory that was never written reads as zeros and takes none, and rows may lie on one
another, so that X takes little.
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from softmax_ext import logsumexp, loss_grad, predict_proba, reference, softmax
from softmax_ext._core import dispatch
from softmax_ext._core.plan import plan

pytestmark = [
    pytest.mark.native("reads 2^31 numbers, which would take hours"),
    pytest.mark.skipif(dispatch.kernels is None, reason="the reference holds N x K scores"),
]

LIMIT = 2**31

# Slices of the rows, and parts of the classes.
D = 70_000
WAYS = pytest.mark.parametrize(
    "K", [pytest.param(3, id="slices"), pytest.param(65, id="owned", marks=pytest.mark.slow)]
)
# Where the gradient is not summed in double, 8e-6; a wrong row shows in the first digit.
ABOUT = {"rtol": 5e-5, "atol": 1e-9}


def zeros(rows, columns, kind=np.float32):
    """Zeros that take memory where they are written only."""
    try:
        return np.zeros((rows, columns), kind)
    except MemoryError:
        pytest.skip("the system does not promise that much memory")


def check(result, N, K, column_sums, sums_of_class):
    """Σ_i x_i, and Σ x_i of each class's samples by the class."""
    want = np.repeat(column_sums[np.newaxis] / K, K, axis=0)
    for k, total in sums_of_class.items():
        want[k] -= total
    assert result.loss == pytest.approx(math.log(K), rel=1e-6)
    np.testing.assert_allclose(result.dW, want / N, **ABOUT)


@WAYS
def test_rows_that_lie_on_one_another_count_each(K):
    N = 70_000 if K == 3 else 31_000
    assert N * D > LIMIT
    row = np.linspace(-1, 1, D, dtype=np.float32)
    y = np.arange(N) % min(K, 5)
    result = loss_grad(np.broadcast_to(row, (N, D)), y, np.zeros((K, D), np.float32))
    check(result, N, K, N * row.astype(float), {k: count * row.astype(float) for k, count in enumerate(np.bincount(y))})


@pytest.mark.parametrize("layout", ["in place", pytest.param("converted", marks=pytest.mark.slow)])
@WAYS
def test_samples_of_more_than_2_31_numbers_are_read_to_the_end(K, layout):
    """All rows are zeros but some at the very beginning and the very end, which a wrapped index would miss."""
    N = 31_000
    kind = np.float32 if layout == "in place" else np.float16
    X = zeros(N, D, kind)
    assert X.size > LIMIT
    some = np.array([0, 1, N - 3, N - 1])
    X[some] = np.arange(1, 5)[:, np.newaxis] + np.linspace(0, 1, D)
    y = np.zeros(N, np.int8)
    y[N - 1], y[1] = 2, 1
    result = loss_grad(X, y, np.zeros((K, D), np.float32))
    exact = X[some].astype(float)
    check(result, N, K, exact.sum(axis=0), {0: exact[0] + exact[2], 1: exact[1], 2: exact[3]})
    W = np.zeros((2, D), np.float32)
    W[1, 0] = 1
    S = predict_proba(X, W)
    np.testing.assert_allclose(S, reference.predict_proba(X[:, :1], W[:, :1]), rtol=1e-6)


@pytest.mark.parametrize("step", [1, -1], ids=["forwards", "backwards"])
@pytest.mark.parametrize("D, K", [(54, 3), (100, 1000)], ids=["slices", "owned"])
def test_rows_far_apart_are_found(D, K, step):
    """One call of the kernel goes over the whole distance."""
    N = min(plan(2**40, D, K, 4, dispatch.isa).block, 2**19)
    X = zeros(N, LIMIT * 5 // 4 // N)[::step, :D]  # a fifth of the rows lies beyond
    some = np.array([0, 1, N - 2, N - 1])
    X[some] = np.arange(1, 5)[:, np.newaxis] + np.linspace(0, 1, D)
    y = np.zeros(N, np.int8)
    y[N - 1] = y[1] = 1
    result = loss_grad(X, y, np.zeros((K, D), np.float32))
    S = predict_proba(X, np.eye(2, D, dtype=np.float32))
    exact = X[some].astype(float)
    check(result, N, K, exact.sum(axis=0), {0: exact[0] + exact[2], 1: exact[1] + exact[3]})
    np.testing.assert_allclose(S, reference.predict_proba(X[:, :2], np.eye(2)), rtol=1e-6)


def test_a_pass_of_more_than_2_31_scores_is_right():
    N, K = 16_500, 2**17
    assert N * K > LIMIT
    X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    y = np.full(N, K - 1)
    y[: N // 2] = np.arange(N // 2)
    result = loss_grad(X, y, np.zeros((K, 3), np.float32), np.zeros(K, np.float32))
    exact = X.astype(float)
    check(result, N, K, exact.sum(axis=0), {**dict(enumerate(exact[: N // 2])), K - 1: exact[N // 2 :].sum(axis=0)})
    counts = np.bincount(y, minlength=K)
    np.testing.assert_allclose(result.db, (1 / K - counts / N), **ABOUT)


def test_more_than_2_31_probabilities_are_read():
    N, K = 16_500, 2**17
    X = np.random.default_rng(0).standard_normal((N, 3)).astype(np.float32)
    q = np.zeros(K, np.float32)
    q[[0, 1, -1]] = 0.25, 0.5, 1
    result = loss_grad(X, np.broadcast_to(q, (N, K)), np.zeros((K, 3), np.float32))
    assert result.loss == pytest.approx(1.75 * math.log(K), rel=1e-6)
    want = (1.75 / K - q.astype(float))[:, np.newaxis] * X.mean(axis=0, dtype=float)
    np.testing.assert_allclose(result.dW, want, **ABOUT)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["rows", "columns"])
def test_samples_of_more_than_2_32_numbers_are_read_to_the_end(layout):
    """Rows are read in place, and every second column of others is converted."""
    N, D, K = 2**20 + 3, 2**12 + 1, 2
    assert N * D > 2**32
    row = np.linspace(-1, 1, 2 * D, dtype=np.float32)[: 2 * D if layout == "columns" else D]
    X = np.broadcast_to(row[::2] if layout == "columns" else row, (N, D))
    y = (np.arange(N) == N - 1).astype(np.int8)
    result = loss_grad(X, y, np.zeros((K, D), np.float32))
    exact = X[0].astype(float)
    check(result, N, K, N * exact, {0: (N - 1) * exact, 1: exact})


def test_a_sum_counts_more_equal_scores_than_a_float_can():
    """A sum down the columns once came out as 2^24."""
    N = 3 * 2**23
    x = np.broadcast_to(np.float32(0.5), (N, 2))
    np.testing.assert_allclose(logsumexp(x, 0), 0.5 + math.log(N), rtol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_sum_over_more_than_2_31_scores_is_right(axis):
    """All of them are the same memory, so that they take none."""
    shape = {None: (LIMIT + 8,), 0: (LIMIT // 2 + 8, 3), 1: (3, LIMIT // 2 + 8)}[axis]
    x = np.broadcast_to(np.float32(0.5), shape)
    got = logsumexp(x, axis)
    assert x.size > LIMIT and np.shape(got) == (() if axis is None else (3,))
    np.testing.assert_allclose(got, 0.5 + math.log(x.size if axis is None else x.shape[axis]), rtol=1e-6)


@pytest.mark.slow
def test_more_than_2_31_posteriors_are_written():
    """They take 8.6 GB, so this runs where the system has them."""
    available = re.search(r"MemAvailable: *(\d+)", Path("/proc/meminfo").read_text())
    if available is None or int(available[1]) < 12e6:
        pytest.skip("needs 12 GB of memory")
    x = np.broadcast_to(np.arange(4, dtype=np.float32), (LIMIT // 4 + 3, 4))
    S = softmax(x, axis=1)
    want = reference.softmax(np.arange(4.0)[np.newaxis])[0]
    for rows in (S[:3], S[LIMIT // 8 - 1 : LIMIT // 8 + 2], S[-3:]):
        np.testing.assert_allclose(rows, np.broadcast_to(want, rows.shape), rtol=1e-6)
