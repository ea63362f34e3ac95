# Cross-entropy of arrays of scores, as _rows.h and _losses.h do it.

cdef struct Targets:        # of all rows, in the order (o, i) of Given
    const Py_ssize_t *y     # labels, or NULL
    const void *Y           # probabilities, or NULL; arranged as the scores, Yo for xo and Yk for xk
    Py_ssize_t Yo, Yk
    const double *s         # or NULL
    const void *c           # weights of the classes where they multiply each class's target, or NULL
    double smoothing
    double scale            # of the gradient
    double *losses


cdef void loss_rows(
    const Given *g, const Targets *t, Py_ssize_t o, Py_ssize_t i, Py_ssize_t n, floating *Z,
) noexcept nogil:
    """Losses and residuals of n <= L rows from (o, i) on: i goes on if there are columns, else o."""
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
    const Given *g, const Parts *p, const Targets *t, Py_ssize_t part, floating *Z,
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


cdef int losses_parts(const Given *g, const Targets *t, int n_threads, floating *Z) except -1 nogil:
    cdef Parts p = parts_of_given(g, n_threads, Z)
    cdef Py_ssize_t i, begin = 0, end, space = 2 * lanes(Z) * whole(g.K, lanes(Z))
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


def given_losses(
    x,                              # IN     scores, classes along `axis`
    Py_ssize_t axis,
    const Py_ssize_t[::1] y,        # IN     labels of all rows, or None
    Y,                              # IN     or probabilities like x, or None
    const double[::1] s,            # IN     or None: weights of the rows' residuals
    const floating[::1] c,          # IN     or None: of the classes' targets
    double smoothing,
    double scale,                   # of the residuals
    floating[::1] work,             # WORK   two tiles for each thread
    double[::1] losses,             # OUT    of the rows, not weighted by s
    out,                            # OUT    residuals like x, which it may be, or None
    int n_threads,
):
    """Cross-entropy and its gradient; False if these strides need a copy."""
    cdef Py_buffer scores, targets, result
    cdef Given g, h
    cdef Targets t
    cdef fexcept_t flags
    cdef bint done = False, same = True
    t.y, t.Y, t.Yo, t.Yk, t.s, t.c = NULL, NULL, 0, 0, NULL, NULL
    t.smoothing, t.scale, t.losses = smoothing, scale, &losses[0]
    if y is not None:
        t.y = &y[0]
    if s is not None:
        t.s = &s[0]
    if c is not None:
        t.c = <const void *>&c[0]
    PyObject_GetBuffer(x, &scores, PyBUF_STRIDES)
    try:
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
                        losses_parts(&g, &t, n_threads, &work[0])
                    fesetexceptflag(&flags, FE_ALL_EXCEPT)
            finally:
                PyBuffer_Release(&targets)
        finally:
            PyBuffer_Release(&result)
    finally:
        PyBuffer_Release(&scores)
    return done
