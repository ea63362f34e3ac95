"""`LogisticRegression` on a Dask cluster: the same model, on partitions that stay where they are.

::

    from dask.distributed import Client
    from softmax_ext.dask import LogisticRegression

    client = Client("tcp://scheduler:8786")
    model = LogisticRegression().fit(X, y)  # dask arrays, or columns of a data frame: d.drop(columns="y"), d.y

The optimiser runs in the client's process. For each evaluation, every worker computes the sums of the partitions that
it holds. Sums are added in a binary tree by the partitions' numbers, on the workers. So the number of workers does not
change a bit of the result, and the client receives one gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Self

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
from ._chunks.cluster import DaskObjective, Partitions, delayed_blocks, in_one_column, known_rows
from ._core import threads
from ._fit.stream import RULES
from ._inputs.dtypes import COMPUTES_IN
from ._objective.pieces import plain

__all__ = ["DaskObjective", "LogisticRegression", "LogisticRegressionCV", "logistic_regression_path"]

Array = npt.NDArray[Any]


@contextmanager
def _cluster(client: Any) -> Iterator[Any]:
    """Give the client of a fit: the given one, or the current one, or one of threads that lasts as long as the fit."""
    with ExitStack() as stack:
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
                client = distributed.Client(stack.enter_context(cluster), set_as_default=False)
                stack.enter_context(client)
        if client.asynchronous:
            raise TypeError("client must not be asynchronous: the optimiser waits for each of its evaluations")
        yield client


def _check_given(X: Any, y: Any, sample_weight: Any, offset: Any) -> dict[str, Any]:
    """Return what belongs to the rows of X by its name, once it is checked without being computed."""
    given = {"y": y, "sample_weight": sample_weight, "offset": offset}
    for name, data in given.items():
        if not (_is_dask(data) or (data is None and name != "y")):
            raise _no_collection(name, data)
        if name != "offset" and hasattr(data, "columns") and data.ndim == 2 and len(data.columns) == 1:
            raise TypeError(f"{name} must be a series, not a frame of one column: df[{str(data.columns[0])!r}]")
    _check_columns(X)
    return given


class _OnCluster:
    """What both estimators have of a cluster: a client, and predictions by partition."""

    _plain: ClassVar[Any]  # the plain estimator's class
    classes_: Array
    coef_: Array
    get_params: Callable[..., dict[str, Any]]

    def __init__(self, *arguments: Any, client: Any = None, **parameters: Any) -> None:
        super().__init__(*arguments, **parameters)
        self.client = client

    @classmethod
    def _get_param_names(cls) -> list[str]:
        names: list[str] = cls._plain._get_param_names()
        return names

    def __sklearn_clone__(self) -> Self:
        return type(self)(client=self.client, **self.get_params())

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()  # type: ignore[assignment]
        return state | {"client": None}

    def to_local(self) -> Any:
        """Return the plain estimator with the same parameters and coefficients."""
        local = self._plain(**self.get_params())
        local.__dict__.update({name: value for name, value in vars(self).items() if name.endswith("_")})
        return local

    def predict(self, X: Any, offset: Any = None) -> Any:
        """Return the most probable labels (N,). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict(X, offset)  # type: ignore[misc]
        return self._lazily("predict", X, self.classes_.dtype, offset=offset)

    def predict_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the probabilities (N, K). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict_proba(X, offset)  # type: ignore[misc]
        dtype, K = np.result_type(self.coef_, _dtype(X)), len(self.classes_)
        return self._lazily("predict_proba", X, dtype, K, offset=offset)

    def predict_log_proba(self, X: Any, offset: Any = None) -> Any:
        """Return the logarithms of the probabilities (N, K). If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().predict_log_proba(X, offset)  # type: ignore[misc]
        dtype, K = np.result_type(self.coef_, _dtype(X)), len(self.classes_)
        return self._lazily("predict_log_proba", X, dtype, K, offset=offset)

    def decision_function(self, X: Any, offset: Any = None) -> Any:
        """Return the scores, (N, K), or (N,) for two classes. If X is a Dask collection, they are a lazy Dask array."""
        if not _is_dask(X):
            return super().decision_function(X, offset)  # type: ignore[misc]
        dtype, rows = np.result_type(self.coef_, _dtype(X)), len(self.coef_)
        return self._lazily("decision_function", X, dtype, None if rows == 1 else rows, offset=offset)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> Any:
        """Return the weighted accuracy of the predicted labels.

        If X is a Dask collection, it is a lazy Dask array without dimensions, which ``float(model.score(X, y))``
        computes.
        """
        if not _is_dask(X):
            return super().score(X, y, sample_weight, offset)  # type: ignore[misc]
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        blocks = delayed_blocks(X=X, y=y, **weights)
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
            return in_one_column(X).map_blocks(
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
            offset = in_one_column(_alike_rows(X, offset))
        blocks = delayed_blocks(X=X, offset=offset)
        if len(blocks["X"]) != len(blocks["offset"]):
            raise ValueError(
                f"X has {len(blocks['X'])} partitions, but offset has {len(blocks['offset'])}, and Dask does not know "
                "their rows: take both from one data frame, or call compute_chunk_sizes() of both arrays"
            )
        rows: list[float] = [*known_rows(X)] or [math.nan] * len(blocks["X"])
        parts = [
            da.from_delayed(
                delayed(partitions.call, pure=False)(block, model, method, columns, dtype, added),
                (n,) if columns is None else (n, columns),
                dtype,
            )
            for n, block, added in zip(rows, blocks["X"], blocks["offset"], strict=True)
        ]
        return da.concatenate(parts)


class LogisticRegression(_OnCluster, linear_model.LogisticRegression):
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
    An evaluation is no task of Dask's scheduler: workers pass the coefficients on to one another, and each adds the
    gradients of neighbouring partitions that it holds. Others travel between workers, so partitions should lie on the
    workers in their order. The client receives one gradient. If a worker is lost, Dask computes its partitions again
    from their source, and the fit ends at the same coefficients; partitions that were scattered by hand are lost. Since
    the scheduler takes workers for idle while they evaluate, an adaptive cluster needs its minimum of workers set.
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

    _plain = linear_model.LogisticRegression

    def __init__(self, penalty: str | None = "deprecated", *, client: Any = None, **parameters: Any) -> None:
        super().__init__(penalty, client=client, **parameters)

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
            If the cluster has no worker for a minute, or loses workers in ten attempts at one evaluation.
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
        given = _check_given(X, y, sample_weight, offset)
        asked = self._strength()
        self._stream = None
        with _cluster(self.client) as client:
            self._fit_pieces(Partitions(client, X, given), None, None, asked)
        return self


class LogisticRegressionCV(_OnCluster, linear_model.LogisticRegressionCV):
    """`softmax_ext.linear_model.LogisticRegressionCV` for Dask's arrays and data frames.

    All parameters, attributes and methods are those of the plain estimator, with folds and scores as for chunks:
    ``cv=5`` means that row i is held out by fold i modulo 5, in the order of the partitions.

    Parameters
    ----------
    client : distributed.Client, optional
        As in `LogisticRegression`.
    **parameters
        Those of `softmax_ext.linear_model.LogisticRegressionCV`.

    Notes
    -----
    All folds, and all rows, are fitted side by side. An evaluation asks each worker once, for all of them, so that a
    sweep has no more round trips than its longest chain of fits. Neither the number of workers nor who has which
    partition changes a bit.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client
    >>> from softmax_ext.dask import LogisticRegressionCV
    >>> X = np.random.default_rng(0).standard_normal((1000, 3))
    >>> y = X.argmax(axis=1)
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     model = LogisticRegressionCV(
    ...         Cs=[0.1, 10], cv=3, l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False, client=client
    ...     ).fit(da.from_array(X, (250, 3)), da.from_array(y, 250))
    >>> model.C_, model.scores_.shape
    (10.0, (3, 1, 2))
    """

    _plain = linear_model.LogisticRegressionCV

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None, **params: Any) -> Self:
        """Choose C, and fit the model; data as in `LogisticRegression.fit`, y of labels."""
        if not _is_dask(X):
            super().fit(X, y, sample_weight, offset, **params)
            return self
        given = _check_given(X, y, sample_weight, offset)
        with _cluster(self.client) as client:
            super().fit(Partitions(client, X, given), **params)
        return self

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None, **score_params: Any) -> Any:
        """Return the score by `scoring`; of a Dask collection the accuracy, as `LogisticRegression.score` does."""
        if not _is_dask(X):
            return linear_model.LogisticRegressionCV.score(
                self, X, y, sample_weight=sample_weight, offset=offset, **score_params
            )
        if self.scoring not in (None, "warn", "accuracy"):
            raise ValueError(
                f"a score of a Dask collection is the accuracy, and scoring={self.scoring!r}: compute it from "
                "predict_proba(X), which is lazy"
            )
        return super().score(X, y, sample_weight, offset)


def logistic_regression_path(
    X: Any, y: Any, *, client: Any = None, sample_weight: Any = None, offset: Any = None, **parameters: Any
) -> linear_model.Path:
    """Fit `LogisticRegression` at each C of a grid, on a cluster: `softmax_ext.linear_model.logistic_regression_path`.

    Parameters
    ----------
    X, y, sample_weight, offset
        As in `LogisticRegression.fit`.
    client : distributed.Client, optional
        As in `LogisticRegression`.
    **parameters
        Those of the plain function.

    Returns
    -------
    Path
        The models, as NumPy arrays.

    Raises
    ------
    ValueError, TypeError
        As by `LogisticRegression.fit`.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client
    >>> from softmax_ext.dask import logistic_regression_path
    >>> X = np.random.default_rng(0).standard_normal((1000, 3))
    >>> with Client(processes=False, dashboard_address=":0") as client:
    ...     path = logistic_regression_path(
    ...         da.from_array(X, (250, 3)), da.from_array(X.argmax(axis=1), 250), client=client, Cs=3, l1_ratio=1.0
    ...     )
    >>> path.nonzero[0], path.coefs.shape
    (np.int64(0), (3, 3, 3))
    """
    if not _is_dask(X):
        return linear_model.logistic_regression_path(X, y, sample_weight=sample_weight, offset=offset, **parameters)
    given = _check_given(X, y, sample_weight, offset)
    with _cluster(client) as found:
        return linear_model.logistic_regression_path(Partitions(found, X, given), **parameters)


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


def _array(data: Any, blocks: list[Any]) -> Any:
    """Return a series with these blocks as a Dask array; Dask's own conversion of strings would warn."""
    if isinstance(data, da.Array):
        return data
    dtype = data.dtype if data.dtype.kind in "fiub" else np.dtype(object)
    blocks = [da.from_delayed(delayed(plain, pure=False)(block), (math.nan,), dtype) for block in blocks]
    return da.concatenate(blocks)


