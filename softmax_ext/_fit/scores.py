"""Scores X Wᵀ + b of rows, computed by a pass without softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from .._core import dispatch, threads
from .._core.plan import plan
from .._core.run import run
from .._inputs.rows import Rows
from .._inputs.validation import check_scoring

Array = npt.NDArray[Any]


def scores(X: Any, W: Array, b: Array | None, n_threads: int | None = None) -> Array:
    """Return the scores (N, K), of X's dtype; the rows of W may belong to one model or to several.

    BLAS could compute the product as well, but its threads go on waiting for work for a tenth of a second, and keep the
    processors from the next fit (docs/notes.md, "Scores without BLAS").
    """
    samples, dtype, weights, bias, _ = check_scoring(X, W, b, None)
    kernels = dispatch.kernels
    if kernels is None:
        found: Array = reference.scores(reference.float64(samples), weights, bias).astype(dtype)
        return found
    rows = Rows(samples)
    Z = np.empty((len(rows), len(weights)), dtype)
    way = plan(*samples.shape, len(weights), dtype.itemsize, dispatch.isa, copied=rows.narrow, nnz=rows.stored)
    run(kernels.Scores(weights, bias, Z), way, rows, threads.effective(n_threads))
    return Z
