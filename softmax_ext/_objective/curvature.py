"""The Hessian's approximation B in a proximal step: a matrix M, computed now and then, and pairs of L-BFGS.

    B = gamma M - Q N Qᵀ,   Q = [gamma M S, Y],   N⁻¹ = [[gamma SᵀM S, L], [Lᵀ, -diag(SᵀY)]],   L_ij = s_iᵀ y_j, i > j

is the compact form of L-BFGS's matrix (Byrd, Nocedal and Schnabel, Mathematical Programming 63, 1994, theorem 2.3), in
which S has the steps and Y the changes of the gradient. M is the whole Hessian if parameters are few, else that of
`Fisher`: a block for each class, or its diagonal.

Intercepts are not penalised, and are nearly collinear with features whose means are large. So M is for centred
features: its coordinates are W and c with b = c - mu · W, where mu is the mean of each feature under the weights in M.
Then M has no entries that couple c to W. The coordinates of W do not change, and neither does the penalty.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .._core.vectors import dots
from .._inputs.dtypes import TINY
from .fisher import undecided
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# PAIRS pairs of a step and a change of the gradient are kept. The length of Q's rows is a multiple of PAIRED, as
# src/linalg/coordinates.h needs it.
PAIRS, PAIRED = 10, 8
# This part of a feature's curvature is added to it, as in _objective/fisher.py.
DAMPING = 1e-3
# A weight has at least this part of the curvature that it has where all classes have the same probability. Where the
# feature's samples are all but decided rounding would leave it none, and the weight would rest or go off for ever; see
# "Weights without curvature" in docs/notes.md.
LEAST = 1e-6


class Curvature(Protocol):
    """M at one w, and its coordinates; a vector of these coordinates is called arranged."""

    M: Array | None  # (1 or blocks, P, ld); None if M is diagonal
    diagonal: Vector  # of M
    apart: int  # distance from the coordinate of a feature's weight in one class to that in the next class
    features: int  # the number of features, whose weights in the first class are the first coordinates

    @property
    def exact(self) -> bool:
        """Whether M is the whole Hessian, to be computed at each point, so that pairs would tell nothing."""
        ...

    @property
    def kept(self) -> npt.NDArray[np.intp] | None:
        """The numbers of the parameters that M is for, or None if it is for all."""
        ...

    def refresh(self, w: Vector) -> None:
        """Compute M at w."""
        ...

    def follow(self, objective: Any, change: Vector) -> None:
        """Serve an objective of the same loss, the second derivatives of whose penalty are so much more."""
        ...

    def arranged(self, v: Array) -> Vector:
        """Return a vector with a number for each parameter in the order of M, without another change."""
        ...

    def inward(self, g: Vector) -> Vector:
        """Return a gradient by the parameters as one by M's coordinates, arranged."""
        ...

    def upward(self, s: Vector) -> Vector:
        """Return a step of the parameters as one of M's coordinates, arranged."""
        ...

    def outward(self, d: Vector) -> Vector:
        """Return an arranged step of M's coordinates as one of the parameters."""
        ...

    def times(self, s: Vector) -> Vector:
        """Return M s for an arranged step s."""
        ...


