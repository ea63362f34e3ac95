"""Tensors of other libraries in the place of arrays: the same numbers, in the same kind of tensor."""

import sys
import types

import numpy as np
import pytest

import softmax_ext
from softmax_ext._inputs import tensors

N, D, K = 7, 5, 3


class Tensor:
    """The least that speaks DLPack: neither an array nor anything that NumPy's `asarray` could read."""

    __array__ = property()  # raises AttributeError, so hasattr says that there is none

    def __init__(self, array, device=(1, 0)):
        self.array, self.dlpack = array, device

    def __dlpack__(self, **keywords):
        return self.array.__dlpack__(**keywords)

    def __dlpack_device__(self):
        return self.dlpack

    def __array_namespace__(self):
        return types.SimpleNamespace(asarray=Tensor)


@pytest.fixture(params=["least", "torch", "jax.numpy"])
def kind(request):
    """How to make a tensor of an array, and its type."""
    if request.param == "least":
        return Tensor, Tensor, lambda x: x.array
    library = pytest.importorskip(request.param)
    return library.asarray, type(library.zeros(1)), np.asarray


def functions():
    rng = np.random.default_rng(3)
    Z, X, W, b = (rng.standard_normal(shape).astype("f4") for shape in ((N, K), (N, D), (K, D), K))
    y, (Y, s, c) = np.arange(N) % K, (rng.random(shape).astype("f4") for shape in ((N, K), N, K))
    for name in ("softmax", "log_softmax", "logsumexp"):
        yield name, (Z,), {"axis": 1}
        yield name, (Z,), {}
    yield "softmax", (np.arange(4, dtype=np.int32),), {}
    yield "logsumexp", (Z, 0, Y), {"return_sign": True}
    for target, reduction in ((y, "none"), (Y, "mean")):
        yield "cross_entropy", (Z, target, c), {"reduction": reduction}
        yield "cross_entropy_grad", (Z, target), {"weight": c, "reduction": reduction}
        yield "linear_cross_entropy", (X, W, target), {"linear_bias": b, "weight": c, "grad_input": True}
    yield "loss_grad", (X, y, W, b), {"sample_weight": s, "class_weight": c, "label_smoothing": 0.1}
    yield "loss_grad", (X, Y, W), {"offset": Z}
    yield "predict_proba", (X, W, b), {"n_threads": 1, "offset": Z}


CALLS = list(functions())


@pytest.mark.parametrize("call", range(len(CALLS)), ids=[name for name, *_ in CALLS])
def test_tensors_give_the_numbers_of_arrays_as_tensors(kind, call):
    make, its_type, back = kind
    name, arguments, keywords = CALLS[call]
    function = getattr(softmax_ext, name)

    def of(x):
        return make(x) if isinstance(x, np.ndarray) else x

    expected = function(*arguments, **keywords)
    found = function(*map(of, arguments), **{key: of(value) for key, value in keywords.items()})
    assert type(found) is type(expected) or not isinstance(expected, tuple)
    pair = (found, expected) if isinstance(expected, tuple) else ((found,), (expected,))
    for one, other in zip(*pair, strict=True):
        if isinstance(other, np.ndarray | np.generic):
            assert isinstance(one, its_type)
            np.testing.assert_array_equal(back(one), make_as(other, back, make))
        else:
            assert type(one) is type(other) and one == other


def make_as(array, back, make):
    """What the library makes of these numbers: JAX keeps no float64 unless it is told to."""
    return back(make(np.asarray(array)))


def test_the_first_argument_says_what_is_given_back(kind):
    make, _, _ = kind
    X, W = np.eye(3), np.eye(3)
    assert type(softmax_ext.predict_proba(X, np.asarray(W))) is np.ndarray
    assert type(softmax_ext.predict_proba(X, make(W))) is np.ndarray
    assert type(softmax_ext.predict_proba(make(X), W)) is type(make(X))


def test_results_are_written_into_tensors():
    torch = pytest.importorskip("torch")
    Z = torch.zeros((2, 4))
    assert softmax_ext.softmax(Z, axis=1, out=Z) is Z
    assert Z.tolist() == [[0.25] * 4] * 2
    loss, dlogits = softmax_ext.cross_entropy_grad(Z, torch.tensor([0, 3]), out=Z)
    assert dlogits is Z and type(loss) is float and Z[0, 0] == -0.375
    S = torch.empty((2, 4))
    assert softmax_ext.predict_proba(torch.zeros(2, 3), torch.zeros(4, 3), out=S) is S and S[1, 1] == 0.25


@pytest.mark.parametrize("name", ["softmax", "logsumexp", "cross_entropy", "loss_grad", "linear_cross_entropy"])
def test_other_devices_are_refused_by_name(name):
    elsewhere = Tensor(np.eye(3), device=(2, 1))
    more = {"cross_entropy": ([0, 1, 2],), "loss_grad": ([0, 1, 2], np.eye(3)),
            "linear_cross_entropy": (np.eye(3), [0, 1, 2])}.get(name, ())  # fmt: skip
    with pytest.raises(ValueError, match=r"is on the device 2, and softmax_ext computes on the CPU"):
        getattr(softmax_ext, name)(elsewhere, *more)
    elsewhere.device = "cuda:1"
    with pytest.raises(ValueError, match=r"W is on the device cuda:1"):
        softmax_ext.loss_grad(np.eye(3), [0, 1, 2], elsewhere)


