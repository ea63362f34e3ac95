"""logistic_regression_path: the fits, their certificates, the grid, and the displays of both."""

import doctest
import pickle
import threading
import warnings

import numpy as np
import pytest
import scipy.sparse

sklearn = pytest.importorskip("sklearn", "1.6")

from sklearn.exceptions import NotFittedError  # noqa: E402

from softmax_ext import SoftmaxObjective, loss_grad, reference  # noqa: E402
from softmax_ext._objective.penalty import Penalty  # noqa: E402
from softmax_ext._optim.descent import Descent, Solution  # noqa: E402
from softmax_ext.chunks import from_iterable, from_npy  # noqa: E402
from softmax_ext.linear_model import (  # noqa: E402
    CVDisplay,
    LogisticRegression,
    LogisticRegressionCV,
    PathDisplay,
    _displays,
    _path,
    _trail,
    logistic_regression_path,
)

K_AND_D = pytest.mark.parametrize("K, D", [(2, 3), (3, 4), (4, 50)])


@pytest.mark.parametrize(
    "gradient, decrease, converged", [(1e-5, 1e-5, True), (1e-5, 1e-3, False), (1e-3, 1e-5, False)]
)
def test_a_fit_of_a_trail_is_converged_by_both_rules(monkeypatch, gradient, decrease, converged):
    """The fit has a smaller tolerance than the trail's tol, and may not have reached it."""
    objective = SoftmaxObjective(*problem(3))
    ended = Solution(np.ones(objective.size), 0.1, gradient, 7, np.ones(8), False, "", decrease)

    def minimize(objective, w, *args, begun, **keywords):
        begun(Descent(objective, w, 1e-4, 0, None))
        return ended

    monkeypatch.setattr(_trail, "minimize", minimize)
    assert _trail.Trail(objective, tol=1e-4).to(Penalty(0.1)).converged == converged


def problem(K, D=4, N=120, seed=0):
    rng = np.random.default_rng([seed, K, D])
    X = rng.standard_normal((N, D)) + 0.3 * rng.standard_normal(D)
    return X, (X @ rng.standard_normal((D, K)) / D**0.5 + rng.gumbel(size=(N, K))).argmax(axis=1)


def soft(y, K):
    Y = np.random.default_rng(2).dirichlet(np.ones(K), len(y))
    return (Y + np.eye(K)[y]) * np.random.default_rng(3).uniform(0.5, 1.5, (len(y), 1))


@K_AND_D
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("targets", ["labels", "weighted", "soft"])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_path_has_the_fits_and_their_certificates(K, D, storage, targets, fit_intercept):
    X, y = problem(K, D)
    s = np.random.default_rng(1).integers(0, 3, len(y)).astype(float) if targets == "weighted" else None
    y = soft(y, K) if targets == "soft" else y
    given = X if storage == "dense" else scipy.sparse.csr_array(X)
    Cs = np.array([1.0, 0.01, 30.0])
    options = {"fit_intercept": fit_intercept, "max_iter": 500}
    path = logistic_regression_path(given, y, Cs=Cs, sample_weight=s, tol=1e-9, **options)
    rough = logistic_regression_path(given, y, Cs=Cs, sample_weight=s, tol=0.02, **options)
    m = len(y) if s is None else s.sum()
    for j, C in enumerate(Cs):
        alone = LogisticRegression(C=C, tol=1e-9, **options).fit(given, y, s)
        np.testing.assert_allclose(path.coefs[j], alone.coef_, rtol=0, atol=1e-5)
        np.testing.assert_allclose(path.intercepts[j], alone.intercept_, rtol=0, atol=1e-5)
        W, b = path.coefs[j], path.intercepts[j]
        if K == 2:
            W, b = np.vstack([0 * W, W]), np.append(0, b)
        loss = reference.loss_grad(X, y, W, b, sample_weight=s).loss
        assert path.losses[j] == pytest.approx(loss, rel=1e-9)
        assert path.objectives[j] == pytest.approx(loss + np.square(W).sum() / (2 * C * m), rel=1e-9)
        assert 0 <= path.gaps[j] < 1e-7
        # What it certifies holds, and is no more than some times too much.
        above = rough.objectives[j] - path.objectives[j]
        assert above <= rough.gaps[j] + 1e-13
        assert rough.gaps[j] < 1


