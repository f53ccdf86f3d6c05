"""Checks of a network's arguments, which may come from the config.json of a stranger."""

from __future__ import annotations

import math
from numbers import Integral


def check_whole(name: str, value: object, low: int, high: int) -> None:
    """Raise ValueError if a value is no whole number from low to high; True and False are none."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not (whole and low <= value <= high):  # type: ignore[operator]
        raise ValueError(f"{name} is {value!r}; it must be a whole number from {low} to {high}")


def check_number(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError if a value is no finite number from low to high; True and False are none."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
        raise ValueError(f"{name} is {value!r}; it must be a number")
    if not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; it must be a number from {low:g} to {high:g}")


def check_flag(name: str, value: object) -> None:
    """Raise ValueError if a value is neither True nor False."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be true or false")
