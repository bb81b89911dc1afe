"""Maps written one after another are files that every reader takes for the usual ones."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto.files.companion_files import write_npz, write_volumes

VOLUMES = np.random.default_rng(0).normal(size=(3, 4, 5, 6)).astype(np.float32)


def label_image(dimension: int) -> sitk.Image:
    image = sitk.GetImageFromArray(np.zeros((4, 5, 6) if dimension == 3 else (5, 6), np.uint8))
    image.SetSpacing((0.7, 1.5, 3.25)[:dimension])
    image.SetOrigin((-7.0, 11.0, 13.0)[:dimension])
    if dimension == 3:
        image.SetDirection((0, 1, 0, -1, 0, 0, 0, 0, 1))
    return image


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_map_lies_on_the_grid_of_the_label_file(ending, tmp_path):
    label = tmp_path / f"case{ending}"
    sitk.WriteImage(label_image(3), str(label))
    write_volumes([VOLUMES[0]], None, label, tmp_path / "map.nii.gz")
    written = sitk.ReadImage(str(tmp_path / "map.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), VOLUMES[0])
    for of in (sitk.Image.GetSpacing, sitk.Image.GetOrigin, sitk.Image.GetDirection):
        np.testing.assert_allclose(of(written), of(label_image(3)), atol=1e-6)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([label.name, "map.nii.gz"])


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_several_maps_lie_along_a_last_axis_in_3d_and_2d(dtype, tmp_path):
    volumes = VOLUMES.astype(dtype)
    for dimension, shown in ((3, volumes), (2, volumes[:, :1])):
        label = tmp_path / f"case_{dimension}.nii.gz"
        sitk.WriteImage(label_image(dimension), str(label))
        write_volumes(iter(shown), 3, label, tmp_path / "maps.nii.gz")
        written = sitk.ReadImage(str(tmp_path / "maps.nii.gz"))
        assert written.GetDimension() == dimension + 1 and written.GetSpacing()[-1] == 1
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), shown if dimension == 3 else shown[:, 0])
        assert nibabel.load(tmp_path / "maps.nii.gz").get_data_dtype() == dtype


def test_a_format_without_spacing_gives_a_map_of_unit_spacing(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((5, 6), np.uint8))
    sitk.WriteImage(image, str(tmp_path / "case.png"))
    write_volumes([VOLUMES[0, :1]], None, tmp_path / "case.png", tmp_path / "map.nii.gz")
    written = sitk.ReadImage(str(tmp_path / "map.nii.gz"))
    assert written.GetSpacing() == (1, 1)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), VOLUMES[0, 0])


def test_an_npz_is_what_numpy_reads(tmp_path):
    write_npz(iter(VOLUMES), 3, tmp_path / "case.npz")
    with np.load(tmp_path / "case.npz") as archive:
        np.testing.assert_array_equal(archive["probabilities"], VOLUMES)
