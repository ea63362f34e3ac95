"""The ``softmax-ext`` command: ``demo`` trains on real images, ``info`` prints how the package was built and runs."""

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import __version__, _dispatch, _threads, optim, reference
from ._datasets import DATASETS, Dataset, DatasetError
from .functional import loss_grad, predict_proba

if TYPE_CHECKING:
    from rich.progress import Progress

DEMO_EXTRA = ("matplotlib", "rich", "sklearn")
FAILURE = 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count

EPOCHS_AND_BATCH_SIZE = {"digits": (60, 32), "fashion-mnist": (20, 256)}
L2 = 1e-4
ROUNDS = 7  # of timing, of which the median counts

# Each with its first learning rate, which then falls along a cosine. Accuracy on the held-out digits was 0.953 to 0.980
# over 40 seeds and these four.
OPTIMIZERS: dict[str, tuple[Callable[[optim.Schedule], optim.Optimizer[Any]], float]] = {
    "sgd": (optim.sgd, 0.5),
    "momentum": (optim.momentum, 0.05),
    "nesterov": (optim.nesterov, 0.05),
    "adam": (optim.adam, 0.01),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, the process's own if None, and return its exit status.

    What a user can mend is reported as one line on standard error, with status 2.

    Raises
    ------
    SystemExit
        From argparse: status 0 after ``--help`` and ``--version``, 2 for arguments it does not understand.

    Examples
    --------
    >>> from softmax_ext.cli import main
    >>> main(["demo", "--data", "no-such-folder"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in DEMO_EXTRA:
            raise
        return _fail(f"{package} is not installed; the demo needs it: pip install 'softmax_ext[demo]'")
    except (DatasetError, FloatingPointError, OSError) as error:
        return _fail(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _fail(message: str) -> int:
    print(f"softmax-ext: error: {message}", file=sys.stderr)
    return FAILURE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softmax-ext",
        description="Softmax classification at the speed of memory.",
        epilog="example: softmax-ext demo --plot figures",
    )
    parser.add_argument("--version", action="version", version=f"softmax-ext {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    demo = commands.add_parser(
        "demo",
        help="train on real images, show accuracy and speed",
        description="Train a softmax classifier on real images. Print its loss and accuracy on held-out ones, and the "
        "time of one pass beside the NumPy reference.",
        epilog="example: softmax-ext demo --data fashion-mnist --plot figures",
    )
    demo.add_argument("--data", choices=DATASETS, default="digits", help="default: digits, which scikit-learn brings")
    demo.add_argument("--optimizer", choices=OPTIMIZERS, default="adam", help="default: adam")
    demo.add_argument("--learning-rate", type=_positive(float), metavar="RATE", help="default: fits the optimizer")
    demo.add_argument("--epochs", type=_positive(int), metavar="N", help="passes over the data; default: fits the data")
    demo.add_argument("--batch-size", type=_positive(int), metavar="N", help="images per step; default: fits the data")
    demo.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split and the shuffles; default: 0")
    demo.add_argument("--threads", type=_thread_count, metavar="N", help="default: all that this process may use")
    demo.add_argument("--plot", type=Path, metavar="FOLDER", help="write loss.png, confusion.png and weights.png there")
    demo.set_defaults(run=_demo)

    info = commands.add_parser(
        "info",
        help="print how softmax_ext was built and runs here",
        description="Print version, ISA levels, OpenMP, threads, compiler and flags: what a bug report needs.",
        epilog="example: softmax-ext info",
    )
    info.set_defaults(run=_info)
    return parser


def _positive(kind: type[int] | type[float]) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not 0 < value < float("inf"):
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse names it: "invalid int value"
    return parse


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:  # the range of scikit-learn's random_state
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1, got {text}")
    return value


def _thread_count(text: str) -> int:
    value = int(text)
    try:
        _threads.effective(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return value


def _info(args: argparse.Namespace) -> None:
    print(_dispatch.show_config())


def _demo(args: argparse.Namespace) -> None:
    progress = _progress_bar()
    if args.plot:
        from . import _plots  # a missing matplotlib or a bad folder must not cost a training run

        args.plot.mkdir(parents=True, exist_ok=True)
    data = DATASETS[args.data](args.seed)
    _row(args.data, f"{len(data.X_train)} training and {len(data.X_test)} held-out images, {len(data.classes)} classes")

    W, b, history = _train(data, args, progress)
    loss = loss_grad(data.X_test, data.y_test, W, b, n_threads=args.threads).loss
    predicted = predict_proba(data.X_test, W, b, n_threads=args.threads).argmax(axis=1)
    accuracy = np.mean(predicted == data.y_test)
    _row("held out", f"loss {loss:.4f}, accuracy {accuracy:.4f}")

    ours, numpy = _pass_seconds(data, W, b, args.threads)
    _row("one pass", f"{ours * 1e3:.3f} ms for loss and gradient of all training images in {data.X_train.dtype}")
    _row("reference", f"{numpy * 1e3:.3f} ms in NumPy, float64 (softmax_ext.reference): {numpy / ours:.1f} times that")
    _row("kernels", f"ISA level {_dispatch.isa}, threads {_threads.effective(args.threads)}")

    if args.plot:
        curve = _plots.loss_curve(history, loss, f"{args.data}: loss by epoch ({args.optimizer})")
        title = f"{args.data}: {accuracy:.1%} of {len(predicted)} held-out images right"
        matrix = _plots.confusion_matrix(data.y_test, predicted, data.classes, title)
        images = _plots.weights(W, data.image, data.classes, f"{args.data}: the weights of each class")
        for name, figure in (("loss", curve), ("confusion", matrix), ("weights", images)):
            path = args.plot / f"{name}.png"
            _plots.save(figure, path)
            _row("plot", path)


def _row(name: str, value: object) -> None:
    print(f"{name:<15}{value}", flush=True)


def _progress_bar() -> "Progress":
    """Return a bar on standard error, for standard output is for the results; it is silent if that is no terminal."""
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
    _row("training", f"loss {result.history[-1]:.4f} after {epochs} epochs of {args.optimizer} in {seconds:.2f} s")
    return result


def _pass_seconds(data: Dataset, W: optim.Array, b: optim.Array | None, n_threads: int | None) -> list[float]:
    """Return the median seconds of one pass over the training images, by the kernels and by the reference in turns.

    The pause lets OpenBLAS's threads, which spin for tens of milliseconds after a product, leave the processor to the
    next contender; a short pass is timed in a burst.
    """
    contenders: list[Callable[[], object]] = [
        lambda: loss_grad(data.X_train, data.y_train, W, b, n_threads=n_threads),
        lambda: reference.loss_grad(data.X_train, data.y_train, W, b),
    ]
    medians: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for run, seconds in zip(contenders, medians, strict=True):
            time.sleep(0.05)
            run()  # wakes the threads
            burst: list[float] = []
            while sum(burst) < 0.02:
                start = time.perf_counter()
                run()
                burst.append(time.perf_counter() - start)
            seconds.append(statistics.median(burst))
    return [statistics.median(seconds) for seconds in medians]
