"""A proximal quasi-Newton method, which minimises losses with an L1 penalty.

In each iteration coordinate descent (_core/coordinates.py) finds the minimum of a quadratic model of the loss
(_objective/curvature.py) plus the penalty itself, and a line search moves there, or a part of the way. A weight that is
zero at the model's minimum becomes exactly zero. The whole gradient is checked in each iteration, so that weights which
were left out of the sweeps, but should move, take part in the next ones.

The method ends where no optimality condition is violated by more than `tol` and the duality gap is at most a tenth of
`tol` times the value. The gap is the stricter condition; see "The end of a fit with an L1 penalty" in docs/notes.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core.coordinates import Entries, Quadratic, descend
from .._inputs.dtypes import TINY
from .._objective.curvature import Curvature, Pairs, curvature_of
from .._objective.entries import ByEntries, pays
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.support import Support, rows_for
from .descent import Callback, Descent, Solution, check_optimiser
from .duality import Dual
from .working_set import INNER, WorkingSet, chosen, is_wide

__all__ = ["proximal"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# The model has the whole Hessian if there are at most this many parameters.
FEW = 320
# Coordinate descent ends with a sweep that changes no gradient by more than this part of the present violation.
ENOUGH = 0.1
# A weight that is 0 is left out of the sweeps if its gradient is below its limit by more than this part of the limit.
ROOM = 0.2
# A Hessian of some weights has those that are not 0, and those others whose gradients are nearest to their limits: at
# most SOME of them, or MORE of the number of the first, or as many as are beyond their limits.
SOME, MORE = 100, 0.25
# Where a line search cannot tell values apart, it asks for a smaller violation. They may differ by FAR times their own
# rounding, since scores of features that lie far from 0 are sums of large terms; see "Values of features far from 0" in
# docs/notes.md.
FAR = 128
# Armijo's constant, the least factor by which a trial shortens the step, and the most trials of one line search.
ARMIJO, LEAST, TRIALS = 1e-4, 0.1, 30
# The duality gap at the end is at most this part of tol times the value, or of tol squared if that is more.
GAP = 0.1
# A fit of many features that begins at 0, where gradients exceed the limits EASE_FROM times or more, eases: it comes to
# its penalty from stronger ones. Each is EASE times the one before, and has a fit of EASE_ITERATIONS iterations, or to
# violations of EASE_ENOUGH of its limits; see "From stronger L1 penalties to weak ones" in docs/notes.md.
EASE_FROM, EASE, EASE_ITERATIONS, EASE_ENOUGH = 30, 0.3, 3, 0.3
# Steps by the Hessian of sparse samples may be far too long along weights whose samples are all but decided. So weights
# have at least a part of the curvature that they have at equal probabilities, DAMPING at first. A line search that
# shortens a step makes it DAMPING_UP times as large, at least DAMPING and at most 1. A whole step that decreases the
# value by GOOD of what was predicted makes it DAMPING_DOWN times as large; see "The Hessian from the entries of sparse
# samples" in docs/notes.md.
DAMPING, DAMPING_UP, DAMPING_DOWN, GOOD = 1e-3, 10.0, 0.3, 0.5
# The method also ends if WINDOW iterations have decreased the value only by rounding, and the violation by less than
# GAIN of itself.
WINDOW, GAIN = 20, 0.1


class ProximalDescent(Descent):
    """A descent whose gradient is that of the smooth terms, and whose largest gradient is the largest violation."""

    smooth = False

    def __init__(
        self,
        objective: Any,
        w: Vector,
        tol: float,
        max_iter: int,
        callback: Callback | None = None,
        dual: Dual | None = None,
        asked: tuple[float, Vector] | None = None,
    ) -> None:
        self.penalty: Penalty = objective.penalty
        self.parameters: Parameters = objective.parameters
        self.enough = 0.0  # the duality gap that is small enough for a fit of a working set
        super().__init__(objective, w, tol, max_iter, callback, asked=asked)
        self.dual = Dual(objective, None if self.w.any() else self.asked) if dual is None else dual

    def ease(self, extra: Penalty | None) -> None:
        """Add an extra penalty to the objective's own from here on, instead of the one before; or none.

        `penalty`, `value` and `grad` are with it, `asked` and what is told of the descent without it.
        """
        own = self.objective.penalty
        self.penalty = own if extra is None else own.with_strengths(own.l2 + extra.l2, own.l1 + extra.l1)
        super().ease(extra)

    def eased(self, w: Vector, value: float, grad: Vector) -> tuple[float, Vector]:
        """Return the objective's value and gradient with those of the extra penalty added."""
        if self.extra is None:
            return value, grad
        W, grad = self.parameters.weights(w), grad.copy()
        self.extra.add_gradient(W, self.parameters.weights(grad))
        return value + self.extra.value(W), grad

    def easing(self) -> Iterator[Penalty]:
        """Yield the extra penalties, from a strong one to a weak one, by which a fit from W = 0 should come here."""
        (W, _), (dW, _) = self.parameters.views(self.w), self.parameters.views(self.grad)
        own = self.objective.penalty
        limits = own.thresholds(W.shape[1])
        limited = limits > 0
        times = float((own.sizes(dW)[..., limited] / limits[limited]).max(initial=0.0))
        if W.any() or times < EASE_FROM or not self.max_iter:
            return
        while (times := EASE * times) > 1:
            yield own.with_strengths((times - 1) * own.l2, (times - 1) * own.l1)

    def violation(self, w: Vector, grad: Vector) -> float:
        """Return the largest violation of the optimality conditions, without the extra penalty."""
        (W, _), (dW, db) = self.parameters.views(w), self.parameters.views(grad)
        of_weights = float(self.objective.penalty.violations(W, dW).max(initial=0.0))
        return of_weights if db is None else max(of_weights, float(np.abs(db).max(initial=0.0)))

    def _largest(self, *, exact: bool = False) -> float:
        """Return the largest violation at this point."""
        return self.violation(self.w, self.asked[1])

    @property
    def most_gap(self) -> float:
        """The largest duality gap with which the descent may end."""
        return max(GAP * self.tol * max(self.value, self.tol), self.rounding, self.enough)

    @property
    def converged(self) -> bool:
        """Whether this point is a minimum; if features without a penalty make the gap NaN, by the violation alone."""
        return self.largest_gradient <= self.tol and not self.gap > self.most_gap

    def certify(self) -> None:
        """Compute the duality gap if the violation is small enough, and set `reason` if the descent ends here."""
        self.gap = math.inf
        if self.extra is not None:
            return
        if self.largest_gradient <= self.tol:
            self.gap = self.dual.gap(self.w, self.value, self.grad, self.penalty)
        if self.reason:
            return
        if self.converged:
            self.reason = f"no optimality condition is violated by more than tol = {self.tol:g}"
            if not math.isnan(self.gap):
                self.reason += f", and the duality gap is within {self.most_gap:.2g}"
        elif self.n_iter >= self.max_iter:
            self.reason = self.iterations_are_over
        elif self.n_iter > WINDOW and self.curve[-WINDOW - 1] - self.value <= self.rounding:
            before = min(self.largest_gradients[:-WINDOW])
            if min(self.largest_gradients[-WINDOW:]) > (1 - GAIN) * before:
                self.reason = f"rounding: {WINDOW} iterations have gained nothing else"

    def where(self) -> str:
        """Return a line that says how near the minimum this point is."""
        few = np.count_nonzero(self.parameters.weights(self.w))
        return (
            f"objective {self.value:.10g}, largest violation {self.largest_gradient:.3g}, duality gap {self.gap:.3g}, "
            f"{few} of {self.parameters.count * self.parameters.D} coefficients are not 0"
        )


