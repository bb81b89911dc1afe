"""A small model with everything that a model folder can hold."""

import json
import shutil
from pathlib import Path

import torch

from medsegdiff_auto.decision.fitted_sampling import FittedSampling, checkpoint_checksums
from medsegdiff_auto.inference.model_archive import Terms
from medsegdiff_auto.nnunet.postprocessing_steps import write_postprocessing

KEPT = Path(__file__).parents[1] / "inference" / "version_1"
DICES = {0: (0.8, 0.6, float("nan")), 1: (0.9, )}  # of the organ, by fold
STEPS = [{"labels_or_regions": [1, (1, 2)], "background_label": 0}, {"labels_or_regions": 2, "background_label": 0}]
TERMS = Terms("CC-BY-4.0", None, "Somebody, 2026")


def write_model_folder(folder: Path) -> Path:
    """The kept model with a second fold, a fit, scores, steps, a fingerprint, and names that must not leave it."""
    shutil.copytree(KEPT, folder)
    second = torch.load(KEPT / "fold_0" / "checkpoint_final.pth", weights_only=False)
    for value in {tensor.data_ptr(): tensor for tensor in second["network_weights"].values()}.values():
        value.mul_(1.001)
    second["init_args"]["fold"] = 1
    (folder / "fold_1").mkdir()
    torch.save(second, folder / "fold_1" / "checkpoint_final.pth")
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    dataset_json["training"] = [{"image": "imagesTr/MUELLER_ANNA_0000.nii.gz", "label": "labelsTr/MUELLER_ANNA.nii.gz"}]
    (folder / "dataset.json").write_text(json.dumps(dataset_json), encoding="utf-8")
    (folder / "dataset_fingerprint.json").write_text('{"spacings": [[1.0, 1.0, 1.0]]}', encoding="utf-8")
    for fold, dices in DICES.items():
        cases = [{"metrics": {"1": {"Dice": dice}, "2": {"Dice": float("nan")}},
                  "prediction_file": "/home/anna/MUELLER_ANNA.nii.gz"} for dice in dices]
        (folder / f"fold_{fold}" / "validation").mkdir()
        (folder / f"fold_{fold}" / "validation" / "summary.json").write_text(json.dumps({"metric_per_case": cases}))
    write_postprocessing(STEPS, folder / "crossval_results_folds_0_1" / "postprocessing.pkl")
    FittedSampling(0.0, 0.25, 8, 2, 12, 0.8, 0.79, temperature=1.5,
                   checkpoints=checkpoint_checksums(folder, (0, 1), "checkpoint_final.pth")).write(folder)
    return folder
