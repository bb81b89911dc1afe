"""A score: what a row of the table of scores says, and the rows of a case.

The rows decide the columns of metrics.csv and their order, metrics.json, what ``medsegdiff_evaluate`` prints and what
the report shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.tables import SCORES


@dataclass(frozen=True)
class Column:
    """A column of metrics.csv.

    Attributes:
        name: in metrics.csv.
        title: in the report.
        best: value of a perfect prediction, 1 where more is better, 0 where less is; None for what is measured and not
            judged.
        decimals: in the report.
        place: from left to right in the report's tables; None leaves it out.
        tile: name and explanation of its mean as a large number in the report; None for no such number.
        is_claim: 0 or 1, shown as no or yes, its mean as a share.
        is_printed: ``medsegdiff_evaluate`` prints its means.
        is_signed: it errs to both sides of the best value: its mean is a bias, by which methods are not ranked.
    """

    name: str
    title: str
    best: float | None = None
    decimals: int = 3
    place: int | None = None
    tile: tuple[str, str] | None = None
    is_claim: bool = False
    is_printed: bool = False
    is_signed: bool = False

    @property
    def more_is_better(self) -> bool | None:
        """Which way is better; None where that is not so for a mean over cases."""
        return None if self.best is None or self.is_signed else self.best > 0


@dataclass(frozen=True)
class Score:
    """A row of the table of scores.

    Attributes:
        columns: that it may give, in the order of metrics.csv.
        values: of one structure of a case, by column; a number that does not exist is NaN, left out of every mean.
        definition: what the numbers are; ``{tolerance}`` stands for the tolerance of surfaces, with its unit.
        empty: what becomes of empty masks.
        source: where it is published, or the library that computes it.
        rank: of its columns among those of the others in metrics.csv, the lowest first.
        needs: attributes of :class:`~medsegdiff_auto.evaluation.case.StructureOfCase` that must not be None.
        libraries: whose versions the values depend on.
    """

    columns: tuple[Column, ...]
    values: Callable[[StructureOfCase], dict[str, float]]
    definition: str
    empty: str
    source: str
    rank: int = 100
    needs: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()

    def explained(self, tolerance: str) -> str:
        """Definition, policy and source as one line of text."""
        return f"{self.definition.format(tolerance=tolerance)}; {self.empty}; {self.source}"


def scores() -> list[Score]:
    """All rows, in the order of metrics.csv."""
    return sorted((SCORES.row(name) for name in SCORES.names()), key=lambda score: score.rank)


def columns() -> list[Column]:
    """The columns of all rows, in the order of metrics.csv."""
    return [column for score in scores() for column in score.columns]


def scores_among(names: Iterable[str]) -> list[tuple[Score, list[Column]]]:
    """The rows that gave columns of these names, each with those columns."""
    names = set(names)
    found = [(score, [column for column in score.columns if column.name in names]) for score in scores()]
    return [(score, given) for score, given in found if given]


def evaluate_structure(found: StructureOfCase) -> dict[str, float]:
    """The scores of one structure of a case, by column; a score whose input was not saved is absent."""
    values: dict[str, float] = {}
    for score in scores():
        if all(getattr(found, need) is not None for need in score.needs):
            values |= score.values(found)
    return values
