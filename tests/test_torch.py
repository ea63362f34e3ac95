"""softmax_ext.torch in PyTorch's place: its results, its errors, its autograd, its compiler, its own samples."""

import doctest
import inspect
import itertools
import pickle
import tracemalloc
import warnings
from typing import NamedTuple

import numpy as np
import pytest

from softmax_ext._autograd import vjp
from softmax_ext._core import dispatch

torch = pytest.importorskip("torch", minversion="2.13")
from torch import nn  # noqa: E402
from torch.nn import functional as theirs  # noqa: E402

from softmax_ext import torch as ours  # noqa: E402
from softmax_ext._autograd import functions  # noqa: E402

pytestmark = [
    pytest.mark.thread_unsafe,  # counts the kernels' runs
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning"),  # PyTorch's own use of it
    pytest.mark.skipif(dispatch.kernels is None, reason="without kernels all is PyTorch's own function"),
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
EPS = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}
REDUCTIONS = ["mean", "sum", "none"]


FEW, FEW_FLOPS = ours.FEW, ours.FEW_FLOPS


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch):
    """Tests are small: take what would be left to PyTorch for that."""
    monkeypatch.setattr(ours, "FEW", 0)
    monkeypatch.setattr(ours, "FEW_FLOPS", 0)


@pytest.fixture
def runs(monkeypatch):
    """One entry for each time that our kernels ran: a test that compares PyTorch with itself shows nothing."""
    entries = []
    for name in ("of_scores", "of_linear"):
        run = getattr(vjp, name)
        monkeypatch.setattr(
            vjp, name, lambda *args, run=run, name=name, **options: (entries.append(name), run(*args, **options))[1]
        )
    return entries


class Case(NamedTuple):
    """Scores with what they are compared with."""

    input: torch.Tensor
    target: torch.Tensor
    options: dict


def cases(shape, dtype, seed=0):
    """Scores of a shape with every kind of target, class weights and smoothing."""
    rng = torch.Generator().manual_seed(seed)
    axis = min(len(shape) - 1, 1)
    Z = (torch.randn(shape, generator=rng, dtype=torch.float64) * 4).to(dtype)
    y = torch.randint(0, shape[axis], (*shape[:axis], *shape[axis + 1 :]), generator=rng)
    some = torch.where(torch.rand(y.shape, generator=rng) < 0.3, -100, y)
    Y = (torch.rand(shape, generator=rng, dtype=torch.float64) * 1.5).to(dtype)  # rows that do not sum to one
    w = (torch.rand(shape[axis], generator=rng, dtype=torch.float64) + 0.1).to(dtype)
    for target, ignored in ((y, -100), (some, -100), (y, 1), (Y, -100)):
        for weight, smoothing in itertools.product((None, w), (0.0, 0.2)):
            yield Case(Z, target, {"weight": weight, "ignore_index": ignored, "label_smoothing": smoothing})


def double(x):
    return x.double() if isinstance(x, torch.Tensor) and x.is_floating_point() else x


def loss_and_gradients(function, leaves, target, options):
    """The loss, and the leaves' gradients where rows, if they are not reduced, have different upstream gradients."""
    leaves = [x.detach().requires_grad_() for x in leaves]
    loss = function(*leaves, target, **options)
    upstream = torch.linspace(-1, 2, loss.numel(), dtype=torch.float64).reshape(loss.shape).to(loss.dtype)
    return loss.detach(), *torch.autograd.grad(loss, leaves, upstream)


def assert_like_double(function, exact, leaves, target, options):
    """Compare with PyTorch's own function in double, up to the rounding of the result and of 8 ULP on the way."""
    got = loss_and_gradients(function, leaves, target, options)
    want = loss_and_gradients(
        exact, [double(x) for x in leaves], double(target), {name: double(x) for name, x in options.items()}
    )
    dtype = leaves[0].dtype
    for mine, theirs_ in zip(got, want, strict=True):
        assert mine.dtype == dtype and mine.shape == theirs_.shape
        theirs_ = theirs_.to(dtype).double()  # a sum may be beyond float16
        scale = float(theirs_.abs().nan_to_num().max())
        tolerance = EPS[dtype] / 2 + 32 * EPS[functions._computed(dtype)]
        torch.testing.assert_close(mine.double(), theirs_, rtol=tolerance, atol=tolerance * scale, equal_nan=True)


