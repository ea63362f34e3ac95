"""How `LogisticRegression.inference` finds the minimum of the objective to the last digits, and the covariance there.

The objective may be of any kind: of an array, of sparse rows, or a sum over chunks or over a cluster's partitions. With
more than two classes the likelihood does not change when a vector is added to all rows of W. So the rows are made to
sum to zero, as those of a fit do: W = Q U, where Q (K, K - 1) has orthonormal columns that sum to 0, and the data
determine U.

    no penalty    covariance (m H)⁻¹, with the mean information H
    L2            covariance (m (H + P))⁻¹, with the penalty's Hessian P: the penalty is a normal prior, and this is the
                  inverse curvature of the log-posterior at its mode (Laplace's approximation)
    HC0           covariance (m H)⁻¹ (Σ s g gᵀ) (m H)⁻¹ without a penalty, with the samples' scores g (White's sandwich)
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.sparse

from .._core.cholesky import Factor
from .._fit.stream import RULES
from .._fit.warning import warn
from .._inputs.csr import CSR
from .._inputs.dtypes import TINY
from .._inputs.rows import Rows
from .._optim.intercepts import of_intercepts
from .._optim.lbfgs import lbfgs
from ._identified import PART, Separation, collinear, null_space, separation, without
from ._likelihood import Likelihood
from ._maximum import newton
from ._result import Inference

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# If less than this fraction of the information near the start is left in some direction, the likelihood is taken to
# grow without end along it.
EMPTY = 1e-7

TRUST = (
    "Covariance: inverse of the penalised information, the posterior of a normal prior with its mode at the estimate. "
    "Estimates are shrunk towards 0, and p values are not to be trusted; C=np.inf has none of this."
)
PLAIN = "Covariance: inverse of the information."
ROBUST = "Covariance: a sandwich of the samples' squared scores between two inverses of the information (HC0)."
COV_TYPES = ("nonrobust", "HC0")


class _Determined:
    """An objective as a function of the determined parameters U, flattened row by row."""

    def __init__(self, objective: Any) -> None:
        self.objective, self.parameters = objective, objective.parameters
        self.names: list[str] = []  # the columns' names if collinear columns are to be refused, else empty
        self.first = np.empty((0, 0))  # the first Hessian that is computed, near the start
        K = self.parameters.count
        self.Q = np.ones((1, 1)) if K == 1 else _contrasts(K)
        self.order = self.parameters.by_class(np.arange(self.parameters.size), np.intp).ravel()

    @property
    def shape(self) -> tuple[int, int]:
        return self.Q.shape[1], self.parameters.each

    def whole(self, u: Vector) -> Vector:
        """Return the objective's own vector w for U."""
        return np.asarray(self.parameters.flat(self.Q @ u.reshape(self.shape)), np.float64)

    def from_whole(self, w: Vector) -> Vector:
        """Return Qᵀ W as a vector: U if the rows of W sum to zero; a gradient for W becomes one for U."""
        return np.asarray((self.Q.T @ self.parameters.by_class(w, np.float64)).ravel())

    def value_and_grad(self, u: Vector) -> tuple[float, Vector]:
        value, grad = self.objective.value_and_grad(self.whole(u))
        return value, self.from_whole(grad)

    def hessian(self, u: Vector) -> Vector:
        H = self.reduced(self.objective.hessian(self.whole(u)))
        if not len(self.first):  # the first Hessian is the one to compare with: separation takes information away later
            self.first = H
            if self.names:
                _refuse_collinear(H.reshape(2 * self.shape), self.names)
        return H

    def reduced(self, H: Vector) -> Vector:
        """Return a Hessian for w as one for U."""
        K, each = len(self.Q), self.parameters.each
        by_class = H[np.ix_(self.order, self.order)].reshape(K, each, K, each)
        return np.asarray(np.einsum("ka,kelf,lb->aebf", self.Q, by_class, self.Q, optimize=True)).reshape(
            2 * (self.Q.shape[1] * each,)
        )

    def expanded(self, C: Vector) -> Vector:
        """Return a covariance of U as one of W, flattened row by row."""
        (a, each), K = self.shape, len(self.Q)
        parts = C.reshape(a, each, a, each)
        return np.asarray(np.einsum("ka,aebf,lb->kelf", self.Q, parts, self.Q, optimize=True)).reshape(2 * (K * each,))


def _contrasts(K: int) -> Vector:
    """Return Helmert's contrasts (K, K - 1): orthonormal columns that sum to 0."""
    Q = np.zeros((K, K - 1))
    for j in range(1, K):
        Q[:j, j - 1], Q[j, j - 1] = 1, -j
        Q[:, j - 1] /= math.sqrt(j * (j + 1))
    return Q


