/* The maths of one row: scores z -> probabilities S, or residuals s_i R = s_i (S - Y) and the loss.
 *
 *     top = max z          e_k = exp(z_k - top)          S_k = e_k / sum_j e_j
 *     label y:   loss = (top - z_y) + log1p(t),   t = sum_{j != y} e_j + (e_y - 1)
 *                R_k = S_k,   R_y = -sum_{j != y} e_j / sum_j e_j
 *     targets Y: loss = sum_k Y_k (top - z_k) + (sum_k Y_k) log1p(t),   t = the sum without the first e_k that is 1
 *                R_k = S_k sum_j Y_j - Y_k
 *
 * The sum without its largest term is formed as such, never by subtraction: so the loss of a confidently right row and
 * its residual keep all their digits where log S_y would be 0 (scipy#19521).  If z_y is the top, e_y - 1 is exactly
 * 0; if not, t >= 1 and nothing is lost.  Smoothing e replaces Y by (1 - e) Y + e / K.
 *
 * NaN and infinities as PyTorch has them, and within their row: a NaN or +inf makes the row NaN, a -inf has S = 0.
 *
 * Rows are padded to whole vectors with scores of -inf.  Up to COLUMNS_MOST classes, L rows are transposed and done
 * at once, a lane each; beyond, the lanes run along the classes of one row.
 */

#define COLUMNS_MOST 128

/* L rows of Z, K of each, to and from a lane a row. */
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

/* The maximum of the numbers; `nan` (or NULL) tells in which lanes there is a NaN beside them. */
INLINE vec NAME(top_of_columns)(const vec *z, ptrdiff_t K, ivec *nan)
{
    vec top = z[0];
    if (nan) *nan = MASK(top != top);
    for (ptrdiff_t k = 1; k < K; k++) {
        if (nan) *nan |= MASK(z[k] != z[k]);
        top = NAME(max)(z[k], top);
    }
    return top;
}

/* Four sums at a time: in one, seventy floats err by 4e-7, and each addition waits for the one before. */
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

/* z_k -> exp(z_k - top), EXPS of them in step. */
INLINE void NAME(exp_columns)(vec *z, ptrdiff_t K, vec top)
{
    for (; K >= EXPS; K -= EXPS, z += EXPS) {
        vec e[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) e[v] = z[v] - top;
        NAME(exps_le0)(EXPS, e);
        UNROLL for (int v = 0; v < EXPS; v++) z[v] = e[v];
    }
    for (ptrdiff_t k = 0; k < K; k++) z[k] = NAME(exp_le0)(z[k] - top);
}

INLINE void NAME(probability_columns)(real *Z, ptrdiff_t ldz, ptrdiff_t K)
{
    vec z[COLUMNS_MOST];
    NAME(load_columns)(Z, ldz, K, z);
    const vec top = NAME(top_of_columns)(z, K, NULL);
    NAME(exp_columns)(z, K, top);
    const vec sum = NAME(sum_of_columns)(z, K);
    for (ptrdiff_t k = 0; k < K; k++) z[k] /= sum;
    NAME(store_columns)(Z, ldz, K, z);
}

