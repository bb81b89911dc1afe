"""Uncertainty against numbers worked out by hand."""

import numpy as np
import pytest

from medsegdiff_auto.decision import uncertainty
from medsegdiff_auto.decision.entropy import normalised_entropy
from medsegdiff_auto.decision.uncertainty import MutualInformation
from medsegdiff_auto.sampling.volume_store import in_memory


def voxels(*probabilities) -> np.ndarray:
    """(K, 1, 1, N) from one row per class."""
    return np.array(probabilities, dtype=np.float32)[:, None, None]


def test_entropy_is_zero_where_one_class_is_certain_and_one_where_all_are_equal():
    entropy = normalised_entropy(voxels([1, 1 / 3, 0.5], [0, 1 / 3, 0.5], [0, 1 / 3, 0]), regions=False)
    np.testing.assert_allclose(entropy.ravel(), [0, 1, np.log(2) / np.log(3)], atol=1e-5)


def test_entropy_of_regions_is_that_of_the_least_certain_region():
    entropy = normalised_entropy(voxels([0.5, 1.0, 0.0], [1.0, 1.0, 0.25]), regions=True)
    np.testing.assert_allclose(entropy.ravel(), [1, 0, 0.25 * 2 + 0.75 * np.log2(4 / 3)], atol=1e-5)


def mutual_information(samples, regions: bool) -> np.ndarray:
    shared = MutualInformation(regions)
    for sample in samples:
        shared.add(in_memory(sample))
    return shared.value.ravel()


def test_mutual_information_is_the_entropy_of_the_mean_where_samples_are_sure_and_0_where_they_agree():
    sure_and_apart, unsure_alike, between = [1, 0], [0.5, 0.5], [0.9, 0.5]
    samples = [voxels(values, [1 - value for value in values]) for values in zip(sure_and_apart, unsure_alike, between)]
    h = lambda p: -(p * np.log2(p) + (1 - p) * np.log2(1 - p))  # two classes: nats over log 2 are bits
    np.testing.assert_allclose(mutual_information(samples, regions=False), [1, 0, h(0.7) - (h(0.9) + 1) / 2], atol=1e-5)


def test_mutual_information_of_regions_is_that_of_the_region_that_samples_disagree_on_most():
    samples = [voxels([0.5], [1.0]), voxels([0.5], [0.0])]
    np.testing.assert_allclose(mutual_information(samples, regions=True), [1], atol=1e-5)
    np.testing.assert_allclose(mutual_information(samples[:1], regions=True), [0], atol=1e-7)


def describe_structure(fused, samples, values, voxel_size):
    return uncertainty.describe_structure(in_memory(fused), [in_memory(one) for one in samples], values, voxel_size)


def test_a_structure_is_described_by_size_interval_and_mean_dice_to_the_samples():
    fused = np.array([[[1, 1, 2, 0]]])
    samples = np.array([[[[1, 1, 3, 1]]], [[[1, 0, 0, 0]]]])
    described = describe_structure(fused, samples, [1], voxel_size=0.5)
    assert described["size"] == 1.0
    assert described["lower"] == pytest.approx(0.5 + 0.05)
    assert described["upper"] == pytest.approx(0.5 + 0.95)
    assert described["expected_dice"] == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert described["expected_dice_between_samples"] == pytest.approx(2 / 4)


@pytest.mark.parametrize("of_samples, interval", [(3, (2, 3)), (1, (1, 2))])
def test_the_interval_reaches_to_the_size_of_the_mask_itself(of_samples, interval):
    fused, sample = np.array([[[1, 1, 0, 0]]]), np.zeros((1, 1, 4), int)
    sample[..., :of_samples] = 1
    described = describe_structure(fused, np.stack([sample] * 3), [1], 1.0)
    assert (described["lower"], described["upper"]) == interval


def test_a_region_counts_all_labels_that_make_it_up():
    fused = np.array([[[1, 2, 0, 0]]])
    assert describe_structure(fused, fused[None], [1, 2], 1.0)["size"] == 2


@pytest.mark.parametrize("num_samples", [1, 3])
def test_a_structure_that_mask_and_samples_lack_has_no_expected_dice(num_samples):
    described = describe_structure(np.zeros((1, 1, 4), int), np.full((num_samples, 1, 1, 4), 2), [1], 1.0)
    assert np.isnan(described.pop("expected_dice")) and np.isnan(described.pop("expected_dice_between_samples"))
    assert described == {"size": 0, "lower": 0, "upper": 0}


def test_two_empty_masks_count_as_one_where_another_sample_has_the_structure():
    fused, samples = np.zeros((1, 1, 4), int), np.array([[[[0, 0, 0, 0]]], [[[1, 0, 0, 0]]]])
    assert describe_structure(fused, samples, [1], 1.0)["expected_dice"] == pytest.approx((1 + 0) / 2)
