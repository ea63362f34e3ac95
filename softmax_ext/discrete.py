"""`MNLogit` and `Logit` with statsmodels' interface, on the fused pass: one changed import.

::

    from softmax_ext.discrete import MNLogit        # instead of statsmodels.api

    print(MNLogit(y, X).fit().summary())

They are statsmodels' models, in which everything that is computed from the data is computed here: likelihood, score,
information, robust and clustered covariances, marginal effects with their derivatives, the null model, predictions.
Results, tables and tests are statsmodels' own.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

try:
    import statsmodels.discrete.discrete_model as theirs
    from statsmodels.base.covtype import descriptions, get_robustcov_results
    from statsmodels.base.model import LikelihoodModel, LikelihoodModelResults
    from statsmodels.base.optimizer import check_kwargs
    from statsmodels.discrete import discrete_margins
    from statsmodels.iolib.summary import Summary
    from statsmodels.tools import tools
    from statsmodels.tools._decorators import cache_readonly
    from statsmodels.tools.grouputils import combine_indices
    from statsmodels.tools.sm_exceptions import (
        CollinearityWarning,
        ConvergenceWarning,
        HessianInversionWarning,
        PerfectSeparationError,
        PerfectSeparationWarning,
    )
except ImportError as error:
    raise ImportError(
        f"softmax_ext.discrete needs statsmodels >= 0.14.4 ({error}): pip install 'softmax_ext[statsmodels]'"
    ) from error

from ._cholesky import Factor
from .functional import predict_proba
from .inference._covariance import clustered_scores, squared_scores
from .inference._identified import Separation, collinear, covariance, separation
from .inference._likelihood import Likelihood, gram
from .inference._margins import COUNT, DUMMY, Step, average_effects
from .inference._maximum import newton, rough_start

__all__ = ["Logit", "MNLogit", "logit", "mnlogit"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class _Model:
    """What both models have in common: a likelihood, and what statsmodels asks of it."""

    endog: Any
    exog: Any
    data: Any
    exog_names: list[str]
    df_model: float
    df_resid: float
    raise_on_perfect_prediction: bool
    _check_rank: bool
    _likelihood_of: tuple[Any, Likelihood] | None

    def _check_kwargs(self, kwargs: dict[str, Any], keys_extra: list[str] | None = None, **more: Any) -> None:
        super()._check_kwargs(kwargs, ["freq_weights", *(keys_extra or [])], **more)  # type: ignore[misc]

    def initialize(self) -> None:
        """Count the parameters, by the rank of exog: from its Gram matrix, where that leaves no doubt."""
        check, self._check_rank = self._check_rank, False
        super().initialize()  # type: ignore[misc]
        self._check_rank, self._likelihood_of = check, None
        self._data_attr: list[str] = [*self._data_attr, "_likelihood_of"]
        N, D = self.exog.shape
        weights = getattr(self, "freq_weights", None)
        if weights is not None:
            self.freq_weights: Vector | None = _weights(weights, N)
            self.df_resid += float(self.freq_weights.sum()) - N
        if check and not Factor(gram(_double(self.exog))).sound:
            missing = D - tools.matrix_rank(self.exog, method="qr")
            self.df_model -= missing * self._equations
            self.df_resid += missing * self._equations

    @property
    def _equations(self) -> int:
        """How often each column has a coefficient."""
        raise NotImplementedError

    @property
    def _labels(self) -> tuple[Array, int]:
        """Targets as a likelihood has them, and the number of classes."""
        raise NotImplementedError

    @property
    def _class_names(self) -> list[str]:
        raise NotImplementedError

    @property
    def _offset(self) -> Vector | None:
        """What is added to the scores of all classes but the first, (N, K - 1)."""
        return None

    @property
    def _weights(self) -> Vector | None:
        return getattr(self, "freq_weights", None)

    @property
    def _likelihood(self) -> Likelihood:
        kept = self._likelihood_of
        if kept is None or kept[0] is not self.exog:
            y, K = self._labels
            made = Likelihood(_double(self.exog), y, K, weights=self._weights, offset=self._offset)
            kept = self._likelihood_of = (self.exog, made)
        return kept[1]

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_likelihood_of": None}

    def loglike(self, params: npt.ArrayLike) -> float:
        """Return the log-likelihood, Σ s_i Σ_k Y_ik log S_ik."""
        f = self._likelihood
        return -f.m * f.value(_flat(params))

    def score(self, params: npt.ArrayLike) -> Vector:
        """Return its gradient, with the coefficients of the second class first."""
        f = self._likelihood
        return -f.m * f.value_and_grad(_flat(params))[1]

    def loglike_and_score(self, params: npt.ArrayLike) -> tuple[float, Vector]:
        """Return both, by one pass."""
        f = self._likelihood
        value, grad = f.value_and_grad(_flat(params))
        return -f.m * value, -f.m * grad

    def hessian(self, params: npt.ArrayLike) -> Vector:
        """Return the Hessian of the log-likelihood."""
        f = self._likelihood
        return -f.m * f.hessian(_flat(params))

    def information(self, params: npt.ArrayLike) -> Vector:
        """Return the information, which is minus the Hessian: observed and expected are the same."""
        return -self.hessian(params)

    def score_obs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's part of the score, (N, (K - 1) D): as large as it sounds."""
        f = self._likelihood
        scores = f.scores(_flat(params), slice(None))
        if f.weights is not None:
            scores *= f.weights[:, np.newaxis]
        return scores

    def _residuals(self, params: npt.ArrayLike) -> Vector:
        """Return s (Y - S) of all classes but the first."""
        f = self._likelihood
        R = f.residuals(_flat(params))[:, 1:]
        return R if f.weights is None else R * f.weights[:, np.newaxis]

    def _mean(self, params: Any, exog: Any, offset: Any = None) -> Vector | None:
        """Return the posteriors (n, K) at exog, or None where it is no matter for the pass: for complex numbers."""
        params = np.asarray(params)
        if exog is None and offset is None:
            return self._likelihood.probabilities(_flat(params))
        exog = self.exog if exog is None else np.atleast_2d(np.asarray(exog))
        if params.dtype.kind not in "fiu" or exog.dtype.kind not in "fiub" or not len(exog):
            return None
        W = np.reshape(_flat(params), (-1, exog.shape[1]))
        X, W = _double(exog), np.vstack([np.zeros((1, exog.shape[1])), W])
        if offset is not None:
            offset = np.asarray(offset, np.float64)
            if offset.ndim == 1:
                offset = offset[:, np.newaxis]
            offset = offset[:, offset.shape[1] - (len(W) - 1) :] - (offset[:, :1] if offset.shape[1] == len(W) else 0)
            X = np.hstack([X, np.broadcast_to(offset, (len(X), len(W) - 1))])
            W = np.hstack([W, np.eye(len(W))[:, 1:]])
        return predict_proba(X, W)

    def _null_loglike(self) -> float | None:
        """Return the log-likelihood of a constant alone, or None where counts do not tell it."""
        if self._offset is not None:
            return None
        y, K = self._labels
        s = self._weights
        counts = np.bincount(y, s, K) if y.ndim == 1 else y.sum(axis=0) if s is None else s @ y
        some = counts[counts > 0]
        return float(some @ np.log(some / counts.sum()))

    def _fitted(
        self,
        start_params: Any,
        method: str,
        maxiter: int,
        full_output: Any,
        disp: Any,
        callback: Any,
        kwargs: dict[str, Any],
    ) -> Any:
        """Return statsmodels' bare results of a fit: parameters, covariance, and how it went."""
        chosen = {name: kwargs.pop(name) for name in ("cov_type", "cov_kwds", "use_t") if name in kwargs}
        groups = [] if self._check_rank and self.df_model == self._full else self._collinear()
        for *others, column in groups:
            made = f"made of {', '.join(self.exog_names[k] for k in others)}" if others else "0 throughout"
            warnings.warn(
                f"exog is collinear: column {self.exog_names[column]!r} is {made}, so that their coefficients are not "
                "determined: leave one of them out. Their standard errors are infinite",
                CollinearityWarning,
                stacklevel=4,
            )
        if method == "newton":
            fit = self._by_newton(start_params, maxiter, full_output, disp, callback, dict(kwargs))
        else:
            fit = LikelihoodModel.fit(
                self, start_params, method, maxiter, full_output, disp, callback=callback, **kwargs
            )
            found = self._separation_at(fit.params) if fit.normalized_cov_params is not None else None
            fit.mle_retvals["separation"] = found
        found = fit.mle_retvals["separation"]
        if found is not None:
            text = found.say(self._class_names, self.exog_names)
            if self.raise_on_perfect_prediction:
                raise PerfectSeparationError(text)
            warnings.warn(text, PerfectSeparationWarning, stacklevel=4)
            fit.normalized_cov_params = self._covariance(found.hessian, ends=True)
        if self._weights is not None:
            fit.nobs = self._likelihood.m
        if chosen:
            kinds = chosen.get("cov_kwds") or {}
            self._robust(fit, chosen.get("cov_type", "nonrobust"), chosen.get("use_t"), dict(kinds))
        return fit

    @property
    def _full(self) -> float:
        """The degrees of freedom of a model whose columns are all of use."""
        return float((self.exog.shape[1] - 1) * self._equations)

    def _collinear(self) -> list[tuple[int, ...]]:
        matrix = gram(_double(self.exog))
        return [] if Factor(matrix).sound else collinear(matrix)

    def _covariance(self, H: Vector, *, ends: bool = False) -> Vector:
        f = self._likelihood
        return covariance(H, f.m, f.sizes() if ends else None)[0]

    def _separation_at(self, params: npt.ArrayLike) -> Separation | None:
        """Look for separation where another optimiser has ended."""
        f, theta = self._likelihood, _flat(params)
        step = Factor(f.hessian(theta)).solve(-f.value_and_grad(theta)[1])
        return separation(f, theta, step, at_last=True)

    def _by_newton(
        self, start: Any, maxiter: int, full_output: Any, disp: Any, callback: Any, kwargs: dict[str, Any]
    ) -> Any:
        f = self._likelihood
        warn, retall = kwargs.pop("warn_convergence", True), kwargs.pop("retall", False)
        for name in ("skip_hessian", "fargs"):
            kwargs.pop(name, None)
        check_kwargs(kwargs, ("tol", "ridge_factor"), "newton")
        if not full_output:
            warnings.warn(
                "full_output=False is deprecated and has no effect: fit always knows how it went", FutureWarning,
                stacklevel=5,
            )  # fmt: skip
        theta = rough_start(f) if start is None else _flat(start).astype(np.float64)
        tol = float(kwargs.get("tol", 1e-8))
        look = lambda theta, step, **k: separation(f, theta, step, **k)  # noqa: E731
        found = newton(f, theta, tol=tol, max_iter=maxiter, callback=callback, divergence=look)
        if disp:
            print(
                "Optimization terminated successfully."
                if found.converged
                else "Warning: the classes are separated."
                if found.separated
                else "Warning: Maximum number of iterations has been exceeded."
            )
            print(f"         Current function value: {found.value:f}")
            print(f"         Iterations {found.n_iter:d}")
        H = found.hessian
        fit = LikelihoodModelResults(self, found.theta, self._covariance(H), scale=1.0)
        fit.mle_retvals = {
            "fopt": found.value,
            "iterations": found.n_iter,
            "score": found.grad,
            "Hessian": H,
            "warnflag": int(not found.converged),
            "converged": found.converged,
            "separation": found.separated,
        }
        if retall:
            fit.mle_retvals["allvecs"] = found.path
        fit.mle_settings = {
            "optimizer": "newton", "start_params": theta, "maxiter": maxiter, "full_output": True, "disp": disp,
            "fargs": (), "callback": callback, "retall": retall, "extra_fit_funcs": {}, "tol": tol, **kwargs,
        }  # fmt: skip
        if not np.isfinite(fit.normalized_cov_params).any():
            warnings.warn("no standard errors: the information is not a number", HessianInversionWarning, stacklevel=5)
        if warn and not found.converged:
            warnings.warn(
                "Maximum Likelihood optimization failed to converge. Check mle_retvals",
                ConvergenceWarning,
                stacklevel=5,
            )
        return fit

    def _robust(self, results: Any, kind: str, use_t: bool | None, options: dict[str, Any]) -> None:
        """Set results' covariance: sandwiches and clusters by blocks, the others by statsmodels."""
        use_t = results.use_t if use_t is None else use_t
        if kind == "nonrobust":
            results.use_t = use_t
            results.cov_type = kind
            results.cov_kwds = {
                "description": "Standard Errors assume that the covariance matrix of the errors is correctly specified."
            }
            return
        f, theta = self._likelihood, _flat(results.params)
        if kind.upper() in ("HC0", "HC1", "HC2", "HC3"):
            bread = results.normalized_cov_params
            setattr(results, f"cov_{kind.upper()}", bread @ squared_scores(f, theta) @ bread)
        if kind.lower() != "cluster":
            get_robustcov_results(results, cov_type=kind, use_self=True, use_t=use_t, **options)
            return
        if options.get("groups") is None:
            raise ValueError("cov_type='cluster' needs cov_kwds={'groups': ...}, a number or a name for each sample")
        groups = options["groups"]
        if not hasattr(groups, "shape"):
            groups = np.asarray([np.squeeze(np.asarray(group)) for group in groups]).T
        groups = np.squeeze(np.asarray(groups))
        if groups.shape[:1] != (f.N,) or groups.ndim > 2 or (groups.ndim == 2 and groups.shape[1] != 2):
            raise ValueError(f"groups must be ({f.N},), or ({f.N}, 2) for two ways of grouping, got {groups.shape}")
        correct = options.get("use_correction", True)
        if groups.ndim == 1:
            cov, results.n_groups = self._clustered(results, groups, correct)
            fewest = results.n_groups
        else:
            first, a = self._clustered(results, groups[:, 0], correct)
            second, b = self._clustered(results, groups[:, 1], correct)
            both, _ = self._clustered(results, combine_indices((groups[:, 0], groups[:, 1]))[0], correct)
            cov, results.n_groups, fewest = first + second - both, (a, b), min(a, b)
        scaling, adjust = options.get("scaling_factor"), options.get("df_correction") is not False
        results.cov_type, results.use_t = kind, use_t
        results.cov_params_default = cov if scaling is None else cov * scaling
        results.cov_kwds = {
            "use_t": use_t, "adjust_df": adjust, "groups": groups, "use_correction": correct,
            "description": descriptions["cluster"], "scaling_factor": scaling,
        }  # fmt: skip
        if adjust:
            results.df_resid_inference = fewest - 1

    def _clustered(self, results: Any, groups: Array, correct: bool) -> tuple[Vector, int]:
        f, bread = self._likelihood, results.normalized_cov_params
        names, number = np.unique(groups, return_inverse=True)
        cov = bread @ clustered_scores(f, _flat(results.params), number.ravel()) @ bread
        n = len(names)
        if correct:
            cov *= n / (n - 1.0) * ((f.m - 1.0) / (f.m - f.size))
        return cov, n


