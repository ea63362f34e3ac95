"""LogisticRegression on Dask: clusters of their own on the loopback, of processes and of threads."""

import contextlib
import doctest
import os
import pickle
import signal
import threading
import time
import warnings
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn", "1.6")
distributed = pytest.importorskip("distributed")
pytest.importorskip("dask")

import dask  # noqa: E402
import dask.array as da  # noqa: E402
from distributed.comm.tcp import TCP  # noqa: E402
from sklearn.base import clone  # noqa: E402

from softmax_ext import chunks, linear_model  # noqa: E402
from softmax_ext import dask as ours  # noqa: E402
from softmax_ext._chunks import cluster as cluster_module  # noqa: E402
from softmax_ext._chunks import partitions  # noqa: E402
from softmax_ext._chunks.cluster import Partitions  # noqa: E402
from softmax_ext._core import threads as _threads  # noqa: E402
from softmax_ext._fit import held_out  # noqa: E402
from softmax_ext._fit.scaling import moments  # noqa: E402
from softmax_ext._objective.folds import totals  # noqa: E402
from softmax_ext._objective.penalty import Penalty  # noqa: E402
from softmax_ext._objective.pieces import checked, survey  # noqa: E402
from softmax_ext._objective.sample import every  # noqa: E402
from softmax_ext.dask import DaskObjective, LogisticRegression  # noqa: E402

pytestmark = [
    pytest.mark.thread_unsafe(reason="Dask has one default client in a process"),
    pytest.mark.usefixtures("classes_summed"),
]

SIZES = (0, 211, 0, 97, 300, 1, 391)  # of the partitions


@contextlib.contextmanager
def cluster(n_workers, threads, processes):
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "60s"}),
        distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads,
            processes=processes,
            host="127.0.0.1" if processes else None,
            dashboard_address="127.0.0.1:0",
            silence_logs=50,
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        client.wait_for_workers(n_workers, timeout=120)
        yield client


@pytest.fixture(scope="module")
def client():
    """Yield a cluster of two processes with one thread each."""
    with cluster(2, 1, True) as client:
        yield client


@pytest.fixture(scope="module")
def threads():
    """Yield a cluster of one worker with three threads in this process."""
    with cluster(1, 3, False) as client:
        yield client


