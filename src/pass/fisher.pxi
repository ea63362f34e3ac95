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
    const double *unit      # (classes, P): see `Factors.factor`; or NULL
    double ridge
    bint whole              # whether M itself is wanted, both triangles, and not its factor


cdef Py_ssize_t edge(Py_ssize_t P, Py_ssize_t panel, Py_ssize_t part, Py_ssize_t parts) noexcept nogil:
    """Return the first column of a part of the upper triangle: whole panels, so that all parts cost about the same."""
    cdef Py_ssize_t panels = (P + panel - 1) // panel
    return P if part == parts else min(P, panel * <Py_ssize_t>(panels * sqrt(<double>part / parts) + 0.5))


cdef void fisher_sums(
    const ClassSamples *x, Py_ssize_t k, Py_ssize_t first, Py_ssize_t end, Py_ssize_t ld, floating *U, floating *work,
) noexcept nogil:
    """Sum columns `first` to `end` of M of class k, without the penalty, from its weighted rows."""
    cdef Py_ssize_t P = x.D + x.ones, i, n
    cdef const Py_ssize_t *rows = x.rows + k * x.count
    if first == end:
        return
    for i in range(P):
        memset(U + i * ld + first, 0, ((ld if end == P else end) - first) * sizeof(floating))
    i = 0
    while i < x.count:
        n = min(GRAM_ROWS, x.count - i)
        if x.unit == NULL:
            weigh_rows(
                x.X, x.element, x.D, x.ldx, x.ones, rows + i, <const floating *>x.a + k * x.count + i, n,
                <const floating *>x.standard, work, ld,
            )
        else:
            weigh_doubles(
                <const double *>x.X, x.D, x.ldx, x.ones, rows + i, <const double *>x.a + k * x.count + i, n,
                <const double *>x.standard, x.unit + k * P, work, ld,
            )
        outer_columns(work, P, work, first, ld if end == P else end, n, ld, U)
        i += n


cdef void fisher_block(
    const ClassSamples *x, Py_ssize_t k, Py_ssize_t ld, floating *U, floating *T, floating *work,
) noexcept nogil:
    """Add the penalty to the sums of class k, and factor them."""
    cdef Py_ssize_t P = x.D + x.ones, i, j
    cdef const double *unit
    for i in range(P):
        if x.unit == NULL:
            U[i * (ld + 1)] += (<const floating *>x.penalty)[k * P + i]
        else:
            unit = x.unit + k * P + i
            U[i * (ld + 1)] += <floating>((<const double *>x.penalty)[k * P + i] * unit[0] * unit[0])
    if x.whole:
        for i in range(P):
            for j in range(i):
                U[i * ld + j] = U[j * ld + i]
    else:
        factor(U, P, ld, T, <floating>x.ridge, False, work)


cdef void widen_block(
    const double *unit, Py_ssize_t P, Py_ssize_t narrow, Py_ssize_t ld, double *U, double *T, float *work,
) noexcept nogil:
    """Replace a factor of floats, in rows of `narrow`, by the same of doubles in the same memory, without the unit."""
    cdef Py_ssize_t i, j
    for i in range(P - 1, -1, -1):  # the last first, since a row of doubles takes the place of the floats behind it
        memcpy(work, <const float *>U + i * narrow, P * sizeof(float))
        for j in range(i, P):
            U[i * ld + j] = work[j]
        for j in range(P, ld):
            U[i * ld + j] = 0
    memcpy(work, T, P * sizeof(float))
    for i in range(P):
        T[i] = work[i] * unit[i]


cdef void finish_block(
    const ClassSamples *x, Py_ssize_t k, Py_ssize_t ld, Py_ssize_t wide, Py_ssize_t scale, floating *U, floating *T,
    floating *work,
) noexcept nogil:
    """Factor the sums of class k, in rows of ld, and widen them to rows of `wide` doubles if their scale is 2."""
    fisher_block(x, k, ld, U, T, work)
    if scale == 2:
        widen_block(x.unit + k * (x.D + x.ones), x.D + x.ones, ld, wide, <double *>U, <double *>T, <float *>work)


