/* Vectors of L lanes of `real`, and the few functions that the fused pass needs of them.
 *
 * They are GCC's and Clang's vector extensions; with any other compiler L is 1, and the same code is plain loops.
 * Never compile this with -ffast-math: NaN must stay NaN, and the rounding below must not be reassociated.
 *
 *   exp_le0(x)    e^x for x <= 0 or NaN.  Cody and Waite's reduction x = n ln 2 + r, |r| <= ln 2 / 2, a minimax
 *                 polynomial in r, and 2^n built from its bits; a subnormal result is rounded once.
 *   log1p_ge0(t)  log(1 + t) for t >= 0 or NaN: fdlibm's reduction of u = 1 + t; what that addition rounded
 *                 away comes back as (t - (u - 1)) / u, so that a tiny t keeps its digits.
 *   tanh(x)       -(e^a - 1) / (e^a + 1), a = -2 |x|, and its derivative 4 e^a / (e^a + 1)^2, with e^a - 1 as
 *                 2^n (e^r - 1) + (2^n - 1): a tiny x keeps its digits, and so does a tiny derivative.
 *                 It is within 3 ULP, and its derivative within 5 (tests/test_accuracy.py).
 */

#ifndef SIMD_SCALAR
#define ALIGNED(bytes) __attribute__((vector_size(SIMD_BYTES), aligned(bytes), may_alias))
typedef real NAME(vec) ALIGNED(SIMD_BYTES);
typedef real NAME(unaligned) ALIGNED(sizeof(real));
typedef bits NAME(ivec) ALIGNED(SIMD_BYTES);
#undef ALIGNED
#else
typedef real NAME(vec), NAME(unaligned);
typedef bits NAME(ivec);
#endif
#define vec NAME(vec)
#define ivec NAME(ivec)
enum { NAME(lanes) = sizeof(vec) / sizeof(real) };
#define L ((ptrdiff_t)NAME(lanes))

INLINE vec NAME(load)(const real *p) { return *(const NAME(unaligned) *)p; }
INLINE void NAME(store)(real *p, vec v) { *(NAME(unaligned) *)p = v; }
INLINE vec NAME(set1)(real x) { return x - (vec){0}; }
INLINE real NAME(first)(vec v) { real x; memcpy(&x, &v, sizeof x); return x; }
INLINE vec NAME(from_bits)(ivec i) { union { ivec i; vec v; } u = {i}; return u.v; }
INLINE ivec NAME(to_bits)(vec v) { union { vec v; ivec i; } u = {v}; return u.i; }

/* A comparison of vectors has lanes of 0 or -1, as masks are; of two numbers it is 0 or 1 in C. */
#ifndef SIMD_SCALAR
#define MASK(truth) (truth)
#else
#define MASK(truth) (-(ivec)(truth))
#endif
INLINE vec NAME(keep)(ivec mask, vec v) { return NAME(from_bits)(mask & NAME(to_bits)(v)); }
INLINE vec NAME(drop)(ivec mask, vec v) { return NAME(from_bits)(~mask & NAME(to_bits)(v)); }

/* Returns a > b ? a : b, lane by lane: b where either is NaN, as x86's instruction does. */
INLINE vec NAME(max)(vec a, vec b)
{
#ifdef SIMD_MAX
    return SIMD_MAX(a, b);
#else
    const ivec greater = MASK(a > b);
    return NAME(from_bits)((greater & NAME(to_bits)(a)) | (~greater & NAME(to_bits)(b)));
#endif
}

/* Transposes, v[i][l] -> v[l][i], by log2(L) perfect shuffles. */
INLINE void NAME(transpose)(vec *v)
{
    UNROLL for (int step = 1; step < L; step *= 2) {
        vec t[NAME(lanes)];
        UNROLL for (int i = 0; i < L / 2; i++) {
            t[2 * i] = SIMD_LOW(v[i], v[i + L / 2]);
            t[2 * i + 1] = SIMD_HIGH(v[i], v[i + L / 2]);
        }
        UNROLL for (int i = 0; i < L; i++) v[i] = t[i];
    }
}

