# The two-loop recursion of L-BFGS (Nocedal and Wright 2006, algorithm 7.4), in four sweeps over half of the history
# each. softmax_ext/_optim/history.py has the same in NumPy. A sweep is one team of threads at most, since each team
# waits for the last of its threads; see "Teams of the history" in docs/notes.md.

cdef class Pairs:
    """Pairs of steps s and changes of the gradient y, in rows of S and Y."""

    cdef Py_ssize_t memory, size, itemsize
    cdef readonly Py_ssize_t count  # of the pairs
    cdef Py_ssize_t *order  # the rows: those that hold a pair, the oldest first, and then the free ones, the next first
    cdef Py_ssize_t parallel    # numbers that a sweep has to read for threads to pay
    cdef int n_threads
    cdef void *S
    cdef void *Y
    cdef double *Sg         # s_i^T g, for the last gradient
    cdef double *SY         # s_i^T y_j, where j is not older than i
    cdef double *alpha      # alpha_i of the first loop, for each row
    cdef double *shares     # what the second loop takes of each row of S
    cdef double *sums       # inner products of each chunk; then what a sweep takes of each row
    cdef tuple held         # the arrays, which must live as long

    def __init__(
        self,
        S,                      # INOUT  (memory, size), C-contiguous, as all are
        Y,                      # INOUT  likewise
        Sg,                     # OUT    (memory,)
        SY,                     # OUT    (memory, memory)
        order,                  # OUT    (memory,), intp
        work,                   # WORK   2 memory (chunks + 1): for the recursion, and for the sums of each chunk
        int n_threads,
        Py_ssize_t parallel,    # how many numbers a sweep has to read for threads to pay
    ):
        cdef Py_ssize_t chunks
        self.held = S, Y, Sg, SY, order, work
        self.memory, self.size = S.shape
        self.itemsize, self.n_threads, self.parallel = S.itemsize, n_threads, parallel
        chunks = (self.size + CHUNK - 1) // CHUNK
        self.S = numbers(S, b"f", self.itemsize, self.memory * self.size, True)
        self.Y = numbers(Y, b"f", self.itemsize, self.memory * self.size, True)
        self.Sg = <double *>numbers(Sg, b"f", sizeof(double), self.memory, True)
        self.SY = <double *>numbers(SY, b"f", sizeof(double), self.memory * self.memory, True)
        self.order = <Py_ssize_t *>numbers(order, b"i", sizeof(Py_ssize_t), self.memory, True)
        self.alpha = <double *>numbers(work, b"f", sizeof(double), 2 * self.memory * (chunks + 1), True)
        self.shares, self.sums = self.alpha + self.memory, self.alpha + 2 * self.memory
        self.forget()

    cdef bint large(self) noexcept:
        """Return whether the GIL is released: see RELEASING in kernels.pyx."""
        return self.memory * self.size >= RELEASING

    cdef int team(self, Py_ssize_t rows) noexcept nogil:
        """Return how many threads sweep over so many rows."""
        return self.n_threads if rows * self.size >= self.parallel else 1

    cdef Py_ssize_t used(self) noexcept nogil:
        """Return how many rows there are up to the last one that holds a pair."""
        cdef Py_ssize_t k, most = 0
        for k in range(self.count):
            most = max(most, self.order[k] + 1)
        return most

    cdef const void *newest(self) noexcept nogil:
        """Return the y of the newest pair."""
        return <const char *>self.Y + self.order[self.count - 1] * self.size * self.itemsize

    def forget(self):
        """Drop all pairs."""
        cdef Py_ssize_t row
        self.count = 0
        for row in range(self.memory):
            self.order[row] = row

    def add(self, w, grad, w0, grad0):
        """Add the pair from (w0, grad0) to (w, grad), unless the objective does not curve upwards there."""
        cdef const double *g = <const double *>numbers(grad, b"f", sizeof(double), self.size, False)
        cdef const double *g0 = <const double *>numbers(grad0, b"f", sizeof(double), self.size, False)
        cdef const double *v = <const double *>numbers(w, b"f", sizeof(double), self.size, False)
        cdef const double *v0 = <const double *>numbers(w0, b"f", sizeof(double), self.size, False)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        if self.large():
            with nogil:
                add_next(self, v, v0, g, g0)
        else:
            add_next(self, v, v0, g, g0)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def ease(self, change, grad):
        """Add to each y its s times the change of a penalty's diagonal; the gradient has changed to `grad`."""
        cdef const double *by = <const double *>numbers(change, b"f", sizeof(double), self.size, False)
        cdef const double *g = <const double *>numbers(grad, b"f", sizeof(double), self.size, False)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        if self.large():
            with nogil:
                ease_all(self, by, g)
        else:
            ease_all(self, by, g)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def back(self, grad, q):
        """Take the first loop: find alpha, and q = g - sum_i alpha_i y_i."""
        cdef const double *g = <const double *>numbers(grad, b"f", sizeof(double), self.size, False)
        cdef double *to = <double *>numbers(q, b"f", sizeof(double), self.size, True)
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        if self.large():
            with nogil:
                first_loop(self, g, to)
        else:
            first_loop(self, g, to)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def forth(self, z, Hy):
        """Take the second loop, from z = H0 q and Hy = H0 y of the newest pair: z becomes the direction.

        H0 is multiplied by what makes it fit the last pair: Nocedal and Wright's (7.20), in H0's metric.
        """
        cdef double *to = <double *>numbers(z, b"f", sizeof(double), self.size, True)
        cdef const double *image = <const double *>numbers(Hy, b"f", sizeof(double), self.size, False)
        cdef fexcept_t flags
        if not self.count:
            raise ValueError("there is no pair")
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        if self.large():
            with nogil:
                second_loop(self, image, to)
        else:
            second_loop(self, image, to)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void add_next(
    Pairs p, const double *w, const double *w0, const double *g, const double *g0,
) noexcept nogil:
    """Write a pair of two points to a row, and note its products with all pairs; it stays if they curve upwards."""
    cdef Py_ssize_t i, row, used
    if p.memory == 0:
        return
    if p.count < p.memory:
        p.count = p.count + 1  # `+=` of an attribute would need the GIL in debug builds, which check for overflow
    else:
        row = p.order[0]
        for i in range(1, p.memory):
            p.order[i - 1] = p.order[i]
        p.order[p.memory - 1] = row
    row, used = p.order[p.count - 1], p.used()
    pair_of(p, row, used, w, w0, g, g0)
    for i in range(used):
        p.Sg[i], p.SY[i * p.memory + row] = p.sums[i], p.sums[used + i]
    if not p.SY[row * p.memory + row] > 0:
        p.count = p.count - 1


