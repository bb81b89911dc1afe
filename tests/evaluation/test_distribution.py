"""Sample metrics: closed forms, and what a perfect sampler must score."""

import math

import numpy as np
import pytest

from medsegdiff_auto.evaluation.scores.expected_dice import expected_dice_sample_reference
from medsegdiff_auto.evaluation.scores.interval import nominal_coverage, size_interval
from medsegdiff_auto.evaluation.scores.raters import (
    energy_distance_floor, generalised_energy_distance, matched_iou, mean_distance_between)
from medsegdiff_auto.overlap import expected_dice_between_samples

A, B, EMPTY = (np.array(row, bool) for row in ([1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]))   # Dice(A, B) 2/3, IoU 1/2


def intervals(lengths: np.ndarray, size: int = 40) -> np.ndarray:
    """Masks `(n, size)` that start at 0 and have the lengths given: IoU = shorter / longer."""
    return np.arange(size)[None] < np.asarray(lengths)[:, None]


def test_expected_dice_is_the_mean_over_pairs():
    samples = np.stack([A, A, B])
    assert expected_dice_between_samples(samples) == pytest.approx((1 + 2 / 3 + 2 / 3) / 3)
    assert expected_dice_sample_reference(samples, B[None]) == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)


def test_one_sample_has_no_expected_dice_between_samples():
    assert math.isnan(expected_dice_between_samples(A[None]))


def test_two_empty_samples_agree():
    assert expected_dice_between_samples(np.stack([EMPTY, EMPTY, A])) == pytest.approx((1 + 0 + 0) / 3)
    assert generalised_energy_distance(EMPTY[None], EMPTY[None]) == 0


def test_energy_distance_of_two_certain_masks_is_twice_their_distance():
    assert generalised_energy_distance(A[None], B[None]) == pytest.approx(2 * 0.5)


def test_matched_iou_takes_the_best_matching_and_weighs_every_mask_alike():
    assert matched_iou(np.stack([B, A]), np.stack([A, B])) == 1                    # whatever the order
    # two samples for three raters: each sample three times, each rater twice; two A and one B on A, A, B and again
    assert matched_iou(np.stack([A, B]), np.stack([A, A, B])) == pytest.approx((5 + 1 / 2) / 6)
    assert matched_iou(np.stack([A, A]), np.stack([A, B])) == pytest.approx((1 + 1 / 2) / 2)


def test_energy_distance_of_samples_that_equal_the_raters_is_zero():
    raters = intervals([10, 15, 20])
    assert generalised_energy_distance(raters, raters) == pytest.approx(0)


def test_energy_distance_of_two_against_two_equals_the_sum_written_out():
    samples, references = np.stack([A, B]), np.stack([A, EMPTY])
    between, within_samples, within_references = (0 + 1 + 0.5 + 1) / 4, (0.5 + 0.5) / 4, (1 + 1) / 4
    assert generalised_energy_distance(samples,
                                       references) == pytest.approx(2 * between - within_samples - within_references)


@pytest.mark.parametrize("num_samples, num_raters", [(2, 3), (8, 4), (16, 1)])
def test_a_perfect_sampler_scores_the_floor_on_average(num_samples, num_raters):
    generator = np.random.default_rng(0)
    population = generator.integers(10, 31, 4000)
    many = intervals(population[:400])
    floor = energy_distance_floor(mean_distance_between(many), num_samples, num_raters)
    scores = [generalised_energy_distance(intervals(generator.choice(population, num_samples)),
                                          intervals(generator.choice(population, num_raters))) for _ in range(1500)]
    assert np.mean(scores) == pytest.approx(floor, abs=4 * np.std(scores) / math.sqrt(len(scores)) + 0.005)


def test_a_perfect_sampler_has_no_dispersion_gap_and_an_overconfident_one_a_positive_gap():
    generator = np.random.default_rng(1)
    truth = lambda n: intervals(generator.integers(10, 31, n))

    def gap(samples: np.ndarray, references: np.ndarray) -> float:
        return expected_dice_between_samples(samples) - expected_dice_sample_reference(samples, references)

    fair = np.mean([gap(truth(8), truth(1)) for _ in range(600)])
    sure = np.mean([gap(intervals(generator.integers(19, 22, 8)), truth(1)) for _ in range(200)])
    assert fair == pytest.approx(0, abs=0.015)
    assert sure > 0.1


def test_the_interval_of_the_samples_is_the_quantile_of_numpy():
    assert size_interval(np.arange(101.0)) == (5.0, 95.0)


@pytest.mark.parametrize("num_samples", [2, 8, 32])
def test_the_nominal_coverage_is_the_coverage_of_uniform_samples(num_samples):
    generator = np.random.default_rng(2)
    samples, reference = generator.random((20_000, num_samples)), generator.random(20_000)
    low, high = np.quantile(samples, (0.05, 0.95), axis=1)
    assert np.mean((low <= reference) & (reference <= high)) == pytest.approx(nominal_coverage(num_samples), abs=0.015)


def test_eight_samples_promise_seventy_percent():
    assert nominal_coverage(8) == pytest.approx(0.7)