def inferred(model: Any, X: Any, y: Any, sample_weight: Any, offset: Any, cov_type: str) -> Inference:
    """Return the inference of an estimator, at the minimum of the objective that its fit to these data would have."""
    if cov_type not in COV_TYPES:
        raise ValueError(f"cov_type must be one of {', '.join(map(repr, COV_TYPES))}, got {cov_type!r}")
    from sklearn.base import clone

    one, found = clone(model), []
    one.warm_start = False
    if one.solver in RULES:  # mini-batches would only get near the same minimum
        one.solver = "lbfgs"

    def instead(objective: Any, *_: Any) -> Any:
        found.append(_infer(one, objective, cov_type == "HC0"))
        return one

    one._minimise = instead  # a fit to any kind of data ends with this call, which gets the objective
    one.fit(X, y, sample_weight, offset)
    return found[0]


def _infer(model: Any, objective: Any, robust: bool) -> Inference:
    f, m = _Determined(objective), float(objective.m if hasattr(objective, "m") else objective.problem.m)
    if getattr(objective.penalty, "l1", 0):
        raise ValueError(
            "inference is for C=np.inf and the L2 penalty: an L1 penalty has chosen the coefficients, and standard "
            "errors that do not know of the choice are wrong; fit the chosen columns with C=np.inf to other samples"
        )
    parameters, classes = objective.parameters, model.classes_
    names = [str(name) for name in getattr(model, "feature_names_in_", [])] or [f"x{d}" for d in range(parameters.D)]
    columns = [*names, *["intercept"] * parameters.intercept]
    P = np.zeros((parameters.size, parameters.size))
    objective.penalty.add_hessian(parameters, P)
    penalised = bool(P.any())
    if penalised and robust:
        raise ValueError(
            "cov_type='HC0' is for C=np.inf: with a penalty the scores of the samples do not sum to zero at the "
            "estimate"
        )
    eps = float(np.finfo(objective.dtype).eps)
    start = lbfgs(objective, np.zeros(parameters.size), tol=1e-3, max_iter=15).w
    look: Any = None
    rows = getattr(objective, "_rows", None)  # None if the data are in pieces: separation is then not looked for
    if rows is not None and not penalised:
        likelihood: list[Likelihood] = []

        def looking(u: Vector, step: Vector, **k: Any) -> Separation | None:
            if not likelihood:
                likelihood.append(_likelihood(f, rows))
            return separation(likelihood[0], _beside_first(f, u), _beside_first(f, step), **k)

        look = looking
    f.names = [] if penalised else columns
    found = newton(f, f.from_whole(start), tol=1e-8, eps=eps, divergence=look)
    w, H, apart = f.whole(found.theta), found.hessian, found.separated
    if apart is not None:
        warn(apart.say([str(c) for c in classes], columns), _convergence_warning())
        H = _information_of(f, apart.hessian)
    elif not penalised and (direction := _emptied(f, H)) is not None:
        text = _not_found(f, direction, [str(c) for c in classes], columns)
        warn(text, _convergence_warning())
    elif not found.converged:
        warn(
            f"The fit has not converged after {found.n_iter} Newton iterations: the largest component of the gradient "
            f"is {np.abs(found.grad).max():.1e}. Scale X, as sklearn.preprocessing.StandardScaler does",
            _convergence_warning(),
        )
    if penalised:
        warn(TRUST)
    loss = found.value - 0.5 * float(w @ P @ w)
    free = H.shape[0] if not penalised else float(np.trace(np.linalg.solve(H, H - f.reduced(P))))
    return Inference(
        estimate=parameters.by_class(w, np.float64),
        covariance=_covariance(f, H, f.reduced(objective.squared_scores(w)) if robust else None) / m,
        rows=classes[1:] if parameters.binary else classes,
        columns=tuple(columns),
        base=classes[0] if parameters.binary else None,
        log_likelihood=-m * loss,
        null_log_likelihood=_null(objective, m),
        n_samples=m,
        df=float(free),
        note=TRUST if penalised else ROBUST if robust else PLAIN,
        penalised=penalised,
        separation=apart,
    )


def _covariance(f: _Determined, H: Vector, middle: Vector | None) -> Vector:
    """Return the inverse of a Hessian for U as a covariance of W, infinite for undetermined coefficients.

    With a middle M it is the sandwich H⁻¹ M H⁻¹.
    """

    def of(inverse: Array) -> Vector:
        found = inverse if middle is None else inverse @ middle @ inverse
        return f.expanded((found + found.T) / 2)

    if Factor(H).sound:
        return of(np.linalg.inv(H))
    scale, null, inverse = null_space(H)
    found = of(inverse)
    part = np.einsum("ka,aer->ker", f.Q, (scale[:, np.newaxis] * null).reshape(*f.shape, -1))
    part = np.abs(part).reshape(len(found), -1).max(axis=1, initial=0.0)
    lost = part > PART * max(part.max(), TINY)
    return without(found, lost)


