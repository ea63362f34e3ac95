/* softmax, log_softmax and logsumexp of scores that the caller holds, in rows of any distance or in columns.  Here are
 * the long ones, of more than COLUMNS_MOST scores; logit_lanes.h has the others.
 *
 *     top = max z        S_k = exp(z_k - top) / sum_j exp(z_j - top)
 *     lse = top + log1p(t)       log S_k = (z_k - top) - log1p(t)       t = the sum of all e_k but the first that is 1
 *
 * As in residuals.h, that 1 is not subtracted from a rounded sum; where scores are few, the sum keeps what it rounds
 * away.  The result may be written over the scores.  Where a score is NaN, or the top is infinite, the row is `odd`,
 * and its result is what SciPy's formulas give:
 *
 *     softmax         NaN
 *     log_softmax     NaN; but where the top is +inf, -inf for each score below it
 *     logsumexp       the top, or NaN
 */

/* A column is summed on three levels.  A first sum takes SUMMED_DOWN numbers: few for posteriors, which must sum to
 * one, and more where only the logarithm is asked for (see "Columns of logits" in docs/notes.md).  A second sum takes
 * SUMS_DOWN first ones and remembers what it rounds away; the third takes all second ones.  A single sum of floats
 * would stop growing at 2^24 equal scores. */
#define SUMMED_DOWN(what) ((what) == SOFTMAX ? 4 : 256)
#define SUMS_DOWN 256

/* A row is cut into pieces of K >= L numbers, or is one piece.  The first of three steps finds the piece's top. */
INLINE void NAME(piece_top)(const real *x, ptrdiff_t K, Piece *p)
{
    const ptrdiff_t whole = K / L * L;
    real rest[NAME(lanes)];
    for (ptrdiff_t l = 0; l < L; l++) rest[l] = whole + l < K ? x[whole + l] : (real)-INFINITY;
    const vec last = NAME(load)(rest);
    ivec nan = MASK(last != last);
    const vec top = NAME(max_lanes)(NAME(max)(last, NAME(top_of_row)(x, whole, &nan)));
    p->top = NAME(any)(nan) ? NAN : (double)NAME(first)(top);
}

/* The second sums the piece's exponentials, and for SOFTMAX writes them to `out`; `limit` is the row's top, or NaN.
 * Returns the warnings. */
INLINE int NAME(piece_sums)(const int what, const real *x, real *out, ptrdiff_t K, real limit, Piece *p)
{
    const ptrdiff_t whole = K / L * L;
    const int odd = limit - limit != 0;
    const vec shift = NAME(set1)(odd ? (real)NAN : limit);
    real rest[NAME(lanes)];
    for (ptrdiff_t l = 0; l < L; l++) rest[l] = whole + l < K ? x[whole + l] : (real)-INFINITY;
    const vec last = NAME(load)(rest);
    p->others = p->tops = 0;
    if (what == SOFTMAX) {
        p->others = NAME(exp_row)(1, rest, rest, L, shift);
        for (ptrdiff_t k = 0; k < whole; k += SUMMED)
            p->others += NAME(exp_row)(1, x + k, out + k, smaller(SUMMED, whole - k), shift);
        NAME(store_some)(out + whole, K - whole, NAME(load)(rest));
        return odd ? NAME(warnings)(what, x, K, 1, limit) : 0;
    }
    for (ptrdiff_t from = 0; from <= whole; from += SUMMED) {
        const ptrdiff_t to = smaller(whole, from + SUMMED);
        vec others[EXPS], tops[EXPS], z[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) others[v] = tops[v] = NAME(set1)(0);
        ptrdiff_t k = from;
        for (; k + EXPS * L <= to; k += EXPS * L) {
            UNROLL for (int v = 0; v < EXPS; v++) z[v] = NAME(load)(x + k + v * L);
            NAME(exp_apart)(EXPS, z, shift, others, tops);
        }
        for (; k < to; k += L) {
            z[0] = NAME(load)(x + k);
            NAME(exp_apart)(1, z, shift, others, tops);
        }
        if (from == 0) NAME(exp_apart)(1, &last, shift, others + 1, tops + 1);
        p->tops += NAME(first)(NAME(sum_lanes)((tops[0] + tops[1]) + (tops[2] + tops[3])));
        p->others += NAME(first)(NAME(sum_lanes)((others[0] + others[1]) + (others[2] + others[3])));
    }
    return odd ? NAME(warnings)(what, x, K, 1, limit) : 0;
}

