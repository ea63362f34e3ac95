"""statsmodels' results, with our computations where they need the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import statsmodels.discrete.discrete_model as theirs
from statsmodels.base.wrapper import populate_wrapper
from statsmodels.iolib.summary import Summary, summary_params, table_extend
from statsmodels.tools._decorators import cache_readonly

from ..inference._identified import Separation, Undetermined, without
from ._margins import Margins
from ._robust import set_covariance

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class Results:
    """The base of both models' results."""

    model: Any
    method: str
    mle_retvals: dict[str, Any]
    cov_type: str
    use_t: bool
    prsquared: float
    llr_pvalue: float
    _get_endog_name: Any
    params: Vector
    _undetermined: Undetermined | None = None  # directions of which `normalized_cov_params`, an inverse, knows nothing

    @property
    def separation(self) -> Separation | None:
        """A direction along which the likelihood grows without end, if the classes are separated."""
        found: Separation | None = self.mle_retvals.get("separation")
        return found

    @cache_readonly  # type: ignore[untyped-decorator]
    def llnull(self) -> float:
        """Log-likelihood of a constant alone, from the classes' counts or, where there is an offset, by a fit."""
        if hasattr(self, "_optim_kwds_null"):  # the user has set options for fitting the null model
            found: float = theirs.DiscreteResults.llnull.fget(self)
            return found
        counted: float | None = self.model._null_loglike()
        if counted is not None:
            return counted
        model = self.model
        null = type(model)(model.endog, np.ones(len(model.exog)), **model._get_init_kwds())
        fitted: float = null.fit(disp=0, warn_convergence=False).llf
        return fitted

    def cov_params(
        self, r_matrix: Any = None, column: Any = None, scale: Any = None, cov_p: Any = None, other: Any = None
    ) -> Any:
        """Return the covariance of parameters or contrasts; see `statsmodels.base.model.LikelihoodModelResults`.

        What the data do not determine has an infinite variance, and NaN for covariances.
        """
        found = super().cov_params(r_matrix, column, scale, cov_p, other)  # type: ignore[misc]
        if self._undetermined is None or cov_p is not None or hasattr(self, "constraints"):
            return found
        if r_matrix is None:
            r_matrix = np.eye(self.params.size)
            r_matrix = r_matrix if column is None else r_matrix[column]
        lost = self._undetermined.lost(np.atleast_2d(r_matrix))
        if other is None:
            return without(np.atleast_2d(found), lost).reshape(np.shape(found))
        return np.where(lost[:, np.newaxis] | self._undetermined.lost(np.atleast_2d(other)), np.nan, found)

    def _covariance_of(self, A: Vector, part: float) -> Vector:
        """Return the covariance of functions with these derivatives; those that are undetermined by a part are lost."""
        found: Vector = super().cov_params(A)  # type: ignore[misc]
        constrained = hasattr(self, "constraints")
        return found if self._undetermined is None or constrained else without(found, self._undetermined.lost(A, part))

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
        """Return statsmodels' table, with a note below it if classes are separated.

        The table is put together here, since statsmodels also makes LaTeX that nobody asked for, and deep copies of
        the classes' tables, which take most of the time of a small fit (docs/notes.md, "Tables of results").
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
        table.tables.append(_coefficients(self, names, xname, alpha))
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
        set_covariance(self.model, self, cov_type, use_t, cov_kwds)

    def _counted(self, predicted: Array, K: int) -> Vector:
        table = np.zeros((K, K))
        s = self.model._weights
        np.add.at(table, (np.asarray(self.model.endog).astype(int), predicted.astype(int)), 1.0 if s is None else s)
        return table


def _coefficients(results: Any, yname: Any, xname: Any, alpha: float) -> Any:
    """Return the table of the coefficients, where several classes stand one below the other."""
    options = {"xname": xname, "alpha": alpha, "use_t": results.use_t}
    if results.params.ndim == 1:
        return summary_params(results, yname=yname, **options)
    names = yname if isinstance(yname, list) else results.model.endog_names[1:]
    if len(names) != results.params.shape[1]:
        raise ValueError(f"yname_list must have {results.params.shape[1]} names, got {names}")
    tables, interval = [], results.conf_int(alpha)
    columns = (results.params, results.bse, results.tvalues, results.pvalues)
    for k, name in enumerate(names):
        table = summary_params((results, *(each[:, k] for each in columns), interval[k]), yname=name, **options)
        table.title = name
        table.__deepcopy__ = lambda memo, table=table: table  # no copy is needed of a table that nobody else holds
        tables.append(table)
    return table_extend(tables, keep_headers=True)


class MNLogitResults(Results, theirs.MultinomialResults):  # type: ignore[misc]
    """statsmodels' results of a multinomial logit model."""

    def pred_table(self) -> Vector:
        """Return how often class i was observed and class j predicted, (K, K)."""
        return self._counted(self.predict().argmax(axis=1), self.model.J)


class LogitResults(Results, theirs.LogitResults):  # type: ignore[misc]
    """statsmodels' results of a logit model."""

    def pred_table(self, threshold: float = 0.5) -> Vector:
        """Return how often i was observed and j predicted, (2, 2); 1 is predicted above this probability of it."""
        if self.model._weights is None:
            found: Vector = super().pred_table(threshold)
            return found
        return self._counted(self.predict() > threshold, 2)


# statsmodels' wrappers call its own methods, not those that a class overrides, unless they are made anew for the class.
class MNLogitResultsWrapper(theirs.MultinomialResultsWrapper):  # type: ignore[misc]
    """statsmodels' wrapper, which returns data frames where the data are some."""


class LogitResultsWrapper(theirs.BinaryResultsWrapper):  # type: ignore[misc]
    """statsmodels' wrapper, which returns data frames where the data are some."""


populate_wrapper(MNLogitResultsWrapper, MNLogitResults)
populate_wrapper(LogitResultsWrapper, LogitResults)
