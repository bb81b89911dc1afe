"""What a header changes is applied or refused, and mask values are not guessed: one's own folder, value by value."""

import gzip
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

SHAPE, GRID = (7, 6, 5), np.diag([0.7, 0.8, 2.5, 1.0])


@pytest.fixture
def source(tmp_path, nifti, noise) -> Path:
    """Three volumes with masks of 0 and 1."""
    folder = tmp_path / "mine"
    for number in range(3):
        nifti(folder / f"images/case_{number}.nii.gz", noise(*SHAPE, dtype=np.int16), GRID)
        nifti(folder / f"masks/case_{number}.nii.gz", box(1), GRID)
    return folder


def box(value: int, where=slice(1, 4)) -> np.ndarray:
    label = np.zeros(SHAPE, np.uint8)
    label[where, where, where] = value
    return label


def omitted(done) -> str:
    assert done.code == 1, done.err
    return next(line for line in done.out.splitlines() if "case_1" in line)


def test_ignore_becomes_the_highest_label_wherever_it_is_named(convert, source, nifti):
    label, expected = box(1), box(1)
    label[0], label[5] = 255, 9
    for number in range(3):
        nifti(source / f"masks/case_{number}.nii.gz", label, GRID)
    done = convert("folder", source, "--labels", "Ignore=255", "lesion=1", "cyst=9")
    assert done.code == 2 and "ignore in small letters" in done.err
    done = convert("folder", source, "--labels", "ignore=255", "lesion=1", "cyst=9")
    assert done.description["labels"] == {"background": 0, "lesion": 1, "cyst": 2, "ignore": 3}
    expected[0], expected[5] = 3, 2
    np.testing.assert_array_equal(done.voxels("labelsTr/case_0.nii.gz"), expected)


def test_ignored_voxels_belong_to_no_region(convert, source, nifti):
    label = box(1)
    label[2, 2, 2], label[0] = 2, 9
    for number in range(3):
        nifti(source / f"masks/case_{number}.nii.gz", label, GRID)
    done = convert("folder", source, "--regions", "--labels", "whole=1", "ignore=9", "core=2")
    assert done.description["labels"] == {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3}
    assert done.description["regions_class_order"] == [1, 2] and done.voxels("labelsTr/case_0.nii.gz")[0].min() == 3


def test_ignore_alone_is_no_structure(convert, source):
    done = convert("folder", source, "--labels", "ignore=1")
    assert done.code == 2 and "another one beside ignore" in done.err


@pytest.mark.parametrize("value", [2, 7, 128, 200])
def test_a_file_per_class_may_bear_any_value_and_a_mask_of_labels_is_none(convert, source, nifti, value):
    for number in range(3):
        (source / f"masks/case_{number}.nii.gz").unlink()
        nifti(source / f"masks/case_{number}_liver.nii.gz", box(1), GRID)
        nifti(source / f"masks/case_{number}_tumour.nii.gz", box(value, slice(2, 4)), GRID)
    flags = ("--masks", "masks/{case}_{label}", "--labels", "liver", "tumour")
    done = convert("folder", source, *flags)
    expected = np.where(box(1, slice(2, 4)) > 0, 2, box(1))
    np.testing.assert_array_equal(done.voxels("labelsTr/case_2.nii.gz"), expected)
    nifti(source / "masks/case_1_tumour.nii.gz", box(2, slice(2, 4)) + box(1), GRID)
    assert "case_1_tumour.nii.gz holds shades up to 3" in omitted(convert("folder", source, *flags, "--overwrite"))


def test_masks_of_two_values_without_0_are_background_and_foreground(convert, source, nifti):
    for number in range(3):
        nifti(source / f"masks/case_{number}.nii.gz", box(1) + 1, GRID)
    done = convert("folder", source)
    assert done.description["labels"] == {"background": 0, "foreground": 1}
    np.testing.assert_array_equal(done.voxels("labelsTr/case_0.nii.gz"), box(1))


def test_the_masks_of_classes_have_to_lie_on_one_grid(convert, source, nifti):
    backwards = np.diag([-0.7, 0.8, 2.5, 1.0])
    backwards[0, 3] = 0.7 * (SHAPE[0] - 1)
    for number in range(3):
        (source / f"masks/case_{number}.nii.gz").unlink()
        nifti(source / f"masks/case_{number}_liver.nii.gz", box(1), GRID)
        nifti(source / f"masks/case_{number}_tumour.nii.gz", box(1), backwards if number == 1 else GRID)
    done = convert("folder", source, "--masks", "masks/{case}_{label}", "--labels", "liver", "tumour")
    assert "case_1_tumour.nii.gz lies elsewhere" in omitted(done)


def pixdim_of_1(path: Path) -> None:
    image = nib.load(path)
    header = image.header.copy()
    header["pixdim"][1:4], header["qform_code"] = 1, 0
    nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), None, header), path)


def other_qform(path: Path) -> None:
    image = nib.load(path)
    image.set_sform(GRID, 2)
    backwards = np.diag([0.7, -0.8, 2.5, 1.0])
    backwards[1, 3] = 0.8 * (SHAPE[1] - 1)
    image.set_qform(backwards, 1)
    nib.save(image, path)


def coloured(path: Path) -> None:
    voxels = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(voxels, GRID), path)


def complex_numbers(path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ones(SHAPE, np.complex64), GRID), path)


@pytest.mark.parametrize("part", ["images", "masks"])
@pytest.mark.parametrize("damage, reason", [
    (pixdim_of_1, "case_1.nii.gz has a header that says two geometries: spacing 1, 1, 1 and 0.7, 0.8, 2.5 mm"),
    (other_qform, "case_1.nii.gz has a header that says two geometries"),
    (coloured, "case_1.nii.gz has several values per voxel: 3 components (RGB)"),
    (complex_numbers, "case_1.nii.gz has several values per voxel: 2 components")])
