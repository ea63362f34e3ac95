# Sums over the samples that need no model. Those of each class, sum_i s_i [y_i = k] x_i, are all that a loss and its
# gradient need where every sample has the same posterior; those of each feature and its square are its moments.

cdef enum:
    SUMMED = 64             # the fewest features of a class that a thread adds
    FEW_CLASSES = 32        # the most whose sums of some features stay in the first cache
    TILE_FEATURES = 512     # the most features and sums of `add_features`
    TILE_SUMS = 4096


cdef int see_samples(X, Py_ssize_t D, Py_ssize_t itemsize, Batch *d) except -1:
    """Let d point at rows, which are CSR or an array whose columns are contiguous."""
    if hasattr(X, "indptr"):
        return read_csr(X, itemsize, d)
    d.x.X, d.x.indptr = rows_of(X, itemsize, D, &d.N, &d.x.ldx), NULL
    return 0


cdef void add_classes(
    const Batch *d, Py_ssize_t D, Py_ssize_t own, Py_ssize_t parts, Py_ssize_t j, Py_ssize_t end, const floating *kind,
    double *sums,
) noexcept nogil:
    """Add the samples of classes own, own + parts and so on, in the samples' order; of arrays, features j to end."""
    cdef Py_ssize_t i, k
    cdef double share = 1
    cdef const floating *x = <const floating *>d.x.X
    for i in range(d.N):
        k = d.t.y[i]
        if k % parts != own:
            continue
        if d.t.s != NULL:
            share = d.t.s[i]
        if d.x.indptr == NULL:
            add_share(share, x + i * d.x.ldx + j, end - j, sums + k * D + j)
        else:
            add_row(
                kind, d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr[i], d.x.indptr[i + 1], share,
                sums + k * D,
            )


