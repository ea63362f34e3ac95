"""Full-batch optimisers: L-BFGS and Newton's method, both with the Fisher preconditioner.

What they ask of an objective stands in the protocols below. They stop where two things hold: the largest component of
the gradient, in the coordinates of w itself, is no more than `tol`; and the minimum of their own quadratic model lies
no more than `PART` of the value below it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ._cholesky import Factor
from ._parameters import Parameters
from ._rows_space import RowsSpace
from ._threads import effective
from ._vectors import combine, dots, subtract

__all__ = ["Solution", "lbfgs", "minimize", "newton"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
# Called with the iteration, the value and the largest component of the gradient; and with w if it takes a w.
Callback = Callable[..., object]

# Few enough parameters for Newton's method with the whole Hessian: then it is the soonest on every data set tried.
FEW = 128  # Shuttle, 58000 x 9 in 7 classes: 39 evaluations, where L-BFGS takes over 400
# What L-BFGS gets before Newton's method takes over: iterations, and the tolerance that it need not go below.
LBFGS_ITERATIONS, LBFGS_TOL = 60, 1e-6
# With the curvature of a fit nearby: iterations where parameters are few, and the one in which it is first computed
# anew. Folds of digits along ten values of C take 610 evaluations and 65 preconditioners with 5, 645 and 35 with 15.
NEAR_ITERATIONS, NEAR_REFRESH = 8, 15

# Part of the value, or of `tol` where that is more, that the model may still promise at the end. With many features a
# gradient may be small everywhere and the minimum far: 200 x 20000 with C = 100 ended at 0.054, not at 0.00004.
PART = 1e-3
# Times that which L-BFGS may have gained in its last step: where it was more, its model has not seen the function yet.
# On the same data the first step leads from 1.386 to 0.054, and the model then promises 0.00001.
GAINED = 10

# How an extra penalty falls: its factor; iterations with the first; with the others, to which one is added for every
# second; and the part of the value that it may be when it is left out. Passes over Fashion-MNIST, and where they end:
#                     C = 100           10000             none
#     3, and so on    86, 0.31976       221, 0.31212      252, 0.31097
#     always 5        83, 0.31942       143, 0.31249      162, 0.31193
#     always 8        121, 0.31898      213, 0.31190      255, 0.31107
# Each of the strengths 1, 30 and 1000 followed to its end took 380 passes to 0.31246 for the second.
EASE, EASE_FIRST, EASE_ITERATIONS, EASE_PART = 0.5, 10, 3, 2e-4
# Part of what may still be promised at the end, below which the next penalty comes at once; and the value below which
# none is needed any more, since the classes are apart: digits take 50 iterations so with C = 10000, and 104 without it,
# 50 and 119 without a penalty.
EASE_ENOUGH, EASE_VALUE = 1e-2, 1e-3

# Iterations in which the value must have got better than all before by more than rounding, or the gradient by a tenth.
# Where it had to be halved, L-BFGS ended at 1e-7 on a quadratic of condition 1000, and now does at 1e-9.
WINDOW, GAIN = 20, 0.1

# Armijo's and Wolfe's constants (Nocedal and Wright 2006, section 3.1), and evaluations of one line search.
ARMIJO, WOLFE, TRIALS = 1e-4, 0.9, 30
# Part of the value by which it may rise where the slopes say that it falls, as in Hager and Zhang (2005): values tell
# less than slopes near the minimum, and an objective's own sums may round far more than its last operation does.
APPROXIMATE = 1e-6


class Objective(Protocol):
    """What every optimiser asks for. With a `preconditioner(w) -> Preconditioner` as well it needs fewer passes."""

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return f(w) and its gradient."""
        ...


