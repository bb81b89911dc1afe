"""Resampling of independent cases or patients (Efron 1979): means, and anything that is computed of them.

Of means only, or of what changes smoothly with the cases: the distribution of a resampled median has a few values, and
its interval no known coverage.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

CONFIDENCE, NUM_RESAMPLES = 0.95, 10_000
KEPT_NUMBERS = 10_000_000  # counts of a resampling that are kept for the next values, 8 bytes each


def resampled_means(values: np.ndarray, num_resamples: int = NUM_RESAMPLES, seed: int = 0) -> np.ndarray:
    """Means of ``num_resamples`` drawings of as many cases as there are, with replacement; repeatable by ``seed``.

    Args:
        values: (n,) or (n, columns), finite. All columns see the same drawings: their means are paired.

    Returns:
        (num_resamples,) or (num_resamples, columns).
    """
    counts = _kept_counts if len(values) * num_resamples <= KEPT_NUMBERS else _counts
    return counts(len(values), num_resamples, seed) @ values / len(values)


def interval_of(resampled: np.ndarray, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The percentile interval of resampled values; those that are NaN, as a correlation of equal numbers, are left out.
    """
    known = resampled[~np.isnan(resampled)]
    if not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def resampled(statistic: Callable[[np.ndarray], float], groups: np.ndarray, num_resamples: int,
              seed: int = 0) -> np.ndarray:
    """A statistic of resampled rows, (num_resamples,): whole groups are drawn, with all their rows.

    Args:
        statistic: of the indices of rows.
        groups: the group of each row, (n,), such as its patient.
    """
    _, number = np.unique(groups, return_inverse=True)
    rows = [np.flatnonzero(number == group) for group in range(number.max() + 1)]
    generator = np.random.default_rng(seed)
    drawn = (generator.integers(len(rows), size=len(rows)) for _ in range(num_resamples))
    return np.array([statistic(np.concatenate([rows[group] for group in groups])) for groups in drawn])


def _counts(num_cases: int, num_resamples: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).multinomial(num_cases, np.full(num_cases, 1 / num_cases), size=num_resamples)
    return drawn.astype(np.float64)


_kept_counts = lru_cache(maxsize=4)(_counts)
