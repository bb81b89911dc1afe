"""AMOS: CT and MR by number, the official validation, and cases that cannot be converted."""

import numpy as np
import pytest


@pytest.fixture
def amos22(tmp_path, nifti, noise):
    """Training 1, 4, 5, 500 (CT) and 507, 508 (MR), validation 2 (CT) and 510 (MR), test 3 (CT) and 541 (MR)."""
    root = tmp_path / "amos22"
    for part, numbers in (("Tr", (1, 4, 5, 500, 507, 508)), ("Va", (2, 510)), ("Ts", (3, 541))):
        for number in numbers:
            nifti(root / f"images{part}" / f"amos_{number:04d}.nii.gz", noise(4, 4, 4, dtype=np.int16))
            if part != "Ts":
                nifti(root / f"labels{part}" / f"amos_{number:04d}.nii.gz",
                      np.arange(64, dtype=np.uint8).reshape(4, 4, 4) % 16)
    (root / "dataset.json").write_text("{}")
    (root / "imagesTr" / "._amos_0001.nii.gz").write_bytes(b"macOS")
    return root


def numbers(done, folder):
    return [int(name[5:9]) for name in done.files(folder)]


@pytest.mark.parametrize("modality, train, test, channel", [
    ("both", [1, 2, 4, 5, 500, 507, 508, 510], [3, 541], "CT or MR"),
    ("ct", [1, 2, 4, 5, 500], [3], "CT"),
    ("mr", [507, 508, 510], [541], "MR")])
def test_numbers_up_to_500_are_ct_and_the_validation_scans_are_training_cases(convert, amos22, require_intact,
                                                                               modality, train, test, channel):
    done = convert("amos", amos22, "--modality", modality)
    assert done.code == 0
    assert numbers(done, "imagesTr") == numbers(done, "labelsTr") == train and numbers(done, "imagesTs") == test
    assert done.description["channel_names"] == {"0": channel}
    for number in train:
        part = "Va" if number in (2, 510) else "Tr"
        for written, original in ((f"imagesTr/amos_{number:04d}_0000.nii.gz", f"images{part}/amos_{number:04d}.nii.gz"),
                                  (f"labelsTr/amos_{number:04d}.nii.gz", f"labels{part}/amos_{number:04d}.nii.gz")):
            assert (done.folder / written).read_bytes() == (amos22 / original).read_bytes()
    assert sorted(case for fold in done.splits for case in fold["val"]) == [f"amos_{number:04d}" for number in train]
    require_intact(done.folder)


def test_the_official_validation_is_the_only_fold_on_demand(convert, amos22):
    done = convert("amos", amos22, "--official-validation", "--modality", "ct")
    assert done.splits == [{"train": ["amos_0001", "amos_0004", "amos_0005", "amos_0500"], "val": ["amos_0002"]}]


def test_organs_are_read_as_the_authors_number_them(convert, amos22):
    labels = convert("amos", amos22).description["labels"]
    assert list(labels.values()) == list(range(16))
    assert (labels["pancreas"], labels["duodenum"], labels["prostate or uterus"]) == (10, 13, 15)


def test_the_first_release_without_labels_of_validation_is_converted_and_that_is_said(convert, amos22):
    (amos22 / "labelsVa").rename(amos22.parent / "aside")
    done = convert("amos", amos22)
    assert done.code == 0 and "the 2 validation scans have no label maps at hand (labelsVa)" in done.out
    assert numbers(done, "labelsTr") == [1, 4, 5, 500, 507, 508]
    refused = convert("amos", amos22, "--official-validation", "--overwrite")
    assert refused.code == 2 and "is not the folder of AMOS: labelsVa/amos_*.nii.gz is missing." in refused.err


@pytest.mark.parametrize("removed", ["imagesTr", "labelsTr"])
def test_a_folder_of_another_layout_is_refused_with_the_file_that_is_missing(convert, amos22, removed):
    (amos22 / removed).rename(amos22 / "aside")
    done = convert("amos", amos22)
    assert done.code == 2 and f"is not the folder of AMOS: {removed}/amos_*.nii.gz is missing." in done.err


def test_broken_cases_are_listed_and_the_rest_is_converted(convert, amos22, nifti):
    (amos22 / "labelsTr" / "amos_0001.nii.gz").unlink()
    (amos22 / "imagesVa" / "amos_0510.nii.gz").unlink()
    nifti(amos22 / "labelsTr" / "amos_0004.nii.gz", np.full((4, 4, 4), 16, np.uint8))
    nifti(amos22 / "labelsTr" / "amos_0005.nii.gz", np.zeros((4, 4, 3), np.uint8))
    (amos22 / "imagesTr" / "amos_0500.nii.gz").write_bytes(b"no gzip")
    done = convert("amos", amos22)
    assert done.code == 1 and numbers(done, "labelsTr") == [2, 507, 508]
    for line in ("amos_0001: image without a mask: amos_0001.nii.gz",
                 "amos_0510: mask without an image: amos_0510.nii.gz", "amos_0004: the label map holds the label 16",
                 "amos_0005: the label map has the size 4 x 4 x 3", "amos_0500: amos_0500.nii.gz cannot be read"):
        assert line in done.out
