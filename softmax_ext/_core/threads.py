"""How many threads a call runs on, by its argument, OMP_NUM_THREADS, the affinity and the control group's quota.

OpenMP respects the affinity, but not the quota of a container: under `docker run --cpus=2` on 64 processors it starts
64 threads. So the quota is read here, as scikit-learn and joblib do.
"""

import operator
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from . import dispatch

# A team may have this many threads for each processor, so that tests can ask for more threads than processors. There
# is a bound, since libgomp ends the process when it cannot create a thread.
OVERSUBSCRIPTION = 4


def effective(n_threads: int | None = None) -> int:
    """Return the number of threads for one call.

    Parameters
    ----------
    n_threads : int or None
        None is the process's share of the machine, or what OMP_NUM_THREADS or threadpoolctl set. Negative numbers count
        from there as in joblib: -1 is all of them, -2 all but one, and at least one is left. A positive number is that
        many threads, but at most four for each processor of the share.

    Raises
    ------
    ValueError
        If `n_threads` is 0.
    TypeError
        If it is not an integer; True and False are refused.
    """
    if n_threads is None:
        return min(_openmp_max_threads(), _default)
    if isinstance(n_threads, bool | np.bool_):  # operator.index takes bool, and NumPy's in its older versions
        raise TypeError(f"n_threads must be an integer or None, got {n_threads!r}")
    try:
        wanted = operator.index(n_threads)
    except TypeError:
        raise TypeError(f"n_threads must be an integer or None, got {n_threads!r}") from None
    if wanted == 0:
        raise ValueError("n_threads must not be 0; use None for this process's share of the machine, or -1 for all")
    return min(wanted, _most) if wanted > 0 else max(1, effective() + 1 + wanted)


def affinity() -> int:
    """Return how many processors this process may be scheduled on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13, which honours PYTHON_CPU_COUNT as well
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Return how many processors' time the control groups give this process, rounded up; None if they set no limit.

    A group is limited by all groups that contain it. In a container the path may be that on the host; its last groups
    then do not exist here and set no limit.
    """
    limits = []
    for line in _read(membership).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # a line is hierarchy:controllers:path
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root  # only version 1 of control groups names controllers here
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            limits += [_processors(_read(mount / group / "cpu.max"))]
            limits += [_processors(" ".join(_read(mount / group / f"cpu.cfs_{x}_us") for x in ("quota", "period")))]
    return min(filter(None, limits), default=None)


def _read(path: Path) -> str:
    """Return the text of a file, or "" if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _processors(text: str) -> int | None:
    """Return the processors that "quota period" allows; None for "max 100000", "-1 100000" and unreadable text."""
    try:
        time, period = map(int, text.split())
    except ValueError:
        return None
    return -(-time // period) if time > 0 and period > 0 else None


def accepted(omp_num_threads: str) -> bool:
    """Return whether OpenMP accepts this value of OMP_NUM_THREADS: positive integers, one for each level of nesting."""
    return all(level.strip().isdecimal() and int(level) > 0 for level in omp_num_threads.split(","))


def _run_alone() -> None:
    """Keep all later calls of this process on one thread, whatever they ask for."""
    global _default, _most
    _default = _most = 1


def _before_fork(prepare_fork: Callable[[], bool]) -> None:
    """End the OpenMP team's threads, since a child process would not have them but libgomp would wait for them."""
    global _stranded
    _stranded = _stranded or not prepare_fork()


def _after_fork() -> None:
    """Keep a child to one thread if its parent's team could not be ended: libgomp would wait for it for ever."""
    if _stranded:
        _run_alone()


# The affinity and the quota are read once, as OpenMP reads its settings once: reading these files takes a hundred times
# as long as the rest of a small call.
share = min(affinity(), quota() or affinity())
_most = OVERSUBSCRIPTION * share
_default = _most if accepted(os.environ.get("OMP_NUM_THREADS", "")) else share
_stranded = False

_openmp_max_threads: Callable[[], int] = dispatch.cpu.openmp_max_threads if dispatch.cpu else lambda: 1

if not (dispatch.cpu and dispatch.cpu.has_openmp()):
    _run_alone()
elif hasattr(os, "register_at_fork"):
    os.register_at_fork(before=partial(_before_fork, dispatch.cpu.prepare_fork), after_in_child=_after_fork)
