"""Cross-validation without copies of X: a fold is a set of weights to train with, and a list of rows to score."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial, update_wrapper
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from sklearn.metrics import make_scorer
from sklearn.metrics._scorer import _Scorer
from sklearn.utils._indexing import _safe_indexing

from .._fit.held_out import Models, posterior, predicted

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

PREDICTIONS = {"decision_function", "predict", "predict_proba", "predict_log_proba"}


class Fold(NamedTuple):
    """The rows that a fold trains on, and the held-out rows that score it."""

    train: Integers
    test: Integers

    @classmethod
    def of(cls, number: int, N: int, train: Any, test: Any) -> Self:
        """Return a fold of what a splitter yields: row numbers, which may repeat or count from the end, or masks."""
        rows = np.arange(N)
        try:
            fold = cls(rows[train], rows[test])
        except IndexError as error:
            raise ValueError(f"cv: fold {number} names rows that X with its {N} rows has not ({error})") from error
        for name, part in zip(("train on", "score by"), fold, strict=True):
            if not part.size:
                raise ValueError(f"cv: fold {number} has no rows to {name}")
        return fold

    def check_scored(self, sample_weight: Vector, number: int) -> None:
        """Raise ValueError if all held-out rows have the weight 0."""
        if not sample_weight[self.test].any():
            raise ValueError(
                f"cv: all rows that fold {number} is scored by have a weight of 0: leave such rows out, or choose the "
                "folds by the others"
            )

    def weights(self, s: Vector | None, number: int, N: int) -> Vector:
        """Return the complete weights (N,) to train with: s times how often the fold names the row."""
        counts = np.bincount(self.train, minlength=N).astype(np.float64)
        if s is not None:
            counts *= s
        if not counts.any():
            raise ValueError(f"cv: all rows that fold {number} trains on have a weight of 0")
        return counts


def with_classes(scorer: Any, classes: Array) -> Any:
    """Return a scorer that knows all classes, if it takes `labels`, since a fold may lack some of them.

    Of two classes the last is the positive one.
    """
    function = getattr(scorer, "_score_func", None)
    if function is None or "labels" not in (taken := inspect.signature(function).parameters):
        return scorer
    keywords = {"labels": classes}
    if len(classes) == 2 and "pos_label" in taken:
        keywords["pos_label"] = classes[-1]
    return make_scorer(
        function,
        greater_is_better=scorer._sign == 1,
        response_method=scorer._response_method,
        **{**keywords, **getattr(scorer, "_kwargs", {})},
    )


def fold_scores(
    fold: Fold,
    models: Models,
    X: Any,
    y: Array,
    scorer: Any,
    bare: Callable[[int], Any],
    *,
    sample_weight: Vector | None,
    parameters: dict[str, Any],
) -> Iterator[float]:
    """Yield the held-out score of one model after the other, calling the scorer once for each.

    Parameters
    ----------
    fold, models, X, y
        The fold, the models to score, all samples, and all labels.
    scorer : scorer, or None
        None is accuracy, weighted by `sample_weight`. scikit-learn's own scorers use X only to ask the model for
        predictions, so they get row numbers instead of a copy of the rows. Other scorers get the rows of X.
    bare : callable
        Returns the estimator that a scorer sees for a model, by the model's number.
    sample_weight : ndarray, shape (N,), or None
        Weights of the samples, for accuracy.
    parameters : dict
        Other arguments of the scorer.
    """
    rows, y = fold.test, y[fold.test]
    if scorer is not None and type(scorer) is not _Scorer:
        X, offset = _safe_indexing(X, rows), None if models.offset is None else models.offset[rows]
        for i in range(len(models.W)):
            yield scorer(bare(i) if offset is None else Beside(bare(i), offset), X, y, **parameters)
        return
    weights = None if sample_weight is None else sample_weight[rows]
    for i, Z in enumerate(models.scores(X, rows)):
        model = bare(i)
        held_out = _HeldOut(model, Z)
        if scorer is None:
            # This is what accuracy_score returns, whose checks may take longer than a whole small fit.
            yield float(np.average(held_out.predict(rows) == y, weights=weights))
        else:
            yield scorer(held_out, rows, y, **parameters)


class _Scored:
    """The base of a fitted classifier's stand-ins: scorers see its attributes, but get other predictions."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __sklearn_tags__(self) -> Any:
        return self.model.__sklearn_tags__()


class Beside(_Scored):
    """A fitted classifier with the offsets of the samples that it predicts, which scorers cannot pass to it."""

    def __init__(self, model: Any, offset: Any) -> None:
        super().__init__(model)
        self.offset = offset

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if name not in PREDICTIONS:
            return found
        return update_wrapper(partial(found, offset=self.offset), found)  # scikit-learn asks for the method's name


class _HeldOut(_Scored):
    """A fitted classifier that holds the scores of a fold's held-out rows, and takes their numbers instead of X."""

    def __init__(self, model: Any, Z: Array) -> None:
        super().__init__(model)
        self.Z = Z

    def decision_function(self, rows: Integers) -> Array:
        """Return the scores, (n, K), or (n,) of the second of two classes."""
        return self.Z if self.Z.shape[1] > 1 else self.Z.ravel()

    def predict(self, rows: Integers) -> Array:
        """Return the labels of the classes with the highest scores."""
        labels: Array = np.take(self.model.classes_, predicted(self.Z))
        return labels

    def predict_proba(self, rows: Integers) -> Array:
        """Return the posterior, (n, K)."""
        return posterior(self.Z)
