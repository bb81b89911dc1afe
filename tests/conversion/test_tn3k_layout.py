"""TN3K: JPEG masks, official folds by place, official test images."""

import json

import numpy as np
import pytest
from skimage import io

NUM_IMAGES = 7


@pytest.fixture
def tn3k(tmp_path, picture, noise):
    """Seven images for training and validation, two for testing, five folds; even numbers are coloured."""
    root = tmp_path / "tn3k"
    for part, count in (("trainval", NUM_IMAGES), ("test", 2)):
        for number in range(count):
            picture(root / f"{part}-image" / f"{number:04d}.jpg",
                    noise(16, 24, 3) if number % 2 == 0 else noise(16, 24))
            mask = np.zeros((16, 24), np.uint8)
            mask[:, 8:16] = 255
            picture(root / f"{part}-mask" / f"{number:04d}.jpg",
                    mask if number % 2 else np.repeat(mask[..., None], 3, axis=2))
    for fold in range(5):
        val = [number for number in range(NUM_IMAGES) if number % 5 == fold]
        train = [number for number in range(NUM_IMAGES) if number % 5 != fold]
        (root / f"tn3k-trainval-fold{fold}.json").write_text(json.dumps({"train": train, "val": val}))
    (root / "label4trainval.csv").write_text("0000.jpg,1\n")
    return root


def test_images_masks_and_official_parts_arrive(convert, tn3k, require_intact):
    done = convert("tn3k", tn3k)
    assert done.code == 0, done.out + done.err
    assert done.files("labelsTr") == [f"trainval_{number:04d}.png" for number in range(NUM_IMAGES)]
    assert done.files("labelsTs") == ["test_0000.png", "test_0001.png"]
    expected = np.zeros((16, 24), np.uint8)
    expected[:, 8:16] = 1
    for number in range(2):
        original = io.imread(tn3k / "trainval-image" / f"{number:04d}.jpg")
        rgb = original if original.ndim == 3 else np.stack([original] * 3, axis=2)
        np.testing.assert_array_equal(done.voxels(f"imagesTr/trainval_{number:04d}_0000.png"), rgb)
        np.testing.assert_array_equal(done.voxels(f"labelsTr/trainval_{number:04d}.png"), expected)
    assert done.description["labels"] == {"background": 0, "nodule": 1} and len(done.description["channel_names"]) == 3
    require_intact(done.folder)


def test_the_official_folds_refer_to_places_in_the_list_sorted_by_number(convert, tn3k):
    done = convert("tn3k", tn3k)
    official = done.splits
    assert [fold["val"] for fold in official] == [["trainval_0000", "trainval_0005"],
                                                  ["trainval_0001", "trainval_0006"], ["trainval_0002"],
                                                  ["trainval_0003"], ["trainval_0004"]]
    own = convert("tn3k", tn3k, "--own-folds", "--overwrite").splits
    assert len(own) == 5 and own != official


def test_a_place_keeps_its_image_where_another_image_is_broken(convert, tn3k):
    (tn3k / "trainval-image" / "0001.jpg").write_bytes(b"")
    done = convert("tn3k", tn3k)
    assert done.code == 1 and "trainval_0001: 0001.jpg cannot be read" in done.out
    assert done.splits[1]["val"] == ["trainval_0006"] and len(done.files("labelsTr")) == NUM_IMAGES - 1


def test_without_all_fold_files_the_folds_are_drawn_and_that_is_said(convert, tn3k):
    (tn3k / "tn3k-trainval-fold3.json").unlink()
    assert "note: 1 of the 5 fold files are missing: the folds are drawn" in convert("tn3k", tn3k).out


@pytest.mark.parametrize("text", ["{", '{"train": []}', '{"val": [99]}', '{"val": ["a"]}'])
def test_a_fold_file_that_is_none_is_refused_by_name(convert, tn3k, text):
    (tn3k / "tn3k-trainval-fold2.json").write_text(text)
    done = convert("tn3k", tn3k)
    assert done.code == 2 and "--own-folds" in done.err
    assert "tn3k-trainval-fold2.json does not describe a fold of TN3K." in done.err


def test_faulty_cases_are_listed_with_their_reasons(convert, tn3k, picture):
    (tn3k / "trainval-mask" / "0000.jpg").unlink()
    (tn3k / "test-image" / "0001.jpg").unlink()
    picture(tn3k / "trainval-mask" / "0002.jpg", np.zeros((16, 16), np.uint8))
    coloured = np.zeros((16, 24, 3), np.uint8)
    coloured[..., 0] = 255
    picture(tn3k / "trainval-mask" / "0003.jpg", coloured)
    done = convert("tn3k", tn3k)
    assert done.code == 1 and len(done.files("labelsTr")) == NUM_IMAGES - 3
    assert "trainval_0000: image without a mask: 0000.jpg" in done.out
    assert "test_0001: mask without an image: 0001.jpg" in done.out
    assert "trainval_0002: the label map has the size 16 x 16, expected 16 x 24 as the image" in done.out
    assert "trainval_0003: 0003.jpg is coloured" in done.out


@pytest.mark.parametrize("folder", ["trainval-image", "trainval-mask"])
def test_a_folder_that_is_missing_is_named(convert, tn3k, folder):
    (tn3k / folder).rename(tn3k / "aside")
    done = convert("tn3k", tn3k)
    assert done.code == 2 and f"is not the folder of TN3K: {folder}/*.jpg is missing." in done.err
