/* The Fisher preconditioner's block of one class, M = sum_i a_i^2 x_i x_i^T + penalty, and its Cholesky factor.
 *
 *     M = T (U^T U) T,   T = diag(M)^1/2,   U upper triangular, in rows of ld, a multiple of L
 *
 * It is blocked so that nearly all of it is `outer`: the Gram matrix by tiles of samples, the factor by right-looking
 * panels of PANEL rows (Golub and Van Loan 2013, section 4.2).  Only the upper triangle is computed, in columns of
 * MAX_V vectors.  With diag(M) scaled to 1 no pivot is over 1; M may be singular: a pivot below the ridge becomes it.
 */

#define PANEL 32 /* a multiple of L */
#define AHEAD 4  /* drawn rows that are fetched before: a third cache takes longer to answer than one row to weigh */

/* C += A^T B for columns `first` to `end` of C (M, N), over n rows of A and B, by panels of columns, and down to the diagonal
 * by squares of L; all have rows of ld. */
KERNEL void NAME(outer_columns)(const real *A, ptrdiff_t M, const real *B, ptrdiff_t first, ptrdiff_t end, ptrdiff_t n,
                                ptrdiff_t ld, real *C)
{
    for (ptrdiff_t c = first; c < end; c += MAX_V * L) {
        const ptrdiff_t next = smaller(c + MAX_V * L, end), above = smaller(c, M);
        if (above) NAME(outer)(A, above, ld, B + c, next - c, ld, n, NULL, C + c, ld, next - c, ADD);
        for (ptrdiff_t r = c; r < smaller(next, M); r += L)
            NAME(outer)(A + r, smaller(L, M - r), ld, B + r, next - r, ld, n, NULL, C + r * (ld + 1), ld, next - r, ADD);
    }
}

KERNEL void NAME(outer_upper)(const real *A, ptrdiff_t M, const real *B, ptrdiff_t N, ptrdiff_t n, ptrdiff_t ld, real *C)
{
    NAME(outer_columns)(A, M, B, 0, N, n, ld, C);
}

/* Writes rows a_i x_i, or a_i (x_i, 1) if there are `ones`, for i = rows[0], rows[1], ..., with zeros up to ld.
 * `standard` is NULL, or D means and D factors: then (x_i - mean) times the factors is in the place of x_i. */
KERNEL void NAME(weigh_rows)(const void *X, int element, ptrdiff_t D, ptrdiff_t ldx, int ones, const ptrdiff_t *rows,
                             const real *a, ptrdiff_t n, const real *standard, real *to, ptrdiff_t ld)
{
    const real *mean = standard, *factor = standard ? standard + D : NULL;
    for (ptrdiff_t i = 0; i < n; i++, to += ld) {
        const real *x = (const real *)X + rows[i] * ldx;
        const real weight = a[i];
        if (element == REAL && i + AHEAD < n) /* rows are drawn, so that the processor does not foresee the next ones */
            for (ptrdiff_t j = 0; j < D; j += 64 / (ptrdiff_t)sizeof(real)) PREFETCH((const real *)X + rows[i + AHEAD] * ldx + j);
        if (element != REAL) { /* then real is float */
            widen(X, element, rows[i] * ldx, D, (float *)to);
            x = to;
        }
        if (standard)
            for (ptrdiff_t j = 0; j < D; j++) to[j] = weight * ((x[j] - mean[j]) * factor[j]);
        else
            for (ptrdiff_t j = 0; j < D; j++) to[j] = weight * x[j];
        for (ptrdiff_t j = D; j < ld; j++) to[j] = 0;
        if (ones) to[D] = weight;
    }
}

/* Writes rows a_i x_i or a_i (x_i, 1) of doubles, times `unit`, (D) or (D + 1), with zeros up to ld; `standard` is as above. */
KERNEL void NAME(weigh_doubles)(const double *X, ptrdiff_t D, ptrdiff_t ldx, int ones, const ptrdiff_t *rows, const double *a,
                                ptrdiff_t n, const double *standard, const double *unit, real *to, ptrdiff_t ld)
{
    const double *mean = standard, *factor = standard ? standard + D : NULL;
    for (ptrdiff_t i = 0; i < n; i++, to += ld) {
        const double *x = X + rows[i] * ldx, weight = a[i];
        if (i + AHEAD < n)
            for (ptrdiff_t j = 0; j < D; j += 8) PREFETCH(X + rows[i + AHEAD] * ldx + j);
        if (standard)
            for (ptrdiff_t j = 0; j < D; j++) to[j] = (real)(weight * unit[j] * ((x[j] - mean[j]) * factor[j]));
        else
            for (ptrdiff_t j = 0; j < D; j++) to[j] = (real)(weight * unit[j] * x[j]);
        for (ptrdiff_t j = D; j < ld; j++) to[j] = 0;
        if (ones) to[D] = (real)(weight * unit[D]);
    }
}

