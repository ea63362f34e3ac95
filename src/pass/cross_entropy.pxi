# Cross-entropy of logits: cross_entropy.h and residuals.h compute it.

cdef struct LogitTargets:   # of all rows, in the order (o, i) of Logits
    const Py_ssize_t *y     # labels, or NULL
    const void *Y           # probabilities, or NULL; arranged as the scores, Yo for xo and Yk for xk
    Py_ssize_t Yo, Yk
    const double *s         # the rows' weights in the gradient, or NULL
    const void *c           # weights of the classes where they multiply each class's target, or NULL
    double smoothing
    double scale            # of the gradient
    double *losses


cdef Py_ssize_t space_of(Py_ssize_t K, Py_ssize_t L) noexcept nogil:
    """Return the elements of a thread's work space: two tiles of L rows."""
    return 2 * L * whole(K, L)


def logits_space(Py_ssize_t K, Py_ssize_t itemsize):
    """Return how many numbers of work space `cross_entropy` needs for each thread."""
    return space_of(K, lanes_of(itemsize))


cdef void loss_rows(
    const Logits *g, const LogitTargets *t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t n, floating *Z,
) noexcept nogil:
    """Find losses and residuals of n <= L rows from (o, i) on, along i where there are columns, and else along o."""
    cdef Py_ssize_t K = g.K, ldz = whole(K, lanes(Z)), row = o * g.inner + i, j
    cdef bint columns = g.inner > 1
    cdef Py_ssize_t ldx = g.xk if columns else g.xo, ldo = g.ok if columns else g.oo
    cdef const floating *x = <const floating *>g.x + o * g.xo + i
    cdef floating *out = NULL if g.out == NULL else <floating *>g.out + o * g.oo + i
    cdef floating *T = Z + lanes(Z) * ldz
    cdef const Py_ssize_t *y = NULL if t.y == NULL else t.y + row
    cdef double s[16]
    cdef double base[16]
    cdef floating log_t[16]
    for j in range(n):
        s[j] = t.scale if t.s == NULL else t.scale * t.s[row + j]
    if y != NULL and t.c == NULL and K <= COLUMNS_MOST:
        label_losses(
            x, ldx, out, ldo, n, K, <const floating *>NULL if columns else end_of(g, <const floating *>g.x), y, s,
            t.smoothing, base, log_t,
        )
    else:
        to_tile(x, ldx, n, K, columns, <floating>-INFINITY, Z, ldz)
        if t.Y != NULL:
            to_tile(
                <const floating *>t.Y + o * t.Yo + i, t.Yk if columns else t.Yo, n, K, columns, <floating>0, T, ldz,
            )
        residuals(Z, n, K, ldz, y, T, ldz, <const floating *>t.c, s, t.smoothing, 0, base, log_t)
        if out != NULL:
            from_tile(Z, ldz, n, K, columns, out, ldo)
    for j in range(n):
        t.losses[row + j] = base[j] + log_t[j]


cdef void losses_part(
    const Logits *g, const Parts *p, const LogitTargets *t, Py_ssize_t part, floating *Z,
) noexcept nogil:
    cdef Py_ssize_t o = part // p.across * p.rows, first = part % p.across * p.columns, i = first
    cdef Py_ssize_t rows = min(o + p.rows, g.outer), columns = min(first + p.columns, g.inner), L = lanes(Z)
    while o < rows:
        if g.inner == 1:
            loss_rows(g, t, o, 0, min(L, rows - o), Z)
            o += L
        else:
            loss_rows(g, t, o, i, min(L, columns - i), Z)
            i += L
            if i >= columns:
                o, i = o + 1, first


cdef int losses_parts(const Logits *g, const LogitTargets *t, int n_threads, floating *Z) except -1 nogil:
    cdef Parts p = parts_of_logits(g, n_threads, Z)
    cdef Py_ssize_t i, begin = 0, end, space = space_of(g.K, lanes(Z))
    while begin < p.count:
        end = min(begin + p.visit, p.count)
        if p.n_threads == 1:
            for i in range(begin, end):
                losses_part(g, &p, t, i, Z)
        else:
            for i in prange(begin, end, schedule="dynamic", num_threads=p.n_threads):
                losses_part(g, &p, t, i, Z + threadid() * space)
        if end < p.count:
            look_for_interrupt()
        begin = end
    return 0


cdef class LogitLoss:
    """What is asked of cross-entropy, but for the logits, and for probabilities that are arranged as they are."""

    cdef LogitTargets t
    cdef tuple held         # the arrays, which must live as long

    def __init__(
        self,
        y,                      # IN     (rows,) labels, or None
        s,                      # IN     (rows,) weights of the residuals, or None
        c,                      # IN     (K,) weights of the classes' targets, or None
        double smoothing,
        double scale,           # of the residuals
        losses,                 # OUT    (rows,), not weighted by s
    ):
        self.held = y, s, c, losses
        self.t.y = <const Py_ssize_t *>numbers(y, b"i", sizeof(Py_ssize_t), 0, False)
        self.t.s = <const double *>numbers(s, b"f", sizeof(double), 0, False)
        self.t.c = NULL if c is None else numbers(c, b"f", c.itemsize, 0, False)
        self.t.smoothing, self.t.scale = smoothing, scale
        self.t.losses = <double *>numbers(losses, b"f", sizeof(double), 0, True)


def cross_entropy(
    LogitLoss loss,
    x,                              # IN     logits, classes along `axis`
    Y,                              # IN     probabilities like x, or None
    Py_ssize_t axis,
    work,                           # WORK   what logits_space says, for each thread
    out,                            # OUT    residuals like x, which it may be, or None
    int n_threads,
):
    """Compute cross-entropy and its gradient; return False if these strides need a copy."""
    cdef Py_buffer scores, targets, result
    cdef Logits g, h
    cdef LogitTargets t = loss.t
    cdef fexcept_t flags
    cdef bint done = False, same = True
    cdef void *space
    PyObject_GetBuffer(x, &scores, PyBUF_STRIDES)
    try:
        space = numbers(work, b"f", scores.itemsize, 0, True)
        PyObject_GetBuffer(
            x if out is None else out, &result, PyBUF_STRIDES if out is None else PyBUF_STRIDES | PyBUF_WRITABLE,
        )
        try:
            PyObject_GetBuffer(x if Y is None else Y, &targets, PyBUF_STRIDES)
            try:
                same = arrange(&scores, &result, 1 << axis, False, True, &g)
                same = same and arrange(&scores, &targets, 1 << axis, False, True, &h)
                if same and g.outer == h.outer and g.K == h.K and g.inner == h.inner:
                    done = True
                    if out is None:
                        g.out = NULL
                    if Y is not None:
                        t.Y, t.Yo, t.Yk = h.out, h.oo, h.ok
                    fegetexceptflag(&flags, FE_ALL_EXCEPT)
                    with nogil:
                        if scores.itemsize == sizeof(float):
                            losses_parts(&g, &t, n_threads, <float *>space)
                        else:
                            losses_parts(&g, &t, n_threads, <double *>space)
                    fesetexceptflag(&flags, FE_ALL_EXCEPT)
            finally:
                PyBuffer_Release(&targets)
        finally:
            PyBuffer_Release(&result)
    finally:
        PyBuffer_Release(&scores)
    return done
