"""linear_cross_entropy against the reference, PyTorch and differences; bits, memory, errors."""

import itertools
import math
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest

from softmax_ext import cross_entropy_grad, linear_cross_entropy, loss_grad, reference
from softmax_ext._core import dispatch
from softmax_ext._core.plan import plan

VECTORS = Path(__file__).with_name("torch_vectors.npz")
inf, nan = np.inf, np.nan

REDUCTIONS = ["mean", "sum", "none"]
OPTIONS = [  # target, weighted, ignore_index, label_smoothing, z_loss, softcap
    options
    for options in itertools.product(
        ["labels", "probabilities"], [False, True], [-100, 0], [0.0, 0.3, 1.0], [0.0, 0.02], [None, 1.7]
    )
    if options[2] < 0 or options[0] == "labels"
]
TORCHS = [
    (shape, reduction, *options)
    for shape, reduction, step in [
        ((4, 3, 5), "mean", 1), ((4, 3, 5), "sum", 5), ((4, 3, 5), "none", 7), ((2, 2, 131), "mean", 11),
    ]
    for options in OPTIONS[::step]
]  # fmt: skip
SLICED = [(37, 5, 7), (64, 300, 10), (101, 20, 130), (1031, 30, 100)]
OWNED = (57, 1205, 1501)


def problem(case, dtype=np.float64, bias=True):
    """Arguments and keywords of one case."""
    (N, D, K), reduction, kind, weighted, ignore_index, label_smoothing, z_loss, softcap = case
    rng = np.random.default_rng([N, D, K, ignore_index + 100, int(10 * label_smoothing)])
    X, W = rng.standard_normal((N, D)), rng.standard_normal((K, D)) * (2 / math.sqrt(D))
    if kind == "probabilities":
        target = rng.random((N, K))
    else:
        target = np.where(rng.random(N) < 0.3, ignore_index, rng.integers(0, K, N))
    keywords = {
        "linear_bias": rng.standard_normal(K).astype(dtype) if bias else None,
        "weight": (rng.random(K) + 0.1).astype(dtype) if weighted else None,
        "reduction": reduction, "ignore_index": ignore_index, "label_smoothing": label_smoothing,
        "z_loss": z_loss, "softcap": softcap,
    }  # fmt: skip
    return (X.astype(dtype), W.astype(dtype), target), keywords


def torchs(arguments, keywords):
    """Loss, dW, db and dX by PyTorch, with the cap and the z-loss composed by hand as Liger-Kernel defines them."""
    import torch

    F = torch.nn.functional
    keywords = {**keywords}
    z_loss, softcap, reduction = keywords.pop("z_loss"), keywords.pop("softcap"), keywords["reduction"]
    X, W, target = map(torch.tensor, arguments)
    b, weight = torch.tensor(keywords.pop("linear_bias")), keywords.pop("weight")
    leaves = [x.requires_grad_() for x in (W, b, X)]
    Z = F.linear(X, W, b)
    Z = Z if softcap is None else softcap * torch.tanh(Z / softcap)
    loss = F.cross_entropy(Z, target, None if weight is None else torch.tensor(weight), **keywords)
    if z_loss:
        kept = (target != keywords["ignore_index"]) if target.ndim == 1 else torch.ones(len(X), dtype=torch.bool)
        terms = torch.where(kept, z_loss * torch.logsumexp(Z, 1) ** 2, 0.0)
        loss = loss + (terms if reduction == "none" else terms.sum() / (kept.sum() if reduction == "mean" else 1))
    loss.sum().backward()
    return [loss.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]


def check(got, want, rtol):
    """Errors relative to the largest entry: a gradient's small ones are differences."""
    assert len(got) == len(want) == 4
    for ours, theirs in zip(got, want, strict=True):
        assert (ours is None) == (theirs is None)
        if theirs is not None:
            largest = np.nanmax(np.abs(theirs), initial=0)
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * largest)


@pytest.fixture(scope="session")
def stored():
    """What PyTorch 2.13 returned, by case."""
    vectors, flat = {}, np.load(VECTORS)["linear"].astype(np.float64)
    for case in TORCHS:
        N, D, K = case[0]
        parts = []
        for shape in ((N,) if case[1] == "none" else (), (K, D), (K,), (N, D)):
            parts.append(flat[: math.prod(shape)].reshape(shape))
            flat = flat[math.prod(shape) :]
        vectors[case] = parts
    assert flat.size == 0
    return vectors


