/* Coordinate descent on a quadratic model with a penalty that is not smooth: the steps of a proximal quasi-Newton method.
 *
 *     min over d    g^T d + 1/2 d^T B d + sum_i limit_i |w_i + d_i|,      B = gamma M - Q N Q^T
 *
 * M has symmetric blocks (P, P) along its diagonal, or a diagonal alone; Q (n, r) and N (r, r) hold pairs of steps and
 * gradients (Byrd, Nocedal and Schnabel 1994, theorem 2.3).  With u = w + d, z = M d and t = Q^T d kept up to date, a
 * coordinate at rest costs r products, and one that moves P more:
 *
 *     c = h_i u_i - (g + gamma z - Q N t)_i      u_i <- sign(c) max(|c| - limit_i, 0) / h_i      h_i = B_ii
 *
 * Or M is a diagonal and the whole Hessian of sparse samples, which is never written down.  Let A_ik be the scores of
 * the step d, and a_i = sum_k S_ik A_ik, both kept up to date.  Then the coordinate of feature j and class k has
 *
 *     (M d)_kj = diagonal_kj d_kj + sum_i x_ij S_ik (A_ik - a_i)
 *
 * and costs as much as the feature has entries.  An intercept's feature is 1 in all samples.  Samples and their ones
 * come multiplied by the roots of the samples' weights.
 *
 * A group is the weights of a feature in all classes, with limit |u_G|.  It goes to the minimum of the model in which
 * diag(h) >= B_GG takes the place of B_GG, h_k = sum_l |B_kl|: it is 0 if |c| <= limit, else
 *
 *     u_k = c_k tau / (h_k tau + limit),    where tau = |u_G| solves    sum_k (c_k / (h_k tau + limit))^2 = 1.
 *
 * The left side falls and is convex, so Newton's method from the left rises to the root.  Sources: Friedman, Hastie and
 * Tibshirani (2010); Scheinberg and Tang (2016); Yang and Zou (2015) for groups.
 *
 * A sweep goes over all entries of `which`, the next ones over those that are not 0 until these stand still, and so on
 * until a sweep over all moves nothing.  Entries move in order, on one thread: another order would give other bits.
 */

#ifndef SOFTMAX_EXT_COORDINATES_H
#define SOFTMAX_EXT_COORDINATES_H
enum { PAIRED = 8, ROOTS = 50, SWEEPS = 2000 }; /* what r is a multiple of; the most steps to tau; the most sweeps */
enum { EVERY = 8 };

typedef struct {
    const ptrdiff_t *which; /* the coordinate of each entry, of a group the first one; groups come before the others */
    ptrdiff_t entries, groups;
    ptrdiff_t members, apart; /* coordinates of a group, and how far it is from one to the next */
    ptrdiff_t P, ld;          /* a block's rows are ld apart */
    ptrdiff_t own;            /* whether each block has a matrix of its own; if not, all share one */
    ptrdiff_t r;
    double gamma;
    const double *Q, *QN;    /* rows of r numbers, in the order of the entries' coordinates */
    const double *diagonal;  /* of M; from here on, in the order of all coordinates */
    const double *g, *limit;
    double *u, *z, *h, *t, *c; /* c holds that of one group */
    ptrdiff_t *active; /* entries that are not 0 */
    ptrdiff_t actives, sweeps;
    int whole;         /* whether the next sweep is over all */
    /* Of sparse samples, whose entries take M's place: */
    ptrdiff_t N, D, classes;
    const ptrdiff_t *column; /* where each feature's entries begin, and the last one's end; NULL if M has a matrix */
    const int32_t *sample;   /* that of each entry */
    const double *root, *w;  /* root: an intercept's entries */
    const double *S;
    double *A, *mean; /* S_ik and A_ik, class by class; a_i */
} CoordinateModel;

/* The entries of a coordinate's feature, which for an intercept are all samples, and the posteriors of its class. */
typedef struct {
    ptrdiff_t first, stop;
    const double *S;
    double *A;
    int constant;
} Feature;

INLINE Feature feature_of(const CoordinateModel *x, ptrdiff_t i)
{
    const ptrdiff_t weights = x->classes * x->D;
    const int constant = i >= weights;
    const ptrdiff_t k = constant ? i - weights : i / x->D, j = constant ? 0 : i % x->D;
    const Feature f = {.first = constant ? 0 : x->column[j], .stop = constant ? x->N : x->column[j + 1],
                       .S = x->S + k * x->N, .A = x->A + k * x->N, .constant = constant};
    return f;
}

