"""loss_grad and predict_proba of every ISA level against the reference, and over every layout of the data.

Sizes divide nothing, because the kernels work on tiles, vectors and register blocks whose ends must come out right.
"""

import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import scipy.sparse

from softmax_ext import loss_grad, predict_proba, reference
from softmax_ext._core import dispatch
from softmax_ext._core.plan import plan
from softmax_ext._fit.scores import scores

TARGETS = [(y, w) for y in ("labels", "probabilities") for w in ("unweighted", "sample_weight")]
TARGETS += [("labels", "class_weight"), ("labels", "both")]

# One shape or more for every way through the kernels: few and many classes, few and many features, one tile and many
# slices, and a gradient of more than 16 MiB in double, beyond which it is not accumulated in double.
SHAPES = [
    (1, 1, 1), (20, 5, 1), (20, 5, 2), (252, 507, 123), (300, 33, 1003), (64, 1030, 203), (97, 784, 10),
    (1000, 10, 300), (5003, 54, 7), (20011, 4, 3), (1797, 64, 10), (513, 17, 16), (515, 129, 17), (9, 1050, 2100),
]  # fmt: skip


def on_one_and_two_threads(function, *arguments, **keywords):
    """Return what a function returns, the same to the bit on one thread and on two."""
    one, two = (function(*arguments, **keywords, n_threads=n_threads) for n_threads in (1, 2))
    for a, b in zip(*((one, two) if isinstance(one, tuple) else ([one], [two])), strict=True):
        np.testing.assert_array_equal(a, b)
    return one


