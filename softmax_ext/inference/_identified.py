"""Which parameters the data determine: collinear columns, separated classes, and what the information says of the rest.

A likelihood of classes has no maximum if there is a direction V (K, D), V_0 = 0, with x_i (V_{y_i} - V_k) >= 0 for all
samples i and classes k, and not 0 for all (Albert and Anderson, Biometrika 71 (1984), 1-10): along it the likelihood
only grows. A fit finds out by itself: however far it has gone, the next step of Newton's method moves some scores by 1
or more, since the losses that still fall do so as exp(-t), and with them the first and the second derivative. Where
there is a maximum, steps shrink quadratically.

So where steps do not shrink, linear programming looks for a direction (Konis, "Linear programming algorithms for
detecting separated data in binary logistic regression models", 2007). Its unknowns are the parameters, or,
where these and the samples are many, vectors of the null space of the information without posteriors below CUT: these
are on their way to 0 if their samples and classes are separated. A direction is taken for one if no sample is against
it. Parameters that have a part in the null space of the information that is left without what it separates are not
determined; the others have the standard errors that this information gives.
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

# For each parameter: eigenvalues of an information scaled to a diagonal of 1 that are rounding.
NULL = 2e-14
# Information of a parameter, in units of what its column has at most, that is rounding.
NOTHING = 1e-14
# Posteriors that are on their way to 0, and how far the other scores may still move; the same where a fit has to end.
CUT, REST = 1e-6, 1e-6
CUT_AT_LAST, REST_AT_LAST = 1e-4, 1e-2
# Parameters up to which a matrix is inverted without LAPACK.
SWEPT = 64
# Numbers in the constraints of a linear program in all parameters.
LARGEST = 2**21
# Part of the largest change of a score by which a sample may be against a direction.
FINE = 1e-7
# Parts of a vector of parameters, in units of the largest and for columns of the same size, that are rounding.
PART = 1e-5


class Separation(NamedTuple):
    """A direction along which the likelihood only grows."""

    direction: Vector  # (K, D), the first row 0
    pairs: tuple[tuple[int, int], ...]  # classes k, l of which some sample of k is separated from l
    samples: int  # how many are separated from some class
    complete: bool  # whether every sample is, from all other classes
    hessian: Vector  # of the mean loss, at the end of the direction

    def say(self, classes: Sequence[str], columns: Sequence[str]) -> str:
        """Return what to tell about it."""
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
    more = f"{between}and {len(items) - most} more" if len(items) > most else ""
    return between.join(items[:most]) + more


def separation(f: Likelihood, theta: Vector, step: Vector, *, at_last: bool = False) -> Separation | None:
    """Tell whether a likelihood only grows from theta on, where a step of Newton's method has not got short."""
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
    """Return by how much a step moves scores beside each other of which no posterior is about to vanish."""
    V, most = f.coefficients(step), 0.0
    for rows in blocks(f.N, f.D + 3 * f.K):
        Q, there = dense(f.X[rows]) @ V.T, f.probabilities(theta, rows) > cut
        apart = np.where(there, Q, -np.inf).max(axis=1) - np.where(there, Q, np.inf).min(axis=1)
        most = max(most, float(apart.max(initial=0.0)))
    return most


def _information(f: Likelihood, theta: Vector, cut: float, direction: Vector | None) -> Vector:
    """Return the mean information of a sample without posteriors below cut, or those that vanish along a direction."""
    M = np.zeros((f.size, f.size))
    V = np.zeros((f.K, f.D)) if direction is None else f.coefficients(direction)
    high = 1.0 if direction is None else _ends(f, direction)[1]
    for rows in blocks(f.N, f.K * f.size):
        S, X = f.probabilities(theta, rows), dense(f.X[rows])
        Q = X @ V.T
        S[(cut >= S) | (Q < Q.max(axis=1, keepdims=True) - FINE * high)] = 0
        S /= S.sum(axis=1, keepdims=True)
        # S_k (δ_kl - S_l) is the variance of what is 1 in the class that is drawn: Σ_j S_j (e_j - S)(e_j - S)ᵀ.
        R = np.sqrt(S)[:, :, np.newaxis] * (np.eye(f.K) - S[:, np.newaxis, :])[:, :, 1:]
        if f.weights is not None:
            R *= np.sqrt(f.weights[rows])[:, np.newaxis, np.newaxis]
        G = (R[:, :, :, np.newaxis] * X[:, np.newaxis, np.newaxis, :]).reshape(-1, f.size)
        M += G.T @ G
    return M / f.m


