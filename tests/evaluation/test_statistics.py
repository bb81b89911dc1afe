"""Statistics of several methods: closed forms, other implementations, and coverage where it can be counted."""

import math

import numpy as np
import pytest
from scipy import stats

from medsegdiff_auto.evaluation.bootstrap import interval_of, resampled, resampled_means
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.statistics import (holm, mean_with_interval, rank_shares, wilcoxon_p,
                                                   wins_ties_losses)

NAN = float("nan")


def test_the_interval_of_a_mean_is_that_of_scipy_s_bootstrap():
    values = np.random.default_rng(0).gamma(2, 1, 60)
    found = mean_with_interval([*values, NAN])
    of_scipy = stats.bootstrap((values,), np.mean, n_resamples=10_000, method="percentile", rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((of_scipy.low, of_scipy.high), abs=0.02 * values.std())
    assert (found.mean, found.standard_deviation, found.num) == (pytest.approx(values.mean()),
                                                                 pytest.approx(stats.tstd(values)), 60)


def test_a_mean_of_nothing_is_no_number_and_of_one_case_has_no_spread():
    assert mean_with_interval([NAN]).num == 0 and math.isnan(mean_with_interval([NAN]).mean)
    one = mean_with_interval([0.5])
    assert (one.mean, one.low, one.high) == (0.5, 0.5, 0.5) and math.isnan(one.standard_deviation)


def test_the_standard_deviation_of_a_comparison_is_that_of_the_differences():
    first, second = np.random.default_rng(1).random((2, 9))
    assert compare_paired(first, second).standard_deviation == pytest.approx(stats.tstd(first - second))


def test_holm_multiplies_the_smallest_most_and_never_falls():
    """Worked out by hand: 0.01 x 4, 0.02 x 3, 0.03 x 2 raised to the one before, 0.5 x 1."""
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9, 0.6]) == [1, 1, 1] and holm([]) == []
    corrected = holm([0.01, NAN, 0.04])
    assert corrected[0] == pytest.approx(0.02) and math.isnan(corrected[1]) and corrected[2] == pytest.approx(0.04)


def test_wilcoxon_is_exact_for_few_cases_and_equal_methods_have_no_difference():
    first = np.array([1.1, 2.3, 3.2, 4.5, 5.9, 6.4])
    assert wilcoxon_p(first, first - np.array([0.1, 0.3, 0.2, 0.5, 0.9, 0.4])) == pytest.approx(2 / 2**6)
    assert wilcoxon_p(first, first) == 1 and math.isnan(wilcoxon_p(np.array([NAN]), np.array([1.0])))
    with_a_tie = wilcoxon_p(np.append(first, [7.0, NAN]), np.append(first - np.arange(1, 7), [7.0, 1.0]))
    assert with_a_tie == pytest.approx(2 / 2**6)


@pytest.mark.parametrize("more_is_better, expected", [(True, (2, 1, 1)), (False, (1, 1, 2))])
def test_wins_go_to_the_better_side(more_is_better, expected):
    first, second = np.array([0.9, 0.8, 0.5, 0.7, NAN]), np.array([0.8, 0.7, 0.5, 0.8, 0.1])
    assert wins_ties_losses(first, second, more_is_better) == expected


def test_ranks_that_cases_cannot_tell_apart_are_shared_by_chance_and_a_clear_order_is_not():
    generator = np.random.default_rng(2)
    noise = generator.normal(0, 1, (200, 1))
    ranks, shares = rank_shares(np.hstack([noise + 9, noise + 1, noise + 5, noise + 5]), more_is_better=True)
    assert ranks.tolist() == [1, 4, 2, 2]
    np.testing.assert_allclose(shares, [[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 1, 0, 0]])
    ranks, _ = rank_shares(np.hstack([noise + 9, noise + 1]), more_is_better=False)
    assert ranks.tolist() == [2, 1]


def test_the_share_of_a_rank_is_the_chance_that_the_mean_difference_keeps_its_sign():
    """Differences of mean m and standard deviation s over n cases: a normal mean is above 0 with Phi(m sqrt(n) / s)."""
    differences = np.random.default_rng(3).normal(0.1, 1, 100)
    differences += 0.1 - differences.mean()
    _, shares = rank_shares(np.stack([differences, np.zeros(100)], 1), more_is_better=True)
    expected = stats.norm.cdf(0.1 * 10 / differences.std())
    assert shares[0, 0] == pytest.approx(expected, abs=0.02) and shares[1, 0] == pytest.approx(1 - expected, abs=0.02)


def test_cases_that_one_method_could_not_score_do_not_rank():
    values = np.array([[0.9, 0.1], [0.9, 0.1], [NAN, 0.99], [0.0, NAN]])
    ranks, shares = rank_shares(values, more_is_better=True)
    assert ranks.tolist() == [1, 2] and shares.tolist() == [[1, 0], [0, 1]]
    assert np.isnan(rank_shares(np.full((3, 2), NAN), True)[0]).all()


def test_columns_are_resampled_together_so_that_their_difference_is_that_of_the_pairs():
    values = np.random.default_rng(4).random(30)
    means = resampled_means(np.stack([values, values + 1], 1), 500)
    np.testing.assert_allclose(means[:, 1] - means[:, 0], 1)
    np.testing.assert_allclose(means[:, 0], resampled_means(values, 500))


def test_whole_patients_are_drawn_as_often_as_they_come():
    """Two patients, of nine cases at 0 and one at 1; and three of a case each, of which one may come twice."""
    values, patients = np.array([0.0] * 9 + [1.0]), np.array(["b"] * 9 + ["a"])
    means = resampled(lambda rows: values[rows].mean(), patients, 2000)
    assert set(means) == {0.0, 0.1, 1.0} and (means == 0.1).mean() == pytest.approx(0.5, abs=0.04)
    sums = resampled(lambda rows: float(np.array([0, 1, 4])[rows].sum()), np.arange(3), 2000)
    assert set(sums) == {0, 1, 2, 3, 4, 5, 6, 8, 9, 12} and (sums == 5).mean() == pytest.approx(6 / 27, abs=0.03)


def test_values_that_could_not_be_computed_are_left_out_of_an_interval():
    assert interval_of(np.array([NAN, 1.0, 1.0])) == (1.0, 1.0)
    assert all(map(math.isnan, interval_of(np.array([NAN]))))
