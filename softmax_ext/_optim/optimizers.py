"""First-order optimisers, each a pair of functions; `softmax_ext.optim` makes them public."""

import math
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from .._inputs.scalars import check_fraction, check_integer, check_nonnegative_number
from .schedules import Schedule, schedule_of

Array = NDArray[np.floating[Any]]
Params = Sequence[Array]
State = TypeVar("State", bound=tuple[Any, ...])


class Optimizer(NamedTuple, Generic[State]):
    """An optimiser as two functions: ``init(params) -> state`` and ``update(grads, state, params) -> state``.

    `init` makes the state of a run; `update` takes a step: it writes into `params`, and returns the next state.
    """

    init: Callable[[Params], State]
    update: Callable[[Params, State, Params], State]


def check_optimizer(optimizer: object) -> None:
    """Raise TypeError, which says what to write instead, if this is not a pair of functions."""
    if callable(getattr(optimizer, "init", None)) and callable(getattr(optimizer, "update", None)):
        return
    name = getattr(optimizer, "__name__", optimizer)
    if name in ("sgd", "momentum", "nesterov", "adam"):
        hint = f"call it: optim.{name}({'' if name == 'adam' else '0.1'})"
    else:
        hint = "pass optim.sgd(0.1), optim.adam(), or a pair of functions init and update"
    what = f"the function {name}" if callable(optimizer) else repr(optimizer)
    raise TypeError(f"optimizer must be an Optimizer, got {what}: {hint}")


def _text(state: Any) -> str:
    """Return a state as text, with the dtypes and shapes of its arrays instead of their entries."""
    return f"{type(state).__name__}({', '.join(f'{name}={_brief(getattr(state, name))}' for name in state._fields)})"


def _brief(value: Any) -> str:
    """Return a field of a state as text."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return f"[{', '.join(map(_brief, value))}]" if isinstance(value, list) else repr(value)


class SGDState(NamedTuple):
    """State of `sgd`: the number of steps taken, and work space whose contents mean nothing between steps."""

    step: int
    work: list[Array]

    def __repr__(self) -> str:
        """Return the dtypes and shapes of the arrays, not what is in them."""
        return _text(self)


class MomentumState(NamedTuple):
    """State of `momentum` and `nesterov`: the number of steps taken, each parameter's velocity v, and work space."""

    step: int
    velocity: list[Array]
    work: list[Array]

    def __repr__(self) -> str:
        """Return the dtypes and shapes of the arrays, not what is in them."""
        return _text(self)


class AveragedState(NamedTuple):
    """State of `averaged`: the number of steps taken, the inner optimiser's state, and the mean of each parameter."""

    step: int
    inner: Any
    mean: list[Array]

    def __repr__(self) -> str:
        """Return the dtypes and shapes of the arrays, not what is in them."""
        return _text(self)


class AdamState(NamedTuple):
    """State of `adam`: the number of steps taken, first and second moments of each parameter, and work space."""

    step: int
    mu: list[Array]
    nu: list[Array]
    work: list[Array]

    def __repr__(self) -> str:
        """Return the dtypes and shapes of the arrays, not what is in them."""
        return _text(self)