def _growth(f: Likelihood, basis: Vector) -> Vector | None:
    """Return a vector of a space along which no label falls behind and as many as possible get ahead."""
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
    # Σ z of 0 <= z <= min(1, M c): all margins that can grow are 1 or more at the end.
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
    """Yield by how much a direction moves each sample's label away from each class, (n, K), and which are its labels.

    A sample with probabilities has several labels, and the margins are those of the one that falls behind.
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
    """Return a scale s, an orthonormal basis of the null space of s H s, and the inverse of H on the rest.

    Where `size` is given, information below NOTHING of its square is none.
    """
    diagonal = H.diagonal()
    some = diagonal > (0 if size is None else NOTHING * size**2)
    scale = np.where(some, 1 / np.sqrt(np.where(some, diagonal, 1.0)), 1.0 if size is None else 1 / size)
    A = np.where(some & some[:, np.newaxis], H * scale * scale[:, np.newaxis], 0.0)
    values, vectors = np.linalg.eigh(A)
    rest = values > NULL * len(H) * max(values[-1], 1.0)
    half = vectors[:, rest] * scale[:, np.newaxis]
    return scale, vectors[:, ~rest], (half / values[rest]) @ half.T


def covariance(H: Vector, m: float, size: Vector | None = None) -> tuple[Vector, Array]:
    """Return the inverse of m H, and which parameters H determines.

    Those that it does not determine have an infinite variance, and NaN for covariances.
    """
    P = len(H)
    if not np.isfinite(H).all():
        return np.full((P, P), np.nan), np.zeros(P, bool)
    if size is None and (H.diagonal() > 0).all():
        scale = 1 / np.sqrt(H.diagonal())
        inverse = inverse_of(H * scale * scale[:, np.newaxis])
        if inverse is not None:
            return np.asfortranarray(inverse * (scale * scale[:, np.newaxis] / m)), np.ones(P, bool)
    _, null, inverse = null_space(H, size)
    undetermined = np.abs(null).max(axis=1, initial=0.0) > PART
    inverse /= m
    inverse[undetermined] = inverse[:, undetermined] = np.nan
    np.fill_diagonal(inverse, np.where(undetermined, np.inf, inverse.diagonal()))
    return np.asfortranarray((inverse + inverse.T) / 2), ~undetermined


def inverse_of(A: Vector) -> Vector | None:
    """Return the inverse of a positive definite matrix with a diagonal of 1; None where that is in doubt."""
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

    LAPACK calls all threads for an inverse of any size, and where others are at work it waits for them: 23 ms in the
    place of 0.1 for one of 12 x 12.
    """
    A = A.copy()
    for k in range(len(A)):
        row = A[k] / A[k, k]
        column = A[:, k].copy()
        A -= column[:, np.newaxis] * row
        A[k], A[:, k], A[k, k] = row, -column / column[k], 1 / column[k]
    return (A + A.T) / 2


def collinear(gram: Vector) -> list[tuple[int, ...]]:
    """Return which columns add up to 0 with some coefficients, of which the Gram matrix tells.

    One tuple for each column that those before it make up: these, and it.
    """
    from scipy.linalg import solve_triangular

    some = gram.diagonal() > 0
    scale = 1 / np.sqrt(np.where(some, gram.diagonal(), 1.0))
    A = gram * scale * scale[:, np.newaxis]
    groups: list[tuple[int, ...]] = []
    kept: list[int] = []
    L = np.zeros_like(A)  # the Cholesky factor of those that are kept
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
