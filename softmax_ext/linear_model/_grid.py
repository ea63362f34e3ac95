"""The grid of fits of a cross-validation: each fold, and all rows, at each C."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from numbers import Integral
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from .._fit.scikit_learn import Strength
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import PiecesObjective
from .._optim.descent import Callback, Solution, Stop
from .._optim.solvers import within
from ._meeting import Guest, Meeting
from ._trail import Ends, Trail

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Fits whose passes have at most so many operations run side by side, each on one thread. Larger ones run one after the
# other, each on all threads (docs/notes.md, "Fits side by side").
SIDE_BY_SIDE = 2**24
# Fits of two classes whose passes have at least so many operations read X together. Smaller ones lose by it, since each
# needs a thread (docs/notes.md, "Five folds in one read of X").
TOGETHER = 2**25.5
# Fits that read X together need the weights of all folds at the same time, which may take so many bytes.
WEIGHTS_BYTES = 256 * 2**20


def check_values_of_C(given: npt.ArrayLike | Integral) -> Vector:
    """Return a list of values of C as an array; raise ValueError if it is no list of positive numbers."""
    Cs = np.asarray(given, np.float64)
    if Cs.ndim != 1 or not Cs.size or not (Cs > 0).all():
        raise ValueError(f"Cs must be a number of values, or a list of positive ones, got {given!r}")
    return Cs


def one_standard_error(scores: Vector, Cs: Vector, best: int) -> int:
    """Return the index of the least C whose mean score is at most one standard error below the best.

    `scores` is (folds, n_cs), and `best` the index of the best C. The standard error is that of the best C's mean over
    the folds, and 0 for a single fold.
    """
    mean = scores.mean(axis=0)
    error = scores[:, best].std(ddof=1) / np.sqrt(len(scores)) if len(scores) > 1 else 0.0
    near = np.flatnonzero(mean >= mean[best] - error)
    return int(near[np.argmin(Cs[near])]) if near.size else best


Fitted = tuple[int, int | None, Solution]  # the index of C, the fold's number or None for all rows, and the solution


class Fits(NamedTuple):
    """The solutions of all fits: vectors of the folds and of all rows, and how each fit ended."""

    l1_ratio: float
    layout: Parameters  # of the vectors
    folds: Vector  # (folds, n_cs, size), NaN before a fit is finished
    whole: Vector  # (n_cs, size)
    n_iter: npt.NDArray[np.int32]  # (folds, n_cs)
    whole_n_iter: npt.NDArray[np.int32]  # (n_cs,)
    converged: npt.NDArray[np.bool_]  # (folds + 1, n_cs), with all rows last
    gradient: Vector  # (folds + 1, n_cs), its largest component at the end, with all rows last

    @classmethod
    def empty(cls, grid: Grid, layout: Parameters) -> Self:
        shape = len(grid.folds), len(grid.Cs)
        every = shape[0] + 1, shape[1]
        return cls(
            grid.l1_ratio,
            layout,
            np.full((*shape, layout.size), np.nan),
            np.full((shape[1], layout.size), np.nan),
            np.zeros(shape, np.int32),
            np.zeros(shape[1], np.int32),
            np.zeros(every, np.bool_),
            np.zeros(every),
        )

    def keep(self, j: int, f: int | None, solution: Solution) -> None:
        """Store the solution of fold f, or of all rows if f is None, at the j-th C."""
        if f is None:
            self.whole[j], self.whole_n_iter[j] = solution.w, max(solution.n_iter, 1)
        else:
            self.folds[f, j], self.n_iter[f, j] = solution.w, max(solution.n_iter, 1)
        row = -1 if f is None else f
        self.converged[row, j], self.gradient[row, j] = solution.converged, solution.largest_gradient

    def parts(self, dtype: np.dtype[Any]) -> Array:
        """Return the coefficients, (folds, n_cs, K or 1, D + 1), with the intercept last.

        An L1 penalty determines all of them, so that nothing may be added to a feature's.
        """
        layout, fixed = self.layout, self.l1_ratio > 0
        return np.array([[layout.by_class(layout.centred(w, fixed), dtype) for w in fold] for fold in self.folds])


class Grid(NamedTuple):
    """What is to be fitted: each fold, and all rows, at each C."""

    Cs: Vector
    n_l1: int
    folds: Sequence[Any]  # a `Fold` each; of data in pieces, which know their folds, only their numbers
    s: Vector | None = None  # complete weights
    l1_ratio: float = 0.0  # the same for all these fits

    def penalty(self, j: int, m: float) -> Penalty:
        """Return the penalty of the j-th C, where m is the sum of all weights."""
        return Strength(float(self.Cs[j]), self.l1_ratio).penalty(m)

    @property
    def fits(self) -> int:
        """The number of fits."""
        return len(self.Cs) * (len(self.folds) + 1)

    def fit(self, objective: Any, method: str, tol: float, max_iter: int) -> Generator[Fitted]:
        """Yield the index of C, the number of the fold or None for all rows, and the solution of each fit.

        Small fits run side by side, each on one thread. Large fits of two classes do so too, and read X together, as
        all fits to data in pieces do. Where a fit begins does not depend on that, and no bit of it.
        """
        objective.penalty = self.penalty(0, objective.m)
        space, objective = within(objective, method)
        options: dict[str, Any] = {"space": space, "solver": method, "tol": tol, "max_iter": max_iter}
        if isinstance(getattr(objective, "inner", objective), PiecesObjective):
            yield from self._in_step(objective, options)
            return
        if objective.n_threads > 1 and objective.flops <= SIDE_BY_SIDE:
            alone = objective.weighing(self.s, 1)
            yield from self._side_by_side(Trail(alone, **options), objective.n_threads)
            return
        if self._reads_together(objective):
            yield from self._in_step(objective, options)
            return
        trail = Trail(objective, **options)
        ends = [Ends(objective.size) for _ in self.folds]
        for j in self._order:
            solution, curvature = self._whole(trail, j)
            yield j, None, solution
            for f in range(len(self.folds)):
                yield j, f, self._fold(trail, f, j, ends[f], curvature)

    def _side_by_side(self, trail: Trail, n_threads: int) -> Generator[Fitted]:
        """Yield the same as `fit`, from fits that run side by side.

        A fit waits for that of the same rows at the C before, and a fold's also for the curvature of all rows. A task
        only waits for tasks that were submitted before it, so that one of them can always run.
        """
        folds, over = range(len(self.folds)), threading.Event()
        ends = [Ends(trail.objective.size) for _ in folds]

        def whole(j: int, before: Future[Any] | None) -> tuple[Solution, Any]:
            if before is not None:
                before.result()
            return self._whole(trail, j)

        def fold(f: int, j: int, before: Future[Any] | None, beside: Future[Any]) -> Solution:
            if before is not None:
                before.result()
            return self._fold(trail, f, j, ends[f], beside.result()[1], Stop(over.is_set))

        order = self._order
        wholes: list[Any] = []
        parts: list[list[Any]] = [[None for _ in folds]]
        with ThreadPoolExecutor(min(n_threads, len(folds) + 1)) as pool:
            try:
                for i, j in enumerate(order):
                    for at in order[len(wholes) : i + 2]:  # all rows are fitted one C ahead of the folds
                        wholes.append(pool.submit(whole, at, wholes[-1] if wholes else None))
                    parts.append([pool.submit(fold, f, j, parts[-1][f], wholes[i]) for f in folds])
                for i, j in enumerate(order):
                    yield j, None, wholes[i].result()[0]
                    for f in folds:
                        yield j, f, parts[i + 1][f].result()
                    wholes[i] = None  # frees the curvature, which may be large
            finally:
                over.set()
                pool.shutdown(cancel_futures=True)

    def _reads_together(self, objective: Any) -> bool:
        """Tell whether fits can read X together, and gain by it."""
        if self.l1_ratio or objective.flops < TOGETHER or 8 * objective.N * len(self.folds) > WEIGHTS_BYTES:
            return False
        most: int = getattr(objective, "models_per_read", 0)
        return len(self.folds) < most

    def _in_step(self, objective: Any, options: dict[str, Any]) -> Generator[Fitted]:
        """Yield the same, of fits that read X together."""
        folds, order = range(len(self.folds)), self._order
        done: dict[tuple[int, int | None], Any] = {}  # by place in the order, until all before it have been yielded
        curvatures: dict[int, Any] = {}
        every: list[int | None] = [None, *folds]
        places, started = dict.fromkeys(every, 0), set[int | None]()  # of the next fit; and whose is under way
        evaluate, guests = self._shared(objective)
        with Meeting(evaluate, len(every)) as meeting:
            whole, *parts = guests(meeting)
            trail, ends = Trail(whole, **options), [Ends(objective.size) for _ in folds]

            def start(f: int | None) -> None:
                """Start the next fit, if what it needs is there; that of all rows is one C ahead of the folds."""
                i = places[f]
                if f in started or i == len(order):
                    return
                if f is None:
                    if i <= min(places[g] for g in folds) + 1:
                        started.add(f)
                        meeting.start(f, partial(self._whole, trail, order[i]))
                elif i in curvatures:
                    started.add(f)
                    penalty = self.penalty(order[i], parts[f].m)
                    meeting.start(f, partial(trail.beside, parts[f], penalty, ends[f], curvatures[i]))

            start(None)
            at = [(i, f) for i in range(len(order)) for f in every]
            for f, found in meeting.results():
                i = places[f]
                places[f], done[i, f] = i + 1, found
                started.remove(f)
                if f is None:
                    done[i, f], curvatures[i] = found
                curvatures.pop(min(places[g] for g in folds) - 1, None)
                for g in every:
                    start(g)
                while at and at[0] in done:
                    i, g = at.pop(0)
                    yield order[i], g, done.pop((i, g))

    def _shared(self, objective: Any) -> tuple[Callable[[list[Any]], Any], Callable[[Meeting], list[Any]]]:
        """Return what answers all that ask at the same time; and for a meeting the objectives of all rows and folds."""
        source = getattr(objective, "inner", objective)
        if isinstance(source, PiecesObjective):
            every: list[int | None] = [None, *range(len(self.folds))]
            return source.answered, lambda meeting: [objective.beside(meeting.beside, f) for f in every]

        def evaluate(asked: list[Any]) -> Any:
            return objective.together([one for one, _ in asked], [w for _, w in asked])

        def guests(meeting: Meeting) -> list[Any]:
            folds = [fold.weights(self.s, f, objective.N) for f, fold in enumerate(self.folds)]
            return [Guest(each, meeting) for each in (objective, *map(objective.weighing, folds))]

        return evaluate, guests

    @property
    def _order(self) -> list[int]:
        """The indices of the values of C, from strong penalties to weak ones."""
        order: list[int] = np.argsort(self.Cs, kind="stable").tolist()
        return order

    def _whole(self, trail: Trail, j: int) -> tuple[Solution, Any]:
        """Fit all rows at the j-th C; return the solution and the curvature there."""
        return trail.to(self.penalty(j, trail.objective.m)), trail.curvature()

    def _fold(
        self, trail: Trail, f: int, j: int, ends: Ends, curvature: Any, callback: Callback | None = None
    ) -> Solution:
        objective = trail.objective
        part = objective.weighing(self.folds[f].weights(self.s, f, objective.N))
        return trail.beside(part, self.penalty(j, part.m), ends, curvature, callback)
