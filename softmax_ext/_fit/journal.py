"""A journal of a fit's passes over data in pieces: what each of them returned, so that one that is killed can go on.

Optimisers are deterministic. Begun anew, a fit asks for the same passes as before, and is given what they returned: it
soon is where it was broken off, to the bit, whatever its optimiser keeps of the way (pairs, preconditioners, counters).
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
from .._objective.pieces import PiecesObjective
from .stream import fingerprint

Vector = npt.NDArray[np.float64]

VERSION = 1  # of a file
QUESTION = 16  # bytes that tell one pass from another
# What stands before an answer: of which pass it is, how many numbers it has, and their CRC-32 (ISO 3309).
HEAD = np.dtype([("asked", f"V{QUESTION}"), ("numbers", "<i8"), ("sum", "<u4"), ("unused", "<u4")])
# Seconds after which the disk is waited for again: a process that is killed loses nothing, a machine these.
BETWEEN_SYNCS = 1.0


def course(objective: PiecesObjective, solver: str, **more: Any) -> dict[str, Any]:
    """Return what decides the course of a fit, but for the starting point and where it ends."""
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
        "set of data": fingerprint(problem.rows, objective.some).tolist(),  # of encoded rows, which depend on the above
    }


class Journal:
    """The file of one fit. It is made where it is not there, and gone on from where it is.

    Parameters
    ----------
    path : path
        The file.
    settings : mapping of str to what JSON has
        What must be the same for the fit to go on from it.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If the file is of other settings, or is no journal.
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
        """Return what this pass returned, or let it be computed, and keep that."""
        question = hashlib.blake2b(method.encode(), digest_size=QUESTION)
        for vector in vectors:
            question.update(np.ascontiguousarray(vector).data)
        asked = question.digest()
        if self.recalling:
            place = self.file.tell()
            if (answer := self._next(asked)) is not None:
                return answer
            # The rest was written half, or belongs to another course, as another kind of processor takes.
            self.file.seek(place)
            self.file.truncate()
            self.recalling = False
        answer = compute()
        self._add(asked, answer)
        return answer

    def _next(self, asked: bytes) -> Vector | None:
        """Return the next answer, if it is there whole and to this question."""
        head = self.file.read(HEAD.itemsize)
        if len(head) < HEAD.itemsize:
            return None
        (of,) = np.frombuffer(head, HEAD)
        size = os.fstat(self.file.fileno()).st_size - self.file.tell()
        if of["asked"].tobytes() != asked or not 0 <= of["numbers"] * 8 <= size:
            return None
        data = self.file.read(int(of["numbers"]) * 8)
        return np.frombuffer(data, "<f8").astype(np.float64) if zlib.crc32(data) == of["sum"] else None

    def _add(self, asked: bytes, answer: Vector) -> None:
        data = answer.astype("<f8", copy=False).tobytes()
        head = np.array([(np.void(asked), len(answer), zlib.crc32(data), 0)], HEAD)
        self.file.write(head.tobytes() + data)
        self.file.flush()
        if time.monotonic() > self.synced + BETWEEN_SYNCS:
            os.fsync(self.file.fileno())
            self.synced = time.monotonic()
