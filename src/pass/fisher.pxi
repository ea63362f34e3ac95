# The Fisher preconditioner's blocks (fisher.h); a thread takes a class at a time.

cdef Py_ssize_t GRAM_ROWS = 128     # samples that are taken at a time: of 785 floats each, they are 400 KB


cdef Py_ssize_t block_row(Py_ssize_t P, Py_ssize_t itemsize):
    """Return the elements from row to row of U."""
    return whole(P, lanes_of(itemsize))


cdef Py_ssize_t block_space(Py_ssize_t ld, Py_ssize_t itemsize) noexcept nogil:
    """Return the elements of a thread's work space."""
    return whole(GRAM_ROWS * ld, 64 // itemsize)


def fisher_sizes(Py_ssize_t P, Py_ssize_t itemsize):
    """Return the elements of a row of U, and of each thread's work space."""
    cdef Py_ssize_t ld = block_row(P, itemsize)
    return ld, block_space(ld, itemsize)


cdef struct ClassSamples:   # what the blocks of all classes are summed from
    const void *X           # rows of D features, ldx apart, of a type of widen.h
    Py_ssize_t D, ldx
    int element
    const void *standard    # the features' means, and behind them what multiplies the differences; or NULL
    bint ones               # whether a 1 follows them, for the intercept
    const Py_ssize_t *rows  # `count` of each class: the rows of X in its sum
    const void *a           # and the roots of what they weigh
    Py_ssize_t count
    const void *penalty     # (classes, P): what is added to the diagonals
    double ridge
    bint whole              # whether M itself is wanted, both triangles, and not its factor


cdef void fisher_block(
    const ClassSamples *x, Py_ssize_t k, Py_ssize_t ld, floating *U, floating *T, floating *work,
) noexcept nogil:
    """Sum M of class k from its weighted rows, and factor it."""
    cdef Py_ssize_t P = x.D + x.ones, i = 0, j, n
    cdef const Py_ssize_t *rows = x.rows + k * x.count
    cdef const floating *a = <const floating *>x.a + k * x.count
    cdef const floating *penalty = <const floating *>x.penalty + k * P
    memset(U, 0, P * ld * sizeof(floating))
    while i < x.count:
        n = min(GRAM_ROWS, x.count - i)
        weigh_rows(
            x.X, x.element, x.D, x.ldx, x.ones, rows + i, a + i, n, <const floating *>x.standard, work, ld,
        )
        outer_upper(work, P, work, ld, n, ld, U)
        i += n
    for i in range(P):
        U[i * (ld + 1)] += penalty[i]
    if x.whole:
        for i in range(P):
            for j in range(i):
                U[i * ld + j] = U[j * ld + i]
    else:
        factor(U, P, ld, T, <floating>x.ridge, False, work)


cdef void fisher_blocks(
    const ClassSamples *x, Py_ssize_t classes, Py_ssize_t ld, floating *U, floating *T, floating *work, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t k, P = x.D + x.ones, space = block_space(ld, sizeof(floating))
    for k in prange(classes, schedule="dynamic", chunksize=1, num_threads=n_threads):
        fisher_block(x, k, ld, U + k * P * ld, T + k * P, work + threadid() * space)


cdef void solve_blocks(
    const floating *U, const floating *T, Py_ssize_t P, Py_ssize_t ld, bint own, floating *G, Py_ssize_t count,
    Py_ssize_t classes, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t k
    for k in prange(classes, schedule="static", num_threads=n_threads):
        solve(U + own * k * P * ld, P, ld, T + own * k * P, G + k * P, count, classes * P)


cdef int by_class(vector, floating *G, Py_ssize_t classes, Py_ssize_t P, Py_ssize_t biases) except -1:
    """Write rows (W_k, b_k) to G, from a vector [W, row after row; b] of floats or doubles."""
    cdef Py_ssize_t k, j, D = P - biases
    cdef const float *narrow
    cdef const double *wide
    if vector.itemsize == sizeof(float):
        narrow = <const float *>numbers(vector, b"f", sizeof(float), classes * P, False)
        for k in range(classes):
            for j in range(D):
                G[k * P + j] = narrow[k * D + j]
            if biases:
                G[k * P + D] = narrow[classes * D + k]
    else:
        wide = <const double *>numbers(vector, b"f", sizeof(double), classes * P, False)
        for k in range(classes):
            for j in range(D):
                G[k * P + j] = <floating>wide[k * D + j]
            if biases:
                G[k * P + D] = <floating>wide[classes * D + k]
    return 0


cdef void by_layout(
    const floating *G, double *vector, Py_ssize_t classes, Py_ssize_t P, Py_ssize_t biases,
) noexcept nogil:
    """Write the vector [W, row after row; b], from rows (W_k, b_k)."""
    cdef Py_ssize_t k, j, D = P - biases
    for k in range(classes):
        for j in range(D):
            vector[k * D + j] = G[k * P + j]
        if biases:
            vector[classes * D + k] = G[k * P + D]


cdef class Factors:
    """The factors of the blocks M_k = T (U^T U) T of some classes, or one of them for all."""

    cdef Py_ssize_t classes, P, ld, itemsize
    cdef void *U
    cdef void *T
    cdef void *work
    cdef tuple held         # the arrays, which must live as long
    cdef readonly Py_ssize_t count  # of factors: one for all classes, or one for each

    def __init__(
        self,
        U,                      # OUT    (classes, P, ld)
        T,                      # OUT    (classes, P)
        work,                   # WORK   what fisher_sizes says, for each thread
    ):
        self.held = U, T, work
        self.classes, self.P, self.ld = U.shape
        self.itemsize, self.count = U.itemsize, 0
        self.U = numbers(U, b"f", self.itemsize, self.classes * self.P * self.ld, True)
        self.T = numbers(T, b"f", self.itemsize, self.classes * self.P, True)
        self.work = numbers(work, b"f", self.itemsize, 0, True)

    def factor(
        self,
        X,                      # IN     (n, D), columns contiguous
        rows,                   # IN     (classes or 1, samples): the rows of X in each class's sum
        a,                      # IN     likewise: the root of what they weigh
        bint ones,              # whether there is an intercept
        penalty,                # IN     (classes or 1, P): what is added to the diagonals
        double ridge,
        int n_threads,
        standard=None,          # IN     (2, D): the mean of each feature, and the inverse of its scale
        *,
        bint whole=False,       # whether U gets the blocks themselves, and T nothing
    ):
        """Compute as many factors as `rows` has classes."""
        cdef ClassSamples x
        cdef Py_ssize_t n, count = len(rows)
        cdef fexcept_t flags
        x.D, x.ones, x.count, x.ridge, x.whole = self.P - ones, ones, rows.shape[1], ridge, whole
        x.X = rows_of(X, self.itemsize, x.D, &n, &x.ldx, &x.element)
        x.rows = <const Py_ssize_t *>numbers(rows, b"i", sizeof(Py_ssize_t), count * x.count, False)
        x.a = numbers(a, b"f", self.itemsize, count * x.count, False)
        x.penalty = numbers(penalty, b"f", self.itemsize, count * self.P, False)
        x.standard = numbers(standard, b"f", self.itemsize, 2 * x.D, False)
        self.count = min(count, self.classes)
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        with nogil:
            if self.itemsize == sizeof(float):
                fisher_blocks(
                    &x, self.count, self.ld, <float *>self.U, <float *>self.T, <float *>self.work, n_threads,
                )
            else:
                fisher_blocks(
                    &x, self.count, self.ld, <double *>self.U, <double *>self.T, <double *>self.work, n_threads,
                )
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def apply(
        self,
        vectors,                # IN     each (classes D, row after row; classes), of floats or doubles
        G,                      # WORK   (vectors, classes, P)
        out,                    # OUT    (vectors, size), float64
        Py_ssize_t biases,      # 1 if a class's last parameter is a bias, which vectors have at their end; 0 if not
        int n_threads,
    ):
        """Solve M_k z = g for each class of some vectors, in the order of `Parameters`."""
        cdef Py_ssize_t v, classes = G.shape[1], size = classes * self.P
        cdef void *g = numbers(G, b"f", self.itemsize, len(vectors) * size, True)
        cdef double *to = <double *>numbers(out, b"f", sizeof(double), len(vectors) * size, True)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        for v in range(len(vectors)):
            if self.itemsize == sizeof(float):
                by_class(vectors[v], <float *>g + v * size, classes, self.P, biases)
            else:
                by_class(vectors[v], <double *>g + v * size, classes, self.P, biases)
        self.solve(G[:len(vectors)], n_threads)
        for v in range(len(vectors)):
            if self.itemsize == sizeof(float):
                by_layout(<float *>g + v * size, to + v * size, classes, self.P, biases)
            else:
                by_layout(<double *>g + v * size, to + v * size, classes, self.P, biases)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def solve(
        self,
        G,                      # INOUT  (vectors, classes, P): each block's inverse times its rows
        int n_threads,
    ):
        """Solve M_k z = g for each class, and for each of several g."""
        cdef Py_ssize_t vectors, classes
        cdef void *g = numbers(G, b"f", self.itemsize, 0, True)
        cdef fexcept_t flags
        vectors, classes = G.shape[0], G.shape[1]
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        with nogil:
            if self.itemsize == sizeof(float):
                solve_blocks(
                    <float *>self.U, <float *>self.T, self.P, self.ld, self.count > 1, <float *>g, vectors, classes,
                    n_threads,
                )
            else:
                solve_blocks(
                    <double *>self.U, <double *>self.T, self.P, self.ld, self.count > 1, <double *>g, vectors, classes,
                    n_threads,
                )
        fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void scale_class(
    const floating *g, double db, Py_ssize_t D, const double *inverse, const double *mean, bint biases, double *to,
    double *bias,
) noexcept nogil:
    """Multiply one class by the inverse of a diagonal, which is for features less their mean if there is one."""
    cdef Py_ssize_t j
    if mean == NULL:
        for j in range(D):
            to[j] = g[j] * inverse[j]
    else:
        for j in range(D):
            to[j] = (g[j] - db * mean[j]) * inverse[j]
    if biases:
        bias[0] = db * inverse[D] - (0 if mean == NULL else product(mean, to, D))


cdef void scale_classes(
    const floating *g, Py_ssize_t classes, Py_ssize_t D, const double *inverse, Py_ssize_t inverses,
    const double *mean, Py_ssize_t means, bint biases, double *to, int n_threads,
) noexcept nogil:
    """Multiply all classes; the diagonal and the mean have a row for each of them, or one for all."""
    cdef Py_ssize_t k, P = D + biases
    for k in prange(classes, schedule="static", num_threads=n_threads):
        scale_class(
            g + k * D, g[classes * D + k] if biases else 0, D, inverse + (0 if inverses == 1 else k * P),
            NULL if mean == NULL else mean + (0 if means == 1 else k * D), biases, to + k * D, to + classes * D + k,
        )


cdef void scale_all(
    bint wide, const void *g, Py_ssize_t classes, Py_ssize_t D, const double *inverse, Py_ssize_t inverses,
    const double *mean, Py_ssize_t means, bint biases, double *to, int n_threads,
) noexcept nogil:
    if wide:
        scale_classes(<const double *>g, classes, D, inverse, inverses, mean, means, biases, to, n_threads)
    else:
        scale_classes(<const float *>g, classes, D, inverse, inverses, mean, means, biases, to, n_threads)


def diagonal_apply(
    vector,                 # IN     (classes D, row after row; classes), of floats or doubles
    const double[:, ::1] inverse,   # IN     (1 or classes, P): of the diagonal
    mean,                   # IN     (1 or classes, D), float64: for which the diagonal is, or None
    out,                    # OUT    (size,), float64
    Py_ssize_t biases,      # as of `Factors.apply`
    int n_threads,
):
    """Multiply a vector by the inverse of a diagonal, of features less their mean if there is one.

    The intercepts are those of the features as they are: they take what the weights give to the mean.
    """
    cdef Py_ssize_t P = inverse.shape[1], size = out.shape[0], D = P - biases, means = 0
    cdef double *to = <double *>numbers(out, b"f", sizeof(double), size, True)
    cdef const void *g = numbers(vector, b"f", vector.itemsize, size, False)
    cdef const double *centre = NULL
    cdef bint wide = vector.itemsize == sizeof(double)
    cdef fexcept_t flags
    if size % P or inverse.shape[0] not in (1, size // P):
        raise ValueError(f"expected rows of {size} / {P} classes or one, got {inverse.shape[0]}")
    if mean is not None:
        means = mean.shape[0]
        centre = <const double *>numbers(mean, b"f", sizeof(double), (1 if means == 1 else size // P) * D, False)
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    if size >= RELEASING:
        with nogil:
            scale_all(wide, g, size // P, D, &inverse[0, 0], inverse.shape[0], centre, means, biases, to, n_threads)
    else:
        scale_all(wide, g, size // P, D, &inverse[0, 0], inverse.shape[0], centre, means, biases, to, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
