"""The fused pass.  N samples, D features, K classes; X (N, D), W (K, D), b (K,), targets Y (N, K), weights s (N,):

    Z = X W^T + b      S_ik = exp(Z_ik) / sum_j exp(Z_ij)      R = S - Y      m = sum_i s_i
    J = -1/m sum_i s_i sum_k Y_ik log S_ik     dJ/dW = 1/m sum_i s_i R_i^T X_i     dJ/db = 1/m sum_i s_i R_i

Rows are cut into tiles.  A tile's one buffer Z holds its scores, then its residuals:

    Z  <- scores(tile)            products.h
    Z  <- residuals(Z, y | Y)     _rows.h, and the loss
    dW <- dW + Z^T tile           products.h; the tile is still in cache
    dX <- Z W                     products.h, where wanted, in place of the tile's copy

CSR rows have stages of their own for the first and the third: sparse.pxi and sparse.h.

The Hessian times (V, c) is the same pass with a second buffer Q = X V^T + c and, for R, A = S o (Q - sum_k S_k Q_k).

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
include "tile.pxi"
include "owned.pxi"
include "sparse.pxi"
include "fisher.pxi"
include "vectors.pxi"


cdef Py_ssize_t slice_start(Shape *p, Batch *d, Py_ssize_t i) noexcept nogil:
    """Slice i's first row, among the rows that are here."""
    return i * d.block // p.slices - d.start


cdef void slice_pass(
    Shape *p, Batch *d, Py_ssize_t slice, Py_ssize_t next_slice, const floating *packed, floating *Z, double *sums,
) noexcept nogil:
    """The rows of a slice, added to its sums.  next_slice: the one that this thread probably gets next."""
    cdef Py_ssize_t first = slice_start(p, d, slice), stop = slice_start(p, d, slice + 1), n, i, r, ldt, tiles
    cdef Py_ssize_t after = slice_start(p, d, next_slice), summed = 0
    cdef floating *copy = Z + p.copy
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
            if d.kind == HESSIAN:
                next = score_rows(p, tile + r * ldt, ldt, i, packed + p.one, p.K, next, Z + r * p.ldz + p.Q)
            finish_rows(p, d, first, r, i, Z, sums)
            r += i
        if summing(d):
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
        if d.dX != NULL:
            input_gradient(p, d, first, n, 0, p.D, Z, copy)
        first += n


cdef void clear_and_pass(
    Shape *p, Batch *d, Py_ssize_t i, Py_ssize_t next_slice, bint fresh, const floating *packed, floating *own,
    double *sums,
) noexcept nogil:
    if fresh and d.kind != PROBABILITIES:
        memset(sums + i * p.apart, 0, p.sums * sizeof(double))
    slice_pass(p, d, i, next_slice, packed, own, sums + i * p.apart)


