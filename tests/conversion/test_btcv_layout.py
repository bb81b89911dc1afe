"""BTCV: scans and organs voxel for voxel, official parts, and folders that are not it."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk


def geometry(path):
    image = sitk.ReadImage(str(path))
    return image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection()


@pytest.fixture
def raw_data(tmp_path, nifti, noise):
    """Scans 5 to 10 for training and 61 for test; every scan has all thirteen organs."""
    root = tmp_path / "RawData"
    for number in range(5, 11):
        nifti(root / "Training" / "img" / f"img{number:04d}.nii.gz", noise(5, 4, 3, dtype=np.int16) - 100)
        nifti(root / "Training" / "label" / f"label{number:04d}.nii.gz",
              np.arange(60, dtype=np.uint8).reshape(5, 4, 3) % 14)
    nifti(root / "Testing" / "img" / "img0061.nii.gz", noise(5, 4, 3, dtype=np.int16))
    return root


@pytest.mark.parametrize("name", ["btcv", "synapse"])
def test_scans_and_organs_arrive_byte_for_byte_under_both_names(convert, raw_data, require_intact, name):
    done = convert(name, raw_data)
    assert done.code == 0 and done.folder.name == "Dataset007_BTCV"
    for number in range(5, 11):
        for written, original in ((f"imagesTr/btcv_{number:04d}_0000.nii.gz", f"img/img{number:04d}.nii.gz"),
                                  (f"labelsTr/btcv_{number:04d}.nii.gz", f"label/label{number:04d}.nii.gz")):
            assert (done.folder / written).read_bytes() == (raw_data / "Training" / original).read_bytes()
            assert geometry(done.folder / written) == geometry(raw_data / "Training" / original)
    assert done.files("imagesTs") == ["btcv_0061_0000.nii.gz"] and not (done.folder / "labelsTs").exists()
    assert done.description["channel_names"] == {"0": "CT"} and len(done.splits) == 5
    assert list(done.description["labels"])[12:] == ["right adrenal gland", "left adrenal gland"]
    require_intact(done.folder)


def test_the_flat_folders_of_many_copies_give_the_same_dataset(convert, raw_data):
    flat = raw_data.parent / "flat"
    flat.mkdir()
    for name, folder in (("imagesTr", "Training/img"), ("labelsTr", "Training/label"), ("imagesTs", "Testing/img")):
        (flat / name).symlink_to(raw_data / folder)
    first = convert("btcv", raw_data)
    before = {path.relative_to(first.folder): path.read_bytes() for path in first.folder.glob("*s*/*.nii.gz")}
    second = convert("btcv", flat, "--overwrite")
    assert before == {
        path.relative_to(second.folder): path.read_bytes()
        for path in second.folder.glob("*s*/*.nii.gz")
    } != {}


@pytest.mark.parametrize("removed", ["Training/img", "Training/label"])
def test_a_folder_of_another_layout_is_refused_with_the_file_that_is_missing(convert, raw_data, removed):
    (raw_data / removed).rename(raw_data / "aside")
    done = convert("btcv", raw_data)
    assert done.code == 2 and f"is not the folder of BTCV: {removed}/" in done.err


def test_without_test_scans_the_training_scans_are_converted_and_that_is_said(convert, raw_data):
    (raw_data / "Testing").rename(raw_data.parent / "aside")
    done = convert("btcv", raw_data)
    assert done.code == 0 and "the test scans are not at hand (Testing/img)" in done.out


def test_broken_cases_are_listed_and_the_rest_is_converted(convert, raw_data, nifti, noise):
    training = raw_data / "Training"
    (training / "label" / "label0005.nii.gz").unlink()
    (training / "img" / "img0006.nii.gz").unlink()
    nifti(training / "label" / "label0007.nii.gz", np.full((5, 4, 3), 14, np.uint8))
    nifti(training / "label" / "label0008.nii.gz", np.zeros((5, 4, 2), np.uint8))
    whole = (training / "img" / "img0009.nii.gz").read_bytes()
    (training / "img" / "img0009.nii.gz").write_bytes(whole[:len(whole) // 2])
    done = convert("btcv", raw_data)
    assert done.code == 1 and done.files("labelsTr") == ["btcv_0010.nii.gz"]
    assert "btcv_0005: image without a mask: img0005.nii.gz" in done.out
    assert "btcv_0006: mask without an image: label0006.nii.gz" in done.out
    assert "btcv_0007: the label map holds the label 14" in done.out
    assert "btcv_0008: the label map has the size 5 x 4 x 2, expected 5 x 4 x 3 as the image" in done.out
    assert "btcv_0009: img0009.nii.gz cannot be read" in done.out


def test_labels_are_read_as_the_authors_number_them(convert, raw_data):
    labels = convert("btcv", raw_data).description["labels"]
    assert {labels[name]: name for name in labels if name in ("spleen", "liver", "aorta", "pancreas")} == {
        1: "spleen", 6: "liver", 8: "aorta", 11: "pancreas"}
    assert sorted(labels.values()) == list(range(14))
    assert np.array_equal(np.unique(np.asanyarray(nib.load(raw_data / "Training/label/label0005.nii.gz").dataobj)),
                          range(14))
