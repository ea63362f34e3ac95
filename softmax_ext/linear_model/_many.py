"""`fit_many`, which fits many small models side by side."""

from __future__ import annotations

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import Any, overload

import numpy as np
from sklearn import config_context, get_config
from sklearn.base import clone

from .._core.threads import effective
from .._fit.warning import Kept, keeping, warn
from ._logistic import LogisticRegression

__all__ = ["fit_many"]

Name = Hashable
Task = tuple[Any, ...]


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
        is read while models are fitted.
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
        Where `fit` raises them; the message begins with the task's name or number. Other models are then lost.

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
        raise TypeError(f"estimator must be softmax_ext.linear_model.LogisticRegression, got {estimator!r}")
    names = list(tasks) if isinstance(tasks, Mapping) else None
    jobs = _Jobs(estimator, iter(tasks.values() if isinstance(tasks, Mapping) else tasks), names)
    jobs.run(effective(n_jobs))
    jobs.warn()
    models = [jobs.models[i] for i in range(len(jobs.models))]
    return models if names is None else dict(zip(names, models, strict=True))


class _Jobs:
    """Tasks that some threads take, one after the other, until all are done or one has failed."""

    def __init__(self, estimator: LogisticRegression, tasks: Iterator[Task], names: list[Name] | None) -> None:
        self.estimator, self.names = clone(estimator), names
        self.tasks, self.lock = enumerate(tasks), threading.Lock()
        self.models: dict[int, LogisticRegression] = {}
        self.warnings: dict[int, Kept] = {}
        self.error: BaseException | None = None
        self.estimator._validate_params()
        # A thread begins with scikit-learn's own configuration. And parameters are checked once.
        self.config = get_config() | {"skip_parameter_validation": True}

    def name(self, i: int) -> Name:
        """Return what a task is called: its number, if it has no name."""
        return i if self.names is None else self.names[i]

    def run(self, n_threads: int) -> None:
        """Do all tasks; this thread takes its share, and is the one that Ctrl-C interrupts."""
        alone = n_threads == 1
        threads = [
            threading.Thread(target=self._work, args=[alone], name=f"softmax_ext_fit_{i}") for i in range(1, n_threads)
        ]
        for thread in threads:
            thread.start()
        try:
            self._work(alone)
        except BaseException as error:  # Ctrl-C where no task is being done
            self.error = self.error or error
        for thread in threads:
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

    def _work(self, alone: bool) -> None:
        try:
            with config_context(**self.config):
                while self.error is None:
                    with self.lock:
                        i, task = next(self.tasks, (-1, ()))
                    if i < 0:
                        return
                    with keeping() as kept:
                        self.models[i] = self._fitted(i, task, alone)
                    if kept:
                        self.warnings[i] = kept
        except BaseException as error:  # of this thread or another: the first one ends all
            self.error = self.error or error

    def _fitted(self, i: int, task: Task, alone: bool) -> LogisticRegression:
        if isinstance(self.estimator.random_state, np.random.RandomState):
            model: LogisticRegression = clone(self.estimator)  # each fit begins with the same numbers
        else:
            model = object.__new__(type(self.estimator))
            model.__dict__.update(vars(self.estimator))
        if not alone:
            model.n_threads = 1  # no bit depends on it
        try:
            model.fit(*task)
        except (ValueError, TypeError) as error:
            raise type(error)(f"task {self.name(i)!r}: {error}") from error
        model.n_threads = self.estimator.n_threads
        return model
