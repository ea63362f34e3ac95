# The functions of products.h and _rows.h by one name each: Cython cannot specialise an extern function itself.

cdef extern from "<fenv.h>" nogil:
    ctypedef struct fexcept_t:
        pass
    const int FE_ALL_EXCEPT
    int fegetexceptflag(fexcept_t *, int) noexcept
    int fesetexceptflag(const fexcept_t *, int) noexcept

cdef extern from "float_types.h" nogil:
    const Py_ssize_t lanes_f32, lanes_f64, MAX_V
    const int STORE, ADD, ADD_DOUBLE
    void pack_panels_f32(const float *, Py_ssize_t, Py_ssize_t, float *) noexcept
    void pack_panels_f64(const double *, Py_ssize_t, Py_ssize_t, double *) noexcept
    void pack_rows_f32(const float *, Py_ssize_t, Py_ssize_t, float *) noexcept
    void pack_rows_f64(const double *, Py_ssize_t, Py_ssize_t, double *) noexcept
    const char *scores_f32(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, const float *, const char *, Py_ssize_t,
        float *, Py_ssize_t,
    ) noexcept
    const char *scores_f64(
        const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, const double *, const char *, Py_ssize_t,
        double *, Py_ssize_t,
    ) noexcept
    const char *dots_f32(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, const float *, const char *,
        Py_ssize_t, float *, Py_ssize_t,
    ) noexcept
    const char *dots_f64(
        const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, const double *, const char *,
        Py_ssize_t, double *, Py_ssize_t,
    ) noexcept
    double residuals_f32(
        float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Py_ssize_t *, const float *, Py_ssize_t, const float *,
        const double *, double, double, double *, float *,
    ) noexcept
    double residuals_f64(
        double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const Py_ssize_t *, const double *, Py_ssize_t, const double *,
        const double *, double, double, double *, double *,
    ) noexcept
    void cap_scores_f32(float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, float *) noexcept
    void cap_scores_f64(double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, double *) noexcept
    void multiply_f32(float *, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept
    void multiply_f64(double *, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept
    void inner_f32(
        const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t, float *, Py_ssize_t,
    ) noexcept
    void inner_f64(
        const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t, double *,
        Py_ssize_t,
    ) noexcept
    void scale_rows_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float, float *, Py_ssize_t) noexcept
    void scale_rows_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double, double *, Py_ssize_t) noexcept
    void probabilities_f32(float *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept
    void probabilities_f64(double *, Py_ssize_t, Py_ssize_t, Py_ssize_t) noexcept
    void curvatures_f32(float *, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *) noexcept
    void curvatures_f64(double *, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *) noexcept
    void add_columns_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *) noexcept
    void add_columns_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *) noexcept
    void outer_f32(
        const float *, Py_ssize_t, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const char *,
        void *, Py_ssize_t, Py_ssize_t, int,
    ) noexcept
    void outer_f64(
        const double *, Py_ssize_t, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t,
        const char *, void *, Py_ssize_t, Py_ssize_t, int,
    ) noexcept
    void outer_upper_f32(
        const float *, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *,
    ) noexcept
    void outer_upper_f64(
        const double *, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *,
    ) noexcept
    void weigh_rows_f32(
        const float *, Py_ssize_t, Py_ssize_t, int, const Py_ssize_t *, const float *, Py_ssize_t, float *, Py_ssize_t,
    ) noexcept
    void weigh_rows_f64(
        const double *, Py_ssize_t, Py_ssize_t, int, const Py_ssize_t *, const double *, Py_ssize_t, double *,
        Py_ssize_t,
    ) noexcept
    void factor_f32(float *, Py_ssize_t, Py_ssize_t, float *, float, float *) noexcept
    void factor_f64(double *, Py_ssize_t, Py_ssize_t, double *, double, double *) noexcept
    void solve_f32(
        const float *, Py_ssize_t, Py_ssize_t, const float *, float *, Py_ssize_t, Py_ssize_t,
    ) noexcept
    void solve_f64(
        const double *, Py_ssize_t, Py_ssize_t, const double *, double *, Py_ssize_t, Py_ssize_t,
    ) noexcept
    double dot_f32(const float *, const double *, Py_ssize_t) noexcept
    double dot_f64(const double *, const double *, Py_ssize_t) noexcept
    void add_share_f32(double, const float *, Py_ssize_t, double *) noexcept
    void add_share_f64(double, const double *, Py_ssize_t, double *) noexcept
    void subtract_f32(const double *, const double *, Py_ssize_t, float *) noexcept
    void subtract_f64(const double *, const double *, Py_ssize_t, double *) noexcept
    void widen_f32(const float *, Py_ssize_t, double *) noexcept
    void copy_rows_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, float *, Py_ssize_t) noexcept
    void copy_rows_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, double *, Py_ssize_t) noexcept
    void sparse_scores_f32(
        const float *, const void *, int, const Py_ssize_t *, Py_ssize_t, const float *, Py_ssize_t, const float *,
        Py_ssize_t, float *, Py_ssize_t, Py_ssize_t,
    ) noexcept
    void sparse_gradient_f32(
        const float *, const void *, int, const Py_ssize_t *, Py_ssize_t, const float *, Py_ssize_t, Py_ssize_t,
        void *, Py_ssize_t, int, int, Py_ssize_t, Py_ssize_t, Py_ssize_t,
    ) noexcept
    void places_f32(Py_ssize_t, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, Py_ssize_t *) noexcept
    void turn_f32(
        Py_ssize_t, Py_ssize_t, const void *, int, const Py_ssize_t *, Py_ssize_t, double, int, void *, int, Py_ssize_t,
        double, const double *,
    ) noexcept
    void sparse_scores_f64(
        const double *, const void *, int, const Py_ssize_t *, Py_ssize_t, const double *, Py_ssize_t, const double *,
        Py_ssize_t, double *, Py_ssize_t, Py_ssize_t,
    ) noexcept
    void sparse_gradient_f64(
        const double *, const void *, int, const Py_ssize_t *, Py_ssize_t, const double *, Py_ssize_t, Py_ssize_t,
        void *, Py_ssize_t, int, int, Py_ssize_t, Py_ssize_t, Py_ssize_t,
    ) noexcept
    void places_f64(Py_ssize_t, Py_ssize_t, int, Py_ssize_t, Py_ssize_t, Py_ssize_t *) noexcept
    void turn_f64(
        Py_ssize_t, Py_ssize_t, const void *, int, const Py_ssize_t *, Py_ssize_t, double, int, void *, int, Py_ssize_t,
        double, const double *,
    ) noexcept
    const int LOGSUMEXP
    const Py_ssize_t COLUMNS_MOST
    void label_losses_f32(
        const float *, Py_ssize_t, float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *, const Py_ssize_t *,
        const double *, double, double *, float *,
    ) noexcept
    void label_losses_f64(
        const double *, Py_ssize_t, double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *, const Py_ssize_t *,
        const double *, double, double *, double *,
    ) noexcept
    void to_tile_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, float, float *, Py_ssize_t) noexcept
    void to_tile_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double, double *, Py_ssize_t) noexcept
    void from_tile_f32(const float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, float *, Py_ssize_t) noexcept
    void from_tile_f64(const double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, int, double *, Py_ssize_t) noexcept
    int given_f32_ "given_f32"(
        int, const float *, Py_ssize_t, float *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const float *,
    ) noexcept
    int given_f64_ "given_f64"(
        int, const double *, Py_ssize_t, double *, Py_ssize_t, Py_ssize_t, Py_ssize_t, const double *,
    ) noexcept
    ctypedef struct Piece:
        double top, others, tops
    int piece_f32(int, int, const float *, float *, Py_ssize_t, double, Piece *) noexcept
    int piece_f64(int, int, const double *, double *, Py_ssize_t, double, Piece *) noexcept
    void exps_f32(const float *, Py_ssize_t, float *) noexcept
    void exps_f64(const double *, Py_ssize_t, double *) noexcept
    void tanhs_f32(const float *, Py_ssize_t, float *, float *) noexcept
    void tanhs_f64(const double *, Py_ssize_t, double *, double *) noexcept


