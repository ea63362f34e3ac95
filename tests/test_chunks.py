"""Fits to data in chunks: the optimum in memory, the same bits however it is read, and what damaged files say."""

import copy
import doctest
import os
import signal
import threading
import time
import weakref

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from softmax_ext import SoftmaxObjective, chunks, optim, softmax
from softmax_ext._core import dispatch
from softmax_ext._inputs import validation
from softmax_ext._inputs.rows import Rows
from softmax_ext._inputs.validation import check_labels
from softmax_ext._objective import constant
from softmax_ext._objective.binomial import BinomialObjective
from softmax_ext._objective.penalty import Penalty
from softmax_ext._objective.pieces import merged, survey
from softmax_ext._objective.sample import POOL, Sample

pytest.importorskip("sklearn", "1.6")

from softmax_ext.linear_model import LogisticRegression

pytestmark = [
    pytest.mark.thread_unsafe(reason="two threads would write the same files"),
    pytest.mark.usefixtures("classes_summed"),
]


def problem(N=997, D=6, K=3, dtype=np.float64, seed=0):
    """Return samples of classes that overlap, whose sizes do not divide one another."""
    rng = np.random.default_rng([seed, N, D, K])
    X = (rng.standard_normal((N, D)) * 10.0 ** np.arange(D) / 100).astype(dtype)
    y = (X @ (rng.standard_normal((D, K)) / X.std(axis=0)[:, np.newaxis]) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y


def cut(*arrays, rows=101):
    """Return chunks of arrays with different numbers of rows, one of them empty."""

    def factory():
        start, step = 0, rows
        while start < len(arrays[0]):
            yield tuple(array[start : start + step] for array in arrays)
            yield tuple(array[:0] for array in arrays)
            start, step = start + step, step + 13

    return chunks.from_iterable(factory)


@pytest.fixture
def npy(tmp_path):
    def save(*arrays, rows=101):
        paths = [tmp_path / f"{name}.npy" for name in ("X", "y", "s", "offset")[: len(arrays)]]
        for path, array in zip(paths, arrays, strict=True):
            np.save(path, array)
        more = dict(zip(("sample_weight_path", "offset_path"), paths[2:], strict=False))
        return chunks.from_npy(*paths[:2], rows=rows, **more)

    return save


@pytest.fixture
def parquet(tmp_path):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")

    def save(X, y, s=None, offset=None, rows=101):
        frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(kind=y)
        weights = {}
        if s is not None:
            frame, weights = frame.assign(weight=s), {"sample_weight": "weight"}
        if offset is not None and offset.ndim == 1:
            frame, weights["offset"] = frame.assign(more=offset), "more"
        elif offset is not None:
            weights["offset"] = [f"more{k}" for k in range(offset.shape[1])]
            frame[weights["offset"]] = offset
        folder = tmp_path / "parquet"
        folder.mkdir(exist_ok=True)
        half = len(X) // 2
        frame[:half].to_parquet(folder / "a.parquet", row_group_size=rows, index=False)
        frame[half:].to_parquet(folder / "b.parquet", row_group_size=rows, index=False)
        return chunks.from_parquet(folder, "kind", **weights)

    return save


@pytest.fixture(params=["cut", "npy", "parquet"])
def source(request):
    return cut if request.param == "cut" else request.getfixturevalue(request.param)


def tight(**parameters):
    return LogisticRegression(**{"tol": 1e-11, "max_iter": 500} | parameters)


def scores(model, X):
    Z = X @ model.coef_.T + model.intercept_
    return np.column_stack([0 * Z, Z]) if Z.shape[1] == 1 else Z


def assert_same_fit(ours, whole, X):
    """Assert that probabilities are the same to 1e-10."""
    np.testing.assert_array_equal(ours.classes_, whole.classes_)
    mine, theirs = (softmax(scores(model, X), axis=1) for model in (ours, whole))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("weights", ["unweighted", "sample_weight", "balanced", "dict"])
def test_a_fit_to_chunks_ends_at_the_optimum_in_memory(K, weights, source):
    X, y = problem(K=K)
    s = np.random.default_rng(0).exponential(size=len(y)) * (np.arange(len(y)) % 4 != 1)
    s[101:220] = 0  # a whole chunk
    parameters = {"balanced": {"class_weight": "balanced"}, "dict": {"class_weight": {0: 3.0}}}.get(weights, {})
    arrays = (X, y) if weights == "unweighted" else (X, y, s)
    ours = tight(**parameters).fit(source(*arrays))
    assert_same_fit(ours, tight(**parameters).fit(*arrays), X)
    assert ours.n_features_in_ == X.shape[1]


@pytest.mark.skipif(not dispatch.available(), reason="nothing is compiled: NumPy makes a pass")
@pytest.mark.parametrize("storage", ["array", "csr"])
def test_a_fit_to_chunks_begins_and_ends_by_one_read(storage, monkeypatch):
    """Sums over each class give the loss at the start, and the duality gap, as two passes do."""
    X, y = problem(D=60, K=5)
    X /= 10.0 ** np.arange(60)
    X = X if storage == "array" else scipy.sparse.csr_array(X)
    s, reads = np.random.default_rng(0).exponential(size=len(y)), []

    def pieces():
        reads.append(1)
        return [(X[i : i + 101], y[i : i + 101], s[i : i + 101]) for i in range(0, len(y), 101)]

    model = LogisticRegression(class_weight={1: 2.0}).fit(chunks.from_iterable(pieces))
    passes = len(reads) - 2  # all but the first look and the one for the sums
    assert f"{passes} evaluations" in model.convergence_report_
    reads.clear()
    monkeypatch.setattr(constant, "SUMMED_FLOPS", np.inf)
    by_passes = LogisticRegression(class_weight={1: 2.0}).fit(chunks.from_iterable(pieces))
    assert len(reads) == 2 + passes + 1
    assert model.gap_ == pytest.approx(by_passes.gap_, rel=1e-6)
    np.testing.assert_allclose(model.coef_, by_passes.coef_, atol=1e-12)


@pytest.mark.parametrize("K, columns", [(2, 1), (2, 2), (3, 3)])
def test_offsets_of_chunks_go_with_their_rows(K, columns, source):
    X, y = problem(K=K)
    rng = np.random.default_rng(0)
    s, offset = rng.exponential(size=len(y)), 2 * rng.standard_normal((len(y), columns))
    offset = offset[:, 0] if columns == 1 else offset
    ours, data = tight(), source(X, y, s, offset)
    assert_same_fit(ours.fit(data), (whole := tight().fit(X, y, s, offset=offset)), X)
    for method in ("predict_proba", "decision_function", "predict"):
        np.testing.assert_allclose(getattr(ours, method)(data), getattr(whole, method)(X, offset), atol=1e-8)
    assert ours.score(data) == pytest.approx(np.average(whole.predict(X, offset) == y, weights=s))
    objective = chunks.ChunksObjective(data, l2=0.1)
    within = SoftmaxObjective(X, y, l2=0.1, sample_weight=s, offset=offset)
    w, v = rng.standard_normal((2, objective.size))
    np.testing.assert_allclose(objective.hessp(w, v), within.hessp(w, v), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(objective.hessian(w), within.hessian(w), rtol=1e-9, atol=1e-12)
    assert objective.value(w) == pytest.approx(within.value(w))


def test_one_chunk_is_gone_through_as_memory_is():
    """Mini-batches of a chunk and of an array are the same rows, with the same offsets."""
    X, y = problem()
    offset = np.random.default_rng(0).standard_normal((len(y), 3))
    options = {"solver": "momentum", "epochs": 3, "random_state": 0}
    ours = LogisticRegression(**options).fit(chunks.from_iterable(lambda: [(X, y, None, offset)]))
    assert ours.coef_.tobytes() == LogisticRegression(**options).fit(X, y, offset=offset).coef_.tobytes()


@pytest.mark.parametrize(
    "pieces, message",
    [
        ([np.zeros((4, 2)), np.zeros((4, 2))], "offset has 2 columns, but there are 3 classes"),
        ([np.zeros(4), np.zeros(4)], "offset has 1 columns, but there are 3 classes"),
        ([np.zeros((4, 3)), None], r"chunk 1 .*: columns of the offset 0, but chunk 0 .* has 3"),
        ([np.zeros((4, 3)), np.full((4, 3), np.nan)], "chunk 1 .*: offset contains NaN"),
        ([np.zeros((3, 3)), np.zeros((4, 3))], r"chunk 0 .*: offset must be \(4, K\) real numbers"),
        ([np.full((4, 3), "a"), np.zeros((4, 3))], "chunk 0 .*: offset must be"),
    ],
)
def test_offsets_that_do_not_fit_are_refused(pieces, message):
    X, y = np.arange(8.0).reshape(4, 2), np.array([0, 1, 2, 0])
    data = chunks.from_iterable(lambda: [(X, y, None, offset) for offset in pieces])
    with pytest.raises(ValueError, match=message):
        LogisticRegression().fit(data)


def test_offsets_beside_chunks_are_refused():
    X, y = problem()
    data, model = cut(X, y), LogisticRegression().fit(X, y)
    for call in (model.fit, model.predict, model.predict_proba):
        with pytest.raises(TypeError, match="the offsets of chunks are in them"):
            call(data, offset=np.zeros((len(y), 3)))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("K", [2, 3])
def test_a_standardised_fit_to_chunks_is_that_in_memory(K, fit_intercept, source):
    """Over chunks the moments are those of all rows with their weights, and the fit is the one in memory."""
    X, y = problem(K=K)
    X[:, 3] = 7
    s = np.random.default_rng(0).exponential(size=len(y)) * (np.arange(len(y)) % 4 != 1)
    s[101:220] = 0
    parameters = {"standardize": True, "C": 0.1, "class_weight": {0: 3.0}, "fit_intercept": fit_intercept}
    ours, whole = tight(**parameters).fit(source(X, y, s)), tight(**parameters).fit(X, y, s)
    assert_same_fit(ours, whole, X)
    np.testing.assert_allclose(ours.mean_, whole.mean_, rtol=1e-12)
    np.testing.assert_allclose(ours.scale_, whole.scale_, rtol=1e-12)
    assert not ours.coef_[:, 3].any() and ours.converged_


@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_fit_of_many_parameters_ends_at_the_optimum_in_memory(solver, fit_intercept):
    """There are more parameters than those for which Newton's method takes the whole Hessian."""
    X, y = problem(N=1500, D=50, K=5)
    X /= 10.0 ** np.arange(50)
    parameters = {"solver": solver, "fit_intercept": fit_intercept, "tol": 1e-12}
    assert_same_fit(tight(**parameters).fit(cut(X, y)), tight(**parameters).fit(X, y), X)


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csr_matrix, scipy.sparse.csc_array])
@pytest.mark.parametrize("K", [2, 3])
def test_sparse_chunks_give_the_fit_in_memory(form, K):
    X, y = problem(K=K)
    X *= np.random.default_rng(0).random(X.shape) < 0.3
    s = np.random.default_rng(0).exponential(size=len(y)) * (np.arange(len(y)) % 4 != 1)
    data = chunks.from_iterable(
        lambda: ((form(X[i : i + 101]), y[i : i + 101], s[i : i + 101]) for i in range(0, 997, 101))
    )
    assert_same_fit(tight().fit(data), tight().fit(X, y, s), X)


