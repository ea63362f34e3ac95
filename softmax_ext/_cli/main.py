"""The ``softmax-ext`` program and its arguments. Its commands are in `commands`, `bench` and `demo`."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .._core.config import show_config
from .._data.datasets import DATASETS, DatasetError
from .._data.tables import FileError
from .._version import __version__
from . import bench as _bench
from . import commands as _commands
from . import demo as _demo

EXTRAS = ("matplotlib", "onnx", "pandas", "pyarrow", "rich", "skops", "sklearn")  # packages that extras install
FAILURE = 2
INTERRUPTED = 130  # 128 + SIGINT, a shell's exit status for a signal
UNREAD = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit status; `argv` is by default the process's own.

    An error that the user can mend is reported as one line on standard error, with status 2.

    Raises
    ------
    SystemExit
        From argparse: status 0 after ``--help`` and ``--version``, 2 for arguments it does not understand.

    Examples
    --------
    >>> from softmax_ext._cli.main import main
    >>> main(["demo", "--data", "no-such-folder"])
    Traceback (most recent call last):
    SystemExit: 2
    """
    args = _parser().parse_args(argv)
    try:
        args.run(args)
        sys.stdout.flush()
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in EXTRAS:
            raise
        wanted = "skops" if package == "skops" else f"'softmax_ext[{args.extra}]'"
        return _fail(f"{package} is not installed, and needed here: pip install {wanted}")
    except BrokenPipeError:  # the reader, say `head`, has left; Python's last flush must not fail for that again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return UNREAD
    except (DatasetError, FileError, FloatingPointError, OSError) as error:
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
        epilog="example: softmax-ext fit train.csv --target species --out model.npz",
    )
    parser.add_argument("--version", action="version", version=f"softmax-ext {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(
        name: str, run: Callable[[argparse.Namespace], None], extra: str, words: str, tells: str, example: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(
            name, help=words, description=tells, epilog=f"example: softmax-ext {name} {example}".rstrip()
        )
        made.set_defaults(run=run, extra=extra)
        return made

    fit = command(
        "fit", _commands.fit, "cli", "fit a model to a table",
        "Fit a model to TRAIN: .csv, .tsv, .parquet, .arrow, .npz, .h5, .svmlight.",
        "train.csv --target y --impute --one-hot --out m.npz",
    )  # fmt: skip
    fit.usage = "softmax-ext fit TRAIN --target COLUMN --out MODEL [options]"
    fit.add_argument("train", type=Path, metavar="TRAIN", help=argparse.SUPPRESS)  # the description explains it
    fit.add_argument("--target", required=True, metavar="COLUMN", help="what to learn; of a .svmlight file: label")
    fit.add_argument("--out", required=True, type=Path, metavar="MODEL", help="a name ending in .npz or .skops")
    fit.add_argument("--ignore", action="append", default=[], metavar="COLUMN", help="not a feature; may be repeated")
    fit.add_argument("--impute", action="store_true", help="fill in a column's median where a number is missing")
    fit.add_argument("--one-hot", action="store_true", help="let columns of words be features, a column for each word")
    fit.add_argument("--weights", metavar="COLUMN", help="what each sample weighs")
    fit.add_argument("--balanced", action="store_true", help="let all classes weigh the same")
    penalty = fit.add_mutually_exclusive_group()
    penalty.add_argument("--C", type=_positive(float, inf=True), default=1.0, help="inverse penalty; default: 1")
    penalty.add_argument("--cv", type=_folds, metavar="N", help="choose C by the accuracy in N folds")
    fit.add_argument("--l1-ratio", type=_ratio, default=0.0, metavar="R", help="of the penalty, 0 to 1; default: 0")
    fit.add_argument("--one-se", action="store_true", help="with --cv: as simple as within one standard error")
    fit.add_argument("--plot", type=Path, metavar="FOLDER", help="with --cv: write cross-validation.png there")
    fit.add_argument("--tol", type=_positive(float), default=1e-4, help="of the gradient; default: 1e-4")
    fit.add_argument("--max-iter", type=_positive(int), default=100, metavar="N", help="default: 100")

    predict = command(
        "predict", _commands.predict, "cli", "write the classes of a table's rows",
        "Write the class of each row and the probabilities of all classes. The model takes its columns by name.",
        "model.npz new.csv --out predictions.csv",
    )  # fmt: skip
    predict.add_argument("model", type=Path, metavar="MODEL", help="what fit has written")
    predict.add_argument("data", type=Path, metavar="DATA", help="a table, in which other columns do not matter")
    predict.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="ending in .csv, .tsv, .parquet, .arrow or .npz"
    )

    evaluate = command(
        "evaluate", _commands.evaluate, "cli", "compare a model with the labels of a table",
        "Print accuracy, log loss (nats), and for each class precision, recall and support.",
        "model.npz test.csv --target species --plot out",
    )  # fmt: skip
    evaluate.add_argument("model", type=Path, metavar="MODEL", help="what fit has written")
    evaluate.add_argument("data", type=Path, metavar="DATA", help="a table with labels")
    evaluate.add_argument("--target", required=True, metavar="COLUMN", help="the labels")
    evaluate.add_argument(
        "--plot", type=Path, metavar="FOLDER", help="write confusion.png, reliability.png and weights.png there"
    )

    export = command(
        "export", _commands.export, "cli,onnx", "write a model as ONNX",
        "Write a model as ONNX, which onnxruntime runs without Python: X, or the columns of a table if the model fills "
        "in numbers or encodes words, to label and probabilities.",
        "model.npz --out model.onnx",
    )  # fmt: skip
    export.add_argument("model", type=Path, metavar="MODEL", help="what fit has written")
    export.add_argument("--out", required=True, type=Path, metavar="FILE", help="a name ending in .onnx")

    bench = command(
        "bench", _bench.bench, "cli", "time one pass on this machine",
        "Time loss and gradient of random data, beside NumPy, scikit-learn and PyTorch where they are installed.",
        "--shapes mnist covtype",
    )  # fmt: skip
    bench.add_argument("--shapes", nargs="+", choices=_bench.SHAPES, metavar="SHAPE",
                       help=f"default: all of {', '.join(_bench.SHAPES)}")  # fmt: skip

    demo = command(
        "demo", _demo.demo, "demo", "train on real images, show accuracy and speed",
        "Train a softmax classifier on real images. Print its loss and accuracy on held-out ones, and the time of one "
        "pass beside the NumPy reference.",
        "--data fashion-mnist --plot figures",
    )  # fmt: skip
    demo.add_argument("--data", choices=DATASETS, default="digits", help="default: digits, which scikit-learn brings")
    demo.add_argument("--optimizer", choices=_demo.OPTIMIZERS, default="adam", help="default: adam")
    demo.add_argument("--learning-rate", type=_positive(float), metavar="RATE", help="default: fits the optimizer")
    demo.add_argument("--epochs", type=_positive(int), metavar="N", help="passes over the data; default: fits the data")
    demo.add_argument("--batch-size", type=_positive(int), metavar="N", help="images per step; default: fits the data")
    demo.add_argument("--seed", type=_seed, default=0, metavar="N", help="of the split and the shuffles; default: 0")
    demo.add_argument("--plot", type=Path, metavar="FOLDER", help="write loss.png, confusion.png and weights.png there")

    command(
        "info", _info, "", "print how softmax_ext was built and runs here",
        "Print version, ISA levels, OpenMP, threads, compiler and flags: what a bug report needs.", "",
    )  # fmt: skip
    for each in (fit, predict, evaluate, bench, demo):
        each.add_argument("--threads", type=_thread_count, metavar="N", help="default: all that this process may use")
    for each in (fit, predict, evaluate, export, bench):
        each.add_argument("--json", action="store_true", help="print one JSON object, and nothing else")
    return parser


def _positive(kind: type[int] | type[float], inf: bool = False) -> Callable[[str], float]:
    def parse(text: str) -> float:
        value = kind(text)
        if not (0 < value < math.inf or (inf and value == math.inf)):
            raise argparse.ArgumentTypeError(f"must be positive, got {text}")
        return value

    parse.__name__ = kind.__name__  # argparse puts the name into its message: "invalid int value"
    return parse


def _ratio(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must be from 0, which is L2, to 1, which is L1, got {text}")
    return value


_ratio.__name__ = "float"  # argparse puts the name into its message: "invalid float value"


def _folds(text: str) -> int:
    value = int(text)
    if value < 2:
        raise argparse.ArgumentTypeError(f"must be at least 2, got {text}")
    return value


def _seed(text: str) -> int:
    value = int(text)
    if not 0 <= value < 2**32:  # the range of scikit-learn's random_state
        raise argparse.ArgumentTypeError(f"must be from 0 to 2**32 - 1, got {text}")
    return value


def _thread_count(text: str) -> int:
    value = int(text)
    if value == 0:
        raise argparse.ArgumentTypeError("must not be 0; -1 is all")
    return value


def _info(args: argparse.Namespace) -> None:
    print(show_config())
