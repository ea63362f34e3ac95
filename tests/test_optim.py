"""Optimisers against the textbook, PyTorch and known minima; `fit` against its parts."""

import copy
import doctest
import functools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from softmax_ext import loss_grad, optim
from softmax_ext._optim import optimizers, schedules

VECTORS = Path(__file__).with_name("torch_vectors.npz")

# ------------------------------------------------------------------------------------- the formulas, one step a line


def textbook_sgd(theta, gradients, alpha):
    for t, g in enumerate(gradients):
        theta = theta - alpha(t) * g
    return theta


def textbook_momentum(theta, gradients, alpha, momentum=0.9, look_ahead=False):
    v = np.zeros_like(theta)
    for t, g in enumerate(gradients):
        v = momentum * v + g
        theta = theta - alpha(t) * (g + momentum * v if look_ahead else v)
    return theta


def textbook_adam(theta, gradients, alpha, b1=0.9, b2=0.999, eps=1e-8):
    """Kingma and Ba (2015), Algorithm 1: m and v as the weighted sums that their recursions stand for."""
    for t in range(1, len(gradients) + 1):
        m = (1 - b1) * sum(b1 ** (t - i) * gradients[i - 1] for i in range(1, t + 1))
        v = (1 - b2) * sum(b2 ** (t - i) * gradients[i - 1] ** 2 for i in range(1, t + 1))
        theta = theta - alpha(t - 1) * (m / (1 - b1**t)) / (np.sqrt(v / (1 - b2**t)) + eps)
    return theta


TEXTBOOK = {
    "sgd": (optim.sgd, textbook_sgd, {}),
    "momentum": (optim.momentum, textbook_momentum, {}),
    "momentum 0.5": (optim.momentum, textbook_momentum, {"momentum": 0.5}),
    "nesterov": (optim.nesterov, functools.partial(textbook_momentum, look_ahead=True), {}),
    "nesterov 0.5": (optim.nesterov, functools.partial(textbook_momentum, look_ahead=True), {"momentum": 0.5}),
    "adam": (optim.adam, textbook_adam, {}),
    "adam 0.5 0.7 0.1": (optim.adam, textbook_adam, {"b1": 0.5, "b2": 0.7, "eps": 0.1}),
}
SHAPES = [(4, 3), (4,)]


@pytest.fixture(params=TEXTBOOK)
def textbook(request):
    return TEXTBOOK[request.param]


