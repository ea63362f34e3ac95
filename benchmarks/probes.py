"""Sweep 45 values of C on embeddings, also with scikit-learn: the numbers and the plot of the tutorial on probes.

    python benchmarks/probes.py

The embeddings of Fashion-MNIST come from 60 filters that are drawn from its patches, as in Coates, Ng and Lee, "An
analysis of single-layer networks in unsupervised feature learning", AISTATS 2011, so that no trained network is needed.
They are 960 features in float16. scikit-learn is timed at some of the values, so a whole sweep takes it at least the
sum of these times. The plot is written to docs/probes.png.
"""

import argparse
import sys
import time
import warnings
from pathlib import Path

import numpy as np
from roofline import processor, save

from softmax_ext._data import datasets
from softmax_ext.linear_model import CVDisplay, LogisticRegressionCV

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "probes.png"
CS = np.logspace(-6, 5, 45)  # those of DINOv2's linear probes
FILTERS, SIDE, BINS = 60, 6, 4


def embed(images, filters, offsets):
    """Return how strongly each filter responds in each part of the images, (N, BINS² FILTERS) float16."""
    N, places = len(images), 28 - SIDE + 1
    E = np.empty((N, BINS, BINS, FILTERS), np.float16)
    edges = np.linspace(0, places, BINS + 1).astype(int)
    for start in range(0, N, 500):
        block = images[start : start + 500].reshape(-1, 28, 28)
        patches = np.lib.stride_tricks.sliding_window_view(block, (SIDE, SIDE), axis=(1, 2))
        answers = np.maximum(patches.reshape(-1, SIDE * SIDE) @ filters - offsets, 0)
        answers = answers.reshape(len(block), places, places, FILTERS)
        for i in range(BINS):
            for j in range(BINS):
                part = answers[:, edges[i] : edges[i + 1], edges[j] : edges[j + 1]]
                E[start : start + 500, i, j] = part.mean(axis=(1, 2))
    return E.reshape(N, -1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--theirs", type=int, nargs="*", default=[8, 20, 32], help="values of C for scikit-learn")
    parser.add_argument("--output", type=Path, default=PICTURE, help="default: docs/probes.png")
    args = parser.parse_args()
    data, rng = datasets.DATASETS["fashion-mnist"](0), np.random.default_rng(0)
    rows, at = rng.integers(0, len(data.X_train), 2000), rng.integers(0, 28 - SIDE, (2000, 2))
    some = np.stack([
        image.reshape(28, 28)[i : i + SIDE, j : j + SIDE].ravel()
        for image, (i, j) in zip(data.X_train[rows], at, strict=True)
    ])  # fmt: skip
    some = some[some.std(axis=1) > 0.15][:FILTERS]
    filters = (some - some.mean(axis=1, keepdims=True)).T / np.linalg.norm(some, axis=1)
    offsets = np.float32(0.2)
    E, held_out = (embed(X, filters, offsets) for X in (data.X_train, data.X_test))
    print(f"{processor()}: {E.shape[0]} x {E.shape[1]} {E.dtype}, {E.nbytes / 2**20:.0f} MiB")
    split = [(np.arange(50_000), np.arange(50_000, 60_000))]
    model = LogisticRegressionCV(
        Cs=CS, cv=split, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False, max_iter=200
    )
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(E, data.y_train)
    seconds = time.perf_counter() - start
    right = np.mean(model.predict(held_out) == data.y_test)
    print(f"ours: 45 values and the last fit in {seconds:.1f} s, C = {model.C_:.3g}, held out {right:.4f}")
    print(model.convergence_report_)
    display = CVDisplay.from_estimator(model, score_name="accuracy of 10 000 rows left out")
    display.ax_.set_title(f"960 features of Fashion-MNIST, 45 values of C: {seconds:.0f} s")
    save(display.figure_, args.output)
    from sklearn.linear_model import LogisticRegression

    X = E.astype(np.float32)
    for j in args.theirs:
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            theirs = LogisticRegression(C=CS[j], max_iter=200).fit(X[:50_000], data.y_train[:50_000])
        took = time.perf_counter() - start
        score = theirs.score(X[50_000:], data.y_train[50_000:])
        print(
            f"scikit-learn at C = {CS[j]:.3g}: {took:.1f} s, {theirs.n_iter_[0]} iterations"
            f"{', not converged' * bool(caught)}; accuracy {score:.4f}, ours {model.scores_[0, 0, j]:.4f}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
