# The rows of a block fall into slices. Each slice has sums of its own, in double, which are added in a tree. A slice of
# a large problem has several strips, whose sums are added to the slice's in their order: a few threads take whole
# slices, many take strips.

# Bytes between what different threads write. What a prefetcher fetches beyond the end of one thread's memory, the other
# thread would have to fetch back. APART is from slot to slot of the sums, where streams end with a page; FAR is from
# one thread's scores to the next one's, which the products read down the rows, in streams that the prefetcher follows
# much farther. See "Distances between threads" in docs/notes.md.
cdef Py_ssize_t APART = 4096, FAR = 2**19

cdef enum:
    FEW = 8                  # so many threads take whole slices, and more of them take strips
    TOGETHER = 65536         # fewer sums of slots than these are sooner added than a few threads are called,
    REMOTE = 8192            # and fewer than these, which lie in the caches of other cores, than many threads are
    ADDED = 64               # sums of a slot that one of many threads adds at a time: whole cache lines


cdef class SlicedPlan(DensePlan):
    """The cut into slices.

    The threads share work space for W, packed, and for V with `second`. Each of them has its own for a tile's buffer,
    and for the gradient of a batch. A slot of the sums has eight for the loss, then db, then dW. There is a slot for
    each slice, in which its first strip is summed, then one for each slice's second strip, and so on.
    """

    cdef readonly Py_ssize_t slices     # how many a block has
    cdef readonly Py_ssize_t strips     # how many a slice has
    cdef readonly Py_ssize_t batch      # tiles whose gradients are summed in X's type, before they are added in double
    cdef Py_ssize_t packed              # elements of all that is packed, and of the distance behind it
    cdef Py_ssize_t apart               # doubles from slot to slot of the sums
    cdef Py_ssize_t head                # of a slot's sums so many are cleared, the others stored; 0: all are cleared

    def __init__(
        self, *, Py_ssize_t slices, Py_ssize_t strips, Py_ssize_t batch, bint dots, bint copied, bint transposed,
        **shape,
    ):
        Plan.__init__(self, **shape)
        self.cut, self.slices, self.strips, self.batch = "slices", slices, strips, batch
        self.dots, self.copied, self.transposed, self.doubles = dots, copied, transposed, True
        self.lay_out(self.K)
        self.packed = self.one * (2 if self.second else 1)
        self.work = self.after
        if batch > 1:
            self.work += whole((self.D if transposed else self.K) * self.ldw, self.line)
        self.losses = 8
        self.apart = self.losses + self.gradient()
        self.head = self.losses + whole(self.K, 8) if batch > 1 else 0
        self.set_apart()

    cdef int set_apart(self) except -1:
        """Lay the memory of threads and slots apart, and find how much there is of it."""
        if self.slices > 1:
            self.packed += FAR // self.itemsize
            self.work += FAR // self.itemsize
            self.apart += APART // sizeof(double)
        self.shared = self.packed + self.line
        self.sums = self.apart * max(1, self.slices * self.strips)
        self.find_single(self.slices)
        return 0

    def team(self, int n_threads):
        """Return how many of so many threads have something to do."""
        return min(n_threads, self.slices * self.strips) if self.parallel else 1

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return slices_run(self, d, <float *>work, sums, n_threads)
        return slices_run(self, d, <double *>work, sums, n_threads)

    cdef void take(
        self, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    ) noexcept nogil:
        """Add the rows of a strip to its sums; this thread probably takes the strip `after` next."""
        if self.itemsize == sizeof(float):
            strip_pass(self, d, strip, after, <const float *>packed, <float *>own, sums)
        else:
            strip_pass(self, d, strip, after, <const double *>packed, <double *>own, sums)


cdef Py_ssize_t strip_start(SlicedPlan p, const Batch *d, Py_ssize_t i) noexcept nogil:
    """Return strip i's first row, counted among the rows that are here."""
    return i * d.block // (p.slices * p.strips) - d.offset


cdef bint one_batch(SlicedPlan p, const Batch *d) noexcept nogil:
    """Return whether all rows are one batch, whose gradient is divided where it lies, and never added to sums."""
    return (
        p.head > 0 and p.slices * p.strips == 1 and not p.transposed and d.first and d.last
        and 0 < d.N <= p.batch * p.tile
    )


