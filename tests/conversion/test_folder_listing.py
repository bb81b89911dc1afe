"""A user's folder is converted whole or what is passed over is named, and no two names of it become one."""

import os

import numpy as np
import pytest

CASES = ("anna", "bert", "carl")
LABEL = np.eye(6, dtype=np.uint8)


@pytest.fixture
def mine(tmp_path, picture, noise):
    """``mine(images, masks)``: grey pictures with these names in images/ and masks of ones on a diagonal in masks/."""
    def write(images=CASES, masks=None):
        for name in images:
            picture(tmp_path / "mine" / "images" / f"{name}.png", noise(6, 6))
        for name in images if masks is None else masks:
            picture(tmp_path / "mine" / "masks" / f"{name}.png", LABEL)
        return tmp_path / "mine"

    return write


@pytest.fixture
def volumes(tmp_path, nifti, noise):
    for case in CASES:
        nifti(tmp_path / "mine" / "images" / f"{case}.nii.gz", noise(4, 5, 6, dtype=np.float32))
        nifti(tmp_path / "mine" / "masks" / f"{case}.nii.gz", noise(4, 5, 6) % 2)
    return tmp_path / "mine"


def test_folders_and_files_that_are_links_are_followed(convert, mine, tmp_path):
    source = mine()
    for name in ("images", "masks"):
        (source / name).rename(tmp_path / f"store_{name}")
        (source / name).symlink_to(tmp_path / f"store_{name}")
    (tmp_path / "store_images" / "anna.png").rename(tmp_path / "a.png")
    (tmp_path / "store_images" / "anna.png").symlink_to(tmp_path / "a.png")
    done = convert("folder", source)
    assert done.code == 0 and done.files("imagesTr") == [f"{case}_0000.png" for case in CASES]


@pytest.mark.parametrize("flags", [[], ["--images", "images/{case}.nii.gz", "--masks", "masks/{case}.NII.gz"]])
def test_endings_in_capitals_are_endings(convert, volumes, flags):
    for folder in ("images", "masks"):
        (volumes / folder / "carl.nii.gz").rename(volumes / folder / "carl.NII.GZ")
    done = convert("folder", volumes, *flags)
    assert done.code == 0 and done.files("labelsTr") == [f"{case}.nii.gz" for case in CASES]


def test_hidden_and_foreign_files_are_no_cases_and_not_mentioned(convert, mine):
    source = mine()
    for name in ("images/._anna.png", "masks/._anna.png", "images/.DS_Store", "Thumbs.db", "AUTORUN.INF"):
        (source / name).write_bytes(b"\0\5\x16\7")
    done = convert("folder", source)
    assert done.code == 0 and done.description["provenance"]["left_out"] == []


def test_an_image_and_a_mask_that_differ_by_an_umlaut_are_two_unpaired_files(convert, mine):
    done = convert("folder", mine(["a", "b", "Fall_ä"], ["a", "b", "Fall_ö"]))
    assert done.code == 1 and done.files("labelsTr") == ["a.png", "b.png"]
    assert "Fall_ä: image without a mask: Fall_ä.png" in done.out
    assert "Fall_ö: mask without an image: Fall_ö.png" in done.out


def test_letters_of_any_language_stay_so_that_such_cases_keep_their_own_masks(convert, mine, picture):
    source = mine(["Fall_ä", "Fall_ö", "病人一", "病人二"])
    picture(source / "masks" / "Fall_ö.png", LABEL[::-1])
    done = convert("folder", source)
    assert done.code == 0 and done.files("labelsTr") == ["Fall_ä.png", "Fall_ö.png", "病人一.png", "病人二.png"]
    np.testing.assert_array_equal(done.voxels("labelsTr/Fall_ä.png"), LABEL)
    np.testing.assert_array_equal(done.voxels("labelsTr/Fall_ö.png"), LABEL[::-1])


