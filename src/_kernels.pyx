"""The fused pass.  N samples, D features, K classes; X (N, D), W (K, D), b (K,), targets Y (N, K), weights s (N,):

    Z = X W^T + b      S_ik = exp(Z_ik) / sum_j exp(Z_ij)      R = S - Y      m = sum_i s_i
    J = -1/m sum_i s_i sum_k Y_ik log S_ik     dJ/dW = 1/m sum_i s_i R_i^T X_i     dJ/db = 1/m sum_i s_i R_i

Rows are cut into tiles.  A tile's one buffer Z holds its scores, then its residuals:

    Z  <- scores(tile)            products.h
    Z  <- residuals(Z, y | Y)     _rows.h, and the loss
    dW <- dW + Z^T tile           products.h; the tile is still in cache

Work is cut by the problem's shape, never by the number of threads, and what is summed is summed in a fixed order: every
number of threads gives the same bits.  Two cuts (softmax_ext/_plan.py chooses):

    slices   the rows fall into slices, each with sums of its own in double, added in the slices' order
    owned    a dW for each slice would cost too much: all threads work on one tile, and each part of the classes owns
             its columns of Z and its rows of dW

Nothing here allocates or raises; softmax_ext/_validation.py has seen every input.
"""
from cpython.buffer cimport PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.math cimport INFINITY
from libc.string cimport memcpy, memset

include "float_types.pxi"
include "shape.pxi"


cdef struct Batch:          # rows of a block, as the caller has them
    Py_ssize_t block        # rows of the block, which its slices share out
    Py_ssize_t start        # the first row here, and how many there are
    Py_ssize_t N
    Py_ssize_t ldx, ldy
    const void *X
    const void *Y           # targets, or NULL
    const Py_ssize_t *y     # labels, or NULL
    const double *s         # or NULL
    double smoothing
    const void *W
    const void *b           # or NULL
    void *S                 # where probabilities go, or NULL


