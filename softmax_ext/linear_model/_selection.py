"""`LogisticRegressionCV` with scikit-learn's interface: the choice of C by cross-validation.

`_grid.py` fits all folds, `_trail.py` lets these fits share work, and `_folds.py` scores held-out rows.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack, closing
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import sklearn.linear_model
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.metrics import get_scorer, get_scorer_names
from sklearn.model_selection import check_cv
from sklearn.utils import metadata_routing
from sklearn.utils._param_validation import Hidden, Interval, StrOptions
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    _raise_for_params,
    _routing_enabled,
    process_routing,
)
from sklearn.utils.validation import _check_method_params, _check_sample_weight, _deprecate_positional_args

from .._fit.held_out import Models
from .._fit.journal import SweepJournal, course
from .._fit.observers import FitObserver, fits_callbacks, fits_progress
from .._fit.prediction import PredictionMixin
from .._fit.readable import are_probabilities, finite_offset
from .._fit.scaling import standardised, standardised_pieces
from .._fit.scikit_learn import CONSTRAINTS, SOLVERS, VERSION, CallbackSupportMixin, check_solver, deprecated
from .._fit.training_data import check_data
from .._fit.warning import warn
from .._inputs.rows import Rows
from .._objective.binomial import objective_of
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Pieces
from ._folds import Beside, Fold, fold_scores, with_classes
from ._grid import Fits, Grid, check_values_of_C, one_standard_error
from ._interchange import InterchangeMixin
from ._logistic import LogisticRegression
from ._pieces import Summed, Sweep

__all__ = ["LogisticRegressionCV"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class LogisticRegressionCV(
    PredictionMixin, InterchangeMixin,
    CallbackSupportMixin, LinearClassifierMixin, SparseCoefMixin, BaseEstimator,  # type: ignore[misc]
):  # fmt: skip
    """Softmax (multinomial logistic) regression whose penalty is chosen by cross-validation: scikit-learn's, faster.

    The interface is that of `sklearn.linear_model.LogisticRegressionCV` 1.9. For each fold and each C a model is fitted
    to the rows that the fold trains on, and scored by its held-out rows. The C with the best mean score over the folds
    is taken, and a last model is fitted to all rows.

    X is not copied for that: a fold only gives its held-out rows the weight 0. The fits go from strong penalties to
    weak ones, and the last model is one of them: see the notes.

    Parameters
    ----------
    Cs : int or array_like, shape (n_cs,), default 10
        Inverse strengths of the penalty to try, in any order; ``np.inf`` is no penalty. A number n means
        ``np.logspace(-4, 4, n)``.
    l1_ratios : array_like of numbers in [0, 1], shape (n_l1,), optional
        Fractions of the penalty that are L1, each of which is tried with each C. `LogisticRegression` says which
        solvers take them. None, which scikit-learn deprecates as a default, means 0.
    fit_intercept : bool, default True
        Whether there is an intercept.
    cv : int, splitter or iterable, optional
        Folds, by default five stratified ones. Each item of an iterable is a pair of arrays of row numbers: the rows to
        train on, which count as often as they are named, and the held-out rows. Chunks take a number n, by default 5,
        which means that row i of all chunks is held out by fold i modulo n; or an iterable.
    dual : bool, default False
        As in `LogisticRegression`.
    penalty : {"l1", "l2", "elasticnet"}, optional
        As in scikit-learn, where it is deprecated since 1.8: use `l1_ratios`.
    scoring : str or callable, optional
        A scorer's name, or ``scorer(estimator, X, y)``, where greater is better. None is accuracy, weighted by
        `sample_weight`. From scikit-learn 1.11 on the default will be "neg_log_loss". Chunks take accuracy,
        "neg_log_loss", and scorers of predicted labels.
    solver : {"lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"}, default "lbfgs"
        As in `LogisticRegression`, without the solvers of mini-batches.
    tol : float >= 0, default 1e-4
        As in `LogisticRegression`, for each fit.
    max_iter : int >= 0, default 100
        Greatest number of iterations of each fit. One ConvergenceWarning names all fits for which it was not enough.
    class_weight : dict of label to weight, or "balanced", optional
        As in `LogisticRegression`. "balanced" counts the labels of all rows, not those of each fold.
    n_jobs : int, optional
        Without effect: use `n_threads`.
    verbose : int, default 0
        If above 0, a progress bar of the fits is shown, with the time left.
    refit : bool or "one_se", default True
        Whether the last model is fitted to all rows. If not, coefficients and C are means over the folds, each at its
        own best C. "one_se", which scikit-learn does not have, takes the strongest penalty whose mean score is at most
        one standard error below the best one, and fits all rows with it. [1]_
    intercept_scaling : float > 0, default 1
        Accepted, without effect.
    random_state : int or RandomState, optional
        Without effect, since nothing is random.
    use_legacy_attributes : bool, optional
        Whether attributes have the shapes that they had before scikit-learn 1.8. From scikit-learn 1.10 on the default
        will be False; until then a warning is given if it is not set.
    n_threads : int, optional
        Number of threads, which does not change a bit of the result; see `loss_grad`. Small fits run side by side.
    standardize : bool, default False
        As in `LogisticRegression`. All folds are scaled by the moments of all rows, as in a pipeline of a
        StandardScaler and this estimator.
    callback : callable, optional
        Called after each fit with the number of fits that are done, and with that of all.
    checkpoint : path, optional
        A file that keeps the results of the passes over chunks, or over the partitions of a cluster. If the program is
        killed and started again, no pass of it is repeated, and the end has the same bits. `Cs`, `l1_ratios`, `tol` and
        `max_iter` may be others then; fits that are the same find what is kept. Each evaluation adds 8 bytes for each
        coefficient. Without effect for data in memory.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The sorted labels.
    coef_ : ndarray, shape (K, D), or (1, D) for two classes
        Coefficients: float32 for X of float32, float16, bfloat16, int8 or uint8, else float64.
    intercept_ : ndarray, shape (K,), or (1,)
        Intercepts, or zeros if there are none.
    Cs_ : ndarray, shape (n_cs,)
        The values of C, in the given order.
    l1_ratios_ : ndarray, shape (n_l1,)
        The `l1_ratios` that were tried; ``[None]`` if none were given.
    C_ : float
        The chosen C. Legacy: an array that repeats it for each class, or (1,) for two.
    l1_ratio_ : float
        The chosen fraction. Legacy: an array, as `C_` is.
    scores_ : ndarray, shape (folds, n_l1, n_cs)
        The scores of the held-out rows. Legacy: a dict with the same array of shape (folds, n_cs, n_l1) for each class,
        or for the second of two alone, without the last axis if `l1_ratios` is None.
    coefs_paths_ : ndarray, shape (folds, n_l1, n_cs, K or 1, D + 1)
        Coefficients of all models, with the intercept last if there is one. Legacy: a dict with an array of shape
        (folds, n_cs, n_l1, D + 1) for each class, as in `scores_`.
    mean_, scale_ : ndarray, shape (D,)
        With ``standardize=True``, the attributes of these names that StandardScaler would have.
    n_iter_ : ndarray of int32, shape (folds, n_l1, n_cs)
        The number of iterations of each fit, at least 1. Legacy: of shape (1, folds, n_cs, n_l1).
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray of str, shape (D,)
        Names of X's columns, if X had them.
    converged_ : bool
        Whether all fits have converged.
    convergence_report_ : str
        How many fits and iterations there were, and how the last model's fit ended.

    Raises
    ------
    ValueError
        By `fit`, where scikit-learn raises it, if y holds probabilities, and if all rows that a fold trains on, or all
        its held-out rows, have the weight 0; for chunks also if `cv` is a splitter, or `scoring` does not follow from
        sums over the rows.

    See Also
    --------
    LogisticRegression : One fit.
    logistic_regression_path : The fits to all rows along a path of C, without folds.
    CVDisplay : The plot of the scores.

    Notes
    -----
    At each C, from the smallest to the largest, all rows and each fold are fitted. A fit begins where the fit of the
    same rows at the C before has ended, or at a point further on that is predicted from the fits before. A fold's fit
    has the preconditioner of all rows, which tells it nothing of the labels that score it. So there is one more fit for
    each C than the folds need, but the last model is among them. Shared preconditioners and predicted beginnings change
    results only within `tol`. Fits of two classes to many rows read X together, which changes no bit. For that the
    weights of all folds are kept, 8 bytes for each row and fold, if they take no more than 256 MiB.

    scikit-learn's own scorers only ask for predictions, which are computed for some rows at a time. For other scorers
    the held-out rows of one fold are copied.

    All fits to chunks go side by side, those with an L1 penalty, too, and each pass over the chunks serves all that ask
    at the time. So does one pass the scores of all models. If the fits are broken off, by an error while reading or by
    Ctrl-C, `coefs_paths_` has the models that are finished, and NaN for the others, in the shape that is not legacy.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen and Stone, "Classification and regression trees", 1984, section 3.4.3.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import LogisticRegressionCV
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegressionCV(l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False).fit(X, y)
    >>> print(f"C = {model.C_:.3g} of {len(model.Cs_)}, in {model.scores_.shape[0]} folds")
    C = 167 of 10, in 5 folds
    >>> model.predict(X[:2])
    array([0, 0])
    """

    if VERSION >= (1, 9):
        # score() takes sample_weight whether or not the scorer requests it, so it is no request of this object. Older
        # versions of scikit-learn raise an error for a weight that nobody requests.
        __metadata_request__score: ClassVar[dict[str, Any]] = {"sample_weight": metadata_routing.UNUSED}

    _scikit_learns = sklearn.linear_model.LogisticRegressionCV

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "Cs": [Interval(Integral, 1, None, closed="left"), "array-like"],
        "checkpoint": [None, str, os.PathLike],
        "l1_ratios": ["array-like", None, Hidden(StrOptions({"warn"}))],
        "cv": ["cv_object"],
        "penalty": [StrOptions({"l1", "l2", "elasticnet"}), Hidden(StrOptions({"deprecated"}))],
        "scoring": [StrOptions(set(get_scorer_names())), callable, None, Hidden(StrOptions({"warn"}))],
        "solver": [StrOptions(set(SOLVERS))],
        "refit": ["boolean", StrOptions({"one_se"})],
        "use_legacy_attributes": ["boolean", Hidden(StrOptions({"warn"}))],
        "standardize": ["boolean"],
    }

    def __init__(
        self,
        *,
        Cs: int | npt.ArrayLike = 10,
        l1_ratios: npt.ArrayLike | str | None = "warn",
        fit_intercept: bool = True,
        cv: Any = None,
        dual: bool = False,
        penalty: str = "deprecated",
        scoring: str | Callable[..., float] | None = "warn",
        solver: str = "lbfgs",
        tol: float = 1e-4,
        max_iter: int = 100,
        class_weight: dict[Any, float] | str | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        refit: bool | str = True,
        intercept_scaling: float = 1.0,
        random_state: int | np.random.RandomState | None = None,
        use_legacy_attributes: bool | str = "warn",
        n_threads: int | None = None,
        standardize: bool = False,
        callback: FitObserver | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes
        self.n_threads = n_threads
        self.standardize = standardize
        self.callback = callback
        self.checkpoint = checkpoint

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None, **params: Any) -> Self:
        """Choose C, and fit the model.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D); or Chunks
            Samples, read or converted as by `LogisticRegression.fit`. Chunks, of `softmax_ext.chunks`, bring their own
            labels, weights and offsets.
        y : array_like, shape (N,)
            Labels of at least two classes. A class that a fold lacks has a row of coefficients all the same.
        sample_weight : array_like, shape (N,), optional
            Weights s_i, not negative and not all zero; by default all are 1. Scores are weighted by them, too: accuracy
            always, other scorers if they take `sample_weight`, or request it where metadata routing is enabled.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores of the classes, as in `LogisticRegression.fit`, both when a fold's rows are fitted and
            when its held-out rows are scored.
        **params : dict
            Arguments that the splitter and the scorer request, such as `groups`, where metadata routing is enabled.

        Returns
        -------
        LogisticRegressionCV
            The estimator itself.
        """
        _raise_for_params(params, self, "fit")
        l1_ratios, ratios = self._l1_ratios()
        legacy = self._legacy()
        scorer = self._scoring()
        if isinstance(X, Pieces):
            if params or not (y is None and sample_weight is None and offset is None):
                raise TypeError(f"y, sample_weight and offset are in {X.kind}: call fit(X), without them")
            with X.reading():
                return self._fit_pieces(X, l1_ratios, ratios, legacy, Summed.of(scorer, self.scoring))
        if are_probabilities(y):
            raise ValueError(
                f"y holds probabilities, of shape {np.shape(y)}, and folds are scored by labels: pass "
                "y.argmax(axis=1), or fit LogisticRegression, which takes them"
            )
        rows, self.classes_, y = check_data(
            self, X, y, sample_weight, class_weight=self.class_weight, solver=self.solver
        )
        rows.offset = finite_offset(offset, len(rows), len(self.classes_))
        X = rows.X
        bare_weight = None if sample_weight is None else _check_sample_weight(sample_weight, X, dtype=np.float64)
        Cs = self._values_of_C()
        splits, score_params = self._routed(sample_weight, offset, params)
        N = X.shape[0]
        pairs = check_cv(self.cv, y, classifier=True).split(X, y, **splits)
        folds = [Fold.of(number, N, *pair) for number, pair in enumerate(pairs)]
        if bare_weight is not None:  # errors about weights are raised before the work begins
            for number, fold in enumerate(folds):
                fold.weights(rows.s, number, N)
                if scorer is None or "sample_weight" in score_params:
                    fold.check_scored(bare_weight, number)
        grid = Grid(Cs, len(ratios), folds, rows.s)
        layout = Parameters.of_model(len(self.classes_), X.shape[1], bool(self.fit_intercept))
        objective: Any
        if self.standardize:
            objective = standardised(rows, layout, bare_weight, self.n_threads)
        else:
            objective = objective_of(rows, layout, Penalty(), n_threads=self.n_threads)
        with ExitStack() as stack:
            more: list[FitObserver] = []
            if hasattr(self, "_skl_callbacks"):
                fits = grid.fits * len(set(ratios))
                more.append(stack.enter_context(fits_callbacks(self, X, y, sample_weight, fits)))
            found, paths = self._fit_ratios(grid, objective, l1_ratios, ratios, more)
        scores = self._score_all(grid, paths, rows, y, scorer, bare_weight, score_params)
        return self._finish(grid, scores, paths, [found[r] for r in ratios], legacy)

    def _fit_pieces(
        self, pieces: Pieces, l1_ratios: Array | None, ratios: list[float], legacy: bool, summed: Summed
    ) -> Self:
        Cs, sweep = self._values_of_C(), Sweep.of(self, pieces, summed)
        grid, objective = Grid(Cs, len(ratios), range(sweep.folds.n)), sweep.objective
        of: Any = objective
        with ExitStack() as stack:
            if self.checkpoint is not None:
                more = {"cv": sweep.folds.fingerprint(), "standardize": bool(self.standardize)}
                objective.sweep = stack.enter_context(SweepJournal(self.checkpoint, course(objective, "sweep", **more)))
            if self.standardize:
                of = standardised_pieces(pieces, objective, intercept=bool(self.fit_intercept))
            found, paths = self._fit_ratios(grid, of, l1_ratios, ratios)
        return self._finish(grid, sweep.scores(paths), paths, [found[r] for r in ratios], legacy)

    def _fit_ratios(
        self,
        grid: Grid,
        objective: Any,
        l1_ratios: Array | None,
        ratios: list[float],
        more: Iterable[FitObserver] = (),
    ) -> tuple[dict[float, Fits], Array]:
        """Return the fits for each l1 ratio, and the coefficients of all folds' models.

        If fits are broken off, `coefs_paths_` has the models that are finished, and NaN for the others.
        """
        layout = objective.parameters
        if self.standardize:
            layout = objective.inner.parameters
            self.mean_, self.scale_ = objective.scaling.mean, objective.scaling.scale
        self.Cs_ = grid.Cs
        self.l1_ratios_ = np.array([None]) if l1_ratios is None else np.asarray(l1_ratios)
        different = list(dict.fromkeys(ratios))
        found = {r: Fits.empty(grid._replace(l1_ratio=r), layout) for r in different}

        def paths() -> Array:
            return np.stack([found[r].parts(objective.dtype) for r in ratios], axis=1)

        try:
            with ExitStack() as stack:
                observers = [*([] if self.callback is None else [self.callback]), *more]
                if self.verbose:
                    observers.append(stack.enter_context(fits_progress()))
                for i, r in enumerate(different):
                    self._fit_all(grid._replace(l1_ratio=r), objective, found[r], observers, (i, len(different)))
        except BaseException:
            self.coefs_paths_: Any = paths()
            raise
        return found, paths()

    def _l1_ratios(self) -> tuple[Array | None, list[float]]:
        """Return the l1 ratios as given, or None, and those to fit; warn and raise as scikit-learn does."""
        given = None if isinstance(self.l1_ratios, str) or self.l1_ratios is None else np.asarray(self.l1_ratios)
        recent = VERSION >= (1, 8)
        if isinstance(self.l1_ratios, str) and recent:
            deprecated(
                "The default value for l1_ratios will change from None to (0.0,) in version 1.10 of scikit-learn: "
                "say l1_ratios=(0,)"
            )
        if self.penalty == "deprecated":
            if self.l1_ratios is None and recent:
                deprecated("'l1_ratios=None' was deprecated in version 1.8 of scikit-learn: use l1_ratios=(0,)")
            penalty = "elasticnet"
            if given is None or np.all(given == 0):
                penalty = "l2"
            elif np.all(given == 1):
                penalty = "l1"
        else:
            penalty = self.penalty
            if recent:
                deprecated(
                    "'penalty' was deprecated in version 1.8 of scikit-learn: leave it out, and use l1_ratios=(0,) "
                    "instead of penalty='l2', and Cs=(np.inf,) instead of none"
                )
            if penalty != "elasticnet" and given is not None:
                warn(f"l1_ratios parameter is only used when penalty is 'elasticnet'. Got (penalty={penalty})")
        if penalty == "elasticnet" and self.solver == "saga" and (given is None or not given.size):
            raise ValueError(f"l1_ratios must be numbers between 0 and 1; got (l1_ratios={self.l1_ratios!r})")
        check_solver(self.solver, penalty, self.dual)
        if given is not None and (given.ndim != 1 or not given.size):
            raise ValueError(f"l1_ratios must be a list of numbers, such as (0,), got {self.l1_ratios!r}")
        self._mixed = penalty == "elasticnet"
        if not self._mixed:
            return given, [float(penalty == "l1")] * (1 if given is None else len(given))
        assert given is not None
        wrong = [r for r in given.tolist() if r is None or isinstance(r, str) or not 0 <= r <= 1]
        if wrong:
            raise ValueError(f"l1_ratios must be numbers between 0 and 1; got (l1_ratios={self.l1_ratios!r})")
        return given, given.astype(np.float64).tolist()

    def _scoring(self) -> Any:
        """Return the scorer of the folds; None is accuracy."""
        if not (isinstance(self.scoring, str) and self.scoring == "warn"):
            return get_scorer(self.scoring)
        if VERSION >= (1, 9):
            deprecated(
                "The default value of the parameter 'scoring' will change from None, which is accuracy, to "
                "'neg_log_loss' in version 1.11 of scikit-learn: say scoring='accuracy' or scoring='neg_log_loss'"
            )
        return None

    def _legacy(self) -> bool:
        if self.use_legacy_attributes != "warn":
            return bool(self.use_legacy_attributes)
        if VERSION >= (1, 8):
            deprecated(
                "The default value of use_legacy_attributes will change from True to False in version 1.10 of "
                f"scikit-learn, and with it shapes of attributes of {type(self).__name__}: say which you want"
            )
        return True

    def _values_of_C(self) -> Vector:
        Cs = np.logspace(-4, 4, int(self.Cs)) if isinstance(self.Cs, Integral) else check_values_of_C(self.Cs)
        if self.solver == "liblinear" and np.isinf(Cs).any():
            raise ValueError("C=np.inf as well as penalty=None is not supported for the liblinear solver: use lbfgs")
        return Cs

    def _routed(self, sample_weight: Any, offset: Any, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return the arguments of the splitter, and those of the scorer."""
        if _routing_enabled():
            routed = process_routing(self, "fit", sample_weight=sample_weight, offset=offset, **params)
            return routed["splitter"]["split"], routed["scorer"]["score"]
        return {}, params if sample_weight is None else {**params, "sample_weight": sample_weight}

    def _fit_all(
        self, grid: Grid, objective: Any, found: Fits, observers: list[FitObserver], part: tuple[int, int]
    ) -> None:
        """Fit each fold and all rows at each C; warn once of all that did not converge.

        `part` is the index of the l1 ratio, and how many there are.
        """
        method, not_converged = SOLVERS[self.solver]
        objective.penalty = Penalty()
        failed: list[str] = []
        with closing(grid.fit(objective, method, self.tol, self.max_iter)) as fits:  # ends all running fits at Ctrl-C
            for done, (j, f, solution) in enumerate(fits, start=1):
                found.keep(j, f, solution._replace(w=objective.raw(solution.w)) if self.standardize else solution)
                if not solution.converged and solution.n_iter >= self.max_iter:
                    where = "all rows" if f is None else f"fold {f}"
                    failed.append(f"that of {where} at C={grid.Cs[j]:.3g} at {solution.largest_gradient:.1e}")
                for observe in observers:
                    observe(done + part[0] * grid.fits, grid.fits * part[1])
        if failed:
            warn(
                f"{not_converged.format(n=self.max_iter)}: {len(failed)} of {grid.fits} fits ended with a gradient "
                f"above tol={self.tol}, the first {failed[0]}. Increase the number of iterations to improve the "
                f"convergence (max_iter={self.max_iter}), leave out the weakest penalties, or scale X.",
                ConvergenceWarning,
            )

    def _score_all(
        self,
        grid: Grid,
        paths: Array,
        rows: Rows,
        y: Array,
        scorer: Any,
        sample_weight: Vector | None,
        score_params: dict[str, Any],
    ) -> Vector:
        """Return the held-out scores, (folds, n_l1, n_cs), in the order in which the scorer is called."""
        X, D = rows.X, rows.D
        scores = np.empty((len(grid.folds), grid.n_l1, len(grid.Cs)))
        if scorer is not None:
            scorer = with_classes(scorer, self.classes_)
        for f, fold in enumerate(grid.folds):

            def bare(j: int, W: Array, b: Array) -> Any:
                model = LogisticRegression(solver=self.solver, C=float(grid.Cs[j]), n_threads=self.n_threads)
                model.classes_, model.coef_, model.intercept_ = self.classes_, W[j], b[j]
                model.n_features_in_ = D
                if hasattr(self, "feature_names_in_"):
                    model.feature_names_in_ = self.feature_names_in_
                return model

            parameters = _check_method_params(X=X, params=score_params, indices=fold.test)
            for a in range(grid.n_l1):
                W, b = paths[f, a, ..., :D], np.zeros(paths.shape[2:4])
                if paths.shape[-1] > D:
                    b = paths[f, a, ..., D]
                scored = fold_scores(
                    fold,
                    Models(W, b, self.n_threads, rows.offset),
                    X,
                    y,
                    scorer,
                    partial(bare, W=W, b=b),
                    sample_weight=sample_weight,
                    parameters=parameters,
                )
                scores[f, a] = list(scored)
        return scores

    def _finish(self, grid: Grid, scores: Vector, paths: Array, found: list[Fits], legacy: bool) -> Self:
        """Choose C and the l1 ratio, and set all attributes but those of the data; `found` has the fits of each ratio.

        The shapes of some depend on `legacy`.
        """
        layout, dtype = found[0].layout, paths.dtype
        D, total, ratios = layout.D, scores.sum(axis=0), [fits.l1_ratio for fits in found]
        if self.refit:
            j, a = np.unravel_index(np.argmax(total.T), total.T.shape)
            if self.refit == "one_se":
                j = np.intp(one_standard_error(scores[:, a], grid.Cs, int(j)))
            w = found[a].whole[j]
            coefficients = layout.by_class(layout.centred(w, ratios[a] > 0), dtype)
            chosen = float(grid.Cs[j]), self.l1_ratios_[a]
        else:
            flat = np.argmax(scores.transpose(0, 2, 1).reshape(len(scores), -1), axis=1)
            best, at = np.divmod(flat, grid.n_l1)
            coefficients = np.mean([paths[f, at[f], j] for f, j in enumerate(best)], axis=0, dtype=dtype)
            mean = float(np.mean([ratios[a] for a in at])) if self._mixed else 0.0
            chosen = float(np.mean(grid.Cs[best])), mean
        self.coef_ = coefficients[:, :D].copy()
        self.intercept_ = coefficients[:, D].copy() if layout.intercept else np.zeros(layout.count, dtype)
        all_of = list({fits.l1_ratio: fits for fits in found}.values())
        failed = sum(int(np.count_nonzero(~fits.converged)) for fits in all_of)
        self.converged_ = not failed
        iterations = sum(int(fits.n_iter.sum() + fits.whole_n_iter.sum()) for fits in all_of)
        self.convergence_report_ = (
            f"{grid.fits * len(all_of)} fits, {iterations} iterations, {failed} not converged\n"
            f"largest gradient component of any: {max(float(fits.gradient.max()) for fits in all_of):.3g}"
        )
        C, l1_ratio = chosen
        n_iter = np.stack([fits.n_iter for fits in found], axis=1)
        self.C_: Any
        self.l1_ratio_: Any
        self.scores_: Any
        if not legacy:
            self.C_, self.l1_ratio_ = C, float(l1_ratio or 0.0)
            self.scores_, self.coefs_paths_, self.n_iter_ = scores, paths, n_iter
            return self
        count = paths.shape[3]
        last: Any = 0 if self.l1_ratios_[0] is None else slice(None)  # keeps the axis of the l1 ratios, or drops it
        classes = self.classes_[-count:] if count > 1 else self.classes_[1:]
        self.C_, self.l1_ratio_ = np.full(count, C), np.array([l1_ratio] * count)
        by_C = scores.transpose(0, 2, 1)[..., last]
        self.scores_ = {label: by_C.copy() for label in classes}
        each = paths.transpose(3, 0, 2, 1, 4)[:, :, :, last]
        self.coefs_paths_ = dict(zip(classes, each, strict=True))
        self.n_iter_ = n_iter.transpose(0, 2, 1)[np.newaxis, ..., last]
        return self

    @_deprecate_positional_args(version="1.11")  # type: ignore[untyped-decorator]
    def score(
        self, X: Any, y: Any = None, *, sample_weight: Any = None, offset: Any = None, **score_params: Any
    ) -> float:
        """Return the score of samples by `scoring`, accuracy by default.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D); or Chunks
            Samples. Chunks bring their own labels, weights and offsets, and their score is the accuracy.
        y : array_like, shape (N,)
            Labels of the samples.
        sample_weight : array_like, shape (N,), optional
            Weights of the samples.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores of the classes.
        **score_params : dict
            Other arguments that the scorer requests, where metadata routing is enabled.

        Returns
        -------
        float
            The score, where greater is better.
        """
        _raise_for_params(score_params, self, "score")
        if isinstance(X, Pieces):
            if self.scoring not in (None, "warn", "accuracy"):
                raise ValueError(
                    f"the score of {X.kind} is the accuracy, and scoring={self.scoring!r}: compute that from "
                    "predict_proba(X)"
                )
            return float(super().score(X, y, sample_weight, offset))
        if sample_weight is not None:
            score_params = {**score_params, "sample_weight": sample_weight}
        if _routing_enabled():
            more = {} if offset is None else {"offset": offset}
            score_params = process_routing(self, "score", **score_params, **more)["scorer"]["score"]
        score: float = self._get_scorer()(self if offset is None else Beside(self, offset), X, y, **score_params)
        return score

    def _get_scorer(self) -> Any:
        named = None if isinstance(self.scoring, str) and self.scoring == "warn" else self.scoring
        return get_scorer(named or "accuracy")

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing: the splitter gets arguments of `fit`, the scorer those of `fit` and `score`.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRouter
            The router, which scikit-learn's guide on metadata routing explains.
        """
        split = MethodMapping().add(caller="fit", callee="split")
        score = MethodMapping().add(caller="score", callee="score").add(caller="fit", callee="score")
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(splitter=self.cv, method_mapping=split)
            .add(scorer=self._get_scorer(), method_mapping=score)
        )