cdef void strip_pass(
    SlicedPlan p, const Batch *d, Py_ssize_t strip, Py_ssize_t next_strip, const floating *packed, floating *Z,
    double *sums,
) noexcept nogil:
    """Add the rows of a strip to its sums, and fetch the start of next_strip, which this thread probably takes next.

    The first batch that a slot gets is stored: so many sums take longer to clear and read than to write.
    """
    cdef Py_ssize_t first = strip_start(p, d, strip), stop = strip_start(p, d, strip + 1), n, i, r, ldt, tiles
    cdef Py_ssize_t after = strip_start(p, d, next_strip), summed = 0
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
    cdef bint fresh = p.head and (d.first or strip % p.strips), adding = not one_batch(p, d)
    if first >= stop and fresh and summing(d):
        memset(dW, 0, (p.D if p.transposed else p.K) * p.ldw * sizeof(double))
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
            if p.batch > 1 and adding and (summed == p.batch or first + n == stop):
                for i in range(p.D if p.transposed else p.K):
                    flush(partial + i * p.ldw, p.columns, p.ldw, fresh, dW + i * p.ldw)
                summed, fresh = 0, False
        if d.out.dX != NULL:
            input_gradient(p, d, first, n, 0, p.D, Z, copy)
        first += n


cdef void flush(const floating *batch, Py_ssize_t n, Py_ssize_t ld, bint fresh, double *sums) noexcept nogil:
    """Add a batch's n numbers to sums, or to zeros if these are fresh, of which there are ld."""
    cdef Py_ssize_t j
    if fresh:
        for j in range(n):
            sums[j] = 0.0 + batch[j]
        for j in range(n, ld):
            sums[j] = 0
    else:
        for j in range(n):
            sums[j] += batch[j]


cdef void clear_slot(SlicedPlan p, double *sums, Py_ssize_t used) noexcept nogil:
    """Clear the sums of a slot, of which so many are used, but for those that a strip's first batch stores."""
    memset(sums, 0, (min(used, p.head) if p.head else used) * sizeof(double))


cdef void take_slice(
    SlicedPlan p, const Batch *d, Py_ssize_t i, Py_ssize_t after, const void *packed, void *own, double *sums,
    Py_ssize_t used, Py_ssize_t spare,
) noexcept nogil:
    """Add the rows of slice i to its sums, of which `used` are used: strips beyond the first by way of a spare slot."""
    cdef double *to = sums + i * p.apart
    cdef double *other = sums + (p.slices + spare) * p.apart
    cdef Py_ssize_t strip = i * p.strips, stop = strip + p.strips
    if d.first and used:
        clear_slot(p, to, used)
    p.take(d, strip, strip + 1 if p.strips > 1 else after, packed, own, to)
    strip += 1
    while strip < stop:
        if used:
            clear_slot(p, other, used)
        p.take(d, strip, strip + 1 if strip + 1 < stop else after * p.strips, packed, own, other)
        add_to(other, used, to)
        strip += 1


cdef void take_strip(
    SlicedPlan p, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    Py_ssize_t used,
) noexcept nogil:
    """Add the rows of a strip to the sums of its slot: to those of its slice, if it is the first one there."""
    cdef Py_ssize_t i = strip // p.strips, nth = strip % p.strips
    sums += (nth * p.slices + i) * p.apart
    if used and (d.first or nth):
        clear_slot(p, sums, used)
    p.take(d, strip, after, packed, own, sums)


