"""The sections about the model: what this is, the plan, training, cross-validation, commands."""

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from medsegdiff_auto.nnunet.inheritance import network_arguments
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.reporting import figures, page
from medsegdiff_auto.reporting.markdown import to_html
from medsegdiff_auto.reporting.model_record import ModelRecord
from medsegdiff_auto.reporting.tables import Column, key_value_table, table
from medsegdiff_auto.run_record import recorded_commands

PACKAGES = ("medsegdiff-auto", "nnunetv2", "torch", "numpy", "SimpleITK", "surface-distance")
EXTENTS = ("patch_size", "spacing", "median_image_size_in_voxels")
PLAN_KEYS = {"patch_size": "patch (voxels)", "batch_size": "batch size", "spacing": "spacing (mm)",
             "median_image_size_in_voxels": "median image (voxels)", "normalization_schemes": "normalisation",
             "data_identifier": "preprocessed data", "batch_dice": "batch Dice"}
NETWORK_KEYS = {"n_stages": "stages", "features_per_stage": "channels", "strides": "strides", "kernel_sizes": "kernels"}


def overview(model: ModelRecord) -> str:
    """The dataset, its structures, the model and the versions."""
    dataset = model.dataset_json
    values = {
        "dataset": model.dataset_name, "description": dataset.get("description"), "reference": dataset.get("reference"),
        "licence": dataset.get("licence", dataset.get("license")), "training cases": dataset.get("numTraining"),
        "channels": list(dataset["channel_names"].values()), "structures": _structures(dataset),
        "model": model.folder.name, "trained folds": [fold.name for fold in model.folds],
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z"), "versions": ", ".join(_versions())
    }
    return key_value_table({key: value for key, value in values.items() if value not in (None, "", [])})


def plan(model: ModelRecord) -> str:
    """The configuration in numbers, its diffusion section key by key, and the text of plan.md."""
    configuration = model.configuration
    network = network_arguments(configuration)
    values = {"configuration": model.configuration_name}
    values.update({name: [configuration[key]] if key in EXTENTS else configuration[key]
                   for key, name in PLAN_KEYS.items() if key in configuration})
    values.update({f"network {name}": network[key] for key, name in NETWORK_KEYS.items() if key in network})
    parts = [key_value_table(values), page.heading("Diffusion")]
    diffusion = configuration.get("diffusion")
    parts.append(key_value_table(diffusion) if diffusion else
                 page.missing("The plan has no diffusion section: a plain nnU-Net model."))
    parts.append(to_html(model.plan_text) if model.plan_text else page.missing(
        "The text that explains the plan is missing: it lies beside the plan in nnUNet_preprocessed."))
    return "\n".join(parts)


def training(model: ModelRecord) -> str:
    """The curves of the folds whose checkpoint can be read; nnU-Net's progress.png of the others."""
    if not model.folds:
        return page.missing("No fold has been trained.")
    readable = {fold.name: fold.curves for fold in model.folds if fold.curves and fold.curves["train_losses"]}
    parts = []
    if readable:
        parts.append(page.picture(
            figures.training_curves(readable), "training curves of " + ", ".join(readable),
            "The Dice of validation patches pools voxels of random patches: it shows progress, it is not a result."))
    for fold in model.folds:
        if fold.name in readable:
            continue
        parts.append(page.heading(fold.name))
        parts.append(
            page.picture(fold.progress_png.read_bytes(), f"nnU-Net's progress.png of {fold.name}") if fold.
            progress_png else page.missing(f"{fold.name} has neither a readable checkpoint nor progress.png."))
    return "\n".join(parts)


def cross_validation(model: ModelRecord) -> str:
    """Dice and IoU of each structure: every fold's full-volume validation, and the folds together."""
    structures = structures_of(model.dataset_json)
    summaries = {fold.name: fold.validation for fold in model.folds if fold.validation} | model.crossval
    absent = [fold.name for fold in model.folds if not fold.validation]
    rows = []
    for name, summary in summaries.items():
        row = {
            "what": name, "cases": len(summary["metric_per_case"]), "mean": _number(summary["foreground_mean"]["Dice"])
        }
        for structure in structures:
            scores = summary["mean"].get(str(structure.key), {})
            row[f"{structure.name} Dice"], row[f"{structure.name} IoU"] = (_number(scores.get(m))
                                                                           for m in ("Dice", "IoU"))
        rows.append(row)
    columns = [Column("what", ""), Column("cases", "cases"), Column("mean", "mean Dice", 4)]
    columns += [Column(f"{s.name} {metric}", f"{s.name} {metric}", 4) for s in structures for metric in ("Dice", "IoU")]
    parts = [table(columns, rows)] if rows else []
    if absent or not rows:
        parts.append(page.missing(f"No full-volume validation yet: {', '.join(absent) or 'no fold has been trained'}."))
    if not model.crossval:
        parts.append(page.missing(
            "The folds have not been joined: medsegdiff_find_best_configuration does that once all are trained."))
    return "\n".join(parts)


def commands(model: ModelRecord, prediction_folder: Path | None, given: Sequence[str]) -> str:
    """The commands recorded with the plan, the model, its folds and the predictions, and those given."""
    folders = [model.folder, *(model.folder / fold.name for fold in model.folds)]
    folders += [prediction_folder] if prediction_folder else []
    recorded = [words for folder in folders for words in recorded_commands(folder)]
    if model.plan_command:
        recorded.insert(0, model.plan_command)
    lines = list(dict.fromkeys([shlex.join(words) for words in recorded] + list(given)))
    return page.code_block(lines) if lines else page.missing("No run.json was found: the commands are not known.")


def _structures(dataset_json: dict) -> list[str]:
    return [f"{s.name} ({'label' if len(s.labels) == 1 else 'labels'} {' + '.join(map(str, s.labels))})"
            for s in structures_of(dataset_json)]


def _versions() -> list[str]:
    found = [f"Python {sys.version.split()[0]}"]
    for name in PACKAGES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    return found


def _number(value) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
