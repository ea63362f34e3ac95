/* The products with a tile of CSR rows, from W transposed and to dW transposed:
 *
 *     scores     z_i <- bias + sum_j x_ij Wt[j]        all classes of a row in registers
 *     gradient   dWt[j] += x_ij r_i                    by the owner of feature j
 *
 * A row of Wt has ldw numbers: whole cache lines, or a power of two where the classes do not fill one; what lies beyond
 * the classes reaches no result.  Indices tell long before which rows are needed, so these are prefetched.
 */

/* Rows are prefetched so many entries ahead: see "A feature of sparse X has an owner" in docs/notes.md. */
#define AHEAD 32
/* The products of so many entries are summed before the sum is added to the score, as those of DEPTH in products.h. */
#define ENTRIES 256

/* Returns index p of int32 indices, or of int64 ones if `wide`. */
INLINE ptrdiff_t NAME(feature)(const int wide, const void *indices, ptrdiff_t p)
{
    return wide ? (ptrdiff_t)((const int64_t *)indices)[p] : (ptrdiff_t)((const int32_t *)indices)[p];
}

/* Returns stored number p, which is a `real`, or if `narrow`, a constant, is set, of the type that `element` tells. */
INLINE real NAME(stored)(const int narrow, const void *data, int element, ptrdiff_t p)
{
    if (!narrow) return ((const real *)data)[p];
    return element == INT8 ? (real)((const int8_t *)data)[p] : (real)((const uint8_t *)data)[p];
}

#define SCORE_ARGUMENTS                                                                                        \
    const void *data, int element, const void *indices, const ptrdiff_t *indptr, ptrdiff_t n, const real *W, ptrdiff_t ldw,  \
        const real *bias, real *Z, ptrdiff_t ldz
typedef void (*NAME(score_function))(SCORE_ARGUMENTS);

INLINE void NAME(score_entries)(const int V, const int wide, const int narrow, SCORE_ARGUMENTS)
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
                const vec x = NAME(set1)(NAME(stored)(narrow, data, element, p));
                UNROLL for (int v = 0; v < V; v++) sum[v] += x * NAME(load)(w + v * L);
            }
            UNROLL for (int v = 0; v < V; v++) total[v] += sum[v];
        }
        UNROLL for (int v = 0; v < V; v++) NAME(store)(Z + v * L, total[v]);
    }
}

#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define FUNCTION(kind, V, wide, narrow)                                                                        \
    static void NAME(kind##_##V)(SCORE_ARGUMENTS)                                                              \
    {                                                                                                          \
        NAME(score_entries)(V, wide, narrow, data, element, indices, indptr, n, W, ldw, bias, Z, ldz);         \
    }
#define DEFINE(V) FUNCTION(score_entries, V, 0, 0) FUNCTION(score_wide_entries, V, 1, 0)
SIZES(DEFINE)
#undef DEFINE
#if WIDENING
#define DEFINE(V) FUNCTION(score_narrow_entries, V, 0, 1) FUNCTION(score_wide_narrow_entries, V, 1, 1)
SIZES(DEFINE)
#undef DEFINE
#endif
static const NAME(score_function) NAME(score_functions)[1 + WIDENING][2][9] = {
#define ENTRY(V) [0][0][V] = NAME(score_entries_##V), [0][1][V] = NAME(score_wide_entries_##V),
    SIZES(ENTRY)
#undef ENTRY
#if WIDENING
#define ENTRY(V) [1][0][V] = NAME(score_narrow_entries_##V), [1][1][V] = NAME(score_wide_narrow_entries_##V),
    SIZES(ENTRY)
#undef ENTRY
#endif
};
#undef FUNCTION

/* Z = X W^T + bias for n rows and K classes; bias has every lane, and lanes beyond K get what it has there.  Rows of Z
 * have `room` numbers: less than a vector only where a group of few classes is the last of several. */
KERNEL void NAME(sparse_scores)(const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr,
                                ptrdiff_t n, const real *W, ptrdiff_t ldw, const real *bias, ptrdiff_t K, real *Z,
                                ptrdiff_t ldz, ptrdiff_t room)
{
    const ptrdiff_t nv = NAME(vectors)(K), panels = parts_of(nv, 8);
    if (room < nv * L) {
        for (ptrdiff_t i = 0; i < n; i++) {
            real z[NAME(lanes)];
            NAME(sparse_scores)(data, element, indices, wide, indptr + i, 1, W, ldw, bias, K, z, L, L);
            memcpy(Z + i * ldz, z, room * sizeof(real));
        }
        return;
    }
    for (ptrdiff_t i = 0; i < panels; i++) {
        const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
        NAME(score_functions)[WIDENING && element != REAL][wide][V](data, element, indices, indptr, n, W + first * L, ldw,
                                                                    bias + first * L, Z + first * L, ldz);
    }
    if (ldw < nv * L)
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = K; k < nv * L; k++) Z[i * ldz + k] = bias[k];
}

