"""Inner products and linear combinations of long vectors on several threads, as the history of L-BFGS needs them.

Rows are float32 or float64, everything else is float64. Every number of threads gives the same bits, which BLAS's inner
products of more than some thousand entries do not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from . import dispatch
from .dispatch import KIND

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# One thread reads fewer entries than this in less time than a team of threads needs to start.
PARALLEL = 2**18
# Without compiled kernels this many entries of each row are converted to double at a time, so that the copy does not
# grow with the vectors.
CHUNK = 2**14


def dots(rows: Array, v: Vector, u: Array | None = None, n_threads: int = 1) -> Vector:
    """Return each row's inner product with v, (count,); if u is given too, in the rows' dtype, both as (2, count)."""
    count, size = rows.shape
    if dispatch.kernels is None:
        sums = np.zeros((1 if u is None else 2, count))
        for start in range(0, size, CHUNK):
            part = slice(start, start + CHUNK)
            block = rows[:, part].astype(np.float64, copy=False)
            sums[0] += block @ v[part]
            if u is not None:
                sums[1] += block @ u[part].astype(np.float64, copy=False)
    else:
        chunks = -(-size // dispatch.kernels.VECTOR_CHUNK)
        each = np.empty((chunks, count if u is None else 2 * count))
        dispatch.kernels.vectors_dot[KIND[rows.dtype]](rows, v, u, each, team(rows.size, n_threads))
        sums = each[0].reshape(-1, count)
    return sums[0] if u is None else sums


def steady(v: Array) -> Vector:
    """Return a vector that a kernel can read: a copy if it is not aligned, as in a message of Dask it may not be."""
    return v if v.flags.carray and v.dtype == np.float64 else np.require(v, np.float64, ["C", "A"])


def product(a: Vector, b: Vector, n_threads: int = 1) -> float:
    """Return the inner product of two vectors."""
    if dispatch.kernels is None or a.size >= PARALLEL:
        return float(dots(a[np.newaxis], b, n_threads=n_threads)[0])
    return float(dispatch.kernels.vectors_product(a, b))


def square(vectors: Sequence[Vector], shares: Sequence[float]) -> float:
    """Return the sum of squares of Σ_i shares_i vectors_i, for up to three vectors, by one thread."""
    weights = np.array(shares, np.float64)
    if dispatch.kernels is None:
        total = combine(0.0, vectors[0], weights, np.array(vectors))
        return product(total, total)
    return float(dispatch.kernels.vectors_square(vectors, weights))


def largest(v: Vector) -> float:
    """Return the largest absolute component, or NaN if a component is NaN."""
    if dispatch.kernels is None:
        return float(np.abs(v).max(initial=0.0))
    return float(dispatch.kernels.vectors_largest(v))


def combinations(rows: Array, shares: Array, n_threads: int = 1, *, squared: bool = False) -> Vector:
    """Return sharesᵀ rows, (M, D): for each column of `shares` (n, M) a linear combination of the rows (n, D).

    If it is `squared`, the squares of the rows' entries are in their place.
    """
    kernels, shares = dispatch.kernels, np.require(shares, np.float64, ["C", "A"])
    if kernels is None:
        wide = rows.astype(np.float64, copy=False)
        return np.asarray(shares.T @ (np.square(wide) if squared else wide))
    found = np.empty((shares.shape[1], rows.shape[1]))
    n_threads = team(rows.size * shares.shape[1] // 8, n_threads)
    work = np.empty((n_threads, kernels.combine_space(*rows.shape)))
    kernels.rows_combine(rows, shares, found, work, n_threads, squared)
    return found


def combine(
    share: float, v: Vector, shares: Vector, rows: Array, *, out: Vector | None = None, n_threads: int = 1
) -> Vector:
    """Return share v + Σ_i shares_i rows_i; `out` may be v."""
    out = np.empty_like(v) if out is None else out
    if dispatch.kernels is None:
        np.multiply(v, share, out=out)
        for start in range(0, v.size, CHUNK):
            part = slice(start, start + CHUNK)
            out[part] += shares @ rows[:, part].astype(np.float64, copy=False)
    else:
        run = dispatch.kernels.vectors_combine[KIND[rows.dtype]]
        run(share, v, shares, rows, out, team(rows.size, n_threads))
    return out


def subtract(a: Vector, b: Vector, out: Array, n_threads: int = 1) -> None:
    """Write a - b, rounded to the dtype of `out`."""
    if dispatch.kernels is None:
        np.subtract(a, b, out=out, casting="same_kind")
    else:
        dispatch.kernels.vectors_subtract[KIND[out.dtype]](a, b, out, team(out.size, n_threads))


def team(work: int, n_threads: int) -> int:
    """Return how many threads read `work` entries."""
    return n_threads if work >= PARALLEL else 1
