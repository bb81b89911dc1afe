"""The expected Dice of a mask: its regression, and the soft Dice behind it, against what is worked out by hand."""

import json
import math
from dataclasses import asdict

import numpy as np
import pytest

from medsegdiff_auto.decision.fitted_sampling import FittedSampling, read_fitted_sampling
from medsegdiff_auto.decision.quality import QualityFit, soft_dices
from medsegdiff_auto.nnunet.structures import structures_of
from medsegdiff_auto.sampling.volume_store import in_memory

QUALITY = QualityFit({"organ": 0.5, "lesion": 0.3}, doubt=-0.1, size=0.05, margin=0.2, correlation=0.6, error=0.05,
                     error_of_samples=0.1, num_cases=30)


def test_soft_dice_is_that_of_mask_and_probabilities_slab_by_slab(monkeypatch):
    monkeypatch.setattr("medsegdiff_auto.sampling.volume_store.ELEMENTS_PER_BLOCK", 1)
    organ = np.array([[[0.9, 0.6, 0.1]], [[0.2, 0.7, 0.0]]], np.float32)
    probabilities = np.stack([1 - organ, organ, np.zeros_like(organ)])
    labels = (organ > 0.5).astype(np.uint8)
    structures = structures_of({"labels": {"background": 0, "organ": 1, "lesion": 2}})
    of_organ, of_lesion = soft_dices(in_memory(probabilities), labels, structures, 1.0, False)
    assert of_organ == pytest.approx(2 * (0.9 + 0.6 + 0.7) / (3 + 2.5)) and math.isnan(of_lesion)


def test_soft_dice_of_voxels_drawn_by_themselves_is_near_their_mean_dice():
    rng = np.random.default_rng(0)
    organ = rng.beta(0.3, 0.3, (1, 60, 60)).astype(np.float32)
    mask = organ > 0.5
    drawn = rng.random((200, *organ.shape)) < organ
    dice = 2 * (drawn & mask).sum((1, 2, 3)) / (drawn.sum((1, 2, 3)) + mask.sum())
    structures = structures_of({"labels": {"background": 0, "organ": 1}})
    (soft,) = soft_dices(in_memory(np.stack([1 - organ, organ])), mask.astype(np.uint8), structures, 1.0, False)
    assert soft == pytest.approx(dice.mean(), abs=0.002)


def test_the_estimate_is_the_regression_within_zero_and_one_with_its_bound_below():
    expected, low = QUALITY.expected_dice("organ", soft_dice=0.9, size=math.e)
    assert expected == pytest.approx(0.5 - 0.1 * math.log(0.1) + 0.05) and low == pytest.approx(expected - 0.2)
    assert QUALITY.expected_dice("lesion", 0.9, math.e)[0] == pytest.approx(expected - 0.2)
    assert QUALITY.expected_dice("organ", 1.0, 1e9) == (1.0, pytest.approx(1.0))
    assert QUALITY.expected_dice("organ", 0.0, 1e-9)[1] == 0.0


@pytest.mark.parametrize("structure, size", [("organ", 0.0), ("unknown", 5.0)])
def test_an_empty_mask_and_a_structure_that_was_not_fitted_have_no_estimate(structure, size):
    assert all(math.isnan(value) for value in QUALITY.expected_dice(structure, 0.9, size))


def test_the_fit_is_read_back_from_the_model_folder_and_files_of_before_have_none(tmp_path):
    fitted = FittedSampling(1.0, 0.5, 8, 1, 30, 0.8, 0.8, quality=QUALITY)
    file = fitted.write(tmp_path)
    assert read_fitted_sampling(tmp_path) == fitted
    content = json.loads(file.read_text(encoding="utf-8"))
    assert content["quality"] == asdict(QUALITY)
    del content["quality"]
    file.write_text(json.dumps(content))
    assert read_fitted_sampling(tmp_path).quality is None
