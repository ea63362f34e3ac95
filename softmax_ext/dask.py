"""`LogisticRegression` on a Dask cluster: the same model, on partitions that stay where they are.

::

    from dask.distributed import Client
    from softmax_ext.dask import LogisticRegression

    client = Client("tcp://scheduler:8786")
    model = LogisticRegression().fit(X, y)  # dask arrays, or columns of a data frame: d.drop(columns="y"), d.y

The optimiser runs in the client's process. For each evaluation, every worker gets one task, which computes the sums of
the partitions that the worker holds. The client adds these sums in the order of the partitions, so that the number of
workers does not change a bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
import numpy.typing as npt

try:
    import dask.array as da
    import distributed
    from dask import delayed
except ImportError as error:
    raise ImportError(
        f"softmax_ext.dask needs dask and distributed ({error}): pip install 'softmax_ext[dask]'"
    ) from error

from . import linear_model
from ._chunks import partitions
from ._core import threads
from ._fit.scaling import Scaling, moments
from ._fit.stream import RULES
from ._inputs.dtypes import COMPUTES_IN
from ._inputs.rows import Rows
from ._objective.pieces import PiecesObjective, Problem, checked, every, merged, most_of_a_sample, plain, survey

__all__ = ["LogisticRegression"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# Vectors of more bytes than this are scattered, so that workers send them to each other. Smaller ones go with each
# worker's task through the scheduler: its copies cost less than the second round trip of a scatter.
SCATTERED = 2**20
# How many seconds a cluster may be without any worker: on a busy machine a nanny needs some to replace a process.
PATIENCE = 60


class LogisticRegression(linear_model.LogisticRegression):
    """`softmax_ext.linear_model.LogisticRegression` for Dask's arrays and data frames.

    All parameters, attributes and methods are those of the plain estimator. Fitted attributes are NumPy arrays.
    Everything works on NumPy arrays, too, without a cluster.

    Parameters
    ----------
    client : distributed.Client, optional
        The cluster. By default it is that of the current client, or, if there is none, one of threads in this process
        that lasts as long as the fit. `get_params` does not return it, but clones have it.
    **parameters
        Those of `softmax_ext.linear_model.LogisticRegression`. Without `n_threads` each worker computes one partition
        at a time, on all its threads.

    See Also
    --------
    softmax_ext.linear_model.LogisticRegression : The plain estimator, which `to_local` returns.

    Notes
    -----
    An evaluation sends the coefficients to each worker and brings back one gradient of K D numbers for each partition,
    so a worker should have some partitions, not hundreds. If a worker is lost, Dask computes its partitions again from
    their source, and the fit ends at the same coefficients; partitions that were scattered by hand are lost.
    Processors of different kinds round differently: only in a cluster that mixes them does the result depend on which
    worker computes which partition.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client
    >>> from softmax_ext.dask import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 3))
    >>> y = X.argmax(axis=1)
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     model = LogisticRegression(client=client).fit(da.from_array(X, (250, 3)), da.from_array(y, 250))
    ...     predicted = model.predict(da.from_array(X[:5], (2, 3)))
    ...     bool((predicted.compute() == y[:5]).all())
    True
    """

    def __init__(self, penalty: str | None = "deprecated", *, client: Any = None, **parameters: Any) -> None:
        super().__init__(penalty, **parameters)
        self.client = client

    @classmethod
    def _get_param_names(cls) -> list[str]:
        names: list[str] = linear_model.LogisticRegression._get_param_names()
        return names

    def __sklearn_clone__(self) -> Self:
        return type(self)(client=self.client, **self.get_params())

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | {"client": None}

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : dask array or data frame, shape (N, D)
            Samples: blocks of NumPy arrays or SciPy's CSR, all of one dtype. Partitions may have any sizes, may be
            empty, and their sizes need not be known.
        y : dask array or series, shape (N,) or (N, K)
            Labels, or probabilities of a floating dtype. It need not be partitioned as X is.
        sample_weight : dask array or series, shape (N,), optional
            Weights of the samples. They need not be partitioned as X is.
        offset : dask array, series or data frame, shape (N, K), or (N,) for two classes, optional
            Added to the scores. It need not be partitioned as X is.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            Where the plain estimator raises them, with the number of the partition. Also if X and y have different
            numbers of rows, if the solver takes mini-batches, and if X is a Dask collection but y is not.
        RuntimeError
            If the cluster has no worker for a minute.
        """
        if not _is_dask(X):
            super().fit(X, y, sample_weight, offset)
            return self
        self._validate_params()
        if self.solver in RULES:
            raise ValueError(
                f"solver={self.solver!r} goes through the data in mini-batches, which is not for a cluster: use "
                "solver='lbfgs', or partial_fit on one partition after the other"
            )
        given = {"y": y, "sample_weight": sample_weight, "offset": offset}
        for name, data in given.items():
            if not (_is_dask(data) or (data is None and name != "y")):
                raise _no_collection(name, data)
            if name != "offset" and hasattr(data, "columns") and data.ndim == 2 and len(data.columns) == 1:
                raise TypeError(f"{name} must be a series, not a frame of one column: df[{str(data.columns[0])!r}]")
        _check_columns(X)
        asked = self._strength()
        self._stream = None
        with ExitStack() as stack:
            client = self._client(stack)
            pieces = _distribute(client, X, given)
            surveys = _gathered(client, client.map(survey, pieces, pure=False))
            problem = self._pieces_problem(merged(surveys), asked)
            if hasattr(X, "columns"):
                self.feature_names_in_ = np.array([str(name) for name in X.columns], object)
            objective = DaskObjective(client, pieces, surveys, problem)
            self._minimise_pieces(
                objective, lambda: Scaling.of_pieces(_gathered(client, client.map(moments, pieces, pure=False)))
            )
        return self

    def _client(self, stack: ExitStack) -> Any:
        client = self.client
        if client is None:
            try:
                client = distributed.get_client()
            except ValueError:
                cluster = distributed.LocalCluster(
                    n_workers=1,
                    threads_per_worker=threads.share,
                    processes=False,
                    dashboard_address="127.0.0.1:0",
                )
                return stack.enter_context(distributed.Client(stack.enter_context(cluster), set_as_default=False))
        if client.asynchronous:
            raise TypeError("client must not be asynchronous: the optimiser waits for each of its evaluations")
        return client

    def to_local(self) -> linear_model.LogisticRegression:
        """Return the plain estimator with the same parameters and coefficients."""
        local = linear_model.LogisticRegression(**self.get_params())
        local.__dict__.update({name: value for name, value in vars(self).items() if name.endswith("_")})
        return local

    def predict(self, X: Any, offset: Any = None) -> Any:
        """Return the most probable labels (N,). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict(X, offset)
        return self._lazily("predict", X, self.classes_.dtype, offset=offset)

    def predict_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the probabilities (N, K). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict_proba(X, offset)
        dtype, K = np.result_type(self.coef_, _dtype(X)), len(self.classes_)
        return self._lazily("predict_proba", X, dtype, K, offset=offset)

    def predict_log_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the logarithms of the probabilities (N, K). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict_log_proba(X, offset)
        dtype, K = np.result_type(self.coef_, _dtype(X)), len(self.classes_)
        return self._lazily("predict_log_proba", X, dtype, K, offset=offset)

    def decision_function(self, X: Any, offset: Any = None) -> Any:
        """Return the scores, (N, K), or (N,) for two classes. If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().decision_function(X, offset)
        dtype, rows = np.result_type(self.coef_, _dtype(X)), len(self.coef_)
        return self._lazily("decision_function", X, dtype, None if rows == 1 else rows, offset=offset)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Any:
        """Return the weighted accuracy of the predicted labels.

        If X is a Dask collection, it is a lazy Dask array without dimensions, which ``float(model.score(X, y))``
        computes.
        """
        if not _is_dask(X):
            return super().score(X, y, sample_weight, offset)
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        blocks = _delayed_blocks(X=X, y=y, **weights)
        predicted = self._lazily("predict", X, self.classes_.dtype, blocks=blocks["X"], offset=offset)
        right = da.map_blocks(partitions.right, *_alike(predicted, _array(y, blocks["y"]), "y"), dtype=bool)
        if sample_weight is None:
            return right.mean()
        right, s = _alike(right, _array(sample_weight, blocks["sample_weight"]), "sample_weight")
        return da.map_blocks(partitions.weighted, right, s, dtype=np.float64).sum() / s.sum()

    def _lazily(
        self,
        method: str,
        X: Any,
        dtype: Any,
        columns: int | None = None,
        blocks: list[Any] | None = None,
        offset: Any = None,
    ) -> Any:
        if offset is not None and not _is_dask(offset):
            raise _no_collection("offset", offset)
        model = self.to_local()
        if model.n_threads is None:
            model.n_threads = 1  # a worker runs as many of these tasks at a time as it has threads
        if offset is not None:
            return self._lazily_added(method, X, offset, delayed(model), dtype, columns)
        if isinstance(X, da.Array):
            shape: dict[str, Any] = {"drop_axis": 1} if columns is None else {"chunks": (X.chunks[0], (columns,))}
            meta = np.empty((0,) if columns is None else (0, columns), dtype)
            return _in_one_column(X).map_blocks(
                partitions.call, delayed(model), method, columns, dtype, meta=meta, **shape
            )
        model = delayed(model)
        parts = [
            da.from_delayed(
                delayed(partitions.call, pure=False)(block, model, method, columns, dtype),
                (math.nan,) if columns is None else (math.nan, columns),
                dtype,
            )
            for block in blocks or X.to_delayed()
        ]
        return da.concatenate(parts)

    def _lazily_added(self, method: str, X: Any, offset: Any, model: Any, dtype: Any, columns: int | None) -> Any:
        """Return what `_lazily` does, with an offset that has partitions of the same rows as X or is rechunked so."""
        if isinstance(X, da.Array) and isinstance(offset, da.Array):
            offset = _in_one_column(_alike_rows(X, offset))
        blocks = _delayed_blocks(X=X, offset=offset)
        if len(blocks["X"]) != len(blocks["offset"]):
            raise ValueError(
                f"X has {len(blocks['X'])} partitions, but offset has {len(blocks['offset'])}, and Dask does not know "
                "their rows: take both from one data frame, or call compute_chunk_sizes() of both arrays"
            )
        rows: list[float] = [*_rows(X)] or [math.nan] * len(blocks["X"])
        parts = [
            da.from_delayed(
                delayed(partitions.call, pure=False)(block, model, method, columns, dtype, added),
                (n,) if columns is None else (n, columns),
                dtype,
            )
            for n, block, added in zip(rows, blocks["X"], blocks["offset"], strict=True)
        ]
        return da.concatenate(parts)


