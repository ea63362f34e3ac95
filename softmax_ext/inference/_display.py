"""`InferenceDisplay`, which plots coefficients with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class InferenceDisplay:
    """Coefficients with confidence intervals: one line for each feature, one colour for each class.

    Parameters
    ----------
    estimate : ndarray, shape (R, P)
        Coefficients of R classes.
    std_error : ndarray, shape (R, P)
        Their standard errors. A coefficient with an infinite one is drawn hollow, without an interval.
    rows : sequence, length R
        The classes' names.
    columns : sequence of str, length P
        The features' names.
    title : str, optional
        What the coefficients are.

    Attributes
    ----------
    figure_ : matplotlib.figure.Figure
        The figure, once `plot` has drawn it.
    ax_ : matplotlib.axes.Axes
        Its axes.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.inference import InferenceDisplay
    >>> from softmax_ext.linear_model import LogisticRegression
    >>> X, y = load_iris(return_X_y=True)
    >>> result = LogisticRegression(C=np.inf).inference(X[50:], y[50:])
    >>> display = InferenceDisplay.from_inference(result)
    >>> display.ax_.get_xlabel()
    'coefficient, with 95 % intervals'
    """

    def __init__(
        self, estimate: Vector, std_error: Vector, rows: Sequence[Any], columns: Sequence[str], title: str = ""
    ) -> None:
        self.estimate, self.std_error = np.atleast_2d(estimate), np.atleast_2d(std_error)
        self.rows, self.columns, self.title = list(rows), list(columns), title

    @classmethod
    def from_inference(cls, result: Any, **options: Any) -> Self:
        """Draw the result of `LogisticRegression.inference`, and return the display; `plot` has the options."""
        title = "coefficients sum to 0 over the classes" if result.base is None else f"against class {result.base}"
        display = cls(result.estimate, result.std_error, [str(row) for row in result.rows], result.columns, title)
        return display.plot(**options)

    @classmethod
    def from_results(cls, results: Any, **options: Any) -> Self:
        """Draw the results of an `MNLogit` or `Logit`, ours or statsmodels', and return the display.

        The options are those of `plot`.
        """
        params, errors = np.asarray(results.params), np.asarray(results.bse)
        model = results.model
        if params.ndim == 2:
            names = [str(model._ynames_map[k]) for k in range(int(model.J))]
            return cls(params.T, errors.T, names[1:], model.exog_names, f"against class {names[0]}").plot(**options)
        return cls(params, errors, [f"{model.endog_names} = 1"], model.exog_names).plot(**options)

    def plot(
        self,
        ax: Any = None,
        *,
        level: float = 0.95,
        intercept: bool = False,
        columns: Sequence[str] | None = None,
    ) -> Self:
        """Draw the coefficients.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Axes to draw into; by default those of a new figure.
        level : float in (0, 1), default 0.95
            Confidence level of the intervals.
        intercept : bool, default False
            Whether the intercepts are drawn, too. They often are much larger than the coefficients.
        columns : sequence of str, optional
            The features to draw, in this order; by default all.

        Returns
        -------
        InferenceDisplay
            The display itself.

        Raises
        ------
        ValueError
            If level is not between 0 and 1, or if there is no feature of a given name.
        """
        from matplotlib.figure import Figure
        from scipy.special import ndtri

        if not 0 < level < 1:
            raise ValueError(f"level must be between 0 and 1, got {level}: 0.95 stands for 95 %")
        left_out = () if intercept else ("intercept", "Intercept", "const")
        chosen = [name for name in self.columns if name not in left_out] if columns is None else list(columns)
        unknown = [name for name in chosen if name not in self.columns]
        if unknown:
            raise ValueError(f"columns must be among {self.columns}, got {unknown[0]!r}")
        places = [self.columns.index(name) for name in chosen]
        R = len(self.rows)
        if ax is None:
            figure = Figure(figsize=(7, 1.6 + len(places) * (0.22 + 0.16 * R)), layout="constrained")
            ax = figure.subplots()
        ax.axvline(0, color="0.6", linewidth=1)
        for r, row in enumerate(self.rows):
            x, error = self.estimate[r, places], self.std_error[r, places]
            y = np.arange(len(places)) + (r - (R - 1) / 2) * 0.8 / max(R, 2)
            known = np.isfinite(error)
            half = float(ndtri((1 + level) / 2)) * error[known]
            bars = ax.errorbar(x[known], y[known], xerr=half, fmt="o", markersize=4, capsize=2, label=str(row))
            ax.plot(x[~known], y[~known], "o", markersize=4, markerfacecolor="white", color=bars[0].get_color())
        ax.set_yticks(np.arange(len(places)), chosen)
        ax.set_ylim(len(places) - 0.5, -0.5)
        ax.set(xlabel=f"coefficient, with {100 * level:g} % intervals", title=self.title)
        ax.grid(axis="x", alpha=0.3)
        if R > 1:
            ax.legend(title="class", loc="upper left", bbox_to_anchor=(1, 1))
        self.ax_, self.figure_ = ax, ax.figure
        return self
