"""Do the samples look like the raters? Energy distance, matched IoU and diversity over the validation cases of all
folds.

Beside our samples stand nnU-Net's single masks: trained on the raters' labels drawn at each iteration (the conditioner
of our own model, which is trained exactly so), and trained on the majority (``medsegdiff_train ... -tr
nnUNetTrainer``).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from collections.abc import Iterator

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from medsegdiff_auto import paths
from medsegdiff_auto.benchmarks.trained_model import case_means, folder_of, model_of, model_parser
from medsegdiff_auto.cores import compute_on_cpu
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.scores.raters import compared
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.decision.decoder import label_maps
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor, SamplingOptions
from medsegdiff_auto.overlap import dice
from medsegdiff_auto.training.raters import labels_of_raters

OURS, DRAWN, MAJORITY = "MedSegDiff-Auto, samples", "nnU-Net on drawn raters", "nnU-Net on the majority"
COLUMNS = ("dice_majority", "ged", "ged_floor", "matched_iou", "sample_diversity", "rater_diversity")


def row_of(maps: np.ndarray, fused: np.ndarray, raters: np.ndarray, majority: np.ndarray,
           structure) -> dict[str, float]:
    """One structure's scores of sampled label maps (S, *spatial)."""
    samples, references = structure.mask(maps), structure.mask(raters)
    alone = {} if len(samples) > 1 else {"sample_diversity": 0.0}
    return {"dice_majority": dice(structure.mask(fused), structure.mask(majority), both_empty=1.0),
            **compared(samples, references), **alone}


def majority_network(folder: Path, fold: int) -> nnUNetPredictor | None:
    """nnU-Net's own training of the same fold, where there is one in its model folder."""
    if not (folder / f"fold_{fold}" / "checkpoint_final.pth").is_file():
        return None
    predictor = nnUNetPredictor(device=torch.device("cpu"), perform_everything_on_device=False, allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(folder), (fold,), "checkpoint_final.pth")
    return predictor


def rows_of_fold(model: TrainedModel, fold: int, preprocessed: Path, majority: nnUNetPredictor | None,
                 num_samples: int | None) -> Iterator[dict]:
    """Scores of every method, case and structure of a fold."""
    predictor = MedSegDiffPredictor(model, SamplingOptions(num_samples))
    label_manager = model.plans_manager.get_label_manager(model.dataset_json)

    for case, image, reference, _ in validation_cases(model, preprocessed, fold):
        drawn = predictor.sample_case(image, case)
        fused, plain = label_maps([drawn.fused, drawn.conditioner], label_manager)
        methods = {OURS: (label_maps(drawn.samples, label_manager), fused), DRAWN: (plain[None], plain)}
        if majority is not None:
            logits = majority.predict_logits_from_preprocessed_data(torch.from_numpy(image))
            mask = np.asarray(label_manager.convert_logits_to_segmentation(logits.float()))
            methods[MAJORITY] = (mask[None], mask)
        raters = labels_of_raters(preprocessed / model.configuration_manager.data_identifier, case)
        for method, (maps, fused) in methods.items():
            for structure in structures_of(model.dataset_json):
                yield {"method": method, "case": case, **row_of(maps, fused, raters, reference, structure)}


def print_table(rows: list[dict]) -> None:
    """Means per method, and the paired difference of the energy distance to ours."""
    of_method = defaultdict(list)
    for row in rows:
        of_method[row["method"]].append(row)
    print(f"| {' | '.join(('method', *COLUMNS))} | GED - ours (95 %) |\n|{'---|' * (len(COLUMNS) + 2)}")
    ours = case_means(of_method[OURS], lambda row: row["ged"])
    for method, of_one in of_method.items():
        difference = compare_paired(case_means(of_one, lambda row: row["ged"]), ours)
        print(f"| {method} | {' | '.join(f'{np.nanmean([row[key] for row in of_one]):.4f}' for key in COLUMNS)} "
              f"| {difference.mean_difference:+.4f} ({difference.low:+.4f} to {difference.high:+.4f}) |")


def main() -> None:
    parser = model_parser(__doc__)
    parser.add_argument("-f", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="folds")
    parser.add_argument("--samples", type=int, help="default: the plan's")
    parser.add_argument("--as_planned", action="store_true", help="without what medsegdiff_calibrate fitted")
    args = parser.parse_args()
    preprocessed, of_majority = paths.preprocessed_folder(args.d), folder_of(args, "nnUNetTrainer")
    compute_on_cpu()
    rows = []
    for fold in args.f:
        model = model_of(args, fold, use_fitted=not args.as_planned)
        rows += rows_of_fold(model, fold, preprocessed, majority_network(of_majority, fold), args.samples)
    print_table(rows)


if __name__ == "__main__":
    main()
