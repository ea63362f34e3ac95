# The pass of two classes with one row of coefficients (binomial.h): arrays and CSR rows, both in slices.

cdef class BinomialPlan(SlicedPlan):
    """The cut into slices of rows that have one score each, in each of some models.

    The threads share work space for each model's coefficients of W, and those of V with `second`, in whole vectors.
    Each of them has its own for a tile's scores, those of V, and each model's gradient of a batch. A slot has for each
    model eight sums for the loss, eight for db, which takes the first, then dW.
    """

    cdef readonly bint sparse           # whether X has CSR rows
    cdef readonly Py_ssize_t models     # how many models there are: a visit has a Batch for each
    cdef Py_ssize_t row                 # elements of a row of coefficients
    cdef Py_ssize_t coefficients        # elements that are packed for a model
    cdef Py_ssize_t each                # doubles of a model's sums

    def __init__(
        self, *, Py_ssize_t slices, Py_ssize_t strips, Py_ssize_t batch, bint sparse, Py_ssize_t models=1, **shape,
    ):
        Plan.__init__(self, K=2, **shape)
        self.cut, self.slices, self.strips, self.batch = "slices", slices, strips, batch
        self.sparse, self.doubles = sparse, True
        self.widens, self.scored, self.models = True, 1, models
        self.row = whole(self.D, self.line)
        self.coefficients = self.row * (2 if self.second else 1)
        self.packed = models * self.coefficients
        self.Q = whole(self.tile, 16 * self.line)  # whole steps of exponentials, at every ISA level
        self.work = self.Q * (2 if self.second else 1) + (0 if sparse else models * self.row)
        self.losses = 8
        self.each = self.losses + 8 + whole(self.D, 8)
        self.apart = models * self.each
        self.set_apart()

    cdef int read(self, X, Batch *d) except -1:
        if self.sparse:
            return read_csr(X, self.itemsize, d)
        return DensePlan.read(self, X, d)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return binomial_run(self, d, <float *>work, sums, n_threads)
        return binomial_run(self, d, <double *>work, sums, n_threads)

    cdef void take(
        self, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    ) noexcept nogil:
        if self.itemsize == sizeof(float):
            binomial_strip(self, d, strip, after, <const float *>packed, <float *>own, sums)
        else:
            binomial_strip(self, d, strip, after, <const double *>packed, <double *>own, sums)


cdef floating one_bias(const void *b, bint doubles, const floating *kind) noexcept nogil:
    if b == NULL:
        return 0
    return <floating>(<const double *>b)[0] if doubles else (<const floating *>b)[0]


cdef void pack_one(BinomialPlan p, const void *W, bint doubles, floating *packed) noexcept nogil:
    """Write the row of coefficients in the type of X, with zeros to the end of the last vector."""
    cdef Py_ssize_t j
    for j in range(p.D):
        packed[j] = <floating>(<const double *>W)[j] if doubles else (<const floating *>W)[j]
    for j in range(p.D, p.row):
        packed[j] = 0


cdef const char *last_end(BinomialPlan p, const Batch *d) noexcept nogil:
    """Return where the last row ends, behind which nothing is read."""
    return <const char *>d.x.X + ((d.N - 1) * d.x.ldx + p.D) * d.x.itemsize


cdef const char *score_tile(
    BinomialPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, const floating *w, floating bias, const char *next,
    Py_ssize_t share, floating *z,
) noexcept nogil:
    """Find the scores of n rows; return where it has prefetched to."""
    cdef Py_ssize_t row = d.x.ldx * d.x.itemsize
    if p.sparse:
        one_sparse_scores(
            d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first, n, w, bias, z,
        )
        return NULL
    return one_scores(
        <const char *>d.x.X + first * row, d.x.element, n, p.D, row, last_end(p, d), w, bias, next, share, z,
    )


