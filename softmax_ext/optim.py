"""First-order optimisers for mini-batches with `fit`, a short training loop on `loss_grad`; `lbfgs` and `newton`.

The last two take an objective, and all samples at a time (softmax_ext/_solvers.py). Any other optimiser is a pair of
functions, in optax's shape::

    state = optimizer.init(params)
    state = optimizer.update(grads, state, params)

`params` and `grads` are tuples or lists of arrays, such as ``(W, b)`` and ``(dW, db)``. Unlike optax, which leaves it
to a compiler to reuse memory, `update` writes into `params` and into the state's arrays. Nothing else is remembered,
so a copied state (`copy.deepcopy`), together with copied parameters, resumes to the bit.

The definitions are those of optax and PyTorch; the letters are those of the papers: g is the gradient, α the learning
rate, t the step.
"""

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from numbers import Real
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._solvers import Solution, lbfgs, newton, takes
from ._validation import Inputs, check_block, check_problem, count_classes
from .functional import loss_grad

__all__ = [
    "AdamState", "AveragedState", "FitResult", "MomentumState", "Optimizer", "SGDState", "Solution", "adam", "averaged",
    "constant", "cosine_decay", "exponential_decay", "fit", "inverse_time_decay", "lbfgs", "momentum", "nesterov",
    "newton", "sgd",
]  # fmt: skip

Array = NDArray[np.floating[Any]]
Params = Sequence[Array]
Schedule = Callable[[int], float]
State = TypeVar("State", bound=tuple[Any, ...])


class Optimizer(NamedTuple, Generic[State]):
    """An optimiser as two functions: ``init(params) -> state`` and ``update(grads, state, params) -> state``."""

    init: Callable[[Params], State]
    update: Callable[[Params, State, Params], State]


class SGDState(NamedTuple):
    """State of `sgd`: steps taken, and work space whose contents mean nothing between steps."""

    step: int
    work: list[Array]


class MomentumState(NamedTuple):
    """State of `momentum` and `nesterov`: steps taken, v of each parameter, and work space."""

    step: int
    velocity: list[Array]
    work: list[Array]


class AveragedState(NamedTuple):
    """State of `averaged`: steps taken, the state of the optimiser itself, and the mean of each parameter."""

    step: int
    inner: Any
    mean: list[Array]


class AdamState(NamedTuple):
    """State of `adam`: steps taken, first and second moments of each parameter, and work space."""

    step: int
    mu: list[Array]
    nu: list[Array]
    work: list[Array]


def sgd(learning_rate: float | Schedule) -> Optimizer[SGDState]:
    r"""Stochastic gradient descent.

    .. math:: \theta_t = \theta_{t-1} - \alpha_t\, g_t

    Parameters
    ----------
    learning_rate : float >= 0, or callable
        α, or a schedule: called with the number of steps taken so far, from 0, it returns α.

    Returns
    -------
    Optimizer
        With `SGDState` as its state.

    Raises
    ------
    ValueError
        If `learning_rate` is negative or not finite; from `update` if a schedule returns such a number, or if the
        shapes of `grads`, `state` and `params` differ.
    TypeError
        If `learning_rate` is neither a number nor callable; from `init` if a parameter is not a floating-point array.

    References
    ----------
    H. Robbins and S. Monro, "A stochastic approximation method", Annals of Mathematical Statistics 22 (1951), 400-407.
    It converges with probability one where Σ α_t diverges and Σ α_t² does not: see `inverse_time_decay`.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> theta = np.array([1.0, -2.0])
    >>> optimizer = optim.sgd(learning_rate=0.25)
    >>> state = optimizer.init([theta])
    >>> state = optimizer.update([2 * theta], state, [theta])  # the gradient of the sum of squares
    >>> theta
    array([ 0.5, -1. ])
    """
    rate = _schedule(learning_rate)

    def init(params: Params) -> SGDState:
        return SGDState(0, _zeros_like(params))

    def update(grads: Params, state: SGDState, params: Params) -> SGDState:
        _check_shapes(grads, state.work, params)
        alpha = rate(state.step)
        for g, work, theta in zip(grads, state.work, params, strict=True):
            theta -= np.multiply(g, alpha, out=work)
        return state._replace(step=state.step + 1)

    return Optimizer(init, update)