/* Writes c_ik = s_i S_ik (1 - S_ik) of n rows, and their sums; returns whether all classes have the same numbers. */
KERNEL int NAME(weigh_classes)(const real *S, ptrdiff_t n, ptrdiff_t classes, ptrdiff_t lds, const double *s, double *c,
                               double *sums)
{
    int differ = 0;
    for (ptrdiff_t k = 0; k < classes; k++) sums[k] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        const real *from = S + i * lds;
        double *restrict to = c + i * classes, *restrict sum = sums;
        for (ptrdiff_t k = 0; k < classes; k++) {
            const double p = from[k], weight = p * (1 - p) * s[i];
            to[k] = weight;
            sum[k] += weight;
        }
        for (ptrdiff_t k = 1; k < classes && !differ; k++) differ = to[k] != to[0];
    }
    return !differ;
}

/* Replaces M by U, and writes T; panel has room for PANEL rows.  With `drop`, the ridge is not added: a row whose pivot
 * is not above the ridge depends on the rows before, and becomes 0. */
KERNEL void NAME(factor)(real *U, ptrdiff_t P, ptrdiff_t ld, real *T, real ridge, int drop, real *panel)
{
    for (ptrdiff_t i = 0; i < P; i++) {
        const real size = (real)sqrt(U[i * ld + i]);
        T[i] = size > 0 ? 1 / size : 1; /* from here on, T holds its inverse */
    }
    for (ptrdiff_t i = 0; i < P; i++) {
        for (ptrdiff_t j = i; j < P; j++) U[i * ld + j] *= T[i] * T[j];
        if (!drop) U[i * ld + i] += ridge;
    }
    for (ptrdiff_t first = 0; first < P; first += PANEL) {
        const ptrdiff_t n = smaller(PANEL, P - first), next = first + n;
        for (ptrdiff_t i = first; i < next; i++) {
            real *row = U + i * ld;
            for (ptrdiff_t p = first; p < i; p++) {
                const real *above = U + p * ld, share = above[i];
                for (ptrdiff_t j = i; j < ld; j++) row[j] -= share * above[j];
            }
            const real pivot = row[i] > ridge ? row[i] : ridge, scale = drop && row[i] <= ridge ? 0 : 1 / (real)sqrt(pivot);
            for (ptrdiff_t j = i; j < ld; j++) row[j] *= scale;
            row[i] = pivot * scale;
        }
        if (next >= P) return;
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t j = next; j < ld; j++) panel[i * ld + j] = -U[(first + i) * ld + j];
        NAME(outer_upper)(panel + next, P - next, U + first * ld + next, ld - next, n, ld, U + next * (ld + 1));
    }
}

/* g <- U^-T g (`forth`) and g <- U^-1 g (`back`), for R vectors that are ldg apart; R is a constant.  A Fisher block
 * does not fit into the caches, so two vectors share each read of it.
 *
 * L rows are solved at a time, in registers, and then all their products with the columns behind them are taken: row by
 * row each would wait for what the row before has stored (see "Blocks are solved some rows at a time" in docs/notes.md).
 * Pivots are inverted before, since a division takes long. */
INLINE void NAME(forth_square)(const ptrdiff_t n, const real *U, ptrdiff_t ld, real *g)
{
    real x[NAME(lanes)];
    UNROLL for (ptrdiff_t l = 0; l < n; l++) x[l] = g[l];
    UNROLL for (ptrdiff_t l = 0; l < n; l++) {
        x[l] *= 1 / U[l * (ld + 1)];
        UNROLL for (ptrdiff_t k = l + 1; k < n; k++) x[k] -= x[l] * U[l * ld + k];
    }
    UNROLL for (ptrdiff_t l = 0; l < n; l++) g[l] = x[l];
}

