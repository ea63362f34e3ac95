"""`logistic_regression_path`, which fits along a grid of penalties, and `Path`, which it returns."""

from __future__ import annotations

from contextlib import ExitStack
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator

from .._fit.observers import FitObserver, fits_progress
from .._fit.readable import finite_offset
from .._fit.scaling import standardised, standardised_pieces
from .._fit.scikit_learn import Strength
from .._fit.training_data import ClassWeight, check_data, checked_weights, problem_of_pieces
from .._inputs.dtypes import TINY
from .._inputs.scalars import check_nonnegative_number
from .._objective.binomial import objective_of
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Pieces
from .._optim.descent import Solution
from .._optim.duality import Dual
from .._optim.intercepts import of_intercepts
from .._optim.solvers import within
from ._displays import PathDisplay
from ._grid import check_values_of_C
from ._trail import Trail

__all__ = ["Path", "logistic_regression_path"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Without an L1 part, a grid begins at the C whose fit explains, to first order, the fraction EXPLAINED of the deviance.
# It ends where the penalty is the fraction NEGLIGIBLE of the loss's mean curvature at W = 0, so that it matters only in
# directions in which samples hardly differ.
EXPLAINED, NEGLIGIBLE = 1e-3, 1e-6
# With an L1 part, as in glmnet, the weakest penalty is this fraction of the strongest, the second if features are more
# than samples.
WEAK, WEAK_OF_WIDE = 1e-4, 1e-2


class _Fields(NamedTuple):
    Cs: Vector
    coefs: Array
    intercepts: Array
    objectives: Vector
    n_iters: npt.NDArray[np.int32]
    gaps: Vector


class Path(_Fields):
    """Models along a grid of penalties, in the given order of `Cs`, as `logistic_regression_path` returns them.

    A path is a tuple of its first six attributes. It is printed as a table, also in a notebook.

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
        Duality gaps: bounds on how far each objective lies above its minimum. They are infinite without a penalty, and
        nan if some features are not penalised.
    losses : ndarray, shape (n,)
        Mean cross-entropy alone.
    null_loss : float
        Mean cross-entropy of the intercepts alone, with the offsets; log K if there are neither.
    classes : ndarray, shape (K,)
        The sorted labels; 0..K-1 after a fit to probabilities.
    feature_names : ndarray of str, shape (D,), or None
        Names of X's columns, if X had them.

    See Also
    --------
    PathDisplay : The plot that `plot` draws.
    """

    losses: Vector
    null_loss: float
    classes: Array
    feature_names: Array | None

    @property
    def deviance_explained(self) -> Vector:
        """1 - loss / null_loss of each model, (n,): 0 for the intercepts alone, 1 for a perfect fit."""
        return 1 - self.losses / self.null_loss

    @property
    def nonzero(self) -> npt.NDArray[np.intp]:
        """The number of coefficients of each model that are not 0, (n,), over all classes."""
        count: npt.NDArray[np.intp] = np.count_nonzero(self.coefs, axis=(1, 2))
        return count

    @property
    def degrees_of_freedom(self) -> npt.NDArray[np.intp]:
        """The number of features that each model uses, (n,): as in glmnet, those with a coefficient other than 0."""
        count: npt.NDArray[np.intp] = np.count_nonzero(self.coefs.any(axis=1), axis=1)
        return count

    def plot(self, **keywords: Any) -> Any:
        """Draw the coefficients against C, and return the display; `PathDisplay.from_path` has the keywords."""
        return PathDisplay.from_path(self, **keywords)

    def _rows(self) -> list[list[str]]:
        """Return the table's rows, one for each of up to 24 models that are spread evenly."""
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
    y: Any = None,
    *,
    Cs: int | npt.ArrayLike = 100,
    l1_ratio: float = 0.0,
    grouped: bool = False,
    penalty_weights: npt.ArrayLike | None = None,
    tol: float = 1e-4,
    max_iter: int = 100,
    fit_intercept: bool = True,
    standardize: bool = False,
    class_weight: dict[Any, float] | str | None = None,
    sample_weight: Any = None,
    offset: Any = None,
    n_threads: int | None = None,
    verbose: int = 0,
    callback: FitObserver | None = None,
) -> Path:
    r"""Fit `LogisticRegression` at each C of a grid, from the strongest penalty to the weakest, in one call.

    Each fit begins at the end of the one before, and a duality gap bounds its error. With the gradient G of the mean
    loss, without intercepts and with L2 alone, the gap is

    .. math:: f(W) - \min f \le \frac{1}{2 l_2} \lVert G + l_2 W \rVert^2, \quad l_2 = \frac{1}{C m}.

    With intercepts, whose gradient must vanish in the dual, the posterior in G is replaced by a mixture of it with
    constant probabilities. With an L1 part, only what exceeds ``r v / (C m)`` counts of each component.

    Parameters
    ----------
    X, y : array_like
        As in `LogisticRegression.fit`: dense or sparse samples (N, D); labels (N,), or probabilities (N, K). Or X is
        `Chunks` alone, which are read once for each pass. `softmax_ext.dask` has the same function for a cluster.
    Cs : int or array_like, shape (n,), default 100
        Values of C, in any order. A number n asks for a geometric grid of n values, whose ends follow from the data. It
        goes from where the fit explains a thousandth of the deviance, to first order, to where the penalty is a
        millionth of the loss's mean curvature at W = 0. With an L1 part it is glmnet's grid: from where all
        coefficients are 0 to a ten-thousandth of that penalty, or to a hundredth if there are fewer samples than
        features.
    l1_ratio : float in [0, 1], default 0
        The fraction of the penalty that is L1.
    grouped, penalty_weights
        As in `LogisticRegression`.
    tol : float >= 0, default 1e-4
        As in `LogisticRegression`, for each fit. Without an L1 part, each fit also brings the gradient to a tenth of
        what the change of the penalty has made of it, since with weak penalties it may be within `tol` from the start.
    max_iter : int >= 0, default 100
        Greatest number of iterations of each fit. No warning is given if it is reached: see `gaps`.
    fit_intercept : bool, default True
        Whether there are intercepts.
    standardize : bool, default False
        As in `LogisticRegression`: penalties, and a grid that follows from the data, are for features of mean 0 and
        variance 1, and coefficients are for X as given.
    class_weight, sample_weight : optional
        As in `LogisticRegression`.
    offset : array_like, shape (N, K), or (N,) for two classes, optional
        Added to the scores of the classes, as in `LogisticRegression.fit`. The null model has it, too, with intercepts
        that are fitted to it.
    n_threads : int, optional
        Number of threads, which does not change a bit of the result.
    verbose : int, default 0
        If above 0, a progress bar is shown, with the time left.
    callback : callable, optional
        Called after each fit with the number of fits that are done, and with that of all.

    Returns
    -------
    Path
        The models: a tuple of Cs, coefs, intercepts, objectives, n_iters and gaps, with more attributes.

    Raises
    ------
    ValueError, TypeError
        Where `LogisticRegression.fit` raises them. If the fits are broken off, by an error while reading or by Ctrl-C,
        the exception's attribute ``path`` is a `Path` of the models that are finished.

    See Also
    --------
    LogisticRegressionCV : The choice of C by scores of held-out rows.

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
    asked = Strength(1.0, check_nonnegative_number(l1_ratio, "l1_ratio"))
    if asked.l1_ratio > 1:
        raise ValueError(f"l1_ratio must be between 0, which is L2, and 1, which is L1, got {l1_ratio}")
    given = _Given(asked, grouped, penalty_weights, bool(fit_intercept), bool(standardize), class_weight, n_threads)
    way = _Way(Cs, tol, max_iter, verbose, callback)
    if isinstance(X, Pieces):
        if not (y is None and sample_weight is None and offset is None):
            raise TypeError(
                f"y, sample_weight and offset are in {X.kind}: call logistic_regression_path(X), without them"
            )
        with X.reading():
            return _fitted(given, way, *given.in_pieces(X))
    return _fitted(given, way, *given.in_memory(X, y, sample_weight, offset))


class _Way(NamedTuple):
    """Along which penalties a path goes, and how far each of its fits."""

    Cs: int | npt.ArrayLike
    tol: float
    max_iter: int
    verbose: int
    callback: FitObserver | None


def _fitted(given: _Given, way: _Way, objective: Any, classes: Array, names: Array | None) -> Path:
    """Return the path of an objective, with the names of its classes and features."""
    asked, standardize, Cs = given.asked, given.standardize, way.Cs
    layout, like = objective.parameters, objective.penalty
    raw, fixed = objective.inner.parameters if standardize else layout, like.fixes(layout.D)
    start = Start(objective, asked, like)
    values = start.grid(int(Cs)) if isinstance(Cs, Integral) else check_values_of_C(Cs)
    n = len(values)
    parts = np.empty((n, raw.count, raw.each), objective.dtype)
    objectives, losses, gaps, n_iters = np.empty(n), np.empty(n), np.empty(n), np.empty(n, np.int32)
    space, objective = within(objective)
    trail = Trail(objective, space=space, tol=way.tol, max_iter=way.max_iter, moving=True)
    if asked.l1_ratio:
        trail.ends.dual, trail.ends.w = start.dual, start.w
    order = np.argsort(values, kind="stable").tolist()

    def path(some: slice | npt.NDArray[np.intp]) -> Path:
        """Return the path of some of the models."""
        W, b = parts[some, :, : layout.D], np.zeros(parts[some].shape[:2], objective.dtype)
        if raw.intercept:
            b = parts[some, :, layout.D].copy()
        found = Path(values[some], W, b, objectives[some], n_iters[some], gaps[some])
        found.losses, found.null_loss, found.classes = losses[some], start.loss, classes
        found.feature_names = names
        return found

    done = 0
    with ExitStack() as stack:
        observers = [] if way.callback is None else [way.callback]
        if way.verbose:
            observers.append(stack.enter_context(fits_progress("logistic_regression_path")))
        try:
            for j in order:
                penalty = like.with_strengths(like.l2 / values[j], like.l1 / values[j])
                solution = trail.to(penalty)
                w = objective.raw(solution.w) if standardize else solution.w
                parts[j] = raw.by_class(raw.centred(w, fixed), objective.dtype)
                objectives[j], n_iters[j] = solution.value, solution.n_iter
                losses[j] = solution.value - penalty.value(layout.weights(solution.w))
                gaps[j] = start.gap(solution, penalty)
                done += 1
                for observe in observers:
                    observe(done, n)
        except BaseException as error:  # such as Ctrl-C, or a file that was shortened
            error.path = path(np.sort(np.array(order[:done], np.intp)))  # type: ignore[attr-defined]
            error.add_note(f"{done} of {n} models were finished; this error's attribute `path` has them.")
            raise
    return path(slice(None))


class _Given(NamedTuple):
    """What is given of a path besides its data; its methods return the objective, the classes and the features' names.

    The objective has the penalty of C = 1.
    """

    asked: Strength
    grouped: bool
    penalty_weights: npt.ArrayLike | None
    fit_intercept: bool
    standardize: bool
    class_weight: ClassWeight
    n_threads: int | None

    def penalty(self, m: float) -> Penalty:
        """Return the penalty of C = 1, where m is the sum of all weights."""
        return self.asked.penalty(m, grouped=self.grouped, weights=self.penalty_weights)

    def in_memory(self, X: Any, y: Any, sample_weight: Any, offset: Any) -> tuple[Any, Array, Array | None]:
        named = BaseEstimator()  # scikit-learn's check needs an estimator to store the features' names in
        rows, classes, _ = check_data(named, X, y, sample_weight, class_weight=self.class_weight, solver="lbfgs")
        rows.offset = finite_offset(offset, len(rows), len(classes))
        layout, like = Parameters.of_model(len(classes), rows.D, self.fit_intercept), self.penalty(rows.total)
        objective: Any
        if self.standardize:
            objective = standardised(rows, layout, checked_weights(sample_weight, rows.X), self.n_threads)
        else:
            objective = objective_of(rows, layout, Penalty(), n_threads=self.n_threads)
        objective.penalty = like
        return objective, classes, getattr(named, "feature_names_in_", None)

    def in_pieces(self, pieces: Pieces) -> tuple[Any, Array, Array | None]:
        found, sample = pieces.look()
        problem = problem_of_pieces(
            found,
            self.penalty,
            class_weight=self.class_weight,
            solver="lbfgs",
            fit_intercept=self.fit_intercept or self.standardize,
            n_threads=self.n_threads,
        )
        objective: Any = pieces.objective(problem, sample)
        if self.standardize:
            objective = standardised_pieces(pieces, objective, intercept=self.fit_intercept)
        return objective, found.classes, None if pieces.names is None else np.array(pieces.names, object)


class Start:
    """A path's objective at W = 0, with the best intercepts, and the grid that follows from it."""

    def __init__(self, objective: Any, asked: Strength, like: Penalty) -> None:
        self.objective, self.asked, self.like = objective, asked, like
        self.dual = Dual(objective)
        if objective.offset is None:
            self.w, self.loss, self.G = self.dual.null(), self.dual.loss, self.dual.G
        else:
            self.w = of_intercepts(objective)
            self.loss, grad = objective.value_and_grad(self.w)
            self.G = objective.parameters.weights(grad)

    def grid(self, n: int) -> Vector:
        """Return n values of C, from a strong penalty to a weak one."""
        if n < 1:
            raise ValueError(f"Cs must be a positive number of values, or a list of them, got {n}")
        strong, weak = self._of_l1() if self.asked.l1_ratio else self._of_l2()
        if not 0 < weak < np.inf or not 0 < strong < np.inf:
            raise ValueError("Cs: X says nothing of y, so no grid follows from them: give a list of values")
        return np.geomspace(1 / (strong * self.objective.m), 1 / (weak * self.objective.m), n)

    def _of_l2(self) -> tuple[float, float]:
        objective, K = self.objective, self.objective.parameters.K
        curvature = (1 - 1 / K) / K * float(objective.mean_squares[: objective.parameters.D].mean())
        strong = float(np.square(self.G).sum()) / (EXPLAINED * max(self.loss, TINY))
        weak = NEGLIGIBLE * curvature
        return max(strong, 1e3 * weak), weak

    def _of_l1(self) -> tuple[float, float]:
        """Return the ends of glmnet's grid: the least penalty that makes all of W 0, and a fraction of it."""
        D = self.objective.parameters.D
        factors = self.like.factors(D)
        penalised = factors > 0
        sizes = self.like.sizes(self.G)[..., penalised] / factors[penalised]
        strong = float(sizes.max(initial=0.0)) / self.asked.l1_ratio
        return strong, strong * (WEAK if self.objective.N >= D else WEAK_OF_WIDE)

    def gap(self, solution: Solution, penalty: Penalty) -> float:
        """Return the duality gap of a solution: a bound on how far it lies above its minimum."""
        if np.isfinite(solution.gap) or not (penalty.l1 or penalty.l2):
            return solution.gap if np.isfinite(solution.gap) else np.inf
        self.objective.penalty = penalty  # this objective has all features; the trail's may be in the samples' space
        value, gradient = self.objective.value_and_grad(solution.w)
        return self.dual.gap(solution.w, value, gradient, penalty)
