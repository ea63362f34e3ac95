"""`LogisticRegression` with scikit-learn's interface: its parameters, and how a fit goes.

`parameters.py` in `_objective` knows how coefficients lie. In `_fit`, `scikit_learn.py` reads the parameters as
scikit-learn does, and warns in its words; `training_data.py` checks what is fitted, `minibatch.py` fits it by
mini-batches, `prediction.py` has what a fitted model is asked for, and `observers.py` who is told of each iteration.
Only what a fitted model is asked for is inherited; the others are given what they need.
"""

from __future__ import annotations

import math
import os
import pathlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import sklearn.linear_model
from sklearn.base import BaseEstimator, _fit_context
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils._param_validation import Interval, StrOptions

from .._data.files import save
from .._fit.journal import Journal, course
from .._fit.minibatch import Checkpoint, MiniBatches, continued, problem_of, seed_of, warn_of_idle_options
from .._fit.observers import Course, Observer, observing, scikit_learn_callbacks
from .._fit.prediction import PredictionMixin
from .._fit.readable import check_finite, finite_offset
from .._fit.scaling import Scaling, StandardisedObjective, minimize_standardised, moments, standardised
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
from .._objective.pieces import PiecesObjective, Problem, Survey
from .._optim.descent import Solution
from .._optim.duality import gap_of
from .._optim.solvers import minimize
from ..chunks import Chunks, ChunksObjective
from ..inference import Inference
from ..inference._estimate import inferred
from ._interchange import InterchangeMixin

__all__ = ["LogisticRegression"]

Array = npt.NDArray[Any]