@pytest.mark.parametrize("labels", [np.array([7, -3, 10**6]), np.array(["b", "ab", "c"]), np.array([0.0, 2.0, 5.0])])
def test_labels_of_any_kind_are_classes(labels, source):
    """One of the labels is in the last chunk only."""
    X, y = problem(K=2)
    y = labels[y]
    y[-5:] = labels[2]
    assert_same_fit(tight().fit(source(X, y)), tight().fit(X, y), X)


def test_probabilities_in_chunks_are_targets(npy):
    X, y = problem()
    Y = np.random.default_rng(1).dirichlet(np.ones(3), len(y)) + np.eye(3)[y]
    for source in (npy, cut):
        assert_same_fit(tight().fit(source(X, Y)), tight().fit(X, Y), X)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32])
def test_a_fit_has_the_same_bits_however_chunks_are_read(dtype, source):
    X, y = problem(N=3001)
    X = np.rint(X).astype(dtype) if dtype == np.int32 else X.astype(dtype)
    data = source(X, y, rows=999)
    fits = []
    for read_ahead in (True, False):
        for n_threads in (1, 2, 3):
            data.read_ahead = read_ahead
            fits.append(LogisticRegression(n_threads=n_threads, max_iter=5, tol=1e-1).fit(data))
    assert len({model.coef_.tobytes() + model.loss_curve_.tobytes() for model in fits}) == 1
    assert fits[0].coef_.dtype == (np.float32 if dtype in (np.float32, np.float16) else np.float64)


