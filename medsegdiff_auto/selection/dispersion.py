"""Are the samples as far from each other as from the reference? The one scalar that makes them so.

Where the reference is one more draw from the distribution that the samples come from, the expected Dice between two
samples equals that between a sample and the reference. A smooth noise of standard deviation tau draws the samples
apart: the latent noise that the network was trained with (tau = 1), or a field on the logits (tau = 0).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from collections.abc import Callable, Sequence

import numpy as np

from medsegdiff_auto.evaluation.audit import scores
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.nnunet.structures import ignore_label_of, structures_of
from medsegdiff_auto.selection.temperature_fit import fit_temperature, lowest_nll, nll_by_temperature
from medsegdiff_auto.decision.conformal import Margins, margins_by_samples
from medsegdiff_auto.decision.decoder import by_mean, label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.overlap import mean_without_nan

FIRST_DISPERSION, HIGHEST_DISPERSION, LOWEST_SHARE, GAP_TOLERANCE, MAX_EVALUATIONS = 0.5, 16.0, 0.1, 0.005, 10
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)
DICE_TOLERANCE = 0.001  # below what folds of a few dozen cases resolve


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


def fit_dispersion(measure: Callable[[float], Dispersion], planned: float = 0.0) -> dict[float, Dispersion]:
    """Every tau that was tried, with what it gave; the one of the smallest gap is the fit.

    Starts from the planned one; that of a network trained with noise stays where the cases do not resolve a gap.
    Doubles (from 0.5, if it is 0) or halves it until the gap changes its sign, then interpolates linearly (regula
    falsi).
    """
    tried = {planned: measure(planned)}
    if abs(tried[planned].gap) <= GAP_TOLERANCE or (planned and not tried[planned].is_resolved):
        return tried
    low = high = planned
    if tried[planned].gap < 0:
        while tried[low].gap < -GAP_TOLERANCE and low > LOWEST_SHARE * planned:
            low, high = low / 2, low
            tried[low] = measure(low)
    else:
        while tried[high].gap > GAP_TOLERANCE and high < HIGHEST_DISPERSION:
            low, high = high, 2 * high or FIRST_DISPERSION
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
class FusedScores:
    """Dice of the fused masks, (num_cases,), the mean over structures, NaN where there is none; and negative
    log-likelihood of their probabilities by temperature, (num_cases, 25).
    """

    dice_of_cases: np.ndarray
    curves: np.ndarray

    @property
    def dice(self) -> float:
        """The mean over the cases."""
        return mean_without_nan(self.dice_of_cases)

    @property
    def nll(self) -> float:
        """At the best temperature, in nats."""
        return lowest_nll(self.curves)


def best_weight(of_weights: dict[float, FusedScores], planned: float) -> float:
    """The planned weight, unless the cases resolve that another one gives better masks.

    Of several that do, the one of the most likely probabilities among those whose Dice is within
    :data:`DICE_TOLERANCE` of the best.
    """
    before = of_weights[planned].dice_of_cases
    better = {weight: fused for weight, fused in of_weights.items()
              if weight != planned and compare_paired(fused.dice_of_cases, before).low > 0}
    if not better:
        return planned
    near = max(fused.dice for fused in better.values()) - DICE_TOLERANCE
    return min((weight for weight, fused in better.items() if fused.dice >= near),
               key=lambda weight: better[weight].nll)


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
    """Samples the validation cases of folds at any dispersion, and keeps the distributions of the best one so far."""

    def __init__(self, folds: Sequence[FoldCases]):
        self.folds = folds
        self.best: tuple[float, float, list[tuple]] | None = None  # gap, tau, what was drawn

    @property
    def planned_weight(self) -> float:
        """The plain network's in the fused mean, as planned."""
        return self.folds[0].model.diffusion.sampling.conditioner_weight

    def measure(self, tau: float) -> Dispersion:
        """How far apart samples are with noise of this standard deviation."""
        drawn = []
        for fold in self.folds:
            network = fold.predictor.network
            network.configuration = network.configuration.changed(dispersion=tau)
            drawn += [(case, fold.predictor.sample_case(image, case), reference, fold.model)
                      for case, image, reference, _ in fold.cases]
        dispersion = mean_dispersion([row for one in drawn for row in scores(*one)])
        if self.best is None or abs(dispersion.gap) < self.best[0]:
            self.best = abs(dispersion.gap), tau, drawn
        return dispersion

    def scores_of_weights(self) -> dict[float, FusedScores]:
        """How good the fused mean is by the plain network's weight in it, at the best tau so far."""
        return {
            weight: FusedScores(
                np.array([mean_without_nan([row["dice"] for row in scores(*one, weight)]) for one in self.best[2]]),
                self.nll_curves(weight))
            for weight in sorted({*WEIGHTS, self.planned_weight})
        }

    def volume_margins(self) -> dict[str, Margins]:
        """The conformal margins of every structure's size at the best tau so far; absent where there are too few cases.
        """
        sizes, references = defaultdict(list), defaultdict(list)
        for _, distribution, reference, model in self.best[2]:
            label_manager = model.plans_manager.get_label_manager(model.dataset_json)
            maps = label_maps(distribution.samples, label_manager)
            for structure in structures_of(model.dataset_json):
                sizes[structure.name].append(structure.mask(maps).reshape(len(maps), -1).sum(1))
                references[structure.name].append(float(structure.mask(reference).sum()))
        margins = {name: margins_by_samples(of_structure, references[name]) for name, of_structure in sizes.items()}
        return {name: of_structure for name, of_structure in margins.items() if of_structure[-1] is not None}

    def nll_curves(self, weight: float) -> np.ndarray:
        """Negative log-likelihood of the fused mean by temperature at the best tau so far, (num_cases, 25).

        ``weight`` is the plain network's in the mean.
        """
        curves = []
        for _, distribution, reference, model in self.best[2]:
            label_manager = model.plans_manager.get_label_manager(model.dataset_json)
            fused = replace(distribution, conditioner_weight=weight).fused
            prediction = by_mean(fused, label_manager)
            curves.append(nll_by_temperature(fused.numpy(), prediction, reference, structures_of(model.dataset_json),
                                             label_manager.has_regions, ignore_label_of(model.dataset_json)))
        return np.stack(curves)