/* The third writes the piece's result, from the row's limit and the sums of all pieces; for LOGSUMEXP, the row's. */
INLINE void NAME(piece_result)(const int what, const real *x, real *out, ptrdiff_t K, real limit, const Piece *sums)
{
    const ptrdiff_t whole = K / L * L;
    const int odd = limit - limit != 0;
    const real log_t = (real)log1p(sums->others + (sums->tops - 1));
    if (what == LOGSUMEXP) {
        *out = odd ? limit : limit + log_t;
    } else if (what == SOFTMAX) {
        const vec sum = NAME(set1)((real)sums->others);
        for (ptrdiff_t k = 0; k < whole; k += L) NAME(store)(out + k, NAME(load)(out + k) / sum);
        NAME(store_some)(out + whole, K - whole, NAME(load_some)(out + whole, K - whole) / sum);
    } else {
        const vec from = NAME(set1)(odd ? 0 : limit), less = NAME(set1)(odd ? limit : log_t);
        for (ptrdiff_t k = 0; k < whole; k += L) NAME(store)(out + k, (NAME(load)(x + k) - from) - less);
        NAME(store_some)(out + whole, K - whole, (NAME(load_some)(x + whole, K - whole) - from) - less);
    }
}

/* Takes the three steps for a row of K >= L scores that is one piece; returns the warnings. */
INLINE int NAME(long_row)(const int what, const real *x, real *out, ptrdiff_t K)
{
    Piece row;
    NAME(piece_top)(x, K, &row);
    const real limit = (real)row.top;
    const int found = NAME(piece_sums)(what, x, out, K, limit, &row);
    NAME(piece_result)(what, x, out, K, limit, &row);
    return found;
}

/* Normalises `count` vectors of columns, or the first n <= L columns of one vector, of any K; returns the warnings. */
INLINE int NAME(long_columns)(const int what, const int count, const real *x, ptrdiff_t kx, real *out, ptrdiff_t ko,
                              ptrdiff_t K, ptrdiff_t n)
{
#define EACH UNROLL for (int v = 0; v < count; v++)
#define LOAD(p) (count > 1 || n == L ? NAME(load)((p) + v * L) : NAME(load_some)((p), n))
#define STORE_AT(p, value)                                                                                     \
    do {                                                                                                       \
        if (count > 1 || n == L) NAME(store)((p) + v * L, value);                                              \
        else NAME(store_some)((p), n, value);                                                                  \
    } while (0)
    vec top[EXPS], limit[EXPS], shift[EXPS], e[EXPS];
    vec sum[EXPS], sums[EXPS], lost[EXPS], total[EXPS]; /* the first, second and third sums; lost is the second ones' */
    vec ones[EXPS], tops[EXPS], count_of_tops[EXPS]; /* the three sums of those exponentials that are the top's */
    ivec nan[EXPS], odd[EXPS];
    const ptrdiff_t some = SUMMED_DOWN(what);
    const vec start = NAME(set1)((real)some); /* which a second sum begins with, so that it is never less than a term */
    int found = 0;
    EACH {
        top[v] = LOAD(x);
        nan[v] = MASK(top[v] != top[v]);
        lost[v] = total[v] = tops[v] = count_of_tops[v] = NAME(set1)(0);
        sums[v] = start;
    }
    for (ptrdiff_t k = 1; k < K; k++)
        EACH {
            e[v] = LOAD(x + k * kx);
            if (what != LOGSUMEXP) PREFETCH(out + k * ko + v * L);
            nan[v] |= MASK(e[v] != e[v]);
            top[v] = NAME(max)(e[v], top[v]);
        }
    EACH {
        limit[v] = NAME(or_nan)(nan[v], top[v]);
        odd[v] = MASK(limit[v] - limit[v] != 0);
        shift[v] = NAME(or_nan)(odd[v], top[v]);
        if (NAME(any)(odd[v]))
            found |= NAME(warnings_of_lanes)(what, x + v * L, K, kx, count > 1 ? L : n, limit[v]);
    }
    for (ptrdiff_t from = 0; from < K; from += some) {
        EACH sum[v] = ones[v] = NAME(set1)(0);
        for (ptrdiff_t k = from; k < smaller(K, from + some); k++) {
            EACH e[v] = LOAD(x + k * kx) - shift[v];
            NAME(exps_le0)(count, e);
            if (what == SOFTMAX)
                EACH {
                    STORE_AT(out + k * ko, e[v]);
                    sum[v] += e[v];
                }
            else
                EACH {
                    const ivec is_top = MASK(LOAD(x + k * kx) == shift[v]);
                    sum[v] += NAME(drop)(is_top, e[v]);
                    ones[v] += NAME(keep)(is_top, e[v]);
                }
        }
        EACH {
            NAME(add_precisely)(sum[v], &sums[v], &lost[v]);
            tops[v] += ones[v];
        }
        if (from / some % SUMS_DOWN < SUMS_DOWN - 1) continue;
        EACH {
            total[v] += (sums[v] - start) + lost[v];
            count_of_tops[v] += tops[v];
            lost[v] = tops[v] = NAME(set1)(0);
            sums[v] = start;
        }
    }
    EACH {
        sums[v] = total[v] + ((sums[v] - start) + lost[v]);
        tops[v] += count_of_tops[v];
    }
    if (what == SOFTMAX) {
        for (ptrdiff_t k = 0; k < K; k++) EACH STORE_AT(out + k * ko, LOAD(out + k * ko) / sums[v]);
        return found;
    }
    EACH sums[v] = NAME(log1p_ge0)(sums[v] + (tops[v] - 1));
    if (what == LOGSUMEXP) {
        EACH STORE_AT(out, NAME(choose)(odd[v], limit[v], top[v] + sums[v]));
        return found;
    }
    EACH {
        shift[v] = NAME(drop)(odd[v], top[v]);
        sums[v] = NAME(choose)(odd[v], limit[v], sums[v]);
    }
    for (ptrdiff_t k = 0; k < K; k++) EACH STORE_AT(out + k * ko, (LOAD(x + k * kx) - shift[v]) - sums[v]);
    return found;
#undef EACH
#undef LOAD
#undef STORE_AT
}

