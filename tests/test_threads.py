"""The same bits for every number of threads, from every Python thread, in every run."""

import concurrent.futures
import threading

import numpy as np
import pytest

from softmax_ext import loss_grad, predict_proba
from softmax_ext._fit.scores import scores

# One shape or more for every way of cutting the work: by slices of rows, by classes within a tile, not at all.
SHAPES = [
    (1, 1, 1), (9, 3, 2), (97, 5, 67), (1000, 10, 3), (5003, 54, 7), (3001, 784, 10), (2048, 16, 17), (701, 33, 1000),
    (67, 1030, 200), (40009, 4, 3), (3001, 10, 300), (515, 384, 100), (8, 1050, 2100), (130, 300, 7000),
]  # fmt: skip
CASES = pytest.mark.parametrize("labels, weights", [("labels", "both"), ("probabilities", "unweighted")])


def results(arguments, keywords, n_threads):
    X, _, W, b = arguments
    J, dW, db = loss_grad(*arguments, **keywords, n_threads=n_threads)
    S, Z = predict_proba(X, W, b, n_threads=n_threads), scores(X, W, b, n_threads)
    return np.float64(J).tobytes(), *(array.tobytes() for array in (dW, db, S, Z))


@pytest.mark.pairs(3)
@CASES
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_number_of_threads_changes_no_bit_of_a_pass(
    isa, dtype, storage, shape, labels, weights, seed, make_problem
):
    arguments, keywords = make_problem(*shape, dtype, seed, labels=labels, weights=weights, storage=storage)
    one = results(arguments, keywords, 1)
    for n_threads in (2, 3, 4, 7, 16, None):
        assert results(arguments, keywords, n_threads) == one, f"n_threads={n_threads}"


@pytest.mark.parametrize("order", ["F", ">"])
def test_blocks_of_a_converted_X_change_no_bit(isa, dtype, order, make_problem):
    (X, *rest), keywords = make_problem(20011, 54, 7, dtype)
    X = np.asfortranarray(X) if order == "F" else X.astype(dtype.newbyteorder())
    one = results((X, *rest), keywords, 1)
    for n_threads in (2, 3, 4, 7, 16):
        assert results((X, *rest), keywords, n_threads) == one, f"n_threads={n_threads}"


def test_fifty_runs_change_no_bit(isa, dtype, storage, make_problem):
    for shape in ((5003, 54, 7), (301, 33, 500)):
        problem = make_problem(*shape, dtype, storage=storage)
        assert len({results(*problem, 2) for _ in range(50)}) == 1


@CASES
def test_eight_python_threads_at_once_get_the_bits_of_one(isa, dtype, storage, labels, weights, make_problem):
    """Each has a problem of its own, of the shapes that share least, and all have one more that they share."""
    shapes = [(5003, 54, 7), (701, 33, 1000), (67, 1030, 200), (2048, 16, 17)]
    kinds = {"labels": labels, "weights": weights, "storage": storage}
    problems = [make_problem(*shape, dtype, i, **kinds) for i, shape in enumerate(2 * shapes)]
    alone = [results(*problem, 2) for problem in problems]
    together = threading.Barrier(len(problems))

    def run(i):
        together.wait()
        return [results(*problems[j], 2) for j in (i, 0, i, 0)]

    with concurrent.futures.ThreadPoolExecutor(len(problems)) as pool:
        for i, got in enumerate(pool.map(run, range(len(problems)))):
            assert got == [alone[i], alone[0], alone[i], alone[0]]


def test_a_row_by_itself_has_the_posterior_that_it_has_in_a_batch(isa, dtype, storage, make_problem):
    for shape in ((37, 23, 5), (37, 7, 3), (300, 300, 70), (5003, 30, 7)):
        (X, _, W, b), _ = make_problem(*shape, dtype, storage=storage)
        S = predict_proba(X, W, b)
        for i in (0, 1, 17, shape[0] - 2, shape[0] - 1):
            np.testing.assert_array_equal(predict_proba(X[i : i + 1], W, b)[0], S[i])
            np.testing.assert_array_equal(predict_proba(X[i // 2 : i + 1], W, b)[-1], S[i])