cdef void ease_all(Pairs p, const double *change, const double *g) noexcept nogil:
    """Add to each y its s times the change, and note the products of all s with it and with the gradient."""
    cdef Py_ssize_t i, k, row, used = p.used()
    for k in range(p.count):
        row = p.order[k]
        if p.itemsize == sizeof(float):
            ease_pair(p, <const float *>p.S, <float *>p.Y + row * p.size, row, used, change)
        else:
            ease_pair(p, <const double *>p.S, <double *>p.Y + row * p.size, row, used, change)
        for i in range(used):
            p.SY[i * p.memory + row] = p.sums[i]
    if p.itemsize == sizeof(float):
        all_products(<const float *>p.S, used, p.size, g, <const float *>NULL, p.sums, p.team(used))
    else:
        all_products(<const double *>p.S, used, p.size, g, <const double *>NULL, p.sums, p.team(used))
    for i in range(used):
        p.Sg[i] = p.sums[i]


cdef void ease_pair(
    Pairs p, const floating *S, floating *y, Py_ssize_t row, Py_ssize_t used, const double *change,
) noexcept nogil:
    """Add s times the change to the y of a row, and leave its products with all s in p.sums."""
    cdef Py_ssize_t i, chunks = (p.size + CHUNK - 1) // CHUNK
    cdef int n_threads = p.team(used)
    if n_threads == 1:
        for i in range(chunks):
            ease_chunk(p, S, y, row, used, i * CHUNK, change, p.sums + used * i)
    else:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            ease_chunk(p, S, y, row, used, i * CHUNK, change, p.sums + used * i)
    add_chunks(p.sums, chunks, used)


cdef void ease_chunk(
    Pairs p, const floating *S, floating *y, Py_ssize_t row, Py_ssize_t used, Py_ssize_t at, const double *change,
    double *sums,
) noexcept nogil:
    """Do so with a chunk of y, from `at` on."""
    cdef double wide[CHUNK]
    cdef Py_ssize_t j, n = min(CHUNK, p.size - at)
    cdef const floating *s = S + row * p.size + at
    for j in range(n):
        y[at + j] = <floating>(y[at + j] + change[at + j] * s[j])
        wide[j] = y[at + j]
    inner_products(S + at, used, p.size, wide, <const floating *>NULL, n, sums)


cdef void first_loop(Pairs p, const double *g, double *to) noexcept nogil:
    """Find alpha, and q = g - sum_i alpha_i y_i."""
    cdef Py_ssize_t i, j, k, other, memory = p.memory, used = p.used()
    cdef double left
    for i in range(used):
        p.alpha[i] = p.shares[i] = 0
    for k in range(p.count - 1, -1, -1):
        i = p.order[k]
        left = p.Sg[i]
        for other in range(k + 1, p.count):
            j = p.order[other]
            left -= p.SY[i * memory + j] * p.alpha[j]
        p.alpha[i] = left / p.SY[i * memory + i]
    for i in range(used):
        p.sums[i] = -p.alpha[i]
    shares_of(p, 1, g, p.Y, used, to)


