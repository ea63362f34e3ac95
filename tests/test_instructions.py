"""Many threads: they do the work of one, and no more than a twentieth on top of it, counted in instructions."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from softmax_ext._core import dispatch

COUNTS = (1, 8, 32, 64, 128)
# Rows, features, classes. There are slices with strips, two classes with one row of coefficients, owned classes, sparse
# rows in slices, and sparse rows whose features have owners.
KINDS = {
    "slices": (82_000, 54, 7),
    "binomial": (66_000, 300, 2),
    "owned": (1100, 230, 1000),
    "sparse slices": (20_000, 300, 3),
    "sparse": (40_000, 20_000, 40),
}
PASSES = """
import os, sys
import numpy as np
import scipy.sparse
from softmax_ext import loss_grad
from softmax_ext._core import threads
from softmax_ext.objective import BinomialObjective, SoftmaxObjective

threads._most = 128
rng = np.random.default_rng(0)
if kind.startswith("sparse"):
    indices, indptr = rng.integers(0, D, 20 * N).astype(np.int32), np.arange(0, 20 * N + 1, 20)
    X = scipy.sparse.csr_array((rng.standard_normal(20 * N, np.float32), indices, indptr), (N, D))
else:
    X = np.resize(rng.standard_normal(10_007, np.float32), (N, D))  # to draw all would take longer than the passes
Objective = BinomialObjective if kind == "binomial" else SoftmaxObjective
y = rng.integers(0, K, N)
for n_threads in COUNTS:
    objective = Objective(X, y, n_threads=n_threads)
    w = np.full(objective.size, 0.01)
    objective.value_and_grad(w)  # it makes what all others use, and starts the threads
    os.getppid()
    objective.value_and_grad(w)
    os.getppid()
"""


def counted(folder, kind):
    """Return the instructions of an evaluation for each number of threads."""
    code = f"kind, N, D, K = {(kind, *KINDS[kind])}\nCOUNTS = {COUNTS}\n{PASSES}"
    subprocess.run(
        [
            *("valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={folder}/out"),
            *(sys.executable, "-c", code),
        ],
        env=os.environ | {"SOFTMAX_EXT_ISA": "avx2", "OMP_WAIT_POLICY": "passive"},
        capture_output=True,
        check=True,
    )
    # There are two parts for each number: what comes before the second evaluation, and that.
    texts = [(folder / f"out.{2 * i + 2}").read_text() for i in range(len(COUNTS))]
    totals = [int(re.search(r"^totals: (\d+)", text, re.MULTILINE)[1]) for text in texts]
    return dict(zip(COUNTS, totals, strict=True))


@pytest.mark.slow
@pytest.mark.optimised
@pytest.mark.skipif("avx2" not in dispatch.available(), reason="valgrind knows no AVX-512, and here is no AVX2")
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind, which counts them, is not installed")
@pytest.mark.parametrize("kind", KINDS)
def test_many_threads_do_a_twentieth_more_at_most(kind, tmp_path):
    found = counted(tmp_path, kind)
    one = found[1]
    assert one > 3_000_000, "less than a pass for which a team is started"
    assert {n: round(count / one, 3) for n, count in found.items() if count > 1.05 * one} == {}, found
