"""Does the samples' interval of sizes hold the reference, as often as it says?"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto.decision.sizes import SIZE_COLUMNS, interval_check
from medsegdiff_auto.evaluation.case import StructureOfCase
from medsegdiff_auto.evaluation.score import Column, Score

INTERVAL = (0.05, 0.95)


def size_interval(sizes: np.ndarray, interval: tuple[float, float] = INTERVAL) -> tuple[float, float]:
    """The quantiles (5 and 95 %) of the samples' sizes, interpolated linearly between the order statistics."""
    low, high = np.quantile(np.asarray(sizes, dtype=np.float64), interval)
    return float(low), float(high)


def nominal_coverage(num_samples: int, interval: tuple[float, float] = INTERVAL) -> float:
    """How often the interval of n perfect samples holds the reference: (high - low) (n - 1) / (n + 1).

    Exact for uniform sizes, since the k-th of n order statistics then has mean k / (n + 1). Far below 90 % for few
    samples.
    """
    return (interval[1] - interval[0]) * (num_samples - 1) / (num_samples + 1)


def values(found: StructureOfCase) -> dict[str, float]:
    """1 where it does, else 0."""
    low, high = size_interval(found.samples.reshape(len(found.samples), -1).sum(1) * found.grid.size_of_voxel)
    return {interval_check(found.grid.size_column): float(low <= found.size(found.reference) <= high)}


SCORE = Score(tuple(Column(name, "in interval", place=60, is_claim=True,
                           tile=("References in interval", "5 to 95 % of the samples' sizes"))
                    for name in dict.fromkeys(map(interval_check, SIZE_COLUMNS))), values,
              "the reference's size lies between the samples' 5 and 95 % quantiles; in the report, where the interval "
              "of cases.csv is conformal, in that", "an empty mask has size 0", "counted voxels", rank=60,
              needs=("samples",))
