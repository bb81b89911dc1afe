"""Fields of a frozen dataclass that say which values they take, and the check of them all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import field, fields
from typing import Any

Names = Iterable[str] | Callable[[], Iterable[str]]


def _ruled(accepts: Callable[[Any], bool], expected: Callable[[], str]) -> Any:
    return field(metadata={"accepts": accepts, "expected": expected})


def one_of(names: Names) -> Any:
    """A word from a list, or from what a function lists."""
    def listed() -> list[str]:
        return list(names() if callable(names) else names)

    return _ruled(lambda value: value in listed(), lambda: f"one of {', '.join(listed())}")


def flag() -> Any:
    """True or False."""
    return _ruled(lambda value: isinstance(value, bool), lambda: "true or false")


def whole(at_least: int) -> Any:
    """A whole number."""
    return _ruled(lambda value: is_whole(value) and value >= at_least, lambda: f"a whole number of at least {at_least}")


def number(at_least: float = -math.inf, at_most: float = math.inf, *, above: float = -math.inf, below: float = math.inf,
           optional: bool = False) -> Any:
    """A finite number within bounds; ``optional`` takes None as well."""
    def accepts(value: Any) -> bool:
        if value is None:
            return optional
        return is_number(value) and at_least <= value <= at_most and above < value < below

    bounds = [f"{word} {bound:g}" for word, bound in (
        ("at least", at_least), ("above", above), ("at most", at_most), ("below", below)) if math.isfinite(bound)]
    return _ruled(accepts, lambda: " ".join(["a number", " and ".join(bounds)]) + (", or nothing" if optional else ""))


def several(accepts_one: Callable[[Any], bool], expected: str) -> Any:
    """A tuple of numbers that each pass a test."""
    return _ruled(lambda value: isinstance(value, tuple) and all(map(accepts_one, value)), lambda: expected)


def is_whole(value: Any) -> bool:
    """Whether a value is a whole number, which True is not."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether a value is a finite number, which True is not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def check_fields(instance: Any, section: str) -> None:
    """Checks every field of a dataclass instance by its rule.

    Raises:
        ValueError: a value is not what its field takes; the message names section, field, value and rule.
    """
    for one in fields(instance):
        value = getattr(instance, one.name)
        if "accepts" in one.metadata and not one.metadata["accepts"](value):
            raise ValueError(f"{section}.{one.name} is {value!r}, expected {one.metadata['expected']()}")
