"""Time whole training steps in PyTorch with our losses and with its own, and write the tables of docs/pytorch.md.

    python benchmarks/training.py             the measurement, for a machine that does nothing else
    python benchmarks/training.py --write     the same, with the tables written to docs/pytorch.md

It takes minutes, most of them to compile. The steps are those of suite/bench_torch.py. The ways run in turns in one
process, the first round is not counted, and times are lower quartiles. The peak of memory is that of a separate process
in its third and fourth step, including PyTorch's modules.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

from roofline import processor

sys.path.insert(0, str(Path(__file__).resolve().parent))
from suite.bench_torch import LINEAR, MODELS, SCORES, WAYS, linear_step, modules, scores_step, training
from suite.common import interleaved, typical

PAGE = Path(__file__).resolve().parents[1] / "docs" / "pytorch.md"
NAMES = {"vocabulary": "head over 32000 classes", "mlp256": "MLP, batches of 256", "mlp8192": "MLP, batches of 8192"}
PEAK = """
import pathlib, re, sys
sys.path.insert(0, {here!r})
from suite.bench_torch import training
def kib(key):
    return int(re.search(key + r":\\s+(\\d+) kB", pathlib.Path("/proc/self/status").read_text()).group(1))
step, _ = training('vocabulary', {way!r})
step(), step()
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
step(), step()
print(kib("VmHWM") // 1024)
"""


def milliseconds(seconds):
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else f"{seconds * 1e3:.0f} ms"


def peak(way):
    """Return the peak memory, in MiB, of a process in later steps of the head over many classes."""
    code = PEAK.format(here=str(Path(__file__).resolve().parent), way=way)
    return int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def scores_table(rounds):
    torch, functional, ours = modules()
    compiled = SimpleNamespace(cross_entropy=torch.compile(functional.cross_entropy))
    contenders = {"softmax_ext": ours, "eager": functional, "compiled": compiled}
    yield "| N x K, float32 | " + " | ".join(contenders) + " |"
    yield "|---|" + "---:|" * len(contenders)
    for shape in SCORES:
        seconds = interleaved({name: scores_step(shape, module) for name, module in contenders.items()}, rounds)
        cells = " | ".join(milliseconds(typical(seconds[name])) for name in contenders)
        yield f"| {shape.replace('x', ' x ')} | {cells} |"


def linear_table(rounds):
    yield "| N x D x K, float32 | " + " | ".join(WAYS) + " |"
    yield "|---|" + "---:|" * len(WAYS)
    for shape in LINEAR:
        seconds = interleaved({way: linear_step(shape, way) for way in WAYS}, rounds)
        cells = " | ".join(milliseconds(typical(seconds[way])) for way in WAYS)
        yield f"| {shape.replace('x', ' x ')} | {cells} |"


def training_table(rounds):
    yield "| model | way | a step | loss alone | of the step |"
    yield "|---|---|---:|---:|---:|"
    for model in MODELS:
        ways = [way for way in WAYS if way != "chunked" or model == "vocabulary"]
        steps = {way: training(model, way) for way in ways}
        seconds = interleaved({(way, i): steps[way][i] for way in ways for i in range(2)}, rounds)
        for way in ways:
            whole, last = (typical(seconds[way, i]) for i in range(2))
            cells = f"{milliseconds(whole)} | {milliseconds(last)} | {last / whole:.0%}"
            yield f"| {NAMES[model]} | {way} | {cells} |"


def memory_table(rounds):
    yield "| model | " + " | ".join(WAYS) + " |"
    yield "|---|" + "---:|" * len(WAYS)
    cells = " | ".join(f"{peak(way)} MiB" for way in WAYS)
    yield f"| {NAMES['vocabulary']} | {cells} |"


TABLES = {"scores": scores_table, "linear": linear_table, "training": training_table, "memory": memory_table}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*TABLES, []], help="only these tables")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/pytorch.md")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    print(processor(), flush=True)
    for name in arguments.what or TABLES:
        lines = []
        for line in TABLES[name](arguments.rounds):
            print(line, flush=True)
            lines.append(line)
        if arguments.write:
            text, table = PAGE.read_text(), "\n".join(lines)
            place = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
            PAGE.write_text(place.sub(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text))


if __name__ == "__main__":
    main()
