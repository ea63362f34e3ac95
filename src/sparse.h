/* The products with a tile of CSR rows, from W transposed and to dW transposed:
 *
 *     scores     z_i <- bias + sum_j x_ij Wt[j]        all classes of a row in registers
 *     gradient   dWt[j] += x_ij r_i                    by the owner of feature j
 *
 * A row of Wt is ldw numbers: whole cache lines, or a power of two where the classes do not fill one, of which nothing
 * beyond the classes is read into a result.  Which rows are needed is known long before: they are prefetched.
 */

/* Entries ahead.  40000 documents x 60000 words x 40 classes, 628159 entries: see softmax_ext/_plan.py. */
#define AHEAD 32
/* Entries whose products are summed before the sum is added to the score, as DEPTH in products.h. */
#define ENTRIES 256

/* Index p of int32 or int64 indices. */
INLINE ptrdiff_t NAME(feature)(const int wide, const void *indices, ptrdiff_t p)
{
    return wide ? (ptrdiff_t)((const int64_t *)indices)[p] : (ptrdiff_t)((const int32_t *)indices)[p];
}

#define SCORE_ARGUMENTS                                                                                        \
    const real *data, const void *indices, const ptrdiff_t *indptr, ptrdiff_t n, const real *W, ptrdiff_t ldw,  \
        const real *bias, real *Z, ptrdiff_t ldz
typedef void (*NAME(score_function))(SCORE_ARGUMENTS);

INLINE void NAME(score_entries)(const int V, const int wide, SCORE_ARGUMENTS)
{
    const ptrdiff_t last = indptr[n];
    for (ptrdiff_t i = 0; i < n; i++, Z += ldz) {
        ptrdiff_t p = indptr[i];
        vec total[8];
        UNROLL for (int v = 0; v < V; v++) total[v] = NAME(load)(bias + v * L);
        while (p < indptr[i + 1]) {
            const ptrdiff_t end = smaller(p + ENTRIES, indptr[i + 1]);
            vec sum[8];
            UNROLL for (int v = 0; v < V; v++) sum[v] = NAME(set1)(0);
            for (; p < end; p++) {
                if (p + AHEAD < last) {
                    const real *ahead = W + NAME(feature)(wide, indices, p + AHEAD) * ldw;
                    UNROLL for (int v = 0; v < V; v += 64 / (int)sizeof(vec)) PREFETCH(ahead + v * L);
                }
                const real *w = W + NAME(feature)(wide, indices, p) * ldw;
                const vec x = NAME(set1)(data[p]);
                UNROLL for (int v = 0; v < V; v++) sum[v] += x * NAME(load)(w + v * L);
            }
            UNROLL for (int v = 0; v < V; v++) total[v] += sum[v];
        }
        UNROLL for (int v = 0; v < V; v++) NAME(store)(Z + v * L, total[v]);
    }
}

