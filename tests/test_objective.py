"""SoftmaxObjective and BinomialObjective against the reference, finite differences and each other."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import SoftmaxObjective, loss_grad, reference
from softmax_ext._core import dispatch
from softmax_ext._core.plan import hessian_plan
from softmax_ext._objective.parameters import Parameters
from softmax_ext.objective import BinomialObjective
from softmax_ext.optim import Penalty

SHAPES = [(1, 1, 2), (5, 3, 1), (37, 10, 7), (150, 4, 3), (83, 250, 10), (301, 9, 65), (130, 40, 129), (70, 5, 1100)]
OWNED = (40, 2000, 100)  # beyond what a gradient for each slice may take: the classes are cut
# Two classes with one row of coefficients: fewer features than a vector has lanes, more than a panel, and many rows.
ONE_ROW = [(1, 1, "one row"), (37, 3, "one row"), (150, 10, "one row"), (83, 250, "one row"), (40_001, 17, "one row")]
INTERCEPT = pytest.mark.parametrize("intercept", [True, False], ids=["intercept", "none"])


@pytest.fixture
def make(make_problem):
    """An objective, w, v and the float64 arrays that they stand for."""

    def make(
        N,
        D,
        K,
        dtype,
        *,
        labels="labels",
        weights="sample_weight",
        intercept=True,
        l2=0.3,
        n_threads=None,
        storage="dense",
    ):
        binary, K = K == "one row", 2 if K == "one row" else K
        (X, y, W, b), keywords = make_problem(N, D, K, dtype, labels=labels, weights=weights, storage=storage)
        if labels == "labels":
            y[-1] = K - 1  # which tells K
            if K > N:
                y[:] = np.arange(N) + K - N
        rng = np.random.default_rng(N)
        V, c = rng.standard_normal(W.shape).astype(dtype), rng.standard_normal(K).astype(dtype)
        if N == 1:
            keywords = {}
        if binary:
            W[0], b[0], V[0], c[0] = 0, 0, 0, 0
        Objective = BinomialObjective if binary else SoftmaxObjective
        objective = Objective(X, y, l2=l2, fit_intercept=intercept, n_threads=n_threads, **keywords)
        w, v = (of(objective, A, a if intercept else None).astype(float) for A, a in ((W, b), (V, c)))
        return objective, w, v, (X.astype(float), y, W.astype(float), b.astype(float) if intercept else None), keywords

    return make


@pytest.fixture
def level(request):
    with dispatch.using(request.param):
        yield


def flat(W, b):
    return W.ravel() if b is None else np.concatenate([W.ravel(), b])


def of(objective, W, b):
    """Return the vector of W (K, D) and b (K,), of those classes that have parameters."""
    rows = slice(objective.rows.start, objective.rows.stop)
    return flat(W[rows], None if b is None else b[rows])


def of_one_row(X, y, W, b, keywords):
    """The specification of two classes with one row of coefficients, at those of W (2, D) and b (2,)."""
    return reference.binomial(X, y, W[1], None if b is None else b[1], keywords.get("sample_weight"))


def close(got, want, tolerance, factor=1.0):
    np.testing.assert_allclose(got, want, rtol=0, atol=factor * tolerance.rtol * max(np.abs(want).max(), 1e-3))


@pytest.mark.pairs(3)
@INTERCEPT
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
@pytest.mark.parametrize("shape", [*SHAPES, OWNED, *ONE_ROW], ids=str)
def test_value_and_gradient_are_those_of_the_reference(isa, tolerance, storage, shape, labels, intercept, make):
    if shape[2] != "one row" and shape[2] > shape[0]:
        labels = "probabilities"  # labels tell K only if there are as many samples
    objective, w, _, (X, y, W, b), keywords = make(
        *shape, tolerance.dtype, labels=labels, intercept=intercept, storage=storage
    )
    J, dW, db = reference.loss_grad(X, y, W, b, **keywords)
    value, grad = objective.value_and_grad(w)
    penalty = 0.15 * (W**2).sum()
    assert type(value) is float and grad.dtype == np.float64 and grad.shape == (objective.size,)
    np.testing.assert_allclose([value, objective.value(w)], J + penalty, rtol=tolerance.rtol)
    assert objective.value(w) == value, "the loss alone is the same sum"
    close(grad, of(objective, dW + 0.3 * W, db), tolerance)
    if shape[2] == "one row":
        one, l2 = of_one_row(X, y, W, b, keywords), 0.3 * np.append(W[1], np.zeros(int(intercept)))
        np.testing.assert_allclose(value, one.loss + penalty, rtol=tolerance.rtol)
        close(grad, one.dw + l2, tolerance)


@pytest.mark.pairs(3)
@INTERCEPT
@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape[2] <= shape[0]] + [OWNED, *ONE_ROW], ids=str)
def test_products_with_the_hessian_are_those_of_the_reference(isa, tolerance, storage, shape, intercept, make):
    labels = "labels" if shape[0] > 100 else "probabilities"
    objective, w, v, (X, y, W, b), keywords = make(
        *shape, tolerance.dtype, labels=labels, intercept=intercept, storage=storage
    )
    V, c = objective.parameters.split(v, np.dtype(float))
    c = np.zeros(len(W)) if c is None else c
    S = reference.softmax(reference.scores(X, W, b))
    s = keywords.get("sample_weight", np.ones(len(y)))
    mass = y.sum(axis=1).astype(float) if labels == "probabilities" else np.ones(len(y))
    dV, dc = reference.hessian_product(X, S, V, c, s, mass)
    close(objective.hessp(w, v), of(objective, dV + 0.3 * V, dc if intercept else None), tolerance, 10)


@pytest.mark.pairs(3)
@INTERCEPT
@pytest.mark.parametrize("shape", [(37, 3, 4), (150, 4, 3), (9, 12, 2), (140, 2, 131), *ONE_ROW[:4]], ids=str)
def test_the_hessian_is_the_matrix_of_its_products(isa, shape, tolerance, storage, intercept, make):
    objective, w, _, (X, y, W, b), keywords = make(*shape, tolerance.dtype, intercept=intercept, storage=storage)
    H = objective.hessian(w)
    rows = np.array([objective.hessp(w, column) for column in np.eye(objective.size)])
    close(H, rows, tolerance, 10)
    S = reference.softmax(reference.scores(X, W, b))[:, objective.rows.start : objective.rows.stop]
    size = S.shape[1] * W.shape[1]
    X = X.toarray() if storage == "csr" else X
    s = keywords.get("sample_weight", np.ones(len(X)))
    # The whole Hessian is made in double, from w and X as they are.
    np.testing.assert_allclose(
        H[:size, :size],
        reference.hessian(X, S, s).reshape(size, size) + 0.3 * np.eye(size),
        rtol=0,
        atol=1e-12 * H.max(),
    )
    if shape[2] == "one row":
        penalty = np.diag([0.3] * X.shape[1] + [0] * intercept)
        one = of_one_row(X, y, W, b, keywords).hessian
        np.testing.assert_allclose(H, one + penalty, rtol=0, atol=1e-12 * H.max())


@pytest.mark.pairs(3)
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
@pytest.mark.parametrize("N, D", [(3001, 23), (20011, 7), (300, 250)])
def test_the_hessian_of_many_samples_is_symmetric_and_has_its_products(isa, tolerance, stored, N, D, Objective):
    K = 2 if Objective is BinomialObjective else 5
    rng = np.random.default_rng(N)
    X, y = stored(rng.standard_normal((N, D)).astype(tolerance.dtype)), rng.integers(0, K, N)
    s = rng.exponential(size=N)
    w = rng.standard_normal((1 if K == 2 else K) * (D + 1)) / D
    objectives = [Objective(X, y, l2=0.3, sample_weight=s, n_threads=n) for n in (1, 2, 3)]
    H, *others = [objective.hessian(w) for objective in objectives]
    for other in others:
        np.testing.assert_array_equal(other, H)
    np.testing.assert_array_equal(H, H.T)
    v = rng.standard_normal(len(w))
    close(H @ v, objectives[0].hessp(w, v), tolerance, 10)


def few_entries(N, D, each, dtype, kind):
    """CSR rows with few entries each; those of a row in order, in any, or several for one feature."""
    rng = np.random.default_rng(D)
    columns = np.array([rng.choice(D, each, replace=False) for _ in range(N)])
    if kind == "ascending":
        columns.sort(axis=1)
    elif kind == "repeated":
        columns[:, 1] = columns[:, 0]
    index = np.int64 if kind == "in any order" else np.int32
    X = scipy.sparse.csr_array((N, D), dtype=dtype)
    keep = rng.random(columns.shape) < np.linspace(1, 0, N)[:, np.newaxis]  # down to none
    X.data, X.indices = rng.standard_normal(columns.shape)[keep].astype(dtype), columns[keep].astype(index)
    X.indptr = np.concatenate([[0], keep.sum(axis=1).cumsum()]).astype(index)
    return X


@pytest.mark.pairs(3)
@pytest.mark.skipif(dispatch.kernels is None, reason="the reference makes an array of CSR rows")
@INTERCEPT
@pytest.mark.parametrize("kind", ["ascending", "in any order", "repeated"])
@pytest.mark.parametrize("N, D, each, K", [(9, 40, 5, 3), (301, 130, 3, 9), (5003, 70, 7, "one row"), (140, 33, 4, 2)])
def test_the_hessian_of_few_entries_a_row_is_that_of_an_array(isa, dtype, N, D, each, K, kind, intercept):
    X, rng = few_entries(N, D, each, dtype, kind), np.random.default_rng(N)
    Objective, K = (BinomialObjective, 2) if K == "one row" else (SoftmaxObjective, K)
    options = {"sample_weight": rng.exponential(size=N), "fit_intercept": intercept, "K": K}
    options["offset"] = rng.standard_normal(N if Objective is BinomialObjective else (N, K)).astype(dtype)
    y = rng.integers(0, K, N)
    found = [Objective(X, y, l2=0.1, n_threads=n, **options) for n in (1, 2, 3)]
    dense = Objective(X.astype(float).toarray(), y, l2=0.1, **options)  # which adds up what is repeated, in double
    w = rng.standard_normal(dense.size)
    way = {"intercept": intercept, "binary": Objective is BinomialObjective, "nnz": X.nnz}
    plan = hessian_plan(N, D, K, dtype.itemsize, isa, **way)
    assert type(plan).__name__ == "EntriesPlan"
    H, *others = [objective.hessian(w) for objective in found]
    np.testing.assert_allclose(H, dense.hessian(w), rtol=0, atol=1e-13 * np.abs(H).max())
    for other in [*others, H.T]:
        np.testing.assert_array_equal(other, H)


@pytest.mark.parametrize("labels", ["labels", "probabilities"])
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
def test_derivatives_are_those_of_the_value(isa, stored, Objective, labels):
    rng = np.random.default_rng(0)
    X, y = stored(rng.standard_normal((50, 4))), rng.integers(0, 2, 50)
    if labels == "probabilities":  # whose rows do not sum to one
        y = rng.exponential(size=(50, 2))
    objective = Objective(X, y, l2=0.1, sample_weight=rng.random(50))
    w, v, step = rng.standard_normal(objective.size), rng.standard_normal(objective.size), 1e-5
    up, down = objective.value_and_grad(w + step * v), objective.value_and_grad(w - step * v)
    _, grad = objective.value_and_grad(w)
    np.testing.assert_allclose((up[0] - down[0]) / (2 * step), grad @ v, rtol=1e-8)
    np.testing.assert_allclose((up[1] - down[1]) / (2 * step), objective.hessp(w, v), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(objective.hessian(w) @ v, objective.hessp(w, v), rtol=1e-10)


def test_binomial_is_the_softmax_with_a_zero_row(stored):
    rng = np.random.default_rng(1)
    X, y = stored(rng.standard_normal((60, 5))), rng.integers(0, 2, 60)
    two, one = SoftmaxObjective(X, y), BinomialObjective(X, y, l2=0.5)
    coef, b = rng.standard_normal(5), 0.3
    w = np.concatenate([np.zeros(5), coef, [0, b]])
    np.testing.assert_allclose(one.value(np.append(coef, b)), two.value(w) + 0.25 * coef @ coef)
    of_two = two.hessian(w)[[5, 6, 7, 8, 9, 11]][:, [5, 6, 7, 8, 9, 11]] + np.diag([0.5] * 5 + [0])
    np.testing.assert_allclose(one.hessian(np.append(coef, b)), of_two, atol=1e-12)


@pytest.mark.parametrize("K", [7, "one row"])
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
def test_evaluate_gives_the_losses_and_accuracy_of_the_reference(isa, tolerance, storage, labels, K, make):
    objective, w, _, (X, y, W, b), keywords = make(301, 9, K, tolerance.dtype, labels=labels, storage=storage)
    Z = reference.scores(X, W, b)
    got = objective.evaluate(w)
    assert got.value == objective.value(w)
    np.testing.assert_allclose(got.losses, reference.losses(Z, y), rtol=tolerance.rtol, atol=tolerance.rtol)
    if labels == "labels":
        right = np.average(Z.argmax(axis=1) == y, weights=keywords["sample_weight"])
        np.testing.assert_allclose(got.accuracy, right, atol=1e-12)
    else:
        assert np.isnan(got.accuracy)


@pytest.mark.skipif(dispatch.kernels is None, reason="the reference has no threads")
@pytest.mark.parametrize("shape", [(3000, 30, 10), (1500, 10, 200), OWNED, (40_000, 9, "one row")], ids=str)
def test_every_number_of_threads_gives_an_objective_the_same_bits(isa, dtype, storage, shape, make):
    results = []
    for n_threads in (1, 2, 3):
        objective, w, v, *_ = make(*shape, dtype, labels="probabilities", n_threads=n_threads, storage=storage)
        solve = objective.preconditioner(w)
        results.append((*objective.value_and_grad(w), objective.value(w), objective.hessp(w, v), solve(v)))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.pairs(3)
@pytest.mark.parametrize("layout", [
    np.asfortranarray, lambda X: X[:, ::-1][:, ::-1], lambda X: X.astype(X.dtype.newbyteorder()),
    lambda X: np.pad(X, ((0, 0), (0, 9)))[:, :-9],  # behind whose last row there are numbers to read
], ids=["columns", "reversed", "swapped", "padded"])  # fmt: skip
@pytest.mark.parametrize("N, D", [(503, 21), (50, 700)], ids=["blocks", "diagonal"])  # of the preconditioner
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
def test_layouts_of_X_give_an_objective_the_same_bits(isa, dtype, Objective, layout, N, D):
    rng = np.random.default_rng(3)
    X, y = rng.standard_normal((N, D)).astype(dtype), rng.integers(0, 2 if Objective is BinomialObjective else 5, N)
    plain, other = Objective(X, y), Objective(layout(X), y)
    w, v = rng.standard_normal((2, plain.size))
    for ask in (lambda f: f.value_and_grad(w)[1], lambda f: f.hessp(w, v)):
        np.testing.assert_array_equal(ask(plain), ask(other))
    if plain.size < 200:
        np.testing.assert_array_equal(plain.hessian(w), other.hessian(w))
    np.testing.assert_array_equal(plain.preconditioner(w)(v), other.preconditioner(w)(v))


def test_what_lies_behind_the_last_row_changes_no_bit(isa, dtype):
    """Few features fill no vector: whether one may be read whole at a row's end depends on what lies behind it."""
    rng = np.random.default_rng(4)
    for N in range(497, 514):  # ends within and between groups of rows
        X, y = rng.standard_normal((N, 3)).astype(dtype), rng.integers(0, 2, N)
        room = np.pad(X, ((0, 0), (0, 9)))[:, :-9]
        w = rng.standard_normal(4)
        gradients = [BinomialObjective(each, y).value_and_grad(w)[1] for each in (X, room)]
        np.testing.assert_array_equal(*gradients, err_msg=f"N = {N}")


