"""L1, elastic net and grouped penalties: what they are, and fits to the end."""

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from softmax_ext import SoftmaxObjective, optim, reference
from softmax_ext._core import coordinates, dispatch
from softmax_ext._core.coordinates import Entries, Quadratic
from softmax_ext._objective.penalty import Penalty
from softmax_ext.objective import BinomialObjective

needs_kernels = pytest.mark.skipif(dispatch.kernels is None, reason="there are no compiled kernels")


@st.composite
def penalties(draw):
    """Return a penalty, weights and a gradient (K, D)."""
    K, D = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    v = rng.integers(0, 3, D) * 0.7 if draw(st.booleans()) else None
    W = rng.standard_normal((K, D)) * rng.integers(0, 2, (K, D)) * rng.integers(0, 2, D)
    penalty = Penalty(draw(st.sampled_from([0, 0.3])), draw(st.sampled_from([0, 0.4])), grouped=draw(st.booleans()),
                      weights=v)  # fmt: skip
    return penalty, W, rng.standard_normal((K, D))


@given(penalties())
def test_a_penalty_is_the_specifications(case):
    penalty, W, dW = case
    v = penalty.factors(W.shape[1])
    np.testing.assert_array_equal(v, np.ones(W.shape[1]) if penalty.weights is None else penalty.weights)
    of_l1 = penalty.l1, v, penalty.grouped
    ridge = sum(reference.penalty(W[:, [j]], penalty.l2 * v[j])[0] for j in range(len(v)))
    assert penalty.value(W) == pytest.approx(ridge + reference.lasso(W, *of_l1), rel=1e-13, abs=1e-300)
    assert penalty.l1_part(W) == pytest.approx(reference.lasso(W, *of_l1), rel=1e-13, abs=1e-300)
    gradient = np.zeros_like(W)
    penalty.add_gradient(W, gradient)
    np.testing.assert_allclose(gradient, penalty.diagonal(len(v)) * W, rtol=1e-14)
    np.testing.assert_allclose(penalty.prox(W, 0.5), reference.lasso_prox(W, 0.5 * penalty.l1, *of_l1[1:]), atol=1e-15)
    np.testing.assert_allclose(penalty.thresholds(len(v)), penalty.l1 * v)
    want, got = reference.lasso_violations(W, dW, *of_l1), penalty.violations(W, dW)
    np.testing.assert_allclose(got.max(axis=0) if got.ndim == 2 else got, want.max(axis=0) if want.ndim == 2 else want,
                               atol=1e-14)  # fmt: skip


@given(penalties(), st.integers(0, 2**32 - 1))
def test_the_prox_is_a_minimum_without_violation(case, seed):
    penalty, _, W = case
    V, rng = penalty.prox(W), np.random.default_rng(seed)
    assert penalty.violations(V, V - W).max() <= 1e-15 * 8
    least = 0.5 * np.square(V - W).sum() + penalty.l1_part(V)
    for other in V + 0.1 * rng.standard_normal((8, *V.shape)) * rng.integers(0, 2, V.shape):
        assert least <= 0.5 * np.square(other - W).sum() + penalty.l1_part(other) + 1e-14


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ({"l1": -1.0}, ValueError, "l1 must be finite and not negative, got -1.0"),
        ({"l1": "much"}, TypeError, "l1"),
        ({"weights": [1.0, -2.0]}, ValueError, "got -2.0 for feature 1"),
        ({"weights": [np.nan]}, ValueError, "got nan for feature 0"),
        ({"weights": [[1.0]]}, ValueError, r"got shape \(1, 1\)"),
        ({"weights": ["a"]}, ValueError, "real numbers"),
    ],
)
def test_a_penalty_names_what_it_refuses(arguments, error, words):
    with pytest.raises(error, match=words):
        Penalty(**arguments)


def test_an_objective_refuses_weights_of_other_features():
    with pytest.raises(ValueError, match=r"one for each feature, \(3,\), got shape \(2,\)"):
        SoftmaxObjective(np.eye(3), [0, 1, 2], penalty=Penalty(0.1, weights=[1, 2]))


