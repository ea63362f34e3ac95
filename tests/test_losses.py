"""cross_entropy and its gradient against what PyTorch returned, and against the reference; digits, errors, out."""

import itertools
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from softmax_ext import cross_entropy, cross_entropy_grad, losses, reference
from softmax_ext._core import dispatch
from softmax_ext._inputs.cross_entropy import check_scores

VECTORS = Path(__file__).with_name("torch_vectors.npz")
inf, nan = np.inf, np.nan

SHAPES = [(5,), (7, 10), (1, 3), (5, 1), (2, 130), (4, 5, 3), (2, 3, 2, 2), (1, 131, 2)]
CASES = [
    case
    for case in itertools.product(
        SHAPES, ["mean", "sum", "none"], [False, True], [-100, 0], [0.0, 0.3, 1.0], ["labels", "probabilities"]
    )
    if case[3] < 0 or case[5] == "labels"  # PyTorch refuses to ignore a class of probabilities
]


def problem(case):
    """Scores in float64, target, and the other arguments of one case."""
    shape, reduction, weighted, ignore_index, label_smoothing, kind = case
    rng = np.random.default_rng([*shape, weighted, ignore_index + 100, int(10 * label_smoothing)])
    axis = min(len(shape) - 1, 1)
    Z, rows = rng.standard_normal(shape) * 4, shape[:axis] + shape[axis + 1 :]
    if kind == "probabilities":
        target = rng.random(shape)
    else:
        target = np.where(rng.random(rows) < 0.3, ignore_index, rng.integers(0, shape[axis], rows))
    weight = rng.random(shape[axis]) + 0.1 if weighted else None
    return Z, target, weight, ignore_index, reduction, label_smoothing