def random_arrays(steps, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return [[rng.standard_normal(shape).astype(dtype) for shape in SHAPES] for _ in range(steps)]


def run(optimizer, params, gradients):
    state = optimizer.init(params)
    for grads in gradients:
        state = optimizer.update(grads, state, params)
    return state


@pytest.mark.parametrize(
    "alpha", [optim.constant(0.1), optim.exponential_decay(0.1, 3, 0.5)], ids=["constant", "decaying"]
)
def test_update_is_the_textbook_formula(textbook, alpha):
    build, formula, hyperparameters = textbook
    params, *gradients = random_arrays(13)
    expected = [formula(params[i], [g[i] for g in gradients], alpha, **hyperparameters) for i in range(len(params))]
    state = run(build(alpha, **hyperparameters), params, gradients)
    assert state.step == 12
    for got, want in zip(params, expected, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


# ours: PyTorch's
TORCHS = {
    "sgd": ("SGD", {}),
    "momentum": ("SGD", {"momentum": 0.9}),
    "nesterov": ("SGD", {"momentum": 0.9, "nesterov": True}),
    "adam": ("Adam", {}),
}


def torchs(name, dtype):
    """Where PyTorch's optimiser ends."""
    import torch

    kind, options = TORCHS[name]
    params, *gradients = random_arrays(13, dtype)
    tensors = [torch.tensor(theta) for theta in params]
    theirs = getattr(torch.optim, kind)(tensors, lr=0.1, **options)
    for grads in gradients:
        for tensor, g in zip(tensors, grads, strict=True):
            tensor.grad = torch.tensor(g)
        theirs.step()
    return np.concatenate([tensor.numpy().ravel() for tensor in tensors])


@pytest.mark.parametrize("dtype, rtol", [(np.float32, 1e-5), (np.float64, 1e-12)])
@pytest.mark.parametrize("name", TORCHS)
def test_update_is_pytorchs(name, dtype, rtol):
    """The steps of PyTorch 2.13 are stored."""
    params, *gradients = random_arrays(13, dtype)
    run(getattr(optim, name)(0.1), params, gradients)
    assert all(theta.dtype == dtype for theta in params)
    want = np.load(VECTORS)[f"{name} {np.dtype(dtype)}"]
    np.testing.assert_allclose(np.concatenate([theta.ravel() for theta in params]), want, rtol=rtol, atol=rtol)


# ------------------------------------------------------------------------------------------ optimisers x known minima


def parabola(theta):
    """Condition number 25, minimum 0 at (1, -2)."""
    x = theta - np.array([1.0, -2.0])
    return x @ (np.array([1.0, 25.0]) * x) / 2, np.array([1.0, 25.0]) * x


def rosenbrock(theta):
    """The curved valley, minimum 0 at (1, 1)."""
    x, y = theta
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2, np.array([2 * (x - 1) - 400 * x * (y - x**2), 200 * (y - x**2)])


def tiny_softmax(theta):
    """Two classes, one feature, overlapping; what is left of the gradient is the distance from the minimum."""
    W = theta.reshape(2, 1)
    _, dW, _ = loss_grad(np.array([[-1.0], [0.5], [1.0], [-0.5]]), np.array([0, 0, 1, 1]), W)
    return float(np.square(dW).sum()), dW.ravel()


TARGETS = {
    parabola: {"sgd": (0.05, 400), "momentum": (0.02, 400), "nesterov": (0.02, 400), "adam": (0.05, 1500)},
    rosenbrock: {"sgd": (1e-3, 30000), "momentum": (2e-4, 20000), "nesterov": (2e-4, 20000), "adam": (0.02, 6000)},
    tiny_softmax: {"sgd": (1.0, 300), "momentum": (0.3, 300), "nesterov": (0.3, 300), "adam": (0.05, 800)},
}


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.__name__)
@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov", "adam"])
def test_an_optimizer_finds_the_minimum(target, name):
    learning_rate, steps = TARGETS[target][name]
    optimizer = getattr(optim, name)(learning_rate)
    theta = np.array([-1.2, 1.0])
    state = optimizer.init([theta])
    for _ in range(steps):
        state = optimizer.update([target(theta)[1]], state, [theta])
    assert target(theta)[0] < 1e-8


@pytest.fixture(params=["sgd", "momentum", "nesterov", "adam"])
def optimizer(request):
    return getattr(optim, request.param)(optim.inverse_time_decay(0.1, 5))


def arrays_of(state):
    return [array for field in state[1:] for array in field]


def test_update_writes_in_place(optimizer, dtype):
    params, grads = random_arrays(2, dtype)
    before = copy.deepcopy((params, grads))
    state = optimizer.init(params)
    np.testing.assert_equal(params, before[0])
    after = optimizer.update(grads, state, params)
    assert type(after) is type(state) and (state.step, after.step) == (0, 1)
    assert {array.dtype for array in (*params, *arrays_of(after))} == {np.dtype(dtype)}
    assert all(old is new for old, new in zip(arrays_of(state), arrays_of(after), strict=True))
    np.testing.assert_equal(grads, before[1])
    assert all((theta != old).all() for theta, old in zip(params, before[0], strict=True))


def test_update_allocates_nothing_of_the_parameters_size(optimizer):
    theta, g = np.ones(100_000), np.ones(100_000)
    state = optimizer.update([g], optimizer.init([theta]), [theta])
    tracemalloc.start()
    try:
        optimizer.update([g], state, [theta])
        assert tracemalloc.get_traced_memory()[1] < theta.nbytes / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "layout", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]], ids=["Fortran", "strided"]
)
def test_update_takes_any_layout(optimizer, layout):
    params, *gradients = random_arrays(5)
    others = [layout(theta) for theta in copy.deepcopy(params)]
    run(optimizer, params, gradients)
    run(optimizer, others, gradients)
    np.testing.assert_equal(others, params)


def test_a_copied_state_resumes_to_the_bit(optimizer):
    params, *gradients = random_arrays(9)
    state = run(optimizer, params, gradients[:4])
    saved, saved_params = copy.deepcopy((state, params))
    for grads in gradients[4:]:
        state = optimizer.update(grads, state, params)
    for grads in gradients[4:]:
        saved = optimizer.update(grads, saved, saved_params)
    np.testing.assert_equal(saved_params, params)
    np.testing.assert_equal(saved, state)


