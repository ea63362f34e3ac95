"""Data in pieces: what a fit has to know of all of them beforehand, and the objective that is a sum over them.

Pieces are chunks of files (chunks.py) or partitions on a cluster (dask.py). Whoever reads them, they are added in their
order, by one thread: neither reading ahead nor the number of workers changes a bit.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._inputs.csr import check_stored, rows_of
from .._inputs.dtypes import COMPUTES_IN, is_real, native, read_as
from .._inputs.labels import numbered
from .._inputs.rows import Rows
from .binomial import objective_of
from .fisher import POOL, Easing, Fisher
from .memory import SoftmaxObjective
from .parameters import Parameters
from .penalty import Penalty

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

MiB = 2**20
# Bytes of X in a chunk, where nothing else tells how many rows it has.
CHUNK_BYTES = 64 * MiB
# A preconditioner's sample is kept in memory: below POOL rows only if those would take more than this.
SAMPLE_BYTES = 128 * MiB


def checked(X: Any, y: Any, s: Any, where: str, offset: Any = None) -> Rows:
    """Return a piece as arrays, without targets if y is None, and refuse what cannot be a piece of anything."""
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
    """Return what is added to the scores of a piece, (n, K), or (n, 1) for two classes."""
    offset = np.asarray(given)
    if offset.dtype.kind not in "fiub" or offset.ndim not in (1, 2) or offset.shape[0] != n:
        raise ValueError(
            f"{where}: offset must be ({n}, K) real numbers, or ({n},) for two classes, got shape {offset.shape} of "
            f"dtype {offset.dtype}"
        )
    return offset[:, np.newaxis] if offset.ndim == 1 else offset


def _of_frame(frame: Any, where: str) -> Array:
    """Return pandas' columns as an array, of a dtype that does not depend on which numbers this piece has."""
    wrong = [f"{name!r} ({dtype})" for name, dtype in frame.dtypes.items() if dtype.kind not in "fiub"]
    if wrong:
        raise ValueError(f"{where}: columns that hold no numbers: {', '.join(wrong)}; encode them, or leave them out")
    narrow = all(dtype == np.float32 for dtype in frame.dtypes)
    array: Array = frame.to_numpy(np.float32 if narrow else np.float64, na_value=np.nan)
    return array


def plain(y: Any, where: str = "y") -> Array:
    """Return labels as an array, of strings or numbers rather than of objects; refuse those that are missing."""
    array = np.asarray(y)
    if array.dtype.kind == "O" and array.size:
        if any(map(_is_missing, array.ravel().tolist())):
            raise ValueError(f"{where}: Input y contains NaN: a label is missing, leave out such rows")
        array = np.array(array.tolist())
    elif array.dtype.kind == "f" and np.isnan(array).any():
        raise ValueError(f"{where}: Input y contains NaN: a label is missing, leave out such rows")
    return array.astype(str) if array.dtype.kind == "O" else array


def _is_missing(label: Any) -> bool:
    """Whether a label is None, NaN, or pandas' NA or NaT, which are looked up by name: pandas need not be there."""
    return (
        label is None or type(label).__name__ in ("NAType", "NaTType") or (isinstance(label, float) and label != label)
    )


class Survey(NamedTuple):
    """What is to be known of some pieces before a fit."""

    rows: int
    D: int
    dtype: np.dtype[Any]  # of X
    labels: Array | None  # sorted; None for probabilities
    weights: Vector  # Σ s of each label; for probabilities Σ s of all, K times
    counts: Vector  # rows with weight, likewise
    where: str  # the first piece's name
    offsets: int = 0  # columns of the offset

    @property
    def classes(self) -> Array:
        """The labels, 0..K-1 for probabilities."""
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
        """Return what all pieces have in common; a nonpositive m is refused."""
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


