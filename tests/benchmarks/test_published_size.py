"""Figures of the results that are counted, not measured."""

from medsegdiff_auto.benchmarks.preset_cost import published_parameters


def test_paper_at_the_published_widths_has_the_parameters_that_the_results_state():
    assert abs(published_parameters() - 101.5) < 0.05