class TwiceDifferentiable(Objective, Protocol):
    """What Newton's method asks for. With a `hessian(w)` as well it takes that where parameters are few."""

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the Hessian at w times v."""
        ...


class Preconditioner(Protocol):
    """An approximate inverse of the Hessian at one w.

    It may have `refresh(w)`, which brings it to another w in the memory that it has, and `together(vectors)`, which
    multiplies several vectors sooner than one after the other.
    """

    def __call__(self, v: Vector) -> Vector:
        """Return the inverse times v."""
        ...


def choose(size: int) -> str:
    """Return what the solver "auto" begins with for so many parameters: "newton" or "lbfgs"."""
    return "newton" if size <= FEW else "lbfgs"


def takes(callback: Callable[..., object], name: str) -> bool:
    """Tell whether a callback has a parameter of this name."""
    try:
        return name in inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some of those in C tell nothing
        return False


def seeing(callback: Callback) -> Callback:
    """Make a callback of (iteration, value, gradient, w) of one that may do without w."""
    if takes(callback, "w"):
        return lambda iteration, value, gradient, w: callback(iteration, value, gradient, w=w)
    return lambda iteration, value, gradient, w: callback(iteration, value, gradient)


class Solution(NamedTuple):
    """Where an optimiser stopped, and why."""

    w: Vector
    value: float  # f(w)
    largest_gradient: float  # the largest absolute component of the gradient
    n_iter: int
    curve: Vector  # f at the start and after every iteration
    converged: bool  # whether the gradient and the predicted decrease are within the tolerance
    report: str
    predicted_decrease: float  # how far below `value` the minimum of the last quadratic model is

    @property
    def gradient(self) -> float:
        """The former name of `largest_gradient`."""
        warnings.warn(
            "Solution.gradient is one number, and is called largest_gradient now: the old name will go",
            FutureWarning,
            stacklevel=2,
        )
        return self.largest_gradient


class _Run:
    """A point, its value and gradient, and the record of how it was reached."""

    def __init__(
        self,
        objective: Any,
        w: Vector,
        tol: float,
        max_iter: int,
        callback: Callback | None,
        space: RowsSpace | None = None,
    ) -> None:
        self.objective, self.tol, self.max_iter, self.space = objective, tol, max_iter, space
        self.callback = None if callback is None else seeing(callback)
        self.evaluations = self.products = 0
        self.preconditioner: Any = np.copy
        self.dtype = np.dtype(getattr(objective, "dtype", np.float64))
        self.n_threads = getattr(objective, "n_threads", None) or effective()
        self.w = np.array(w, np.float64)
        self.extra: Vector | None = None  # the diagonal of a penalty beyond the objective's own, while there is one
        self.value, self.grad = self.asked = self.evaluate(self.w)
        self.largest_gradient = self._largest()
        self.curve = [self.value]
        self.largest_gradients = [self.largest_gradient]
        self.predicted_decrease, self.trusted = math.nan, True
        self.reason = ""  # why it has stopped, as soon as it has
        self.lines: list[str] = []
        if not math.isfinite(self.value):
            self.reason = f"the objective is {self.value} at the start"
        elif not math.isfinite(self.largest_gradient):
            self.reason = f"the gradient is {self.largest_gradient} at the start"

    @property
    def n_iter(self) -> int:
        return len(self.curve) - 1

    def ease(self, extra: Vector | None) -> None:
        """Descend another function from here on: the objective with this extra penalty."""
        self.extra = extra
        self.value, self.grad = self.eased(self.w, *self.asked)

    def eased(self, w: Vector, value: float, grad: Vector) -> tuple[float, Vector]:
        if self.extra is None:
            return value, grad
        share = self.extra * w
        return value + 0.5 * self.dot(share, w), grad + share

    @property
    def rounding(self) -> float:
        """How far a value may be off for the precision of the pass."""
        return float(8 * np.finfo(self.dtype).eps * max(abs(self.value), np.finfo(float).tiny))

    def _largest(self, *, told: bool = False) -> float:
        """Return the largest component of the gradient, in the coordinates of the problem that was asked for."""
        grad = self.asked[1]
        if self.space is not None:
            if not told:
                return self.space.largest(grad, self.tol)
            grad = self.space.lift(grad)
        return float(max(grad.max(initial=0.0), -grad.min(initial=0.0)))

    def evaluate(self, w: Vector) -> tuple[float, Vector]:
        """Return value and gradient of the objective itself."""
        self.evaluations += 1
        value, grad = self.objective.value_and_grad(w)
        return value, np.require(grad, np.float64, ["C", "A"])

    def refresh(self) -> None:
        """Bring the objective's preconditioner to this point, in the memory that it has where it can."""
        more = () if self.extra is None else (self.extra,)
        if hasattr(self.preconditioner, "refresh"):
            self.preconditioner.refresh(self.w, *more)
        elif hasattr(self.objective, "preconditioner"):
            self.preconditioner = self.objective.preconditioner(self.w, *more)

    def precondition(self, *vectors: Array) -> Sequence[Vector]:
        """Multiply each by the preconditioner."""
        if hasattr(self.preconditioner, "together"):
            return list(self.preconditioner.together(vectors))
        return [np.require(self.preconditioner(v), np.float64, ["C", "A"]) for v in vectors]

    def invert(self, v: Vector) -> Vector:
        """Multiply by the preconditioner."""
        return self.precondition(v)[0]

    def dot(self, a: Vector, b: Vector) -> float:
        return float(dots(a[np.newaxis], b, n_threads=self.n_threads)[0])

    def at(self, t: float, direction: Vector) -> Vector:
        """Return w + t direction."""
        return combine(1.0, self.w, np.array([t]), direction[np.newaxis], n_threads=self.n_threads)

    def move(self, w: Vector, asked: tuple[float, Vector], value: float, grad: Vector) -> None:
        """Take a step that a line search has found; everybody is told of the objective itself."""
        self.w, self.asked, self.value, self.grad = w, asked, value, grad
        self.largest_gradient = self._largest(told=self.callback is not None)
        self.curve.append(asked[0])
        self.largest_gradients.append(self.largest_gradient)
        if self.callback is not None:
            seen = w.view() if self.space is None else self.space.lift(w)
            seen.flags.writeable = False
            if self.callback(self.n_iter, asked[0], self.largest_gradient, seen):
                self.reason = "the callback said so"

    @property
    def most_decrease(self) -> float:
        """What may still be promised where a fit stops."""
        return PART * max(self.asked[0], self.tol)

    @property
    def converged(self) -> bool:
        small = self.largest_gradient <= self.tol and self.predicted_decrease <= self.most_decrease
        return small and self.trusted and self.extra is None

    @property
    def gained(self) -> float:
        """What the last step has gained."""
        return self.curve[-2] - self.curve[-1] if self.n_iter else 0.0

    def judge(self, slope: float, *, trusted: bool = True) -> None:
        """Tell whether this is the end, from the slope along the step to the minimum of the quadratic model."""
        self.predicted_decrease, self.trusted = max(-0.5 * slope, 0.0), trusted
        if self.converged:
            self.reason = (
                f"the gradient is within tol = {self.tol:g}, and the predicted decrease within {self.most_decrease:.2g}"
            )
        elif not self.reason and self.n_iter >= self.max_iter:
            self.reason = f"max_iter = {self.max_iter} iterations are over"
        elif not self.reason and self.extra is None and self.n_iter > 2 * WINDOW:
            gained = min(self.curve[:-WINDOW]) - min(self.curve[-WINDOW:])
            before, now = min(self.largest_gradients[:-WINDOW]), min(self.largest_gradients[-WINDOW:])
            if gained <= self.rounding and now > (1 - GAIN) * before:
                self.reason = f"{WINDOW} iterations have gained no more than rounding"

    def tell(self, name: str, since: tuple[int, int]) -> None:
        """Record what an optimiser did, from a count of iterations and evaluations on."""
        self.lines.append(f"{name}: {self.n_iter - since[0]} iterations, {self.evaluations - since[1]} evaluations")

    def solution(self) -> Solution:
        converged, w = self.converged, self.w
        if self.space is not None:
            self.largest_gradient, w = self._largest(told=True), self.space.lift(w)
        lines = [*self.lines, f"products with the Hessian: {self.products}"] if self.products else self.lines
        report = "\n".join(
            [
                *lines,
                f"stopped: {self.reason}",
                f"objective {self.asked[0]:.10g}, largest gradient component {self.largest_gradient:.3g}, "
                f"predicted decrease {self.predicted_decrease:.3g}",
            ]
        )
        return Solution(
            w,
            self.asked[0],
            self.largest_gradient,
            self.n_iter,
            np.array(self.curve),
            converged,
            report,
            self.predicted_decrease,
        )