@pytest.mark.parametrize("level", (*dispatch.available(), dispatch.REFERENCE))
def test_linear_cross_entropy_is_that_of_stored_pytorch(level, stored):
    with dispatch.using(level):
        for case in TORCHS:
            arguments, keywords = problem(case)
            check(linear_cross_entropy(*arguments, **keywords, grad_input=True), stored[case], 1e-5)


def test_the_reference_is_pytorch():
    pytest.importorskip("torch")
    for case in TORCHS:
        arguments, keywords = problem(case)
        check(
            reference.linear_cross_entropy(*arguments, **keywords, grad_input=True), torchs(arguments, keywords), 1e-12
        )


@pytest.mark.pairs(3)
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [*SLICED, OWNED], ids=str)
def test_linear_cross_entropy_is_that_of_the_reference(isa, tolerance, shape, reduction):
    """It is with every option; the bits are the same for every number of threads, and without what is not asked for."""
    dtype = tolerance.dtype
    if isa != dispatch.REFERENCE:
        assert (plan(*shape, dtype.itemsize, isa).cut == "owned") == (shape == OWNED)
    step = {SLICED[0]: 3, OWNED: 29}.get(shape, 13)  # which divide no number of options
    chosen = OPTIONS[REDUCTIONS.index(reduction) :: step]
    for i, options in enumerate(chosen):
        (X, W, target), keywords = problem((shape, reduction, *options), dtype, bias=i % 4 != 3)
        one = linear_cross_entropy(X, W, target, **keywords, grad_input=True, n_threads=1)
        check(one, reference.linear_cross_entropy(X, W, target, **keywords, grad_input=True), tolerance.rtol * 2)
        assert all(x.dtype == dtype and x.flags.c_contiguous for x in one[1:] if x is not None)
        for n_threads, grad, grad_input in [(2, True, True), (3, False, True), (2, True, False), (3, False, False)]:
            other = linear_cross_entropy(
                X, W, target, **keywords, grad=grad, grad_input=grad_input, n_threads=n_threads
            )
            asked = (True, grad, grad and keywords["linear_bias"] is not None, grad_input)
            for got, want, wanted in zip(other, one, asked, strict=True):
                assert (got is not None) == wanted
                if wanted and grad_input:  # which has a plan of its own
                    np.testing.assert_array_equal(got, want)
                elif wanted:
                    np.testing.assert_allclose(got, want, rtol=1e-5, atol=tolerance.rtol * np.abs(want).max())


@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_linear_cross_entropy_is_loss_grad_and_cross_entropy(isa, tolerance, kind):
    """There are three ways to the same: from X, from the scores, and this."""
    (X, W, target), keywords = problem((SLICED[2], "mean", kind, False, -100, 0.3, 0.0, None), tolerance.dtype)
    target = np.abs(target) % len(W) if kind == "labels" else target
    b = keywords["linear_bias"]
    loss, dW, db, dX = linear_cross_entropy(X, W, target, linear_bias=b, label_smoothing=0.3, grad_input=True)
    other = loss_grad(X, target, W, b, label_smoothing=0.3)
    R = cross_entropy_grad(X @ W.T + b, target, label_smoothing=0.3).dlogits
    check((loss, dW, db, dX), (other.loss, other.dW, other.db, R @ W), tolerance.rtol)


def test_the_reference_of_a_linear_layer_has_the_gradient_of_its_loss():
    """Central differences are the oracle."""
    for options in OPTIONS[::5]:
        arguments, keywords = problem(((5, 3, 4), "mean", *options))
        got = reference.linear_cross_entropy(*arguments, **keywords, grad_input=True)
        arrays = [arguments[0], arguments[1], keywords["linear_bias"]]
        for array, gradient in zip(arrays, (got.dX, got.dW, got.db), strict=True):
            numeric = np.empty_like(array)
            for index in np.ndindex(array.shape):
                sides = []
                for step in (1e-5, -1e-5):
                    array[index] += step
                    sides.append(reference.linear_cross_entropy(*arguments, **keywords, grad=False).loss)
                    array[index] -= step
                numeric[index] = (sides[0] - sides[1]) / 2e-5
            np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("rows", [(), (1,), (6,), (3, 2), (2, 1, 3), (0,), (2, 0)], ids=str)
