"""`fit_many`: the bits of single fits, whatever the tasks and the number of threads, and errors that name the task."""

import signal
import sys
import threading
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn
import sklearn.linear_model
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning

from softmax_ext.linear_model import LogisticRegression, _many, fit_many

RESULTS = ("coef_", "intercept_", "classes_", "n_iter_", "loss_curve_", "gap_", "violation_", "predicted_decrease_")


def task(seed, N=80, D=60, K=5, dtype=np.float64):
    rng = np.random.default_rng(seed)
    y = np.arange(N) % K
    return (rng.standard_normal((K, D))[y] + 2 * rng.standard_normal((N, D))).astype(dtype), y


def assert_same(model, other):
    for name in RESULTS:
        assert hasattr(model, name) == hasattr(other, name)
        if hasattr(model, name):
            np.testing.assert_array_equal(getattr(model, name), getattr(other, name), err_msg=name)
    assert model.convergence_report_ == other.convergence_report_
    assert {**model.get_params(), "random_state": None} == {**other.get_params(), "random_state": None}


ESTIMATORS = {
    "default": LogisticRegression(),
    "weak": LogisticRegression(C=1e4, max_iter=30),
    "newton": LogisticRegression(solver="newton-cg"),
    "l1": LogisticRegression(solver="saga", l1_ratio=1, C=0.5),
    "scaled": LogisticRegression(standardize=True),
    "batches": LogisticRegression(solver="adam", epochs=2, random_state=np.random.RandomState(3)),
}


