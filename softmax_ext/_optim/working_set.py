"""Working sets: with an L1 penalty and many features, fits among few features until none of the others should move.

Of 60000 words a fit keeps some hundred, but its vectors and passes over all features would cost as much as 60000 words.
So a fit moves the weights of a working set: the features that are used, and those others whose gradients exceed their
limits by the most, at most as many as are used. After it a pass over all features tells which features join the set,
and whether the fit has ended. Along a path of penalties the sequential strong rule (Tibshirani, Bien, Friedman, Hastie,
Simon, Taylor and Tibshirani, Journal of the Royal Statistical Society B 74, 2012) tells which features join before the
first fit. Working sets that double until no condition is violated are those of Massias, Gramfort and Salmon, "Celer"
(ICML 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._objective.penalty import Penalty

Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Fits of WIDE features or more have working sets, which at least LEAST features may join at a time.
WIDE, LEAST = 2000, 100
# A fit of a working set ends when its largest violation is this part of the largest one of all features, or small
# enough for the end of the whole fit; and so its duality gap.
INNER = 0.1


def is_wide(objective: Any) -> bool:
    """Return whether a fit of this objective is faster with working sets."""
    return objective.parameters.D >= WIDE and getattr(objective, "in_memory", False)


class WorkingSet:
    """Some features of an objective, with sorted numbers `which` (n,), and `part`, the objective of them alone."""

    def __init__(self, objective: Any, which: Indices) -> None:
        self.whole, self.which = objective, which
        self.part = objective.of_features(which)

    def lower(self, w: Vector) -> Vector:
        """Return the parameters in w of these features, and the intercepts."""
        W, b = self.whole.parameters.views(w)
        some: Vector = self.part.parameters.join(W[:, self.which], b)
        return some

    def lift(self, some: Vector) -> Vector:
        """Return the parameters of all features, with 0 for the others."""
        w = np.zeros(self.whole.parameters.size)
        (W, b), (V, c) = self.whole.parameters.views(w), self.part.parameters.views(some)
        W[:, self.which] = V
        if b is not None:
            b[:] = c
        return w


def chosen(penalty: Penalty, W: Vector, dW: Vector, before: Penalty | None) -> Indices:
    """Return the numbers of the features in the next working set, (n,): those in use, and those that violate the most.

    If W is the minimum for the penalty before on a path, `before` is that penalty. Where only the intercepts have to
    move, one feature is chosen all the same, since a pass needs one.
    """
    used: npt.NDArray[np.bool_] = np.any(W, axis=0)
    limits = penalty.thresholds(W.shape[1])
    sizes = penalty.sizes(dW)
    sizes = sizes if sizes.ndim == 1 else sizes.max(axis=0)
    beyond = np.where(used, 0, sizes - limits)
    most = max(LEAST, int(np.count_nonzero(used)))
    if before is not None:
        strong = ~used & (sizes >= 2 * limits - before.thresholds(W.shape[1]))
        if np.count_nonzero(strong) <= most:
            return _one_at_least(used | strong | (limits == 0) | (beyond > 0), beyond)
    coming = np.flatnonzero(beyond > 0)
    if len(coming) > most:
        coming = coming[np.argsort(-beyond[coming], kind="stable")[:most]]
    used[coming] = True
    return _one_at_least(used | (limits == 0), beyond)


def _one_at_least(features: npt.NDArray[np.bool_], beyond: Vector) -> Indices:
    found = np.flatnonzero(features)
    return found if len(found) else np.array([beyond.argmax()], np.intp)
