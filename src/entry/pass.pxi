# What is asked of a pass over samples: the model, the loss, and where results go.

cdef class Pass:
    """What is asked of a pass over samples: it is made once, and then run visit by visit.

    Its arrays are C-contiguous, aligned, native, and of the type that X computes in, but for s and `losses`.
    """

    cdef Batch d
    cdef tuple held         # the arrays, which must live as long
    cdef readonly bint summing  # whether sums over all rows are made

    def visit(self, rows, Plan plan, Visit visit, space, int n_threads):
        """Take some rows, `Rows` of softmax_ext/_inputs/rows.py as the plan reads them; return the last visit's loss.

        The work space is the same for all visits: what `plan` says for so many threads.
        """
        cdef Batch d
        self.see(rows, plan, visit, &d)
        return self.over(plan, &d, space, n_threads)

    cdef double over(self, Plan plan, const Batch *d, space, int n_threads) except? -1:
        """Take the rows that d points at; return the last visit's loss."""
        cdef void *work
        cdef double *sums
        cdef double loss
        cdef fexcept_t flags
        work = numbers(space.work, b"f", plan.itemsize, plan.shared + n_threads * plan.work, True)
        sums = <double *>numbers(space.sums, b"f", sizeof(double), plan.sums if self.summing else 0, True)
        fegetexceptflag(&flags, FE_ALL_EXCEPT)
        with nogil:
            loss = plan.run(d, aligned(work), sums, n_threads)
        fesetexceptflag(&flags, FE_ALL_EXCEPT)
        return loss

    cdef int see(self, rows, Plan plan, Visit visit, Batch *d) except -1:
        """Let d point at all that a visit reads and writes."""
        cdef Py_ssize_t counted
        d[0] = self.d
        d.row, d.offset, d.block, d.begin, d.end = visit.row, visit.offset, visit.block, visit.begin, visit.end
        d.first, d.last = visit.first, visit.last
        plan.read(rows.X, d)
        if rows.offset is not None:
            d.x.offsets = rows.offset.shape[1]
            d.x.offset = rows_of(rows.offset, plan.itemsize, d.x.offsets, &counted, &d.x.ldo)
            if counted < d.N or d.x.offsets > plan.scored:
                raise ValueError(f"expected {d.N} rows of at most {plan.scored} offsets, got {rows.offset.shape}")
        if self.summing:
            d.t.s = <const double *>numbers(rows.s, b"f", sizeof(double), d.N, False)
            if d.kind == GRADIENT or d.kind == LOSS:
                d.t.y = <const Py_ssize_t *>numbers(rows.y, b"i", sizeof(Py_ssize_t), d.N, False)
                if d.t.y == NULL:
                    d.t.Y = rows_of(rows.Y, plan.itemsize, plan.K, &counted, &d.t.ldy)
                    if counted < d.N:
                        raise ValueError(f"expected {d.N} rows of targets, got {counted}")
        return 0


cdef class LossGrad(Pass):
    """The loss and its gradient; or the loss alone, if dW and dX are None."""

    def __init__(
        self,
        W,                      # IN     (K, D)
        b,                      # IN     (K,) or None
        dW,                     # OUT    (K, D) or None
        db,                     # OUT    (K,) or None
        double m,               # what the sums are divided by
        double smoothing=0,
        *,
        double z_loss=0,        # of a row's loss: z_loss lse^2
        double cap=0,           # of the scores: z <- cap tanh(z / cap)
        weight=None,            # IN     (K,): of the classes' targets
        dX=None,                # OUT    (N, D)
        losses=None,            # OUT    (N, 2): each row's loss, without its weight, and top - z_y
        l2=None,                # if given, W, b, dW and db are float64, X is CSR, and l2 W is added to dW
    ):
        cdef Py_ssize_t size = W.itemsize
        self.held = W, b, dW, db, weight, dX, losses
        self.summing = True
        self.d.kind = LOSS if dW is None else GRADIENT
        ask(&self.d, W, b, dW, db, m, l2)
        self.d.loss.smoothing, self.d.loss.z_loss, self.d.loss.cap = smoothing, z_loss, cap
        if weight is not None:
            self.d.loss.weight = numbers(weight, b"f", size, 0, False)
        if dX is not None:
            self.d.out.dX = numbers(dX, b"f", size, 0, True)
        if losses is not None:
            self.d.out.losses = <double *>numbers(losses, b"f", sizeof(double), 0, True)


