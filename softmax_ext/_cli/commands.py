"""The commands that work on the user's files: ``fit``, ``predict``, ``export`` and ``evaluate``."""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .._data import features as _features
from .._data.features import Features
from .._data.files import whole
from .._data.tables import ARROW, DELIMITED, FileError, Table, check_output, few, kind, read, write
from .report import row, rows_of

Array = npt.NDArray[Any]

PREDICTIONS = (*DELIMITED, ".parquet", *ARROW, ".npz")
# More different numbers than this are likely a quantity, and more different words than this, and than half of the rows,
# are likely names of the rows. The user is warned of both.
MANY_CLASSES = 20


def fit(args: argparse.Namespace) -> None:
    """Fit a model to a table and write it."""
    from sklearn.exceptions import ConvergenceWarning

    from ..linear_model import LogisticRegression
    from . import models

    check_output(args.out, models.SUFFIXES)
    if args.out.suffix == ".skops":
        import skops.io  # noqa: F401  (if the package is missing, this fails before the fit, not after it)
    table = _read(args.train)
    y = table.target(args.target)
    left_out = {args.target, *args.ignore, *([args.weights] if args.weights else [])}
    for name in args.ignore:
        if name not in table.columns():
            raise FileError(f"{args.train}: no column {name!r} to ignore")
    features = [name for name in table.columns() if name not in left_out]
    if not features:
        raise FileError(f"{args.train}: no column beside {args.target!r} to learn from")
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2:
        only = classes[0].item()
        raise FileError(f"{args.train}: column {args.target!r} is {only!r} in every row; two classes are needed")
    _warn_of_many_classes(table, args.target, len(classes))
    learnt = _features.learn(table, features, impute=args.impute, one_hot=args.one_hot)
    X = learnt.of(table)
    s = table.numbers([args.weights])[:, 0] if args.weights else None
    if s is not None and (s.min() < 0 or not s.any()):
        raise FileError(f"{args.train}: column {args.weights!r}: weights must not be negative, nor all zero")
    chosen = _cross_validated(args, X, y, s) if args.cv else {}
    estimator = LogisticRegression(
        C=chosen.get("C", args.C),
        l1_ratio=args.l1_ratio,
        solver="saga" if args.l1_ratio else "lbfgs",  # of scikit-learn's solvers only saga takes every l1_ratio
        tol=args.tol,
        max_iter=args.max_iter,
        class_weight="balanced" if args.balanced else None,
        n_threads=args.threads,
    )
    start = time.perf_counter()
    with _progress(args.max_iter) as estimator.callback, warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the command says it itself below, on one line
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)  # _warn_of_many_classes says it
        estimator.fit(X, y, s)
    estimator.callback = None
    seconds = time.perf_counter() - start
    models.save(args.out, models.Model(estimator, learnt))
    if not estimator.converged_:
        reason = estimator.convergence_report_.splitlines()[-1]
        _warn(f"not converged ({reason}); see --max-iter, --tol")
    result = {
        "samples": len(y),
        "features": X.shape[1],
        "classes": dict(zip(map(str, classes.tolist()), counts.tolist(), strict=True)),
        "iterations": int(estimator.n_iter_[0]),
        "converged": bool(estimator.converged_),
        "objective": float(estimator.loss_curve_[-1]),
        "accuracy": float(np.mean(estimator.predict(X) == y)),
        "seconds": round(seconds, 3),
        "model": str(args.out),
    }
    if chosen:
        result["cross_validation"] = chosen
    if args.l1_ratio:
        result["nonzero"] = int(np.count_nonzero(estimator.coef_))
    if args.json:
        print(json.dumps(result))
        return
    made = f" from {len(features)} columns" if X.shape[1] != len(features) else ""
    row("data", f"{len(y)} samples, {X.shape[1]} features{made}, {len(classes)} classes")
    row("fit", f"objective {result['objective']:.6g} after {result['iterations']} iterations in {seconds:.2f} s")
    if args.l1_ratio:
        row("weights", f"{result['nonzero']} of {estimator.coef_.size} are not 0")
    row("training", f"accuracy {result['accuracy']:.4f}")
    row("model", args.out)


