"""The ranges of numbers that users give: what is not finite, or so large that a command would never end, is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral, Real


class OutOfRange(Exception):
    """A number that an option does not take; its text continues the sentence that the option begins."""

    def __init__(self, text: str, expected: str):
        super().__init__(text)
        self.expected = expected


@dataclass(frozen=True)
class Numbers:
    """The type of a numeric flag, and the range of an argument in Python.

    Attributes:
        kind: ``int`` or ``float``.
        least, most: None for no bound.
        above: a bound that is itself refused.
    """

    kind: type[int] | type[float]
    least: float | None = None
    most: float | None = None
    above: float | None = None

    def __call__(self, text: str) -> int | float:
        """The number that a text means.

        Raises:
            ValueError: the text is no number of this kind.
            OutOfRange: the number is not finite, or beyond a bound.
        """
        return self.checked(self.kind(text))

    def checked(self, value: int | float) -> int | float:
        """The value itself.

        Raises:
            OutOfRange: it is no number of this kind, not finite, or beyond a bound.
        """
        if not isinstance(value, Integral if self.kind is int else Real) or isinstance(value, bool):
            raise OutOfRange(f"must be {self._kind_in_words}", str(self))
        if not math.isfinite(value):
            raise OutOfRange("must be a finite number", str(self))
        for bound, words, is_kept in ((self.least, "at least", lambda bound: value >= bound),
                                      (self.above, "above", lambda bound: value > bound),
                                      (self.most, "at most", lambda bound: value <= bound)):
            if bound is not None and not is_kept(bound):
                raise OutOfRange(f"must be {words} {bound}", str(self))
        return value

    def __str__(self) -> str:
        lower = f" from {self.least}" if self.least is not None else f" above {self.above}" * (self.above is not None)
        return self._kind_in_words + lower + f" to {self.most}" * (self.most is not None)

    @property
    def _kind_in_words(self) -> str:
        return "a whole number" if self.kind is int else "a number"

    @property
    def __name__(self) -> str:
        """What argparse calls the type in its complaints."""
        return self.kind.__name__


COUNT = Numbers(int, 1, 10_000)
"""Samples, steps, mirrors, cases."""
COUNT_OR_NONE = Numbers(int, 0, 10_000)
SEVERAL = Numbers(int, 2, 10_000)
ITERATIONS = Numbers(int, 1, 100_000_000)
WORKERS = Numbers(int, 1, 1024)
POSITIVE = Numbers(float, above=0, most=1_000_000)
SHARE = Numbers(float, above=0, most=1)
SEED = Numbers(int, 0, 2**63 - 1)
STEP_SIZE = Numbers(float, 0.01, 1)
"""Of the sliding window, in patches: a smaller step than a hundredth gives millions of tiles."""


def default_numbers() -> dict[type, Numbers]:
    """The ranges of flags that name nothing but ``int`` (numbers of datasets and folds, seeds) or ``float``."""
    return {int: SEED, float: Numbers(float)}