def minimize(
    objective: Any,
    w: Vector,
    solver: str = "auto",
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
    preconditioner: Preconditioner | None = None,
) -> Solution:
    """Minimise by `solver`: "lbfgs", "newton", or "auto".

    "auto" takes Newton's method for up to 128 parameters. For more it takes L-BFGS, and from where that is after 60
    iterations, or at a gradient of 1e-6, Newton's method, which reaches tight tolerances in few steps.

    - Where the objective has an `in_rows_space()`, since samples are far fewer than features, all of it happens there.
    - Where it asks for it by an `easing()`, and w is 0, L-BFGS comes to it from stronger penalties.
    - With the `preconditioner` of a fit nearby L-BFGS begins with that, at once, also for few parameters, where it gets
      8 iterations.
    """
    space, near = None, preconditioner is not None
    if solver == "auto" and not near and (found := getattr(objective, "in_rows_space", lambda: None)()) is not None:
        space, objective = found
        w = space.lower(np.asarray(w))
    run = _Run(objective, w, tol, max_iter, callback, space)
    if space is not None:
        run.lines.append(f"in the space of the samples: {space.narrow.D} features in the place of {space.wide.D}")
    chosen = choose(run.w.size) if solver == "auto" else solver
    if solver == "newton" or (chosen == "newton" and not near):
        _newton(run)
        return run.solution()
    if preconditioner is not None:
        run.preconditioner = preconditioner
    descent = _LBFGS(run, 10, refresh=NEAR_REFRESH if near else 0)
    if solver == "lbfgs":
        descent.to_the_end()
        return run.solution()
    cold = not near and not run.w.any()
    easing = objective.easing() if cold and hasattr(objective, "easing") else None
    if easing is not None:
        descent.ease(easing)
    most: int | None = LBFGS_ITERATIONS if chosen == "lbfgs" else NEAR_ITERATIONS
    tight = tol < LBFGS_TOL
    if easing is not None and not tight:  # Newton's method took Fashion-MNIST 4250 products with C = 10000
        most = None
    descent.to_the_end(most, LBFGS_TOL if tight else 0.0)
    if not run.reason:
        _newton(run)
    return run.solution()


