"""fit, predict, evaluate and bench on files of every kind: what they write and print, and what they refuse."""

import datetime
import decimal
import importlib.util
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import loss_grad
from softmax_ext._cli import bench, commands, report
from softmax_ext._cli import main as cli

sklearn = pytest.importorskip("sklearn")
pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("rich")
image = pytest.importorskip("matplotlib.image")

from sklearn import metrics  # noqa: E402
from sklearn.datasets import dump_svmlight_file, load_iris  # noqa: E402

from softmax_ext.linear_model import LogisticRegression  # noqa: E402

COLUMNS = ["sepal length", "sepal width", "petal length", "petal width"]
SPECIES = np.array(["setosa", "versicolor", "virginica"])
KINDS = {**dict.fromkeys(("csv", "parquet", "arrow", "npz", "h5"), "species"), "svmlight": "label"}
BY_NAME = "csv", "parquet", "arrow"
MODELS = ["npz", pytest.param("skops", marks=pytest.mark.skipif(not importlib.util.find_spec("skops"), reason="skops"))]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORCE_COLOR", raising=False)


@pytest.fixture(scope="module")
def iris():
    """Features and classes, mixed, some of them for training."""
    X, y = load_iris(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(X))
    return X[order], y[order]


def store(name, X, y):
    """Write a table as `name` says, its columns in an order of their own and with one that is no feature."""
    kind = name.rpartition(".")[2]
    if kind == "svmlight":
        dump_svmlight_file(X, y, name, zero_based=False)
    elif kind == "npz":
        np.savez(name, X=X, species=SPECIES[y])
    elif kind == "h5":
        with pytest.importorskip("h5py").File(name, "w") as file:
            file["X"], file["species"] = X, SPECIES[y].tolist()
    else:
        frame = pd.DataFrame(X, columns=COLUMNS)
        frame.insert(2, "id", [f"n{i}" for i in range(len(X))])
        frame.insert(0, "species", SPECIES[y])
        write = {"csv": frame.to_csv, "parquet": frame.to_parquet, "arrow": frame.to_feather}[kind]
        write(name, **{"index": False} if kind == "csv" else {})


def run(*words, status=0):
    assert cli.main([str(word) for word in words]) == status


def fit(kind="csv", model="model.npz", *options):
    ignore = ["--ignore", "id"] if kind in BY_NAME else []
    run("fit", f"train.{kind}", "--target", KINDS[kind], "--out", model, *ignore, *options)


def failed(capsys, *expected):
    """Take what was printed: one line that names all these."""
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("softmax-ext: error: ") and err.count("\n") == 1, out + err
    assert [text for text in expected if text not in err] == [], err


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_any_file_predicts_as_the_estimator_does(kind, model, iris, capsys):
    X, y = iris
    store(f"train.{kind}", X[:100], y[:100])
    store(f"test.{kind}", X[100:], y[100:])
    ours = LogisticRegression().fit(X[:100], y[:100])
    fit(kind, f"model.{model}")
    out, err = capsys.readouterr()
    assert err == "" and "100 samples, 4 features, 3 classes" in out and f"{ours.loss_curve_[-1]:.6g}" in out
    run("evaluate", f"model.{model}", f"test.{kind}", "--target", KINDS[kind], "--json")
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert err == "" and result["accuracy"] == ours.score(X[100:], y[100:])
    assert result["log_loss"] == pytest.approx(metrics.log_loss(y[100:], ours.predict_proba(X[100:])))
    run("predict", f"model.{model}", f"test.{kind}", "--out", "new.parquet")
    got = pd.read_parquet("new.parquet")
    classes = SPECIES if kind != "svmlight" else np.arange(3)
    assert list(got) == ["prediction", *(f"probability_{name}" for name in classes)]
    np.testing.assert_array_equal(got["prediction"], classes[ours.predict(X[100:])])
    np.testing.assert_allclose(got.iloc[:, 1:].to_numpy(), ours.predict_proba(X[100:]), rtol=1e-6)
    assert sorted(os.listdir()) == sorted([f"train.{kind}", f"test.{kind}", f"model.{model}", "new.parquet"])


@pytest.mark.parametrize("kind", [*BY_NAME, "npz"])
def test_predictions_are_the_same_in_every_kind_of_file(kind, iris, capsys):
    store("train.csv", *iris)
    fit()
    run("predict", "model.npz", "train.csv", "--out", f"p.{kind}", "--json")
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"samples": 150, "out": f"p.{kind}"}
    if kind == "npz":
        with np.load("p.npz", allow_pickle=False) as archive:
            got = dict(archive)
    else:
        read = {"csv": pd.read_csv, "parquet": pd.read_parquet, "arrow": pd.read_feather}[kind]
        got = read(f"p.{kind}").to_dict("list")
    ours = LogisticRegression().fit(*iris)
    np.testing.assert_array_equal(got["prediction"], SPECIES[ours.predict(iris[0])])
    np.testing.assert_array_equal(got["probability_setosa"], ours.predict_proba(iris[0])[:, 0])


