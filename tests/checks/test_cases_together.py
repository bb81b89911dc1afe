"""What the check finds beyond a single file: raters, colour pictures, TIFF volumes, cases that are wrong together."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image

from medsegdiff_auto.checks.inputs import check_inputs
from medsegdiff_auto.checks.integrity import check_dataset

SHAPE = (6, 9, 8)


def write(path: Path, array: np.ndarray, spacing=(1.0, 1.0, 2.0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    sitk.WriteImage(image, path)


def volumes(folder: Path, shape=SHAPE, spacing=(1.0, 1.0, 2.0), scale=1.0, **changes) -> Path:
    """Five cases with the structures 1 and 2."""
    for number in range(5):
        image = np.random.default_rng(number).uniform(0, 100, shape).astype(np.float32) * scale
        label = np.zeros(shape, np.uint8)
        label.flat[:9], label.flat[-9:] = 1, 2
        write(folder / f"imagesTr/case_{number}_0000.nii.gz", image, spacing)
        write(folder / f"labelsTr/case_{number}.nii.gz", label, spacing)
    (folder / "dataset.json").write_text(json.dumps(
        {"channel_names": {"0": "MR"}, "labels": {"background": 0, "liver": 1, "tumour": 2}, "numTraining": 5,
         "file_ending": ".nii.gz"} | changes))
    return folder


def errors(folder: Path) -> list[tuple[str, str, str]]:
    return [(found.file, found.check, found.found) for found in check_dataset(folder) if found.severity == "error"]


def test_a_structure_that_is_empty_in_all_cases_is_an_error_and_in_some_is_none(tmp_path):
    folder = volumes(tmp_path)
    for number in range(4):
        write(folder / f"labelsTr/case_{number}.nii.gz", np.zeros(SHAPE, np.uint8))
    assert errors(folder) == []
    write(folder / "labelsTr/case_4.nii.gz", np.ones(SHAPE, np.uint8))
    empty = "lists a structure that is empty in all cases"
    assert errors(folder) == [("dataset.json", empty, "tumour (2) in 0 of 5 label maps")]
    write(folder / "labelsTr/case_4.nii.gz", np.zeros(SHAPE, np.uint8))
    assert errors(folder) == [("dataset.json", empty, "liver (1) in 0 of 5 label maps"),
                              ("dataset.json", empty, "tumour (2) in 0 of 5 label maps")]


def test_a_region_is_empty_where_none_of_its_labels_occurs_and_ignored_voxels_are_no_structure(tmp_path):
    labels = {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    folder = volumes(tmp_path, labels=labels, regions_class_order=[1, 2])
    assert errors(folder) == []
    for number in range(5):
        write(folder / f"labelsTr/case_{number}.nii.gz", np.full(SHAPE, 1, np.uint8))
    assert [found for _, _, found in errors(folder)] == ["core (2) in 0 of 5 label maps"]


@pytest.mark.parametrize("shape, spacing, is_refused", [
    ((9, 1, 8), (1.0, 1.0, 2.0), True), ((9, 8, 1), (1.0, 1.0, 1.0), True), ((1, 9, 8), (1.0, 1.0, 1.0), False),
    ((1, 9, 8), (1.0, 1.0, 2.0), False), ((9, 1, 8), (1.0, 5.0, 2.0), False), ((1, 9, 8), (3.0, 1.0, 1.0), True)])
def test_lone_slices_are_refused_where_nnunet_would_cut_lines_out_of_them(tmp_path, shape, spacing, is_refused):
    found = errors(volumes(tmp_path, shape, spacing))
    assert [check for _, check, _ in found] == ["holds images that are one voxel wide"] * is_refused


def test_rgb_to_0_1_needs_intensities_from_0_to_255_in_training_and_prediction(tmp_path):
    names = {"channel_names": {"0": "rgb_to_0_1"}}
    folder = volumes(tmp_path, **names)
    assert errors(folder) == []
    for values, found in ((np.linspace(0, 256, 432), "0 to 256"), (np.linspace(-1, 200, 432), "-1 to 200")):
        write(folder / "imagesTr/case_2_0000.nii.gz", values.reshape(SHAPE).astype(np.float32))
        assert errors(folder) == [
            ("imagesTr/case_2_0000.nii.gz", "has intensities that rgb_to_0_1 cannot take", found)]
    intact, left_out = check_inputs(folder / "imagesTr", json.loads((folder / "dataset.json").read_text()))
    assert left_out == ["case_2"] and len(intact) == 4


def test_a_label_that_was_cut_before_it_was_compressed_is_not_read_as_background(tmp_path):
    path = volumes(tmp_path) / "labelsTr/case_1.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-100]))
    assert errors(tmp_path) == [("labelsTr/case_1.nii.gz", "is truncated", f"{6 * 9 * 8 - 100} bytes of voxels")]


def photographs(folder: Path, mode: str) -> Path:
    """Five pictures in RGB, the third in another mode."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for number in range(5):
        pixels = np.random.default_rng(number).integers(0, 200, (16, 16, 3)).astype(np.uint8)
        label = np.zeros((16, 16), np.uint8)
        label[4:9, 4:9] = 1
        image = Image.fromarray(pixels).convert(mode if number == 2 else "RGB")
        image.save(folder / f"imagesTr/case_{number}_0000.png")
        Image.fromarray(label).save(folder / f"labelsTr/case_{number}.png")
    (folder / "dataset.json").write_text(json.dumps(
        {"channel_names": {"0": "R", "1": "G", "2": "B"}, "labels": {"background": 0, "a": 1}, "numTraining": 5,
         "file_ending": ".png"}))
    return folder