@pytest.mark.parametrize("kind", ["labels", "probabilities"])
def test_leading_axes_are_samples(isa, dtype, rows, kind):
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((*rows, 4)).astype(dtype), rng.standard_normal((5, 4)).astype(dtype)
    target = rng.integers(0, 5, rows) if kind == "labels" else rng.random((*rows, 5)).astype(dtype)
    flat = linear_cross_entropy(
        X.reshape(-1, 4), W, target.reshape(-1, *np.shape(target)[len(rows) :]), reduction="none"
    )
    loss, _dW, db, dX = linear_cross_entropy(X, W, target, reduction="none", grad_input=True)
    assert loss.shape == rows and dX.shape == X.shape and db is None
    np.testing.assert_array_equal(loss.ravel(), flat.loss)
    mean = linear_cross_entropy(X, W, target, grad=False)
    np.testing.assert_allclose(mean.loss, loss.mean() if loss.size else nan, rtol=1e-6)
    assert mean.dW is mean.db is mean.dX is None


LAYOUTS = {
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "every second column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "Fortran": np.asfortranarray,
    "backwards": lambda x: x[::-1].copy()[::-1],
    "other byte order": lambda x: x.astype(x.dtype.newbyteorder()),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [SLICED[0], SLICED[3]], ids=str)
def test_no_layout_of_a_linear_layer_changes_a_bit(isa, dtype, shape, layout):
    (X, W, target), keywords = problem((shape, "mean", "probabilities", True, -100, 0.3, 0.02, 1.7), dtype)
    target = target.astype(dtype)
    want = linear_cross_entropy(X, W, target, **keywords, grad_input=True)
    change = LAYOUTS[layout]
    got = linear_cross_entropy(change(X), change(W), change(target), **keywords, grad_input=True)
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(ours, theirs)


SPOILT = {"nan": nan, "+inf": inf, "-inf": -inf}
SPOILT_CASES = list(itertools.product([[0, 1, 2], [-100, 1, 2], [-100] * 3], [False, True], [0.0, 0.3], [0.0, 0.1]))


