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
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for k in prange(classes, schedule="dynamic", chunksize=1, num_threads=n_threads):
            fisher_block(
                samples, D, ldx, ones, &rows[0, 0] + k * count, &a[0, 0] + k * count, count,
                &penalty[0, 0] + k * (D + ones), <floating>ridge, ld, factors + k * (D + ones) * ld,
                &T[0, 0] + k * (D + ones), <floating *>&work[0] + threadid() * size,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


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
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for k in prange(classes, schedule="static", num_threads=n_threads):
            solve_block(
                &U[0, 0, 0] + own * k * P * ld, P, ld, &T[0, 0] + own * k * P, &G[0, 0, 0] + k * P, count, classes * P,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef Py_ssize_t HESSIAN_ROWS = 64   # samples at a time


cdef void hessian_rows(
    const double *X, Py_ssize_t P, const double *S, Py_ssize_t K, const double *s, Py_ssize_t count, double *H,
    Py_ssize_t ld, double *work,
) noexcept nogil:
    """H += sum_i s_i S_ik (delta_kl - S_il) x_i x_i^T in the blocks k <= l, K P rows of ld."""
    cdef Py_ssize_t L = lanes_f64, ldp = whole(P, L), i = 0, r, k, j, n, rest
    cdef double *plain = work                       # the samples, in rows of ldp,
    cdef double *weighted = plain + HESSIAN_ROWS * ldp
    cdef double *scaled = weighted + HESSIAN_ROWS * ldp  # and S_ik x_i of all classes, in rows of ld
    cdef double a
    memset(work, 0, HESSIAN_ROWS * (2 * ldp + ld) * sizeof(double))
    while i < count:
        n = min(HESSIAN_ROWS, count - i)
        copy_rows_f64(X + i * P, n, P, P, plain, ldp)
        for r in range(n):
            for k in range(K):
                for j in range(P):
                    scaled[r * ld + k * P + j] = S[(i + r) * K + k] * plain[r * ldp + j]
        for k in range(K):
            for r in range(n):
                a = s[i + r] * S[(i + r) * K + k]
                for j in range(P):
                    weighted[r * ldp + j] = a * (1 - S[(i + r) * K + k]) * plain[r * ldp + j]
            outer_f64(weighted, P, ldp, plain, ldp, ldp, n, NULL, H + k * P * (ld + 1), ld, P, ADD)
            rest = (K - 1 - k) * P
            if rest == 0:
                break
            for r in range(n):
                a = -s[i + r] * S[(i + r) * K + k]
                for j in range(P):
                    weighted[r * ldp + j] = a * plain[r * ldp + j]
            outer_f64(
                weighted, P, ldp, scaled + (k + 1) * P, whole(rest, L), ld, n, NULL, H + k * P * (ld + 1) + P, ld, rest,
                ADD,
            )
        i += n


def hessian_sizes(Py_ssize_t P, Py_ssize_t K):
    """Doubles of a row of H, and of each thread's work space."""
    cdef Py_ssize_t ld = whole(K * P, lanes_f64) + lanes_f64
    return ld, whole(HESSIAN_ROWS * (2 * whole(P, lanes_f64) + ld), 8)


def hessian(
    const double[:, ::1] X,         # IN     (n, P), with a column of ones where there is an intercept
    const double[:, ::1] S,         # IN     (n, K)
    const double[::1] s,            # IN     (n,)
    double[:, :, ::1] H,            # INOUT  (slices, K P, ld): the blocks on and above the diagonal are added to
    double[::1] work,               # WORK
    int n_threads,
):
    """Add the Hessian's sum over some samples, a slice of them to each matrix."""
    cdef Py_ssize_t i, slices = H.shape[0], n = X.shape[0], P = X.shape[1], K = S.shape[1], Q = H.shape[1]
    cdef Py_ssize_t ld = H.shape[2], size = work.shape[0] // n_threads
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        for i in prange(slices, schedule="dynamic", chunksize=1, num_threads=n_threads):
            hessian_rows(
                &X[0, 0] + i * n // slices * P, P, &S[0, 0] + i * n // slices * K, K, &s[0] + i * n // slices,
                (i + 1) * n // slices - i * n // slices, &H[0, 0, 0] + i * Q * ld, ld, &work[0] + threadid() * size,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
