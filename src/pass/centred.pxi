# The pass for the whole Hessian of two classes from floats, with products in floats (centred.h): in slices of the rows.

cdef extern from "float_types.h" nogil:
    const Py_ssize_t SIDE, SQUARE
    void centre_rows(
        const char *X, int element, Py_ssize_t n, Py_ssize_t D, Py_ssize_t ldx, const char *end, const float *shift,
        const float *scale, float *U, Py_ssize_t ldu,
    ) noexcept
    void curvatures_of_centred(
        const float *U, Py_ssize_t n, Py_ssize_t D, Py_ssize_t ldu, const float *w, const float *offset, Py_ssize_t ldo,
        const double *s, float *c,
    ) noexcept
    void add_squares(
        const float *U, Py_ssize_t n, Py_ssize_t P, Py_ssize_t ldu, const float *c, const char *next, Py_ssize_t share,
        float *weighted, double *G,
    ) noexcept


cdef class CentredPlan(SlicedPlan):
    """The whole Hessian of two classes with an intercept, of samples moved and scaled.

    The threads share work space for shifts, scales and coefficients, each in whole vectors. Each of them has its own
    for a tile transposed, its rows' curvatures, and a square's features times these. A slot of the sums has G's
    squares.
    """

    cdef Py_ssize_t row                 # elements of the shifts, and of all else that has a number for each feature
    cdef Py_ssize_t ldu                 # elements from feature to feature of the tile
    cdef Py_ssize_t sides               # groups of SIDE features, with zeros behind the last

    def __init__(self, *, Py_ssize_t slices, Py_ssize_t strips, **shape):
        Plan.__init__(self, K=2, itemsize=sizeof(float), second=False, **shape)
        self.cut, self.slices, self.strips, self.doubles = "slices", slices, strips, True
        self.widens, self.scored = True, 1
        self.row = whole(self.D + 1, self.line)
        self.ldu = whole(self.tile, 16 * self.line) + self.line  # whole steps of exponentials, at every ISA level
        self.sides = whole(self.D + 1, SIDE) // SIDE
        self.packed = 3 * self.row
        self.work = (self.sides * SIDE + SIDE + 1) * self.ldu
        self.apart = self.sides * (self.sides + 1) // 2 * SQUARE
        self.set_apart()

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        return centred_run(self, d, <float *>work, sums, n_threads)

    cdef void take(
        self, const Batch *d, Py_ssize_t strip, Py_ssize_t after, const void *packed, void *own, double *sums,
    ) noexcept nogil:
        centred_strip(self, d, strip, <const float *>packed, <float *>own, sums)


cdef void centred_strip(
    CentredPlan p, const Batch *d, Py_ssize_t strip, const float *packed, float *U, double *G,
) noexcept nogil:
    """Add the rows of a strip to its sums."""
    cdef Py_ssize_t first = strip_start(p, d, strip), stop = strip_start(p, d, strip + 1), n
    cdef Py_ssize_t squares = p.sides * (p.sides + 1) // 2
    cdef Py_ssize_t row = d.x.ldx * d.x.itemsize, share = (p.tile * row + squares - 1) // squares
    cdef const char *X = <const char *>d.x.X
    cdef const char *end = X + (d.N - 1) * row + p.D * d.x.itemsize
    cdef const float *offset = <const float *>d.x.offset
    cdef float *c = U + p.sides * SIDE * p.ldu
    cdef const char *next
    memset(U + (p.D + 1) * p.ldu, 0, (p.sides * SIDE - p.D - 1) * p.ldu * sizeof(float))
    while first < stop:
        n = min(p.tile, stop - first)
        centre_rows(
            X + first * row, d.x.element, n, p.D, row, end, packed, packed + p.row, U, p.ldu,
        )
        curvatures_of_centred(
            U, n, p.D, p.ldu, packed + 2 * p.row, NULL if offset == NULL else offset + first * d.x.ldo, d.x.ldo,
            NULL if d.t.s == NULL else d.t.s + first, c,
        )
        next = NULL
        if first + 2 * n <= stop:  # each square fetches its share of the next tile
            next = X + (first + n) * row
        add_squares(U, n, p.D + 1, p.ldu, c, next, share, c + p.ldu, G)
        first += n


cdef double centred_run(
    CentredPlan p, const Batch *d, float *packed, double *sums, int n_threads,
) noexcept nogil:
    """Take the slices of a visit on all threads; the last visit leaves G."""
    cdef Py_ssize_t j
    if d.first:
        for j in range(p.row):
            packed[j] = (<const float *>d.model.V)[j] if j < p.D else 0
            packed[p.row + j] = (<const float *>d.model.V)[p.D + j] if j < p.D else 0
            packed[2 * p.row + j] = <float>(
                (<const double *>d.model.W)[j] if j < p.D else (<const double *>d.model.b)[0]
            )
    take_all(p, d, packed, <char *>(packed + p.packed), sums, p.sides * (p.sides + 1) // 2 * SQUARE, n_threads)
    if d.last:
        fill_centred(p, sums, 1 / d.loss.m, <double *>d.out.dW)
    return 0


cdef void fill_centred(CentredPlan p, const double *sums, double scale, double *G) noexcept nogil:
    """Fill the symmetric matrix from its squares."""
    cdef Py_ssize_t P = p.D + 1, a, b, i, j
    for a in range(p.sides):
        for b in range(a, p.sides):
            for i in range(a * SIDE, min(P, (a + 1) * SIDE)):
                for j in range(max(i, b * SIDE), min(P, (b + 1) * SIDE)):
                    G[i * P + j] = G[j * P + i] = sums[i % SIDE * SIDE + j % SIDE] * scale
            sums += SQUARE
