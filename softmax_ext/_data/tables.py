"""The command line's tables: CSV, TSV, Parquet, Arrow and NPZ are read and written, HDF5 and svmlight are read."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .files import save_npz, whole

Array = npt.NDArray[Any]

PACKED = tuple(f"{name}.{packing}" for name in (".csv", ".tsv") for packing in ("gz", "bz2", "xz"))
DELIMITED = (".csv", ".tsv", *PACKED)
ARROW = (".arrow", ".feather")
HDF5 = (".h5", ".hdf5")
SVMLIGHT = (".svmlight", ".svm", ".libsvm")
NARROW = ("float32", "float16", "int8", "uint8", "int16", "uint16")  # float32 holds all their values exactly
# Names that pandas.api.types.infer_dtype gives to columns of objects, and how messages call them.
OBJECTS = dict.fromkeys(("date", "datetime", "datetime64", "time"), "dates or times") | {"mixed": "lists or objects"}
LABEL = "label"  # our name for the first number of a svmlight line; its features are called 1, 2, ...


class FileError(Exception):
    """Raised where a file or one of its columns cannot be used, with a message of one line for the user."""


class Table(NamedTuple):
    """The columns of one file. Those of a sparse file are in `csr`, and their names are "1", "2", ..."""

    path: Path
    frame: Any  # a pandas.DataFrame
    csr: Any = None
    note: str = ""  # what the user should know about how the file was read

    def columns(self) -> list[str]:
        """Return the names of the columns."""
        sparse = [] if self.csr is None else [str(j + 1) for j in range(self.csr.shape[1])]
        return [*map(str, self.frame.columns), *sparse]

    def column(self, name: str) -> Any:
        """Return a column as a pandas.Series; raise FileError if there is none of this name."""
        if name not in self.frame.columns:
            columns = self.columns()
            hint = "" if self.csr is not None else _hint(columns)
            if len(columns) == 1:
                hint = "; columns are separated by commas, semicolons or tabs"
            raise FileError(f"{self.path}: no column {name!r}; it has {few(columns)}{hint}")
        return self.frame[name]

    def target(self, name: str) -> Array:
        """Return a column as labels: integers, booleans or strings. Raise FileError if one is missing."""
        column = self.column(name)
        missing = np.flatnonzero(column.isna())
        if missing.size:
            raise FileError(
                f"{self.path}: column {name!r}: no label in row {missing[0] + 1} (missing: {missing.size}; so count "
                "NA, null and the like): leave such rows out of the file"
            )
        found = kind(column)
        if found == "numbers" and column.dtype.kind not in "biu":
            values = numbers(column)
            odd = np.flatnonzero(~((values == np.trunc(values)) & (np.abs(values) < 2**63)))
            if odd.size:
                raise FileError(
                    f"{self.path}: column {name!r}: {values[odd[0]]} in row {odd[0] + 1} is no label; for a target in "
                    "numbers use a regression"
                )
            return values.astype(np.int64)
        labels: Array = (
            column.to_numpy(bool if column.dtype.kind == "b" else np.dtype(column.dtype.kind + "8"))
            if (found == "numbers")
            else words(column).to_numpy().astype(str)
        )
        return labels

    def numbers(self, names: Sequence[str], missing: bool = False) -> Any:
        """Return columns as features (N, D): CSR of a svmlight file, else float32 if that is exact, or float64."""
        if self.csr is not None:
            return self._sparse(names)
        columns = [self.column(name) for name in names]
        narrow = all(str(column.dtype).lower() in NARROW for column in columns)
        X = np.empty((len(self.frame), len(names)), np.float32 if narrow and columns else np.float64)
        for j, (name, column) in enumerate(zip(names, columns, strict=True)):
            if kind(column) != "numbers":
                raise FileError(f"{self.path}: column {name!r} holds {column.iloc[0]!r}, which is no number")
            X[:, j] = numbers(column)
            odd = np.flatnonzero(~np.isfinite(X[:, j]))
            if odd.size and not missing:
                raise FileError(f"{self.path}: column {name!r}: {X[odd[0], j]} in row {odd[0] + 1} is not finite")
        return X

    def _sparse(self, names: Sequence[str]) -> Any:
        """Return columns by their numbers. The format leaves zeros out, so a column beyond the file's last is zero."""
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


