"""statsmodels' marginal effects, whose derivatives are computed by formulas instead of finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from statsmodels.discrete import discrete_margins

from ..inference._margins import COUNT, DUMMY, Step, average_effects
from ._params import flat

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]

# A part of this size of an effect's derivatives, in a direction that the data do not determine, is on its way to 0. In
# fits to separated classes the parts of effects on the other classes were up to 1.5e-5, and those that stay, 1e-2.
VANISHED = 1e-3


class Margins(discrete_margins.DiscreteMargins):  # type: ignore[misc]
    """statsmodels' marginal effects, computed for a block of samples at a time."""

    def get_margeff(
        self, at: str = "overall", method: str = "dydx", atexog: Any = None, dummy: bool = False, count: bool = False
    ) -> None:
        """Compute the effects; see `statsmodels.discrete.discrete_margins.DiscreteMargins.get_margeff`."""
        at, method = at.lower(), method.lower()
        results, model = self.results, self.results.model
        weights = model._weights
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
        effects, jacobian = average_effects(exog, f.coefficients(flat(results.params)), method, weights=s, steps=steps)
        if not model._has_table:
            effects, jacobian = effects[1:], jacobian[1:]
        J, D = effects.shape
        J_params = jacobian[:, :, 1:].reshape(J * D, -1)
        cov = results._covariance_of(J_params, VANISHED)
        every = np.tile(moves, J)
        self.margeff_cov = cov[every][:, every]
        self.margeff_se = np.sqrt(np.diag(cov))[every]
        self.margeff = effects.ravel()[every]
        if model._has_table:
            self.margeff_se = self.margeff_se.reshape(-1, J, order="F")
            self.margeff = self.margeff.reshape(-1, J, order="F")


def _weighted_middle(exog: Array, weights: Vector, at: str) -> Vector:
    """Return the mean or the median of the columns, (1, D), where sample i counts weights[i] times."""
    if at == "mean":
        return np.average(exog, axis=0, weights=weights)[np.newaxis]
    order = np.argsort(exog, axis=0)
    totals = np.cumsum(weights[order], axis=0)
    half, columns = totals[-1] / 2, np.arange(exog.shape[1])
    low = order[(totals < half * (1 - 1e-12)).sum(axis=0), columns]
    high = order[np.minimum((totals <= half * (1 + 1e-12)).sum(axis=0), len(exog) - 1), columns]
    return np.asarray((exog[low, columns] + exog[high, columns]) / 2)[np.newaxis]
