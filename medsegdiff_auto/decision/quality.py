"""How good a mask is expected to be: a ridge regression of the Dice that masks of unseen cases really had.

    code       meaning
    p          the fused probabilities of a structure, at the fitted temperature
    M          its mask, of |M| voxels
    soft Dice  2 sum_M p / (|M| + sum p): what the mask would score if every voxel were drawn by itself
    doubt      log(1 - soft Dice)
    size       log of the mask's size, in the unit of the tables
    margin     q: the Dice lies above the estimate less q in 90 % of the cases

Samples answer another question: how far apart plausible masks are. How good the mask is also depends on what the
network does not know, which only cases with a reference tell (results/uncertainty.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.sampling.volume_store import VolumeStore
from medsegdiff_auto.schemas import STRICT

LEAST_DOUBT = 1e-4
Reported = Annotated[float, Field(allow_inf_nan=True)]


@dataclass(frozen=True)
class QualityFit:
    """The regression: expected Dice = intercept of the structure + doubt x ... + size x ..., within [0, 1].

    Attributes:
        intercepts: by structure; those that are not in it have no estimate.
        doubt, size: coefficients; that of the size is 0 where it does not help.
        margin: q; NaN where there were too few cases.
        correlation, error: Pearson's correlation with the real Dice and mean absolute error, of cases that were left
            out of the fit in turn.
        error_of_samples: mean absolute error of the same cases' mean Dice between mask and samples.
        num_cases: with a reference, that it was fitted on.
    """

    __pydantic_config__ = STRICT

    intercepts: dict[str, float]
    doubt: float
    size: float
    margin: Reported
    correlation: Reported
    error: float
    error_of_samples: float
    num_cases: int

    def expected_dice(self, structure: str, soft_dice: float, size: float) -> tuple[float, float]:
        """Expected Dice and the bound that 90 % of the cases lie above, both in [0, 1]; NaN for an empty mask.

        Args:
            soft_dice: of :func:`soft_dices`.
            size: of the mask, in the unit of the tables, as it was fitted.
        """
        if structure not in self.intercepts or not size > 0:
            return math.nan, math.nan
        doubt, log_size = features(soft_dice, size)
        expected = self.intercepts[structure] + self.doubt * doubt + self.size * log_size
        return float(np.clip(expected, 0, 1)), float(np.clip(expected - self.margin, 0, 1))


def features(soft_dice: float, size: float) -> tuple[float, float]:
    """Doubt and size of a mask that is not empty."""
    return math.log(max(1 - soft_dice, LEAST_DOUBT)), math.log(size)


def soft_dices(probabilities: VolumeStore, segmentation: np.ndarray, structures: Sequence[Structure],
               temperature: float, regions: bool) -> list[float]:
    """The soft Dice of every structure's mask, in [0, 1]; NaN where the mask is empty.

    Args:
        probabilities: fused, (K, z, y, x) in [0, 1].
        segmentation: label map (z, y, x) on the same grid.
        temperature: that brings them to the fitted one.
    """
    inside, sizes, totals = (np.zeros(len(structures)) for _ in range(3))
    for rows in probabilities.blocks():
        p, labels = at_temperature(probabilities.values(rows).numpy(), temperature, regions), segmentation[rows]
        for number, structure in enumerate(structures):
            mask, of_structure = structure.mask(labels), p[structure.channel]
            inside[number] += of_structure[mask].sum(dtype=np.float64)
            sizes[number] += mask.sum()
            totals[number] += of_structure.sum(dtype=np.float64)
    return [2 * part / (size + total) if size else math.nan for part, size, total in zip(inside, sizes, totals)]