def test_an_objective_of_chunks_is_that_of_the_whole(isa):
    X, y = problem(K=4)
    s = np.random.default_rng(0).exponential(size=len(y))
    whole = SoftmaxObjective(X, y, l2=0.1, sample_weight=s, class_weight="balanced")
    ours = chunks.ChunksObjective(cut(X, y, s), l2=0.1, class_weight="balanced")
    rng = np.random.default_rng(2)
    w, v = rng.standard_normal((2, whole.size)) / 100
    assert ours.size == whole.size
    np.testing.assert_allclose(ours.value(w), whole.value(w), rtol=1e-13)
    np.testing.assert_allclose(ours.value_and_grad(w)[0], whole.value(w), rtol=1e-13)
    for mine, theirs in (
        (ours.value_and_grad(w)[1], whole.value_and_grad(w)[1]),
        (ours.hessp(w, v), whole.hessp(w, v)),
        (ours.hessian(w), whole.hessian(w)),
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-11 * abs(theirs).max())


def test_a_preconditioner_of_chunks_is_that_of_the_whole():
    """The preconditioners are the same as long as the sample has all rows."""
    X, y = problem()
    whole, ours = SoftmaxObjective(X, y, l2=0.1), chunks.ChunksObjective(cut(X, y), l2=0.1)
    g = np.random.default_rng(0).standard_normal(whole.size)
    np.testing.assert_array_equal(ours.preconditioner(0 * g)(g), whole.preconditioner(0 * g)(g))
    found = optim.lbfgs(ours, np.zeros(ours.size), tol=1e-8)
    assert found.converged and found.n_iter < 60


