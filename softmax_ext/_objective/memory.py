"""The penalised loss as a function of one flat vector, with its derivatives and what else optimisers ask for.

    f(w) = J(W, b) + l2/2 Σ_kd W_kd²        w = [rows of W one after the other, b]

J and its derivatives are those of softmax_ext/reference.py, computed by the fused pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from .._core import dispatch, threads
from .._core.calls import Prepared
from .._core.plan import hessian_plan, plan
from .._core.run import run
from .._core.sums import class_means, moments
from .._core.vectors import steady
from .._inputs.csr import CSR, is_sparse
from .._inputs.dtypes import native
from .._inputs.rows import Rows
from .._inputs.scalars import check_positive_number
from .._inputs.validation import check_block, check_labels, check_offset, check_problem, count_classes
from ..functional import posteriors
from . import plain
from .constant import at_constant, sums_classes
from .entries import columns_of
from .fisher import POOL, Easing, Fisher, easing
from .function import Evaluation, Function, Kept
from .parameters import Parameters
from .penalty import Penalty
from .rows_space import RowsSpace, space_of
from .scores import SquaredScores
from .support import hessian_among, operations_among

if TYPE_CHECKING:
    from .._core.coordinates import Columns
    from .._core.kernels_baseline import Pass, Plan

__all__ = ["Evaluation", "SoftmaxObjective"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class SoftmaxObjective(SquaredScores):
    r"""Mean softmax cross-entropy with an L2 penalty, as a function of one flat vector of parameters.

    .. math:: f(w) = -\frac{1}{m} \sum_i s_i \sum_k Y_{ik} \log S_{ik} + \frac{l_2}{2} \sum_{kd} W_{kd}^2

    Its minimum is scikit-learn's for ``l2 = 1 / (C m)``, m = Σ s_i. Every method is one pass over X. Every number of
    threads gives the same bits.

    Parameters
    ----------
    X : array_like or scipy.sparse array or matrix, shape (N, D)
        Samples; see `loss_grad`. Not copied: do not change it while the objective is in use.
    y : array_like, shape (N,) or (N, K)
        Labels in 0..K-1, or probabilities. K is the largest label plus one, unless it is given.
    l2 : float >= 0
        Strength of the penalty on W; b is not penalised.
    sample_weight, class_weight : optional
        As in `loss_grad`.
    fit_intercept : bool, default True
        Whether there are intercepts b.
    n_threads : int, optional
        As in `loss_grad`.
    K : int, optional
        Number of classes, if y may lack the last of them.
    m : float, optional
        What sums are divided by instead of Σ s_i, for rows that are a part of the data. With the same m, and without a
        penalty, the values and gradients of all parts add up to those of the whole.
    offset : array_like, shape (N, K), or (N,) for two classes, optional
        Added to the scores, as in `loss_grad`.
    penalty : Penalty, optional
        A penalty instead of `l2`; see `softmax_ext.optim.Penalty`.

    Attributes
    ----------
    N, D, K : int
        The numbers of samples, features and classes.
    size : int
        The number of entries of w: K D, and K more with an intercept.
    dtype : dtype
        The dtype of the computation, float32 or float64. w, gradients and products are float64 in either case.
    m : float
        Σ s_i, or the argument m.

    Raises
    ------
    ValueError, TypeError
        As in `loss_grad`; also if `l2` is negative or not finite, or is given together with `penalty`. The methods
        raise ValueError if w is not a vector of `size` entries.

    Examples
    --------
    Any optimiser that takes a function and its gradient can minimise it:

    >>> import numpy as np
    >>> from scipy.optimize import minimize
    >>> from softmax_ext import SoftmaxObjective
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0], [4.0], [5.0]])
    >>> objective = SoftmaxObjective(X, [0, 0, 1, 1, 2, 2], l2=0.01)
    >>> found = minimize(objective.value_and_grad, np.zeros(objective.size), jac=True, hessp=objective.hessp,
    ...                  method="trust-krylov")
    >>> bool(found.success), bool(abs(objective.value_and_grad(found.x)[1]).max() < 1e-4)
    (True, True)
    """

    in_memory = True  # whether the data are in memory, so that some of the features can be copied
    _binary = False  # whether only class 1 has parameters

    def __init__(
        self,
        X: Any,
        y: npt.ArrayLike,
        *,
        l2: float = 0.0,
        sample_weight: npt.ArrayLike | None = None,
        class_weight: npt.ArrayLike | Mapping[int, float] | str | None = None,
        fit_intercept: bool = True,
        n_threads: int | None = None,
        K: int | None = None,
        m: float | None = None,
        penalty: Penalty | None = None,
        offset: npt.ArrayLike | None = None,
    ) -> None:
        if penalty is None:
            penalty = Penalty(l2)
        elif l2:
            raise TypeError(f"l2 = {l2} is given beside penalty = {penalty}: put it into the penalty")
        K = self._count_classes(y) if K is None else K
        shape = X.shape if is_sparse(X) else np.shape(X)
        start = np.broadcast_to(0.0, (K, shape[1] if len(shape) == 2 else 1))
        given = check_problem(X, y, start, None, sample_weight, class_weight, 0.0)
        Y = given.Y
        if Y is not None:
            check_block(Y, 0)
            Y = native(Y, given.dtype)
        added = self._checked_offset(offset, given.X.shape[0], K)
        added = None if added is None else native(added, given.dtype)
        rows = Rows(given.X, given.y, Y, given.s, offset=added)
        layout = Parameters(K, given.X.shape[1], bool(fit_intercept), self._binary)
        self._begin(rows, given.m, layout, penalty, m, n_threads)

    def _begin(
        self, rows: Rows, total: float, layout: Parameters, penalty: Penalty, m: float | None, n_threads: int | None
    ) -> None:
        """Set the attributes, from rows that have been checked, with the sum of their weights."""
        self.dtype, self.m = rows.dtype, total
        self._rows, self._curving, self._kept = rows, rows.curving(), Kept()
        self._part = 1.0  # Σ s of these samples over m, which is Σ s of all data if these samples are a part of them
        if m is not None:
            self._part, self.m = self.m / check_positive_number(m, "m"), float(m)
        self.N, self.D = rows.X.shape
        self.parameters = layout
        penalty.check(self.D)
        self.penalty = penalty
        self.n_threads = threads.effective(n_threads)

    @classmethod
    def of_rows(
        cls,
        rows: Rows,
        parameters: Parameters,
        penalty: Penalty,
        *,
        m: float | None = None,
        n_threads: int | None = None,
        room: npt.NDArray[np.intp] | None = None,
    ) -> Self:
        """Return the objective of rows with complete weights; `parameters` must have the layout of this class.

        If `room` is given, labels are copied there where possible; see `check_labels`.
        """
        total = rows.total
        if rows.in_place and 0 < total < np.inf:  # what these need of the checks; an objective has labels of its own
            found = cls.__new__(cls)
            labels = check_labels(rows.targets, len(rows), parameters.K, room)
            found._begin(Rows(rows.X, labels, s=rows.s, where=rows.where), total, parameters, penalty, m, n_threads)
            return found
        return cls(
            rows.X,
            rows.targets,
            penalty=penalty,
            sample_weight=rows.s,
            fit_intercept=parameters.intercept,
            n_threads=n_threads,
            K=parameters.K,
            m=m,
            offset=rows.offset,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return the attributes without the arrays of a pass, which copies and other processes make again."""
        return vars(self) | {"_kept": Kept()}

    def _count_classes(self, y: npt.ArrayLike) -> int:
        """Return the number of classes that targets imply."""
        return count_classes(y)

    def _checked_offset(self, offset: Any, N: int, K: int) -> Array | None:
        """Return the offsets in the shape in which this class keeps them."""
        return check_offset(offset, N, K)

    @property
    def K(self) -> int:
        """The number of classes."""
        return self.parameters.K

    @property
    def rows(self) -> range:
        """The classes that have parameters in w."""
        return self.parameters.classes

    @property
    def size(self) -> int:
        """The number of entries of w."""
        return self.parameters.size

    @property
    def fit_intercept(self) -> bool:
        """Whether w has intercepts."""
        return self.parameters.intercept

    @property
    def l2(self) -> float:
        """The strength of the L2 penalty."""
        return self.penalty.l2

    @l2.setter
    def l2(self, l2: float) -> None:
        """Replace the penalty by one of this strength."""
        self.penalty = self.penalty.with_strengths(l2, self.penalty.l1)

    def value(self, w: npt.ArrayLike) -> float:
        """Return f(w), by a pass that does not compute the gradient."""
        w = self.parameters.vector(w)
        W, b = self.parameters.split(w, self.dtype)
        return self._loss(W, b, None) + self._penalty_at(w)

    def value_and_grad(self, w: npt.ArrayLike) -> tuple[float, Vector]:
        """Return f(w) and its gradient, (size,) float64."""
        w, penalty = steady(self.parameters.vector(w)), self.penalty
        if dispatch.kernels is None:
            value, grad = plain.value_and_grad(self._rows, self.parameters, w, self._part)
            penalty.add_gradient(self.parameters.weights(w), self.parameters.weights(grad))
            return value + self._penalty_at(w), grad
        function = self.borrow()
        asked = function(w, self.l2_of_a_pass)
        self.give_back(function)
        return self._with_penalty(w, *asked)

    def borrow(self) -> Function:
        """Return the loss and its gradient as a function that nobody else gets until it is given back."""
        return self._kept.take(self.n_threads, self._function)

    def give_back(self, function: Function) -> None:
        """Keep a function for whoever asks next."""
        self._kept.give(self.n_threads, function)

    @property
    def lends(self) -> bool:
        """Whether the function of `borrow` is all there is to this objective, and one call of a kernel computes it.

        A subclass may have a `value_and_grad` of its own.
        """
        own = type(self).value_and_grad is not _VALUE_AND_GRAD
        if own or self.penalty.l1 or not self.penalty.uniform or dispatch.kernels is None:
            return False
        function = self.borrow()
        self.give_back(function)
        return function.at_once

    @property
    def l2_of_a_pass(self) -> float:
        """The strength of the penalty that a pass adds."""
        return self.penalty.l2 if self.penalty.uniform else 0.0

    def _with_penalty(self, w: Vector, value: float, grad: Vector) -> tuple[float, Vector]:
        """Add what a pass does not."""
        penalty, weights = self.penalty, self.parameters.weights
        if penalty.uniform:
            return value + penalty.l1_part(weights(w)) if penalty.l1 else value, grad
        penalty.add_gradient(weights(w), weights(grad))
        return value + self._penalty_at(w), grad

    def at_constant(self, w: Vector) -> tuple[float, Vector]:
        """Return f(w) and its gradient, (size,) float64, for a w whose weights are 0, such as the start of a fit."""
        if not self.sums_classes:
            return self.value_and_grad(w)
        return at_constant(w, self.parameters, *self._class_means)

    @cached_property
    def _class_means(self) -> tuple[Vector, Vector]:
        """What `class_means` returns; it is kept, since a fit needs it where it begins and for its duality gap.

        Moments of the same rows, which the preconditioner needs, come from the same read of X.
        """
        X, together = self._some, np.zeros((2, self.D))
        alone = "_moments" in vars(self) or isinstance(X, CSR) or len(X) < self.N
        found = class_means(self._rows, self.K, self.m, self.n_threads, None if alone else together)
        if not alone:
            vars(self)["_moments"] = together / self.N
        return found

    def class_sums(self) -> Vector:
        """Return what `class_means` does as one vector of K + K D entries."""
        shares, means = self._class_means
        return np.append(shares, means)

    @property
    def sums_classes(self) -> bool:
        """Whether `at_constant` adds up the samples of each class, instead of a pass."""
        return sums_classes(self._rows, self.parameters, self.flops)

    def _function(self) -> Function:
        """Return the loss and its gradient as a function that keeps the arrays of its pass."""
        way, doubles = self._plan(False), self._transposing
        return Function(self._rows, self.parameters, way, self.m, n_threads=self.n_threads, doubles=doubles)

    def hessp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> Vector:
        """Return the Hessian at w times v, (size,) float64, by one pass with three matrix products."""
        parameters = self.parameters
        w, v = parameters.vector(w), parameters.vector(v)
        if self._transposing:
            return self._transposed(w, v)
        W, b = parameters.split(w, self.dtype)
        V, c = parameters.split(v, self.dtype)
        dV, dc = np.empty_like(W), None if b is None else np.empty_like(b)
        if dispatch.kernels is None:
            dV, dc = plain.hessian_product(self._rows, W, b, V, c, self._part)
        else:
            self._run(dispatch.kernels.HessianProduct(W, b, V, c, dV, dc, self.m), hessian=True)
        product = parameters.gradient(dV, None if b is None else dc)
        self.penalty.add_product(parameters.weights(v), parameters.weights(product))
        return product

    def hessian(self, w: npt.ArrayLike) -> Vector:
        """Return the Hessian at w, (size, size) float64. It is meant for few parameters.

        It takes one pass of N size² operations; if X is sparse, each row takes the square of its entries, so that some
        thousand parameters may be few. Sums are in double whatever X is, except for two classes and many samples in
        float32: those are summed in float32 if that changes a step of Newton's method little.
        """
        w = self.parameters.vector(w)
        H = self._plain_hessian(w) if dispatch.kernels is None else self._whole_hessian(steady(w))
        self.penalty.add_hessian(self.parameters, H)
        return H

    def _plain_hessian(self, w: Vector) -> Vector:
        """Return the Hessian of the loss from the reference."""
        S = self._posterior(self._rows, *self.parameters.split(w, self.dtype))
        return plain.hessian(self._curving, self.parameters, S, self.m)

    def _whole_hessian(self, w: Vector) -> Vector:
        """Return the Hessian of the loss, without the penalty."""
        parameters, H = self.parameters, np.empty((self.size, self.size))
        shape, nnz = (self.N, self.D, self.K, self.dtype.itemsize, dispatch.isa), self._rows.stored
        way = hessian_plan(*shape, intercept=parameters.intercept, binary=parameters.binary, nnz=nnz)
        assert dispatch.kernels is not None
        run(dispatch.kernels.Hessian(*parameters.views(w), H, self.m), way, self._curving, self.n_threads)
        return H

    def hessian_among(self, w: Vector, kept: npt.NDArray[np.intp], rows: int) -> Vector:
        """Return the Hessian at w by the kept parameters alone, summed from about `rows` of the samples; see `Support`.

        It includes the penalty.
        """
        return self.penalty.add_diagonal(self.parameters, self.among(w, self.parameters, kept, rows), kept)

    def operations_among(self, kept: npt.NDArray[np.intp]) -> float:
        """Return about how many operations each sample takes in `hessian_among`."""
        return operations_among(self._rows.X, self.parameters, kept)

    def among(
        self, w: Vector, parameters: Parameters, kept: npt.NDArray[np.intp], rows: int, moments: Vector | None = None
    ) -> Vector:
        """Return the Hessian of the loss at w by the kept of `parameters`, from about `rows` of the samples.

        `parameters` is the layout for features that are moved and scaled by `moments` (2, D); w is for the features
        as they are.
        """
        step = slice(None, None, max(1, self.N // rows))
        some = self._curving[step]
        S = self._posterior(some, *self.parameters.split(w, self.dtype))
        H = hessian_among(some, S, parameters, kept, moments=moments, n_threads=self.n_threads)
        H /= float(self._rows.weights()[step].sum())
        return H

    @cached_property
    def columns(self) -> Columns | None:
        """The entries of sparse samples feature by feature, which are copied; None for arrays."""
        return columns_of(self._curving, self.m)

    def posterior(self, w: Vector) -> Array:
        """Return the posterior of all samples at w for the classes that have parameters, (N, count)."""
        return self._posterior(self._curving, *self.parameters.split(w, self.dtype))

    def evaluate(self, w: npt.ArrayLike) -> Evaluation:
        """Return f(w), each sample's loss and the accuracy, from one pass."""
        w = self.parameters.vector(w)
        W, b = self.parameters.split(w, self.dtype)
        losses = np.empty((self.N, 2))
        loss = self._loss(W, b, losses)
        accuracy = float("nan")
        if self._rows.y is not None:  # losses[:, 1] is by how much the label's score is below the highest
            accuracy = float(np.average(losses[:, 1] == 0, weights=self._rows.s))
        return Evaluation(loss + self._penalty_at(w), losses[:, 0].copy(), accuracy)

    def _loss(self, W: Array, b: Array | None, losses: Array | None) -> float:
        """Return the loss without the penalty.

        If `losses` (N, 2) is given, write to it each sample's loss, and by how much its label's score is below the
        highest.
        """
        if dispatch.kernels is None:
            return plain.loss(self._rows, W, b, losses) * self._part
        W, b = self._modelled(W, b)
        return self._run(dispatch.kernels.LossGrad(W, b, None, None, self.m, losses=losses))

    def _run(self, asked: Pass, *, hessian: bool = False) -> float:
        """Run a pass over all samples, with the weights that the loss has or, if `hessian`, those of the Hessian."""
        rows = self._curving if hessian else self._rows
        return run(asked, self._plan(hessian), rows, self.n_threads)

    def _plan(self, second: bool) -> Plan:
        """Return the plan of a pass over all samples; `second` as in `plan`."""
        rows, shape = self._rows, (self.N, self.D, self.K)
        options = {"second": second, "copied": rows.narrow, "nnz": rows.stored}
        return plan(*shape, self.dtype.itemsize, dispatch.isa, **options)

    def _modelled(self, W: Array, b: Array | None) -> tuple[Array, Array | None]:
        """Return the rows of W (K, D) and b (K,) that a pass reads."""
        return W, b

    @property
    def _transposing(self) -> bool:
        """Whether a pass reads w and writes the gradient in double, since it transposes W and dW in any case."""
        return isinstance(self._rows.X, CSR) and dispatch.kernels is not None

    def _transposed(self, w: Array, v: Array) -> Vector:
        """Return the penalised Hessian at w times v, by a pass that reads and writes doubles."""
        assert dispatch.kernels is not None
        w, v = steady(w), steady(v)
        views, product = self.parameters.views, np.empty(self.size)
        l2 = self.penalty.l2 if self.penalty.uniform else 0.0  # a pass can add a penalty without factors by feature
        asked = dispatch.kernels.HessianProduct(*views(w), *views(v), *views(product), self.m, l2)
        self._run(asked, hessian=True)
        if not self.penalty.uniform:
            self.penalty.add_product(self.parameters.weights(v), self.parameters.weights(product))
        return product

    def _penalty_at(self, w: Array) -> float:
        """Return the penalty's value at w."""
        return self.penalty.value(self.parameters.weights(w), self.n_threads)

    def _posterior(self, rows: Rows, W: Array, b: Array | None) -> Array:
        """Return the posterior of some samples for the classes that have parameters, (n, count)."""
        classes = self.parameters.classes
        S = posteriors(Rows(rows.X, offset=rows.offset), W, b, self.n_threads)
        return S[:, classes.start : classes.stop]

    @cached_property
    def mean_squares(self) -> Vector:
        """The mean of each feature's square over some thousand rows, or all if X is sparse, (each,).

        The last entry, for the intercept if there is one, is 1.
        """
        means = np.empty(self.parameters.each)
        means[: self.D], means[self.D :] = self._moments[1], 1
        return means

    @property
    def means(self) -> Vector:
        """The mean of each feature over the same rows as in `mean_squares`, (D,)."""
        means: Vector = self._moments[0]
        return means

    @cached_property
    def _moments(self) -> Vector:
        """The means of the features and of their squares over the rows of `_some`, (2, D)."""
        X = self._some
        return moments(X, self.n_threads) / len(X)

    @property
    def _some(self) -> Any:
        """Some thousand rows of X; all rows if X is sparse, since a feature may have few entries."""
        X = self._rows.X
        return X if isinstance(X, CSR) or self.N < 8192 else X[:: self.N // 4096]

    def of_features(self, which: npt.NDArray[np.intp]) -> Self:
        """Return the objective by the weights of some features, as if the others were 0; the features are copied."""
        other = copy.copy(self)
        X = self._rows.X
        other._rows = replace(
            self._rows, X=X.columns(which) if isinstance(X, CSR) else np.ascontiguousarray(X[:, which])
        )
        other._curving = other._rows.curving()
        other.D, layout = len(which), self.parameters
        other.parameters = Parameters(layout.K, other.D, layout.intercept, layout.binary)
        other.penalty = self.penalty.of_features(which)
        # These are cached for all features.
        for name in ("mean_squares", "_moments", "_class_means", "_space", "_centre", "columns"):
            other.__dict__.pop(name, None)
        return other

    def weighing(self, s: Vector, n_threads: int | None = None, m: float | None = None) -> Self:
        """Return the objective of the same rows with other complete weights (N,), in which 0 leaves a row out.

        No data are copied, and the weights are not checked. With m they are a part of the data, as for the class.
        """
        other = copy.copy(self)
        other._rows = replace(self._rows, s=s)
        other._curving = other._rows.curving()
        other.m, other._part = (other._rows.total, 1.0) if m is None else (m, other._rows.total / m)
        for name in ("_class_means", "columns"):  # cached for the weights before
            other.__dict__.pop(name, None)
        other.n_threads = self.n_threads if n_threads is None else n_threads
        return other

    @property
    def offset(self) -> Array | None:
        """The offsets of the scores; None without offsets."""
        return self._rows.offset

    def unmoved(self, w: npt.ArrayLike) -> tuple[float, Vector]:
        """Return f(w) and its gradient for the same data without offsets."""
        other = copy.copy(self)
        other._rows = replace(self._rows, offset=None)
        return other.value_and_grad(w)

    def offset_moments(self) -> Vector:
        """Return `Rows.offset_moments` of all samples, divided by m."""
        return self._rows.offset_moments(self.K) / self.m

    @property
    def available(self) -> int:
        """The number of samples that matrices can be summed from, which is N here."""
        return int(self.N)

    @property
    def flops(self) -> int:
        """About the number of floating-point operations in a pass: those of its two matrix products."""
        stored = self._rows.stored
        return 4 * self.K * (self.N * self.D if stored is None else stored)

    def spanning(self) -> Prepared[None] | None:
        """Return the call that finds the space of the samples, before `in_rows_space` asks for it.

        It is None if that is known already, or if a fit there is not faster.
        """
        if "_space" in vars(self) or not self.penalty.uniform:
            return None
        prepared = space_of(self._rows, self.parameters, self.n_threads)
        if prepared is None:
            self._space: RowsSpace | None = None
            return None
        return prepared.then(partial(setattr, self, "_space"))

    def in_rows_space(self) -> tuple[RowsSpace, SoftmaxObjective] | None:
        """Return the space of the samples and the same objective in it, or None if that is not faster.

        The objective has at most as many features as samples; see `RowsSpace`. The space is kept, but not by
        `cached_property`, whose lock, up to Python 3.11, all objects share: a thread that computes the space leaves its
        turn to another one, which would wait for the lock.
        """
        if (prepared := self.spanning()) is not None:
            prepared.run()
        space, rows = self._space if self.penalty.uniform else None, self._rows
        if space is None:
            return None
        narrow = Rows(space.Z, rows.y, rows.Y, rows.s, offset=rows.offset)
        if not narrow.in_place:
            return space, self.of_rows(narrow, space.narrow, self.penalty, m=self.m, n_threads=self.n_threads)
        found = object.__new__(type(self))  # labels that have been checked are not checked again
        found._begin(narrow, narrow.total, space.narrow, self.penalty, None, self.n_threads)
        found.m, found._part = self.m, self._part
        return space, found

    def easing(self, N: int | None = None) -> Easing | None:
        """Return the extra penalty with which a fit should begin, or None; N if these rows are a sample of N."""
        return easing(self.parameters, self.penalty, self.mean_squares, self.N if N is None else N)

    def preconditioner(self, w: Vector, extra: Vector | None = None, *, diagonal: bool = False) -> Fisher:
        """Return the preconditioner at w, which multiplies vectors by an approximate inverse of the Hessian.

        `extra` is the diagonal of a penalty besides the objective's own, and `diagonal` asks for the blocks' diagonals
        alone. `fisher.py` has the mathematics.
        """
        layout, penalty, squares = self.parameters, self.penalty, self.mean_squares
        return self.fisher(w, layout, penalty, extra, mean_squares=squares, means=lambda: self.means, diagonal=diagonal)

    def curvature(self, w: Vector) -> Fisher:
        """Return the matrices that `preconditioner` inverts, without its damping."""
        return self.fisher(w, self.parameters, self.penalty, None, mean_squares=self.mean_squares, whole=True)

    def fisher(
        self,
        v: Vector,
        parameters: Parameters,
        penalty: Penalty,
        extra: Vector | None,
        *,
        mean_squares: Vector,
        raw: Callable[[Vector], Vector] | None = None,
        standard: tuple[Vector, Vector] | None = None,
        whole: bool = False,
        means: Callable[[], Vector] | None = None,
        diagonal: bool = False,
    ) -> Fisher:
        """Return the preconditioner for parameters v, which `raw` converts to those of this objective; see `Scaling`.

        The other arguments are those of `Fisher`.
        """
        step, rows, s = max(1, self.N // POOL), self._curving, self._rows.s

        def posterior(rows: Rows, v: Vector) -> Array:
            """Return the posterior of some samples for the parameters v."""
            w = v if raw is None else raw(v)
            return self._posterior(rows, *self.parameters.split(w, self.dtype))

        return Fisher(
            v,
            rows if step == 1 else rows[::step],
            float(-(-self.N // step) if s is None else s[::step].sum()),
            parameters,
            penalty,
            mean_squares=mean_squares,
            posterior=posterior,
            passes_over=self.N,
            n_threads=self.n_threads,
            extra=extra,
            standard=standard,
            whole=whole,
            means=means,
            diagonal=diagonal,
        )


_VALUE_AND_GRAD = SoftmaxObjective.value_and_grad
