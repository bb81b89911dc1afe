"""Are the volumes alike, wherever the masks lie?"""

from __future__ import annotations

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score


def values(found: StructureOfCase) -> dict[str, float]:
    """1 - ||A| - |B|| / (|A| + |B|), in [0, 1]."""
    a, b = found.size(found.reference), found.size(found.prediction)
    return {"volume_similarity": 1 - abs(a - b) / (a + b) if a + b else float("nan")}


SCORE = Score((Column("volume_similarity", "volume similarity", best=1, place=42, is_printed=True),), values,
              "1 - ||A| - |B|| / (|A| + |B|) of reference A and prediction B",
              "both masks empty: NaN, left out of the mean; one empty: 0", "Taha and Hanbury 2015")
