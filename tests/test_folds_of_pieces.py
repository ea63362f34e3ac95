"""LogisticRegressionCV over chunks: folds by the places of rows, one read for all folds, and scores that are sums."""

import numpy as np
import pytest
import scipy.sparse

pytest.importorskip("sklearn", "1.6")

from sklearn.exceptions import NotFittedError
from sklearn.metrics import fbeta_score, make_scorer
from sklearn.model_selection import KFold

from softmax_ext import SoftmaxObjective
from softmax_ext._objective import sample
from softmax_ext._objective.folds import Folds
from softmax_ext.chunks import ChunksObjective, from_iterable, from_npy
from softmax_ext.linear_model import LogisticRegressionCV

pytestmark = pytest.mark.usefixtures("classes_summed")

PENALTIES = {"l2": (0,), "l1": (1,), "both": (0, 0.5)}


def cv(**parameters):
    """Return an estimator with parameters that scikit-learn does not deprecate."""
    given = {"l1_ratios": (0,), "scoring": None, "use_legacy_attributes": False, "solver": "saga", "Cs": [0.01, 3, 1]}
    return LogisticRegressionCV(**given | parameters)


def problem(K, D=4, N=150, seed=0):
    rng = np.random.default_rng([seed, K, D])
    X = rng.standard_normal((N, D)) + 1
    return X, (X @ rng.standard_normal((D, K)) + 2 * rng.gumbel(size=(N, K))).argmax(axis=1)


def chunked(X, *more, rows=37):
    return from_iterable(
        lambda: (
            tuple(None if each is None else each[i : i + rows] for each in (X, *more))
            for i in range(0, X.shape[0], rows)
        )
    )


def by_turns(N, n):
    """Return the folds that a number means, as pairs of row numbers."""
    return [(np.flatnonzero(np.arange(N) % n != f), np.arange(f, N, n)) for f in range(n)]


@pytest.mark.pairs
@pytest.mark.parametrize(("K", "D"), [(2, 3), (3, 4), (3, 50)])  # whole Hessians; and preconditioners
@pytest.mark.parametrize("storage", ["dense", "float32", "csr"])
@pytest.mark.parametrize("weights", [None, "sample", "class"])
@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("penalty", PENALTIES)
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("listed", [False, True])
def test_a_choice_over_chunks_is_that_in_memory(
    K, D, storage, weights, offset, penalty, standardize, fit_intercept, listed
):
    X, y = problem(K, D)
    rng, N = np.random.default_rng(1), len(y)
    s = rng.integers(1, 4, N) / 2 if weights == "sample" else None
    added = rng.standard_normal((N, K)) if offset else None
    if storage == "csr":
        X = scipy.sparse.csr_array(X * (rng.random(X.shape) < 0.5))
    if storage == "float32":
        X = X.astype(np.float32)
    tol = 1e-3 if storage == "float32" else 1e-7
    folds = [(rng.integers(0, N, N), rng.integers(0, N, 40)) for _ in range(2)] if listed else 3
    options = {"tol": tol, "max_iter": 1000, "standardize": standardize, "fit_intercept": fit_intercept}
    options |= {"l1_ratios": PENALTIES[penalty], "class_weight": "balanced" if weights == "class" else None}
    want = cv(cv=folds if listed else by_turns(N, 3), **options).fit(X, y, s, added)
    more = (y, s) if added is None else (y, s, added)
    found = cv(cv=folds, **options).fit(chunked(X, *more))
    assert found.converged_ and want.converged_ and found.coef_.dtype == want.coef_.dtype
    close = {"rtol": 0, "atol": 100 * tol * np.abs(want.coefs_paths_).max()}
    np.testing.assert_allclose(found.coefs_paths_, want.coefs_paths_, **close)
    if storage != "float32":
        np.testing.assert_allclose(found.scores_, want.scores_, atol=1e-12)
        assert (found.C_, found.l1_ratio_) == (want.C_, want.l1_ratio_)
        np.testing.assert_allclose(found.coef_, want.coef_, **close)
        np.testing.assert_allclose(found.intercept_, want.intercept_, **close)
    if standardize:
        np.testing.assert_allclose(found.mean_, want.mean_, rtol=1e-6)


