"""Mini-batch solvers and partial_fit: what a step is, where they end, and runs that are broken off and go on."""

import copy
import pickle
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, chunks, optim
from softmax_ext._data.files import load, save
from softmax_ext._fit.stream import rate_of, scales
from softmax_ext.objective import BinomialObjective

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone

from softmax_ext.linear_model import LogisticRegression

SOLVERS = pytest.mark.parametrize("solver", ["sgd", "momentum", "nesterov", "adam"])
BINARY_AND_NOT = pytest.mark.parametrize("K", [2, 4])


def problem(K=4, N=507, D=5, seed=0):
    rng = np.random.default_rng([seed, K])
    X = rng.standard_normal((N, D))
    y = (X @ rng.standard_normal((D, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    return X, y


def coefficients(model):
    return np.concatenate([model.coef_.ravel(), model.intercept_])


def scale_of(objective, X):
    """Return the steps' coordinates divided by those of w: features get the mean square 1."""
    scale = np.sqrt((X**2).mean(axis=0))
    return np.concatenate([scale] * len(objective.rows) + [np.ones(objective.size - len(objective.rows) * len(scale))])


def same_bits(a, b):
    return all(
        getattr(a, name).tobytes() == getattr(b, name).tobytes()
        for name in ("coef_", "intercept_", "loss_curve_", "validation_curve_", "n_iter_")
    )


def cut(X, y, *s, rows=100):
    return chunks.from_iterable(
        lambda: (tuple(array[i : i + rows] for array in (X, y, *s)) for i in range(0, len(y), rows))
    )


@SOLVERS
@BINARY_AND_NOT
def test_mini_batches_end_near_the_optimum(solver, K):
    X, y = problem(K)
    best = LogisticRegression(tol=1e-8).fit(X, y)
    model = LogisticRegression(solver=solver, epochs=60, batch_size=32, random_state=0).fit(X, y)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    value = Objective(X, y, l2=1 / len(y)).value(coefficients(model))
    assert 0 < value - best.loss_curve_[-1] < 0.01
    assert model.loss_curve_.shape == (60,) and model.n_iter_ == [60] and not model.converged_
    assert np.all(model.loss_curve_[-10:] < model.loss_curve_[0])


@SOLVERS
@BINARY_AND_NOT
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_batch_of_everything_is_a_gradient_step(solver, K, fit_intercept):
    """It has the weights of samples and classes, and the penalty, as the objective that is minimised has them."""
    X, y = problem(K)
    s = np.random.default_rng(1).exponential(size=len(y)) * (np.arange(len(y)) % 5 != 2)
    parameters = {"class_weight": {0: 3.0}, "C": 0.2, "fit_intercept": fit_intercept}
    model = LogisticRegression(
        solver=solver, epochs=3, batch_size=len(y), learning_rate=optim.constant(0.1), **parameters
    ).fit(X, y, s)
    weights = s * np.where(y == 0, 3.0, 1.0)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    f = Objective(X, y, l2=1 / (0.2 * weights.sum()), sample_weight=weights, fit_intercept=fit_intercept)
    v, rule, values, scale = np.zeros(f.size), getattr(optim, solver)(0.1), [], scale_of(f, X)
    state = rule.init([v])
    for _ in range(3):
        value, grad = f.value_and_grad(v / scale)
        values.append(value)
        state = rule.update([grad / scale], state, [v])
    W = (v / scale)[: len(f.rows) * 5].reshape(-1, 5)
    np.testing.assert_allclose(model.coef_, W - (W.mean(axis=0) if K > 2 else 0), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(model.loss_curve_, values, rtol=1e-12)


def test_average_is_the_mean_of_the_steps_behind_the_first_epoch():
    X, y = problem(2)
    parameters = {"solver": "sgd", "epochs": 3, "batch_size": 1000, "learning_rate": 0.5}
    steps = [LogisticRegression(**parameters | {"epochs": n, "learning_rate": optim.constant(0.5)}) for n in (2, 3)]
    parameters["learning_rate"] = optim.constant(0.5)
    mean = LogisticRegression(**parameters, average=True).fit(X, y)
    want = np.mean([coefficients(model.fit(X, y)) for model in steps], axis=0)
    np.testing.assert_allclose(coefficients(mean), want, rtol=1e-12)


@pytest.mark.parametrize("parameters", [{}, {"average": True}, {"early_stopping": True, "n_iter_no_change": 50}])
def test_a_seed_gives_the_same_bits_for_all_threads(parameters):
    X, y = problem(N=2003, D=40, K=30)

    def new(**more):
        return LogisticRegression(solver="adam", epochs=3, **{"random_state": 1} | parameters | more)

    one = new(n_threads=1).fit(X, y)
    assert same_bits(one, new(n_threads=3).fit(X, y))
    assert same_bits(one, new().fit(cut(X, y, rows=len(y))))
    state = np.random.RandomState(7)
    assert same_bits(new(random_state=state).fit(X, y), new(random_state=np.random.RandomState(7)).fit(X, y))
    for other in (2, None):
        assert not same_bits(one, new(random_state=other).fit(X, y))
    in_chunks = new(n_threads=1).fit(cut(X, y))
    assert same_bits(in_chunks, new(n_threads=2).fit(cut(X, y)))
    assert abs(in_chunks.loss_curve_[-1] - one.loss_curve_[-1]) < 0.2


def test_sparse_data_takes_the_same_steps():
    X, y = problem(N=1003, D=30)
    X *= np.random.default_rng(0).random(X.shape) < 0.2
    sparse = scipy.sparse.csr_array(X)
    for parameters in ({"solver": "adam"}, {"solver": "sgd", "early_stopping": True}):
        new = LogisticRegression(random_state=0, **parameters)
        dense, one = clone(new).fit(X, y), clone(new).fit(sparse, y)
        np.testing.assert_allclose(one.coef_, dense.coef_, rtol=1e-9, atol=1e-12)
        assert same_bits(one, clone(new).fit(chunks.from_iterable(lambda: [(sparse, y)])))
    streams = [LogisticRegression().partial_fit(form, y, classes=range(4)) for form in (X, sparse)]
    np.testing.assert_allclose(streams[0].coef_, streams[1].coef_, rtol=1e-9, atol=1e-12)


def test_early_stopping_takes_what_is_best_on_the_rows_held_out():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 60))  # nothing to learn
    y = rng.integers(0, 3, 200)
    parameters = {"solver": "adam", "C": np.inf, "epochs": 200, "learning_rate": optim.constant(0.02), "batch_size": 16}
    model = LogisticRegression(**parameters, early_stopping=True, validation_fraction=0.3, random_state=0).fit(X, y)
    curve = model.validation_curve_
    assert model.converged_ and len(curve) == model.n_iter_[0] < 200
    assert curve[-5:].min() > curve.min() - 1e-4 and "held out" in model.convergence_report_
    best = int(curve.argmin()) + 1
    again = clone(model).set_params(epochs=best).fit(X, y)
    assert again.coef_.tobytes() == model.coef_.tobytes()
    # That curve is the loss of rows that the training did not see: a copy of all of them in X changes it little.
    seen = []
    LogisticRegression(
        **parameters | {"epochs": 3}, early_stopping=True, callback=lambda *state: seen.append(state)
    ).fit(X, y)
    assert [epoch for epoch, *_ in seen] == [1, 2, 3] and all(np.isfinite(loss) for *_, loss in seen)


def test_rows_held_out_are_not_trained_on():
    """Some rows, in turns, lie far away from all others and have wrong labels: training sees about 70 of 100."""
    X, y = problem(2, N=100)
    X = np.hstack([X, np.eye(100)])  # a feature for each row, which moves if the row is trained on
    for source in (lambda X, y: (X, y), lambda X, y: (cut(X, y, rows=27),)):
        model = LogisticRegression(
            solver="sgd", early_stopping=True, validation_fraction=0.3, epochs=4, batch_size=9, random_state=3
        )
        model.fit(*source(X, y))
        assert 69 <= np.count_nonzero(model.coef_[0, 5:]) <= 71


# runs that are broken off


def run(**parameters):
    return LogisticRegression(**{"solver": "adam", "epochs": 5, "batch_size": 32, "random_state": 0} | parameters)


@SOLVERS
@pytest.mark.parametrize("parameters", [{}, {"average": True}, {"early_stopping": True}], ids=str)
def test_a_stopped_fit_goes_on_to_the_same_bits(solver, parameters, tmp_path):
    X, y = problem()
    whole = run(solver=solver, **parameters).fit(X, y)
    stopped = run(solver=solver, **parameters, callback=lambda epoch, *_: epoch == 2).fit(X, y)
    assert stopped.n_iter_ == [2] and not same_bits(whole, stopped)
    stopped.save_state(tmp_path / "state.npz")
    for state in (stopped.get_state(), tmp_path / "state.npz", str(tmp_path / "state.npz")):
        model = run(solver=solver, **parameters).set_state(state)
        assert same_bits(model, stopped)
        np.testing.assert_array_equal(model.predict(X), stopped.predict(X))
        assert same_bits(model.fit(X, y), whole)
    assert same_bits(pickle.loads(pickle.dumps(whole)), whole)


def test_a_fit_begins_anew_if_it_is_not_told_to_go_on():
    X, y = problem()
    model = run().fit(X, y)
    first = copy.deepcopy(model)
    assert same_bits(model.fit(X, y), first)
    assert not same_bits(model.set_params(warm_start=True).fit(X, y), first)


class LostConnection(Exception):
    pass


@pytest.mark.parametrize("broken", [0, 3, 8, 13, 14, 20])
def test_a_fit_may_be_broken_off_anywhere(broken, tmp_path):
    """A fit is interrupted by an error or by Ctrl-C after so many chunks, again and again, until it is complete."""
    X, y = problem()
    whole = run().fit(cut(X, y))
    left = broken

    def factory():
        nonlocal left
        for i in range(0, len(y), 100):
            if left == 0:
                left = broken - 1
                raise LostConnection
            left -= 1
            yield X[i : i + 100], y[i : i + 100]

    model, tries = run(), 0
    while tries < 40:
        left, tries = (broken or 7) + tries, tries + 1
        try:
            model.fit(chunks.from_iterable(factory))
            break
        except LostConnection:
            if getattr(model, "_stream", None) is not None:
                model = run().set_state(model.get_state())
    assert same_bits(model, whole)
    assert tries > 1 or broken == 20


def test_a_fit_of_mini_batches_that_was_killed_goes_on(tmp_path):
    """A fit is killed by SIGKILL in the middle of an epoch, and goes on from its checkpoint."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
        import os, signal, sys
        import numpy as np
        from softmax_ext import chunks
        from softmax_ext._fit import minibatch as _minibatch
        from softmax_ext.linear_model import LogisticRegression

        _minibatch.BETWEEN_CHECKPOINTS = 0
        rng = np.random.default_rng(0)
        X, y = rng.standard_normal((500, 4)), rng.integers(0, 3, 500)
        kill, left = len(sys.argv) > 2, 13

        def factory():
            global left
            for i in range(0, 500, 100):
                left -= 1
                if kill and left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield X[i : i + 100], y[i : i + 100]

        model = LogisticRegression(solver="adam", epochs=4, batch_size=32, random_state=5, checkpoint=sys.argv[1])
        model.fit(chunks.from_iterable(factory))
        print(model.coef_.tobytes().hex(), model.n_iter_[0])
        """)
    )

    def start(checkpoint, *kill):
        command = [sys.executable, program, checkpoint, *kill]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    killed = start(tmp_path / "a.npz", "kill")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert 0 < int(load(tmp_path / "a.npz")["epoch"]) < 4
    assert [path.name for path in tmp_path.glob("*.npz")] == ["a.npz"]
    again, whole = start(tmp_path / "a.npz"), start(tmp_path / "b.npz")
    assert again.returncode == whole.returncode == 0, again.stderr + whole.stderr
    assert again.stdout == whole.stdout
    assert start(tmp_path / "a.npz").stdout == whole.stdout, "one that is through does nothing more"


