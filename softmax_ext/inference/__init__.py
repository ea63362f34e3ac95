"""Standard errors, tests and intervals of coefficients, as tables and as plots.

`LogisticRegression.inference` returns an `Inference`. `InferenceDisplay` draws one, or statsmodels' results.
"""

from ._display import InferenceDisplay
from ._identified import Separation
from ._result import Inference

__all__ = ["Inference", "InferenceDisplay", "Separation"]