@pytest.mark.parametrize("value", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("level", (*dispatch.available(), dispatch.REFERENCE))
def test_a_linear_layer_that_is_not_finite_has_pytorchs_loss(level, value):
    """The first row's scores are not, by way of its features; there is no warning."""
    pytest.importorskip("torch")
    X, W = np.array([[1.0, 0.5], [0.0, 1.0], [0.0, -1.0]]), np.array([[2.0, 0.3], [0.5, 1.0], [-1.0, 0.0]])
    X[0, 0] = value
    for target, weighted, smoothing, z_loss in SPOILT_CASES:
        keywords = {
            "linear_bias": np.zeros(3), "weight": np.array([0.5, 1.0, 2.0]) if weighted else None, "reduction": "none",
            "ignore_index": -100, "label_smoothing": smoothing, "z_loss": z_loss, "softcap": None,
        }  # fmt: skip
        with dispatch.using(level), warnings.catch_warnings():
            warnings.simplefilter("error")
            got = linear_cross_entropy(X, W, np.array(target), **keywords)
        want = torchs((X, W, np.array(target)), keywords)
        np.testing.assert_allclose(got.loss, want[0], rtol=1e-12)
        if target[0] >= 0:  # PyTorch multiplies an ignored row's NaN by 0
            np.testing.assert_array_equal(np.isnan(got.dW), np.isnan(want[1]))


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("target", [np.full(3, -100), np.zeros(0, int)], ids=["ignored", "empty"])
def test_a_linear_layer_without_samples_averages_to_nan(isa, dtype, target, reduction):
    X, W = np.ones((len(target), 4), dtype), np.ones((5, 4), dtype)
    got = linear_cross_entropy(X, W, target, linear_bias=np.ones(5), reduction=reduction, grad_input=True, z_loss=0.1)
    np.testing.assert_array_equal(got.loss, {"mean": nan, "sum": 0.0, "none": np.zeros(len(target))}[reduction])
    for gradient, shape in zip(got[1:], [(5, 4), (5,), X.shape], strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(shape, dtype))


def test_weights_that_sum_to_0_average_to_nan(isa, dtype):
    got = linear_cross_entropy(np.ones((2, 3), dtype), np.ones((2, 3)), [0, 1], weight=[0.0, 0.0])
    assert math.isnan(got.loss) and np.isnan(got.dW).all()


@pytest.mark.parametrize("kind", [np.float16, np.int8, ">f4", bool])
def test_the_dtype_of_input_decides(isa, kind):
    X, W = np.array([[1, 0, 1], [0, 1, 1]]).astype(kind), np.eye(3)
    got, want = (linear_cross_entropy(x, W, [0, 2], grad_input=True) for x in (X, X.astype(float)))
    assert got.dW.dtype == got.dX.dtype == (np.float32 if np.dtype(kind).char in "efb" else np.float64)
    check(got, want, 1e-6)


@pytest.mark.skipif(not dispatch.available(), reason="the reference holds the scores")
@pytest.mark.parametrize("keywords", [{}, {"softcap": 20.0}, {"grad_input": True, "softcap": 20.0}], ids=str)
def test_the_scores_never_exist(dtype, keywords):
    """Beside the gradients and some numbers a row a call takes 64 MiB; the scores would take 210 or 420."""
    N, D, K = 1500, 4, 35_000
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((N, D)).astype(dtype), rng.standard_normal((K, D)).astype(dtype)
    y = rng.integers(0, K, N)
    tracemalloc.start()
    linear_cross_entropy(X, W, y, **keywords)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 64 * 2**20 + (K + 2 * N) * (D + 1) * dtype.itemsize + 64 * N


X, W = np.zeros((2, 3)), np.zeros((4, 3))
WRONG = {
    "label": ((X, W, [0, 4]), {}, ValueError, r"target\[1\] = 4 is out of range: labels must be in 0..3"),
    "label of a position": ((np.zeros((2, 1, 3)), W, [[0], [9]]), {}, ValueError, r"target\[1, 0\] = 9"),
    "number of labels": ((X, W, [0, 1, 2]), {}, ValueError, r"labels of shape \(2,\) or probabilities of the scores'"),
    "float labels": ((X, W, [0.0, 1.0]), {}, TypeError, "integer labels"),
    "integer probabilities": ((X, W, np.zeros((2, 4), int)), {}, TypeError, "the scores' shape"),
    "shape of weights": ((X, W[:, :2], [0, 1]), {}, ValueError, r"linear_weight must be \(K, D\).*as input has"),
    "transposed weights": ((X, W.T, [0, 1]), {}, ValueError, r"linear_weight.*got shape \(3, 4\)"),
    "weights' axes": ((X, W[0], [0, 1]), {}, ValueError, "linear_weight must be 2-D"),
    "bias": ((X, W, [0, 1]), {"linear_bias": [1.0]}, ValueError, "linear_bias has 1 entries, but linear_weight has 4"),
    "scalar": ((1.0, W, 0), {}, TypeError, "input must be an array"),
    "no features": ((np.zeros((2, 0)), np.zeros((4, 0)), [0, 1]), {}, ValueError, "input has no features"),
    "complex": ((X + 0j, W, [0, 1]), {}, ValueError, "Complex data"),
    "class weights": (
        (X, W, [0, 1]),
        {"weight": [1.0]},
        ValueError,
        "weight has 1 entries, but the scores have 4 classes",
    ),
    "ignored class of probabilities": ((X, W, np.ones((2, 4))), {"ignore_index": 1}, ValueError, "ignore_index = 1"),
    "ignore_index": ((X, W, [0, 1]), {"ignore_index": 0.5}, TypeError, "ignore_index"),
    "reduction": ((X, W, [0, 1]), {"reduction": "average"}, ValueError, "reduction must be"),
    "smoothing": ((X, W, [0, 1]), {"label_smoothing": -0.1}, ValueError, "label_smoothing"),
    "z_loss": ((X, W, [0, 1]), {"z_loss": -1.0}, ValueError, "z_loss must be finite and not negative"),
    "z_loss's type": ((X, W, [0, 1]), {"z_loss": "1"}, TypeError, "z_loss must be a real number"),
    "softcap": ((X, W, [0, 1]), {"softcap": 0.0}, ValueError, "softcap must be positive and finite"),
    "small softcap": ((X.astype("f4"), W, [0, 1]), {"softcap": 1e-50}, ValueError, "positive and finite in float32"),
    "n_threads": ((X, W, [0, 1]), {"n_threads": 0}, ValueError, "n_threads"),
}


@pytest.mark.parametrize(("arguments", "keywords", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_of_a_linear_layer_are_refused(arguments, keywords, error, message):
    with pytest.raises(error, match=message):
        linear_cross_entropy(*arguments, **keywords)


def test_a_linear_layer_leaves_its_arguments_as_they_were(isa, dtype):
    (X, W, target), keywords = problem((SLICED[0], "mean", "labels", True, -100, 0.3, 0.02, 1.7), dtype)
    arrays = [X, W, target, keywords["linear_bias"], keywords["weight"]]
    before = [array.copy() for array in arrays]
    linear_cross_entropy(X, W, target, **keywords, grad_input=True)
    for array, copy in zip(arrays, before, strict=True):
        np.testing.assert_array_equal(array, copy)
