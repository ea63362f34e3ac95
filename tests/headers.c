/* The headers of src/ against plain loops in double, for compilers and processors that Python's tests do not run on.
 *
 * It includes itself, once for each floating type.  Exit status 1 and a line for each size that is wrong.
 */
#ifndef N
#include <stdio.h>
#include <stdlib.h>

#include "float_types.h"
#ifdef _WIN32
#include <malloc.h>
#define aligned_alloc(alignment, bytes) _aligned_malloc(bytes, alignment)
#define free _aligned_free
#endif

static int wrong;
static const ptrdiff_t sizes[][3] = {
    {1, 1, 2}, {3, 2, 3}, {7, 5, 1}, {23, 40, 2}, {29, 21, 3}, {23, 18, 5}, {17, 33, 10}, {20, 31, 19},
    {64, 20, 37}, {70, 9, 24}, {31, 300, 70}, {5, 64, 130}, {800, 9, 13},
};

static double draw(void)
{
    static uint64_t state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (double)(state >> 33) / 2147483648.0 * 4 - 2;
}

static void *room(ptrdiff_t bytes) { return aligned_alloc(64, (size_t)parts_of(bytes + 1024, 64) * 64); }

static void compare(const char *what, ptrdiff_t i, ptrdiff_t k, double got, double want, double tolerance)
{
    if (fabs(got - want) <= tolerance) return;
    printf("%s [%d, %d]: %.17g, not %.17g\n", what, (int)i, (int)k, got, want);
    wrong = 1;
}

