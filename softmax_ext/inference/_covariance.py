"""The middle of a sandwich: sums of products of the samples' scores, or of those of groups of them.

    H0: M = Σ_i s_i g_i g_iᵀ          g_i (P,): the derivative of sample i's log-likelihood
    clusters: M = Σ_c G_c G_cᵀ        G_c = Σ_{i in c} s_i g_i

No array of N rows of P = (K - 1) D numbers exists beyond a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ._likelihood import Likelihood, blocks

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def squared_scores(f: Likelihood, theta: Vector) -> Vector:
    """Return Σ s g gᵀ, (P, P): what White's estimator (HC0) puts between two inverse information matrices."""
    M = np.zeros((f.size, f.size))
    for rows in blocks(f.N, f.size):
        g = f.scores(theta, rows)
        if f.weights is not None:
            g *= np.sqrt(f.weights[rows])[:, np.newaxis]
        M += g.T @ g
    return M


def clustered_scores(f: Likelihood, theta: Vector, groups: Array) -> Vector:
    """Return Σ G Gᵀ over groups, given by their numbers 0, 1, ... for each sample.

    The samples are taken in the order of their groups, so that a block has sums of whole groups, but for its last.
    """
    M, order = np.zeros((f.size, f.size)), np.argsort(groups, kind="stable")
    rest, group = np.zeros(f.size), -1  # the sum of the group that the last block has ended in
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
