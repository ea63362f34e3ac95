"""Temperature, vector and matrix scaling with scikit-learn's interface: of given scores, or of a classifier's."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import check_cv, cross_val_predict
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import (
    _check_sample_weight,
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    has_fit_parameter,
)

try:
    from sklearn.frozen import FrozenEstimator
except ImportError:  # scikit-learn has it since 1.6
    FrozenEstimator = None

from .._fit.readable import readable
from .._inputs.rows import Rows
from .._optim.descent import Solution
from .._optim.newton import FEW, newton
from .._optim.solvers import minimize
from ..special import log_softmax, softmax
from ._measures import numbered
from ._objectives import SOME, Full, Guided, Minimum, factors, some_of, temperature

__all__ = ["MatrixScaling", "TemperatureScaling", "VectorScaling"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class _Scaling(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """The base of the three scalings: it reads or computes scores, fits, and predicts from the scaled scores."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "estimator": [HasMethods(["fit", "predict_proba"]), HasMethods(["fit", "decision_function"]), None],
        "on": [StrOptions({"scores", "probabilities"})],
        "cv": ["cv_object"],
        "tol": [Interval(Real, 0, None, closed="neither")],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "n_threads": [None, Integral],
    }

    classes_: Array

    def __init__(
        self,
        estimator: Any = None,
        *,
        on: str = "scores",
        cv: Any = None,
        tol: float = 1e-6,
        max_iter: int = 100,
        n_threads: int | None = None,
    ) -> None:
        self.estimator = estimator
        self.on = on
        self.cv = cv
        self.tol = tol
        self.max_iter = max_iter
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=False)  # type: ignore[untyped-decorator]
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, classes: Any = None) -> Self:
        """Fit the scaling.

        Parameters
        ----------
        X : array_like, shape (N, K), or (N,) or (N, 1) for two classes
            Scores of samples that the classifier was not fitted to, as its `decision_function` returns them; a single
            column belongs to the second of two classes. With ``on="probabilities"`` they are probabilities. With
            `estimator` they are the samples themselves, (N, D), of any kind that it takes.
        y : array_like, shape (N,)
            Labels.
        sample_weight : array_like, shape (N,), optional
            Weights, not negative. They are passed to `estimator`, too, if its `fit` takes them.
        classes : array_like, shape (K,), optional
            The sorted labels of the columns. They are needed if `y` lacks some of them and they are not 0..K-1.

        Returns
        -------
        self
            The estimator itself.

        Raises
        ------
        ValueError
            If shapes or labels do not fit, if X is not finite or holds no probabilities where it should, or if all
            weights are 0.

        Warns
        -----
        ConvergenceWarning
            If `max_iter` iterations were not enough.
        """
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        # A copy, whose labels stay what they are when they are checked.
        y = np.array(column_or_1d(readable(y, "y"), warn=True))
        if self.estimator is None:
            Z = self._read(X)
            self.n_features_in_ = Z.shape[1] if np.ndim(X) == 2 else 1
        else:
            Z = self._cross_fitted(X, y, sample_weight)
            classes = self.estimator_.classes_
        K = max(2, Z.shape[1])
        self.classes_, labels = numbered(y, K, classes, len(Z))
        Z = _columns(Z)
        s = None
        if sample_weight is not None:
            s = _check_sample_weight(
                readable(sample_weight, "sample_weight"), Z, dtype=np.float64, ensure_non_negative=True
            )
            if not s.any():
                raise ValueError("sample_weight is 0 for all samples")
        found = self._found(Rows.of(Z, labels, s), K)
        self.n_iter_, self.loss_ = found.n_iter, found.value
        if found.n_iter >= self.max_iter and not found.converged:
            warnings.warn(
                f"the scaling failed to converge after {found.n_iter} iteration(s): the largest component of the "
                f"gradient is {found.largest_gradient:.1e}, tol={self.tol}. Raise max_iter.",
                ConvergenceWarning,
                stacklevel=3,
            )
        self._keep(found.w, K)
        return self

    def decision_function(self, X: Any) -> Array:
        """Return the scaled scores.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray, shape (N, K), or (N,) for two classes
            Scaled scores in the order of `classes_`, or, for two classes, the second's score less the first's.
        """
        Z = self._scaled(X)
        scores: Array = Z[:, 1] - Z[:, 0] if Z.shape[1] == 2 else Z
        return scores

    def predict_proba(self, X: Any) -> Array:
        """Return the calibrated probabilities.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray, shape (N, K)
            Probabilities in the order of `classes_`.
        """
        S: Array = softmax(self._scaled(X), axis=1, n_threads=self.n_threads)
        return S

    def predict_log_proba(self, X: Any) -> Array:
        """Return the logarithms of the calibrated probabilities.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray, shape (N, K)
            Logarithms in the order of `classes_`.
        """
        log_S: Array = log_softmax(self._scaled(X), axis=1, n_threads=self.n_threads)
        return log_S

    def predict(self, X: Any) -> Array:
        """Return the labels with the largest scaled scores.

        Parameters
        ----------
        X : array_like
            As in `fit`.

        Returns
        -------
        ndarray, shape (N,)
            Entries of `classes_`.
        """
        best = self._scaled(X).argmax(axis=1)
        labels: Array = self.classes_[best]
        return labels

    def _scaled(self, X: Any) -> Array:
        check_is_fitted(self)
        Z = self._read(X) if self.estimator is None else _scores_of(self.estimator_, X)
        K = len(self.classes_)
        if Z.shape[1] != K and not (K == 2 and Z.shape[1] == 1):
            raise ValueError(
                f"X has {Z.shape[1]} features, but {type(self).__name__} is expecting {K} features as input: a column "
                "of scores for each class"
            )
        scaled: Array = self._apply(_columns(Z))
        return scaled

    def _read(self, X: Any) -> Array:
        """Return scores (N, K) or (N, 1), float32 or float64; probabilities become their logarithms."""
        X = readable(X, "X")
        if np.ndim(X) == 1:
            X = np.reshape(X, (-1, 1))
        Z = check_array(X, dtype=[np.float64, np.float32], order="C", estimator=self, input_name="X")
        if self.on == "scores":
            scores: Array = Z
            return scores
        if Z.min() < 0 or Z.max() > 1:
            found = f"values from {Z.min()} to {Z.max()}"
            raise ValueError(f"X must hold probabilities in [0, 1], got {found}: scores need on='scores'")
        return _logits(Z)

    def _cross_fitted(self, X: Any, y: Any, sample_weight: Any) -> Array:
        """Fit the classifier, and return each sample's scores by a clone that was not fitted to it."""
        check_consistent_length(X, y)
        estimator, weights = self.estimator, {}
        frozen = FrozenEstimator is not None and isinstance(estimator, FrozenEstimator)
        if frozen:
            self.estimator_ = estimator
        else:
            if sample_weight is not None and has_fit_parameter(estimator, "sample_weight"):
                weights = {"sample_weight": sample_weight}
            self.estimator_ = clone(estimator).fit(X, y, **weights)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))
        if frozen:
            return _scores_of(estimator, X)
        method = _method(estimator)
        cv = check_cv(self.cv, y, classifier=True)
        Z = cross_val_predict(estimator, X, y, cv=cv, method=method, params=weights)
        return _as_scores(Z, method)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        if self.estimator is not None and hasattr(self.estimator, "__sklearn_tags__"):
            tags.input_tags = self.estimator.__sklearn_tags__().input_tags
            tags.target_tags.required = True
        return tags


