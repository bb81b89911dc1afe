"""What 3D Slicer and ITK-SNAP read: voxels, places, names and colours."""

import numpy as np
import pytest
import SimpleITK as sitk
import slicerio
from dicom_files import OBLIQUE

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.slicer_segmentation import Segment, itksnap_labels, write_slicer_segmentation
from medsegdiff_auto.files.viewer_library import require_library

SHAPE = (5, 6, 7)
LABEL_MAP = np.random.default_rng(0).integers(0, 3, SHAPE)
LIVER = {"value": "10200004", "scheme": "SCT", "meaning": "Liver"}


def oblique_image() -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8))
    image.SetSpacing((0.9, 0.7, 2.5))
    image.SetOrigin((-31.25, 12.5, 407.75))
    image.SetDirection(np.stack([*OBLIQUE, np.cross(*OBLIQUE)], axis=1).ravel())
    return image


def test_segments_that_do_not_overlap_share_a_volume_that_lies_as_the_image(tmp_path):
    image, file = oblique_image(), tmp_path / "case.seg.nrrd"
    write_slicer_segmentation([Segment("liver", LABEL_MAP == 1, "#ff8000", LIVER),
                               Segment("tumour", LABEL_MAP == 2, "#0080ff")], image, file)
    read = sitk.ReadImage(str(file))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), LABEL_MAP)
    for index in ((0, 0, 0), (6, 5, 4)):
        found, expected = (one.TransformIndexToPhysicalPoint(index) for one in (read, image))
        np.testing.assert_allclose(found, expected, atol=1e-6)
    found = slicerio.read_segmentation(str(file))
    np.testing.assert_array_equal(found["voxels"].T, LABEL_MAP)
    liver, tumour = found["segments"]
    assert (liver["name"], liver["labelValue"], tumour["name"], tumour["labelValue"]) == ("liver", 1, "tumour", 2)
    np.testing.assert_allclose([liver["color"], tumour["color"]], [(1, 128 / 255, 0), (0, 128 / 255, 1)], atol=1e-5)
    assert liver["terminology"]["type"] == ["SCT", "10200004", "Liver"] and "terminology" not in tumour


def test_segments_that_overlap_lie_in_layers_and_each_comes_back(tmp_path):
    masks = {"whole": LABEL_MAP > 0, "core": LABEL_MAP == 2, "rim": LABEL_MAP == 0}
    file = tmp_path / "case.seg.nrrd"
    write_slicer_segmentation([Segment(name, mask, "#ffffff") for name, mask in masks.items()], oblique_image(), file)
    found = slicerio.read_segmentation(str(file))
    assert found["voxels"].shape == (2, *SHAPE[::-1])
    assert [segment["layer"] for segment in found["segments"]] == [0, 1, 0]
    for segment in found["segments"]:
        mask = found["voxels"][segment["layer"]].T == segment["labelValue"]
        np.testing.assert_array_equal(mask, masks[segment["name"]])
    np.testing.assert_allclose(found["ijkToLPS"][:3, 3], (-31.25, 12.5, 407.75))
    layers = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))  # layers are components to SimpleITK
    np.testing.assert_array_equal(layers[..., 1] == 2, masks["core"])


def test_more_segments_than_a_byte_holds_keep_their_values(tmp_path):
    masks = np.eye(300, dtype=bool).reshape(300, 3, 10, 10)
    image = sitk.GetImageFromArray(np.zeros((3, 10, 10), np.uint8))
    write_slicer_segmentation([Segment(f"s{i}", mask, "#ffffff") for i, mask in enumerate(masks)], image,
                              tmp_path / "case.seg.nrrd")
    read = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "case.seg.nrrd")))
    np.testing.assert_array_equal(read.ravel(), np.arange(1, 301))


def test_names_stay_on_their_line_and_in_the_letters_of_the_header(tmp_path):
    image, names = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8)), ["Läsion", "a\nSegment9_Name:=b|~^c", "肝"]
    write_slicer_segmentation([Segment(name, LABEL_MAP == index, "#ffffff") for index, name in enumerate(names)], image,
                              tmp_path / "case.seg.nrrd")
    found = slicerio.read_segmentation(str(tmp_path / "case.seg.nrrd"))
    assert [segment["name"] for segment in found["segments"]] == ["Lasion", "a Segment9_Name:=bc", "structure 3"]


def test_a_picture_gets_a_third_axis(tmp_path):
    image = sitk.GetImageFromArray(np.zeros(SHAPE[1:], np.uint8))
    image.SetSpacing((0.5, 0.25))
    write_slicer_segmentation([Segment("a", LABEL_MAP[:1] == 1, "#ffffff")], image, tmp_path / "case.seg.nrrd")
    read = sitk.ReadImage(str(tmp_path / "case.seg.nrrd"))
    assert read.GetSpacing() == (0.5, 0.25, 1.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read), LABEL_MAP[:1] == 1)


def test_label_descriptions_name_and_colour_each_value():
    text = itksnap_labels({0: "background", 1: "liver", 12: 'a "b"\nc'})
    rows = [line.split(maxsplit=7) for line in text.splitlines() if not line.startswith("#")]
    assert rows == [["0", "0", "0", "0", "0", "0", "0", '"Clear Label"'],
                    ["1", "230", "159", "0", "1", "1", "1", '"liver"'],
                    ["12", "213", "94", "0", "1", "1", "1", "\"a 'b' c\""]]


@pytest.mark.parametrize("output_format, library", [("dicom-seg", "highdicom"), ("seg.nrrd", "slicerio")])
def test_a_library_that_is_not_installed_is_named_with_the_way_to_install_it(monkeypatch, output_format, library):
    monkeypatch.setitem(__import__("sys").modules, library, None)
    with pytest.raises(UserError) as raised:
        require_library(output_format)
    assert raised.value.found == f"no {library}" and raised.value.fix == 'pip install "medsegdiff-auto[viewer]"'