FBETA = make_scorer(fbeta_score, beta=2, average="macro", pos_label=None)


@pytest.mark.parametrize(
    "scoring", [None, "accuracy", "neg_log_loss", "balanced_accuracy", "f1_macro", "matthews_corrcoef", FBETA]
)
@pytest.mark.parametrize("K", [2, 3])
def test_scores_from_sums_are_those_of_all_rows(K, scoring):
    X, y = problem(K)
    y, s = np.array(["c", "a", "b"])[y], np.random.default_rng(1).integers(0, 3, len(y)) + 0.5
    want = cv(cv=by_turns(len(y), 4), scoring=scoring, tol=1e-8).fit(X, y, s)
    found = cv(cv=4, scoring=scoring, tol=1e-8).fit(chunked(X, y, s))
    np.testing.assert_allclose(found.scores_, want.scores_, rtol=1e-7)
    assert found.C_ == want.C_ and found.classes_.tolist() == want.classes_.tolist()
    if scoring in (None, "accuracy"):
        assert found.score(chunked(X, y, s)) == pytest.approx(want.score(X, y, sample_weight=s))
    else:
        with pytest.raises(ValueError, match="is the accuracy, and scoring="):
            found.score(chunked(X, y, s))


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("refit", [True, False, "one_se"])
def test_attributes_of_a_choice_over_chunks_have_the_shapes_of_memory(refit, legacy):
    pandas = pytest.importorskip("pandas")
    X, y = problem(3)
    options = {"refit": refit, "use_legacy_attributes": legacy, "l1_ratios": (0, 1), "tol": 1e-8}
    frame = pandas.DataFrame(X, columns=list("abcd"))
    want = cv(cv=by_turns(len(y), 3), **options).fit(frame, y)
    found = cv(cv=3, **options).fit(from_iterable(lambda: [(frame[:70], y[:70]), (frame[70:], y[70:])]))
    assert vars(found).keys() == vars(want).keys()
    for name in ("scores_", "coefs_paths_"):
        ours, theirs = getattr(found, name), getattr(want, name)
        for key in theirs if legacy else [slice(None)]:
            np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)
    np.testing.assert_allclose(found.coef_, want.coef_, atol=1e-5)
    assert np.array_equal(found.C_, want.C_) and np.array_equal(found.feature_names_in_, want.feature_names_in_)


@pytest.mark.parametrize("penalty", ["l2", "l1"])
@pytest.mark.parametrize(("K", "D"), [(2, 3), (4, 50)])
def test_threads_and_company_change_no_bit_of_a_choice_over_chunks(K, D, penalty, monkeypatch):
    """Nor does it matter which fits ask at the same time: each may also be answered alone."""
    X, y = problem(K, D, N=400)
    monkeypatch.setattr(sample, "most_of_a_sample", lambda D, dtype: 200)  # so that matrices are those of some rows
    together, options = ChunksObjective.together, {"cv": 3, "l1_ratios": PENALTIES[penalty], "Cs": [0.01, 0.3]}
    ends = [cv(n_threads=n_threads, **options).fit(chunked(X, y)) for n_threads in (1, 2, 3)]
    monkeypatch.setattr(ChunksObjective, "together", lambda self, asks: [together(self, [ask])[0] for ask in asks])
    ends.append(cv(**options).fit(chunked(X, y)))
    assert len({model.coef_.tobytes() + model.coefs_paths_.tobytes() + model.scores_.tobytes() for model in ends}) == 1