cdef void take_all(
    SlicedPlan p, const Batch *d, const void *packed, char *own, double *sums, Py_ssize_t used, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; after the last visit the first slot has the `used` sums of all."""
    cdef Py_ssize_t i, bytes = p.work * p.itemsize, stop = d.end * p.strips
    cdef bint finely = p.strips > 1 and n_threads > FEW
    if n_threads == 1:  # without OpenMP: even a team of one takes time
        for i in range(d.begin, d.end):
            take_slice(p, d, i, i + 1, packed, own, sums, used, 0)
    elif finely:
        for i in prange(d.begin * p.strips, stop, schedule="dynamic", chunksize=1, num_threads=n_threads):
            take_strip(p, d, i, i + n_threads, packed, own + threadid() * bytes, sums, used)
    else:
        for i in prange(d.begin, d.end, schedule="dynamic", chunksize=1, num_threads=n_threads):
            take_slice(p, d, i, i + n_threads, packed, own + threadid() * bytes, sums, used, threadid())
    if used and (finely or (d.last and p.slices > 1)):
        add_slots(p, sums, used, d.begin, d.end, p.strips if finely else 1, d.last, n_threads)


cdef void add_some(
    SlicedPlan p, double *sums, Py_ssize_t j, Py_ssize_t end, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t strips,
    bint last,
) noexcept nogil:
    """Add sums j to end of some slices' strips to theirs, in order; then, if `last`, those of all slices, in a tree."""
    cdef Py_ssize_t i, q, step = 1
    for i in range(first, stop):
        for q in range(1, strips):
            add_to(sums + (q * p.slices + i) * p.apart + j, end - j, sums + i * p.apart + j)
    while last and step < p.slices:
        i = 0
        while i + step < p.slices:
            add_to(sums + (i + step) * p.apart + j, end - j, sums + i * p.apart + j)
            i += 2 * step
        step *= 2


cdef void add_slots(
    SlicedPlan p, double *sums, Py_ssize_t used, Py_ssize_t first, Py_ssize_t stop, Py_ssize_t strips, bint last,
    int n_threads,
) noexcept nogil:
    """Add strips to their slices, and slices to the first one, on all threads: each has some of the `used` sums."""
    cdef Py_ssize_t i, each = ADDED * (4 if n_threads <= FEW else 1), parts = (used + each - 1) // each
    if p.slices * strips * used < (TOGETHER if n_threads <= FEW else REMOTE):
        n_threads = 1
    if n_threads == 1:
        for i in range(parts):
            add_some(p, sums, i * each, min(used, (i + 1) * each), first, stop, strips, last)
    else:
        for i in prange(parts, schedule="static", num_threads=n_threads):
            add_some(p, sums, i * each, min(used, (i + 1) * each), first, stop, strips, last)


cdef void add_to(const double *a, Py_ssize_t n, double *to) noexcept nogil:
    """Add n numbers to others."""
    cdef Py_ssize_t i
    for i in range(n):
        to[i] += a[i]


cdef double divide_batch(
    SlicedPlan p, double *sums, const floating *batch, double m, floating *dW, floating *db,
) noexcept nogil:
    """Do as `divide` does where the gradient is that of the only batch; see "Around a small call" in docs/notes.md."""
    cdef Py_ssize_t j, k
    cdef double scale = 1 / m
    cdef const double *bias = sums + p.losses
    for k in range(p.K):
        if db != NULL:
            db[k] = <floating>(bias[k] * scale)
        for j in range(p.D):
            # 0 is added, as sums begin with it: -0 becomes 0.
            dW[k * p.D + j] = <floating>((0.0 + batch[k * p.ldw + j]) * scale)
    return divide(p, sums, m, <floating *>NULL, <floating *>NULL, 1)


cdef double slices_run(
    SlicedPlan p, const Batch *d, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; the last visit leaves the results, and returns the loss."""
    cdef Py_ssize_t used = 0 if not counting(d) else p.losses if d.out.dW == NULL else p.losses + p.gradient()
    if d.first:
        pack(p, d.model.W, d.model.b, 0, p.K, <floating>-INFINITY, packed)
        if d.kind == HESSIAN:
            pack(p, d.model.V, d.model.c, 0, p.K, <floating>0, packed + p.one)
    take_all(p, d, packed, <char *>(packed + p.packed), sums, used, n_threads)
    if not d.last or not counting(d):
        return 0
    if d.out.dW != NULL and one_batch(p, d):
        return divide_batch(
            p, sums, packed + p.packed + p.after, d.loss.m, <floating *>d.out.dW, <floating *>d.out.db,
        )
    return divide(p, sums, d.loss.m, <floating *>d.out.dW, <floating *>d.out.db, n_threads)
