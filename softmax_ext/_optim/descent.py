"""`Descent`, which all full-batch optimisers share: the present point, how it was reached, and where to stop.

The protocols below say which methods of an objective the optimisers call. A descent ends where two conditions hold: the
largest component of the gradient by w is at most `tol`, and the minimum of the optimiser's quadratic model is below the
value by at most `PART` of it.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from .._core.calls import Prepared
from .._core.threads import effective
from .._core.vectors import combine, largest, product, steady
from .._inputs.arrays import check_real
from .._inputs.dtypes import EPS, TINY
from .._inputs.scalars import check_integer, check_nonnegative_number
from .._objective.rows_space import RowsSpace

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
# A callback is called with the iteration, the value and the largest component of the gradient; and with w by that name
# if it has a parameter w.
Callback = Callable[..., object]

# At the end the predicted decrease is at most this part of the value, or of `tol` if that is more. With many features
# every component of a gradient may be small although the minimum is far; see "A fit ends by its predicted decrease" in
# docs/notes.md.
PART = 1e-3

# A descent also ends if WINDOW iterations have not decreased the least value by more than rounding, and not the largest
# gradient by GAIN of itself; see "When progress is only rounding" in docs/notes.md.
WINDOW, GAIN = 20, 0.1

# In the space of the samples, preconditioners before this iteration are diagonals, which cost next to nothing; see
# "When the preconditioner is computed again" in docs/notes.md.
DIAGONAL_ITERATIONS = 15


class Objective(Protocol):
    """The methods that every optimiser calls. With `preconditioner(w) -> Preconditioner` it needs fewer passes."""

    def value_and_grad(self, w: Vector) -> tuple[float, Vector]:
        """Return f(w) and its gradient."""
        ...


class TwiceDifferentiable(Objective, Protocol):
    """The methods that Newton's method calls. It also calls `hessian(w)`, if there is one and parameters are few."""

    def hessp(self, w: Vector, v: Vector) -> Vector:
        """Return the Hessian at w times v."""
        ...


class Preconditioner(Protocol):
    """An approximate inverse of the Hessian at one w.

    It may have a method `refresh(w)`, which computes it at another w in the same memory, and `together(vectors)`, which
    multiplies several vectors faster than one after the other.
    """

    def __call__(self, v: Vector) -> Vector:
        """Return the inverse times v."""
        ...


class Stop:
    """A callback that only says whether to stop, so that its arguments need not be computed exactly."""

    def __init__(self, over: Callable[[], bool]) -> None:
        self.over = over

    def __call__(self, *_: object) -> bool:
        """Return whether to stop."""
        return self.over()


def takes(callback: Callable[..., object], name: str) -> bool:
    """Return whether a callback has a parameter of this name."""
    # A signature takes a tenth of a small fit's time, so a plain function's parameters are read from its code.
    if isinstance(callback, FunctionType) and not vars(callback):
        code = callback.__code__
        return name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    try:
        return name in inspect.signature(callback).parameters
    except (TypeError, ValueError):  # some functions written in C have no signature
        return False


def seeing(callback: Callback) -> Callback:
    """Return a function of (iteration, value, gradient, w) that calls a callback, with w only if it takes that."""
    if takes(callback, "w"):
        return lambda iteration, value, gradient, w: callback(iteration, value, gradient, w=w)
    return lambda iteration, value, gradient, w: callback(iteration, value, gradient)


def check_optimiser(w: object, tol: object, max_iter: object) -> tuple[Vector, float, int]:
    """Return where a public optimiser starts, its tolerance and its most iterations, once they are checked."""
    start = check_real(w, "w", 1).astype(np.float64)
    return start, check_nonnegative_number(tol, "tol"), check_integer(max_iter, "max_iter", 0)


def most_decrease(value: float, tol: float) -> float:
    """Return the largest predicted decrease with which a fit may end."""
    return PART * max(value, tol)


def has_l1(objective: Any) -> bool:
    """Return whether an objective's penalty has an l1 term, which is not smooth."""
    return bool(getattr(getattr(objective, "penalty", None), "l1", 0))


