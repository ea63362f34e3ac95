"""Equations (1) to (6) of the derivation, each against finite differences or its own definition.

Tolerances are scikit-learn's for its losses (sklearn/_loss/tests/test_loss.py): rtol 5e-6, atol 1e-10.
"""

import numpy as np
import pytest

from softmax_ext import reference

N, D, K = 7, 4, 5


@pytest.fixture
def problem(seed):
    rng = np.random.default_rng(seed)
    X, W, b = rng.standard_normal((N, D)), rng.standard_normal((K, D)), rng.standard_normal(K)
    return X, rng.integers(0, K, N), W, b


@pytest.fixture
def targets(seed):
    """Probabilities that do not sum to one."""
    return np.random.default_rng(seed).exponential(size=(N, K))


@pytest.fixture
def s(seed):
    return np.random.default_rng(seed).exponential(size=N)


def derivative(f, at, h=1e-3):
    """df/dat by central differences of fourth order, whose error is h^4 / 30 times the fifth derivative."""

    def along(step):
        return (8 * (f(at + step) - f(at - step)) - (f(at + 2 * step) - f(at - 2 * step))) / (12 * h)

    columns = [along(step) for step in h * np.eye(at.size).reshape(-1, *at.shape)]
    return np.stack(columns, axis=-1).reshape(*np.shape(columns[0]), *at.shape)


def assert_derivative(analytic, f, at):
    np.testing.assert_allclose(analytic, derivative(f, at), rtol=5e-6, atol=1e-10)


def test_1_the_posterior_is_the_ratio_of_exponentials(problem):
    X, _, W, b = problem
    Z = reference.scores(X, W, b)
    S = reference.softmax(Z)
    for i in range(N):
        for k in range(K):
            z = [sum(W[j] * X[i]) + b[j] for j in range(K)]
            np.testing.assert_allclose(S[i, k], np.exp(z[k]) / sum(np.exp(z)), rtol=1e-14)
    np.testing.assert_allclose(reference.softmax(Z + 1000), S, rtol=1e-11)  # the shift cancels: eps * 1000
    np.testing.assert_allclose(reference.predict_proba(X, W, b), S, rtol=1e-14)


def test_2_the_loss_is_the_negative_log_likelihood(problem, s):
    X, y, W, b = problem
    S = reference.predict_proba(X, W, b)
    likelihood = np.prod(S[np.arange(N), y])
    np.testing.assert_allclose(reference.loss_grad(X, y, W, b).loss, -np.log(likelihood) / N, rtol=1e-13)
    weighted = np.prod(S[np.arange(N), y] ** s)
    ours = reference.loss_grad(X, y, W, b, sample_weight=s).loss
    np.testing.assert_allclose(ours, -np.log(weighted) / s.sum(), rtol=1e-13)


def test_2_maximum_likelihood_finds_the_frequencies():
    y = np.array([0, 1, 1, 2, 2, 2, 2])
    X, W, b = np.ones((7, 1)), np.zeros((3, 1)), np.log([1 / 7, 2 / 7, 4 / 7])
    best, _, db = reference.loss_grad(X, y, W, b)
    np.testing.assert_allclose(db, 0, atol=1e-16)
    for step in 1e-3 * np.random.default_rng(0).standard_normal((20, 3)):
        assert reference.loss_grad(X, y, W, b + step).loss > best


def test_3_derivative_of_the_log_posterior(problem):
    X, _, W, b = problem
    for x in X:
        p = reference.predict_proba([x], W, b)[0]

        def log_posterior(w, x=x):
            return reference.log_softmax(reference.scores(x[np.newaxis], w.T, b))[0]

        assert_derivative(reference.dlog_posterior(x, p), log_posterior, W.T.copy())


def test_3_derivative_of_the_posterior_in_both_cases(problem):
    X, _, W, b = problem
    for x in X:
        p = reference.predict_proba([x], W, b)[0]
        analytic = reference.dposterior(x, p)
        assert_derivative(analytic, lambda w, x=x: reference.predict_proba([x], w.T, b)[0], W.T.copy())
        k, z, j = 1, 3, 2
        np.testing.assert_allclose(analytic[z, j, z], x[j] * p[z] * (1 - p[z]))
        np.testing.assert_allclose(analytic[k, j, z], -x[j] * p[k] * p[z])


@pytest.mark.parametrize("sums_to_one", [True, False])
def test_4_the_sum_over_classes_collapses(problem, targets, sums_to_one):
    X, y, W, b = problem
    Y = reference.one_hot(y, K) if sums_to_one else targets
    S = reference.predict_proba(X, W, b)
    R = reference.residual(S, Y)
    for i in range(N):
        summed = -np.einsum("k,kjz->jz", Y[i], reference.dlog_posterior(X[i], S[i]))
        np.testing.assert_allclose(np.outer(X[i], R[i]), summed, rtol=1e-12, atol=1e-14)
    if sums_to_one:
        np.testing.assert_array_equal(R, S - Y)


def test_4_the_residual_is_the_derivative_by_the_scores(problem, targets):
    X, y, W, b = problem
    Z = reference.scores(X, W, b)
    for target, Y in ((y, reference.one_hot(y, K)), (targets, targets)):
        R = reference.residual(reference.softmax(Z), Y)
        assert_derivative(R / N, lambda Z, target=target: reference.loss(Z, target), Z)


def test_5_each_component_of_the_gradient(problem, s):
    X, y, W, b = problem
    R = reference.predict_proba(X, W, b) - reference.one_hot(y, K)
    components = [[reference.dloss_component(X, R, s, j, z) for z in range(K)] for j in range(D)]
    assert_derivative(components, lambda w: reference.loss_grad(X, y, w.T, b, sample_weight=s).loss, W.T.copy())


def test_6_the_vector_form_holds_all_components(problem, s):
    X, y, W, b = problem
    R = reference.predict_proba(X, W, b) - reference.one_hot(y, K)
    components = [[reference.dloss_component(X, R, s, j, z) for j in range(D)] for z in range(K)]
    np.testing.assert_allclose(reference.dloss(X, R, s), components, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_6_the_vector_form_is_the_gradient(problem, targets, s, kind, label_smoothing, weighted):
    X, y, W, b = problem
    y = y if kind == "labels" else targets
    keywords = {"label_smoothing": label_smoothing, "sample_weight": s if weighted else None}
    _, dW, db = reference.loss_grad(X, y, W, b, **keywords)
    assert_derivative(dW, lambda W: reference.loss_grad(X, y, W, b, **keywords).loss, W)
    assert_derivative(db, lambda b: reference.loss_grad(X, y, W, b, **keywords).loss, b)
