"""Two methods on the same cases: the mean difference and how sure it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEWEST_CASES = 6  # that all agree: 2 / 2^6 by chance


@dataclass(frozen=True)
class PairedComparison:
    """Mean of first - second over the cases that both could score, with its bootstrap interval ``[low, high]``."""

    mean_difference: float
    low: float
    high: float
    num_cases: int
    num_left_out: int

    @property
    def is_resolved(self) -> bool:
        """The interval excludes a difference of 0, of at least :data:`FEWEST_CASES` cases: resampling fewer gives too
        narrow an interval, and even if they all agree, that is more than 3 % by chance.
        """
        return self.num_cases >= FEWEST_CASES and (self.low > 0 or self.high < 0)


def compare_paired(first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95,
                   num_resamples: int = 10_000, seed: int = 0) -> PairedComparison:
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
    means = _resampled_means(differences, num_resamples, np.random.default_rng(seed))
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return PairedComparison(float(differences.mean()), float(low), float(high), len(differences), num_left_out)


def _resampled_means(values: np.ndarray, num_resamples: int, generator: np.random.Generator) -> np.ndarray:
    counts = generator.multinomial(len(values), np.full(len(values), 1 / len(values)), size=num_resamples)
    return counts @ values / len(values)
