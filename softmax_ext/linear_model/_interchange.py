"""Conversion to scikit-learn's estimators and back, with the parameters that both have and the same coefficients."""

from __future__ import annotations

import copy
import inspect
from typing import Any, ClassVar, Self

from sklearn.base import clone

from .._fit.scikit_learn import SOLVERS

# Attributes that fits set in both packages, in the same shapes.
FITTED = (
    "classes_", "coef_", "intercept_", "n_iter_", "n_features_in_", "feature_names_in_",
    "Cs_", "l1_ratios_", "C_", "l1_ratio_", "scores_", "coefs_paths_",
)  # fmt: skip


class InterchangeMixin:
    """The methods that convert an estimator to scikit-learn's, and scikit-learn's to this one."""

    _scikit_learns: ClassVar[Any]  # scikit-learn's class of the same name

    def to_sklearn(self) -> Any:
        """Return this estimator as scikit-learn's own, fitted if this one is.

        The new estimator has copies of all parameters that scikit-learn knows, and of coefficients, classes and other
        attributes that fits set in both packages, to the bit. So it predicts the same up to rounding, and does not need
        softmax_ext. Parameters that scikit-learn does not know, such as `n_threads` or `label_smoothing`, are lost, and
        a solver of mini-batches becomes "lbfgs". If it is fitted again, it minimises scikit-learn's objective.

        Returns
        -------
        sklearn.linear_model.LogisticRegression or LogisticRegressionCV
            A new estimator.

        See Also
        --------
        from_sklearn : The conversion back.

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
        if not isinstance(parameters.get("refit", True), bool):  # it is "one_se", which scikit-learn does not know
            parameters["refit"] = True
        return _with_fit_of(self, theirs(**parameters))

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Return scikit-learn's estimator as one of this class, fitted if that one is.

        Parameters
        ----------
        estimator : sklearn.linear_model.LogisticRegression or LogisticRegressionCV
            An estimator of scikit-learn's class of the same name, or of a subclass. It is not changed.

        Returns
        -------
        LogisticRegression or LogisticRegressionCV
            A new estimator, with copies of that one's parameters and fitted attributes, to the bit. It lacks attributes
            that only fits of softmax_ext set, such as `loss_curve_` and `converged_`.

        Raises
        ------
        TypeError
            If `estimator` is of another class.
        ValueError
            If it is no softmax model. An older scikit-learn may have fitted more than two classes one against the rest
            (``multi_class="ovr"``, or ``solver="liblinear"``), or two with ``multi_class="multinomial"``, whose scores
            are half of those here.
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
    """Return the parameters that the other class also has, copied as `sklearn.base.clone` copies them."""
    known = inspect.signature(other).parameters
    given = estimator.get_params(deep=False)
    return {name: clone(value, safe=False) for name, value in given.items() if name in known}


def _with_fit_of(estimator: Any, other: Any) -> Any:
    for name in FITTED:
        if hasattr(estimator, name):
            setattr(other, name, copy.deepcopy(getattr(estimator, name)))
    return other
