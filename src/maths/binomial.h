/* Two classes with one row of coefficients, as scikit-learn has them: class 0's score is 0, class 1's is z = x w + b.
 *
 *     e = exp(-|z|)      S_1 = (z > 0 ? 1 : e) / (1 + e)      S_0 = (z > 0 ? e : 1) / (1 + e)
 *     loss               Y_0 max(z, 0) + Y_1 max(-z, 0) + (Y_0 + Y_1) log1p(e)
 *     residual           R = S_1 Y_0 - S_0 Y_1        neither difference nor 1 - S: a confident row keeps its digits
 *     curvature          A = S_0 S_1 q (Y_0 + Y_1)    for the Hessian's product, q = x v + c
 *
 * All of it is the softmax of (0, z), NaN and infinities included: z = inf gives NaN, z = -inf the posterior 0.
 *
 * A row has one score, so lanes run along the rows.  The products of L rows with w are added across their lanes by one
 * transposed reduction (`sums`), and the gradient is summed from the rows while they are in the first cache.
 */

/* Rows of a group: they fill a vector of scores, and are enough for sums that do not wait for one another. */
enum { NAME(group) = NAME(lanes) > 8 ? NAME(lanes) : 8 };

/* X's elements are widened where they are loaded, for the scores and again for the gradient, since a copy of the tile
 * would cost more than that.  Their type is a constant in what follows. */
#undef ELEMENTS
#undef BYTES
#if MANTISSA_BITS == 23
#define ELEMENTS(OF) OF(REAL) OF(FLOAT16) OF(BFLOAT16) OF(INT8) OF(UINT8)
#else
#define ELEMENTS(OF) OF(REAL)
#endif
#define BYTES (element == REAL ? (ptrdiff_t)sizeof(real) : element == INT8 || element == UINT8 ? 1 : 2)

/* Returns a vector of the row x, from its number j on. */
INLINE vec NAME(load_as)(const int element, const char *x, ptrdiff_t j)
{
    vec v;
    if (element == REAL) return NAME(load)((const real *)x + j);
    float numbers[NAME(lanes)];
    widen(x, element, j, L, numbers);
    memcpy(&v, numbers, sizeof numbers); /* of float, and as large as v */
    return v;
}

/* Returns the n numbers from number j on, and zeros in the other lanes. */
INLINE vec NAME(load_some_as)(const int element, const char *x, ptrdiff_t j, ptrdiff_t n)
{
    vec v;
    if (element == REAL) return NAME(load_some)((const real *)x + j, n);
#if defined(WIDENED_SOME) && MANTISSA_BITS == 23
    v = (vec)WIDENED_SOME(element, x + j * BYTES, n);
#else
    float numbers[NAME(lanes)] = {0};
    widen(x, element, j, n, numbers);
    memcpy(&v, numbers, sizeof numbers);
#endif
    return v;
}

/* Returns the last vector of a row: `some` numbers, which `mask` keeps, and zeros.  Unless `careful`, a constant, is
 * set, a whole vector may be read there. */
INLINE vec NAME(load_last)(const int careful, const int element, const char *x, ptrdiff_t j, ptrdiff_t some, ivec mask)
{
#ifdef SIMD_LOAD_SOME
    (void)careful, (void)mask;
    return NAME(load_some_as)(element, x, j, some);
#else
    return careful ? NAME(load_some_as)(element, x, j, some) : NAME(keep)(mask, NAME(load_as)(element, x, j));
#endif
}

/* Returns the mask of the first n lanes. */
INLINE ivec NAME(first_lanes)(ptrdiff_t n)
{
    bits lane[NAME(lanes)];
    ivec mask;
    for (ptrdiff_t l = 0; l < L; l++) lane[l] = l < n ? -1 : 0;
    memcpy(&mask, lane, sizeof mask);
    return mask;
}

/* Fetches the cache lines from `next` to `until`; returns where to go on. */
INLINE const char *NAME(fetch)(const char *next, const char *until)
{
    for (; next < until; next += 64) PREFETCH(next);
    return next;
}

