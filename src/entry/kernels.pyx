"""The fused pass.  N samples, D features, K classes; X (N, D), W (K, D), b (K,), targets Y (N, K), weights s (N,):

    Z = X W^T + b      S_ik = exp(Z_ik) / sum_j exp(Z_ij)      R = S - Y      m = sum_i s_i
    J = -1/m sum_i s_i sum_k Y_ik log S_ik     dJ/dW = 1/m sum_i s_i R_i^T X_i     dJ/db = 1/m sum_i s_i R_i

Rows are cut into tiles.  A tile's one buffer Z holds its scores, then its residuals:

    Z  <- scores(tile)            products.h; narrow types are widened on the way in: widen.h
    Z  <- residuals(Z, y | Y)     residuals.h, and the loss
    dW <- dW + Z^T tile           products.h; the tile is still in cache
    dX <- Z W                     products.h, where wanted, in place of the tile's copy

CSR rows have stages of their own for the first and the third: sparse.pxi and sparse.h.

The Hessian times (V, c) is the same pass with a second buffer Q = X V^T + c and, for R, A = S o (Q - sum_k S_k Q_k).

Work is cut by the problem's shape, never by the number of threads, and what is summed is summed in a fixed order: every
number of threads gives the same bits.  Each cut is a plan, with its sizes and its pass; softmax_ext/_core/plan.py
chooses:

    slices   the rows fall into slices, each with sums of its own in double, added in a tree
    owned    a dW for each slice would cost too much: all threads work on one tile, and who takes a part of the classes
             owns its columns of Z and its rows of dW
    sparse   CSR rows: each thread owns features, and their rows of dW transposed; of few features and classes they
             fall into slices, too

A pass allocates nothing and raises nothing: softmax_ext/_inputs/validation.py has seen every input.
"""
from cpython.buffer cimport (
    PyBUF_C_CONTIGUOUS, PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer,
)
from cpython.exc cimport PyErr_CheckSignals
from cython cimport floating
from cython.parallel cimport prange, threadid
from libc.float cimport DBL_MIN
from libc.math cimport INFINITY, NAN, isfinite, log, sqrt
from libc.stdint cimport UINT32_MAX, int32_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

import sys


cdef extern from "<fenv.h>" nogil:
    ctypedef struct fexcept_t:
        pass
    const int FE_ALL_EXCEPT
    int fegetexceptflag(fexcept_t *, int) noexcept
    int fesetexceptflag(const fexcept_t *, int) noexcept

cdef extern from "float_types.h" nogil:
    const Py_ssize_t lanes_f32, lanes_f64, MAX_V, TALL_MOST, COLUMNS_MOST
    const Py_ssize_t *MAX_ROWS
    const int STORE, ADD, ADD_DOUBLE, LOGSUMEXP
    const int REAL, FLOAT16, BFLOAT16, INT8, UINT8
    ctypedef struct Piece:
        double top, others, tops
    ctypedef struct CoordinateModel:
        const Py_ssize_t *which
        Py_ssize_t entries, groups, members, apart, P, ld, own, r
        double gamma
        const double *Q
        const double *QN
        const double *diagonal
        const double *g
        const double *limit
        double *u
        double *z
        double *h
        double *t
        double *c
        Py_ssize_t *active
        Py_ssize_t actives, sweeps
        int whole
        Py_ssize_t N, D, classes
        const Py_ssize_t *column
        const int32_t *sample
        const double *root
        const double *w
        const double *S
        double *A
        double *mean


# A call that reads fewer numbers than this keeps the GIL, since to get it back from another thread takes longer than
# the call. See "Around the passes of a small fit" in docs/notes.md.
cdef enum:
    RELEASING = 65536


cdef inline Py_ssize_t lanes(const floating *kind) noexcept nogil:
    """Return how many numbers a vector has."""
    return lanes_f32 if floating is float else lanes_f64


include "kernels.pxi"       # written by declare.py: every KERNEL of the headers, under one name for both floating types
include "interrupt.pxi"
include "buffers.pxi"
include "batch.pxi"
include "plan.pxi"
include "../pass/tile.pxi"
include "../pass/slices.pxi"
include "../pass/owned.pxi"
include "../pass/sparse.pxi"
include "../pass/sparse_slices.pxi"
include "../pass/binomial.pxi"
include "../pass/hessian.pxi"
include "../pass/hessian_entries.pxi"
include "../pass/centred.pxi"
include "pass.pxi"
include "../pass/fisher.pxi"
include "../pass/turn.pxi"
include "calls.pxi"
include "../pass/gram.pxi"
include "../pass/coordinates.pxi"
include "../pass/support.pxi"
include "../pass/vectors.pxi"
include "../pass/sums.pxi"
include "../pass/history.pxi"
include "function.pxi"
include "../pass/stretch.pxi"
include "../pass/logits.pxi"
include "../pass/cross_entropy.pxi"
include "../pass/scaled.pxi"


def exp_f32(const float[::1] x, float[::1] out):
    """Compute e^x of x <= 0 as the pass does, for the tests."""
    exps(&x[0], x.shape[0], &out[0])


def exp_f64(const double[::1] x, double[::1] out):
    """Compute e^x of x <= 0 as the pass does, for the tests."""
    exps(&x[0], x.shape[0], &out[0])


def tanh_f32(const float[::1] x, float[::1] out, float[::1] slopes):
    """Compute tanh x and its derivative, by which scores are capped, for the tests."""
    tanhs(&x[0], x.shape[0], &out[0], &slopes[0])


def tanh_f64(const double[::1] x, double[::1] out, double[::1] slopes):
    """Compute tanh x and its derivative, by which scores are capped, for the tests."""
    tanhs(&x[0], x.shape[0], &out[0], &slopes[0])
