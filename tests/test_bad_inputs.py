"""Every refusal: the exception, and that its message names the argument, the value, its index and the way out."""

import re

import numpy as np
import pytest
import scipy.sparse

from softmax_ext import loss_grad, predict_proba, reference

N, D, K = 4, 3, 5
nan, inf = np.nan, np.inf


def arguments():
    return {"X": np.ones((N, D)), "y": np.arange(N), "W": np.ones((K, D)), "b": np.ones(K)}


def with_entry(array, index, value):
    array[index] = value
    return array


def objects(value, index=(2, 1)):
    return with_entry(np.ones((N, D), object), index, value)


Y = np.full((N, K), 0.2)

# What is wrong with X, W and b; loss_grad and predict_proba must agree.
BAD_SCORES = [
    ({"X": np.ones(D)}, ValueError, "X must be 2-D, (N, D), got 1-D with shape (3,): one sample is X.reshape(1, -1)"),
    ({"X": np.ones((2, N, D))}, ValueError, "X must be 2-D, (N, D), got 3-D with shape (2, 4, 3)"),
    ({"X": np.float64(1)}, TypeError, "X must be an array, (N, D), got a scalar: np.float64(1.0)"),
    ({"X": None}, TypeError, "X must hold real numbers, got dtype object with X = None"),
    ({"X": np.ones((0, D)), "y": []}, ValueError, "X has 0 sample(s) and 3 feature(s)"),
    ({"X": np.ones((N, 0)), "W": np.ones((K, 0))}, ValueError, "X has 4 sample(s) and 0 feature(s)"),
    ({"X": np.ones((N, D)) + 1j}, ValueError, "Complex data not supported: X has dtype complex128 with X[0, 0]"),
    ({"X": with_entry(np.ones((N, D), "F"), (2, 1), 3j)}, ValueError, "complex64 with X[2, 1] = np.complex64(3j)"),
    ({"X": objects("three")}, TypeError, "X must hold real numbers, got dtype object with X[2, 1] = 'three'"),
    ({"X": objects(1j)}, TypeError, "X must hold real numbers, got dtype object with X[2, 1] = 1j"),
    ({"X": objects(7.0)}, TypeError, "X must hold real numbers, got dtype object with X[0, 0] = 1"),
    ({"X": np.full((N, D), "1")}, TypeError, "X must hold real numbers, got dtype <U1 with X[0, 0] = np.str_('1')"),
    ({"X": np.full((N, D), b"1")}, TypeError, "X must hold real numbers, got dtype |S1"),
    ({"X": np.zeros((N, D), "M8[s]")}, TypeError, "X must hold real numbers, got dtype datetime64[s]"),
    ({"X": np.zeros((N, D), "m8[s]")}, TypeError, "X must hold real numbers, got dtype timedelta64[s]"),
    ({"X": np.zeros((N, D), "V3")}, TypeError, "X must hold real numbers, got dtype |V3"),
    ({"X": np.zeros((N, D), [("a", "f8")])}, TypeError, "X must hold real numbers, got dtype [('a', '<f8')]"),
    ({"X": [[1, 2], [3]]}, ValueError, "X (list) cannot be read as an array"),
    ({"X": np.ma.ones((N, D))}, TypeError, "X is a masked array and its mask would be ignored: fill it, with X.fill"),
    ({"W": np.ones((D, K))}, ValueError, "D = 3 columns as X has, got shape (3, 5): pass W.T"),
    ({"W": np.ones((K, D + 1))}, ValueError, "D = 3 columns as X has, got shape (5, 4)"),
    ({"W": np.ones((0, D))}, ValueError, "W must be (K, D) with K >= 1 rows"),
    ({"W": np.ones(D)}, ValueError, "W must be 2-D, (K, D), got 1-D with shape (3,)"),
    ({"W": np.ones((K, D)) * 1j}, ValueError, "Complex data not supported: W has dtype complex128 with W[0, 0]"),
    ({"W": np.ones((K, D), object)}, TypeError, "W must hold real numbers, got dtype object with W[0, 0] = 1"),
    ({"W": None}, TypeError, "W must hold real numbers"),
    ({"W": scipy.sparse.csr_array(np.ones((K, D)))}, TypeError, "W is sparse (csr_array)"),
    ({"W": np.ma.ones((K, D))}, TypeError, "W is a masked array"),
    ({"b": np.ones(D)}, ValueError, "b has 3 entries, but W has 5 rows: b must be (K,)"),
    ({"b": np.ones((K, 1))}, ValueError, "b must be 1-D, (K,), got 2-D with shape (5, 1)"),
    ({"b": 1.0}, TypeError, "b must be an array, (K,), got a scalar: np.float64(1.0)"),
    ({"b": ["a"] * K}, TypeError, "b must hold real numbers, got dtype <U1 with b[0] = np.str_('a')"),
    ({"b": [1, 2, 3j, 4, 5]}, ValueError, "Complex data not supported: b has dtype complex128 with b[2]"),
    ({"n_threads": 0}, ValueError, "n_threads"),
    ({"n_threads": True}, TypeError, "n_threads"),
    ({"n_threads": 1.0}, TypeError, "n_threads"),
    ({"n_threads": "2"}, TypeError, "n_threads"),
]  # fmt: skip

