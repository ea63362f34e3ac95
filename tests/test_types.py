"""The types that stand for one idea each: `Rows`, `Parameters`, `Penalty`; and that modules import in one direction."""

import ast
import graphlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

import softmax_ext
from softmax_ext import SoftmaxObjective
from softmax_ext._inputs.csr import CSR, check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext._inputs.rows import Rows
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.penalty import Penalty

layouts = st.builds(Parameters, st.integers(1, 5), st.integers(1, 6), st.booleans()) | st.builds(
    Parameters, st.just(2), st.integers(1, 6), st.booleans(), st.just(True)
)


def rows_of(storage, targets, weights, N=11, D=4, K=3):
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((N, D), density=0.5, rng=rng, format="csr")
    if storage != "scipy":
        X = X.toarray() if storage == "dense" else check_csr(X, "X", COMPUTES_IN)
    s = rng.integers(0, 3, N).astype(float) if weights else None
    return Rows.of(X, rng.integers(0, K, N) if targets == "labels" else rng.uniform(0, 2, (N, K)), s, "a chunk")


def dense(X):
    return X.scipy(float).toarray() if isinstance(X, CSR) else X.toarray() if scipy.sparse.issparse(X) else X


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("targets", ["labels", "probabilities"])
@pytest.mark.parametrize("storage", ["dense", "csr", "scipy"])
def test_rows_are_sliced_together(storage, targets, weights):
    rows = rows_of(storage, targets, weights)
    for index in (slice(2, 7), slice(1, None, 3), np.array([8, 0, 3])):
        some = rows[index]
        np.testing.assert_array_equal(dense(some.X), dense(rows.X)[index])
        np.testing.assert_array_equal(some.targets, rows.targets[index])
        np.testing.assert_array_equal(some.weights(), rows.weights()[index])
        assert (some.where, len(some), some.D, some.dtype) == ("a chunk", len(range(11)[index]) if
                isinstance(index, slice) else 3, 4, np.float64)  # fmt: skip
        assert some.total == some.weights().sum()
        np.testing.assert_array_equal(some.weighing(), np.flatnonzero(some.weights()))
    assert rows.stored == (rows.X.nnz if storage == "csr" else None)
    again = pickle.loads(pickle.dumps(rows))  # as on its way to a cluster
    np.testing.assert_array_equal(again.targets, rows.targets)


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("targets", ["labels", "probabilities"])
def test_rows_weigh_in_the_hessian_what_their_targets_sum_to(targets, weights):
    rows = rows_of("dense", targets, weights)
    curving = rows.curving()
    sums = rows.Y.sum(axis=1) if targets == "probabilities" else np.ones(len(rows))
    np.testing.assert_allclose(curving.weights(), rows.weights() * sums, rtol=1e-15)
    assert curving.y is None and curving.Y is None and curving.X is rows.X


@given(layouts, st.integers(0, 2**32 - 1))
def test_parameters_are_taken_apart_and_put_together(parameters, seed):
    K, D = parameters.K, parameters.D
    w = np.random.default_rng(seed).standard_normal(parameters.size)
    W, b = parameters.weights(w), parameters.intercepts(w)
    assert W.shape == (len(parameters.classes), D) == (parameters.count, D) and np.shares_memory(W, w)
    np.testing.assert_array_equal(parameters.join(W, b), w)
    rows = parameters.by_class(w, np.float64)
    assert rows.shape == (parameters.count, parameters.each)
    np.testing.assert_array_equal(rows[:, :D], W)
    np.testing.assert_array_equal(parameters.flat(rows), w)
    whole_W, whole_b = parameters.split(w, np.dtype(np.float32))
    assert whole_W.shape == (K, D) and whole_W.dtype == np.float32 and (whole_b is None) == (not parameters.intercept)
    np.testing.assert_array_equal(parameters.gradient(whole_W, whole_b), w.astype(np.float32))
    np.testing.assert_array_equal(whole_W.sum(axis=0) if parameters.binary else 0, W[0].astype("f4") if
                                  parameters.binary else 0)  # fmt: skip
    with pytest.raises(ValueError, match=rf"{parameters.size} entries, got \({parameters.size + 1},\)"):
        parameters.vector(np.append(w, 0))


@pytest.mark.parametrize("K, rows", [(2, 1), (3, 3), (7, 7)])
def test_a_model_of_two_classes_has_one_row(K, rows):
    assert Parameters.of_model(K, 4, True).count == rows


@given(layouts, st.floats(0, 1e3), st.integers(0, 2**32 - 1))
def test_penalty_has_the_derivatives_of_its_value(parameters, l2, seed):
    """The value is quadratic, so that differences are exact but for rounding."""
    penalty, size = Penalty(l2), parameters.size
    w, v = np.random.default_rng(seed).standard_normal((2, size))
    W, V = parameters.weights(w), parameters.weights(v)
    assert penalty.value(W) == pytest.approx(l2 / 2 * (W**2).sum(), rel=1e-13, abs=0)
    grad, product, H = np.zeros(size), np.zeros(size), np.zeros((size, size))
    penalty.add_gradient(W, parameters.weights(grad))
    penalty.add_product(V, parameters.weights(product))
    penalty.add_hessian(parameters, H)
    slope = (penalty.value(W + V) - penalty.value(W - V)) / 2
    assert grad @ v == pytest.approx(slope, rel=1e-9, abs=1e-9 * (1 + l2))
    np.testing.assert_allclose(product, H @ v, rtol=1e-14)
    assert not grad[parameters.count * parameters.D :].any()  # intercepts are free


