"""The arithmetic of what a case will cost, by hand and with a clock that is told the time."""

from types import SimpleNamespace

import pytest
import torch

from medsegdiff_auto.inference.expected_cost import CallCost, CaseCost, _timed, cost_statement, views_in_calls

CALLS = CallCost(forward_s=0.5, evaluation_s=0.25, view_bytes=100)


def predictor(num_samples, num_views, samples_per_call, num_steps=3):
    return SimpleNamespace(num_samples=num_samples, views=[()] * num_views, samples_per_call=samples_per_call,
                           num_steps=num_steps, list_of_parameters=[{}, {}])


def test_the_seconds_are_those_of_all_looks_and_evaluations():
    assert CaseCost(num_tiles=3, num_looks=12, num_forwards=12,
                    num_evaluations=48).seconds(CALLS) == 12 * 0.5 + 48 * 0.25


def test_a_preset_without_nnunets_network_still_pays_for_looking_at_the_image():
    assert CaseCost(num_tiles=1, num_looks=4, num_forwards=0, num_evaluations=8).seconds(CALLS) == 4 * 0.5 + 8 * 0.25


@pytest.mark.parametrize("shown, num_views, samples_per_call, expected", [
    ([range(8)], 4, 8, 4),  # one batch of views 0 1 2 3 0 1 2 3
    ([range(8)], 4, 2, 8),  # 01 23 01 23
    ([range(3), range(3, 6), range(6, 8)], 4, 8, 8),  # 012 301 23
    ([range(8)], 1, 3, 3),  # three batches, one view
    ([range(8, 16)], 3, 4, 6),  # views 2 0 1 2, 0 1 2 0
    ([range(4), range(8)], 4, 8, 8),  # two steps, the first one shared
])
def test_views_are_looked_at_again_once_in_every_batch_that_asks_for_them(shown, num_views, samples_per_call, expected):
    assert views_in_calls(shown, num_views, samples_per_call) == expected


def told(*times):
    times = iter(times)
    return lambda: next(times)


def test_a_short_call_is_timed_when_it_is_warm_and_a_long_one_at_once():
    calls = []
    device = torch.device("cpu")
    assert _timed(lambda: calls.append("short"), device, told(0.0, 0.4, 1.0, 1.1))[1] == pytest.approx(0.1)
    assert _timed(lambda: calls.append("long"), device, told(0.0, 0.6))[1] == pytest.approx(0.6)
    assert calls == ["short", "short", "long"]


def test_the_statement_says_calls_and_seconds_of_a_case_and_of_all():
    cost = CaseCost(num_tiles=3, num_looks=12, num_forwards=12, num_evaluations=48)
    line = cost_statement("a", cost, CALLS, predictor(8, 2, 8), num_cases=5)
    assert line == ("a: at most 12 evaluations of nnU-Net's network and 48 of the denoiser (tiles 3, folds 2, views 2, "
                    "samples 8, "
                    "steps 3), about 18 s; 5 cases of this size about 90 s")
    assert cost_statement("a", cost, CALLS, predictor(8, 2, 8), num_cases=1).endswith("about 18 s")
    assert "about 1800 s" in cost_statement("a", cost, CallCost(50, 25, 1), predictor(8, 2, 8), num_cases=1)
    assert "about 0.018 s" in cost_statement("a", cost, CallCost(0.0005, 0.00025, 1), predictor(8, 2, 8), num_cases=1)
