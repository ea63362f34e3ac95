# Iterations of L-BFGS that need nothing of Python, one after the other without the GIL. What they do is specified by
# softmax_ext/_optim: `LBFGS` (lbfgs.py), `search` (line_search.py) and `Descent` (descent.py) in Python, to the bit.
# Where an iteration may be the last one, or its line search fails, it is left to these.

cdef struct Rules:          # constants of softmax_ext/_optim
    double armijo, wolfe, approximate
    Py_ssize_t trials
    double part, enough, gain
    Py_ssize_t window

cdef struct Point:          # where a descent is
    double *w
    double *asked           # the objective's own gradient
    double *grad            # with that of the extra penalty; the same memory if there is none
    double asked_value, value
    double largest          # the gradient's largest component, or what it is at most
    double likely           # likewise, or about what it is

cdef enum:
    VECTORS = 13            # doubles of work space for each parameter

STRETCH_VECTORS = VECTORS


cdef class Stretch(Call):
    """A descent of L-BFGS between two calls of Python: up to `most` iterations.

    Then `taken` says how many were taken, and `waits` whether there is a judgement to make.
    """

    cdef Pairs pairs
    cdef Function f
    cdef Inverse inverse
    cdef int n_threads      # that multiply by the inverse
    cdef Rules rules
    cdef Point at, tried
    cdef const double *extra    # the diagonal of an extra penalty, or NULL
    cdef double *vectors    # work space: of the two points, then
    cdef double *best       # the point with the least value, if `bettered`
    cdef double *share      # the gradient of the extra penalty
    cdef double *q
    cdef double *z          # the direction, and after it an image
    cdef double *G          # of the inverse
    cdef double least       # that value
    cdef double *values     # of all iterations so far
    cdef double *largests   # likewise the largest components of their gradients
    cdef Py_ssize_t n_iter
    cdef double l2, tol, enough, rounding
    cdef Py_ssize_t rows, wide  # of the coefficients, and of how many features the space is that they are in, or 0
    cdef void *work         # of a pass
    cdef double *sums
    cdef double *to_w       # where Python reads what a point has, and the direction
    cdef double *to_asked
    cdef double *to_grad
    cdef double *to_direction
    cdef double *to_best
    cdef Py_ssize_t most
    cdef tuple held         # the arrays, which must live as long
    cdef tuple held_now     # those of this call
    cdef readonly Py_ssize_t taken
    cdef readonly bint waits
    cdef readonly Py_ssize_t evaluations    # of iterations that were taken
    cdef readonly bint bettered
    cdef readonly double value  # at the present point, with the extra penalty
    cdef readonly double slope  # along the direction, if the descent waits for a judgement

    def __init__(
        self,
        Pairs pairs,
        vectors,                # WORK   (VECTORS, size)
        *,
        double armijo, double wolfe, double approximate, Py_ssize_t trials, double part, double enough, double gain,
        Py_ssize_t window,
    ):
        cdef Py_ssize_t size = pairs.size
        self.pairs, self.held = pairs, (vectors,)
        self.rules = Rules(armijo, wolfe, approximate, trials, part, enough, gain, window)
        self.vectors = <double *>numbers(vectors, b"f", sizeof(double), VECTORS * size, True)
        self.best, self.share = self.vectors + 6 * size, self.vectors + 7 * size
        self.q, self.z, self.G = self.vectors + 8 * size, self.vectors + 9 * size, self.vectors + 11 * size

    cdef void lay_out(self) noexcept nogil:
        """Find the memory of the two points."""
        cdef Py_ssize_t size = self.pairs.size
        self.at.w, self.at.asked, self.at.grad = self.vectors, self.vectors + size, self.vectors + 2 * size
        self.tried.w, self.tried.asked = self.vectors + 3 * size, self.vectors + 4 * size
        self.tried.grad = self.vectors + 5 * size
        if self.extra == NULL:
            self.at.grad, self.tried.grad = self.at.asked, self.tried.asked

    def prepare(
        self,
        Function f,
        Inverse inverse,
        int n_threads,          # that multiply by it
        w,                      # INOUT  (size,), as all vectors are: the present point
        asked,                  # INOUT  the objective's gradient there
        grad,                   # INOUT  that with the extra penalty; the same array if there is none
        direction,              # OUT    the next one, if there is a judgement to make
        best,                   # OUT    the point with the least value, if `bettered`
        extra,                  # IN     the diagonal of the extra penalty, or None
        values,                 # INOUT  the values so far, and room for `most` more
        largests,               # INOUT  likewise
        *,
        Py_ssize_t n_iter,      # how many iterations there have been
        Py_ssize_t most,        # how many there may be now
        double value,           # at the present point, with the extra penalty
        double least_value,     # so far
        double l2,
        double tol,
        double enough,          # a largest component that ends the descent
        double eps,             # of the objective's dtype
        Py_ssize_t rows,        # of the coefficients
        Py_ssize_t wide,        # the number of features, if the coefficients are in the space of the samples, or 0
    ):
        """Read the arguments of the next call."""
        cdef Py_ssize_t size = self.pairs.size
        if f.plan is None or f.weights + f.biases != size or inverse.size != size:
            raise ValueError(f"expected a function of {size} parameters of samples in memory, and its preconditioner")
        self.f, self.inverse, self.n_threads = f, inverse, n_threads
        self.held_now = w, asked, grad, direction, best, extra, values, largests
        self.to_w = <double *>numbers(w, b"f", sizeof(double), size, True)
        self.to_asked = <double *>numbers(asked, b"f", sizeof(double), size, True)
        self.to_grad = <double *>numbers(grad, b"f", sizeof(double), size, True)
        self.to_direction = <double *>numbers(direction, b"f", sizeof(double), size, True)
        self.to_best = <double *>numbers(best, b"f", sizeof(double), size, True)
        self.extra = <const double *>numbers(extra, b"f", sizeof(double), size, False)
        self.values = <double *>numbers(values, b"f", sizeof(double), n_iter + most + 1, True)
        self.largests = <double *>numbers(largests, b"f", sizeof(double), n_iter + most + 1, True)
        self.n_iter, self.most, self.value, self.least, self.l2 = n_iter, most, value, least_value, l2
        self.tol, self.enough, self.rounding, self.rows, self.wide = tol, enough, 8 * eps, rows, wide

    def use(self, space):
        """Take the work space of a pass."""
        cdef Function f = self.f
        self.work = aligned(numbers(
            space.work, b"f", f.plan.itemsize, f.plan.shared + f.n_threads * f.plan.work, True,
        ))
        self.sums = <double *>numbers(space.sums, b"f", sizeof(double), f.plan.sums, True)

    cdef int run(self) except -1 nogil:
        cdef Py_ssize_t size = self.pairs.size
        self.lay_out()
        self.at.asked_value, self.at.value = self.values[self.n_iter], self.value
        self.at.largest = self.at.likely = self.largests[self.n_iter]
        if self.wide:
            row_bounds(self.to_asked, self.rows, self.f.weights // self.rows, size, self.wide, &self.at.likely)
        self.bettered, self.evaluations, self.waits = False, 0, False
        self.f.d.loss.l2 = self.l2
        memcpy(self.at.w, self.to_w, size * sizeof(double))
        memcpy(self.at.asked, self.to_asked, size * sizeof(double))
        memcpy(self.at.grad, self.to_grad, size * sizeof(double))
        self.taken = iterate(self, self.most, &self.waits)
        memcpy(self.to_w, self.at.w, size * sizeof(double))
        memcpy(self.to_asked, self.at.asked, size * sizeof(double))
        memcpy(self.to_grad, self.at.grad, size * sizeof(double))
        if self.waits:
            memcpy(self.to_direction, self.z, size * sizeof(double))
        if self.bettered:
            memcpy(self.to_best, self.best, size * sizeof(double))
        self.value = self.at.value
        return 0


cdef Py_ssize_t iterate(Stretch t, Py_ssize_t most, bint *waits) except? -1 nogil:
    """Take up to `most` iterations, and return how many; one that may be the last waits, with its direction."""
    cdef Py_ssize_t taken = 0
    while taken < most:
        find_direction(t)
        t.slope = product(t.at.grad, t.z, t.pairs.size)
        waits[0] = may_end(t) or not search(t)
        if waits[0]:
            break
        add_next(t.pairs, t.tried.w, t.at.w, t.tried.grad, t.at.grad)
        move(t)
        taken += 1
    return taken


cdef void find_direction(Stretch t) noexcept nogil:
    """Find the direction, as `History.direction` does."""
    cdef Py_ssize_t j, size = t.pairs.size
    if t.pairs.count == 0:
        t.inverse.times(t.at.grad, NULL, True, t.G, t.z, t.n_threads)
        for j in range(size):
            t.z[j] = -t.z[j]
        return
    first_loop(t.pairs, t.at.grad, t.q)
    t.inverse.times(t.q, t.pairs.newest(), t.pairs.itemsize == sizeof(double), t.G, t.z, t.n_threads)
    second_loop(t.pairs, t.z + size, t.z)


cdef bint may_end(Stretch t) noexcept nogil:
    """Return whether Python has to judge: wherever it might end the descent, or there is no direction of descent."""
    cdef double predicted = -0.5 * t.slope, tolerated
    tolerated = t.rules.part * (t.tol if t.tol > t.at.asked_value else t.at.asked_value)
    if not t.slope < 0 or t.at.largest <= t.enough or (predicted <= tolerated and t.at.likely <= t.tol):
        return True
    if t.extra != NULL:
        return predicted <= t.rules.enough * tolerated
    return t.n_iter > 2 * t.rules.window and is_rounding(t)


cdef bint is_rounding(Stretch t) noexcept nogil:
    """Return whether the last iterations have gained no more than rounding."""
    cdef Py_ssize_t i, last = t.n_iter + 1 - t.rules.window
    cdef double before = t.values[0], now = t.values[last], gradient_before = t.largests[0], gradient = t.largests[last]
    cdef double size = t.at.value if t.at.value > 0 else -t.at.value
    for i in range(last):
        before, gradient_before = min(before, t.values[i]), min(gradient_before, t.largests[i])
    for i in range(last, t.n_iter + 1):
        now, gradient = min(now, t.values[i]), min(gradient, t.largests[i])
    return before - now <= t.rounding * max(size, DBL_MIN) and gradient > (1 - t.rules.gain) * gradient_before


cdef bint search(Stretch t) except -1 nogil:
    """Find a point where the strong Wolfe conditions hold, and return whether there is one; line_search.py has more."""
    cdef double f0 = t.at.value, slope0 = t.slope, low = 0, f_low = f0, slope_low = slope0, high = INFINITY, step = 1
    cdef double value, slope
    cdef bint fine, whole
    cdef Py_ssize_t trial
    for trial in range(t.rules.trials):
        try_step(t, step)
        value = t.tried.value
        slope = product(t.tried.grad, t.z, t.pairs.size)
        fine = value <= rounded_sum(f0, t.rules.armijo * step * slope0)
        if not fine and value <= rounded_sum(f0, t.rules.approximate * (f0 if f0 > 0 else -f0)):
            fine = (2 * t.rules.armijo - 1) * slope0 >= slope
        whole = high == INFINITY and value < f0 and slope < 0
        if fine and (whole or (t.rules.wolfe * slope0 <= slope and slope <= -t.rules.wolfe * slope0)):
            t.evaluations = t.evaluations + trial + 1
            return True
        if fine and slope < 0:
            low, f_low, slope_low = step, value, slope
            step = lowest(low, f_low, slope_low, high, NAN, NAN)
        else:
            high = step
            step = lowest(low, f_low, slope_low, high, value, slope)
        if high - low <= 1e-12 * high:
            return False
    return False


cdef double rounded_sum(double a, double b) noexcept nogil:
    """Return a + b, each rounded before."""
    return plus(<const double *>NULL, a, b)


cdef double lowest(double a, double f_a, double slope_a, double b, double f_b, double slope_b) noexcept nogil:
    """Return what `_minimum` of line_search.py does."""
    cdef double middle = (a + b) / 2, d1, d2, square, denominator, t, least, most
    if not (isfinite(f_b) and isfinite(slope_b)):
        return middle
    d1 = rounded_sum(slope_a + slope_b, -(3 * (f_a - f_b) / (a - b)))
    square = rounded_sum(d1 * d1, -(slope_a * slope_b))
    if square < 0:
        return middle
    d2 = sqrt(square)
    denominator = rounded_sum(slope_b - slope_a, 2 * d2)
    if denominator == 0:
        return middle
    t = rounded_sum(b, -((b - a) * rounded_sum(slope_b + d2, -d1) / denominator))
    least, most = rounded_sum(a, 0.1 * (b - a)), rounded_sum(b, -(0.1 * (b - a)))
    t = least if least > t else t
    return most if most < t else t


cdef int try_step(Stretch t, double step) except -1 nogil:
    """Evaluate the point that lies `step` directions away."""
    cdef Py_ssize_t j, size = t.pairs.size
    cdef double penalty, loss
    all_shares(1, t.at.w, &step, <const double *>t.z, 1, size, t.tried.w, 1)
    loss = evaluate(t.f, t.l2, t.tried.w, t.tried.asked, t.work, t.sums, &penalty)
    t.tried.asked_value = t.tried.value = rounded_sum(loss, penalty)
    if t.extra == NULL:
        return 0
    for j in range(size):
        t.share[j] = t.extra[j] * t.tried.w[j]
    for j in range(size):
        t.tried.grad[j] = rounded_sum(t.tried.asked[j], t.share[j])
    t.tried.value = rounded_sum(t.tried.value, 0.5 * product(t.share, t.tried.w, size))
    return 0


cdef void move(Stretch t) noexcept nogil:
    """Go to the point that was tried last, and note its value."""
    t.at, t.tried = t.tried, t.at
    if t.wide:
        t.at.largest = row_bounds(t.at.asked, t.rows, t.f.weights // t.rows, t.pairs.size, t.wide, &t.at.likely)
    else:
        t.at.largest = t.at.likely = largest(t.at.asked, t.pairs.size)
    t.n_iter = t.n_iter + 1
    t.values[t.n_iter], t.largests[t.n_iter] = t.at.asked_value, t.at.largest
    if t.at.asked_value < t.least:
        t.least, t.bettered = t.at.asked_value, True
        memcpy(t.best, t.at.w, t.pairs.size * sizeof(double))


cdef double row_bounds(
    const double *grad, Py_ssize_t rows, Py_ssize_t D, Py_ssize_t size, Py_ssize_t wide, double *likely,
) noexcept nogil:
    """Return what a gradient's largest component is at most, and about, once its rows are turned in a wider space.

    To turn a row keeps its norm, and leaves the intercepts as they are. Of D components in a random direction the
    largest is about sqrt(2 log D / D) times the norm.
    """
    cdef Py_ssize_t k
    cdef double square, most = 0, others = largest(grad + rows * D, size - rows * D)
    for k in range(rows):
        square = product(grad + k * D, grad + k * D, D)
        most = most if square <= most else square  # NaN stays
        if square != square:
            break
    most = sqrt(most)
    likely[0] = most * sqrt(max(2 * log(<double>wide), 1) / wide)
    likely[0] = others if others > likely[0] or others != others else likely[0]
    return others if others > most or others != others else most


def gradient_bounds(
    grad,                   # IN     (size,), float64: rows of D numbers, then others
    Py_ssize_t rows,
    Py_ssize_t D,
    Py_ssize_t wide,        # the number of features in the wider space
):
    """Return about what a gradient's largest component is in a wider space, and at most; see `row_bounds`."""
    cdef double likely, most
    cdef Py_ssize_t size = grad.size
    if size < rows * D:
        raise ValueError(f"expected {rows * D} numbers or more, got {size}")
    most = row_bounds(
        <const double *>numbers(grad, b"f", sizeof(double), size, False), rows, D, size, wide, &likely,
    )
    return likely, most