@pytest.mark.pairs
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape", [(7,), (1, 1), (5, 3), (70, 130), (3, 4, 5), (2, 3, 4, 5)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_cross_entropy_is_pytorchs(dtype, shape, reduction, runs):
    for case in cases(shape, dtype):
        options = {**case.options, "reduction": reduction}
        assert_like_double(ours.cross_entropy, theirs.cross_entropy, [case.input], case.target, options)
    assert len(runs) == 2 * 16


def test_cross_entropy_is_pytorchs_at_every_level(isa, runs):
    for case in cases((40, 33), torch.float32):
        assert_like_double(ours.cross_entropy, theirs.cross_entropy, [case.input], case.target, case.options)
    assert len(runs) == 2 * 16


def linear(x, W, b, target, **options):
    return ours.linear_cross_entropy(x, W, target, linear_bias=b, **options)


def linear_of_pytorch(x, W, b, target, **options):
    return theirs.linear_cross_entropy(x, W, target, linear_bias=b, **options)


@pytest.mark.pairs
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("sizes", [(None, 5, 4), (9, 1, 1), (9, 5, 4), (300, 17, 70), (50, 30, 200)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear_cross_entropy_is_pytorchs(dtype, sizes, reduction, runs):
    N, D, K = sizes
    rng = torch.Generator().manual_seed(0)
    shapes = ((D,) if N is None else (N, D), (K, D), (K,))
    leaves = [torch.randn(shape, generator=rng).to(dtype) for shape in shapes]
    for case in cases((K,) if N is None else (N, K), dtype):
        options = {**case.options, "reduction": reduction}
        if case.target.is_floating_point():
            options["ignore_index"] = None
        assert_like_double(linear, linear_of_pytorch, leaves, case.target, options)
    assert len(runs) == (2 if reduction == "none" else 1) * 16


LAYOUTS = {
    "columns": lambda x: x.t().contiguous().t(),
    "expanded rows": lambda x: x[:1].expand(x.shape),
    "steps of rows": lambda x: x.repeat_interleave(2, 0)[::2],
    "wide rows": lambda x: torch.cat([x, x], 1)[:, : x.shape[1]],
    "inside": lambda x: x.reshape(-1, 50, x.shape[1]).permute(0, 2, 1).contiguous(),
    "channels last": lambda x: x.reshape(-1, 50, x.shape[1]).permute(0, 2, 1),
}
COPIED = {
    "expanded classes": lambda x: x[:, :1].expand(x.shape),
    "steps of classes": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "permuted": lambda x: x.reshape(-1, 50, x.shape[1]).permute(2, 0, 1),
    "negated": lambda x: torch._neg_view(-x),
}


@pytest.mark.parametrize("layout", [*LAYOUTS, *COPIED])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_scores_of_any_layout_give_the_numbers_of_contiguous_ones(dtype, layout, runs):
    """N x K scores are not copied where the kernels can do without."""
    Z = (LAYOUTS | COPIED)[layout](torch.randn(4000, 70).to(dtype))
    y = torch.randint(0, Z.shape[1], (Z.shape[0], *Z.shape[2:]))
    contiguous = Z.detach().resolve_neg().contiguous()
    want = loss_and_gradients(ours.cross_entropy, [contiguous], y, {"reduction": "sum"})
    ours.cross_entropy(Z, y)  # the work space of the first call
    tracemalloc.start()
    try:
        ours.cross_entropy(Z, y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    got = loss_and_gradients(ours.cross_entropy, [Z], y, {"reduction": "sum"})
    assert len(runs) == 6 and got[1].stride() == torch.empty_like(Z).stride()
    torch.testing.assert_close(got, want, rtol=1e-6, atol=0)
    if layout in LAYOUTS and dtype not in ours.NARROW:
        assert peak < Z.numel() * Z.itemsize / 3


def test_targets_and_upstream_gradients_of_any_layout_are_taken(runs):
    Z, y, Y = torch.randn(30, 7, 4), torch.randint(0, 7, (4, 30)).t(), torch.rand(4, 7, 30).permute(2, 1, 0)
    for target in (y, Y):
        got, want = (
            torch.autograd.grad(f.cross_entropy(z, target, reduction="none"), z, torch.ones(()).expand(30, 4))
            for f, z in ((ours, Z.clone().requires_grad_()), (theirs, Z.clone().requires_grad_()))
        )
        torch.testing.assert_close(got, want)
    assert len(runs) == 4


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_rows_have_no_gradient_whatever_comes_from_above(reduction):
    Z, W = torch.randn(4, 3, requires_grad=True), torch.randn(3, 3, requires_grad=True)
    y = torch.tensor([0, -100, 2, -100])
    losses = [ours.cross_entropy(Z, y, reduction=reduction), ours.linear_cross_entropy(Z, W, y, reduction="none")]
    for loss in losses:
        (got,) = torch.autograd.grad(loss, Z, torch.full_like(loss, torch.inf))
        assert (got[[1, 3]] == 0).all() and not got[[0, 2]].isfinite().any()


@pytest.mark.parametrize("function", ["cross_entropy", "linear_cross_entropy"])
def test_a_batch_of_ignored_rows_has_no_gradient(function):
    Z, W = torch.randn(4, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    loss = getattr(ours, function)(*(Z, W) if "linear" in function else (Z,), torch.full((4,), -100))
    loss.backward()
    assert loss.isnan() and (Z.grad == 0).all()


def test_nothing_is_computed_that_needs_no_gradient(runs, monkeypatch):
    asked = []
    run = vjp.of_linear
    monkeypatch.setattr(vjp, "of_linear", lambda *a, **k: (asked.append((k["grad_input"], k["grad"])), run(*a, **k))[1])
    x, W, y = torch.randn(6, 4), torch.randn(5, 4), torch.randint(0, 5, (6,))
    leaf = {False: lambda t: t.detach(), True: lambda t: t.detach().requires_grad_()}
    for needs in itertools.product((False, True), repeat=2):
        loss = ours.linear_cross_entropy(leaf[needs[0]](x), leaf[needs[1]](W), y)
        assert loss.requires_grad == any(needs) and asked.pop() == needs and not asked
    with torch.no_grad():
        ours.linear_cross_entropy(leaf[True](x), leaf[True](W), y)
    assert asked.pop() == (False, False)
    ours.linear_cross_entropy(leaf[True](x), leaf[False](W), y, reduction="none").sum().backward()
    assert asked == [(False, False), (True, False)]
    del runs[:]
    ours.cross_entropy(x, torch.zeros(6, dtype=torch.int64))
    with torch.inference_mode():
        ours.cross_entropy(leaf[True](x), torch.zeros(6, dtype=torch.int64))
    assert len(runs) == 2


def test_a_linear_layer_never_has_all_its_scores():
    N, D, K = 4000, 8, 20_000  # of which all scores would take 320 MB
    x, W, y = torch.randn(N, D, requires_grad=True), torch.randn(K, D, requires_grad=True), torch.randint(0, K, (N,))
    for reduction in ("mean", "none"):
        tracemalloc.start()
        try:
            ours.linear_cross_entropy(x, W, y, reduction=reduction).sum().backward()
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak < 64 * 2**20


GRADIENT_CHECKS = [
    ("mean", 0.1, False), ("sum", 0.0, False), ("none", 0.0, True), ("none", 0.2, False), ("mean", 0.0, True),
]  # fmt: skip


@pytest.mark.parametrize("reduction, smoothing, probabilities", GRADIENT_CHECKS)
def test_derivatives_pass_gradcheck(reduction, smoothing, probabilities, runs):
    """The first and second are compared with differences, backward in batches and forward mode, in float64."""
    torch.manual_seed(0)
    x, W, b = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 2), (3, 2), (3,)))
    Z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    target = torch.rand(4, 3, dtype=torch.float64) if probabilities else torch.tensor([0, -100, 2, 1])
    options = {"weight": torch.rand(3, dtype=torch.float64), "reduction": reduction, "label_smoothing": smoothing}
    for function, leaves in (
        (lambda Z: ours.cross_entropy(Z, target, **options), (Z,)),
        (lambda x, W, b: linear(x, W, b, target, **options), (x, W, b)),
    ):
        del runs[:]
        assert torch.autograd.gradcheck(function, leaves, check_batched_grad=True, check_forward_ad=True)
        assert len(runs) > 10
        assert torch.autograd.gradgradcheck(function, leaves)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operators_pass_opcheck(dtype, reduction):
    """PyTorch itself checks their schema, their autograd, fake tensors, and what is traced forward and backward."""
    torch.manual_seed(0)
    x, W, b = (torch.randn(shape, dtype=dtype, requires_grad=True) for shape in ((6, 3), (5, 3), (5,)))
    Z, w = torch.randn(6, 5, dtype=dtype, requires_grad=True), torch.rand(5, dtype=dtype)
    y, Y = torch.tensor([0, -100, 2, 3, 4, 1]), torch.rand(6, 5, dtype=dtype)
    grad = torch.ones(6 if reduction == "none" else (), dtype=dtype)
    asked = [False] * 3 if reduction == "none" else [True] * 3
    for target, ignored in ((y, -100), (Y, -100)):
        options = w, reduction, ignored, 0.1
        plain = Z.detach(), x.detach(), W.detach(), b.detach()
        torch.library.opcheck(functions.cross_entropy, (Z, target, *options, dtype))
        torch.library.opcheck(functions.cross_entropy_vjp, (grad, plain[0], target, *options))
        torch.library.opcheck(functions.linear_cross_entropy, (x, W, target, b, *options, dtype, *asked))
        torch.library.opcheck(
            functions.linear_cross_entropy_vjp, (grad, *plain[1:3], target, plain[3], *options, True, False, True)
        )


def compiled(function, backend, **options):
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend, **options)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_compiled_calls_compute_what_uncompiled_ones_do(reduction, runs):
    """The graph has no break, and its shapes are open."""

    def step(x, W, y):
        Z = torch.tanh(x) @ W.T
        return ours.cross_entropy(Z, y, reduction=reduction).sum() + ours.linear_cross_entropy(
            x * 2, W, y, reduction=reduction
        ).sum(), Z

    traced = compiled(step, "aot_eager", dynamic=True)
    for N in (6, 9, 17):
        x, W, y = torch.randn(N, 3), torch.randn(5, 3), torch.randint(0, 5, (N,))
        results = []
        for run in (step, traced):
            del runs[:]
            leaves = [t.detach().requires_grad_() for t in (x, W)]
            loss, _ = run(*leaves, y)
            results.append([loss.detach(), *torch.autograd.grad(loss * 3, leaves)])
            assert sorted(runs) == ["of_linear"] * (2 if reduction == "none" else 1) + ["of_scores"] * 2
        torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)