def test_an_optimiser_without_a_prox_refuses_l1():
    objective = SoftmaxObjective(np.eye(3), [0, 1, 2], penalty=Penalty(l1=0.1))
    for minimise in (optim.lbfgs, optim.newton):
        with pytest.raises(ValueError, match=r"l1=0.1, which has no gradient at 0: .* softmax_ext.optim.proximal"):
            minimise(objective, np.zeros(objective.size))


def problem(K, sparse=False, dtype=np.float64, N=90, D=13, raw=True):
    rng = np.random.default_rng(K)
    X = rng.standard_normal((N, D)) * (np.geomspace(0.1, 30, D) if raw else 1) + (np.linspace(0, 9, D) if raw else 0)
    if sparse:
        X *= rng.random((N, D)) < 0.3
    X[:, 4] = 0
    y = (X[:, :3] @ rng.standard_normal((3, K)) * [[2.0], [1.0], [0.5]][0] + rng.gumbel(size=(N, K)) * 3).argmax(axis=1)
    y[:K] = np.arange(K)
    X = X.astype(dtype)
    return scipy.sparse.csr_array(X) if sparse else X, y, rng.integers(0, 3, N) + 0.5


def checked(found, X, y, s, K, penalty, intercept=True, *, binary=False):
    """Return the largest violation and the gap, as the specification has them."""
    D = X.shape[1]
    count = 1 if binary else K
    W, b = found.w[: count * D].reshape(count, D), found.w[count * D :]
    rows = (np.vstack([0 * W, W]), np.append(0, b)) if binary else (W, b)
    _, dW, db = reference.loss_grad(X, y, rows[0], rows[1] if intercept else np.zeros(K), sample_weight=s)
    if binary:
        dW, db = dW[1:], db[1:]
    v = penalty.factors(D)
    violations = reference.lasso_violations(W, dW + penalty.l2 * v * W, penalty.l1, v, penalty.grouped)
    return max(violations.max(), np.abs(db).max() if intercept else 0)


@pytest.mark.pairs(3)
@pytest.mark.parametrize(
    ("storage", "model"),
    [(storage, model) for storage in ("dense", "csr") for model in ("blocks", "support", "whole")]
    + [("csr", "entries")],
)
@pytest.mark.parametrize("intercept", [True, False])
@pytest.mark.parametrize("kind", ["l1", "elastic net", "grouped", "weights", "free"])
@pytest.mark.parametrize("K", [2, 3, 5])
def test_fits_end_at_the_minimum(K, kind, storage, intercept, model, monkeypatch):
    """They are checked by the specification's optimality conditions and duality gap."""
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", 1000 if model == "whole" else 0)
    monkeypatch.setattr("softmax_ext._objective.entries.ENTRIES", np.inf if model == "entries" else 0)
    monkeypatch.setattr("softmax_ext._objective.support.MOST", 0 if model == "blocks" else 1000)
    X, y, s = problem(K, storage == "csr")
    D = X.shape[1]
    weights = {"weights": np.linspace(0.5, 2, D), "free": np.arange(D) % 3}.get(kind)
    penalty = Penalty(0.01 * (kind == "elastic net"), 0.03, grouped=kind == "grouped", weights=weights)
    Objective = BinomialObjective if K == 2 else SoftmaxObjective
    objective = Objective(X, y, penalty=penalty, sample_weight=s, fit_intercept=intercept)
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-6, max_iter=500)
    assert found.converged, found.report
    assert checked(found, X, y, s, K, penalty, intercept, binary=K == 2) <= 1.1e-6
    assert found.value == pytest.approx(objective.value(found.w), rel=1e-12)
    W = found.w[: objective.parameters.count * D].reshape(-1, D)
    assert 0 < np.count_nonzero(W) < W.size and not W[:, 4].any()
    if kind == "grouped":
        assert set(np.count_nonzero(W, axis=0)) <= {0, len(W)}
    if kind == "free":
        assert np.isnan(found.gap)
    else:
        assert found.gap <= 1e-7 * max(found.value, 1e-6) * 1.01
    if kind != "free" and K > 2 and kind != "weights":
        X = X.toarray() if storage == "csr" else X
        b = found.w[K * D :] if intercept else None
        gap = reference.duality_gap(X, reference.one_hot(y, K), W, b, s, penalty.l2, penalty.l1, penalty.grouped)
        assert found.gap == pytest.approx(gap, rel=0.05, abs=1e-12)


