"""How many threads: the argument, OMP_NUM_THREADS, the affinity, the control group's quota, and after a fork."""

import os
import subprocess
import sys
import timeit

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import softmax_ext
from softmax_ext._core import dispatch
from softmax_ext._core import threads as _threads

needs_openmp = pytest.mark.skipif(
    not (dispatch.cpu and dispatch.cpu.has_openmp()), reason="built without OpenMP: there is one thread"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


def run_python(code, **env):
    """Run code in a new interpreter; the test fails if it has not ended after 60 seconds."""
    inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, env=inherited | env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def machine(monkeypatch):
    """A process with a share of 6 processors, where OpenMP would take 8 threads."""
    monkeypatch.setattr(_threads, "_default", 6)
    monkeypatch.setattr(_threads, "_most", 24)
    monkeypatch.setattr(_threads, "_openmp_max_threads", lambda: 8)


COUNTS = [(None, 6), (1, 1), (7, 7), (24, 24), (25, 24), (10**20, 24)]
NEGATIVE = [(-1, 6), (-2, 5), (-6, 1), (-7, 1), (-(10**20), 1)]
OF_NUMPY = [(np.int8(3), 3), (np.uint64(2**63), 24), (np.array(5), 5)]


@pytest.mark.parametrize(("n_threads", "expected"), [*COUNTS, *NEGATIVE, *OF_NUMPY])
def test_the_argument_is_counted_as_documented(machine, n_threads, expected):
    assert _threads.effective(n_threads) == expected


@pytest.mark.parametrize("n_threads", [0, np.int64(0)])
def test_zero_threads_are_an_error(n_threads):
    with pytest.raises(ValueError, match="n_threads must not be 0"):
        _threads.effective(n_threads)


@pytest.mark.parametrize("n_threads", [True, np.True_, 1.0, np.float64(2), "2", b"2", [1], np.array([1, 2]), object()])
def test_a_number_of_threads_that_is_no_integer_is_an_error(n_threads):
    with pytest.raises(TypeError, match="n_threads must be an integer or None"):
        _threads.effective(n_threads)


@needs_openmp
@pytest.mark.thread_unsafe
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_threadpoolctl_limits_the_default_but_not_the_argument(limit):
    unlimited = _threads.effective()
    with threadpool_limits(limit, user_api="openmp"):
        assert _threads.effective() == min(limit, _threads._default)
        assert _threads.effective(2) == 2
    assert _threads.effective() == unlimited


LIMITS = {"150000 100000\n": 2, "100000 100000": 1, "1000 100000": 1, "6400000 100000": 64}
NO_LIMIT = ["max 100000\n", "-1 100000", "-300000 100000", "0 100000", "100000 0", "1e5 100000", "100000", "1 2 3"]
GARBAGE = ["", "garbage", "\0", "\n"]


@pytest.mark.parametrize(("text", "expected"), (LIMITS | dict.fromkeys(NO_LIMIT + GARBAGE)).items())
@pytest.mark.parametrize("version", [1, 2])
def test_a_quota_limits_the_default(version, text, expected, tmp_path):
    membership = tmp_path / "membership"
    if version == 2:
        membership.write_text("0::/\n")
        (tmp_path / "cpu.max").write_text(text)
    else:
        membership.write_text("3:cpu,cpuacct:/\n")
        (tmp_path / "cpu").mkdir()
        time, _, period = text.partition(" ")
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(time)
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text(period)
    assert _threads.quota(tmp_path, membership) == expected


@pytest.mark.parametrize(
    ("membership", "files", "expected"),
    [
        ("0::/a/b", {"a/b/cpu.max": "300000 100000"}, 3),
        ("0::/a/b", {"a/b/cpu.max": "max 100000", "a/cpu.max": "250000 100000"}, 3),  # a group is inside another
        ("0::/a/b", {"a/b/cpu.max": "500000 100000", "a/cpu.max": "200000 100000"}, 2),  # the least of both holds
        ("0::/a", {"cpu.max": "200000 100000"}, 2),  # a container: the path is its host's, the files are its own
        ("0::/a", {"b/cpu.max": "200000 100000"}, None),  # another group's
        ("0::/a:b", {"a:b/cpu.max": "200000 100000"}, 2),
        ("4:memory:/m\n1:cpu:/c\n0::/", {"cpu/c/cpu.cfs_quota_us": "200000", "cpu/c/cpu.cfs_period_us": "100000"}, 2),
        ("4:memory:/m", {"cpu/m/cpu.cfs_quota_us": "200000", "cpu/m/cpu.cfs_period_us": "100000"}, None),
        ("5:cpuset:/c", {"cpu/c/cpu.cfs_quota_us": "200000", "cpu/c/cpu.cfs_period_us": "100000"}, None),
        ("", {"cpu.max": "200000 100000"}, None),
        ("garbage\n::\n0:\n", {}, None),
        (None, {"cpu.max": "200000 100000"}, None),  # not Linux
    ],
)
def test_the_least_quota_of_nested_groups_holds(membership, files, expected, tmp_path):
    if membership is not None:
        (tmp_path / "membership").write_text(membership)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert _threads.quota(tmp_path, tmp_path / "membership") == expected


ACCEPTED = dict.fromkeys(["1", " 3 ", "4,2"], True) | dict.fromkeys(["", "0", "-1", "abc", "2,0", "2,", "1.5"], False)


@pytest.mark.parametrize(("value", "expected"), ACCEPTED.items())
def test_values_of_omp_num_threads_are_accepted_as_libgomp_does(value, expected):
    assert _threads.accepted(value) is expected


PRINT_COUNTS = "from softmax_ext._core import threads as t; print(t.effective(), t.share, t._most)"


@needs_openmp
@pytest.mark.parametrize("value", ["1", "3", "2,1", "1000000"])
def test_omp_num_threads_is_the_default(value):
    threads, _, most = map(int, run_python(PRINT_COUNTS, OMP_NUM_THREADS=value).split())
    assert threads == min(int(value.partition(",")[0]), most)


@needs_openmp
@pytest.mark.skipif("gcc" not in softmax_ext.show_config().compiler, reason="LLVM's OpenMP ends the process by itself")
@pytest.mark.parametrize("value", ["", "abc", "0", "-1"])
def test_omp_num_threads_that_libgomp_refuses_says_nothing(value):
    threads, share, _ = run_python(PRINT_COUNTS, OMP_NUM_THREADS=value).split()
    assert threads == share


@needs_openmp
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no affinity to set")
def test_an_affinity_mask_limits_the_default():
    code = f"import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); {PRINT_COUNTS}"
    assert run_python(code) == f"1 1 {_threads.OVERSUBSCRIPTION}"


# The parent has a team of two, forks, and the child computes with two again; a hang ends by SIGALRM.
FORK = """
import os, signal, threading, numpy as np, softmax_ext
from softmax_ext._core import threads as _threads

rng = np.random.default_rng(0)
X, y, W = rng.standard_normal((20000, 64)), rng.integers(0, 10, 20000), rng.standard_normal((10, 64))

def loss(n_threads):
    return softmax_ext.loss_grad(X, y, W, n_threads=n_threads).loss

def fork():
    expected = loss(2)
    child = os.fork()
    if not child:
        signal.alarm(20)
        results = loss(2), loss(None)
        print(_threads.effective(), _threads.effective(7), flush=True)
        os._exit(results != (expected, expected))
    status = os.waitpid(child, 0)[1]
    assert status == 0, status
    assert loss(2) == expected

"""


@needs_openmp
@needs_fork
@pytest.mark.parametrize("where", ["fork()", "t = threading.Thread(target=fork); t.start(); t.join()"])
def test_the_child_of_a_fork_has_a_team(where):
    counts = f"{_threads.effective()} {_threads.effective(7)}"
    assert run_python(f"{FORK}for _ in range(10): {where}").splitlines() == [counts] * 10


@needs_openmp
@needs_fork
def test_a_child_runs_alone_where_the_team_cannot_be_let_go():
    """This is so with an OpenMP that cannot be paused; the parent keeps its threads."""
    code = f"{FORK}_threads._before_fork(lambda: False); fork(); print(_threads._most)"
    assert run_python(code).splitlines() == ["1 1", str(_threads._most)]


@pytest.mark.optimised
def test_the_default_is_cheap_to_find():
    """0.1 µs were measured; a system call or a file in it would take microseconds."""
    assert min(timeit.repeat(_threads.effective, number=1000, repeat=20)) / 1000 < 1e-6