class Whole:
    """The whole Hessian, whose coordinates are in the order of the parameters."""

    exact = True
    kept: npt.NDArray[np.intp] | None = None

    def __init__(self, objective: Any, w: Vector) -> None:
        self.objective, self.parameters = objective, objective.parameters
        self.refresh(w)

    def refresh(self, w: Vector) -> None:
        """Compute the Hessian at w, and separate the intercepts from the features."""
        self._take(self.objective.hessian(w), self.parameters.count * self.parameters.D)

    def follow(self, objective: Any, change: Vector) -> None:
        """Serve an objective with another penalty."""
        assert self.M is not None
        self.objective = objective
        self.diagonal += self.arranged(change)
        self.M[0].flat[:: len(self.diagonal) + 1] = self.diagonal

    def _take(self, H: Vector, first: int) -> None:
        """Make M of H, with the intercepts, the coordinates from `first` on, separated from the features."""
        self.apart = self.features = first // self.parameters.count
        self.mu = np.zeros((len(H) - first, first))
        if self.parameters.intercept:
            H, self.mu = without(H, first)
        self.M: Array | None = H[np.newaxis]
        self.diagonal = H.diagonal().copy()
        if hasattr(self.objective, "mean_squares"):
            np.maximum(self.diagonal[:first], self._least(first), out=self.diagonal[:first])
            H.reshape(-1)[:: len(H) + 1] = self.diagonal

    def _least(self, first: int) -> Vector:
        """Return the least curvature of each of the weights, which are the first coordinates."""
        layout, which = self.parameters, np.arange(first) if self.kept is None else self.kept[:first]
        squares = self.objective.mean_squares[: layout.D]
        if layout.intercept and hasattr(self.objective, "means"):  # those of standardised features are 0
            squares = np.maximum(squares - np.square(self.objective.means), 0)
        least: Vector = LEAST * undecided(layout.K) * squares[which % layout.D]
        return least

    def arranged(self, v: Array) -> Vector:
        """Return a copy of v."""
        return np.array(v, np.float64)

    def inward(self, g: Vector) -> Vector:
        """Return a gradient in M's coordinates."""
        W, b = self._split(g := self.arranged(g))
        W -= np.einsum("kj,k->j", self.mu, b)
        return g

    def upward(self, s: Vector) -> Vector:
        """Return a step in M's coordinates."""
        W, b = self._split(s := self.arranged(s))
        b += np.einsum("kj,j->k", self.mu, W)
        return s

    def outward(self, d: Vector) -> Vector:
        """Return a step of the parameters."""
        W, b = self._split(d := d.copy())
        b -= np.einsum("kj,j->k", self.mu, W)
        return d

    def _split(self, v: Vector) -> tuple[Vector, Vector]:
        """Return the weights and the intercepts in v as views."""
        return v[: self.mu.shape[1]], v[self.mu.shape[1] :]

    def times(self, s: Vector) -> Vector:
        """Return M s."""
        assert self.M is not None
        return dots(self.M[0], s)


def without(H: Vector, first: int) -> tuple[Vector, Vector]:
    """Return H in coordinates in which those from `first` on are not coupled to the others, and mu.

    With H = [[A, Bᵀ], [B, C]] these are the Schur complement A - Bᵀ C⁻¹ B beside C, and mu = C⁻¹ B.
    """
    corner, beside = H[first:, first:], H[first:, :first]
    values, vectors = np.linalg.eigh(corner)
    fine = values > 1e-10 * values[-1]  # to add the same to all intercepts changes no loss, so one eigenvalue is 0
    half = vectors[:, fine] / np.sqrt(values[fine])
    mu = np.einsum("ik,kl->il", np.einsum("ij,kj->ik", half, half), beside)
    apart = np.zeros_like(H)
    apart[:first, :first] = H[:first, :first] - np.einsum("kj,kl->jl", beside, mu)
    apart[first:, first:] = corner
    return (apart + apart.T) / 2, mu