def test_an_interrupt_leaves_a_state_between_two_steps():
    X, y = problem()
    whole = run().fit(X, y)

    def callback(epoch, *_):
        if epoch == 3:
            signal.raise_signal(signal.SIGINT)

    model = run(callback=callback)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert same_bits(run().set_state(model.get_state()).fit(X, y), whole)


def test_a_state_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "state.npz"
    save(path, {"a": np.ones(3)})
    monkeypatch.setattr("os.fsync", lambda file: (_ for _ in ()).throw(OSError("no space left")))
    with pytest.raises(OSError, match="no space left"):
        save(path, {"a": np.zeros(3)})
    assert load(path)["a"].all() and list(tmp_path.iterdir()) == [path]
    with pytest.raises(TypeError, match="Python objects"):
        save(path, {"a": np.array([None])})


def test_states_that_do_not_fit_are_refused(tmp_path):
    X, y = problem()
    model = run(epochs=1).fit(X, y)
    path = tmp_path / "state.npz"
    model.save_state(path)
    data = path.read_bytes()
    for damaged in (data[:-50], data[: len(data) // 2], b"", b"nothing"):
        (tmp_path / "damaged.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"damaged.npz is not a whole state"):
            run().set_state(tmp_path / "damaged.npz")
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(ValueError, match=r"other.npz is not a state of LogisticRegression"):
        run().set_state(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError, match=r"none.npz"):
        run().set_state(tmp_path / "none.npz")
    with pytest.raises(ValueError, match=r'is of a fit with .*"C": 1.0.*"C": 2.0'):
        run(epochs=1, C=2.0).set_state(path)
    with pytest.raises(ValueError, match="is of version 99"):
        run(epochs=1).set_state(model.get_state() | {"version": np.array(99)})
    with pytest.raises(ValueError, match="coefficients"):
        run(epochs=1).set_state(path).fit(X[:, :3], y)
    with pytest.raises(ValueError, match="other classes or features: remove it"):
        run(epochs=1, checkpoint=path).fit(X, y + 1)
    with pytest.raises(ValueError, match="there is no state"):
        LogisticRegression().fit(X, y).get_state()


def test_divergence_is_an_error():
    X, y = problem()
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        run(solver="sgd", learning_rate=1e300).fit(X * 1e10, y)


# partial_fit


@BINARY_AND_NOT
def test_partial_fit_takes_the_steps_of_adam(K):
    """The steps are Adam's on the objective of each batch, with a penalty by the samples so far."""
    X, y = problem(K)
    X, y, s = X[:70], y[:70], np.random.default_rng(0).exponential(size=70)
    s[3] = 0
    model = LogisticRegression(batch_size=40, learning_rate=optim.constant(0.1), C=0.5, class_weight={0: 2.0})
    model.partial_fit(X, y, np.arange(K), s)
    weights, kept = s * np.where(y == 0, 2.0, 1.0), np.delete(np.arange(70), 3)
    rule, seen, rows, state = optim.adam(0.1), 0.0, 0, None
    for batch in (kept[:40], kept[40:]):
        seen, rows = seen + weights[batch].sum(), rows + len(batch)
        m = len(batch) * seen / rows
        Objective = BinomialObjective if K == 2 else SoftmaxObjective
        f = Objective(X[batch], y[batch], sample_weight=weights[batch], K=K, m=m, l2=1 / (0.5 * seen))
        if state is None:
            v, scale = np.zeros(f.size), scale_of(f, X)
            state = rule.init([v])
        state = rule.update([f.value_and_grad(v / scale)[1] / scale], state, [v])
    W = (v / scale)[: -len(f.rows)].reshape(-1, 5)
    np.testing.assert_allclose(model.coef_, W - (W.mean(axis=0) if K > 2 else 0), rtol=1e-9, atol=1e-13)


@BINARY_AND_NOT
@pytest.mark.parametrize("solver", ["lbfgs", "sgd", "adam"])
def test_a_stream_approaches_the_optimum(K, solver):
    """It does so in constant memory, whatever `solver` is, on features of any scale."""
    X, y = problem(K, N=20_000)
    X = X * 10.0 ** np.arange(-2, 3)
    model = LogisticRegression(solver=solver)
    sizes = set()
    for i in range(0, len(y), 100):
        model.partial_fit(X[i : i + 100], y[i : i + 100], classes=np.arange(K) if i == 0 else None)
        sizes.add(sum(array.nbytes for array in model.get_state().values()))
    best = LogisticRegression().fit(X, y).loss_curve_[-1]
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    assert Objective(X, y, l2=1 / len(y)).value(coefficients(model)) < best + 0.02
    assert len(sizes) == 1


def test_partial_fit_goes_on_to_the_same_bits():
    X, y = problem()
    whole, model = LogisticRegression(), LogisticRegression()
    for i in range(0, 500, 50):
        part = X[i : i + 50], y[i : i + 50]
        whole.partial_fit(*part, classes=range(4))
        if i == 200:
            model = LogisticRegression().set_state(model.get_state())
        if i == 300:
            model = pickle.loads(pickle.dumps(model))
        model.partial_fit(*part, classes=range(4) if i == 0 else None)
    assert same_bits(whole, model)


def test_partial_fit_after_fit_goes_on_from_there():
    X, y = problem()
    for solver in ("lbfgs", "adam"):
        model = LogisticRegression(solver=solver, learning_rate=1e-6, epochs=1).fit(X, y)
        before = model.coef_.copy()
        model.partial_fit(X[:50], y[:50])
        assert 0 < abs(model.coef_ - before).max() < 1e-5


def test_partial_fit_names_what_it_refuses():
    X, y = problem()
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        LogisticRegression().partial_fit(X, y)
    with pytest.raises(ValueError, match="at least 2 classes"):
        LogisticRegression().partial_fit(X, y, classes=[1])
    with pytest.raises(ValueError, match=r"new labels: \[3\]"):
        LogisticRegression().partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="not supported for partial_fit"):
        LogisticRegression(class_weight="balanced").partial_fit(X, y, classes=range(4))
    model = LogisticRegression().partial_fit(X, y, classes=range(4))
    before = model.coef_.copy()
    with pytest.raises(ValueError, match="not the same as on last call"):
        model.partial_fit(X, y, classes=range(5))
    with pytest.raises(ValueError, match="new labels"):
        model.partial_fit(X, y + 1)
    with pytest.raises(ValueError, match="features"):
        model.partial_fit(X[:, :2], y)
    with pytest.raises(ValueError, match="at least one non-zero"):
        model.partial_fit(X, y, sample_weight=0 * y)
    np.testing.assert_array_equal(model.coef_, before)
    with pytest.raises(ValueError, match="columns of probabilities"):
        model.partial_fit(X, np.eye(3)[y % 3])
    with pytest.raises(ValueError, match="go on by partial_fit"):
        run().set_params(**LogisticRegression(solver="adam").get_params()).set_state(
            LogisticRegression(solver="adam").partial_fit(X, y, classes=range(4)).get_state()
        ).fit(X, y)


def test_partial_fit_takes_labels_of_any_kind_and_probabilities():
    X, y = problem()
    names = np.array(["d", "a", "c", "b"], object)
    plain = LogisticRegression().partial_fit(X, np.array([3, 0, 2, 1])[y], classes=range(4))
    named = LogisticRegression().partial_fit(X, names[y], classes=names)
    assert named.coef_.tobytes() == plain.coef_.tobytes()
    assert set(named.set_state(named.get_state()).predict(X)) <= set("abcd")
    soft = LogisticRegression().partial_fit(X, np.eye(4)[y])
    np.testing.assert_allclose(
        soft.coef_, LogisticRegression().partial_fit(X, y, classes=range(4)).coef_, rtol=1e-6, atol=1e-9
    )


def test_scales_are_those_of_entries_that_are_not_zero():
    X = np.array([[3.0, 0.0, 0.0, 1.0], [4.0, 0.0, 2.0, 0.0], [5.0, 0.0, 0.0, 1.0]])
    want = [np.sqrt(50 / 3), (np.sqrt(50 / 3) + 3) / 3, 2, 1]
    for form in (np.asarray, scipy.sparse.csr_array, lambda X: X.astype(np.float32)):
        np.testing.assert_allclose(scales(form(X)), want, rtol=1e-6)
        np.testing.assert_allclose(rate_of("sgd", form(X), scales(X), True), 2 / (1 + 1 + 1 / 3 + 2 / 3))
    np.testing.assert_array_equal(scales(np.zeros((2, 2))), [1, 1])


@SOLVERS
def test_a_callback_sees_the_coefficients_that_it_asks_for(solver):
    X, y = problem(2)
    seen = []

    def callback(epoch, objective, validation, w):
        seen.append(w)

    model = LogisticRegression(solver=solver, epochs=3, random_state=0, callback=callback).fit(
        X * [1, 10, 1, 1, 0.1], y
    )
    assert len(seen) == 3
    np.testing.assert_allclose(coefficients(model), seen[-1], rtol=1e-12)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("storage", [np.asarray, scipy.sparse.csr_array])
def test_a_checkpoint_of_other_data_is_refused(storage, chunked, tmp_path):
    """The error names what differs, and nothing else."""
    rng = np.random.default_rng(0)
    X, y, s = rng.standard_normal((60, 4)), np.arange(60) % 3, rng.uniform(1, 2, 60)

    def fit(X=X, y=y, s=s, random_state=0, C=1.0):
        model = LogisticRegression(
            solver="adam", epochs=2, random_state=random_state, C=C, checkpoint=tmp_path / "state.npz"
        )
        X = storage(X)
        if not chunked:
            return model.fit(X, y, s)
        return model.fit(chunks.from_iterable(lambda: [(X[:25], y[:25], s[:25]), (X[25:], y[25:], s[25:])]))

    whole = fit()
    assert same_bits(fit(), whole)
    for other, words in (
        ({"X": X + 1}, "differs in X:"),
        ({"y": y[::-1]}, "differs in y:"),
        ({"s": s[::-1]}, "differs in weights:"),
        ({"random_state": 1}, r"differs in random_state \(0 there, 1 here\):"),
        ({"X": X[:50], "y": y[:50], "s": s[:50]}, r"differs in number of rows \(60 there, 50 here\), X"),
        ({"C": 2.0}, 'is of a fit with "C": 1.0, this estimator has "C": 2.0$'),
    ):
        with pytest.raises(ValueError, match=words):
            fit(**other)


def test_a_missing_folder_is_named_as_the_user_does(tmp_path):
    X, y = problem()
    path = tmp_path / "missing" / "state.npz"
    for write in (run().fit(X, y).save_state, lambda path: run(checkpoint=path).fit(X, y)):
        with pytest.raises(FileNotFoundError) as caught:
            write(path)
        assert str(caught.value).startswith(str(path)) and f"no folder {path.parent}" in str(caught.value)


def test_partial_fit_counts_its_steps():
    X, y = problem()
    model = LogisticRegression(batch_size=len(y) // 2 + 1)
    for calls in (1, 2, 3):
        model.partial_fit(X, y, classes=np.unique(y))
        assert model.n_iter_ == [2 * calls] and f"{2 * calls} steps" in model.convergence_report_