def test_inductor_compiles_the_operators(runs):
    x, W, y = torch.randn(64, 8, requires_grad=True), torch.randn(50, 8, requires_grad=True), torch.arange(64) % 50
    run = compiled(lambda x, W: ours.linear_cross_entropy(x, W, y) + ours.cross_entropy(x @ W.T, y), "inductor")
    got = torch.autograd.grad(run(x, W) * 2, (x, W))
    assert runs == ["of_linear", "of_scores", "of_scores"]
    torch.testing.assert_close(got, torch.autograd.grad(theirs.cross_entropy(x @ W.T, y) * 4, (x, W)))


def transforms():
    f = torch.func
    Z, y, P = torch.randn(6, 5), torch.tensor([0, 1, 2, 3, 4, 1]), torch.rand(6, 5)
    x, W = torch.randn(6, 3), torch.randn(5, 3)
    yield "grad", lambda m: f.grad(lambda z: m.cross_entropy(z, y))(Z)
    yield "vmap", lambda m: f.vmap(m.cross_entropy)(Z, y)
    yield "jvp", lambda m: f.jvp(lambda z: m.cross_entropy(z, P), (Z,), (P,))[1]
    yield "jacrev", lambda m: f.jacrev(lambda z: m.cross_entropy(z, y, reduction="none"))(Z)
    yield "hessian", lambda m: f.hessian(lambda z: m.cross_entropy(z, y))(Z)
    yield "grad of each", lambda m: f.vmap(f.grad(m.cross_entropy), (0, 0))(Z, y)
    yield "linear grad", lambda m: f.grad(lambda W: m.linear_cross_entropy(x, W, y))(W)
    yield "linear jvp", lambda m: f.jvp(lambda W: m.linear_cross_entropy(x, W, y), (W,), (W,))[1]
    yield "compiled", lambda m: compiled(lambda z: f.grad(lambda q: m.cross_entropy(q, y))(z), "aot_eager")(Z)