@given(st.lists(st.integers(0, 9000), min_size=1, max_size=12), st.integers(0, 2))
def test_a_sample_does_not_depend_on_the_cut(sizes, weighted):
    N = sum(sizes)
    X = np.arange(float(N))[:, np.newaxis]
    s = (np.arange(N) % 3 != 1) * 1.0 if weighted else None

    def sample(ends):
        taken, start = Sample(), 0
        for end in ends:
            taken.add(Rows(X[start:end], np.arange(start, end), s=None if s is None else s[start:end]))
            start = end
        return taken.rows() if taken.pieces else None

    one, many = sample([N]), sample(np.cumsum(sizes))
    assert (one is None) == (many is None) == (N == 0)
    if one is not None:
        np.testing.assert_array_equal(one.X, many.X)
        assert np.all(np.diff(one.X[:, 0]) > 0) and len(one.y) <= 2 * POOL
        rows = N if s is None else np.count_nonzero(s)
        assert len(one.y) >= min(rows, POOL) and (s is None or s[one.y].all())


def test_a_sample_takes_no_more_rows_than_it_keeps():
    """To copy a first chunk whole took most of a fit from a file that is mapped."""
    taken = []

    class Watched(np.ndarray):
        def __getitem__(self, index):
            found = super().__getitem__(index)
            taken.append(len(found))
            return found

    sample = Sample()
    for n in (7 * POOL, 3, 9 * POOL):
        sample.add(Rows(np.zeros((n, 1)).view(Watched), np.arange(n)))
    assert max(taken) <= 2 * POOL and len(sample.rows()) == POOL + 1


def test_joined_fills_in_weights():
    pieces = [Rows(np.ones((2, 1)), np.zeros(2), s=s) for s in (None, np.array([2.0, 3.0]))]
    np.testing.assert_array_equal(Rows.joined(pieces).s, [1, 1, 2, 3])


def test_the_next_chunk_is_read_meanwhile():
    """No more than two chunks are in memory."""
    begun, allowed = [], threading.Event()

    def factory():
        for i in range(6):
            begun.append((i, threading.current_thread() is threading.main_thread()))
            yield np.full((3, 1), float(i)), np.array([0, 1, 2])
            allowed.wait(10)

    for i, (X, _, _) in enumerate(chunks.from_iterable(factory)):
        allowed.set()
        deadline = time.monotonic() + 10
        while len(begun) < min(i + 2, 6) and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.01)
        assert X[0, 0] == i and [number for number, _ in begun] == list(range(min(i + 2, 6)))
    assert not any(main for _, main in begun)


def test_chunks_that_were_read_can_be_copied(npy):
    X, y = problem()
    data = npy(X, y)
    model = LogisticRegression().fit(data)
    other = LogisticRegression().fit(copy.deepcopy(data))
    np.testing.assert_array_equal(other.coef_, model.coef_)


def test_chunks_that_were_read_are_let_go():
    made, most = [], 0

    class Watched(np.ndarray):
        pass

    def factory():
        nonlocal most
        for i in range(10):
            X = np.full((50, 2), float(i)).view(Watched)
            X[:, 1] = np.arange(50)
            made.append(weakref.ref(X))
            most = max(most, sum(one() is not None for one in made))
            yield X, np.arange(50) % 2
            del X

    LogisticRegression(max_iter=5, tol=1e-1).fit(chunks.from_iterable(factory))
    assert most <= 3  # of which one is being made, one waits for the objective that has just gone


def test_feature_names_are_those_of_the_file(parquet):
    pd = pytest.importorskip("pandas")
    X, y = problem()
    model = LogisticRegression().fit(parquet(X, y))
    assert list(model.feature_names_in_) == [f"x{j}" for j in range(6)]
    model.predict(pd.DataFrame(X, columns=model.feature_names_in_))
    model.fit(cut(X, y))
    assert not hasattr(model, "feature_names_in_")


def test_parquet_is_read_by_chosen_columns(parquet, tmp_path):
    X, y = problem()
    parquet(X, y)
    chosen = chunks.from_parquet(tmp_path / "parquet", "kind", columns=["x4", "x1"], rows=64)
    assert max(len(part) for _, part, _ in chosen) <= 64
    assert_same_fit(tight().fit(chosen), tight().fit(X[:, [4, 1]], y), X[:, [4, 1]])


