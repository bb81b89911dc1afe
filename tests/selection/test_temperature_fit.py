"""The fitted temperature on cases whose answer is known."""

import math

import numpy as np
import pytest

from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.selection.temperature_fit import (TEMPERATURES, UNCHANGED, best_temperature, fit_temperature,
                                                    nll_by_temperature)

ORGAN = Structure("organ", 1, (1,), 1)


def curve_of(overconfidence: float, seed: int) -> np.ndarray:
    """A case of true probabilities whose logits are given ``overconfidence`` times too large."""
    generator = np.random.default_rng(seed)
    logit = generator.normal(0, 1.5, (40, 40, 10))
    reference = (generator.random(logit.shape) < 1 / (1 + np.exp(-logit))).astype(int)
    p = 1 / (1 + np.exp(-overconfidence * logit))
    return nll_by_temperature(np.stack([1 - p, p]), (p > 0.5).astype(int), reference, [ORGAN], regions=False)


def test_the_unchanged_temperature_is_one():
    assert TEMPERATURES[UNCHANGED] == pytest.approx(1)


@pytest.mark.parametrize("overconfidence", [0.7, 1.0, 2.0, 3.0])
def test_logits_that_are_too_large_by_a_factor_get_that_temperature(overconfidence):
    temperature, nll = fit_temperature(np.stack([curve_of(overconfidence, seed) for seed in range(4)]))
    assert temperature == pytest.approx(overconfidence, rel=0.06)
    assert nll["unseen"] <= nll["as drawn"]


def test_the_curve_is_the_likelihood_of_the_voxels_near_the_structure():
    probabilities = np.full((2, 1, 1, 9), 0.5)
    probabilities[:, 0, 0, 4], probabilities[:, 0, 0, 0] = (0.1, 0.9), (0.9, 0.1)
    reference, prediction = np.zeros((2, 1, 1, 9), int)
    reference[0, 0, 4] = prediction[0, 0, 4] = 1
    curve = nll_by_temperature(probabilities, prediction, reference, [ORGAN], regions=False)
    at_four = 1 / (1 + 9 ** (-1 / 4))  # of five voxels two away at most, one has 0.9 and four have 0.5
    assert curve[UNCHANGED] == pytest.approx((-math.log(0.9) - 4 * math.log(0.5)) / 5, rel=1e-5)
    assert curve[-1] == pytest.approx((-math.log(at_four) - 4 * math.log(0.5)) / 5, rel=1e-5)


def test_ignored_voxels_do_not_count():
    probabilities, reference = np.full((2, 1, 1, 3), 0.5), np.array([[[1, 2, 1]]])
    probabilities[:, 0, 0, 1] = 0.999, 0.001
    curve = nll_by_temperature(probabilities, np.ones((1, 1, 3), int), reference, [ORGAN], False, ignore_label=2)
    np.testing.assert_allclose(curve, math.log(2), rtol=1e-5)


def test_a_temperature_that_only_fits_its_own_half_is_not_taken():
    up, down = (np.abs(np.arange(len(TEMPERATURES)) - best) * 0.1 for best in (0, len(TEMPERATURES) - 1))
    temperature, nll = fit_temperature(np.stack([up, down, up, down]))
    assert temperature == 1 and nll["unseen"] == pytest.approx(2.4) and nll["as drawn"] == pytest.approx(1.2)


def test_cases_without_a_structure_and_single_cases_leave_the_temperature_at_one():
    nothing = nll_by_temperature(np.full((2, 1, 1, 3), 0.5), *np.zeros((2, 1, 1, 3), int), [ORGAN], regions=False)
    assert np.isnan(nothing).all() and best_temperature(nothing[None]) == UNCHANGED
    assert fit_temperature(np.stack([nothing, curve_of(3.0, 0)])) == (1.0, {})
