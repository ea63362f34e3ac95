/* The maths of residuals.h for L rows at once, transposed so that each has a lane: no score waits for another of its
 * row, and ten classes leave no lane empty.  It wins up to COLUMNS_MOST classes: see "Few classes" in docs/notes.md. */

#define COLUMNS_MOST 128

/* Move L rows of K scores from Z, or to it; in z each row has a lane. */
INLINE void NAME(load_columns)(const real *Z, ptrdiff_t ldz, ptrdiff_t K, vec *z)
{
    for (ptrdiff_t k = 0; k < K; k += L) {
        vec t[NAME(lanes)];
        UNROLL for (int l = 0; l < L; l++) t[l] = NAME(load)(Z + l * ldz + k);
        NAME(transpose)(t);
        UNROLL for (int l = 0; l < L; l++) z[k + l] = t[l];
    }
}

INLINE void NAME(store_columns)(real *Z, ptrdiff_t ldz, ptrdiff_t K, const vec *z)
{
    for (ptrdiff_t k = 0; k < K; k += L) {
        vec t[NAME(lanes)];
        UNROLL for (int l = 0; l < L; l++) t[l] = z[k + l];
        NAME(transpose)(t);
        UNROLL for (int l = 0; l < L; l++) NAME(store)(Z + l * ldz + k, t[l]);
    }
}

/* Returns each lane's maximum; unless `nan` is NULL, sets it in the lanes that hold a NaN. */
INLINE vec NAME(top_of_columns)(const vec *z, ptrdiff_t K, ivec *nan)
{
    if (K < 1) __builtin_unreachable(); /* else gcc warns that z is uninitialised where this is inlined */
    vec top = z[0];
    if (nan) *nan = MASK(top != top);
    for (ptrdiff_t k = 1; k < K; k++) {
        if (nan) *nan |= MASK(z[k] != z[k]);
        top = NAME(max)(z[k], top);
    }
    return top;
}

