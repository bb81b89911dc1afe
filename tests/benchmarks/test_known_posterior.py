"""Ranks among a known distribution: uniform for draws from it, and by how much they are not otherwise."""

import numpy as np
import pytest

from medsegdiff_auto.benchmarks.uncertainty.known_posterior import distance_from_uniform, mid_ranks


def test_ties_count_half():
    assert mid_ranks(np.array([0, 1, 2, 9]), np.array([1, 1, 2, 3])).tolist() == [0, 0.25, 0.625, 1]


def test_draws_from_the_distribution_have_uniform_ranks():
    generator = np.random.default_rng(0)
    distribution = np.sort(generator.gamma(3, size=4000))
    assert distance_from_uniform(mid_ranks(generator.gamma(3, size=4000), distribution)) < 0.04
    narrower = 3 + 0.3 * (generator.gamma(3, size=4000) - 3)
    assert distance_from_uniform(mid_ranks(narrower, distribution)) > 0.2


def test_distance_of_one_rank():
    assert distance_from_uniform(np.array([0.3])) == pytest.approx(0.7)
