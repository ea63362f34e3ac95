"""The minimum of a quadratic model with a penalty that is not smooth, by coordinate descent.

src/linalg/coordinates.h has the mathematics, and the sweeps that `descend` calls; `_sweep` does the same in NumPy where
no kernels are compiled.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import TINY
from . import dispatch
from .vectors import combinations, combine, dots, product

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# The kernel returns after WORK operations, so that Ctrl-C is looked for. A descent has SWEEPS sweeps at most.
WORK, SWEEPS = 1e8, 2000
# Sweeps that have taken SWEPT operations, or as many as the direct solution for the entries that are not 0, if these
# are at most MOST, take turns with that solution, TURNS times. It adds RIDGE of the diagonal. If a step does not lower
# the model, SHARE of it is tried, and so on SHARES times.
SWEPT, MOST, TURNS, RIDGE, SHARE, SHARES = 2e6, 2048, 50, 1e-9, 0.3, 20
# Over sparse samples TURN sweeps take turns with STEPS steps of conjugate gradients, or fewer if these make the
# residual LESS of what it was.
TURN, STEPS, LESS = 30, 30, 0.01


@dataclass
class Entries:
    """The coordinates that a descent may move: the first one of each group, then those that belong to no group."""

    which: Indices
    groups: int = 0
    members: int = 1  # coordinates in a group
    apart: int = 1  # distance from one coordinate of a group to the next

    def coordinates(self) -> Indices:
        """Return all coordinates: group by group, then those of no group."""
        within = np.arange(self.members, dtype=np.intp) * self.apart
        groups = np.add.outer(self.which[: self.groups], within).ravel()
        return np.concatenate([groups, self.which[self.groups :]])


class Columns(NamedTuple):
    """The entries of N sparse samples, feature by feature, each multiplied by the root of its sample's weight."""

    data: Array  # (entries,)
    sample: npt.NDArray[np.int32]  # (entries,)
    begin: Indices  # (D + 1,): where each feature's entries begin
    root: Vector  # (N,): the roots of the weights, which are the entries of an intercept's feature


@dataclass
class Quadratic:
    """A quadratic model's gradient, its Hessian B = gamma M - Q N Qᵀ, and the penalty's limits.

    M is None if it is diagonal. Q and QN have a row for each of the entries' coordinates. If there are `columns`, B is
    a diagonal plus the Hessian of these samples, whose `posterior` is (classes, N).
    """

    M: Array | None
    diagonal: Vector
    gamma: float
    Q: Vector
    QN: Vector
    gradient: Vector
    limits: Vector
    columns: Columns | None = None
    posterior: Array | None = None


def descend(model: Quadratic, entries: Entries, w: Vector, enough: float) -> tuple[Vector, Vector]:
    """Return the model's minimum u, and M (u - w), or zeros if there are columns.

    Coordinate descent ends with a sweep that changes no component of the gradient by more than `enough`.
    """
    u, z = w.copy(), np.zeros(len(w))
    if dispatch.kernels is None:
        _sweep(model, entries, u, z, enough)
        return u, z
    order, r = entries.coordinates(), model.Q.shape[1]
    t, M, samples = np.zeros(r), model.M, None
    if model.columns is not None:
        samples = Samples(model, w)
        M = model.columns.data
    for _ in range(TURNS):
        work = np.zeros(len(w) + r + entries.members)
        work[len(w) : len(w) + r] = t
        coordinates = dispatch.kernels.Coordinates(
            which=entries.which,
            groups=entries.groups,
            members=entries.members,
            apart=entries.apart,
            M=M,
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
            **({} if samples is None else samples.arrays),
        )
        # As much work as a direct solution takes, which then follows, so that the wrong choice costs twice at most.
        n = np.count_nonzero(u[order])
        budget = math.inf if entries.groups or (n > MOST and samples is None) else max(SWEPT, n**3 / 3)
        if samples is not None and not entries.groups:
            budget = max(SWEPT, 2 * TURN * samples.length(order[u[order] != 0]))
        while not (done := coordinates.descend(enough, min(WORK, budget))) and budget > WORK:
            budget -= WORK
        if done:
            break
        if samples is None:
            _solve(model, entries, w, u, z, work[len(w) : len(w) + r])
        else:
            samples.solve(entries, u)
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
    if (to := _along(u[some], step, slope, limits, lambda d: dots(B, d))) is not None:
        u[some] = to
        z[:] = _times(model, u - w)


