/* Includes the headers of float_body.h once for float and once for double: NAME(f) is f_f32 or f_f64.
 *
 * The compiler's flags choose the instruction set: setup.py builds a module for each level.  This page finds its sizes.
 */
#ifndef SOFTMAX_EXT_FLOAT_TYPES_H
#define SOFTMAX_EXT_FLOAT_TYPES_H

#include <fenv.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("unroll")
#define LANES _Pragma("clang loop vectorize(assume_safety) unroll(disable)")
#elif defined(__GNUC__) && __GNUC__ >= 12
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define LANES _Pragma("GCC unroll 1") _Pragma("GCC ivdep")
#else
#define SIMD_SCALAR 1
#define INLINE static inline
#define UNROLL
#define LANES
#endif

/* A vector has SIMD_BYTES.  A block of a product fills the registers: with up to MAX_ROWS[V] rows of V <= MAX_V vectors
 * of sums, beside V vectors of B and one of A.  AArch64 has other rows where A is read along them, since it holds a
 * vector of each, see `block`.  In `dots` the sums are those of DOTS_ROWS(M) rows and M <= DOTS_CLASSES classes.  EXPS
 * exponentials are computed in step.  AArch64 has 32 registers, x86-64 with AVX-512 too, and 16 without. */
#if defined(__aarch64__) && !defined(SIMD_SCALAR)
#define MOST_ROWS 16
#define ALONG_ROWS(V) ((V) == 1 ? 15 : (V) == 2 ? 9 : 7)
#define MOST_DOTS_ROWS 8
#define DOTS_ROWS(M) ((M) < 3 ? 8 : (M) == 3 ? 6 : (M) < 7 ? 4 : 2)
#else
#define MOST_ROWS 12
#define ALONG_ROWS(V) MAX_ROWS[V]
#define MOST_DOTS_ROWS 2
#define DOTS_ROWS(M) 2
#endif
#if defined(SIMD_SCALAR)
#define SIMD_BYTES 0
#define MAX_V 2
#define DOTS_CLASSES 6
#define EXPS 4
static const ptrdiff_t MAX_ROWS[] = {0, 6, 4};
#elif defined(__AVX512F__)
#define SIMD_BYTES 64
#define MAX_V 3
#define DOTS_CLASSES 13
#define EXPS 4
static const ptrdiff_t MAX_ROWS[] = {0, 12, 12, 8};
#elif defined(__aarch64__)
#define SIMD_BYTES 16
#define MAX_V 3
#define DOTS_CLASSES 13
#define EXPS 4
static const ptrdiff_t MAX_ROWS[] = {0, 16, 12, 8};
#else
#ifdef __AVX__
#define SIMD_BYTES 32
#else
#define SIMD_BYTES 16
#endif
#define MAX_V 2
#define DOTS_CLASSES 6
#define EXPS 4
static const ptrdiff_t MAX_ROWS[] = {0, 12, 6};
#endif

#ifdef SIMD_SCALAR
#define PREFETCH(p) ((void)(p))
#define PREFETCH_TO_WRITE(p) ((void)(p))
#else
#define PREFETCH(p) __builtin_prefetch((p), 0, 2)
#define PREFETCH_TO_WRITE(p) __builtin_prefetch((p), 1, 3)
#endif
/* Holds a vector in a register, or a number where there are no vectors: what is rounded there stays rounded, outside of
 * any FMA.  On AArch64 it is volatile, as the FMAs of a block are, or GCC brings loads forward until sums no longer fit
 * the registers.  MSVC, which has no such statement, contracts nothing. */
#if !defined(__GNUC__) && !defined(__clang__)
#define IN_REGISTER(v) ((void)(v))
#elif defined(__AVX512F__)
#define IN_REGISTER(v) __asm__("" : "+v"(v))
#elif defined(__SSE2__)
#define IN_REGISTER(v) __asm__("" : "+x"(v))
#elif defined(__aarch64__)
#define IN_REGISTER(v) __asm__ volatile("" : "+w"(v))
#else
#define IN_REGISTER(v) ((void)(v))
#endif
#if !defined(SIMD_SCALAR) && defined(__SSE2__)
#include <immintrin.h>
#elif !defined(SIMD_SCALAR) && defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Whether a product and its addition are rounded once, together. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define FMA 1
#else
#define FMA 0
#endif