#define SCORES_ARGUMENTS                                                                                       \
    const int element, const char *X, ptrdiff_t n, ptrdiff_t ldx, const real *w, ptrdiff_t nv, ptrdiff_t some, \
        real bias, real *z

/* Writes the scores of a group of rows, ldx bytes apart, each of V vectors, a constant, or of nv where V is 0.
 * `careful` is set where only n rows exist, fewer than a group, or where a vector would reach beyond the end of X. */
INLINE void NAME(score_group)(const int V, const int careful, SCORES_ARGUMENTS)
{
    const ivec mask = NAME(first_lanes)(some);
    vec sum[NAME(group)];
    if (V) {
        vec row[8];
        UNROLL for (int v = 0; v < V; v++) row[v] = NAME(load)(w + v * L);
        UNROLL for (int i = 0; i < NAME(group); i++) {
            const char *x = X + (careful ? smaller(i, n - 1) : i) * ldx;
            sum[i] = row[V - 1] * NAME(load_last)(careful, element, x, (V - 1) * L, some, mask);
            IN_REGISTER(sum[i]); /* else the compiler decides which of two products is rounded before their addition */
            UNROLL for (int v = 0; v < V - 1; v++) sum[i] += row[v] * NAME(load_as)(element, x, v * L);
        }
    } else {
        const ptrdiff_t whole = (nv - 1) * L;
        UNROLL for (int g = 0; g < NAME(group); g += 8) {
            const char *x[8];
            vec s[8];
            UNROLL for (int i = 0; i < 8; i++) {
                x[i] = X + (careful ? smaller(g + i, n - 1) : g + i) * ldx;
                s[i] = NAME(load)(w + whole) * NAME(load_last)(careful, element, x[i], whole, some, mask);
            }
            for (ptrdiff_t j = 0; j < whole; j += L) {
                const vec row = NAME(load)(w + j);
                UNROLL for (int i = 0; i < 8; i++) s[i] += row * NAME(load_as)(element, x[i], j);
            }
            UNROLL for (int i = 0; i < 8; i++) sum[g + i] = s[i];
        }
    }
    UNROLL for (int i = 0; i < NAME(group); i += NAME(lanes)) NAME(store)(z + i, NAME(sums)(sum + i) + bias);
}

/* z = X w + bias for n rows; w has whole vectors, z room for whole groups.  `end` is where the last row of all ends,
 * and nothing is read from there on; what lies from `next` on is fetched, `share` bytes for each row. */
INLINE const char *NAME(score_groups)(const int V, const char *end, const char *next, ptrdiff_t share, SCORES_ARGUMENTS)
{
    for (ptrdiff_t i = 0; i < n; i += NAME(group)) {
        const ptrdiff_t rows = smaller(n - i, NAME(group));
        const char *x = X + i * ldx;
        if (next) next = NAME(fetch)(next, next + rows * share);
        if (rows == NAME(group) && x + (NAME(group) - 1) * ldx + nv * L * BYTES <= end)
            NAME(score_group)(V, 0, element, x, rows, ldx, w, nv, some, bias, z + i);
        else
            NAME(score_group)(V, 1, element, x, rows, ldx, w, nv, some, bias, z + i);
    }
    return next;
}
#undef SCORES_ARGUMENTS

/* Writes the scores of n rows, ldx bytes apart; returns where it has prefetched to. */
KERNEL const char *NAME(one_scores)(const char *X, int element, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const char *end,
                                    const real *w, real bias, const char *next, ptrdiff_t share, real *z)
{
    const ptrdiff_t nv = NAME(vectors)(D), some = D - (nv - 1) * L;
#define GROUPS(V, element) NAME(score_groups)(V, end, next, share, element, X, n, ldx, w, nv, some, bias, z)
    if (element == REAL) switch (nv) {
        case 1: return GROUPS(1, REAL);
        case 2: return GROUPS(2, REAL);
        case 3: return GROUPS(3, REAL);
        case 4: return GROUPS(4, REAL);
        }
    switch (element) {
#define OF(element) case element: return GROUPS(0, element);
    ELEMENTS(OF)
#undef OF
    }
#undef GROUPS
    return next;
}

