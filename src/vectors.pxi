# Sweeps over the history of L-BFGS (vectors.h): a chunk of all its rows at a time, so that what they are multiplied by
# or added to is read and written once. Chunks are cut by the length alone, and their sums added in their order.

cdef enum:
    CHUNK = 2048             # coefficients: a row's chunk and that of a vector of doubles fit the first cache

VECTOR_CHUNK = CHUNK


cdef void inner_products(
    const floating *rows, Py_ssize_t count, Py_ssize_t ld, const double *v, const floating *u, Py_ssize_t n,
    double *sums,
) noexcept nogil:
    """Each row's product with v, and then each one's with u, if there is u."""
    cdef double wide[CHUNK]
    cdef Py_ssize_t i
    cdef const double *second = NULL
    if u != NULL:
        if floating is float:
            widen(u, n, wide)
            second = wide
        else:
            second = u
    for i in range(count):
        sums[i] = dot(rows + i * ld, v, n)
        if u != NULL:
            sums[count + i] = dot(rows + i * ld, second, n)


def vectors_dot(
    const floating[:, ::1] rows,    # IN     (count, size)
    const double[::1] v,            # IN
    const floating[::1] u,          # IN     or None
    double[:, ::1] sums,            # OUT    (chunks, count, or 2 count with u): the result in its first row
    int n_threads,
):
    """Inner products of each row with v, and with u."""
    cdef Py_ssize_t i, c, count = rows.shape[0], size = rows.shape[1], chunks = sums.shape[0], each = sums.shape[1]
    cdef const floating *first = &rows[0, 0]
    cdef const floating *second = NULL if u is None else &u[0]
    cdef double *to = &sums[0, 0]
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            inner_products(
                first + i * CHUNK, count, size, &v[0] + i * CHUNK, NULL if second == NULL else second + i * CHUNK,
                min(CHUNK, size - i * CHUNK), to + i * each,
            )
        for i in range(1, chunks):
            for c in range(each):
                to[c] += to[i * each + c]
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void add_shares(
    double share, const double *v, const double *shares, const floating *rows, Py_ssize_t count, Py_ssize_t ld,
    Py_ssize_t n, double *out,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = share * v[i]
    for i in range(count):
        add_share(shares[i], rows + i * ld, n, out)


def vectors_combine(
    double share,
    const double[::1] v,            # IN
    const double[::1] shares,       # IN     (count,)
    const floating[:, ::1] rows,    # IN     (count, size)
    double[::1] out,                # OUT    may be v
    int n_threads,
):
    """share v + sum_i shares_i rows_i."""
    cdef Py_ssize_t i, count = rows.shape[0], size = rows.shape[1], chunks = (size + CHUNK - 1) // CHUNK
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            add_shares(
                share, &v[0] + i * CHUNK, &shares[0], &rows[0, 0] + i * CHUNK, count, size,
                min(CHUNK, size - i * CHUNK), &out[0] + i * CHUNK,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def vectors_subtract(
    const double[::1] a,            # IN
    const double[::1] b,            # IN
    floating[::1] out,              # OUT
    int n_threads,
):
    """a - b, rounded to the result's type."""
    cdef Py_ssize_t i, size = a.shape[0], chunks = (size + CHUNK - 1) // CHUNK
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            subtract(&a[0] + i * CHUNK, &b[0] + i * CHUNK, min(CHUNK, size - i * CHUNK), &out[0] + i * CHUNK)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
