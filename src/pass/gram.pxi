# Few rows with many features (softmax_ext/_objective/rows_space.py): X X^T, its factor, and combinations of the rows,
# all in double. Features are cut into slices by their number, and the slices' sums are added in their order.

cdef enum:
    GRAM_FEATURES = 128      # features at a time: transposed, those of 512 rows fill half of the second cache
    GRAM_LANES = 8           # doubles of a vector, at most
    LIFTED = 65536           # elements of X that are widened at a time: half a MiB of doubles


cdef void transpose_doubles(
    const floating *X, Py_ssize_t N, Py_ssize_t D, Py_ssize_t ldx, double *T, Py_ssize_t ldt,
) noexcept nogil:
    """Transpose at most GRAM_FEATURES features of N rows."""
    cdef double wide[GRAM_LANES * GRAM_FEATURES]
    cdef Py_ssize_t i = 0, r, rows
    if floating is double:
        transpose_rows(X, N, D, ldx, T, ldt)
    else:
        while i < N:
            rows = min(lanes_f64, N - i)
            for r in range(rows):
                widen(X + (i + r) * ldx, D, wide + r * GRAM_FEATURES)
            transpose_rows(<const double *>wide, rows, D, GRAM_FEATURES, T + i, ldt)
            i += lanes_f64


cdef void gram_slice(
    const floating *X, Py_ssize_t N, Py_ssize_t D, Py_ssize_t ldx, double *T, double *G, Py_ssize_t ld,
) noexcept nogil:
    """Sum the upper triangle of X X^T over some features."""
    cdef Py_ssize_t d = 0, n
    memset(G, 0, N * ld * sizeof(double))
    while d < D:
        n = min(GRAM_FEATURES, D - d)
        transpose_doubles(X + d, N, n, ldx, T, ld)
        outer_upper(<const double *>T, N, T, ld, n, ld, G)
        d += n


