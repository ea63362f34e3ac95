"""Which kernels an import takes: built, supported, asked for; and what it does when one of these fails."""

import json
import os
import shutil
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import softmax_ext
from softmax_ext._core import dispatch, threads

PACKAGE = Path(softmax_ext.__file__).parent
CALL = "import numpy as np; softmax_ext.loss_grad(np.eye(3), np.arange(3), np.eye(3))"
needs_kernels = pytest.mark.skipif(not dispatch.available(), reason="nothing is compiled")


def run_python(code, folder=PACKAGE.parent, isa=None):
    """Run code in a fresh interpreter on the package in `folder`.

    Without `site`: the finder of an editable install would supply the modules that a damaged copy lacks.
    """
    env = {name: value for name, value in os.environ.items() if name != "SOFTMAX_EXT_ISA"}
    env["PYTHONPATH"] = os.pathsep.join([str(folder), *sys.path])
    if isa is not None:
        env["SOFTMAX_EXT_ISA"] = isa
    command = [sys.executable, "-S", "-P", "-W", "always::RuntimeWarning", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def output(code, *where):
    """What it prints."""
    result = run_python(code, *where)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def error(code, *where):
    """Last line of its traceback."""
    result = run_python(code, *where)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture
def package(tmp_path):
    """A copy of the installed package, to be damaged; with the libgomp that lies beside it in a repaired wheel."""
    copy, libraries = tmp_path / "softmax_ext", PACKAGE.with_name("softmax_ext.libs")
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    if libraries.exists():
        shutil.copytree(libraries, tmp_path / libraries.name)
    assert output("import softmax_ext; print(softmax_ext.__file__)", tmp_path) == str(copy / "__init__.py")
    return copy


def compiled(package, name):
    """File of one of the package's compiled modules."""
    paths = (package / f"_core/{name}{suffix}" for suffix in EXTENSION_SUFFIXES)
    (path,) = (path for path in paths if path.exists())
    return path


WHAT_RUNS = (
    "import softmax_ext; from softmax_ext._core import dispatch as d; print(d.isa, d.kernels and d.kernels.__name__)"
)


@pytest.mark.parametrize("isa", dispatch.available())
def test_environment_chooses_the_level(isa):
    assert output(f"{WHAT_RUNS}; {CALL}", PACKAGE.parent, isa) == f"{isa} softmax_ext._core.kernels_{isa}"


def test_environment_chooses_the_reference():
    assert output(f"{WHAT_RUNS}; {CALL}", PACKAGE.parent, "reference") == "reference None"


@needs_kernels
@pytest.mark.parametrize("isa", [None, ""])
def test_best_level_is_the_default(isa):
    assert output(WHAT_RUNS, PACKAGE.parent, isa).split()[0] == dispatch.available()[0]


@pytest.mark.parametrize("isa", ["sse9", "AVX2", "avx2 "])
def test_unknown_level_is_an_error_that_lists_the_names(isa):
    message = error("import softmax_ext", PACKAGE.parent, isa)
    assert message.startswith("ValueError: SOFTMAX_EXT_ISA")
    assert repr(isa) in message
    assert ", ".join((*dispatch.available(), "reference")) in message


@needs_kernels
def test_a_processor_never_runs_a_level_that_it_lacks(package):
    """A processor that has the baseline only, as `_core.cpu` tells it, never sees another level's code."""
    compiled(package, "cpu").unlink()
    (package / "_core/cpu.py").write_text(
        "supported, has_openmp, openmp_max_threads = lambda: ('baseline',), lambda: False, lambda: 1"
    )
    assert output(WHAT_RUNS, package.parent) == "baseline softmax_ext._core.kernels_baseline"
    for isa in set(dispatch.built()) - {"baseline"}:
        message = error("import softmax_ext", package.parent, isa)
        assert message.startswith(f"RuntimeError: SOFTMAX_EXT_ISA: this processor lacks the ISA level {isa!r}")
        assert message.endswith("baseline, reference")


def emulate(model, best):
    """Compute a little of everything on an emulated processor."""
    code = f"""
import softmax_ext
from softmax_ext import SoftmaxObjective, cross_entropy_grad, optim, predict_proba, reference
from softmax_ext._core import dispatch
import numpy as np
rng = np.random.default_rng(0)
assert dispatch.available()[0] == dispatch.isa == {best!r}, dispatch.available()
for dtype, rtol in (("f4", 1e-4), ("f8", 1e-12)):
    for N, D, K in ((70, 11, 3), (100, 9, 70), (300, 200, 10)):
        X, W, b = (rng.standard_normal(shape).astype(dtype) for shape in ((N, D), (K, D), K))
        y = rng.integers(0, K, N)
        got, want = softmax_ext.loss_grad(X, y, W, b), reference.loss_grad(X, y, W, b)
        assert abs(got.loss - want.loss) <= rtol * want.loss and abs(got.dW - want.dW).max() <= rtol
        assert abs(predict_proba(X, W, b) - reference.predict_proba(X, W, b)).max() <= rtol
        cross_entropy_grad(X, np.zeros(N, int))
        softmax_ext.softmax(X, 1), softmax_ext.log_softmax(X, 0), softmax_ext.logsumexp(X)
objective = SoftmaxObjective(X, y, l2=0.1)
assert optim.newton(objective, np.zeros(objective.size), max_iter=2).n_iter == 2
print("computed")
"""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(PACKAGE.parent), *sys.path]),
        "OPENBLAS_CORETYPE": "Nehalem",  # NumPy's own OpenBLAS asks the processor in a way that qemu answers wrongly
        "OMP_NUM_THREADS": "2",
    }
    env.pop("SOFTMAX_EXT_ISA", None)
    command = ["qemu-x86_64", "-cpu", model, os.path.realpath(sys.executable), "-S", "-P", "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)


@pytest.mark.optimised
@pytest.mark.skipif(not shutil.which("qemu-x86_64"), reason="needs qemu-x86_64 (Debian: qemu-user)")
@pytest.mark.skipif(len(dispatch.available()) < 2, reason="there is one ISA level here")
@pytest.mark.parametrize(
    "model, best",
    [
        ("Nehalem", "baseline"),
        pytest.param("SandyBridge", "baseline", marks=pytest.mark.slow),
        ("Haswell", "avx2"),
        pytest.param("Haswell,-fma", "baseline", marks=pytest.mark.slow),
    ],
)
def test_an_emulated_processor_runs_its_best_level(model, best, at_once):
    """The processors are of 2008 to 2013: an instruction that they lack ends the process."""
    result = at_once(emulate)
    assert result.stdout == "computed\n", f"exit status {result.returncode}\n{result.stderr}"


@needs_kernels
def test_a_level_that_was_not_built_is_an_error(package):
    best, *others = dispatch.available()
    compiled(package, f"kernels_{best}").unlink()
    message = error("import softmax_ext", package.parent, best)
    assert message.startswith(f"RuntimeError: SOFTMAX_EXT_ISA: softmax_ext was built without the ISA level {best!r}")
    if others:
        assert output(WHAT_RUNS, package.parent).split()[0] == others[0]


@pytest.fixture
def source_only(package):
    """The package as a checkout has it before anything is built."""
    for suffix in EXTENSION_SUFFIXES:
        for path in package.glob(f"_core/*{suffix}"):
            path.unlink()
    return package


def test_without_kernels_one_warning_says_how_to_build(source_only):
    code = f"import softmax_ext\n{CALL}\n{CALL}\n{WHAT_RUNS}"
    result = run_python(code, source_only.parent)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "reference None"
    assert result.stderr.count("RuntimeWarning") == 1
    assert result.stderr.startswith("<string>:1: RuntimeWarning")  # the user's import, not a line of the package
    assert "pip install -e ." in result.stderr
    assert f"no kernels lie in {source_only}, which hides" in result.stderr


def test_without_kernels_the_reference_can_be_asked_for(source_only):
    result = run_python(f"{WHAT_RUNS}; {CALL}; print(softmax_ext.show_config())", source_only.parent, "reference")
    assert result.returncode == 0
    assert result.stderr == ""
    assert "supported  unknown" in result.stdout


@needs_kernels
def test_file_that_cannot_be_loaded_is_an_error(package):
    best = dispatch.available()[0]
    compiled(package, f"kernels_{best}").write_bytes(b"no machine code")
    assert error("import softmax_ext", package.parent).startswith("ImportError")


@needs_kernels
def test_kernels_without_cpu_module_are_an_error(package):
    compiled(package, "cpu").unlink()
    assert error("import softmax_ext", package.parent) == "ModuleNotFoundError: No module named 'softmax_ext._core.cpu'"


@pytest.mark.parametrize("isa", [*dispatch.available(), "reference"])
def test_using_swaps_and_restores(isa):
    before = dispatch.isa, dispatch.kernels
    with pytest.raises(ZeroDivisionError), dispatch.using(isa) as kernels:
        assert (dispatch.isa, dispatch.kernels) == (isa, kernels)
        assert kernels is dispatch.load(isa)
        1 / 0  # noqa: B018
    assert (dispatch.isa, dispatch.kernels) == before


def test_using_an_unknown_level_changes_nothing():
    before = dispatch.isa, dispatch.kernels
    with pytest.raises(ValueError, match="sse9"), dispatch.using("sse9"):
        pytest.fail("entered")
    assert (dispatch.isa, dispatch.kernels) == before


@pytest.mark.optimised
@pytest.mark.skipif(not shutil.which("objdump"), reason="needs objdump (Debian: binutils)")
@pytest.mark.parametrize(
    ("isa", "has", "lacks"),
    [("avx512", ["zmm"], []), ("avx2", ["ymm", "vfmadd"], ["zmm"]), ("baseline", ["xmm"], ["ymm", "zmm", "vfmadd"])],
)
def test_level_is_that_levels_machine_code(isa, has, lacks):
    """Levels that agree in every result may still be one and the same code (faiss#5210 ran scalar code everywhere)."""
    if "avx2" not in dispatch.built() or isa not in dispatch.built():
        pytest.skip("only one level is built for this kind of processor")
    path = find_spec(f"softmax_ext._core.kernels_{isa}").origin
    code = subprocess.run(["objdump", "-d", "--no-show-raw-insn", path], capture_output=True, text=True, check=True)
    assert [word for word in has if code.stdout.count(word) < 100] == []
    assert [word for word in lacks if word in code.stdout] == []


def test_show_config_tells_what_runs():
    config = softmax_ext.show_config()
    assert (config.version, config.numpy) == (softmax_ext.__version__, np.__version__)
    assert (config.isa, config.isa_built) == (dispatch.isa, dispatch.built())
    assert config.threads == threads.effective()
    assert str(config) == repr(config)
    for fact in (config.version, config.isa, config.compiler, str(config.threads), config.flags.get(config.isa, "")):
        assert fact in str(config)
    assert json.loads(json.dumps(config._asdict()))["isa"] == config.isa


@needs_kernels
def test_show_config_tells_how_it_was_built():
    config = softmax_ext.show_config()
    assert config.isa_supported[-1] == "baseline"
    assert set(config.flags) == set(config.isa_built)
    assert all("-ffast-math" not in flags and "-march=native" not in flags for flags in config.flags.values())
    assert config.openmp == any("openmp" in flags for flags in config.flags.values())


def test_caches_are_those_of_sysfs(tmp_path):
    told = ["1 Data 48K", "1 Instruction 32K", "2 Unified 2048K", "3 Unified 1M", "9 Data 1K"]
    for index, row in enumerate(told):
        folder = tmp_path / f"index{index}"
        folder.mkdir()
        for name, value in zip(("level", "type", "size"), row.split(), strict=True):
            (folder / name).write_text(f"{value}\n")
    (tmp_path / "index7").mkdir()  # without files
    unknown = dispatch.caches(tmp_path / "nothing here")
    assert dispatch.caches(tmp_path) == (48 * 1024, 2048 * 1024, unknown.l3)


def test_import_takes_no_optional_package():
    code = "import sys, softmax_ext; print({'sklearn', 'matplotlib', 'rich', 'threadpoolctl'} & set(sys.modules))"
    assert output(code) == "set()"


def test_import_leaves_what_only_fits_need_for_later():
    """NumPy's import takes 75 ms, ours 36 more, and 86 with these: see "The import" in docs/notes.md."""
    later = ("scipy", "numpy.random", "softmax_ext._optim", "softmax_ext._objective", "softmax_ext.optim")
    code = f"import sys, softmax_ext; print([name for name in sys.modules if name.startswith({later!r})])"
    assert output(code) == "[]"


@pytest.mark.parametrize("name", softmax_ext.__all__)
def test_every_public_name_is_there_after_the_import(name):
    assert output(f"import softmax_ext; print({name!r} in dir(softmax_ext), bool(softmax_ext.{name}))") == "True True"
