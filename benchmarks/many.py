"""Time many small fits, ours and scikit-learn's: a loop, `fit_many`, bootstrap replicates, one class against the rest.

    python benchmarks/many.py [FITS]

A fit has 80 x 384 samples of 10 classes, like embeddings with eight examples of each class. The loop prints the seconds
of one fit, and `fit_many` beside scikit-learn's loop. Bagging has 20 replicates of 80 out of 800 samples, and one class
against the rest has 10 fits of two classes to 800 samples. These two give each fit one thread, as they would with
`n_jobs`; bagging in threads has two jobs, of ours alone.
"""

import sys
import time
import warnings

import numpy as np
from joblib import parallel_config
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression as Theirs
from sklearn.multiclass import OneVsRestClassifier

from softmax_ext.linear_model import LogisticRegression, fit_many


def tasks_of(fits, dtype):
    rng = np.random.default_rng(0)
    centres, y = rng.standard_normal((10, 384)), np.repeat(np.arange(10), 8)
    return [((0.3 * centres[y] + rng.standard_normal((80, 384))).astype(dtype), y) for _ in range(fits)]


def seconds_of(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main(fits):
    for dtype in ("f8", "f4"):
        tasks = tasks_of(fits, dtype)
        few = tasks[: max(10, fits // 10)]  # scikit-learn gets fewer fits, since they take long
        X, y = np.vstack([X for X, _ in tasks[:10]]), np.hstack([y for _, y in tasks[:10]])

        def loop(make, tasks):
            return seconds_of(lambda: [make().fit(X, y) for X, y in tasks]) / len(tasks)

        def bagging(model, X=X, y=y, n_jobs=None):
            bag = BaggingClassifier(model, n_estimators=20, max_samples=0.1, random_state=0, n_jobs=n_jobs)
            with parallel_config("threading"):
                return seconds_of(lambda: bag.fit(X, y))

        def one_against_the_rest(model, X=X, y=y):
            return seconds_of(lambda: OneVsRestClassifier(model).fit(X, y))

        loops = loop(LogisticRegression, tasks), loop(Theirs, few)
        many = seconds_of(lambda tasks=tasks: fit_many(LogisticRegression(), tasks)) / len(tasks)
        rows = {"loop, a fit": loops, "fit_many, a fit": (many, loops[1])}
        rows["bagging, two threads"] = bagging(LogisticRegression(n_threads=1), n_jobs=2), bagging(Theirs())
        for work in (bagging, one_against_the_rest):
            rows[work.__name__] = work(LogisticRegression(n_threads=1)), work(Theirs())
        for name, (ours, theirs) in rows.items():
            print(
                f"{dtype}  {name:22} ours {ours:8.4f} s  scikit-learn {theirs:8.4f} s  {theirs / ours:6.1f}x",
                flush=True,
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # scikit-learn's fits do not converge
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
