"""The Dice that the probabilities promise their own mask, if every voxel were drawn by itself."""

from __future__ import annotations

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score


def values(found: StructureOfCase) -> dict[str, float]:
    """2 sum_M p / (|M| + sum p) of the mask M, in [0, 1]."""
    p, size = found.probabilities[found.case.valid], float(found.prediction.sum())
    inside = float(found.probabilities[found.prediction].sum(dtype="float64"))
    return {SOFT_DICE.name: 2 * inside / (size + float(p.sum(dtype="float64"))) if size else float("nan")}


SOFT_DICE = Column("soft_dice", "soft Dice")
SCORE = Score((SOFT_DICE,), values,
              "2 sum_M p / (|M| + sum p) of the predicted mask M and its probabilities p: an estimate of Dice without "
              "a reference", "an empty prediction: NaN, left out of the mean", "decision/quality.py", rank=46,
              needs=("probabilities",))
