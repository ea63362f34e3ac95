"""Equations (1) to (9) of docs/derivation.md, each against finite differences or its own definition.

Tolerances are scikit-learn's for its losses (sklearn/_loss/tests/test_loss.py): rtol 5e-6, atol 1e-10.
"""

import numpy as np
import pytest

from softmax_ext import SoftmaxObjective, reference

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
def sample_weight(seed):
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
        e = np.exp([sum(W[k] * X[i]) + b[k] for k in range(K)])
        np.testing.assert_allclose(S[i], e / sum(e), rtol=1e-14)
    np.testing.assert_allclose(reference.softmax(Z + 1000), S, rtol=1e-11)  # the shift cancels: eps * 1000
    np.testing.assert_allclose(reference.predict_proba(X, W, b), S, rtol=1e-14)


def test_2_the_loss_is_the_negative_log_likelihood(problem, sample_weight):
    X, y, W, b = problem
    S = reference.predict_proba(X, W, b)
    likelihood = np.prod(S[np.arange(N), y])
    np.testing.assert_allclose(reference.loss_grad(X, y, W, b).loss, -np.log(likelihood) / N, rtol=1e-13)
    weighed = np.prod(S[np.arange(N), y] ** sample_weight)
    ours = reference.loss_grad(X, y, W, b, sample_weight=sample_weight).loss
    np.testing.assert_allclose(ours, -np.log(weighed) / sample_weight.sum(), rtol=1e-13)


def test_2_maximum_likelihood_finds_the_frequencies():
    y = np.array([0, 1, 1, 2, 2, 2, 2])
    X, W, b = np.ones((7, 1)), np.zeros((3, 1)), np.log([1 / 7, 2 / 7, 4 / 7])
    best, _, db = reference.loss_grad(X, y, W, b)
    np.testing.assert_allclose(db, 0, atol=1e-16)
    for step in 1e-3 * np.random.default_rng(0).standard_normal((20, 3)):
        assert reference.loss_grad(X, y, W, b + step).loss > best


@pytest.mark.parametrize("case", ["k = z", "k != z"])
def test_3_derivative_of_the_posterior_in_both_cases(problem, case):
    X, _, W, b = problem
    for x in X:
        s = reference.predict_proba([x], W, b)[0]
        ds = derivative(lambda w, x=x: reference.predict_proba([x], w.T, b)[0], W.T.copy())  # [k, j, z]
        for j, k, z in np.ndindex(D, K, K):
            if (k == z) == (case == "k = z"):
                formula = x[j] * s[z] * (1 - s[z]) if k == z else -x[j] * s[k] * s[z]
                np.testing.assert_allclose(reference.dposterior(x, s)[k, j, z], formula, rtol=1e-14)
                np.testing.assert_allclose(formula, ds[k, j, z], rtol=5e-6, atol=1e-10)


def test_3_the_posteriors_go_on_summing_to_one(problem):
    X, _, W, b = problem
    for x in X:
        s = reference.predict_proba([x], W, b)[0]
        np.testing.assert_allclose(reference.dposterior(x, s).sum(axis=0), 0, atol=1e-15)


def test_4_the_sum_over_classes_collapses(problem):
    X, y, W, b = problem
    S, Y = reference.predict_proba(X, W, b), reference.one_hot(y, K)
    for x, y, s in zip(X, Y, S, strict=True):
        summed = reference.dlog_likelihood(x, y, s)
        np.testing.assert_allclose(np.outer(x, y - s), summed, rtol=1e-12, atol=1e-14)

        def log_likelihood(w, x=x, y=y):
            return (y * np.log(reference.predict_proba([x], w.T, b)[0])).sum()

        assert_derivative(summed, log_likelihood, W.T.copy())


def test_4_the_short_way_comes_to_the_same(problem):
    X, y, W, b = problem
    S, Y = reference.predict_proba(X, W, b), reference.one_hot(y, K)
    for x, y, s in zip(X, Y, S, strict=True):

        def log_posterior(w, x=x):
            return reference.log_softmax(reference.scores(x[np.newaxis], w.T, b))[0]

        short = reference.dlog_posterior(x, s)
        assert_derivative(short, log_posterior, W.T.copy())
        np.testing.assert_allclose(reference.dposterior(x, s), s[:, np.newaxis, np.newaxis] * short, rtol=1e-12)
        np.testing.assert_allclose(
            np.einsum("k,kjz->jz", y, short), reference.dlog_likelihood(x, y, s), rtol=1e-12, atol=1e-14
        )


def test_4_the_residual_is_the_derivative_by_the_scores(problem, targets):
    X, y, W, b = problem
    Z = reference.scores(X, W, b)
    S = reference.softmax(Z)
    for target, Y in ((y, reference.one_hot(y, K)), (targets, targets)):
        R = reference.residual(S, Y)
        assert_derivative(R / N, lambda Z, target=target: reference.loss(Z, target), Z)
    np.testing.assert_array_equal(reference.residual(S, reference.one_hot(y, K)), S - reference.one_hot(y, K))


