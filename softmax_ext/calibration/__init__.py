"""Probabilities that mean what they say: scores of a classifier, scaled on samples that it has not seen.

`TemperatureScaling` has one parameter, `VectorScaling` two for each class, `MatrixScaling` a matrix. All are softmax of
a linear function of the scores, so Newton's method fits them by the passes that fit `LogisticRegression`.
`expected_calibration_error` measures what is gained, and `reliability_display` draws it.
"""

try:
    import sklearn as _sklearn  # noqa: F401 - what is missing is told below
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