@pytest.mark.parametrize("name", [name for name, _ in transforms()])
def test_transforms_are_pytorchs_own(name, runs):
    call = dict(transforms())[name]
    torch.testing.assert_close(call(ours), call(theirs))
    assert runs == []


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_double_backward_is_pytorchs_own(reduction):
    """With create_graph the first gradients have a history."""
    Z, x, W = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((6, 5), (6, 3), (5, 3)))
    y, seconds = torch.tensor([0, 1, 2, 3, 4, 1]), []
    for m in (ours, theirs):
        loss = m.cross_entropy(Z, y, reduction=reduction) + m.linear_cross_entropy(x, W, y, reduction=reduction) ** 2
        grads = torch.autograd.grad(loss.sum(), (Z, x, W), create_graph=True)
        seconds.append(torch.autograd.grad(sum(g.square().sum() for g in grads), (Z, x, W)))
    torch.testing.assert_close(*seconds)


@pytest.mark.parametrize("keep", [False, True])
def test_backward_again_gives_the_same_gradient(keep, runs):
    """A graph that is kept does although the first was added to in place; one that is not kept is gone."""
    x, y = torch.randn(6, 3), torch.tensor([0, 1, 2, 3, 4, 1])
    W = torch.randn(5, 3, requires_grad=True)
    loss = ours.linear_cross_entropy(x, W, y)
    loss.backward(retain_graph=keep)
    once = W.grad.clone()
    if not keep:
        with pytest.raises(RuntimeError, match="second time"):
            loss.backward()
        return
    W.grad.add_(5)
    loss.backward()
    torch.testing.assert_close(W.grad, 2 * once + 5)
    assert runs == ["of_linear"]


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointed_layers_have_the_same_gradient(reentrant, runs):
    from torch.utils.checkpoint import checkpoint

    x, y = torch.randn(6, 3, requires_grad=True), torch.tensor([0, 1, 2, 3, 4, 1])
    W = torch.randn(5, 3, requires_grad=True)

    def step(x, W):
        return ours.linear_cross_entropy(x.tanh(), W, y) + ours.cross_entropy(x @ W.T, y)

    got = torch.utils.checkpoint.checkpoint(step, x, W, use_reentrant=reentrant)
    got.backward()
    assert checkpoint and len(runs) == 5  # forward twice, and the scores' backward
    torch.testing.assert_close((x.grad, W.grad), torch.autograd.grad(step(x, W), (x, W)))