def kind(column: Any) -> str:
    """Return "numbers", "words", or a phrase for what else a column holds. An empty column holds numbers."""
    from pandas.api import types

    dtype = column.dtype
    if types.is_complex_dtype(dtype):
        return "complex numbers"
    if types.is_numeric_dtype(dtype) or types.is_bool_dtype(dtype):
        return "numbers"
    if isinstance(dtype, types.CategoricalDtype):
        return "words"
    if types.is_object_dtype(dtype) or types.is_string_dtype(dtype):
        inferred = types.infer_dtype(column, skipna=True)
        if inferred in ("empty", "boolean", "decimal", "integer", "floating", "mixed-integer-float"):
            return "numbers"
        return "words" if inferred in ("string", "mixed-integer") else OBJECTS.get(inferred, inferred)
    return "dates or times" if dtype.kind in "mM" else str(dtype)


def numbers(column: Any) -> Array:
    """Return a column of numbers as floats, NaN where one is missing."""
    narrow = str(column.dtype).lower() in NARROW
    values: Array = column.to_numpy(np.float32 if narrow else np.float64, na_value=np.nan)
    return values


def words(column: Any) -> Any:
    """Return a column of words as strings, NaN where one is missing."""
    column = column.astype(object)
    known = column.notna()
    return column.where(known, np.nan).map(str, na_action="ignore").astype(object).where(known, np.nan)


def few(names: Sequence[str]) -> str:
    """Return the first of the names for a message, and how many there are in all."""
    shown = ", ".join(names[:8])
    return f"{shown}, ... ({len(names)})" if len(names) > 8 else shown or "none"


def suffix(path: Path) -> str:
    """Return the end of a name that tells a file's kind, such as ".csv.gz", in lower case."""
    last = path.suffix.lower()
    packed = Path(path.stem).suffix.lower() + last
    return packed if packed in PACKED else last


def read(path: Path, word_columns: Sequence[str] = ()) -> Table:
    """Return the table in a file, whose suffix tells its kind. Messages count rows from 1, without the header.

    The values of `word_columns` stay words even if they look like numbers, such as 01.

    Raises
    ------
    FileError
        If the file cannot be read, has no rows, or its suffix is not known.
    """
    readers: dict[str, Callable[[Path], Table]] = {
        ".parquet": _parquet, **dict.fromkeys(ARROW, _arrow), ".npz": _npz, **dict.fromkeys(HDF5, _hdf5),
        **dict.fromkeys(SVMLIGHT, _svmlight),
    }  # fmt: skip
    delimited = suffix(path) in DELIMITED
    reader = readers.get(suffix(path))
    if reader is None and not delimited:
        known = ", ".join([*DELIMITED, *readers])
        raise FileError(f"{path}: the name must end in one of {known}")
    try:
        if not path.is_file():
            path.open("rb").close()  # raises the system's own error, which tells why
        table = reader(path) if reader is not None else _delimited(path, word_columns)
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not in UTF-8 ({error}): save it so") from error
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FileError(f"{path}: {' '.join(reason.split()) or 'cannot be read'}") from error
    if not len(table.frame):
        raise FileError(f"{path}: no rows")
    return table


def _delimited(path: Path, word_columns: Sequence[str]) -> Table:
    """Read a .csv or .tsv. Its separator is whichever of comma, semicolon and tab splits the header most often."""
    import pandas as pd

    with _text(path) as file:
        header = file.readline().lstrip("\ufeff")
    if not header.strip():
        raise FileError(f"{path}: no header: the first line is empty")
    separator = max(",;\t", key=lambda one: len(next(csv.reader([header], delimiter=one))))
    names = next(csv.reader([header], delimiter=separator, skipinitialspace=True))
    names = [name.strip() for name in names]
    _once(path, names)  # pandas would silently rename the second of two equal names
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            frame = pd.read_csv(
                path, sep=separator, skipinitialspace=True, low_memory=False, dtype=dict.fromkeys(word_columns, str),
                index_col=False,
            )  # fmt: skip
        except pd.errors.ParserWarning as warning:  # pandas would go on and drop the fields that have no name
            raise FileError(f"{path}: rows have more fields than the header's {len(names)}") from warning
    frame.columns = [str(name).strip() for name in frame.columns]
    nameless = [name for name, given in zip(frame.columns, names, strict=False) if not given]
    note = f"column {names.index('') + 1} has no name and is left out" if nameless else ""
    frame = frame.drop(columns=nameless)
    if separator != ",":
        for name in frame.columns:
            if kind(frame[name]) == "words" and name not in word_columns:
                frame[name] = _decimal_commas(frame[name])
    return Table(path, frame, note=note)


@contextmanager
def _text(path: Path) -> Iterator[Any]:
    openers: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    with openers.get(path.suffix.lower(), open)(path, "rt", encoding="utf-8", newline="") as file:
        yield file


