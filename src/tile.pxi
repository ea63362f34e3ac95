# The stages of a tile: W packed, scores, and what becomes of the scores of each row.

cdef enum Kind:             # what a pass is for
    GRADIENT                # the loss and its gradient
    LOSS                    # the loss alone
    PROBABILITIES
    HESSIAN                 # the Hessian times (V, c)

cdef struct Batch:          # rows of a block, as the caller has them
    Kind kind
    Py_ssize_t block        # rows of the block, which its slices share out
    Py_ssize_t start        # the first row here, and how many there are
    Py_ssize_t N
    Py_ssize_t ldx, ldy
    const void *X           # rows, or the data of CSR rows,
    const void *indices     # their features, int32 or int64,
    bint wide
    const Py_ssize_t *indptr  # and where each row begins; else NULL
    const void *Y           # targets, or NULL
    const Py_ssize_t *y     # labels, or NULL
    const double *s         # or NULL
    const void *weight      # of the classes' targets, or NULL
    double smoothing
    double z_loss           # of a row: z_loss lse^2
    double cap              # of the scores: z <- cap tanh(z / cap), or 0
    const void *W
    const void *b           # or NULL
    const void *V           # what the Hessian is multiplied by, and its bias
    const void *c
    bint exact              # W, b, V, c and the result are of doubles; to the result l2 times W or V is added
    double l2
    void *S                 # where probabilities go
    void *dX                # where the gradient for X goes, times scale, or NULL
    double scale
    double *losses          # where each row's loss and top - z_y go, or NULL


cdef void *aligned(void *at) noexcept nogil:
    return <void *>((<size_t>at + 63) // 64 * 64)


cdef bint summing(Batch *d) noexcept nogil:
    """Whether there is a gradient, or what the Hessian makes of one."""
    return d.kind == GRADIENT or d.kind == HESSIAN


cdef void pack(
    Shape *p, const void *of, const void *bias, Py_ssize_t k, Py_ssize_t classes, floating beyond, floating *packed,
) noexcept nogil:
    """The bias of some classes, with `beyond` in the lanes beyond, then their W in the order that scores read it in."""
    cdef Py_ssize_t i, up = whole(classes, lanes(packed))
    cdef const floating *b = <const floating *>bias
    cdef const floating *W = <const floating *>of + k * p.D
    for i in range(up):
        packed[i] = beyond if i >= classes else 0 if b == NULL else b[k + i]
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
    """Scores of the tile's rows r to r + n, rows first + r and on of the batch: to what the pass is for."""
    cdef floating *z = Z + r * p.ldz
    cdef double *base = <double *>(Z + p.up * p.ldz)
    cdef floating *t = <floating *>(base + p.up) + r
    cdef const floating *Y = <const floating *>d.Y
    cdef floating *slopes = z + p.Q if d.cap > 0 and (summing(d) or d.dX != NULL) else NULL
    cdef const double *s = NULL if d.s == NULL else d.s + first + r
    cdef Py_ssize_t row = first + r, i
    if d.kind == PROBABILITIES:
        probabilities(z, n, p.K, p.ldz)
        for i in range(n):
            memcpy(<floating *>d.S + (row + i) * p.K, z + i * p.ldz, p.K * sizeof(floating))
    elif d.kind == HESSIAN:
        probabilities(z, n, p.K, p.ldz)
        curvatures(z, z + p.Q, n, p.K, p.ldz, s)
    else:
        if d.cap > 0:
            cap_scores(z, n, p.K, p.ldz, <floating>d.cap, slopes)
        loss[0] += residuals(
            z, n, p.K, p.ldz, NULL if d.y == NULL else d.y + row, NULL if Y == NULL else Y + row * d.ldy, d.ldy,
            <const floating *>d.weight, s, d.smoothing, d.z_loss, base + r, t,
        )
        if slopes != NULL:
            multiply(z, slopes, n, p.K, p.ldz)
        if d.losses != NULL:
            for i in range(n):
                d.losses[2 * (row + i)] = base[r + i] + t[i]
                d.losses[2 * (row + i) + 1] = base[r + i]


cdef void input_gradient(
    Shape *p, Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j, Py_ssize_t features, const floating *R,
    floating *copy,
) noexcept nogil:
    """dX of some features of the tile: R W in the place of X's copy, no longer needed, and scaled to the caller."""
    inner(R, n, p.K, p.ldz, <const floating *>d.W + j, features, p.D, copy + j, p.ldt)
    scale_rows(copy + j, n, features, p.ldt, <floating>d.scale, <floating *>d.dX + first * p.D + j, p.D)
