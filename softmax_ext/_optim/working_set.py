"""Fits of wide samples with an L1 penalty: each among a few of the features, until none of the others should move.

Of 60000 words a fit keeps some hundred, but every vector of all of them and each pass would cost what 60000 cost. So a
fit goes among a working set: the features that are used, and of the others those whose gradients exceed their limits by
the most, no more of them than there are used. It ends with one pass over all features, which tells who is to come in
next, and whether that was the end. Along a path the sequential strong rule (Tibshirani, Bien, Friedman, Hastie, Simon,
Taylor and Tibshirani, Journal of the Royal Statistical Society B 74, 2012) says who comes in at once. Sets that double
until nothing is violated are those of Massias, Gramfort and Salmon, "Celer" (ICML 2018).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._objective.penalty import Penalty

Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# Features from which on fits go among some of them; and the least that come in at a time.
WIDE, LEAST = 2000, 100
# Part of the largest violation of all features to which a fit among some of them goes, if that is more than the end.
INNER = 0.1


def is_wide(objective: Any) -> bool:
    """Tell whether a fit had better go among some of the features at a time."""
    return objective.parameters.D >= WIDE and getattr(objective, "in_memory", False)


class WorkingSet:
    """Some features of an objective, (n,), sorted: the objective of them alone, and vectors of them."""

    def __init__(self, objective: Any, which: Indices) -> None:
        self.whole, self.which = objective, which
        self.part = objective.of_features(which)

    def lower(self, w: Vector) -> Vector:
        """Return the parameters of these features, and the intercepts."""
        W, b = self.whole.parameters.views(w)
        some: Vector = self.part.parameters.join(W[:, self.which], b)
        return some

    def lift(self, some: Vector) -> Vector:
        """Return the parameters of all features, the others being 0."""
        w = np.zeros(self.whole.parameters.size)
        (W, b), (V, c) = self.whole.parameters.views(w), self.part.parameters.views(some)
        W[:, self.which] = V
        if b is not None:
            b[:] = c
        return w


def chosen(penalty: Penalty, W: Vector, dW: Vector, before: Penalty | None) -> Indices:
    """Return the features to fit among, (n,): those that are used, and those that should be the most.

    `before` is the penalty that W is a minimum with, where the next one on a path is looked for.
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
            return np.flatnonzero(used | strong | (limits == 0) | (beyond > 0))
    coming = np.flatnonzero(beyond > 0)
    if len(coming) > most:
        coming = coming[np.argsort(-beyond[coming], kind="stable")[:most]]
    used[coming] = True
    return np.flatnonzero(used | (limits == 0))
