"""The regression of real Dice: it finds what is there, on cases left out, and nothing where nothing is."""

import math
from dataclasses import replace

import numpy as np
import pytest

from medsegdiff_auto.selection.quality_fit import FEWEST_CASES, JudgedMask, fit_quality


def masks(num_cases=60, noise=0.02, seed=0, from_samples=0.95):
    """Dice = 0.6 - 0.1 log(1 - soft) + 0.02 log(size) of an organ, 0.2 less of a lesion."""
    rng = np.random.default_rng(seed)
    found = []
    for case in range(num_cases):
        for structure, offset in (("organ", 0.6), ("lesion", 0.4)):
            soft, size = float(rng.uniform(0.5, 0.95)), float(np.exp(rng.normal(2, 1)))
            dice = offset - 0.1 * math.log(1 - soft) + 0.02 * math.log(size) + rng.normal(0, noise)
            found.append(JudgedMask(str(case), structure, soft, size, from_samples, float(np.clip(dice, 0, 1))))
    return found


def test_the_relation_is_found_and_its_bound_holds_nine_of_ten_new_cases():
    fit = fit_quality(masks())
    assert fit.doubt == pytest.approx(-0.1, abs=0.01) and fit.size == pytest.approx(0.02, abs=0.005)
    assert fit.intercepts["organ"] - fit.intercepts["lesion"] == pytest.approx(0.2, abs=0.02)
    assert fit.correlation > 0.9 and fit.error < 0.03 < fit.error_of_samples and fit.num_cases == 60
    new = masks(300, seed=1)
    estimates = [fit.expected_dice(one.structure, one.soft_dice, one.size) for one in new]
    assert np.mean([abs(expected - one.dice) for (expected, _), one in zip(estimates, new)]) < 0.03
    assert np.mean([one.dice >= low for (_, low), one in zip(estimates, new)]) == pytest.approx(0.9, abs=0.05)


def test_the_size_counts_only_where_the_cases_resolve_that_it_helps():
    unrelated = [replace(one, size=1 + int(one.case) % 7) for one in masks()]
    assert fit_quality(unrelated).size == 0 and fit_quality(unrelated).doubt < -0.05


def test_where_nothing_tells_the_estimate_is_the_mean_and_says_so():
    rng = np.random.default_rng(2)
    unrelated = [replace(one, dice=float(rng.uniform(0.5, 0.9))) for one in masks()]
    fit = fit_quality(unrelated)
    assert abs(fit.correlation) < 0.3
    assert fit.expected_dice("organ", 0.7, 7.0)[0] == pytest.approx(0.7, abs=0.05)


def test_samples_that_know_better_are_left_to_speak():
    honest = [replace(one, from_samples=one.dice) for one in masks()]
    assert fit_quality(honest) is None


def test_too_few_cases_and_empty_masks_do_not_count():
    assert fit_quality(masks(FEWEST_CASES - 1)) is None
    some = masks(FEWEST_CASES)
    assert fit_quality(some) is not None
    emptied = [replace(one, size=0.0, soft_dice=math.nan) if one.case == "3" else one for one in some]
    assert fit_quality(emptied) is None
    assert fit_quality([]) is None
