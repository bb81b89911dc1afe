"""What the uncertainty and the probabilities say of a mask, worked out by hand, and where nothing can be said."""

import math

import numpy as np
import pytest
from scored_folder import LABELS, label_map, write_nifti
from skimage import io

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.case import CaseArrays, StructureOfCase
from medsegdiff_auto.evaluation.case_files import Grid
from medsegdiff_auto.evaluation.folder import evaluate_cases, read_case
from medsegdiff_auto.evaluation.metrics_table import joined
from medsegdiff_auto.evaluation.score import columns, evaluate_structure
from medsegdiff_auto.nnunet.structures import Structure

LINE = Grid((1, 9), (1.0, 1.0), has_spacing=False)
ORGAN = Structure("organ", 1, (1,), 1)
BINARY = {"labels": {"background": 0, "organ": 1}, "file_ending": ".png"}


def of(reference, prediction, p=None, **others) -> dict[str, float]:
    """Scores of one structure on a line of nine voxels; p is its probability."""
    probabilities = None if p is None else np.stack([1 - np.array(p), p])[:, None]
    others = {name: array.reshape(-1, 1, 9) if name == "samples" else array[None] for name, array in others.items()}
    case = CaseArrays(np.array([reference]), np.array([prediction]), LINE, probabilities, **others)
    return evaluate_structure(StructureOfCase(case, ORGAN, 1.0))


def test_errors_are_found_as_often_as_pairs_of_wrong_and_right_voxels_are_ranked_and_ties_count_half():
    """The prediction's voxel 4, dilated twice, is 2 to 6: voxel 4 is wrong, 2, 3, 5 and 6 are right."""
    uncertainty = np.array([1, 1, 0.1, 0.6, 0.5, 0.9, 0.5, 1, 1])
    found = of([0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 0, 0, 0, 0], uncertainty=uncertainty)
    assert found["error_auroc"] == pytest.approx((1 + 0 + 0 + 1 / 2) / 4)
    assert found["mean_uncertainty"] == pytest.approx((0.1 + 0.6 + 0.5 + 0.9 + 0.5) / 5)


def test_without_a_saved_map_the_uncertainty_is_the_entropy_of_the_probabilities():
    p = np.array([0, 0, 0.5, 0.9, 0.9, 0.9, 0.1, 0, 0])
    entropy = -(p * np.log2(np.maximum(p, 1e-7)) + (1 - p) * np.log2(np.maximum(1 - p, 1e-7)))
    found = of([0, 0, 1, 1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1, 0, 0, 0], p)
    assert found["error_auroc"] == 1  # voxel 2 is wrong, and the only one with an even chance
    assert found["mean_uncertainty"] == pytest.approx(entropy[1:8].mean(), abs=1e-5)


def test_uncertainty_that_is_the_same_everywhere_finds_errors_by_chance_and_none_without_errors():
    even = np.full(9, 0.3)
    assert of([0, 0, 0, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0], uncertainty=even)["error_auroc"] == 0.5
    assert math.isnan(of([0, 0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0, 0], uncertainty=even)["error_auroc"])


def test_the_mean_uncertainty_does_not_look_at_the_reference():
    uncertainty = np.linspace(0, 1, 9)
    prediction = [0, 0, 0, 1, 0, 0, 0, 0, 0]
    means = {of(reference, prediction, uncertainty=uncertainty)["mean_uncertainty"]
             for reference in ([0] * 9, [1] * 9, prediction)}
    assert len(means) == 1 and math.isnan(of([1] * 9, [0] * 9, uncertainty=uncertainty)["mean_uncertainty"])


def test_the_soft_dice_is_that_of_the_mask_with_its_probabilities():
    p = np.array([0.25, 0, 0, 1, 0.75, 0, 0, 0, 0])
    assert of([0] * 9, [0, 0, 0, 1, 1, 0, 0, 0, 0], p)["soft_dice"] == pytest.approx(2 * 1.75 / (2 + 2))
    assert math.isnan(of([1] * 9, [0] * 9, p)["soft_dice"])


def test_a_volume_error_has_an_absolute_value_by_which_methods_can_be_ranked():
    found = of([1] * 5 + [0] * 4, [1] * 2 + [0] * 7)
    assert found["area_error_px"] == -3 and found["area_absolute_error_px"] == 3
    ways = {column.name: column.more_is_better for column in columns()}
    assert ways["dice"] and ways["area_error_px"] is None and ways["area_absolute_error_px"] is False
    assert ways["area_px"] is None and ways["error_auroc"]


def test_the_width_of_an_interval_is_over_the_reference_and_one_sample_has_none():
    samples = np.arange(9)[None] < np.arange(0, 5)[:, None]
    found = of([1, 1, 0, 0, 0, 0, 0, 0, 0], [1] * 9, samples=samples.astype(int))
    assert found["interval_width"] == pytest.approx((3.8 - 0.2) / 2) and found["reference_area_in_interval"] == 1
    empty = of([0] * 9, [1] * 9, samples=samples.astype(int))
    assert math.isnan(empty["interval_width"]) and empty["reference_area_in_interval"] == 0
    single = of([1, 1, 0, 0, 0, 0, 0, 0, 0], [1] * 9, samples=samples[2:3].astype(int))
    assert math.isnan(single["interval_width"]) and math.isnan(single["reference_area_in_interval"])


