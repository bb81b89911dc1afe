"""The plain network's weight in the fused mask: a fit changes it only where the cases resolve that masks get better."""

import numpy as np

from medsegdiff_auto.selection.drawn_cases import FusedScores
from medsegdiff_auto.selection.sampling_fit import best_weight


def fused(dice, nll, spread=0.0, seed=0):
    """Twenty cases of this mean Dice, the differences between two weights spread by so much."""
    noise = np.random.default_rng(seed).normal(0, 1, 20)
    return FusedScores(dice + 0.05 * np.linspace(-1, 1, 20) + spread * (noise - noise.mean()), np.full((3, 25), nll))


def test_the_weight_is_the_most_likely_of_those_that_score_alike_and_better_than_the_planned_one():
    of_weights = {0.0: fused(0.8, 0.1), 0.25: fused(0.85, 0.9), 0.5: fused(0.8995, 0.2), 0.75: fused(0.8999, 0.3),
                  1.0: fused(0.9, 0.4)}
    assert best_weight(of_weights, 0.25) == 0.5
    of_weights[0.5] = fused(0.8985, 0.2)
    assert best_weight(of_weights, 0.25) == 0.75


def test_the_planned_weight_stays_where_the_cases_do_not_resolve_a_better_one():
    """0.003 in the mean of 20 cases whose differences spread by 0.02 is chance (standard error 0.0045)."""
    of_weights = {0.5: fused(0.9, 0.4), 1.0: fused(0.903, 0.1, spread=0.02)}
    assert best_weight(of_weights, 0.5) == 0.5
    of_weights[1.0] = fused(0.903, 0.1, spread=0.002)
    assert best_weight(of_weights, 0.5) == 1.0
    worse = {0.5: fused(0.9, 0.4), 1.0: fused(0.89, 0.1)}
    assert best_weight(worse, 0.5) == 0.5


def test_without_a_structure_in_any_case_the_planned_weight_stays():
    nowhere = FusedScores(np.full(3, np.nan), np.full((3, 25), np.nan))
    assert best_weight({0.0: nowhere, 0.5: nowhere}, 0.5) == 0.5