def survey(piece: Rows) -> Survey:
    """Look at every entry of one piece, and refuse what is not finite."""
    if piece.y is None and piece.Y is None:
        raise ValueError(f"{piece.where}: there are no targets, which a fit needs: name them where the chunks are made")
    X, y, Y, s, where = piece.X, piece.y, piece.Y, piece.s, piece.where
    n, D = X.shape
    values = X.data if scipy.sparse.issparse(X) else X
    with np.errstate(all="ignore"):
        fine = bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())  # a sum may overflow, but is sooner
    if not fine:
        raise ValueError(f"{where}: Input X contains NaN or infinity, which a fit cannot use: fill or drop those rows")
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


def merged(surveys: Iterable[Survey]) -> Survey:
    """Put the surveys of all pieces together, in their order."""
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
    if one.labels is None:
        return f"{len(one.weights)} probabilities"
    return {"i": "integers", "u": "integers", "f": "numbers", "b": "booleans"}.get(one.labels.dtype.kind, "names")


class Problem(NamedTuple):
    """How any piece becomes an objective: whatever all of them have in common."""

    classes: Array
    rows: int  # of all pieces
    counted: int  # those with weight
    dtype: np.dtype[Any]  # of X
    soft: bool  # whether the targets are probabilities
    class_weights: Vector | None  # (K,)
    m: float  # Σ s over all pieces
    parameters: Parameters
    penalty: Penalty  # of the whole
    n_threads: int | None
    smoothing: float = 0.0  # of the targets

    def encoded(self, piece: Rows) -> Rows:
        """Return a piece as it is computed: labels 0..K-1 or targets, all weights, X converted; refuse what is new."""
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
        self, piece: Rows, *, m: float | None = None, penalty: Penalty | None = None, n_threads: int | None = None
    ) -> SoftmaxObjective:
        """Return the part of an encoded piece in the whole; without a penalty, unless one is given."""
        try:
            return objective_of(
                piece,
                self.parameters,
                Penalty() if penalty is None else penalty,
                n_threads=self.n_threads if n_threads is None else n_threads,
                m=self.m if m is None else m,
            )
        except (ValueError, TypeError) as error:
            raise type(error)(f"{piece.where}: {error}") from error


def weighs(piece: Rows) -> bool:
    """Whether a piece counts at all."""
    return bool(len(piece)) and (piece.s is None or bool(piece.s.any()))


class Journal(Protocol):
    """What keeps the results of passes: _fit/journal.py."""

    def passed(self, method: str, vectors: Sequence[Vector], compute: Callable[[], Vector]) -> Vector:
        """Return what this pass returned, or let it be computed, and keep that."""
        ...


