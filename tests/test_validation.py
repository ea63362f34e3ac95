"""What the gate hands to the kernels; what it refuses is in test_bad_inputs."""

import numpy as np
import pytest
from sklearn.utils.class_weight import compute_class_weight

from softmax_ext._inputs.dtypes import is_native, native
from softmax_ext._inputs.validation import check_block, check_problem, check_scoring

F4, F8 = np.dtype("f4"), np.dtype("f8")
N, D, K = 4, 3, 5


def problem(X=None, y=None, W=None, b=None, *, sample_weight=None, class_weight=None, label_smoothing=0.0):
    X = np.ones((N, D)) if X is None else X
    W = np.ones((K, D)) if W is None else W
    return check_problem(X, np.arange(N) if y is None else y, W, b, sample_weight, class_weight, label_smoothing)


@pytest.mark.parametrize("kind", ["f4", "f2", "f8", "g", "?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("order", "<>")
def test_dtype_of_X_decides(kind, order):
    X = np.ones((N, D), np.dtype(kind).newbyteorder(order))
    given = problem(X, b=np.arange(K))
    assert given.X is X
    assert given.dtype == given.W.dtype == given.b.dtype == (F4 if kind in ("f2", "f4", "i1", "u1") else F8)
    assert given.dtype.isnative


def test_what_fits_is_not_copied():
    X, Y, s = np.ones((N, D), F4)[::-1], np.ones((N, K), "i2").T.copy().T, np.ones(N)
    W, b = np.ones((K, D), F4), np.ones(K, F4)
    for array in (X, Y, W, b, s):
        array.flags.writeable = False
    given = problem(X, Y, W, b, sample_weight=s)
    assert given.X is X and given.Y is Y and given.W is W and given.b is b and given.s is s
    assert given.y is None


@pytest.mark.parametrize(
    "W", [np.arange(15.0).reshape(D, K).T, np.arange(15).reshape(K, D), np.arange(15.0, dtype=">f8").reshape(K, D)]
)
def test_parameters_become_contiguous_in_the_computing_dtype(W):
    given = problem(W=W, b=np.arange(2.0 * K)[::2])
    np.testing.assert_array_equal(given.W, W)
    np.testing.assert_array_equal(given.b, 2 * np.arange(K))
    assert given.W.flags.carray and given.b.flags.carray


@pytest.mark.parametrize("W", [np.full((K, D), 1e300), np.full((K, D), -np.inf), np.full((K, D), np.nan)])
def test_parameters_beyond_float32_become_infinite_and_stay_not_finite(W):
    np.testing.assert_array_equal(problem(np.ones((N, D), F4), W=W).W, np.where(W == 1e300, np.inf, W))


@pytest.mark.parametrize("kind", ["i1", "u1", "<i2", ">i2", "u2", "<i4", ">i4", "u4", "<i8", ">i8", "<u8", ">u8"])
def test_labels_of_every_integer_dtype_are_taken(kind):
    y = np.array([4, 0, 3, 1], kind)
    for labels in (y, y.repeat(2)[::2], np.frombuffer(b" " + y.tobytes(), y.dtype, offset=1), list(y)):
        given = problem(y=labels)
        np.testing.assert_array_equal(given.y, y)
        assert given.y.dtype == np.intp and given.y.flags.carray and given.Y is None


def test_labels_are_a_copy_so_that_no_thread_can_change_them_after_the_check():
    y = np.arange(N)
    assert not np.shares_memory(problem(y=y).y, y)


@pytest.mark.parametrize("shape", [(N, 1), (N, K)])
def test_a_matrix_holds_probabilities_whatever_its_dtype(shape):
    Y = np.ones(shape, bool)
    given = problem(y=Y, W=np.ones((shape[1], D)))
    assert given.Y is Y and given.y is None


class Frame:
    """What a data frame, a tensor or a dataset is to NumPy."""

    def __init__(self, data):
        self.data = np.asarray(data)

    def __array__(self, dtype=None, copy=None):
        return self.data


class Subclass(np.ndarray):
    pass


def subclass(x):
    return x.view(Subclass)


@pytest.mark.parametrize("like", [np.ndarray.tolist, Frame, subclass])
def test_array_likes_become_arrays(like):
    X, W = np.arange(N * D).reshape(N, D), np.arange(K * D).reshape(K, D)
    y, b = np.arange(N), np.arange(K)
    given = problem(like(X), like(y), like(W), like(b), sample_weight=like(y), class_weight=like(b))
    for ours, theirs in zip((given.X, given.y, given.W, given.b, given.s), (X, y, W, b, y * b[y]), strict=True):
        assert type(ours) is np.ndarray
        np.testing.assert_array_equal(ours, theirs)


def test_without_weights_m_is_the_number_of_samples():
    given = problem(label_smoothing=np.float32(0.25))
    assert given.s is None and given.m == N and given.smoothing == 0.25 and type(given.smoothing) is float


@pytest.mark.parametrize("weight", [[1, 0, 2, 3], np.arange(4, dtype="i1"), np.arange(4, dtype=">f4"), [True] * 4])
def test_sample_weights_become_float64(weight):
    given = problem(sample_weight=weight)
    np.testing.assert_array_equal(given.s, np.asarray(weight, float))
    assert given.s.dtype == F8 and given.s.flags.carray and given.m == np.sum(weight)


@pytest.mark.parametrize("class_weight", [[1, 2, 1, 0.5, 9], {1: 2, np.int8(3): 0.5, 4: np.float32(9)}])
def test_class_weights_multiply(class_weight):
    given = problem(sample_weight=[1, 2, 0, 4], class_weight=class_weight)
    np.testing.assert_array_equal(given.s, [1, 4, 0, 2])
    assert given.m == 7
    np.testing.assert_array_equal(problem(class_weight=class_weight).s, [1, 2, 1, 0.5])


@pytest.mark.parametrize("weighted", [False, True])
def test_balanced_is_what_logistic_regression_computes(weighted, seed):
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 2, 3], 50)  # of 5 classes
    s = rng.exponential(size=50) if weighted else None
    given = problem(np.ones((50, D)), y, class_weight="balanced", sample_weight=s)
    c = dict(zip((0, 2, 3), compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=s), strict=True))
    expected = np.array([c[label] for label in y]) * (1 if s is None else s)
    np.testing.assert_allclose(given.s, expected, rtol=1e-14)