def test_the_interval_of_the_table_of_cases_counts_where_it_is_conformal_or_alone_and_an_empty_one_says_nothing():
    nan = float("nan")
    scored = {"case": "a", "structure": "organ", "reference_volume_ml": 4.0}
    of_samples = scored | {"reference_volume_in_interval": 0.0, "interval_width": 0.1}
    table = {"case": "a", "structure": "organ", "volume_ml_p05": 3.0, "volume_ml_p95": 5.0, "interval": "samples"}

    def found(sizes: dict, scores: dict) -> tuple[float, float]:
        row, = joined([sizes], [scores])
        return row["reference_volume_in_interval"], row["interval_width"]

    assert found(table, of_samples) == (0.0, 0.1)
    assert found(table | {"interval": "conformal"}, of_samples) == (1.0, 0.5)
    assert found(table, scored) == (1.0, 0.5)
    assert all(map(math.isnan, found(table | {"volume_ml_p05": nan, "volume_ml_p95": nan}, scored)))


def test_probabilities_of_nnunet_are_read_as_ours_are(tmp_path):
    reference, p = label_map(0), np.stack([label_map(1) == c for c in range(3)]).astype(np.float32) * 0.9 + 0.03
    rows = {}
    for name in ("ours", "nnunet"):
        (tmp_path / name).mkdir()
        write_nifti(reference, tmp_path / name / "reference.nii.gz")
        write_nifti(label_map(1), tmp_path / name / "a.nii.gz")
        if name == "ours":
            write_nifti(p, tmp_path / name / "a_probabilities.nii.gz", channels=True)
        else:
            np.savez_compressed(tmp_path / name / "a.npz", probabilities=p)
        rows[name] = evaluate_cases({"a": (tmp_path / name / "reference.nii.gz", tmp_path / name / "a.nii.gz")}, LABELS)
    assert "nll" in rows["nnunet"][0] and repr(rows["nnunet"]) == repr(rows["ours"])


def save_pair(folder, probabilities):
    """A disc and its prediction, with what a file of probabilities holds."""
    y, x = np.indices((20, 20))
    disc = ((y - 6) ** 2 + (x - 9) ** 2 < 16).astype(np.uint8)
    for name in ("r.png", "a.png"):
        io.imsave(folder / name, disc, check_contrast=False)
    np.savez_compressed(folder / "a.npz", probabilities=probabilities(np.stack([1 - disc, disc]).astype(np.float32)))
    return folder / "r.png", folder / "a.png", BINARY


def test_a_picture_s_probabilities_lose_the_slice_that_nnunet_gives_them(tmp_path):
    case = read_case(*save_pair(tmp_path, lambda p: 0.1 + 0.8 * p[:, None]))
    assert case.probabilities.shape == (2, 20, 20) and case.probabilities[1][6, 9] == pytest.approx(0.9)


def test_the_uncertainty_of_overlapping_regions_is_the_largest_binary_entropy(tmp_path):
    """The probability of the disc is 0.9 everywhere in it, that of the cup one half: a bit at every voxel of it."""
    inner = np.zeros((12, 12), bool)
    inner[4:8, 4:8] = True
    io.imsave(tmp_path / "a.png", np.where(inner, 2, 1).astype(np.uint8), check_contrast=False)
    np.savez(tmp_path / "a.npz", probabilities=np.stack([np.full((12, 12), 0.9), np.where(inner, 0.5, 0.01)]))
    regions = {"labels": {"background": 0, "disc": [1, 2], "cup": 2}, "regions_class_order": [1, 2],
               "file_ending": ".png"}
    case = read_case(tmp_path / "a.png", tmp_path / "a.png", regions)
    np.testing.assert_allclose(case.uncertainty_in(inner), 1, atol=1e-5)
    np.testing.assert_allclose(case.uncertainty_in(~inner), 0.468996, atol=1e-5)  # of 0.9 and 0.1, in bits


@pytest.mark.parametrize("wrong, what", [
    (lambda p: p[::-1], "does not belong to the label map"), (lambda p: p[:, ::-1], "does not belong to the label map"),
    (lambda p: p[:, :-1], "does not lie on the grid"), (lambda p: np.stack([*p, p[0]]), "one channel for each class"),
    (lambda p: p * np.nan, "holds NaN")], ids=["channels", "voxels", "shape", "number", "nan"])
def test_probabilities_that_are_not_those_of_the_label_map_are_refused(tmp_path, wrong, what):
    with pytest.raises(UserError, match=what):
        read_case(*save_pair(tmp_path, wrong))


def test_a_damaged_file_of_probabilities_is_refused_by_name(tmp_path):
    files = save_pair(tmp_path, lambda p: p)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:60])
    with pytest.raises(UserError, match=r"a\.npz holds no probabilities"):
        read_case(*files)
