"""Learning rates as functions of the step, and the checks of the numbers that `softmax_ext.optim` takes."""

import math
import operator
from collections.abc import Callable
from numbers import Real

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule ``step -> value``; ``sgd(0.1)`` is short for ``sgd(constant(0.1))``.

    Raises ValueError if `value` is negative or not finite.

    >>> constant(0.1)(1000)
    0.1
    """
    value = finite("value", value)
    return lambda step: value


def exponential_decay(init_value: float, transition_steps: int, decay_rate: float) -> Schedule:
    """Return the schedule ``step -> init_value * decay_rate ** (step / transition_steps)``, optax's definition.

    Raises ValueError if `init_value` or `decay_rate` is negative or not finite, or `transition_steps` is below 1.

    >>> [exponential_decay(1.0, 10, 0.5)(step) for step in (0, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    init_value, decay_rate = finite("init_value", init_value), finite("decay_rate", decay_rate)
    transition_steps = at_least_one("transition_steps", transition_steps)
    return lambda step: init_value * decay_rate ** (step / transition_steps)


def cosine_decay(init_value: float, decay_steps: int, alpha: float = 0.0) -> Schedule:
    r"""Return half a period of a cosine from `init_value` down to ``alpha * init_value``, constant afterwards.

    ``step -> init_value * ((1 - alpha) / 2 * (1 + cos(π * min(step / decay_steps, 1))) + alpha)``: optax's
    definition, after I. Loshchilov and F. Hutter, "SGDR", ICLR 2017, arXiv:1608.03983.

    Raises ValueError if `init_value` or `alpha` is negative or not finite, or `decay_steps` is below 1.

    >>> [round(cosine_decay(1.0, 10, alpha=0.1)(step), 6) for step in (0, 5, 10, 99)]
    [1.0, 0.55, 0.1, 0.1]
    """
    init_value, alpha = finite("init_value", init_value), finite("alpha", alpha)
    decay_steps = at_least_one("decay_steps", decay_steps)

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
    init_value, decay_rate = finite("init_value", init_value), finite("decay_rate", decay_rate)
    transition_steps = at_least_one("transition_steps", transition_steps)
    return lambda step: init_value / (1 + decay_rate * step / transition_steps)


def schedule_of(learning_rate: float | Schedule) -> Schedule:
    if not callable(learning_rate):
        value = finite("learning_rate", learning_rate)
        return lambda step: value
    schedule = learning_rate
    return lambda step: finite(f"learning_rate({step})", schedule(step))


def finite(name: str, value: float) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    value = float(value)
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be finite and not negative, got {value}")
    return value


def in_unit_interval(name: str, value: float) -> float:
    value = finite(name, value)
    if value >= 1:
        raise ValueError(f"{name} must lie in [0, 1), got {value}")
    return value


def at_least_one(name: str, value: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return value