/* Two classes' Hessian of samples moved and scaled, which is there for floats alone. */
static void check_centred(ptrdiff_t n, ptrdiff_t D)
{
    const ptrdiff_t P = D + 1, sides = parts_of(P, SIDE), ldu = parts_of(n, 64) * 64 + 16;
    float *X = room(n * D * 4), *shift = room((P + 16) * 4), *scale = room((P + 16) * 4), *w = room(P * 4);
    float *U = room(sides * SIDE * ldu * 4), *c = room(ldu * 4), *weighted = room(SIDE * ldu * 4);
    double *s = room(n * 8), *G = room(sides * (sides + 1) / 2 * SQUARE * 8), *u = room(n * P * 8);
    memset(U, 0, (size_t)(sides * SIDE * ldu) * 4), memset(G, 0, (size_t)(sides * (sides + 1) / 2 * SQUARE) * 8);
    memset(shift, 0, (size_t)(P + 16) * 4), memset(scale, 0, (size_t)(P + 16) * 4);
    for (ptrdiff_t i = 0; i < n * D; i++) X[i] = (float)draw();
    for (ptrdiff_t j = 0; j < P; j++) w[j] = (float)draw() / (float)D, shift[j] = (float)draw(), scale[j] = j % 2 ? 0.5f : 4;
    for (ptrdiff_t i = 0; i < n; i++) s[i] = draw() * draw();
    centre_rows((char *)X, REAL, n, D, 4 * D, (char *)(X + n * D), shift, scale, U, ldu);
    curvatures_of_centred(U, n, D, ldu, w, NULL, 0, s, c);
    add_squares(U, n, P, ldu, c, NULL, 0, weighted, G);
    for (ptrdiff_t i = 0; i < n; i++) {
        double z = (double)w[D], size = 1;
        for (ptrdiff_t j = 0; j < P; j++) {
            u[i * P + j] = j == D ? 1 : ((double)X[i * D + j] - (double)shift[j]) * (double)scale[j];
            if (j < D) z += (double)w[j] * u[i * P + j], size += fabs((double)w[j] * u[i * P + j]);
        }
        const double e = exp(-fabs(z));
        compare("curvature of centred", i, 0, c[i], s[i] * e / ((1 + e) * (1 + e)), 1.2e-7 * (double)(P + 8) * size * 4);
    }
    const double *square = G;
    for (ptrdiff_t a = 0; a < sides; a++)
        for (ptrdiff_t b = a; b < sides; b++, square += SQUARE)
            for (ptrdiff_t j = a * SIDE; j < smaller(P, (a + 1) * SIDE); j++)
                for (ptrdiff_t k = b * SIDE; k < smaller(P, (b + 1) * SIDE); k++) {
                    double want = 0, most = 0;
                    for (ptrdiff_t i = 0; i < n; i++) {
                        const double term = (double)c[i] * u[i * P + j] * u[i * P + k];
                        want += term, most += fabs(term);
                    }
                    if (k >= j) compare("Hessian of centred", j, k, square[j % SIDE * SIDE + k % SIDE], want, 1.2e-7 * (double)(n + 4) * most);
                }
    void *all[] = {X, shift, scale, w, U, c, weighted, s, G, u};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Every number of two bytes and of one, as a row of all and as short ones, against the definitions of their types. */
static void check_narrow(void)
{
    enum { MANY = 65536 };
    uint16_t *X = room(MANY * 2);
    float *wide = room(MANY * 4), *part = room(MANY * 4);
    for (int i = 0; i < MANY; i++) X[i] = (uint16_t)i;
    for (int element = FLOAT16; element <= UINT8; element++) {
        const int bytes = element == INT8 || element == UINT8;
        const ptrdiff_t count = bytes ? 256 : MANY;
        int8_t all[256];
        for (int i = 0; i < 256; i++) all[i] = (int8_t)i;
        widen(bytes ? (void *)all : (void *)X, element, 0, count, wide);
        for (ptrdiff_t i = 0; i < count; i += 37) widen(bytes ? (void *)all : (void *)X, element, i, smaller(37, count - i), part + i);
        for (ptrdiff_t i = 0; i < count; i++) {
            const int mantissa = element == FLOAT16 ? 10 : 7, exponent = (int)i >> mantissa & (element == FLOAT16 ? 31 : 255);
            const int top = element == FLOAT16 ? 31 : 255, rest = (int)i & ((1 << mantissa) - 1);
            double want = ldexp(rest + (exponent ? 1 << mantissa : 0), (exponent ? exponent : 1) - top / 2 - mantissa);
            if (exponent == top) want = rest ? (double)NAN : (double)INFINITY;
            if (i & 0x8000) want = -want;
            if (bytes) want = element == INT8 && i > 127 ? (double)(i - 256) : (double)i;
            const int same = isnan(want) ? isnan(wide[i]) && isnan(part[i]) : wide[i] == want && part[i] == want;
            compare("widened", element, i, same, 1, 0);
        }
    }
    free(X), free(wide), free(part);
}

#define number float
#define N(f) f##_f32
#define EPS 1.2e-7
#include "headers.c"
#undef number
#undef N
#undef EPS
#define number double
#define N(f) f##_f64
#define EPS 2.3e-16
#include "headers.c"

int main(void)
{
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        check_f32(sizes[i][0], sizes[i][1], sizes[i][2]);
        check_f64(sizes[i][0], sizes[i][1], sizes[i][2]);
        check_two_f32(sizes[i][0], sizes[i][1]);
        check_two_f64(sizes[i][0], sizes[i][1]);
        check_scaled_f32(sizes[i][0], sizes[i][2]);
        check_scaled_f64(sizes[i][0], sizes[i][2]);
        check_centred(sizes[i][0], sizes[i][1]);
    }
    check_exp_f32();
    check_exp_f64();
    check_narrow();
    printf("vectors of %d bytes: %s\n", SIMD_BYTES, wrong ? "wrong" : "right");
    return wrong;
}

#else

static void N(check_exp)(void)
{
    enum { MANY = 1024 };
    number *x = room(MANY * sizeof *x), *e = room(MANY * sizeof *e);
    for (int i = 0; i < MANY; i++) x[i] = (number)(-i * 0.08);
    N(exps)(x, MANY, e);
    for (int i = 0; i < MANY; i++) compare("exp" , i, 0, e[i], exp((double)x[i]), 2 * EPS * exp((double)x[i]));
    x[0] = (number)NAN, x[1] = (number)-INFINITY, x[2] = 0;
    N(exps)(x, MANY, e);
    compare("exp of NaN, -inf and 0", 0, 0, isnan(e[0]) && e[1] == 0 && e[2] == 1, 1, 0);
    free(x), free(e);
}

