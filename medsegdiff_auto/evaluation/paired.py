"""Two methods on the same cases: the mean difference and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medsegdiff_auto.evaluation.bootstrap import CONFIDENCE, NUM_RESAMPLES, interval_of, resampled_means

FEWEST_CASES = 6  # that all agree: 2 / 2^6 by chance


@dataclass(frozen=True)
class PairedComparison:
    """Mean of first - second over the cases that both could score, with its bootstrap interval ``[low, high]``.

    ``standard_deviation`` is that of the differences (n - 1); NaN of fewer than two cases.
    """

    mean_difference: float
    low: float
    high: float
    num_cases: int
    num_left_out: int
    standard_deviation: float = float("nan")

    @property
    def is_resolved(self) -> bool:
        """The interval excludes a difference of 0, of at least :data:`FEWEST_CASES` cases: resampling fewer gives too
        narrow an interval, and even if they all agree, that is more than 3 % by chance.
        """
        return self.num_cases >= FEWEST_CASES and (self.low > 0 or self.high < 0)


def compare_paired(first: Sequence[float], second: Sequence[float], *, confidence: float = CONFIDENCE,
                   num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> PairedComparison:
    """Compare two methods case by case; a case that is NaN for either is left out and counted.

    The interval is the percentile bootstrap over cases (Efron 1979), repeatable by ``seed``. Cases must be independent:
    with several images of a patient, average them first.
    """
    first, second = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    assert first.shape == second.shape, f"paired values are needed, not {first.shape} and {second.shape}"
    differences = first - second
    differences = differences[~np.isnan(differences)]
    num_left_out = len(first) - len(differences)
    if not len(differences):
        return PairedComparison(*[float("nan")] * 3, 0, num_left_out)
    low, high = interval_of(resampled_means(differences, num_resamples, seed), confidence)
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else float("nan")
    return PairedComparison(float(differences.mean()), low, high, len(differences), num_left_out, spread)
