"""`Rows`: samples with their targets, weights and offsets, as one object that can be sliced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .csr import CSR
from .dtypes import COMPUTES_IN, F4, F8, INDEX, NARROW, is_native

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Rows:
    """N samples, each with its target, its weight and its offset.

    What always holds:

    - X is (N, D): an array, a `CSR`, or SciPy's sparse rows (format "csr"). It is the caller's own, not a copy.
    - At least one of y and Y is None. Both are where no target is needed, as in the Hessian of labelled samples.
    - y, Y, s and offset have N entries along their first axis, so that one index fits all of them.
    - s holds complete weights: sample weights times class weights. None means a weight of 1 for each sample.

    The values have been checked before Rows are made: by `check_problem` for the arguments of a call, by
    `pieces.checked` for a chunk.
    """

    X: Any  # (N, D)
    y: Array | None = None  # (N,) labels
    Y: Array | None = None  # (N, K) probabilities
    s: Array | None = None  # (N,) weights
    where: str = "X"  # the name of these samples in errors
    offset: Array | None = None  # (N, K), added to the scores; or (N, 1), added to the last class's scores alone

    @classmethod
    def of(
        cls, X: Any, targets: Array, s: Array | None = None, where: str = "X", *, offset: Array | None = None
    ) -> Self:
        """Return samples with targets, which are labels if they have one axis and probabilities if they have two."""
        y, Y = (targets, None) if targets.ndim == 1 else (None, targets)
        return cls(X, y, Y, s, where, offset)

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __getitem__(self, index: slice | npt.NDArray[np.intp]) -> Rows:
        """Return some of the samples: as views if the index is a slice, as copies if it is an array of row numbers."""
        y, Y, s, offset = self.y, self.Y, self.s, self.offset
        return Rows(
            self.X[index],
            None if y is None else y[index],
            None if Y is None else Y[index],
            None if s is None else s[index],
            self.where,
            None if offset is None else offset[index],
        )

    @classmethod
    def joined(cls, parts: Sequence[Rows]) -> Self:
        """Return the samples of several Rows as one. Some may be without weights; all have offsets, or none has."""
        first = parts[0]
        s = offset = None
        if first.offset is not None:
            offset = np.concatenate([part.offset for part in parts])
        if any(part.s is not None for part in parts):
            s = np.concatenate([part.weights() for part in parts])
        targets = np.concatenate([part.targets for part in parts])
        return cls.of(_stacked([part.X for part in parts]), targets, s, first.where, offset=offset)

    @property
    def in_place(self) -> bool:
        """Whether these are an array and labels of which a kernel can read all where it lies, without offsets."""
        X, y, s = self.X, self.y, self.s
        if type(X) is not np.ndarray or y is None or self.Y is not None or self.offset is not None:
            return False
        if (X.dtype != F4 and X.dtype != F8) or not is_native(X, X.dtype) or y.dtype != INDEX:
            return False
        return s is None or (s.dtype == F8 and s.flags.carray)

    @property
    def D(self) -> int:
        """The number of features."""
        return int(self.X.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype in which X is computed, float32 or float64."""
        return COMPUTES_IN[self.X.dtype.char]

    @property
    def narrow(self) -> bool:
        """Whether X is an array of a type that the kernels widen tile by tile."""
        return self.X.dtype.char in NARROW and not isinstance(self.X, CSR)

    @property
    def stored(self) -> int | None:
        """The number of stored entries of a `CSR`; None for an array."""
        return self.X.nnz if isinstance(self.X, CSR) else None

    @property
    def targets(self) -> Array:
        """Labels (N,), or probabilities (N, K)."""
        found = self.y if self.Y is None else self.Y
        assert found is not None
        return found

    def smoothed(self, K: int, smoothing: float) -> Rows:
        """Return the samples with the smoothed targets (1 - ε) Y + ε / K, (N, K); the same object if ε = 0."""
        if not smoothing:
            return self
        if self.y is None:
            Y = (1 - smoothing) * self.targets + smoothing / K
        else:
            Y = np.full((len(self), K), smoothing / K, self.dtype)
            Y[np.arange(len(self)), self.y] += 1 - smoothing
        return replace(self, y=None, Y=Y)

    @property
    def total(self) -> float:
        """Σ s, the sum of the samples' weights."""
        return float(self.X.shape[0]) if self.s is None else float(self.s.sum())

    def weights(self) -> Array:
        """Return s, or ones (N,) if it is None."""
        return np.ones(len(self)) if self.s is None else self.s

    def weighing(self) -> npt.NDArray[np.intp]:
        """Return the numbers of the samples whose weight is not 0."""
        return np.arange(len(self)) if self.s is None else np.flatnonzero(self.s)

    def mass(self) -> Vector | None:
        """Return the sum of each sample's target, Σ_k Y_ik, (N,); None for labels, where it is 1."""
        mass: Vector | None = None if self.Y is None else self.Y.sum(axis=1, dtype=np.float64)
        return mass

    def offset_moments(self, K: int) -> Vector:
        """Return Σ_i s_i Σ_l Y_il O_ik for each of K classes, and last Σ_i s_i Y_i · O_i: (K + 1,)."""
        found, offset, s = np.zeros(K + 1), self.offset, self.weights()
        assert offset is not None
        k, mass = K - offset.shape[1], self.mass()  # the first class that has a column
        with np.errstate(invalid="ignore"):  # an offset may be infinite
            found[k:K] = np.einsum("i,ik->k", s if mass is None else s * mass, offset)
            if self.Y is not None:
                found[K] = np.einsum("i,ik,ik->", s, self.Y[:, k:], offset)
            else:
                assert self.y is not None
                found[K] = np.einsum("i,i->", s, offset[:, 0] * self.y if k else offset[np.arange(len(self)), self.y])
        return found

    def curving(self) -> Rows:
        """Return the samples as the Hessian needs them: without targets, and with the weights s_i Σ_k Y_ik.

        The Hessian is the derivative of the residual R = S Σ_k Y_ik - Y, whose second term does not depend on the
        parameters.
        """
        mass = self.mass()
        s = self.s if mass is None else mass if self.s is None else self.s * mass
        return Rows(self.X, s=s, where=self.where, offset=self.offset)


def _stacked(parts: list[Any]) -> Any:
    """Return the rows of all parts below one another."""
    if isinstance(parts[0], np.ndarray):
        return np.vstack(parts)
    import scipy.sparse  # not at the top, since it takes as long to import as NumPy

    return scipy.sparse.vstack(parts, "csr")
