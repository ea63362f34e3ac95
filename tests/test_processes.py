"""Forked and spawned processes, pools of every kind, threads that outlive the program, and its very end."""

import concurrent.futures
import functools
import multiprocessing
import sys

import numpy as np
import pytest

from softmax_ext import loss_grad, predict_proba

WINDOWS_HAS_NONE = pytest.mark.skipif(sys.platform == "win32", reason="the system has no fork")
# The pool of a fork that has ended waits for it forever.
FORKS = pytest.mark.native("forks of a process that has had many threads may end at once")
START_METHODS = [
    pytest.param(name, marks=FORKS if name == "fork" else ()) for name in multiprocessing.get_all_start_methods()
]

# Large enough that a call has a team of two threads.
PROBLEM = """
import multiprocessing, os, signal, sys, threading
import numpy as np
from softmax_ext import SoftmaxObjective, loss_grad, optim, predict_proba, softmax

rng = np.random.default_rng(0)
X, y, W = rng.standard_normal((20_000, 32)), rng.integers(0, 10, 20_000), rng.standard_normal((10, 32))

def bits(n_threads):
    J, dW, _ = loss_grad(X, y, W, n_threads=n_threads)
    S = softmax(predict_proba(X, W, n_threads=n_threads), 1, n_threads=n_threads)
    return np.float64(J).tobytes() + dW.tobytes() + S.tobytes()

def fitted(n_threads):
    objective = SoftmaxObjective(X, y, l2=1e-3, n_threads=n_threads)
    return optim.lbfgs(objective, np.zeros(objective.size), max_iter=3).w.tobytes()
"""

POOLS = f"""{PROBLEM}
want = bits(2)
fork = multiprocessing.get_context("fork")
for _ in range(50):
    with fork.Pool(2) as pool:
        got = pool.map(bits, [2, None], chunksize=1)
    assert got == [want, want]
    assert bits(2) == want
print("the same")
"""

FITS = f"""{PROBLEM}
want = fitted(2)
for start in (lambda: fitted(2), lambda: threading.Thread(target=fitted, args=(2,)).run()):
    start()  # a team of this thread's own
    child = os.fork()
    if not child:
        signal.alarm(30)
        os._exit(fitted(2) != want or fitted(None) != want)
    assert os.waitpid(child, 0)[1] == 0
    grandchild = os.fork()
    if not grandchild:
        signal.alarm(30)
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(fitted(2) != want)
        os._exit(os.waitpid(child, 0)[1] != 0)
    assert os.waitpid(grandchild, 0)[1] == 0
print("the same")
"""

# While one thread is in a pass, another forks.
DURING = f"""{PROBLEM}
want, stop = bits(2), threading.Event()

def work():
    while not stop.is_set():
        bits(2)

worker = threading.Thread(target=work)
worker.start()
try:
    for _ in range(20):
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(bits(2) != want)
        assert os.waitpid(child, 0)[1] == 0
finally:
    stop.set()
    worker.join()
print("the same")
"""

# Calls when everything else is gone already: after the main module's end, and when its last objects go.
END = f"""{PROBLEM}
import atexit

class Last:
    def __del__(self, bits=bits):
        print(len(bits(2)), flush=True)

atexit.register(lambda: print(len(bits(2)), flush=True))
last = Last()
print(len(bits(2)), flush=True)
"""

# A thread that nobody waits for is in the middle of a pass when the program ends.
UNFINISHED = f"""{PROBLEM}
started = threading.Event()
long = np.broadcast_to(X[:1], (3_000_000, 32))

def work():
    while True:
        started.set()
        predict_proba(long, W, n_threads=2)

threading.Thread(target=work, daemon=True).start()
started.wait()
print("ended", flush=True)
"""


@WINDOWS_HAS_NONE
@pytest.mark.parametrize("code", [POOLS, FITS, DURING], ids=["pools", "fits", "during a pass"])
def test_forked_children_compute_the_same(code, run_python):
    """A hang ends the test: 50 pools of two processes, or a fit in each child and in its child.

    The pools take 53 s under AddressSanitizer, and there a busy machine has exceeded 120.
    """
    assert run_python(code, timeout=300) == "the same"


def test_calls_at_the_end_of_the_interpreter_return(run_python):
    printed = run_python(END, timeout=60).split()
    assert len(printed) == 3 and len(set(printed)) == 1


def test_a_thread_in_a_pass_lets_the_interpreter_end(run_python):
    assert run_python(UNFINISHED, timeout=60) == "ended"


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return rng.standard_normal((20_000, 32)), rng.integers(0, 10, 20_000), rng.standard_normal((10, 32))


@pytest.mark.parametrize("method", START_METHODS)
def test_executors_of_every_start_method_compute_the_same(method, problem):
    X, y, W = problem
    want = loss_grad(X, y, W, n_threads=2)
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(functools.partial(loss_grad, n_threads=n), X, y, W) for n in (2, 1, None)]
        for future in futures:
            loss, dW, _ = future.result(timeout=30)
            assert loss == want.loss
            np.testing.assert_array_equal(dW, want.dW)


@pytest.mark.parametrize("backend", ["loky", "threading", pytest.param("multiprocessing", marks=FORKS)])
def test_joblibs_backends_compute_the_same(backend, problem):
    """loky maps large arrays into its processes' memory, read-only."""
    joblib = pytest.importorskip("joblib")
    X, y, W = problem
    want = loss_grad(X, y, W, n_threads=2)
    calls = [joblib.delayed(loss_grad)(X, y, W, n_threads=n) for n in (2, 1, None, 2)]
    scores = [joblib.delayed(predict_proba)(X, W, n_threads=2)]
    *got, S = joblib.Parallel(n_jobs=2, backend=backend, max_nbytes=1000, timeout=60)(calls + scores)
    for loss, dW, _ in got:
        assert loss == want.loss
        np.testing.assert_array_equal(dW, want.dW)
    np.testing.assert_array_equal(S, predict_proba(X, W))