def test_a_header_that_readers_understand_differently_leaves_its_case_out(convert, source, part, damage, reason):
    damage(source / part / "case_1.nii.gz")
    done = convert("folder", source)
    assert reason in omitted(done) and done.files("labelsTr") == ["case_0.nii.gz", "case_2.nii.gz"]


def test_where_no_mask_can_be_read_the_reason_is_the_finding(convert, source):
    for path in (source / "masks").iterdir():
        pixdim_of_1(path)
    done = convert("folder", source)
    assert done.code == 2 and "No mask can be read" in done.err and "two geometries" in done.err


def test_a_mask_that_took_the_made_up_position_of_an_image_without_one_lies_where_the_image_does(
        convert, source, noise):
    for number in range(3):
        image = nib.Nifti1Image(noise(*SHAPE, dtype=np.int16), None)
        nib.save(image, source / f"images/case_{number}.nii.gz")
        nib.save(nib.Nifti1Image(box(1), nib.load(source / f"images/case_{number}.nii.gz").affine),
                 source / f"masks/case_{number}.nii.gz")
    done = convert("folder", source)
    seen = [sitk.ReadImage(done.folder / file) for file in ("imagesTr/case_0_0000.nii.gz", "labelsTr/case_0.nii.gz")]
    assert seen[0].GetDirection() == seen[1].GetDirection() and seen[0].GetOrigin() == seen[1].GetOrigin()


def test_an_uncompressed_file_named_nii_gz_is_read_and_written_compressed(convert, source):
    path = source / "images/case_1.nii.gz"
    voxels = np.asanyarray(nib.load(path).dataobj)
    path.write_bytes(gzip.decompress(path.read_bytes()))
    done = convert("folder", source)
    assert done.code == 0
    np.testing.assert_array_equal(done.voxels("imagesTr/case_1_0000.nii.gz"), voxels)


SHOWN = np.repeat(np.repeat(np.arange(24, dtype=np.uint8).reshape(4, 6) * 10, 8, 0), 8, 1)


@pytest.mark.parametrize("orientation, stored", [
    (1, SHOWN), (2, SHOWN[:, ::-1]), (3, SHOWN[::-1, ::-1]), (6, SHOWN.T[::-1]), (8, SHOWN.T[:, ::-1])])
@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_a_photograph_and_a_mask_are_written_as_they_are_shown(convert, tmp_path, orientation, stored, ending):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for folder in ("images", "masks"):
        (tmp_path / "mine" / folder).mkdir(parents=True)
    for number in range(3):
        Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / f"mine/images/case_{number}{ending}", exif=exif)
        Image.fromarray((SHOWN > 100).astype(np.uint8)).save(tmp_path / f"mine/masks/case_{number}.png")
    palette = Image.fromarray(np.ascontiguousarray((stored > 100).astype(np.uint8)), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "mine/masks/case_1.png", exif=exif)
    done = convert("folder", tmp_path / "mine")
    np.testing.assert_array_equal(done.voxels("imagesTr/case_0_0000.png"), SHOWN)
    assert Image.open(done.folder / "imagesTr/case_0_0000.png").getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(done.voxels("labelsTr/case_1.png"), SHOWN > 100)


def test_a_constant_image_leaves_its_training_case_out(convert, source, nifti):
    nifti(source / "images/case_1.nii.gz", np.full(SHAPE, 7, np.int16), GRID)
    assert "its image is constant, 7 everywhere" in omitted(convert("folder", source))


def test_the_converter_ends_with_the_check_of_planning_on_what_it_wrote(convert, source, nifti):
    flags = ("--labels", "liver=1", "tumour=2")
    done = convert("folder", source, *flags)
    assert done.code == 1 and done.files("labelsTr") == [f"case_{number}.nii.gz" for number in range(3)]
    assert "not ready for planning: 1" in done.out and "tumour (2) in 0 of 3 label maps" in done.out
    nifti(source / "masks/case_0.nii.gz", box(1) + box(1, slice(2, 4)), GRID)
    assert convert("folder", source, *flags, "--overwrite").code == 0


def test_volumes_of_one_slice_across_are_told_at_their_conversion(convert, source, nifti, noise):
    for number in range(3):
        nifti(source / f"images/case_{number}.nii.gz", noise(7, 1, 5, dtype=np.int16), GRID)
        nifti(source / f"masks/case_{number}.nii.gz", box(1)[:, 1:2], GRID)
    done = convert("folder", source)
    assert done.code == 1 and "holds images that are one voxel wide: 7 x 1 x 5 voxels" in done.out


@pytest.mark.parametrize("suffixes, fix", [
    (["_0000"], "--images 'images/{case}_0000'"),
    (["_0000", "_0001"], "--images 'images/{case}_{channel}' --channels 0000 0001"),
    (["_image"], "rename the files")])
def test_where_no_image_has_the_name_of_a_mask_that_is_the_finding_and_its_fix_is_right(
        convert, source, nifti, noise, suffixes, fix):
    for number in range(3):
        (source / f"images/case_{number}.nii.gz").unlink()
        for suffix in suffixes:
            nifti(source / f"images/case_{number}{suffix}.nii.gz", noise(*SHAPE, dtype=np.int16), GRID)
    done = convert("folder", source)
    assert done.code == 2 and "No image has the name of a mask" in done.err and fix in done.err
    assert f"images case_0{suffixes[0]}" in done.err and "masks case_0, case_1, case_2" in done.err
    if fix.startswith("--"):
        done = convert("folder", source, *fix.replace("'", "").split())
        assert done.code == 0 and len(done.files("imagesTr")) == 3 * len(suffixes)
