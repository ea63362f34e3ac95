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

from . import dispatch

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# The kernel returns after WORK operations, so that Ctrl-C is looked for. A descent has SWEEPS sweeps at most.
WORK, SWEEPS = 1e8, 2000


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
        work=np.zeros(len(w) + model.Q.shape[1] + entries.members),
        active=np.empty(len(entries.which), np.intp),
    )
    while not coordinates.descend(enough, WORK):
        pass
    return u, z


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
        h = np.maximum(np.abs(B).sum(axis=1), np.maximum(1e-8 * model.gamma * model.diagonal[at], np.finfo(float).tiny))
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
