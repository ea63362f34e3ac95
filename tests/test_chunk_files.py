"""Kinds of files in chunks: the bits of .npy from each of them, numbers that stay narrow, and what damage says."""

import functools
import os
import re
import shutil

import numpy as np
import pytest

from softmax_ext import SoftmaxObjective, chunks

pytest.importorskip("sklearn", "1.6")

from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path

pytestmark = pytest.mark.thread_unsafe(reason="two threads would write the same files")

ROWS = 101
NAMES = "X", "y", "s", "offset"


def problem(dtype="float64", N=997, D=6, K=3):
    rng = np.random.default_rng([N, D, K])
    X = rng.integers(0, 90, (N, D)) * 0.5
    y = (X @ rng.standard_normal((D, K)) + 20 * rng.gumbel(size=(N, K))).argmax(axis=1)
    s, offset = rng.integers(0, 4, N) / 2, rng.standard_normal((N, K))
    dtype = pytest.importorskip("ml_dtypes").bfloat16 if dtype == "bfloat16" else dtype
    return X.astype(dtype), y, s, offset


def npy(folder, *arrays, dtype=None):
    paths = [folder / f"{name}.npy" for name in NAMES]
    for path, array in zip(paths, arrays, strict=True):
        np.save(path, array)
    return chunks.from_npy(*paths[:2], ROWS, sample_weight_path=paths[2], offset_path=paths[3], dtype=dtype)


def frame_of(X, y, s, offset):
    pd = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    return pd.DataFrame(X, columns=[f"x{j}" for j in range(X.shape[1])]).assign(
        y=y, s=s, o0=offset[:, 0], o1=offset[:, 1], o2=offset[:, 2]
    )


def parquet(folder, X, y, s, offset, dtype=None):
    frame_of(X, y, s, offset).to_parquet(folder / "a.parquet", row_group_size=ROWS, index=False)
    return chunks.from_parquet(folder / "a.parquet", "y", sample_weight="s", offset=["o0", "o1", "o2"])


def arrow(folder, X, y, s, offset, dtype=None):
    frame_of(X, y, s, offset).to_feather(folder / "a.arrow", chunksize=ROWS)
    return chunks.from_arrow(folder / "a.arrow", "y", sample_weight="s", offset=["o0", "o1", "o2"])


def hdf5(folder, X, y, s, offset, dtype=None, **packing):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "a.h5", "w") as file:
        for name, array in zip(("in/X", "in/y", "s", "offset"), (X, y, s, offset), strict=True):
            if array.dtype.kind == "U":  # of strings, which are packed by none of these
                file[name] = array.tolist()
            else:
                file.create_dataset(name, data=array, **packing)
    return chunks.from_hdf5(folder / "a.h5", "in/X", "in/y", ROWS, sample_weight="s", offset="offset", dtype=dtype)


def packed(folder, X, y, s, offset, dtype=None):
    return hdf5(folder, X, y, s, offset, dtype, chunks=True, compression="gzip", shuffle=True, fletcher32=True)


def zarr(folder, X, y, s, offset, dtype=None, version=3):
    library = pytest.importorskip("zarr")
    group = library.open_group(folder / "a.zarr", mode="w", zarr_format=version)
    for name, array in zip(NAMES, (X, y, s, offset), strict=True):
        made = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=(57, *array.shape[1:]))
        made[:] = array
    return chunks.from_zarr(folder / "a.zarr", "X", "y", ROWS, sample_weight="s", offset="offset", dtype=dtype)


def zarr2(folder, X, y, s, offset, dtype=None):
    return zarr(folder, X, y, s, offset, dtype, version=2)


KINDS = {one.__name__: one for one in (parquet, arrow, hdf5, packed, zarr, zarr2)}
# pyarrow has no bfloat16, and the third format of zarr no records that all can read.
RECORDS = "hdf5", "packed", "zarr2"
CASES = [(kind, dtype) for kind in KINDS for dtype in ("float64", "float32", "float16", "uint8", "int8", "int32")]


@pytest.fixture
def folders(tmp_path):
    for name in ("npy", "other"):
        (tmp_path / name).mkdir()
    return tmp_path / "npy", tmp_path / "other"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")  # two iterations read each chunk as often