def test_a_schedule_is_asked_for_every_step_from_zero():
    asked = []
    params, *gradients = random_arrays(4)
    run(optim.sgd(lambda step: asked.append(step) or 0.1), params, gradients)
    assert asked == [0, 1, 2]


@pytest.mark.parametrize(
    ("schedule", "formula"),
    [
        (optim.constant(0.3), lambda t: 0.3),
        (optim.exponential_decay(0.3, 7, 0.9), lambda t: 0.3 * 0.9 ** (t / 7)),
        (optim.inverse_time_decay(0.3, 7, 2.0), lambda t: 0.3 / (1 + 2 * t / 7)),
        (optim.cosine_decay(0.3, 20), lambda t: 0.15 * (1 + np.cos(np.pi * min(t, 20) / 20))),
        (optim.cosine_decay(0.3, 20, 0.1), lambda t: 0.03 + 0.135 * (1 + np.cos(np.pi * min(t, 20) / 20))),
    ],
    ids=["constant", "exponential", "inverse time", "cosine", "cosine to a tenth"],
)
def test_schedules_are_their_formulas(schedule, formula):
    np.testing.assert_allclose(
        [schedule(t) for t in range(50)], [formula(t) for t in range(50)], rtol=1e-14, atol=1e-17
    )


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optim.sgd(-0.1), ValueError, r"learning_rate .* -0\.1"),
        (lambda: optim.sgd(np.nan), ValueError, "learning_rate .* nan"),
        (lambda: optim.adam(np.inf), ValueError, "learning_rate .* inf"),
        (lambda: optim.sgd("0.1"), TypeError, "learning_rate .* '0.1'"),
        (lambda: optim.momentum(0.1, 1.0), ValueError, r"momentum .* 1\.0"),
        (lambda: optim.nesterov(0.1, momentum=-0.5), ValueError, r"momentum .* -0\.5"),
        (lambda: optim.adam(b1=1), ValueError, r"b1 .* 1\.0"),
        (lambda: optim.adam(b2=1.5), ValueError, r"b2 .* 1\.5"),
        (lambda: optim.adam(eps=0), ValueError, r"eps .* 0\.0"),
        (lambda: optim.adam(eps=-1), ValueError, r"eps .* -1\.0"),
        (lambda: optim.constant(-1), ValueError, r"value .* -1\.0"),
        (lambda: optim.exponential_decay(0.1, 0, 0.5), ValueError, "transition_steps .* 0"),
        (lambda: optim.exponential_decay(0.1, 10, np.inf), ValueError, "decay_rate .* inf"),
        (lambda: optim.inverse_time_decay(0.1, 1.5), TypeError, r"transition_steps .* 1\.5"),
        (lambda: optim.cosine_decay(0.1, -3), ValueError, "decay_steps .* -3"),
        (lambda: optim.cosine_decay(0.1, 10, -1), ValueError, r"alpha .* -1\.0"),
    ],
)
def test_bad_hyperparameters_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_schedule_that_leaves_the_numbers_is_named():
    params, grads = random_arrays(2)
    with pytest.raises(ValueError, match=r"learning_rate\(0\) .* nan"):
        run(optim.sgd(lambda step: np.nan), params, [grads])


@pytest.mark.parametrize("theta", [np.zeros(3, int), [0.0], np.zeros(3, complex)], ids=["integer", "list", "complex"])
def test_parameters_that_cannot_be_updated_in_place_are_refused(optimizer, theta):
    with pytest.raises(TypeError, match=r"params\[1\]"):
        optimizer.init([np.zeros(3), theta])


@pytest.mark.parametrize("shape", [(1, 3), (3,), ()])
def test_nothing_is_broadcast(optimizer, shape):
    theta = np.ones((4, 3))
    state = optimizer.init([theta])
    with pytest.raises(ValueError, match="grads has arrays of shapes"):
        optimizer.update([np.ones(shape)], state, [theta])
    with pytest.raises(ValueError, match="grads has arrays of shapes"):
        optimizer.update([], state, [theta])
    with pytest.raises(ValueError, match="state has arrays of shapes"):
        optimizer.update([np.ones((4, 3))], optimizer.init([np.ones(shape)]), [theta])
    assert (theta == 1).all()


