/* Scores that are scaled before their softmax, as calibrations do it, in rows as in logits.h.
 *
 * By one factor beta > 0, the inverse of a temperature: a row's loss, and its derivatives by beta.
 *
 *     top = max z     d_k = z_k - top <= 0     e_k = exp(beta d_k)     E f = sum_k e_k f_k / sum_j e_j
 *     loss = beta (top - z_y) + log1p(t)     slope = (top - z_y) + E d     curvature = E d^2 - (E d)^2
 *
 * t is the sum of all e_k but the top's 1, and the other sums have no term of the top: so a row that is nearly certain
 * keeps its digits in all of them.
 *
 * By a factor a_k for each class, with a shift b_k: the loss of scores a_k z_k + b_k, and its derivatives, the sums of
 * R_k z_k and R_k. Up to COLUMNS_MOST classes a row has a lane; beyond, scaled_tile makes the scores, residuals.h their
 * residuals R, and add_scaled the sums.
 */

/* What is summed over a row's scores: e_k less than 1, e_k of 1, e_k d_k and e_k d_k^2. */
typedef struct {
    vec others, tops, first, second;
} NAME(Scaled);

INLINE void NAME(add_scores)(const int count, const vec *z, vec top, vec beta, NAME(Scaled) *sums)
{
    vec d[EXPS], e[EXPS];
    UNROLL for (int v = 0; v < count; v++) {
        d[v] = z[v] - top;
        e[v] = beta * d[v];
    }
    NAME(exps_le0)(count, e);
    UNROLL for (int v = 0; v < count; v++) {
        const ivec is_top = MASK(d[v] == 0);
        d[v] = NAME(keep)(MASK(e[v] > 0), d[v]); /* which may be -inf, as the difference of the two ends of a type */
        const vec ed = e[v] * d[v];
        sums->tops += NAME(keep)(is_top, e[v]);
        sums->others += NAME(drop)(is_top, e[v]);
        sums->first += ed;
        sums->second += ed * d[v];
    }
}

/* The sums of L rows, a lane each. */
INLINE vec NAME(scaled_lanes)(const vec *z, ptrdiff_t K, vec beta, NAME(Scaled) *sums)
{
    const vec top = NAME(top_of_columns)(z, K, NULL);
    for (; K >= EXPS; K -= EXPS, z += EXPS) NAME(add_scores)(EXPS, z, top, beta, sums);
    for (; K > 0; K--, z++) NAME(add_scores)(1, z, top, beta, sums);
    return top;
}

INLINE double NAME(lane_sum)(vec v) { return (double)NAME(first)(NAME(sum_lanes)(v)); }

/* The four sums of one row of K >= L scores; the top is returned. */
INLINE real NAME(scaled_row)(const real *x, ptrdiff_t K, vec beta, double *sums)
{
    const ptrdiff_t whole = K / L * L;
    real rest[NAME(lanes)];
    for (ptrdiff_t l = 0; l < L; l++) rest[l] = whole + l < K ? x[whole + l] : (real)-INFINITY;
    const vec last = NAME(load)(rest);
    const vec top = NAME(max_lanes)(NAME(max)(last, NAME(top_of_row)(x, whole, NULL)));
    for (ptrdiff_t from = 0; from <= whole; from += SUMMED) {
        const ptrdiff_t to = smaller(whole, from + SUMMED);
        NAME(Scaled) part = {NAME(set1)(0), NAME(set1)(0), NAME(set1)(0), NAME(set1)(0)};
        ptrdiff_t k = from;
        for (; k + EXPS * L <= to; k += EXPS * L) {
            vec z[EXPS];
            UNROLL for (int v = 0; v < EXPS; v++) z[v] = NAME(load)(x + k + v * L);
            NAME(add_scores)(EXPS, z, top, beta, &part);
        }
        for (; k < to; k += L) {
            const vec z = NAME(load)(x + k);
            NAME(add_scores)(1, &z, top, beta, &part);
        }
        if (from == 0) NAME(add_scores)(1, &last, top, beta, &part);
        sums[0] += NAME(lane_sum)(part.others), sums[1] += NAME(lane_sum)(part.tops);
        sums[2] += NAME(lane_sum)(part.first), sums[3] += NAME(lane_sum)(part.second);
    }
    return NAME(first)(top);
}

/* Adds the losses, slopes and curvatures of n rows, each times its weight in s (NULL for 1), to sums[0..2].  Rows are
 * ldx apart, and `end` is behind the last score of all. */
