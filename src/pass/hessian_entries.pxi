# The whole Hessian from the entries of CSR rows (hessian_entries.h): threads share out a tile's rows, then features.
cdef enum:
    SIDE_OF_FILL = 32        # rows and columns of a square of the matrix that is filled together with its mirror


cdef class EntriesPlan(HessianPlan):
    """The whole Hessian of CSR rows whose entries are few beside their features; all numbers are doubles.

    All work space is shared: a bias and W transposed; a tile's scores and then posteriors; the curvatures of its rows
    for all pairs of classes. The sums are the triangle of `hessian_entries.h`.
    """

    def __init__(self, *, bint binary, bint intercept, **shape):
        Plan.__init__(self, second=False, **shape)
        cdef Py_ssize_t unit = sizeof(double) // self.itemsize, rows = whole(self.tile, HESSIAN_STEP)
        self.cut, self.sparse, self.binary, self.doubles = "owned", True, binary, True
        self.scored = 1 if binary else self.K
        self.P = self.D + intercept
        self.pairs = 1 if binary else self.K * (self.K + 1) // 2
        self.ldz = 1 if binary else whole(self.K, lanes_f64)
        self.one = whole((1 + self.D) * self.ldz, 8)
        self.scores = self.one
        self.weights = self.scores + whole(rows * self.ldz, 8)
        self.sums = self.P * (self.P + 1) // 2 * self.pairs
        self.shared = unit * (self.weights + (0 if binary else self.tile * self.pairs)) + self.line
        self.find_single(0)

    cdef int read(self, X, Batch *d) except -1:
        read_csr(X, self.itemsize, d)
        if d.x.element != REAL:
            raise ValueError(f"{X.dtype} needs a plan that widens entries")
        return 0

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return entries_run(self, d, <float *>NULL, <double *>work, sums, n_threads)
        return entries_run(self, d, <double *>NULL, <double *>work, sums, n_threads)


cdef void score_entries(
    EntriesPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, const floating *kind, const double *packed,
    double *z, double *c,
) noexcept nogil:
    """Find the curvatures of n rows of the visit for all pairs of classes; for two classes with one row, in z."""
    cdef const double *s = NULL if d.t.s == NULL else d.t.s + first
    entry_scores(
        <const floating *>d.x.data, d.x.indices, d.x.wide, d.x.indptr + first, n, packed + p.ldz, packed, p.ldz, z,
    )
    add_scores_offset(p, d, first, n, kind, z)
    if p.binary:
        curvatures_of_two(z, n, s)
    else:
        probabilities(z, n, p.K, p.ldz)
        curvatures_of_rows(z, n, p.K, p.ldz, s, c)


cdef double entries_run(
    EntriesPlan p, const Batch *d, const floating *kind, double *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the rows of a visit, a tile at a time on all threads; the last visit leaves the matrix."""
    cdef const double *W = <const double *>d.model.W
    cdef const double *b = <const double *>d.model.b
    cdef double *z = packed + p.scores
    cdef double *c = z if p.binary else packed + p.weights
    cdef Py_ssize_t first = 0, n, i, j, k, squares = whole(p.P, SIDE_OF_FILL) // SIDE_OF_FILL
    if d.first:
        for k in range(p.ldz):
            packed[k] = -INFINITY if k >= p.scored else 0 if b == NULL else b[k]
            for j in range(p.D):
                packed[(1 + j) * p.ldz + k] = 0 if k >= p.scored else W[k * p.D + j]
        clear(sums, p.sums * sizeof(double), n_threads)
    while first < d.N:
        n = min(p.tile, d.N - first)
        for i in prange(0, n, HESSIAN_STEP, schedule="dynamic", chunksize=1, num_threads=n_threads):
            score_entries(
                p, d, first + i, min(HESSIAN_STEP, n - i), kind, packed, z + i * p.ldz, c + i * p.pairs,
            )
        for i in prange(n_threads, schedule="static", num_threads=n_threads):
            entry_products(
                <const floating *>d.x.data, d.x.indices, d.x.wide, d.x.indptr + first, n, p.P, p.D, c, p.pairs, i,
                n_threads, sums,
            )
        first += n
    if d.last:
        for i in prange(squares, schedule="dynamic", chunksize=1, num_threads=n_threads):
            fill_entries(p, sums, 1 / d.loss.m, i * SIDE_OF_FILL, <double *>d.out.dW)
    return 0


cdef void fill_entries(
    EntriesPlan p, const double *sums, double scale, Py_ssize_t first, double *H,
) noexcept nogil:
    """Fill some rows of the symmetric matrix of all parameters, and their mirror, by squares, so that both are near."""
    cdef Py_ssize_t last = min(p.P, first + SIDE_OF_FILL), begin = first, i, j
    while begin < p.P:
        for i in range(first, last):
            for j in range(max(i, begin), min(p.P, begin + SIDE_OF_FILL)):
                fill_place(p, sums + (i * (2 * p.P - i - 1) // 2 + j) * p.pairs, scale, i, j, H)
        begin += SIDE_OF_FILL


cdef void fill_place(
    EntriesPlan p, const double *sums, double scale, Py_ssize_t i, Py_ssize_t j, double *H,
) noexcept nogil:
    """Fill what two features have in the blocks of all pairs of classes."""
    cdef Py_ssize_t k, m, pair = 0
    for k in range(p.scored):
        for m in range(k, p.scored):
            fill_four(p, k, m, i, j, sums[pair] * scale, H)
            pair += 1
