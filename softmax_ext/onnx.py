"""Fitted models as ONNX graphs, which onnxruntime and others run without Python.

A graph takes X (N, D) and returns `label` (N,) and `probabilities` (N, K). It needs opset 13 of ai.onnx, version 7 of
the format, and opset 1 of ai.onnx.ml, all of which were published in 2020 or before.

Once this module is imported, skl2onnx, where it is installed, converts the estimators of `softmax_ext.linear_model`
and pipelines with one of them. Models in double need ``options={"zipmap": False}``, since ONNX has no dictionaries of
doubles.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy.sparse

try:
    import onnx
    from onnx import helper, numpy_helper
except ImportError as error:
    raise ImportError(f"softmax_ext.onnx needs onnx ({error}): pip install 'softmax_ext[onnx]'") from error

from sklearn.utils.validation import check_is_fitted

from ._data.features import Features
from ._version import __version__
from .linear_model import LogisticRegression, LogisticRegressionCV

__all__ = ["OPSETS", "to_onnx"]

Array = npt.NDArray[Any]

OPSETS = {"": 13, "ai.onnx.ml": 1}
INNER = "softmax_ext."  # begins the names of inner arrays, so that they are not mistaken for columns of a table
FORMAT = 7  # the version of the format that came with opset 13
DOUBLE, FLOAT = np.dtype(np.float64), np.dtype(np.float32)


class Node(NamedTuple):
    """One operator of a graph, with the names of its input and output arrays."""

    operator: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any] = {}  # noqa: RUF012 - a default that nobody changes
    domain: str = ""


def to_onnx(model: Any) -> onnx.ModelProto:
    """Return a fitted model as an ONNX model.

    Parameters
    ----------
    model : LogisticRegression or LogisticRegressionCV
        A fitted model of `softmax_ext.linear_model`, or scikit-learn's by way of `from_sklearn`. Labels may be
        integers, booleans, floats or strings.

    Returns
    -------
    onnx.ModelProto
        The model. With float64 coefficients it has plain operators in double: X is double, and probabilities are those
        of `predict_proba` within 1e-6. With float32 coefficients it has a LinearClassifier: X is float, and scores
        agree within the rounding of float32. `onnx.save` writes the model to a file; an InferenceSession takes its
        ``SerializeToString()``.

    Raises
    ------
    TypeError
        If `model` is something else. Pipelines are converted by ``skl2onnx.to_onnx``, once this module is imported.
    ValueError
        If ONNX has no tensors for labels of this kind.
    NotFittedError
        If the model is not fitted.

    References
    ----------
    ONNX, "Operator schemas", onnx.ai: Gemm, Softmax and ArgMax 13, LinearClassifier 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True, as_frame=True)
    >>> graph = to_onnx(LogisticRegression().fit(X, y)).graph
    >>> [node.op_type for node in graph.node], [output.name for output in graph.output]
    (['Gemm', 'Softmax', 'ArgMax', 'Gather'], ['label', 'probabilities'])
    """
    if not isinstance(model, LogisticRegression | LogisticRegressionCV):
        raise TypeError(
            f"model must be softmax_ext's LogisticRegression or LogisticRegressionCV, got {type(model)}: "
            "take scikit-learn's by from_sklearn, and pipelines by skl2onnx.to_onnx"
        )
    check_is_fitted(model)
    made = _made(model, {"X": model.n_features_in_}, {}, {}, [])
    if hasattr(model, "feature_names_in_"):
        helper.set_model_props(made, {"features": "\n".join(map(str, model.feature_names_in_))})
    return made


def table_to_onnx(model: LogisticRegression, features: Features) -> onnx.ModelProto:
    """Return an ONNX model that takes a table's columns: it fills in missing numbers and encodes words as 0 and 1.

    Each column is an input (N, 1) with the column's name. It has numbers of the coefficients' dtype, where NaN stands
    for a missing one, or strings, where the empty string does.
    """
    taken = sorted({"label", "probabilities"} & set(features.columns))
    if taken:
        raise ValueError(f"an output of the graph is called {taken[0]!r}, and so is a column: fit it renamed")
    known, fills, parts = features.words, features.fills, []
    arrays: dict[str, Array] = {}
    nodes: list[Node] = []
    dtype, element = model.coef_.dtype, int(helper.np_dtype_to_tensor_dtype(model.coef_.dtype))
    if features.numbers:
        nodes.append(Node("Concat", features.numbers, [INNER + "numbers"], {"axis": 1}))
        parts.append(INNER + "numbers")
    if fills is not None:
        arrays[INNER + "fills"] = fills.astype(dtype)
        nodes += [
            Node("IsNaN", [INNER + "numbers"], [INNER + "missing"]),
            Node("Where", [INNER + "missing", INNER + "fills", INNER + "numbers"], [INNER + "filled"]),
        ]
        parts = [INNER + "filled"]
    for i, (name, words) in enumerate(known.items()):
        hot, shape, flat = (f"{INNER}{part}_{i}" for part in ("hot", "shape", "flat"))
        arrays[shape] = np.array([0, len(words)])
        nodes += [
            Node("OneHotEncoder", [name], [hot], {"cats_strings": words, "zeros": 1}, "ai.onnx.ml"),  # (N, 1, words)
            Node("Reshape", [hot, shape], [flat]),
            Node("Cast", [flat], [f"{INNER}words_{i}"], {"to": element}),
        ]
        parts.append(f"{INNER}words_{i}")
    nodes.append(Node("Concat", parts, [INNER + "X"], {"axis": 1}))
    return _made(model, dict.fromkeys(features.columns, 1), known, arrays, nodes)


def _made(
    model: Any, inputs: dict[str, int], strings: Container[str], arrays: dict[str, Array], before: list[Node]
) -> onnx.ModelProto:
    """Return an ONNX model. `inputs` maps names to numbers of columns, and the nodes `before` make X of the inputs."""
    W, b = _two_dimensional(model)
    labels = _labels(model.classes_)
    own, nodes = _operators(W, b, labels)
    if before:  # columns may have any names, so that inner arrays need a prefix
        names = {"label": "label", "probabilities": "probabilities"}
        nodes = [
            each._replace(
                inputs=[INNER + name for name in each.inputs],
                outputs=[names.get(name, INNER + name) for name in each.outputs],
            )
            for each in nodes
        ]
        own = {INNER + name: array for name, array in own.items()}
    element = helper.np_dtype_to_tensor_dtype(W.dtype)
    graph = helper.make_graph(
        [helper.make_node(each.operator, each.inputs, each.outputs, domain=each.domain, **each.attributes)
         for each in [*before, *nodes]],
        "softmax",
        [helper.make_tensor_value_info(name, onnx.TensorProto.STRING if name in strings else element, ["N", columns])
         for name, columns in inputs.items()],
        [helper.make_tensor_value_info("label", _element(labels), ["N"]),
         helper.make_tensor_value_info("probabilities", element, ["N", len(labels)])],
        [numpy_helper.from_array(array, name) for name, array in (arrays | own).items()],
    )  # fmt: skip
    made = helper.make_model(
        graph,
        producer_name="softmax_ext",
        producer_version=__version__,
        ir_version=FORMAT,
        opset_imports=[helper.make_opsetid(domain, version) for domain, version in OPSETS.items()],
    )
    onnx.checker.check_model(made)
    return made


def _two_dimensional(model: Any) -> tuple[Array, Array]:
    """Return W (K, D) and b (K,), with zeros for the first of two classes."""
    W, b = (x.toarray() if scipy.sparse.issparse(x) else x for x in (model.coef_, model.intercept_))
    W, b = np.asarray(W), np.asarray(b)
    if len(model.classes_) == 2:
        W, b = np.vstack([np.zeros_like(W), W]), np.append(np.zeros_like(b), b)
    return W, b.astype(W.dtype)


def _labels(classes: Array) -> Array:
    if classes.dtype.kind in "OU" and all(isinstance(label, str) for label in classes.tolist()):
        return classes.astype(object)
    if classes.dtype.kind not in "iubf" or classes.dtype.itemsize > 8:
        raise ValueError(f"ONNX has no tensors of labels such as {classes[0]!r}, of dtype {classes.dtype}: encode them")
    return classes.astype(classes.dtype.newbyteorder("="))


def _element(labels: Array) -> int:
    if labels.dtype.kind == "O":
        return int(onnx.TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(labels.dtype))


def _operators(W: Array, b: Array, labels: Array) -> tuple[dict[str, Array], list[Node]]:
    """Return the constants and the operators that lead from X to label and probabilities."""
    chosen = [Node("Gather", ["classes", "index"], ["label"])]
    if W.dtype == DOUBLE:
        return {"coef": W, "intercept": b, "classes": labels}, [
            Node("Gemm", ["X", "coef", "intercept"], ["scores"], {"transB": 1}),
            Node("Softmax", ["scores"], ["probabilities"], {"axis": 1}),
            Node("ArgMax", ["scores"], ["index"], {"axis": 1, "keepdims": 0}),
            *chosen,
        ]
    how: dict[str, Any] = {
        "coefficients": W.ravel().tolist(),
        "intercepts": b.tolist(),
        "multi_class": 0,
        "post_transform": "SOFTMAX",
    }
    if labels.dtype.kind == "O":
        named, given, chosen = {"classlabels_strings": labels.tolist()}, "label", []
    elif labels.dtype == np.int64:
        named, given, chosen = {"classlabels_ints": labels.tolist()}, "label", []
    else:
        named, given = {"classlabels_ints": list(range(len(labels)))}, "index"
    classifier = Node("LinearClassifier", ["X"], [given, "probabilities"], how | named, "ai.onnx.ml")
    return {"classes": labels} if chosen else {}, [classifier, *chosen]


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Add a model's operators to a graph of skl2onnx, in double if the graph's input is double."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    from skl2onnx.common.utils_classifier import get_label_classes

    model, entry = operator.raw_operator, operator.inputs[0]
    W, b = _two_dimensional(model)
    dtype = DOUBLE if isinstance(entry.type, DoubleTensorType) else FLOAT
    labels = _labels(np.asarray(get_label_classes(scope, model)))
    if labels.dtype.kind != "O":  # skl2onnx declares all labels but strings as int64
        labels = labels.astype(np.int64)
    arrays, nodes = _operators(W.astype(dtype), b.astype(dtype), labels)
    names = {
        "X": entry.full_name,
        "label": operator.outputs[0].full_name,
        "probabilities": operator.outputs[1].full_name,
    }
    if not isinstance(entry.type, DoubleTensorType | FloatTensorType):
        nodes = [Node("Cast", ["entry"], ["X"], {"to": int(onnx.TensorProto.FLOAT)}), *nodes]
        names["entry"] = names.pop("X")
    for name in {*arrays, *(name for each in nodes for name in each.outputs)} - set(names):
        names[name] = scope.get_unique_variable_name(name)
    for name, array in arrays.items():
        values = [label.encode() for label in array] if array.dtype.kind == "O" else array.ravel().tolist()
        container.add_initializer(names[name], _element(array), list(array.shape), values)
    for each in nodes:
        container.add_node(
            each.operator,
            [names[name] for name in each.inputs],
            [names[name] for name in each.outputs],
            op_domain=each.domain,
            op_version=OPSETS[each.domain],
            name=scope.get_unique_operator_name(each.operator),
            **each.attributes,
        )


def _register() -> None:
    try:
        from skl2onnx import update_registered_converter
        from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
    except ImportError:  # skl2onnx is not installed
        return
    for kind in (LogisticRegression, LogisticRegressionCV):
        update_registered_converter(
            kind,
            f"SoftmaxExt{kind.__name__}",
            calculate_linear_classifier_output_shapes,
            _convert,
            options={"zipmap": [True, False, "columns"], "nocl": [True, False], "output_class_labels": [True, False]},
        )


_register()
