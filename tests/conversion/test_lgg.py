"""kaggle_3m: slices and stacks pixel for pixel, missing sequences, patients, and what can be wrong."""

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

FLAIR_COPY = {"TCGA_DU_0002_20000101": 2, "TCGA_DU_0003_20000101": 0}  # the channel that is missing


@pytest.fixture
def kaggle(tmp_path, picture, noise):
    """Three patients with 12 slices each; of two, one sequence is missing and a copy of FLAIR."""
    root = tmp_path / "kaggle_3m"
    for scan in ("TCGA_DU_0001_20000101", *FLAIR_COPY):
        for number in range(1, 13):
            pixels = noise(6, 5, 3)
            if scan in FLAIR_COPY:
                pixels[..., FLAIR_COPY[scan]] = pixels[..., 1]
            mask = np.zeros((6, 5), np.uint8)
            mask[:number // 3, 1] = 255
            picture(root / scan / f"{scan}_{number}.tif", pixels)
            picture(root / scan / f"{scan}_{number}_mask.tif", mask)
    (root / "data.csv").write_text("Patient,death01\nTCGA_DU_0001,0\nTCGA_DU_0002,1\nTCGA_DU_0009,1\n")
    return root


def originals(root, scan):
    """``(z, y, x, 3)`` and ``(z, y, x)`` of a scan, in the order of the slices' numbers."""
    numbers = sorted(int(path.stem.split("_")[-1]) for path in (root / scan).glob("*.tif") if "mask" not in path.name)
    return [
        np.stack([io.imread(root / scan / f"{scan}_{number}{kind}.tif") for number in numbers])
        for kind in ("", "_mask")
    ]


def test_slices_keep_their_pixels_and_patients_stay_together(convert, kaggle, require_intact):
    done = convert("lgg", kaggle)
    assert done.code == 0 and "36 training cases of 3 patients" in done.out
    for path in kaggle.glob("*/*_mask.tif"):
        name = path.stem.removesuffix("_mask")
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{name}_0000.png"),
                                      io.imread(path.with_name(f"{name}.tif")))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{name}.png"), io.imread(path) // 255)
    for fold in done.splits:
        sides = [{case.rsplit("_", 1)[0] for case in fold[side]} for side in ("train", "val")]
        assert len(sides[1]) == 1 and not sides[0] & sides[1]
    require_intact(done.folder)


