"""A user's own folder: every layout, every kind of mask, and what can be wrong with it."""

import json

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image
from skimage import io

CASES = ("anna", "bert", "carl")
SHAPE = (6, 5)
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[1:5, 1:4], LABEL[2:4, 2] = 1, 2


@pytest.fixture
def mine(tmp_path, picture, noise):
    """``mine(mask_of_case, ...)``: colour photographs in images/, masks of the given pixels in masks/."""
    def write(mask=LABEL, image_ending=".png", mask_ending=".png", cases=CASES):
        for case in cases:
            picture(tmp_path / "mine" / "images" / f"{case}{image_ending}", noise(*SHAPE, 3))
            picture(tmp_path / "mine" / "masks" / f"{case}{mask_ending}", mask)
        return tmp_path / "mine"

    return write


@pytest.fixture
def volumes(tmp_path, nifti, noise):
    """Three NIfTI volumes with labels 0, 1, 2 on the same oblique grid."""
    for case in CASES:
        nifti(tmp_path / "mine" / "images" / f"{case}.nii.gz", noise(4, 5, 6, dtype=np.float32))
        nifti(tmp_path / "mine" / "labels" / f"{case}.nii.gz", noise(4, 5, 6) % 3)
    return tmp_path / "mine"


def refusal(done) -> list[str]:
    lines = done.err.splitlines()
    assert done.code == 2 and len(lines) == 4, done.err
    return lines


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_pictures_without_loss_arrive_pixel_for_pixel(convert, mine, ending, require_intact):
    source = mine(image_ending=ending)
    done = convert("folder", source)
    assert done.code == 0 and done.description["file_ending"] == ".png"
    assert list(done.description["channel_names"].values()) == ["R", "G", "B"]
    for case in CASES:
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{case}_0000.png"),
                                      io.imread(source / "images" / f"{case}{ending}"))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{case}.png"), LABEL)
    assert done.description["labels"] == {"background": 0, "label_1": 1, "label_2": 2}
    require_intact(done.folder)


def test_photographs_in_jpeg_arrive_as_they_are_decoded(convert, mine):
    source = mine(image_ending=".jpg")
    np.testing.assert_array_equal(
        convert("folder", source).voxels("imagesTr/anna_0000.png"), io.imread(source / "images" / "anna.jpg"))


def test_grey_pictures_have_one_channel_and_an_opaque_alpha_channel_is_dropped(convert, mine, picture, noise):
    source = mine()
    for case in CASES:
        picture(source / "images" / f"{case}.png", np.dstack([noise(*SHAPE, 3), np.full(SHAPE, 255, np.uint8)]))
    assert convert("folder", source).voxels("imagesTr/bert_0000.png").shape == (*SHAPE, 3)
    for case in CASES:
        picture(source / "images" / f"{case}.png", noise(*SHAPE, dtype=np.uint16) + np.uint16(1000))
    done = convert("folder", source, "--overwrite")
    assert done.description["channel_names"] == {"0": "image"
                                                 } and done.voxels("imagesTr/bert_0000.png").dtype == np.uint16


def test_nifti_volumes_keep_voxels_and_geometry_to_the_last_bit(convert, volumes, require_intact):
    done = convert("folder", volumes, "--channels", "CT", "--labels", "liver=1", "tumour=2")
    assert done.description["channel_names"] == {"0": "CT"} and done.description["labels"] == {
        "background": 0, "liver": 1, "tumour": 2
    }
    for case in CASES:
        for written, original in ((f"imagesTr/{case}_0000.nii.gz", f"images/{case}.nii.gz"),
                                  (f"labelsTr/{case}.nii.gz", ) * 2):
            original = original.replace("labelsTr", "labels")
            assert (done.folder / written).read_bytes() == (volumes / original).read_bytes()
    require_intact(done.folder)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_other_volumes_keep_spacing_origin_and_direction(convert, tmp_path, noise, ending, require_intact):
    angle = 0.3
    direction = (np.cos(angle), -np.sin(angle), 0.0, np.sin(angle), np.cos(angle), 0.0, 0.0, 0.0, 1.0)
    originals = {}
    for case in CASES:
        for folder, voxels in (("images", noise(3, 4, 5, dtype=np.int16)), ("masks", noise(3, 4, 5) % 2)):
            image = sitk.GetImageFromArray(voxels)
            image.SetSpacing((0.7, 0.8, 2.5)), image.SetOrigin((-12.3, 45.6, 7.8)), image.SetDirection(direction)
            (tmp_path / "mine" / folder).mkdir(parents=True, exist_ok=True)
            sitk.WriteImage(image, str(tmp_path / "mine" / folder / f"{case}{ending}"))
            originals[case, folder] = image
    done = convert("folder", tmp_path / "mine")
    for (case, folder), image in originals.items():
        written = sitk.ReadImage(
            str(done.folder / (f"imagesTr/{case}_0000.nii.gz" if folder == "images" else f"labelsTr/{case}.nii.gz")))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(image))
        assert written.GetSpacing() == tuple(map(float, np.float32(image.GetSpacing())))
        assert written.GetOrigin() == tuple(map(float, np.float32(image.GetOrigin())))
        np.testing.assert_allclose(written.GetDirection(), direction, atol=1e-6)
    require_intact(done.folder)


