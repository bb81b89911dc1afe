"""Fusing samples: against brute force, against a hand-made EM, and against nnU-Net's decision."""

from itertools import product

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.decision.decoder import decode
from medsegdiff_auto.decision.decoders.dice import best_dice_mask, dice_of_probabilities, dice_of_samples
from medsegdiff_auto.decision.decoders.staple import staple
from medsegdiff_auto.overlap import dice

CLASSES = LabelManager({"background": 0, "edge": 1, "core": 2}, None)
REGIONS = LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])


def expected_dice(mask, masks):
    return np.mean([dice(mask, one, both_empty=1.0) for one in masks])


@pytest.mark.parametrize("seed", range(20))
def test_no_mask_has_a_higher_expected_dice_than_the_decoded_one(seed):
    generator = np.random.default_rng(seed)
    masks = generator.random((4, 9)) < generator.random((1, 9)) * generator.random((4, 1)) * 1.6
    best = max(expected_dice(np.array(bits, bool), masks) for bits in product((0, 1), repeat=9))
    assert expected_dice(best_dice_mask(masks), masks) == pytest.approx(best, abs=1e-12)


def test_on_a_large_image_the_refined_search_is_as_good_as_trying_every_size():
    generator = np.random.default_rng(0)
    radius = np.linspace(0, 1, 4000)
    masks = radius[None] < generator.uniform(0.2, 0.9, (8, 1))
    every = [expected_dice(np.arange(4000) < n, masks) for n in range(0, 4000, 5)]
    assert expected_dice(best_dice_mask(masks), masks) >= max(every) - 1e-9


def test_expected_dice_prefers_no_structure_where_most_samples_have_none():
    masks = np.zeros((5, 6), bool)
    masks[0, 2] = True
    assert not best_dice_mask(masks).any()
    masks[1:4, 2] = True
    assert best_dice_mask(masks).tolist() == [False, False, True, False, False, False]


def test_a_voxel_that_two_classes_want_goes_to_the_one_that_more_samples_see():
    samples = np.array([[1, 1, 0, 2], [1, 2, 0, 2], [1, 1, 0, 2]])[:, None]
    assert dice_of_samples(samples, CLASSES).tolist() == [[1, 1, 0, 2]]


def test_regions_are_decoded_each_for_itself_and_nested_by_the_label_order():
    samples = np.array([[0, 1, 2, 2], [0, 1, 2, 1], [0, 1, 2, 1]])[:, None]
    assert dice_of_samples(samples, REGIONS).tolist() == [[0, 1, 2, 1]]
    probabilities = np.array([[0.1, 0.9, 0.9, 0.9], [0.0, 0.1, 0.9, 0.1]])[:, None].astype(np.float32)
    assert decode("mean", probabilities, None, REGIONS).tolist() == [[0, 1, 2, 1]]
    assert dice_of_probabilities(probabilities, REGIONS).tolist() == [[0, 1, 2, 1]]


def em_staple(masks, num_iterations=100):
    """Warfield et al. 2004, eq. 13 to 18, with SimpleITK's prior: the mean of all decisions."""
    prior, p, q = masks.mean(), np.full(len(masks), 0.99999), np.full(len(masks), 0.99999)
    for _ in range(num_iterations):
        inside = prior * np.prod(np.where(masks, p[:, None], 1 - p[:, None]), 0)
        outside = (1 - prior) * np.prod(np.where(masks, 1 - q[:, None], q[:, None]), 0)
        w = inside / (inside + outside)
        p, q = (masks * w).sum(1) / w.sum(), (~masks * (1 - w)).sum(1) / (1 - w).sum()
    return w


def test_staple_of_regions_is_the_fixed_point_of_the_em_and_not_a_vote():
    generator = np.random.default_rng(1)
    truth = np.arange(400) < 120
    flips = np.array([0.02, 0.05, 0.1, 0.4, 0.4])[:, None]
    masks = truth ^ (generator.random((5, 400)) < flips)
    samples = np.where(masks, 1, 0).reshape(5, 20, 20)
    found = decode("staple", np.zeros((2, 20, 20), np.float32), samples, REGIONS)
    assert np.array_equal(found.ravel() > 0, em_staple(masks) > 0.5)
    votes = masks.mean(0) > 0.5
    assert (found.ravel() > 0).tolist() != votes.tolist()
    assert dice(found.ravel() > 0, truth) > dice(votes, truth)


def test_multi_label_staple_trusts_the_raters_that_agree_and_leaves_ties_to_the_mean():
    generator = np.random.default_rng(2)
    truth = np.repeat([0, 1, 2], 100)
    samples = np.stack([truth, truth, truth, generator.integers(0, 3, 300), generator.integers(0, 3, 300)])[:, None]
    probabilities = np.zeros((3, 1, 300), np.float32)
    assert np.array_equal(staple(probabilities, samples, CLASSES)[0], truth)
    tie = np.array([[0, 1], [1, 0]])[:, None]
    found = staple(np.array([[0.9, 0.1], [0.1, 0.9], [0.0, 0.0]], np.float32)[:, None], tie, CLASSES)
    assert set(found.ravel().tolist()) <= {0, 1}


def test_dice_of_probabilities_marks_more_than_argmax_where_a_structure_is_faint():
    probabilities = np.full((1, 100), 0.45, np.float32)
    probabilities = np.stack([1 - probabilities, probabilities, np.zeros_like(probabilities)])
    probabilities[:, 0, 0] = 0.2, 0.8, 0.0
    assert (dice_of_probabilities(probabilities, CLASSES) > 0).sum() > (decode("mean", probabilities, None, CLASSES)
                                                                        > 0).sum()


def test_an_unknown_fusion_and_staple_of_one_sample_are_refused():
    probabilities = np.zeros((3, 1, 2), np.float32)
    with pytest.raises(ValueError, match="vote"):
        decode("vote", probabilities, None, CLASSES)
    with pytest.raises(ValueError, match="at least 2 samples, found 1"):
        decode("staple", probabilities, np.zeros((1, 1, 2), int), CLASSES)
