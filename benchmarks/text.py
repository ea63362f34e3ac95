"""Time one pass over bags of words, ours and SciPy's, by the numbers of classes and features; draw docs/text.png.

python benchmarks/text.py             the measurement, for a machine that does nothing else
python benchmarks/text.py --rounds 1  for work on the plot
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from roofline import processor, save
from suite.bench_text import scipy_pass, text
from suite.common import PINS, interleaved, typical

import softmax_ext

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "text.png"
CLASSES, FEATURES = (10, 20, 40, 100, 200, 400, 1000), (1000, 10_000, 100_000, 1_000_000)
N, D, K = 20_000, 60_000, 40  # the sizes that do not vary in a panel


def measure(classes, features, rounds):
    """Return the milliseconds of one pass, ours and SciPy's."""
    X, y = text(N, features, classes)
    W = np.random.default_rng(0).standard_normal((classes, features), np.float32)
    runs = {"softmax_ext": lambda: softmax_ext.loss_grad(X, y, W), "SciPy": lambda: scipy_pass(X, y, W)}
    times = {name: typical(seconds) * 1e3 for name, seconds in interleaved(runs, rounds).items()}
    print(f"{N} x {features} x {classes}, {X.nnz} stored:", *(f"{name} {ms:.2f} ms" for name, ms in times.items()))
    return times


def draw(panels, path):
    """Draw a panel for each list of (x, times)."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    for axes, (label, points) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for name, colour in (("softmax_ext", "#1f77b4"), ("SciPy", "#d95f02")):
            axes.plot([x for x, _ in points], [times[name] for _, times in points], "o-", color=colour, label=name)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel="ms for one pass")
        axes.grid(alpha=0.3)
        axes.legend()
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    arguments = parser.parse_args()
    if PINS:
        sys.exit(f"unset {', '.join(PINS)}: they slow SciPy's peers down")
    print(processor())
    draw(
        {
            f"classes (of {N} documents, {D} words)": [(k, measure(k, D, arguments.rounds)) for k in CLASSES],
            f"words (of {N} documents, {K} classes)": [(d, measure(K, d, arguments.rounds)) for d in FEATURES],
        },
        arguments.picture,
    )


if __name__ == "__main__":
    main()
