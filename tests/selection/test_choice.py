"""The choice of steps, samples, fusion, postprocessing and temperature, on stored samples whose best answer is known by
hand.
"""

import numpy as np
import pytest
from nnunetv2.utilities.label_handling.label_handling import LabelManager

from medsegdiff_auto.selection.choice import Candidate, Scores, candidates, fused_label_map, select
from medsegdiff_auto.selection.stored_samples import StoredCase, read_stored_case
from medsegdiff_auto.nnunet.structures import Structure
from medsegdiff_auto.selection.temperature_fit import TEMPERATURES, UNCHANGED
from medsegdiff_auto.decision.decoder import decode

LABELS, ORGAN = LabelManager({"background": 0, "organ": 1}, None), Structure("organ", 1, (1,), 1)
REFERENCE = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
# Dice 1, 2/3, 2/5
WHOLE, HALF, QUARTER = REFERENCE, REFERENCE * [1, 1, 0, 0, 0, 0, 0, 0, 0, 0], REFERENCE * [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]
SPECK = REFERENCE + [0, 0, 0, 0, 0, 0, 0, 0, 0, 1]  # Dice 8/9, without the speck 1
FOLDS = {0: ["a", "b"], 1: ["c", "d"]}
FLAT = np.ones(len(TEMPERATURES))


def stored(*means, samples=None, nll=None) -> StoredCase:
    """A case whose n-th mean is given; the samples are nothing unless told otherwise, so that other fusions find
    nothing.
    """
    maps = np.array(means, np.uint8)[:, None, None]
    drawn = np.zeros_like(maps) if samples is None else np.array(samples, np.uint8)[:, None, None]
    return StoredCase(drawn, maps, np.stack([FLAT] * len(means)) if nll is None else np.array(nll))


def selected(by_step: dict, num_samples: int = 2, folds=FOLDS):
    """``by_step[num_steps]`` is one stored case for all, or by case."""
    def read(case: str, num_steps: int) -> StoredCase:
        of_step = by_step[num_steps]
        return of_step[case] if isinstance(of_step, dict) else of_step

    return select(
        Scores(folds, candidates(sorted(by_step), num_samples), read, lambda case: REFERENCE[None, None], [ORGAN],
               LABELS))


def test_the_candidate_of_the_highest_dice_is_chosen():
    found = selected({1: stored(HALF, QUARTER), 4: stored(HALF, WHOLE)})
    assert found.choice.candidate == Candidate(4, 2, "mean")
    assert found.by_candidate[Candidate(1, 2, "mean")][0] == pytest.approx(2 / 5)
    assert found.by_candidate[Candidate(4, 1, "mean")][0] == pytest.approx(2 / 3)
    assert found.choice.score == found.held_out_score == 1


def test_of_equals_the_one_with_the_fewest_network_evaluations_is_chosen():
    assert selected({1: stored(HALF, HALF), 2: stored(WHOLE, WHOLE),
                     4: stored(WHOLE, WHOLE)}).choice.candidate == Candidate(2, 1, "mean")
    assert selected({1: stored(HALF, WHOLE), 4: stored(WHOLE, WHOLE)}).choice.candidate == Candidate(1, 2, "mean")


def test_a_fusion_of_the_samples_is_chosen_where_it_is_better_than_the_mean():
    found = selected({1: stored(HALF, HALF, samples=[WHOLE, WHOLE])})
    assert found.choice.candidate in (Candidate(1, 2, "staple"), Candidate(1, 2, "dice")) and found.choice.score == 1
    assert found.by_candidate[Candidate(1, 2, "mean")][0] == pytest.approx(2 / 3)


def test_the_held_out_score_is_that_of_a_choice_made_on_the_other_folds():
    """Fold 0 is better in one step (1 against 2/5), fold 1 in two (1 against 2/3): each is judged under the other's
    choice.
    """
    one_step = {case: stored(WHOLE) if case in FOLDS[0] else stored(HALF) for case in "abcd"}
    two_steps = {case: stored(QUARTER) if case in FOLDS[0] else stored(WHOLE) for case in "abcd"}
    found = selected({1: one_step, 2: two_steps}, num_samples=1)
    assert found.choice.candidate == Candidate(1, 1, "mean") and found.choice.score == pytest.approx((1 + 2 / 3) / 2)
    assert {fold: choice.candidate.num_steps for fold, choice in found.held_out.items()} == {0: 2, 1: 1}
    assert found.held_out_score == pytest.approx((2 / 5 + 2 / 3) / 2)


