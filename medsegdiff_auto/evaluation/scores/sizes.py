"""Volume or area of the masks."""

from __future__ import annotations

from medsegdiff_auto.decision.sizes import SIZE_COLUMNS
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score


def values(found: StructureOfCase) -> dict[str, float]:
    """Sizes of prediction and reference, their difference and its absolute value, in the unit of the grid."""
    column, size, reference = found.grid.size_column, found.size(found.prediction), found.size(found.reference)
    return {column: size, f"reference_{column}": reference, error_column(column): size - reference,
            absolute_error_column(column): abs(size - reference)}


def error_column(column: str) -> str:
    """Name of the column of the difference, such as ``volume_error_ml``."""
    return "{}_error_{}".format(*column.split("_"))


def absolute_error_column(column: str) -> str:
    """Name of the column of its absolute value, such as ``volume_absolute_error_ml``."""
    return "{}_absolute_error_{}".format(*column.split("_"))


SCORE = Score(tuple(one for column, (kind, unit, decimals) in SIZE_COLUMNS.items() for one in (
    Column(column, f"{kind} ({unit})", decimals=decimals, place=40),
    Column(f"reference_{column}", f"reference ({unit})", decimals=decimals, place=50),
    Column(error_column(column), f"{kind} error ({unit})", best=0, decimals=decimals, is_signed=True),
    Column(absolute_error_column(column), f"absolute {kind} error ({unit})", best=0, decimals=decimals))), values,
    "sizes of prediction and reference, prediction minus reference, and its absolute value", "an empty mask has size 0",
    "counted voxels",
    rank=30)
