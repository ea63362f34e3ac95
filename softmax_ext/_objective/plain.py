"""What an objective computes of its samples where there are no compiled kernels: from softmax_ext/reference.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .. import reference
from .._inputs.csr import CSR
from .._inputs.rows import Rows
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def value_and_grad(rows: Rows, parameters: Parameters, w: Array, part: float) -> tuple[float, Vector]:
    """Return the mean loss and its gradient at w, both times `part`."""
    W, b = parameters.split(w, rows.dtype)
    loss, dW, db = reference.loss_grad(rows.X, rows.targets, W, b, sample_weight=rows.s, offset=rows.offset)
    return loss * part, parameters.gradient(dW, db) * part


def hessian_product(rows: Rows, W: Array, b: Array | None, V: Array, c: Array | None, part: float) -> Any:
    """Return the mean loss's Hessian at W and b times V and c, times `part`, as a pair like these."""
    X, K, mass = reference.float64(rows.X), len(W), rows.mass()
    S = reference.softmax(reference.scores(X, W, b, rows.offset))
    mass = np.ones(len(rows)) if mass is None else mass
    dV, dc = reference.hessian_product(X, S, V, np.zeros(K) if c is None else c, rows.weights(), mass)
    return dV * part, dc * part


def hessian(curving: Rows, parameters: Parameters, S: Array, m: float) -> Vector:
    """Return the Hessian of the sum of losses over m, in the order of the parameters, from the posteriors S.

    The samples are `curving`: without targets, and with the weights of `Rows.curving`.
    """
    s, size = curving.weights(), parameters.size
    H = reference.hessian(augmented(curving, parameters), S, s).reshape(size, size) * (s.sum() / m)
    order = parameters.flat(np.arange(size).reshape(parameters.count, -1), np.intp)
    matrix: Vector = H[np.ix_(order, order)]
    return matrix


def loss(rows: Rows, W: Array, b: Array | None, losses: Array | None) -> float:
    """Return the mean loss, and write what `SoftmaxObjective._loss` says to `losses`, if they are given."""
    y, targets = rows.y, rows.targets
    Z = reference.scores(reference.float64(rows.X), W, b, rows.offset)
    if losses is not None:
        losses[:, 0] = reference.losses(Z, targets)
        losses[:, 1] = 0 if y is None else Z.max(axis=1) - Z[np.arange(len(rows)), y]
    return reference.loss(Z, targets, rows.s)


def augmented(rows: Rows, parameters: Parameters) -> Vector:
    """Return X of some rows as an array, with a column of ones if there is an intercept."""
    found = np.empty((len(rows), parameters.each))
    found[:, : parameters.D] = rows.X.scipy(np.float64).toarray() if isinstance(rows.X, CSR) else rows.X
    found[:, parameters.D :] = 1
    return found
