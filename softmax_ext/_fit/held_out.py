"""Scores of several models on rows that they were not fitted to: in memory, and as sums over data in pieces.

This module does not import scikit-learn, since workers of a cluster run it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._inputs.rows import Rows
from .._objective.folds import Places
from .._objective.pieces import Problem
from ..special import softmax
from .scores import scores

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Integers = npt.NDArray[np.intp]

MiB = 2**20
# Held-out rows are copied in blocks of BLOCK_BYTES, each of which is scored for as many models as have SCORES_BYTES of
# scores.
BLOCK_BYTES, SCORES_BYTES = 4 * MiB, 32 * MiB


class Models(NamedTuple):
    """Several models of the same classes, which are scored one after the other."""

    W: Array  # (models, K or 1, D)
    b: Array  # (models, K or 1)
    n_threads: int | None
    offset: Array | None = None  # (N, K or 1), for all samples

    def scores(self, X: Any, rows: Integers) -> Iterator[Array]:
        """Yield each model's scores of some rows of X, (rows, K or 1), without a copy of all these rows.

        A block of rows is copied at a time, and read once for as many models as SCORES_BYTES allows.
        """
        count, D = self.W.shape[1:]
        itemsize = self.W.dtype.itemsize
        together = int(max(1, SCORES_BYTES // max(1, len(rows) * count * itemsize)))
        at_once = int(max(1, BLOCK_BYTES // (D * itemsize)))
        for first in range(0, len(self.W), together):
            W, b = self.W[first : first + together], self.b[first : first + together]
            Z = np.empty((len(rows), len(W) * count), self.W.dtype)
            for start in range(0, len(rows), at_once):
                block = slice(start, start + at_once)
                Z[block] = scores(X[rows[block]], W.reshape(-1, D), b.ravel(), self.n_threads)
            if self.offset is not None:
                Z.reshape(len(rows), len(W), count)[...] += self.offset[rows][:, np.newaxis]
            for i in range(len(W)):
                yield Z[:, i * count : (i + 1) * count]


def predicted(Z: Array) -> Integers:
    """Return the classes, 0..K-1, of scores (n, K), or (n, 1) of the second of two classes."""
    found: Integers = (Z[:, 0] > 0).astype(np.intp) if Z.shape[1] == 1 else Z.argmax(axis=1)
    return found


def posterior(Z: Array) -> Array:
    """Return the posterior (n, K) of scores (n, K), or (n, 1) of the second of two classes."""
    S: Array = softmax(np.column_stack([np.zeros_like(Z), Z]) if Z.shape[1] == 1 else Z, axis=1)
    return S


# What of held-out rows is summed: the weights of those that are predicted right; their log losses; or the weights of
# those of class k that are predicted as class l, for all k and l.
RIGHT, LOG_LOSS, CONFUSION = "right", "log loss", "confusion"


def entries(kind: str, K: int) -> int:
    """Return how many sums a kind has."""
    return K * K if kind == CONFUSION else 1


def sums(piece: Rows, places: Places, problem: Problem, W: Array, b: Array, kind: str) -> tuple[Vector, Vector]:
    """Return the sums of a piece's held-out rows for each model of each fold, and the sums of their weights.

    Parameters
    ----------
    piece, places, problem
        The rows, their folds, and what all pieces have in common. Weights are those of the samples alone.
    W, b : arrays, shapes (folds, models, K or 1, D) and (folds, models, K or 1)
        The models of each fold.
    kind : str
        What is summed.

    Returns
    -------
    tuple of ndarray
        The sums, (folds, models, entries), and the weights, (folds,).
    """
    rows, K = problem._replace(class_weights=None).encoded(piece), len(problem.classes)
    offset, y = rows.offset, rows.targets
    if offset is not None and offset.shape[1] > W.shape[2]:
        offset = offset[:, 1:].astype(np.float64) - offset[:, :1]
    found, weights = np.zeros((*W.shape[:2], entries(kind, K))), np.zeros(len(W))
    for f in range(len(W)):
        s = rows.weights() * places.tests(f)
        here = np.flatnonzero(s)
        s, labels, weights[f] = s[here], y[here], s.sum()
        if not len(here):
            continue
        for i, Z in enumerate(Models(W[f], b[f], problem.n_threads, offset).scores(rows.X, here)):
            if kind == LOG_LOSS:
                found[f, i] = s @ _log_losses(posterior(Z), labels)
            elif kind == RIGHT:
                found[f, i] = s @ (predicted(Z) == labels)
            else:
                found[f, i] = np.bincount(labels * K + predicted(Z), s, K * K)
    return found, weights


def _log_losses(S: Array, labels: Integers) -> Vector:
    """Return each row's log loss as scikit-learn computes it: no probability counts as less than rounding."""
    eps = np.finfo(S.dtype).eps
    found: Vector = -np.log(np.clip(S[np.arange(len(S)), labels], eps, 1 - eps).astype(np.float64))
    return found
