# CSR rows of few classes in slices: each slice has a gradient of its own, transposed, to which its rows are added
# directly. Owners of features (sparse.pxi) each read all indices; see "Sparse rows in slices" in docs/notes.md.

cdef class SparseSlicesPlan(SlicedPlan):
    """The cut of CSR rows into slices, for all classes at once, with sums in double.

    The threads share Wt, and Vt with `second`, laid out as `rows_plan` has them. Each of them has its own for a tile's
    buffer. A slot has eight sums for the loss, of which it takes the first, then db, then dWt.
    """

    cdef SparsePlan rows_plan           # how a tile's scores and residuals are computed, and dWt becomes dW

    def __init__(self, *, Py_ssize_t slices, Py_ssize_t strips, **shape):
        Plan.__init__(self, **shape)
        self.rows_plan = SparsePlan(classes=self.K, doubles=True, **shape)
        self.cut, self.slices, self.strips, self.batch = "slices", slices, strips, 1
        self.doubles, self.transposed, self.widens = True, True, True
        self.packed = self.rows_plan.one * (2 if self.second else 1)
        self.work = self.buffer() + self.line
        self.losses = 8
        self.columns = self.ldw = self.rows_plan.ldw
        self.apart = self.losses + self.gradient()
        self.set_apart()

    cdef int read(self, X, Batch *d) except -1:
        return read_csr(X, self.itemsize, d)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return sparse_slices_run(self, self.rows_plan, d, <float *>work, sums, n_threads)
        return sparse_slices_run(self, self.rows_plan, d, <double *>work, sums, n_threads)

    cdef void take(
        self, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    ) noexcept nogil:
        if self.itemsize == sizeof(float):
            sparse_strip(self, self.rows_plan, d, strip, <const float *>packed, <float *>own, sums)
        else:
            sparse_strip(self, self.rows_plan, d, strip, <const double *>packed, <double *>own, sums)


cdef void sparse_strip(
    SparseSlicesPlan p, SparsePlan rows_plan, const Batch *d, Py_ssize_t i, const floating *packed, floating *own,
    double *sums,
) noexcept nogil:
    """Add the rows of strip i to its sums."""
    cdef floating *Z = <floating *>aligned(own)
    cdef double *db = sums + p.losses
    cdef double *dWt = db + whole(p.K, 8)
    cdef Py_ssize_t first = strip_start(p, d, i), stop = strip_start(p, d, i + 1), n
    while first < stop:
        n = min(p.tile, stop - first)
        sparse_rows(rows_plan, d, first, 0, n, packed, Z, sums, db)
        if summing(d):
            add_sparse_rows(
                d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first, n, Z, p.ldz, p.K, dWt, p.ldw,
            )
        first += n


cdef double sparse_slices_run(
    SparseSlicesPlan p, SparsePlan rows_plan, const Batch *d, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; the last visit leaves the results, and returns the loss."""
    cdef double *db = sums + p.losses
    cdef Py_ssize_t used = 0 if not counting(d) else p.losses + (p.gradient() if summing(d) else 0)
    if d.first:
        turn_W(rows_plan, d.model.W, d.model.b, d.model.doubles, <floating>-INFINITY, 0, p.K, packed, n_threads)
        if d.kind == HESSIAN:
            turn_W(
                rows_plan, d.model.V, d.model.c, d.model.doubles, <floating>0, 0, p.K, packed + rows_plan.one,
                n_threads,
            )
    take_all(p, d, packed, <char *>(packed + p.packed), sums, used, n_threads)
    if not d.last or not counting(d):
        return 0
    if summing(d):
        turn_dW(rows_plan, d, db + whole(p.K, 8), 0, False, 0, p.K, packed, n_threads)
        if d.model.b != NULL:
            leave_bias(rows_plan, d, db, packed)
    return sums[0] / d.loss.m