class Model:
    """The quadratic model at a descent's present point, whose M is computed at iterations 0, 5, 15, 45, 75, ...

    If parameters are few, M is the whole Hessian at each point, and there are no pairs; so it is for sparse samples,
    from their entries. Otherwise M is the Hessian by the weights that are, or may become, other than 0, if those are
    few enough. It is then also computed when the other weights have more than half of the largest violation.
    """

    def __init__(self, run: ProximalDescent, few: int, damping: float) -> None:
        self.pairs = Pairs(run.w.size)
        self.whole = run.w.size <= few and hasattr(run.objective, "hessian")
        self.broad: Curvature | None = None  # of all parameters
        self.entries: ByEntries | None = None
        self.damping = damping
        self.curvature: Curvature | None = None
        self.curving: Vector  # the second derivatives of the penalty
        self.first = self.due = self.made = 0  # iterations of the descent that is served: the refreshes, the last M
        self.steps = 0  # those of the descent before
        self.take(run)

    def take(self, run: ProximalDescent) -> None:
        """Serve a descent, the first or the next on a path, where M and pairs change with the penalty's l2."""
        self.run, layout = run, run.parameters
        self.limits, curving = np.zeros((2, layout.size))
        layout.weights(self.limits)[:] = run.penalty.thresholds(layout.D)
        layout.weights(curving)[:] = run.penalty.diagonal(layout.D)
        if self.curvature is not None and (curving != self.curving).any():
            change = curving - self.curving
            made = (self.broad, self.entries, self.curvature)
            for each in {id(each): each for each in made if each is not None}.values():
                each.follow(run.objective, change)
            self.pairs.follow(change, self.curvature)
        self.curving = curving
        self.due, self.first, self.made = self.due - self.steps, self.first - self.steps, self.made - self.steps
        self.steps = 0

    def current(self) -> Curvature:
        """Return M, which is computed at this point if that is due."""
        run = self.run
        old = self.curvature
        if old is None or old.exact or run.n_iter >= self.due or self._others_lead(old.kept):
            self.curvature = self._computed()
            self.made = run.n_iter
            self.pairs.refresh(self.curvature)
        if run.n_iter >= self.due:
            gap = self.due - self.first
            self.due = self.first + (min(3 * gap, gap + 30) if gap else 5)
        assert self.curvature is not None
        return self.curvature

    def _computed(self) -> Curvature:
        """Return the Hessian from the entries of samples, or that of weights that are not 0 or may become so.

        If these would cost too much, return M for all parameters.
        """
        run = self.run
        if not self.whole:
            kept = self._near()
            if pays(run.objective, kept):
                if self.entries is None:
                    self.entries = ByEntries(run.objective, run.w, self.damping)
                else:
                    self.entries.damping = self.damping
                    self.entries.refresh(run.w)
                return self.entries
            if rows := rows_for(run.objective, kept, run.n_iter - self.made):
                return Support(run.objective, run.w, kept, rows)
        if self.broad is None:
            self.broad = curvature_of(run.objective, run.w, self.whole)
        else:
            self.broad.refresh(run.w)
        return self.broad

    def _near(self) -> npt.NDArray[np.intp]:
        """Return the parameters that are not 0, or whose gradients are nearest to their limits; whole groups only."""
        run, layout = self.run, self.run.parameters
        (W, _), (dW, _) = layout.views(run.w), layout.views(run.grad)
        limits, sizes = run.penalty.thresholds(layout.D), run.penalty.sizes(dW)
        used = W.any(axis=0) if run.penalty.grouped else W != 0
        used = used | (limits == 0)
        room = np.where(used, np.inf, (limits - sizes) / np.maximum(limits, TINY)).ravel()
        more = np.flatnonzero(room <= ROOM)
        most = max(SOME, int(MORE * np.count_nonzero(used)), int(np.count_nonzero(room <= 0)))
        if len(more) > most:
            more = more[np.argsort(room[more], kind="stable")[:most]]
        used.reshape(-1)[more] = True
        kept = np.ones(run.w.size, bool)
        layout.weights(kept)[:] = used
        return np.flatnonzero(kept)

    def _others_lead(self, kept: npt.NDArray[np.intp] | None) -> bool:
        """Return whether a parameter that M is not for has a violation of more than half the largest one."""
        if kept is None:
            return False
        run = self.run
        (W, _), (dW, _) = run.parameters.views(run.w), run.parameters.views(run.grad)
        violations = np.array(np.broadcast_to(run.penalty.violations(W, dW), W.shape))
        violations.reshape(-1)[kept[kept < W.size]] = 0
        return 2 * float(violations.max(initial=0.0)) > run.largest_gradient

    def step(self) -> Vector:
        """Return the step to the model's minimum."""
        run, curvature = self.run, self.current()
        w, g, limits = curvature.arranged(run.w), curvature.inward(run.grad), curvature.arranged(self.limits)
        entries = self._entries(w, g, limits, curvature)
        gamma, Q, QN = self.pairs.compact(entries.coordinates())
        model = Quadratic(curvature.M, curvature.diagonal, gamma, Q, QN, g, limits)
        if isinstance(curvature, ByEntries):
            model.columns, model.posterior = curvature.columns, curvature.posterior
        u, self.Md = descend(model, entries, w, ENOUGH * min(run.largest_gradient, self._violation(model, entries, w)))
        return curvature.outward(u - w)

    @staticmethod
    def _violation(model: Quadratic, entries: Entries, w: Vector) -> float:
        """Return the largest violation in M's coordinates, or infinity if there are groups.

        An intercept that is slightly wrong makes large violations of features far from 0, and a small one here.
        """
        if entries.groups:
            return math.inf
        g, limits, w = (each[entries.which] for each in (model.gradient, model.limits, w))
        return float(np.where(w, np.abs(g + limits * np.sign(w)), np.abs(g) - limits).max(initial=0.0))

    def _entries(self, w: Vector, g: Vector, limits: Vector, curvature: Curvature) -> Entries:
        """Return what coordinate descent may move: weights that are not 0, or whose gradients are near their limits.

        Groups move as a whole.
        """
        layout, curved = self.run.parameters, curvature.diagonal > 0
        if not self.run.penalty.grouped or layout.count == 1:
            return Entries(np.flatnonzero(((w != 0) | (np.abs(g) >= (1 - ROOM) * limits)) & curved))
        first = np.arange(curvature.features)
        group = np.add.outer(first, np.arange(layout.count) * curvature.apart)
        sizes = np.sqrt(np.square(g[group]).sum(axis=1))
        moving = w[group].any(axis=1) | (sizes >= (1 - ROOM) * limits[first])
        first = first[moving & curved[group].all(axis=1)]
        others = curved.copy()
        others[group] = False
        return Entries(np.append(first, np.flatnonzero(others)), len(first), layout.count, curvature.apart)

    def learn(self, s: Vector, y: Vector, share: float) -> None:
        """Add the pair of a step s, which is `share` of the model's step, and the change y of the gradient."""
        assert self.curvature is not None
        if self.curvature is self.entries:
            if share < 1:
                self.damping = min(max(DAMPING, DAMPING_UP * self.damping), 1.0)
            elif self.run.gained >= GOOD * self.run.predicted_decrease:
                self.damping *= DAMPING_DOWN
        elif not self.curvature.exact:
            self.pairs.add(s, y, self.curvature, share * self.Md)


