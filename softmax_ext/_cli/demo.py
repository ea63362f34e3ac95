"""The ``demo`` command, which trains on real images, and shows accuracy and speed."""

import argparse
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import optim, reference
from .._core import dispatch, threads
from .._data.datasets import DATASETS, Dataset
from .._optim.schedules import Schedule
from ..functional import loss_grad, predict_proba
from .bench import interleaved
from .report import row

if TYPE_CHECKING:
    from rich.progress import Progress

EPOCHS_AND_BATCH_SIZE = {"digits": (60, 32), "fashion-mnist": (20, 256)}
L2 = 1e-4

# Each optimiser has its first learning rate, which then falls along a cosine. The rates were checked over many seeds
# (docs/notes.md, "The demo's learning rates").
OPTIMIZERS: dict[str, tuple[Callable[[Schedule], optim.Optimizer[Any]], float]] = {
    "sgd": (optim.sgd, 0.5),
    "momentum": (optim.momentum, 0.05),
    "nesterov": (optim.nesterov, 0.05),
    "adam": (optim.adam, 0.01),
}


def demo(args: argparse.Namespace) -> None:
    """Train a model, and print its accuracy and the speed of the training."""
    progress = _progress_bar()
    if args.plot:
        from . import plots  # a missing matplotlib or a bad folder fails here, before the training

        args.plot.mkdir(parents=True, exist_ok=True)
    data = DATASETS[args.data](args.seed)
    row(args.data, f"{len(data.X_train)} training and {len(data.X_test)} held-out images, {len(data.classes)} classes")

    W, b, history = _train(data, args, progress)
    loss = loss_grad(data.X_test, data.y_test, W, b, n_threads=args.threads).loss
    predicted = predict_proba(data.X_test, W, b, n_threads=args.threads).argmax(axis=1)
    accuracy = np.mean(predicted == data.y_test)
    row("held out", f"loss {loss:.4f}, accuracy {accuracy:.4f}")

    X, y = data.X_train, data.y_train
    seconds = interleaved(
        {
            "ours": lambda: loss_grad(X, y, W, b, n_threads=args.threads),
            "numpy": lambda: reference.loss_grad(X, y, W, b),
        }
    )
    ours, numpy = seconds["ours"], seconds["numpy"]
    row("one pass", f"{ours * 1e3:.3f} ms for loss and gradient of all training images in {data.X_train.dtype}")
    row("reference", f"{numpy * 1e3:.3f} ms in NumPy, float64 (softmax_ext.reference): {numpy / ours:.1f} times that")
    row("kernels", f"ISA level {dispatch.isa}, threads {threads.effective(args.threads)}")

    if args.plot:
        curve = plots.loss_curve(history, loss, f"{args.data}: loss by epoch ({args.optimizer})")
        title = f"{args.data}: {accuracy:.1%} of {len(predicted)} held-out images right"
        matrix = plots.confusion_matrix(data.y_test, predicted, data.classes, title)
        images = plots.weights(W, data.image, data.classes, f"{args.data}: the weights of each class")
        for name, figure in (("loss", curve), ("confusion", matrix), ("weights", images)):
            path = args.plot / f"{name}.png"
            plots.save(figure, path)
            row("plot", path)


def _progress_bar() -> "Progress":
    """Return a progress bar on standard error, which shows nothing if that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = "training", BarColumn(), MofNCompleteColumn(), TextColumn("epochs, loss {task.fields[loss]:.4f}")
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _train(data: Dataset, args: argparse.Namespace, progress: "Progress") -> optim.FitResult:
    default_epochs, default_batch_size = EPOCHS_AND_BATCH_SIZE[args.data]
    epochs, batch_size = args.epochs or default_epochs, args.batch_size or default_batch_size
    optimizer, learning_rate = OPTIMIZERS[args.optimizer]
    steps = epochs * math.ceil(len(data.X_train) / batch_size)
    schedule = optim.cosine_decay(args.learning_rate or learning_rate, steps)
    start = time.perf_counter()
    with progress:
        bar = progress.add_task("training", total=epochs, loss=math.log(len(data.classes)))
        result = optim.fit(
            data.X_train,
            data.y_train,
            optimizer(schedule),
            K=len(data.classes),
            epochs=epochs,
            batch_size=batch_size,
            l2=L2,
            random_state=args.seed,
            callback=lambda epoch, loss: progress.update(bar, completed=epoch + 1, loss=loss),
            n_threads=args.threads,
        )
    seconds = time.perf_counter() - start
    row("training", f"loss {result.history[-1]:.4f} after {epochs} epochs of {args.optimizer} in {seconds:.2f} s")
    return result
