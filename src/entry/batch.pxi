# What the kernels know of a visit: its samples and targets, the model, the loss, and where results go.

cdef enum Kind:
    GRADIENT                # the loss and its gradient
    LOSS                    # the loss alone
    PROBABILITIES
    SCORES
    HESSIAN                 # the Hessian times (V, c)
    WHOLE_HESSIAN           # all of it

cdef struct Samples:        # rows of an array, `ldx` elements apart,
    const void *X
    Py_ssize_t ldx
    int element             # of a type of widen.h,
    Py_ssize_t itemsize     # and so many bytes
    const void *data        # or of CSR: stored numbers, of `element` too,
    const void *indices     # their features,
    bint wide               # int64, not int32,
    const Py_ssize_t *indptr  # and where each row begins
    const void *offset      # what is added to their scores, or NULL: those of the last `offsets` classes,
    Py_ssize_t offsets
    Py_ssize_t ldo          # in rows of ldo

cdef struct Targets:
    const Py_ssize_t *y     # labels, or NULL
    const void *Y           # probabilities in rows of ldy, or NULL
    Py_ssize_t ldy
    const double *s         # the rows' weights, or NULL

cdef struct Model:
    const void *W
    const void *b           # or NULL
    const void *V           # what the Hessian is multiplied by, or how samples are centred; and its bias, or NULL
    const void *c
    bint doubles            # all four and the gradient are of doubles, whatever X is: CSR rows alone

cdef struct Loss:
    double m                # what all sums are divided by
    double smoothing
    double z_loss           # a row's loss has the term z_loss lse^2
    double cap              # scores are capped, z <- cap tanh(z / cap), or 0
    const void *weight      # of the classes' targets, or NULL
    double l2               # l2 times W, or V, is added to the gradient, where the model is of doubles

cdef struct Output:         # each may be NULL
    void *dW
    void *db
    void *dX                # of all rows, as are
    double *losses          # each row's loss, without its weight, and top - z_y
    void *S

cdef struct Batch:          # a visit
    Kind kind
    Py_ssize_t N            # rows that are here
    Py_ssize_t row          # the first one's number among all: where its results go
    Py_ssize_t offset       # its number in its block
    Py_ssize_t block        # rows of the block
    Py_ssize_t begin, end   # the slices that are here
    bint first, last
    Samples x
    Targets t
    Model model
    Loss loss
    Output out


cdef void add_offset(
    const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, floating *Z,
) noexcept nogil:
    """The offsets of n rows, rows `first` and on of the visit, to their scores of K classes."""
    add_to_scores(
        <const floating *>d.x.offset + first * d.x.ldo, n, d.x.offsets, d.x.ldo, Z + K - d.x.offsets, ldz,
    )


cdef bint summing(const Batch *d) noexcept nogil:
    """Whether there is a gradient, or what the Hessian makes of one."""
    return d.kind == GRADIENT or d.kind == HESSIAN


cdef bint counting(const Batch *d) noexcept nogil:
    """Whether there is a sum over all rows."""
    return d.kind != PROBABILITIES and d.kind != SCORES


cdef void *aligned(void *at) noexcept nogil:
    """The next cache line."""
    return <void *>((<size_t>at + 63) // 64 * 64)
