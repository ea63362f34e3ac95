"""What the estimators need to know of scikit-learn: its version, solvers, parameters and warnings."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from numbers import Integral, Real
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import Interval, StrOptions

from .._objective.penalty import Penalty
from .._optim.descent import Solution
from .warning import warn

try:  # scikit-learn has callbacks since 1.9
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """An empty stand-in, since this scikit-learn has no `set_callbacks`."""


__all__ = [
    "CONSTRAINTS",
    "SOLVERS",
    "VERSION",
    "CallbackSupportMixin",
    "Strength",
    "check_once",
    "check_solver",
    "deprecated",
    "strength",
    "warn_of_the_end",
]

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
PENALTY_IS_DEPRECATED = VERSION >= (1, 8)  # since the same version, n_jobs has no effect

# For each of scikit-learn's solvers, the one that runs here, and the first words of scikit-learn's warning that it has
# not converged: programs filter warnings by them.
SOLVERS = {
    "lbfgs": ("auto", "lbfgs failed to converge after {n} iteration(s)"),
    "liblinear": ("auto", "Liblinear failed to converge, increase the number of iterations."),
    "newton-cg": ("newton", "newton-cg failed to converge after {n} iteration(s)"),
    "newton-cholesky": ("newton", "Newton solver did not converge after {n} iterations"),
    "sag": ("auto", "The max_iter was reached which means the coef_ did not converge"),
    "saga": ("auto", "The max_iter was reached which means the coef_ did not converge"),
}

# The values that scikit-learn's validation allows for the parameters that all estimators share.
CONSTRAINTS: dict[str, Any] = {
    "dual": ["boolean"],
    "tol": [Interval(Real, 0, None, closed="left")],
    "fit_intercept": ["boolean"],
    "intercept_scaling": [Interval(Real, 0, None, closed="neither")],
    "class_weight": [dict, StrOptions({"balanced"}), None],
    "random_state": ["random_state"],
    "max_iter": [Interval(Integral, 0, None, closed="left")],
    "verbose": ["verbose"],
    "n_jobs": [None, Integral],
    "n_threads": [None, Integral],
    "callback": [None, callable],
}

# Sets of parameters that have been found valid. Only values of these types are kept: others may change, or be large.
PLAIN, MOST_VALID = frozenset((str, int, bool, float, np.float64, type(None))), 1024
_valid: set[Any] = set()


def check_once(estimator: Any, check: Callable[[], object]) -> None:
    """Check an estimator's parameters, unless another one of its class has passed with the same values.

    A second check would find nothing new, and scikit-learn's takes as long as the passes of a small fit (docs/notes.md,
    "scikit-learn's checks of small fits").
    """
    kind = type(estimator)
    values = _parameters_of(kind)(estimator)  # type: ignore[arg-type]
    kinds = tuple(map(type, values))
    if not PLAIN.issuperset(kinds):
        check()
    elif (key := (kind, kinds, values)) not in _valid:
        check()
        if len(_valid) < MOST_VALID:
            _valid.add(key)


@lru_cache(maxsize=64)
def _parameters_of(kind: type) -> Callable[[object], tuple[Any, ...]]:
    """Return a function that returns the parameters of an estimator of this class."""
    return attrgetter(*kind._parameter_constraints)  # type: ignore[attr-defined]


class Strength(NamedTuple):
    """How strong a penalty is, in scikit-learn's terms: C, which is infinite for none, and the fraction that is L1."""

    C: float
    l1_ratio: float = 0.0

    def penalty(self, m: float, *, grouped: bool = False, weights: Any = None) -> Penalty:
        """Return the penalty that is added to a mean loss, where m is the sum of the samples' weights."""
        whole = 1 / (self.C * m)
        l1 = self.l1_ratio * whole
        return Penalty(whole - l1 if self.l1_ratio < 1 else 0.0, l1, grouped=grouped, weights=weights)


