"""What a comparison of methods on the same cases may claim.

    independent units   patients where a patient has several cases, else cases: their values are averaged first
    mean                with its bootstrap interval over the units
    p                   Wilcoxon's signed-rank test of the paired differences; p_holm: corrected for several methods
    rank                1 is the best mean, equal means share the better rank; its distribution over the bootstrap

A difference is resolved as :attr:`~medsegdiff_auto.evaluation.paired.PairedComparison.is_resolved` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata, wilcoxon

from medsegdiff_auto.evaluation.bootstrap import interval_of, resampled_means

FEW_CASES = 50  # below, an interval of the bootstrap is narrower than it says
TIE = 1e-12


@dataclass(frozen=True)
class Mean:
    """A mean over units with its bootstrap interval ``[low, high]``; ``standard_deviation`` is that of the units."""

    mean: float
    low: float
    high: float
    standard_deviation: float
    num: int


def mean_with_interval(values: Sequence[float]) -> Mean:
    """The mean of the values that are not NaN, (n,)."""
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values)]
    if not len(values):
        return Mean(*[float("nan")] * 4, 0)
    low, high = interval_of(resampled_means(values))
    spread = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    return Mean(float(values.mean()), low, high, spread, len(values))


def wins_ties_losses(first: np.ndarray, second: np.ndarray, more_is_better: bool) -> tuple[int, int, int]:
    """How often the first is better, as good, worse; units that are NaN for either do not count."""
    ahead = (first - second) * (1 if more_is_better else -1)
    return int((ahead > TIE).sum()), int((np.abs(ahead) <= TIE).sum()), int((ahead < -TIE).sum())


def wilcoxon_p(first: np.ndarray, second: np.ndarray) -> float:
    """Two-sided p of Wilcoxon's signed-rank test; differences of 0 are left out, 1 where all are; NaN without units."""
    differences = first - second
    differences = differences[~np.isnan(differences)]
    if not len(differences):
        return float("nan")
    differences = differences[np.abs(differences) > TIE]
    return float(wilcoxon(differences).pvalue) if len(differences) else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (1979): the i-th smallest of m is multiplied by m - i + 1, is no smaller than the one
    before, and at most 1. NaN stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[:np.count_nonzero(~np.isnan(p))]
    corrected = np.full(len(p), np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected.tolist()


def rank_shares(values: np.ndarray, more_is_better: bool) -> tuple[np.ndarray, np.ndarray]:
    """The rank of every method by its mean, (M,), and how often it has each rank in the bootstrap, (M, M).

    Args:
        values: of units and methods, (n, M); units that are NaN for one of them are left out.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[~np.isnan(values).any(1)] * (-1 if more_is_better else 1)
    num_methods = values.shape[1]
    if not len(values):
        return np.full(num_methods, np.nan), np.full((num_methods, num_methods), np.nan)
    ranks = rankdata(np.round(resampled_means(values), 12), method="min", axis=1)
    shares = np.stack([(ranks == rank).mean(0) for rank in range(1, num_methods + 1)], axis=1)
    return rankdata(np.round(values.mean(0), 12), method="min"), shares