cdef void slices_pass(
    Shape *p, Batch *d, Py_ssize_t begin, Py_ssize_t end, bint fresh, floating *packed, double *sums, int n_threads,
) noexcept nogil:
    """Slices begin to end of a block, on all threads."""
    cdef floating *own = packed + p.packed
    cdef Py_ssize_t i
    if fresh:
        pack(p, d.W, d.b, 0, p.K, <floating>-INFINITY, packed)
        if d.kind == HESSIAN:
            pack(p, d.V, d.c, 0, p.K, <floating>0, packed + p.one)
    if n_threads == 1:  # a team of one costs libgomp half a microsecond
        for i in range(begin, end):
            clear_and_pass(p, d, i, i + 1, fresh, packed, own, sums)
    else:
        for i in prange(begin, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
            clear_and_pass(p, d, i, i + n_threads, fresh, packed, own + threadid() * p.work, sums)


cdef void add_slices(Shape *p, double *sums, Py_ssize_t begin, Py_ssize_t end) noexcept nogil:
    """Some of the sums: those of all slices, in their order, into the first slice's."""
    cdef Py_ssize_t i, j
    for i in range(1, p.slices):
        for j in range(begin, end):
            sums[j] += sums[i * p.apart + j]


cdef double finish(Shape *p, double *sums, double m, floating *dW, floating *db, int n_threads) noexcept nogil:
    """Add the slices and divide by m: dW and db where wanted, and the loss."""
    cdef Py_ssize_t rows = p.D if p.transposed else p.K, i, j, k
    cdef double scale = 1 / m
    cdef floating *row
    cdef double *bias = sums + p.sums - whole(p.K, 8) - (rows * p.ldw if p.doubles else 0)
    cdef double *total = bias + whole(p.K, 8)
    cdef Py_ssize_t count = bias - sums if dW == NULL else p.sums
    if p.slices > 1:
        if p.slices * count < 65536:  # sooner added than a team is called: 20 us
            n_threads = 1
        for i in prange(p.slices, schedule="static", num_threads=n_threads):
            add_slices(p, sums, i * count // p.slices, (i + 1) * count // p.slices)
    for i in range(1, bias - sums):
        sums[0] += sums[i]
    if dW == NULL:
        return sums[0] / m
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


cdef double visited(
    Shape *p, Batch *d, visit, floating[::1] work, double[::1] sums, floating[:, ::1] dW, floating[::1] db, double m,
    int n_threads,
) except? -1:
    """Rows of a block, on all threads; the last visit returns the loss and leaves dW and db."""
    cdef Py_ssize_t begin, end
    cdef bint first, last
    cdef floating *own = <floating *>aligned(&work[0])
    cdef floating *gradient = NULL if dW is None else &dW[0, 0]
    cdef floating *bias = NULL if db is None else &db[0]
    cdef double *into = NULL if sums is None else &sums[0]
    cdef double loss = 0
    cdef fexcept_t flags
    d.block, d.start, begin, end, first, last = visit
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if p.sparse:
            sparse_pass(p, d, first, last, own, into, gradient, bias, NULL, m, n_threads)
        elif p.slices:
            slices_pass(p, d, begin, end, first, own, into, n_threads)
        else:
            owned_pass(p, d, first, own, into, gradient, n_threads)
        if p.sparse:
            loss = sparse_loss(p, into, m) if last and d.kind != PROBABILITIES else 0
        elif last and d.kind != PROBABILITIES:
            loss = finish(p, into, m, gradient, bias, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
    return loss


cdef Batch batch_of(Kind kind, X, const floating[:, ::1] W, const floating[::1] b):
    """X: rows whose columns are contiguous, or a CSR, which keeps what the pointers point at."""
    cdef Batch d
    cdef const floating[:, :] rows
    memset(&d, 0, sizeof(d))
    d.kind, d.W = kind, <const void *>&W[0, 0]
    d.b = NULL if b is None else <const void *>&b[0]
    if not hasattr(X, "indptr"):
        rows = X
        d.N, d.ldx, d.X = rows.shape[0], rows.strides[0] // <Py_ssize_t>sizeof(floating), <const void *>&rows[0, 0]
    else:
        csr_of(&d, X, W[0])
    return d


def loss_grad(
    X,                              # IN     rows of a block, columns contiguous, or CSR
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
    floating[:, ::1] dW,            # OUT    or None, for the loss alone
    floating[::1] db,               # OUT    or None
    double m,
    int n_threads,
    double[:, ::1] losses=None,     # OUT    each row's loss and top - z_y, or None
):
    """Add rows to the sums; the first visit clears them, the last one returns the loss."""
    cdef Shape p = shape_of(plan, W.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(LOSS if dW is None else GRADIENT, X, W, b)
    d.smoothing = smoothing
    if s is not None:
        d.s = &s[0]
    if y is not None:
        d.y = &y[0]
    if Y is not None:
        d.Y, d.ldy = <const void *>&Y[0, 0], Y.strides[0] // <Py_ssize_t>sizeof(floating)
    if losses is not None:
        d.losses = &losses[0, 0]
    return visited(&p, &d, visit, work, sums, dW, db, m, n_threads)


def hessp(
    X,                              # IN     rows of a block, columns contiguous, or CSR
    const double[::1] s,            # IN     their weights, or None
    const floating[:, ::1] W,       # IN
    const floating[::1] b,          # IN     or None
    const floating[:, ::1] V,       # IN     what the Hessian is multiplied by
    const floating[::1] c,          # IN     and its bias, where W has one
    plan,
    visit,
    floating[::1] work,             # WORK
    double[::1] sums,               # INOUT
    floating[:, ::1] dW,            # OUT    the product
    floating[::1] db,               # OUT    or None
    double m,
    int n_threads,
):
    """Add rows to the sums of A^T X, A = S o (Q - sum_k S_k Q_k), Q = X V^T + c."""
    cdef Shape p = shape_of(plan, W.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(HESSIAN, X, W, b)
    if s is not None:
        d.s = &s[0]
    d.V = <const void *>&V[0, 0]
    if c is not None:
        d.c = <const void *>&c[0]
    visited(&p, &d, visit, work, sums, dW, db, m, n_threads)


def predict_proba(
    X,                              # IN     rows of a block, columns contiguous, or CSR
    const floating[:, ::1] W,       # IN
    const floating[::1] b,          # IN     or None
    plan,
    visit,
    floating[::1] work,             # WORK   kept from visit to visit
    floating[:, ::1] S,             # OUT    the rows' probabilities
    int n_threads,
):
    """The same pass without targets and gradient."""
    cdef Shape p = shape_of(plan, W.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(PROBABILITIES, X, W, b)
    d.S = &S[0, 0]
    visited[floating](&p, &d, visit, work, None, None, None, 1, n_threads)


include "given.pxi"
include "losses.pxi"
include "linear.pxi"


def exp_f32(const float[::1] x, float[::1] out):
    """e^x of x <= 0, as the pass computes it: for the tests."""
    exps_f32(&x[0], x.shape[0], &out[0])


def exp_f64(const double[::1] x, double[::1] out):
    """e^x of x <= 0, as the pass computes it: for the tests."""
    exps_f64(&x[0], x.shape[0], &out[0])


def tanh_f32(const float[::1] x, float[::1] out, float[::1] slopes):
    """tanh x and its derivative, as scores are capped: for the tests."""
    tanhs_f32(&x[0], x.shape[0], &out[0], &slopes[0])


def tanh_f64(const double[::1] x, double[::1] out, double[::1] slopes):
    """tanh x and its derivative, as scores are capped: for the tests."""
    tanhs_f64(&x[0], x.shape[0], &out[0], &slopes[0])
