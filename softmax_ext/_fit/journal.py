"""A journal of a fit's passes over data in pieces, from which a fit that was killed can go on.

Optimisers are deterministic. When a fit starts again, it asks for the same passes as before, and the journal returns
their results without a pass. So the fit soon is where it was broken off, to the bit, and the optimiser's own state
(pairs of L-BFGS, preconditioners, counters) need not be saved.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .._data.files import check_folder, whole
from .._objective.folds import Ask
from .._objective.pieces import PiecesObjective
from .stream import fingerprint

Vector = npt.NDArray[np.float64]

VERSION = 1  # of the file's format
QUESTION = 16  # length in bytes of the hash of a pass's method and vectors
# The record before each answer: the hash of its pass, how many numbers it has, and their CRC-32 (ISO 3309).
HEAD = np.dtype([("asked", f"V{QUESTION}"), ("numbers", "<i8"), ("sum", "<u4"), ("unused", "<u4")])
# Answers are forced to the disk once in so many seconds. If the process is killed, none is lost; if the machine fails,
# those of these seconds are.
BETWEEN_SYNCS = 1.0


def course(objective: PiecesObjective, solver: str, **more: Any) -> dict[str, Any]:
    """Return all settings that decide which passes a fit takes, except its starting point and when it stops."""
    problem, penalty = objective.problem, objective.penalty
    weights = [each for each in (problem.class_weights, penalty.weights) if each is not None]
    return {
        "sum of weights": problem.m,
        "set of classes": [str(label) for label in problem.classes],
        "dtype": problem.dtype.name,
        "fit_intercept": problem.parameters.intercept,
        "penalty": [penalty.l2, penalty.l1, penalty.grouped],
        "class_weight or penalty_weights": [each.tolist() for each in weights],
        "label_smoothing": problem.smoothing,
        "solver": solver,
        **more,
        "set of data": fingerprint(problem.rows, objective.some).tolist(),  # last, since it depends on settings above
    }


class Journal:
    """The journal of one fit, in a file that is created if it does not exist, and continued if it does.

    Parameters
    ----------
    path : path
        The file.
    settings : mapping of str to values of JSON
        Settings that must be the same for a fit to go on from the file.

    Raises
    ------
    FileNotFoundError
        If the file's folder does not exist.
    ValueError
        If the file has other settings, or is no journal.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        self.path, self.synced = Path(path), time.monotonic()
        check_folder(self.path)
        given = json.loads(json.dumps({"softmax_ext journal": VERSION, **settings}))
        if not self.path.exists():
            with whole(self.path) as temporary:
                temporary.write_bytes(json.dumps(given).encode() + b"\n")
        self.file = self.path.open("r+b")
        try:
            self._check(given)
        except BaseException:
            self.file.close()
            raise
        self.recalling = True

    def _check(self, given: dict[str, Any]) -> None:
        """Raise ValueError if the file's first line does not have these settings."""
        try:
            found = json.loads(self.file.readline())
            found["softmax_ext journal"]
        except (ValueError, TypeError, KeyError):
            raise ValueError(
                f"{self.path} is not the checkpoint of such a fit: remove it, or name another file"
            ) from None
        if others := [name for name in {**given, **found} if given.get(name) != found.get(name)]:
            name = others[0]
            raise ValueError(
                f"{self.path} is of a fit with another {name}, {found.get(name)!r} where this has {given.get(name)!r}: "
                "remove it, or name another file"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def passed(self, method: str, vectors: Sequence[Vector], compute: Callable[[], Vector]) -> Vector:
        """Return the recorded answer to this pass, or compute it and record it."""
        asked = _question(method, vectors)
        if self.recalling:
            place = self.file.tell()
            if (answer := self._next(asked)) is not None:
                return answer
            # From here on the file is half written, or was recorded by a processor that rounds differently, so that the
            # fits have parted. It is cut off.
            self.file.seek(place)
            self.file.truncate()
            self.recalling = False
        answer = compute()
        self._add(asked, answer)
        return answer

    def _next(self, asked: bytes) -> Vector | None:
        """Return the next answer in the file, or None if it is not whole or belongs to another pass."""
        found = self._record()
        return found[1] if found is not None and found[0] == asked else None

    def _record(self) -> tuple[bytes, Vector] | None:
        """Return the next question in the file and its answer, or None if it is not whole."""
        head = self.file.read(HEAD.itemsize)
        if len(head) < HEAD.itemsize:
            return None
        (of,) = np.frombuffer(head, HEAD)
        size = os.fstat(self.file.fileno()).st_size - self.file.tell()
        if not 0 <= of["numbers"] * 8 <= size:
            return None
        data = self.file.read(int(of["numbers"]) * 8)
        if zlib.crc32(data) != of["sum"]:
            return None
        return of["asked"].tobytes(), np.frombuffer(data, "<f8").astype(np.float64)

    def _add(self, asked: bytes, answer: Vector) -> None:
        """Append an answer to the file."""
        data = answer.astype("<f8", copy=False).tobytes()
        head = np.array([(np.void(asked), len(answer), zlib.crc32(data), 0)], HEAD)
        self.file.write(head.tobytes() + data)
        self.file.flush()
        if time.monotonic() > self.synced + BETWEEN_SYNCS:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()


class SweepJournal(Journal):
    """The journal of fits that go side by side, of which any answer is found by its question.

    Which fits ask beside which is up to the system's scheduler, so there is no order to follow. What a fit asks does
    not depend on the fits to weaker penalties, so a sweep that goes on to those finds the answers of the fits before.
    """

    def __init__(self, path: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
        super().__init__(path, settings)
        self.places: dict[bytes, int] = {}  # where the record of a question begins
        place = self.file.tell()
        while (record := self._record()) is not None:
            self.places[record[0]], place = place, self.file.tell()
        self.file.seek(place)
        self.file.truncate()  # what is half written or damaged, and all after it

    def answered(self, asks: Sequence[Ask], compute: Callable[[Sequence[Ask]], list[Vector]]) -> list[Vector]:
        """Return the answers to all questions: those that are kept, and others by one pass, which are kept then."""
        asked = [_question(f"{ask.method} {ask.fold}", ask.vectors) for ask in asks]
        new = [i for i, question in enumerate(asked) if question not in self.places]
        found = dict(zip(new, compute([asks[i] for i in new]) if new else [], strict=True))
        for i, answer in found.items():
            self.places[asked[i]] = self.file.seek(0, os.SEEK_END)
            self._add(asked[i], answer)
        return [found[i] if i in found else self._kept(question) for i, question in enumerate(asked)]

    def _kept(self, question: bytes) -> Vector:
        """Return the answer that the file has to a question."""
        self.file.seek(self.places[question])
        record = self._record()
        if record is None or record[0] != question:
            raise ValueError(f"{self.path} has been changed while a fit used it: remove it, or name another file")
        return record[1]


def _question(method: str, vectors: Sequence[Vector]) -> bytes:
    """Return the hash of what is asked."""
    question = hashlib.blake2b(method.encode(), digest_size=QUESTION)
    for vector in vectors:
        question.update(np.ascontiguousarray(vector).data)
    return question.digest()
