"""The Fisher preconditioner: for each class the diagonal block of the Hessian, from a sample of the rows.

    M_k = 1/m Σ_i s_i S_ik (1 - S_ik) x_i x_iᵀ + penalty

What a sample needs differs from class to class: S_ik (1 - S_ik) is next to nothing for most i. So each class has a
sample of its own, by priorities (Duffield, Lund and Thorup, Journal of the ACM 54, 2007), which takes a row about as
often as its weight says. The numbers that decide are those of a fixed sequence: no chance is involved.

Where blocks would cost too much there are their diagonals, of features less their means: as they are, features that
are all positive have a common direction in which the diagonal is far too small, and all levels of a one-hot property
add up to the intercept. 300000 x 12000 of twelve such properties took 15 evaluations so, and take 5; five thousand
levels, some of them rare, with C = 100 took 79 and 800 products with the Hessian, and take 10.

Rounding of the weights changes next to nothing of the sample. With marks along their sum (Madow 1949) each mark behind
a change may fall on another row: fits of one data set in float32, float64 and uint8 then took paths of their own from
the first sample on, and ended 4e-4 apart on Fashion-MNIST. Now it is 1e-6.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import combinations
from .._inputs.csr import CSR
from .._inputs.dtypes import is_native, native, read_as
from .._inputs.rows import Rows
from .parameters import Parameters
from .penalty import Penalty

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Rows of a class's sample: at least; and for each parameter, six up to 1024 rows, beyond where blocks cost more 2.5.
# Evaluations with 1024 rows and with 512: 28 and 28 of digits, 64 features; 51 and 31 of 36 features like Satellite's;
# 30 and 28 of 16 like LetterRecognition's. 180 zeros and ones: 1024 rows 19, 800 20, 700 21, 512 27. 784 features: 2000
# rows 22, 1000 rows 35.
LEAST_ROWS, ROWS, FEW_PARAMETERS, MANY_PARAMETERS = 512, 1024, 6, 2.5
# Rows whose probabilities are computed, to draw the samples from.
POOL = 16384
# What the blocks may cost in passes over the data, about; and their bytes. Beyond, their diagonals alone are taken.
PASSES, BYTES = 128, 128 * 2**20
# What the sample of one class may take where X is sparse, as an array.
DENSE_BYTES = 8 * 2**20
# Part of Σ_i c_i times the mean of x_j² that is added to the diagonal: a feature that is nearly always 0 where a class
# is in doubt would else take steps that are far too long. Without a penalty, digits stalls at a gradient of 0.04.
DAMPING = 1e-3
# Rows for each parameter from which on a fit needs no extra penalty at the start. Data like LetterRecognition have 45,
# and take 24 iterations with any penalty and with none; Fashion-MNIST has 8.
EASY_ROWS = 16
# Of sparse X: entries of a feature, of the usual size, whose samples are taken to be as far in doubt as all are; and
# the least part of a feature's mean square that is left when its mean is taken away.
PRIOR, LEAST_SPREAD = 1.0, 1e-3
# Weights of some classes, which fit the second cache several times.
AT_ONCE = 2**14
TINY = float(np.finfo(float).tiny)


def undecided(K: int) -> float:
    """Return S_ik (1 - S_ik) of a sample that is as near to each of K classes."""
    return (K - 1) / K**2


class Easing(NamedTuple):
    """An extra penalty, half of Σ_j diagonal_j w_j², from which a fit had better come to its own."""

    diagonal: Vector
    least: float  # part of it that is no more than the objective's own penalty


def easing(parameters: Parameters, penalty: Penalty, mean_squares: Vector, N: int) -> Easing | None:
    """Return an L2 penalty as strong as the damping of a usual feature at w = 0; None where a fit needs none.

    It needs none where its own penalty is as strong, or where rows are so many that they leave no direction open.
    The same for all features, as a fit's own is: with one that follows the features' squares those that are nearly
    always 0 went astray, and Fashion-MNIST without a penalty was at 0.39 after 260 iterations.
    """
    D, squares = parameters.D, np.sort(mean_squares[: parameters.D])
    own, unit = float(penalty.diagonal(D).mean()), DAMPING * undecided(parameters.K)
    if EASY_ROWS * parameters.size <= N or not own < unit * squares.max(initial=0.0) < np.inf:
        return None
    squares = squares[np.searchsorted(squares, 0.0, "right") :]
    strength = unit * float(squares[(len(squares) - 1) // 2 : len(squares) // 2 + 1].mean())  # of their median
    if own >= strength:
        return None
    diagonal = np.zeros(parameters.size)
    parameters.weights(diagonal)[:] = strength
    return Easing(diagonal, own / strength)


class Fisher:
    """M at one w: called with g it returns M⁻¹ g. `refresh` brings it to another w, in the memory that it has.

    `together` does so for several g, of any real dtype, and reads M once.
    """

    def __init__(
        self,
        w: Vector,
        rows: Rows,  # those that are drawn from, with what they weigh in the Hessian
        total: float,  # Σ s_i of their weights in the loss
        parameters: Parameters,
        penalty: Penalty,
        *,
        mean_squares: Vector,  # of the features, 1 for the intercept
        posterior: Callable[[Rows, Vector], Array],  # (n, count), of the classes that have parameters
        passes_over: int,  # samples of a pass: the blocks may cost so many passes
        n_threads: int,
        extra: Vector | None = None,
        standard: tuple[Vector, Vector] | None = None,  # each feature's mean and inverse scale, if w is for such ones
        whole: bool = False,  # whether M itself is wanted, without damping, and not its inverse
        means: Callable[[], Vector] | None = None,  # of the features, if diagonals are to be those of centred ones
    ) -> None:
        self.whole, self.means = whole, means if parameters.intercept else None
        self.mean: Vector | None = None  # of the features, (1 or classes, D), where the diagonal is for less of it
        self.parameters, self.penalty, self.mean_squares = parameters, penalty, mean_squares
        self.posterior, self.n_threads, self.dtype = posterior, n_threads, rows.dtype
        self.standard = standard
        P, classes, itemsize = parameters.each, parameters.count, rows.dtype.itemsize
        self.rows, self.X = rows, rows.X
        self.weights = (rows.weights() / total)[:, np.newaxis]
        self.count = min(len(rows), max(LEAST_ROWS, min(ROWS, FEW_PARAMETERS * P), int(MANY_PARAMETERS * P)))
        few = self.count * P <= 2 * PASSES * passes_over and classes * P * P * itemsize <= BYTES
        if isinstance(self.X, CSR):  # whose samples' rows become an array
            few = few and self.count * P * itemsize <= DENSE_BYTES
        self.blocks = few and dispatch.kernels is not None
        if self.blocks:
            assert dispatch.kernels is not None
            ld, work = dispatch.kernels.fisher_sizes(P, itemsize)
            # Kept: to clear 25 MB of fresh pages took a third of the time of ten blocks of 785.
            self.U, T = np.empty((classes, P, ld), self.dtype), np.empty((classes, P), self.dtype)
            space = np.empty(work * min(n_threads, classes), self.dtype)
            self.factors = dispatch.kernels.Factors(self.U, T, space)
        self.refresh(w, extra)

    def refresh(self, w: Vector, extra: Vector | None = None) -> None:
        """Compute M anew, with the diagonal of a penalty beyond the objective's own if there is one."""
        self.added = np.zeros((self.parameters.count, self.parameters.each))
        if extra is not None:
            self.added += self.parameters.by_class(extra, np.float64)
        self.added[:, : self.parameters.D] += self.penalty.diagonal(self.parameters.D)
        if w.any() or self.rows.offset is not None:
            c = self.posterior(self.rows, w).astype(np.float64)
            c *= 1 - c
            c *= self.weights
        else:
            c = undecided(self.parameters.K) * np.repeat(self.weights, self.parameters.count, axis=1)
        self.weight = c.sum(axis=0)
        if self.blocks:
            self._factor(c)
        else:
            self._invert_diagonals(c)

    @property
    def matrices(self) -> Array:
        """The blocks, (1 or classes, P, ld) with whatever is beyond P; one where all classes have the same."""
        return self.U[: self.factors.count]

    def __call__(self, g: Vector) -> Vector:
        """Return M⁻¹ g."""
        return self.together([g])[0]

    def together(self, vectors: Sequence[Array]) -> list[Vector]:
        """Return M⁻¹ g for each g."""
        if not self.blocks:
            return [g * self.inverse if self.mean is None else self._centred(g, self.mean) for g in vectors]
        parameters, count = self.parameters, len(vectors)
        # Both are of one call: the fits of folds share a preconditioner, and run side by side.
        G, found = np.empty((count, parameters.count, parameters.each), self.dtype), np.empty((count, parameters.size))
        threads = min(self.n_threads, parameters.count) if G.size * parameters.each > 2**20 else 1
        self.factors.apply(vectors, G, found, int(parameters.intercept), threads)
        return list(found)

    def _centred(self, g: Array, mean: Vector) -> Vector:
        """Return M⁻¹ g of a diagonal for features less their mean: at a time, the classes that fit the second cache."""
        z, views = np.empty(len(g)), self.parameters.views
        (dW, db), (inverse, of_b), (W, b) = views(g), views(self.inverse), views(z)
        assert db is not None and of_b is not None and b is not None
        at_once = max(1, AT_ONCE // W.shape[1])
        for start in range(0, len(W), at_once):
            some = slice(start, start + at_once)
            rows, centre = W[some], mean if len(mean) == 1 else mean[some]
            np.multiply(centre, -db[some, np.newaxis], out=rows)
            rows += dW[some]
            rows *= inverse[some]
            b[some] = db[some] * of_b[some] - (rows * centre).sum(axis=1)
        return z

    def _factor(self, c: Vector) -> None:
        dtype, X, P = self.dtype, self.X, self.parameters.each
        classes = 1 if (c == c[:, :1]).all() else c.shape[1]  # all are the same at w = 0
        rows = np.zeros((classes, self.count), np.intp)
        roots = np.zeros((classes, self.count), dtype)
        for k in range(classes):
            drawn, weights = priority_sample(c[:, k], self.count)
            rows[k, : len(drawn)] = drawn
            roots[k, : len(drawn)] = np.sqrt(weights)
        if isinstance(X, CSR) or not is_native(X, read_as(X.dtype)):
            used, rows = np.unique(rows, return_inverse=True)
            X = X[used].scipy(dtype).toarray() if isinstance(X, CSR) else native(X[used], read_as(X.dtype))
            rows = rows.reshape(roots.shape)
        damping = self.added[:classes].copy()
        if not self.whole:
            damping += DAMPING * self.weight[:classes, np.newaxis] * self.mean_squares
        ridge = 32 * float(np.finfo(dtype).eps)
        # A few classes of a few features are sooner done than a team is called.
        threads = min(self.n_threads, classes) if classes * self.count * P * P > 2**21 else 1
        standard = None if self.standard is None else np.array(self.standard, dtype)
        ones, added = self.parameters.intercept, damping.astype(dtype)
        self.factors.factor(X, rows, roots, ones, added, ridge, threads, standard=standard, whole=self.whole)

    def _invert_diagonals(self, c: Vector) -> None:
        D, X, even, weight = self.parameters.D, self.X, c.min() == c.max(), self.weight[:, np.newaxis]
        diagonal = np.zeros((c.shape[1], self.parameters.each))
        diagonal[:, D:] = weight
        if even:  # as at w = 0: the sums are known
            diagonal[:, :D] = weight * self.mean_squares[:D]
        elif isinstance(X, CSR):
            squares = X.scipy(np.float64)
            squares.data = np.square(squares.data)  # a new array: the old one may be the caller's
            diagonal[:, :D] = (squares.T @ c).T
            if self.standard is not None:
                mean, inverse = self.standard
                sums = (X.scipy(np.float64).T @ c).T
                diagonal[:, :D] += mean * (mean * c.sum(axis=0)[:, np.newaxis] - 2 * sums)
                diagonal[:, :D] = np.maximum(diagonal[:, :D], 0) * inverse**2
            else:
                # These rows tell how far a feature's samples are in doubt, more rows how large it is. One that has few
                # entries here is taken to be as far in doubt as all are.
                few = PRIOR * squares.data.mean() / len(X) if squares.nnz else 0.0
                diagonal[:, :D] += few * weight
                diagonal[:, :D] *= self.mean_squares[:D] / np.maximum(squares.T @ self.weights[:, 0] + few, TINY)
        else:
            at_once = max(1, 2**21 // D)
            for start in range(0, len(X), at_once):
                block = X[start : start + at_once].astype(np.float64, order="C")
                if self.standard is not None:
                    block -= self.standard[0]
                    block *= self.standard[1]
                np.square(block, out=block)
                diagonal[:, :D] += combinations(block, c[start : start + at_once], self.n_threads)
        if self.means is not None and not self.whole:
            self._centre(diagonal, even)
        diagonal += self.added
        least = 1e-8 * diagonal.max(axis=1, keepdims=True)
        self.inverse = self.parameters.flat(1 / np.maximum(diagonal, np.maximum(least, TINY)))

    def _centre(self, diagonal: Vector, even: bool) -> None:
        """Make a diagonal that of features less their mean, which the intercept has then in the place of theirs.

        A class's mean of a feature is taken to be larger than that of all samples by as much as its mean square is.
        """
        assert self.means is not None
        D, squares, weight = self.parameters.D, self.mean_squares[: self.parameters.D], self.weight[:, np.newaxis]
        mean = self.means()[np.newaxis]
        if not even:
            mean = mean * (diagonal[:, :D] / np.maximum(weight * squares, TINY))
        self.mean = mean
        diagonal[:, :D] = np.maximum(diagonal[:, :D] - weight * mean**2, LEAST_SPREAD * diagonal[:, :D])


@lru_cache(maxsize=8)
def _spread(n: int) -> Vector:
    """Return the u of a sample of n rows."""
    u: Vector = np.arange(1, n + 1) * ((np.sqrt(5) - 1) / 2) % 1.0
    return u


def priority_sample(weights: Vector, count: int) -> tuple[npt.NDArray[np.intp], Vector]:
    """Draw `count` of the rows in proportion to their weights; and what they stand for, all weights together.

    Row i has the priority w_i / u_i. Those with the highest are taken: a row heavier than the highest priority that is
    left out stands for itself, any other for that priority, so that sums of them have no bias. The u are multiples of
    the golden ratio modulo 1, which fill the unit interval evenly wherever one begins. All rows are taken, with their
    own weights, if they are no more than `count`.
    """
    if len(weights) <= count:
        return np.arange(len(weights)), weights
    priorities = weights / _spread(len(weights))
    last = len(weights) - count - 1
    left_out = np.partition(priorities, last)[last]
    rows = np.flatnonzero(priorities > left_out)
    return rows, np.maximum(weights[rows], left_out)
