/* The whole Hessian of two classes from floats, with its products in floats too.  With raw features these would leave
 * no digit of the smallest eigenvalue, so samples are moved and scaled first, u_j = (x_j - shift_j) scale_j, the scale
 * a power of two:
 *
 *     G = sum_i c_i u_i u_i^T,      c_i = s_i S_i0 S_i1,      u with a 1 for the intercept
 *
 * Columns that are moved to about their means lose no more than X's last digit, and what G rounds is small beside its
 * smallest eigenvalue, unless features nearly depend on one another: softmax_ext/_objective/centred.py looks whether
 * they do, and makes the Hessian of G.
 *
 * Lanes run along the rows: a tile is transposed, SIDE features times SIDE others have their sums in registers, and
 * only pairs of features on and above the diagonal are computed.  The sums of a tile are added in double.
 */
#if MANTISSA_BITS == 23
/* A square is of SIDE x SIDE pairs of features: its sums, SIDE factors and one vector more fit the registers. */
enum { SIDE = NAME(lanes) == 16 ? 4 : 3 };
/* The sums of a square fill so many doubles, in whole vectors. */
enum { SQUARE = (SIDE * SIDE + NAME(lanes) - 1) / NAME(lanes) * NAME(lanes) };

/* Writes u of L rows, transposed.  `careful`, a constant, is set where only n of the rows exist, and the others become
 * 0, or where a vector would reach beyond the end of X. */
INLINE void centre_group(const int careful, const int element, const char *X, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx,
                         const real *shift, const real *scale, real *U, ptrdiff_t ldu)
{
    for (ptrdiff_t j = 0; j < D; j += L) {
        const ptrdiff_t some = smaller(L, D - j);
        const ivec mask = NAME(first_lanes)(some);
        const vec less = NAME(load)(shift + j), times = NAME(load)(scale + j);
        vec t[NAME(lanes)];
        if (some == L) UNROLL for (int l = 0; l < L; l++)
            t[l] = careful && l >= n ? less : NAME(load_as)(element, X + l * ldx, j);
        else UNROLL for (int l = 0; l < L; l++)
            t[l] = careful && l >= n ? less : NAME(load_last)(careful, element, X + l * ldx, j, some, mask);
        UNROLL for (int l = 0; l < L; l++) t[l] = (t[l] - less) * times;
        NAME(transpose)(t);
        if (some == L) UNROLL for (int l = 0; l < L; l++) NAME(store)(U + (j + l) * ldu, t[l]);
        else for (ptrdiff_t l = 0; l < some; l++) NAME(store)(U + (j + l) * ldu, t[l]);
    }
}

INLINE void centre_all(const int element, const char *X, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const char *end,
                       const real *shift, const real *scale, real *U, ptrdiff_t ldu)
{
    for (ptrdiff_t i = 0; i < n; i += L, X += L * ldx) {
        const ptrdiff_t rows = smaller(L, n - i);
        if (rows == L && X + (L - 1) * ldx + NAME(vectors)(D) * L * BYTES <= end)
            centre_group(0, element, X, rows, D, ldx, shift, scale, U + i, ldu);
        else
            centre_group(1, element, X, rows, D, ldx, shift, scale, U + i, ldu);
        NAME(store)(U + D * ldu + i, NAME(set1)(1));
    }
}

/* Writes u of n rows of X, ldx bytes apart, transposed: features in rows of ldu, then the ones.  `end` is where the
 * last row of all ends, and nothing is read from there on. */
static void centre_rows(const char *X, int element, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const char *end,
                        const real *shift, const real *scale, real *U, ptrdiff_t ldu)
{
    switch (element) {
#define OF(element) case element: centre_all(element, X, n, D, ldx, end, shift, scale, U, ldu); break;
    ELEMENTS(OF)
#undef OF
    }
}

/* Writes c of n rows, from D coefficients of u, a bias behind them, and offsets ldo apart, or NULL.  c has room for
 * whole steps of exponentials, and is 0 beyond n. */
