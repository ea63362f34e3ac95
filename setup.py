"""Compile src/: the kernels once per ISA level, and the module that tells which levels this processor has.

SOFTMAX_EXT_NO_OPENMP=1   without OpenMP: every call runs on one thread
SOFTMAX_EXT_DEBUG=1       bounds checks, assertions and symbols, at -O1
SOFTMAX_EXT_SANITIZE=1    AddressSanitizer and UndefinedBehaviorSanitizer, of gcc or clang; =thread: ThreadSanitizer
"""

import os
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command import build_ext as command
from setuptools.errors import CCompilerError, PlatformError

sys.path.insert(0, "src")  # a build backend does not look where setup.py lies
from declare import declarations, digest


def switch(name):
    """Read an environment variable that turns something on: anything but 0."""
    return os.environ.get(name, "") not in ("", "0")


DEBUG, OPENMP = switch("SOFTMAX_EXT_DEBUG"), not switch("SOFTMAX_EXT_NO_OPENMP")
CHECKED = os.environ.get("SOFTMAX_EXT_SANITIZE", "").replace("1", "address,undefined")
SANITIZE = f" -fsanitize={CHECKED} -fno-sanitize-recover=undefined" * switch("SOFTMAX_EXT_SANITIZE")

ISA = {  # level: flags for gcc and clang, and for MSVC
    "baseline": ("", ""),
    "avx2": ("-mavx2 -mfma -mf16c", "/arch:AVX2"),
    "avx512": (
        "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx2 -mfma -mf16c -mprefer-vector-width=512",
        "/arch:AVX512",
    ),
}
# On macOS one compiler call may build for x86-64 and for arm64, and then a flag of either breaks the other.
X86_64 = sys.platform != "darwin" and sysconfig.get_platform().endswith(("x86_64", "amd64"))
LEVELS = list(ISA) if X86_64 else ["baseline"]

# Never -ffast-math: a gcc before 13 links it so that loading the module switches subnormals off in the whole process,
# and tests for NaN vanish. -O3 -fno-fast-math, for the linker too, undo an -Ofast or -ffast-math in the user's CFLAGS.
# -g0: many a Python was built with -g and passes it on. Cython's code is full of what the two -Wno name.
GNU = "-std=gnu11 -fvisibility=hidden -fno-fast-math -fno-math-errno -fno-trapping-math -ffp-contract=fast "
GNU += "-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers "
GNU += "-O1 -g -UNDEBUG -DSOFTMAX_EXT_DEBUG=1" if DEBUG else f"-O2 -g{SANITIZE}" if SANITIZE else "-O3 -g0"
MSVC = "/std:c11 /Od /Z7 /UNDEBUG /DSOFTMAX_EXT_DEBUG=1" if DEBUG else "/std:c11 /O2"
GNU_LINK = f"-O3 -fno-fast-math{SANITIZE}" + " -Wl,-z,relro -Wl,-z,now" * (sys.platform == "linux")

# Without wraparound, so that a debug build takes a negative index for the error it is.
CHECKS = dict.fromkeys(("boundscheck", "initializedcheck", "nonecheck"), DEBUG)
# Without pickling: plans and passes hold pointers, and belong to one process.
DIRECTIVES = {"language_level": 3, "cdivision": True, "wraparound": False, "auto_pickle": False, **CHECKS}

OMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() > _OPENMP; }\n"
PROBE = "#include <Python.h>\n" + (OMP_PROBE if OPENMP else "int main(void) { return 0; }\n")
HELP = """{error}
softmax_ext is built with a C compiler, Python's headers and OpenMP; one of them is missing (see above which).
    Debian, Ubuntu    apt install gcc python3-dev     (with clang: also libomp-dev)
    Fedora            dnf install gcc python3-devel   (with clang: also libomp-devel)
    macOS             brew install libomp
                      export CFLAGS="-I$(brew --prefix libomp)/include" LDFLAGS="-L$(brew --prefix libomp)/lib"
To do without OpenMP, on one thread, set SOFTMAX_EXT_NO_OPENMP=1 and install again."""


def openmp_flags(msvc):
    """Name the flags for the compiler and for the linker; Apple's driver hides -fopenmp, its compiler has it."""
    if not OPENMP or msvc:
        return ["/openmp"] * OPENMP, []
    return (["-Xpreprocessor", "-fopenmp"], ["-lomp"]) if sys.platform == "darwin" else (["-fopenmp"], ["-fopenmp"])


class build_ext(command.build_ext):
    """The flags by the compiler that is found, tried before they are used; each level cythonized in its own folder."""

    def build_extensions(self):
        """Build what its source, a header or the flags have changed for."""
        msvc = self.compiler.compiler_type == "msvc"
        openmp, openmp_link = openmp_flags(msvc)
        flags = {isa: (MSVC if msvc else GNU).split() + openmp + ISA[isa][msvc].split() for isa in LEVELS}
        link = openmp_link + ([] if msvc else GNU_LINK.split())
        self.probe(flags["baseline"], link)
        config = {isa: " ".join(words) for isa, words in flags.items()}
        record, changed = self.record("build_config", f"FLAGS = {config}  # Cython {Cython.__version__}\n")
        declared, too = self.record("kernels", declarations(Path("src")))
        self.force = self.force or changed or too
        sources, _ = self.record("build_sources", f"SOURCES = {digest(Path('src'))!r}\n")
        for ext in self.extensions:
            isa = ext.name.rpartition("_")[2]  # or cpu
            options = {"build_dir": f"build/cython/{isa}{'-debug' * DEBUG}", "include_path": ["src", self.build_temp]}
            ext.sources = cythonize([ext], force=self.force, compiler_directives=DIRECTIVES, **options)[0].sources
            ext.depends += [record, *([sources] if isa == "cpu" else [declared])]
            ext.extra_compile_args, ext.extra_link_args = flags.get(isa, flags["baseline"]), link
        super().build_extensions()

    def probe(self, flags, link):
        """Compile and link a program with these flags, or say what to install."""
        with TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            Path(source).write_text(PROBE)
            try:
                objects = self.compiler.compile([source], output_dir=folder, extra_postargs=flags)
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link)
            except CCompilerError as error:
                raise PlatformError(HELP.format(error=error)) from None

    def record(self, name, text):
        """Write what Cython includes by this name; tell its path, and whether that changed anything."""
        path = Path(self.build_temp, f"{name}.pxi")
        if path.exists() and path.read_text() == text:
            return str(path), False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").replace(path)
        return str(path), True


def extension(name, source):
    """Name the sources as they lie in src/, so that the sdist holds them and not what Cython makes of them."""
    return Extension(f"softmax_ext.{name}", [f"src/{source}"], ["src"], depends=[*map(str, Path("src").glob("*.h"))])


setup(
    ext_modules=[*(extension(f"_kernels_{isa}", "_kernels.pyx") for isa in LEVELS), extension("_cpu", "_cpu.pyx")],
    cmdclass={"build_ext": build_ext},
    options={"build_ext": {"parallel": True}},
)
