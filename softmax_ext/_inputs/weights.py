"""Checks of the weights of samples and of classes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .arrays import SHAPES, check_nonnegative, check_real
from .dtypes import F8, contiguous
from .scalars import real_number


def check_weights(
    sample_weight: object, class_weight: object, y: npt.NDArray[np.intp] | None, N: int, K: int
) -> tuple[npt.NDArray[np.float64], float]:
    """Return s_i = sample_weight_i class_weight[y_i] and m = Σ s."""
    s = None if sample_weight is None else _weight_vector(sample_weight, "sample_weight", N)
    with np.errstate(all="ignore"):
        if class_weight is not None:
            if y is None:
                raise no_class_weights("integer labels")
            c = class_weights(class_weight, y, s, K)[y]
            s = c if s is None else s * c
        assert s is not None
        m = float(s.sum())
    if not 0 < m < np.inf:
        given = {"sample_weight": sample_weight, "class_weight": class_weight}
        names = " times ".join(name for name, weight in given.items() if weight is not None)
        raise ValueError(f"{names} sums to {m} over the samples: the sum must be positive and finite")
    return s, m


def no_class_weights(needed: str = "labels") -> ValueError:
    """Return the error for class weights with probabilities, since a row of probabilities belongs to no one class."""
    return ValueError(f"class_weight needs {needed}, but y holds probabilities: use sample_weight")


def class_weights(
    class_weight: object, y: npt.NDArray[np.intp], s: npt.NDArray[np.float64] | None, K: int
) -> npt.NDArray[np.float64]:
    """Return the class weights (K,), from "balanced", a dict of label to weight, or an array.

    "balanced" is Σ s / (P Σ_{y_i = k} s_i) with P the number of classes whose samples have weight, as
    sklearn.utils.class_weight.compute_class_weight defines it where LogisticRegression passes it sample weights. A
    class whose samples all weigh zero counts as absent, and has weight 0.
    """
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ValueError(f'class_weight must be "balanced", a dict or a (K,) array, got {class_weight!r}')
        counts = np.bincount(y, s, minlength=K)
        present = counts > 0
        return np.where(present, counts.sum() / (present.sum() * counts), 0.0)
    if not isinstance(class_weight, Mapping):
        return _weight_vector(class_weight, "class_weight", K)
    c = np.ones(K)
    for label, weight in class_weight.items():
        if isinstance(label, (bool, np.bool)) or not isinstance(label, (int, np.integer)) or not 0 <= label < K:
            raise ValueError(f"class_weight has the key {label!r}: keys must be integer labels in 0..{K - 1}")
        c[label] = real_number(weight, f"class_weight[{label}]")
    check_nonnegative(c, "class_weight")
    return c


def _weight_vector(weight: object, name: str, length: int) -> npt.NDArray[np.float64]:
    """Return weights as a checked vector of doubles."""
    vector = check_real(weight, name, 1)
    if vector.shape[0] != length:
        raise ValueError(f"{name} has {vector.shape[0]} entries, but {SHAPES[name]} = ({length},) is needed")
    vector = contiguous(vector, F8)
    check_nonnegative(vector, name)
    return vector
