"""Measure the parts of a pass that decide what many cores reach, and write the tables of docs/cores.md.

    python benchmarks/cores.py                    all shapes, for a machine that does nothing else
    python benchmarks/cores.py MNIST covtype      some shapes
    python benchmarks/cores.py --write            all shapes, with the results written to docs/cores.md
    python benchmarks/cores.py --instructions     the instructions of 1 to 128 threads, by callgrind (AVX2)

A pass is timed on one thread and on two, in turns, and so are a pass over one sample, the start of a team, and the
addition of numbers. The model in docs/cores.md makes predictions of these.
"""

import argparse
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from roofline import processor
from scale import write

import softmax_ext
from softmax_ext import loss_grad
from softmax_ext._core import dispatch, threads
from softmax_ext._core.plan import plan

PAGE = Path(__file__).resolve().parents[1] / "docs" / "cores.md"
SHAPES = {
    "digits": (1797, 64, 10, "f4"),
    "MNIST": (60_000, 784, 10, "f4"),
    "covtype": (581_012, 54, 7, "f4"),
    "embeddings": (100_000, 384, 100, "f4"),
    "a thousand classes": (20_000, 256, 1000, "f4"),
}
CORES = (2, 8, 16, 32, 64, 128)
CORES_COUNTED = (1, 8, 32, 64, 128)


def problem(N, D, K, dtype):
    rng = np.random.default_rng(0)
    W = (0.05 * rng.standard_normal((K, D))).astype(dtype)  # of larger scores, many posteriors are subnormal
    return rng.standard_normal((N, D)).astype(dtype), rng.integers(0, K, N), W


def in_turns(seconds, **sides):
    """Return the lower quartile of each side's seconds; the sides alternate for about so long."""
    times, end = {name: [] for name in sides}, time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(times.values()))) < 5:
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.quantiles(each, n=4)[0] for name, each in times.items()}


def team_start():
    """Return the seconds that a team of two takes to start and to end."""
    v = np.zeros(2 * dispatch.kernels.VECTOR_CHUNK)
    out, run = np.empty_like(v), dispatch.kernels.vectors_subtract["double"]
    times = in_turns(0.5, one=lambda: run(v, v, out, 1), two=lambda: run(v, v, out, 2))
    return times["two"] - times["one"] / 2


def adding():
    """Return the seconds in which one core adds a double to another, both in memory."""
    total, part = np.zeros(4_000_000), np.ones(4_000_000)
    return in_turns(0.5, it=lambda: np.add(total, part, out=total))["it"] / total.size