def lbfgs(
    objective: Objective,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    memory: int = 10,
    callback: Callback | None = None,
) -> Solution:
    """L-BFGS from w, its initial matrix the Fisher preconditioner, refreshed at iterations 0, 5, 15, 45, 75, ...

    Parameters
    ----------
    objective : object
        With ``value_and_grad(w) -> (float, (size,) float64)``, and ``preconditioner(w)`` if it has one:
        `SoftmaxObjective`, or one of your own.
    w : array_like, shape (size,)
        Where to start.
    tol : float
        For the largest component of the gradient; and the decrease which the quadratic model predicts, half of gᵀ H g
        with H the approximate inverse of the Hessian, must be at most ``1e-3 max(f, tol)``.
    max_iter : int
        Most iterations.
    memory : int
        Pairs of steps and gradients that are kept: 16 bytes a parameter each, or 8 where ``objective.dtype`` is
        float32. Besides, there are at most ten vectors of float64 of its own: with 10 pairs 240 bytes a parameter,
        or 160.
    callback : callable, optional
        Called as ``callback(iteration, value, gradient)`` with the largest component, and with ``w=``, a read-only
        array that it may keep, if it has a parameter of that name; True stops.

    Returns
    -------
    Solution
        w, value, largest_gradient, n_iter, curve, converged, report, which tells why it stopped, and
        predicted_decrease.

    References
    ----------
    J. Nocedal and S. Wright, "Numerical optimization", 2nd edition, 2006, algorithms 7.4 and 3.5. W. Hager and H.
    Zhang, SIAM Journal on Optimization 16 (2005), 170-192, for the conditions where values differ by rounding only.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> objective = SoftmaxObjective([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], l2=0.1)
    >>> found = optim.lbfgs(objective, np.zeros(objective.size))
    >>> found.converged, bool(found.largest_gradient <= 1e-4)
    (True, True)
    """
    run = _Run(objective, np.asarray(w, np.float64), tol, max_iter, callback)
    _LBFGS(run, memory).to_the_end()
    return run.solution()