cdef inline Py_ssize_t lanes(const floating *kind) noexcept nogil:
    return lanes_f32 if floating is float else lanes_f64


cdef inline void pack_panels(const floating *W, Py_ssize_t K, Py_ssize_t D, floating *packed) noexcept nogil:
    if floating is float:
        pack_panels_f32(W, K, D, packed)
    else:
        pack_panels_f64(W, K, D, packed)


cdef inline void pack_rows(const floating *W, Py_ssize_t K, Py_ssize_t D, floating *packed) noexcept nogil:
    if floating is float:
        pack_rows_f32(W, K, D, packed)
    else:
        pack_rows_f64(W, K, D, packed)


cdef inline const char *scores(
    const floating *X, Py_ssize_t n, Py_ssize_t D, Py_ssize_t ldx, const floating *packed, const floating *bias,
    const char *next, Py_ssize_t K, floating *Z, Py_ssize_t ldz,
) noexcept nogil:
    if floating is float:
        return scores_f32(X, n, D, ldx, packed, bias, next, K, Z, ldz)
    else:
        return scores_f64(X, n, D, ldx, packed, bias, next, K, Z, ldz)


cdef inline const char *dots(
    const floating *X, Py_ssize_t n, Py_ssize_t D, Py_ssize_t ldx, const floating *packed, const floating *bias,
    const char *next, Py_ssize_t K, floating *Z, Py_ssize_t ldz,
) noexcept nogil:
    if floating is float:
        return dots_f32(X, n, D, ldx, packed, bias, next, K, Z, ldz)
    else:
        return dots_f64(X, n, D, ldx, packed, bias, next, K, Z, ldz)


