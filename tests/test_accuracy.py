"""Digits: exp to the last place, confident rows, sums that must vanish, and values that are not finite."""

import functools
import itertools
import math

import mpmath
import numpy as np
import pytest

from softmax_ext import loss_grad, predict_proba, reference, softmax
from softmax_ext._core import dispatch
from softmax_ext._fit import two_classes
from softmax_ext.objective import BinomialObjective

inf, nan = np.inf, np.nan


@pytest.fixture
def exp(isa):
    """The exp of one ISA level, on arrays of either dtype."""
    if isa == dispatch.REFERENCE:
        pytest.skip("the reference takes NumPy's exp and log1p")
    kernels = dispatch.kernels

    def exp(x):
        out = np.empty_like(x)
        (kernels.exp_f32 if x.dtype == np.float32 else kernels.exp_f64)(x, out)
        return out

    return exp


def ulps(got, exact):
    """Distance in units of the last place of the exact value rounded to got's dtype, subnormal spacing included."""
    return np.abs(got.astype(exact.dtype) - exact) / np.spacing(exact.astype(got.dtype)).astype(exact.dtype)


def bits_between(low, high, dtype, count, seed):
    """Negative numbers of which every bit pattern in the interval is as likely as any other, plus the ends."""
    kind = np.uint32 if dtype == np.float32 else np.uint64
    first, last = (int(np.array(x, dtype).view(kind)) for x in (high, low))
    patterns = np.random.default_rng(seed).integers(first, last + 1, count, kind)
    return np.concatenate([[low, high], patterns.view(dtype)]).astype(dtype)


@pytest.mark.parametrize("dtype, low", [(np.float32, -104.0), (np.float64, -745.0)])
def test_the_samples_of_exp_reach_from_subnormal_arguments_to_subnormal_results(dtype, low):
    x = bits_between(low, -1e-40, dtype, 1000, 0)
    assert x.min() == low and x.max() == np.array(-1e-40, dtype) and (x < 0).all()


def test_exp_f32_is_within_2_ulp(exp, seed):
    """The oracle is NumPy's float64 exp, whose own error is nine digits below."""
    x = np.concatenate([
        np.linspace(-104, 0, 1_500_000, dtype=np.float32),
        bits_between(-104, -1e-40, np.float32, 1_500_000, seed),
    ])  # fmt: skip
    errors = ulps(exp(x), np.exp(x.astype(np.float64)))
    worst = errors.argmax()
    assert errors[worst] <= 2, f"{errors[worst]} ULP at {x[worst]!r}"


@pytest.mark.parametrize("dtype, most", [(np.float32, 43), (np.float64, 353)])
def test_tanh_is_within_3_ulp_and_its_derivative_within_5(isa, dtype, most, seed):
    """The oracles are tanh and exp of the next longer type; beyond `most` the derivative is no normal number."""
    if isa == dispatch.REFERENCE:
        pytest.skip("the reference takes NumPy's exp and log1p")
    exact = np.float64 if dtype == np.float32 else np.longdouble
    if exact is np.longdouble and np.finfo(exact).eps > 1e-18:
        pytest.skip("no longer type here")
    x = bits_between(-most, -1e-30, dtype, 300_000, seed)
    x = np.concatenate([x, -x, np.linspace(-most, most, 300_000, dtype=dtype), [0, -0.0, inf, -inf, nan]]).astype(dtype)
    tanh, slope = np.empty_like(x), np.empty_like(x)
    (dispatch.kernels.tanh_f32 if dtype == np.float32 else dispatch.kernels.tanh_f64)(x, tanh, slope)
    want, e = np.tanh(x.astype(exact)), np.exp(-2 * np.abs(x.astype(exact)))
    assert np.nanmax(ulps(tanh, want)) <= 3
    assert np.nanmax(ulps(slope, 4 * e / (1 + e) ** 2)) <= 5
    np.testing.assert_array_equal(tanh[-5:], [0, -0.0, 1, -1, nan])
    np.testing.assert_array_equal(np.signbit(tanh[-5:-3]), [False, True])
    np.testing.assert_array_equal(slope[-5:], [1, 1, 0, 0, nan])