@pytest.mark.parametrize("K", [3, "one row"])
def test_vectors_at_any_address_give_the_same_bits(isa, dtype, storage, K, make):
    """Dask's messages hold them so; the kernels read a double at a multiple of 8 alone (UndefinedBehaviorSanitizer)."""
    objective, w, v, *_ = make(150, 4, K, dtype, storage=storage)
    other_w, other_v = (np.frombuffer(b"\0" + vector.tobytes(), np.uint8)[1:].view(np.float64) for vector in (w, v))
    assert not other_w.flags.aligned
    for a, b in [
        (objective.value_and_grad(w)[1], objective.value_and_grad(other_w)[1]),
        (objective.hessp(w, v), objective.hessp(other_w, other_v)),
    ]:
        np.testing.assert_array_equal(a, b)
    assert objective.value(w) == objective.value(other_w)


def test_without_a_penalty_the_loss_is_that_of_loss_grad(isa, dtype, storage, make):
    objective, w, _, (X, y, W, b), keywords = make(150, 4, 3, dtype, l2=0.0, storage=storage)
    want = loss_grad(X.astype(dtype), y, W, b, **keywords)
    value, grad = objective.value_and_grad(w)
    assert value == want.loss
    np.testing.assert_array_equal(grad, flat(want.dW, want.db))


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"l2": -1.0}, r"l2 must be finite and not negative, got -1\.0"),
        ({"l2": np.nan}, "l2 must be finite"),
        ({"y": [0, 5]}, "y has the label 5 in 2 samples"),
        ({"sample_weight": [0, 0]}, "sample_weight sums to 0"),
        ({"y": [[0.5, -0.5], [1, 0]]}, r"y\[0, 1\] = -0\.5 must be finite and not negative"),
    ],
)
def test_bad_arguments_of_an_objective_are_refused(arguments, error):
    with pytest.raises(ValueError, match=error):
        SoftmaxObjective(**({"X": np.ones((2, 3)), "y": [0, 1]} | arguments))


