"""To scikit-learn's estimators and back: the same parameters, as far as both have them, and the same coefficients."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

from sklearn.base import clone

from .._fit.scikit_learn import SOLVERS

# What a fit leaves in both, in the same shapes.
FITTED = (
    "classes_", "coef_", "intercept_", "n_iter_", "n_features_in_", "feature_names_in_",
    "Cs_", "l1_ratios_", "C_", "l1_ratio_", "scores_", "coefs_paths_",
)  # fmt: skip


class InterchangeMixin:
    """What takes an estimator from here to scikit-learn, and from there to here."""

    _scikit_learns: ClassVar[Any]  # the class that this one takes the place of

    def to_sklearn(self) -> Any:
        """Return this estimator as scikit-learn's own, fitted if this one is.

        Parameters that scikit-learn has are taken over, and so are coefficients, classes and what else a fit leaves in
        both, to the bit and as copies. So predictions are the same up to rounding, without softmax_ext installed. What
        scikit-learn has not, such as `n_threads` or `label_smoothing`, is left behind, and instead of a solver by
        mini-batches there is "lbfgs": a fit there goes by scikit-learn's objective.

        Returns
        -------
        sklearn.linear_model.LogisticRegression or LogisticRegressionCV
            A new estimator.

        See Also
        --------
        from_sklearn : The way back.

        Examples
        --------
        >>> import pickle
        >>> from sklearn.datasets import load_iris
        >>> from softmax_ext.linear_model import LogisticRegression
        >>> X, y = load_iris(return_X_y=True)
        >>> model = LogisticRegression(C=10).fit(X, y).to_sklearn()
        >>> type(model).__module__.split(".")[0], model.C
        ('sklearn', 10)
        >>> bool((LogisticRegression.from_sklearn(model).coef_ == model.coef_).all())
        True
        """
        theirs = self._scikit_learns
        parameters = _parameters_of(self, theirs)
        if parameters.get("solver") not in SOLVERS:
            parameters["solver"] = "lbfgs"
        if not isinstance(parameters.get("refit", True), bool):  # by one standard error
            parameters["refit"] = True
        return _with_fit_of(self, theirs(**parameters))

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Return scikit-learn's estimator as one of these, fitted if that one is.

        Parameters
        ----------
        estimator : sklearn.linear_model.LogisticRegression or LogisticRegressionCV
            Of the class whose place this one takes, or of a class below it. It stays as it is.

        Returns
        -------
        LogisticRegression or LogisticRegressionCV
            A new estimator, with that one's parameters and copies of what its fit has left, to the bit. What only fits
            of softmax_ext leave, such as `loss_curve_` and `converged_`, it has not.

        Raises
        ------
        TypeError
            If `estimator` is of another class.
        ValueError
            If it is no softmax model: fitted by an older scikit-learn to more than two classes, one against the rest
            (``multi_class="ovr"``, or ``solver="liblinear"``), or to two with ``multi_class="multinomial"``, whose
            scores are half of those here.
        """
        if not isinstance(estimator, cls._scikit_learns):
            raise TypeError(
                f"estimator must be a sklearn.linear_model.{cls._scikit_learns.__name__}, got {type(estimator)}: "
                "of a pipeline, take its last step"
            )
        K, kind = len(getattr(estimator, "classes_", ())), getattr(estimator, "multi_class", None)
        apart = kind == "ovr" or estimator.solver == "liblinear"
        if (K > 2 and apart) or (K == 2 and kind == "multinomial"):
            raise ValueError(
                f"estimator has multi_class={kind!r} and solver={estimator.solver!r}, and was fitted to {K} classes: "
                "that is another model than softmax of the scores here, so fit it again"
            )
        ours: Self = _with_fit_of(estimator, cls(**_parameters_of(estimator, cls)))
        return ours


def _parameters_of(estimator: Any, other: type) -> dict[str, Any]:
    """Return copies of the parameters that the other class has too, as `sklearn.base.clone` makes them."""
    known = inspect.signature(other).parameters
    given = estimator.get_params(deep=False)
    return {name: clone(value, safe=False) for name, value in given.items() if name in known}


def _with_fit_of(estimator: Any, other: Any) -> Any:
    for name in FITTED:
        if hasattr(estimator, name):
            setattr(other, name, copy.deepcopy(getattr(estimator, name)))
    return other
