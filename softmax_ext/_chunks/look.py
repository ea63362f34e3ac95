"""The first look at data in pieces, which takes a pass over them, and the file that keeps its results."""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._data.files import load, save
from .._inputs.rows import Rows
from .._objective.pieces import Survey, finite_piece, is_finite, merged, survey
from .._objective.sample import Sample

Array = npt.NDArray[Any]

VERSION = 1  # of the file's format
# For a fingerprint, so many pages of so many bytes are read from the data's files, spread evenly. They are likely to
# show that data were overwritten even if a file's size and date are as before.
PAGE, PAGES = 4096, 4096
# So many of an array's words, spread evenly, are hashed in their order; of all of them their exclusive or is taken,
# which 64 MiB take 3 ms for, against 18 ms for a CRC.
WORDS = 1024
SPARSE = "data", "indices", "indptr"  # the arrays of a sparse X


class Look(NamedTuple):
    """What a first look finds: a survey of all pieces, and a sample of the rows."""

    survey: Survey
    sample: Rows

    @classmethod
    def at(cls, pieces: Iterable[Rows]) -> Look:
        """Return what one pass over all pieces finds; raise ValueError if they cannot be fitted.

        Only the sample is looked through for NaN and infinity: to read all of X would take longer than all else, and
        the first evaluation finds them.
        """
        sample, found = Sample(), []
        for piece in pieces:
            found.append(survey(piece, finite=False))
            if not is_finite(sample.add(piece)):
                finite_piece(piece)
        whole = merged(found)
        if not sample.pieces:
            raise ValueError(f"Sample weights must contain at least one non-zero number: they sum to {whole.total()}")
        return cls(whole, sample.rows())

    def save(self, path: Path, data: str) -> None:
        """Write the look to a file with the fingerprint of its data; the file is replaced whole or not at all."""
        X, some = self.sample.X, self.sample
        arrays = {"X": X} if not scipy.sparse.issparse(X) else {name: getattr(X.tocsr(), name) for name in SPARSE}
        arrays |= {name: getattr(some, name) for name in ("y", "Y", "s", "offset")}
        arrays |= self.survey._asdict() | {"dtype": self.survey.dtype.name, "shape": X.shape}
        arrays |= {"version": VERSION, "fingerprint": data}
        save(path, {name: np.asarray(array) for name, array in arrays.items() if array is not None})

    @classmethod
    def load(cls, path: Path, data: str) -> Look | None:
        """Return the look that a file keeps; None if it is of other data or another version, missing or damaged."""
        try:
            arrays = load(path)
            if arrays["version"] != VERSION or arrays["fingerprint"] != data:
                return None
            dtype = np.dtype(str(arrays["dtype"]))
            X: Any = arrays.get("X")
            if X is None:
                X = scipy.sparse.csr_array(tuple(arrays[name] for name in SPARSE), shape=tuple(arrays["shape"]))
            elif X.dtype.kind == "V":  # NumPy writes bfloat16 as records of two bytes
                X = X.view(dtype)
            more = {name: arrays.get(name) for name in ("y", "Y", "s", "offset")}
            rows = Rows(X, where="a sample of the rows", **more)
            found = Survey(
                int(arrays["rows"]), int(arrays["D"]), dtype, arrays.get("labels"), arrays["weights"],
                arrays["counts"], str(arrays["where"]), int(arrays["offsets"]),
            )  # fmt: skip
            return cls(found, rows)
        except (FileNotFoundError, ValueError, TypeError, KeyError):
            return None


def mark(piece: Rows) -> tuple[object, ...]:
    """Return numbers that change if any value of a piece does, and, very likely, if its rows change places."""
    X = [getattr(piece.X, name) for name in SPARSE] if scipy.sparse.issparse(piece.X) else [piece.X]
    return tuple(_mark(each) for each in (*X, piece.y, piece.Y, piece.s, piece.offset) if each is not None)


def _mark(array: Array) -> tuple[object, ...]:
    """Return the mark of one array."""
    flat = array.ravel(order="K").view(np.uint8)
    words = flat[: len(flat) // 8 * 8].view(np.uint64)
    some = words[:: max(1, len(words) // WORDS)].tobytes()
    rest = zlib.crc32(flat[words.nbytes :].tobytes(), zlib.crc32(some))
    return array.shape, array.dtype.str, int(np.bitwise_xor.reduce(words)), rest


def fingerprint(files: Sequence[str], taken: Sequence[object]) -> str:
    """Return a hash that changes if the data do.

    It is made of `taken` (what is read from the files, such as the names of columns), of the files' names, sizes and
    dates, and of some of their pages. A folder stands for all files in it.
    """
    found = hashlib.sha256(repr(tuple(taken)).encode())
    each = [name for file in files for name in _within(file)]
    pages = max(1, PAGES // max(1, len(each)))
    for name in each:
        with open(name, "rb", buffering=0) as file:
            status = os.fstat(file.fileno())
            found.update(repr((os.path.basename(name), status.st_size, status.st_mtime_ns)).encode())
            for i in range(pages):
                file.seek(max(0, status.st_size - PAGE) * i // max(1, pages - 1))
                found.update(file.read(PAGE))
                if status.st_size <= PAGE:
                    break
    return found.hexdigest()


def _within(file: str) -> list[str]:
    """Return the files in a folder, sorted, or the file itself."""
    if not os.path.isdir(file):
        return [file]
    return sorted(os.path.join(folder, name) for folder, _, names in os.walk(file) for name in names)
