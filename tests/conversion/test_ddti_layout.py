"""DDTI: outlines in XML, several images of a case on one side of a split, outlines that break off."""

import json

import numpy as np
import pytest
from skimage import io


def outline(*points, **more):
    return {"points": [{"x": x, "y": y} for x, y in points], "annotation": {}, "regionType": "freehand"} | more


def xml(number, marks):
    """A case's file; ``marks`` are pairs of the image's number and the text of ``svg``."""
    drawn = "".join(f"<mark><image>{image}</image><svg>{text}</svg></mark>" for image, text in marks)
    return (
        f"<case><number>{number}</number><age>40</age><sex>F</sex><composition>solid</composition><tirads>4a</tirads>"
        f"<reportbacaf/><reporteco/>{drawn}</case>")


RECTANGLE = json.dumps([outline((2, 1), (6, 1), (6, 4), (2, 4))])
TWO = json.dumps([outline((0, 0), (1, 0), (1, 1), (0, 1)), outline((8, 6), (9, 6), (9, 7), (8, 7))])


@pytest.fixture
def ddti(tmp_path, picture, noise):
    """Seven cases; case 1 has three images, of which the second has two nodules; even cases are grey."""
    root = tmp_path / "ddti"
    root.mkdir()
    for case in range(1, 8):
        marks = [(1, RECTANGLE)] + ([(2, TWO), (3, RECTANGLE)] if case == 1 else [])
        (root / f"{case}.xml").write_text(xml(case, marks))
        for image, _ in marks:
            picture(root / f"{case}_{image}.jpg", noise(8, 10, 3) if case % 2 else noise(8, 10))
    return root


def test_outlines_are_filled_with_their_vertices_and_united(convert, ddti, require_intact):
    done = convert("ddti", ddti)
    assert done.code == 0, done.out + done.err
    rectangle, two = np.zeros((2, 8, 10), np.uint8)
    rectangle[1:5, 2:7] = 1
    two[0:2, 0:2] = two[6:8, 8:10] = 1
    np.testing.assert_array_equal(done.voxels("labelsTr/1_1.png"), rectangle)
    np.testing.assert_array_equal(done.voxels("labelsTr/1_2.png"), two)
    np.testing.assert_array_equal(done.voxels("imagesTr/1_2_0000.png"), io.imread(ddti / "1_2.jpg"))
    np.testing.assert_array_equal(done.voxels("imagesTr/2_1_0000.png"),
                                  np.stack([io.imread(ddti / "2_1.jpg")] * 3, axis=2))
    assert done.description["labels"] == {"background": 0, "nodule": 1}
    require_intact(done.folder)


@pytest.mark.parametrize("seed", range(3))
def test_the_images_of_a_case_stand_on_one_side_of_every_fold(convert, ddti, seed):
    done = convert("ddti", ddti, "--seed", str(seed))
    assert "9 training cases of 7 patients" in done.out and len(done.splits) == 5
    for fold in done.splits:
        assert len({"1_1", "1_2", "1_3"} & set(fold["val"])) in (0, 3)


def test_outlines_that_break_off_are_taken_as_far_as_they_are_complete_and_noted(convert, ddti):
    (ddti / "3.xml").write_text(xml(3, [(1, RECTANGLE[:-len('eehand"}]')])]))
    done = convert("ddti", ddti)
    assert done.code == 0 and "repaired: 3_1: 3.xml breaks off: its 1 complete outlines were taken" in done.out
    np.testing.assert_array_equal(done.voxels("labelsTr/3_1.png"), done.voxels("labelsTr/2_1.png"))


def test_an_outline_that_leaves_the_image_is_cut_at_its_edge(convert, ddti):
    (ddti / "4.xml").write_text(xml(4, [(1, json.dumps([outline((8, 6), (20, 6), (20, 20), (8, 20))]))]))
    expected = np.zeros((8, 10), np.uint8)
    expected[6:, 8:] = 1
    np.testing.assert_array_equal(convert("ddti", ddti).voxels("labelsTr/4_1.png"), expected)


@pytest.mark.parametrize("text, reason", [
    ('[{"points": [{"x": 1}]}]', "3.xml holds a point that is not {x, y}"),
    ('[{"points": [{"x": "a", "y": 2}]}]', "3.xml holds a point that is not {x, y}"),
    ('[{"regionType": "freehand"}]', "3.xml holds an outline without points"),
    ('[{"points": [{"x": 1, "y', "3.xml holds no complete outline"),
    ('[{"points": []}]', "3.xml holds no complete outline"),
    (json.dumps([outline((50, 50), (60, 50), (60, 60))]), "its outlines enclose no pixel of the image"),
])
def test_an_outline_that_is_none_is_refused_with_its_reason(convert, ddti, text, reason):
    (ddti / "3.xml").write_text(xml(3, [(1, text)]))
    done = convert("ddti", ddti)
    assert done.code == 1 and f"3_1: {reason}" in done.out and len(done.files("labelsTr")) == 8


def test_faulty_cases_are_listed_and_the_others_converted(convert, ddti, picture, noise):
    (ddti / "2.xml").write_text(xml(2, []))
    (ddti / "3_1.jpg").unlink()
    (ddti / "4.xml").write_text("<case><mark>")
    (ddti / "5_1.jpg").write_bytes(b"\xff\xd8\xff broken")
    (ddti / "6.xml").unlink()
    picture(ddti / "logo.jpg", noise(4, 4))
    done = convert("ddti", ddti)
    assert done.code == 1 and done.files("labelsTr") == ["1_1.png", "1_2.png", "1_3.png", "7_1.png"]
    for line in ("2_1: image without a mask: 2.xml has no outline for it",
                 "3_1: mask without an image: 3.xml outlines image 1", "4: 4.xml cannot be read",
                 "5_1: 5_1.jpg cannot be read", "6_1: image without a mask: 6.xml has no outline for it",
                 "logo: logo.jpg is not named CASE_IMAGE.jpg"):
        assert line in done.out
    assert "4_1" not in done.out


def test_the_renumbered_distribution_with_masks_is_understood(convert, tmp_path, picture, noise):
    for number in range(6):
        picture(tmp_path / "1_or_data" / "image" / f"{number:04d}.PNG", noise(8, 10))
        picture(tmp_path / "1_or_data" / "mask" / f"{number:04d}.PNG",
                np.repeat([[0, 255]], 8, axis=0).repeat(5, axis=1).astype(np.uint8))
    picture(tmp_path / "1_or_data" / "mask" / "0009.PNG", np.zeros((8, 10), np.uint8))
    done = convert("ddti", tmp_path / "1_or_data")
    assert done.code == 1 and "0009: mask without an image: 0009.PNG" in done.out and len(done.files("labelsTr")) == 6
    assert "note: this distribution is renumbered: images of one patient are not known" in done.out
    np.testing.assert_array_equal(done.voxels("labelsTr/0000.png"), np.repeat([[0, 1]], 8, axis=0).repeat(5, axis=1))


@pytest.mark.parametrize("pattern", ["*.xml", "*_*.jpg"])
def test_files_that_are_missing_are_named(convert, ddti, pattern):
    for file in list(ddti.glob(pattern)):
        file.unlink()
    done = convert("ddti", ddti)
    assert done.code == 2 and f"is not the folder of DDTI: {pattern} is missing." in done.err


def test_files_that_macos_leaves_beside_the_authors_are_no_cases(convert, ddti):
    for path in [*ddti.iterdir()]:
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7")
    done = convert("ddti", ddti)
    assert done.code == 0 and len(done.files("labelsTr")) == 9
