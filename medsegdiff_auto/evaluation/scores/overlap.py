"""Dice and intersection over union of the masks."""

from __future__ import annotations

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score
from medsegdiff_auto.overlap import dice, iou


def values(found: StructureOfCase) -> dict[str, float]:
    """Both, in [0, 1]."""
    return {"dice": dice(found.reference, found.prediction), "iou": iou(found.reference, found.prediction)}


DICE = Column("dice", "Dice", best=1, place=10, tile=("Dice", "mean over structures"), is_printed=True)
SCORE = Score((DICE, Column("iou", "IoU", best=1)), values,
              "2|A n B| / (|A| + |B|) and |A n B| / |A u B| of reference A and prediction B",
              "both masks empty: NaN, left out of the mean; one empty: 0", "as nnU-Net", rank=10)
