"""Data that do not fit in memory, read in chunks from .npy, Parquet, Arrow, HDF5 or Zarr files or from a function.

::

    from softmax_ext import chunks
    from softmax_ext.linear_model import LogisticRegression

    model = LogisticRegression().fit(chunks.from_npy("X.npy", "y.npy"))

A fit reads all chunks in their order, once for a first look and once for each evaluation, and ends at the optimum that
a fit in memory has. While a chunk is computed, one thread reads the next one, so two are in memory at a time.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ._chunks import arrays
from ._chunks.arrays import PathLike
from ._chunks.arrow import Columns
from ._chunks.look import Look, fingerprint, mark
from ._data.files import check_folder
from ._inputs.rows import Rows
from ._inputs.weights import class_weights, no_class_weights
from ._objective.folds import Ask, Folds, answers
from ._objective.memory import SoftmaxObjective
from ._objective.penalty import Penalty
from ._objective.pieces import Pieces, PiecesObjective, Problem, checked, finite_piece, weighs
from ._objective.tree import Node, Sums

__all__ = [
    "Chunks",
    "ChunksObjective",
    "from_arrow",
    "from_hdf5",
    "from_iterable",
    "from_npy",
    "from_parquet",
    "from_zarr",
]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]
Item = TypeVar("Item")


class Chunks(Pieces):
    """Rows of X, y and weights that are read in chunks; each pass over them reads the same rows.

    `from_npy`, `from_parquet` and the other functions of this module make it. `LogisticRegression` takes it in the
    place of X in `fit`, `predict` and `score`, and so do `LogisticRegressionCV` and `logistic_regression_path`.
    `ChunksObjective` makes a function of it that any optimiser can minimise, and you can loop over it: ``for X, y,
    sample_weight in chunks``, where y and sample_weight are None if the data have none. Data with offsets yield them as
    a fourth item.

    Attributes
    ----------
    names : tuple of str, or None
        Names of the features, if the files have names.
    read_ahead : bool
        Whether a thread reads the next chunk while one is computed; True unless you set it. The bits of a result do not
        depend on it.
    """

    kind = "the chunks"

    def __init__(
        self,
        read: Callable[[], Iterable[Rows]],
        names: Sequence[str] | None = None,
        describe: Callable[[], str] = lambda: "made by hand",
        origin: Callable[[], tuple[Sequence[str], Sequence[object]]] | None = None,
    ) -> None:
        self._read, self._describe, self._origin = read, describe, origin
        self._kept: Path | None = None  # the file that keeps the results of the first look
        self.names = None if names is None else tuple(names)
        self.read_ahead = True
        self._marks: dict[str, tuple[object, ...]] = {}  # of the pieces that a function yielded for the last look
        self._readers: dict[int, list[ThreadPoolExecutor]] | None = None  # by the process, while `reading`

    def __repr__(self) -> str:
        """Return where the rows are from, and how many there are of what, if that is known without reading them."""
        return f"<Chunks: {self._describe()}>"

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        """Yield (X, y or None, sample_weight or None) of each chunk; with offsets (X, y, sample_weight, offset)."""
        for piece in self.pieces():
            found = piece.X, piece.y if piece.Y is None else piece.Y, piece.s
            yield found if piece.offset is None else (*found, piece.offset)

    def keep_look(self, path: PathLike) -> Self:
        """Keep the results of a fit's first look in a file, so that later fits have one pass less.

        The results are the classes and their weights, and a sample of the rows of at most some 128 MiB. If the data
        have changed since, a fit takes the first look again and replaces the file. A change is noticed by the names,
        sizes and dates of the data's files, by some of their pages, and by which columns or arrays are read.

        Parameters
        ----------
        path : path
            The file, a .npz archive, which need not exist yet. It is written whole or not at all.

        Returns
        -------
        Chunks
            The same object.

        Raises
        ------
        FileNotFoundError
            If the folder of `path` does not exist.
        ValueError
            If the chunks come from a function, since it may yield something else next time.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np
        >>> from softmax_ext import chunks
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> X = np.random.default_rng(0).standard_normal((1000, 5))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     X_path, y_path = os.path.join(folder, "X.npy"), os.path.join(folder, "y.npy")
        ...     np.save(X_path, X)
        ...     np.save(y_path, X[:, :3].argmax(axis=1))
        ...     data = chunks.from_npy(X_path, y_path).keep_look(os.path.join(folder, "look.npz"))
        ...     sweep = [LogisticRegression(C=C).fit(data) for C in (0.1, 1.0)]
        """
        if self._origin is None:
            raise ValueError("the look at what a function yields cannot be kept: it may yield something else next time")
        check_folder(Path(path))
        self._kept = Path(path)
        return self

    def look(self) -> Look:
        """Return the results of the first look: from the file that keeps them, if they are of these data."""
        if self._origin is None:
            self._marks = {}
            return Look.at(self.pieces(self.unchanged))
        if self._kept is None:
            return Look.at(self.pieces())
        data = fingerprint(*self._origin())
        found = Look.load(self._kept, data)
        if found is None:
            found = Look.at(self.pieces())
            if fingerprint(*self._origin()) == data:  # else the data changed while they were read
                found.save(self._kept, data)
        return found

    def unchanged(self, piece: Rows) -> Rows:
        """Return a piece; raise ValueError if a function yielded another one for the last look."""
        if self._origin is None:
            now = mark(piece)
            if self._marks.setdefault(piece.where, now) != now:
                raise ValueError(
                    f"{piece.where} has other values than in the fit's first pass: each pass must yield the same, so "
                    "seed what is drawn at random inside of the function"
                )
        return piece

    def pieces(self, prepare: Callable[[Rows], Any] = lambda piece: piece) -> Iterator[Any]:
        """Yield the chunks as `Rows`; the thread that reads a chunk also calls `prepare` on it."""
        prepared = (prepare(piece) for piece in self._read())
        if not self.read_ahead:
            return prepared
        # A process that was forked has no threads of its parent's.
        return _ahead(prepared, None if self._readers is None else self._readers.setdefault(os.getpid(), []))

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Keep the thread that reads from pass to pass, inside of the `with` block: to start one takes 0.6 ms."""
        if self._readers is not None:  # another thread's block, or one around this one
            yield
            return
        self._readers = {}
        try:
            yield
        finally:
            readers, self._readers = self._readers, None
            for reader in readers.get(os.getpid(), []):
                reader.shutdown()

    def objective(self, problem: Problem, sample: Rows, folds: Folds | None = None) -> ChunksObjective:
        """Return the objective of a problem that a first look has found, with a sample of its rows."""
        objective = ChunksObjective.of(self, problem, sample)
        objective.folds = folds
        return objective

    def each(self, function: Callable[..., Any], *arguments: Any, folds: Folds | None = None) -> Iterator[Any]:
        """Yield what a function returns for each chunk, and, with folds, its `Places`."""
        seen = 0
        for piece in self.pieces():
            more = () if folds is None else (folds.places(seen, len(piece)),)
            seen += len(piece)
            yield function(piece, *more, *arguments)


