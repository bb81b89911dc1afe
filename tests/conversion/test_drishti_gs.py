"""DRISHTI-GS: soft maps to nested regions, official parts, and the small distribution voxel for voxel."""

import numpy as np
import pytest
from skimage import io


@pytest.fixture
def drishti(tmp_path, picture, noise):
    """Six training and one test photograph; of four stripes 0, 1, 2 and 4 of the four experts marked the disc."""
    root = tmp_path / "Drishti-GS1_files"
    for index in range(7):
        name, part, truth = f"drishtiGS_{index:03d}", *(("Test", "Test_GT") if index == 6 else ("Training", "GT"))
        below = ("NORMAL",) if index % 2 else ()
        picture(root.joinpath(part, "Images", *below, f"{name}.png"), noise(6, 8, 3))
        disc, cup = np.zeros((6, 8), np.uint8), np.zeros((6, 8), np.uint8)
        disc[:, 2:4], disc[:, 4:6], disc[:, 6:] = 64, 128, 255
        cup[:3, 6:] = 191
        picture(root / part / truth / name / "SoftMap" / f"{name}_ODsegSoftmap.png", disc)
        picture(root / part / truth / name / "SoftMap" / f"{name}_cupsegSoftmap.png", cup)
    return root


@pytest.mark.parametrize("experts, disc_from, has_cup", [(1, 2, True), (2, 4, True), (3, 6, True), (4, 6, False)])
def test_so_many_experts_make_a_pixel_disc_or_cup(convert, drishti, experts, disc_from, has_cup):
    done = convert("drishti_gs", drishti, "--experts", str(experts))
    expected = np.zeros((6, 8), np.uint8)
    expected[:, disc_from:] = 1
    if has_cup:
        expected[:3, 6:] = 2
    np.testing.assert_array_equal(done.voxels("labelsTr/drishtiGS_000.png"), expected)


def test_official_parts_and_pixels_are_kept(convert, drishti, require_intact):
    done = convert("drishti_gs", drishti)
    assert done.code == 0
    assert done.files("imagesTr") == [f"drishtiGS_{index:03d}_0000.png" for index in range(6)]
    assert done.files("imagesTs") == ["drishtiGS_006_0000.png"] and done.files("labelsTs") == ["drishtiGS_006.png"]
    np.testing.assert_array_equal(done.voxels("imagesTr/drishtiGS_001_0000.png"),
                                  io.imread(drishti / "Training" / "Images" / "NORMAL" / "drishtiGS_001.png"))
    assert done.description["labels"] == {"background": 0, "disc": [1, 2], "cup": [2]}
    assert done.description["regions_class_order"] == [1, 2] and len(done.splits) == 5
    assert "disc: in 7 of 7 cases, median 24 pixels (24 to 24)" in done.out
    require_intact(done.folder)


def test_a_photograph_without_soft_map_and_one_of_another_size_are_listed(convert, drishti, picture):
    (drishti / "Training" / "GT" / "drishtiGS_000" / "SoftMap" / "drishtiGS_000_cupsegSoftmap.png").unlink()
    for kind in ("ODsegSoftmap", "cupsegSoftmap"):
        picture(drishti / "Training" / "GT" / "drishtiGS_002" / "SoftMap" / f"drishtiGS_002_{kind}.png",
                np.zeros((5, 8), np.uint8))
    done = convert("drishti_gs", drishti)
    assert done.code == 1 and len(done.files("labelsTr")) == 4
    assert "drishtiGS_000: image without a mask: drishtiGS_000_cupsegSoftmap.png is missing" in done.out
    assert "drishtiGS_002: the label map has the size 5 x 8, expected 6 x 8 as the image" in done.out


@pytest.mark.parametrize("flags, missing", [([], "Training/Images/**/*.png")])
def test_a_folder_of_another_layout_is_refused_with_the_file_that_is_missing(convert, tmp_path, flags, missing):
    (tmp_path / "empty").mkdir()
    done = convert("drishti_gs", tmp_path / "empty", *flags)
    assert done.code == 2 and f"is not the folder of DRISHTI-GS1: {missing} is missing." in done.err
    assert "found:    an empty folder" in done.err


def test_a_label_that_is_neither_rim_nor_cup_is_refused(convert, tmp_path, picture, noise):
    for name, value in (("a", 1), ("b", 3)):
        picture(tmp_path / "small" / "images" / f"{name}.png", noise(4, 4, 3))
        picture(tmp_path / "small" / "labels" / f"{name}.png", np.full((4, 4), value, np.uint8))
    picture(tmp_path / "small" / "labels" / "c.png", np.zeros((4, 4), np.uint8))
    done = convert("drishti_gs", tmp_path / "small")
    assert done.code == 1 and "b: b.png holds the label 3, expected 0, 1, 2" in done.out
    assert "c: mask without an image: c.png" in done.out


@pytest.mark.shared_data
def test_the_originals_arrive_voxel_for_voxel(shared_data, convert, require_intact):
    originals = shared_data / "originals" / "drishti_gs"
    done = convert("drishti_gs", originals)
    assert done.code == 0 and len(done.files("labelsTr")) == 8
    for path in (originals / "images").iterdir():
        np.testing.assert_array_equal(done.voxels(f"imagesTr/{path.stem}_0000.png"), io.imread(path))
        np.testing.assert_array_equal(done.voxels(f"labelsTr/{path.name}"), io.imread(originals / "labels" / path.name))
    require_intact(done.folder)
