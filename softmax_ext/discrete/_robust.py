"""Robust covariances of estimates: sandwiches of all samples (HC) and of clusters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.base.covtype import descriptions, get_robustcov_results
from statsmodels.tools.grouputils import combine_indices

from ..inference._covariance import clustered_scores, squared_scores
from ._params import flat

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


def set_covariance(model: Any, results: Any, kind: str, use_t: bool | None, options: dict[str, Any]) -> None:
    """Set the covariance of results: HC and clusters are computed here, block by block, other kinds by statsmodels."""
    use_t = results.use_t if use_t is None else use_t
    if kind == "nonrobust":
        results.use_t = use_t
        results.cov_type = kind
        results.cov_kwds = {
            "description": "Standard Errors assume that the covariance matrix of the errors is correctly specified."
        }
        return
    f, theta = model._likelihood, flat(results.params)
    if kind.upper() in ("HC0", "HC1", "HC2", "HC3"):
        bread = results.normalized_cov_params
        setattr(results, f"cov_{kind.upper()}", bread @ squared_scores(f, theta) @ bread)
    if kind.lower() != "cluster":
        with _invertible(model, results):
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
        cov, results.n_groups = _clustered(model, results, groups, correct)
        fewest = results.n_groups
    else:
        first, a = _clustered(model, results, groups[:, 0], correct)
        second, b = _clustered(model, results, groups[:, 1], correct)
        both, _ = _clustered(model, results, combine_indices((groups[:, 0], groups[:, 1]))[0], correct)
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


@contextmanager
def _invertible(model: Any, results: Any) -> Iterator[None]:
    """Let statsmodels, which inverts the model's Hessian, find one that is regular in undetermined directions, too.

    Scores have no part in such directions, so a sandwich does not depend on what the Hessian is there.
    """
    undetermined = getattr(results, "_undetermined", None)  # fits by statsmodels' own optimisers have none
    if undetermined is None:
        yield
        return
    hessian, null = model.hessian, undetermined.null / undetermined.scale[:, np.newaxis]
    model.hessian = lambda params: hessian(params) - model._likelihood.m * null @ null.T
    try:
        yield
    finally:
        del model.hessian


def _clustered(model: Any, results: Any, groups: Array, correct: bool) -> tuple[Vector, int]:
    """Return the clustered covariance, if asked for with the small-sample correction, and the number of groups."""
    f, bread = model._likelihood, results.normalized_cov_params
    names, number = np.unique(groups, return_inverse=True)
    cov = bread @ clustered_scores(f, flat(results.params), number.ravel()) @ bread
    n = len(names)
    if correct:
        cov *= n / (n - 1.0) * ((f.m - 1.0) / (f.m - f.size))
    return cov, n
