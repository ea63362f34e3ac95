"""The mean loss of scaled scores, and its derivatives: by one factor, or by a factor and a shift for each class.

Every number of threads gives the same bits, since rows are cut into parts by their number alone. "Scaled scores have
kernels of their own" in docs/notes.md has the times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .. import reference
from . import dispatch, threads, workspace

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# A part has PART scores or more, and there are at most MOST_PARTS parts. One thread reads fewer than PARALLEL scores in
# less time than a team of threads needs to start.
PART, MOST_PARTS, PARALLEL = 2**13, 256, 2**16


class ByOne(NamedTuple):
    """The mean loss of scores that are multiplied by a number, and its first and second derivative by that."""

    loss: float
    slope: float
    curvature: float


class ByClass(NamedTuple):
    """The mean loss of scores a_k z_k + b_k, and its derivatives by a and b, (K,) each."""

    loss: float
    da: Vector
    db: Vector


def by_one(Z: Array, y: Array, s: Vector | None, beta: float, n_threads: int | None) -> ByOne:
    """Return the loss of scores beta Z for labels y in 0..K-1, and its derivatives.

    Parameters
    ----------
    Z : ndarray, shape (N, K)
        Scores, float32 or float64; rows may lie apart, but each must be contiguous.
    y : ndarray of intp, shape (N,)
        Labels.
    s : ndarray of float64, shape (N,), or None
        Weights of the rows.
    beta : float > 0
        The factor, which is rounded to the dtype of the scores.
    n_threads : int, optional
        As in `loss_grad`.
    """
    if dispatch.kernels is None:
        return ByOne(*reference.scaled_by_one(reference.float64(Z), y, s, beta))
    loss, slope, curvature = _means(Z, y, s, (beta, None, None), 3, n_threads).tolist()
    return ByOne(loss, slope, curvature)


def by_class(Z: Array, y: Array, s: Vector | None, a: Vector, b: Vector, n_threads: int | None) -> ByClass:
    """Return the loss of scores a_k z_k + b_k, and its derivatives; a and b are (K,), the rest is as for `by_one`."""
    if dispatch.kernels is None:
        return ByClass(*reference.scaled_by_class(reference.float64(Z), y, s, a, b))
    K = len(a)
    found = _means(Z, y, s, (1.0, a.astype(Z.dtype), b.astype(Z.dtype)), 1 + 2 * K, n_threads)
    return ByClass(float(found[0]), found[1 : K + 1], found[K + 1 :])


def _means(
    Z: Array,
    y: Array,
    s: Vector | None,
    scaling: tuple[float, Array | None, Array | None],
    width: int,
    n_threads: int | None,
) -> Vector:
    """Return the sums over all rows, as many as `width`, divided by the rows' weight; `scaling` is beta, a and b."""
    assert dispatch.kernels is not None
    (N, K), itemsize = Z.shape, Z.itemsize
    sums = np.empty((max(1, min(N, Z.size // PART, MOST_PARTS)), width))
    team = 1 if Z.size < PARALLEL else min(threads.effective(n_threads), len(sums))
    space = workspace.take(team * dispatch.kernels.scaled_space(K, itemsize), Z.dtype, 0)
    try:
        dispatch.kernels.scaled(Z, y, s, *scaling, sums, space.work, team)
    finally:
        workspace.give(space)
    means: Vector = sums.sum(axis=0) / (N if s is None else s.sum())
    return means
