"""Sums over the samples that need no model: of each class's samples, and of each feature and its square.

Every number of threads gives the same bits, and so does every layout of X, since one thread adds all terms of a sum in
the order of the samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._inputs.csr import CSR
from .._inputs.dtypes import COMPUTES_IN, is_native, native
from .._inputs.rows import Rows
from . import dispatch
from .plan import BLOCK_BYTES
from .vectors import team

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Rows that are not read in place are converted some at a time, which a third cache holds until they are added: see
# "Where all weights are 0" in docs/notes.md.
CONVERTED_BYTES = 2**22


def add_classes(
    X: Any, y: Array, s: Vector | None, sums: Vector, n_threads: int, features: Vector | None = None
) -> None:
    """Add s_i x_i of each sample to row y_i, its label in 0..K-1, of `sums` (K, D).

    If X is an array, `features` (2, D), what `moments` returns is added in the same read of X.
    """
    if dispatch.kernels is None:  # a worker of a cluster, whose client has kernels
        N = len(y)
        members = scipy.sparse.csr_array((np.ones(N) if s is None else s, (y, np.arange(N))), shape=(len(sums), N))
        sums += (members @ X.scipy(np.float64)).toarray() if isinstance(X, CSR) else members @ X.astype(np.float64)
        if features is not None:
            features += moments(X, n_threads)
        return
    dtype, threads = COMPUTES_IN[X.dtype.char], team(_numbers(X), n_threads)
    for rows, block in _blocks(X, dtype):
        weights = None if s is None else s[rows]
        dispatch.kernels.class_sums(block, y[rows], weights, sums, dtype.itemsize, threads, features)


def class_means(rows: Rows, K: int, m: float, n_threads: int, features: Vector | None = None) -> tuple[Vector, Vector]:
    """Return Σ_i s_i [y_i = k] / m of each class, (K,), and Σ_i s_i [y_i = k] x_i / m, (K, D).

    `features` is as in `add_classes`.
    """
    assert rows.y is not None
    means = np.zeros((K, rows.D))
    add_classes(rows.X, rows.y, rows.s, means, n_threads, features)
    means /= m
    return np.bincount(rows.y, rows.s, K) / m, means


def constant_gradient(means: Vector, q: Vector, dW: Array) -> None:
    """Write the gradient q_k Σ_j means_j - means_k of each class, where all samples have the posterior q (K,)."""
    assert dispatch.kernels is not None
    dispatch.kernels.constant_gradient(means, q, np.empty(means.shape[1]), dW)


def moments(X: Any, n_threads: int) -> Vector:
    """Return the sums of each feature and of its squares, (2, D)."""
    D, dtype, threads = X.shape[1], COMPUTES_IN[X.dtype.char], team(_numbers(X), n_threads)
    found = np.zeros((2, D))
    for _, block in _blocks(X, dtype):
        if dispatch.kernels is not None:
            dispatch.kernels.feature_moments(block, found, dtype.itemsize, threads)
            continue
        data, indices = block.entries() if isinstance(X, CSR) else (block.ravel(), np.tile(np.arange(D), len(block)))
        wide = data.astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            found += np.bincount(indices, wide, D), np.bincount(indices, wide * wide, D)
    return found


def _numbers(X: Any) -> int:
    """Return how many numbers of X there are to add."""
    return int(X.nnz if isinstance(X, CSR) else X.size)


def _blocks(X: Any, dtype: np.dtype[Any]) -> Iterator[tuple[slice, Any]]:
    """Yield slices of the samples, each with X as a kernel reads it; Ctrl-C is looked for between two of them."""
    N, D = X.shape
    sparse = isinstance(X, CSR)
    in_place = sparse or is_native(X, dtype)
    row = max(1, X.nnz // N) * (dtype.itemsize + 8) if sparse else D * dtype.itemsize
    step = max(1, (BLOCK_BYTES if in_place else CONVERTED_BYTES) // row)
    for start in range(0, N, step):
        rows = slice(start, start + step)
        yield rows, X[rows] if in_place else native(X[rows], dtype)
