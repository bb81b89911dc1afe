"""What a model folder says about itself: dataset, plan, folds, cross-validation. Missing parts are None."""

import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import resolved

logger = logging.getLogger(__name__)

CURVES = ("train_losses", "val_losses", "mean_fg_dice", "ema_fg_dice")
CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_latest.pth", "checkpoint_best.pth")


@dataclass(frozen=True)
class FoldRecord:
    """One trained fold: its curves (``{name: one value per epoch}``), picture of progress and validation summary."""

    name: str
    curves: dict[str, list[float]] | None
    progress_png: Path | None
    validation: dict | None


@dataclass(frozen=True)
class ModelRecord:
    """A folder ``DatasetXXX_Name/Trainer__Plans__configuration``; summaries are nnU-Net's ``summary.json``."""

    folder: Path
    dataset_json: dict
    plans: dict
    configuration_name: str
    configuration: dict
    folds: list[FoldRecord]
    crossval: dict[str, dict]
    plan_text: str | None
    plan_command: list[str] | None

    @property
    def dataset_name(self) -> str:
        return self.plans["dataset_name"]


def read_model(model_folder: Path) -> ModelRecord:
    """Read a model folder.

    Raises:
        UserError: the folder is missing, or lacks ``plans.json`` or ``dataset.json``.
    """
    plans, dataset_json = (_required_json(model_folder, name) for name in ("plans.json", "dataset.json"))
    configuration_name = _configuration_name(model_folder, plans)
    folds = [_read_fold(folder) for folder in sorted(model_folder.glob("fold_*")) if folder.is_dir()]
    return ModelRecord(model_folder, dataset_json, plans, configuration_name,
                       resolved(plans, configuration_name), folds, _read_crossval(model_folder),
                       _plan_text(model_folder, plans), _plan_command(plans))


def _required_json(model_folder: Path, name: str) -> dict:
    content = read_json(model_folder / name)
    if content is None:
        raise UserError(
            f"{model_folder} is not a model folder.", found=f"no readable {name} in it",
            expected="nnUNet_results/DatasetXXX_Name/nnUNetTrainerMedSegDiff__MedSegDiffPlans__CONFIGURATION",
            fix="correct the path, or train first: medsegdiff_train DATASET CONFIGURATION FOLD")
    return content


def read_json(path: Path) -> dict | None:
    """The content of a JSON file, or None where it is absent or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _configuration_name(model_folder: Path, plans: dict) -> str:
    name = model_folder.name.rsplit("__", 1)[-1]
    if name not in plans["configurations"]:
        raise UserError(f"{model_folder} is not named after a configuration of its plans.", found=name,
                        expected=f"Trainer__Plans__ and one of {', '.join(plans['configurations'])}",
                        fix="give the folder its former name back")
    return name


def _read_fold(folder: Path) -> FoldRecord:
    progress = folder / "progress.png"
    return FoldRecord(folder.name, _read_curves(folder), progress if progress.is_file() else None,
                      read_json(folder / "validation" / "summary.json"))


def _read_curves(folder: Path) -> dict[str, list[float]] | None:
    from medsegdiff_auto.training.checkpoints import load_safely

    for checkpoint in (folder / name for name in CHECKPOINTS if (folder / name).is_file()):
        try:
            logged = load_safely(checkpoint)["logging"]
        except Exception as error:  # a broken or foreign file fails in any way; the report goes on and names the gap
            logger.warning("%s: no training curves can be read (%s).", checkpoint, type(error).__name__)
            continue
        return {name: [float(value) for value in logged.get(name, [])] for name in CURVES}
    return None


def _read_crossval(model_folder: Path) -> dict[str, dict]:
    found = {}
    for folder in sorted(model_folder.glob("crossval_results_folds_*")):
        folds = folder.name.removeprefix("crossval_results_folds_").replace("_", ", ")
        found[f"folds {folds}"] = read_json(folder / "summary.json")
        found[f"folds {folds}, postprocessed"] = read_json(folder / "postprocessed" / "summary.json")
    return {name: summary for name, summary in found.items() if summary is not None}


def _planning_folder(plans: dict) -> Path | None:
    preprocessed = os.environ.get("nnUNet_preprocessed")
    return Path(preprocessed) / plans["dataset_name"] if preprocessed else None


def _plan_text(model_folder: Path, plans: dict) -> str | None:
    folders = [folder for folder in (model_folder, _planning_folder(plans)) if folder is not None]
    candidates = [folder / name for folder in folders for name in ("plan.md", f"{plans['plans_name']}.md")]
    return next((path.read_text(encoding="utf-8") for path in candidates if path.is_file()), None)


def _plan_command(plans: dict) -> list[str] | None:
    folder = _planning_folder(plans)
    record = None if folder is None else read_json(folder / f"{plans['plans_name']}_run.json")
    return (record or {}).get("command")