@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("dtypes", [*itertools.product(DTYPES[:1] + DTYPES[2:], repeat=2)], ids=str)
def test_autocast_rounds_no_scores(dtypes, probabilities, runs):
    """The loss is float32 and the gradients are of what they are for; scores are not rounded on the way."""
    x, W = torch.randn(6, 3).to(dtypes[0]).requires_grad_(), torch.randn(5, 3).to(dtypes[1]).requires_grad_()
    Z = torch.randn(6, 5).to(dtypes[0]).requires_grad_()
    y = torch.rand(6, 5).to(dtypes[1]) if probabilities else torch.tensor([0, 1, 2, 3, 4, 1])
    w = torch.rand(5).to(dtypes[1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = [ours.cross_entropy(Z, y, w), ours.linear_cross_entropy(x, W, y, weight=w)]
        wanted = theirs.cross_entropy(Z, y, w)
    assert losses[0].dtype == losses[1].dtype == wanted.dtype
    assert wanted.dtype == (torch.float32 if runs else dtypes[0])
    exact = theirs.cross_entropy(x.double() @ W.double().T, double(y), w.double())
    torch.testing.assert_close(losses[0], wanted)
    torch.testing.assert_close(losses[1].double(), exact, rtol=1e-6, atol=1e-6)
    for loss, want, leaves in ((losses[0], wanted, [Z]), (losses[1], exact, [x, W])):
        tolerance = max(EPS[leaf.dtype] for leaf in leaves)
        got, want = torch.autograd.grad(loss, leaves), torch.autograd.grad(want, leaves)
        torch.testing.assert_close(got, want, rtol=2 * tolerance, atol=2 * tolerance)


def test_a_gradient_scaler_saves_small_gradients_in_float16():
    """Of a mean over 100000 rows they are below what float16 holds, unless the scale comes before the rounding."""
    N = 100_000
    x, W, y = torch.ones(N, 1, dtype=torch.float16), torch.zeros(2, 1, dtype=torch.float16), torch.arange(N) % 2
    x, W = x.requires_grad_(), torch.stack([W[0], W[1] + 0.001]).requires_grad_()
    for loss, leaf in ((ours.cross_entropy(x @ W.T, y), W), (ours.linear_cross_entropy(x, W, y), x)):
        (gradient,) = torch.autograd.grad(loss.float() * 2**12, leaf)
        assert gradient.isfinite().all() and (gradient != 0).all()


@pytest.mark.parametrize("function", ["cross_entropy", "linear_cross_entropy"])
def test_threads_are_the_fewer_of_both(function, monkeypatch):
    seen = []
    for name in ("of_scores", "of_linear"):
        run = getattr(vjp, name)
        monkeypatch.setattr(vjp, name, lambda *a, run=run, **k: (seen.append(k.get("threads", a[-1])), run(*a, **k))[1])
    monkeypatch.setattr(functions.threads, "effective", lambda: 3)
    before, results = torch.get_num_threads(), []
    x, W, y = torch.randn(3000, 40), torch.randn(90, 40), torch.randint(0, 40, (3000,))
    try:
        for count in (1, 2, 4):
            torch.set_num_threads(count)
            results.append(getattr(ours, function)(*(x, W) if "linear" in function else (x,), y))
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2, 3] and torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


FORKS = """
import torch
from softmax_ext import torch as ours
from softmax_ext._core.threads import effective

Z, y = torch.randn(5000, 300), torch.randint(0, 300, (5000,))

def gradient():
    z = Z.clone().requires_grad_()
    (ours.cross_entropy(z, y) + ours.linear_cross_entropy(z, z[:300], y)).backward()
    return z.grad

class Gradients(torch.utils.data.Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, i):
        if i == 5:
            torch.set_num_threads(2)  # a worker has one, unless it asks for more
        return gradient()

torch.randn(600, 600) @ torch.randn(600, 600)  # starts PyTorch's team
want = gradient()  # and ours
for again in range(2):
    loader = torch.utils.data.DataLoader(Gradients(), num_workers=2, multiprocessing_context="fork")
    assert all(torch.equal(got[0], want) for got in loader)
    assert torch.equal(gradient(), want)
print(effective())
"""


def test_data_loaders_forked_workers(run_python):
    """They end, and give the parent's bits; before, between and after them the parent computes on its own threads."""
    assert int(run_python(FORKS, timeout=100)) >= 1


REFUSED = {
    "label beyond": lambda m, Z, W: m.cross_entropy(Z, torch.tensor([0, 1, 2, 5])),
    "label below": lambda m, Z, W: m.cross_entropy(Z, torch.tensor([0, -7, 2, 4]), reduction="none"),
    "label of one row": lambda m, Z, W: m.cross_entropy(Z[0], torch.tensor(5)),
    "labels of 32 bits": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int32)),
    "too few labels": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(3, dtype=torch.int64)),
    "float labels": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4)),
    "integer probabilities": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, 5, dtype=torch.int64)),
    "ignored probabilities": lambda m, Z, W: m.cross_entropy(Z, Z.detach(), ignore_index=1),
    "short weights": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int64), torch.ones(4)),
    "double weights": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int64), torch.ones(5).double()),
    "reduction": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int64), reduction="average"),
    "smoothing": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int64), label_smoothing=1.5),
    "ignore_index": lambda m, Z, W: m.cross_entropy(Z, torch.zeros(4, dtype=torch.int64), ignore_index=0.5),
    "no target": lambda m, Z, W: m.cross_entropy(Z, None),
    "no linear target": lambda m, Z, W: m.linear_cross_entropy(Z, W, None),
    "no weights": lambda m, Z, W: m.linear_cross_entropy(Z, None, torch.zeros(4, dtype=torch.int64)),
    "no tensor": lambda m, Z, W: m.cross_entropy(Z, [0, 0, 0, 0]),
    "array": lambda m, Z, W: m.cross_entropy(np.zeros((4, 5)), torch.zeros(4, dtype=torch.int64)),
    "no scores": lambda m, Z, W: m.cross_entropy(torch.zeros(()), torch.zeros((), dtype=torch.int64)),
    "linear label": lambda m, Z, W: m.linear_cross_entropy(Z, W, torch.tensor([0, 1, 2, 3])),
    "linear labels of 32 bits": lambda m, Z, W: m.linear_cross_entropy(Z, W, torch.zeros(4, dtype=torch.int32)),
    "linear features": lambda m, Z, W: m.linear_cross_entropy(Z, W[:, :4], torch.zeros(4, dtype=torch.int64)),
    "linear dtype": lambda m, Z, W: m.linear_cross_entropy(Z, W.double(), torch.zeros(4, dtype=torch.int64)),
    "linear bias": lambda m, Z, W: m.linear_cross_entropy(
        Z, W, torch.zeros(4, dtype=torch.int64), linear_bias=torch.ones(4)
    ),
    "linear axes": lambda m, Z, W: m.linear_cross_entropy(Z[None], W, torch.zeros(1, 4, dtype=torch.int64)),
    "linear ignored": lambda m, Z, W: m.linear_cross_entropy(Z, W, torch.rand(4, 3), ignore_index=-100),
    "positional bias": lambda m, Z, W: m.linear_cross_entropy(Z, W, torch.zeros(4, dtype=torch.int64), torch.ones(3)),
}


