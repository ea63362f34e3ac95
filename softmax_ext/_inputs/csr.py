"""CSR rows as the kernels read them, and the checks of SciPy's sparse arrays.

SciPy is not imported at the top, since that takes long, and a caller who has a sparse array has imported it already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class CSR:
    """N sparse rows: row i has the entries indptr[i] to indptr[i + 1] of data, in the columns that indices names."""

    __slots__ = ("data", "indices", "indptr", "shape")

    def __init__(self, data: Array, indices: Array, indptr: npt.NDArray[np.intp], D: int) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = (len(indptr) - 1, D)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the values: float32, float64, or int8 or uint8, which are computed in float32."""
        return self.data.dtype

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return int(self.indptr[-1] - self.indptr[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | npt.NDArray[np.intp]) -> CSR:
        """Return some of the rows; consecutive ones share the memory of these."""
        if not isinstance(rows, slice):
            return self._take(rows)
        start, stop, step = rows.indices(len(self))
        if step == 1:
            return CSR(self.data, self.indices, self.indptr[start : max(start, stop) + 1], self.shape[1])
        return self._take(np.arange(start, stop, step))

    def _take(self, rows: npt.NDArray[np.intp]) -> CSR:
        """Return a copy of the rows with these numbers, in their order."""
        lengths = self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate([[0], np.cumsum(lengths)]).astype(np.intp)
        entries = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], lengths)
        return CSR(self.data[entries], self.indices[entries], indptr, self.shape[1])

    def columns(self, which: npt.NDArray[np.intp]) -> CSR:
        """Return a copy with some of the columns alone, renumbered in the order of `which`."""
        data, indices = self.entries()
        places = np.full(self.shape[1], -1, np.int64)
        places[which] = np.arange(len(which))
        places = places[indices]
        kept = places >= 0
        counts = np.concatenate([[0], np.cumsum(kept)]).astype(np.intp)
        return CSR(data[kept], places[kept], counts[self.indptr - self.indptr[0]], len(which))

    def narrowed(self, W: Array) -> tuple[CSR, Array]:
        """Return a copy without the columns that no entry is in, and the columns of W (K, D) that are left."""
        data, indices = self.entries()
        used, places = np.unique(indices, return_inverse=True)
        if not len(used):
            used = np.zeros(1, np.intp)
        return CSR(data, places.astype(np.int64), self.indptr - self.indptr[0], len(used)), W.take(used, axis=1)

    def entries(self) -> tuple[Array, Array]:
        """Return the values of the rows' entries, and the columns that they are in."""
        stored = slice(self.indptr[0], self.indptr[-1])
        return self.data[stored], self.indices[stored]

    def astype(self, dtype: npt.DTypeLike) -> CSR:
        """Return the rows with a copy of their values in this dtype; the columns are shared."""
        data, indices = self.entries()
        return CSR(data.astype(dtype), indices, self.indptr - self.indptr[0], self.shape[1])

    def scipy(self, dtype: npt.DTypeLike) -> Any:
        """Return the rows as an array of SciPy's."""
        from scipy.sparse import csr_array

        data, indices = self.entries()
        return csr_array((data.astype(dtype, copy=False), indices, self.indptr - self.indptr[0]), shape=self.shape)


# SciPy converts these formats without a check of their indices. For each format: its index arrays, and the axis of X
# that each of them indexes.
CHECKED = {"csr": (("indices", 1),), "csc": (("indices", 0),), "coo": (("row", 0), ("col", 1))}


def is_sparse(X: object) -> bool:
    """Return whether X is a sparse array or matrix of SciPy's, or a `CSR`."""
    return type(X) is CSR or hasattr(X, "tocsr")


def check_csr(X: Any, name: str, computes_in: Mapping[str, np.dtype[Any]]) -> CSR:
    """Return SciPy's sparse array or matrix as `CSR`, once every index is known to be in range.

    The memory of CSR of float32, float64, int8 or uint8 with int32 or int64 indices is shared; other dtypes and formats
    are converted. `computes_in` gives the dtype of the computation by the type character of X.
    """
    if type(X) is CSR:
        return X
    if len(X.shape) != 2:
        raise ValueError(f"{name} must be 2-D, (N, D), got {len(X.shape)}-D with shape {X.shape}")
    if X.dtype.kind == "c":
        raise ValueError(f"Complex data not supported: {name} has dtype {X.dtype}")
    if X.dtype.char not in computes_in:
        raise TypeError(f"{name} must hold real numbers, got dtype {X.dtype}")
    dtype = computes_in[X.dtype.char]
    check_stored(X, name)
    X = rows_of(X)
    with np.errstate(all="ignore"):
        data = np.require(X.data, X.dtype if is_byte(X) else dtype, ["C", "A"])
    indices = np.require(X.indices, np.int32 if X.indices.dtype.itemsize == 4 else np.int64, ["C", "A"])
    return CSR(data, indices, X.indptr.astype(np.intp), X.shape[1])