cdef class Together(Pass):
    """Losses and gradients of several models with one row of coefficients, each by weights of its own, from one read.

    Each gets the bits that it gets alone. Its pass has no class weights and leaves no losses of rows.
    """

    cdef readonly list losses   # that of each model, after the last visit
    cdef double totals[MODELS]

    def __init__(
        self,
        passes,                 # LossGrad of each model, with its gradient
        weights,                # IN     (N,) of each, or None; those of the rows are not looked at
    ):
        if not 0 < len(passes) <= MODELS or len(weights) != len(passes):
            raise ValueError(f"expected 1 to {MODELS} models with their weights, got {len(passes)} and {len(weights)}")
        self.held, self.losses, self.summing = (tuple(passes), tuple(weights)), [], True

    def visit(self, rows, Plan plan, Visit visit, space, int n_threads):
        """Take some rows, as any pass does; what is returned is the first model's loss."""
        cdef Batch d[MODELS]
        cdef Pass asked
        cdef double loss
        cdef Py_ssize_t i, end = visit.row + len(rows)
        passes, weights = self.held
        if (<BinomialPlan?>plan).models != len(passes):
            raise ValueError(f"a plan of {(<BinomialPlan>plan).models} models for {len(passes)}")
        for i, asked in enumerate(passes):
            asked.see(rows, plan, visit, &d[i])
            if d[i].kind != GRADIENT:
                raise ValueError("expected passes with a gradient")
            d[i].t.s = <const double *>numbers(weights[i], b"f", sizeof(double), end, False)
            if d[i].t.s != NULL:
                d[i].t.s += visit.row
            d[i].out.total = &self.totals[i]
        loss = self.over(plan, d, space, n_threads)
        self.losses = [self.totals[i] for i in range(len(passes))]
        return loss


cdef class HessianProduct(Pass):
    """The Hessian times (V, c): sums of A^T X, A = S o (Q - sum_k S_k Q_k), Q = X V^T + c."""

    def __init__(
        self,
        W,                      # IN     (K, D)
        b,                      # IN     (K,) or None
        V,                      # IN     (K, D): what the Hessian is multiplied by
        c,                      # IN     and its bias, where W has one
        dW,                     # OUT    (K, D): the product
        db,                     # OUT    (K,) or None
        double m,
        l2=None,                # if given, all of them are float64, X is CSR, and l2 V is added to dW
    ):
        self.held = W, b, V, c, dW, db
        self.summing = True
        self.d.kind = HESSIAN
        ask(&self.d, W, b, dW, db, m, l2)
        self.d.model.V = numbers(V, b"f", W.itemsize, 0, False)
        self.d.model.c = numbers(c, b"f", W.itemsize, 0, False)


cdef class Probabilities(Pass):
    """The classes' probabilities: the pass without targets and gradient."""

    def __init__(
        self,
        W,                      # IN     (K, D)
        b,                      # IN     (K,) or None
        S,                      # OUT    (N, K)
    ):
        self.held = W, b, S
        self.d.kind = PROBABILITIES
        ask(&self.d, W, b, None, None, 1, None)
        self.d.out.S = numbers(S, b"f", W.itemsize, 0, True)


cdef class Scores(Pass):
    """The classes' scores: the pass without its softmax; of two classes with one row of coefficients, class 1's."""

    def __init__(
        self,
        W,                      # IN     (K, D) or (1, D)
        b,                      # IN     (K,) or (1,), or None
        Z,                      # OUT    (N, K) or (N,)
    ):
        self.held = W, b, Z
        self.d.kind = SCORES
        ask(&self.d, W, b, None, None, 1, None)
        self.d.out.S = numbers(Z, b"f", W.itemsize, 0, True)


cdef class Hessian(Pass):
    """The whole Hessian, of the parameters of all classes or of class 1 alone; all arrays but X are float64.

    With a centre, for two classes, samples are moved and scaled: W, b and the result are for those.
    """

    def __init__(
        self,
        W,                      # IN     (K, D) or (1, D)
        b,                      # IN     (K,) or (1,), or None
        H,                      # OUT    (size, size)
        double m,
        centre=None,            # IN     (2, D), float32: the shifts, and the scales
    ):
        self.held = W, b, H, centre
        self.summing = True
        self.d.kind = WHOLE_HESSIAN
        ask(&self.d, W, b, H, None, m, 0.0)
        self.d.model.V = numbers(centre, b"f", sizeof(float), 0, False)


cdef int ask(Batch *d, W, b, dW, db, double m, l2) except -1:
    """Let d point at what all passes have."""
    cdef Py_ssize_t size = W.itemsize
    d.model.W, d.model.b = numbers(W, b"f", size, 0, False), numbers(b, b"f", size, 0, False)
    d.out.dW, d.out.db = numbers(dW, b"f", size, 0, True), numbers(db, b"f", size, 0, True)
    d.loss.m = m
    if l2 is not None:
        d.model.doubles, d.loss.l2 = True, l2
    return 0
