"""What `LogisticRegression` is given to fit: labels or probabilities, their classes, the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight

from ._parameters import Parameters
from ._penalty import Penalty
from ._pieces import Problem, Survey
from ._readable import check_readable, validated
from ._rows import Rows
from ._validation import class_weights, no_class_weights

Array = npt.NDArray[Any]


class TrainingDataMixin:
    """The part of `LogisticRegression` that checks data for every kind of fit, and sets `classes_`."""

    class_weight: dict[Any, float] | str | None
    classes_: Array
    fit_intercept: bool
    n_threads: int | None
    solver: str

    def _check_data(self, X: Any, y: Any, sample_weight: Any) -> tuple[Array, Array, Array, Array | None]:
        """Return X, y, what the objective takes for y, and the weights s; set `classes_`."""
        soft = _are_probabilities(y)
        kinds = [np.float64, np.float32]
        X, y = validated(self, X, y, dtype=kinds, order="C", multi_output=soft)
        if soft:
            classes, targets = np.arange(y.shape[1]), y
        else:
            check_classification_targets(y)
            classes, targets = np.unique(y, return_inverse=True)
        self._set_classes(classes)
        K = len(classes)
        s = None
        if sample_weight is not None:
            check_readable(sample_weight, "sample_weight")
            s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            if soft:
                raise no_class_weights()
            if self.class_weight == "balanced":
                c = class_weights("balanced", targets, s, K)
            else:
                c = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
            s = c[targets] if s is None else s * c[targets]
        if s is not None and not s.any():
            raise ValueError("Sample weights must contain at least one non-zero number.")
        return X, y, targets, s

    def _set_classes(self, classes: Array) -> None:
        self.classes_ = classes
        K = len(classes)
        if K < 2:
            raise ValueError(
                "This solver needs samples of at least 2 classes in the data, but the data contains only one class: "
                f"{self.classes_[0]!r}"
            )
        if K > 2 and self.solver == "liblinear":
            raise ValueError(
                "The 'liblinear' solver does not support multiclass classification (n_classes >= 3): use any other. "
                "Only binary classification is supported. The type of the target is multiclass."
            )

    def _check_more_data(self, X: Any, y: Any, classes: Any, sample_weight: Any) -> Rows:
        """Return what `partial_fit` is given, with labels 0..K-1 and complete weights."""
        first = not hasattr(self, "classes_")
        soft = _are_probabilities(y)
        X, y = validated(self, X, y, dtype=[np.float64, np.float32], order="C", multi_output=soft, reset=first)
        if classes is None and first and soft:
            classes = np.arange(y.shape[1])
        if classes is None and first:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        if classes is not None:
            given = np.unique(classes)
            if not first and not np.array_equal(given, self.classes_):
                raise ValueError(
                    f"classes={given} is not the same as on last call to partial_fit, was: {self.classes_}"
                )
            self._set_classes(given)
        K = len(self.classes_)
        if soft and y.shape[1] != K:
            raise ValueError(f"y has {y.shape[1]} columns of probabilities, but there are {K} classes")
        if not soft:
            check_classification_targets(y)
            index = np.minimum(np.searchsorted(self.classes_, y), K - 1)
            if (new := self.classes_[index] != y).any():
                raise ValueError(f"y contains new labels: {np.unique(y[new])}, classes are {self.classes_}")
            y = index
        s = None
        if sample_weight is not None:
            check_readable(sample_weight, "sample_weight")
            s = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if self.class_weight is not None:
            if soft or self.class_weight == "balanced":
                raise ValueError(
                    "class_weight 'balanced', or with probabilities, is not supported for partial_fit: pass the "
                    "weights of compute_class_weight as a dict, or sample_weight"
                )
            c = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
            s = c[y] if s is None else s * c[y]
        return Rows.of(X, y, s)

    def _pieces_problem(self, found: Survey, C: float) -> Problem:
        """Take over what a pass over all pieces has found, and refuse what cannot be fitted."""
        self._set_classes(found.classes)
        if hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.n_features_in_ = found.D
        c = None
        if self.class_weight is not None:
            if found.labels is None:
                raise no_class_weights()
            K = len(self.classes_)
            if self.class_weight == "balanced":
                c = class_weights("balanced", np.arange(K), found.weights, K)
            else:
                c = compute_class_weight(self.class_weight, classes=self.classes_, y=self.classes_)
        l2 = 1 / (C * found.total(c)) if found.total(c) else 0.0
        binary = Parameters.of_model(len(self.classes_), found.D, True).binary
        return found.problem(Penalty(l2), c, bool(self.fit_intercept), self.n_threads, binary=binary)


def _are_probabilities(y: Any) -> bool:
    try:
        Y = np.asarray(y)
    except (TypeError, ValueError):  # such as a ragged list; scikit-learn will say what is wrong
        return False
    return Y.ndim == 2 and Y.shape[1] >= 2 and Y.dtype.kind == "f"
