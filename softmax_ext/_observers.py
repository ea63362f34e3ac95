"""Who is told of the iterations of a fit: a bar on the terminal, and scikit-learn's callbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy.typing as npt

Array = npt.NDArray[Any]
Observer = Callable[..., object]  # of (iteration, objective, gradient), and of w if it has a w; true stops


@contextmanager
def progress(max_iter: int) -> Iterator[Observer]:
    """Show the iterations: as a bar, or line by line without rich."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        yield lambda iteration, value, gradient: print(
            f"iteration {iteration}: objective {value:.6g}, gradient {gradient:.1e}"
        )
        return
    with Progress(
        TextColumn("LogisticRegression"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    ) as bar:
        task = bar.add_task("", total=max_iter)
        yield lambda iteration, value, gradient: bar.update(
            task, completed=iteration, description=f"objective {value:.6g}, gradient {gradient:.1e}"
        )


@contextmanager
def scikit_learn_callbacks(estimator: Any, X: Array, y: Array, sample_weight: Any, start: Array) -> Iterator[Observer]:
    """Tell those of `set_callbacks` what happens, in the order in which scikit-learn's lbfgs does."""

    def begin(w: Array) -> Any:
        task = root.subcontext(task_name="iteration")
        task.call_on_fit_task_begin(**data, reconstruction_attributes=lambda: estimator._coefficients(w, X.dtype))
        return task

    metadata = None if sample_weight is None else {"sample_weight": sample_weight}
    data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
    root = estimator._init_callback_context(max_subtasks=estimator.max_iter + 1)
    root.call_on_fit_task_begin(**data)
    task = begin(start)

    def observe(iteration: int, value: float, gradient: float, w: Array) -> bool:
        nonlocal task
        stop = task.call_on_fit_task_end(**data, reconstruction_attributes=lambda: estimator._coefficients(w, X.dtype))
        task = begin(w)
        return bool(stop)

    yield observe
    task.call_on_fit_task_end(estimator=estimator)  # of the iteration that did not take place
    root.call_on_fit_task_end(**data, reconstruction_attributes={})