@K_AND_D
def test_deviance_is_explained_beside_the_null_loss(K, D):
    X, y = problem(K, D)
    path = logistic_regression_path(X, y, Cs=[1e-9, 1.0])
    frequencies = np.bincount(y) / len(y)
    assert path.null_loss == pytest.approx(-frequencies @ np.log(frequencies), rel=1e-10)
    assert path.deviance_explained[0] == pytest.approx(0, abs=1e-3) and 0.05 < path.deviance_explained[1] < 1
    assert logistic_regression_path(X, y, Cs=2, fit_intercept=False).null_loss == pytest.approx(np.log(K))
    lone = X.copy()
    lone[:, 1] = 0
    path = logistic_regression_path(lone, y, Cs=[1.0])
    assert path.degrees_of_freedom[0] == D - 1 and path.nonzero[0] == (D - 1) * (1 if K == 2 else K)
    assert np.isinf(logistic_regression_path(X, y, Cs=[1.0, np.inf]).gaps[1])


def test_a_feature_counts_if_any_class_uses_it():
    coefs = np.zeros((2, 3, 4))
    coefs[1, 2, 0] = coefs[1, :2, 3] = 1.0
    path = logistic_regression_path(*problem(3), Cs=[1.0, 10.0])._replace(coefs=coefs)
    assert path.degrees_of_freedom.tolist() == [0, 2] and path.nonzero.tolist() == [0, 3]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 100.0])
@pytest.mark.parametrize("K", [2, 3])
def test_the_grid_follows_the_data(K, scale):
    X, y = problem(K, 10, 500)
    path = logistic_regression_path(X * scale, y, Cs=9)
    assert len(path.Cs) == 9 and np.allclose(np.diff(np.log(path.Cs), 2), 0)
    assert 1e-4 < path.deviance_explained[0] < 1e-2
    assert path.losses[-1] == pytest.approx(path.losses[-2], rel=0.01)
    other = logistic_regression_path(X, y, Cs=9)
    np.testing.assert_allclose(path.Cs * scale**2, other.Cs, rtol=1e-6)  # in the units of X


@K_AND_D
def test_fits_move_where_a_change_of_the_penalty_is_within_the_tolerance(K, D):
    path = logistic_regression_path(*problem(K, D), Cs=[1e3, 2e3, 4e3], tol=1e-3)
    sizes = np.square(path.coefs).sum(axis=(1, 2))
    assert (np.diff(sizes) > 0).all() and path.n_iters[1:].all()


def test_the_number_of_threads_changes_no_bit_of_a_path():
    X, y = problem(10, 30, 3000)
    X = X.astype("f4")
    paths = [logistic_regression_path(X, y, Cs=4, n_threads=n) for n in (1, 2, 5)]
    for other in paths[1:]:
        for mine, theirs in zip(paths[0], other, strict=True):
            assert np.array_equal(mine, theirs)
    path = paths[0]
    assert path.coefs.dtype == path.intercepts.dtype == np.float32 and path.coefs.shape == (4, 10, 30)
    copy = pickle.loads(pickle.dumps(path))
    assert np.array_equal(copy.losses, path.losses) and repr(copy) == repr(path)
    Cs, coefs, *_, gaps = path
    assert len(path) == 6 and Cs is path.Cs and gaps is path.gaps and coefs is path.coefs
    html = path._repr_html_()
    assert html.count("<tr>") == 5 and "10 classes" in html
    assert len(repr(logistic_regression_path(X[:, :2], y, Cs=60)).splitlines()) == 26


@pytest.mark.parametrize(
    "given, error, words",
    [
        ({"l1_ratio": 1.5}, ValueError, "l1_ratio must be between 0, which is L2, and 1, which is L1, got 1.5"),
        ({"penalty_weights": [1, 2, 3]}, ValueError, r"one for each feature, \(4,\), got shape \(3,\)"),
        ({"Cs": 0}, ValueError, "Cs must be a positive number of values"),
        ({"Cs": [-1.0]}, ValueError, "Cs must be a number of values, or a list of positive ones"),
        ({"X": np.zeros((120, 4))}, ValueError, "X says nothing of y"),
        ({"y": np.zeros(120)}, ValueError, "at least 2 classes"),
        ({"sample_weight": -np.ones(120)}, ValueError, "[Nn]egative"),
        ({"X": from_iterable(lambda: iter([]))}, TypeError, "y, sample_weight and offset are in the chunks"),
        ({"X": from_iterable(lambda: iter([])), "y": None}, ValueError, "the data has no rows"),
    ],
)
def test_a_path_names_what_it_refuses(given, error, words):
    X, y = problem(3)
    with pytest.raises(error, match=words):
        logistic_regression_path(**{"X": X, "y": y} | given)


