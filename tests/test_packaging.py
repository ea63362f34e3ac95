"""What an sdist and a wheel hold, built in a copy of the source tree; and what a build without OpenMP says."""

import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from importlib import metadata
from pathlib import Path

import pytest

import softmax_ext
from softmax_ext._core import dispatch

ROOT = Path(__file__).parents[1]
NAME = f"softmax_ext-{softmax_ext.__version__}"
FOLDERS = ["src", "softmax_ext", "tests", "benchmarks"]


def version(distribution):
    try:
        return tuple(int(part) for part in metadata.version(distribution).split(".")[:2])
    except metadata.PackageNotFoundError:
        return (0,)


pytestmark = [
    pytest.mark.native("builds, by the compiler of the emulator's host"),
    pytest.mark.skipif(not (ROOT / "setup.py").exists(), reason="the source tree is not here"),
    pytest.mark.skipif(
        version("setuptools") < (77,) or version("Cython") < (3, 1), reason="needs setuptools >= 77 and Cython >= 3.1"
    ),
]


def run(*command, folder, **env):
    """Run a command with these variables added to the environment."""
    return subprocess.run(command, cwd=folder, env=os.environ | env, capture_output=True, text=True, timeout=600)


def build(kind, source, target, **env):
    """Call the build backend as pip does; return the one file that it makes."""
    code = f"from setuptools import build_meta; build_meta.build_{kind}({str(target)!r})"
    result = run(sys.executable, "-c", code, folder=source, **env)
    assert result.returncode == 0, result.stdout + result.stderr
    (made,) = target.iterdir()
    return made


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    """A copy of what a checkout holds, so that a build neither finds nor leaves anything in the tree."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("*.so", "*.pyd", "__pycache__", ".*"))
    return copy


@pytest.fixture(scope="session")
def sdist(source, tmp_path_factory):
    """The unpacked sdist."""
    packed = build("sdist", source, tmp_path_factory.mktemp("sdist"))
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    assert [path.name for path in folder.iterdir()] == [NAME]
    return folder / NAME


@pytest.fixture(scope="session")
def quick_compiler(tmp_path_factory):
    """Variables by which a build does not optimise, whatever setup.py says, where a script can say so to a compiler."""
    if sys.platform == "win32" or not shutil.which("cc"):
        return {}
    script = tmp_path_factory.mktemp("compiler") / "cc"
    script.write_text('#!/bin/sh\nexec cc "$@" -O0 -g0\n')
    script.chmod(0o755)
    return {"CC": str(script)}


@pytest.fixture(scope="session", params=["one level", pytest.param("all levels", marks=pytest.mark.slow)])
def levels(request):
    """The ISA levels that the wheel is built for: the compiler takes twelve seconds for each."""
    return ("baseline",) if request.param == "one level" else dispatch.built()


@pytest.fixture(scope="session")
def wheel(levels, sdist, quick_compiler, tmp_path_factory):
    """The unpacked wheel, made from the sdist; a debug build, since it compiles sooner and holds the same files."""
    switches = {"SOFTMAX_EXT_DEBUG": "1", **quick_compiler}
    if len(levels) == 1:
        switches["_PYTHON_HOST_PLATFORM"] = "linux-other"  # the name of a system of which no other level is known
    packed = build("wheel", sdist, tmp_path_factory.mktemp("wheel"), **switches)
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(packed) as archive:
        archive.extractall(folder)
    return folder


def run_python(code, package_root, **env):
    """Run code in a fresh interpreter, without `site`: an editable install's finder would come first."""
    path = os.pathsep.join([str(package_root), *sys.path])
    result = run(sys.executable, "-S", "-P", "-c", code, folder=package_root, PYTHONPATH=path, **env)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def names(folder, *parts):
    files = (path for path in folder.joinpath(*parts).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)) for path in files}


@pytest.mark.parametrize("part", FOLDERS)
def test_sdist_holds_the_source(part, source, sdist):
    assert names(sdist, part) == names(source, part) != set()


def test_sdist_holds_what_a_build_reads(sdist):
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"} <= names(sdist)
    assert not (sdist / "build").exists()