@pytest.mark.pairs(3)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("labels, weights", TARGETS)
def test_every_small_size_is_right(
    isa, dtype, storage, labels, weights, bias, seed, make_problem, assert_like_reference
):
    """Every N in 1..9, K in 1..67 and D in 1..70 is, in another pairing for every seed and product of the rest."""
    rng = np.random.default_rng([seed, *f"{isa}{dtype}{labels}{weights}{bias}{storage}".encode()])
    for N, D, K in zip(np.arange(70) % 9 + 1, rng.permutation(70) + 1, rng.permutation(70) % 67 + 1, strict=True):
        target = {"labels": labels, "weights": weights, "bias": bias}
        arguments, keywords = make_problem(N, D, K, dtype, seed, **target, storage=storage)
        assert_like_reference(on_one_and_two_threads(loss_grad, *arguments, **keywords), arguments, keywords)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("labels, weights, bias", [("labels", "both", True), ("probabilities", "sample_weight", False)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_is_right(
    isa, dtype, storage, shape, labels, weights, bias, seed, make_problem, assert_like_reference
):
    target = {"labels": labels, "weights": weights, "bias": bias}
    arguments, keywords = make_problem(*shape, dtype, seed, **target, storage=storage)
    assert_like_reference(on_one_and_two_threads(loss_grad, *arguments, **keywords), arguments, keywords)


def test_few_classes_of_many_features_are_right(
    isa, dtype, seed, make_problem, assert_like_reference, monkeypatch, fresh_plans
):
    """W passes through the first cache in groups of the classes, and each group in parts of the features.

    All numbers of classes have lanes along the features here, since each fills vectors of sums in a way of its own.
    """
    kernels = dispatch.load(isa)
    way = kernels.SlicedPlan
    monkeypatch.setattr(kernels, "SlicedPlan", lambda **shape: way(**shape | {"dots": True}))
    for K, D in [*((K, 1003) for K in range(2, 33)), (3, 5003), (10, 5003), (24, 5003)]:
        assert plan(67, D, K, dtype.itemsize, isa).dots
        arguments, keywords = make_problem(
            67, D, K, dtype, seed, labels="labels", weights="unweighted", bias=K % 2 == 0
        )
        assert_like_reference(on_one_and_two_threads(loss_grad, *arguments, **keywords), arguments, keywords)


# Small problems that are cut as large ones are, and the sizes at which they are cut so without changed constants.
CUT = {"SUMS_BYTES": 0, "TILE_BYTES": 2**17, "SCORES_BYTES": 2**17, "PARALLEL_FLOPS": 0}
OWNED = {
    "in double, unweighted": ((503, 37, 203), CUT, *TARGETS[0]),
    "in double, weighted": ((503, 37, 203), CUT, *TARGETS[-1]),
    "in the dtype": ((503, 37, 203), {**CUT, "DOUBLES_BYTES": 0}, *TARGETS[-1]),
}
OWNED_LARGE = {
    "large, in double, unweighted": ((2100, 70, 1500), {}, *TARGETS[0]),
    "large, in double, weighted": ((2100, 70, 1500), {}, *TARGETS[-1]),
    "large, in the dtype": ((300, 53, 40000), {}, *TARGETS[-1]),
}


@pytest.mark.pairs(3)
@pytest.mark.parametrize(
    "shape, constants, labels, weights",
    [
        *(pytest.param(*case, id=name) for name, case in OWNED.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in OWNED_LARGE.items()),
    ],
)
def test_owned_classes_over_tiles_are_right(
    isa, dtype, storage, shape, constants, labels, weights, seed, small, make_problem, assert_like_reference
):
    small(**constants)
    arguments, keywords = make_problem(*shape, dtype, seed, labels=labels, weights=weights, storage=storage)
    way = plan(*shape, dtype.itemsize, isa, nnz=arguments[0].nnz if storage == "csr" else None)
    assert way.cut != "slices" and way.tile < shape[0]
    assert way.doubles == (shape[2] < 40000 and "DOUBLES_BYTES" not in constants)
    got = loss_grad(*arguments, **keywords, n_threads=3)
    assert_like_reference(got, arguments, keywords)
    alone = loss_grad(*arguments, **keywords, n_threads=1)
    for many, one in zip(got, alone, strict=True):
        np.testing.assert_array_equal(many, one)
    S = predict_proba(arguments[0], *arguments[2:])
    np.testing.assert_allclose(S.sum(axis=1), 1, rtol=1e-5)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("label_smoothing", [0.1, 1.0])
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [(7, 5, 1), (37, 23, 9), (300, 33, 100)], ids=str)
def test_label_smoothing_is_that_of_the_reference(
    isa, dtype, storage, shape, labels, label_smoothing, seed, make_problem, assert_like_reference
):
    arguments, keywords = make_problem(*shape, dtype, seed, labels=labels, weights="sample_weight", storage=storage)
    keywords["label_smoothing"] = label_smoothing
    assert_like_reference(loss_grad(*arguments, **keywords), arguments, keywords)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_predict_proba_is_that_of_the_reference(isa, tolerance, storage, shape, bias, seed, make_problem):
    (X, _, W, b), _ = make_problem(*shape, tolerance.dtype, seed, bias=bias, storage=storage)
    out = np.full((X.shape[0], len(W)), np.nan, tolerance.dtype)
    S = predict_proba(X, W, b, out=out)
    assert S is out
    tiny = np.finfo(tolerance.dtype).tiny  # below it, digits go
    np.testing.assert_allclose(S, reference.predict_proba(X, W, b), rtol=2 * tolerance.rtol, atol=tiny)
    again = on_one_and_two_threads(predict_proba, X, W, b)
    assert again.dtype == tolerance.dtype and again.flags.c_contiguous
    np.testing.assert_array_equal(again, S)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_scores_are_those_of_the_reference(isa, tolerance, storage, shape, bias, seed, make_problem):
    (X, _, W, b), _ = make_problem(*shape, tolerance.dtype, seed, bias=bias, storage=storage)
    Z = on_one_and_two_threads(scores, X, W, b)
    assert Z.dtype == tolerance.dtype and Z.flags.c_contiguous
    X = X.astype(np.float64)
    terms = reference.scores(abs(X), abs(W), 0 if b is None else abs(b))
    rounding = np.finfo(tolerance.dtype).eps * (4 + np.sqrt(shape[1]))
    assert (abs(Z - reference.scores(X, W, b)) <= rounding * terms).all()


def test_the_public_functions_run_on_the_reference(dtype, storage, make_problem):
    arguments, keywords = make_problem(20, 7, 5, dtype, weights="both", storage=storage)
    X, _, W, b = arguments
    with dispatch.using("reference"):
        got, S = loss_grad(*arguments, **keywords), predict_proba(X, W, b)
        out = np.empty_like(S)
        assert predict_proba(X, W, b, out=out) is out
        np.testing.assert_array_equal(scores(X, W, b), reference.scores(X.astype(np.float64), W, b).astype(dtype))
    want = reference.loss_grad(*arguments, **keywords)
    assert got.loss == want.loss and got.dW.dtype == got.db.dtype == S.dtype == dtype
    np.testing.assert_array_equal(got.dW, want.dW.astype(dtype))
    np.testing.assert_array_equal(got.db, want.db.astype(dtype))
    np.testing.assert_array_equal(S, reference.predict_proba(X, W, b).astype(dtype))
    np.testing.assert_array_equal(out, S)


def in_file(X, folder):
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


def read_only(X):
    X = X.copy()
    X.flags.writeable = False
    return X


def rows_apart(X):
    wide = np.full((len(X), X.shape[1] + 3), 99, X.dtype)
    wide[:, 1:-2] = X
    return wide[:, 1:-2]


def misaligned(X):
    return np.frombuffer(b"-" + X.tobytes(), X.dtype, offset=1).reshape(X.shape)


def said(array):
    """A dtype that says this machine's byte order, as those of h5py do."""
    return array.astype(array.dtype.newbyteorder("<" if sys.byteorder == "little" else ">"))


# The same values in memory of another shape.
LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "rows apart": rows_apart,
    "rows backwards": lambda X: X[::-1].copy()[::-1],
    "columns backwards": lambda X: X[:, ::-1].copy()[:, ::-1],
    "all backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every second row": lambda X: X.repeat(2, axis=0)[::2],
    "every third column": lambda X: X.repeat(3, axis=1)[:, ::3],
    "other byte order": lambda X: X.astype(X.dtype.newbyteorder()),
    "byte order said": said,
    "misaligned": misaligned,
    "misaligned Fortran order": lambda X: misaligned(X.T.copy()).T,
    "read only": read_only,
}
# The values that X must have, and a way to have them.
VALUES = {
    "float16": (lambda X: X.astype(np.float16), np.float32),
    "int8": (lambda X: X.astype(np.int8), np.float32),
    "int16": (lambda X: X.astype(np.int16), np.float64),
    "uint64": (lambda X: (1000 * abs(X)).astype(np.uint64), np.float64),
    "bool": (lambda X: X > 0, np.float64),
    "longdouble": (lambda X: X.astype(np.longdouble), np.float64),
    "one row for all": (lambda X: np.broadcast_to(X[0], X.shape), None),
    "one column for all": (lambda X: np.broadcast_to(X[:, :1], X.shape), None),
    "one number for all": (lambda X: np.broadcast_to(X[0, 0], X.shape), None),
}
BLOCKS = pytest.mark.parametrize("shape", [(37, 23, 5), (20011, 30, 7), (1003, 40, 150)], ids=str)


