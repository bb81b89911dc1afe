"""A model file as a model folder, which every command and nnU-Net's own predictor read: no pickle comes from the file,
those in the folder are written here.
"""

from __future__ import annotations

import logging
import math
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, StrictInt, StrictStr
from safetensors import SafetensorError
from safetensors.torch import load_file

from medsegdiff_auto.checks.dataset_json import read_dataset_json
from medsegdiff_auto.decision.fitted_sampling import FILE as SAMPLING, FittedSampling
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.findings import errors_among
from medsegdiff_auto.inference.model_archive import (CARD, FACTS, FINGERPRINT, MANIFEST, POSTPROCESSING, WEIGHTS,
                                                     Archive, Digest, opened)
from medsegdiff_auto.locks import alone
from medsegdiff_auto.nnunet.known_names import read_json_object, read_plans, require_known_reader
from medsegdiff_auto.nnunet.postprocessing_steps import FILE as STEPS, are_arguments, from_plain, write_postprocessing
from medsegdiff_auto.paths import model_name
from medsegdiff_auto.schemas import STRICT, validated
from medsegdiff_auto.writing import staged_output

logger = logging.getLogger(__name__)

CHECKPOINT, LAST = "checkpoint_final.pth", "plans.json"
Trainer = Literal["nnUNetTrainerMedSegDiff", "nnUNetTrainerMedSegDiffTwin"]
Logged = list[float | list[float | None] | None]
_AS_THEY_ARE = (MANIFEST, CARD, FINGERPRINT, "dataset.json", LAST)


@dataclass(frozen=True)
class FoldFacts:
    """What a fold's checkpoint holds beside its weights, of what anything but going on with the training needs.

    Attributes:
        mirroring_axes: along which it may be mirrored; None for none.
        current_epoch: number of epochs that it was trained for.
        logging: curve to one value per epoch; null is not a number.
        same_as: tensor to the one that is the same memory, under whose name the weights hold it.
        checkpoint: checksum of the file that it was exported from, by which a fit knows it.
    """

    __pydantic_config__ = STRICT

    trainer_name: Trainer
    configuration: StrictStr
    mirroring_axes: list[StrictInt] | None
    current_epoch: Annotated[StrictInt, Field(ge=0)]
    checkpoint: Digest
    logging: dict[str, Logged] = field(default_factory=dict)
    same_as: dict[str, str] = field(default_factory=dict)


def unpacked(file: Path) -> Path:
    """The folder of a model file, unpacked when it is used for the first time.

    It lies beside the file, hidden, or where nothing can be written there in a folder for temporary files that belongs
    to the user alone. Its name has the checksum of the file.

    Raises:
        UserError: the file is no model.
    """
    digest = checksum(file)
    beside = file.absolute().parent
    parent = beside if os.access(beside, os.W_OK) else _own_temporary_folder()
    folder = parent / f".{file.stem}_{digest[:16]}"
    if (folder / LAST).is_file():
        return folder
    with opened(file) as archive, alone(folder.with_name(f"{folder.name}.lock")):
        if not (folder / LAST).is_file():  # another process may have been faster
            unpack(archive, folder)
            logger.info("%s is unpacked in %s, which may be deleted at any time.", file, folder)
    return folder


def unpack(archive: Archive, folder: Path) -> None:
    """Writes a model folder; it is there completely or not at all.

    Raises:
        UserError: the content is not that of a model, or names anything but nnU-Net's and our classes.
    """
    with staged_output(folder, last=LAST) as stage:
        write_model(archive, stage)


def write_model(archive: Archive, folder: Path) -> None:
    """Writes the files of a model folder into an empty folder.

    Raises:
        UserError: as :func:`unpack`.
    """
    with (tempfile.TemporaryDirectory(prefix=".content_", dir=folder) as temporary,
          shown_as(archive.file, Path(temporary))):
        content = Path(temporary)
        archive.extract(content)
        plans, (dataset_json, findings) = read_plans(content / "plans.json"), read_dataset_json(content)
        for error in errors_among(findings):
            raise error.as_user_error()
        require_known_reader(dataset_json)
        checksums = {}
        for fold in archive.folds:
            facts = _facts(content / f"fold_{fold}" / FACTS, archive, plans)
            checkpoint = _checkpoint(facts, _weights(content / f"fold_{fold}" / WEIGHTS, facts), fold, plans,
                                     dataset_json)
            file = folder / f"fold_{fold}" / CHECKPOINT
            file.parent.mkdir()
            with file.open("wb") as stream:  # into a stream: of a path, torch would write the name into the file
                torch.save(checkpoint, stream)
            checksums[f"fold_{fold}/{CHECKPOINT}"] = (facts.checkpoint, checksum(file))
        if (content / SAMPLING).is_file():
            _write_fit(content / SAMPLING, checksums, folder)
        for steps in content.glob(f"*/{POSTPROCESSING}"):
            _write_steps(steps, folder / steps.parent.name)
        for name in _AS_THEY_ARE:
            if (content / name).is_file():
                (content / name).replace(folder / name)


