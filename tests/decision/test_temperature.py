"""Temperature makes probabilities softer or surer, and no label another."""

import numpy as np
import pytest

from medsegdiff_auto.decision.temperature import at_temperature, scaled


def test_two_classes_and_a_region_get_the_sigmoid_of_the_divided_logit():
    p = np.array([0.9, 0.3, 0.5], np.float32)
    expected = 1 / (1 + np.exp(-np.log(p / (1 - p)) / 2))
    np.testing.assert_allclose(scaled(np.stack([1 - p, p]), 2.0, regions=False)[1], expected, rtol=1e-5)
    np.testing.assert_allclose(scaled(p[None], 2.0, regions=True)[0], expected, rtol=1e-5)


def test_three_classes_get_the_normalised_roots():
    p = np.array([0.64, 0.32, 0.04])[:, None]
    roots = np.sqrt(p)
    np.testing.assert_allclose(scaled(p, 2.0, regions=False), roots / roots.sum(), rtol=1e-5)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 3.0])
@pytest.mark.parametrize("regions", [False, True])
def test_no_label_changes(regions, temperature):
    p = np.random.default_rng(0).dirichlet((0.5, 0.5, 0.5), 5000).T.astype(np.float32)
    tempered = at_temperature(p, temperature, regions)
    if regions:
        np.testing.assert_array_equal(tempered > 0.5, p > 0.5)
    else:
        np.testing.assert_array_equal(tempered.argmax(0), p.argmax(0))
        np.testing.assert_allclose(tempered.sum(0), 1, atol=1e-5)


def test_what_is_as_certain_as_numbers_can_say_stays_so():
    background = np.array([1 - 2e-6, 1e-6, 1e-6], np.float32)[:, None]
    np.testing.assert_array_equal(at_temperature(background, 3.0, regions=False), background)
    np.testing.assert_array_equal(at_temperature(background, 3.0, regions=True), background)
    doubtful = np.array([[0.999], [0.0009], [0.0001]], np.float32)
    assert at_temperature(doubtful, 3.0, regions=False)[1, 0] > 0.05
    assert at_temperature(doubtful, 1.0, regions=False) is doubtful
