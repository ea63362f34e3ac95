# Sweeps over the history of L-BFGS (vectors.h) take a chunk of all its rows at a time, so that what they are multiplied
# by or added to is read and written once. Chunks are cut by the length alone, and their sums added in their order.

cdef enum:
    CHUNK = 2048             # coefficients: a row's chunk and that of a vector of doubles fit the first cache
    MOST = 3                 # vectors whose combination is squared
    CENTRED = 64             # columns that are centred at a time

VECTOR_CHUNK = CHUNK


cdef void inner_products(
    const floating *rows, Py_ssize_t count, Py_ssize_t ld, const double *v, const floating *u, Py_ssize_t n,
    double *sums,
) noexcept nogil:
    """Find each row's product with v, and then each one's with u, if there is u."""
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


cdef void all_products(
    const floating *rows, Py_ssize_t count, Py_ssize_t size, const double *v, const floating *u, double *sums,
    int n_threads,
) noexcept nogil:
    """Find each row's product with v, and with u; `sums` has room for those of each chunk."""
    cdef Py_ssize_t i, chunks = (size + CHUNK - 1) // CHUNK, each = count if u == NULL else 2 * count
    if n_threads == 1:  # without OpenMP: even a team of one takes time
        for i in range(chunks):
            inner_products(
                rows + i * CHUNK, count, size, v + i * CHUNK, NULL if u == NULL else u + i * CHUNK,
                min(CHUNK, size - i * CHUNK), sums + i * each,
            )
    else:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            inner_products(
                rows + i * CHUNK, count, size, v + i * CHUNK, NULL if u == NULL else u + i * CHUNK,
                min(CHUNK, size - i * CHUNK), sums + i * each,
            )
    add_chunks(sums, chunks, each)


cdef void add_chunks(double *sums, Py_ssize_t chunks, Py_ssize_t each) noexcept nogil:
    """Add the sums of all chunks, of which each has so many, to those of the first."""
    cdef Py_ssize_t i, c
    for i in range(1, chunks):
        for c in range(each):
            sums[c] += sums[i * each + c]


