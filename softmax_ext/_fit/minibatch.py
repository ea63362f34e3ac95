"""How `LogisticRegression` trains by mini-batches: its solvers for them, `partial_fit`, and states to go on from."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._data.files import check_folder, load, save
from .._inputs.rows import Rows
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Problem
from .._optim.batches import batches
from .._optim.optimizers import Optimizer
from .._optim.schedules import constant, cosine_decay
from .observers import Observer
from .stream import PRINTS, RULES, VERSION, Epochs, Prints, Stream, rate_of, rule_of, scales
from .warning import warn

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# partial_fit divides its learning rate by sqrt(1 + step / STEADY), so that it is nearly constant for so many steps.
STEADY = 100
# A checkpoint is written after every epoch, and within an epoch once in so many seconds.
BETWEEN_CHECKPOINTS = 10.0
# Parameters that must be the same for a saved run to go on as if it had not been interrupted.
SETTINGS = (
    "solver", "C", "fit_intercept", "epochs", "batch_size", "average", "early_stopping", "validation_fraction",
    "n_iter_no_change", "label_smoothing",
)  # fmt: skip


@dataclass(frozen=True)
class MiniBatches:
    """Training by mini-batches as the estimator's parameters of these names ask for it.

    It holds no data and no state. The state of a run is a `Stream`, which the methods take.
    """

    solver: str
    C: float
    fit_intercept: bool
    epochs: int
    batch_size: int
    learning_rate: float | Callable[[int], float] | None
    average: bool
    early_stopping: bool
    validation_fraction: float
    n_iter_no_change: int
    label_smoothing: float
    tol: float

    @classmethod
    def of(cls, estimator: Any) -> MiniBatches:
        """Return the training that an estimator's parameters ask for."""
        return cls(**{field.name: getattr(estimator, field.name) for field in fields(cls)})

    def settings(self) -> str:
        """Return the parameters that a saved state must share, as JSON."""
        values = {name: getattr(self, name) for name in SETTINGS}
        values["learning_rate"] = "a schedule" if callable(self.learning_rate) else self.learning_rate
        return json.dumps(values, default=float)

    def begin(self, name: str, X: Any, w: Vector, parameters: Parameters, seed: int) -> Stream:
        """Return the state of a new run from w, with scales and a learning rate that suit some rows of X."""
        by = scales(X)
        scale = np.ones(parameters.size)
        parameters.weights(scale)[...] = by
        rate = self.learning_rate
        if rate is None or callable(rate):
            rate = rate_of(name, X, by, parameters.intercept)
        return Stream(w * scale, scale, None, seed, float(rate))

    def rule(self, name: str, schedule: Callable[[int], float], after: int) -> Optimizer[Any]:
        """Return the optimiser of a solver's name, with the user's schedule if there is one, else with `schedule`."""
        given = self.learning_rate
        return rule_of(name, given if callable(given) else schedule, self.average, after)

    def go_through(self, stream: Stream, rows: Rows, problem: Problem) -> None:
        """Take the steps of one call of `partial_fit`. The penalty's weight is 1 / (C Σ s) over all calls so far."""
        rule = self.rule("adam", lambda step: stream.rate / math.sqrt(1 + step / STEADY), 0)
        if stream.rule is None:
            stream.rule = rule.init([stream.v])
        values = []
        for batch in batches(rows, rows.weighing(), self.batch_size):
            n = len(batch)
            stream.rows += n
            stream.weight += batch.total
            penalty = Penalty(l2=1 / (self.C * stream.weight))
            values.append(stream.step(rule.update, problem, batch, n * stream.weight / stream.rows, penalty))
        if values:
            stream.history.append(float(np.mean(values)))
            del stream.history[:-1]  # partial_fit may be called without end, and must not need more and more memory

    def fit(
        self,
        stream: Stream,
        pieces: Callable[[], Iterable[Rows]],
        problem: Problem,
        keep: Callable[[Stream, bool], None],
        tell: Observer | None,
    ) -> None:
        """Take steps over encoded pieces until all epochs are over, early stopping ends them or an observer does.

        `keep` is called after each piece with a copy of the stream, and with whether an epoch is over.
        """
        fraction = self.validation_fraction if self.early_stopping else 0.0
        steps = max(1, math.ceil(problem.counted * (1 - fraction) / self.batch_size))
        rule = self.rule(self.solver, cosine_decay(stream.rate, self.epochs * steps), steps)
        if stream.rule is None:
            stream.rule = rule.init([stream.v])
        epochs = Epochs(pieces, problem, rule.update, self.batch_size, fraction, self.result)
        while stream.epoch < self.epochs and not self.is_stale(stream):
            for over in epochs.run(stream):
                if over:
                    self._judge(stream)
                keep(copy.deepcopy(stream), over)  # Ctrl-C in the middle of a step leaves this copy as it is
            validation = stream.validation[-1] if stream.validation else math.nan
            w = self.result(stream) / stream.scale
            if tell is not None and tell(stream.epoch, stream.history[-1], validation, w):
                break

    def result(self, stream: Stream) -> Vector:
        """Return the current coefficients in the coordinates of the steps: v, or its mean over the steps."""
        v: Vector = stream.rule.mean[0] if self.average else stream.v
        return v

    def _judge(self, stream: Stream) -> None:
        """Keep the coefficients if their validation loss is the least so far, and count epochs without improvement."""
        if not stream.validation:
            return
        *before, now = stream.validation
        if not before or now < min(before):
            stream.best = self.result(stream).copy()
        better = not before or now < min(before) - self.tol
        stream.stale = 0 if better else stream.stale + 1

    def is_stale(self, stream: Stream) -> bool:
        """Return whether the validation loss has not improved for `n_iter_no_change` epochs."""
        return bool(self.early_stopping and stream.stale >= self.n_iter_no_change)

    def coefficients(self, stream: Stream) -> Vector:
        """Return w: that of the least validation loss if rows are held out, else that of the last step."""
        return (stream.best if len(stream.best) else self.result(stream)) / stream.scale

    def report(self, stream: Stream) -> dict[str, Any]:
        """Return the fitted attributes that describe the course of the fit."""
        stale = self.is_stale(stream)
        why = f"{stream.stale} epochs gained no more than tol = {self.tol:g} on the rows held out"
        return {
            "n_iter_": np.array([stream.rule.step if stream.weight else stream.epoch], np.int32),
            "loss_curve_": np.array(stream.history),
            "validation_curve_": np.array(stream.validation),
            "predicted_decrease_": math.nan,
            "converged_": stale,
            "convergence_report_": "\n".join(
                [
                    f"mini-batches: {stream.epoch} epochs",
                    f"stopped: {why}" if stale else f"stopped after {stream.epoch} of {self.epochs} epochs",
                    f"objective in the last epoch {stream.history[-1]:.10g}" if stream.history else "no epoch yet",
                ]
                if not stream.weight
                else [
                    f"partial_fit: {stream.rule.step} steps",
                    f"objective in the last call {stream.history[-1]:.10g}" if stream.history else "no step yet",
                ]
            ),
        }

    def state(self, stream: Stream, classes: Array, features: int, dtype: np.dtype[Any]) -> dict[str, Array]:
        """Return a stream as arrays, with its model's settings, classes, number of features and dtype."""
        return stream.arrays() | {
            "version": np.array(VERSION),
            "settings": np.array(self.settings()),
            "classes": classes.astype(str) if classes.dtype.kind == "O" else classes,
            "features": np.array(features),
            "dtype": np.array(dtype.str),
        }

    def restored(self, state: dict[str, Array] | str | os.PathLike[str]) -> tuple[Stream, dict[str, Array]]:
        """Return the stream of a saved state, or of its file, and all arrays of the state.

        ValueError is raised for other settings, a newer version, or arrays that are no state.
        """
        name = "the state" if isinstance(state, dict) else os.fspath(state)
        arrays = state if isinstance(state, dict) else load(state)
        try:
            if (version := int(arrays["version"])) > VERSION:
                raise ValueError(f"{name} is of version {version}: this softmax_ext reads up to {VERSION}")
            rule = self.rule("adam" if float(arrays["weight"]) else self.solver, constant(0.0), 0)
            stream = Stream.of(arrays, rule.init([np.array(arrays["v"])]))
            if (saved := str(arrays["settings"])) != self.settings():
                theirs, ours = _differences(saved, self.settings())
                raise ValueError(f"{name} is of a fit with {theirs}, this estimator has {ours}")
        except (KeyError, StopIteration, TypeError, IndexError) as error:
            raise ValueError(f"{name} is not a state of LogisticRegression: {error!r}") from error
        return stream, arrays