def momentum(learning_rate: float | Schedule, momentum: float = 0.9) -> Optimizer[MomentumState]:
    r"""Gradient descent with heavy-ball momentum.

    .. math::
        v_t &= \mu\, v_{t-1} + g_t, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t\, v_t

    As in optax and PyTorch, α stands outside the velocity, so a schedule acts on old gradients as well; a constant
    gradient moves the parameters by α / (1 - μ) per step in the end.

    Parameters
    ----------
    learning_rate : float >= 0, or callable
        α, or a schedule: called with the number of steps taken so far, from 0, it returns α.
    momentum : float in [0, 1)
        μ; 0 is `sgd`.

    Returns
    -------
    Optimizer
        With `MomentumState` as its state.

    Raises
    ------
    ValueError, TypeError
        As `sgd`, and if `momentum` is outside [0, 1).

    References
    ----------
    B. T. Polyak, "Some methods of speeding up the convergence of iteration methods", USSR Computational Mathematics
    and Mathematical Physics 4 (1964), 1-17.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> theta = np.array([1.0])
    >>> optimizer = optim.momentum(learning_rate=0.5, momentum=0.5)
    >>> state = optimizer.init([theta])
    >>> for _ in range(2):
    ...     state = optimizer.update([np.ones(1)], state, [theta])  # moves by 0.5, then by 0.75
    >>> theta, state.velocity
    (array([-0.25]), [array([1.5])])
    """
    return _momentum(learning_rate, momentum, look_ahead=False)


def nesterov(learning_rate: float | Schedule, momentum: float = 0.9) -> Optimizer[MomentumState]:
    r"""Gradient descent with Nesterov's momentum: the step looks one more velocity ahead.

    .. math::
        v_t &= \mu\, v_{t-1} + g_t, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t\, (g_t + \mu\, v_t)

    This is optax's and PyTorch's form, in which θ is the point where the gradient is taken; Sutskever's θ is one
    velocity behind.

    Parameters
    ----------
    learning_rate : float >= 0, or callable
        α, or a schedule: called with the number of steps taken so far, from 0, it returns α.
    momentum : float in [0, 1)
        μ; 0 is `sgd`.

    Returns
    -------
    Optimizer
        With `MomentumState` as its state.

    Raises
    ------
    ValueError, TypeError
        As `sgd`, and if `momentum` is outside [0, 1).

    References
    ----------
    Yu. E. Nesterov, "A method of solving a convex programming problem with convergence rate O(1/k²)", Soviet
    Mathematics Doklady 27 (1983), 372-376; as momentum: I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the
    importance of initialization and momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> theta = np.array([1.0])
    >>> optimizer = optim.nesterov(learning_rate=0.5, momentum=0.5)
    >>> state = optimizer.update([np.ones(1)], optimizer.init([theta]), [theta])
    >>> theta  # moved by 0.5 * (1 + 0.5)
    array([0.25])
    """
    return _momentum(learning_rate, momentum, look_ahead=True)


def _momentum(learning_rate: float | Schedule, momentum: float, look_ahead: bool) -> Optimizer[MomentumState]:
    rate = _schedule(learning_rate)
    decay = _in_unit_interval("momentum", momentum)

    def init(params: Params) -> MomentumState:
        return MomentumState(0, _zeros_like(params), _zeros_like(params))

    def update(grads: Params, state: MomentumState, params: Params) -> MomentumState:
        _check_shapes(grads, state.velocity, params)
        alpha = rate(state.step)
        for g, v, work, theta in zip(grads, state.velocity, state.work, params, strict=True):
            v *= decay
            v += g
            direction = v
            if look_ahead:
                direction = np.multiply(v, decay, out=work)
                direction += g
            theta -= np.multiply(direction, alpha, out=work)
        return state._replace(step=state.step + 1)

    return Optimizer(init, update)


