# The Fisher preconditioner's blocks (fisher.h), a class a thread.

cdef Py_ssize_t GRAM_ROWS = 128     # samples at a time: 785 floats each are 400 KB


cdef void fisher_block(
    const floating *X, Py_ssize_t D, Py_ssize_t ldx, bint ones, const Py_ssize_t *rows, const floating *a,
    Py_ssize_t count, const floating *penalty, floating ridge, Py_ssize_t ld, floating *U, floating *T, floating *work,
) noexcept nogil:
    """M from its weighted rows, then its factor."""
    cdef Py_ssize_t P = D + ones, i = 0, n
    memset(U, 0, P * ld * sizeof(floating))
    while i < count:
        n = min(GRAM_ROWS, count - i)
        if floating is float:
            weigh_rows_f32(X, D, ldx, ones, rows + i, a + i, n, work, ld)
            outer_upper_f32(work, P, work, ld, n, ld, U)
        else:
            weigh_rows_f64(X, D, ldx, ones, rows + i, a + i, n, work, ld)
            outer_upper_f64(work, P, work, ld, n, ld, U)
        i += n
    for i in range(P):
        U[i * (ld + 1)] += penalty[i]
    if floating is float:
        factor_f32(U, P, ld, T, ridge, work)
    else:
        factor_f64(U, P, ld, T, ridge, work)


def fisher_sizes(Py_ssize_t P, Py_ssize_t itemsize):
    """Elements of a row of U, and of each thread's work space."""
    cdef Py_ssize_t ld = whole(P, lanes_of(itemsize))
    return ld, whole(GRAM_ROWS * ld, 64 // itemsize)


def fisher_factor(
    const floating[:, :] X,         # IN     columns contiguous
    const Py_ssize_t[:, ::1] rows,  # IN     (classes, count): the rows of X in each class's sum
    const floating[:, ::1] a,       # IN     (classes, count): the root of what they weigh
    bint ones,                      # IN     whether there is an intercept
    const floating[:, ::1] penalty,  # IN    (classes, P): what is added to the diagonals
    double ridge,
    floating[:, :, ::1] U,          # OUT    (classes, P, ld)
    floating[:, ::1] T,             # OUT    (classes, P)
    floating[::1] work,             # WORK
    int n_threads,
):
    """Factor the block of each class."""
    cdef Py_ssize_t k, classes = U.shape[0], D = X.shape[1], ld = U.shape[2], count = rows.shape[1]
    cdef Py_ssize_t ldx = X.strides[0] // <Py_ssize_t>sizeof(floating)
    cdef Py_ssize_t size = whole(GRAM_ROWS * ld, 64 // sizeof(floating))
    cdef const floating *samples = &X[0, 0]
    cdef floating *factors = &U[0, 0, 0]
    with nogil:
        for k in prange(classes, schedule="dynamic", chunksize=1, num_threads=n_threads):
            fisher_block(
                samples, D, ldx, ones, &rows[0, 0] + k * count, &a[0, 0] + k * count, count,
                &penalty[0, 0] + k * (D + ones), <floating>ridge, ld, factors + k * (D + ones) * ld,
                &T[0, 0] + k * (D + ones), <floating *>&work[0] + threadid() * size,
            )


cdef void solve_block(
    const floating *U, Py_ssize_t P, Py_ssize_t ld, const floating *T, floating *g, Py_ssize_t count, Py_ssize_t ldg,
) noexcept nogil:
    if floating is float:
        solve_f32(U, P, ld, T, g, count, ldg)
    else:
        solve_f64(U, P, ld, T, g, count, ldg)


def fisher_solve(
    const floating[:, :, ::1] U,    # IN     (1 or classes, P, ld)
    const floating[:, ::1] T,       # IN
    floating[:, :, ::1] G,          # INOUT  (vectors, classes, P): each block's inverse times its rows
    int n_threads,
):
    """Solve M_k z = g for each class, and for each of several g."""
    cdef Py_ssize_t k, count = G.shape[0], classes = G.shape[1], P = U.shape[1], ld = U.shape[2], own = U.shape[0] > 1
    with nogil:
        for k in prange(classes, schedule="static", num_threads=n_threads):
            solve_block(
                &U[0, 0, 0] + own * k * P * ld, P, ld, &T[0, 0] + own * k * P, &G[0, 0, 0] + k * P, count, classes * P,
            )
