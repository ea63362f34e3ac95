"""Arrays in .npy files, HDF5 and Zarr, which are read in pieces: some rows of X, targets, weights and offsets."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt

from .._inputs.dtypes import COMPUTES_IN, is_native, is_real, read_as
from .._inputs.rows import Rows
from .._inputs.scalars import check_integer
from .._objective.pieces import CHUNK_BYTES, MiB, checked

Array = npt.NDArray[Any]
PathLike = str | os.PathLike[str]

# The bytes of X in a chunk that is mapped and read in place. Such a chunk takes no memory of ours, so it may be as
# large as a block of a pass (`BLOCK_BYTES` in _core/plan.py); smaller ones would start a team of threads more often.
MAPPED_BYTES = 256 * MiB
# The exceptions that the libraries raise for a file that they cannot read, zlib's and numcodecs' included.
DAMAGED = (OSError, ValueError, RuntimeError, KeyError, EOFError)


class Arrays:
    """X (N, D), y (N,) or (N, K), weights (N,) and offsets (N,) or (N, K) in files, which can be read many times.

    Parameters
    ----------
    files : sequence of str
        The files or folders that hold the arrays.
    names : sequence of str or None
        What errors call the four arrays; None for an array that is not given.
    opened : callable
        Returns a context manager that gives the four arrays for one pass, or None for an array that is not given. An
        array is anything with `shape` and `dtype` whose slices NumPy can convert.
    intact : callable
        Called with the numbers of the first and the last row before rows are read; raises ValueError if the files do
        not hold them any more.
    rows, dtype
        As in `chunks.from_npy`.
    """

    def __init__(
        self,
        files: Sequence[str],
        names: Sequence[str | None],
        opened: Callable[[], AbstractContextManager[Sequence[Any]]],
        intact: Callable[[int, int], None],
        rows: int | None,
        dtype: npt.DTypeLike | None,
    ) -> None:
        self.files, self.names, self.opened, self.intact, self.given = files, names, opened, intact, dtype
        with opened() as arrays:
            X = arrays[0]
            for array, name, dimensions in zip(arrays, names, ((2,), (1, 2), (1,), (1, 2)), strict=True):
                if array is not None and (len(array.shape) not in dimensions or 0 in array.shape):
                    raise ValueError(
                        f"{name} must hold one array of {' or '.join(map(str, dimensions))} dimensions with rows in "
                        f"it, got {tuple(array.shape)}"
                    )
                if array is not None and array.shape[0] != X.shape[0]:
                    raise ValueError(f"{name} has {array.shape[0]} rows, but {names[0]} has {X.shape[0]}")
            self.shapes = [None if array is None else tuple(array.shape) for array in arrays]
            self.dtype = _known(X, dtype, str(names[0]))
            self.N, self.D = map(int, X.shape)
            self.rows = self._most(X) if rows is None else check_integer(rows, "rows")

    def _most(self, X: Any) -> int:
        """Return the default number of rows in a chunk: as many as the limit in bytes allows.

        If the file is cut into chunks itself, the number is a multiple of the rows in one of them where possible.
        """
        mapped = isinstance(X, np.memmap) and is_real(self.dtype) and is_native(X.view(self.dtype), read_as(self.dtype))
        most = (MAPPED_BYTES if mapped else CHUNK_BYTES) // (
            self.D * COMPUTES_IN.get(self.dtype.char, self.dtype).itemsize
        )
        together = int((getattr(X, "chunks", None) or (1,))[0])  # rows of a chunk in the file, which is unpacked whole
        return max(1, most // together * together if most >= together else most)

    def read(self) -> Iterator[Rows]:
        """Yield all rows in their order, `self.rows` at a time."""
        self.intact(0, self.N - 1)
        with self.opened() as arrays:
            for array, name, shape in zip(arrays, self.names, self.shapes, strict=True):
                if array is not None and tuple(array.shape) != shape:
                    raise ValueError(f"{name} is of shape {tuple(array.shape)}, and was of {shape} when it was opened")
            for start in range(0, self.N, self.rows):
                stop = min(start + self.rows, self.N)
                self.intact(start, stop - 1)
                _fetch(arrays[0], start, stop)
                X, y, s, offset = (
                    self._cut(array, name, start, stop) for array, name in zip(arrays, self.names, strict=True)
                )
                X = X if self.given is None else X.view(self.dtype)
                yield checked(X, y, s, f"{self.names[0]}, rows {start} to {stop - 1}", offset)

    def _cut(self, array: Any, name: str | None, start: int, stop: int) -> Any:
        """Return some rows of one of the arrays, or None if it is not given."""
        if array is None:
            return None
        try:
            found = np.asarray(array[start:stop])
        except FileNotFoundError:
            raise
        except DAMAGED as error:
            raise ValueError(f"{name}, rows {start} to {stop - 1} cannot be read: {error}") from error
        # h5py's dtypes name their byte order even if it is the native one, and buffers of such arrays do too. Kernels
        # expect buffers of native numbers, which name none.
        return (
            found.view(found.dtype.newbyteorder("=")) if found.dtype.isnative and found.dtype.kind in "fiu" else found
        )

    def origin(self) -> tuple[Sequence[str], Sequence[object]]:
        """Return the files, and what is read from them, as `fingerprint` takes both."""
        return self.files, (self.names, str(self.dtype))

    def describe(self) -> str:
        """Return one line that says where the rows are from, how many there are, and of which dtype."""
        return f"{self.names[0]}, {self.N} rows x {self.D} columns of {self.dtype}"


def npy(paths: Sequence[PathLike | None], rows: int | None, dtype: npt.DTypeLike | None) -> Arrays:
    """Return the arrays in .npy files, of which `paths` names four: X, y, weights and offsets; None if not given."""
    maps = [None if path is None else _mapped(path) for path in paths]
    given = [os.fspath(path) for path in paths if path is not None]
    names = [None if path is None else os.fspath(path) for path in paths]
    return Arrays(given, names, lambda: nullcontext(maps), _as_long(given), rows, dtype)


def _mapped(path: PathLike) -> Any:
    """Return a .npy file as an array that is mapped into memory."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{os.fspath(path)} is not a whole .npy file: {error}") from error
    if not isinstance(array, np.memmap):
        array.close()
        raise ValueError(f"{os.fspath(path)} must hold one array, got {type(array).__name__}")
    return array


