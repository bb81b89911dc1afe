"""Training cases are those that nnU-Net lists."""

import pytest
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from medsegdiff_auto.nnunet.training_files import training_files

NAMES = ["a_0000", "a_0001", "b_0000", "b_0001", "a_b_0000", "a_b_0001", "a+_0000", "10_0000", "9_0000", "ä b_0000"]


@pytest.fixture
def raw_folder(tmp_path):
    for folder in ("imagesTr", "labelsTr", "elsewhere"):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        (tmp_path / "imagesTr" / f"{name}.nii.gz").touch()
    (tmp_path / "imagesTr" / "a_0000.png").touch()
    return tmp_path


def test_a_folder_is_listed_as_nnunet_lists_it(raw_folder):
    dataset_json = {"file_ending": ".nii.gz"}
    assert training_files(raw_folder, dataset_json) == get_filenames_of_train_images_and_targets(
        str(raw_folder), dataset_json)
    assert list(training_files(raw_folder, dataset_json)) == ["10", "9", "a", "a+", "a_b", "b", "ä b"]
    assert [len(case["images"]) for case in training_files(raw_folder, dataset_json).values()] == [1, 1, 2, 1, 2, 2, 1]


def test_a_listing_in_dataset_json_is_taken_and_stays_as_it_is(raw_folder, monkeypatch):
    monkeypatch.setenv("ELSEWHERE", "elsewhere")
    listing = {"a": {"images": ["$ELSEWHERE/x.nii.gz", str(raw_folder / "y.nii.gz")], "label": "labelsTr/a.nii.gz"}}
    dataset_json = {"file_ending": ".nii.gz", "dataset": {case: dict(files) for case, files in listing.items()}}
    found = training_files(raw_folder, dataset_json)
    assert dataset_json["dataset"] == listing
    assert found == {"a": {"images": [str(raw_folder / "elsewhere" / "x.nii.gz"), str(raw_folder / "y.nii.gz")],
                           "label": str(raw_folder / "labelsTr" / "a.nii.gz")}}
    assert found == get_filenames_of_train_images_and_targets(str(raw_folder), dataset_json)
