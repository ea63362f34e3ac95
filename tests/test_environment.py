"""What a call leaves as it was, for the whole process: the floating-point mode and flags, every BLAS's threads."""

import concurrent.futures
import ctypes
import ctypes.util
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

import softmax_ext
from softmax_ext import SoftmaxObjective, optim
from softmax_ext._core import dispatch
from softmax_ext._core.vectors import combinations
from softmax_ext._objective.parameters import Parameters
from softmax_ext._objective.rows_space import spanned

MODULES = ["_core.cpu", *(f"_core.kernels_{isa}" for isa in dispatch.built())]


def calls(dtype):
    """Every function of the package, on numbers that underflow and overflow on the way."""
    rng = np.random.default_rng(0)
    X, W, b = (100 * rng.standard_normal(shape).astype(dtype) for shape in ((3000, 40), (9, 40), 9))
    X[0] *= np.finfo(dtype).max / 1000
    y, Z = rng.integers(0, 9, len(X)), X[1:, :9]
    objective = SoftmaxObjective(X[1:], y[1:], l2=1.0)
    w = np.concatenate([W.ravel(), b]).astype(float)
    wide = X[1:41].reshape(2, -1)
    return {
        "loss_grad": lambda: softmax_ext.loss_grad(X, y, W, b, n_threads=2),
        "predict_proba": lambda: softmax_ext.predict_proba(X, W, b, n_threads=2),
        "softmax": lambda: softmax_ext.softmax(Z, 1),
        "log_softmax": lambda: softmax_ext.log_softmax(Z, 0),
        "logsumexp": lambda: softmax_ext.logsumexp(Z, 1),
        "cross_entropy": lambda: softmax_ext.cross_entropy_grad(Z, y[1:]),
        "hessp": lambda: objective.hessp(w, w),
        "hessian": lambda: objective.hessian(w),
        "linear_cross_entropy": lambda: softmax_ext.linear_cross_entropy(X, W, y, linear_bias=b),
        "evaluate": lambda: objective.evaluate(w),
        "value_and_grad": lambda: objective.value_and_grad(w),
        "lbfgs": lambda: optim.lbfgs(objective, 0 * w, max_iter=3),
        "gram": lambda: gram(wide),
        "rows_space": lambda: spanned(wide, Parameters(3, 800, False, False), 2).run().lift(np.ones(6), np.ones(6)),
    }


def gram(X):
    """What wider samples need, and coordinates among them: X Xᵀ, its factor, and combinations of the samples."""
    N, (ld, space) = len(X), dispatch.kernels.gram_space(len(X))
    G, work = np.zeros((N, ld)), np.empty((1, space))
    dispatch.kernels.gram_add(X, G, work, np.empty((1, N, ld)), 1)
    dispatch.kernels.gram_factor(G, np.empty(N), work[0], 1e-12)
    dispatch.kernels.triangle_solve(np.ascontiguousarray(G[:, :N]), np.ones((3, N)), True)
    combinations(X, np.ones((N, 3)))