@pytest.mark.parametrize("K", [2, 6])
@pytest.mark.parametrize("estimator", [LogisticRegression(), LogisticRegression(C=1e4, max_iter=30)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_in_the_space_of_the_samples_do_not_wait_for_one_another(dtype, estimator, K):
    """A thread that computes the space leaves its turn to another one, so it may hold no lock that this one needs."""
    tasks = [task(seed, 40, 400, K, dtype) for seed in range(60)]
    found = fit_many(estimator, tasks, n_jobs=3)
    assert all("in the space of the samples" in model.convergence_report_ for model in found)
    for model, each in list(zip(found, tasks, strict=True))[::9]:
        assert_same(model, clone(estimator).fit(*each))


@pytest.mark.pairs
@pytest.mark.parametrize("n_jobs", [1, 2, 3, None])
@pytest.mark.parametrize("kind", ["dense", "sparse", "weights", "two classes", "soft"])
@pytest.mark.parametrize("estimator", ESTIMATORS.values(), ids=ESTIMATORS)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_many_fits_have_the_bits_of_single_fits(isa, dtype, estimator, kind, n_jobs):
    tasks = [task(seed, K=2 if kind == "two classes" else 5, dtype=dtype) for seed in range(6)]
    if kind == "sparse":
        tasks = [(scipy.sparse.csr_array(X * (X > 0)), y) for X, y in tasks]
    elif kind == "weights":
        tasks = [(X, y, np.random.default_rng(0).uniform(0, 2, len(y))) for X, y in tasks]
    elif kind == "soft":
        tasks = [(X, np.eye(5)[y] * 0.8 + 0.04) for X, y in tasks]
    found = fit_many(estimator, tasks, n_jobs=n_jobs)
    assert type(found) is list and len(found) == 6
    for model, arguments in zip(found, tasks, strict=True):
        assert_same(model, clone(estimator).fit(*arguments))
    assert not hasattr(estimator, "coef_")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fits_of_all_kinds_meet_at_the_kernels(monkeypatch):
    """Calls in work space of either dtype are made together, and some fits need more calls than others, or none."""
    wide, narrow = [task(seed, 40, 400, 5) for seed in range(3)], [task(seed) for seed in range(4)]
    tasks = [each for pair in zip(wide, narrow, strict=False) for each in pair]
    tasks += [(X.astype(np.float32), y) for X, y in wide + narrow]
    tasks += [(scipy.sparse.csr_array(X), y) for X, y in wide] + [task(9, 60, 3, 2), task(9, 90, 400, 2)]
    met, together = [], _many.together
    monkeypatch.setattr(_many, "together", lambda calls: (met.append(len(calls)), together(calls))[1])
    monkeypatch.setattr(_many, "AT_ONCE", len(tasks))
    found = fit_many(LogisticRegression(max_iter=40), tasks * 4, n_jobs=1)
    assert max(met) > len(tasks) // 2
    for model, each in zip(found, tasks * 4, strict=True):
        assert_same(model, LogisticRegression(max_iter=40).fit(*each))


def test_a_mapping_names_its_models():
    tasks = {name: task(seed) for seed, name in enumerate(["b", "a", ("c", 1)])}
    found = fit_many(LogisticRegression(), tasks)
    assert list(found) == list(tasks)
    for name, model in found.items():
        assert_same(model, LogisticRegression().fit(*tasks[name]))


def test_an_iterable_is_read_while_models_are_fitted():
    read, begun = [], []
    estimator = LogisticRegression(callback=lambda *_: begun.append(len(read)) and False)

    def tasks():
        for seed in range(5):
            read.append(seed)
            yield task(seed)

    assert len(fit_many(estimator, tasks(), n_jobs=1)) == 5
    assert begun[0] == 1 and begun[-1] == 5


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_threads_have_the_configuration_of_the_caller(n_jobs):
    seen = []

    def look(*_):
        seen.append(sklearn.get_config()["working_memory"])

    with sklearn.config_context(working_memory=77):
        fit_many(LogisticRegression(callback=look), [task(seed) for seed in range(9)], n_jobs=n_jobs)
    assert set(seen) == {77} and sklearn.get_config()["working_memory"] != 77
    with pytest.raises(ValueError, match="'tol' parameter"):
        fit_many(LogisticRegression(tol=-1), [])


def test_no_task_gives_no_model():
    assert fit_many(LogisticRegression(), []) == [] and fit_many(LogisticRegression(), {}) == {}


@pytest.mark.parametrize("n_jobs", [1, 3])
@pytest.mark.parametrize("named", [False, True])
def test_an_error_names_the_task(named, n_jobs):
    tasks = [task(seed) for seed in range(4)]
    tasks[2] = tasks[2][0], np.zeros(80, int)
    given = dict(zip("abcd", tasks, strict=True)) if named else tasks
    before = threading.active_count()
    with pytest.raises(ValueError, match=r"^task 'c': .* at least 2 classes" if named else r"^task 2: "):
        fit_many(LogisticRegression(), given, n_jobs=n_jobs)
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"estimator": LogisticRegression}, TypeError, "estimator must be softmax_ext.linear_model.LogisticRegression"),
        ({"estimator": sklearn.linear_model.LogisticRegression()}, TypeError, "fit others in a loop"),
        ({"n_jobs": 0}, ValueError, "n_jobs must not be 0; use None"),
        ({"n_jobs": True}, TypeError, "n_jobs must be an integer or None, got True"),
        ({"tasks": task(0)}, TypeError, r"task 0: a task must be a tuple \(X, y\) or .*, got ndarray"),
        ({"tasks": [task(0), {"X": 1, "y": 2}]}, TypeError, "task 1: a task must be a tuple .*, got dict"),
        ({"tasks": {"a": ()}}, TypeError, "task 'a': a task must be a tuple .*, got 0 entries"),
        ({"tasks": [(*task(0), None, None, 1)]}, TypeError, "task 0: a task must be a tuple .*, got 5 entries"),
        ({"tasks": 3}, TypeError, "iterable"),
    ],
)
def test_arguments_are_checked(arguments, error, words):
    with pytest.raises(error, match=words):
        fit_many(**{"estimator": LogisticRegression(), "tasks": [task(0)]} | arguments)


def test_fits_that_do_not_converge_warn_once():
    tasks = {name: task(seed) for seed, name in enumerate("abcdef")}
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fit_many(LogisticRegression(max_iter=2), tasks)
    (warning,) = seen
    assert warning.category is ConvergenceWarning and warning.filename == __file__
    assert str(warning.message).startswith("6 of 6 tasks ('a', 'b', 'c', ...), the first: lbfgs failed to converge")