cdef void fisher_blocks(
    const ClassSamples *x, Py_ssize_t classes, Py_ssize_t wide, Py_ssize_t scale, floating *U, floating *T,
    floating *work, int n_threads,
) noexcept nogil:
    """Sum and factor the blocks, in memory for rows of `wide` numbers, each of `scale` numbers of this type.

    Classes that are too few for all threads, or left over for some of them, have parts, of which each thread gets as
    many.
    """
    cdef Py_ssize_t i, k, P = x.D + x.ones, ld = whole(P, lanes(U)), panel = MAX_V * lanes(U), parts = 1
    cdef Py_ssize_t apart = scale * P * wide, space = scale * block_space(wide, sizeof(floating))
    cdef Py_ssize_t left = classes % n_threads if classes < 4 * n_threads else 0, full = classes - left
    while left * parts % n_threads:
        parts += 1
    for i in prange(full + left * parts, schedule="dynamic", chunksize=1, num_threads=n_threads):
        k = i if i < full else full + (i - full) // parts
        if i < full:
            fisher_sums(x, k, 0, P, ld, U + k * apart, work + threadid() * space)
            finish_block(
                x, k, ld, wide, scale, U + k * apart, T + k * scale * P, work + threadid() * space,
            )
        else:
            fisher_sums(
                x, k, edge(P, panel, (i - full) % parts, parts), edge(P, panel, (i - full) % parts + 1, parts), ld,
                U + k * apart, work + threadid() * space,
            )
    for k in prange(full, classes if left else full, schedule="dynamic", chunksize=1, num_threads=n_threads):
        finish_block(x, k, ld, wide, scale, U + k * apart, T + k * scale * P, work + threadid() * space)


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


def class_weights(
    S,                      # IN     (n, classes), columns contiguous: posteriors
    s,                      # IN     (n,): what the samples weigh
    c,                      # OUT    (n, classes), float64: s_i S_ik (1 - S_ik)
    sums,                   # OUT    (classes,)
):
    """Write what each sample weighs in the block of each class; return whether that is the same for all classes."""
    cdef Py_ssize_t n, lds, classes = S.shape[1], itemsize = S.itemsize
    cdef const void *posteriors = rows_of(S, itemsize, classes, &n, &lds)
    cdef const double *weights = <const double *>numbers(s, b"f", sizeof(double), n, False)
    cdef double *to = <double *>numbers(c, b"f", sizeof(double), n * classes, True)
    cdef double *total = <double *>numbers(sums, b"f", sizeof(double), classes, True)
    cdef bint same
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    if itemsize == sizeof(float):
        same = weigh_classes(<const float *>posteriors, n, classes, lds, weights, to, total)
    else:
        same = weigh_classes(<const double *>posteriors, n, classes, lds, weights, to, total)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
    return same


cdef void units_of_class(
    double weight, const double *squares, const double *own, Py_ssize_t P, double damping, floating *penalty,
    double *unit,
) noexcept nogil:
    """Write a class's penalty, its own and some of its usual diagonal, and what brings that diagonal to 1."""
    cdef Py_ssize_t j
    cdef double usual, diagonal
    for j in range(P):
        usual = weight * squares[j]
        penalty[j] = <floating>(own[j] + damping * usual)
        if unit != NULL:
            diagonal = usual + own[j]
            unit[j] = 1 / sqrt(diagonal if 0 < diagonal < INFINITY else 1)  # the size of such features is not known


def block_units(
    weight,                 # IN     (classes or more,), float64: what the samples weigh in a class
    squares,                # IN     (P,), float64: the features' mean squares
    added,                  # IN     (1, or classes or more, P), float64: a penalty's part of the diagonals
    double damping,         # how much of the usual diagonal is added to that
    penalty,                # OUT    (classes, P), of the blocks' type: what is added to the diagonals
    unit,                   # OUT    (classes, P), float64: see `Factors.factor`; or None
):
    """Write what `Factors.factor` needs of each class besides its samples."""
    cdef Py_ssize_t k, classes, P, apart
    classes, P = penalty.shape
    apart = P if added.shape[0] > 1 else 0
    cdef const double *heavy = <const double *>numbers(weight, b"f", sizeof(double), classes, False)
    cdef const double *of = <const double *>numbers(squares, b"f", sizeof(double), P, False)
    cdef const double *own = <const double *>numbers(added, b"f", sizeof(double), max(P, classes * apart), False)
    cdef char *to = <char *>numbers(penalty, b"f", penalty.itemsize, classes * P, True)
    cdef double *units = <double *>numbers(unit, b"f", sizeof(double), classes * P, True)
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    for k in range(classes):
        if penalty.itemsize == sizeof(float):
            units_of_class(
                heavy[k], of, own + k * apart, P, damping, <float *>to + k * P,
                NULL if units == NULL else units + k * P,
            )
        else:
            units_of_class(
                heavy[k], of, own + k * apart, P, damping, <double *>to + k * P,
                NULL if units == NULL else units + k * P,
            )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef inline uint64_t bits_of(const double *at) noexcept nogil:
    cdef uint64_t bits
    memcpy(&bits, at, sizeof(bits))
    return bits


