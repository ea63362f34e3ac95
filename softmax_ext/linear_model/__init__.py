"""scikit-learn's `LogisticRegression` and `LogisticRegressionCV`, faster; paths of penalties; and plots of both.

`_logistic.py` has one fit, `_selection.py` the choice of C by cross-validation, `_path.py` the fits along a path of C,
`_many.py` many small fits side by side, and `_displays.py` the plots. `_trail.py` lets fits share what they have found,
`_folds.py` has a fold and its scores, `_grid.py` fits all folds at each C, `_pieces.py` has the folds of chunks and
clusters, and `_interchange.py` converts estimators to scikit-learn's and back.
"""

try:
    from ._displays import CVDisplay, PathDisplay
    from ._logistic import LogisticRegression
    from ._many import fit_many
    from ._path import Path, logistic_regression_path
    from ._selection import LogisticRegressionCV
except ImportError as error:
    raise ImportError(
        f"softmax_ext.linear_model needs scikit-learn >= 1.6 ({error}): pip install 'softmax_ext[sklearn]'"
    ) from error

__all__ = [
    "CVDisplay",
    "LogisticRegression",
    "LogisticRegressionCV",
    "Path",
    "PathDisplay",
    "fit_many",
    "logistic_regression_path",
]
