"""The Hessian of sparse samples in a proximal step, which coordinate descent takes from the samples' entries.

No matrix is summed. A coordinate costs as much as its feature has entries, so thousands of weights that are not 0 cost
what these features' entries cost; see "The Hessian from the entries of sparse samples" in docs/notes.md. Since it is
the Hessian at each point, there are no pairs.

Where the features are standardised, (x - mean) scale, M's coordinates are W and the intercepts of the features as they
are, b = c - shift · W with shift = mean scale. So the samples stay sparse.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.coordinates import Columns
from .._inputs.csr import CSR
from .._inputs.rows import Rows
from .curvature import LEAST
from .fisher import undecided
from .parameters import Parameters

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Indices = npt.NDArray[np.intp]

# The entries of all coordinates are at most so many times the square of their number, or the Hessian by the weights
# that are left, `Support`, is faster.
ENTRIES = 8


def columns_of(rows: Rows, m: float) -> Columns | None:
    """Return the entries of samples with the weights of the Hessian, or None for arrays; m divides the weights."""
    X = rows.X
    if not isinstance(X, CSR) or dispatch.kernels is None or len(X) > np.iinfo(np.int32).max:
        return None
    from scipy.sparse import csr_array  # not at the top, since it takes as long to import as NumPy

    root, stored = np.sqrt(rows.weights().astype(np.float64) / m), X.scipy(rows.dtype)
    data = (stored.data * np.repeat(root, np.diff(stored.indptr))).astype(rows.dtype)
    columns = csr_array((data, stored.indices, stored.indptr), shape=X.shape).tocsc()
    columns.sum_duplicates()
    return Columns(columns.data, columns.indices.astype(np.int32), columns.indptr.astype(np.intp), root)


def scaled(columns: Columns | None, scale: Vector) -> Columns | None:
    """Return the entries of the features times their scales."""
    if columns is None:
        return None
    data = columns.data * np.repeat(scale, np.diff(columns.begin))
    return columns._replace(data=data.astype(columns.data.dtype))


def pays(objective: Any, kept: Indices) -> bool:
    """Return whether an objective has sparse samples, and so few entries that sweeps over the kept parameters pay."""
    columns: Columns | None = getattr(objective, "columns", None)
    if columns is None:
        return False
    layout, counts = objective.parameters, np.diff(columns.begin)
    of_weights = kept[kept < layout.count * layout.D] % layout.D
    entries = int(counts[of_weights].sum()) + len(columns.root) * (len(kept) - len(of_weights))
    return entries <= ENTRIES * len(kept) ** 2


class ByEntries:
    """The Hessian of all parameters, by the entries of sparse samples."""

    M: Array | None = None
    kept: Indices | None = None
    exact = True
    diagonal: Vector  # what is added to the Hessian: the penalty's curvature, and the least one

    def __init__(self, objective: Any, w: Vector, damping: float) -> None:
        self.parameters: Parameters = objective.parameters
        self.columns: Columns = objective.columns
        self.shift: Vector | None = getattr(objective, "shift", None)
        self.apart = self.features = self.parameters.D
        self.objective, self.damping = objective, damping
        self.refresh(w)

    def refresh(self, w: Vector) -> None:
        """Compute the posterior at w; `damping` is the least curvature, as a part of that at equal probabilities."""
        layout, objective = self.parameters, self.objective
        self.posterior = objective.posterior(w).T
        least = max(LEAST, self.damping) * undecided(layout.K) * objective.mean_squares
        self.diagonal = layout.flat(np.broadcast_to(least, (layout.count, layout.each)))
        weights = layout.weights(self.diagonal)
        weights += objective.penalty.diagonal(layout.D)

    def follow(self, objective: Any, change: Vector) -> None:
        """Serve an objective with another penalty."""
        self.objective = objective

    def arranged(self, v: Array) -> Vector:
        """Return v itself, or a copy if it is not a contiguous vector of doubles."""
        return np.require(v, np.float64, ["C", "A"])

    def inward(self, g: Vector) -> Vector:
        """Return a gradient in M's coordinates."""
        return self._moved(g, 1, to_weights=True)

    def upward(self, s: Vector) -> Vector:
        """Return a step in M's coordinates."""
        return self._moved(s, -1, to_weights=False)

    def outward(self, d: Vector) -> Vector:
        """Return a step of the parameters."""
        return self._moved(d, 1, to_weights=False)

    def _moved(self, v: Vector, sign: int, *, to_weights: bool) -> Vector:
        """Return v with the intercepts times the shifts added to the weights, or the weights' to the intercepts."""
        if self.shift is None:
            return v
        W, b = self.parameters.views(v := v.copy())
        assert b is not None
        if to_weights:
            W += sign * np.multiply.outer(b, self.shift)
        else:
            b += sign * np.einsum("kj,j->k", W, self.shift)
        return v

    def times(self, s: Vector) -> Vector:
        """Return what is added to the Hessian, times s; no pairs ask for the rest."""
        return self.diagonal * s