def adam(
    learning_rate: float | Schedule = 1e-3, b1: float = 0.9, b2: float = 0.999, eps: float = 1e-8
) -> Optimizer[AdamState]:
    r"""Adam: steps scaled, coefficient by coefficient, by running moments of the gradient.

    .. math::
        \mu_t &= \beta_1 \mu_{t-1} + (1 - \beta_1)\, g_t, \qquad
        \nu_t = \beta_2 \nu_{t-1} + (1 - \beta_2)\, g_t^2, \qquad \mu_0 = \nu_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t\, \frac{\mu_t / (1 - \beta_1^t)}{\sqrt{\nu_t / (1 - \beta_2^t)} + \epsilon}

    ε is added to the bias-corrected root, as in the paper's Algorithm 1, optax and PyTorch.

    Parameters
    ----------
    learning_rate : float >= 0, or callable
        α, or a schedule: called with the number of steps taken so far, from 0, it returns α. A coefficient moves by
        about α per step at most.
    b1, b2 : float in [0, 1)
        Decay rates β₁ and β₂ of the first and the second moment.
    eps : float > 0
        ε. Zero is refused: a pixel that is blank in every sample has gradient 0, and would move by 0 / 0.

    Returns
    -------
    Optimizer
        With `AdamState` as its state.

    Raises
    ------
    ValueError, TypeError
        As `sgd`, and if `b1` or `b2` is outside [0, 1), or `eps` not positive and finite.

    References
    ----------
    D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", ICLR 2015, arXiv:1412.6980.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> theta = np.array([1.0, -100.0])
    >>> optimizer = optim.adam(learning_rate=0.125)
    >>> state = optimizer.update([2 * theta], optimizer.init([theta]), [theta])
    >>> theta.round(6)  # the first step is α in every coefficient, whatever the gradient's size
    array([  0.875, -99.875])
    """
    rate = _schedule(learning_rate)
    b1, b2 = _in_unit_interval("b1", b1), _in_unit_interval("b2", b2)
    eps = _finite("eps", eps)
    if eps == 0:
        raise ValueError("eps must be positive, got 0.0: a zero gradient would be divided by zero")

    def init(params: Params) -> AdamState:
        return AdamState(0, _zeros_like(params), _zeros_like(params), _zeros_like(params))

    def update(grads: Params, state: AdamState, params: Params) -> AdamState:
        _check_shapes(grads, state.mu, params)
        alpha, t = rate(state.step), state.step + 1
        step_size = alpha / (1 - b1**t)
        root_correction = math.sqrt(1 - b2**t)
        for g, mu, nu, work, theta in zip(grads, state.mu, state.nu, state.work, params, strict=True):
            mu *= b1
            mu += np.multiply(g, 1 - b1, out=work)
            nu *= b2
            np.multiply(g, g, out=work)
            work *= 1 - b2
            nu += work
            np.sqrt(nu, out=work)
            work /= root_correction
            work += eps
            np.divide(mu, work, out=work)
            work *= step_size
            theta -= work
        return state._replace(step=t)

    return Optimizer(init, update)


def averaged(optimizer: Optimizer[Any], after: int = 0) -> Optimizer[AveragedState]:
    r"""Any optimiser, with the mean of where its steps have led, which is nearer to the minimum than the last of them.

    .. math:: \bar\theta_t = \bar\theta_{t-1} + \frac{\theta_t - \bar\theta_{t-1}}{t - t_0}

    The steps are those of `optimizer`; what is wanted in the end is the state's ``mean``.

    Parameters
    ----------
    optimizer : Optimizer
        ``sgd(0.1)``, ``adam()``, ... or any pair of the same shape.
    after : int >= 0
        t₀, the number of steps before the mean begins. Up to there it is θ itself.

    Returns
    -------
    Optimizer
        With `AveragedState` as its state.

    Raises
    ------
    ValueError, TypeError
        If `after` is negative, or no integer.

    References
    ----------
    B. T. Polyak and A. B. Juditsky, "Acceleration of stochastic approximation by averaging", SIAM Journal on Control
    and Optimization 30 (1992), 838-855.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> theta, optimizer = np.array([1.0]), optim.averaged(optim.sgd(1.5))
    >>> state = optimizer.init([theta])
    >>> for _ in range(2):
    ...     state = optimizer.update([theta.copy()], state, [theta])  # to -0.5, then to 0.25
    >>> state.mean
    [array([-0.125])]
    """
    try:
        after = operator.index(after)
    except TypeError:
        raise TypeError(f"after must be an integer, got {after!r}") from None
    if after < 0:
        raise ValueError(f"after must not be negative, got {after}")

    def init(params: Params) -> AveragedState:
        return AveragedState(0, optimizer.init(params), [theta.copy() for theta in params])

    def update(grads: Params, state: AveragedState, params: Params) -> AveragedState:
        inner, step = optimizer.update(grads, state.inner, params), state.step + 1
        for mean, theta in zip(state.mean, params, strict=True):
            mean += (theta - mean) / max(1, step - after)
        return AveragedState(step, inner, state.mean)

    return Optimizer(init, update)


