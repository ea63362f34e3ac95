"""Models as ONNX: what onnxruntime computes is what the model computes."""

import doctest
import json

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")
pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx
import onnxruntime
import sklearn.linear_model
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import softmax_ext.onnx
from softmax_ext._cli import main as cli
from softmax_ext._cli import models
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV
from softmax_ext.onnx import OPSETS, to_onnx

LABELS = {
    "int64": np.array([2**40, 2**40 + 1, 2**62]),
    "uint8": np.array([3, 5, 9], np.uint8),
    "float64": np.array([1.0, 2.0, 7.0]),
    "strings": np.array(["é", "b", "long name"]),
    "objects": np.array(["x", "y", "z"], object),
    "truth values": np.array([False, True]),
}


def data(labels, K, dtype):
    X, y = load_iris(return_X_y=True)
    return X[y < K].astype(dtype), labels[y[y < K]]


def run(made, X):
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: X})


def assert_like(found, model, X):
    """Probabilities of doubles within 1e-6; of floats, as far as the rounding of their scores is."""
    label, S = found
    assert S.dtype == X.dtype and np.asarray(label).tolist() == model.predict(X).tolist()
    scores = abs(X).max() * abs(np.asarray(model.coef_)).sum(axis=1).max() + abs(model.intercept_).max()
    far = 1e-6 if X.dtype == np.float64 else 4 * np.finfo(np.float32).eps * scores
    np.testing.assert_allclose(S, model.predict_proba(X), rtol=0, atol=far)


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("K", [2, 3])
def test_onnxruntime_computes_the_model(K, dtype, kind):
    if K > len(LABELS[kind]):
        K = 2
    X, y = data(LABELS[kind], K, dtype)
    model = LogisticRegression(C=100).fit(X, y)
    made = to_onnx(model)
    assert {each.domain: each.version for each in made.opset_import} == OPSETS and made.ir_version == 7
    operators = {node.op_type for node in made.graph.node}
    assert ("LinearClassifier" in operators) == (dtype == "f4") and ("Gemm" in operators) == (dtype == "f8")
    assert_like(run(made, X), model, X)
    assert_like(run(made, X[:1]), model, X[:1])
    assert_like(run(made, 1000 * X), model, 1000 * X)


def test_onnxruntime_computes_other_estimators():
    X, y = data(LABELS["strings"], 3, "f8")
    chosen = LogisticRegressionCV(Cs=3, cv=3, l1_ratios=(0,), scoring="accuracy").set_params(
        **({"use_legacy_attributes": False} if "use_legacy_attributes" in LogisticRegressionCV().get_params() else {})
    )
    theirs = sklearn.linear_model.LogisticRegression(max_iter=1000).fit(X, y)
    for model in (
        chosen.fit(X, y),
        LogisticRegression(fit_intercept=False).fit(X, y),
        LogisticRegression.from_sklearn(theirs),
    ):
        assert_like(run(to_onnx(model), X), model, X)
    sparse = LogisticRegression().fit(X, y).sparsify()
    assert_like(run(to_onnx(sparse), X), LogisticRegression().fit(X, y), X)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("kind", ["int64", "strings"])
def test_pipelines_convert_by_skl2onnx(kind, K, dtype):
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")
    X, y = data(LABELS[kind] if kind == "strings" else np.arange(3), K, dtype)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    made = skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})
    label, S = run(made, X)
    assert label.tolist() == pipeline.predict(X).tolist() and S.dtype == dtype
    np.testing.assert_allclose(S, pipeline.predict_proba(X), atol=1e-6 if dtype == "f8" else 1e-5)
    if dtype == "f4":
        _, mapped = run(skl2onnx.to_onnx(pipeline, X[:1]), X)
        assert mapped[0] == pytest.approx(dict(zip(pipeline.classes_.tolist(), S[0], strict=True)))


def test_a_pipeline_takes_integers():
    skl2onnx = pytest.importorskip("skl2onnx", reason="needs skl2onnx")
    X = np.random.default_rng(0).integers(0, 9, (50, 4))
    model = make_pipeline(LogisticRegression()).fit(X, X.argmax(axis=1))
    label, _ = run(skl2onnx.to_onnx(model, X[:1]), X)
    np.testing.assert_array_equal(label, model.predict(X))


def test_models_that_onnx_cannot_hold_are_refused():
    X, y = data(np.arange(3), 3, "f8")
    with pytest.raises(TypeError, match=r"skl2onnx.to_onnx"):
        to_onnx(make_pipeline(LogisticRegression()).fit(X, y))
    with pytest.raises(NotFittedError):
        to_onnx(LogisticRegression())
    model = LogisticRegression().fit(X, y)
    model.classes_ = np.array([1, "a", None], object)
    with pytest.raises(ValueError, match="no tensors of labels such as 1"):
        to_onnx(model)


