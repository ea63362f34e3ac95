# The pass over CSR rows: threads take some rows of a tile at a time, for scores and residuals; then each of them adds
# to the gradient of those features that it owns.
#
# W is transposed first, so that a stored entry reads whole vectors of it, and dW is summed transposed. Both are there
# at once for all classes where they fit; else for one group of classes after the other, in the same memory.
#
# An entry of dW is summed over the samples in their order, whoever owns it: so there may be as many owners as threads.
# A few owners look through all entries for their own. For many the entries are sorted before.

cdef enum:
    FEATURES = 1024          # features whose part of W is transposed at a time
    REGIONS = 8              # the logarithm of the most regions of dWt
    LOOKING = 4              # so many owners look through all entries
    SORTED = 16384           # entries that are sorted at a time, for each thread


def transposed_row(Py_ssize_t classes, Py_ssize_t itemsize):
    """Return the numbers from row to row of W transposed: whole cache lines, or a power of two that fits into one."""
    cdef Py_ssize_t row = 1, line = 64 // itemsize
    if classes >= line:
        return whole(classes, line)
    while row < classes:
        row *= 2
    return row


cdef int read_csr(X, Py_ssize_t itemsize, Batch *d) except -1:
    """Let d point at CSR rows, which softmax_ext/_inputs/csr.py has checked."""
    d.N = len(X)
    d.x.indptr = <const Py_ssize_t *>numbers(X.indptr, b"i", sizeof(Py_ssize_t), d.N + 1, False)
    d.x.data = numbers(X.data, b"f", itemsize, 0, False, &d.x.element)
    d.x.wide = X.indices.itemsize == 8
    d.x.indices = numbers(X.indices, b"i", 8 if d.x.wide else 4, 0, False)
    return 0


cdef class SparsePlan(Plan):
    """The cut of CSR rows.

    The threads share work space: Wt (and Vt with `second`), each with its bias before it; dWt, unless it is summed in
    double or takes the place of Wt; the buffer of a tile, which all threads fill. Each thread adds some for the lists
    of sorted entries. There are sums for the losses of a tile's rows, `rows` at a time, then for db of the same, then
    for db of all, then for dWt if it is summed in double.
    """

    cdef readonly Py_ssize_t classes    # how many a group has
    cdef readonly bint grouped          # whether there is more than one group
    cdef Py_ssize_t ldw                 # elements from row to row of Wt and dWt
    cdef Py_ssize_t bias                # elements of the bias before Wt
    cdef Py_ssize_t one                 # elements of Wt and its bias
    cdef Py_ssize_t dWt                 # where dWt begins: in the sums if it is summed in double, or in the work space
    cdef Py_ssize_t Z                   # where in the work space the tile's buffer begins
    cdef Py_ssize_t dbs                 # where in the sums db of a tile's first rows begins
    cdef Py_ssize_t lists               # where in the work space the lists begin

    def __init__(self, *, Py_ssize_t classes, bint doubles, **shape):
        Plan.__init__(self, **shape)
        cdef Py_ssize_t line = self.line, places = self.D + (1 << REGIONS) - 1, visits, packed
        if places > UINT32_MAX:
            raise ValueError(f"X has {self.D} features; sparse X may have {UINT32_MAX - (1 << REGIONS)} at most")
        self.cut, self.classes, self.doubles, self.transposed, self.widens = "sparse", classes, doubles, True, True
        self.grouped = classes < self.K
        self.ldw = transposed_row(classes, self.itemsize)
        self.bias = whole(classes, line)
        # A vector may be read that begins in the last row of Wt, or of Vt, and ends beyond it.
        self.one = self.bias + whole((places if self.grouped else self.D) * self.ldw, line) + line
        packed = self.one * (2 if self.second and not self.grouped else 1)
        visits = whole(self.tile, self.rows) // self.rows
        self.dbs = self.losses = whole(visits, 8)
        self.sums = self.dbs + (visits + 1) * whole(self.K, 8)
        self.dWt, self.Z = 0 if self.grouped else packed, packed
        if doubles:
            self.dWt = self.sums
            self.sums += places * self.ldw
        elif not self.grouped:
            self.Z += whole(places * self.ldw, line)
        self.lists = whole(self.Z + self.buffer(), line)
        self.shared = self.lists + line
        # Each thread adds ends of lists, and for its entries a place and a row, a value and a region.
        self.work = ((2 << REGIONS) + 2 * SORTED) * sizeof(uint32_t) // self.itemsize + SORTED + SORTED // self.itemsize
        self.find_single(0)

    cdef int read(self, X, Batch *d) except -1:
        return read_csr(X, self.itemsize, d)

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        if self.itemsize == sizeof(float):
            return sparse_run(self, d, <float *>work, sums, n_threads)
        return sparse_run(self, d, <double *>work, sums, n_threads)


