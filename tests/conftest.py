"""Fixtures of all tests: every ISA level and dtype as parameters, seeds, problems, and one table of tolerances.

SOFTMAX_EXT_TEST_SEED chooses the seeds: a number, a range such as 0-99, or all (0-99). `--hypothesis-profile` chooses
how many examples hypothesis draws: dev, ci, nightly. `--products=all` runs all cases of tests that are marked `pairs`.
"""

import concurrent.futures
import heapq
import itertools
import os
import signal
import subprocess
import sys
from typing import NamedTuple

import hypothesis
import numpy as np
import pytest
import scipy.sparse

import softmax_ext
from softmax_ext import reference
from softmax_ext._core import dispatch, plan
from softmax_ext._objective import constant

hypothesis.settings.register_profile("dev", max_examples=100, deadline=None, derandomize=True)
hypothesis.settings.register_profile("ci", max_examples=1000, deadline=None, derandomize=True)
hypothesis.settings.register_profile("nightly", max_examples=20_000, deadline=None)
hypothesis.settings.load_profile("dev")


class Tolerance(NamedTuple):
    """How far a kernel may be from the float64 reference.

    rtol bounds what the error of the scores does to the loss and, relative to its largest entry, to the gradient:
    a score is a sum that reaches 100 in `make_problem`, so its rounding is up to 100 eps times a few, and passes
    unchanged to relative errors of S. Plain NumPy in float32 reaches 1.5e-5 for the loss, 1.8e-5 for the gradient and
    5.2e-5 for S over the sizes of test_kernels and 60 seeds; float64 scales with eps, and the reference errs as well.
    atol is the rounding of a residual S - Y near 0, times the gradient of one such residual: plain NumPy reaches
    eps / 2.
    """

    dtype: np.dtype
    rtol: float
    atol: float


TOLERANCES = [Tolerance(np.dtype(np.float32), 4e-5, 5e-7), Tolerance(np.dtype(np.float64), 2e-13, 1e-15)]


def seeds():
    text = os.environ.get("SOFTMAX_EXT_TEST_SEED", "42")
    first, _, last = ("0-99" if text == "all" else text).partition("-")
    return range(int(first), int(last or first) + 1)


def pytest_addoption(parser):
    text = "which cases of tests that are marked `pairs` run: so many that what the mark says is met, or all"
    parser.addoption("--products", choices=["pairs", "all"], default="pairs", help=text)


def pytest_configure(config):
    """Let Ctrl-C interrupt, and tell pytest-run-parallel, where it is, what must not run in two threads at once."""
    # A shell ignores SIGINT in what it runs in the background, and a process inherits that: a test that waits for its
    # interrupt would never end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not config.pluginmanager.hasplugin("run-parallel"):
        return
    shared = ["softmax_ext._core.dispatch.using", "tracemalloc.start", "doctest.testmod"]  # change what all have
    processes = ["signal.raise_signal", "os.kill", "os.fork", "subprocess.run", "subprocess.Popen"]
    for name in shared + processes:
        config.addinivalue_line("thread_unsafe_functions", name)
    config.addinivalue_line("thread_unsafe_fixtures", "tmp_path")  # the same files


def pytest_generate_tests(metafunc):
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", seeds())


def covering(cases, strength=2):
    """Choose cases, each a tuple of values, so that any `strength` values that are together in one are in a chosen one.

    The next is always one that has most of what is still missing, of several the first: a greedy covering array.
    """
    groups = list(itertools.combinations(range(len(cases[0])), min(strength, len(cases[0]))))
    has = [{(group, *(case[i] for i in group)) for group in groups} for case in cases]
    missing, chosen = set().union(*has), []
    heap = [(-len(each), i) for i, each in enumerate(has)]
    while missing:
        _, i = heapq.heappop(heap)
        gain = len(has[i] & missing)
        if heap and (-gain, i) > heap[0]:  # what is missing has become less since it came into the heap
            heapq.heappush(heap, (-gain, i))
        else:
            chosen.append(i)
            missing -= has[i]
    return chosen


@pytest.fixture(name="covering")
def covering_fixture():
    return covering


@pytest.hookimpl(trylast=True)  # behind -k and -m
def pytest_collection_modifyitems(config, items):
    """Leave out what measures time, memory or machine code where it is not ours, and what would take hours.

    Of tests that are marked `pairs` leave out what the option `--products` does not ask for.
    """
    products = {}
    for item in items:
        if (mark := item.get_closest_marker("pairs")) and config.getoption("products") == "pairs":
            products.setdefault((item.path, item.originalname, *mark.args), []).append(item)
    left_out = set()
    for (_, _, *strength), part in products.items():
        kept = covering([tuple(map(id, item.callspec.params.values())) for item in part], *strength)
        left_out |= set(part) - {part[i] for i in kept}
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]
    debug = "SOFTMAX_EXT_DEBUG" in softmax_ext.show_config().flags.get(dispatch.isa, "")
    reasons = {}
    if debug or "libasan" in os.environ.get("LD_PRELOAD", ""):
        reasons = {"optimised": "would measure AddressSanitizer or the debug build"}
    if "SOFTMAX_EXT_TEST_EMULATED" in os.environ:  # by nox -s aarch64
        reasons = {"optimised": "would measure the emulator", "native": "too much for an emulator: {}"}
    for item in items:
        for name, reason in reasons.items():
            if mark := item.get_closest_marker(name):
                item.add_marker(pytest.mark.skip(reason=reason.format(*mark.args)))


