# Coordinate descent on a quadratic model (coordinates.h). One coordinate moves at a time, so there is one thread.

cdef class Coordinates:
    """A model, and where the descent on it stands."""

    cdef CoordinateModel x
    cdef const void *M
    cdef Py_ssize_t itemsize    # bytes of a number of M
    cdef tuple held             # the arrays, which must live as long

    def __init__(
        self,
        *,
        which,                  # IN     (entries,) the first coordinate of each; groups come first
        Py_ssize_t groups,
        Py_ssize_t members,
        Py_ssize_t apart,
        M,                      # IN     (1 or blocks, P, ld) symmetric, of either floating type; None for a diagonal;
                                #        with `column` the samples' entries, feature by feature
        diagonal,               # IN     (n,) that of M
        double gamma,
        Q,                      # IN     (coordinates of the entries, r)
        QN,                     # IN     likewise, Q times the middle matrix
        gradient,               # IN     (n,)
        limits,                 # IN     (n,)
        u,                      # INOUT  (n,) w, and then where the descent has led
        z,                      # WORK   (n,) zeros: M times u - w
        work,                   # WORK   (n + r + members,), of which r are zeros after the first n
        active,                 # WORK   (entries,)
        column=None,            # IN     (D + 1,) where each feature's entries begin
        sample=None,            # IN     (entries of M,) int32
        root=None,              # IN     (N,) the entries of an intercept's feature
        before=None,            # IN     (n,) w
        posterior=None,         # IN     (classes, N)
        scores=None,            # INOUT  (classes, N) by how much each score moves, 0 at first
        mean=None,              # INOUT  (N,) their means by the posteriors
    ):
        cdef Py_ssize_t n = len(u), r = Q.shape[1], rows
        cdef CoordinateModel *x = &self.x
        x.entries, x.groups, x.members, x.apart, x.gamma, x.r = len(which), groups, members, apart, gamma, r
        rows = groups * members + x.entries - groups
        x.P, x.ld, x.own, self.itemsize = 1, 1, 1, sizeof(double)
        x.N, x.D, x.classes = 0, 0, 0
        if column is not None:
            x.N, x.D, x.classes, self.itemsize = len(root), len(column) - 1, len(posterior), M.itemsize
        elif M is not None:
            x.P, x.ld, x.own, self.itemsize = M.shape[1], M.shape[2], len(M) > 1, M.itemsize
        self.held = (
            which, M, diagonal, Q, QN, gradient, limits, u, z, work, active, column, sample, root, before, posterior,
            scores, mean,
        )
        self.M = numbers(M, b"f", self.itemsize, 0, False)
        x.which = <const Py_ssize_t *>numbers(which, b"i", sizeof(Py_ssize_t), 0, False)
        x.active = <Py_ssize_t *>numbers(active, b"i", sizeof(Py_ssize_t), x.entries, True)
        x.Q = doubles(Q, rows * r, False)
        x.QN = doubles(QN, rows * r, False)
        x.diagonal, x.g, x.limit = doubles(diagonal, n, False), doubles(gradient, n, False), doubles(limits, n, False)
        x.u, x.z, x.h = doubles(u, n, True), doubles(z, n, True), doubles(work, n + r + members, True)
        x.t, x.c = x.h + n, x.h + n + r
        x.column = <const Py_ssize_t *>numbers(column, b"i", sizeof(Py_ssize_t), 0, False)
        x.sample = <const int32_t *>numbers(sample, b"i", sizeof(int32_t), 0 if sample is None else len(M), False)
        x.root, x.w = doubles(root, x.N, False), doubles(before, n, False)
        x.S, x.A = doubles(posterior, x.classes * x.N, False), doubles(scores, x.classes * x.N, True)
        x.mean = doubles(mean, x.N, True)
        x.actives, x.sweeps, x.whole = 0, 0, 1
        with nogil:
            if self.itemsize == sizeof(float):
                curve(<const float *>self.M, x)
            else:
                curve(<const double *>self.M, x)

    @property
    def sweeps(self):
        """The number of sweeps so far."""
        return self.x.sweeps

    def descend(
        self,
        double enough,          # a sweep over all that moves no gradient by more than this is the last one
        double work,            # about how many operations it may take before it returns
    ):
        """Go on with the descent; return whether it is done."""
        cdef CoordinateModel *x = &self.x
        cdef bint done
        with nogil:
            if self.itemsize == sizeof(float):
                done = descend(<const float *>self.M, x, enough, work)
            else:
                done = descend(<const double *>self.M, x, enough, work)
        return done


cdef double *doubles(array, Py_ssize_t count, bint written) except? NULL:
    return <double *>numbers(array, b"f", sizeof(double), count, written)
