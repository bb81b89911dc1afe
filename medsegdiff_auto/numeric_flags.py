"""The ranges of numeric flags: what is no finite number, or so large that a command would never end, is refused."""

from __future__ import annotations

import math
from dataclasses import dataclass


class OutOfRange(Exception):
    """A number that a flag does not take; its text continues the sentence that the flag begins."""

    def __init__(self, text: str, expected: str):
        super().__init__(text)
        self.expected = expected


@dataclass(frozen=True)
class Numbers:
    """The type of a numeric flag.

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
        value = self.kind(text)
        if not math.isfinite(value):
            raise OutOfRange("must be a finite number", str(self))
        for bound, words, is_kept in ((self.least, "at least", lambda bound: value >= bound),
                                      (self.above, "above", lambda bound: value > bound),
                                      (self.most, "at most", lambda bound: value <= bound)):
            if bound is not None and not is_kept(bound):
                raise OutOfRange(f"must be {words} {bound}", str(self))
        return value

    def __str__(self) -> str:
        kind = "a whole number" if self.kind is int else "a number"
        lower = f" from {self.least}" if self.least is not None else f" above {self.above}" * (self.above is not None)
        return kind + lower + f" to {self.most}" * (self.most is not None)

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
STEP_SIZE = Numbers(float, 0.01, 1)
"""Of the sliding window, in patches: a smaller step than a hundredth gives millions of tiles."""


def default_numbers() -> dict[type, Numbers]:
    """The ranges of flags that name nothing but ``int`` (numbers of datasets and folds, seeds) or ``float``."""
    return {int: Numbers(int, 0, 2**63 - 1), float: Numbers(float)}