@needs_kernels
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_the_kernel_sweeps_as_its_twin_in_numpy(seed, blocks, grouped):
    rng = np.random.default_rng(seed)
    K, P, r = 3, 5, 8
    n = K * P
    M = None
    diagonal = rng.random(n) + 0.5  # so that the model has a minimum, whatever Q is
    if blocks:
        A = rng.standard_normal((K, P + 2, P))
        M = np.einsum("kip,kiq->kpq", A, A)
        diagonal = np.concatenate([block.diagonal() for block in M]) + 0.5
        for block, part in zip(M, diagonal.reshape(K, P), strict=True):
            block.flat[:: P + 1] = part
    which, groups = (np.arange(P - 1), P - 1) if grouped else (np.arange(n), 0)
    if grouped:
        which = np.append(which, np.arange(P - 1, n, P))
    entries = Entries(which.astype(np.intp), groups, K, P)
    Q = 0.1 * rng.standard_normal((n, r))
    model = Quadratic(M, diagonal, 1.3, Q, 0.5 * Q, rng.standard_normal(n), np.full(n, 0.4) * rng.integers(0, 2))
    w = rng.standard_normal(n) * rng.integers(0, 2, n)
    u, z = coordinates.descend(model, entries, w, 1e-11)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "kernels", None)
        twin, _ = coordinates.descend(model, entries, w, 1e-11)
        patch.setattr(coordinates, "WORK", 1.0)
    np.testing.assert_allclose(u, twin, atol=1e-8)
    whole = np.diag(diagonal) if M is None else scipy.linalg.block_diag(*M)
    np.testing.assert_allclose(z, whole @ (u - w), atol=1e-9)
    order = entries.coordinates()
    B = 1.3 * whole
    B[np.ix_(order, order)] -= Q @ (0.5 * Q).T
    gradient = (model.gradient + B @ (u - w)).reshape(K, P)
    penalty = Penalty(l1=float(model.limits[0]), grouped=grouped)
    weights = slice(0, P - 1 if grouped else P)
    assert penalty.violations(u.reshape(K, P)[:, weights], gradient[:, weights]).max() <= 1e-6


@needs_kernels
@pytest.mark.parametrize("pairs", [0, 8])
@pytest.mark.parametrize("blocks", [1, 3])
def test_a_model_of_collinear_features_has_its_minimum(blocks, pairs, monkeypatch):
    """Sweeps alone do not come there: the entries that are not 0 have to be solved for."""
    rng, P = np.random.default_rng(3), 120
    M, parts, slopes = np.empty((blocks, P, P)), np.empty((blocks, P, pairs)), np.empty((blocks, P))
    for k in range(blocks):
        A = rng.standard_normal((60, P)) * np.geomspace(1, 1e-3, P)
        A[:, 50:60] = A[:, 40:50] * (1 + 1e-7 * rng.standard_normal(10))
        whole = A.T @ A / 60
        whole.flat[:: P + 1] *= 1 + 1e-9
        M[k], slopes[k] = whole, A.T @ rng.standard_normal(60) / 60
        parts[k] = 0.02 * whole @ rng.standard_normal((P, pairs))
    Q, gradient = parts.reshape(blocks * P, pairs), slopes.ravel()
    B = 1.5 * scipy.linalg.block_diag(*M) - 0.5 * Q @ Q.T
    assert np.linalg.eigvalsh(B).min() > -1e-6
    n = len(gradient)
    diagonal = np.concatenate([block.diagonal() for block in M])
    model = Quadratic(M, diagonal, 1.5, Q, 0.5 * Q, gradient, np.full(n, 1e-4 * np.abs(gradient).max()))
    ends = []
    for most in (coordinates.MOST, 0):
        monkeypatch.setattr(coordinates, "MOST", most)
        u, z = coordinates.descend(model, Entries(np.arange(n)), np.zeros(n), 1e-9)
        np.testing.assert_allclose(1.5 * z - 0.5 * Q @ (Q.T @ u), B @ u, atol=1e-9 * np.abs(B @ u).max())
        violations = Penalty(l1=float(model.limits[0])).violations(u[np.newaxis], (gradient + B @ u)[np.newaxis])
        ends.append(violations.max())
    assert ends[0] < 1e-6 and ends[1] > 1e-4, ends