cdef inline double residuals(
    floating *Z, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, const Py_ssize_t *y, const floating *Y, Py_ssize_t ldy,
    const floating *c, const double *s, double smoothing, double z_loss, double *base, floating *t,
) noexcept nogil:
    if floating is float:
        return residuals_f32(Z, n, K, ldz, y, Y, ldy, c, s, smoothing, z_loss, base, t)
    else:
        return residuals_f64(Z, n, K, ldz, y, Y, ldy, c, s, smoothing, z_loss, base, t)


cdef inline void cap_scores(
    floating *Z, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, floating cap, floating *slopes,
) noexcept nogil:
    if floating is float:
        cap_scores_f32(Z, n, K, ldz, cap, slopes)
    else:
        cap_scores_f64(Z, n, K, ldz, cap, slopes)


cdef inline void multiply(
    floating *Z, const floating *slopes, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz,
) noexcept nogil:
    if floating is float:
        multiply_f32(Z, slopes, n, K, ldz)
    else:
        multiply_f64(Z, slopes, n, K, ldz)


cdef inline void inner(
    const floating *A, Py_ssize_t n, Py_ssize_t P, Py_ssize_t lda, const floating *B, Py_ssize_t N, Py_ssize_t ldb,
    floating *C, Py_ssize_t ldc,
) noexcept nogil:
    if floating is float:
        inner_f32(A, n, P, lda, B, N, ldb, C, ldc)
    else:
        inner_f64(A, n, P, lda, B, N, ldb, C, ldc)


cdef inline void scale_rows(
    const floating *C, Py_ssize_t n, Py_ssize_t N, Py_ssize_t ldc, floating scale, floating *to, Py_ssize_t ldt,
) noexcept nogil:
    if floating is float:
        scale_rows_f32(C, n, N, ldc, scale, to, ldt)
    else:
        scale_rows_f64(C, n, N, ldc, scale, to, ldt)


cdef inline void probabilities(floating *Z, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz) noexcept nogil:
    if floating is float:
        probabilities_f32(Z, n, K, ldz)
    else:
        probabilities_f64(Z, n, K, ldz)


cdef inline void curvatures(
    floating *S, const floating *Q, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldz, const double *s,
) noexcept nogil:
    if floating is float:
        curvatures_f32(S, Q, n, K, ldz, s)
    else:
        curvatures_f64(S, Q, n, K, ldz, s)


cdef inline void add_columns(const floating *R, Py_ssize_t n, Py_ssize_t K, Py_ssize_t ldr, double *db) noexcept nogil:
    if floating is float:
        add_columns_f32(R, n, K, ldr, db)
    else:
        add_columns_f64(R, n, K, ldr, db)


cdef inline void outer(
    const floating *A, Py_ssize_t M, Py_ssize_t lda, const floating *B, Py_ssize_t N, Py_ssize_t ldb, Py_ssize_t n,
    const char *next, void *C, Py_ssize_t ldc, Py_ssize_t wanted, int out,
) noexcept nogil:
    if floating is float:
        outer_f32(A, M, lda, B, N, ldb, n, next, C, ldc, wanted, out)
    else:
        outer_f64(A, M, lda, B, N, ldb, n, next, C, ldc, wanted, out)


cdef inline void copy_rows(
    const floating *X, Py_ssize_t n, Py_ssize_t D, Py_ssize_t ldx, floating *to, Py_ssize_t ldt,
) noexcept nogil:
    if floating is float:
        copy_rows_f32(X, n, D, ldx, to, ldt)
    else:
        copy_rows_f64(X, n, D, ldx, to, ldt)