def _decimal_commas(column: Any) -> Any:
    """Return a column of words as numbers if all are numbers with a decimal comma, such as 1,5; else unchanged."""
    import pandas as pd

    text = words(column)
    looks = text.dropna().str.fullmatch(r"[+-]?\d*,?\d+([eE][+-]?\d+)?")
    return pd.to_numeric(text.str.replace(",", ".")) if len(looks) and looks.all() else column


def _once(path: Path, names: Sequence[str]) -> None:
    """Raise FileError if two columns have the same name."""
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        called = few([repr(name) for name in twice])
        raise FileError(f"{path}: more than one column is called {called}: rename them{_hint(names)}")


def _hint(names: Sequence[str]) -> str:
    """Return the end of a message: a question about the header if it looks like a row of numbers, else nothing."""
    looks = [re.fullmatch(r"[+-]?\d*[.,]?\d+([eE][+-]?\d+)?", name.strip()) for name in names]
    return "; does the first line hold the names of the columns?" if sum(map(bool, looks)) * 2 > len(names) else ""


def _parquet(path: Path) -> Table:
    import pandas as pd
    from pyarrow import parquet

    _once(path, parquet.read_schema(path).names)

    frame = pd.read_parquet(path, engine="pyarrow")
    return Table(path, frame.set_axis([str(name) for name in frame.columns], axis=1))


def _arrow(path: Path) -> Table:
    import pyarrow as pa

    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as file:
        _once(path, file.schema.names)
        return Table(path, file.read_pandas())


def _npz(path: Path) -> Table:
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return _of_arrays(path, archive.items())


def _hdf5(path: Path) -> Table:
    import h5py

    with h5py.File(path) as file:
        found = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        words = {name for name, item in found.items() if h5py.check_string_dtype(item.dtype) is not None}
        return _of_arrays(
            path, ((name, np.asarray(item.asstr()[()] if name in words else item[()])) for name, item in found.items())
        )


def _of_arrays(path: Path, arrays: Iterable[tuple[str, Array]]) -> Table:
    """Return arrays of one length as a table; a two-dimensional array X gives the columns X0, X1, ..."""
    import pandas as pd

    columns: dict[str, Array] = {}
    records: list[str] = []
    for name, array in arrays:
        if array.dtype.kind == "V":
            array = _of_bfloat16(path, name, array)
            records.append(repr(name))
        if array.ndim not in (1, 2):
            raise FileError(f"{path}: array {name!r} has shape {array.shape}; it must have one or two dimensions")
        parts = {name: array} if array.ndim == 1 else {f"{name}{j}": array[:, j] for j in range(array.shape[1])}
        if columns and len(array) != len(next(iter(columns.values()))):
            raise FileError(f"{path}: array {name!r} has {len(array)} rows, those before it another number")
        columns |= parts
    note = f"array {', '.join(records)} holds records of two bytes, read as bfloat16" if records else ""
    return Table(path, pd.DataFrame(columns), note=note)


def _of_bfloat16(path: Path, name: str, array: Array) -> Array:
    """Return records of two bytes as float32: NumPy stores bfloat16, which it does not know, as such records."""
    if array.dtype.itemsize != 2 or array.dtype.names is not None:
        raise FileError(
            f"{path}: array {name!r} holds records ({array.dtype}): save numbers, such as those of astype('float32')"
        )
    return (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _svmlight(path: Path) -> Table:
    import pandas as pd
    from sklearn.datasets import load_svmlight_file

    X, y = load_svmlight_file(str(path), zero_based="auto")
    return Table(path, pd.DataFrame({LABEL: y}), X)


def write(path: Path, columns: dict[str, Array]) -> None:
    """Write columns of one length to a file whose suffix tells its kind; `check_output` has checked the name."""
    import pandas as pd

    if suffix(path) == ".npz":
        save_npz(path, columns)
        return
    with whole(path) as temporary:
        if suffix(path) == ".parquet":
            pd.DataFrame(columns).to_parquet(temporary, index=False)
        elif suffix(path) in ARROW:
            pd.DataFrame(columns).to_feather(temporary, compression="uncompressed")
        else:
            packing: Any = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix.lower())
            separator = "\t" if suffix(path).startswith(".tsv") else ","
            pd.DataFrame(columns).to_csv(temporary, index=False, sep=separator, compression=packing)


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Raise FileError if an output could not be written, before any work is done for it."""
    if suffix(path) not in suffixes:
        raise FileError(f"{path}: the name must end in {' or '.join(suffixes)}")
    if not path.parent.is_dir():
        raise FileError(f"{path}: no folder {path.parent}")
