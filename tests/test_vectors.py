"""The sweeps over long vectors: what they compute, and that threads change no bit of it."""

import numpy as np
import pytest

from softmax_ext._core import dispatch, vectors

SIZES = [1, 31, 33, 2047, 2048, 2049, 70001]


def problem(size, dtype, count=3):
    rng = np.random.default_rng(size)
    rows = rng.standard_normal((count, size)).astype(dtype)
    return rows, rng.standard_normal(size), rng.standard_normal(size).astype(dtype), rng.standard_normal(count)


@pytest.fixture(params=[*dispatch.available(), dispatch.REFERENCE])
def level(request):
    with dispatch.using(request.param):
        yield request.param


@pytest.mark.parametrize("size", SIZES)
def test_inner_products_are_those_of_long_double(level, dtype, size):
    rows, v, u, _ = problem(size, dtype)
    bound = 1e-15 * (np.abs(rows) @ np.abs(v) + np.abs(rows) @ np.abs(u)) * 10
    both = vectors.dots(rows, v, u)
    wide = rows.astype(np.longdouble)
    assert (np.abs(both[0] - wide @ v) <= bound).all() and (np.abs(both[1] - wide @ u) <= bound).all()
    np.testing.assert_array_equal(vectors.dots(rows, v), both[0])
    # A row alone has the same product, so that a history may grow without changing what is in it.
    np.testing.assert_allclose([vectors.dots(rows[i : i + 1], v)[0] for i in range(3)], both[0], rtol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_combinations_and_differences_are_right(level, dtype, size):
    rows, v, _, shares = problem(size, dtype)
    want = 0.5 * v + shares @ rows.astype(float)
    got = vectors.combine(0.5, v, shares, rows)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-15 * 30)
    assert vectors.combine(0.5, v, shares, rows, out=v) is v
    np.testing.assert_array_equal(v, got)
    out = np.empty(size, dtype)
    vectors.subtract(v, want, out)
    np.testing.assert_array_equal(out, (v - want).astype(dtype))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_square_of_a_combination_is_right(level, size, count):
    rows, v, _, shares = problem(size, np.float64)
    given = [v, *rows[:2]][:count]
    wide = sum(np.longdouble(share) * row for share, row in zip(shares, given, strict=False))
    bound = sum(abs(share) * np.abs(row) for share, row in zip(shares, given, strict=False))
    assert abs(vectors.square(given, shares[:count]) - wide @ wide) <= 1e-14 * bound @ bound


@pytest.mark.parametrize("n, D, M", [(1, 1, 1), (7, 31, 3), (130, 515, 17), (1001, 200, 9)])
def test_several_combinations_at_once_are_right(level, dtype, n, D, M):
    rng = np.random.default_rng(n)
    rows, shares = rng.standard_normal((n, D)).astype(dtype), rng.standard_normal((M, n)).T
    got = vectors.combinations(rows, shares)
    want, bound = shares.T @ rows.astype(np.longdouble), np.abs(shares.T) @ np.abs(rows)
    assert (np.abs(got - want) <= 1e-15 * n * bound).all()
    for n_threads in (2, 3):
        np.testing.assert_array_equal(vectors.combinations(rows, shares, n_threads), got)
    of_squares = vectors.combinations(np.square(rows.astype(float)), shares)
    np.testing.assert_allclose(vectors.combinations(rows, shares, squared=True), of_squares, rtol=0, atol=1e-12 * n)


def test_every_number_of_threads_gives_sweeps_the_same_bits(isa, dtype):
    rows, v, u, shares = problem(vectors.PARALLEL // 2 + 77, dtype)
    assert rows.size > vectors.PARALLEL

    def all_of_it(n_threads):
        out = np.empty_like(u)
        vectors.subtract(v, v / 3, out, n_threads)
        combined = vectors.combine(0.5, v, shares, rows, n_threads=n_threads)
        return vectors.dots(rows, v, u, n_threads), combined, out

    for n_threads in (2, 3, 5):
        for got, want in zip(all_of_it(n_threads), all_of_it(1), strict=True):
            np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("size", [0, *SIZES])
def test_a_product_alone_is_that_of_a_row(level, size):
    a, b = np.random.default_rng(size).standard_normal((2, size))
    if size:
        assert vectors.product(a, b) == vectors.dots(a[np.newaxis], b)[0]
    assert vectors.largest(a) == np.abs(a).max(initial=0.0)


@pytest.mark.parametrize("place", [0, 15, 16, 37])
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
def test_the_largest_of_what_is_not_finite_is_not_finite(level, place, odd):
    v = np.linspace(-1, 1, 38)
    v[place] = odd
    np.testing.assert_equal(vectors.largest(v), abs(odd))
