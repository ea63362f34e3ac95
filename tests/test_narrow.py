"""Samples of one or two bytes a number: everything that takes them gives the bits that it gives for their floats."""

import functools
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import clone

from softmax_ext import chunks, linear_cross_entropy, loss_grad, optim, predict_proba
from softmax_ext._core import plan
from softmax_ext._core.plan import hessian_plan
from softmax_ext._fit import prediction, readable
from softmax_ext._inputs.csr import CSR, check_csr
from softmax_ext._inputs.dtypes import COMPUTES_IN
from softmax_ext.linear_model import LogisticRegression, LogisticRegressionCV, logistic_regression_path
from softmax_ext.objective import BinomialObjective, SoftmaxObjective

KINDS = ["float16", "bfloat16", "int8", "uint8"]
# Of few features, whole vectors and not, of a row that is summed in parts; few classes and many; in slices and owned.
SHAPES = [(5, 1, 2), (37, 23, 5), (700, 256, 10), (20011, 30, 7), (1003, 40, 150), (333, 1024, 1100)]


def narrow(X, kind):
    """Return numbers of this type: among those of a float16 subnormal ones, and zeros of both signs."""
    if kind == "float16":
        X = X.astype(np.float16)
        X[::5] *= np.float16(1e-5)
        return X
    if kind == "bfloat16":
        return X.astype(pytest.importorskip("ml_dtypes").bfloat16)
    return (20 * X).clip(*((-128, 127) if kind == "int8" else (0, 255))).astype(kind)


@functools.cache
def problem(kind, N, D, K):
    rng = np.random.default_rng([N, D, K])
    X = narrow(rng.standard_normal((N, D), np.float32), kind)
    scale = 1 if "float" in kind else 20
    return X, rng.integers(0, K, N), rng.standard_normal((K, D)) / (scale * np.sqrt(D)), rng.standard_normal(K)


def in_memory(X, offset):
    buffer = bytes(offset) + X.tobytes()
    return np.ndarray(X.shape, X.dtype, buffer, offset)


def rows_apart(X):
    wide = np.zeros((len(X), X.shape[1] + 3), X.dtype)
    wide[:, 1:-2] = X
    return wide[:, 1:-2]


LAYOUTS = {
    "C order": lambda X: X,
    "Fortran order": np.asfortranarray,
    "rows apart": rows_apart,
    "rows backwards": lambda X: X[::-1].copy()[::-1],
    "all backwards": lambda X: X[::-1, ::-1].copy()[::-1, ::-1],
    "every third column": lambda X: X.repeat(3, axis=1)[:, ::3],
    "one row for all": lambda X: np.broadcast_to(X[0], X.shape),
    "misaligned": lambda X: in_memory(X, 1),
    "read only": lambda X: in_memory(X, 64),
}


def of_loss_grad(X, y, W, b):
    return loss_grad(X, y, W, b, sample_weight=np.arange(len(y)) % 3 + 0.5, label_smoothing=0.1)


def of_predict_proba(X, y, W, b):
    return [predict_proba(X, W, b)]


def of_linear_cross_entropy(X, y, W, b):
    return linear_cross_entropy(X, W, y, linear_bias=b, z_loss=0.1, softcap=30.0, grad_input=True)


def of_targets(X, y, W, b):
    return loss_grad(X, np.eye(len(W), dtype=np.float32)[y], W)[:2]


FUNCTIONS = [of_loss_grad, of_predict_proba, of_linear_cross_entropy, of_targets]


def assert_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert np.asarray(one).dtype == np.asarray(other).dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.pairs(3)
@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_functions_of_narrow_X_give_the_bits_of_float32(isa, kind, shape, function):
    X, y, W, b = problem(kind, *shape)
    want = function(X.astype(np.float32), y, W, b)
    assert_same(function(X, y, W, b), want)
    assert np.asarray(want[-1]).dtype == np.float32


@pytest.mark.pairs
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_layout_of_narrow_X_changes_a_bit(isa, kind, layout):
    for shape in SHAPES[1:5]:
        X, y, W, b = problem(kind, *shape)
        X = layout(X)
        for function in FUNCTIONS[:2]:
            assert_same(function(X, y, W, b), function(X.astype(np.float32), y, W, b))


