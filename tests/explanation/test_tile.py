"""Which tile, slice and window are drawn, and in which colours."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.explanation.case import place, require_case, state_of
from medsegdiff_auto.explanation.colours import masks_on_image, state_as_colours, structure_rgb
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.reporting.figures import INK

SPLIT = {"train": ["case_90"], "val": [f"case_{i:02d}" for i in range(9)]}


def test_the_tile_lies_around_the_foreground_and_inside_the_image():
    foreground = np.zeros((60, 50), bool)
    foreground[30:35, 2:5] = True
    assert place(foreground, [20, 20]) == (slice(22, 42), slice(0, 20))
    assert place(np.zeros((60, 50), bool), [20, 20]) == (slice(20, 40), slice(15, 35))


def test_the_middle_of_the_tile_is_foreground_where_the_centre_of_two_structures_is_not():
    foreground = np.zeros((100, 20), bool)
    foreground[[5, 90], 10] = True
    rows, _ = place(foreground, [10, 20])
    assert foreground[rows].any()


def test_a_2d_tile_of_a_volume_lies_in_the_slice_with_the_most_foreground():
    foreground = np.zeros((5, 30, 30), bool)
    foreground[1, 4, 4] = True
    foreground[3, 10:14, 10:14] = True
    index, *tile = place(foreground, [16, 16])
    assert index == 3 and foreground[(index, *tile)].sum() == 16


def test_the_first_validation_case_is_the_default_and_others_are_refused_by_name():
    assert require_case(None, SPLIT, 0) == "case_00" and require_case("case_04", SPLIT, 0) == "case_04"
    with pytest.raises(UserError) as refused:
        require_case("case_90", SPLIT, 2)
    lines = str(refused.value).splitlines()
    assert len(lines) == 4 and "a training case of fold 2" in lines[1] and "case_05, ... (9 cases)" in lines[2]
    with pytest.raises(UserError, match="case_08"):
        require_case("cas_08", SPLIT, 0)


def test_the_plane_is_the_slice_with_the_most_foreground_and_its_window_holds_it():
    foreground = np.zeros((9, 64, 80), bool)
    foreground[2, 20:24, 30:34] = True
    foreground[6, 10:40, 60:78] = True
    plane = Plane.through(foreground, (5.0, 1.0, 1.0))
    assert plane.index == 6 and plane.aspect == 1
    assert plane.rows == (0, 51) and plane.columns == (29, 80)


def test_a_coarse_map_is_cut_where_the_slice_lies():
    plane = Plane.through(np.arange(8)[:, None, None] * np.ones((8, 4, 4)) == 5, (1.0, 1.0, 1.0))
    assert plane.index == 5
    assert plane.cut(np.arange(4)[:, None, None] * np.ones((4, 2, 2)))[0, 0] == 2
    assert plane.cut(np.zeros((3, 8, 4, 4))).shape == (3, 4, 4)


@pytest.mark.parametrize("target", ["classes", "regions"])
def test_a_clean_state_has_one_colour_per_structure(make, target):
    tile = make.tile(2, target)
    picture = state_as_colours(tile.x_start.numpy(), tile)
    organ, core = structure_rgb(tile)
    for label, colour in ((0, to_rgb(INK)), (1, organ), (2, core)):
        assert np.abs(picture[tile.reference == label] - np.array(colour)).max() < 1e-12
    assert not np.allclose(organ, core)


def test_masks_leave_the_image_grey_elsewhere(make):
    tile = make.tile(2, "regions")
    image = np.full(tile.reference.shape, 0.5)
    picture = masks_on_image(tile.reference_masks(), image, tile)
    assert (picture[tile.reference == 0] == 0.5).all() and not np.allclose(picture[tile.reference == 2], 0.5)


@pytest.mark.parametrize("target, num_outputs", [("classes", 3), ("regions", 2)])
def test_ignored_voxels_have_the_state_0(target, num_outputs):
    reference = np.array([[0, 1], [2, 3]])
    structures = [Structure("a", (1, 2), (1, 2), 0), Structure("b", 2, (2,), 1)] if target == "regions" else [
        Structure("a", 1, (1,), 1), Structure("b", 2, (2,), 2)]
    state = state_of(reference, structures, target, num_outputs, ignore_label=3)
    assert (state[:, 1, 1] == 0).all() and (state.abs()[:, reference != 3] == 1).all()
    assert state[structures[1].channel].flatten().tolist() == [-1, -1, 1, 0]
    assert state[structures[0].channel, 0, 1] == 1