@pytest.mark.parametrize("method", ["value", "value_and_grad", "hessian", "evaluate"])
def test_w_of_another_size_is_refused(method):
    objective = SoftmaxObjective(np.ones((2, 3)), [0, 1])
    with pytest.raises(ValueError, match=r"w must be a vector of K D \+ K = 8 entries, got \(9,\)"):
        getattr(objective, method)(np.zeros(9))


@pytest.mark.parametrize("level", [dispatch.REFERENCE, *dispatch.available()[-1:]], indirect=True)
@pytest.mark.parametrize("labels", ["labels", "probabilities"])
def test_parts_add_up_to_the_whole(tolerance, storage, level, labels, make_problem):
    """They have the m of the whole, and K where the labels do not tell it."""
    kinds = {"labels": labels, "weights": "sample_weight", "storage": storage}
    (X, y, W, b), keywords = make_problem(301, 7, 4, tolerance.dtype, **kinds)
    s = keywords["sample_weight"]
    whole, w = SoftmaxObjective(X, y, sample_weight=s, K=4), flat(W, b).astype(float)
    parts = [
        SoftmaxObjective(X[rows], y[rows], sample_weight=s[rows], K=4, m=s.sum())
        for rows in (slice(0, 100), slice(100, 103), slice(103, None))
    ]
    np.testing.assert_allclose(sum(part.value(w) for part in parts), whole.value(w), rtol=tolerance.rtol)
    close(sum(part.value_and_grad(w)[1] for part in parts), whole.value_and_grad(w)[1], tolerance)
    close(sum(part.hessp(w, w) for part in parts), whole.hessp(w, w), tolerance)
    if labels == "labels":
        close(sum(part.hessian(w) for part in parts), whole.hessian(w), tolerance)


