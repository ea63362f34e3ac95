"""What a fitted `LogisticRegression` says of rows: scores, probabilities, labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.special
from sklearn.utils import check_array
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from ._parameters import Parameters, with_zero
from ._readable import validated
from ._sparse import check_stored
from .functional import predict_proba

Array = npt.NDArray[Any]


class PredictionMixin:
    """The half of `LogisticRegression` that needs no more than its fitted attributes, and checks them."""

    classes_: Array
    coef_: Any
    intercept_: Any
    n_features_in_: int
    n_threads: int | None

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D)
            Samples.

        Returns
        -------
        ndarray, shape (N, K)
            In the order of `classes_`; of the wider dtype of X and `coef_`.
        """
        X, W, b = self._checked(X)
        if scipy.sparse.issparse(W):
            W = W.toarray()
        if len(W) == 1:
            W, b = with_zero(W), with_zero(b)
        if X.dtype != W.dtype:
            X = X.astype(np.result_type(X.dtype, W), copy=False)
        return predict_proba(X, W, b, n_threads=self.n_threads)

    def decision_function(self, X: Any) -> Array:
        """Scores of the classes: X Wᵀ + b.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D)
            Samples.

        Returns
        -------
        ndarray, shape (N, K), or (N,) for two classes
            In the order of `classes_`; of two, that of ``classes_[1]``.
        """
        X, W, b = self._checked(X)
        Z: Array = safe_sparse_dot(X, W.T, dense_output=True) + b
        return Z.ravel() if len(b) == 1 else Z

    def predict(self, X: Any) -> Array:
        """Labels of the classes with the highest scores.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D)
            Samples.

        Returns
        -------
        ndarray, shape (N,)
            Entries of `classes_`.
        """
        Z = self.decision_function(X)
        labels: Array = np.take(self.classes_, Z > 0 if Z.ndim == 1 else Z.argmax(axis=1))
        return labels

    def predict_log_proba(self, X: Any) -> Array:
        """Logarithms of the probabilities, without taking the logarithm of a probability.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D)
            Samples.

        Returns
        -------
        ndarray, shape (N, K)
            In the order of `classes_`: finite for finite scores, also where `predict_proba` is 0.
        """
        Z = self.decision_function(X)
        if Z.ndim == 1:
            Z = np.column_stack([np.zeros_like(Z), Z])
        log_S: Array = scipy.special.log_softmax(Z, axis=1)
        return log_S

    def _checked(self, X: Any) -> tuple[Any, Any, Array]:
        """Return X, coef_ and intercept_, if these are what a fit leaves: models are edited, pickled and merged.

        For one row validate_data takes 49 µs, of which 10 look for the names of an array's columns, and
        check_is_fitted 5; all that is ours takes 18.
        """
        if not hasattr(self, "coef_"):
            check_is_fitted(self)
        nameless = type(X) is np.ndarray and not hasattr(self, "feature_names_in_")
        if nameless:
            X = check_array(X, input_name="X", estimator=self)
        if not nameless or X.shape[1] != self.n_features_in_:
            X = validated(self, X, reset=False)
        rows = Parameters.of_model(len(self.classes_), self.n_features_in_, True).count
        W = self._parameter("coef_", self.coef_, (rows, self.n_features_in_))
        return X, W, self._parameter("intercept_", self.intercept_, (rows,))

    def _parameter(self, name: str, value: Any, shape: tuple[int, ...]) -> Any:
        """Return what one of the two attributes holds, if it may."""
        values = value
        if type(value) is not np.ndarray and scipy.sparse.issparse(value):
            values = value.data
        array = isinstance(values, np.ndarray) and not isinstance(values, np.ma.MaskedArray)
        if not array or values.dtype.kind not in "fiu" or value.shape != shape:
            found = type(value).__name__
            if hasattr(value, "dtype"):
                found += f" of {value.dtype} with shape {value.shape}"
            raise ValueError(
                f"{name} was changed after the fit: {len(self.classes_)} classes and {self.n_features_in_} features "
                f"need an array of real numbers with shape {shape}, got {found}"
            )
        if values is not value:
            check_stored(value, name)  # SciPy's own products trust the indices
        finite = np.isfinite(values)
        if np.count_nonzero(finite) < values.size:  # half of what all() takes
            bad = values[~finite][0]
            raise ValueError(f"{name} holds {bad}, and must be finite: it was changed after the fit, or that diverged")
        return value
