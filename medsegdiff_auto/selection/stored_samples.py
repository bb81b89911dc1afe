"""Samples of validation cases, drawn once and kept, so that steps, samples and fusion are chosen without a network.

    fold_K/samples/steps_S/CASE.npz         samples, means and curves of one case, :class:`StoredCase`
    fold_K/samples/steps_S/settings.json    how they were drawn, :class:`Settings`

They come from the predictor and are exported as a prediction is: what is stored for n samples is what
``medsegdiff_predict -f K --samples n --steps S`` gives.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from collections.abc import Iterable

import numpy as np

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.arrays import read_arrays
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.evaluation.audit import validation_cases
from medsegdiff_auto.nnunet.dataset_files import references_folder
from medsegdiff_auto.nnunet.structures import ignore_label_of, structures_of
from medsegdiff_auto.selection.temperature_fit import nll_by_temperature
from medsegdiff_auto.decision.fused_mean import SAMPLE, FusedMean
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.sampling.volume_store import VolumeStore
from medsegdiff_auto.writing import atomically, write_json

SETTINGS_FILE = "settings.json"
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How the samples of a fold were drawn.

    Attributes:
        dispersion, conditioner_weight: fitted or planned, as predictions use them.
        checkpoint: SHA-256 of the checkpoint's file.
    """

    num_samples: int
    num_steps: int
    seed: int
    dispersion: float
    conditioner_weight: float
    checkpoint: str


@dataclass(frozen=True)
class StoredCase:
    """What a case looks like with 1 to S samples, on the grid of its image.

    Attributes:
        samples: label maps (S, z, y, x) uint8, or int16 where a label exceeds 255.
        means: entry n - 1 is the label map of the fused mean of the first n samples, (S, z, y, x), likewise.
        nll: of that mean by temperature, (S, 25) nats; see :mod:`~medsegdiff_auto.selection.temperature_fit`.
    """

    samples: np.ndarray
    means: np.ndarray
    nll: np.ndarray

    def write(self, file: Path) -> None:
        """Writes the file; label maps compress to a few hundredths."""
        with atomically(file) as unfinished:
            np.savez_compressed(unfinished, **asdict(self))


def read_stored_case(file: Path) -> StoredCase:
    """Reads what :meth:`StoredCase.write` wrote.

    Raises:
        UserError: the file is damaged.
    """
    return StoredCase(*read_arrays(file, "samples", "means", "nll"))


def samples_folder(model_folder: Path, fold: int, num_steps: int) -> Path:
    """Where the samples of a fold at a number of steps lie."""
    return model_folder / f"fold_{fold}" / "samples" / f"steps_{num_steps}"


def stored_steps(model_folder: Path, fold: int) -> list[int]:
    """The numbers of steps for which the samples of a fold are stored, ascending."""
    names = (file.parent.name for file in (model_folder / f"fold_{fold}" / "samples").glob(f"steps_*/{SETTINGS_FILE}"))
    return sorted(int(name.removeprefix("steps_")) for name in names)


def read_settings(folder: Path) -> Settings:
    """How the samples of a folder were drawn.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return Settings(**json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as failure:
        raise UserError(f"{folder / SETTINGS_FILE} cannot be read.", found=str(failure),
                        expected="a file of medsegdiff_store_samples",
                        fix=f"delete {folder}, and store the samples again") from failure


def settings_of(predictor: MedSegDiffPredictor, model: TrainedModel, checkpoint: Path) -> Settings:
    """How a predictor of one fold would draw samples now."""
    return Settings(predictor.num_samples, predictor.num_steps, predictor.options.seed,
                    model.diffusion.sampling.dispersion, model.diffusion.sampling.conditioner_weight,
                    checksum(checkpoint))


def store_fold(predictor: MedSegDiffPredictor, model: TrainedModel, preprocessed_folder: Path,
               checkpoint: Path) -> Path:
    """Draws and stores the validation cases of the model's only fold, and returns their folder.

    Cases that are there already from the same settings stay; those of other settings are replaced.

    Raises:
        UserError: the preprocessed cases or their references are missing, or the model is a cascade.
    """
    fold, settings = model.folds[0], settings_of(predictor, model, checkpoint)
    folder = samples_folder(model.folder, fold, settings.num_steps)
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / SETTINGS_FILE).is_file() or read_settings(folder) != settings:
        for file in folder.glob("*.npz"):
            file.unlink()
    write_json(asdict(settings), folder / SETTINGS_FILE)
    for case, image, _, properties in validation_cases(model, preprocessed_folder, fold):
        file = folder / f"{case}.npz"
        if not file.is_file():
            reference = read_reference(preprocessed_folder, case, model)
            stored_case(predictor.draw_case(image, case), reference, properties, model).write(file)
            logger.info("Fold %s, %d steps: %s", fold, settings.num_steps, case)
    return folder


def read_reference(preprocessed_folder: Path, case: str, model) -> np.ndarray:
    """The reference of a case on the grid of its image, (z, y, x), by nnU-Net's reader.

    ``model`` has ``plans_manager`` and ``dataset_json``.

    Raises:
        UserError: it is not where preprocessing has copied it.
    """
    file = references_folder(preprocessed_folder) / f"{case}{model.dataset_json['file_ending']}"
    if not file.is_file():
        raise UserError(f"The reference of {case} is missing.", found=f"no {file}",
                        expected="the references that preprocessing copies there",
                        fix=f"medsegdiff_plan_and_preprocess -d {preprocessed_folder.name}")
    return model.plans_manager.image_reader_writer_class().read_seg(str(file))[0][0]


def stored_case(drawn: Iterable[tuple[str, VolumeStore]], reference: np.ndarray, properties: dict,
                model: TrainedModel) -> StoredCase:
    """One case as it looks after every sample that is drawn of it.

    Args:
        drawn: of :meth:`~medsegdiff_auto.inference.predictor.MedSegDiffPredictor.draw_case`.
        reference: (z, y, x).
    """
    grid = ImageGrid(properties, model.plans_manager, model.configuration_manager, model.dataset_json)
    structures, regions = structures_of(model.dataset_json), model.diffusion.target == "regions"
    mean, samples, means, nll = FusedMean(model.diffusion.sampling.conditioner_weight), [], [], []
    for kind, probabilities in drawn:
        mean.add(kind, probabilities)
        if kind == SAMPLE:
            samples.append(grid.labels(grid.channels_of_logits(probabilities)))
            logits = grid.logits(mean.so_far())
            means.append(grid.labels(logits[channel].read() for channel in range(logits.shape[0])))
            fused = grid.to_probabilities(logits)
            on_image = np.stack([grid.channel_on_image(fused, channel) for channel in range(fused.shape[0])])
            nll.append(
                nll_by_temperature(on_image, means[-1], reference, structures, regions,
                                   ignore_label_of(model.dataset_json)))
    return StoredCase(np.stack(samples), np.stack(means), np.stack(nll))