# What is wrong with targets and weights.
BAD_TARGETS = [
    ({"y": [0, 5, 1, 5]}, ValueError, "y[1] = 5 is out of range: labels must be in 0..4, the rows of W"),
    ({"y": [0, 1, -1, 9]}, ValueError, "y[2] = -1 is out of range"),
    ({"y": [0, 1, 2, -(2**63)]}, ValueError, "y[3] = -9223372036854775808 is out of range"),
    ({"y": [0, 2**40, 2, 3]}, ValueError, "y[1] = 1099511627776 is out of range"),
    ({"y": np.array([0, 1, 2**63 + 1, 3], np.uint64)}, ValueError, "y[2] = 9223372036854775809 is out of range"),
    ({"y": np.array([0, 2**64 - 1, 1, 3], np.uint64)}, ValueError, "y[1] = 18446744073709551615 is out of range"),
    ({"y": np.array([0, 1, 2, 200], np.uint8)}, ValueError, "y[3] = 200 is out of range"),
    ({"y": np.array([0, 1, 2, -1], ">i2")}, ValueError, "y[3] = -1 is out of range"),
    ({"y": [0, 1, 1.5, 2]}, TypeError, "dtype float64, y[2] = np.float64(1.5): a label must be a whole number"),
    ({"y": [0, 1, 1, nan]}, TypeError, "dtype float64, y[3] = np.float64(nan): a label must be a whole number"),
    ({"y": [0, inf, 1, 2]}, TypeError, "dtype float64, y[1] = np.float64(inf): a label must be a whole number"),
    ({"y": [0.0, 1.0, 2.0, 3.0]}, TypeError, "dtype float64, y[0] = np.float64(0.0): use y.astype(int)"),
    ({"y": [True, False, True, False]}, TypeError, "dtype bool, y[0] = np.True_: use y.astype(int)"),
    ({"y": list("abca")}, TypeError, "y[0] = np.str_('a'): encode them with np.unique(y, return_inverse=True)[1]"),
    ({"y": np.arange(N).astype(object)}, TypeError, "y must hold integer labels, got dtype object, y[0] = 0"),
    ({"y": np.arange(N).astype("M8[s]")}, TypeError, "y must hold integer labels, got dtype datetime64[s]"),
    ({"y": np.arange(N) * 1j}, ValueError, "Complex data not supported: y has dtype complex128 with y[1]"),
    ({"y": [0, 1, 2]}, ValueError, "y has 3 labels, but X has 4 samples"),
    ({"y": np.zeros(0, int)}, ValueError, "y has 0 labels, but X has 4 samples"),
    ({"y": 1}, TypeError, "y must be (N,) labels or (N, K) probabilities, got a scalar: np.int64(1)"),
    ({"y": None}, TypeError, "y must be (N,) labels or (N, K) probabilities, got a scalar: None"),
    ({"y": np.zeros((N, 1), int)}, ValueError, "as X and W have, got shape (4, 1): labels are 1-D, use y.ravel()"),
    ({"y": np.zeros((N, K, 1))}, ValueError, "(N,) labels or (N, K) probabilities, got 3-D with shape (4, 5, 1)"),
    ({"y": Y.T}, ValueError, "y as probabilities must be (N, K) = (4, 5), as X and W have, got shape (5, 4)"),
    ({"y": Y * 1j}, ValueError, "Complex data not supported: y has dtype complex128 with y[0, 0]"),
    ({"y": Y.astype(object)}, TypeError, "y must hold real numbers, got dtype object with y[0, 0] = 0.2"),
    ({"y": np.ma.array(Y)}, TypeError, "y is a masked array"),
    ({"y": np.ma.arange(N)}, TypeError, "y is a masked array"),
    ({"y": scipy.sparse.csr_array(Y)}, TypeError, "y is sparse"),
    ({"y": with_entry(Y.copy(), (3, 2), -0.1)}, ValueError, "y[3, 2] = -0.1 must be finite and not negative"),
    ({"y": with_entry(Y.copy(), (1, 4), nan)}, ValueError, "y[1, 4] = nan must be finite and not negative"),
    ({"y": with_entry(Y.copy(), (0, 0), inf)}, ValueError, "y[0, 0] = inf must be finite and not negative"),
    ({"y": -np.eye(N, K, dtype=int)}, ValueError, "y[0, 0] = -1.0 must be finite and not negative"),
    ({"sample_weight": [1, 1, -1, -2]}, ValueError, "sample_weight[2] = -1.0 must be finite and not negative"),
    ({"sample_weight": [1, nan, 1, 1]}, ValueError, "sample_weight[1] = nan must be finite and not negative"),
    ({"sample_weight": [1, 1, 1, inf]}, ValueError, "sample_weight[3] = inf must be finite and not negative"),
    ({"sample_weight": [0, 0, 0, 0]}, ValueError, "sample_weight sums to 0.0 over the samples: the sum must be"),
    ({"sample_weight": [1e308] * N}, ValueError, "sample_weight sums to inf over the samples"),
    ({"sample_weight": np.ones(3)}, ValueError, "sample_weight has 3 entries, but (N,) = (4,) is needed"),
    ({"sample_weight": np.ones((N, 1))}, ValueError, "sample_weight must be 1-D, (N,), got 2-D with shape (4, 1)"),
    ({"sample_weight": 1.0}, TypeError, "sample_weight must be an array, (N,), got a scalar"),
    ({"sample_weight": list("abcd")}, TypeError, "sample_weight must hold real numbers, got dtype <U1"),
    ({"sample_weight": np.ones(N) * 1j}, ValueError, "Complex data not supported: sample_weight has dtype complex128"),
    ({"sample_weight": np.ma.ones(N)}, TypeError, "sample_weight is a masked array"),
    ({"class_weight": [1, 1, 1, 1, -1]}, ValueError, "class_weight[4] = -1.0 must be finite and not negative"),
    ({"class_weight": np.ones(N)}, ValueError, "class_weight has 4 entries, but (K,) = (5,) is needed"),
    ({"class_weight": 2.0}, TypeError, "class_weight must be an array, (K,), got a scalar"),
    ({"class_weight": "equal"}, ValueError, "class_weight must be \"balanced\", a dict or a (K,) array, got 'equal'"),
    ({"class_weight": {0: 1, 5: 1}}, ValueError, "class_weight has the key 5: keys must be integer labels in 0..4"),
    ({"class_weight": {-1: 1}}, ValueError, "class_weight has the key -1"),
    ({"class_weight": {"a": 1}}, ValueError, "class_weight has the key 'a'"),
    ({"class_weight": {True: 1}}, ValueError, "class_weight has the key True"),
    ({"class_weight": {1.0: 1}}, ValueError, "class_weight has the key 1.0"),
    ({"class_weight": {2: nan}}, ValueError, "class_weight[2] = nan must be finite and not negative"),
    ({"class_weight": {2: "1"}}, TypeError, "class_weight[2] must be a real number, got '1'"),
    ({"class_weight": {2: 10**400}}, ValueError, "class_weight[2] = 1000"),
    ({"class_weight": dict.fromkeys(range(K), 0)}, ValueError, "class_weight sums to 0.0 over the samples"),
    ({"class_weight": np.ones(K), "y": Y}, ValueError, "class_weight needs integer labels, but y holds probabilities"),
    ({"class_weight": "balanced", "y": Y}, ValueError, "class_weight needs integer labels"),
    ({"class_weight": [1e-200] * K, "sample_weight": [1e-200] * N}, ValueError, "times class_weight sums to 0.0"),
    ({"label_smoothing": -0.1}, ValueError, "label_smoothing must be in [0, 1], got -0.1"),
    ({"label_smoothing": 2}, ValueError, "label_smoothing must be in [0, 1], got 2"),
    ({"label_smoothing": nan}, ValueError, "label_smoothing must be in [0, 1], got nan"),
    ({"label_smoothing": "0.1"}, TypeError, "label_smoothing must be a real number, got '0.1'"),
    ({"label_smoothing": None}, TypeError, "label_smoothing must be a real number, got None"),
    ({"label_smoothing": True}, TypeError, "label_smoothing must be a real number, got True"),
    ({"label_smoothing": [0.1]}, TypeError, "label_smoothing must be a real number, got [0.1]"),
]  # fmt: skip


