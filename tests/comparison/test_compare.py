"""The three files of a comparison: their numbers are those of the label maps, worked out another way."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from compared_folders import DATASET, METHODS, SAMPLES, VOXEL_ML, build
from scipy import stats

from medsegdiff_auto.comparison import compare
from medsegdiff_auto.evaluation.paired import compare_paired
from medsegdiff_auto.evaluation.risk_coverage import aurc


@pytest.fixture(scope="module")
def frame(compared):
    """comparison.csv as pandas reads it."""
    return pd.read_csv(compared[0] / "comparison.csv")


def voxels(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def of_cases(frame, metric, method) -> pd.Series:
    """The mean over the structures by case."""
    rows = frame[(frame.metric == metric) & (frame.method == method)]
    return rows.groupby("case").value.mean()


def of_patients(frame, metric, method) -> np.ndarray:
    by_case = of_cases(frame, metric, method)
    return by_case.groupby(by_case.index.str[:3]).mean().to_numpy()


def test_the_long_table_has_the_columns_that_challenger_expects_and_one_row_for_each_number(frame):
    assert list(frame.columns) == ["task", "method", "case", "structure", "metric", "value"]
    assert not frame.duplicated(["task", "method", "case", "structure", "metric"]).any()
    assert frame.value.dtype == float and set(frame.method) == set(METHODS) and set(frame.task) == {"Dataset901_Balls"}
    dice = frame[frame.metric == "dice"]
    assert len(dice) == 5 * 16 * 2 and dice.groupby(["method", "structure"]).case.nunique().eq(16).all()


def test_dice_and_volumes_of_the_table_are_those_of_the_files(built, frame):
    for case, label, structure in (("P00_1", 1, "organ"), ("P07_2", 2, "lesion")):
        reference = voxels(built / "labels" / f"{case}.nii.gz") == label
        predicted = voxels(built / "Dataset901_Balls" / "comparison" / "predictions" / "paper" / f"{case}.nii.gz")
        mine = frame[(frame.method == "paper") & (frame.case == case) & (frame.structure == structure)]
        values = mine.set_index("metric").value
        dice = 2 * (reference & (predicted == label)).sum() / (reference.sum() + (predicted == label).sum())
        assert values["dice"] == pytest.approx(dice, rel=1e-5)
        assert values["volume_absolute_error_ml"] == pytest.approx(
            abs(int(reference.sum()) - int((predicted == label).sum())) * VOXEL_ML, rel=1e-4)


def test_a_method_without_samples_is_scored_as_sure_of_its_one_mask(frame):
    for method in ("nnunet", "plain"):
        rows = frame[frame.method == method].pivot(index=["case", "structure"], columns="metric", values="value")
        np.testing.assert_allclose(rows["energy_score"], 1 - rows["iou"], atol=1e-5)
        np.testing.assert_allclose(rows["volume_crps_ml"], rows["volume_absolute_error_ml"], atol=1e-5)
        assert not {"expected_dice_between_samples", "expected_dice_sample_reference", "interval_width",
                    "reference_volume_in_interval"} & set(rows)
    assert "nll" not in set(frame[frame.method == "plain"].metric) <= set(frame.metric)


def test_means_and_differences_are_over_patients_of_cases_of_structures(compared, frame):
    summary = compared[1]
    assert (summary["num_cases"], summary["num_patients"]) == (16, 8)
    for metric in ("dice", "energy_score"):
        auto, nnunet = of_patients(frame, metric, "auto"), of_patients(frame, metric, "nnunet")
        assert summary["means"]["all"][metric]["auto"]["mean"] == pytest.approx(auto.mean(), abs=1e-6)
        assert summary["means"]["all"][metric]["auto"]["num"] == 8
        found, expected = summary["differences"]["all"][metric]["auto"], compare_paired(auto, nnunet)
        assert [found[key] for key in ("mean_difference", "low", "high", "standard_deviation")] == pytest.approx(
            [expected.mean_difference, expected.low, expected.high, expected.standard_deviation], abs=1e-5)
        way = 1 if metric == "dice" else -1
        signs = np.sign(np.round(way * (auto - nnunet), 9))
        assert [found["wins"], found["ties"], found["losses"]] == [(signs == one).sum() for one in (1, 0, -1)]
        assert found["p"] == pytest.approx(stats.wilcoxon(np.round(auto - nnunet, 9)).pvalue, abs=1e-6)


def test_p_is_corrected_for_the_methods_that_are_compared_with_the_reference(compared):
    rows = compared[1]["differences"]["all"]["dice"]
    assert set(rows) == {"auto", "nnunet+T", "paper", "plain"}
    smallest = min(rows.values(), key=lambda row: row["p"])
    assert smallest["p_holm"] == pytest.approx(4 * smallest["p"]) and rows["nnunet+T"]["p_holm"] == 1


def test_a_single_structure_has_its_own_means_and_differences(compared, frame):
    lesion = frame[(frame.metric == "dice") & (frame.method == "auto") & (frame.structure == "lesion")]
    assert compared[1]["means"]["lesion"]["dice"]["auto"]["mean"] == pytest.approx(lesion.value.mean(), abs=1e-6)
    assert compared[1]["structures"] == ["all", "organ", "lesion"]


def test_ranks_follow_the_means_and_equal_methods_share_one(compared):
    found = compared[1]["ranks"]["all"]["dice"]
    means = {name: row["mean"] for name, row in compared[1]["means"]["all"]["dice"].items()}
    assert found["nnunet"]["rank"] == found["nnunet+T"]["rank"]
    order = sorted(means, key=lambda name: -means[name])
    assert [found[name]["rank"] for name in order] == sorted(found[name]["rank"] for name in order)
    assert all(sum(row["shares"]) == pytest.approx(1) for row in found.values())
    worst = compared[1]["ranks"]["all"]["hd95_mm"]
    assert max(worst, key=lambda name: worst[name]["rank"]) == max(
        means, key=lambda name: compared[1]["means"]["all"]["hd95_mm"][name]["mean"])


def test_the_interval_of_the_table_of_cases_is_judged_and_not_that_of_the_samples(compared, built, frame):
    table = pd.read_csv(compared[0] / "predictions" / "auto" / "cases.csv")
    table = table.set_index(["case", "structure"]).sort_index()
    own = frame[(frame.method == "auto")].pivot(index=["case", "structure"], columns="metric", values="value")
    held = (table.volume_ml_p05 <= own.reference_volume_ml) & (own.reference_volume_ml <= table.volume_ml_p95)
    np.testing.assert_array_equal(own.reference_volume_in_interval, held.astype(float))
    width = (table.volume_ml_p95 - table.volume_ml_p05) / own.reference_volume_ml
    np.testing.assert_allclose(own.interval_width, width, rtol=1e-4)
    assert "reference_volume_in_interval" in compared[1]["means"]["all"]
    assert set(compared[1]["means"]["all"]["interval_width"]) == {"auto", "paper"}
    samples = voxels(compared[0] / "predictions" / "paper" / "P00_1_samples.nii.gz")
    assert len(samples) == SAMPLES


def test_an_interval_counts_without_its_samples_and_raters_are_compared_with_every_method(tmp_path):
    folder = build(tmp_path, 4, ("auto", "nnunet"))
    table = folder / "predictions" / "auto" / "cases.csv"
    table.write_text(table.read_text().replace("conformal", "samples"))
    for file in (folder / "predictions" / "auto").glob("*_samples.nii.gz"):
        file.unlink()
    shutil.copytree(tmp_path / "labels", tmp_path / "rater_1")
    shutil.copytree(folder / "predictions" / "nnunet", tmp_path / "rater_2")
    compare(folder, tmp_path / "labels", DATASET, None, [tmp_path / "rater_1", tmp_path / "rater_2"])
    frame = pd.read_csv(folder / "comparison.csv")
    auto, nnunet = (frame[frame.method == name].pivot(index=["case", "structure"], columns="metric", values="value")
                    for name in ("auto", "nnunet"))
    np.testing.assert_allclose(auto.interval_width, (auto.volume_ml_p95 - auto.volume_ml_p05)
                               / auto.reference_volume_ml, rtol=1e-4)
    apart = 1 - nnunet.iou  # of the two raters: the reference, and the mask itself
    np.testing.assert_allclose(nnunet.ged, apart / 2, atol=1e-5)
    np.testing.assert_allclose(nnunet.ged_floor, apart * (1 + 1 / 2), atol=1e-5)
    np.testing.assert_allclose(nnunet.energy_score, apart / 2, atol=1e-5)


def test_estimates_are_judged_by_order_and_error_beside_the_best_and_no_order(compared, frame):
    own = frame[frame.method == "auto"].pivot(index=["case", "structure"], columns="metric", values="value")
    found = compared[1]["estimates"]["auto"]["expected_dice"]
    assert found["num_masks"] == 32
    assert found["pearson"]["value"] == pytest.approx(np.corrcoef(own.expected_dice, own.dice)[0, 1], abs=1e-4)
    assert found["absolute_error"]["value"] == pytest.approx((own.expected_dice - own.dice).abs().mean(), abs=1e-5)
    assert found["aurc"]["value"] == pytest.approx(aurc(own.expected_dice, 1 - own.dice), abs=1e-5)
    assert found["random_aurc"] == pytest.approx(1 - own.dice.mean(), abs=1e-5)
    assert found["best_aurc"] <= found["aurc"]["value"] and found["aurc"]["low"] < found["aurc"]["high"]
    certainty = compared[1]["estimates"]["nnunet"]["certainty"]
    nnunet = frame[frame.method == "nnunet"].pivot(index=["case", "structure"], columns="metric", values="value")
    assert certainty["aurc"]["value"] == pytest.approx(aurc(-nnunet.mean_uncertainty, 1 - nnunet.dice), abs=1e-5)
    assert "absolute_error" not in certainty and "plain" not in compared[1]["estimates"]


def test_voxels_of_all_cases_are_pooled_for_a_calibration_error(compared, frame):
    assert set(compared[1]["pooled_ece"]) == {"auto", "nnunet", "nnunet+T"}
    per_case = frame[(frame.metric == "ece") & (frame.method == "nnunet")].value.mean()
    assert 0 < compared[1]["pooled_ece"]["nnunet"] < per_case  # errors of single cases even out


def test_conventions_and_versions_stand_in_the_summary(compared):
    explained = compared[1]["definitions"]
    assert "NaN" in explained["dice, iou"] and "1 mm" in explained["nsd, hd95_mm"]
    assert compared[1]["versions"]["surface-distance"] and "Holm" in compared[1]["statistics"]
    assert any("patients: 8." in text for text in compared[1]["warnings"])


def test_two_processes_write_the_same_table(built, compared, tmp_path):
    folder = tmp_path / "Dataset901_Balls" / "comparison"
    shutil.copytree(compared[0], folder)
    (folder / "comparison.csv").unlink()
    compare(folder, built / "labels", DATASET, built / "preprocessed", num_processes=2)
    assert (folder / "comparison.csv").read_bytes() == (compared[0] / "comparison.csv").read_bytes()
    assert (folder / "summary.json").read_bytes() == (compared[0] / "summary.json").read_bytes()


def test_a_method_of_one_fold_is_compared_on_its_cases_and_not_ranked(tmp_path):
    folder = build(tmp_path, 8, ("auto", "nnunet", "paper"))
    facts = json.loads((folder / "methods.json").read_text())
    facts["methods"]["paper"]["folds"] = [1]
    (folder / "methods.json").write_text(json.dumps(facts))
    for file in (folder / "predictions" / "paper").glob("P0[01]_*"):
        file.unlink()
    summary = compare(folder, tmp_path / "labels", DATASET, tmp_path / "preprocessed")
    assert summary["cases_of_methods"] == {"auto": 8, "nnunet": 8, "paper": 4}
    assert summary["differences"]["all"]["dice"]["paper"]["num_cases"] == 2
    assert summary["differences"]["all"]["dice"]["paper"]["num_left_out"] == 0
    assert set(summary["ranks"]["all"]["dice"]) == {"auto", "nnunet"}
    assert any("paper has 4 of 8 cases less" in text for text in summary["warnings"])


def test_masks_that_one_method_cannot_score_count_for_neither(built, tmp_path):
    """A lesion that one method does not find has no HD95: its other structure alone is compared."""
    folder = tmp_path / "Dataset901_Balls" / "comparison"
    shutil.copytree(built / "Dataset901_Balls" / "comparison", folder)
    file = folder / "predictions" / "plain" / "P00_1.nii.gz"
    image = sitk.ReadImage(str(file))
    sitk.WriteImage(sitk.Cast(image == 1, sitk.sitkUInt8), str(file))
    summary = compare(folder, built / "labels", DATASET, built / "preprocessed")
    found = summary["differences"]["all"]["hd95_mm"]["plain"]
    assert found["num_left_out"] == 1 and found["num_cases"] == 8
    rows = pd.read_csv(folder / "comparison.csv")
    wide = rows[rows.metric == "hd95_mm"].pivot(index=["case", "structure"], columns="method", values="value")
    pairs = (wide["plain"] - wide["nnunet"]).dropna().groupby("case").mean()
    assert found["mean_difference"] == pytest.approx(pairs.groupby(pairs.index.str[:3]).mean().mean(), abs=1e-5)
    assert any("HD95" in text and "1 masks" in text for text in summary["warnings"])


def test_the_page_shows_the_numbers_of_the_summary_and_loads_nothing(compared):
    folder, summary = compared
    html = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script" not in html and "http" not in re.sub(r'src="data:[^"]*"', "", html)
    mean = summary["means"]["all"]["dice"]["auto"]
    assert f'{mean["mean"]:.4f}<br><span class="note">{mean["low"]:.4f} to {mean["high"]:.4f}</span>' in html
    rows = [re.sub("<[^>]*>", "|", row) for row in re.findall(r"<tr>.*?</tr>", html)]
    difference = summary["differences"]["all"]["nsd"]["paper"]
    assert any("NSD" in row and "|paper|" in row and f"{difference['mean_difference']:+.4f}" in row for row in rows)
    for one in summary["targets"]:
        assert any(one["target"].replace("'", "&#x27;") in row and f"|{one['answer']}|" in row for row in rows), one
    assert html.count('alt="differences of') == len(summary["differences"]["all"])
    assert 'alt="reliability of nnU-Net+T"' in html and "1.50" in html  # 5,400 s of training


def test_the_page_names_what_is_missing_where_only_label_maps_are_there(tmp_path):
    folder = build(tmp_path, 6, ("plain", "nnunet"))
    for file in (folder / "predictions" / "nnunet").glob("*_probabilities*"):
        file.unlink()
    summary = compare(folder, tmp_path / "labels", DATASET)
    assert {one["target"]: one["answer"] for one in summary["targets"]}["ECE not worse"] == "not measured"
    missing = re.findall(r'class="missing">([^<]*)', (folder / "report.html").read_text(encoding="utf-8"))
    assert any("probabilities" in text for text in missing) and any("intervals" in text for text in missing)
    assert summary["patients"].startswith("Each case counts as a patient")