class DaskObjective(PiecesObjective):
    """The objective over a collection's partitions, each of which has an objective of its own on a worker."""

    def __init__(self, client: Any, pieces: list[Any], surveys: list[Any], problem: Problem) -> None:
        self.client = client
        counts = [int(one.counts.sum() if one.labels is not None else one.counts[0]) for one in surveys]
        stride = 1
        while math.ceil(sum(counts) / stride) > most_of_a_sample(problem.parameters.D, problem.dtype):
            stride *= 2
        firsts = np.cumsum([0, *counts[:-1]]).tolist()
        sample = _gathered(client, client.map(every, pieces, firsts, [stride] * len(pieces), pure=False))
        super().__init__(problem, problem.encoded(Rows.joined([piece for piece in sample if len(piece)])))
        parts = client.map(partitions.objective_of, pieces, [problem] * len(pieces), pure=False)
        self.parts = [part for part, one in zip(parts, surveys, strict=True) if one.rows]

    def _partials(self, method: str, *vectors: Vector) -> Iterator[Any]:
        client, sent = self.client, vectors
        if sum(vector.nbytes for vector in vectors) > SCATTERED:
            sent = client.scatter(list(vectors), broadcast=True, hash=False)
        tasks = [
            client.submit(
                partitions.evaluate, method, numbers, [self.parts[i] for i in numbers], self.problem.n_threads, *sent,
                workers=[worker], allow_other_workers=True, pure=False,
            )
            for worker, numbers in self._placed().items()
        ]  # fmt: skip
        try:
            found = dict(pair for pairs in client.gather(tasks) for pair in pairs)
        except BaseException:
            client.cancel(tasks)
            raise
        for number in range(len(self.parts)):
            if found[number] is not None:
                yield found[number]

    def _placed(self) -> dict[str, list[int]]:
        """Return the numbers of the parts that each worker computes.

        A worker computes the parts that it holds. A part that no worker holds goes to the one with the fewest.
        """
        with self.client.as_current():
            distributed.wait(self.parts)
        holders = self.client.who_has(self.parts)
        placed: dict[str, list[int]] = {}
        homeless = []
        for i, part in enumerate(self.parts):
            if workers := holders.get(part.key):
                placed.setdefault(min(workers), []).append(i)
            else:
                homeless.append(i)
        workers = self._workers() if homeless else []
        for i in homeless:
            placed.setdefault(min(workers, key=lambda worker: len(placed.get(worker, []))), []).append(i)
        return placed

    def _workers(self) -> list[str]:
        """Return the addresses of all workers; if there is none, wait for one."""
        while not (workers := list(self.client.scheduler_info(n_workers=-1)["workers"])):
            try:
                self.client.wait_for_workers(1, timeout=PATIENCE)
            except TimeoutError:
                raise RuntimeError(
                    f"the cluster has had no worker for {PATIENCE} seconds: look why they end, or give it others"
                ) from None
        return workers


