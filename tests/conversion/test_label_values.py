"""Label values: renumbering, grey masks, nesting, consensus; each against a hand-computed answer."""

import numpy as np
import pytest

from medsegdiff_auto.dataset_conversion.core.labels import (consensus, foreground_of_grey, nested, nested_consensus,
                                                            relabel)
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem


def test_values_are_renumbered():
    np.testing.assert_array_equal(relabel(np.array([0, 4, 2, 1, 4]), {0: 0, 1: 1, 2: 2, 4: 3}, "seg"), [0, 3, 2, 1, 3])


def test_a_value_that_the_layout_does_not_have_is_named():
    with pytest.raises(CaseProblem, match="seg.nii.gz holds the label 3, 9, expected 0, 1, 2, 4"):
        relabel(np.array([0, 3, 9]), {0: 0, 1: 1, 2: 2, 4: 3}, "seg.nii.gz")


@pytest.mark.parametrize("pixels, expected", [
    (np.array([0, 1, 1], np.uint8), [0, 1, 1]),
    (np.array([0, 2, 0], np.uint8), [0, 1, 0]),
    (np.array([0, 100, 0], np.int16), [0, 1, 0]),
    (np.array([0, 0.001]), [0, 1]),
    (np.array([3, 7, 7], np.uint8), [0, 1, 1]),
    (np.array([-1000, 50], np.int16), [0, 1]),
    (np.array([2, 2], np.uint8), [1, 1]),
    (np.array([0, 127, 128, 255], np.uint8), [0, 0, 1, 1]),
    (np.array([0, 120, 130, 240], np.uint8), [0, 0, 1, 1]),
    (np.array([0, 32767, 32768, 65535], np.uint16), [0, 0, 1, 1]),
    (np.array([0, 0.4, 0.6], np.float32), [0, 0, 1]),
    (np.array([0, 0], np.uint8), [0, 0]),
    (np.array([False, True]), [0, 1]),
])
def test_two_values_are_background_and_foreground_and_shades_are_set_from_half_of_white(pixels, expected):
    np.testing.assert_array_equal(foreground_of_grey(pixels, "m"), np.array(expected, bool))


@pytest.mark.parametrize("pixels, threshold, reason", [
    ([0, 1, 2], None, "m holds shades up to 2, expected two values"),
    ([0, 100, 200], None, "m holds shades up to 200"),
    ([0, 0.1, 0.4], None, "m holds values up to 0.4, and nothing reaches 0.5"),
    ([0, 100], 128, "m holds values up to 100, and nothing reaches 128"),
    ([-1, 0], None, "m holds values from -1 to 0"), ([0, np.nan], None, "m holds values from nan to nan")])
def test_a_mask_that_does_not_show_its_structure_is_refused(pixels, threshold, reason):
    with pytest.raises(CaseProblem, match=reason):
        foreground_of_grey(np.array(pixels), "m", threshold)


def test_a_threshold_decides_about_shades_and_may_leave_none():
    np.testing.assert_array_equal(foreground_of_grey(np.array([0, 60, 200]), "m", 50), [False, True, True])
    np.testing.assert_array_equal(foreground_of_grey(np.array([0, 0.1, 0.4]), "m", 0.5), [False] * 3)


def test_nested_masks_give_a_voxel_the_label_of_the_innermost():
    disc, cup = np.array([0, 1, 1], bool), np.array([0, 0, 1], bool)
    np.testing.assert_array_equal(nested([disc, cup]), [0, 1, 2])


def test_the_consensus_is_the_most_frequent_label_and_the_highest_of_equals():
    raters = [np.array(labels, np.uint8) for labels in ([0, 1, 2, 0], [0, 1, 2, 0], [1, 2, 1, 1], [1, 2, 0, 0])]
    np.testing.assert_array_equal(consensus(raters), [1, 2, 2, 0])


def test_a_voxel_belongs_to_a_nested_region_when_half_of_the_raters_say_so():
    raters = [np.array(labels, np.uint8) for labels in ([0, 2, 0, 1], [0, 2, 0, 2], [1, 1, 0, 0], [2, 0, 1, 0])]
    expected = [
        max(region for region in (0, 1, 2) if sum(rater[voxel] >= region for rater in raters) >= 2)
        for voxel in range(4)
    ]
    np.testing.assert_array_equal(nested_consensus(raters), expected)
    assert expected == [1, 2, 0, 1]
