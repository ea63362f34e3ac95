"""Runs of steps over mini-batches that can be stopped after any piece, saved, and continued to the same bits.

A batch is an objective of its own (objective.py), and a step is one call of an optimiser's `update` (optim.py). All
random numbers are drawn from (seed, epoch, piece), so that the state of a run is a few numbers beside the parameters.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._inputs.rows import Rows
from .._objective.penalty import Penalty
from .._objective.pieces import Problem, weighs
from .._optim import batches as _batches
from .._optim import optimizers
from .._optim.batches import batches

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Update = Callable[..., Any]
Prints = npt.NDArray[np.int64]

VERSION = 1  # of a saved state's format
# Steps with fewer rows x features x classes than this run on one thread. On a loaded machine, each step of two threads
# waits until both have had their turn on a processor (docs/notes.md, "Small steps on one thread").
ALONE = 2**24
RULES: dict[str, Callable[..., optimizers.Optimizer[Any]]] = {
    "sgd": optimizers.sgd,
    "momentum": optimizers.momentum,
    "nesterov": optimizers.nesterov,
    "adam": optimizers.adam,
}


@dataclass
class Stream:
    """The state of a run, which consists of numbers and arrays only."""

    v: Vector  # w times `scale`, which is what the steps change
    scale: Vector
    rule: Any  # the state of the optimiser
    seed: int
    rate: float  # the learning rate at the start
    epoch: int = 0  # how many epochs are over
    piece: int = 0  # how many pieces of the current epoch are over
    rows: float = 0.0  # how many rows the current epoch has seen, or all calls of partial_fit together
    weight: float = 0.0  # Σ s of all calls of partial_fit; 0 in a fit
    loss: float = 0.0  # Σ of the objective over the rows that the current epoch has seen
    history: list[float] = field(default_factory=list)  # the mean objective of each epoch
    validation: list[float] = field(default_factory=list)  # the validation loss after each epoch
    best: Vector = field(default_factory=lambda: np.empty(0))  # v, or its mean, at the least validation loss
    stale: int = 0  # how many epochs have passed since the last improvement
    data: Prints = field(default_factory=lambda: np.empty(0, np.int64))  # `fingerprint` of the data

    def arrays(self) -> dict[str, Array]:
        """Return everything as arrays that can be saved."""
        found = {name: np.asarray(value) for name, value in vars(self).items() if name != "rule"}
        return found | {f"rule_{i}": np.array(leaf) for i, leaf in enumerate(_leaves(self.rule))}

    @classmethod
    def of(cls, arrays: dict[str, Array], rule: Any) -> Stream:
        """Return the state that `arrays` has stored; `rule` is any state of the same optimiser, for its structure."""
        leaves = iter([arrays[f"rule_{i}"] for i in range(sum(name.startswith("rule_") for name in arrays))])
        values: dict[str, Any] = {"rule": _filled(rule, leaves)}
        for name, kind in (("seed", int), ("rate", float), ("epoch", int), ("piece", int), ("rows", float),
                           ("weight", float), ("loss", float), ("stale", int)):  # fmt: skip
            values[name] = kind(arrays[name])
        for name in ("history", "validation"):
            values[name] = arrays[name].tolist()
        for name in ("v", "scale", "best"):
            values[name] = np.array(arrays[name])
        if "data" in arrays:  # states of older versions have no fingerprint
            values["data"] = np.array(arrays["data"])
        return cls(**values)

    def step(self, update: Update, problem: Problem, batch: Rows, m: float, penalty: Penalty) -> float:
        """Take one step on a batch whose loss is divided by m; return the batch's objective before the step."""
        few = problem.n_threads is None and len(batch) * batch.D * problem.parameters.K < ALONE
        objective = problem.objective(batch, m=m, penalty=penalty, n_threads=1 if few else None)

        def evaluate() -> tuple[float, list[Vector]]:
            value, grad = objective.value_and_grad(self.v / self.scale)
            grad /= self.scale
            return value, [grad]

        value, self.rule = _batches.step(update, self.rule, [self.v], evaluate)
        with np.errstate(over="ignore", invalid="ignore"):
            fine = math.isfinite(value) and math.isfinite(self.v.sum())
        if not fine:
            raise FloatingPointError(
                f"the objective is {value} in epoch {self.epoch + 1}: lower learning_rate, or scale X's columns alike"
            )
        return value


def _leaves(state: Any) -> Iterator[Any]:
    """Yield the numbers and arrays of nested tuples and lists."""
    if isinstance(state, tuple | list):
        for part in state:
            yield from _leaves(part)
    else:
        yield state


def _filled(state: Any, leaves: Iterator[Array]) -> Any:
    """Return nested tuples and lists like `state`, with these leaves."""
    if isinstance(state, list):
        return [_filled(part, leaves) for part in state]
    if isinstance(state, tuple):
        return type(state)(*(_filled(part, leaves) for part in state))
    leaf = next(leaves)
    return np.array(leaf) if isinstance(state, np.ndarray) else type(state)(leaf.item())


# The numbers of a fingerprint, in their order, as messages call them.
PRINTS = ("number of rows", "X", "y", "weights")


