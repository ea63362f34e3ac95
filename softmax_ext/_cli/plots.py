"""The commands' plots: loss curve, confusion matrix, reliability diagram, and weights as images and as bars."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from .._data.files import whole

Labels = NDArray[np.integer]


def loss_curve(history: NDArray[np.float64], held_out: float, title: str) -> Figure:
    """Plot the mean training loss of each epoch, with the held-out loss of the trained model as a dashed line."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(history) + 1)
    axes.plot(epochs, history, marker=".", label=f"training, mean over the epoch (last {history[-1]:.3f})")
    axes.axhline(held_out, color="tab:orange", linestyle="--", label=f"held out, after training ({held_out:.3f})")
    axes.set(title=title, xlabel="epoch", ylabel="cross-entropy loss (nats per image)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def confusion_matrix(y: Labels, predicted: Labels, classes: Sequence[str], title: str) -> Figure:
    """Plot how many images of each true class (rows) went to each predicted class (columns)."""
    K = len(classes)
    counts = np.bincount(y.astype(np.intp) * K + predicted, minlength=K * K).reshape(K, K)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(8, 7), layout="constrained")
    axes = figure.subplots()
    # On a square-root scale, an error of 1 % of a class can be seen beside a diagonal of 90 %.
    image = axes.imshow(share, cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    figure.colorbar(
        image,
        label="share of the true class (square-root scale)",
        format=PercentFormatter(1),
        shrink=0.8,
    )
    long_names = max(map(len, classes)) > 2
    axes.set_xticks(range(K), classes, rotation=45 if long_names else 0, ha="right" if long_names else "center")
    axes.set_yticks(range(K), classes)
    axes.set(title=title, xlabel="predicted class", ylabel="true class")
    for i, j in zip(*np.nonzero(counts), strict=True):
        axes.text(j, i, str(counts[i, j]), ha="center", va="center", color="white" if share[i, j] > 0.4 else "black")
    return figure


def weights(W: NDArray[np.floating], image: tuple[int, int], classes: Sequence[str], title: str) -> Figure:
    """Plot each class's weights as an image: red pixels count for the class, blue ones against it."""
    columns = math.ceil(len(W) / 2)
    # A quantile sets the scale of colours: by the largest weight, most pixels would be pale (docs/notes.md, "Colours of
    # weights").
    limit = np.quantile(np.abs(W), 0.995) or 1.0
    figure = Figure(figsize=(2 * columns + 1, 5), layout="constrained")
    grid = figure.subplots(2, columns, squeeze=False)
    for axes in grid.flat[len(W) :]:
        axes.set_axis_off()
    for axes, row, name in zip(grid.flat, W, classes, strict=False):
        picture = axes.imshow(row.reshape(image), cmap="RdBu_r", vmin=-limit, vmax=limit)
        axes.set(title=name, xticks=[], yticks=[])
    figure.colorbar(picture, ax=grid, label="weight: for the class (+) or against it (-)", extend="both", shrink=0.8)
    figure.suptitle(title)
    return figure


def reliability(S: NDArray[np.floating], y: Labels, title: str) -> Figure:
    """Plot how often the predicted class was right against its predicted probability, in ten bins.

    The number in it is the expected calibration error: the mean distance of the bins from the diagonal, weighted by the
    samples in them.
    Source: C. Guo, G. Pleiss, Y. Sun and K. Weinberger, "On calibration of modern neural networks", ICML 2017.
    """
    confidence, right = S.max(axis=1), S.argmax(axis=1) == y
    bins = np.clip(np.ceil(confidence * 10).astype(np.intp) - 1, 0, 9)
    counts = np.bincount(bins, minlength=10)
    said, was = (np.bincount(bins, each, 10) / np.maximum(counts, 1) for each in (confidence, right))
    error = float(counts @ np.abs(said - was) / len(y))
    used = counts > 0
    figure = Figure(figsize=(6, 6.5), layout="constrained")
    axes, below = figure.subplots(2, sharex=True, height_ratios=[4, 1])
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="as probable as said")
    axes.plot(said[used], was[used], marker="o", label=f"expected calibration error {error:.3f}")
    axes.set(title=title, ylabel="share of them that were right", xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    below.bar(np.arange(10) / 10 + 0.05, counts, width=0.095)
    below.set(xlabel="probability of the predicted class", ylabel="samples")
    return figure


def top_weights(
    W: NDArray[np.floating], features: Sequence[str], classes: Sequence[str], title: str, most: int = 10
) -> Figure:
    """Plot the weights that are largest in absolute value, for each of the first 20 classes; two classes share a panel.

    `W` holds each weight times the standard deviation of its column, and all panels have one scale, so that bars can be
    compared.
    """
    names = classes[1:] if len(W) == 1 else classes
    rows = min(len(W), 20)
    columns = min(rows, 3)
    lines = math.ceil(rows / columns)
    height = 0.25 * min(most, len(features)) + 0.7
    figure = Figure(figsize=(4 * columns + 1, height * lines + 0.6), layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True)
    for axes in grid.flat[rows:]:
        axes.set_axis_off()
    for axes, row, name in zip(grid.flat, W[:rows], names, strict=False):
        top = np.argsort(-np.abs(row), kind="stable")[:most][::-1]
        axes.barh(range(len(top)), row[top], color=np.where(row[top] > 0, "tab:red", "tab:blue"))
        axes.set_yticks(
            range(len(top)), [features[j] if len(features[j]) <= 24 else features[j][:23] + "…" for j in top]
        )
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set(title=name)
        axes.set_axisbelow(True)
        axes.grid(axis="x", alpha=0.3)
        axes.tick_params(labelbottom=True)
    figure.suptitle(title)
    figure.supxlabel(
        "weight times the column's standard deviation in this table: for the class (+) or against it (-)",
        fontsize="medium",
    )
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG, so that nobody finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as temporary:
        figure.savefig(temporary, format="png", backend="agg")
