"""The error of calibration over all cases together."""

import numpy as np
import pytest

from medsegdiff_auto.benchmarks.uncertainty.cross_fitting import pooled_ece
from medsegdiff_auto.evaluation.calibration import reliability


def curve(probability: float, share_of_foreground: float):
    outcomes = np.arange(100) < round(100 * share_of_foreground)
    return reliability(np.full(100, probability), outcomes)


def test_errors_of_two_cases_even_out_where_cases_are_pooled_but_not_those_of_two_structures():
    too_sure, too_modest = curve(0.7, 0.5), curve(0.7, 0.9)
    assert too_sure.expected_calibration_error == pytest.approx(
        too_modest.expected_calibration_error) == pytest.approx(0.2)
    rows = [{"structure": "organ", "reliability": too_sure}, {"structure": "organ", "reliability": too_modest}]
    assert pooled_ece(rows) == pytest.approx(0)
    assert pooled_ece(rows + [{"structure": "lesion", "reliability": too_sure}]) == pytest.approx(0.1)
    assert pooled_ece([{**row, "structure": str(number)} for number, row in enumerate(rows)]) == pytest.approx(0.2)
