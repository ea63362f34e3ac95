"""Estimate how near the products' innermost loops come to a processor's peak rate of FMAs, by llvm-mca's model.

    python benchmarks/mca.py [--cc aarch64-linux-gnu-gcc] [--mca llvm-mca] [--cpu neoverse-n1 ...] [NAME ...]

This is for processors that are not at hand, since nothing is run. The headers of src/ are compiled for AArch64. Then
llvm-mca analyses the loop with the most FMAs of each function, by default of the largest blocks. It assumes that all
data are in the first-level cache. The peak rate is the model's own for FMAs of the same form that wait for nothing.
"""

import argparse
import re
import subprocess
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
FLAGS = [
    "-std=gnu11",
    "-O3",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-ffp-contract=fast",
    "-w",
    *(f"-I{folder}" for folder in SRC.iterdir()),
]
KEPT = [f"{name}_{real}" for name in ("scores", "dots", "outer") for real in ("f32", "f64")]
PROGRAM = '#include "float_types.h"\n' + "".join(f"void *keep_{name} = (void *){name};\n" for name in KEPT)
LARGEST = "along_15x1", "along_9x2", "along_7x3", "down_16x1", "down_12x2", "down_8x3"
LARGEST += tuple(f"dots_rows_{classes}" for classes in (2, 3, 5, 9, 10, 13))
NAMES = [f"{name}_{real}" for real in ("f32", "f64") for name in LARGEST]
ROUNDS = 200


def innermost_loop(assembly, function):
    """Return the instructions of the loop with the most FMAs, among loops that contain no other loop."""
    body = re.search(rf"^{function}:[^\n]*\n(.*?)^\s*\.size\s+{function},", assembly, re.DOTALL | re.MULTILINE)[1]
    lines = body.splitlines()
    labels = {line.partition(":")[0]: number for number, line in enumerate(lines) if re.match(r"\.\w+:", line)}
    ends = {}  # the first line of each loop, by its last line
    for number, line in enumerate(lines):
        branch = re.match(r"\s+(?:b\.?\w\w|cbn?z|tbn?z)\s.*?(\.\w+)\s*$", line)
        if branch and labels.get(branch[1], number) < number:
            ends[number] = labels[branch[1]]
    inner = [(begin, end) for end, begin in ends.items() if not any(begin <= other < end for other in ends)]
    loops = [[line for line in lines[begin : end + 1] if re.match(r"\s+[a-z]", line)] for begin, end in inner]
    return max(loops, key=lambda loop: (fmas(loop), -len(loop)))


def fmas(loop):
    return sum("fmla" in line for line in loop)


def cycles(mca, cpu, loop):
    """Return the cycles of one iteration by the model."""
    command = [mca, "-mtriple=aarch64", f"-mcpu={cpu}", f"-iterations={ROUNDS}"]
    text = re.sub(r"prfm(.*-\d+\])", r"prfum\1", "\n".join(loop))  # GNU's assembler takes either for a negative offset
    report = subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout
    return int(re.search(r"Total Cycles:\s+(\d+)", report)[1]) / ROUNDS


def main():
    """Print a line for each function: FMAs and instructions of an iteration, and the fraction of the peak rate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", default="aarch64-linux-gnu-gcc")
    parser.add_argument("--mca", default="llvm-mca")
    parser.add_argument("--cpu", nargs="+", default=["neoverse-n1", "neoverse-v2", "apple-m1"])
    parser.add_argument("names", nargs="*", metavar="NAME", default=NAMES)
    arguments = parser.parse_args()
    compiler = [*arguments.cc.split(), *FLAGS, "-S", "-o", "-", "-x", "c", "-"]
    assembly = subprocess.run(compiler, input=PROGRAM, capture_output=True, text=True, check=True).stdout
    print(f"{'':16} {'FMAs':>4} {'all':>4}", *(f"{cpu:>12}" for cpu in arguments.cpu))
    for name in arguments.names:
        loop, shares = innermost_loop(assembly, name), []
        form = re.sub(r"v\d+", "v{}", next(line for line in loop if "fmla" in line))
        free = [
            form.format(register, 30, 31) for register in range(30)
        ]  # each FMA adds to a register of its own, so that none waits for another
        for cpu in arguments.cpu:
            rate = len(free) / cycles(arguments.mca, cpu, free)
            shares.append(f"{fmas(loop) / cycles(arguments.mca, cpu, loop) / rate:12.2f}")
        print(f"{name:16} {fmas(loop):4} {len(loop):4}", *shares)


if __name__ == "__main__":
    main()