def problem(K=3, N=1000, D=6, seed=0):
    rng = np.random.default_rng([seed, K])
    X = rng.standard_normal((N, D)) * 10.0 ** np.arange(D) / 100
    y = (X @ (rng.standard_normal((D, K)) / X.std(axis=0)[:, np.newaxis]) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y


def split(array, sizes=SIZES):
    """Return a dask array with these partitions."""
    return da.from_array(array, (sizes, *array.shape[1:]))


def unknown(array, sizes=SIZES):
    """Return the same array, with sizes that Dask does not know."""
    known = split(array, sizes)
    return known.map_blocks(lambda block: block, chunks=((np.nan,) * len(sizes), *known.chunks[1:]), dtype=array.dtype)


def frame(array, sizes=SIZES):
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    ends = np.cumsum(sizes)
    make = (
        pd.Series
        if array.ndim == 1
        else lambda rows: pd.DataFrame(rows, columns=[f"x{j}" for j in range(rows.shape[1])])
    )
    return dd.from_delayed([dask.delayed(make)(array[end - n : end]) for end, n in zip(ends, sizes, strict=True)])


FORMS = {"known": split, "unknown": unknown, "frame": frame}


def tight(client, **parameters):
    return LogisticRegression(client=client, **{"tol": 1e-11, "max_iter": 300} | parameters)


def plain(**parameters):
    return linear_model.LogisticRegression(**{"tol": 1e-11, "max_iter": 300} | parameters)


def assert_same_fit(model, whole):
    np.testing.assert_array_equal(model.classes_, whole.classes_)
    for name in ("coef_", "intercept_"):
        assert type(getattr(model, name)) is np.ndarray
        scale = 10.0 ** np.arange(6) / 100 if name == "coef_" else 1
        np.testing.assert_allclose(getattr(model, name) * scale, getattr(whole, name) * scale, rtol=0, atol=1e-8)


@pytest.mark.pairs
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("weights", ["unweighted", "sample_weight", "balanced"])
def test_a_fit_to_partitions_ends_at_the_optimum_in_memory(form, K, weights, client):
    X, y = problem(K)
    parameters = {"class_weight": "balanced"} if weights == "balanced" else {}
    s = [np.random.default_rng(0).exponential(size=len(y))] if weights == "sample_weight" else []
    model = tight(client, **parameters).fit(*(FORMS[form](array) for array in (X, y, *s)))
    assert_same_fit(model, plain(**parameters).fit(X, y, *s))
    if form == "frame":
        assert list(model.feature_names_in_) == [f"x{j}" for j in range(6)]


@pytest.mark.parametrize(("K", "grouped", "few"), [(2, False, 0), (3, False, 1000), (3, True, 0)])
def test_an_l1_fit_to_partitions_is_that_in_memory_and_in_chunks(K, grouped, few, client, monkeypatch):
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    X, y = problem(K)
    options = {
        "solver": "saga",
        "C": 0.05,
        "tol": 1e-5,
        "class_weight": "balanced",
        "l1_ratio": 1.0,
        "grouped": grouped,
    }
    whole = plain(**options).fit(X, y)
    ends = np.cumsum(SIZES)
    pieces = [(X[end - n : end], y[end - n : end]) for end, n in zip(ends, SIZES, strict=True)]
    found = [
        tight(client, **options).fit(split(X), split(y)),
        plain(**options).fit(chunks.from_iterable(lambda: pieces)),
    ]
    for model in found:
        assert model.converged_ and model.gap_ <= 1.001e-6 * model.loss_curve_[-1]
        assert model.loss_curve_[-1] == pytest.approx(whole.loss_curve_[-1], rel=2e-6)
        np.testing.assert_array_equal(model.coef_ == 0, whole.coef_ == 0)
        assert 0 < np.count_nonzero(model.coef_) < model.coef_.size
    np.testing.assert_array_equal(found[0].coef_, found[1].coef_)


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
def test_sparse_blocks_give_the_fit_of_the_whole_array(form, client):
    X, y = problem()
    X *= np.random.default_rng(0).random(X.shape) < 0.3
    sparse = split(X).map_blocks(form)
    model = tight(client).fit(sparse, split(y))
    assert_same_fit(model, plain().fit(X, y))
    got = client.compute([model.predict(sparse), model.predict_proba(sparse), model.score(sparse, split(y))])
    local = model.to_local()
    for one, want in zip(got, (local.predict(X), local.predict_proba(X), local.score(X, y)), strict=True):
        np.testing.assert_allclose(one.result(), want, rtol=1e-9, atol=1e-12)


@pytest.mark.pairs(1)
@pytest.mark.parametrize("theirs", [(1000,), (0, 300, 700), (999, 0, 1), (250,) * 4])
@pytest.mark.parametrize("form", FORMS)
def test_y_may_have_other_boundaries(theirs, form, client):
    X, y = problem()
    names = np.array(["c", "a", "b"])[y]
    s = np.random.default_rng(0).exponential(size=len(y))
    model = tight(client).fit(split(X), FORMS[form](names, theirs), split(s, (500, 500)))
    assert_same_fit(model, plain().fit(X, names, s))


def test_a_class_may_be_in_one_partition_only(client):
    X, y = problem()
    y[508] = 7  # the partition of one row
    assert_same_fit(tight(client).fit(split(X), split(y)), plain().fit(X, y))


def test_targets_may_be_probabilities_and_columns_lie_in_blocks(client):
    X, y = problem()
    Y = np.random.default_rng(1).dirichlet(np.ones(3), len(y)) + np.eye(3)[y]
    assert_same_fit(tight(client).fit(split(X).rechunk({1: 4}), split(Y).rechunk({1: 1})), plain().fit(X, Y))


def test_a_fit_on_any_workers_has_the_same_bits_as_in_chunks(client, threads):
    """The number of workers and of their threads does not matter, nor who has which partition."""
    X, y = problem(N=5000, D=60, K=4)
    X /= 10.0 ** np.arange(60)
    sizes = (700, 1301, 1, 998, 2000)
    ends = np.cumsum(sizes)
    data = chunks.from_iterable(lambda: [(X[e - n : e], y[e - n : e]) for e, n in zip(ends, sizes, strict=True)])
    fits = [linear_model.LogisticRegression(max_iter=15, tol=1e-3).fit(data)]
    for where in (client, threads):
        for n_threads in (None, 2):
            model = LogisticRegression(client=where, max_iter=15, tol=1e-3, n_threads=n_threads)
            fits.append(model.fit(split(X, sizes), split(y, sizes)))
    with dask.config.set({"distributed.scheduler.work-stealing": False}):
        first = list(client.scheduler_info(n_workers=-1)["workers"])[:1]
        on_one = [client.persist(split(array, sizes), workers=first) for array in (X, y)]
        fits.append(LogisticRegression(client=client, max_iter=15, tol=1e-3).fit(*on_one))
    assert len({model.coef_.tobytes() + model.loss_curve_.tobytes() for model in fits}) == 1


def test_a_fit_goes_on_where_another_cluster_left_it(client, threads, tmp_path, monkeypatch):
    """A fit goes on from its checkpoint on another cluster, without the passes that were made already."""
    (X, y), path, passes, partials = problem(), tmp_path / "fit.journal", [], DaskObjective._partials
    monkeypatch.setattr(DaskObjective, "_partials", lambda *args: passes.append(1) or partials(*args))
    whole = tight(client, checkpoint=path).fit(split(X), split(y))
    made, content = len(passes), path.read_bytes()
    path.write_bytes(content[: 2 * len(content) // 3])
    again = tight(threads, checkpoint=path).fit(split(X), split(y))
    assert again.coef_.tobytes() == whole.coef_.tobytes() and path.read_bytes() == content
    assert 0 < len(passes) - made < made / 2


def test_float32_partitions_give_float32(client):
    X, y = problem()
    model = LogisticRegression(client=client).fit(split(X.astype(np.float32)), split(y))
    assert model.coef_.dtype == np.float32
    assert model.predict_proba(split(X.astype(np.float32))).dtype == np.float32


@pytest.fixture
def evaluations(monkeypatch):
    """Return a list that gets one of the numbers of parts, and questions, of each worker's part in each evaluation."""
    found, partials, evaluate = [], DaskObjective._partials, partitions.evaluate
    monkeypatch.setattr(DaskObjective, "_partials", lambda self, asks: found.append([]) or partials(self, asks))

    def watched(asks, numbers, *rest):
        found[-1].append((numbers, len(asks)))
        return evaluate(asks, numbers, *rest)

    monkeypatch.setattr(partitions, "evaluate", watched)
    return found


def test_each_worker_is_asked_once_and_keeps_its_partitions(evaluations):
    with cluster(2, 1, False) as client:
        X, y = (client.persist(split(array)) for array in problem())
        LogisticRegression(client=client, max_iter=5, tol=1e-1).fit(X, y)
    assert len(evaluations) > 2 and all(len(each) == 2 for each in evaluations)
    of_workers = [sorted(numbers for numbers, _ in each) for each in evaluations]
    assert all(each == of_workers[0] for each in of_workers)
    assert sorted(i for numbers in of_workers[0] for i in numbers) == list(range(5))


@pytest.mark.parametrize(("asked", "want"), [(None, 3), (2, 2)])
def test_threads_are_those_of_the_worker(asked, want, threads, monkeypatch):
    seen = []
    effective = _threads.effective
    monkeypatch.setattr(_threads, "effective", lambda n=None: seen.append(n) or effective(n))
    X, y = problem()
    LogisticRegression(client=threads, tol=1e-1, n_threads=asked).fit(split(X), split(y))
    assert want in seen and set(seen) <= {want, None}


def test_a_warm_start_goes_on_where_a_callback_stopped(client):
    X, y = problem()
    states = []
    model = tight(client, callback=lambda *state: states.append(state) or len(states) == 3).fit(split(X), split(y))
    assert [iteration for iteration, *_ in states] == [1, 2, 3] and model.n_iter_ == [3]
    model.set_params(callback=None, warm_start=True).fit(split(X), split(y))
    assert model.n_iter_[0] < tight(client).fit(split(X), split(y)).n_iter_[0]


@pytest.mark.pairs(1)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("K", [2, 3])
def test_predictions_are_lazy_and_by_partition(form, K, client):
    X, y = problem(K)
    names = np.array(["b", "c", "a"])[y]
    model = LogisticRegression(client=client, max_iter=1000).fit(FORMS[form](X), FORMS[form](names))
    local = model.to_local()
    here = FORMS["frame"](X).compute() if form == "frame" else X
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        lazy = getattr(model, method)(FORMS[form](X))
        assert isinstance(lazy, da.Array) and lazy.numblocks[0] == len(SIZES)
        want = getattr(local, method)(here)
        got = client.compute(lazy).result()
        assert got.dtype == want.dtype == lazy.dtype
        if got.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)
        else:
            np.testing.assert_array_equal(got, want)
    s = np.random.default_rng(0).exponential(size=len(y))
    for weights in ([], [s]):
        lazy = model.score(FORMS[form](X), *(FORMS[form](array) for array in (names, *weights)))
        assert isinstance(lazy, da.Array) and lazy.ndim == 0
        np.testing.assert_allclose(client.compute(lazy).result(), local.score(here, names, *weights), rtol=1e-12)


def test_a_score_may_have_other_boundaries(client):
    X, y = problem()
    model = LogisticRegression(client=client).fit(split(X), split(y))
    want = model.to_local().score(X, y)
    assert float(client.compute(model.score(split(X), split(y, (400, 600)))).result()) == pytest.approx(want)
    with pytest.raises(ValueError, match="a partition of X has 211 rows, that of y or sample_weight 210"):
        client.compute(model.score(unknown(X), unknown(y[1:], (0, 210, 0, 97, 300, 1, 391)))).result()


PAIRS = {
    "drop and attribute": lambda d: (d.drop(columns=["y", "s"]), d.y, d.s),
    "frame of one column": lambda d: (d[["x0"]], d["y"], d["s"]),
    "arrays": lambda d: (d.drop(columns=["y", "s"]).values, d.y.values, d.s.values),
    "frame and array": lambda d: (d.drop(columns=["y", "s"]), d.y.values, d.s.to_dask_array()),
    "repartitioned": lambda d: (d.drop(columns=["y", "s"]), d.y.repartition(npartitions=2), d.s),
    "without missing values": lambda d: (lambda e: (e.drop(columns=["y", "s"]), e.y, e.s))(d.dropna()),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_columns_of_many_parquet_files_stay_side_by_side(pair, client, tmp_path):
    """Dask merges files when few of their columns are read: optimised apart, X had 12 partitions and y 3."""
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    X, y = problem()
    table = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])])
    table = table.assign(y=y, s=np.random.default_rng(0).exponential(size=len(y)))
    table.loc[::7, "x1"] = np.nan if pair == "without missing values" else table.x1[::7]
    for i, rows in enumerate(np.array_split(np.arange(len(y)), 12)):
        table.iloc[rows].to_parquet(tmp_path / f"{i:02}.parquet")
    X, y, s = PAIRS[pair](dd.read_parquet(tmp_path))
    with client.as_current():
        here = X.compute(), np.asarray(y.compute()), np.asarray(s.compute())
        want = plain().fit(*here)
        model = tight(client).fit(X, y, s)
        np.testing.assert_allclose(model.predict_proba(X).compute(), want.predict_proba(here[0]), atol=1e-8)
        if pair in ("drop and attribute", "frame of one column", "without missing values"):
            assert float(model.score(X, y, s)) == pytest.approx(want.score(*here))