def test_columns_go_by_name(iris, capsys):
    X, y = iris
    store("train.csv", X, y)
    fit()
    run("predict", "model.npz", "train.csv", "--out", "a.csv")
    pd.DataFrame(X, columns=COLUMNS)[COLUMNS[::-1]].assign(extra="x").to_csv("other.csv", index=False)
    run("predict", "model.npz", "other.csv", "--out", "b.csv")
    assert pd.read_csv("a.csv").equals(pd.read_csv("b.csv"))
    capsys.readouterr()
    pd.DataFrame(X[:, :3], columns=COLUMNS[:3]).to_csv("short.csv", index=False)
    run("predict", "model.npz", "short.csv", "--out", "c.csv", status=2)
    failed(capsys, "short.csv", "'petal width'")
    assert not os.path.exists("c.csv")


def test_a_column_of_booleans_has_two_classes(iris, capsys):
    X, y = iris
    frame = pd.DataFrame(X[y > 0], columns=COLUMNS).assign(target=y[y > 0] == 1)
    frame.to_csv("train.csv", index=False)
    run("fit", "train.csv", "--target", "target", "--out", "model.npz", "--json")
    result = json.loads(capsys.readouterr().out)
    assert result["classes"] == {"False": 50, "True": 50} and result["converged"]
    run("evaluate", "model.npz", "train.csv", "--target", "target", "--json")
    assert json.loads(capsys.readouterr().out)["accuracy"] == result["accuracy"] > 0.9


