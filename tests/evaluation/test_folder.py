"""Scoring of folders: nnU-Net's own metrics as oracle, companions, 2-D and regions, and what goes wrong."""

import csv
import json
import shutil

import numpy as np
import pytest
from scored_folder import LABELS, PLANS, label_map, write_nifti
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.folder import evaluate_cases, evaluate_folder
from medsegdiff_auto.evaluation.metrics_table import read_rows
from medsegdiff_auto.files.listing import passed_over
from medsegdiff_auto.nnunet.structures import structures_of

REGIONS = {"channel_names": {"0": "R"}, "labels": {"background": 0, "disc": [1, 2], "cup": 2},
           "regions_class_order": [1, 2], "numTraining": 2, "file_ending": ".png"}


def test_dice_and_iou_of_the_table_equal_those_of_nnunet_on_the_files(scored):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    root, result = scored
    for row in result["rows"]:
        files = [str(root / folder / f"{row['case']}.nii.gz") for folder in ("labels", "predictions")]
        label = LABELS["labels"][row["structure"]]
        oracle = compute_metrics(*files, SimpleITKIO(), [label], ignore_label=3)["metrics"][label]
        assert row["dice"] == pytest.approx(oracle["Dice"]) and row["iou"] == pytest.approx(oracle["IoU"])
        assert row["reference_volume_ml"] == pytest.approx(oracle["n_ref"] * 0.0008)


def test_the_summary_is_that_of_nnunet_and_names_the_real_files(scored):
    root, result = scored
    summary = json.loads((root / "predictions" / "summary.json").read_text(encoding="utf-8"))
    assert [case["prediction_file"] for case in summary["metric_per_case"]] == \
        [str(root / "predictions" / f"{case}.nii.gz") for case in ("a", "b")]
    assert summary["mean"]["1"]["Dice"] == pytest.approx(result["header"]["mean"]["organ"]["dice"])


def test_the_csv_gives_back_the_rows_to_six_digits(scored):
    root, result = scored
    for written, row in zip(read_rows(root / "predictions" / "metrics.csv"), result["rows"], strict=True):
        assert written.keys() == row.keys()
        assert all(written[c] == row[c] if isinstance(row[c], str) else written[c] ==
                   pytest.approx(row[c], rel=1e-5, nan_ok=True) for c in row)


def test_the_header_states_policy_versions_and_tolerance(scored):
    header = json.loads((scored[0] / "predictions" / "metrics.json").read_text(encoding="utf-8"))
    assert "NaN" in header["definitions"]["dice, iou"]
    assert header["versions"]["surface-distance"] and header["nsd_tolerance"] == 1.0 and header[
        "nsd_tolerance_unit"] == "mm"


def test_sample_metrics_of_a_row_equal_the_counts_of_the_arrays(scored):
    row = scored[1]["rows"][0]
    organ = np.stack([label_map(10 + s) for s in range(4)]) == 1
    organ[:, 0] = False
    sizes = organ.reshape(4, -1).sum(1)
    pairs = [2 * (organ[i] & organ[j]).sum() / (sizes[i] + sizes[j]) for i in range(4) for j in range(i)]
    assert row["expected_dice_between_samples"] == pytest.approx(np.mean(pairs))
    reference = (label_map(0) == 1).sum()
    low, high = np.quantile(sizes, (0.05, 0.95))
    assert row["reference_volume_in_interval"] == (low <= reference <= high)
    assert 0 <= row["ece"] <= 1 and row["ged_floor"] > 0


def test_png_regions_are_scored_as_nested_masks_in_pixels(tmp_path):
    reference, prediction = np.zeros((20, 20), np.uint8), np.zeros((20, 20), np.uint8)
    reference[4:12, 4:12], reference[6:10, 6:10] = 1, 2
    prediction[4:12, 4:12] = 1
    for name, array in (("r.png", reference), ("p.png", prediction)):
        io.imsave(tmp_path / name, array, check_contrast=False)
    disc, cup = evaluate_cases({"c": (tmp_path / "r.png", tmp_path / "p.png")}, REGIONS)
    assert disc["dice"] == 1 and disc["area_px"] == 64 and disc["area_error_px"] == 0
    assert cup["dice"] == 0 and cup["nsd"] == 0 and np.isnan(cup["hd95_px"]) and cup["reference_area_px"] == 16


