"""The specification: softmax regression in plain NumPy float64, the derivation step by step.

::

    X (N, D) samples   W (K, D), b (K,) parameters   Y (N, K) targets   sample_weight (N,), m = its sum
    Z (N, K) scores    S (N, K) posterior            R (N, K) residual  i a sample, j a feature, k l z classes

Steps (1) to (9) are those of the derivation (docs/derivation.md), with its letters. Its w has a column for each class,
so its w_jz (feature j, class z) is W[z, j] here. One sample is x (D,) with target y (K,); its posterior is s (K,), a
row of S. Without sample weights each sample weighs 1, and m = N.

Values that are not finite have PyTorch's semantics, row by row. If a row of scores has a NaN or +inf, or nothing but
-inf, its posterior, its loss and its residual are NaN. If one score is -inf, S_ik = 0 and the residual is exactly
-Y_ik; the loss is +inf if that class is the sample's label. If targets are probabilities and Y_ik = 0 for that class,
the loss is NaN, which is 0 times log 0, while the gradient is finite. A sample weight of 0 does not hide such a row,
since 0 times NaN is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._inputs.cross_entropy import Linear, Scores, check_linear
from ._inputs.csr import CSR
from ._inputs.dtypes import F8
from ._inputs.validation import check_block, check_offset, check_problem, check_scoring

Array = npt.NDArray[Any]
quiet = np.errstate(all="ignore")


class LossGrad(NamedTuple):
    """The mean loss J and its gradient."""

    loss: float
    dW: Array  # (K, D): ∂J/∂W
    db: Array | None  # (K,): ∂J/∂b, None without a bias


class Binomial(NamedTuple):
    """The mean loss J of two classes with one row of coefficients, and its derivatives."""

    loss: float
    dw: Array  # (P,): ∂J/∂w, and where there is an intercept ∂J/∂b after it
    hessian: Array  # (P, P)


class LinearCrossEntropy(NamedTuple):
    """The loss and its gradients with respect to weights, bias and input; None where not asked for."""

    loss: Any  # float, or an array of the rows' shape with reduction="none"
    dW: Array | None  # (K, D)
    db: Array | None  # (K,)
    dX: Array | None  # input's shape


@quiet
def scores(X: Array, W: Array, b: Array | None = None, offset: Array | None = None) -> Array:
    """Return Z = X Wᵀ + b + offset, (N, K); an offset of shape (N, 1) is added to the last class's scores."""
    Z = np.asarray(X @ W.T)
    Z = Z if b is None else Z + b
    if offset is not None:
        Z = Z.copy()
        Z[:, Z.shape[1] - offset.shape[1] :] += float64(offset)
    return Z


@quiet
def softmax(Z: Array) -> Array:
    """(1) Return S_ik = P(y = k | x_i) = exp(Z_ik) / Σ_l exp(Z_il), with the row's maximum subtracted from Z first."""
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    S: Array = E / E.sum(axis=1, keepdims=True)
    return S


@quiet
def log_softmax(Z: Array) -> Array:
    """Return log S. `log1p` adds the largest term of the sum, which is 1, so that small terms keep their digits."""
    U = Z - Z.max(axis=1, keepdims=True)
    E = np.exp(U)
    E[np.arange(len(Z)), Z.argmax(axis=1)] -= 1
    log_S: Array = U - np.log1p(E.sum(axis=1, keepdims=True))
    return log_S


def one_hot(y: Array, K: int) -> Array:
    """Return Y (N, K) with Y_ik = 1 where k = y_i, else 0."""
    Y: Array = (y[:, np.newaxis] == np.arange(K)).astype(np.float64)
    return Y


def smooth(Y: Array, label_smoothing: float) -> Array:
    """Return the smoothed targets (1 - ε) Y + ε / K."""
    ε = label_smoothing
    smoothed: Array = (1 - ε) * Y + ε / Y.shape[1]
    return smoothed