@pytest.mark.parametrize(("kind", "dtype"), [*CASES, *((kind, "bfloat16") for kind in RECORDS)])
def test_every_kind_of_file_gives_the_bits_of_npy(kind, dtype, folders):
    X, y, *more = problem(dtype)
    given = {"dtype": X.dtype} if dtype == "bfloat16" else {}
    stored = X.view("V2") if given else X
    fits = [
        LogisticRegression(tol=1e-2, max_iter=2).fit(data)
        for data in (npy(folders[0], X, y, *more, **given), KINDS[kind](folders[1], stored, y, *more, **given))
    ]
    assert len({model.coef_.tobytes() + model.loss_curve_.tobytes() for model in fits}) == 1
    assert fits[0].coef_.dtype == (np.float64 if dtype in ("float64", "int32") else np.float32)
    cuts = [[len(part) for part, *_ in KINDS[kind](folders[1], stored, y, *more, **given)]]
    assert cuts == [[101] * 9 + [88]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "uint8"])
def test_numbers_of_files_stay_narrow(kind, dtype, folders):
    X, y, *more = problem(dtype)
    parts = list(KINDS[kind](folders[1], X, y, *more))
    assert {part.dtype for part, *_ in parts} == {np.dtype(dtype)}
    np.testing.assert_array_equal(np.vstack([part for part, *_ in parts]), X)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:The data type")  # zarr's third format says that of words of fixed width
def test_words_in_files_are_labels(kind, folders):
    X, y, *more = problem()
    names = np.array(["b", "öl", "a"])[y]
    data = KINDS[kind](folders[1], X, names, *more)
    model = LogisticRegression().fit(data)
    assert model.classes_.tolist() == ["a", "b", "öl"]
    arrays = X if data.names is None else frame_of(X, y, *more)[list(data.names)]
    np.testing.assert_array_equal(model.predict(data), model.predict(arrays, more[1]))


def test_columns_of_different_types_are_floating(folders):
    X, y, *more = problem()
    frame = frame_of(X, y, *more)
    for types, dtype in (
        ({"x0": np.float16, "x1": np.float32}, np.float32),
        ({"x0": np.uint8, "x1": np.int8}, np.float64),
        ({"x0": np.float16, "x1": np.uint8}, np.float64),
        ({"x0": bool, "x1": bool}, np.float64),
    ):
        frame.astype(types).to_feather(folders[1] / "a.arrow")
        data = chunks.from_arrow(folders[1], "y", ["x0", "x1"])
        assert {part.dtype for part, *_ in data} == {np.dtype(dtype)}


def test_hdf5_that_lies_as_in_memory_is_mapped(folders):
    X, y, *more = problem()
    for kind, mapped in ((hdf5, True), (packed, False)):
        for arrays in kind(folders[1], X, y, *more):
            for array in arrays:
                assert array.flags.writeable != mapped


def test_hdf5_behind_a_block_of_the_users_is_read(folders):
    """Its numbers begin elsewhere than those of a file without such a block."""
    h5py, (X, y, *_) = pytest.importorskip("h5py"), problem()
    with h5py.File(folders[1] / "a.h5", "w", userblock_size=512) as file:
        file["X"], file["y"] = X, y
    data = chunks.from_hdf5(folders[1] / "a.h5", "X", "y")
    np.testing.assert_array_equal(np.vstack([part for part, *_ in data]), X)


@pytest.mark.parametrize("together", [7, 2000])
def test_chunks_are_whole_ones_of_the_file(together, folders, monkeypatch):
    h5py, (X, y, *_) = pytest.importorskip("h5py"), problem(N=5000)
    monkeypatch.setattr("softmax_ext._chunks.arrays.CHUNK_BYTES", 48 * 100)
    with h5py.File(folders[1] / "a.h5", "w") as file:
        file.create_dataset("X", data=X, chunks=(together, 6))
        file["y"] = y
    data = chunks.from_hdf5(folders[1] / "a.h5", "X", "y")
    assert max(len(part) for part, *_ in data) == (98 if together == 7 else 100)


# faults