class Among:
    """A working set, the penalty of its last fit, and the model of the objective of its features."""

    def __init__(self, some: WorkingSet, penalty: Penalty, before: Among | None) -> None:
        self.some, self.penalty = some, penalty
        self.model: Model | None = None
        self.damping = DAMPING if before is None or before.model is None else before.model.damping


def follow(run: ProximalDescent, before: Model | Among | None = None) -> Model | Among | None:
    """Move a descent to its end, and return the model, which the next descent on a path takes as `before`."""
    if is_wide(run.objective):
        return _follow_among(run, before if isinstance(before, Among) else None)
    return _follow(run, before if isinstance(before, Model) else None)


def _follow(run: ProximalDescent, model: Model | None, damping: float = DAMPING) -> Model:
    """Move a descent over all features of its objective to the end, and return its model."""
    since = run.n_iter, run.evaluations
    if model is None:
        model = Model(run, FEW, damping)
    else:
        model.take(run)
    while math.isfinite(run.value):
        run.certify()
        if run.reason or not _search(run, model):
            break
    model.steps = run.n_iter
    newton = model.whole or (model.curvature is not None and model.curvature.exact)
    run.tell("proximal Newton's method" if newton else "proximal quasi-Newton method", since)
    return model


def _follow_among(run: ProximalDescent, among: Among | None) -> Among | None:
    """Move a descent with many features to its end: each iteration fits a working set, and makes a pass over all."""
    before, inner, iterations, evaluations = None if among is None else among.penalty, run, 0, 0
    closer, easing = 1.0, list(run.easing())
    stages = len(easing)
    while math.isfinite(run.value):
        run.ease(easing.pop(0) if easing else None)
        run.certify()
        if run.reason:
            break
        (W, _), (dW, _) = run.parameters.views(run.w), run.parameters.views(run.grad)
        which, before = chosen(run.penalty, W, dW, before), None
        if among is None or not set(which.tolist()) <= set(among.some.which.tolist()):
            among, closer = Among(WorkingSet(run.objective, which), run.penalty, among), 1.0
        elif inner is not run and not inner.converged:
            run.reason = inner.reason
            break
        elif inner is not run and not inner.n_iter:
            closer *= INNER  # the fit of the working set ended too early to be the end for all features
        some = among.some
        some.part.penalty = run.penalty.of_features(some.which)
        among.penalty = run.penalty
        enough, most = closer * max(run.tol, INNER * run.largest_gradient), run.max_iter - iterations
        if run.extra is not None:
            enough, most = max(enough, EASE_ENOUGH * run.penalty.l1), min(most, EASE_ITERATIONS)
        dual = run.dual.of_features(some.which)
        inner = ProximalDescent(some.part, some.lower(run.w), enough, most, dual=dual)
        inner.enough = closer * INNER * run.gap
        among.model = _follow(inner, among.model, among.damping)
        iterations, evaluations = iterations + inner.n_iter, evaluations + inner.evaluations
        w, run.predicted_decrease = some.lift(inner.w), inner.predicted_decrease
        asked = run.evaluate(w)
        run.move(w, asked, *run.eased(w, *asked))
        if run.extra is not None and iterations < run.max_iter:
            inner, before = run, run.penalty  # as on a path, whatever the end of this fit
        elif iterations >= run.max_iter or closer < 1e-3:
            run.ease(None)
            run.certify()
            run.reason = run.reason or (run.iterations_are_over if iterations >= run.max_iter else inner.reason)
            break
    run.ease(None)
    if stages:
        run.lines.append(f"{stages - len(easing)} working sets with extra penalties, each {EASE:g} of the one before")
    run.lines.append(
        f"working sets of the features: {run.n_iter}, {iterations} iterations and {evaluations} evaluations among them"
    )
    return among


