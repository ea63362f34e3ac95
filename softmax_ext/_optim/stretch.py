"""Iterations of L-BFGS one after the other in one call of a kernel, which lets the GIL go, where passes are short.

`LBFGS` in Python is the specification, and takes each iteration that may be the last. What comes before is the same to
the bit by src/pass/stretch.pxi; see "Around the passes of a small fit" in docs/notes.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.calls import Prepared
from .._objective.fisher import Fisher
from .._objective.memory import SoftmaxObjective
from . import descent, line_search
from .descent import Descent
from .history import History

if TYPE_CHECKING:
    from .._objective.function import Function

Vector = npt.NDArray[np.float64]
Aimed = tuple[Vector, float]  # the direction of the next step, and the slope along it

# The most operations of a pass, and the most parameters. In larger fits Python's part does not count.
FLOPS, SIZE = 2**25, 2**16
# A call takes at most so many operations and iterations, some hundredths of a second, so that Ctrl-C need not wait.
OPERATIONS, ITERATIONS = 2**28, 500


class Stretch:
    """The iterations of a descent that need no judgement, and no other preconditioner or penalty."""

    def __init__(self, run: Descent, history: History, enough: float) -> None:
        """Make the memory of a call; `enough` is the part of the decrease for an end, after which a penalty falls."""
        self.run, self.history = run, history
        self.ahead_of: list[Aimed | None] = []  # the result of a call that `ahead` has prepared, until `go` returns it
        assert dispatch.kernels is not None
        self.kernel = dispatch.kernels.Stretch(
            history.loops,
            np.empty((dispatch.kernels.STRETCH_VECTORS, run.w.size)),
            armijo=line_search.ARMIJO,
            wolfe=line_search.WOLFE,
            approximate=line_search.APPROXIMATE,
            trials=line_search.TRIALS,
            part=descent.PART,
            enough=enough,
            gain=descent.GAIN,
            window=descent.WINDOW,
        )
        self.most = max(1, min(ITERATIONS, OPERATIONS // (run.objective.flops + 100 * run.w.size + 1)))

    @staticmethod
    def serves(run: Descent) -> bool:
        """Return whether the kernel can take a descent's iterations: it has no callback, and passes are short."""
        objective = run.objective
        return (
            run.callback is None
            and isinstance(objective, SoftmaxObjective)
            and objective.lends
            and objective.flops <= FLOPS
            and run.w.size <= SIZE
        )

    def go(self, most: int, least: float) -> Aimed | None:
        """Take up to `most` iterations, and return the next direction, with its slope, if there is a judgement to make.

        Return None if the descent may go on as it is. An iteration is left to be judged, too, if the gradient's largest
        component is at most `least`.
        """
        if self.ahead_of:
            return self.ahead_of.pop()
        prepared = self._prepared(most, least)
        if prepared is not None:
            return prepared.run()
        direction = self.history.direction()
        return direction, self.run.dot(self.run.grad, direction)

    def ahead(self, most: int, least: float) -> Prepared[None] | None:
        """Return the call that `go` makes, so that it is made together with others before `go` asks for its result."""
        prepared = self._prepared(most, least)
        return None if prepared is None else prepared.then(self.ahead_of.append)

    def _prepared(self, most: int, least: float) -> Prepared[Aimed | None] | None:
        M, most = self.run.preconditioner, min(most, self.most)
        if not isinstance(M, Fisher) or M.kernel is None or most < 1:
            return None
        run, kernel, n = self.run, self.kernel, self.run.n_iter
        objective: SoftmaxObjective = run.objective
        function: Function = objective.borrow()
        w, asked, direction, best = run.w.copy(), run.asked[1].copy(), np.empty_like(run.w), np.empty_like(run.w)
        grad = asked if run.extra is None else run.grad.copy()
        values, largests = np.empty(n + most + 1), np.empty(n + most + 1)
        values[: n + 1], largests[: n + 1] = run.curve, run.largest_gradients
        kernel.prepare(
            function.kernel,
            M.kernel,
            M.team(2, warm=function.team > 1),
            w=w,
            asked=asked,
            grad=grad,
            direction=direction,
            best=best,
            extra=run.extra,
            values=values,
            largests=largests,
            n_iter=n,
            most=most,
            value=run.value,
            least_value=run.least,
            l2=objective.l2_of_a_pass,
            tol=run.tol,
            enough=least,
            eps=run.eps,
            rows=objective.parameters.count,
            wide=0 if run.space is None else run.space.wide.D,
        )

        def result() -> Aimed | None:
            objective.give_back(function)
            taken = kernel.taken
            if taken:
                new = slice(n + 1, n + taken + 1)
                run.w, run.grad, run.value, run.asked = w, grad, kernel.value, (float(values[n + taken]), asked)
                run.went(
                    values[new].tolist(), largests[new].tolist(), kernel.evaluations, best if kernel.bettered else None
                )
            return (direction, kernel.slope) if kernel.waits else None

        return Prepared(kernel, result, function.space)
