"""Where memory ends there is a MemoryError; what was taken is given back; and a pass takes little."""

import sys

import pytest

from softmax_ext._core import dispatch

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and RLIMIT_AS holds there")

# Calls of every kind, small or large.
CALLS = """
import gc, os, resource, sys
import numpy as np
from softmax_ext import SoftmaxObjective, cross_entropy_grad, log_softmax, logsumexp, loss_grad, optim
from softmax_ext._core import workspace as _workspace
from softmax_ext import predict_proba, softmax

PAGE = resource.getpagesize()

def used(which):
    "Bytes: 0 is all that is mapped, 1 what is in memory."
    return int(open("/proc/self/statm").read().split()[which]) * PAGE

def calls(N, D, K):
    rng = np.random.default_rng(0)
    X, W, b, Z = (rng.standard_normal(shape) for shape in ((N, D), (K, D), K, (N, K)))
    F, y, Y, wrong = np.asfortranarray(X), rng.integers(0, K, N), rng.random((N, K)), np.full(N, K)
    objective = SoftmaxObjective(X, y, l2=1.0, n_threads=2)
    w = np.zeros(objective.size)
    right = {
        "loss_grad": lambda: loss_grad(X, y, W, b, n_threads=2),
        "converted": lambda: loss_grad(F, y, W, b, n_threads=2),
        "probabilities": lambda: loss_grad(X, Y, W, b, sample_weight=y + 1.0, n_threads=2),
        "predict_proba": lambda: predict_proba(X, W, b, n_threads=2),
        "softmax": lambda: softmax(Z, 1, n_threads=2),
        "softmax, rearranged": lambda: softmax(Z[:, ::2], 1, n_threads=2),
        "log_softmax": lambda: log_softmax(Z, 0, n_threads=2),
        "logsumexp": lambda: logsumexp(Z, 1, n_threads=2),
        "cross_entropy_grad": lambda: cross_entropy_grad(Z, y, W[:, 0], n_threads=2),
        "value_and_grad": lambda: objective.value_and_grad(w),
        "hessp": lambda: objective.hessp(w, w),
        "fit": lambda: optim.lbfgs(objective, w, max_iter=2).w,
    }
    refused = {
        "label": (ValueError, lambda: loss_grad(X, wrong, W, b)),
        "target": (ValueError, lambda: loss_grad(X, -Y, W, b)),
        "shape": (ValueError, lambda: predict_proba(X, W.T[:, :1], b)),
        "dtype": (TypeError, lambda: loss_grad(X.astype(str), y, W)),
        "out": (ValueError, lambda: predict_proba(X, W, b, out=Z.T)),
        "threads": (ValueError, lambda: softmax(Z, n_threads=0)),
        "scores": (ValueError, lambda: cross_entropy_grad(Z, wrong)),
        "objective": (ValueError, lambda: objective.value(w[1:])),
    }
    return right, refused, (X, F, y, Y, wrong, W, b, Z, w)

def fails(error, call):
    try:
        call()
    except error:
        return True
"""

LIMITED = f"""{CALLS}
right, _, _ = calls(3000, 20, 30)

def bits(result):
    parts = result if isinstance(result, tuple) else (result,)
    return [np.asarray(part).tobytes() for part in parts]

want = {{name: bits(call()) for name, call in right.items()}}  # and threads and libraries have what they keep
failed = dict.fromkeys(right, 0)
infinite = resource.RLIM_INFINITY
for run in range(100):
    for name, call in right.items():
        _workspace._kept.clear()
        gc.collect() if run % 10 == 0 else None
        resource.setrlimit(resource.RLIMIT_AS, (used(0) + run * 2**16, infinite))
        try:
            got = bits(call())
        except MemoryError:
            failed[name] += 1
        else:
            assert got == want[name], name
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (infinite, infinite))
assert all(bits(call()) == want[name] for name, call in right.items())
print(min(failed.values()), max(failed.values()))
"""