@pytest.mark.parametrize("mode, found, fix", [
    ("RGBA", "4 channel(s), the last perhaps alpha", "save it without the alpha channel"),
    ("L", "1 channel(s)", "save it with 3 channel(s), or correct channel_names in dataset.json")])
def test_a_picture_with_other_channels_than_the_rest_is_one_file_and_nothing_has_to_be_removed(
        tmp_path, mode, found, fix):
    finding, = check_dataset(photographs(tmp_path, mode))
    assert (finding.file, finding.found, finding.fix) == ("imagesTr/case_2_0000.png", found, fix)
    assert finding.check == "holds another number of channels than dataset.json lists"


def test_volumes_in_tiff_take_their_spacing_from_the_file_beside_image_and_label(tmp_path):
    for part, suffix in (("imagesTr", "_0000"), ("labelsTr", "")):
        (tmp_path / part).mkdir()
        for number in range(5):
            array = np.random.default_rng(number).integers(0, 2, SHAPE).astype(np.uint8)
            tifffile.imwrite(tmp_path / part / f"case_{number}{suffix}.tif", array)
            (tmp_path / part / f"case_{number}.json").write_text(json.dumps({"spacing": [2.0, 1.0, 1.0]}))
    (tmp_path / "dataset.json").write_text(json.dumps(
        {"channel_names": {"0": "EM"}, "labels": {"background": 0, "a": 1}, "numTraining": 5, "file_ending": ".tif"}))
    assert errors(tmp_path) == []
    (tmp_path / "labelsTr/case_3.json").write_text(json.dumps({"spacing": [3.0, 1.0, 1.0]}))
    check = "differs in spacing from imagesTr/case_3_0000.tif"
    assert errors(tmp_path) == [("labelsTr/case_3.tif", check, "1, 1, 3 mm")]


def test_a_rater_s_label_map_is_held_to_what_the_reference_is(tmp_path):
    folder, file = volumes(tmp_path), "labelsTr_raters/ida/case_1.nii.gz"
    label = np.zeros(SHAPE, np.uint8)
    label[0], label[1] = 1, 2
    write(folder / file, label)
    assert errors(folder) == []
    write(folder / file, label * 127)
    assert errors(folder) == [(file, "contains a label that dataset.json does not list", "0, 127, 254")]
    write(folder / file, label[1:])
    assert errors(folder) == [(file, "differs in size from imagesTr/case_1_0000.nii.gz", "8 x 9 x 5")]
    write(folder / file, label, (1.0, 1.0, 2.5))
    assert errors(folder) == [(file, "differs in spacing from imagesTr/case_1_0000.nii.gz", "1, 1, 2.5 mm")]
