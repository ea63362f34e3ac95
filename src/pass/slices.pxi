# The rows of a block fall into slices. Each slice has sums of its own, in double, which are added in the slices' order.

# Bytes between what different threads write. What a prefetcher fetches beyond the end of one thread's memory, the other
# thread would have to fetch back. APART is from slice to slice of the sums, where streams end with a page; FAR is from
# one thread's scores to the next one's, which the products read down the rows, in streams that the prefetcher follows
# much farther. See "Distances between threads" in docs/notes.md.
cdef Py_ssize_t APART = 4096, FAR = 2**19


cdef class SlicedPlan(DensePlan):
    """The cut into slices.

    The threads share work space for W, packed, and for V with `second`. Each of them has its own for a tile's buffer,
    and for the gradient of a batch. A slice has eight sums for the loss, then db, then dW.
    """

    cdef readonly Py_ssize_t slices     # how many a block has
    cdef readonly Py_ssize_t batch      # tiles whose gradients are summed in X's type, before they are added in double
    cdef Py_ssize_t packed              # elements of all that is packed, and of the distance behind it
    cdef Py_ssize_t apart               # doubles from slice to slice of the sums

    def __init__(
        self, *, Py_ssize_t slices, Py_ssize_t batch, bint dots, bint copied, bint transposed, **shape,
    ):
        Plan.__init__(self, **shape)
        self.cut, self.slices, self.batch = "slices", slices, batch
        self.dots, self.copied, self.transposed, self.doubles = dots, copied, transposed, True
        self.lay_out(self.K)
        self.packed = self.one * (2 if self.second else 1)
        self.work = self.after
        if batch > 1:
            self.work += whole((self.D if transposed else self.K) * self.ldw, self.line)
        self.losses = 8
        self.apart = self.losses + self.gradient()
        if slices > 1:
            self.packed += FAR // self.itemsize
            self.work += FAR // self.itemsize
            self.apart += APART // sizeof(double)
        self.shared = self.packed + self.line
        self.sums = self.apart * slices
        self.find_single(slices)

    def team(self, int n_threads):
        """Return how many of so many threads have something to do."""
        return min(n_threads, self.slices) if self.parallel else 1

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return slices_run(self, d, <float *>work, sums, n_threads)
        return slices_run(self, d, <double *>work, sums, n_threads)


cdef Py_ssize_t slice_start(SlicedPlan p, const Batch *d, Py_ssize_t i) noexcept nogil:
    """Return slice i's first row, counted among the rows that are here."""
    return i * d.block // p.slices - d.offset


