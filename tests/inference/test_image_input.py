"""What an image may be given as, and the case that its name says."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.image_input import image_files
from medsegdiff_auto.checks.inputs import check_case

def model_of(file_ending: str, *channels: str) -> dict:
    """A dataset.json."""
    return {"channel_names": {str(number): name for number, name in enumerate(channels)}, "file_ending": file_ending,
            "labels": {"background": 0, "organ": 1}}


IMAGE = sitk.GetImageFromArray(np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32))


@pytest.mark.parametrize("image, case", [
    ("a/brain_0000.nii.gz", "brain"), (Path("brain_0000.nii.gz"), "brain"), ("scan.nii.gz", "scan"),
    (["b_1_0000.nii.gz", "b_1_0001.nii.gz"], "b_1"), (["t1.nii.gz", "t2.nii.gz"], "t1")])
def test_the_name_of_the_first_file_without_channel_and_ending_is_the_case(image, case, tmp_path):
    found = image_files(image, model_of(".nii.gz", "T1"), tmp_path)
    assert found.case == case and found.image is None
    assert found.paths == [Path(one) for one in (image if isinstance(image, list) else [image])]


def test_images_in_memory_are_written_in_the_models_format_in_their_order(tmp_path):
    found = image_files([IMAGE, IMAGE * 2], model_of(".nrrd", "T1", "T2"), tmp_path)
    assert found.case is None and found.image is IMAGE and [path.suffix for path in found.paths] == [".nrrd"] * 2
    for path, factor in zip(found.paths, (1, 2)):
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(path)),
                                      factor * sitk.GetArrayFromImage(IMAGE))


@pytest.mark.parametrize("image, what", [
    (3.5, "no image"), ([], "no image"), (["a_0000.nii.gz", IMAGE], "no image"),
    ("a_0000.png", "not of the model's format"), (["a_0001.nii.gz", "a_0000.nii.gz"], "not in their order")])
def test_what_cannot_be_an_image_is_refused(image, what, tmp_path):
    with pytest.raises(UserError, match=what):
        image_files(image, model_of(".nii.gz", "T1"), tmp_path)


def test_an_image_that_the_models_format_cannot_hold_is_refused_with_its_type(tmp_path):
    with pytest.raises(UserError, match="cannot be brought") as raised:
        image_files(IMAGE, model_of(".png", "T1"), tmp_path)
    assert raised.value.found == "32-bit float"


def test_findings_in_an_image_in_memory_name_its_place_and_not_a_file(tmp_path):
    flat = sitk.GetImageFromArray(np.full((4, 5, 6), 3, np.float32))
    model = model_of(".nii.gz", "T1")
    files = image_files(flat, model, tmp_path)
    with pytest.raises(UserError) as raised:
        check_case(files.paths, model, files.shown)
    assert raised.value.what == "image 0 is constant." and str(tmp_path) not in str(raised.value)