class TemperatureScaling(_Scaling):
    """Scores divided by a temperature: probabilities are softmax(Z / T), and labels stay what they are.

    Parameters
    ----------
    estimator : classifier, optional
        The classifier whose scores are calibrated; X are then its samples. Each fold's scores are those of a clone that
        was fitted to the other folds, and `estimator_` is fitted to all, as in
        ``CalibratedClassifierCV(estimator, method="temperature", ensemble=False)``. A `FrozenEstimator` is not fitted
        again. By default X are scores.
    on : {"scores", "probabilities"}, default "scores"
        Without `estimator`, what X holds. Probabilities are replaced by their logarithms.
    cv : int, splitter or iterable, optional
        With `estimator`, the folds; by default five stratified ones.
    tol : float > 0, default 1e-6
        The fit ends when no component of the gradient is larger.
    max_iter : int >= 1, default 100
        Greatest number of iterations of Newton's method.
    n_threads : int, optional
        As in `loss_grad`. It does not change a bit of the result.

    Attributes
    ----------
    temperature_ : float
        T, the temperature.
    classes_ : ndarray, shape (K,)
        The labels of the columns.
    loss_ : float
        Mean cross-entropy of the scaled scores, in nats.
    n_iter_ : int
        Iterations.
    n_features_in_ : int
        Columns of X.
    estimator_ : classifier
        The fitted classifier, with `estimator`.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : With ``method="temperature"`` since scikit-learn 1.8.

    Notes
    -----
    1 / T is looked for in [exp(-10), exp(10)], as scikit-learn does. The loss is convex in it, and Newton's method
    takes one pass for each iteration. If two classes have scores z in one column, scikit-learn takes them for
    (-z, z), but here they are (0, z), whose softmax is the logistic function: T is half of scikit-learn's.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext.calibration import TemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((5000, 4))
    >>> y = (Z + rng.gumbel(size=Z.shape)).argmax(axis=1)  # drawn with probabilities softmax(Z)
    >>> model = TemperatureScaling().fit(3 * Z, y)  # of a classifier that is too sure
    >>> print(f"{model.temperature_:.1f}")
    2.9
    """

    def _found(self, rows: Rows, K: int) -> Minimum:
        return temperature(rows, tol=self.tol, max_iter=self.max_iter, n_threads=self.n_threads)

    def _keep(self, w: Vector, K: int) -> None:
        self.temperature_ = 1 / float(w[0])

    def _apply(self, Z: Array) -> Any:
        return Z * Z.dtype.type(1 / self.temperature_)