def test_a_dicom_series_is_a_case(convert, tmp_path, noise, nifti, dicom_series, require_intact):
    affine = np.diag([-0.703125, -0.703125, 2.5, 1.0])
    affine[:3, 3] = 166.0, 171.5, -100.0
    for number, case in enumerate(CASES):
        voxels = noise(3, 5, 4, dtype=np.int16) - np.int16(50)
        dicom_series(tmp_path / "mine" / "images" / case, f"1.2.{number + 1}", voxels)
        nifti(tmp_path / "mine" / "masks" / f"{case}.nii.gz", np.ones((4, 5, 3), np.uint8), affine)
    done = convert("folder", tmp_path / "mine")
    assert done.code == 0, done.out + done.err
    np.testing.assert_array_equal(done.voxels("imagesTr/carl_0000.nii.gz").T, voxels)
    np.testing.assert_array_equal(nib.load(done.folder / "imagesTr" / "carl_0000.nii.gz").affine, affine)
    require_intact(done.folder)


def test_a_folder_with_two_series_and_a_series_that_lacks_a_slice_are_listed(convert, tmp_path, noise, nifti,
                                                                             dicom_series):
    affine = np.diag([-0.703125, -0.703125, 2.5, 1.0])
    affine[:3, 3] = 166.0, 171.5, -100.0
    for number, case in enumerate(CASES):
        heights_mm = [-100.0, -97.5, -90.0, -87.5] if case == "bert" else None
        dicom_series(tmp_path / "mine" / "images" / case, f"1.2.{number + 1}", noise(4, 5, 4, dtype=np.int16),
                     heights_mm=heights_mm)
        nifti(tmp_path / "mine" / "masks" / f"{case}.nii.gz", np.ones((4, 5, 4), np.uint8), affine)
    dicom_series(tmp_path / "other", "1.2.9", noise(4, 5, 4, dtype=np.int16))
    for file in (tmp_path / "other").iterdir():
        file.rename(tmp_path / "mine" / "images" / "carl" / f"other-{file.name}")
    done = convert("folder", tmp_path / "mine")
    assert done.code == 1 and done.files("labelsTr") == ["anna.nii.gz"]
    assert "bert: its slices are not evenly spaced, 2.5 to 7.5 mm: some are missing or double" in done.out
    assert "carl: carl holds 2 DICOM series, expected one" in done.out


