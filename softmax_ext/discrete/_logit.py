"""`Logit`, statsmodels' model of two classes, on the fused pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import statsmodels.discrete.discrete_model as theirs

from ._model import Model
from ._params import flat
from ._results import LogitResults, LogitResultsWrapper

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Logit(Model, theirs.Logit):  # type: ignore[misc]
    r"""Logit model of two classes: `statsmodels.discrete.discrete_model.Logit`, faster.

    .. math:: \ln L = \sum_i s_i \left(y_i \ln p_i + (1 - y_i) \ln (1 - p_i)\right), \quad p_i = \frac{1}{1 +
        \exp(-x_i \beta - o_i)}

    Parameters
    ----------
    endog : array_like, shape (N,)
        Targets: 0 or 1, or probabilities of 1.
    exog : array_like or data frame, shape (N, D)
        Samples. An intercept needs a column of ones (`statsmodels.api.add_constant`); a formula adds one.
    offset : array_like, shape (N,), optional
        o, which is added to the scores.
    check_rank : bool, default True
        Whether the degrees of freedom follow from the rank of exog, not from its number of columns.
    freq_weights : array_like, shape (N,), optional
        How often each sample was seen, as in `MNLogit`.
    missing : {"none", "drop", "raise"}, default "none"
        What is done with samples that have NaN: nothing is checked, they are left out, or an error is raised.
    **kwargs
        Other arguments of statsmodels' model.

    Raises
    ------
    ValueError
        Where statsmodels raises it, and if a weight is negative or not finite.

    See Also
    --------
    MNLogit : For more classes. Its notes hold for this model, too.

    Examples
    --------
    >>> import statsmodels.api as sm
    >>> from softmax_ext.discrete import Logit
    >>> data = sm.datasets.spector.load_pandas()
    >>> results = Logit(data.endog, sm.add_constant(data.exog)).fit(disp=0)
    >>> results.bse.round(3).tolist()
    [4.931, 1.263, 0.142, 1.065]
    """

    _has_table = False

    def __init__(
        self, endog: Any, exog: Any, offset: Any = None, check_rank: bool = True, *, freq_weights: Any = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if freq_weights is not None:
            kwargs["freq_weights"] = freq_weights
        super().__init__(endog, exog, offset=offset, check_rank=check_rank, **kwargs)

    @property
    def _equations(self) -> int:
        return 1

    @property
    def _labels(self) -> tuple[Array, int]:
        y = np.asarray(self.endog)
        labels = y.astype(np.intp)
        return (labels if (labels == y).all() else np.column_stack([1.0 - y, y])), 2

    @property
    def _class_names(self) -> list[str]:
        return [f"{self.endog_names}=0", f"{self.endog_names}=1"]

    @property
    def _offset(self) -> Vector | None:
        offset = getattr(self, "offset", None)
        return None if offset is None else np.asarray(offset, np.float64)[:, np.newaxis]

    def cdf(self, X: Any) -> Any:
        """Return the probability of 1 at scores X."""
        from scipy.special import expit

        return super().cdf(X) if np.iscomplexobj(X) else expit(np.asarray(X, np.float64))

    def pdf(self, X: Any) -> Any:
        """Return the derivative of `cdf` at scores X."""
        p = self.cdf(X)
        return p * (1 - p)

    def predict(self, params: Any, exog: Any = None, which: str = "mean", offset: Any = None) -> Any:
        """Return probabilities of 1 (n,), or scores, or variances; the arguments are those of statsmodels."""
        if which == "mean":
            own = offset is None and exog is None
            found = self._mean(params, exog, offset) if own or np.ndim(exog) == 2 else None
            if found is not None:
                return found[:, 1]
        return super().predict(params, exog, which, offset)

    def loglikeobs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's contribution to the log-likelihood, (N,)."""
        f = self._likelihood
        return -f.losses(flat(params)) * (1.0 if f.weights is None else f.weights)

    def score_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the derivative of each sample's log-likelihood with respect to its score x β, (N,)."""
        return self._residuals(params)[:, 0]

    def hessian_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the second derivative of each sample's log-likelihood with respect to its score, (N,)."""
        found: Vector = super().hessian_factor(params)
        return found if self._weights is None else found * self._weights

    def _for_statsmodels(
        self, start: Array | None, callback: Callable[..., object] | None
    ) -> tuple[Array | None, Callable[..., object] | None]:
        return start, self._check_perfect_pred if callback is None else callback

    def _results_of(self, fit: Any) -> Any:
        return LogitResultsWrapper(LogitResults(self, fit))