def blobs(N=57, D=5, K=3, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    y = np.concatenate([np.arange(K), rng.integers(0, K, N - K)])
    return (rng.standard_normal((N, D)) + 2 * np.eye(K, D)[y]).astype(dtype), y


def assert_same_fit(first, second):
    np.testing.assert_array_equal(first.W, second.W)
    np.testing.assert_array_equal(first.b, second.b)
    np.testing.assert_array_equal(first.history, second.history)


def test_fit_is_the_loop_that_it_says():
    X, y = blobs()
    result = optim.fit(X, y, optim.adam(0.1), epochs=3, batch_size=16, l2=0.01, label_smoothing=0.1, random_state=7)

    rng, optimizer = np.random.default_rng(7), optim.adam(0.1)
    W, b, history = np.zeros((3, 5)), np.zeros(3), []
    state = optimizer.init((W, b))
    for _ in range(3):
        order, losses = rng.permutation(57), []
        for rows in np.split(order, [16, 32, 48]):
            loss, dW, db = loss_grad(X[rows], y[rows], W, b, label_smoothing=0.1)
            losses.append(loss)
            state = optimizer.update((dW + 0.01 * W, db), state, (W, b))
        history.append(np.average(losses, weights=[16, 16, 16, 9]))
    np.testing.assert_allclose(result.W, W, rtol=1e-12)
    np.testing.assert_allclose(result.b, b, rtol=1e-12)
    np.testing.assert_allclose(result.history, history, rtol=1e-12)


def test_fit_reaches_the_minimum(dtype):
    """The gradient of the penalised objective vanishes, and that of the free intercept with it."""
    X, y = blobs(dtype=dtype)
    optimizer = optim.nesterov(0.3)
    W, b, history = optim.fit(X, y, optimizer, epochs=600, batch_size=57, l2=0.05)
    _, dW, db = loss_grad(X, y, W, b)
    np.testing.assert_allclose(dW, -0.05 * W, atol=1e-6)
    np.testing.assert_allclose(db, 0, atol=1e-6)
    assert (W.dtype, b.dtype, history.dtype, history.shape) == (dtype, dtype, np.float64, (600,))


@pytest.mark.parametrize("batch_size", [1, 8, 57, 100])
@pytest.mark.parametrize("probabilities", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_epoch_of_batches_adds_up_to_the_whole(batch_size, probabilities, weighted):
    """With parameters held still, batches weighed by their rows give the gradient and the loss of all of the data."""
    X, y = blobs()
    rng = np.random.default_rng(1)
    W, b = rng.standard_normal((3, 5)), rng.standard_normal(3)
    options = {"label_smoothing": 0.2}
    rows = 57
    if weighted:
        options["sample_weight"] = rng.exponential(size=57) * (np.arange(57) % 3 > 0)
        options |= {} if probabilities else {"class_weight": "balanced"}
        rows = 38
    if probabilities:
        y = rng.dirichlet(np.ones(3), size=57)
    seen = []

    def record(grads, state, params):
        seen.append([g.copy() for g in grads])
        return state

    still = optim.Optimizer(lambda params: (), record)
    result = optim.fit(X, y, still, W=W, b=b, epochs=1, batch_size=batch_size, random_state=0, **options)
    sizes = [min(batch_size, rows - start) for start in range(0, rows, batch_size)]
    assert len(seen) == len(sizes)
    loss, dW, db = loss_grad(X, y, W, b, **options)
    np.testing.assert_allclose(np.average([g[0] for g in seen], axis=0, weights=sizes), dW, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(np.average([g[1] for g in seen], axis=0, weights=sizes), db, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(result.history, [loss], rtol=1e-12)


def test_fit_repeats_to_the_bit(dtype):
    X, y = blobs(N=500, D=20, dtype=dtype)

    def fit(seed, n_threads=None):
        return optim.fit(X, y, optim.adam(), epochs=3, batch_size=64, random_state=seed, n_threads=n_threads)

    first = fit(3)
    for n_threads in (1, 2, 3):
        assert_same_fit(first, fit(3, n_threads))
    assert_same_fit(first, fit(np.random.default_rng(3)))
    assert (fit(4).W != first.W).any()


LAYOUTS = {
    "Fortran": np.asfortranarray,
    "big-endian": lambda X: X.astype(">f8"),
    "strided": lambda X: np.repeat(X, 2, axis=1)[:, ::2],
    "list": lambda X: X.tolist(),
}


@pytest.mark.parametrize("of", LAYOUTS.values(), ids=LAYOUTS)
def test_fit_takes_any_layout(of):
    X, y = blobs()

    def fit(X):
        return optim.fit(X, y, optim.sgd(0.1), epochs=2, batch_size=10, random_state=0)

    assert_same_fit(fit(X), fit(of(X)))


def test_fit_reads_all_rows_in_place(monkeypatch):
    X, y = blobs()
    passed = []
    monkeypatch.setattr(optim, "loss_grad", lambda X, *rest, **kw: passed.append(X) or loss_grad(X, *rest, **kw))
    optim.fit(X, y, optim.sgd(0.1), epochs=2, batch_size=57)
    assert len(passed) == 2 and all(np.shares_memory(X, batch) for batch in passed)


def test_fit_starts_where_it_is_told():
    X, y = blobs()
    W, b = np.ones((4, 5)), np.ones(4)
    arguments = {"epochs": 1, "batch_size": 57}
    still = optim.sgd(0.0)
    started = optim.fit(X, y, still, W=W, b=b, **arguments)
    np.testing.assert_array_equal(started.W, W)
    np.testing.assert_array_equal(started.b, b)
    assert optim.fit(X, y, still, W=W, **arguments).b is None
    for options, shape in [({}, (3, 5)), ({"K": 4}, (4, 5)), ({"K": 4, "b": b}, (4, 5))]:
        W0, b0, _ = optim.fit(X, y, still, **options, **arguments)
        np.testing.assert_array_equal(W0, np.zeros(shape))
        np.testing.assert_array_equal(b0, options.get("b", np.zeros(shape[0])))
    optim.fit(X, y, optim.sgd(0.5), W=W, b=b, **arguments)
    assert (W == 1).all() and (b == 1).all()


def test_a_callback_sees_the_parameters_that_it_asks_for():
    X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 3
    kept = []

    def callback(epoch, loss, params):
        kept.append([theta.copy() for theta in params])

    result = optim.fit(X, y, optim.sgd(0.1), epochs=4, batch_size=20, random_state=0, callback=callback)
    shorter = optim.fit(X, y, optim.sgd(0.1), epochs=2, batch_size=20, random_state=0)
    for (W, b), end in ((kept[-1], result), (kept[1], shorter)):
        np.testing.assert_array_equal(W, end.W)
        np.testing.assert_array_equal(b, end.b)


def test_a_callback_sees_each_epoch_and_stops_the_fit():
    X, y = blobs()
    calls = []

    def callback(epoch, loss):
        calls.append((epoch, loss))
        return epoch == 2

    result = optim.fit(X, y, optim.sgd(0.1), epochs=9, batch_size=20, callback=callback)
    assert calls == list(enumerate(result.history)) and len(calls) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": optim.sgd(1e9), "l2": 1.0, "batch_size": 10}, "the loss is (nan|inf) in epoch [1-9]"),
        ({"optimizer": optim.sgd(1e308), "epochs": 1, "scale": 1e3}, "a parameter is not finite in epoch 0"),
        ({"scale": np.nan}, "the loss is nan in epoch 0"),
    ],
    ids=["loss", "last update", "NaN in X"],
)
def test_divergence_ends_the_fit(options, message):
    X, y = blobs()
    options = {"optimizer": optim.adam(), "epochs": 100, "batch_size": 57, "scale": 1.0} | options
    X *= options.pop("scale")
    with pytest.raises(FloatingPointError, match=message):
        optim.fit(X, y, **options)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"y": np.where(np.arange(57) == 41, -1, blobs()[1])}, ValueError, r"y\[41\] = -1"),
        ({"y": np.where(np.arange(57) == 41, 3, blobs()[1]), "K": 3}, ValueError, r"y\[41\] = 3"),
        ({"y": np.where(np.arange(57) == 41, 10**12, 0)}, ValueError, "label 1000000000000 in 57 samples: pass K"),
        ({"y": np.where(np.arange(171) == 124, -1.0, 0.5).reshape(57, 3)}, ValueError, r"y\[41, 1\] = -1"),
        ({"y": blobs()[1].astype(float)}, TypeError, "y must hold integer labels"),
        ({"y": np.zeros(0, int)}, ValueError, "y has 0 labels"),
        ({"X": np.zeros((0, 5))}, ValueError, "X has 0 sample"),
        ({"X": np.zeros(57)}, ValueError, "X must be 2-D"),
        ({"sample_weight": np.zeros(57)}, ValueError, "sample_weight sums to 0"),
        ({"sample_weight": np.where(np.arange(57) == 41, -1.0, 1.0)}, ValueError, r"sample_weight\[41\] = -1"),
        ({"label_smoothing": 2.0}, ValueError, "label_smoothing"),
        ({"W": np.zeros((3, 4))}, ValueError, "W must be"),
        ({"W": np.zeros((3, 5)), "K": 4}, ValueError, "K is 4, but W has 3 rows"),
        ({"b": np.zeros(4)}, ValueError, "b has 4 entries"),
        ({"K": 0}, ValueError, "K must be at least 1"),
        ({"epochs": 0}, ValueError, "epochs must be at least 1"),
        ({"epochs": 1.5}, TypeError, "epochs must be an integer"),
        ({"batch_size": -1}, ValueError, "batch_size must be at least 1"),
        ({"l2": -1}, ValueError, "l2 must be finite"),
        ({"n_threads": 0}, ValueError, "n_threads"),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_bad_arguments_are_named_with_the_callers_index(change, error, message):
    X, y = blobs()
    arguments = {"X": X, "y": y, "optimizer": optim.sgd(0.1), "epochs": 1, "batch_size": 10} | change
    with pytest.raises(error, match=message):
        optim.fit(**arguments)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_averaged_is_the_mean_of_the_steps(after):
    theta, steps = [np.array([1.0, -2.0]), np.ones((2, 1))], []
    plain, mean = optim.adam(0.1), optim.averaged(optim.adam(0.1), after)
    state, averaged = plain.init(theta), mean.init(theta)
    copies = [array.copy() for array in theta]
    for _ in range(5):
        state = plain.update([2 * array for array in theta], state, theta)
        steps.append([array.copy() for array in theta])
        averaged = mean.update([2 * array for array in copies], averaged, copies)
    for ours, want, last, theirs in zip(averaged.mean, zip(*steps[after:], strict=True), copies, theta, strict=True):
        np.testing.assert_allclose(ours, np.mean(want, axis=0), rtol=1e-12)
        np.testing.assert_array_equal(last, theirs)
    assert averaged.step == 5