/* Returns where dWt has the row of feature j: in one of 2^regions regions of `slots` rows, of which each owner has
 * some, side by side.  Rows of two owners must not be neighbours in memory: the hardware fetches the line beside the
 * one that is asked for, and lines would travel between the cores (see "Owners' rows lie apart" in docs/notes.md).
 *
 * Frequent words have neighbouring numbers: of 2^regions neighbours each is in another region, the next one about 0.6
 * of all regions farther.  Other data repeat every few columns: so a hash tells where such a group begins. */
#define MOST_REGIONS 8 /* the logarithm of the most regions */
INLINE uint32_t NAME(region)(ptrdiff_t j, int regions)
{
    const uint32_t step = (uint32_t)(159 << regions >> 8) | 1, hash = (uint32_t)(j >> regions) * 2654435769u >> 16;
    return ((uint32_t)j + hash) * step & ((1u << regions) - 1);
}

INLINE ptrdiff_t NAME(place)(ptrdiff_t j, int regions, ptrdiff_t slots)
{
    return (ptrdiff_t)NAME(region)(j, regions) * slots + (j >> regions);
}

/* So many entries of one owner are listed before they are added. */
#define LISTED 512
typedef struct { uint32_t j[LISTED + AHEAD], i[LISTED]; real x[LISTED]; } NAME(list);

#define ADD_ARGUMENTS const NAME(list) *list, ptrdiff_t count, const real *R, ptrdiff_t ldr, void *dW, ptrdiff_t ldw
typedef void (*NAME(add_function))(ADD_ARGUMENTS);

/* Adds the listed entries to `columns`, a constant, of their rows of dWt. */
INLINE void NAME(add_entries)(const int columns, const int doubles, ADD_ARGUMENTS)
{
    const int size = doubles ? (int)sizeof(double) : (int)sizeof(real);
    for (ptrdiff_t e = 0; e < count; e++) {
        const char *ahead = (const char *)dW + (ptrdiff_t)list->j[e + AHEAD] * ldw * size;
        UNROLL for (int at = 0; at < columns * size; at += 64) PREFETCH(ahead + at);
        const real x = list->x[e], *restrict r = R + (ptrdiff_t)list->i[e] * ldr;
        if (doubles) {
            double *restrict g = (double *)dW + (ptrdiff_t)list->j[e] * ldw;
            LANES for (int k = 0; k < columns; k++) g[k] += (double)x * (double)r[k];
        } else if (columns % L == 0) {
            real *g = (real *)dW + (ptrdiff_t)list->j[e] * ldw;
            UNROLL for (int k = 0; k < columns; k += L) NAME(store)(g + k, NAME(load)(g + k) + x * NAME(load)(r + k));
        } else {
            real *g = (real *)dW + (ptrdiff_t)list->j[e] * ldw;
            for (int k = 0; k < columns; k++) g[k] += x * r[k];
        }
    }
}

/* There is a function for each number of vectors up to eight, and for 1, 2, 4, 8 columns that fill none. */
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

/* dWt += X^T R of n rows, for the features whose places are from `own` to `end`: always in the order of the rows, so
 * that the number of owners changes no bit.  dW has doubles if `doubles` is set, else numbers of the data's type. */
KERNEL void NAME(sparse_gradient)(const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr,
                                  ptrdiff_t n, const real *R, ptrdiff_t ldr, ptrdiff_t K, void *dW, ptrdiff_t ldw,
                                  int doubles, int regions, ptrdiff_t slots, ptrdiff_t own, ptrdiff_t end)
{
    const int narrow = WIDENING && element != REAL;
    NAME(list) list;
    ptrdiff_t count = 0, p = indptr[0];
    for (ptrdiff_t i = 0; i < n; i++)
        for (const ptrdiff_t next = indptr[i + 1]; p < next; p++) {
            const ptrdiff_t j = NAME(place)(NAME(feature)(wide, indices, p), regions, slots);
            list.j[count] = (uint32_t)j;
            list.i[count] = (uint32_t)i;
            list.x[count] = NAME(stored)(narrow, data, element, p);
            count += (size_t)(j - own) < (size_t)(end - own);
            if (count == LISTED) {
                NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
                count = 0;
            }
        }
    NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
}

