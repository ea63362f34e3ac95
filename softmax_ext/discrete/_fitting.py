"""How a model is fitted, by our Newton's method or by statsmodels' optimisers, and the warnings about its data."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.base.model import LikelihoodModel, LikelihoodModelResults
from statsmodels.base.optimizer import check_kwargs
from statsmodels.tools.sm_exceptions import (
    CollinearityWarning,
    ConvergenceWarning,
    HessianInversionWarning,
    PerfectSeparationError,
    PerfectSeparationWarning,
)

from .._core.cholesky import Factor
from ..inference._identified import Separation, collinear, covariance, separation
from ..inference._likelihood import gram
from ..inference._maximum import Maximum, newton, rough_start
from ._params import double, flat
from ._robust import set_covariance

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def fitted(
    model: Any,
    start_params: Any,
    method: str,
    maxiter: int,
    full_output: Any,
    disp: Any,
    callback: Any,
    kwargs: dict[str, Any],
) -> Any:
    """Return a fit in statsmodels' inner form: parameters, covariance, and the optimiser's record in `mle_retvals`."""
    chosen = {name: kwargs.pop(name) for name in ("cov_type", "cov_kwds", "use_t") if name in kwargs}
    _warn_of_collinear(model)
    if method == "newton":
        fit = _by_newton(model, start_params, maxiter, full_output, disp, callback, dict(kwargs))
    else:
        fit = LikelihoodModel.fit(model, start_params, method, maxiter, full_output, disp, callback=callback, **kwargs)
        found = _separation_at(model, fit.params) if fit.normalized_cov_params is not None else None
        fit.mle_retvals["separation"] = found
    found = fit.mle_retvals["separation"]
    if found is not None:
        text = found.say(model._class_names, model.exog_names)
        if model.raise_on_perfect_prediction:
            raise PerfectSeparationError(text)
        warnings.warn(text, PerfectSeparationWarning, stacklevel=3)
        f = model._likelihood
        fit.normalized_cov_params, fit._undetermined = covariance(found.hessian, f.m, f.sizes())
    if model._weights is not None:
        fit.nobs = model._likelihood.m
    if chosen:
        kinds = chosen.get("cov_kwds") or {}
        set_covariance(model, fit, chosen.get("cov_type", "nonrobust"), chosen.get("use_t"), dict(kinds))
    return fit


def _by_newton(
    model: Any, start: Any, maxiter: int, full_output: Any, disp: Any, callback: Any, kwargs: dict[str, Any]
) -> Any:
    """Return a fit by our Newton's method in the same form, with the settings that statsmodels would record."""
    f = model._likelihood
    warn, retall = kwargs.pop("warn_convergence", True), kwargs.pop("retall", False)
    for name in ("skip_hessian", "fargs"):
        kwargs.pop(name, None)
    check_kwargs(kwargs, ("tol", "ridge_factor"), "newton")
    if not full_output:
        warnings.warn(
            "full_output=False is deprecated and has no effect: fit always knows how it went", FutureWarning,
            stacklevel=4,
        )  # fmt: skip
    theta = rough_start(f) if start is None else flat(start).astype(np.float64)
    tol = float(kwargs.get("tol", 1e-8))
    look = lambda theta, step, **k: separation(f, theta, step, **k)  # noqa: E731
    found = newton(f, theta, tol=tol, max_iter=maxiter, callback=callback, divergence=look)
    if disp:
        _tell(found)
    H = found.hessian
    inverse, undetermined = covariance(H, f.m)
    fit = LikelihoodModelResults(model, found.theta, inverse, scale=1.0)
    fit._undetermined = undetermined
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
        warnings.warn("no standard errors: the information is not a number", HessianInversionWarning, stacklevel=4)
    if warn and not found.converged:
        warnings.warn(
            "Maximum Likelihood optimization failed to converge. Check mle_retvals",
            ConvergenceWarning,
            stacklevel=4,
        )
    return fit


def _tell(found: Maximum) -> None:
    """Print in statsmodels' words how Newton's method ended."""
    print(
        "Optimization terminated successfully."
        if found.converged
        else "Warning: the classes are separated."
        if found.separated
        else "Warning: Maximum number of iterations has been exceeded."
    )
    print(f"         Current function value: {found.value:f}")
    print(f"         Iterations {found.n_iter:d}")


def _warn_of_collinear(model: Any) -> None:
    """Warn of each column of exog that is a linear combination of those before it."""
    full = (model.exog.shape[1] - 1) * model._equations
    if model._check_rank and model.df_model == full:  # the model has already found that exog has full rank
        return
    matrix = gram(double(model.exog))
    for *others, column in [] if Factor(matrix).sound else collinear(matrix):
        made = f"made of {', '.join(model.exog_names[k] for k in others)}" if others else "0 throughout"
        warnings.warn(
            f"exog is collinear: column {model.exog_names[column]!r} is {made}, so that their coefficients are not "
            "determined: leave one of them out. Their standard errors are infinite",
            CollinearityWarning,
            stacklevel=4,
        )


def _separation_at(model: Any, params: npt.ArrayLike) -> Separation | None:
    """Return a separation that is found from where another optimiser has ended, or None."""
    f, theta = model._likelihood, flat(params)
    step = Factor(f.hessian(theta)).solve(-f.value_and_grad(theta)[1])
    return separation(f, theta, step, at_last=True)