def hdf5(path: PathLike, within: Sequence[str | None], rows: int | None, dtype: npt.DTypeLike | None) -> Arrays:
    """Return datasets of an HDF5 file, of which `within` names four: X, y, weights and offsets; None if not given."""
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"from_hdf5 needs h5py ({error}): pip install 'softmax_ext[hdf5]'") from error
    file = os.fspath(path)
    os.stat(file)  # if the file is missing, this error names it; h5py's would be a long message of its C library

    @contextmanager
    def opened() -> Iterator[list[Any]]:
        try:
            held = h5py.File(file, "r")
        except FileNotFoundError:
            raise
        except OSError as error:
            raise ValueError(f"{file} is not a whole HDF5 file: {error}") from error
        with held:
            yield [None if name is None else _lying(file, _within(held, file, name, h5py.Dataset)) for name in within]

    return Arrays([file], _called(file, "dataset", within), opened, _as_long([file]), rows, dtype)


def _lying(file: str, dataset: Any) -> Any:
    """Return a dataset as an array that is mapped, if it lies in the file as it would in memory; else one that reads.

    Compressed datasets, those that are cut into chunks, and strings are read.
    """
    import h5py

    if h5py.check_string_dtype(dataset.dtype) is not None:
        return _Words(dataset)
    offset = dataset.id.get_offset()
    plain = offset is not None and not (dataset.external or dataset.is_virtual or dataset.file.userblock_size)
    if plain and dataset.file.driver == "sec2" and 0 not in dataset.shape and not dataset.dtype.hasobject:
        return np.memmap(file, dataset.dtype, "r", offset, dataset.shape)
    return dataset


class _Words:
    """A dataset of strings, whose slices are NumPy's arrays of strings."""

    def __init__(self, dataset: Any) -> None:
        self.dataset, self.shape, self.dtype = dataset, dataset.shape, dataset.dtype

    def __getitem__(self, rows: slice) -> Array:
        found: Array = np.array(self.dataset.asstr()[rows].tolist(), str)
        return found