def _flat(params: npt.ArrayLike) -> Array:
    """Return parameters (D, K - 1), or a vector, as a vector with those of one class together."""
    return np.asarray(params).ravel("F")


def _double(exog: Array) -> Vector:
    """Return exog as the pass takes it: statsmodels computes in float64, whatever exog is."""
    return np.asarray(exog, np.float64)


def _weights(weights: Any, N: int) -> Vector:
    s = np.asarray(weights, np.float64)
    if s.shape != (N,):
        raise ValueError(f"freq_weights must be one number for each of the {N} samples, got shape {s.shape}")
    if not ((s >= 0) & (s < np.inf)).all():
        raise ValueError(f"freq_weights must be finite and not negative, got {s[~((s >= 0) & (s < np.inf))][0]}")
    return s


class Margins(discrete_margins.DiscreteMargins):  # type: ignore[misc]
    """statsmodels' marginal effects, with derivatives by their formulas, in passes over blocks of the samples."""

    def get_margeff(
        self, at: str = "overall", method: str = "dydx", atexog: Any = None, dummy: bool = False, count: bool = False
    ) -> None:
        """Compute them; see `statsmodels.discrete.discrete_margins.DiscreteMargins.get_margeff`."""
        at, method = at.lower(), method.lower()
        results, model = self.results, self.results.model
        weights, K = model._weights, model._equations + 1
        if at == "all":
            super().get_margeff(at, method, atexog, dummy, count)
            return
        self._reset()
        discrete_margins._check_margeff_args(at, method)
        self.margeff_options = {"method": method, "at": at}
        exog = model.exog.copy() if atexog is not None else model.exog
        moves, constant = discrete_margins._get_const_index(exog)
        self.dummy_idx, self.count_idx = None, None
        if dummy or count:
            discrete_margins._check_discrete_args(at, method)
        if dummy:
            self.dummy_idx, _ = discrete_margins._get_dummy_index(exog, constant)
        if count:
            self.count_idx, _ = discrete_margins._get_count_index(exog, constant)
        if weights is not None and at in ("mean", "median") and atexog is None:
            exog = _weighted_middle(exog, weights, at)
        else:
            exog = discrete_margins._get_margeff_exog(exog, at, atexog, moves)
        steps: dict[int, Step] = {}
        for found, step in ((self.count_idx, COUNT), (self.dummy_idx, DUMMY)):
            steps |= {} if found is None else {int(d): step for d in found}
        f = model._likelihood
        s = weights if at == "overall" and weights is not None and len(exog) == f.N else None
        effects, jacobian = average_effects(exog, f.coefficients(_flat(results.params)), method, weights=s, steps=steps)
        if K == 2 and not isinstance(model, MNLogit):
            effects, jacobian = effects[1:], jacobian[1:]
        J, D = effects.shape
        J_params = jacobian[:, :, 1:].reshape(J * D, -1)
        cov = J_params @ results.cov_params() @ J_params.T
        every = np.tile(moves, J)
        self.margeff_cov = cov[every][:, every]
        self.margeff_se = np.sqrt(np.diag(cov))[every]
        self.margeff = effects.ravel()[every]
        if J > 1 or isinstance(model, MNLogit):
            self.margeff_se = self.margeff_se.reshape(-1, J, order="F")
            self.margeff = self.margeff.reshape(-1, J, order="F")


