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
    """Whether it does, 1 or 0, and its width; a single sample has no interval."""
    if len(found.samples) < 2:
        return check_of(found.grid.size_column, float("nan"), float("nan"), float("nan"))
    low, high = size_interval(found.samples.reshape(len(found.samples), -1).sum(1) * found.grid.size_of_voxel)
    return check_of(found.grid.size_column, low, high, found.size(found.reference))


def check_of(size_column: str, low: float, high: float, reference: float) -> dict[str, float]:
    """The columns of an interval [low, high] of sizes and the size in the reference, all in the unit of the column.

    The width is over the size in the reference, so that structures and cases can be averaged; NaN where that is empty.
    """
    known = low == low and high == high and reference == reference
    return {interval_check(size_column): float(low <= reference <= high) if known else float("nan"),
            WIDTH.name: (high - low) / reference if known and reference > 0 else float("nan")}


WIDTH = Column("interval_width", "width of the interval", place=61)
SCORE = Score((*(Column(name, "in interval", place=60, is_claim=True,
                           tile=("References in interval", "90 % intervals of the sizes"))
                    for name in dict.fromkeys(map(interval_check, SIZE_COLUMNS))), WIDTH), values,
              "the reference's size lies between the samples' 5 and 95 % quantiles; width over the reference's size; "
              "in reports, where the interval of cases.csv is conformal, of that",
              "an empty mask has size 0, and over an empty reference the width is NaN", "counted voxels", rank=60,
              needs=("samples",))