@needs_kernels
def test_a_descent_that_comes_back_for_ctrl_c_goes_on_where_it_was(monkeypatch):
    X, y, _ = problem(4)
    ends = []
    for work in (1e8, 50.0):
        monkeypatch.setattr(coordinates, "WORK", work)
        objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.02))
        ends.append(optim.proximal(objective, np.zeros(objective.size)).w)
    np.testing.assert_array_equal(*ends)


@needs_kernels
@pytest.mark.parametrize("few", [0, 1000])
@pytest.mark.parametrize("storage", ["dense", "csr"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_bit_of_an_l1_fit_depends_on_threads(storage, dtype, few, monkeypatch):
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", few)
    X, y, s = problem(5, storage == "csr", dtype, N=3000, raw=False)
    ends = []
    for n_threads in (1, 2, 3):
        objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.01), sample_weight=s, n_threads=n_threads)
        ends.append(optim.proximal(objective, np.zeros(objective.size)).w.tobytes())
    assert len(set(ends)) == 1


def test_a_float32_fit_ends_by_rounding_at_most():
    X, y, _ = problem(4, dtype=np.float32)
    objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.01))
    found = optim.proximal(objective, np.zeros(objective.size), tol=1e-9, max_iter=500)
    assert not found.converged and "rounding" in found.report and found.violation < 1e-4


def test_without_kernels_the_minimum_is_the_same(monkeypatch):
    X, y, _ = problem(3, N=40, D=6)
    for grouped in (False, True):
        ends = []
        for kernels in (dispatch.kernels, None):
            monkeypatch.setattr(dispatch, "kernels", kernels)
            objective = SoftmaxObjective(X, y, penalty=Penalty(l1=0.05, grouped=grouped))
            ends.append(optim.proximal(objective, np.zeros(objective.size), tol=1e-7).w[:18])
            monkeypatch.undo()
        np.testing.assert_allclose(*ends, atol=1e-4)
        assert set(np.flatnonzero(ends[0])) == set(np.flatnonzero(ends[1]))


def test_an_objective_of_ones_own_needs_a_penalty_its_layout_and_a_gradient():
    X, y, _ = problem(3, raw=False)
    whole = SoftmaxObjective(X, y, penalty=Penalty(l1=0.03))

    class Own:
        penalty, parameters, value_and_grad = whole.penalty, whole.parameters, staticmethod(whole.value_and_grad)

    own = optim.proximal(Own(), np.zeros(whole.size), max_iter=500)
    assert own.converged, own.report
    assert own.value == pytest.approx(optim.proximal(whole, np.zeros(whole.size)).value, rel=1e-5)


def model(**parameters):
    from softmax_ext.linear_model import LogisticRegression

    return LogisticRegression(**{"solver": "saga", "l1_ratio": 1.0, "C": 1.0, **parameters})


def objective_at(fitted, X, y, s=None, r=1.0, v=1.0, grouped=False):
    """Return the objective at a model's coefficients, in float64."""
    X = X.toarray() if scipy.sparse.issparse(X) else np.asarray(X, float)
    Z = X @ fitted.coef_.T.astype(float) + fitted.intercept_
    Z = np.hstack([np.zeros_like(Z), Z]) if Z.shape[1] == 1 else Z
    s = np.ones(len(X)) if s is None else s
    W = fitted.coef_.astype(float)
    whole = 1 / (fitted.C * s.sum())
    v = np.broadcast_to(v, X.shape[1])
    return (
        reference.loss(Z, np.searchsorted(fitted.classes_, y), s)
        + (1 - r) * whole / 2 * float((v * W**2).sum())
        + reference.lasso(W, r * whole, v, grouped)
    )


