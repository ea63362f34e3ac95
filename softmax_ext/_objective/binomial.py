"""The objective of two classes with one row of coefficients, and the choice between it and `SoftmaxObjective`.

    f(w) = 1/m Σ_i s_i (log(1 + e^z_i) - Y_i1 z_i) + l2/2 Σ_d w_d²        z = X w + b

It is what `SoftmaxObjective` is for W = [0, w]. But its passes compute one score for each sample, and its Hessian may
be summed in float32.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.plan import binomial_plan, centred_plan
from .._core.run import run
from .._core.vectors import steady
from .._inputs.rows import Rows
from .._inputs.validation import check_offset_of_class_1
from .centred import LOOK, Centre
from .function import together
from .memory import SoftmaxObjective
from .parameters import Parameters
from .penalty import Penalty

if TYPE_CHECKING:
    from .._core.kernels_baseline import BinomialPlan, Plan

__all__ = ["BinomialObjective"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Two classes' Hessian is summed in float32 if there are at least so many samples, since to find where features lie
# takes as long as the Hessian of some ten thousand in double, and at most so many features, since LAPACK starts threads
# for larger matrices; see "Two classes' Hessian of floats in floats" in docs/notes.md.
CENTRED_SAMPLES, CENTRED_FEATURES = 50000, 100
# A fit of two classes begins with Hessians of THIN_ROWS samples for each parameter, and at least THIN_LEAST samples,
# whose error is about 1/8. It does so if the Hessian of all samples would take more than THIN_WORK = N size²
# operations, some milliseconds.
THIN_ROWS, THIN_LEAST, THIN_WORK = 64, 4096, 2**25


class BinomialObjective(SoftmaxObjective):
    """`SoftmaxObjective` of two classes, parametrised as in scikit-learn: w has class 1's row, and class 0's is zero.

    Parameters, attributes and errors are those of `SoftmaxObjective`, with two differences: `size` is D, and one more
    with an intercept; an offset may be (N,), or (N, 2), of which only the difference matters.
    """

    _binary = True

    def _count_classes(self, y: npt.ArrayLike) -> int:
        """Return 2, which is the number of classes even if y has labels of one class only."""
        return 2

    def _checked_offset(self, offset: Any, N: int, K: int) -> Array | None:
        """Return the offsets of class 1's score less class 0's, (N, 1)."""
        return check_offset_of_class_1(offset, N)

    def _one_row(self, *, second: bool = False, models: int = 1) -> BinomialPlan | None:
        """Return the plan of a pass that computes one score for each sample, or None if there is none."""
        if dispatch.kernels is None:
            return None
        shape, nnz = (self.N, self.D, self.dtype.itemsize), self._rows.stored
        return binomial_plan(*shape, dispatch.isa, second=second, nnz=nnz, models=models)

    def _plan(self, second: bool) -> Plan:
        return self._one_row(second=second) or super()._plan(second)

    @property
    def models_per_read(self) -> int:
        """How many `together` asks by one read of their samples; 0 if it cannot be asked."""
        return 0 if dispatch.kernels is None or self._one_row() is None else dispatch.kernels.MOST_MODELS

    @staticmethod
    def together(objectives: Sequence[BinomialObjective], at: Sequence[Vector]) -> list[tuple[float, Vector]]:
        """Return what `value_and_grad` of each does, to the bit: of some that `weighing` has made of one objective."""
        one, found = objectives[0], []
        most = one.models_per_read
        for start in range(0, len(objectives), most):
            some = objectives[start : start + most]
            points = [steady(one.parameters.vector(w)) for w in at[start : start + most]]
            way = one._one_row(models=len(some))
            assert way is not None
            functions = [each.borrow() for each in some]
            asked = together(functions, way, [(w, each.l2_of_a_pass) for w, each in zip(points, some, strict=True)])
            for each, function, w, (value, grad) in zip(some, functions, points, asked, strict=True):
                each.give_back(function)
                found.append(each._with_penalty(w, value, grad))
        return found

    @cached_property
    def _centre(self) -> Centre | None:
        """The shifts and scales with which the Hessian is summed in float32; None if it is summed in double."""
        if self.dtype != np.float32 or self._rows.stored is not None:
            return None
        if self.N < CENTRED_SAMPLES or self.D > CENTRED_FEATURES:
            return None
        some = Rows(self._rows.X[:: max(1, self.N // LOOK)])
        centre = Centre(some.X)
        if not centre.in_range or self._centred_hessian(centre, some, np.zeros(self.size)) is None:
            return None
        return centre

    def _centred_hessian(self, centre: Centre, rows: Rows, w: Vector) -> Vector | None:
        """Return the Hessian of the loss from sums in float32, or None if they are not accurate enough."""
        assert dispatch.kernels is not None
        D, intercept, G = self.D, self.parameters.intercept, np.empty((self.D + 1, self.D + 1))
        model = centre.coefficients(w[:D], float(w[D]) if intercept else 0.0)
        asked = dispatch.kernels.Hessian(*model, G, self.m, np.stack([centre.shift, centre.scale]))
        run(asked, centred_plan(len(rows), D, dispatch.isa), rows, self.n_threads)
        return centre.hessian(G, intercept)

    def _whole_hessian(self, w: Vector) -> Vector:
        """Return the Hessian of the loss: from sums in float32 if they are accurate enough, else in double."""
        centre = self._centre
        H = None if centre is None else self._centred_hessian(centre, self._curving, w)
        return super()._whole_hessian(w) if H is None else H

    def thinned(self, N: int | None = None) -> Self | None:
        """Return the objective of fewer samples, whose Hessian may replace this one's; None if that saves little.

        Only its Hessian is used. The results of a fit do not depend on it, since the gradient of all samples decides
        where a fit ends. `N` is the number of all samples if these are drawn from them.
        """
        enough, N = max(THIN_ROWS * self.size, THIN_LEAST), self.N if N is None else N
        if self.N < enough or N < 4 * enough or N * self.size**2 < THIN_WORK:
            return None
        step = self.N // enough
        some = self._rows[::step]
        some.s = None if some.s is None else some.s.copy()
        if not some.total > 0:
            return None
        other = copy.copy(self)
        vars(other).pop("_centre", None)
        other._rows, other._curving, other.N = some, some.curving(), len(some)
        other.m = some.total * (self.m / self._rows.total)
        return other

    def _modelled(self, W: Array, b: Array | None) -> tuple[Array, Array | None]:
        return (W, b) if self._one_row() is None else (W[1:], None if b is None else b[1:])

    @property
    def _transposing(self) -> bool:
        return self._one_row() is not None


def objective_of(
    rows: Rows,
    parameters: Parameters,
    penalty: Penalty,
    *,
    m: float | None = None,
    n_threads: int | None = None,
    room: npt.NDArray[np.intp] | None = None,
) -> SoftmaxObjective:
    """Return the objective of rows with complete weights, of the class that the layout of the parameters needs."""
    kind = BinomialObjective if parameters.binary else SoftmaxObjective
    return kind.of_rows(rows, parameters, penalty, m=m, n_threads=n_threads, room=room)