def test_options_of_fit_reach_the_estimator(iris, capsys):
    X, y = iris
    s = np.random.default_rng(1).exponential(size=len(X))
    pd.DataFrame(X, columns=COLUMNS).assign(species=SPECIES[y], s=s).to_csv("train.csv", index=False)
    run("fit", "train.csv", "--target", "species", "--weights", "s", "--balanced", "--C", "0.01", "--out", "model.npz")
    ours = LogisticRegression(C=0.01, class_weight="balanced").fit(X, y, s)
    with np.load("model.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["coef"], ours.coef_)
        np.testing.assert_array_equal(archive["intercept"], ours.intercept_)
        assert archive["features"].tolist() == COLUMNS and archive["classes"].tolist() == SPECIES.tolist()
    run("fit", "train.csv", "--target", "species", "--C", "inf", "--tol", "0.5", "--out", "model.npz")
    capsys.readouterr()
    run("fit", "train.csv", "--target", "species", "--max-iter", "1", "--tol", "1e-9", "--out", "model.npz")
    out, err = capsys.readouterr()
    assert (
        "after 1 iterations" in out and err.count("\n") == 1 and err.startswith("softmax-ext: warning: not converged")
    )


def test_float32_columns_stay_so(iris):
    X, y = iris
    np.savez("train.npz", X=X.astype(np.float32), y=y)
    run("fit", "train.npz", "--target", "y", "--out", "model.npz")
    with np.load("model.npz") as archive:
        assert archive["coef"].dtype == np.float32


def test_bfloat16_is_read_as_what_it_is_and_said_to_be(iris, capsys):
    """NumPy writes it as records of two bytes; other records are no numbers."""
    X, y = iris
    X = X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    np.savez("train.npz", X=X, y=y)
    run("fit", "train.npz", "--target", "y", "--out", "model.npz")
    assert "warning: train.npz: array 'X' holds records of two bytes, read as bfloat16" in capsys.readouterr().err
    np.savez("train.npz", X=X.astype(np.float32), y=y)
    run("fit", "train.npz", "--target", "y", "--out", "wide.npz")
    with np.load("model.npz") as narrow, np.load("wide.npz") as wide:
        assert narrow["coef"].tobytes() == wide["coef"].tobytes() and narrow["coef"].dtype == np.float32
    for records in (np.zeros(150, "V3"), np.zeros(150, [("a", "i1"), ("b", "i1")])):
        np.savez("train.npz", X=records, y=y)
        run("fit", "train.npz", "--target", "y", "--out", "model.npz", status=2)
        assert "array 'X' holds records (" in capsys.readouterr().err


def test_evaluate_counts_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    y, Z = rng.integers(4, size=200), rng.standard_normal((200, 5))
    Z[:, 2] -= 9  # never predicted, and class 4 never there
    log_S = Z - np.log(np.exp(Z).sum(axis=1, keepdims=True))
    got = commands.scores(y, log_S.argmax(axis=1), log_S, list("abcde"))
    theirs = metrics.precision_recall_fscore_support(y, log_S.argmax(axis=1), labels=range(5), zero_division=np.nan)
    for k, name in enumerate("abcde"):
        each = got["classes"][name]
        for key, value in zip(
            ("precision", "recall", "support"), (theirs[0][k], theirs[1][k], theirs[3][k]), strict=True
        ):
            assert (np.isnan(value) and each[key] is None) or each[key] == pytest.approx(value)
    assert got["classes"]["c"]["precision"] is None and got["classes"]["e"]["recall"] is None
    assert got["log_loss"] == pytest.approx(metrics.log_loss(y, np.exp(log_S), labels=range(5)))


def test_evaluate_prints_a_table_and_draws(iris, capsys):
    store("train.csv", *iris)
    fit()
    capsys.readouterr()
    run("evaluate", "model.npz", "train.csv", "--target", "species", "--plot", "new/figures")
    out, err = capsys.readouterr()
    assert err == "" and "| setosa     |    1.0000 | 1.0000 |      50 |" in out.splitlines()
    assert sorted(os.listdir("new/figures")) == ["confusion.png", "reliability.png", "weights.png"]
    for name in os.listdir("new/figures"):
        assert len(np.unique(image.imread(f"new/figures/{name}").reshape(-1, 4), axis=0)) > 50
    run("evaluate", "model.npz", "train.csv", "--target", "species", "--plot", "figures", "--json")
    out, _ = capsys.readouterr()
    assert out.count("\n") == 1 and json.loads(out)["accuracy"] > 0.9 and len(os.listdir("figures")) == 3


def test_the_pictures_of_a_model_show_the_numbers():
    from softmax_ext._cli import plots

    S = np.array([[0.95, 0.05], [0.05, 0.95], [0.35, 0.65], [0.31, 0.69]])
    axes, counts = plots.reliability(S, np.array([0, 1, 1, 0]), "title").axes
    np.testing.assert_allclose(axes.lines[1].get_xydata(), [(0.67, 0.5), (0.95, 1)])
    assert "error 0.110" in axes.lines[1].get_label()  # (2 * 0.17 + 2 * 0.05) / 4
    np.testing.assert_array_equal([bar.get_height() for bar in counts.patches], [0] * 6 + [2, 0, 0, 2])
    (axes,) = plots.top_weights(np.array([[1.0, -3.0, 2.0]]), ["a", "b", "c"], ["no", "yes"], "title", most=2).axes
    assert axes.get_title() == "yes" and [text.get_text() for text in axes.get_yticklabels()] == ["c", "b"]
    np.testing.assert_array_equal([bar.get_width() for bar in axes.patches], [2, -3])


FAULTS = {  # what is changed in a good CSV, and what the error names beside the file
    "no such target": (lambda f: f.rename(columns={"species": "kind"}), ["no column 'species'", "kind"]),
    "missing label": (lambda f: f.assign(species=f.species.where(f.index != 4)), ["'species'", "row 5"]),
    "missing value": (lambda f: f.assign(a=f.a.where(f.index != 6)), ["'a'", "row 7"]),
    "words": (lambda f: f.assign(a="red"), ["'a'", "'red'", "--ignore"]),
    "infinite": (lambda f: f.assign(a=np.inf), ["'a'", "row 1"]),
    "constant target": (lambda f: f.assign(species="x"), ["'species' is 'x' in"]),
    "a target in numbers": (lambda f: f.assign(species=f.a), ["'species'", "regression"]),
    "no features": (lambda f: f[["species"]], ["'species'"]),
    "no rows": (lambda f: f[:0], ["no rows"]),
}


@pytest.mark.parametrize("kind", ["csv", "parquet"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_table_is_one_line_with_file_and_column(fault, kind, capsys):
    rng = np.random.default_rng(0)
    good = pd.DataFrame(rng.standard_normal((30, 2)), columns=["a", "b"]).assign(species=SPECIES[np.arange(30) % 3])
    change, expected = FAULTS[fault]
    bad = change(good)
    bad.to_csv("train.csv", index=False) if kind == "csv" else bad.to_parquet("train.parquet")
    run("fit", f"train.{kind}", "--target", "species", "--out", "model.npz", status=2)
    failed(capsys, f"train.{kind}", *expected)
    assert os.listdir() == [f"train.{kind}"]


@pytest.fixture(scope="module")
def passengers():
    """A table as people have them: missing numbers and words, categories, dates, names, booleans."""
    rng = np.random.default_rng(0)
    N = 300
    frame = pd.DataFrame(
        {
            "age": rng.integers(1, 80, N).astype(float),
            "sex": rng.choice(["male", "female"], N),
            "città": rng.choice(["Oslo", "Köln", "São Paulo"], N).astype(object),
            "fare": rng.exponential(30, N),
            "member": rng.random(N) < 0.4,
            "joined": pd.date_range("2020-01-01", periods=N, freq="D"),
            "name": [f"n{i}" for i in range(N)],
        }
    )
    frame["y"] = np.select([(frame.sex == "female") & (frame.fare > 20), frame.age < 30], ["yes", "maybe"], "no")
    frame.loc[::7, "age"], frame.loc[::11, "città"] = np.nan, None
    return frame


IGNORED = "--ignore", "name", "--ignore", "joined"
WRITERS = {
    "csv": lambda frame: frame.to_csv("train.csv", index=False),
    "csv.gz": lambda frame: frame.to_csv("train.csv.gz", index=False),
    "tsv": lambda frame: frame.to_csv("train.tsv", index=False, sep="\t"),
    "semicolons.csv": lambda frame: frame.to_csv("train.semicolons.csv", index=False, sep=";", decimal=","),
    "index.CSV": lambda frame: frame.to_csv("train.index.CSV"),
    "parquet": lambda frame: frame.to_parquet("train.parquet"),
    "nullable.parquet": lambda frame: frame.astype(
        {"age": "Int64", "città": "category", "member": "boolean", "sex": "string"}
    ).to_parquet("train.nullable.parquet"),
    "feather": lambda frame: frame.to_feather("train.feather"),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_table_may_miss_values_and_hold_words(kind, passengers, capsys):
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    numbers = make_pipeline(SimpleImputer(strategy="median"))
    words = make_pipeline(SimpleImputer(strategy="constant", fill_value=""), OneHotEncoder())
    pipeline = make_pipeline(
        make_column_transformer((numbers, ["age", "fare", "member"]), (words, ["sex", "città"])), LogisticRegression()
    )
    X = passengers.astype({"città": object, "sex": object}).assign(città=passengers["città"].fillna(""))
    pipeline.fit(X, passengers.y)
    WRITERS[kind](passengers)
    run("fit", f"train.{kind}", "--target", "y", "--impute", "--one-hot", *IGNORED, "--out", "model.npz", "--json")
    out, err = capsys.readouterr()
    assert (err == "") == (kind != "index.CSV") and err.count("\n") <= 1
    result = json.loads(out)
    assert result["features"] == 9 and result["objective"] == pytest.approx(pipeline[-1].loss_curve_[-1])
    run("predict", "model.npz", f"train.{kind}", "--out", "new.tsv.gz")
    got = pd.read_csv("new.tsv.gz", sep="\t")
    np.testing.assert_allclose(got.iloc[:, 1:].to_numpy(), pipeline.predict_proba(X), atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_words_that_are_new_are_counted_and_speak_for_no_class(model, passengers, capsys):
    passengers.to_csv("train.csv", index=False)
    run("fit", "train.csv", "--target", "y", "--impute", "--one-hot", *IGNORED, "--out", f"model.{model}")
    new = passengers[:40].copy()
    new.loc[[3, 5], "città"], new.loc[6, "sex"], new.loc[8, "fare"] = "Roma", "?", np.nan
    new.drop(columns=["joined", "name"]).to_csv("new.csv", index=False)
    capsys.readouterr()
    run("predict", f"model.{model}", "new.csv", "--out", "p.csv", "--json")
    out, err = capsys.readouterr()
    assert json.loads(out)["unknown"] == {"sex": 1, "città": 2}
    assert err.count("\n") == 2 and "2 of 40 rows" in err and "'Roma'" in err and "'?'" in err
    run("evaluate", f"model.{model}", "new.csv", "--target", "y", "--json", "--plot", "figures")
    assert json.loads(capsys.readouterr().out)["accuracy"] > 0.8
    if model == "skops":  # which anybody may use without the command
        from skops import io

        names = io.get_untrusted_types(file="model.skops")
        pipeline = io.load("model.skops", trusted=names)
        probabilities = pipeline.predict_proba(new.assign(città=new["città"].astype(object)))
        np.testing.assert_allclose(probabilities, pd.read_csv("p.csv").iloc[:, 1:].to_numpy(), atol=1e-6)


def test_one_error_names_all_columns_and_the_ways_out(passengers, capsys):
    passengers.to_csv("train.csv", index=False)
    run("fit", "train.csv", "--target", "y", "--out", "model.npz", status=2)
    failed(
        capsys, "'age' (43 rows, the first is 1)", "--impute", "'sex' ('male')", "'città' ('São Paulo')", "'joined'",
        "'name' ('n0')", "--one-hot", "--ignore",
    )  # fmt: skip
    run("fit", "train.csv", "--target", "y", "--impute", "--one-hot", "--out", "model.npz", status=2)
    failed(capsys, "'joined' (300 in 300 rows)", "'name' (300 in 300 rows)", "--ignore")
    passengers.to_parquet("train.parquet")
    run("fit", "train.parquet", "--target", "y", "--impute", "--one-hot", "--out", "model.npz", status=2)
    failed(capsys, "'joined' (dates or times)", "'name' (300 in 300 rows)", "--ignore")
    run("fit", "train.csv", "--target", "y", "--one-hot", *IGNORED, "--ignore", "age", "--out", "model.npz")
    passengers.assign(fare="free", member=None).drop(columns="sex").to_csv("new.csv", index=False)
    capsys.readouterr()
    run("predict", "model.npz", "new.csv", "--out", "p.csv", status=2)
    failed(capsys, "no column 'sex'")
    passengers.assign(fare="free", member=None).to_csv("new.csv", index=False)
    run("predict", "model.npz", "new.csv", "--out", "p.csv", status=2)
    failed(capsys, "'fare' ('free')", "'member' (300 rows", "fit with --impute")


TEXTS = {  # what a file holds, how the fit ends, and what is said of it
    "spaces": ("a, b, y\n1, 2, u\n3, 4, v\n", 0, []),
    "quotes": ('größe,"a,b",y\n1,2,"u,v"\n2,3,"w ""x"""\n', 0, []),
    "byte order mark": ("\ufeffy,a\r\nu,1\r\nv,2\r\n", 0, []),
    "decimal commas": ("a;y\n1,5;u\n-2;v\n", 0, []),
    "the same name twice": ("a,b,a,y\n1,2,3,u\n4,5,6,v\n", 2, ["'a'", "rename"]),
    "the target twice": ("a,y,y\n1,u,u\n4,v,v\n", 2, ["'y'", "rename"]),
    "no header": ("1.5,2,u\n3,4,v\n", 2, ["no column 'y'", "first line"]),
    "no header, and the same number twice": ("2,2,u\n3,4,v\n", 2, ["'2'", "first line"]),
    "another separator": ("a|y\n1|u\n2|v\n", 2, ["no column 'y'", "a|y", "commas, semicolons or tabs"]),
    "a field too many": ("a,y\n1,2,u\n3,4,v\n", 2, ["more fields"]),
    "an empty line first": ("\na,y\n1,u\n", 2, ["no header"]),
    "no value at all": ("a,b,y\n,1,u\n,2,v\n", 2, ["'a'", "--ignore"]),
    "one class": ("a,y\n1,u\n2,u\n", 2, ["'y' is 'u' in every row"]),
    "a label too few": ("a,y\n1,u\n2,\n3,v\n", 2, ["'y'", "row 2", "(missing: 1"]),
}


@pytest.mark.parametrize("text", TEXTS)
def test_files_are_read_as_spreadsheets_write_them(text, tmp_path, capsys):
    content, status, expected = TEXTS[text]
    (tmp_path / "train.csv").write_bytes(content.encode())
    run("fit", "train.csv", "--target", "y", "--impute", "--one-hot", "--out", "model.npz", status=status)
    if status:
        failed(capsys, "train.csv", *expected)
    else:
        out, err = capsys.readouterr()
        assert err == "" and "accuracy 1.0000" in out


def test_parquet_with_the_same_name_twice_is_refused(capsys):
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table([[1.0, 2.0], [3.0, 4.0], ["u", "v"]], names=["a", "a", "y"]), "train.parquet")
    run("fit", "train.parquet", "--target", "y", "--out", "model.npz", status=2)
    failed(capsys, "train.parquet", "'a'", "rename")


OBJECTS = {
    "decimals": ([decimal.Decimal("1.5"), decimal.Decimal("-2")], 0, "2 features"),
    "booleans and none": (pd.array([True, None], dtype="boolean"), 0, "2 features"),
    "categories of numbers": (pd.Categorical([3, 1]), 0, "features"),
    "categories with one that is not there": (pd.Categorical(["u", None], categories=["u", "w"]), 0, "3 features"),
    "dates": ([datetime.date(2020, 1, 1), datetime.date(2020, 1, 2)], 2, "'d' (dates or times)"),
    "times": (pd.to_timedelta([1, 2], "D"), 2, "'d' (dates or times)"),
    "lists": ([[1], [2]], 2, "'d' (lists or objects)"),
    "bytes": ([b"a", b"b"], 2, "'d' (bytes)"),
    "nothing": ([None, None], 2, "no value at all in 'd'"),
}


@pytest.mark.parametrize("kind", OBJECTS)
def test_columns_of_parquet_are_read_or_named(kind, capsys):
    values, status, expected = OBJECTS[kind]
    frame = pd.DataFrame({"a": np.arange(60.0), "y": ["u", "v"] * 30})
    frame["d"] = pd.Series(values).repeat(30).reset_index(drop=True)
    frame.to_parquet("train.parquet")
    run("fit", "train.parquet", "--target", "y", "--impute", "--one-hot", "--out", "model.npz", status=status)
    if status:
        failed(capsys, expected)
    else:
        assert expected in capsys.readouterr().out
        run("predict", "model.npz", "train.parquet", "--out", "p.csv")


def test_booleans_are_numbers_also_where_some_are_missing(tmp_path, capsys):
    (tmp_path / "train.csv").write_text("a,b,y\n" + "True,1,u\nFalse,2,v\n" * 20)
    run("fit", "train.csv", "--target", "y", "--impute", "--out", "model.npz")
    (tmp_path / "new.csv").write_text("a,b\nTrue,1\n,2\n")
    run("predict", "model.npz", "new.csv", "--out", "p.csv")
    assert pd.read_csv("p.csv").prediction.tolist() == ["u", "v"]
    (tmp_path / "gaps.csv").write_text("a,y\n" + "True,u\nFalse,v\n,u\n" * 20)
    run("fit", "gaps.csv", "--target", "y", "--impute", "--out", "gaps.npz")
    assert capsys.readouterr().err == ""


def test_words_that_look_like_numbers_stay_words(tmp_path, capsys):
    """Otherwise 01 would be no word of the model where a file has no other kind of them."""
    (tmp_path / "train.csv").write_text("zip,y\n01,u\nA2,v\n01,u\n2,v\n")
    run("fit", "train.csv", "--target", "y", "--one-hot", "--out", "model.npz")
    (tmp_path / "new.csv").write_text("zip\n01\n2\n")
    capsys.readouterr()
    run("predict", "model.npz", "new.csv", "--out", "p.csv")
    assert capsys.readouterr().err == "" and pd.read_csv("p.csv").prediction.tolist() == ["u", "v"]


@pytest.mark.parametrize(("target", "many"), [("quantity", True), ("name", True), ("class", False), ("letter", False)])
def test_a_target_of_many_classes_is_warned_of(target, many, capsys):
    rng = np.random.default_rng(0)
    names = [f"n{i}" for i in range(200)]
    frame = pd.DataFrame({"a": rng.random(200), "quantity": np.arange(200) % 72, "name": names})
    frame = frame.assign(**{"class": np.arange(200) % 10, "letter": [f"l{i % 26}" for i in range(200)]})
    frame[["a", target]].to_csv("train.csv", index=False)
    run("fit", "train.csv", "--target", target, "--max-iter", "1", "--tol", "9", "--out", "model.npz")
    err = capsys.readouterr().err
    assert err.count("\n") == many and (not many or f"'{target}'" in err)


def test_weights_are_drawn_for_one_standard_deviation(passengers, capsys):
    """All classes are on one axis: per unit of its column a driver in large units would have no bar."""
    from softmax_ext._cli import plots

    X = np.random.default_rng(0).random((50, 3)) * [1000, 1, 0]
    np.testing.assert_allclose(commands.deviations(X), X.std(axis=0))
    np.testing.assert_allclose(commands.deviations(scipy.sparse.csr_array(X)), X.std(axis=0), atol=1e-10)
    W = np.array([[1.0, -3.0, 2.0], [0.1, 0.2, 0.3], [0.0, 1.0, 0.0]])
    figure = plots.top_weights(W, ["a", "b", "c"], ["u", "v", "w"], "title")
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
    assert "standard deviation" in figure.get_supxlabel()
    matrix = plots.confusion_matrix(np.array([0, 1]), np.array([0, 1]), ("a", "b"), "title")
    assert "square-root" in matrix.axes[1].get_ylabel()


BAD_FEATURES = {
    "words short": ({"words": np.array(["x"])}, "words (1,)"),
    "a count short": ({"word_counts": np.array([0, 0, 0])}, "word_counts (3,)"),
    "counts below 0": ({"word_counts": np.array([0, 0, 3, -1])}, "word_counts"),
    "no fill": ({"fill": None}, "fill"),
}


@pytest.mark.parametrize("fault", BAD_FEATURES)
def test_bad_features_of_a_model_are_refused(fault, iris, capsys):
    store("train.csv", *iris)
    changes, message = BAD_FEATURES[fault]
    good = {"format": np.array(2), "fill": np.full(4, np.nan), "word_counts": np.array([0, 0, 0, 2])}
    good |= {"words": np.array(["x", "z"]), "coef": np.zeros((3, 5))}
    np.savez("model.npz", **model_with(**good | changes))
    run("predict", "model.npz", "train.csv", "--out", "p.csv", status=2)
    failed(capsys, "model.npz", message)


DAMAGED = {
    "empty.csv": b"",
    "ragged.csv": b"a,b\n1,2\n3,4,5,6\n",
    "latin.csv": b"a,b\n\xe9\xff\xfe,2\n",
    "noise.parquet": b"PAR1 noise",
    "noise.arrow": b"ARROW1 noise",
    "noise.h5": b"\x89HDF noise",
    "noise.npz": b"noise",
    "cut.npz": b"PK\x03\x04 noise",
    "noise.svmlight": b"one two:three\n",
    "table.xlsx": b"",
}


@pytest.mark.parametrize("name", [*DAMAGED, "absent.csv", "absent.h5", "absent.npz", "absent.svmlight", "folder.csv"])
def test_a_file_that_cannot_be_read_is_one_line(name, tmp_path, capsys):
    if name in DAMAGED:
        (tmp_path / name).write_bytes(DAMAGED[name])
    elif name.startswith("folder"):
        (tmp_path / name).mkdir()
    run("fit", name, "--target", "a", "--out", "model.npz", status=2)
    failed(capsys, name)
    assert not os.path.exists("model.npz")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"X": np.zeros((3, 2, 2)), "y": np.arange(3)}, "(3, 2, 2)"),
        ({"X": np.zeros((3, 2)), "y": np.arange(4)}, "'y' has 4 rows"),
        ({"X": np.array([{}, [], ()], object), "y": np.arange(3)}, "allow_pickle=False"),
    ],
)
def test_archives_that_are_no_tables_are_refused(arrays, message, capsys):
    np.savez("train.npz", **arrays)
    run("fit", "train.npz", "--target", "y", "--out", "model.npz", status=2)
    failed(capsys, "train.npz", message)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("fit train.csv --target species --out model.pkl", ["model.pkl", ".npz or .skops"]),
        ("fit train.csv --target species --out gone/model.npz", ["gone"]),
        ("fit train.csv --target species --ignore x --out model.npz", ["train.csv", "'x'"]),
        ("fit train.csv --target species --ignore id --weights z --out m.npz", ["train.csv", "'z'"]),
        ("predict model.npz train.csv --out p.txt", ["p.txt", ".csv or .tsv"]),
        ("predict gone.npz train.csv --out p.csv", ["gone.npz"]),
        ("predict train.csv train.csv --out p.csv", ["train.csv", "a model"]),
        ("predict model.npz train.npz --out p.csv", ["train.npz"]),
        ("evaluate model.npz train.csv --target id", ["train.csv", "'id'", "'n0'", "no class"]),
        ("evaluate model.npz train.csv --target species --plot train.csv", ["train.csv"]),
    ],
)
def test_what_cannot_be_done_is_one_line(words, expected, iris, capsys):
    store("train.csv", *iris)
    fit()
    capsys.readouterr()
    before = sorted(os.listdir())
    run(*words.split(), status=2)
    failed(capsys, *expected)
    assert sorted(os.listdir()) == before


