"""The latent noise that makes samples as far from each other as from the reference, on curves with a known answer."""

import math

import pytest

from medsegdiff_auto.selection.dispersion import (GAP_TOLERANCE, HIGHEST_DISPERSION, MAX_EVALUATIONS, Dispersion,
                                                  best_dispersion, fit_dispersion, mean_dispersion)


def curve(zero: float):
    """A gap that falls with tau, steeper at first, and is 0 at ``zero``."""
    return lambda tau: Dispersion(0.8 + 0.1 * (math.log1p(zero) - math.log1p(tau)), 0.8)


@pytest.mark.parametrize("zero", [0.3, 1.3, 2.0, 3.7, 11.0])
def test_the_gap_of_a_monotone_curve_is_closed(zero):
    tried = fit_dispersion(curve(zero), planned=1.0)
    assert abs(tried[best_dispersion(tried)].gap) <= GAP_TOLERANCE
    assert best_dispersion(tried) == pytest.approx(zero, rel=0.06, abs=0.08)
    assert len(tried) <= MAX_EVALUATIONS


def test_a_network_without_noise_has_nothing_to_fit():
    assert list(fit_dispersion(lambda tau: Dispersion(0.95, 0.8), planned=0.0)) == [0.0]


def test_a_gap_that_no_noise_widens_enough_ends_at_the_highest():
    tried = fit_dispersion(lambda tau: Dispersion(0.95 - 0.001 * tau, 0.8), planned=1.0)
    assert best_dispersion(tried) == HIGHEST_DISPERSION == max(tried)


@pytest.mark.parametrize("zero", [0.2, 0.6, 0.9, 1.5, 6.0])
def test_noise_that_was_trained_is_scaled_up_or_down_from_what_it_was_trained_with(zero):
    tried = fit_dispersion(curve(zero), planned=1.0)
    assert next(iter(tried)) == 1.0 and 0.0 not in tried
    assert best_dispersion(tried) == pytest.approx(zero, rel=0.06, abs=0.08)
    assert len(tried) <= MAX_EVALUATIONS


def test_noise_that_was_trained_stays_where_the_cases_do_not_resolve_a_gap():
    assert list(fit_dispersion(lambda tau: Dispersion(0.83, 0.8, is_resolved=False), planned=1.0)) == [1.0]


def test_a_gap_that_no_noise_closes_ends_at_the_lowest_share():
    tried = fit_dispersion(lambda tau: Dispersion(0.5, 0.8), planned=1.0)
    assert 0.05 < min(tried) <= 0.1


def test_a_gap_is_resolved_where_its_interval_over_cases_leaves_out_zero():
    def rows(gaps):
        return [{"case": str(number), "expected_dice_between_samples": 0.8 + gap, "expected_dice_sample_reference": 0.8}
                for number, gap in enumerate(gaps)]
    assert mean_dispersion(rows([0.1, 0.12, 0.08, 0.11, 0.09, 0.1])).is_resolved
    assert not mean_dispersion(rows([0.1, -0.12, 0.08, -0.05, 0.07, -0.1])).is_resolved
    assert mean_dispersion(rows([-0.1, -0.12, -0.02, math.nan, -0.05, -0.1, -0.08])).is_resolved


def test_five_cases_that_agree_resolve_nothing_and_the_planned_noise_stays():
    """Half of a fold of seven raters: three cases moved it, for the worse."""
    rows = [{"case": str(number), "expected_dice_between_samples": 0.9, "expected_dice_sample_reference": 0.8}
            for number in range(5)]
    assert mean_dispersion(rows).gap > 0.09 and not mean_dispersion(rows).is_resolved
    assert list(fit_dispersion(lambda tau: mean_dispersion(rows), planned=1.0)) == [1.0]


def test_structures_that_are_nowhere_are_left_out_of_the_mean():
    rows = [{"case": "a", "expected_dice_between_samples": value, "expected_dice_sample_reference": value / 2}
            for value in (0.9, math.nan, 0.7)]
    assert mean_dispersion(rows) == Dispersion(pytest.approx(0.8), pytest.approx(0.4), is_resolved=False)
