# The penalised loss of samples as a function of one vector of doubles, w = [W, row after row; b], and its gradient.

cdef class Function:
    """A pass with the arrays of its model, into which each w is rounded, and of its gradient, which is widened again.

    Where class 1 alone has parameters and the pass is over both, the first row of the model stays 0.
    """

    cdef Pass asked
    cdef Batch d            # the only visit, which `over` prepares
    cdef Plan plan          # the plan of that visit
    cdef object rows
    cdef int n_threads
    cdef char *model
    cdef char *gradient
    cdef Py_ssize_t itemsize    # bytes of a number of these two
    cdef Py_ssize_t weights, biases     # how many w has
    cdef Py_ssize_t before, between     # numbers of other classes before its weights, and from these to its biases
    cdef tuple held         # the arrays, which must live as long

    def __init__(
        self,
        Pass asked,
        model,                  # IN     W and b of all classes of the pass, one after the other: zeros
        gradient,               # OUT    likewise
        *,
        Py_ssize_t weights,     # entries of w that are weights
        Py_ssize_t biases,      # and that are biases
        Py_ssize_t before,      # numbers of the model before the first of these weights
        Py_ssize_t between,     # and between the last of them and the first of these biases
    ):
        self.asked, self.held, self.itemsize = asked, (model, gradient), model.itemsize
        self.weights, self.biases, self.before, self.between = weights, biases, before, between
        self.model = <char *>numbers(model, b"f", self.itemsize, self.entries(), True)
        self.gradient = <char *>numbers(gradient, b"f", self.itemsize, self.entries(), True)

    cdef Py_ssize_t entries(self):
        return self.before + self.weights + self.between + self.biases

    def over(self, rows, Plan plan, int n_threads):
        """Take samples that one visit reads in place."""
        if plan.single is None:
            raise ValueError("the plan has more than one visit")
        self.asked.see(rows, plan, plan.single, &self.d)
        self.rows, self.plan, self.n_threads = rows, plan, n_threads

    def set(self, w, double l2):
        """Round w, (size,) float64, into the model of the next pass."""
        cdef fexcept_t flags
        self.asked.d.loss.l2 = l2
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        round_in(self, <const double *>numbers(w, b"f", sizeof(double), self.weights + self.biases, False))
        fesetexceptflag(&flags, FE_ALL_EXCEPT)

    def get(self, w, grad, double l2, double loss):
        """Write the gradient of the last pass and of a penalty, (size,) float64; return the value.

        The value is a sum of Python's numbers: a compiler would round it together with the product in the penalty, and
        it would differ from the loss without a gradient.
        """
        cdef const double *at = <const double *>numbers(w, b"f", sizeof(double), self.weights + self.biases, False)
        cdef double *to = <double *>numbers(grad, b"f", sizeof(double), self.weights + self.biases, True)
        cdef double penalty
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        penalty = widen_out(self, l2, at, to)
        value = <object>loss + penalty
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
        return value

    def at(self, w, grad, double l2, space):
        """Return the value at w, (size,) float64, and write its gradient, by the visit of which `over` was told.

        l2: the strength of the penalty: half of it times the sum of the weights' squares is added.
        """
        cdef const double *v = <const double *>numbers(w, b"f", sizeof(double), self.weights + self.biases, False)
        cdef double *to = <double *>numbers(grad, b"f", sizeof(double), self.weights + self.biases, True)
        cdef double loss, penalty = 0
        cdef fexcept_t flags
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        loss = self.visit(l2, v, to, space, &penalty)
        value = <object>loss + penalty  # see `get`
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
        return value

    cdef double visit(self, double l2, const double *v, double *to, space, double *penalty) except? -1:
        """Return the loss at v and write the gradient; the penalty is left beside, and flags as they come."""
        cdef void *work
        cdef double *sums
        cdef double loss
        if self.plan is None:
            raise ValueError("there are no samples")
        self.d.loss.l2 = l2
        work = numbers(
            space.work, b"f", self.plan.itemsize, self.plan.shared + self.n_threads * self.plan.work, True,
        )
        sums = <double *>numbers(space.sums, b"f", sizeof(double), self.plan.sums, True)
        if self.plan.parallel:
            with nogil:
                loss = evaluate(self, l2, v, to, work, sums, penalty)
        else:  # a pass of some microseconds keeps the GIL: see kernels.pyx
            loss = evaluate(self, l2, v, to, work, sums, penalty)
        return loss

    def gap(
        self,
        w,                      # IN     (size,), float64
        grad,                   # IN     (size,), float64: the gradient there, with that of the penalty
        frequencies,            # IN     (K,), float64: what the targets of each class weigh
        room,                   # WORK   (2 size,), float64
        space,                  # WORK   of a pass
        *,
        double value,           # at w, with the penalty
        double mass,            # what all targets weigh
        double l2,
    ):
        """Return how far the value lies above the minimum at most, with one pass.

        `Dual.gap` of softmax_ext/_optim/duality.py specifies it. All classes have parameters, with biases.
        """
        cdef Py_ssize_t k, K = self.biases, n = self.weights, size = n + K, count = 2
        cdef const double *at = <const double *>numbers(w, b"f", sizeof(double), size, False)
        cdef const double *g = <const double *>numbers(grad, b"f", sizeof(double), size, False)
        cdef const double *shares = <const double *>numbers(frequencies, b"f", sizeof(double), K, False)
        cdef double *constant = <double *>numbers(room, b"f", sizeof(double), 2 * size, True)
        cdef double q, t = 0, used = 0, penalty = 0.5 * l2 * product(at, at, n)
        cdef double entropy = product(g, at, size) - 2 * penalty - (value - penalty)
        cdef const double *parts[MOST]
        cdef double times[MOST]
        cdef fexcept_t flags
        if not K or self.before or self.between or not l2 > 0:
            raise ValueError("expected biases of all classes, and a penalty")
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        for k in range(K):
            if g[n + k] > 0:
                t = max(t, g[n + k] / (shares[k] + g[n + k]))
        t = min(t, 1)
        if t > 0:
            memset(constant, 0, n * sizeof(double))
            for k in range(K):
                q = max(shares[k] + g[n + k] - g[n + k] / t, 0) / mass
                if q > 0:
                    used += q * log(q)
                constant[n + k] = log(max(q, DBL_MIN))
            entropy = (1 - t) * entropy + t * mass * used
            self.visit(0, constant, constant + size, space, &penalty)
            parts[2], times[2], count = constant + size, t, 3
        parts[0], times[0], parts[1], times[1] = g, 1 - t, at, -(1 - t) * l2
        entropy += value + square(parts, times, count, n) / (2 * l2)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
        return 0.0 if entropy < 0 else entropy


