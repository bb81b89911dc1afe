"""A model folder as one file for somebody else: averaged weights, plans, fits, card and self-test, and no code.

What names people or places stays behind: lists of cases in ``dataset.json``, validation predictions and their scores by
case, logs and commands.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from medsegdiff_auto.decision.fitted_sampling import FILE as SAMPLING
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.handover.card import model_card
from medsegdiff_auto.handover.self_test import answer_of
from medsegdiff_auto.inference.model import TrainedModel, load_model
from medsegdiff_auto.inference.model_archive import (CARD, FACTS, FINGERPRINT, FORMAT, MANIFEST, POSTPROCESSING,
                                                     WEIGHTS, Manifest, Score, Terms, write_archive)
from medsegdiff_auto.inference.model_integrity import read_trained_fold
from medsegdiff_auto.inference.model_unpacking import CHECKPOINT, FoldFacts
from medsegdiff_auto.nnunet.known_names import read_json_object
from medsegdiff_auto.nnunet.postprocessing_steps import FILE as STEPS, as_plain, load_postprocessing
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.paths import model_name
from medsegdiff_auto.schemas import validated
from medsegdiff_auto.writing import atomically, write_json, write_text

logger = logging.getLogger(__name__)

PACKAGES = ("medsegdiff-auto", "nnunetv2", "torch")
LISTS_OF_CASES = ("training", "test", "dataset")
UNSAID = Terms()
STEPS_PATTERNS = (f"crossval_results_folds_*/{STEPS}", f"selection_folds_*/{STEPS}")


def export_model(model_folder: Path, file: Path, folds: list[int | str] | None = None,
                 terms: Terms = UNSAID) -> Manifest:
    """Writes a model file and returns its manifest.

    Args:
        folds: None for all that are trained.
        terms: what they leave open is taken from an earlier manifest in the folder, and from ``dataset.json``.

    Raises:
        UserError: the folder is no whole model, or the file exists.
    """
    if file.exists():
        raise UserError(f"{file} exists already.", found=str(file), expected="the name of a new file",
                        fix="give another name with -o, or remove it first")
    if not model_folder.is_dir():
        raise UserError("There is no trained model.", found=f"no folder {model_folder}",
                        expected="a folder written by medsegdiff_train or medsegdiff_import", fix="correct -m")
    model = load_model(model_folder, folds)
    earlier = _earlier(model_folder)
    with atomically(file) as unfinished, TemporaryDirectory(prefix=".export_", dir=file.parent) as temporary:
        content = Path(temporary)
        name = _write_folds(model, content)
        dataset_json = {key: value for key, value in model.dataset_json.items() if key not in LISTS_OF_CASES}
        write_json(dataset_json, content / "dataset.json")
        write_json(model.plans_manager.plans, content / "plans.json")
        for one in (FINGERPRINT, SAMPLING):
            if (model_folder / one).is_file():
                (content / one).write_bytes((model_folder / one).read_bytes())
        _write_steps(model_folder, content)
        answer_of(model).write(content)
        fingerprint = content / FINGERPRINT
        manifest = Manifest(FORMAT, model.plans_manager.dataset_name, name,
                            {package: version(package) for package in PACKAGES},
                            _terms(terms, earlier, model.dataset_json),
                            checksum(fingerprint) if fingerprint.is_file() else None,
                            _scores(model) or (earlier.scores if earlier else {}))
        manifest = validated(Manifest, asdict(manifest))
        write_text(model_card(model, manifest), content / CARD)
        return write_archive(content, manifest, unfinished)


def _write_folds(model: TrainedModel, content: Path) -> str:
    """Writes weights and facts of every fold; returns nnU-Net's name of the model."""
    names = set()
    for fold in model.folds:
        file = model.folder / f"fold_{fold}" / CHECKPOINT
        checkpoint = read_trained_fold(file)
        weights, same_as = _each_once(checkpoint["network_weights"])
        axes = checkpoint.get("inference_allowed_mirroring_axes")
        configuration = checkpoint["init_args"]["configuration"]
        facts = FoldFacts(checkpoint["trainer_name"], configuration, None if axes is None else list(axes),
                          int(checkpoint.get("current_epoch", 0)), model.checkpoints[f"fold_{fold}/{CHECKPOINT}"],
                          {name: _without_nan(values) for name, values in checkpoint.get("logging", {}).items()},
                          same_as)
        folder = content / f"fold_{fold}"
        folder.mkdir()
        save_file(weights, folder / WEIGHTS)
        try:
            write_json(asdict(validated(FoldFacts, asdict(facts))), folder / FACTS)
        except ValueError as failure:
            raise UserError(f"{file} cannot be handed over.", found=str(failure),
                            expected="a checkpoint of nnUNetTrainerMedSegDiff or nnUNetTrainerMedSegDiffTwin",
                            fix="hand over the model folder itself, to people who have your trainer") from failure
        names.add(model_name(facts.trainer_name, model.plans_manager.plans_name, configuration))
    if len(names) > 1:
        raise UserError("The folds are of several trainers.", found=", ".join(sorted(names)),
                        expected="folds of one training", fix="choose folds of one of them with -f")
    return names.pop()


