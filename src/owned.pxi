# Classes with owners: the cut of a pass whose gradient is too large for a copy in each slice.

cdef void owned_scores(
    Shape *p, const void *W, const void *b, floating beyond, Py_ssize_t n, Py_ssize_t i, const floating *copy,
    floating *packed, floating *Z,
) noexcept nogil:
    """Part i of the classes: its columns of the tile's scores, from W packed on the way."""
    cdef Py_ssize_t k = i * p.classes, classes = min(p.classes, p.K - k), r = 0
    pack(p, W, b, k, classes, beyond, packed)
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


cdef int look_for_interrupt() except -1 nogil:
    with gil:
        return PyErr_CheckSignals()


cdef int owned_pass(
    Shape *p, Batch *d, bint fresh, floating *Z, double *sums, floating *dW, int n_threads,
) except -1 nogil:
    """Rows, a tile of them at a time on all threads."""
    cdef floating *copy = Z + p.copy
    cdef floating *own = Z + p.buffer
    cdef const floating *X = <const floating *>d.X
    cdef double *db = sums + p.sums - whole(p.K, 8) - (p.K * p.ldw if p.doubles else 0)
    cdef void *dW_sums = <void *>(db + whole(p.K, 8)) if p.doubles else <void *>dW
    cdef Py_ssize_t i, n, visits, k, end, first = 0, parts = whole(p.K, p.classes) // p.classes
    cdef Py_ssize_t together = p.parts if p.parts else parts
    cdef Py_ssize_t features = whole((p.D + 15) // 16, MAX_V * lanes(Z))  # of a part of dX: whole panels
    if fresh and d.kind != PROBABILITIES:
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
                owned_scores(
                    p, d.W, d.b, <floating>-INFINITY, n, i, copy, own + threadid() * p.work, Z,
                )
                if d.kind == HESSIAN:
                    owned_scores(p, d.V, d.c, <floating>0, n, i, copy, own + threadid() * p.work, Z + p.Q)
            if p.parts:
                look_for_interrupt()
            k = end
        for i in prange(visits, schedule="dynamic", chunksize=1, num_threads=n_threads):
            finish_rows(p, d, first, i * p.rows, min(p.rows, n - i * p.rows), Z, sums + i)
        k = 0 if summing(d) else parts  # of the gradient
        while k < parts:
            end = min(k + together, parts)
            for i in prange(k, end, schedule="dynamic", chunksize=1, num_threads=n_threads):
                owned_gradient(p, d, n, i, copy, Z, db, dW_sums, fresh and first == 0)
            if p.parts:
                look_for_interrupt()
            k = end
        k = 0 if d.dX != NULL else p.D
        while k < p.D:
            end = min(k + (features * max(1, 16 * p.parts // parts) if p.parts else p.D), p.D)
            for i in prange(k, end, features, schedule="dynamic", chunksize=1, num_threads=n_threads):
                input_gradient(p, d, first, n, i, min(features, p.D - i), Z, copy)
            if p.parts:
                look_for_interrupt()
            k = end
        first += n
    return 0