@pytest.mark.parametrize("m", [0, -1.0, np.nan, np.inf])
def test_an_m_that_is_not_positive_is_refused(m):
    with pytest.raises(ValueError, match="m must be"):
        SoftmaxObjective([[1.0]], [0], m=m)


def test_one_row_of_more_than_a_million_features_is_that_of_those_in_use(isa, dtype):
    """A gradient for each slice would take too much, so this is the pass of two classes with two rows."""
    rng = np.random.default_rng(5)
    N, D = 60, 1_400_000
    columns = rng.integers(0, D, 5 * N)
    X = scipy.sparse.csr_array((rng.standard_normal(5 * N).astype(dtype), columns, 5 * np.arange(N + 1)), shape=(N, D))
    y, used = rng.integers(0, 2, N), np.unique(columns)
    wide, narrow = BinomialObjective(X, y, l2=0.1), BinomialObjective(X[:, used], y, l2=0.1)
    w = np.zeros(D + 1)
    w[used], w[D] = rng.standard_normal(len(used)), 0.3
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    at = np.append(used, D)
    np.testing.assert_allclose(wide.value(w), narrow.value(w[at]), rtol=tolerance)
    for ask in (lambda f, w: f.value_and_grad(w)[1], lambda f, w: f.hessp(w, w)):
        np.testing.assert_allclose(ask(wide, w)[at], ask(narrow, w[at]), rtol=0, atol=tolerance)


