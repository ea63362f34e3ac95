"""Compare the pass at every shape with the limit of this processor, print the table, and draw a roofline.

    python benchmarks/roofline.py              the measurement, for a machine that does nothing else
    python benchmarks/roofline.py --quick      one round, for work on the plot: its numbers mean nothing

The limit of a pass is the longer of two times, which are measured in turns with it in the same run: one read of X by
all threads, and the operations of the pass at the rate of a large matrix product. The plot is written to
docs/performance.png.
"""

import argparse
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox
from suite.common import PINS, SHAPES, Shape, interleaved, make, typical

import softmax_ext

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "performance.png"
TYPES = {"f4": ("float32", "#1f77b4"), "f8": ("float64", "#d95f02")}
SIDE = 1024  # size of the square matrices whose product gives the rate
READABLE = 2**20  # bytes of X; to start the threads would take longer than to read less
LARGE = 2**26  # bytes of X that do not stay in any cache
PLACES = [(x * side, y) for x, y in ((7, -5), (7, 5), (7, -13), (7, 13), (12, -20), (12, 20)) for side in (1, -1)]


class Result(NamedTuple):
    name: str
    shape: Shape
    nbytes: int  # the least that a pass has to move: X, y and W in, dW out
    seconds: float
    limit: float | None  # in seconds; None where X is so small that the call itself takes most of the time

    @property
    def intensity(self) -> float:
        return self.shape.flops / self.nbytes

    @property
    def rate(self) -> float:
        return self.shape.flops / self.seconds

    @property
    def label(self) -> str:
        name = self.name.rpartition("-")[0]
        return f"{name} {self.seconds / self.limit:.1f}×" if self.limit else f"{name} {self.seconds * 1e6:.0f} µs"


class Measurement(NamedTuple):
    results: list[Result]
    peak: dict[str, float]  # operations per second, by dtype
    bandwidth: float  # bytes per second, of the fastest read of a LARGE X


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one round")
    parser.add_argument("--rounds", type=int, default=7, help="default: 7, of which the lower quartile counts")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/performance.png")
    options = parser.parse_args()
    if PINS:
        sys.exit(f"{' and '.join(PINS)} would slow the matrix product down: run under env -u {' -u '.join(PINS)}")
    found = measure(SHAPES, 1 if options.quick else options.rounds)
    print(table(found))
    save(draw(found, options.quick), options.output)
    print(options.output)


def measure(shapes: dict[str, Shape], rounds: int) -> Measurement:
    """Return the times of all passes, reads and products, measured in turns."""
    data = {name: make(shape) for name, shape in shapes.items()}
    contenders = {}
    with ThreadPoolExecutor(softmax_ext.show_config().threads) as pool:
        for name, (X, y, W) in data.items():
            contenders["pass", name] = lambda X=X, y=y, W=W: softmax_ext.loss_grad(X, y, W)
            if X.nbytes >= READABLE:
                # A maximum is vectorised and releases the GIL: it runs at the memory's speed.
                pieces = np.array_split(X.reshape(-1), 8)
                contenders["read", name] = lambda pieces=pieces: list(pool.map(np.max, pieces))
        for dtype in TYPES:
            A = make(Shape(SIDE, SIDE, 2, dtype))[0]
            contenders["product", dtype] = lambda A=A: A @ A
        seconds = interleaved(contenders, rounds)
    peak = {dtype: 2 * SIDE**3 / min(seconds["product", dtype]) for dtype in TYPES}
    results, bandwidth = [], 0.0
    for name, shape in shapes.items():
        X, y, W = data[name]
        limit = None
        if X.nbytes >= READABLE:
            read = typical(seconds["read", name])
            limit = max(read, shape.flops / peak[shape.dtype])
            bandwidth = max(bandwidth, X.nbytes / read if X.nbytes >= LARGE else 0.0)
        nbytes = X.nbytes + y.nbytes + 2 * W.nbytes
        results.append(Result(name, shape, nbytes, typical(seconds["pass", name]), limit))
    return Measurement(results, peak, bandwidth)