def tasks_of(way, cores):
    """Return how many equal tasks a pass falls into for so many threads."""
    if way.cut == "slices":
        return way.slices * way.strips if cores > 8 else way.slices
    parts = -(-way.K // way.classes)
    return parts * max(1, min(way.tile // way.rows // 2, -(-2 * cores // parts)))


def predicted(way, one, fixed, start, each, cores):
    """Return the seconds of a pass on so many cores."""
    team = min(cores, way.team(cores))
    if team == 1:
        return one
    tasks = tasks_of(way, cores)
    work = (one - fixed) * math.ceil(tasks / team) / tasks
    loops = 2 if way.cut == "slices" else 4 * math.ceil(way.N / way.tile)
    added = way.slices * way.strips * way.K * way.D * each / team if way.cut == "slices" else 0
    return fixed + work + added + loops * start * math.log2(team)


def measure(names):
    """Yield the rows of the two tables for each shape: what was measured, and what is predicted."""
    start, each = team_start(), adding()
    print(f"a team of two starts in {1e6 * start:.1f} µs, a double is added in {1e9 * each:.2f} ns")
    PARTS.update(start=start, each=each)
    for name in names:
        N, D, K, dtype = SHAPES[name]
        X, y, W = problem(N, D, K, dtype)
        few = X[:1], y[:1]
        sides = {
            "one": lambda X=X, y=y, W=W: loss_grad(X, y, W, n_threads=1),
            "two": lambda X=X, y=y, W=W: loss_grad(X, y, W, n_threads=2),
            "few": lambda few=few, W=W: loss_grad(*few, W, n_threads=1),
        }
        for side in sides.values():
            side()
        times = in_turns(4, **sides)
        way = plan(N, D, K, X.itemsize, dispatch.isa)
        guess = {cores: predicted(way, times["one"], times["few"], start, each, cores) for cores in CORES}
        cells = [f"{1e3 * times[side]:.3g} ms" for side in ("one", "few", "two")]
        measured = [f"{name}, {N} x {D} x {K}", *cells, f"{1e3 * guess[2]:.3g} ms"]
        rates = [f"{1e3 * guess[c]:.3g} ms, {times['one'] / guess[c]:.0f}x" for c in CORES[1:]]
        yield measured, [name, *rates, f"{X.nbytes / guess[64] / 1e9:.0f} GB/s"]


PARTS = {}
MEASURED = ("a pass", "one thread", "over one sample", "two threads", "two by the model")
PREDICTED = ("a pass", *(f"{cores} cores" for cores in CORES[1:]), "X read by 64")


def table(head, rows):
    lines = [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


COUNTED = """
import os, sys
from softmax_ext import loss_grad
from softmax_ext._core import threads
from cores import SHAPES, problem
threads._most = 128
N, D, K, dtype = SHAPES[sys.argv[1]]
X, y, W = problem(min(N, int(sys.argv[2])), D, K, dtype)
for n_threads in sys.argv[3:]:
    for _ in range(2):  # the first pass starts the threads
        os.getppid()
        loss_grad(X, y, W, n_threads=int(n_threads))
os.getppid()
"""


def instructions(name, rows, counts):
    """Return the instructions of a pass over at most so many rows, for each number of threads."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                *("valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"),
                *(sys.executable, "-c", COUNTED, name, str(rows), *map(str, counts)),
            ],
            env=os.environ | {"SOFTMAX_EXT_ISA": "avx2", "OMP_WAIT_POLICY": "passive"},
            cwd=Path(__file__).parent, capture_output=True, check=True,
        )  # fmt: skip
        # The first part is the import, and each pass is one; what comes before a team's second pass is left out.
        return [
            int(re.search(r"^totals: (\d+)", Path(f"{folder}/out.{2 * i + 3}").read_text(), re.MULTILINE)[1])
            for i in range(len(counts))
        ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shapes", nargs="*", help=f"{', '.join(SHAPES)}; all by default")
    parser.add_argument("--write", action="store_true", help="write docs/cores.md")
    parser.add_argument("--instructions", action="store_true", help="count instructions instead")
    parser.add_argument("--rows", type=int, default=2**63, help="count those of so many rows at most")
    options = parser.parse_args()
    names = options.shapes or list(SHAPES)
    if options.instructions:
        rows = []
        for name in names:
            N, D, K, _ = SHAPES[name]
            one, *many = instructions(name, options.rows, CORES_COUNTED)
            rows.append([f"{name}, {min(N, options.rows)} x {D} x {K}", f"{one / 1e6:.1f} million"])
            rows[-1] += [f"{count / one:.4f}" for count in many]
        counted = table(("a pass", "one thread", *(f"{n} threads" for n in CORES_COUNTED[1:])), rows)
        print(counted)
        if options.write:
            write(PAGE, counted=f"{processor()}, callgrind, AVX2.\n\n{counted}")
        return
    threads._most = max(threads._most, 2)
    load, rows = os.getloadavg()[0], list(measure(names))
    measured, guessed = (table(head, [row[i] for row in rows]) for i, head in enumerate((MEASURED, PREDICTED)))
    print(measured, guessed, sep="\n\n")
    if options.write:
        config = softmax_ext.show_config()
        machine = (
            f"{processor()}, {os.cpu_count()} processors, {config.isa}, load {load:.0f} at the start. A team of two "
            f"starts in {1e6 * PARTS['start']:.1f} µs; a core adds a double in {1e9 * PARTS['each']:.2f} ns."
        )
        write(PAGE, measured=f"{machine}\n\n{measured}", predicted=guessed)


if __name__ == "__main__":
    main()