MODE = """
import ctypes, sys
import numpy as np

libm = ctypes.CDLL({libm!r})

def mode():
    "The rounding direction as the C library tells and as it is, and whether subnormal numbers are there, in and out."
    third, tiny = (np.full(64, 1.0) / np.full(64, 3.0)).tobytes(), np.full(64, 1e-40, np.float32)
    return libm.fegetround(), third, sys.float_info.min / 2, (tiny * np.float32(0.5)).tolist(), (tiny * 1e10).tolist()

directions = [0]
if {directed}:
    # As the processor numbers them: x86 and ARM have four, AArch64 in bits 22 and 23.
    for direction in [*range(1, 4097), 1 << 22, 2 << 22, 3 << 22]:
        if libm.fesetround(direction) == 0:
            directions.append(direction)
assert not {directed} or len(directions) == 4, directions
before = []
for direction in directions:
    libm.fesetround(direction)
    before.append(mode())
libm.fesetround(directions[0])
import softmax_ext
sys.path.insert(0, {tests!r})
from test_environment import calls
for direction, expected in zip(directions, before):
    libm.fesetround(direction)
    assert mode() == expected, "after the import"
    for name, call in [*calls(np.float32).items(), *calls(np.float64).items()]:
        with np.errstate(all="ignore"):
            call()
        assert mode() == expected, name
assert 0 not in before[0][3] and before[0][2]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="its C library is not one that ctypes finds by the name m")
@pytest.mark.parametrize("level", dispatch.available())
def test_rounding_and_subnormals_stay(level, run_python):
    """They do in every direction of rounding that a program may have chosen."""
    names = {"libm": ctypes.util.find_library("m"), "tests": str(Path(__file__).parent)}
    run_python(MODE.format(directed=sys.platform == "linux", **names), SOFTMAX_EXT_ISA=level)


@dataclass
class Made:
    """An object of the kernels, whose methods are watched as well."""

    watched: Any
    name: str
    made: Any

    def __getattr__(self, name):
        of = getattr(self.made, name)
        return self.watched.watch(f"{self.name}.{name}", of) if callable(of) else of


def bare(argument):
    """Return what the kernels have made, as they know it."""
    if type(argument) in (list, tuple):
        return [bare(each) for each in argument]
    return argument.made if isinstance(argument, Made) else argument


class Watched:
    """The kernels; every call must leave the floating-point flags as it found them."""

    def __init__(self, kernels, libm, raised):
        self.kernels, self.libm, self.raised, self.called = kernels, libm, raised, set()

    def __getattr__(self, name):
        of = getattr(self.kernels, name)
        if hasattr(of, "__getitem__"):  # of each floating type
            return {kind: self.watch(name, of[kind]) for kind in ("float", "double")}
        return self.watch(name, of) if callable(of) else of

    def watch(self, name, function):
        def call(*arguments, **keywords):
            arguments = [bare(each) for each in arguments]
            self.libm.feclearexcept(0xFF)
            self.libm.feraiseexcept(self.raised)
            before = self.libm.fetestexcept(0xFF)
            result = function(*arguments, **keywords)
            assert self.libm.fetestexcept(0xFF) == before, name
            self.called.add(name)
            return Made(self, name, result) if isinstance(function, type) else result

        return call


@pytest.mark.skipif(sys.platform != "linux", reason="the bits of the flags are known on Linux")
@pytest.mark.parametrize("raised", [0, 0xFF], ids=["none", "all"])
def test_flags_stay(isa, dtype, raised, monkeypatch):
    """Those of the calling thread do; NumPy's own functions clear them at their start."""
    if isa == dispatch.REFERENCE:
        pytest.skip("it is NumPy")
    watched = Watched(dispatch.kernels, ctypes.CDLL(ctypes.util.find_library("m")), raised)
    monkeypatch.setattr(dispatch, "kernels", watched)
    with np.errstate(all="ignore"):
        for call in calls(dtype).values():
            call()
    passes = {f"{name}.visit" for name in ("LossGrad", "Probabilities", "HessianProduct", "Hessian")}
    used = passes | {"special", "cross_entropy", "Factors.factor", "Factors.apply", "Function.at", "Stretch.prepare"}
    used |= {"gram_add", "gram_factor", "triangle_solve", "rows_combine", "Factoring", "Lifting", "run_calls"}
    assert used <= watched.called


def disassembly(name):
    path = find_spec(f"softmax_ext.{name}").origin
    command = ["objdump", "-d", "--no-show-raw-insn", path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.optimised
@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump (Debian: binutils)")
@pytest.mark.parametrize("name", MODULES)
def test_no_module_sets_the_mode(name):
    """-ffast-math at the link adds set_fast_math, whose one act is to load the control register when loaded itself.

    The C library's functions for the flags are called, not inlined, so no other instruction of ours does.
    """
    code = disassembly(name)
    assert "set_fast_math" not in code
    assert "ldmxcsr" not in code and "fldenv" not in code
    assert len(code) > 10_000


def blas_threads():
    return {library["filepath"]: library["num_threads"] for library in threadpool_info()}


def test_every_thread_pool_keeps_its_size(isa):
    """NumPy's and SciPy's BLAS do, and OpenMP, after eight Python threads that call at once."""
    import scipy.linalg  # noqa: F401  # it has a BLAS of its own

    before = blas_threads()
    assert len(before) >= 2
    functions = [call for dtype in (np.float32, np.float64) for call in calls(dtype).values()]

    def run(_):
        with np.errstate(all="ignore"):
            for call in functions:
                call()

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(run, range(8)))
    assert blas_threads() == before
