/* The products of the pass, blocked for registers:
 *
 *     scores     Z = X W^T + b          n rows of X times all classes
 *     gradient   dW += R^T X            or its transpose, whichever wastes fewer lanes
 *     inner      dX = R W
 *
 * All come down to `block`: C[m, :] += sum_p A[m, p] B[p, :] for a few rows m and up to MAX_V vectors of columns,
 * with the sums in registers (Goto and van de Geijn 2008).  B is read by vectors; A is read one element at a time and
 * broadcast, but by vectors, too, where an FMA takes a number from a lane.
 *
 *     scores:               A = X  (m a sample,  p a feature)   B = W packed: per panel of classes D x (V L)
 *     gradient:             A = R  (m a class,   p a sample)    B = X as it lies in memory
 *     transposed gradient:  A = X  (m a feature, p a sample)    B = R
 *     inner:                A = R  (m a sample,  p a class)     B = W packed: per panel of features DEPTH x (V L)
 *
 * Where classes are few and features many, lanes along the classes would be half empty: `dots` then runs its lanes
 * along the features, of two rows and all classes at once, and adds across the lanes at the end.
 */

/* What a block does with its sums. */
#define STORE 0
#define ADD 1
#define ADD_DOUBLE 2

/* am, ap, bp and cm are the distances, in elements, from one row (m) or depth (p) to the next.  The sums begin with the
 * row `init`, or with 0 where it is NULL.  Unless `next` is NULL, memory is fetched from there on, `pace` bytes a step
 * of p. */
#define BLOCK_ARGUMENTS                                                                                        \
    ptrdiff_t P, const real *A, ptrdiff_t am, ptrdiff_t ap, const real *B, ptrdiff_t bp, const char *next,      \
        const real *init, void *C, ptrdiff_t cm, int out
typedef void (*NAME(block_function))(BLOCK_ARGUMENTS);

/* For 12 rows at a step, the scores fetch 8 elements: two thirds of the next tile.  The gradient fetches the rest. */
#define SCORES_PACE (8 * (int)sizeof(real))

#ifdef SIMD_EACH_LANE
/* Adds the products of a block to its sums.  Each FMA takes a number of A from a lane of a vector, since to load numbers
 * one by one takes longer than the FMAs: see "AArch64" in docs/notes.md. */
INLINE void NAME(products_by_lanes)(const int M, const int V, const int along, ptrdiff_t P, const real *A, ptrdiff_t am,
                                    ptrdiff_t ap, const real *B, ptrdiff_t bp, const char *next, vec (*sum)[MAX_V])
{
    const int pace = along ? SCORES_PACE : (int)sizeof(vec), whole = along ? 0 : M / (int)L * (int)L;
    const real *rows[MOST_ROWS / 4];
    ptrdiff_t p = 0;
    UNROLL for (int m = 0; m < M; m += 4) rows[m / 4] = A + m * am;
    if (along)
        for (; p + L <= P; p += L) {
            vec a[MOST_ROWS];
            if (next)
                UNROLL for (int bytes = 0; bytes < L * pace; bytes += 64) PREFETCH(next + p * pace + bytes);
            UNROLL for (int m = 0; m < M; m++) a[m] = NAME(load)(rows[m / 4] + m % 4 * am);
#define STEP(l)                                                                                                \
    {                                                                                                          \
        vec row[MAX_V];                                                                                        \
        UNROLL for (int v = 0; v < V; v++) row[v] = NAME(load)(B + v * L);                                     \
        UNROLL for (int m = 0; m < M; m++)                                                                     \
            UNROLL for (int v = 0; v < V; v++) SIMD_ADD_LANE(sum[m][v], a[m], l, row[v]);                      \
        B += bp;                                                                                               \
    }
            SIMD_EACH_LANE(STEP)
#undef STEP
            UNROLL for (int m = 0; m < M; m += 4) rows[m / 4] += L;
        }
    for (; p < P; p++) {
        vec row[MAX_V];
        UNROLL for (int v = 0; v < V; v++) row[v] = NAME(load)(B + v * L);
        if (next) PREFETCH(next + p * pace);
        UNROLL for (int m = 0; m < whole; m += L) {
            const vec a = NAME(load)(rows[m / 4] + m % 4);
#define STEP(l) UNROLL for (int v = 0; v < V; v++) SIMD_ADD_LANE(sum[m + l][v], a, l, row[v]);
            SIMD_EACH_LANE(STEP)
#undef STEP
        }
        UNROLL for (int m = whole; m < M; m++) {
            const real a = rows[m / 4][m % 4 * am];
            UNROLL for (int v = 0; v < V; v++) SIMD_ADD_LANE(sum[m][v], a, 0, row[v]);
        }
        UNROLL for (int m = 0; m < M; m += 4) rows[m / 4] += ap;
        B += bp;
    }
}
#endif

