"""Full-batch optimisers: L-BFGS and Newton's method, both with the Fisher preconditioner.

What they ask of an objective stands in the protocols below. They stop where the largest component of the gradient, in
the coordinates of w itself, is no more than `tol`.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

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
    converged: bool  # whether the gradient is within the tolerance
    report: str

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

    def __init__(self, objective: Any, w: Vector, tol: float, max_iter: int, callback: Callback | None) -> None:
        self.objective, self.tol, self.max_iter = objective, tol, max_iter
        self.callback = None if callback is None else seeing(callback)
        self.evaluations = self.products = 0
        self.preconditioner: Any = np.copy
        self.dtype = np.dtype(getattr(objective, "dtype", np.float64))
        self.n_threads = getattr(objective, "n_threads", None) or effective()
        self.w = np.array(w, np.float64)
        self.value, self.grad = self.evaluate(self.w)
        self.curve = [self.value]
        self.largest_gradients = [self.largest_gradient]
        self.reason = ""  # why it has stopped, as soon as it has
        self.lines: list[str] = []
        if not math.isfinite(self.value):
            self.reason = f"the objective is {self.value} at the start"
        self._judge()

    @property
    def n_iter(self) -> int:
        return len(self.curve) - 1

    @property
    def rounding(self) -> float:
        """How far a value may be off for the precision of the pass."""
        return float(8 * np.finfo(self.dtype).eps * max(abs(self.value), np.finfo(float).tiny))

    @property
    def largest_gradient(self) -> float:
        return float(max(self.grad.max(initial=0.0), -self.grad.min(initial=0.0)))

    def evaluate(self, w: Vector) -> tuple[float, Vector]:
        self.evaluations += 1
        value, grad = self.objective.value_and_grad(w)
        return value, np.require(grad, np.float64, ["C", "A"])

    def refresh(self) -> None:
        """Bring the objective's preconditioner to this point, in the memory that it has where it can."""
        if hasattr(self.preconditioner, "refresh"):
            self.preconditioner.refresh(self.w)
        elif hasattr(self.objective, "preconditioner"):
            self.preconditioner = self.objective.preconditioner(self.w)

    def precondition(self, *vectors: Array) -> Sequence[Vector]:
        """Multiply each by the preconditioner."""
        if hasattr(self.preconditioner, "together"):
            return list(self.preconditioner.together(vectors))
        return [np.require(self.preconditioner(v), np.float64, ["C", "A"]) for v in vectors]

    def dot(self, a: Vector, b: Vector) -> float:
        return float(dots(a[np.newaxis], b, n_threads=self.n_threads)[0])

    def at(self, t: float, direction: Vector) -> Vector:
        """Return w + t direction."""
        return combine(1.0, self.w, np.array([t]), direction[np.newaxis], n_threads=self.n_threads)

    def move(self, w: Vector, value: float, grad: Vector) -> None:
        """Take a step that a line search has found."""
        self.w, self.value, self.grad = w, value, grad
        self.curve.append(value)
        self.largest_gradients.append(self.largest_gradient)
        if self.callback is not None:
            seen = w.view()
            seen.flags.writeable = False
            if self.callback(self.n_iter, value, self.largest_gradient, seen):
                self.reason = "the callback said so"
        self._judge()

    def _judge(self) -> None:
        if self.largest_gradient <= self.tol:
            self.reason = f"the gradient is within tol = {self.tol:g}"
        elif not self.reason and self.n_iter >= self.max_iter:
            self.reason = f"max_iter = {self.max_iter} iterations are over"
        elif not self.reason and self.n_iter > 2 * WINDOW:
            gained = min(self.curve[:-WINDOW]) - min(self.curve[-WINDOW:])
            before, now = min(self.largest_gradients[:-WINDOW]), min(self.largest_gradients[-WINDOW:])
            if gained <= self.rounding and now > (1 - GAIN) * before:
                self.reason = f"{WINDOW} iterations have gained no more than rounding"

    def tell(self, name: str, since: tuple[int, int]) -> None:
        """Record what an optimiser did, from a count of iterations and evaluations on."""
        self.lines.append(f"{name}: {self.n_iter - since[0]} iterations, {self.evaluations - since[1]} evaluations")

    def solution(self) -> Solution:
        lines = [*self.lines, f"products with the Hessian: {self.products}"] if self.products else self.lines
        report = "\n".join(
            [
                *lines,
                f"stopped: {self.reason}",
                f"objective {self.value:.10g}, largest gradient component {self.largest_gradient:.3g}",
            ]
        )
        converged = self.largest_gradient <= self.tol
        return Solution(self.w, self.value, self.largest_gradient, self.n_iter, np.array(self.curve), converged, report)


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
    iterations, or at a gradient of 1e-6, Newton's method, which reaches tight tolerances in few steps. With the
    `preconditioner` of a fit nearby L-BFGS begins with that, also for few parameters, where it gets 8 iterations.
    """
    run = _Run(objective, w, tol, max_iter, callback)
    chosen, near = choose(run.w.size) if solver == "auto" else solver, preconditioner is not None
    if solver == "newton" or (chosen == "newton" and not near):
        _newton(run)
    else:
        auto, most = solver == "auto", LBFGS_ITERATIONS if chosen == "lbfgs" else NEAR_ITERATIONS
        if preconditioner is not None:
            run.preconditioner = preconditioner
        _lbfgs(run, 10, most if auto else max_iter, LBFGS_TOL if auto else tol, refresh=NEAR_REFRESH if near else 0)
        if auto and not run.reason:
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
    """L-BFGS from w, its initial matrix the Fisher preconditioner, refreshed at iterations 0, 5, 15, 45, ...

    Parameters
    ----------
    objective : object
        With ``value_and_grad(w) -> (float, (size,) float64)``, and ``preconditioner(w)`` if it has one:
        `SoftmaxObjective`, or one of your own.
    w : array_like, shape (size,)
        Where to start.
    tol : float
        For the largest component of the gradient.
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
        w, value, largest_gradient, n_iter, curve, converged, and report, which tells why it stopped.

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
    _lbfgs(run, memory, max_iter, tol)
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


