"""Data in pieces: what a fit has to know of all pieces beforehand, and the objective that is a sum over them.

Pieces are chunks of files (chunks.py) or partitions on a cluster (dask.py). Their results are added in a tree (tree.py)
by their numbers, so the bits depend neither on reading ahead nor on who adds which of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._inputs.csr import check_stored, rows_of
from .._inputs.dtypes import is_real, native, read_as
from .._inputs.labels import numbered
from .._inputs.rows import Rows
from .binomial import BinomialObjective, objective_of
from .constant import at_constant, sums_classes
from .fisher import Easing, Fisher
from .folds import Ask, Folds
from .memory import SoftmaxObjective
from .parameters import Parameters
from .penalty import Penalty
from .tree import Node, Sums, added_in_place, height, place, total

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

MiB = 2**20
# A chunk has this many bytes of X unless its number of rows is given.
CHUNK_BYTES = 64 * MiB
# No data have more pieces than this; while they are read, it is not known how many there will be.
MANY = 2**62


def checked(X: Any, y: Any, s: Any, where: str, offset: Any = None) -> Rows:
    """Return a piece of X, y (None for predictions), weights and offsets, once dtypes and shapes are checked.

    `where` is what errors call the piece.
    """
    if hasattr(X, "dtypes") and hasattr(X, "iloc"):
        X = _of_frame(X, where)
    X = X if scipy.sparse.issparse(X) else np.asarray(X)
    y, s = None if y is None else plain(y, where), None if s is None else np.asarray(s)
    if X.ndim != 2 or X.shape[1] == 0 or not is_real(X.dtype):
        raise ValueError(
            f"{where}: X must be (n, D) real numbers, got shape {X.shape} of dtype {X.dtype}: "
            "select the numeric columns"
        )
    if y is not None and (
        y.shape[:1] != X.shape[:1] or y.ndim > 2 or (y.ndim == 2 and (y.shape[1] < 2 or y.dtype.kind != "f"))
    ):
        raise ValueError(
            f"{where}: X has {X.shape[0]} rows, so y must be as many labels, or rows of K >= 2 "
            f"probabilities of a floating dtype, got shape {y.shape} of dtype {y.dtype}"
        )
    if s is not None and s.shape != X.shape[:1]:
        raise ValueError(f"{where}: sample_weight must be ({X.shape[0]},), got shape {s.shape}")
    if scipy.sparse.issparse(X):
        check_stored(X, f"{where}: X")
        X = rows_of(X)
    offset = None if offset is None else _offset_of(offset, X.shape[0], where)
    return Rows(X, s=s, where=where, offset=offset) if y is None else Rows.of(X, y, s, where, offset=offset)


def _offset_of(given: Any, n: int, where: str) -> Array:
    """Return the offsets of a piece's scores, (n, K), or (n, 1) for two classes, once they are checked."""
    offset = np.asarray(given)
    if offset.dtype.kind not in "fiub" or offset.ndim not in (1, 2) or offset.shape[0] != n:
        raise ValueError(
            f"{where}: offset must be ({n}, K) real numbers, or ({n},) for two classes, got shape {offset.shape} of "
            f"dtype {offset.dtype}"
        )
    return offset[:, np.newaxis] if offset.ndim == 1 else offset


def _of_frame(frame: Any, where: str) -> Array:
    """Return a data frame of pandas as an array, whose dtype depends on the columns' dtypes, not on their values."""
    wrong = [f"{name!r} ({dtype})" for name, dtype in frame.dtypes.items() if dtype.kind not in "fiub"]
    if wrong:
        raise ValueError(f"{where}: columns that hold no numbers: {', '.join(wrong)}; encode them, or leave them out")
    narrow = all(dtype == np.float32 for dtype in frame.dtypes)
    array: Array = frame.to_numpy(np.float32 if narrow else np.float64, na_value=np.nan)
    return array


