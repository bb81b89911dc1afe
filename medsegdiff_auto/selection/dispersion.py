"""Are the samples as far from each other as from the reference? The one scalar that makes them so.

Where the reference is one more draw from the distribution that the samples come from, the expected Dice between two
samples equals that between a sample and the reference. Latent noise of standard deviation tau draws the samples
apart, 1 as the network was trained; a network without has nothing to fit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from collections.abc import Callable, Sequence

import numpy as np

from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.selection.drawn_cases import DrawnCase
from medsegdiff_auto.overlap import mean_without_nan

HIGHEST_DISPERSION, LOWEST_SHARE, GAP_TOLERANCE, MAX_EVALUATIONS = 16.0, 0.1, 0.005, 10


@dataclass(frozen=True)
class Dispersion:
    """Means over cases and structures: Dice between samples, and between sample and reference, in [0, 1].

    Attributes:
        is_resolved: whether the cases resolve that the two differ.
    """

    between_samples: float
    sample_reference: float
    is_resolved: bool = True

    @property
    def gap(self) -> float:
        """Above 0 where the samples are too much alike."""
        return self.between_samples - self.sample_reference


def fit_dispersion(measure: Callable[[float], Dispersion], planned: float) -> dict[float, Dispersion]:
    """Every tau that was tried, with what it gave; the one of the smallest gap is the fit.

    Starts from the planned one, which stays where the cases do not resolve a gap, or where it is 0: there is no noise.
    Doubles or halves it until the gap changes its sign, then interpolates linearly (regula falsi).
    """
    tried = {planned: measure(planned)}
    if not planned or abs(tried[planned].gap) <= GAP_TOLERANCE or not tried[planned].is_resolved:
        return tried
    low = high = planned
    if tried[planned].gap < 0:
        while tried[low].gap < -GAP_TOLERANCE and low > LOWEST_SHARE * planned:
            low, high = low / 2, low
            tried[low] = measure(low)
    else:
        while tried[high].gap > GAP_TOLERANCE and high < HIGHEST_DISPERSION:
            low, high = high, 2 * high
            tried[high] = measure(high)
    while tried[low].gap > 0 > tried[high].gap and len(tried) < MAX_EVALUATIONS and smallest_gap(tried) > GAP_TOLERANCE:
        middle = low + (high - low) * tried[low].gap / (tried[low].gap - tried[high].gap)
        tried[middle] = measure(middle)
        low, high = (middle, high) if tried[middle].gap > 0 else (low, middle)
    return tried


def smallest_gap(tried: dict[float, Dispersion]) -> float:
    """The smallest distance from 0 so far."""
    return min(abs(dispersion.gap) for dispersion in tried.values())


def best_dispersion(tried: dict[float, Dispersion]) -> float:
    """Tau of the smallest gap."""
    return min(tried, key=lambda tau: abs(tried[tau].gap))


def mean_dispersion(rows: list[dict]) -> Dispersion:
    """Over the rows of :func:`~medsegdiff_auto.evaluation.audit.scores`; NaN (no such structure) is left out.

    A gap is resolved where the bootstrap interval of its mean over the cases leaves out 0.
    """
    names, of_case = ("expected_dice_between_samples", "expected_dice_sample_reference"), defaultdict(list)
    for row in rows:
        of_case[row["case"]].append(row[names[0]] - row[names[1]])
    gap = compare_paired([mean_without_nan(gaps) for gaps in of_case.values()], [0.0] * len(of_case))
    return Dispersion(*(float(np.nanmean([row[name] for row in rows])) for name in names), gap.is_resolved)


@dataclass(frozen=True)
class FoldCases:
    """One fold's network and the cases that it has not seen.

    Attributes:
        cases: of :func:`~medsegdiff_auto.evaluation.audit.validation_cases`.
    """

    predictor: MedSegDiffPredictor
    model: TrainedModel
    cases: Sequence[tuple]


class CaseSampler:
    """Samples the validation cases of folds at any dispersion.

    Attributes:
        best_cases: what was drawn with the smallest gap so far.
    """

    def __init__(self, folds: Sequence[FoldCases]):
        self.folds = folds
        self.best_cases: list[DrawnCase] = []
        self._smallest_gap = math.inf

    def measure(self, tau: float) -> Dispersion:
        """How far apart samples are with noise of this standard deviation."""
        drawn = []
        for fold in self.folds:
            network = fold.predictor.network
            network.configuration = network.configuration.changed(dispersion=tau)
            drawn += [DrawnCase(case, fold.predictor.sample_case(image, case), reference, properties, fold.model)
                      for case, image, reference, properties in fold.cases]
        dispersion = mean_dispersion([row for one in drawn for row in one.rows()])
        if abs(dispersion.gap) < self._smallest_gap or not self.best_cases:
            self._smallest_gap, self.best_cases = abs(dispersion.gap), drawn
        return dispersion
