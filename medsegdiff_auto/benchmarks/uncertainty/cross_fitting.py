"""Does what ``medsegdiff_calibrate`` fits hold on cases that it was not fitted on, and is the mask nnU-Net's or better?

Fitted on the validation cases of all folds but one, judged on that one, each fold in turn. Every fold's network only
ever sees its own validation cases, so no case judged was trained on or fitted on. nnU-Net is nnU-Net's own predictor
with the network of the same training and all mirrors; its temperature is fitted on the other folds as well.

The second table judges the expected Dice: the samples', the soft Dice of the probabilities, the fitted one. AURC: area
under the risk-coverage curve with 1 - Dice, beside that of a perfect order and of none.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
import torch

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import case_means, folder_of, model_parser
from medsegdiff_auto.benchmarks.uncertainty.upgrade import certain, intervals, tempered
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.decision.conformal import Margins
from medsegdiff_auto.decision.quality import QualityFit
from medsegdiff_auto.evaluation.audit import scores
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.risk_coverage import aurc, best_aurc
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.inference.plain_network import plain_of_ours
from medsegdiff_auto.overlap import mean_without_nan
from medsegdiff_auto.selection.dispersion import FoldCases
from medsegdiff_auto.selection.drawn_cases import DrawnCase, nll_curves
from medsegdiff_auto.selection.quality_fit import JudgedMask
from medsegdiff_auto.selection.cross_fitting import fold_cases, of_other_folds, temperature_of_others
from medsegdiff_auto.selection.sampling_fit import fit_sampling

NNUNET = "nnU-Net, all mirrors"
COLUMNS = {
    "dice": "Dice", "ece": "ECE", "pooled_ece": "ECE, cases pooled", "nll": "NLL",
    "expected_dice_between_samples": "between samples", "expected_dice_sample_reference": "sample-reference",
    "in_interval": "in the samples' interval", "conformal": "in the conformal interval", "conformal_width": "its width"
}
COMPARED, CHECKPOINT = ("dice", "ece", "nll"), "checkpoint_final.pth"


def drawn_by_nnunet(fold: FoldCases) -> list[DrawnCase]:
    """nnU-Net's own probabilities of the fold's cases, without samples."""
    plain = plain_of_ours(fold.model, 0, torch.device("cpu"))
    return [DrawnCase(case, certain(plain.probabilities(image)), reference, properties, fold.model)
            for case, image, reference, properties in fold.cases]


def drawn_by_ours(fold: FoldCases, dispersion: float, weight: float) -> list[DrawnCase]:
    """Samples and fused probabilities of the fold's cases."""
    network = fold.predictor.network
    network.configuration = network.configuration.changed(dispersion=dispersion)
    return [DrawnCase(case, replace(fold.predictor.sample_case(image, case), conditioner_weight=weight), reference,
                      properties, fold.model)
            for case, image, reference, properties in fold.cases]


def rows_of(cases: Sequence[DrawnCase], margins: dict[str, Margins], temperature: float = 1.0) -> list[dict]:
    """Scores of cases and structures; ``conformal`` and ``conformal_width`` are of the interval with its margin."""
    return [row | interval for one in cases for row, interval in zip(
        scores(one.case, one.distribution, one.reference, one.model, one.distribution.conditioner_weight, temperature),
        intervals(one.distribution, one.reference, one.model, margins))]


def without_samples(rows: list[dict]) -> list[dict]:
    """What one mask says nothing of is left out."""
    absent = dict.fromkeys(("in_interval", "expected_dice_between_samples"), float("nan"))
    return [row | absent for row in rows]


def pooled_ece(rows: list[dict]) -> float:
    """ECE of each structure over the voxels of all cases together, mean over structures.

    Unlike the mean over cases it counts no error that evens out between cases: what a temperature can mend.
    """
    of_structure = defaultdict(list)
    for row in rows:
        of_structure[row["structure"]].append(row["reliability"])
    return float(np.mean([reduce(add, curves).expected_calibration_error for curves in of_structure.values()]))


def print_rows(label: str, rows: list[dict]) -> None:
    """One line of the table: means over cases and structures."""
    means = [pooled_ece(rows) if key == "pooled_ece" else mean_without_nan(row[key] for row in rows) for key in COLUMNS]
    gaps = case_means(rows, lambda row: row["expected_dice_between_samples"] - row["expected_dice_sample_reference"])
    gap = compare_paired(gaps, [0.0] * len(gaps))
    print(f"| {label} | {' | '.join(f'{mean:.4f}' for mean in means)} "
          f"| {gap.mean_difference:+.4f} ({gap.low:+.4f} to {gap.high:+.4f}) |", flush=True)


