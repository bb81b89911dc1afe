"""What one more sample costs, by hand."""

import numpy as np

from medsegdiff_auto.benchmarks.prediction_time import NNUNET, Setting, extra_sample
from medsegdiff_auto.benchmarks.trained_model import case_means


def test_an_extra_sample_is_counted_in_forwards_of_one_view():
    seconds = {NNUNET: np.array([8.0, 16.0]), Setting(8, 3): np.array([4.0, 4.0]), Setting(16, 3): np.array([6.0, 8.0]),
               Setting(8, 1): np.array([1.0, 1.0]), Setting(16, 1): np.array([1.0, 1.0])}
    np.testing.assert_allclose(extra_sample(seconds, 3, num_views=8), [2 / 8 / 1, 4 / 8 / 2])
    np.testing.assert_allclose(extra_sample(seconds, 1, num_views=8), [0, 0])


def test_a_case_counts_once_however_many_structures_it_has_and_not_at_all_without_any():
    rows = [{"case": "a", "dice": 0.5}, {"case": "a", "dice": 1.0}, {"case": "b", "dice": 0.25},
            {"case": "c", "dice": np.nan}]
    assert case_means(rows, lambda row: row["dice"]) == [0.75, 0.25]