/* Either p runs along the rows of A, and ap is 1, or down its columns, and am is 1. */
INLINE void NAME(block)(const int M, const int V, const int along, BLOCK_ARGUMENTS)
{
    vec sum[MOST_ROWS][MAX_V]; /* not [M][V]: a variable-length array is not kept in registers */
    UNROLL for (int m = 0; m < M; m++)
        UNROLL for (int v = 0; v < V; v++) {
            sum[m][v] = NAME(set1)(0);
            if (init) sum[m][v] = NAME(load)(init + v * L);
        }
#ifdef SIMD_EACH_LANE
    NAME(products_by_lanes)(M, V, along, P, A, am, ap, B, bp, next, sum);
#else
    /* Four rows share a pointer: one for each of twelve would not fit the address registers.  Two steps are taken at a
     * time since the scores of whole passes are sooner so: see "Two steps of a block" in docs/notes.md. */
    const real *rows[3] = {A, A + 4 * am, A + 8 * am};
    const int pace = along ? SCORES_PACE : (int)sizeof(vec);
    ptrdiff_t p = 0;
#define STEP(s)                                                                                                \
    {                                                                                                          \
        vec row[MAX_V];                                                                                        \
        UNROLL for (int v = 0; v < V; v++) row[v] = NAME(load)(B + (s) * bp + v * L);                          \
        UNROLL for (int m = 0; m < M; m++) {                                                                   \
            const real a = rows[m / 4][m % 4 * am + (s) * ap];                                                 \
            UNROLL for (int v = 0; v < V; v++) sum[m][v] += NAME(set1)(a) * row[v];                            \
        }                                                                                                      \
    }
    for (; p + 2 <= P; p += 2) {
        if (next)
            UNROLL for (int bytes = 0; bytes < 2 * pace; bytes += 64) PREFETCH(next + p * pace + bytes);
        STEP(0)
        STEP(1)
        UNROLL for (int m = 0; m < M; m += 4) rows[m / 4] += 2 * ap;
        B += 2 * bp;
    }
    if (p < P) STEP(0)
#undef STEP
#endif
    UNROLL for (int m = 0; m < M; m++)
        UNROLL for (int v = 0; v < V; v++) {
            if (out == ADD_DOUBLE) {
                real lane[NAME(lanes)];
                NAME(store)(lane, sum[m][v]);
                double *c = (double *)C + m * cm + v * L;
                for (int l = 0; l < L; l++) c[l] += lane[l];
            } else {
                real *c = (real *)C + m * cm + v * L;
                if (out == ADD) sum[m][v] += NAME(load)(c);
                NAME(store)(c, sum[m][v]);
            }
        }
}

/* There is a function for each size of a block, and for each of A's strides that is 1: along its rows (scores) or down
 * its columns (gradients). */
#if MOST_ROWS == 16
#define BEYOND_12(X) X(13, 1) X(14, 1) X(15, 1) X(16, 1)
#else
#define BEYOND_12(X)
#endif
#if MAX_V == 3
#define SIZES(X)                                                                                               \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)         \
    BEYOND_12(X)                                                                                               \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2) X(9, 2) X(10, 2) X(11, 2) X(12, 2)         \
    X(1, 3) X(2, 3) X(3, 3) X(4, 3) X(5, 3) X(6, 3) X(7, 3) X(8, 3)
#else
#define SIZES(X)                                                                                               \
    X(1, 1) X(2, 1) X(3, 1) X(4, 1) X(5, 1) X(6, 1) X(7, 1) X(8, 1) X(9, 1) X(10, 1) X(11, 1) X(12, 1)         \
    X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2)