def test_score_names_partitions_that_differ(client):
    X, y = problem()
    model = tight(client).fit(split(X), split(y))
    with pytest.raises(ValueError, match=r"X has 7 partitions, but y has 1, .* compute_chunk_sizes"):
        model.score(unknown(X), unknown(y, (1000,)))


def test_offsets_are_of_the_kind_of_X(client):
    X, y = problem()
    offset = np.random.default_rng(0).standard_normal((len(X), len(np.unique(y))))
    model = LogisticRegression(client=client).fit(X, y, offset=offset)
    plain = linear_model.LogisticRegression().fit(X, y, offset=offset)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        np.testing.assert_array_equal(getattr(model, method)(X, offset), getattr(plain, method)(X, offset))
        with pytest.raises(TypeError, match="offset must be a Dask array or series as X is one, got ndarray"):
            getattr(model, method)(split(X), offset)
    with pytest.raises(TypeError, match="offset must be a Dask array or series as X is one, got ndarray"):
        model.fit(split(X), split(y), offset=offset)


@pytest.mark.pairs(1)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("K", [2, 3])
def test_offsets_of_partitions_go_with_their_rows(client, K, form):
    X, y = problem(K)
    offset = np.random.default_rng(0).standard_normal((len(X), K) if K > 2 else len(X))
    given, labels, added = (FORMS[form](each) for each in (X, y, offset))
    if form == "known":
        added = split(offset, (500, 500))
    model, whole = tight(client).fit(given, labels, offset=added), plain().fit(X, y, offset=offset)
    assert_same_fit(model, whole)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        found = getattr(model, method)(given, added)
        np.testing.assert_allclose(found.compute(), getattr(whole, method)(X, offset), atol=1e-7)
        if form == "known":
            assert found.shape == getattr(whole, method)(X, offset).shape
    assert float(model.score(given, labels, offset=added)) == whole.score(X, y, offset=offset)
    with pytest.raises(ValueError, match=r"X has 1000 rows .*, but offset has 900"):
        model.fit(split(X), split(y), offset=split(offset[:900], (900,)))
    with pytest.raises(ValueError, match="X has 7 partitions, but offset has 1"):
        model.predict(unknown(X), unknown(offset, (1000,)))


