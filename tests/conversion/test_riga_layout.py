"""RIGA: outlines drawn into copies of the photograph, six raters, hospitals, RIGA+ with masks."""

import numpy as np
import pytest
from skimage import draw, io

SHAPE = (60, 70)
SUBSETS = (("BinRushed/BinRushed1-Corrected", "image{}{}.jpg"), ("BinRushed/BinRushed2", "image{}{}.jpg"),
           ("Magrabia/MagrabiaMale", "image{}{}.tif"), ("Magrabia/MagrabiFemale", "image{}{}.tif"), ("MESSIDOR",
                                                                                                     "image{}{}.tif"))


def disk(radius):
    rows, columns = draw.disk((30, 35), radius + 0.5, shape=SHAPE)
    mask = np.zeros(SHAPE, bool)
    mask[rows, columns] = True
    return mask


def inner_edge(mask):
    """The pixels of a mask that touch its outside: what a rater's pen of one pixel leaves."""
    padded = np.pad(mask, 1)
    return mask & ~(padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:])


def thick(mask):
    """Its edge, three pixels wide: the pen on the photographs that are stored as JPEG."""
    padded = np.pad(~mask, 2)
    eroded = mask.copy()
    for shift in range(5):
        eroded &= ~padded[shift:shift + SHAPE[0], 2:-2] & ~padded[2:-2, shift:shift + SHAPE[1]]
    return mask & ~eroded


def label(disc_radius, cup_radius):
    return disk(disc_radius).astype(np.uint8) + disk(cup_radius)


def annotated(photograph, disc_radius, cup_radius, pen=inner_edge):
    copy = photograph.copy()
    copy[pen(disk(disc_radius)) | pen(disk(cup_radius))] = (0, 0, 255)
    return copy


@pytest.fixture
def riga(tmp_path, picture, noise):
    """Two photographs a folder; rater K's disc has the radius 14 + K, the cup 4 + K. JPEG photographs are smooth."""
    for folder, name in SUBSETS:
        for number in (1, 2):
            photograph = np.full((*SHAPE, 3), (160, 90, 40), np.uint8) if name.endswith("jpg") else noise(*SHAPE, 3)
            picture(tmp_path / folder / name.format(number, "prime"), photograph)
            for rater in range(1, 7):
                spelt = name.replace("image", "Image") if folder.endswith("Male") and rater == 1 else name
                pen = thick if name.endswith("jpg") else inner_edge
                picture(tmp_path / folder / spelt.format(number, f"-{rater}"),
                        annotated(photograph, 14 + rater, 4 + rater, pen))
    picture(tmp_path / "BinRushed" / "BinRushed1" / "image1-1.jpg", noise(*SHAPE, 3))
    return tmp_path


def test_raters_outlines_in_tiff_are_filled_to_the_pixel(convert, riga, require_intact):
    done = convert("riga", riga, "--raters")
    assert done.code == 0, done.out + done.err
    assert done.files("labelsTr") == sorted(
        f"{folder.split('/')[-1]}_image{number}.png" for folder, _ in SUBSETS for number in (1, 2))
    assert done.files("labelsTr_raters") == [f"rater_{number}" for number in range(1, 7)]
    for case, photograph in (("MagrabiaMale_image2", "Magrabia/MagrabiaMale"),
                             ("MagrabiFemale_image1", "Magrabia/MagrabiFemale"), ("MESSIDOR_image1", "MESSIDOR")):
        for rater in range(1, 7):
            np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/rater_{rater}/{case}.png"),
                                          label(14 + rater, 4 + rater))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{case}.png"), label(18, 8))  # raters 4, 5 and 6 of six
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{case}_0000.png"),
                                      io.imread(riga / photograph / f"image{case[-1]}prime.tif"))
    assert done.description["labels"] == {"background": 0, "disc": [1, 2], "cup": 2
                                          } and done.description["regions_class_order"] == [1, 2]
    assert "BinRushed1: 0 photographs, outlines of 1: nothing to pair" in done.out
    require_intact(done.folder)


def test_raters_outlines_in_jpeg_are_exact_to_about_a_pixel(convert, riga):
    done = convert("riga", riga, "--raters")
    for rater in range(1, 7):
        found = done.voxels(f"labelsTr_raters/rater_{rater}/BinRushed2_image1.png")
        for value, radius in ((1, 14 + rater), (2, 4 + rater)):
            assert np.all((found >= value)[disk(radius - 1)]) and not np.any((found >= value)[~disk(radius + 2)])
            displaced = np.count_nonzero((found >= value) != disk(radius)) / (2 * np.pi * radius)
            assert displaced < 1  # pixel, on average along the boundary


def test_a_hospital_can_be_held_out(convert, riga):
    done = convert("riga", riga, "--test", "Magrabia")
    assert done.files("labelsTs") == [
        f"{folder}_image{number}.png" for folder in ("MagrabiFemale", "MagrabiaMale") for number in (1, 2)
    ]
    assert len(done.files("labelsTr")) == 6