/* Scores both ways, posteriors, residuals of labels and of targets with their loss, both gradients, the columns' sums. */
static void N(check)(ptrdiff_t n, ptrdiff_t D, ptrdiff_t K)
{
    const ptrdiff_t lanes = (ptrdiff_t)N(lanes), ldz = N(vectors)(K) * lanes, ldt = N(vectors)(D) * lanes;
    const ptrdiff_t rows = parts_of(n, lanes) * lanes, wide = MAX_V * lanes + ldt + ldz;
    number *X = room(n * D * sizeof *X), *W = room(K * D * sizeof *W), *T = room((n + 1) * wide * sizeof *T);
    number *packed = room((K + lanes) * (D + lanes) * sizeof *packed), *bias = room(ldz * sizeof *bias);
    number *Z = room(rows * ldz * sizeof *Z), *S = room(rows * ldz * sizeof *S), *R = room(rows * ldz * sizeof *R);
    number *Y = room(n * K * sizeof *Y), *t = room(rows * sizeof *t);
    double *scores = room(n * K * 8), *posterior = room(n * K * 8), *s = room(n * 8), *base = room(rows * 8);
    ptrdiff_t *y = room(n * sizeof *y);
    for (ptrdiff_t i = 0; i < n * D; i++) X[i] = (number)draw();
    for (ptrdiff_t i = 0; i < K * D; i++) W[i] = (number)draw();
    for (ptrdiff_t k = 0; k < ldz; k++) bias[k] = k < K ? (number)draw() : (number)-INFINITY;
    for (ptrdiff_t i = 0; i < n * K; i++) Y[i] = (number)(draw() + 2);
    for (ptrdiff_t i = 0; i < n; i++) s[i] = draw() + 2, y[i] = (ptrdiff_t)((draw() + 2) / 4 * (double)K);
    for (ptrdiff_t i = 0; i < n; i++) {
        double top = -INFINITY, sum = 0;
        for (ptrdiff_t k = 0; k < K; k++) {
            double z = bias[k];
            for (ptrdiff_t d = 0; d < D; d++) z += (double)X[i * D + d] * (double)W[k * D + d];
            scores[i * K + k] = z;
            if (z > top) top = z;
        }
        for (ptrdiff_t k = 0; k < K; k++) sum += exp(scores[i * K + k] - top);
        for (ptrdiff_t k = 0; k < K; k++) posterior[i * K + k] = exp(scores[i * K + k] - top) / sum;
    }
    const double rounding = EPS * 8 * (double)(D + 2), soft = 4 * rounding + 16 * EPS;

    N(pack_panels)(W, K, D, packed);
    N(scores)(X, n, D, D, packed, bias, NULL, K, Z, ldz);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < K; k++) compare("scores", i, k, Z[i * ldz + k], scores[i * K + k], rounding);
    if (D >= lanes && K <= DOTS_MOST) {
        N(pack_rows)(W, K, D, packed);
        N(dots)(X, n, D, D, packed, bias, NULL, K, S, ldz);
        for (ptrdiff_t i = 0; i < n; i++)
            for (ptrdiff_t k = 0; k < K; k++) compare("dots", i, k, S[i * ldz + k], scores[i * K + k], rounding);
    }

    memcpy(S, Z, (size_t)(n * ldz) * sizeof *S);
    N(probabilities)(S, n, K, ldz);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < K; k++) compare("probabilities", i, k, S[i * ldz + k], posterior[i * K + k], soft);

    for (int targets = 0; targets < 2; targets++) {
        double want = 0, most = 1;
        memcpy(R, Z, (size_t)(n * ldz) * sizeof *R);
        const double loss = N(residuals)(R, n, K, ldz, targets ? NULL : y, targets ? Y : NULL, K, NULL, s, 0, 0, base, t);
        for (ptrdiff_t i = 0; i < n; i++) {
            double mass = 0;
            for (ptrdiff_t k = 0; k < K; k++) mass += targets ? Y[i * K + k] : k == y[i];
            for (ptrdiff_t k = 0; k < K; k++) {
                const double target = targets ? Y[i * K + k] : k == y[i], S_ik = posterior[i * K + k];
                if (target != 0) want -= s[i] * target * log(S_ik), most += s[i] * target * (1 - log(S_ik));
                compare(targets ? "soft residuals" : "residuals", i, k, R[i * ldz + k], s[i] * (S_ik * mass - target),
                        K > 1 ? s[i] * (mass + 1) * soft : 0);
            }
        }
        compare(targets ? "soft loss" : "loss", n, K, loss, want, most * soft);
    }

    N(copy_rows)(X, REAL, n, D, D, T, wide);
    double *dW = room(K * wide * 8), *db = room(K * 8);
    memset(dW, 0, (size_t)(K * wide) * 8), memset(db, 0, (size_t)K * 8);
    N(outer)(R, K, ldz, T, wide, wide, n, NULL, dW, wide, D, ADD_DOUBLE);
    N(add_columns)(R, n, K, ldz, db);
    const ptrdiff_t whole_D = N(vectors)(D) * (ptrdiff_t)N(lanes);
    double *tall = room(K * wide * 8);
    number *tall_sums = room(K * D * sizeof *tall_sums), *columns = room((n * K + 64) * sizeof *columns);
    number *samples = room(n * whole_D * sizeof *samples);
    const ptrdiff_t panels = parts_of(N(vectors)(D), MAX_V), middle = panels / 2;
    N(pack_samples)(T, D, wide, n, 0, n / 2, samples);
    N(pack_samples)(T, D, wide, n, n / 2, n, samples);
    memset(tall, 0, (size_t)(K * wide) * 8);
    for (ptrdiff_t k = 0, some; k < K; k += some) {
        some = smaller(K - k, TALL_MOST);
        N(pack_columns)(R + k, n, some, ldz, columns);
        N(outer_tall)(columns, some, 0, samples, D, n, 0, middle, tall + k * wide, wide, whole_D, ADD_DOUBLE);
        N(outer_tall)(columns, some, 0, samples, D, n, middle, panels, tall + k * wide, wide, whole_D, ADD_DOUBLE);
        for (int out = STORE; out <= ADD; out++)
            N(outer_tall)(R + k, some, ldz, samples, D, n, 0, panels, tall_sums + k * D, D, D, out);
    }
    for (ptrdiff_t k = 0; k < K; k++) {
        double sum = 0, size = 0;
        for (ptrdiff_t d = 0; d < D; d++) {
            double c = 0, most = 0;
            for (ptrdiff_t i = 0; i < n; i++) {
                c += (double)R[i * ldz + k] * (double)X[i * D + d];
                most += fabs((double)R[i * ldz + k] * (double)X[i * D + d]);
            }
            compare("gradient", k, d, dW[k * wide + d], c, EPS * (double)(n + 2) * most);
            compare("gradient of many rows", k, d, tall[k * wide + d], c, EPS * (double)(n + 2) * most);
            compare("the same, twice", k, d, tall_sums[k * D + d], 2 * c, EPS * (double)(2 * n + 4) * most);
        }
        for (ptrdiff_t i = 0; i < n; i++) sum += (double)R[i * ldz + k], size += fabs((double)R[i * ldz + k]);
        compare("sums of columns", k, 0, db[k], sum, EPS * (double)(n + 2) * size);
    }
    void *all[] = {X, W, T, packed, bias, Z, S, R, Y, t, scores, posterior, s, base, y, dW, db, tall, tall_sums, columns, samples};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* Scores times one factor: loss and derivatives; and times a factor for each class, with shifts. */
