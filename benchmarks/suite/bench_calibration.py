"""Scalings of a classifier's scores: ours, and scikit-learn's temperature beside it."""

import numpy as np

from softmax_ext.calibration import MatrixScaling, TemperatureScaling, VectorScaling

from .common import interleaved, typical

SHAPES = {"100000x2-f8": 2, "100000x10-f8": 10, "100000x100-f4": 100}
SCALINGS = {"temperature": TemperatureScaling, "vector": VectorScaling, "matrix": MatrixScaling}


def make(shape: str) -> tuple[np.ndarray, np.ndarray]:
    """Return scores of a classifier that is too sure, of some classes more than of others, and labels."""
    K = SHAPES[shape]
    rng = np.random.default_rng(K)
    Z = 2 * rng.standard_normal((100_000, K), np.float32)
    y = (Z + rng.gumbel(size=Z.shape) + np.linspace(-0.5, 0.5, K)).argmax(axis=1)
    return (2.5 * Z).astype(shape[-2:]), y


class Scaling:
    params = (list(SCALINGS), list(SHAPES))
    param_names = ("scaling", "shape")
    repeat = (2, 5, 4.0)

    def setup(self, scaling, shape):
        self.data = make(shape)

    def time_fit(self, scaling, shape):
        SCALINGS[scaling]().fit(*self.data)


class OverSklearn:
    """scikit-learn's time for a temperature divided by ours, measured in turns."""

    params = (list(SHAPES),)
    param_names = ("shape",)
    unit = "times as fast"

    def setup(self, shape):
        try:
            from sklearn.calibration import _TemperatureScaling  # which CalibratedClassifierCV fits, since 1.8
        except ImportError as error:
            raise NotImplementedError(str(error)) from None
        Z, y = make(shape)
        self.contenders = {
            "ours": lambda: TemperatureScaling().fit(Z, y),
            "theirs": lambda: _TemperatureScaling().fit(Z, y),
        }

    def track_ratio_over_sklearn(self, shape):
        seconds = interleaved(self.contenders, rounds=3)
        return round(typical(seconds["theirs"]) / typical(seconds["ours"]), 2)