/* Scores -> residuals of L rows, a lane each, of which n exist, with labels y and weights s (1 for none). */
INLINE void NAME(residual_lanes)(vec *z, ptrdiff_t n, ptrdiff_t K, const ptrdiff_t *y, const double *s,
                                 double smoothing, double *base, real *t)
{
    const real *score = (const real *)z;
    bits label[NAME(lanes)] = {0};
    real tops[NAME(lanes)];
    for (ptrdiff_t l = 0; l < n; l++) label[l] = (bits)y[l];
    vec weights = NAME(set1)(1); /* not by way of memory: a vector of eight stores waits for all of them */
    if (s) {
        real weight[NAME(lanes)] = {0};
        for (ptrdiff_t l = 0; l < n; l++) weight[l] = (real)s[l];
        weights = NAME(load)(weight);
    }
    const vec top = NAME(top_of_columns)(z, K, NULL);
    NAME(store)(tops, top);
    for (ptrdiff_t l = 0; l < n; l++) base[l] = (double)tops[l] - (double)score[y[l] * L + l];
    if (smoothing > 0)
        for (ptrdiff_t l = 0; l < n; l++) {
            double below = 0;
            for (ptrdiff_t k = 0; k < K; k++) below += (double)tops[l] - (double)score[k * L + l];
            base[l] = (smoothing < 1 ? (1 - smoothing) * base[l] : 0) + smoothing / K * below;
        }
    ivec target;
    memcpy(&target, label, sizeof target);
    NAME(exp_columns)(z, K, top);
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

/* One row of `lanes` scores, a multiple of L: its top, in every lane; `nan` as above.  Four vectors at a time, since one
 * alone would wait for its own last result. */
INLINE vec NAME(top_of_row)(const real *z, ptrdiff_t lanes, ivec *nan)
{
    vec top[4];
    UNROLL for (int v = 0; v < 4; v++) top[v] = NAME(load)(z);
    ptrdiff_t k = 0;
    for (; k + 4 * L <= lanes; k += 4 * L)
        UNROLL for (int v = 0; v < 4; v++) {
            const vec x = NAME(load)(z + k + v * L);
            if (nan) *nan |= MASK(x != x);
            top[v] = NAME(max)(x, top[v]);
        }
    for (; k < lanes; k += L) {
        const vec x = NAME(load)(z + k);
        if (nan) *nan |= MASK(x != x);
        top[0] = NAME(max)(x, top[0]);
    }
    return NAME(max_lanes)(NAME(max)(NAME(max)(top[0], top[1]), NAME(max)(top[2], top[3])));
}

/* e = exp(z - top) of `count` vectors, added to as many sums. */
INLINE void NAME(exp_step)(const int count, const real *z, real *e, vec top, vec *sum)
{
    vec x[EXPS];
    UNROLL for (int v = 0; v < count; v++) x[v] = NAME(load)(z + v * L) - top;
    NAME(exps_le0)(count, x);
    UNROLL for (int v = 0; v < count; v++) {
        NAME(store)(e + v * L, x[v]);
        sum[v] += x[v];
    }
}

/* e = exp(z - top), where e may be z; their sum, in every lane. */
INLINE vec NAME(exp_row)(const real *z, real *e, ptrdiff_t lanes, vec top)
{
    vec sum[EXPS];
    UNROLL for (int v = 0; v < EXPS; v++) sum[v] = NAME(set1)(0);
    for (; lanes >= EXPS * L; lanes -= EXPS * L, z += EXPS * L, e += EXPS * L)
        NAME(exp_step)(EXPS, z, e, top, sum);
    switch (lanes / L) {
    case 3: NAME(exp_step)(3, z, e, top, sum); break;
    case 2: NAME(exp_step)(2, z, e, top, sum); break;
    case 1: NAME(exp_step)(1, z, e, top, sum); break;
    }
    return NAME(sum_lanes)((sum[0] + sum[1]) + (sum[2] + sum[3]));
}

INLINE void NAME(probability_row)(real *z, ptrdiff_t lanes)
{
    const vec sum = NAME(exp_row)(z, z, lanes, NAME(top_of_row)(z, lanes, NULL));
    for (ptrdiff_t k = 0; k < lanes; k += L) NAME(store)(z + k, NAME(load)(z + k) / sum);
}

INLINE void NAME(residual_row)(real *z, ptrdiff_t K, ptrdiff_t lanes, ptrdiff_t y, double s, double smoothing,
                               double *base, real *t)
{
    const vec tops = NAME(top_of_row)(z, lanes, NULL);
    const real top = NAME(first)(tops), zy = z[y];
    *base = (double)top - (double)zy;
    if (smoothing > 0) {
        double below = 0;
        for (ptrdiff_t k = 0; k < K; k++) below += (double)top - (double)z[k];
        *base = (smoothing < 1 ? (1 - smoothing) * *base : 0) + smoothing / K * below;
    }
    z[y] = -INFINITY;
    const vec others = NAME(exp_row)(z, z, lanes, tops), own = NAME(exp_le0)(NAME(set1)(zy) - tops);
    *t = NAME(first)(others + (own - 1));
    const vec total = others + own, scale = (real)s / total, even = NAME(set1)((real)(s * (smoothing / K)));
    for (ptrdiff_t k = 0; k < lanes; k += L) NAME(store)(z + k, NAME(load)(z + k) * scale - even);
    z[y] = (real)(s * (smoothing - smoothing / K)) - (real)s * NAME(first)(others / total);
}

INLINE void NAME(soft_residual_row)(real *z, const real *Y, ptrdiff_t K, ptrdiff_t lanes, double s, double smoothing,
                                    double *base, real *t)
{
    const vec tops = NAME(top_of_row)(z, lanes, NULL);
    const real top = NAME(first)(tops), even = (real)(smoothing / K), rest = (real)(1 - smoothing);
    double below = 0, mass = 0;
    ptrdiff_t first = K;
    for (ptrdiff_t k = K - 1; k >= 0; k--) {
        const real target = smoothing > 0 ? rest * Y[k] + even : Y[k];
        mass += target;
        below += target * ((double)top - (double)z[k]);
        if (z[k] == top) first = k;
    }
    if (first == K) first = 0; /* nothing equals the top: the row is NaN */
    const real own = top - top + 1; /* exp(0), or NaN for a top that is infinite */
    z[first] = -INFINITY;
    const real others = NAME(first)(NAME(exp_row)(z, z, lanes, tops));
    z[first] = own;
    *t = 0;
    *base = below + mass * log1p((double)(others + (own - 1)));
    const real total = others + own, scale = (real)mass / total, weight = (real)s;
    for (ptrdiff_t k = 0; k < K; k++)
        z[k] = weight * (z[k] * scale - (smoothing > 0 ? rest * Y[k] + even : Y[k]));
}

/* A tile of n rows of K scores, in rows of ldz; Z has room for whole groups of L rows. */
static void NAME(probabilities)(real *Z, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz)
{
    if (K > COLUMNS_MOST) {
        for (ptrdiff_t i = 0; i < n; i++) NAME(probability_row)(Z + i * ldz, NAME(vectors)(K) * L);
        return;
    }
    memset(Z + n * ldz, 0, (parts_of(n, L) * L - n) * ldz * sizeof(real));
    for (ptrdiff_t i = 0; i < n; i += L) NAME(probability_columns)(Z + i * ldz, ldz, K);
}

/* Scores -> s_i R in place; the sum of s_i loss_i.  Labels y, or targets Y in rows of ldy; s NULL for 1.
 * base and t are work space for whole groups of L rows. */
static double NAME(residuals)(real *Z, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, const ptrdiff_t *y, const real *Y,
                              ptrdiff_t ldy, const double *s, double smoothing, double *base, real *t)
{
    const ptrdiff_t whole = parts_of(n, L) * L, lanes = NAME(vectors)(K) * L;
    if (y && K <= COLUMNS_MOST) {
        memset(Z + n * ldz, 0, (whole - n) * ldz * sizeof(real));
        for (ptrdiff_t i = 0; i < n; i += L)
            NAME(residual_columns)(Z + i * ldz, smaller(L, n - i), ldz, K, y + i, s ? s + i : NULL, smoothing,
                                   base + i, t + i);
    } else {
        for (ptrdiff_t i = n; i < whole; i++) t[i] = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            real *z = Z + i * ldz;
            const double weight = s ? s[i] : 1;
            if (y) NAME(residual_row)(z, K, lanes, y[i], weight, smoothing, base + i, t + i);
            else NAME(soft_residual_row)(z, Y + i * ldy, K, lanes, weight, smoothing, base + i, t + i);
        }
    }
    double loss = 0;
    for (ptrdiff_t i = 0; i < n; i += L) {
        NAME(store)(t + i, NAME(log1p_ge0)(NAME(load)(t + i)));
        for (ptrdiff_t l = i; l < smaller(i + L, n); l++) loss += (s ? s[l] : 1) * (base[l] + t[l]);
    }
    return loss;
}