PENALTIES = {
    "l2": {},
    "l1": {"l1_ratio": 1.0},
    "elastic net": {"l1_ratio": 0.5},
    "grouped": {"l1_ratio": 1.0, "grouped": True},
    "weights": {"l1_ratio": 1.0, "penalty_weights": [1, 0.5, 2, 3]},
}


def chunked(X, *more, rows=37):
    """Return chunks of X and of what belongs to its rows."""
    return from_iterable(
        lambda: (
            tuple(None if each is None else each[i : i + rows] for each in (X, *more))
            for i in range(0, X.shape[0], rows)
        )
    )


@pytest.mark.pairs
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("storage", ["dense", "csr", "soft", "offset"])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.pairs(3)
def test_a_path_over_chunks_ends_where_one_in_memory_does(K, storage, kind, standardize, fit_intercept):
    X, y = problem(K)
    s, rng = np.random.default_rng(1).integers(0, 3, len(X)) + 0.5, np.random.default_rng(2)
    X = scipy.sparse.csr_array(X * (rng.random(X.shape) < 0.5)) if storage == "csr" else X + 3
    offset = 0.5 * rng.standard_normal((len(y), K)) if storage == "offset" else None
    y = soft(y, K) if storage == "soft" else np.array(["a", "b", "c"])[y]
    options = {"tol": 1e-6, "standardize": standardize, "fit_intercept": fit_intercept, **PENALTIES[kind]}
    want = logistic_regression_path(X, y, Cs=6, sample_weight=s, offset=offset, **options)
    more = (y, s) if offset is None else (y, s, offset)
    found = logistic_regression_path(chunked(X, *more), Cs=want.Cs, **options)
    assert found.classes.tolist() == want.classes.tolist()
    apart = np.abs(found.objectives - want.objectives)
    assert (apart <= found.gaps + want.gaps + 1e-13).all() and found.gaps.max() < 1e-5
    np.testing.assert_allclose(found.coefs, want.coefs, atol=1e-3 * np.abs(want.coefs).max())
    np.testing.assert_allclose(found.losses, want.losses, rtol=1e-5)
    assert found.null_loss == pytest.approx(want.null_loss, rel=1e-9)
    assert found.intercepts.any() == (fit_intercept or standardize)
    grid = logistic_regression_path(chunked(X, *more), Cs=6, **options).Cs
    np.testing.assert_allclose(grid, want.Cs, rtol=1e-9)


