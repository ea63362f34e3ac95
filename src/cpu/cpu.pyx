"""Which ISA levels this processor has, its caches, its OpenMP threads, and how the package was compiled."""

include "build_config.pxi"   # FLAGS: what setup.py passed to the compiler for each ISA level
include "build_sources.pxi"  # SOURCES: a digest of src/, which tells whether a build is that of the sources at hand


cdef extern from "cpu.h" nogil:
    const char* _COMPILER "COMPILER"
    bint has_avx2()
    bint has_avx512()
    long cache_bytes(int level)
    bint _has_openmp "has_openmp"()
    int _openmp_max_threads "openmp_max_threads"()
    bint _prepare_fork "prepare_fork"()


COMPILER = _COMPILER.decode().strip()


def supported():
    """Return the names of the ISA levels that this processor and its operating system have, best first."""
    return ("avx512",) * has_avx512() + ("avx2",) * has_avx2() + ("baseline",)


def caches():
    """Return the bytes of L1 data, L2 and L3 cache by the C library: 0 is unknown, virtual machines make them up."""
    return cache_bytes(1), cache_bytes(2), cache_bytes(3)


def has_openmp():
    """Return whether this build uses OpenMP."""
    return _has_openmp()


def openmp_max_threads():
    """Return the size of OpenMP's next team: OMP_NUM_THREADS, the affinity at start, or what threadpoolctl has set."""
    return _openmp_max_threads()


def prepare_fork():
    """Let go of this thread's OpenMP team; return whether a child forked now may start one of its own."""
    return _prepare_fork()
