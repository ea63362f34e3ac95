/* softmax, log_softmax and logsumexp of given scores, by the formulas of logits.h: what all rows share; and rows, or
 * columns, of up to COLUMNS_MOST scores, with a lane for each. */

#ifndef SOFTMAX_EXT_LOGITS_H
#define SOFTMAX_EXT_LOGITS_H
enum { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP };
/* What a piece adds to its row: its top, and its exponentials, with those that are the row's top summed separately. */
typedef struct {
    double top, others, tops; /* the top is NaN if a score is */
} Piece;
/* What NumPy would have warned of: inf - inf, an overflow of a difference of finite scores or of an exponential. */
enum { INF_MINUS_INF = 1, DIFFERENCE_OVERFLOWS = 2, EXP_OVERFLOWS_TOO = 4 };
#endif

INLINE vec NAME(or_nan)(ivec mask, vec v) { return NAME(from_bits)(mask | NAME(to_bits)(v)); }
INLINE vec NAME(choose)(ivec mask, vec a, vec b)
{
    return NAME(from_bits)((mask & NAME(to_bits)(a)) | (~mask & NAME(to_bits)(b)));
}

/* Returns SciPy's warnings for one odd row; `limit` is its top, or NaN. */
static int NAME(warnings)(const int what, const real *z, ptrdiff_t K, ptrdiff_t stride, real limit)
{
    int found = what == LOGSUMEXP || limit != limit ? 0 : INF_MINUS_INF;
    if (what == LOG_SOFTMAX) /* here SciPy replaces an infinite top by 0, and exp sees the scores themselves */
        for (ptrdiff_t k = 0; k < K; k++)
            if (z[k * stride] >= EXP_OVERFLOWS && z[k * stride] < INFINITY) found |= EXP_OVERFLOWS_TOO;
    return found;
}

/* Returns the warnings for n <= L rows, of which row l has its scores at z + l, `stride` apart. */
static int NAME(warnings_of_lanes)(const int what, const real *z, ptrdiff_t K, ptrdiff_t stride, ptrdiff_t n, vec limit)
{
    int found = 0;
    real lane[NAME(lanes)];
    NAME(store)(lane, limit);
    for (ptrdiff_t l = 0; l < n; l++)
        if (lane[l] - lane[l] != 0) found |= NAME(warnings)(what, z + l, K, stride, lane[l]);
    return found;
}

/* Adds exp(z - top) to `tops` where z is the top, and to `others` elsewhere. */
INLINE void NAME(exp_apart)(const int count, const vec *z, vec top, vec *others, vec *tops)
{
    vec e[EXPS];
    UNROLL for (int v = 0; v < count; v++) e[v] = z[v] - top;
    NAME(exps_le0)(count, e);
    UNROLL for (int v = 0; v < count; v++) {
        const ivec is_top = MASK(z[v] == top);
        others[v] += NAME(drop)(is_top, e[v]);
        tops[v] += NAME(keep)(is_top, e[v]);
    }
}

/* Returns t of L rows, a lane each.  The sums keep what a small exponential loses beside the top's 1, so that the 1 may
 * be subtracted at the end. */
INLINE vec NAME(t_of_columns)(const vec *z, ptrdiff_t K, vec top)
{
    vec sum[2], lost[2], e[EXPS];
    UNROLL for (int v = 0; v < 2; v++) sum[v] = NAME(set1)(1), lost[v] = NAME(set1)(0);
    for (; K >= EXPS; K -= EXPS, z += EXPS) {
        UNROLL for (int v = 0; v < EXPS; v++) e[v] = z[v] - top;
        NAME(exps_le0)(EXPS, e);
        UNROLL for (int v = 0; v < EXPS; v++) NAME(add_precisely)(e[v], &sum[v % 2], &lost[v % 2]);
    }
    for (; K > 0; K--, z++) NAME(add_precisely)(NAME(exp_le0)(*z - top), &sum[0], &lost[0]);
    return (((sum[0] - 1) + (sum[1] - 1)) - 1) + (lost[0] + lost[1]);
}

/* Replaces K scores of L rows, a lane each, of which n exist, by the result, which for LOGSUMEXP is the first number;
 * returns the warnings. */