def zarr(path: PathLike, within: Sequence[str | None], rows: int | None, dtype: npt.DTypeLike | None) -> Arrays:
    """Return arrays of a Zarr group, of which `within` names four: X, y, weights and offsets; None if not given."""
    try:
        import zarr as library
    except ImportError as error:
        raise ImportError(f"from_zarr needs zarr ({error}): pip install 'softmax_ext[zarr]'") from error
    folder = os.fspath(path)
    names = _called(folder, "array", within)
    os.stat(folder)

    def arrays() -> list[Any]:
        """Return the group's arrays, None for those that are not given."""
        try:
            group = library.open_group(folder, mode="r")
            return [None if name is None else _within(group, folder, name, library.Array) for name in within]
        except FileNotFoundError:
            raise
        except DAMAGED as error:
            raise ValueError(f"{folder} cannot be read as a Zarr group: {error}") from error

    # zarr reads a missing chunk as zeros, since it does not write chunks of zeros. So only the number of chunks tells
    # whether one has been lost.
    at_first = [None if array is None else array.nchunks_initialized for array in arrays()]

    @contextmanager
    def opened() -> Iterator[list[Any]]:
        found = arrays()
        for array, name, chunks in zip(found, names, at_first, strict=True):
            if array is not None and array.nchunks_initialized != chunks:
                raise ValueError(
                    f"{name} has {array.nchunks_initialized} chunks, and had {chunks} when it was opened: a fit reads "
                    "the same data many times"
                )
        yield found

    return Arrays([folder], names, opened, lambda first, last: None, rows, dtype)


def _called(file: str, kind: str, within: Sequence[str | None]) -> list[str | None]:
    """Return what errors call the arrays within a file."""
    return [None if name is None else f"{file}, {kind} {name!r}" for name in within]


def _within(group: Any, file: str, name: str, kind: type) -> Any:
    """Return the array of this name in a group; raise ValueError if there is none."""
    found = group.get(name)
    if not isinstance(found, kind):
        raise ValueError(f"{file} has no array {name!r}, only {', '.join(sorted(group)) or 'nothing'}")
    return found


def _as_long(files: Sequence[str]) -> Callable[[int, int], None]:
    """Return a function that raises ValueError if one of the files has become shorter than it is now."""
    sizes = [(file, os.stat(file).st_size) for file in files]

    def intact(first: int, last: int) -> None:
        """Raise ValueError, which names the rows to be read, if a file has become shorter."""
        for file, size in sizes:  # the system ends a process that reads a mapped file beyond its end
            if (now := os.stat(file).st_size) < size:
                raise ValueError(
                    f"{file} has {now} bytes, and had {size} when it was opened: rows {first} to {last} cannot be read"
                )

    return intact


def _known(X: Any, dtype: npt.DTypeLike | None, name: str) -> np.dtype[Any]:
    """Return the dtype of an array's numbers: its own, or `dtype` if it holds records of that size."""
    held: np.dtype[Any] = np.dtype(X.dtype)
    if dtype is None and held.kind != "V":
        return held
    if dtype is None:
        raise ValueError(f"{name} holds records ({held}), as NumPy writes bfloat16: dtype=ml_dtypes.bfloat16 reads it")
    given: np.dtype[Any] = np.dtype(dtype)
    if held.kind != "V" or held.itemsize != given.itemsize:
        raise ValueError(f"dtype = {given} is for a file of records of {given.itemsize} bytes, {name} has {held}")
    return given


def _fetch(X: Any, start: int, stop: int) -> None:
    """Ask the system to read these rows of a mapped file from the disk, so that it does while others are computed."""
    if isinstance(X, np.memmap) and isinstance(X.base, mmap.mmap) and X.flags.c_contiguous:
        if not hasattr(X.base, "madvise"):
            return
        first = X.offset % mmap.ALLOCATIONGRANULARITY + start * X.strides[0]
        page = first // mmap.PAGESIZE * mmap.PAGESIZE
        X.base.madvise(mmap.MADV_WILLNEED, page, first - page + (stop - start) * X.strides[0])