def test_nothing_is_held_out_of_a_single_fold():
    found = selected({1: stored(WHOLE)}, 1, {0: ["a", "b"]})
    assert found.held_out == {} and found.held_out_score is None and found.choice.score == 1


def test_a_postprocessing_step_is_kept_where_it_raises_the_score():
    found = selected({1: stored(SPECK)}, num_samples=1)
    assert found.by_candidate[Candidate(1, 1, "mean")][0] == pytest.approx(8 / 9)
    assert found.choice.postprocessing == (0,) and found.choice.score == found.held_out_score == 1
    assert selected({1: stored(WHOLE)}, num_samples=1).choice.postprocessing == ()


def test_the_temperature_is_that_of_the_lowest_likelihood_of_the_chosen_samples():
    softer, surer = (np.abs(np.arange(len(TEMPERATURES)) - at) * 0.01 for at in (12, 4))
    found = selected({1: stored(HALF, WHOLE, nll=[surer, softer])})
    assert found.choice.candidate.num_samples == 2 and found.choice.temperature == TEMPERATURES[
        12] and found.choice.nll == 0
    halves = {case: stored(WHOLE, nll=[softer if case in FOLDS[0] else surer]) for case in "abcd"}
    found = selected({1: halves}, num_samples=1)
    assert found.held_out[0].temperature == TEMPERATURES[4] and found.held_out_nll == pytest.approx(0.08)


def test_a_case_without_a_structure_counts_in_no_mean():
    empty = StoredCase(np.zeros((1, 1, 1, 10), np.uint8), np.zeros((1, 1, 1, 10), np.uint8),
                       np.full((1, len(TEMPERATURES)), np.nan))
    references = {"a": REFERENCE, "b": np.zeros(10, int)}
    scores = Scores({0: ["a", "b"]}, candidates([1], 1), lambda case, _: stored(HALF) if case == "a" else empty,
                    lambda case: references[case][None, None], [ORGAN], LABELS)
    found = select(scores)
    # the curve is flat
    assert found.choice.score == pytest.approx(2 / 3) and found.choice.temperature == TEMPERATURES[0]
    assert UNCHANGED and found.choice.nll == pytest.approx(1)


@pytest.mark.parametrize("fusion", ["mean", "staple", "dice"])
@pytest.mark.parametrize("labels", [
    LabelManager({"background": 0, "edge": 1, "core": 2}, None),
    LabelManager({"background": 0, "whole": [1, 2], "core": 2}, [1, 2])
], ids=["classes", "regions"])
def test_the_stored_samples_fuse_to_what_a_prediction_makes_of_them(labels, fusion):
    generator = np.random.default_rng(0)
    samples = generator.integers(0, 3, (3, 2, 5, 6)).astype(np.uint8)
    probabilities = generator.dirichlet(
        (1, 1, 1), (2, 5, 6)).transpose(3, 0, 1, 2)[-labels.num_segmentation_heads:].astype(np.float32)
    mean = np.asarray(labels.convert_probabilities_to_segmentation(probabilities))
    case = StoredCase(samples, np.stack([np.zeros_like(mean), mean, np.zeros_like(mean)]), np.zeros((3, 25)))
    np.testing.assert_array_equal(fused_label_map(case, Candidate(1, 2, fusion), labels),
                                  decode(fusion, probabilities, samples[:2], labels))


def test_a_stored_case_is_read_as_it_was_written(tmp_path):
    case = stored(WHOLE, HALF, samples=[HALF, QUARTER], nll=np.arange(50.0).reshape(2, 25))
    case.write(tmp_path / "a.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    for name in ("samples", "means", "nll"):
        np.testing.assert_array_equal(getattr(read_stored_case(tmp_path / "a.npz"), name), getattr(case, name))


def test_a_choice_keeps_as_many_samples_as_intervals_need():
    assert {c.num_samples for c in candidates([2], 6, fewest=4)} == {4, 5, 6}
    assert {c.num_samples for c in candidates([2], 3, fewest=4)} == {3}
