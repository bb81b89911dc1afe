"""The benchmark of coherence compares voxels with themselves."""

import numpy as np
import pytest
import torch

from medsegdiff_auto.benchmarks.uncertainty.coherence import (between_and_inside, halfway, interval_of_ratio,
                                                              squared_error)
from medsegdiff_auto.nnunet.structures import structures_of


def test_moved_tiles_lie_halfway_and_cover_the_same_volume():
    assert halfway([0, 18, 36]) == [0, 9, 27, 36]
    assert halfway([0]) == [0]


def test_only_voxels_between_and_inside_count_each_against_itself():
    inside_then_between, between_then_inside, neither = 0, 1, 2
    first_share, second_share = np.array([0.95, 0.5, 0.95]), np.array([0.5, 0.95, 0.95])
    first, second = np.array([2.0, 3.0, 100.0]), np.array([1.0, 6.0, 100.0])
    between, inside = between_and_inside(first, second, first_share, second_share)
    assert between == second[inside_then_between] + first[between_then_inside]
    assert inside == first[inside_then_between] + second[between_then_inside]
    assert first[neither] not in (between, inside)


def test_the_interval_of_a_ratio_that_all_cases_share_is_a_point():
    assert interval_of_ratio(np.array([1.0, 2.0, 4.0]), np.array([2.0, 4.0, 8.0])) == pytest.approx((0.5, 0.5))


def test_the_error_is_that_of_the_mean_of_the_samples_over_all_structures():
    structures = structures_of({"labels": {"background": 0, "organ": 1, "lesion": 2}})
    # (S, K, voxels)
    samples = torch.tensor([[[0.0, 0.0], [1.0, 0.5], [0.0, 0.5]], [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]])
    error = squared_error(samples, np.array([1, 2]), structures)
    assert error == pytest.approx([(0.5 - 1) ** 2 + 0.5 ** 2, 0.25 ** 2 + (0.25 - 1) ** 2])
