"""RIM-ONE DL and r3: official partitions, the outlined view of a stereo photograph, two experts."""

import numpy as np
import pytest
from skimage import io

GROUP = {True: "glaucoma", False: "normal"}


def mask(shape, rows, columns):
    pixels = np.zeros(shape, np.uint8)
    pixels[rows, columns] = 255
    return pixels


@pytest.fixture
def rim_one_dl(tmp_path, picture, noise):
    """Eight images in two partitions: number 7 is a test image of one, number 0 of the other."""
    for number in range(8):
        name, group, pixels = f"r{number % 3 + 1}_Im{number:03d}", GROUP[number % 2 == 0], noise(6, 8, 3)
        for partition, test in (("randomly", 7), ("by_hospital", 0)):
            part = "test_set" if number == test else "training_set"
            picture(tmp_path / "RIM-ONE_DL_images" / f"partitioned_{partition}" / part / group / f"{name}.png", pixels)
        masks = tmp_path / "RIM-ONE_DL_reference_segmentations" / group
        picture(masks / f"{name}-1-Disc-T.png", mask((6, 8), slice(1, 5), slice(2, 7)))
        picture(masks / f"{name}-1-Cup-T.png", mask((6, 8), slice(2, 4), slice(3, 5)))
        (masks / f"{name}-1-Disc-T.txt").write_text("DCSeg")
    (tmp_path / "RIM-ONE_DL_images" / "LICENSE.txt").write_text("licence")
    return tmp_path


@pytest.mark.parametrize("flags, test", [((), "r2_Im007"), (("--partition", "by_hospital"), "r1_Im000")])
def test_dl_images_masks_and_both_partitions_arrive(convert, rim_one_dl, flags, test):
    done = convert("rim_one", rim_one_dl, *flags)
    assert done.code == 0, done.out + done.err
    assert done.files("labelsTs") == [f"{test}.png"] and len(done.files("labelsTr")) == 7
    expected = np.zeros((6, 8), np.uint8)
    expected[1:5, 2:7] = 1
    expected[2:4, 3:5] = 2
    np.testing.assert_array_equal(done.voxels("labelsTr/r2_Im001.png"), expected)
    np.testing.assert_array_equal(done.voxels(f"labelsTs/{test}.png"), expected)
    original = next(rim_one_dl.glob("RIM-ONE_DL_images/partitioned_randomly/*/*/r2_Im001.png"))
    assert (done.folder / "imagesTr" / "r2_Im001_0000.png").read_bytes() == original.read_bytes()
    assert done.description["labels"] == {"background": 0, "disc": [1, 2], "cup": 2
                                          } and done.description["regions_class_order"] == [1, 2]


def test_dl_faulty_cases_are_listed_and_the_others_converted(convert, rim_one_dl, picture, require_intact):
    masks = rim_one_dl / "RIM-ONE_DL_reference_segmentations"
    (masks / "glaucoma" / "r1_Im000-1-Cup-T.png").unlink()
    for kind in ("Disc", "Cup"):
        picture(masks / "normal" / f"r2_Im001-1-{kind}-T.png", mask((5, 8), 2, 2))
        pixels = io.imread(masks / "glaucoma" / f"r3_Im002-1-{kind}-T.png")
        picture(masks / "glaucoma" / f"r3_Im002-1-{kind}-T.png", 255 - pixels)
    picture(masks / "normal" / "r1_Im003-1-Cup-T.png", mask((6, 7), 2, 2))
    (masks / "glaucoma" / "r2_Im004-1-Disc-T.png").write_bytes(b"broken")
    next(rim_one_dl.glob("RIM-ONE_DL_images/partitioned_randomly/*/*/r3_Im005.png")).unlink()
    done = convert("rim_one", rim_one_dl)
    assert done.code == 1 and done.files("labelsTr") == ["r1_Im006.png"]
    for line in ("r1_Im000: image without a mask: r1_Im000-1-Cup-T.png is missing",
                 "r2_Im001: the label map has the size 5 x 8, expected 6 x 8 as the image",
                 "r3_Im002: the cup (44 pixels) is larger than the disc (28): the masks are inverted or exchanged",
                 "r1_Im003: the masks of disc and cup differ in size: 6 x 8 and 6 x 7",
                 "r2_Im004: r2_Im004-1-Disc-T.png cannot be read",
                 "r3_Im005: mask without an image: r3_Im005-1-Disc-T.png"):
        assert line in done.out
    require_intact(done.folder)


@pytest.mark.parametrize("folder", ["RIM-ONE_DL_images", "RIM-ONE_DL_reference_segmentations"])
def test_dl_a_folder_that_is_missing_is_named(convert, rim_one_dl, folder):
    (rim_one_dl / folder).rename(rim_one_dl / "aside")
    done = convert("rim_one", rim_one_dl)
    assert done.code == 2 and f"is not the folder of RIM-ONE DL: {folder}/" in done.err


