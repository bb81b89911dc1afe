"""What a prediction refuses to read or write, before a network is loaded."""

import os

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.checks.inputs import check_inputs, require_writable

MODEL = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "organ": 1}, "numTraining": 9,
         "file_ending": ".nii.gz"}


def image(shape=(4, 5, 6), spacing=(1.0, 1.0, 3.0), seed=0) -> sitk.Image:
    made = sitk.GetImageFromArray(np.random.default_rng(seed).normal(size=shape).astype(np.float32))
    made.SetSpacing(spacing)
    return made


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for case in ("b", "a"):
        for channel in (0, 1):
            sitk.WriteImage(image(seed=channel), folder / f"{case}_{channel:04d}.nii.gz")
    return folder


def test_the_files_of_intact_cases_are_listed_by_case_and_channel(images):
    assert {case: [path.name for path in paths] for case, paths in check_inputs(images, MODEL)[0].items()} == {
        "a": ["a_0000.nii.gz", "a_0001.nii.gz"], "b": ["b_0000.nii.gz", "b_0001.nii.gz"]}


def test_2d_nifti_and_png_images_are_accepted(tmp_path):
    nifti, png = tmp_path / "nifti", tmp_path / "png"
    for folder in (nifti, png):
        folder.mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(np.eye(9, dtype=np.float32)), nifti / "a_0000.nii.gz")
    io.imsave(png / "a_0000.png", np.eye(9, dtype=np.uint8) * 200, check_contrast=False)
    for folder, ending in ((nifti, ".nii.gz"), (png, ".png")):
        assert list(check_inputs(folder, {"channel_names": {"0": "T1"}, "file_ending": ending})[0]) == ["a"]


def flat() -> sitk.Image:
    return sitk.GetImageFromArray(np.full((4, 5, 6), 3, np.float32))


def with_nan() -> sitk.Image:
    array = sitk.GetArrayFromImage(image())
    array[1, 2, 3] = np.nan
    made = sitk.GetImageFromArray(array)
    made.CopyInformation(image())
    return made