@pytest.mark.parametrize("what", REFUSED)
def test_errors_are_pytorchs(what):
    Z, W = torch.randn(4, 5, requires_grad=True), torch.randn(3, 5)
    with pytest.raises(Exception) as wanted:
        REFUSED[what](theirs, Z, W)
    with pytest.raises(wanted.type) as got:
        REFUSED[what](ours, Z, W)
    assert got.type is wanted.type
    if wanted.type is IndexError:
        assert str(got.value).startswith(str(wanted.value))


def test_a_label_out_of_range_is_named_with_its_place():
    y = torch.tensor([[0, 1, 2], [3, 2, 9]])
    message = r"^Target 9 is out of bounds. It is target\[1, 2\]: labels must be in 0..4, or ignore_index = -100$"
    with pytest.raises(IndexError, match=message):
        ours.cross_entropy(torch.zeros(2, 5, 3), y)


class Subclass(torch.Tensor):
    pass


LEFT = {
    "integer scores": lambda Z, y: (Z.int(), y),
    "half labels": lambda Z, y: (Z, y.to(torch.uint8)),
    "meta": lambda Z, y: (Z.to("meta"), y.to("meta")),
    "subclass": lambda Z, y: (Z.as_subclass(Subclass), y),
    "differentiable targets": lambda Z, y: (Z, Z.softmax(1).requires_grad_()),
    "empty": lambda Z, y: (Z[:0], y[:0]),
    "complex": lambda Z, y: (Z.to(torch.complex64), y),
}