/* g += sum_i r_i x_i over V vectors (a constant) of n rows.  If `last` is set, the last vector is the rows' last one,
 * and has only `some` numbers. */
#define GRADIENT_ARGUMENTS                                                                                     \
    const int element, const int last, const char *X, ptrdiff_t n, ptrdiff_t ldx, const char *end, ptrdiff_t some, \
        const real *r, const char *next, ptrdiff_t share, real *g
INLINE void NAME(gradient_panel)(const int V, GRADIENT_ARGUMENTS)
{
    /* U rows at a time have sums of their own: else each addition would wait for the one before. */
    const int U = V == 1 ? 8 : V == 2 ? 4 : V <= 4 ? 2 : 1;
    vec sum[8];
    ptrdiff_t i = 0, whole = n;
    UNROLL for (int v = 0; v < U * V; v++) sum[v] = NAME(set1)(0);
#ifndef SIMD_LOAD_SOME
    if (last && some < L) /* the last rows' last vectors would be read beyond the end of X */
        while (whole > 0 && X + (whole - 1) * ldx + V * L * BYTES > end) whole--;
#else
    (void)end;
#endif
    for (; i + U <= whole; i += U) {
        if (next) next = NAME(fetch)(next, next + U * share);
        UNROLL for (int u = 0; u < U; u++) {
            const char *x = X + (i + u) * ldx;
            const vec residual = NAME(set1)(r[i + u]);
            UNROLL for (int v = 0; v < V - 1; v++) sum[u * V + v] += residual * NAME(load_as)(element, x, v * L);
#ifdef SIMD_LOAD_SOME
            sum[u * V + V - 1] += residual * (last ? NAME(load_some_as)(element, x, (V - 1) * L, some) : NAME(load_as)(element, x, (V - 1) * L));
#else
            sum[u * V + V - 1] += residual * NAME(load_as)(element, x, (V - 1) * L);
#endif
        }
    }
    /* Rows whose last vector may not be read whole go into the same sums: were rows added in another order, bits would
     * depend on where X ends, and so on how it is stored. */
    for (; i + U <= n; i += U) {
        UNROLL for (int u = 0; u < U; u++) {
            const char *x = X + (i + u) * ldx;
            const vec residual = NAME(set1)(r[i + u]);
            UNROLL for (int v = 0; v < V - 1; v++) sum[u * V + v] += residual * NAME(load_as)(element, x, v * L);
            sum[u * V + V - 1] += residual * NAME(load_some_as)(element, x, (V - 1) * L, some);
        }
    }
    for (; i < n; i++) {
        const char *x = X + i * ldx;
        const vec residual = NAME(set1)(r[i]);
        UNROLL for (int v = 0; v < V - 1; v++) sum[v] += residual * NAME(load_as)(element, x, v * L);
        sum[V - 1] += residual * (last ? NAME(load_some_as)(element, x, (V - 1) * L, some) : NAME(load_as)(element, x, (V - 1) * L));
    }
    UNROLL for (int u = U / 2; u >= 1; u /= 2)
        UNROLL for (int v = 0; v < u * V; v++) sum[v] += sum[u * V + v];
    UNROLL for (int v = 0; v < V; v++) NAME(store)(g + v * L, NAME(load)(g + v * L) + sum[v]);
}

