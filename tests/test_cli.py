"""The softmax-ext command, in this process and once in one of its own; the files of Fashion-MNIST."""

import doctest
import gzip
import io
import os
import re
import subprocess
import sys

import numpy as np
import pytest

import softmax_ext
from softmax_ext import _cli, optim
from softmax_ext._cli import bench, demo
from softmax_ext._cli import main as cli
from softmax_ext._core import dispatch
from softmax_ext._data import datasets

pytest.importorskip("sklearn")
pytest.importorskip("rich")
image = pytest.importorskip("matplotlib.image")

FILES = [f"{part}-{kind}-ubyte" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
COMMANDS = ["fit", "predict", "evaluate", "bench", "demo", "info"]
PLOTS = ["confusion.png", "loss.png", "weights.png"]


@pytest.fixture(autouse=True)
def quick_and_plain(monkeypatch):
    """Time in one burst instead of seven, whose pauses take longer than the training; no colours, even if CI asks."""
    monkeypatch.setattr(bench, "ROUNDS", 1)
    for name in ("FORCE_COLOR", "PYTHON_COLORS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def idx(array):
    sizes = np.array(array.shape, ">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """A folder with the four files, of the right format but few images: each class is bright in two rows of its own."""
    rng = np.random.default_rng(0)
    for images, labels, N in ((FILES[0], FILES[1], 200), (FILES[2], FILES[3], 50)):
        y = np.arange(N) % 10
        pixels = rng.integers(0, 100, (N, 28, 28))
        for k in range(10):
            pixels[y == k, 2 * k : 2 * k + 2] += 100
        (tmp_path / f"{images}.gz").write_bytes(gzip.compress(idx(pixels)))
        (tmp_path / f"{labels}.gz").write_bytes(gzip.compress(idx(y)))
    monkeypatch.setenv("FASHION_MNIST", str(tmp_path))
    return tmp_path


def rows(text):
    """What a run printed, by the first word of each line."""
    return dict(re.split(r"\s{2,}", line, maxsplit=1) for line in text.splitlines())


def accuracy(printed):
    return float(re.search(r"accuracy (\S+)", printed["held out"])[1])


@pytest.mark.parametrize("optimizer", demo.OPTIMIZERS)
def test_demo_learns_the_digits(optimizer, capsys):
    assert cli.main(["demo", "--optimizer", optimizer]) == 0
    out, err = capsys.readouterr()
    printed = rows(out)
    assert err == ""
    assert printed["digits"] == "1347 training and 450 held-out images, 10 classes"
    assert accuracy(printed) >= 0.95
    assert float(re.search(r"loss (\S+),", printed["held out"])[1]) < 0.3
    ours, theirs = (float(printed[name].split()[0]) for name in ("one pass", "reference"))
    ratio = float(re.search(r"(\S+) times", printed["reference"])[1])
    assert ours > 0 and theirs > 0 and ratio == pytest.approx(theirs / ours, rel=0.1, abs=0.06)
    assert printed["kernels"] == f"ISA level {dispatch.isa}, threads {softmax_ext.show_config().threads}"


def test_demo_repeats_and_obeys_its_options(capsys):
    def held_out(*options):
        assert cli.main(["demo", *options]) == 0
        return rows(capsys.readouterr().out)["held out"]

    assert held_out("--seed", "1") == held_out("--seed", "1", "--threads", "1")
    few = ("--epochs", "2", "--batch-size", "100", "--learning-rate", "0.001")
    results = [held_out(*few[:4]), held_out(*few), held_out(*few[:2]), held_out(*few[:4], "--seed", "1")]
    assert len(set(results)) == 4


def test_the_seed_splits_the_digits_by_class():
    first, second = datasets.digits(seed=0), datasets.digits(seed=1)
    assert (first.y_test != second.y_test).any()
    np.testing.assert_equal(datasets.digits(seed=1), second)
    X, y = np.vstack([first.X_train, first.X_test]), np.concatenate([first.y_train, first.y_test])
    assert X.shape == (1797, 64) and X.dtype == np.float32 and (X.min(), X.max()) == (0, 1)
    np.testing.assert_allclose(np.bincount(first.y_test), np.bincount(y) / 4, atol=1)


def test_the_seed_shuffles(fashion, capsys):
    results = set()
    for seed in "011":
        assert cli.main(["demo", "--data", "fashion-mnist", "--epochs", "1", "--batch-size", "9", "--seed", seed]) == 0
        results.add(rows(capsys.readouterr().out)["held out"])
    assert len(results) == 2


def test_demo_draws_three_pictures(tmp_path, capsys):
    folder = tmp_path / "new" / "figures"
    assert cli.main(["demo", "--epochs", "3", "--plot", str(folder)]) == 0
    assert sorted(os.listdir(folder)) == PLOTS  # and no temporary file beside them
    for name in PLOTS:
        pixels = image.imread(folder / name)
        assert min(pixels.shape[:2]) > 300 and np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0).shape[0] > 50
    assert str(folder / "weights.png") in capsys.readouterr().out


def test_a_picture_appears_whole_or_not_at_all(tmp_path):
    from softmax_ext._cli import plots

    (tmp_path / "loss.png").write_text("old")
    figure = plots.loss_curve(np.array([1.0, 0.5]), 0.6, "title")
    figure.savefig = lambda path, **options: path.write_text("half") and 1 / 0
    with pytest.raises(ZeroDivisionError):
        plots.save(figure, tmp_path / "loss.png")
    assert os.listdir(tmp_path) == ["loss.png"] and (tmp_path / "loss.png").read_text() == "old"


def test_a_picture_takes_the_place_of_an_old_one(tmp_path):
    """It is renamed to it, so that whoever has the old one open keeps it whole."""
    from softmax_ext._cli import plots

    path = tmp_path / "loss.png"
    path.write_text("old")
    with path.open() as reader:
        plots.save(plots.loss_curve(np.array([1.0, 0.5]), 0.6, "title"), path)
        assert reader.read() == "old"
    assert image.imread(path).any()


def test_the_pictures_of_the_demo_show_the_numbers():
    from softmax_ext._cli import plots

    history, y, predicted = np.array([1.0, 0.5, 0.25]), np.array([0, 0, 1, 2]), np.array([0, 1, 1, 2])
    (axes,) = plots.loss_curve(history, 0.6, "title").axes
    np.testing.assert_array_equal(axes.lines[0].get_xydata(), [(1, 1), (2, 0.5), (3, 0.25)])
    np.testing.assert_array_equal(axes.lines[1].get_ydata(), [0.6, 0.6])

    axes, _ = plots.confusion_matrix(y, predicted, ("a", "b", "c"), "title").axes
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 1]])
    assert {text.get_position(): text.get_text() for text in axes.texts} == dict.fromkeys(
        [(0, 0), (1, 0), (1, 1), (2, 2)], "1"
    )
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted class", "true class")

    W = np.arange(12.0).reshape(3, 4)
    figure = plots.weights(W, (2, 2), ("a", "b", "c"), "title")
    shown = [axes for axes in figure.axes if axes.images and axes.get_title()]
    assert [axes.get_title() for axes in shown] == ["a", "b", "c"]
    np.testing.assert_array_equal(np.ravel([axes.images[0].get_array() for axes in shown]), W.ravel())
    low, high = shown[0].images[0].get_clim()
    assert low == -high < 0


def test_demo_learns_fashion_mnist(fashion, capsys):
    assert cli.main(["demo", "--data", "fashion-mnist", "--epochs", "30", "--plot", str(fashion / "figures")]) == 0
    printed = rows(capsys.readouterr().out)
    assert printed["fashion-mnist"] == "200 training and 50 held-out images, 10 classes"
    assert accuracy(printed) >= 0.95
    assert sorted(os.listdir(fashion / "figures")) == PLOTS


def test_files_without_gz_are_read_too(fashion):
    before = datasets.fashion_mnist(seed=0)
    for name in FILES:
        packed = fashion / f"{name}.gz"
        (fashion / name).write_bytes(gzip.decompress(packed.read_bytes()))
        packed.unlink()
    np.testing.assert_equal(datasets.fashion_mnist(seed=0), before)
    assert before.X_train.shape == (200, 784) and before.X_train.dtype == np.float32
    assert 0.5 < before.X_train.max() <= 1 and before.classes[before.y_test[9]] == "Ankle boot"


def assert_one_line(capsys, *expected):
    out, err = capsys.readouterr()
    assert err.startswith("softmax-ext: error: ") and err.count("\n") == 1, err
    for text in expected:
        assert text in err
    return out


@pytest.mark.parametrize("name", FILES)
def test_demo_tells_how_to_get_fashion_mnist(fashion, name, capsys):
    (fashion / f"{name}.gz").unlink()
    assert cli.main(["demo", "--data", "fashion-mnist"]) == 2
    out = assert_one_line(capsys, name, str(fashion), "apt-get install dataset-fashion-mnist", "FASHION_MNIST")
    assert out == ""


def test_the_folder_of_debians_package_is_the_default(fashion, monkeypatch):
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", str(fashion))
    for value in ("", None):
        monkeypatch.setenv("FASHION_MNIST", "") if value == "" else monkeypatch.delenv("FASHION_MNIST")
        assert len(datasets.fashion_mnist(seed=0).X_test) == 50


IMAGES = idx(np.zeros((200, 28, 28)))
DAMAGE = {
    "empty": (0, gzip.compress(b""), "begins with nothing"),
    "not gzip": (0, IMAGES, "gzip"),
    "cut gzip": (0, gzip.compress(IMAGES)[:-20], "end-of-stream"),
    "broken gzip": (0, gzip.compress(IMAGES)[:30] + bytes(100), ""),
    "cut in the magic number": (0, gzip.compress(IMAGES[:3]), "begins with 00 00 08"),
    "cut in the sizes": (0, gzip.compress(IMAGES[:10]), "10 bytes"),
    "cut in the pixels": (0, gzip.compress(IMAGES[:-1]), "156815 bytes"),
    "too long": (0, gzip.compress(IMAGES + b"x"), "156817 bytes"),
    "floats": (0, gzip.compress(b"\0\0\x0d" + IMAGES[3:]), "begins with 00 00 0d 03"),
    "no dimension": (0, gzip.compress(b"\0\0\x08\0" + IMAGES[4:]), "begins with 00 00 08 00"),
    "a huge claim": (0, gzip.compress(IMAGES[:4] + b"\xff" * 12), "take 79228162458924105385300197391"),
    "MNIST's neighbour": (0, gzip.compress(idx(np.zeros((200, 32, 32)))), "28 x 28"),
    "labels for images": (0, gzip.compress(idx(np.zeros(200))), "28 x 28"),
    "images for labels": (1, gzip.compress(IMAGES), "one per image"),
    "one label short": (1, gzip.compress(idx(np.zeros(199))), "one per image"),
    "label 10": (1, gzip.compress(idx(np.arange(200) % 11)), "the largest is 10"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_files_are_named(fashion, damage, capsys):
    index, data, message = DAMAGE[damage]
    path = fashion / f"{FILES[index]}.gz"
    path.write_bytes(data)
    assert cli.main(["demo", "--data", "fashion-mnist"]) == 2
    assert_one_line(capsys, str(path), message)


def test_files_without_images_are_named(fashion, capsys):
    (fashion / f"{FILES[0]}.gz").write_bytes(gzip.compress(idx(np.zeros((0, 28, 28)))))
    (fashion / f"{FILES[1]}.gz").write_bytes(gzip.compress(idx(np.zeros(0))))
    assert cli.main(["demo", "--data", "fashion-mnist"]) == 2
    assert_one_line(capsys, FILES[1])


def hide(package, monkeypatch):
    for name in {package, *(name for name in sys.modules if name.partition(".")[0] == package)}:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("package", ["matplotlib", "rich", "sklearn"])
def test_a_missing_package_is_named_before_the_work(package, monkeypatch, tmp_path, capsys):
    hide(package, monkeypatch)
    monkeypatch.delitem(sys.modules, "softmax_ext._cli.plots", raising=False)
    monkeypatch.delattr(_cli, "plots", raising=False)
    assert cli.main(["demo", "--plot", str(tmp_path)]) == 2
    assert assert_one_line(capsys, package, "pip install 'softmax_ext[demo]'") == ""


@pytest.mark.parametrize(
    ("package", "out", "wanted"),
    [("pandas", "m.npz", "'softmax_ext[cli]'"), ("rich", "m.npz", "'softmax_ext[cli]'"), ("skops", "m.skops", "skops")],
)
def test_a_package_that_fit_misses_is_named(package, out, wanted, monkeypatch, tmp_path, capsys):
    (tmp_path / "train.csv").write_text("a,y\n1,0\n2,1\n")
    hide(package, monkeypatch)
    assert cli.main(["fit", str(tmp_path / "train.csv"), "--target", "y", "--out", str(tmp_path / out)]) == 2
    assert assert_one_line(capsys, package, f"pip install {wanted}") == ""
    assert os.listdir(tmp_path) == ["train.csv"]


def test_other_missing_modules_are_faults_of_ours(monkeypatch):
    hide("rich", monkeypatch)
    monkeypatch.setattr(cli, "EXTRAS", ())
    with pytest.raises(ModuleNotFoundError):
        cli.main(["demo"])


def test_divergence_is_one_line(capsys):
    assert cli.main(["demo", "--optimizer", "sgd", "--learning-rate", "1e300"]) == 2
    assert_one_line(capsys, "not finite", "learning rate")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert cli.main(["demo", "--plot", str(tmp_path / "file")]) == 2
    assert assert_one_line(capsys, str(tmp_path / "file")) == ""


def test_ctrl_c_ends_quietly(monkeypatch, capsys):
    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(optim, "fit", interrupt)
    assert cli.main(["demo"]) == 130
    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "command"),
        (["learn"], "learn"),
        (["demo", "--data", "cifar"], "cifar"),
        (["demo", "--epochs", "0"], "--epochs: must be positive, got 0"),
        (["demo", "--epochs", "1.5"], "--epochs: invalid int value: '1.5'"),
        (["demo", "--batch-size", "-1"], "--batch-size"),
        (["demo", "--learning-rate", "nan"], "--learning-rate: must be positive, got nan"),
        (["demo", "--learning-rate", "fast"], "--learning-rate: invalid float value: 'fast'"),
        (["demo", "--seed", "-1"], "--seed"),
        (["demo", "--seed", str(2**32)], "--seed"),
        (["demo", "--threads", "0"], "--threads: must not be 0"),
        (["demo", "--threads", "two"], "--threads"),
    ],
    ids=" ".join,
)
def test_bad_options_are_named(options, message, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(options)
    out, err = capsys.readouterr()
    assert stop.value.code == 2 and out == "" and message in err.splitlines()[-1]


@pytest.mark.parametrize(
    "command", [[], *([name] for name in ["fit", "predict", "evaluate", "bench", "demo", "info"])], ids=" ".join
)
def test_help_fits_a_screen_and_shows_an_example(command, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert stop.value.code == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    assert lines[-1].startswith("example: softmax-ext") and cli._parser().parse_args(lines[-1].split()[2:])


def test_version_and_info_print_what_runs(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"softmax-ext {softmax_ext.__version__}\n"
    assert cli.main(["info"]) == 0
    assert capsys.readouterr().out == f"{softmax_ext.show_config()}\n"


def test_a_terminal_gets_a_progress_bar(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("FORCE_COLOR", "1")  # makes rich take it for a terminal
    monkeypatch.setenv("TERM", "xterm")
    assert cli.main(["demo", "--epochs", "4"]) == 0
    assert "training" in terminal.getvalue() and "4/4" in terminal.getvalue()


def test_python_m_softmax_ext_is_the_command():
    command = [sys.executable, "-m", "softmax_ext", "demo", "--epochs", "20"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "" and accuracy(rows(result.stdout)) >= 0.9
    command += ["--data", "fashion-mnist"]
    environment = os.environ | {"FASHION_MNIST": os.devnull}
    failed = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert failed.returncode == 2 and failed.stdout == "" and failed.stderr.count("\n") == 1


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "softmax_ext", "info"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b"" and process.wait(60) == 141


def test_examples_of_the_command_run():
    assert doctest.testmod(cli) == (0, 2)