@pytest.mark.parametrize("K", [2, 3])
def test_a_standardised_fit_to_partitions_is_that_in_memory(client, K):
    X, y = problem(K)
    s = np.random.default_rng(0).exponential(size=len(y))
    parameters = {"standardize": True, "C": 0.1}
    model = tight(client, **parameters).fit(split(X), split(y), split(s))
    whole = plain(**parameters).fit(X, y, s)
    assert_same_fit(model, whole)
    np.testing.assert_allclose(model.mean_, whole.mean_, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(model.scale_, whole.scale_, rtol=1e-12)
    np.testing.assert_allclose(model.to_local().predict_proba(X), whole.predict_proba(X), atol=1e-8)


def test_a_model_becomes_local_is_cloned_and_pickled(client):
    X, y = problem()
    model = LogisticRegression(client=client, C=0.5).fit(split(X), split(y))
    local = model.to_local()
    assert type(local) is linear_model.LogisticRegression and local.get_params() == model.get_params()
    np.testing.assert_array_equal(local.predict(X), model.predict(X))
    assert clone(model).client is client and clone(model).C == 0.5
    again = pickle.loads(pickle.dumps(model))
    assert again.client is None and again.coef_.tobytes() == model.coef_.tobytes()
    assert "client" not in model.get_params() and "C=0.5" in repr(model)


def test_without_a_cluster_threads_of_this_process_fit():
    """Threads of this process compute the fit, and arrays that are no Dask collections are fitted as they are."""
    X, y = problem()
    before = set(threading.enumerate())
    model = tight(None).fit(split(X), split(y))
    assert_same_fit(model, plain().fit(X, y))
    assert_same_fit(tight(None).fit(X, y), plain().fit(X, y))
    deadline = time.monotonic() + 30
    while {t for t in threading.enumerate() if "worker" in t.name.lower()} - before and time.monotonic() < deadline:
        time.sleep(0.05)


# what does not fit


def test_partitions_that_do_not_fit_are_refused(client):
    X, y = problem()
    fit = LogisticRegression(client=client).fit
    bad = X.copy()
    bad[400, 2] = np.nan
    for arguments, error, says in (
        ((split(X), y), TypeError, "y must be a Dask array"),
        ((split(X), None), TypeError, "y must be a Dask array or series as X is one, got NoneType"),
        ((split(X), split(y), y), TypeError, "sample_weight must be a Dask array"),
        ((split(X), split(y[1:], (999,))), ValueError, r"X has 1000 rows in 7 partitions, but y has 999 in 1"),
        (
            (unknown(X), unknown(y[1:], (0, 210, 0, 97, 300, 1, 391))),
            ValueError,
            "1000 rows in 7 partitions.* 999 in 7",
        ),
        ((split(bad), split(y)), ValueError, "partition 4 of X: Input X contains NaN"),
        ((split(X), split(0 * y)), ValueError, "only one class"),
        ((split(X[:0], (0, 0)), split(y[:0], (0, 0))), ValueError, "0 samples"),
        ((split(X), split(y + 0.5)), ValueError, "partition 1 of X: Unknown label type"),
        ((split(X), split(y), split(y - 1.0)), ValueError, "partition 1 of X: sample_weight must be finite"),
    ):
        with pytest.raises(error, match=says):
            fit(*arguments)
    with pytest.raises(ValueError, match="mini-batches, which is not for a cluster"):
        LogisticRegression(client=client, solver="adam").fit(split(X), split(y))
    with pytest.raises(ValueError, match="'C' parameter"):
        LogisticRegression(client=client, C=-1).fit(split(X), split(y))
    mixed = da.concatenate(
        [split(X[:500].astype(np.float32), (500,)).map_blocks(lambda b: b, dtype=X.dtype), split(X[500:], (500,))]
    )
    with pytest.raises(ValueError, match="partition 1 of X: dtype of X float64, but partition 0 of X has float32"):
        fit(mixed, split(y))


def test_frames_of_words_are_refused(client):
    pd = pytest.importorskip("pandas")
    dd = pytest.importorskip("dask.dataframe")
    table = dd.from_pandas(pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]}), npartitions=1)
    table["c"] = dd.to_datetime(table["a"])
    with pytest.raises(ValueError, match=r"'b' \(.*'c' \(datetime64.*get_dummies"):
        LogisticRegression(client=client).fit(table, table["a"].astype(int))
    with pytest.raises(TypeError, match=r"y must be a series, .*df\['b'\]"):
        LogisticRegression(client=client).fit(table[["a"]], table[["b"]])


