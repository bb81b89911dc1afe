"""The table of cases: which of them a person should look at."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from medsegdiff_auto.inference.case_table import (StructureSize, add_to_case_table, case_rows, flag_cases,
                                                  read_case_table, structure_sizes, with_quality)
from medsegdiff_auto.inference.model import validation_dice
from medsegdiff_auto.sampling.volume_store import in_memory


def row(case: str, structure: str, expected_dice: float) -> dict:
    return {"case": case, "structure": structure, "expected_dice": f"{expected_dice:.4f}"}


def test_rows_below_the_limit_are_marked_and_returned_worst_first(tmp_path):
    add_to_case_table([row("b", "organ", 0.79), row("b", "lesion", 0.8)], tmp_path)
    add_to_case_table([row("a", "organ", 0.95), row("a", "lesion", 0.1)], tmp_path)
    assert [(r["case"], r["structure"]) for r in flag_cases(tmp_path, 0.8)] == [("a", "lesion"), ("b", "organ")]
    assert [(r["case"], r["flagged"]) for r in read_case_table(tmp_path)] == [
        ("a", "no"), ("a", "yes"), ("b", "yes"), ("b", "no")]


def test_another_limit_marks_all_rows_anew_those_of_earlier_runs_included(tmp_path):
    add_to_case_table([row("a", "organ", 0.5)], tmp_path)
    flag_cases(tmp_path, 0.8)
    add_to_case_table([row("b", "organ", 0.3)], tmp_path)
    assert [r["flagged"] for r in read_case_table(tmp_path)] == ["yes", ""]
    assert [r["case"] for r in flag_cases(tmp_path, 0.4)] == ["b"]
    assert [r["flagged"] for r in read_case_table(tmp_path)] == ["no", "yes"]


def test_an_absent_structure_has_an_empty_cell_and_is_never_flagged(tmp_path):
    empty, dataset_json = in_memory(np.zeros((1, 4, 4), np.uint8)), {"labels": {"organ": 1}, "file_ending": ".nii.gz"}
    sizes = structure_sizes(np.zeros((1, 4, 4), np.uint8), [empty] * 3, dataset_json, [1.0, 1.0, 1.0])
    add_to_case_table(case_rows("a", sizes, 3), tmp_path)
    assert flag_cases(tmp_path, 0.9) == []
    (found,) = read_case_table(tmp_path)
    assert (found["expected_dice"], found["expected_dice_between_samples"], found["flagged"]) == ("", "", "no")
    assert found["area_mm2"] == "0"


@pytest.mark.parametrize("of_samples, reached, expected", [(0.93, 0.56, 0.56), (0.4, 0.56, 0.4),
                                                           (math.nan, 0.56, None)])
def test_without_a_fit_samples_that_are_alike_promise_no_more_than_the_network_reached(of_samples, reached, expected):
    one = StructureSize("volume_ml", 1.0, 0.9, 1.1, "samples", of_samples, math.nan, "samples", 0.95)
    model = SimpleNamespace(fitted=None, validation_dice={"organ": reached})
    found = with_quality({"organ": one, "lesion": one}, None, model, 1.0)
    assert found["organ"].expected_dice == expected or (expected is None and math.isnan(found["organ"].expected_dice))
    assert found["lesion"] == one or math.isnan(of_samples)  # of which training tells nothing
    assert found["organ"].estimate == "samples"


@pytest.mark.parametrize("labels", [{"background": 0, "lesion": 2, "organ": 1},
                                    {"background": 0, "organ": [1, 2], "lesion": [2]}], ids=["labels", "regions"])
def test_what_the_folds_reached_is_told_by_the_name_of_the_structure(labels):
    checkpoints = [{"logging": {"dice_per_class_or_region": [[0.1, 0.1], row]}}
                   for row in ([0.8, 0.4], [0.6, math.nan])]
    found = validation_dice([*checkpoints, {}], {"labels": labels})
    assert found == {"organ": pytest.approx(0.7), "lesion": pytest.approx(0.4)}


def test_a_folder_without_a_table_has_nothing_to_flag(tmp_path):
    assert flag_cases(tmp_path, 0.8) == []


@pytest.mark.parametrize("num_samples, margin", [(2, 0.5), (3, 0.1), (5, 0.1)])
def test_the_interval_takes_the_margin_of_as_many_samples_as_there_are(num_samples, margin):
    mask = np.zeros((1, 8, 8), np.uint8)
    mask[0, :4, :5] = 1
    dataset_json = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    found = structure_sizes(mask, [in_memory(mask)] * num_samples, dataset_json, [1.0, 1.0, 1.0],
                            {"organ": [0.9, 0.5, 0.1]})["organ"]
    assert found.interval == "conformal" and (found.lower, found.upper) == pytest.approx(
        (20 * (1 - margin), 20 * (1 + margin)))


def test_an_interval_without_a_margin_for_so_few_samples_is_that_of_the_samples():
    mask = np.ones((1, 4, 4), np.uint8)
    dataset_json = {"labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    found = structure_sizes(mask, [in_memory(mask)] * 2, dataset_json, [1.0, 1.0, 1.0],
                            {"organ": [None, None, 0.1]})["organ"]
    assert found.interval == "samples" and (found.lower, found.upper) == (16, 16)