@contextmanager
def shown_as(file: Path, folder: Path) -> Iterator[None]:
    """Errors that name what lies in a folder for a while name the model file instead."""
    try:
        yield
    except UserError as error:
        what, found, expected, fix = (text.replace(str(folder), str(file)) for text in (
            error.what, error.found, error.expected, error.fix))
        raise UserError(what, found=found, expected=expected, fix=fix) from error


def _own_temporary_folder() -> Path:
    """A folder for temporary files that nobody else can write into.

    Raises:
        UserError: somebody else made it.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    folder = Path(tempfile.gettempdir()) / f"medsegdiff_models_{user}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if hasattr(os, "getuid") and (not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o022):
        raise UserError(f"{folder} is not a folder of this user alone.", found=stat.filemode(found.st_mode),
                        expected="a folder that only its owner may write into",
                        fix="remove it, or point TMPDIR at a folder of your own")
    return folder


def _facts(file: Path, archive: Archive, plans: dict) -> FoldFacts:
    facts = _validated(FoldFacts, read_json_object(file), file)
    named = model_name(facts.trainer_name, str(plans.get("plans_name")), facts.configuration)
    if named != archive.manifest.model or plans.get("dataset_name") != archive.manifest.dataset:
        raise UserError(f"{archive.file} is not of one model.",
                        found=f"{plans.get('dataset_name')}/{named} in {file.parent.name} and plans.json",
                        expected=f"{archive.manifest.dataset}/{archive.manifest.model}, as {MANIFEST} says",
                        fix="have the model exported again")
    return facts


def _weights(file: Path, facts: FoldFacts) -> dict[str, torch.Tensor]:
    try:
        weights = load_file(file)
    except SafetensorError as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure)[:200], expected="tensors in safetensors' format",
                        fix="have the model exported again") from failure
    missing = sorted({target for target in facts.same_as.values() if target not in weights})
    if missing or facts.same_as.keys() & weights.keys():
        raise UserError(f"{file} does not hold what {FACTS} says.",
                        found=f"no {missing[0]}" if missing else "a tensor both held and said to be another one",
                        expected="every tensor once", fix="have the model exported again")
    return weights | {alias: weights[target] for alias, target in facts.same_as.items()}


def _checkpoint(facts: FoldFacts, weights: dict[str, torch.Tensor], fold: int | str, plans: dict,
                dataset_json: dict) -> dict:
    """What nnU-Net's predictor and the commands of this package read of a checkpoint."""
    axes = facts.mirroring_axes
    return {"network_weights": weights, "current_epoch": facts.current_epoch, "trainer_name": facts.trainer_name,
            "logging": {name: _with_nan(values) for name, values in facts.logging.items()},
            "init_args": {"plans": plans, "configuration": facts.configuration, "fold": fold,
                          "dataset_json": dataset_json, "device": "cpu"},
            "inference_allowed_mirroring_axes": None if axes is None else tuple(axes)}


def _write_fit(file: Path, checksums: dict[str, tuple[str, str]], folder: Path) -> None:
    """The fit with the checksums of the checkpoints that were written here; those of folds that are not there stay.

    Raises:
        UserError: it is of other checkpoints than those that were exported.
    """
    fitted = _validated(FittedSampling, read_json_object(file), file)
    here = {name: (then, *checksums.get(name, (then, then))) for name, then in fitted.checkpoints.items()}
    other = [name for name, (then, exported, _) in here.items() if then != exported]
    if other:
        raise UserError(f"{SAMPLING} was fitted on another training of {', '.join(other)}.",
                        found=f"another checksum of {', '.join(other)}", expected="the checkpoints that were exported",
                        fix="have the model calibrated and exported again")
    replace(fitted, checkpoints={name: now for name, (_, _, now) in here.items()}).write(folder)


def _write_steps(file: Path, folder: Path) -> None:
    steps = read_json_object(file).get("steps")
    if not isinstance(steps, list) or not all(map(are_arguments, steps)):
        raise UserError(f"{file} is no postprocessing of nnU-Net.", found=f"{steps!r:.200}",
                        expected="steps with labels_or_regions and background_label",
                        fix="have the model exported again")
    folder.mkdir()
    write_postprocessing(from_plain(steps), folder / STEPS)


def _validated(schema: type, content: dict, file: Path) -> Any:
    try:
        return validated(schema, content)
    except ValueError as failure:
        raise UserError(f"{file} cannot be read.", found=str(failure)[:300],
                        expected="what medsegdiff_export of this version writes",
                        fix="have the model exported again") from failure


def _with_nan(value: Any) -> Any:
    if isinstance(value, list):
        return [_with_nan(one) for one in value]
    return math.nan if value is None else value