def test_float16_of_the_other_byte_order_gives_the_bits_of_float32(isa):
    X, y, W, b = problem("float16", 20011, 30, 7)
    for function in FUNCTIONS:
        assert_same(function(X.astype(X.dtype.newbyteorder()), y, W, b), function(X.astype(np.float32), y, W, b))


@pytest.mark.parametrize("kind", ["float16", "int8", "uint8"])
def test_a_memory_mapped_narrow_X_gives_the_bits_of_float32(isa, kind, tmp_path):
    X, y, W, b = problem(kind, 20011, 30, 7)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same(of_loss_grad(mapped, y, W, b), of_loss_grad(X.astype(np.float32), y, W, b))


@pytest.mark.parametrize("D", [1, 7, 8, 15, 16, 17, 31, 64])
@pytest.mark.parametrize("kind", KINDS)
def test_every_narrow_number_is_widened_exactly(isa, kind, D):
    """All are in one gradient, some of them alone, where each is seen; then come those that are not finite."""
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    bits = np.arange(2**8 if kind.endswith("int8") else 2**16).astype("u1" if kind.endswith("int8") else "u2")
    numbers = np.resize(bits.view(problem(kind, 5, 1, 2)[0].dtype), (-(-len(bits) // D), D))
    with np.errstate(invalid="ignore"):  # of signalling NaNs AArch64 tells, and NumPy warns
        wide = numbers.astype(np.float32)
    W = np.zeros((2, D), np.float32)
    X = np.where(np.isfinite(wide), numbers, numbers.dtype.type(1))
    y = np.arange(len(X)) % 2
    assert_same(loss_grad(X, y, W)[:2], loss_grad(X.astype(np.float32), y, W)[:2])
    for i in range(0, len(X), max(1, len(X) // 50)):
        one = slice(i, i + 1)
        np.testing.assert_array_equal(loss_grad(X[one], y[one], W).dW[1 - y[i]], X[i].astype(np.float32) / 2)
    for ours, theirs in zip(loss_grad(numbers, y, W)[:2], loss_grad(wide, y, W)[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)  # which NaN of several a sum is, the compiler decides
    S = predict_proba(numbers, W + 1)
    np.testing.assert_array_equal(S, predict_proba(wide, W + 1))
    assert np.isnan(S[~np.isfinite(wide).all(axis=1)]).all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("Objective", [SoftmaxObjective, BinomialObjective])
def test_objectives_of_narrow_X_give_the_bits_of_float32(isa, kind, Objective):
    for N, D in ((61, 3), (3001, 37), (2000, 256)):
        X, y, _, _ = problem(kind, N, D, 2)
        narrow_, wide = (Objective(X, y, l2=0.1) for X in (X, X.astype(np.float32)))
        rng = np.random.default_rng(0)
        w, v = rng.standard_normal((2, wide.size)) * 0.01

        def all_of(objective, w=w, v=v):
            loss, grad = objective.value_and_grad(w)
            few = [objective.hessian(w)] if objective.size < 100 else []
            preconditioned = objective.preconditioner(w)(v)
            return loss, grad, objective.value(w), objective.hessp(w, v), preconditioned, *objective.evaluate(w), *few

        assert_same(all_of(narrow_), all_of(wide))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("solver", ["lbfgs", "newton-cg", "adam"])
def test_an_estimator_of_narrow_X_gives_the_fit_of_float32(kind, K, solver):
    X, y, _, _ = problem(kind, 700, 20, K)
    options = {"max_iter": 5} if solver == "adam" else {"tol": 1e-6}

    def all_of(X):
        model = LogisticRegression(solver=solver, C=1e-2, random_state=0, **options).fit(X, y)
        predicted = model.predict(X), model.predict_proba(X), model.predict_log_proba(X), model.decision_function(X)
        return model.coef_, model.intercept_, model.loss_curve_, *predicted, model.score(X, y)

    assert_same(all_of(X), all_of(X.astype(np.float32)))
    assert_same(all_of(np.asfortranarray(X)), all_of(X.astype(np.float32)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("N, D, K", [(700, 20, 2), (700, 20, 3), (50, 2000, 3)])
@pytest.mark.parametrize("options", [{}, {"standardize": True}, {"l1_ratio": 0.5, "solver": "saga"}], ids=str)
def test_columns_that_lie_side_by_side_are_not_copied(kind, N, D, K, options, monkeypatch):
    monkeypatch.setattr(readable, "COPIED_BYTES", 0)
    X, y, _, _ = problem(kind, N, D, K)

    def all_of(X):
        model = LogisticRegression(C=1e-2, max_iter=20, **options).fit(X, y)
        return model.coef_, model.intercept_, model.loss_curve_, model.predict(X), model.predict_proba(X)

    want = all_of(X.astype(np.float32))
    assert_same(all_of(np.asfortranarray(X)), want)
    assert_same(all_of(np.repeat(X, 2, axis=1)[:, ::2]), want)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_whole_fit_holds_no_copy_of_narrow_X(kind, order):
    """What NumPy takes for a fit and predictions is less than a copy of X, in either order."""
    X, y, _, _ = problem(kind, 1000, 250 if "float" in kind else 500, 2)
    X, y = np.asarray(np.tile(X, (101, 1)), order=order), np.tile(y, 101)
    model = LogisticRegression(max_iter=1)
    tracemalloc.start()
    try:
        model.fit(X, y)
        model.predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 30 * 2**20 < 0.7 * X.nbytes, peak / 2**20


@pytest.mark.parametrize("kind", KINDS)
def test_few_narrow_samples_of_many_features_give_the_fit_of_float32(kind):
    X, y, _, _ = problem(kind, 50, 2000, 3)
    ours, theirs = (LogisticRegression(C=1e-2).fit(X, y) for X in (X, X.astype(np.float32)))
    assert_same((ours.coef_, ours.intercept_, ours.loss_curve_), (theirs.coef_, theirs.intercept_, theirs.loss_curve_))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", [2, 3])
def test_cross_validation_and_paths_of_narrow_X_give_those_of_float32(kind, K):
    """The coefficients are float32: in the type of X they would be rounded, to 0 among integers."""
    X, y, _, _ = problem(kind, 90, 7, K)
    cv = LogisticRegressionCV(Cs=3, cv=3, scoring="neg_log_loss", l1_ratios=(0,), use_legacy_attributes=False)
    ours, wide = (clone(cv).fit(each, y) for each in (X, X.astype(np.float32)))
    path, wide_path = (logistic_regression_path(each, y, Cs=[0.01, 1.0]) for each in (X, X.astype(np.float32)))
    pairs = [(ours.coef_, wide.coef_), (ours.scores_, wide.scores_), (path.coefs, wide_path.coefs)]
    for a, b in [*pairs, (path.intercepts, wide_path.intercepts), (path.gaps, wide_path.gaps)]:
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()
    assert ours.coef_.dtype == path.coefs.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
def test_partial_fit_of_narrow_X_gives_the_steps_of_float32(kind):
    X, y, _, _ = problem(kind, 700, 20, 3)

    def coefficients(X):
        model = LogisticRegression(random_state=0)
        for rows in np.array_split(np.arange(len(X)), 5):
            model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
        return model.coef_, model.intercept_

    assert_same(coefficients(X), coefficients(X.astype(np.float32)))


@pytest.mark.parametrize("kind", KINDS)
def test_optim_fit_of_narrow_X_gives_the_steps_of_float32(kind):
    X, y, _, _ = problem(kind, 700, 20, 3)
    pair = X, X.astype(np.float32)
    assert_same(*(optim.fit(X, y, optim.adam(0.01), batch_size=64, epochs=2, random_state=0)[:2] for X in pair))


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_estimator_refuses_what_is_not_finite(kind, value):
    X, y, _, _ = problem(kind, 700, 20, 3)
    model = LogisticRegression().fit(X, y)
    X = X.copy()
    X[611, 3] = value
    for call in (lambda: LogisticRegression().fit(X, y), lambda: model.predict(X), lambda: model.partial_fit(X, y)):
        with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
            call()


@pytest.mark.parametrize("kind", ["float16", "bfloat16"])
def test_sparse_rows_of_two_bytes_are_refused(kind):
    X, y, W, b = problem(kind, 37, 23, 5)
    rows = scipy.sparse.csr_array(X.astype(np.float32))
    rows.data = rows.data.astype(X.dtype)
    for call in (lambda: loss_grad(rows, y, W, b), lambda: LogisticRegression().fit(rows, y)):
        with pytest.raises(TypeError, match=r"astype\('float32'\)"):
            call()


def sparse_rows(X, indices):
    """Return CSR with indices of this type, every third number in two parts, out of order."""
    i, j = np.nonzero(X)
    parts = X[i, j].copy()
    parts[::3] = 1
    i, j = np.append(i, i[::3]), np.append(j, j[::3])
    values = np.append(parts, X[i[: len(parts)], j[: len(parts)]][::3] - 1)
    order = np.lexsort((-j, i))
    indptr = np.append(0, np.bincount(i, minlength=len(X)).cumsum())
    found = scipy.sparse.csr_array((values[order], j[order].astype(indices), indptr.astype(indices)), shape=X.shape)
    np.testing.assert_array_equal(widened(found).toarray(), X.astype(np.float32))
    return found


def widened(rows):
    """Return the same entries in float32, where SciPy's astype adds those of one place."""
    return scipy.sparse.csr_array((rows.data.astype(np.float32), rows.indices, rows.indptr), shape=rows.shape)


@pytest.mark.parametrize("indices", [np.int32, np.int64])
@pytest.mark.parametrize("shape", [(37, 23, 2), (700, 60, 10), (700, 2000, 37), (100, 50, 300)], ids=str)
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_sparse_rows_of_one_byte_give_the_bits_of_float32(isa, kind, shape, indices):
    X, y, W, b = problem(kind, *shape)
    X = X * (np.random.default_rng(0).random(X.shape) < 0.2).astype(X.dtype)
    rows = sparse_rows(X, indices)
    wide = widened(rows)
    assert check_csr(rows, "X", COMPUTES_IN).data is rows.data
    for function in (of_loss_grad, of_predict_proba):
        assert_same(function(rows, y, W, b), function(wide, y, W, b))


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("K", [2, 3])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_whole_hessians_widen_some_visits_at_a_time(isa, kind, K, offset, monkeypatch):
    """They are summed from pairs of entries, which are widened some visits at a time."""
    N, D = 9001, 70
    rng = np.random.default_rng(0)
    X, y, _, _ = problem(kind, N, D, K)
    rows = sparse_rows(X * (rng.random(X.shape) < 0.05).astype(X.dtype), np.int32)
    monkeypatch.setattr(plan, "CONVERTED_BYTES", 30_000)
    assert hessian_plan(N, D, K, 4, isa, intercept=True, binary=K == 2, nnz=rows.nnz).cut == "owned"
    added = rng.standard_normal((N, K)) if offset else None
    converted, convert = [], CSR.astype
    monkeypatch.setattr(CSR, "astype", lambda self, kind: (converted.append(self.nnz), convert(self, kind))[1])
    for Objective in [SoftmaxObjective] + [BinomialObjective] * (K == 2):
        narrow, wide = (Objective(each, y, l2=0.1, K=K, offset=added) for each in (rows, widened(rows)))
        w = rng.standard_normal(narrow.size) * 0.01
        assert_same([narrow.hessian(w)], [wide.hessian(w)])
    assert sum(converted) == rows.nnz * (4 - K) and max(converted) < rows.nnz


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("shape", [(700, 20, 2), (700, 20, 3), (60, 1500, 3)], ids=str)
def test_fits_to_sparse_rows_of_one_byte_are_those_of_float32(kind, shape):
    X, y, _, _ = problem(kind, *shape)
    rows = sparse_rows(X, np.int32)
    wide, offset = widened(rows), np.random.default_rng(0).standard_normal((len(y), shape[2]))

    def all_of(X):
        found = []
        for options in ({}, {"standardize": True}, {"solver": "newton-cg"}, {"solver": "sgd", "epochs": 2}):
            model = LogisticRegression(C=1e-3, random_state=0, **options).fit(X, y)
            found += [model.coef_, model.intercept_, model.decision_function(X), model.predict_proba(X, offset)]
        for rows in np.array_split(np.arange(len(y)), 3):
            model.partial_fit(X[rows], y[rows])
        for Objective in [SoftmaxObjective] + [BinomialObjective] * (shape[2] == 2):
            objective = Objective(X, y, l2=0.1)
            w = np.random.default_rng(0).standard_normal(objective.size) * 0.01
            found += [objective.hessp(w, w), objective.preconditioner(w)(w), *objective.evaluate(w)]
            found += [objective.hessian(w)] if objective.size < 100 else []
        return [*found, model.coef_]

    assert_same(all_of(rows), all_of(wide))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
@pytest.mark.parametrize("form", ["coo", "csc", "bsr", "lil", "dok", "dia"])
def test_other_sparse_formats_of_one_byte_are_added_up_in_float32(kind, form):
    """COO may have duplicates, which must not be added modulo 256."""
    X, y, W, b = problem(kind, 37, 23, 5)
    given = scipy.sparse.coo_array(X).asformat(form)
    if form == "coo":
        twice = [np.append(each, each) for each in (given.data, *given.coords)]
        given, X = scipy.sparse.coo_array((twice[0], tuple(twice[1:])), shape=X.shape), X.astype(np.float32) * 2
    wide = scipy.sparse.csr_array(X.astype(np.float32))
    assert_same(of_loss_grad(given, y, W, b), of_loss_grad(wide, y, W, b))
    ours, theirs = (LogisticRegression(C=1e-3).fit(each, y) for each in (given, wide))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-5, atol=1e-7)


def test_the_other_types_of_ml_dtypes_are_refused():
    """One of them has the letter of a type of NumPy's."""
    ml_dtypes = pytest.importorskip("ml_dtypes")
    for kind in (ml_dtypes.float8_e4m3b11fnuz, ml_dtypes.float8_e5m2, ml_dtypes.int4):
        with pytest.raises(TypeError, match="X must hold real numbers, got dtype"):
            loss_grad(np.zeros((3, 2), kind), [0, 1, 0], np.zeros((2, 2)))


@pytest.mark.parametrize("K", [2, 3])
def test_a_file_of_bfloat16_is_told_what_it_is(K, tmp_path):
    X, y, _, _ = problem("bfloat16", 700, 20, K)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    paths = tmp_path / "X.npy", tmp_path / "y.npy"
    with pytest.raises(ValueError, match=r"X.npy holds records .*: dtype=ml_dtypes.bfloat16"):
        chunks.from_npy(*paths)
    with pytest.raises(ValueError, match=r"dtype = float32 is for a file of records of 4 bytes, .* has [|]V2"):
        chunks.from_npy(*paths, dtype=np.float32)
    found = LogisticRegression().fit(chunks.from_npy(*paths, 300, dtype=X.dtype))
    np.save(tmp_path / "X.npy", X.astype(np.float32))
    want = LogisticRegression().fit(chunks.from_npy(*paths, 300))
    assert_same((found.coef_, found.intercept_), (want.coef_, want.intercept_))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("K", [2, 3])
def test_a_model_of_wide_numbers_widens_some_rows_at_a_time(kind, K, monkeypatch):
    X, y, _, _ = problem(kind, 700, 20, K)
    monkeypatch.setattr(prediction, "WIDENED_BYTES", 20 * 8 * 50)
    wide = X.astype(np.float64)
    model, offset = LogisticRegression(C=0.01).fit(wide, y), np.random.default_rng(0).standard_normal((700, K))
    for method in (model.predict_proba, model.decision_function, model.predict):
        np.testing.assert_allclose(method(X), method(wide), rtol=1e-5 if K == 3 else 1e-13, atol=1e-5)
        np.testing.assert_allclose(method(X, offset), method(wide, offset), rtol=1e-5 if K == 3 else 1e-13, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hessian_of_many_narrow_samples_gives_the_bits_of_float32(isa, kind):
    X, y, _, _ = problem(kind, 50021, 19, 2)
    ours, theirs = (BinomialObjective(each, y) for each in (X, X.astype(np.float32)))
    assert ours._centre is not None
    assert_same([ours.hessian(np.zeros(20))], [theirs.hessian(np.zeros(20))])