cdef Py_ssize_t tile_width(Py_ssize_t D, Py_ssize_t K, int n_threads) noexcept nogil:
    """Return how many features a call of `add_features` takes, of which each thread then has as many calls."""
    cdef Py_ssize_t most = min(TILE_FEATURES, TILE_SUMS // max(1, K)), each = (D + n_threads - 1) // n_threads
    cdef Py_ssize_t calls = (each + most - 1) // most
    return min(most, whole((each + calls - 1) // max(1, calls), 8))


cdef void add_all(
    const Batch *d, Py_ssize_t K, Py_ssize_t D, const floating *kind, double *sums, double *moments, int n_threads,
) noexcept nogil:
    """Add each class's samples to `sums`, and each feature of arrays and its square to `moments`; either may be NULL.

    Each thread has some of the features; of many classes or sparse rows it has classes of its own, or if these are
    fewer than threads, some of their features.
    """
    cdef Py_ssize_t i, j, parts = 0, ranges = 1, tiles = 0, width = D
    cdef bint few = sums == NULL or (K <= FEW_CLASSES and d.x.indptr == NULL)
    if not few:
        parts = min(K, n_threads)
        if d.x.indptr == NULL:
            ranges = max(1, min(D // SUMMED, n_threads // parts))
    if few or moments != NULL:
        width = tile_width(D, 0 if sums == NULL or not few else K, n_threads)
        tiles = (D + width - 1) // width
    for i in prange(parts * ranges + tiles, schedule="static", num_threads=n_threads):
        if i < parts * ranges:
            add_classes(d, D, i % parts, parts, i // parts * D // ranges, (i // parts + 1) * D // ranges, kind, sums)
        else:
            j = (i - parts * ranges) * width
            add_features(
                <const floating *>d.x.X + j, d.N, d.x.ldx, d.t.y if few and sums != NULL else NULL, d.t.s, K, D,
                min(width, D - j), NULL if sums == NULL else sums + j, NULL if moments == NULL else moments + j,
                NULL if moments == NULL else moments + D + j,
            )


def class_sums(
    X,                      # IN     rows of D features: an array whose columns are contiguous, or CSR
    y,                      # IN     (N,): their classes, known to be in 0..K-1
    s,                      # IN     (N,): what they weigh, or None for one each
    sums,                   # INOUT  (K, D), float64: to which each class's samples are added
    Py_ssize_t itemsize,    # of the numbers that X computes in
    int n_threads,
    moments=None,           # INOUT  (2, D), float64: as of feature_moments, for an array
):
    """Add up the samples of each class, and the moments of the features in the same read of X."""
    cdef Py_ssize_t K = sums.shape[0], D = X.shape[1]
    cdef double *to = <double *>numbers(sums, b"f", sizeof(double), K * D, True)
    cdef double *both = <double *>numbers(moments, b"f", sizeof(double), 2 * D, True)
    cdef Batch d
    cdef fexcept_t flags
    see_samples(X, D, itemsize, &d)
    if both != NULL and d.x.indptr != NULL:
        raise ValueError("expected an array of samples whose moments are added")
    d.t.y = <const Py_ssize_t *>numbers(y, b"i", sizeof(Py_ssize_t), d.N, False)
    d.t.s = <const double *>numbers(s, b"f", sizeof(double), d.N, False)
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            add_all(&d, K, D, <const float *>NULL, to, both, n_threads)
        else:
            add_all(&d, K, D, <const double *>NULL, to, both, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


def constant_gradient(
    means,                  # IN     (K, D), float64: the sums of each class's samples over what sums are divided by
    q,                      # IN     (K,): the posterior of all samples
    total,                  # OUT    (D,): the sums over the classes
    dW,                     # OUT    (K, D)
):
    """Write q_k times the sums over all classes, less those of class k: the gradient where all posteriors are q."""
    cdef Py_ssize_t K = means.shape[0], D = means.shape[1], k, j
    cdef const double *of = <const double *>numbers(means, b"f", sizeof(double), K * D, False)
    cdef const double *share = <const double *>numbers(q, b"f", sizeof(double), K, False)
    cdef double *sums = <double *>numbers(total, b"f", sizeof(double), D, True)
    cdef double *to = <double *>numbers(dW, b"f", sizeof(double), K * D, True)
    cdef fexcept_t flags
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        memset(sums, 0, D * sizeof(double))
        for k in range(K):
            for j in range(D):
                sums[j] += of[k * D + j]
        for k in range(K):
            for j in range(D):
                to[k * D + j] = share[k] * sums[j] - of[k * D + j]
    fesetexceptflag(&flags, FE_ALL_EXCEPT)


cdef void add_all_moments(
    const Batch *d, Py_ssize_t D, const floating *kind, double *moments, int n_threads,
) noexcept nogil:
    if d.x.indptr == NULL:
        add_all(d, 0, D, kind, NULL, moments, n_threads)
    else:
        add_entry_moments(
            kind, d.x.data, d.x.element, d.x.indices, d.x.wide, d.x.indptr[0], d.x.indptr[d.N], moments, moments + D,
        )


def feature_moments(
    X,                      # IN     rows of D features, as of class_sums
    out,                    # INOUT  (2, D), float64: to which each feature's sum is added, and that of its squares
    Py_ssize_t itemsize,
    int n_threads,          # of an array
):
    """Add up each feature and its square, in the order of the rows."""
    cdef Py_ssize_t D = X.shape[1]
    cdef double *to = <double *>numbers(out, b"f", sizeof(double), 2 * D, True)
    cdef Batch d
    cdef fexcept_t flags
    see_samples(X, D, itemsize, &d)
    d.t.s = NULL
    fegetexceptflag(&flags, FE_ALL_EXCEPT)
    with nogil:
        if itemsize == sizeof(float):
            add_all_moments(&d, D, <const float *>NULL, to, n_threads)
        else:
            add_all_moments(&d, D, <const double *>NULL, to, n_threads)
    fesetexceptflag(&flags, FE_ALL_EXCEPT)
