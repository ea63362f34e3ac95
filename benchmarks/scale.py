"""Measure fits beyond memory and beyond one process, and write the table of docs/scale.md.

    python benchmarks/scale.py                    all parts, for a machine that does nothing else
    python benchmarks/scale.py chunks dask        some parts
    python benchmarks/scale.py --write            all parts, with the results written to docs/scale.md

The parts are chunks (passes and fits from a memory map and in memory), memory (a whole fit to a map of 8 GB, which is
written to --folder and removed), dask (an evaluation on two worker processes and the pass on two threads), spark
(pyspark in local[2], if it is installed), stream (SGDClassifier on Fashion-MNIST) and cost (the constants of the cost
model). Times of a comparison are medians of runs in turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import simulated
from roofline import processor

import softmax_ext
from softmax_ext import SoftmaxObjective, chunks

PAGE = Path(__file__).resolve().parents[1] / "docs" / "scale.md"
GB = 1e9


def data(N, D, K, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((N, D), np.float32).astype(dtype, copy=False)
    y = (X[:, : 4 * K].reshape(N, K, -1) if D >= 4 * K else X[:, :K, np.newaxis]).sum(axis=2).argmax(axis=1)
    return X, y


def in_turns(rounds, **sides):
    """Return the median seconds of each side, whose runs alternate."""
    times = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def measure_chunks(folder, quick):
    for N, D, K in ((500_000, 100, 20),) if quick else ((2_000_000, 100, 20), (600_000, 784, 10), (4_000_000, 50, 7)):
        yield chunks_row(folder, N, D, K, 5 if quick else 15)
    for K in (2, 5):
        yield fit_row(folder, 60_000 if quick else 600_000, 60, K, 3 if quick else 9)


def chunks_row(folder, N, D, K, rounds):
    X, y = data(N, D, K)
    X_path, y_path = folder / "X.npy", folder / "y.npy"
    np.save(X_path, X)
    np.save(y_path, y)
    ours, whole = chunks.ChunksObjective(chunks.from_npy(X_path, y_path), l2=1e-6), SoftmaxObjective(X, y, l2=1e-6)
    w = np.random.default_rng(1).standard_normal(whole.size) / 10
    for objective in (ours, whole):
        objective.value_and_grad(w)
    times = in_turns(rounds, memory=lambda: whole.value_and_grad(w), chunks=lambda: ours.value_and_grad(w))
    X_path.unlink()
    return (
        f"pass over a memory map in the page cache, {N} x {D} x {K} float32",
        f"{1e3 * times['chunks']:.0f} ms",
        f"in memory {1e3 * times['memory']:.0f} ms",
        f"{times['chunks'] / times['memory']:.2f}x",
        "1.15x",
    )


def fit_row(folder, N, D, K, rounds):
    """Compare whole fits, with their first looks and checks, to the same rows in a file and in memory."""
    from softmax_ext.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, D))
    y = (X @ rng.standard_normal((D, K)) / 4 + rng.gumbel(size=(N, K))).argmax(axis=1)
    X_path, y_path = folder / "X.npy", folder / "y.npy"
    np.save(X_path, X)
    np.save(y_path, y)
    sides = {
        "memory": lambda: LogisticRegression().fit(X, y),
        "chunks": lambda: LogisticRegression().fit(chunks.from_npy(X_path, y_path)),
    }
    models = {name: side() for name, side in sides.items()}
    times = in_turns(rounds, **sides)
    X_path.unlink()
    return (
        f"fit to a memory map in the page cache, {N} x {D} x {K} float64, {models['chunks'].n_iter_[0]} iterations",
        f"{1e3 * times['chunks']:.0f} ms",
        f"in memory {1e3 * times['memory']:.0f} ms, {models['memory'].n_iter_[0]} iterations",
        f"{times['chunks'] / times['memory']:.2f}x",
        "1.15x",
    )


def measure_memory(folder, quick):
    """Measure a fit's peak memory in a process of its own, which counts its anonymous pages twenty times a second."""
    gigabytes = 1 if quick else 8
    N, D, K = int(gigabytes * GB) // (100 * 4), 100, 20
    X_path, y_path = folder / "large.npy", folder / "labels.npy"
    X = np.lib.format.open_memmap(X_path, "w+", np.float32, (N, D))
    y = np.empty(N, np.uint8)
    for start in range(0, N, 500_000):
        part, labels = data(min(500_000, N - start), D, K, seed=start)
        noise = np.random.default_rng(start).integers(0, K, len(labels))
        X[start : start + len(part)] = part
        y[start : start + len(part)] = np.where(noise < K // 4, noise, labels)
    X.flush()
    del X
    np.save(y_path, y)
    program = """
        import sys, threading, time
        from softmax_ext import chunks
        from softmax_ext.linear_model import LogisticRegression

        def anonymous():
            with open("/proc/self/status") as file:
                return max(int(line.split()[1]) for line in file if line.startswith("RssAnon")) / 1024

        peak, over = anonymous(), threading.Event()

        def watch():
            global peak
            while not over.wait(0.05):
                peak = max(peak, anonymous())

        threading.Thread(target=watch, daemon=True).start()
        start = time.perf_counter()
        model = LogisticRegression(C=1e-4).fit(chunks.from_npy(*sys.argv[1:]))
        seconds = time.perf_counter() - start
        over.set()
        print(peak, seconds, model.n_iter_[0], model.converged_, model.loss_curve_[-1])
    """
    command = [sys.executable, "-c", textwrap.dedent(program), X_path, y_path]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=True)
    finally:
        X_path.unlink()
    peak, seconds, iterations, converged, value = result.stdout.split()
    yield (
        f"fit to a memory map of {gigabytes} GB, {N} x {D} x {K} float32: peak of RssAnon",
        f"{float(peak):.0f} MB",
        f"{float(seconds):.0f} s, {iterations} iterations, objective {float(value):.4f}, converged: {converged}",
        "",
        "600 MB",
    )


