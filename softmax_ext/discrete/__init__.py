"""`MNLogit` and `Logit` with statsmodels' interface, on the fused pass: one changed import.

::

    from softmax_ext.discrete import MNLogit        # instead of statsmodels.api

    print(MNLogit(y, X).fit().summary())

They are statsmodels' models, in which everything that is computed from the data is computed here: likelihood, score,
information, robust and clustered covariances, marginal effects with their derivatives, the null model, predictions.
Results, tables and tests are statsmodels' own.

`_model.py` has what both models are asked for, `_mnlogit.py` and `_logit.py` the two, `_fitting.py` how a fit goes,
`_robust.py` the covariances that do without the model's, `_results.py` and `_margins.py` what is made of a fit.
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