def vectors_dot(
    const floating[:, ::1] rows,    # IN     (count, size)
    const double[::1] v,            # IN
    const floating[::1] u,          # IN     or None
    double[:, ::1] sums,            # OUT    (chunks, count, or 2 count with u): the result in its first row
    int n_threads,
):
    """Find the inner products of each row with v, and with u."""
    cdef const floating *second = NULL if u is None else &u[0]
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    if rows.shape[0] * rows.shape[1] >= RELEASING:
        with nogil:
            all_products(&rows[0, 0], rows.shape[0], rows.shape[1], &v[0], second, &sums[0, 0], n_threads)
    else:
        all_products(&rows[0, 0], rows.shape[0], rows.shape[1], &v[0], second, &sums[0, 0], n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef double product(const double *a, const double *b, Py_ssize_t n) noexcept nogil:
    """Return the inner product, by one thread."""
    cdef Py_ssize_t i
    cdef double sum = 0
    for i in range((n + CHUNK - 1) // CHUNK):
        sum += dot(a + i * CHUNK, b + i * CHUNK, min(CHUNK, n - i * CHUNK))
    return sum


def vectors_product(
    a,                              # IN     (size,), float64
    b,                              # IN     (size,)
):
    """Return the inner product of two vectors that are too short for a team, with the bits of vectors_dot."""
    cdef Py_ssize_t size = a.size
    cdef const double *first = <const double *>numbers(a, b"f", sizeof(double), size, False)
    cdef const double *second = <const double *>numbers(b, b"f", sizeof(double), size, False)
    cdef double found
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    found = product(first, second, size)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
    return found


def vectors_largest(
    v,                              # IN     (size,), float64
):
    """Return the largest absolute component, or NaN if there is one; 0 of no component."""
    cdef Py_ssize_t size = v.size
    cdef const double *at = <const double *>numbers(v, b"f", sizeof(double), size, False)
    return largest(at, size)


cdef void add_shares(
    double share, const double *v, const double *shares, const floating *rows, Py_ssize_t count, Py_ssize_t ld,
    Py_ssize_t n, double *out,
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(n):
        out[i] = share * v[i]
    for i in range(count):
        add_share(shares[i], rows + i * ld, n, out)


cdef void all_shares(
    double share, const double *v, const double *shares, const floating *rows, Py_ssize_t count, Py_ssize_t size,
    double *out, int n_threads,
) noexcept nogil:
    """Write share v + sum_i shares_i rows_i; out may be v."""
    cdef Py_ssize_t i, chunks = (size + CHUNK - 1) // CHUNK
    if n_threads == 1:
        for i in range(chunks):
            add_shares(
                share, v + i * CHUNK, shares, rows + i * CHUNK, count, size, min(CHUNK, size - i * CHUNK),
                out + i * CHUNK,
            )
    else:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            add_shares(
                share, v + i * CHUNK, shares, rows + i * CHUNK, count, size, min(CHUNK, size - i * CHUNK),
                out + i * CHUNK,
            )


def vectors_combine(
    double share,
    const double[::1] v,            # IN
    const double[::1] shares,       # IN     (count,)
    const floating[:, ::1] rows,    # IN     (count, size)
    double[::1] out,                # OUT    may be v
    int n_threads,
):
    """Write share v + sum_i shares_i rows_i."""
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    if rows.shape[0] * rows.shape[1] >= RELEASING:
        with nogil:
            all_shares(share, &v[0], &shares[0], &rows[0, 0], rows.shape[0], rows.shape[1], &out[0], n_threads)
    else:
        all_shares(share, &v[0], &shares[0], &rows[0, 0], rows.shape[0], rows.shape[1], &out[0], n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void difference(
    const double *a, const double *b, Py_ssize_t size, floating *out, int n_threads,
) noexcept nogil:
    """Write a - b, rounded to the result's type."""
    cdef Py_ssize_t i
    if n_threads == 1:
        subtract(a, b, size, out)
    else:
        for i in prange((size + CHUNK - 1) // CHUNK, schedule="static", num_threads=n_threads):
            subtract(a + i * CHUNK, b + i * CHUNK, min(CHUNK, size - i * CHUNK), out + i * CHUNK)


def vectors_subtract(
    const double[::1] a,            # IN
    const double[::1] b,            # IN
    floating[::1] out,              # OUT
    int n_threads,
):
    """Write a - b, rounded to the result's type."""
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        difference(&a[0], &b[0], a.shape[0], &out[0], n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def vectors_square(
    rows,                           # IN     vectors (size,), float64
    const double[::1] shares,       # IN     one for each
):
    """Return the sum of squares of sum_i shares_i rows_i, which is nowhere stored."""
    cdef Py_ssize_t size = rows[0].size, count = shares.shape[0], i
    cdef const double *of[MOST]
    cdef double found
    cdef fexcept_t flags
    if not 0 < count == len(rows) <= MOST:
        raise ValueError(f"expected up to {MOST} vectors and as many shares, got {len(rows)} and {count}")
    for i in range(count):
        of[i] = <const double *>numbers(rows[i], b"f", sizeof(double), size, False)
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        found = square(of, &shares[0], count, size)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
    return found


cdef double square(const double **of, const double *shares, Py_ssize_t count, Py_ssize_t size) noexcept nogil:
    """Return the sum of squares of sum_i shares_i of_i."""
    cdef Py_ssize_t i, j, n
    cdef double part[CHUNK]
    cdef double found = 0
    for j in range((size + CHUNK - 1) // CHUNK):
        n = min(CHUNK, size - j * CHUNK)
        memset(part, 0, n * sizeof(double))
        for i in range(count):
            add_share(shares[i], of[i] + j * CHUNK, n, part)
        found += dot(part, part, n)
    return found


cdef void subtract_mean(const double *w, Py_ssize_t count, Py_ssize_t D, floating *out) noexcept nogil:
    cdef double mean[CENTRED]
    cdef Py_ssize_t d = 0, j, k, n
    while d < D:
        n = min(CENTRED, D - d)
        memcpy(mean, w + d, n * sizeof(double))
        for k in range(1, count):
            for j in range(n):
                mean[j] += w[k * D + d + j]
        for j in range(n):
            mean[j] /= count
        for k in range(count):
            for j in range(n):
                out[k * D + d + j] = <floating>(w[k * D + d + j] - mean[j])
        d += n


def less_mean(
    w,                              # IN     (count D,) or more, float64: rows of D numbers
    out,                            # OUT    (count, D), float32 or float64
):
    """Write rows less their mean."""
    cdef Py_ssize_t count = out.shape[0], D = out.shape[1], itemsize = out.itemsize
    cdef const double *rows = <const double *>numbers(w, b"f", sizeof(double), count * D, False)
    cdef void *to = numbers(out, b"f", itemsize, count * D, True)
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    if count * D >= RELEASING:
        with nogil:
            if itemsize == sizeof(float):
                subtract_mean(rows, count, D, <float *>to)
            else:
                subtract_mean(rows, count, D, <double *>to)
    elif itemsize == sizeof(float):
        subtract_mean(rows, count, D, <float *>to)
    else:
        subtract_mean(rows, count, D, <double *>to)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