def _no_collection(name: str, data: Any) -> TypeError:
    return TypeError(f"{name} must be a Dask array or series as X is one, got {type(data).__name__}")


def _check_columns(X: Any) -> None:
    """Raise one error that names all columns of a data frame that do not hold numbers."""
    if not hasattr(X, "columns"):
        return
    wrong = [f"{name!r} ({dtype})" for name, dtype in X.dtypes.items() if dtype.kind not in "fiub"]
    if wrong:
        raise ValueError(
            f"X has columns that hold no numbers: {', '.join(wrong)}; encode them, by dask.dataframe.get_dummies for "
            "example, or leave them out"
        )


def _is_dask(data: Any) -> bool:
    return hasattr(data, "__dask_graph__")


def _in_one_column(X: Any) -> Any:
    """Return an array whose chunks hold all columns, so that each is some whole samples."""
    return X.rechunk({1: -1}) if isinstance(X, da.Array) and X.ndim == 2 and X.numblocks[1] > 1 else X


def _array(data: Any, blocks: list[Any]) -> Any:
    """Return a series with these blocks as a Dask array; Dask's own conversion of strings would warn."""
    if isinstance(data, da.Array):
        return data
    dtype = data.dtype if data.dtype.kind in "fiub" else np.dtype(object)
    blocks = [da.from_delayed(delayed(plain, pure=False)(block), (math.nan,), dtype) for block in blocks]
    return da.concatenate(blocks)


