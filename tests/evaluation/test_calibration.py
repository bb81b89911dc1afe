"""Calibration against closed forms."""

import math

import numpy as np
import pytest

from medsegdiff_auto.evaluation.calibration import (
    brier_score, error_detection_auroc, negative_log_likelihood, relevant_mask, reliability)


def test_a_perfectly_calibrated_predictor_has_no_calibration_error():
    generator = np.random.default_rng(0)
    p = generator.random(400_000)
    assert reliability(p, generator.random(p.size) < p).expected_calibration_error < 0.005


def test_known_posterior_gives_zero_error_without_any_sampling_noise():
    p = np.random.default_rng(1).random((7, 9))
    assert reliability(p, p).expected_calibration_error == pytest.approx(0, abs=1e-12)


def test_an_overconfident_predictor_has_the_error_of_the_closed_form():
    """Truth 0.5 + d (both signs, d uniform in [0, 0.25]), prediction 0.5 + 2 d: the error is E d = 0.125."""
    d = np.linspace(0, 0.25, 100_001)
    predicted, truth = np.concatenate([0.5 - 2 * d, 0.5 + 2 * d]), np.concatenate([0.5 - d, 0.5 + d])
    # the central one of 15 bins straddles 0.5 and cancels: it holds 2 d <= 1/30, a share 1/15 of the voxels with mean d
    # of 1/120
    assert reliability(predicted,
                       truth).expected_calibration_error == pytest.approx(0.125 - (1 / 15) * (1 / 120), abs=1e-4)


def test_probability_one_belongs_to_the_last_bin():
    curve = reliability(np.array([0.0, 1.0]), np.array([0.0, 1.0]), num_bins=15)
    assert curve.counts[0] == curve.counts[14] == 1
    assert curve.mean_outcome[14] == 1 and math.isnan(curve.mean_outcome[7])


def test_curves_of_two_cases_add_up_to_the_curve_of_both():
    generator = np.random.default_rng(2)
    p, y = generator.random(200), generator.random(200) < 0.5
    both, parts = reliability(p, y), reliability(p[:50], y[:50]) + reliability(p[50:], y[50:])
    np.testing.assert_allclose(parts.mean_confidence, both.mean_confidence)
    assert parts.expected_calibration_error == pytest.approx(both.expected_calibration_error)


def test_the_proper_scores_of_one_voxel_are_those_of_the_formula():
    assert brier_score([0.8, 0.8], [1, 0]) == pytest.approx((0.04 + 0.64) / 2)
    assert negative_log_likelihood([0.8, 0.8], [1, 0]) == pytest.approx(-(math.log(0.8) + math.log(0.2)) / 2)


def test_a_certain_error_costs_a_finite_likelihood():
    assert negative_log_likelihood([0.0], [1]) == pytest.approx(-math.log(1e-6))


@pytest.mark.parametrize("shape, expected", [((11, 11), 13), ((11, 11, 11), 25)])
def test_one_voxel_dilated_twice_is_the_ball_of_radius_two_in_city_blocks(shape, expected):
    mask = np.zeros(shape, bool)
    mask[(5,) * len(shape)] = True
    assert relevant_mask(mask, np.zeros(shape, bool)).sum() == expected


def test_the_auroc_of_uncertainty_equals_the_count_of_ordered_pairs():
    generator = np.random.default_rng(3)
    uncertainty = generator.integers(0, 10, 300) / 10 + 0.05
    wrong = generator.random(300) < uncertainty
    pairs = uncertainty[wrong][:, None] - uncertainty[~wrong][None]
    expected = (pairs > 1e-9).mean() + 0.5 * (np.abs(pairs) <= 1e-9).mean()
    assert error_detection_auroc(reliability(uncertainty, wrong, num_bins=10)) == pytest.approx(expected)
