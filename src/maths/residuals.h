/* The maths of one row: scores z become probabilities S, or residuals s_i R = s_i (S - Y) and the loss.
 *
 *     top = max z          e_k = exp(z_k - top)          S_k = e_k / sum_j e_j
 *     label y:   loss = (top - z_y) + log1p(t),   t = sum_{j != y} e_j + (e_y - 1)
 *                R_k = S_k,   R_y = -sum_{j != y} e_j / sum_j e_j
 *     targets T: loss = sum_k T_k (top - z_k) + M log1p(t),   M = sum_k T_k,   t = the sum of all e_k but one that is 1
 *                R_k = S_k M - T_k
 *
 * No sum takes in the top's 1 only to have it subtracted: so the loss of a confidently right row and its residual keep
 * all their digits, where log S_y would be 0 (scipy#19521).  If z_y is the top, e_y - 1 is exactly 0; if not, the loss
 * is at least log 2, beside which t's rounding is small.  Smoothing e and weights c of the classes make
 * T_k = c_k ((1 - e) Y_k + e / K).
 *
 * Two options for large vocabularies follow Liger-Kernel.  The z-loss adds z_loss lse^2 to a row's loss and
 * 2 z_loss lse S_k to R_k, with lse = top + log1p(t).  A cap of the scores replaces z by cap tanh(z / cap) before all
 * this, and multiplies R_k by 1 - tanh^2 after it.
 *
 * NaN and infinities have PyTorch's results, and stay in their row: a NaN or +inf makes the row NaN, a -inf has S = 0.
 *
 * Rows are padded to whole vectors with scores of -inf.  Up to COLUMNS_MOST classes, L rows are transposed and computed
 * at once, a lane each (residual_lanes.h); beyond, and with a z-loss, the lanes run along the classes of one row.
 */

/* Returns the maximum of a row of `lanes` scores, a multiple of L, in every lane; unless `nan` is NULL, sets it in
 * lanes that met a NaN.  Four vectors gather the maximum, since one alone would wait for its own last result. */
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

/* Writes e = exp(z - top) for `count` vectors, and adds them to a sum; `lost` is as in add_precisely, or NULL. */
INLINE void NAME(exp_step)(const int count, const real *z, real *e, vec top, vec *sum, vec *lost)
{
    vec x[EXPS];
    UNROLL for (int v = 0; v < count; v++) x[v] = NAME(load)(z + v * L) - top;
    NAME(exps_in_step)(!lost, count, x); /* posteriors may be subnormal */
    UNROLL for (int v = 0; v < count; v++) NAME(store)(e + v * L, x[v]);
    UNROLL for (int v = count; v < EXPS; v++) x[v] = NAME(set1)(0);
    const vec all = (x[0] + x[1]) + (x[2] + x[3]);
    if (lost) NAME(add_precisely)(all, sum, lost);
    else *sum += all;
}

/* Writes e = exp(z - top), where e may be z, and returns their sum.  `precisely` is for posteriors, whose row then sums
 * to one: see "Posteriors sum to one" in docs/notes.md.  That sum begins with EXPS, which no term of it exceeds. */
INLINE double NAME(exp_row)(const int precisely, const real *z, real *e, ptrdiff_t lanes, vec top)
{
    vec sum = NAME(set1)(precisely ? EXPS : 0), lost = NAME(set1)(0), *rest = precisely ? &lost : NULL;
    real lane[NAME(lanes)];
    double sums[NAME(lanes)];
    for (; lanes >= EXPS * L; lanes -= EXPS * L, z += EXPS * L, e += EXPS * L)
        NAME(exp_step)(EXPS, z, e, top, &sum, rest);
    switch (lanes / L) {
    case 3: NAME(exp_step)(3, z, e, top, &sum, rest); break;
    case 2: NAME(exp_step)(2, z, e, top, &sum, rest); break;
    case 1: NAME(exp_step)(1, z, e, top, &sum, rest); break;
    }
    if (precisely) sum = (sum - EXPS) + lost;
    NAME(store)(lane, sum);
    UNROLL for (int l = 0; l < L; l++) sums[l] = (double)lane[l];
    UNROLL for (int half = L / 2; half >= 1; half /= 2)
        UNROLL for (int l = 0; l < half; l++) sums[l] += sums[l + half];
    return sums[0];
}

