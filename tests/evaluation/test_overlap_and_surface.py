"""Overlap and surface metrics against values worked out by hand."""

import math

import numpy as np
import pytest

from medsegdiff_auto.overlap import dice, iou, mean_without_nan
from medsegdiff_auto.evaluation.scores.surface import surface_agreement

EDGE = math.sqrt(0.5)            # length (2-D) or area (3-D) of a surface element at an edge, spacing 1
CORNER = math.sqrt(3) / 8        # area at a corner of a cube


def square_or_cube(dimension: int, shift: int = 0) -> np.ndarray:
    """Four voxels a side in a field of ten, shifted along the first axis."""
    mask = np.zeros((10,) * dimension, bool)
    mask[(slice(2 + shift, 6 + shift),) + (slice(2, 6),) * (dimension - 1)] = True
    return mask


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_square_or_cube_shifted_by_a_quarter_has_dice_three_quarters_and_iou_three_fifths(dimension):
    reference, prediction = square_or_cube(dimension), square_or_cube(dimension, shift=1)
    assert dice(reference, prediction) == pytest.approx(0.75)
    assert iou(reference, prediction) == pytest.approx(0.6)


def test_ignored_voxels_change_neither_numerator_nor_denominator():
    reference, prediction = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(reference, prediction, valid=np.array([1, 1, 0, 1], bool)) == pytest.approx(2 / 3)


def test_two_empty_masks_are_not_a_score_and_one_empty_mask_is_zero():
    empty, full = np.zeros(4, bool), np.ones(4, bool)
    assert math.isnan(dice(empty, empty)) and math.isnan(iou(empty, empty))
    assert dice(empty, full) == iou(full, empty) == 0
    assert mean_without_nan([dice(empty, empty), dice(full, full), dice(empty, full)]) == 0.5


def test_nsd_of_a_shifted_square_counts_the_shared_sides():
    """There are 16 contour points, 4 corners and 12 others: the two sides parallel to the shift keep 4 points each."""
    shared, total = 6 + 2 * EDGE, 12 + 4 * EDGE
    found = surface_agreement(square_or_cube(2), square_or_cube(2, shift=1), (1.0, 1.0), tolerance_mm=0.5)
    assert found.nsd == pytest.approx(shared / total)
    assert found.hd95_mm == pytest.approx(1.0)


def test_nsd_of_a_shifted_cube_counts_the_shared_faces():
    """Shared: the four faces along the shift, three inner rings and the ring that is an edge of one of the cubes."""
    shared = 3 * (12 + 4 * EDGE) + 12 * EDGE + 4 * CORNER
    total = 6 * 9 + 12 * 3 * EDGE + 8 * CORNER
    found = surface_agreement(square_or_cube(3), square_or_cube(3, shift=1), (1.0, 1.0, 1.0), tolerance_mm=0.5)
    assert found.nsd == pytest.approx(shared / total)


def test_surface_distances_are_in_mm_of_the_axis_that_was_shifted():
    shifted = surface_agreement(square_or_cube(3), square_or_cube(3, shift=1), (3.0, 1.0, 1.0), tolerance_mm=2.0)
    assert shifted.hd95_mm == pytest.approx(3.0)
    assert surface_agreement(square_or_cube(3), square_or_cube(3, shift=1), (3.0, 1.0, 1.0),
                             tolerance_mm=3.0).nsd == 1.0


def test_a_missing_structure_has_nsd_zero_and_no_distance():
    empty, cube = np.zeros((10, 10, 10), bool), square_or_cube(3)
    missed = surface_agreement(cube, empty, (1, 1, 1), 1.0)
    assert missed.nsd == 0 and math.isnan(missed.hd95_mm)
    absent = surface_agreement(empty, empty, (1, 1, 1), 1.0)
    assert math.isnan(absent.nsd) and math.isnan(absent.hd95_mm)