@quiet
def loss(Z: Array, y: Array, sample_weight: Array | None = None, label_smoothing: float = 0.0) -> float:
    """(2) Return J = -1/m Σ_i Σ_k Y_ik log S_ik, the mean negative log likelihood, with each sample weighted.

    The targets y are labels (N,), or probabilities (N, K). With labels only the terms whose factor is not 0 are added:
    log S_i,y_i, and ε/K Σ_k log S_ik if ε is not 0.
    """
    log_S, ε = log_softmax(Z), label_smoothing
    sample_weight = np.ones(len(Z)) if sample_weight is None else sample_weight
    if y.ndim == 2:
        log_likelihood = (smooth(y, ε) * log_S).sum(axis=1)
    else:
        log_likelihood = log_S[np.arange(len(y)), y]
        if ε:
            log_likelihood = (1 - ε) * log_likelihood + ε * log_S.mean(axis=1)
    return float(-(sample_weight * log_likelihood).sum() / sample_weight.sum())


@quiet
def losses(Z: Array, y: Array) -> Array:
    """Return each sample's loss, -Σ_k Y_ik log S_ik, (N,)."""
    log_S = log_softmax(Z)
    each: Array = -(y * log_S).sum(axis=1) if y.ndim == 2 else -log_S[np.arange(len(y)), y]
    return each


def dposterior(x: Array, s: Array) -> Array:
    """(3) Return ∂s_k/∂w_jz, as [k, j, z]: x_j s_z (1 - s_z) if k = z, else -x_j s_k s_z."""
    cases = np.where(np.eye(len(s), dtype=bool), s * (1 - s), -np.outer(s, s))
    derivatives: Array = np.einsum("j,kz->kjz", x, cases)
    return derivatives


def dlog_likelihood(x: Array, y: Array, s: Array) -> Array:
    """(4) Return ∂/∂w_jz Σ_k y_k log s_k, as [j, z], from its definition Σ_k y_k / s_k ∂s_k/∂w_jz."""
    derivatives: Array = np.einsum("k,kjz->jz", y / s, dposterior(x, s))
    return derivatives


def dlog_posterior(x: Array, s: Array) -> Array:
    """(4) Return ∂log s_k/∂w_jz = x_j (δ_kz - s_z), as [k, j, z], which is (3) divided by s_k."""
    δ = np.eye(len(s))
    derivatives: Array = np.einsum("j,kz->kjz", x, δ - s)
    return derivatives


@quiet
def residual(S: Array, Y: Array) -> Array:
    """(4) Return R = S Σ_k Y_ik - Y, which is S - Y where the targets sum to one."""
    R: Array = S * Y.sum(axis=1, keepdims=True) - Y
    return R


def dloss_component(X: Array, R: Array, sample_weight: Array, j: int, z: int) -> float:
    """(5) Return ∂J/∂w_jz = -1/m Σ_i x_ij (Y_iz - S_iz), with R = S - Y and each sample weighted."""
    return float(sum(sample_weight[i] * X[i, j] * R[i, z] for i in range(len(X))) / sum(sample_weight))


@quiet
def dloss(X: Array, R: Array, sample_weight: Array) -> Array:
    """(6) Return ∂J/∂W = -1/m (Y - S)ᵀ X, with R = S - Y and each row weighted; with ones (N, 1) for X it is ∂J/∂b."""
    weighed = sample_weight[:, np.newaxis] * R
    dW: Array = (X.T @ weighed).T if hasattr(X, "tocsr") else weighed.T @ X  # SciPy's X must be the left factor
    dW = dW / sample_weight.sum()
    return dW


def penalty(W: Array, l2: float) -> tuple[float, Array]:
    """(7) Return l2/2 Σ_jz w_jz² and its gradient l2 W, which are added to the loss and its gradient."""
    return l2 / 2 * float((W**2).sum()), l2 * W


