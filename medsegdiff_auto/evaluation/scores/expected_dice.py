"""Could the reference hide among the samples? Then two samples are as far apart as a sample and the reference.

S, S' = independent samples, Y = an independent reference: E Dice(S, S') = E Dice(S, Y).
"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score
from medsegdiff_auto.overlap import expected_dice_between_samples, pairwise_dice


def expected_dice_sample_reference(samples: np.ndarray, references: np.ndarray) -> float:
    """Mean Dice over all pairs of a sample `(num_samples, *spatial)` and a reference `(num_references, *spatial)`."""
    return float(pairwise_dice(samples, references).mean())


def values(found: StructureOfCase) -> dict[str, float]:
    """Both, in [0, 1]; against all raters where there are several."""
    references = found.reference[None] if found.raters is None else found.raters
    return {"expected_dice_between_samples": expected_dice_between_samples(found.samples),
            "expected_dice_sample_reference": expected_dice_sample_reference(found.samples, references)}


BETWEEN = Column("expected_dice_between_samples", "Dice between samples", place=70, is_printed=True)
TO_REFERENCE = Column("expected_dice_sample_reference", "Dice sample to reference", place=71, is_printed=True)
SCORE = Score((BETWEEN, TO_REFERENCE), values,
              "mean Dice over pairs of samples, and of a sample and a reference; true samples have both equal",
              "two empty masks count as 1", "counted voxels", rank=50, needs=("samples",))
