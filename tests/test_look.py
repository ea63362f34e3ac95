"""The first look at chunks: kept in a file, taken from there while the data are the same, and never otherwise."""

import os

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import chunks
from softmax_ext._chunks.look import Look
from softmax_ext._objective import sample

pytest.importorskip("sklearn", "1.6")

from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path

pytestmark = pytest.mark.thread_unsafe(reason="two threads would write the same files")


def problem(N=997, D=6, K=3):
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D))
    y = (X @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y


@pytest.fixture
def looks(monkeypatch):
    """Count how often all chunks were looked through."""
    found, at = [], Look.at

    def counted(pieces):
        found.append(1)
        return at(pieces)

    monkeypatch.setattr(Look, "at", counted)
    return found


def npy(folder, X, targets, s=None, dtype=None):
    np.save(folder / "X.npy", X)
    np.save(folder / "y.npy", targets)
    more = {}
    if s is not None:
        np.save(folder / "s.npy", s)
        more = {"sample_weight_path": folder / "s.npy"}
    return chunks.from_npy(folder / "X.npy", folder / "y.npy", 101, dtype=dtype, **more).keep_look(folder / "look.npz")


def fit(data, **parameters):
    model = LogisticRegression(tol=1e-2, **parameters).fit(data)
    return model.coef_.tobytes() + model.intercept_.tobytes() + model.loss_curve_.tobytes()


X, Y = problem()
S = np.random.default_rng(0).integers(0, 3, len(Y)) / 2
TARGETS = {
    "integers": Y,
    "words": np.array(["b", "öl", "a"])[Y],
    "floats": Y * 2.0,
    "probabilities": np.eye(3)[Y] * 0.9 + 0.1 / 3,
}


@pytest.mark.parametrize("s", [None, S], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("targets", TARGETS)
def test_a_sweep_looks_once_and_has_the_same_bits(targets, s, tmp_path, looks):
    data = npy(tmp_path, X, TARGETS[targets], s)
    data._kept, path = None, data._kept
    want = [fit(data, C=C) for C in (0.1, 1.0)]
    data._kept = path
    looks.clear()
    assert [fit(data, C=C) for C in (0.1, 1.0)] == want and len(looks) == 1
    weights = {} if s is None else {"sample_weight_path": tmp_path / "s.npy"}
    again = chunks.from_npy(tmp_path / "X.npy", tmp_path / "y.npy", 101, **weights).keep_look(path)
    assert fit(again, C=0.1) == want[0] and len(looks) == 1
    assert sorted(os.listdir(tmp_path)) == sorted(["X.npy", "y.npy", "look.npz", *(["s.npy"] if s is not None else [])])


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8", "bfloat16"])
def test_the_sample_of_a_look_stays_narrow(dtype, tmp_path, looks):
    kind = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    data = npy(tmp_path, (abs(X) * 9).astype(kind), Y, dtype=kind if dtype == "bfloat16" else None)
    assert fit(data) == fit(data) and len(looks) == 1
    assert data.look().sample.X.dtype == kind and len(looks) == 1


def test_a_look_keeps_sparse_samples(tmp_path):
    import scipy.sparse

    from softmax_ext._inputs.rows import Rows

    sparse = scipy.sparse.csr_array(X * (X > 0))
    look = Look.at([Rows(sparse[:500], Y[:500]), Rows(sparse[500:], Y[500:])])
    look.save(tmp_path / "look.npz", "print")
    found = Look.load(tmp_path / "look.npz", "print")
    assert (found.sample.X != look.sample.X).nnz == 0 and found.sample.X.format == "csr"
    assert [str(one) for one in found.survey] == [str(one) for one in look.survey]
    assert Look.load(tmp_path / "look.npz", "other") is None


def in_place(folder):
    """Change one label, and keep the file's old date."""
    status = os.stat(folder / "y.npy")
    labels = np.load(folder / "y.npy", mmap_mode="r+")
    labels[500] = (labels[500] + 1) % 3
    labels.flush()
    os.utime(folder / "y.npy", ns=(status.st_atime_ns, status.st_mtime_ns))


def touched(folder):
    os.utime(folder / "X.npy")


def cut(folder):
    (folder / "look.npz").write_bytes((folder / "look.npz").read_bytes()[:-99])


CHANGES = {
    "a label in place": in_place,
    "a date": touched,
    "a look that is cut": cut,
    "a look that is noise": lambda folder: (folder / "look.npz").write_bytes(b"noise"),
    "a look that is gone": lambda folder: (folder / "look.npz").unlink(),
    "a look of another version": lambda folder: np.savez(
        folder / "look.npz", **dict(np.load(folder / "look.npz")) | {"version": 9}
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_has_changed_is_looked_at_again(change, tmp_path, looks):
    data = npy(tmp_path, X, Y)
    fit(data)
    CHANGES[change](tmp_path)
    got = fit(data)
    assert len(looks) == 2
    assert fit(data) == got and len(looks) == 2


def test_other_columns_and_other_files_are_other_data(tmp_path, looks):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    (tmp_path / "data").mkdir()
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(y=Y, z=Y[::-1])
    frame.to_parquet(tmp_path / "data" / "1.parquet")

    def look(*columns):
        return chunks.from_parquet(tmp_path / "data", *columns).keep_look(tmp_path / "look.npz").look()

    assert look("y").survey.rows == 997 and look("y").survey.D == 7 and len(looks) == 1
    look("y", ["a"]), look("z", ["a"])
    assert len(looks) == 3
    frame.to_parquet(tmp_path / "data" / "2.parquet")
    assert look("z", ["a"]).survey.rows == 2 * 997 and len(looks) == 4


def test_what_is_not_finite_is_not_kept(tmp_path, looks):
    bad = X.copy()
    bad[500, 2] = np.nan
    data = npy(tmp_path, bad, Y)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"X.npy, rows 404 to 504: Input X contains NaN"):
            fit(data)
    assert len(looks) == 2 and not (tmp_path / "look.npz").exists()


def test_a_kept_look_lets_nothing_pass_that_is_not_finite(tmp_path, looks, monkeypatch):
    """Rows that are not in the sample are looked through by the first pass, which comes in each fit."""
    monkeypatch.setattr(sample, "POOL", 50)
    bad = X.copy()
    bad[501, 2] = np.nan
    data = npy(tmp_path, bad, Y)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"X.npy, rows 404 to 504: Input X contains NaN"):
            fit(data)
    assert len(looks) == 1


WAYS = {
    "lbfgs": lambda data: LogisticRegression().fit(data),
    "l1": lambda data: LogisticRegression(solver="saga", l1_ratio=1.0).fit(data),
    "standardised": lambda data: LogisticRegression(standardize=True).fit(data),
    "mini-batches": lambda data: LogisticRegression(solver="adam").fit(data),
    "path": lambda data: logistic_regression_path(data, Cs=2),
    "folds": lambda data: LogisticRegressionCV(
        Cs=2, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False
    ).fit(data),
    "inference": lambda data: LogisticRegression(C=np.inf).inference(data),
    "objective": lambda data: (lambda f: f.value(np.ones(f.size)))(chunks.ChunksObjective(data)),
}


@pytest.mark.pairs
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("entry", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("storage", ["float64", "float16", "csr"])
@pytest.mark.parametrize("weight", [None, "one", "row of 0", "chunk of 0"])
@pytest.mark.parametrize("sampled", [True, False])
def test_the_first_look_or_pass_finds_what_is_not_finite(way, entry, K, storage, weight, sampled, monkeypatch):
    if not sampled:
        monkeypatch.setattr(sample, "POOL", 50)
    X, y = problem(K=K)
    X[501, 2] = entry
    s = None if weight is None else np.ones(len(y))
    if weight in ("row of 0", "chunk of 0"):
        s[slice(500, 502) if weight == "row of 0" else slice(400, 600)] = 0
    X = scipy.sparse.csr_array(X) if storage == "csr" else X.astype(storage)
    data = chunks.from_iterable(
        lambda: ((X[i : i + 200], y[i : i + 200], None if s is None else s[i : i + 200]) for i in range(0, 997, 200))
    )
    with pytest.raises(ValueError, match="chunk 2 of the iterable: Input X contains NaN or infinity"):
        WAYS[way](data)


def test_a_pass_that_overflows_looks_once_through_finite_data():
    X, y = problem()
    reads = []
    data = chunks.from_iterable(lambda: reads.append(1) or [(X, y)])
    objective = chunks.ChunksObjective(data)
    far = np.full(objective.size, 1e308)
    far[::2] *= -1
    for more in (2, 1):
        before = len(reads)
        assert not np.isfinite(objective.value(far)) and len(reads) == before + more


def test_data_that_change_while_they_are_read_are_not_kept(tmp_path, monkeypatch):
    data, at = npy(tmp_path, X, Y), Look.at

    def changing(pieces):
        touched(tmp_path)
        return at(pieces)

    monkeypatch.setattr(Look, "at", changing)
    fit(data)
    assert not (tmp_path / "look.npz").exists()


def test_a_look_that_cannot_be_kept_is_refused(tmp_path):
    with pytest.raises(ValueError, match="what a function yields"):
        chunks.from_iterable(lambda: [(X, Y)]).keep_look(tmp_path / "look.npz")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        npy(tmp_path, X, Y).keep_look(tmp_path / "no" / "look.npz")
