# softmax, log_softmax and logsumexp of logits: arrays of any number of axes, which logits.h goes through row by row.

cdef struct Logits:         # element (o, k, i): k runs along the axes of a sum, o and i along the others
    Py_ssize_t outer, K, inner
    Py_ssize_t xo, xk       # elements from one o, and one k, to the next, in x
    Py_ssize_t oo, ok       # and in the result; in both, i's are side by side, or else inner is 1 and k's are
    const void *x
    void *out


cdef struct Run:            # axes whose elements are all equally far from one another
    Py_ssize_t size, x, out


cdef bint append(Run *runs, int *count, int most, Py_ssize_t size, Py_ssize_t x, Py_ssize_t out) noexcept:
    """Add one more axis, inside those before; return whether it continues the last run, or fits in another."""
    cdef Run *last = runs + count[0] - 1
    if size == 1:
        return True
    if count[0] and last.x == size * x and last.out == size * out:
        last.size, last.x, last.out = last.size * size, x, out
        return True
    if count[0] == most:
        return False
    runs[count[0]].size, runs[count[0]].x, runs[count[0]].out = size, x, out
    count[0] += 1
    return True


cdef bint arrange(
    const Py_buffer *x, const Py_buffer *out, unsigned long long axes, bint sums, bint in_order, Logits *g,
) noexcept:
    """Bring the axes into the form of Logits, by their strides or `in_order`; return whether they have that form.

    `axes`, a bit each, are those of a sum; with `sums`, the result is without them.
    """
    cdef int order[64]
    cdef Py_ssize_t strides[64]  # of the result
    cdef int i, j, d, keeps = 0, ks = 0
    cdef Run keep[2]
    cdef Run k[1]
    cdef Py_ssize_t xs, outs
    if x.ndim > 64:  # NumPy's most
        return False
    j = 0
    for d in range(x.ndim):
        strides[d] = 0
        if not (sums and axes >> d & 1):
            strides[d] = out.strides[j]
            j += 1
        i = d
        while i > 0 and not in_order and abs(x.strides[order[i - 1]]) < abs(x.strides[d]):
            order[i] = order[i - 1]
            i -= 1
        order[i] = d
    for j in range(x.ndim):
        d = order[j]
        xs, outs = x.strides[d], strides[d]
        if xs % x.itemsize or outs % x.itemsize:
            return False
        xs, outs = xs // x.itemsize, outs // x.itemsize
        if axes >> d & 1:
            if not append(k, &ks, 1, x.shape[d], xs, xs if sums else outs):
                return False
        elif not append(keep, &keeps, 2, x.shape[d], xs, outs):
            return False
    g.x, g.out = x.buf, out.buf
    g.outer, g.xo, g.oo = 1, 0, 0
    g.K, g.xk, g.ok = 1, 1, 1
    g.inner = 1
    if ks:
        g.K, g.xk, g.ok = k[0].size, k[0].x, k[0].out
    if keeps == 2 or (keeps == 1 and (g.xk != 1 or g.ok != 1)):
        keeps -= 1
        g.inner = keep[keeps].size
        if keep[keeps].x != 1 or keep[keeps].out != 1:
            return False
    elif g.xk != 1 or g.ok != 1:
        return False
    if keeps:
        g.outer, g.xo, g.oo = keep[0].size, keep[0].x, keep[0].out
    return True


cdef enum:
    PART = 1 << 15           # numbers of a part, which a thread takes at a time
    PARALLEL = 1 << 17       # fewer numbers are left to one thread
    VISIT = 1 << 25          # numbers between two looks for Ctrl-C: a third of a second at 10 ns each
    LONG_ROW = 1 << 19       # longer rows leave a core's cache between their three steps, and are cut into pieces
    PIECES = 256             # the most pieces of a row
    PIECE = 1 << 14          # a piece has at least so many numbers, and begins at a multiple of this


cdef struct Parts:          # how the outer rows and the columns fall into parts
    Py_ssize_t rows, columns    # of a part
    Py_ssize_t across       # how many the columns fall into
    Py_ssize_t count        # how many there are
    Py_ssize_t visit        # how many lie between two looks for Ctrl-C
    int n_threads


