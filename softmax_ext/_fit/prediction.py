"""What a fitted `LogisticRegression` predicts for rows: scores, probabilities, labels."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.special
from sklearn.metrics import accuracy_score
from sklearn.utils import check_array
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.validation import check_is_fitted

from .._inputs.csr import check_stored
from .._inputs.dtypes import COMPUTES_IN
from .._inputs.rows import Rows
from .._objective.parameters import Parameters
from ..chunks import Chunks
from ..functional import predict_proba
from . import two_classes
from .readable import are_probabilities, check_finite, finite_offset, has_plain_rows, is_narrow, validated

Array = npt.NDArray[Any]


def _of_each_chunk(method: Callable[..., Array]) -> Callable[..., Array]:
    """Return a method that also takes `Chunks`, whose results it concatenates in their order."""

    @functools.wraps(method)
    def of(self: Any, X: Any, offset: Any = None) -> Array:
        if not isinstance(X, Chunks):
            return method(self, X, offset)
        if offset is not None:
            raise TypeError("the offsets of chunks are in them: name them where the chunks are made")
        results = [method(model, rows.X, rows.offset) for model, rows in _with_model(self, X)]
        if not results:
            raise ValueError("the chunks have no rows: found 0 samples, a minimum of 1 is required")
        return np.concatenate(results)

    return of


def _with_model(model: Any, chunks: Chunks) -> Iterator[tuple[Any, Rows]]:
    """Yield each chunk that has rows, with a model for its arrays; ValueError if its columns have other names."""
    check_is_fitted(model)
    fitted = getattr(model, "feature_names_in_", None)
    if fitted is not None:
        model = copy.copy(model)
        del model.feature_names_in_
    for rows in chunks.pieces():
        if fitted is not None and chunks.names is not None and list(chunks.names) != list(fitted):
            raise ValueError(
                f"the chunks have the columns {', '.join(chunks.names)}, but the model was fitted to "
                f"{', '.join(fitted)}: select these, in from_parquet by columns=model.feature_names_in_"
            )
        if len(rows):
            yield model, rows


# Size of the copy of narrow rows that is widened at a time for a product by BLAS.
WIDENED_BYTES = 16 * 2**20


def _widened_scores(X: Array, W: Any, b: Array) -> Array:
    """Return the scores (N, K) of narrow X, of which some rows are float32 at a time."""
    Z = np.empty((len(X), len(b)), np.result_type(np.float32, W, b))
    parts = max(1, X.size * 4 // WIDENED_BYTES)
    for i in range(parts):
        rows = slice(i * len(X) // parts, (i + 1) * len(X) // parts)
        Z[rows] = safe_sparse_dot(X[rows].astype(np.float32, order="C"), W.T, dense_output=True)
    Z += b
    return Z


def _alike(X: Any, offset: Array | None, W: Array) -> Iterator[tuple[Any, Array | None]]:
    """Yield X and its offset, or, if W has a wider dtype than X computes in, parts of both in that dtype."""
    wider = np.result_type(X.dtype, W)
    if COMPUTES_IN[X.dtype.char] == W.dtype:
        yield X, offset
        return
    parts = max(1, X.size * wider.itemsize // WIDENED_BYTES) if isinstance(X, np.ndarray) else 1
    for i in range(parts):
        cut = slice(i * X.shape[0] // parts, (i + 1) * X.shape[0] // parts)
        part = X[cut] if parts > 1 else X
        yield part.astype(wider, copy=False), None if offset is None else offset[cut]


class PredictionMixin:
    """The methods of `LogisticRegression` that need only its fitted attributes, which they check."""

    classes_: Array
    coef_: Any
    intercept_: Any
    n_features_in_: int
    n_threads: int | None
    solver: str

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_class = self.solver != "liblinear"
        return tags

    @_of_each_chunk
    def predict_proba(self, X: Any, offset: Any = None) -> Array:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D); or Chunks
            Samples. The results of all chunks are concatenated, in their order.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores, as in `fit`.

        Returns
        -------
        ndarray, shape (N, K)
            Probabilities in the order of `classes_`, in the wider dtype of X and `coef_`.
        """
        X, W, b = self._checked(X)
        if scipy.sparse.issparse(W):
            W = W.toarray()
        added = finite_offset(offset, X.shape[0], max(len(b), 2))
        if len(W) == 1:
            parts = [two_classes.posteriors(part, W, b, self.n_threads, more) for part, more in _alike(X, added, W)]
        else:
            parts = [
                predict_proba(part, W, b, offset=more, n_threads=self.n_threads) for part, more in _alike(X, added, W)
            ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    @_of_each_chunk
    def decision_function(self, X: Any, offset: Any = None) -> Array:
        """Return the scores of the classes: X Wᵀ + b + offset.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D); or Chunks
            Samples.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores.

        Returns
        -------
        ndarray, shape (N, K), or (N,) for two classes
            Scores in the order of `classes_`. For two classes it is the score of ``classes_[1]`` alone.
        """
        X, W, b = self._checked(X)
        if len(b) == 1:
            W = W.toarray() if scipy.sparse.issparse(W) else W
            added = finite_offset(offset, X.shape[0], 2)
            parts = [two_classes.scores(part, W, b, self.n_threads, more) for part, more in _alike(X, added, W)]
            return parts[0] if len(parts) == 1 else np.concatenate(parts)
        Z: Array = _widened_scores(X, W, b) if is_narrow(X) else safe_sparse_dot(X, W.T, dense_output=True) + b
        added = finite_offset(offset, X.shape[0], len(b))
        return Z if added is None else (Z + added).astype(Z.dtype, copy=False)

    @_of_each_chunk
    def predict(self, X: Any, offset: Any = None) -> Array:
        """Return the labels of the classes with the highest scores.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D); or Chunks
            Samples.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores.

        Returns
        -------
        ndarray, shape (N,)
            Entries of `classes_`.
        """
        Z = self.decision_function(X, offset)
        labels: Array = np.take(self.classes_, Z > 0 if Z.ndim == 1 else Z.argmax(axis=1))
        return labels

    @_of_each_chunk
    def predict_log_proba(self, X: Any, offset: Any = None) -> Array:
        """Return the logarithms of the probabilities, computed from the scores.

        Parameters
        ----------
        X : array_like, data frame, or scipy.sparse array or matrix, shape (N, D); or Chunks
            Samples. The results of all chunks are concatenated, in their order.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores.

        Returns
        -------
        ndarray, shape (N, K)
            Logarithms in the order of `classes_`. They are finite for finite scores, even where `predict_proba` is 0.
        """
        Z = self.decision_function(X, offset)
        if Z.ndim == 1:
            Z = np.column_stack([np.zeros_like(Z), Z])
        log_S: Array = scipy.special.log_softmax(Z, axis=1)
        return log_S

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Any:
        """Return the accuracy: the weighted fraction of samples whose label is predicted.

        Parameters
        ----------
        X : array_like, data frame or sparse, shape (N, D); or Chunks
            Samples. Chunks bring their own targets, weights and offsets.
        y : array_like, shape (N,) or (N, K)
            Labels; or probabilities, where the class of the largest counts as the label.
        sample_weight : array_like, shape (N,), optional
            Weights of the samples.
        offset : array_like, shape (N, K), or (N,) for two classes, optional
            Added to the scores of the classes, as in `predict`. scikit-learn's cross-validation passes it after
            ``set_score_request(offset=True)``.

        Returns
        -------
        float
            Between 0 and 1.
        """
        if not isinstance(X, Chunks):
            if are_probabilities(y):
                if np.shape(y)[1] != len(self.classes_):
                    raise ValueError(f"y has {np.shape(y)[1]} columns, but the model has {len(self.classes_)} classes")
                y = self.classes_[np.asarray(y).argmax(axis=1)]
            return float(accuracy_score(y, self.predict(X, offset), sample_weight=sample_weight))
        if y is not None or sample_weight is not None or offset is not None:
            raise TypeError("y, sample_weight and offset are in the chunks: call score(chunks), without them")
        right, total = 0.0, 0.0
        for model, piece in _with_model(self, X):
            if piece.y is None and piece.Y is None:
                raise ValueError(f"{piece.where}: there are no targets: name them where the chunks are made")
            y = piece.y if piece.Y is None else self.classes_[piece.Y.argmax(axis=1)]
            if (y.dtype.kind in "US") != (self.classes_.dtype.kind in "USO"):
                raise ValueError(f"{piece.where}: y has the label {y[0]!r}, but the model has {self.classes_[0]!r}")
            weights = piece.weights()
            right += float(weights @ (model.predict(piece.X, piece.offset) == y))
            total += float(weights.sum())
        if not total > 0:
            raise ValueError(f"the weights of the chunks sum to {total}: there is nothing to score")
        return right / total

    def _checked(self, X: Any) -> tuple[Any, Any, Array]:
        """Return checked X, coef_ and intercept_. Users edit, pickle and merge models, so the attributes may be wrong.

        For one row most of the time goes into scikit-learn's checks, so those that cannot find anything are left out
        (docs/notes.md, "Checks of one row").
        """
        if not hasattr(self, "coef_"):
            check_is_fitted(self, "coef_")
        nameless = type(X) is np.ndarray and not hasattr(self, "feature_names_in_") and not is_narrow(X)
        if nameless and has_plain_rows(X):
            check_finite(X, self)
        elif nameless:
            X = check_array(X, input_name="X", estimator=self)
        if not nameless or X.shape[1] != self.n_features_in_:
            X = validated(self, X, reset=False)
        rows = Parameters.of_model(len(self.classes_), self.n_features_in_, True).count
        W = self._parameter("coef_", self.coef_, (rows, self.n_features_in_))
        return X, W, self._parameter("intercept_", self.intercept_, (rows,))

    def _parameter(self, name: str, value: Any, shape: tuple[int, ...]) -> Any:
        """Return coef_ or intercept_ if it has this shape and finite real numbers; else raise ValueError."""
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
            check_stored(value, name)  # SciPy's products do not check the indices, and would read beyond the arrays
        finite = np.isfinite(values)
        if np.count_nonzero(finite) < values.size:  # takes half the time of all()
            bad = values[~finite][0]
            raise ValueError(f"{name} holds {bad}, and must be finite: it was changed after the fit, or that diverged")
        return value
