"""Full-batch fits over chunks that are killed and go on, to the same bits and without repeating a pass."""

import subprocess
import sys
import textwrap
from signal import SIGKILL

import numpy as np
import pytest

from softmax_ext import chunks
from softmax_ext._fit.journal import HEAD

pytest.importorskip("sklearn", "1.6")

from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV

pytestmark = pytest.mark.thread_unsafe(reason="two threads would write the same files")


def problem(N=600, D=40, K=5):
    rng = np.random.default_rng([N, D, K])
    X = rng.standard_normal((N, D)) * 3.0 ** rng.integers(-3, 3, D)
    return X, (X @ (rng.standard_normal((D, K)) / X.std(axis=0)[:, np.newaxis]) + rng.gumbel(size=(N, K))).argmax(
        axis=1
    )


class Data:
    """Chunks that count how often they are read."""

    def __init__(self, X, y):
        self.X, self.y, self.passes = X, y, 0

    def __call__(self):
        self.passes += 1
        for i in range(0, len(self.X), 101):
            yield self.X[i : i + 101], self.y[i : i + 101]


# Problems by the methods that fit them: L-BFGS, then Newton's method; Newton's method alone; products with the Hessian;
# coordinate descent.
WAYS = {
    "lbfgs": ((600, 40, 5), {"C": 0.1, "tol": 1e-8}),
    "eased": ((600, 40, 5), {"C": 1e5}),
    "newton": ((600, 6, 3), {"tol": 1e-10}),
    "newton-cg": ((600, 40, 5), {"solver": "newton-cg"}),
    "l1": ((600, 6, 3), {"solver": "saga", "l1_ratio": 0.7, "C": 0.1}),
    "standardised": ((600, 6, 3), {"standardize": True}),
    "two classes": ((600, 6, 2), {"label_smoothing": 0.1, "class_weight": {0: 2.0}}),
}


def fit(data, checkpoint=None, **parameters):
    before = data.passes
    model = LogisticRegression(checkpoint=checkpoint, **parameters).fit(chunks.from_iterable(data))
    state = [model.coef_, model.intercept_, model.loss_curve_, model.n_iter_, model.gap_, model.predicted_decrease_]
    return b"".join(np.asarray(each).tobytes() for each in state), model.convergence_report_, data.passes - before


def records(path):
    """Return where the first line and each record end."""
    content = path.read_bytes()
    ends = [content.index(b"\n") + 1]
    while ends[-1] < len(content):
        (head,) = np.frombuffer(content[ends[-1] : ends[-1] + HEAD.itemsize], HEAD)
        ends.append(ends[-1] + HEAD.itemsize + 8 * int(head["numbers"]))
    return content, ends


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("classes_summed")
@pytest.mark.parametrize("way", WAYS)
def test_a_fit_goes_on_from_every_pass(way, tmp_path):
    shape, parameters = WAYS[way]
    data, path = Data(*problem(*shape)), tmp_path / "fit.journal"
    *whole, passes = fit(data, **parameters)
    assert fit(data, path, **parameters) == (*whole, passes)
    content, ends = records(path)
    more = passes - (len(ends) - 1)  # looks, which are no questions of an optimiser
    assert more == (2 if way == "standardised" else 1)
    for kept, end in enumerate(ends):
        if kept % max(1, len(ends) // 8) in (0, 1) or kept == len(ends) - 1:
            path.write_bytes(content[: end + (5 if kept % 2 else 0)])  # also with the next one begun
            *again, made = fit(data, path, **parameters)
            assert again == whole and made == passes - kept
            assert path.read_bytes() == content


def test_what_is_damaged_is_computed_again(tmp_path):
    shape, parameters = WAYS["lbfgs"]
    data, path = Data(*problem(*shape)), tmp_path / "fit.journal"
    *whole, passes = fit(data, path, **parameters)
    content, ends = records(path)
    for place, kept in ((ends[3] + 3, 3), (ends[3] + HEAD.itemsize + 77, 3), (ends[5] + QUESTIONS, 5)):
        damaged = bytearray(content)
        damaged[place] ^= 255
        path.write_bytes(damaged)
        *again, made = fit(data, path, **parameters)
        assert again == whole and made == passes - kept and path.read_bytes() == content


QUESTIONS = HEAD.fields["numbers"][1] + 6  # where a number of numbers that no file has begins


def test_a_fit_of_more_iterations_goes_on(tmp_path):
    shape, parameters = WAYS["lbfgs"]
    data, path = Data(*problem(*shape)), tmp_path / "fit.journal"
    *whole, passes = fit(data, **parameters)
    with pytest.warns(UserWarning, match="failed to converge"):
        *_, some = fit(data, path, **parameters, max_iter=4)
    *again, made = fit(data, path, **parameters)
    assert again == whole and made <= passes - some + 3 < passes


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"C": 0.2}, "another penalty"),
        ({"fit_intercept": False}, "another fit_intercept"),
        ({"class_weight": {1: 3.0}}, "another sum of weights"),
        ({"label_smoothing": 0.1}, "another label_smoothing"),
        ({"solver": "newton-cg"}, "another solver"),
        ({"standardize": True}, "another standardize"),
        ("data", "another set of data"),
        ("noise", "is not the checkpoint of such a fit"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(change, says, tmp_path):
    (X, y), path = problem(600, 6, 3), tmp_path / "fit.journal"
    fit(Data(X, y), path)
    if change == "data":
        X = X + 1
    if change == "noise":
        path.write_bytes(b"noise")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=rf"fit.journal is .*{says.removeprefix('is ')}.*remove it"):
        fit(Data(X, y), path, **change if isinstance(change, dict) else {})
    assert path.read_bytes() == before