class VectorScaling(_Scaling):
    """A factor and a shift for each class: probabilities are softmax(a ∘ z + b).

    Parameters
    ----------
    estimator, on, cv, tol, max_iter, n_threads
        As in `TemperatureScaling`.

    Attributes
    ----------
    scale_ : ndarray, shape (K,)
        a, the factors.
    intercept_ : ndarray, shape (K,)
        b, the shifts, which sum to 0.
    classes_ : ndarray, shape (K,)
        The labels of the columns.
    loss_ : float
        Mean cross-entropy of the scaled scores, in nats.
    n_iter_ : int
        Iterations.
    n_features_in_ : int
        Columns of X.
    estimator_ : classifier
        The fitted classifier, with `estimator`.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext.calibration import VectorScaling
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((5000, 3))
    >>> y = (Z + [1.0, 0.0, -1.0] + rng.gumbel(size=Z.shape)).argmax(axis=1)
    >>> VectorScaling().fit(Z, y).intercept_.round(1)
    array([ 1. ,  0.1, -1. ])
    """

    def _found(self, rows: Rows, K: int) -> Solution:
        return factors(rows, K, tol=self.tol, max_iter=self.max_iter, n_threads=self.n_threads)

    def _keep(self, w: Vector, K: int) -> None:
        self.scale_, self.intercept_ = w[:K].copy(), w[K:] - w[K:].mean()

    def _apply(self, Z: Array) -> Any:
        return Z * self.scale_.astype(Z.dtype) + self.intercept_.astype(Z.dtype)


