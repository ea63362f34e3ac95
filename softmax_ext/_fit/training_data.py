"""Checks of the data that `LogisticRegression` is fitted to: samples, labels or probabilities, classes, weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from .._inputs.labels import counted
from .._inputs.rows import Rows
from .._inputs.weights import class_weights, no_class_weights
from .._objective.parameters import Parameters
from .._objective.penalty import Penalty
from .._objective.pieces import Problem, Survey
from .readable import KINDS, are_probabilities, readable, validated

Array = npt.NDArray[Any]
ClassWeight = dict[Any, float] | str | None


class TrainingData(NamedTuple):
    """The checked data of a fit."""

    rows: Rows  # as the objective takes them: with labels 0..K-1 and complete weights
    classes: Array  # (K,)
    y: Array  # the targets as scikit-learn converts them


def check_data(
    estimator: Any, X: Any, y: Any, sample_weight: Any, *, class_weight: ClassWeight, solver: str, finite: bool = True
) -> TrainingData:
    """Return the checked data of `fit`. scikit-learn's check also sets the estimator's `n_features_in_` and names.

    `finite` tells whether to look for NaN and infinity in X. If not, the first pass over X has to do so.
    """
    soft = are_probabilities(y)
    X, y = validated(estimator, X, y, dtype=KINDS, order="C", multi_output=soft, ensure_all_finite=finite)
    classes, targets = (np.arange(y.shape[1]), y) if soft else encoded(y)
    check_classes(classes, solver)
    s = checked_weights(sample_weight, X)
    if class_weight is not None:
        if soft:
            raise no_class_weights()
        c = _weights_of_classes(class_weight, classes, targets, s)
        s = c[targets] if s is None else s * c[targets]
    if s is not None and not s.any():
        raise ValueError("Sample weights must contain at least one non-zero number.")
    return TrainingData(Rows.of(X, targets, s), classes, y)


def check_more_data(
    estimator: Any,
    X: Any,
    y: Any,
    classes: Any,
    sample_weight: Any,
    *,
    known: Array | None,
    class_weight: ClassWeight,
    solver: str,
) -> tuple[Rows, Array]:
    """Return the checked rows of `partial_fit`, and its classes; `known` are those of an earlier call."""
    soft = are_probabilities(y)
    X, y = validated(estimator, X, y, dtype=KINDS, order="C", multi_output=soft, reset=known is None)
    if classes is None and known is None:
        if not soft:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        classes = np.arange(y.shape[1])
    if classes is not None:
        given = np.unique(classes)
        if known is not None and not np.array_equal(given, known):
            raise ValueError(f"classes={given} is not the same as on last call to partial_fit, was: {known}")
        check_classes(given, solver)
        known = given if known is None else known
    assert known is not None
    K = len(known)
    if soft and y.shape[1] != K:
        raise ValueError(f"y has {y.shape[1]} columns of probabilities, but there are {K} classes")
    if not soft:
        check_classification_targets(y)
        index = np.minimum(np.searchsorted(known, y), K - 1)
        if (new := known[index] != y).any():
            raise ValueError(f"y contains new labels: {np.unique(y[new])}, classes are {known}")
        y = index
    s = checked_weights(sample_weight, X)
    if class_weight is not None:
        if soft or class_weight == "balanced":
            raise ValueError(
                "class_weight 'balanced', or with probabilities, is not supported for partial_fit: pass the "
                "weights of compute_class_weight as a dict, or sample_weight"
            )
        c = compute_class_weight(class_weight, classes=known, y=known)
        s = c[y] if s is None else s * c[y]
    return Rows.of(X, y, s), known


def problem_of_pieces(
    found: Survey,
    penalty_for: Callable[[float], Penalty],
    *,
    class_weight: ClassWeight,
    solver: str,
    fit_intercept: bool,
    n_threads: int | None,
) -> Problem:
    """Return the `Problem` that a pass over all pieces has found; raise ValueError if it cannot be fitted.

    `penalty_for` is called with m, the sum of all weights.
    """
    check_classes(found.classes, solver)
    c = None
    if class_weight is not None:
        if found.labels is None:
            raise no_class_weights()
        c = _weights_of_classes(class_weight, found.classes, np.arange(len(found.classes)), found.weights)
    penalty = penalty_for(found.total(c)) if found.total(c) else Penalty()
    penalty.factors(found.D)  # raises if the number of penalty weights is not D
    binary = Parameters.of_model(len(found.classes), found.D, fit_intercept).binary
    return found.problem(penalty, c, fit_intercept, n_threads, binary=binary)


def check_classes(classes: Array, solver: str) -> None:
    """Raise ValueError for a single class, and for more than two with liblinear."""
    K = len(classes)
    if K < 2:
        raise ValueError(
            "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
            f"{classes[0]!r}"
        )
    if K > 2 and solver == "liblinear":
        raise ValueError(
            "The 'liblinear' solver does not support multiclass classification (n_classes >= 3): use any other. "
            "Only binary classification is supported. The type of the target is multiclass."
        )


def checked_weights(sample_weight: Any, X: Any) -> Array | None:
    """Return the samples' checked weights (N,), not yet multiplied by class weights; None if there are none."""
    if sample_weight is None:
        return None
    sample_weight = readable(sample_weight, "sample_weight")
    s: Array = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    return s


def _weights_of_classes(class_weight: dict[Any, float] | str, classes: Array, targets: Array, s: Array | None) -> Array:
    """Return the class weights (K,); for "balanced" the targets, 0..K-1, are counted with their weights s."""
    if class_weight == "balanced":
        return class_weights("balanced", targets, s, len(classes))
    c: Array = compute_class_weight(class_weight, classes=classes, y=classes)
    return c


def encoded(y: Array) -> tuple[Array, Array]:
    """Return the sorted classes, and the number of each label's class; raise ValueError if y has no labels."""
    found = counted(y)
    if found is None:
        check_classification_targets(y)
        return np.unique(y, return_inverse=True)
    if 2 * len(found[0]) > len(y):
        check_classification_targets(y)  # warns that there are many classes for so few samples
    return found