def _each_once(weights: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors without those that are the same memory as another, and the names of these: nnU-Net's decoder holds its
    encoder a second time.
    """
    first: dict[tuple, str] = {}
    kept, same_as = {}, {}
    for name, tensor in weights.items():
        place = (tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.shape, tensor.stride())
        if tensor.numel() and place in first:
            same_as[name] = first[place]
        else:
            first[place], kept[name] = name, tensor.clone(memory_format=torch.contiguous_format)
    return kept, same_as


def _write_steps(model_folder: Path, content: Path) -> None:
    for file in sorted(path for pattern in STEPS_PATTERNS for path in model_folder.glob(pattern)):
        folder = content / file.parent.name
        folder.mkdir()
        write_json({"steps": as_plain(load_postprocessing(file)[1])}, folder / POSTPROCESSING)


def _scores(model: TrainedModel) -> dict[str, Score]:
    """Dice of the validation cases of all folds together; ``fold_all`` is validated on its training cases."""
    summaries = [read_json_object(file) for file in (model.folder / f"fold_{fold}" / "validation" / "summary.json"
                                                     for fold in model.folds if fold != "all") if file.is_file()]
    scores = {}
    for structure in structures_of(model.dataset_json):
        dices = [case["metrics"].get(str(structure.key), {}).get("Dice", math.nan) for summary in summaries
                 for case in summary["metric_per_case"]]
        mean = compare_paired(np.array(dices, float), np.zeros(len(dices)))
        if mean.num_cases:
            bounds = (mean.low, mean.high) if mean.num_cases > 1 else (None, None)
            scores[structure.name] = Score(mean.mean_difference, *bounds, mean.num_cases)
    return scores


def _earlier(model_folder: Path) -> Manifest | None:
    """The manifest that an imported model folder has; None where there is none."""
    file = model_folder / MANIFEST
    if not file.is_file():
        return None
    try:
        return validated(Manifest, json.loads(file.read_text(encoding="utf-8")))
    except (ValueError, RecursionError) as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure)[:200], expected="what medsegdiff_import wrote",
                        fix="import the model again, or delete the file and name licences by flags") from failure


def _terms(given: Terms, earlier: Manifest | None, dataset_json: dict) -> Terms:
    of_data = dataset_json.get("licence", dataset_json.get("license"))
    sources: Sequence[Terms] = [given, *([earlier.terms] if earlier else []),
                                Terms(data_licence=of_data if isinstance(of_data, str) and of_data else None)]
    chosen = UNSAID
    for name in asdict(chosen):
        chosen = replace(chosen, **{name: next((value for value in (getattr(source, name) for source in sources)
                                                if value), None)})
    return chosen


def _without_nan(value: Any) -> Any:
    """Plain numbers; null where one is not finite."""
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return float(value) if math.isfinite(value) else None