def _ahead(items: Iterable[Item], readers: list[ThreadPoolExecutor] | None) -> Iterator[Item]:
    """Yield the items; while the caller uses one, a thread gets the next one, but no further one.

    The thread is one of `readers`, if there are some, and becomes one of them at the end.
    """
    rest = iter(items)
    try:
        reader = (readers or []).pop()  # atomic: no other pass gets this one
    except IndexError:
        reader = ThreadPoolExecutor(1, "softmax_ext_reader")
    waiting = reader.submit(next, rest, None)
    try:
        while (item := waiting.result()) is not None:
            waiting = reader.submit(next, rest, None)
            yield item
    finally:
        wait([waiting])
        if readers is None:
            reader.shutdown()
        else:
            readers.append(reader)


def from_iterable(factory: Callable[[], Iterable[tuple[Any, ...]]]) -> Chunks:
    """Return chunks that a function yields.

    Parameters
    ----------
    factory : callable
        Called without arguments at the beginning of each pass, in the thread that fits. It returns an iterable, which
        another thread reads, of ``(X, y)``, ``(X, y, sample_weight)`` or ``(X, y, sample_weight, offset)``. X is
        (n, D), y (n,) labels or (n, K) probabilities, sample_weight (n,) or None, and offset (n, K), or (n,) for two
        classes. All chunks have the same dtypes, and each pass yields the same rows. X may be a data frame, the names
        of whose columns are kept. For predictions y may be None, or X may be yielded alone.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, or for `ChunksObjective`.

    Raises
    ------
    TypeError
        If `factory` is not callable, as a generator is not: it can be read only once, so pass a function that makes it.
    ValueError
        In a fit: if chunks do not fit together, or a later pass yields other values or more or fewer rows. The message
        has the chunk's number.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> def days():
    ...     for day in range(3):
    ...         rng = np.random.default_rng(day)
    ...         X = rng.standard_normal((100, 2))
    ...         yield X, (X[:, 0] > 0).astype(int)
    >>> model = LogisticRegression().fit(chunks.from_iterable(days))
    >>> model.predict([[2.0, 0.0]])
    array([1])
    """
    if not callable(factory):
        raise TypeError(
            f"factory must be a function that returns a new iterator each time, got {type(factory).__name__}: "
            "a fit reads the data many times"
        )

    def read() -> Iterator[Rows]:
        """Yield what the factory yields as checked rows."""
        for i, item in enumerate(factory()):
            where = f"chunk {i} of the iterable"
            if hasattr(item, "shape"):
                item = item, None
            if not isinstance(item, tuple | list) or len(item) not in (2, 3, 4):
                raise ValueError(
                    f"{where} must be (X, y), (X, y, sample_weight) or (X, y, sample_weight, offset), got "
                    f"{type(item).__name__}"
                )
            X, y, s, offset = (*item, None, None)[:4]
            names = tuple(X.columns) if hasattr(X, "columns") else None
            if names and not all(isinstance(name, str) for name in names):
                names = None  # scikit-learn keeps no names either unless all are strings
            if i == 0:
                made.names = names
            elif names != made.names:
                raise ValueError(f"{where} has the columns {names}, but the first one has {made.names}")
            yield checked(X, y, s, where, offset)

    made = Chunks(read, describe=lambda: f"what {getattr(factory, '__name__', type(factory).__name__)}() yields")
    return made