/* g += X^T r over n rows; g has whole vectors. */
KERNEL void NAME(one_gradient)(const char *X, int element, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const char *end,
                               const real *r, const char *next, ptrdiff_t share, real *g)
{
    const ptrdiff_t nv = NAME(vectors)(D), panels = parts_of(nv, 8), some = D - (nv - 1) * L;
    for (ptrdiff_t p = 0; p < panels; p++) {
        const ptrdiff_t v = part(nv, panels, p), V = part(nv, panels, p + 1) - v;
        const ptrdiff_t pace = next ? share * V / nv : 0;
        const int last = p == panels - 1;
        const char *x = X + v * L * BYTES;
        switch (8 * element + V - 1) {
#define PANEL_OF(V, element) \
    case 8 * element + V - 1: NAME(gradient_panel)(V, element, last, x, n, ldx, end, some, r, next, pace, g + v * L); break;
#define OF(e) PANEL_OF(1, e) PANEL_OF(2, e) PANEL_OF(3, e) PANEL_OF(4, e) PANEL_OF(5, e) PANEL_OF(6, e) PANEL_OF(7, e) PANEL_OF(8, e)
        ELEMENTS(OF)
#undef OF
#undef PANEL_OF
        }
        next = next ? next + n * pace : NULL;
    }
}
#undef GRADIENT_ARGUMENTS

/* Finds e = exp(-|z|) and both classes' posteriors, of EXPS vectors in step; `normal`, a constant, is as in simd.h.
 * max(z, 0) is the top of (0, z). */
INLINE void NAME(two_classes)(const int normal, const vec *z, vec *below_0, vec *below_1, vec *e, vec *S_0, vec *S_1)
{
    UNROLL for (int v = 0; v < EXPS; v++) {
        below_0[v] = NAME(max)(z[v], NAME(set1)(0));   /* how far class 0's score is below the top, */
        below_1[v] = below_0[v] - z[v];                /* and class 1's; inf - inf is NaN */
        e[v] = -(below_0[v] + below_1[v]);
    }
    NAME(exps_in_step)(normal, EXPS, e);
    UNROLL for (int v = 0; v < EXPS; v++) {
        const vec high = 1 / (e[v] + 1), low = e[v] * high;
        const ivec top_1 = MASK(z[v] > 0);
        S_1[v] = NAME(keep)(top_1, high) + NAME(drop)(top_1, low);
        S_0[v] = NAME(keep)(top_1, low) + NAME(drop)(top_1, high);
    }
}

/* The number of rows whose scores become residuals in step. */
#define STEP (EXPS * L)

/* Turns scores into s_i R in place, and returns the sum of s_i loss_i, for n rows with labels y, or with targets Y in
 * rows of ldy; s is NULL for 1.  `losses`, unless NULL, gets a row's loss and its first term, a label's top - z_y. */