@pytest.mark.parametrize("K", [2, 3])
def test_predictions_and_scores_of_chunks_are_those_of_arrays(K, source):
    X, y = problem(K=K)
    names, s = np.array(["c", "a", "b"])[y], np.random.default_rng(0).exponential(size=len(y))
    data = source(X, names, s)
    model = LogisticRegression().fit(data)
    arrays = X if data.names is None else pytest.importorskip("pandas").DataFrame(X, columns=data.names)
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        want = getattr(model, method)(arrays)
        got = getattr(model, method)(data)
        if method == "predict":
            np.testing.assert_array_equal(got, want)
        else:
            np.testing.assert_allclose(got, want, rtol=1e-12)
    assert model.score(data) == pytest.approx(model.score(arrays, names, s), rel=1e-12)
    with pytest.raises(TypeError, match="in the chunks"):
        model.score(data, names)
    with pytest.raises(ValueError, match=r"chunk 0 of the iterable: y has the label .*, but the model has .*'a'"):
        model.score(cut(X, y))
    assert hasattr(model, "feature_names_in_") == (data.names is not None)


def test_chunks_without_targets_are_for_predictions(parquet, npy, tmp_path):
    pd = pytest.importorskip("pandas")
    X, y = problem()
    model = LogisticRegression().fit(parquet(X, y))
    npy(X, y)
    frame = pd.DataFrame(X, columns=model.feature_names_in_)
    frame[frame.columns[::-1]].to_parquet(tmp_path / "new.parquet", row_group_size=99)
    for data in (
        chunks.from_parquet(tmp_path / "new.parquet", columns=model.feature_names_in_),
        chunks.from_npy(tmp_path / "X.npy", rows=97),
        chunks.from_iterable(lambda: [X[:5], X[5:]]),
    ):
        np.testing.assert_array_equal(model.predict(data), model.predict(frame))
        assert [each for _, *others in data for each in others if each is not None] == []
        for wrong in (LogisticRegression().fit, model.score):
            with pytest.raises(ValueError, match="no targets"):
                wrong(data)
    with pytest.raises(ValueError, match=r"fitted to x0, .*columns=model.feature_names_in_"):
        model.predict(chunks.from_parquet(tmp_path / "new.parquet"))


def test_data_frames_are_chunks(tmp_path):
    """pandas reads a CSV in such parts: the first part of column b has integers only, and names are kept."""
    pd = pytest.importorskip("pandas")
    X, y = problem(D=2)
    X[:200, 1] = X[:200, 1].round()
    X[:200, 1] += 0.0  # no -0.0
    frame = pd.DataFrame(X, columns=["a", "b"]).assign(y=np.array(["c", "a", "b"])[y])
    frame["b"] = [str(int(b)) if b.is_integer() else str(b) for b in frame["b"]]
    frame.to_csv(tmp_path / "table.csv", index=False)

    def parts(columns=("a", "b")):
        with pd.read_csv(tmp_path / "table.csv", chunksize=100) as reader:
            for part in reader:
                yield part[list(columns)], part["y"]

    table = pd.read_csv(tmp_path / "table.csv")
    data = chunks.from_iterable(parts)
    model = tight().fit(data)
    assert_same_fit(model, tight().fit(table[["a", "b"]], table["y"]), X)
    assert model.feature_names_in_.tolist() == ["a", "b"] and len({part.dtype for part, _, _ in data}) == 1
    assert model.score(data) == model.score(table[["a", "b"]], table["y"])
    with pytest.raises(ValueError, match="the columns b, a, but the model was fitted to a, b"):
        model.predict(chunks.from_iterable(lambda: parts("ba")))
    with pytest.raises(ValueError, match=r"chunk 0 of the iterable: columns that hold no numbers: 'y' \("):
        model.fit(chunks.from_iterable(lambda: parts("ay")))
    with pytest.raises(ValueError, match="chunk 10 of the iterable has the columns"):
        model.fit(chunks.from_iterable(lambda: [*parts("ab"), *parts("ba")]))


def test_score_refuses_chunks_that_weigh_nothing():
    X, y = problem()
    model = LogisticRegression().fit(X, y)
    with pytest.raises(ValueError, match="nothing to score"):
        model.score(cut(X, y, np.zeros(len(y))))


def test_a_class_of_weight_0_does_not_count_among_the_rows_of_an_epoch():
    """The number of rows decides in how many steps the learning rate falls, and a row's weight in a batch."""
    X, y = problem()
    found = merged([survey(Rows(X[:500], y[:500])), survey(Rows(X[500:], y[500:], s=np.arange(497) % 2.0))])
    c = np.array([1.0, 0.0, 2.0])
    problem_of_all = found.problem(Penalty(), c, True, None)
    weighs = np.r_[np.ones(500), np.arange(497) % 2.0] * c[y]
    assert problem_of_all.counted == np.count_nonzero(weighs) and problem_of_all.m == weighs.sum()
    assert problem_of_all.rows == 997


def test_the_score_of_chunks_with_probabilities_is_that_of_the_largest(npy):
    X, y = problem()
    Y = softmax(np.eye(3)[y] * 3, axis=1)
    model = LogisticRegression().fit(X, Y)
    assert model.score(npy(X, Y)) == np.mean(model.predict(X) == y)


