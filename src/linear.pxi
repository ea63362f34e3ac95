# Cross-entropy of scores that the pass makes itself, with what large vocabularies ask for beside loss_grad.

def linear_losses(
    const floating[:, :] X,         # IN     rows of a block, columns contiguous
    const Py_ssize_t[::1] y,        # IN     their labels, or None
    const floating[:, :] Y,         # IN     their targets, columns contiguous, or None
    const double[::1] s,            # IN     their weights, or None
    const floating[::1] c,          # IN     or None: of the classes' targets
    terms,                          # smoothing, z_loss, cap (0 for none), and m
    const floating[:, ::1] W,       # IN
    const floating[::1] b,          # IN     or None
    plan,
    visit,
    space,                          # WORK and sums, INOUT
    floating[:, ::1] dW,            # OUT    or None
    floating[::1] db,               # OUT    or None
    floating[:, ::1] dX,            # OUT    the rows', or None
    double[:, ::1] losses,          # OUT    each row's loss, not weighted by s, and top - z_y
    int n_threads,
):
    """Add rows to the sums; the last visit leaves dW and db."""
    cdef floating[::1] work = space[0]
    cdef double[::1] sums = space[1]
    cdef double m
    cdef Shape p = shape_of(plan, X.shape[1], W.shape[0], &work[0])
    cdef Batch d = batch_of(LOSS if dW is None else GRADIENT, X, W, b)
    d.smoothing, d.z_loss, d.cap, m = terms
    d.losses = &losses[0, 0]
    if s is not None:
        d.s = &s[0]
    if c is not None:
        d.weight = <const void *>&c[0]
    if y is not None:
        d.y = &y[0]
    if Y is not None:
        d.Y, d.ldy = <const void *>&Y[0, 0], Y.strides[0] // <Py_ssize_t>sizeof(floating)
    if dX is not None:
        d.dX, d.scale = <void *>&dX[0, 0], 1 / m
    visited(&p, &d, visit, work, sums, dW, db, m, n_threads)
