"""`logistic_regression_path`: the fits along a grid of penalties, and `Path`, what they found."""

from __future__ import annotations

from contextlib import ExitStack
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from .._observers import FitObserver, fits_progress
from .._parameters import Parameters
from .._penalty import Penalty
from .._training_data import check_data
from ..chunks import Chunks
from ..objective import SoftmaxObjective, objective_of
from ._displays import PathDisplay
from ._grid import check_values_of_C
from ._trail import Trail

__all__ = ["Path", "logistic_regression_path"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# A grid begins at the C whose fit explains, to first order, this part of the deviance. It ends where the penalty is
# this part of the loss's mean curvature at W = 0, and only directions in which samples hardly differ still feel it.
EXPLAINED, NEGLIGIBLE = 1e-3, 1e-6


class _Fields(NamedTuple):
    Cs: Vector
    coefs: Array
    intercepts: Array
    objectives: Vector
    n_iters: npt.NDArray[np.int32]
    gaps: Vector


class Path(_Fields):
    """Models along a grid of penalties, in the order of `Cs` as given: what `logistic_regression_path` returns.

    It is a tuple of its first six attributes, and shows itself as a table, also in a notebook.

    Attributes
    ----------
    Cs : ndarray, shape (n,)
        Inverse strengths of the penalty.
    coefs : ndarray, shape (n, K, D), or (n, 1, D) for two classes
        Coefficients, of X's dtype.
    intercepts : ndarray, shape (n, K), or (n, 1)
        Intercepts; zeros without.
    objectives : ndarray, shape (n,)
        Mean cross-entropy (nats) plus penalty, that of `LogisticRegression`.
    n_iters : ndarray of int32, shape (n,)
        Iterations of each fit.
    gaps : ndarray, shape (n,)
        Duality gaps: how far at most each objective lies above its minimum. Infinite without a penalty.
    losses : ndarray, shape (n,)
        Mean cross-entropy alone.
    null_loss : float
        Mean cross-entropy of the intercepts alone; log K without intercepts.
    classes : ndarray, shape (K,)
        The labels, sorted; 0..K-1 for probabilities.
    feature_names : ndarray of str, shape (D,), or None
        Names of X's columns, if X had them.

    See Also
    --------
    PathDisplay : The picture that `plot` draws.
    """

    losses: Vector
    null_loss: float
    classes: Array
    feature_names: Array | None

    @property
    def deviance_explained(self) -> Vector:
        """1 - loss / null_loss of each model, (n,): 0 is that of the intercepts alone, 1 a perfect fit."""
        return 1 - self.losses / self.null_loss

    @property
    def nonzero(self) -> npt.NDArray[np.intp]:
        """How many coefficients of each model are not 0, (n,), of all classes together."""
        count: npt.NDArray[np.intp] = np.count_nonzero(self.coefs, axis=(1, 2))
        return count

    @property
    def degrees_of_freedom(self) -> npt.NDArray[np.intp]:
        """How many features each model uses, (n,): those with a coefficient that is not 0 in any class, as glmnet's."""
        count: npt.NDArray[np.intp] = np.count_nonzero(self.coefs.any(axis=1), axis=1)
        return count

    def plot(self, **keywords: Any) -> Any:
        """Draw the coefficients against C: `PathDisplay.from_path` with the same keywords."""
        return PathDisplay.from_path(self, **keywords)

    def _rows(self) -> list[list[str]]:
        """Return the table: a row for each of up to 24 models, spread evenly."""
        some = np.unique(np.linspace(0, len(self.Cs) - 1, 24).round().astype(int))
        return [
            [
                f"{self.Cs[i]:.3g}",
                f"{self.objectives[i]:.6g}",
                f"{100 * self.deviance_explained[i]:.1f} %",
                str(self.degrees_of_freedom[i]),
                str(self.n_iters[i]),
                f"{self.gaps[i]:.1e}",
            ]
            for i in some
        ]

    def _title(self) -> str:
        K, (n, _, D) = len(self.classes), self.coefs.shape
        return f"Path of {n} models: {D} features, {K} classes, C from {self.Cs.min():.3g} to {self.Cs.max():.3g}"

    def __repr__(self) -> str:
        rows = [list(COLUMNS), *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join([self._title(), *("  ".join(map(str.rjust, row, widths)) for row in rows)])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in COLUMNS)
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in self._rows())
        return f"<p>{self._title()}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


COLUMNS = ("C", "objective", "deviance explained", "features", "iterations", "duality gap")


