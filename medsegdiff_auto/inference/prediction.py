"""One predicted case: arrays, sizes of the structures, and the files that they are written to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable

import numpy as np
import SimpleITK as sitk
from batchgenerators.utilities.file_and_folder_operations import save_json
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.inference.case_table import StructureSize, add_to_case_table, case_rows, structure_sizes
from medsegdiff_auto.inference.export import ImageGridPrediction, to_image_grid, write_case
from medsegdiff_auto.files.grid import Grid
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.sampling.volume_store import Storage, VolumeStore


@dataclass(frozen=True)
class Outputs:
    """What to write beside the label maps."""

    uncertainty: bool = False
    samples: bool = False
    probabilities: bool = False
    mutual_information: bool = False


@dataclass(frozen=True)
class Source:
    """Where a prediction comes from.

    Attributes:
        properties: of nnU-Net's preprocessing.
        image_file: the first channel's, whose geometry is carried over to the last bit; None for an image in memory.
    """

    properties: dict
    plans_manager: PlansManager
    dataset_json: dict
    image_file: Path | None
    grid: Grid


@dataclass(frozen=True)
class Prediction:
    """One case on the grid of its image; arrays are (z, y, x), with a single slice for a 2-D image.

    Volumes of several channels are brought to the image's grid when they are first asked for.

    Attributes:
        case: the name that the noise was seeded with.
        volumes: by structure its size with the 90 % interval and the expected Dice.
    """

    case: str
    on_image: ImageGridPrediction = field(repr=False)
    volumes: dict[str, StructureSize]
    source: Source = field(repr=False)

    @property
    def segmentation(self) -> np.ndarray:
        """Fused label map, (z, y, x), the labels of dataset.json."""
        return self.on_image.segmentation

    @property
    def probabilities(self) -> np.ndarray:
        """Fused, (K, z, y, x) float32 in [0, 1]: of every class, background first, their sum 1; or of every region."""
        return self.on_image.probabilities

    @property
    def uncertainty(self) -> np.ndarray:
        """Entropy of the probabilities over its maximum, (z, y, x) float32 in [0, 1]."""
        return self.on_image.uncertainty

    @property
    def samples(self) -> np.ndarray:
        """Plausible label maps, (S, z, y, x) uint8."""
        return self.on_image.samples

    @property
    def mutual_information(self) -> np.ndarray | None:
        """The part of the uncertainty on which the samples disagree, (z, y, x) float32 in [0, 1]; None unless asked for."""
        return self.on_image.mutual_information

    def image(self, array: np.ndarray) -> sitk.Image:
        """One of the arrays as an image with the geometry of the input; several maps lie along a last axis."""
        return self.source.grid.image(array)

    def save(self, folder: str | Path, name: str | None = None,
             outputs: Outputs = Outputs(True, True, True, True)) -> list[dict]:
        """Writes the files of ``medsegdiff_predict`` under a name (default: the case's) and returns the rows of ``cases.csv``.

        All that were computed but for ``run.json``, which records a command.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_model_files(self.source.plans_manager, self.source.dataset_json, folder)
        return self.write(folder, name or self.case, outputs)

    def write(self, folder: Path, case: str, outputs: Outputs) -> list[dict]:
        """The files of the case and its rows in ``cases.csv``."""
        source = self.source
        write_case(self.on_image, source.properties, source.plans_manager, source.dataset_json, folder, case,
                   source.image_file or Path(), outputs.uncertainty, outputs.samples, outputs.probabilities,
                   outputs.mutual_information)
        rows = case_rows(case, self.volumes, len(self.on_image.sampled))
        add_to_case_table(rows, folder)
        return rows


def write_model_files(plans_manager: PlansManager, dataset_json: dict, folder: Path) -> None:
    """``dataset.json`` and ``plans.json``, which postprocessing and evaluation read beside predictions."""
    save_json(dataset_json, str(folder / "dataset.json"), sort_keys=False)
    save_json(plans_manager.plans, str(folder / "plans.json"), sort_keys=False)


def prepare_case(model: TrainedModel, files: list[Path], previous_stage: Path | None = None) -> tuple[np.ndarray, dict]:
    """The preprocessed image (C, *spatial), with the first stage's label map as further channels in a cascade; properties."""
    preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
    data, segmentation, properties = preprocessor.run_case(
        [str(file) for file in files], str(previous_stage) if previous_stage else None, model.plans_manager,
        model.configuration_manager, model.dataset_json)
    if previous_stage:
        labels = model.plans_manager.get_label_manager(model.dataset_json).foreground_labels
        data = np.vstack((data, convert_labelmap_to_one_hot(segmentation[0], labels, data.dtype)))
    return data, properties


def fused_case(predictor: MedSegDiffPredictor, model: TrainedModel, case: str, drawn: Iterable[tuple[str, VolumeStore]],
               properties: dict, image_file: Path | None, grid: Grid | None = None, mutual_information: bool = False,
               storage: Storage = Storage()) -> Prediction:
    """One case, fused and described as it is drawn.

    Args:
        drawn: of :meth:`~medsegdiff_auto.inference.predictor.MedSegDiffPredictor.draw_case`.
        image_file: the first channel's, None for an image in memory.
        grid: of the image, where it is known better than from its file.
        storage: where volumes are kept meanwhile.
    """
    on_image = to_image_grid(drawn, model.diffusion.conditioner_weight, predictor.fusion, properties, model.plans_manager,
                             model.configuration_manager, model.dataset_json, predictor.temperature, mutual_information, storage)
    sizes = structure_sizes(on_image.segmentation, on_image.sampled, model.dataset_json, list(properties["spacing"]),
                            model.fitted.volume_margins if model.fitted else None)
    source = Source(properties, model.plans_manager, model.dataset_json, image_file,
                    grid or Grid.of_properties(properties, len(on_image.segmentation)))
    return Prediction(case, on_image, sizes, source)