/* Returns how many entries of samples a step reads or writes, at most. */
INLINE double length_of(const CoordinateModel *x, ptrdiff_t entry)
{
    const Feature f = feature_of(x, x->which[entry]);
    return 2.0 * (f.stop - f.first) * (entry < x->groups ? x->members : 1);
}

INLINE double paired(const double *a, const double *b, ptrdiff_t r)
{
    double sum[PAIRED] = {0}, total = 0;
    for (ptrdiff_t i = 0; i < r; i += PAIRED)
        UNROLL for (int l = 0; l < PAIRED; l++) sum[l] += a[i + l] * b[i + l];
    for (int l = 0; l < PAIRED; l++) total += sum[l];
    return total;
}

/* Returns tau of a group whose c is longer than the limit. */
INLINE double norm_of_group(const double *c, const double *h, ptrdiff_t members, ptrdiff_t apart, double limit)
{
    double tau = 0;
    for (int step = 0; step < ROOTS; step++) {
        double square = 0, slope = 0;
        for (ptrdiff_t k = 0; k < members; k++) {
            const double size = h[k * apart] * tau + limit, share = c[k] / size;
            square += share * share;
            slope += share * share * h[k * apart] / size;
        }
        const double further = 0.5 * (square - 1) / slope;
        if (!(further > 1e-15 * tau)) break;
        tau += further;
    }
    return tau;
}

/* Returns which row of Q belongs to an entry's first coordinate. */
INLINE ptrdiff_t row_of_entry(const CoordinateModel *x, ptrdiff_t entry)
{
    return entry < x->groups ? entry * x->members : x->groups * (x->members - 1) + entry;
}
#endif

/* Returns what one entry adds to that sum. */
INLINE double NAME(of_sample)(const real *X, const CoordinateModel *x, const Feature *f, ptrdiff_t e, int curved)
{
    const ptrdiff_t at = f->constant ? e : x->sample[e];
    const double value = f->constant ? x->root[at] : X[e], S = f->S[at];
    return curved ? value * value * S * (1 - S) : value * S * (f->A[at] - x->mean[at]);
}

/* Returns sum_i x_ij S_ik (A_ik - a_i) of coordinate i, or if `curved` its second derivative. */
INLINE double NAME(of_samples)(const real *X, const CoordinateModel *x, ptrdiff_t i, int curved)
{
    enum { AT_ONCE = 8 };
    const Feature f = feature_of(x, i);
    double sum[AT_ONCE] = {0}, total = 0;
    ptrdiff_t e = f.first;
    for (; e + AT_ONCE <= f.stop; e += AT_ONCE)
        UNROLL for (int l = 0; l < AT_ONCE; l++) sum[l] += NAME(of_sample)(X, x, &f, e + l, curved);
    for (; e < f.stop; e++) total += NAME(of_sample)(X, x, &f, e, curved);
    for (int l = 0; l < AT_ONCE; l++) total += sum[l];
    return total;
}

/* Adds `step` times the feature of coordinate i to the scores of its class. */
INLINE void NAME(move_samples)(const real *X, CoordinateModel *x, ptrdiff_t i, double step)
{
    const Feature f = feature_of(x, i);
    for (ptrdiff_t e = f.first; e < f.stop; e++) {
        const ptrdiff_t at = f.constant ? e : x->sample[e];
        const double by = step * (f.constant ? x->root[at] : X[e]);
        f.A[at] += by;
        x->mean[at] += by * f.S[at];
    }
}

/* Returns M_ij; where M is NULL it is a diagonal, and its blocks have one coordinate. */
INLINE double NAME(between)(const real *M, const CoordinateModel *x, ptrdiff_t i, ptrdiff_t j)
{
    if (i == j) return x->diagonal[i];
    if (!M || i / x->P != j / x->P) return 0;
    return M[(x->own * (i / x->P) * x->P + i % x->P) * x->ld + j % x->P];
}

/* Sets h, which for a group is no less than its part of B in any direction. */
KERNEL void NAME(curve)(const real *M, CoordinateModel *x)
{
    for (ptrdiff_t entry = 0; entry < x->entries; entry++) {
        const ptrdiff_t members = entry < x->groups ? x->members : 1, row = row_of_entry(x, entry);
        for (ptrdiff_t k = 0; k < members; k++) {
            const ptrdiff_t i = x->which[entry] + k * x->apart;
            double sum = 0;
            if (x->column) { /* the sum of S_k S_l over the other classes l is S_k (1 - S_k), too */
                x->h[i] = (members > 1 ? 2 : 1) * NAME(of_samples)(M, x, i, 1) + x->diagonal[i];
                continue;
            }
            for (ptrdiff_t l = 0; l < members; l++)
                sum += fabs(x->gamma * NAME(between)(M, x, i, x->which[entry] + l * x->apart) -
                            paired(x->QN + (row + k) * x->r, x->Q + (row + l) * x->r, x->r));
            const double least = 1e-8 * x->gamma * x->diagonal[i]; /* B is positive definite but for rounding */
            x->h[i] = sum > least ? sum : least;
        }
    }
}