@dataclass(frozen=True)
class SamplingFit:
    """What the cases of some folds say.

    Attributes:
        dispersion: tau of the smallest gap.
        tried: every tau, with what it gave.
        weight: of the plain network in the fused mean.
        of_weights: every weight, with what it gave.
        temperature: of the probabilities fused with this weight.
        nll: of :func:`~medsegdiff_auto.selection.temperature_fit.fit_temperature`.
        margins: conformal, by structure; absent where there are too few cases.
    """

    dispersion: float
    tried: dict[float, Dispersion]
    weight: float
    of_weights: dict[float, FusedScores]
    temperature: float
    nll: dict[str, float]
    margins: dict[str, Margins]


def fit_sampling(folds: Sequence[FoldCases], on_tried: Callable[[float, Dispersion],
                                                                None] = lambda tau, found: None) -> SamplingFit:
    """Dispersion first; weight, temperature and margins from the samples at the best one.

    Args:
        on_tried: told of every tau as soon as it is measured.
    """
    sampler = CaseSampler(folds)

    def measure(tau: float) -> Dispersion:
        found = sampler.measure(tau)
        on_tried(tau, found)
        return found

    tried = fit_dispersion(measure, folds[0].model.diffusion.sampling.dispersion)
    of_weights = sampler.scores_of_weights()
    weight = best_weight(of_weights, sampler.planned_weight)
    temperature, nll = fit_temperature(of_weights[weight].curves)
    return SamplingFit(best_dispersion(tried), tried, weight, of_weights, temperature, nll, sampler.volume_margins())
