"""What viewers and archives read beside a label map: inclusion, ``.seg.nrrd``, DICOM segmentations, label descriptions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsegdiff_auto.checks.dataset_json import label_names
from medsegdiff_auto.decision.inclusion import PERCENTS, inclusion_map
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_segmentation import source_slices, write_dicom_masks, write_dicom_probabilities
from medsegdiff_auto.files.dicom_series import Series
from medsegdiff_auto.files.grid import ItkGrid
from medsegdiff_auto.files.slicer_segmentation import Segment, itksnap_labels, write_slicer_segmentation
from medsegdiff_auto.files.viewer_library import require_library
from medsegdiff_auto.nnunet.readers import turns_images
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.palette import structure_colour, tinted
from medsegdiff_auto.writing import write_text

if TYPE_CHECKING:
    from medsegdiff_auto.inference.export import ImageGridPrediction, Outputs
    from medsegdiff_auto.nnunet.managers import PlansManager

ITKSNAP_FILE = "labels_itksnap.txt"


def require_viewer_formats(formats: Sequence[str], series: Mapping[str, Series | None],
                           plans_manager: PlansManager) -> None:
    """Checks before a case is predicted that its files for viewers can be written.

    Args:
        series: that the image of each case was read from; None for another image.

    Raises:
        UserError: a library is not installed; or, for a DICOM segmentation, an image was no DICOM series, a slice lacks
            what it needs, or the model's reader turns images.
    """
    for one in formats:
        require_library(one)
    if "dicom-seg" not in formats:
        return
    without = [case for case, one in series.items() if one is None]
    if without:
        raise UserError("A DICOM segmentation belongs to a DICOM series.", found=f"{without[0]}, an image without one",
                        expected="a folder of DICOM files as the image", fix="give the series, or leave out dicom-seg")
    if turns_images(plans_manager.image_reader_writer_class):
        raise UserError("The model's reader turns images, and a DICOM segmentation cannot follow it.",
                        found=plans_manager.image_reader_writer_class.__name__, expected="SimpleITKIO or NibabelIO",
                        fix="leave out dicom-seg and convert the label map, which lies as the image")
    for one in series.values():
        source_slices(one)


def inclusion_maps(prediction: ImageGridPrediction) -> Iterator[np.ndarray]:
    """The map of inclusion of every structure, (z, y, x) uint8."""
    return (inclusion_map(prediction.sampled, one.labels) for one in structures_of(prediction.grid.dataset_json))


def write_viewer_files(prediction: ImageGridPrediction, folder: Path, case: str, outputs: Outputs,
                       series: Series | None) -> None:
    """Writes the formats that are asked for; a DICOM segmentation is of ``series``."""
    dataset_json = prediction.grid.dataset_json
    if "itk-snap" in outputs.formats:
        write_text(itksnap_labels(label_names(dataset_json)), folder / ITKSNAP_FILE)
    if "seg.nrrd" in outputs.formats:
        grid = ItkGrid.of_properties(prediction.grid.properties, len(prediction.segmentation))
        write_slicer_segmentation(_segments(prediction, outputs.inclusion), grid.image(prediction.segmentation),
                                  folder / f"{case}.seg.nrrd")
    if "dicom-seg" in outputs.formats:
        structures, codes, slices = structures_of(dataset_json), dataset_json.get("codes") or {}, source_slices(series)
        write_dicom_masks(prediction.segmentation, structures, codes, slices, folder / f"{case}.dcm")
        if outputs.probabilities:
            channels = [np.clip(channel, 0, 1) for channel in prediction.channels()]
            write_dicom_probabilities([channels[structure.channel] for structure in structures], structures, codes,
                                      slices, folder / f"{case}_probabilities.dcm")


def _segments(prediction: ImageGridPrediction, with_inclusion: bool) -> Iterator[Segment]:
    """The mask of every structure; then, if asked for, what 95, 50 and 5 % of the samples hold of it."""
    dataset_json = prediction.grid.dataset_json
    structures, codes = structures_of(dataset_json), dataset_json.get("codes") or {}
    for index, structure in enumerate(structures):
        yield Segment(structure.name, structure.mask(prediction.segmentation), structure_colour(index),
                      codes.get(structure.name))
    if with_inclusion:
        for index, (structure, inclusion) in enumerate(zip(structures, inclusion_maps(prediction))):
            for percent in reversed(PERCENTS):
                paler = tinted(structure_colour(index), (100 - percent) / 150)
                yield Segment(f"{structure.name} in {percent} % of the samples", inclusion >= percent, paler,
                              codes.get(structure.name))