@pytest.mark.slow
def test_exp_f32_is_within_2_ulp_at_every_float(exp):
    """There are 1.1 thousand million of them from -104 to -0, of which every other check takes a sample."""
    first, last = (int(np.float32(x).view(np.uint32)) for x in (-0.0, -104))
    worst = 0.0
    for start in range(first, last + 1, 2**22):
        x = np.arange(start, min(start + 2**22, last + 1), dtype=np.uint32).view(np.float32)
        worst = max(worst, ulps(exp(x), np.exp(x.astype(np.float64))).max())
    assert worst <= 2


@pytest.mark.optimised  # at -O1 gcc contracts nothing to FMA, and the error reaches 1.19 ULP
@pytest.mark.parametrize("count", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_exp_f64_is_within_1_ulp(exp, count, seed):
    """The oracle is long double, whose 64 bits leave it an error of 2^-11 ULP."""
    if np.finfo(np.longdouble).nmant < 63:
        pytest.skip("long double is double here; the points of mpmath remain")
    x = np.concatenate([np.linspace(-746, 0, count), bits_between(-746, -1e-310, np.float64, count, seed)])
    errors = ulps(exp(x), np.exp(x.astype(np.longdouble)))
    worst = errors.argmax()
    assert errors[worst] <= 1, f"{errors[worst]} ULP at {x[worst]!r}"


@pytest.mark.parametrize("count", [2000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_exp_f64_is_within_1_ulp_of_mpmath(exp, count, seed):
    x = np.random.default_rng(seed).uniform(-708, 0, count)
    with mpmath.workdps(50):
        errors = [
            abs(mpmath.mpf(float(y)) - mpmath.exp(mpmath.mpf(float(t)))) / mpmath.mpf(float(np.spacing(y)))
            for t, y in zip(x, exp(x), strict=True)
        ]
    assert max(errors) <= 1


def test_exp_of_special_values_is_exact(exp, dtype):
    limits = np.finfo(dtype)
    smallest = limits.smallest_subnormal
    x = np.array([nan, -inf, 0.0, -0.0, -smallest, -limits.tiny, -limits.max, -1e30], dtype)
    np.testing.assert_array_equal(exp(x), np.array([nan, 0, 1, 1, 1, 1, 0, 0], dtype))
    for length in range(1, 70):  # every position in a vector, and every tail
        for i in range(length):
            x = np.full(length, -1.0, dtype)
            x[i] = nan
            np.testing.assert_array_equal(np.isnan(exp(x)), np.isnan(x))


def test_exp_rounds_results_below_the_normal_range(exp, dtype):
    """Results go down to the smallest subnormal number, whose half is the last to round to it."""
    limits = np.finfo(dtype)
    lowest = math.log(float(limits.tiny)) - limits.nmant * math.log(2)
    x = np.linspace(lowest - 0.6, math.log(float(limits.tiny)), 10_000).astype(dtype)
    exact = np.exp(x.astype(np.float64 if dtype == np.float32 else np.longdouble))
    got = exp(x)
    assert (got[exact < 0.45 * limits.smallest_subnormal] == 0).all()
    assert (got[exact > limits.smallest_subnormal] > 0).all()
    assert (ulps(got, exact) <= 1).all()


def test_exp_depends_on_its_argument_alone(exp, dtype):
    """Neither its place in a vector nor its neighbours change it."""
    x = np.random.default_rng(0).uniform(-90, 0, 67).astype(dtype)
    together = exp(x)
    for start, stop in itertools.combinations(range(len(x) + 1), 2):
        np.testing.assert_array_equal(exp(x[start:stop]), together[start:stop])


@functools.cache
def with_exact_scores(K, dtype, seed, rows=3):
    """Scores whose differences have no rounding, nor has X Wᵀ, and their posteriors by mpmath."""
    rng = np.random.default_rng([seed, K])
    Z = (np.round(64 * rng.standard_normal((rows, K)) * np.array([[1], [10], [30]])[:rows]) / 64).astype(dtype)
    with mpmath.workdps(50):
        exps = [[mpmath.exp(mpmath.mpf(float(z))) for z in row] for row in Z]
        S = [[value / total for value in row] for row, total in zip(exps, map(mpmath.fsum, exps), strict=True)]
    return np.eye(rows, dtype=dtype), np.ascontiguousarray(Z.T), Z, S


@pytest.mark.pairs(3)
@pytest.mark.parametrize("K", [1, 2, 3, 10, 17, 67, 128, 129, 1000, pytest.param(32_000, marks=pytest.mark.slow)])
def test_posteriors_are_those_of_mpmath(isa, dtype, stored, K, seed):
    """The errors of all posteriors above 1e-30 are relative."""
    X, W, Z, exact = with_exact_scores(K, dtype, seed)
    bound = 5e-7 if dtype == np.float32 else 1e-14 * (1 + K / 1000)
    for S in (predict_proba(stored(X), W), softmax(Z, axis=1)):
        errors = [
            abs(mpmath.mpf(float(ours)) - theirs) / theirs
            for row, want in zip(S, exact, strict=True)
            for ours, theirs in zip(row, want, strict=True)
            if theirs > 1e-30
        ]
        assert max(errors) <= bound


@pytest.mark.skipif(len(dispatch.available()) < 2, reason="there is one ISA level here")
@pytest.mark.parametrize("K", [2, 3, 10, 17, 67, 129, 1000])
def test_isa_levels_agree(dtype, stored, K, seed):
    """They do to 4 ULP, from the same scores; beyond 128 classes the sum of a row, in another order, adds to that."""
    rng = np.random.default_rng([seed, K])
    Z = (10 * rng.standard_normal((200, K))).astype(dtype)
    X, W, y = stored(np.eye(200, dtype=dtype)), np.ascontiguousarray(Z.T), rng.integers(0, K, 200)
    results = []
    for level in dispatch.available():
        with dispatch.using(level):
            results.append((softmax(Z, 1), predict_proba(X, W), loss_grad(X, y, W).loss))
    for S, P, J in results[1:]:
        for ours, theirs in ((S, results[0][0]), (P, results[0][1])):
            assert ulps(ours, theirs.astype(np.longdouble)).max() <= (4 if K <= 128 else 10)
        np.testing.assert_allclose(J, results[0][2], rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("K", [2, 3, 10, 16, 17, 67, 300])
def test_a_confident_row_keeps_the_digits_of_its_loss(isa, tolerance, stored, K, seed):
    float32 = tolerance.dtype == np.float32
    rng = np.random.default_rng([seed, K])
    for margin in np.linspace(10, 80 if float32 else 700, 50).astype(tolerance.dtype):
        label = rng.integers(0, K)
        Z = (rng.uniform(-2, 0, K) - margin).astype(tolerance.dtype)
        Z[label] = 0
        exact = np.log1p(np.exp(np.delete(Z, label).astype(np.longdouble)).sum())
        J = loss_grad(stored(np.ones((1, 1), tolerance.dtype)), [label], Z[:, np.newaxis]).loss
        np.testing.assert_allclose(J, float(exact), rtol=1e-5 if float32 else 1e-12, atol=0)


@pytest.mark.parametrize("K", [129, 300])
def test_a_confident_row_of_weighted_targets_keeps_the_digits_of_its_gradient(isa, tolerance, stored, K, seed):
    """All of the mass is the label's: an FMA, which rounds one of two products alone, would leave a rounding of it."""
    float32 = tolerance.dtype == np.float32
    X, rng = stored(np.ones((1, 1), tolerance.dtype)), np.random.default_rng([seed, K])
    for margin in np.linspace(10, 80 if float32 else 700, 50).astype(tolerance.dtype):
        Z, Y = np.full((K, 1), -margin), np.zeros((1, K), tolerance.dtype)
        label = rng.integers(0, K)
        Z[label], Y[0, label] = 0, rng.uniform(0.1, 1)
        others = np.exp(np.longdouble(-margin)) * (K - 1)
        residual = loss_grad(X, Y, Z, sample_weight=rng.uniform(0.1, 1, 1)).dW[label, 0]
        exact = float(-Y[0, label] * others / (1 + others))
        np.testing.assert_allclose(residual, exact, rtol=1e-5 if float32 else 1e-12, atol=0)


def test_the_largest_score_may_stand_in_any_column(isa, dtype, stored):
    """It is so far above the others that exp would overflow if another were taken for it."""
    for K in (*range(1, 68), 300, 1000):
        X, W, y = stored(np.eye(K, dtype=dtype)), 2000 * np.eye(K, dtype=dtype), np.arange(K)
        np.testing.assert_array_equal(predict_proba(X, W), np.eye(K))
        assert loss_grad(X, y, W).loss == 0
        assert loss_grad(X, (y + 1) % K, W).loss == (2000 if K > 1 else 0)


def test_equal_scores_are_as_many_maxima(isa, tolerance, stored):
    """A fit at W = 0 has them: the loss is log K, and a residual is 1 / K, or 1 / K - 1 at the row's label."""
    eps = float(np.finfo(tolerance.dtype).eps)
    for K in (*range(1, 68), 300, 1000):
        X = stored(np.ones((2, 3), tolerance.dtype))
        W, b = np.zeros((K, 3), tolerance.dtype), np.full(K, 3, tolerance.dtype)
        got, residual = loss_grad(X, [0, K - 1], W, b), np.full(K, 1 / K)
        residual[0] -= 0.5
        residual[-1] -= 0.5
        np.testing.assert_allclose(got.loss, math.log(K), rtol=4 * eps, atol=0)
        np.testing.assert_allclose(got.db, residual, rtol=0, atol=4 * eps)
        np.testing.assert_allclose(got.dW, np.outer(residual, np.ones(3)), rtol=0, atol=4 * eps)
        np.testing.assert_allclose(predict_proba(X, W, b), 1 / K, rtol=4 * eps)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("K", [1, 2, 3, 10, 16, 17, 67, 128, 129, 300, 1000])
def test_posteriors_sum_to_one(isa, dtype, storage, K, seed, make_problem):
    """They do however many they are, since the sum of the exponentials is compensated."""
    (X, _, W, b), _ = make_problem(2000, 20, K, dtype, seed, storage=storage)
    bound = 1e-15 if dtype == np.float64 else 1.8e-7 if K <= 128 else 2.8e-7
    Z = 3 * np.random.default_rng([seed, K]).standard_normal((2000, K)).astype(dtype)
    for S in (
        predict_proba(X, W, b),
        softmax(Z, axis=1),
        softmax(Z.T.copy(), axis=0).T,
        two_classes.posteriors(X, W[:1], b[:1]),
    ):
        assert np.abs(1 - S.astype(np.longdouble).sum(axis=1)).max() <= bound


@pytest.mark.pairs(3)
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(9, 5, 2), (500, 20, 10), (500, 20, 67), (60, 5, 1000)], ids=str)
def test_gradients_sum_to_zero_over_the_classes(isa, dtype, storage, shape, labels, seed, make_problem):
    """The residuals of a row do, and so do the columns of dW, and db."""
    (X, y, W, b), _ = make_problem(*shape, dtype, seed, labels=labels, storage=storage)
    _, dW, db = loss_grad(X, y, W, b)
    a_row = 1e-13 if dtype == np.float64 else 1e-6
    targets = 1 if labels == "labels" else y.sum(axis=1).max()
    assert np.abs(dW.astype(np.longdouble).sum(axis=0)).max() <= a_row * targets * abs(X).mean(axis=0).max()
    assert abs(db.astype(np.longdouble).sum()) <= a_row * targets


def loss_of_scores(X, y):
    """The loss of two classes whose scores are 0 and X's one feature."""
    return loss_grad(X, y, np.array([[0], [1]], X.dtype)).loss


def loss_of_one_row(X, y):
    return BinomialObjective(X, y, fit_intercept=False).value([1.0])


@pytest.mark.parametrize("loss", [loss_of_scores, loss_of_one_row])
@pytest.mark.parametrize("N", [300_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_the_mean_over_many_rows_loses_nothing(isa, dtype, stored, N, loss):
    """The oracle is fsum over the kernel's own losses of single rows, few of which are different."""
    rng = np.random.default_rng(0)
    z = rng.integers(0, 100, N)
    y = rng.integers(0, 2, len(z))
    one = {(v, label): loss(stored(np.array([[v]], dtype) / 8), [label]) for v in range(100) for label in (0, 1)}
    exact = math.fsum(one[row] for row in zip(z.tolist(), y.tolist(), strict=True)) / len(z)
    J = loss(stored(z[:, np.newaxis].astype(dtype) / 8), y)
    np.testing.assert_allclose(J, exact, rtol=1e-9 if dtype == np.float32 else 1e-13, atol=0)


@np.errstate(all="ignore")
def exact_of_two(z, Y):
    """The losses, the posteriors and the residuals of scores 0 and z with targets Y."""
    z, Y = z.astype(np.longdouble), Y.astype(np.longdouble)
    e, top_1 = np.exp(-np.abs(z)), (z > 0)[:, np.newaxis]
    S = (
        np.where(top_1, np.column_stack([e, np.ones_like(e)]), np.column_stack([np.ones_like(e), e]))
        / (1 + e)[:, np.newaxis]
    )
    S[np.isnan(z) | (z == inf)] = nan
    below = np.where(top_1, [[1, 0]], [[0, 1]]) * np.minimum(np.abs(z), np.finfo(np.longdouble).max)[:, np.newaxis]
    below[z == -inf, 1] = inf
    losses = np.where(Y == 0, 0, Y * below).sum(axis=1) + Y.sum(axis=1) * np.log1p(e)
    losses[np.isnan(S[:, 0])] = nan
    return losses.astype(float), S.astype(float), (S[:, 1] * Y[:, 0] - S[:, 0] * Y[:, 1]).astype(float)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference adds in another order")
@pytest.mark.parametrize("N", [1, 15, 67])
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
def test_one_row_is_the_softmax_of_zero_and_its_score(isa, dtype, stored, labels, N):
    """Confident rows keep their last digits beside some below the normal range and some that are not finite."""
    float32, limits = dtype == np.float32, np.finfo(dtype)
    smallest = float(limits.smallest_subnormal)
    far = (80, 95) if float32 else (700, 720)
    edges = [0.0, limits.tiny, 1e-9, 0.3, 1, 10, 20, 35, *far, limits.max / 4, inf, nan]
    edges = np.array([*edges, *(-z for z in edges)], dtype)
    for first in range(len(edges)):
        z, y = np.roll(edges, -first)[np.arange(N) % len(edges)], np.arange(first, first + N) // 3 % 2
        Y = np.eye(2)[y]
        if labels == "probabilities":
            Y = np.random.default_rng(first).uniform(0.1, 2, (N, 2)).astype(dtype)
        X = stored(z[:, np.newaxis])
        losses, S, R = exact_of_two(z, Y)
        objective = BinomialObjective(X, y if labels == "labels" else Y, sample_weight=np.arange(N) % 3 + 1.0)
        got = objective.evaluate([1, 0]).losses
        dropped = 2.0 ** (-119 if float32 else -1015)  # see "Subnormal residuals" in docs/notes.md
        np.testing.assert_allclose(got, losses, rtol=1e-5 if float32 else 1e-12, atol=dropped)
        posteriors = two_classes.posteriors(X, np.ones((1, 1), dtype), np.zeros(1, dtype))
        np.testing.assert_allclose(posteriors, S, rtol=5e-7 if float32 else 1e-14, atol=2 * smallest)
        s = (np.arange(N) % 3 + 1) / objective.m
        terms = np.nansum(s * (S[:, 1] * Y[:, 0] + S[:, 0] * Y[:, 1]))  # of labels these are the residuals' own size
        db = objective.value_and_grad([1, 0])[1][1]
        atol = 8 * float(limits.eps) * terms + s.sum() * dropped + 2 * smallest
        np.testing.assert_allclose(db, (s * R).sum(), rtol=0, atol=atol)


# One feature for each class k spoils a row there: its value in that row, which is 0 in others, and its weight in
# class k and in the other classes. Half the largest number times 10 overflows; 0 times infinity is NaN.
NOT_FINITE = {
    "+inf": ("huge", 10, 0),
    "-inf": ("huge", -10, 0),
    "+inf among -inf": (inf, 1, -1),
    "nan among -inf": (inf, 0, -1),
    "all -inf": (inf, -1, -1),
    "all nan": (nan, 1, 1),
}


@pytest.fixture(params=NOT_FINITE)
def kind(request):
    return request.param


@pytest.fixture
def spoilt(kind, stored, make_problem):
    """X, W and b of which row 2 k is spoilt at class k, and the odd rows are not."""
    value, at_k, elsewhere = NOT_FINITE[kind]

    def make(K, dtype, spoil=True):
        (X, _, W, b), _ = make_problem(2 * K, 5, K, np.float32)
        X[::3] /= 20
        marks = np.zeros((2 * K, K), dtype)
        if spoil:
            np.fill_diagonal(marks[::2], np.finfo(dtype).max / 2 if value == "huge" else value)
        weights = np.where(np.eye(K, dtype=bool), at_k, elsewhere)
        return stored(np.hstack([X, marks]).astype(dtype)), np.hstack([W, weights]).astype(dtype), b.astype(dtype)

    return make


@pytest.mark.pairs(3)
def test_a_row_that_is_not_finite_stays_by_itself(isa, tolerance, kind, spoilt):
    """It may be so at every class of 1..67. The reference gets float64 numbers, which overflow in the same places."""
    dtype = tolerance.dtype
    for K in range(1, 68):
        S = predict_proba(*spoilt(K, dtype))
        np.testing.assert_allclose(S, reference.predict_proba(*spoilt(K, np.float64)), rtol=tolerance.rtol)
        np.testing.assert_array_equal(S[1::2], predict_proba(*spoilt(K, dtype, spoil=False))[1::2])
        if kind == "-inf" and K > 1:
            assert (S[::2].diagonal() == 0).all() and np.isfinite(S).all()
        else:
            assert np.isnan(S[::2]).all()


@pytest.mark.pairs(3)
@pytest.mark.parametrize("K", [1, 2, 3, 7, 9, 16, 17, 33, 67])
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
def test_a_row_that_is_not_finite_has_the_loss_and_gradient_of_the_reference(isa, tolerance, kind, labels, K, spoilt):
    X, W, b = spoilt(K, tolerance.dtype)
    X64, W64, b64 = spoilt(K, np.float64)
    for k in range(K):
        for label in {k, 0, K - 1}:
            y = np.array([label]) if labels == "labels" else np.eye(K)[[label]]
            got = loss_grad(X[[2 * k]], y, W, b)
            want = reference.loss_grad(X64[[2 * k]], y, W64, b64)
            np.testing.assert_allclose(got.loss, want.loss, rtol=tolerance.rtol)
            np.testing.assert_allclose(got.db, want.db, rtol=0, atol=tolerance.rtol)
            np.testing.assert_array_equal(np.isnan(got.dW), np.isnan(want.dW))
            if kind == "-inf" and K > 1:  # the softmax of the others, and exactly nothing or everything at k
                assert got.db[k] == -(label == k) and np.isfinite(got.dW).all() and not (label != k and got.dW[k].any())
                assert got.loss == inf if label == k else labels == "probabilities" or np.isfinite(got.loss)


@pytest.mark.parametrize("K", [2, 3, 16, 17, 67])
def test_a_bias_of_nan_is_found_at_every_class(isa, dtype, stored, K, make_problem):
    """It is alone among finite scores, where a maximum that passes NaN by would not see it."""
    for k in range(K):
        (X, y, W, b), _ = make_problem(5, 4, K, dtype)
        X, b[k] = stored(X), nan
        assert np.isnan(predict_proba(X, W, b)).all()
        got = loss_grad(X, y, W, b)
        assert np.isnan(got.loss) and np.isnan(got.dW).all() and np.isnan(got.db).all()


def test_scores_whose_differences_overflow_have_exact_posteriors(isa, dtype, stored):
    huge = np.finfo(dtype).max
    W = np.array([[huge], [-huge], [0], [huge]], dtype)
    X = stored(np.ones((1, 1), dtype))
    np.testing.assert_array_equal(predict_proba(X, W), [[0.5, 0, 0, 0.5]])
    got = loss_grad(X, [0], W)
    np.testing.assert_allclose(got.loss, math.log(2), rtol=1e-6)
    np.testing.assert_array_equal(got.dW, [[-0.5], [0], [0], [0.5]])


def test_equal_scores_at_the_ends_of_the_range_have_equal_posteriors(isa, dtype, stored):
    limits = np.finfo(dtype)
    for z in (limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, -0.0, 0.0, limits.max, -limits.max):
        W = np.full((3, 1), z, dtype)
        np.testing.assert_allclose(predict_proba(stored(np.ones((1, 1), dtype)), W), 1 / 3, rtol=1e-6)