/* S -> s_i A in place, A = S o (Q - sum_k S_k Q_k): what the Hessian's product has for a residual. */
static void NAME(curvatures)(real *S, const real *Q, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, const double *s)
{
    for (ptrdiff_t i = 0; i < n; i++, S += ldz, Q += ldz) {
        const ptrdiff_t whole = K / L * L;
        vec sum = NAME(set1)(0);
        for (ptrdiff_t k = 0; k < whole; k += L) sum += NAME(load)(S + k) * NAME(load)(Q + k);
        real mean = NAME(first)(NAME(sum_lanes)(sum));
        for (ptrdiff_t k = whole; k < K; k++) mean += S[k] * Q[k];
        const real weight = s ? (real)s[i] : 1;
        for (ptrdiff_t k = 0; k < K; k++) S[k] *= weight * (Q[k] - mean);
    }
}

/* db += the columns' sums. */
static void NAME(add_columns)(const real *R, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldr, double *db)
{
    for (ptrdiff_t k = 0; k < K; k += L) {
        vec sum = NAME(set1)(0);
        for (ptrdiff_t i = 0; i < n; i++) sum += NAME(load)(R + i * ldr + k);
        real lane[NAME(lanes)];
        NAME(store)(lane, sum);
        for (ptrdiff_t l = 0; l < smaller(L, K - k); l++) db[k + l] += lane[l];
    }
}
