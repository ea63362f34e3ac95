"""Iterations of L-BFGS that a kernel takes by itself: the same bits as `LBFGS` in Python, and as few of it."""

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, optim
from softmax_ext._core import dispatch
from softmax_ext._optim import stretch
from softmax_ext._optim.solvers import minimize
from softmax_ext._optim.stretch import Stretch
from softmax_ext.linear_model import LogisticRegression
from softmax_ext.objective import BinomialObjective

# Samples, features, classes and the strength of the penalty. Some fits begin with an extra penalty, some have blocks as
# their preconditioner and some a diagonal, and some share out passes among threads.
SHAPES = {
    "few samples": (80, 384, 10, 1 / 80),
    "blocks": (900, 20, 9, 1e-3),
    "two classes": (300, 150, 2, 1e-4),
    "an extra penalty": (200, 300, 5, 1e-8),
    "one feature": (500, 1, 70, 1e-3),
    "threads": (6000, 40, 12, 1e-4),
}


def problem(shape, dtype, storage="array", weights=False):
    N, D, K, l2 = SHAPES[shape]
    rng = np.random.default_rng(7)
    y = np.arange(N) % K
    X = (rng.standard_normal((K, D))[y] * 0.3 + rng.standard_normal((N, D))).astype(dtype)
    if storage == "sparse":
        X *= rng.random((N, D)) < 0.3
        X = scipy.sparse.csr_array(X)
    s = rng.uniform(0, 3, N) if weights else None
    kind = BinomialObjective if K == 2 else SoftmaxObjective
    return kind(X, y, l2=l2, sample_weight=s)


def in_python(monkeypatch):
    monkeypatch.setattr(Stretch, "serves", staticmethod(lambda run: False))


def equal(first, second):
    for name, a, b in zip(first._fields, first, second, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("storage", ["array", "sparse"])
@pytest.mark.parametrize("tol", [1e-4, 1e-9])
@pytest.mark.parametrize("solver", ["lbfgs", "auto"])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_kernel_takes_the_iterations_of_python(isa, dtype, shape, solver, tol, storage, weights, monkeypatch):
    objective = problem(shape, dtype, storage, weights)

    def fit():
        runs = []
        found = minimize(objective, np.zeros(objective.size), solver, tol=tol, max_iter=60, begun=runs.append)
        return found, runs[0].so_far()

    by_kernel, so_far = fit()
    in_python(monkeypatch)
    by_python, expected = fit()
    equal(by_kernel, by_python)
    for a, b in zip(so_far, expected, strict=True):  # which is what an interrupted fit keeps
        np.testing.assert_array_equal(a, b)
    assert by_kernel.n_iter > 1


@pytest.mark.parametrize("memory", [0, 1, 3])
@pytest.mark.parametrize("most", [0, 1, 2, 4, 5, 6, 17])
def test_a_kernel_keeps_as_many_pairs_and_iterations(isa, memory, most, monkeypatch):
    objective = problem("few samples", np.float64)

    def fit():
        return optim.lbfgs(objective, np.zeros(objective.size), memory=memory, max_iter=most, tol=1e-12)

    by_kernel = fit()
    in_python(monkeypatch)
    equal(by_kernel, fit())


def test_a_kernel_ends_where_progress_is_rounding(isa, monkeypatch):
    objective = problem("few samples", np.float32)

    def fit():
        return optim.lbfgs(objective, np.full(objective.size, 0.1), tol=0, max_iter=300)

    by_kernel = fit()
    in_python(monkeypatch)
    equal(by_kernel, fit())
    assert by_kernel.n_iter > 20 and not by_kernel.converged


def test_a_fit_is_a_few_calls_of_a_kernel(isa, monkeypatch):
    if isa == dispatch.REFERENCE:
        pytest.skip("the reference has no kernel that could take iterations")
    X, y = problem("few samples", np.float64)._rows.X, np.arange(80) % 10
    evaluated, borrow = [], SoftmaxObjective.borrow
    monkeypatch.setattr(SoftmaxObjective, "borrow", lambda self: (evaluated.append(1), borrow(self))[1])
    model = LogisticRegression(tol=1e-5).fit(X, y)
    assert model.n_iter_ > 8 and len(evaluated) < 9, model.convergence_report_


@pytest.mark.parametrize("change", ["callback", "subclass", "factors"])
def test_what_a_kernel_cannot_do_is_done_in_python(isa, change):
    objective = problem("few samples", np.float64)
    seen = []
    callback = (lambda *_: seen.append(1) and False) if change == "callback" else None
    if change == "subclass":

        class Own(SoftmaxObjective):
            def value_and_grad(self, w):
                seen.append(1)
                return super().value_and_grad(w)

        objective = Own(objective._rows.X, objective._rows.y, l2=1 / 80)
    elif change == "factors":
        factors = np.r_[np.zeros(300), np.ones(84)]
        objective = SoftmaxObjective(objective._rows.X, objective._rows.y, penalty=optim.Penalty(0.01, weights=factors))
    found = optim.lbfgs(objective, np.zeros(objective.size), callback=callback)
    assert found.converged
    assert len(seen) >= found.n_iter or change == "factors"


def test_a_long_stretch_is_cut_for_ctrl_c(isa, monkeypatch):
    monkeypatch.setattr(stretch, "ITERATIONS", 2)
    whole = problem("an extra penalty", np.float64)
    cut = minimize(whole, np.zeros(whole.size), tol=1e-9, max_iter=60)
    monkeypatch.undo()
    equal(cut, minimize(whole, np.zeros(whole.size), tol=1e-9, max_iter=60))