@pytest.mark.parametrize("labels", [["u", None, "w"], [1.0, np.nan, 2.0], "Int64", "category"])
def test_missing_labels_are_refused(labels, client):
    """Otherwise they would be a class called nan, or numbers that are not whole."""
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    y = (
        pd.array([1, None, 2] * 4, dtype="Int64")
        if labels == "Int64"
        else (pd.Categorical(["u", None, "w"] * 4) if labels == "category" else labels * 4)
    )
    table = dd.from_pandas(pd.DataFrame({"a": np.arange(12.0), "y": y}), npartitions=3)
    with pytest.raises(ValueError, match="partition 0 of X: Input y contains NaN"):
        LogisticRegression(client=client).fit(table[["a"]], table["y"])


def test_nullable_labels_stay_numbers(client):
    pd, dd = pytest.importorskip("pandas"), pytest.importorskip("dask.dataframe")
    table = pd.DataFrame({"a": np.arange(12.0), "y": pd.array([1, 3, 2] * 4, dtype="Int64")})
    model = LogisticRegression(client=client).fit(
        *(dd.from_pandas(table, npartitions=3)[each] for each in (["a"], "y"))
    )
    assert model.classes_.tolist() == [1, 2, 3]


# faults


def worker_processes(client):
    """Return the processes of the workers, but for those that end just now."""
    return list(client.run(os.getpid, on_error="ignore").values())