def newton(
    objective: TwiceDifferentiable,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
) -> Solution:
    """Newton's method from w: with the whole Hessian up to 128 parameters, else by conjugate gradients.

    For tight tolerances and ill-conditioned data. The conjugate gradients work on products from `hessp`, preconditioned
    as `lbfgs` is, and stop early far from the minimum (Nocedal and Wright 2006, algorithm 7.1).

    Parameters
    ----------
    objective : object
        With ``value_and_grad``, ``hessp``, and ``hessian`` and ``preconditioner`` if it has them: `SoftmaxObjective`.
    w, tol, max_iter, callback
        As in `lbfgs`.

    Returns
    -------
    Solution
        As from `lbfgs`.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> objective = SoftmaxObjective([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1], l2=0.1)
    >>> found = optim.newton(objective, np.zeros(objective.size), tol=1e-12)
    >>> found.converged, found.n_iter < 10
    (True, True)
    """
    run = _Run(objective, np.asarray(w, np.float64), tol, max_iter, callback)
    _newton(run)
    return run.solution()


class _LBFGS:
    """L-BFGS from the point of a run on, in stretches that share the pairs and the preconditioner."""

    def __init__(self, run: _Run, memory: int, refresh: int = 0) -> None:
        self.run, self.history = run, _History(min(memory, run.max_iter), run)
        # Where the preconditioner has been computed, and where it will be computed anew.
        self.first, self.due = run.n_iter, run.n_iter + refresh

    def to_the_end(self, most: int | None = None, least: float = 0.0) -> None:
        """Go on to the end; or for `most` iterations, or until the gradient's largest component is `least`."""
        since = self.run.n_iter, self.run.evaluations
        self._go(self.run.max_iter if most is None else most, least)
        self.run.tell("L-BFGS", since)

    def ease(self, easing: Any) -> None:
        """Come to the objective from stronger penalties, whose minima are soon found, and each near the next.

        It is a continuation, or homotopy (Nocedal and Wright 2006, section 11.3), and the pairs go along: how another
        penalty changes them is known.
        """
        run, part, stage = self.run, 1.0, 0
        since = run.n_iter, run.evaluations
        run.ease(easing.diagonal)
        self._go(EASE_FIRST)
        while not run.reason:
            share, before, part, stage = run.value - run.asked[0], run.extra, EASE * part, stage + 1
            value = run.asked[0]
            over = part <= easing.least or share <= EASE_PART * max(value, run.tol) or value <= EASE_VALUE
            run.ease(None if over else part * easing.diagonal)
            assert before is not None
            self.history.ease(-before if run.extra is None else run.extra - before)
            if over:
                break
            self._go(EASE_ITERATIONS + (stage + 1) // 2)
        run.tell(f"L-BFGS with an extra penalty that falls to {part:.2g} of its strength", since)

    def _go(self, most: int, least: float = -math.inf) -> None:
        run, end = self.run, self.run.n_iter + most
        while math.isfinite(run.value):
            if run.extra is not None and run.n_iter == end < run.max_iter and not run.reason:
                break  # no direction is asked for, since it will be another's
            if run.n_iter == self.due:
                run.refresh()
                # Fashion-MNIST took 942 ms, and 1095 with 4, 8, 16, ... in the place of 5, 15, 45.
                gap = self.due - self.first
                self.due = self.first + (min(3 * gap, gap + 30) if gap else 5)
            direction = self.history.direction()
            slope = run.dot(run.grad, direction)
            run.judge(slope, trusted=run.gained <= GAINED * run.most_decrease or run.largest_gradient == 0)
            if run.reason or run.n_iter >= end or run.largest_gradient <= least:
                break
            if run.extra is not None and run.predicted_decrease <= EASE_ENOUGH * run.most_decrease:
                break
            point, grad = run.w, run.grad
            if _search(run, direction, slope):
                self.history.add(point, grad)
            elif self.history.pairs:  # once more, from the preconditioner alone
                self.history.forget()
                run.reason = ""
                self.first = self.due = run.n_iter
            else:
                if run.extra is not None:
                    run.reason = ""  # the next penalty leaves more to be gained
                break


class _History:
    """The last steps s and changes of the gradient y, in the objective's dtype, and the direction that they give.

    The two-loop recursion (Nocedal and Wright 2006, algorithm 7.4) in four sweeps, each over half of the history: its
    products with what changes from pair to pair follow from s_iᵀ g, s_iᵀ y_j and y_iᵀ H0 q, as in the compact form of
    Byrd, Nocedal and Schnabel (1994). Each of these is summed as it is. To get them from differences of products with
    gradients would save sweeps, and digits too: at a condition of 1000 that came to an end at a gradient of 3e-7.
    """

    def __init__(self, memory: int, run: _Run) -> None:
        self.run, size = run, run.w.size
        self.S, self.Y = np.empty((memory, size), run.dtype), np.empty((memory, size), run.dtype)
        self.SY = np.zeros((memory, memory))  # s_iᵀ y_j, where j is not older than i
        self.q = np.empty(size)
        self.pairs: list[int] = []  # their rows, oldest first
        self.free = list(range(memory))[::-1]

    def add(self, w: Vector, grad: Vector) -> None:
        """Add the pair from an earlier point to the present, unless the objective does not curve upwards there."""
        run, row = self.run, self.free.pop() if self.free else self.pairs.pop(0)
        subtract(run.w, w, self.S[row], run.n_threads)
        subtract(run.grad, grad, self.Y[row], run.n_threads)
        self.pairs.append(row)
        used = slice(max(self.pairs) + 1)
        self.Sg, self.SY[used, row] = dots(self.S[used], run.grad, self.Y[row], run.n_threads)
        if not self.SY[row, row] > 0:
            self.free.append(self.pairs.pop())

    def forget(self) -> None:
        """Be without pairs again."""
        self.pairs, self.free = [], list(range(len(self.S)))[::-1]

    def ease(self, change: Vector) -> None:
        """Follow the objective to another penalty: each y of a pair changes by as much as the diagonal times s."""
        run = self.run
        for row in self.pairs:
            self.Y[row] += change * self.S[row]
        if self.pairs:
            used = slice(max(self.pairs) + 1)
            for row in self.pairs:
                self.Sg, self.SY[used, row] = dots(self.S[used], run.grad, self.Y[row], run.n_threads)

    def direction(self) -> Vector:
        """Return -H g."""
        run, pairs, SY = self.run, self.pairs, self.SY
        if not pairs:
            (z,) = run.precondition(run.grad)
            return np.negative(z, out=z)
        used, newest = slice(max(pairs) + 1), pairs[-1]
        S, Y, n_threads = self.S[used], self.Y[used], run.n_threads
        alpha, shares = np.zeros(len(S)), np.zeros(len(S))
        for i in reversed(pairs):
            alpha[i] = (self.Sg[i] - SY[i, used] @ alpha) / SY[i, i]
        q = combine(1.0, run.grad, -alpha, Y, out=self.q, n_threads=n_threads)
        z, Hy = run.precondition(q, Y[newest])
        # H0 is the preconditioner times what makes it fit the last pair: Nocedal and Wright's (7.20), in its metric.
        curvature = float(dots(Y[newest : newest + 1], Hy, n_threads=n_threads)[0])
        gamma = SY[newest, newest] / max(curvature, np.finfo(float).tiny)
        yz = gamma * dots(Y, z, n_threads=n_threads)
        for i in pairs:
            shares[i] = alpha[i] - (yz[i] + shares @ SY[used, i]) / SY[i, i]
        return combine(-gamma, z, -shares, S, out=z, n_threads=n_threads)


def _newton(run: _Run) -> None:
    since, exact = (run.n_iter, run.evaluations), run.w.size <= FEW and hasattr(run.objective, "hessian")
    inverse: Callable[[Vector], Vector] | None = None
    while math.isfinite(run.value):
        if inverse is not None and (run.reason or run.largest_gradient <= run.tol or run.n_iter >= run.max_iter):
            run.judge(-run.dot(run.grad, inverse(run.grad)))  # by the model of the point before, which is there
            if run.reason:
                break
        if exact:
            inverse = inverse_hessian(run.objective, run.w)
            direction = -inverse(run.grad)
        else:
            run.refresh()
            inverse = run.invert
            direction = _conjugate_gradients(run)
        slope = run.dot(run.grad, direction)
        run.judge(slope)
        if run.reason or not _search(run, direction, slope):
            break
    run.tell("Newton's method" if exact else "Newton's method by conjugate gradients", since)


def inverse_hessian(objective: Any, w: Vector) -> Callable[[Vector], Vector]:
    """Return what multiplies by the inverse of an objective's whole Hessian at w.

    Where it is singular, a vector has a part that is nothing but rounding, which a float32 pass leaves at 1e-8 and the
    factor's ridge would take to 1e5: that part is left out if the objective tells which it is.
    """
    factor, parameters = Factor(objective.hessian(w)), getattr(objective, "parameters", None)
    if not isinstance(parameters, Parameters) or factor.failed:
        return factor.solve
    return lambda v: factor.solve(parameters.determined(v, objective.penalty.l2 > 0))


def _conjugate_gradients(run: _Run) -> Vector:
    direction, residual = np.zeros_like(run.w), -run.grad
    (z,) = run.precondition(residual)
    p, rz = z.copy(), run.dot(residual, z)
    wanted = min(0.25, math.sqrt(run.largest_gradient)) ** 2 * rz  # so that the steps converge faster than linearly
    for _ in range(min(250, 2 * run.w.size)):
        Hp = run.objective.hessp(run.w, p)
        run.products += 1
        curvature = run.dot(p, Hp)
        if not curvature > 0:
            break
        direction += rz / curvature * p
        residual -= rz / curvature * Hp
        (z,) = run.precondition(residual)
        rz, before = run.dot(residual, z), rz
        if rz <= wanted:
            break
        p *= rz / before
        p += z
    return direction if direction.any() else z


def _search(run: _Run, direction: Vector, slope0: float) -> bool:
    """Move along the direction to where the strong Wolfe conditions hold; False where rounding hides the descent."""
    f0 = run.value
    if not slope0 < 0:
        run.reason = "rounding leaves no direction of descent"
        return False
    low, f_low, slope_low = 0.0, f0, slope0
    high, t = math.inf, 1.0
    for _ in range(TRIALS):
        w = run.at(t, direction)
        asked = run.evaluate(w)
        value, grad = run.eased(w, *asked)
        slope = run.dot(grad, direction)
        fine = value <= f0 + ARMIJO * t * slope0
        if not fine and value <= f0 + APPROXIMATE * abs(f0):
            fine = (2 * ARMIJO - 1) * slope0 >= slope  # the approximate condition of Hager and Zhang
        if fine and WOLFE * slope0 <= slope <= -WOLFE * slope0:
            run.move(w, asked, value, grad)
            return True
        if fine and slope < 0:
            low, f_low, slope_low = t, value, slope
            t = _minimum(low, f_low, slope_low, high) if high < math.inf else 2 * t
            if t > 1e10:
                break
        else:
            high = t
            t = _minimum(low, f_low, slope_low, high, value, slope)
        if high - low <= 1e-12 * high:
            break
    if low > 0 and f_low < f0:
        w = run.at(low, direction)
        asked = run.evaluate(w)
        run.move(w, asked, *run.eased(w, *asked))
        return True
    run.reason = "the line search sees only rounding"
    return False


def _minimum(a: float, f_a: float, slope_a: float, b: float, f_b: float = math.nan, slope_b: float = math.nan) -> float:
    """Where the cubic through two values and slopes has its minimum, not too near the ends; else the middle."""
    middle = (a + b) / 2
    if not (math.isfinite(f_b) and math.isfinite(slope_b)):
        return middle
    d1 = slope_a + slope_b - 3 * (f_a - f_b) / (a - b)
    square = d1 * d1 - slope_a * slope_b
    if square < 0:
        return middle
    d2 = math.sqrt(square)
    denominator = slope_b - slope_a + 2 * d2
    if denominator == 0:
        return middle
    t = b - (b - a) * (slope_b + d2 - d1) / denominator
    return min(max(t, a + 0.1 * (b - a)), b - 0.1 * (b - a))
