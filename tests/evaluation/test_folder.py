"""Scoring of folders: nnU-Net's own metrics as oracle, companions, 2-D and regions, and what goes wrong."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.folder import evaluate_cases, evaluate_folder
from medsegdiff_auto.evaluation.metrics_table import read_rows
from medsegdiff_auto.nnunet.structures import structures_of

LABELS = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3},
          "numTraining": 2, "file_ending": ".nii.gz"}
REGIONS = {"channel_names": {"0": "R"}, "labels": {"background": 0, "disc": [1, 2], "cup": 2},
           "regions_class_order": [1, 2], "numTraining": 2, "file_ending": ".png"}
PLANS = {"dataset_name": "Dataset999_Test", "plans_name": "MedSegDiffPlans", "configurations": {},
         "label_manager": "LabelManager", "image_reader_writer": "SimpleITKIO"}
SPACING = (0.5, 0.8, 2.0)    # x, y, z in mm: a voxel has 0.0008 ml


def write_nifti(array, path, spacing=SPACING, channels=False):
    images = [sitk.GetImageFromArray(a) for a in (array if channels else array[None])]
    for image in images:
        image.SetSpacing(spacing)
    sitk.WriteImage(sitk.JoinSeries(images) if channels else images[0], str(path))


def label_map(seed, shape=(6, 14, 12)):
    """Two nested boxes whose upper sides are drawn."""
    generator = np.random.default_rng(seed)
    array = np.zeros(shape, np.uint8)
    array[1:5, 2:int(generator.integers(8, 13)), 2:10] = 1
    array[2:4, 3:int(generator.integers(5, 8)), 4:8] = 2
    return array


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """Two cases with probabilities and samples beside them, scored with two raters; the folders and the result."""
    root = tmp_path_factory.mktemp("folder")
    for name in ("labels", "predictions", "rater_1", "rater_2"):
        (root / name).mkdir()
    for seed, case in enumerate(("a", "b")):
        reference, samples = label_map(seed), np.stack([label_map(10 + seed + s) for s in range(4)])
        for folder, array in (("rater_1", reference), ("rater_2", label_map(50 + seed)), ("predictions", samples[0])):
            write_nifti(array, root / folder / f"{case}.nii.gz")
        with_ignored = reference.copy()
        with_ignored[0] = 3
        write_nifti(with_ignored, root / "labels" / f"{case}.nii.gz")
        write_nifti(samples, root / "predictions" / f"{case}_samples.nii.gz", channels=True)
        probabilities = np.stack([(samples == c).mean(0) for c in range(3)]).astype(np.float32)
        write_nifti(probabilities, root / "predictions" / f"{case}_probabilities.nii.gz", channels=True)
        write_nifti(np.zeros(reference.shape, np.float32), root / "predictions" / f"{case}_uncertainty.nii.gz")
    result = evaluate_folder(root / "labels", root / "predictions", LABELS, PLANS, num_processes=1,
                             rater_folders=[root / "rater_1", root / "rater_2"])
    return root, result


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
        assert all(written[c] == row[c] if isinstance(row[c], str) else written[c] == pytest.approx(row[c], rel=1e-5, nan_ok=True)
                   for c in row)


def test_the_header_states_policy_versions_and_tolerance(scored):
    header = json.loads((scored[0] / "predictions" / "metrics.json").read_text(encoding="utf-8"))
    assert "NaN" in header["definitions"]["dice, iou"]
    assert header["versions"]["surface-distance"] and header["nsd_tolerance"] == 1.0 and header["nsd_tolerance_unit"] == "mm"


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
    assert disc.posterior(class_probabilities) == pytest.approx(0.5) and cup.posterior(class_probabilities) == pytest.approx(0.2)


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
    pairs = {f"{case}{i}": (root / "labels" / f"{case}.nii.gz", root / "predictions" / f"{case}.nii.gz") for case in "ab" for i in range(4)}
    assert repr(evaluate_cases(pairs, LABELS, num_processes=2)) == repr(evaluate_cases(pairs, LABELS, num_processes=1))
