"""The penalised loss and its gradient at one vector after another, by a pass whose arrays and plan are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import dispatch, workspace
from .._core.run import reading, run
from .._inputs.dtypes import F4, F8
from .._inputs.rows import Rows
from .parameters import Parameters

if TYPE_CHECKING:
    from .._core.kernels_baseline import BinomialPlan, Plan

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Asked = tuple[float, Vector]  # a value and a gradient


class Evaluation(NamedTuple):
    """The results of one pass without a gradient."""

    value: float  # f(w)
    losses: Vector  # (N,): each sample's loss -Σ_k Y_ik log S_ik, without weight and penalty
    accuracy: float  # the weighted part of the samples whose label has the highest score; NaN for probability targets


class Function:
    """The mean loss with an L2 penalty, and its gradient, as a function of w = [rows of W one after the other, b].

    What is the same for every w is prepared once, since that takes longer than a small pass; see "Around the passes of
    a small fit" in docs/notes.md. An object serves one call at a time.

    Parameters
    ----------
    rows : Rows
        Samples, with targets.
    parameters : Parameters
        The layout of w.
    way : Plan
        The plan of a pass over the samples.
    m : float
        What sums are divided by.
    n_threads : int
        The most threads that are used.
    doubles : bool
        Whether the pass reads w itself and writes the gradient in float64; else it reads and writes the dtype in which
        X is computed.
    """

    def __init__(
        self, rows: Rows, parameters: Parameters, way: Plan, m: float, *, n_threads: int, doubles: bool
    ) -> None:
        kernels, D, b = dispatch.kernels, parameters.D, int(parameters.intercept)
        assert kernels is not None
        K = parameters.count if doubles else parameters.K
        others = K - parameters.count  # the number of classes without parameters, whose scores are 0
        dtype = F8 if doubles else rows.dtype
        model, gradient = np.zeros(K * (D + b), dtype), np.empty(K * (D + b), dtype)

        def views(v: Array) -> tuple[Array, Array | None]:
            """Return W (K, D) and b (K,), if there is one, as views of v."""
            return v[: K * D].reshape(K, D), v[K * D :] if b else None

        self.asked = kernels.LossGrad(*views(model), *views(gradient), m, l2=0.0 if doubles else None)
        self.kernel = kernels.Function(
            self.asked,
            model,
            gradient,
            weights=parameters.count * D,
            biases=parameters.count * b,
            before=others * D,
            between=others * b,
        )
        self.rows, self.way, self.n_threads = rows, way, n_threads
        self.team, computing = way.team(n_threads), F4 if way.itemsize == 4 else F8
        self.at_once = way.single is not None and reading(way, rows, computing)[1]
        self.space = way.shared + self.team * way.work, computing, way.sums
        if self.at_once:
            self.kernel.over(rows, way, self.team)

    def __call__(self, w: Vector, l2: float) -> tuple[float, Vector]:
        """Return the value and the gradient at w, which must be C-contiguous and aligned."""
        grad = np.empty(len(w))
        if self.at_once:
            space = workspace.take(*self.space)
            try:
                return self.kernel.at(w, grad, l2, space), grad
            finally:
                workspace.give(space)
        self.kernel.set(w, l2)
        loss = run(self.asked, self.way, self.rows, self.n_threads)
        return self.kernel.get(w, grad, l2, loss), grad

    def gap(self, w: Vector, asked: Asked, frequencies: Vector, mass: float, l2: float) -> float:
        """Return how far the value and gradient `asked` at w lie above the minimum at most; see `Dual.gap`."""
        space = workspace.take(*self.space)
        try:
            room = np.empty(2 * len(w))
            return float(self.kernel.gap(w, asked[1], frequencies, room, space, value=asked[0], mass=mass, l2=l2))
        finally:
            workspace.give(space)


class Kept:
    """The function that was last given back, for whoever asks next; nobody else gets it meanwhile."""

    def __init__(self) -> None:
        self._last: list[tuple[object, Function]] = []

    def take(self, n_threads: int, make: Callable[[], Function]) -> Function:
        """Return the function that is kept, if it is of this ISA level and as many threads, or what `make` returns."""
        try:
            key, function = self._last.pop()  # atomic: no other thread gets this one
        except IndexError:
            return make()
        return function if key == (dispatch.isa, n_threads) else make()

    def give(self, n_threads: int, function: Function) -> None:
        """Keep the function."""
        self._last[:] = [((dispatch.isa, n_threads), function)]


def together(functions: Sequence[Function], way: BinomialPlan, at: Sequence[tuple[Vector, float]]) -> list[Asked]:
    """Return what functions of the same samples return, each by weights of its own at (w, l2) of its own, to the bit.

    They have one row of coefficients, and are called in one read of the samples, by a plan of so many models.
    """
    assert dispatch.kernels is not None
    first, found = functions[0], []
    asked = dispatch.kernels.Together([f.asked for f in functions], [f.rows.s for f in functions])
    for function, (w, l2) in zip(functions, at, strict=True):
        function.kernel.set(w, l2)
    run(asked, way, replace(first.rows, s=None), first.n_threads)
    for function, loss, (w, l2) in zip(functions, asked.losses, at, strict=True):
        grad = np.empty(len(w))
        found.append((function.kernel.get(w, grad, l2, loss), grad))
    return found
