"""`MNLogit` and `Logit` with statsmodels' interface, on the fused pass: one changed import.

::

    from softmax_ext.discrete import MNLogit        # instead of statsmodels.api

    print(MNLogit(y, X).fit().summary())

They are subclasses of statsmodels' models. Everything that depends on the data is computed here: likelihood, score,
information, robust and clustered covariances, marginal effects with their derivatives, the null model, predictions.
Results, tables and tests are statsmodels' own.

`_model.py` has what both models share, `_mnlogit.py` and `_logit.py` have the models, `_fitting.py` fits them,
`_robust.py` computes robust and clustered covariances, and `_results.py` and `_margins.py` have results and marginal
effects.
"""

try:
    from ._logit import Logit
    from ._mnlogit import MNLogit
except ImportError as error:
    raise ImportError(
        f"softmax_ext.discrete needs statsmodels >= 0.14.4 ({error}): pip install 'softmax_ext[statsmodels]'"
    ) from error

__all__ = ["Logit", "MNLogit", "logit", "mnlogit"]

mnlogit, logit = MNLogit.from_formula, Logit.from_formula