#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define DEFINE(V)                                                                                              \
    static void NAME(score_entries_##V)(SCORE_ARGUMENTS)                                                       \
    {                                                                                                          \
        NAME(score_entries)(V, 0, data, indices, indptr, n, W, ldw, bias, Z, ldz);                             \
    }                                                                                                          \
    static void NAME(score_wide_entries_##V)(SCORE_ARGUMENTS)                                                  \
    {                                                                                                          \
        NAME(score_entries)(V, 1, data, indices, indptr, n, W, ldw, bias, Z, ldz);                             \
    }
SIZES(DEFINE)
#undef DEFINE
static const NAME(score_function) NAME(score_functions)[2][9] = {
#define ENTRY(V) [0][V] = NAME(score_entries_##V), [1][V] = NAME(score_wide_entries_##V),
    SIZES(ENTRY)
#undef ENTRY
};

/* Z = X W^T + bias for n rows and K classes; bias has every lane, and lanes beyond K get what it has there.  Z's rows
 * have `room`, which is less than a vector only for one of several groups of few classes. */
static void NAME(sparse_scores)(const real *data, const void *indices, int wide, const ptrdiff_t *indptr, ptrdiff_t n,
                                const real *W, ptrdiff_t ldw, const real *bias, ptrdiff_t K, real *Z, ptrdiff_t ldz,
                                ptrdiff_t room)
{
    const ptrdiff_t nv = NAME(vectors)(K), panels = parts_of(nv, 8);
    if (room < nv * L) {
        for (ptrdiff_t i = 0; i < n; i++) {
            real z[NAME(lanes)];
            NAME(sparse_scores)(data, indices, wide, indptr + i, 1, W, ldw, bias, K, z, L, L);
            memcpy(Z + i * ldz, z, room * sizeof(real));
        }
        return;
    }
    for (ptrdiff_t i = 0; i < panels; i++) {
        const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
        NAME(score_functions)[wide][V](data, indices, indptr, n, W + first * L, ldw, bias + first * L, Z + first * L, ldz);
    }
    if (ldw < nv * L)
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = K; k < nv * L; k++) Z[i * ldz + k] = bias[k];
}

/* Which of `parts` owns a feature: scattered, since frequent words have neighbouring numbers. */
INLINE ptrdiff_t NAME(owner)(ptrdiff_t feature, ptrdiff_t parts)
{
    return (ptrdiff_t)(((uint64_t)((uint32_t)feature * 2654435769u) * (uint64_t)parts) >> 32);
}

/* Entries that are listed, for one owner, before they are added. */
#define LISTED 512
typedef struct { ptrdiff_t j[LISTED + AHEAD], i[LISTED]; real x[LISTED]; } NAME(list);

#define ADD_ARGUMENTS const NAME(list) *list, ptrdiff_t count, const real *R, ptrdiff_t ldr, void *dW, ptrdiff_t ldw
typedef void (*NAME(add_function))(ADD_ARGUMENTS);

/* `columns`, a constant, of the listed entries' rows of dWt. */
INLINE void NAME(add_entries)(const int columns, const int doubles, ADD_ARGUMENTS)
{
    const int size = doubles ? (int)sizeof(double) : (int)sizeof(real);
    for (ptrdiff_t e = 0; e < count; e++) {
        const char *ahead = (const char *)dW + list->j[e + AHEAD] * ldw * size;
        UNROLL for (int at = 0; at < columns * size; at += 64) PREFETCH(ahead + at);
        const real x = list->x[e], *r = R + list->i[e] * ldr;
        if (doubles) {
            double *g = (double *)dW + list->j[e] * ldw;
            for (int k = 0; k < columns; k++) g[k] += (double)x * (double)r[k];
        } else if (columns % L == 0) {
            real *g = (real *)dW + list->j[e] * ldw;
            UNROLL for (int k = 0; k < columns; k += L) NAME(store)(g + k, NAME(load)(g + k) + x * NAME(load)(r + k));
        } else {
            real *g = (real *)dW + list->j[e] * ldw;
            for (int k = 0; k < columns; k++) g[k] += x * r[k];
        }
    }
}

/* So many vectors, up to eight; or 1, 2, 4, 8 columns that fill none. */
#define DEFINE(V)                                                                                              \
    static void NAME(add_vectors_##V)(ADD_ARGUMENTS)                                                           \
    {                                                                                                          \
        NAME(add_entries)(V * NAME(lanes), 0, list, count, R, ldr, dW, ldw);                                   \
    }                                                                                                          \
    static void NAME(add_double_vectors_##V)(ADD_ARGUMENTS)                                                    \
    {                                                                                                          \
        NAME(add_entries)(V * NAME(lanes), 1, list, count, R, ldr, dW, ldw);                                   \
    }                                                                                                          \
    static void NAME(add_columns_##V)(ADD_ARGUMENTS)                                                           \
    {                                                                                                          \
        NAME(add_entries)(V, 0, list, count, R, ldr, dW, ldw);                                                 \
    }                                                                                                          \
    static void NAME(add_double_columns_##V)(ADD_ARGUMENTS)                                                    \
    {                                                                                                          \
        NAME(add_entries)(V, 1, list, count, R, ldr, dW, ldw);                                                 \
    }
SIZES(DEFINE)
#undef DEFINE
static const NAME(add_function) NAME(add_functions)[2][2][9] = {
#define ENTRY(V)                                                                                               \
    [0][0][V] = NAME(add_vectors_##V), [0][1][V] = NAME(add_double_vectors_##V),                               \
    [1][0][V] = NAME(add_columns_##V), [1][1][V] = NAME(add_double_columns_##V),
    SIZES(ENTRY)
#undef ENTRY
};
#undef SIZES

static void NAME(add_list)(NAME(list) *list, ptrdiff_t count, const real *R, ptrdiff_t ldr, ptrdiff_t K, char *dW,
                           ptrdiff_t ldw, int doubles)
{
    const ptrdiff_t nv = NAME(vectors)(K), panels = parts_of(nv, 8), size = doubles ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(real);
    for (ptrdiff_t e = count; e < count + AHEAD; e++) list->j[e] = 0;
    if (ldw < L) {
        NAME(add_functions)[1][doubles][ldw](list, count, R, ldr, dW, ldw);
        return;
    }
    for (ptrdiff_t i = 0; i < panels; i++) {
        const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
        NAME(add_functions)[0][doubles][V](list, count, R + first * L, ldr, dW + first * L * size, ldw);
    }
}

/* dWt += X^T R of n rows, for the features that part `own` of `parts` owns: always in the order of the rows, so that
 * the parts' number changes no bit.  dW is of doubles, or of the data's type. */
static void NAME(sparse_gradient)(const real *data, const void *indices, int wide, const ptrdiff_t *indptr, ptrdiff_t n,
                                  const real *R, ptrdiff_t ldr, ptrdiff_t K, void *dW, ptrdiff_t ldw, int doubles,
                                  ptrdiff_t own, ptrdiff_t parts)
{
    NAME(list) list;
    ptrdiff_t count = 0;
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++) {
            const ptrdiff_t j = NAME(feature)(wide, indices, p);
            list.j[count] = j;
            list.i[count] = i;
            list.x[count] = data[p];
            count += parts == 1 || NAME(owner)(j, parts) == own;
            if (count == LISTED) {
                NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
                count = 0;
            }
        }
    NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
}

/* B[c][r] = scale A[r][c] (or added to it) of a block: whole squares of vectors by shuffles, the edges one by one. */
static void NAME(turn)(const void *of, int doubles, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t lda, double scale,
                       int add, real *B, ptrdiff_t ldb)
{
    const double *exact = of;
    const real *A = of, factor = (real)scale;
    for (ptrdiff_t c = 0; c < columns; c += L)
        for (ptrdiff_t r = 0; r < rows; r += L) {
            if (c + L <= columns && r + L <= rows) {
                vec t[NAME(lanes)];
                for (ptrdiff_t l = 0; l < L; l++) {
                    if (doubles) {
                        real lane[NAME(lanes)];
                        for (ptrdiff_t k = 0; k < L; k++) lane[k] = (real)(exact[(r + l) * lda + c + k] * scale);
                        t[l] = NAME(load)(lane);
                    } else {
                        t[l] = factor * NAME(load)(A + (r + l) * lda + c);
                    }
                }
                NAME(transpose)(t);
                for (ptrdiff_t l = 0; l < L; l++) {
                    real *b = B + (c + l) * ldb + r;
                    if (add) t[l] += NAME(load)(b);
                    NAME(store)(b, t[l]);
                }
            } else {
                for (ptrdiff_t k = c; k < smaller(c + L, columns); k++)
                    for (ptrdiff_t l = r; l < smaller(r + L, rows); l++) {
                        const real x = doubles ? (real)(exact[l * lda + k] * scale) : factor * A[l * lda + k];
                        B[k * ldb + l] = add ? B[k * ldb + l] + x : x;
                    }
            }
        }
}

/* B[c][r] = scale A[r][c] + l2 W[c][r] in double, or scale A[r][c] added to it; W lies as B does. */
static void NAME(turn_to_doubles)(const void *of, int doubles, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t lda,
                                  double scale, int add, double l2, const double *W, double *B, ptrdiff_t ldb)
{
    const ptrdiff_t size = doubles ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(real);
    for (ptrdiff_t c = 0; c < columns; c += L)
        for (ptrdiff_t r = 0; r < rows; r += L) {
            const ptrdiff_t high = smaller(L, columns - c), wide = smaller(L, rows - r);
            real block[NAME(lanes) * NAME(lanes)];
            NAME(turn)((const char *)of + (r * lda + c) * size, doubles, wide, high, lda, scale, 0, block, L);
            for (ptrdiff_t k = 0; k < high; k++) {
                const real *t = block + k * L;
                const double *w = W + (c + k) * ldb + r;
                double *b = B + (c + k) * ldb + r;
                if (add) for (ptrdiff_t l = 0; l < wide; l++) b[l] += t[l];
                else for (ptrdiff_t l = 0; l < wide; l++) b[l] = t[l] + l2 * w[l];
            }
        }
}
#undef SCORE_ARGUMENTS
#undef ADD_ARGUMENTS
#undef LISTED
#undef AHEAD
#undef ENTRIES