cdef void second_loop(Pairs p, const double *image, double *z) noexcept nogil:
    """Make the direction of z = H0 q, and of the image H0 y of the newest pair."""
    cdef Py_ssize_t i, j, k, other, memory = p.memory, used = p.used(), newest = p.order[p.count - 1]
    cdef double gamma, found, curvature = products_of(p, newest, used, image, z)
    gamma = p.SY[newest * memory + newest] / (curvature if curvature > DBL_MIN else DBL_MIN)
    for k in range(p.count):
        i = p.order[k]
        found = gamma * p.sums[1 + i]
        for other in range(k):
            j = p.order[other]
            found += p.shares[j] * p.SY[j * memory + i]
        p.shares[i] = p.alpha[i] - found / p.SY[i * memory + i]
    for i in range(used):
        p.sums[i] = -p.shares[i]
    shares_of(p, -gamma, z, p.S, used, z)


cdef void add_pair(
    Pairs p, floating *S, floating *Y, Py_ssize_t row, Py_ssize_t used, const double *w, const double *w0,
    const double *g, const double *g0,
) noexcept nogil:
    """Write a pair of two points, and find the products of all s with the gradient and with the new y."""
    cdef Py_ssize_t i, chunks = (p.size + CHUNK - 1) // CHUNK
    cdef int n_threads = p.team(used)
    if n_threads == 1:  # without OpenMP: even a team of one takes time
        for i in range(chunks):
            add_chunk(p, S, Y, row, used, i * CHUNK, w, w0, g, g0, p.sums + 2 * used * i)
    else:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            add_chunk(p, S, Y, row, used, i * CHUNK, w, w0, g, g0, p.sums + 2 * used * i)
    add_chunks(p.sums, chunks, 2 * used)


cdef void add_chunk(
    Pairs p, floating *S, floating *Y, Py_ssize_t row, Py_ssize_t used, Py_ssize_t at, const double *w,
    const double *w0, const double *g, const double *g0, double *sums,
) noexcept nogil:
    """Write a pair's chunk from `at` on, and find its part of the products."""
    cdef Py_ssize_t n = min(CHUNK, p.size - at)
    subtract(w + at, w0 + at, n, S + row * p.size + at)
    subtract(g + at, g0 + at, n, Y + row * p.size + at)
    inner_products(S + at, used, p.size, g + at, Y + row * p.size + at, n, sums)


cdef void pair_of(
    Pairs p, Py_ssize_t row, Py_ssize_t used, const double *w, const double *w0, const double *g, const double *g0,
) noexcept nogil:
    """Write the pair w - w0, g - g0 to a row, and its products with the `used` first rows to p.sums."""
    if p.itemsize == sizeof(float):
        add_pair(p, <float *>p.S, <float *>p.Y, row, used, w, w0, g, g0)
    else:
        add_pair(p, <double *>p.S, <double *>p.Y, row, used, w, w0, g, g0)


cdef void shares_of(
    Pairs p, double share, const double *v, const void *rows, Py_ssize_t used, double *to,
) noexcept nogil:
    """Write share v plus the sum of the rows, each times its number in p.sums."""
    if p.itemsize == sizeof(float):
        all_shares(share, v, p.sums, <const float *>rows, used, p.size, to, p.team(used))
    else:
        all_shares(share, v, p.sums, <const double *>rows, used, p.size, to, p.team(used))


cdef double products_of(
    Pairs p, Py_ssize_t newest, Py_ssize_t used, const double *image, const double *z,
) noexcept nogil:
    """Return the newest y's product with its image, and leave those of all y with z in p.sums, from the second on."""
    if p.itemsize == sizeof(float):
        image_products(p, <const float *>p.Y, newest, used, image, z)
    else:
        image_products(p, <const double *>p.Y, newest, used, image, z)
    return p.sums[0]


cdef void image_products(
    Pairs p, const floating *Y, Py_ssize_t newest, Py_ssize_t used, const double *image, const double *z,
) noexcept nogil:
    """Leave the newest y's product with its image in p.sums, and then those of all y with z."""
    cdef Py_ssize_t i, chunks = (p.size + CHUNK - 1) // CHUNK
    cdef int n_threads = p.team(used)
    if n_threads == 1:
        for i in range(chunks):
            image_chunk(p, Y, newest, used, i * CHUNK, image, z, p.sums + (1 + used) * i)
    else:
        for i in prange(chunks, schedule="static", num_threads=n_threads):
            image_chunk(p, Y, newest, used, i * CHUNK, image, z, p.sums + (1 + used) * i)
    add_chunks(p.sums, chunks, 1 + used)


cdef void image_chunk(
    Pairs p, const floating *Y, Py_ssize_t newest, Py_ssize_t used, Py_ssize_t at, const double *image,
    const double *z, double *sums,
) noexcept nogil:
    """Find the part of these products from `at` on."""
    cdef Py_ssize_t n = min(CHUNK, p.size - at)
    sums[0] = dot(Y + newest * p.size + at, image + at, n)
    inner_products(Y + at, used, p.size, z + at, <const floating *>NULL, n, sums + 1)
