"""Whole fits on raw data, ours and scikit-learn's, and the parts of an iteration."""

import warnings

import numpy as np
import scipy.optimize
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.linear_model import LogisticRegression as Sklearn

from softmax_ext import SoftmaxObjective, optim
from softmax_ext.linear_model import LogisticRegression, fit_many

from .common import SHAPES, make

DATA = {"digits": load_digits, "wine": load_wine, "breast-cancer": load_breast_cancer}


class Fit:
    params = (list(DATA), ["softmax_ext", "scikit-learn"])
    param_names = ("data", "by")

    def setup(self, data, by):
        self.X, self.y = DATA[data](return_X_y=True)
        self.Model = LogisticRegression if by == "softmax_ext" else Sklearn

    def time_fit(self, data, by):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # scikit-learn's fits do not converge
            self.Model().fit(self.X, self.y)


class Many:
    """200 fits of 80 x 384 samples in ten classes: one after the other, and side by side."""

    params = (["float32", "float64"], ["loop", "fit_many", "scikit-learn"])
    param_names = ("dtype", "by")

    def setup(self, dtype, by):
        rng = np.random.default_rng(0)
        centres, y = rng.standard_normal((10, 384)), np.repeat(np.arange(10), 8)
        self.tasks = [((0.3 * centres[y] + rng.standard_normal((80, 384))).astype(dtype), y) for _ in range(200)]

    def time_200_fits(self, dtype, by):
        if by == "fit_many":
            fit_many(LogisticRegression(), self.tasks)
            return
        Model = LogisticRegression if by == "loop" else Sklearn
        for X, y in self.tasks:
            Model().fit(X, y)


class FitMemory:
    """The peak memory of the whole process, including the data: subtract `peakmem_data`."""

    params = (["mnist-f32", "covtype-f64"],)
    param_names = ("shape",)

    def setup(self, shape):
        self.X, self.y, _ = make(SHAPES[shape])

    def peakmem_data(self, shape):
        pass

    def peakmem_fit(self, shape):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            LogisticRegression(max_iter=3).fit(self.X, self.y)


class OneRow:
    """Predictions for one row, as a service makes them."""

    params = (list(DATA), ["softmax_ext", "scikit-learn"], ["predict", "predict_proba"])
    param_names = ("data", "by", "method")

    def setup(self, data, by, method):
        X, y = DATA[data](return_X_y=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = (LogisticRegression if by == "softmax_ext" else Sklearn)().fit(X, y)
        self.call, self.row = getattr(model, method), X[:1]

    def time_100_calls(self, data, by, method):
        for _ in range(100):
            self.call(self.row)


class Objective:
    params = (["digits-f32", "mnist-f32", "covtype-f64", "embed-f32"],)
    param_names = ("shape",)

    def setup(self, shape):
        X, y, W = make(SHAPES[shape])
        self.objective = SoftmaxObjective(X, y, l2=1e-4)
        self.w = np.append(W.ravel(), np.zeros(len(W)))

    def time_value(self, shape):
        self.objective.value(self.w)

    def time_value_and_grad(self, shape):
        self.objective.value_and_grad(self.w)

    def time_hessp(self, shape):
        self.objective.hessp(self.w, self.w)

    def time_preconditioner(self, shape):
        self.objective.preconditioner(self.w)


class Wide:
    """A quadratic of 5 million coefficients, which costs so little itself that the time is that of L-BFGS."""

    size, iterations = 5_000_000, 20
    timeout = 300
    params = (["softmax_ext-f32", "softmax_ext-f64", "scipy"],)
    param_names = ("by",)

    def setup(self, by):
        self.dtype = np.dtype(np.float32 if by.endswith("f32") else np.float64)  # the dtype that a fit would compute in
        self.curvature = np.linspace(1, 1000, self.size)

    def value_and_grad(self, w):
        grad = self.curvature * w
        grad -= 1
        return 0.5 * (float(w @ grad) - float(w.sum())), grad

    def time_20_iterations(self, by):
        start = np.zeros(self.size)
        if by == "scipy":
            options = {"maxcor": 10, "maxiter": self.iterations, "gtol": 0, "ftol": 0}
            scipy.optimize.minimize(self.value_and_grad, start, jac=True, method="L-BFGS-B", options=options)
        else:
            optim.lbfgs(self, start, tol=0, max_iter=self.iterations)

    def time_20_evaluations(self, by):
        for _ in range(self.iterations):
            self.value_and_grad(self.curvature)