def _search(run: ProximalDescent, model: Model) -> bool:
    """Move to the model's minimum, or a part of the way, so that the objective decreases; False if rounding hides it.

    If the values differ only by rounding, a step is accepted if it makes the violation smaller.
    """
    d, W, l1_part = model.step(), run.parameters.weights, run.penalty.l1_part
    slope = run.dot(run.grad, d) + l1_part(W(run.w + d)) - l1_part(W(run.w))
    run.predicted_decrease = max(-0.5 * slope, 0.0)
    t = 1.0
    for _ in range(TRIALS):
        w = run.w + d if t == 1 else run.w + t * d  # after a whole step w + (0 - w) is exactly 0 where the model's is 0
        asked = value, grad = run.evaluate(w)
        fine = value <= run.value + ARMIJO * t * slope
        if not fine and abs(value - run.value) <= FAR * run.rounding:
            fine = run.violation(w, grad) < run.largest_gradient
        if fine:
            s, y = w - run.w, grad - run.grad
            run.move(w, asked, value, grad)
            model.learn(s, y, t)
            return True
        bend = value - run.value - t * slope  # the parabola through both values with this slope curves upwards if > 0
        t *= min(max(-0.5 * t * slope / bend, LEAST), 0.5) if bend > 0 and math.isfinite(bend) else LEAST
    run.reason = "rounding: the line search sees nothing else"
    return False