def results(X, y, W, b, **keywords):
    return *loss_grad(X, y, W, b, **keywords), predict_proba(X, W, b)


def assert_same(arguments, others, **keywords):
    """Bit for bit the same results."""
    for ours, theirs in zip(results(*others, **keywords), results(*arguments, **keywords), strict=True):
        assert np.asarray(ours).dtype == np.asarray(theirs).dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.pairs(3)
@BLOCKS
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_no_layout_of_X_changes_a_bit(isa, dtype, layout, shape, make_problem):
    (X, y, W, b), keywords = make_problem(*shape, dtype, weights="sample_weight")
    assert_same((X, y, W, b), (layout(X), y, W, b), **keywords)


@pytest.mark.pairs(3)
@BLOCKS
@pytest.mark.parametrize("change, computes_in", VALUES.values(), ids=VALUES)
def test_other_dtypes_of_X_give_the_bits_of_converted_ones(
    isa, dtype, stored, change, computes_in, shape, make_problem
):
    (X, y, W, b), _ = make_problem(*shape, dtype)
    X = change(X)
    want = stored(np.array(X, computes_in or dtype, order="C"))
    if scipy.sparse.issparse(want):
        kind, X = X.dtype, want.copy()
        if kind == np.float16:
            return  # refused, as SciPy does: tests/test_narrow.py
        X.data = X.data.astype(kind)
    assert_same((want, y, W, b), (X, y, W, b))


