"""The check of a case: one grid, known labels, finite intensities."""

import numpy as np
import pytest

from medsegdiff_auto.dataset_conversion.core.checks import checked, displacement
from medsegdiff_auto.dataset_conversion.core.picture import Picture
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem, Sample
from medsegdiff_auto.dataset_conversion.core.volume import Volume, header_from_affine

SHAPE = (5, 4, 3)


def volume(voxels=None, *, shift_mm=0.0, shear=0.0, shape=SHAPE) -> Volume:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3], affine[0, 1] = shift_mm, shear
    voxels = np.zeros(shape, np.uint8) if voxels is None else voxels
    return Volume(voxels, header_from_affine(affine, (1, 1, 2), voxels.shape))


def problem(sample: Sample, values=(0, 1), num_channels=1) -> str:
    with pytest.raises(CaseProblem) as refused:
        checked(sample, values, num_channels)
    return str(refused.value)


def test_geometry_that_differs_by_rounding_is_taken_from_the_image_and_noted():
    image, label = volume(), volume(shift_mm=1e-4)
    done = checked(Sample([image], label), (0, 1), 1)
    np.testing.assert_array_equal(done.label.affine, image.affine)
    assert len(
        done.notes) == 1 and "took the geometry of the image" in done.notes[0] and "1.0e-04 voxels" in done.notes[0]


def test_the_displacement_of_a_corner_is_measured_in_the_smallest_edge_of_a_voxel():
    assert displacement(volume(shift_mm=0.3), volume()) == pytest.approx(0.3, rel=1e-6)
    assert displacement(volume(shear=0.01), volume()) == pytest.approx(0.01 * (SHAPE[1] - 1), rel=1e-5)


@pytest.mark.parametrize("sample, reason", [
    (lambda: Sample([volume()], volume(shift_mm=0.3)),
     "the label map lies elsewhere than the image: a corner is displaced by 0.3 voxels"),
    (lambda: Sample([volume()], volume(shape=(5, 4, 2))),
     "the label map has the size 5 x 4 x 2, expected 5 x 4 x 3 as the image"),
    (lambda: Sample([volume()], volume(np.full(SHAPE, 7, np.uint8))), "the label map holds the label 7, expected 0, 1"),
    (lambda: Sample([volume()], volume(np.full(SHAPE, 0.5))),
     "the label map holds label values that are no whole numbers"),
    (lambda: Sample([volume()], volume(np.full(SHAPE, -1, np.int16))), "holds label values from -1 to -1"),
    (lambda: Sample([volume()], volume(), {"b": volume(np.full(SHAPE, 3, np.uint8))}),
     "the label map of b holds the label 3"),
    (lambda: Sample([volume(shear=0.2)], volume(shear=0.2)), "its axes are not perpendicular (cosine 0.2)"),
    (lambda: Sample([volume(np.full(SHAPE, np.nan, np.float32))], volume()),
     "channel 0 holds NaN or infinite values (60 of 60 voxels)"),
    (lambda: Sample([volume(), volume()], volume()), "it has 2 channels, expected 1"),
    (lambda: Sample([Picture(np.zeros((3, 2, 3), np.uint8))], None), "it has 3 channels, expected 1"),
    (lambda: Sample([Picture(np.zeros((3, 2), np.uint8))], Picture(np.zeros(
        (3, 2, 3), np.uint8))), "the label map is a colour image"),
])
def test_a_case_with_a_fault_is_refused_with_what_was_found_and_expected(sample, reason):
    assert reason in problem(sample())


def test_a_label_map_of_doubles_with_whole_values_becomes_bytes():
    done = checked(Sample([volume()], volume(np.ones(SHAPE))), (0, 1), 1)
    assert done.label.voxels.dtype == np.uint8 and np.all(done.label.voxels == 1)


def test_a_colour_picture_counts_as_three_channels():
    image = Picture(np.zeros((3, 2, 3), np.uint8))
    assert checked(Sample([image], Picture(np.zeros((3, 2), np.uint8))), (0,), 3).channels[0] is image
