"""The table of scores: metrics.csv is what it was before the table, and a score is given where its needs are met."""

import json
from importlib.metadata import version

import numpy as np
import pytest
from scored_folder import label_map

from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import read_array
from medsegdiff_auto.evaluation.metrics_table import metrics_header
from medsegdiff_auto.evaluation.score import columns, evaluate_structure, scores
from medsegdiff_auto.nnunet.structures import Structure

ORGAN = Structure("organ", 1, (1,), 1)
MASKS = ["dice", "iou", "nsd", "hd95_mm", "volume_ml", "reference_volume_ml", "volume_error_ml",
         "volume_absolute_error_ml"]
PROBABILITIES = ["ece", "brier", "nll", "error_auroc", "mean_uncertainty", "soft_dice"]
SAMPLES = ["expected_dice_between_samples", "expected_dice_sample_reference", "reference_volume_in_interval",
           "interval_width"]
PROPER = ["energy_score", "volume_crps_ml"]
ADDED = {"volume_absolute_error_ml", "error_auroc", "mean_uncertainty", "soft_dice", "interval_width", *PROPER}
RATERS = ["ged", "matched_iou", "sample_diversity", "rater_diversity", "ged_floor"]
WRITTEN_BEFORE = """\
a,organ,0.927536,0.864865,1,0.8,0.2048,0.2368,-0.032,0.0648649,0.0378378,0.112257,0.840212,0.900862,0,\
0.0673572,0.866695,0.261037,0.135135,0.101351
a,lesion,0.857143,0.75,1,0.8,0.0256,0.0192,0.0064,0,0.0217391,0.0602746,0.777778,0.830952,1,\
0.166667,0.833333,0.333333,0.25,0.1875
b,organ,0.823529,0.7,0.896246,1.6,0.1408,0.1856,-0.0448,0.0384615,0.0480769,0.139165,0.79951,0.853534,1,\
0.178722,0.803066,0.32194,0.172414,0.12931
b,lesion,0.8,0.666667,1,0.8,0.0128,0.0192,-0.0064,0,0.0263158,0.0729638,0.777778,0.830952,1,\
0.166667,0.833333,0.333333,0.25,0.1875
""".splitlines()


def test_the_table_of_metrics_has_the_columns_and_digits_that_it_had_before_the_table_of_scores(scored):
    head, *rows = (scored[0] / "predictions" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert head.split(",") == ["case", "structure", *MASKS, *PROBABILITIES, *SAMPLES, *PROPER, *RATERS]
    added = {number for number, column in enumerate(head.split(",")) if column in ADDED}
    rows = [",".join(value for number, value in enumerate(row.split(",")) if number not in added) for row in rows]
    for row, before in zip((row.split(",") for row in rows), (row.split(",") for row in WRITTEN_BEFORE), strict=True):
        assert row[:2] == before[:2]
        assert [float(value) for value in row[2:]] == pytest.approx([float(value) for value in before[2:]], rel=2e-5)


@pytest.mark.parametrize("saved, expected", [
    ((), MASKS), (("probabilities",), MASKS + PROBABILITIES), (("samples",), MASKS + SAMPLES + PROPER),
    (("raters",), MASKS),
    (("samples", "raters"), MASKS + SAMPLES + PROPER + RATERS)])
def test_a_score_is_given_where_what_it_needs_was_saved(scored, saved, expected):
    reference, grid = read_array(scored[0] / "labels" / "a.nii.gz")
    maps = np.stack([label_map(seed) for seed in range(3)])
    given = {"probabilities": np.stack([(maps == c).mean(0) for c in range(3)]), "samples": maps, "raters": maps[:2]}
    case = CaseArrays(reference, label_map(1), grid, **{kind: given[kind] for kind in saved})
    assert list(evaluate_structure(StructureOfCase(case, ORGAN, 1.0))) == expected


def test_ignored_voxels_belong_to_no_mask_and_to_no_judged_probability(scored):
    reference, grid = read_array(scored[0] / "labels" / "a.nii.gz")
    assert (reference[0] == 3).all()
    everywhere = np.ones_like(reference)
    case = CaseArrays(reference, everywhere, grid, np.stack([everywhere] * 3), everywhere[None], everywhere[None], 3)
    found, num_valid = StructureOfCase(case, ORGAN, 1.0), reference[1:].size
    for mask in (found.prediction, found.near, found.samples[0], found.raters[0]):
        assert not mask[0].any() and mask[1:].all()
    assert len(found.near_probabilities) == num_valid
    assert found.size(found.prediction) == pytest.approx(num_valid * 0.0008)


def test_every_column_is_declared_once_and_every_row_says_what_becomes_of_empty_masks():
    names = [column.name for column in columns()]
    assert len(names) == len(set(names))
    assert {"hd95_mm", "hd95_px", "area_px", "reference_area_in_interval"} <= set(names)
    assert all("empty" in score.empty and score.source and score.definition for score in scores())


def test_the_header_explains_the_columns_that_are_there_and_names_the_versions_behind_them(scored):
    header = json.loads((scored[0] / "predictions" / "metrics.json").read_text(encoding="utf-8"))
    explained = [name for names in header["definitions"] for name in names.split(", ")]
    assert explained == MASKS + PROBABILITIES + SAMPLES + PROPER + RATERS
    assert header["definitions"]["nsd, hd95_mm"].startswith("surface Dice at 1 mm")
    assert header["best"]["dice"] == 1 and header["best"]["hd95_mm"] == 0 and "volume_ml" not in header["best"]
    in_pixels = metrics_header([{"case": "a", "structure": "organ", "nsd": 0.5, "hd95_px": 2.0}], 2.0)
    assert in_pixels["definitions"]["nsd, hd95_px"].startswith("surface Dice at 2 px")
    versions = in_pixels["versions"]
    assert versions["surface-distance"] == version("surface-distance") and "scipy" not in versions
