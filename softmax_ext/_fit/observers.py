"""Observers of a fit's iterations: the course of the fit so far, a bar on the terminal, and callbacks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from .._optim.descent import Descent, Solution, seeing
from .._optim.duality import gap_of

Array = npt.NDArray[Any]
FitObserver = Callable[[int, int], object]  # called with the number of fits that are done, and with that of all
# An observer is called with the iteration, the objective and the largest component of the gradient, and with w= if it
# has a parameter of that name. A true result stops the fit.
Observer = Callable[..., object]


class Course:
    """How far a fit has come, so that there is a solution if it is interrupted.

    `raw` turns the vector that the descent moves into coefficients, if that is another vector.
    """

    def __init__(self, start: Array, raw: Callable[[Array], Array] | None = None) -> None:
        self.start, self.raw = start, raw
        self.descent: Descent | None = None

    def begin(self, descent: Descent) -> None:
        """Remember the descent that moves the vector from here on."""
        self.descent = descent

    def certified(self, solution: Solution) -> Solution:
        """Return the solution with its duality gap, if the descent has not computed it."""
        if self.descent is None or not self.descent.smooth:
            return solution
        return solution._replace(gap=gap_of(self.descent))

    def broken_off(self, error: BaseException) -> Solution:
        """Return the best vector so far as a solution, after Ctrl-C or an error in a callback."""
        best, curve = self.start, np.empty(0)
        if self.descent is not None:
            best, curve = self.descent.so_far()
            best = best if self.raw is None else self.raw(best)
        why = f"stopped: {type(error).__name__} after {len(curve)} iterations"
        return Solution(best, math.nan, math.nan, len(curve), curve, False, why, math.nan)


@contextmanager
def observing(
    callback: Observer | None, verbose: int, most: int, converged: Callable[[], bool], more: Iterable[Observer] = ()
) -> Iterator[Observer | None]:
    """Yield one observer that calls all of them, and returns whether one stops the fit; None if there are none."""
    with progress(most, converged) if verbose else nullcontext() as bar:
        observers = [seeing(observer) for observer in (callback, bar) if observer is not None]
        observers.extend(more)
        # A list instead of a generator, so that all are called even if an earlier one stops the fit.
        yield (lambda i, f, g, w: any([bool(observe(i, f, g, w)) for observe in observers])) if observers else None


@contextmanager
def progress(max_iter: int, converged: Callable[[], bool]) -> Iterator[Observer]:
    """Yield an observer that shows a bar, or lines if rich is not installed, and at the end whether it converged."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda iteration, value, gradient: print(
            f"iteration {iteration}: objective {value:.6g}, gradient {gradient:.1e}"
        )
        if converged():
            print("converged")
        return
    with Progress(
        TextColumn("LogisticRegression"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    ) as bar:
        task = bar.add_task("", total=max_iter)

        def show(iteration: int, value: float, gradient: float) -> None:
            bar.update(task, completed=iteration, description=f"objective {value:.6g}, gradient {gradient:.1e}")

        yield show
        if converged():
            bar.update(
                task, description=f"converged, {bar.tasks[0].description.partition(',')[0]}"
            )  # this is no wider than the description before, so that the line does not wrap


@contextmanager
def fits_progress(name: str = "LogisticRegressionCV") -> Iterator[FitObserver]:
    """Yield an observer that shows how many fits are done and the time left, as a bar, or as lines without rich."""
    try:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        yield lambda done, fits: print(f"fit {done} of {fits}")
        return
    with Progress(
        TextColumn(name),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("fits"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, fits: bar.update(task, completed=done, total=fits)


@contextmanager
def fits_callbacks(estimator: Any, X: Array, y: Array, sample_weight: Any, fits: int) -> Iterator[FitObserver]:
    """Yield an observer that reports each fit as a task to the callbacks of scikit-learn's `set_callbacks`."""
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    root = estimator._init_callback_context(max_subtasks=fits)
    root.call_on_fit_task_begin(**data)

    def observe(done: int, fits: int) -> None:
        task = root.subcontext(task_name="fit of a fold")
        task.call_on_fit_task_begin(estimator=estimator)
        task.call_on_fit_task_end(estimator=estimator)

    yield observe
    root.call_on_fit_task_end(estimator=estimator)


@contextmanager
def scikit_learn_callbacks(estimator: Any, X: Array, y: Array, sample_weight: Any, start: Array) -> Iterator[Observer]:
    """Yield an observer that reports iterations to the callbacks of `set_callbacks`, as scikit-learn's lbfgs does."""

    def begin(w: Array) -> Any:
        task = root.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**data, reconstruction_attributes=lambda: estimator._coefficients(w, X.dtype))
        return task

    iterations = 0
    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    root = estimator._init_callback_context(max_subtasks=max(estimator.max_iter, 1) + 1)
    root.call_on_fit_task_begin(**data)
    task = begin(start)

    def observe(iteration: int, value: float, gradient: float, w: Array) -> bool:
        nonlocal task, iterations
        iterations = iteration
        stop = task.call_on_fit_task_end(**data, reconstruction_attributes=lambda: estimator._coefficients(w, X.dtype))
        task = begin(w)
        return bool(stop)

    yield observe
    if not iterations:  # scikit-learn's own fits report at least one iteration
        observe(0, math.nan, math.nan, start)
    task.call_on_fit_task_end(estimator=estimator)  # ends the task that was begun for one more iteration
    root.call_on_fit_task_end(**data, reconstruction_attributes={})