/* Returns each lane's sum.  Four sums err less than one, and wait less: see "Several sums" in docs/notes.md. */
INLINE vec NAME(sum_of_columns)(const vec *z, ptrdiff_t K)
{
    vec sum[4];
    UNROLL for (int v = 0; v < 4; v++) sum[v] = NAME(set1)(0);
    ptrdiff_t k = 0;
    for (; k + 4 <= K; k += 4)
        UNROLL for (int v = 0; v < 4; v++) sum[v] += z[k + v];
    for (; k < K; k++) sum[K - k] += z[k];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Adds a term to a sum that is not less than the term: then `lost` gathers exactly what the additions round away
 * (Dekker's Fast2Sum). */
INLINE void NAME(add_precisely)(vec term, vec *sum, vec *lost)
{
    const vec before = *sum;
    *sum += term;
    *lost += term - (*sum - before);
}

/* Returns the sum of exponentials, none of them above 1.  They are added in pairs, and the pairs as if no addition
 * rounded but the last, so that posteriors sum to one: see "Posteriors sum to one" in docs/notes.md. */
INLINE vec NAME(precise_sum_of_columns)(const vec *e, ptrdiff_t K)
{
    vec sum = NAME(set1)(2), lost = NAME(set1)(0); /* no pair exceeds 2, and subtracting it rounds nothing */
    for (; K >= 2; K -= 2, e += 2) NAME(add_precisely)(e[0] + e[1], &sum, &lost);
    if (K) NAME(add_precisely)(e[0], &sum, &lost);
    return (sum - 2) + lost;
}

/* Returns sum_k T_k (top - z_k), with T NULL for 1. */
INLINE vec NAME(sum_below)(const vec *z, const vec *T, ptrdiff_t K, vec top)
{
    vec sum[4];
    UNROLL for (int v = 0; v < 4; v++) sum[v] = NAME(set1)(0);
    ptrdiff_t k = 0;
    for (; k + 4 <= K; k += 4)
        UNROLL for (int v = 0; v < 4; v++) sum[v] += T ? T[k + v] * (top - z[k + v]) : top - z[k + v];
    for (; k < K; k++) sum[K - k] += T ? T[k] * (top - z[k]) : top - z[k];
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* Replaces z_k by exp(z_k - top), for EXPS of them in step; `normal`, a constant, is as in simd.h. */
INLINE void NAME(exp_columns)(const int normal, vec *z, ptrdiff_t K, vec top)
{
    for (; K >= EXPS; K -= EXPS, z += EXPS) {
        vec e[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) e[v] = z[v] - top;
        NAME(exps_in_step)(normal, EXPS, e);
        UNROLL for (int v = 0; v < EXPS; v++) z[v] = e[v];
    }
    for (ptrdiff_t k = 0; k < K; k++) {
        z[k] -= top;
        NAME(exps_in_step)(normal, 1, z + k);
    }
}

INLINE void NAME(probability_columns)(real *Z, ptrdiff_t ldz, ptrdiff_t K)
{
    vec z[COLUMNS_MOST];
    NAME(load_columns)(Z, ldz, K, z);
    const vec top = NAME(top_of_columns)(z, K, NULL);
    NAME(exp_columns)(0, z, K, top);
    const vec sum = NAME(precise_sum_of_columns)(z, K);
    for (ptrdiff_t k = 0; k < K; k++) z[k] /= sum;
    NAME(store_columns)(Z, ldz, K, z);
}

/* Turns the scores of L rows, a lane each, into residuals, with labels y and weights s (NULL for 1); n of the rows
 * exist.  Their losses are base + log1p(t). */
INLINE void NAME(residual_lanes)(vec *z, ptrdiff_t n, ptrdiff_t K, const ptrdiff_t *y, const double *s,
                                 double smoothing, double *base, real *t)
{
    const real *score = (const real *)z;
    bits label[NAME(lanes)] = {0};
    real tops[NAME(lanes)];
    /* The first loop has a constant length, or gcc calls memcpy: see "Constant lengths" in docs/notes.md. */
    if (n == L) LANES for (ptrdiff_t l = 0; l < L; l++) label[l] = (bits)y[l];
    else for (ptrdiff_t l = 0; l < n; l++) label[l] = (bits)y[l];
    vec weights = NAME(set1)(1); /* not loaded from an array: a load of lanes just stored waits for all of the stores */
    if (s) {
        real weight[NAME(lanes)] = {0};
        for (ptrdiff_t l = 0; l < n; l++) weight[l] = (real)s[l];
        weights = NAME(load)(weight);
    }
    const vec top = NAME(top_of_columns)(z, K, NULL);
    NAME(store)(tops, top);
    for (ptrdiff_t l = 0; l < n; l++) base[l] = (double)tops[l] - (double)score[y[l] * L + l];
    if (smoothing > 0) {
        real below[NAME(lanes)];
        NAME(store)(below, NAME(sum_below)(z, NULL, K, top));
        for (ptrdiff_t l = 0; l < n; l++)
            base[l] = (smoothing < 1 ? (1 - smoothing) * base[l] : 0) + smoothing / K * (double)below[l];
    }
    ivec target;
    memcpy(&target, label, sizeof target);
    NAME(exp_columns)(1, z, K, top);
    vec own = NAME(set1)(0);
    for (ptrdiff_t k = 0; k < K; k++) {
        const ivec is_own = MASK(target == (bits)k);
        own += NAME(keep)(is_own, z[k]);
        z[k] = NAME(drop)(is_own, z[k]);
    }
    const vec others = NAME(sum_of_columns)(z, K), total = others + own;
    NAME(store)(t, others + (own - 1));
    const vec scale = weights / total, even = weights * (real)(smoothing / K);
    const vec of_own = weights * (real)smoothing - weights * (others / total);
    for (ptrdiff_t k = 0; k < K; k++)
        z[k] = z[k] * scale - even + NAME(keep)(MASK(target == (bits)k), of_own);
}

INLINE void NAME(residual_columns)(real *Z, ptrdiff_t n, ptrdiff_t ldz, ptrdiff_t K, const ptrdiff_t *y,
                                   const double *s, double smoothing, double *base, real *t)
{
    vec z[COLUMNS_MOST];
    NAME(load_columns)(Z, ldz, K, z);
    NAME(residual_lanes)(z, n, K, y, s, smoothing, base, t);
    NAME(store_columns)(Z, ldz, K, z);
}

/* Writes the targets T of n <= L rows, a lane each, from labels y, or from Y in rows of ldy. */
INLINE void NAME(target_lanes)(vec *T, ptrdiff_t n, ptrdiff_t K, const ptrdiff_t *y, const real *Y, ptrdiff_t ldy,
                               const real *c, double smoothing)
{
    const real rest = (real)(1 - smoothing), even = (real)(smoothing / K);
    bits label[NAME(lanes)] = {0};
    ivec own;
    for (ptrdiff_t l = 0; l < n && y; l++) label[l] = (bits)y[l];
    memcpy(&own, label, sizeof own);
    for (ptrdiff_t k = 0; k < K; k += L) {
        if (Y) {
            for (ptrdiff_t l = 0; l < L; l++)
                T[k + l] = l >= n ? NAME(set1)(0) : NAME(load_some)(Y + l * ldy + k, smaller(L, K - k));
            NAME(transpose)(T + k);
        }
        for (ptrdiff_t l = k; l < smaller(K, k + L); l++) {
            if (Y) T[l] *= rest;
            else T[l] = NAME(keep)(MASK(own == (bits)l), NAME(set1)(rest));
            T[l] += even;
            if (c) T[l] *= c[l];
        }
    }
}

/* Does the same as residual_lanes for targets T; the losses are in base. */
INLINE void NAME(target_residual_lanes)(vec *z, const vec *T, ptrdiff_t n, ptrdiff_t K, const double *s, double *base)
{
    real weight[NAME(lanes)], below[NAME(lanes)], lane[NAME(lanes)], log_t[NAME(lanes)];
    for (ptrdiff_t l = 0; l < L; l++) weight[l] = l >= n ? 0 : s ? (real)s[l] : 1;
    const vec top = NAME(top_of_columns)(z, K, NULL), mass = NAME(sum_of_columns)(T, K), weights = NAME(load)(weight);
    NAME(store)(below, NAME(sum_below)(z, T, K, top));
    NAME(exp_columns)(1, z, K, top);
    vec apart[4], tops = NAME(set1)(0); /* tops counts the exponentials that are 1, apart sums the others */
    UNROLL for (int v = 0; v < 4; v++) apart[v] = NAME(set1)(0);
    ptrdiff_t k = 0;
    for (; k + 4 <= K; k += 4)
        UNROLL for (int v = 0; v < 4; v++) {
            const ivec is_top = MASK(z[k + v] == 1);
            tops += NAME(keep)(is_top, z[k + v]);
            apart[v] += NAME(drop)(is_top, z[k + v]);
        }
    for (; k < K; k++) {
        const ivec is_top = MASK(z[k] == 1);
        tops += NAME(keep)(is_top, z[k]);
        apart[K - k] += NAME(drop)(is_top, z[k]);
    }
    const vec others = (apart[0] + apart[1]) + (apart[2] + apart[3]);
    NAME(store)(lane, mass);
    NAME(store)(log_t, NAME(log1p_ge0)(others + (tops - 1)));
    for (ptrdiff_t l = 0; l < n; l++) base[l] = (double)below[l] + (double)lane[l] * (double)log_t[l];
    const vec scale = weights * mass / (others + tops);
    for (k = 0; k < K; k++) {
        vec wanted = weights * T[k];
        IN_REGISTER(wanted); /* rounded before the difference, as the mass was: so a single class has the residual 0 */
        z[k] = z[k] * scale - wanted;
    }
}

INLINE void NAME(target_residual_columns)(real *Z, ptrdiff_t n, ptrdiff_t ldz, ptrdiff_t K, const ptrdiff_t *y,
                                          const real *Y, ptrdiff_t ldy, const real *c, const double *s,
                                          double smoothing, double *base)
{
    vec z[COLUMNS_MOST], T[COLUMNS_MOST];
    NAME(load_columns)(Z, ldz, K, z);
    NAME(target_lanes)(T, n, K, y, Y, ldy, c, smoothing);
    NAME(target_residual_lanes)(z, T, n, K, s, base);
    NAME(store_columns)(Z, ldz, K, z);
}