@pytest.mark.parametrize("dataset_json", [LABELS, REGIONS])
def test_structures_have_the_keys_and_channels_of_nnunet(dataset_json):
    from nnunetv2.utilities.label_handling.label_handling import LabelManager

    manager = LabelManager(dataset_json["labels"], dataset_json.get("regions_class_order"))
    keys = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    structures = structures_of(dataset_json)
    assert [structure.key for structure in structures] == list(keys)
    assert max(structure.channel for structure in structures) == manager.num_segmentation_heads - 1


def test_a_region_s_posterior_is_the_sum_over_its_labels():
    class_probabilities = np.array([[0.5], [0.3], [0.2]], np.float32)
    disc, cup = structures_of(REGIONS)
    assert disc.posterior(class_probabilities) == pytest.approx(0.5) and cup.posterior(
        class_probabilities) == pytest.approx(0.2)


def test_a_prediction_without_reference_is_refused_by_name(scored, tmp_path):
    with pytest.raises(UserError, match="2 prediction") as error:
        evaluate_folder(tmp_path, scored[0] / "predictions", LABELS, PLANS)
    assert error.value.found == "a, b"


def test_a_reference_without_prediction_is_refused_unless_chill(scored, tmp_path):
    for case in ("a", "b"):
        (tmp_path / f"{case}.nii.gz").symlink_to(scored[0] / "labels" / f"{case}.nii.gz")
    (tmp_path / "forgotten.nii.gz").symlink_to(scored[0] / "labels" / "a.nii.gz")
    with pytest.raises(UserError, match="1 reference") as error:
        evaluate_folder(tmp_path, scored[0] / "predictions", LABELS, PLANS)
    assert error.value.found == "forgotten"


def test_a_companion_on_another_grid_is_refused(scored, tmp_path):
    write_nifti(label_map(0), tmp_path / "a.nii.gz")
    write_nifti(np.zeros((2, 3, 4, 5), np.uint8), tmp_path / "a_samples.nii.gz", channels=True)
    with pytest.raises(UserError, match="a_samples.nii.gz does not lie on the grid"):
        evaluate_cases({"a": (scored[0] / "labels" / "a.nii.gz", tmp_path / "a.nii.gz")}, LABELS)


def test_an_empty_table_field_is_not_a_number(tmp_path):
    with (tmp_path / "metrics.csv").open("w", newline="") as table:
        csv.writer(table).writerows([["case", "structure", "dice"], ["7", "organ", ""]])
    row, = read_rows(tmp_path / "metrics.csv")
    assert row["case"] == "7" and np.isnan(row["dice"])


def test_two_processes_give_the_rows_of_one(scored):
    root = scored[0]
    pairs = {
        f"{case}{i}": (root / "labels" / f"{case}.nii.gz", root / "predictions" / f"{case}.nii.gz")
        for case in "ab"
        for i in range(4)
    }
    assert repr(evaluate_cases(pairs, LABELS, num_processes=2)) == repr(evaluate_cases(pairs, LABELS, num_processes=1))


@pytest.mark.parametrize("folder", ["labels", "predictions", "rater_2"])
def test_a_file_that_scoring_would_pass_over_is_refused_by_name_and_accepted_with_chill(scored, tmp_path, folder):
    root = tmp_path / "copy"
    shutil.copytree(scored[0], root)
    (root / folder / "b.nii.gz").rename(root / folder / "b.NII.GZ")
    (root / ("predictions" if folder == "labels" else "labels") / "b.nii.gz").unlink()
    (root / "labels" / "._a.nii.gz").write_bytes(b"")
    arguments = root / "labels", root / "predictions", LABELS, PLANS
    raters = {"rater_folders": [root / "rater_1", root / "rater_2"]}
    with pytest.raises(UserError, match="has the file ending in other letters") as raised:
        evaluate_folder(*arguments, **raters)
    assert raised.value.what.startswith(f"{folder}/b.NII.GZ ")
    if folder != "rater_2":
        assert {row["case"] for row in evaluate_folder(*arguments, **raters, chill=True)["rows"]} == {"a"}


def test_an_image_in_two_formats_and_companions_in_another_are_scored_as_one(tmp_path):
    io.imsave(tmp_path / "a.png", np.eye(9, dtype=np.uint8), check_contrast=False)
    for name in ("a.nii.gz", "a_uncertainty.nii.gz", "a_samples.nii.gz"):
        (tmp_path / name).write_bytes(b"")
    assert passed_over(tmp_path, ".png") == []
    (tmp_path / "b.nii.gz").write_bytes(b"")
    assert [finding.found for finding in passed_over(tmp_path, ".png")] == [".nii.gz"]