cdef void binomial_tile(
    BinomialPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, const floating *w, const char *next,
    Py_ssize_t share, floating *z, floating *partial, double *sums,
) noexcept nogil:
    """Do for n rows what a model asks of them, or add them to its sums; fetch `share` bytes a row meanwhile."""
    cdef Py_ssize_t row = d.row + first, bytes = d.x.ldx * d.x.itemsize
    cdef const double *s = NULL if d.t.s == NULL else d.t.s + first
    next = score_tile(p, d, first, n, w, one_bias(d.model.b, d.model.doubles, z), next, share // 2, z)
    if d.kind == HESSIAN:
        score_tile(p, d, first, n, w + p.row, one_bias(d.model.c, d.model.doubles, z), NULL, 0, z + p.Q)
    if d.x.offset != NULL:
        add_offset(d, first, n, p.scored, 1, z)
    if d.kind == PROBABILITIES:
        binomial_posteriors(z, n, <floating *>d.out.S + 2 * row)
    elif d.kind == SCORES:
        memcpy(<floating *>d.out.S + row, z, n * sizeof(floating))
    elif d.kind == HESSIAN:
        binomial_curvatures(z, z + p.Q, n, s)
    else:
        sums[0] += binomial_residuals(
            z, n, NULL if d.t.y == NULL else d.t.y + first,
            NULL if d.t.Y == NULL else <const floating *>d.t.Y + first * d.t.ldy, d.t.ldy, s,
            NULL if d.out.losses == NULL else d.out.losses + 2 * row,
        )
    if not summing(d):
        return
    if d.model.b != NULL:
        sums[p.losses] += sum_of(z, n)
    if p.sparse:
        one_sparse_gradient(
            d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first, n, z, sums + p.losses + 8,
        )
    else:
        one_gradient(
            <const char *>d.x.X + first * bytes, d.x.element, n, p.D, bytes, last_end(p, d), z, next,
            share - share // 2, partial,
        )


cdef void add_batch(BinomialPlan p, floating *partial, double *sums) noexcept nogil:
    """Add the gradients of a batch, in X's type, to each model's sums."""
    cdef Py_ssize_t i, j
    for i in range(p.models):
        for j in range(p.D):
            sums[i * p.each + p.losses + 8 + j] += partial[i * p.row + j]
    memset(partial, 0, p.models * p.row * sizeof(floating))


cdef void binomial_strip(
    BinomialPlan p, const Batch *d, Py_ssize_t strip, Py_ssize_t next_strip, const floating *packed, floating *z,
    double *sums,
) noexcept nogil:
    """Add the rows of a strip to its sums: each model takes a tile while that is in the first cache."""
    cdef Py_ssize_t first = strip_start(p, d, strip), stop = strip_start(p, d, strip + 1), n, i, batched = 0
    cdef Py_ssize_t bytes = d.x.ldx * d.x.itemsize, ahead, row
    cdef floating *partial = z + p.Q * (2 if p.second else 1)
    cdef const char *next
    if summing(d) and not p.sparse:
        memset(partial, 0, p.models * p.row * sizeof(floating))
    while first < stop:
        n = min(p.tile, stop - first)
        row = first + n if first + n < stop else strip_start(p, d, next_strip)
        for i in range(p.models):
            # Each stage of each model fetches its part of the next tile, or of the first one of the next strip.
            ahead, next = bytes * i // p.models, NULL
            if not p.sparse and row + n <= d.N:
                next = <const char *>d.x.X + row * bytes + n * ahead
            binomial_tile(
                p, d + i, first, n, packed + i * p.coefficients, next, bytes * (i + 1) // p.models - ahead, z,
                partial + i * p.row, sums + i * p.each,
            )
        first += n
        if summing(d) and not p.sparse:
            batched += n
            if batched >= p.batch or first == stop:
                add_batch(p, partial, sums)
                batched = 0


cdef Py_ssize_t counted(BinomialPlan p, const Batch *d) noexcept nogil:
    """Return how many doubles of a slot are used."""
    return 0 if not counting(d) else (p.models - 1) * p.each + p.losses + 8 + (p.D if summing(d) else 0)


cdef double binomial_run(
    BinomialPlan p, const Batch *d, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; the last visit leaves the results, and returns the loss."""
    cdef Py_ssize_t i
    if d.first:
        for i in range(p.models):
            pack_one(p, d[i].model.W, d.model.doubles, packed + i * p.coefficients)
            if d.kind == HESSIAN:
                pack_one(p, d[i].model.V, d.model.doubles, packed + i * p.coefficients + p.row)
    take_all(p, d, packed, <char *>(packed + p.packed), sums, counted(p, d), n_threads)
    if not d.last or not counting(d):
        return 0
    for i in range(p.models):
        if summing(d):
            leave_gradient(p, d + i, sums + i * p.each, packed)
        if d[i].out.total != NULL:
            d[i].out.total[0] = sums[i * p.each] * (1 / d[i].loss.m)
    return sums[0] * (1 / d.loss.m)


cdef void leave_gradient(BinomialPlan p, const Batch *d, const double *sums, const floating *kind) noexcept nogil:
    """Leave a model's gradient, or product with its Hessian, from its sums."""
    cdef double scale = 1 / d.loss.m
    cdef const double *along = <const double *>(d.model.V if d.kind == HESSIAN else d.model.W)
    cdef Py_ssize_t j
    for j in range(p.D):
        if d.model.doubles:
            (<double *>d.out.dW)[j] = sums[p.losses + 8 + j] * scale + d.loss.l2 * along[j]
        else:
            (<floating *>d.out.dW)[j] = <floating>(sums[p.losses + 8 + j] * scale)
    if d.out.db != NULL and d.model.doubles:
        (<double *>d.out.db)[0] = sums[p.losses] * scale
    elif d.out.db != NULL:
        (<floating *>d.out.db)[0] = <floating>(sums[p.losses] * scale)