def sizes(W: Array, grouped: bool = False) -> Array:
    """Return |w_jz| of each weight (K, D); or, if grouped, the norm of each feature's weights in all classes (D,)."""
    found: Array = np.sqrt((W**2).sum(axis=0)) if grouped else np.abs(W)
    return found


def lasso(W: Array, l1: float, weights: Array, grouped: bool = False) -> float:
    """Return l1 Σ_j v_j Σ_z |w_jz|; or, if grouped, l1 Σ_j v_j (Σ_z w_jz²)^½.

    The minimum of the grouped one has a feature's weights 0 in all classes or in none.
    """
    return l1 * float((weights * sizes(W, grouped)).sum())


@quiet
def lasso_prox(W: Array, l1: float, weights: Array, grouped: bool = False) -> Array:
    """Return the V that minimises ½ Σ_jz (V_zj - W_zj)² + lasso(V): each size is smaller by l1 v_j, or 0."""
    shrunk = np.maximum(sizes(W, grouped) - l1 * weights, 0)
    V: Array = np.where(shrunk > 0, shrunk / sizes(W, grouped), 0) * W
    return V


@quiet
def lasso_violations(W: Array, dW: Array, l1: float, weights: Array, grouped: bool = False) -> Array:
    """Return how far W is from a minimum of a smooth function with gradient dW, plus lasso(W); 0 at a minimum.

    At a minimum 0 is a subgradient. So where a weight is not 0, the derivative of the sum is 0; where it is 0, the size
    of dW is at most l1 v_j. The result is by how much each of these is violated.
    """
    whole = np.abs(dW + l1 * weights * W / sizes(W, grouped))
    if grouped:
        whole = whole.max(axis=0)
    return np.where(sizes(W, grouped) > 0, whole, np.maximum(sizes(dW, grouped) - l1 * weights, 0))


@quiet
def duality_gap(
    X: Array,
    Y: Array,
    W: Array,
    b: Array | None,
    sample_weight: Array,
    l2: float,
    l1: float,
    grouped: bool = False,
    offset: Array | None = None,
) -> float:
    """Return how far J(W, b) + l2/2 Σ w_jz² + lasso(W), of labels, is above its minimum at most.

    Any probabilities P give a lower bound of the minimum: their mean entropy, plus the inner product of P - Y and the
    offset over m, less the conjugate of the penalty at G = (P - Y)ᵀ X / m. With b the residuals P - Y have to sum to
    zero over the samples, so P is the posterior, mixed with constant probabilities as far as that requires. The
    conjugate of the l1 part alone is infinite beyond l1. But at the minimum l1 Σ |w_jz| is at most the value here, and
    over those W its conjugate is finite. Without a penalty the result is infinite.
    """
    m, share = sample_weight.sum(), sample_weight / sample_weight.sum()
    Z = scores(X, W, b, offset)
    value = loss(Z, Y, sample_weight) + penalty(W, l2)[0] + lasso(W, l1, np.ones(X.shape[1]), grouped)
    P = softmax(Z)
    entropy = -float(share @ np.where(P > 0, P * np.log(P), 0).sum(axis=1))
    if b is not None:
        mean, wanted = share @ P, share @ Y
        t = max(0, *((mean - wanted) / mean))
        if t > 0:
            q = (wanted - (1 - t) * mean) / t
            entropy = (1 - t) * entropy - t * float(np.where(q > 0, q * np.log(q), 0).sum())
            P = (1 - t) * P + t * q
    if offset is not None:
        entropy += float(share @ ((P - Y) * offset).sum(axis=1))
    excess = np.maximum(sizes((sample_weight[:, np.newaxis] * (P - Y)).T @ X / m, grouped) - l1, 0)
    conjugate = [float((excess**2).sum()) / (2 * l2)] if l2 else []
    conjugate += [value / l1 * float(excess.max())] if l1 else []
    return max(value - entropy + min(conjugate, default=np.inf), 0.0)