INLINE double NAME(binomial_rows)(const int targets, const int weighted, real *z, ptrdiff_t n, const ptrdiff_t *y,
                                  const real *Y, ptrdiff_t ldy, const double *s, double *losses)
{
    double sums[EXPS * NAME(lanes)] = {0}, total = 0;
    for (ptrdiff_t i = 0; i < n; i += STEP) {
        const ptrdiff_t rows = smaller(n - i, STEP);
        vec score[EXPS], below_0[EXPS], below_1[EXPS], e[EXPS], S_0[EXPS], S_1[EXPS];
        real base[EXPS * NAME(lanes)], log_part[EXPS * NAME(lanes)], weight[EXPS * NAME(lanes)];
        UNROLL for (int v = 0; v < EXPS; v++) score[v] = NAME(load)(z + i + v * L);
        NAME(two_classes)(1, score, below_0, below_1, e, S_0, S_1);
        if (targets) {
            real T[2][EXPS * NAME(lanes)];
            for (ptrdiff_t l = 0; l < STEP; l++)
                for (int k = 0; k < 2; k++) T[k][l] = l < rows ? Y[(i + l) * ldy + k] : 0;
            UNROLL for (int v = 0; v < EXPS; v++) {
                const vec T_0 = NAME(load)(T[0] + v * L), T_1 = NAME(load)(T[1] + v * L);
                NAME(store)(base + v * L, T_0 * below_0[v] + T_1 * below_1[v]);
                NAME(store)(log_part + v * L, (T_0 + T_1) * NAME(log1p_ge0)(e[v]));
                S_1[v] = S_1[v] * T_0 - S_0[v] * T_1;
            }
        } else {
            bits label[EXPS * NAME(lanes)];
            if (rows == STEP) LANES for (ptrdiff_t l = 0; l < STEP; l++) label[l] = -(bits)y[i + l];
            else for (ptrdiff_t l = 0; l < STEP; l++) label[l] = l < rows ? -(bits)y[i + l] : 0;
            UNROLL for (int v = 0; v < EXPS; v++) {
                ivec is_1;
                memcpy(&is_1, label + v * L, sizeof is_1);
                NAME(store)(base + v * L, NAME(keep)(is_1, below_1[v]) + NAME(drop)(is_1, below_0[v]));
                NAME(store)(log_part + v * L, NAME(log1p_ge0)(e[v]));
                S_1[v] = NAME(drop)(is_1, S_1[v]) - NAME(keep)(is_1, S_0[v]);
            }
        }
        if (weighted) {
            for (ptrdiff_t l = 0; l < STEP; l++) weight[l] = l < rows ? (real)s[i + l] : 0;
            UNROLL for (int v = 0; v < EXPS; v++) S_1[v] *= NAME(load)(weight + v * L);
        }
        UNROLL for (int v = 0; v < EXPS; v++) NAME(store)(z + i + v * L, S_1[v]);
        if (!weighted && rows == STEP) {
            LANES for (ptrdiff_t l = 0; l < STEP; l++) sums[l] += (double)base[l] + (double)log_part[l];
        } else {
            for (ptrdiff_t l = 0; l < rows; l++)
                sums[l] += (weighted ? s[i + l] : 1) * ((double)base[l] + (double)log_part[l]);
        }
        for (ptrdiff_t l = 0; losses && l < rows; l++) {
            losses[2 * (i + l)] = (double)base[l] + (double)log_part[l];
            losses[2 * (i + l) + 1] = base[l];
        }
    }
    for (ptrdiff_t l = 0; l < STEP; l++) total += sums[l];
    return total;
}

KERNEL double NAME(binomial_residuals)(real *z, ptrdiff_t n, const ptrdiff_t *y, const real *Y, ptrdiff_t ldy,
                                       const double *s, double *losses)
{
    if (Y) return s ? NAME(binomial_rows)(1, 1, z, n, y, Y, ldy, s, losses) : NAME(binomial_rows)(1, 0, z, n, y, Y, ldy, s, losses);
    return s ? NAME(binomial_rows)(0, 1, z, n, y, Y, ldy, s, losses) : NAME(binomial_rows)(0, 0, z, n, y, Y, ldy, s, losses);
}

/* Turns scores into s_i A in place; q has the rows' scores by what the Hessian is multiplied by. */
KERNEL void NAME(binomial_curvatures)(real *z, const real *q, ptrdiff_t n, const double *s)
{
    for (ptrdiff_t i = 0; i < n; i += STEP) {
        vec score[EXPS], below_0[EXPS], below_1[EXPS], e[EXPS], S_0[EXPS], S_1[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) score[v] = NAME(load)(z + i + v * L);
        NAME(two_classes)(1, score, below_0, below_1, e, S_0, S_1);
        UNROLL for (int v = 0; v < EXPS; v++) NAME(store)(z + i + v * L, S_0[v] * S_1[v] * NAME(load)(q + i + v * L));
    }
    for (ptrdiff_t i = 0; s && i < n; i++) z[i] *= (real)s[i];
}

/* Writes both classes' posteriors, in rows of two. */
KERNEL void NAME(binomial_posteriors)(real *z, ptrdiff_t n, real *S)
{
    for (ptrdiff_t i = 0; i < n; i += STEP) {
        vec score[EXPS], below_0[EXPS], below_1[EXPS], e[EXPS], S_0[EXPS], S_1[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) score[v] = NAME(load)(z + i + v * L);
        NAME(two_classes)(0, score, below_0, below_1, e, S_0, S_1);
        UNROLL for (int v = 0; v < EXPS; v++) {
            const ptrdiff_t rows = n - i - v * L;
            const vec low = SIMD_LOW(S_0[v], S_1[v]), high = SIMD_HIGH(S_0[v], S_1[v]);
            real pairs[2 * NAME(lanes)], *to = S + 2 * (i + v * L);
            NAME(store)(rows >= L ? to : pairs, low);
            NAME(store)((rows >= L ? to : pairs) + L, high);
            for (ptrdiff_t l = 0; rows < L && l < 2 * rows; l++) to[l] = pairs[l];
        }
    }
}

