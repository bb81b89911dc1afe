"""One predicted case: arrays, sizes of the structures, and the files that they are written to."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field
from pathlib import Path
from collections.abc import Iterable, Iterator

import numpy as np
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.case_table import (StructureSize, add_to_case_table, case_rows, structure_sizes,
                                                  with_quality)
from medsegdiff_auto.inference.export import ImageGridPrediction, Outputs, to_image_grid, write_case
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.files.dicom_series import Series
from medsegdiff_auto.files.grid import ItkGrid
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.predictor import MedSegDiffPredictor
from medsegdiff_auto.inference.viewer_files import require_viewer_formats
from medsegdiff_auto.nnunet.managers import PlansManager, previous_stage_channels
from medsegdiff_auto.nnunet.properties import spacing_of
from medsegdiff_auto.sampling.case_size import size_of_file
from medsegdiff_auto.sampling.memory_plan import MemoryPlan
from medsegdiff_auto.sampling.volume_store import Storage, VolumeStore
from medsegdiff_auto.writing import write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a prediction comes from.

    Attributes:
        case: the name that the noise is seeded with.
        properties: of nnU-Net's preprocessing.
        image_file: the first channel's, whose geometry is carried over to the last bit; None for an image in memory.
        grid: of an image in memory; None for what the properties say.
        series: the DICOM series that the first channel was read from.
    """

    case: str
    properties: dict
    image_file: Path | None
    grid: ItkGrid | None = None
    series: Series | None = None


@dataclass(frozen=True)
class Prediction:
    """One case on the grid of its image; arrays are (z, y, x), with a single slice for a 2-D image.

    Volumes of several channels are brought to the image's grid when they are first asked for.

    Attributes:
        volumes: by structure its size with the 90 % interval and the expected Dice.
    """

    source: Source = field(repr=False)
    on_image: ImageGridPrediction = field(repr=False)
    volumes: dict[str, StructureSize]

    @property
    def case(self) -> str:
        """The name that the noise was seeded with."""
        return self.source.case

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
        """The part of the uncertainty on which the samples disagree, (z, y, x) float32 in [0, 1]; None unless asked
        for.
        """
        return self.on_image.mutual_information

    def image(self, array: np.ndarray) -> sitk.Image:
        """One of the arrays as an image with the geometry of the input; several maps lie along a last axis."""
        grid = self.source.grid or ItkGrid.of_properties(self.source.properties, len(self.segmentation))
        return grid.image(array)

    def save(self, folder: str | Path, name: str | None = None,
             outputs: Outputs = Outputs(True, True, True, True)) -> list[dict]:
        """Writes the files of ``medsegdiff_predict`` under a name (default: the case's) and returns the rows of
        ``cases.csv``.

        All that were computed but for ``run.json``, which records a command.

        Raises:
            UserError: a format of ``outputs`` cannot be written for this image.
        """
        folder, plans_manager = Path(folder), self.on_image.grid.plans_manager
        require_viewer_formats(outputs.formats, {self.case: self.source.series}, plans_manager)
        folder.mkdir(parents=True, exist_ok=True)
        write_model_files(plans_manager, self.on_image.grid.dataset_json, folder)
        return self.write(folder, name or self.case, outputs)

    def write(self, folder: Path, case: str, outputs: Outputs) -> list[dict]:
        """The files of the case and its rows in ``cases.csv``."""
        write_case(self.on_image, folder, case, self.source.image_file, outputs, self.source.series)
        absent = [structure for structure, one in self.volumes.items() if math.isnan(one.expected_dice)]
        if absent:
            logger.info("%s: no %s in the mask or in any sample, and so no expected Dice.", case,
                        " and no ".join(absent))
        rows = case_rows(case, self.volumes, len(self.on_image.sampled))
        add_to_case_table(rows, folder)
        return rows


def write_model_files(plans_manager: PlansManager, dataset_json: dict, folder: Path) -> None:
    """``dataset.json`` and ``plans.json``, which postprocessing and evaluation read beside predictions."""
    write_json(dataset_json, folder / "dataset.json")
    write_json(plans_manager.plans, folder / "plans.json")


def prepare_case(model: TrainedModel, files: list[Path], previous_stage: Path | None = None) -> tuple[np.ndarray, dict]:
    """The preprocessed image (C, *spatial), with the first stage's label map as further channels in a cascade;
    properties.

    Raises:
        UserError: a preprocessed intensity is not finite.
    """
    size_of_file(files[0], len(files), 0, model.plans_manager, model.configuration_manager)  # refuses absurd spacings
    preprocessor = model.configuration_manager.preprocessor_class(verbose=False)
    with np.errstate(all="ignore"):
        data, segmentation, properties = preprocessor.run_case(
            [str(file) for file in files], str(previous_stage) if previous_stage else None, model.plans_manager,
            model.configuration_manager, model.dataset_json)
    if not np.isfinite(data).all():
        raise UserError(f"The intensities of {files[0]} overflow when they are normalised.",
                        found="NaN or infinite values in the preprocessed image",
                        expected="intensities whose variance is a number",
                        fix="save the image with its true intensities")
    if previous_stage:
        labels = model.plans_manager.get_label_manager(model.dataset_json)
        data = np.vstack((data, previous_stage_channels(segmentation[0], labels, data.dtype)))
    return data, properties


def drawn_for_image(predictor: MedSegDiffPredictor, source: Source, data: np.ndarray,
                    plan: MemoryPlan) -> Iterator[tuple[str, VolumeStore]]:
    """What :func:`fused_case` needs of a preprocessed image (C, *spatial), and nothing larger."""
    return predictor.draw_case(data, source.case, plan, True,
                               _grid_of(predictor, source, Storage()).decoder_of(data.shape[1:]))


def _grid_of(predictor: MedSegDiffPredictor, source: Source, storage: Storage) -> ImageGrid:
    model = predictor.model
    return ImageGrid(source.properties, model.plans_manager, model.configuration_manager, model.dataset_json, storage)


def fused_case(predictor: MedSegDiffPredictor, source: Source, drawn: Iterable[tuple[str, VolumeStore]],
               mutual_information: bool = False, storage: Storage = Storage()) -> Prediction:
    """One case, fused and described as it is drawn.

    Args:
        drawn: of :func:`drawn_for_image`, or of
            :meth:`~medsegdiff_auto.inference.predictor.MedSegDiffPredictor.draw_case`.
        storage: where volumes are kept meanwhile.
    """
    model, grid = predictor.model, _grid_of(predictor, source, storage)
    on_image = to_image_grid(drawn, grid, model.diffusion.sampling.conditioner_weight, predictor.fusion,
                             predictor.temperature, mutual_information)
    sizes = structure_sizes(on_image.segmentation, on_image.sampled, model.dataset_json, spacing_of(source.properties),
                            model.fitted.volume_margins if model.fitted else None)
    return Prediction(source, on_image, with_quality(sizes, on_image, model, predictor.temperature))