@pytest.mark.parametrize("after", [-1, 1.5, "1"])
def test_averaged_checks_when_it_begins(after):
    with pytest.raises((ValueError, TypeError), match="after must"):
        optim.averaged(optim.sgd(0.1), after)


@pytest.mark.parametrize("module, examples", [(optim, 6), (optimizers, 32), (schedules, 4)])
def test_examples_of_optim_run(module, examples):
    assert doctest.testmod(module) == (0, examples)


@pytest.mark.parametrize(
    "optimizer, message",
    [("adam", r"got 'adam': call it: optim\.adam\(\)"), (optim.adam, r"the function adam: call it: optim\.adam\(\)"),
     (optim.sgd, r"optim\.sgd\(0\.1\)"), (None, "pass optim"), (3, "pass optim")],
)  # fmt: skip
def test_what_is_no_optimizer_is_told_what_to_write(optimizer, message):
    with pytest.raises(TypeError, match=message):
        optim.fit(np.eye(3), [0, 1, 2], optimizer, epochs=1, batch_size=2)
    with pytest.raises(TypeError, match=message):
        optim.averaged(optimizer)


@pytest.mark.parametrize("optimizer", [optim.sgd(0.1), optim.nesterov(0.1), optim.adam(), optim.averaged(optim.adam())])
def test_a_state_shows_no_whole_array_and_its_absence_is_named(optimizer):
    params = [np.zeros((30, 4)), np.zeros(30, np.float32)]
    state = optimizer.init(params)
    assert "0." not in str(state) and "[float64[30, 4], float32[30]]" in str(state) and str(state).count("step=0")
    with pytest.raises(TypeError, match=f"state must be the {type(state).__name__} that init"):
        optimizer.update(params, None, params)