/* Returns the sum of n numbers, added by lanes. */
KERNEL double NAME(sum_of)(const real *r, ptrdiff_t n)
{
    vec sum = NAME(set1)(0);
    ptrdiff_t i = 0;
    for (; i + L <= n; i += L) sum += NAME(load)(r + i);
    if (i < n) sum += NAME(load_some)(r + i, n - i);
    return (double)NAME(first)(NAME(sum_lanes)(sum));
}
#undef STEP

/* Coefficients, or sums, are fetched so many entries ahead: of many features, the second cache does not hold them. */
#define ONE_AHEAD 32

#define ENTRIES_ARGUMENTS                                                                                      \
    const void *data, int element, const void *indices, const ptrdiff_t *indptr, ptrdiff_t n

/* z = bias + sum_j x_ij w_j of CSR rows, in four sums a row, so that no entry waits for the one before. */
INLINE void NAME(score_one_entries)(const int wide, const int narrow, ENTRIES_ARGUMENTS, const real *w, real bias, real *z)
{
    const ptrdiff_t last = indptr[n];
    for (ptrdiff_t i = 0; i < n; i++) {
        ptrdiff_t p = indptr[i];
        const ptrdiff_t end = indptr[i + 1];
        real sum[4] = {0};
        for (; p + 4 <= end; p += 4)
            UNROLL for (int u = 0; u < 4; u++) {
                if (p + ONE_AHEAD + u < last) PREFETCH(w + NAME(feature)(wide, indices, p + ONE_AHEAD + u));
                sum[u] += NAME(stored)(narrow, data, element, p + u) * w[NAME(feature)(wide, indices, p + u)];
            }
        for (; p < end; p++) sum[end - p] += NAME(stored)(narrow, data, element, p) * w[NAME(feature)(wide, indices, p)];
        z[i] = (sum[0] + sum[1]) + (sum[2] + sum[3]) + bias;
    }
}
/* Calls a function of entries with constants for the types of indices and data. */
#define OF_TYPES(function, ...)                                                                                \
    do {                                                                                                       \
        if (WIDENING && element != REAL) {                                                                     \
            if (wide) function(1, 1, __VA_ARGS__);                                                             \
            else function(0, 1, __VA_ARGS__);                                                                  \
        } else if (wide) function(1, 0, __VA_ARGS__);                                                          \
        else function(0, 0, __VA_ARGS__);                                                                      \
    } while (0)

KERNEL void NAME(one_sparse_scores)(const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr,
                                    ptrdiff_t n, const real *w, real bias, real *z)
{
    OF_TYPES(NAME(score_one_entries), data, element, indices, indptr, n, w, bias, z);
}

/* g_j += x_ij r_i of CSR rows, in doubles. */
INLINE void NAME(add_one_entries)(const int wide, const int narrow, ENTRIES_ARGUMENTS, const real *r, double *g)
{
    const ptrdiff_t last = indptr[n];
    for (ptrdiff_t i = 0; i < n; i++) {
        const double residual = (double)r[i];
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++) {
            if (p + ONE_AHEAD < last) PREFETCH(g + NAME(feature)(wide, indices, p + ONE_AHEAD));
            g[NAME(feature)(wide, indices, p)] += residual * (double)NAME(stored)(narrow, data, element, p);
        }
    }
}
KERNEL void NAME(one_sparse_gradient)(const void *data, int element, const void *indices, int wide,
                                      const ptrdiff_t *indptr, ptrdiff_t n, const real *r, double *g)
{
    OF_TYPES(NAME(add_one_entries), data, element, indices, indptr, n, r, g);
}
#undef OF_TYPES
#undef ENTRIES_ARGUMENTS
#undef ONE_AHEAD
