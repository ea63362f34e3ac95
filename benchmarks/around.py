"""Time small fits beside their passes: what is around the passes should take no longer than they, and half a ms.

    python benchmarks/around.py [FITS]

A row has a fit's microseconds and CPU time, the passes that its report counts and the one at the start, what a pass
takes by `value_and_grad`, and what is allowed: twice the passes and 0.5 ms. Then 1000 fits on two threads beside the
same on one, by `fit_many` and by loops in threads of one's own, and a call of `loss_grad` beside the same pass in
NumPy. Times are lower quartiles, of FITS fits each.
"""

import re
import sys
import threading
import time
import warnings

import numpy as np
from sklearn.datasets import load_digits, load_iris
from suite.contenders import numpy as numpy_pass

from softmax_ext import SoftmaxObjective, loss_grad
from softmax_ext.linear_model import LogisticRegression, fit_many
from softmax_ext.objective import BinomialObjective


def data():
    rng = np.random.default_rng(0)
    centres, y = rng.standard_normal((10, 384)), np.repeat(np.arange(10), 8)
    X = 0.3 * centres[y] + rng.standard_normal((80, 384))
    yield "80x384x10-f4", X.astype("f4"), y
    yield "80x384x10-f8", X, y
    yield "iris", *load_iris(return_X_y=True)
    X = rng.standard_normal((2000, 25))
    yield "2000x25x2", X, (X @ rng.standard_normal(25) * 0.5 + rng.logistic(size=2000) > 0).astype(int)
    yield "digits", *load_digits(return_X_y=True)
    X, W = rng.integers(0, 2, (3186, 180)).astype(float), rng.standard_normal((3, 180)) * 0.4
    yield "3186x180x3", X, (X @ W.T + rng.gumbel(size=(3186, 3))).argmax(1)


def quartile(work, times):
    """Return the lower quartile of the microseconds that `work` takes, and of its process's CPU time."""
    taken = []
    for _ in range(times + 2):
        clock, cpu = time.perf_counter(), time.process_time()
        work()
        taken.append((time.perf_counter() - clock, time.process_time() - cpu))
    return 1e6 * np.sort(taken, axis=0)[len(taken) // 4]


def fits(times):
    for name, X, y in data():
        model = LogisticRegression().fit(X, y)
        passes = 1 + sum(map(int, re.findall(r"(\d+) evaluations", model.convergence_report_)))
        objective = (BinomialObjective if y.max() == 1 else SoftmaxObjective)(X, y, l2=1 / len(y))
        w = np.full(objective.size, 0.01)
        taken, cpu = quartile(lambda X=X, y=y: LogisticRegression().fit(X, y), times)
        one = quartile(lambda objective=objective, w=w: objective.value_and_grad(w), times)[0]
        allowed = 2 * passes * one + 500
        print(
            f"{name:14} {taken:6.0f} us  cpu {cpu:6.0f}  {passes} passes of {one:.1f}  allowed {allowed:.0f}  "
            f"{'ok' if taken <= allowed else 'SHORT'}",
            flush=True,
        )


def two_threads():
    (_, X, y), *_ = data()

    def seconds(threads):
        def loop():
            for _ in range(1000 // threads):
                LogisticRegression(n_threads=1).fit(X, y)

        team = [threading.Thread(target=loop) for _ in range(threads)]
        start = time.perf_counter()
        for thread in team:
            thread.start()
        for thread in team:
            thread.join()
        return time.perf_counter() - start

    def many(threads):
        start = time.perf_counter()
        fit_many(LogisticRegression(), [(X, y)] * 1000, n_jobs=threads)
        return time.perf_counter() - start

    for name, of in (("fit_many", many), ("loops", seconds)) * 2:
        one, two = of(1), of(2)
        print(f"1000 fits of 80x384x10-f4 by {name}: {one:.2f} s, on two threads {two:.2f}, {two / one:.2f} of it")


def one_call():
    rng = np.random.default_rng(0)
    X, W = rng.standard_normal((64, 784), np.float32), 0.05 * rng.standard_normal((10, 784), np.float32)
    y = np.arange(64) % 10
    theirs = numpy_pass(X, y, W)
    times = [(quartile(lambda: loss_grad(X, y, W), 300)[0], quartile(theirs, 300)[0]) for _ in range(20)]
    ours, numpys = np.median(times, axis=0)
    print(f"loss_grad of 64x784x10-f4: {ours:.1f} us, NumPy {numpys / ours:.2f}x", flush=True)


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # 100 iterations are too few for digits
    fits(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
    two_threads()
    one_call()