def measure_dask(folder, quick):
    import dask.array as da
    import distributed

    from softmax_ext.dask import DaskObjective, LogisticRegression

    N, D, K = (200_000 if quick else 2_000_000), 100, 20
    X, y = data(N, D, K)
    whole = SoftmaxObjective(X, y, l2=1e-6, n_threads=2)
    found = []

    class Stop(Exception):
        pass

    def keep(self, *arguments):
        initialise(self, *arguments)
        found.append(self)
        raise Stop

    initialise, DaskObjective.__init__ = DaskObjective.__init__, keep
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        parts = [da.from_array(array, (N // 4, *array.shape[1:])) for array in (X, y)]
        parts = client.persist(parts)
        distributed.wait(parts)
        try:
            LogisticRegression(client=client).fit(*parts)
        except Stop:
            ours = found[0]
        w = np.random.default_rng(1).standard_normal(whole.size) / 10
        for objective in (ours, whole):
            objective.value_and_grad(w)
        times = in_turns(
            5 if quick else 15, memory=lambda: whole.value_and_grad(w), dask=lambda: ours.value_and_grad(w)
        )
    DaskObjective.__init__ = initialise
    yield (
        f"evaluation on two worker processes of one thread, {N} x {D} x {K} float32",
        f"{1e3 * times['dask']:.0f} ms",
        f"in memory on two threads {1e3 * times['memory']:.0f} ms",
        f"+{1e3 * (times['dask'] - times['memory']):.0f} ms",
        "+30 ms",
    )


def measure_spark(folder, quick):
    try:
        from pyspark.ml.classification import LogisticRegression as Spark
        from pyspark.ml.functions import array_to_vector
        from pyspark.sql import SparkSession, functions
    except ImportError as error:
        print(f"spark is left out: {error}", file=sys.stderr)
        return
    import pandas as pd

    from softmax_ext.linear_model import LogisticRegression

    N, D, K, C = (20_000 if quick else 200_000), 100, 10, 1.0
    X, y = data(N, D, K)
    noise = np.random.default_rng(1).integers(0, K, N)
    y = np.where(noise < 2, noise, y)
    X = X * np.float32(10) ** np.linspace(-1, 1, D, dtype=np.float32)
    table = folder / "table.parquet"
    pd.DataFrame({"features": list(X.astype(np.float64)), "label": y.astype(np.float64)}).to_parquet(table)
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.driver.memory", "6g")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.ui.enabled", "false")
        .getOrCreate()
    )
    try:
        rows = session.read.parquet(str(table))
        rows = rows.select(array_to_vector(functions.col("features")).alias("features"), "label").repartition(2).cache()
        rows.count()  # loads the rows into memory
        settings = {
            "regParam": 1 / (C * N),
            "standardization": False,
            "family": "multinomial",
            "maxIter": 200,
        }
        times, objective = {"spark": [], "ours": []}, SoftmaxObjective(X.astype(np.float64), y, l2=1 / (C * N))
        for _ in range(1 if quick else 3):
            start = time.perf_counter()
            theirs = Spark(**settings).fit(rows)
            times["spark"].append(time.perf_counter() - start)
            start = time.perf_counter()
            ours = LogisticRegression(C=C, tol=1e-5).fit(X.astype(np.float64), y)
            times["ours"].append(time.perf_counter() - start)
        spark = np.concatenate([theirs.coefficientMatrix.toArray().ravel(), theirs.interceptVector.toArray()])
    finally:
        session.stop()
    ours_value = objective.value(np.concatenate([ours.coef_.ravel(), ours.intercept_]))
    medians = {name: statistics.median(each) for name, each in times.items()}
    yield (
        f"fit, {N} x {D} x {K} float64, C = {C:g}, from memory, objective {ours_value:.6f}",
        f"{medians['ours']:.2f} s",
        f"Spark MLlib in local[2] {medians['spark']:.1f} s, objective {objective.value(spark):.6f}",
        f"{medians['spark'] / medians['ours']:.0f}x sooner",
        "10x sooner, no worse",
    )


def measure_stream(folder, quick):
    from sklearn.linear_model import SGDClassifier
    from sklearn.metrics import log_loss

    from softmax_ext._data import datasets
    from softmax_ext.linear_model import LogisticRegression

    try:
        fashion = datasets.fashion_mnist(0)
    except datasets.DatasetError as error:
        print(f"stream is left out: {error}", file=sys.stderr)
        return
    X, y = fashion.X_train, fashion.y_train

    def epoch(model):
        for start in range(0, len(y), 256):
            model.partial_fit(X[start : start + 256], y[start : start + 256], classes=np.arange(10))
        return model

    models = {
        "ours": LogisticRegression,
        "theirs": lambda: SGDClassifier(loss="log_loss", random_state=0),
    }
    times = in_turns(1 if quick else 5, **{name: (lambda new=new: epoch(new())) for name, new in models.items()})
    losses = {
        name: log_loss(fashion.y_test, epoch(new()).predict_proba(fashion.X_test).astype(np.float64))
        for name, new in models.items()
    }
    yield (
        f"one epoch of partial_fit on Fashion-MNIST in batches of 256, test log loss {losses['ours']:.3f}",
        f"{times['ours']:.2f} s",
        f"SGDClassifier {times['theirs']:.2f} s, test log loss {losses['theirs']:.2f}",
        f"{times['theirs'] / times['ours']:.1f}x sooner",
        "sooner, 0.60",
    )


def measure_cost(folder, quick):
    """Measure the constants of the cost model, and compare its predictions with a few cases that can be tried here."""
    import distributed

    N, D, K = (2_000 if quick else 16_000), 1000, 1000
    X, y = data(N, D, K)
    objective = SoftmaxObjective(X, y, n_threads=1, K=K)
    w = np.zeros(objective.size)
    objective.value_and_grad(w)
    seconds = in_turns(3, it=lambda: objective.value_and_grad(w))["it"]
    COST["flops"] = 4 * N * D * K / seconds
    yield (
        "one thread: a pass at 1000 features and 1000 classes, float32",
        f"{COST['flops'] / 1e9:.0f} Gflop/s",
        f"{1e9 * seconds / N / 1000:.1f} µs a row",
        "",
        "",
    )
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = list(client.scheduler_info(n_workers=-1)["workers"])
        client.register_plugin(Giver())
        rounds = 5 if quick else 100

        def called(numbers):
            return client.run(call_in_turns, workers[1], numbers, rounds, workers=workers[:1])[workers[0]]

        large = 1_000_000
        COST["call"] = called(1)
        COST["bytes"] = 8 * large / max(called(large) - COST["call"], 1e-9)
        trips = []
        for _ in range(rounds):
            start = time.perf_counter()
            client.run(nothing, workers=workers[:1])
            trips.append(time.perf_counter() - start)
        COST["trip"] = statistics.median(trips)
    total, part = np.zeros(large), np.ones(large)
    COST["added"] = 8 * large / in_turns(20, it=lambda: np.add(total, part, out=total))["it"]
    yield ("a call from the client by the scheduler to a worker, and back", f"{1e3 * COST['trip']:.1f} ms", "", "", "")
    yield ("a call from a worker to another, and back", f"{1e3 * COST['call']:.2f} ms", "", "", "")
    yield ("a gradient of 8 MB from a worker to another", f"{COST['bytes'] / 1e6:.0f} MB/s", "", "", "")
    yield ("a gradient of 8 MB added", f"{COST['added'] / 1e6:.0f} MB/s", "", "", "")


try:
    from distributed.diagnostics.plugin import WorkerPlugin
    from distributed.protocol import to_serialize
except ImportError:
    WorkerPlugin = object


class Giver(WorkerPlugin):
    """An operation of a worker that hands out a vector, as those of softmax_ext do."""

    name = "giver"

    def setup(self, worker):
        worker.handlers["give_numbers"] = self.give

    async def give(self, numbers):
        if getattr(self, "vector", np.empty(0)).size != numbers:
            self.vector = np.ones(numbers)
        return {"sums": to_serialize([self.vector])}


async def call_in_turns(address, numbers, rounds, dask_worker=None):
    """Return the median seconds of calls from a worker to another, which hands out a vector."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        await dask_worker.rpc(address).give_numbers(numbers=numbers)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def nothing():
    pass


COST = {}
CORES, PARTS_A_WORKER = 32, 4


def predicted():
    """Return the cost model's table for 1e9 x 1000 features x 1000 classes in float32, with measured constants."""
    N, D, K = 1e9, 1000, 1000
    W = 8 * K * (D + 1)
    lines = [
        "| workers of 32 cores | X each | compute | send | gradients back | add | evaluation | with a tree |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for workers in (10, 100, 1000):
        compute = 4 * N * D * K / (workers * CORES * COST["flops"])
        send = np.ceil(np.log2(workers)) * W / COST["bytes"]
        parts = workers * PARTS_A_WORKER
        back, add = parts * W / COST["bytes"], parts * W / COST["added"]
        tree = np.ceil(np.log2(parts)) * (W / COST["bytes"] + W / COST["added"])
        times = (compute, send, back, add, compute + send + back + add + COST["trip"])
        lines.append(
            f"| {workers} | {4 * N * D / workers / GB:.0f} GB | "
            + " | ".join(f"{seconds:.2g} s" for seconds in (*times, compute + send + tree + COST["trip"]))
            + " |"
        )
    return "\n".join(lines)


def simulation():
    """Return the table of simulated evaluations of 1e9 x 1000 features x 1000 classes, with measured constants."""
    lines = [
        "| workers of 32 cores | coefficients sent | gradients between workers | to the client | evaluation | "
        "each partition on the next worker |",
        "|---:|---:|---:|---:|---:|---:|",
    ]
    rates = simulated.Rates(COST["flops"], COST["bytes"], COST["added"], COST["call"], COST["trip"])
    for workers in (10, 100, 1000):
        scale = simulated.Scale(1e9, 1000, 1000, CORES, workers, PARTS_A_WORKER * workers)
        found = simulated.evaluation(rates, scale)
        apart = simulated.evaluation(rates, scale._replace(in_order=False))
        lines.append(
            f"| {workers} | {found.down} | {found.between} | {found.to_client} | {found.seconds:.3g} s | "
            f"{apart.seconds:.3g} s |"
        )
    return "\n".join(lines)


PARTS = {name.removeprefix("measure_"): part for name, part in list(globals().items()) if name.startswith("measure_")}


def table(rows):
    lines = ["| what | softmax_ext | beside it | ratio | bar |", "|---|---:|---|---:|---:|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def write(page, **tables):
    """Write tables between the page's markers."""
    text = page.read_text()
    for name, text_of_it in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
        text = f"{text[: text.index(begin)]}{begin}\n{text_of_it}\n{text[text.index(end) :]}"
    page.write_text(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=f"{', '.join(PARTS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, to see that it runs; the numbers mean little"
    )
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    parser.add_argument("--folder", type=Path, help="where to put up to 10 GB of data for the time being")
    options = parser.parse_args()
    if options.write and options.parts:
        parser.error("--write needs all parts")
    if wrong := set(options.parts) - set(PARTS):
        parser.error(f"no part {min(wrong)!r}: there are {', '.join(PARTS)}")
    rows, load = [], os.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        for name in options.parts or PARTS:
            for row in PARTS[name](Path(folder), options.quick):
                print(" | ".join(row), flush=True)
                rows.append(row)
    if COST:
        print(predicted())
        print(simulation())
    if options.write:
        config = softmax_ext.show_config()
        machine = f"{processor()}, {os.cpu_count()} processors, {config.isa}, load {load:.0f} at the start."
        write(PAGE, measured=f"{machine}\n\n{table(rows)}", predicted=predicted(), simulated=simulation())


if __name__ == "__main__":
    main()