class LogisticRegression(
    PredictionMixin, InterchangeMixin,
    CallbackSupportMixin, LinearClassifierMixin, SparseCoefMixin, BaseEstimator,  # type: ignore[misc]
):  # fmt: skip
    r"""Softmax (multinomial logistic) regression with an L1 or L2 penalty, both or none: scikit-learn's, sooner.

    The surface is that of `sklearn.linear_model.LogisticRegression` 1.9, and so is the model: with m = Σ s_i it is
    the minimum of

    .. math:: -\frac{1}{m} \sum_i s_i \sum_k Y_{ik} \log S_{ik}
        + \frac{1}{C m} \sum_{kd} v_d \Big( \frac{1 - r}{2} W_{kd}^2 + r |W_{kd}| \Big)

    with r = `l1_ratio` and v = `penalty_weights`, in which the intercept is not penalised. With
    two classes there is one row of coefficients, that of ``classes_[1]``; the other class's is zero.

    Parameters
    ----------
    penalty : {"l1", "l2", "elasticnet", None}, optional
        As in scikit-learn, where it is deprecated since 1.8: use `l1_ratio`, and ``C=np.inf`` for None.
    C : float > 0, default 1.0
        Inverse strength of the penalty; ``np.inf`` for none.
    l1_ratio : float in [0, 1], default 0
        What part of the penalty is L1, which leaves coefficients at exactly 0: 0 is L2, 1 is L1, and between them is
        the elastic net. As in scikit-learn, only ``solver="saga"`` has all of them, and "liblinear" 0 and 1.
    dual : bool, default False
        True is accepted with ``solver="liblinear"``, and changes nothing.
    tol : float >= 0, default 1e-4
        The fit stops when no component of the gradient of the objective above is larger, which is scikit-learn's rule;
        and when besides the objective is predicted to fall by no more than ``1e-3 max(objective, tol)`` until its
        minimum: `predicted_decrease_`. On wide data the first alone would stop far from the minimum.
    fit_intercept : bool, default True
        Whether there is an intercept.
    intercept_scaling : float > 0, default 1
        Accepted, without effect: the intercept is never penalised, not even with ``solver="liblinear"``.
    class_weight : dict of label to weight, or "balanced", optional
        Multiplies the sample weights, before m is taken. "balanced" is Σ s / (K Σ_{y_i = k} s_i).
    random_state : int or RandomState, optional
        For the shuffles of mini-batches and the choice of what is held out: a number makes fits equal to the bit.
        Nothing else here is random.
    solver : {"lbfgs", "liblinear", "newton-cg", "newton-cholesky", "sag", "saga"}, default "lbfgs"
        The optimum is the same. The newton ones are Newton's method from the given start; all others let
        softmax_ext choose (`explain_plan` tells what). As in scikit-learn, liblinear is for two classes. With an
        `l1_ratio` above 0, "saga" and "liblinear" are `softmax_ext.optim.proximal`.
        Beyond scikit-learn, "sgd", "momentum", "nesterov" and "adam" take `epochs` passes in shuffled mini-batches,
        by the rules of `softmax_ext.optim`, and end near the optimum: `max_iter` is without effect there.
    max_iter : int >= 0, default 100
        Most iterations; ConvergenceWarning if they do not do.
    verbose : int, default 0
        Above 0 shows a progress bar, or prints a line for each iteration where `rich` is not installed.
    warm_start : bool, default False
        Whether to begin at the coefficients of the previous fit.
    n_jobs : int, optional
        Without effect, and deprecated, as in scikit-learn: use `n_threads`.
    n_threads : int, optional
        Threads to use, which never changes a bit of the result; see `loss_grad`.
    callback : callable, optional
        Called after each iteration with its number, from 1, the objective, and the largest absolute component of
        the gradient. With mini-batches: after each epoch, with the mean objective of its batches, and the loss of the
        rows held out, or nan. Besides with ``w=``, the coefficients row after row, then the intercepts, if it has a
        parameter of that name. If it returns true, the fit stops there.
    epochs : int >= 0, default 10
        Passes over the data by mini-batches.
    batch_size : int >= 1, default 256
        Rows of a mini-batch, also in `partial_fit`.
    learning_rate : float > 0 or callable, optional
        Of mini-batches, at the start: 0.01 for Adam by default, for the others derived from X's rows. It is a rate
        for features whose entries that are not 0 have a mean square of 1: others are treated as if they had. It falls
        along a cosine to 0 at the end of `epochs`, in `partial_fit` with the square root of the steps. A callable is
        a schedule of its own, such as ``optim.constant(0.1)``: called with the number of steps, it returns the rate.
    average : bool, default False
        Whether the result is the mean over all steps after the first epoch: `optim.averaged`.
    early_stopping : bool, default False
        Whether a part of the rows is held out, the coefficients that are best on it are taken, and the fit stops
        after `n_iter_no_change` epochs that have gained no more than `tol` on it.
    validation_fraction : float in (0, 1), default 0.1
        That part.
    n_iter_no_change : int >= 1, default 5
        Those epochs.
    label_smoothing : float in [0, 1], default 0
        ε: the targets become (1 - ε) Y + ε / K, as in `loss_grad`. The targets of all samples in memory are then N x K
        numbers; of chunks and mini-batches those of a chunk or of the samples in memory.
    standardize : bool, default False
        Whether to fit the model that a StandardScaler before it would give, without a scaled copy of X: the penalty and
        `tol` are for coefficients of (x - mean) / scale, with the moments that StandardScaler takes, weighted by
        `sample_weight`. `coef_` and `intercept_` are for x as it is, sparse X included; a constant feature's is 0.
        Not for mini-batches and `inference`.
    checkpoint : path, optional
        A file to which a mini-batch fit saves its state after each epoch, and within one every ten seconds where the
        data are chunks; and with any other solver a fit to chunks or on Dask the result of each of its passes, of K D
        numbers mostly. If it is there already, the fit goes on from it, to the same bits as without the break;
        `callback` sees the iterations before it once more. One of other data, parameters or another `random_state` is
        refused; `tol` and `max_iter` may be others.
    grouped : bool, default False
        Whether the L1 part takes the coefficients of a feature together, in all classes: in the place of ``Σ_k |W_kd|``
        is the norm ``(Σ_k W_kd²)^½``, so that a feature is used by all classes or by none. glmnet's
        ``type.multinomial="grouped"``. Without effect where `l1_ratio` is 0.
    penalty_weights : array_like, shape (D,), optional
        v, not negative: how much each feature is penalised, 1 by default; one with 0 is free. glmnet's
        ``penalty.factor``, but taken as they are, where glmnet makes them sum to D. Not for mini-batches.

    Attributes
    ----------
    classes_ : ndarray, shape (K,)
        The labels, sorted; 0..K-1 after a fit to probabilities.
    coef_ : ndarray, shape (K, D), or (1, D) for two classes
        Coefficients, of X's dtype.
    intercept_ : ndarray, shape (K,), or (1,)
        Intercepts; zeros without.
    n_iter_ : ndarray of int32, shape (1,)
        Iterations; epochs of mini-batches; steps of all calls of `partial_fit`. With an L1 penalty and 2000 features or
        more, fits among some of the features.
    mean_, scale_ : ndarray, shape (D,)
        With ``standardize=True``: what StandardScaler has under these names.
    n_features_in_ : int
        D.
    feature_names_in_ : ndarray of str, shape (D,)
        Names of X's columns, if X had them.
    loss_curve_ : ndarray, shape (iterations + 1,)
        Objective at the start and after each iteration; with mini-batches the mean objective of each epoch.
    validation_curve_ : ndarray, shape (iterations,)
        With mini-batches: the loss of the rows held out, after each epoch; empty if there are none.
    predicted_decrease_ : float
        How far below the last objective the minimum is, as the optimiser's own quadratic model has it: half of
        gᵀ H g, with g the gradient and H the inverse of the Hessian, or what L-BFGS takes for it; nan after
        mini-batches.
    violation_ : float
        The largest violation of the optimality conditions: without an L1 penalty the largest component of the gradient;
        with one, that of the gradient of all where a coefficient is not 0, and where it is 0 what the gradient of the
        rest exceeds ``r v / (C m)`` by. Not after mini-batches, as `gap_`.
    gap_ : float
        The duality gap: how far at most the objective lies above its minimum. nan without a penalty, and where
        features are free of penalty; with an L1 penalty inf if the violation is not within `tol`.
    converged_ : bool
        Whether the gradient and the predicted decrease are within `tol`; with an L1 penalty, whether the violation is,
        and the duality gap is at most ``0.1 tol max(objective, tol)``; with mini-batches, whether the fit has stopped
        early.
    convergence_report_ : str
        What ran, and why it stopped, in a few lines.

    Raises
    ------
    ValueError
        From `fit`, as scikit-learn; if a penalty weight is negative or not finite, or if there are not D of them.

    See Also
    --------
    softmax_ext.loss_grad : The function that is minimised, without the penalty.

    Notes
    -----
    For more than two classes the coefficients are only determined up to a vector that is added to all rows. Those
    given sum to zero over the classes, which the minimum of the penalised objective does of itself. [1]_ With an L1
    penalty only the intercepts do.

    What scikit-learn has and this has not: array API.

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

    _stream: Stream | None  # where the last run by mini-batches stands
    _goes_on: bool  # whether the next fit begins there
    _fixed: npt.NDArray[np.bool_] | bool  # of which features L1 has chosen the coefficients

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

    @_fit_context(prefer_skip_nested_validation=True)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D); or Chunks
            Samples. float32 is kept; all else is converted to float64, and sparse formats to CSR, which is never made
            an array of. Chunks, of `softmax_ext.chunks`, have targets and weights in them. If a fit ends in Ctrl-C or
            an error of reading or of a callback, the best coefficients so far are kept, from which a fit with
            `warm_start` goes on.
        y : array_like, shape (N,) or (N, K)
            Labels of at least two classes; or, if it is two-dimensional with K >= 2 columns of a floating dtype,
            probabilities of the classes 0..K-1, not negative, whose rows need not sum to one.
        sample_weight : array_like, shape (N,), optional
            Weights s_i, not negative, not all zero; one each by default.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores X Wᵀ + b of the classes, in the order of `classes_`; of shape (N,) to that of
            ``classes_[1]``. Whoever predicts from such a model gives the offsets of those rows. Chunks have theirs in
            them. For scikit-learn's metadata routing: ``set_fit_request(offset=True)``.

        Returns
        -------
        LogisticRegression
            The estimator itself.
        """
        asked = self._strength()
        if self.solver not in RULES:
            idle = None if isinstance(X, Chunks) else self.checkpoint
            warn_of_idle_options(self.solver, checkpoint=idle, early_stopping=self.early_stopping)
        if self.solver not in RULES or not getattr(self, "_goes_on", False):
            self._stream = None
        if isinstance(X, Chunks):
            if offset is not None:
                raise TypeError("the offsets of chunks are in them: name them where the chunks are made")
            return self._fit_pieces(X, y, sample_weight, asked)
        # An optimiser's first pass finds what is not finite; a run of mini-batches begins with a few of the rows.
        finite = self.solver in RULES
        rows, self.classes_, y = check_data(
            self, X, y, sample_weight, class_weight=self.class_weight, solver=self.solver, finite=finite
        )
        rows.offset = finite_offset(offset, len(rows), len(self.classes_))
        rows = rows.smoothed(len(self.classes_), self.label_smoothing)
        X, m = rows.X, rows.total
        penalty = self._penalty(asked, m)
        if self.solver in RULES:
            self._need_no_scaling()
            problem = problem_of(rows, m, self._layout(), penalty, self.n_threads)
            return self._fit_batches(lambda: [rows], problem, rows)
        objective: Any = None
        if self.standardize:
            layout = Parameters.of_model(len(self.classes_), rows.D, bool(self.fit_intercept))
            objective = standardised(rows, layout, checked_weights(sample_weight, X), self.n_threads)
            objective.penalty = penalty
            self.mean_, self.scale_ = objective.scaling.mean, objective.scaling.scale
        else:
            objective = objective_of(rows, self._layout(), penalty, n_threads=self.n_threads)
        return self._minimise(objective, X.dtype, X, y, sample_weight)

    def inference(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Inference:
        """Fit to the last digits, and return the coefficients with standard errors, tests and intervals.

        The estimator need not have been fitted, and stays as it is. All solvers end at the same minimum, and Newton's
        method goes on from there. The Hessian is one matrix: K D up to some thousands.

        Parameters
        ----------
        X, y, sample_weight, offset
            As for `fit`: dense, sparse, in chunks; with `softmax_ext.dask` also Dask's. A weight says how often a
            sample was seen.

        Returns
        -------
        Inference
            An immutable result, which prints as a table. Without a penalty (``C=np.inf``) the covariance is the inverse
            of the information, and ``inference(X, y).against(base)`` is what statsmodels' MNLogit has. With one it is
            that of the posterior of a normal prior, and p values are not to be trusted.

        Raises
        ------
        ValueError
            As `fit`; without a penalty, if columns are collinear, with their names.

        Warns
        -----
        ConvergenceWarning
            If classes are separated and there is no penalty: which, and along what. Standard errors are then infinite
            where the data determine nothing.
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
        return inferred(self, X, y, sample_weight, offset)

    def partial_fit(self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Take a few steps on more data: the softmax loss, in constant memory, whatever `solver` says.

        Each `batch_size` rows, as they come, are a step of Adam, whose rate falls with the square root of the steps.
        The penalty weighs 1 / (C Σ s) with all weights seen so far. After `fit` it goes on from its coefficients.

        Parameters
        ----------
        X : array_like or data frame, shape (n, D)
            Samples.
        y : array_like, shape (n,) or (n, K)
            Labels, or probabilities of the classes 0..K-1.
        classes : array_like, shape (K,), optional
            All labels that there will be: needed in the first call.
        sample_weight : array_like, shape (n,), optional
            Weights, not negative. With ``class_weight`` a dict they are multiplied by it; "balanced" is refused.
        offset : array_like, shape (n, K), or (n,) for two classes, optional
            Added to the scores of these samples, as in `fit`.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        ValueError
            For a label that is not among the classes, other classes than before, and as `fit`.
        FloatingPointError
            If the objective overflows: `learning_rate` is too large.

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
        """Return where a mini-batch fit, or `partial_fit`, stands, as arrays; see `set_state`.

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
        """Take over a state, or the file of one: the next `fit` or `partial_fit` goes on there, to the same bits.

        Parameters
        ----------
        state : dict or path
            From `get_state`, or a file of `save_state` or of `checkpoint`. The parameters of the estimator must be
            those that it had, and the data as well.

        Returns
        -------
        LogisticRegression
            The estimator itself, which predicts as it did then.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is damaged, or the state is that of other parameters or of a newer version.

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
        """Write `get_state` to a .npz file, which is there whole or not at all; `set_state` takes its path."""
        save(path, self.get_state())

    def _keep_stream(self, trainer: MiniBatches, stream: Stream, dtype: np.dtype[Any]) -> None:
        """Take over where a run by mini-batches stands."""
        self._stream = stream
        kept = self._coefficients(trainer.coefficients(stream), dtype) | trainer.report(stream)
        for name, value in kept.items():
            setattr(self, name, value)

    def _fit_batches(self, pieces: Callable[[], Iterable[Rows]], problem: Problem, some: Rows) -> Self:
        """Fit by mini-batches of encoded pieces; some of their rows tell a learning rate, and other data from these."""
        trainer, data = MiniBatches.of(self), fingerprint(problem.rows, some)
        checkpoint = None if self.checkpoint is None else Checkpoint(self.checkpoint)
        if checkpoint is not None and checkpoint.path.exists():
            self._take_up(checkpoint.path)
        if getattr(self, "_goes_on", False) and self._stream is not None:
            self._goes_on = checkpoint is None  # a file that is refused is not begun from the next time either
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

    def _fit_pieces(self, chunks: Chunks, y: Any, sample_weight: Any, asked: Strength) -> Self:
        if y is not None or sample_weight is not None:
            raise TypeError("y and sample_weight are in the chunks: call fit(chunks), without them")
        found, sample = chunks.look()
        problem = self._pieces_problem(found, asked)
        if chunks.names is not None:
            self.feature_names_in_ = np.array(chunks.names, object)
        if self.solver in RULES:
            return self._fit_batches(lambda: chunks.pieces(problem.encoded), problem, problem.encoded(sample))
        objective = ChunksObjective.of(chunks, problem, sample)
        return self._minimise_pieces(objective, lambda: Scaling.of_pieces(map(moments, chunks.pieces())))

    def _pieces_problem(self, found: Survey, asked: Strength) -> Problem:
        """Take over what a pass over all pieces has found, and refuse what cannot be fitted."""
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

    def _minimise_pieces(self, objective: PiecesObjective, scaling: Callable[[], Scaling]) -> Self:
        """Minimise, from where a checkpoint is; at an error or Ctrl-C keep the best coefficients so far.

        `scaling` is called for the moments of all pieces, if features are to be standardised.
        """
        with ExitStack() as stack:
            if self.checkpoint is not None:
                journal = Journal(self.checkpoint, course(objective, self.solver, standardize=bool(self.standardize)))
                objective.journal = stack.enter_context(journal)
            return self._minimise_kept(objective, scaling)

    def _minimise_kept(self, objective: PiecesObjective, scaling: Callable[[], Scaling]) -> Self:
        if self.standardize:
            found, scaled = scaling(), objective.penalty
            self.mean_, self.scale_ = found.mean, found.scale
            around = StandardisedObjective(objective.bare(), scaled, found, intercept=bool(self.fit_intercept))
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
        method, _ = SOLVERS[self.solver]
        scaled = isinstance(objective, StandardisedObjective)
        descend = minimize_standardised if scaled else minimize
        start = self._start()
        course = Course(start, objective.raw if scaled else None)
        with ExitStack() as stack:
            more: list[Observer] = []
            if hasattr(self, "_skl_callbacks") and X is not None:
                more.append(stack.enter_context(scikit_learn_callbacks(self, X, y, sample_weight, start)))
            call = stack.enter_context(self._told(self.max_iter, more))
            try:
                with np.errstate(over="ignore", invalid="ignore"):  # what they lead to is told below
                    tol, most = self.tol, self.max_iter
                    solution = descend(
                        objective, start, method, tol=tol, max_iter=most, callback=call, begun=course.begin
                    )
                    if course.descent is not None and course.descent.smooth:
                        solution = solution._replace(gap=gap_of(course.descent))
            except BaseException as error:  # Ctrl-C, or an error of a callback's
                self._keep(course.broken_off(error), dtype)
                raise
            if not (solution.n_iter or math.isfinite(solution.largest_gradient)) and X is not None:
                check_finite(X, self)
            self._keep(solution, dtype)
        warn_of_the_end(solution, self.solver, self.tol, self.max_iter, from_zero=not start.any())
        return self

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
        """Return where the fit begins, as the objective wants it: [W, row after row; b]."""
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
        intercept = bool(self.fit_intercept or self.standardize)  # a mean that is subtracted is one too
        return Parameters.of_model(len(self.classes_), self.n_features_in_, intercept)

    def _keep(self, solution: Solution, dtype: np.dtype[Any]) -> None:
        for name, value in self._coefficients(solution.w, dtype).items():
            setattr(self, name, value)
        self.n_iter_ = np.array([solution.n_iter], np.int32)
        self.loss_curve_ = solution.curve
        self.converged_ = solution.converged
        self.predicted_decrease_ = solution.predicted_decrease
        self.violation_, self.gap_ = solution.violation, solution.gap
        self.convergence_report_ = solution.report

    def _coefficients(self, w: Array, dtype: np.dtype[Any]) -> dict[str, Array]:
        W, b = self._layout().model(w, COMPUTES_IN[dtype.char], getattr(self, "_fixed", False))
        return {"coef_": W, "intercept_": b}
