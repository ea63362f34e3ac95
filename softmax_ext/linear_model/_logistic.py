"""`LogisticRegression` with scikit-learn's interface: its parameters, and the course of a fit.

Its other parts are in modules of their own. `_objective/parameters.py` lays out the coefficients in a vector. In
`_fit`, `scikit_learn.py` reads the parameters as scikit-learn does, and warns in its words, `training_data.py` checks
the data, `minibatch.py` trains by mini-batches, `prediction.py` predicts, and `observers.py` reports each iteration. Of
these only the methods of `prediction.py` are inherited.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import sklearn.linear_model
from sklearn.base import BaseEstimator, _fit_context
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils._param_validation import Interval, StrOptions

from .._core.calls import Steps, alone
from .._core.turns import Turn
from .._data.files import save
from .._fit.journal import Journal, course
from .._fit.minibatch import Checkpoint, MiniBatches, continued, problem_of, seed_of, warn_of_idle_options
from .._fit.observers import Course, Observer, observing, scikit_learn_callbacks
from .._fit.prediction import PredictionMixin
from .._fit.readable import check_finite, finite_offset
from .._fit.scaling import StandardisedObjective, standardised, standardised_pieces, steps_standardised
from .._fit.scikit_learn import (
    CONSTRAINTS,
    SOLVERS,
    CallbackSupportMixin,
    Strength,
    check_once,
    strength,
    warn_of_the_end,
)
from .._fit.stream import RULES, Stream, fingerprint
from .._fit.training_data import check_data, check_more_data, checked_weights, problem_of_pieces
from .._inputs.dtypes import COMPUTES_IN
from .._inputs.rows import Rows
from .._objective.binomial import objective_of
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Pieces, PiecesObjective, Problem, Survey, finite_piece
from .._optim.descent import Solution
from .._optim.solvers import steps
from ..chunks import Chunks
from ..inference import Inference
from ..inference._estimate import inferred
from ._interchange import InterchangeMixin

__all__ = ["LogisticRegression"]

Array = npt.NDArray[Any]

# Fits to at most so many numbers take turns in Python where several threads fit; passes over more let others in.
SMALL = 2**16


class LogisticRegression(
    PredictionMixin, InterchangeMixin,
    CallbackSupportMixin, LinearClassifierMixin, SparseCoefMixin, BaseEstimator,  # type: ignore[misc]
):  # fmt: skip
    r"""Softmax (multinomial logistic) regression with an L1 or L2 penalty, both or none: scikit-learn's, faster.

    The interface is that of `sklearn.linear_model.LogisticRegression` 1.9, and so is the model. With the samples'
    weights s and m = Σ s_i, it is the minimum of

    .. math:: -\frac{1}{m} \sum_i s_i \sum_k Y_{ik} \log S_{ik}
        + \frac{1}{C m} \sum_{kd} v_d \Big( \frac{1 - r}{2} W_{kd}^2 + r |W_{kd}| \Big)

    with r = `l1_ratio` and v = `penalty_weights`. The intercept is not penalised. With two classes there is one row of
    coefficients, that of ``classes_[1]``; those of the other class are zero.

    Parameters
    ----------
    penalty : {"l1", "l2", "elasticnet", None}, optional
        As in scikit-learn, where it is deprecated since 1.8: use `l1_ratio`, and ``C=np.inf`` for None.
    C : float > 0, default 1.0
        Inverse strength of the penalty; ``np.inf`` for none.
    l1_ratio : float in [0, 1], default 0
        The fraction of the penalty that is L1, which makes coefficients exactly 0: 0 is L2, 1 is L1, and a number
        between them is the elastic net. As in scikit-learn, only ``solver="saga"`` takes all of them, and "liblinear"
        takes 0 and 1.
    dual : bool, default False
        True is accepted with ``solver="liblinear"``, and changes nothing.
    tol : float >= 0, default 1e-4
        The fit stops when two conditions hold. No component of the gradient of the objective above is larger than
        `tol`, which is scikit-learn's rule, and the objective is predicted to fall by no more than
        ``1e-3 max(objective, tol)`` until its minimum (`predicted_decrease_`). On wide data the first condition alone
        would stop far from the minimum.
    fit_intercept : bool, default True
        Whether there is an intercept.
    intercept_scaling : float > 0, default 1
        Accepted, without effect: the intercept is never penalised, not even with ``solver="liblinear"``.
    class_weight : dict of label to weight, or "balanced", optional
        Weights of the classes, by which the sample weights are multiplied before m is computed. "balanced" is
        Σ s / (K Σ_{y_i = k} s_i).
    random_state : int or RandomState, optional
        Seed of the shuffles of mini-batches and of the choice of held-out rows: with a number, fits are equal to the
        bit. Nothing else is random.
    solver : {"lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"}, default "lbfgs"
        All of them end at the same optimum. "newton-cg" and "newton-cholesky" are Newton's method from the given start;
        with all others softmax_ext chooses the method, which `explain_plan` tells. As in scikit-learn, "liblinear" is
        for two classes. With an `l1_ratio` above 0, "saga" and "liblinear" are `softmax_ext.optim.proximal`.
        "sgd", "momentum", "nesterov" and "adam", which scikit-learn does not have, take `epochs` passes in shuffled
        mini-batches by the rules of `softmax_ext.optim`, and end near the optimum. `max_iter` has no effect on them.
    max_iter : int >= 0, default 100
        Greatest number of iterations; a ConvergenceWarning tells if it was not enough.
    verbose : int, default 0
        If above 0, a progress bar is shown, or a line is printed for each iteration if `rich` is not installed.
    warm_start : bool, default False
        Whether to begin at the coefficients of the previous fit.
    n_jobs : int, optional
        Without effect, and deprecated, as in scikit-learn: use `n_threads`.
    n_threads : int, optional
        Number of threads, which does not change a bit of the result; see `loss_grad`.
    callback : callable, optional
        Called after each iteration with its number, from 1, the objective, and the largest absolute component of
        the gradient. With mini-batches it is called after each epoch with the epoch's number, the mean objective of its
        batches, and the loss of the held-out rows, or nan. If it has a parameter ``w``, it also gets the coefficients
        row after row, followed by the intercepts. If it returns something true, the fit stops.
    epochs : int >= 0, default 10
        Number of passes over the data with mini-batches.
    batch_size : int >= 1, default 256
        Number of rows of a mini-batch, also in `partial_fit`.
    learning_rate : float > 0 or callable, optional
        Initial learning rate of mini-batches. By default it is 0.01 for Adam, and follows from X's rows for the other
        solvers. Steps are taken as if each feature had been scaled so that its entries other than 0 have a mean square
        of 1, and the rate is for these. It falls along a cosine to 0 at the end of `epochs`, and in `partial_fit` with
        the square root of the number of steps. A callable, such as ``optim.constant(0.1)``, is a schedule instead: it
        is called with the number of steps so far, and returns the rate.
    average : bool, default False
        Whether the result is the mean over all steps after the first epoch: `optim.averaged`.
    early_stopping : bool, default False
        With mini-batches, whether some rows are held out for validation. The fit then stops after `n_iter_no_change`
        epochs that have lowered their loss by no more than `tol`, and the coefficients with the least loss are kept.
    validation_fraction : float in (0, 1), default 0.1
        The fraction of the rows that `early_stopping` holds out.
    n_iter_no_change : int >= 1, default 5
        The number of epochs without improvement after which `early_stopping` stops.
    label_smoothing : float in [0, 1], default 0
        ε: the targets become (1 - ε) Y + ε / K, as in `loss_grad`. They then are K numbers for each sample: for all
        samples if these are in memory, or for those of one chunk at a time.
    standardize : bool, default False
        Whether to fit the model that a StandardScaler in front of it would give, without a scaled copy of X. The
        penalty and `tol` are then for coefficients of (x - mean) / scale, with the moments of StandardScaler, weighted
        by `sample_weight`. `coef_` and `intercept_` are for x as given, also if X is sparse; a constant feature has
        the coefficient 0. It cannot be used with mini-batches or `inference`.
    checkpoint : path, optional
        A file from which a fit that was interrupted goes on. A fit with mini-batches saves its state after each epoch,
        and, if the data are chunks, also every ten seconds within one. A fit to chunks or on Dask with another solver
        saves the result of each of its passes, mostly K D numbers. If the file exists already, the fit goes on from it,
        to the same bits as without the interruption; `callback` gets the iterations before it once more. A file of
        other data, parameters or another `random_state` raises an error, but `tol` and `max_iter` may differ.
    grouped : bool, default False
        Whether the L1 part takes the coefficients of a feature in all classes together: ``Σ_k |W_kd|`` is replaced by
        the norm ``(Σ_k W_kd²)^½``, so that a feature is used by all classes or by none. This is glmnet's
        ``type.multinomial="grouped"``. It has no effect if `l1_ratio` is 0.
    penalty_weights : array_like, shape (D,), optional
        v, not negative: how much each feature is penalised. By default all are 1; a feature with 0 is not penalised.
        They are glmnet's ``penalty.factor``, but are used as given, whereas glmnet makes them sum to D. They cannot be
        used with mini-batches.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The sorted labels; 0..K-1 after a fit to probabilities.
    coef_ : ndarray, shape (K, D), or (1, D) for two classes
        Coefficients: float32 for X of float32, float16, bfloat16, int8 or uint8, else float64.
    intercept_ : ndarray, shape (K,), or (1,)
        Intercepts, or zeros if there are none.
    n_iter_ : ndarray of int32, shape (1,)
        The number of iterations, of epochs with mini-batches, or of steps of all calls of `partial_fit`. With an L1
        penalty and 2000 features or more, the number of fits among some of the features.
    mean_, scale_ : ndarray, shape (D,)
        With ``standardize=True``, the attributes of these names that StandardScaler would have.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray of str, shape (D,)
        Names of X's columns, if X had them.
    loss_curve_ : ndarray, shape (iterations + 1,)
        Objective at the start and after each iteration; with mini-batches the mean objective of each epoch.
    validation_curve_ : ndarray, shape (iterations,)
        With mini-batches, the loss of the held-out rows after each epoch; empty if there are none.
    predicted_decrease_ : float
        How far the minimum lies below the last objective by the optimiser's quadratic model: half of gᵀ H g, with the
        gradient g and the inverse H of the Hessian, or L-BFGS's approximation of it; nan after mini-batches.
    violation_ : float
        The largest violation of the optimality conditions. Without an L1 penalty it is the largest component of the
        gradient. With one, it is that of the whole objective's gradient where a coefficient is not 0, and where it is 0
        the amount by which the gradient without the L1 part exceeds ``r v / (C m)``. Neither this nor `gap_` is set
        after mini-batches.
    gap_ : float
        The duality gap: a bound on how far the objective lies above its minimum. It is nan without a penalty and if
        some features are not penalised, and inf if there is an L1 penalty and the violation is not within `tol`.
    converged_ : bool
        Whether the gradient and the predicted decrease are within `tol`. With an L1 penalty, whether the violation is
        within `tol` and the duality gap at most ``0.1 tol max(objective, tol)``. With mini-batches, whether the fit has
        stopped early.
    convergence_report_ : str
        Which method ran, and why it stopped, in a few lines.

    Raises
    ------
    ValueError
        By `fit`, where scikit-learn raises it, and if a penalty weight is negative or not finite, or if there are not D
        of them.

    See Also
    --------
    softmax_ext.loss_grad : The function that is minimised, without the penalty.

    Notes
    -----
    For more than two classes the coefficients are only determined up to a vector that is added to all rows. A fit
    returns those that sum to zero over the classes, as they do at the minimum of the penalised objective. [1]_ With an
    L1 penalty only the intercepts sum to zero.

    Unlike scikit-learn's estimator, this one does not support the array API.

    References
    ----------
    .. [1] Zhu and Hastie, "Classification of gene microarrays by penalized logistic regression", Biostatistics 5
       (2004), 427-443.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> model = LogisticRegression().fit(X, y)
    >>> model.predict(X[:2])
    array([0, 0])
    >>> model.score(X, y)
    0.9733333333333334
    """

    _stream: Stream | None  # the state of the last run of mini-batches
    _goes_on: bool  # whether the next fit goes on from that state
    _fixed: npt.NDArray[np.bool_] | bool  # for which features an L1 penalty determines the coefficients

    _scikit_learns = sklearn.linear_model.LogisticRegression

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "penalty": [StrOptions({"l1", "l2", "elasticnet", "deprecated"}), None],
        "C": [Interval(Real, 0, None, closed="right")],
        "l1_ratio": [Interval(Real, 0, 1, closed="both"), None],
        "solver": [StrOptions(set(SOLVERS) | set(RULES))],
        "warm_start": ["boolean"],
        "epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [None, Interval(Real, 0, None, closed="neither"), callable],
        "average": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="both")],
        "standardize": ["boolean"],
        "checkpoint": [None, str, os.PathLike],
        "grouped": ["boolean"],
        "penalty_weights": [None, "array-like"],
    }

    def __init__(
        self,
        penalty: str | None = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-4,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: dict[Any, float] | str | None = None,
        random_state: int | np.random.RandomState | None = None,
        solver: str = "lbfgs",
        max_iter: int = 100,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
        n_threads: int | None = None,
        callback: Observer | None = None,
        epochs: int = 10,
        batch_size: int = 256,
        learning_rate: float | Callable[[int], float] | None = None,
        average: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        label_smoothing: float = 0.0,
        standardize: bool = False,
        checkpoint: str | os.PathLike[str] | None = None,
        grouped: bool = False,
        penalty_weights: npt.ArrayLike | None = None,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.n_threads = n_threads
        self.callback = callback
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.average = average
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.label_smoothing = label_smoothing
        self.standardize = standardize
        self.checkpoint = checkpoint
        self.grouped = grouped
        self.penalty_weights = penalty_weights

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D); or Chunks
            Samples. float32, float16, bfloat16, int8 and uint8 are read as they are, and other dtypes are converted to
            float64; sparse formats are converted to CSR, and stay sparse. Chunks, of `softmax_ext.chunks`, bring their
            own targets and weights.
        y : array_like, shape (N,) or (N, K)
            Labels of at least two classes. A two-dimensional array with K >= 2 columns of a floating dtype holds
            probabilities of the classes 0..K-1, not negative, whose rows need not sum to one.
        sample_weight : array_like, shape (N,), optional
            Weights s_i, not negative and not all zero; by default all are 1.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores X Wᵀ + b of the classes, in the order of `classes_`, or, if of shape (N,), to the score
            of ``classes_[1]``. Predictions need the offsets of their own rows. Chunks bring their own. For
            scikit-learn's metadata routing: ``set_fit_request(offset=True)``.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Notes
        -----
        If a fit is interrupted by Ctrl-C, or by an error while reading or in a callback, the estimator keeps the best
        coefficients so far, from which a fit with `warm_start` goes on.
        """
        # What scikit-learn prepares around a fit is for its callbacks and validated functions. In a small fit it would
        # take as long as the checks of the data.
        if not self._is_small(X):
            return self._fit_in_context(X, y, sample_weight, offset)  # type: ignore[no-any-return]
        if not sklearn.get_config()["skip_parameter_validation"]:
            self._validate_params()
        with Turn():
            return self._fit_in_memory(X, y, sample_weight, offset)

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def _fit_in_context(self, X: Any, y: Any, sample_weight: Any, offset: Any) -> Self:
        if not isinstance(X, Chunks):
            return self._fit_in_memory(X, y, sample_weight, offset)
        asked = self._asked(None)
        if offset is not None:
            raise TypeError("the offsets of chunks are in them: name them where the chunks are made")
        with X.reading():
            return self._fit_pieces(X, y, sample_weight, asked)

    def _fit_in_memory(self, X: Any, y: Any, sample_weight: Any, offset: Any) -> Self:
        rows, penalty, y = self._data(X, y, sample_weight, offset)
        if self.solver in RULES:
            self._need_no_scaling()
            problem = problem_of(rows, rows.total, self._layout(), penalty, self.n_threads)
            return self._fit_batches(lambda: [rows], problem, rows)
        objective = self._objective(rows, penalty, sample_weight)
        return self._minimise(objective, rows.X.dtype, rows.X, y, sample_weight)

    def _begun(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> tuple[Any, Rows, Array]:
        """Return the objective of a fit by a full-batch optimiser, the samples, and the start, for `fit_many`."""
        rows, penalty, _ = self._data(X, y, sample_weight, offset)
        return self._objective(rows, penalty, sample_weight), rows, self._start()

    def _asked(self, checkpoint: Any) -> Strength:
        """Begin a fit: check the parameters that depend on one another, and return the penalty's strength."""
        asked = self._strength()
        if self.solver not in RULES:
            warn_of_idle_options(self.solver, checkpoint=checkpoint, early_stopping=self.early_stopping)
        if self.solver not in RULES or not getattr(self, "_goes_on", False):
            self._stream = None
        return asked

    def _data(self, X: Any, y: Any, sample_weight: Any, offset: Any) -> tuple[Rows, Penalty, Any]:
        """Begin a fit to arrays, and return the checked data, the penalty, and y as scikit-learn converts it."""
        asked = self._asked(self.checkpoint)
        # The first pass of an optimiser finds NaN and infinity in X, but the first mini-batch sees only a few rows.
        rows, self.classes_, y = check_data(
            self, X, y, sample_weight, class_weight=self.class_weight, solver=self.solver, finite=self.solver in RULES
        )
        rows.offset = finite_offset(offset, len(rows), len(self.classes_))
        rows = rows.smoothed(len(self.classes_), self.label_smoothing)
        return rows, self._penalty(asked, rows.total), y

    def _objective(self, rows: Rows, penalty: Penalty, sample_weight: Any) -> Any:
        if not self.standardize:
            return objective_of(rows, self._layout(), penalty, n_threads=self.n_threads)
        layout = Parameters.of_model(len(self.classes_), rows.D, bool(self.fit_intercept))
        objective = standardised(rows, layout, checked_weights(sample_weight, rows.X), self.n_threads)
        objective.penalty = penalty
        self.mean_, self.scale_ = objective.scaling.mean, objective.scaling.scale
        return objective

    def inference(
        self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None, *, cov_type: str = "nonrobust"
    ) -> Inference:
        """Fit to the last digits, and return the coefficients with standard errors, tests and intervals.

        The estimator need not have been fitted, and is not changed. The fit ends with Newton's method, whatever the
        solver. The Hessian is one matrix in memory, so K D may be up to some thousands.

        Parameters
        ----------
        X, y, sample_weight, offset
            As for `fit`: dense or sparse arrays, or chunks, and with `softmax_ext.dask` also Dask's collections. A
            weight says how often a sample was seen.
        cov_type : {"nonrobust", "HC0"}, default "nonrobust"
            The covariance, named as in statsmodels: the inverse of the information, which trusts the model; or White's
            sandwich, which does not, from one more pass for the squares of the samples' scores. The sandwich is for
            models without a penalty.

        Returns
        -------
        Inference
            An immutable result, which prints as a table. Without a penalty (``C=np.inf``) the covariance is the inverse
            of the information, and ``inference(X, y).against(base)`` has the table of statsmodels' MNLogit. With a
            penalty it is the covariance of the posterior for a normal prior, and p values are not to be trusted.

        Raises
        ------
        ValueError
            Where `fit` raises it. Without a penalty, also if columns are collinear; the message names them.

        Warns
        -----
        ConvergenceWarning
            If classes are separated and there is no penalty; it says which, and along what. Coefficients that the data
            do not determine then have infinite standard errors.
        UserWarning
            If there is a penalty.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> result = LogisticRegression(C=np.inf).inference(X[50:], y[50:])
        >>> result.p_value.round(3).tolist()
        [[0.303, 0.136, 0.047, 0.061, 0.097]]
        """
        if self.standardize:
            raise ValueError("inference is not there with standardize=True: fit to scaled X, or without a penalty")
        return inferred(self, X, y, sample_weight, offset, cov_type)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Take a few steps on more data, in constant memory. `solver` has no effect.

        Each `batch_size` rows, in their order, are one step of Adam, whose rate falls with the square root of the
        number of steps. The penalty's weight is 1 / (C Σ s), where Σ s is over all samples so far. After `fit` the
        steps begin at its coefficients.

        Parameters
        ----------
        X : array_like or data frame, shape (n, D)
            Samples.
        y : array_like, shape (n,) or (n, K)
            Labels, or probabilities of the classes 0..K-1.
        classes : array_like, shape (K,), optional
            All labels of this and of later calls. They are needed in the first call, unless y holds probabilities.
        sample_weight : array_like, shape (n,), optional
            Weights, not negative. They are multiplied by ``class_weight`` if that is a dict; "balanced" raises an
            error.
        offset : array_like, shape (n, K), or (n,) for two classes, optional
            Added to the scores of these samples, as in `fit`.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        ValueError
            If a label is not among the classes, if the classes differ from those of earlier calls, and where `fit`
            raises it.
        FloatingPointError
            If the objective overflows, since `learning_rate` is too large.

        References
        ----------
        D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, section 4: the rate α / √t.

        Examples
        --------
        >>> import numpy as np
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> rng, model = np.random.default_rng(0), LogisticRegression()
        >>> for _ in range(50):
        ...     X = rng.standard_normal((100, 3))
        ...     model = model.partial_fit(X, X.argmax(axis=1), classes=[0, 1, 2])
        >>> model.predict(np.eye(3))
        array([0, 1, 2])
        """
        self._need_no_scaling()
        asked = self._strength()
        if asked.l1_ratio or self.penalty_weights is not None:
            raise ValueError(
                f"partial_fit has the L2 penalty alone, the same for all features, got l1_ratio={asked.l1_ratio:g} and "
                f"penalty_weights={self.penalty_weights!r}: use fit, which takes Chunks as well"
            )
        self._fixed = False
        known = getattr(self, "classes_", None)
        rows, self.classes_ = check_more_data(
            self, X, y, classes, sample_weight, known=known, class_weight=self.class_weight, solver=self.solver
        )
        rows.offset = finite_offset(offset, len(rows), len(self.classes_))
        rows = rows.smoothed(len(self.classes_), self.label_smoothing)
        trainer = replace(MiniBatches.of(self), C=asked.C)
        stream = getattr(self, "_stream", None)
        if stream is None or not stream.weight:
            start = self._start(go_on=hasattr(self, "coef_"))
            stream = trainer.begin("adam", rows.X, start, self._layout(), seed_of(self.random_state))
        trainer.go_through(stream, rows, problem_of(rows, 1.0, self._layout(), Penalty(), self.n_threads))
        self._keep_stream(trainer, stream, np.result_type(getattr(self, "coef_", rows.X), rows.X))
        return self

    def get_state(self) -> dict[str, Array]:
        """Return the state of a fit with mini-batches, or of `partial_fit`, as a dict of arrays; see `set_state`.

        Raises
        ------
        ValueError
            If there has been no such fit.
        """
        stream = getattr(self, "_stream", None)
        if stream is None:
            raise ValueError(
                f"there is no state: fit by mini-batches first, solver one of {', '.join(RULES)}, or call partial_fit"
            )
        return MiniBatches.of(self).state(stream, self.classes_, self.n_features_in_, self.coef_.dtype)

    def set_state(self, state: dict[str, Array] | str | os.PathLike[str]) -> Self:
        """Restore a state, so that the next `fit` or `partial_fit` goes on from it, to the same bits.

        Parameters
        ----------
        state : dict or path
            The result of `get_state`, or a file of `save_state` or of `checkpoint`. The estimator must have the same
            parameters as the one that was saved, and be fitted to the same data.

        Returns
        -------
        LogisticRegression
            The estimator itself, which predicts as the saved one did.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, or if the state has other parameters or is of a newer version.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> new = lambda **parameters: LogisticRegression(solver="adam", epochs=4, random_state=0, **parameters)
        >>> stopped = new(callback=lambda epoch, *_: epoch == 2).fit(X, y)
        >>> resumed = new().set_state(stopped.get_state()).fit(X, y)
        >>> bool((resumed.coef_ == new().fit(X, y).coef_).all())
        True
        """
        trainer = MiniBatches.of(self)
        stream, arrays = trainer.restored(state)
        self.classes_, self.n_features_in_ = arrays["classes"], int(arrays["features"])
        self._goes_on = True
        self._keep_stream(trainer, stream, np.dtype(str(arrays["dtype"])))
        return self

    def save_state(self, path: str | os.PathLike[str]) -> None:
        """Write the result of `get_state` to a .npz file, whose path `set_state` takes; it is never half written."""
        save(path, self.get_state())

    def _keep_stream(self, trainer: MiniBatches, stream: Stream, dtype: np.dtype[Any]) -> None:
        """Store the state of a run of mini-batches, and set the attributes that follow from it."""
        self._stream = stream
        kept = self._coefficients(trainer.coefficients(stream), dtype) | trainer.report(stream)
        for name, value in kept.items():
            setattr(self, name, value)

    def _fit_batches(self, pieces: Callable[[], Iterable[Rows]], problem: Problem, some: Rows) -> Self:
        """Fit by mini-batches of encoded pieces; `some` of their rows give a learning rate, and a fingerprint."""
        trainer, data = MiniBatches.of(self), fingerprint(problem.rows, some)
        checkpoint = None if self.checkpoint is None else Checkpoint(self.checkpoint)
        if checkpoint is not None and checkpoint.path.exists():
            self._take_up(checkpoint.path)
        if getattr(self, "_goes_on", False) and self._stream is not None:
            self._goes_on = checkpoint is None  # if `continued` raises, only a state that the user has set is kept
            name = "the state" if checkpoint is None else str(checkpoint.path)
            stream = continued(self._stream, name, problem.parameters.size, data, self.random_state)
        else:
            stream = trainer.begin(self.solver, some.X, self._start(), problem.parameters, seed_of(self.random_state))
        stream.data = data
        self._goes_on = False

        def keep(now: Stream, over: bool) -> None:
            self._keep_stream(trainer, now, problem.dtype)
            if checkpoint is not None:
                checkpoint.save(self.get_state, over)

        with self._told(self.epochs) as tell:
            trainer.fit(stream, pieces, problem, keep, tell)
        if self._stream is None:
            self._keep_stream(trainer, stream, problem.dtype)
        return self

    def _take_up(self, checkpoint: pathlib.Path) -> None:
        classes, features = self.classes_, self.n_features_in_
        self.set_state(checkpoint)
        if not np.array_equal(self.classes_, classes.astype(self.classes_.dtype)) or features != self.n_features_in_:
            raise ValueError(f"{checkpoint} is of a fit to other classes or features: remove it, or name another file")
        self.classes_ = classes

    def _fit_pieces(self, pieces: Pieces, y: Any, sample_weight: Any, asked: Strength) -> Self:
        if y is not None or sample_weight is not None:
            raise TypeError(f"y and sample_weight are in {pieces.kind}: call fit(X), without them")
        found, sample = pieces.look()
        problem = self._pieces_problem(found, asked)
        if pieces.names is not None:
            self.feature_names_in_ = np.array(pieces.names, object)
        if self.solver in RULES and isinstance(pieces, Chunks):

            def prepared(piece: Rows) -> Rows:
                return problem.encoded(finite_piece(pieces.unchanged(piece)))

            return self._fit_batches(lambda: pieces.pieces(prepared), problem, problem.encoded(sample))
        return self._minimise_pieces(pieces, pieces.objective(problem, sample))

    def _pieces_problem(self, found: Survey, asked: Strength) -> Problem:
        """Return the problem that a first pass over all pieces has found, and set the attributes that follow."""
        if self.solver in RULES:
            self._need_no_scaling()
        problem = problem_of_pieces(
            found,
            lambda m: self._penalty(asked, m),
            class_weight=self.class_weight,
            solver=self.solver,
            fit_intercept=bool(self.fit_intercept or self.standardize),
            n_threads=self.n_threads,
        )
        self.classes_, self.n_features_in_ = found.classes, found.D
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        return problem._replace(smoothing=self.label_smoothing)

    def _minimise_pieces(self, pieces: Pieces, objective: PiecesObjective) -> Self:
        """Minimise with a checkpoint, if one is named; after an error or Ctrl-C keep the best coefficients so far."""
        with ExitStack() as stack:
            if self.checkpoint is not None:
                journal = Journal(self.checkpoint, course(objective, self.solver, standardize=bool(self.standardize)))
                objective.journal = stack.enter_context(journal)
            return self._minimise_kept(pieces, objective)

    def _minimise_kept(self, pieces: Pieces, objective: PiecesObjective) -> Self:
        if self.standardize:
            around = standardised_pieces(pieces, objective, intercept=bool(self.fit_intercept))
            self.mean_, self.scale_ = around.scaling.mean, around.scaling.scale
            return self._minimise(around, objective.dtype, None, None, None)
        try:
            return self._minimise(objective, objective.dtype, None, None, None)
        except BaseException:
            if objective.best is not None:
                for name, value in self._coefficients(objective.best[1], objective.dtype).items():
                    setattr(self, name, value)
                self.converged_ = False
            raise

    def _minimise(self, objective: Any, dtype: np.dtype[Any], X: Any, y: Any, sample_weight: Any) -> Self:
        start = self._start()
        if not self._watched:
            return self._ended(self._solution(objective, dtype, start), start, dtype, X)
        with self._observers(X, y, sample_weight, start) as call:
            return self._ended(self._solution(objective, dtype, start, call), start, dtype, X)

    def _solution(self, objective: Any, dtype: np.dtype[Any], start: Array, call: Observer | None = None) -> Solution:
        """Return the minimum; if the way there is broken off, keep the best coefficients so far."""
        with np.errstate(over="ignore", invalid="ignore"):  # errors and warnings say what they lead to
            return alone(self._steps(objective, dtype, start, call))

    def _steps(
        self, objective: Any, dtype: np.dtype[Any], start: Array, call: Observer | None = None, *, meeting: bool = False
    ) -> Steps[Solution]:
        """Do what `_solution` does; if it is `meeting` others, yield the calls that `steps` does."""
        method, _ = SOLVERS[self.solver]
        scaled = isinstance(objective, StandardisedObjective)
        course = Course(start, objective.raw if scaled else None)
        options: dict[str, Any] = {"tol": self.tol, "max_iter": self.max_iter, "callback": call, "begun": course.begin}
        try:
            descend = steps_standardised if scaled else steps
            return course.certified((yield from descend(objective, start, method, meeting=meeting, **options)))
        except BaseException as error:  # such as Ctrl-C, or an error in a callback
            if not isinstance(error, GeneratorExit):  # another fit has failed, or been interrupted
                self._keep(course.broken_off(error), dtype)
            raise

    def _ended(self, solution: Solution, start: Array, dtype: np.dtype[Any], X: Any) -> Self:
        if not (solution.n_iter or math.isfinite(solution.largest_gradient)) and X is not None:
            check_finite(X, self)
        self._keep(solution, dtype)
        if not solution.converged:
            warn_of_the_end(solution, self.solver, self.tol, self.max_iter, from_zero=not start.any())
        return self

    @property
    def _watched(self) -> bool:
        """Whether the iterations of a fit are told to anybody."""
        return self.callback is not None or bool(self.verbose) or hasattr(self, "_skl_callbacks")

    def _is_small(self, X: Any) -> bool:
        """Return whether a fit to X takes turns with others: it is small, and calls nothing of the user's."""
        small = type(X) is np.ndarray and X.size <= SMALL and isinstance(self.solver, str)
        return small and self.solver not in RULES and not self._watched

    @contextmanager
    def _observers(self, X: Any, y: Any, sample_weight: Any, start: Array) -> Iterator[Observer | None]:
        more: list[Observer] = []
        with ExitStack() as stack:
            if hasattr(self, "_skl_callbacks") and X is not None:
                more.append(stack.enter_context(scikit_learn_callbacks(self, X, y, sample_weight, start)))
            yield stack.enter_context(self._told(self.max_iter, more))

    def _need_no_scaling(self) -> None:
        if self.standardize:
            raise ValueError(
                "standardize=True takes the moments of all samples, which mini-batches do not see: scale the columns "
                "before, or use another solver"
            )

    def _validate_params(self) -> None:
        check_once(self, super()._validate_params)

    def _told(self, most: int, more: Iterable[Observer] = ()) -> AbstractContextManager[Observer | None]:
        return observing(self.callback, self.verbose, most, lambda: getattr(self, "converged_", False), more)

    def _strength(self) -> Strength:
        asked = strength(
            self.C,
            penalty=self.penalty,
            l1_ratio=self.l1_ratio,
            solver=self.solver,
            dual=self.dual,
            n_jobs=self.n_jobs,
        )
        if self.solver in RULES and self.penalty_weights is not None:
            raise ValueError(
                f"penalty_weights are not for mini-batches, solver={self.solver!r}: use solver='lbfgs', or 'saga' with "
                "an l1_ratio"
            )
        return asked

    def _penalty(self, asked: Strength, m: float) -> Penalty:
        penalty = asked.penalty(m, grouped=self.grouped, weights=self.penalty_weights)
        self._fixed = penalty.fixes(len(penalty.weights)) if penalty.weights is not None else penalty.l1 > 0
        return penalty

    def _start(self, *, go_on: bool = False) -> npt.NDArray[np.float64]:
        """Return the vector at which the fit begins, in the objective's layout: [W, row after row; b]."""
        parameters = self._layout()
        shape = (parameters.count, parameters.D)
        if not ((self.warm_start and hasattr(self, "coef_")) or go_on):
            return np.zeros(parameters.size)
        if self.coef_.shape != shape:
            raise ValueError(
                f"Initialization coef is of shape {self.coef_.shape}, expected shape {shape}: warm_start=True needs "
                "as many classes and features as the previous fit had"
            )
        self._parameter("coef_", self.coef_, shape)
        self._parameter("intercept_", self.intercept_, shape[:1])
        return parameters.join(self.densify().coef_, self.intercept_ if parameters.intercept else None)

    def _layout(self) -> Parameters:
        intercept = bool(self.fit_intercept or self.standardize)  # to subtract a mean is to add an intercept
        return Parameters.of_model(len(self.classes_), self.n_features_in_, intercept)

    def _keep(self, solution: Solution, dtype: np.dtype[Any]) -> None:
        self.__dict__.update(self._coefficients(solution.w, dtype))
        self.n_iter_ = np.array([solution.n_iter], np.int32)
        self.loss_curve_ = solution.curve
        self.converged_ = solution.converged
        self.predicted_decrease_ = solution.predicted_decrease
        self.violation_, self.gap_ = solution.violation, solution.gap
        self.convergence_report_ = solution.report

    def _coefficients(self, w: Array, dtype: np.dtype[Any]) -> dict[str, Array]:
        W, b = self._layout().model(w, COMPUTES_IN[dtype.char], getattr(self, "_fixed", False))
        return {"coef_": W, "intercept_": b}