def is_byte(X: Any) -> bool:
    """Return whether X holds int8 or uint8, which the kernels widen to float32."""
    return X.dtype.char in "bB"


def rows_of(X: Any) -> Any:
    """Return SciPy's array in the format "csr"; bytes become float32 first, since duplicate entries are added."""
    return X if X.format == "csr" else (X.astype(np.float32) if is_byte(X) else X).tocsr()


def check_stored(X: Any, name: str) -> None:
    """Check that all indices of a two-dimensional SciPy array or matrix, of any format, are in range.

    float16 and bfloat16 are refused, since SciPy's own functions refuse them or take them for another dtype.
    """
    if X.dtype.itemsize == 2 and X.dtype.kind in "fV":
        raise TypeError(
            f"{name} is sparse and of {X.dtype}, which SciPy does not support: use {name}.astype('float32')"
        )
    stored = _check_pointers(X, name) if X.format in ("csr", "csc") else None
    for field, axis in CHECKED.get(X.format, ()):
        _check_indices(
            np.asarray(getattr(X, field))[:stored], f"{name}.{field}", X.shape[axis], "column" if axis else "row"
        )
    if X.format == "bsr":
        X.check_format()
    elif X.format == "dia" and np.shape(X.offsets) != np.shape(X.data)[:1]:
        found = f"shapes {np.shape(X.data)} and {np.shape(X.offsets)}"
        raise ValueError(f"{name}.data must have a row for each of {name}.offsets, got {found}")
    elif X.format == "lil":
        _check_lists(X, name)


def _check_lists(X: Any, name: str) -> None:
    """Check an array of the format "lil": each row's columns are in range, and there are as many columns as values.

    SciPy's loops in C trust that.
    """
    for field in ("rows", "data"):
        if np.shape(getattr(X, field)) != X.shape[:1]:
            raise ValueError(f"{name}.{field} must hold {X.shape[0]} lists, got shape {np.shape(getattr(X, field))}")
    for i, (columns, values) in enumerate(zip(X.rows, X.data, strict=True)):
        if len(columns) != len(values):
            raise ValueError(f"{name}.rows[{i}] has {len(columns)} columns, but {name}.data[{i}] {len(values)} values")
        if columns and not 0 <= min(columns) <= max(columns) < X.shape[1]:
            bad = next(column for column in columns if not 0 <= column < X.shape[1])
            raise ValueError(f"{name}.rows[{i}] holds {bad}, out of range: a column must be in 0..{X.shape[1] - 1}")


def _check_pointers(X: Any, name: str) -> int:
    """Check indptr, and that data and indices have as many entries as indptr says; return that number."""
    pointers, length = np.asarray(X.indptr), X.shape[X.format == "csc"] + 1
    if pointers.dtype.kind not in "iu" or pointers.shape != (length,):
        found = f"shape {pointers.shape} of {pointers.dtype}"
        raise ValueError(f"{name}.indptr must be {length} integers for shape {X.shape}, got {found}")
    if np.shape(X.data) != np.shape(X.indices) or np.ndim(X.data) != 1:
        found = f"shapes {np.shape(X.data)} and {np.shape(X.indices)}"
        raise ValueError(f"{name}.data and {name}.indices must be of one length, got {found}")
    if pointers[0] != 0:
        raise ValueError(f"{name}.indptr[0] = {pointers[0]} must be 0")
    falls = pointers[1:] < pointers[:-1]
    if falls.any():
        i = int(falls.argmax())
        raise ValueError(f"{name}.indptr[{i + 1}] = {pointers[i + 1]} is less than indptr[{i}] = {pointers[i]}")
    if pointers[-1] > len(X.data):
        raise ValueError(f"{name}.indptr[-1] = {pointers[-1]} is beyond the {len(X.data)} entries of {name}.indices")
    return int(pointers[-1])


def _check_indices(indices: Array, name: str, size: int, kind: str) -> None:
    """Check that the indices are integers in 0..size - 1."""
    if indices.dtype.kind not in "iu":
        raise ValueError(f"{name} must be integers, got dtype {indices.dtype}")
    # As unsigned numbers negative indices are huge, so one comparison finds them as well.
    unsigned = indices.view(indices.dtype.str.replace("i", "u"))
    if len(indices) and unsigned.max() >= size:
        i = int((unsigned >= size).argmax())
        raise ValueError(f"{name}[{i}] = {indices[i]} is out of range: a {kind} must be in 0..{size - 1}")