cdef Parts parts_of_logits(const Logits *g, int n_threads, const floating *kind) noexcept nogil:
    cdef Parts p
    cdef Py_ssize_t unit = 4 * lanes(kind)
    p.columns = g.inner
    if g.inner > unit:
        p.columns = min(whole(g.inner, unit), max(unit, PART // g.K // unit * unit))
    p.across = whole(g.inner, p.columns) // p.columns
    p.rows = max(1, PART // (g.K * p.columns))
    if g.inner == 1 and p.rows > unit:
        p.rows = p.rows // unit * unit
    p.count = whole(g.outer, p.rows) // p.rows * p.across
    p.n_threads = 1 if g.outer * g.K * g.inner < PARALLEL else n_threads
    p.visit = max(p.n_threads, VISIT // (p.rows * g.K * p.columns))
    return p


cdef const floating *end_of(const Logits *g, const floating *x) noexcept nogil:
    """Return where the last row ends; where rows overlap or run backwards, an end that lets no row be read whole."""
    return x + ((g.outer - 1) * g.xo + g.K if g.xo >= g.K else 1)


cdef int logits_part(
    const Logits *g, const Parts *p, int what, Py_ssize_t i, const floating *kind,
) noexcept nogil:
    cdef Py_ssize_t first = i // p.across * p.rows, column = i % p.across * p.columns, o
    cdef Py_ssize_t rows = min(p.rows, g.outer - first), columns = min(p.columns, g.inner - column)
    cdef const floating *x = <const floating *>g.x
    cdef floating *out = <floating *>g.out
    cdef int found = 0
    if g.inner == 1:
        return normalise(what, x + first * g.xo, g.xo, out + first * g.oo, g.oo, rows, g.K, end_of(g, x))
    for o in range(first, first + rows):
        found |= normalise(
            what, x + o * g.xo + column, g.xk, out + o * g.oo + column, g.ok, columns, g.K, <const floating *>NULL,
        )
    return found


cdef Py_ssize_t piece_start(Py_ssize_t K, Py_ssize_t pieces, Py_ssize_t i) noexcept nogil:
    return K if i == pieces else <Py_ssize_t>(<double>K / pieces * i) // PIECE * PIECE


cdef int cut_row(
    int what, const floating *x, floating *out, Py_ssize_t K, int n_threads,
) except -1 nogil:
    """Normalise a long row on all threads, in pieces by its length alone, which take each step before the next."""
    cdef Piece pieces[PIECES]
    cdef Piece sums
    cdef Py_ssize_t count = min(PIECES, K // PIECE), visit = max(n_threads, VISIT // (K // count)), i, begin, end, k
    cdef int step, found = 0
    cdef double limit = -INFINITY
    sums.others, sums.tops = 0, 0
    for step in range(2 if what == LOGSUMEXP else 3):
        begin = 0
        while begin < count:
            end = min(begin + visit, count)
            for i in prange(begin, end, schedule="dynamic", num_threads=n_threads):
                k = piece_start(K, count, i)
                found |= piece(
                    step, what, x + k, out if what == LOGSUMEXP else out + k, piece_start(K, count, i + 1) - k, limit,
                    &pieces[i] if step < 2 else &sums,
                )
            look_for_interrupt()
            begin = end
        if step == 0:
            for i in range(count):
                if not pieces[i].top <= limit and limit == limit:  # a limit of NaN stays
                    limit = pieces[i].top
        elif step == 1:
            for i in range(count):
                sums.others += pieces[i].others
                sums.tops += pieces[i].tops
    if what == LOGSUMEXP:
        piece(2, what, x, out, K, limit, &sums)
    return found


cdef int logits_parts(const Logits *g, int what, int n_threads, const floating *kind) except -1 nogil:
    cdef Parts p = parts_of_logits(g, n_threads, kind)
    cdef Py_ssize_t i, begin = 0, end
    cdef int found = 0
    if g.inner == 1 and g.K > LONG_ROW:
        for i in range(g.outer):
            found |= cut_row(
                what, <const floating *>g.x + i * g.xo, <floating *>g.out + i * g.oo, g.K, n_threads,
            )
        return found
    while begin < p.count:
        end = min(begin + p.visit, p.count)
        if p.n_threads == 1:
            for i in range(begin, end):
                found |= logits_part(g, &p, what, i, kind)
        else:
            for i in prange(begin, end, schedule="dynamic", num_threads=p.n_threads):  # flags are the same in any order
                found |= logits_part(g, &p, what, i, kind)
        if end < p.count:
            look_for_interrupt()
        begin = end
    return found


# x and out are no memoryviews: to make two of them takes ten times as long as a call with ten scores.
def special(int what, x, out, unsigned long long axes, int n_threads):
    """Write softmax (what = 0), log_softmax (1) or logsumexp (2) of x along some axes, a bit each, to out.

    x and out are aligned float32 or float64 of the same shape, the result of logsumexp without `axes`; out may be x.
    Returns -1 if these strides need a copy; else the flags of what NumPy would have warned of.
    """
    cdef Py_buffer source, target
    cdef Logits g
    cdef fexcept_t flags
    cdef int found = -1
    PyObject_GetBuffer(x, &source, PyBUF_STRIDES)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_STRIDES | PyBUF_WRITABLE)
        try:
            if arrange(&source, &target, axes, what == LOGSUMEXP, False, &g):
                fegetexceptflag(&flags, FE_ALL_EXCEPT)
                with nogil:
                    if source.itemsize == sizeof(float):
                        found = logits_parts(&g, what, n_threads, <const float *>NULL)
                    else:
                        found = logits_parts(&g, what, n_threads, <const double *>NULL)
                fesetexceptflag(&flags, FE_ALL_EXCEPT)
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)
    return found