cdef double smallest_but(double *some, Py_ssize_t n, Py_ssize_t rank) noexcept nogil:
    """Return the number of which `rank` others are smaller, of n that are not negative, and which are moved.

    Their bits are in their order. They are counted by eleven bits at a time, and those that remain move to the front.
    """
    cdef Py_ssize_t counts[2048]
    cdef Py_ssize_t i, m, digit, shift = 52
    while True:
        memset(counts, 0, sizeof(counts))
        for i in range(n):
            counts[(bits_of(some + i) >> shift) & 2047] += 1
        digit = 0
        while rank >= counts[digit]:
            rank -= counts[digit]
            digit += 1
        m = 0
        for i in range(n):
            some[m] = some[i]  # without a branch, which would be foreseen wrongly
            m += <Py_ssize_t>((bits_of(some + i) >> shift) & 2047) == digit
        n = m
        if n == 1 or shift == 0:
            return some[0]
        shift = max(0, shift - 11)


cdef void draw_class(
    const double *c, Py_ssize_t n, Py_ssize_t apart, const double *u, Py_ssize_t count, Py_ssize_t *rows,
    double *weights, double *work,
) noexcept nogil:
    """Draw the samples with the highest priorities, and write what they stand for."""
    cdef Py_ssize_t i, m = 0
    cdef double least, weight
    if n <= count:
        for i in range(n):
            rows[i], weights[i] = i, c[i * apart]
        return
    for i in range(n):
        weight = c[i * apart]
        work[i] = (weight if weight > 0 else 0) / u[i]  # NaN weighs nothing
    memcpy(work + n, work, n * sizeof(double))
    least = smallest_but(work + n, n, n - count - 1)
    for i in range(n):
        if m == count:
            return
        rows[m], weights[m] = i, max(c[i * apart], least)
        m += work[i] > least
    if m < count:
        rows[m] = 0
        weights[m] = 0


cdef void draw_classes(
    const double *c, Py_ssize_t n, Py_ssize_t apart, const double *u, Py_ssize_t classes, Py_ssize_t count,
    Py_ssize_t *rows, double *weights, double *work, int n_threads,
) noexcept nogil:
    cdef Py_ssize_t k
    if n_threads == 1:
        for k in range(classes):
            draw_class(c + k, n, apart, u, count, rows + k * count, weights + k * count, work)
    else:
        for k in prange(classes, schedule="static", num_threads=n_threads):
            draw_class(c + k, n, apart, u, count, rows + k * count, weights + k * count, work + threadid() * 2 * n)