def proximal(
    objective: Any,
    w: npt.ArrayLike,
    *,
    tol: float = 1e-4,
    max_iter: int = 100,
    callback: Callback | None = None,
) -> Solution:
    """Minimise by a proximal quasi-Newton method, for objectives whose `Penalty` has an l1 term.

    Each iteration minimises a quadratic model of the smooth terms, plus the l1 term itself, by coordinate descent. Up
    to 320 parameters the model has the whole Hessian. For more it has a block for each class from a sample of the rows,
    or a diagonal if blocks would cost too much, and ten pairs of L-BFGS.

    Parameters
    ----------
    objective : SoftmaxObjective
        Or an object with ``penalty``, ``parameters``, and ``value_and_grad(w)``, which returns the value of all terms,
        and the gradient of all but the l1 term.
    w : array_like, shape (size,)
        Where to start; copied.
    tol : float >= 0
        The method ends where the largest violation of the optimality conditions is at most `tol`: the whole derivative
        by a weight that is not 0 must vanish, and the derivative of the smooth terms by a weight that is 0 must be at
        most l1 times the feature's factor. Besides, the duality gap must be at most ``0.1 tol max(f, tol)``, unless the
        penalty leaves a feature out.
    max_iter : int >= 0
        The most iterations.
    callback : callable, optional
        As in `lbfgs`; it gets the largest violation instead of the largest component of the gradient.

    Returns
    -------
    Solution
        As from `lbfgs`; `largest_gradient` is the largest violation, and `gap` the duality gap, NaN if it was not
        computed. The report says whether the method ended because of rounding.

    Raises
    ------
    ValueError, TypeError
        If an argument is not as it is described.

    References
    ----------
    K. Scheinberg and X. Tang, "Practical inexact proximal quasi-Newton method with global complexity analysis",
    Mathematical Programming 160 (2016), 495-529. J. Lee, Y. Sun and M. Saunders, "Proximal Newton-type methods for
    minimizing composite functions", SIAM Journal on Optimization 24 (2014), 1420-1443.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import SoftmaxObjective, optim
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 1.0], [3.0, 0.0]])
    >>> objective = SoftmaxObjective(X, [0, 0, 1, 1], penalty=optim.Penalty(l1=0.1))
    >>> found = optim.proximal(objective, np.zeros(objective.size))
    >>> found.converged, found.gap < 1e-5, found.w[:4].round(3) + 0
    (True, True, array([-1.135,  0.   ,  1.135,  0.   ]))
    """
    run = ProximalDescent(objective, *check_optimiser(w, tol, max_iter), callback)
    follow(run)
    return run.solution()
