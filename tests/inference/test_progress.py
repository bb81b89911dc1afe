"""Bars follow the network's calls on a terminal, and nothing is printed elsewhere."""

import io
import sys
from functools import partial
from types import SimpleNamespace

import pytest
from tqdm import tqdm

from medsegdiff_auto.inference import progress as progress_module
from medsegdiff_auto.inference.expected_cost import CallCost, CaseCost
from medsegdiff_auto.inference.predictor import EVALUATION, FORWARD, LEFT_OUT
from medsegdiff_auto.inference.progress import progress_over

COST, CALLS = CaseCost(2, 4, 4, 16), CallCost(forward_s=3.0, evaluation_s=0.5, view_bytes=1)  # 12 s and 8 s


class Stderr(io.StringIO):
    def __init__(self, is_terminal):
        super().__init__()
        self.is_terminal = is_terminal

    def isatty(self):
        return self.is_terminal


def printed(monkeypatch, is_terminal, calls) -> str:
    stderr, predictor = Stderr(is_terminal), SimpleNamespace(on_call=lambda kind, count: None)
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setattr(progress_module, "tqdm", partial(tqdm, mininterval=0, miniters=0))
    before = predictor.on_call
    with progress_over(1) as progress, progress.of_case("brain", predictor, COST, CALLS):
        for call in calls:
            predictor.on_call(*call)
    assert predictor.on_call is before
    return stderr.getvalue()


def test_nothing_is_printed_where_standard_error_is_no_terminal(monkeypatch):
    assert printed(monkeypatch, False, [(FORWARD, 4), (EVALUATION, 16)]) == ""


def test_a_terminal_sees_expected_seconds_pass_and_the_cases_count(monkeypatch):
    shown = printed(monkeypatch, True, [(FORWARD, 4), (EVALUATION, 8), (EVALUATION, 8)])
    for part in ("brain:   0%", "brain:  60%", "brain:  80%", "brain: 100%", "0/1", "1/1"):
        assert part in shown


def test_evaluations_that_are_left_out_shorten_the_bar(monkeypatch):
    shown = printed(monkeypatch, True, [(FORWARD, 4), (LEFT_OUT, 8), (EVALUATION, 4), (EVALUATION, 4)])
    assert "brain:  75%" not in shown and "brain:  88%" in shown and "brain: 100%" in shown


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_hook_comes_off_when_a_case_fails(monkeypatch, is_terminal):
    predictor = SimpleNamespace(on_call=None)
    monkeypatch.setattr(sys, "stderr", Stderr(is_terminal))
    with pytest.raises(KeyError), progress_over(1) as progress, progress.of_case("brain", predictor, COST, CALLS):
        raise KeyError
    assert predictor.on_call is None