/* Takes columns of any length; up to COLUMNS_MOST scores, a column gets the same bits as a row. */
INLINE int NAME(any_columns)(const int what, const real *x, ptrdiff_t kx, real *out, ptrdiff_t ko, ptrdiff_t n,
                             ptrdiff_t K)
{
    int found = 0;
    if (K > COLUMNS_MOST)
        for (; n >= EXPS * L; n -= EXPS * L, x += EXPS * L, out += EXPS * L)
            found |= NAME(long_columns)(what, EXPS, x, kx, out, ko, K, L);
    for (; n > 0; n -= L, x += L, out += L) {
        const ptrdiff_t some = smaller(n, L);
        found |= K > COLUMNS_MOST ? NAME(long_columns)(what, 1, x, kx, out, ko, K, some)
                                  : NAME(few)(what, x, kx, out, ko, some, K, NULL);
    }
    return found;
}

INLINE int NAME(any_rows)(const int what, const real *x, ptrdiff_t ldx, real *out, ptrdiff_t ldo, ptrdiff_t n,
                          ptrdiff_t K, const real *end)
{
    int found = 0;
    if (K > COLUMNS_MOST)
        for (ptrdiff_t i = 0; i < n; i++) found |= NAME(long_row)(what, x + i * ldx, out + i * ldo, K);
    else
        for (ptrdiff_t i = 0; i < n; i += L)
            found |= NAME(few)(what, x + i * ldx, ldx, out + i * ldo, ldo, smaller(L, n - i), K, end);
    return found;
}

/* Writes what is asked for, and returns the warnings; of these, a difference that overflowed is read off the
 * floating-point status, where nothing else here sets that flag.  Rows lie ldx apart, n of them, each with K scores
 * side by side, and `end` is behind the last score of all.  Columns lie side by side, n of them, each with K scores ldx
 * apart, and `end` is NULL.  SOFTMAX and LOG_SOFTMAX write in the same order, with ldo for ldx; LOGSUMEXP writes a
 * number for each row, ldo apart, or for each column, side by side. */
KERNEL int NAME(normalise)(int what, const real *x, ptrdiff_t ldx, real *out, ptrdiff_t ldo, ptrdiff_t n, ptrdiff_t K,
                       const real *end)
{
    int found = 0;
    feclearexcept(FE_OVERFLOW);
#define CASE(W)                                                                                                \
    case W:                                                                                                    \
        found = end ? NAME(any_rows)(W, x, ldx, out, ldo, n, K, end) : NAME(any_columns)(W, x, ldx, out, ldo, n, K); \
        break;
    switch (what) {
        CASE(SOFTMAX)
        CASE(LOG_SOFTMAX)
        CASE(LOGSUMEXP)
    }
#undef CASE
    return found | (fetestexcept(FE_OVERFLOW) ? DIFFERENCE_OVERFLOWS : 0);
}

/* Takes one of a piece's three steps, which all pieces of a row take before the next; returns what `normalise` does. */
KERNEL int NAME(piece)(int step, int what, const real *x, real *out, ptrdiff_t K, double limit, Piece *p)
{
    int found = 0;
    feclearexcept(FE_OVERFLOW);
#define CASE(W)                                                                                                \
    case W:                                                                                                    \
        if (step == 0) NAME(piece_top)(x, K, p);                                                               \
        else if (step == 1) found = NAME(piece_sums)(W, x, out, K, (real)limit, p);                            \
        else NAME(piece_result)(W, x, out, K, (real)limit, p);                                                 \
        break;
    switch (what) {
        CASE(SOFTMAX)
        CASE(LOG_SOFTMAX)
        CASE(LOGSUMEXP)
    }
#undef CASE
    return found | (fetestexcept(FE_OVERFLOW) ? DIFFERENCE_OVERFLOWS : 0);
}
#undef SUMMED_DOWN
#undef SUMS_DOWN