def plain(y: Any, where: str = "y") -> Array:
    """Return labels as an array of numbers or strings, not of objects; raise ValueError if a label is missing."""
    array = np.asarray(y)
    if array.dtype.kind == "O" and array.size:
        if any(map(_is_missing, array.ravel().tolist())):
            raise ValueError(f"{where}: Input y contains NaN: a label is missing, leave out such rows")
        array = np.array(array.tolist())
    elif array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{where}: Input y contains NaN: a label is missing, leave out such rows")
    return array.astype(str) if array.dtype.kind == "O" else array


def _is_missing(label: Any) -> bool:
    """Return whether a label is None, NaN, or pandas' NA or NaT, known by name since pandas may not be installed."""
    return (
        label is None or type(label).__name__ in ("NAType", "NaTType") or (isinstance(label, float) and label != label)
    )


class Survey(NamedTuple):
    """What a fit has to know of one or more pieces before it begins."""

    rows: int
    D: int
    dtype: np.dtype[Any]  # of X
    labels: Array | None  # sorted; None for probabilities
    weights: Vector  # (K,): for each label Σ s of its rows; for probabilities K times Σ s of all rows
    counts: Vector  # (K,): for each label the number of its rows with weight; for probabilities K times that of all
    where: str  # what errors call the first piece
    offsets: int = 0  # columns of the offset, 0 without one

    @property
    def classes(self) -> Array:
        """The sorted labels, or 0..K-1 for probabilities."""
        return np.arange(len(self.weights)) if self.labels is None else self.labels

    def problem(
        self,
        penalty: Penalty,
        class_weights: Vector | None,
        fit_intercept: bool,
        n_threads: int | None,
        *,
        binary: bool = False,
    ) -> Problem:
        """Return what the objectives of all pieces have in common; raise ValueError unless m is positive and finite."""
        m, K = self.total(class_weights), len(self.classes)
        if self.offsets not in (0, K) and not (self.offsets == 1 and K == 2):
            raise ValueError(f"{self.where}: offset has {self.offsets} columns, but there are {K} classes")
        if not 0 < m < np.inf:
            raise ValueError(f"Sample weights must contain at least one non-zero number: they sum to {m}")
        soft = self.labels is None
        counts = self.counts[:1] if soft else self.counts if class_weights is None else self.counts[class_weights > 0]
        return Problem(
            classes=self.classes,
            rows=self.rows,
            counted=int(counts.sum()),
            dtype=self.dtype,
            soft=soft,
            class_weights=class_weights,
            m=m,
            parameters=Parameters(len(self.classes), self.D, fit_intercept, binary),
            penalty=penalty,
            n_threads=n_threads,
        )

    def total(self, class_weights: Vector | None = None) -> float:
        """Return m, the sum of all weights."""
        if self.labels is None:
            return float(self.weights[0])
        return float(self.weights.sum() if class_weights is None else class_weights @ self.weights)


def survey(piece: Rows, *, finite: bool = True) -> Survey:
    """Return the survey of one piece; raise ValueError if it has no targets, or an entry is not finite.

    `finite` tells whether to look for NaN and infinity in X. If not, who passes over X has to do so.
    """
    if piece.y is None and piece.Y is None:
        raise ValueError(f"{piece.where}: there are no targets, which a fit needs: name them where the chunks are made")
    X, y, Y, s, where = piece.X, piece.y, piece.Y, piece.s, piece.where
    n, D = X.shape
    if finite:
        finite_piece(piece)
    if s is not None and not ((s >= 0) & (s < np.inf)).all():
        raise ValueError(f"{where}: sample_weight must be finite and not negative")
    offsets = 0 if piece.offset is None else piece.offset.shape[1]
    if piece.offset is not None and not np.isfinite(piece.offset).all():
        raise ValueError(f"{where}: offset contains NaN or infinity, which a fit cannot use")
    if Y is not None:
        K, m, count = Y.shape[1], n if s is None else s.sum(), n if s is None else np.count_nonzero(s)
        return Survey(n, D, X.dtype, None, np.full(K, float(m)), np.full(K, float(count)), where, offsets)
    assert y is not None
    if y.dtype.kind == "f" and not (np.isfinite(y).all() and (y == np.floor(y)).all()):
        raise ValueError(f"{where}: Unknown label type: continuous. Classifiers need labels, y has {y.dtype}")
    labels, index = numbered(y)
    weights, counts = (
        np.bincount(index, by, len(labels)).astype(np.float64) for by in (s, None if s is None else s > 0)
    )
    return Survey(n, D, X.dtype, labels, weights, counts, where, offsets)