/* Returns the sum of v[l]'s lanes in lane l: by the same shuffles, with additions that halve the number of vectors. */
INLINE vec NAME(sums)(vec *v)
{
    UNROLL for (int half = (int)L / 2; half >= 1; half /= 2)
        UNROLL for (int i = 0; i < half; i++) v[i] = SIMD_LOW(v[i], v[i + half]) + SIMD_HIGH(v[i], v[i + half]);
    return v[0];
}

/* Return in every lane the sum of v's lanes, and their maximum; where one is NaN, the maximum may be any of them. */
INLINE vec NAME(sum_lanes)(vec v)
{
    UNROLL for (int step = 1; step < L; step *= 2) v = SIMD_LOW(v, v) + SIMD_HIGH(v, v);
    return v;
}
INLINE vec NAME(max_lanes)(vec v)
{
    UNROLL for (int step = 1; step < L; step *= 2) v = NAME(max)(SIMD_LOW(v, v), SIMD_HIGH(v, v));
    return v;
}

INLINE int NAME(any)(ivec mask) { return NAME(first)(NAME(sum_lanes)(NAME(keep)(mask, NAME(set1)(1)))) != 0; }

/* Load, and store, the first n <= L lanes; the others are loaded as 0. */
INLINE vec NAME(load_some)(const real *p, ptrdiff_t n)
{
#ifdef SIMD_LOAD_SOME
    return SIMD_LOAD_SOME(p, n);
#else
    real lane[NAME(lanes)] = {0};
    memcpy(lane, p, n * sizeof(real));
    return NAME(load)(lane);
#endif
}
INLINE void NAME(store_some)(real *p, ptrdiff_t n, vec v)
{
#ifdef SIMD_STORE_SOME
    SIMD_STORE_SOME(p, n, v);
#else
    real lane[NAME(lanes)];
    NAME(store)(lane, v);
    memcpy(p, lane, n * sizeof(real));
#endif
}

/* Replaces `count` vectors (a constant) by e^x, in step: operations on one alone would wait for each other.  With
 * `normal`, a constant, e^x is 0 where it is about 2^EXP_NEGLIGIBLE or less: residuals then have hardly a subnormal
 * number, with which products would take several times as long (see "Subnormal residuals" in docs/notes.md). */
INLINE void NAME(exps_in_step)(const int normal, const int count, vec *x)
{
    const real zero = normal ? EXP_NEGLIGIBLE : EXP_ZERO;
    vec n[EXPS], r[EXPS], p[EXPS];
#ifdef SIMD_SCALE
    const real factor = 1, magic = ROUND_MAGIC;
#else
    /* The bits that say n - zero become the exponent of `power`, which so is 0 where n is `zero`, and
     * 2^n / (factor EXP_LAST) elsewhere, with 1 for EXP_LAST if `normal`: only the last product can be subnormal. */
    const real factor = EXP_FACTOR, magic = ROUND_MAGIC - zero;
    ivec power[EXPS];
#endif
    const real of_terms = FMA ? factor : 1;
#define EACH UNROLL for (int i = 0; i < count; i++)
    /* Where n is `zero`, e^x is 0. That is not left to a product, since some processors take long to underflow: see
     * "No exponential underflows" in docs/notes.md. The order of arguments lets NaN pass. */
    EACH x[i] = NAME(max)(NAME(set1)(zero * (real)0.69314718055994530942), x[i]);
    EACH p[i] = x[i] * (real)1.4426950408889634074 + magic;
    EACH n[i] = p[i] - magic;
#ifndef SIMD_SCALE
    EACH power[i] = NAME(to_bits)(p[i]) << MANTISSA_BITS;
#endif
    EACH x[i] = x[i] - n[i] * LN2_HIGH;
    EACH r[i] = x[i] - n[i] * LN2_LOW;
    EACH p[i] = NAME(set1)(of_terms * NAME(exp_coefficients)[0]);
    UNROLL for (size_t j = 1; j < sizeof(NAME(exp_coefficients)) / sizeof(real); j++)
        EACH p[i] = p[i] * r[i] + of_terms * NAME(exp_coefficients)[j];
#if FMA
    EACH p[i] = p[i] * r[i] + factor;
#else
    /* Without FMA that would err by 1.2 ULP: what rounding took from r is added to its square's term, as in fdlibm. */
    EACH p[i] = factor * (1 + (r[i] + (r[i] * (p[i] * r[i]) + ((x[i] - r[i]) - n[i] * LN2_LOW))));
#endif
#ifdef SIMD_SCALE
    EACH x[i] = SIMD_SCALE(p[i], n[i], zero);
#else
    EACH x[i] = p[i] * NAME(from_bits)(power[i]);
    if (!normal) EACH x[i] = x[i] * EXP_LAST;
#endif
#undef EACH
}
INLINE void NAME(exps_le0)(const int count, vec *x) { NAME(exps_in_step)(0, count, x); }
INLINE vec NAME(exp_le0)(vec x) { NAME(exps_in_step)(0, 1, &x); return x; }

