"""Print what each part of the kernels adds to a compiled module: its machine code and tables, in KiB.

    python benchmarks/sizes.py [LEVEL ...]

A function belongs to the header of src/ that defines it. Those that GCC has inlined count where they were inlined, and
what Cython writes for a pass counts as a pass. It reads the symbols of the modules beside this checkout, which a
stripped wheel no longer has.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PARTS = {  # what stands in a table
    "products.h": "products of dense rows",
    "binomial.h": "two classes with one row of coefficients",
    "sparse.h": "products of CSR rows",
    "hessian_entries.h": "Hessian of CSR rows",
    "hessian.h": "whole Hessian",
    "centred.h": "two classes' Hessian of floats",
    "residuals.h": "a row of scores",
    "residual_lanes.h": "several rows of scores",
    "logits.h": "softmax and its kind",
    "logit_lanes.h": "softmax and its kind",
    "cross_entropy.h": "cross-entropy of logits",
    "fisher.h": "preconditioner",
    "gram.h": "preconditioner",
    "coordinates.h": "coordinate descent",
    "vectors.h": "L-BFGS's history",
}
OTHER = "passes, and what Python calls (Cython)"


def homes():
    """Return which header defines each function, by its name without the floating type."""
    found = {}
    for path in (ROOT / "src").rglob("*.h"):
        text = path.read_text()
        for name in re.findall(r"^(?:INLINE|KERNEL|static)\b[^;={]*?\b(?:NAME\()?(\w+)\)?\(", text, re.MULTILINE):
            found[name] = path.name
        for name in re.findall(r"static void NAME\((\w+?)_?##", text):  # a family that a macro defines
            found[name] = path.name
    return found


def sizes(module, known):
    """Return the bytes of each part."""
    lines = subprocess.run(["nm", "-S", "--defined-only", module], capture_output=True, text=True, check=True).stdout
    parts = Counter()
    for line in lines.splitlines():
        fields = line.split()
        if len(fields) != 4 or fields[2].lower() not in "trd":
            continue
        name = re.sub(r"\.(constprop|part|isra|cold|lto_priv).*", "", fields[3])
        name = re.sub(r"_(f32|f64)$", "", name)
        family = re.sub(r"_?\d+(x\d+)?$", "", name)
        header = known.get(name) or known.get(family)
        parts[PARTS.get(header, OTHER)] += int(fields[1], 16)
    return parts


def main():
    """Print a line for each part, the largest first."""
    modules = {path.name.split(".")[0].removeprefix("kernels_"): path for path in ROOT.glob("softmax_ext/_core/*.so")}
    levels = sys.argv[1:] or [level for level in ("baseline", "avx2", "avx512") if level in modules]
    tables = {level: sizes(modules[level], homes()) for level in levels}
    print(f"{'KiB':42}", *(f"{level:>9}" for level in levels))
    for part in sorted(set().union(*tables.values()), key=lambda part: -tables[levels[-1]][part]):
        print(f"{part:42}", *(f"{tables[level][part] / 1024:9.0f}" for level in levels))
    print(f"{'all':42}", *(f"{sum(tables[level].values()) / 1024:9.0f}" for level in levels))


if __name__ == "__main__":
    main()