@pytest.mark.parametrize("r", [0.3, 1.0])
@pytest.mark.parametrize("K", [2, 4])
def test_an_estimator_ends_at_least_where_saga_does(K, r):
    from sklearn.linear_model import LogisticRegression as Theirs

    X, y, s = problem(K, raw=False)
    ours = model(l1_ratio=r, C=0.2, tol=1e-6).fit(X, y, s)
    theirs = Theirs(solver="saga", l1_ratio=r, C=0.2, tol=1e-10, max_iter=10**5, random_state=0).fit(X, y, s)
    assert ours.converged_ and ours.gap_ <= 1e-7 and ours.violation_ <= 1e-6
    mine, best = objective_at(ours, X, y, s, r), objective_at(theirs, X, y, s, r)
    assert mine <= best * (1 + 1e-9)
    if r < 1 or K == 2:  # what is added to a feature of an even number of classes may cost nothing in L1
        np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=2e-4)
    assert np.count_nonzero(ours.coef_) < ours.coef_.size


@pytest.mark.parametrize("kind", ["dense", "csr", "float32", "float16", "int8", "soft", "chunks"])
def test_an_estimator_takes_every_kind_of_samples(kind):
    from softmax_ext.chunks import from_iterable

    rng = np.random.default_rng(0)
    X = rng.integers(-5, 6, (120, 9)).astype(float)
    y = (X[:, :3] + rng.standard_normal((120, 3))).argmax(axis=1)
    want = model(C=0.05, tol=1e-5, grouped=True).fit(X, y)
    given, target = X, y
    if kind == "csr":
        given = scipy.sparse.csr_matrix(X)
    elif kind == "soft":
        target = reference.one_hot(y, 3)
    elif kind == "chunks":
        given, target = from_iterable(lambda: ((X[i : i + 50], y[i : i + 50]) for i in range(0, 120, 50))), None
    elif kind != "dense":
        given = X.astype(kind)
    got = model(C=0.05, tol=1e-5, grouped=True).fit(given, target)
    np.testing.assert_allclose(got.coef_, want.coef_, atol=1e-3 if "float" in kind or kind == "int8" else 1e-5)
    assert (got.coef_ == 0).tolist() == (want.coef_ == 0).tolist() and not want.coef_.all()
    np.testing.assert_array_equal((want.coef_ != 0).all(axis=0), (want.coef_ != 0).any(axis=0))


@pytest.mark.parametrize("by", ["support", "whole", "entries"])
@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", ["class_weight", "label_smoothing", "soft", "offset", "int8", "bfloat16"])
@pytest.mark.parametrize("K", [2, 4])
def test_what_belongs_to_samples_counts(K, kind, grouped, by, monkeypatch):
    """They are checked by the optimality conditions of the specification."""
    monkeypatch.setattr("softmax_ext._optim.proximal.FEW", 1000 if by == "whole" else 0)
    monkeypatch.setattr("softmax_ext._objective.entries.ENTRIES", np.inf)
    kind = "float32" if (kind, by) == ("bfloat16", "entries") else kind  # SciPy has no sparse bfloat16
    rng = np.random.default_rng(K)
    X = rng.integers(-5, 6, (150, 12)).astype(float)
    y = np.append((X[:, :K] + 4 * rng.standard_normal((150, K))).argmax(axis=1)[K:], np.arange(K))
    s, offset, Y = rng.integers(0, 3, 150) + 0.5, np.zeros((150, K)), reference.one_hot(y, K)
    given, target, options, more = X, y, {}, {}
    if kind == "class_weight":
        options["class_weight"] = dict(enumerate(np.linspace(0.5, 2, K).tolist()))
    elif kind == "label_smoothing":
        options["label_smoothing"], Y = 0.2, 0.8 * Y + 0.2 / K
    elif kind == "soft":
        target = Y = rng.dirichlet(np.ones(K), 150) * rng.random((150, 1))
    elif kind == "offset":
        offset = 2 * rng.standard_normal((150, K))
        more["offset"] = offset if K > 2 else offset[:, 1] - offset[:, 0]
    elif kind == "bfloat16":
        given = X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    else:
        given = X.astype(kind)
    narrow = given.dtype.itemsize < 8
    given = scipy.sparse.csr_array(given) if by == "entries" else given
    tol = 1e-5 if narrow else 1e-7
    C = 0.1 if kind == "soft" else 0.03  # what is drawn at random says little of X
    fitted = model(C=C, grouped=grouped, tol=tol, **options).fit(given, target, s, **more)
    assert fitted.converged_, fitted.convergence_report_
    assert fitted.gap_ <= 1.001 * 0.1 * tol * 2
    if kind == "class_weight":
        s = s * np.linspace(0.5, 2, K)[y]
    W, b, m = fitted.coef_.astype(float), fitted.intercept_.astype(float), s.sum()
    both = (np.vstack([0 * W, W]), np.append(0, b)) if K == 2 else (W, b)
    R = reference.softmax(X @ both[0].T + both[1] + offset) * Y.sum(axis=1, keepdims=True) - Y
    dW, db = (s[:, None] * R).T @ X / m, (s[:, None] * R).sum(axis=0) / m
    dW, db = (dW[1:], db[1:]) if K == 2 else (dW, db)
    violations = reference.lasso_violations(W, dW, 1 / (C * m), np.ones(12), grouped and K > 2)
    assert max(violations.max(), abs(db).max()) <= 2 * tol
    assert 0 < np.count_nonzero(W) < W.size