def draw_samples(
    c,                      # IN     (n, classes), float64: what each sample weighs in each class
    u,                      # IN     (n,): numbers between 0 and 1
    rows,                   # OUT    (1 or classes, count), intp: zeros; the numbers of the samples that are drawn
    weights,                # OUT    likewise, float64: zeros; what they stand for
    work,                   # WORK   (n_threads, 2 n), float64
    int n_threads,
):
    """Draw samples by priorities; where fewer than `count` are drawn, zeros are left."""
    cdef Py_ssize_t n = c.shape[0], apart = c.shape[1], classes = rows.shape[0], count = rows.shape[1]
    cdef const double *given = <const double *>numbers(c, b"f", sizeof(double), n * apart, False)
    cdef const double *by = <const double *>numbers(u, b"f", sizeof(double), n, False)
    cdef Py_ssize_t *drawn = <Py_ssize_t *>numbers(rows, b"i", sizeof(Py_ssize_t), classes * count, True)
    cdef double *to = <double *>numbers(weights, b"f", sizeof(double), classes * count, True)
    cdef double *space = <double *>numbers(work, b"f", sizeof(double), 2 * n_threads * n, True)
    cdef fexcept_t flags
    if classes > apart:
        raise ValueError(f"expected weights of {classes} classes, got {apart}")
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        draw_classes(given, n, apart, by, classes, count, drawn, to, space, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


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
        unit=None,              # IN     (classes or 1, P): what features are multiplied by, if U is of doubles
        bint whole=False,       # whether U gets the blocks themselves, and T nothing
    ):
        """Compute as many factors as `rows` has classes.

        Those of doubles are computed in floats, which takes half of the time, and then widened, unless they are
        `whole`; `unit` brings the diagonal near 1. See "Blocks of doubles are computed in floats" in docs/notes.md.
        """
        cdef ClassSamples x
        cdef Py_ssize_t n, count = len(rows)
        cdef fexcept_t flags
        x.D, x.ones, x.count, x.ridge, x.whole = self.P - self.ones, self.ones, rows.shape[1], ridge, whole
        x.X = rows_of(X, self.itemsize, x.D, &n, &x.ldx, &x.element)
        x.rows = <const Py_ssize_t *>numbers(rows, b"i", sizeof(Py_ssize_t), count * x.count, False)
        x.a = numbers(a, b"f", self.itemsize, count * x.count, False)
        x.penalty = numbers(penalty, b"f", self.itemsize, count * self.P, False)
        x.standard = numbers(standard, b"f", self.itemsize, 2 * x.D, False)
        x.unit = <const double *>numbers(unit, b"f", sizeof(double), count * self.P, False)
        if (x.unit == NULL) != (whole or self.itemsize == sizeof(float)):
            raise ValueError("expected a unit for factors of doubles, and for nothing else")
        self.count = min(count, self.classes)
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        with nogil:
            if self.itemsize == sizeof(float):
                fisher_blocks(
                    &x, self.count, self.ld, 1, <float *>self.U, <float *>self.T, <float *>self.work, n_threads,
                )
            elif whole:
                fisher_blocks(
                    &x, self.count, self.ld, 1, <double *>self.U, <double *>self.T, <double *>self.work, n_threads,
                )
            else:
                fisher_blocks(
                    &x, self.count, self.ld, 2, <float *>self.U, <float *>self.T, <float *>self.work, n_threads,
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


cdef void invert_class(
    double *diagonal, const double *added, Py_ssize_t D, bint ones, double weight, const double *mean,
    const double *squares, bint even, double *own, double spread, double damping,
) noexcept nogil:
    """Invert what a class has, for features less their means if there are means."""
    cdef Py_ssize_t j
    cdef double d, m, most = 0, least
    for j in range(D):
        d = diagonal[j]
        if mean != NULL:
            m = mean[j]
            if not even:
                m *= d / max(weight * squares[j], DBL_MIN)
            own[j] = m
            d = max(d - weight * (m * m), spread * d)
        diagonal[j] = d + added[j]
    if ones:
        diagonal[D] = diagonal[D] + added[D]
    for j in range(D + ones):
        most = max(most, diagonal[j])
    least = max(damping * most, DBL_MIN)
    for j in range(D + ones):
        diagonal[j] = 1 / max(diagonal[j], least)


def invert_diagonals(
    diagonal,               # INOUT  (1 or classes, P), float64, as all are
    added,                  # IN     (1 or classes, P): a penalty's part of it
    weight,                 # IN     (1 or classes,): what the samples weigh
    mean,                   # IN     (D,): the features' means, or None
    squares,                # IN     (D,): the means of their squares
    own,                    # OUT    (1 or classes, D): the means that features are less of
    *,
    bint even,              # whether all samples weigh the same
    double spread,          # the least part of its mean square that a feature less its mean keeps
    double damping,         # the least part of a class's largest number
):
    """Invert diagonals, of features less their means if there are means."""
    cdef Py_ssize_t rows, P, D = squares.shape[0], common = added.shape[0], k
    rows, P = diagonal.shape
    cdef double *to = <double *>numbers(diagonal, b"f", sizeof(double), rows * P, True)
    cdef const double *more = <const double *>numbers(added, b"f", sizeof(double), common * P, False)
    cdef const double *heavy = <const double *>numbers(weight, b"f", sizeof(double), rows, False)
    cdef const double *center = <const double *>numbers(mean, b"f", sizeof(double), D, False)
    cdef const double *size = <const double *>numbers(squares, b"f", sizeof(double), D, False)
    cdef double *means = <double *>numbers(own, b"f", sizeof(double), rows * D, True)
    cdef fexcept_t flags
    if common not in (1, rows) or not 0 <= P - D <= 1:
        raise ValueError(f"expected rows of {P} numbers for {rows} classes, got {added.shape} and {D} features")
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    for k in range(rows):
        invert_class(
            to + k * P, more + (k * P if common > 1 else 0), D, P > D, heavy[k], center, size, even, means + k * D,
            spread, damping,
        )
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


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