def _lbfgs(run: _Run, memory: int, most: int, tol: float, *, refresh: int = 0) -> None:
    since, first = (run.n_iter, run.evaluations), run.n_iter
    history = _History(min(memory, most), run)
    while not run.reason and run.largest_gradient > tol and run.n_iter - first < most:
        if run.n_iter - first == refresh:
            run.refresh()
            refresh = 3 * refresh if refresh else 5  # Fashion-MNIST 942 ms, and 1095 at 0, 4, 8, 16, ...
        direction = history.direction()
        before, grad = run.w, run.grad
        if _search(run, direction):
            history.add(before, grad)
        elif history.pairs:  # once more, from the preconditioner alone
            history = _History(min(memory, most), run)
            run.reason = ""
            refresh = run.n_iter - first
        else:
            break
    run.tell("L-BFGS", since)


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
    while not run.reason:
        direction = _exact_direction(run) if exact else _inexact_direction(run)
        if not _search(run, direction):
            break
    run.tell("Newton's method" if exact else "Newton's method by conjugate gradients", since)


def _exact_direction(run: _Run) -> Vector:
    return -Factor(run.objective.hessian(run.w))(run.grad)


class Factor:
    """The Cholesky factor of a whole Hessian, which it overwrites: called with v it returns the inverse times v."""

    def __init__(self, H: Vector) -> None:
        from scipy.linalg.lapack import dpotrf  # here, since it takes as long to import as NumPy

        self.scale = 1 / np.sqrt(np.maximum(H.diagonal(), np.finfo(float).tiny))
        H *= self.scale
        H *= self.scale[:, np.newaxis]
        ridge, self.failed = 1e-13, 1
        while self.failed and ridge < 1:  # singular without a penalty: adding to all classes changes nothing
            H.flat[:: len(H) + 1] += ridge
            self.factor, self.failed = dpotrf(H, lower=True)  # scipy.linalg.cho_factor takes 40 µs more
            ridge *= 100

    def __call__(self, v: Vector) -> Vector:
        """Return the inverse times v; v itself if the Hessian holds what is not a number."""
        from scipy.linalg.lapack import dpotrs

        if self.failed:
            return v.copy()
        solved: Vector
        solved, _ = dpotrs(self.factor, v * self.scale, lower=True)
        solved *= self.scale
        return solved


def _inexact_direction(run: _Run) -> Vector:
    run.refresh()
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


def _search(run: _Run, direction: Vector) -> bool:
    """Move along the direction to where the strong Wolfe conditions hold; False where rounding hides the descent."""
    f0, slope0 = run.value, run.dot(run.grad, direction)
    if not slope0 < 0:
        run.reason = "rounding leaves no direction of descent"
        return False
    low, f_low, slope_low = 0.0, f0, slope0
    high, t = math.inf, 1.0
    for _ in range(TRIALS):
        w = run.at(t, direction)
        value, grad = run.evaluate(w)
        slope = run.dot(grad, direction)
        fine = value <= f0 + ARMIJO * t * slope0
        if not fine and value <= f0 + APPROXIMATE * abs(f0):
            fine = (2 * ARMIJO - 1) * slope0 >= slope  # the approximate condition of Hager and Zhang
        if fine and WOLFE * slope0 <= slope <= -WOLFE * slope0:
            run.move(w, value, grad)
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
        run.move(w, *run.evaluate(w))
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
