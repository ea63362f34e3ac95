"""How many threads a call runs on: its argument, OMP_NUM_THREADS, the affinity, the control group's quota, a fork.

OpenMP counts the processors that the affinity leaves, but not the quota of a container (`docker run --cpus=2` on 64
processors: 64 threads). scikit-learn and joblib settle this the same way.
"""

import operator
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np

from . import dispatch

# A team may be this many times the processors, so that more threads than processors can be asked for (tests do), but
# not any number: libgomp ends the process when it cannot create a thread.
OVERSUBSCRIPTION = 4


def effective(n_threads: int | None = None) -> int:
    """Return the number of threads for one call.

    Parameters
    ----------
    n_threads : int or None
        None: the process's share of the machine, or what OMP_NUM_THREADS or threadpoolctl say. Negative: as in
        joblib, -1 is all of that, -2 all but one, and never less than 1. Positive: that many, up to four for each
        processor of the share.

    Raises
    ------
    ValueError
        For 0.
    TypeError
        For anything that is not an integer; True is not.
    """
    if n_threads is None:
        return min(_openmp_max_threads(), _default)
    if isinstance(n_threads, bool | np.bool_):  # bool has an __index__, and NumPy's had one
        raise TypeError(f"n_threads must be an integer or None, got {n_threads!r}")
    try:
        wanted = operator.index(n_threads)
    except TypeError:
        raise TypeError(f"n_threads must be an integer or None, got {n_threads!r}") from None
    if wanted == 0:
        raise ValueError("n_threads must not be 0; use None for this process's share of the machine, or -1 for all")
    return min(wanted, _most) if wanted > 0 else max(1, effective() + 1 + wanted)


def affinity() -> int:
    """Processors that this process may be scheduled on."""
    if hasattr(os, "process_cpu_count"):  # Python 3.13, which honours PYTHON_CPU_COUNT as well
        return int(os.process_cpu_count() or 1)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> int | None:
    """Processors' worth of time that the control groups of this process get, rounded up; None is no limit.

    A group is limited by every group around it. In a container its path may be the one outside, where only the groups
    from the container's own upwards exist.
    """
    limits = []
    for line in _read(membership).splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")  # of hierarchy:controllers:path
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "cpu" if controllers else root  # version 1 names its controllers, version 2 has none to name
        inside = PurePosixPath(path.lstrip("/"))
        for group in (inside, *inside.parents):
            limits += [_processors(_read(mount / group / "cpu.max"))]
            limits += [_processors(" ".join(_read(mount / group / f"cpu.cfs_{x}_us") for x in ("quota", "period")))]
    return min(filter(None, limits), default=None)


def _read(path: Path) -> str:
    """Text of a file, nothing where there is none to read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _processors(text: str) -> int | None:
    """Turn "quota period" into processors; "max 100000", "-1 100000" and what cannot be read are no limit."""
    try:
        time, period = map(int, text.split())
    except ValueError:
        return None
    return -(-time // period) if time > 0 and period > 0 else None


def accepted(omp_num_threads: str) -> bool:
    """Whether OpenMP takes this value of OMP_NUM_THREADS: positive integers, one for each level of nesting."""
    return all(level.strip().isdecimal() and int(level) > 0 for level in omp_num_threads.split(","))


def _run_alone() -> None:
    """Keep this process to one thread, whatever is asked for."""
    global _default, _most
    _default = _most = 1


def _before_fork(prepare_fork: Callable[[], bool]) -> None:
    """Part with the OpenMP team, since its other threads do not come along."""
    global _stranded
    _stranded = _stranded or not prepare_fork()


def _after_fork() -> None:
    """Do without threads in a child whose team could not be parted with: libgomp would wait for it for ever."""
    if _stranded:
        _run_alone()


# Read once, as OpenMP reads them at its start: the files take a hundred times as long as the rest of a call.
share = min(affinity(), quota() or affinity())
_most = OVERSUBSCRIPTION * share
_default = _most if accepted(os.environ.get("OMP_NUM_THREADS", "")) else share
_stranded = False

_openmp_max_threads: Callable[[], int] = dispatch.cpu.openmp_max_threads if dispatch.cpu else lambda: 1

if not (dispatch.cpu and dispatch.cpu.has_openmp()):
    _run_alone()
elif hasattr(os, "register_at_fork"):
    os.register_at_fork(before=partial(_before_fork, dispatch.cpu.prepare_fork), after_in_child=_after_fork)