INLINE void NAME(forth)(const int R, const real *U, ptrdiff_t P, ptrdiff_t ld, real *g, ptrdiff_t ldg)
{
    for (ptrdiff_t i = 0; i < P; i += L) {
        const real *rows = U + i * ld;
        if (i + L > P) {
            for (int r = 0; r < R; r++) NAME(forth_square)(P - i, rows + i, ld, g + r * ldg + i);
            return;
        }
        for (int r = 0; r < R; r++) NAME(forth_square)(L, rows + i, ld, g + r * ldg + i);
        for (ptrdiff_t j = i + L; j < P; j += L) {
            const ptrdiff_t n = smaller(L, P - j);
            vec rest[2];
            UNROLL for (int r = 0; r < R; r++) rest[r] = n == L ? NAME(load)(g + r * ldg + j) : NAME(load_some)(g + r * ldg + j, n);
            UNROLL for (ptrdiff_t l = 0; l < L; l++) {
                const vec u = NAME(load)(rows + l * ld + j);
                UNROLL for (int r = 0; r < R; r++) rest[r] -= NAME(set1)(g[r * ldg + i + l]) * u;
            }
            UNROLL for (int r = 0; r < R; r++)
                if (n == L) NAME(store)(g + r * ldg + j, rest[r]);
                else NAME(store_some)(g + r * ldg + j, n, rest[r]);
        }
    }
}

INLINE void NAME(back_square)(const ptrdiff_t n, const real *U, ptrdiff_t ld, const real *sum, real *g)
{
    real x[NAME(lanes)];
    UNROLL for (ptrdiff_t l = 0; l < n; l++) x[l] = g[l] - sum[l];
    UNROLL for (ptrdiff_t l = n - 1; l >= 0; l--) {
        x[l] *= 1 / U[l * (ld + 1)];
        UNROLL for (ptrdiff_t k = 0; k < l; k++) x[k] -= U[k * ld + l] * x[l];
    }
    UNROLL for (ptrdiff_t l = 0; l < n; l++) g[l] = x[l];
}

INLINE void NAME(back)(const int R, const real *U, ptrdiff_t P, ptrdiff_t ld, real *g, ptrdiff_t ldg)
{
    real sum[NAME(lanes)] = {0};
    ptrdiff_t i = (P - 1) / L * L;
    if (i + L > P) {
        for (int r = 0; r < R; r++) NAME(back_square)(P - i, U + i * (ld + 1), ld, sum, g + r * ldg + i);
        i -= L;
    }
    for (; i >= 0; i -= L)
        for (int r = 0; r < R; r++) {
            const real *rows = U + i * ld;
            vec sums[NAME(lanes)];
            UNROLL for (ptrdiff_t l = 0; l < L; l++) sums[l] = NAME(set1)(0);
            for (ptrdiff_t j = i + L; j < P; j += L) {
                const ptrdiff_t n = smaller(L, P - j);
                const vec x = n == L ? NAME(load)(g + r * ldg + j) : NAME(load_some)(g + r * ldg + j, n);
                UNROLL for (ptrdiff_t l = 0; l < L; l++) sums[l] += NAME(load)(rows + l * ld + j) * x;
            }
            NAME(store)(sum, NAME(sums)(sums));
            NAME(back_square)(L, rows + i, ld, sum, g + r * ldg + i);
        }
}

/* g <- M^-1 g, for R vectors. */
INLINE void NAME(solve_block)(const int R, const real *U, ptrdiff_t P, ptrdiff_t ld, const real *T, real *g, ptrdiff_t ldg)
{
    UNROLL for (int r = 0; r < R; r++)
        for (ptrdiff_t i = 0; i < P; i++) g[r * ldg + i] *= T[i];
    NAME(forth)(R, U, P, ld, g, ldg);
    NAME(back)(R, U, P, ld, g, ldg);
    UNROLL for (int r = 0; r < R; r++)
        for (ptrdiff_t i = 0; i < P; i++) g[r * ldg + i] *= T[i];
}

/* g <- M^-1 g, for any number of vectors. */
KERNEL void NAME(solve)(const real *U, ptrdiff_t P, ptrdiff_t ld, const real *T, real *g, ptrdiff_t count, ptrdiff_t ldg)
{
    for (; count >= 2; count -= 2, g += 2 * ldg) NAME(solve_block)(2, U, P, ld, T, g, ldg);
    if (count) NAME(solve_block)(1, U, P, ld, T, g, ldg);
}

/* g <- U^-T g if `transposed`, else U^-1 g, for any number of vectors. */
KERNEL void NAME(solve_triangle)(const real *U, ptrdiff_t P, ptrdiff_t ld, int transposed, real *g, ptrdiff_t count,
                                 ptrdiff_t ldg)
{
    for (; count > 0; count--, g += ldg)
        if (transposed) NAME(forth)(1, U, P, ld, g, ldg);
        else NAME(back)(1, U, P, ld, g, ldg);
}