cdef void gram_slices(
    const floating *X, Py_ssize_t N, Py_ssize_t D, Py_ssize_t ldx, double *work, double *sums, Py_ssize_t slices,
    double *G, Py_ssize_t ld, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t i, s, j, begin, size = N * ld
    for s in prange(slices, schedule="dynamic", chunksize=1, num_threads=n_threads):
        begin = D * s // slices
        gram_slice(
            X + begin, N, D * (s + 1) // slices - begin, ldx, work + threadid() * GRAM_FEATURES * ld, sums + s * size,
            ld,
        )
    for i in prange(N, schedule="static", num_threads=n_threads):
        for s in range(slices):
            for j in range(ld):
                G[i * ld + j] += sums[s * size + i * ld + j]


def gram_space(Py_ssize_t N):
    """Return the elements of a row of X X^T, and of each thread's work space."""
    cdef Py_ssize_t ld = whole(N, lanes_f64)
    return ld, GRAM_FEATURES * ld


def gram_add(
    X,                      # IN     (N, D), columns contiguous
    double[:, ::1] G,       # INOUT  (N, ld): X X^T is added to its upper triangle
    double[:, ::1] work,    # WORK   what gram_space says, for each thread
    double[:, :, ::1] sums,  # WORK   (slices, N, ld)
    int n_threads,
):
    """Add X X^T to G."""
    cdef Py_ssize_t N, ldx, D = X.shape[1], itemsize = X.itemsize
    cdef const void *x = rows_of(X, itemsize, D, &N, &ldx)
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            gram_slices(
                <const float *>x, N, D, ldx, &work[0, 0], &sums[0, 0, 0], sums.shape[0], &G[0, 0], G.shape[1],
                n_threads,
            )
        else:
            gram_slices(
                <const double *>x, N, D, ldx, &work[0, 0], &sums[0, 0, 0], sums.shape[0], &G[0, 0], G.shape[1],
                n_threads,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def gram_factor(
    double[:, ::1] G,       # INOUT  (N, ld), upper triangle: becomes U, whose rows without a new direction are 0
    double[::1] T,          # OUT    (N,): G = T^-1 U^T U T^-1
    double[::1] work,       # WORK   as for gram_add
    double new,             # the share of a row's square that must lie in a new direction
):
    """Factor X X^T, of any rank."""
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        factor(&G[0, 0], G.shape[0], G.shape[1], &T[0], new, True, &work[0])
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def gram_coordinates(
    X,                      # IN     None, or (N, D), columns contiguous: X X^T is added to G before
    double[:, ::1] G,       # INOUT  (N, ld), upper triangle, of any rank r: overwritten
    work,                   # WORK   that of gram_add, then N numbers
    sums,                   # WORK   as for gram_add, or None without X
    double new,             # the share of a row's square that must lie in a new direction
    Z,                      # OUT    L (N, r) with L L^T = G, in room for (N, N)
    R,                      # OUT    (r, r), likewise: L^T of the rows that add a direction
    kept,                   # OUT    r numbers of these rows, in room for N
    int n_threads,
    bint turn,              # whether this thread has the turn, and leaves it to others meanwhile
):
    """Factor X X^T, and return its rank r."""
    cdef Py_ssize_t r = 0, ldx = 0, D = 0, itemsize = 0, slices = 0, N = G.shape[0], ld = G.shape[1], size = N * N
    cdef Py_ssize_t space = n_threads * GRAM_FEATURES * ld
    cdef const void *x = NULL
    cdef double *memory = <double *>numbers(work, b"f", sizeof(double), space + N, True)
    cdef double *each = NULL
    cdef double *to_Z = <double *>numbers(Z, b"f", sizeof(double), size, True)
    cdef double *to_R = <double *>numbers(R, b"f", sizeof(double), size, True)
    cdef Py_ssize_t *which = <Py_ssize_t *>numbers(kept, b"i", sizeof(Py_ssize_t), N, True)
    cdef fexcept_t flags
    if X is not None:
        D, itemsize, slices = X.shape[1], X.itemsize, sums.shape[0]
        x = rows_of(X, itemsize, D, &N, &ldx)
        each = <double *>numbers(sums, b"f", sizeof(double), slices * N * ld, True)
        if N != G.shape[0]:
            raise ValueError(f"expected {G.shape[0]} rows, got {N}")
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if turn:
            turn_give()
        if itemsize == sizeof(float):
            gram_slices(<const float *>x, N, D, ldx, memory, each, slices, &G[0, 0], ld, n_threads)
        elif itemsize == sizeof(double):
            gram_slices(<const double *>x, N, D, ldx, memory, each, slices, &G[0, 0], ld, n_threads)
        factor(&G[0, 0], N, ld, memory + space, new, True, memory)
        r = take_coordinates(&G[0, 0], N, ld, memory + space, to_Z, to_R, which)
        if turn:
            turn_take()  # before Python's lock, which another thread may have while it has the turn
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
    return r


cdef Py_ssize_t take_coordinates(
    const double *U, Py_ssize_t N, Py_ssize_t ld, const double *T, double *Z, double *R, Py_ssize_t *kept,
) noexcept nogil:
    """Write T^-1 U^T without the rows of U that are 0, and the square part of that, transposed; return its size."""
    cdef Py_ssize_t i, j, a, r = 0
    for i in range(N):
        if U[i * ld + i] != 0:
            kept[r] = i
            r += 1
    for i in range(N):
        for a in range(r):
            Z[i * r + a] = U[kept[a] * ld + i] / T[i] if kept[a] <= i else 0
    for a in range(r):
        for j in range(r):
            R[a * r + j] = Z[kept[j] * r + a]
    return r


def triangle_solve(
    const double[:, ::1] U,  # IN    (n, n), upper triangle
    double[:, ::1] V,       # INOUT  (count, n): U^-1 v, or U^-T v, for each row
    bint transposed,
):
    """Solve U z = v, or U^T z = v."""
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        solve_triangle(&U[0, 0], U.shape[0], U.shape[1], transposed, &V[0, 0], V.shape[0], V.shape[1])
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void combine_slice(
    const floating *X, Py_ssize_t N, Py_ssize_t D, Py_ssize_t ldx, bint squared, const double *shares, Py_ssize_t M,
    Py_ssize_t sets, double *work, double *out, Py_ssize_t ldo, Py_ssize_t apart,
) noexcept nogil:
    """Combine the rows over some features, which are widened first, so that X is read in the order of memory."""
    cdef Py_ssize_t i, j, ld = whole(D, lanes_f64)
    cdef const double *rows = work
    if floating is double and not squared and ld == D:
        rows, ld = X, ldx
    else:
        for i in range(N):
            widen(X + i * ldx, D, work + i * ld)
            if squared:
                for j in range(D):
                    work[i * ld + j] = work[i * ld + j] * work[i * ld + j]
            memset(work + i * ld + D, 0, (ld - D) * sizeof(double))
    for i in range(sets):
        outer(
            shares + i * M, M, sets * M, rows, whole(D, lanes_f64), ld, N, NULL, out + i * apart, ldo, D, STORE,
        )


cdef void combine_slices(
    const floating *X, Py_ssize_t N, Py_ssize_t D, Py_ssize_t ldx, bint squared, const double *shares, Py_ssize_t M,
    Py_ssize_t sets, double *work, Py_ssize_t space, double *out, Py_ssize_t apart, int n_threads,
) noexcept nogil:
    """Write `sets` sets of M combinations, which are `apart` from one another."""
    cdef Py_ssize_t s, begin, slices = (D - 1) // max(64, LIFTED // N) + 1
    for s in prange(slices, schedule="static", num_threads=n_threads):
        begin = D * s // slices
        combine_slice(
            X + begin, N, D * (s + 1) // slices - begin, ldx, squared, shares, M, sets, work + threadid() * space,
            out + begin, D, apart,
        )


def rows_combine(
    X,                      # IN     (N, D), columns contiguous
    const double[:, ::1] shares,  # IN     (N, M)
    double[:, ::1] out,     # OUT    (M, D): shares^T X
    double[:, ::1] work,    # WORK   (n_threads, combine_space)
    int n_threads,
    bint squared=False,     # whether X's squares are in the place of X
):
    """Write combinations of the rows."""
    cdef Py_ssize_t N, ldx, D = X.shape[1], itemsize = X.itemsize
    cdef const void *x = rows_of(X, itemsize, D, &N, &ldx)
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            combine_slices(
                <const float *>x, N, D, ldx, squared, &shares[0, 0], shares.shape[1], 1, &work[0, 0], work.shape[1],
                &out[0, 0], 0, n_threads,
            )
        else:
            combine_slices(
                <const double *>x, N, D, ldx, squared, &shares[0, 0], shares.shape[1], 1, &work[0, 0], work.shape[1],
                &out[0, 0], 0, n_threads,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def rows_lift(
    X,                      # IN     (N, D), columns contiguous
    const double[:, ::1] R,  # IN     (r, r), r at least 1: see gram_coordinates
    kept,                   # IN     r numbers of rows
    const double[:, ::1] V,  # IN     (M, count r + more): in a row `count` vectors of coordinates, then other numbers
    double[:, ::1] W,       # OUT    (M, count D + more): the combinations of the rows with these coordinates
    work,                   # WORK   lift_space
    Py_ssize_t count,
    int n_threads,
    bint turn,              # whether this thread has the turn, and leaves it to others meanwhile
):
    """Return from coordinates among the rows to their features."""
    cdef Py_ssize_t N, ldx, a, i, m, D = X.shape[1], itemsize = X.itemsize, r = R.shape[0], M = V.shape[0]
    cdef Py_ssize_t more = V.shape[1] - count * r, each = count * r
    cdef const void *x = rows_of(X, itemsize, D, &N, &ldx)
    cdef const Py_ssize_t *which = <const Py_ssize_t *>numbers(kept, b"i", sizeof(Py_ssize_t), r, False)
    cdef Py_ssize_t space = combine_space(N, D)
    cdef double *memory = <double *>numbers(work, b"f", sizeof(double), lift_space(N, D, M * count, n_threads), True)
    cdef double *shares = memory + n_threads * space
    cdef double *solved = shares + N * M * count
    cdef fexcept_t flags
    if more < 0 or W.shape[0] != M or W.shape[1] != count * D + more:
        raise ValueError(f"expected {M} vectors of {count * D + more} numbers")
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if turn:
            turn_give()
        for m in range(M):
            memcpy(solved + m * each, &V[m, 0], each * sizeof(double))
            memcpy(&W[m, 0] + count * D, &V[m, 0] + each, more * sizeof(double))
        solve_triangle(&R[0, 0], r, r, False, solved, M * count, r)
        memset(shares, 0, N * M * count * sizeof(double))
        for a in range(r):
            for i in range(M * count):
                shares[which[a] * M * count + i] = solved[i * r + a]
        if itemsize == sizeof(float):
            combine_slices(
                <const float *>x, N, D, ldx, False, shares, count, M, memory, space, &W[0, 0], W.shape[1], n_threads,
            )
        else:
            combine_slices(
                <const double *>x, N, D, ldx, False, shares, count, M, memory, space, &W[0, 0], W.shape[1], n_threads,
            )
        if turn:
            turn_take()  # before Python's lock, which another thread may have while it has the turn
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cpdef Py_ssize_t lift_space(Py_ssize_t N, Py_ssize_t D, Py_ssize_t vectors, int n_threads):
    """Return the elements of the work space of `rows_lift`."""
    return n_threads * combine_space(N, D) + 2 * N * vectors


cpdef Py_ssize_t combine_space(Py_ssize_t N, Py_ssize_t D):
    """Return the elements of each thread's work space for `rows_combine`."""
    return N * whole(min(D, max(64, LIFTED // N)), lanes_f64)