def test_5_each_component_of_the_gradient(problem, sample_weight):
    X, y, W, b = problem
    R = reference.predict_proba(X, W, b) - reference.one_hot(y, K)
    components = [[reference.dloss_component(X, R, sample_weight, j, z) for z in range(K)] for j in range(D)]
    assert_derivative(
        components, lambda w: reference.loss_grad(X, y, w.T, b, sample_weight=sample_weight).loss, W.T.copy()
    )


def test_6_the_vector_form_holds_all_components(problem, sample_weight):
    X, y, W, b = problem
    Y, S = reference.one_hot(y, K), reference.predict_proba(X, W, b)
    R, m = S - Y, sample_weight.sum()
    components = [[reference.dloss_component(X, R, sample_weight, j, z) for z in range(K)] for j in range(D)]
    dw = -1 / m * X.T @ (sample_weight[:, np.newaxis] * (Y - S))
    np.testing.assert_allclose(dw, components, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(reference.dloss(X, R, sample_weight), dw.T, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighed", [False, True])
def test_6_the_vector_form_is_the_gradient(problem, targets, sample_weight, kind, label_smoothing, weighed):
    X, y, W, b = problem
    y = y if kind == "labels" else targets
    keywords = {"label_smoothing": label_smoothing, "sample_weight": sample_weight if weighed else None}
    _, dW, db = reference.loss_grad(X, y, W, b, **keywords)
    assert_derivative(dW, lambda W: reference.loss_grad(X, y, W, b, **keywords).loss, W)
    assert_derivative(db, lambda b: reference.loss_grad(X, y, W, b, **keywords).loss, b)


def test_7_the_penalty_and_its_gradient(problem):
    X, y, W, b = problem
    l2 = 0.3
    value, dvalue = reference.penalty(W, l2)
    assert_derivative(dvalue, lambda W: reference.penalty(W, l2)[0], W)
    loss, dW, db = reference.loss_grad(X, y, W, b)
    f, gradient = SoftmaxObjective(X, reference.one_hot(y, K), l2=l2).value_and_grad(np.concatenate([W.ravel(), b]))
    np.testing.assert_allclose(f, loss + value, rtol=1e-12)
    np.testing.assert_allclose(gradient, np.concatenate([(dW + dvalue).ravel(), db]), rtol=1e-9, atol=1e-12)


def test_8_the_hessian_is_the_derivative_of_the_gradient(problem, sample_weight):
    X, y, W, b = problem

    def gradient(W):
        return reference.loss_grad(X, y, W, b, sample_weight=sample_weight).dW

    H = reference.hessian(X, reference.predict_proba(X, W, b), sample_weight)
    assert_derivative(H, gradient, W)
    eigenvalues = np.linalg.eigvalsh(H.reshape(K * D, K * D))
    assert eigenvalues.min() > -1e-12 * eigenvalues.max()


def test_8_the_product_needs_no_hessian(problem, sample_weight, seed):
    X, _, W, b = problem
    V, S = np.random.default_rng(seed).standard_normal((K, D)), reference.predict_proba(X, W, b)
    dV, _ = reference.hessian_product(X, S, V, np.zeros(K), sample_weight, np.ones(N))
    H = reference.hessian(X, S, sample_weight)
    np.testing.assert_allclose(dV, np.einsum("zjlq,lq->zj", H, V), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("intercept", [True, False])
def test_9_two_classes_with_one_row_are_a_softmax_with_a_row_of_zeros(problem, sample_weight, intercept):
    X, _, W, b = problem
    rng = np.random.default_rng(0)
    Y, offset, w = rng.exponential(size=(N, 2)), rng.standard_normal(N), np.append(W[0], b[:intercept])

    def at(w):
        return reference.binomial(X, Y, w[:D], w[D] if intercept else None, sample_weight, offset)

    both, zero = np.vstack([0 * W[0], W[0]]), np.array([0.0, b[0]])
    softmax = reference.loss_grad(X, Y, both, zero if intercept else None, sample_weight=sample_weight, offset=offset)
    np.testing.assert_allclose(at(w).loss, softmax.loss, rtol=1e-14)
    np.testing.assert_allclose(at(w).dw, np.append(softmax.dW[1], softmax.db[1:] if intercept else []), rtol=1e-12)
    assert_derivative(at(w).dw, lambda w: at(w).loss, w)
    assert_derivative(at(w).hessian, lambda w: at(w).dw, w)


@pytest.mark.parametrize("z", [-800.0, -40.0, 0.0, 40.0, 800.0, -np.inf, np.inf, np.nan])
@pytest.mark.parametrize("target", [0, 1, [0.3, 0.7]])
def test_9_far_from_the_border_and_not_finite(z, target):
    y, Z = np.array([target]), np.array([[0.0, z]])
    found = reference.binomial(np.zeros((1, 1)), y, np.zeros(1), 0.0, offset=np.array([z]))
    np.testing.assert_allclose(found.loss, reference.loss(Z, y), rtol=1e-14)
    R = reference.residual(reference.softmax(Z), y if y.ndim == 2 else reference.one_hot(y, 2))
    np.testing.assert_allclose(found.dw[1], R[0, 1], rtol=1e-14, atol=1e-15)  # S - Y has lost the digits beyond