#endif
#define DEFINE(M, V)                                                                                           \
    static void NAME(along_##M##x##V)(BLOCK_ARGUMENTS)                                                         \
    {                                                                                                          \
        (void)ap;                                                                                              \
        NAME(block)(M, V, 1, P, A, am, 1, B, bp, next, init, C, cm, out);                                      \
    }                                                                                                          \
    static void NAME(down_##M##x##V)(BLOCK_ARGUMENTS)                                                          \
    {                                                                                                          \
        (void)am;                                                                                              \
        NAME(block)(M, V, 0, P, A, 1, ap, B, bp, next, init, C, cm, out);                                      \
    }
SIZES(DEFINE)
#undef DEFINE
static const NAME(block_function) NAME(along)[MAX_V + 1][MOST_ROWS + 1] = {
#define ENTRY(M, V) [V][M] = NAME(along_##M##x##V),
    SIZES(ENTRY)
#undef ENTRY
};
static const NAME(block_function) NAME(down)[MAX_V + 1][MOST_ROWS + 1] = {
#define ENTRY(M, V) [V][M] = NAME(down_##M##x##V),
    SIZES(ENTRY)
#undef ENTRY
};
#undef SIZES
#undef BEYOND_12

#if SIMD_BYTES == 64
/* Does what `block` does, along the rows of A, for half a vector of columns; the other half is `init`'s.  It is for few
 * classes: see "Half vectors" in docs/notes.md. */
typedef real NAME(half) __attribute__((vector_size(32), aligned(sizeof(real)), may_alias));
INLINE void NAME(half_block)(const int M, BLOCK_ARGUMENTS)
{
    const NAME(half) *first = (const NAME(half) *)init;
    const real *rows[3] = {A, A + 4 * am, A + 8 * am};
    NAME(half) sum[12];
    (void)ap;
    UNROLL for (int m = 0; m < M; m++) sum[m] = init ? first[0] : (NAME(half)){0};
    for (ptrdiff_t p = 0; p < P; p++) {
        const NAME(half) row = *(const NAME(half) *)B;
        if (next) PREFETCH(next + p * SCORES_PACE);
        UNROLL for (int m = 0; m < M; m++) sum[m] += rows[m / 4][m % 4 * am] * row;
        UNROLL for (int m = 0; m < M; m += 4) rows[m / 4]++;
        B += bp;
    }
    UNROLL for (int m = 0; m < M; m++) {
        NAME(half) *c = (NAME(half) *)((real *)C + m * cm);
        if (out == ADD) sum[m] += c[0];
        c[0] = sum[m];
        if (init) c[1] = first[1];
    }
}
#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#define DEFINE(M)                                                                                              \
    static void NAME(half_##M)(BLOCK_ARGUMENTS) { NAME(half_block)(M, P, A, am, ap, B, bp, next, init, C, cm, out); }
SIZES(DEFINE)
#undef DEFINE
#define ENTRY(M) [M] = NAME(half_##M),
static const NAME(block_function) NAME(halves)[13] = {SIZES(ENTRY)};
#undef ENTRY
#undef SIZES
#define ALONG(V, K) (2 * (K) <= L ? NAME(halves) : NAME(along)[V])
#else
#define ALONG(V, K) ((void)(K), NAME(along)[V])
#endif
#undef BLOCK_ARGUMENTS

/* Returns how many vectors so many columns fill; up to MAX_V of them make a panel. */
INLINE ptrdiff_t NAME(vectors)(ptrdiff_t columns) { return parts_of(columns, L); }

/* Packs W (K, D) into panels of classes, each D x (V L), one after the other; lanes beyond K are 0. */
KERNEL void NAME(pack_panels)(const real *W, ptrdiff_t K, ptrdiff_t D, real *packed)
{
    const ptrdiff_t nv = NAME(vectors)(K), panels = parts_of(nv, MAX_V);
    for (ptrdiff_t i = 0; i < panels; i++) {
        const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
        for (ptrdiff_t v = 0; v < V; v++) {
            const ptrdiff_t k0 = (first + v) * L, some = smaller(L, K - k0);
            real *to = packed + first * L * D + v * L;
            ptrdiff_t d = 0;
            for (; d + L <= D; d += L) {
                vec t[NAME(lanes)];
                for (ptrdiff_t l = 0; l < L; l++) t[l] = l < some ? NAME(load)(W + (k0 + l) * D + d) : NAME(set1)(0);
                NAME(transpose)(t);
                for (ptrdiff_t l = 0; l < L; l++) NAME(store)(to + (d + l) * V * L, t[l]);
            }
            for (; d < D; d++)
                for (ptrdiff_t l = 0; l < L; l++) to[d * V * L + l] = l < some ? W[(k0 + l) * D + d] : 0;
        }
    }
}

/* Copies n rows of X, of D elements and ldx of them apart, into rows of ldt, and fills up their last vectors with 0.
 * A call of memcpy would take longer than a row of four features. */
KERNEL void NAME(copy_rows)(const void *X, int element, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, real *to, ptrdiff_t ldt)
{
    const ptrdiff_t whole = D / L * L;
    for (ptrdiff_t i = 0; i < n; i++, to += ldt) {
        const real *x = (const real *)X + i * ldx;
        if (whole < D) NAME(store)(to + whole, NAME(set1)(0));
        if (element != REAL) { /* then real is float */
            widen(X, element, i * ldx, D, (float *)to);
            continue;
        }
        for (ptrdiff_t j = 0; j < whole; j += L) NAME(store)(to + j, NAME(load)(x + j));
        for (ptrdiff_t j = whole; j < D; j++) to[j] = x[j];
    }
}

/* `scores` sums so many features in one sweep: a panel of W, 256 x 48 floats, then fits a first cache of 48 KiB. */
#define DEPTH 256

/* Z = X W^T + bias for n rows, from W packed by pack_panels; bias has every lane of Z's rows.  Returns where it has
 * prefetched to. */
KERNEL const char *NAME(scores)(const real *X, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const real *packed,
                                const real *bias, const char *next, ptrdiff_t K, real *Z, ptrdiff_t ldz)
{
    const ptrdiff_t nv = NAME(vectors)(K);
    Walk depths = walk(D, parts_of(D, DEPTH)), groups[MAX_V + 1];
    for (ptrdiff_t V = 1; V <= MAX_V; V++) groups[V] = walk(n, parts_of(n, ALONG_ROWS(V)));
    for (ptrdiff_t d = 0, P; d < D; d += P) {
        Walk panels = walk(nv, parts_of(nv, MAX_V));
        P = next_part(&depths);
        for (ptrdiff_t first = 0, V; first < nv; first += V) {
            V = next_part(&panels);
            Walk rows = groups[V];
            const real *B = packed + first * L * D + d * V * L;
            for (ptrdiff_t r = 0, M; r < n; r += M) {
                M = next_part(&rows);
                ALONG(V, K)[M](P, X + r * ldx + d, ldx, 1, B, V * L, first ? NULL : next, d ? NULL : bias + first * L,
                               Z + r * ldz + first * L, ldz, d ? ADD : STORE);
                if (next && first == 0) next += P * SCORES_PACE;
            }
        }
    }
    return next;
}

/* C (M, N) += A^T B over n samples, for A (n, M) and B (n, N).  The gradient has A = R and B = X, the transposed gradient
 * has them the other way round.  B's columns are cut into panels of whole vectors.  A last panel that would reach beyond
 * the row is moved to the left, and of its columns only those are kept that no other panel has.  Rows of B have at
 * least the columns of one panel, rows of C have `wanted`. */
KERNEL void NAME(outer)(const real *A, ptrdiff_t M, ptrdiff_t lda, const real *B, ptrdiff_t N, ptrdiff_t ldb,
                        ptrdiff_t n, const char *next, void *C, ptrdiff_t ldc, ptrdiff_t wanted, int out)
{
    const ptrdiff_t nv = NAME(vectors)(N), size = out == ADD_DOUBLE ? 8 : sizeof(real);
    Walk panels = walk(nv, parts_of(nv, MAX_V)), all_groups[MAX_V + 1];
    for (ptrdiff_t V = 1; V <= MAX_V; V++) all_groups[V] = walk(M, parts_of(M, MAX_ROWS[V]));
    for (ptrdiff_t first = 0, V; first < nv; first += V) {
        V = next_part(&panels);
        Walk groups = all_groups[V];
        const ptrdiff_t begin = first * L, end = smaller(begin + V * L, smaller(N, wanted));
        const ptrdiff_t column = smaller(begin, N - V * L);
        for (ptrdiff_t m = 0, rows; m < M; m += rows) {
            rows = next_part(&groups);
            char *c = (char *)C + (m * ldc + begin) * size;
            if (end - begin == V * L) {
                NAME(down)[V][rows](n, A + m, 1, lda, B + column, ldb, next, NULL, c, ldc, out);
            } else {
                real sums[MOST_ROWS * MAX_V * NAME(lanes)];
                NAME(down)[V][rows](n, A + m, 1, lda, B + column, ldb, next, NULL, sums, V * L, STORE);
                for (ptrdiff_t r = 0; r < rows; r++) {
                    const real *sum = sums + r * V * L + begin - column;
                    for (ptrdiff_t j = 0; j < end - begin; j++) {
                        if (out == ADD_DOUBLE) ((double *)c)[r * ldc + j] += sum[j];
                        else ((real *)c)[r * ldc + j] = sum[j] + (out == ADD ? ((real *)c)[r * ldc + j] : 0);
                    }
                }
            }
            next = next ? next + n * sizeof(vec) : NULL;
        }
    }
}

/* `outer_tall` multiplies so many samples at a time: their part of a panel of B, 24 KiB, then stays in a first cache. */
#define TALL (24576 / (MAX_V * (ptrdiff_t)sizeof(vec)))

/* `outer_tall` takes at most so many rows of C: their sums for a panel take 24 KiB at most. */
#define TALL_MOST 128

/* Copies columns of n rows of A in the order in which `outer_tall` reads them: of TALL rows the columns of its first block
 * of registers, side by side, then those of the next.  They are copied as whole vectors, and what is too much of one is
 * overwritten by the next row's: A and `packed` have room for a vector behind the last.  The next cache line of each row
 * is fetched meanwhile, since rows may lie pages apart: see "Many classes with AVX2" in docs/notes.md. */
KERNEL void NAME(pack_columns)(const real *A, ptrdiff_t n, ptrdiff_t columns, ptrdiff_t lda, real *packed)
{
    const ptrdiff_t depths = parts_of(n, TALL), groups = parts_of(columns, MAX_ROWS[MAX_V]);
    for (ptrdiff_t q = 0; q < depths; q++) {
        const ptrdiff_t d = part(n, depths, q), depth = part(n, depths, q + 1) - d;
        for (ptrdiff_t g = 0; g < groups; g++) {
            const ptrdiff_t m = part(columns, groups, g), M = part(columns, groups, g + 1) - m;
            const real *from = A + d * lda + m;
            real *to = packed + d * columns + m * depth;
#if SIMD_BYTES == 64
            if (2 * M <= L) {
                for (ptrdiff_t i = 0; i < depth; i++, from += lda, to += M) *(NAME(half) *)to = *(const NAME(half) *)from;
                continue;
            }
#endif
            for (ptrdiff_t i = 0; i < depth; i++, from += lda, to += M) {
                PREFETCH((const char *)from + 64);
                for (ptrdiff_t k = 0; k < M; k += L) NAME(store)(to + k, NAME(load)(from + k));
            }
        }
    }
}

/* Copies rows r to `end` of n rows of B (n, N), ldb apart, in the order in which `outer_tall` reads them: all rows of the
 * first panel of columns, side by side, then those of the next.  B's rows have whole vectors. */
KERNEL void NAME(pack_samples)(const real *B, ptrdiff_t N, ptrdiff_t ldb, ptrdiff_t n, ptrdiff_t r, ptrdiff_t end, real *packed)
{
    const ptrdiff_t nv = NAME(vectors)(N);
    const Walk all_panels = walk(nv, parts_of(nv, MAX_V));
    for (; r < end; r++) {
        Walk panels = all_panels;
        for (ptrdiff_t first = 0, V; first < nv; first += V) {
            V = next_part(&panels);
            real *to = packed + (first * n + V * r) * L;
            for (ptrdiff_t v = 0; v < V; v++) NAME(store)(to + v * L, NAME(load)(B + r * ldb + (first + v) * L));
        }
    }
}

/* `outer_tall` adds the sums of so many panels to C at a time, 192 bytes of a row or more, since rows of C may lie pages
 * apart: see "Sums of several panels are added at a time" in docs/notes.md. */
#define TALL_PANELS ((191 + MAX_V * (ptrdiff_t)sizeof(vec)) / (MAX_V * (ptrdiff_t)sizeof(vec)))

/* C (M, N) += A^T B as `outer` does, over many samples and for few rows M, for B's panels `start` to `stop` as pack_samples
 * leaves them.  A is as it lies, lda apart, or as pack_columns leaves it where lda is 0.  The sums of a panel stay in a
 * first cache until all samples are in them: see "Residuals of owned classes are packed" in docs/notes.md. */
KERNEL void NAME(outer_tall)(const real *A, ptrdiff_t M, ptrdiff_t lda, const real *B, ptrdiff_t N, ptrdiff_t n, ptrdiff_t start,
                             ptrdiff_t stop, void *C, ptrdiff_t ldc, ptrdiff_t wanted, int out)
{
    const ptrdiff_t nv = NAME(vectors)(N), panels = parts_of(nv, MAX_V), size = out == ADD_DOUBLE ? 8 : sizeof(real);
    const Walk all_depths = walk(n, parts_of(n, TALL)), all_groups = walk(M, parts_of(M, MAX_ROWS[MAX_V]));
    real sums[TALL_MOST * TALL_PANELS * MAX_V * NAME(lanes)];
    for (ptrdiff_t from = start, to; from < stop; from = to) {
        to = smaller(from + TALL_PANELS, stop);
        const ptrdiff_t begin = part(nv, panels, from) * L, ld = part(nv, panels, to) * L - begin;
        char *c = (char *)C + begin * size;
        for (ptrdiff_t i = from; i < to; i++) {
            const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first, at = first * L - begin;
            const char *end = (const char *)(B + part(nv, panels, smaller(i + 2, stop)) * L * n); /* of the next panel */
            const char *next = (const char *)(B + (first + V) * L * n);
            Walk depths = all_depths;
            for (ptrdiff_t d = 0, depth; d < n; d += depth) {
                Walk groups = all_groups;
                depth = next_part(&depths);
                for (ptrdiff_t m = 0, rows; m < M; m += rows) {
                    rows = next_part(&groups);
                    if (out != STORE && d + depth == n) /* what the sums are added to is fetched meanwhile */
                        for (ptrdiff_t r = m; r < m + rows; r++)
                            for (ptrdiff_t j = 0; j < V * L * size; j += 64)
                                PREFETCH_TO_WRITE(c + (r * ldc + at) * size + j);
                    NAME(down)[V][rows](depth, lda ? A + d * lda + m : A + d * M + m * depth, 1, lda ? lda : rows,
                                        B + (first * n + V * d) * L, V * L, next < end ? next : NULL, NULL,
                                        sums + m * ld + at, ld, d ? ADD : STORE);
                    next += depth * sizeof(vec);
                }
            }
        }
        const ptrdiff_t columns = smaller(ld, wanted - begin);
        for (ptrdiff_t m = 0; m < M; m++) {
            const real *sum = sums + m * ld;
            if (out == ADD_DOUBLE) LANES for (ptrdiff_t j = 0; j < columns; j++) ((double *)c)[m * ldc + j] += sum[j];
            else if (out == ADD) LANES for (ptrdiff_t j = 0; j < columns; j++) ((real *)c)[m * ldc + j] += sum[j];
            else memcpy((real *)c + m * ldc, sum, columns * sizeof(real));
        }
    }
}

/* C = A B over P classes, for A (n, P), B (P, N) and C (n, N), whose rows have whole vectors.  The loss's gradient for
 * X has A = R and B = W.  Panels of B are packed on the way, DEPTH of its rows at a time. */
KERNEL void NAME(inner)(const real *A, ptrdiff_t n, ptrdiff_t P, ptrdiff_t lda, const real *B, ptrdiff_t N, ptrdiff_t ldb,
                        real *C, ptrdiff_t ldc)
{
    const ptrdiff_t nv = NAME(vectors)(N), panels = parts_of(nv, MAX_V), depths = parts_of(P, DEPTH);
    real packed[DEPTH * MAX_V * NAME(lanes)];
    for (ptrdiff_t q = 0; q < depths; q++) {
        const ptrdiff_t d = part(P, depths, q), depth = part(P, depths, q + 1) - d;
        for (ptrdiff_t i = 0; i < panels; i++) {
            const ptrdiff_t first = part(nv, panels, i), V = part(nv, panels, i + 1) - first;
            const ptrdiff_t groups = parts_of(n, ALONG_ROWS(V)), some = smaller(L, N - (first + V - 1) * L);
            for (ptrdiff_t p = 0; p < depth; p++) {
                const real *row = B + (d + p) * ldb + first * L;
                real *to = packed + p * V * L;
                for (ptrdiff_t v = 0; v < V - 1; v++) NAME(store)(to + v * L, NAME(load)(row + v * L));
                NAME(store)(to + (V - 1) * L, NAME(load_some)(row + (V - 1) * L, some));
            }
            for (ptrdiff_t g = 0; g < groups; g++) {
                const ptrdiff_t r = part(n, groups, g), M = part(n, groups, g + 1) - r;
                NAME(along)[V][M](depth, A + r * lda + d, lda, 1, packed, V * L, NULL, NULL,
                                  C + r * ldc + first * L, ldc, q ? ADD : STORE);
            }
        }
    }
}

/* Writes n rows of C, times `scale`, to rows of N numbers. */
KERNEL void NAME(scale_rows)(const real *C, ptrdiff_t n, ptrdiff_t N, ptrdiff_t ldc, real scale, real *to, ptrdiff_t ldt)
{
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t j = 0; j < N; j++) to[i * ldt + j] = C[i * ldc + j] * scale;
}

/* Packs W (K, D) into rows of whole vectors for `dots`.  The last vector of a row of X begins at D - L, and so does
 * W's, with 0 in the lanes that it repeats. */
KERNEL void NAME(pack_rows)(const real *W, ptrdiff_t K, ptrdiff_t D, real *packed)
{
    const ptrdiff_t nv = NAME(vectors)(D), whole = (nv - 1) * L;
    for (ptrdiff_t k = 0; k < K; k++) {
        real *to = packed + k * nv * L;
        memcpy(to, W + k * D, whole * sizeof(real));
        for (ptrdiff_t l = 0; l < L; l++) to[whole + l] = D - L + l < whole ? 0 : W[k * D + D - L + l];
    }
}

/* `dots` takes at most so many classes: a row's sums, not yet added across their lanes, wait in as many vectors. */
#define DOTS_MOST 32

/* `dots` sweeps so many bytes of W at a time, for all rows of the tile: two thirds of a first cache, whose rest is X's.
 * That has 48 KiB, or 32 in most processors that have AVX2 alone.  Where W takes more, one group of classes is swept
 * after the other.  See "One product serves all" in docs/notes.md. */
#if SIMD_BYTES == 32
#define DOTS_BYTES 21504
#else
#define DOTS_BYTES 32768
#endif

/* So many bytes are fetched at a step of R rows: half of what they read. */
#define DOTS_PACE(R) (((R) + 1) / 2 * (ptrdiff_t)sizeof(vec))

/* Sums the products of R rows and M classes over their vectors `from` to `to`, not yet across the lanes. */
INLINE void NAME(dots_block)(const int R, const int M, const real *X, ptrdiff_t D, ptrdiff_t ldx, ptrdiff_t from,
                             ptrdiff_t to, const real *packed, const char *next, vec *sum)
{
    const ptrdiff_t ldw = NAME(vectors)(D) * L;
    vec s[MOST_DOTS_ROWS][DOTS_CLASSES];
#ifdef SIMD_EACH_LANE
#define ROW(r) rows[r] /* of many rows GCC would compute the addresses anew at each step */
    const real *rows[MOST_DOTS_ROWS];
    UNROLL for (int r = 0; r < R; r++) {
        ROW(r) = X + r * ldx;
        __asm__("" : "+r"(ROW(r)));
    }
#else
#define ROW(r) (X + r * ldx)
#endif
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int m = 0; m < M; m++) s[r][m] = NAME(set1)(0);
    for (ptrdiff_t v = from; v < to; v++) {
        const ptrdiff_t j = smaller(v * L, D - L);
        vec row[MOST_DOTS_ROWS];
        UNROLL for (int r = 0; r < R; r++) row[r] = NAME(load)(ROW(r) + j);
        if (next) PREFETCH(next + (v - from) * DOTS_PACE(R));
        UNROLL for (int m = 0; m < M; m++) {
            vec w = *(const vec *)(packed + m * ldw + v * L);
            IN_REGISTER(w); /* else GCC loads it twice, once in each product */
            UNROLL for (int r = 0; r < R; r++) s[r][m] += row[r] * w;
        }
    }
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int m = 0; m < M; m++) sum[r * DOTS_MOST + m] = s[r][m];
#undef ROW
}

