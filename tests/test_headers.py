"""The C headers by themselves (headers.c), where Python's tests do not go: no vectors at all, and AArch64 by qemu."""

import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
SRC = TESTS.parent / "src"
FLAGS = ["-std=gnu11", "-O2", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-Wno-unused-function"]
TARGETS = {  # compiler, flags, what runs the program
    "native": ("cc", [], []),
    "without vectors": ("cc", ["-DSIMD_SCALAR=1"], []),  # as for compilers that know no vector extensions
    "aarch64": ("aarch64-linux-gnu-gcc", ["-static"], ["qemu-aarch64"]),
}

pytestmark = pytest.mark.skipif(not SRC.exists(), reason="needs a whole checkout")


@pytest.mark.parametrize("target", TARGETS)
def test_headers_compute_what_plain_loops_do(target, tmp_path):
    compiler, flags, runner = TARGETS[target]
    for program in [compiler, *runner]:
        if not shutil.which(program):
            pytest.skip(f"{program} is not installed")
    program = str(tmp_path / "headers")
    build = compiler, *FLAGS, *flags, f"-I{SRC}", str(TESTS / "headers.c"), "-o", program, "-lm"
    built = subprocess.run(build, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stderr
    run = subprocess.run([*runner, program], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0 and run.stdout.endswith(": right\n"), run.stdout + run.stderr
    assert ("vectors of 0 bytes" in run.stdout) == (target == "without vectors")
