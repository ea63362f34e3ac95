# What the kernels know of a visit: its samples and targets, the model, the loss, and where results go.

cdef enum:
    MODELS = 16             # the most that one read serves

MOST_MODELS = MODELS

cdef enum Kind:
    GRADIENT                # the loss and its gradient
    LOSS                    # the loss alone
    PROBABILITIES
    SCORES
    HESSIAN                 # the Hessian times (V, c)
    WHOLE_HESSIAN           # the Hessian itself

cdef struct Samples:        # rows of an array, or of CSR
    const void *X           # the array's first row
    Py_ssize_t ldx          # elements from row to row of the array
    int element             # the type of the array's elements, or of CSR's stored numbers, by widen.h
    Py_ssize_t itemsize     # bytes of an element of the array
    const void *data        # CSR's stored numbers
    const void *indices     # their features
    bint wide               # whether indices are int64, not int32
    const Py_ssize_t *indptr  # where each row of CSR begins
    const void *offset      # what is added to the scores of the last `offsets` classes, or NULL
    Py_ssize_t offsets
    Py_ssize_t ldo          # elements from row to row of the offsets

cdef struct Targets:
    const Py_ssize_t *y     # labels, or NULL
    const void *Y           # probabilities in rows of ldy, or NULL
    Py_ssize_t ldy
    const double *s         # the rows' weights, or NULL

cdef struct Model:
    const void *W
    const void *b           # or NULL
    const void *V           # what the Hessian is multiplied by, or how samples are centred; or NULL
    const void *c           # the bias that belongs to V, or NULL
    bint doubles            # whether the model and the gradient are of doubles, whatever X is

cdef struct Loss:
    double m                # what all sums are divided by
    double smoothing
    double z_loss           # a row's loss has the term z_loss lse^2
    double cap              # scores are capped, z <- cap tanh(z / cap); 0 for no cap
    const void *weight      # weights of the classes' targets, or NULL
    double l2               # where the model is of doubles, l2 times W, or V, is added to the gradient

cdef struct Output:         # each may be NULL
    void *dW
    void *db
    void *dX                # of all rows, as are `losses` and S
    double *losses          # each row's loss, without its weight, and top - z_y
    void *S                 # probabilities or scores
    double *total           # the loss, which a pass of several models does not return

cdef struct Batch:          # a visit
    Kind kind
    Py_ssize_t N            # rows that are here
    Py_ssize_t row          # the first one's number among all rows: where its results go
    Py_ssize_t offset       # its number among the rows of its block
    Py_ssize_t block        # rows of the block
    Py_ssize_t begin, end   # the slices that are here
    bint first, last        # whether it is the first, and the last visit of its pass
    Samples x
    Targets t
    Model model
    Loss loss
    Output out


cdef void add_offset(
    const Batch *d, Py_ssize_t first, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, floating *Z,
) noexcept nogil:
    """Add the offsets of n rows, the visit's rows from `first` on, to their scores of K classes."""
    add_to_scores(
        <const floating *>d.x.offset + first * d.x.ldo, n, d.x.offsets, d.x.ldo, Z + K - d.x.offsets, ldz,
    )


cdef bint summing(const Batch *d) noexcept nogil:
    """Return whether there is a gradient, or what the Hessian's product has in its place."""
    return d.kind == GRADIENT or d.kind == HESSIAN


cdef bint counting(const Batch *d) noexcept nogil:
    """Return whether there is a sum over all rows."""
    return d.kind != PROBABILITIES and d.kind != SCORES


cdef void *aligned(void *at) noexcept nogil:
    """Return where the first cache line from `at` on begins."""
    return <void *>((<size_t>at + 63) // 64 * 64)