@pytest.mark.parametrize("shape", [(37, 10, 7), (40, 17, "one row")], ids=str)
def test_a_kept_pass_follows_what_changes(dtype, storage, shape, make):
    def fresh():
        return make(*shape, dtype, storage=storage)[:2]

    def same(objective, other):
        for got, want in zip(objective.value_and_grad(w), other.value_and_grad(w), strict=True):
            np.testing.assert_array_equal(got, want)

    objective, w = fresh()
    for level in [*dispatch.available(), dispatch.REFERENCE]:
        with dispatch.using(level):
            same(objective, fresh()[0])
    objective.l2, objective.n_threads = 0.7, 2
    other = make(*shape, dtype, storage=storage, l2=0.7)[0]
    same(objective, other)
    s = np.random.default_rng(0).random(objective.N)
    same(objective.weighing(s), other.weighing(s))
    same(objective, other)  # whose weights are as they were
    objective.penalty = Penalty(0.7, weights=np.arange(objective.D))
    assert objective.value_and_grad(w)[0] == objective.value(w)
    again = pickle.loads(pickle.dumps(other))
    same(again, other)


def test_calls_at_the_same_time_have_arrays_of_their_own(dtype, storage, make):
    objective, w = make(150, 4, 3, dtype, storage=storage)[:2]
    points = [w * t for t in np.linspace(-2, 2, 64)]
    want = [objective.value_and_grad(point) for point in points]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            for (value, grad), (value_, grad_) in zip(pool.map(objective.value_and_grad, points), want, strict=True):
                assert value == value_ and (grad == grad_).all()


