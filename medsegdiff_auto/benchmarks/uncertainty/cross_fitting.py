"""Does what ``medsegdiff_calibrate`` fits hold on cases that it was not fitted on? Fitted on all folds but one, judged
on that one.

Every fold's network only ever sees its own validation cases, so no case judged was trained on or fitted on.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import reduce
from operator import add
from typing import NamedTuple

import numpy as np

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import case_means, model_of, model_parser
from medsegdiff_auto.benchmarks.uncertainty.upgrade import judged
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.selection.dispersion import FoldCases
from medsegdiff_auto.selection.sampling_fit import SamplingFit, fit_sampling
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.decision.conformal import Margins
from medsegdiff_auto.inference.predictor import CaseDistribution, MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.overlap import mean_without_nan

COLUMNS = {
    "dice": "Dice", "ece": "ECE", "pooled_ece": "ECE, cases pooled", "nll": "NLL",
    "expected_dice_between_samples": "between samples", "expected_dice_sample_reference": "sample-reference",
    "in_interval": "in the samples' interval", "conformal": "in the conformal interval", "conformal_width": "its width"
}


class Values(NamedTuple):
    """What a fold is judged at."""

    dispersion: float
    weight: float
    margins: dict[str, Margins]
    temperature: float


def rows_of_fold(fold: FoldCases, values: Values | SamplingFit) -> list[dict]:
    """Scores of the fold's cases at these values."""
    network = fold.predictor.network
    network.configuration = network.configuration.changed(dispersion=values.dispersion)

    def distribution(case: str, image: np.ndarray) -> CaseDistribution:
        return replace(fold.predictor.sample_case(image, case), conditioner_weight=values.weight)

    return judged(distribution, list(fold.cases), fold.model, values.margins, values.temperature)


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


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", required=True, help="folds, at least two")
    parser.add_argument("--judge", type=int, nargs="+", help="folds to judge (default: all)")
    parser.add_argument("--cases", type=int, help="only the first N validation cases of each fold")
    parser.add_argument("--samples", type=int, help="default: the plan's")
    parser.add_argument("--steps", type=int, help="default: the plan's")
    args = parser.parse_args()
    preprocessed = paths.preprocessed_folder(args.d)
    compute_on_cpu()
    folds = {}
    for fold in args.f:
        model = model_of(args, fold)
        predictor = MedSegDiffPredictor(model, SamplingOptions(args.samples, args.steps))
        folds[fold] = FoldCases(predictor, model, list(validation_cases(model, preprocessed, fold))[:args.cases])
    tables = defaultdict(list)
    for judge in args.judge or args.f:
        others = [folds[fold] for fold in args.f if fold != judge]
        fit = fit_sampling(others)
        margins = {name: round(of_structure[-1], 3) for name, of_structure in fit.margins.items()}
        print(f"fold {judge}: dispersion {fit.dispersion:.3f}, weight {fit.weight:g}, temperature "
              f"{fit.temperature:.2f}, margins "
              f"{margins}, fitted on {sum(len(fold.cases) for fold in others)} cases", flush=True)
        planned = folds[judge].model.diffusion.sampling
        for label, of_label in (("plain network, same views", Values(planned.dispersion, 1.0, {}, 1.0)),
                                ("as planned", Values(planned.dispersion, planned.conditioner_weight, {}, 1.0)),
                                ("fitted on other folds", fit)):
            tables[label] += rows_of_fold(folds[judge], of_label)
    num_cases = len({row["case"] for row in tables["as planned"]})
    print(f"| on {num_cases} cases | {' | '.join(COLUMNS.values())} | gap (95 %) |\n|{'---|' * (len(COLUMNS) + 2)}")
    for label, rows in tables.items():
        print_rows(label, rows)


if __name__ == "__main__":
    main()
