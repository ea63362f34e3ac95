"""`MNLogit`, statsmodels' model of several classes, on the fused pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import statsmodels.discrete.discrete_model as theirs

from ._model import Model
from ._params import flat
from ._results import MNLogitResults, MNLogitResultsWrapper

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class MNLogit(Model, theirs.MNLogit):  # type: ignore[misc]
    r"""Multinomial logit model: `statsmodels.discrete.discrete_model.MNLogit`, faster.

    .. math:: \ln L = \sum_i s_i \sum_k Y_{ik} \ln S_{ik}, \quad S_{ik} = \frac{\exp(x_i \beta_k)}{\sum_j \exp(x_i
        \beta_j)}, \quad \beta_0 = 0

    Parameters
    ----------
    endog : array_like, shape (N,)
        Classes: numbers, strings, or a categorical. The first of them, in their order, has no coefficients.
    exog : array_like or data frame, shape (N, D)
        Samples. An intercept needs a column of ones (`statsmodels.api.add_constant`); a formula adds one.
    check_rank : bool, default True
        Whether the degrees of freedom follow from the rank of exog, not from its number of columns.
    offset : array_like, shape (N, K) or (N, K - 1), optional
        Added to the scores of all classes, or of all but the first. statsmodels' model has no offset.
    freq_weights : array_like, shape (N,), optional
        How often each sample was seen: results are as if it were there so many times. It need not be a whole number.
        statsmodels' model has no weights.
    missing : {"none", "drop", "raise"}, default "none"
        What is done with samples that have NaN: nothing is checked, they are left out, or an error is raised.
    **kwargs
        Other arguments of statsmodels' model.

    Raises
    ------
    ValueError
        Where statsmodels raises it, and if a weight is negative or not finite, or an offset has another shape or is
        not finite.

    See Also
    --------
    softmax_ext.linear_model.LogisticRegression : For prediction, with penalties; its `inference` has standard errors.

    Notes
    -----
    `fit(method="newton")`, the default, is Newton's method. It begins where some iterations of L-BFGS end, and keeps a
    Hessian as long as its steps shrink. statsmodels' other methods run as they are. A PerfectSeparationWarning says
    which classes are separated and along what, a CollinearityWarning which columns are collinear. Coefficients that
    the data do not determine have infinite standard errors, and the others have the right ones.

    References
    ----------
    A. Albert and J. Anderson, "On the existence of maximum likelihood estimates in logistic regression models",
    Biometrika 71 (1984), 1-10. W. Greene, "Econometric analysis", 5th edition, 2003, section 21.7.

    Examples
    --------
    >>> import numpy as np
    >>> import statsmodels.api as sm
    >>> from softmax_ext.discrete import MNLogit
    >>> data = sm.datasets.anes96.load_pandas()
    >>> results = MNLogit(data.endog, sm.add_constant(data.exog)).fit(disp=0)
    >>> results.bse.shape, round(float(results.llf), 3)
    ((6, 6), -1461.923)
    """

    _has_table = True

    def __init__(
        self, endog: Any, exog: Any, check_rank: bool = True, *, offset: Any = None, freq_weights: Any = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        if freq_weights is not None:
            kwargs["freq_weights"] = freq_weights
        super().__init__(endog, exog, check_rank=check_rank, **kwargs)
        if offset is not None:
            self.offset = self._checked_offset(offset)

    def _checked_offset(self, offset: Any) -> Vector:
        """Return a checked offset of all classes but the first, without samples that `missing` has dropped."""
        given = np.asarray(offset, np.float64)
        given = given[:, np.newaxis] if given.ndim == 1 else given
        dropped = getattr(self.data, "missing_row_idx", None) or []
        N, K = len(self.exog) + len(dropped), int(self.J)
        if given.ndim != 2 or given.shape[0] not in (N, len(self.exog)) or given.shape[1] not in (K - 1, K):
            raise ValueError(f"offset must be ({N}, {K}), or ({N}, {K - 1}) without the first class, got {given.shape}")
        if len(given) == N:
            given = np.delete(given, dropped, axis=0)
        if not np.isfinite(given).all():
            raise ValueError(f"offset must be finite, got {given[~np.isfinite(given)][0]}: drop these samples")
        return given[:, 1:] - given[:, :1] if given.shape[1] == K else given

    @property
    def _equations(self) -> int:
        return int(self.J) - 1

    @property
    def _labels(self) -> tuple[Array, int]:
        K = int(self.J)
        if np.count_nonzero(self.wendog) == len(self.wendog) and (self.wendog.max(axis=1) == 1).all():
            return np.asarray(self.endog, np.intp), K
        return np.asarray(self.wendog, np.float64), K

    @property
    def _class_names(self) -> list[str]:
        return [str(self._ynames_map[k]) for k in range(int(self.J))]

    @property
    def _offset(self) -> Vector | None:
        return getattr(self, "offset", None)

    def cdf(self, X: Any) -> Any:
        """Return the posteriors (n, K) for scores (n, K - 1) of all classes but the first."""
        X = np.asarray(X)
        if X.dtype.kind == "c":
            return super().cdf(X)
        Z = np.column_stack([np.zeros(len(X)), X])
        Z -= Z.max(axis=1, keepdims=True)
        np.exp(Z, out=Z)
        Z /= Z.sum(axis=1, keepdims=True)
        return Z

    def predict(self, params: Any, exog: Any = None, which: str = "mean", offset: Any = None) -> Any:
        """Return posteriors, scores or variances.

        Parameters
        ----------
        params : array_like, shape (D, K - 1)
            Coefficients.
        exog : array_like, shape (n, D), optional
            Samples; by default the model's own, with its offset.
        which : {"mean", "linear", "var"}
            Posteriors S; scores, which are 0 for the first class; or variances S (1 - S).
        offset : array_like, shape (n, K) or (n, K - 1), optional
            Added to the scores of exog.

        Returns
        -------
        array, shape (n, K)
            What `which` names, for each sample and class.
        """
        found = self._mean(params, exog, offset)
        if which == "linear" or found is None:
            params = np.asarray(params)
            params = params.reshape(self.K, -1, order="F") if params.ndim == 1 else params
            Z = super().predict(params, self.exog if exog is None else np.asarray(exog), which="linear")
            added = self._offset if exog is None and offset is None else offset
            if added is not None:
                added = np.asarray(added, np.float64)
                Z = Z + (np.column_stack([np.zeros(len(added)), added]) if added.shape[1] < Z.shape[1] else added)
            if which == "linear":
                return Z
            found = self.cdf(Z[:, 1:] - Z[:, :1])
        if which == "mean":
            return found
        if which == "var":
            return found * (1 - found)
        raise ValueError('`which` must be one of "mean", "linear", or "var"')

    def _derivative_exog(
        self, params: Any, exog: Any = None, transform: str = "dydx", dummy_idx: Any = None, count_idx: Any = None
    ) -> Any:
        """Return the marginal effects at each sample, (n, K D), class after class."""
        exog = self.exog if exog is None else exog
        params = np.asarray(params).reshape(self.K, -1, order="F")
        W = np.column_stack([np.zeros(self.K), params])  # (D, K)
        P = self.predict(params, exog)
        effects = W - (P @ W.T)[:, :, np.newaxis]
        if "ey" not in transform:
            effects *= P[:, np.newaxis, :]
        if "ex" in transform:
            effects *= exog[:, :, np.newaxis]
        effects = self._derivative_exog_helper(effects, params, exog, dummy_idx, count_idx, transform)
        return effects.reshape(len(exog), -1, order="F")

    def _derivative_predict(self, params: Any, exog: Any = None, transform: str = "dydx") -> Any:
        """Return the derivatives of the posteriors with respect to the parameters, (n, K, (K - 1) D)."""
        exog = self.exog if exog is None else exog
        P = self.predict(np.asarray(params).reshape(self.K, -1, order="F"), exog)
        slopes = np.eye(int(self.J))[:, 1:] - P[:, np.newaxis, 1:]
        if "ey" not in transform:
            slopes = slopes * P[:, :, np.newaxis]
        return (slopes[:, :, :, np.newaxis] * exog[:, np.newaxis, np.newaxis, :]).reshape(*P.shape, -1)

    def loglikeobs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's contribution to the log-likelihood, (N, K), in its class's column; others are 0."""
        f = self._likelihood
        s = 1.0 if f.weights is None else f.weights
        if f.y.ndim == 2:
            return np.asarray(f.y * np.log(f.probabilities(flat(params))) * np.reshape(s, (-1, 1)))
        found = np.zeros((f.N, f.K))
        found[np.arange(f.N), f.y] = -s * f.losses(flat(params))
        return found

    def score_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the derivative of each sample's log-likelihood with respect to its scores, (N, K - 1)."""
        return self._residuals(params)

    def hessian_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the second derivatives of each sample's log-likelihood by its scores, (N, K - 1, K - 1)."""
        found: Vector = super().hessian_factor(flat(params))
        s = self._weights
        return found if s is None else found * s[:, np.newaxis, np.newaxis]

    def _for_statsmodels(
        self, start: Array | None, callback: Callable[..., object] | None
    ) -> tuple[Array | None, Callable[..., object] | None]:
        start = np.zeros(self.K * (self.J - 1)) if start is None else start
        return start, (lambda *args: None) if callback is None else callback

    def _results_of(self, fit: Any) -> Any:
        fit.params = fit.params.reshape(self.K, -1, order="F")
        return MNLogitResultsWrapper(MNLogitResults(self, fit))
