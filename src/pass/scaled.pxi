# The loss of scores that are scaled, and its derivatives by the factors and shifts: scaled.h computes them. Rows fall
# into parts by their number alone, each with sums of its own.

cdef struct Scaling:
    const void *x
    Py_ssize_t N, K, ldx
    const Py_ssize_t *y
    const double *s         # the rows' weights, or NULL
    double beta             # the one factor, where a is NULL
    const void *a
    const void *b
    double *sums
    Py_ssize_t parts, width     # how many parts, and how many sums each has


cdef void scaled_part(const Scaling *g, Py_ssize_t part, floating *Z) noexcept nogil:
    """Add up the rows of a part."""
    cdef Py_ssize_t rows = (g.N + g.parts - 1) // g.parts, row = min(g.N, part * rows), end = min(g.N, row + rows)
    cdef Py_ssize_t K = g.K, ldz = whole(K, lanes(Z)), n
    cdef const floating *x = <const floating *>g.x
    cdef double *sums = g.sums + part * g.width
    cdef double base[16]
    cdef floating log_t[16]
    memset(sums, 0, g.width * sizeof(double))
    if g.a == NULL:
        add_scaled_by_one(
            x + row * g.ldx, g.ldx, end - row, K, x + (g.N - 1) * g.ldx + K, g.y + row,
            NULL if g.s == NULL else g.s + row, g.beta, sums,
        )
        return
    if K <= COLUMNS_MOST:
        add_scaled_by_class(
            x + row * g.ldx, g.ldx, end - row, K, x + (g.N - 1) * g.ldx + K, g.y + row,
            NULL if g.s == NULL else g.s + row, <const floating *>g.a, <const floating *>g.b, sums,
        )
        return
    while row < end:
        n = min(lanes(Z), end - row)
        scaled_tile(x + row * g.ldx, g.ldx, n, K, <const floating *>g.a, <const floating *>g.b, Z, ldz)
        sums[0] += residuals(
            Z, n, K, ldz, g.y + row, <const floating *>NULL, 0, <const floating *>NULL,
            NULL if g.s == NULL else g.s + row, 0, 0, base, log_t,
        )
        add_scaled(Z, ldz, x + row * g.ldx, g.ldx, n, K, sums + 1, sums + 1 + K)
        row += n


cdef int scaled_parts(const Scaling *g, int n_threads, floating *Z) except -1 nogil:
    cdef Py_ssize_t i, begin = 0, end, space = lanes(Z) * whole(g.K, lanes(Z))
    cdef Py_ssize_t visit = max(n_threads, VISIT // max(1, g.N * g.K // g.parts))
    while begin < g.parts:
        end = min(begin + visit, g.parts)
        if n_threads == 1:
            for i in range(begin, end):
                scaled_part(g, i, Z)
        else:
            for i in prange(begin, end, schedule="dynamic", num_threads=n_threads):
                scaled_part(g, i, Z + threadid() * space)
        if end < g.parts:
            look_for_interrupt()
        begin = end
    return 0


def scaled_space(Py_ssize_t K, Py_ssize_t itemsize):
    """Return how many numbers of work space `scaled` needs for each thread."""
    return lanes_of(itemsize) * whole(K, lanes_of(itemsize))


def scaled(
    x,                      # IN     (N, K) scores, of which rows may lie apart
    y,                      # IN     (N,) labels, known to be in 0..K-1
    s,                      # IN     (N,) weights, or None for one each
    double beta,            # the factor of all classes, if there is no a
    a,                      # IN     (K,) a factor for each class, in the scores' dtype, or None
    b,                      # IN     (K,) a shift for each, or None
    sums,                   # OUT    (parts, 3): loss, slope and curvature; or (parts, 1 + 2 K): loss, by a, by b
    work,                   # WORK   what scaled_space says, for each thread
    int n_threads,
):
    """Find the sums of each part's rows."""
    cdef Scaling g
    cdef fexcept_t flags
    cdef Py_ssize_t itemsize = x.itemsize
    g.K = x.shape[1]
    g.x = rows_of(x, itemsize, g.K, &g.N, &g.ldx)
    g.y = <const Py_ssize_t *>numbers(y, b"i", sizeof(Py_ssize_t), g.N, False)
    g.s = <const double *>numbers(s, b"f", sizeof(double), g.N, False)
    g.beta = beta
    g.a, g.b = numbers(a, b"f", itemsize, g.K, False), numbers(b, b"f", itemsize, g.K, False)
    g.parts, g.width = sums.shape[0], 3 if a is None else 1 + 2 * g.K
    g.sums = <double *>numbers(sums, b"f", sizeof(double), g.parts * g.width, True)
    cdef void *space = numbers(work, b"f", itemsize, n_threads * scaled_space(g.K, itemsize), True)
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            scaled_parts(&g, n_threads, <float *>space)
        else:
            scaled_parts(&g, n_threads, <double *>space)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