static void N(check_scaled)(ptrdiff_t n, ptrdiff_t K)
{
    const ptrdiff_t lanes = (ptrdiff_t)N(lanes), ldz = N(vectors)(K) * lanes, ldx = K + 3;
    number *x = room(n * ldx * sizeof *x), *a = room(K * sizeof *a), *b = room(K * sizeof *b);
    number *Z = room((n + lanes) * ldz * sizeof *Z);
    double *s = room(n * 8), *da = room(K * 8), *db = room(K * 8), sums[3] = {0}, want[3] = {0}, most[3] = {0};
    const double beta = 0.75;
    ptrdiff_t *y = room(n * sizeof *y);
    for (ptrdiff_t i = 0; i < n * ldx; i++) x[i] = (number)(4 * draw());
    for (ptrdiff_t k = 0; k < K; k++) a[k] = (number)draw(), b[k] = (number)draw(), da[k] = db[k] = 0;
    for (ptrdiff_t i = 0; i < n; i++) {
        double top = -INFINITY, sum = 0, first = 0, second = 0;
        s[i] = draw() + 2, y[i] = (ptrdiff_t)((draw() + 2) / 4 * (double)K);
        for (ptrdiff_t k = 0; k < K; k++) top = fmax(top, (double)x[i * ldx + k]);
        for (ptrdiff_t k = 0; k < K; k++) {
            const double d = (double)x[i * ldx + k] - top, e = exp(beta * d);
            sum += e, first += e * d, second += e * d * d;
        }
        const double below = top - (double)x[i * ldx + y[i]], mean = first / sum;
        const double terms[] = {beta * below + log(sum), below + mean, second / sum - mean * mean};
        for (int j = 0; j < 3; j++) want[j] += s[i] * terms[j], most[j] += s[i] * (fabs(terms[j]) + mean * mean + below + 1);
    }
    N(add_scaled_by_one)(x, ldx, n, K, x + (n - 1) * ldx + K, y, s, beta, sums);
    for (int j = 0; j < 3; j++) compare("scaled by one", n, j, sums[j], want[j], EPS * 32 * most[j]);
    if (K <= COLUMNS_MOST) {
        double *found = room((1 + 2 * K) * 8), *of_a = room(K * 8), *of_b = room(K * 8), loss = 0, size = 1;
        for (ptrdiff_t k = 0; k <= 2 * K; k++) found[k] = 0;
        for (ptrdiff_t k = 0; k < K; k++) of_a[k] = of_b[k] = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            double sum = 0;
            for (ptrdiff_t k = 0; k < K; k++) sum += exp((double)a[k] * (double)x[i * ldx + k] + (double)b[k]);
            for (ptrdiff_t k = 0; k < K; k++) {
                const double z = (double)a[k] * (double)x[i * ldx + k] + (double)b[k], r = s[i] * (exp(z) / sum - (k == y[i]));
                if (k == y[i]) loss += s[i] * (log(sum) - z);
                of_a[k] += r * (double)x[i * ldx + k], of_b[k] += r, size += s[i];
            }
        }
        N(add_scaled_by_class)(x, ldx, n, K, x + (n - 1) * ldx + K, y, s, a, b, found);
        compare("loss of scaled", n, K, found[0], loss, EPS * 400 * size);
        for (ptrdiff_t k = 0; k < K; k++) {
            compare("loss by a", k, 0, found[1 + k], of_a[k], EPS * 4000 * size);
            compare("loss by b", k, 0, found[1 + K + k], of_b[k], EPS * 400 * size);
        }
        free(found), free(of_a), free(of_b);
    }
    N(scaled_tile)(x, ldx, n, K, a, b, Z, ldz);
    for (ptrdiff_t i = 0; i < n; i++)
        for (ptrdiff_t k = 0; k < ldz; k++) {
            const double z = k < K ? (double)a[k] * (double)x[i * ldx + k] + (double)b[k] : -INFINITY;
            if (k >= K && Z[i * ldz + k] == (number)-INFINITY) continue;
            compare("scaled", i, k, Z[i * ldz + k], z, EPS * 32);
        }
    N(add_scaled)(Z, ldz, x, ldx, n, K, da, db);
    for (ptrdiff_t k = 0; k < K; k++) {
        double of_a = 0, of_b = 0, size = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            of_a += (double)Z[i * ldz + k] * (double)x[i * ldx + k], of_b += (double)Z[i * ldz + k];
            size += fabs((double)Z[i * ldz + k]) * (fabs((double)x[i * ldx + k]) + 1);
        }
        compare("sums by a", k, 0, da[k], of_a, EPS * (double)(n + 2) * size);
        compare("sums by b", k, 0, db[k], of_b, EPS * (double)(n + 2) * size);
    }
    void *all[] = {x, a, b, Z, s, da, db, y};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