/* Return where part i of `parts` nearly equal parts of `total` things begins; into how many parts of at most `most`
 * they fall; the smaller number. */
INLINE ptrdiff_t part(ptrdiff_t total, ptrdiff_t parts, ptrdiff_t i) { return total * i / parts; }
INLINE ptrdiff_t parts_of(ptrdiff_t total, ptrdiff_t most) { return (total + most - 1) / most; }
INLINE ptrdiff_t smaller(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Walks over the parts that `part` finds, from the first on, without a division for each: see "Parts without divisions"
 * in docs/notes.md. */
typedef struct {
    ptrdiff_t least, more, parts, due; /* things of a part; those left over, of which each part brings more / parts */
} Walk;
INLINE Walk walk(ptrdiff_t total, ptrdiff_t parts)
{
    if (parts == 0) parts = 1; /* of nothing */
    return (Walk){total / parts, total % parts, parts, 0};
}
INLINE ptrdiff_t next_part(Walk *w)
{
    w->due += w->more;
    if (w->due < w->parts) return w->least;
    w->due -= w->parts;
    return w->least + 1;
}

/* Cython calls what is marked so.  declare.py declares each to it under one name for both floating types, from its
 * prototype: so a prototype has the parameters' names, and no macro for them. */
#define KERNEL static

/* At most so many numbers along a row are summed in `real`, and their sums in double: in one sum, a million floats err
 * by 1e-3. */
#define SUMMED 4096

/* e^r = 1 + r + r^2 q(r) on |r| <= ln 2 / 2, q by Remez's exchange on the relative error (0.05 and 0.03 ULP),
 * highest power first; and fdlibm's coefficients of log((1 + s) / (1 - s)). */
#if FMA
#define LINEAR , 1
#else
#define LINEAR
#endif
static const float exp_coefficients_f32[] = {0x1.6a2422p-10f, 0x1.1239e2p-7f, 0x1.5558f2p-5f, 0x1.555492p-3f, 0x1.fffffcp-2f LINEAR};
static const double exp_coefficients_f64[] = {
    0x1.ad7fc7ce23364p-26, 0x1.28ad71fe0ca08p-22, 0x1.71df2517fe6e3p-19, 0x1.a0199a0d3b33ap-16, 0x1.a01a012a72951p-13,
    0x1.6c16c18429ca3p-10, 0x1.1111111127b94p-7, 0x1.555555555087ep-5, 0x1.55555555554fap-3, 0x1.000000000000ap-1 LINEAR};
static const float log_coefficients_f32[] = {0xf89e26p-26f, 0x91e9eep-25f, 0xccce13p-25f, 0xaaaaaap-24f};
static const double log_coefficients_f64[] = {
    1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
    2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01};

#include "widen.h"

#define real float
#define bits int32_t
#define NAME(f) f##_f32
#define MANTISSA_BITS 23
#define WIDENING 1 /* whether samples may be of the types of widen.h */
#define EXPONENT_BIAS 127
#define EXP_FACTOR 0x1p7f /* 2^(EXPONENT_BIAS + EXP_NEGLIGIBLE) */
#define EXP_LAST 0x1p-31f /* 2^(EXPONENT_BIAS + EXP_ZERO) / EXP_FACTOR */
#define EXP_ZERO -151.0f
#define NEGLIGIBLE 0x1p-120f
#define EXP_NEGLIGIBLE -120.0f /* a margin of 80 keeps its digits */
#define TANH_LOWEST -87.0f
#define EXP_OVERFLOWS 0x1.62e430p+6f /* log of the largest float, rounded up */
#define ROUND_MAGIC 0x1.8p23f
#define LN2_HIGH 0.693359375f      /* 9 bits: n LN2_HIGH is exact without FMA */
#define LN2_LOW -2.12194440e-4f
#define SQRT_HALF_BITS 0x3f3504f3
#if SIMD_BYTES == 64
#define SIMD_MAX(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define SIMD_SCALE(p, n, zero) /* n <= zero ? 0 : p 2^n */                                                     \
    ((vec)_mm512_maskz_scalef_ps(_mm512_cmp_ps_mask((__m512)(n), _mm512_set1_ps(zero), _CMP_NLE_UQ)    ,       \
                                 (__m512)(p), (__m512)(n)))
#define SIMD_LOAD_SOME(p, n) ((vec)_mm512_maskz_loadu_ps((__mmask16)((1u << (n)) - 1), (p)))
#define SIMD_STORE_SOME(p, n, v) _mm512_mask_storeu_ps((p), (__mmask16)((1u << (n)) - 1), (__m512)(v))
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#elif SIMD_BYTES == 32
#define SIMD_MAX(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif SIMD_BYTES == 16
#ifdef __SSE2__
#define SIMD_MAX(a, b) ((vec)_mm_max_ps((__m128)(a), (__m128)(b)))
#elif defined(__aarch64__)
#define SIMD_ADD_LANE(sum, a, l, row) /* sum += a[l] row */                                                     \
    __asm__ volatile("fmla %0.4s, %1.4s, %2.s[" #l "]" : "+w"(sum) : "w"(row), "w"(a))
#define SIMD_EACH_LANE(X) X(0) X(1) X(2) X(3)
#endif
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#else
#define SIMD_LOW(a, b) (a) /* with one lane, the loops that shuffle do not run */
#define SIMD_HIGH(a, b) (b)
#endif
#include "float_body.h"

#define real double
#define bits int64_t
#define NAME(f) f##_f64
#define MANTISSA_BITS 52
#define WIDENING 0
#define EXPONENT_BIAS 1023
#define EXP_FACTOR 0x1p7
#define EXP_LAST 0x1p-60
#define EXP_ZERO -1076.0
#define NEGLIGIBLE 0x1p-1016
#define EXP_NEGLIGIBLE -1016.0 /* a margin of 700 keeps its digits */
#define TANH_LOWEST -708.0
#define EXP_OVERFLOWS 0x1.62e42fefa39fp+9
#define ROUND_MAGIC 0x1.8p52
#define LN2_HIGH 6.93147180369123816490e-01 /* 32 bits */
#define LN2_LOW 1.90821492927058770002e-10
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#if SIMD_BYTES == 64
#define SIMD_MAX(a, b) ((vec)_mm512_max_pd((__m512d)(a), (__m512d)(b)))
#define SIMD_SCALE(p, n, zero)                                                                                 \
    ((vec)_mm512_maskz_scalef_pd(_mm512_cmp_pd_mask((__m512d)(n), _mm512_set1_pd(zero), _CMP_NLE_UQ)    ,      \
                                 (__m512d)(p), (__m512d)(n)))
#define SIMD_LOAD_SOME(p, n) ((vec)_mm512_maskz_loadu_pd((__mmask8)((1u << (n)) - 1), (p)))
#define SIMD_STORE_SOME(p, n, v) _mm512_mask_storeu_pd((p), (__mmask8)((1u << (n)) - 1), (__m512d)(v))
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#elif SIMD_BYTES == 32
#define SIMD_MAX(a, b) ((vec)_mm256_max_pd((__m256d)(a), (__m256d)(b)))
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 4, 1, 5)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 2, 6, 3, 7)
#elif SIMD_BYTES == 16
#ifdef __SSE2__
#define SIMD_MAX(a, b) ((vec)_mm_max_pd((__m128d)(a), (__m128d)(b)))
#elif defined(__aarch64__)
#define SIMD_ADD_LANE(sum, a, l, row) /* sum += a[l] row */                                                     \
    __asm__ volatile("fmla %0.2d, %1.2d, %2.d[" #l "]" : "+w"(sum) : "w"(row), "w"(a))
#define SIMD_EACH_LANE(X) X(0) X(1)
#endif
#define SIMD_LOW(a, b) __builtin_shufflevector(a, b, 0, 2)
#define SIMD_HIGH(a, b) __builtin_shufflevector(a, b, 1, 3)
#else
#define SIMD_LOW(a, b) (a)
#define SIMD_HIGH(a, b) (b)
#endif
#include "float_body.h"

#endif
