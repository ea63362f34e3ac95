# What a plan says: softmax_ext/_core/plan.py makes the choices, and the sizes of work space follow from them here.
#
# Each cut of the work has a subclass beside its pass: slices.pxi, owned.pxi, sparse.pxi.

cdef Py_ssize_t whole(Py_ssize_t count, Py_ssize_t unit) noexcept nogil:
    """Return `count` rounded up to a multiple of `unit`."""
    return (count + unit - 1) // unit * unit


cdef Py_ssize_t odd_lines(Py_ssize_t count, Py_ssize_t line) noexcept nogil:
    """Return `count` rounded up to cache lines, oddly many: rows a power of two apart fall into few sets of a cache."""
    cdef Py_ssize_t lines = whole(count, line) // line
    return (lines if lines < 8 or lines % 2 else lines + 1) * line


def lanes_of(Py_ssize_t itemsize):
    """Return how many numbers of this size a vector has."""
    return lanes_f32 if itemsize == sizeof(float) else lanes_f64


def block_rows():
    """Return how many classes a gradient sums at a time, in registers."""
    return MAX_ROWS[MAX_V]


cdef class Visit:
    """What one call of a pass does: some rows of a block."""

    cdef readonly Py_ssize_t row        # the first of these rows, counted from the first of all,
    cdef readonly Py_ssize_t offset     # and from the first of their block
    cdef readonly Py_ssize_t block      # how many rows the block has
    cdef readonly Py_ssize_t begin, end  # the block's slices that these rows are; 0 and 0 for the other cuts
    cdef readonly bint first            # whether the sums are cleared before
    cdef readonly bint last             # whether they are finished afterwards

    def __init__(
        self, Py_ssize_t row, Py_ssize_t offset, Py_ssize_t block, Py_ssize_t begin, Py_ssize_t end, bint first,
        bint last,
    ):
        self.row, self.offset, self.block, self.begin, self.end = row, offset, block, begin, end
        self.first, self.last = first, last


cdef class Plan:
    """Which way a pass over (N, D) samples of K classes takes, and the work space that it needs."""

    cdef readonly str cut               # "slices", "owned" or "sparse"
    cdef readonly Py_ssize_t N, D, K
    cdef readonly Py_ssize_t itemsize   # bytes of a number that is computed
    cdef readonly bint dots             # scores are summed along the features, and across the lanes at the end
    cdef readonly bint copied           # each tile of X is copied into padded rows
    cdef readonly bint widens           # X may be of a type of widen.h; if not, rows are widened before a visit
    cdef readonly bint transposed       # the gradient is summed transposed, with lanes along the classes
    cdef readonly bint doubles          # the gradient is summed in double; if not, in the type of X
    cdef readonly bint second           # each score has room for a number beside it: Q of the Hessian, a cap's slope
    cdef readonly Py_ssize_t rows       # samples whose scores are computed at a time
    cdef readonly Py_ssize_t tile       # samples whose gradient is
    cdef readonly Py_ssize_t block      # samples between two looks for Ctrl-C
    cdef readonly bint parallel         # whether threads pay
    cdef readonly Visit single          # the only visit, if one is enough; or None
    cdef readonly Py_ssize_t shared     # elements of work space for all threads together,
    cdef readonly Py_ssize_t work       # and for each of them
    cdef readonly Py_ssize_t sums       # doubles of the sums
    # A tile's buffer has `groups` rows of ldz scores, then three numbers for each row, and with `second`, from Q on, as
    # many rows again.
    cdef Py_ssize_t L, line             # numbers in a vector and in a cache line
    cdef Py_ssize_t groups              # rows of a tile, rounded up to a whole vector of them
    cdef Py_ssize_t ldz
    cdef Py_ssize_t Q
    cdef Py_ssize_t scored              # scores of a row: of two classes with one row of coefficients there is one
    cdef Py_ssize_t losses              # doubles at the beginning of the sums: parts of the loss

    def __init__(
        self, *, Py_ssize_t N, Py_ssize_t D, Py_ssize_t K, Py_ssize_t itemsize, Py_ssize_t rows, Py_ssize_t tile,
        Py_ssize_t block, bint parallel, bint second,
    ):
        self.N, self.D, self.K, self.itemsize = N, D, K, itemsize
        self.scored = K
        self.rows, self.tile, self.block, self.parallel, self.second = rows, tile, block, parallel, second
        self.L, self.line = lanes_of(itemsize), 64 // itemsize
        self.groups = whole(tile, self.L)
        self.ldz = whole(K, self.L) if K <= 128 else odd_lines(K, self.line)
        self.Q = whole(self.groups * (self.ldz + 3), self.line)

    cdef Py_ssize_t buffer(self) noexcept:
        """Return the elements of a tile's buffer."""
        return self.Q + (whole(self.groups * self.ldz, self.line) if self.second else 0)

    cdef int find_single(self, Py_ssize_t slices) except -1:
        """Make the visit of all rows, if a block holds them."""
        if self.N <= self.block:
            self.single = Visit(0, 0, self.N, 0, slices, True, True)
        return 0

    def visit(self, row, offset, block, begin, end, first, last):
        """Return a visit of some rows; the arguments are its fields."""
        return Visit(row, offset, block, begin, end, first, last)

    def team(self, int n_threads):
        """Return how many of so many threads have something to do."""
        return n_threads if self.parallel else 1

    cdef int read(self, X, Batch *d) except -1:
        """Let d point at the samples of a visit, as this cut reads them."""
        raise NotImplementedError

    cdef double run(self, const Batch *d, void *work, double *sums, int n_threads) except? -1 nogil:
        """Add the rows of a visit to the sums; the last visit leaves the results, and returns the loss."""
        with gil:
            raise NotImplementedError


cdef class DensePlan(Plan):
    """What the two cuts of arrays have in common: W is packed, and tiles of X may be copied."""

    cdef Py_ssize_t ldt                 # elements from row to row of the copied tile
    cdef Py_ssize_t columns             # of the gradient's rows as they are summed
    cdef Py_ssize_t ldw                 # elements from row to row of the gradient as it is summed
    cdef Py_ssize_t one                 # elements of the W that is packed at a time
    cdef Py_ssize_t copy                # where in the tile's buffer the copy begins
    cdef Py_ssize_t after               # where the tile's buffer ends

    cdef void lay_out(self, Py_ssize_t packed) noexcept:
        """Find the sizes; W of `packed` classes is packed at a time."""
        cdef Py_ssize_t D = self.D, K = self.K, L = self.L, line = self.line
        self.ldt = odd_lines(whole(D, L), line)
        self.columns = whole(K, L) if self.transposed else whole(D, L) if self.copied else D
        self.ldw = whole(self.columns, L) if self.doubles else D
        self.one = whole(whole(packed, L) + (K * whole(D, L) if self.dots else D * whole(packed, L)), line)
        self.copy = self.buffer()
        self.widens = self.copied
        self.after = whole(self.copy + (self.tile * self.ldt if self.copied else 0), line)

    cdef Py_ssize_t gradient(self) noexcept nogil:
        """Return the doubles of db and, where it is summed in double, of dW."""
        return whole(self.K, 8) + ((self.D if self.transposed else self.K) * self.ldw if self.doubles else 0)

    cdef int read(self, X, Batch *d) except -1:
        d.x.X = rows_of(X, self.itemsize, self.D, &d.N, &d.x.ldx, &d.x.element)
        d.x.itemsize = bytes_of(d.x.element, self.itemsize)
        if d.x.element != REAL and not self.widens:
            raise ValueError(f"{X.dtype} needs a plan that copies tiles")
        return 0