class MatrixScaling(_Scaling):
    r"""A linear function of all scores: probabilities are softmax(W z + b), with the ODIR penalty.

    The penalty of the off-diagonal entries and of the intercepts is

    .. math:: \frac{\lambda}{K (K - 1)} \sum_{j \ne k} W_{jk}^2 + \frac{\mu}{K} \sum_k b_k^2

    Parameters
    ----------
    estimator, on, cv, tol, max_iter, n_threads
        As in `TemperatureScaling`. Matrices of many classes are fitted by L-BFGS, and `max_iter` is of its iterations.
    off_diagonal : float >= 0, default 0.01
        λ. Both λ and μ should be chosen by cross-validation: without a penalty, many classes overfit.
    intercept : float >= 0, default 0.01
        μ, the strength of the intercepts' penalty.

    Attributes
    ----------
    coef_ : ndarray, shape (K, K)
        W, the matrix.
    intercept_ : ndarray, shape (K,)
        b, the shifts.
    classes_ : ndarray, shape (K,)
        The labels of the columns.
    loss_ : float
        Mean cross-entropy of the scaled scores, in nats, plus the penalty.
    n_iter_ : int
        Iterations.
    n_features_in_ : int
        Columns of X.
    estimator_ : classifier
        The fitted classifier, with `estimator`.

    References
    ----------
    M. Kull et al., "Beyond temperature scaling: obtaining well-calibrated multiclass probabilities with Dirichlet
    calibration", NeurIPS 2019, section 3 (ODIR). With ``on="probabilities"`` this is Dirichlet calibration.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext.calibration import MatrixScaling, TemperatureScaling
    >>> rng = np.random.default_rng(0)
    >>> Z = rng.standard_normal((5000, 3))
    >>> y = (Z[:, [0, 2, 1]] + rng.gumbel(size=Z.shape)).argmax(axis=1)  # two columns have changed places
    >>> print(f"{TemperatureScaling().fit(Z, y).loss_:.2f} {MatrixScaling().fit(Z, y).loss_:.2f}")
    1.10 0.88
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **_Scaling._parameter_constraints,
        "off_diagonal": [Interval(Real, 0, None, closed="left")],
        "intercept": [Interval(Real, 0, None, closed="left")],
    }

    def __init__(
        self,
        estimator: Any = None,
        *,
        off_diagonal: float = 0.01,
        intercept: float = 0.01,
        on: str = "scores",
        cv: Any = None,
        tol: float = 1e-6,
        max_iter: int = 100,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(estimator, on=on, cv=cv, tol=tol, max_iter=max_iter, n_threads=n_threads)
        self.off_diagonal = off_diagonal
        self.intercept = intercept

    def _found(self, rows: Rows, K: int) -> Solution:
        whole = self._objective(rows, K)
        objective: Full | Guided = whole
        start = np.concatenate([np.eye(K).ravel(), np.zeros(K)])
        solver, some = "newton", some_of(rows, K, SOME)
        if start.size > FEW:  # from where the preconditioner is good, however far scores are apart
            solver, start = "auto", np.zeros_like(start)
        elif some is not None:
            near = self._objective(some, K)
            start, objective = newton(near, start, tol=1e-3, max_iter=self.max_iter).w, Guided(whole, near)
        return minimize(objective, start, solver, tol=self.tol, max_iter=self.max_iter)

    def _objective(self, rows: Rows, K: int) -> Full:
        penalties = {"off_diagonal": float(self.off_diagonal), "intercept": float(self.intercept)}
        return Full(rows, K, **penalties, n_threads=self.n_threads)

    def _keep(self, w: Vector, K: int) -> None:
        self.coef_, self.intercept_ = w[: K * K].reshape(K, K).copy(), w[K * K :].copy()

    def _apply(self, Z: Array) -> Array:
        scaled: Array = Z @ self.coef_.astype(Z.dtype).T
        scaled += self.intercept_.astype(Z.dtype)
        return scaled


def _columns(Z: Array) -> Array:
    """Return scores with a column for each class: a single column gets one of 0 before it, for the first of two."""
    return np.column_stack([np.zeros_like(Z), Z]) if Z.shape[1] == 1 else Z


def _logits(S: Array) -> Array:
    """Return the logarithms of probabilities, or the logit of a single column, which has those of the second class."""
    tiny = np.finfo(S.dtype).tiny
    log_S: Array = np.log(np.maximum(S, tiny))
    return log_S - np.log(np.maximum(1 - S, tiny)) if S.shape[1] == 1 else log_S


def _method(estimator: Any) -> str:
    return "decision_function" if hasattr(estimator, "decision_function") else "predict_proba"


def _scores_of(estimator: Any, X: Any) -> Array:
    method = _method(estimator)
    return _as_scores(getattr(estimator, method)(X), method)


def _as_scores(Z: Any, method: str) -> Array:
    Z = np.asarray(Z)
    if Z.dtype not in (np.float32, np.float64):
        Z = Z.astype(np.float64)
    if method == "predict_proba":
        Z = _logits(Z)
    return np.ascontiguousarray(Z.reshape(len(Z), -1))
