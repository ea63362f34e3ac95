"""Bags of words: sparse rows in tens of classes."""

import warnings

import numpy as np
import scipy.sparse
from sklearn.linear_model import LogisticRegression as Sklearn

from softmax_ext import SoftmaxObjective, loss_grad, predict_proba
from softmax_ext.linear_model import LogisticRegression

from .common import interleaved, typical

SHAPES = {"40000x60000x40": (40_000, 60_000, 40), "20000x60000x40": (20_000, 60_000, 40)}


def text(N, D, K, seed=0):
    """Return documents as rows of unit length, with words by Zipf's law, of which each class prefers some."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, K, N)
    rows = np.repeat(np.arange(N), rng.integers(5, 40, N))
    words = np.minimum(rng.zipf(1.3, len(rows)) - 1, D - 1)
    own = rng.random(len(rows)) < 0.35
    words[own] = (words[own] * K + y[rows[own]]) % D
    X = scipy.sparse.csr_array((np.ones(len(rows), np.float32), (rows, words)), shape=(N, D))
    X.sum_duplicates()
    norms = np.sqrt(np.add.reduceat(X.data**2, X.indptr[:-1]))
    X.data /= np.repeat(norms, np.diff(X.indptr))
    return X, y


def scipy_pass(X, y, W):
    """Return loss and gradient, computed by SciPy and NumPy."""
    Z = X @ W.T
    Z -= Z.max(axis=1, keepdims=True)
    E = np.exp(Z)
    S = E / E.sum(axis=1, keepdims=True)
    rows = np.arange(len(y))
    loss = -np.log(S[rows, y]).mean()
    S[rows, y] -= 1
    return loss, (X.T @ S).T / len(y)


class Text:
    params = (list(SHAPES),)
    param_names = ("shape",)

    def setup(self, shape):
        N, D, K = SHAPES[shape]
        self.X, self.y = text(N, D, K)
        self.W = np.random.default_rng(0).standard_normal((K, D), np.float32)
        self.objective = SoftmaxObjective(self.X, self.y, l2=1e-4, fit_intercept=False)
        self.w = self.W.ravel().astype(float)

    def time_pass(self, shape):
        loss_grad(self.X, self.y, self.W)

    def time_pass_of_a_fit(self, shape):
        self.objective.value_and_grad(self.w)

    def time_hessp(self, shape):
        self.objective.hessp(self.w, self.w)

    def time_predict_proba(self, shape):
        predict_proba(self.X, self.W)

    def time_predict_proba_of_one(self, shape):
        predict_proba(self.X[:1], self.W)

    def peakmem_pass(self, shape):
        loss_grad(self.X, self.y, self.W)

    def track_times_of_scipy(self, shape):
        """Return SciPy's time for a pass divided by ours."""
        runs = {
            "ours": lambda: loss_grad(self.X, self.y, self.W),
            "SciPy": lambda: scipy_pass(self.X, self.y, self.W),
        }
        seconds = {name: typical(times) for name, times in interleaved(runs).items()}
        return seconds["SciPy"] / seconds["ours"]


class Fit:
    params = (["softmax_ext", "scikit-learn"],)
    param_names = ("by",)
    rounds = 1
    repeat = (1, 3, 20.0)
    timeout = 300

    def setup(self, by):
        self.X, self.y = text(*SHAPES["20000x60000x40"], seed=1)
        self.Model = LogisticRegression if by == "softmax_ext" else Sklearn

    def fit(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.Model().fit(self.X, self.y)

    def time_fit(self, by):
        self.fit()

    def peakmem_fit(self, by):
        self.fit()
