"""Compile src/: the kernels once for each ISA level, and the module that tells which levels a processor has.

Environment variables change the build:

SOFTMAX_EXT_NO_OPENMP=1   build without OpenMP, so that every call runs on one thread
SOFTMAX_EXT_DEBUG=1       build with bounds checks, assertions and symbols, at -O1
SOFTMAX_EXT_SANITIZE=1    build with gcc's or clang's AddressSanitizer and UndefinedBehaviorSanitizer
SOFTMAX_EXT_SANITIZE=thread   build with ThreadSanitizer
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import Cython
from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command import build as build_command
from setuptools.command import build_ext as command
from setuptools.errors import CCompilerError, PlatformError

sys.path.insert(0, "src/setup")  # a build backend does not put the folder of setup.py on the path
from declare import declarations, digest, write
from flags import DEBUG, DIRECTIVES, LEVELS, OPENMP, find_clang_cl, flags

FOLDERS = sorted(str(path) for path in Path("src").iterdir() if path.is_dir())
HEADERS = sorted(map(str, Path("src").rglob("*.h")))
OMP_PROBE = "#include <omp.h>\nint main(void) { return omp_get_max_threads() > _OPENMP; }\n"
PROBE = "#include <Python.h>\n" + (OMP_PROBE if OPENMP else "int main(void) { return 0; }\n")
HELP = """{error}
softmax_ext is built with a C compiler, Python's headers and OpenMP; one of them is missing (see above which).
    Debian, Ubuntu    apt install gcc python3-dev     (with clang: also libomp-dev)
    Fedora            dnf install gcc python3-devel   (with clang: also libomp-devel)
    Windows           Visual Studio's build tools, and LLVM for clang-cl and OpenMP
    macOS             brew install libomp
                      export CFLAGS="-I$(brew --prefix libomp)/include" LDFLAGS="-L$(brew --prefix libomp)/lib"
To do without OpenMP, on one thread, set SOFTMAX_EXT_NO_OPENMP=1 and install again."""


class build_ext(command.build_ext):
    """Build the extensions with flags that suit the compiler and are tried first, each level in a folder of its own."""

    def build_extensions(self):
        """Build the extensions whose source, headers or flags have changed."""
        compile_args, link = flags(self.choose_compiler())
        self.probe(compile_args["baseline"], link)
        config = {isa: " ".join(words) for isa, words in compile_args.items()}
        cython = f"Cython {Cython.__version__} {DIRECTIVES}"
        record, changed = write(self.build_temp, "build_config", f"FLAGS = {config}  # {cython}\n")
        declared, too = write(self.build_temp, "kernels", declarations(Path("src")))
        self.force = self.force or changed or too
        sources, _ = write(self.build_temp, "build_sources", f"SOURCES = {digest(Path('src'))!r}\n")
        for ext in self.extensions:
            isa = ext.name.rpartition(".")[2].removeprefix("kernels_")  # a level, or "cpu" for the module of that name
            options = {
                "build_dir": f"build/cython/{isa}{'-debug' * DEBUG}",
                "include_path": [*FOLDERS, self.build_temp],
            }
            ext.sources = cythonize([ext], force=self.force, compiler_directives=DIRECTIVES, **options)[0].sources
            ext.depends += [record, *([sources] if isa == "cpu" else [declared])]
            ext.extra_compile_args, ext.extra_link_args = compile_args.get(isa, compile_args["baseline"]), link
        super().build_extensions()

    def choose_compiler(self):
        """Choose clang-cl on Windows, if it is installed: MSVC builds plain loops, which are slower than NumPy."""
        if self.compiler.compiler_type != "msvc":
            return "unix"
        self.compiler.initialize()  # else it would look for MSVC later, and replace our choice
        clang = find_clang_cl()
        if clang is None:
            self.warn(
                "clang-cl was not found. MSVC builds modules that are right, and slower than NumPy: install LLVM."
            )
            return "msvc"
        self.compiler.cc = clang
        return "clang-cl"

    def probe(self, compile_args, link):
        """Compile and link a small program with these flags; if that fails, say what to install."""
        with TemporaryDirectory() as folder:
            source = os.path.join(folder, "probe.c")
            Path(source).write_text(PROBE)
            try:
                objects = self.compiler.compile([source], output_dir=folder, extra_postargs=compile_args)
                self.compiler.link_executable(objects, "probe", output_dir=folder, extra_postargs=link)
            except CCompilerError as error:
                raise PlatformError(HELP.format(error=error)) from None


class build(build_command.build):
    """Compile first, so that no line for each copied file precedes what a build without a compiler says."""

    sub_commands = sorted(build_command.build.sub_commands, key=lambda command: command[0] != "build_ext")


def extension(name, source):
    """Return an extension whose sources are those in src/, so that the sdist holds them instead of Cython's C files."""
    return Extension(f"softmax_ext.{name}", [f"src/{source}"], FOLDERS, depends=HEADERS)


setup(
    ext_modules=[
        *(extension(f"_core.kernels_{isa}", "entry/kernels.pyx") for isa in LEVELS),
        extension("_core.cpu", "cpu/cpu.pyx"),
    ],
    cmdclass={"build": build, "build_ext": build_ext},
    options={"build_ext": {"parallel": True}},
)
