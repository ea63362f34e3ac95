"""What a proximal step knows of the Hessian: a matrix M from time to time, and pairs of steps and gradients.

    B = gamma M - Q N Qᵀ,   Q = [gamma M S, Y],   N⁻¹ = [[gamma SᵀM S, L], [Lᵀ, -diag(SᵀY)]],   L_ij = s_iᵀ y_j, i > j

is L-BFGS's matrix in its compact form (Byrd, Nocedal and Schnabel, Mathematical Programming 63, 1994, theorem 2.3). M
is the whole Hessian where parameters are few, else that of `Fisher`: a block for each class, or its diagonal.

Intercepts are free of penalty, and with raw features all but collinear with them. So M is taken in coordinates in which
an intercept is apart from its features: b = c - mu · W, where mu is the mean that M gives each feature. Coordinates of
W stay what they are, and so does what a penalty makes of them.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .._core.vectors import dots
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Pairs of a step and a change of the gradient; and what Q's rows are a multiple of (src/linalg/coordinates.h).
PAIRS, PAIRED = 10, 8
# Part of a feature's curvature that is added to it, as in _objective/fisher.py.
DAMPING = 1e-3


class Curvature(Protocol):
    """M at one w, and the coordinates in which it is: an array of them is called arranged."""

    M: Array | None  # (1 or blocks, P, ld); None for a diagonal
    diagonal: Vector
    apart: int  # coordinates from a feature's weight in a class to that in the next
    features: int  # whose weights in the first class are the first coordinates

    @property
    def kept(self) -> npt.NDArray[np.intp] | None:
        """Of which parameters it is, or None for all."""
        ...

    def refresh(self, w: Vector) -> None:
        """Compute M anew."""
        ...

    def arranged(self, v: Array) -> Vector:
        """Return what belongs to each parameter in the order of M."""
        ...

    def inward(self, g: Vector) -> Vector:
        """Return a gradient, arranged."""
        ...

    def upward(self, s: Vector) -> Vector:
        """Return a step, arranged."""
        ...

    def outward(self, d: Vector) -> Vector:
        """Return an arranged step as one of the parameters."""
        ...

    def times(self, s: Vector) -> Vector:
        """Return M times an arranged step."""
        ...


class Whole:
    """The whole Hessian, in the order of the parameters themselves."""

    kept: npt.NDArray[np.intp] | None = None

    def __init__(self, objective: Any, w: Vector) -> None:
        self.objective, self.parameters = objective, objective.parameters
        self.refresh(w)

    def refresh(self, w: Vector) -> None:
        """Compute the Hessian, and set the intercepts apart."""
        self._take(self.objective.hessian(w), self.parameters.count * self.parameters.D)

    def _take(self, H: Vector, first: int) -> None:
        """Set the intercepts of H apart, from `first` on."""
        self.apart = self.features = first // self.parameters.count
        self.mu = np.zeros((len(H) - first, first))
        if self.parameters.intercept:
            H, self.mu = without(H, first)
        self.M: Array | None = H[np.newaxis]
        self.diagonal = H.diagonal().copy()

    def arranged(self, v: Array) -> Vector:
        """Return a copy."""
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
        return v[: self.mu.shape[1]], v[self.mu.shape[1] :]

    def times(self, s: Vector) -> Vector:
        """Return M s."""
        assert self.M is not None
        return dots(self.M[0], s)


def without(H: Vector, first: int) -> tuple[Vector, Vector]:
    """Return H with its last rows, from `first` on, apart from the others, and what brings them there, mu."""
    corner, beside = H[first:, first:], H[first:, :first]
    values, vectors = np.linalg.eigh(corner)
    fine = values > 1e-10 * values[-1]  # for all classes there is one that is not
    half = vectors[:, fine] / np.sqrt(values[fine])
    mu = np.einsum("ik,kl->il", np.einsum("ij,kj->ik", half, half), beside)
    apart = np.zeros_like(H)
    apart[:first, :first] = H[:first, :first] - np.einsum("kj,kl->jl", beside, mu)
    apart[first:, first:] = corner
    return (apart + apart.T) / 2, mu


class Blocks:
    """A block for each class, or one for all, its rows one after the other as in `Parameters.by_class`."""

    kept: npt.NDArray[np.intp] | None = None

    def __init__(self, fisher: Any) -> None:
        self.fisher, self.spread = fisher, None
        self.parameters: Parameters = fisher.parameters
        self.apart, self.features = self.parameters.each, self.parameters.D
        self._take()

    def refresh(self, w: Vector) -> None:
        """Compute the blocks, and set the intercepts apart."""
        self.fisher.refresh(w)
        self._take()

    def _take(self) -> None:
        D, count = self.parameters.D, self.parameters.count
        M = self.fisher.matrices
        self.mu = np.zeros((len(M), D))
        if self.parameters.intercept:
            for block, mu in zip(M, self.mu, strict=True):
                mu[:] = block[D, :D] / max(block[D, D], np.finfo(float).tiny)
                block[:D, :D] -= np.multiply.outer(block[D, :D], mu.astype(M.dtype))
                block[D, :D] = block[:D, D] = 0
        diagonals = np.stack([block.diagonal() for block in M]).astype(np.float64)
        if self.spread is None:
            self.spread = diagonals[:, :D].mean(axis=0) / self.fisher.weight.mean()
        damping = DAMPING * self.fisher.weight[: len(M), np.newaxis] * self.spread
        for block, diagonal, more in zip(M, diagonals, damping, strict=True):
            diagonal[:D] += more
            block.flat[:: block.shape[1] + 1] = diagonal[: block.shape[0]]
        self.M: Array | None = M
        self.diagonal = np.broadcast_to(diagonals, (count, self.apart)).ravel()

    def arranged(self, v: Array) -> Vector:
        """Return it class by class."""
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
    """A diagonal alone, in the order of the parameters: for wide and sparse samples.

    It is 1 for an objective that tells nothing.
    """

    kept: npt.NDArray[np.intp] | None = None

    def __init__(self, parameters: Parameters, fisher: Any = None) -> None:
        self.fisher = fisher
        self.apart = self.features = parameters.D
        self.M: Array | None = None
        self.diagonal: Vector = np.ones(parameters.size) if fisher is None else 1 / fisher.inverse

    def refresh(self, w: Vector) -> None:
        """Compute the diagonal."""
        if self.fisher is not None:
            self.fisher.refresh(w)
            self.diagonal = 1 / self.fisher.inverse

    def arranged(self, v: Array) -> Vector:
        """Return it as it is."""
        return np.require(v, np.float64, ["C", "A"])

    def inward(self, g: Vector) -> Vector:
        """Return a gradient as it is."""
        return g

    def upward(self, s: Vector) -> Vector:
        """Return a step as it is."""
        return s

    def outward(self, d: Vector) -> Vector:
        """Return a step as it is."""
        return d

    def times(self, s: Vector) -> Vector:
        """Return M s."""
        return self.diagonal * s


class Pairs:
    """The last steps and changes of the gradient, each scaled so that sᵀ y = 1: B's other part."""

    def __init__(self, size: int, most: int = PAIRS) -> None:
        # S and Y are of the parameters; what M makes of them is arranged.
        self.S, self.Y, self.arranged = np.empty((most, size)), np.empty((most, size)), np.empty((3, most, size))
        self.SMS, self.SY = np.zeros((most, most)), np.zeros((most, most))
        self.rows: list[int] = []  # oldest first

    def add(self, s: Vector, y: Vector, curvature: Curvature, Ms: Vector | None = None) -> None:
        """Add a pair, unless the objective does not curve upwards there; Ms is M times the arranged step if known."""
        sy = float(dots(s[np.newaxis], y)[0])
        if not sy > 1e-14 * math.sqrt(float(dots(s[np.newaxis], s)[0]) * float(dots(y[np.newaxis], y)[0])):
            return
        free = [row for row in range(len(self.S)) if row not in self.rows]
        row = free[0] if free else self.rows.pop(0)
        self.rows.append(row)
        np.divide(s, math.sqrt(sy), out=self.S[row])
        np.divide(y, math.sqrt(sy), out=self.Y[row])
        self._arrange(row, curvature, None if Ms is None else Ms / math.sqrt(sy))

    def refresh(self, curvature: Curvature) -> None:
        """Follow M to another one, with those pairs whose steps it can tell of."""
        rows, self.rows = self.rows, []
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
        S, MS, Y = self.arranged
        S[row], Y[row] = curvature.upward(self.S[row]), curvature.inward(self.Y[row])
        MS[row] = curvature.times(S[row]) if Ms is None else Ms
        used = slice(max(self.rows) + 1)
        self.SMS[used, row] = self.SMS[row, used] = dots(S[used], MS[row])
        self.SY[used, row], self.SY[row, used] = dots(S[used], Y[row]), dots(Y[used], S[row])

    def compact(self, coordinates: Array) -> tuple[float, Vector, Vector]:
        """Return gamma, which makes gamma M fit the last pair, and Q and Q N for some coordinates."""
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
    """Return what an objective has: the whole Hessian if parameters are few, else blocks or a diagonal."""
    if few:
        return Whole(objective, w)
    if not hasattr(objective, "curvature"):
        return Diagonal(objective.parameters)
    fisher = objective.curvature(w)
    return Blocks(fisher) if fisher.blocks else Diagonal(fisher.parameters, fisher)
