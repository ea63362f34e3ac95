# Classes have owners: the cut of a pass whose gradient is too large for a copy in each slice.

cdef class OwnedPlan(DensePlan):
    """All threads work on one tile; who takes a part of the classes owns its columns of Z and its rows of dW.

    The threads share work space for a tile's buffer; each of them has its own for W of a part, packed. There are sums
    for the losses of a tile's rows, `rows` at a time, then for db, then for dW if it is summed in double.
    """

    cdef readonly Py_ssize_t classes    # how many a part has
    cdef readonly Py_ssize_t parts      # how many lie between two looks for Ctrl-C within a tile; 0 without such looks

    def __init__(self, *, Py_ssize_t classes, Py_ssize_t parts, bint doubles, **shape):
        Plan.__init__(self, **shape)
        self.cut, self.classes, self.parts, self.copied, self.doubles = "owned", classes, parts, True, doubles
        self.lay_out(classes)
        self.work = self.one
        self.losses = max(8, whole(self.tile // self.rows + 1, 8))
        self.shared = self.after + self.line
        self.sums = self.losses + self.gradient()
        self.find_single(0)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return owned_run(self, d, <float *>work, sums, n_threads)
        return owned_run(self, d, <double *>work, sums, n_threads)


cdef void owned_scores(
    OwnedPlan p, const void *W, const void *b, floating beyond, Py_ssize_t n, Py_ssize_t i, const floating *copy,
    floating *packed, floating *Z,
) noexcept nogil:
    """Find the scores of a tile for part i of the classes, whose W is packed on the way."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k), r = 0
    pack(p, W, b, k, classes, beyond, packed)
    while r < n:
        score_rows(p, copy + r * p.ldt, p.ldt, min(p.rows, n - r), packed, classes, NULL, Z + r * p.ldz + k)
        r += p.rows


cdef void owned_gradient(
    OwnedPlan p, const Batch *d, Py_ssize_t n, Py_ssize_t i, const floating *copy, floating *Z, double *db, void *dW,
    bint fresh,
) noexcept nogil:
    """Add to the rows of dW and of db that belong to part i of the classes."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k)
    if d.model.b != NULL:
        add_columns(Z + k, n, classes, p.ldz, db + k)
    if p.doubles:
        outer(
            Z + k, classes, p.ldz, copy, p.columns, p.ldt, n, NULL, <double *>dW + k * p.ldw, p.ldw, p.ldw, ADD_DOUBLE,
        )
    else:
        outer(
            Z + k, classes, p.ldz, copy, p.columns, p.ldt, n, NULL, <floating *>dW + k * p.D, p.D, p.D,
            STORE if fresh else ADD,
        )


cdef double owned_run(OwnedPlan p, const Batch *d, floating *Z, double *sums, int n_threads) except? -1 nogil:
    """Take a visit's rows, a tile at a time on all threads; the last visit leaves the results, and returns the loss."""
    cdef floating *copy = Z + p.copy
    cdef floating *own = Z + p.after
    cdef const char *X = <const char *>d.x.X
    cdef Py_ssize_t row = d.x.ldx * d.x.itemsize
    cdef double *db = sums + p.losses
    cdef void *dW = <void *>(db + whole(p.K, 8)) if p.doubles else d.out.dW
    cdef Py_ssize_t i, n, visits, k, end, first = 0, parts = whole(p.K, p.classes) // p.classes
    cdef Py_ssize_t together = p.parts if p.parts else parts
    cdef Py_ssize_t features = whole((p.D + 15) // 16, MAX_V * lanes(Z))  # a part of dX has whole panels of these
    if d.first and counting(d):
        memset(sums, 0, p.sums * sizeof(double))
    while first < d.N:
        n = min(p.tile, d.N - first)
        visits = whole(n, p.rows) // p.rows
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            copy_rows(
                X + (first + i * p.rows) * row, d.x.element, min(p.rows, n - i * p.rows), p.D, d.x.ldx,
                copy + i * p.rows * p.ldt, p.ldt,
            )
        k = 0
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_scores(
                    p, d.model.W, d.model.b, <floating>-INFINITY, n, i, copy, own + threadid() * p.work, Z,
                )
                if d.kind == HESSIAN:
                    owned_scores(
                        p, d.model.V, d.model.c, <floating>0, n, i, copy, own + threadid() * p.work, Z + p.Q,
                    )
            if p.parts:
                look_for_interrupt()
            k = end
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            finish_rows(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), Z, sums + i)
        k = 0 if summing(d) else parts  # now for the gradient
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_gradient(p, d, n, i, copy, Z, db, dW, d.first and first == 0)
            if p.parts:
                look_for_interrupt()
            k = end
        k = 0 if d.out.dX != NULL else p.D
        while k < p.D:
            end = min(k + (features * max(1, 16 * p.parts // parts) if p.parts else p.D), p.D)
            for i in prange(k, end, features, schedule="dynamic", chunksize=1, num_threads=n_threads):
                input_gradient(p, d, first, n, i, min(features, p.D - i), Z, copy)
            if p.parts:
                look_for_interrupt()
            k = end
        first += n
    if not d.last or not counting(d):
        return 0
    return divide(p, sums, d.loss.m, <floating *>d.out.dW, <floating *>d.out.db)
