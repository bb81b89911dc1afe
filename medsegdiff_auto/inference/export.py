"""From probabilities on the network's grid to the files of a case on the image's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import save_pickle

from medsegdiff_auto.files.dicom_series import Series
from medsegdiff_auto.files.companion_files import write_npz, write_volumes
from medsegdiff_auto.decision.fused_mean import LABELS, SAMPLE, FusedMean
from medsegdiff_auto.decision.decoder import decode
from medsegdiff_auto.inference.image_grid import ImageGrid
from medsegdiff_auto.inference.viewer_files import inclusion_maps, write_viewer_files
from medsegdiff_auto.files.nifti_geometry import NIFTI_ENDINGS, copy_geometry
from medsegdiff_auto.decision.quality import soft_dices
from medsegdiff_auto.decision.temperature import at_temperature
from medsegdiff_auto.decision.uncertainty import MutualInformation, entropy_map
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.sampling.volume_store import VolumeStore
from medsegdiff_auto.tables import DECODERS
from medsegdiff_auto.writing import staged_output


@dataclass(frozen=True)
class Outputs:
    """What to write beside the label maps.

    Attributes:
        formats: rows of :data:`~medsegdiff_auto.files.viewer_library.LIBRARY_OF`.
    """

    uncertainty: bool = False
    samples: bool = False
    probabilities: bool = False
    mutual_information: bool = False
    inclusion: bool = False
    formats: tuple[str, ...] = ()

    def endings(self) -> list[str]:
        """Endings of the files that lie beside the label map of a case, behind its name."""
        is_asked_for = {
            "_uncertainty.nii.gz": self.uncertainty, "_samples.nii.gz": self.samples,
            "_probabilities.nii.gz": self.probabilities, ".npz": self.probabilities,
            "_mutual_information.nii.gz": self.mutual_information, "_inclusion.nii.gz": self.inclusion,
            ".seg.nrrd": "seg.nrrd" in self.formats, ".dcm": "dicom-seg" in self.formats,
            "_probabilities.dcm": "dicom-seg" in self.formats and self.probabilities}
        return [ending for ending, asked_for in is_asked_for.items() if asked_for]


@dataclass
class ImageGridPrediction:
    """One case on the grid of its image: maps are (z, y, x) in nnU-Net's reading order.

    Attributes:
        segmentation: fused label map.
        fused: the fused probabilities at the temperature, (K, *cropped) on the grid's cropped one.
        sampled: label maps of the samples, uint8, or int16 where a label exceeds 255.
        grid: from the cropped grid to the image.
        mutual_information: (z, y, x) float32 in [0, 1], where it was asked for.
    """

    segmentation: np.ndarray
    fused: VolumeStore
    sampled: list[VolumeStore]
    grid: ImageGrid
    mutual_information: np.ndarray | None = None

    def channels(self) -> Iterator[np.ndarray]:
        """The fused probabilities of one class or region after the other, (z, y, x) float32."""
        return (self.grid.channel_on_image(self.fused, channel) for channel in range(self.fused.shape[0]))

    @cached_property
    def uncertainty(self) -> np.ndarray:
        """:meth:`entropy`, kept."""
        return self.entropy()

    def entropy(self) -> np.ndarray:
        """Normalised entropy of the fused probabilities, (z, y, x) float32 in [0, 1]; 0 where the image was cropped."""
        return self.grid.on_image(entropy_map(self.fused, self.grid.label_manager.has_regions))

    def soft_dices(self, temperature: float) -> dict[str, float]:
        """The soft Dice of every structure's mask (:mod:`~medsegdiff_auto.decision.quality`); NaN where it is empty.

        ``temperature`` brings :attr:`fused` to the fitted one.
        """
        structures = structures_of(self.grid.dataset_json)
        found = soft_dices(self.fused, self.grid.on_cropped(self.segmentation), structures, temperature,
                           self.grid.label_manager.has_regions)
        return {structure.name: value for structure, value in zip(structures, found)}

    @cached_property
    def probabilities(self) -> np.ndarray:
        """All channels at once, (K, z, y, x) float32: for cases that are small beside the memory."""
        return np.stack(list(self.channels()))

    @cached_property
    def samples(self) -> np.ndarray:
        """All sampled label maps at once, (S, z, y, x) uint8, or int16 where a label exceeds 255."""
        return np.stack([one.read().numpy() for one in self.sampled])


def to_image_grid(drawn: Iterable[tuple[str, VolumeStore]], grid: ImageGrid, conditioner_weight: float, fusion: str,
                  temperature: float = 1.0, mutual_information: bool = False) -> ImageGridPrediction:
    """Every sample on the image's grid as it is drawn, and at last the fused prediction.

    Args:
        drawn: of :meth:`~medsegdiff_auto.inference.predictor.MedSegDiffPredictor.draw_case`; one volume is held at a
            time, and the fused one is given up.
        grid: of the case; its storage keeps the volumes meanwhile.
        conditioner_weight: of the plain networks in the mean.
        fusion: a row of :data:`~medsegdiff_auto.tables.DECODERS`.
        temperature: of the fused probabilities, after the label map is decoded: the labels do not depend on it.
        mutual_information: also between label and sample; every sample's probabilities are then brought to the image's
            grid.
    """
    mean, sampled = FusedMean(conditioner_weight, grid.storage), []
    shared = MutualInformation(grid.label_manager.has_regions, grid.storage) if mutual_information else None
    for kind, volume in drawn:
        if kind == LABELS:
            sampled.append(_kept(grid.on_image(volume.read().numpy()), grid))
        else:
            mean.add(kind, volume)
        if kind == SAMPLE:
            sampled.append(_kept(grid.labels(grid.channels_of_logits(volume)), grid))
            if shared is not None:
                shared.add(grid.to_probabilities(grid.logits(volume)))
        del volume  # the generator may need its room for the next one
    fused = grid.logits(mean.finish(), in_place=True)
    segmentation = grid.labels(fused[channel].read() for channel in range(fused.shape[0]))
    prediction = ImageGridPrediction(segmentation, grid.to_probabilities(fused), sampled, grid,
                                     None if shared is None else grid.on_image(shared.value))
    if DECODERS.row(fusion).uses_samples:
        maps = decode(fusion, np.stack(list(prediction.channels())), prediction.samples, grid.label_manager)
        prediction.segmentation = maps.astype(prediction.segmentation.dtype)
    if temperature != 1:
        for rows in fused.blocks():
            scaled = at_temperature(fused.values(rows).numpy(), temperature, grid.label_manager.has_regions)
            fused.write(rows, torch.from_numpy(scaled))
    return prediction


def _kept(labels: np.ndarray, grid: ImageGrid) -> VolumeStore:
    """A label map (z, y, x) where the volumes of the case are."""
    values = torch.from_numpy(np.ascontiguousarray(labels))
    store = grid.storage.empty(values.shape, values.dtype)
    store.write(slice(None), values)
    return store


def write_case(prediction: ImageGridPrediction, folder: Path, case: str, image_file: Path | None,
               outputs: Outputs, series: Series | None = None) -> None:
    """Writes a case's files into a folder of their own and moves them when all are whole, the label map last.

    NIfTI files get the geometry of ``image_file`` to the last bit; a DICOM segmentation is of ``series``.
    """
    grid = prediction.grid
    label_name = f"{case}{grid.dataset_json['file_ending']}"
    with staged_output(folder, last=label_name) as stage:
        label_file = stage / label_name
        writer = grid.plans_manager.image_reader_writer_class()
        writer.write_seg(prediction.segmentation, str(label_file), grid.properties)
        if image_file is not None and label_name.endswith(NIFTI_ENDINGS) and image_file.name.endswith(NIFTI_ENDINGS):
            copy_geometry(image_file, label_file)

        def write(volumes: Iterable[np.ndarray], what: str, num_volumes: int | None = None) -> None:
            write_volumes(volumes, num_volumes, label_file, stage / f"{case}_{what}.nii.gz")

        if outputs.uncertainty:
            write([prediction.entropy()], "uncertainty")
        if outputs.mutual_information and prediction.mutual_information is not None:
            write([prediction.mutual_information], "mutual_information")
        if outputs.samples:
            write((one.read().numpy() for one in prediction.sampled), "samples", len(prediction.sampled))
        if outputs.inclusion:
            num_structures = len(structures_of(grid.dataset_json))
            write(inclusion_maps(prediction), "inclusion", num_structures if num_structures > 1 else None)
        if outputs.probabilities:
            num_channels = prediction.fused.shape[0]
            write(prediction.channels(), "probabilities", num_channels)
            write_npz(prediction.channels(), num_channels, stage / f"{case}.npz")
            save_pickle(grid.properties, str(stage / f"{case}.pkl"))
        write_viewer_files(prediction, stage, case, outputs, series)