@pytest.mark.parametrize("what", LEFT)
def test_what_is_left_to_pytorch(what, runs, monkeypatch):
    """It gets all arguments as they are."""
    arguments = LEFT[what](torch.randn(4, 5), torch.tensor([0, 1, 2, 3]))
    calls = []
    monkeypatch.setattr(theirs, "cross_entropy", lambda *given: calls.append(given))
    ours.cross_entropy(*arguments, None, True, -7, False, "sum", 0.5)
    ours.cross_entropy(*arguments, reduction="sum", label_smoothing=0.5)
    expected = [(*arguments, None, True, -7, False, "sum", 0.5), (*arguments, None, None, -100, None, "sum", 0.5)]
    assert runs == [] and len(calls) == 2
    for got, want in zip(sum(calls, ()), sum(expected, ()), strict=True):
        assert got is want or (not isinstance(want, torch.Tensor) and got == want)


def test_deprecated_reductions_are_pytorchs():
    Z, y = torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
    with pytest.warns(UserWarning, match="deprecated"):
        assert ours.cross_entropy(Z, y, size_average=False) == theirs.cross_entropy(Z, y, reduction="sum")


def test_too_few_to_pay_are_pytorchs(runs, monkeypatch):
    monkeypatch.setattr(ours, "FEW", FEW)
    monkeypatch.setattr(ours, "FEW_FLOPS", FEW_FLOPS)
    for N, K, run in ((64, 10, 0), (4096, 10, 1), (64, 1000, 0), (1024, 1000, 1)):
        del runs[:]
        ours.cross_entropy(torch.zeros(N, K), torch.zeros(N, dtype=torch.int64))
        assert len(runs) == run
    for N, D, K, run in ((64, 128, 100, 0), (256, 256, 1000, 1)):
        del runs[:]
        ours.linear_cross_entropy(torch.zeros(N, D), torch.zeros(K, D), torch.zeros(N, dtype=torch.int64))
        assert len(runs) == run