def _cross_validated(args: argparse.Namespace, X: Any, y: Array, s: Array | None) -> dict[str, Any]:
    """Return the C of the best accuracy on left-out rows; print the scores, and plot them if a folder is named."""
    from sklearn.model_selection import StratifiedKFold

    from ..linear_model import CVDisplay, LogisticRegressionCV

    least = int(np.unique(y, return_counts=True)[1].min())
    if least < args.cv:
        _warn(f"the rarest class has {least} rows, so some of the {args.cv} folds lack it")
    model = LogisticRegressionCV(
        cv=StratifiedKFold(args.cv, shuffle=True, random_state=0),
        l1_ratios=(args.l1_ratio,),
        solver="saga" if args.l1_ratio else "lbfgs",
        scoring="accuracy",
        use_legacy_attributes=False,
        tol=args.tol,
        max_iter=args.max_iter,
        class_weight="balanced" if args.balanced else None,
        refit="one_se" if args.one_se else True,
        n_threads=args.threads,
    )
    start = time.perf_counter()
    with _fits_progress() as model.callback, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the command says what matters itself, on one line each
        try:
            model.fit(X, y, s)
        except ValueError as refused:
            raise FileError(f"{args.train}: --cv {args.cv}: {refused}") from refused
    seconds = time.perf_counter() - start
    model.callback = None
    if not model.converged_:
        report = " ".join(model.convergence_report_.split())
        _warn(f"not all fits of the cross-validation converged ({report}); see --max-iter")
    scores = model.scores_[:, 0]
    mean, error = scores.mean(axis=0), scores.std(axis=0, ddof=1) / np.sqrt(args.cv)
    if args.plot:
        from matplotlib.figure import Figure

        from . import plots

        figure = Figure(figsize=(7, 4.5), layout="constrained")
        CVDisplay.from_estimator(model, ax=figure.subplots(), score_name="accuracy on rows left out")
        plots.save(figure, args.plot / "cross-validation.png")
    if not args.json:
        table = [
            [f"{C:.3g}{' *' if model.C_ == C else ''}", f"{a:.4f}", f"{e:.4f}"]
            for C, a, e in zip(model.Cs_, mean, error, strict=True)
        ]
        print(rows_of(("C", "accuracy", "± one standard error"), table))
        row("folds", f"{args.cv}, C = {model.C_:.3g} chosen in {seconds:.2f} s")
        if args.plot:
            row("picture", args.plot / "cross-validation.png")
    return {
        "folds": args.cv,
        "C": model.C_,
        "Cs": model.Cs_.tolist(),
        "accuracy": mean.tolist(),
        "standard_error": error.tolist(),
        "seconds": round(seconds, 3),
    }


@contextmanager
def _fits_progress() -> Iterator[Any]:
    """Yield a callback that shows a cross-validation's fits and the time left, if standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = "cross-validation", BarColumn(), MofNCompleteColumn(), TextColumn("fits, left"), TimeRemainingColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, fits: bar.update(task, completed=done, total=fits)


def _warn(text: str) -> None:
    print(f"softmax-ext: warning: {text}", file=sys.stderr)


def _read(path: Path, words: Sequence[str] = ()) -> Table:
    table = read(path, words)
    if table.note:
        _warn(f"{path}: {table.note}")
    return table


def _warn_of_many_classes(table: Table, target: str, K: int) -> None:
    column = table.column(target)
    if kind(column) == "numbers" and K > MANY_CLASSES:
        _warn(
            f"{table.path}: column {target!r} holds {K} different numbers, and each becomes a class: for a quantity "
            "use a regression"
        )
    elif K > max(MANY_CLASSES, len(column) / 2):
        _warn(f"{table.path}: column {target!r} holds {K} different labels in {len(column)} rows")


def _prepared(table: Table, features: Features) -> tuple[Any, dict[str, int]]:
    """Return X, and for each column the number of rows with unknown words, of which the user is warned."""
    X, unknown = features.of(table), features.unknown(table)
    for name, (count, new) in unknown.items():
        _warn(
            f"{table.path}: column {name!r}: {count} of {X.shape[0]} rows have "
            f"words that the model has never seen ({few([repr(word) for word in new])}); they speak for no class"
        )
    return X, {name: count for name, (count, _) in unknown.items()}


@contextmanager
def _progress(max_iter: int) -> Iterator[Any]:
    """Yield a callback that shows iteration, objective and gradient, if standard error is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = "fitting", BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=max_iter)
        yield lambda iteration, value, gradient: bar.update(
            task, completed=iteration, description=f"objective {value:.6g}, gradient {gradient:.1e}"
        )


def predict(args: argparse.Namespace) -> None:
    """Write each row's class and the probabilities of all classes."""
    from . import models

    check_output(args.out, PREDICTIONS)
    estimator, features = models.load(args.model)
    estimator.n_threads = args.threads
    X, unknown = _prepared(_read(args.data, list(features.words)), features)
    S, classes = estimator.predict_proba(X), estimator.classes_
    probabilities = {f"probability_{name}": S[:, k] for k, name in enumerate(classes.tolist())}
    write(args.out, {"prediction": classes[S.argmax(axis=1)], **probabilities})
    if args.json:
        print(json.dumps({"samples": len(S), "out": str(args.out)} | ({"unknown": unknown} if unknown else {})))
    else:
        row("predictions", f"{len(S)} rows in {args.out}")