INLINE vec NAME(log1p_ge0)(vec t)
{
    const vec u = t + 1;
    /* u = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)): once sqrt(1/2)'s bits are subtracted, the exponent is k. */
    const ivec k = (NAME(to_bits)(u) - SQRT_HALF_BITS) >> MANTISSA_BITS;
    const vec f = NAME(from_bits)(NAME(to_bits)(u) - (k << MANTISSA_BITS)) - 1;
    const vec kr = NAME(from_bits)(k + NAME(to_bits)(NAME(set1)(ROUND_MAGIC))) - ROUND_MAGIC;
    const vec s = f / (f + 2), z = s * s, half = f * f * (real)0.5;
    vec q = NAME(set1)(NAME(log_coefficients)[0]);
    UNROLL for (size_t i = 1; i < sizeof(NAME(log_coefficients)) / sizeof(real); i++)
        q = q * z + NAME(log_coefficients)[i];
    const vec lost = (t - (u - 1)) / u;
    return kr * LN2_HIGH - ((half - (s * (half + q * z) + (kr * LN2_LOW + lost))) - f);
}

INLINE vec NAME(tanh)(vec x, vec *slope)
{
    const ivec sign = NAME(to_bits)(NAME(set1)(-(real)0));
    const vec twice = -2 * NAME(from_bits)(NAME(to_bits)(x) & ~sign), a = NAME(max)(NAME(set1)(TANH_LOWEST), twice);
    const vec shifted = a * (real)1.4426950408889634074 + ROUND_MAGIC, n = shifted - ROUND_MAGIC;
    const vec power = NAME(from_bits)((NAME(to_bits)(shifted) + EXPONENT_BIAS) << MANTISSA_BITS);
    const vec r = a - n * LN2_HIGH - n * LN2_LOW;
    vec p = NAME(set1)(NAME(exp_coefficients)[0]);
    UNROLL for (size_t j = 1; j < sizeof(NAME(exp_coefficients)) / sizeof(real); j++)
        p = p * r + NAME(exp_coefficients)[j];
#if !FMA
    p = p * r + 1;
#endif
    const vec part = power * (p * r); /* 2^n (e^r - 1) */
    const vec less_1 = part + (power - 1), more_1 = less_1 + 2;
    *slope = NAME(drop)(MASK(twice < TANH_LOWEST), 4 * (part + power) / (more_1 * more_1));
    return NAME(from_bits)((NAME(to_bits)(less_1 / more_1) & ~sign) | (NAME(to_bits)(x) & sign));
}

/* Write e^x of n numbers, and tanh x with its derivative, for the tests. */
KERNEL void NAME(exps)(const real *x, ptrdiff_t n, real *out)
{
    for (ptrdiff_t i = 0; i < n; i += L)
        NAME(store_some)(out + i, smaller(L, n - i), NAME(exp_le0)(NAME(load_some)(x + i, smaller(L, n - i))));
}
KERNEL void NAME(tanhs)(const real *x, ptrdiff_t n, real *out, real *slopes)
{
    for (ptrdiff_t i = 0; i < n; i += L) {
        vec slope;
        NAME(store_some)(out + i, smaller(L, n - i), NAME(tanh)(NAME(load_some)(x + i, smaller(L, n - i)), &slope));
        NAME(store_some)(slopes + i, smaller(L, n - i), slope);
    }
}
