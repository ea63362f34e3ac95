"""Draw docs/way.png: the modules that a fit goes through, in the order in which it first comes to each.

    python docs/way.py

A real fit of the digits is followed by `sys.setprofile`, so the picture shows the code as it is; arrows to the kernels
come from the modules that ask for them. The order of the layers is that of tests/test_types.py.
"""

import runpy
import sys
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from softmax_ext.linear_model import LogisticRegression

ROOT = Path(__file__).resolve().parents[1]
KERNELS = "compiled kernels"


def module(code):
    """Name the module of the package that some code is of: its path below softmax_ext, or None."""
    _, package, path = code.co_filename.rpartition("/softmax_ext/")
    return path.removesuffix(".py") if package else None


def follow(call):
    """Return {module: the module that came to it first}, in the order in which they were first called."""
    came = {}

    def look(frame, event, _):
        here, caller = module(frame.f_code) if event == "call" else None, frame.f_back
        if here is None or here in came:
            return
        while caller is not None and module(caller.f_code) in (None, here):
            caller = caller.f_back
        came[here] = None if caller is None else module(caller.f_code)

    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return came


def main():
    """Draw the picture, and print the modules in their order."""
    mpl.use("Agg")
    X, y = load_digits(return_X_y=True)
    model = LogisticRegression().fit(X, y)  # what is imported or kept the first time is no part of the way
    came = follow(lambda: model.fit(X, y))
    sources = {name: (ROOT / "softmax_ext" / f"{name}.py").read_text() for name in came}
    asking = [name for name, text in sources.items() if "dispatch.kernels" in text]
    came[KERNELS] = None
    layers = runpy.run_path(str(ROOT / "tests" / "test_types.py"))["LAYERS"]
    level = {room: i for i, rooms in enumerate(layers) for room in rooms}
    height = {name: -1 if name == KERNELS else level[name.partition("/")[0]] for name in came}
    rows = sorted(set(height.values()), reverse=True)
    places = {}
    for row in rows:
        inside = [name for name in came if height[name] == row]
        for i, name in enumerate(inside):
            places[name] = (i + 0.5) / len(inside), -rows.index(row)
    figure, axes = plt.subplots(figsize=(11, 0.95 * len(rows)), layout="constrained")
    numbers = {name: i + 1 for i, name in enumerate(came)}
    for i, row in enumerate(rows):
        axes.axhspan(-i - 0.42, -i + 0.42, color="#f2f2f2" if i % 2 else "#e6eef7", zorder=0)
        rooms = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in came if height[name] == row})
        axes.text(-0.01, -i, "\n".join(rooms) if row >= 0 else "", ha="right", va="center", fontsize=9)
    arrows = [(caller, name) for name, caller in came.items()] + [(name, KERNELS) for name in asking]
    for caller, name in arrows:
        if caller in places:
            arrow = {"arrowstyle": "-|>", "color": "#4477aa", "lw": 1, "alpha": 0.75, "shrinkA": 12, "shrinkB": 14}
            axes.annotate("", places[name], places[caller], arrowprops=arrow)
    for name, (x, at) in places.items():
        text = f"{numbers[name]}  {name.rpartition('/')[2]}"
        box = {"boxstyle": "round,pad=0.3", "fc": "white", "ec": "#4477aa"}
        axes.text(x, at, text, ha="center", va="center", fontsize=9, bbox=box)
    axes.set(xlim=(0, 1), ylim=(-len(rows) + 0.5, 0.5))
    axes.axis("off")
    figure.savefig(ROOT / "docs" / "way.png", dpi=110)
    for name, caller in came.items():
        print(f"{numbers[name]:2d}  {name}" + (f"  from {caller}" if caller else ""))


if __name__ == "__main__":
    main()
