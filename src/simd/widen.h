/* Samples of narrower types than a float are widened to it: every value of theirs is a float's, so results have the
 * bits that they would have for X converted before.
 *
 *     float16    1 bit of sign, 5 of exponent, 10 of mantissa (IEEE 754 binary16); its subnormals are normal floats
 *     bfloat16   the upper half of a float
 *     int8, uint8
 */

/* The types of X's elements as they lie in memory; REAL is the type that is computed in. */
enum element { REAL, FLOAT16, BFLOAT16, INT8, UINT8 };

INLINE float float_of_bits(uint32_t u) { float x; memcpy(&x, &u, sizeof x); return x; }

/* Has no branch, and no subnormal float, which a processor may have been set to take for 0. */
INLINE float from_float16(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h & 0x7c00, rest = (uint32_t)(h & 0x7fff) << 13;
    const float subnormal = (float)(int32_t)(h & 0x3ff) * 0x1p-24f;
    uint32_t small;
    memcpy(&small, &subnormal, sizeof small);
    return float_of_bits(sign | (exponent ? rest + (exponent == 0x7c00 ? 224u << 23 : 112u << 23) : small));
}
INLINE float from_bfloat16(uint16_t h) { return float_of_bits((uint32_t)h << 16); }
INLINE float from_int8(int8_t i) { return i; }
INLINE float from_uint8(uint8_t i) { return i; }

/* Each of these widens AT_ONCE elements from x.  GCC makes less of loops: for float16 it has no vectors, and its
 * shuffles of bytes go through half a vector. */
#if SIMD_BYTES == 64
#define AT_ONCE 16
#define WIDENED_SOME widened_some
/* Returns the n <= 16 elements at x, of a type that is a constant, and zeros beyond them, where nothing is read. */
INLINE __m512 widened_some(const int element, const void *x, ptrdiff_t n)
{
    const __mmask16 some = (__mmask16)((1u << n) - 1);
    switch (element) {
    case FLOAT16: return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(some, x));
    case BFLOAT16:
        return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(some, x)), 16));
    case INT8: return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(some, x)));
    default: return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(some, x)));
    }
}
#define WIDE_FLOAT16(x, to) _mm512_storeu_ps(to, widened_some(FLOAT16, x, 16))
#define WIDE_BFLOAT16(x, to) _mm512_storeu_ps(to, widened_some(BFLOAT16, x, 16))
#define WIDE_INT8(x, to) _mm512_storeu_ps(to, widened_some(INT8, x, 16))
#define WIDE_UINT8(x, to) _mm512_storeu_ps(to, widened_some(UINT8, x, 16))
#elif SIMD_BYTES == 32 && defined(__AVX2__) && defined(__F16C__)
#define AT_ONCE 8
#define WIDE_FLOAT16(x, to) _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(x))))
#define WIDE_BFLOAT16(x, to) \
    _mm256_storeu_si256((__m256i *)(to), _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(x))), 16))
#define WIDE_INT8(x, to) _mm256_storeu_ps(to, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(x)))))
#define WIDE_UINT8(x, to) _mm256_storeu_ps(to, _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(x)))))
#elif SIMD_BYTES == 16 && defined(__aarch64__)
#define AT_ONCE 8
#define HALVES(WIDE, x, to) do { vst1q_f32(to, WIDE(x)); vst1q_f32((to) + 4, WIDE((x) + 4)); } while (0)
#define FOUR_FLOAT16(x) vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(x)))
#define FOUR_BFLOAT16(x) vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(x), 16))
#define WIDE_FLOAT16(x, to) HALVES(FOUR_FLOAT16, x, to)
#define WIDE_BFLOAT16(x, to) HALVES(FOUR_BFLOAT16, x, to)
#define WIDE_INT8(x, to)                                                                                       \
    do {                                                                                                       \
        const int16x8_t both = vmovl_s8(vld1_s8(x));                                                           \
        vst1q_f32(to, vcvtq_f32_s32(vmovl_s16(vget_low_s16(both))));                                           \
        vst1q_f32((to) + 4, vcvtq_f32_s32(vmovl_high_s16(both)));                                              \
    } while (0)
#define WIDE_UINT8(x, to)                                                                                      \
    do {                                                                                                       \
        const uint16x8_t both = vmovl_u8(vld1_u8(x));                                                          \
        vst1q_f32(to, vcvtq_f32_u32(vmovl_u16(vget_low_u16(both))));                                           \
        vst1q_f32((to) + 4, vcvtq_f32_u32(vmovl_high_u16(both)));                                              \
    } while (0)
#else
#define AT_ONCE 8
#define EACH(from, x, to) do { LANES for (int l = 0; l < AT_ONCE; l++) (to)[l] = from((x)[l]); } while (0)
#define WIDE_FLOAT16(x, to) EACH(from_float16, x, to)
#define WIDE_BFLOAT16(x, to) EACH(from_bfloat16, x, to)
#define WIDE_INT8(x, to) EACH(from_int8, x, to)
#define WIDE_UINT8(x, to) EACH(from_uint8, x, to)
#endif

/* Each of these widens a row of D elements.  The last ones of a long row are widened together with some before them,
 * which are written twice. */
#define WIDEN(name, type, from, WIDE)                                                                          \
    INLINE void name(const type *x, ptrdiff_t D, float *to)                                                    \
    {                                                                                                          \
        ptrdiff_t j = 0;                                                                                       \
        for (; j + AT_ONCE <= D; j += AT_ONCE) WIDE(x + j, to + j);                                            \
        if (j == D) return;                                                                                    \
        if (D > AT_ONCE) WIDE(x + D - AT_ONCE, to + D - AT_ONCE);                                              \
        else for (; j < D; j++) to[j] = from(x[j]);                                                            \
    }
WIDEN(widen_float16, uint16_t, from_float16, WIDE_FLOAT16)
WIDEN(widen_bfloat16, uint16_t, from_bfloat16, WIDE_BFLOAT16)
WIDEN(widen_int8, int8_t, from_int8, WIDE_INT8)
WIDEN(widen_uint8, uint8_t, from_uint8, WIDE_UINT8)
#undef WIDEN
#undef AT_ONCE
#undef WIDE_FLOAT16
#undef WIDE_BFLOAT16
#undef WIDE_INT8
#undef WIDE_UINT8
#undef EACH
#undef HALVES
#undef FOUR_FLOAT16
#undef FOUR_BFLOAT16

/* Widens the n elements of X from number `at` on. */
INLINE void widen(const void *X, int element, ptrdiff_t at, ptrdiff_t n, float *to)
{
    switch (element) {
    case FLOAT16: widen_float16((const uint16_t *)X + at, n, to); break;
    case BFLOAT16: widen_bfloat16((const uint16_t *)X + at, n, to); break;
    case INT8: widen_int8((const int8_t *)X + at, n, to); break;
    case UINT8: widen_uint8((const uint8_t *)X + at, n, to); break;
    }
}