INLINE void NAME(probability_row)(real *z, ptrdiff_t lanes)
{
    const vec sum = NAME(set1)((real)NAME(exp_row)(1, z, z, lanes, NAME(top_of_row)(z, lanes, NULL)));
    for (ptrdiff_t k = 0; k < lanes; k += L) NAME(store)(z + k, NAME(load)(z + k) / sum);
}

/* Returns the place of the first score that is the top; 0 in a row of NaN. */
INLINE ptrdiff_t NAME(first_top)(const real *z, ptrdiff_t lanes, vec top)
{
    for (ptrdiff_t k = 0; k < lanes; k += L)
        if (NAME(any)(MASK(NAME(load)(z + k) == top)))
            for (ptrdiff_t l = k; l < k + L; l++)
                if (z[l] == NAME(first)(top)) return l;
    return 0;
}

/* Return T_k = c_k (rest Y_k + even), with Y NULL for 0 and c NULL for 1: a vector from class k on, or class k's. */
INLINE vec NAME(targets)(const real *Y, const real *c, ptrdiff_t k, real rest, real even)
{
    vec T = NAME(set1)(even);
    if (Y) T += rest * NAME(load)(Y + k);
    if (c) T *= NAME(load)(c + k);
    return T;
}
INLINE real NAME(target)(const real *Y, const real *c, ptrdiff_t k, real rest, real even)
{
    return (Y ? rest * Y[k] + even : even) * (c ? c[k] : 1);
}

/* Adds sum_k T_k to `mass`, and sum_k T_k (top - z_k) to `below`. */
INLINE void NAME(add_targets)(const real *z, const real *Y, const real *c, ptrdiff_t K, real rest, real even, vec top,
                              double *mass, double *below)
{
    for (ptrdiff_t k = 0, to; k < K; k = to) {
        vec m[4], b[4];
        UNROLL for (int v = 0; v < 4; v++) m[v] = b[v] = NAME(set1)(0);
        to = smaller(K, k + SUMMED);
        for (; k + 4 * L <= to; k += 4 * L)
            UNROLL for (int v = 0; v < 4; v++) {
                const vec T = NAME(targets)(Y, c, k + v * L, rest, even);
                m[v] += T;
                b[v] += T * (top - NAME(load)(z + k + v * L));
            }
        for (; k + L <= to; k += L) {
            const vec T = NAME(targets)(Y, c, k, rest, even);
            m[0] += T;
            b[0] += T * (top - NAME(load)(z + k));
        }
        *mass += NAME(first)(NAME(sum_lanes)((m[0] + m[1]) + (m[2] + m[3])));
        *below += NAME(first)(NAME(sum_lanes)((b[0] + b[1]) + (b[2] + b[3])));
        for (; k < to; k++) {
            const real T = NAME(target)(Y, c, k, rest, even);
            *mass += T;
            *below += (double)T * ((double)NAME(first)(top) - (double)z[k]);
        }
    }
}

/* Turns one row's scores into residuals, for targets Y, or label y where Y is NULL; its loss is base + log1p(t). */
INLINE void NAME(residual_row)(real *z, ptrdiff_t K, ptrdiff_t lanes, ptrdiff_t y, const real *Y, const real *c,
                               double s, double smoothing, double z_loss, double *base, real *t)
{
    const real rest = (real)(1 - smoothing), even = (real)(smoothing / K);
    const vec tops = NAME(top_of_row)(z, lanes, NULL);
    const ptrdiff_t own = Y ? NAME(first_top)(z, lanes, tops) : y; /* the class whose exponential the sum leaves out */
    const double top = (double)NAME(first)(tops), label = Y ? 0 : (1 - smoothing) * (c ? (double)c[y] : 1);
    double mass = 0, below = 0, more = 0;
    if (Y || smoothing > 0) NAME(add_targets)(z, Y, c, K, rest, even, tops, &mass, &below);
    if (!Y && smoothing < 1) below += label * (top - (double)z[y]);
    mass = Y || c ? mass + label : 1;
    const double T = label + (double)NAME(target)(Y, c, own, rest, even);
    const real z_own = z[own];
    z[own] = -INFINITY;
    const vec others = NAME(set1)((real)NAME(exp_row)(0, z, z, lanes, tops));
    const vec e_own = NAME(exp_le0)(NAME(set1)(z_own) - tops), total = others + e_own;
    *t = NAME(first)(others + (e_own - 1));
    *base = below;
    if (Y || c || z_loss > 0) {
        const double log_t = log1p((double)*t), lse = top + log_t;
        *base += mass * log_t;
        *t = 0;
        if (z_loss > 0) {
            *base += z_loss * lse * lse;
            more = 2 * z_loss * lse;
        }
    }
    const double factor = s * (mass + more);
    const vec scale = (real)factor / total;
    const real weight = (real)s;
    ptrdiff_t k = 0;
    if (Y || smoothing > 0) {
        for (; k + L <= K; k += L)
            NAME(store)(z + k, NAME(load)(z + k) * scale - weight * NAME(targets)(Y, c, k, rest, even));
        for (; k < K; k++) z[k] = z[k] * NAME(first)(scale) - weight * NAME(target)(Y, c, k, rest, even);
    } else {
        for (; k + 4 * L <= lanes; k += 4 * L)
            UNROLL for (int v = 0; v < 4; v++) NAME(store)(z + k + v * L, NAME(load)(z + k + v * L) * scale);
        for (; k < lanes; k += L) NAME(store)(z + k, NAME(load)(z + k) * scale);
    }
    /* mass - T is 0 where all of the mass is the label's; s mass - s T is not, as an FMA rounds only one of the two. */
    z[own] = (real)(s * ((mass - T) + more)) - (real)factor * NAME(first)(others / total);
}

