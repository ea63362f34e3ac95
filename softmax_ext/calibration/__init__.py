"""Calibrated probabilities: the scores of a classifier, scaled on samples that it was not fitted to.

`TemperatureScaling` has one parameter, `VectorScaling` two for each class, and `MatrixScaling` a matrix. All apply
softmax to a linear function of the scores. The first two are fitted by reads of the scores that write nothing, the
third by the passes of `LogisticRegression`. `expected_calibration_error` measures the calibration, and
`reliability_display` draws it.
"""

try:
    import sklearn as _sklearn  # noqa: F401 - only to raise a better error below
except ImportError as error:
    raise ImportError(
        f"softmax_ext.calibration needs scikit-learn ({error}): pip install 'softmax_ext[sklearn]'"
    ) from error

from ._measures import expected_calibration_error, reliability_display
from ._scaling import MatrixScaling, TemperatureScaling, VectorScaling

__all__ = [
    "MatrixScaling",
    "TemperatureScaling",
    "VectorScaling",
    "expected_calibration_error",
    "reliability_display",
]
