"""Plots of fits along C, after scikit-learn's displays: a class method makes one, and `plot` draws it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ._grid import one_standard_error

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ._selection import LogisticRegressionCV

__all__ = ["CVDisplay", "PathDisplay"]

Array = npt.NDArray[Any]
Vector = npt.NDArray[np.float64]


class _Display:
    """A plot in one pair of axes."""

    ax_: Axes
    figure_: Figure

    def _axes(self, ax: Axes | None) -> Axes:
        if ax is None:
            from matplotlib import pyplot

            _, ax = pyplot.subplots(layout="constrained")
        self.ax_, self.figure_ = ax, ax.figure  # type: ignore[assignment]
        return ax


class CVDisplay(_Display):
    """A plot of the held-out scores of a `LogisticRegressionCV` against C.

    Each fold is a thin line, and their mean a thick one with a band of one standard error. A dashed line marks the
    chosen C, and a dotted one the strongest penalty whose mean lies within one standard error of the best.

    Parameters
    ----------
    Cs : ndarray, shape (n_cs,)
        Values of C, in any order.
    scores : ndarray, shape (folds, n_cs)
        Held-out scores.
    C : float
        The chosen value of C.
    score_name : str, optional
        Name of the scores, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that `plot` has drawn into.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : list of matplotlib Artist
        The folds' lines, if there are several, and their mean's.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import CVDisplay, LogisticRegressionCV
    >>> model = LogisticRegressionCV(l1_ratios=(0,), scoring="neg_log_loss", use_legacy_attributes=False)
    >>> display = CVDisplay.from_estimator(model.fit(*load_iris(return_X_y=True)))
    >>> display.ax_.get_ylabel()
    'neg_log_loss'
    """

    def __init__(self, *, Cs: Vector, scores: Vector, C: float, score_name: str | None = None) -> None:
        self.Cs, self.scores, self.C, self.score_name = Cs, scores, C, score_name

    @classmethod
    def from_estimator(
        cls, estimator: LogisticRegressionCV, *, ax: Axes | None = None, score_name: str | None = None, **keywords: Any
    ) -> Self:
        """Draw a fitted estimator, at its chosen l1 ratio.

        Parameters
        ----------
        estimator : LogisticRegressionCV
            A fitted estimator, with attributes of either convention (`use_legacy_attributes`).
        ax : matplotlib Axes, optional
            Axes to draw into; those of a new figure by default.
        score_name : str, optional
            Name of the scores; by default that of `scoring`.
        **keywords : dict
            Options of matplotlib's `plot` for the line of the mean.

        Returns
        -------
        CVDisplay
            The display, already drawn.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        """
        from sklearn.utils.validation import check_is_fitted

        check_is_fitted(estimator, "scores_")
        scores: Any = estimator.scores_
        if isinstance(scores, dict):  # of arrays (folds, n_cs, n_l1), or (folds, n_cs)
            scores = next(iter(scores.values()))
            scores = scores[:, :, 0] if scores.ndim == 3 else scores
        else:
            scores = scores[:, 0]
        if score_name is None:
            scoring = estimator.scoring
            known = isinstance(scoring, str) and scoring != "warn"
            score_name = scoring if known else "score" if callable(scoring) else "accuracy"  # type: ignore[assignment]
        C = float(np.ravel(estimator.C_)[0])
        return cls(Cs=estimator.Cs_, scores=scores, C=C, score_name=score_name).plot(ax=ax, **keywords)

    def plot(self, *, ax: Axes | None = None, **keywords: Any) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw into; those of a new figure by default.
        **keywords : dict
            Options of matplotlib's `plot` for the line of the mean.

        Returns
        -------
        CVDisplay
            The display itself, with `ax_` and `figure_`.
        """
        ax = self._axes(ax)
        order = np.argsort(self.Cs, kind="stable")
        Cs, scores = self.Cs[order], self.scores[:, order]
        mean, folds = scores.mean(axis=0), len(scores)
        x, infinite = _abscissae(Cs)
        self.lines_: list[Any] = []
        for f, each in enumerate(scores if folds > 1 else []):
            self.lines_ += ax.plot(x, each, color="0.75", linewidth=0.8, label=f"{folds} folds" if not f else None)
        if folds > 1:
            error = scores.std(axis=0, ddof=1) / np.sqrt(folds)
            ax.fill_between(x, mean - error, mean + error, color="tab:blue", alpha=0.15, label="± one standard error")
        self.lines_ += ax.plot(
            x, mean, **{"marker": ".", "color": "tab:blue", "label": "mean" if folds > 1 else "one fold"} | keywords
        )
        best = int(mean.argmax())
        simple = one_standard_error(scores, Cs, best)
        chosen = x[int(np.argmin(np.abs(Cs - self.C)))] if np.isinf(self.C) else self.C
        ax.axvline(chosen, color="tab:orange", linestyle="--", label=f"chosen, C = {self.C:.3g}")
        if Cs[simple] < self.C:
            ax.axvline(x[simple], color="tab:green", linestyle=":", label=f"one standard error, C = {Cs[simple]:.3g}")
        _label(ax, infinite)
        ax.set_ylabel(self.score_name or "score")
        ax.legend(fontsize="small")
        return self