def model_with(**changes):
    arrays = {
        "format": np.array(1),
        "coef": np.zeros((3, 4)),
        "intercept": np.zeros(3),
        "classes": SPECIES,
        "features": np.array(COLUMNS),
    } | changes
    return {name: array for name, array in arrays.items() if array is not None}


BAD_MODELS = {
    "from the future": (model_with(format=np.array(3)), "format 3"),
    "no format": (model_with(format=None), "no format"),
    "no coefficients": (model_with(coef=None), "coef"),
    "a row short": (model_with(coef=np.zeros((2, 4))), "(2, 4)"),
    "a column short": (model_with(coef=np.zeros((3, 3))), "(3, 3)"),
    "one class": (model_with(coef=np.zeros((1, 4)), intercept=np.zeros(1), classes=SPECIES[:1]), "classes"),
    "integers": (model_with(coef=np.zeros((3, 4), int)), "int64"),
    "not finite": (model_with(intercept=np.array([0, np.nan, 0])), "not finite"),
    "objects": (model_with(classes=np.array([{}, 1, "a"], object)), "allow_pickle=False"),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_bad_models_are_refused(fault, iris, capsys):
    store("train.csv", *iris)
    arrays, message = BAD_MODELS[fault]
    np.savez("model.npz", **arrays)
    run("predict", "model.npz", "train.csv", "--out", "p.csv", status=2)
    failed(capsys, "model.npz", message)


def test_a_damaged_model_is_refused(iris, capsys):
    store("train.csv", *iris)
    for name in ("model.npz", "model.skops"):
        with open(name, "wb") as file:
            file.write(b"noise")
        if name.endswith("npz") or importlib.util.find_spec("skops"):
            run("predict", name, "train.csv", "--out", "p.csv", status=2)
            failed(capsys, name)


def test_skops_refuses_what_is_not_ours(iris, capsys):
    io = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression as Sklearn

    store("train.csv", *iris)
    io.dump(Sklearn(max_iter=1000).fit(*iris), "model.skops")
    run("predict", "model.skops", "train.csv", "--out", "p.csv", status=2)
    failed(capsys, "model.skops")


@pytest.mark.parametrize("name", ["model.npz", "p.csv"])
def test_an_interrupted_write_leaves_the_old_file(name, iris, capsys, monkeypatch):
    store("train.csv", *iris)
    fit()
    with open(name, "ab"):
        pass
    with open(name, "rb") as file:
        before = file.read()

    def full(*args, **keywords):
        raise OSError(28, "No space left on device", name)

    monkeypatch.setattr(np, "savez", full)
    monkeypatch.setattr(pd.DataFrame, "to_csv", full)
    capsys.readouterr()
    if name == "p.csv":
        run("predict", "model.npz", "train.csv", "--out", name, status=2)
    else:
        run("fit", "train.csv", "--target", "species", "--ignore", "id", "--out", name, status=2)
    failed(capsys, "No space left", name)
    with open(name, "rb") as file:
        assert file.read() == before
    assert sorted(os.listdir()) == sorted({"train.csv", "model.npz", name})


def test_a_model_holds_no_pickles(iris):
    store("train.csv", *iris)
    fit()
    with zipfile.ZipFile("model.npz") as archive:
        assert not any(b"O'" in archive.read(name)[:128] for name in archive.namelist())


def test_a_terminal_sees_objective_and_gradient(iris, monkeypatch, capsys):
    store("train.csv", *iris)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    fit()
    err = capsys.readouterr().err
    assert "objective" in err and "gradient" in err


def test_bench_prints_each_contenders_time(capsys, monkeypatch):
    monkeypatch.setattr(bench, "ROUNDS", 1)
    run("bench", "--shapes", "iris", "digits", "--threads", "1")
    lines = capsys.readouterr().out.splitlines()
    assert "threads 1" in lines[0] and "NumPy" in lines[1] and "scikit-learn" in lines[1]
    assert (
        "150 x 4 x 3, float64 (iris)" in lines[3]
        and "1797 x 64 x 10" in lines[4]
        and len(set(map(len, lines[1:5]))) == 1
    )
    run("bench", "--shapes", "iris", "--json")
    seconds = json.loads(capsys.readouterr().out)["seconds"]["iris"]
    assert seconds["softmax_ext"] > 0 and seconds["NumPy"] > 0


def test_all_contenders_compute_the_same():
    rng = np.random.default_rng(0)
    X, y, W = rng.standard_normal((50, 4)), rng.integers(3, size=50), rng.standard_normal((3, 4))
    ours = loss_grad(X, y, W)
    for make in (bench._numpy, bench._sklearn, bench._torch):
        try:
            loss, gradient = make(X, y, W)()
        except ImportError:
            continue
        np.testing.assert_allclose(loss, ours.loss)
        np.testing.assert_allclose(gradient, ours.dW, atol=1e-12)


def test_a_table_is_aligned():
    lines = report.rows_of(["a", "bc"], [["long", "1"], ["x", "234"]]).splitlines()
    assert lines == ["| a    |  bc |", "|------|----:|", "| long |   1 |", "| x    | 234 |"]


@pytest.mark.parametrize("options", [[], ["--one-se"]])
def test_fit_chooses_C_by_cross_validation(options, iris, capsys):
    X, y = iris
    store("train.csv", X, y)
    fit("csv", "model.npz", "--cv", 4, "--plot", "pictures", *options)
    out, err = capsys.readouterr()
    assert err == "" and "| C " in out and out.count("\n| ") == 10 and "4, C = " in out
    chosen = out.split("C = ")[1].split()[0]
    assert f"| {chosen} * " in out
    assert Path("pictures/cross-validation.png").read_bytes().startswith(b"\x89PNG")
    fit("csv", "again.npz", "--cv", 4, "--json", *options)
    found = json.loads(capsys.readouterr().out)["cross_validation"]
    assert f"{found['C']:.3g}" == chosen and len(found["accuracy"]) == len(found["Cs"]) == 10
    assert max(found["accuracy"]) > 0.9
    fit("csv", "alone.npz", "--C", found["C"])
    models = [np.load(name)["coef"] for name in ("model.npz", "again.npz", "alone.npz")]
    assert np.array_equal(models[0], models[1]) and np.array_equal(models[0], models[2])


@pytest.mark.parametrize("options", [[], ["--cv", 3]])
def test_fit_leaves_weights_at_0(options, iris, capsys):
    X, y = iris
    store("train.csv", X, y)
    fit("csv", "model.npz", "--l1-ratio", 1, "--json", *options)
    found = json.loads(capsys.readouterr().out)
    W = np.load("model.npz")["coef"]
    assert found["converged"] and found["nonzero"] == np.count_nonzero(W) < W.size
    fit("csv", "again.npz", "--l1-ratio", 1, *options)
    assert f"{found['nonzero']} of {W.size} are not 0" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        fit("csv", "model.npz", "--l1-ratio", 1.5)
    assert "must be from 0, which is L2, to 1, which is L1, got 1.5" in capsys.readouterr().err


def test_folds_that_cannot_be_are_refused(iris, capsys):
    X, y = iris
    store("train.csv", X, y)
    for options in (["--cv", 1], ["--cv", 3, "--C", 2]):
        with pytest.raises(SystemExit):
            fit("csv", "model.npz", *options)
    capsys.readouterr()
    run("fit", "train.csv", "--target", KINDS["csv"], "--out", "model.npz", "--cv", 1000, "--ignore", "id", status=2)
    assert "--cv 1000: Cannot have number of splits" in capsys.readouterr().err
