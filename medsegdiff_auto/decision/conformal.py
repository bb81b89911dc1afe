"""Volume intervals that hold: split-conformal calibration of the samples' interval on cases that no fold was trained
on.

    code       meaning
    lower      5 % quantile of a structure's size over the samples
    upper      95 % quantile
    middle     median over the samples
    margin     q, fitted per structure: the interval becomes [lower - q middle, upper + q middle], never below 0
    margins    q for intervals of 1, 2, ... samples: fewer samples have a narrower interval, which needs a wider margin

Romano et al. 2019 (conformalised quantile regression), with the score relative to the size of the structure:
E = max(lower - V, V - upper) / middle for a reference of size V. With q the ceil((n + 1) level)-th smallest E of n
cases, the interval of a further exchangeable case holds its reference with a probability of at least ``level``. A
negative q narrows; it is taken where the cases resolve that the samples' own interval holds more than ``level``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

LEVEL, SIGNIFICANCE = 0.9, 0.05
QUANTILES = (0.05, 0.5, 0.95)

Margins = list[float | None]


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
    if rank > len(scores):
        return None
    margin, num_held = sorted(scores)[rank - 1], sum(score <= 0 for score in scores)
    by_chance = binom.sf(num_held - 1, len(scores), level)  # as many or more, if it held as often as it should
    return 0.0 if margin < 0 and by_chance > SIGNIFICANCE else margin


def margins_by_samples(sizes: Sequence[np.ndarray], references: Sequence[float]) -> Margins:
    """q for intervals of the first 1, 2, ... samples of every case.

    Args:
        sizes: of a structure over the samples of each case, (S,) in any unit; references: its size in each reference.
    """
    def margin(num_samples: int) -> float | None:
        scores = [conformal_score(of_case[:num_samples], reference) for of_case, reference in zip(sizes, references)]
        return conformal_margin([score for score in scores if score is not None])

    return [margin(count + 1) for count in range(min(map(len, sizes), default=0))]


def margin_for(margins: Margins | None, num_samples: int) -> float | None:
    """q for this many samples; for more than it was fitted with, of the most: their interval is no narrower."""
    return margins[min(num_samples, len(margins)) - 1] if margins else None


def widened(lower: float, middle: float, upper: float, margin: float | None) -> tuple[float, float]:
    """The interval with its margin; as it was where none is fitted. A negative margin stops at the middle."""
    if margin is None:
        return lower, upper
    return max(0.0, min(lower - margin * middle, middle)), max(upper + margin * middle, middle)
