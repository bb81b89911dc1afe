"""The paired comparison of two methods."""

import math

import numpy as np
import pytest

from medsegdiff_auto.evaluation.paired import compare_paired


def test_a_constant_difference_is_found_without_any_doubt():
    scores = np.random.default_rng(0).random(20)
    found = compare_paired(scores + 0.1, scores)
    assert (found.mean_difference, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert found.is_resolved


def test_the_interval_covers_the_known_mean_about_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for repetition in range(200):
        found = compare_paired(generator.normal(0.3, 1, 40), np.zeros(40), num_resamples=500, seed=repetition)
        covered += found.low <= 0.3 <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_the_width_of_the_interval_is_that_of_the_normal_approximation():
    differences = np.random.default_rng(2).normal(0, 1, 400)
    found = compare_paired(differences, np.zeros(400))
    assert found.high - found.low == pytest.approx(2 * 1.96 * differences.std() / 20, rel=0.05)


def test_a_case_that_one_method_could_not_score_is_left_out_and_counted():
    found = compare_paired([0.5, float("nan"), 0.7], [0.4, 0.9, 0.6])
    assert (found.num_cases, found.num_left_out) == (2, 1)
    assert found.mean_difference == pytest.approx(0.1)


def test_the_same_seed_gives_the_same_interval():
    first, second = np.random.default_rng(3).random((2, 15))
    assert compare_paired(first, second, seed=4) == compare_paired(first, second, seed=4)


def test_no_common_case_gives_no_number():
    found = compare_paired([float("nan")], [1.0])
    assert found.num_cases == 0 and math.isnan(found.mean_difference) and not found.is_resolved
