"""Posteriors and scores of two classes with one row of coefficients, as `LogisticRegression` has for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from .._core import dispatch, threads
from .._core.plan import binomial_plan
from .._core.run import run
from .._inputs.csr import CSR
from .._inputs.rows import Rows
from .._inputs.validation import check_scoring
from .._objective.parameters import with_zero
from ..functional import FEW_ENTRIES, predict_proba

Array = npt.NDArray[Any]


def posteriors(X: Any, w: Array, b: Array, n_threads: int | None = None, offset: Array | None = None) -> Array:
    """Return the probabilities (N, 2) of both classes, from coefficients (1, D) and an intercept (1,) of class 1.

    An offset (N, 1) is added to the score of class 1.
    """
    found = _pass(X, w, b, n_threads, offset, both=True)
    if found is None:
        found = predict_proba(X, with_zero(w), with_zero(b), offset=offset, n_threads=n_threads)
    return found


def scores(X: Any, w: Array, b: Array, n_threads: int | None = None, offset: Array | None = None) -> Array:
    """Return the scores (N,) of class 1: x w + b, plus an offset (N, 1)."""
    found = _pass(X, w, b, n_threads, offset, both=False)
    if found is None:
        samples, dtype, weights, bias, _ = check_scoring(X, w, b, None)
        found = reference.scores(reference.float64(samples), weights, bias, offset)[:, 0].astype(dtype)
    return found


def _pass(X: Any, w: Array, b: Array, n_threads: int | None, offset: Array | None, *, both: bool) -> Array | None:
    """Return the posteriors, if `both`, or the scores, from one pass; None if no pass can take these samples."""
    kernels = dispatch.kernels
    samples, dtype, weights, bias, _ = check_scoring(X, w, b, None)
    if kernels is None:
        return None
    if isinstance(samples, CSR) and samples.nnz * FEW_ENTRIES < samples.shape[1]:
        samples, weights = samples.narrowed(weights)
    rows = Rows(samples, offset=offset)
    way = binomial_plan(*samples.shape, dtype.itemsize, dispatch.isa, nnz=rows.stored)
    if way is None:
        return None
    out = np.empty((len(samples), 2) if both else len(samples), dtype)
    asked = kernels.Probabilities if both else kernels.Scores
    run(asked(weights, bias, out), way, rows, threads.effective(n_threads))
    return out