def test_a_letter_in_one_piece_or_in_two_is_the_same_letter(convert, mine):
    done = convert("folder", mine(["M\u00fcller", "b"], ["Mu\u0308ller", "b"]))
    assert done.code == 0 and done.files("labelsTr") == ["M\u00fcller.png", "b.png"]
    done = convert("folder", mine(["Mu\u0308ller"], []), "--overwrite")
    assert done.code == 1 and "M\u00fcller: several images" in done.out and done.files("labelsTr") == ["b.png"]


def test_names_that_would_become_one_are_refused_before_anything_is_written(convert, mine, raw_folder):
    done = convert("folder", mine(["Fall 1", "Fall_1", "b"]))
    lines = done.err.splitlines()
    assert done.code == 2 and lines[0] == "error: Several cases have the name Fall_1." and len(lines) == 4
    assert "Fall 1.png" in lines[1] and "Fall_1.png" in lines[1] and list(raw_folder.iterdir()) == []


def test_raters_that_would_become_one_are_refused(convert, mine, picture, raw_folder):
    source = mine()
    for rater, case in (("Dr A", "anna"), ("Dr_A", "bert"), ("Dr_A", "carl")):
        picture(source / "experts" / rater / f"{case}.png", LABEL)
    done = convert("folder", source, "--masks", "experts/{rater}/{case}", "--raters")
    assert done.code == 2 and done.err.splitlines()[:2] == [
        "error: Several raters would have one name.", "  found:    Dr A, Dr_A"]
    assert list(raw_folder.iterdir()) == []


def test_a_rater_whose_name_is_a_path_stays_in_the_folder_of_raters(convert, mine, picture):
    source = mine(masks=[])
    for case in CASES:
        picture(source / "masks" / f"{case}+...png", LABEL)
        picture(source / "masks" / f"{case}+b.png", LABEL)
    done = convert("folder", source, "--masks", "masks/{case}+{rater}", "--raters")
    assert done.files("labelsTr_raters") == ["b", "case"] and done.files(".") == [
        "dataset.json", "imagesTr", "labelsTr", "labelsTr_raters", "splits_final.json"]


def test_files_of_several_patients_are_no_case(convert, tmp_path, picture, noise):
    root = tmp_path / "mine"
    for patient, case in (("A", "1"), ("A_1", "3"), ("C", "1")):
        picture(root / "scans" / patient / f"{case}.png", noise(6, 6))
        if patient != "A_1":
            picture(root / "masks" / patient / f"{case}.png", LABEL)
    picture(root / "masks" / "A" / "1_3.png", LABEL)
    done = convert("folder", root, "--images", "scans/{patient}/{case}", "--masks", "masks/{patient}/{case}")
    assert done.code == 1 and done.files("labelsTr") == ["A_1.png", "C_1.png"]
    assert "A_1_3: its files name several patients: A, A_1" in done.out


@pytest.mark.parametrize("name", ["tissue_samples", "x_uncertainty", "x_seg"])
def test_a_name_that_no_case_can_have_is_left_out_with_the_reason(convert, mine, name):
    done = convert("folder", mine([*CASES, name]))
    assert done.code == 1 and done.files("labelsTr") == [f"{case}.png" for case in CASES]
    assert f"{name}: its name ends in _{name.split('_')[1]}" in done.out


def link_to_nowhere(path):
    path.symlink_to("/gone")