KERNEL void NAME(add_scaled_by_one)(const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K, const real *end,
                                    const ptrdiff_t *y, const double *s, double beta, double *sums)
{
    const vec factor = NAME(set1)((real)beta);
    /* Not in memory, which x might lie in: each addition would wait for the store of the one before. */
    double loss = 0, slope = 0, curvature = 0;
    for (ptrdiff_t i = 0; i < n; i += L, x += L * ldx) {
        const ptrdiff_t some = smaller(L, n - i);
        NAME(Scaled) row = {NAME(set1)(0), NAME(set1)(0), NAME(set1)(0), NAME(set1)(0)};
        real top[NAME(lanes)], log_t[NAME(lanes)], mean[NAME(lanes)], variance[NAME(lanes)];
        if (K <= COLUMNS_MOST) {
            vec z[COLUMNS_MOST];
            NAME(read_few)(x, ldx, some, K, end, NULL, 0, z);
            NAME(store)(top, NAME(scaled_lanes)(z, K, factor, &row));
        } else {
            real lane[4][NAME(lanes)] = {{0}};
            for (ptrdiff_t l = 0; l < some; l++) {
                double of_row[4] = {0};
                top[l] = NAME(scaled_row)(x + l * ldx, K, factor, of_row);
                UNROLL for (int j = 0; j < 4; j++) lane[j][l] = (real)of_row[j];
            }
            row.others = NAME(load)(lane[0]), row.tops = NAME(load)(lane[1]);
            row.first = NAME(load)(lane[2]), row.second = NAME(load)(lane[3]);
        }
        const vec total = row.others + row.tops, expected = row.first / total;
        NAME(store)(log_t, NAME(log1p_ge0)(row.others + (row.tops - 1)));
        NAME(store)(mean, expected);
        NAME(store)(variance, row.second / total - expected * expected);
        for (ptrdiff_t l = 0; l < some; l++) {
            const double below = (double)top[l] - (double)x[l * ldx + y[i + l]], weight = s ? s[i + l] : 1;
            loss += weight * ((double)(real)beta * below + (double)log_t[l]);
            slope += weight * (below + (double)mean[l]);
            curvature += weight * (double)variance[l];
        }
    }
    sums[0] += loss, sums[1] += slope, sums[2] += curvature;
}

/* A lane's terms are summed for so many groups of rows before they are added to the sums in double. */
#define GROUPS 16

/* Adds the losses of n rows, each times its weight in s (NULL for 1), to sums[0], the derivatives by a to the K sums
 * after it, and those by b to the next K; K <= COLUMNS_MOST, and x, ldx and `end` are as above. */
KERNEL void NAME(add_scaled_by_class)(const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K, const real *end,
                                      const ptrdiff_t *y, const double *s, const real *a, const real *b, double *sums)
{
    vec of_a[COLUMNS_MOST], of_b[COLUMNS_MOST];
    for (ptrdiff_t from = 0; from < n; from += GROUPS * L) {
        for (ptrdiff_t k = 0; k < K; k++) of_a[k] = of_b[k] = NAME(set1)(0);
        for (ptrdiff_t i = from; i < smaller(n, from + GROUPS * L); i += L) {
            const ptrdiff_t some = smaller(L, n - i);
            const ivec rows = NAME(first_lanes)(some);
            vec own[COLUMNS_MOST], z[COLUMNS_MOST];
            double base[NAME(lanes)];
            real t[NAME(lanes)];
            NAME(read_few)(x + i * ldx, ldx, some, K, end, NULL, 0, own);
            for (ptrdiff_t k = 0; k < K; k++) z[k] = own[k] * a[k] + b[k];
            NAME(residual_lanes)(z, some, K, y + i, s ? s + i : NULL, 0, base, t);
            NAME(store)(t, NAME(log1p_ge0)(NAME(load)(t)));
            for (ptrdiff_t l = 0; l < some; l++) sums[0] += (s ? s[i + l] : 1) * (base[l] + (double)t[l]);
            for (ptrdiff_t k = 0; k < K; k++) {
                const vec r = NAME(keep)(rows, z[k]);
                of_a[k] += r * own[k];
                of_b[k] += r;
            }
        }
        for (ptrdiff_t k = 0; k < K; k++) {
            sums[1 + k] += NAME(lane_sum)(of_a[k]);
            sums[1 + K + k] += NAME(lane_sum)(of_b[k]);
        }
    }
}
#undef GROUPS

/* Writes a_k x_k + b_k of n rows to a tile of rows ldz apart, each padded to whole vectors with -inf. */
KERNEL void NAME(scaled_tile)(const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K, const real *a, const real *b,
                              real *Z, ptrdiff_t ldz)
{
    for (ptrdiff_t k = 0; k < K; k += L) {
        const ptrdiff_t some = smaller(L, K - k);
        const vec factor = NAME(load_some)(a + k, some), shift = NAME(load_some)(b + k, some);
        for (ptrdiff_t i = 0; i < n; i++) {
            real *z = Z + i * ldz + k;
            if (some == L) {
                NAME(store)(z, factor * NAME(load)(x + i * ldx + k) + shift);
            } else {
                NAME(store)(z, NAME(set1)((real)-INFINITY));
                NAME(store_some)(z, some, factor * NAME(load_some)(x + i * ldx + k, some) + shift);
            }
        }
    }
}

/* Adds R_k x_k and R_k of n <= L rows to da and db, with residuals in a tile. */
KERNEL void NAME(add_scaled)(const real *R, ptrdiff_t ldr, const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K,
                             double *da, double *db)
{
    for (ptrdiff_t k = 0; k < K; k += L) {
        const ptrdiff_t some = smaller(L, K - k);
        vec of_a = NAME(set1)(0), of_b = NAME(set1)(0);
        real lane_a[NAME(lanes)], lane_b[NAME(lanes)];
        for (ptrdiff_t i = 0; i < n; i++) {
            const vec r = NAME(load)(R + i * ldr + k);
            of_a += r * (some == L ? NAME(load)(x + i * ldx + k) : NAME(load_some)(x + i * ldx + k, some));
            of_b += r;
        }
        NAME(store)(lane_a, of_a);
        NAME(store)(lane_b, of_b);
        for (ptrdiff_t l = 0; l < some; l++) {
            da[k + l] += (double)lane_a[l];
            db[k + l] += (double)lane_b[l];
        }
    }
}