GROWTH = f"""{CALLS}
right, refused, arguments = calls(20, 5, 4)
del right["fit"]  # takes a thousand times as long; `cycles` has it
fit = calls(20, 5, 4)[0]["fit"]

def cycle():
    for call in right.values():
        call()
    for error, call in refused.values():
        assert fails(error, call)

def count(cycles):
    for i in range(cycles):
        cycle()
        if i % 100 == 0:
            fit()
    gc.collect()
    return used(1)

rounds = 100_000 // (len(right) + len(refused))
before = count(rounds // 5)
references = [sys.getrefcount(array) for array in arguments]
after = count(rounds)
assert [sys.getrefcount(array) for array in arguments] == references
print(after - before)
"""

# A process that never ends well shows nothing by its end: of 2^40 rows there is no result.
HUGE = """
import numpy as np
from softmax_ext import cross_entropy, loss_grad, predict_proba, softmax

N = 2**40
X, W = np.broadcast_to(np.ones((1, 2)), (N, 2)), np.ones((3, 2))
refused = 0
for call in (
    lambda: predict_proba(X, W), lambda: softmax(X, axis=1), lambda: loss_grad(X, np.broadcast_to(np.int8(0), N), W),
    lambda: loss_grad(X, np.broadcast_to(np.int8(0), N), W, sample_weight=np.broadcast_to(1.0, N)),
    lambda: cross_entropy(X, np.broadcast_to(np.int8(0), N)),
):
    try:
        call()
    except MemoryError:
        refused += 1
print(refused)
"""

# Beside the interpreter's and NumPy's own, which the first calls of each kind bring in.
PEAK = """
import sys
import numpy as np
import softmax_ext
from softmax_ext import loss_grad, predict_proba
from softmax_ext._core import workspace as _workspace

N, D, K = map(int, sys.argv[1:4])
layout, dtype, function = sys.argv[4:7]
row = np.linspace(-1, 1, D).astype(dtype)
X = np.broadcast_to(row, (N, D))
X = X[:, ::-1] if layout == "converted" else X
y, W, b = (np.arange(N) % K).astype(np.intp), np.zeros((K, D), dtype), np.zeros(K, dtype)
out = np.full((N if function == "predict_proba" else 0, K), 7, dtype)

def call(X, y, out):
    if function == "predict_proba":
        predict_proba(X, W, b, out=out, n_threads=2)
    else:
        loss_grad(X, y, W, b, n_threads=2)

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

call(X[:64], y[:64], out[:64])
_workspace._kept.clear()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
before = peak()
call(X, y, out)
print(peak() - before)
"""


@pytest.mark.optimised
@needs_linux
def test_a_limit_of_memory_is_a_memory_error(run_python):
    """There are a hundred limits, from none left to all that is needed; once lifted, all is as it was."""
    least, most = map(int, run_python(LIMITED, timeout=300).split())
    assert 0 <= least and 10 < most < 100


@pytest.mark.optimised
def test_a_result_that_fits_nowhere_is_a_memory_error(run_python):
    assert run_python(HUGE, timeout=300) == "5"


@pytest.mark.optimised
@needs_linux
@pytest.mark.parametrize("level", [*dispatch.available()[:1], dispatch.REFERENCE])
def test_a_hundred_thousand_calls_keep_nothing(level, run_python, at_once):
    """Those that are refused keep nothing either, nor a reference to an argument."""
    kept = at_once(lambda level: run_python(GROWTH, timeout=600, SOFTMAX_EXT_ISA=level))
    assert int(kept) < 64 * 1024


@pytest.mark.pairs(3)
@pytest.mark.optimised
@needs_linux
@pytest.mark.skipif(dispatch.kernels is None, reason="the reference holds all scores")
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("layout", ["in place", "converted"])
@pytest.mark.parametrize("function", ["loss_grad", "predict_proba"])
@pytest.mark.parametrize("shape", [(300_000, 50, 7), (100_000, 30, 300), (40_000, 100, 1000)], ids=str)
def test_a_pass_takes_64_mib_and_a_gradient(shape, function, layout, dtype, run_python):
    """The caller's arrays, of which the largest are 48 to 320 MB here, and the copy of the labels come on top."""
    N, D, K = shape
    own = 8 * N + 2 * 8 * K * D
    assert int(run_python(PEAK, *shape, layout, dtype, function, timeout=300)) < 64 * 2**20 + own
