"""Checks of numbers: each returns its argument as a float or an int, or raises an error that names it."""

from __future__ import annotations

import numbers
import operator

import numpy as np


def check_nonnegative_number(value: object, name: str) -> float:
    """Return `value` as a float; it must be a finite real number that is not negative."""
    number = real_number(value, name)
    if not 0 <= number < np.inf:
        raise ValueError(f"{name} must be finite and not negative, got {number}")
    return number


def check_positive_number(value: object, name: str) -> float:
    """Return `value` as a float; it must be a finite real number above zero."""
    number = check_nonnegative_number(value, name)
    if number == 0:
        raise ValueError(f"{name} must be positive, got {number}")
    return number


def check_fraction(value: object, name: str) -> float:
    """Return `value` as a float; it must be a real number in [0, 1)."""
    number = check_nonnegative_number(value, name)
    if number >= 1:
        raise ValueError(f"{name} must lie in [0, 1), got {number}")
    return number


def check_integer(value: object, name: str, least: int = 1) -> int:
    """Return `value` as an int; it must be an integer that is not less than `least`."""
    if isinstance(value, (bool, np.bool)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{name} must be at least {least}, got {number}")
    return number


def check_smoothing(label_smoothing: object) -> float:
    """Return `label_smoothing` as a float; it must be a real number in [0, 1]."""
    value = label_smoothing if type(label_smoothing) is float else real_number(label_smoothing, "label_smoothing")
    if not 0 <= value <= 1:
        raise ValueError(f"label_smoothing must be in [0, 1], got {value}")
    return value


def real_number(value: object, name: str) -> float:
    """Return `value` as a float; it must be a real number, which may be infinite or NaN."""
    if type(value) is float:  # asked first, since to ask an abstract class takes a microsecond
        return value
    if isinstance(value, (bool, np.bool)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, got {value!r}")
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError(f"{name} = {value!r} does not fit in a float") from error
