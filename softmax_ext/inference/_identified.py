"""Which parameters the data determine, in spite of collinear columns and separated classes.

A likelihood of classes has no maximum if there is a direction V (K, D), V_0 = 0, with x_i (V_{y_i} - V_k) >= 0 for all
samples i and classes k, and not 0 for all (Albert and Anderson, Biometrika 71 (1984), 1-10): the likelihood only grows
along it, and the classes are called separated. Newton's method shows this by itself. Along the direction the losses
fall as exp(-t), and so do their first and second derivatives, so that each step moves some scores by about 1, however
far the fit has gone. Where there is a maximum, steps shrink quadratically.

So where steps do not shrink, linear programming looks for such a direction (Konis, "Linear programming algorithms for
detecting separated data in binary logistic regression models", 2007). Its unknowns are the parameters. If these and the
samples are many, it searches a smaller space: the posteriors of separated samples and classes are on their way to 0, so
the direction lies nearly in the null space of the information without posteriors below CUT. What is found counts as a
direction if no sample's margin falls along it.

The standard errors are those of the information without what the direction separates. Parameters that have a component
in its null space are not determined.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from ._likelihood import Likelihood, blocks, dense

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# An eigenvalue of an information matrix with a diagonal of 1 is taken for rounding below this number times P.
NULL = 2e-14
# A parameter's information, divided by its column's mean square, is taken for rounding below this.
NOTHING = 1e-14
# A posterior below CUT is on its way to 0 if a step moves the scores of all other posteriors by at most REST.
CUT, REST = 1e-6, 1e-6
# The same when a fit ends without convergence.
CUT_AT_LAST, REST_AT_LAST = 1e-4, 1e-2
# A matrix of at most so many parameters is inverted without LAPACK, whose threads would be waited for.
SWEPT = 64
# If its constraints have at most so many numbers, the linear program is solved in all parameters.
LARGEST = 2**21
# A sample's margin may fall by this fraction of the largest margin: that is rounding.
FINE = 1e-7
# Components of a vector, once columns are scaled to the same size, are taken for rounding below this fraction of the
# largest.
PART = 1e-5


class Separation(NamedTuple):
    """A direction along which the likelihood only grows."""

    direction: Vector  # (K, D), whose first row is 0
    pairs: tuple[tuple[int, int], ...]  # (k, l) if some sample of class k is separated from class l
    samples: int  # how many samples are separated from some class
    complete: bool  # whether every sample is separated from all other classes
    hessian: Vector  # the mean loss's Hessian in the limit along the direction

    def say(self, classes: Sequence[str], columns: Sequence[str]) -> str:
        """Return a message that says which classes are separated, along what, and what the user can do."""
        biggest = np.abs(self.direction).max()
        along = []
        for name, row in zip(classes, self.direction, strict=True):
            terms = [f"{v / biggest:+.3g} {column}" for v, column in zip(row, columns, strict=True) if v]
            if terms:
                along.append(f"{_listed(terms, 8, ' ')} for {name}")
        pairs = _listed([f"{classes[k]} from {classes[other]}" for k, other in self.pairs], 6, ", ")
        return (
            f"{'Complete' if self.complete else 'Quasi-complete'} separation: {self.samples} samples separate "
            f"{pairs}, and the likelihood grows without end along {'; '.join(along)}. The coefficients in it have no "
            "finite estimate, and infinite standard errors: leave such a column out, join classes, or use a penalty."
        )


def _listed(items: Sequence[str], most: int, between: str) -> str:
    """Return the first items joined, and how many more there are."""
    more = f"{between}and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + more


def separation(f: Likelihood, theta: Vector, step: Vector, *, at_last: bool = False) -> Separation | None:
    """Return a direction along which the likelihood only grows from theta on, or None if none is found.

    `step` is Newton's step from theta. `at_last` asks where a fit ends without convergence, and judges less strictly.
    """
    cut, rest = (CUT_AT_LAST, REST_AT_LAST) if at_last else (CUT, REST)
    if not (at_last or (_ends(f, step)[1] > 0.5 and _unrest(f, theta, step, cut) <= rest)):
        return None
    size = f.sizes()
    if f.N * (f.K - 1) * f.size <= LARGEST:
        basis = np.diag(1 / size)
    else:
        scale, null, _ = null_space(_information(f, theta, cut, None), size)
        basis = scale[:, np.newaxis] * null
    direction = _growth(f, basis)
    if direction is None:
        return None
    part = np.abs(direction * size)
    direction[part <= PART * part.max()] = 0
    low, high = _ends(f, direction)
    if not low >= -FINE * high:
        return None
    pairs, samples, whole = np.zeros((f.K, f.K), bool), 0, 0
    for margin, labels in _margins(f, direction):
        beyond = margin > FINE * high
        samples += int(beyond.any(axis=1).sum())
        whole += int((beyond | labels).all(axis=1).sum())
        for k in range(f.K):
            pairs[k] |= beyond[labels[:, k]].any(axis=0)
    N = f.N if f.weights is None else int(np.count_nonzero(f.weights))
    found = tuple((int(k), int(other)) for k, other in np.argwhere(pairs))
    H = _information(f, theta, 0.0, direction)
    return Separation(f.coefficients(direction), found, samples, whole == N, H)


def _unrest(f: Likelihood, theta: Vector, step: Vector, cut: float) -> float:
    """Return the most by which a step moves a sample's scores apart, of classes whose posteriors are above cut."""
    V, most = f.coefficients(step), 0.0
    for rows in blocks(f.N, f.D + 3 * f.K):
        Q, there = dense(f.X[rows]) @ V.T, f.probabilities(theta, rows) > cut
        apart = np.where(there, Q, -np.inf).max(axis=1) - np.where(there, Q, np.inf).min(axis=1)
        most = max(most, float(apart.max(initial=0.0)))
    return most