cdef void slice_pass(
    SlicedPlan p, const Batch *d, Py_ssize_t slice, Py_ssize_t next_slice, const floating *packed, floating *Z,
    double *sums,
) noexcept nogil:
    """Add the rows of a slice to its sums, and fetch the start of next_slice, which this thread probably takes next."""
    cdef Py_ssize_t first = slice_start(p, d, slice), stop = slice_start(p, d, slice + 1), n, i, r, ldt, tiles
    cdef Py_ssize_t after = slice_start(p, d, next_slice), summed = 0
    cdef floating *copy = Z + p.copy
    cdef floating *partial = Z + p.after
    cdef double *db = sums + p.losses
    cdef double *dW = db + whole(p.K, 8)
    cdef const char *X = <const char *>d.x.X
    cdef Py_ssize_t row = d.x.ldx * d.x.itemsize
    cdef const floating *tile
    cdef const char *next
    cdef void *to
    cdef int out
    while first < stop:
        tiles = whole(stop - first, p.tile) // p.tile
        n = (stop - first + tiles - 1) // tiles  # tiles of nearly equal size
        tile, ldt = <const floating *>(X + first * row), d.x.ldx
        # The next tile is fetched in the order in which it lies, a vector or less at each step of this one's products.
        next = NULL
        if p.copied:
            copy_rows(X + first * row, d.x.element, n, p.D, ldt, copy, p.ldt)
            tile, ldt = copy, p.ldt
        if not p.copied or d.x.element != REAL:
            next = X + (first + n if first + n < stop else after) * row
            if first + n >= stop and after >= d.N:
                next = NULL
        r = 0
        while r < n:
            i = min(p.rows, n - r)
            next = score_rows(p, tile + r * ldt, ldt, i, packed, p.K, next, Z + r * p.ldz)
            if d.kind == HESSIAN:
                next = score_rows(p, tile + r * ldt, ldt, i, packed + p.one, p.K, next, Z + r * p.ldz + p.Q)
            finish_rows(p, d, first, r, i, Z, sums)
            r += i
        if summing(d):
            if d.model.b != NULL:
                add_columns(Z, n, p.K, p.ldz, db)
            to, out = <void *>dW, ADD_DOUBLE
            if p.batch > 1:
                to, out = <void *>partial, ADD if summed else STORE
            if p.transposed:
                outer(tile, p.D, ldt, Z, p.columns, p.ldz, n, NULL, to, p.ldw, p.columns, out)
            else:
                outer(Z, p.K, p.ldz, tile, p.columns, ldt, n, next, to, p.ldw, p.columns, out)
            summed += 1
            if p.batch > 1 and (summed == p.batch or first + n == stop):
                for i in range(p.D if p.transposed else p.K):
                    for r in range(p.columns):
                        dW[i * p.ldw + r] += partial[i * p.ldw + r]
                summed = 0
        if d.out.dX != NULL:
            input_gradient(p, d, first, n, 0, p.D, Z, copy)
        first += n


cdef void clear_and_pass(
    SlicedPlan p, const Batch *d, Py_ssize_t i, Py_ssize_t next_slice, const floating *packed, floating *own,
    double *sums,
) noexcept nogil:
    if d.first and counting(d):
        memset(sums + i * p.apart, 0, (p.losses + p.gradient()) * sizeof(double))
    slice_pass(p, d, i, next_slice, packed, own, sums + i * p.apart)


cdef double slices_run(
    SlicedPlan p, const Batch *d, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; the last visit leaves the results, and returns the loss."""
    cdef floating *own = packed + p.packed
    cdef Py_ssize_t i
    if d.first:
        pack(p, d.model.W, d.model.b, 0, p.K, <floating>-INFINITY, packed)
        if d.kind == HESSIAN:
            pack(p, d.model.V, d.model.c, 0, p.K, <floating>0, packed + p.one)
    if n_threads == 1:  # without OpenMP: even a team of one takes time
        for i in range(d.begin, d.end):
            clear_and_pass(p, d, i, i + 1, packed, own, sums)
    else:
        for i in prange(d.begin, d.end, schedule="dynamic", chunksize=1, num_threads=n_threads):
            clear_and_pass(p, d, i, i + n_threads, packed, own + threadid() * p.work, sums)
    if not d.last or not counting(d):
        return 0
    add_slices(p, sums, p.losses if d.out.dW == NULL else p.losses + p.gradient(), n_threads)
    return divide(p, sums, d.loss.m, <floating *>d.out.dW, <floating *>d.out.db)


cdef void add_some(SlicedPlan p, double *sums, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Add some of the sums of all slices, in the slices' order, to those of the first slice."""
    cdef Py_ssize_t i, j
    for i in range(1, p.slices):
        for j in range(begin, end):
            sums[j] += sums[i * p.apart + j]


cdef void add_slices(SlicedPlan p, double *sums, Py_ssize_t count, int n_threads) noexcept nogil:
    """Add the first `count` sums of all slices, on all threads."""
    cdef Py_ssize_t i
    if p.slices > 1:
        if p.slices * count < 65536:  # these are sooner added than a team is called
            n_threads = 1
        for i in prange(p.slices, schedule="static", num_threads=n_threads):
            add_some(p, sums, i * count // p.slices, (i + 1) * count // p.slices)
