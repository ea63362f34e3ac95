"""What the estimators have to know of scikit-learn: its version, its solvers' names, its warnings."""

from __future__ import annotations

import warnings

import sklearn

try:  # since 1.9
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Nothing: this scikit-learn has no `set_callbacks`."""


__all__ = ["PENALTY_IS_DEPRECATED", "SOLVERS", "VERSION", "CallbackSupportMixin", "check_solver", "deprecated"]

VERSION = tuple(map(int, sklearn.__version__.split(".")[:2]))
PENALTY_IS_DEPRECATED = VERSION >= (1, 8)  # and n_jobs without effect

# What runs here for each of scikit-learn's solvers, and how scikit-learn's warning of that solver begins: programs
# filter by these words.
SOLVERS = {
    "lbfgs": ("auto", "lbfgs failed to converge after {n} iteration(s)"),
    "liblinear": ("auto", "Liblinear failed to converge, increase the number of iterations."),
    "newton-cg": ("newton", "newton-cg failed to converge after {n} iteration(s)"),
    "newton-cholesky": ("newton", "Newton solver did not converge after {n} iterations"),
    "sag": ("auto", "The max_iter was reached which means the coef_ did not converge"),
    "saga": ("auto", "The max_iter was reached which means the coef_ did not converge"),
}


def check_solver(solver: str, penalty: str | None, dual: bool) -> None:
    """Refuse the penalties that are not there, and those that scikit-learn's solver of this name has not.

    Raises
    ------
    ValueError
        For L1 and elastic net; for `dual` with another solver than liblinear.
    """
    if penalty not in ("l2", None):
        refused = f"Solver {solver} supports only 'l2' or None penalties, got {penalty} penalty."
        if solver == "liblinear" and penalty == "elasticnet":
            refused = "Only 'saga' solver supports elasticnet penalty, got solver=liblinear."
        raise ValueError(
            f"{refused} softmax_ext has the L2 penalty (l1_ratio=0) and none (C=np.inf), with every solver; for "
            "L1 and elastic net use sklearn.linear_model.LogisticRegression(solver='saga')"
        )
    if solver != "liblinear" and dual:
        raise ValueError(f"Solver {solver} supports only dual=False, got dual={dual}")


def deprecated(message: str, stacklevel: int = 5) -> None:
    """Warn of what a later scikit-learn will do otherwise."""
    warnings.warn(message, FutureWarning, stacklevel=stacklevel)