def test_a_gap_in_an_outline_is_closed_and_one_that_is_too_wide_leaves_the_rater_out(convert, riga, picture):
    file = riga / "MESSIDOR" / "image1-1.tif"
    photograph, copy = io.imread(riga / "MESSIDOR" / "image1prime.tif"), io.imread(file)
    copy[14:16, 33:36] = photograph[14:16, 33:36]  # three pixels of the line
    picture(file, copy)
    cut = io.imread(riga / "MESSIDOR" / "image2-2.tif")
    cut[:, 30:] = io.imread(riga / "MESSIDOR" / "image2prime.tif")[:, 30:]
    picture(riga / "MESSIDOR" / "image2-2.tif", cut)
    done = convert("riga", riga, "--raters")
    found = done.voxels("labelsTr_raters/rater_1/MESSIDOR_image1.png")
    assert done.code == 0 and np.count_nonzero(found != label(15, 5)) <= 6
    left_out = "rater_2 is left out: image2-2.tif does not show two closed outlines, one within the other"
    assert f"MESSIDOR_image2: {left_out}" in done.out
    assert not (done.folder / "labelsTr_raters" / "rater_2" / "MESSIDOR_image2.png").exists()
    # raters 4, 5 and 6 of five
    np.testing.assert_array_equal(done.voxels("labelsTr/MESSIDOR_image2.png"), label(18, 8))


def test_outlines_that_touch_leave_the_rater_out(convert, riga, picture):
    photograph = io.imread(riga / "MESSIDOR" / "image1prime.tif")
    copy = annotated(photograph, 15, 5)
    copy[30, 35:50] = (0, 0, 255)
    picture(riga / "MESSIDOR" / "image1-1.tif", copy)
    assert "MESSIDOR_image1: rater_1 is left out" in convert("riga", riga).out


def test_faulty_cases_are_listed_and_the_others_converted(convert, riga, picture, noise):
    messidor = riga / "MESSIDOR"
    (messidor / "image1prime.tif").unlink()
    picture(messidor / "image2-3.tif", noise(50, 70, 3))
    picture(messidor / "image3prime.tif", noise(*SHAPE, 3))
    male, female = riga / "Magrabia" / "MagrabiaMale", riga / "Magrabia" / "MagrabiFemale"
    (male / "image1-2.tif").write_bytes(b"broken")
    (male / "image2-5.tif").unlink()
    for rater in range(1, 7):
        picture(female / f"image1-{rater}.tif", io.imread(female / "image1prime.tif"))
    done = convert("riga", riga)
    assert done.code == 1 and len(done.files("labelsTr")) == 10 - 4
    for line in ("MESSIDOR_image1: mask without an image: image1-1.tif",
                 "MESSIDOR_image3: image without a mask: image3prime.tif",
                 "MESSIDOR_image2: the label map of rater_3 has the size 50 x 70, expected 60 x 70 as the image",
                 "MagrabiaMale_image1: image1-2.tif cannot be read", "MagrabiaMale_image2: rater_5 has no file",
                 "MagrabiFemale_image1: no rater's copy shows two closed outlines"):
        assert line in done.out, line


def test_one_archive_is_enough_and_the_absent_ones_are_named(convert, riga):
    for hospital in ("BinRushed", "Magrabia"):
        (riga / hospital).rename(riga / f"_{hospital}")
    done = convert("riga", riga)
    assert done.code == 0
    assert "note: BinRushed is not at hand" in done.out and "note: Magrabia is not at hand" in done.out


@pytest.mark.parametrize("pattern, missing", [("*prime.*", "image1prime.tif or .jpg"),
                                              ("*-[1-6].*", "image1-1.tif or .jpg")])
def test_files_that_are_missing_are_named(convert, riga, pattern, missing):
    for file in list(riga.rglob(pattern)):
        file.unlink()
    done = convert("riga", riga)
    what = f"is not the folder of RIGA: {missing} is missing below BinRushed, Magrabia or MESSIDOR."
    assert done.code == 2 and what in done.err


@pytest.fixture
def riga_plus(tmp_path, picture, noise):
    """Masks with 255 rim and 128 cup, and a folder of photographs that nobody outlined."""
    for place in ("BinRushed/BinRushed1", "Magrabia/MagrabiaMale", "MESSIDOR_Base1/Labeled"):
        for number in (1, 2):
            picture(tmp_path / "RIGA" / place / f"image{number}.tif", noise(*SHAPE, 3))
            for rater in range(1, 7):
                codes = np.array([0, 255, 128], np.uint8)[label(14 + rater, 4 + rater)]
                picture(tmp_path / "RIGA-mask" / place / f"image{number}-{rater}.tif", codes)
    picture(tmp_path / "RIGA" / "MESSIDOR_Base1" / "Unlabeled" / "image9.tif", noise(*SHAPE, 3))
    return tmp_path


def test_riga_plus_codes_arrive(convert, riga_plus):
    done = convert("riga", riga_plus, "--raters", "--test", "MESSIDOR")
    assert done.code == 0, done.out + done.err
    assert done.files("labelsTs") == ["MESSIDOR_Base1_Labeled_image1.png", "MESSIDOR_Base1_Labeled_image2.png"]
    np.testing.assert_array_equal(done.voxels("labelsTr_raters/rater_3/BinRushed_BinRushed1_image1.png"), label(17, 7))
    np.testing.assert_array_equal(done.voxels("labelsTr/Magrabia_MagrabiaMale_image2.png"), label(18, 8))
    assert "MESSIDOR_Base1_Unlabeled: 1 photographs, outlines of 0: nothing to pair" in done.out


def test_riga_plus_an_unknown_code_is_named(convert, riga_plus, picture):
    picture(riga_plus / "RIGA-mask" / "Magrabia" / "MagrabiaMale" / "image1-4.tif", np.full(SHAPE, 3, np.uint8))
    done = convert("riga", riga_plus)
    what = "Magrabia_MagrabiaMale_image1: image1-4.tif holds the label 3, expected 0, 128, 255"
    assert done.code == 1 and what in done.out