def _information(f: Likelihood, theta: Vector, cut: float, direction: Vector | None) -> Vector:
    """Return the mean information without posteriors up to cut and without those that vanish along a direction."""
    M = np.zeros((f.size, f.size))
    V = np.zeros((f.K, f.D)) if direction is None else f.coefficients(direction)
    high = 1.0 if direction is None else _ends(f, direction)[1]
    for rows in blocks(f.N, f.K * f.size):
        S, X = f.probabilities(theta, rows), dense(f.X[rows])
        Q = X @ V.T
        S[(cut >= S) | (Q < Q.max(axis=1, keepdims=True) - FINE * high)] = 0
        S /= S.sum(axis=1, keepdims=True)
        # Diag(S) - S Sᵀ, a sample's information, is the covariance of e_j where class j is drawn from S:
        # Σ_j S_j (e_j - S)(e_j - S)ᵀ. As a sum of squares it loses no digits.
        R = np.sqrt(S)[:, :, np.newaxis] * (np.eye(f.K) - S[:, np.newaxis, :])[:, :, 1:]
        if f.weights is not None:
            R *= np.sqrt(f.weights[rows])[:, np.newaxis, np.newaxis]
        G = (R[:, :, :, np.newaxis] * X[:, np.newaxis, np.newaxis, :]).reshape(-1, f.size)
        M += G.T @ G
    return M / f.m


def _growth(f: Likelihood, basis: Vector) -> Vector | None:
    """Return a vector in the span of `basis` along which no margin falls and as many as possible grow; None if none."""
    from scipy.optimize import linprog

    r = basis.shape[1]
    if not r:
        return None
    columns = [np.concatenate([m.ravel() for m, _ in _margins(f, v)]) for v in basis.T]
    M = np.column_stack(columns)
    size = np.abs(M).max(axis=1)
    M = M[size > FINE * size.max(initial=0.0)]
    if not len(M):
        return None
    M = np.unique(np.round(M / np.abs(M).max(axis=1, keepdims=True), 12), axis=0)
    # Maximise Σ z over c and 0 <= z <= min(1, M c): at the maximum, each margin that can grow is at least 1.
    n = len(M)
    found = linprog(
        np.concatenate([np.zeros(r), -np.ones(n)]),
        A_ub=scipy.sparse.hstack([-M, scipy.sparse.eye_array(n)], "csr"),
        b_ub=np.zeros(n),
        bounds=[(None, None)] * r + [(0, 1)] * n,
    )
    if found.x is None or not -found.fun > 0.5:
        return None
    return np.asarray(basis @ found.x[:r])


def _margins(f: Likelihood, v: Vector) -> Iterator[tuple[Vector, Array]]:
    """Yield, for blocks of samples, margins (n, K) and a mask (n, K) of the labels.

    A margin is by how much the direction v moves the score of a sample's label ahead of that of a class. A sample with
    probabilities has several labels: the one that moves least counts.
    """
    V = f.coefficients(v)
    for rows in blocks(f.N, f.D + 3 * f.K):
        Q, y = dense(f.X[rows]) @ V.T, f.y[rows]
        labels = y > 0 if y.ndim == 2 else y[:, np.newaxis] == np.arange(f.K)
        margin = np.where(labels, Q, np.inf).min(axis=1, keepdims=True) - Q
        if f.weights is not None:
            margin, labels = margin[f.weights[rows] > 0], labels[f.weights[rows] > 0]
        yield margin, labels


def _ends(f: Likelihood, v: Vector) -> tuple[float, float]:
    """Return the least and the largest margin."""
    low, high = 0.0, 0.0
    for margin, _ in _margins(f, v):
        low, high = min(low, float(margin.min(initial=0.0))), max(high, float(margin.max(initial=0.0)))
    return low, high