def _along(
    before: Vector, step: Vector, slope: Vector, limits: Vector, product_with: Callable[[Vector], Vector]
) -> Vector | None:
    """Return entries moved by a step, or a part of it, so that the model falls and signs stay; None if it does not."""
    for _ in range(SHARES):
        to = before + step
        to[(limits > 0) & (np.sign(to) * np.sign(before) <= 0)] = 0
        d = to - before
        if product(slope, d) + 0.5 * product(d, product_with(d)) < 0:
            return to
        step = SHARE * step
    return None


def _among(model: Quadratic, some: Indices) -> Vector:
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


class Samples:
    """The sparse samples of a model, and what a descent keeps of them: the scores of its step."""

    def __init__(self, model: Quadratic, w: Vector) -> None:
        assert model.columns is not None and model.posterior is not None
        self.model, self.columns, self.w = model, model.columns, w
        self.count, self.N = len(model.posterior), len(model.columns.root)
        self.S = np.require(model.posterior, np.float64, ["C", "A"])
        self.scores = np.zeros(self.S.shape)
        self.mean = np.zeros(self.N)  # the scores' means by the posteriors

    @property
    def arrays(self) -> dict[str, Array]:
        """What the kernel takes besides."""
        columns = self.columns
        arrays: dict[str, Array] = {"column": columns.begin, "sample": columns.sample, "root": columns.root}
        return arrays | {"before": self.w, "posterior": self.S, "scores": self.scores, "mean": self.mean}

    def length(self, some: Indices) -> int:
        """Return how many entries the features of some coordinates have."""
        D = len(self.columns.begin) - 1
        j = some[some < self.count * D] % D
        of_weights = int((self.columns.begin[j + 1] - self.columns.begin[j]).sum())
        return of_weights + self.N * (len(some) - len(j))

    def solve(self, entries: Entries, u: Vector) -> None:
        """Move u in place by conjugate gradients over the entries that are not 0 and keep their signs."""
        model = self.model
        some = entries.which[(u[entries.which] != 0) | (model.limits[entries.which] == 0)]
        if not len(some):
            return
        G, S, added = self._matrix(some), self.S, model.diagonal[some]

        def times(d: Vector) -> Vector:
            """Return the model's Hessian by these entries, times d."""
            A = (G @ d).reshape(S.shape)
            found: Vector = G.T @ (S * (A - (S * A).sum(axis=0))).ravel() + added * d
            return found

        limits = model.limits[some]
        slope = G.T @ (S * (self.scores - self.mean)).ravel() + added * (u - self.w)[some]
        slope += model.gradient[some] + limits * np.sign(u[some])
        curving = G.multiply(G).T @ (S * (1 - S)).ravel() + added
        step = conjugate_gradients(times, -slope, np.maximum(curving, TINY))
        if (to := _along(u[some], step, slope, limits, times)) is None:
            return
        A = (G @ (to - u[some])).reshape(S.shape)
        self.scores += A
        self.mean += (S * A).sum(axis=0)
        u[some] = to

    def _matrix(self, some: Indices) -> Any:
        """Return a sparse matrix that makes of steps of some coordinates the scores (classes N,) of each class."""
        from scipy.sparse import csc_array  # not at the top, since it takes as long to import as NumPy

        begin, N, D = self.columns.begin, self.N, len(self.columns.begin) - 1
        weights = some[some < self.count * D]
        k, j = weights // D, weights % D
        lengths = begin[j + 1] - begin[j]
        stops = np.cumsum(lengths)
        at = np.arange(lengths.sum()) + np.repeat(begin[j] - (stops - lengths), lengths)
        rows = self.columns.sample[at] + np.repeat(k * N, lengths)
        ones = np.add.outer((some[len(weights) :] - self.count * D) * N, np.arange(N)).ravel()
        lengths = np.append(lengths, np.full(len(some) - len(weights), N))
        data = np.append(self.columns.data[at].astype(np.float64), np.tile(self.columns.root, len(some) - len(weights)))
        indptr = np.append(0, np.cumsum(lengths))
        return csc_array((data, np.append(rows, ones), indptr), shape=(self.count * N, len(some)))


def conjugate_gradients(times: Callable[[Vector], Vector], b: Vector, diagonal: Vector) -> Vector:
    """Return x of A x = b, where `times` multiplies by A, after STEPS steps with this diagonal as preconditioner."""
    x, r = np.zeros(len(b)), b.copy()
    p = r / diagonal
    before = first = product(r, p)
    for _ in range(STEPS):
        if not before > LESS**2 * first:
            break
        Ap = times(p)
        bend = product(p, Ap)
        if not bend > 0:
            break
        x += before / bend * p
        r -= before / bend * Ap
        z = r / diagonal
        now = product(r, z)
        p = z + now / before * p
        before = now
    return x


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