def is_finite(piece: Rows) -> bool:
    """Return whether all entries of X are finite."""
    values = piece.X.data if scipy.sparse.issparse(piece.X) else piece.X
    with np.errstate(all="ignore"):
        # The sum is faster to check than all entries, but may overflow although all are finite.
        return values.dtype.kind in "iub" or bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def finite_piece(piece: Rows) -> Rows:
    """Return the piece; raise ValueError if X has an entry that is not finite."""
    if not is_finite(piece):
        raise ValueError(
            f"{piece.where}: Input X contains NaN or infinity, which a fit cannot use: fill or drop those rows"
        )
    return piece


def merged(surveys: Iterable[Survey]) -> Survey:
    """Return the survey of all pieces together; raise ValueError if they do not fit together."""
    found = list(surveys)
    if not any(one.rows for one in found):
        raise ValueError("the data has no rows: found 0 samples, a minimum of 1 is required")
    found = [one for one in found if one.rows]
    first = found[0]
    for one in found[1:]:
        for name, ours, theirs in (
            ("features", one.D, first.D),
            ("dtype of X", one.dtype, first.dtype),
            ("kind of y", _kind(one), _kind(first)),
            ("columns of the offset", one.offsets, first.offsets),
        ):
            if ours != theirs:
                raise ValueError(f"{one.where}: {name} {ours}, but {first.where} has {theirs}: all must be alike")
    rows = sum(one.rows for one in found)
    if first.labels is None:
        weights, counts = (
            np.sum(each, axis=0) for each in ([one.weights for one in found], [one.counts for one in found])
        )
        return first._replace(rows=rows, weights=weights, counts=counts)
    labels, index = np.unique(np.concatenate([one.labels for one in found]), return_inverse=True)
    weights, counts = (
        np.bincount(index, np.concatenate(each), len(labels)).astype(np.float64)
        for each in ([one.weights for one in found], [one.counts for one in found])
    )
    return first._replace(rows=rows, labels=labels, weights=weights, counts=counts)


def _kind(one: Survey) -> str:
    """Return what errors call the kind of targets."""
    if one.labels is None:
        return f"{len(one.weights)} probabilities"
    return {"i": "integers", "u": "integers", "f": "numbers", "b": "booleans"}.get(one.labels.dtype.kind, "names")


