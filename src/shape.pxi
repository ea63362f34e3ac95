# A plan's choices, and the sizes of work space that follow from them.

cdef struct Shape:
    Py_ssize_t D, K
    bint dots               # scores by dots, from W packed by pack_rows
    bint copied             # the tile of X is copied into rows of ldt
    bint transposed         # dW^T is summed, with lanes along the classes
    bint doubles            # dW is summed in double; if not, in the result itself
    Py_ssize_t rows         # samples of one visit to the scores and the residuals
    Py_ssize_t tile         # samples of one visit to the gradient
    Py_ssize_t batch        # tiles whose gradients are summed before they are added in double
    Py_ssize_t slices       # 0: owned
    Py_ssize_t classes      # of a part, when owned
    Py_ssize_t parts        # between two looks for Ctrl-C within a tile, or 0
    bint second             # there is room for a second number beside each score: Q of the Hessian, the cap's slope
    bint sparse             # CSR rows: sparse.pxi
    bint grouped            # their classes a group at a time
    Py_ssize_t up           # tile, in whole groups of L rows
    Py_ssize_t ldz, ldt     # elements from row to row of Z and of the copied tile
    Py_ssize_t columns      # of the gradient's rows as summed, and their distance
    Py_ssize_t ldw
    Py_ssize_t one          # elements of W as packed at a time,
    Py_ssize_t packed       # and of V with it
    Py_ssize_t Q            # where in the buffer Q is, and the copied tile
    Py_ssize_t copy
    Py_ssize_t buffer       # elements of Z, its rows' work space, Q and the copied tile
    Py_ssize_t work         # elements of a thread's own work space
    Py_ssize_t sums         # doubles: 8 or more for losses, then db, then dW
    Py_ssize_t apart        # doubles from slice to slice of them


cdef Py_ssize_t whole(Py_ssize_t count, Py_ssize_t unit) noexcept nogil:
    return (count + unit - 1) // unit * unit


# Bytes between what different threads write. What a prefetcher fetches beyond the end of one thread's part, the other
# thread has to fetch back: 0.2 us a line where the two have no third cache in common (AMD Zen 5 has one for each
# group of cores; where the two do have one, it makes no difference). APART from slice to slice of the sums, for
# streams end with a page: covtype takes 5.9 ms with, 6.9 without. FAR from one thread's scores to the next one's, for
# what is read down the rows is followed for about as much again: 200000 x 10 x 500 floats take 28.0 ms with 4 KiB,
# 24.8 with 64, 21.8 with 128, 18.6 with 256 and more; doubles 60.8, 44.0 with 256 KiB, 42.3 with 512; 60000 x 784 x
# 10 floats 7.0 and 6.1.
cdef Py_ssize_t APART = 4096, FAR = 2**19


cdef Py_ssize_t odd_lines(Py_ssize_t count, const floating *kind) noexcept nogil:
    """An odd number of cache lines: rows a power of two apart all fall into the same few sets of a cache."""
    cdef Py_ssize_t line = 64 // sizeof(floating), lines = whole(count, line) // line
    return (lines if lines < 8 or lines % 2 else lines + 1) * line


cdef Shape shape_of(plan, Py_ssize_t D, Py_ssize_t K, const floating *kind):
    """The plan's choices and the sizes that follow from them."""
    cdef Shape p
    if plan[11]:
        return sparse_shape(plan, D, K, kind)
    memset(&p, 0, sizeof(p))
    cdef Py_ssize_t L = lanes(kind), line = 64 // sizeof(floating), packed
    p.D, p.K = D, K
    p.dots, p.copied, p.transposed, p.doubles, p.rows, p.tile = plan[:6]
    p.batch, p.slices, p.classes, p.parts, p.second = plan[6:11]
    p.up = whole(p.tile, L)
    p.ldz = whole(K, L) if K <= 128 else odd_lines(K, kind)
    p.ldt = odd_lines(whole(D, L), kind)
    p.columns = whole(K, L) if p.transposed else whole(D, L) if p.copied else D
    p.ldw = whole(p.columns, L) if p.doubles else D
    packed = p.classes if p.slices == 0 else K
    p.one = whole(packed, L) + (K * whole(D, L) if p.dots else D * whole(packed, L))
    p.one = whole(p.one, line)
    p.packed = p.one * (2 if p.second and p.slices else 1)
    p.Q = whole(p.up * (p.ldz + 3), line)
    p.copy = p.Q + (whole(p.up * p.ldz, line) if p.second else 0)
    p.buffer = whole(p.copy + (p.tile * p.ldt if p.copied else 0), line)
    p.work = p.packed
    if p.slices:
        p.work = p.buffer + (whole((D if p.transposed else K) * p.ldw, line) if p.batch > 1 else 0)
    if p.slices > 1:
        p.packed += FAR // sizeof(floating)
        p.work += FAR // sizeof(floating)
    p.sums = max(8, 0 if p.slices else whole(p.tile // p.rows + 1, 8)) + whole(K, 8)
    if p.doubles:
        p.sums += (D if p.transposed else K) * p.ldw
    p.apart = p.sums + (APART // sizeof(double) if p.slices > 1 else 0)
    return p


def lanes_of(Py_ssize_t itemsize):
    """Numbers of this size in a vector."""
    return lanes_f32 if itemsize == sizeof(float) else lanes_f64


def sizes(plan, Py_ssize_t D, Py_ssize_t K, Py_ssize_t itemsize):
    """Elements of work space for all threads together, for each of them, and doubles of a slice's sums."""
    cdef Shape p
    if itemsize == sizeof(float):
        p = shape_of(plan, D, K, <const float *>NULL)
    else:
        p = shape_of(plan, D, K, <const double *>NULL)
    if p.sparse:
        return p.work + p.buffer + 64 // itemsize, 0, p.sums
    return (p.packed if p.slices else p.buffer) + 64 // itemsize, p.work, p.apart
