"""The C headers by themselves (headers.c), where Python's tests do not go.

Without vectors, as compilers that know none build them; on AArch64, by GCC and by Clang, in an emulator; and with the
calling convention of Windows, which aligns stacks to 16 bytes only, by wine at each level that this processor has.
"""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from softmax_ext._core import dispatch

TESTS = Path(__file__).parent
SRC = TESTS.parent / "src"
FLAGS = ["-std=gnu11", "-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-unused-function"]
MINGW = ["--target=x86_64-w64-mingw32"]
TARGETS = {  # compiler, flags, what runs the program, the ISA level that the processor must have
    "native": ("cc", ["-O1"], [], None),  # which compiles sooner; Python's tests run the same code at -O3
    "without vectors": ("cc", ["-DSIMD_SCALAR=1"], [], None),
    "without vectors, with FMA": ("cc", ["-DSIMD_SCALAR=1"], [], "avx2"),  # by GCC 11, for example
    "windows baseline": ("clang-19", MINGW, ["wine"], "baseline"),
    "windows avx2": ("clang-19", MINGW, ["wine"], "avx2"),
    "windows avx512": ("clang-19", MINGW, ["wine"], "avx512"),
    "aarch64": ("aarch64-linux-gnu-gcc", ["-static"], ["qemu-aarch64"], None),
    "aarch64 by clang": ("clang-19", ["--target=aarch64-linux-gnu", "-static"], ["qemu-aarch64"], None),
    "aarch64 without vectors": ("aarch64-linux-gnu-gcc", ["-static", "-DSIMD_SCALAR=1"], ["qemu-aarch64"], None),
}
# Compiling for all takes two minutes of a processor. These run by default: plain loops, wide vectors on stacks
# that are aligned to less, and another processor's vectors.
DEFAULT = {"without vectors, with FMA", "windows avx2", "aarch64"}

pytestmark = pytest.mark.skipif(not SRC.exists(), reason="needs a whole checkout")


def run(command, **env):
    """Run a command for at most five minutes of a processor, however many others want it meanwhile."""
    limited = ["sh", "-c", 'ulimit -t 300 && exec "$@"', "sh", *command]
    return subprocess.run(limited, env={**os.environ, **env}, capture_output=True, text=True)


def build(target, folder):
    """Compile headers.c for a target; return the program and what the compiler said, or why there is none."""
    compiler, flags, runner, isa = TARGETS[target]
    if isa and isa not in dispatch.available():
        return None, f"this processor lacks {isa}"
    if isa:
        flags = [*flags, *runpy.run_path(str(SRC / "setup/flags.py"))["ISA"][isa][0].split()]
    for program in [compiler, *runner]:
        if not shutil.which(program):
            return None, f"{program} is not installed"
    program = str(folder / f"{target}.exe".replace(" ", "-").replace(",", ""))
    include = (f"-I{path}" for path in SRC.iterdir())
    command = [compiler, *FLAGS, *flags, *include, str(TESTS / "headers.c"), "-o", program, "-lm"]
    built = run(command)
    return program, f"exit status {built.returncode}\n{built.stderr}" if built.returncode else ""


@pytest.mark.parametrize(
    "target", [name if name in DEFAULT else pytest.param(name, marks=pytest.mark.slow) for name in TARGETS]
)
def test_headers_compute_what_plain_loops_do(target, at_once, tmp_path_factory):
    program, said = at_once(lambda target: build(target, tmp_path_factory.getbasetemp()))
    if program is None:
        pytest.skip(said)
    assert said == ""
    env = {"WINEDEBUG": "-all", "WINEPREFIX": str(tmp_path_factory.getbasetemp() / "wine")}
    done = run([*TARGETS[target][2], program], **env)
    assert done.returncode == 0 and done.stdout.endswith(": right\n"), done.stdout + done.stderr
    assert ("vectors of 0 bytes" in done.stdout) == ("without vectors" in target)


@pytest.mark.native("the compiler is that of the machine around it, and finds no file there")
def test_clang_cl_knows_what_it_is_told(tmp_path, monkeypatch):
    """Clang stands in the place of MSVC, as it does on Windows, and warns of a flag that it does not know."""
    clang = shutil.which("clang-19")
    if not clang:
        pytest.skip("clang-19 is not installed")
    (tmp_path / "clang-cl").symlink_to(clang)  # by this name it takes MSVC's arguments
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    compile_args, link = runpy.run_path(str(SRC / "setup/flags.py"))["flags"]("clang-cl")
    assert link[0] == "libomp.lib"
    source = tmp_path / "levels.c"
    source.write_text("#if !defined(_MSC_VER) || !defined(_OPENMP) || FMA != defined(__FMA__)\n#error\n#endif\n")
    for isa, words in compile_args.items():
        told = "--target=x86_64-pc-windows-msvc", "-Werror", *words, f"-DFMA={int(isa != 'baseline')}"
        command = "clang-cl", *told, "/c", str(source), "-o", str(tmp_path / "levels.obj")
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
