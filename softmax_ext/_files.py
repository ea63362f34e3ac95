"""Files that are there whole or not at all: written aside in the same folder, brought to the disk, and renamed."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a name to write to, which becomes that of the file if nothing is raised: nobody sees half of it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_npz(path: Path, arrays: Mapping[str, npt.ArrayLike]) -> None:
    """Write arrays into an archive of exactly this name."""
    given: dict[str, Any] = dict(arrays)
    with whole(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **given)
