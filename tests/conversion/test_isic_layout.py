"""ISIC, task 1: three years of folders, official parts, pixels and masks."""

import numpy as np
import pytest
from skimage import io

FOLDERS = {
    "2016": {
        "Training": ("ISBI2016_ISIC_Part1_Training_Data", "ISBI2016_ISIC_Part1_Training_GroundTruth", "_Segmentation"),
        "Test": ("ISBI2016_ISIC_Part1_Test_Data", "ISBI2016_ISIC_Part1_Test_GroundTruth", "_Segmentation")
    },
    "2017": {
        "Training": ("ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", "_segmentation"),
        "Validation": ("ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth", "_segmentation"),
        "Test": ("ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth", "_segmentation")
    },
    "2018": {
        "Training": ("ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", "_segmentation"),
        "Validation": ("ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth", "_segmentation"),
        "Test": ("ISIC2018_Task1-2_Test_Input", "ISIC2018_Task1_Test_GroundTruth", "_segmentation")
    },
}
FIRST = {"Training": 0, "Validation": 10, "Test": 20}


@pytest.fixture
def isic(tmp_path, picture, noise):
    """``isic(year)``: six training, one validation and one test image with masks, as the archives of the year unpack.
    """
    def write(year):
        for part, (images, masks, ending) in FOLDERS[year].items():
            for number in range(FIRST[part], FIRST[part] + (6 if part == "Training" else 1)):
                picture(tmp_path / images / f"ISIC_{number:07d}.jpg", noise(6 + number % 2, 8, 3))
                mask = np.zeros((6 + number % 2, 8), np.uint8)
                mask[2:5, number % 4:6] = 255
                picture(tmp_path / masks / f"ISIC_{number:07d}{ending}.png", mask)
            (tmp_path / images / "LICENSE.txt").write_text("licence")
        if year == "2017":
            picture(tmp_path / "ISIC-2017_Training_Data" / "ISIC_0000000_superpixels.png", noise(6, 8, 3))
        return tmp_path

    return write


@pytest.mark.parametrize("year", sorted(FOLDERS))
def test_images_masks_and_official_parts_of_each_year_arrive(convert, isic, year):
    source = isic(year)
    done = convert("isic", source)
    assert done.code == 0, done.out + done.err
    validation = ["ISIC_0000010"] if "Validation" in FOLDERS[year] else []
    train = [f"ISIC_{number:07d}" for number in range(6)] + validation
    assert done.files("labelsTr") == [f"{name}.png"
                                      for name in train] and done.files("labelsTs") == ["ISIC_0000020.png"]
    assert done.files("imagesTs") == ["ISIC_0000020_0000.png"]
    for part, (images, _, _) in FOLDERS[year].items():
        name, folder = f"ISIC_{FIRST[part]:07d}", "Ts" if part == "Test" else "Tr"
        np.testing.assert_array_equal(done.voxels(f"images{folder}/{name}_0000.png"),
                                      io.imread(source / images / f"{name}.jpg"))
        expected = np.zeros((6, 8), np.uint8)
        expected[2:5, FIRST[part] % 4:6] = 1
        np.testing.assert_array_equal(done.voxels(f"labels{folder}/{name}.png"), expected)
    assert done.folder.name == f"Dataset007_ISIC{year}" and done.description["labels"] == {"background": 0, "lesion": 1}
    assert len(done.splits) == 5 and sorted(name for fold in done.splits for name in fold["val"]) == sorted(train)


def test_the_official_validation_images_can_be_the_only_fold(convert, isic, require_intact):
    done = convert("isic", isic("2018"), "--official-validation")
    assert done.splits == [{"train": [f"ISIC_{number:07d}" for number in range(6)], "val": ["ISIC_0000010"]}]
    require_intact(done.folder)


def test_official_validation_is_refused_where_the_year_has_none(convert, isic):
    done = convert("isic", isic("2016"), "--official-validation")
    assert done.code == 2 and "error: ISIC 2016 has no official validation images here." in done.err


def test_test_images_without_masks_become_cases_without_reference(convert, isic):
    source = isic("2018")
    (source / "ISIC2018_Task1_Test_GroundTruth").rename(source / "aside")
    done = convert("isic", source)
    assert done.code == 0 and done.files("imagesTs") == ["ISIC_0000020_0000.png"
                                                         ] and not (done.folder / "labelsTs").exists()


def test_of_several_years_one_has_to_be_chosen(convert, isic):
    isic("2016")
    source = isic("2018")
    done = convert("isic", source)
    assert done.code == 2 and "found:    2016, 2018" in done.err and "--year" in done.err
    assert convert("isic", source, "--year", "2016").folder.name == "Dataset007_ISIC2016"


def test_faulty_cases_are_listed_with_their_reasons_and_the_others_converted(convert, isic, picture):
    source = isic("2018")
    images, masks, ending = FOLDERS["2018"]["Training"]
    (source / masks / f"ISIC_0000000{ending}.png").unlink()
    (source / images / "ISIC_0000001.jpg").unlink()
    picture(source / masks / f"ISIC_0000002{ending}.png", np.zeros((3, 8), np.uint8))
    picture(source / masks / f"ISIC_0000003{ending}.png", np.full((7, 8), 7, np.uint8))
    (source / images / "ISIC_0000004.jpg").write_bytes(b"\xff\xd8\xff broken")
    done = convert("isic", source)
    assert done.code == 1 and done.files("labelsTr") == ["ISIC_0000005.png", "ISIC_0000010.png"]
    assert "ISIC_0000000: image without a mask: ISIC_0000000.jpg" in done.out
    assert f"ISIC_0000001: mask without an image: ISIC_0000001{ending}.png" in done.out
    assert "ISIC_0000002: the label map has the size 3 x 8, expected 6 x 8 as the image" in done.out
    assert f"ISIC_0000003: ISIC_0000003{ending}.png holds the label 7, expected 0, 255" in done.out
    assert "ISIC_0000004: ISIC_0000004.jpg cannot be read" in done.out


@pytest.mark.parametrize("year", sorted(FOLDERS))
@pytest.mark.parametrize("kind", [0, 1])
def test_a_folder_that_is_missing_is_named(convert, isic, year, kind):
    source, folder = isic(year), FOLDERS[year]["Training"][kind]
    (source / folder).rename(source / "aside")
    done = convert("isic", source)
    assert done.code == 2 and f"is not the folder of ISIC {year}, task 1: {folder}/ISIC_*" in done.err
