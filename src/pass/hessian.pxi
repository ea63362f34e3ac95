# The pass for the whole Hessian (hessian.h): a thread takes slices of the rows, or of one tile panels of the blocks.

cdef extern from "float_types.h" nogil:
    void curvatures_of_pair(
        const double *S, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, Py_ssize_t k, Py_ssize_t other, const double *s,
        double *c,
    ) noexcept
    void curvatures_of_rows(
        const double *S, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, const double *s, double *c,
    ) noexcept
    void curvatures_of_two(double *z, Py_ssize_t n, const double *s) noexcept
    void hessian_panel(
        const double *tile, Py_ssize_t n, Py_ssize_t P, Py_ssize_t ldt, const double *c, Py_ssize_t i,
        Py_ssize_t panels, Py_ssize_t begin, Py_ssize_t end, const char *next, Py_ssize_t share, double *H,
    ) noexcept


cdef enum:
    HESSIAN_STEP = 128       # rows that are widened at a time where a tile is shared: whole steps of exponentials
    HESSIAN_SIDE = 192       # rows of the piece of a panel that one of many threads takes: whole panels


cdef class HessianPlan(SlicedPlan):
    """The whole Hessian, all of whose numbers are doubles: in slices of the rows, or with all threads on one tile.

    The threads share work space for W, packed. Each of them has its own for a tile of widened samples, its scores and
    then posteriors, and the curvatures of a pair of classes; without slices, all but the curvatures is shared. Sums,
    for each slice if there are slices, are the upper triangles of the blocks of classes k <= l, in rows of ldt.
    """

    cdef readonly bint sparse           # whether X has CSR rows
    cdef readonly bint binary           # whether there are two classes with one row of coefficients
    cdef Py_ssize_t P                   # parameters of a class
    cdef Py_ssize_t pairs               # how many blocks there are
    cdef Py_ssize_t panels              # how many a block's columns fall into
    cdef Py_ssize_t scores, weights     # doubles of a tile before its scores, and before the curvatures

    def __init__(
        self, *, Py_ssize_t slices, Py_ssize_t strips, bint sparse, bint binary, bint intercept, **shape,
    ):
        Plan.__init__(self, second=False, **shape)
        cdef Py_ssize_t unit = sizeof(double) // self.itemsize, rows = whole(self.tile, HESSIAN_STEP)
        self.cut, self.slices, self.strips, self.sparse, self.binary = "slices", slices, strips, sparse, binary
        self.doubles = True
        self.widens, self.scored = True, 1 if binary else self.K
        self.P = self.D + intercept
        self.pairs = 1 if binary else self.K * (self.K + 1) // 2
        self.ldt = whole(self.P, lanes_f64)
        self.panels = whole(self.ldt // lanes_f64, MAX_V) // MAX_V
        self.ldz = 1 if binary else whole(self.K, lanes_f64) if self.K <= 128 else odd_lines(self.K, 8)
        self.one = whole(self.ldt if binary else self.ldz + self.P * self.ldz, 8)
        self.scores = self.tile * self.ldt
        self.weights = whole(self.scores + rows * self.ldz, 8)
        self.apart = self.pairs * self.P * self.ldt
        self.packed, self.work = self.one, whole(self.tile, 8)
        if slices:
            self.work += self.weights
        else:
            self.packed += self.weights
        self.packed *= unit
        self.work *= unit
        self.set_apart()

    def team(self, int n_threads):
        """Return how many of so many threads have something to do."""
        return min(n_threads, self.slices * self.strips or n_threads) if self.parallel else 1

    cdef int read(self, X, Batch *d) except -1:
        if self.sparse:
            return read_csr(X, self.itemsize, d)
        return DensePlan.read(self, X, d)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return hessian_run(self, d, <float *>work, sums, n_threads)
        return hessian_run(self, d, <double *>work, sums, n_threads)

    cdef void take(
        self, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    ) noexcept nogil:
        if self.itemsize == sizeof(float):
            hessian_strip(self, d, strip, <float *>NULL, <const double *>packed, <double *>own, sums)
        else:
            hessian_strip(self, d, strip, <double *>NULL, <const double *>packed, <double *>own, sums)


cdef void pack_augmented(HessianPlan p, const Batch *d, double *packed) noexcept nogil:
    """Pack the coefficients, an intercept being one of them: as one row, or as `scores` reads them."""
    cdef Py_ssize_t j, k, v, first, V, panels, nv = whole(p.K, lanes_f64) // lanes_f64
    cdef const double *W = <const double *>d.model.W
    cdef const double *b = <const double *>d.model.b
    if p.binary:
        for j in range(p.ldt):
            packed[j] = W[j] if j < p.D else b[0] if j < p.P else 0
        return
    for k in range(p.ldz):
        packed[k] = 0 if k < p.K else -INFINITY
    packed += p.ldz
    panels = whole(nv, MAX_V) // MAX_V
    for v in range(panels):
        first, V = nv * v // panels, nv * (v + 1) // panels - nv * v // panels
        for j in range(p.P):
            for k in range(V * lanes_f64):
                if first * lanes_f64 + k >= p.K:
                    packed[(first * p.P + j * V) * lanes_f64 + k] = 0
                elif j < p.D:
                    packed[(first * p.P + j * V) * lanes_f64 + k] = W[(first * lanes_f64 + k) * p.D + j]
                else:
                    packed[(first * p.P + j * V) * lanes_f64 + k] = b[first * lanes_f64 + k]


cdef void add_scores_offset(
    HessianPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, const floating *kind, double *z,
) noexcept nogil:
    """Add offsets, as `add_offset` does, to scores in double; two classes with one row have one score in a row."""
    if d.x.offset != NULL:
        add_offsets(
            <const floating *>d.x.offset + first * d.x.ldo, n, d.x.offsets, d.x.ldo, z + p.scored - d.x.offsets, p.ldz,
        )


cdef void widen_and_score(
    HessianPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, const floating *kind, const double *packed,
    double *tile, double *z,
) noexcept nogil:
    """Widen n rows of the visit, and find their posteriors; of two classes with one row, their curvatures."""
    cdef bint ones = p.P > p.D
    if p.sparse:
        widen_entries(
            kind, d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first, n, p.D, ones, tile, p.ldt,
        )
    else:
        widen_rows(
            <const char *>d.x.X + first * d.x.ldx * d.x.itemsize, d.x.element, n, p.D, d.x.ldx, ones, kind, tile, p.ldt,
        )
    if p.binary:
        one_scores(
            <const char *>tile, REAL, n, p.ldt, p.ldt * <Py_ssize_t>sizeof(double), <const char *>(tile + n * p.ldt),
            packed, 0, NULL, 0, z,
        )
        add_scores_offset(p, d, first, n, kind, z)
        curvatures_of_two(z, n, NULL if d.t.s == NULL else d.t.s + first)
    else:
        scores(<const double *>tile, n, p.P, p.ldt, packed + p.ldz, packed, NULL, p.K, z, p.ldz)
        add_scores_offset(p, d, first, n, kind, z)
        probabilities(z, n, p.K, p.ldz)


cdef void add_panels(
    HessianPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t pair, Py_ssize_t begin, Py_ssize_t end,
    Py_ssize_t row, Py_ssize_t stop, const double *tile, const double *z, double *c, const char *next,
    Py_ssize_t share, double *H,
) noexcept nogil:
    """Add n rows to some panels of a block: to what these have in the block's rows `row` to `stop`."""
    cdef Py_ssize_t i, k = 0, after = pair
    if not p.binary:
        while after >= p.K - k:  # pairs in the order (0, 0), (0, 1), ...
            after -= p.K - k
            k += 1
        curvatures_of_pair(z, n, p.K, p.ldz, k, k + after, NULL if d.t.s == NULL else d.t.s + first, c)
        z = c
    for i in range(begin, end):
        hessian_panel(tile, n, p.P, p.ldt, z, i, p.panels, row, stop, next, share, H + pair * p.P * p.ldt)
        if next != NULL:
            next += n * share


cdef void add_panel(
    HessianPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t pieces,
    const double *tile, const double *z, double *c, double *H,
) noexcept nogil:
    """Add n rows to one of the pieces of a panel, counted through all blocks."""
    cdef Py_ssize_t i = unit // pieces, nth = unit % pieces, rows = p.P if pieces == 1 else HESSIAN_SIDE
    cdef Py_ssize_t panel = i % p.panels
    add_panels(p, d, first, n, i // p.panels, panel, panel + 1, nth * rows, (nth + 1) * rows, tile, z, c, NULL, 0, H)


cdef void hessian_strip(
    HessianPlan p, const Batch *d, Py_ssize_t strip, const floating *kind, const double *packed, double *tile,
    double *H,
) noexcept nogil:
    """Add the rows of a strip to its sums."""
    cdef Py_ssize_t first = strip_start(p, d, strip), stop = strip_start(p, d, strip + 1), n, pair
    cdef Py_ssize_t share = d.x.ldx * d.x.itemsize // (p.pairs * p.panels)
    cdef double *z = tile + p.scores
    cdef const char *next
    while first < stop:
        n = min(p.tile, stop - first)
        widen_and_score(p, d, first, n, kind, packed, tile, z)
        for pair in range(p.pairs):
            next = NULL
            if not p.sparse and first + 2 * n <= stop:  # each panel fetches its share of the next tile
                next = <const char *>d.x.X + (first + n) * d.x.ldx * d.x.itemsize + pair * p.panels * n * share
            add_panels(p, d, first, n, pair, 0, p.panels, 0, p.P, tile, z, tile + p.weights, next, share, H)
        first += n


cdef void hessian_tiles(
    HessianPlan p, const Batch *d, const floating *kind, const double *packed, double *tile, double *own, double *H,
    int n_threads,
) noexcept nogil:
    """Take the rows of a visit, a tile at a time: threads share out its rows, then the panels, the longest first.

    Many threads share out pieces of the panels. Who sums an entry of H changes no bit of it.
    """
    cdef Py_ssize_t pieces = 1 if p.pairs * p.panels >= 4 * n_threads else whole(p.P, HESSIAN_SIDE) // HESSIAN_SIDE
    cdef Py_ssize_t first = 0, n, i, units = p.pairs * p.panels * pieces
    cdef Py_ssize_t work = p.work * <Py_ssize_t>sizeof(floating) // <Py_ssize_t>sizeof(double)
    cdef double *z = tile + p.scores
    if d.first:
        clear(H, p.pairs * p.P * p.ldt * sizeof(double), n_threads)
    while first < d.N:
        n = min(p.tile, d.N - first)
        for i in prange(0, n, HESSIAN_STEP, schedule="dynamic", chunksize=1, num_threads=n_threads):
            widen_and_score(
                p, d, first + i, min(HESSIAN_STEP, n - i), kind, packed, tile + i * p.ldt, z + i * p.ldz,
            )
        for i in prange(units, schedule="dynamic", chunksize=1, num_threads=n_threads):
            add_panel(p, d, first, n, units - 1 - i, pieces, tile, z, own + threadid() * work, H)
        first += n


cdef double hessian_run(
    HessianPlan p, const Batch *d, floating *work, double *sums, int n_threads,
) noexcept nogil:
    """Take the rows of a visit on all threads; the last visit leaves the matrix."""
    cdef double *packed = <double *>work
    cdef floating *own = work + p.packed
    if d.first:
        pack_augmented(p, d, packed)
    if p.slices:
        take_all(p, d, packed, <char *>own, sums, p.pairs * p.P * p.ldt, n_threads)
    else:
        hessian_tiles(p, d, work, packed, packed + p.one, <double *>own, sums, n_threads)
    if d.last:
        fill_hessian(p, sums, 1 / d.loss.m, <double *>d.out.dW, n_threads)
    return 0


cdef Py_ssize_t place_of(HessianPlan p, Py_ssize_t k, Py_ssize_t j) noexcept nogil:
    """Return where parameter j of class k is in the vector of all: the rows of W, then b."""
    return k * p.D + j if j < p.D else p.scored * p.D + k


cdef void fill_four(
    HessianPlan p, Py_ssize_t k, Py_ssize_t m, Py_ssize_t i, Py_ssize_t j, double value, double *H,
) noexcept nogil:
    """Fill what the parameters i and j have in the block of the classes k and m, and where symmetry has it too."""
    cdef Py_ssize_t size = p.scored * p.P
    cdef Py_ssize_t ki = place_of(p, k, i), kj = place_of(p, k, j), mi = place_of(p, m, i), mj = place_of(p, m, j)
    H[ki * size + mj] = H[kj * size + mi] = H[mi * size + kj] = H[mj * size + ki] = value


cdef void fill_rows(HessianPlan p, const double *sums, double scale, Py_ssize_t i, double *H) noexcept nogil:
    """Fill what row i of each block's triangle has in the symmetric matrix of all parameters."""
    cdef Py_ssize_t k, m, j, pair = 0
    for k in range(p.scored):
        for m in range(k, p.scored):
            for j in range(i, p.P):
                fill_four(p, k, m, i, j, sums[(pair * p.P + i) * p.ldt + j] * scale, H)
            pair += 1


cdef void fill_hessian(HessianPlan p, const double *sums, double scale, double *H, int n_threads) noexcept nogil:
    """Fill the symmetric matrix of all parameters from the triangles of its blocks."""
    cdef Py_ssize_t i
    if p.pairs * p.P * p.P < TOGETHER:
        for i in range(p.P):
            fill_rows(p, sums, scale, i, H)
    else:
        for i in prange(p.P, schedule="dynamic", chunksize=8, num_threads=n_threads):
            fill_rows(p, sums, scale, i, H)


cdef void scale_hessian(
    const double *H, Py_ssize_t n, Py_ssize_t classes, Py_ssize_t D, bint ones, double share, double *scale, double *A,
) noexcept nogil:
    """Write the scaled matrix; `share` of what a diagonal would be without the feature's mean is added before."""
    cdef Py_ssize_t i, j, k, b
    cdef double own, with_one, weight
    for i in range(n):
        scale[i] = H[i * n + i]
    if share > 0:
        for k in range(classes):
            b = classes * D + k
            for i in range(k * D, (k + 1) * D):
                own = H[i * n + i]
                if ones:
                    with_one, weight = H[i * n + b], max(H[b * n + b], DBL_MIN)
                    own -= with_one * (with_one / weight)
                if own > 0:
                    scale[i] = scale[i] + share * own
    for i in range(n):
        own = scale[i]
        scale[i] = 1 / sqrt(max(own, DBL_MIN))
        for j in range(n):
            A[i * n + j] = H[i * n + j]
        A[i * n + i] = own
    for i in range(n):
        for j in range(n):
            A[i * n + j] = A[i * n + j] * scale[j] * scale[i]


def hessian_scale(
    H,                      # IN     (n, n), float64
    scale,                  # OUT    (n,): what rows and columns are multiplied by
    A,                      # OUT    (n, n): the matrix with a diagonal of 1
    Py_ssize_t classes,     # with D weights each, and behind these an intercept of each if there are `ones`
    Py_ssize_t D,
    bint ones,
    double share,           # of a feature's second derivative, as if its mean were 0, that is added to it before
):
    """Scale a Hessian to a diagonal of 1."""
    cdef Py_ssize_t n = H.shape[0]
    cdef const double *given = <const double *>numbers(H, b"f", sizeof(double), n * n, False)
    cdef double *to_scale = <double *>numbers(scale, b"f", sizeof(double), n, True)
    cdef double *to = <double *>numbers(A, b"f", sizeof(double), n * n, True)
    cdef fexcept_t flags
    if share > 0 and classes * (D + ones) != n:
        raise ValueError(f"expected a Hessian of {classes * (D + ones)} parameters, got {n}")
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    scale_hessian(given, n, classes, D, ones, share, to_scale, to)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
