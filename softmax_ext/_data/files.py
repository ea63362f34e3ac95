"""How files are written so that nobody finds half of one.

A file gets a temporary name in the same folder, is brought to the disk, and is then renamed.
"""

from __future__ import annotations

import os
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write to. If nothing is raised, the file gets its own name at the end."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_npz(path: Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write arrays into an archive of exactly this name; `numpy.savez` given a name would add ``.npz``."""
    given: dict[str, Any] = dict(arrays)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **given)


def save(path: str | os.PathLike[str], arrays: dict[str, npt.NDArray[Any]]) -> None:
    """Write arrays as .npz, so that a reader finds either all of them or the file that was there before."""
    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise TypeError(f"{objects[0]} holds Python objects, which would have to be pickled")
    target = Path(path)
    check_folder(target)
    save_npz(target, arrays)


def check_folder(path: Path) -> None:
    """Raise FileNotFoundError if the file's folder does not exist, with the name that the user gave."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: there is no folder {path.parent}, create it first")


def load(path: str | os.PathLike[str]) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays that `save` has written; raise ValueError if the file is damaged."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return dict(file)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole state: {error}") from error