def test_parquet_is_found_by_lists_and_patterns(parquet, tmp_path, monkeypatch):
    X, y = problem()
    whole, folder = parquet(X, y), tmp_path / "parquet"
    paths = [folder / "a.parquet", folder / "b.parquet"]
    want = np.vstack([part for part, _, _ in whole])
    monkeypatch.chdir(tmp_path)
    for data in (paths, tuple(map(str, paths)), str(folder / "*.parquet"), folder / "[ab].parquet", "**/*.parquet"):
        got = np.vstack([part for part, _, _ in chunks.from_parquet(data, "kind")])
        np.testing.assert_array_equal(got, want)
    half = len(X) // 2
    turned = np.vstack([part for part, _, _ in chunks.from_parquet(paths[::-1], "kind")])
    np.testing.assert_array_equal(turned, np.vstack([X[half:], X[:half]]))
    for wrong, says in (([], "empty list"), ([*paths, "gone.parquet"], "gone.parquet does not exist")):
        with pytest.raises((ValueError, FileNotFoundError), match=says):
            chunks.from_parquet(wrong, "kind")
    with pytest.raises(FileNotFoundError, match="no file matches"):
        chunks.from_parquet(str(folder / "*.csv"), "kind")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty holds no files"):
        chunks.from_parquet(tmp_path / "empty", "kind")
    with pytest.raises(FileNotFoundError, match="is a folder"):
        chunks.from_parquet([folder], "kind")


def test_chunks_say_what_they_are(parquet, npy, tmp_path):
    X, y = problem()
    folder = tmp_path / "parquet"
    assert repr(parquet(X, y)) == (f"<Chunks: {folder}, 2 files, {len(X)} rows x 6 columns of float64, target 'kind'>")
    single = chunks.from_parquet(folder / "a.parquet", columns=["x1"])
    assert repr(single) == f"<Chunks: {folder / 'a.parquet'}, {len(X) // 2} rows x 1 columns of float64>"
    assert repr(npy(X, y)) == f"<Chunks: {tmp_path / 'X.npy'}, {len(X)} rows x 6 columns of float64>"
    assert repr(cut(X, y)) == "<Chunks: what factory() yields>"


# faults


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "whole .npy file"),
        (lambda path: path.write_bytes(b""), "whole .npy file"),
        (lambda path: path.write_text("x" * 1000), "whole .npy file"),
        (lambda path: path.unlink(), "No such file"),
        (lambda path: np.save(path, np.ones(3)), "2 dimensions"),
        (lambda path: np.save(path, np.ones((4, 0))), "2 dimensions"),
    ],
)
def test_damaged_npy_is_named(damage, says, npy, tmp_path):
    npy(*problem())
    damage(tmp_path / "X.npy")
    with pytest.raises((ValueError, FileNotFoundError), match=says) as caught:
        chunks.from_npy(tmp_path / "X.npy", tmp_path / "y.npy")
    assert "X.npy" in str(caught.value)


def test_npy_of_other_lengths_is_refused(npy):
    X, y = problem()
    with pytest.raises(ValueError, match=r"y.npy has 996 rows, but .*X.npy has 997"):
        npy(X, y[1:])


@pytest.mark.parametrize("rows", [0, -1, 2.0, True, "9"])
def test_a_number_of_rows_that_is_not_positive_is_refused(rows, npy, tmp_path):
    npy(*problem())
    with pytest.raises((ValueError, TypeError), match="rows must be"):
        chunks.from_npy(tmp_path / "X.npy", tmp_path / "y.npy", rows=rows)


def shorter(folder):
    os.truncate(folder / "X.npy", 4096)


def gone(folder):
    (folder / "X.npy").unlink()


def broken_footer(folder):
    path = folder / "parquet" / "b.parquet"
    path.write_bytes(path.read_bytes()[:-7])


def broken_row_group(folder):
    path = folder / "parquet" / "b.parquet"
    data = bytearray(path.read_bytes())
    data[1000:3000] = bytes(2000)
    path.write_bytes(data)


def without(folder):
    (folder / "parquet" / "b.parquet").unlink()


def other(change):
    def rewrite(folder):
        pd = pytest.importorskip("pandas")
        path = folder / "parquet" / "b.parquet"
        change(pd.read_parquet(path)).to_parquet(path, row_group_size=101, index=False)

    return rewrite


