/* The whole Hessian of few parameters.  With x the sample and a 1 for the intercept, the block of the classes k and l is
 *
 *     H_kl = sum_i c_i x_i x_i^T,      c_i = s_i S_ik (delta_kl - S_il)
 *
 * Each block is symmetric, and so is the matrix of blocks: of blocks k <= l the upper triangle is summed.  Two classes with
 * one row of coefficients have one block, c_i = s_i S_i0 S_i1.
 *
 * All of it is in double, whatever X is: with raw features the condition passes 1e7, and sums in float would leave no digit
 * of the smallest eigenvalue.  A tile of X is widened into padded rows, which give scores, then c, then the products while
 * they are in cache: a panel of columns is multiplied by c, and `outer` multiplies that by all columns up to it.
 */

/* Writes n rows of X (n, D) as doubles, each followed by `ones` (0 or 1) ones, and by zeros up to ldt. */
KERNEL void NAME(widen_rows)(const void *X, int element, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, int ones, const real *kind,
                             double *to, ptrdiff_t ldt)
{
    for (ptrdiff_t i = 0; i < n; i++, to += ldt) {
        const real *x = (const real *)X + i * ldx;
        float some[128];
        if (element == REAL)
            for (ptrdiff_t j = 0; j < D; j++) to[j] = (double)x[j];
        else
            for (ptrdiff_t j = 0; j < D; j += 128) {
                const ptrdiff_t m = smaller(128, D - j);
                widen(X, element, i * ldx + j, m, some);
                for (ptrdiff_t k = 0; k < m; k++) to[j + k] = (double)some[k];
            }
        for (ptrdiff_t j = D; j < ldt; j++) to[j] = 0;
        if (ones) to[D] = 1;
    }
}

/* Does the same with CSR rows, whose entries for one feature add up. */
KERNEL void NAME(widen_entries)(const real *kind, const void *data, int element, const void *indices, int wide,
                                const ptrdiff_t *indptr, ptrdiff_t n, ptrdiff_t D, int ones, double *to, ptrdiff_t ldt)
{
    const int narrow = WIDENING && element != REAL;
    memset(to, 0, (size_t)(n * ldt) * sizeof *to);
    for (ptrdiff_t i = 0; i < n; i++, to += ldt) {
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++)
            to[NAME(feature)(wide, indices, p)] += (double)NAME(stored)(narrow, data, element, p);
        if (ones) to[D] = 1;
    }
}

/* Adds the offsets of n rows, `count` for a row, to scores in rows of ldz. */
KERNEL void NAME(add_offsets)(const real *offset, ptrdiff_t n, ptrdiff_t count, ptrdiff_t ldo, double *Z, ptrdiff_t ldz)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < count; k++) Z[i * ldz + k] += (double)offset[i * ldo + k];
}

#if MANTISSA_BITS == 52
/* A panel has the most columns for which `outer` keeps its sums in registers. */
#define HESSIAN_PANEL (MAX_V * L)
/* A tile's rows are taken so many at a time: those of a panel, times c, stay in the first cache. */
#define HESSIAN_ROWS 64

/* Returns S_k (delta_kl - S_l) of a row of K posteriors.  Where 1 - S_k would lose digits, the others are summed. */
static inline double curvature_of_pair(const double *S, ptrdiff_t K, ptrdiff_t k, ptrdiff_t l)
{
    double other = -S[l];
    if (k == l && S[k] <= 0.5) {
        other = 1 - S[k];
    } else if (k == l) {
        other = 0;
        for (ptrdiff_t j = 0; j < K; j++) other += j == k ? 0 : S[j];
    }
    return S[k] * other;
}

/* Writes c_i = s_i S_ik (delta_kl - S_il) from rows of K posteriors. */
static void curvatures_of_pair(const double *S, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, ptrdiff_t k, ptrdiff_t l,
                               const double *s, double *c)
{
    for (ptrdiff_t i = 0; i < n; i++, S += ldz) c[i] = (s ? s[i] : 1) * curvature_of_pair(S, K, k, l);
}

/* Writes the same for all pairs k <= l, side by side. */
static void curvatures_of_rows(const double *S, ptrdiff_t n, ptrdiff_t K, ptrdiff_t ldz, const double *s, double *c)
{
    for (ptrdiff_t i = 0; i < n; i++, S += ldz)
        for (ptrdiff_t k = 0; k < K; k++)
            for (ptrdiff_t l = k; l < K; l++) *c++ = (s ? s[i] : 1) * curvature_of_pair(S, K, k, l);
}

/* Replaces the scores z of class 1 by c_i = s_i S_i0 S_i1; z has room for whole steps of exponentials. */
static void curvatures_of_two(double *z, ptrdiff_t n, const double *s)
{
    for (ptrdiff_t i = 0; i < n; i += EXPS * L) {
        vec score[EXPS], below_0[EXPS], below_1[EXPS], e[EXPS], S_0[EXPS], S_1[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) score[v] = NAME(load)(z + i + v * L);
        NAME(two_classes)(1, score, below_0, below_1, e, S_0, S_1);
        UNROLL for (int v = 0; v < EXPS; v++) NAME(store)(z + i + v * L, S_0[v] * S_1[v]);
    }
    for (ptrdiff_t i = 0; s && i < n; i++) z[i] *= s[i];
}

/* H += sum_i c_i x_i x_i^T on and above the diagonal, for panel i of `panels` of a block's columns, and of these for rows
 * `begin` to `end` above the diagonal's, and for the diagonal's, if its first one is there.  H and the tile are in rows of
 * ldt, whole vectors.  With each row, `share` bytes from `next` on are fetched. */
static void hessian_panel(const double *tile, ptrdiff_t n, ptrdiff_t P, ptrdiff_t ldt, const double *c, ptrdiff_t i,
                          ptrdiff_t panels, ptrdiff_t begin, ptrdiff_t end, const char *next, ptrdiff_t share, double *H)
{
    const ptrdiff_t first = part(ldt / L, panels, i) * L, columns = part(ldt / L, panels, i + 1) * L - first;
    const ptrdiff_t step = L < 8 ? columns : L; /* rows at the diagonal: fewer than 8 sums would wait for one another */
    const ptrdiff_t above = smaller(first, end) - begin;
    double weighted[HESSIAN_ROWS * MAX_V * NAME(lanes)];
    if (begin > first) return;
    for (ptrdiff_t r = 0; r < n; r += HESSIAN_ROWS) {
        const ptrdiff_t rows = smaller(HESSIAN_ROWS, n - r);
        const double *x = tile + r * ldt;
        for (ptrdiff_t q = 0; q < rows; q++) {
            if (next) next = NAME(fetch)(next, next + share);
            for (ptrdiff_t j = 0; j < columns; j += L)
                NAME(store)(weighted + q * columns + j, c[r + q] * NAME(load)(x + q * ldt + first + j));
        }
        if (above)
            NAME(outer)(x + begin, above, ldt, weighted, columns, columns, rows, NULL, H + begin * ldt + first, ldt, columns,
                        ADD);
        for (ptrdiff_t j = 0; first < end && j < columns && first + j < P; j += step)
            NAME(outer)(x + first + j, smaller(step, P - first - j), ldt, weighted + j, columns - j, columns, rows, NULL,
                        H + (first + j) * (ldt + 1), ldt, columns - j, ADD);
    }
}
#endif