/* Turns a tile of n rows of K scores, ldz apart, into probabilities; Z has room for whole groups of L rows. */
KERNEL void NAME(probabilities)(real *Z, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz)
{
    if (K > COLUMNS_MOST) {
        for (ptrdiff_t i = 0; i < n; i++) NAME(probability_row)(Z + i * ldz, NAME(vectors)(K) * L);
        return;
    }
    memset(Z + n * ldz, 0, (parts_of(n, L) * L - n) * ldz * sizeof(real));
    for (ptrdiff_t i = 0; i < n; i += L) NAME(probability_columns)(Z + i * ldz, ldz, K);
}

/* Turns scores into s_i R in place, and returns the sum of s_i loss_i, for labels y, or for targets Y in rows of ldy; c
 * and s are NULL for 1.  base and t have room for whole groups of L rows; afterwards loss_i = base_i + t_i. */
KERNEL double NAME(residuals)(real *Z, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, const ptrdiff_t *y, const real *Y,
                              ptrdiff_t ldy, const real *c, const double *s, double smoothing, double z_loss,
                              double *base, real *t)
{
    const ptrdiff_t whole = parts_of(n, L) * L, lanes = NAME(vectors)(K) * L;
    for (ptrdiff_t i = 0; i < whole; i++) t[i] = 0;
    if (K <= COLUMNS_MOST && !(z_loss > 0)) {
        memset(Z + n * ldz, 0, (whole - n) * ldz * sizeof(real));
        for (ptrdiff_t i = 0; i < n; i += L) {
            real *z = Z + i * ldz;
            const ptrdiff_t some = smaller(L, n - i);
            const double *weights = s ? s + i : NULL;
            if (y && !c) NAME(residual_columns)(z, some, ldz, K, y + i, weights, smoothing, base + i, t + i);
            else NAME(target_residual_columns)(z, some, ldz, K, y ? y + i : NULL, y ? NULL : Y + i * ldy, ldy, c, weights,
                                               smoothing, base + i);
        }
    } else {
        for (ptrdiff_t i = 0; i < n; i++) {
            real *z = Z + i * ldz;
            const double weight = s ? s[i] : 1;
            if (y && !c) NAME(residual_row)(z, K, lanes, y[i], NULL, NULL, weight, smoothing, z_loss, base + i, t + i);
            else if (y) NAME(residual_row)(z, K, lanes, y[i], NULL, c, weight, smoothing, z_loss, base + i, t + i);
            else NAME(residual_row)(z, K, lanes, 0, Y + i * ldy, c, weight, smoothing, z_loss, base + i, t + i);
        }
    }
    /* Each lane has a sum: in one, each addition would wait for the one before ("Several sums" in docs/notes.md). */
    double sums[NAME(lanes)] = {0}, loss = 0;
    for (ptrdiff_t i = 0; i < n; i += L) {
        NAME(store)(t + i, NAME(log1p_ge0)(NAME(load)(t + i)));
        if (!s && n - i >= L) LANES for (int l = 0; l < L; l++) sums[l] += base[i + l] + t[i + l];
        else for (int l = 0; l < smaller(L, n - i); l++) sums[l] += (s ? s[i + l] : 1) * (base[i + l] + t[i + l]);
    }
    UNROLL for (int l = 0; l < L; l++) loss += sums[l];
    return loss;
}

