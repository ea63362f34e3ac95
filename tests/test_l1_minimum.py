"""Fits with L1 of two to 26 classes, raw and standardised, against coordinate descent in NumPy."""

import numpy as np
import pytest

from softmax_ext import SoftmaxObjective, optim, reference
from softmax_ext._objective.penalty import Penalty
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import BinomialObjective


def minimum(X, y, s, K, l1, *, intercept=True):
    """Return W (K, D), b and the objective: Newton's method, each step by coordinate descent on the whole Hessian.

    Everything in float64, to a violation of 1e-11 or to where rounding hides the rest.
    """
    N, D = X.shape
    A = np.hstack([X, np.ones((N, 1))]) if intercept else X
    P, Y = A.shape[1], reference.one_hot(y, K)
    limits = np.full((K, P), l1)
    limits[:, D:] = 0
    w, limits, weights = np.zeros(K * P), limits.ravel(), s / s.sum()

    def at(w):
        Z = A @ w.reshape(K, P).T
        return reference.loss(Z, Y, s) + limits @ abs(w), reference.softmax(Z)

    value, S = at(w)
    for _ in range(100):
        g = ((S - Y) * weights[:, None]).T @ A
        g = g.ravel()
        violation = np.where(w != 0, abs(g + limits * np.sign(w)), np.maximum(abs(g) - limits, 0)).max()
        if violation < 1e-11:
            break
        H = reference.hessian(A, S, s).reshape(K * P, K * P)
        h, u, Hd = np.maximum(H.diagonal(), 1e-300), w.copy(), np.zeros(K * P)
        for _ in range(1000):
            most = 0.0
            for i in np.flatnonzero((u != 0) | (abs(g + Hd) > limits)):
                c = h[i] * u[i] - g[i] - Hd[i]
                by = np.sign(c) * max(abs(c) - limits[i], 0) / h[i] - u[i]
                if by:
                    u[i] += by
                    Hd += by * H[i]
                    most = max(most, abs(by) * h[i])
            if most < 0.01 * violation:
                break
        t = 1.0
        while True:
            there, S_there = at(w + t * (u - w))
            if there < value or t < 1e-6:
                break
            t /= 2
        if t < 1e-6:
            break
        w, value, S = u if t == 1 else w + t * (u - w), there, S_there
    W = w.reshape(K, P)
    return W[:, :D], W[:, D], value


def problem(K, kind):
    rng = np.random.default_rng(K)
    N, D = 200, 5
    X = rng.standard_normal((N, D)) @ rng.standard_normal((D, D))
    y = (X @ rng.standard_normal((D, K)) + 2 * rng.gumbel(size=(N, K))).argmax(axis=1)
    y[:K] = np.arange(K)
    if kind == "raw":
        X = X * [0.05, 1, 1, 20, 4] + [0, 3, -1, 50, 20]
    return X, y, rng.integers(0, 3, N) + 0.5


@pytest.mark.parametrize("kind", ["raw", "standardised"])
@pytest.mark.parametrize("K", [2, 3, 7, 26])
def test_fits_end_where_coordinate_descent_does(K, kind, monkeypatch):
    X, y, s = problem(K, kind)
    Y = reference.one_hot(y, K)
    null = ((s @ Y / s.sum() - Y) * (s / s.sum())[:, None]).T @ X
    l1 = 0.05 * abs(null).max()
    W, _, best = minimum(X, y, s, K, l1)
    assert 0 < np.count_nonzero(W) < W.size
    for few in (0, 1000):  # blocks and then the Hessian of the support, and the whole Hessian
        monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
        for tol in (1e-4, 1e-8):
            objective = SoftmaxObjective(X, y, penalty=Penalty(l1=l1), sample_weight=s)
            found = optim.proximal(objective, np.zeros(objective.size), tol=tol, max_iter=1000)
            assert found.converged or "rounding" in found.report
            assert found.largest_gradient <= tol
            assert best * (1 - 1e-9) <= found.value <= best * (1 + max(0.1 * tol, 1e-9)), found.report


@pytest.mark.parametrize("few", [0, 1000], ids=["support", "whole"])
@pytest.mark.parametrize("K", [2, 3, 7, 26])
def test_features_far_from_the_origin_come_to_a_tight_tolerance(K, few, monkeypatch):
    """Their scores are sums of terms in the thousands, so values are rounded more than their own size tells."""
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    X, y, s = problem(K, "standardised")
    objective = SoftmaxObjective(X + 1000, y, penalty=Penalty(l1=0.003), sample_weight=s)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-8, max_iter=1000)
    assert found.converged, found.report
    _, _, best = minimum(X, y, s, K, 0.003)
    assert found.value == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize("tol", [1e-4, 1e-8])
def test_as_many_features_as_samples_take_few_passes(tol):
    """For 20 x 20 x 3 a diagonal that bounds the Hessian would take thousands of passes."""
    from sklearn.datasets import make_classification

    X, y = make_classification(20, 20, n_informative=10, n_classes=3, random_state=0)
    l1 = 0.01 * abs((np.bincount(y) / 20 - np.eye(3)[y]).T @ X / 20).max()
    W, _, best = minimum(X, y, np.ones(20), 3, l1)
    model = LogisticRegression(C=1 / (l1 * 20), l1_ratio=1, solver="saga", tol=tol).fit(X, y)
    assert model.converged_ and model.n_iter_[0] <= 20
    assert best * (1 - 1e-9) <= model.loss_curve_[-1] <= best * (1 + 0.1 * tol)
    assert np.count_nonzero(model.coef_) <= np.count_nonzero(W) + 2


def test_one_row_of_coefficients_ends_at_the_minimum_of_two():
    X, y, s = problem(2, "raw")
    l1 = 0.02
    # Softmax with rows -w / 2 and w / 2 has that row's posterior, and of the same l1 part.
    _, _, best = minimum(X, y, s, 2, l1)
    objective = BinomialObjective(X, y, penalty=Penalty(l1=l1), sample_weight=s)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-8)
    assert found.converged and found.value == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("few", [0, 1000], ids=["support", "whole"])
@pytest.mark.parametrize("draw", [0, 2, 14, 15, 16, 18])
def test_a_weight_that_decides_its_samples_comes_back(draw, few, monkeypatch):
    """Such a weight has no curvature but rounding, so that fits ended where it was."""
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    rng = np.random.default_rng(draw)
    X = rng.standard_normal((60, 8))
    X[:, 5:] *= rng.random((60, 3)) < 0.05
    y = rng.integers(0, 3, 60)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.005))
    rare = np.flatnonzero(X[:, 6])[0]
    w = np.zeros(objective.size)
    objective.parameters.weights(w)[y[rare], 6] = 400 * np.sign(X[rare, 6])
    far, near = (optim.proximal(objective, start, tol=1e-6, max_iter=200) for start in (w, 0 * w))
    assert near.converged and far.converged, far.report
    assert far.value == pytest.approx(near.value, abs=1e-7)
