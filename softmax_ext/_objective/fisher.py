"""The Fisher preconditioner: for each class the diagonal block of the Hessian, from a sample of the rows.

    M_k = 1/m Σ_i s_i S_ik (1 - S_ik) x_i x_iᵀ + penalty

The weight S_ik (1 - S_ik) is next to nothing for most rows i, and the rows that count differ from class to class. So
each class has a sample of its own, drawn by priorities (Duffield, Lund and Thorup, Journal of the ACM 54, 2007), which
takes a row about as often as its weight says. A fixed sequence takes the place of random numbers, so a fit always draws
the same samples.

If blocks would cost too much, M has their diagonals only, for features less their means. Without the means, features
that are all positive would have a common direction in which the diagonal is far too small, and so would the levels of a
one-hot feature, which add up to the intercept; see "Diagonals of features less their means" in docs/notes.md.

Rounding of the weights changes next to nothing in such a sample. Systematic sampling (Madow 1949), which draws the rows
at marks along the running sum of the weights, may draw other rows at all marks after a change; see "Samples by
priorities" in docs/notes.md.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from .._core import dispatch
from .._core.vectors import PARALLEL, combinations, largest, steady
from .._inputs.csr import CSR
from .._inputs.dtypes import EPS, F4, F8, TINY, is_native, native, read_as
from .._inputs.rows import Rows
from .parameters import Parameters
from .penalty import Penalty

if TYPE_CHECKING:
    from .._core.kernels_baseline import Diagonal, Inverse

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# A class's sample has FEW_PARAMETERS rows for each of its parameters, at least LEAST_ROWS and at most ROWS; for more
# parameters, whose blocks cost more, it has MANY_PARAMETERS rows for each of them. See "How many rows a block is made
# of" in docs/notes.md.
LEAST_ROWS, ROWS, FEW_PARAMETERS, MANY_PARAMETERS = 512, 1024, 6, 2.5
# The samples are drawn from some POOL rows, whose probabilities are computed.
POOL = 16384
# Blocks may cost about PASSES passes over the data, and take BYTES bytes; otherwise only their diagonals are computed.
PASSES, BYTES = 128, 128 * 2**20
# If X is sparse, the sample of one class becomes an array of at most this many bytes.
DENSE_BYTES = 8 * 2**20
# This part of Σ_i c_i times the mean of x_j² is added to the diagonal. Otherwise a feature that is nearly always 0
# in the rows where a class is in doubt would take steps that are far too long; see "Damping of rare features" in
# docs/notes.md.
DAMPING = 1e-3
# A fit with this many rows for each parameter needs no extra penalty at the start; see "An extra penalty at the start"
# in docs/notes.md.
EASY_ROWS = 16
# A feature of sparse X has few entries in the sample. So PRIOR entries of the usual size are added, with the weight
# that all rows have on average. And a feature less its mean keeps at least LEAST_SPREAD of its mean square.
PRIOR, LEAST_SPREAD = 1.0, 1e-3
# A number of a diagonal is at least this part of its class's largest.
LEAST = 1e-8


def undecided(K: int) -> float:
    """Return S_ik (1 - S_ik) of a sample for which all K classes have the same probability."""
    return (K - 1) / K**2


class Easing(NamedTuple):
    """An extra penalty, ½ Σ_j diagonal_j w_j², with which a fit should begin, and which it then reduces to its own."""

    diagonal: Vector
    least: float  # the part of the extra penalty that is as strong as the objective's own one


def easing(parameters: Parameters, penalty: Penalty, mean_squares: Vector, N: int) -> Easing | None:
    """Return an L2 penalty as strong as the damping of a usual feature at w = 0, or None if a fit needs none.

    It needs none if its own penalty is as strong, or if rows are so many that the loss is curved in all directions. The
    penalty is the same for all features, since features that are nearly always 0 would go astray with one in
    proportion to the features' squares; see "An extra penalty at the start" in docs/notes.md.
    """
    D, squares = parameters.D, mean_squares[: parameters.D]
    own = penalty.l2 if penalty.uniform else float(penalty.diagonal(D).mean())
    unit = DAMPING * undecided(parameters.K)
    if EASY_ROWS * parameters.size <= N or not own < unit * largest(squares) < np.inf:
        return None
    squares = np.sort(squares)
    squares = squares[np.searchsorted(squares, 0.0, "right") :]
    strength = unit * float(squares[(len(squares) - 1) // 2 : len(squares) // 2 + 1].mean())  # times the median
    if own >= strength:
        return None
    diagonal = np.zeros(parameters.size)
    parameters.weights(diagonal)[:] = strength
    return Easing(diagonal, own / strength)


class Fisher:
    """M at one w: called with g it returns M⁻¹ g. `refresh` computes M at another w, in the same memory.

    `together` returns M⁻¹ g for several g of any real dtype, and reads M once.
    """

    def __init__(
        self,
        w: Vector,
        rows: Rows,  # the rows that samples are drawn from, with their weights in the Hessian
        total: float,  # Σ s_i of these rows' weights in the loss
        parameters: Parameters,
        penalty: Penalty,
        *,
        mean_squares: Vector,  # the mean of each feature's square, and 1 for the intercept
        posterior: Callable[[Rows, Vector], Array],  # returns the posteriors of the classes with parameters, (n, count)
        passes_over: int,  # the number of samples in a pass, in which the cost of the blocks is counted
        n_threads: int,
        extra: Vector | None = None,  # the diagonal of a penalty besides the objective's own
        standard: tuple[Vector, Vector] | None = None,  # each feature's mean and inverse scale, if w is for scaled ones
        whole: bool = False,  # whether M itself is wanted, without damping, and not its inverse
        means: Callable[[], Vector] | None = None,  # returns the features' means, for diagonals of centred features
        diagonal: bool = False,  # whether diagonals are wanted, even if blocks are affordable
    ) -> None:
        self.whole, self.means = whole, means if parameters.intercept else None
        self.mean: Vector | None = None  # (1 or classes, D): the means that features are less of, if they are
        self.diagonal: Diagonal | None = None  # the inverse of a diagonal M, by a kernel
        self.parameters, self.penalty, self.mean_squares = parameters, penalty, mean_squares
        self.posterior, self.n_threads, self.dtype = posterior, n_threads, rows.dtype
        self.standard = standard
        P, classes, itemsize = parameters.each, parameters.count, rows.dtype.itemsize
        self.rows, self.X = rows, rows.X
        self.total = total
        self.count = min(len(rows), max(LEAST_ROWS, min(ROWS, FEW_PARAMETERS * P), int(MANY_PARAMETERS * P)))
        few = self.count * P <= 2 * PASSES * passes_over and classes * P * P * itemsize <= BYTES
        if isinstance(self.X, CSR):  # the sampled rows become an array
            few = few and self.count * P * itemsize <= DENSE_BYTES
        self.blocks = few and not diagonal and dispatch.kernels is not None
        if self.blocks:
            assert dispatch.kernels is not None
            ld, work = dispatch.kernels.fisher_sizes(P, itemsize)
            # This memory is kept from refresh to refresh, since new pages take long; see "Blocks by our own products"
            # in docs/notes.md.
            self.U, T = np.empty((classes, P, ld), self.dtype), np.empty((classes, P), self.dtype)
            space = np.empty(work * n_threads, self.dtype)
            self.factors = dispatch.kernels.Factors(self.U, T, space, parameters.intercept)
        self.refresh(w, extra)

    def refresh(self, w: Vector, extra: Vector | None = None) -> None:
        """Compute M at w, where `extra` is the diagonal of a penalty besides the objective's own."""
        # If all classes have the same numbers, there is one row of them, here and in the blocks.
        self.added = np.zeros((1, self.parameters.each))
        if extra is not None:
            self.added = self.parameters.by_class(extra, np.float64)
        self.added[:, : self.parameters.D] += (
            self.penalty.l2 if self.penalty.uniform else self.penalty.diagonal(self.parameters.D)
        )
        even = False
        if largest(steady(w)) != 0 or self.rows.offset is not None:
            c, self.weight, same = class_weights(self.posterior(self.rows, w), self.weights)
        elif self.rows.s is None:
            (c, self.weight), same, even = all_undecided(len(self.rows), self.parameters.K, self.total), True, True
        else:
            c, same = undecided(self.parameters.K) * self.weights, True
            self.weight = c.sum(axis=0)
        if self.blocks:
            self._factor(c, 1 if same else c.shape[1])  # one block serves all classes at w = 0
        else:
            self._invert_diagonals(c, even=even or (same and bool(c.min() == c.max())))

    @cached_property
    def weights(self) -> Array:
        """The weights of the rows in the Hessian, of which those in the loss sum to 1, (n, 1)."""
        return (self.rows.weights() / self.total)[:, np.newaxis]

    @property
    def matrices(self) -> Array:
        """The blocks, (classes, P, ld), or (1, P, ld) if all are the same; columns beyond P are arbitrary."""
        return self.U[: self.factors.count]

    def __call__(self, g: Vector) -> Vector:
        """Return M⁻¹ g."""
        return self.together([g])[0]

    def together(self, vectors: Sequence[Array]) -> list[Vector]:
        """Return M⁻¹ g for each g."""
        if not self.blocks:
            return [self._scaled(g) for g in vectors]
        parameters, count = self.parameters, len(vectors)
        # Each call has its own arrays, since the fits of several folds share a preconditioner and run at the same time.
        G, found = np.empty((count, parameters.count, parameters.each), self.dtype), np.empty((count, parameters.size))
        self.factors.apply(vectors, G, found, self.team(count))
        return list(found)

    @property
    def kernel(self) -> Inverse | None:
        """The kernel that multiplies by M⁻¹; None without compiled kernels."""
        return self.factors if self.blocks else self.diagonal

    def team(self, count: int, *, warm: bool = False) -> int:
        """Return how many threads multiply so many vectors; `warm` ones have just had other work, and wait awake."""
        parameters = self.parameters
        if not self.blocks:
            return self.n_threads if parameters.size >= PARALLEL else 1
        least = 2**16 if warm else 2**20  # see "Around the passes of a small fit" in docs/notes.md
        return min(self.n_threads, parameters.count) if count * parameters.size * parameters.each > least else 1

    @property
    def inverse(self) -> Vector:
        """The inverse of the diagonal in the order of the parameters, (size,)."""
        found: Vector = self.parameters.flat(
            np.broadcast_to(self.inverses, (self.parameters.count, self.parameters.each))
        )
        return found

    def _scaled(self, g: Array) -> Vector:
        """Return M⁻¹ g, where M is diagonal, for features less their means if `mean` is set."""
        parameters, z = self.parameters, np.empty(len(g))
        if self.diagonal is not None:
            self.diagonal.apply(g, z, self.team(1))
            return z
        (dW, db), (W, b), D = parameters.views(g), parameters.views(z), parameters.D
        W[:] = dW * self.inverses[:, :D]
        if db is not None and b is not None:
            b[:] = db * self.inverses[:, D]
            if self.mean is not None:
                W -= self.mean * self.inverses[:, :D] * db[:, np.newaxis]
                b -= (W * self.mean).sum(axis=1)
        return z

    def _factor(self, c: Vector, classes: int) -> None:
        """Compute so many blocks from samples of the rows with weights c (n, classes), and factor them."""
        dtype, X, P = self.dtype, self.X, self.parameters.each
        rows, weights = priority_samples(c, classes, self.count, self.n_threads)
        roots = np.sqrt(weights, out=weights).astype(dtype, copy=False)
        if isinstance(X, CSR) or not is_native(X, read_as(X.dtype)):
            used, rows = np.unique(rows, return_inverse=True)
            X = X[used].scipy(dtype).toarray() if isinstance(X, CSR) else native(X[used], read_as(X.dtype))
            rows = rows.reshape(roots.shape)
        added, unit = np.empty((classes, P), dtype), None
        if self.whole:
            added[:] = self.added[:classes]
        else:
            unit = np.empty((classes, P)) if dtype == F8 else None
            assert dispatch.kernels is not None
            dispatch.kernels.block_units(self.weight, self.mean_squares, self.added, DAMPING, added, unit)
        ridge = 32 * EPS[dtype if unit is None else F4]
        # One thread computes few small blocks in less time than a team of threads needs to start.
        threads = self.n_threads if classes * self.count * P * P > 2**21 else 1
        standard = None if self.standard is None else np.array(self.standard, dtype)
        self.factors.factor(X, rows, roots, added, ridge, threads, standard=standard, unit=unit, whole=self.whole)

    def _invert_diagonals(self, c: Vector, *, even: bool) -> None:
        """Compute the diagonals from all rows with weights c (n, classes), which may be equal, and invert them."""
        D, rows = self.parameters.D, max(c.shape[1], len(self.added))
        weights = self.weight if rows == len(self.weight) else np.repeat(self.weight, rows // len(self.weight))
        weight = weights[:, np.newaxis]
        if even:  # as at w = 0, so that the sums follow from the mean squares
            diagonal = weight * self.mean_squares
        else:
            diagonal = np.zeros((rows, self.parameters.each))
            diagonal[:, D:] = weight
            self._add_squares(c, weight, diagonal[:, :D])
        centred = self.means is not None and not self.whole
        self.inverses, self.mean = diagonal, np.empty((len(diagonal), D)) if centred else None
        if dispatch.kernels is None:
            self._invert(weight, even)
            return
        dispatch.kernels.invert_diagonals(
            diagonal,
            self.added,
            weights,
            self.means() if self.means is not None and centred else None,
            self.mean_squares[:D],
            self.mean,
            even=even,
            spread=LEAST_SPREAD,
            damping=LEAST,
        )
        layout = self.parameters
        self.diagonal = dispatch.kernels.Diagonal(diagonal, self.mean, layout.count, layout.intercept)

    def _add_squares(self, c: Vector, weight: Vector, sums: Vector) -> None:
        """Write the features' squares, summed with the weights c (n, classes) of the rows, to `sums`, which is 0."""
        D, X = self.parameters.D, self.X
        if isinstance(X, CSR):
            squares = X.scipy(np.float64)
            squares.data = np.square(squares.data)  # not in place, since the values may be the caller's
            sums[:] = (squares.T @ c).T
            if self.standard is not None:
                mean, inverse = self.standard
                linear = (X.scipy(np.float64).T @ c).T
                sums += mean * (mean * c.sum(axis=0)[:, np.newaxis] - 2 * linear)
                sums[:] = np.maximum(sums, 0) * inverse**2
            else:
                # These rows tell the mean weight of a feature's entries, and the mean squares, of more rows, their
                # size. A feature with few entries here gets about the mean weight of all rows.
                few = PRIOR * squares.data.mean() / len(X) if squares.nnz else 0.0
                sums += few * weight
                sums *= self.mean_squares[:D] / np.maximum(squares.T @ self.weights[:, 0] + few, TINY)
        else:
            at_once = max(1, 2**21 // D)
            for start in range(0, len(X), at_once):
                block = X[start : start + at_once]
                if self.standard is not None or not is_native(block, self.dtype):
                    block = block.astype(np.float64, order="C")
                if self.standard is not None:
                    block -= self.standard[0]
                    block *= self.standard[1]
                shares = c[start : start + at_once]
                sums += combinations(block, shares, self.n_threads, squared=True)

    def _invert(self, weight: Vector, even: bool) -> None:
        """Invert the diagonals, of features less their means if they are centred.

        A class's mean of a feature is assumed to be to the mean in all samples as the mean squares are to each other.
        """
        D, diagonal = self.parameters.D, self.inverses
        if self.mean is not None:
            assert self.means is not None
            squares = self.mean_squares[:D]
            self.mean[:] = self.means()
            if not even:
                self.mean *= diagonal[:, :D] / np.maximum(weight * squares, TINY)
            diagonal[:, :D] = np.maximum(diagonal[:, :D] - weight * self.mean**2, LEAST_SPREAD * diagonal[:, :D])
        diagonal += self.added
        least = LEAST * diagonal.max(axis=1, keepdims=True)
        np.divide(1, np.maximum(diagonal, np.maximum(least, TINY)), out=diagonal)


@lru_cache(maxsize=8)
def all_undecided(n: int, K: int, total: float) -> tuple[Vector, Vector]:
    """Return what `class_weights` does for n samples of the same weight 1 / total, and K classes as likely.

    Both are for all classes, (n, 1) and (1,), and must not be written to.
    """
    c = np.full((n, 1), undecided(K) * (1 / total))
    return c, c.sum(axis=0)


def class_weights(S: Array, weights: Vector) -> tuple[Vector, Vector, bool]:
    """Return c_ik = s_i S_ik (1 - S_ik) (n, classes), its sums, and whether it is the same for all classes.

    S (n, classes) are posteriors, and `weights` (n, 1) the s_i.
    """
    c, sums = np.empty(S.shape), np.empty(S.shape[1])
    if dispatch.kernels is None:
        np.multiply(S, 1 - S.astype(np.float64), out=c)
        c *= weights
        return c, c.sum(axis=0), bool((c == c[:, :1]).all())
    return c, sums, dispatch.kernels.class_weights(S, weights, c, sums)


@lru_cache(maxsize=8)
def _spread(n: int) -> Vector:
    """Return the numbers u_i in (0, 1) by which `priority_samples` draws from n rows."""
    u: Vector = np.arange(1, n + 1) * ((np.sqrt(5) - 1) / 2) % 1.0
    return u


def priority_samples(c: Vector, classes: int, count: int, n_threads: int = 1) -> tuple[npt.NDArray[np.intp], Vector]:
    """Return the numbers of `count` rows for each class, (classes, count), and the weights that they get.

    They are drawn in proportion to their weights, the columns of c (n, classes). Row i has the priority w_i / u_i, and
    the rows with the highest priorities are drawn. The weight of a drawn row is its own, or the highest priority of the
    other rows if that is larger; sums with these weights have no bias. The u_i are multiples of the golden ratio modulo
    1, which fill the unit interval evenly from any i on. If there are at most `count` rows, all are returned with their
    own weights. Where fewer rows weigh anything, others follow with a weight of 0.
    """
    assert dispatch.kernels is not None
    n, rows, weights = len(c), np.zeros((classes, count), np.intp), np.zeros((classes, count))
    # One thread draws from few rows in less time than a team of threads needs to start.
    threads = min(n_threads, classes) if n * classes > 2**14 else 1
    dispatch.kernels.draw_samples(c, _spread(n), rows, weights, np.empty((threads, 2 * n)), threads)
    return rows, weights
