"""What is stated before the first case is what the predictor counts, and nothing else is printed without a terminal."""

import re
from dataclasses import replace

import numpy as np
import pytest
from chain import FOLDS, command

from medsegdiff_auto.decision.fused_mean import LABELS, SAMPLE
from medsegdiff_auto.sampling import conditions
from medsegdiff_auto.inference import predictor as predictor_module
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.inference.expected_cost import case_cost, time_calls
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.inference.prediction import prepare_case
from medsegdiff_auto.inference.predictor import EVALUATION, FORWARD, LEFT_OUT, MedSegDiffPredictor, SamplingOptions

CHOICES = {
    "the plan's": (SamplingOptions(), {}), "four views": (SamplingOptions(6, num_mirrors=4), {}),
    "no memory": (SamplingOptions(3, 1, num_mirrors=2, samples_per_call=2), {"terms_bytes": 0.0,
                                                                             "samples_together": 1}),
    "some memory": (SamplingOptions(5, num_mirrors=2), {"terms_bytes": 1e6, "samples_together": 2})
}


def memory_of(predictor, data, **otherwise):
    """The plan of a case, or another division of the memory."""
    size = CaseSize(len(data), predictor.label_manager.num_segmentation_heads, data.shape[1:], data.shape[1:])
    return replace(predictor.memory_plan(size), **otherwise)


def decoded(states):
    return states.argmax(1).byte()


def prepared(chain, options):
    """A predictor, and an image of several tiles: the first test case twice along its last axis."""
    model = load_model(chain.model, list(FOLDS))
    data, _ = prepare_case(model, sorted((chain.raw / "imagesTs").glob(f"{chain.cases[0]}_*")))
    return MedSegDiffPredictor(model, options), np.concatenate([data, data], -1)


@pytest.mark.parametrize("choice", CHOICES)
def test_the_stated_calls_are_those_that_are_counted_where_every_tile_has_foreground(chain, monkeypatch, choice):
    monkeypatch.setattr(conditions, "NO_FOREGROUND_BELOW", -1.0)
    options, otherwise = CHOICES[choice]
    predictor, data = prepared(chain, options)
    memory = memory_of(predictor, data, **otherwise)
    cost = case_cost(predictor, data.shape, time_calls(predictor), memory)
    told = {FORWARD: 0, EVALUATION: 0, LEFT_OUT: 0}
    predictor.on_call = lambda kind, count: told.update({kind: told[kind] + count})
    for _ in predictor.draw_case(data, "case", memory, decode=decoded):
        pass
    assert cost.num_tiles > 1
    assert (cost.num_forwards, cost.num_evaluations) == (predictor.num_forwards, predictor.num_evaluations)
    assert told == {FORWARD: cost.num_looks, EVALUATION: cost.num_evaluations, LEFT_OUT: 0}
    least = len(FOLDS) * cost.num_tiles * len(predictor.views)
    assert cost.num_forwards > least if choice == "no memory" else cost.num_forwards >= least


def test_samples_come_in_their_order_however_many_are_drawn_together(chain_2d, folders):
    """Their numbers tell their noise and their view; label maps are drawn view by view, and sorted."""
    predictor, data = prepared(chain_2d, SamplingOptions(5, num_mirrors=2))

    def drawn(wanted, together, **how):
        memory = memory_of(predictor, data, samples_together=together)
        assert memory.keeps_labels
        return np.stack([volume.read().numpy() for kind, volume in predictor.draw_case(data, "case", memory, **how)
                         if kind == wanted])

    alone, all_at_once = drawn(SAMPLE, 1), drawn(SAMPLE, 5)
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(alone, all_at_once, atol=1e-4)
    for together in (1, 2, 5):
        maps = drawn(LABELS, together, decode=decoded)
        assert (maps != alone.argmax(1)).mean() < 1e-3 and (maps[0] != maps[1]).any()


def test_evaluations_that_are_left_out_are_told_and_add_up_to_the_stated_ones(chain_2d, folders, monkeypatch):
    monkeypatch.setattr(conditions, "NO_FOREGROUND_BELOW", 2.0)
    predictor, data = prepared(chain_2d, SamplingOptions(3))
    told = []
    predictor.on_call = lambda kind, count: told.append(count) if kind == LEFT_OUT else None
    for _ in predictor.draw_case(data, "case", decode=decoded):
        pass
    assert predictor.num_evaluations == 0
    assert sum(told) == case_cost(predictor, data.shape, time_calls(predictor), memory_of(predictor,
                                                                                          data)).num_evaluations


def test_seconds_of_one_view_and_one_sample_are_shares_of_the_timed_batches(chain_3d, folders):
    predictor, data = prepared(chain_3d, SamplingOptions(3, num_mirrors=2))
    clock = iter([0, 0.4, 1, 1.25, 2, 2.4, 3, 3.375])  # the second of each pair of calls counts
    calls = time_calls(predictor, lambda: next(clock))
    assert (calls.forward_s, calls.evaluation_s) == (0.25 / 2, 0.375 / 3)
    cost = case_cost(predictor, data.shape, calls, memory_of(predictor, data))
    assert cost.seconds(calls) == pytest.approx(cost.num_looks * 0.125 + cost.num_evaluations * 0.125)


def test_the_command_states_the_cost_once_before_the_first_case_and_then_a_line_per_case(
        chain_2d, folders, tmp_path, capsys, caplog):
    folders(chain_2d.root)
    capsys.readouterr()
    caplog.clear()
    assert command(f"predict -i {{0}} -o {{1}} -d {chain_2d.dataset} -c 2d -f 0 -device cpu --speed fast --samples 3",
                   chain_2d.raw / "imagesTs", tmp_path / "out") == 0
    fitted, *lines = caplog.messages
    assert capsys.readouterr().err == ""
    assert fitted == "Sampling as planned: nothing is fitted."
    assert len(lines) == 2 + len(chain_2d.cases)
    assert re.fullmatch(r"phantom_006: [\dx ]+, 3 samples, states in memory, about [\d.]+ GB at most", lines[0])
    stated = re.fullmatch(r"phantom_006: at most (\d+) evaluations of nnU-Net's network and (\d+) of the denoiser "
                          r"\(tiles (\d+), folds 1, views 1, samples 3, steps (\d+)\), about \S+ s; 2 cases of this "
                          r"size about \S+ s",
                          lines[1])
    forwards, evaluations, tiles, steps = map(int, stated.groups())
    assert forwards == tiles and steps == 1 and evaluations == 3 * tiles
    assert [line.split()[0] for line in lines[2:]] == chain_2d.cases


@pytest.mark.parametrize("is_large", [True, False])
def test_what_earlier_cases_have_freed_is_given_back_before_a_large_case_alone(chain_2d, folders, monkeypatch,
                                                                               is_large):
    given_back = []
    monkeypatch.setattr(predictor_module, "give_back_freed_memory", lambda: given_back.append(True))
    predictor, data = prepared(chain_2d, SamplingOptions(2, 1))
    next(predictor.draw_case(data, "case", memory_of(predictor, data, is_large=is_large)))
    assert bool(given_back) == is_large