INLINE int NAME(logit_lanes)(const int what, vec *z, ptrdiff_t K, ptrdiff_t n)
{
    ivec nan;
    const vec top = NAME(top_of_columns)(z, K, &nan);
    const vec limit = NAME(or_nan)(nan, top);
    const ivec odd = MASK(limit - limit != 0);
    const vec shift = NAME(or_nan)(odd, top); /* NaN for an odd row, so that its differences set no flag */
    const int found = NAME(any)(odd) ? NAME(warnings_of_lanes)(what, (const real *)z, K, L, n, limit) : 0;
    if (what == SOFTMAX) {
        NAME(exp_columns)(0, z, K, shift);
        const vec sum = NAME(precise_sum_of_columns)(z, K);
        for (ptrdiff_t k = 0; k < K; k++) z[k] /= sum;
        return found;
    }
    const vec log_t = NAME(log1p_ge0)(NAME(t_of_columns)(z, K, shift));
    if (what == LOGSUMEXP) {
        z[0] = NAME(choose)(odd, limit, top + log_t);
        return found;
    }
    const vec from = NAME(drop)(odd, top), less = NAME(choose)(odd, limit, log_t);
    for (ptrdiff_t k = 0; k < K; k++) z[k] = (z[k] - from) - less;
    return found;
}

/* Stores L rows with nothing between them: a vector's last lanes fall into the next row, whose own come later. */
INLINE void NAME(store_packed)(real *out, ptrdiff_t K, const vec *z)
{
    for (ptrdiff_t k = (K - 1) / L * L; k >= 0; k -= L) {
        vec t[NAME(lanes)];
        UNROLL for (int l = 0; l < L; l++) t[l] = z[k + l];
        NAME(transpose)(t);
        for (ptrdiff_t l = 0; l < L; l++) {
            real *to = out + l * K + k;
            if (to + L <= out + L * K) NAME(store)(to, t[l]);
            else NAME(store_some)(to, smaller(K - k, L), t[l]);
        }
    }
}

/* Reads n <= L rows of K <= COLUMNS_MOST scores, a lane each.  With `end`, rows are ldx apart, and nothing is read from
 * `end` on.  Without, they are columns, side by side, whose scores are ldx apart; then the cache lines of the next
 * columns and of their result are fetched ahead: see "Columns of logits" in docs/notes.md. */
INLINE void NAME(read_few)(const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K, const real *end, const real *out,
                           ptrdiff_t ldo, vec *z)
{
    const ptrdiff_t ldp = parts_of(K, L) * L;
    real padded[NAME(lanes) * COLUMNS_MOST];
    if (!end && n == L) {
        for (ptrdiff_t k = 0; k < K; k++) {
            z[k] = NAME(load)(x + k * ldx);
            PREFETCH(x + k * ldx + L);
            if (out) PREFETCH(out + k * ldo + L);
        }
    } else if (!end) {
        for (ptrdiff_t k = 0; k < K; k++) z[k] = NAME(load_some)(x + k * ldx, n);
    } else if (n == L && ldx >= K && x + (L - 1) * ldx + ldp <= end) {
        NAME(load_columns)(x, ldx, K, z);
    } else {
        memset(padded, 0, L * ldp * sizeof(real));
        for (ptrdiff_t i = 0; i < n; i++) memcpy(padded + i * ldp, x + i * ldx, K * sizeof(real));
        NAME(load_columns)(padded, ldp, K, z);
    }
}

INLINE void NAME(write_few)(real *out, ptrdiff_t ldo, ptrdiff_t n, ptrdiff_t K, int columns, const vec *z)
{
    const ptrdiff_t ldp = parts_of(K, L) * L;
    real padded[NAME(lanes) * COLUMNS_MOST];
    if (columns && n == L) {
        for (ptrdiff_t k = 0; k < K; k++) NAME(store)(out + k * ldo, z[k]);
    } else if (columns) {
        for (ptrdiff_t k = 0; k < K; k++) NAME(store_some)(out + k * ldo, n, z[k]);
    } else if (n == L && ldo == K) {
        NAME(store_packed)(out, K, z);
    } else {
        NAME(store_columns)(padded, ldp, K, z);
        for (ptrdiff_t i = 0; i < n; i++) memcpy(out + i * ldo, padded + i * ldp, K * sizeof(real));
    }
}

INLINE int NAME(few)(const int what, const real *x, ptrdiff_t ldx, real *out, ptrdiff_t ldo, ptrdiff_t n, ptrdiff_t K,
                     const real *end)
{
    vec z[COLUMNS_MOST];
    NAME(read_few)(x, ldx, n, K, end, what == LOGSUMEXP ? NULL : out, ldo, z);
    const int found = NAME(logit_lanes)(what, z, K, n);
    if (what != LOGSUMEXP) {
        NAME(write_few)(out, ldo, n, K, !end, z);
    } else if (!end || ldo == 1) {
        NAME(store_some)(out, n, z[0]);
    } else {
        real lane[NAME(lanes)];
        NAME(store)(lane, z[0]);
        for (ptrdiff_t i = 0; i < n; i++) out[i * ldo] = lane[i];
    }
    return found;
}