static void curvatures_of_centred(const real *U, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldu, const real *w, const real *offset,
                                  ptrdiff_t ldo, const double *s, real *c)
{
    for (ptrdiff_t i = 0; i < n; i += EXPS * L) {
        vec score[EXPS], below_0[EXPS], below_1[EXPS], e[EXPS], S_0[EXPS], S_1[EXPS];
        UNROLL for (int v = 0; v < EXPS; v++) score[v] = NAME(set1)(w[D]);
        for (ptrdiff_t j = 0; j < D; j++) {
            const vec coefficient = NAME(set1)(w[j]);
            UNROLL for (int v = 0; v < EXPS; v++) score[v] += coefficient * NAME(load)(U + j * ldu + i + v * L);
        }
        if (offset) {
            real added[EXPS * NAME(lanes)];
            for (ptrdiff_t l = 0; l < EXPS * L; l++) added[l] = i + l < n ? offset[(i + l) * ldo] : 0;
            UNROLL for (int v = 0; v < EXPS; v++) score[v] += NAME(load)(added + v * L);
        }
        NAME(two_classes)(1, score, below_0, below_1, e, S_0, S_1);
        UNROLL for (int v = 0; v < EXPS; v++) NAME(store)(c + i + v * L, S_0[v] * S_1[v]);
        for (ptrdiff_t l = smaller(n - i, EXPS * L); l < EXPS * L; l++) c[i + l] = 0;
    }
    for (ptrdiff_t i = 0; s && i < n; i++) c[i] *= (real)s[i];
}

/* sums += A B^T over n columns, for A and B (SIDE, n) in rows of lda and ldb; of a square on the diagonal, as the
 * constant tells, only the upper half. */
INLINE void add_square(const int diagonal, const real *A, ptrdiff_t lda, const real *B, ptrdiff_t ldb, ptrdiff_t n,
                       double *sums)
{
    vec sum[SIDE][SIDE];
    UNROLL for (int a = 0; a < SIDE; a++)
        UNROLL for (int b = 0; b < SIDE; b++) sum[a][b] = NAME(set1)(0);
    for (ptrdiff_t i = 0; i < n; i += L) {
        vec factor[SIDE];
        UNROLL for (int a = 0; a < SIDE; a++) factor[a] = NAME(load)(A + a * lda + i);
        UNROLL for (int b = 0; b < SIDE; b++) {
            const vec other = NAME(load)(B + b * ldb + i);
            UNROLL for (int a = 0; a < (diagonal ? b + 1 : SIDE); a++) sum[a][b] += factor[a] * other;
        }
    }
    UNROLL for (int first = 0; first < SQUARE; first += NAME(lanes)) {
        vec t[NAME(lanes)];
        real lane[NAME(lanes)];
        UNROLL for (int l = 0; l < L; l++)
            t[l] = first + l < SIDE * SIDE ? sum[(first + l) / SIDE % SIDE][(first + l) % SIDE] : NAME(set1)(0);
        NAME(store)(lane, NAME(sums)(t));
        LANES for (ptrdiff_t l = 0; l < L; l++) sums[first + l] += (double)lane[l];
    }
}

/* Adds sum_i c_i u_i u_i^T of n rows to G, whose squares, of SIDE features from a on and SIDE from b on, a <= b, lie
 * one after the other.  `weighted` has room for SIDE rows of ldu.  With each square, `share` bytes from `next` on are
 * fetched. */
static void add_squares(const real *U, ptrdiff_t n, ptrdiff_t P, ptrdiff_t ldu, const real *c, const char *next,
                        ptrdiff_t share, real *weighted, double *G)
{
    for (ptrdiff_t a = 0; a < P; a += SIDE) {
        for (ptrdiff_t k = 0; k < SIDE; k++)
            for (ptrdiff_t i = 0; i < n; i += L)
                NAME(store)(weighted + k * ldu + i, NAME(load)(c + i) * NAME(load)(U + (a + k) * ldu + i));
        for (ptrdiff_t b = a; b < P; b += SIDE, G += SQUARE) {
            if (next) next = NAME(fetch)(next, next + share);
            if (a == b) add_square(1, weighted, ldu, U + b * ldu, ldu, n, G);
            else add_square(0, weighted, ldu, U + b * ldu, ldu, n, G);
        }
    }
}
#endif
