"""softmax, log_softmax and logsumexp against SciPy: values, shapes, dtypes, warnings, errors; out, threads, digits."""

import inspect
import os
import signal
import subprocess
import sys
import time
import warnings

import hypothesis
import hypothesis.strategies as st
import mpmath
import numpy as np
import pytest
from scipy import special

import softmax_ext
from softmax_ext._core import dispatch
from softmax_ext.special import _rearranged

NAMES = ["softmax", "log_softmax", "logsumexp"]
needs_kernels = pytest.mark.skipif(dispatch.kernels is None, reason="all is SciPy's")
inf, nan = np.inf, np.nan
# What SciPy warns of in one order of a row's scores and not in another.
BY_ORDER = {"log_softmax": {(RuntimeWarning, "overflow encountered in reduce")}}


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


def outcome(function, *arguments, **keywords):
    """The result or the error, and the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = function(*arguments, **keywords)
        except Exception as error:  # whatever it is, it is compared
            return type(error), str(error)
    return result, {(warning.category, str(warning.message)) for warning in caught}


def assert_like_scipy(name, x, *arguments, **keywords):
    got, warned = outcome(getattr(softmax_ext, name), x, *arguments, **keywords)
    want, expected = outcome(getattr(special, name), x, *arguments, **keywords)
    if isinstance(want, type):
        assert (got, warned) == (want, expected)
        return
    by_order = BY_ORDER.get(name, set())
    assert warned - by_order == expected - by_order
    assert type(got) is type(want) and got.dtype == want.dtype and got.shape == want.shape
    if want.dtype.kind != "f":
        np.testing.assert_allclose(got, want, rtol=1e-12)
        return
    # SciPy's own sums of n numbers err by some eps times the root of n; a logarithm passes that on undivided.
    limits = np.finfo(want.dtype)
    rtol = float(limits.eps) * (20 + 2 * np.size(x) ** 0.5)
    np.testing.assert_allclose(got, want, rtol=rtol, atol=limits.tiny if name == "softmax" else rtol)


def test_signatures_are_scipys(name):
    ours, theirs = (inspect.signature(getattr(module, name)).parameters for module in (softmax_ext, special))
    assert [(p.name, p.default) for p in theirs.values()] == [(p.name, p.default) for p in ours.values()][: len(theirs)]
    assert list(ours)[len(theirs) :] == ["out", "n_threads"]


LAYOUTS = {
    "C": lambda x: x,
    "Fortran": np.asfortranarray,
    "every second": lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
    "every second row": lambda x: np.repeat(x, 2, axis=0)[::2],
    "backwards": lambda x: x[..., ::-1].copy()[..., ::-1],
    "rows backwards": lambda x: x[::-1].copy()[::-1],
    "axes in another order": lambda x: np.moveaxis(np.moveaxis(x, 0, -1).copy(), -1, 0),
    "padded rows": lambda x: np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, 3)])[..., :-3],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "byte-swapped": lambda x: x.astype(x.dtype.newbyteorder()),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}  # fmt: skip
WRITEABLE = list(LAYOUTS)[:8]
SPECIALS = {
    "none": [],
    "-inf": [-inf],
    "+inf": [inf],
    "nan": [nan],
    "all": [-inf, inf, nan, 1e30, -1e30],
    "huge": [1, -1],  # times the largest number
}


@st.composite
def arrays(draw):
    """Scores of one to four axes, in some layout, and an axis or axes."""
    ndim = draw(st.integers(1, 4))
    sizes = st.one_of(st.integers(1, 5), st.integers(1, 40 if ndim > 2 else 300))
    shape = tuple(draw(st.lists(sizes, min_size=ndim, max_size=ndim)))
    while np.prod(shape) > 40_000:
        shape = tuple(max(n // 2, 1) for n in shape)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    dtype = draw(st.sampled_from([np.float32, np.float64]))
    x = (rng.standard_normal(shape) * draw(st.sampled_from([0, 1, 30]))).astype(dtype)
    kind = draw(st.sampled_from(list(SPECIALS)))
    if SPECIALS[kind]:
        where = rng.random(shape) < draw(st.sampled_from([0.01, 0.2, 0.9, 1]))
        values = np.array(SPECIALS[kind]) * (np.finfo(dtype).max if kind == "huge" else 1)
        x[where] = rng.choice(values, where.sum()).astype(dtype)
    axes = st.lists(st.integers(-ndim, ndim - 1), min_size=1, max_size=ndim, unique_by=lambda d: d % ndim)
    axis = draw(st.one_of(st.none(), st.integers(-ndim, ndim - 1), axes.map(tuple)))
    return LAYOUTS[draw(st.sampled_from(list(LAYOUTS)))](x), axis


@pytest.mark.thread_unsafe  # the level is every thread's
@pytest.mark.parametrize("level", dispatch.available() or (dispatch.REFERENCE,))
@pytest.mark.parametrize("name", NAMES)
@hypothesis.settings(max_examples=max(200, hypothesis.settings().max_examples))  # of nine functions and levels
@hypothesis.given(arrays())
def test_functions_are_scipys(level, name, drawn):
    x, axis = drawn
    with dispatch.using(level):
        assert_like_scipy(name, x, axis)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("special_value", [nan, inf, -inf, "top"])
@pytest.mark.parametrize("axis", [0, 1])
def test_a_special_value_anywhere_is_as_scipys(isa, name, dtype, axis, special_value):
    """It stands at every position of rows of all lengths up to four vectors and beyond.

    The other rows are not touched by it.
    """
    for K in (*range(1, 68), 127, 128, 129, 200):
        x = np.random.default_rng(K).standard_normal((K, K)).astype(dtype)
        np.fill_diagonal(x, np.finfo(dtype).max if special_value == "top" else special_value)
        assert_like_scipy(name, x, axis)
        x = np.vstack([x, x])[: K + K // 2] if axis == 1 else np.hstack([x, x])[:, : K + K // 2]
        assert_like_scipy(name, x, axis)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("row", [[inf, 100, -inf], [nan, 100], [inf, 1000], [-inf, -inf], [inf, -inf], [nan, inf]])
@pytest.mark.parametrize("repeats", [1, 100])
def test_warnings_of_one_row_are_scipys(isa, name, dtype, row, repeats):
    x = np.array(row * repeats, dtype)
    assert_like_scipy(name, x)
    assert_like_scipy(name, np.array([x, np.zeros_like(x)]), 1)
    assert_like_scipy(name, np.array([x, np.zeros_like(x)]).T.copy(), 0)


@needs_kernels
def test_a_sum_that_overflows_beside_inf_is_silent_in_every_order(isa, dtype):
    x = np.full(3, np.log(np.finfo(dtype).max) * 0.9999, dtype)
    x[0] = inf
    theirs = [outcome(special.log_softmax, row)[1] for row in (x, x[::-1].copy())]
    assert theirs[1] - theirs[0] == BY_ORDER["log_softmax"]
    for row in (x, x[::-1].copy(), np.tile(x, 1000)):
        assert_like_scipy("log_softmax", row)
        assert outcome(softmax_ext.log_softmax, row)[1] == theirs[0]


@needs_kernels
def test_errstate_decides_what_becomes_of_a_warning(isa, dtype):
    x = np.full(3, -inf, dtype)
    with np.errstate(invalid="ignore"):
        assert np.isnan(softmax_ext.softmax(x)).all()
    with np.errstate(invalid="raise"), pytest.raises(FloatingPointError):
        softmax_ext.softmax(x)


OTHERS = {
    "list": [1.0, 2.0], "nested tuple": ((1, 2), (3, 4)), "scalar": 3.0, "0-d": np.array(3.0, np.float32), "int": 3,
    "int8": np.array([[-100, 100]], np.int8), "int64": np.arange(6).reshape(2, 3), "uint8": np.array([3, 5], np.uint8),
    "float16": np.array([1, 2], np.float16), "longdouble": np.array([1, 2], np.longdouble),
    "bool": np.array([True, False]), "complex": np.array([1 + 2j, 3]), "object": np.array([1.0, 2.0], object),
    "masked": np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), "matrix": np.array([[1.0, 2.0]]).view(np.memmap),
    "empty": np.empty((0, 3)), "empty rows": np.empty((3, 0)), "strings": np.array(["a"]), "none": None,
}  # fmt: skip


@pytest.mark.pairs
@pytest.mark.parametrize("x", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("axis", [None, 0, -1, 1, 2, (0, 1), (), (0, 0), 0.5, np.int64(0), True, "x"], ids=repr)
def test_what_is_left_to_scipy_is_scipys(name, x, axis):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert_like_scipy(name, x, axis)


@pytest.mark.parametrize("axis", [1, -2, (0, 0), (0, 2), ()], ids=repr)
def test_odd_axes_of_a_float_array_are_as_scipys(isa, name, axis):
    assert_like_scipy(name, np.arange(3.0), axis)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("return_sign", [False, True])
@pytest.mark.parametrize("b", [None, 2.0, [[1.0], [-3.0]]], ids=repr)
@pytest.mark.parametrize("axis", [None, 0, 1, (0, 1), (2, 0), (0, 1, 2)], ids=repr)
def test_arguments_of_logsumexp_are_scipys(isa, dtype, axis, b, return_sign, keepdims):
    a = np.random.default_rng(0).standard_normal((3, 2, 5)).astype(dtype)
    got = softmax_ext.logsumexp(a, axis, b, keepdims, return_sign)
    want = special.logsumexp(a, axis, b, keepdims, return_sign)
    assert type(got) is type(want)
    for ours, theirs in zip(got, want, strict=True) if return_sign else [(got, want)]:
        assert type(ours) is type(theirs) and ours.dtype == theirs.dtype and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=20 * np.finfo(theirs.dtype).eps)


def shape_of_result(name, shape, axis):
    return np.delete(shape, axis) if name == "logsumexp" else shape


@pytest.mark.pairs(3)
@pytest.mark.parametrize(
    "layout", [name for name in LAYOUTS if name not in ("broadcast", "byte-swapped", "unaligned", "read-only")]
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_out_of_any_layout_is_written_and_nothing_else(isa, name, dtype, axis, layout):
    function = getattr(softmax_ext, name)
    x = np.random.default_rng(0).standard_normal((5, 33, 20)).astype(dtype)
    want = function(x, axis)
    out = LAYOUTS[layout](np.full(want.shape, nan, dtype))
    memory = out if out.base is None else out.base
    before = np.isnan(memory).sum()
    assert function(x, axis, out=out) is out
    np.testing.assert_array_equal(out, want)
    assert before - np.isnan(memory).sum() == out.size


@pytest.mark.pairs(3)
@pytest.mark.parametrize("shape", [(7,), (40, 3), (40, 10), (40, 128), (9, 300), (5, 7, 33), (3, 200, 70)], ids=str)
@pytest.mark.parametrize("layout", ["C", "Fortran", "every second", "every second row", "rows backwards"])
@pytest.mark.parametrize("name", NAMES[:2])
def test_out_may_be_the_scores(isa, name, dtype, shape, layout):
    function = getattr(softmax_ext, name)
    original = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    for axis in [*range(len(shape)), None]:
        x = LAYOUTS[layout](original.copy())
        assert function(x, axis, out=x) is x
        np.testing.assert_array_equal(x, function(LAYOUTS[layout](original.copy()), axis))


@pytest.mark.parametrize("name", NAMES[:2])
def test_out_may_overlap_the_scores(isa, name, dtype):
    function = getattr(softmax_ext, name)
    original = np.random.default_rng(0).standard_normal((41, 10)).astype(dtype)
    for view, onto in [(slice(1, None), slice(-1)), (slice(-1), slice(1, None)), (slice(None), slice(None, None, -1))]:
        memory = original.copy()
        function(memory[view], 1, out=memory[onto])
        np.testing.assert_array_equal(memory[onto], function(original[view].copy(), 1))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.empty((3, 2)), "out must be"),
        (np.empty((2, 3), np.float32), "out must be"),
        (np.empty((2, 3), np.dtype(np.float64).newbyteorder()), "out must be"),
        (np.frombuffer(bytes(48)).reshape(2, 3), "aligned and writeable"),
        ([[0.0] * 3] * 2, "NumPy array"),
        (np.ma.zeros((2, 3)), "NumPy array"),
    ],
)
@pytest.mark.parametrize("x", [np.zeros((2, 3)), np.zeros((2, 3), int)], ids=["here", "SciPy"])
def test_a_wrong_out_of_scores_is_refused(name, x, out, message):
    keywords = {"keepdims": True} if name == "logsumexp" else {}
    x = x if name != "logsumexp" else np.zeros((2, 3, 4), x.dtype)
    if name == "logsumexp":
        out = out[:, :, np.newaxis] if isinstance(out, np.ndarray) else out
    with pytest.raises((ValueError, TypeError), match=message):
        getattr(softmax_ext, name)(x, -1, out=out, **keywords)


def test_out_for_two_results_is_refused():
    with pytest.raises(ValueError, match="return_sign"):
        softmax_ext.logsumexp(np.zeros(3), return_sign=True, out=np.zeros(()))


@pytest.mark.parametrize("n_threads", [0, 1.5])
def test_a_wrong_n_threads_is_refused(name, n_threads):
    with pytest.raises((ValueError, TypeError), match="n_threads"):
        getattr(softmax_ext, name)(np.zeros(3), n_threads=n_threads)


SHAPES = [
    ((20_011, 10), 1),
    ((2011, 100), 1),
    ((201, 1003), 1),
    ((13, 20_011), 0),
    ((301, 1003), 0),
    ((70, 11, 301), 1),
]


@pytest.mark.pairs(3)
@pytest.mark.parametrize(("shape", "axis"), SHAPES, ids=str)
def test_no_bit_depends_on_the_threads(isa, name, dtype, shape, axis):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    one, *others = (getattr(softmax_ext, name)(x, axis, n_threads=n) for n in (1, 2, 3, 8))
    for other in others:
        np.testing.assert_array_equal(other, one)


@pytest.mark.parametrize("shape", [(20_011, 10), (2011, 100), (201, 1003)], ids=str)
def test_no_bit_depends_on_the_other_rows(isa, name, dtype, shape):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    function = getattr(softmax_ext, name)
    together = function(x, 1)
    for start, stop in [(0, 1), (3, 20), (shape[0] - 7, shape[0])]:
        np.testing.assert_array_equal(function(x[start:stop], 1), together[start:stop])


@pytest.mark.parametrize("K", [2, 10, 128, 129, 1003])
@pytest.mark.parametrize("axis", [0, 1])
@needs_kernels
def test_log_softmax_of_the_winner_keeps_its_digits(isa, tolerance, K, axis):
    """SciPy returns 0 there."""
    margins = np.linspace(5, 80 if tolerance.dtype == np.float32 else 700, 40).astype(tolerance.dtype)
    x = np.random.default_rng(0).uniform(-2, 0, (40, K)).astype(tolerance.dtype) - margins[:, np.newaxis]
    x[:, K // 2] = 0
    exact = -np.log1p(np.exp(np.delete(x, K // 2, 1).astype(np.longdouble)).sum(axis=1))
    x = x if axis else x.T.copy()
    got = np.moveaxis(softmax_ext.log_softmax(x, axis), axis, 1)[:, K // 2]
    np.testing.assert_allclose(got, exact.astype(float), rtol=1e-5 if tolerance.dtype == np.float32 else 1e-12)
    lse = softmax_ext.logsumexp(x, axis)
    np.testing.assert_allclose(lse, -exact.astype(float), rtol=1e-5 if tolerance.dtype == np.float32 else 1e-12)


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 3_000_000), (3_000_000, 1), (1_000_000, 3)], ids=str)
def test_a_long_sum_in_float32_keeps_its_digits(isa, shape):
    """In one running sum each would err by a thousandth."""
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    axis = int(np.argmax(shape))
    exact = special.softmax(x.astype(np.float64), axis)
    np.testing.assert_allclose(softmax_ext.softmax(x, axis), exact, rtol=1e-5)
    exact = special.logsumexp(x.astype(np.float64), axis)
    np.testing.assert_allclose(softmax_ext.logsumexp(x, axis), exact, rtol=1e-6)


LONG_ROWS = [(2**19 + 1,), (2, 700_001), (1, 1_234_567), (700, 1, 900)]


@pytest.mark.pairs(3)
@pytest.mark.parametrize("shape", LONG_ROWS, ids=str)
def test_a_row_that_is_cut_is_as_scipys(isa, name, tolerance, shape):
    """The oracle is SciPy in float64; the bits are the same for all threads and over the scores."""
    x = (np.random.default_rng(0).standard_normal(shape) * 3).astype(tolerance.dtype)
    x.flat[-5] = 20.0  # the top, in the last piece
    run, axis = getattr(softmax_ext, name), None if len(shape) != 2 else 1
    one = run(x, axis, n_threads=1)
    for n_threads in (2, 3):
        np.testing.assert_array_equal(run(x, axis, n_threads=n_threads), one)
    want = getattr(special, name)(x.astype(float), axis)
    rtol = 4e-6 if tolerance.dtype == np.float32 else 1e-13  # the rounding of a difference of 35
    np.testing.assert_allclose(one, want, rtol=rtol, atol=0 if name == "softmax" else rtol)
    if name != "logsumexp":
        np.testing.assert_array_equal(run(x, axis, out=x), one)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("place", [3, 2**18, -1])
@pytest.mark.parametrize("value", [inf, -inf, nan, "all -inf", "overflow"], ids=str)
def test_a_special_value_in_a_row_that_is_cut_is_as_scipys(isa, name, dtype, value, place):
    x = np.random.default_rng(0).standard_normal(2**19 + 77).astype(dtype)
    if isinstance(value, str):
        limit = np.finfo(dtype).max
        x[...] = -inf if value == "all -inf" else -limit
        x[place] = -inf if value == "all -inf" else limit
    else:
        x[place] = value
    assert_like_scipy(name, x)


def test_a_tiny_sum_beside_a_top_in_a_later_piece_is_kept(isa):
    x = np.full(10**6, -90.0)
    x[-1] = 0
    np.testing.assert_allclose(softmax_ext.logsumexp(x), 999_999 * np.exp(-90.0), rtol=1e-13)
    np.testing.assert_allclose(softmax_ext.logsumexp(x[-9000:]), 8999 * np.exp(-90.0), rtol=1e-13)


def test_functions_are_those_of_mpmath(isa):
    x = np.random.default_rng(0).uniform(-5, 5, 20)
    with mpmath.workdps(40):
        total = sum(mpmath.exp(mpmath.mpf(t)) for t in x.tolist())
        log_total = mpmath.log(total)
        S = np.array([float(mpmath.exp(mpmath.mpf(t)) / total) for t in x.tolist()])
        log_S = np.array([float(mpmath.mpf(t) - log_total) for t in x.tolist()])
    np.testing.assert_allclose(softmax_ext.softmax(x), S, rtol=1e-15)
    np.testing.assert_allclose(softmax_ext.log_softmax(x), log_S, rtol=1e-15)
    np.testing.assert_allclose(softmax_ext.logsumexp(x), float(log_total), rtol=4e-16)


@needs_kernels
@pytest.mark.parametrize("shape", [(2_000, 10), (10, 2_000), (20, 1_003)], ids=str)
def test_what_can_be_read_in_place_is_not_copied(isa, shape, monkeypatch):
    """Rows and columns may lie at any distance, arrays may be transposed, and several axes may be one."""

    def copied(*arguments):
        raise AssertionError("copied")

    monkeypatch.setattr(softmax_ext.special, "_rearranged", copied)
    x = np.random.default_rng(0).standard_normal((4, *shape))
    for name in NAMES:
        function = getattr(softmax_ext, name)
        for axis in (None, 0, 1, 2, (0, 1), (1, 2), (0, 1, 2)):
            function(x, axis)
            function(x.T, axis)
        for axis in (0, 1):
            for view in (x[1, ::3], x[2, :, 1:-1], x[0, ::-1], x[1, ::3].T):
                function(view, axis)


def test_rearranged_is_a_copy():
    x = np.arange(24.0).reshape(2, 3, 4)[:, ::-1]
    for axes in range(1, 8):
        copy = _rearranged(x, axes)
        np.testing.assert_array_equal(copy, x)
        assert not np.shares_memory(copy, x)


# All rows are the same memory, so that a call takes long and its scores take none.
LONG = """
import sys
import numpy as np
import softmax_ext