# The reference has no threads to refuse a number of.
THE_GATES = [case for case in BAD_SCORES + BAD_TARGETS if "n_threads" not in case[0]]


def out_of(**how):
    """A good `out` but for what `how` says."""
    return np.empty(**{"shape": (N, K), "dtype": float} | how)


def read_only():
    out = out_of()
    out.flags.writeable = False
    return out


def misaligned():
    return np.frombuffer(bytearray(N * K * 8 + 1), float, offset=1).reshape(N, K)


BAD_OUT = [
    (out_of(shape=(N, K + 1)), ValueError, "out must be (4, 5) of native float64, got (4, 6) of <f8 (float64)"),
    (out_of(shape=N * K), ValueError, "out must be (4, 5) of native float64, got (20,)"),
    (out_of(dtype="f4"), ValueError, "got (4, 5) of <f4 (float32)"),
    (out_of(dtype=np.dtype("f8").newbyteorder()), ValueError, "out must be (4, 5) of native float64, got (4, 5) of"),
    (out_of(order="F"), ValueError, "out must be C-contiguous, aligned and writeable"),
    (out_of(shape=(2 * N, K))[::2], ValueError, "aligned and writeable: use np.empty((N, K), dtype)"),
    (misaligned(), ValueError, "out must be C-contiguous, aligned"),
    (read_only(), ValueError, "out must be C-contiguous, aligned and writeable"),
    (np.ma.array(out_of()), TypeError, "out must be a NumPy array, got MaskedArray"),
    ([[0.0] * K] * N, TypeError, "out must be a NumPy array, got list"),
]  # fmt: skip