FAULTS = {
    "missing channel": (lambda path: path.unlink(), "lacks a channel", "0000 (1 channel(s))"),
    "4-D": (lambda path: sitk.WriteImage(sitk.JoinSeries([image()] * 2), path), "is 4-D", "6 x 5 x 4 x 2"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:200]), "is truncated", "after 200 bytes"),
    "no image": (lambda path: path.write_text("no image" * 50), "cannot be read as an image", "ImageIO"),
    "empty": (lambda path: path.write_bytes(b""), "is empty", "0 bytes"),
    "NaN": (lambda path: sitk.WriteImage(with_nan(), path), "holds NaN or infinite values", "1 of 120 voxels"),
    "another size": (lambda path: sitk.WriteImage(image((4, 5, 7)), path), "differs in size", "7 x 5 x 4"),
    "another spacing": (lambda path: sitk.WriteImage(image(spacing=(1, 1, 2)), path), "differs in spacing",
                        "1, 1, 2 mm"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_channel_is_refused_with_its_file_and_value(images, fault):
    damage, check, found = FAULTS[fault]
    damage(images / "a_0001.nii.gz")
    for channel in (0, 1):
        (images / f"b_{channel:04d}.nii.gz").unlink()
    with pytest.raises(UserError, match=check) as raised:
        check_inputs(images, MODEL)
    assert str(images / "a_000") in raised.value.what and found in raised.value.found


def test_a_constant_image_is_refused_and_one_constant_channel_only_logged(images, caplog):
    sitk.WriteImage(image(spacing=(1, 1, 1)), images / "a_0000.nii.gz")
    sitk.WriteImage(flat(), images / "a_0001.nii.gz")
    with caplog.at_level("INFO"):
        assert set(check_inputs(images, MODEL)[0]) == {"a", "b"}
    assert "is constant" in caplog.text
    sitk.WriteImage(flat(), images / "a_0000.nii.gz")
    for channel in (0, 1):
        (images / f"b_{channel:04d}.nii.gz").unlink()
    with pytest.raises(UserError, match="is not intact") as raised:
        check_inputs(images, MODEL)
    assert raised.value.found.startswith("2 errors in ")
    assert "a_0000.nii.gz" in raised.value.found and "a_0001.nii.gz" in raised.value.found


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_case_is_left_out_by_name_and_logged_while_the_others_stay(images, fault, caplog):
    damage, check, _ = FAULTS[fault]
    damage(images / "a_0001.nii.gz")
    (images / "scan.nii.gz").write_bytes(b"")
    with caplog.at_level("INFO"):
        intact, left_out = check_inputs(images, MODEL)
    assert list(intact) == ["b"] and left_out[1:] == ["a"] and left_out[0].endswith("scan.nii.gz")
    assert all(word in caplog.text for word in check.split()[:2])


def test_a_missing_or_empty_folder_or_one_of_another_file_ending_is_refused(images, tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        check_inputs(tmp_path / "nowhere", MODEL)
    with pytest.raises(UserError, match="is not a folder"):
        check_inputs(images / "a_0000.nii.gz", MODEL)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds no image") as raised:
        check_inputs(tmp_path / "empty", MODEL)
    assert raised.value.found == "an empty folder"
    with pytest.raises(UserError, match="holds no image") as raised:
        check_inputs(images, {**MODEL, "file_ending": ".nrrd"})
    assert raised.value.found.startswith("a_0000.nii.gz, ")


def test_an_image_without_a_channel_number_is_refused_with_the_name_it_should_have(images):
    (images / "a_0000.nii.gz").rename(images / "scan.nii.gz")
    for name in ("a_0001", "b_0000", "b_0001"):
        (images / f"{name}.nii.gz").unlink()
    with pytest.raises(UserError, match="has no channel number") as raised:
        check_inputs(images, MODEL)
    assert raised.value.expected == "scan_0000.nii.gz"


def test_a_writable_output_folder_is_made_and_left_empty(tmp_path):
    folder = require_writable(tmp_path / "new" / "predictions")
    assert folder.is_dir() and os.listdir(folder) == []


@pytest.mark.parametrize("below", ["", "predictions"])
def test_an_output_folder_whose_place_a_file_takes_is_refused(tmp_path, below):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match="cannot be written"):
        require_writable(tmp_path / "taken" / below)
    assert (tmp_path / "taken").read_text(encoding="utf-8") == "a file"


PASSED_OVER = {
    "plain_0000.nii": lambda path: path.write_bytes(b""),
    "upper_0000.NII.GZ": lambda path: path.write_bytes(b""),
    "gone_0000.nii.gz": lambda path: path.symlink_to("/nowhere.nii.gz"),
    "pipe_0000.nii.gz": os.mkfifo,
    "folder_0000.nii.gz": lambda path: path.mkdir(),
    "old_0000.hdr": lambda path: path.write_bytes(b""),
    "tissue_samples_0000.nii.gz": lambda path: sitk.WriteImage(image(), path),
}


def test_images_that_cannot_be_taken_are_left_out_one_by_one_while_hidden_files_are_nobodys(images, caplog):
    for name, make in PASSED_OVER.items():
        make(images / name)
    for name in ("._a_0000.nii.gz", ".DS_Store", "Thumbs.db"):
        (images / name).write_bytes(b"")
    (images / "notes.txt").write_text("a note")
    with caplog.at_level("INFO"):
        intact, left_out = check_inputs(images, MODEL)
    assert list(intact) == ["a", "b"] and sorted(left_out) == sorted(PASSED_OVER)
    assert "notes.txt" in caplog.text and "DS_Store" not in caplog.text


def test_images_whose_ending_is_in_capitals_are_refused_with_the_ending_to_give_them(images):
    for path in [*images.iterdir()]:
        path.rename(path.with_name(path.name.replace(".nii.gz", ".NII.GZ")))
    with pytest.raises(UserError, match="holds no image") as raised:
        check_inputs(images, MODEL)
    assert raised.value.fix == "rename the images to end in .nii.gz"


def test_a_file_that_is_no_image_of_the_folder_leaves_no_case_out(images):
    (images / "cases.csv").write_text("case")
    assert check_inputs(images, MODEL)[1] == []