name, K = sys.argv[1], int(sys.argv[2])
N = 4 * 10**9 // K
x = np.broadcast_to(np.linspace(0, 1, K), (N, K))
y = np.zeros(N if name == "cross_entropy" else 0, int)
out = np.lib.stride_tricks.as_strided(np.empty(K), (N, K), (0, 8))
CALLS = {
    "softmax": lambda: softmax_ext.softmax(x, 1, out=out, n_threads=1),
    "logsumexp": lambda: softmax_ext.logsumexp(x, 1),
    "cross_entropy": lambda: softmax_ext.cross_entropy(x, y),
}
print("running", flush=True)
try:
    CALLS[name]()
    print("finished", flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.optimised
@needs_kernels
@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
@pytest.mark.parametrize("name, K", [
    *((name, K) for name in ("softmax", "logsumexp", "cross_entropy") for K in (100, 10_000)),
    ("softmax", 2 * 10**7), ("logsumexp", 2 * 10**7),
])  # fmt: skip
def test_ctrl_c_ends_a_long_call_of_scores(name, K):
    """A long call ends within a second of Ctrl-C, on the slowest level."""
    env = os.environ | {"SOFTMAX_EXT_ISA": dispatch.available()[-1]}
    command = [sys.executable, "-c", LONG, name, str(K)]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().strip() == "running"
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        begin = time.perf_counter()
        printed, _ = process.communicate(timeout=60)
        assert printed.strip() == "interrupted"
        assert time.perf_counter() - begin < 1.5  # with the end of the process
