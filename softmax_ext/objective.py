"""The penalised loss as a function of one flat vector, with all that an optimiser asks for.

    f(w) = J(W, b) + l2/2 Σ_kd W_kd²        w = [W, row after row; b]

J and its derivatives are those of softmax_ext/reference.py, computed by the fused pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from . import _dispatch, _threads, _workspace, reference
from ._fisher import Fisher
from ._plan import Plan, Visit, plan
from ._sparse import CSR, is_sparse
from ._validation import (
    check_block,
    check_nonnegative_number,
    check_positive_number,
    check_problem,
    count_classes,
    native,
)
from ._vectors import dots
from .functional import ALL, KIND, parts, predict_proba, stored

__all__ = ["BinomialObjective", "Evaluation", "SoftmaxObjective"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

MiB = 2**20


class Evaluation(NamedTuple):
    """What one pass without a gradient tells."""

    value: float  # f(w)
    losses: Vector  # (N,): each sample's own -Σ_k Y_ik log S_ik, without weight and penalty
    accuracy: float  # weighted part of the samples whose label has the highest score; nan for probability targets


class SoftmaxObjective:
    r"""Mean softmax cross-entropy with an L2 penalty, as a function of one flat vector of parameters.

    .. math:: f(w) = -\frac{1}{m} \sum_i s_i \sum_k Y_{ik} \log S_{ik} + \frac{l_2}{2} \sum_{kd} W_{kd}^2

    Its minimum is scikit-learn's for ``l2 = 1 / (C m)``, m = Σ s_i. Every method is one pass over X; all numbers of
    threads give the same bits.

    Parameters
    ----------
    X : array_like or scipy.sparse array or matrix, shape (N, D)
        Samples; see `loss_grad`. Not copied: do not change it while the objective is in use.
    y : array_like, shape (N,) or (N, K)
        Labels in 0..K-1, of which the largest tells K, or probabilities.
    l2 : float >= 0
        Penalty on W; b is free.
    sample_weight, class_weight : optional
        As in `loss_grad`.
    fit_intercept : bool, default True
        Whether there is b.
    n_threads : int, optional
        As in `loss_grad`.
    K : int, optional
        Number of classes, where y may lack the last of them.
    m : float, optional
        What sums are divided by, in the place of Σ s_i: for rows that are a part of the data. With the same m, and
        without penalty, the parts' values and gradients add up to those of the whole.

    Attributes
    ----------
    N, D, K : int
        Samples, features, classes.
    size : int
        Entries of w: K D, and K more with an intercept.
    dtype : dtype
        float32 or float64: what X computes in. w, gradients and products are float64 all the same.
    m : float
        Σ s_i, or what was given.

    Raises
    ------
    ValueError, TypeError
        As `loss_grad`; if `l2` is negative or not finite; from the methods, if w is not a vector of `size` entries.

    Examples
    --------
    With any optimiser that wants a function and its gradient:

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
    ) -> None:
        self.K = self._count_classes(y) if K is None else K
        shape = X.shape if is_sparse(X) else np.shape(X)
        start = np.broadcast_to(0.0, (self.K, shape[1] if len(shape) == 2 else 1))
        given = check_problem(X, y, start, None, sample_weight, class_weight, 0.0)
        self._X: Any = given.X
        self.dtype, self._y, self._s, self.m = given.dtype, given.y, given.s, given.m
        self._curving = given.s  # what the samples weigh in the Hessian, or None for 1
        self._Y: Array | None = None
        if given.Y is not None:
            check_block(given.Y, 0)
            self._Y = native(given.Y, self.dtype)
            # Of R = S Σ_k Y_ik - Y the Hessian has the first term: rows of targets weigh what they sum to.
            mass = self._Y.sum(axis=1, dtype=np.float64)
            self._curving = mass if self._s is None else self._s * mass
        self._part = 1.0  # what these samples are of the whole
        if m is not None:
            self._part, self.m = self.m / check_positive_number(m, "m"), float(m)
        self.N, self.D = given.X.shape
        self.l2 = check_nonnegative_number(l2, "l2")
        self.fit_intercept = bool(fit_intercept)
        self.n_threads = _threads.effective(n_threads)

    def _count_classes(self, y: npt.ArrayLike) -> int:
        return count_classes(y)

    @property
    def rows(self) -> range:
        """The classes whose parameters w holds."""
        return range(self.K)

    @property
    def size(self) -> int:
        """Entries of w."""
        return int(len(self.rows) * (self.D + self.fit_intercept))

    def value(self, w: npt.ArrayLike) -> float:
        """Return f(w), by a pass without the gradient's product."""
        W, b = self._parameters(w)
        return self._loss(W, b, None) + self._penalty(w)

    def value_and_grad(self, w: npt.ArrayLike) -> tuple[float, Vector]:
        """Return f(w) and its gradient, (size,) float64."""
        if self._transposing:
            loss, grad = self._transposed(w, None)
            return loss + self._penalty(w), grad
        W, b = self._parameters(w)
        loss, dW, db = 0.0, np.empty_like(W), None if b is None else np.empty_like(b)
        if _dispatch.kernels is None:
            loss, dW, db = reference.loss_grad(self._X, self._target, W, b, sample_weight=self._s)
            loss, dW, db = loss * self._part, dW * self._part, None if db is None else db * self._part
        else:
            run, way = _dispatch.kernels.loss_grad[KIND[self.dtype]], self._plan()
            for visit, X, Y, _, y, s, space in self._visits(way):
                loss = run(X, y, Y, s, 0.0, W, b, way, visit, *space, dW, db, self.m, self._team(way))
        grad = self._flat(dW, db)
        self._penalise(grad, w)
        return loss + self._penalty(w), grad

    def hessp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> Vector:
        """Return the Hessian at w times v, (size,) float64, by one pass of three products."""
        if self._transposing:
            return self._transposed(w, v)[1]
        W, b = self._parameters(w)
        V, c = self._parameters(v)
        dV, dc = np.empty_like(W), None if b is None else np.empty_like(b)
        if _dispatch.kernels is None:
            X = reference.float64(self._X)
            zeros = np.zeros(self.K)
            S = reference.softmax(reference.scores(X, W, b))
            mass = np.ones(self.N) if self._Y is None else self._Y.sum(axis=1, dtype=np.float64)
            dV, dc = reference.hessian_product(X, S, V, zeros if c is None else c, self._weights(), mass)
            dV, dc = dV * self._part, dc * self._part
        else:
            run, way = _dispatch.kernels.hessp[KIND[self.dtype]], self._plan(hessian=True)
            for visit, X, _, rows, _, _, space in self._visits(way):
                s = self._curving if self._curving is None or rows is ALL else self._curving[rows]
                run(X, s, W, b, V, c, way, visit, *space, dV, dc, self.m, self._team(way))
        product = self._flat(dV, dc)
        self._penalise(product, v)
        return product

    def hessian(self, w: npt.ArrayLike) -> Vector:
        """Return the Hessian at w, (size, size) float64: for few parameters, since it costs N size² operations."""
        W, b = self._parameters(w)
        rows, P = self.rows, self.D + self.fit_intercept
        H = self._hessian_sum(W, b)
        H /= self.m
        order = np.arange(len(rows) * P).reshape(len(rows), P)
        order = np.concatenate([order[:, : self.D].ravel(), order[:, self.D :].ravel()])
        matrix: Vector = H[np.ix_(order, order)]
        penalised = np.arange(len(rows) * self.D)
        matrix[penalised, penalised] += self.l2
        return matrix

    def _hessian_sum(self, W: Array, b: Array | None) -> Vector:
        """Return m times the unpenalised Hessian, a class's parameters together: a sum over fixed slices of the rows.

        Not by BLAS, whose sums may depend on its own number of threads.
        """
        rows, P, kernels = self.rows, self.D + self.fit_intercept, _dispatch.kernels
        Q, s = len(rows) * P, self._weights() if self._curving is None else self._curving
        at_once = max(1, MiB // P)
        H, slices = np.zeros((Q, Q)), 16 if min(self.N, at_once) * Q * Q >= 2**22 else 1
        if kernels is not None:
            ld, work = kernels.hessian_sizes(P, len(rows))
            n_threads = min(self.n_threads, slices)
            sums, space = np.zeros((slices, Q, ld)), np.empty(n_threads * work)
        for start in range(0, self.N, at_once):
            part = slice(start, start + at_once)
            X, S = self._augmented(part), self._probabilities(self._X[part], W, b)[:, rows.start : rows.stop]
            if kernels is None:
                H += reference.hessian(X, S, s[part]).reshape(Q, Q) * s[part].sum()
            else:
                kernels.hessian(X, S.astype(np.float64, order="C"), s[part], sums, space, n_threads)
        if kernels is not None:
            for each in sums:
                H += each[:, :Q]  # its upper triangle
            H = np.triu(H) + np.triu(H, 1).T
        return H

    def evaluate(self, w: npt.ArrayLike) -> Evaluation:
        """Return f(w), each sample's loss and the accuracy, from one pass."""
        W, b = self._parameters(w)
        losses = np.empty((self.N, 2))
        loss = self._loss(W, b, losses)
        accuracy = float("nan")
        if self._y is not None:  # the label's score is no less than the highest
            accuracy = float(np.average(losses[:, 1] == 0, weights=self._s))
        return Evaluation(loss + self._penalty(w), losses[:, 0].copy(), accuracy)

    def _loss(self, W: Array, b: Array | None, losses: Array | None) -> float:
        if _dispatch.kernels is None:
            Z = reference.scores(reference.float64(self._X), W, b)
            if losses is not None:
                losses[:, 0] = reference.losses(Z, self._target)
                losses[:, 1] = 0 if self._y is None else Z.max(axis=1) - Z[np.arange(self.N), self._y]
            return reference.loss(Z, self._target, self._s) * self._part
        run, way, loss = _dispatch.kernels.loss_grad[KIND[self.dtype]], self._plan(), 0.0
        for visit, X, Y, rows, y, s, space in self._visits(way):
            each = None if losses is None else losses[rows]
            loss = run(X, y, Y, s, 0.0, W, b, way, visit, *space, None, None, self.m, self._team(way), each)
        return loss

    @property
    def _target(self) -> Array:
        return self._y if self._Y is None else self._Y  # type: ignore[return-value]

    def _weights(self) -> Vector:
        return np.ones(self.N) if self._s is None else self._s

    def _plan(self, *, hessian: bool = False) -> Plan:
        return plan(self.N, self.D, self.K, self.dtype.itemsize, _dispatch.isa, second=hessian, nnz=stored(self._X))

    def _team(self, way: Plan) -> int:
        return min(self.n_threads, way.slices or self.n_threads) if way.parallel else 1

    def _visits(
        self, way: Plan
    ) -> Iterator[tuple[Visit, Array | CSR, Array | None, slice, Array | None, Vector | None, _workspace.Space]]:
        """Yield the kernel's calls, each with its rows of all that the objective holds, and work space."""
        space = _workspace.take(way.shared + self._team(way) * way.work, self.dtype, way.sums)
        try:
            for visit, X, Y, rows in parts(way, self._X, self._Y, self.dtype, checked=True):
                whole = rows is ALL
                y = self._y if self._y is None or whole else self._y[rows]
                s = self._s if self._s is None or whole else self._s[rows]
                yield visit, X, Y, rows, y, s, space
        finally:
            _workspace.give(space)

    def _vector(self, w: npt.ArrayLike) -> Array:
        w = np.asarray(w)
        if w.shape != (self.size,):
            raise ValueError(
                f"w must be a vector of K D{' + K' * self.fit_intercept} = {self.size} entries, got {w.shape}"
            )
        return w

    @property
    def _transposing(self) -> bool:
        """Whether the pass transposes W and dW anyway, and so can take w and leave the gradient itself."""
        return isinstance(self._X, CSR) and len(self.rows) == self.K and _dispatch.kernels is not None

    def _transposed(self, w: npt.ArrayLike, v: npt.ArrayLike | None) -> tuple[float, Vector]:
        """Return the loss and the penalised gradient at w; or 0 and the penalised Hessian times v."""
        assert _dispatch.kernels is not None
        w = np.require(self._vector(w), np.float64, ["C", "A"])  # a message may hold it at any address, as Dask's do
        v = None if v is None else np.require(self._vector(v), np.float64, ["C", "A"])
        grad, loss, way = np.empty(self.size), 0.0, self._plan(hessian=v is not None)
        run, l2, m, K = _dispatch.kernels.sparse_grad[KIND[self.dtype]], self.l2, self.m, self.K
        for visit, X, Y, rows, y, s, space in self._visits(way):
            if v is not None:
                y, Y, s = None, None, self._curving if self._curving is None else self._curving[rows]
            loss = run(X, y, Y, s, w, v, K, l2, way, visit, *space, grad, m, self._team(way))
        return loss, grad

    def _parameters(self, w: npt.ArrayLike) -> tuple[Array, Array | None]:
        """Return W (K, D) and b (K,), in the dtype of the pass."""
        w = self._vector(w)
        split = len(self.rows) * self.D
        with np.errstate(over="ignore"):
            W = w[:split].reshape(-1, self.D).astype(self.dtype)
            b = w[split:].astype(self.dtype) if self.fit_intercept else None
        return W, b

    def _flat(self, dW: Array, db: Array | None) -> Vector:
        pieces = [dW.ravel()] if db is None else [dW.ravel(), db]
        return np.concatenate(pieces, dtype=np.float64)

    def _penalty(self, w: npt.ArrayLike) -> float:
        if not self.l2:
            return 0.0
        W = np.require(np.asarray(w)[: len(self.rows) * self.D], np.float64, ["C", "A"])
        return 0.5 * self.l2 * float(dots(W[np.newaxis], W, n_threads=self.n_threads)[0])

    def _penalise(self, grad: Vector, w: npt.ArrayLike) -> None:
        if self.l2:
            split = len(self.rows) * self.D
            grad[:split] += self.l2 * np.asarray(w)[:split]

    def _augmented(self, rows: slice) -> Vector:
        """Return some rows of X, with a column of ones where there is an intercept."""
        X = self._X[rows]
        augmented = np.empty((len(X), self.D + self.fit_intercept))
        augmented[:, : self.D] = X.scipy(np.float64).toarray() if isinstance(X, CSR) else X
        augmented[:, self.D :] = 1
        return augmented

    def _probabilities(self, X: Array | CSR, W: Array, b: Array | None) -> Array:
        return predict_proba(X, W, b, n_threads=self.n_threads)

    @cached_property
    def mean_squares(self) -> Vector:
        """The mean of each feature's square, over some thousand rows; 1 for the intercept."""
        X = self._augmented(slice(None, None, max(1, self.N // 4096)))
        means: Vector = np.einsum("ij,ij->j", X, X) / len(X)
        return means

    def preconditioner(self, w: Vector) -> Fisher:
        """Return what multiplies a vector by an approximate inverse of the Hessian at w; see softmax_ext/_fisher.py."""
        return Fisher(self, w)


class BinomialObjective(SoftmaxObjective):
    """`SoftmaxObjective` of two classes, parametrised as in scikit-learn: w is class 1's row, class 0's is zero."""

    def _count_classes(self, y: npt.ArrayLike) -> int:
        return 2

    @property
    def rows(self) -> range:
        """Only class 1 has parameters."""
        return range(1, 2)

    def _parameters(self, w: npt.ArrayLike) -> tuple[Array, Array | None]:
        W, b = super()._parameters(w)
        return np.vstack([np.zeros_like(W), W]), None if b is None else np.concatenate([np.zeros_like(b), b])

    def _flat(self, dW: Array, db: Array | None) -> Vector:
        return super()._flat(dW[1:], None if db is None else db[1:])