def test_what_has_no_values_here_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(ValueError, match="x is on the device meta"):
        softmax_ext.softmax(torch.zeros(2, device="meta"))
    with pytest.raises(ValueError, match=r"pass logits.detach\(\), or use softmax_ext.torch"):
        softmax_ext.cross_entropy(torch.zeros(1, 2, requires_grad=True), torch.tensor([0]))
    with pytest.raises(ValueError, match=r"X \(Tensor\) cannot be read as an array: .*Float8"):
        softmax_ext.loss_grad(torch.zeros(1, 2, dtype=torch.float8_e5m2), [0], np.zeros((2, 2)))


@pytest.mark.parametrize("layout", ["C", "F", "rows apart", "backwards"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_tensors_of_two_bytes_and_of_any_layout_are_read(library, dtype, layout):
    pytest.importorskip("ml_dtypes")
    numpy_like = pytest.importorskip(library)
    X = np.random.default_rng(4).standard_normal((2 * N, D)).astype("f4")
    X, kind = numpy_like.asarray(X), getattr(numpy_like, dtype)
    X = X.to(kind) if library == "torch" else X.astype(kind)
    X = {"C": X[:N], "F": X[:D].T, "rows apart": X[::2], "backwards": X.T[1:].T}[layout]
    wide = X.float().numpy() if library == "torch" else np.asarray(X, np.float32)
    W = np.ones((K, wide.shape[1]), np.float32) * np.arange(K)[:, np.newaxis]
    S = softmax_ext.predict_proba(X, W)
    np.testing.assert_array_equal(np.asarray(S), softmax_ext.predict_proba(wide, W))
    assert type(S) is type(X)
    given = softmax_ext.softmax(X, axis=1)
    assert given.dtype == X.dtype and type(given) is type(X)
    np.testing.assert_allclose(np.asarray(given.float() if library == "torch" else given.astype("f4")),
                               softmax_ext.softmax(wide, axis=1), rtol=2**-5)  # fmt: skip


def test_bfloat16_is_written_into_and_needs_a_package(monkeypatch):
    torch = pytest.importorskip("torch")
    pytest.importorskip("ml_dtypes")
    Z = torch.zeros((2, 4), dtype=torch.bfloat16)
    assert softmax_ext.softmax(Z, axis=1, out=Z) is Z and Z.tolist() == [[0.25] * 4] * 2
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ValueError, match=r"X is of bfloat16, which NumPy has from ml_dtypes .* pass X.float\(\)"):
        softmax_ext.loss_grad(Z, [0, 1], np.zeros((3, 4)))


def test_jax_refuses_traced_values():
    jax = pytest.importorskip("jax")
    with pytest.raises(ValueError, match="traced array"):
        jax.jit(softmax_ext.softmax)(jax.numpy.zeros(3))


@pytest.mark.parametrize("set_it", ["", "1"])
def test_scipys_own_array_api_still_computes_what_it_did(set_it, run_python):
    """Where SciPy computes tensors that this package cannot, it still does."""
    pytest.importorskip("torch")
    code = """
import numpy as np, torch, softmax_ext, sys
x = torch.arange(3.0, requires_grad=True)
try:
    softmax_ext.logsumexp(x).backward()
except ValueError:
    print("refused")
else:
    np.testing.assert_allclose(x.grad.numpy(), softmax_ext.softmax(x.detach()).numpy(), rtol=1e-6)
    print("SciPy's")
array = np.arange(3.0)
assert type(softmax_ext.softmax(array)) is np.ndarray and type(softmax_ext.softmax(x.detach())) is torch.Tensor
assert type(softmax_ext.logsumexp(array)) is np.float64
"""
    assert run_python(code, SCIPY_ARRAY_API=set_it) == ("SciPy's" if set_it else "refused")


def test_no_library_of_tensors_is_imported(run_python):
    code = "import sys, softmax_ext; softmax_ext.softmax([1.0]); print({'torch', 'jax', 'scipy'} & set(sys.modules))"
    assert run_python(code) == "set()"


def test_estimators_take_tensors(kind):
    pytest.importorskip("sklearn")
    from softmax_ext.linear_model import LogisticRegression

    make, _, _ = kind
    rng = np.random.default_rng(0)
    X, y, s = rng.standard_normal((30, 4)).astype("f4"), np.arange(30) % 3, rng.random(30).astype("f4")
    expected = LogisticRegression().fit(X, y, s)
    model = LogisticRegression().fit(make(X), make(y), make(s))
    np.testing.assert_array_equal(model.coef_, expected.coef_)
    for ask in ("predict", "predict_proba", "decision_function", "predict_log_proba"):
        np.testing.assert_array_equal(getattr(model, ask)(make(X)), getattr(expected, ask)(X))
    soft = LogisticRegression().fit(make(X), make(expected.predict_proba(X)))
    np.testing.assert_array_equal(soft.coef_, LogisticRegression().fit(X, expected.predict_proba(X)).coef_)
    for given in ((0, X), (1, y), (2, s)):
        arguments = [X, y, s]
        arguments[given[0]] = Tensor(given[1], device=(2, 0))
        with pytest.raises(ValueError, match=f"{('X', 'y', 'sample_weight')[given[0]]} is on the device 2"):
            model.fit(*arguments)


def test_arrays_are_no_tensors():
    assert not any(map(tensors.is_tensor, (np.zeros(2), np.float32(1), [1.0], 1.0, None, np.ma.zeros(2))))
    assert tensors.read([1, 2], "x") == [1, 2]
