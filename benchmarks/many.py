"""Time many small fits, ours and scikit-learn's: a loop, `fit_many`, bootstrap replicates, one class against the rest.

    python benchmarks/many.py [FITS]

A fit has 80 x 384 samples of 10 classes, like embeddings with eight examples of each class. The loop prints the seconds
of one fit, and `fit_many` beside scikit-learn's loop. Bagging has 20 replicates of 80 out of 800 samples, and one class
against the rest has 10 fits of two classes to 800 samples. These two give each fit one thread, as they would with
`n_jobs`; bagging in threads has two jobs, of ours alone. All take turns, with a short pause between; lower quartiles of
five are printed.
"""

import sys
import warnings

import numpy as np
from joblib import parallel_config
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression as Theirs
from sklearn.multiclass import OneVsRestClassifier
from suite.common import interleaved, typical

from softmax_ext.linear_model import LogisticRegression, fit_many


def tasks_of(fits, dtype):
    rng = np.random.default_rng(0)
    centres, y = rng.standard_normal((10, 384)), np.repeat(np.arange(10), 8)
    return [((0.3 * centres[y] + rng.standard_normal((80, 384))).astype(dtype), y) for _ in range(fits)]


def loop(make, tasks):
    for X, y in tasks:
        make().fit(X, y)


def bagging(model, X, y, n_jobs=None):
    with parallel_config("threading"):
        BaggingClassifier(model, n_estimators=20, max_samples=0.1, random_state=0, n_jobs=n_jobs).fit(X, y)


def one_against_the_rest(model, X, y):
    OneVsRestClassifier(model).fit(X, y)


def main(fits):
    for dtype in ("f8", "f4"):
        tasks = tasks_of(fits, dtype)
        few = tasks[: max(10, fits // 10)]  # scikit-learn gets fewer fits, since they take long
        data = np.vstack([X for X, _ in tasks[:10]]), np.hstack([y for _, y in tasks[:10]])
        seconds = interleaved(
            {
                "loop": lambda tasks=tasks: loop(LogisticRegression, tasks),
                "fit_many": lambda tasks=tasks: fit_many(LogisticRegression(), tasks),
                "their loop": lambda few=few: loop(Theirs, few),
                "bagging, two threads": lambda data=data: bagging(LogisticRegression(n_threads=1), *data, n_jobs=2),
                "bagging": lambda data=data: bagging(LogisticRegression(n_threads=1), *data),
                "their bagging": lambda data=data: bagging(Theirs(), *data),
                "one against the rest": lambda data=data: one_against_the_rest(LogisticRegression(n_threads=1), *data),
                "their one against the rest": lambda data=data: one_against_the_rest(Theirs(), *data),
            },
            rounds=5,
        )
        took = {name: typical(each) for name, each in seconds.items()}
        for name, fits_of, beside, fits_beside in (
            ("loop", len(tasks), "their loop", len(few)),
            ("fit_many", len(tasks), "their loop", len(few)),
            ("bagging, two threads", 1, "their bagging", 1),
            ("bagging", 1, "their bagging", 1),
            ("one against the rest", 1, "their one against the rest", 1),
        ):
            mine, other = took[name] / fits_of, took[beside] / fits_beside
            print(
                f"{dtype}  {name:22} ours {mine:8.5f} s  scikit-learn {other:8.5f} s  {other / mine:6.1f}x", flush=True
            )


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # scikit-learn's fits do not converge
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
