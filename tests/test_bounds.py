"""No byte outside the arrays is touched: inputs, results and work space lie against pages without access.

Each runs in a process of its own, which the first such touch ends.
"""

import sys

import pytest

from softmax_ext._core import dispatch

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="mprotect is POSIX"),
    pytest.mark.skipif(dispatch.kernels is None, reason="NumPy keeps its own bounds"),
]

# The arrays of the package itself are guarded by taking NumPy's place in the modules that make them.
GUARD = """
import ctypes, itertools, mmap, sys
import numpy as np
import softmax_ext
from softmax_ext import SoftmaxObjective, functional, losses, optim, special
from softmax_ext._fit import two_classes as _two_classes
from softmax_ext._objective import binomial as objective
from softmax_ext._objective import fisher as _fisher
from softmax_ext._objective import function as _function
from softmax_ext._objective import parameters as _parameters
from softmax_ext._objective import rows_space as _rows_space
from softmax_ext._fit import scores as _scores
from softmax_ext._inputs import csr as _sparse
from softmax_ext._core import scaled
from softmax_ext._core import workspace as _workspace
from softmax_ext import cross_entropy_grad, loss_grad, predict_proba
from softmax_ext.objective import BinomialObjective

PAGE = mmap.PAGESIZE
mprotect = ctypes.CDLL(None, use_errno=True).mprotect
mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
at_end = True

def place(shape, dtype, strides=None):
    "New memory whose last byte, or first, is beside a page without access."
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    pages = -(-nbytes // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for page in (0, pages - 1):
        assert mprotect(address + page * PAGE, PAGE, 0) == 0
    return np.ndarray(shape, dtype, memory, (pages - 1) * PAGE - nbytes if at_end else PAGE, strides)

def guarded(array, dtype=None):
    copy = place(array.shape, dtype or array.dtype)
    copy[...] = array
    return copy

class Guarding:
    def __getattr__(self, name):
        return getattr(np, name)

    def empty(self, shape, dtype=float):
        return place(shape, dtype)

    def empty_like(self, like, dtype=None, subok=True):
        array = np.empty_like(like, dtype, subok=False)
        return place(array.shape, array.dtype, array.strides)

makers = _fisher, _function, _parameters, _rows_space, _scores, _sparse, _two_classes, _workspace
for module in (*makers, functional, losses, objective, scaled, special):
    module.np = Guarding()

def forget():
    "Work space of the exact size is made for every call."
    _workspace._kept.clear()

def all_of(f):
    "Everything that an objective is asked for."
    w = guarded(rng.random(f.size))
    for call in (f.value_and_grad, f.evaluate, lambda w: f.hessp(w, w), lambda w: f.preconditioner(w)(w)):
        call(w)
        forget()
    if f.size <= 200:
        for few in (2**60, 1):  # two classes' Hessian in double, and of samples that are moved and scaled
            objective.CENTRED_SAMPLES = few
            vars(f).pop("_centre", None)
            f.hessian(w)
            forget()
    if f.in_rows_space() is not None:
        space, narrow = f.in_rows_space()
        space.lower(space.lift(guarded(rng.random(narrow.size)))[0])

def two_classes(X, target, weights, s, n_threads):
    "One row of coefficients."
    one = BinomialObjective(X, target, l2=0.1, sample_weight=weights, n_threads=n_threads)
    all_of(one)
    others = [one, one.weighing(s), one.weighing(s)]
    BinomialObjective.together(others, [guarded(rng.random(one.size)) for _ in others])
    forget()
    w, b = guarded(rng.random((1, X.shape[1])), X.dtype), guarded(rng.random(1), X.dtype)
    for predict in (_two_classes.posteriors, _two_classes.scores):
        predict(X, w, b, n_threads)
        forget()

turns = itertools.count()

def paired(samples, targets):
    "Each of three with one of three, with another at the next size: what reads the one does not know of the other."
    turn = next(turns)
    return [(each, targets[(i + turn) % 3]) for i, each in enumerate(samples)]

def rows_apart(array):
    "The same rows with a gap between them, and none after the last."
    N, D = array.shape
    wide = place(((N - 1) * (D + 5) + D,), array.dtype)
    view = np.lib.stride_tricks.as_strided(wide, (N, D), ((D + 5) * array.itemsize, array.itemsize))
    view[...] = array
    return view
"""

OUTSIDE = f"""{GUARD}
x = place((3, 5), float)
which, beyond = sys.argv[1:]
at_end = which == "end"
x = place((3, 5), float)
address = x.ctypes.data + (x.nbytes if at_end else -1) - (beyond == "no") * (1 if at_end else -1)
ctypes.c_char.from_address(address).value
print("untouched")
"""

