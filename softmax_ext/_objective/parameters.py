"""`Parameters`: where in a flat vector the weights and intercepts of a model lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Parameters:
    """The layout of w = [W, row after row; b], the vector that optimisers see.

    What always holds:

    - A class that has parameters has a row of W and, with an intercept, an entry of b: `classes` tells which.
    - In a binary model class 1 alone has them. The scores of class 0 are 0, so W[0] = 0 and b[0] = 0. This is
      scikit-learn's model of two classes, whose ``coef_`` has one row: `of_model` chooses it.
    - The entries of W come first and are those that a penalty weighs. The intercepts come last and are free.
    - It is never changed: objectives, preconditioners and penalties share it.

    Attributes
    ----------
    K, D : int
        Classes, features.
    intercept : bool
        Whether there is b.
    binary : bool
        Whether class 1 alone has parameters.
    count : int
        Rows of W: how many classes have parameters.
    each : int
        Parameters of one class: D, and one more with an intercept.
    size : int
        Entries of w.
    """

    __slots__ = ("D", "K", "binary", "count", "each", "intercept", "size")

    def __init__(self, K: int, D: int, intercept: bool, binary: bool = False) -> None:
        self.K, self.D, self.intercept, self.binary = K, D, intercept, binary
        self.count = 1 if binary else K
        self.each = D + intercept
        self.size = self.count * self.each

    @classmethod
    def of_model(cls, K: int, D: int, intercept: bool) -> Parameters:
        """Return the layout of an estimator's coefficients: two classes have one row."""
        return cls(K, D, intercept, K == 2)

    def __repr__(self) -> str:
        return f"Parameters(K={self.K}, D={self.D}, intercept={self.intercept}, binary={self.binary})"

    @property
    def classes(self) -> range:
        """The classes that have parameters."""
        return range(1, 2) if self.binary else range(self.K)

    def vector(self, w: npt.ArrayLike) -> Array:
        """Return w as an array, or raise ValueError if it has not the length of this layout."""
        w = np.asarray(w)
        if w.shape != (self.size,):
            raise ValueError(f"w must be a vector of K D{' + K' * self.intercept} = {self.size} entries, got {w.shape}")
        return w

    def weights(self, w: Array) -> Array:
        """Return W (count, D) as a view of w: the entries that a penalty weighs."""
        return w[: self.count * self.D].reshape(self.count, self.D)

    def intercepts(self, w: Array) -> Array | None:
        """Return b (count,) as a view of w; None without an intercept."""
        return w[self.count * self.D :] if self.intercept else None

    def views(self, w: Array) -> tuple[Array, Array | None]:
        """Return W (count, D) and b (count,) as views of w."""
        return self.weights(w), self.intercepts(w)

    def join(self, W: Array, b: Array | None) -> Vector:
        """Return w, float64, from W (count, D) and b (count,)."""
        return np.concatenate([W.ravel()] if b is None else [W.ravel(), b], dtype=np.float64)

    def split(self, w: Array, dtype: np.dtype[Any]) -> tuple[Array, Array | None]:
        """Return W (K, D) and b (K,) of all classes, those without parameters being 0, in the dtype of a pass."""
        W, b = self.weights(w), self.intercepts(w)
        with np.errstate(over="ignore"):
            W, b = W.astype(dtype), None if b is None else b.astype(dtype)
        return (W, b) if not self.binary else (with_zero(W), None if b is None else with_zero(b))

    def model(self, w: Array, dtype: np.dtype[Any], fixed: npt.NDArray[np.bool_] | bool = False) -> tuple[Array, Array]:
        """Return coefficients (count, D) and intercepts (count,), zeros without, as a fitted model has them.

        Those of all classes sum to 0, for which the posterior is the same and the penalty no larger, but for the
        weights of `fixed` features: see `centred`.
        """
        W, b = self.views(self.centred(w, fixed))
        b = np.zeros(self.count) if b is None else b
        return W.astype(dtype), b.astype(dtype)

    def gradient(self, dW: Array, db: Array | None) -> Vector:
        """Return the gradient for w, float64, from those for W (K, D) and b (K,) of all classes."""
        if self.binary:
            dW, db = dW[1:], None if db is None else db[1:]
        return self.join(dW, db)

    def determined(self, v: Vector, penalised: npt.NDArray[np.bool_] | bool) -> Vector:
        """Return v without what all classes have in common, in those parameters that no penalty weighs.

        `penalised` tells of each feature, (D,), or of all, whether one does. To add the same to all classes changes no
        posterior, so there a gradient is nothing but rounding.
        """
        if self.binary:
            return v
        v = v.copy()
        if not np.all(penalised):
            W = self.weights(v)
            mean = W.sum(axis=0) / self.count
            W -= mean if penalised is False else np.where(penalised, 0, mean)
        if (b := self.intercepts(v)) is not None:
            b -= b.sum() / self.count
        return v

    def centred(self, w: Vector, fixed: npt.NDArray[np.bool_] | bool = False) -> Vector:
        """Return w with parameters that sum to 0 over the classes, but for the weights of `fixed` features, (D,).

        Those are features with an L1 penalty, which is the least where they are, and leaves some at exactly 0.
        """
        return self.determined(w, fixed)

    def by_class(self, w: Array, dtype: npt.DTypeLike) -> Array:
        """Return (count, each): the parameters (W_k, b_k) of a class in one row."""
        G = np.empty((self.count, self.each), dtype)
        G[:, : self.D] = self.weights(w)
        if (b := self.intercepts(w)) is not None:
            G[:, self.D] = b
        return G

    def flat(self, G: Array, dtype: npt.DTypeLike = np.float64) -> Array:
        """Return w from rows (W_k, b_k), one for each class: the inverse of `by_class`."""
        return np.concatenate([G[:, : self.D].ravel(), G[:, self.D :].ravel()], dtype=dtype)


def with_zero(rows: Array) -> Array:
    """Put the zero row of class 0 before that of class 1."""
    both = np.zeros((2, *rows.shape[1:]), rows.dtype)
    both[1] = rows[0]
    return both