class Problem(NamedTuple):
    """What the objectives of all pieces have in common."""

    classes: Array  # (K,), sorted
    rows: int  # the rows of all pieces
    counted: int  # the rows of all pieces with weight
    dtype: np.dtype[Any]  # of X
    soft: bool  # whether the targets are probabilities
    class_weights: Vector | None  # (K,)
    m: float  # Σ s over all pieces
    parameters: Parameters
    penalty: Penalty  # of the sum over all pieces, which is penalised once
    n_threads: int | None
    smoothing: float = 0.0  # label smoothing

    def encoded(self, piece: Rows) -> Rows:
        """Return a piece with labels 0..K-1 or smoothed targets, complete weights, and X as kernels read it.

        Raise ValueError if it has a label, a dtype or a number of columns that the survey did not find.
        """
        X, y, s, where = piece.X, piece.y, piece.s, piece.where
        if piece.D != self.parameters.D or X.dtype != self.dtype or (piece.Y is not None) != self.soft:
            raise ValueError(
                f"{where}: X has {piece.D} columns of {X.dtype}, expected {self.parameters.D} of {self.dtype}, as "
                "before: the data must not change between passes"
            )
        if y is not None:
            K = len(self.classes)
            if y.dtype.kind not in "iu" or not np.array_equal(self.classes, np.arange(K)):
                index = np.minimum(np.searchsorted(self.classes, y), K - 1)
                new = self.classes[index] != y
                if new.any():
                    raise ValueError(f"{where}: y has the label {y[new.argmax()]!r}, which it had not at first")
                y = index
        if self.class_weights is not None:
            s = self.class_weights[y] if s is None else s * self.class_weights[y]
        if not scipy.sparse.issparse(X):
            X = native(X, read_as(X.dtype))
        return replace(piece, X=X, y=y, s=s).smoothed(len(self.classes), self.smoothing)

    def objective(
        self,
        piece: Rows,
        *,
        m: float | None = None,
        penalty: Penalty | None = None,
        n_threads: int | None = None,
        room: npt.NDArray[np.intp] | None = None,
    ) -> SoftmaxObjective:
        """Return the objective of an encoded piece, which is a term of the whole sum; without a penalty by default.

        Labels are copied to `room` if it is given; then the objective is of use until others are copied there.
        """
        try:
            return objective_of(
                piece,
                self.parameters,
                Penalty() if penalty is None else penalty,
                n_threads=self.n_threads if n_threads is None else n_threads,
                m=self.m if m is None else m,
                room=room,
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{piece.where}: {error}") from error


def weighs(piece: Rows) -> bool:
    """Return whether a piece has a row with weight."""
    return bool(len(piece)) and (piece.s is None or bool(piece.s.any()))


class Journal(Protocol):
    """What keeps the results of passes, so that a fit that was killed can go on; see _fit/journal.py."""

    def passed(self, method: str, vectors: Sequence[Vector], compute: Callable[[], Vector]) -> Vector:
        """Return the result of a pass: the one that was kept, or else a computed one, which is kept then."""
        ...


class Pieces:
    """Data in pieces, as fits, paths and folds need them: chunks of files, or a cluster's partitions."""

    names: tuple[str, ...] | None  # of the features
    kind: str  # what errors call all of them

    def look(self) -> tuple[Survey, Rows]:
        """Return the survey of all pieces, and a sample of their rows."""
        raise NotImplementedError

    def objective(self, problem: Problem, sample: Rows, folds: Folds | None = None) -> PiecesObjective:
        """Return the objective of a problem that the survey has found, with the sample."""
        raise NotImplementedError

    def each(self, function: Callable[..., Any], *arguments: Any, folds: Folds | None = None) -> Iterator[Any]:
        """Yield what a function returns for each piece, and, with folds, its `Places`; in the order of the pieces."""
        raise NotImplementedError

    def reading(self) -> AbstractContextManager[None]:
        """Return the context of several passes, which may keep what all of them need."""
        return nullcontext()


class PiecesObjective:
    """`SoftmaxObjective` for data in pieces: f(w) is a sum over the pieces' objectives, plus the penalty.

    The preconditioner and other matrices are computed from a sample of the rows, which has an objective of its own.
    """

    def __init__(self, problem: Problem, sample: Rows) -> None:
        self.problem, self.parameters = problem, problem.parameters
        self.sample = problem.objective(sample, m=sample.total, penalty=problem.penalty)
        self.some = sample
        self.best: tuple[float, Vector] | None = None  # the least value so far, and its w
        self._class_sums: Vector | None = None  # those of `SoftmaxObjective`, once they are known
        self.journal: Journal | None = None
        self.sweep: Any = None  # what keeps the answers to fits that go side by side: see _fit/journal.py
        self.folds: Folds | None = None
        self.fold: int | None = None  # the fold whose rows the sums are over; None for all
        self.weights_of_folds: Sequence[float] = ()  # Σ s that each fold trains with
        self.ask_beside: Callable[[Ask], Vector] | None = None
        self.finite = True  # whether it is known that X has neither NaN nor infinity

    def bare(self) -> Self:
        """Return the same objective without its penalty."""
        other = copy.copy(self)
        other.sample = copy.copy(self.sample)
        other.penalty = Penalty()
        return other

    @property
    def penalty(self) -> Penalty:
        """The penalty of the sum, which is that of the sample, too."""
        return self.sample.penalty

    @penalty.setter
    def penalty(self, penalty: Penalty) -> None:
        self.sample.penalty = penalty

    @property
    def size(self) -> int:
        """The number of entries of w."""
        return self.parameters.size

    @property
    def N(self) -> int:
        """The number of samples in all pieces."""
        return self.problem.rows

    @property
    def m(self) -> float:
        """Σ s over all pieces."""
        return self.problem.m

    @property
    def n_threads(self) -> int:
        """The number of threads that compute the matrices, and pieces in this process."""
        return self.sample.n_threads

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the computation, float32 or float64."""
        return self.sample.dtype

    def beside(self, beside: Callable[[Ask], Vector], fold: int | None) -> Self:
        """Return the objective of a fold, or of all rows, for a fit beside others: `beside` returns sums for it.

        Matrices are those of the sample of all rows, without regard to the fold.
        """
        other = copy.copy(self)
        other.sample, other.fold, other.ask_beside = copy.copy(self.sample), fold, beside
        other.sample.n_threads = 1  # the threads are busy with other fits
        other._class_sums = None  # they are those of the fold
        if fold is not None:
            other.problem = self.problem._replace(m=self.weights_of_folds[fold])
        return other

    def _partials(self, asks: Sequence[Ask]) -> Iterator[tuple[Node, Sums]]:
        """Yield nodes of the tree that together hold all pieces, from the left to the right, with their sums.

        Pieces without rows are not numbered, and those without weight have None.
        """
        raise NotImplementedError

    def _check_finite(self) -> None:
        """Raise ValueError if X has an entry that is not finite."""
        raise NotImplementedError

    def together(self, asks: Sequence[Ask]) -> list[Vector]:
        """Return the sums that are asked for, by one pass. Of a value and a gradient, the value is the last entry.

        If X has NaN or infinity, so have the sums, whatever the coefficients. So only sums that are not finite lead to
        a pass that looks for such entries.
        """
        held: dict[Node, Sums] = {}
        for node, sums in self._partials(asks):
            place(held, node, sums, added_in_place, MANY, height(MANY))
        found = total(held) or [None] * len(asks)
        if not self.finite and not all(sums is None or np.isfinite(sums).all() for sums in found):
            self._check_finite()
            self.finite = True
        return [np.zeros(ask.entries) if sums is None else sums for ask, sums in zip(asks, found, strict=True)]

    def answered(self, asks: Sequence[Ask]) -> list[Vector]:
        """Return what `together` does; if the sweep has a checkpoint, only what that does not keep is computed."""
        return self.together(asks) if self.sweep is None else list(self.sweep.answered(asks, self.together))

    def _passed(self, method: str, entries: int, *vectors: Vector) -> Vector:
        """Return the sum of what a method of the pieces' objectives returns, as a vector of so many entries."""
        ask = Ask(method, entries, vectors, self.fold, self.m)
        if self.ask_beside is not None:
            return self.ask_beside(ask)
        if self.journal is not None:
            return self.journal.passed(method, vectors, lambda: self.together([ask])[0])
        return self.together([ask])[0]

    def _penalty_at(self, w: Vector) -> float:
        """Return the penalty's value at w."""
        return self.penalty.value(self.parameters.weights(w), self.sample.n_threads)

    def value(self, w: npt.ArrayLike) -> float:
        """Return f(w)."""
        w = np.asarray(w, np.float64)
        return float(self._passed("value", 1, w)[0]) + self._penalty_at(w)

    def value_and_grad(self, w: npt.ArrayLike) -> tuple[float, Vector]:
        """Return f(w) and its gradient, (size,) float64."""
        w = np.asarray(w, np.float64)
        total = self._passed("value_and_grad", self.size + 1, w)
        value, grad = float(total[-1]) + self._penalty_at(w), total[:-1]
        self.penalty.add_gradient(self.parameters.weights(w), self.parameters.weights(grad))
        if self.best is None or value < self.best[0]:
            self.best = value, w.copy()
        return value, grad

    def at_constant(self, w: Vector) -> tuple[float, Vector]:
        """Return f(w) and its gradient, (size,) float64, for a w whose weights are 0, such as the start of a fit."""
        if not sums_classes(self.sample._rows, self.parameters, self.flops):
            return self.value_and_grad(w)
        K = self.parameters.K
        if self._class_sums is None:
            self._class_sums = self._passed("class_sums", K + K * self.parameters.D)
        return at_constant(w, self.parameters, self._class_sums[:K], self._class_sums[K:].reshape(K, -1))

    def unmoved(self, w: Vector) -> tuple[float, Vector]:
        """Return the loss and its gradient as they would be without the offset."""
        total = self._passed("unmoved", self.size + 1, w)
        return float(total[-1]), total[:-1]

    def offset_moments(self) -> Vector:
        """Return what the offset adds up to: see `SoftmaxObjective.offset_moments`."""
        return self._passed("offset_moments", self.parameters.K + 1)

    def hessp(self, w: npt.ArrayLike, v: npt.ArrayLike) -> Vector:
        """Return the Hessian at w times v, (size,) float64."""
        w, v = np.asarray(w, np.float64), np.asarray(v, np.float64)
        product = self._passed("hessp", self.size, w, v)
        self.penalty.add_product(self.parameters.weights(v), self.parameters.weights(product))
        return product

    def hessian(self, w: npt.ArrayLike) -> Vector:
        """Return the Hessian at w, (size, size) float64. It is meant for few parameters."""
        w = np.asarray(w, np.float64)
        matrix = self._passed("hessian", self.size**2, w).reshape(self.size, self.size)
        self.penalty.add_hessian(self.parameters, matrix)
        return matrix

    def squared_scores(self, w: npt.ArrayLike) -> Vector:
        """Return the sum of squared scores at w, (size, size) float64; see `SquaredScores`."""
        return self._passed("squared_scores", self.size**2, np.asarray(w, np.float64)).reshape(self.size, self.size)

    def easing(self) -> Easing | None:
        """Return the extra penalty with which a fit should begin, or None if it needs none."""
        return self.sample.easing(self.problem.rows)

    def preconditioner(self, w: Vector, extra: Vector | None = None) -> Fisher:
        """Return the preconditioner at w, which multiplies vectors by an approximate inverse of the Hessian."""
        return self.sample.preconditioner(w, extra)

    def curvature(self, w: Vector) -> Fisher:
        """Return the matrices that `preconditioner` inverts."""
        return self.sample.curvature(w)

    @property
    def available(self) -> int:
        """The number of samples that matrices are summed from: those of the sample in memory."""
        return self.sample.available

    @property
    def flops(self) -> int:
        """About the number of floating-point operations in a pass."""
        return self.sample.flops * self.N // self.sample.available

    @property
    def offset(self) -> Array | None:
        """The offsets of the scores of the sample in memory; None without offsets."""
        return self.sample.offset

    def hessian_among(self, w: Vector, kept: npt.NDArray[np.intp], rows: int) -> Vector:
        """Return the Hessian by the kept parameters, from the sample in memory; see `SoftmaxObjective`."""
        return self.sample.hessian_among(w, kept, rows)

    @property
    def mean_squares(self) -> Vector:
        """The mean squares of the features in the sample in memory; see `SoftmaxObjective.mean_squares`."""
        return self.sample.mean_squares

    @property
    def means(self) -> Vector:
        """The means of the features in the sample in memory."""
        return self.sample.means

    def operations_among(self, kept: npt.NDArray[np.intp]) -> float:
        """Return about how many operations each sample takes in `hessian_among`."""
        return self.sample.operations_among(kept)

    def thinned(self) -> SoftmaxObjective | None:
        """Return the objective of rows of the sample, whose Hessian may replace this one's, as in memory; else None."""
        return self.sample.thinned(self.N) if isinstance(self.sample, BinomialObjective) else None

    def among(self, *arguments: Any) -> Vector:
        """Return the Hessian by other parameters, from the sample in memory; see `SoftmaxObjective.among`."""
        return self.sample.among(*arguments)

    def fisher(self, *arguments: Any, **keywords: Any) -> Fisher:
        """Return the preconditioner for other parameters, from the sample in memory; see `SoftmaxObjective.fisher`."""
        return self.sample.fisher(*arguments, **keywords)
