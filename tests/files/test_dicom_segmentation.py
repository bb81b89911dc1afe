"""A DICOM segmentation says what was predicted, where the series lies, and of whom."""

import numpy as np
import pytest
from dicom_files import AXIAL, OBLIQUE, SAGITTAL, Place, frames_of, volume_of, write_series

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.dicom_segmentation import (is_whole_segmentation, source_slices, write_dicom_masks,
                                                      write_dicom_probabilities)
from medsegdiff_auto.files.dicom_series import read_series_of_slices
from medsegdiff_auto.nnunet.structures import structures_of

SHAPE = (6, 9, 7)
LABELS = {"background": 0, "liver": 1, "Läsion 肝": 2}
REGIONS = {"background": 0, "whole": [1, 2], "core": [2]}
LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}
STRAIGHT = Place()
LABEL_MAP = np.random.default_rng(1).integers(0, 3, SHAPE).astype(np.uint8)
LABEL_MAP[1] = 0
LABEL_MAP[4][LABEL_MAP[4] == 2] = 0


def slices_of(folder, place: Place = STRAIGHT, **changes):
    voxels = np.random.default_rng(2).integers(0, 500, SHAPE)
    return source_slices(read_series_of_slices(write_series(folder, voxels, place, **changes), "s")[1])


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
@pytest.mark.parametrize("labels", [LABELS, {"b": 2, "a": 1, "background": 0}, REGIONS],
                         ids=["labels", "labels in another order", "regions"])
def test_masks_come_back_voxel_for_voxel_at_the_positions_of_the_series(tmp_path, axes, labels):
    place, file = Place(axes=axes), tmp_path / "case.dcm"
    structures = structures_of({"labels": labels})
    write_dicom_masks(LABEL_MAP, structures, {}, slices_of(tmp_path / "s", place), file)
    assert frames_of(file)[0].SegmentationType == "BINARY" and is_whole_segmentation(file)
    for number, structure in enumerate(structures, start=1):
        np.testing.assert_array_equal(volume_of(file, number, SHAPE, place), structure.mask(LABEL_MAP))
    stored = {(frame.segment, round(float(frame.position_mm @ frame.position_mm), 3)) for frame in frames_of(file)[1]}
    assert len(stored) == sum(int(structure.mask(plane).any()) for structure in structures for plane in LABEL_MAP)


def test_patient_study_frame_and_sources_are_those_of_the_series(tmp_path):
    slices = slices_of(tmp_path / "s", SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Anna")
    file = tmp_path / "case.dcm"
    write_dicom_masks(LABEL_MAP, structures_of({"labels": LABELS}), {"liver": LIVER}, slices, file)
    content = frames_of(file)[0]
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID", "FrameOfReferenceUID"):
        assert getattr(content, keyword) == getattr(slices[0], keyword)
    assert content.SeriesInstanceUID != slices[0].SeriesInstanceUID and content.Modality == "SEG"
    assert str(content.PatientName) == "Müller^Anna"
    [referenced] = content.ReferencedSeriesSequence
    found = {one.ReferencedSOPInstanceUID for one in referenced.ReferencedInstanceSequence}
    assert found == {one.SOPInstanceUID for one in slices}
    liver, lesion = content.SegmentSequence
    assert (liver.SegmentLabel, lesion.SegmentLabel) == ("liver", "Läsion 肝")
    code = liver.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning) == tuple(LIVER.values())
    code = lesion.SegmentedPropertyTypeCodeSequence[0]
    assert (code.CodeValue, code.CodingSchemeDesignator) == ("structure_2", "99MEDSEGDIFF")
    assert code.CodeMeaning == "Läsion 肝"
    assert liver.SegmentAlgorithmType == "AUTOMATIC"
    assert liver.RecommendedDisplayCIELabValue != lesion.RecommendedDisplayCIELabValue


def test_probabilities_come_back_to_half_a_step(tmp_path):
    place, file, rng = Place(axes=OBLIQUE), tmp_path / "case.dcm", np.random.default_rng(4)
    probabilities = [rng.random(SHAPE, dtype=np.float32) for _ in range(2)]
    write_dicom_probabilities(probabilities, structures_of({"labels": LABELS}), {}, slices_of(tmp_path / "s", place),
                              file)
    content = frames_of(file)[0]
    assert (content.SegmentationType, content.SegmentationFractionalType) == ("FRACTIONAL", "PROBABILITY")
    for number, expected in enumerate(probabilities, start=1):
        found = volume_of(file, number, SHAPE, place) / content.MaximumFractionalValue
        np.testing.assert_allclose(found, expected, atol=0.5 / 255 + 1e-6)


def test_a_mask_without_a_voxel_is_a_file_of_empty_frames(tmp_path):
    file = tmp_path / "case.dcm"
    write_dicom_masks(np.zeros(SHAPE, np.uint8), structures_of({"labels": LABELS}), {}, slices_of(tmp_path / "s"), file)
    frames = frames_of(file)[1]
    assert len(frames) == 2 * SHAPE[0] and not any(frame.pixels.any() for frame in frames)


def test_elements_that_may_be_empty_may_be_missing_and_those_that_may_not_are_named(tmp_path):
    file = tmp_path / "case.dcm"
    slices = slices_of(tmp_path / "s", PatientBirthDate=None, StudyDate=None, StudyTime=None)
    write_dicom_masks(LABEL_MAP, structures_of({"labels": LABELS}), {}, slices, file)
    assert frames_of(file)[0].PatientBirthDate in ("", None)
    with pytest.raises(UserError, match="lacks what a DICOM segmentation of it needs") as raised:
        slices_of(tmp_path / "t", FrameOfReferenceUID=None)
    assert raised.value.found == "no FrameOfReferenceUID"


def test_a_file_that_lost_its_end_is_not_whole(tmp_path):
    file = tmp_path / "case.dcm"
    write_dicom_masks(LABEL_MAP, structures_of({"labels": LABELS}), {}, slices_of(tmp_path / "s"), file)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(Exception):  # noqa: B017  the library's own
        assert is_whole_segmentation(file)
