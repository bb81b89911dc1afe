"""Is the expected Dice near the real one? Fitted on the validation cases of all folds but one, judged on that one.

Beside the fitted estimate stand the samples' (mean Dice between mask and samples) and the soft Dice of the fused
probabilities. AURC: area under the risk-coverage curve with 1 - Dice, beside that of a perfect order and of none.
"""

from __future__ import annotations

import numpy as np

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.decision.quality import QualityFit
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.evaluation.risk_coverage import aurc, best_aurc
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.selection.dispersion import FoldCases
from medsegdiff_auto.selection.drawn_cases import DrawnCase
from medsegdiff_auto.selection.quality_fit import JudgedMask
from medsegdiff_auto.selection.sampling_fit import SamplingFit, fit_sampling


def judged_masks(fold: FoldCases, fit: SamplingFit) -> list[JudgedMask]:
    """The masks of a fold's cases, sampled and fused as fitted; empty ones are left out."""
    network = fold.predictor.network
    network.configuration = network.configuration.changed(dispersion=fit.dispersion)
    drawn = [DrawnCase(case, fold.predictor.sample_case(image, case), reference, properties, fold.model)
             for case, image, reference, properties in fold.cases]
    return [mask for case in drawn for mask in case.judged_masks(fit.weight, fit.temperature) if mask.size > 0]


def estimates(masks: list[JudgedMask], quality: QualityFit | None) -> dict[str, np.ndarray]:
    """Every estimate of the masks' Dice, (n,) each, and the bound of the fitted one; without a fit the samples'."""
    fitted = [(mask.from_samples, np.nan) if quality is None
              else quality.expected_dice(mask.structure, mask.soft_dice, mask.size) for mask in masks]
    return {"samples": np.array([mask.from_samples for mask in masks]),
            "soft Dice": np.array([mask.soft_dice for mask in masks]),
            "fitted on other folds": np.array([expected for expected, _ in fitted]),
            "bound": np.array([low for _, low in fitted])}


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", required=True, help="folds, at least two")
    parser.add_argument("--cases", type=int, help="only the first N validation cases of each fold")
    args = parser.parse_args()
    compute_on_cpu()
    folds = {}
    for fold in args.f:
        model = model_of(args, fold)
        cases = list(validation_cases(model, paths.preprocessed_folder(args.d), fold))[:args.cases]
        folds[fold] = FoldCases(MedSegDiffPredictor(model, SamplingOptions()), model, cases)
    masks, found = [], []
    for judge in args.f:
        fit = fit_sampling([folds[fold] for fold in args.f if fold != judge])
        print(f"fold {judge}: dispersion {fit.dispersion:.3f}, weight {fit.weight:g}, {fit.quality}", flush=True)
        of_fold = judged_masks(folds[judge], fit)
        masks += of_fold
        found.append(estimates(of_fold, fit.quality))
    dice = np.array([mask.dice for mask in masks])
    joined = {name: np.concatenate([of_fold[name] for of_fold in found]) for name in found[0]}
    bound = joined.pop("bound")
    print(f"\n| {len(masks)} masks of {len({mask.case for mask in masks})} cases | correlation | mean absolute error | "
          f"AURC (best {best_aurc(1 - dice):.4f}, random {1 - dice.mean():.4f}) |\n|---|---|---|---|")
    for name, of_masks in joined.items():
        print(f"| {name} | {np.corrcoef(of_masks, dice)[0, 1]:.3f} | {np.abs(of_masks - dice).mean():.4f} | "
              f"{aurc(of_masks, 1 - dice):.4f} |")
    known = np.isfinite(bound)
    if known.any():
        print(f"real Dice above the bound: {(dice >= bound)[known].mean():.3f} of {known.sum()}")


if __name__ == "__main__":
    main()
