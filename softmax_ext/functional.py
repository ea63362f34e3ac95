"""The public functions of samples and parameters: each checks its arguments, chooses a plan and runs a pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from . import reference
from ._core import dispatch
from ._core import threads as _threads
from ._core.plan import plan
from ._core.run import run
from ._inputs.cross_entropy import check_linear
from ._inputs.csr import CSR
from ._inputs.rows import Rows
from ._inputs.tensors import is_tensor, on_arrays
from ._inputs.validation import check_offset, check_problem, check_scoring
from .losses import CrossEntropyGrad, cross_entropy, cross_entropy_grad, label_weights, reduce_losses, weigh_losses
from .reference import LinearCrossEntropy, LossGrad
from .special import log_softmax, logsumexp, softmax

__all__ = [
    "CrossEntropyGrad",
    "LinearCrossEntropy",
    "LossGrad",
    "cross_entropy",
    "cross_entropy_grad",
    "linear_cross_entropy",
    "log_softmax",
    "logsumexp",
    "loss_grad",
    "predict_proba",
    "softmax",
]

Array = npt.NDArray[Any]

# If X stores fewer entries than an eighth of its features, most of W would be transposed in vain. So the columns that
# occur are copied instead, as for one document of 16 words out of 60000.
FEW_ENTRIES = 8


def loss_grad(
    X: Any,
    y: npt.ArrayLike,
    W: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    sample_weight: npt.ArrayLike | None = None,
    class_weight: npt.ArrayLike | Mapping[int, float] | str | None = None,
    label_smoothing: float = 0.0,
    offset: npt.ArrayLike | None = None,
    n_threads: int | None = None,
) -> LossGrad:
    """Return the mean softmax cross-entropy and its gradient, computed in one pass over the batch.

    With the scores Z = X Wᵀ + b, S their row-wise softmax, Y the targets (one-hot for labels) and m = Σ s_i::

        loss = -1/m Σ_i s_i Σ_k Y_ik log S_ik      dW = 1/m Σ_i s_i (S - Y)_iᵀ X_i      db = 1/m Σ_i s_i (S - Y)_i

    where targets that are probabilities sum to one; in general S_i Σ_k Y_ik takes the place of S_i in the gradient.
    No array of N x K exists at any time. At one ISA level every number of threads gives the same bits, and so does
    every layout of the same X.

    Parameters
    ----------
    X : array_like or scipy.sparse array or matrix, shape (N, D)
        Samples, of any real dtype, which decides the dtype of the computation: float32 for float32, float16, bfloat16
        (of ml_dtypes), int8 and uint8, with the bits that X.astype(float32) gives; float64 for all others. An array of
        those five dtypes or of float64 whose rows are contiguous is read in place, whatever the distance between rows;
        any other array is converted some rows at a time. CSR of int8, uint8, float32 or float64 with int32 or int64
        indices is read in place; its indices need not be sorted, and duplicate entries are added. Other sparse formats
        are converted to CSR. Entries that are not stored add nothing, even where W is not finite.
    y : array_like, shape (N,) or (N, K)
        Labels in 0..K-1 of an integer dtype, or probabilities of a real dtype, which need not sum to one.
    W : array_like, shape (K, D)
        Weights, a row for each class, as in scikit-learn's ``coef_``; cast to the dtype of the computation, as b is.
    b : array_like, shape (K,), optional
        Bias of each class.
    sample_weight : array_like, shape (N,), optional
        Weights s_i, not negative, not all zero; 1 for each sample by default.
    class_weight : array_like of shape (K,), mapping of label to weight, or "balanced", optional
        Multiplies s_i by the weight of sample i's label, before m is taken, as in scikit-learn. Labels that a mapping
        leaves out weigh 1. It needs labels.
    label_smoothing : float, default 0
        ε in [0, 1]: the targets become (1 - ε) Y + ε / K, as in PyTorch.
    offset : array_like, shape (N, K), or (N,) for two classes, optional
        Added to the scores: Z = X Wᵀ + b + offset. One of shape (N,) is added to the scores of class 1. It is read in
        place if it has the dtype of the computation and contiguous rows. -inf excludes a class from a row.
    n_threads : int, optional
        Threads to use: by default the process's share of the machine; negative numbers count from all, as in joblib.
        Small problems run on one thread whatever is asked for.

    Returns
    -------
    LossGrad
        Named tuple of loss (float), dW (K, D) and db (K,), C-contiguous and of the dtype of the computation; db is None
        without b.

    Raises
    ------
    ValueError
        If a shape or length does not fit, a label is out of range, a weight or probability is negative or not finite,
        all weights are zero, X is empty or complex, a sparse index is out of range, or `n_threads` is 0. The message
        names the argument, the value and its index.
    TypeError
        If a dtype is not what the argument needs, as with labels that are not integers, or X of strings or objects; or
        if `n_threads` is not an integer.

    Notes
    -----
    The gradient is that of equation (6) of the derivation (docs/derivation.md). Values of X, W and b that are not
    finite follow PyTorch: a row with NaN or +inf among its scores has a NaN loss, and a score of -inf is a class of
    probability 0.

    Products are summed in the dtype of the computation over some hundred samples, and those sums are added in double.
    With more than two million weights all sums are in the dtype of the computation. If X is sparse, each product is
    added in double; with more than two million weights in the dtype of the computation, and then the error of an entry
    of dW is at most n eps / 2 times the sum of its terms' magnitudes, where n is the number of samples that have the
    feature.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]])
    >>> loss, dW, db = loss_grad(X, [0, 1, 1], np.zeros((2, 2)), np.zeros(2))
    >>> print(f"{loss:.6f}")
    0.693147
    >>> dW.round(4)
    array([[ 0.4167, -0.4167],
           [-0.4167,  0.4167]])
    """
    if type(X) is not np.ndarray and is_tensor(X):
        return on_arrays(
            loss_grad,
            X,
            y,
            W,
            b,
            sample_weight=sample_weight,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            offset=offset,
            n_threads=n_threads,
        )
    threads = _threads.effective(n_threads)
    kernels = dispatch.kernels
    samples, dtype, labels, targets, weights, bias, s, m, smoothing = check_problem(
        X, y, W, b, sample_weight, class_weight, label_smoothing
    )
    if kernels is None:
        exact = reference.loss_grad(
            X,
            y,
            W,
            b,
            sample_weight=sample_weight,
            class_weight=class_weight,
            label_smoothing=label_smoothing,
            offset=offset,
        )
        return LossGrad(exact.loss, _rounded(exact.dW, dtype), None if exact.db is None else _rounded(exact.db, dtype))
    N, D = samples.shape
    K = weights.shape[0]
    added = None if offset is None else check_offset(offset, N, K)
    rows = Rows(samples, labels, targets, s, "X", added)
    way = plan(N, D, K, dtype.itemsize, dispatch.isa, copied=rows.narrow, nnz=rows.stored)
    dW = np.empty((K, D), dtype)
    db = None if bias is None else np.empty(K, dtype)
    loss = run(kernels.LossGrad(weights, bias, dW, db, m, smoothing), way, rows, threads, checked=False)
    # `LossGrad` would call a Python function, which a small call notices; see "Around a small call" in docs/notes.md.
    return tuple.__new__(LossGrad, (loss, dW, db))


def predict_proba(
    X: Any,
    W: npt.ArrayLike,
    b: npt.ArrayLike | None = None,
    *,
    offset: npt.ArrayLike | None = None,
    out: Array | None = None,
    n_threads: int | None = None,
) -> Array:
    """Return the probabilities of the classes, S = softmax(X Wᵀ + b + offset).

    Parameters
    ----------
    X : array_like or scipy.sparse array or matrix, shape (N, D)
        Samples; see `loss_grad`.
    W : array_like, shape (K, D)
        Weights.
    b : array_like, shape (K,), optional
        Bias of each class.
    offset : array_like, shape (N, K), or (N,) for two classes, optional
        Added to the scores; see `loss_grad`.
    out : ndarray, shape (N, K), optional
        Where to put the result: C-contiguous, writeable, of the dtype of the computation, sharing no memory with the
        inputs.
    n_threads : int, optional
        Threads to use; see `loss_grad`.

    Returns
    -------
    ndarray, shape (N, K)
        The probabilities, in the dtype of the computation, float32 or float64 as in `loss_grad`; `out` itself if given.

    Raises
    ------
    ValueError, TypeError
        As in `loss_grad`; also if `out` does not fit. `out` is not written to then.

    Notes
    -----
    The formula is equation (1) of the derivation (docs/derivation.md), with the largest score of the row subtracted
    before the exponential. A row with NaN or +inf among its scores, or of nothing but -inf, is NaN.

    Examples
    --------
    >>> import numpy as np
    >>> predict_proba([[1.0, 2.0]], [[0.0, 0.0], [0.0, np.log(3) / 2]])
    array([[0.25, 0.75]])
    """
    if type(X) is not np.ndarray and is_tensor(X):
        return on_arrays(predict_proba, X, W, b, offset=offset, out=out, n_threads=n_threads)
    threads = _threads.effective(n_threads)
    kernels = dispatch.kernels
    samples, dtype, weights, bias, checked = check_scoring(X, W, b, out)
    N, K = samples.shape[0], weights.shape[0]
    S: Array = np.empty((N, K), dtype) if checked is None else checked
    if kernels is None:
        S[...] = _rounded(reference.predict_proba(X, W, b, offset=offset), dtype)
    else:
        posteriors(Rows(samples, offset=check_offset(offset, N, K)), weights, bias, threads, S)
    return S if out is None else out


def posteriors(rows: Rows, W: Array, b: Array | None, n_threads: int, out: Array | None = None) -> Array:
    """Return the probabilities of rows that have been checked, in the dtype of the computation, which W and b have."""
    kernels, X = dispatch.kernels, rows.X
    if kernels is None:
        return predict_proba(X, W, b, offset=rows.offset, out=out)
    S: Array = np.empty((len(rows), len(W)), W.dtype) if out is None else out
    if isinstance(X, CSR) and X.nnz * FEW_ENTRIES < X.shape[1]:
        X, W = X.narrowed(W)
        rows = Rows(X, offset=rows.offset)
    (N, D), K = X.shape, len(W)
    way = plan(N, D, K, S.dtype.itemsize, dispatch.isa, copied=rows.narrow, nnz=rows.stored)
    run(kernels.Probabilities(W, b, S), way, rows, n_threads)
    return S


def linear_cross_entropy(
    input: npt.ArrayLike,
    linear_weight: npt.ArrayLike,
    target: npt.ArrayLike,
    *,
    linear_bias: npt.ArrayLike | None = None,
    weight: npt.ArrayLike | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    grad: bool = True,
    grad_input: bool = False,
    n_threads: int | None = None,
) -> LinearCrossEntropy:
    """Return the cross-entropy of a linear layer's scores and its gradients.

    The arguments are those of `torch.nn.functional.linear_cross_entropy`. A row x of `input` has the scores z = W x + b
    of K classes. With log S = log_softmax(z), class weights c, label smoothing ε and targets Y, its loss is
    ``-Σ_k T_k log S_k`` with T_k = c_k ((1 - ε) Y_k + ε / K). The N x K scores are never stored: some rows of them
    exist at a time, and their residuals take the same memory.

    Parameters
    ----------
    input : array_like, shape (..., D)
        Samples; their dtype decides the dtype of the computation as in `loss_grad`.
    linear_weight : array_like, shape (K, D)
        The layer's weights W.
    target : array_like, shape (...) or (..., K)
        Labels in 0..K-1 of an integer dtype, or probabilities of a floating dtype, whose values are not checked.
    linear_bias : array_like, shape (K,), optional
        The layer's bias b.
    weight : array_like, shape (K,), optional
        Weights c of the classes.
    reduction, ignore_index, label_smoothing
        As in `cross_entropy`. With ``reduction="none"`` the gradients are those of the sum of the rows' losses.
    z_loss : float >= 0, default 0
        Adds ``z_loss lse²`` to a row's loss, where lse = log Σ_k exp(z_k): Liger-Kernel's ``lse_square_scale``. Class
        weights do not apply to it, and its mean is over the number of rows that are not ignored.
    softcap : float > 0, optional
        Replaces the scores by softcap tanh(z / softcap) before they are used.
    grad : bool, default True
        Whether to compute dW and db.
    grad_input : bool, default False
        Whether to compute dX.
    n_threads : int, optional
        As in `loss_grad`. Every number of threads gives the same bits.

    Returns
    -------
    LinearCrossEntropy
        Named tuple of loss (float, or an array of the rows' losses with ``reduction="none"``), dW (K, D), db (K,) and
        dX (..., D), of the dtype of the computation. Gradients that are not asked for are None, and so is db without a
        bias. If all rows are ignored, the mean is NaN and the gradients are 0.

    Raises
    ------
    ValueError, TypeError
        If a shape, a label, a dtype or an option is wrong; the message names it.

    Notes
    -----
    The gradient with respect to a row's scores is ``R_k = S_k Σ_j T_j - T_k + 2 z_loss lse S_k``, with a cap times
    1 - tanh²(z_k / softcap). Then dW = Rᵀ X, db = Σ_i R_i and dX = R W, each divided as the reduction says. The z-loss
    is that of PaLM (Chowdhery et al. 2023), the cap that of Gemma 2.

    Examples
    --------
    >>> import numpy as np
    >>> X, W = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), np.zeros((2, 2))
    >>> loss, dW, db, dX = linear_cross_entropy(X, W, [0, 1, -100], z_loss=0.1, grad_input=True)
    >>> round(loss, 6)  # log 2 + 0.1 (log 2)²
    0.741192
    >>> dX.shape, db
    ((3, 2), None)
    """
    if type(input) is not np.ndarray and is_tensor(input):
        return on_arrays(
            linear_cross_entropy,
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=weight,
            reduction=reduction,
            ignore_index=ignore_index,
            label_smoothing=label_smoothing,
            z_loss=z_loss,
            softcap=softcap,
            grad=grad,
            grad_input=grad_input,
            n_threads=n_threads,
        )
    threads = _threads.effective(n_threads)
    given = check_linear(
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
    )
    X, dtype, W, b, y, Y, kept, c, smoothing, z_scale, cap, shape = given
    (N, D), K = X.shape, W.shape[0]
    if dispatch.kernels is None:
        return _all_rounded(reference.linear_cross_entropy_of(given, reduction, grad, grad_input), dtype)
    w, m = label_weights(y, kept, c, N)
    n = N if kept is None else np.count_nonzero(kept)
    if not n:
        zeros = LinearCrossEntropy(None, np.zeros((K, D), dtype), np.zeros(K, dtype), np.zeros((*shape, D), dtype))
        loss = reduce_losses(np.zeros(N), 0.0, reduction, dtype, shape)
        return LinearCrossEntropy(
            loss,
            zeros.dW if grad else None,
            zeros.db if grad and b is not None else None,
            zeros.dX if grad_input else None,
        )
    # If a row's loss has only the term of its label, that class's weight is a weight of the row. Otherwise `spread` has
    # the weights of the terms.
    spread = c if y is None or smoothing > 0 or z_scale > 0 else None
    s = w if spread is None and w is not None else None if kept is None else kept.astype(np.float64)
    if reduction == "mean":
        z_scale *= m / n
    dW = np.empty((K, D), dtype) if grad else None
    db = np.empty(K, dtype) if grad and b is not None else None
    dX = np.empty((N, D), dtype) if grad_input else None
    losses = np.empty((N, 2))
    rows, second = Rows(X, y, Y, s), cap > 0 and (grad or grad_input)
    way = plan(N, D, K, dtype.itemsize, dispatch.isa, second=second, copied=grad_input or rows.narrow)
    divisor = m if reduction == "mean" else 1.0
    asked = dispatch.kernels.LossGrad(
        W, b, dW, db, divisor, smoothing, z_loss=z_scale, cap=cap, weight=spread, dX=dX, losses=losses
    )
    run(asked, way, rows, threads)
    weigh_losses(losses[:, 0], None if spread is not None else c, y, kept)
    loss = reduce_losses(losses[:, 0], m, reduction, dtype, shape)
    return LinearCrossEntropy(loss, dW, db, None if dX is None else dX.reshape(*shape, D))


def _rounded(exact: Array, dtype: np.dtype[Any]) -> Array:
    """Return the reference's float64 in `dtype`; numbers beyond its range become infinite without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return exact.astype(dtype)


def _all_rounded(exact: LinearCrossEntropy, dtype: np.dtype[Any]) -> LinearCrossEntropy:
    """Return the reference's results in `dtype`."""
    loss = exact.loss if type(exact.loss) is float else _rounded(exact.loss, dtype)
    return LinearCrossEntropy(loss, *(None if x is None else _rounded(x, dtype) for x in exact[1:]))
