"""Uncertainty against numbers worked out by hand."""

import numpy as np
import pytest

from medsegdiff_auto.inference.uncertainty import describe_structure, normalised_entropy


def voxels(*probabilities) -> np.ndarray:
    """(K, 1, 1, N) from one row per class."""
    return np.array(probabilities, dtype=np.float32)[:, None, None]


def test_entropy_is_zero_where_one_class_is_certain_and_one_where_all_are_equal():
    entropy = normalised_entropy(voxels([1, 1 / 3, 0.5], [0, 1 / 3, 0.5], [0, 1 / 3, 0]), regions=False)
    np.testing.assert_allclose(entropy.ravel(), [0, 1, np.log(2) / np.log(3)], atol=1e-5)


def test_entropy_of_regions_is_that_of_the_least_certain_region():
    entropy = normalised_entropy(voxels([0.5, 1.0, 0.0], [1.0, 1.0, 0.25]), regions=True)
    np.testing.assert_allclose(entropy.ravel(), [1, 0, 0.25 * 2 + 0.75 * np.log2(4 / 3)], atol=1e-5)


def test_a_structure_is_described_by_size_interval_and_mean_dice_to_the_samples():
    fused = np.array([[[1, 1, 2, 0]]])
    samples = np.array([[[[1, 1, 0, 0]]], [[[1, 0, 0, 0]]]])
    described = describe_structure(fused, samples, [1], voxel_size=0.5)
    assert described["size"] == 1.0
    assert described["lower"] == pytest.approx(0.5 + 0.05 * 0.5)
    assert described["upper"] == pytest.approx(0.5 + 0.95 * 0.5)
    assert described["expected_dice"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_region_counts_all_labels_that_make_it_up():
    fused = np.array([[[1, 2, 0, 0]]])
    assert describe_structure(fused, fused[None], [1, 2], 1.0)["size"] == 2


def test_samples_that_agree_on_an_absent_structure_expect_a_dice_of_one():
    fused, samples = np.zeros((1, 1, 4), int), np.array([[[[0, 0, 0, 0]]], [[[1, 0, 0, 0]]]])
    assert describe_structure(fused, samples, [1], 1.0)["expected_dice"] == pytest.approx((1 + 0) / 2)