def torchs(Z, target, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """Loss and gradient, by PyTorch."""
    import torch

    z, w = torch.tensor(Z, requires_grad=True), None if weight is None else torch.tensor(weight)
    keywords = {"ignore_index": ignore_index, "reduction": reduction, "label_smoothing": label_smoothing}
    loss = torch.nn.functional.cross_entropy(z, torch.tensor(target), w, **keywords)
    loss.sum().backward()
    return loss.detach().numpy(), z.grad.numpy()


@pytest.fixture(scope="session")
def stored():
    """What PyTorch 2.13 returned, by case, finite and not."""
    vectors = {}
    for name, problems in (("finite", {case: problem(case) for case in CASES}), ("spoilt", SPOILT_PROBLEMS)):
        flat = np.load(VECTORS)[name].astype(np.float64)
        for case, (Z, _, _, _, reduction, _) in problems.items():
            axis = min(Z.ndim - 1, 1)
            parts = []
            for shape in (np.delete(Z.shape, axis) if reduction == "none" else (), Z.shape):
                size = math.prod(shape)
                parts.append(flat[:size].reshape(shape))
                flat = flat[size:]
            vectors[case] = parts
        assert flat.size == 0
    return vectors


def check(got, loss, dlogits, rtol):
    """NaN where PyTorch has it; errors relative to the largest entry: a gradient's small ones are differences."""
    np.testing.assert_allclose(got.loss, loss, rtol=rtol, atol=rtol)
    np.testing.assert_allclose(got.dlogits, dlogits, rtol=0, atol=rtol * max(1, np.abs(dlogits).max(initial=0)))


@pytest.mark.parametrize("level", (*dispatch.available(), dispatch.REFERENCE))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_cross_entropy_is_that_of_stored_pytorch(level, shape, tolerance, stored):
    with dispatch.using(level):
        for case in (case for case in CASES if case[0] == shape):
            Z, target, *rest = problem(case)
            got = cross_entropy_grad(Z.astype(tolerance.dtype), target, *rest)
            check(got, *stored[case], 1e-5)
            assert got.dlogits.dtype == tolerance.dtype
            loss = cross_entropy(Z.astype(tolerance.dtype), target, *rest)
            np.testing.assert_array_equal(loss, got.loss)
            assert type(loss) is (np.ndarray if rest[2] == "none" else float)


SPOILT = {
    "nan": [[nan, 1, 2], [0, 1, 0]], "+inf": [[inf, 1, 2], [0, 1, 0]], "-inf": [[-inf, 1, 2], [0, 1, 0]],
    "all -inf": [[-inf, -inf, -inf], [0, 1, 0]], "fine": [[3, 1, 2], [0, 1, 0]],
}  # fmt: skip
# Target, weight and smoothing.
SPOILT_CASES = [
    ([0, 1], None, 0.0), ([1, 1], None, 0.0), ([-100, 1], None, 0.0), ([-100, -100], None, 0.0),
    ([-100, -100], None, 0.3), ([0, 1], [0, 1, 1], 0.0), ([0, 1], [0, 0, 0], 0.0), ([0, 1], [0, 0, 0], 0.3),
    ([-100, 1], [1, 2, 3], 0.3), ([0, 1], [1, 2, 3], 0.3), ([[0, 1, 0], [1, 0, 0]], None, 0.0),
]  # fmt: skip


SPOILT_PROBLEMS = {
    (name, i, reduction): (
        np.array(Z, float),
        np.array(target, float if np.ndim(target) == 2 else int),
        None if weight is None else np.array(weight, float),
        -100,
        reduction,
        smoothing,
    )
    for name, Z in SPOILT.items()
    for i, (target, weight, smoothing) in enumerate(SPOILT_CASES)
    for reduction in ("mean", "sum", "none")
}


@pytest.mark.parametrize("case", SPOILT_PROBLEMS, ids=str)
@pytest.mark.parametrize("level", (*dispatch.available(), dispatch.REFERENCE))
def test_scores_that_are_not_finite_have_pytorchs_loss(level, case, stored):
    """As in PyTorch there is no warning."""
    with dispatch.using(level), warnings.catch_warnings():
        warnings.simplefilter("error")
        got = cross_entropy_grad(*SPOILT_PROBLEMS[case])
    check(got, *stored[case], 1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_an_average_of_no_samples_is_nan(isa, dtype, reduction):
    want = nan if reduction == "mean" else 0.0
    loss, dlogits = cross_entropy_grad(np.zeros((2, 3), dtype), [-100, -100], reduction=reduction)
    np.testing.assert_equal(loss, want)
    np.testing.assert_array_equal(dlogits, np.zeros((2, 3)))
    empty = cross_entropy_grad(np.zeros((0, 3), dtype), np.zeros(0, int), reduction=reduction)
    np.testing.assert_equal(empty.loss, want)
    assert empty.dlogits.shape == (0, 3)


LARGE = [(2011, 10), (301, 128), (300, 129), (101, 1003), (7, 10, 301), (3, 200, 67), (20_011, 3)]
LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "classes last in memory": lambda x: np.moveaxis(np.moveaxis(x, 1, -1).copy(), -1, 1),
    "every second class": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
}


@pytest.mark.pairs(3)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["labels", "smoothed", "weighted", "probabilities"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_cross_entropy_is_that_of_the_reference(isa, tolerance, shape, kind, layout):
    """In every layout, into new memory, into `out` and over the scores it has the same bits for all threads."""
    case = (shape, "mean", kind == "weighted", -100, 0.0 if kind == "labels" else 0.1, "labels")
    Z, target, *rest = problem((*case[:-1], "probabilities") if kind == "probabilities" else case)
    Z = Z.astype(tolerance.dtype)
    target = target.astype(tolerance.dtype) if kind == "probabilities" else target
    with dispatch.using(dispatch.REFERENCE):
        want = cross_entropy_grad(Z, target, *rest)
    Z = LAYOUTS[layout](Z)
    target = LAYOUTS[layout](target) if kind == "probabilities" else target
    one = cross_entropy_grad(Z, target, *rest, n_threads=1)
    np.testing.assert_allclose(one.loss, want.loss, rtol=tolerance.rtol)
    atol = tolerance.rtol * np.abs(want.dlogits).max()
    np.testing.assert_allclose(one.dlogits, want.dlogits, rtol=0, atol=atol)
    out = np.empty_like(Z)
    many = cross_entropy_grad(Z, target, *rest, out=out, n_threads=3)
    assert many.dlogits is out
    over = cross_entropy_grad(Z, target, *rest, out=Z)
    assert over.dlogits is Z
    for other in (many, over):
        assert other.loss == one.loss
        np.testing.assert_array_equal(other.dlogits, one.dlogits)


@pytest.mark.parametrize("kind", [np.float16, np.int8, np.int64, np.float32, ">f4", ">f8", bool])
def test_the_dtype_of_scores_decides(isa, kind):
    Z = np.array([[1, 0, 1], [0, 1, 1]]).astype(kind)
    got, want = (cross_entropy_grad(x, np.array([0, 2], np.uint8)) for x in (Z, Z.astype(np.float64)))
    assert got.dlogits.dtype == (np.float32 if np.dtype(kind).char in "ef" else np.float64)
    np.testing.assert_allclose(got.loss, want.loss, rtol=1e-6)
    np.testing.assert_allclose(got.dlogits, want.dlogits, atol=1e-7)


@pytest.mark.parametrize("K", [2, 10, 128, 129, 1003])
def test_a_confident_row_keeps_the_digits_of_its_loss_and_gradient(isa, tolerance, K):
    margins = np.linspace(5, 80 if tolerance.dtype == np.float32 else 700, 40).astype(tolerance.dtype)
    Z = np.random.default_rng(0).uniform(-2, 0, (40, K)).astype(tolerance.dtype) - margins[:, np.newaxis]
    Z[:, K // 2] = 0
    others = np.exp(np.delete(Z, K // 2, 1).astype(np.longdouble)).sum(axis=1)
    loss, dlogits = cross_entropy_grad(Z, np.full(40, K // 2), reduction="none")
    rtol = 1e-5 if tolerance.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(loss, np.log1p(others).astype(float), rtol=rtol)
    np.testing.assert_allclose(dlogits[:, K // 2], -(others / (1 + others)).astype(float), rtol=rtol)


@pytest.mark.parametrize("copies", [1000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_sum_over_many_rows_loses_nothing(isa, dtype, copies):
    """The oracle is fsum over a million rows, of which a thousand are different."""
    few = np.random.default_rng(0).standard_normal((1000, 2)).astype(dtype) * 5
    y = np.random.default_rng(1).integers(0, 2, 1000)
    total = cross_entropy(np.tile(few, (copies, 1)), np.tile(y, copies), reduction="sum")
    rows = [cross_entropy(few[i : i + 1], y[i : i + 1], reduction="sum") for i in range(1000)]
    np.testing.assert_allclose(total, math.fsum(rows * copies), rtol=1e-12)


def test_scores_that_can_be_read_in_place_are_not_copied(isa, monkeypatch):
    x = np.random.default_rng(0).standard_normal((6, 20, 35))
    y = np.zeros((6, 35), int)

    def copied(*arguments):
        raise AssertionError("copied")

    monkeypatch.setattr(losses.np, "copyto", copied)
    for view in (x, x[::2], x[:, :, 3:-3], np.moveaxis(np.moveaxis(x, 1, 2).copy(), 2, 1)):
        cross_entropy_grad(view, y[: len(view), : view.shape[2]])
        cross_entropy_grad(view, view)


Z = np.zeros((2, 3))
WRONG = {
    "label": ((Z, [0, 3]), ValueError, r"target\[1\] = 3 is out of range: labels must be in 0..2"),
    "negative label": ((Z, [-1, 0]), ValueError, r"target\[0\] = -1"),
    "label of a position": ((np.zeros((2, 3, 2)), [[0, 1], [7, 1]]), ValueError, r"target\[1, 0\] = 7"),
    "huge label": ((Z, np.array([2**64 - 1, 0], np.uint64)), ValueError, r"target\[0\]"),
    "number of labels": ((Z, [0, 1, 2]), ValueError, r"shape \(2,\)"),
    "column of labels": ((Z, [[0], [1]]), ValueError, r"shape \(2,\)"),
    "float labels": ((Z, [0.0, 1.0]), TypeError, "integer labels"),
    "bool labels": ((Z, [True, False]), TypeError, "integer labels"),
    "integers for probabilities": ((Z, np.zeros((2, 3), int)), TypeError, "floating dtype"),
    "complex scores": ((Z + 0j, [0, 1]), ValueError, "Complex data"),
    "scalar": ((1.0, 0), TypeError, "logits must be an array"),
    "no classes": ((np.zeros((2, 0)), [0, 0]), ValueError, "no classes"),
    "weight": ((Z, [0, 1], [1.0, 2.0]), ValueError, "weight has 2 entries"),
    "weight's dtype": ((Z, [0, 1], ["a", "b", "c"]), TypeError, "weight must hold real numbers"),
    "ignore_index": ((Z, [0, 1], None, 0.5), TypeError, "ignore_index"),
    "ignore_index of probabilities": ((Z, Z, None, 1), ValueError, "ignore_index = 1 needs integer labels"),
    "reduction": ((Z, [0, 1], None, -100, "average"), ValueError, "reduction must be"),
    "smoothing": ((Z, [0, 1], None, -100, "mean", 1.5), ValueError, "label_smoothing"),
}


@pytest.mark.parametrize("function", [cross_entropy, cross_entropy_grad])
@pytest.mark.parametrize(("arguments", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_of_cross_entropy_are_refused(function, arguments, error, message):
    with pytest.raises(error, match=message):
        function(*arguments)
    with pytest.raises(ValueError, match="n_threads"):
        function(Z, [0, 1], n_threads=0)


def test_a_wrong_out_of_cross_entropy_is_refused():
    Y, memory = np.full((2, 3), 1 / 3), np.ones(9)
    with pytest.raises(ValueError, match="out overlaps weight"):
        cross_entropy_grad(Z, [0, 1], memory[5:8], out=memory[:6].reshape(2, 3))
    assert (memory == 1).all()
    for out, message in [
        (np.empty((3, 2)), "out must be"),
        (np.empty((2, 3), np.float32), "out must be"),
        (np.frombuffer(bytes(48)).reshape(2, 3), "writeable"),
        (Y, "out overlaps target"),
    ]:
        with pytest.raises(ValueError, match=message):
            cross_entropy_grad(Z, Y, out=out)


def test_the_gradient_may_overlap_the_scores(isa, dtype):
    memory = np.random.default_rng(0).standard_normal((41, 10)).astype(dtype)
    y, before = np.arange(40) % 10, memory.copy()
    got = cross_entropy_grad(memory[1:], y, out=memory[:-1])
    np.testing.assert_array_equal(got.dlogits, cross_entropy_grad(before[1:], y).dlogits)


def test_the_gradient_may_overlap_the_labels(isa):
    """They are copied when they are checked."""
    memory, y = np.empty((6, 3)), np.array([0, 2, 1, 1, 0, 2])
    labels = memory.ravel()[3:9].view(np.int64)
    labels[:] = y
    Z = np.random.default_rng(0).standard_normal((6, 3))
    got = cross_entropy_grad(Z, labels, out=memory)
    want = cross_entropy_grad(Z, y)
    assert got.loss == want.loss
    np.testing.assert_array_equal(memory, want.dlogits)


def test_scores_at_the_ends_of_the_range_have_exact_losses(isa, dtype):
    """Differences that overflow, subnormal numbers and zeros of either sign are no cause for a warning."""
    limits = np.finfo(dtype)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = cross_entropy_grad(np.array([[limits.max, -limits.max, limits.max]], dtype), [0])
        np.testing.assert_allclose(got.loss, math.log(2), rtol=1e-6)
        np.testing.assert_array_equal(got.dlogits, [[-0.5, 0, 0.5]])
        for z in (limits.max, -limits.max, limits.tiny, limits.smallest_subnormal, -limits.smallest_subnormal, -0.0):
            got = cross_entropy_grad(np.array([[z, z, z]], dtype), [2])
            np.testing.assert_allclose(got.loss, math.log(3), rtol=1e-6)
            np.testing.assert_allclose(got.dlogits, [[1 / 3, 1 / 3, -2 / 3]], rtol=1e-6)


def test_cross_entropy_leaves_its_arguments_as_they_were(isa):
    arguments = np.ones((4, 3)), np.array([0, -100, 2, 1]), np.ones(3)
    before = [array.copy() for array in arguments]
    cross_entropy_grad(*arguments, label_smoothing=0.1)
    for array, copy in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_the_reference_of_cross_entropy_has_the_gradient_of_its_loss():
    """Central differences are the oracle."""
    for case in [((4, 5, 3), "sum", True, -100, 0.3, "labels"), ((4, 5, 3), "sum", True, -100, 0.3, "probabilities")]:
        Z, target, weight, *_ = problem(case)
        target = np.abs(target) if case[5] == "labels" else target
        target = target % 5 if case[5] == "labels" else target

        def total(x, target=target, weight=weight):
            return reference.cross_entropy(check_scores(x, target, weight, -100, 0.3, "sum"), weight)[0].sum()

        _, R = reference.cross_entropy(check_scores(Z, target, weight, -100, 0.3, "sum"), weight)
        for index in [(0, 0, 0), (3, 4, 2), (1, 2, 1)]:
            step = np.zeros_like(Z)
            step[index] = 1e-5
            np.testing.assert_allclose((total(Z + step) - total(Z - step)) / 2e-5, R[index], rtol=1e-6)