@pytest.mark.parametrize("targets", ["labels", "probabilities"])
@pytest.mark.parametrize("K", ["one row", 3, 65, 200])
def test_what_a_pass_multiplies_by_is_never_subnormal(isa, dtype, K, targets):
    """Since such products take many times as long; see "Subnormal residuals" in docs/notes.md."""
    if isa == dispatch.REFERENCE:
        pytest.skip("it is NumPy")
    tiny, begin, end = float(np.finfo(dtype).tiny), *((70, 110) if dtype == np.float32 else (680, 760))
    for margin in np.linspace(begin, end, 33).astype(dtype):
        y = np.array([0]) if targets == "labels" else np.eye(1, 2 if K == "one row" else K)
        Objective = BinomialObjective if K == "one row" else SoftmaxObjective
        objective = Objective(np.ones((1, 1), dtype), y, fit_intercept=False, K=2 if K == "one row" else K)
        w = np.full(objective.size, -float(margin))
        if K != "one row":
            w[0] = 0
        _, grad = objective.value_and_grad(w)
        product = objective.hessp(w, np.arange(1.0, objective.size + 1))
        share = np.exp(-float(margin)) / (1 + (len(w) - 1) * np.exp(-float(margin)))
        assert grad[-1] == pytest.approx(share, rel=1e-4, abs=2 * tiny * 2**10)
        for result in (grad, product):
            assert ((result == 0) | (abs(result) >= tiny)).all(), margin
    assert grad[-1] == 0 and product[-1] == 0


@pytest.mark.parametrize("K, D", [(2, 1), (3, 1), (9, 1), (9, 2), (10, 384), (17, 63), (40, 2000)])
def test_a_model_has_the_bits_of_numpys_means(isa, K, D, dtype):
    w, layout = np.random.default_rng([K, D]).standard_normal(K * (D + 1)), Parameters(K, D, True)
    W, b = layout.views(w)
    got = layout.model(w, dtype)
    for have, want in zip(got, (W - W.sum(axis=0) / K, b - b.sum() / K), strict=True):
        assert have.dtype == dtype
        np.testing.assert_array_equal(have, want.astype(dtype))