def test_export_writes_the_model_and_tells_of_it(tmp_path, capsys):
    pytest.importorskip("pandas", reason="needs pandas")
    X, y = load_iris(return_X_y=True, as_frame=True)
    X.assign(y=np.array(["a", "b", "c"])[y]).to_csv(tmp_path / "t.csv", index=False)
    model, out = str(tmp_path / "m.npz"), tmp_path / "m.onnx"
    assert cli.main(["fit", str(tmp_path / "t.csv"), "--target", "y", "--out", model]) == 0
    capsys.readouterr()
    assert cli.main(["export", model, "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"out": str(out), "features": 4, "classes": 3, "dtype": "double", "opset": 13}
    made = onnx.load(out)
    assert {each.key: each.value for each in made.metadata_props} == {"features": "\n".join(X.columns)}
    assert_like(
        run(made, X.to_numpy()), LogisticRegression().fit(X.to_numpy(), np.array(["a", "b", "c"])[y]), X.to_numpy()
    )
    assert cli.main(["export", model, "--out", str(out)]) == 0
    assert "opset 13: X (N x 4) to label and probabilities (N x 3), in double" in capsys.readouterr().out
    assert cli.main(["export", model, "--out", str(tmp_path / "m.txt")]) == 2
    assert "must end in .onnx" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("asked", ["impute and one-hot", "impute", "one-hot", "words alone"])
@pytest.mark.parametrize("suffix", ["npz", "skops"])
def test_export_keeps_how_a_model_prepares_its_table(dtype, K, asked, suffix, tmp_path, capsys):
    """The graph takes the columns as they are, with gaps and words, known or not, and says what `predict` says."""
    pd = pytest.importorskip("pandas", reason="needs pandas")
    if suffix == "skops":
        pytest.importorskip("skops", reason="needs skops")
    rng = np.random.default_rng(0)
    table = pd.DataFrame({
        "coef": rng.normal(30, 10, 200), "index": rng.exponential(10, 200),  # names that the graph might have
        "città": rng.choice(["São Paulo", "x", ""], 200), "X": rng.choice(["p", "q"], 200),
    }).astype({"coef": dtype, "index": dtype})  # fmt: skip
    table["y"] = np.digitize(table["index"] + 8 * (table["X"] == "p"), [8, 15][: K - 1])
    words, numbers, flags = ["città", "X"], ["coef", "index"], {"--impute", "--one-hot"}
    if "impute" in asked:
        table.loc[::7, "coef"] = np.nan
    if asked == "impute":
        table, words, flags = table.drop(columns=words), [], {"--impute"}
    elif asked != "impute and one-hot":
        flags = {"--one-hot"}
        if asked == "words alone":
            table, numbers = table.drop(columns=numbers), []
    model, out, data = tmp_path / f"m.{suffix}", tmp_path / "m.onnx", tmp_path / "t.parquet"
    pytest.importorskip("pyarrow", reason="needs pyarrow, since CSV keeps no dtype")
    table.to_parquet(data)
    assert cli.main(["fit", str(data), "--target", "y", *sorted(flags), "--out", str(model)]) == 0
    assert cli.main(["export", str(model), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    kind = "float" if numbers and dtype == "float32" else "double"
    assert (told["classes"], told["dtype"], told["opset"]) == (K, kind, 13)
    if words:
        table.loc[:3, "X"] = "of no row that was fitted"
    estimator, features = models.load(model)
    expected = estimator.predict_proba(features.transformer.transform(table[features.columns]))
    inputs = {name: table[[name]].to_numpy(object if name in words else f"f{8 if kind == 'double' else 4}")
              for name in features.columns}  # fmt: skip
    label, S = onnxruntime.InferenceSession(out.read_bytes()).run(None, inputs)
    np.testing.assert_allclose(S, expected, rtol=0, atol=1e-6 if kind == "double" else 1e-4)
    assert (label == estimator.classes_[S.argmax(axis=1)]).all() and S.shape == (200, K)


def test_export_refuses_columns_of_the_outputs_names(tmp_path, capsys):
    pd = pytest.importorskip("pandas", reason="needs pandas")
    model, data = str(tmp_path / "m.npz"), tmp_path / "t.csv"
    pd.DataFrame({"label": ["p", "q"] * 5, "y": ["a", "b"] * 5}).to_csv(data, index=False)
    assert cli.main(["fit", str(data), "--target", "y", "--one-hot", "--out", model]) == 0
    assert cli.main(["export", model, "--out", str(tmp_path / "m.onnx")]) == 2
    assert "an output of the graph is called 'label', and so is a column" in capsys.readouterr().err


def test_examples_of_onnx_run():
    assert doctest.testmod(softmax_ext.onnx) == (0, 5)
