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


cdef class Factoring(Call):
    """Multiplies the rows with one another, X X^T, and factors that; `rank` is its rank then."""

    cdef const void *X
    cdef Py_ssize_t N, D, ldx, ld, slices
    cdef Py_ssize_t itemsize    # of X, or 0: X X^T is in G already
    cdef double *G
    cdef double *work
    cdef double *sums
    cdef double *Z
    cdef double *R
    cdef double *T
    cdef Py_ssize_t *kept
    cdef double new
    cdef int n_threads
    cdef tuple held         # the arrays, which must live as long
    cdef readonly Py_ssize_t rank

    def __init__(
        self,
        X,                      # IN     None, or (N, D), columns contiguous: X X^T is added to G before
        G,                      # INOUT  (N, ld), upper triangle, of any rank r: overwritten
        work,                   # WORK   that of gram_add, then N numbers
        sums,                   # WORK   as for gram_add, or None without X
        double new,             # the share of a row's square that must lie in a new direction
        Z,                      # OUT    L (N, r) with L L^T = G, in room for (N, N)
        R,                      # OUT    (r, r), likewise: L^T of the rows that add a direction
        kept,                   # OUT    r numbers of these rows, in room for N
        int n_threads,
    ):
        cdef Py_ssize_t N = G.shape[0], space, rows
        self.N, self.ld, self.new, self.n_threads = N, G.shape[1], new, n_threads
        self.held = X, G, work, sums, Z, R, kept
        space = n_threads * GRAM_FEATURES * self.ld
        self.G = <double *>numbers(G, b"f", sizeof(double), N * self.ld, True)
        self.work = <double *>numbers(work, b"f", sizeof(double), space + N, True)
        self.T = self.work + space
        self.Z = <double *>numbers(Z, b"f", sizeof(double), N * N, True)
        self.R = <double *>numbers(R, b"f", sizeof(double), N * N, True)
        self.kept = <Py_ssize_t *>numbers(kept, b"i", sizeof(Py_ssize_t), N, True)
        if X is None:
            return
        self.D, self.itemsize, self.slices = X.shape[1], X.itemsize, sums.shape[0]
        self.X = rows_of(X, self.itemsize, self.D, &rows, &self.ldx)
        self.sums = <double *>numbers(sums, b"f", sizeof(double), self.slices * N * self.ld, True)
        if rows != N:
            raise ValueError(f"expected {N} rows, got {rows}")

    cdef int run(self) except -1 nogil:
        if self.itemsize == sizeof(float):
            gram_slices(
                <const float *>self.X, self.N, self.D, self.ldx, self.work, self.sums, self.slices, self.G, self.ld,
                self.n_threads,
            )
        elif self.itemsize == sizeof(double):
            gram_slices(
                <const double *>self.X, self.N, self.D, self.ldx, self.work, self.sums, self.slices, self.G, self.ld,
                self.n_threads,
            )
        factor(self.G, self.N, self.ld, self.T, self.new, True, self.work)
        self.rank = take_coordinates(self.G, self.N, self.ld, self.T, self.Z, self.R, self.kept)
        return 0


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


cdef class Lifting(Call):
    """Returns from coordinates among the rows to their features."""

    cdef const void *X
    cdef Py_ssize_t N, D, ldx, itemsize, r, M, count, ldv, ldw
    cdef const double *R
    cdef const Py_ssize_t *kept
    cdef const double *V
    cdef double *W
    cdef double *work
    cdef int n_threads
    cdef tuple held         # the arrays, which must live as long

    def __init__(
        self,
        X,                      # IN     (N, D), columns contiguous
        R,                      # IN     (r, r), r at least 1: see Factoring
        kept,                   # IN     r numbers of rows
        V,                      # IN     (M, count r + more): in a row `count` vectors of coordinates, then others
        W,                      # OUT    (M, count D + more): the combinations of the rows with these coordinates
        Py_ssize_t count,
        int n_threads,
    ):
        self.D, self.itemsize, self.r, self.M, self.count = X.shape[1], X.itemsize, R.shape[0], V.shape[0], count
        self.ldv, self.ldw, self.n_threads, self.held = V.shape[1], W.shape[1], n_threads, (X, R, kept, V, W)
        if self.ldv < count * self.r or self.ldw - count * self.D != self.ldv - count * self.r:
            raise ValueError(f"expected {self.M} vectors of {count * self.D + self.ldv - count * self.r} numbers")
        self.X = rows_of(X, self.itemsize, self.D, &self.N, &self.ldx)
        self.R = <const double *>numbers(R, b"f", sizeof(double), self.r * self.r, False)
        self.kept = <const Py_ssize_t *>numbers(kept, b"i", sizeof(Py_ssize_t), self.r, False)
        self.V = <const double *>numbers(V, b"f", sizeof(double), self.M * self.ldv, False)
        self.W = <double *>numbers(W, b"f", sizeof(double), self.M * self.ldw, True)

    def use(self, space):
        """Take a work space of `lift_space`."""
        cdef Py_ssize_t size = lift_space(self.N, self.D, self.M * self.count, self.n_threads)
        self.work = <double *>numbers(space.work, b"f", sizeof(double), size, True)

    cdef int run(self) except -1 nogil:
        cdef Py_ssize_t a, i, m, each = self.count * self.r, vectors = self.M * self.count
        cdef Py_ssize_t space = combine_space(self.N, self.D)
        cdef double *shares = self.work + self.n_threads * space
        cdef double *solved = shares + self.N * vectors
        cdef const double *v
        for m in range(self.M):
            v = self.V + m * self.ldv
            memcpy(solved + m * each, v, each * sizeof(double))
            memcpy(self.W + m * self.ldw + self.count * self.D, v + each, (self.ldv - each) * sizeof(double))
        solve_triangle(self.R, self.r, self.r, False, solved, vectors, self.r)
        memset(shares, 0, self.N * vectors * sizeof(double))
        for a in range(self.r):
            for i in range(vectors):
                shares[self.kept[a] * vectors + i] = solved[i * self.r + a]
        if self.itemsize == sizeof(float):
            combine_slices(
                <const float *>self.X, self.N, self.D, self.ldx, False, shares, self.count, self.M, self.work, space,
                self.W, self.ldw, self.n_threads,
            )
        else:
            combine_slices(
                <const double *>self.X, self.N, self.D, self.ldx, False, shares, self.count, self.M, self.work, space,
                self.W, self.ldw, self.n_threads,
            )
        return 0


cpdef Py_ssize_t lift_space(Py_ssize_t N, Py_ssize_t D, Py_ssize_t vectors, int n_threads) noexcept nogil:
    """Return the elements of the work space of `Lifting`."""
    return n_threads * combine_space(N, D) + 2 * N * vectors


cpdef Py_ssize_t combine_space(Py_ssize_t N, Py_ssize_t D) noexcept nogil:
    """Return the elements of each thread's work space for `rows_combine`."""
    return N * whole(min(D, max(64, LIFTED // N)), lanes_f64)