class Checkpoint:
    """The file that a fit saves its state to: after each epoch, and every ten seconds within one."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        check_folder(self.path)
        self.written = time.monotonic()

    def save(self, state: Callable[[], dict[str, Array]], over: bool) -> None:
        """Write what `state` returns, if an epoch is over or the last write was long ago."""
        if over or time.monotonic() > self.written + BETWEEN_CHECKPOINTS:
            save(self.path, state())
            self.written = time.monotonic()


def _differences(saved: str, asked: str) -> tuple[str, str]:
    """Return the entries in which two JSON objects differ, first those of one, then those of the other."""
    both = json.loads(saved), json.loads(asked)
    names = [name for name in dict.fromkeys([*both[1], *both[0]]) if both[0].get(name) != both[1].get(name)]
    first, second = (", ".join(f'"{name}": {json.dumps(each.get(name))}' for name in names) for each in both)
    return first, second


def seed_of(random_state: Any) -> int:
    """Return the seed of all random numbers of a run, from scikit-learn's `random_state`."""
    if random_state is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    return int(random_state.randint(2**31 - 1)) if hasattr(random_state, "randint") else int(random_state)


def warn_of_idle_options(solver: str, *, checkpoint: object, early_stopping: bool) -> None:
    """Warn of options that only solvers of mini-batches use."""
    asked = {"checkpoint": checkpoint is not None, "early_stopping": early_stopping}
    more = ", or fit to chunks" if checkpoint is not None and not early_stopping else ""
    if idle := [name for name, given in asked.items() if given]:
        warn(
            f"{' and '.join(idle)} {'has' if len(idle) == 1 else 'have'} no effect with solver={solver!r}: "
            f"use a solver of mini-batches, {', '.join(RULES)}{more}"
        )