@quiet
def hessian(X: Array, S: Array, sample_weight: Array) -> Array:
    """(8) Return ∂²J/∂w_jz∂w_ql = 1/m Σ_i S_iz (δ_zl - S_il) x_ij x_iq, as [z, j, l, q], for labels."""
    curvature = S[:, :, np.newaxis] * (np.eye(S.shape[1]) - S[:, np.newaxis, :])
    share = sample_weight / sample_weight.sum()
    blocks: Array = np.einsum("i,izl,ij,iq->zjlq", share, curvature, X, X, optimize=True)
    return blocks


@quiet
def hessian_product(X: Array, S: Array, V: Array, c: Array, sample_weight: Array, mass: Array) -> tuple[Array, Array]:
    """(8) Return the Hessian times a direction (V, c) of (W, b): 1/m Aᵀ X and 1/m Σ_i A_i, with each row weighted.

    A = S ∘ (Q - Σ_k S_ik Q_ik) with Q = X Vᵀ + c, and each row times `mass`, which is Σ_k Y_ik, 1 for labels.
    """
    Q = scores(X, V, c)
    A = S * (Q - (S * Q).sum(axis=1, keepdims=True)) * mass[:, np.newaxis]
    return dloss(X, A, sample_weight), dloss(np.ones((len(A), 1)), A, sample_weight)[:, 0]


@quiet
def binomial(
    X: Array,
    y: Array,
    w: Array,
    b: float | None = None,
    sample_weight: Array | None = None,
    offset: Array | None = None,
) -> Binomial:
    """(9) Return loss, gradient and Hessian of two classes with one row of coefficients.

    Class 0 has the score 0, and class 1 the score z = x w + b + offset. Both posteriors are computed from
    e = exp(-|z|), so that the smaller one keeps its digits. The residual of z is R = S_1 Y_0 - S_0 Y_1, which is S_1 -
    Y_1 where the targets, labels or Y (N, 2), sum to one. The Hessian is 1/m Σ_i s_i S_i0 S_i1 (Y_i0 + Y_i1) x_i x_iᵀ.
    """
    Y = y if y.ndim == 2 else one_hot(y, 2)
    s = np.ones(len(Y)) if sample_weight is None else sample_weight
    X = getattr(X, "toarray", lambda: X)()
    z = X @ w + (0.0 if b is None else b) + (0.0 if offset is None else offset)
    z = np.where(z == np.inf, np.nan, z)  # a softmax with a score of +inf computes inf - inf, which is NaN
    e = np.exp(-np.abs(z))
    S_0, S_1 = np.where(z > 0, e, 1) / (1 + e), np.where(z > 0, 1, e) / (1 + e)
    above, below = np.maximum(z, 0), np.maximum(-z, 0)
    losses = Y[:, 0] * above + Y[:, 1] * below if y.ndim == 2 else np.where(y == 1, below, above)
    losses = losses + Y.sum(axis=1) * np.log1p(e)
    R, curvature = S_1 * Y[:, 0] - S_0 * Y[:, 1], S_0 * S_1 * Y.sum(axis=1)
    X, share = X if b is None else np.column_stack([X, np.ones(len(X))]), s / s.sum()
    return Binomial(float(share @ losses), X.T @ (share * R), X.T @ ((share * curvature)[:, np.newaxis] * X))


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
    """Return the mean softmax loss and its gradient, as `softmax_ext.loss_grad` does, in float64 whatever X is.

    Parameters
    ----------
    X : (N, D) array of a real dtype
    y : (N,) integer labels in 0..K-1, or (N, K) probabilities of a real dtype
        Probabilities need not sum to one.
    W : (K, D) array, b : (K,) array or None
        First rounded to the dtype in which `softmax_ext.loss_grad` computes: float32 if X is float32, float16,
        bfloat16, int8 or uint8, else float64.
    sample_weight : (N,) array or None
        Finite, not negative, and not all zero.
    class_weight : (K,) array, dict of label to weight (others weigh 1), "balanced" or None
        Multiplies the sample weights; for integer labels only.
    label_smoothing : float in [0, 1]
        ε: the targets are (1 - ε) Y + ε / K.
    offset : (N, K) array, or (N,) for class 1 of two, or None
        Added to the scores.
    n_threads : int or None
        Ignored.

    Returns
    -------
    LossGrad
        Named tuple of loss (float), dW (K, D) and db (K,) or None, in float64.

    Raises
    ------
    ValueError, TypeError
        As in `softmax_ext.loss_grad`; the message names the argument, the wrong value and its index.

    Examples
    --------
    >>> import numpy as np
    >>> J, dW, db = loss_grad([[1.0, 2.0]], [0], np.zeros((2, 2)), np.zeros(2))
    >>> round(J, 6), dW.tolist(), db.tolist()
    (0.693147, [[-0.5, -1.0], [0.5, 1.0]], [-0.5, 0.5])
    """
    given = check_problem(X, y, W, b, sample_weight, class_weight, label_smoothing)
    X = float64(given.X)
    N = X.shape[0]
    s = np.ones(N) if given.s is None else given.s
    if given.y is not None:
        target, Y = given.y, one_hot(given.y, len(given.W))
    else:
        target = Y = float64(given.Y)
        check_block(Y, start=0)
    Z = scores(X, float64(given.W), None if b is None else float64(given.b), check_offset(offset, N, len(given.W)))
    R = residual(softmax(Z), smooth(Y, given.smoothing))
    J = loss(Z, target, s, given.smoothing)
    return LossGrad(J, dloss(X, R, s), None if b is None else dloss(np.ones((N, 1)), R, s)[:, 0])