def table(found: Measurement) -> str:
    """Return the table as Markdown."""
    lines = ["| shape | N x D x K | a pass, ms | its limit, ms | ratio |", "|---|---|---|---|---|"]
    for r in found.results:
        limit, ratio = (f"{r.limit * 1e3:.3f}", f"{r.seconds / r.limit:.2f}") if r.limit else ("-", "-")
        N, D, K, _ = r.shape
        lines.append(f"| {r.name} | {N} x {D} x {K} | {r.seconds * 1e3:.3f} | {limit} | {ratio} |")
    return "\n".join(lines)


def draw(found: Measurement, quick: bool) -> Figure:
    """Return a plot of rate against intensity, on logarithmic axes, under the roofs of memory and arithmetic."""
    config = softmax_ext.show_config()
    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.subplots()
    axes.set(xscale="log", yscale="log", xlabel="operations for each byte that must be moved", ylabel="GFLOP/s")
    where = f"{processor()}, {config.threads} threads, {config.isa}, NumPy {config.numpy}"
    axes.set_title(
        "One pass, loss and gradient: " + ("a quick run, not a measurement" if quick else where), fontsize=11
    )
    draw_roofs(axes, found)
    draw_points(axes, found)
    axes.legend(loc="lower right", frameon=False, fontsize=9)
    figure.draw_without_rendering()  # settles the layout, on which the free places for labels depend
    draw_labels(axes, found)
    return figure


def draw_roofs(axes, found: Measurement) -> None:
    left = min(r.intensity for r in found.results) / 1.6
    right = max(r.intensity for r in found.results) * 3
    top = max(found.peak.values()) / found.bandwidth
    slope = np.array([left, top])
    label = f"memory: one read of X, {found.bandwidth / 1e9:.1f} GB/s"
    axes.plot(slope, slope * found.bandwidth / 1e9, color="0.4", linewidth=1.5, label=label)
    for dtype, (name, colour) in TYPES.items():
        peak, ridge = found.peak[dtype], found.peak[dtype] / found.bandwidth
        label = f"arithmetic: {name} matrix product, {peak / 1e9:.0f} GFLOP/s"
        axes.plot([ridge, right], [peak / 1e9] * 2, color=colour, linewidth=1.5, label=label)
        axes.plot([left, ridge], [peak / 1e9] * 2, color=colour, linewidth=1, linestyle=":")


def draw_points(axes, found: Measurement) -> None:
    """Draw a point for each shape, and a line to the shape's own limit."""
    for r in found.results:
        colour, y = TYPES[r.shape.dtype][1], r.rate / 1e9
        if r.limit:
            limit = r.shape.flops / r.limit / 1e9
            axes.plot([r.intensity] * 2, [y, limit], color=colour, linewidth=1, alpha=0.4)
            axes.plot(r.intensity, limit, marker="_", color=colour, markersize=9)
        axes.plot(r.intensity, y, marker="o", color=colour, markerfacecolor=colour if r.limit else "white")
    point = {"color": "0.4", "linestyle": "", "marker": "o"}
    axes.plot([], [], **point, label="a pass; how many times its limit, the dash, it takes")
    axes.plot([], [], **point, markerfacecolor="white", label="a pass over less than 1 MiB: the call itself counts")


def draw_labels(axes, found: Measurement) -> None:
    """Write each label beside its point, where it covers no other point or label."""
    points = axes.transData.transform([(r.intensity, r.rate / 1e9) for r in found.results])
    taken = [Bbox.from_bounds(x - 6, y - 6, 12, 12) for x, y in points]
    for r in found.results:
        at, colour = (r.intensity, r.rate / 1e9), TYPES[r.shape.dtype][1]
        text = axes.annotate(r.label, at, PLACES[0], textcoords="offset points", color=colour, fontsize=8)
        text.set_path_effects([withStroke(linewidth=2, foreground="white")])
        for x, y in PLACES:
            text.set(position=(x, y), ha="left" if x > 0 else "right", va="center")
            box = text.get_window_extent()
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    return next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())


def save(figure: Figure, path: Path) -> None:
    """Write the figure under another name and rename it, so that nobody finds half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        figure.savefig(unfinished, format="png", dpi=150)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