def call(function, changes):
    given = arguments() | changes
    if function is predict_proba:
        del given["y"]
    return function(**given)


@pytest.mark.parametrize("changes, error, message", BAD_SCORES + BAD_TARGETS)
def test_loss_grad_names_what_it_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(loss_grad, changes)


@pytest.mark.parametrize("changes, error, message", THE_GATES)
def test_the_reference_names_what_it_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(reference.loss_grad, changes)


@pytest.mark.parametrize("changes, error, message", BAD_SCORES)
def test_predict_proba_names_what_it_refuses(changes, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(predict_proba, {"out": np.empty((N, K))} | changes)


@pytest.mark.parametrize("out, error, message", BAD_OUT)
def test_an_out_that_cannot_be_written_is_refused(out, error, message):
    with pytest.raises(error, match=re.escape(message)):
        call(predict_proba, {"out": out})


@pytest.mark.parametrize("name", ["X", "W", "b"])
def test_out_that_overlaps_an_input_is_refused(name):
    memory = np.ones(N * K + K * K)
    shapes = {"X": (N, K), "W": (K, K), "b": (K,)}
    given = {other: np.ones(shape) for other, shape in shapes.items()}
    shape = shapes[name]
    given[name] = memory[N * K - 1 :][: np.prod(shape)].reshape(shape)  # shares one entry with out
    with pytest.raises(ValueError, match=f"out overlaps {name}, which is read while out is written"):
        predict_proba(*given.values(), out=memory[: N * K].reshape(N, K))
    assert (memory == 1).all()


@pytest.mark.parametrize("case", BAD_SCORES[3:])
def test_nothing_is_written_on_an_error(case):
    out = np.full((N, K), 7.0)
    with pytest.raises((ValueError, TypeError)):
        call(predict_proba, {"out": out} | case[0])
    assert (out == 7).all()


def test_a_bad_label_far_in_is_found_before_any_work():
    y = np.zeros(100_000, np.int8)
    y[[99_990, 99_995]] = 2, -1
    with pytest.raises(ValueError, match=re.escape("y[99990] = 2 is out of range: labels must be in 0..1")):
        loss_grad(np.ones((100_000, 1)), y, np.ones((2, 1)))


def test_a_bad_probability_far_in_is_found_under_its_own_index():
    Y = np.zeros((100_000, 2), np.float32)
    Y[99_990, 1] = -1
    for X in (np.ones((100_000, 1)), np.ones((100_000, 1), np.float32)):
        with pytest.raises(ValueError, match=re.escape("y[99990, 1] = -1.0 must be finite and not negative")):
            loss_grad(X, Y, np.ones((2, 1)))
