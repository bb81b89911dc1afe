"""What DICOM says of geometry and intensity is applied or refused, slice by slice."""

import locale

import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto.dataset_conversion.core.dicom import holds_dicom, read_dicom_series
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem
from medsegdiff_auto.dataset_conversion.core.volume import LPS_TO_RAS

SHAPE, SPACING_MM = (6, 10, 9), (0.7, 0.7, 2.5)
SLOPE_OF = b"\x28\x00\x53\x10\x02\x00\x00\x00"  # the element, before its two letters
STRAIGHT = "1\\0\\0\\0\\1\\0"


@pytest.fixture
def series(tmp_path):
    """``series(positions, orientation, written)`` writes slices and replaces bytes of theirs, of which the writer would
    not write others; what replaces them may be a list with a value for each slice.
    """
    before = locale.setlocale(locale.LC_CTYPE)

    def write(positions=None, orientation=STRAIGHT, written=None):
        folder, writer = tmp_path / "series", sitk.ImageFileWriter()
        folder.mkdir()
        writer.KeepOriginalImageUIDOn()
        voxels = np.random.default_rng(0).integers(0, 800, SHAPE).astype(np.int16)
        for number, plane in enumerate(voxels):
            image = sitk.GetImageFromArray(plane[None])
            image.SetSpacing(SPACING_MM)
            position = (positions or straight())[number]
            values = {"0008|0016": "1.2.840.10008.5.1.4.1.1.2", "0008|0018": f"1.2.{number + 1}", "0020|000e": "1.2",
                      "0020|000d": "1.2.0", "0008|0060": "CT", "0020|0013": str(number + 1),
                      "0020|0032": "\\".join(f"{x:.6f}" for x in position),
                      "0020|0037": orientation if isinstance(orientation, str) else orientation[number]}
            for tag, value in values.items():
                image.SetMetaData(tag, value)
            path = folder / f"{number}.dcm"
            writer.SetFileName(str(path))
            writer.Execute(image)
            content = path.read_bytes()
            for before_it, after_it in (written or {}).items():
                assert before_it in content
                content = content.replace(before_it, after_it if isinstance(after_it, bytes) else after_it[number])
            path.write_bytes(content)
        return folder, voxels

    yield write
    locale.setlocale(locale.LC_CTYPE, before)  # GDCM's writer leaves the process in the C locale


def straight(step=(0.0, 0.0, 2.5)):
    return [tuple(np.array((-16.0, -17.0, -100.0)) + number * np.array(step)) for number in range(SHAPE[0])]


def tilted(degrees: float) -> str:
    return f"1\\0\\0\\0\\{np.cos(np.deg2rad(degrees)):.8f}\\{np.sin(np.deg2rad(degrees)):.8f}"


@pytest.mark.parametrize("degrees", [20, -12, 3])
def test_a_gantry_tilt_is_refused_with_its_angle(series, degrees):
    with pytest.raises(CaseProblem, match=f"{abs(degrees)}.0 degrees of gantry tilt"):
        read_dicom_series(series(orientation=tilted(degrees))[0])


def test_slices_that_shift_sideways_are_refused_too(series):
    with pytest.raises(CaseProblem, match="one lies 2.5 mm from where a straight grid has it"):
        read_dicom_series(series(straight((0.5, 0.0, 2.5)))[0])


def test_the_corner_of_an_oblique_but_straight_stack_lies_where_dicom_says(series):
    angle = np.deg2rad(20)
    normal = np.array([0, -np.sin(angle), np.cos(angle)])
    volume = read_dicom_series(series(straight(2.5 * normal), tilted(20))[0])
    truth = np.array(straight(2.5 * normal)[5]) + [0.7 * 8, 0.7 * 9 * np.cos(angle), 0.7 * 9 * np.sin(angle)]
    np.testing.assert_allclose((LPS_TO_RAS @ volume.affine @ [8, 9, 5, 1])[:3], truth, atol=1e-4)


@pytest.mark.parametrize("change, reason", [
    ({"positions": straight()[:3] + [(-16.0, -17.0, z) for z in (-91.0, -88.5, -86.0)]}, "not evenly spaced, 2.5 to 4"),
    ({"orientation": [STRAIGHT] * 5 + [tilted(5)]}, "turned against each other"),
    ({"written": {b"MONOCHROME2": b"MONOCHROME1"}}, "stored inverted")])
def test_other_stacks_that_are_no_grid_are_refused(series, change, reason):
    with pytest.raises(CaseProblem, match=reason):
        read_dicom_series(series(**change)[0])


def test_slices_with_scales_of_their_own_become_floats_with_all_their_values(series):
    slopes = [b"1 ", b".5", b"2 ", b".2", b"3 ", b".1"]
    folder, stored = series(written={SLOPE_OF + b"1 ": [SLOPE_OF + slope for slope in slopes]})
    plain = [sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{number}.dcm")))[0] for number in range(6)]
    found = read_dicom_series(folder).voxels
    assert found.dtype == np.float32
    np.testing.assert_allclose(found.T, np.stack(plain), rtol=1e-6)
    np.testing.assert_allclose(found.T, stored * np.array([1, 0.5, 2, 0.2, 3, 0.1])[:, None, None], rtol=1e-6)


def test_foreign_files_beside_the_slices_hide_no_series(series):
    folder, stored = series()
    for name in (".DS_Store", "AUTORUN.INF", "0_README", "DICOMDIR.txt", "._0.dcm"):
        (folder / name).write_bytes(b"not DICOM" * 40)
    assert holds_dicom(folder)
    np.testing.assert_array_equal(read_dicom_series(folder).voxels.T, stored)
