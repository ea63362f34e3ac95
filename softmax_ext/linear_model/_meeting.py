"""Fits that go side by side, and read X together: a thread for each, and one read for all that ask at the same time.

An optimiser asks for one evaluation after the other, and each is a read of X. Fits of the folds ask for theirs at
other vectors, but of the same samples, so that one read serves them all: `BinomialObjective.together`, and for data in
pieces `PiecesObjective.together`. Each gets the bits that it gets alone: who asks beside whom, which depends on the
scheduler, changes no result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .._objective.penalty import Penalty

Vector = npt.NDArray[np.float64]

# Seconds after which a fit that waits for an answer looks whether there will be one.
PATIENCE = 0.1


class Over(Exception):
    """Nobody wants the fit any more."""


class Evaluation(NamedTuple):
    """What a fit asks for beside others, in the form that the meeting's `evaluate` takes."""

    asked: Any
    answer: SimpleQueue[Any]


class Call(NamedTuple):
    """What a fit asks for alone."""

    function: Callable[[], Any]
    answer: SimpleQueue[Any]


class Answer(NamedTuple):
    """What an objective has returned, or raised."""

    value: Any
    error: BaseException | None = None


class End(NamedTuple):
    """What a fit has found, or the exception that ended it."""

    key: Any
    found: Any
    error: BaseException | None


class Meeting:
    """Fits on threads of their own, whose objectives are asked by the thread that waits for the fits.

    So that thread alone has a team of threads for kernels, and looks for Ctrl-C. An evaluation waits until each fit
    asks for one, or has ended; what else is asked of an objective is done as it comes.

    What always holds: `busy` is how many fits have neither ended nor asked for an evaluation. There are at most `most`
    that have not ended, since each needs a thread.
    """

    def __init__(self, evaluate: Callable[[list[Any]], Sequence[Any]], most: int) -> None:
        self.evaluate, self.pool = evaluate, ThreadPoolExecutor(most)
        self.messages: SimpleQueue[Evaluation | Call | End] = SimpleQueue()
        self.waiting: list[Evaluation] = []
        self.busy, self.over = 0, False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End the fits that have not: what they ask for raises."""
        self.over = True
        self.pool.shutdown()

    def start(self, key: Hashable, fit: Callable[[], Any]) -> None:
        """Let a fit begin; `results` will tell its key with what it returns."""

        def run() -> None:
            try:
                end = End(key, fit(), None)
            except BaseException as error:
                end = End(key, None, error)
            self.messages.put(end)

        self.busy += 1
        self.pool.submit(run)

    def results(self) -> Generator[tuple[Any, Any]]:
        """Yield keys and what the fits have returned, as they end; others may be started meanwhile."""
        while self.busy:
            message = self.messages.get()
            if isinstance(message, Call):
                message.answer.put(_answered(message.function))
                continue
            self.busy -= 1
            if isinstance(message, Evaluation):
                self.waiting.append(message)
            elif message.error is not None:
                raise message.error
            else:
                yield message.key, message.found
            if self.waiting and not self.busy:
                self._evaluate()

    def _evaluate(self) -> None:
        """Answer all that wait."""
        asked, self.waiting, self.busy = self.waiting, [], len(self.waiting)
        found = _answered(partial(self.evaluate, [each.asked for each in asked]))
        for i, each in enumerate(asked):
            each.answer.put(found if found.error is not None else Answer(found.value[i]))

    def beside(self, asked: Any) -> Any:
        """Return what is asked for beside others, on the thread of a fit."""
        return self.ask(partial(Evaluation, asked))

    def ask(self, make: Callable[[SimpleQueue[Any]], Evaluation | Call]) -> Any:
        """Wait for an answer, on the thread of a fit."""
        answer: SimpleQueue[Answer] = SimpleQueue()
        self.messages.put(make(answer))
        while not self.over:  # else nobody answers
            try:
                found = answer.get(timeout=PATIENCE)
            except Empty:
                continue
            if found.error is not None:
                raise found.error
            return found.value
        raise Over


def _answered(function: Callable[[], Any]) -> Answer:
    """Call it with NumPy's errors as a fit has them; an exception, Ctrl-C among them, is for who has asked."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return Answer(function())
    except BaseException as error:
        return Answer(None, error)


class Guest:
    """An objective as a fit of a meeting sees it."""

    n_threads = 1  # for what the fit does on its own

    def __init__(self, objective: Any, meeting: Meeting) -> None:
        self.objective, self.meeting = objective, meeting

    def __getattr__(self, name: str) -> Any:
        return getattr(self.objective, name)

    @property
    def penalty(self) -> Penalty:
        """That of the objective."""
        penalty: Penalty = self.objective.penalty
        return penalty

    @penalty.setter
    def penalty(self, penalty: Penalty) -> None:
        self.objective.penalty = penalty

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return what the objective returns, beside others."""
        found: tuple[float, Vector] = self.meeting.beside((self.objective, w))
        return found

    def at_constant(self, w: Vector) -> tuple[float, Vector]:
        """Return the same by a read, which others share, instead of sums for this fit alone."""
        return self.value_and_grad(w)

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return what the objective returns."""
        found: Vector = self._alone("hessp", w, v)
        return found

    def hessian(self, w: Vector) -> Vector:
        """Return what the objective returns."""
        found: Vector = self._alone("hessian", w)
        return found

    def preconditioner(self, w: Vector, *extra: Vector, **options: bool) -> Any:
        """Return what the objective returns."""
        return self._alone("preconditioner", w, *extra, **options)

    def thinned(self) -> Guest | None:
        """Return the objective of fewer samples as the fit sees it, if there is one."""
        fewer = self._alone("thinned") if hasattr(self.objective, "thinned") else None
        return None if fewer is None else Guest(fewer, self.meeting)

    def _alone(self, name: str, *vectors: Vector, **options: bool) -> Any:
        return self.meeting.ask(partial(Call, partial(getattr(self.objective, name), *vectors, **options)))
