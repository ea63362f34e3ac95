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
    if n_threads == 1:  # without OpenMP: even a team of one takes time
        for k in range(classes):
            solve(U + own * k * P * ld, P, ld, T + own * k * P, G + k * P, count, classes * P)
    else:
        for k in prange(classes, schedule="static", num_threads=n_threads):
            solve(U + own * k * P * ld, P, ld, T + own * k * P, G + k * P, count, classes * P)


cdef void rows_by_class(
    const floating *v, Py_ssize_t classes, Py_ssize_t P, Py_ssize_t biases, bint wide, void *G,
) noexcept nogil:
    """Write rows (W_k, b_k) to G, of doubles if it is `wide`, from a vector [W, row after row; b]."""
    cdef Py_ssize_t k, j, D = P - biases
    cdef float *narrow = <float *>G
    cdef double *to = <double *>G
    for k in range(classes):
        if wide:
            for j in range(D):
                to[k * P + j] = v[k * D + j]
            if biases:
                to[k * P + D] = v[classes * D + k]
        else:
            for j in range(D):
                narrow[k * P + j] = <float>v[k * D + j]
            if biases:
                narrow[k * P + D] = <float>v[classes * D + k]


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


cdef class Inverse:
    """An approximate inverse of the Hessian."""

    cdef Py_ssize_t size        # of the vectors that it multiplies
    cdef Py_ssize_t itemsize    # bytes of a number of its work space

    cdef void times(
        self, const double *a, const void *b, bint wide, void *work, double *to, int n_threads,
    ) noexcept nogil:
        """Write the products with a and, if b is not NULL, with b, which is of doubles if it is `wide`, after it."""