class Blocks:
    """A block for each class, or one block for all; its coordinates are class by class as in `Parameters.by_class`."""

    exact = False
    kept: npt.NDArray[np.intp] | None = None
    diagonal: Vector

    def __init__(self, fisher: Any) -> None:
        self.fisher, self.spread = fisher, None
        self.parameters: Parameters = fisher.parameters
        self.apart, self.features = self.parameters.each, self.parameters.D
        self._take()

    def refresh(self, w: Vector) -> None:
        """Compute the blocks at w, and separate the intercepts from the features."""
        self.fisher.refresh(w)
        self._take()

    def follow(self, objective: Any, change: Vector) -> None:
        """Serve an objective with another penalty."""
        assert self.M is not None
        self.fisher.penalty, self.diagonal = objective.penalty, self.diagonal + self.arranged(change)
        self._set_diagonal()

    def _set_diagonal(self) -> None:
        assert self.M is not None
        for block, diagonal in zip(self.M, self._rows(self.diagonal), strict=False):  # one may be all
            block.flat[:: block.shape[1] + 1] = diagonal

    def _take(self) -> None:
        D, count = self.parameters.D, self.parameters.count
        M = self.fisher.matrices
        self.mu = np.zeros((len(M), D))
        if self.parameters.intercept:
            for block, mu in zip(M, self.mu, strict=True):
                mu[:] = block[D, :D] / max(block[D, D], TINY)
                block[:D, :D] -= np.multiply.outer(block[D, :D], mu.astype(M.dtype))
                block[D, :D] = block[:D, D] = 0
        diagonals = np.stack([block.diagonal() for block in M]).astype(np.float64)
        if self.spread is None:
            self.spread = diagonals[:, :D].mean(axis=0) / self.fisher.weight.mean()
        damping = DAMPING * self.fisher.weight[: len(M), np.newaxis] * self.spread
        diagonals[:, :D] += damping
        self.M: Array | None = M
        self.diagonal = np.broadcast_to(diagonals, (count, self.apart)).ravel()
        self._set_diagonal()

    def arranged(self, v: Array) -> Vector:
        """Return v class by class."""
        return self.parameters.by_class(v, np.float64).ravel()

    def inward(self, g: Vector) -> Vector:
        """Return a gradient in M's coordinates."""
        G = self._rows(self.arranged(g))
        if self.parameters.intercept:
            G[:, :-1] -= self.mu * G[:, -1:]
        return G.ravel()

    def upward(self, s: Vector) -> Vector:
        """Return a step in M's coordinates."""
        G = self._rows(self.arranged(s))
        if self.parameters.intercept:
            G[:, -1] += (self.mu * G[:, :-1]).sum(axis=1)
        return G.ravel()

    def outward(self, d: Vector) -> Vector:
        """Return a step of the parameters."""
        G = self._rows(d.copy())
        if self.parameters.intercept:
            G[:, -1] -= (self.mu * G[:, :-1]).sum(axis=1)
        return self.parameters.flat(G)

    def _rows(self, v: Vector) -> Vector:
        """Return an arranged vector as a view with a row for each class."""
        return v.reshape(self.parameters.count, self.parameters.each)

    def times(self, s: Vector) -> Vector:
        """Return M s."""
        assert self.M is not None
        padded = np.zeros((self.parameters.count, self.M.shape[2]))
        padded[:, : self.apart] = self._rows(s)
        M = self.M if len(self.M) > 1 else [self.M[0]] * len(padded)
        n_threads = self.fisher.n_threads
        return np.concatenate([dots(block, v, n_threads=n_threads) for block, v in zip(M, padded, strict=True)])


class Diagonal:
    """A diagonal M, in the order of the parameters, for many features and sparse samples.

    All entries are 1 if the objective offers no curvature.
    """

    exact = False
    kept: npt.NDArray[np.intp] | None = None

    def __init__(self, parameters: Parameters, fisher: Any = None) -> None:
        self.fisher = fisher
        self.apart = self.features = parameters.D
        self.M: Array | None = None
        self.diagonal: Vector = np.ones(parameters.size) if fisher is None else 1 / fisher.inverse

    def refresh(self, w: Vector) -> None:
        """Compute the diagonal at w."""
        if self.fisher is not None:
            self.fisher.refresh(w)
            self.diagonal = 1 / self.fisher.inverse

    def follow(self, objective: Any, change: Vector) -> None:
        """Serve an objective with another penalty."""
        if self.fisher is not None:
            self.fisher.penalty = objective.penalty
            self.diagonal = self.diagonal + change

    def arranged(self, v: Array) -> Vector:
        """Return v itself, or a copy if it is not a contiguous vector of doubles."""
        return np.require(v, np.float64, ["C", "A"])

    def inward(self, g: Vector) -> Vector:
        """Return the gradient itself."""
        return g

    def upward(self, s: Vector) -> Vector:
        """Return the step itself."""
        return s

    def outward(self, d: Vector) -> Vector:
        """Return the step itself."""
        return d

    def times(self, s: Vector) -> Vector:
        """Return M s."""
        return self.diagonal * s