def soon(condition):
    """Return whether a condition holds within a minute: a worker that is killed later than a fit ends is lost then."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def test_a_worker_is_killed_in_the_middle_of_a_fit():
    """It is killed once while it waits and once while it computes: the nanny starts another, with the same result."""
    X, y = problem(N=4000, D=60, K=4)
    X /= 10.0 ** np.arange(60)
    sizes = (1000, 500, 1500, 1000)
    with cluster(2, 1, True) as client:
        lazy = split(X, sizes), split(y, sizes)
        parameters = {"client": client, "tol": 1e-7, "max_iter": 500}
        want = LogisticRegression(**parameters).fit(*lazy)
        assert want.n_iter_[0] > 5
        killed = []

        def callback(iteration, value, gradient):
            if iteration in (2, 5):
                victim = worker_processes(client)[0]
                killed.append(victim)
                if iteration == 2:
                    os.kill(victim, signal.SIGKILL)
                else:
                    threading.Timer(0.02, os.kill, (victim, signal.SIGKILL)).start()

        model = LogisticRegression(**parameters, callback=callback).fit(*lazy)
        assert len(killed) == 2 and soon(lambda: not set(killed) & set(worker_processes(client)))
    assert model.coef_.tobytes() == want.coef_.tobytes()
    assert model.loss_curve_.tobytes() == want.loss_curve_.tobytes()


@pytest.fixture
def mortal():
    """Yield a cluster of two processes, for a test that kills one: a nanny replaces it.

    Whoever asks the dead one for data waits as long as a connection may take, by default 30 s, and may ask again.
    """
    settings = {"distributed.scheduler.allowed-failures": 10, "distributed.comm.timeouts.connect": "10s"}
    with dask.config.set(settings), cluster(2, 1, True) as client:
        yield client


def applies(function):
    return lambda task, arguments: task is partitions.apply and arguments[0] is function


class Evaluating(NamedTuple):
    """A stage of an evaluation, which is no task: a method or a function, and how a call of this stage is known."""

    owner: str
    name: str
    is_of_stage: Any = None


def asks(method, fold=None):
    return Evaluating(
        "softmax_ext._chunks.partitions",
        "evaluate",
        lambda asked, *_: any(ask.method == method and fold in (None, ask.fold) for ask, _ in asked),
    )


EXCHANGE = "softmax_ext._chunks.exchange"
LBFGS, CHOICE = {"solver": "lbfgs", "max_iter": 8, "tol": 1e-3}, {"Cs": [0.1, 1], "l1_ratios": (0,), "max_iter": 8}
# What is asked of a cluster, and how a task of this stage is known.
STAGES = {
    "check": (LBFGS, lambda task, _: task is checked),
    "first look": (LBFGS, lambda task, _: task is survey),
    "sample": (LBFGS, lambda task, _: task is every),
    "encoding": (LBFGS, lambda task, _: task is partitions.part_of),
    "moments": ({**LBFGS, "standardize": True}, applies(moments)),
    "hearing": (LBFGS, Evaluating(f"{EXCHANGE}.Exchange", "_asked")),
    "evaluation": (LBFGS, asks("value_and_grad")),
    "passing on": (LBFGS, Evaluating(f"{EXCHANGE}.Exchange", "_passed_on")),
    "fetching": (LBFGS, Evaluating(f"{EXCHANGE}.Exchange", "_fetched")),
    "subtree": (LBFGS, Evaluating(f"{EXCHANGE}.Exchange", "_given")),
    "addition": (LBFGS, Evaluating(f"{EXCHANGE}.Meeting", "put")),
    "Hessian product": ({**LBFGS, "solver": "newton-cg"}, asks("hessp")),
    "weights of folds": (CHOICE, applies(totals)),
    "evaluation of folds": (CHOICE, asks("value_and_grad", fold=1)),
    "scores of folds": (CHOICE, applies(held_out.sums)),
    "information": ("inference", asks("hessian")),
    "sandwich": ("inference", asks("squared_scores")),
}
QUICK = {"first look", "evaluation", "Hessian product", "evaluation of folds"}


def asked_of(client, what, X, y):
    """Return the bytes of what a cluster computes."""
    sizes = (150, 50, 200, 100, 300)
    data = split(X, sizes), split(y, sizes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bits do not ask whether fits have converged
        if what == "inference":
            found = LogisticRegression(C=np.inf, client=client).inference(*data, cov_type="HC0")
            return found.covariance.tobytes() + found.estimate.tobytes()
        if "Cs" in what:
            model = choice(**what, client=client, standardize=False).fit(*data)
            return model.coef_.tobytes() + model.coefs_paths_.tobytes() + model.scores_.tobytes()
        model = LogisticRegression(client=client, **what).fit(*data)
        return model.coef_.tobytes() + model.loss_curve_.tobytes()


@pytest.mark.parametrize(
    ("stage", "later"),
    [
        pytest.param(stage, later, marks=[] if stage in QUICK and not later else pytest.mark.slow)
        for stage in STAGES
        for later in (False, True)
    ],
)
def test_a_worker_is_killed_at_every_stage(stage, later, mortal, tmp_path, monkeypatch):
    """It ends itself by SIGKILL while it computes a task of this stage, or a moment after; no bit changes."""
    (what, is_of_stage), marker, submit, to_map = STAGES[stage], str(tmp_path / "killed"), mortal.submit, mortal.map
    X, y = problem(N=800, D=50)
    X /= X.std(axis=0)
    want = asked_of(mortal, what, X, y)

    def deadly(function, is_of_stage=None):
        def first_kills(*arguments):
            import os
            import signal
            import threading

            def kill():
                os.kill(os.getpid(), signal.SIGKILL)

            if is_of_stage is not None and not is_of_stage(*arguments):
                return function(*arguments)
            try:
                os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                return function(*arguments)
            if later:
                threading.Timer(0.02, kill).start()
                return function(*arguments)
            return kill()

        return first_kills

    def arm(owner, name, is_of_stage):
        import pkgutil

        owner = pkgutil.resolve_name(owner)
        setattr(owner, name, deadly(getattr(owner, name), is_of_stage))

    if isinstance(is_of_stage, Evaluating):
        mortal.run(arm, *is_of_stage)  # one by one, since workers cannot import the class from here
    else:
        monkeypatch.setattr(
            mortal,
            "submit",
            lambda task, *rest, **more: submit(deadly(task) if is_of_stage(task, rest) else task, *rest, **more),
        )
        monkeypatch.setattr(
            mortal,
            "map",
            lambda task, *rest, **more: to_map(deadly(task) if is_of_stage(task, rest) else task, *rest, **more),
        )
    before = worker_processes(mortal)
    found = asked_of(mortal, what, X, y)
    monkeypatch.undo()
    assert os.path.exists(marker)
    assert found == want
    assert soon(lambda: set(worker_processes(mortal)) != set(before))


def test_the_only_worker_is_lost_between_two_looks_at_the_cluster(monkeypatch):
    """The next worker of the nanny goes on, and if there is none, the error says so."""
    X, y = problem()
    sizes = (400, 100, 500)
    kept = distributed.wait
    with cluster(1, 1, True) as client:

        def lose_the_worker(futures, **more):
            kept(futures, **more)
            monkeypatch.setattr(distributed, "wait", kept)
            os.kill(worker_processes(client)[0], signal.SIGKILL)
            while client.scheduler_info(n_workers=-1)["workers"]:
                time.sleep(0.001)

        want = tight(client).fit(split(X, sizes), split(y, sizes))
        monkeypatch.setattr(distributed, "wait", lose_the_worker)
        model = tight(client).fit(split(X, sizes), split(y, sizes))
        assert distributed.wait is kept
        assert model.coef_.tobytes() == want.coef_.tobytes()

        client.cluster.scale(0)
        while client.scheduler_info(n_workers=-1)["workers"]:
            time.sleep(0.001)
        monkeypatch.setattr(cluster_module, "PATIENCE", 1)
        with pytest.raises(RuntimeError, match="no worker for 1 seconds"):
            ours.DaskObjective._workers(SimpleNamespace(client=client))


def test_an_interrupt_leaves_the_cluster_usable(client):
    X, y = problem()
    kept = []

    def callback(iteration, value, gradient):
        kept.append(value)
        if iteration == 2:
            # The six iterations left take longer: not what Dask does after a fit is interrupted, but the fit.
            threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()

    model = LogisticRegression(client=client, tol=0, C=np.inf, max_iter=10**6, callback=callback)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(1000):
            model.fit(split(X), split(y))
    assert model.coef_.any() and not model.converged_
    assert client.submit(sum, [1, 2]).result(timeout=60) == 3
    assert_same_fit(tight(client).fit(split(X), split(y)), plain().fit(X, y))


PENALTIES, FEW = {"l2": 0.0, "l1": 1.0, "both": 0.5}, {"Cs": 2, "max_iter": 5}


def choice(**parameters):
    given = {"Cs": [0.01, 1], "cv": 3, "scoring": "neg_log_loss", "use_legacy_attributes": False, "solver": "saga"}
    given |= {"max_iter": 5, "tol": 1e-2}  # bits do not ask whether fits have converged
    return ours.LogisticRegressionCV(**given | parameters)


def swept(client, X, y, s, l1_ratio, standardize):
    """Return the bytes of a choice of C and of a path on a cluster."""
    data = [split(each) for each in (X, y, s)]
    model = choice(client=client, l1_ratios=(l1_ratio,), standardize=standardize).fit(*data)
    path = ours.logistic_regression_path(
        *data[:2], sample_weight=data[2], l1_ratio=l1_ratio, standardize=standardize, client=client, **FEW
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes may be separated, and then the bits are the same, too
        inference = LogisticRegression(C=np.inf, client=client).inference(data[0][:, :6], *data[1:], cov_type="HC0")
    found = [model.coef_, model.intercept_, model.coefs_paths_, model.scores_, *path, inference.covariance]
    return b"".join(np.ascontiguousarray(each).tobytes() for each in found)


@pytest.mark.pairs(1)
@pytest.mark.filterwarnings("ignore:The max_iter was reached:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("K", [2, 3])
def test_sweeps_on_any_workers_have_the_bits_of_chunks(K, penalty, standardize, client, threads):
    X, y = problem(K)
    s, ends = np.random.default_rng(1).integers(1, 4, len(y)) / 2, np.cumsum(SIZES)
    pieces = [slice(end - n, end) for end, n in zip(ends, SIZES, strict=True)]
    data = chunks.from_iterable(lambda: [(X[i], y[i], s[i]) for i in pieces])
    options = {"l1_ratio": PENALTIES[penalty], "standardize": standardize}
    model = choice(l1_ratios=(options["l1_ratio"],), standardize=standardize).to_local().fit(data)
    path = linear_model.logistic_regression_path(data, **options, **FEW)
    inference = linear_model.LogisticRegression(C=np.inf).inference(data, cov_type="HC0")
    found = [model.coef_, model.intercept_, model.coefs_paths_, model.scores_, *path, inference.covariance]
    want = b"".join(np.ascontiguousarray(each).tobytes() for each in found)
    assert swept(client, X, y, s, **options) == want == swept(threads, X, y, s, **options)


@pytest.mark.filterwarnings("ignore:The max_iter was reached:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("n_workers", [5, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 3, 8))])
def test_any_number_of_workers_gives_a_sweep_the_same_bits(n_workers, threads):
    X, y = problem(3, D=50)
    s = np.ones(len(y))
    with cluster(n_workers, 1, False) as client:
        for l1_ratio in PENALTIES.values():
            assert swept(client, X, y, s, l1_ratio, False) == swept(threads, X, y, s, l1_ratio, False)


def lying(client, X, y, where):
    """Return the objective of X and y in partitions of equal size, each on a worker of its own choice."""
    data, cuts = Partitions.__new__(Partitions), np.linspace(0, len(y), len(where) + 1).astype(int)
    data.client, data.names = client, None
    data.pieces = [
        client.submit(checked, X[a:b], y[a:b], None, f"partition {i}", workers=[worker], pure=False)
        for i, (a, b, worker) in enumerate(zip(cuts[:-1], cuts[1:], where, strict=True))
    ]
    data.surveys = cluster_module.gathered(client, client.map(survey, data.pieces, pure=False))
    found, sample = data.look()
    return data.objective(found.problem(Penalty(0.01), None, True, 1), sample)


MANY = pytest.param(256, 8, "in order", marks=pytest.mark.native("256 tasks on 8 workers were not over in 44 minutes"))


@pytest.mark.parametrize(("Q", "n_workers", "placement"), [MANY, (24, 4, "random"), (24, 4, "one")])
def test_few_gradients_travel_and_one_reaches_the_client(Q, n_workers, placement, monkeypatch):
    """All bytes of all connections are counted. Whatever the placement, the bits are those of chunks."""
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4 * Q, 1500)), rng.integers(0, 4, 4 * Q)
    rows = [slice(i, i + 4) for i in range(0, len(y), 4)]
    whole = chunks.ChunksObjective(chunks.from_iterable(lambda: [(X[i], y[i]) for i in rows]), l2=0.01)
    w = np.random.default_rng(1).standard_normal(whole.size)
    value, grad = whole.value_and_grad(w)
    size, sent, write = 8 * (whole.size + 1), [], TCP.write

    async def counted(self, *arguments, **keywords):
        count = await write(self, *arguments, **keywords)
        sent.append((self.local_address, self.peer_address, count))
        return count

    with (
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address="127.0.0.1:0"
        ) as local,
        distributed.Client(local, set_as_default=False) as client,
    ):
        workers, scheduler = sorted(worker.address for worker in local.workers.values()), local.scheduler.address
        numbers = {"in order": np.arange(Q) * n_workers // Q, "random": rng.integers(0, n_workers, Q)}
        objective = lying(client, X, y, [workers[i] for i in numbers.get(placement, np.zeros(Q, int))])
        objective.value_and_grad(w)
        monkeypatch.setattr(TCP, "write", counted)
        again = objective.value_and_grad(w)
        monkeypatch.undo()
    assert again[0] == value and again[1].tobytes() == grad.tobytes()
    # Workers answer from the addresses that they listen at, and are asked there. One answer goes by the scheduler.
    from_workers, to_workers, to_client = (
        sum(count for local, peer, count in sent if (local, peer)[side] in those) / size
        for side, those in ((0, workers), (1, workers), (0, [scheduler]))
    )
    print(f"{from_workers:.2f} {to_workers:.2f} {to_client:.2f}")
    assert 1 <= to_client < 1.2
    assert 0.98 <= from_workers < {"in order": 16, "random": Q, "one": 0.2}[placement] + 1.2
    assert to_workers < 1.3 * (1 if placement == "one" else n_workers)


@pytest.mark.filterwarnings("ignore:The max_iter was reached:sklearn.exceptions.ConvergenceWarning")
def test_each_worker_is_asked_once_for_all_folds(evaluations):
    with cluster(2, 1, False) as client:
        X, y = (client.persist(split(array)) for array in problem(4, D=40))
        model = choice(client=client, l1_ratios=(0,), Cs=[0.01, 0.1], cv=5).fit(X, y)
    asked = [{questions for _, questions in each} for each in evaluations]
    assert all(len(each) == 2 for each in evaluations) and all(len(each) == 1 for each in asked)
    assert max(map(max, asked)) == 6
    assert len(evaluations) < sum(map(max, asked)) / 3 and model.n_iter_.sum() > 20


@pytest.mark.filterwarnings("ignore:The max_iter was reached:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("penalty", ["l2", "l1"])
def test_a_choice_that_was_killed_goes_on_on_another_cluster(penalty, client, threads, tmp_path, monkeypatch):
    """What a killed sweep leaves is the beginning of its file, perhaps with half an answer."""
    (X, y), path, passes, partials = problem(), tmp_path / "sweep.journal", [], DaskObjective._partials
    monkeypatch.setattr(DaskObjective, "_partials", lambda *args: passes.append(1) or partials(*args))

    def bits(where, **more):
        model = choice(client=where, l1_ratios=(PENALTIES[penalty],), **more).fit(split(X), split(y))
        return model.coef_.tobytes() + model.coefs_paths_.tobytes() + model.scores_.tobytes()

    want = bits(threads)
    assert bits(threads, checkpoint=path) == want
    content, made = path.read_bytes(), len(passes) // 2
    path.write_bytes(content[: 2 * len(content) // 3])
    passes.clear()
    assert bits(client, checkpoint=path) == want
    assert 0 < len(passes) < made and len(path.read_bytes()) == len(content)


def test_a_choice_on_a_cluster_is_cloned_scored_and_made_local(client):
    X, y = problem()
    model = choice(client=client, scoring="accuracy", l1_ratios=(0,), max_iter=100)
    assert clone(model).client is client and "client" not in model.get_params()
    model.fit(split(X), split(y))
    local = model.to_local()
    assert type(local) is linear_model.LogisticRegressionCV and local.C_ == model.C_
    np.testing.assert_array_equal(model.predict(split(X)).compute(), local.predict(X))
    assert float(model.score(split(X), split(y))) == pytest.approx(local.score(X, y))
    assert model.score(X, y) == local.score(X, y) and pickle.loads(pickle.dumps(model)).client is None
    with pytest.raises(ValueError, match="is the accuracy, and scoring='neg_log_loss'"):
        model.set_params(scoring="neg_log_loss").score(split(X), split(y))
    with pytest.raises(ValueError, match="partition 1 of X: y holds probabilities"):
        model.fit(split(X), split(np.eye(3)[y]))
    with pytest.raises(TypeError, match="y must be a Dask array or series as X is one"):
        ours.logistic_regression_path(split(X), y, client=client)
    assert np.isfinite(choice(client=client, l1_ratios=(0,), max_iter=100).fit(X, y).coef_).all()


def test_examples_of_dask_run():
    assert doctest.testmod(ours) == (0, 23)
