"""`fit_many`, which fits many small models side by side."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from operator import length_hint
from typing import Any, TypeGuard, TypeVar, overload

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import clone

from .._core.calls import advance, together
from .._core.threads import effective
from .._core.turns import Turn
from .._fit.warning import Kept, keeping, warn
from .._optim.descent import Solution
from ._logistic import LogisticRegression

__all__ = ["fit_many"]

Name = Hashable
Task = tuple[Any, ...]
Result = TypeVar("Result")

# So many small fits go through each stage together, since the code of a stage is then in the processor's first caches
# for all but the first: see "Stages of many small fits" in docs/notes.md.
AT_ONCE = 8


@overload
def fit_many(  # type: ignore[overload-overlap]
    estimator: LogisticRegression, tasks: Mapping[Name, Task], *, n_jobs: int | None = None
) -> dict[Name, LogisticRegression]: ...
@overload
def fit_many(
    estimator: LogisticRegression, tasks: Iterable[Task], *, n_jobs: int | None = None
) -> list[LogisticRegression]: ...
def fit_many(
    estimator: LogisticRegression, tasks: Mapping[Name, Task] | Iterable[Task], *, n_jobs: int | None = None
) -> dict[Name, LogisticRegression] | list[LogisticRegression]:
    """Fit one model to each of many small data sets, side by side: one for each group, bootstrap replicate or probe.

    Each model has the bits that ``clone(estimator).fit(*task)`` gives it. Threads are enough, and no data are copied,
    since the iterations of a small fit run without Python's global lock.

    Parameters
    ----------
    estimator : LogisticRegression
        Whose parameters all models have; it is not changed.
    tasks : mapping or iterable of tuples
        The arguments of each `fit`: ``(X, y)`` or ``(X, y, sample_weight)``. A mapping gives each a name. An iterable
        is read while models are fitted, some tasks ahead, so each task needs arrays of its own.
    n_jobs : int, optional
        Number of threads, by default the process's share of the machine; each fits one model at a time. Negative
        numbers count from all, as in joblib.

    Returns
    -------
    dict or list
        The fitted models, in the order of the tasks; a dict by their names if these are a mapping.

    Raises
    ------
    ValueError, TypeError
        Where `fit` raises them; the message begins with the task's name or number, which other exceptions have as a
        note. Other models are then lost.

    Warns
    -----
    ConvergenceWarning
        Once for all models that have not converged, with the names of the first.

    Examples
    --------
    One model for each group of a table:

    >>> import numpy as np
    >>> from softmax_ext.linear_model import LogisticRegression, fit_many
    >>> rng = np.random.default_rng(0)
    >>> X, y, shop = rng.standard_normal((600, 4)), rng.integers(0, 3, 600), np.repeat(["A", "B", "C"], 200)
    >>> models = fit_many(LogisticRegression(), {s: (X[shop == s], y[shop == s]) for s in np.unique(shop).tolist()})
    >>> models["B"].coef_.shape
    (3, 4)

    Bootstrap replicates, as weights of the same rows:

    >>> draws = rng.multinomial(len(X), [1 / len(X)] * len(X), size=100)
    >>> replicates = fit_many(LogisticRegression(), ((X, y, s) for s in draws))
    >>> np.std([model.coef_ for model in replicates], axis=0).shape
    (3, 4)
    """
    if not isinstance(estimator, LogisticRegression):
        raise TypeError(
            f"estimator must be softmax_ext.linear_model.LogisticRegression, got {estimator!r}: fit others in a loop"
        )
    names = list(tasks) if isinstance(tasks, Mapping) else None
    given = iter(tasks.values() if isinstance(tasks, Mapping) else tasks)
    try:
        n_threads = effective(n_jobs)
    except (ValueError, TypeError) as error:
        raise type(error)(str(error).replace("n_threads", "n_jobs")) from None
    jobs = _Jobs(estimator, given, names, n_threads)
    jobs.run()
    jobs.warn()
    models = [jobs.models[i] for i in range(len(jobs.models))]
    return models if names is None else dict(zip(names, models, strict=True))


class _Jobs:
    """Tasks that some threads take, a few at a time, until all are done or one has failed."""

    def __init__(
        self, estimator: LogisticRegression, tasks: Iterator[Task], names: list[Name] | None, n_threads: int
    ) -> None:
        self.estimator, self.names, self.n_threads = clone(estimator), names, n_threads
        self.tasks, self.lock, self.taken = tasks, threading.Lock(), 0
        self.models: dict[int, LogisticRegression] = {}
        self.warnings: dict[int, Kept] = {}
        self.error: BaseException | None = None
        self.estimator._validate_params()
        # Stages can be taken apart if the estimator's fit is made of them.
        self.in_stages = type(estimator).fit is LogisticRegression.fit
        # A thread begins with scikit-learn's own configuration. And parameters are checked once.
        self.config = get_config() | {"skip_parameter_validation": True}

    def name(self, i: int) -> Name:
        """Return what a task is called: its number, if it has no name."""
        return i if self.names is None else self.names[i]

    def run(self) -> None:
        """Do all tasks; this thread takes its share, and is the one that Ctrl-C interrupts."""
        threads = [threading.Thread(target=self._work, name=f"softmax_ext_fit_{i}") for i in range(1, self.n_threads)]
        try:
            for thread in threads:
                thread.start()
            self._work()
        except BaseException as error:  # Ctrl-C where no task is being done
            self.error = self.error or error
        for thread in threads:
            if thread.ident is not None:  # it has been started
                thread.join()
        if self.error is not None:
            raise self.error

    def warn(self) -> None:
        """Give each kind of warning once, with the tasks that it is about."""
        about: dict[type[Warning], dict[Name, str]] = {}
        for i in sorted(self.warnings):
            for category, message in self.warnings[i]:
                about.setdefault(category, {}).setdefault(self.name(i), message)
        for category, found in about.items():
            some = ", ".join(map(repr, list(found)[:3])) + (", ..." if len(found) > 3 else "")
            message = next(iter(found.values()))
            warn(f"{len(found)} of {len(self.models)} tasks ({some}), the first: {message}", category)

    def _work(self) -> None:
        try:
            with config_context(**self.config), keeping() as kept:
                while self.error is None and (taken := self._take()):
                    small = [each for each in taken if self._is_small(each[1])]
                    if small:
                        with Turn():
                            self._fit_small(small, kept)
                    for i, task in taken[len(small) :]:
                        model = self._model()
                        self._do(i, kept, _fit, model, task)
                        self._done(i, model)
        except BaseException as error:  # of this thread or another: the first one ends all
            self.error = self.error or error

    def _take(self) -> list[tuple[int, Task]]:
        """Return the next tasks with their numbers: some small ones, and at most one that is not small."""
        taken: list[tuple[int, Task]] = []
        with self.lock:
            # So few that threads end at about the same time.
            left = length_hint(self.tasks) or self.taken
            most = max(1, min(AT_ONCE, left // (4 * self.n_threads)))
            for task in self.tasks:
                taken.append((self.taken, task))
                self.taken += 1
                if len(taken) == most or not self._is_small(task):
                    break
        return taken

    def _is_small(self, task: Task) -> bool:
        return self.in_stages and _is_task(task) and self.estimator._is_small(task[0])

    def _model(self) -> LogisticRegression:
        """Return a new estimator."""
        if isinstance(self.estimator.random_state, np.random.RandomState):
            model: LogisticRegression = clone(self.estimator)  # each fit begins with the same numbers
        else:
            model = object.__new__(type(self.estimator))
            model.__dict__.update(vars(self.estimator))
        if self.n_threads > 1:
            model.n_threads = 1  # no bit depends on it
        return model

    def _do(self, i: int, kept: Kept, step: Callable[..., Result], *arguments: Any) -> Result:
        """Return what a step of task i returns; name the task in its error, and keep its warnings."""
        try:
            return step(*arguments)
        except (ValueError, TypeError) as error:
            raise _renamed(error, f"task {self.name(i)!r}: {error}") from error
        except Exception as error:
            error.add_note(f"in task {self.name(i)!r} of fit_many")
            raise
        finally:
            if kept:
                self.warnings.setdefault(i, []).extend(kept)
                kept.clear()

    def _done(self, i: int, model: LogisticRegression) -> None:
        model.n_threads = self.estimator.n_threads
        self.models[i] = model

    def _fit_small(self, tasks: list[tuple[int, Task]], kept: Kept) -> None:
        """Do what `fit` does, but each stage for all of these tasks, as `AT_ONCE` says.

        They meet where they call the kernels that take long, and these calls are one.
        """
        begun, failed = [], None
        ended: dict[int, Solution] = {}
        for i, task in tasks:
            model = self._model()
            try:
                begun.append((i, model, *self._do(i, kept, model._begun, *task)))
            except Exception as error:
                failed = error  # if no task before fails
                break
        with np.errstate(over="ignore", invalid="ignore"):  # as in `_solution`
            going = {
                i: model._steps(objective, rows.X.dtype, start, meeting=True)
                for i, model, objective, rows, start in begun
            }
            while going:
                calls = []
                for i in list(going):
                    call, solution = self._do(i, kept, advance, going[i])
                    if call is not None:
                        calls.append(call)
                    elif solution is not None:
                        ended[i] = solution
                        del going[i]
                if calls:
                    together(calls)
        for i, model, _, rows, start in begun:
            self._do(i, kept, model._ended, ended[i], start, rows.X.dtype, rows.X)
            self._done(i, model)
        if failed is not None:
            raise failed


def _is_task(task: object) -> TypeGuard[Task]:
    """Return whether a task may be the arguments of `fit`."""
    return isinstance(task, tuple | list) and 1 <= len(task) <= 4


def _fit(model: LogisticRegression, task: Task) -> None:
    """Fit a model to the data of a task, if it is one."""
    if not _is_task(task):
        what = f"{len(task)} entries" if isinstance(task, tuple | list) else type(task).__name__
        raise TypeError(f"a task must be a tuple (X, y) or (X, y, sample_weight), got {what}")
    model.fit(*task)


def _renamed(error: ValueError | TypeError, message: str) -> Exception:
    """Return an error of the same type with another message."""
    try:
        return type(error)(message)
    except TypeError:  # such as UnicodeDecodeError, which is made of more than a message
        return ValueError(message) if isinstance(error, ValueError) else TypeError(message)
