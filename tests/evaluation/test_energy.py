"""Proper scores of samples: an oracle, sums written out, and that no other sampler does better than the truth."""

import numpy as np
import pytest
import scoringrules

from medsegdiff_auto.evaluation.scores.energy import crps, energy_score
from medsegdiff_auto.overlap import pairwise_dice, pairwise_iou

A, B, EMPTY = (np.array(row, bool) for row in ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]))   # IoU(A, B) 1/2


def test_the_energy_score_is_the_sum_over_pairs_written_out():
    samples = np.stack([A, A, B])
    to_reference, between = (1 / 2 + 1 / 2 + 0) / 3, (0 + 1 / 2 + 1 / 2) / 3
    assert energy_score(samples, B[None]) == pytest.approx(to_reference - between / 2)
    of_other = (0 + 0 + 1 / 2) / 3 - between / 2
    assert energy_score(samples, np.stack([B, A])) == pytest.approx((to_reference - between / 2 + of_other) / 2)


def test_a_single_answer_is_scored_by_its_distance_alone():
    assert energy_score(A[None], B[None]) == pytest.approx(1 / 2)
    assert energy_score(B[None], B[None]) == 0
    assert crps(np.array([3.0]), np.array([5.0])) == 2


def test_empty_masks_are_equal_to_empty_masks_alone():
    assert energy_score(np.stack([EMPTY, EMPTY]), EMPTY[None]) == 0
    assert energy_score(np.stack([EMPTY, EMPTY]), A[None]) == 1


def test_the_score_of_sizes_is_the_fair_one_of_scoringrules():
    generator = np.random.default_rng(0)
    for num_samples in (2, 5, 30):
        sizes, references = generator.gamma(2, 3, num_samples), generator.gamma(2, 3, 4)
        expected = np.mean([scoringrules.crps_ensemble(one, sizes, estimator="fair") for one in references])
        assert crps(sizes, references) == pytest.approx(expected)


def test_iou_is_a_strictly_positive_definite_kernel_and_dice_is_not():
    """On all masks of five voxels: with IoU no other distribution ties with the truth, with Dice one may."""
    masks = np.array([[number >> bit & 1 for bit in range(5)] for number in range(32)], bool)
    smallest = [np.linalg.eigvalsh(kernel(masks, masks)).min() for kernel in (pairwise_iou, pairwise_dice)]
    assert smallest[0] > 0.001 > 1e-12 > abs(smallest[1])


@pytest.mark.parametrize("sampled", [{"spread": 0}, {"spread": 3}, {"spread": 16}, {"shift": 4}], ids=str)
def test_the_truth_scores_best_on_average(sampled):
    generator = np.random.default_rng(1)

    def masks(count: int, spread: int = 8, shift: int = 0) -> np.ndarray:
        return np.arange(60)[None] < 25 + shift + generator.integers(-spread, spread + 1, count)[:, None]

    differences = []
    for _ in range(3000):
        reference, truth, other = masks(1), masks(8), masks(8, **sampled)
        differences.append([score(*(one if score is energy_score else one.sum(1) for one in (other, reference)))
                            - score(*(one if score is energy_score else one.sum(1) for one in (truth, reference)))
                            for score in (energy_score, crps)])
    mean, error = np.mean(differences, 0), np.std(differences, 0) / np.sqrt(len(differences))
    assert (mean > 3 * error).all(), (mean, error)


@pytest.mark.parametrize("score, masks", [(energy_score, True), (crps, False)], ids=["masks", "sizes"])
def test_the_estimate_is_the_same_on_average_for_any_number_of_samples(score, masks):
    generator = np.random.default_rng(2)

    def drawn(count: int) -> np.ndarray:
        lengths = generator.integers(10, 31, count)
        return np.arange(40)[None] < lengths[:, None] if masks else lengths

    scores = np.array([[score(drawn(2), drawn(1)), score(drawn(16), drawn(1))] for _ in range(4000)])
    error = np.hypot(*scores.std(0)) / np.sqrt(len(scores))
    assert scores[:, 0].mean() == pytest.approx(scores[:, 1].mean(), abs=4 * error)