cdef double evaluate(
    Function f, double l2, const double *w, double *grad, void *work, double *sums, double *penalty,
) except? -1 nogil:
    """Run the only visit, and return its loss; the penalty is left beside."""
    cdef double loss
    round_in(f, w)
    loss = f.plan.run(&f.d, aligned(work), sums, f.n_threads)
    penalty[0] = widen_out(f, l2, w, grad)
    return loss


cdef void round_in(Function f, const double *w) noexcept nogil:
    """Round w into the model."""
    if f.itemsize == sizeof(float):
        rounded(w, f.weights, <float *>f.model + f.before)
        rounded(w + f.weights, f.biases, <float *>f.model + f.before + f.weights + f.between)
    else:
        rounded(w, f.weights, <double *>f.model + f.before)
        rounded(w + f.weights, f.biases, <double *>f.model + f.before + f.weights + f.between)


cdef double widen_out(Function f, double l2, const double *w, double *grad) noexcept nogil:
    """Write the gradient of the model, with that of the penalty, to grad; return the penalty."""
    cdef Py_ssize_t bias = f.before + f.weights + f.between
    cdef double share = 0 if f.asked.d.model.doubles else l2  # a model of doubles has got it from the pass
    if f.itemsize == sizeof(float):
        widen_weights(<float *>f.gradient + f.before, share, w, f.weights, grad)
        widen(<float *>f.gradient + bias, f.biases, grad + f.weights)
    else:
        widen_weights(<double *>f.gradient + f.before, share, w, f.weights, grad)
        widen(<double *>f.gradient + bias, f.biases, grad + f.weights)
    return 0.5 * l2 * product(w, w, f.weights) if l2 > 0 else 0


cdef void widen_weights(
    const floating *gradient, double share, const double *w, Py_ssize_t n, double *grad,
) noexcept nogil:
    """Write the gradient for the weights, and share w, unless share is 0: w may be infinite."""
    if share > 0:
        widen_and_add(gradient, share, w, n, grad)
    else:
        widen(gradient, n, grad)