/* How many bytes ahead offsets are fetched, since no product waits for them: see "Offsets" in docs/notes.md. */
#define OFFSETS_AHEAD 4096

/* Adds offsets, `count` for a row, to n rows of scores. */
KERNEL void NAME(add_to_scores)(const real *offset, ptrdiff_t n, ptrdiff_t count, ptrdiff_t ldo, real *Z, ptrdiff_t ldz)
{
    if (count == 1 && ldo == 1 && ldz == 1) count = n, n = 1; /* where rows have one score, lanes run along the rows */
    for (ptrdiff_t i = 0; i < n; i++, offset += ldo, Z += ldz) {
        ptrdiff_t k = 0;
        PREFETCH((const char *)offset + OFFSETS_AHEAD);
        for (; k + L <= count; k += L) NAME(store)(Z + k, NAME(load)(Z + k) + NAME(load)(offset + k));
#ifdef SIMD_LOAD_SOME
        if (k < count)
            NAME(store_some)(Z + k, count - k, NAME(load_some)(Z + k, count - k) + NAME(load_some)(offset + k, count - k));
#else
        for (; k < count; k++) Z[k] += offset[k];
#endif
    }
}
#undef OFFSETS_AHEAD

/* Replaces z by cap tanh(z / cap); unless `slopes` is NULL, writes the derivative 1 - tanh^2 there, in rows like Z. */
KERNEL void NAME(cap_scores)(real *Z, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, real cap, real *slopes)
{
    for (ptrdiff_t i = 0; i < n; i++) {
        real *z = Z + i * ldz;
        for (ptrdiff_t k = 0; k < K; k += L) {
            vec slope;
            NAME(store)(z + k, cap * NAME(tanh)(NAME(load)(z + k) / cap, &slope));
            if (slopes) NAME(store)(slopes + i * ldz + k, slope);
        }
        for (ptrdiff_t k = K; k < NAME(vectors)(K) * L; k++) z[k] = -INFINITY;
    }
}

KERNEL void NAME(multiply)(real *Z, const real *slopes, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < K; k++) Z[i * ldz + k] *= slopes[i * ldz + k];
}

/* Turns S into s_i A in place, A = S o (Q - sum_k S_k Q_k), which the Hessian's product has where a gradient has R. */
KERNEL void NAME(curvatures)(real *S, const real *Q, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, const double *s)
{
    for (ptrdiff_t i = 0; i < n; i++, S += ldz, Q += ldz) {
        const ptrdiff_t whole = K / L * L;
        vec sum = NAME(set1)(0);
        for (ptrdiff_t k = 0; k < whole; k += L) sum += NAME(load)(S + k) * NAME(load)(Q + k);
        real mean = NAME(first)(NAME(sum_lanes)(sum));
        for (ptrdiff_t k = whole; k < K; k++) mean += S[k] * Q[k];
        const real weight = s ? (real)s[i] : 1;
        for (ptrdiff_t k = 0; k < K; k++) S[k] = S[k] < NEGLIGIBLE ? 0 : S[k] * (weight * (Q[k] - mean));
    }
}

/* Adds the residuals of `count` classes, in V vectors of each row, to db. */
INLINE void NAME(add_some_columns)(const int V, const real *R, ptrdiff_t n, ptrdiff_t count, ptrdiff_t ldr, double *db)
{
    vec sum[4];
    real lane[4 * NAME(lanes)];
    UNROLL for (int v = 0; v < V; v++) sum[v] = NAME(set1)(0);
    for (ptrdiff_t i = 0; i < n; i++)
        UNROLL for (int v = 0; v < V; v++) sum[v] += NAME(load)(R + i * ldr + v * L);
    UNROLL for (int v = 0; v < V; v++) NAME(store)(lane + v * L, sum[v]);
    for (ptrdiff_t k = 0; k < count; k++) db[k] += lane[k];
}

/* Adds the columns' sums to db, of four vectors at a time, since rows of many classes lie pages apart. */
KERNEL void NAME(add_columns)(const real *R, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldr, double *db)
{
    ptrdiff_t k = 0;
    for (; k + 3 * L < K; k += 4 * L) NAME(add_some_columns)(4, R + k, n, smaller(4 * L, K - k), ldr, db + k);
    for (; k < K; k += L) NAME(add_some_columns)(1, R + k, n, smaller(L, K - k), ldr, db + k);
}
