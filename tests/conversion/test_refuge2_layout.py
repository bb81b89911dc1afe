"""REFUGE and REFUGE2: codes, nested regions, editions, seven raters."""

import numpy as np
import pytest
from skimage import io

FIRST_FORM = {  # photograph, reference
    "Training400_g0001": ("Training400/Glaucoma/g0001.jpg", "Annotation-Training400/Disc_Cup_Masks/Glaucoma/g0001.bmp"),
    **{f"Training400_n000{number}": (f"Training400/Non-Glaucoma/n000{number}.jpg",
                                     f"Annotation-Training400/Disc_Cup_Masks/Non-Glaucoma/n000{number}.bmp")
       for number in range(1, 4)},
    "REFUGE-Validation400_V0001": ("REFUGE-Validation400/V0001.jpg",
                                   "REFUGE-Validation400-GT/Disc_Cup_Masks/V0001.bmp"),
    "Test400_T0001": ("Test400/T0001.jpg", "REFUGE-Test-GT/Disc_Cup_Masks/G/T0001.bmp"),
}
FOLDERS_OF_REFUGE2 = (("REFUGE-Validation400", "REFUGE1-Val-400/REFUGE-Validation400"),
                      ("Training400", "REFUGE1-Train-400/Images"), ("Annotation-Training400",
                                                                    "REFUGE1-Train-400/Annotation-Training400"),
                      ("Test400", "REFUGE1-Test-400/Images"), ("REFUGE-Test-GT", "REFUGE1-Test-400/Annotation"))
LABEL = np.array([[0, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 2, 2, 1, 0], [0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]],
                 np.uint8)
CODES = np.array([255, 128, 0], np.uint8)[LABEL]


def refuge2_form(path):
    return next(new + path[len(old):] for old, new in FOLDERS_OF_REFUGE2 if path.startswith(old))


@pytest.fixture
def refuge(tmp_path, picture, noise):
    """``refuge(place)``: six photographs with references and one of REFUGE2's validation, at the paths that ``place``
    gives.
    """
    def write(place=lambda path: path):
        for image, reference in FIRST_FORM.values():
            picture(tmp_path / place(image), noise(5, 6, 3))
            picture(tmp_path / place(reference), CODES)
        picture(tmp_path / "Refuge2-Validation" / "V0001.jpg", noise(5, 6, 3))
        return tmp_path

    return write


@pytest.mark.parametrize("place", [lambda path: path, refuge2_form], ids=["challenge", "REFUGE2-Training"])
def test_photographs_and_codes_arrive_in_both_forms(convert, refuge, place):
    source = refuge(place)
    done = convert("refuge2", source)
    assert done.code == 0, done.out + done.err
    assert done.files("labelsTr") == sorted(f"{name}.png" for name in FIRST_FORM)
    for name, (image, _) in FIRST_FORM.items():
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{name}_0000.png"), io.imread(source / place(image)))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{name}.png"), LABEL)
    assert done.files("imagesTs") == ["Refuge2-Validation_V0001_0000.png"] and not (done.folder / "labelsTs").exists()
    assert done.description["labels"] == {"background": 0, "disc": [1, 2], "cup": 2
                                          } and done.description["regions_class_order"] == [1, 2]
    assert "disc: in 6 of 6 cases, median 12 pixels" in done.out and "cup: in 6 of 6 cases, median 2 pixels" in done.out


def test_the_test_images_of_the_first_edition_stay_test_images(convert, refuge, require_intact):
    done = convert("refuge2", refuge(), "--edition", "1", "--official-validation")
    assert done.files("labelsTs") == ["Test400_T0001.png"] and len(done.files("labelsTr")) == 5
    np.testing.assert_array_equal(done.voxels("labelsTs/Test400_T0001.png"), LABEL)
    assert [fold["val"]
            for fold in done.splits] == [["REFUGE-Validation400_V0001"]] and len(done.splits[0]["train"]) == 4
    require_intact(done.folder)


def test_faulty_cases_are_listed_and_the_others_converted(convert, refuge, picture, noise):
    source = refuge()
    (source / FIRST_FORM["Training400_g0001"][1]).unlink()
    picture(source / FIRST_FORM["Training400_n0001"][1], CODES[:4])
    picture(source / FIRST_FORM["Training400_n0002"][1], np.full_like(CODES, 64))
    (source / FIRST_FORM["REFUGE-Validation400_V0001"][0]).unlink()
    (source / FIRST_FORM["Test400_T0001"][1]).write_bytes(b"BM broken")
    done = convert("refuge2", source)
    assert done.code == 1 and done.files("labelsTr") == ["Training400_n0003.png"]
    for line in ("Training400_g0001: image without a mask: g0001.jpg",
                 "REFUGE-Validation400_V0001: mask without an image: V0001.bmp",
                 "Training400_n0001: the label map has the size 4 x 6, expected 5 x 6 as the image",
                 "Training400_n0002: n0002.bmp holds the label 64, expected 0, 128, 255",
                 "Test400_T0001: T0001.bmp cannot be read"):
        assert line in done.out


