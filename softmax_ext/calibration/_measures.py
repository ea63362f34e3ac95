"""How far predicted probabilities are from observed frequencies, as a number and as a plot."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.calibration import CalibrationDisplay

from .._fit.training_data import encoded
from .._inputs.tensors import read

__all__ = ["expected_calibration_error", "reliability_display"]

Array = npt.NDArray[Any]


def expected_calibration_error(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    n_bins: int = 15,
    strategy: str = "uniform",
    kind: str = "top",
    classes: npt.ArrayLike | None = None,
    sample_weight: npt.ArrayLike | None = None,
) -> float:
    """Return the mean distance between predicted probabilities and how often they are right, over bins.

    Samples are grouped by their predicted probability. If those of bin b have the weight w_b, the mean probability p_b,
    and the fraction r_b of them is right, the error is ``Σ_b w_b |r_b - p_b| / Σ_b w_b``.

    Parameters
    ----------
    y : array_like, shape (N,)
        Labels.
    probabilities : array_like, shape (N, K), or (N,) for the second of two classes
        Predicted probabilities, with the classes in sorted order.
    n_bins : int >= 1, default 15
        Number of bins.
    strategy : {"uniform", "quantile"}, default "uniform"
        Whether bins have the same width or the same number of samples.
    kind : {"top", "classwise"}, default "top"
        "top" takes the probability of the predicted class, "classwise" the mean of the errors of each class's
        probability.
    classes : array_like, shape (K,), optional
        All labels. They are needed if `y` lacks some of them and they are not 0..K-1.
    sample_weight : array_like, shape (N,), optional
        Weights of the samples.

    Returns
    -------
    float
        The error, between 0 and 1.

    Raises
    ------
    ValueError
        If shapes, labels or options do not fit.

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3; classwise: M. Kull et al., "Beyond
    temperature scaling", NeurIPS 2019.

    Examples
    --------
    >>> S = [[0.8, 0.2], [0.8, 0.2], [0.3, 0.7], [0.3, 0.7]]
    >>> round(expected_calibration_error([0, 1, 1, 1], S), 3)  # (2 |1/2 - 0.8| + 2 |1 - 0.7|) / 4
    0.3
    """
    S, labels = _checked(y, probabilities, classes)
    s = np.ones(len(S)) if sample_weight is None else np.asarray(read(sample_weight, "sample_weight"), np.float64)
    if s.shape != labels.shape:
        raise ValueError(f"sample_weight must have shape {labels.shape}, got {s.shape}")
    if n_bins < 1:
        raise ValueError(f"n_bins must be at least 1, got {n_bins}")
    if kind == "top":
        return _error(S.max(axis=1), S.argmax(axis=1) == labels, s, n_bins, strategy)
    if kind != "classwise":
        raise ValueError(f'kind must be "top" or "classwise", got {kind!r}')
    return float(np.mean([_error(S[:, k], labels == k, s, n_bins, strategy) for k in range(S.shape[1])]))


def reliability_display(
    y: npt.ArrayLike,
    probabilities: npt.ArrayLike,
    *,
    label: Any = None,
    n_bins: int = 10,
    strategy: str = "uniform",
    classes: npt.ArrayLike | None = None,
    name: str | None = None,
    ax: Any = None,
    **keywords: Any,
) -> CalibrationDisplay:
    """Draw how often predictions are right against their probabilities, by scikit-learn's `CalibrationDisplay`.

    Parameters
    ----------
    y, probabilities, classes
        As for `expected_calibration_error`.
    label : object, optional
        The class whose probability is drawn; by default the probability of the predicted class is.
    n_bins, strategy, name, ax, **keywords
        As for ``CalibrationDisplay.from_predictions``.

    Returns
    -------
    sklearn.calibration.CalibrationDisplay
        The display, with the curve as ``prob_true`` and ``prob_pred``.

    Raises
    ------
    ValueError
        If shapes or labels do not fit.
    """
    S, labels = _checked(y, probabilities, classes)
    if label is None:
        true, sure = S.argmax(axis=1) == labels, S.max(axis=1)
    else:
        known = np.arange(S.shape[1]) if classes is None and _are_numbers(y, S.shape[1]) else np.unique(
            y if classes is None else classes
        )  # fmt: skip
        (k,) = np.flatnonzero(known == label) if (known == label).any() else (None,)
        if k is None:
            raise ValueError(f"label = {label!r} is none of the classes {known}")
        true, sure = labels == k, S[:, k]
    return CalibrationDisplay.from_predictions(
        true, sure, n_bins=n_bins, strategy=strategy, name=name, ax=ax, pos_label=True, **keywords
    )


def _checked(y: Any, probabilities: Any, classes: Any) -> tuple[Array, Array]:
    """Return checked probabilities (N, K), and the number of each label's class, (N,)."""
    S = np.asarray(read(probabilities, "probabilities"))
    if S.ndim == 1:
        S = np.column_stack([1 - S, S])
    if S.ndim != 2 or S.dtype.kind != "f" or not S.size:
        raise ValueError(f"probabilities must be a floating array of shape (N, K), got {S.dtype} of shape {S.shape}")
    if not (S.min() >= 0 and S.max() <= 1):
        raise ValueError(f"probabilities must lie in [0, 1], got values from {S.min()} to {S.max()}")
    return S, numbered(np.asarray(read(y, "y")), S.shape[1], classes, len(S))[1]


def _are_numbers(y: Any, K: int) -> bool:
    y = np.asarray(y)
    return y.dtype.kind in "iu" and bool(y.size) and int(y.min()) >= 0 and int(y.max()) < K


def numbered(y: Array, K: int, classes: Any, N: int) -> tuple[Array, Array]:
    """Return the sorted classes of K columns, and the number of each label's class, (N,)."""
    if y.shape != (N,):
        raise ValueError(f"y must have a label for each of the {N} samples, shape ({N},), got shape {y.shape}")
    if classes is None:
        known, index = encoded(y)
        if len(known) != K and _are_numbers(y, K):
            return np.arange(K), y.astype(np.intp)
        if len(known) != K:
            raise ValueError(
                f"y has {len(known)} classes, but the scores have {K} columns: pass classes=, all {K} labels in order"
            )
        return known, index
    known = np.asarray(classes)
    if known.shape != (K,) or (known[1:] <= known[:-1]).any():
        raise ValueError(f"classes must be the {K} labels of the scores' columns, sorted, got {known}")
    index = np.minimum(np.searchsorted(known, y), K - 1)
    if (new := known[index] != y).any():
        raise ValueError(f"y has the label {y[new].tolist()[0]!r}, which is none of classes")
    return known, index


def _error(sure: Array, right: Array, s: Array, n_bins: int, strategy: str) -> float:
    if strategy == "uniform":
        edges = np.linspace(0, 1, n_bins + 1)
    elif strategy == "quantile":
        edges = np.quantile(sure, np.linspace(0, 1, n_bins + 1))
    else:
        raise ValueError(f'strategy must be "uniform" or "quantile", got {strategy!r}')
    bins = np.searchsorted(edges[1:-1], sure)
    off = np.bincount(bins, s * (right - sure.astype(np.float64)), minlength=n_bins)
    return float(np.abs(off).sum() / s.sum())