def _weighted_middle(exog: Array, weights: Vector, at: str) -> Vector:
    """Return the mean or the median of the columns, (1, D), of samples seen so many times."""
    if at == "mean":
        return np.average(exog, axis=0, weights=weights)[np.newaxis]
    order = np.argsort(exog, axis=0)
    totals = np.cumsum(weights[order], axis=0)
    half, columns = totals[-1] / 2, np.arange(exog.shape[1])
    low = order[(totals < half * (1 - 1e-12)).sum(axis=0), columns]
    high = order[np.minimum((totals <= half * (1 + 1e-12)).sum(axis=0), len(exog) - 1), columns]
    return np.asarray((exog[low, columns] + exog[high, columns]) / 2)[np.newaxis]


class _Results:
    """What both models' results have in common."""

    model: Any
    method: str
    mle_retvals: dict[str, Any]
    cov_type: str
    use_t: bool
    prsquared: float
    llr_pvalue: float
    _get_endog_name: Any

    @property
    def separation(self) -> Separation | None:
        """A direction along which the likelihood grows without end, if the classes are separated."""
        found: Separation | None = self.mle_retvals.get("separation")
        return found

    @cache_readonly  # type: ignore[untyped-decorator]
    def llnull(self) -> float:
        """Log-likelihood of a constant alone: from the counts of the classes, or by a fit beside an offset."""
        if hasattr(self, "_optim_kwds_null"):  # somebody wants to know how it is fitted
            found: float = theirs.DiscreteResults.llnull.fget(self)
            return found
        counted: float | None = self.model._null_loglike()
        if counted is not None:
            return counted
        model = self.model
        null = type(model)(model.endog, np.ones(len(model.exog)), **model._get_init_kwds())
        fitted: float = null.fit(disp=0, warn_convergence=False).llf
        return fitted

    def get_margeff(
        self, at: str = "overall", method: str = "dydx", atexog: Any = None, dummy: bool = False, count: bool = False
    ) -> Margins:
        """Return marginal effects; see `statsmodels.discrete.discrete_model.DiscreteResults.get_margeff`."""
        if self.model._offset is not None:
            raise NotImplementedError("Margins with offset are not available.")
        return Margins(self, (at, method, atexog, dummy, count))

    def summary(
        self, yname: Any = None, xname: Any = None, title: Any = None, alpha: float = 0.05, yname_list: Any = None
    ) -> Any:
        """Return statsmodels' table, with what is to be said of separation below it.

        statsmodels also makes LaTeX of it, twice, and throws that away: two thirds of the time.
        """
        left = [
            ("Dep. Variable:", None),
            ("Model:", [type(self.model).__name__]),
            ("Method:", [self.method]),
            ("Date:", None),
            ("Time:", None),
            ("converged:", [f"{self.mle_retvals['converged']}"]),
        ]
        right = [
            ("No. Observations:", None),
            ("Df Residuals:", None),
            ("Df Model:", None),
            ("Pseudo R-squ.:", [f"{self.prsquared:#6.4g}"]),
            ("Log-Likelihood:", None),
            ("LL-Null:", [f"{self.llnull:#8.5g}"]),
            ("LLR p-value:", [f"{self.llr_pvalue:#6.4g}"]),
        ]
        if hasattr(self, "cov_type"):
            left.append(("Covariance Type:", [self.cov_type]))
        title = f"{type(self.model).__name__} Regression Results" if title is None else title
        table = Summary()
        yname, names = self._get_endog_name(yname, yname_list)
        table.add_table_2cols(self, gleft=left, gright=right, yname=yname, xname=xname, title=title)
        table.add_table_params(self, yname=names, xname=xname, alpha=alpha, use_t=self.use_t)
        said = [] if self.separation is None else [self.separation.say(self.model._class_names, self.model.exog_names)]
        if hasattr(self, "constraints"):
            said.append("Model has been estimated subject to linear equality constraints.")
        said.extend(getattr(self, "_separation_etext", []))
        if said:
            table.add_extra_txt(said)
        return table

    def _get_robustcov_results(
        self, cov_type: str = "nonrobust", use_self: bool = True, use_t: bool | None = None, **cov_kwds: Any
    ) -> None:
        self.model._robust(self, cov_type, use_t, cov_kwds)

    def _counted(self, predicted: Array, K: int) -> Vector:
        table = np.zeros((K, K))
        s = self.model._weights
        np.add.at(table, (np.asarray(self.model.endog).astype(int), predicted.astype(int)), 1.0 if s is None else s)
        return table


