"""Schedules: learning rates as functions of the number of steps taken."""

import math
from collections.abc import Callable

from .._inputs.scalars import check_integer, check_nonnegative_number

Schedule = Callable[[int], float]


def constant(value: float) -> Schedule:
    """Return the schedule ``step -> value``; ``sgd(0.1)`` is short for ``sgd(constant(0.1))``.

    Raises ValueError if `value` is negative or not finite.

    >>> constant(0.1)(1000)
    0.1
    """
    value = check_nonnegative_number(value, "value")
    return lambda step: value


def exponential_decay(init_value: float, transition_steps: int, decay_rate: float) -> Schedule:
    """Return the schedule ``step -> init_value * decay_rate ** (step / transition_steps)``, optax's definition.

    Raises ValueError if `init_value` or `decay_rate` is negative or not finite, or `transition_steps` is below 1.

    >>> [exponential_decay(1.0, 10, 0.5)(step) for step in (0, 10, 20)]
    [1.0, 0.5, 0.25]
    """
    init_value, decay_rate = (
        check_nonnegative_number(init_value, "init_value"),
        check_nonnegative_number(decay_rate, "decay_rate"),
    )
    transition_steps = check_integer(transition_steps, "transition_steps")
    return lambda step: init_value * decay_rate ** (step / transition_steps)


def cosine_decay(init_value: float, decay_steps: int, alpha: float = 0.0) -> Schedule:
    r"""Return half a period of a cosine from `init_value` down to ``alpha * init_value``, constant afterwards.

    ``step -> init_value * ((1 - alpha) / 2 * (1 + cos(π * min(step / decay_steps, 1))) + alpha)``: optax's
    definition, after I. Loshchilov and F. Hutter, "SGDR", ICLR 2017, arXiv:1608.03983.

    Raises ValueError if `init_value` or `alpha` is negative or not finite, or `decay_steps` is below 1.

    >>> [round(cosine_decay(1.0, 10, alpha=0.1)(step), 6) for step in (0, 5, 10, 99)]
    [1.0, 0.55, 0.1, 0.1]
    """
    init_value, alpha = check_nonnegative_number(init_value, "init_value"), check_nonnegative_number(alpha, "alpha")
    decay_steps = check_integer(decay_steps, "decay_steps")

    def rate(step: int) -> float:
        wave = (1 + math.cos(math.pi * min(step / decay_steps, 1.0))) / 2
        return init_value * ((1 - alpha) * wave + alpha)

    return rate


def inverse_time_decay(init_value: float, transition_steps: int, decay_rate: float = 1.0) -> Schedule:
    """Return the schedule ``step -> init_value / (1 + decay_rate * step / transition_steps)``.

    Its sum diverges and the sum of its squares does not. That is the condition of Robbins and Monro (1951) under which
    `sgd` converges in spite of the batches' noise.

    Raises ValueError if `init_value` or `decay_rate` is negative or not finite, or `transition_steps` is below 1.

    >>> [inverse_time_decay(1.0, 10)(step) for step in (0, 10, 30)]
    [1.0, 0.5, 0.25]
    """
    init_value, decay_rate = (
        check_nonnegative_number(init_value, "init_value"),
        check_nonnegative_number(decay_rate, "decay_rate"),
    )
    transition_steps = check_integer(transition_steps, "transition_steps")
    return lambda step: init_value / (1 + decay_rate * step / transition_steps)


def schedule_of(learning_rate: float | Schedule) -> Schedule:
    """Return a schedule that checks each rate of another one, or a constant one for a number."""
    if not callable(learning_rate):
        value = check_nonnegative_number(learning_rate, "learning_rate")
        return lambda step: value
    schedule = learning_rate
    return lambda step: check_nonnegative_number(schedule(step), f"learning_rate({step})")
