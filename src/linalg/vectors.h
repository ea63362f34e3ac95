/* What L-BFGS does with its history, vectors of millions of coefficients: inner products and linear combinations.
 *
 * `a` is of the history's type; all else is double, and so are sums.
 */

/* Returns the sum of a_j b_j, in sums of every 32nd product: no addition waits for the one before. */
KERNEL double NAME(dot)(const real *a, const double *b, ptrdiff_t n)
{
    enum { SUMS = 32 };
    double sum[SUMS] = {0}, total = 0;
    ptrdiff_t j = 0;
    for (; j + SUMS <= n; j += SUMS)
        UNROLL for (int l = 0; l < SUMS; l++) sum[l] += (double)a[j + l] * b[j + l];
    for (; j < n; j++) total += (double)a[j] * b[j];
    for (int l = 0; l < SUMS; l++) total += sum[l];
    return total;
}

/* to += share a */
KERNEL void NAME(add_share)(double share, const real *a, ptrdiff_t n, double *to)
{
    for (ptrdiff_t j = 0; j < n; j++) to[j] += share * a[j];
}

KERNEL void NAME(subtract)(const double *a, const double *b, ptrdiff_t n, real *to)
{
    for (ptrdiff_t j = 0; j < n; j++) to[j] = (real)(a[j] - b[j]);
}

KERNEL void NAME(widen)(const real *a, ptrdiff_t n, double *to)
{
    for (ptrdiff_t j = 0; j < n; j++) to[j] = a[j];
}

/* Returns the largest |a_j|, or NaN if there is one. NaN is looked for only where a product with 0 has found NaN or
 * infinity, since a comparison of each number takes longer than its maximum. */
KERNEL double NAME(largest)(const real *a, ptrdiff_t n)
{
    enum { MOSTS = 32 };
    real most[MOSTS] = {0}, odd[MOSTS] = {0};
    ptrdiff_t j = 0;
    for (; j + MOSTS <= n; j += MOSTS)
        UNROLL for (int l = 0; l < MOSTS; l++) {
            const real size = a[j + l] < 0 ? -a[j + l] : a[j + l];
            most[l] = size > most[l] ? size : most[l];
            odd[l] += size * 0;
        }
    for (; j < n; j++) {
        const real size = a[j] < 0 ? -a[j] : a[j];
        most[0] = size > most[0] ? size : most[0];
        odd[0] += size * 0;
    }
    for (int l = 1; l < MOSTS; l++) {
        most[0] = most[l] > most[0] ? most[l] : most[0];
        odd[0] += odd[l];
    }
    if (odd[0] != 0)
        for (j = 0; j < n; j++)
            if (a[j] != a[j]) return NAN;
    return (double)most[0];
}

KERNEL void NAME(rounded)(const double *a, ptrdiff_t n, real *to)
{
    for (ptrdiff_t j = 0; j < n; j++) to[j] = (real)a[j];
}

/* to = a + share b */
KERNEL void NAME(widen_and_add)(const real *a, double share, const double *b, ptrdiff_t n, double *to)
{
    for (ptrdiff_t j = 0; j < n; j++) to[j] = a[j] + share * b[j];
}

/* Adds the entries of n rows, which lie lda apart, to sums_j, and their squares to squares_j, in the rows' order. */
KERNEL void NAME(add_moments)(const real *a, ptrdiff_t n, ptrdiff_t lda, ptrdiff_t D, double *sums, double *squares)
{
    ptrdiff_t i = 0;
    for (; i + 4 <= n; i += 4) { /* four rows for each time that the sums are read and written */
        const real *row = a + i * lda;
        for (ptrdiff_t j = 0; j < D; j++) {
            double sum = sums[j], square = squares[j];
            for (int r = 0; r < 4; r++) {
                double x = row[r * lda + j];
                sum += x;
                square += x * x;
            }
            sums[j] = sum;
            squares[j] = square;
        }
    }
    for (; i < n; i++)
        for (ptrdiff_t j = 0; j < D; j++) {
            double x = a[i * lda + j];
            sums[j] += x;
            squares[j] += x * x;
        }
}

/* Adds `width` features of n rows, in their order: s_i x_i to row y_i of sums (K, D), and x_i and its squares to totals and
 * squares; without y or without totals, only the others.  It adds in memory of its own, since the sums of other threads'
 * features may lie in the same cache lines. */
enum { NAME(tile_features) = 512, NAME(tile_sums) = 4096 };
KERNEL void NAME(add_features)(const real *x, ptrdiff_t n, ptrdiff_t ldx, const ptrdiff_t *y, const double *s, ptrdiff_t K,
                               ptrdiff_t D, ptrdiff_t width, double *sums, double *totals, double *squares)
{
    double own[NAME(tile_sums)], total[NAME(tile_features)], square[NAME(tile_features)];
    const size_t bytes = (size_t)width * sizeof(double);
    const ptrdiff_t step = y ? 4 : n; /* rows that are in the first cache when they are read again */
    if (y)
        for (ptrdiff_t k = 0; k < K; k++) memcpy(own + k * width, sums + k * D, bytes);
    if (totals) {
        memcpy(total, totals, bytes);
        memcpy(square, squares, bytes);
    }
    for (ptrdiff_t i = 0; i < n; i += step) {
        const ptrdiff_t end = smaller(i + step, n);
        if (totals) NAME(add_moments)(x + i * ldx, end - i, ldx, width, total, square);
        if (y)
            for (ptrdiff_t r = i; r < end; r++) NAME(add_share)(s ? s[r] : 1, x + r * ldx, width, own + y[r] * width);
    }
    if (y)
        for (ptrdiff_t k = 0; k < K; k++) memcpy(sums + k * D, own + k * width, bytes);
    if (totals) {
        memcpy(totals, total, bytes);
        memcpy(squares, square, bytes);
    }
}

/* Returns a + b, where no product in a or b is rounded together with the sum, as Python's numbers are added. */
KERNEL double NAME(plus)(double a, double b)
{
    IN_REGISTER(a);
    IN_REGISTER(b);
    return a + b;
}
