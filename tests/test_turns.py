"""Turns of small fits: one thread has it at a time, it is given back whatever happens, and no fit waits for ever."""

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from softmax_ext._core import dispatch, turns
from softmax_ext.linear_model import LogisticRegression

needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="there are no compiled kernels")


def task(seed, N=80, D=60, K=5):
    rng = np.random.default_rng(seed)
    y = np.arange(N) % K
    return rng.standard_normal((K, D))[y] + 2 * rng.standard_normal((N, D)), y


@needs_kernels
@pytest.mark.skipif(turns.locked(), reason="this Python has a GIL")
def test_a_python_without_gil_keeps_on_without_it(run_python):
    """Else Python turns it on for a module that does not say that it needs none, and warns."""
    code = "import sys, softmax_ext.linear_model; print(sys._is_gil_enabled())"
    assert run_python(code, PYTHONWARNINGS="error") == "False"


@needs_kernels
def test_one_thread_has_the_turn(isa):
    inside, most = [], []

    def work(_):
        with turns.Turn():
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.001)
            inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(20)))
    assert len(most) == 20
    if turns.locked():
        assert max(most) == 1


@needs_kernels
@pytest.mark.skipif(not turns.locked(), reason="nobody takes turns without a GIL")
def test_a_call_that_leaves_the_turn_has_it_again_afterwards(isa):
    seen = []

    def work():
        with turns.Turn():
            seen.append("other")

    with turns.Turn():
        dispatch.kernels.run_calls([dispatch.kernels.Call()], turns.mine())
        other = threading.Thread(target=work)
        other.start()
        other.join(timeout=0.05)
        seen.append("this")
    other.join()
    assert seen == ["this", "other"]


@needs_kernels
def test_a_turn_is_given_back_after_an_error():
    with pytest.raises(KeyboardInterrupt), turns.Turn(), turns.Turn():
        assert turns.mine() == turns.locked()
        raise KeyboardInterrupt
    assert not turns.mine()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: LogisticRegression().fit(*task(0)).converged_).result(timeout=60)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_fits_of_several_threads_have_the_bits_of_one(isa, n_threads):
    tasks = [task(seed, K=2 + seed % 4) for seed in range(12)]
    alone = [LogisticRegression().fit(*each).coef_ for each in tasks]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda each: LogisticRegression(n_threads=n_threads).fit(*each).coef_, tasks * 4))
    for coef, other in zip(alone * 4, found, strict=True):
        np.testing.assert_array_equal(coef, other)


def test_a_fit_within_a_fit_needs_no_other_turn():
    def inner(*_):
        return LogisticRegression().fit(*task(1)).n_iter_ < 0

    assert LogisticRegression(callback=inner).fit(*task(0)).converged_


@needs_kernels
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_thread_that_it_does_not_have():
    over, begun = threading.Event(), threading.Event()

    def hold():
        with turns.Turn():
            begun.set()
            over.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    begun.wait()
    child = os.fork()
    if not child:
        os._exit(0 if LogisticRegression(n_threads=1).fit(*task(0)).converged_ else 1)
    try:
        for _ in range(600):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            time.sleep(0.1)
        assert ended and status == 0
    finally:
        over.set()
        thread.join()
