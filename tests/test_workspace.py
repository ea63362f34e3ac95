"""Work space is kept from call to call, never shared by two, and given back whatever happens."""

import concurrent.futures
import itertools
import threading

import numpy as np
import pytest

from softmax_ext import loss_grad, predict_proba
from softmax_ext._core import dispatch, workspace
from softmax_ext._core import run as _run
from softmax_ext._core.plan import plan
from softmax_ext._core.workspace import HUGE, MOST, give, take

F4, F8 = np.dtype(np.float32), np.dtype(np.float64)
needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="the reference needs no work space")


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """The spaces that are kept: none at first."""
    spaces = []
    monkeypatch.setattr(workspace, "_kept", spaces)
    return spaces


def assert_apart(spaces):
    for one, other in itertools.combinations(spaces, 2):
        assert not any(np.shares_memory(a, b) for a in one for b in other)


def test_a_space_has_what_was_asked_for(dtype):
    space = take(100, dtype, 7)
    assert space.work.dtype == dtype and space.work.shape == (100,)
    assert space.sums.dtype == np.float64 and space.sums.shape == (7,)


@pytest.mark.parametrize("count", [2**18, 2**18 + 1, 2**20 - 1, 2**20 + 3])
def test_a_large_space_begins_with_a_huge_page_and_has_no_part_of_another(dtype, count):
    space = take(count, dtype, count)
    for array in space.work, space.sums:
        assert array.shape == (count,) and array.ctypes.data % HUGE == 0
        whole = array.base
        while whole.base is not None:
            whole = whole.base
        assert whole.ctypes.data + whole.nbytes >= array.ctypes.data + -(-array.nbytes // HUGE) * HUGE


@pytest.mark.parametrize("work, sums", [(100, 7), (1, 7), (100, 0), (0, 0)])
def test_what_is_given_back_is_reused(kept, dtype, work, sums):
    space = take(100, dtype, 7)
    give(space)
    assert take(work, dtype, sums) is space
    assert kept == []  # it belongs to one


@pytest.mark.parametrize("work, dtype, sums", [(101, F4, 7), (100, F4, 8), (100, F8, 7), (1, F8, 1)])
def test_a_space_that_does_not_fit_is_not_reused(kept, work, dtype, sums):
    space = take(100, F4, 7)
    give(space)
    other = take(work, dtype, sums)
    assert other.work.dtype == dtype and other.work.size >= work and other.sums.size >= sums
    assert_apart([space, other])
    give(other)
    assert [id(space) for space in kept] == [id(other)]  # the last one given back


def test_calls_in_turn_come_to_share_one_space(kept, dtype):
    give(take(100, dtype, 7))
    give(take(10, dtype, 9))
    (space,) = kept
    assert space.work.size >= 100 and space.sums.size >= 9
    give(take(MOST // dtype.itemsize, dtype, 0))  # beside whose sums there would be no room for these
    assert [each.sums.size for each in kept] == [0]


def test_one_space_is_kept(kept):
    spaces = [take(100, F4, 7) for _ in range(3)]
    assert_apart(spaces)
    for space in spaces:
        give(space)
    assert len(kept) == 1


@pytest.mark.parametrize("work, sums, is_kept", [
    (MOST // 4, 0, True), (MOST // 4 + 1, 0, False), (0, MOST // 8, True), (0, MOST // 8 + 1, False),
    (MOST // 8, MOST // 16, True), (MOST // 8, MOST // 16 + 1, False),
])  # fmt: skip
def test_not_more_than_a_limit_is_kept(kept, work, sums, is_kept):
    give(take(work, F4, sums))
    assert len(kept) == is_kept


@needs_kernels
@pytest.mark.parametrize("shape", [(20, 9, 7), (5003, 54, 7), (301, 33, 500)], ids=str)
def test_calls_reuse_the_space(isa, dtype, shape, make_problem, kept):
    (X, y, W, b), _ = make_problem(*shape, dtype)
    loss_grad(X, y, W, b)
    (first,) = kept
    loss_grad(X, y, W, b)
    predict_proba(X, W, b)
    assert len(kept) == 1 and kept[0] is first


@needs_kernels
def test_threads_that_have_no_slice_take_no_space(isa, dtype, make_problem, monkeypatch):
    shape = 256, 16, 3000
    assert plan(*shape, dtype.itemsize, isa).slices == 2
    (X, y, W, b), _ = make_problem(*shape, dtype)
    sizes = []
    monkeypatch.setattr(workspace, "take", lambda *size: sizes.append(size) or take(*size))
    for n_threads in (2, 7):
        loss_grad(X, y, W, b, n_threads=n_threads)
        predict_proba(X, W, b, n_threads=n_threads)
    assert sizes[:2] == sizes[2:]


@needs_kernels
def test_threads_at_once_never_share_a_space(isa, dtype, make_problem, monkeypatch):
    """Eight calls hold their spaces at the same time, again and again."""
    shapes = [(5003, 54, 7), (20, 9, 7), (701, 33, 1000), (2048, 16, 17)]
    problems = [make_problem(*shape, dtype)[0] for shape in 2 * shapes]
    together = threading.Barrier(len(problems), timeout=60)
    lock, rounds, held = threading.Lock(), [], []

    def observe(*size):
        space = take(*size)
        with lock:
            held.append(space)
        if together.wait() == 0:  # one of the threads looks, while all hold theirs
            rounds.append(list(held))
            held.clear()
        together.wait()
        return space

    monkeypatch.setattr(workspace, "take", observe)

    def run(problem):
        X, y, W, b = problem
        for _ in range(5):
            loss_grad(X, y, W, b)
            predict_proba(X, W, b)

    with concurrent.futures.ThreadPoolExecutor(len(problems)) as pool:
        list(pool.map(run, problems))
    assert [len(spaces) for spaces in rounds] == [len(problems)] * 10
    for spaces in rounds:
        assert_apart(spaces)


@needs_kernels
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@pytest.mark.parametrize("call", ["loss_grad", "predict_proba"])
def test_an_exception_gives_the_space_back(isa, dtype, call, error, make_problem, kept, monkeypatch):
    """It is raised in the middle of a pass, where X is converted."""
    (X, y, W, b), _ = make_problem(300, 9, 7, dtype)

    def run(X):
        return loss_grad(X, y, W, b) if call == "loss_grad" else predict_proba(X, W, b)

    def fail(block, dtype):
        assert kept == []
        raise error

    run(X)
    (space,) = kept
    with monkeypatch.context() as patched, pytest.raises(error):
        patched.setattr(_run, "native", fail)
        run(np.asfortranarray(X))
    assert len(kept) == 1 and kept[0] is space
    run(X)
    assert kept[0] is space


@needs_kernels
def test_a_bad_target_gives_the_space_back(isa, dtype, make_problem, kept):
    """The values of probabilities are looked at on the way."""
    (X, Y, W, b), _ = make_problem(300, 9, 7, dtype, labels="probabilities")
    want = loss_grad(X, Y, W, b)
    (space,) = kept
    bad = Y.copy()
    bad[-1, 3] = -1
    with pytest.raises(ValueError, match=r"y\[299, 3\] = -1"):
        loss_grad(X, bad, W, b)
    assert len(kept) == 1 and kept[0] is space
    for ours, theirs in zip(loss_grad(X, Y, W, b), want, strict=True):
        np.testing.assert_array_equal(ours, theirs)
