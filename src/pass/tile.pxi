# The stages of a tile of dense rows: W is packed, scores are computed and become what the pass is for, and then the
# gradient for X.

cdef void pack(
    DensePlan p, const void *of, const void *bias, Py_ssize_t k, Py_ssize_t classes, floating beyond, floating *packed,
) noexcept nogil:
    """Pack the bias of some classes, with `beyond` in the lanes beyond them, then W in the order that scores read."""
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
    DensePlan p, const floating *X, Py_ssize_t ldx, Py_ssize_t n, const floating *packed, Py_ssize_t classes,
    const char *next, floating *Z,
) noexcept nogil:
    """Find the scores of n rows; return where it has prefetched to."""
    cdef const floating *W = packed + whole(classes, lanes(packed))
    if p.dots:
        return dots(X, n, p.D, ldx, W, packed, next, classes, Z, p.ldz)
    else:
        return scores(X, n, p.D, ldx, W, packed, next, classes, Z, p.ldz)


cdef void finish_rows(
    Plan p, const Batch *d, Py_ssize_t first, Py_ssize_t r, Py_ssize_t n, floating *Z, double *loss,
) noexcept nogil:
    """Turn scores of the tile's rows r to r + n, the visit's rows from first + r on, into what the pass is for."""
    cdef floating *z = Z + r * p.ldz
    cdef double *base = <double *>(Z + p.groups * p.ldz)
    cdef floating *t = <floating *>(base + p.groups) + r
    cdef Py_ssize_t here = first + r, row = d.row + here, i
    cdef const floating *Y = NULL if d.t.Y == NULL else <const floating *>d.t.Y + here * d.t.ldy
    cdef floating *slopes = z + p.Q if d.loss.cap > 0 and (summing(d) or d.out.dX != NULL) else NULL
    cdef const double *s = NULL if d.t.s == NULL else d.t.s + here
    if d.x.offset != NULL:
        add_offset(d, here, n, p.K, p.ldz, z)
    if not counting(d):
        if d.kind == PROBABILITIES:
            probabilities(z, n, p.K, p.ldz)
        for i in range(n):
            memcpy(<floating *>d.out.S + (row + i) * p.K, z + i * p.ldz, p.K * sizeof(floating))
    elif d.kind == HESSIAN:
        probabilities(z, n, p.K, p.ldz)
        curvatures(z, z + p.Q, n, p.K, p.ldz, s)
    else:
        if d.loss.cap > 0:
            cap_scores(z, n, p.K, p.ldz, <floating>d.loss.cap, slopes)
        loss[0] += residuals(
            z, n, p.K, p.ldz, NULL if d.t.y == NULL else d.t.y + here, Y, d.t.ldy, <const floating *>d.loss.weight, s,
            d.loss.smoothing, d.loss.z_loss, base + r, t,
        )
        if slopes != NULL:
            multiply(z, slopes, n, p.K, p.ldz)
        if d.out.losses != NULL:
            for i in range(n):
                d.out.losses[2 * (row + i)] = base[r + i] + t[i]
                d.out.losses[2 * (row + i) + 1] = base[r + i]


cdef void input_gradient(
    DensePlan p, const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t j, Py_ssize_t features, const floating *R,
    floating *copy,
) noexcept nogil:
    """Write dX of some features of the tile: R W, over X's copy, which is no longer needed, and then divided by m."""
    cdef floating *dX = <floating *>d.out.dX + (d.row + first) * p.D + j
    inner(R, n, p.K, p.ldz, <const floating *>d.model.W + j, features, p.D, copy + j, p.ldt)
    scale_rows(copy + j, n, features, p.ldt, <floating>(1 / d.loss.m), dX, p.D)


cdef double divide(DensePlan p, double *sums, double m, floating *dW, floating *db, int n_threads) noexcept nogil:
    """Divide the sums of all rows by m: write dW and db where they are wanted, and return the loss."""
    cdef Py_ssize_t i, k
    cdef double *bias = sums + p.losses
    for i in range(1, p.losses):
        sums[0] += sums[i]
    if dW == NULL:
        return sums[0] / m
    if n_threads == 1 or p.K * p.D < TOGETHER:
        for k in range(p.K):
            divide_row(p, bias, k, 1 / m, dW + k * p.D, db)
    else:
        for k in prange(p.K, schedule="static", num_threads=n_threads):
            divide_row(p, bias, k, 1 / m, dW + k * p.D, db)
    return sums[0] / m


cdef void divide_row(
    DensePlan p, const double *bias, Py_ssize_t k, double scale, floating *row, floating *db,
) noexcept nogil:
    """Write a class's row of dW, and its db where that is wanted, from the sums."""
    cdef Py_ssize_t j
    cdef const double *total = bias + whole(p.K, 8)
    if db != NULL:
        db[k] = <floating>(bias[k] * scale)
    if not p.doubles:
        for j in range(p.D):
            row[j] *= <floating>scale
    elif p.transposed:
        for j in range(p.D):
            row[j] = <floating>(total[j * p.ldw + k] * scale)
    else:
        for j in range(p.D):
            row[j] = <floating>(total[k * p.ldw + j] * scale)