def _emptied(f: _Determined, H: Vector) -> Vector | None:
    """Return a direction in which less than EMPTY is left of the first Hessian's information; None if there is none."""
    from scipy.linalg import eigh

    if not (np.isfinite(H).all() and Factor(f.first).sound):
        return None
    values, vectors = eigh(H, f.first, subset_by_index=[0, 0])
    return np.asarray(vectors[:, 0]) if values[0] < EMPTY else None


def _not_found(f: _Determined, direction: Vector, classes: list[str], columns: list[str]) -> str:
    """Return a warning that the likelihood seems to grow without end along a direction, or against it."""
    V = f.Q @ direction.reshape(f.shape)
    V /= V.flat[np.abs(V).argmax()]
    named = classes[1:] if len(V) == 1 else classes
    along = ", ".join(f"{V[k, d]:+.2g} {columns[d]} for {named[k]}" for k, d in np.argwhere(np.abs(V) > 0.1)[:8])
    return (
        f"No maximum was found: there is no information left along {along}. Classes are probably separated there: "
        "leave such a column out, join classes, or use a penalty, C < inf. Standard errors of what has a part in it "
        "mean nothing"
    )


def _convergence_warning() -> type[Warning]:
    from sklearn.exceptions import ConvergenceWarning

    kind: type[Warning] = ConvergenceWarning
    return kind


def _null(objective: Any, m: float) -> float:
    """Return the log-likelihood of intercepts alone, or, without intercepts, of coefficients of 0.

    Without an offset it depends only on the fractions of the classes, and the intercepts' gradient at 0 is 1 / K less
    these fractions.
    """
    parameters = objective.parameters
    if objective.offset is not None:  # the posteriors differ from sample to sample, so that intercepts must be fitted
        return -m * float(objective.value(of_intercepts(objective)))
    value, grad = objective.value_and_grad(np.zeros(parameters.size))
    db = parameters.intercepts(grad)
    if db is None:
        return -m * float(value)
    part = 1 / parameters.K - db
    part = np.concatenate([1 - part, part]) if parameters.binary else part
    part = part[part > 0]
    return m * float(part @ np.log(part))


def _refuse_collinear(H: Vector, columns: list[str]) -> None:
    """Raise ValueError if columns are linear combinations of others; H is for U, (rows, columns, rows, columns)."""
    gram = np.einsum("aeaf->ef", H)
    if Factor(gram).sound:
        return
    for *others, column in collinear(gram):
        made = f"made of {', '.join(repr(columns[k]) for k in others)}" if others else "0 throughout"
        raise ValueError(
            f"X is collinear: column {columns[column]!r} is {made}, so that their coefficients are not determined: "
            "leave one of them out, or use a penalty, C < inf"
        )


def _likelihood(f: _Determined, rows: Rows) -> Likelihood:
    """Return the same data's likelihood whose first class has no coefficients, in which separation is looked for."""
    N, X = len(rows), rows.X
    X = X.scipy(np.float64) if isinstance(X, CSR) else X
    if scipy.sparse.issparse(X):
        Z = scipy.sparse.hstack([X, np.ones((N, 1))], "csr") if f.parameters.intercept else X
    else:
        Z = np.column_stack([X, np.ones(N)]) if f.parameters.intercept else X
    offset = rows.offset
    if offset is not None and offset.shape[1] > 1:
        offset = offset[:, 1:] - offset[:, :1]
    return Likelihood(Z.astype(np.float64), rows.targets, f.parameters.K, weights=rows.s, offset=offset)


def _beside_first(f: _Determined, u: Vector) -> Vector:
    """Return the coefficients of all classes but the first, less those of the first, flattened row by row."""
    G = f.Q @ u.reshape(f.shape)
    return np.asarray((G if len(G) == 1 else G[1:] - G[0]).ravel())


def _information_of(f: _Determined, H: Vector) -> Vector:
    """Return a Hessian for the coefficients of `_beside_first` as one for U."""
    if len(f.Q) == 1:
        return H
    A, (a, each) = f.Q[1:] - f.Q[0], f.shape
    parts = H.reshape(a, each, a, each)
    return np.asarray(np.einsum("ka,kelf,lb->aebf", A, parts, A, optimize=True)).reshape(2 * (a * each,))