def test_stacks_hold_the_slices_in_the_order_of_their_numbers(convert, kaggle, require_intact):
    done = convert("lgg", kaggle, "--stacks")
    images, masks = originals(kaggle, "TCGA_DU_0001_20000101")
    for channel in range(3):
        image = sitk.ReadImage(str(done.folder / "imagesTr" / f"TCGA_DU_0001_20000101_{channel:04d}.nii.gz"))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), images[..., channel])
        assert image.GetSpacing() == (1.0, 1.0, 1.0) and image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    np.testing.assert_array_equal(done.voxels("labelsTr/TCGA_DU_0001_20000101.nii.gz").T, masks // 255)
    assert "the voxel size is unknown and written as 1 x 1 x 1 mm" in done.out and "voxels (" in done.out
    require_intact(done.folder)


def test_a_spacing_that_the_user_knows_is_written_and_gives_millilitres(convert, kaggle):
    done = convert("lgg", kaggle, "--stacks", "--spacing", "0.5", "0.5", "4")
    image = sitk.ReadImage(str(done.folder / "imagesTr" / "TCGA_DU_0001_20000101_0000.nii.gz"))
    assert image.GetSpacing() == (0.5, 0.5, 4.0) and "unknown" not in done.out
    assert f"median {np.sum(originals(kaggle, 'TCGA_DU_0001_20000101')[1] > 0) / 1000:.4g} ml" in done.out


def test_missing_sequences_are_named_and_stay_copies_of_flair(convert, kaggle):
    done = convert("lgg", kaggle)
    assert "note: pre-contrast MRI is missing and a copy of FLAIR in 1 scans: TCGA_DU_0003_20000101" in done.out
    assert "note: post-contrast MRI is missing and a copy of FLAIR in 1 scans: TCGA_DU_0002_20000101" in done.out
    assert done.description["provenance"]["notes"][0].startswith("pre-contrast MRI is missing")


@pytest.mark.parametrize("stacks", [False, True])
def test_missing_sequences_can_be_set_to_zero(convert, kaggle, stacks):
    done = convert("lgg", kaggle, "--missing", "zero", *["--stacks"] * stacks)
    scan = "TCGA_DU_0002_20000101"
    images, _ = originals(kaggle, scan)
    if stacks:
        channels = [done.voxels(f"imagesTr/{scan}_{channel:04d}.nii.gz").T for channel in range(3)]
    else:
        channels = np.moveaxis(np.stack([done.voxels(f"imagesTr/{scan}_{number}_0000.png") for number in range(1, 13)]),
                               -1, 0)
    np.testing.assert_array_equal(channels[0], images[..., 0])
    np.testing.assert_array_equal(channels[1], images[..., 1])
    assert not np.any(channels[2])


def test_patients_with_a_missing_sequence_can_be_left_out(convert, kaggle):
    done = convert("lgg", kaggle, "--missing", "leave_out")
    assert done.code == 0 and "12 training cases of 1 patient\n" in done.out
    assert "TCGA_DU_0002_20000101: post-contrast MRI is missing" in done.out


def test_data_csv_is_compared_with_the_folders(convert, kaggle):
    out = convert("lgg", kaggle).out
    assert "data.csv lists 3 patients, 2 are at hand" in out
    assert "patients that data.csv does not list: TCGA_DU_0003" in out


def test_faults_of_single_slices_are_listed(convert, kaggle, picture):
    scan = kaggle / "TCGA_DU_0001_20000101"
    (scan / f"{scan.name}_2_mask.tif").unlink()
    (scan / f"{scan.name}_3.tif").unlink()
    (scan / f"{scan.name}_4.tif").write_bytes(b"II*\0broken")
    whole = (scan / f"{scan.name}_6.tif").read_bytes()
    (scan / f"{scan.name}_6.tif").write_bytes(whole[:len(whole) // 2])
    picture(scan / f"{scan.name}_5_mask.tif", np.full((6, 5), 9, np.uint8))
    picture(scan / f"{scan.name}_7_mask.tif", np.zeros((5, 5), np.uint8))
    done = convert("lgg", kaggle)
    assert done.code == 1 and "not converted: 6" in done.out
    assert "_2: image without a mask" in done.out and "_3: mask without an image" in done.out
    assert "_4.tif cannot be read" in done.out and "_6.tif cannot be read" in done.out
    assert "_5_mask.tif holds the label 9, expected 0, 255" in done.out
    assert "_7: the label map has the size 5 x 5, expected 6 x 5 as the image" in done.out
    stacked = convert("lgg", kaggle, "--stacks", "--overwrite", "--name", "LGG")
    assert stacked.code == 1 and len(stacked.files("labelsTr")) == 2


def test_a_folder_without_data_csv_is_refused(convert, kaggle):
    (kaggle / "data.csv").unlink()
    assert "data.csv is missing." in convert("lgg", kaggle).err.splitlines()[0]


@pytest.mark.shared_data
@pytest.mark.parametrize("stacks", [False, True])
def test_the_originals_arrive_pixel_for_pixel(shared_data, convert, stacks, require_intact):
    root = shared_data / "originals" / "kaggle_3m"
    done = convert("lgg", root, *["--stacks"] * stacks)
    assert done.code == 0
    for scan in ("TCGA_CS_4941_19960909", "TCGA_HT_7616_19940813"):
        images, masks = originals(root, scan)
        for index in range(len(images)):
            if stacks:
                continue
            np.testing.assert_array_equal(done.voxels(f"imagesTr/{scan}_{index + 1}_0000.png"), images[index])
            np.testing.assert_array_equal(done.voxels(f"labelsTr/{scan}_{index + 1}.png"), masks[index] // 255)
        if stacks:
            for channel in range(3):
                np.testing.assert_array_equal(
                    done.voxels(f"imagesTr/{scan}_{channel:04d}.nii.gz").T, images[..., channel])
            np.testing.assert_array_equal(done.voxels(f"labelsTr/{scan}.nii.gz").T, masks // 255)
    require_intact(done.folder)