PASSES = f"""{GUARD}
rng = np.random.default_rng(int(sys.argv[1]))

def passes(N, D, K, dtype, n_threads):
    X, W, b, Y = (guarded(rng.random(shape), dtype) for shape in ((N, D), (K, D), K, (N, K)))
    y, s = guarded(rng.integers(0, K, N)), guarded(rng.random(N) + 0.1)
    for samples, target in paired((X, rows_apart(X), X[::-1]), (y, Y, Y[::-1])):
        loss_grad(samples, target, W, b, sample_weight=s, label_smoothing=0.1, n_threads=n_threads)
        forget()
        loss_grad(samples, y, W, n_threads=n_threads)
        forget()
        predict_proba(samples, W, b, n_threads=n_threads)
        predict_proba(samples, W, out=place((N, K), dtype), n_threads=n_threads)
        _scores.scores(samples, W, b, n_threads)
        forget()
    loss_grad(np.asfortranarray(X), y, W, b, n_threads=n_threads)
    forget()

def objectives(N, D, K, dtype, n_threads):
    X = guarded(rng.random((N, D)), dtype)
    y = guarded(np.arange(N) % K)
    all_of(SoftmaxObjective(X, y, l2=0.1, n_threads=n_threads))

def binomial(N, D, dtype, n_threads):
    X, Y = guarded(rng.random((N, D)), dtype), guarded(rng.random((N, 2)), dtype)
    y, s = guarded(rng.integers(0, 2, N)), guarded(rng.random(N) + 0.1)
    for samples, (target, weights) in paired((X, rows_apart(X), X[::-1]), ((y, None), (y, s), (Y, s))):
        two_classes(samples, target, weights, s, n_threads)

for dtype, at_end in itertools.product(("f4", "f8"), (True, False)):
    for i, D in enumerate(rng.permutation(70)):
        if not at_end and i % 4:
            continue  # where arrays begin does not depend on their sizes
        K, N = i + 1, (i + int(sys.argv[1])) % 9 + 1
        passes(N, int(D) + 1, K, dtype, 1)
        if i % 7 == 0:
            objectives(max(N, K), int(D) + 1, K, dtype, 1)
        binomial(int(rng.integers(1, 40)), int(D) + 1, dtype, 1)
    # One for each way through the kernels: slices, transposed, owned; several tiles, with two threads.
    for shape in ((1003, 54, 7), (300, 784, 10), (700, 10, 300), (130, 200, 1000), (9, 1050, 2100)):
        passes(*shape, dtype, 2)
    for shape in ((500, 54, 7), (400, 10, 130), (1000, 65, 900), (2, 33, 2), (7, 117, 3), (13, 3001, 5)):
        objectives(*shape, dtype, 2)
    for shape in ((40_000, 9), (3000, 300), (5, 20_000)):
        binomial(*shape, dtype, 2)
print("untouched")
"""

SPARSE = f"""{GUARD}
from scipy.sparse import csr_array, random_array

rng = np.random.default_rng(int(sys.argv[1]))

def rows_of(N, D, dtype, index):
    "Some rows empty, unsorted and repeated columns, the first and the last column among them."
    S = random_array((N, D), density=min(1, 8 / D), format="csr", rng=rng, dtype=np.float64)
    indices = S.indices.copy()
    indices[: len(indices) // 2] = rng.choice([0, D - 1], len(indices) // 2)
    X = csr_array((N, D), dtype=dtype)
    X.data, X.indices, X.indptr = guarded(S.data, dtype), guarded(indices, index), guarded(S.indptr, index)
    return X

def sparse(N, D, K, dtype, index, n_threads):
    X = rows_of(N, D, dtype, index)
    W, b, Y = (guarded(rng.random(shape), dtype) for shape in ((K, D), K, (N, K)))
    y, s = guarded(np.arange(N) % K), guarded(rng.random(N) + 0.1)
    for target in (y, Y):
        loss_grad(X, target, W, b, sample_weight=s, n_threads=n_threads)
        forget()
    loss_grad(X, y, W, n_threads=n_threads)
    forget()
    predict_proba(X, W, b, out=place((N, K), dtype), n_threads=n_threads)
    _scores.scores(X, W, b, n_threads)
    forget()
    all_of(SoftmaxObjective(X, y, l2=0.1, n_threads=n_threads))
    if K > 1:
        binary = guarded(y % 2)
        ((_, (target, weights)),) = paired((X,), ((binary, None), (binary, s), (guarded(Y[:, :2]), s)))
        two_classes(X, target, weights, s, n_threads)

for dtype, index, at_end in itertools.product(("f4", "f8"), ("i4", "i8"), (True, False)):
    for K in range(1, 71, 6):
        sparse(max(K, K % 9 + 1), int(rng.integers(1, 71)), K, dtype, index, 1)
    for shape in ((700, 900, 7), (300, 300, 70), (200, 1500, 130)):
        sparse(*shape, dtype, index, 2)
print("untouched")
"""

