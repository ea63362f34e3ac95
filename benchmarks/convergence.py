"""Fit by softmax_ext, scikit-learn and scikit-learn-intelex, and draw the objective against time.

    python benchmarks/convergence.py           the measurement, for a machine that does nothing else
    python benchmarks/convergence.py --quick   with fewer points of scikit-learn, for work on the plot

Each of our points is an iteration, as `callback` sees it. scikit-learn does not show its iterations, so each of its
points is a fit of its own, which max_iter ends. The plot is written to docs/solvers.png. Fashion-MNIST comes from
Debian's package dataset-fashion-mnist.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from roofline import processor, save
from suite.common import PINS

import softmax_ext
from softmax_ext import SoftmaxObjective
from softmax_ext._data import datasets
from softmax_ext.linear_model import LogisticRegression

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "solvers.png"
COLOURS = {"softmax_ext": "#1f77b4", "scikit-learn": "#d95f02", "scikit-learn-intelex": "#7a7a7a"}
FITS = (1, 2, 4, 8, 16, 32, 64, 100)  # max_iter of scikit-learn's fits, up to its default


def letters():
    """Return samples like those of LetterRecognition: 16 integers from 0 to 15, in 26 classes that overlap."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 26, 20_000)
    centres, mixing = rng.normal(7, 2.5, (26, 16)), rng.normal(0, 0.6, (16, 16)) + np.eye(16)
    return np.clip(np.rint(centres[y] + rng.standard_normal((20_000, 16)) @ mixing * 1.5), 0, 15), y


def peers():
    from sklearn.linear_model import LogisticRegression as Sklearn

    found = {"scikit-learn": Sklearn}
    try:
        from sklearnex.linear_model import LogisticRegression as Intelex
    except ImportError:
        print("scikit-learn-intelex is not installed, and left out")
    else:
        found["scikit-learn-intelex"] = Intelex
    return found


def ours(X, y):
    """Return (seconds, objective) after each iteration of the faster of two fits."""
    runs = []
    for _ in range(2):
        times = []
        start = time.perf_counter()
        model = LogisticRegression(callback=lambda *_: times.append(time.perf_counter() - start)).fit(X, y)  # noqa: B023
        runs.append((times, model.loss_curve_[1:]))
    return min(runs, key=lambda run: run[0][-1])


def theirs(Model, X, y, fits):
    """Return (seconds, objective) of fits that end after more and more iterations."""
    objective, times, values = SoftmaxObjective(X, y, l2=1 / len(X)), [], []
    for iterations in fits:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start = time.perf_counter()
            model = Model(max_iter=iterations).fit(X, y)
            times.append(time.perf_counter() - start)
        values.append(objective.value(np.concatenate([model.coef_.ravel(), model.intercept_])))
    return times, values


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer points")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/solvers.png")
    options = parser.parse_args()
    if PINS:
        sys.exit(f"{' and '.join(PINS)} would slow scikit-learn down: run under env -u {' -u '.join(PINS)}")
    data = {"26 classes of 16 raw counts, 20000 samples": letters()}
    try:
        fashion = datasets.fashion_mnist(0)
        data["Fashion-MNIST, 60000 x 784, 10 classes, float32"] = fashion.X_train, fashion.y_train
    except datasets.DatasetError as error:
        print(f"Fashion-MNIST is left out: {error}")
    config = softmax_ext.show_config()
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    figure.suptitle(f"{processor()}, {config.threads} threads, {config.isa}, default settings", fontsize=11)
    for axes, (title, (X, y)) in zip(np.atleast_1d(figure.subplots(1, len(data))), data.items(), strict=True):
        curves = {"softmax_ext": ours(X, y)}
        for name, Model in peers().items():
            curves[name] = theirs(Model, X, y, FITS[2:6:3] if options.quick else FITS)
        best = min(min(values) for _, values in curves.values())
        for name, (times, values) in curves.items():
            gap = np.maximum(np.array(values) - best, 1e-6)
            axes.plot(times, gap, marker=".", color=COLOURS[name], label=name)
            print(f"{title}: {name} {values[-1]:.6f} after {times[-1]:.3f} s")
        axes.set(xscale="log", yscale="log", xlabel="seconds", ylabel=f"objective, above {best:.5f}", title=title)
        axes.legend(frameon=False, fontsize=9)
    save(figure, options.output)
    print(options.output)


if __name__ == "__main__":
    main()