@pytest.mark.parametrize("l2, error", [(-1.0, ValueError), (np.nan, ValueError), (True, TypeError), ("1", TypeError)])
def test_penalty_refuses(l2, error):
    with pytest.raises(error, match="l2"):
        Penalty(l2)


def test_a_penalty_is_given_once():
    X, y = np.eye(3), [0, 1, 2]
    one, other = SoftmaxObjective(X, y, l2=0.5), SoftmaxObjective(X, y, penalty=Penalty(0.5))
    w = np.arange(float(one.size))
    np.testing.assert_array_equal(one.value_and_grad(w)[1], other.value_and_grad(w)[1])
    with pytest.raises(TypeError, match=r"l2 = 0.1 is given beside penalty = Penalty\(l2=0.5\)"):
        SoftmaxObjective(X, y, l2=0.1, penalty=Penalty(0.5))


# What is imported within a function, and the optional package that it needs.
NEEDS = {"_cli.models": "sklearn", "_cli.plots": "matplotlib", "linear_model": "sklearn", "onnx": "onnx"}


def imports(tree, package, modules):
    """Return the modules of the package that a tree of code imports, also for types, and within functions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            above = package[: len(package) + 1 - node.level]
            base = ".".join((*above, *(node.module or "").split("."))).strip(".")
            inner = {f"{base}.{name.name}".strip(".") for name in node.names}
            found |= inner & modules.keys() or {base}
    return found


@pytest.fixture(scope="module")
def modules():
    """The package's modules: for each its code, and the modules that it imports anywhere and within functions."""
    folder = Path(softmax_ext.__file__).parent
    code = {path: ast.parse(path.read_text(encoding="utf-8")) for path in folder.rglob("*.py")}
    parts = {path: path.relative_to(folder).with_suffix("").parts for path in code}
    names = {".".join(parts[path]).removesuffix("__init__").strip("."): path for path in code}
    found = {}
    for name, path in names.items():
        within = [node for node in ast.walk(code[path]) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        anywhere = imports(code[path], parts[path][:-1], names)
        late = set().union(*(imports(node, parts[path][:-1], names) for node in within))
        found[name] = code[path], anywhere, late
    return found


def test_modules_import_in_one_direction(modules):
    graph = {name: anywhere for name, (_, anywhere, _) in modules.items()}
    assert {"_objective.fisher", "_objective.parameters", "_inputs.rows"} <= graph["_objective.memory"]
    assert "linear_model._logistic" in graph["linear_model._selection"] & graph["linear_model"]
    list(graphlib.TopologicalSorter(graph).static_order())  # CycleError names the circle


# From the ground up; what stands in one line may know of each other.
LAYERS = [
    {"_version"},
    {"_data"},
    {"_inputs"},
    {"reference"},
    {"_core"},
    {"special", "losses", "functional"},
    {"_objective"},
    {"objective"},
    {"_chunks", "chunks"},
    {"_optim"},
    {"optim"},
    {"_fit"},
    {"inference"},
    {"calibration", "discrete", "linear_model"},
    {"_autograd", "dask", "onnx"},
    {"torch"},
    {"_cli"},
    {"", "__main__"},
]


def test_a_layer_imports_from_those_below_it(modules):
    rank = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
    assert {name.partition(".")[0] for name in modules} == rank.keys()
    for name, (_, found, _) in modules.items():
        above = {other for other in found if other and rank[other.partition(".")[0]] > rank[name.partition(".")[0]]}
        assert not above, f"{name} imports {above}"


def test_what_is_imported_late_needs_an_optional_package(modules):
    """An import within a function may hide that a module asks for one above it."""
    late = {name: found for name, (_, _, found) in modules.items() if found}
    assert late.keys() == {"_cli.commands", "_cli.demo"} and set().union(*late.values()) == NEEDS.keys()
    for name, package in NEEDS.items():
        nodes = [node for part in (name, *modules[name][1]) for node in ast.walk(modules[part][0])]
        asked = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
        asked |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and not node.level}
        assert package in {module.partition(".")[0] for module in asked}


def test_a_module_is_no_longer_than_can_be_read_at_once():
    """It has at most 400 lines; what tells users of its functions, and comments, come on top."""
    lengths = {}
    for path in Path(softmax_ext.__file__).parent.rglob("*.py"):
        source = path.read_text(encoding="utf-8")
        lines = {
            line for line, text in enumerate(source.splitlines(), 1) if text.strip(" )]}") and "#" != text.strip()[0]
        }
        for node in ast.walk(ast.parse(source)):
            if (
                isinstance(node, ast.Expr)
                and isinstance(node.value, ast.Constant)
                and isinstance(node.value.value, str)
            ):
                lines -= set(range(node.lineno, node.end_lineno + 1))
        lengths[str(path)] = len(lines)
    assert {name: length for name, length in lengths.items() if length > 400} == {}
    assert max(lengths.values()) > 300  # so they were counted


def test_no_call_passes_more_than_eight_arguments_by_their_places(modules):
    """Operators of PyTorch are the exception: their schema is a list of places."""
    long = {
        (name, ast.unparse(node.func))
        for name, (code, _, _) in modules.items()
        for node in ast.walk(code)
        if isinstance(node, ast.Call) and len(node.args) > 8
    }
    assert long == {("torch", "functions.linear_cross_entropy")}
