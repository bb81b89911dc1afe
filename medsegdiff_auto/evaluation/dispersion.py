"""Are the samples as far from each other as from the reference? The one scalar that makes them so.

Where the reference is one more draw from the distribution that the samples come from, the expected Dice between two samples
equals that between a sample and the reference. State guidance gamma draws the samples apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

import numpy as np

from medsegdiff_auto.evaluation.audit import scores
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor

HIGHEST_GUIDANCE, GAP_TOLERANCE, MAX_EVALUATIONS = 16.0, 0.005, 8
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Dispersion:
    """Means over cases and structures: Dice between samples, and between sample and reference, in [0, 1]."""

    between_samples: float
    sample_reference: float

    @property
    def gap(self) -> float:
        """Above 0 where the samples are too much alike."""
        return self.between_samples - self.sample_reference


def fit_guidance(measure: Callable[[float], Dispersion]) -> dict[float, Dispersion]:
    """Every gamma that was tried, with what it gave; the one of the smallest gap is the fit.

    Doubles gamma until the gap changes its sign, then interpolates linearly in log gamma (regula falsi).
    """
    tried = {1.0: measure(1.0)}
    low = high = 1.0
    while tried[high].gap > GAP_TOLERANCE and high < HIGHEST_GUIDANCE:
        low, high = high, 2 * high
        tried[high] = measure(high)
    while tried[low].gap > 0 > tried[high].gap and len(tried) < MAX_EVALUATIONS and smallest_gap(tried) > GAP_TOLERANCE:
        share = tried[low].gap / (tried[low].gap - tried[high].gap)
        middle = float(np.exp(np.log(low) + share * (np.log(high) - np.log(low))))
        tried[middle] = measure(middle)
        low, high = (middle, high) if tried[middle].gap > 0 else (low, middle)
    return tried


def smallest_gap(tried: dict[float, Dispersion]) -> float:
    """The smallest distance from 0 so far."""
    return min(abs(dispersion.gap) for dispersion in tried.values())


def best_guidance(tried: dict[float, Dispersion]) -> float:
    """Gamma of the smallest gap."""
    return min(tried, key=lambda gamma: abs(tried[gamma].gap))


def mean_dispersion(rows: list[dict]) -> Dispersion:
    """Over the rows of :func:`~medsegdiff_auto.evaluation.audit.scores`; NaN (no such structure) is left out."""
    return Dispersion(*(float(np.nanmean([row[name] for row in rows]))
                        for name in ("expected_dice_between_samples", "expected_dice_sample_reference")))


class CaseSampler:
    """Samples cases at any guidance, and keeps the distributions.

    Args:
        cases: of :func:`~medsegdiff_auto.evaluation.audit.validation_cases`.
    """

    def __init__(self, predictor: MedSegDiffPredictor, model: TrainedModel, cases: Sequence[tuple]):
        self.predictor, self.model, self.cases = predictor, model, cases
        self.distributions: dict[float, list[CaseDistribution]] = {}

    def measure(self, gamma: float) -> Dispersion:
        """The mean dispersion at this guidance."""
        network = self.predictor.network
        network.configuration = replace(network.configuration, state_guidance=gamma)
        drawn = [self.predictor.sample_case(image, case) for case, image, _, _ in self.cases]
        self.distributions[gamma] = drawn
        return mean_dispersion([row for (case, _, reference, _), distribution in zip(self.cases, drawn)
                                for row in scores(case, distribution, reference, self.model)])

    def dice_of_weights(self, gamma: float) -> dict[float, float]:
        """Mean Dice of the fused mask by the plain network's weight, at a guidance that was measured."""
        return {weight: float(np.nanmean([row["dice"] for (case, _, reference, _), distribution
                                          in zip(self.cases, self.distributions[gamma])
                                          for row in scores(case, distribution, reference, self.model, weight)]))
                for weight in WEIGHTS}
