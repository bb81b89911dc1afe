"""Everything that ``medsegdiff_calibrate`` fits, on cases that a fold has not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from medsegdiff_auto.decision.conformal import Margins
from medsegdiff_auto.decision.quality import QualityFit
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.selection.dispersion import CaseSampler, Dispersion, FoldCases, best_dispersion, fit_dispersion
from medsegdiff_auto.selection.drawn_cases import DrawnCase, FusedScores, scores_of_weight, volume_margins
from medsegdiff_auto.selection.quality_fit import fit_quality
from medsegdiff_auto.selection.temperature_fit import fit_temperature

WEIGHTS = (0.0, 0.25, 0.5, 0.75)  # 1 is nnU-Net with fewer mirrors, which costs Dice (results/uncertainty.md)
DICE_TOLERANCE = 0.001  # below what folds of a few dozen cases resolve


def best_weight(of_weights: dict[float, FusedScores], planned: float) -> float:
    """The planned weight, unless the cases resolve that another one gives better masks.

    Of several that do, the one of the most likely probabilities among those whose Dice is within
    :data:`DICE_TOLERANCE` of the best.
    """
    before = of_weights[planned].dice_of_cases
    compared = {weight: compare_paired(fused.dice_of_cases, before) for weight, fused in of_weights.items()}
    better = {weight: of_weights[weight] for weight, found in compared.items()
              if found.is_resolved and found.mean_difference > 0}
    if not better:
        return planned
    near = max(fused.dice for fused in better.values()) - DICE_TOLERANCE
    return min((weight for weight, fused in better.items() if fused.dice >= near),
               key=lambda weight: better[weight].nll)


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
        quality: how good a mask is expected to be; None where these cases do not tell.
    """

    dispersion: float
    tried: dict[float, Dispersion]
    weight: float
    of_weights: dict[float, FusedScores]
    temperature: float
    nll: dict[str, float]
    margins: dict[str, Margins]
    quality: QualityFit | None


def fit_sampling(folds: Sequence[FoldCases], on_tried: Callable[[float, Dispersion],
                                                                None] = lambda tau, found: None) -> SamplingFit:
    """Dispersion first; weight, temperature, margins and quality from the samples at the best one.

    Args:
        on_tried: told of every tau as soon as it is measured.
    """
    sampler = CaseSampler(folds)

    def measure(tau: float) -> Dispersion:
        found = sampler.measure(tau)
        on_tried(tau, found)
        return found

    planned = folds[0].model.diffusion.sampling
    tried = fit_dispersion(measure, planned.dispersion)
    cases = sampler.best_cases
    of_weights = weights_scored(cases, planned.conditioner_weight)
    weight = best_weight(of_weights, planned.conditioner_weight)
    temperature, nll = fit_temperature(of_weights[weight].curves)
    quality = fit_quality([mask for case in cases for mask in case.judged_masks(weight, temperature)])
    return SamplingFit(best_dispersion(tried), tried, weight, of_weights, temperature, nll, volume_margins(cases),
                       quality)


def weights_scored(cases: Sequence[DrawnCase], planned: float) -> dict[float, FusedScores]:
    """How good the fused mean is by the plain network's weight in it: those of :data:`WEIGHTS` and the planned one."""
    return {weight: scores_of_weight(cases, weight) for weight in sorted({*WEIGHTS, planned})}