def test_wheel_holds_the_package_and_nothing_else(levels, source, wheel):
    python_files = names(source, "softmax_ext")
    assert all(Path(name).suffix in (".py", ".pyi") or Path(name).name == "py.typed" for name in python_files)
    compiled = {name for name in names(wheel, "softmax_ext") if Path(name).suffix in (".so", ".pyd")}
    assert names(wheel, "softmax_ext") == python_files | compiled
    modules = {"cpu", *(f"kernels_{isa}" for isa in levels)}
    assert {Path(name).name.partition(".")[0] for name in compiled} == modules
    assert {path.name for path in wheel.iterdir()} == {"softmax_ext", f"{NAME}.dist-info"}


def test_wheel_metadata_names_licence_extras_and_command(wheel):
    info = wheel / f"{NAME}.dist-info"
    fields = HeaderParser().parsestr((info / "METADATA").read_text())
    assert (fields["Name"], fields["Version"]) == ("softmax_ext", softmax_ext.__version__)
    assert (fields["License-Expression"], fields["Requires-Python"]) == ("BSD-3-Clause", ">=3.11")
    assert {"sklearn", "demo", "test", "bench", "docs", "all"} <= set(fields.get_all("Provides-Extra"))
    assert (info / "licenses" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert "softmax-ext = softmax_ext._cli.main:main" in (info / "entry_points.txt").read_text()


def test_wheel_runs_at_every_level(levels, wheel):
    """It does with the bounds checks and assertions that it was built with."""
    code = """
import numpy as np, softmax_ext
X, y, W = np.eye(7, 5), np.arange(7) % 3, np.ones((3, 5))
assert np.isclose(softmax_ext.loss_grad(X, y, W).loss, np.log(3))
config = softmax_ext.show_config()
print(softmax_ext.__file__, config.isa, *config.isa_built)
"""
    for isa in set(levels) & set(dispatch.available()):
        printed = run_python(code, wheel, SOFTMAX_EXT_ISA=isa)
        assert printed == [str(wheel / "softmax_ext" / "__init__.py"), isa, *levels]


@pytest.mark.optimised
@pytest.mark.skipif(not shutil.which("strip"), reason="needs strip (Debian: binutils)")
def test_a_stripped_wheel_stays_below_four_megabytes(tmp_path):
    """As `auditwheel repair --strip` makes it, with room for OpenMP's library of 0.2 MB."""
    package = Path(softmax_ext.__file__).parent
    with zipfile.ZipFile(tmp_path / "wheel", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in package.rglob("*"):
            if path.suffix in (".so", ".pyd"):
                subprocess.run(["strip", "-o", str(tmp_path / path.name), str(path)], check=True)
                path = tmp_path / path.name
            if path.is_file() and "__pycache__" not in path.parts:
                archive.write(path)
    assert (tmp_path / "wheel").stat().st_size < 3_800_000


@pytest.mark.optimised
@pytest.mark.skipif(not shutil.which("nm"), reason="needs nm (Debian: binutils)")
@pytest.mark.skipif("gcc 12" not in softmax_ext.show_config().compiler, reason="the page has the sizes by GCC 12")
def test_the_page_about_building_knows_what_the_kernels_weigh():
    """To a fifth: a kernel that is added changes the last line of its table."""
    program = runpy.run_path(str(ROOT / "benchmarks" / "sizes.py"))
    page = (ROOT / "docs" / "tutorials" / "building.md").read_text()
    told = re.search(r"^\| all \| (\d+) \| (\d+) \| (\d+) \|$", page, re.MULTILINE).groups()
    for isa, kib in zip(["baseline", "avx2", "avx512"], told, strict=True):
        (module,) = Path(softmax_ext.__file__).parent.glob(f"_core/kernels_{isa}.*.so")
        assert sum(program["sizes"](module, {}).values()) / 1024 == pytest.approx(int(kib), rel=0.2)


def test_conda_recipe_asks_for_what_the_project_does():
    yaml = pytest.importorskip("yaml")
    if not (ROOT / "conda").exists():
        pytest.skip("the sdist has no recipe")
    recipe = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert recipe["context"]["version"] == softmax_ext.__version__
    host, run = (
        {need.lower().replace(" ", "") for need in recipe["requirements"][part] if isinstance(need, str)}
        for part in ("host", "run")
    )
    assert run == {"python", *pyproject["project"]["dependencies"]}
    assert host == {"python", "pip", *(need.lower() for need in pyproject["build-system"]["requires"])}
    (script,) = pyproject["project"]["scripts"].items()
    assert recipe["build"]["python"]["entry_points"] == [" = ".join(script)]
    # conda-forge's linter asks for these, and is not on PyPI
    assert {"homepage", "summary", "license", "license_file"} <= set(recipe["about"])
    assert recipe["extra"]["recipe-maintainers"] and recipe["tests"] and recipe["build"]["number"] == 0


@pytest.mark.parametrize("build", ["linux-64", "osx-64", "osx-arm64", "win-64"])
@pytest.mark.parametrize("target", ["linux-64", "linux-aarch64", "osx-64", "osx-arm64", "win-64"])
def test_rattler_build_reads_the_conda_recipe(build, target):
    """It knows every word, and builds with OpenMP everywhere, on Windows by Clang, and for others by this Python."""
    rattler = pytest.importorskip("rattler_build", reason="nox -s recipe installs py-rattler-build")
    if not (ROOT / "conda").exists():
        pytest.skip("the sdist has no recipe")
    recipe = rattler.Stage0Recipe.from_file(ROOT / "conda" / "recipe.yaml")
    variants = rattler.VariantConfig({"python": ["3.11.* *_cpython", "3.14.* *_cp314"], "c_stdlib": ["some"]})
    platform = rattler.PlatformConfig(build_platform=build, host_platform=target, target_platform=target)
    made = recipe.render(variants, rattler.RenderConfig(platform=platform))
    assert len(made) == 2
    for each in made:
        rendered = each.recipe.to_dict()
        needs = {need.split()[0] for need in rendered["requirements"]["build"]}
        assert ("llvm-openmp" in needs, "libgomp" in needs) == (not target.startswith("linux"), "linux" in target)
        assert ("clang" in needs) == (target == "win-64")
        assert ({"python", "cython", f"cross-python_{target}"} <= needs) == (build != target)
        assert rendered["package"] == {"name": "softmax_ext", "version": softmax_ext.__version__}


@pytest.fixture
def compiler_without_openmp(tmp_path):
    """A C compiler that takes everything but -fopenmp."""
    if sys.platform != "linux" or not shutil.which("cc"):
        pytest.skip("needs a C compiler to wrap, and -fopenmp to be its flag")
    script = tmp_path / "cc"
    script.write_text('#!/bin/sh\ncase " $* " in *" -fopenmp "*) echo "no omp.h" >&2; exit 1;; esac\nexec cc "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.skipif(sys.platform == "win32", reason="there $CC names no compiler")
def test_without_a_compiler_all_that_pip_shows_fits_on_a_screen(source, tmp_path):
    """pip shows the output of a build that failed, whole."""
    code = f"from setuptools import build_meta; build_meta.build_wheel({str(tmp_path)!r})"
    result = run(sys.executable, "-c", code, folder=source, CC="none-here")
    assert result.returncode != 0
    shown = result.stdout + result.stderr
    assert len(shown.splitlines()) <= 24 and "none-here" in shown and "apt install" in shown, shown


def test_missing_openmp_is_an_error_with_the_way_out(compiler_without_openmp, source):
    command = sys.executable, "setup.py", "build_ext"
    result = run(*command, folder=source, CC=compiler_without_openmp)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert len(result.stderr.splitlines()) <= 24, "more than a screen"
    for way_out in ("apt install", "dnf install", "brew install libomp", "SOFTMAX_EXT_NO_OPENMP=1"):
        assert way_out in result.stderr


@pytest.mark.slow  # compiles every ISA level once more
def test_build_without_openmp_runs_on_one_thread(compiler_without_openmp, source, tmp_path):
    switches = {"SOFTMAX_EXT_NO_OPENMP": "1", "SOFTMAX_EXT_DEBUG": "1", "CC": compiler_without_openmp}
    command = sys.executable, "setup.py", "build_ext", f"--build-temp={tmp_path}/temp", "--inplace"
    assert run(*command, folder=source, **switches).returncode == 0
    code = """
import softmax_ext
from softmax_ext._core import threads as _threads
print(softmax_ext.show_config().openmp, _threads.effective(), _threads.effective(7))
"""
    assert run_python(code, source) == ["False", "1", "1"]
