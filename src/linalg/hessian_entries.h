/* The whole Hessian of few parameters, from the entries of CSR rows alone: with r of them in a row,
 *
 *     H[j, l][t] += c_it x_ij x_il,      j <= l,      c_it = s_i S_ik (delta_km - S_im) for the pair t = (k, m), k <= m
 *
 * takes r (r + 1) / 2 additions of `pairs` numbers each, where an array of the rows would take D (D + 1) / 2.  The
 * intercept is a last feature that every row has.  All of it is in double, as in hessian.h.
 *
 * Only what is on and above the diagonal is summed: rows of H lie one after the other without what is below it, and the
 * pairs of each (j, l) side by side, so that an entry adds whole vectors.  Row j has one owner, who sees the samples in
 * their order.
 */

/* Returns where row j of a triangle of P rows would have its column 0, which is not stored: column l is l farther. */
static inline ptrdiff_t NAME(triangle)(ptrdiff_t P, ptrdiff_t j) { return j * (2 * P - j - 1) / 2; }

/* Returns which of `owners` owns feature j.  It is a hash: columns of one-hot variables lie side by side, and each row
 * has an entry in one of them. */
INLINE ptrdiff_t NAME(owner_of)(ptrdiff_t j, ptrdiff_t owners)
{
    return (ptrdiff_t)((uint64_t)((uint32_t)j * 2654435769u) * (uint64_t)owners >> 32);
}

/* Writes the scores of n rows, from Wt with ldz doubles for each feature, and a bias of as many. */
KERNEL void NAME(entry_scores)(const real *data, const void *indices, int wide, const ptrdiff_t *indptr, ptrdiff_t n,
                               const double *Wt, const double *bias, ptrdiff_t ldz, double *Z)
{
    for (ptrdiff_t i = 0; i < n; i++, Z += ldz) {
        for (ptrdiff_t k = 0; k < ldz; k++) Z[k] = bias[k];
        for (ptrdiff_t p = indptr[i]; p < indptr[i + 1]; p++) {
            const double x = (double)data[p], *w = Wt + NAME(feature)(wide, indices, p) * ldz;
            LANES for (ptrdiff_t k = 0; k < ldz; k++) Z[k] += x * w[k];
        }
    }
}

/* Returns whether the features of a row ascend, none coming twice: then each pair of entries comes once. */
INLINE int NAME(ascending)(const int wide, const void *indices, ptrdiff_t begin, ptrdiff_t end)
{
    int ascending = 1;
    for (ptrdiff_t p = begin + 1; p < end; p++)
        ascending &= NAME(feature)(wide, indices, p - 1) < NAME(feature)(wide, indices, p);
    return ascending;
}

#define ENTRY_ARGUMENTS                                                                                             \
    const real *data, const void *indices, const ptrdiff_t *indptr, ptrdiff_t n, ptrdiff_t P, ptrdiff_t D, const double *c, \
        ptrdiff_t pairs, ptrdiff_t own, ptrdiff_t owners, double *H

/* So many entries of a row are looked at, and the owner's listed, before products are added: no branch then depends on
 * who owns an entry, which a processor would guess wrong. */
#define LISTED 256

INLINE void NAME(add_products)(const int wide, const int one, ENTRY_ARGUMENTS)
{
    for (ptrdiff_t i = 0; i < n; i++, c += pairs) {
        const ptrdiff_t end = indptr[i + 1];
        const int ascending = NAME(ascending)(wide, indices, indptr[i], end);
        for (ptrdiff_t begin = indptr[i]; begin < end; begin += LISTED) {
            ptrdiff_t list[LISTED], listed = 0;
            for (ptrdiff_t p = begin; p < smaller(begin + LISTED, end); p++) {
                list[listed] = p;
                listed += NAME(owner_of)(NAME(feature)(wide, indices, p), owners) == own;
            }
            for (ptrdiff_t m = 0; m < listed; m++) {
                const ptrdiff_t p = list[m], j = NAME(feature)(wide, indices, p);
                const double x = (double)data[p];
                double *h = H + NAME(triangle)(P, j) * pairs;
                for (ptrdiff_t q = ascending ? p : indptr[i]; q < end; q++) {
                    const ptrdiff_t l = NAME(feature)(wide, indices, q);
                    if (!ascending && l < j) continue; /* it is added to row l */
                    const double product = x * (double)data[q];
                    if (one)
                        h[l] += product * *c;
                    else
                        LANES for (ptrdiff_t t = 0; t < pairs; t++) h[l * pairs + t] += product * c[t];
                }
                if (P > D) LANES for (ptrdiff_t t = 0; t < pairs; t++) h[D * pairs + t] += x * c[t];
            }
        }
        if (P > D && own == 0)
            LANES for (ptrdiff_t t = 0; t < pairs; t++) H[(NAME(triangle)(P, D) + D) * pairs + t] += c[t];
    }
}

/* Adds what n rows, with curvatures c (n, pairs), contribute to those rows of H that one of `owners` owns. */
KERNEL void NAME(entry_products)(const real *data, const void *indices, int wide, const ptrdiff_t *indptr, ptrdiff_t n,
                                 ptrdiff_t P, ptrdiff_t D, const double *c, ptrdiff_t pairs, ptrdiff_t own,
                                 ptrdiff_t owners, double *H)
{
#define ADD_PRODUCTS(wide, one) NAME(add_products)(wide, one, data, indices, indptr, n, P, D, c, pairs, own, owners, H)
    if (wide && pairs == 1) ADD_PRODUCTS(1, 1);
    else if (wide) ADD_PRODUCTS(1, 0);
    else if (pairs == 1) ADD_PRODUCTS(0, 1);
    else ADD_PRODUCTS(0, 0);
#undef ADD_PRODUCTS
}
#undef ENTRY_ARGUMENTS
#undef LISTED