cdef void turn_W(
    SparsePlan p, const void *of, const void *bias, bint doubles, floating beyond, Py_ssize_t k, Py_ssize_t classes,
    floating *packed, int n_threads,
) noexcept nogil:
    """Write the bias of some classes, with `beyond` in the lanes beyond them, then their W transposed."""
    cdef Py_ssize_t i
    cdef const char *W = <const char *>of + k * p.D * (sizeof(double) if doubles else sizeof(floating))
    for i in range(p.bias):
        if i >= classes:
            packed[i] = beyond
        elif bias == NULL:
            packed[i] = 0
        elif doubles:
            packed[i] = <floating>(<const double *>bias)[k + i]
        else:
            packed[i] = (<const floating *>bias)[k + i]
    for i in prange(whole(p.D, FEATURES) // FEATURES, schedule="static", num_threads=n_threads):
        turn_chunk(p, W, doubles, i * FEATURES, classes, packed + p.bias)


cdef void turn_chunk(
    SparsePlan p, const char *W, bint doubles, Py_ssize_t j, Py_ssize_t classes, floating *Wt,
) noexcept nogil:
    """Write W transposed for the features from j on, with 0 beyond the classes."""
    cdef Py_ssize_t n = min(FEATURES, p.D - j), i
    if p.ldw > classes:
        for i in range(j, j + n):
            memset(Wt + i * p.ldw + classes, 0, (p.ldw - classes) * sizeof(floating))
    W += j * (sizeof(double) if doubles else sizeof(floating))
    turn(Wt, classes, n, W, doubles, NULL, p.D, 1, False, Wt + j * p.ldw, False, p.ldw, 0, NULL)


cdef int regions_of(int n_threads) noexcept nogil:
    """Return log2 of dWt's regions: one for each thread if the threads are a power of two, else some for each."""
    cdef int regions = 0
    while regions < REGIONS and (1 << regions) % n_threads and (1 << regions) < 4 * n_threads:
        regions += 1
    return regions


cdef void turn_dW(
    SparsePlan p, const Batch *d, const void *dWt, int regions, bint add, Py_ssize_t k, Py_ssize_t classes,
    const floating *kind, int n_threads,
) noexcept nogil:
    """Write rows k to k + classes of dW from its transpose, divided by m; or add to them."""
    cdef Py_ssize_t i
    for i in prange(whole(p.D, FEATURES) // FEATURES, schedule="static", num_threads=n_threads):
        turn_dW_chunk(p, d, dWt, regions, add, i * FEATURES, k, classes, kind)


cdef void turn_dW_chunk(
    SparsePlan p, const Batch *d, const void *dWt, int regions, bint add, Py_ssize_t j, Py_ssize_t k,
    Py_ssize_t classes, const floating *kind,
) noexcept nogil:
    """Do the same for the features from j on."""
    cdef Py_ssize_t n = min(FEATURES, p.D - j), to = k * p.D + j
    cdef Py_ssize_t[FEATURES] at
    cdef const double *W = <const double *>(d.model.V if d.kind == HESSIAN else d.model.W)
    cdef double scale = 1 / d.loss.m
    places(kind, j, n, regions, whole(p.D, 1 << regions) >> regions, p.ldw, at)
    if d.model.doubles:
        turn(
            kind, n, classes, dWt, p.doubles, at, p.ldw, scale, add, <double *>d.out.dW + to, True, p.D, d.loss.l2,
            W + to,
        )
    else:
        turn(kind, n, classes, dWt, p.doubles, at, p.ldw, scale, add, <floating *>d.out.dW + to, False, p.D, 0, NULL)


cdef void clear(void *dWt, Py_ssize_t bytes, int n_threads) noexcept nogil:
    cdef Py_ssize_t i, parts = n_threads if bytes > 65536 else 1
    for i in prange(parts, schedule="static", num_threads=n_threads):
        memset(<char *>dWt + i * bytes // parts, 0, (i + 1) * bytes // parts - i * bytes // parts)


cdef void sparse_visit(
    SparsePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes,
    const floating *packed, floating *Z,
) noexcept nogil:
    """Find the scores of the tile's rows r to r + n, for some classes."""
    sparse_scores(
        d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first + r, n, packed + p.bias, p.ldw, packed,
        classes, Z + r * p.ldz + k, p.ldz, p.ldz - k,
    )


cdef void sparse_rows(
    SparsePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, const floating *packed, floating *Z,
    double *loss, double *db,
) noexcept nogil:
    """Find the scores of the tile's rows r to r + n, unless they are there already, and what becomes of them."""
    if packed != NULL:
        sparse_visit(p, d, first, r, n, 0, p.K, packed, Z)
        if d.kind == HESSIAN:
            sparse_visit(p, d, first, r, n, 0, p.K, packed + p.one, Z + p.Q)
    finish_rows(p, d, first, r, n, Z, loss)
    if summing(d) and d.model.b != NULL:
        add_columns(Z + r * p.ldz, n, p.K, p.ldz, db)


cdef void sparse_owner(
    SparsePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes, const floating *Z,
    void *dWt, int regions, Py_ssize_t own, Py_ssize_t parts,
) noexcept nogil:
    """Add a tile to the gradient, for the features of one owner and some classes."""
    cdef Py_ssize_t slots = whole(p.D, 1 << regions) >> regions
    sparse_gradient(
        d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr + first, n, Z + k, p.ldz, classes, dWt, p.ldw,
        p.doubles, regions, slots, (own << regions) // parts * slots, ((own + 1) << regions) // parts * slots,
    )


cdef Py_ssize_t rows_within(const Py_ssize_t *indptr, Py_ssize_t n, Py_ssize_t entries) noexcept nogil:
    """Return how many of n rows, the first ones, have no more than so many entries."""
    cdef Py_ssize_t low = 0, high = n, middle
    while low < high:
        middle = (low + high + 1) // 2
        if indptr[middle] - indptr[0] <= entries:
            low = middle
        else:
            high = middle - 1
    return low


cdef void sort_chunk(
    SparsePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, Py_ssize_t i, Py_ssize_t chunks,
    int regions, Py_ssize_t owners, uint32_t *ends, uint8_t *region, uint32_t *placed, uint32_t *rows, floating *values,
) noexcept nogil:
    """Sort the entries of chunk i of the tile's rows r to r + n by their owners."""
    cdef const Py_ssize_t *indptr = d.x.indptr + first + r
    cdef Py_ssize_t a = i * n // chunks, at = indptr[a] - indptr[0], slots = whole(p.D, 1 << regions) >> regions
    sort_entries(
        d.x.data, d.x.element, d.x.indices, d.x.wide, indptr + a, (i + 1) * n // chunks - a, r + a, regions, slots,
        owners, ends + i * owners, region + at, placed + at, rows + at, values + at,
    )


cdef void sparse_owners(
    SparsePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes, const floating *Z,
    void *dWt, int regions, void *lists, int n_threads,
) noexcept nogil:
    """Add a tile to the gradient of some classes, on all threads."""
    cdef Py_ssize_t i, r = 0, n_rows, chunks = 2 * n_threads, owners = min(n_threads, 1 << REGIONS)
    cdef uint32_t *ends = <uint32_t *>lists
    cdef uint32_t *placed = ends + chunks * (1 << REGIONS)
    cdef uint32_t *rows = placed + n_threads * SORTED
    cdef floating *values = <floating *>(rows + n_threads * SORTED)
    cdef uint8_t *region = <uint8_t *>(values + n_threads * SORTED)
    while r < n:
        n_rows = n - r if n_threads <= LOOKING else rows_within(d.x.indptr + first + r, n - r, SORTED * n_threads)
        if n_threads <= LOOKING or n_rows == 0:  # or a row is too long to be sorted
            n_rows = max(n_rows, 1)
            for i in prange(n_threads, schedule="static", num_threads=n_threads):
                sparse_owner(p, d, first + r, n_rows, k, classes, Z + r * p.ldz, dWt, regions, i, n_threads)
        else:
            for i in prange(chunks, schedule="static", num_threads=n_threads):
                sort_chunk(p, d, first, r, n_rows, i, chunks, regions, owners, ends, region, placed, rows, values)
            for i in prange(owners, schedule="static", num_threads=n_threads):
                add_sorted(
                    d.x.indptr + first + r, n_rows, chunks, owners, i, ends, placed, rows, values, Z + k, p.ldz,
                    classes, dWt, p.ldw, p.doubles,
                )
        r += n_rows


cdef double sparse_run(SparsePlan p, const Batch *d, floating *work, double *sums, int n_threads) except? -1 nogil:
    """Take a visit's rows, a tile at a time on all threads; the last visit leaves the results, and returns the loss."""
    cdef floating *packed = work
    cdef floating *Z = work + p.Z
    cdef double *dbs = sums + p.dbs
    cdef void *dWt = <void *>(sums + p.dWt) if p.doubles else <void *>(work + p.dWt)
    cdef int regions = regions_of(n_threads)
    cdef Py_ssize_t bytes = whole(p.D, 1 << regions) * p.ldw * (sizeof(double) if p.doubles else sizeof(floating))
    cdef Py_ssize_t i, k, n, visits, classes, first = 0
    cdef bint doubles = d.model.doubles
    if d.first:
        if counting(d):
            memset(sums, 0, (p.dWt if p.doubles else p.sums) * sizeof(double))
        if not p.grouped:
            turn_W(p, d.model.W, d.model.b, doubles, <floating>-INFINITY, 0, p.K, packed, n_threads)
            if d.kind == HESSIAN:
                turn_W(p, d.model.V, d.model.c, doubles, <floating>0, 0, p.K, packed + p.one, n_threads)
            if summing(d):
                clear(dWt, bytes, n_threads)
    while first < d.N:
        n = min(p.tile, d.N - first)
        visits = whole(n, p.rows) // p.rows
        k = 0 if p.grouped else p.K
        while k < p.K:
            classes = min(p.classes, p.K - k)
            turn_W(p, d.model.W, d.model.b, doubles, <floating>-INFINITY, k, classes, packed, n_threads)
            for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
                sparse_visit(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), k, classes, packed, Z)
            if d.kind == HESSIAN:
                turn_W(p, d.model.V, d.model.c, doubles, <floating>0, k, classes, packed, n_threads)
                for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
                    sparse_visit(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), k, classes, packed, Z + p.Q)
            look_for_interrupt()
            k += classes
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            sparse_rows(
                p, d, first, i * p.rows, min(p.rows, n - i * p.rows), NULL if p.grouped else packed, Z, sums + i,
                dbs + i * whole(p.K, 8),
            )
        k = 0 if summing(d) else p.K
        while k < p.K:
            classes = min(p.classes, p.K - k)
            if p.grouped:
                clear(dWt, bytes, n_threads)
            sparse_owners(p, d, first, n, k, classes, Z, dWt, regions, work + p.lists, n_threads)
            if p.grouped:
                turn_dW(p, d, dWt, regions, not (d.first and first == 0), k, classes, packed, n_threads)
                look_for_interrupt()
            k += classes
        first += n
    if not d.last or not counting(d):
        return 0
    if summing(d):
        if not p.grouped:
            turn_dW(p, d, dWt, regions, False, 0, p.K, packed, n_threads)
        if d.model.b != NULL:
            sparse_bias(p, d, dbs, packed)
    return sparse_loss(p, sums, d.loss.m)


cdef void sparse_bias(SparsePlan p, const Batch *d, double *dbs, const floating *kind) noexcept nogil:
    """Write db from its sums, which are added in the order of the rows."""
    cdef Py_ssize_t i, k, visits = whole(p.tile, p.rows) // p.rows
    cdef double *total = dbs + visits * whole(p.K, 8)
    for i in range(visits):
        for k in range(p.K):
            total[k] += dbs[i * whole(p.K, 8) + k]
    leave_bias(p, d, total, kind)


cdef void leave_bias(SparsePlan p, const Batch *d, const double *total, const floating *kind) noexcept nogil:
    """Write db from the sums over all rows."""
    cdef Py_ssize_t k
    for k in range(p.K):
        if d.model.doubles:  # rounded to the type of X all the same, as dW is
            (<double *>d.out.db)[k] = <floating>(total[k] / d.loss.m)
        else:
            (<floating *>d.out.db)[k] = <floating>(total[k] / d.loss.m)


cdef double sparse_loss(SparsePlan p, const double *sums, double m) noexcept nogil:
    """Return the losses, added in the order of the rows, over m."""
    cdef Py_ssize_t i
    cdef double loss = 0
    for i in range(whole(p.tile, p.rows) // p.rows):
        loss += sums[i]
    return loss / m
