"""The command line's files: CSV, Parquet, NPZ and svmlight in, CSV, Parquet and NPZ out, never half-written."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

Array = npt.NDArray[Any]

SVMLIGHT = (".svmlight", ".svm", ".libsvm")
LABEL = "label"  # svmlight's name for the first number of a line, whose columns are called 1, 2, ...


class FileError(Exception):
    """A file, or a column of it, is not as it has to be; the message is for the user, on one line."""


class Table(NamedTuple):
    """The columns of one file; those of a sparse one stand in `csr`, named "1", "2", ..."""

    path: Path
    frame: Any  # a pandas.DataFrame
    csr: Any = None

    def columns(self) -> list[str]:
        """Names of the columns."""
        sparse = [] if self.csr is None else [str(j + 1) for j in range(self.csr.shape[1])]
        return [*map(str, self.frame.columns), *sparse]

    def target(self, name: str) -> Array:
        """Labels: integers, booleans or strings."""
        column = self._column(name)
        values = column.to_numpy()
        if values.dtype.kind == "f":
            odd = np.flatnonzero(values != np.trunc(values))
            if odd.size:
                raise FileError(
                    f"{self.path}: column {name!r}: {values[odd[0]]} in row {odd[0] + 1} is no label; for a target in "
                    "numbers use a regression"
                )
            values = values.astype(np.int64)
        labels: Array = values if values.dtype.kind in "biu" else values.astype(str)
        return labels

    def numbers(self, names: Sequence[str]) -> Any:
        """Features, (N, D): CSR of a svmlight file, else float32 if all columns are that narrow, or float64."""
        if self.csr is not None:
            return self._sparse(names)
        columns = [self._column(name) for name in names]
        narrow = all(column.dtype in ("float32", "float16", "int8", "uint8", "int16", "uint16") for column in columns)
        X = np.empty((len(self.frame), len(names)), np.float32 if narrow else np.float64)
        for j, (name, column) in enumerate(zip(names, columns, strict=True)):
            if column.dtype.kind not in "biuf":
                raise FileError(
                    f"{self.path}: column {name!r} holds {column.iloc[0]!r}, which is no number: encode it, or leave "
                    "it out with --ignore"
                )
            X[:, j] = column.to_numpy()
            odd = np.flatnonzero(~np.isfinite(X[:, j]))
            if odd.size:
                raise FileError(f"{self.path}: column {name!r}: {X[odd[0], j]} in row {odd[0] + 1} is not finite")
        return X

    def _column(self, name: str) -> Any:
        if name not in self.frame.columns:
            columns = self.columns()
            raise FileError(f"{self.path}: no column {name!r}; it has {_few(columns)}")
        column = self.frame[name]
        missing = np.flatnonzero(column.isna())
        if missing.size:
            raise FileError(f"{self.path}: column {name!r}: no value in row {missing[0] + 1} (missing: {missing.size})")
        return column

    def _sparse(self, names: Sequence[str]) -> Any:
        """Take the columns by their numbers; those beyond the file's last are zero, as the format has it."""
        for name in names:
            if not name.isdecimal() or name == "0":
                raise FileError(f"{self.path}: no column {name!r}; a svmlight file has columns 1, 2, ...")
        wanted = np.array([int(name) - 1 for name in names], np.intp)
        N, D = self.csr.shape
        wide = scipy.sparse.csr_array(
            (self.csr.data, self.csr.indices, self.csr.indptr), shape=(N, max(D, *wanted + 1))
        )
        if not np.isfinite(wide.data).all():
            raise FileError(f"{self.path}: a value is not finite")
        return wide if np.array_equal(wanted, np.arange(wide.shape[1])) else wide[:, wanted]


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)})" if len(names) > 8 else shown or "none"


def read(path: Path) -> Table:
    """Read a file by its suffix; rows are counted from 1 in messages, without a header.

    Raises
    ------
    FileError
        If the file cannot be read, has no rows, or its suffix is not known.
    """
    readers: dict[str, Callable[[Path], Table]] = {".csv": _csv, ".parquet": _parquet, ".npz": _npz}
    reader = _svmlight if path.suffix in SVMLIGHT else readers.get(path.suffix)
    if reader is None:
        known = ", ".join([*readers, *SVMLIGHT])
        raise FileError(f"{path}: the name must end in one of {known}")
    try:
        if not path.is_file():
            path.open("rb").close()  # which says what is wrong
        table = reader(path)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileError(f"{path}: {' '.join(reason.split()) or 'cannot be read'}") from error
    if not len(table.frame):
        raise FileError(f"{path}: no rows")
    return table


def _csv(path: Path) -> Table:
    import pandas as pd

    return Table(path, pd.read_csv(path, low_memory=False))


def _parquet(path: Path) -> Table:
    import pandas as pd

    return Table(path, pd.read_parquet(path, engine="pyarrow"))


def _npz(path: Path) -> Table:
    """Read an archive of arrays with a row a sample each; a two-dimensional one X gives the columns X0, X1, ..."""
    import pandas as pd

    columns: dict[str, Array] = {}
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        for name, array in archive.items():
            if array.ndim not in (1, 2):
                raise FileError(f"{path}: array {name!r} has shape {array.shape}; it must have one or two dimensions")
            parts = {name: array} if array.ndim == 1 else {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
            if columns and len(array) != len(next(iter(columns.values()))):
                raise FileError(f"{path}: array {name!r} has {len(array)} rows, those before it another number")
            columns |= parts
    return Table(path, pd.DataFrame(columns))


def _svmlight(path: Path) -> Table:
    import pandas as pd
    from sklearn.datasets import load_svmlight_file

    X, y = load_svmlight_file(str(path), zero_based="auto")
    return Table(path, pd.DataFrame({LABEL: y}), X)


def write(path: Path, columns: dict[str, Array]) -> None:
    """Write columns of one length by the suffix of the name, which `check_output` has looked at."""
    import pandas as pd

    with whole(path) as temporary:
        if path.suffix == ".npz":
            save_npz(temporary, columns)
        elif path.suffix == ".parquet":
            pd.DataFrame(columns).to_parquet(temporary, index=False)
        else:
            pd.DataFrame(columns).to_csv(temporary, index=False)


def save_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write arrays into an archive of exactly this name."""
    with path.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Refuse an output that could not be written, before the work for it is done."""
    if path.suffix not in suffixes:
        raise FileError(f"{path}: the name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise FileError(f"{path}: no folder {path.parent}")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary name in the same folder, renamed at the end: nobody sees half a file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
