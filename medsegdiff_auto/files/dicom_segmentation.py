"""DICOM segmentation objects, with the geometry and the patient of the series that they belong to, by highdicom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medsegdiff_auto import __version__
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_series import Series
from medsegdiff_auto.files.viewer_library import require_library
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.palette import as_bytes, structure_colour

if TYPE_CHECKING:
    from pydicom import Dataset

ENDING = ".dcm"
MAKER, SERIES_NUMBER = "MedSegDiff-Auto", 9001
REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "Modality",
            "Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
                "StudyDate", "StudyTime", "ReferringPhysicianName")
PRIVATE_SCHEME, LONGEST_NAME, UTF_8 = "99MEDSEGDIFF", 64, "ISO_IR 192"


def source_slices(series: Series) -> list[Dataset]:
    """What the slices of a series say but for their pixels, in their order.

    Raises:
        UserError: highdicom is not installed, or a slice lacks what a segmentation of it needs.
    """
    require_library("dicom-seg")
    from pydicom import dcmread

    slices = [dcmread(file, stop_before_pixels=True) for file in series.files]
    for file, one in zip(series.files, slices):
        missing = [keyword for keyword in REQUIRED if one.get(keyword) in (None, "")]
        if missing:
            raise UserError(f"{file} lacks what a DICOM segmentation of it needs.", found=f"no {', '.join(missing)}",
                            expected="an image with its identity and its place in a frame of reference",
                            fix="export the series again from the archive, or leave out dicom-seg")
        for keyword in MAY_BE_EMPTY:
            if keyword not in one:
                setattr(one, keyword, None)
    return slices


def write_dicom_masks(label_map: np.ndarray, structures: Sequence[Structure], codes: Mapping[str, Mapping[str, str]],
                      slices: list[Dataset], file: Path) -> None:
    """Writes a BINARY segmentation; slices in which a structure is not are left out, as the standard has it.

    Args:
        label_map: (z, y, x), a plane per slice.
        codes: by structure ``value``, ``scheme`` and ``meaning``; a structure without gets a code of our own scheme.
        slices: of :func:`source_slices`.
    """
    if all(len(structure.labels) == 1 for structure in structures):  # without a volume for each of perhaps a hundred
        numbers = np.zeros(max(structure.labels[0] for structure in structures) + 1, np.uint16)
        numbers[[structure.labels[0] for structure in structures]] = np.arange(1, len(structures) + 1)
        pixels = numbers[label_map]
    else:
        pixels = np.stack([structure.mask(label_map) for structure in structures], axis=-1).astype(np.uint8)
    _write(pixels, "BINARY", "mask", structures, codes, slices, file)


def write_dicom_probabilities(probabilities: Sequence[np.ndarray], structures: Sequence[Structure],
                              codes: Mapping[str, Mapping[str, str]], slices: list[Dataset], file: Path) -> None:
    """Writes a FRACTIONAL segmentation, probabilities in 255 steps; those of all structures are in memory at once.

    Args:
        probabilities: of every structure, (z, y, x) in [0, 1].
    """
    _write(np.stack(probabilities, axis=-1), "FRACTIONAL", "probability", structures, codes, slices, file)


def is_whole_segmentation(file: Path) -> bool:
    """Whether all pixels are there that a DICOM segmentation says."""
    from pydicom import dcmread

    content = dcmread(file)
    num_bits = content.NumberOfFrames * content.Rows * content.Columns * content.BitsAllocated
    return len(content.PixelData) >= (num_bits + 7) // 8


def _write(pixels: np.ndarray, kind: str, content: str, structures: Sequence[Structure],
           codes: Mapping[str, Mapping[str, str]], slices: list[Dataset], file: Path) -> None:
    import highdicom
    from pydicom.sr.codedict import codes as standard

    algorithm = highdicom.AlgorithmIdentificationSequence(MAKER, standard.DCM.ArtificialIntelligence, __version__)
    descriptions = [
        highdicom.seg.SegmentDescription(
            number, _long_string(structure.name), standard.SCT.AnatomicalStructure,
            _code(structure, number, codes), "AUTOMATIC", algorithm,
            display_color=highdicom.color.CIELabColor.from_rgb(*as_bytes(structure_colour(number - 1))))
        for number, structure in enumerate(structures, start=1)]
    highdicom.seg.Segmentation(
        slices, pixels, kind, descriptions, series_instance_uid=highdicom.UID(), series_number=SERIES_NUMBER,
        sop_instance_uid=highdicom.UID(), instance_number=1, manufacturer=MAKER, manufacturer_model_name=MAKER,
        software_versions=__version__, device_serial_number="0", content_label=content.upper(),
        content_description=f"Automatic segmentation, {content}", series_description=f"{MAKER} {content}",
        specific_character_set=UTF_8, omit_empty_frames=bool(pixels.any())).save_as(file)


def _code(structure: Structure, number: int, codes: Mapping[str, Mapping[str, str]]):
    import highdicom

    code = codes.get(structure.name)
    if code is not None:
        return highdicom.sr.CodedConcept(code["value"], code["scheme"], code["meaning"])
    return highdicom.sr.CodedConcept(f"structure_{number}", PRIVATE_SCHEME, _long_string(structure.name))


def _long_string(text: str) -> str:
    """A text as DICOM's LO holds it: one line of at most 64 letters, no backslash."""
    return " ".join(text.replace("\\", "/").split())[:LONGEST_NAME]