def sgd(learning_rate: float | Schedule) -> Optimizer[SGDState]:
    r"""Return an optimiser for stochastic gradient descent.

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
    The method converges with probability one if Σ α_t diverges and Σ α_t² does not; see `inverse_time_decay`.

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
    rate = schedule_of(learning_rate)

    def init(params: Params) -> SGDState:
        return SGDState(0, _zeros_like(params))

    def update(grads: Params, state: SGDState, params: Params) -> SGDState:
        _check_state(state, SGDState)
        _check_shapes(grads, state.work, params)
        alpha = rate(state.step)
        for g, work, theta in zip(grads, state.work, params, strict=True):
            theta -= np.multiply(g, alpha, out=work)
        return state._replace(step=state.step + 1)

    return Optimizer(init, update)


def momentum(learning_rate: float | Schedule, momentum: float = 0.9) -> Optimizer[MomentumState]:
    r"""Return an optimiser for gradient descent with heavy-ball momentum.

    .. math::
        v_t &= \mu\, v_{t-1} + g_t, \qquad v_0 = 0 \\
        \theta_t &= \theta_{t-1} - \alpha_t\, v_t

    As in optax and PyTorch, α is not part of the velocity, so a schedule acts on old gradients as well. A constant
    gradient g moves the parameters by α g / (1 - μ) per step in the end.

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
    r"""Return an optimiser for gradient descent with Nesterov's momentum, whose step looks one velocity ahead.

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
    """Return `nesterov` if `look_ahead`, else `momentum`."""
    rate = schedule_of(learning_rate)
    decay = check_fraction(momentum, "momentum")

    def init(params: Params) -> MomentumState:
        return MomentumState(0, _zeros_like(params), _zeros_like(params))

    def update(grads: Params, state: MomentumState, params: Params) -> MomentumState:
        _check_state(state, MomentumState)
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
    r"""Return an optimiser for Adam, which scales each coefficient's steps by running moments of its gradient.

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
        ε. Zero is refused, since a coefficient whose gradient is always 0, such as that of a blank pixel, would move by
        0 / 0.

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
    rate = schedule_of(learning_rate)
    b1, b2 = check_fraction(b1, "b1"), check_fraction(b2, "b2")
    eps = check_nonnegative_number(eps, "eps")
    if eps == 0:
        raise ValueError("eps must be positive, got 0.0: a zero gradient would be divided by zero")

    def init(params: Params) -> AdamState:
        return AdamState(0, _zeros_like(params), _zeros_like(params), _zeros_like(params))

    def update(grads: Params, state: AdamState, params: Params) -> AdamState:
        _check_state(state, AdamState)
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
    r"""Return an optimiser that also keeps the mean of the parameters after each step of another optimiser.

    .. math:: \bar\theta_t = \bar\theta_{t-1} + \frac{\theta_t - \bar\theta_{t-1}}{t - t_0}

    The steps are those of `optimizer`. The mean, the state's ``mean``, is nearer to the minimum than the last step.

    Parameters
    ----------
    optimizer : Optimizer
        ``sgd(0.1)``, ``adam()`` or another, or any pair of functions with the same signatures.
    after : int >= 0
        t₀, the number of steps before the mean begins. Until then ``mean`` is θ itself.

    Returns
    -------
    Optimizer
        With `AveragedState` as its state.

    Raises
    ------
    ValueError, TypeError
        ValueError if `after` is negative; TypeError if it is not an integer, or `optimizer` is not a pair of functions.

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
    check_optimizer(optimizer)
    after = check_integer(after, "after", least=0)

    def init(params: Params) -> AveragedState:
        return AveragedState(0, optimizer.init(params), [theta.copy() for theta in params])

    def update(grads: Params, state: AveragedState, params: Params) -> AveragedState:
        _check_state(state, AveragedState)
        inner, step = optimizer.update(grads, state.inner, params), state.step + 1
        for mean, theta in zip(state.mean, params, strict=True):
            mean += (theta - mean) / max(1, step - after)
        return AveragedState(step, inner, state.mean)

    return Optimizer(init, update)


def _zeros_like(params: Params) -> list[Array]:
    """Return zeros like each parameter; raise TypeError if one is not a floating-point array."""
    for i, theta in enumerate(params):
        if not (isinstance(theta, np.ndarray) and np.issubdtype(theta.dtype, np.floating)):
            kind = theta.dtype if isinstance(theta, np.ndarray) else type(theta).__name__
            raise TypeError(f"params[{i}] must be a floating-point array, which updates write into, got {kind}")
    return [np.zeros_like(theta) for theta in params]


def _check_state(state: object, kind: type) -> None:
    """Raise TypeError if a state is not of the kind that this optimiser returns."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state must be the {kind.__name__} that init or the last update has returned, got {state!r}: "
            "state = optimizer.init(params)"
        )


def _check_shapes(grads: Params, moments: Params, params: Params) -> None:
    """Raise ValueError, before anything is written, if shapes differ, since NumPy might broadcast them."""
    shapes = [theta.shape for theta in params]
    for name, arrays in (("grads", grads), ("state", moments)):
        others = [np.shape(array) for array in arrays]
        if others != shapes:
            raise ValueError(f"{name} has arrays of shapes {others}, params of shapes {shapes}: they must be equal")