PASSED_OVER = {
    "images/dora.hdr": (lambda path: path.write_bytes(b"pair"), ".hdr cannot be read"),
    "images/dora.img": (lambda path: path.write_bytes(b"pair"), ".img cannot be read"),
    "images/dora.dcm": (lambda path: path.write_bytes(b"\0" * 128 + b"DICM and more"), ".dcm cannot be read"),
    "images/dora.nii.gz": (link_to_nowhere, "is a link to nowhere"),
    "images/dora": (link_to_nowhere, "is a link to nowhere"),
    "masks/dora.nii": (os.mkfifo, "is no file"),
    "masks/dora.nrrd": (lambda path: path.mkdir(), "is a folder"),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_what_has_the_place_of_an_image_and_cannot_be_read_is_a_problem(convert, volumes, name):
    make, reason = PASSED_OVER[name]
    make(volumes / name)
    done = convert("folder", volumes)
    assert done.code == 1 and f"{name}: {reason}" in done.out and len(done.files("labelsTr")) == 3


def test_an_image_with_another_ending_than_the_pattern_is_a_problem(convert, volumes, nifti, noise):
    for folder in ("images", "masks"):
        nifti(volumes / folder / "dora.nii", noise(4, 5, 6) % 2)
    done = convert("folder", volumes, "--images", "images/{case}.nii.gz", "--masks", "masks/{case}.nii.gz")
    assert done.code == 1 and "images/dora.nii: .nii where the pattern has another ending" in done.out
    assert convert("folder", volumes, "--overwrite").code == 0


def test_what_is_no_image_or_lies_elsewhere_is_named_as_left_out(convert, mine, picture):
    source = mine()
    picture(source / "old" / "anna.png", LABEL)
    (source / "images" / "notes.txt").write_text("a note")
    done = convert("folder", source)
    assert done.code == 0 and done.description["provenance"]["left_out"] == [
        {"name": "old/anna.png", "reason": "no pattern names it"},
        {"name": "images/notes.txt", "reason": "no pattern names it"}]


def test_a_class_that_is_misspelled_in_one_case_leaves_that_case_out(convert, mine, picture):
    source = mine(masks=[])
    for case in CASES:
        for word in ("liver", "tumor" if case == "anna" else "tumour"):
            picture(source / "masks" / f"{case}_{word}.png", LABEL if word == "liver" else LABEL[::-1])
    flags = ["--masks", "masks/{case}_{label}", "--labels", "liver"]
    done = convert("folder", source, *flags, "tumour")
    assert done.code == 1 and done.files("labelsTr") == ["bert.png", "carl.png"]
    assert "anna: anna_tumor.png is none of the classes of --labels, while tumour is missing" in done.out
    done = convert("folder", source, "--overwrite", *flags)
    assert done.code == 0 and "left out: 3" in done.out and len(done.files("labelsTr")) == 3


def series_of_cases(root, noise, nifti, dicom_series) -> None:
    affine = np.diag([-0.703125, -0.703125, 2.5, 1.0])
    affine[:3, 3] = 166.0, 171.5, -100.0
    for number, case in enumerate(CASES):
        dicom_series(root / "images" / case, f"1.2.{number + 1}", noise(4, 5, 4, dtype=np.int16))
        nifti(root / "masks" / f"{case}.nii.gz", np.ones((4, 5, 4), np.uint8), affine)


@pytest.mark.parametrize("name", [".DS_Store", "DICOMDIR", "a_preview.jpg", "0_notes.txt", "0_report.pdf"])
def test_what_lies_beside_the_slices_does_not_hide_a_dicom_series(convert, tmp_path, noise, nifti, dicom_series, name):
    series_of_cases(tmp_path / "mine", noise, nifti, dicom_series)
    for case in CASES:
        (tmp_path / "mine" / "images" / case / name).write_bytes(b"no slice" * 30)
    assert len(convert("folder", tmp_path / "mine").files("labelsTr")) == 3


def cut_in_the_preamble(path):
    path.write_bytes(path.read_bytes()[:140])


def empty(path):
    path.write_bytes(b"")


def lose(path):
    path.unlink()
    link_to_nowhere(path)


@pytest.mark.parametrize("damage", [cut_in_the_preamble, empty, lose])
def test_a_slice_that_the_series_lost_is_a_problem(convert, tmp_path, noise, nifti, dicom_series, damage):
    series_of_cases(tmp_path / "mine", noise, nifti, dicom_series)
    first = min((tmp_path / "mine" / "images" / "bert").iterdir())
    damage(first)
    done = convert("folder", tmp_path / "mine")
    assert done.code == 1 and done.files("labelsTr") == ["anna.nii.gz", "carl.nii.gz"]
    assert f"bert: {first.name} lies beside its slices but cannot be read as one" in done.out