def logistic_regression_path(
    X: Any,
    y: Any,
    *,
    Cs: int | npt.ArrayLike = 100,
    l1_ratio: float = 0.0,
    grouped: bool = False,
    penalty_weights: npt.ArrayLike | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
    fit_intercept: bool = True,
    class_weight: dict[Any, float] | str | None = None,
    sample_weight: Any = None,
    n_threads: int | None = None,
    verbose: int = 0,
    callback: FitObserver | None = None,
) -> Path:
    r"""Fit `LogisticRegression` at each C of a grid, from the strongest penalty to the weakest, in one go.

    Each fit begins at the end of the one before, and ends with a duality gap, for one pass more. With the gradient G of
    the mean loss and without intercepts it is

    .. math:: f(W) - \min f \le \frac{1}{2 l_2} \lVert G + l_2 W \rVert^2, \quad l_2 = \frac{1}{C m},

    and with intercepts, whose gradient must vanish in the dual, a mixture of the posterior with constant
    probabilities takes the posterior's place.

    Parameters
    ----------
    X, y : array_like
        As in `LogisticRegression.fit`: (N, D) samples, sparse ones too; labels (N,), or probabilities (N, K).
    Cs : int or array_like, shape (n,), default 100
        Values of C, in any order. A number of them is a geometric grid of which both ends follow the data: from
        where the fit explains a thousandth of the deviance, to first order, to where the penalty is a millionth of the
        loss's mean curvature at W = 0.
    l1_ratio : 0
        Only L2: anything else raises ValueError.
    grouped : False
        Is for L1.
    penalty_weights : None
        Is for penalties that differ from feature to feature.
    tol : float >= 0, default 1e-4
        As in `LogisticRegression`, for each fit. Besides, each brings the gradient to a tenth of what the change of the
        penalty makes of it: within `tol` alone, fits with weak penalties would not move.
    max_iter : int >= 0, default 100
        Most iterations of each fit. There is no warning: see `gaps`.
    fit_intercept : bool, default True
        Whether there are intercepts.
    class_weight, sample_weight : optional
        As in `LogisticRegression`.
    n_threads : int, optional
        Threads to use, which never changes a bit of the result.
    verbose : int, default 0
        Above 0 shows a progress bar, with the time left.
    callback : callable, optional
        Called after each fit with how many there have been, and how many there will be.

    Returns
    -------
    Path
        Cs, coefs, intercepts, objectives, n_iters, gaps; and more as attributes.

    Raises
    ------
    ValueError, TypeError
        As from `LogisticRegression.fit`; for L1, `grouped` and `penalty_weights`, which are not there yet; for chunks.

    See Also
    --------
    LogisticRegressionCV : Which of them scores best on rows that were left out.

    References
    ----------
    J. Friedman, T. Hastie and R. Tibshirani, "Regularization paths for generalized linear models via coordinate
    descent", Journal of Statistical Software 33(1), 2010. S. Boyd and L. Vandenberghe, "Convex optimization", 2004,
    section 5.2, for the dual.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import logistic_regression_path
    >>> path = logistic_regression_path(*load_iris(return_X_y=True), Cs=[0.01, 1, 100], tol=1e-6)
    >>> path.coefs.shape, path.deviance_explained.round(3), bool(path.gaps.max() < 1e-5)
    ((3, 3, 4), array([0.451, 0.891, 0.962]), True)
    """
    for name, value, none in (
        ("l1_ratio", l1_ratio, 0),
        ("grouped", grouped, False),
        ("penalty_weights", penalty_weights, None),
    ):
        if value is not none and (none is None or value != none):
            raise ValueError(f"{name}={value!r}: paths have the same L2 penalty for every feature, so leave it out")
    if isinstance(X, Chunks):
        raise TypeError("logistic_regression_path needs X in memory, or mapped into it (numpy.memmap), got Chunks")
    named = BaseEstimator()  # scikit-learn's check notes the features' names in it
    rows, classes, _ = check_data(named, X, y, sample_weight, class_weight=class_weight, solver="lbfgs")
    X = rows.X
    layout = Parameters.of_model(len(classes), X.shape[1], bool(fit_intercept))
    objective = objective_of(rows, layout, Penalty(), n_threads=n_threads)
    null = _Null(objective, float(rows.curving().weights().sum()) / objective.m)
    values = null.grid(int(Cs)) if isinstance(Cs, Integral) else check_values_of_C(Cs)
    n = len(values)
    parts = np.empty((n, layout.count, layout.each), rows.dtype)
    objectives, losses, gaps, n_iters = np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.int32)
    trail = Trail(objective, tol=tol, max_iter=max_iter, moving=True)
    with ExitStack() as stack:
        observers = [] if callback is None else [callback]
        if verbose:
            observers.append(stack.enter_context(fits_progress("logistic_regression_path")))
        for done, j in enumerate(np.argsort(values, kind="stable").tolist(), start=1):
            penalty = Penalty(1 / (values[j] * objective.m))
            solution = trail.to(penalty)
            parts[j] = layout.by_class(layout.centred(solution.w), rows.dtype)
            objectives[j], n_iters[j] = solution.value, solution.n_iter
            losses[j] = solution.value - penalty.value(layout.weights(solution.w))
            gaps[j] = null.gap(solution.w, penalty)
            for observe in observers:
                observe(done, n)
    b = parts[:, :, layout.D] if fit_intercept else np.zeros(parts.shape[:2], rows.dtype)
    path = Path(values, parts[:, :, : layout.D], b.copy(), objectives, n_iters, gaps)
    path.losses, path.null_loss, path.classes = losses, null.loss, classes
    path.feature_names = getattr(named, "feature_names_in_", None)
    return path