def test_a_memory_mapped_X_gives_the_bits_of_one_in_memory(isa, dtype, tmp_path, make_problem):
    (X, y, W, b), _ = make_problem(5003, 54, 7, dtype)
    assert_same((X, y, W, b), (in_file(X, tmp_path), y, W, b))


@pytest.mark.pairs(3)
@BLOCKS
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_no_layout_of_probabilities_changes_a_bit(isa, dtype, storage, layout, shape, make_problem):
    (X, Y, W, b), _ = make_problem(*shape, dtype, labels="probabilities", storage=storage)
    assert_same((X, Y, W, b), (X, layout(Y), W, b))


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint64, np.float16, np.longdouble])
def test_other_dtypes_of_probabilities_give_the_bits_of_converted_ones(isa, dtype, storage, kind, make_problem):
    (X, Y, W, b), _ = make_problem(300, 9, 7, dtype, labels="probabilities", storage=storage)
    Y = Y.astype(kind)
    assert_same((X, Y.astype(dtype), W, b), (X, Y, W, b))


@pytest.mark.pairs(3)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_no_layout_of_the_parameters_and_weights_changes_a_bit(isa, dtype, storage, layout, make_problem):
    (X, y, W, b), keywords = make_problem(37, 23, 9, dtype, weights="both", storage=storage)

    def vector(v):
        return layout(v[:, np.newaxis])[:, 0]

    changed = {name: vector(weight) for name, weight in keywords.items()}
    ours = loss_grad(X, vector(y), layout(W), vector(b), **changed)
    for one, other in zip(ours, loss_grad(X, y, W, b, **keywords), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_pass_leaves_its_arguments_as_they_were(isa, dtype, storage, make_problem):
    for labels in ("labels", "probabilities"):
        arguments, keywords = make_problem(300, 9, 7, dtype, labels=labels, weights="sample_weight", storage=storage)
        X, *rest = *arguments, keywords["sample_weight"]
        passed = [*([X.data, X.indices, X.indptr] if storage == "csr" else [X]), *rest]
        before = [array.tobytes() for array in passed]
        loss_grad(*arguments, **keywords)
        predict_proba(arguments[0], *arguments[2:])
        assert [array.tobytes() for array in passed] == before


def test_results_belong_to_the_caller(isa, dtype, storage, make_problem):
    arguments, _ = make_problem(20, 9, 7, dtype, storage=storage)
    first = loss_grad(*arguments)
    kept = first.dW.copy(), first.db.copy()
    second = loss_grad(*arguments)
    assert not np.shares_memory(first.dW, second.dW) and not np.shares_memory(first.db, second.db)
    second.dW[:], second.db[:] = 0, 0
    np.testing.assert_array_equal(first.dW, kept[0])
    np.testing.assert_array_equal(first.db, kept[1])


sizes = st.tuples(st.integers(1, 40), st.integers(1, 90), st.integers(1, 90))
slices = st.tuples(st.sampled_from([1, 2, -1, -3]), st.sampled_from([1, 2, -1, -3]))


@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@hypothesis.given(sizes, slices, st.booleans(), st.sampled_from(TARGETS), st.integers(0, 2**32), st.integers(1, 3))
@hypothesis.example((2, 44, 2), (1, 1), False, ("labels", "sample_weight"), 815, 1)  # a loss of 1.8e-43
def test_any_drawn_problem_is_right(
    isa, dtype, storage, stored, make_problem, assert_like_reference, size, steps, F, target, seed, n_threads
):
    """X is a view of a larger array; of a CSR matrix SciPy takes a copy, and leaves its indices unsorted."""
    (X, y, W, b), keywords = make_problem(*size, dtype, seed, labels=target[0], weights=target[1], storage=storage)
    parent = np.zeros((size[0] * abs(steps[0]), size[1] * abs(steps[1])), dtype, order="F" if F else "C")
    parent[:: steps[0], :: steps[1]] = X.toarray() if storage == "csr" else X
    view = stored(parent)[:: steps[0], :: steps[1]]
    assert_like_reference(loss_grad(view, y, W, b, **keywords, n_threads=n_threads), (X, y, W, b), keywords)