/* dWt += X^T R of n rows into doubles, feature j in row j: for a thread that has a dWt of its own, and no list to make.
 * `columns` is a constant. */
#define ROWS_ARGUMENTS                                                                                         \
    const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr, ptrdiff_t n, const real *R,       \
        ptrdiff_t ldr, double *dW, ptrdiff_t ldw
typedef void (*NAME(rows_function))(ROWS_ARGUMENTS);

INLINE void NAME(add_rows)(const int columns, ROWS_ARGUMENTS)
{
    const int narrow = WIDENING && element != REAL;
    const ptrdiff_t last = indptr[n];
    for (ptrdiff_t i = 0; i < n; i++, R += ldr)
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++) {
            if (p + AHEAD < last) {
                const double *ahead = dW + NAME(feature)(wide, indices, p + AHEAD) * ldw;
                UNROLL for (int at = 0; at < columns; at += 8) PREFETCH(ahead + at);
            }
            const double x = NAME(stored)(narrow, data, element, p);
            double *restrict g = dW + NAME(feature)(wide, indices, p) * ldw;
            LANES for (int k = 0; k < columns; k++) g[k] += x * (double)R[k];
        }
}

#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8)
#define DEFINE(V)                                                                                              \
    static void NAME(rows_vectors_##V)(ROWS_ARGUMENTS)                                                         \
    {                                                                                                          \
        NAME(add_rows)(V * NAME(lanes), data, element, indices, wide, indptr, n, R, ldr, dW, ldw);             \
    }                                                                                                          \
    static void NAME(rows_columns_##V)(ROWS_ARGUMENTS)                                                         \
    {                                                                                                          \
        NAME(add_rows)(V, data, element, indices, wide, indptr, n, R, ldr, dW, ldw);                           \
    }
SIZES(DEFINE)
#undef DEFINE
static const NAME(rows_function) NAME(rows_functions)[2][9] = {
#define ENTRY(V) [0][V] = NAME(rows_vectors_##V), [1][V] = NAME(rows_columns_##V),
    SIZES(ENTRY)
#undef ENTRY
};
#undef SIZES

KERNEL void NAME(add_sparse_rows)(const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr,
                                  ptrdiff_t n, const real *R, ptrdiff_t ldr, ptrdiff_t K, double *dW, ptrdiff_t ldw)
{
    const ptrdiff_t nv = NAME(vectors)(K), panels = parts_of(nv, 8);
    if (ldw < L) {
        NAME(rows_functions)[1][ldw](data, element, indices, wide, indptr, n, R, ldr, dW, ldw);
        return;
    }
    for (ptrdiff_t i = 0; i < panels; i++) {
        const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
        NAME(rows_functions)[0][V](data, element, indices, wide, indptr, n, R + first * L, ldr, dW + first * L, ldw);
    }
}
#undef ROWS_ARGUMENTS

/* `wide` is a constant, so that the regions are found a vector at a time. */
INLINE void NAME(find_regions)(const int wide, const void *indices, ptrdiff_t p, ptrdiff_t entries, int regions, uint8_t *region)
{
    LANES for (ptrdiff_t e = 0; e < entries; e++)
        region[e] = (uint8_t)NAME(region)((ptrdiff_t)NAME(feature)(wide, indices, p + e), regions);
}

/* Sorts the entries of n rows by the regions of their features, and in each by their rows, which are counted from `row`
 * on.  `ends` gets where the list of each owner ends, who has some of the regions. */
KERNEL void NAME(sort_entries)(const void *data, int element, const void *indices, int wide, const ptrdiff_t *indptr,
                               ptrdiff_t n, ptrdiff_t row, int regions, ptrdiff_t slots, ptrdiff_t owners, uint32_t *ends,
                               uint8_t *region, uint32_t *places, uint32_t *rows, real *values)
{
    const int narrow = WIDENING && element != REAL;
    const ptrdiff_t base = indptr[0], entries = indptr[n] - base;
    uint32_t to[1 << MOST_REGIONS] = {0}, before = 0;
    if (wide) NAME(find_regions)(1, indices, base, entries, regions, region);
    else NAME(find_regions)(0, indices, base, entries, regions, region);
    UNROLL for (ptrdiff_t e = 0; e < entries; e++) to[region[e]]++;
    for (ptrdiff_t i = 0, r = 0; i < owners; i++) {
        for (; r < ((i + 1) << regions) / owners; r++) {
            const uint32_t count = to[r];
            to[r] = before;
            before += count;
        }
        ends[i] = before;
    }
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++) {
            const ptrdiff_t r = region[p - base], e = to[r]++;
            places[e] = (uint32_t)(r * slots + (NAME(feature)(wide, indices, p) >> regions));
            rows[e] = (uint32_t)(row + i);
            values[e] = NAME(stored)(narrow, data, element, p);
        }
}

/* dWt += X^T R for the entries of one owner that `sort_entries` has listed of n rows, in chunks of them; R begins with the
 * row that was counted as 0. */
KERNEL void NAME(add_sorted)(const ptrdiff_t *indptr, ptrdiff_t n, ptrdiff_t chunks, ptrdiff_t owners, ptrdiff_t own,
                             const uint32_t *ends, const uint32_t *places, const uint32_t *rows, const real *values,
                             const real *R, ptrdiff_t ldr, ptrdiff_t K, void *dW, ptrdiff_t ldw, int doubles)
{
    NAME(list) list;
    ptrdiff_t count = 0;
    for (ptrdiff_t c = 0; c < chunks; c++, ends += owners) {
        const ptrdiff_t first = indptr[part(n, chunks, c)] - indptr[0], end = first + ends[own];
        for (ptrdiff_t e = first + (own ? ends[own - 1] : 0), some; e < end; e += some) {
            some = smaller(LISTED - count, end - e);
            memcpy(list.j + count, places + e, some * sizeof *places);
            memcpy(list.i + count, rows + e, some * sizeof *rows);
            memcpy(list.x + count, values + e, some * sizeof *values);
            count += some;
            if (count == LISTED) {
                NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
                count = 0;
            }
        }
    }
    NAME(add_list)(&list, count, R, ldr, K, dW, ldw, doubles);
}

/* Adds share times entries p to end, those of a row, to the sums of their features. */
KERNEL void NAME(add_row)(const void *data, int element, const void *indices, int wide, ptrdiff_t p, ptrdiff_t end,
                          double share, double *to)
{
    for (; p < end; p++)
        to[NAME(feature)(wide, indices, p)] += share * NAME(stored)(WIDENING && element != REAL, data, element, p);
}

/* Adds entries p to end to the sums of their features, and their squares to the others. */
KERNEL void NAME(add_entry_moments)(const void *data, int element, const void *indices, int wide, ptrdiff_t p, ptrdiff_t end,
                                    double *sums, double *squares)
{
    for (; p < end; p++) {
        const ptrdiff_t j = NAME(feature)(wide, indices, p);
        const double x = NAME(stored)(WIDENING && element != REAL, data, element, p);
        sums[j] += x;
        squares[j] += x * x;
    }
}

/* Writes where the rows of n features, from j on, begin in dWt. */
KERNEL void NAME(places)(ptrdiff_t j, ptrdiff_t n, int regions, ptrdiff_t slots, ptrdiff_t ldw, ptrdiff_t *at)
{
    for (ptrdiff_t i = 0; i < n; i++) at[i] = NAME(place)(j + i, regions, slots) * ldw;
}

#define TURN_ARGUMENTS                                                                                         \
    const void *A, const int doubles, const ptrdiff_t *at, ptrdiff_t lda, double scale, const int add, void *B, \
        const int into_doubles, ptrdiff_t ldb, double l2, const double *W

/* Transposes a square of `high` rows from r on and `wide` columns from c on, each at most L. */
INLINE void NAME(turn_square)(const ptrdiff_t high, const ptrdiff_t wide, ptrdiff_t r, ptrdiff_t c, TURN_ARGUMENTS)
{
    vec t[NAME(lanes)];
    UNROLL for (ptrdiff_t l = 0; l < high; l++) {
        const ptrdiff_t from = (at ? at[r + l] : (r + l) * lda) + c;
        if (doubles) {
            const double *a = (const double *)A + from;
            real lane[NAME(lanes)] = {0};
            for (ptrdiff_t k = 0; k < wide; k++) lane[k] = (real)(a[k] * scale);
            t[l] = NAME(load)(lane);
        } else {
            const real *a = (const real *)A + from;
            t[l] = (real)scale * (wide == L ? NAME(load)(a) : NAME(load_some)(a, wide));
        }
    }
    UNROLL for (ptrdiff_t l = high; l < L; l++) t[l] = NAME(set1)(0);
    NAME(transpose)(t);
    UNROLL for (ptrdiff_t l = 0; l < wide; l++) {
        const ptrdiff_t to = (c + l) * ldb + r;
        if (into_doubles) {
            double *b = (double *)B + to;
            real lane[NAME(lanes)];
            NAME(store)(lane, t[l]);
            if (add) for (ptrdiff_t k = 0; k < high; k++) b[k] += lane[k];
            else for (ptrdiff_t k = 0; k < high; k++) b[k] = lane[k] + l2 * W[to + k];
        } else {
            real *b = (real *)B + to;
            if (add) t[l] += high == L ? NAME(load)(b) : NAME(load_some)(b, high);
            if (high == L) NAME(store)(b, t[l]);
            else NAME(store_some)(b, high, t[l]);
        }
    }
}

/* Fetches the lines of L numbers in each of some rows. */
INLINE void NAME(fetch_square)(const ptrdiff_t rows, const char *a, ptrdiff_t ld, const ptrdiff_t size)
{
    for (ptrdiff_t i = 0; i < rows; i++)
        for (ptrdiff_t at = 0; at < L * size; at += 64) PREFETCH(a + i * ld * size + at);
}

/* B[c][r] = scale A[r][c] + l2 W[c][r], or with `add` B[c][r] += scale A[r][c].  Row r of A begins at at[r], or at r
 * lda where `at` is NULL.  A has doubles if `doubles` is set, else reals, and so has B by `into_doubles`.  W lies as B
 * does, and is there where B has doubles.
 *
 * It goes by squares of vectors: along the longer side, where more of A or of B is contiguous, and in each step through
 * all squares of a cache line.  Rows that lie at `at` are prefetched, and so are doubles, since twenty rows are more
 * than the hardware follows: see "How a gradient is transposed" in docs/notes.md. */
KERNEL void NAME(turn)(ptrdiff_t rows, ptrdiff_t columns, const void *A, const int doubles, const ptrdiff_t *at,
                       ptrdiff_t lda, double scale, const int add, void *B, const int into_doubles, ptrdiff_t ldb, double l2,
                       const double *W)
{
    const ptrdiff_t line = 64 / (ptrdiff_t)sizeof(real);
    const ptrdiff_t size = doubles ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(real);
    const ptrdiff_t into = into_doubles ? (ptrdiff_t)sizeof(double) : (ptrdiff_t)sizeof(real);
    const int along = columns > rows;
    const ptrdiff_t longer = along ? columns : rows, shorter = along ? rows : columns;
    for (ptrdiff_t outer = 0; outer < shorter; outer += line)
        for (ptrdiff_t inner = 0; inner < longer; inner += L)
            for (ptrdiff_t side = outer; side < smaller(outer + line, shorter); side += L) {
                const ptrdiff_t r = along ? side : inner, c = along ? inner : side;
                const ptrdiff_t high = smaller(L, rows - r), wide = smaller(L, columns - c);
                if (at && side == outer)
                    UNROLL for (ptrdiff_t l = 0; l < L; l++)
                        PREFETCH((const char *)A + (at[smaller(r + 2 * L + l, rows - 1)] + c) * size);
                else if (!at && along && doubles && c + 3 * L <= columns)
                    NAME(fetch_square)(high, (const char *)A + (r * lda + c + 2 * L) * size, lda, size);
                if (!along && into_doubles && r + 3 * L <= rows) {
                    NAME(fetch_square)(wide, (const char *)B + (c * ldb + r + 2 * L) * into, ldb, into);
                    if (!add) NAME(fetch_square)(wide, (const char *)(W + c * ldb + r + 2 * L), ldb, into);
                }
                if (high == L && wide == L)
                    NAME(turn_square)(L, L, r, c, A, doubles, at, lda, scale, add, B, into_doubles, ldb, l2, W);
                else
                    NAME(turn_square)(high, wide, r, c, A, doubles, at, lda, scale, add, B, into_doubles, ldb, l2, W);
            }
}
#undef TURN_ARGUMENTS
#undef SCORE_ARGUMENTS
#undef ADD_ARGUMENTS
#undef LISTED
#undef MOST_REGIONS
#undef AHEAD
#undef ENTRIES