def constant(value: float) -> Schedule:
    """Return the schedule ``step -> value``; ``sgd(0.1)`` is short for ``sgd(constant(0.1))``.

    Raises ValueError if `value` is negative or not finite.

    >>> constant(0.1)(1000)
    0.1
    """
    value = _finite("value", value)
    return lambda step: value


def exponential_decay(init_value: float, transition_steps: int, decay_rate: float) -> Schedule:
    """Return the schedule ``step -> init_value * decay_rate ** (step / transition_steps)``, optax's definition.

    Raises ValueError if `init_value` or `decay_rate` is negative or not finite, or `transition_steps` is below 1.

    >>> [exponential_decay(1.0, 10, 0.5)(step) for step in (0, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    init_value, decay_rate = _finite("init_value", init_value), _finite("decay_rate", decay_rate)
    transition_steps = _at_least_one("transition_steps", transition_steps)
    return lambda step: init_value * decay_rate ** (step / transition_steps)


def cosine_decay(init_value: float, decay_steps: int, alpha: float = 0.0) -> Schedule:
    r"""Return half a period of a cosine from `init_value` down to ``alpha * init_value``, constant afterwards.

    ``step -> init_value * ((1 - alpha) / 2 * (1 + cos(π * min(step / decay_steps, 1))) + alpha)``: optax's
    definition, after I. Loshchilov and F. Hutter, "SGDR", ICLR 2017, arXiv:1608.03983.

    Raises ValueError if `init_value` or `alpha` is negative or not finite, or `decay_steps` is below 1.

    >>> [round(cosine_decay(1.0, 10, alpha=0.1)(step), 6) for step in (0, 5, 10, 99)]
    [1.0, 0.55, 0.1, 0.1]
    """
    init_value, alpha = _finite("init_value", init_value), _finite("alpha", alpha)
    decay_steps = _at_least_one("decay_steps", decay_steps)

    def rate(step: int) -> float:
        wave = (1 + math.cos(math.pi * min(step / decay_steps, 1.0))) / 2
        return init_value * ((1 - alpha) * wave + alpha)

    return rate


def inverse_time_decay(init_value: float, transition_steps: int, decay_rate: float = 1.0) -> Schedule:
    """Return the schedule ``step -> init_value / (1 + decay_rate * step / transition_steps)``.

    Its sum diverges and the sum of its squares does not: the condition of Robbins and Monro (1951) under which `sgd`
    converges in spite of the batches' noise.

    Raises ValueError if `init_value` or `decay_rate` is negative or not finite, or `transition_steps` is below 1.

    >>> [inverse_time_decay(1.0, 10)(step) for step in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """
    init_value, decay_rate = _finite("init_value", init_value), _finite("decay_rate", decay_rate)
    transition_steps = _at_least_one("transition_steps", transition_steps)
    return lambda step: init_value / (1 + decay_rate * step / transition_steps)


def _schedule(learning_rate: float | Schedule) -> Schedule:
    if not callable(learning_rate):
        value = _finite("learning_rate", learning_rate)
        return lambda step: value
    schedule = learning_rate
    return lambda step: _finite(f"learning_rate({step})", schedule(step))


def _finite(name: str, value: float) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    value = float(value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return value


def _in_unit_interval(name: str, value: float) -> float:
    value = _finite(name, value)
    if value >= 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
    return value


def _at_least_one(name: str, value: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value


def _zeros_like(params: Params) -> list[Array]:
    for i, theta in enumerate(params):
        if not (isinstance(theta, np.ndarray) and np.issubdtype(theta.dtype, np.floating)):
            kind = theta.dtype if isinstance(theta, np.ndarray) else type(theta).__name__
            raise TypeError(f"params[{i}] must be a floating-point array, which updates write into, got {kind}")
    return [np.zeros_like(theta) for theta in params]


def _check_shapes(grads: Params, moments: Params, params: Params) -> None:
    """Refuse what NumPy would broadcast, before anything is written."""
    shapes = [theta.shape for theta in params]
    for name, arrays in (("grads", grads), ("state", moments)):
        others = [np.shape(array) for array in arrays]
        if others != shapes:
            raise ValueError(f"{name} has arrays of shapes {others}, params of shapes {shapes}: they must be equal")


class FitResult(NamedTuple):
    """What `fit` returns: coefficients W (K, D), intercept b (K,) or None, and the mean loss of each epoch."""

    W: Array
    b: Array | None
    history: NDArray[np.float64]


def fit(
    X: ArrayLike,
    y: ArrayLike,
    optimizer: Optimizer[Any],
    *,
    W: ArrayLike | None = None,
    b: ArrayLike | None = None,
    K: int | None = None,
    epochs: int,
    batch_size: int,
    l2: float = 0.0,
    sample_weight: ArrayLike | None = None,
    class_weight: ArrayLike | dict[int, float] | str | None = None,
    label_smoothing: float = 0.0,
    random_state: int | np.random.Generator | None = None,
    callback: Callable[..., object] | None = None,
    n_threads: int | None = None,
) -> FitResult:
    r"""Train a softmax classifier on shuffled mini-batches.

    Minimises :math:`J(W, b) + \tfrac{1}{2}\, l_2 \sum_{kd} W_{kd}^2` with J as in `loss_grad`. A batch B out of N rows
    contributes the gradient of :math:`\frac{N}{m |B|} \sum_{i \in B} s_i J_i`, whose mean over batches is the gradient
    of J however the weights s are spread. Rows of weight zero are left out and not counted in N.

    Parameters
    ----------
    X : array (N, D)
        Samples. The dtype decides: float32 and float64 are kept, float16 is computed in float32, integers in float64.
    y : integers (N,) or probabilities (N, K)
        Targets.
    optimizer : Optimizer
        ``sgd(0.1)``, ``adam()``, ... or any pair of the same shape.
    W : array (K, D), optional
        Where to start; copied. Zeros if not given.
    b : array (K,), optional
        Where the intercept starts; copied. Zeros if neither `W` nor `b` is given; with `W` alone there is no intercept.
    K : int, optional
        Number of classes, if neither `W` nor an (N, K) `y` tells it. If not given, the largest label plus one, which
        must not exceed N.
    epochs : int
        How often every row is visited.
    batch_size : int
        Rows per step; the last batch of an epoch may be smaller. From N on, each step takes all rows in their order.
    l2 : float >= 0
        Penalty on W, scaled as a mean: scikit-learn's 1 / (C m). The intercept is free.
    sample_weight : array (N,), optional
        Weights s_i >= 0.
    class_weight : array (K,), dict or "balanced", optional
        Multiplies `sample_weight`; "balanced" counts all of `y`, not each batch.
    label_smoothing : float in [0, 1]
        As in `loss_grad`.
    random_state : int, numpy.random.Generator or None
        For the shuffles; whatever `numpy.random.default_rng` takes. A number makes runs equal to the bit.
    callback : callable, optional
        Called as ``callback(epoch, loss)`` after each epoch, counted from 0; and with ``params=``, the tuple ``(W, b)``
        or ``(W,)`` as it is then, if it has a parameter of that name: copy what is to be kept. Training stops when it
        returns True.
    n_threads : int, optional
        As in `loss_grad`. The result does not depend on it, to the bit.

    Returns
    -------
    FitResult
        ``W`` and ``b`` in the dtype of the computation, and ``history``: the mean loss of each epoch, without penalty,
        seen by the batches while the parameters moved.

    Raises
    ------
    FloatingPointError
        As soon as a loss or a parameter is not finite.
    ValueError, TypeError
        As `loss_grad`; if `epochs` or `batch_size` is not a positive integer; if `l2` is negative or not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from softmax_ext import optim
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([0, 0, 1, 1])
    >>> result = optim.fit(X, y, optim.nesterov(0.5), epochs=100, batch_size=2, random_state=0)
    >>> (X @ result.W.T + result.b).argmax(axis=1)
    array([0, 0, 1, 1])
    """
    epochs, batch_size, l2 = _at_least_one("epochs", epochs), _at_least_one("batch_size", batch_size), _finite("l2", l2)
    inputs, W, b = _start(X, y, W, b, K, (sample_weight, class_weight, label_smoothing))
    targets = np.asarray(inputs.Y if inputs.y is None else inputs.y)
    params = (W,) if b is None else (W, b)
    state = optimizer.init(params)
    rng = np.random.default_rng(random_state)
    history: list[float] = []
    seen = {"params": params} if callback is not None and takes(callback, "params") else {}
    for epoch in range(epochs):
        mean_loss = 0.0
        for rows, fraction in _batches(inputs, batch_size, rng):
            s = None if inputs.s is None else inputs.s[rows]
            share = fraction if s is None else float(s.sum()) / inputs.m
            loss, dW, db = loss_grad(
                inputs.X[rows],
                targets[rows],
                W,
                b,
                sample_weight=s,
                label_smoothing=inputs.smoothing,
                n_threads=n_threads,
            )
            _require(math.isfinite(loss), f"the loss is {loss}", epoch)
            mean_loss += share * loss
            grads = (dW,) if db is None else (dW, db)
            with np.errstate(over="ignore", invalid="ignore"):  # the next check tells what came of it
                if share != fraction:
                    for g in grads:
                        g *= share / fraction
                if l2:
                    dW += l2 * W
                state = optimizer.update(grads, state, params)
        _require(all(np.isfinite(theta).all() for theta in params), "a parameter is not finite", epoch)
        history.append(mean_loss)
        if callback is not None and callback(epoch, mean_loss, **seen):
            break
    return FitResult(W, b, np.array(history))


def _start(
    X: ArrayLike,
    y: ArrayLike,
    W: ArrayLike | None,
    b: ArrayLike | None,
    K: int | None,
    weighting: tuple[object, object, object],
) -> tuple[Inputs, Array, Array | None]:
    """Check the data as a whole, so that errors carry the caller's indices, and copy the starting point."""
    if K is not None:
        K = _at_least_one("K", K)
    if W is None:
        rows = count_classes(y) if K is None else K
        W = np.zeros((rows, np.shape(X)[1] if np.ndim(X) == 2 else 1))
        b = np.zeros(rows) if b is None else b
    inputs = check_problem(X, y, W, b, *weighting)
    if inputs.Y is not None:
        check_block(inputs.Y, 0)
    if K not in (None, len(inputs.W)):
        raise ValueError(f"K is {K}, but W has {len(inputs.W)} rows: leave K out")
    return inputs, inputs.W.copy(), None if inputs.b is None else inputs.b.copy()


def _batches(
    inputs: Inputs, batch_size: int, rng: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp] | slice, float]]:
    """Yield the rows of each batch of one epoch, and what part of all rows they are."""
    rows = np.arange(len(inputs.X)) if inputs.s is None else np.flatnonzero(inputs.s)
    if batch_size >= len(rows):
        yield slice(None), 1.0  # a view: X itself, not a shuffled copy of it
        return
    rng.shuffle(rows)
    for start in range(0, len(rows), batch_size):
        batch = rows[start : start + batch_size]
        yield batch, len(batch) / len(rows)


def _require(fine: bool, trouble: str, epoch: int) -> None:
    if not fine:
        raise FloatingPointError(
            f"{trouble} in epoch {epoch}: lower the learning rate, scale the columns of X alike, "
            "or look for values in X, W and b that are not finite"
        )