def test_linear_weights_of_more_axes_and_chunks_are_pytorchs_or_ours(runs):
    x, W, y = torch.randn(4, 5), torch.randn(3, 2, 5), torch.randint(0, 3, (4, 2))
    torch.testing.assert_close(ours.linear_cross_entropy(x, W, y), theirs.linear_cross_entropy(x, W, y))
    assert runs == []
    options = nn.LinearCrossEntropyOptions()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PyTorch's warns that it ignores its chunks
        got = ours.linear_cross_entropy(x, W[:, 0], y[:, 0], options=options, label_smoothing=0.1)
    torch.testing.assert_close(got, theirs.linear_cross_entropy(x, W[:, 0], y[:, 0], label_smoothing=0.1))
    assert runs == ["of_linear"]


@pytest.mark.parametrize("name", ["cross_entropy", "linear_cross_entropy"])
def test_signatures_are_pytorchs(name):
    def parameters(function):
        return [(p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()]

    assert parameters(getattr(ours, name)) == parameters(getattr(theirs, name))


def test_modules_have_pytorchs_state_and_losses(runs):
    torch.manual_seed(0)
    w, y, Z = torch.rand(5), torch.randint(0, 5, (7,)), torch.randn(7, 5)
    for options in ({}, {"weight": w, "reduction": "sum"}, {"label_smoothing": 0.1, "ignore_index": 2}):
        mine, yours = ours.CrossEntropyLoss(**options), nn.CrossEntropyLoss(**options)
        torch.testing.assert_close(pickle.loads(pickle.dumps(mine))(Z, y), yours(Z, y))
        assert repr(mine) == repr(yours) and isinstance(mine, nn.CrossEntropyLoss)
    for options in ({"bias": True, "weight": w}, {"out_features": (2,), "bias": True}, {"dtype": torch.float64}):
        mine, yours = ours.LinearCrossEntropyLoss(3, 5, **options), nn.LinearCrossEntropyLoss(3, 5, **options)
        yours.load_state_dict(mine.state_dict())
        x = torch.randn(7, 3, dtype=options.get("dtype"))
        target = torch.randint(0, 5, (7, *options.get("out_features", ())))
        torch.testing.assert_close(mine(x, target), yours(x, target))
        mine(x, target).backward()
        assert mine.linear.weight.grad is not None and repr(mine) == repr(yours)
    assert len(runs) == 3 + 4


def pytorchs_own_samples():
    pytest.importorskip("expecttest")  # which PyTorch's own tests import
    from torch.testing._internal.common_methods_invocations import op_db

    return {op.name: op for op in op_db if op.name.endswith("functional.cross_entropy") or "linear_cross" in op.name}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pytorchs_own_samples_give_its_results(dtype, runs):
    """They are the inputs by which PyTorch tests its functions and its modules."""
    found = pytorchs_own_samples()
    assert "nn.functional.cross_entropy" in found
    tolerance = {"rtol": 4 * EPS[dtype], "atol": 8 * EPS[dtype]}
    for op in found.values():
        name = op.name.rpartition(".")[2]
        for sample in op.sample_inputs("cpu", dtype, requires_grad=True):
            results = []
            for module in (ours, theirs):
                loss = getattr(module, name)(sample.input, *sample.args, **sample.kwargs)
                leaves = [t for t in (sample.input, *sample.args) if isinstance(t, torch.Tensor) and t.requires_grad]
                results.append((loss, torch.autograd.grad(loss.sum(), leaves)))
            torch.testing.assert_close(*results, **tolerance, equal_nan=True)
    from torch.testing._internal.common_modules import module_db

    for info in module_db:
        if info.module_cls not in (nn.CrossEntropyLoss, nn.LinearCrossEntropyLoss) or dtype not in info.dtypes:
            continue
        cls = getattr(ours, info.module_cls.__name__)
        for sample in info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=True):
            build, call = sample.constructor_input, sample.forward_input
            mine, yours = (c(*build.args, **build.kwargs).to(dtype) for c in (cls, info.module_cls))
            mine.load_state_dict(yours.state_dict())
            got, want = mine(*call.args, **call.kwargs), yours(*call.args, **call.kwargs)
            torch.testing.assert_close(got, want, **tolerance, equal_nan=True)
    assert len(runs) > 50


def test_examples_of_torch_run():
    assert doctest.testmod(ours) == (0, 21)
