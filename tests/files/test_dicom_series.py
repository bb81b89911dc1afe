"""A folder of DICOM files is one straight, evenly spaced grid, or it is refused."""

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_files import AXIAL, OBLIQUE, SAGITTAL, Place, write_series

from medsegdiff_auto.files.dicom_series import holds_dicom, read_series_of_slices
from medsegdiff_auto.files.unreadable import UnreadableScan

VOXELS = np.random.default_rng(3).integers(-1000, 2000, (7, 6, 5)).astype(np.int16)


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL, OBLIQUE], ids=["axial", "sagittal", "oblique"])
def test_every_voxel_lies_where_its_slice_says_whatever_the_names_of_the_files(tmp_path, axes):
    place = Place(axes=axes)
    image, series = read_series_of_slices(write_series(tmp_path / "s", VOXELS, place), "s")
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), VOXELS)
    names = [file.rsplit("_", 1)[1] for file in series.files]
    assert len(names) == len(VOXELS) and names != sorted(names)
    for z, y, x in ((0, 0, 0), (6, 5, 4), (3, 1, 4)):
        found = image.TransformIndexToPhysicalPoint((x, y, z))
        np.testing.assert_allclose(found, place.position(z, y, x), atol=1e-3)


@pytest.mark.parametrize("changes, found", [
    ({"heights": [0, 1, 2, 4, 5, 6, 7]}, "not evenly spaced, 2.5 to 5 mm"),
    ({"heights": [0, 1, 2, 2, 3, 4, 5]}, "some are missing or double"),
    ({"PhotometricInterpretation": "MONOCHROME1"}, "MONOCHROME1"),
    ({"ImagePositionPatient": None}, "does not say where it lies"),
    ({"ImageOrientationPatient": ["1", "0", "0", "0", "0.939693", "0.342020"]}, "20.0 degrees of gantry tilt")])
def test_what_is_no_grid_is_refused_with_its_reason(tmp_path, changes, found):
    folder = write_series(tmp_path / "s", VOXELS, **changes)
    with pytest.raises(UnreadableScan) as raised:
        read_series_of_slices(folder, "the series")
    error = str(raised.value.finding.as_user_error())
    assert found in error and error.startswith("the series is no DICOM series that is one grid.")
    assert [line.split(":")[0] for line in error.splitlines()[1:]] == ["  found", "  expected", "  fix"]


def test_a_lone_slice_that_does_not_say_where_it_lies_is_refused(tmp_path):
    folder = write_series(tmp_path / "s", VOXELS[:1], ImagePositionPatient=None)
    with pytest.raises(UnreadableScan, match="does not say where it lies"):
        read_series_of_slices(folder, "s")


def test_a_file_of_several_frames_is_refused(tmp_path):
    folder = write_series(tmp_path / "s", VOXELS[:1], NumberOfFrames=2, PixelData=VOXELS[:2].tobytes())
    with pytest.raises(UnreadableScan, match="a file of 2 frames"):
        read_series_of_slices(folder, "s")


def test_two_series_in_one_folder_are_refused_and_so_is_a_slice_that_is_cut(tmp_path):
    folder, other = write_series(tmp_path / "a", VOXELS), write_series(tmp_path / "b", VOXELS)
    for file in other.iterdir():
        file.rename(folder / f"other_{file.name}")
    assert holds_dicom(folder)
    with pytest.raises(UnreadableScan, match="2 DICOM series"):
        read_series_of_slices(folder, "a")
    cut = sorted(write_series(tmp_path / "c", VOXELS).iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:200])
    with pytest.raises(UnreadableScan, match=cut.name):
        read_series_of_slices(cut.parent, "c")