@pytest.fixture(params=["-1", ""], ids=["N-1-L-1-Disc", "N-1-L-Disc"])
def rim_one_r3(tmp_path, picture, noise, request):
    """Six stereo photographs of two views of 8 columns; the left view is outlined, the right one in N-2-R."""
    root = tmp_path / "RIM-ONE r3"
    for name in ("N-1-L", "N-2-R", "N-3-L", "G-1-L", "G-2-R", "S-1-L"):
        group, shift = root / ("Healthy" if name[0] == "N" else "Glaucoma and suspects"), 8 if name == "N-2-R" else 0
        picture(group / "Stereo Images" / f"{name}.jpg", noise(6, 16, 3))
        for owner, ending, infix, first in (("Average", "Avg", "", shift + 2), ("Expert1", "exp1", request.param,
                                                                                shift + 1), ("Expert2", "exp2",
                                                                                             request.param, shift + 3)):
            masks = group / f"{owner}_masks"
            picture(masks / f"{name}{infix}-Disc-{ending}.png", mask((6, 16), slice(1, 6), slice(first, shift + 7)))
            picture(masks / f"{name}{infix}-Cup-{ending}.png", mask((6, 16), slice(3, 5), slice(first + 1, shift + 6)))
    return root


def r3_label(first):
    label = np.zeros((6, 8), np.uint8)
    label[1:6, first:7] = 1
    label[3:5, first + 1:6] = 2
    return label


def test_r3_the_outlined_view_the_average_and_both_experts_arrive(convert, rim_one_r3):
    done = convert("rim_one", rim_one_r3, "--raters")
    assert done.code == 0, done.out + done.err
    assert len(done.files("labelsTr")) == 6 and not (done.folder / "imagesTs").exists() and len(done.splits) == 5
    for name, view in (("N-1-L", slice(0, 8)), ("N-2-R", slice(8, 16))):
        original = io.imread(rim_one_r3 / "Healthy" / "Stereo Images" / f"{name}.jpg")
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{name}_0000.png"), original[:, view])
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{name}.png"), r3_label(2))
        np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/Expert1/{name}.png"), r3_label(1))
        np.testing.assert_array_equal(done.voxels(f"labelsTr_raters/Expert2/{name}.png"), r3_label(3))
    assert done.files("labelsTr_raters") == ["Expert1", "Expert2"]


def test_r3_without_the_average_the_experts_consensus_is_the_reference(convert, rim_one_r3):
    for group in ("Healthy", "Glaucoma and suspects"):
        (rim_one_r3 / group / "Average_masks").rename(rim_one_r3 / group / "aside")
    # of two, one is half
    np.testing.assert_array_equal(convert("rim_one", rim_one_r3).voxels("labelsTr/N-1-L.png"), r3_label(1))


def test_r3_faulty_cases_are_listed_and_the_others_converted(convert, rim_one_r3, picture):
    healthy, others = rim_one_r3 / "Healthy", rim_one_r3 / "Glaucoma and suspects"
    (healthy / "Average_masks" / "N-1-L-Cup-Avg.png").unlink()
    (healthy / "Stereo Images" / "N-2-R.jpg").write_bytes(b"broken")
    picture(healthy / "Average_masks" / "N-3-L-Disc-Avg.png", mask((6, 16), slice(1, 6), slice(2, 12)))
    for kind in ("Disc", "Cup"):
        picture(others / "Average_masks" / f"G-1-L-{kind}-Avg.png", mask((6, 8), slice(1, 6), slice(2, 5)))
    (others / "Stereo Images" / "G-2-R.jpg").unlink()
    done = convert("rim_one", rim_one_r3)
    assert done.code == 1 and done.files("labelsTr") == ["S-1-L.png"]
    for line in ("N-1-L: image without a mask: Average_masks/N-1-L-Cup-Avg.png is missing",
                 "N-2-R: N-2-R.jpg cannot be read", "N-3-L: its masks lie in both views of the stereo photograph",
                 "G-1-L: the label map of Average has the size 6 x 8, expected 6 x 16 as the image",
                 "G-2-R: mask without an image: G-2-R"):
        assert line in done.out


def test_r3_a_folder_that_is_missing_is_named(convert, rim_one_r3):
    (rim_one_r3 / "Healthy").rename(rim_one_r3 / "aside")
    done = convert("rim_one", rim_one_r3)
    assert done.code == 2 and "is not the folder of RIM-ONE r3: Healthy/Stereo Images/*.jpg is missing." in done.err
