"""Draw gradient.png: what the gradient does to the regions of three classes, and its field for two weights.

python gradient.py [FILE]
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure

from softmax_ext import loss_grad, predict_proba

COLOURS = ["#d1495b", "#00798c", "#edae49"]
RATE = 0.5


def descend(X: np.ndarray, y: np.ndarray, W: np.ndarray, steps: int) -> np.ndarray:
    """Take steps of gradient descent; return the weights before each one and after the last, (steps + 1, K, D)."""
    path = [W]
    for _ in range(steps):
        path.append(path[-1] - RATE * loss_grad(X, y, path[-1]).dW)
    return np.array(path)


def draw_regions(axes: Axes, X: np.ndarray, y: np.ndarray, W: np.ndarray, title: str) -> None:
    """Draw the classes' regions and posteriors, the samples by their residuals, the weights and where they go next."""
    grid = np.linspace(-4, 4, 201)
    at = np.stack(np.meshgrid(grid, grid), axis=-1)
    S = predict_proba(at.reshape(-1, 2), W)
    picture = (S @ np.array([to_rgb(colour) for colour in COLOURS])).reshape((*at.shape[:2], 3))
    axes.imshow(1 - 0.35 * (1 - picture), origin="lower", extent=(-4, 4, -4, 4))
    if W.any():
        axes.contour(grid, grid, S.argmax(axis=1).reshape(len(grid), -1), levels=[0.5, 1.5], colors="white")
    residual = np.abs(predict_proba(X, W) - np.eye(3)[y]).sum(axis=1) / 2
    axes.scatter(*X.T, s=45 * residual + 1, c=y, cmap=ListedColormap(COLOURS), edgecolors="black", linewidths=0.3)
    arrow = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": COLOURS, "edgecolor": "black", "linewidth": 0.6}
    axes.quiver(*np.zeros_like(W).T, *W.T, width=0.012, zorder=3, **arrow)
    loss, dW, _ = loss_grad(X, y, W)
    axes.quiver(*W.T, *-dW.T, width=0.006, zorder=4, **arrow)
    axes.set(title=f"{title}: loss {loss:.3f}", xlabel="$x_1$, $w_1$", ylabel="$x_2$, $w_2$")
    axes.set(xlim=(-4, 4), ylim=(-4, 4), xticks=range(-4, 5, 2), yticks=range(-4, 5, 2))


def draw_field(axes: Axes, X: np.ndarray, y: np.ndarray) -> None:
    """Draw the loss of class 1's two weights, less class 0's; minus its gradient; the path from (-2, 3)."""

    def at(w1: float, w2: float) -> tuple[float, np.ndarray]:
        loss, dW, _ = loss_grad(X, y, np.array([[0, 0], [w1, w2]]))
        return loss, dW[1]

    ticks = np.linspace(-4, 4, 81)
    J = np.array([[at(w1, w2)[0] for w1 in ticks] for w2 in ticks])
    contours = axes.contour(ticks, ticks, J, levels=[0.35, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2, 3, 4], cmap="viridis")
    axes.clabel(contours, fontsize=7)
    coarse = ticks[4::8]
    gradient = np.array([[at(w1, w2)[1] for w1 in coarse] for w2 in coarse])
    axes.quiver(coarse, coarse, *-np.moveaxis(gradient, -1, 0), color="0.45", width=0.004)
    path = descend(X, y, np.array([[0, 0], [-2.0, 3.0]]), 400)
    weights = path[:, 1] - path[:, 0]
    axes.plot(*weights.T, color="#d1495b", marker=".", markersize=3, linewidth=1)
    axes.plot(*weights[-1], marker="*", color="#d1495b", markersize=12)
    axes.set(title="two classes: loss and minus its gradient", xlabel="$w_1$", ylabel="$w_2$", aspect="equal")


def main(path: Path) -> None:
    """Draw and write the picture."""
    rng = np.random.default_rng(1)
    y = np.arange(90) % 3
    X = rng.standard_normal((90, 2)) * 0.9 + np.array([[2, 0.6], [-1.4, 1.6], [-0.6, -2]])[y]
    weights = descend(X, y, np.zeros((3, 2)), 2000)
    figure = Figure(figsize=(9, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    for axes, steps in zip(panels.flat, (0, 4, 2000), strict=False):
        draw_regions(axes, X, y, weights[steps], f"after {steps} steps" if steps else "at the start")
    draw_field(panels[1, 1], *overlapping(rng))
    figure.savefig(path, dpi=110)


def overlapping(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two classes that no line separates, so that the loss has a minimum."""
    y = np.arange(100) % 2
    return rng.standard_normal((100, 2)) * 1.2 + np.array([[-0.8, -0.2], [0.8, 0.5]])[y], y


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_suffix(".png"))