def cut_short(name):
    return lambda folder: os.truncate(folder / name, os.path.getsize(folder / name) // 2)


def overwritten(name):
    """Zeros in the middle of a file."""

    def damage(folder):
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
        (folder / name).write_bytes(data)

    return damage


def gone(name):
    return lambda folder: (folder / name).unlink()


def anew(kind, change):
    return lambda folder: kind(folder, *change(*problem()))


def zarr_lost(folder):
    (folder / "a.zarr" / "X" / "c" / "7" / "0").unlink()


def zarr_noise(folder):
    (folder / "a.zarr" / "X" / "c" / "7" / "0").write_bytes(b"noise")


FAULTS = {
    "arrow shorter": (arrow, cut_short("a.arrow"), r"a\.arrow"),
    "arrow overwritten": (arrow, overwritten("a.arrow"), r"a\.arrow"),
    "arrow gone": (arrow, gone("a.arrow"), r"a\.arrow"),
    "arrow narrower": (arrow, anew(arrow, lambda X, *more: (X[:, 1:], *more)), r"a\.arrow: no column 'x5'"),
    "arrow of other rows": (
        arrow,
        anew(arrow, lambda *arrays: [each[9:] for each in arrays]),
        "had 997 rows at first and 988",
    ),
    "hdf5 shorter": (hdf5, cut_short("a.h5"), r"a\.h5 has \d+ bytes, and had \d+ when .* rows \d+ to"),
    "hdf5 packed, shorter": (packed, cut_short("a.h5"), r"a\.h5 has \d+ bytes, and had"),
    "hdf5 overwritten": (packed, overwritten("a.h5"), r"a\.h5, dataset '[a-zA-Z/]+', rows \d+ to \d+ cannot be read"),
    "hdf5 gone": (hdf5, gone("a.h5"), r"a\.h5"),
    "hdf5 of other rows": (
        hdf5,
        anew(hdf5, lambda *arrays: [np.concatenate([each, each]) for each in arrays]),
        r"a\.h5, dataset 'in/X' is of shape \(1994, 6\), and was of \(997, 6\)",
    ),
    "zarr lost": (zarr, zarr_lost, r"a\.zarr, array 'X' has 17 chunks, and had 18"),
    "zarr noise": (zarr, zarr_noise, r"a\.zarr, array 'X', rows \d+ to \d+ cannot be read"),
    "zarr gone": (zarr, lambda folder: shutil.rmtree(folder / "a.zarr"), r"a\.zarr"),
    "zarr wider": (zarr, anew(zarr, lambda X, *more: (np.hstack([X, X]), *more)), r"a\.zarr, array 'X' is of shape"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_file_damaged_in_the_middle_of_a_fit_is_named(fault, folders):
    make, damage, says = FAULTS[fault]
    X, y, *more = problem()
    curve = []

    def callback(iteration, value, gradient):
        curve.append(value)
        if iteration == 2:
            damage(folders[1])

    model = LogisticRegression(tol=1e-11, callback=callback)
    with pytest.raises((ValueError, FileNotFoundError), match=says):
        model.fit(make(folders[1], X, y, *more))
    assert len(curve) == 2
    kept = np.concatenate([model.coef_.ravel(), model.intercept_])
    s, offset = more
    whole = SoftmaxObjective(X, y, l2=1 / s.sum(), sample_weight=s, offset=offset)
    assert whole.value(kept) == pytest.approx(curve[-1], rel=1e-8)


def of_a_path(data, damage, **options):
    def callback(done, n):
        if done == 2:
            damage()

    whole = logistic_regression_path(data, Cs=4, **options)
    with pytest.raises((ValueError, OSError)) as caught:
        logistic_regression_path(data, Cs=whole.Cs[::-1], callback=callback, **options)
    for ours, theirs in zip(caught.value.path, whole, strict=True):
        np.testing.assert_array_equal(ours[::-1], theirs[:2])
    return caught.value


def of_a_choice(data, damage, **options):
    options = {"cv": 2, "Cs": [0.001, 0.1, 10], "l1_ratios": (0,), "solver": "saga", "scoring": "accuracy"} | options
    options |= {"use_legacy_attributes": False}
    whole = LogisticRegressionCV(**options).fit(data)
    model = LogisticRegressionCV(callback=lambda done, of: damage() if done == 5 else None, **options)
    with pytest.raises((ValueError, OSError)) as caught:
        model.fit(data)
    kept = np.isfinite(model.coefs_paths_)
    assert kept[:, :, 0].all() and not kept.all()
    np.testing.assert_array_equal(model.coefs_paths_[kept], whole.coefs_paths_[kept])
    return caught.value


def of_an_l1_fit(data, damage):
    curve = []

    def callback(iteration, value, violation):
        curve.append(value)
        if iteration == 2:
            damage()

    options = {"solver": "saga", "l1_ratio": 1, "C": 0.02, "tol": 1e-9}
    whole = LogisticRegression(**options).fit(data)
    model = LogisticRegression(callback=callback, **options)
    with pytest.raises((ValueError, OSError)) as caught:
        model.fit(data)
    assert len(curve) == 2 and curve == whole.loss_curve_[1:3].tolist()
    assert model.coef_.any() and not model.converged_
    return caught.value


def of_an_inference(data, damage):
    passes, partials, model = [], chunks.ChunksObjective._partials, LogisticRegression(C=np.inf)

    def counted(self, asks):
        passes.append(asks)
        if len(passes) == 4:
            damage()
        return partials(self, asks)

    with pytest.MonkeyPatch.context() as patch, pytest.raises((ValueError, OSError)) as caught:
        patch.setattr(chunks.ChunksObjective, "_partials", counted)
        model.inference(data)
    assert len(passes) == 4 and not hasattr(model, "coef_")
    return caught.value


PRODUCTS = {
    "path": of_a_path,
    "path with L1": functools.partial(of_a_path, l1_ratio=1),
    "choice": of_a_choice,
    "choice with L1": functools.partial(of_a_choice, l1_ratios=(1,), Cs=[0.001, 0.01, 0.02]),
    "fit with L1": of_an_l1_fit,
    "inference": of_an_inference,
}
IN_A_SWEEP = {
    "npy shorter": (npy, cut_short("X.npy"), r"X\.npy has \d+ bytes"),
    "parquet shorter": (parquet, cut_short("a.parquet"), r"a\.parquet"),
    "parquet overwritten": (parquet, overwritten("a.parquet"), r"a\.parquet, row group \d"),
} | {
    name: FAULTS[name]
    for name in FAULTS
    if name.partition(" ")[2] not in ("narrower", "wider", "gone", "of other rows")
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("fault", IN_A_SWEEP)
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_file_damaged_in_the_middle_of_a_sweep_is_named_and_finished_values_are_kept(product, fault, folders):
    make, damage, says = IN_A_SWEEP[fault]
    X, y, *more = problem()
    error = PRODUCTS[product](make(folders[1], X, y, *more), lambda: damage(folders[1]))
    assert re.search(says, str(error))


def arrow_door(folder, X="y", y="y"):
    return chunks.from_arrow(folder / "a.arrow", y)


def hdf5_door(folder, X="in/X", y="in/y"):
    return chunks.from_hdf5(folder / "a.h5", X, y)


def zarr_door(folder, X="X", y="y"):
    return chunks.from_zarr(folder / "a.zarr", X, y)


@pytest.mark.parametrize(
    ("make", "door", "file"),
    [(arrow, arrow_door, "a.arrow"), (hdf5, hdf5_door, "a.h5"), (zarr, zarr_door, "a.zarr/zarr.json")],
)
def test_a_file_that_cannot_be_read_is_refused_at_once(make, door, file, folders):
    X, y, *more = problem()
    folder = folders[1]
    make(folder, X, y, *more)
    name = file.partition("/")[0]
    with pytest.raises(ValueError, match=rf"{name} has no (column|array) 'z', only"):
        door(folder, y="z")
    if make is not arrow:
        with pytest.raises(ValueError, match=rf"{name}, .*'s' must hold one array of 2 dimensions"):
            door(folder, X="s")
    whole = (folder / file).read_bytes()
    for content in (b"", b"noise" * 100, whole[:-9]):
        (folder / file).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            door(folder)
    shutil.rmtree(folder / name) if make is zarr else (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        door(folder)


def test_arrays_of_other_lengths_are_refused(folders):
    X, y, *more = problem()
    for kind, says in (
        (hdf5, r"a\.h5, dataset 'in/y' has 996 rows, but .*'in/X' has 997"),
        (zarr, "array 'y' has 996"),
    ):
        with pytest.raises(ValueError, match=says):
            kind(folders[1], X, y[1:], *more)