def test_balanced_takes_a_class_without_weight_for_absent():
    given = problem(np.ones((3, D)), [0, 1, 1], class_weight="balanced", sample_weight=[3, 1, 0])
    np.testing.assert_array_equal(given.s, [2, 2, 0])
    given = problem(np.ones((3, D)), [0, 1, 2], class_weight="balanced", sample_weight=[3, 1, 0])
    np.testing.assert_array_equal(given.s, [2, 2, 0])


def test_checks_leave_arguments_as_they_were():
    arrays = [np.array(a) for a in (np.ones((N, D), ">f4"), np.arange(N), np.ones((K, D)), np.ones(K), np.ones(N))]
    class_weight = {0: 2.0}
    before = [array.tobytes() for array in arrays]
    problem(*arrays[:4], sample_weight=arrays[4], class_weight=class_weight)
    assert [array.tobytes() for array in arrays] == before and class_weight == {0: 2.0}


def misaligned(X):
    return np.frombuffer(b"-" + X.tobytes(), X.dtype, offset=1).reshape(X.shape)


X44 = np.arange(16.0).reshape(4, 4)
IN_PLACE = {
    "contiguous": X44,
    "rows apart": X44[:, :3],
    "every second row": X44[::2],
    "rows upwards": X44[::-1],
    "one row for all": np.broadcast_to(X44[1], (4, 4)),
    "one column": X44[:, 2:3],
    "one column, every second row": X44.T[:, 1:2][::2],
}
CONVERTED = {
    "columns apart": X44[:, ::2],
    "columns backwards": X44[:, ::-1],
    "Fortran order": np.asfortranarray(X44),
    "one column for all": np.broadcast_to(X44[:, 1:2], (4, 4)),
    "other byte order": X44.astype(">f8" if np.little_endian else "<f8"),
    "misaligned": misaligned(X44),
    "float32": X44.astype(F4),
    "int": X44.astype(int),
    "rows half an entry apart": np.ndarray((2, 2), F8, np.arange(4.0).tobytes(), strides=(12, 8)),
}


@pytest.mark.parametrize("block", IN_PLACE.values(), ids=IN_PLACE)
def test_native_blocks_are_read_in_place(block):
    assert is_native(block, F8) and native(block, F8) is block


@pytest.mark.parametrize("block", CONVERTED.values(), ids=CONVERTED)
def test_other_blocks_are_converted(block):
    copy = native(block, F8)
    assert not is_native(block, F8) and copy.flags.carray and copy.dtype == F8
    np.testing.assert_array_equal(copy, block)


def test_conversion_of_what_float32_cannot_hold_is_silent():
    np.testing.assert_array_equal(native(np.array([[1e300, -1e300, 1e-300]]), F4), [[np.inf, -np.inf, 0]])


@pytest.mark.parametrize("bad", [-1e-300, -1.0, np.nan, np.inf, -np.inf])
def test_blocks_of_probabilities_name_their_first_bad_entry(bad):
    Y = np.zeros((6, 4))
    check_block(Y, 100)
    Y[4, 2] = Y[5, 0] = bad
    for block in (Y, np.asfortranarray(Y)):
        with pytest.raises(ValueError, match=rf"^y\[104, 2\] = {bad} must be finite and not negative$"):
            check_block(block, 100)


def test_a_bad_probability_that_another_thread_puts_right_is_no_error(monkeypatch):
    """It does between the look that finds it and the one that tells where, which was an IndexError."""
    Y = np.array([[-1.0, 1.0]])
    argwhere = np.argwhere

    def meanwhile(bad):
        Y[...] = 1
        return argwhere(Y < 0)

    monkeypatch.setattr(np, "argwhere", meanwhile)
    check_block(Y, 0)
    assert (Y == 1).all()


def test_scoring_is_in_the_dtype_of_X():
    X, out = np.ones((N, D), F4), np.empty((N, K), F4)
    given = check_scoring(X, np.ones((K, D)), None, out)
    assert given.X is X and given.dtype == given.W.dtype == F4 and given.b is None and given.out is out
    assert check_scoring(X, np.ones((K, D)), np.ones(K), None).out is None


def test_scoring_writes_into_a_file(tmp_path):
    out = np.memmap(tmp_path / "S", F8, "w+", shape=(N, K))
    given = check_scoring(np.ones((N, D)), np.ones((K, D)), None, out)
    assert np.shares_memory(given.out, out)
