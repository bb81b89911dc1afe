"""An oblique geometry survives to the last bit, where ITK alone would round it."""

import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto.files.nifti_geometry import copy_geometry


def oblique(array: np.ndarray) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    angle = 0.3
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    tilt = np.array([[1, 0, 0], [0, np.cos(0.7), -np.sin(0.7)], [0, np.sin(0.7), np.cos(0.7)]])
    image.SetDirection((rotation @ tilt).ravel().tolist())
    image.SetSpacing((0.7, 0.9, 3.3))
    image.SetOrigin((-101.3, 22.7, 5.1))
    return image


def geometry(image: sitk.Image) -> tuple:
    return image.GetSpacing()[:3], image.GetOrigin()[:3], np.array(image.GetDirection()).reshape(
        image.GetDimension(), -1)[:3, :3].tolist()


@pytest.mark.parametrize("num_maps", [1, 4])
def test_header_geometry_is_copied_and_values_stay(tmp_path, num_maps):
    source, target = tmp_path / "image.nii.gz", tmp_path / "map.nii.gz"
    sitk.WriteImage(oblique(np.zeros((4, 5, 6), np.int16)), str(source))
    values = np.random.default_rng(0).random((num_maps, 4, 5, 6), dtype=np.float32)
    maps = [sitk.GetImageFromArray(v) for v in values]
    sitk.WriteImage(maps[0] if num_maps == 1 else sitk.JoinSeries(maps), str(target))
    copy_geometry(source, target)
    read = sitk.ReadImage(str(target))
    assert geometry(read) == geometry(sitk.ReadImage(str(source)))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(read).reshape(values.shape), values)