def test_a_checkpoint_in_no_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        fit(Data(*problem(600, 6, 3)), tmp_path / "no" / "fit.journal")


def sweep(data, checkpoint=None, **parameters):
    """Return the bytes of a choice of C, and how many passes over the data it took."""
    before, given = data.passes, {"Cs": [0.01, 0.1, 1], "cv": 3, "l1_ratios": (0,), "scoring": "neg_log_loss"}
    model = LogisticRegressionCV(checkpoint=checkpoint, use_legacy_attributes=False, **given | parameters).fit(
        chunks.from_iterable(data)
    )
    state = [model.coef_, model.intercept_, model.coefs_paths_, model.scores_, model.n_iter_]
    return b"".join(np.asarray(each).tobytes() for each in state), data.passes - before


SWEEPS = {
    "lbfgs": ((600, 40, 5), {}),
    "newton": ((600, 6, 3), {"tol": 1e-8}),
    "two classes": ((600, 6, 2), {"class_weight": "balanced"}),
    "l1": ((600, 6, 3), {"solver": "saga", "l1_ratios": (0.5, 1), "Cs": [0.05, 0.5]}),
    "standardised": ((600, 6, 3), {"standardize": True}),
    "listed": ((600, 6, 3), {"cv": [(np.arange(400), np.arange(400, 600)), (np.arange(200, 600), np.arange(200))]}),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.usefixtures("classes_summed")
@pytest.mark.parametrize("way", SWEEPS)
def test_a_sweep_goes_on_from_wherever_it_was_killed(way, tmp_path):
    shape, parameters = SWEEPS[way]
    data, path = Data(*problem(*shape)), tmp_path / "sweep.journal"
    whole, passes = sweep(data, **parameters)
    again, made = sweep(data, path, **parameters)
    assert again == whole and made <= passes  # a duality gap may ask for what an optimiser has asked
    content, ends = records(path)
    least = 4 if way == "standardised" else 3  # looks, which are no questions of an optimiser
    for end in (ends[len(ends) // 2] + 5, ends[-1]):
        path.write_bytes(content[:end])
        again, made = sweep(data, path, **parameters)
        assert again == whole and least <= made <= passes
        assert len(path.read_bytes()) == len(content)
        assert sweep(data, path, **parameters) == (whole, least)
    damaged = bytearray(content)
    damaged[ends[len(ends) // 2] + HEAD.itemsize + 3] ^= 255
    path.write_bytes(damaged)
    again, made = sweep(data, path, **parameters)
    assert again == whole and least < made < passes


def test_a_sweep_over_more_values_finds_those_of_before(tmp_path):
    data, path = Data(*problem(600, 6, 3)), tmp_path / "sweep.journal"
    sweep(data, path)
    whole, passes = sweep(data, Cs=[0.01, 0.1, 1, 10])
    assert (again := sweep(data, path, Cs=[0.01, 0.1, 1, 10]))[0] == whole and again[1] < passes / 1.5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cv": 4}, "another cv"),
        ({"cv": [(np.arange(300), np.arange(300, 600))] * 3}, "another cv"),
        ({"fit_intercept": False}, "another fit_intercept"),
        ({"class_weight": {1: 3.0}}, "another sum of weights"),
        ({"standardize": True}, "another standardize"),
        ("fit", "another penalty"),
    ],
)
def test_a_checkpoint_of_another_sweep_is_refused(change, says, tmp_path):
    data, path = Data(*problem(600, 6, 3)), tmp_path / "sweep.journal"
    sweep(data, path)
    with pytest.raises(ValueError, match=rf"sweep.journal is of a fit with {says}.*remove it"):
        fit(data, path) if change == "fit" else sweep(data, path, **change)


def test_data_that_are_shortened_in_the_middle_of_a_sweep_lose_nothing(tmp_path, monkeypatch):
    """The error names the file, finished models are kept, and once the file is whole the sweep goes on."""
    X, y = problem(600, 6, 3)
    paths = [tmp_path / name for name in ("X.npy", "y.npy")]
    for file, array in zip(paths, (X, y), strict=True):
        np.save(file, array)
    content, passes, partials = paths[0].read_bytes(), [], chunks.ChunksObjective._partials
    monkeypatch.setattr(chunks.ChunksObjective, "_partials", lambda *given: passes.append(1) or partials(*given))

    def model(**more):
        return LogisticRegressionCV(
            Cs=[0.001, 0.1, 10], cv=3, l1_ratios=(0,), scoring="accuracy", use_legacy_attributes=False, **more
        )

    want, made = model().fit(chunks.from_npy(*paths, rows=101)), len(passes)
    passes.clear()

    def shorten(done, of):
        if done == 5:
            paths[0].write_bytes(content[: len(content) // 2])

    broken = model(callback=shorten, checkpoint=tmp_path / "sweep.journal")
    with pytest.raises(ValueError, match=rf"{paths[0]} has \d+ bytes, and had {len(content)} when it was opened"):
        broken.fit(chunks.from_npy(*paths, rows=101))
    kept = np.isfinite(broken.coefs_paths_).all(axis=(1, 3, 4))
    assert 3 <= kept.sum() < kept.size
    np.testing.assert_array_equal(broken.coefs_paths_[:, 0][kept], want.coefs_paths_[:, 0][kept])
    so_far = len(passes)
    paths[0].write_bytes(content)
    again = broken.set_params(callback=None).fit(chunks.from_npy(*paths, rows=101))
    assert again.coefs_paths_.tobytes() == want.coefs_paths_.tobytes() and again.coef_.tobytes() == want.coef_.tobytes()
    assert len(passes) <= made + 1 and so_far > 1


PROGRAM = """
    import os, signal, sys
    import numpy as np
    from test_journal import Data, WAYS, fit, problem

    shape, parameters = WAYS[sys.argv[1]]
    kill = sys.argv[3:]

    class Killed(Data):
        def __call__(self):
            for i, piece in enumerate(super().__call__()):
                if kill == ["pass", str(self.passes)] and i == 3:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield piece

    def callback(iteration, value, gradient):
        if kill == ["iteration", str(iteration)]:
            os.kill(os.getpid(), signal.SIGKILL)

    state, report, passes = fit(Killed(*problem(*shape)), sys.argv[2], callback=callback, **parameters)
    print(state.hex(), report, passes)
"""


@pytest.mark.parametrize("way", ["lbfgs", "l1"])
def test_a_fit_over_chunks_that_was_killed_goes_on(way, tmp_path):
    """The process is killed twice by SIGKILL: after an iteration, and later in the middle of a pass."""
    program, path = tmp_path / "program.py", tmp_path / "fit.journal"
    folder = repr(__file__.rpartition("/")[0])
    program.write_text(f"import sys\nsys.path.insert(0, {folder})\n" + textwrap.dedent(PROGRAM))
    shape, parameters = WAYS[way]
    *whole, passes = fit(Data(*problem(*shape)), **parameters)

    def start(*kill):
        command = [sys.executable, program, way, path, *kill]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    for kill in (("iteration", "2"), ("pass", "4")):
        before = len(records(path)[1]) if path.exists() else 0
        killed = start(*kill)
        assert killed.returncode == -SIGKILL, killed.stderr
        assert len(records(path)[1]) > before
    again = start()
    assert again.returncode == 0, again.stderr
    state, report = again.stdout.split(" ", 1)
    assert bytes.fromhex(state) == whole[0] and report.startswith(whole[1])
    assert int(report.split()[-1]) < passes - 3