def predict_proba(
    X: Any, W: npt.ArrayLike, b: npt.ArrayLike | None = None, *, offset: npt.ArrayLike | None = None
) -> Array:
    """Return the posterior S (N, K) of every row of X, as `softmax_ext.predict_proba` does, in float64 whatever X is.

    Examples
    --------
    >>> import numpy as np
    >>> predict_proba([[1.0, 2.0]], np.zeros((2, 2))).tolist()
    [[0.5, 0.5]]
    """
    given = check_scoring(X, W, b, out=None)
    added = check_offset(offset, len(given.X), len(given.W))
    return softmax(scores(float64(given.X), float64(given.W), None if given.b is None else float64(given.b), added))


@quiet
def cross_entropy(given: Scores, class_weight: Array | None = None) -> tuple[Array, Array]:
    """Return the losses of all rows of scores, and their residuals, an array like the scores.

    As in PyTorch, T_ik = c_k ((1 - ε) Y_ik + ε / K), loss_i = -Σ_k T_ik log S_ik and R_i = S_i Σ_k T_ik - T_i. With
    labels and ε = 0 only the label's term is added, since other terms are 0 times what may be infinite.
    """
    moved = np.moveaxis(float64(given.Z), given.axis, -1)
    Z = moved.reshape(-1, moved.shape[-1])
    if given.y is not None:
        Y = one_hot(given.y, Z.shape[1])
    else:
        Y = np.moveaxis(float64(given.Y), given.axis, -1).reshape(Z.shape)
    T = smooth(Y, given.smoothing) if given.smoothing else Y
    T = T if class_weight is None else T * float64(class_weight)
    terms = T * log_softmax(Z)
    if given.y is not None and not given.smoothing:
        terms = terms[np.arange(len(Z)), given.y][:, np.newaxis]
    return -terms.sum(axis=1), np.moveaxis(residual(softmax(Z), T).reshape(moved.shape), -1, given.axis)