def _dtype(X: Any) -> np.dtype[Any]:
    """Return the dtype that samples of X are computed in."""
    dtype: np.dtype[Any] = np.dtype(X.dtype) if hasattr(X, "dtype") else np.result_type(*X.dtypes)
    return COMPUTES_IN.get(dtype.char, np.dtype(np.float64))


def _alike_rows(X: Any, other: Any) -> Any:
    """Return an array rechunked along its rows as X is, or unchanged if Dask does not know the numbers of rows."""
    known = known_rows(X) and known_rows(other)
    return other.rechunk({0: X.chunks[0]}) if known and X.shape[0] == other.shape[0] else other


def _alike(right: Any, other: Any, name: str) -> tuple[Any, Any]:
    """Return two vectors with the same chunks, or unchanged if Dask does not know their lengths."""
    if len(right.chunks[0]) != len(other.chunks[0]) and not (known_rows(right) and known_rows(other)):
        raise ValueError(
            f"X has {len(right.chunks[0])} partitions, but {name} has {len(other.chunks[0])}, and Dask does not know "
            "their rows: take both from one data frame, or call compute_chunk_sizes() of both arrays"
        )
    known = not any(math.isnan(n) for array in (right, other) for n in array.chunks[0])
    return (right, other.rechunk(right.chunks)) if known and right.shape == other.shape else (right, other)