class PathDisplay(_Display):
    """A plot of the coefficients against C, for what `logistic_regression_path` returns.

    Each feature has a line. For two classes it shows the feature's coefficient, for more the norm of its K coefficients
    or the coefficient of one class. The upper axis shows how many features each model uses.

    Parameters
    ----------
    Cs : ndarray, shape (n,)
        Values of C, in any order.
    heights : ndarray, shape (n, D)
        What is drawn: a row for each C, a column for each feature.
    degrees_of_freedom : ndarray, shape (n,)
        How many features each model uses.
    feature_names : sequence of str, optional
        Names of the features.
    name : str, optional
        Name of the heights, for the axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that `plot` has drawn into.
    figure_ : matplotlib Figure
        Their figure.
    lines_ : list of matplotlib Artist
        A line for each feature.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from softmax_ext.linear_model import PathDisplay, logistic_regression_path
    >>> iris = load_iris()
    >>> path = logistic_regression_path(iris.data, iris.target, Cs=20)
    >>> len(PathDisplay.from_path(path, feature_names=iris.feature_names).lines_)
    4
    """

    def __init__(
        self,
        *,
        Cs: Vector,
        heights: Array,
        degrees_of_freedom: npt.NDArray[np.intp],
        feature_names: Any = None,
        name: str | None = None,
    ) -> None:
        self.Cs, self.heights, self.degrees_of_freedom = Cs, heights, degrees_of_freedom
        self.feature_names, self.name = feature_names, name

    @classmethod
    def from_path(
        cls,
        path: Any,  # a Path: its module imports this one, so it cannot be named here
        *,
        ax: Axes | None = None,
        label: Any = None,
        feature_names: Any = None,
        most: int = 8,
        **keywords: Any,
    ) -> Self:
        """Draw a path.

        Parameters
        ----------
        path : Path
            The result of `logistic_regression_path`.
        ax : matplotlib Axes, optional
            Axes to draw into; those of a new figure by default.
        label : label, optional
            The class whose coefficients are drawn. By default, if there are more than two, norms over all classes are.
        feature_names : sequence of str, optional
            Names of the features; by default those that X had.
        most : int, default 8
            How many features are named: those that are largest at the last C.
        **keywords : dict
            Options of matplotlib's `plot` for all lines.

        Returns
        -------
        PathDisplay
            The display, already drawn.

        Raises
        ------
        ValueError
            If the path has no such class, or another number of features.
        """
        W, classes = path.coefs, path.classes
        names = path.feature_names if feature_names is None else feature_names
        if names is not None and len(names) != W.shape[2]:
            raise ValueError(f"feature_names has {len(names)} names, but the path has {W.shape[2]} features")
        if label is not None and label not in classes.tolist():
            raise ValueError(f"label={label!r} is none of the classes {classes.tolist()}")
        if len(classes) == 2:
            sign = -1 if label is not None and label == classes[0] else 1
            heights, name = sign * W[:, 0], f"coefficient of class {classes[0 if sign < 0 else 1]}"
        elif label is not None:
            heights, name = W[:, classes.tolist().index(label)], f"coefficient of class {label}"
        else:
            heights, name = np.linalg.norm(W, axis=1), f"norm of the {len(classes)} classes' coefficients"
        display = cls(
            Cs=path.Cs, heights=heights, degrees_of_freedom=path.degrees_of_freedom, feature_names=names, name=name
        )
        return display.plot(ax=ax, most=most, **keywords)

    def plot(self, *, ax: Axes | None = None, most: int = 8, **keywords: Any) -> Self:
        """Draw the coefficients.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            Axes to draw into; those of a new figure by default.
        most : int, default 8
            How many features are named: those that are largest at the last C.
        **keywords : dict
            Options of matplotlib's `plot` for all lines.

        Returns
        -------
        PathDisplay
            The display itself, with `ax_` and `figure_`.
        """
        ax = self._axes(ax)
        order = np.argsort(self.Cs, kind="stable")
        x, infinite = _abscissae(self.Cs[order])
        heights, used = self.heights[order], self.degrees_of_freedom[order]
        D = heights.shape[1]
        largest = np.argsort(-np.abs(heights[-1]), kind="stable")[:most]
        style: dict[str, Any] = {"linewidth": 1.2 if most >= D else 0.6, "color": "0.7"} | keywords
        self.lines_ = ax.plot(x, heights, **style)
        for place, j in enumerate(largest):
            name = f"feature {j}" if self.feature_names is None else str(self.feature_names[j])
            self.lines_[j].set(
                label=name, zorder=3, linewidth=1.4, **({} if "color" in keywords else {"color": f"C{place}"})
            )
        ax.axhline(0, color="black", linewidth=0.6)
        _label(ax, infinite)
        ax.set_ylabel(self.name or "coefficient")
        if len(largest):
            ax.legend(fontsize="small", loc="upper left", title="largest at the last C" if most < D else None)
        above = ax.secondary_xaxis("top")
        some = np.unique(np.linspace(0, len(x) - 1, 6).round().astype(int))
        above.set_xticks(x[some], [str(used[i]) for i in some])
        above.minorticks_off()
        above.set_xlabel("features in use", fontsize="small")
        return self


def _abscissae(Cs: Vector) -> tuple[Vector, float | None]:
    """Return the abscissae of increasing values of C, and that of an infinite one, a decade beyond the others."""
    finite = np.isfinite(Cs)
    if finite.all():
        return Cs, None
    behind = 10 * float(Cs[finite].max(initial=0.1))
    return np.where(finite, Cs, behind), behind


def _label(ax: Axes, infinite: float | None) -> None:
    ax.set_xscale("log")
    ax.set_xlabel("C (inverse strength of the penalty)")
    ax.grid(alpha=0.3)
    if infinite is not None:
        low = ax.get_xlim()[0]
        decades = 10.0 ** np.arange(np.ceil(np.log10(low)), np.log10(infinite))
        some = decades[:: max(1, len(decades) // 6)]
        ax.set_xticks([*some, infinite], [*(f"{C:.0e}" for C in some), "∞"])
