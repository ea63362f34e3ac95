"""Standard errors, tests and intervals of coefficients, as results and as pictures.

`LogisticRegression.inference` returns an `Inference`; `InferenceDisplay` draws it, and statsmodels' results too.
"""

from ._display import InferenceDisplay
from ._identified import Separation
from ._result import Inference

__all__ = ["Inference", "InferenceDisplay", "Separation"]