def export(args: argparse.Namespace) -> None:
    """Write a model as ONNX."""
    import onnx

    from ..onnx import OPSETS, table_to_onnx, to_onnx
    from . import models

    check_output(args.out, (".onnx",))
    estimator, features = models.load(args.model)
    if features.transformer is not None:
        try:
            made = table_to_onnx(estimator, features)
        except ValueError as error:
            raise FileError(f"{args.model}: {error}") from error
        inputs = f"{len(features.columns)} columns"
    else:
        estimator.feature_names_in_ = np.array(features.columns, object)
        made = to_onnx(estimator)
        inputs = f"X (N x {estimator.n_features_in_})"
    with whole(args.out) as temporary:
        temporary.write_bytes(made.SerializeToString())
    kind = onnx.TensorProto.DataType.Name(made.graph.output[1].type.tensor_type.elem_type).lower()
    D, K = estimator.n_features_in_, len(estimator.classes_)
    if args.json:
        print(json.dumps({"out": str(args.out), "features": D, "classes": K, "dtype": kind, "opset": OPSETS[""]}))
    else:
        row("onnx", f"{args.out}, opset {OPSETS['']}: {inputs} to label and probabilities (N x {K}), in {kind}")


def evaluate(args: argparse.Namespace) -> None:
    """Compare a model's predictions with the labels of a table."""
    from . import models

    if args.plot:
        from . import plots  # a missing matplotlib or a bad folder fails here, before the work

        args.plot.mkdir(parents=True, exist_ok=True)
    estimator, features = models.load(args.model)
    estimator.n_threads = args.threads
    table = _read(args.data, list(features.words))
    labels = _labels(table, args.target, estimator.classes_)
    X, unknown = _prepared(table, features)
    log_S = estimator.predict_log_proba(X)
    predicted = log_S.argmax(axis=1)
    names = [str(name) for name in estimator.classes_.tolist()]
    result = scores(labels, predicted, log_S, names) | ({"unknown": unknown} if unknown else {})
    if args.json:
        print(json.dumps(result))
    else:
        row("data", f"{len(labels)} samples, {len(names)} classes")
        row("accuracy", f"{result['accuracy']:.4f}")
        row("log loss", f"{result['log_loss']:.4f}")
        header = ("class", "precision", "recall", "support")
        body = [
            (name, *("-" if each[key] is None else f"{each[key]:.4f}" for key in header[1:3]), str(each["support"]))
            for name, each in result["classes"].items()
        ]
        print(rows_of(header, body))
    if args.plot:
        title = f"{args.data.name}: {result['accuracy']:.1%} of {len(labels)} right"
        figures = {
            "confusion": plots.confusion_matrix(labels, predicted, names, title),
            "reliability": plots.reliability(np.exp(log_S), labels, f"{args.data.name}: how far to trust it"),
            "weights": plots.top_weights(
                estimator.coef_ * deviations(X), features.names(), names, f"{args.model.name}: what moves its scores"
            ),
        }
        for name, figure in figures.items():
            path = args.plot / f"{name}.png"
            plots.save(figure, path)
            if not args.json:
                row("plot", path)


def _labels(table: Table, target: str, classes: Array) -> npt.NDArray[np.intp]:
    """Return the index of each label among the model's classes."""
    y = table.target(target)
    if (y.dtype.kind == "U") != (classes.dtype.kind == "U"):  # one file may have "1" where the other has 1
        y, classes = y.astype(str), classes.astype(str)
    order = np.argsort(classes)
    labels = order[np.minimum(np.searchsorted(classes, y, sorter=order), len(classes) - 1)]
    unknown = np.flatnonzero(classes[labels] != y)
    if unknown.size:
        value = y[unknown[0]].item()
        raise FileError(f"{table.path}: column {target!r}: {value!r} in row {unknown[0] + 1} is no class of the model")
    return labels


def deviations(X: Any) -> Array:
    """Return the standard deviation of each column of an array or CSR, (D,)."""
    if isinstance(X, np.ndarray):
        return np.asarray(X.std(axis=0, dtype=np.float64))
    mean = np.asarray(X.mean(axis=0, dtype=np.float64)).ravel()
    square = np.asarray(X.multiply(X).mean(axis=0, dtype=np.float64)).ravel()
    return np.asarray(np.sqrt(np.maximum(square - mean**2, 0)))


def scores(labels: Array, predicted: Array, log_S: Array, names: list[str]) -> dict[str, Any]:
    """Return accuracy, log loss in nats, and each class's precision, recall (None where they are 0 / 0) and support."""
    K = len(names)
    support, named = np.bincount(labels, minlength=K), np.bincount(predicted, minlength=K)
    right = np.bincount(labels[labels == predicted], minlength=K)
    return {
        "accuracy": float(right.sum() / len(labels)),
        "log_loss": float(-log_S[np.arange(len(labels)), labels].mean(dtype=np.float64)),
        "classes": {
            name: {
                "precision": float(right[k] / named[k]) if named[k] else None,
                "recall": float(right[k] / support[k]) if support[k] else None,
                "support": int(support[k]),
            }
            for k, name in enumerate(names)
        },
    }