class Solution(NamedTuple):
    """The point where an optimiser stopped, and why it did."""

    w: Vector  # (size,) float64
    value: float  # f(w)
    largest_gradient: float  # the largest absolute component of the gradient; with an L1 penalty the largest violation
    n_iter: int
    curve: Vector  # (n_iter + 1,): f at the start and after every iteration
    converged: bool  # whether the gradient and the predicted decrease are within the tolerance
    report: str  # what the optimiser did, and why it stopped
    predicted_decrease: float  # how far below `value` the minimum of the last quadratic model is
    gap: float = math.nan  # the duality gap: how far below `value` the minimum is at most; NaN if it was not computed

    @property
    def violation(self) -> float:
        """The largest violation of the optimality conditions; without an L1 penalty it is `largest_gradient`."""
        return self.largest_gradient

    @property
    def gradient(self) -> float:
        """The former name of `largest_gradient`."""
        warnings.warn(
            "Solution.gradient is one number, and is called largest_gradient now: the old name will go",
            FutureWarning,
            stacklevel=2,
        )
        return self.largest_gradient


class Descent:
    """The present point of an optimiser, its value and gradient, and the record of how it was reached.

    `asked` is the value and gradient of the objective itself; `value` and `grad` have an extra penalty added, while
    there is one.
    """

    smooth = True  # whether the objective must be smooth, without an L1 penalty

    def __init__(
        self,
        objective: Any,
        w: Vector,
        tol: float,
        max_iter: int,
        callback: Callback | None,
        space: RowsSpace | None = None,
        asked: tuple[float, Vector] | None = None,
    ) -> None:
        if self.smooth and has_l1(objective):
            raise ValueError(
                f"the objective has the L1 penalty l1={objective.penalty.l1:g}, which has no gradient at 0: "
                "minimise it by softmax_ext.optim.proximal"
            )
        self.objective, self.tol, self.max_iter, self.space = objective, tol, max_iter, space
        self.callback = None if callback is None else seeing(callback)
        self.watched = callback is not None and not isinstance(callback, Stop)
        self.evaluations = self.products = 0
        self.preconditioner: Any = np.copy
        self.dtype = np.dtype(getattr(objective, "dtype", np.float64))
        self.eps = EPS[self.dtype] if self.dtype in EPS else float(np.finfo(self.dtype).eps)
        self.n_threads = getattr(objective, "n_threads", None) or effective()
        self.w = np.array(w, np.float64)
        # Not by NumPy, which lets the GIL go for a vector of more than 500 numbers.
        self.from_zero = largest(self.w) == 0
        self.extra: Any = None  # an extra penalty besides the objective's own: its diagonal, or with L1 a Penalty
        self.value, self.grad = self.asked = self.evaluate(self.w) if asked is None else asked
        self.at_zero = self._at_zero()
        self.largest_gradient = self._largest()
        self.curve = [self.value]
        self.over = 0
        self.best, self.least = self.w, self.value if math.isfinite(self.value) else math.inf
        self.largest_gradients = [self.largest_gradient]
        self.predicted_decrease, self.trusted, self.gap = math.nan, True, math.nan
        self.reason = ""  # why the descent has ended, or "" while it has not
        self.lines: list[str] = []
        if not math.isfinite(self.value):
            self.reason = f"the objective is {self.value} at the start"
        elif not math.isfinite(self.largest_gradient):
            self.reason = f"the gradient is {self.largest_gradient} at the start"

    def _at_zero(self) -> tuple[float, Array | None] | None:
        """Return the value and the gradient by the intercepts, if all parameters are 0 at this point; else None."""
        layout = getattr(self.objective, "parameters", None)
        if layout is None or not self.from_zero:
            return None
        of_b = layout.intercepts(self.grad)
        return self.value, None if of_b is None else of_b.copy()

    @property
    def n_iter(self) -> int:
        """The number of iterations so far."""
        return len(self.curve) - 1

    def ease(self, extra: Any) -> None:
        """Add an extra penalty to the objective from here on, instead of the one before; or none."""
        self.extra = extra
        self.value, self.grad = self.eased(self.w, *self.asked)

    def eased(self, w: Vector, value: float, grad: Vector) -> tuple[float, Vector]:
        """Return the objective's value and gradient with those of the extra penalty added."""
        if self.extra is None:
            return value, grad
        share = self.extra * w
        return value + 0.5 * self.dot(share, w), grad + share

    @property
    def rounding(self) -> float:
        """The rounding error that the value may have, by the dtype of a pass."""
        return 8 * self.eps * max(abs(self.value), TINY)

    def _largest(self, *, exact: bool = False) -> float:
        """Return the largest component of the gradient by the parameters of all features.

        In the space of the samples this takes a product with X, so an upper bound is returned unless `exact`.
        """
        grad, self.exact = self.asked[1], exact or self.space is None
        if self.space is None:
            return largest(grad)
        if not exact:
            return self.space.bounds(grad)[1]
        self._keep_lifted(self.space.lift(grad, self.w))
        return self.largest_gradient

    def ahead(self) -> Prepared[None] | None:
        """Return the call that finds the gradient by all features, if the descent may end here and needs one."""
        if self.space is None or self.exact or self._goes_on:
            return None
        prepared = self.space.lifting(self.asked[1], self.w)  # at once, since to read the samples takes as long again
        return None if prepared is None else prepared.then(self._keep_lifted)

    def _keep_lifted(self, lifted: list[Vector]) -> None:
        grad, self.lifted = lifted
        self.exact, self.largest_gradient = True, largest(grad)

    def evaluate(self, w: Vector) -> tuple[float, Vector]:
        """Return the value and the gradient of the objective itself, without an extra penalty."""
        self.evaluations += 1
        if w is self.w and self.from_zero and self.evaluations == 1 and hasattr(self.objective, "at_constant"):
            value, grad = self.objective.at_constant(w)
        else:
            value, grad = self.objective.value_and_grad(w)
        return value, steady(np.asarray(grad))

    def refresh(self) -> None:
        """Compute the objective's preconditioner at this point, in the same memory if it can."""
        more = () if self.extra is None else (self.extra,)
        if self.space is not None:
            diagonal = self.n_iter < DIAGONAL_ITERATIONS
            self.preconditioner = self.objective.preconditioner(self.w, *more, diagonal=diagonal)
        elif hasattr(self.preconditioner, "refresh"):
            self.preconditioner.refresh(self.w, *more)
        elif hasattr(self.objective, "preconditioner"):
            self.preconditioner = self.objective.preconditioner(self.w, *more)

    def precondition(self, *vectors: Array) -> Sequence[Vector]:
        """Return the preconditioner times each vector."""
        if hasattr(self.preconditioner, "together"):
            return list(self.preconditioner.together(vectors))
        return [steady(np.asarray(self.preconditioner(v))) for v in vectors]

    def invert(self, v: Vector) -> Vector:
        """Return the preconditioner times a vector."""
        return self.precondition(v)[0]

    def dot(self, a: Vector, b: Vector) -> float:
        """Return the inner product of two vectors."""
        return product(a, b, self.n_threads)

    def at(self, t: float, direction: Vector) -> Vector:
        """Return w + t direction."""
        return combine(1.0, self.w, np.array([t]), direction[np.newaxis], n_threads=self.n_threads)

    def move(self, w: Vector, asked: tuple[float, Vector], value: float, grad: Vector) -> None:
        """Take a step that a line search has found; the callback and the record get the objective's own value."""
        self.w, self.asked, self.value, self.grad = w, asked, value, grad
        self.largest_gradient = self._largest(exact=self.watched)
        self.curve.append(asked[0])
        self.largest_gradients.append(self.largest_gradient)
        if self.callback is not None:
            seen = w.view() if self.space is None or not self.watched else self.lifted
            seen.flags.writeable = False
            if self.callback(self.n_iter, asked[0], self.largest_gradient, seen):
                self.reason = "the callback said so"
        self.over = self.n_iter  # not before, so that an iteration whose callback raises does not count
        if asked[0] < self.least:
            self.best, self.least = w, asked[0]

    def went(self, values: list[float], largests: list[float], evaluations: int, best: Vector | None) -> None:
        """Note iterations of a kernel, which has set the present point; `best` is the best one if it is new."""
        self.curve += values
        self.largest_gradients += largests
        self.largest_gradient, self.over, self.exact = largests[-1], self.n_iter, self.space is None
        self.evaluations += evaluations
        if best is not None:
            self.best, self.least = best, min(values)

    @property
    def most_decrease(self) -> float:
        """The largest predicted decrease with which the descent may end."""
        return most_decrease(self.asked[0], self.tol)

    @property
    def iterations_are_over(self) -> str:
        """The reason of a descent that `max_iter` ends."""
        return f"max_iter = {self.max_iter} iterations are over"

    @property
    def converged(self) -> bool:
        """Whether this point is a minimum within the tolerance."""
        if not self.predicted_decrease <= self.most_decrease or not self.trusted or self.extra is not None:
            return False
        if self.largest_gradient > self.tol and not self.exact:
            self.largest_gradient = self._largest(exact=True)
        return self.largest_gradient <= self.tol

    @property
    def _goes_on(self) -> bool:
        """Whether another iteration is to be taken before the gradient by all features is looked at.

        In the space of the samples that takes less time; see "The end in the space of the samples" in docs/notes.md.
        """
        return self.space is not None and self.n_iter < self.max_iter and self.space.bounds(self.asked[1])[0] > self.tol

    @property
    def gained(self) -> float:
        """By how much the last step has decreased the value."""
        return self.curve[-2] - self.curve[-1] if self.n_iter else 0.0

    def judge(self, slope: float, *, trusted: bool = True) -> None:
        """Set `reason` if the descent ends here, by the slope along the step to the quadratic model's minimum.

        If the model is not `trusted`, its predicted decrease does not end the descent.
        """
        self.predicted_decrease, self.trusted = max(-0.5 * slope, 0.0), trusted
        if not self._goes_on and self.converged:
            self.reason = (
                f"the gradient is within tol = {self.tol:g}, and the predicted decrease within {self.most_decrease:.2g}"
            )
            if self.asked[0] <= self.tol:
                self.reason += "; so is the objective: the classes are separated, and coefficients would only grow"
        elif not self.reason and self.n_iter >= self.max_iter:
            self.reason = self.iterations_are_over
        elif not self.reason and self.extra is None and self.n_iter > 2 * WINDOW:
            gained = min(self.curve[:-WINDOW]) - min(self.curve[-WINDOW:])
            before, now = min(self.largest_gradients[:-WINDOW]), min(self.largest_gradients[-WINDOW:])
            if gained <= self.rounding and now > (1 - GAIN) * before:
                self.reason = f"{WINDOW} iterations have gained no more than rounding"

    def tell(self, name: str, since: tuple[int, int]) -> None:
        """Add a line to the report: what an optimiser did since `since`, the counts of iterations and evaluations."""
        self.lines.append(f"{name}: {self.n_iter - since[0]} iterations, {self.evaluations - since[1]} evaluations")

    def so_far(self) -> tuple[Vector, Vector]:
        """Return the best w so far and the values of all complete iterations, for a fit that was broken off."""
        w = self.best if self.space is None else self.space.lift(self.best)[0]
        return w, np.array(self.curve[1 : self.over + 1])

    def solution(self) -> Solution:
        """Return the result of the descent, by the parameters of all features."""
        converged, w = self.converged, self.w
        if self.space is not None:
            if not self.exact:
                self.largest_gradient = self._largest(exact=True)
            w = self.lifted
        lines = [*self.lines, f"products with the Hessian: {self.products}"] if self.products else self.lines
        report = "\n".join([*lines, f"stopped: {self.reason}", self.where()])
        return Solution(
            w,
            self.asked[0],
            self.largest_gradient,
            self.n_iter,
            np.array(self.curve),
            converged,
            report,
            predicted_decrease=self.predicted_decrease,
            gap=self.gap,
        )

    def where(self) -> str:
        """Return a line that says how near the minimum this point is."""
        return (
            f"objective {self.asked[0]:.10g}, largest gradient component {self.largest_gradient:.3g}, "
            f"predicted decrease {self.predicted_decrease:.3g}"
        )