class PiecesObjective:
    """f(w) = Σ over the pieces + l2/2 Σ_kd W_kd²: `SoftmaxObjective` for data in pieces.

    The Fisher preconditioner is that of a sample of the rows, which is an objective of its own.
    """

    def __init__(self, problem: Problem, sample: Rows) -> None:
        self.problem, self.parameters, self.penalty = problem, problem.parameters, problem.penalty
        self.sample = problem.objective(sample, m=sample.total, penalty=problem.penalty)
        self.some = sample
        self.best: tuple[float, Vector] | None = None  # the least value so far, and where
        self.journal: Journal | None = None  # what keeps the results of passes, for a fit that is killed

    def bare(self) -> Self:
        """Return the same without its penalty."""
        other = copy.copy(self)
        other.penalty, other.sample = Penalty(), copy.copy(self.sample)
        other.sample.penalty = Penalty()
        return other

    @property
    def size(self) -> int:
        """Entries of w."""
        return self.parameters.size

    @property
    def N(self) -> int:
        """Samples of all pieces."""
        return self.problem.rows

    @property
    def m(self) -> float:
        """Σ s of all pieces."""
        return self.problem.m

    @property
    def n_threads(self) -> int:
        """Threads of what is computed here."""
        return self.sample.n_threads

    @property
    def dtype(self) -> np.dtype[Any]:
        """float32 or float64: what X computes in."""
        return self.sample.dtype

    def _partials(self, method: str, *vectors: Vector) -> Iterator[Any]:
        """Yield what the method of each piece's objective returns, in the order of the pieces."""
        raise NotImplementedError

    def _passed(self, method: str, entries: int, *vectors: Vector) -> Vector:
        """Return the sum of what a method of the pieces returns, flat; of a value and a gradient the value is last."""

        def add_up() -> Vector:
            total = np.zeros(entries)
            for part in self._partials(method, *vectors):
                if isinstance(part, tuple):
                    value, grad = part
                    total[:-1] += grad
                    total[-1] += value
                else:
                    total += np.reshape(part, -1)
            return total

        return add_up() if self.journal is None else self.journal.passed(method, vectors, add_up)

    def _penalty_at(self, w: Vector) -> float:
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
        """Return the Hessian at w, (size, size) float64: for few parameters."""
        w = np.asarray(w, np.float64)
        matrix = self._passed("hessian", self.size**2, w).reshape(self.size, self.size)
        self.penalty.add_hessian(self.parameters, matrix)
        return matrix

    def easing(self) -> Easing | None:
        """Return the extra penalty from which a fit had better begin."""
        return self.sample.easing(self.problem.rows)

    def preconditioner(self, w: Vector, extra: Vector | None = None) -> Fisher:
        """Return what multiplies a vector by an approximate inverse of the Hessian at w."""
        return self.sample.preconditioner(w, extra)

    def curvature(self, w: Vector) -> Fisher:
        """Return the matrices of which `preconditioner` has the inverse."""
        return self.sample.curvature(w)

    @property
    def available(self) -> int:
        """Samples that matrices may be summed from: those of the sample."""
        return self.sample.available

    @property
    def flops(self) -> int:
        """Floating-point operations of a pass, about."""
        return self.sample.flops * self.N // self.sample.available

    @property
    def offset(self) -> Array | None:
        """What is added to the scores, of the sample."""
        return self.sample.offset

    def hessian_among(self, w: Vector, kept: npt.NDArray[np.intp], rows: int) -> Vector:
        """Return the Hessian at w of the kept parameters alone, of the sample: see `SoftmaxObjective.hessian_among`."""
        return self.sample.hessian_among(w, kept, rows)

    def among(self, *arguments: Any) -> Vector:
        """Return the same of other parameters: see `SoftmaxObjective.among`."""
        return self.sample.among(*arguments)

    def fisher(self, *arguments: Any, **keywords: Any) -> Fisher:
        """Return the preconditioner of other parameters, of the sample: see `SoftmaxObjective.fisher`."""
        return self.sample.fisher(*arguments, **keywords)


class Sample:
    """Every 2^t-th row with weight, t growing with the data: at most 2 POOL of them, wherever pieces begin."""

    def __init__(self) -> None:
        self.stride, self.seen = 1, 0
        self.pieces: list[tuple[int, Rows]] = []  # with the number of the first row among all

    def add(self, piece: Rows) -> None:
        """Take some rows of the next piece."""
        seen, most = self.seen + len(piece.weighing()), most_of_a_sample(piece.D, piece.X.dtype)
        while -(-seen // self.stride) > most:  # before any is copied
            self._thin()
        some = every(piece, self.seen, self.stride)
        if len(some):
            self.pieces.append((self.seen + -self.seen % self.stride, some))
        self.seen = seen

    def _thin(self) -> None:
        """Leave out every second row."""
        self.stride *= 2
        old, self.pieces = self.pieces, []
        while old:
            first, some = old.pop(0)
            some = every(some, first // (self.stride // 2), 2)
            if len(some):
                self.pieces.append((first + -first % self.stride, some))

    def rows(self) -> Rows:
        """Return them as one."""
        return Rows.joined([piece for _, piece in self.pieces])


def most_of_a_sample(D: int, dtype: np.dtype[Any]) -> int:
    """Return the most rows of a sample of (N, D) numbers."""
    return 2 * min(POOL, max(1024, SAMPLE_BYTES // (2 * D * COMPUTES_IN[dtype.char].itemsize)))


def every(piece: Rows, first: int, stride: int) -> Rows:
    """Return those rows with weight whose numbers the stride divides; the first of them is number `first` of all."""
    some = piece[piece.weighing()[-first % stride :: stride]]
    some.where = "a sample of the rows"
    return some