def continued(kept: Stream, name: str, size: int, data: Prints, random_state: Any) -> Stream:
    """Return a copy of a stream to go on with. ValueError: it is of `partial_fit`, other data or another seed."""
    stream = copy.deepcopy(kept)
    if stream.weight:
        raise ValueError("the state is of partial_fit: go on by partial_fit")
    if len(stream.v) != size:
        raise ValueError(f"the state has {len(stream.v)} coefficients, this data needs {size}")
    check_same_data(name, stream, data, int(random_state) if isinstance(random_state, Integral) else None)
    return stream


def check_same_data(name: str, stream: Stream, data: Prints, seed: int | None) -> None:
    """Raise ValueError, which names the differences, if a stream began with other data or from another seed."""
    found = []
    if len(stream.data) == len(data):
        found = [
            f"{what} ({before} there, {now} here)" if what == PRINTS[0] else what
            for what, before, now in zip(PRINTS, stream.data.tolist(), data.tolist(), strict=True)
            if before != now
        ]
    if seed is not None and seed != stream.seed:
        found.append(f"random_state ({stream.seed} there, {seed} here)")
    if found:
        raise ValueError(f"{name} is of a fit that differs in {', '.join(found)}: remove it, or name another file")


def problem_of(rows: Rows, m: float, parameters: Parameters, penalty: Penalty, n_threads: int | None) -> Problem:
    """Return the `Problem` of rows in memory with encoded labels and complete weights, which sum to m."""
    return Problem(
        classes=np.arange(parameters.K),
        rows=len(rows),
        counted=len(rows.weighing()),
        dtype=rows.X.dtype,
        soft=rows.Y is not None,
        class_weights=None,
        m=m,
        parameters=parameters,
        penalty=penalty,
        n_threads=n_threads,
    )
