# Some rows and columns of the Hessian: those of the parameters that an L1 penalty leaves. With x_a the feature of
# parameter a, or 1 for an intercept, and k_a its class,
#
#     H_ab = sum_i s_i x_ia x_ib (S_ik [k_a = k_b = k] - S_ik_a S_ik_b)
#
# A tile of samples is gathered into columns x_a, s_i S_ik_a x_a and -S_ik_a x_a, class after class, each class's
# columns from a whole vector on; `outer` does the rest. The rows fall into pieces, each with sums of its own; a thread
# takes one at a time.

cdef enum:
    SUPPORT_ROWS = 64       # rows of a tile: for each parameter it has three columns of so many doubles
    SUPPORT_PIECE = 400     # rows of a piece, at least, where there are several
    SUPPORT_PIECES = 8      # pieces, at most


cdef struct Support:
    const void *X           # rows of D features, ldx apart, of a type of widen.h
    Py_ssize_t D, ldx, N, itemsize
    int element
    const double *S         # (N, K)
    const double *s         # (N,)
    const double *moments   # (2, D): what is taken from each feature, and what then multiplies it; or NULL
    Py_ssize_t K, ld        # ld: columns, with those between the classes that are 0
    const Py_ssize_t *first     # (K + 1,): where the columns of each class begin
    const Py_ssize_t *feature   # (ld,): which one a column has, D for an intercept, -1 for none


cdef Py_ssize_t support_space(Py_ssize_t D, Py_ssize_t ld) noexcept nogil:
    """Return the doubles of a thread's work space."""
    return whole(SUPPORT_ROWS * (D + 1), 8) + 3 * SUPPORT_ROWS * ld


def support_sizes(Py_ssize_t N, Py_ssize_t D, Py_ssize_t ld):
    """Return how many pieces N rows fall into, and the doubles of each thread's work space."""
    return min(SUPPORT_PIECES, max(1, N // SUPPORT_PIECE)), support_space(D, ld)


cdef void gather(
    const Support *x, Py_ssize_t row, Py_ssize_t n, const double *wide, double *plain, double *weighed, double *share,
) noexcept nogil:
    """Write the three columns of each parameter, from n rows with their ones."""
    cdef Py_ssize_t i, k, a, j
    cdef double value, S, s
    for i in range(n):
        s = x.s[row + i]
        for k in range(x.K):
            S = x.S[(row + i) * x.K + k]
            for a in range(x.first[k], x.first[k + 1]):
                j = x.feature[a]
                value = 0 if j < 0 else wide[i * (x.D + 1) + j]
                if x.moments != NULL and 0 <= j < x.D:
                    value = (value - x.moments[j]) * x.moments[x.D + j]
                plain[i * x.ld + a] = value
                share[i * x.ld + a] = -S * value
                weighed[i * x.ld + a] = s * S * value


cdef void support_piece(
    const Support *x, Py_ssize_t row, Py_ssize_t stop, const floating *kind, double *wide, double *H,
) noexcept nogil:
    """Sum the upper triangle of H over some rows."""
    cdef Py_ssize_t n, k, c, columns, panel = MAX_V * lanes_f64
    cdef double *plain = wide + whole(SUPPORT_ROWS * (x.D + 1), 8)
    cdef double *weighed = plain + SUPPORT_ROWS * x.ld
    cdef double *share = weighed + SUPPORT_ROWS * x.ld
    memset(H, 0, x.ld * x.ld * sizeof(double))
    while row < stop:
        n = min(SUPPORT_ROWS, stop - row)
        widen_rows(
            <const char *>x.X + row * x.ldx * x.itemsize, x.element, n, x.D, x.ldx, True, kind, wide, x.D + 1,
        )
        gather(x, row, n, wide, plain, weighed, share)
        outer_upper(share, x.ld, weighed, x.ld, n, x.ld, H)
        for k in range(x.K):
            c, columns = x.first[k], x.first[k + 1] - x.first[k]
            if columns:
                outer_upper(plain + c, columns, weighed + c, columns, n, x.ld, H + c * (x.ld + 1))
        row += n


cdef void support_pieces(
    const Support *x, const floating *kind, double *work, double *sums, Py_ssize_t pieces, int n_threads,
) noexcept nogil:
    """Sum the upper triangle over all pieces, in the place of the first one's."""
    cdef Py_ssize_t i, j, q, size = x.ld * x.ld, space = support_space(x.D, x.ld)
    for i in prange(pieces, schedule="dynamic", chunksize=1, num_threads=n_threads):
        support_piece(
            x, x.N * i // pieces, x.N * (i + 1) // pieces, kind, work + threadid() * space, sums + i * size,
        )
    for i in prange(x.ld, schedule="static", num_threads=n_threads):
        for j in range(i, x.ld):
            for q in range(1, pieces):
                sums[i * x.ld + j] += sums[q * size + i * x.ld + j]


def support_hessian(
    X,                          # IN     (N, D), columns contiguous
    S,                          # IN     (N, K) posteriors, of the classes that have parameters
    s,                          # IN     (N,) weights
    moments,                    # IN     (2, D): what is taken from each feature, and what then multiplies it; or None
    first,                      # IN     (K + 1,) where each class's columns begin: at multiples of a vector's doubles
    feature,                    # IN     (ld,) the feature of each column, D for an intercept, -1 for none
    sums,                       # OUT    (pieces, ld, ld): the first one gets the upper triangle
    work,                       # WORK   what support_sizes says, for each thread
    *,
    Py_ssize_t itemsize,        # of the numbers that X computes in
    int n_threads,
):
    """Sum the rows and columns of the Hessian that belong to the columns of `feature`."""
    cdef Support x
    cdef Py_ssize_t pieces = len(sums)
    cdef fexcept_t flags
    cdef double *H = doubles(sums, len(sums) * len(feature) ** 2, True)
    cdef double *space = doubles(work, 0, True)
    x.D, x.K, x.ld, x.itemsize = X.shape[1], S.shape[1], len(feature), X.itemsize
    x.X = rows_of(X, itemsize, x.D, &x.N, &x.ldx, &x.element)
    x.S, x.s = doubles(S, x.N * x.K, False), doubles(s, x.N, False)
    x.moments = doubles(moments, 2 * x.D, False)
    x.first = <const Py_ssize_t *>numbers(first, b"i", sizeof(Py_ssize_t), x.K + 1, False)
    x.feature = <const Py_ssize_t *>numbers(feature, b"i", sizeof(Py_ssize_t), x.ld, False)
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            support_pieces[float](&x, NULL, space, H, pieces, n_threads)
        else:
            support_pieces[double](&x, NULL, space, H, pieces, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