class Pairs:
    """The last steps s and changes y of the gradient, each pair scaled so that sᵀ y = 1; with M they make B."""

    def __init__(self, size: int, most: int = PAIRS) -> None:
        # S and Y are steps and gradients of the parameters. `arranged` has S, M S and Y in M's coordinates.
        self.S, self.Y, self.arranged = np.empty((most, size)), np.empty((most, size)), np.empty((3, most, size))
        self.SMS, self.SY = np.zeros((most, most)), np.zeros((most, most))
        self.rows: list[int] = []  # the rows that hold a pair, the oldest first

    def add(self, s: Vector, y: Vector, curvature: Curvature, Ms: Vector | None = None) -> None:
        """Add a pair, unless the objective does not curve upwards along s; Ms is M s, arranged, if it is known."""
        sy = float(dots(s[np.newaxis], y)[0])
        if not sy > 1e-14 * math.sqrt(float(dots(s[np.newaxis], s)[0]) * float(dots(y[np.newaxis], y)[0])):
            return
        free = [row for row in range(len(self.S)) if row not in self.rows]
        row = free[0] if free else self.rows.pop(0)
        self.rows.append(row)
        np.divide(s, math.sqrt(sy), out=self.S[row])
        np.divide(y, math.sqrt(sy), out=self.Y[row])
        self._arrange(row, curvature, None if Ms is None else Ms / math.sqrt(sy))

    def follow(self, change: Vector, curvature: Curvature) -> None:
        """Change with the penalty, whose second derivatives have become so much more."""
        pairs = [(self.S[row].copy(), self.Y[row] + change * self.S[row]) for row in self.rows]
        self.rows = []
        for s, y in pairs:
            self.add(s, y, curvature)

    def refresh(self, curvature: Curvature) -> None:
        """Arrange the pairs for another M; drop those that moved parameters which it is not for.

        If it is exact, drop all.
        """
        rows, self.rows = self.rows, []
        if curvature.exact:
            return
        if curvature.kept is not None:
            rows = [
                row for row in rows if np.count_nonzero(self.S[row]) == np.count_nonzero(self.S[row][curvature.kept])
            ]
        if self.arranged.shape[2] != len(curvature.diagonal):
            self.arranged = np.empty((*self.arranged.shape[:2], len(curvature.diagonal)))
        for row in rows:
            self.rows.append(row)
            self._arrange(row, curvature, None)

    def _arrange(self, row: int, curvature: Curvature, Ms: Vector | None) -> None:
        """Compute the arranged vectors of a pair, and its inner products with the other pairs."""
        S, MS, Y = self.arranged
        S[row], Y[row] = curvature.upward(self.S[row]), curvature.inward(self.Y[row])
        MS[row] = curvature.times(S[row]) if Ms is None else Ms
        used = slice(max(self.rows) + 1)
        self.SMS[used, row] = self.SMS[row, used] = dots(S[used], MS[row])
        self.SY[used, row], self.SY[row, used] = dots(S[used], Y[row]), dots(Y[used], S[row])

    def compact(self, coordinates: Array) -> tuple[float, Vector, Vector]:
        """Return gamma, such that gamma M fits the last pair, and the rows of Q and Q N for some coordinates."""
        rows, count = self.rows, len(self.rows)
        Q = np.zeros((len(coordinates), -(-2 * count // PAIRED) * PAIRED))
        if not count:
            return 1.0, Q, Q
        _, MS, Y = self.arranged
        gamma = 1 / float(self.SMS[rows[-1], rows[-1]])
        SY, middle = self.SY[np.ix_(rows, rows)], np.empty((2 * count, 2 * count))
        middle[:count, :count] = gamma * self.SMS[np.ix_(rows, rows)]
        middle[:count, count:] = L = np.tril(SY, -1)
        middle[count:, :count], middle[count:, count:] = L.T, -np.diag(SY.diagonal())
        Q[:, :count] = gamma * MS[rows][:, coordinates].T
        Q[:, count : 2 * count] = Y[rows][:, coordinates].T
        QN = np.zeros_like(Q)
        QN[:, : 2 * count] = np.einsum("ni,ij->nj", Q[:, : 2 * count], np.linalg.inv(middle))
        return gamma, Q, QN


def curvature_of(objective: Any, w: Vector, few: bool) -> Curvature:
    """Return an objective's M at w: the whole Hessian if parameters are few, else blocks or a diagonal."""
    if few:
        return Whole(objective, w)
    if not hasattr(objective, "curvature"):
        return Diagonal(objective.parameters)
    fisher = objective.curvature(w)
    return Blocks(fisher) if fisher.blocks else Diagonal(fisher.parameters, fisher)
