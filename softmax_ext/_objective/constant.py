"""The loss where all weights are 0: at the start of a fit, and for its duality gap.

All samples have the same posterior q then, so sums over each class replace products. With c_k = Σ_i s_i [y_i = k],

    J = Σ_k c_k (log Σ_j exp b_j - b_k) / m        ∂J/∂W_k = (q_k Σ_i s_i x_i - Σ_i s_i [y_i = k] x_i) / m
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.sums import constant_gradient
from .._inputs.rows import Rows
from .parameters import Parameters

Vector = npt.NDArray[np.float64]

# The samples of each class are added up instead of a pass of SUMMED_FLOPS operations or more. The sums of sparse rows
# are written in no order, so they may take SUMMED_BYTES at most. See "Where all weights are 0" in docs/notes.md.
SUMMED_FLOPS, SUMMED_BYTES = 2**22, 2**20


def sums_classes(rows: Rows, parameters: Parameters, flops: int) -> bool:
    """Return whether to add up the samples of each class is possible, and faster than a pass of so many operations.

    Of data in pieces, `rows` are some.
    """
    if dispatch.kernels is None or rows.y is None or rows.offset is not None or parameters.binary:
        return False
    return flops >= SUMMED_FLOPS and (rows.stored is None or 8 * parameters.size <= SUMMED_BYTES)


def at_constant(w: Vector, parameters: Parameters, shares: Vector, means: Vector) -> tuple[float, Vector]:
    """Return J and its gradient, (size,) float64, from what `class_means` returns."""
    K = parameters.K
    b = w[K * parameters.D :] if parameters.intercept else np.zeros(K)
    log_q = b - np.log(np.exp(b - b.max()).sum()) - b.max()
    q, grad = np.exp(log_q), np.empty(parameters.size)
    dW, db = parameters.views(grad)
    constant_gradient(means, q, dW)
    if db is not None:
        db[:] = q * shares.sum() - shares
    return float(-(shares @ log_q)), grad