def print_differences(table: dict[str, list[dict]]) -> None:
    """Every row of ours minus nnU-Net, paired by case; likelihood and calibration minus nnU-Net at its temperature."""
    def of(label: str, column: str) -> list[float]:
        found = defaultdict(list)
        for row in table[label]:
            found[row["case"]].append(row[column])
        return [mean_without_nan(values) for values in found.values()]

    first, at_temperature, *others = table
    for label in others:
        for column in COMPARED:
            other = first if column == "dice" else at_temperature
            found = compare_paired(of(label, column), of(other, column))
            print(f"{label} - {other}, {COLUMNS[column]}: {found.mean_difference:+.4f} "
                  f"({found.low:+.4f} to {found.high:+.4f})")


def estimates(masks: Sequence[JudgedMask], quality: QualityFit | None) -> dict[str, np.ndarray]:
    """Every estimate of the masks' Dice, (n,) each, and the bound of the fitted one; without a fit the samples'."""
    fitted = [(mask.from_samples, np.nan) if quality is None
              else quality.expected_dice(mask.structure, mask.soft_dice, mask.size) for mask in masks]
    return {"samples": np.array([mask.from_samples for mask in masks]),
            "soft Dice": np.array([mask.soft_dice for mask in masks]),
            "fitted on other folds": np.array([expected for expected, _ in fitted]),
            "bound": np.array([low for _, low in fitted])}


def print_quality(masks: Sequence[JudgedMask], of_masks: dict[str, np.ndarray]) -> None:
    """The table of estimates, and how often the real Dice lies above the bound."""
    dice = np.array([mask.dice for mask in masks])
    print(f"\n| {len(masks)} masks of {len({mask.case for mask in masks})} cases | correlation | mean absolute error | "
          f"AURC (best {best_aurc(1 - dice):.4f}, random {1 - dice.mean():.4f}) |\n|---|---|---|---|")
    for name, estimate in of_masks.items():
        if name != "bound":
            print(f"| {name} | {np.corrcoef(estimate, dice)[0, 1]:.3f} | {np.abs(estimate - dice).mean():.4f} | "
                  f"{aurc(estimate, 1 - dice):.4f} |")
    known = np.isfinite(of_masks["bound"])
    if known.any():
        above = (dice >= of_masks["bound"])[known].mean()
        print(f"real Dice above the bound: {above:.3f} of {known.sum()} masks (asked: 0.9)")


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", required=True, help="folds, at least two")
    parser.add_argument("--judge", type=int, nargs="+", help="folds to judge (default: all)")
    parser.add_argument("--cases", type=int, help="only the first N validation cases of each fold")
    parser.add_argument("--samples", type=int, help="default: the plan's")
    parser.add_argument("--steps", type=int, help="default: the plan's")
    args = parser.parse_args()
    compute_on_cpu()
    folds = {}
    for fold in args.f:
        folds[fold] = fold_cases(folder_of(args), paths.preprocessed_folder(args.d), fold,
                                 SamplingOptions(args.samples, args.steps), torch.device("cpu"), CHECKPOINT, args.cases)
    nnunet = {fold: drawn_by_nnunet(of_fold) for fold, of_fold in folds.items()}
    curves = {fold: nll_curves(drawn, 1.0) for fold, drawn in nnunet.items()}
    tables, masks, found = defaultdict(list), [], defaultdict(list)
    for judge in args.judge or args.f:
        others = of_other_folds(folds, judge)
        fit, planned = fit_sampling(others), folds[judge].model.diffusion.sampling
        margins = {name: round(of_structure[-1], 3) for name, of_structure in fit.margins.items()}
        temperature = temperature_of_others(curves, judge)
        print(f"fold {judge}: dispersion {fit.dispersion:.3f}, weight {fit.weight:g}, temperature "
              f"{fit.temperature:.2f} (nnU-Net {temperature:.2f}), margins {margins}, {fit.quality}, fitted on "
              f"{sum(len(fold.cases) for fold in others)} cases", flush=True)
        target = folds[judge].model.diffusion.target
        scaled = [replace(one, distribution=certain(tempered(one.distribution.conditioner, temperature, target)))
                  for one in nnunet[judge]]
        tables[NNUNET] += without_samples(rows_of(nnunet[judge], {}))
        tables["nnU-Net, temperature fitted on other folds"] += without_samples(rows_of(scaled, {}))
        tables["as planned"] += rows_of(drawn_by_ours(folds[judge], planned.dispersion, planned.conditioner_weight), {})
        fitted = drawn_by_ours(folds[judge], fit.dispersion, fit.weight)
        tables["fitted on other folds"] += rows_of(fitted, fit.margins, fit.temperature)
        of_fold = [mask for one in fitted for mask in one.judged_masks(fit.weight, fit.temperature) if mask.size > 0]
        masks += of_fold
        for name, values in estimates(of_fold, fit.quality).items():
            found[name].append(values)
    num_cases = len({row["case"] for row in tables["as planned"]})
    print(f"\n| on {num_cases} cases | {' | '.join(COLUMNS.values())} | gap (95 %) |\n|{'---|' * (len(COLUMNS) + 2)}")
    for label, rows in tables.items():
        print_rows(label, rows)
    print_differences(tables)
    print_quality(masks, {name: np.concatenate(values) for name, values in found.items()})


if __name__ == "__main__":
    main()