def _gathered(client: Any, futures: list[Any]) -> list[Any]:
    """Return the results of futures, or raise the error of the first partition that has one."""
    with client.as_current():
        distributed.wait(futures)
    for future in futures:
        if future.status == "error":
            future.result()
    found: list[Any] = client.gather(futures)
    return found


def _dtype(X: Any) -> np.dtype[Any]:
    """Return the dtype that samples of X are computed in."""
    dtype: np.dtype[Any] = np.dtype(X.dtype) if hasattr(X, "dtype") else np.result_type(*X.dtypes)
    return COMPUTES_IN.get(dtype.char, np.dtype(np.float64))


def _distribute(client: Any, X: Any, others: dict[str, Any]) -> list[Any]:
    """Return a future of checked `Rows` for each partition of X, with y, weights and offsets cut as X is."""
    given = {name: _in_one_column(data) for name, data in {"X": X, **others}.items() if data is not None}
    to_compute = _delayed_blocks(**given)
    # All collections are computed in one call, so that a file that holds both X and y is read once.
    futures = iter(client.compute([block for blocks in to_compute.values() for block in blocks]))
    found = {name: [next(futures) for _ in blocks] for name, blocks in to_compute.items()}
    rows, columns = _rows(given.pop("X")), {"X": found["X"]}
    for name, data in given.items():
        blocks, theirs = found[name], _rows(data)
        if not rows or rows != theirs:
            rows, theirs = rows or _lengths(client, found["X"]), theirs or _lengths(client, blocks)
            if sum(rows) != sum(theirs):
                raise ValueError(
                    f"X has {sum(rows)} rows in {len(rows)} partitions, but {name} has {sum(theirs)} in {len(theirs)}: "
                    "take both from the same rows, such as two columns of one data frame"
                )
        columns[name] = blocks if rows == theirs else _cut(client, blocks, theirs, rows)
    absent = [None] * len(found["X"])
    parts = zip(*(columns.get(name, absent) for name in ("X", "y", "sample_weight", "offset")), strict=True)
    return [
        client.submit(checked, X, y, s, f"partition {i} of X", offset, pure=False)
        for i, (X, y, s, offset) in enumerate(parts)
    ]


