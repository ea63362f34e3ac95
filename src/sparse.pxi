# The pass over CSR rows: a tile's scores and residuals by visits of some rows, then its gradient by owners of features.
#
# W is transposed first, so that a stored entry reads whole vectors of it, and dW is summed transposed. Both at once for
# all classes where they fit; else for one group of classes after the other, in the same memory.
#
# An entry of dW is summed over the samples in their order, whoever owns it: the owners' number may be the threads'.

cdef enum:
    FEATURES = 1024          # features whose part of W is transposed at a time
    REGIONS = 8              # the logarithm of the most regions of dWt


cdef Shape sparse_shape(plan, Py_ssize_t D, Py_ssize_t K, const floating *kind):
    """The sizes for CSR rows.  Sums: losses, then db, of each visit of a tile; db; dWt if it is summed in double."""
    cdef Shape p
    cdef Py_ssize_t line = 64 // sizeof(floating), visits, places = D + (1 << REGIONS) - 1
    memset(&p, 0, sizeof(p))
    p.D, p.K, p.sparse = D, K, True
    p.doubles, p.rows, p.tile, p.classes, p.second = plan[3], plan[4], plan[5], plan[8], plan[10]
    p.grouped = p.classes < K
    p.up = whole(p.tile, lanes(kind))
    p.ldz = whole(K, lanes(kind)) if K <= 128 else odd_lines(K, kind)
    p.ldw = sparse_row(p.classes, line)
    # The bias, W transposed, and a vector that its last row may be read beyond by.
    p.one = whole(p.classes, line) + whole((places if p.grouped else D) * p.ldw, line) + line
    p.packed = p.one * (2 if p.second and not p.grouped else 1)
    p.Q = whole(p.up * (p.ldz + 3), line)
    p.buffer = p.Q + (whole(p.up * p.ldz, line) if p.second else 0)
    # dWt takes the place of Wt where there are groups.
    p.copy = 0 if p.grouped else p.packed
    if p.doubles or p.grouped:
        p.work = p.packed
    else:
        p.work = p.packed + whole(places * p.ldw, line)
    visits = whole(p.tile, p.rows) // p.rows
    p.sums = whole(visits, 8) + (visits + 1) * whole(K, 8)
    if p.doubles:
        p.copy = p.sums
        p.sums += places * p.ldw
    return p


cdef Py_ssize_t sparse_row(Py_ssize_t classes, Py_ssize_t line) noexcept nogil:
    """Numbers from row to row of Wt: whole cache lines, or a power of two that fits into one."""
    cdef Py_ssize_t row = 1
    if classes >= line:
        return whole(classes, line)
    while row < classes:
        row *= 2
    return row