@pytest.mark.parametrize("kind", PENALTIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_bit_of_a_path_over_chunks_depends_on_threads(kind, dtype):
    X, y = problem(3)
    ends = []
    for n_threads in (1, 2, 3):
        path = logistic_regression_path(chunked(X.astype(dtype), y), Cs=5, n_threads=n_threads, **PENALTIES[kind])
        assert path.coefs.dtype == dtype
        ends.append(b"".join(each.tobytes() for each in path))
    assert len(set(ends)) == 1


def test_a_path_over_chunks_has_the_names_and_class_weights_of_one_in_memory():
    pandas = pytest.importorskip("pandas")
    X, y = problem(3)
    frame, weights = pandas.DataFrame(X, columns=list("abcd")), {0: 1.0, 1: 3.0, 2: 0.5}
    want = logistic_regression_path(frame, y, Cs=3, class_weight=weights, tol=1e-8)
    halves = from_iterable(lambda: ((frame[i : i + 60], y[i : i + 60]) for i in (0, 60)))
    found = logistic_regression_path(halves, Cs=want.Cs, class_weight=weights, tol=1e-8)
    assert found.feature_names.tolist() == want.feature_names.tolist() == list("abcd")
    np.testing.assert_allclose(found.coefs, want.coefs, atol=1e-6)


@pytest.mark.parametrize("l1_ratio", [0, 1])
def test_a_path_over_chunks_is_read_by_one_thread(l1_ratio, monkeypatch):
    """To start another for each pass takes longer than a pass over small chunks."""
    readers, X, y = [], *problem(3)

    def factory():
        readers.append(threading.current_thread())
        yield X[:70], y[:70]
        yield X[70:], y[70:]

    logistic_regression_path(from_iterable(factory), Cs=5, l1_ratio=l1_ratio)
    assert len(readers) > 10 and len(set(readers)) == 1
    assert not readers[0].is_alive()


def test_a_path_that_is_broken_off_keeps_the_models_that_are_finished(tmp_path):
    X, y = problem(3)
    X_path, y_path = tmp_path / "X.npy", tmp_path / "y.npy"
    np.save(X_path, X)
    np.save(y_path, y)
    whole = logistic_regression_path(from_npy(X_path, y_path, 50), Cs=6)

    def shorten(done, n):
        if done == 2:
            X_path.write_bytes(X_path.read_bytes()[:-1000])

    with pytest.raises(ValueError, match=r"X\.npy") as caught:
        logistic_regression_path(from_npy(X_path, y_path, 50), Cs=whole.Cs[::-1], callback=shorten)
    assert "2 of 6 models were finished" in caught.value.__notes__[0]
    some = caught.value.path
    for ours, theirs in zip(some, whole, strict=True):
        np.testing.assert_array_equal(ours[::-1], theirs[:2])
    assert some.deviance_explained[::-1].tolist() == whole.deviance_explained[:2].tolist()
    with pytest.raises(ZeroDivisionError) as caught:
        logistic_regression_path(X, y, Cs=6, callback=lambda *_: 1 / 0)
    assert len(caught.value.path.Cs) == 1


def test_a_path_tells_its_callback_and_draws_a_bar(capsys):
    X, y = problem(3)
    seen = []
    logistic_regression_path(X, y, Cs=3, callback=lambda *done: seen.append(done), verbose=1)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert "logistic_regression_path" in capsys.readouterr().out


def test_examples_of_paths_run():
    assert doctest.testmod(_path) == (0, 4)
    pytest.importorskip("matplotlib").use("agg")
    assert doctest.testmod(_displays) == (0, 10)


# displays


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    from matplotlib import pyplot

    yield pyplot
    pyplot.close("all")


@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("l1_ratios", [None, (0,)])
@pytest.mark.parametrize("Cs", [5, [1.0, np.inf, 0.01]])
@pytest.mark.thread_unsafe(reason="pyplot has one current figure")
def test_the_display_of_folds_draws_their_scores(legacy, l1_ratios, Cs, pyplot):
    X, y = problem(3)
    model = LogisticRegressionCV(Cs=Cs, cv=3, l1_ratios=l1_ratios, use_legacy_attributes=legacy, scoring="accuracy")
    with pytest.raises(NotFittedError):
        CVDisplay.from_estimator(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        model.fit(X, y)
    display = CVDisplay.from_estimator(model, color="red")
    order = np.argsort(model.Cs_)
    expected = model.scores_[0] if legacy else model.scores_
    expected = expected.reshape(3, -1)[:, order]
    drawn = np.array([line.get_ydata() for line in display.lines_])
    np.testing.assert_allclose(drawn, np.vstack([expected, expected.mean(axis=0)]))
    assert display.lines_[-1].get_color() == "red" and display.ax_.get_ylabel() == "accuracy"
    _, ax = pyplot.subplots()
    assert CVDisplay.from_estimator(model, ax=ax, score_name="right").ax_ is ax and ax.get_ylabel() == "right"


@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.thread_unsafe(reason="pyplot has one current figure")
def test_the_display_of_a_path_draws_its_coefficients(K, pyplot):
    X, y = problem(K, 12)
    path = logistic_regression_path(X, np.array(["a", "b", "c"])[y], Cs=[1.0, np.inf, 0.1])
    order = [2, 0, 1]
    drawn = np.array([line.get_ydata() for line in path.plot().lines_]).T
    expected = path.coefs[:, 0] if K == 2 else np.linalg.norm(path.coefs, axis=1)
    np.testing.assert_allclose(drawn, expected[order])
    drawn = np.array([line.get_ydata() for line in PathDisplay.from_path(path, label="a").lines_]).T
    np.testing.assert_allclose(drawn, -path.coefs[order, 0] if K == 2 else path.coefs[order, 0])
    with pytest.raises(ValueError, match="label='z' is none of the classes"):
        path.plot(label="z")
    with pytest.raises(ValueError, match="has 2 names, but the path has 12 features"):
        path.plot(feature_names=["u", "v"])
    named = path.plot(feature_names=[f"x{j}" for j in range(12)], most=2).ax_.get_legend().get_texts()
    assert [text.get_text()[0] for text in named] == ["x", "x"]


def test_labels_reach_the_gradient_through_the_dual_alone():
    """The duality gap without intercepts is the gradient's square over 2 l2, to the digit."""
    X, y = problem(3)
    path = logistic_regression_path(X, y, Cs=[0.5], fit_intercept=False, max_iter=2)
    dW = loss_grad(X, y, path.coefs[0]).dW + path.coefs[0] / (0.5 * 120)
    assert path.gaps[0] == pytest.approx(np.square(dW).sum() * 0.5 * 120 / 2, rel=1e-6)
