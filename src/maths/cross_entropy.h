/* Cross-entropy of scores that the caller holds, in rows or columns as in logits.h, with the maths of residuals.h. */

/* Turns n <= L rows, as read_few takes them, with labels y into losses base_i + t_i; writes s_i R to `out` unless it is
 * NULL. */
KERNEL void NAME(label_losses)(const real *x, ptrdiff_t ldx, real *out, ptrdiff_t ldo, ptrdiff_t n, ptrdiff_t K,
                               const real *end, const ptrdiff_t *y, const double *s, double smoothing, double *base,
                               real *t)
{
    vec z[COLUMNS_MOST];
    NAME(read_few)(x, ldx, n, K, end, out, ldo, z);
    NAME(residual_lanes)(z, n, K, y, s, smoothing, base, t);
    NAME(store)(t, NAME(log1p_ge0)(NAME(load)(t)));
    if (out) NAME(write_few)(out, ldo, n, K, !end, z);
}

/* Copies such rows into a tile of L rows, ldz apart, each padded to whole vectors with `beyond`. */
KERNEL void NAME(to_tile)(const real *x, ptrdiff_t ldx, ptrdiff_t n, ptrdiff_t K, int columns, real beyond, real *Z,
                          ptrdiff_t ldz)
{
    for (ptrdiff_t i = 0; i < n && !columns; i++) {
        memcpy(Z + i * ldz, x + i * ldx, K * sizeof(real));
        for (ptrdiff_t k = K; k < NAME(vectors)(K) * L; k++) Z[i * ldz + k] = beyond;
    }
    for (ptrdiff_t k = 0; k < K && columns; k += L) {
        vec z[NAME(lanes)];
        for (ptrdiff_t l = 0; l < L; l++) z[l] = k + l < K ? NAME(load_some)(x + (k + l) * ldx, n) : NAME(set1)(beyond);
        NAME(transpose)(z);
        for (ptrdiff_t l = 0; l < L; l++) NAME(store)(Z + l * ldz + k, z[l]);
    }
}

KERNEL void NAME(from_tile)(const real *Z, ptrdiff_t ldz, ptrdiff_t n, ptrdiff_t K, int columns, real *out,
                            ptrdiff_t ldo)
{
    for (ptrdiff_t i = 0; i < n && !columns; i++) memcpy(out + i * ldo, Z + i * ldz, K * sizeof(real));
    for (ptrdiff_t k = 0; k < K && columns; k += L) {
        vec z[NAME(lanes)];
        for (ptrdiff_t l = 0; l < L; l++) z[l] = NAME(load)(Z + l * ldz + k);
        NAME(transpose)(z);
        for (ptrdiff_t l = 0; l < smaller(L, K - k); l++) NAME(store_some)(out + (k + l) * ldo, n, z[l]);
    }
}