def scaled_by_one(Z: Array, y: Array, s: Array | None, beta: float) -> tuple[float, float, float]:
    """Return the loss of scores β Z, and its first and second derivative by β.

    With the posterior S of β z and E f = Σ_k S_k f_k, a row has the derivatives E z - z_y and E z² - (E z)².
    """
    S, rows = softmax(beta * Z), np.arange(len(Z))
    weights = np.ones(len(Z)) if s is None else s
    mean = (S * Z).sum(axis=1, keepdims=True)
    slope = np.average(mean[:, 0] - Z[rows, y], weights=weights)
    curvature = np.average((S * (Z - mean) ** 2).sum(axis=1), weights=weights)
    return loss(beta * Z, y, s), float(slope), float(curvature)


def scaled_by_class(Z: Array, y: Array, s: Array | None, a: Array, b: Array) -> tuple[float, Array, Array]:
    """Return the loss of scores a_k z_k + b_k, and its derivatives by a and b, (K,) each: means of R_k z_k and R_k."""
    scaled, share = a * Z + b, (np.ones(len(Z)) if s is None else s)[:, np.newaxis]
    R = residual(softmax(scaled), one_hot(y, Z.shape[1])) * (share / share.sum())
    return loss(scaled, y, s), (R * Z).sum(axis=0), R.sum(axis=0)


@quiet
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
    """Return what `softmax_ext.linear_cross_entropy` returns, in float64 whatever `input` is.

    With Z = X Wᵀ + b, which a cap replaces by softcap tanh(Z / softcap), lse_i = log Σ_k exp Z_ik, and the targets T of
    `cross_entropy`, a row's loss is -Σ_k T_ik log S_ik + z_loss lse_i². The mean divides the sum of the first terms by
    Σ_i c_yi, or without class weights and for probabilities by the number of rows. It divides the sum of the second
    terms by the number of rows, as Liger-Kernel does. Only rows that are not ignored count.
    """
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
    return linear_cross_entropy_of(given, reduction, grad, grad_input)


@quiet
def linear_cross_entropy_of(given: Linear, reduction: str, grad: bool, grad_input: bool) -> LinearCrossEntropy:
    """Return what `linear_cross_entropy` does, from arguments that are checked."""
    X, W = float64(given.X), float64(given.W)
    Z = scores(X, W, None if given.b is None else float64(given.b))
    tanh = np.tanh(Z / given.cap) if given.cap else np.zeros_like(Z)
    Z = given.cap * tanh if given.cap else Z
    entropy, R = cross_entropy(Scores(Z, F8, 1, given.y, given.Y, None, None, given.smoothing), given.c)
    S, kept = softmax(Z), np.ones(len(X), bool) if given.kept is None else given.kept
    lse = (Z - log_softmax(Z))[np.arange(len(Z)), Z.argmax(axis=1)]
    n = m = np.float64(np.count_nonzero(kept))
    if given.c is not None and given.y is not None:
        m = np.float64(float64(given.c)[given.y[kept]].sum())
    m, n = (m, n) if reduction == "mean" else (np.float64(1), np.float64(1))
    losses = entropy / m + given.z_loss * lse**2 / n if given.z_loss else entropy / m
    R = R / m + (2 * given.z_loss * lse / n)[:, np.newaxis] * S if given.z_loss else R / m
    R = R * (1 - tanh**2) * kept[:, np.newaxis] if kept.any() else np.zeros_like(R)
    losses = np.where(kept, losses, 0)
    loss: Any = losses.reshape(given.shape) if reduction == "none" else float(losses.sum())
    if reduction == "mean" and not kept.any():
        loss = np.nan
    return LinearCrossEntropy(
        loss,
        R.T @ X if grad else None,
        R.sum(axis=0) if grad and given.b is not None else None,
        (R @ W).reshape(*given.shape, W.shape[1]) if grad_input else None,
    )


@quiet
def float64(x: Any) -> Any:
    """Return an array in float64; CSR rows become SciPy's array of float64."""
    return x.scipy(np.float64) if isinstance(x, CSR) else np.asarray(x, np.float64)