def test_a_warm_start_begins_at_the_coefficients_before():
    X, y, _ = problem(3, raw=False)
    fitted = model(C=0.3, warm_start=True).fit(X, y)
    assert fitted.n_iter_[0] > 1 and fitted.fit(X, y).n_iter_[0] <= 1


def test_penalty_weights_are_scales_of_features():
    """|v w| for x is |w| for x / v; an L2 penalty's weight is the square of such a scale."""
    X, y, _ = problem(3, raw=False)
    v = np.linspace(0.5, 2, X.shape[1])
    one = model(C=0.2, penalty_weights=v, tol=1e-7).fit(X, y)
    other = model(C=0.2, tol=1e-7).fit(X / v, y)
    np.testing.assert_allclose(one.coef_ * v, other.coef_, atol=1e-5)
    for solver in ("lbfgs", "newton-cg"):
        one = model(C=0.2, l1_ratio=0.0, solver=solver, penalty_weights=v, tol=1e-7).fit(X, y)
        other = model(C=0.2, l1_ratio=0.0, tol=1e-7).fit(X / np.sqrt(v), y)
        np.testing.assert_allclose(one.coef_ * np.sqrt(v), other.coef_, atol=1e-5)


def test_free_features_are_not_shrunk():
    X, y, _ = problem(4, raw=False)
    fitted = model(C=1e-9, penalty_weights=(np.arange(X.shape[1]) > 1).astype(float)).fit(X, y)
    assert fitted.coef_[:, :2].all() and not fitted.coef_[:, 2:].any() and np.isnan(fitted.gap_)


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"solver": "lbfgs"}, "Solver lbfgs supports only 'l2' or None penalties, got l1 penalty"),
        ({"solver": "adam"}, "Solver adam supports only 'l2'"),
        ({"solver": "liblinear", "l1_ratio": 0.5}, "Only 'saga' solver supports elasticnet penalty"),
        ({"solver": "liblinear", "dual": True}, "not supported when dual=True"),
        ({"l1_ratio": 1.5}, "l1_ratio"),
        ({"penalty_weights": [1.0, 2.0]}, r"one for each feature, \(13,\), got shape \(2,\)"),
        ({"penalty_weights": [-1.0] * 13}, "got -1.0 for feature 0"),
        ({"solver": "adam", "l1_ratio": 0.0, "penalty_weights": [1.0] * 13}, "not for mini-batches"),
    ],
)
def test_an_estimator_names_the_options_that_l1_has_not(parameters, words):
    X, y, _ = problem(2)
    with pytest.raises(ValueError, match=words):
        model(**parameters).fit(X, y)


