"""Time scalings of scores, ours, scikit-learn's and netcal's, and print the loss at which each ends.

    python benchmarks/calibration.py [100000x10-f8 ...]

Each scaling and program has a row. It has the seconds of the fastest of some runs (netcal runs once), how many times as
long as ours that is, and the mean cross-entropy of the scaled scores on the samples of the fit. scikit-learn's scaling
is the one that ``CalibratedClassifierCV(method="temperature")`` fits to a classifier's scores.
"""

import sys
import time
import warnings

import numpy as np

from softmax_ext import cross_entropy
from softmax_ext.calibration import MatrixScaling, TemperatureScaling, VectorScaling

SHAPES = "100000x2-f8", "100000x10-f8", "100000x10-f4", "100000x100-f4", "1000000x3-f4", "20000x1000-f4"


def scores_of(shape):
    """Return labels, and scores of a classifier that is too confident, of some classes more than of others."""
    size, dtype = shape.split("-")
    N, K = map(int, size.split("x"))
    rng = np.random.default_rng(0)
    Z = 2 * rng.standard_normal((N, K), np.float32)
    y = (Z + rng.gumbel(size=Z.shape) + np.linspace(-0.5, 0.5, K)).argmax(axis=1)
    return (2.5 * Z).astype(dtype), y


def best_of(fit, repeats=5):
    """Return the least time of a call, and the result of the last one."""
    least = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        result = fit()
        least = min(least, time.perf_counter() - start)
    return least, result


def ours(kind, Z, y):
    seconds, model = best_of(lambda: kind().fit(Z, y))
    return seconds, cross_entropy(model.predict_log_proba(Z), y)


def scikit_learns(Z, y):
    from sklearn.calibration import _TemperatureScaling

    def fit():
        return _TemperatureScaling().fit(Z, y)

    seconds, model = best_of(fit, 2)
    return seconds, cross_entropy(Z * Z.dtype.type(model.beta_), y)


def netcals(Z, y):
    from netcal.scaling import TemperatureScaling as Theirs

    S = np.exp(Z - Z.max(axis=1, keepdims=True))
    S /= S.sum(axis=1, keepdims=True)
    seconds, model = best_of(lambda: Theirs().fit(S, y), 1)
    scaled = np.asarray(model.transform(S)).reshape(len(S), -1)
    if scaled.shape[1] == 1:
        scaled = np.column_stack([1 - scaled[:, 0], scaled[:, 0]])
    return seconds, cross_entropy(np.log(np.maximum(scaled, 1e-300)), y)


def main(shapes):
    print(f"{'scores':16} {'scaling':28} {'seconds':>9} {'ours':>7} {'loss':>10}")
    for shape in shapes:
        Z, y = scores_of(shape)
        for kind in (TemperatureScaling, VectorScaling, *([MatrixScaling] if Z.shape[1] <= 100 else [])):
            least, loss = ours(kind, Z, y)
            print(f"{shape:16} {kind.__name__:28} {least:9.4f} {'':7} {loss:10.7f}", flush=True)
            if kind is not TemperatureScaling:
                continue
            for name, theirs in (("scikit-learn", scikit_learns), ("netcal", netcals)):
                if name == "netcal" and Z.shape[1] > 100:
                    continue
                try:
                    with warnings.catch_warnings():
                        warnings.simplefilter("ignore")
                        seconds, loss = theirs(Z, y)
                except ImportError:
                    continue
                print(f"{'':16} {'  ' + name:28} {seconds:9.4f} {seconds / least:6.1f}x {loss:10.7f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or SHAPES)
