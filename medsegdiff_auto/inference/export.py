"""From the network's grid to files on the image's grid."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Iterable

import numpy as np
import SimpleITK as sitk
from batchgenerators.utilities.file_and_folder_operations import save_pickle
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor

from medsegdiff_auto.diffusion.state import logits_from_probabilities
from medsegdiff_auto.inference.fusion import fuse
from medsegdiff_auto.inference.nifti_geometry import NIFTI_ENDINGS, copy_geometry
from medsegdiff_auto.inference.prediction_folder import staged_output
from medsegdiff_auto.inference.predictor import SAMPLE, FusedMean
from medsegdiff_auto.inference.temperature import at_temperature
from medsegdiff_auto.inference.uncertainty import MutualInformation

FORMATS_WITH_SPACING = (".nii.gz", ".nii", ".nrrd", ".mha", ".mhd")


@dataclass
class ImageGridPrediction:
    """One case on the grid of its image: arrays are (z, y, x) in nnU-Net's reading order.

    Attributes:
        segmentation: fused label map.
        probabilities: fused, (K, z, y, x) float32, at the temperature.
        samples: sampled label maps, (S, z, y, x) uint8.
        mutual_information: (z, y, x) float32 in [0, 1], where it was asked for.
    """

    segmentation: np.ndarray
    probabilities: np.ndarray
    samples: np.ndarray
    mutual_information: np.ndarray | None = None


Convert = Callable[..., Any]  # probabilities (K, *spatial) -> label map (z, y, x), and probabilities where return_probabilities


def image_grid_converter(properties: dict, plans_manager: PlansManager, configuration_manager: ConfigurationManager,
                         dataset_json: dict) -> Convert:
    """nnU-Net's export of a case: resamples, uncrops, transposes and decodes probabilities of the network's grid."""
    label_manager = plans_manager.get_label_manager(dataset_json)
    target = "regions" if label_manager.has_regions else "classes"

    def convert(probabilities: Tensor, return_probabilities: bool = False):
        return convert_predicted_logits_to_segmentation_with_correct_shape(
            logits_from_probabilities(probabilities.float(), target).numpy(), plans_manager, configuration_manager,
            label_manager, properties, return_probabilities)

    return convert


def to_image_grid(drawn: Iterable[tuple[str, Tensor]], conditioner_weight: float, fusion: str, properties: dict,
                  plans_manager: PlansManager, configuration_manager: ConfigurationManager,
                  dataset_json: dict, temperature: float = 1.0, mutual_information: bool = False) -> ImageGridPrediction:
    """Every sample on the image's grid as it is drawn, and at last the fused prediction.

    Args:
        drawn: of :meth:`~medsegdiff_auto.inference.predictor.MedSegDiffPredictor.draw_case`; one volume is held at a time.
        conditioner_weight: of the plain networks in the mean.
        fusion: ``mean``, ``staple`` or ``dice``.
        temperature: of the fused probabilities, after the label map is decoded: the labels do not depend on it.
        mutual_information: also between label and sample; every sample's probabilities are then brought to the image's grid.
    """
    label_manager = plans_manager.get_label_manager(dataset_json)
    convert = image_grid_converter(properties, plans_manager, configuration_manager, dataset_json)
    mean, samples = FusedMean(conditioner_weight), []
    shared = MutualInformation(label_manager.has_regions) if mutual_information else None
    for kind, probabilities in drawn:
        mean.add(kind, probabilities)
        if kind == SAMPLE and shared is None:
            samples.append(convert(probabilities).astype(np.uint8))
        elif kind == SAMPLE:
            labels, on_image = convert(probabilities, return_probabilities=True)
            samples.append(labels.astype(np.uint8))
            shared.add(on_image)
    segmentation, probabilities = convert(mean.value, return_probabilities=True)
    probabilities, samples = probabilities.astype(np.float32), np.stack(samples)
    if fusion != "mean":
        segmentation = fuse(fusion, probabilities, samples, label_manager).astype(segmentation.dtype)
    return ImageGridPrediction(segmentation, at_temperature(probabilities, temperature, label_manager.has_regions), samples,
                               None if shared is None else shared.value)


def write_companion(array: np.ndarray, label_file: Path, file: Path) -> None:
    """Writes one map (z, y, x), or several (N, z, y, x) along a last axis, with the geometry of the label file.

    Images of one slice are written in 2-D. Formats without spacing (PNG) give maps of unit spacing.
    """
    reference = sitk.ReadImage(str(label_file)) if label_file.name.endswith(FORMATS_WITH_SPACING) else None
    two_dimensional = reference.GetDimension() == 2 if reference is not None else array.shape[-3] == 1

    def image_of(volume: np.ndarray) -> sitk.Image:
        image = sitk.GetImageFromArray(volume[0] if two_dimensional else volume)
        if reference is not None:
            image.CopyInformation(reference)
        return image

    image = image_of(array) if array.ndim == 3 else sitk.JoinSeries([image_of(volume) for volume in array])
    sitk.WriteImage(image, str(file), useCompression=True)


def write_case(prediction: ImageGridPrediction, properties: dict, plans_manager: PlansManager, dataset_json: dict,
               output_folder: Path, case: str, image_file: Path, uncertainty: np.ndarray | None, save_samples: bool,
               save_probabilities: bool) -> None:
    """Writes a case's files into a folder of their own and moves them when all are whole, the label map last.

    NIfTI files get the geometry of ``image_file`` to the last bit.
    """
    label_name = f"{case}{dataset_json['file_ending']}"
    with staged_output(output_folder, last=label_name) as stage:
        label_file = stage / label_name
        plans_manager.image_reader_writer_class().write_seg(prediction.segmentation, str(label_file), properties)
        if uncertainty is not None:
            write_companion(uncertainty, label_file, stage / f"{case}_uncertainty.nii.gz")
        if prediction.mutual_information is not None:
            write_companion(prediction.mutual_information, label_file, stage / f"{case}_mutual_information.nii.gz")
        if save_samples:
            write_companion(prediction.samples, label_file, stage / f"{case}_samples.nii.gz")
        if save_probabilities:
            write_companion(prediction.probabilities, label_file, stage / f"{case}_probabilities.nii.gz")
            np.savez_compressed(stage / f"{case}.npz", probabilities=prediction.probabilities)
            save_pickle(properties, str(stage / f"{case}.pkl"))
        if image_file.name.endswith(NIFTI_ENDINGS):
            for file in stage.iterdir():
                if file.name.endswith(NIFTI_ENDINGS):
                    copy_geometry(image_file, file)