def test_the_sums_that_a_fold_begins_with_are_of_its_own_rows():
    X, y = problem(4, 50, N=400)
    objective, w = ChunksObjective(chunked(X, y), l2=0.1), np.zeros(4 * 51)
    whole = objective.at_constant(w)
    objective.folds, objective.weights_of_folds = (
        Folds(3),
        [np.count_nonzero(np.arange(400) % 3 != f) for f in range(3)],
    )
    for fold, (train, _) in enumerate(by_turns(400, 3)):
        found = objective.beside(lambda ask: objective.answered([ask])[0], fold).at_constant(w)
        value, grad = SoftmaxObjective(X[train], y[train], l2=0.1).at_constant(w)
        assert found[0] == pytest.approx(value, rel=1e-12)
        np.testing.assert_allclose(found[1], grad, atol=1e-12)
    again = objective.at_constant(w)
    assert again[0] == whole[0] and again[1].tobytes() == whole[1].tobytes()


def test_all_folds_share_the_passes(monkeypatch):
    X, y = problem(4, 50, N=400)
    passes, together, data = [], ChunksObjective.together, chunked(X, y)
    monkeypatch.setattr(
        ChunksObjective, "together", lambda self, asks: passes.append(len(asks)) or together(self, asks)
    )
    model = cv(cv=5, Cs=[0.01, 0.1, 1]).fit(data)
    assert model.n_iter_.sum() > 40 and len(passes) < sum(passes) / 3 and max(passes) == 6


@pytest.mark.parametrize("penalty", PENALTIES)
def test_a_choice_that_is_broken_off_keeps_the_models_that_are_finished(penalty, tmp_path):
    X, y = problem(3)
    X_path, y_path = tmp_path / "X.npy", tmp_path / "y.npy"
    np.save(X_path, X)
    np.save(y_path, y)
    options, n = {"cv": 2, "l1_ratios": PENALTIES[penalty]}, len(PENALTIES[penalty])
    whole = cv(**options).fit(from_npy(X_path, y_path, 50))

    def shorten(done, fits):
        if done == 9 * n - 4:  # all rows and both folds at the strongest penalty, and all rows at the next
            X_path.write_bytes(X_path.read_bytes()[:-1000])

    model = cv(callback=shorten, **options)
    with pytest.raises(ValueError, match=r"X\.npy"):
        model.fit(from_npy(X_path, y_path, 50))
    done = np.isfinite(model.coefs_paths_)
    assert done[:, :, 0].all() and not done[:, -1, 1].any() and not np.isinf(model.coefs_paths_).any()
    np.testing.assert_array_equal(model.coefs_paths_[done], whole.coefs_paths_[done])
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("parameters", "data", "error", "words"),
    [
        ({"scoring": "roc_auc_ovr"}, {}, ValueError, "scoring='roc_auc_ovr' needs all held-out rows at once"),
        ({"scoring": lambda *_: 1.0}, {}, ValueError, "take 'accuracy', 'neg_log_loss' or"),
        ({"cv": KFold(3)}, {}, ValueError, r"pairs of row numbers, such as list\(splitter.split"),
        ({"cv": 151}, {}, ValueError, "cv=151: data of 150 rows have from 2 to 150 folds"),
        ({"cv": []}, {}, ValueError, "an empty list of folds"),
        ({"cv": [(np.arange(60), np.arange(60, 151))]}, {}, ValueError, "fold 0 names rows that X with its 150"),
        ({"cv": 3}, {"s": np.arange(150) % 3 > 0}, ValueError, "all rows that fold 0 is scored by have a weight of 0"),
        ({"cv": 3}, {"s": np.arange(150) % 3 == 2}, ValueError, "all rows that fold 2 trains on have a weight of 0"),
        ({}, {"y": np.full((150, 3), 1 / 3)}, ValueError, "chunk 0 .*: y holds probabilities, and folds are scored by"),
        ({}, {"y": np.zeros(150, int)}, ValueError, "at least 2 classes"),
    ],
)
def test_a_choice_over_chunks_names_what_it_refuses(parameters, data, error, words):
    X, y = problem(3)
    s = data.get("s")
    if s is not None:
        s = s.astype(float)
    with pytest.raises(error, match=words):
        cv(**parameters).fit(chunked(X, data.get("y", y), s))
