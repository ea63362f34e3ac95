"""Draw speed.png, how many times as long others take, from the tables of performance.md and solvers.md.

python speed.py [FILE]
"""

import re
import sys
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLOURS = {"NumPy": "#edae49", "scikit-learn": "#d1495b", "PyTorch": "#00798c"}
FITS = {"digits": "digits", "Fashion-MNIST, 60": "Fashion-MNIST", "text": "text, sparse", "wine": "wine"}
PASSES = {"60000 x 784 x 10, float32": "MNIST", "581012 x 54 x 7, float32": "covtype",
          "100000 x 10 x 1000, float32": "1000 classes"}  # fmt: skip


def rows_of(page: str, heading: str) -> list[dict[str, str]]:
    """Return the rows of the first table below a heading, by the names of their columns."""
    text = (HERE / page).read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1]
    lines = re.findall(r"^\| (.+?) \|$", text.split("\n## ", 1)[0], re.MULTILINE)
    names, *rows = ([cell.strip() for cell in line.split(" | ")] for line in lines)
    return [dict(zip(names, row, strict=False)) for row in rows]


def draw(axes: Axes, title: str, rows: list[dict[str, str]], names: dict[str, str], others: list[str]) -> None:
    """Draw a group of bars for each row: our time is 1, and stands beside the row's name."""
    ticks, height = [], 0.8 / len(others)
    for place, (start, name) in enumerate(names.items()):
        row = next(row for row in rows if next(iter(row.values())).startswith(start))
        ticks.append(f"{name}\n{row['softmax_ext']}")
        for i, other in enumerate(others):
            times = float(row[other].rstrip("x"))
            y = place + (i - (len(others) - 1) / 2) * height
            axes.barh(y, times - 1, height * 0.9, left=1, color=COLOURS[other], label=None if place else other)
            axes.text(times * 1.05, y, f"{times:g}×", va="center", fontsize=9)
    axes.set(title=title, xscale="log", xlim=(1, 110), xticks=[1, 10, 100], xticklabels=["1×", "10×", "100×"])
    axes.set_yticks(range(len(ticks)), ticks)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    if len(others) > 1:
        axes.legend(loc="upper right", frameon=False, fontsize=9)


def main() -> None:
    """Draw both."""
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    fits, passes = rows_of("solvers.md", "How long it takes"), rows_of("performance.md", "AVX-512")
    draw(left, "a default fit: scikit-learn against ours, 1×", fits, FITS, ["scikit-learn"])
    draw(right, "loss and gradient: others against ours", passes, PASSES, list(COLOURS))
    figure.savefig(sys.argv[1] if len(sys.argv) > 1 else HERE / "speed.png", dpi=130)


if __name__ == "__main__":
    main()