def fingerprint(rows: int, some: Rows) -> Prints:
    """Return numbers that differ for other data: the number of rows, and checksums of some rows of X, y and weights.

    X contributes at most some 8000 rows, targets and weights with offsets all. The checksum is CRC-32 (ISO 3309), which
    depends on the order.
    """
    X = _some(some.X)
    if scipy.sparse.issparse(X):
        X = X.tocsr().sorted_indices()
        numbers = [X.data, X.indices.astype(np.int64), X.indptr.astype(np.int64)]
    else:
        numbers = [X]
    weights = [each for each in (some.s, some.offset) if each is not None]
    return np.array([rows, _crc(numbers), _crc([some.targets]), _crc(weights)], np.int64)


def _crc(arrays: list[Array]) -> int:
    found = 0
    for array in arrays:
        found = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"", found)
    return found


def scales(X: Any) -> Vector:
    """Return each feature's root mean square over the rows where it is not 0, (D,), from some rows of X.

    Steps are taken as if the features were divided by these scales, so that users need not scale their data, and sparse
    data stay sparse. A feature that is 0 in all these rows gets the mean of the other scales.
    """
    X = _some(X)
    if scipy.sparse.issparse(X):
        squares = np.bincount(X.indices, np.square(X.data, dtype=np.float64), X.shape[1])
        counts = np.bincount(X.indices[X.data != 0], minlength=X.shape[1])
    else:
        squares, counts = np.einsum("ij,ij->j", X, X, dtype=np.float64), np.count_nonzero(X, axis=0)
    known = counts > 0
    found = np.sqrt(squares[known] / counts[known])
    scale = np.full(X.shape[1], found.mean() if len(found) else 1.0)
    scale[known] = found
    return scale


def rate_of(name: str, X: Any, scale: Vector, fit_intercept: bool) -> float:
    """Return a learning rate for rows like these.

    A row's loss has a curvature of at most ‖x‖²/2, so gradient descent may take steps of 2/‖x‖², and with momentum μ
    steps of (1 - μ) times that. The length of Adam's steps does not depend on the gradient's, so its rate is 0.01.
    """
    if name == "adam":
        return 0.01
    X = _some(X)
    entries, by = (X.data, scale[X.indices]) if scipy.sparse.issparse(X) else (X, scale)
    square = float(np.square(entries / by).sum()) / int(X.shape[0]) + fit_intercept
    return (2.0 if name == "sgd" else 0.2) / max(square, 1.0)


def _some(X: Any) -> Any:
    """Return 4096 to 8191 rows of X, evenly spread, or all if there are fewer."""
    return X[:: max(1, X.shape[0] // 4096)]


def rule_of(name: str, schedule: Callable[[int], float], average: bool, after: int) -> optimizers.Optimizer[Any]:
    """Return the optimiser of a solver's name; with `average`, v is averaged over all steps after the first `after`."""
    rule = RULES[name](schedule)
    return optimizers.averaged(rule, after) if average else rule


@dataclass
class Epochs:
    """How a fit goes through its pieces, epoch after epoch. It has no state of its own: that is in a Stream."""

    pieces: Callable[[], Iterable[Rows]]  # returns the encoded pieces, once for each epoch
    problem: Problem
    update: Update
    size: int  # rows of a batch
    held_out: float  # fraction of the rows that are held out for validation
    result: Callable[[Stream], Vector]  # returns v, or its mean over the steps

    def parts(self, stream: Stream, number: int, piece: Rows) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return a piece's rows to train on, shuffled for this epoch, and its held-out rows, the same in each epoch."""
        rows = piece.weighing()
        held = np.empty(0, np.intp)
        if self.held_out:
            rows = np.random.default_rng([stream.seed, number]).permutation(rows)
            count = round(self.held_out * len(rows))
            held, rows = np.sort(rows[:count]), np.sort(rows[count:])
        np.random.default_rng([stream.seed, number, stream.epoch]).shuffle(rows)
        return rows, held

    def run(self, stream: Stream) -> Iterator[bool]:
        """Take the steps of the rest of an epoch. Yield False after each piece, and True when the epoch is over."""
        mean = self.problem.m / self.problem.counted  # a row's mean weight
        for number, piece in enumerate(self.pieces()):
            if number < stream.piece:
                continue
            rows, _ = self.parts(stream, number, piece)
            for batch in batches(piece, rows, self.size):
                n = len(batch)
                stream.loss += n * stream.step(self.update, self.problem, batch, n * mean, self.problem.penalty)
                stream.rows += n
            stream.piece = number + 1
            yield False
        stream.history.append(stream.loss / stream.rows)
        if self.held_out:
            self._validate(stream)
        stream.epoch, stream.piece, stream.loss, stream.rows = stream.epoch + 1, 0, 0.0, 0.0
        yield True

    def _validate(self, stream: Stream) -> None:
        """Append the mean loss of the held-out rows to the stream."""
        total = weight = 0.0
        w = self.result(stream) / stream.scale
        for number, piece in enumerate(self.pieces()):
            _, held = self.parts(stream, number, piece)
            for part in batches(piece, held, max(1, len(held))):
                if weighs(part):
                    total += self.problem.objective(part, m=1.0).value(w)
                    weight += part.total
        stream.validation.append(total / weight if weight else math.nan)