class MNLogitResults(_Results, theirs.MultinomialResults):  # type: ignore[misc]
    """statsmodels' results of a multinomial logit model."""

    def pred_table(self) -> Vector:
        """Return how often class i was observed and class j predicted, (K, K)."""
        return self._counted(self.predict().argmax(axis=1), self.model.J)


class LogitResults(_Results, theirs.LogitResults):  # type: ignore[misc]
    """statsmodels' results of a logit model."""

    def pred_table(self, threshold: float = 0.5) -> Vector:
        """Return how often i was observed and j predicted, (2, 2): 1 where its probability is above a threshold."""
        if self.model._weights is None:
            found: Vector = super().pred_table(threshold)
            return found
        return self._counted(self.predict() > threshold, 2)


class MNLogit(_Model, theirs.MNLogit):  # type: ignore[misc]
    r"""Multinomial logit model: `statsmodels.discrete.discrete_model.MNLogit`, sooner.

    .. math:: \ln L = \sum_i s_i \sum_k Y_{ik} \ln S_{ik}, \quad S_{ik} = \frac{\exp(x_i \beta_k)}{\sum_j \exp(x_i
        \beta_j)}, \quad \beta_0 = 0

    Parameters
    ----------
    endog : array_like, shape (N,)
        Classes: numbers, strings, or a categorical. The first of them, in their order, has no coefficients.
    exog : array_like or data frame, shape (N, D)
        Samples. An intercept is a column of ones (`statsmodels.api.add_constant`); a formula has one.
    check_rank : bool, default True
        Whether the degrees of freedom are counted by the rank of exog.
    offset : array_like, shape (N, K) or (N, K - 1), optional
        What is added to the scores of all classes, or of all but the first. Beyond statsmodels.
    freq_weights : array_like, shape (N,), optional
        How often each sample was seen: everything is as if it were there so many times, and need not be a whole
        number. Beyond statsmodels.
    missing : {"none", "drop", "raise"}, default "none"
        What is done about NaN.
    **kwargs
        As statsmodels'.

    Raises
    ------
    ValueError
        As statsmodels; if a weight is negative or not finite, or an offset has another shape or is not finite.

    See Also
    --------
    softmax_ext.linear_model.LogisticRegression : For prediction, with penalties; its `inference` has standard errors.

    Notes
    -----
    `fit(method="newton")`, the default, is Newton's method from a sample's maximum, and keeps a Hessian as long as it
    serves; statsmodels' other methods run as they are. Separated classes are told by PerfectSeparationWarning, which
    says which and along what, and collinear columns by CollinearityWarning; standard errors of what the data do not
    determine are infinite, and those of the rest are right.

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
        """Return an offset of all classes but the first, for the samples that are left."""
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
        """Return the posteriors of scores (n, K - 1) of all classes but the first."""
        X = np.asarray(X)
        if X.dtype.kind == "c":
            return super().cdf(X)
        Z = np.column_stack([np.zeros(len(X)), X])
        Z -= Z.max(axis=1, keepdims=True)
        np.exp(Z, out=Z)
        Z /= Z.sum(axis=1, keepdims=True)
        return Z

    def predict(self, params: Any, exog: Any = None, which: str = "mean", offset: Any = None) -> Any:
        """Return posteriors (n, K), or scores, or variances.

        Parameters
        ----------
        params : array_like, shape (D, K - 1)
            Coefficients.
        exog : array_like, shape (n, D), optional
            Where; by default at the model's own samples, with its offset.
        which : {"mean", "linear", "var"}
            Posteriors; scores, 0 for the first class; S (1 - S).
        offset : array_like, shape (n, K) or (n, K - 1), optional
            What is added to the scores at exog.

        Returns
        -------
        array, shape (n, K)
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
        """Return the effects at each sample, (n, D K), those on one class together."""
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
        """Return the derivatives of the posteriors to the parameters, (n, K, (K - 1) D)."""
        exog = self.exog if exog is None else exog
        P = self.predict(np.asarray(params).reshape(self.K, -1, order="F"), exog)
        slopes = np.eye(int(self.J))[:, 1:] - P[:, np.newaxis, 1:]
        if "ey" not in transform:
            slopes = slopes * P[:, :, np.newaxis]
        return (slopes[:, :, :, np.newaxis] * exog[:, np.newaxis, np.newaxis, :]).reshape(*P.shape, -1)

    def loglikeobs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's part of the log-likelihood, (N, K): in its class's column."""
        f = self._likelihood
        s = 1.0 if f.weights is None else f.weights
        if f.y.ndim == 2:
            return np.asarray(f.y * np.log(f.probabilities(_flat(params))) * np.reshape(s, (-1, 1)))
        found = np.zeros((f.N, f.K))
        found[np.arange(f.N), f.y] = -s * f.losses(_flat(params))
        return found

    def score_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the derivative of each sample's log-likelihood to its scores, (N, K - 1)."""
        return self._residuals(params)

    def hessian_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the second derivatives likewise, (N, K - 1, K - 1)."""
        found: Vector = super().hessian_factor(_flat(params))
        s = self._weights
        return found if s is None else found * s[:, np.newaxis, np.newaxis]

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
        """Fit the model: see `statsmodels.discrete.discrete_model.MNLogit.fit`, whose arguments are these.

        Parameters
        ----------
        start_params : array_like, shape (D, K - 1), optional
            Where to start.
        method : str, default "newton"
            Our Newton's method, or any of statsmodels' others: "bfgs", "lbfgs", "nm", "cg", "ncg", "powell",
            "basinhopping", "minimize".
        maxiter : int, default 35
            Most iterations; of Newton's method, most Hessians.
        full_output : bool
            Without effect, as in statsmodels.
        disp : bool, default True
            Whether to print how it went.
        callback : callable, optional
            Called with the parameters after each iteration.
        **kwargs
            `tol` (largest change of a parameter, 1e-8), `retall`, `warn_convergence`, `cov_type`, `cov_kwds`, `use_t`,
            and those of the other methods.

        Returns
        -------
        MultinomialResultsWrapper
            statsmodels' results.
        """
        start = None if start_params is None else _flat(start_params)
        if method != "newton":
            start = np.zeros(self.K * (self.J - 1)) if start is None else start
            callback = (lambda *args: None) if callback is None else callback
        fit = self._fitted(start, method, maxiter, full_output, disp, callback, kwargs)
        fit.params = fit.params.reshape(self.K, -1, order="F")
        return theirs.MultinomialResultsWrapper(MNLogitResults(self, fit))


class Logit(_Model, theirs.Logit):  # type: ignore[misc]
    r"""Logit model of two classes: `statsmodels.discrete.discrete_model.Logit`, sooner.

    .. math:: \ln L = \sum_i s_i \left(y_i \ln p_i + (1 - y_i) \ln (1 - p_i)\right), \quad p_i = \frac{1}{1 +
        \exp(-x_i \beta - o_i)}

    Parameters
    ----------
    endog : array_like, shape (N,)
        0 or 1, or what is between.
    exog : array_like or data frame, shape (N, D)
        Samples. An intercept is a column of ones (`statsmodels.api.add_constant`); a formula has one.
    offset : array_like, shape (N,), optional
        o, what is added to the scores.
    check_rank : bool, default True
        Whether the degrees of freedom are counted by the rank of exog.
    freq_weights : array_like, shape (N,), optional
        How often each sample was seen, as in `MNLogit`.
    missing : {"none", "drop", "raise"}, default "none"
        What is done about NaN.
    **kwargs
        As statsmodels'.

    Raises
    ------
    ValueError
        As statsmodels; if a weight is negative or not finite.

    See Also
    --------
    MNLogit : For more classes; its notes hold here.

    Examples
    --------
    >>> import statsmodels.api as sm
    >>> from softmax_ext.discrete import Logit
    >>> data = sm.datasets.spector.load_pandas()
    >>> results = Logit(data.endog, sm.add_constant(data.exog)).fit(disp=0)
    >>> results.bse.round(3).tolist()
    [4.931, 1.263, 0.142, 1.065]
    """

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
        """Return the derivative of that."""
        p = self.cdf(X)
        return p * (1 - p)

    def predict(self, params: Any, exog: Any = None, which: str = "mean", offset: Any = None) -> Any:
        """Return probabilities of 1 (n,), or scores, or variances, as statsmodels does."""
        if which == "mean":
            own = offset is None and exog is None
            found = self._mean(params, exog, offset) if own or np.ndim(exog) == 2 else None
            if found is not None:
                return found[:, 1]
        return super().predict(params, exog, which, offset)

    def loglikeobs(self, params: npt.ArrayLike) -> Vector:
        """Return each sample's part of the log-likelihood, (N,)."""
        f = self._likelihood
        return -f.losses(_flat(params)) * (1.0 if f.weights is None else f.weights)

    def score_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the derivative of each sample's log-likelihood to its score, (N,)."""
        return self._residuals(params)[:, 0]

    def hessian_factor(self, params: npt.ArrayLike) -> Vector:
        """Return the second derivative likewise, (N,)."""
        found: Vector = super().hessian_factor(params)
        return found if self._weights is None else found * self._weights

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
        """Fit the model: as `MNLogit.fit`; see `statsmodels.discrete.discrete_model.Logit.fit`.

        Returns
        -------
        BinaryResultsWrapper
            statsmodels' results.
        """
        if method != "newton" and callback is None:
            callback = self._check_perfect_pred
        start = None if start_params is None else _flat(start_params)
        fit = self._fitted(start, method, maxiter, full_output, disp, callback, kwargs)
        return theirs.BinaryResultsWrapper(LogitResults(self, fit))


mnlogit, logit = MNLogit.from_formula, Logit.from_formula
