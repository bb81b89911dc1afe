"""Does an estimate of quality sort the cases? The risk of the cases that are kept, as more and more are kept.

    code        meaning
    risk        1 - Dice of a case
    coverage    the share of cases that are kept, those of the highest estimate first
    AURC        mean over the coverages 1/n, 2/n, ... 1 of the mean risk of the kept cases: the smaller the better

Geifman & El-Yaniv 2017. Cases of the same estimate are kept in any order: their risks count as their mean.
"""

from __future__ import annotations

import numpy as np


def risk_by_coverage(estimates: np.ndarray, risks: np.ndarray) -> np.ndarray:
    """Mean risk of the 1, 2, ... n cases with the highest estimates, (n,) both.

    Raises:
        ValueError: a value is not finite, or there is none.
    """
    estimates, risks = np.asarray(estimates, float), np.asarray(risks, float)
    if not len(risks) or not (np.isfinite(estimates).all() and np.isfinite(risks).all()):
        raise ValueError("estimates and risks must be finite, and at least one")
    _, group, count = np.unique(-estimates, return_inverse=True, return_counts=True)
    kept = np.repeat(np.bincount(group, weights=risks) / count, count)
    return np.cumsum(kept) / np.arange(1, len(kept) + 1)


def aurc(estimates: np.ndarray, risks: np.ndarray) -> float:
    """Area under :func:`risk_by_coverage`, in the unit of the risks; a constant estimate gives the mean risk."""
    return float(risk_by_coverage(estimates, risks).mean())


def best_aurc(risks: np.ndarray) -> float:
    """The area if the estimate knew the risks."""
    return aurc(-np.asarray(risks, float), risks)
