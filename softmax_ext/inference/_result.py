"""`Inference`, which holds estimates with their covariance, and computes tests, intervals and tables of them."""

from __future__ import annotations

import html
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ._display import InferenceDisplay
from ._identified import Separation, without

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Inference:
    """Coefficients of a logit model with standard errors, tests and intervals: `LogisticRegression.inference`.

    Attributes
    ----------
    estimate : ndarray, shape (R, P)
        Coefficients: a row for each class that has some, a column for each feature, and the intercept last.
    covariance : ndarray, shape (R P, R P)
        Covariance of the coefficients, which are taken row after row.
    rows : ndarray, shape (R,)
        The classes of the rows.
    columns : tuple of str
        The features' names, and "intercept".
    base : object
        The class that the others are compared with, or None if the rows sum to zero.
    log_likelihood, null_log_likelihood : float
        Log-likelihood of this model, and of a constant alone, or, without an intercept, of equal probabilities.
    n_samples : float
        m, the sum of the weights: a sample of weight 2 counts for two.
    df : float
        Number of free parameters. With a penalty it is the effective number, the trace of (H + P)⁻¹ H, where H is the
        mean information and P the penalty's Hessian.
    note : str
        A sentence that says what the covariance is.
    penalised : bool
        Whether there is a penalty. Estimates are then biased towards 0, and `p_value` is not to be trusted.
    separation : Separation or None
        A direction along which the likelihood grows without end. Coefficients that take part in it have infinite
        standard errors.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> result = LogisticRegression(C=np.inf).inference(X[50:], y[50:])
    >>> result.std_error.round(2).tolist()
    [[2.39, 4.48, 4.74, 9.74, 25.71]]
    >>> round(result.mcfadden_r2, 3)
    0.914
    """

    estimate: Vector
    covariance: Vector
    rows: Array
    columns: tuple[str, ...]
    base: Any
    log_likelihood: float
    null_log_likelihood: float
    n_samples: float
    df: float
    note: str
    penalised: bool
    separation: Separation | None

    def __post_init__(self) -> None:
        self.estimate.flags.writeable = self.covariance.flags.writeable = False

    @property
    def coef(self) -> Vector:
        """Coefficients of the features, (R, D)."""
        return self.estimate[:, : self.estimate.shape[1] - ("intercept" in self.columns[-1:])]

    @property
    def intercept(self) -> Vector:
        """Intercepts, (R,), or zeros if the model has none."""
        return self.estimate[:, -1] if "intercept" in self.columns[-1:] else np.zeros(len(self.estimate))

    @property
    def std_error(self) -> Vector:
        """Standard errors, (R, P), infinite where the data do not determine a coefficient."""
        return np.sqrt(np.maximum(self.covariance.diagonal(), 0)).reshape(self.estimate.shape)

    @property
    def z(self) -> Vector:
        """Estimates divided by their standard errors, (R, P)."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(self.estimate / self.std_error)

    @property
    def p_value(self) -> Vector:
        """Two-sided p values of Wald's test that a coefficient is 0, (R, P)."""
        from scipy.special import ndtr

        return np.asarray(2 * ndtr(-np.abs(self.z)))

    def interval(self, level: float = 0.95) -> Vector:
        """Return confidence intervals, (R, P, 2): lower and upper bounds at a level between 0 and 1."""
        from scipy.special import ndtri

        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}: 0.95 stands for 95 %")
        half = ndtri((1 + level) / 2) * self.std_error
        return np.stack([self.estimate - half, self.estimate + half], axis=-1)

    @property
    def deviance(self) -> float:
        """Minus twice the log-likelihood."""
        return -2 * self.log_likelihood

    @property
    def aic(self) -> float:
        """Akaike's criterion, the deviance plus 2 df."""
        return self.deviance + 2 * self.df

    @property
    def bic(self) -> float:
        """Schwarz's criterion, the deviance plus log(m) df."""
        return self.deviance + float(np.log(self.n_samples)) * self.df

    @property
    def mcfadden_r2(self) -> float:
        """McFadden's R², 1 - log_likelihood / null_log_likelihood."""
        return 1 - self.log_likelihood / self.null_log_likelihood

    def against(self, base: Any) -> Inference:
        """Return the inference of coefficients that compare each class with one of them, as statsmodels and R print.

        Parameters
        ----------
        base : object
            The class to compare with. Its coefficients are subtracted from those of the others, which then are log-odds
            ratios against it.

        Returns
        -------
        Inference
            A row for each other class, with `base` as given.

        Raises
        ------
        ValueError
            If `base` is none of the classes.
        """
        classes = self.rows if self.base is None else np.concatenate([np.asarray([self.base]), self.rows])
        place = np.flatnonzero(classes == base)
        if not len(place):
            raise ValueError(f"base must be one of the classes {classes.tolist()}, got {base!r}")
        kept = np.delete(np.arange(len(classes)), place[0])
        A = np.zeros((len(kept), len(classes)))
        A[np.arange(len(kept)), kept] = 1
        A[:, place[0]] = -1
        A = A if self.base is None else A[:, 1:]
        R, P = self.estimate.shape
        C, variance = self.covariance.reshape(R, P, R, P), self.covariance.diagonal().reshape(R, P)
        with np.errstate(invalid="ignore"):
            made = np.einsum("ak,kelf,bl->aebf", A, np.where(np.isfinite(C), C, 0), A)
        lost = (np.abs(A) > 0).astype(float) @ ~np.isfinite(variance) > 0
        matrix = without(made.reshape(len(kept) * P, -1), lost.ravel())
        return replace(self, estimate=A @ self.estimate, covariance=matrix, rows=classes[kept], base=base)

    def _lines(self) -> list[tuple[str, ...]]:
        """Return the table's cells as text, a row for each coefficient."""
        interval, found = self.interval(), []
        for r, row in enumerate(self.rows):
            for c, column in enumerate(self.columns):
                numbers = (self.estimate[r, c], self.std_error[r, c], self.z[r, c])
                cells = [f"{number:.4g}" for number in numbers]
                ends = [f"{end:.4g}" for end in interval[r, c]]
                found.append((str(row) if not c else "", column, *cells, f"{self.p_value[r, c]:.3f}", *ends))
        return found

    @property
    def _head(self) -> tuple[str, ...]:
        return ("class", "", "coef", "std err", "z", "P>|z|", "[0.025", "0.975]")

    @property
    def _title(self) -> str:
        against = "coefficients sum to 0 over the classes" if self.base is None else f"against class {self.base}"
        return (
            f"{self.n_samples:g} samples, {against}\n"
            f"log-likelihood {self.log_likelihood:.6g}, null {self.null_log_likelihood:.6g}, McFadden's R² "
            f"{self.mcfadden_r2:.4f}, {self.df:.4g} parameters, AIC {self.aic:.6g}, BIC {self.bic:.6g}"
        )

    def __str__(self) -> str:
        lines = [self._head, *self._lines()]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self._head))]
        text = []
        for line in lines:
            cells = [
                cell.ljust(width) if i < 2 else cell.rjust(width)
                for i, (cell, width) in enumerate(zip(line, widths, strict=True))
            ]
            text.append("  ".join(cells).rstrip())
        rule = "-" * max(map(len, text))
        return "\n".join([self._title, rule, text[0], rule, *text[1:], rule, self.note])

    def __repr__(self) -> str:
        R, P = self.estimate.shape
        return f"<Inference: {R} x {P} coefficients of {self.n_samples:g} samples; print it for a table>"

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self._head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in line) + "</tr>" for line in self._lines()
        )
        title, note = html.escape(self._title).replace("\n", "<br>"), html.escape(self.note)
        return f"<p>{title}</p><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><p>{note}</p>"

    def to_frame(self) -> Any:
        """Return the table as a pandas data frame, with a row for each class and feature."""
        import pandas

        index = pandas.MultiIndex.from_product([self.rows.tolist(), self.columns], names=["class", "column"])
        low, high = self.interval().reshape(-1, 2).T
        columns = {
            "coef": self.estimate.ravel(), "std_err": self.std_error.ravel(), "z": self.z.ravel(),
            "p_value": self.p_value.ravel(), "low": low, "high": high,
        }  # fmt: skip
        return pandas.DataFrame(columns, index=index)

    def plot(self, **options: Any) -> Any:
        """Draw the coefficients and return the `InferenceDisplay`; its `plot` has the options."""
        return InferenceDisplay.from_inference(self, **options)