cdef void *aligned(void *at) noexcept nogil:
    return <void *>((<size_t>at + 63) // 64 * 64)


cdef void pack(Shape *p, Batch *d, Py_ssize_t k, Py_ssize_t classes, floating *packed) noexcept nogil:
    """The bias of some classes, with -inf in the lanes beyond, then their W in the order in which scores read it."""
    cdef Py_ssize_t i, up = whole(classes, lanes(packed))
    cdef const floating *b = <const floating *>d.b
    cdef const floating *W = <const floating *>d.W + k * p.D
    for i in range(up):
        packed[i] = <floating>-INFINITY if i >= classes else 0 if b == NULL else b[k + i]
    if p.dots:
        pack_rows(W, classes, p.D, packed + up)
    else:
        pack_panels(W, classes, p.D, packed + up)


cdef const char *score_rows(
    Shape *p, const floating *X, Py_ssize_t ldx, Py_ssize_t n, const floating *packed, Py_ssize_t classes,
    const char *next, floating *Z,
) noexcept nogil:
    cdef const floating *W = packed + whole(classes, lanes(packed))
    if p.dots:
        return dots(X, n, p.D, ldx, W, packed, next, classes, Z, p.ldz)
    else:
        return scores(X, n, p.D, ldx, W, packed, next, classes, Z, p.ldz)


cdef void finish_rows(
    Shape *p, Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, floating *Z, double *loss,
) noexcept nogil:
    """Scores of the tile's rows r to r + n, rows first + r and on of the batch: to residuals and the loss, or to S."""
    cdef floating *z = Z + r * p.ldz
    cdef double *base = <double *>(Z + p.up * p.ldz)
    cdef const floating *Y = <const floating *>d.Y
    cdef Py_ssize_t row = first + r, i
    if d.S == NULL:
        loss[0] += residuals(
            z, n, p.K, p.ldz, NULL if d.y == NULL else d.y + row, NULL if Y == NULL else Y + row * d.ldy, d.ldy,
            NULL if d.s == NULL else d.s + row, d.smoothing, base + r, <floating *>(base + p.up) + r,
        )
    else:
        probabilities(z, n, p.K, p.ldz)
        for i in range(n):
            memcpy(<floating *>d.S + (row + i) * p.K, z + i * p.ldz, p.K * sizeof(floating))


cdef Py_ssize_t slice_start(Shape *p, Batch *d, Py_ssize_t i) noexcept nogil:
    """Slice i's first row, among the rows that are here."""
    return i * d.block // p.slices - d.start


cdef void slice_pass(
    Shape *p, Batch *d, Py_ssize_t slice, Py_ssize_t next_slice, const floating *packed, floating *Z, double *sums,
) noexcept nogil:
    """The rows of a slice, added to its sums.  next_slice: the one that this thread probably gets next."""
    cdef Py_ssize_t first = slice_start(p, d, slice), stop = slice_start(p, d, slice + 1), n, i, r, ldt, tiles
    cdef Py_ssize_t after = slice_start(p, d, next_slice), summed = 0
    cdef floating *copy = Z + p.up * (p.ldz + 3)
    cdef floating *partial = Z + p.buffer
    cdef double *db = sums + 8
    cdef double *dW = db + whole(p.K, 8)
    cdef const floating *X = <const floating *>d.X
    cdef const floating *tile
    cdef const char *next
    cdef void *to
    cdef int out
    while first < stop:
        tiles = whole(stop - first, p.tile) // p.tile
        n = (stop - first + tiles - 1) // tiles  # of nearly equal size
        tile, ldt = X + first * d.ldx, d.ldx
        # The next tile is fetched in the order in which it lies, a vector or less at each step of this one's products.
        next = NULL
        if p.copied:
            copy_rows(tile, n, p.D, ldt, copy, p.ldt)
            tile, ldt = copy, p.ldt
        elif first + n < stop:
            next = <const char *>(tile + n * ldt)
        elif after < d.N:
            next = <const char *>(X + after * ldt)
        r = 0
        while r < n:
            i = min(p.rows, n - r)
            next = score_rows(p, tile + r * ldt, ldt, i, packed, p.K, next, Z + r * p.ldz)
            finish_rows(p, d, first, r, i, Z, sums)
            r += i
        if d.S == NULL:
            if d.b != NULL:
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
        first += n


cdef void owned_scores(
    Shape *p, Batch *d, Py_ssize_t n, Py_ssize_t i, const floating *copy, floating *packed, floating *Z,
) noexcept nogil:
    """Part i of the classes: its columns of the tile's scores, from W packed on the way."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k), r = 0
    pack(p, d, k, classes, packed)
    while r < n:
        score_rows(p, copy + r * p.ldt, p.ldt, min(p.rows, n - r), packed, classes, NULL, Z + r * p.ldz + k)
        r += p.rows


cdef void owned_gradient(
    Shape *p, Batch *d, Py_ssize_t n, Py_ssize_t i, const floating *copy, floating *Z, double *db, void *dW, bint fresh,
) noexcept nogil:
    """Part i of the classes: its rows of dW and of db."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k)
    if d.b != NULL:
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


cdef void clear_and_pass(
    Shape *p, Batch *d, Py_ssize_t i, Py_ssize_t next_slice, bint fresh, const floating *packed, floating *own,
    double *sums,
) noexcept nogil:
    if fresh and d.S == NULL:
        memset(sums + i * p.sums, 0, p.sums * sizeof(double))
    slice_pass(p, d, i, next_slice, packed, own, sums + i * p.sums)


cdef void slices_pass(
    Shape *p, Batch *d, Py_ssize_t begin, Py_ssize_t end, bint fresh, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Slices begin to end of a block, on all threads."""
    cdef floating *own = packed + p.packed
    cdef Py_ssize_t i
    if fresh:
        pack(p, d, 0, p.K, packed)
    if n_threads == 1:  # a team of one costs libgomp half a microsecond
        for i in range(begin, end):
            clear_and_pass(p, d, i, i + 1, fresh, packed, own, sums)
    else:
        for i in prange(begin, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
            clear_and_pass(p, d, i, i + n_threads, fresh, packed, own + threadid() * p.work, sums)


cdef int look_for_interrupt() except -1 nogil:
    with gil:
        return PyErr_CheckSignals()


cdef int owned_pass(
    Shape *p, Batch *d, bint fresh, floating *Z, double *sums, floating *dW, int n_threads,
) except -1 nogil:
    """Rows, a tile of them at a time on all threads."""
    cdef floating *copy = Z + p.up * (p.ldz + 3)
    cdef floating *own = Z + p.buffer
    cdef const floating *X = <const floating *>d.X
    cdef double *db = sums + p.sums - whole(p.K, 8) - (p.K * p.ldw if p.doubles else 0)
    cdef void *dW_sums = <void *>(db + whole(p.K, 8)) if p.doubles else <void *>dW
    cdef Py_ssize_t i, n, visits, k, end, first = 0, parts = whole(p.K, p.classes) // p.classes
    cdef Py_ssize_t together = p.parts if p.parts else parts
    if fresh and d.S == NULL:
        memset(sums, 0, p.sums * sizeof(double))
    while first < d.N:
        n = min(p.tile, d.N - first)
        visits = whole(n, p.rows) // p.rows
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            copy_rows(
                X + (first + i * p.rows) * d.ldx, min(p.rows, n - i * p.rows), p.D, d.ldx, copy + i * p.rows * p.ldt,
                p.ldt,
            )
        k = 0
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_scores(p, d, n, i, copy, own + threadid() * p.work, Z)
            if p.parts:
                look_for_interrupt()
            k = end
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            finish_rows(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), Z, sums + i)
        k = 0 if d.S == NULL else parts
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_gradient(p, d, n, i, copy, Z, db, dW_sums, fresh and first == 0)
            if p.parts:
                look_for_interrupt()
            k = end
        first += n
    return 0


cdef void add_slices(Shape *p, double *sums, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Some of the sums: those of all slices, in their order, into the first slice's."""
    cdef Py_ssize_t i, j
    for i in range(1, p.slices):
        for j in range(begin, end):
            sums[j] += sums[i * p.sums + j]


cdef double finish(Shape *p, double *sums, double m, floating *dW, floating *db, int n_threads) noexcept nogil:
    """Add the slices and divide by m: dW and db, and the loss."""
    cdef Py_ssize_t rows = p.D if p.transposed else p.K, i, j, k
    cdef double scale = 1 / m
    cdef floating *row
    cdef double *bias = sums + p.sums - whole(p.K, 8) - (rows * p.ldw if p.doubles else 0)
    cdef double *total = bias + whole(p.K, 8)
    if p.slices > 1:
        if p.slices * p.sums < 65536:  # sooner added than a team is called: 20 us
            n_threads = 1
        for i in prange(p.slices, schedule="static", num_threads=n_threads):
            add_slices(p, sums, i * p.sums // p.slices, (i + 1) * p.sums // p.slices)
    for i in range(1, bias - sums):
        sums[0] += sums[i]
    for k in range(p.K):
        if db != NULL:
            db[k] = <floating>(bias[k] * scale)
        row = dW + k * p.D
        if not p.doubles:
            for j in range(p.D):
                row[j] *= <floating>scale
        elif p.transposed:
            for j in range(p.D):
                row[j] = <floating>(total[j * p.ldw + k] * scale)
        else:
            for j in range(p.D):
                row[j] = <floating>(total[k * p.ldw + j] * scale)
    return sums[0] / m


cdef Batch batch_of(
    const floating[:, :] X, const floating[:, ::1] W, const floating[::1] b, Py_ssize_t block, Py_ssize_t start,
) noexcept:
    cdef Batch d
    d.block, d.start, d.N, d.ldx = block, start, X.shape[0], X.strides[0] // <Py_ssize_t>sizeof(floating)
    d.X, d.W, d.b = <const void *>&X[0, 0], <const void *>&W[0, 0], NULL
    if b is not None:
        d.b = <const void *>&b[0]
    d.y, d.s, d.Y, d.S, d.ldy, d.smoothing = NULL, NULL, NULL, NULL, 0, 0
    return d


def loss_grad(
    const floating[:, :] X,         # IN     rows of a block, columns contiguous
    const Py_ssize_t[::1] y,        # IN     their labels, or None
    const floating[:, :] Y,         # IN     their targets, columns contiguous, or None
    const double[::1] s,            # IN     their weights, or None
    double smoothing,
    const floating[:, ::1] W,       # IN
    const floating[::1] b,          # IN     or None
    plan,
    visit,                          # IN     which rows these are: a Visit
    floating[::1] work,             # WORK   kept from visit to visit, as are
    double[::1] sums,               # INOUT
    floating[:, ::1] dW,            # OUT
    floating[::1] db,               # OUT    or None
    double m,
    int n_threads,
):
    """Add rows to the sums; the first visit clears them, the last one returns the loss."""
    cdef Py_ssize_t block, start, begin, end
    cdef bint first, last
    block, start, begin, end, first, last = visit
    cdef Shape p = shape_of(plan, X.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(X, W, b, block, start)
    cdef floating *own = <floating *>aligned(&work[0])
    cdef floating *dbias = NULL
    cdef double loss = 0
    d.smoothing = smoothing
    if y is not None:
        d.y = &y[0]
    if Y is not None:
        d.Y, d.ldy = <const void *>&Y[0, 0], Y.strides[0] // <Py_ssize_t>sizeof(floating)
    if s is not None:
        d.s = &s[0]
    if db is not None:
        dbias = &db[0]
    with nogil:
        if p.slices:
            slices_pass(&p, &d, begin, end, first, own, &sums[0], n_threads)
        else:
            owned_pass(&p, &d, first, own, &sums[0], &dW[0, 0], n_threads)
        if last:
            loss = finish(&p, &sums[0], m, &dW[0, 0], dbias, n_threads)
    return loss


def predict_proba(
    const floating[:, :] X,         # IN     rows of a block, columns contiguous
    const floating[:, ::1] W,       # IN
    const floating[::1] b,          # IN     or None
    plan,
    visit,
    floating[::1] work,             # WORK   kept from visit to visit
    floating[:, ::1] S,             # OUT    the rows' probabilities
    int n_threads,
):
    """The same pass without targets and gradient."""
    cdef Py_ssize_t block, start, begin, end
    cdef bint first
    block, start, begin, end, first = visit[:5]
    cdef Shape p = shape_of(plan, X.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(X, W, b, block, start)
    cdef floating *own = <floating *>aligned(&work[0])
    d.S = &S[0, 0]
    with nogil:
        if p.slices:
            slices_pass(&p, &d, begin, end, first, own, NULL, n_threads)
        else:
            owned_pass(&p, &d, first, own, NULL, <floating *>NULL, n_threads)


include "given.pxi"
include "losses.pxi"


def exp_f32(const float[::1] x, float[::1] out):
    """e^x of x <= 0, as the pass computes it: for the tests."""
    exps_f32(&x[0], x.shape[0], &out[0])


def exp_f64(const double[::1] x, double[::1] out):
    """e^x of x <= 0, as the pass computes it: for the tests."""
    exps_f64(&x[0], x.shape[0], &out[0])