def test_partial_fit_refuses_l1():
    X, y, _ = problem(3)
    with pytest.raises(ValueError, match=r"partial_fit has the L2 penalty alone.*l1_ratio=1"):
        model().partial_fit(X, y, classes=[0, 1, 2])


@pytest.mark.parametrize("K, r, grouped", [(2, 1.0, False), (4, 1.0, False), (4, 0.5, False), (4, 1.0, True)])
def test_a_path_is_the_fits_along_it(K, r, grouped):
    from softmax_ext.linear_model import logistic_regression_path

    X, y, s = problem(K, raw=False)
    path = logistic_regression_path(X, y, Cs=8, l1_ratio=r, grouped=grouped, sample_weight=s, tol=1e-6, max_iter=500)
    assert path.nonzero[0] == path.degrees_of_freedom[0] == 0 < path.nonzero[2] and path.gaps.max() <= 1e-6
    assert (np.diff(path.deviance_explained) > -1e-9).all()
    for j in (2, 5):
        one = model(C=path.Cs[j], l1_ratio=r, grouped=grouped, tol=1e-7, max_iter=500).fit(X, y, s)
        assert path.objectives[j] == pytest.approx(objective_at(one, X, y, s, r, grouped=grouped), rel=1e-6)
        if r < 1 or K == 2 or grouped:
            np.testing.assert_allclose(path.coefs[j], one.coef_, atol=2e-3)
    again = logistic_regression_path(X, y, Cs=path.Cs[[5, 2]], l1_ratio=r, grouped=grouped, sample_weight=s, tol=1e-6)
    np.testing.assert_allclose(again.objectives, path.objectives[[5, 2]], rtol=1e-6)


@pytest.mark.parametrize("ratio, error", [(1.5, ValueError), (-0.1, ValueError), ("all", TypeError)])
def test_a_path_refuses_a_share_of_l1_beyond_0_and_1(ratio, error):
    from softmax_ext.linear_model import logistic_regression_path

    with pytest.raises(error, match="l1_ratio"):
        logistic_regression_path(*problem(3)[:2], l1_ratio=ratio)


@pytest.mark.parametrize("refit", [True, False])
@pytest.mark.parametrize("K", [2, 3])
def test_cross_validation_is_the_fits_of_each_fold(K, refit):
    from sklearn.model_selection import StratifiedKFold

    from softmax_ext.linear_model import LogisticRegressionCV

    X, y, _ = problem(K, raw=False)
    Cs, ratios, folds = [0.03, 0.3], [0.0, 0.5, 1.0], StratifiedKFold(3)
    found = LogisticRegressionCV(Cs=Cs, l1_ratios=ratios, cv=folds, solver="saga", scoring="accuracy", refit=refit,
                                 use_legacy_attributes=False, tol=1e-7, max_iter=500).fit(X, y)  # fmt: skip
    count = 1 if K == 2 else K
    assert found.converged_ and found.coefs_paths_.shape == (3, 3, 2, count, 14)
    assert found.scores_.shape == found.n_iter_.shape == (3, 3, 2)
    for f, (train, test) in enumerate(folds.split(X, y)):
        for a, r in enumerate(ratios):
            for j, C in enumerate(Cs):
                one = model(C=C, l1_ratio=r, tol=1e-7, max_iter=500).fit(X[train], y[train])
                np.testing.assert_allclose(found.coefs_paths_[f, a, j, :, :13], one.coef_, atol=1e-3)
                assert found.scores_[f, a, j] == one.score(X[test], y[test])
    if refit:
        a, j = np.argwhere(found.scores_.mean(axis=0) == found.scores_.mean(axis=0).max())[0]
        assert found.scores_.mean(axis=0)[ratios.index(found.l1_ratio_), Cs.index(found.C_)] == pytest.approx(
            found.scores_.mean(axis=0)[a, j]
        )
        one = model(C=found.C_, l1_ratio=found.l1_ratio_, tol=1e-7, max_iter=500).fit(X, y)
        np.testing.assert_allclose(found.coef_, one.coef_, atol=1e-3)
