# Classes have owners: the cut of a pass whose gradient is too large for a copy in each slice.

cdef enum:
    GRANULE = 16             # rows of a tile that are copied at a time, or turned into what the pass is for


cdef class OwnedPlan(DensePlan):
    """All threads work on one tile; who takes a part of the classes owns its columns of Z and its rows of dW.

    The threads share work space for a tile's buffer, with its samples once more in panels of features; each of them has
    its own for W of a part, packed, and then for the residuals of some of its classes. There are sums for the losses of
    a tile's rows, GRANULE at a time, then for db, then for dW if it is summed in double.

    Many threads share out pieces of the parts: rows of the scores, panels of the gradient.
    """

    cdef readonly Py_ssize_t classes    # how many a part has
    cdef readonly Py_ssize_t parts      # how many lie between two looks for Ctrl-C within a tile; 0 without such looks
    cdef Py_ssize_t panels              # where in the tile's buffer the panels begin

    def __init__(self, *, Py_ssize_t classes, Py_ssize_t parts, bint doubles, **shape):
        Plan.__init__(self, **shape)
        self.cut, self.classes, self.parts, self.copied, self.doubles = "owned", classes, parts, True, doubles
        self.lay_out(classes)
        self.panels = self.after
        self.after += whole(self.tile * whole(self.D, self.L), self.line)
        self.work = max(self.one, whole(self.tile * min(TALL_MOST, classes) + self.L, self.line))
        self.losses = whole(self.tile // GRANULE + 1, 8)
        self.shared = self.after + self.line
        self.sums = self.losses + self.gradient()
        self.find_single(0)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return owned_run(self, d, <float *>work, sums, n_threads)
        return owned_run(self, d, <double *>work, sums, n_threads)


cdef Py_ssize_t pieces_of(Py_ssize_t parts, Py_ssize_t most, int n_threads) noexcept nogil:
    """Return into how many pieces each of some parts is cut for so many threads: no bit depends on it."""
    return max(1, min(most, (2 * n_threads + parts - 1) // parts))


cdef void owned_scores(
    OwnedPlan p, const void *W, const void *b, floating beyond, Py_ssize_t r, Py_ssize_t end, Py_ssize_t i,
    const floating *copy, floating *packed, floating *Z,
) noexcept nogil:
    """Find the scores of a tile's rows r to end for part i of the classes, whose W is packed on the way."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k)
    pack(p, W, b, k, classes, beyond, packed)
    while r < end:
        score_rows(p, copy + r * p.ldt, p.ldt, min(p.rows, end - r), packed, classes, NULL, Z + r * p.ldz + k)
        r += p.rows


cdef void score_piece(
    OwnedPlan p, const Batch *d, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t pieces, const floating *copy,
    floating *packed, floating *Z,
) noexcept nogil:
    """Find one of the pieces of a part's scores: those of some of the tile's n rows."""
    cdef Py_ssize_t i = unit // pieces, nth = unit % pieces, groups = whole(n, p.rows) // p.rows
    cdef Py_ssize_t r = nth * groups // pieces * p.rows, end = min(n, (nth + 1) * groups // pieces * p.rows)
    owned_scores(p, d.model.W, d.model.b, <floating>-INFINITY, r, end, i, copy, packed, Z)
    if d.kind == HESSIAN:
        owned_scores(p, d.model.V, d.model.c, <floating>0, r, end, i, copy, packed, Z + p.Q)


cdef void owned_gradient(
    OwnedPlan p, const Batch *d, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t pieces, const floating *samples, floating *Z,
    floating *packed, double *db, void *dW, bint fresh,
) noexcept nogil:
    """Add one of the pieces of a part's gradient: that of some panels of features, and with the first one db."""
    cdef Py_ssize_t i = unit // pieces, nth = unit % pieces, panel = MAX_V * p.L
    cdef Py_ssize_t k = i * p.classes, stop = min(p.K, k + p.classes), panels = whole(p.D, panel) // panel, some
    if d.model.b != NULL and nth == 0:
        add_columns(Z + k, n, stop - k, p.ldz, db + k)
    while k < stop:
        some = min(TALL_MOST, stop - k)
        owned_block(
            p, n, k, some, nth * panels // pieces, (nth + 1) * panels // pieces, samples, Z + k, packed, dW, fresh,
        )
        k += some


cdef void owned_block(
    OwnedPlan p, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes, Py_ssize_t start, Py_ssize_t end,
    const floating *samples, const floating *R, floating *packed, void *dW, bint fresh,
) noexcept nogil:
    """Add to rows k to k + classes of the gradient, for panels start to end of the features.

    Rows of R lie far apart, and each panel reads all of them: so they are packed, unless panels are few. Where several
    threads share the panels, each of them packs, so that it has to have more of them.
    """
    cdef Py_ssize_t ldr = p.ldz, panel = MAX_V * p.L
    if end - start > (2 if (end - start) * panel >= p.D else 4):
        pack_columns(R, n, classes, p.ldz, packed)
        R, ldr = packed, 0
    if p.doubles:
        outer_tall(
            R, classes, ldr, samples, p.D, n, start, end, <double *>dW + k * p.ldw, p.ldw, p.columns, ADD_DOUBLE,
        )
    else:
        outer_tall(
            R, classes, ldr, samples, p.D, n, start, end, <floating *>dW + k * p.D, p.D, p.D, STORE if fresh else ADD,
        )


cdef void copy_granule(
    OwnedPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, floating *copy, floating *samples,
) noexcept nogil:
    """Copy some of the tile's n rows, from r on, and once more into panels if there will be a gradient."""
    cdef Py_ssize_t end = min(r + GRANULE, n)
    copy_rows(
        <const char *>d.x.X + (first + r) * d.x.ldx * d.x.itemsize, d.x.element, end - r, p.D, d.x.ldx,
        copy + r * p.ldt, p.ldt,
    )
    if summing(d):
        pack_samples(copy, p.D, p.ldt, n, r, end, samples)


cdef void owned_input_gradient(
    OwnedPlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t unit, Py_ssize_t pieces, Py_ssize_t begin,
    Py_ssize_t features, const floating *R, floating *copy,
) noexcept nogil:
    """Write dX of some features, counted from `begin` on, and of one of the pieces of the tile's rows."""
    cdef Py_ssize_t j = begin + unit // pieces * features, nth = unit % pieces
    cdef Py_ssize_t r = nth * n // pieces, rows = (nth + 1) * n // pieces - r
    input_gradient(p, d, first + r, rows, j, min(features, p.D - j), R + r * p.ldz, copy + r * p.ldt)


cdef double owned_run(OwnedPlan p, const Batch *d, floating *Z, double *sums, int n_threads) except? -1 nogil:
    """Take a visit's rows, a tile at a time on all threads; the last visit leaves the results, and returns the loss."""
    cdef floating *copy = Z + p.copy
    cdef floating *samples = Z + p.panels
    cdef floating *own = Z + p.after
    cdef double *db = sums + p.losses
    cdef void *dW = <void *>(db + whole(p.K, 8)) if p.doubles else d.out.dW
    cdef Py_ssize_t i, n, k, end, first = 0, parts = whole(p.K, p.classes) // p.classes, panel = MAX_V * p.L
    cdef Py_ssize_t together = p.parts if p.parts else parts
    cdef Py_ssize_t features = whole((p.D + 15) // 16, panel)  # a part of dX has whole panels of these
    cdef Py_ssize_t stride = min(p.D, features * max(1, 16 * p.parts // parts) if p.parts else p.D)
    cdef Py_ssize_t granules = 4 if n_threads <= FEW else 1  # those that a thread takes at a time
    cdef Py_ssize_t most = whole(min(p.tile, d.N), p.rows) // p.rows // 2  # pieces of the rows, of two groups or more
    cdef Py_ssize_t of_scores = pieces_of(min(together, parts), most, n_threads)
    cdef Py_ssize_t of_gradient = pieces_of(min(together, parts), whole(p.D, panel) // panel, n_threads)
    cdef Py_ssize_t of_input = pieces_of(whole(stride, features) // features, most, n_threads)
    if d.first and counting(d):
        clear(sums, p.sums * sizeof(double), n_threads)
    while first < d.N:
        n = min(p.tile, d.N - first)
        for i in prange(0, n, GRANULE, schedule="dynamic", chunksize=granules, num_threads=n_threads):
            copy_granule(p, d, first, i, n, copy, samples)
        k = 0
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k * of_scores, end * of_scores, schedule="dynamic", chunksize=1, num_threads=n_threads):
                score_piece(p, d, n, i, of_scores, copy, own + threadid() * p.work, Z)
            if p.parts:
                look_for_interrupt()
            k = end
        for i in prange(0, n, GRANULE, schedule="dynamic", chunksize=granules, num_threads=n_threads):
            finish_rows(p, d, first, i, min(GRANULE, n - i), Z, sums + i // GRANULE)
        k = 0 if summing(d) else parts  # now for the gradient
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k * of_gradient, end * of_gradient, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_gradient(
                    p, d, n, i, of_gradient, samples, Z, own + threadid() * p.work, db, dW, d.first and first == 0,
                )
            if p.parts:
                look_for_interrupt()
            k = end
        k = 0 if d.out.dX != NULL else p.D
        while k < p.D:
            end = min(k + stride, p.D)
            for i in prange(
                0, whole(end - k, features) // features * of_input, schedule="dynamic", chunksize=1,
                num_threads=n_threads,
            ):
                owned_input_gradient(p, d, first, n, i, of_input, k, features, Z, copy)
            if p.parts:
                look_for_interrupt()
            k = end
        first += n
    if not d.last or not counting(d):
        return 0
    return divide(p, sums, d.loss.m, <floating *>d.out.dW, <floating *>d.out.db, n_threads)