def _delayed_blocks(**collections: Any) -> dict[str, list[Any]]:
    """Return the delayed blocks of each collection.

    Data frames with equally many partitions get them from one common graph. If Dask optimised their graphs one by one,
    it would merge files of which few columns are read: of 12 files X might have 12 blocks, and y 3.
    """
    frames = {name: data for name, data in collections.items() if not isinstance(data, da.Array)}
    blocks = {name: list(data.to_delayed().ravel()) for name, data in collections.items() if name not in frames}
    if len(frames) > 1 and len({data.npartitions for data in frames.values()}) == 1:
        first, *others = frames.values()
        together = first.map_partitions(
            partitions.together, *others, meta=(None, object), enforce_metadata=False, align_dataframes=False
        ).to_delayed()
        return blocks | {name: [parts[i] for parts in together] for i, name in enumerate(frames)}
    return blocks | {name: list(data.to_delayed()) for name, data in frames.items()}


def _rows(data: Any) -> list[int]:
    """Return the number of rows of each partition, or an empty list if these are not known."""
    known = isinstance(data, da.Array) and not any(math.isnan(n) for n in data.chunks[0])
    return [int(n) for n in data.chunks[0]] if known else []


def _lengths(client: Any, blocks: list[Any]) -> list[int]:
    return [int(n) for n in _gathered(client, client.map(partitions.length, blocks, pure=False))]


def _cut(client: Any, blocks: list[Any], old: list[int], new: list[int]) -> list[Any]:
    """Return futures of blocks with the numbers of rows `new`, made of blocks with the numbers of rows `old`."""
    starts, made, first = np.cumsum([0, *old]), [], 0
    for rows in new:
        parts = [
            (block, max(first - start, 0), min(first + rows - start, n))
            for block, start, n in zip(blocks, starts.tolist(), old, strict=False)
            if start < first + rows and first < start + n
        ]
        here = [block for block, _, _ in parts] or blocks[:1]
        bounds = [(begin, end) for _, begin, end in parts] or [(0, 0)]
        made.append(client.submit(partitions.rejoined, here, bounds, pure=False))
        first += rows
    return made


def _alike_rows(X: Any, other: Any) -> Any:
    """Return an array rechunked along its rows as X is, or unchanged if Dask does not know the numbers of rows."""
    known = _rows(X) and _rows(other)
    return other.rechunk({0: X.chunks[0]}) if known and X.shape[0] == other.shape[0] else other


def _alike(right: Any, other: Any, name: str) -> tuple[Any, Any]:
    """Return two vectors with the same chunks, or unchanged if Dask does not know their lengths."""
    if len(right.chunks[0]) != len(other.chunks[0]) and not (_rows(right) and _rows(other)):
        raise ValueError(
            f"X has {len(right.chunks[0])} partitions, but {name} has {len(other.chunks[0])}, and Dask does not know "
            "their rows: take both from one data frame, or call compute_chunk_sizes() of both arrays"
        )
    known = not any(math.isnan(n) for array in (right, other) for n in array.chunks[0])
    return (right, other.rechunk(right.chunks)) if known and right.shape == other.shape else (right, other)