#if DOTS_CLASSES == 13
#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13)
#else
#define SIZES(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
#define DOTS_ARGUMENTS                                                                                         \
    const real *X, ptrdiff_t D, ptrdiff_t ldx, ptrdiff_t from, ptrdiff_t to, const real *packed,               \
        const char *next, vec *sum
typedef void (*NAME(dots_function))(DOTS_ARGUMENTS);
#define DEFINE(M)                                                                                              \
    static void NAME(dots_row_##M)(DOTS_ARGUMENTS)                                                             \
    {                                                                                                          \
        NAME(dots_block)(1, M, X, D, ldx, from, to, packed, next, sum);                                        \
    }                                                                                                          \
    static void NAME(dots_rows_##M)(DOTS_ARGUMENTS)                                                            \
    {                                                                                                          \
        NAME(dots_block)(DOTS_ROWS(M), M, X, D, ldx, from, to, packed, next, sum);                             \
    }
SIZES(DEFINE)
#undef DEFINE
static const NAME(dots_function) NAME(dots_functions)[2][DOTS_CLASSES + 1] = {
#define ENTRY(M) [0][M] = NAME(dots_row_##M), [1][M] = NAME(dots_rows_##M),
    SIZES(ENTRY)
#undef ENTRY
};
#undef SIZES

/* Z = X W^T + bias as in `scores`, from W packed by pack_rows; D >= L, K <= DOTS_MOST. */
KERNEL const char *NAME(dots)(const real *X, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, const real *packed, const real *bias,
                       const char *next, ptrdiff_t K, real *Z, ptrdiff_t ldz)
{
    const ptrdiff_t nv = NAME(vectors)(D), groups = parts_of(K, DOTS_CLASSES), lanes = NAME(vectors)(K) * L;
    const ptrdiff_t most = DOTS_ROWS(K); /* and of each group: several have 7 classes or more on AArch64, and 2 rows */
    const ptrdiff_t bytes = nv * K * (ptrdiff_t)sizeof(vec), together = bytes > DOTS_BYTES ? 1 : groups;
    const ptrdiff_t sweeps = parts_of(bytes * together / groups, DOTS_BYTES);
    vec sum[MOST_DOTS_ROWS * DOTS_MOST];
    for (ptrdiff_t some = 0; some < groups; some += together) {
        const ptrdiff_t first = part(K, groups, some), end = part(K, groups, some + together);
        /* Where the vectors of sums begin; what they have of other classes and beyond is 0. */
        const ptrdiff_t begin = end - first > L ? first / L * L : smaller(first, lanes - L);
        for (ptrdiff_t k = 0; k < MOST_DOTS_ROWS * DOTS_MOST; k++) sum[k] = NAME(set1)(0);
        for (ptrdiff_t q = 0; q < sweeps; q++) {
            const ptrdiff_t from = part(nv, sweeps, q), to = part(nv, sweeps, q + 1);
            for (ptrdiff_t r = 0, rows; r < n; r += rows) {
                rows = n - r < most ? 1 : most;
                for (ptrdiff_t g = some; g < some + together; g++) {
                    const ptrdiff_t k = part(K, groups, g), M = part(K, groups, g + 1) - k;
                    NAME(dots_functions)[rows > 1][M](X + r * ldx, D, ldx, from, to, packed + k * nv * L,
                                                      g ? NULL : next, sum + k);
                }
                if (next && some == 0) next += (to - from) * DOTS_PACE(rows);
                for (ptrdiff_t i = 0; i < rows; i++) {
                    real *z = Z + (r + i) * ldz;
                    if (some == 0 && q == 0)
                        for (ptrdiff_t k = 0; k < lanes; k += L) NAME(store)(z + k, NAME(load)(bias + k));
                    for (ptrdiff_t k = begin; k < end; k += L) {
                        vec t[NAME(lanes)];
                        UNROLL for (int l = 0; l < L; l++) t[l] = sum[i * DOTS_MOST + k + l];
                        NAME(store)(z + k, NAME(sums)(t) + NAME(load)(z + k));
                    }
                }
            }
        }
    }
    return next;
}