/* Adds `step` to u_i, and brings z and t up to date. */
INLINE void NAME(move)(const real *M, CoordinateModel *x, ptrdiff_t i, ptrdiff_t row, double step)
{
    x->u[i] += step;
    if (x->column) {
        NAME(move_samples)(M, x, i, step);
    } else if (M) {
        const ptrdiff_t block = i / x->P;
        const real *column = M + (x->own * block * x->P + i % x->P) * x->ld;
        double *z = x->z + block * x->P;
        for (ptrdiff_t j = 0; j < x->P; j++) z[j] += step * column[j];
    } else {
        x->z[i] += step * x->diagonal[i];
    }
    for (ptrdiff_t j = 0; j < x->r; j++) x->t[j] += step * x->Q[row * x->r + j];
}

/* Returns c_i. */
INLINE double NAME(wanted)(const real *M, const CoordinateModel *x, ptrdiff_t i, ptrdiff_t row)
{
    if (x->column) {
        const double z = x->diagonal[i] * (x->u[i] - x->w[i]) + NAME(of_samples)(M, x, i, 0);
        return x->h[i] * x->u[i] - (x->g[i] + z);
    }
    return x->h[i] * x->u[i] - (x->g[i] + x->gamma * x->z[i] - paired(x->QN + row * x->r, x->t, x->r));
}

/* Moves one entry; returns by how much, as the model's gradient sees it, and sets `zero` to whether it is 0 now. */
INLINE double NAME(step)(const real *M, CoordinateModel *x, ptrdiff_t entry, int *zero)
{
    const ptrdiff_t i = x->which[entry], row = row_of_entry(x, entry);
    const double limit = x->limit[i];
    if (entry >= x->groups) {
        const double c = NAME(wanted)(M, x, i, row), size = fabs(c) - limit;
        const double to = size > 0 ? copysign(size, c) / x->h[i] : 0;
        const double by = to - x->u[i];
        *zero = to == 0 && limit > 0;
        if (by != 0) NAME(move)(M, x, i, row, by);
        x->u[i] = to; /* exactly 0 */
        return fabs(by) * x->h[i];
    }
    double *c = x->c, square = 0, most = 0;
    for (ptrdiff_t k = 0; k < x->members; k++) {
        c[k] = NAME(wanted)(M, x, i + k * x->apart, row + k);
        square += c[k] * c[k];
    }
    *zero = square <= limit * limit && limit > 0;
    const double tau = *zero || limit == 0 ? 0 : norm_of_group(c, x->h + i, x->members, x->apart, limit);
    for (ptrdiff_t k = 0; k < x->members; k++) {
        const ptrdiff_t at = i + k * x->apart;
        const double to = limit == 0 ? c[k] / x->h[at] : *zero ? 0 : c[k] * tau / (x->h[at] * tau + limit);
        const double by = to - x->u[at];
        if (by != 0) NAME(move)(M, x, at, row + k, by);
        x->u[at] = to;
        if (fabs(by) * x->h[at] > most) most = fabs(by) * x->h[at];
    }
    return most;
}

/* Sweeps until a sweep over all moves nothing by more than `enough`, or until `work` is used up; returns whether it is
 * done. */
KERNEL int NAME(descend)(const real *M, CoordinateModel *x, double enough, double work)
{
    for (; work > 0 && x->sweeps < SWEEPS; x->sweeps++) {
        const ptrdiff_t count = x->whole ? x->entries : x->actives;
        double most = 0;
        ptrdiff_t kept = 0;
        for (ptrdiff_t e = 0; e < count; e++) {
            const ptrdiff_t entry = x->whole ? e : x->active[e];
            int zero;
            const double moved = NAME(step)(M, x, entry, &zero);
            if (moved > most) most = moved;
            /* An intercept has so many entries that it moves in sweeps over all alone, at least one of EVERY. */
            if (!zero && !(x->column && x->which[entry] >= x->classes * x->D)) x->active[kept++] = entry;
            if (x->column) work -= length_of(x, entry);
            else if (moved > 0) work -= M ? x->P : 1;
        }
        x->actives = kept;
        work -= count * (x->r + 8);
        if (most <= enough) {
            if (x->whole) return 1;
            x->whole = 1;
        } else {
            x->whole = x->column && x->sweeps % EVERY == EVERY - 1;
        }
    }
    return x->sweeps >= SWEEPS;
}