cdef inline int given(
    int what, const floating *x, Py_ssize_t ldx, floating *out, Py_ssize_t ldo, Py_ssize_t n, Py_ssize_t K,
    const floating *end,
) noexcept nogil:
    if floating is float:
        return given_f32_(what, x, ldx, out, ldo, n, K, end)
    else:
        return given_f64_(what, x, ldx, out, ldo, n, K, end)


cdef inline int piece(
    int step, int what, const floating *x, floating *out, Py_ssize_t K, double limit, Piece *p,
) noexcept nogil:
    if floating is float:
        return piece_f32(step, what, x, out, K, limit, p)
    else:
        return piece_f64(step, what, x, out, K, limit, p)


cdef inline void label_losses(
    const floating *x, Py_ssize_t ldx, floating *out, Py_ssize_t ldo, Py_ssize_t n, Py_ssize_t K, const floating *end,
    const Py_ssize_t *y, const double *s, double smoothing, double *base, floating *t,
) noexcept nogil:
    if floating is float:
        label_losses_f32(x, ldx, out, ldo, n, K, end, y, s, smoothing, base, t)
    else:
        label_losses_f64(x, ldx, out, ldo, n, K, end, y, s, smoothing, base, t)


cdef inline void to_tile(
    const floating *x, Py_ssize_t ldx, Py_ssize_t n, Py_ssize_t K, int columns, floating beyond, floating *Z,
    Py_ssize_t ldz,
) noexcept nogil:
    if floating is float:
        to_tile_f32(x, ldx, n, K, columns, beyond, Z, ldz)
    else:
        to_tile_f64(x, ldx, n, K, columns, beyond, Z, ldz)


cdef inline void from_tile(
    const floating *Z, Py_ssize_t ldz, Py_ssize_t n, Py_ssize_t K, int columns, floating *out, Py_ssize_t ldo,
) noexcept nogil:
    if floating is float:
        from_tile_f32(Z, ldz, n, K, columns, out, ldo)
    else:
        from_tile_f64(Z, ldz, n, K, columns, out, ldo)


cdef inline void sparse_scores(
    const floating *data, const void *indices, int wide, const Py_ssize_t *indptr, Py_ssize_t n, const floating *W,
    Py_ssize_t ldw, const floating *bias, Py_ssize_t K, floating *Z, Py_ssize_t ldz, Py_ssize_t room,
) noexcept nogil:
    if floating is float:
        sparse_scores_f32(data, indices, wide, indptr, n, W, ldw, bias, K, Z, ldz, room)
    else:
        sparse_scores_f64(data, indices, wide, indptr, n, W, ldw, bias, K, Z, ldz, room)


cdef inline void sparse_gradient(
    const floating *data, const void *indices, int wide, const Py_ssize_t *indptr, Py_ssize_t n, const floating *R,
    Py_ssize_t ldr, Py_ssize_t K, void *dW, Py_ssize_t ldw, int doubles, int regions, Py_ssize_t slots, Py_ssize_t own,
    Py_ssize_t end,
) noexcept nogil:
    if floating is float:
        sparse_gradient_f32(data, indices, wide, indptr, n, R, ldr, K, dW, ldw, doubles, regions, slots, own, end)
    else:
        sparse_gradient_f64(data, indices, wide, indptr, n, R, ldr, K, dW, ldw, doubles, regions, slots, own, end)


cdef inline void places(
    const floating *kind, Py_ssize_t j, Py_ssize_t n, int regions, Py_ssize_t slots, Py_ssize_t ldw, Py_ssize_t *at,
) noexcept nogil:
    if floating is float:
        places_f32(j, n, regions, slots, ldw, at)
    else:
        places_f64(j, n, regions, slots, ldw, at)


cdef inline void turn(
    const floating *kind, Py_ssize_t rows, Py_ssize_t columns, const void *A, int doubles, const Py_ssize_t *at,
    Py_ssize_t lda, double scale, int add, void *B, int exact, Py_ssize_t ldb, double l2, const double *W,
) noexcept nogil:
    if floating is float:
        turn_f32(rows, columns, A, doubles, at, lda, scale, add, B, exact, ldb, l2, W)
    else:
        turn_f64(rows, columns, A, doubles, at, lda, scale, add, B, exact, ldb, l2, W)