@pytest.mark.parametrize("pixels, flags, expected, labels", [
    (LABEL // 2, [], LABEL // 2, ["foreground"]),
    (LABEL // 2 * 255, [], LABEL // 2, ["foreground"]),
    (LABEL // 2 * 255, ["--labels", "nodule"], LABEL // 2, ["nodule"]),
    (LABEL * 100, ["--labels", "disc", "cup"], LABEL, ["disc", "cup"]),
    (LABEL * 100, ["--labels", "cup=200", "disc=100"], (3 - LABEL) * (LABEL > 0), ["cup", "disc"]),
    (np.array([0, 60, 127, 128, 200, 255], np.uint8)[:, None] * np.ones(5, np.uint8), ["--grey"],
     np.array([0, 0, 0, 1, 1, 1])[:, None] * np.ones(5), ["foreground"]),
    (np.array([0, 60, 127, 128, 200, 255], np.uint8)[:, None] * np.ones(5, np.uint8), ["--threshold", "60"],
     np.array([0, 1, 1, 1, 1, 1])[:, None] * np.ones(5), ["foreground"]),
    (np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)[LABEL], ["--labels", "vein=#0000ff", "artery=#FF0000"],
     (3 - LABEL) * (LABEL > 0), ["vein", "artery"]),
    (np.repeat(LABEL[..., None], 3, axis=2), [], LABEL, ["label_1", "label_2"]),
])
def test_masks_of_values_grey_or_colours_give_the_label_map(convert, mine, pixels, flags, expected, labels):
    done = convert("folder", mine(pixels), *flags)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(done.voxels("labelsTr/bert.png"), expected)
    assert list(done.description["labels"]) == ["background", *labels]


def test_a_palette_says_labels_by_index_and_colours_by_its_colours(convert, mine):
    source = mine()
    for case in CASES:
        image = Image.fromarray(LABEL, mode="P")
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(source / "masks" / f"{case}.png")
    np.testing.assert_array_equal(convert("folder", source).voxels("labelsTr/anna.png"), LABEL)
    done = convert("folder", source, "--overwrite", "--labels", "b=#008000", "a=#800000")
    np.testing.assert_array_equal(done.voxels("labelsTr/anna.png"), (3 - LABEL) * (LABEL > 0))


@pytest.mark.parametrize("pixels, what, fix", [
    (np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]],
              np.uint8)[LABEL], "error: The masks are colour images.", "NAME=#0000ff NAME=#ff0000"),
    (np.linspace(0, 255, 30).astype(
        np.uint8).reshape(SHAPE), "error: The masks do not show which structures they have.", "--grey"),
    (LABEL * 127 + 1, "error: The masks do not show which structures they have.", "--labels NAME=VALUE"),
    (LABEL * 0, "error: The masks do not show which structures they have.", "--labels NAME=VALUE"),
])
def test_masks_that_do_not_show_their_structures_are_refused_with_the_flag_that_says_them(
        convert, mine, pixels, what, fix):
    lines = refusal(convert("folder", mine(pixels)))
    assert lines[0] == what and fix in lines[3]