cdef class Factors(Inverse):
    """The factors of the blocks M_k = T (U^T U) T of some classes, or one of them for all."""

    cdef Py_ssize_t classes, P, ld
    cdef bint ones          # whether the last parameter of a class is an intercept: they are the last of a vector
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
        bint ones,              # whether there are intercepts
    ):
        self.held = U, T, work
        self.classes, self.P, self.ld = U.shape
        self.size, self.ones = self.classes * self.P, ones
        self.itemsize, self.count = U.itemsize, 0
        self.U = numbers(U, b"f", self.itemsize, self.classes * self.P * self.ld, True)
        self.T = numbers(T, b"f", self.itemsize, self.classes * self.P, True)
        self.work = numbers(work, b"f", self.itemsize, 0, True)

    def factor(
        self,
        X,                      # IN     (n, D), columns contiguous
        rows,                   # IN     (classes or 1, samples): the rows of X in each class's sum
        a,                      # IN     likewise: the root of what they weigh
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
        x.D, x.ones, x.count, x.ridge, x.whole = self.P - self.ones, self.ones, rows.shape[1], ridge, whole
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

    cdef void times(
        self, const double *a, const void *b, bint wide, void *work, double *to, int n_threads,
    ) noexcept nogil:
        cdef char *second = <char *>work + self.size * self.itemsize
        self.take(a, True, work)
        if b != NULL:
            self.take(b, wide, second)
        self.solve(work, 1 if b == NULL else 2, n_threads)
        self.leave(work, to)
        if b != NULL:
            self.leave(second, to + self.size)

    cdef void take(self, const void *v, bint wide, void *G) noexcept nogil:
        """Write a vector, of doubles if it is `wide`, to G, class by class."""
        if wide:
            rows_by_class(<const double *>v, self.classes, self.P, self.ones, self.itemsize == sizeof(double), G)
        else:
            rows_by_class(<const float *>v, self.classes, self.P, self.ones, self.itemsize == sizeof(double), G)

    cdef void leave(self, const void *G, double *to) noexcept nogil:
        """Write a vector from G."""
        if self.itemsize == sizeof(float):
            by_layout(<const float *>G, to, self.classes, self.P, self.ones)
        else:
            by_layout(<const double *>G, to, self.classes, self.P, self.ones)

    cdef void solve(self, void *G, Py_ssize_t vectors, int n_threads) noexcept nogil:
        """Solve M_k z = g for each class, and for each of several g, in place."""
        if self.itemsize == sizeof(float):
            solve_blocks(
                <float *>self.U, <float *>self.T, self.P, self.ld, self.count > 1, <float *>G, vectors,
                self.classes, n_threads,
            )
        else:
            solve_blocks(
                <double *>self.U, <double *>self.T, self.P, self.ld, self.count > 1, <double *>G, vectors,
                self.classes, n_threads,
            )

    def apply(
        self,
        vectors,                # IN     each (classes D, row after row; classes), of floats or doubles
        G,                      # WORK   (vectors, classes, P)
        out,                    # OUT    (vectors, size), float64
        int n_threads,
    ):
        """Solve M_k z = g for each class of some vectors, in the order of `Parameters`."""
        cdef Py_ssize_t v, count = len(vectors), step = self.size * self.itemsize
        cdef char *g = <char *>numbers(G, b"f", self.itemsize, count * self.size, True)
        cdef double *to = <double *>numbers(out, b"f", sizeof(double), count * self.size, True)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        for v, vector in enumerate(vectors):
            self.take(
                numbers(vector, b"f", vector.itemsize, self.size, False), vector.itemsize == sizeof(double),
                g + v * step,
            )
        if count * self.size * self.P >= RELEASING:
            with nogil:
                self.solve(g, count, n_threads)
        else:
            self.solve(g, count, n_threads)
        for v in range(count):
            self.leave(g + v * step, to + v * self.size)
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


cdef void scale_one(
    const floating *g, Py_ssize_t k, Py_ssize_t classes, Py_ssize_t D, const double *inverse, Py_ssize_t inverses,
    const double *mean, Py_ssize_t means, bint biases, double *to,
) noexcept nogil:
    """Multiply class k; the diagonal and the mean have a row for each class, or one for all."""
    scale_class(
        g + k * D, g[classes * D + k] if biases else 0, D, inverse + (0 if inverses == 1 else k * (D + biases)),
        NULL if mean == NULL else mean + (0 if means == 1 else k * D), biases, to + k * D, to + classes * D + k,
    )


cdef void scale_classes(
    const floating *g, Py_ssize_t classes, Py_ssize_t D, const double *inverse, Py_ssize_t inverses,
    const double *mean, Py_ssize_t means, bint biases, double *to, int n_threads,
) noexcept nogil:
    """Multiply all classes."""
    cdef Py_ssize_t k
    if n_threads == 1:
        for k in range(classes):
            scale_one(g, k, classes, D, inverse, inverses, mean, means, biases, to)
    else:
        for k in prange(classes, schedule="static", num_threads=n_threads):
            scale_one(g, k, classes, D, inverse, inverses, mean, means, biases, to)


cdef class Diagonal(Inverse):
    """The inverse of a diagonal, of features less their mean if there is one.

    The intercepts are those of the features as they are: they take what the weights give to the mean.
    """

    cdef Py_ssize_t P
    cdef bint ones          # whether there are intercepts
    cdef const double *inverse
    cdef Py_ssize_t inverses    # how many rows it has: one for each class, or one for all
    cdef const double *mean     # or NULL
    cdef Py_ssize_t means       # how many rows it has
    cdef tuple held         # the arrays, which must live as long

    def __init__(
        self,
        inverse,                # IN     (1 or classes, P), float64
        mean,                   # IN     (1 or classes, D), float64: for which the diagonal is, or None
        Py_ssize_t classes,
        bint ones,
    ):
        self.held = inverse, mean
        self.inverses, self.P = inverse.shape
        self.size, self.itemsize, self.ones = classes * self.P, sizeof(double), ones
        if self.inverses not in (1, classes):
            raise ValueError(f"expected rows of {classes} classes or one, got {self.inverses}")
        self.inverse = <const double *>numbers(inverse, b"f", sizeof(double), self.inverses * self.P, False)
        if mean is not None:
            self.means = 1 if mean.shape[0] == 1 else classes
            self.mean = <const double *>numbers(mean, b"f", sizeof(double), self.means * (self.P - ones), False)

    cdef void scale(self, const void *v, bint wide, double *to, int n_threads) noexcept nogil:
        cdef Py_ssize_t classes = self.size // self.P, D = self.P - self.ones
        if wide:
            scale_classes(
                <const double *>v, classes, D, self.inverse, self.inverses, self.mean, self.means, self.ones, to,
                n_threads,
            )
        else:
            scale_classes(
                <const float *>v, classes, D, self.inverse, self.inverses, self.mean, self.means, self.ones, to,
                n_threads,
            )

    cdef void times(
        self, const double *a, const void *b, bint wide, void *work, double *to, int n_threads,
    ) noexcept nogil:
        self.scale(a, True, to, n_threads)
        if b != NULL:
            self.scale(b, wide, to + self.size, n_threads)

    def apply(
        self,
        vector,                 # IN     (classes D, row after row; classes), of floats or doubles
        out,                    # OUT    (size,), float64
        int n_threads,
    ):
        """Multiply a vector by the inverse of the diagonal."""
        cdef const void *v = numbers(vector, b"f", vector.itemsize, self.size, False)
        cdef double *to = <double *>numbers(out, b"f", sizeof(double), self.size, True)
        cdef bint wide = vector.itemsize == sizeof(double)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        if self.size >= RELEASING:
            with nogil:
                self.scale(v, wide, to, n_threads)
        else:
            self.scale(v, wide, to, n_threads)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