def strength(
    C: float, *, penalty: str | None, l1_ratio: float | None, solver: str, dual: bool, n_jobs: int | None
) -> Strength:
    """Return the strength of the penalty that the parameters ask for; warn and raise as scikit-learn does."""
    C, given = float(C), penalty
    if penalty == "deprecated":
        if l1_ratio is None and PENALTY_IS_DEPRECATED:
            deprecated("'l1_ratio=None' was deprecated in version 1.8 of scikit-learn: use l1_ratio=0")
        penalty = ("l1" if l1_ratio == 1 else "elasticnet") if l1_ratio else "l2"
        if C == np.inf and l1_ratio:
            penalty = None
    else:
        if PENALTY_IS_DEPRECATED:
            deprecated(
                "'penalty' was deprecated in version 1.8 of scikit-learn: leave it out, and use l1_ratio=0 instead of "
                "penalty='l2', l1_ratio=1 instead of 'l1', one between them instead of 'elasticnet', and C=np.inf "
                "instead of penalty=None"
            )
    if n_jobs is not None and PENALTY_IS_DEPRECATED:
        deprecated(f"'n_jobs' has no effect since version 1.8 of scikit-learn, got {n_jobs}: use n_threads")
    check_solver(solver, penalty, dual)
    if penalty != "elasticnet" and l1_ratio is not None and 0 < l1_ratio < 1:
        warn(f"l1_ratio parameter is only used when penalty is 'elasticnet'. Got (penalty={penalty})")
    if (given == "l2" and l1_ratio) or (given == "l1" and l1_ratio != 1):
        warn(f"Inconsistent values: penalty={given} with l1_ratio={l1_ratio}, which is ignored: leave out penalty")
    if penalty == "elasticnet" and l1_ratio is None:
        raise ValueError("l1_ratio must be specified when penalty is elasticnet: a number between 0 and 1.")
    if penalty is None and C != np.inf:
        if C != 1:
            warn("Setting penalty=None will ignore the C and l1_ratio parameters")
        C = np.inf
    if solver == "liblinear" and C == np.inf:
        raise ValueError("C=np.inf as well as penalty=None is not supported for the liblinear solver: use lbfgs")
    return Strength(C, 1.0 if penalty == "l1" else float(l1_ratio or 0) if penalty == "elasticnet" else 0.0)


def check_solver(solver: str, penalty: str | None, dual: bool) -> None:
    """Check that scikit-learn's solver of this name has the penalty; solvers of mini-batches have only L2.

    Raises
    ------
    ValueError
        If the penalty is L1 and the solver neither saga nor liblinear; if it is the elastic net and the solver not
        saga; if `dual` is set and the solver is not liblinear, or the penalty L1.
    """
    if solver not in ("liblinear", "saga") and penalty not in ("l2", None):
        raise ValueError(
            f"Solver {solver} supports only 'l2' or None penalties, got {penalty} penalty: use solver='saga'"
        )
    if solver != "liblinear" and dual:
        raise ValueError(f"Solver {solver} supports only dual=False, got dual={dual}")
    if penalty == "elasticnet" and solver != "saga":
        raise ValueError(f"Only 'saga' solver supports elasticnet penalty, got solver={solver}.")
    if penalty == "l1" and dual:
        raise ValueError(
            "Unsupported set of arguments: The combination of penalty='l1' and loss='logistic_regression' are not "
            "supported when dual=True: use dual=False"
        )


def deprecated(message: str) -> None:
    """Warn of what a later version of scikit-learn will change."""
    warn(message, FutureWarning)


def warn_of_the_end(solution: Solution, solver: str, tol: float, max_iter: int, *, from_zero: bool) -> None:
    """Warn if a fit has used up its iterations, or has not moved from a start at zero."""
    if solution.converged:
        return
    if solution.n_iter >= max_iter:
        _, not_converged = SOLVERS[solver]
        left = f"is predicted to fall by {solution.predicted_decrease:.1e}"
        if np.isfinite(solution.gap):
            left = f"lies at most {solution.gap:.1e} above its minimum"
        message = (
            f"{not_converged.format(n=solution.n_iter)}: the largest component of the gradient is "
            f"{solution.largest_gradient:.1e}, tol={tol}, and the objective, {solution.value:.3g}, {left}. Increase "
            f"the number of iterations to improve the convergence (max_iter={max_iter})."
        )
    elif from_zero and not solution.n_iter:
        message = (
            "The fit is where it began, with coefficients of 0, since squares of X or of the gradient "
            f"({solution.largest_gradient:.1e}) overflow: scale X, as sklearn.preprocessing.StandardScaler does."
        )
    else:
        return
    warn(message, ConvergenceWarning)