SCORES = f"""{GUARD}
for dtype, at_end in itertools.product(("f4", "f8"), (True, False)):
    shapes = [(K % 9 + 1, K) for K in range(1, 71)] + [(K, K % 5 + 1) for K in range(1, 71)]
    shapes += [(19, 100), (5, 129), (3, 1003), (130, 7), (130, 77), (2, 9, 33), (3, 5, 2, 7)]
    for shape in shapes:
        x = place(shape, dtype)
        x[...] = 0
        for view in (x, x[::-1], x[..., ::-1], x.T):
            for axis in range(x.ndim):
                softmax_ext.softmax(view, axis, out=view)
                softmax_ext.log_softmax(view, axis)
                softmax_ext.logsumexp(view, axis)
            labels = np.zeros(np.delete(view.shape, 1), int)
            cross_entropy_grad(view, labels, out=view)
            forget()
            cross_entropy_grad(view, labels, np.ones(view.shape[1]), label_smoothing=0.1)
            forget()
            cross_entropy_grad(view, guarded(view), np.ones(view.shape[1]), out=view)
            forget()
        if x.ndim == 2:
            y, s = guarded(np.arange(len(x)) % x.shape[1]), guarded(np.ones(len(x)))
            a, b = guarded(np.ones((2, x.shape[1])))
            for rows in (x, rows_apart(x)):
                scaled.by_one(rows, y, s, 0.5, 2)
                forget()
                scaled.by_class(rows, y, s, a, b, 2)
                forget()
print("untouched")
"""

# What a caller must not do: other threads write to all inputs during the pass. The results mean nothing, but labels
# and indices that were checked are those that are used.
CHANGED = """
import sys, threading, time
import numpy as np
from softmax_ext import cross_entropy_grad, loss_grad, predict_proba

dtype = sys.argv[1]
rng = np.random.default_rng(0)
N, D, K = 4000, 30, 50
X, W, b, Y = (rng.random(shape).astype(dtype) for shape in ((N, D), (K, D), K, (N, K)))
y, s, Z = rng.integers(0, K, N), rng.random(N) + 0.1, rng.random((N, K)).astype(dtype)
kept = [array.copy() for array in (X, W, b, Y, y, s, Z)]
stop = threading.Event()

def call():
    loss_grad(X, y, W, b, n_threads=2)
    loss_grad(X, Y, W, b, sample_weight=s, n_threads=2)
    predict_proba(X, W, b, n_threads=2)
    cross_entropy_grad(Z, y, n_threads=2)

def scribble():
    # Now and then it rests for three rounds of calls: else hardly a round would be done where each thread has a
    # processor, and an emulator would take many minutes to twenty of them.
    while not stop.is_set():
        until = time.perf_counter() + 3 * took
        while time.perf_counter() < until:
            for array in (X, W, b, Y, s, Z):
                array[...] = np.nan
                array[...] = -1e30
            y[...] = 2**62
            y[...] = -1
            for array, values in zip((X, W, b, Y, y, s, Z), kept):
                array[...] = values
        stop.wait(3 * took)

call()
started = time.perf_counter()
call()
took = time.perf_counter() - started
writer = threading.Thread(target=scribble)
writer.start()
done = refused = 0
try:
    while done < 20 or refused < 20:
        try:
            call()
            done += 1
        except ValueError:
            refused += 1
        if refused > 20_000:
            break
finally:
    stop.set()
    writer.join()
print("alive")
"""


@pytest.mark.parametrize("which", ["end", "beginning"])
def test_the_guard_ends_a_process_that_goes_beyond(which, run_python):
    assert run_python(OUTSIDE, which, "no") == "untouched"
    with pytest.raises(AssertionError, match=r"SEGV|SIGBUS"):
        run_python(OUTSIDE, which, "yes")


@pytest.mark.parametrize("level", dispatch.available())
def test_passes_touch_nothing_else(level, seed, run_python, at_once):
    """Every K and D of 1..70 and N of 1..9 lies before such a page, in another pairing for every seed, and larger ones.

    A fourth of them lies behind one, too.
    """
    run = at_once(lambda level, seed: run_python(PASSES, seed, timeout=600, SOFTMAX_EXT_ISA=level))
    assert run == "untouched"


@pytest.mark.parametrize("level", dispatch.available())
def test_sparse_rows_touch_nothing_else(level, seed, run_python, at_once):
    run = at_once(lambda level, seed: run_python(SPARSE, seed, timeout=600, SOFTMAX_EXT_ISA=level))
    assert run == "untouched"


@pytest.mark.parametrize("level", dispatch.available())
def test_functions_of_scores_touch_nothing_else(level, run_python, at_once):
    assert at_once(lambda level: run_python(SCORES, timeout=600, SOFTMAX_EXT_ISA=level)) == "untouched"


def test_inputs_that_change_during_a_call_end_no_process(dtype, run_python):
    assert run_python(CHANGED, dtype, timeout=300) == "alive"
