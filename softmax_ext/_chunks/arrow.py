"""Files of columns, Parquet and Arrow IPC (Feather), which pyarrow.dataset reads in pieces, file after file."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import COMPUTES_IN, NARROW
from .._inputs.rows import Rows
from .._inputs.scalars import check_integer
from .._objective.pieces import CHUNK_BYTES, checked
from .arrays import PathLike

Array = npt.NDArray[Any]


# For each kind of file, by pyarrow's name for it: the name in messages, and the function that users call.
FORMATS = {"parquet": ("Parquet", "from_parquet"), "ipc": ("Arrow IPC", "from_arrow")}


class Columns:
    """One or more files with the same columns, which can be read many times.

    `kind` is a key of FORMATS; the other parameters are those of `chunks.from_parquet`.
    """

    def __init__(
        self,
        kind: str,
        path: PathLike | Sequence[PathLike],
        target: str | None,
        columns: Sequence[str] | None,
        *,
        sample_weight: str | None,
        offset: str | Sequence[str] | None,
        rows: int | None,
    ) -> None:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise ImportError(
                f"{FORMATS[kind][1]} needs pyarrow ({error}): pip install 'softmax_ext[arrow]'"
            ) from error
        if isinstance(columns, str):
            raise TypeError(f"columns must be a sequence of names, got the string {columns!r}")
        source = _found(path)
        self.kind, self.source, self.target, self.sample_weight = kind, source, target, sample_weight
        self.offset = [offset] if isinstance(offset, str) else list(offset or ())
        self.called = source if isinstance(source, str) else source[0] if len(source) == 1 else f"{source[0]}, ..."
        self.damaged = (pa.ArrowException, OSError)  # the exceptions that pyarrow raises for a file it cannot read
        self.first = self._opened()
        if not self.first.files:
            raise FileNotFoundError(f"{self.called} holds no files")
        self.schema, self.chosen = self.first.schema, columns is not None
        others = {target, sample_weight, *self.offset}
        self.names = list(columns) if columns is not None else [n for n in self.schema.names if n not in others]
        self.wanted = [*self.names, *(name for name in (target, sample_weight) if name is not None), *self.offset]
        self.kinds = self._kinds()
        self.dtype = _common([self.kinds[name] for name in self.names])
        most = CHUNK_BYTES // (COMPUTES_IN[self.dtype.char].itemsize * len(self.names))
        self.rows = max(1, most) if rows is None else check_integer(rows, "rows")

    def _opened(self) -> Any:
        """Return pyarrow's dataset of the files that there are now."""
        from pyarrow import dataset

        try:
            return dataset.dataset(self.source, format=self.kind, partitioning="hive")
        except self.damaged as error:
            raise ValueError(f"{self.called} cannot be read as {FORMATS[self.kind][0]}: {error}") from error

    def _kinds(self) -> dict[str, Any]:
        """Return the types of the columns that are read; raise ValueError if one is missing or holds no numbers."""
        called, target = self.called, self.target
        for name in self.wanted:
            if name not in self.schema.names:
                raise ValueError(f"{called} has no column {name!r}, only {', '.join(self.schema.names)}")
        if twice := sorted({name for name in self.wanted if self.wanted.count(name) > 1}):
            raise ValueError(f"column {twice[0]!r} is named more than once: it is one thing alone")
        kinds = {name: self.schema.field(name).type for name in self.wanted}
        numbers = [*self.names, *self.offset]
        wrong = [f"{name!r} ({kinds[name]})" for name in numbers if not _is_number(kinds[name])]
        if wrong:
            raise ValueError(
                f"{called}: columns that hold no numbers: {', '.join(wrong)}; encode them, or choose others by columns="
            )
        if not self.names:
            raise ValueError(f"{called} has no column but {target!r}: there must be features")
        return kinds

    def read(self) -> Iterator[Rows]:
        """Yield the rows in their order, each piece from one row group or record batch."""
        # The files are opened again for each pass, since pyarrow's dataset remembers them as they were.
        whole = self._opened()
        if gone := sorted(set(self.first.files) - set(whole.files)):
            raise FileNotFoundError(f"{gone[0]} was there when this fit began, and is gone")
        fragments = list(whole.get_fragments())
        if isinstance(self.source, str):
            fragments.sort(key=lambda fragment: str(fragment.path))
        for fragment in fragments:
            where = fragment.path
            try:
                self._check_alike(fragment)
                for where, group in self._groups(fragment):
                    start = 0
                    batches = group.to_batches(
                        schema=self.schema,
                        columns=self.wanted,
                        batch_size=self.rows,
                        batch_readahead=1,
                        fragment_readahead=1,
                    )
                    for batch in batches:
                        if len(batch):
                            yield self._piece(batch, f"{where}, from row {start}")
                        start += len(batch)
            except (*self.damaged, ValueError) as error:
                trouble = FileNotFoundError if isinstance(error, FileNotFoundError) else ValueError
                raise trouble(str(error) if str(error).startswith(str(where)) else f"{where}: {error}") from error

    def _groups(self, fragment: Any) -> Iterator[tuple[str, Any]]:
        """Yield a file's row groups with their names; or the whole file, if it has record batches instead."""
        if self.kind == "parquet":
            for group in fragment.split_by_row_group():
                yield f"{fragment.path}, row group {group.row_groups[0].id}", group
        else:
            yield str(fragment.path), fragment  # pyarrow reads it one record batch at a time

    def _check_alike(self, fragment: Any) -> None:
        """Raise ValueError if a file's columns or their types are not those of the first file."""
        from pyarrow import dataset

        own = fragment.physical_schema
        if not self.chosen and (more := set(own.names) - set(self.schema.names)):
            raise ValueError(f"column {min(more)!r}, which the first file has not")
        for name, kind in self.kinds.items():
            if name in own.names and own.field(name).type != kind:
                raise ValueError(f"column {name!r} holds {own.field(name).type}, not {kind} as the first file")
            if name not in own.names and name not in dataset.get_partition_keys(fragment.partition_expression):
                raise ValueError(f"no column {name!r}, which the first file has")

    def _piece(self, batch: Any, where: str) -> Rows:
        """Return a record batch as a piece: its columns are copied into the rows of X."""

        def column(name: str) -> Array:
            """Return a column of the batch, which must have no nulls, as an array."""
            values = batch.column(name)
            if values.null_count:
                raise ValueError(
                    f"column {name!r} has {values.null_count} nulls from row {where.rpartition(' ')[2]} on"
                )
            array: Array = values.to_numpy(zero_copy_only=False)
            return array

        X = np.empty((len(batch), len(self.names)), self.dtype)
        few = max(1, 2**15 // len(self.names))  # rows at a time, so that they stay in cache until all columns are in
        columns = [column(name) for name in self.names]
        for start in range(0, len(batch), few):
            for j, values in enumerate(columns):
                X[start : start + few, j] = values[start : start + few]
        y = None if self.target is None else column(self.target)
        s = None if self.sample_weight is None else column(self.sample_weight)
        offset = np.column_stack([column(name) for name in self.offset]) if self.offset else None
        return checked(X, y.astype(str) if y is not None and y.dtype.kind == "O" else y, s, where, offset)

    def origin(self) -> tuple[Sequence[str], Sequence[object]]:
        """Return the files that there are now, and what is read from them, as `fingerprint` takes both."""
        return self._opened().files, (self.kind, self.wanted, self.target, self.sample_weight, str(self.dtype))

    def describe(self) -> str:
        """Return one line that says where the rows are from, how many there are, and of which columns."""
        try:
            rows = f"{self.first.count_rows()}"
        except self.damaged:  # a file may have been removed; only a fit raises an error for that
            rows = "unreadable"
        files, target = self.first.files, self.target
        number = f"{len(files)} files, " if len(files) > 1 else ""
        labels = "" if target is None else f", target {target!r}"
        return f"{self.called}, {number}{rows} rows x {len(self.names)} columns of {self.dtype}{labels}"


def _common(kinds: Sequence[Any]) -> np.dtype[Any]:
    """Return the dtype of X: that of the columns if all have one that kernels widen, else float32 or float64."""
    dtypes: set[np.dtype[Any]] = {np.dtype(kind.to_pandas_dtype()) for kind in kinds}
    if len(dtypes) == 1 and (only := next(iter(dtypes))).char in NARROW:
        return only
    return np.dtype(np.float32 if dtypes and all(dtype.char in "ef" for dtype in dtypes) else np.float64)


def _is_number(kind: Any) -> bool:
    """Return whether a column of this Arrow type can be a feature."""
    from pyarrow import types

    return bool(types.is_floating(kind) or types.is_integer(kind) or types.is_boolean(kind))


def _found(path: PathLike | Sequence[PathLike]) -> str | list[str]:
    """Return a path of a file or folder as a string, and a list or a pattern as a list of existing files."""
    if not isinstance(path, str | os.PathLike):
        if not isinstance(path, Iterable):
            raise TypeError(f"path must be a path or a sequence of paths, got {path!r}")
        files = [os.fspath(each) for each in path]
        if not files:
            raise ValueError("path must name at least one file, got an empty list")
        for file in files:
            if not Path(file).is_file():
                raise FileNotFoundError(
                    f"{file} is a folder, not a file" if Path(file).exists() else f"{file} does not exist"
                )
        return files
    name = os.fspath(path)
    if Path(name).exists():
        return name
    if not glob.has_magic(name):
        raise FileNotFoundError(f"{name} does not exist")
    files = sorted(file for file in glob.glob(name, recursive=True) if Path(file).is_file())
    if not files:
        raise FileNotFoundError(f"no file matches {name}")
    return files