def from_npy(
    X_path: PathLike,
    y_path: PathLike | None = None,
    rows: int | None = None,
    *,
    sample_weight_path: PathLike | None = None,
    offset_path: PathLike | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Chunks:
    """Return chunks of .npy files, which are mapped into memory and never copied whole.

    Parameters
    ----------
    X_path : path
        File of the samples, (N, D). float32 and float64 in C order are read in place; anything else is converted.
    y_path : path, optional
        File of labels (N,), or of probabilities (N, K) of a floating dtype. Without it the chunks are for predictions
        only.
    rows : int, optional
        Rows of a chunk; by default as many as 256 MiB of X hold, or 64 MiB if X must be converted. The last bits of a
        result depend on it.
    sample_weight_path : path, optional
        File of weights (N,).
    offset_path : path, optional
        File of offsets, which are added to the scores: (N, K), or (N,) for two classes.
    dtype : dtype, optional
        The dtype of X, if the file does not tell it: NumPy writes bfloat16 as records of two bytes, and
        ``dtype=ml_dtypes.bfloat16`` reads them.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, or for `ChunksObjective`.

    Raises
    ------
    FileNotFoundError
        If a file does not exist.
    ValueError
        If a file is not a whole .npy file, or the shapes do not fit together; if X holds records and `dtype` is not
        given, or `dtype` is given and X holds no records of its size; in a fit, if a file has become shorter.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X_path, y_path = os.path.join(folder, "X.npy"), os.path.join(folder, "y.npy")
    ...     np.save(X_path, X)
    ...     np.save(y_path, X[:, :3].argmax(axis=1))
    ...     model = LogisticRegression().fit(chunks.from_npy(X_path, y_path, rows=300))
    >>> model.predict([[0.0, 0.0, 3.0, 0.0, 0.0]])
    array([2])
    """
    files = arrays.npy((X_path, y_path, sample_weight_path, offset_path), rows, dtype)
    return Chunks(files.read, describe=files.describe, origin=files.origin)


def from_parquet(
    path: PathLike | Sequence[PathLike],
    target: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | Sequence[str] | None = None,
    rows: int | None = None,
) -> Chunks:
    """Return chunks of one or more Parquet files, which pyarrow.dataset reads.

    A chunk is a row group, or at most 64 MiB of a larger one. Files are read in the order of their names, those of a
    list in the order of the list.

    Parameters
    ----------
    path : path, or sequence of paths
        A file, a folder of files, a list of files, or a pattern of `glob` such as ``"data/2026-*.parquet"``, in which
        ``**`` matches folders of any depth.
    target : str, optional
        Name of the column with the labels. Without it the chunks are for predictions only.
    columns : sequence of str, optional
        Names of the features, in the order of X's columns; by default all other columns in the order of the file. X is
        float16, int8 or uint8 if all of them are; else float32 if all of them are float16 or float32, and else float64.
    sample_weight : str, optional
        Name of a column with weights.
    offset : str or sequence of str, optional
        Name of a column that is added to the score of the second of two classes; or K names, a column for each class.
    rows : int, optional
        The most rows of a chunk.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, which takes `feature_names_in_` from it, or for `ChunksObjective`.

    Raises
    ------
    ImportError
        If pyarrow is not installed.
    FileNotFoundError
        If `path` does not exist, or matches no file.
    TypeError
        If `columns` is a string, or `path` neither a path nor a sequence.
    ValueError
        If a column is missing, holds no numbers or has nulls, or if a file is damaged or has other columns or types
        than the first file. The message names the file and the row group.

    Examples
    --------
    >>> import os, tempfile
    >>> import pandas as pd
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> table = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0], "age": [1.0, 0.0, 1.0, 0.0], "kind": list("aabb")})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table.to_parquet(os.path.join(folder, "table.parquet"))
    ...     model = LogisticRegression().fit(chunks.from_parquet(folder, "kind"))
    >>> model.feature_names_in_
    array(['size', 'age'], dtype=object)
    """
    files = Columns("parquet", path, target, columns, sample_weight=sample_weight, offset=offset, rows=rows)
    return Chunks(files.read, files.names, files.describe, files.origin)


def from_arrow(
    path: PathLike | Sequence[PathLike],
    target: str | None = None,
    columns: Sequence[str] | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | Sequence[str] | None = None,
    rows: int | None = None,
) -> Chunks:
    """Return chunks of one or more Arrow IPC files (Feather, version 2), which pyarrow.dataset reads.

    A chunk is a record batch, or at most 64 MiB of a larger one.

    Parameters
    ----------
    path, target, columns, sample_weight, offset, rows
        As in `from_parquet`.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, which takes `feature_names_in_` from it, or for `ChunksObjective`.

    Raises
    ------
    ImportError, FileNotFoundError, TypeError, ValueError
        As in `from_parquet`. Files of Feather's version 1 are refused.

    Examples
    --------
    >>> import os, tempfile
    >>> import pandas as pd
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> table = pd.DataFrame({"size": [1.0, 2.0, 8.0, 9.0], "age": [1.0, 0.0, 1.0, 0.0], "kind": list("aabb")})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table.to_feather(os.path.join(folder, "table.arrow"))
    ...     model = LogisticRegression().fit(chunks.from_arrow(folder, "kind"))
    >>> model.feature_names_in_
    array(['size', 'age'], dtype=object)
    """
    files = Columns("ipc", path, target, columns, sample_weight=sample_weight, offset=offset, rows=rows)
    return Chunks(files.read, files.names, files.describe, files.origin)


def from_hdf5(
    path: PathLike,
    X: str,
    y: str | None = None,
    rows: int | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Chunks:
    """Return chunks of datasets in an HDF5 file, which h5py reads.

    A dataset that is neither cut into chunks nor compressed is mapped into memory, as a .npy file is.

    Parameters
    ----------
    path : path
        The file.
    X : str
        Name of the dataset of samples, (N, D), such as "train/images".
    y : str, optional
        Name of the dataset of labels (N,), numbers or strings, or of probabilities (N, K) of a floating dtype. Without
        it the chunks are for predictions only.
    rows : int, optional
        Rows of a chunk; by default as in `from_npy`, but a multiple of the rows of the file's own chunks if possible.
    sample_weight : str, optional
        Name of the dataset of weights, (N,).
    offset : str, optional
        Name of the dataset of offsets, which are added to the scores: (N, K), or (N,) for two classes.
    dtype : dtype, optional
        The dtype of X, if the file holds its numbers as records; see `from_npy`.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, or for `ChunksObjective`.

    Raises
    ------
    ImportError
        If h5py is not installed.
    FileNotFoundError
        If the file does not exist.
    ValueError
        If the file is not a whole HDF5 file or has no such dataset, or the shapes do not fit together; in a fit, if the
        file has become shorter, has other shapes, or cannot be read. The message names the file, the dataset and the
        rows.

    Examples
    --------
    >>> import os, tempfile
    >>> import h5py
    >>> import numpy as np
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X = np.random.default_rng(0).standard_normal((1000, 5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "data.h5")
    ...     with h5py.File(path, "w") as file:
    ...         file["X"], file["y"] = X, X[:, :3].argmax(axis=1)
    ...     model = LogisticRegression().fit(chunks.from_hdf5(path, "X", "y", rows=300))
    >>> model.predict([[0.0, 0.0, 3.0, 0.0, 0.0]])
    array([2])
    """
    file = arrays.hdf5(path, (X, y, sample_weight, offset), rows, dtype)
    return Chunks(file.read, describe=file.describe, origin=file.origin)


def from_zarr(
    path: PathLike,
    X: str,
    y: str | None = None,
    rows: int | None = None,
    *,
    sample_weight: str | None = None,
    offset: str | None = None,
    dtype: npt.DTypeLike | None = None,
) -> Chunks:
    """Return chunks of the arrays of a Zarr group in a folder, of format 2 or 3, which zarr reads.

    Parameters
    ----------
    path : path
        The group's folder.
    X, y, rows, sample_weight, offset, dtype
        As in `from_hdf5`, with the names of arrays in the group.

    Returns
    -------
    Chunks
        For `LogisticRegression.fit`, or for `ChunksObjective`.

    Raises
    ------
    ImportError
        If zarr is not installed.
    FileNotFoundError
        If the folder does not exist.
    ValueError
        As in `from_hdf5`; in a fit, also if chunks have been lost, which zarr would read as zeros.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import zarr
    >>> from softmax_ext import chunks
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X = np.random.default_rng(0).standard_normal((1000, 5))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     group = zarr.open_group(os.path.join(folder, "data.zarr"), mode="w")
    ...     for name, array in {"X": X, "y": X[:, :3].argmax(axis=1)}.items():
    ...         _ = group.create_array(name, data=array, chunks=(300, *array.shape[1:]))
    ...     model = LogisticRegression().fit(chunks.from_zarr(os.path.join(folder, "data.zarr"), "X", "y"))
    >>> model.predict([[0.0, 0.0, 3.0, 0.0, 0.0]])
    array([2])
    """
    folder = arrays.zarr(path, (X, y, sample_weight, offset), rows, dtype)
    return Chunks(folder.read, describe=folder.describe, origin=folder.origin)


class ChunksObjective(PiecesObjective):
    """`SoftmaxObjective` over chunks: each evaluation is one pass over them.

    Parameters
    ----------
    chunks : Chunks
        Samples, targets and weights. Labels may be numbers or strings; the k-th of the sorted labels is class k.
    l2, class_weight, fit_intercept, n_threads
        As in `SoftmaxObjective`; keys of `class_weight` are classes 0..K-1.

    Attributes
    ----------
    size : int
        Entries of w: K D, and K more with an intercept.
    dtype : dtype
        The dtype of the computation, float32 or float64.
    classes : ndarray, shape (K,)
        The sorted labels.

    Raises
    ------
    ValueError, TypeError
        As in `SoftmaxObjective`; the message begins with the file and the rows. The objective can still be used after
        an error of one of its methods.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import chunks, optim
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> halves = chunks.from_iterable(lambda: [(X[:3], [0, 0, 1]), (X[3:], [1])])
    >>> objective = chunks.ChunksObjective(halves, l2=0.1)
    >>> optim.newton(objective, np.zeros(objective.size)).converged
    True
    """

    def __init__(
        self,
        chunks: Chunks,
        *,
        l2: float = 0.0,
        class_weight: npt.ArrayLike | Mapping[int, float] | str | None = None,
        fit_intercept: bool = True,
        n_threads: int | None = None,
    ) -> None:
        found, sample = chunks.look()
        c = None
        if class_weight is not None:
            if found.labels is None:
                raise no_class_weights()
            K = len(found.weights)
            c = class_weights(class_weight, np.arange(K), found.weights, K)
        self._take(chunks, found.problem(Penalty(l2), c, fit_intercept, n_threads), sample)

    def _take(self, chunks: Chunks, problem: Problem, sample: Rows) -> None:
        """Set the attributes from what a first look has found."""
        super().__init__(problem, problem.encoded(sample))
        self.chunks, self.classes, self.finite = chunks, problem.classes, False
        self._rooms: list[npt.NDArray[np.intp]] = []  # memory for a chunk's labels, kept since new pages take longer

    @classmethod
    def of(cls, chunks: Chunks, problem: Problem, sample: Rows) -> ChunksObjective:
        """Return the objective of a problem that a first look has found, with a sample of its rows."""
        self = cls.__new__(cls)
        self._take(chunks, problem, sample)
        return self

    def _check_finite(self) -> None:
        deque(self.chunks.pieces(finite_piece), maxlen=0)

    def _part(self, piece: Rows) -> tuple[int, SoftmaxObjective | None, npt.NDArray[np.intp]]:
        """Return the rows of a chunk, its term of the sum unless it has no weight, and the memory of its labels."""
        encoded, n = self.problem.encoded(self.chunks.unchanged(piece)), len(piece)
        if not weighs(encoded):
            finite_piece(piece)
            return n, None, np.empty(0, np.intp)
        try:
            room = self._rooms.pop()  # atomic: no other thread gets this one
        except IndexError:
            room = np.empty(n, np.intp)
        room = room if len(room) >= n else np.empty(n, np.intp)
        return n, self.problem.objective(encoded, room=room), room

    def _partials(self, asks: Sequence[Ask]) -> Iterator[tuple[Node, Sums]]:
        """Yield the leaves of the chunks that have rows, in their order."""
        seen = number = 0
        for n, part, room in self.chunks.pieces(self._part):
            if not n:
                continue
            found: Sums = [None] * len(asks)
            if part is not None:
                found = answers(part, None if self.folds is None else self.folds.places(seen, n), asks)
                self._rooms[1:] = [room]  # one is of the next chunk
            yield (0, number), found
            seen, number = seen + n, number + 1
        if seen != self.problem.rows:
            raise ValueError(
                f"the chunks had {self.problem.rows} rows at first and {seen} now: each pass must yield the same, from "
                "a new iterator"
            )