FAULTS = {
    "npy shorter": ("npy", shorter, r"X.npy has 4096 bytes.*rows \d+ to"),
    "npy gone": ("npy", gone, "X.npy"),
    "footer": ("parquet", broken_footer, "b.parquet"),
    "row group": ("parquet", broken_row_group, r"b.parquet, row group \d"),
    "file gone": ("parquet", without, "b.parquet"),
    "narrower": ("parquet", other(lambda frame: frame.drop(columns="x3")), r"b.parquet.*no column 'x3'"),
    "wider": ("parquet", other(lambda frame: frame.assign(more=1.0)), r"b.parquet.*'more'"),
    "dtype": ("parquet", other(lambda frame: frame.astype({"x2": np.float32})), r"b.parquet.*'x2' holds float"),
    "null": (
        "parquet",
        other(lambda frame: frame.assign(x1=frame.x1.where(frame.index != 250))),
        r"b.parquet, row group 2: column 'x1' has 1 nulls",
    ),
    "rows": ("parquet", other(lambda frame: frame[:100]), r"had 997 rows at first and 598 now"),
    "label": ("parquet", other(lambda frame: frame.assign(kind=9)), r"b.parquet, row group 0.*9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_chunks_damaged_in_the_middle_of_a_fit_are_named(fault, request, tmp_path):
    kind, damage, says = FAULTS[fault]
    X, y = problem()
    data = request.getfixturevalue(kind)(X, y)
    curve = []

    def callback(iteration, value, gradient):
        curve.append(value)
        if iteration == 2:
            damage(tmp_path)

    model = tight(callback=callback)
    with pytest.raises((ValueError, OSError), match=says):
        model.fit(data)
    assert len(curve) == 2
    W, b = model.coef_, model.intercept_
    kept = SoftmaxObjective(X, y, l2=1 / len(y)).value(np.concatenate([W.ravel(), b]))
    np.testing.assert_allclose(kept, curve[-1], rtol=1e-8)
    model.set_params(callback=None, warm_start=True).fit(cut(X, y))
    assert_same_fit(model, tight().fit(X, y), X)


def test_two_classes_take_their_first_hessians_from_the_sample(monkeypatch):
    """As in memory: a pass for a Hessian would take three times that of an evaluation."""
    X, y = problem(N=40000, D=30, K=2)
    X /= X.std(axis=0)
    rows, whole_hessian = [], BinomialObjective._whole_hessian
    monkeypatch.setattr(
        BinomialObjective, "_whole_hessian", lambda self, w: rows.append(self.N) or whole_hessian(self, w)
    )
    model = LogisticRegression().fit(cut(X, y, rows=10000))
    assert model.convergence_report_.startswith("Newton's method: ") and 4096 <= rows[0] <= 8192
    monkeypatch.undo()
    np.testing.assert_allclose(model.coef_, LogisticRegression().fit(X, y).coef_, atol=1e-3)


def test_labels_of_a_chunk_are_checked_wherever_they_are_wrong():
    """Some are checked at a time, which changes neither the error nor what is checked."""
    n = 2 * validation.TOGETHER + 3
    for dtype in (np.int64, np.uint8, np.int16):
        y, room = (np.arange(n) % 3).astype(dtype), np.full(n + 5, -7)
        np.testing.assert_array_equal(check_labels(y, n, 3, room), y)
        assert np.shares_memory(check_labels(y, n, 3, room), room) and (room[n:] == -7).all()
        for i in (0, validation.TOGETHER - 1, validation.TOGETHER, n - 1):
            wrong = y.copy()
            wrong[i] = 3 if dtype == np.uint8 else -1
            with pytest.raises(ValueError, match=rf"y\[{i}\] = {wrong[i]} is out of range"):
                check_labels(wrong, n, 3, room)


def test_chunks_that_differ_are_named():
    X, y = problem()
    for second, says in (
        ((X[:, 1:], y), "chunk 1 of the iterable: features 5, but chunk 0 of the iterable has 6"),
        ((X.astype(np.float32), y), "chunk 1 of the iterable: dtype of X float32, but .* has float64"),
        ((X, y.astype(str)), "chunk 1 of the iterable: kind of y names, but .* has integers"),
        ((X, np.eye(3)[y]), "chunk 1 of the iterable: kind of y 3 probabilities"),
        ((X, y[1:]), "chunk 1 of the iterable: X has 997 rows, so y must be"),
        ((X, y, y[1:]), r"chunk 1 of the iterable: sample_weight must be \(997,\)"),
        ((X, y, y - 1.0), "chunk 1 of the iterable: sample_weight must be finite and not negative"),
        ((X * np.nan, y), "chunk 1 of the iterable: Input X contains NaN"),
        ((X.astype(str), y), "chunk 1 of the iterable: X must be .* real numbers"),
        ((X, np.where(y, y, np.nan)), "chunk 1 of the iterable: Input y contains NaN"),
        ((X, np.array(["u", None])[y % 2]), "chunk 1 of the iterable: Input y contains NaN"),
        ((X, y + 0.5), "chunk 1 of the iterable: Unknown label type: continuous"),
        ((X,), r"chunk 1 of the iterable must be \(X, y\)"),
    ):
        with pytest.raises(ValueError, match=says):
            LogisticRegression().fit(chunks.from_iterable(lambda second=second: [(X, y), second]))


def test_chunks_that_cannot_be_fitted_are_refused():
    X, y = problem()
    with pytest.raises(TypeError, match="factory must be a function"):
        chunks.from_iterable(iter([(X, y)]))
    once = iter([(X, y)])
    with pytest.raises(ValueError, match="had 997 rows at first and 0 now"):
        LogisticRegression().fit(chunks.from_iterable(lambda: once))
    with pytest.raises(ValueError, match="0 samples"):
        LogisticRegression().fit(chunks.from_iterable(list))
    with pytest.raises(ValueError, match="only one class"):
        LogisticRegression().fit(cut(X, 0 * y))
    with pytest.raises(ValueError, match="at least one non-zero"):
        LogisticRegression().fit(cut(X, y, 0.0 * y))
    with pytest.raises(TypeError, match="in the chunks"):
        LogisticRegression().fit(cut(X, y), y)


CHANGES = {
    "a value": (0, lambda X: X + 1e-9 * (np.arange(X.size) == 411).reshape(X.shape)),
    "a label": (1, lambda y: np.where(np.arange(len(y)) == 411, 1 - y, y)),
    "a weight": (2, lambda s: s + (np.arange(len(s)) == 411)),
    "an offset": (3, lambda offset: offset + (np.arange(len(offset)) == 411)),
    "order": (0, lambda X: X[::-1]),
    "all": (0, lambda X: np.random.default_rng(0).standard_normal(X.shape)),
}


@pytest.mark.parametrize("solver", ["lbfgs", "saga", "adam"])
@pytest.mark.parametrize("storage", [np.ascontiguousarray, np.asfortranarray, scipy.sparse.csr_array])
@pytest.mark.parametrize("change", CHANGES)
def test_passes_that_yield_other_values_are_refused(change, storage, solver):
    """A function that draws its rows anew, or shuffles them, has no minimum to end at."""
    X, y = problem(K=2)
    first = [X, y, np.ones(len(X)), np.zeros(len(X))]
    index, other = CHANGES[change]
    changed = [other(array) if i == index else array for i, array in enumerate(first)]
    passes = iter([first])

    def read():
        X, *others = next(passes, changed)
        yield storage(X[:7]), *(array[:7] for array in others)
        yield storage(X[7:]), *(array[7:] for array in others)

    with pytest.raises(ValueError, match=r"chunk \d of the iterable has other values than in the fit's first pass"):
        LogisticRegression(solver=solver).fit(chunks.from_iterable(read))


def test_other_data_may_be_fitted_by_the_same_function():
    """Only the passes of one fit must be alike: another day's fit may read another day's rows."""
    X, y = problem()
    day = {"first": 0}
    data = chunks.from_iterable(lambda: [(X[day["first"] :], y[day["first"] :])])
    LogisticRegression().fit(data)
    day["first"] = 100
    model = LogisticRegression().fit(data)
    np.testing.assert_array_equal(model.coef_, LogisticRegression().fit(cut(X[100:], y[100:], rows=997)).coef_)
    day["first"] = 50
    assert len(model.predict(data)) == len(X) - 50


def test_parquet_that_does_not_fit_is_refused(parquet, tmp_path):
    X, y = problem()
    parquet(X, np.array(["a", "b", "c"])[y])
    folder = tmp_path / "parquet"
    for arguments, error, says in (
        ((folder / "c", "kind"), FileNotFoundError, "does not exist"),
        ((folder, "class"), ValueError, "no column 'class', only x0, x1"),
        ((folder, "x0"), ValueError, r"hold no numbers: 'kind' \((large_)?string\)"),
        ((folder, "kind", ["x0", "x1", "x0"]), ValueError, "'x0' is named more than once"),
        ((folder, "kind", ["x0", "kind"]), ValueError, "'kind' is named more than once"),
        ((3, "kind"), TypeError, "path must be"),
        ((folder, "kind", ["x0", "z"]), ValueError, "no column 'z'"),
        ((folder, "kind", "x0"), TypeError, "columns must be a sequence"),
        ((folder, "kind", []), ValueError, "there must be features"),
    ):
        with pytest.raises(error, match=says):
            chunks.from_parquet(*arguments)


def test_an_error_of_the_factory_is_its_own():
    X, y = problem()

    def factory():
        yield X, y
        raise ConnectionError("the database is gone")

    with pytest.raises(ConnectionError, match="the database is gone"):
        LogisticRegression().fit(chunks.from_iterable(factory))


def test_an_interrupted_fit_to_chunks_keeps_its_coefficients():
    X, y = problem()

    def callback(iteration, value, gradient):
        if iteration == 3:
            signal.raise_signal(signal.SIGINT)

    model = tight(callback=callback)
    with pytest.raises(KeyboardInterrupt):
        model.fit(cut(X, y))
    assert model.coef_.any() and not model.converged_
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("softmax_ext_reader")]


def test_examples_of_chunks_run():
    pytest.importorskip("pandas")
    for library in ("pyarrow", "h5py", "zarr"):
        pytest.importorskip(library)
    assert doctest.testmod(chunks) == (0, 56)
