"""`Parameters`: where in a flat vector the weights and intercepts of a model lie."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import steady

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Parameters:
    """The layout of w = [rows of W one after the other, b], the vector that optimisers move.

    What always holds:

    - A class that has parameters has a row of W and, with an intercept, an entry of b. `classes` names these classes.
    - In a binary model only class 1 has parameters. The scores of class 0 are 0, as with W[0] = 0 and b[0] = 0. This is
      scikit-learn's model of two classes, whose ``coef_`` has one row; `of_model` chooses it.
    - The entries of W come first, and a penalty applies to them. The intercepts come last, and are never penalised.
    - A layout is never changed: objectives, preconditioners and penalties share it.

    Attributes
    ----------
    K, D : int
        The numbers of classes and of features.
    intercept : bool
        Whether there are intercepts b.
    binary : bool
        Whether only class 1 has parameters.
    count : int
        The number of classes that have parameters, which is that of W's rows.
    each : int
        The number of parameters of one class: D, and one more with an intercept.
    size : int
        The number of entries of w.
    """

    __slots__ = ("D", "K", "binary", "count", "each", "intercept", "size")

    def __init__(self, K: int, D: int, intercept: bool, binary: bool = False) -> None:
        self.K, self.D, self.intercept, self.binary = K, D, intercept, binary
        self.count = 1 if binary else K
        self.each = D + intercept
        self.size = self.count * self.each

    @classmethod
    @lru_cache(maxsize=64)
    def of_model(cls, K: int, D: int, intercept: bool) -> Parameters:
        """Return the layout of an estimator's coefficients, where two classes have one row."""
        return cls(K, D, intercept, K == 2)

    def __repr__(self) -> str:
        return f"Parameters(K={self.K}, D={self.D}, intercept={self.intercept}, binary={self.binary})"

    @property
    def classes(self) -> range:
        """The classes that have parameters."""
        return range(1, 2) if self.binary else range(self.K)

    def vector(self, w: npt.ArrayLike) -> Array:
        """Return w as an array; raise ValueError if its length is not that of this layout."""
        w = np.asarray(w)
        if w.shape != (self.size,):
            raise ValueError(f"w must be a vector of K D{' + K' * self.intercept} = {self.size} entries, got {w.shape}")
        return w

    def weights(self, w: Array) -> Array:
        """Return W (count, D), the entries that a penalty applies to, as a view of w."""
        return w[: self.count * self.D].reshape(self.count, self.D)

    def intercepts(self, w: Array) -> Array | None:
        """Return b (count,) as a view of w; None without an intercept."""
        return w[self.count * self.D :] if self.intercept else None

    def views(self, w: Array) -> tuple[Array, Array | None]:
        """Return W (count, D) and b (count,) as views of w; None for b without an intercept."""
        return self.weights(w), self.intercepts(w)

    def join(self, W: Array, b: Array | None) -> Vector:
        """Return w, float64, from W (count, D) and b (count,)."""
        return np.concatenate([W.ravel()] if b is None else [W.ravel(), b], dtype=np.float64)

    def split(self, w: Array, dtype: np.dtype[Any]) -> tuple[Array, Array | None]:
        """Return W (K, D) and b (K,) in the dtype of a pass; rows of classes without parameters are 0."""
        W, b = self.weights(w), self.intercepts(w)
        with np.errstate(over="ignore"):
            W, b = W.astype(dtype), None if b is None else b.astype(dtype)
        return (W, b) if not self.binary else (with_zero(W), None if b is None else with_zero(b))

    def model(self, w: Array, dtype: np.dtype[Any], fixed: npt.NDArray[np.bool_] | bool = False) -> tuple[Array, Array]:
        """Return coefficients (count, D) and intercepts (count,), or zeros, as a fitted model has them.

        They are centred so that they sum to 0 over all classes, except the weights of `fixed` features; see `centred`.
        The posterior is the same then, and an L2 penalty not larger.
        """
        (W, b), W_kept, b_kept = self.views(w), np.empty((self.count, self.D), dtype), np.zeros(self.count, dtype)
        # NumPy sums a single column in another order.
        if dispatch.kernels is not None and fixed is False and not self.binary and self.D > 1:
            dispatch.kernels.less_mean(steady(w), W_kept)
        else:
            mean = self._mean(W, fixed)
            np.subtract(W, 0.0 if mean is None else mean, out=W_kept, casting="same_kind")
        if b is not None:
            np.subtract(b, self._mean_b(b), out=b_kept, casting="same_kind")
        return W_kept, b_kept

    def gradient(self, dW: Array, db: Array | None) -> Vector:
        """Return the gradient for w, float64, from those for W (K, D) and b (K,) of all classes."""
        if self.binary:
            dW, db = dW[1:], None if db is None else db[1:]
        return self.join(dW, db)

    def determined(self, v: Vector, penalised: npt.NDArray[np.bool_] | bool) -> Vector:
        """Return v less its mean over the classes, in the parameters that are not penalised.

        `penalised` says whether a penalty applies, for each feature (D,) or for all. To add the same number to a
        parameter of all classes changes no posterior, so the mean of a gradient's components without penalty is only
        rounding.
        """
        if self.binary:
            return v
        v = v.copy()
        (W, b), mean = self.views(v), self._mean(self.weights(v), penalised)
        if mean is not None:
            W -= mean
        if b is not None:
            b -= self._mean_b(b)
        return v

    def _mean(self, W: Array, penalised: npt.NDArray[np.bool_] | bool) -> Array | None:
        """Return the weights' means over the classes that `determined` subtracts, (D,), if there are any."""
        if self.binary or penalised is True or (penalised is not False and np.all(penalised)):
            return None
        mean: Array = W.sum(axis=0) / self.count
        return mean if penalised is False else np.where(penalised, 0, mean)

    def _mean_b(self, b: Array) -> float:
        """Return what `determined` subtracts from the intercepts."""
        return 0.0 if self.binary else float(b.sum() / self.count)

    def centred(self, w: Vector, fixed: npt.NDArray[np.bool_] | bool = False) -> Vector:
        """Return w with parameters that sum to 0 over the classes, except the weights of `fixed` features, (D,).

        Fixed are features with an L1 penalty: to move their weights would make it larger, and exact zeros would be
        lost.
        """
        return self.determined(w, fixed)

    def by_class(self, w: Array, dtype: npt.DTypeLike) -> Array:
        """Return the parameters (count, each): those of a class, (W_k, b_k), in one row."""
        G = np.empty((self.count, self.each), dtype)
        G[:, : self.D] = self.weights(w)
        if (b := self.intercepts(w)) is not None:
            G[:, self.D] = b
        return G

    def flat(self, G: Array, dtype: npt.DTypeLike = np.float64) -> Array:
        """Return w from rows (W_k, b_k), one for each class: the inverse of `by_class`."""
        return np.concatenate([G[:, : self.D].ravel(), G[:, self.D :].ravel()], dtype=dtype)


def with_zero(rows: Array) -> Array:
    """Return two rows: zeros for class 0, then the row of class 1."""
    both = np.zeros((2, *rows.shape[1:]), rows.dtype)
    both[1] = rows[0]
    return both