class _Null:
    """What the path's objective is at W = 0, and what follows from that: the grid's ends, and the duality gaps.

    With intercepts, the gap's dual point is a mixture p = (1 - t) S + t q of the posterior with constant probabilities
    q, chosen so that Σ_i s_i (p_i - Y_i) = 0. Neither its gradient nor its entropy needs a pass: that of the mixture is
    the mixture of the gradients, that of q follows from two passes at W = 0; and by convexity
    Σ p log p <= (1 - t) Σ S log S + t Σ q log q, where Σ s_i S_i log S_i / m = <∇J(w), w> - J(w).
    """

    def __init__(self, objective: SoftmaxObjective, mass: float) -> None:
        self.objective, self.layout = objective, objective.parameters
        layout, K = self.layout, objective.K
        zero = np.zeros(layout.size)
        self.mass = mass  # Σ_i s_i Σ_k Y_ik / m: 1 for labels
        self.loss, gradient = objective.value_and_grad(zero)
        self.G0 = layout.weights(gradient).copy()  # q mean(x) - mean(Y x), at q = 1/K
        if layout.intercept:
            of_b = layout.intercepts(gradient)
            assert of_b is not None
            frequencies = self.mass / K - of_b  # Σ s_i Y_ik / m; of class 1 alone for two
            self.frequencies = np.append(self.mass - frequencies, frequencies) if layout.binary else frequencies
            odds = zero.copy()
            b = layout.intercepts(odds)
            assert b is not None
            b[-1] = np.log(2)  # the last class gets 2 / (K + 1)
            other = layout.weights(objective.value_and_grad(odds)[1])
            self.mean = (other[-1] - self.G0[-1]) / (2 / (K + 1) - 1 / K)  # Σ s_i x_i Σ_k Y_ik / m
            q = self.frequencies[self.frequencies > 0] / self.mass
            self.loss = -self.mass * float(q @ np.log(q))
            self.G = self.gradient_of(self.frequencies / self.mass)
        else:
            self.G = self.G0

    def gradient_of(self, q: Vector) -> Vector:
        """Return the gradient for W where every posterior is q, (K,)."""
        K = self.objective.K
        shift = (q - 1 / K)[self.layout.classes.start : self.layout.classes.stop]
        moved: Vector = self.G0 + np.outer(shift, self.mean)
        return moved

    def grid(self, n: int) -> Vector:
        """Return n values of C from a strong penalty to a weak one."""
        if n < 1:
            raise ValueError(f"Cs must be a positive number of values, or a list of them, got {n}")
        K, layout = self.objective.K, self.layout
        curvature = (1 - 1 / K) / K * float(self.objective.mean_squares[: layout.D].mean())
        strong = float(np.square(self.G).sum()) / (EXPLAINED * max(self.loss, np.finfo(float).tiny))
        weak = NEGLIGIBLE * curvature
        if not 0 < weak < np.inf or not 0 < strong < np.inf:
            raise ValueError("Cs: X says nothing of y, so no grid follows from them: give a list of values")
        strong = max(strong, 1e3 * weak)
        return np.geomspace(1 / (strong * self.objective.m), 1 / (weak * self.objective.m), n)

    def gap(self, w: Vector, penalty: Penalty) -> float:
        """Return how far the objective at w lies above its minimum, at most."""
        if not penalty.l2:
            return np.inf
        objective, layout = self.objective, self.layout
        objective.penalty = Penalty()
        loss, gradient = objective.value_and_grad(w)
        objective.penalty = penalty
        G, entropy, t = layout.weights(gradient), float(gradient @ w) - loss, 0.0
        if layout.intercept:
            off = layout.intercepts(gradient)
            assert off is not None
            off = np.append(-off, off) if layout.binary else off
            posterior = self.frequencies + off  # Σ s_i S_ik / m
            with np.errstate(divide="ignore", invalid="ignore"):
                t = float(min(1.0, np.nanmax(np.where(off > 0, off / posterior, 0.0), initial=0.0)))
            if t > 0:
                q = np.maximum(posterior - off / t, 0) / self.mass
                used = q[q > 0]
                entropy = (1 - t) * entropy + t * self.mass * float(used @ np.log(used))
                G = (1 - t) * G + t * self.gradient_of(q)
        dual = -entropy - float(np.square(G).sum()) / (2 * penalty.l2)
        return max(loss + penalty.value(layout.weights(w)) - dual, 0.0)
