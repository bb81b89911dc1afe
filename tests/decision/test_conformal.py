"""Split-conformal volume intervals hold what they promise, whatever the samples are worth."""

import numpy as np
import pytest

from medsegdiff_auto.decision.conformal import (conformal_margin, conformal_score, margin_for, margins_by_samples,
                                                sample_quantiles, widened)


def cases(num_cases, spread_of_samples, bias, generator):
    """Sizes of 8 samples and of the reference: log-normal about a centre of the case."""
    centres = generator.lognormal(2, 0.5, num_cases)
    samples = centres[:, None] * np.exp(spread_of_samples * generator.standard_normal((num_cases, 8)) + bias)
    return list(zip(samples, centres * np.exp(0.2 * generator.standard_normal(num_cases))))


@pytest.mark.parametrize("spread_of_samples, bias", [(0.02, 0.0), (0.2, 0.0), (0.6, 0.0), (0.05, 0.15)])
def test_intervals_hold_ninety_percent_of_new_references_whether_samples_are_too_alike_too_far_apart_or_biased(
        spread_of_samples, bias):
    """Samples that are too far apart may hold a little more: they are narrowed where 40 cases resolve it."""
    generator, held = np.random.default_rng(0), []
    for _ in range(100):
        margin = conformal_margin([conformal_score(*case) for case in cases(40, spread_of_samples, bias, generator)])
        for sizes, reference in cases(40, spread_of_samples, bias, generator):
            lower, upper = widened(*sample_quantiles(sizes), margin)
            held.append(lower <= reference <= upper)
    assert 0.88 <= np.mean(held) <= (0.96 if spread_of_samples == 0.6 else 0.95)


def test_fewer_samples_than_were_fitted_with_hold_as_often_by_a_margin_of_their_own():
    generator, held, with_margin_of_all = np.random.default_rng(0), [], []
    for _ in range(100):
        sizes, references = zip(*cases(40, 0.2, 0.0, generator))
        margins = margins_by_samples(sizes, references)
        for of_case, reference in cases(40, 0.2, 0.0, generator):
            for found, margin in ((held, margin_for(margins, 2)), (with_margin_of_all, margins[-1])):
                lower, upper = widened(*sample_quantiles(of_case[:2]), margin)
                found.append(lower <= reference <= upper)
    assert len(margins) == 8 and 0.88 <= np.mean(held) <= 0.95
    assert np.mean(with_margin_of_all) < 0.85


def test_more_samples_than_were_fitted_with_take_the_margin_of_the_most():
    assert margin_for([0.4, 0.3, 0.2], 16) == 0.2 and margin_for([0.4, 0.3, 0.2], 1) == 0.4
    assert margin_for(None, 8) is None and margins_by_samples([], []) == []


def test_the_margin_is_the_score_of_the_conformal_rank():
    scores = [0.1 * k for k in range(1, 11)]
    assert conformal_margin(scores, 0.9) == pytest.approx(1.0)  # rank ceil(11 * 0.9) = 10 of 10
    assert conformal_margin(scores, 0.8) == pytest.approx(0.9)
    assert conformal_margin(scores[:8], 0.9) is None


def test_the_score_is_how_far_the_reference_lies_outside_in_medians():
    sizes = np.array([9.0, 10.0, 10.0, 10.0, 11.0])
    lower, middle, upper = sample_quantiles(sizes)
    assert (lower, middle, upper) == pytest.approx((9.2, 10.0, 10.8))
    assert conformal_score(sizes, 12.8) == pytest.approx(0.2)
    assert conformal_score(sizes, 10.0) == pytest.approx(-0.08)
    assert conformal_score(np.zeros(5), 3.0) is None


def test_a_negative_margin_narrows_down_to_the_median_and_none_changes_nothing():
    assert widened(8.0, 10.0, 14.0, -0.1) == pytest.approx((9.0, 13.0))
    assert widened(8.0, 10.0, 14.0, -0.5) == (10.0, 10.0)
    assert widened(8.0, 10.0, 14.0, None) == (8.0, 14.0)
    assert widened(1.0, 10.0, 14.0, 0.5) == (0.0, 19.0)


@pytest.mark.parametrize("num_cases, num_outside, narrows", [(60, 0, True), (60, 1, True), (60, 2, False),
                                                             (28, 0, False), (29, 0, True)])
def test_a_margin_narrows_only_where_the_cases_resolve_that_the_interval_holds_too_often(num_cases, num_outside,
                                                                                        narrows):
    """P(all of 29 held) = 0.9^29 = 0.047, of 28 0.052; P(59 or 60 of 60) = 0.014, P(58 or more) = 0.053."""
    scores = [-0.2] * (num_cases - num_outside) + [0.5] * num_outside
    assert conformal_margin(scores) == (-0.2 if narrows else 0.0)