/* One row of coefficients: scores, posteriors, residuals of labels and of targets with their loss, the Hessian's product,
 * the gradient; the same of CSR rows; and the whole Hessian. */
static void N(check_two)(ptrdiff_t n, ptrdiff_t D)
{
    const ptrdiff_t lanes = (ptrdiff_t)N(lanes), row = N(vectors)(D) * lanes, rows = parts_of(n, EXPS * 16) * EXPS * 16;
    number *X = room(n * D * sizeof *X), *w = room(row * sizeof *w), *z = room(rows * sizeof *z);
    number *q = room(rows * sizeof *q), *r = room(rows * sizeof *r), *S = room(2 * n * sizeof *S);
    number *Y = room(2 * n * sizeof *Y), *g = room(row * sizeof *g);
    double *s = room(n * 8), *sums = room(D * 8), *score = room(n * 8);
    ptrdiff_t *y = room(n * sizeof *y), *indptr = room((n + 1) * sizeof *indptr);
    int32_t *indices = room(n * D * sizeof *indices);
    const number bias = (number)draw();
    for (ptrdiff_t i = 0; i < n * D; i++) X[i] = (number)draw(), indices[i] = (int32_t)(i % D);
    for (ptrdiff_t j = 0; j < row; j++) w[j] = j < D ? (number)draw() : 0;
    for (ptrdiff_t i = 0; i <= n; i++) indptr[i] = i * D;
    for (ptrdiff_t i = 0; i < 2 * n; i++) Y[i] = (number)(draw() + 2);
    for (ptrdiff_t i = 0; i < n; i++) s[i] = draw() + 2, y[i] = draw() > 0;
    for (ptrdiff_t i = 0; i < rows; i++) q[i] = (number)draw();
    const double rounding = EPS * 8 * (double)(D + 2), soft = 4 * rounding + 16 * EPS;
    for (int csr = 0; csr < 2; csr++) {
        if (csr) N(one_sparse_scores)(X, REAL, indices, 0, indptr, n, w, bias, z);
        else N(one_scores)((char *)X, REAL, n, D, D * (ptrdiff_t)sizeof(number), (char *)(X + n * D), w, bias, NULL, 0, z);
        for (ptrdiff_t i = 0; i < n; i++) {
            score[i] = bias;
            for (ptrdiff_t j = 0; j < D; j++) score[i] += (double)X[i * D + j] * (double)w[j];
            compare(csr ? "CSR's one score" : "one score", i, 0, z[i], score[i], rounding);
        }
    }
    memcpy(r, z, (size_t)n * sizeof *r);
    N(binomial_posteriors)(r, n, S);
    for (ptrdiff_t i = 0; i < n; i++)
        for (int k = 0; k < 2; k++)
            compare("posterior of two", i, k, S[2 * i + k], 1 / (1 + exp(k ? -score[i] : score[i])), soft);
    memcpy(r, z, (size_t)n * sizeof *r);
    N(binomial_curvatures)(r, q, n, s);
    for (ptrdiff_t i = 0; i < n; i++) {
        const double e = exp(-fabs(score[i]));
        compare("curvature of two", i, 0, r[i], s[i] * e / ((1 + e) * (1 + e)) * q[i], 8 * soft);
    }
    for (int targets = 0; targets < 2; targets++) {
        double want = 0, most = 1;
        memcpy(r, z, (size_t)n * sizeof *r);
        const double loss = N(binomial_residuals)(r, n, targets ? NULL : y, targets ? Y : NULL, 2, s, NULL);
        for (ptrdiff_t i = 0; i < n; i++) {
            const double Y_0 = targets ? (double)Y[2 * i] : y[i] == 0, Y_1 = targets ? (double)Y[2 * i + 1] : y[i] == 1;
            const double S_1 = 1 / (1 + exp(-score[i])), S_0 = 1 / (1 + exp(score[i]));
            const double term = s[i] * -(Y_0 * log(S_0) + Y_1 * log(S_1));
            want += term, most += term + s[i] * (Y_0 + Y_1);
            compare(targets ? "soft residual of two" : "residual of two", i, 0, r[i], s[i] * (S_1 * Y_0 - S_0 * Y_1),
                    s[i] * (Y_0 + Y_1 + 1) * soft);
        }
        compare(targets ? "soft loss of two" : "loss of two", n, 2, loss, want, most * soft);
    }
    memset(g, 0, (size_t)row * sizeof *g), memset(sums, 0, (size_t)D * 8);
    N(one_gradient)((char *)X, REAL, n, D, D * (ptrdiff_t)sizeof(number), (char *)(X + n * D), r, NULL, 0, g);
    N(one_sparse_gradient)(X, REAL, indices, 0, indptr, n, r, sums);
    for (ptrdiff_t j = 0; j < D; j++) {
        double c = 0, most = 0;
        for (ptrdiff_t i = 0; i < n; i++) {
            c += (double)r[i] * (double)X[i * D + j];
            most += fabs((double)r[i] * (double)X[i * D + j]);
        }
        compare("gradient of two", j, 0, g[j], c, EPS * (double)(n + 2) * most);
        compare("CSR's gradient of two", j, 0, sums[j], c, 2.3e-16 * (double)(n + 2) * most);
    }

    const ptrdiff_t P = D + 1, ldt = vectors_f64(P) * lanes_f64, panels = parts_of(ldt / lanes_f64, MAX_V);
    double *tile = room(n * ldt * 8), *H = room(P * ldt * 8), *T = room(P * (P + 1) / 2 * 8);
    memset(H, 0, (size_t)(P * ldt) * 8);
    memset(T, 0, (size_t)(P * (P + 1) / 2) * 8);
    for (int own = 0; own < 3; own++) N(entry_products)(X, indices, 0, indptr, n, P, D, s, 1, own, 3, T);
    for (int csr = 0; csr < 2; csr++) {
        if (csr) N(widen_entries)(X, X, REAL, indices, 0, indptr, n, D, 1, tile, ldt);
        else N(widen_rows)(X, REAL, n, D, D, 1, X, tile, ldt);
        for (ptrdiff_t i = 0; i < panels; i++)
            for (int piece = 0; piece < 2; piece++)
                hessian_panel(tile, n, P, ldt, s, i, panels, piece * (P / 2), piece ? P : P / 2, NULL, 0, H);
    }
    for (ptrdiff_t j = 0; j < P; j++)
        for (ptrdiff_t k = j; k < P; k++) {
            double c = 0, most = 0;
            for (ptrdiff_t i = 0; i < n; i++) {
                const double term = s[i] * (j < D ? (double)X[i * D + j] : 1) * (k < D ? (double)X[i * D + k] : 1);
                c += 2 * term, most += 2 * fabs(term);
            }
            compare("Hessian of two", j, k, H[j * ldt + k], c, 2.3e-16 * (double)(n + 4) * most);
            compare("Hessian of entries", j, k, 2 * T[N(triangle)(P, j) + k], c, 2.3e-16 * (double)(n + 4) * most);
        }
    void *all[] = {X, w, z, q, r, S, Y, g, s, sums, score, y, indptr, indices, tile, H, T};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}
#endif
