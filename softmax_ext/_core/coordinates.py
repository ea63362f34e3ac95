"""The minimum of a quadratic model with a penalty that is not smooth, by coordinate descent.

src/linalg/coordinates.h has the mathematics, and the sweeps that `descend` calls; `_sweep` does the same in NumPy where
no kernels are compiled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import TINY
from . import dispatch
from .vectors import combinations, combine, dots, product

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# The kernel returns after WORK operations, so that Ctrl-C is looked for. A descent has SWEEPS sweeps at most.
WORK, SWEEPS = 1e8, 2000
# Sweeps that have taken SWEPT operations, or as many as the direct solution for the entries that are not 0, if these
# are at most MOST, take turns with that solution, TURNS times. It adds RIDGE of the diagonal. If a step does not lower
# the model, SHARE of it is tried, and so on SHARES times.
SWEPT, MOST, TURNS, RIDGE, SHARE, SHARES = 2e6, 2048, 50, 1e-9, 0.3, 20


@dataclass
class Entries:
    """The coordinates that a descent may move: the first one of each group, then those that belong to no group."""

    which: npt.NDArray[np.intp]
    groups: int = 0
    members: int = 1  # coordinates in a group
    apart: int = 1  # distance from one coordinate of a group to the next

    def coordinates(self) -> npt.NDArray[np.intp]:
        """Return all coordinates: group by group, then those of no group."""
        within = np.arange(self.members, dtype=np.intp) * self.apart
        groups = np.add.outer(self.which[: self.groups], within).ravel()
        return np.concatenate([groups, self.which[self.groups :]])


@dataclass
class Quadratic:
    """A quadratic model's gradient, its Hessian B = gamma M - Q N Qᵀ, and the penalty's limits.

    M is None if it is diagonal. Q and QN have a row for each of the entries' coordinates.
    """

    M: Array | None
    diagonal: Vector
    gamma: float
    Q: Vector
    QN: Vector
    gradient: Vector
    limits: Vector


def descend(model: Quadratic, entries: Entries, w: Vector, enough: float) -> tuple[Vector, Vector]:
    """Return the model's minimum u, and M (u - w).

    Coordinate descent ends with a sweep that changes no component of the gradient by more than `enough`.
    """
    u, z = w.copy(), np.zeros(len(w))
    if dispatch.kernels is None:
        _sweep(model, entries, u, z, enough)
        return u, z
    order, r = entries.coordinates(), model.Q.shape[1]
    t = np.zeros(r)
    for _ in range(TURNS):
        work = np.zeros(len(w) + r + entries.members)
        work[len(w) : len(w) + r] = t
        coordinates = dispatch.kernels.Coordinates(
            which=entries.which,
            groups=entries.groups,
            members=entries.members,
            apart=entries.apart,
            M=model.M,
            diagonal=model.diagonal,
            gamma=model.gamma,
            Q=model.Q,
            QN=model.QN,
            gradient=model.gradient,
            limits=model.limits,
            u=u,
            z=z,
            work=work,
            active=np.empty(len(entries.which), np.intp),
        )
        # As much work as a direct solution takes, which then follows, so that the wrong choice costs twice at most.
        n = np.count_nonzero(u[order])
        budget = math.inf if entries.groups or n > MOST else max(SWEPT, n**3 / 3)
        while not (done := coordinates.descend(enough, min(WORK, budget))) and budget > WORK:
            budget -= WORK
        if done:
            break
        _solve(model, entries, w, u, z, work[len(w) : len(w) + r])
        if r:
            t = combine(0.0, t, (u - w)[order], model.Q)
    return u, z


def _solve(model: Quadratic, entries: Entries, w: Vector, u: Vector, z: Vector, t: Vector) -> None:
    """Move u in place to the minimum over the entries that are not 0 and keep their signs, or towards it; update z.

    Sweeps are slow if features are collinear, or weights so weak that the model is all but singular. An entry whose
    sign would change becomes 0, and the step is shortened until the model falls.
    """
    assert dispatch.kernels is not None
    rows = np.flatnonzero((u[entries.which] != 0) | (model.limits[entries.which] == 0))
    some = entries.which[rows]
    n = len(some)
    if not 0 < n <= MOST:  # the sweeps may have ended with more than they began with
        return
    ld, space = dispatch.kernels.gram_space(n)
    Q, QN, limits = model.Q[rows], model.QN[rows], model.limits[some]
    B = _among(model, some)
    slope = model.gradient[some] + model.gamma * z[some] + limits * np.sign(u[some])
    if len(t):
        B -= combinations(np.ascontiguousarray(Q.T), QN.T)
        slope -= dots(QN, t)
    U, inverse = np.zeros((n, ld)), np.empty(n)
    U[:, :n] = B
    U.reshape(-1)[:: ld + 1] *= 1 + RIDGE
    dispatch.kernels.gram_factor(U, inverse, np.empty(space), RIDGE**2)
    kept = np.flatnonzero(U.diagonal())
    v = (-slope * inverse)[kept][np.newaxis]
    triangle = np.triu(U[:, :n])[np.ix_(kept, kept)]
    for transposed in (True, False):
        dispatch.kernels.triangle_solve(triangle, v, transposed)
    step = np.zeros(n)
    step[kept] = v[0]
    step *= inverse
    before, share = u[some], 1.0
    for _ in range(SHARES):
        to = before + share * step
        to[(limits > 0) & (to * before <= 0)] = 0
        d = to - before
        if product(slope, d) + 0.5 * product(d, dots(B, d)) < 0:
            u[some] = to
            z[:] = _times(model, u - w)
            return
        share *= SHARE


def _among(model: Quadratic, some: npt.NDArray[np.intp]) -> Vector:
    """Return gamma M for some coordinates, (n, n)."""
    n = len(some)
    B = np.zeros((n, n))
    if model.M is not None:
        P = model.M.shape[1]
        block, within = (some // P if len(model.M) > 1 else np.zeros_like(some)), some % P
        for k in np.unique(some // P):
            at = np.flatnonzero(some // P == k)
            B[np.ix_(at, at)] = model.M[block[at[0]]][np.ix_(within[at], within[at])]
    B.reshape(-1)[:: n + 1] = model.diagonal[some]
    B *= model.gamma
    return B


def _times(model: Quadratic, d: Vector) -> Vector:
    """Return M d."""
    if model.M is None:
        return model.diagonal * d
    blocks, P, ld = model.M.shape
    padded = np.zeros((len(d) // P, ld))
    padded[:, :P] = d.reshape(-1, P)
    return np.concatenate([dots(model.M[k if blocks > 1 else 0], part) for k, part in enumerate(padded)])


def _sweep(model: Quadratic, entries: Entries, u: Vector, z: Vector, enough: float) -> None:
    """Minimise over u in place by sweeps over all entries, with z = M (u - w) kept up to date."""
    t, P = np.zeros(model.Q.shape[1]), 1 if model.M is None else model.M.shape[1]
    within = np.arange(entries.members) * entries.apart

    def column(i: int) -> tuple[slice, Any]:
        """Return the coordinates where row i of M is not zero, and their entries in it."""
        if model.M is None:
            return slice(i, i + 1), float(model.diagonal[i])
        block = i // P
        part: Any = model.M[block if len(model.M) > 1 else 0, i % P, :P].astype(np.float64)
        part[i % P] = model.diagonal[i]
        return slice(block * P, (block + 1) * P), part

    def step(entry: int) -> float:
        """Move an entry to the minimum over it; return the largest change of the gradient that this makes."""
        group = entry < entries.groups
        at = entries.which[entry] + within if group else entries.which[entry : entry + 1]
        first = entry * entries.members if group else entries.groups * (entries.members - 1) + entry
        rows = slice(first, first + len(at))
        B = -model.QN[rows] @ model.Q[rows].T
        for k, i in enumerate(at):
            beside, part = column(i)
            whole = np.zeros(len(u))
            whole[beside] = part
            B[k] += model.gamma * whole[at]
        h = np.maximum(np.abs(B).sum(axis=1), np.maximum(1e-8 * model.gamma * model.diagonal[at], TINY))
        c = h * u[at] - (model.gradient[at] + model.gamma * z[at] - model.QN[rows] @ t)
        limit = model.limits[at[0]]
        length = math.sqrt(float(c @ c))
        if not limit:
            to = c / h
        elif length <= limit:
            to = np.zeros(len(at))
        else:
            to = c / (h + limit / _norm(c, h, limit)) if len(at) > 1 else (1 - limit / length) * c / h
        by = to - u[at]
        for k, i in enumerate(at):
            beside, part = column(i)
            z[beside] += by[k] * part
        t[:] += by @ model.Q[rows]
        u[at] = to
        return float((np.abs(by) * h).max())

    for _ in range(SWEEPS):
        if max((step(entry) for entry in range(len(entries.which))), default=0.0) <= enough:
            return


def _norm(c: Vector, h: Vector, limit: float) -> float:
    """Return the norm tau of a group at its minimum, the root of Σ_k (c_k / (h_k tau + limit))² = 1."""
    tau = 0.0
    for _ in range(50):
        share = c / (h * tau + limit)
        further = 0.5 * float(share @ share - 1) / float((share**2 * h / (h * tau + limit)).sum())
        if not further > 1e-15 * tau:
            break
        tau += further
    return tau