def small_and_large(number):
    """Return tasks of which those of 4 modulo 7 take no turns with others, since they are too large."""
    large = task(100, N=700, D=100)
    return [large if seed % 7 == 4 else task(seed) for seed in range(number)]


@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.parametrize("kind", ["list", "generator", "mapping"])
def test_fits_in_stages_have_the_bits_of_single_fits(kind, n_jobs, monkeypatch):
    """The more tasks are left, the more small ones go through each stage together."""
    together = []
    original = _many._Jobs._fit_small
    monkeypatch.setattr(
        _many._Jobs,
        "_fit_small",
        lambda self, tasks, *rest: [together.append(len(tasks)), original(self, tasks, *rest)],
    )
    estimator, tasks = LogisticRegression(C=0.1), small_and_large(60)
    given = {"list": tasks, "generator": (each for each in tasks), "mapping": dict(enumerate(tasks))}[kind]
    found = fit_many(estimator, given, n_jobs=n_jobs)
    for i, arguments in enumerate(tasks):
        assert_same(found[i], clone(estimator).fit(*arguments))
    assert 1 in together and max(together) > 3


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_of_ones_own_is_called(n_jobs):
    class Mine(LogisticRegression):
        def fit(self, X, y=None, sample_weight=None, offset=None):
            self.rows_ = len(X)
            return super().fit(X, y, sample_weight, offset)

    found = fit_many(Mine(), [task(seed, N=40 + seed) for seed in range(20)], n_jobs=n_jobs)
    assert [model.rows_ for model in found] == list(range(40, 60))


@pytest.mark.parametrize("late", ["bad labels", "not finite"])
@pytest.mark.parametrize("early", ["not finite", "bad labels", None])
def test_the_first_task_that_fails_is_named(early, late):
    """NaN is found by the first pass, after the labels of all tasks of a stage have been checked."""

    def bad(kind, X, y):
        return (np.where(X > 0, np.nan, X), y) if kind == "not finite" else (X, np.zeros(len(y)))

    tasks = [task(seed) for seed in range(40)]
    tasks[5] = bad(late, *tasks[5])
    first = 5
    if early is not None:
        tasks[3], first = bad(early, *tasks[3]), 3
    words = {"not finite": "contains NaN", "bad labels": "at least 2 classes"}[early or late]
    with pytest.raises(ValueError, match=f"^task {first}: .*{words}"):
        fit_many(LogisticRegression(), tasks, n_jobs=1)


def test_every_kind_of_error_names_the_task():
    class Text:
        def __array__(self, *_, **__):
            b"\xff".decode()

    class Broken:
        def __array__(self, *_, **__):
            raise OSError("no such disk")

    with pytest.raises(ValueError, match=r"^task 1: .*invalid start byte"):
        fit_many(LogisticRegression(), [task(0), (Text(), task(0)[1])])
    with pytest.raises(OSError, match="no such disk") as error:
        fit_many(LogisticRegression(), {"a": task(0), "b": (Broken(), task(0)[1])})
    assert error.value.__notes__ == ["in task 'b' of fit_many"]


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_only_fits_that_do_not_converge_are_warned_of(n_jobs):
    tasks = [task(seed) for seed in range(40)]
    for i in (7, 8, 30):
        tasks[i] = tasks[i][0] * 1e-3, tasks[i][1]  # which take no iteration
    with pytest.warns(ConvergenceWarning, match=r"^37 of 40 tasks \(0, 1, 2, ...\)"):
        found = fit_many(LogisticRegression(max_iter=2), tasks, n_jobs=n_jobs)
    assert [i for i, model in enumerate(found) if model.converged_] == [7, 8, 30]


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
def test_ctrl_c_ends_all_threads():
    def tasks():
        for seed in range(10**6):
            if seed == 20:
                signal.raise_signal(signal.SIGINT)
            yield task(seed)

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        fit_many(LogisticRegression(), tasks(), n_jobs=2)
    assert threading.active_count() == before


def test_ctrl_c_while_threads_start_ends_those_that_have(monkeypatch):
    start, before = threading.Thread.start, threading.active_count()

    def interrupted(thread):
        start(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit_many(LogisticRegression(), (task(seed) for seed in range(10**4)), n_jobs=3)
    assert threading.active_count() == before
