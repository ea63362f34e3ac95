"""The middle M of sandwich covariances H⁻¹ M H⁻¹: sums of outer products of samples' or of clusters' scores.

A score is here, as in statistics, the derivative of a log-likelihood with respect to the parameters:

    HC0: M = Σ_i s_i g_i g_iᵀ         g_i (P,): the score of sample i, P = (K - 1) D
    clusters: M = Σ_c G_c G_cᵀ        G_c = Σ_{i in c} s_i g_i

The scores are computed for a block of samples at a time, since N x P numbers might fill the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._likelihood import Likelihood, blocks

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def squared_scores(f: Likelihood, theta: Vector) -> Vector:
    """Return Σ s g gᵀ (P, P), the middle of White's estimator (HC0)."""
    M = np.zeros((f.size, f.size))
    for rows in blocks(f.N, f.size):
        g = f.scores(theta, rows)
        if f.weights is not None:
            g *= np.sqrt(f.weights[rows])[:, np.newaxis]
        M += g.T @ g
    return M


def clustered_scores(f: Likelihood, theta: Vector, groups: Array) -> Vector:
    """Return Σ G Gᵀ (P, P) over groups; `groups` (N,) has the number 0, 1, ... of each sample's group.

    The samples are taken in the order of their groups, so that only a block's last group may go on in the next one.
    """
    M, order = np.zeros((f.size, f.size)), np.argsort(groups, kind="stable")
    rest, group = np.zeros(f.size), -1  # the sum so far of the group that may go on in the next block, and its number
    for part in blocks(f.N, f.size):
        rows = order[part]
        g, of = f.scores(theta, rows), groups[rows]
        if f.weights is not None:
            g *= f.weights[rows][:, np.newaxis]
        first = np.flatnonzero(np.r_[True, of[1:] != of[:-1]])
        sums = np.add.reduceat(g, first, axis=0)
        if of[0] == group:
            sums[0] += rest
        else:
            M += np.outer(rest, rest)
        rest, group = sums[-1].copy(), int(of[-1])
        M += sums[:-1].T @ sums[:-1]
    M += np.outer(rest, rest)
    return M