cdef void turn_W(
    Shape *p, const void *of, const void *bias, bint exact, floating beyond, Py_ssize_t k, Py_ssize_t classes,
    floating *packed, int n_threads,
) noexcept nogil:
    """The bias of some classes, with `beyond` in the lanes beyond, then their W transposed."""
    cdef Py_ssize_t i, up = whole(p.classes, 64 // sizeof(floating))
    cdef const char *W = <const char *>of + k * p.D * (sizeof(double) if exact else sizeof(floating))
    for i in range(up):
        if i >= classes:
            packed[i] = beyond
        elif bias == NULL:
            packed[i] = 0
        elif exact:
            packed[i] = <floating>(<const double *>bias)[k + i]
        else:
            packed[i] = (<const floating *>bias)[k + i]
    for i in prange(whole(p.D, FEATURES) // FEATURES, schedule="static", num_threads=n_threads):
        turn_chunk(p, W, exact, i * FEATURES, classes, packed + up)


cdef void turn_chunk(
    Shape *p, const char *W, bint exact, Py_ssize_t j, Py_ssize_t classes, floating *Wt,
) noexcept nogil:
    """Features j and on; what lies beyond the classes is 0."""
    cdef Py_ssize_t n = min(FEATURES, p.D - j), i
    if p.ldw > classes:
        for i in range(j, j + n):
            memset(Wt + i * p.ldw + classes, 0, (p.ldw - classes) * sizeof(floating))
    W += j * (sizeof(double) if exact else sizeof(floating))
    turn(Wt, classes, n, W, exact, NULL, p.D, 1, False, Wt + j * p.ldw, False, p.ldw, 0, NULL)


cdef int regions_of(int n_threads) noexcept nogil:
    """The logarithm of dWt's regions: as many as threads where that is a power of two, else some for each thread."""
    cdef int regions = 0
    while regions < REGIONS and (1 << regions) % n_threads and (1 << regions) < 4 * n_threads:
        regions += 1
    return regions


cdef void turn_dW(
    Shape *p, Batch *d, const void *dWt, int regions, double scale, bint add, Py_ssize_t k, Py_ssize_t classes,
    floating *dW, double *exact, int n_threads,
) noexcept nogil:
    """Rows k to k + classes of dW from its transpose, times scale."""
    cdef Py_ssize_t i
    for i in prange(whole(p.D, FEATURES) // FEATURES, schedule="static", num_threads=n_threads):
        turn_dW_chunk(p, d, dWt, regions, scale, add, i * FEATURES, k, classes, dW, exact)


cdef void turn_dW_chunk(
    Shape *p, Batch *d, const void *dWt, int regions, double scale, bint add, Py_ssize_t j, Py_ssize_t k,
    Py_ssize_t classes, floating *dW, double *exact,
) noexcept nogil:
    """Features j and on."""
    cdef Py_ssize_t n = min(FEATURES, p.D - j), to = k * p.D + j
    cdef Py_ssize_t[FEATURES] at
    cdef const double *W = <const double *>(d.V if d.kind == HESSIAN else d.W)
    places(dW, j, n, regions, whole(p.D, 1 << regions) >> regions, p.ldw, at)
    if d.exact:
        turn(dW, n, classes, dWt, p.doubles, at, p.ldw, scale, add, exact + to, True, p.D, d.l2, W + to)
    else:
        turn(dW, n, classes, dWt, p.doubles, at, p.ldw, scale, add, dW + to, False, p.D, 0, NULL)


cdef void clear(void *dWt, Py_ssize_t bytes, int n_threads) noexcept nogil:
    cdef Py_ssize_t i, parts = n_threads if bytes > 65536 else 1
    for i in prange(parts, schedule="static", num_threads=n_threads):
        memset(<char *>dWt + i * bytes // parts, 0, (i + 1) * bytes // parts - i * bytes // parts)


cdef void sparse_visit(
    Shape *p, Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes,
    const floating *packed, floating *Z,
) noexcept nogil:
    """Scores of the tile's rows r to r + n, for some classes."""
    cdef Py_ssize_t up = whole(p.classes, 64 // sizeof(floating))
    sparse_scores(
        <const floating *>d.X, d.indices, d.wide, d.indptr + first + r, n, packed + up, p.ldw, packed, classes,
        Z + r * p.ldz + k, p.ldz, p.ldz - k,
    )


cdef void sparse_rows(
    Shape *p, Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, const floating *packed, floating *Z,
    double *sums, double *db,
) noexcept nogil:
    """A visit: scores, unless they are there already, and what becomes of them."""
    if packed != NULL:
        sparse_visit(p, d, first, r, n, 0, p.K, packed, Z)
        if d.kind == HESSIAN:
            sparse_visit(p, d, first, r, n, 0, p.K, packed + p.one, Z + p.Q)
    finish_rows(p, d, first, r, n, Z, sums)
    if summing(d) and d.b != NULL:
        add_columns(Z + r * p.ldz, n, p.K, p.ldz, db)


cdef void sparse_owner(
    Shape *p, Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t k, Py_ssize_t classes, const floating *Z, void *dWt,
    int regions, Py_ssize_t own, Py_ssize_t parts,
) noexcept nogil:
    """The gradient of a tile, for the features of one owner and some classes."""
    cdef Py_ssize_t slots = whole(p.D, 1 << regions) >> regions
    sparse_gradient(
        <const floating *>d.X, d.indices, d.wide, d.indptr + first, n, Z + k, p.ldz, classes, dWt, p.ldw, p.doubles,
        regions, slots, (own << regions) // parts * slots, ((own + 1) << regions) // parts * slots,
    )


cdef int sparse_pass(
    Shape *p, Batch *d, bint fresh, bint last, floating *work, double *sums, floating *dW, floating *db, double *exact,
    double m, int n_threads,
) except -1 nogil:
    """Rows, a tile of them at a time on all threads."""
    cdef floating *packed = work
    cdef floating *Z = work + p.work
    cdef double *dbs = sums + whole(whole(p.tile, p.rows) // p.rows, 8)
    cdef void *dWt = <void *>(sums + p.copy) if p.doubles else <void *>(work + p.copy)
    cdef int regions = regions_of(n_threads)
    cdef Py_ssize_t bytes = whole(p.D, 1 << regions) * p.ldw * (sizeof(double) if p.doubles else sizeof(floating))
    cdef Py_ssize_t i, k, n, visits, classes, first = 0
    if fresh:
        if d.kind != PROBABILITIES:
            memset(sums, 0, (p.copy if p.doubles else p.sums) * sizeof(double))
        if not p.grouped:
            turn_W(p, d.W, d.b, d.exact, <floating>-INFINITY, 0, p.K, packed, n_threads)
            if d.kind == HESSIAN:
                turn_W(p, d.V, d.c, d.exact, <floating>0, 0, p.K, packed + p.one, n_threads)
            if summing(d):
                clear(dWt, bytes, n_threads)
    while first < d.N:
        n = min(p.tile, d.N - first)
        visits = whole(n, p.rows) // p.rows
        k = 0 if p.grouped else p.K
        while k < p.K:
            classes = min(p.classes, p.K - k)
            turn_W(p, d.W, d.b, d.exact, <floating>-INFINITY, k, classes, packed, n_threads)
            for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
                sparse_visit(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), k, classes, packed, Z)
            if d.kind == HESSIAN:
                turn_W(p, d.V, d.c, d.exact, <floating>0, k, classes, packed, n_threads)
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
            for i in prange(n_threads, schedule="static", num_threads=n_threads):
                sparse_owner(p, d, first, n, k, classes, Z, dWt, regions, i, n_threads)
            if p.grouped:
                turn_dW(p, d, dWt, regions, 1 / m, not (fresh and first == 0), k, classes, dW, exact, n_threads)
                look_for_interrupt()
            k += classes
        first += n
    if last and summing(d):
        if not p.grouped:
            turn_dW(p, d, dWt, regions, 1 / m, False, 0, p.K, dW, exact, n_threads)
        if d.b != NULL:
            sparse_bias(p, dbs, m, db, exact + p.K * p.D if d.exact else NULL)
    return 0


cdef void sparse_bias(Shape *p, double *dbs, double m, floating *db, double *exact) noexcept nogil:
    """db from the sums of the visits, in their order."""
    cdef Py_ssize_t i, k, visits = whole(p.tile, p.rows) // p.rows
    cdef double *total = dbs + visits * whole(p.K, 8)
    for i in range(visits):
        for k in range(p.K):
            total[k] += dbs[i * whole(p.K, 8) + k]
    for k in range(p.K):
        if exact == NULL:
            db[k] = <floating>(total[k] / m)
        else:
            exact[k] = <floating>(total[k] / m)


cdef double sparse_loss(Shape *p, double *sums, double m) noexcept nogil:
    cdef Py_ssize_t i
    cdef double loss = 0
    for i in range(whole(p.tile, p.rows) // p.rows):
        loss += sums[i]
    return loss / m


cdef int csr_of(Batch *d, X, const floating[::1] like) except -1:
    """What CSR rows are made of: softmax_ext/_sparse.py."""
    cdef const floating[::1] data = X.data
    cdef const Py_ssize_t[::1] indptr = X.indptr
    cdef const int[::1] narrow
    cdef const long long[::1] wide
    d.N, d.indptr = indptr.shape[0] - 1, &indptr[0]
    if data.shape[0] == 0:
        return 0
    d.X, d.wide = <const void *>&data[0], X.indices.itemsize == 8
    if d.wide:
        wide = X.indices
        d.indices = <const void *>&wide[0]
    else:
        narrow = X.indices
        d.indices = <const void *>&narrow[0]
    return 0


def sparse_grad(
    X,                              # IN     CSR rows of a block
    const Py_ssize_t[::1] y,        # IN     their labels, or None
    const floating[:, :] Y,         # IN     their targets, columns contiguous, or None
    const double[::1] s,            # IN     their weights, or None
    const double[::1] w,            # IN     W, row after row, and b: an objective's parameters
    const double[::1] v,            # IN     what the Hessian is multiplied by, or None for the gradient
    Py_ssize_t K,
    double l2,
    plan,
    visit,
    floating[::1] work,             # WORK
    double[::1] sums,               # INOUT
    double[::1] grad,               # OUT    as w: the gradient of the loss and of l2/2 times W's squares
    double m,
    int n_threads,
):
    """loss_grad, or hessp, of an objective's own vectors: what lies transposed is brought to them in the same sweep."""
    cdef Py_ssize_t D = X.shape[1]
    cdef Shape p = shape_of(plan, D, K, &work[0])
    cdef Batch d
    cdef bint first, last
    cdef double loss = 0
    cdef floating *own = <floating *>aligned(&work[0])
    memset(&d, 0, sizeof(d))
    d.kind, d.exact, d.l2, d.W = GRADIENT if v is None else HESSIAN, True, l2, <const void *>&w[0]
    if w.shape[0] > K * D:
        d.b = <const void *>&w[K * D]
    if v is not None:
        d.V = <const void *>&v[0]
        if w.shape[0] > K * D:
            d.c = <const void *>&v[K * D]
    csr_of(&d, X, work)
    if s is not None:
        d.s = &s[0]
    if y is not None:
        d.y = &y[0]
    if Y is not None:
        d.Y, d.ldy = <const void *>&Y[0, 0], Y.strides[0] // <Py_ssize_t>sizeof(floating)
    first, last = visit[4], visit[5]
    with nogil:
        sparse_pass[floating](&p, &d, first, last, own, &sums[0], NULL, NULL, &grad[0], m, n_threads)
        if last:
            loss = sparse_loss(&p, &sums[0], m)
    return loss
