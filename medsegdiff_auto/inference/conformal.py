"""Volume intervals that hold: split-conformal calibration of the samples' interval on cases that no fold was trained on.

    code       meaning
    lower      5 % quantile of a structure's size over the samples
    upper      95 % quantile
    middle     median over the samples
    margin     q, fitted per structure: the interval becomes [lower - q middle, upper + q middle], never below 0

Romano, Patterson and Candes 2019 (conformalised quantile regression), with the score relative to the size of the structure:
E = max(lower - V, V - upper) / middle for a reference of size V. With q the ceil((n + 1) level)-th smallest E of n cases, the
interval of a further exchangeable case holds its reference with a probability of at least ``level``. A negative q narrows.
"""

from __future__ import annotations

import math
from typing import Sequence

import numpy as np

LEVEL = 0.9
QUANTILES = (0.05, 0.5, 0.95)


def sample_quantiles(sizes: np.ndarray) -> tuple[float, float, float]:
    """Lower, middle and upper of the sizes of a structure over the samples, (S,) in any unit."""
    return tuple(float(value) for value in np.quantile(sizes, QUANTILES))


def conformal_score(sizes: np.ndarray, reference: float) -> float | None:
    """E of one case; None where the samples' median is no structure, which no relative margin can mend."""
    lower, middle, upper = sample_quantiles(sizes)
    return max(lower - reference, reference - upper) / middle if middle > 0 else None


def conformal_margin(scores: Sequence[float], level: float = LEVEL) -> float | None:
    """q of the scores of n cases; None where n is too small for the level (below 9 for 0.9)."""
    rank = math.ceil((len(scores) + 1) * level)
    return sorted(scores)[rank - 1] if rank <= len(scores) else None


def widened(lower: float, middle: float, upper: float, margin: float | None) -> tuple[float, float]:
    """The interval with its margin; as it was where none is fitted. A negative margin stops at the middle."""
    if margin is None:
        return lower, upper
    return max(0.0, min(lower - margin * middle, middle)), max(upper + margin * middle, middle)