def test_one_file_per_class_is_put_together_and_overlaps_are_reported(convert, tmp_path, picture, noise,
                                                                      require_intact):
    root = tmp_path / "mine"
    big, small = LABEL > 0, LABEL == 2
    for case in ("a_1", "b_2"):
        picture(root / "images" / f"{case}.png", noise(*SHAPE))
        picture(root / "masks" / f"{case}_liver.png", big.astype(np.uint8) * 255)
        picture(root / "masks" / f"{case}_tumour.png", small.astype(np.uint8) * 255)
    picture(root / "images" / "c_3.png", noise(*SHAPE))
    picture(root / "masks" / "c_3_liver.png", big.astype(np.uint8) * 255)
    done = convert("folder", root, "--masks", "masks/{case}_{label}")
    np.testing.assert_array_equal(done.voxels("labelsTr/a_1.png"), LABEL)
    np.testing.assert_array_equal(done.voxels("labelsTr/c_3.png"), LABEL > 0)
    assert done.description["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert "repaired: a_1: tumour lies over another class in 2 voxels and wins there" in done.out
    done = convert("folder", root, "--overwrite", "--masks", "masks/{case}_{label}", "--labels", "tumour", "liver")
    np.testing.assert_array_equal(done.voxels("labelsTr/a_1.png"), (LABEL > 0) * 2)
    require_intact(done.folder)


def test_structures_within_each_other_become_regions(convert, mine):
    done = convert("folder", mine(), "--regions", "--labels", "disc=1", "cup=2")
    assert done.description["labels"] == {"background": 0, "disc": [1, 2], "cup": [2]}
    assert done.description["regions_class_order"] == [
        1, 2
    ] and f"disc: in 3 of 3 cases, median {np.sum(LABEL > 0)} pixels" in done.out


def test_channels_in_files_of_their_own_come_in_the_order_that_is_given(convert, tmp_path, nifti, noise,
                                                                        require_intact):
    root, sequences = tmp_path / "mine", {}
    for patient in ("P1", "P2", "P3"):
        for channel in ("t1", "t1ce", "flair"):
            sequences[patient, channel] = noise(4, 5, 6, dtype=np.int16)
            nifti(root / patient / f"brain_{channel}.nii.gz", sequences[patient, channel])
        nifti(root / patient / "brain_seg.nii.gz", noise(4, 5, 6) % 2)
    done = convert("folder", root, "--images", "{patient}/{case}_{channel}", "--masks", "{patient}/{case}_seg",
                   "--channels", "flair", "t1", "t1ce")
    assert done.code == 0, done.err
    assert list(done.description["channel_names"].values()) == ["flair", "t1", "t1ce"]
    for (patient, channel), voxels in sequences.items():
        number = ("flair", "t1", "t1ce").index(channel)
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{patient}_brain_{number:04d}.nii.gz"), voxels)
    (root / "P2" / "brain_t1.nii.gz").unlink()
    done = convert("folder", root, "--overwrite", "--images", "{patient}/{case}_{channel}", "--masks",
                   "{patient}/{case}_seg", "--channels", "flair", "t1", "t1ce")
    assert done.code == 1 and "P2_brain: the channel t1 is missing" in done.out
    require_intact(done.folder)


def test_images_and_masks_side_by_side_are_told_apart_by_the_longer_pattern(convert, tmp_path, picture, noise):
    for case in CASES:
        picture(tmp_path / "mine" / f"{case}.png", noise(*SHAPE))
        picture(tmp_path / "mine" / f"{case}_mask.png", LABEL)
    done = convert("folder", tmp_path / "mine", "--images", "{case}", "--masks", "{case}_mask")
    assert done.code == 0 and done.files("labelsTr") == [f"{case}.png" for case in CASES]


def test_raters_in_folders_of_their_own_give_their_maps_and_the_consensus(convert, mine, picture, require_intact):
    source = mine()
    maps = {"eva": LABEL, "max": LABEL, "ida": (LABEL > 0).astype(np.uint8)}
    for rater, label in maps.items():
        for case in CASES:
            picture(source / "experts" / rater / f"{case}_seg.png", label)
    (source / "experts" / "ida" / "carl_seg.png").unlink()
    done = convert("folder", source, "--masks", "experts/{rater}/{case}_seg", "--raters")
    for rater, label in maps.items():
        np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/{rater}/anna.png"), label)
    np.testing.assert_array_equal(done.voxels("labelsTr/anna.png"), LABEL)
    assert done.files("labelsTr_raters/ida") == ["anna.png", "bert.png"]
    require_intact(done.folder)
    assert refusal(convert("folder", source, "--raters",
                           "--overwrite"))[0] == "error: --raters needs masks of several raters."


def test_patients_are_found_by_an_expression_and_stay_on_one_side(convert, mine):
    names = [f"P{patient}_slice{number}" for patient in range(6) for number in range(3)]
    done = convert("folder", mine(cases=names), "--patient", "^(P[0-9]+)_")
    assert "18 training cases of 6 patients" in done.out
    for fold in done.splits:
        assert not {name[:2] for name in fold["train"]} & {name[:2] for name in fold["val"]}


def test_own_folds_are_taken_and_refused_where_they_divide_a_patient(convert, mine, tmp_path):
    source = mine(cases=["P1_a", "P1_b", "P2_a", "P3_a"])
    folds = tmp_path / "folds.json"
    folds.write_text(json.dumps([{"train": ["P2_a", "P3_a"], "val": ["P1_a", "P1_b"]}, {"train": [], "val": ["P2_a"]}]))
    done = convert("folder", source, "--patient", "(P[0-9])", "--folds", str(folds))
    assert [fold["val"] for fold in done.splits] == [["P1_a", "P1_b"], ["P2_a"]]
    folds.write_text(json.dumps([{"train": ["P1_b", "P2_a"], "val": ["P1_a", "P3_a"]}]))
    lines = refusal(convert("folder", source, "--overwrite", "--patient", "(P[0-9])", "--folds", str(folds)))
    assert lines[:2] == ["error: The patient P1 stands on both sides of fold 0.", "  found:    train: P1_b; val: P1_a"]
    folds.write_text(json.dumps([{"train": [], "val": ["nobody"]}]))
    assert "the unknown case nobody" in refusal(convert("folder", source, "--overwrite", "--folds", str(folds)))[1]


def test_test_images_need_no_masks_and_their_patients_must_be_others(convert, mine, picture, noise):
    source = mine(cases=["P1_a", "P2_a"])
    picture(source / "test" / "P3_a.png", noise(*SHAPE, 3))
    flags = ["--test_images", "test/{case}", "--patient", "(P[0-9])"]
    done = convert("folder", source, *flags)
    assert done.code == 0 and done.files("imagesTs") == ["P3_a_0000.png"] and done.files("imagesTr") == [
        "P1_a_0000.png", "P2_a_0000.png"
    ]
    picture(source / "test" / "P2_b.png", noise(*SHAPE, 3))
    assert refusal(convert("folder", source, "--overwrite",
                           *flags))[0] == "error: The patient P2 has training and test cases."


def test_geometry_that_differs_by_rounding_is_repaired_and_reported_and_a_shift_is_not(convert, volumes, nifti):
    anna, bert = (volumes / "labels" / f"{case}.nii.gz" for case in ("anna", "bert"))
    for path, shift_mm in ((anna, 1e-4), (bert, 1.0)):
        image = nib.load(path)
        affine = image.affine.copy()
        affine[0, 3] += shift_mm
        nifti(path, np.asanyarray(image.dataobj), affine)
    done = convert("folder", volumes)
    assert done.code == 1 and "repaired: anna: the label map took the geometry of the image" in done.out
    assert "bert: the label map lies elsewhere than the image: a corner is displaced by 1.43 voxels" in done.out
    image, label = (nib.load(done.folder / file) for file in ("imagesTr/anna_0000.nii.gz", "labelsTr/anna.nii.gz"))
    np.testing.assert_array_equal(image.affine, label.affine)


def test_faults_of_single_cases_are_listed_and_the_rest_is_converted(convert, mine, picture, noise, require_intact):
    source = mine(cases=[*CASES, "dora", "emil", "fred", "gina"])
    (source / "masks" / "anna.png").unlink()
    (source / "images" / "bert.png").unlink()
    (source / "images" / "carl.png").write_bytes(b"\x89PNG broken")
    picture(source / "masks" / "dora.png", LABEL[:5])
    picture(source / "masks" / "emil.png", LABEL * 9)
    picture(source / "images" / "fred.jpg", noise(*SHAPE, 3))
    done = convert("folder", source, "--labels", "disc=1", "cup=2")
    assert done.code == 1 and done.files("labelsTr") == ["gina.png"]
    for line in ("anna: image without a mask: anna.png", "bert: mask without an image: bert.png",
                 "carl: carl.png cannot be read", "dora: the label map has the size 5 x 5, expected 6 x 5 as the image",
                 "emil: emil.png holds the label 9, 18, expected 0, 1, 2", "fred: several images: fred.jpg, fred.png"):
        assert line in done.out
    require_intact(done.folder)


@pytest.mark.parametrize("flags, what", [
    (["--images", "photos/{case}"], "has no file that --images names: photos/{case} is missing."),
    (["--masks", "truth/{case}"], "has no file that --masks names: truth/{case} is missing."),
    (["--images", "images/*.png"], "--images is not a pattern for it."),
    (["--masks", "masks/{case}_{class}"], "--masks is not a pattern for it."),
    (["--images", "images/{case}_{channel}"], "{channel} in --images needs the channels in their order."),
    (["--regions"], "--regions needs the structures in their order."),
    (["--patient", "P["], "--patient is not a regular expression."),
    (["--patient", "P[0-9]+"], "--patient needs one pair of brackets round the patient."),
    (["--labels", "a=red"], "--labels has a word that names no structure."),
    (["--labels", "a=1", "b=#ff0000"], "--labels is not consistent."),
    (["--labels", "a=1", "b=1"], "--labels is not consistent."),
    (["--labels", "a", "b", "c"], "--labels does not fit the masks."),
    (["--labels", "a", "b", "--grey"], "Grey masks have one structure."),
    (["--folds", "nowhere.json"], "nowhere.json holds no folds of these cases."),
])
def test_flags_that_do_not_fit_are_refused_in_four_lines(convert, mine, flags, what):
    assert refusal(convert("folder", mine(), *flags))[0].endswith(what)


def test_pictures_and_volumes_in_one_dataset_are_refused(convert, mine, nifti, noise):
    source = mine()
    nifti(source / "images" / "zoe.nii.gz", noise(3, 3, 3))
    nifti(source / "masks" / "zoe.nii.gz", noise(3, 3, 3) % 2)
    assert refusal(convert("folder", source))[0] == "error: The folder holds pictures and volumes."


def test_names_with_spaces_and_dots_become_names_that_nnunet_takes(convert, mine, require_intact):
    done = convert("folder", mine(cases=["Frau A. (1)", "Herr B"]))
    assert done.files("labelsTr") == ["Frau_A.__1_.png", "Herr_B.png"]
    require_intact(done.folder)