@pytest.fixture(params=dispatch.available() or (dispatch.REFERENCE,))
def isa(request):
    """Every ISA level that runs here, one after the other in this process."""
    with dispatch.using(request.param):
        yield request.param


@pytest.fixture(params=TOLERANCES, ids=lambda tolerance: tolerance.dtype.name)
def tolerance(request):
    return request.param


@pytest.fixture(params=["dense", "csr"])
def storage(request):
    """How X is stored."""
    return request.param


@pytest.fixture
def stored(storage):
    """Store an array so: in CSR without its zeros."""
    return scipy.sparse.csr_array if storage == "csr" else np.asarray


@pytest.fixture
def dtype(tolerance):
    return tolerance.dtype


@pytest.fixture(scope="session")
def run_python():
    """Run code in a fresh interpreter, with these environment variables, and return what it printed.

    It must end within `timeout` seconds, with exit status 0; where a signal ended it, its name is told.
    """

    def run(code, *arguments, timeout=120, **env):
        command = [sys.executable, "-X", "faulthandler", "-c", code, *map(str, arguments)]
        done = subprocess.run(command, env=os.environ | env, capture_output=True, text=True, timeout=timeout)
        ended = signal.Signals(-done.returncode).name if done.returncode < 0 else f"exit status {done.returncode}"
        assert done.returncode == 0, f"{ended}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout.strip()

    return run


@pytest.fixture(scope="session")
def processors():
    """As many threads as there are processors."""
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    yield pool
    pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def started():
    """What `at_once` has started: a future for each case."""
    return {}


@pytest.fixture
def at_once(request, processors, started):
    """Return what a function of a case's parameters returns; it runs for all cases that were asked for, at once.

    It is for tests whose cases are processes of their own, which would leave a processor idle one by one.
    """

    def result(function):
        for item in request.session.items:
            same = (item.path, item.originalname) == (request.node.path, request.node.originalname)
            if same and item not in started:
                started[item] = processors.submit(function, **item.callspec.params)
        return started[request.node].result()

    return result


@pytest.fixture
def fresh_plans():
    """Forget plans before and after a test that changes what they are made from."""
    plan.plan.cache_clear()
    yield
    plan.plan.cache_clear()


@pytest.fixture
def small(monkeypatch):
    """Constants of the plan that make many groups, tiles and blocks of a small problem."""

    def change(**constants):
        for name, value in constants.items():
            monkeypatch.setattr(plan, name, value)
        plan.plan.cache_clear()

    yield change
    plan.plan.cache_clear()


@pytest.fixture
def classes_summed(monkeypatch):
    """Fits of small data begin with sums over each class, as those of large data do."""
    monkeypatch.setattr(constant, "SUMMED_FLOPS", 0)


@pytest.fixture
def make_problem():
    """(X, y, W, b) and the keywords of `loss_grad`, by name."""

    def make(N, D, K, dtype, seed=0, *, labels="labels", weights="unweighted", bias=True, storage="dense"):
        rng = np.random.default_rng([seed, N, D, K])
        X = rng.standard_normal((N, D))
        X[::3] *= 20  # else every probability is about 1 / K, and a wrong exp or maximum passes
        W = rng.standard_normal((K, D)) / np.sqrt(D)
        y = rng.integers(0, K, N)
        if labels == "probabilities":  # of which some are 0 and few rows sum to one
            y = (rng.exponential(size=(N, K)) * rng.integers(0, 2, (N, K))).astype(dtype)
        keywords = {}
        if weights in ("sample_weight", "both"):
            keywords["sample_weight"] = rng.exponential(size=N) * (np.arange(N) % 4 != 1)
        if weights in ("class_weight", "both"):
            keywords["class_weight"] = rng.exponential(size=K) + 0.1
        b = rng.standard_normal(K).astype(dtype) if bias else None
        X = X.astype(dtype)
        if storage == "csr":  # with empty rows, and rows of all features
            X = scipy.sparse.csr_array(X * (rng.random((N, D)) < rng.choice([0, 0.1, 0.5, 1], (N, 1))))
        return (X, y, W.astype(dtype), b), keywords

    return make


@pytest.fixture
def assert_like_reference(tolerance):
    """Compare a LossGrad with the reference's for the same arguments."""

    def check(got, arguments, keywords):
        want = reference.loss_grad(*arguments, **keywords)
        X, _, W, b = arguments
        s = keywords.get("sample_weight", np.ones(X.shape[0]))
        X = X.toarray() if scipy.sparse.issparse(X) else X
        one_residual = (s[:, np.newaxis] * np.abs(X)).sum(axis=0).max() / s.sum()
        assert type(got.loss) is float
        # Exponentials below this count as 0: see "Subnormal residuals" in docs/notes.md.
        atol = len(W) * 2.0 ** (-119 if tolerance.dtype == np.float32 else -1015)
        np.testing.assert_allclose(got.loss, want.loss, rtol=tolerance.rtol, atol=atol)
        pairs = [(got.dW, want.dW, one_residual), (got.db, want.db, 1)]
        for ours, theirs, scale in pairs if b is not None else pairs[:1]:
            assert ours.dtype == tolerance.dtype and ours.shape == theirs.shape and ours.flags.c_contiguous
            atol = tolerance.rtol * np.abs(theirs).max() + tolerance.atol * scale
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=0 if len(W) == 1 else atol)
        assert (got.db is None) == (b is None)

    return check