def test_a_part_whose_references_are_missing_is_reported_once(convert, refuge):
    source = refuge()
    (source / "REFUGE-Test-GT").rename(source / "aside")
    done = convert("refuge2", source)
    assert done.code == 1 and "Test400: 1 images without a mask: REFUGE-Test-GT/Disc_Cup_Masks is missing" in done.out
    done = convert("refuge2", source, "--edition", "1", "--overwrite")
    assert done.code == 0 and len(done.files("imagesTs")) == 2


@pytest.mark.parametrize("folder", ["Training400", "Annotation-Training400"])
def test_a_folder_that_is_missing_is_named(convert, refuge, folder):
    source = refuge()
    (source / folder).rename(source / "aside")
    done = convert("refuge2", source)
    assert done.code == 2 and f"is not the folder of REFUGE2: {folder}/" in done.err


@pytest.fixture
def multirater(tmp_path, picture, noise):
    """Six training and one test photograph; rater K's disc begins at row K - 1, the cup is a corner that raters 1 to 3
    draw.
    """
    root = tmp_path / "REFUGE-Multirater"
    for number in range(1, 8):
        folder = root / ("Test-400" if number == 7 else "Training-400") / f"{number:04d}"
        picture(folder / f"{number:04d}.jpg", noise(9, 6, 3))
        picture(folder / f"{number:04d}_cropped.jpg", noise(6, 9, 3))
        for rater in range(1, 8):
            disc, cup = np.zeros((2, 9, 6), np.uint8)
            disc[rater - 1:] = 255
            cup[7:, 4:] = 255 if rater <= 3 else 0
            picture(folder / f"{number:04d}_seg_disc_{rater}.png", disc)
            picture(folder / f"{number:04d}_seg_cup_{rater}.png", cup)
    return root


def test_each_rater_has_a_folder_and_the_reference_is_what_half_of_them_say(convert, multirater):
    done = convert("refuge2", multirater, "--raters")
    assert done.code == 1 and "cup (2) in 0 of 6 label maps" in done.out, "no two raters agree on a cup"
    assert done.files("labelsTr_raters") == [f"rater_{number}"
                                             for number in range(1, 8)] == done.files("labelsTs_raters")
    assert done.files("labelsTs") == ["Test-400_0007.png"] and len(done.files("labelsTr")) == 6
    first = np.zeros((9, 6), np.uint8)
    first[0:] = 1
    first[7:, 4:] = 2
    np.testing.assert_array_equal(done.voxels("labelsTr_raters/rater_1/Training-400_0001.png"), first)
    reference = np.zeros((9, 6), np.uint8)
    reference[3:] = 1  # raters 1 to 4 of seven; the cup has three votes only
    np.testing.assert_array_equal(done.voxels("labelsTr/Training-400_0001.png"), reference)
    np.testing.assert_array_equal(done.voxels("imagesTr/Training-400_0001_0000.png"),
                                  io.imread(multirater / "Training-400" / "0001" / "0001.jpg"))


def test_faults_of_raters_are_listed(convert, multirater, picture):
    training = multirater / "Training-400"
    (training / "0001" / "0001_seg_cup_5.png").unlink()
    (training / "0002" / "0002.jpg").unlink()
    for kind in ("disc", "cup"):
        picture(training / "0003" / f"0003_seg_{kind}_2.png", np.zeros((6, 9), np.uint8))
    picture(training / "0004" / "0004_seg_cup_1.png", np.full((9, 6), 255, np.uint8))
    picture(training / "0004" / "0004_seg_disc_1.png", np.zeros((9, 6), np.uint8))
    done = convert("refuge2", multirater, "--raters")
    assert done.code == 1 and len(done.files("labelsTr")) == 2
    for line in ("Training-400_0001: image without a mask: 0001_seg_cup_5.png is missing",
                 "Training-400_0002: mask without an image: 0002.jpg is missing in Training-400/0002",
                 "Training-400_0003: the label map of rater_2 has the size 6 x 9, expected 9 x 6 as the image",
                 "Training-400_0004: the cup (54 pixels) is larger than the disc (0)"):
        assert line in done.out
