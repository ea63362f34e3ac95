/* X X^T of few rows with many features: some features at a time are transposed, and `outer_upper` adds their part. */

/* Writes X, n rows of D elements and ldx apart, to the first n columns of T, D rows and ldt apart: in whole vectors,
 * with 0 in the lanes beyond n. */
KERNEL void NAME(transpose_rows)(const real *X, ptrdiff_t n, ptrdiff_t D, ptrdiff_t ldx, real *T, ptrdiff_t ldt)
{
    for (ptrdiff_t i = 0; i < n; i += L) {
        const ptrdiff_t rows = smaller(L, n - i);
        ptrdiff_t d = 0;
        for (; d + L <= D; d += L) {
            vec t[NAME(lanes)];
            UNROLL for (int l = 0; l < L; l++) t[l] = l < rows ? NAME(load)(X + (i + l) * ldx + d) : NAME(set1)(0);
            NAME(transpose)(t);
            UNROLL for (int l = 0; l < L; l++) NAME(store)(T + (d + l) * ldt + i, t[l]);
        }
        for (; d < D; d++)
            for (ptrdiff_t l = 0; l < L; l++) T[d * ldt + i + l] = l < rows ? X[(i + l) * ldx + d] : 0;
    }
}