def null_space(H: Vector, size: Vector | None = None) -> tuple[Vector, Vector, Vector]:
    """Return a scale s, an orthonormal basis of the null space of s H s, and the pseudoinverse of H on the other space.

    `size` has the root mean square of each parameter's column. If it is given, a parameter with less information than
    NOTHING times its square counts as one without any.
    """
    diagonal = H.diagonal()
    some = diagonal > (0 if size is None else NOTHING * size**2)
    scale = np.where(some, 1 / np.sqrt(np.where(some, diagonal, 1.0)), 1.0 if size is None else 1 / size)
    A = np.where(some & some[:, np.newaxis], H * scale * scale[:, np.newaxis], 0.0)
    values, vectors = np.linalg.eigh(A)
    rest = values > NULL * len(H) * max(values[-1], 1.0)
    half = vectors[:, rest] * scale[:, np.newaxis]
    return scale, vectors[:, ~rest], (half / values[rest]) @ half.T


class Undetermined(NamedTuple):
    """The directions about which an information matrix says nothing, once parameters are divided by a scale."""

    scale: Vector  # (P,)
    null: Vector  # (P, R), orthonormal columns

    def lost(self, A: Vector, part: float = PART) -> Array:
        """Return a mask of the linear functions A θ, a row for each, of which more than this part is undetermined."""
        A = A * self.scale
        mask: Array = np.abs(A @ self.null).max(axis=1, initial=0.0) > part * np.linalg.norm(A, axis=1)
        return mask


def covariance(H: Vector, m: float, size: Vector | None = None) -> tuple[Vector, Undetermined | None]:
    """Return a generalised inverse of m H, and what H leaves undetermined; None if it determines all parameters.

    What is made of the inverse, as a sandwich is, holds for what H determines; `without` leaves out the rest. For
    `size` see `null_space`.
    """
    P = len(H)
    if not np.isfinite(H).all():
        return np.full((P, P), np.nan), None
    if size is None and (H.diagonal() > 0).all():
        scale = 1 / np.sqrt(H.diagonal())
        inverse = inverse_of(H * scale * scale[:, np.newaxis])
        if inverse is not None:
            return np.asfortranarray(inverse * (scale * scale[:, np.newaxis] / m)), None
    scale, null, inverse = null_space(H, size)
    found = Undetermined(scale, null) if null.size else None
    return np.asfortranarray((inverse + inverse.T) / (2 * m)), found


def without(covariance: Vector, lost: Array) -> Vector:
    """Return a covariance in which what is lost has an infinite variance, and NaN for covariances."""
    if not lost.any():
        return covariance
    found = np.array(covariance)
    found[lost] = found[:, lost] = np.nan
    np.fill_diagonal(found, np.where(lost, np.inf, found.diagonal()))
    return found


def inverse_of(A: Vector) -> Vector | None:
    """Return the inverse of a matrix with a diagonal of 1, or None if it may not be positive definite."""
    from scipy.linalg.lapack import dpocon, dpotrf, dpotri

    P = len(A)
    L, failed = dpotrf(A, lower=True)
    if failed or not dpocon(L, 1.0, uplo="L")[0] > 10 * NULL * P:
        return None
    if P <= SWEPT:
        return _swept(A)
    inverse, _ = dpotri(L, lower=True)
    return np.asarray(np.tril(inverse) + np.tril(inverse, -1).T)


def _swept(A: Vector) -> Vector:
    """Return the inverse of a small positive definite matrix, by sweeps (Goodnight, American Statistician 33, 1979).

    LAPACK starts all threads for an inverse of any size, and waits for them where other processes are at work
    (docs/notes.md, "Small inverses").
    """
    A = A.copy()
    for k in range(len(A)):
        row = A[k] / A[k, k]
        column = A[:, k].copy()
        A -= column[:, np.newaxis] * row
        A[k], A[:, k], A[k, k] = row, -column / column[k], 1 / column[k]
    return (A + A.T) / 2


def collinear(gram: Vector) -> list[tuple[int, ...]]:
    """Return a tuple for each column that is a linear combination of those before it: their numbers, and its own.

    `gram` is XᵀX up to a factor.
    """
    from scipy.linalg import solve_triangular

    some = gram.diagonal() > 0
    scale = 1 / np.sqrt(np.where(some, gram.diagonal(), 1.0))
    A = gram * scale * scale[:, np.newaxis]
    groups: list[tuple[int, ...]] = []
    kept: list[int] = []
    L = np.zeros_like(A)  # the Cholesky factor of the kept columns' Gram matrix
    for j in range(len(A)):
        n = len(kept)
        z = solve_triangular(L[:n, :n], A[kept, j], lower=True) if n else np.zeros(0)
        left = A[j, j] - z @ z
        if left > 10 * NULL * len(A):
            L[n, :n], L[n, n] = z, np.sqrt(left)
            kept.append(j)
        else:
            x = solve_triangular(L[:n, :n], z, lower=True, trans="T") if n else z
            groups.append((*[k for k, v in zip(kept, x, strict=True) if abs(v) > PART], j))
    return groups
