"""The grid of an image from what nnU-Net's readers remember is the grid that SimpleITK reads."""

import numpy as np
import pytest
import SimpleITK as sitk
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from medsegdiff_auto.files.grid import ItkGrid

OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


@pytest.fixture
def file(tmp_path):
    image = sitk.GetImageFromArray(np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6))
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((-10.0, 20.0, 30.5))
    image.SetDirection(OBLIQUE)
    sitk.WriteImage(image, tmp_path / "image.nii.gz")
    return tmp_path / "image.nii.gz"


@pytest.mark.parametrize("reader", [SimpleITKIO, NibabelIO])
def test_an_array_of_the_reader_on_its_grid_is_the_image_itself(file, reader):
    array, properties = reader().read_images((str(file),))
    made, read = ItkGrid.of_properties(properties, 4).image(array[0]), sitk.ReadImage(str(file))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(made), sitk.GetArrayFromImage(read))
    np.testing.assert_allclose(made.GetSpacing(), read.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(made.GetOrigin(), read.GetOrigin(), rtol=1e-6)
    np.testing.assert_allclose(made.GetDirection(), read.GetDirection(), atol=1e-6)


def test_several_maps_lie_along_a_last_axis(file):
    _, properties = SimpleITKIO().read_images((str(file),))
    several = np.random.default_rng(0).integers(0, 3, (7, 4, 5, 6)).astype(np.uint8)
    made = ItkGrid.of_properties(properties, 4).image(several)
    assert made.GetSize() == (6, 5, 4, 7) and made.GetSpacing()[:3] == (0.5, 0.75, 2.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(made), several)


def test_a_picture_without_position_is_2d_with_unit_spacing():
    made = ItkGrid.of_properties({"spacing": (999, 1, 1)}, 1).image(np.eye(3, dtype=np.uint8)[None])
    assert made.GetSize() == (3, 3) and made.GetSpacing() == (1.0, 1.0)
