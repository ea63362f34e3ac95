"""A long pass answers Ctrl-C within a second, leaves everything usable, and lets other Python threads run meanwhile."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import loss_grad, predict_proba
from softmax_ext._core import dispatch
from softmax_ext._core.plan import plan

needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="the reference runs in NumPy")
needs_sigint = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")

SECONDS = 1.0  # from the signal to KeyboardInterrupt

# It makes the calls that its input names, one after the other, until each is interrupted. Every row of X is the same
# memory, so that a pass takes long and X takes none. CSR rows have 20 entries each.
LONG = """
import sys
import numpy as np
import scipy.sparse
from softmax_ext import loss_grad, optim, predict_proba, reference
from softmax_ext._core import dispatch as _dispatch
from softmax_ext._core.plan import plan

def begun(iteration, *state):
    if iteration == 1:
        print("running", flush=True)

def run(call, layout, dtype, N, D, K):
    rng = np.random.default_rng(0)
    memory = rng.standard_normal(2 * D).astype("f2" if layout == "float16" else dtype)
    X = np.broadcast_to(memory[::2] if layout == "strided" else memory[:D], (N, D))
    inputs = [memory]
    if csr := layout.startswith("CSR"):
        inputs = rng.random(20 * N, dtype), rng.integers(0, D, 20 * N, np.int32), np.arange(0, 20 * N + 1, 20)
        X = scipy.sparse.csr_array(inputs, shape=(N, D))
    y, b = rng.integers(0, K, N), rng.random(K).astype(dtype)
    W = rng.standard_normal((K, D), np.float32).astype(dtype) / np.dtype(dtype).type(D**0.5)
    out = np.empty((N, K), dtype) if call == "predict_proba" else None
    if call == "estimator":
        from softmax_ext.linear_model import LogisticRegression

        model = LogisticRegression(tol=0, C=1e6, max_iter=10**6, n_threads=2, callback=begun)
        samples, labels = X if csr else rng.standard_normal((N, D)).astype(dtype), y

    def fit(batch_size):
        optim.fit(X, y, optim.sgd(0.1), W=W, b=b, epochs=10**6, batch_size=batch_size, n_threads=2)

    calls = {
        "loss_grad": lambda: loss_grad(X, y, W, b, n_threads=2),
        "predict_proba": lambda: predict_proba(X, W, b, out=out, n_threads=2),
        "fit": lambda: fit(N),
        "fit on batches": lambda: fit(256),
        "estimator": lambda: model.fit(samples, labels),
    }
    if call not in ("fit on batches", "estimator"):
        way = plan(N, D, K, W.itemsize, _dispatch.isa, nnz=X.nnz if csr else None)
        assert (X.nnz if csr else N * D / 2) * K >= 5e9 and (N > 3 * way.block or way.parts), way.cut
        assert not csr or (way.cut == "sparse" and way.classes < K) == (layout == "CSR, grouped"), way

    inputs = *inputs, y, W, b
    before = [array.tobytes() for array in inputs]
    if call != "estimator":  # which has no coefficients until its first iteration is done
        print("running", flush=True)
    try:
        calls[call]()
        print("finished", flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    assert [array.tobytes() for array in inputs] == before

    n = 300 if D * K < 10**7 else 30
    few = X[:n] * rng.standard_normal((n, 1)).astype(dtype), y[:n], W, b
    (loss, dW, db), want = loss_grad(*few, n_threads=2), reference.loss_grad(*few)
    S, probabilities = predict_proba(few[0], W, b), reference.predict_proba(few[0], W, b)
    assert abs(loss - want.loss) <= 1e-4 * want.loss
    for ours, theirs in ((dW, want.dW), (db, want.db), (S, probabilities)):
        assert abs(ours - theirs).max() <= 1e-4 * abs(theirs).max()
    if call == "estimator":  # it has the best coefficients so far, and is ready for another fit
        assert np.isfinite(model.coef_).all() and not model.converged_
        assert model.set_params(max_iter=100, tol=1e-4, C=1.0, callback=None).fit(few[0], few[1] % 3).converged_
    print("right", flush=True)

for line in sys.stdin:
    call, layout, dtype, *sizes = line.split(";")
    run(call, layout, dtype, *map(int, sizes))
"""

SLICES, OWNED, TRANSPOSED = (2_500_000, 20_000, 10), (250_000, 1000, 1000), (10_000_000, 10, 4000)
GROUPED = 250_000, 10_000, 1000
CASES = {
    "slices": ("loss_grad", "in place", "f4", *SLICES),
    "transposed": ("loss_grad", "in place", "f8", *TRANSPOSED),
    "owned": ("loss_grad", "in place", "f4", *OWNED),
    "float16, slices": ("loss_grad", "float16", "f4", *SLICES),
    "owned, one tile": ("loss_grad", "in place", "f4", 1280, 4096, 12_000),
    "strided, owned": ("loss_grad", "strided", "f8", *OWNED),
    "probabilities, slices": ("predict_proba", "in place", "f4", *SLICES),
    "probabilities, owned": ("predict_proba", "in place", "f4", *OWNED),
    "probabilities, one tile": ("predict_proba", "in place", "f4", 2560, 4096, 12_000),
    "probabilities, float16": ("predict_proba", "float16", "f4", *OWNED),
    "fit": ("fit", "in place", "f4", *SLICES),
    "fit on batches": ("fit on batches", "in place", "f4", 10_000, 1000, 10),
    "estimator": ("estimator", "in place", "f8", 100_000, 100, 10),
    "CSR": ("loss_grad", "CSR", "f4", *OWNED),
    "CSR, grouped": ("loss_grad", "CSR, grouped", "f4", *GROUPED),
    "probabilities, CSR, grouped": ("predict_proba", "CSR, grouped", "f4", *GROUPED),
    "estimator, CSR": ("estimator", "CSR", "f8", 100_000, 100, 10),
}


class Program:
    """A process at one ISA level that makes the calls which it is asked for; one that hangs is killed."""

    def __init__(self, isa):
        self.isa, self.process = isa, None

    def running(self):
        """Return the process, which is started at first and where the last call has ended it."""
        if self.process is None or self.process.poll() is not None:
            pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
            env = os.environ | {"SOFTMAX_EXT_ISA": self.isa}
            self.process = subprocess.Popen([sys.executable, "-c", LONG], env=env, text=True, **pipes)
        return self.process

    def interrupt(self, case):
        """Send SIGINT in the middle of a call; return what the process printed, and the seconds until it answered."""
        process = self.running()
        limit = threading.Timer(120, process.kill)
        limit.start()
        try:
            print(*case, sep=";", file=process.stdin, flush=True)
            lines = [process.stdout.readline().strip()]
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            begin = time.perf_counter()
            lines += [process.stdout.readline().strip()]
            seconds = time.perf_counter() - begin
            lines += [process.stdout.readline().strip()]
        finally:
            limit.cancel()
        assert lines[-1], f"exit status {process.wait()} after {lines}\n{process.stderr.read()}"
        return lines, seconds

    def end(self):
        """Let the process come to its end, as it does when it has no more calls to make."""
        if self.process is not None and self.process.poll() is None:
            _, errors = self.process.communicate(timeout=30)
            assert (self.process.returncode, errors) == (0, "")


@pytest.fixture(scope="module")
def program(request):
    program = Program(request.param)
    yield program
    program.end()


@pytest.mark.optimised
@needs_sigint
@needs_kernels
@pytest.mark.pairs(1)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize(
    "program", dict.fromkeys((*dispatch.available()[-1:], *dispatch.available()[:1])), indirect=True
)
def test_ctrl_c_ends_a_call_and_leaves_everything_usable(program, case):
    """It does so on the slowest level, whose blocks take longest, and on the fastest; and the calls after it, too."""
    lines, seconds = program.interrupt(case)
    assert lines == ["running", "interrupted", "right"]
    assert seconds < SECONDS


@pytest.mark.optimised
@needs_kernels
@pytest.mark.parametrize("shape", [(1, 2), (2, 65), (10, 1000), (3, 2**17), (784, 10), (1024, 1000)], ids=str)
def test_a_block_takes_less_than_a_second(shape, storage, dtype):
    """An eighth of a block is measured, on the slowest level and one thread; few features leave the time to
    exponentials.

    Of CSR rows a whole block is, since turning W and dW, which is once in a pass, takes as long as an eighth.
    """
    level = dispatch.available()[-1]
    D, K = shape
    entries = min(D, 20)
    block = plan(2**40, D, K, dtype.itemsize, level, nnz=2**40 * entries if storage == "csr" else None).block
    N = block if storage == "csr" else max(block // 8, 1)
    X = np.broadcast_to(np.linspace(-1, 1, D, dtype=dtype), (N, D))
    if storage == "csr":
        columns = np.random.default_rng(0).integers(0, D, N * entries)
        X = scipy.sparse.csr_array((np.ones(N * entries, dtype), columns, np.arange(N + 1) * entries), shape=(N, D))
    y, W = np.arange(N) % K, np.ones((K, D), dtype)
    seconds = []
    with dispatch.using(level):
        for _ in range(3):  # the machine may be busy for a moment
            begin = time.perf_counter()
            loss_grad(X, y, W, n_threads=1)
            seconds.append(time.perf_counter() - begin)
    assert min(seconds) * block / N < SECONDS


# A pass of a tenth of a second, within one block where it can be, for every way of cutting the work.
PASSES = {
    "slices": (200_000, 2000, 10), "transposed": (160_000, 10, 1000), "many classes": (160_000, 384, 100),
    "owned": (24_000, 256, 1000),
}  # fmt: skip
CALLS = [*(("loss_grad", way) for way in PASSES), ("predict_proba", "slices"), ("predict_proba", "owned")]


@pytest.fixture
def no_switches():
    """A thread gets the interpreter's lock only from one that releases it of its own accord, for a second at least."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1)
    yield
    sys.setswitchinterval(before)


@pytest.mark.optimised
@pytest.mark.skipif(dispatch.kernels is None, reason="the reference runs in NumPy")
@pytest.mark.parametrize("layout", ["in place", "strided"])
@pytest.mark.parametrize("call, way", CALLS)
def test_other_threads_run_during_a_pass(call, way, layout, no_switches):
    N, D, K = PASSES[way]
    row = np.random.default_rng(0).standard_normal(2 * D).astype(np.float32)
    X = np.broadcast_to(row[:D] if layout == "in place" else row[::2], (N, D))
    y, W = np.zeros(N, np.int64), np.ones((K, D), np.float32)
    out = np.empty((N if call == "predict_proba" else 0, K), np.float32)
    stop, wakes = threading.Event(), []

    def tick():
        while not stop.wait(0.001):
            wakes.append(time.perf_counter())

    ticking = threading.Thread(target=tick)
    ticking.start()
    begin = time.perf_counter()
    if call == "loss_grad":
        loss_grad(X, y, W)
    else:
        predict_proba(X, W, out=out)
    end = time.perf_counter()
    stop.set()
    ticking.join()
    during = sum(begin < wake < end for wake in wakes)
    assert during >= 5, f"{during} in {end - begin:.3f} s"
