"""What a compiler is told: its flags for each ISA level, and for the debug and sanitized builds that setup.py lists."""

import os
import shutil
import sys
import sysconfig
from pathlib import Path


def switch(name):
    """Return whether an environment variable turns something on: anything but 0 does."""
    return os.environ.get(name, "") not in ("", "0")


DEBUG, OPENMP = switch("SOFTMAX_EXT_DEBUG"), not switch("SOFTMAX_EXT_NO_OPENMP")
CHECKED = os.environ.get("SOFTMAX_EXT_SANITIZE", "").replace("1", "address,undefined")
SANITIZE = f" -fsanitize={CHECKED} -fno-sanitize-recover=undefined" * switch("SOFTMAX_EXT_SANITIZE")

ISA = {  # level: flags for gcc and clang (clang-cl too), and for MSVC
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
# -g0, since many a Python was built with -g and passes it on. Cython's code is full of what the two -Wno name.
GNU = "-std=gnu11 -fvisibility=hidden -fno-fast-math -fno-math-errno -fno-trapping-math -ffp-contract=fast "
GNU += "-Wall -Wextra -Wno-unused-parameter -Wno-missing-field-initializers "
GNU += "-O1 -g -UNDEBUG -DSOFTMAX_EXT_DEBUG=1" if DEBUG else f"-O2 -g{SANITIZE}" if SANITIZE else "-O3 -g0"
MSVC = "/std:c11 /Od /Z7 /UNDEBUG /DSOFTMAX_EXT_DEBUG=1" if DEBUG else "/std:c11 /O2"
GNU_LINK = f"-O3 -fno-fast-math{SANITIZE}" + " -Wl,-z,relro -Wl,-z,now" * (sys.platform == "linux")

# wraparound is off, so that a debug build takes a negative index for the error it is.
CHECKS = dict.fromkeys(("boundscheck", "initializedcheck", "nonecheck"), DEBUG)
# Nothing is pickled: plans and passes hold pointers, and belong to one process. Threads need no GIL to call us: what
# calls share are the plans, which are not written after they are made.
OWN = {"auto_pickle": False, "freethreading_compatible": True}
DIRECTIVES = {"language_level": 3, "cdivision": True, "wraparound": False, **OWN, **CHECKS}


def find_clang_cl():
    """Find Clang with the arguments of MSVC's compiler, as LLVM's installer and Visual Studio's option leave it."""
    folders = [Path(os.environ.get("PROGRAMFILES", "C:/Program Files"), "LLVM", "bin")]
    if "VCINSTALLDIR" in os.environ:
        folders.append(Path(os.environ["VCINSTALLDIR"], "Tools", "Llvm", "x64", "bin"))
    return shutil.which("clang-cl") or shutil.which("clang-cl", path=os.pathsep.join(map(str, folders)))


def openmp_flags(kind):
    """Return the flags for the compiler and for the linker; Apple's driver hides -fopenmp, which its compiler has."""
    if not OPENMP:
        return [], []
    if kind == "unix":
        return (["-Xpreprocessor", "-fopenmp"], ["-lomp"]) if sys.platform == "darwin" else (["-fopenmp"], ["-fopenmp"])
    if kind == "msvc":
        return ["/openmp"], []
    return ["/openmp"], ["libomp.lib", f"/LIBPATH:{Path(find_clang_cl()).parents[1] / 'lib'}"]


def flags(kind):
    """Return the compiler's flags for each level, and the linker's. kind: unix, msvc, clang-cl."""
    openmp, openmp_link = openmp_flags(kind)
    common = (MSVC if kind == "msvc" else GNU).split()
    compile_args = {isa: [*common, *openmp, *ISA[isa][kind == "msvc"].split()] for isa in LEVELS}
    if kind == "clang-cl":  # which takes Clang's flags only behind this word
        compile_args = {
            isa: [word if word in openmp else f"/clang:{word}" for word in words] for isa, words in compile_args.items()
        }
    return compile_args, openmp_link + (GNU_LINK.split() if kind == "unix" else [])
