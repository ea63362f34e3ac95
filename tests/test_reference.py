"""The specification against independent implementations and against its own words on values that are not finite."""

import numpy as np
import pytest
import scipy.special

from softmax_ext import reference

inf, nan = np.inf, np.nan


@pytest.fixture
def Z(seed):
    Z = np.random.default_rng(seed).standard_normal((50, 7))
    Z[::3] *= 100
    return Z


def test_softmax_is_scipys(Z):
    np.testing.assert_allclose(reference.softmax(Z), scipy.special.softmax(Z, axis=1), rtol=1e-14, atol=0)


def test_log_softmax_is_the_logarithm_of_softmax(Z):
    S = reference.softmax(Z)
    digits_left = (S > 0) & (S < 0.9)
    np.testing.assert_allclose(reference.log_softmax(Z)[digits_left], np.log(S[digits_left]), rtol=1e-13, atol=0)


@pytest.mark.parametrize("margin", [1.0, 10.0, 40.0, 300.0, 700.0])
@pytest.mark.parametrize("K", [2, 3, 1000])
def test_the_reference_keeps_the_digits_of_a_confident_row(margin, K, seed):
    y = np.random.default_rng(seed).integers(0, K, 1)
    Z = np.zeros((1, K))
    Z[0, y] = margin
    np.testing.assert_allclose(reference.loss(Z, y), np.log1p((K - 1) * np.exp(-margin)), rtol=1e-13, atol=0)


def test_two_classes_are_scipys_logistic_function(seed):
    z = np.random.default_rng(seed).standard_normal(20) * 10
    S = reference.predict_proba(z[:, np.newaxis], [[0.0], [1.0]])
    np.testing.assert_allclose(S[:, 1], scipy.special.expit(z), rtol=1e-14, atol=0)


# Z, target, loss, softmax, residual: what torch 2.13 returns from cross_entropy, softmax and backward.
ROWS = {
    "nan": ([0, nan, 1], 0, nan, [nan] * 3, [nan] * 3),
    "+inf": ([0, inf, 1], 0, nan, [nan] * 3, [nan] * 3),
    "+inf at the label": ([inf, 0, 1], 0, nan, [nan] * 3, [nan] * 3),
    "all -inf": ([-inf] * 3, 0, nan, [nan] * 3, [nan] * 3),
    "one -inf": ([0, 0, -inf], 0, np.log(2), [0.5, 0.5, 0], [-0.5, 0.5, 0]),
    "-inf at the label": ([0, 0, -inf], 2, inf, [0.5, 0.5, 0], [0.5, 0.5, -1]),
    "probability 0 at -inf": ([0, 0, -inf], [0.5, 0.5, 0], nan, [0.5, 0.5, 0], [0, 0, 0]),
    "probability at -inf": ([0, 0, -inf], [0.5, 0, 0.5], inf, [0.5, 0.5, 0], [0, 0.5, -0.5]),
    "overflowing differences": ([1.7e308, -1.7e308, 0], 0, 0, [1, 0, 0], [0, 0, 0]),
    "equal and huge": ([1e308, 1e308, -inf], 0, np.log(2), [0.5, 0.5, 0], [-0.5, 0.5, 0]),
}


@pytest.mark.parametrize("Z, y, loss, S, R", ROWS.values(), ids=ROWS)
def test_rows_that_are_not_finite_are_as_specified(Z, y, loss, S, R):
    Z, y = np.array([Z], float), np.array([y])
    Y = y if y.ndim == 2 else reference.one_hot(y, 3)
    np.testing.assert_allclose(reference.softmax(Z), [S], rtol=1e-15)
    np.testing.assert_allclose(reference.residual(reference.softmax(Z), Y), [R], rtol=1e-15)
    np.testing.assert_allclose(reference.loss(Z, y), loss, rtol=1e-15)


@pytest.mark.parametrize("target, ε, loss", [(0, 0.1, inf), (0, 0.0, np.log(2)), ([0.5, 0.5, 0.0], 0.1, inf)])
def test_smoothing_gives_a_class_at_minus_infinity_a_share(target, ε, loss):
    np.testing.assert_allclose(reference.loss(np.array([[0, 0, -inf]]), np.array([target]), None, ε), loss, rtol=1e-15)


def test_smoothed_labels_are_smoothed_targets(make_problem, seed):
    (X, y, W, b), _ = make_problem(20, 5, 4, np.float64, seed)
    ours = reference.loss_grad(X, y, W, b, label_smoothing=0.3)
    theirs = reference.loss_grad(X, reference.smooth(reference.one_hot(y, 4), 0.3), W, b)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13, atol=1e-14)


def test_a_weight_is_a_number_of_repetitions(make_problem, seed):
    (X, y, W, b), _ = make_problem(20, 5, 4, np.float64, seed)
    times = np.random.default_rng(seed).integers(0, 4, 20)
    ours = reference.loss_grad(X, y, W, b, sample_weight=times)
    theirs = reference.loss_grad(X.repeat(times, axis=0), y.repeat(times), W, b)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


def test_class_weights_are_sample_weights(make_problem, seed):
    (X, y, W, b), _ = make_problem(20, 5, 4, np.float64, seed)
    c, s = np.array([0.5, 1.0, 2.0, 3.0]), np.linspace(1, 2, 20)
    theirs = reference.loss_grad(X, y, W, b, sample_weight=s * c[y])
    for class_weight in (c, dict(enumerate(c)), {0: 0.5, 2: 2, 3: 3}):
        ours = reference.loss_grad(X, y, W, b, sample_weight=s, class_weight=class_weight)
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


def test_one_class_is_certain(make_problem):
    arguments, _ = make_problem(9, 5, 1, np.float64)
    J, dW, db = reference.loss_grad(*arguments)
    assert J == 0 and not dW.any() and not db.any()
    assert (reference.predict_proba(arguments[0], arguments[2]) == 1).all()


def test_computes_in_float64_from_parameters_in_the_dtype_of_X():
    X, W = np.array([[1, 2]], np.float32), np.array([[0.1, 0.2], [0.3, 0.4]])
    given, cast, uncast = (
        reference.loss_grad(X, [0], W),
        reference.loss_grad(X.astype(float), [0], W.astype(np.float32).astype(float)),
        reference.loss_grad(X.astype(float), [0], W),
    )
    assert given.dW.dtype == np.float64
    assert given.loss == cast.loss != uncast.loss
