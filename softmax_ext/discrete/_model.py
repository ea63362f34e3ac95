"""The base of both models: a likelihood, and the methods that statsmodels calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.tools import tools

from .._core.cholesky import Factor
from ..functional import predict_proba
from ..inference._likelihood import Likelihood, beside_first, gram
from ._fitting import fitted
from ._params import double, flat

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Model:
    """The base of both models: a likelihood, and the methods that statsmodels calls."""

    endog: Any
    exog: Any
    data: Any
    exog_names: list[str]
    df_model: float
    df_resid: float
    raise_on_perfect_prediction: bool
    _check_rank: bool
    _likelihood_of: tuple[Any, Likelihood] | None
    _has_table: bool  # whether parameters and effects are tables with a column for each class

    def _check_kwargs(self, kwargs: dict[str, Any], keys_extra: list[str] | None = None, **more: Any) -> None:
        super()._check_kwargs(kwargs, ["freq_weights", *(keys_extra or [])], **more)  # type: ignore[misc]

    def initialize(self) -> None:
        """Count the parameters by the rank of exog, which the Gram matrix tells where it is well conditioned."""
        check, self._check_rank = self._check_rank, False
        super().initialize()  # type: ignore[misc]
        self._check_rank, self._likelihood_of = check, None
        self._data_attr: list[str] = [*self._data_attr, "_likelihood_of"]
        N, D = self.exog.shape
        weights = getattr(self, "freq_weights", None)
        if weights is not None:
            self.freq_weights: Vector | None = checked_weights(weights, N)
            self.df_resid += float(self.freq_weights.sum()) - N
        if check and not Factor(gram(double(self.exog))).sound:
            missing = D - tools.matrix_rank(self.exog, method="qr")
            self.df_model -= missing * self._equations
            self.df_resid += missing * self._equations

    @property
    def _equations(self) -> int:
        """The number of coefficients that each column of exog has."""
        raise NotImplementedError

    @property
    def _labels(self) -> tuple[Array, int]:
        """Targets in the form that `Likelihood` takes, and the number of classes."""
        raise NotImplementedError

    @property
    def _class_names(self) -> list[str]:
        raise NotImplementedError

    @property
    def _offset(self) -> Vector | None:
        """The offset (N, K - 1) of the scores of all classes but the first, or None."""
        return None

    @property
    def _weights(self) -> Vector | None:
        return getattr(self, "freq_weights", None)

    @property
    def _likelihood(self) -> Likelihood:
        kept = self._likelihood_of
        if kept is None or kept[0] is not self.exog:
            y, K = self._labels
            made = Likelihood(double(self.exog), y, K, weights=self._weights, offset=self._offset)
            kept = self._likelihood_of = (self.exog, made)
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_likelihood_of": None}

    def loglike(self, params: npt.ArrayLike) -> float:
        """Return the log-likelihood, Σ s_i Σ_k Y_ik log S_ik."""
        f = self._likelihood
        return -f.m * f.value(flat(params))

    def score(self, params: npt.ArrayLike) -> Vector:
        """Return the gradient of the log-likelihood, class after class, beginning with the second."""
        f = self._likelihood
        return -f.m * f.value_and_grad(flat(params))[1]

    def loglike_and_score(self, params: npt.ArrayLike) -> tuple[float, Vector]:
        """Return the log-likelihood and its gradient, computed by one pass."""
        f = self._likelihood
        value, grad = f.value_and_grad(flat(params))
        return -f.m * value, -f.m * grad

    def hessian(self, params: npt.ArrayLike) -> Vector:
        """Return the Hessian of the log-likelihood."""
        f = self._likelihood
        return -f.m * f.hessian(flat(params))

    def information(self, params: npt.ArrayLike) -> Vector:
        """Return the information, minus the Hessian: a logit model's observed and expected information are the same."""
        return -self.hessian(params)

    def score_obs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's contribution to the gradient, (N, (K - 1) D): K - 1 times as many numbers as in exog."""
        f = self._likelihood
        scores = f.scores(flat(params), slice(None))
        if f.weights is not None:
            scores *= f.weights[:, np.newaxis]
        return scores

    def _residuals(self, params: npt.ArrayLike) -> Vector:
        """Return s (Y - S), (N, K - 1), of all classes but the first."""
        f = self._likelihood
        R = f.residuals(flat(params))[:, 1:]
        return R if f.weights is None else R * f.weights[:, np.newaxis]

    def _mean(self, params: Any, exog: Any, offset: Any = None) -> Vector | None:
        """Return the posteriors (n, K) of exog, or None where the pass cannot compute them, as for complex numbers."""
        params = np.asarray(params)
        if exog is None and offset is None:
            return self._likelihood.probabilities(flat(params))
        exog = self.exog if exog is None else np.atleast_2d(np.asarray(exog))
        if params.dtype.kind not in "fiu" or exog.dtype.kind not in "fiub" or not len(exog):
            return None
        W = np.reshape(flat(params), (-1, exog.shape[1]))
        X, W = double(exog), np.vstack([np.zeros((1, exog.shape[1])), W])
        if offset is not None:
            offset = np.asarray(offset, np.float64)
            if offset.ndim == 1:
                offset = offset[:, np.newaxis]
            offset = offset[:, offset.shape[1] - (len(W) - 1) :] - (offset[:, :1] if offset.shape[1] == len(W) else 0)
            offset = beside_first(np.broadcast_to(offset, (len(X), len(W) - 1)))
        return predict_proba(X, W, offset=offset)

    def _null_loglike(self) -> float | None:
        """Return the log-likelihood of a constant alone from the classes' counts, or None if there is an offset."""
        if self._offset is not None:
            return None
        y, K = self._labels
        s = self._weights
        counts = np.bincount(y, s, K) if y.ndim == 1 else y.sum(axis=0) if s is None else s @ y
        some = counts[counts > 0]
        return float(some @ np.log(some / counts.sum()))

    def fit(
        self,
        start_params: Any = None,
        method: str = "newton",
        maxiter: int = 35,
        full_output: Any = 1,
        disp: Any = 1,
        callback: Callable[..., object] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Fit the model. The arguments are those of statsmodels' `fit`.

        Parameters
        ----------
        start_params : array_like, shape (D, K - 1), or (D,) of two classes, optional
            Parameters to start from.
        method : str, default "newton"
            Our Newton's method, or any of statsmodels' others: "bfgs", "lbfgs", "nm", "cg", "ncg", "powell",
            "basinhopping", "minimize".
        maxiter : int, default 35
            Greatest number of iterations, or, for Newton's method, of Hessians.
        full_output : bool
            Without effect, as in statsmodels.
        disp : bool, default True
            Whether to print how the optimisation ended.
        callback : callable, optional
            Called with the parameters after each iteration.
        **kwargs
            `tol` (the largest change of a parameter at which Newton's method ends, 1e-8), `retall`,
            `warn_convergence`, `cov_type`, `cov_kwds`, `use_t`, and arguments of the other methods.

        Returns
        -------
        MNLogitResultsWrapper or LogitResultsWrapper
            statsmodels' results, in a subclass of its wrapper.

        Raises
        ------
        PerfectSeparationError
            If classes are separated and the model's `raise_on_perfect_prediction` is set.

        Warns
        -----
        PerfectSeparationWarning
            If classes are separated. It says which, and along what.
        CollinearityWarning
            If columns of exog are collinear. It says which.
        ConvergenceWarning
            If `maxiter` iterations were not enough.
        """
        start = None if start_params is None else flat(start_params)
        if method != "newton":
            start, callback = self._for_statsmodels(start, callback)
        return self._results_of(fitted(self, start, method, maxiter, full_output, disp, callback, kwargs))

    def _for_statsmodels(
        self, start: Array | None, callback: Callable[..., object] | None
    ) -> tuple[Array | None, Callable[..., object] | None]:
        """Return the start and the callback for statsmodels' own optimisers, with its defaults where they are None."""
        raise NotImplementedError

    def _results_of(self, fit: Any) -> Any:
        """Return the results object that users get, made of a fit in statsmodels' inner form."""
        raise NotImplementedError


def checked_weights(weights: Any, N: int) -> Vector:
    """Return freq_weights as doubles (N,); raise ValueError if they have another shape, are negative or not finite."""
    s = np.asarray(weights, np.float64)
    if s.shape != (N,):
        raise ValueError(f"freq_weights must be one number for each of the {N} samples, got shape {s.shape}")
    if not ((s >= 0) & (s < np.inf)).all():
        raise ValueError(f"freq_weights must be finite and not negative, got {s[~((s >= 0) & (s < np.inf))][0]}")
    return s
