/* What the C library and the compiler know about this processor. It is built for the baseline: it runs everywhere. */
#ifndef SOFTMAX_EXT_CPU_H
#define SOFTMAX_EXT_CPU_H

#if defined(_WIN32)
#include <windows.h>
#else
#include <unistd.h>
#endif
#ifdef _OPENMP
#include <omp.h>
#endif

#define STRING_OF(x) #x
#define STRING(x) STRING_OF(x)
#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#elif defined(_MSC_VER)
#define COMPILER "MSVC " STRING(_MSC_FULL_VER)
#else
#define COMPILER "unknown"
#endif

/* Both ways of asking look whether the operating system saves the wide registers.  Where Clang stands in for MSVC,
 * MSVC's way is taken: what the other one calls lies in a library that MSVC's linker does not have. */
#if (defined(__x86_64__) || defined(__i386__)) && (defined(__GNUC__) || defined(__clang__)) && !defined(_MSC_VER)

#include <cpuid.h>

static int has_avx2(void) {
    unsigned a, b, c, d; /* not all of these compilers know "f16c" by name */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __get_cpuid(1, &a, &b, &c, &d)
        && (c & bit_F16C);
}
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

#elif defined(_M_X64) && defined(PF_AVX512F_INSTRUCTIONS_AVAILABLE)
#include <intrin.h>

static int has_avx2(void) {
    int leaf[4]; /* eax, ebx, ecx, edx */
    __cpuid(leaf, 1);
    return IsProcessorFeaturePresent(PF_AVX2_INSTRUCTIONS_AVAILABLE) && (leaf[2] >> 12 & 1) /* FMA */
        && (leaf[2] >> 29 & 1);                                                                /* F16C */
}
static int has_avx512(void) {
    const unsigned dq_bw_vl = 1u << 17 | 1u << 30 | 1u << 31;
    int leaf[4];
    __cpuidex(leaf, 7, 0);
    return has_avx2() && IsProcessorFeaturePresent(PF_AVX512F_INSTRUCTIONS_AVAILABLE)
        && ((unsigned)leaf[1] & dq_bw_vl) == dq_bw_vl;
}

#else

static int has_avx2(void) { return 0; }
static int has_avx512(void) { return 0; }

#endif

/* Returns the bytes of the data cache at `level`, or 0 where the C library does not say. */
static long cache_bytes(int level) {
    long size = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    if (level == 1) size = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    if (level == 2) size = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (level == 3) size = sysconf(_SC_LEVEL3_CACHE_SIZE);
#else
    (void)level;
#endif
    return size > 0 ? size : 0;
}

#ifdef _OPENMP
static int has_openmp(void) { return 1; }
static int openmp_max_threads(void) { return omp_get_max_threads(); }
#else
static int has_openmp(void) { return 0; }
static int openmp_max_threads(void) { return 1; }
#endif

/* libgomp's worker threads do not exist in the child of a fork, but its barrier goes on waiting for them (GCC bug
 * 58378). Paused before the fork, it forgets them: those of this thread's team only, so other threads' loops run on.
 * LLVM's runtime starts anew in the child by itself. Returns whether the child may start a team. */
static int prepare_fork(void) {
#if !defined(_OPENMP) || defined(__clang__)
    return 1;
#elif defined(__GNUC__) && __GNUC__ >= 9
    return omp_pause_resource_all(omp_pause_soft) == 0;
#else
    return 0;
#endif
}

#endif
