"""Scoring trusts no file: what lies elsewhere, is cut or holds other labels is refused before a score is written."""

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scored_folder import LABELS, PLANS, SPACING, label_map, write_nifti
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case_files import read_channels, read_label_map
from medsegdiff_auto.evaluation.folder import evaluate_cases, evaluate_folder

WRITTEN = ("summary.json", "metrics.csv", "metrics.json")


def stored_backwards(path: Path) -> None:
    """Every voxel stays where it is in millimetres; the first axis runs the other way."""
    sitk.WriteImage(sitk.Flip(sitk.ReadImage(path), (True, False, False)), path)


def moved(mm: float):
    def move(path: Path) -> None:
        image = sitk.ReadImage(path)
        image.SetOrigin((mm, 0.0, 0.0) + (0.0,) * (image.GetDimension() - 3))
        sitk.WriteImage(image, path)
    return move


def cut(path: Path) -> None:
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-300]))


def with_values(change):
    def write(path: Path) -> None:
        write_nifti(change(sitk.GetArrayFromImage(sitk.ReadImage(path))), path)
    return write


def coloured(path: Path) -> None:
    array = np.zeros((6, 14, 12, 3), np.uint8)
    image = sitk.GetImageFromArray(array, isVector=True)
    image.SetSpacing(SPACING)
    sitk.WriteImage(image, path)


def other_spacing(path: Path) -> None:
    write_nifti(sitk.GetArrayFromImage(sitk.ReadImage(path)), path, (0.5, 0.8, 3.0))


FAULTS = [
    ("predictions/b.nii.gz", stored_backwards, "differs in origin"),
    ("predictions/b.nii.gz", moved(0.4), "differs in origin"),
    ("predictions/b.nii.gz", other_spacing, "differs in spacing"),
    ("predictions/b.nii.gz", with_values(lambda array: array[:, :-2]), "does not lie on the grid"),
    ("predictions/b.nii.gz", cut, "is truncated"),
    ("predictions/b.nii.gz", with_values(lambda array: array * 0.5), "no whole numbers"),
    ("predictions/b.nii.gz", coloured, "has several values per voxel"),
    ("labels/b.nii.gz", cut, "is truncated"),
    ("labels/b.nii.gz", with_values(lambda array: (array == 1).astype(np.uint8) * 255), "contains a label"),
    ("labels/b.nii.gz", with_values(lambda array: np.where(array == 1, np.float32(np.nan), array)), "holds NaN"),
    ("rater_2/b.nii.gz", stored_backwards, "differs in origin"),
    ("rater_2/b.nii.gz", with_values(lambda array: array * 100), "contains a label"),
    ("predictions/b_samples.nii.gz", moved(5.0), "differs in origin"),
    ("predictions/b_probabilities.nii.gz", cut, "is truncated"),
]


@pytest.mark.parametrize("file, damage, words", FAULTS)
def test_a_file_that_would_be_scored_wrongly_is_refused_by_name_and_nothing_is_written(
        scored, tmp_path, file, damage, words):
    root = tmp_path / "copy"
    shutil.copytree(scored[0], root)
    for name in WRITTEN:
        (root / "predictions" / name).unlink(missing_ok=True)
    damage(root / file)
    with pytest.raises(UserError) as raised:
        evaluate_folder(root / "labels", root / "predictions", LABELS, PLANS,
                        rater_folders=[root / "rater_1", root / "rater_2"])
    assert raised.value.what.startswith(str(root / file)) and words in raised.value.what
    assert not any((root / "predictions" / name).exists() for name in WRITTEN)


def test_a_shift_below_half_a_voxel_is_scored(scored, tmp_path):
    shutil.copy(scored[0] / "labels/a.nii.gz", tmp_path / "a.nii.gz")
    moved(0.2)(tmp_path / "a.nii.gz")
    rows = evaluate_cases({"a": (scored[0] / "labels/a.nii.gz", tmp_path / "a.nii.gz")}, LABELS)
    assert [row["dice"] for row in rows] == [1, 1]


def test_two_dimensional_maps_and_their_samples_are_compared_in_their_plane(tmp_path):
    label = label_map(0)[2]
    write_nifti(label, tmp_path / "a.nii.gz", SPACING[:2])
    write_nifti(np.stack([label] * 3), tmp_path / "a_samples.nii.gz", SPACING[:2], channels=True)
    _, grid = read_label_map(tmp_path / "a.nii.gz", LABELS)
    assert grid.shape == label.shape and read_channels(tmp_path / "a_samples.nii.gz", grid).shape == (3, *label.shape)
    image = sitk.ReadImage(tmp_path / "a_samples.nii.gz")
    image.SetOrigin((9.0, 0.0, 0.0))
    sitk.WriteImage(image, tmp_path / "a_samples.nii.gz")
    with pytest.raises(UserError, match="differs in origin"):
        read_channels(tmp_path / "a_samples.nii.gz", grid)


def test_a_colour_picture_and_a_damaged_one_are_no_label_maps(tmp_path):
    io.imsave(tmp_path / "a.png", np.zeros((8, 8, 3), np.uint8), check_contrast=False)
    with pytest.raises(UserError, match="has several values per voxel"):
        read_label_map(tmp_path / "a.png", LABELS)
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:50])
    with pytest.raises(UserError, match="is truncated"):
        read_label_map(tmp_path / "a.png", LABELS)
