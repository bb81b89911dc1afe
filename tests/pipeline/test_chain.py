"""From a raw dataset to files: what every file of the chain says, held against the others."""

import csv
import json

import numpy as np
import pytest
import SimpleITK as sitk
from chain import FOLDS, command
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from medsegdiff_auto.inference.case_table import read_case_table
from medsegdiff_auto.decision.decoder import decode
from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.inference import predictor
from medsegdiff_auto.overlap import expected_dice_between_samples
from medsegdiff_auto.training.checkpoints import load_safely


def volume(file) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(file)))


def table(chain) -> list[dict]:
    with (chain.predictions / "cases.csv").open() as file:
        return list(csv.DictReader(file))


def without_flags(folder) -> list[dict]:
    return [{key: value for key, value in row.items() if key != "flagged"} for row in read_case_table(folder)]


def structures(chain) -> dict[str, list[int]]:
    labels = json.loads((chain.raw / "dataset.json").read_text(encoding="utf-8"))["labels"]
    return {name: value if isinstance(value, list) else [value] for name, value in labels.items()
            if name not in ("background", "ignore")}


def test_a_prediction_lies_on_the_grid_of_its_image_to_the_last_bit(chain):
    for case in chain.cases:
        image = sitk.ReadImage(str(chain.raw / "imagesTs" / f"{case}_0000.nii.gz"))
        for file in (chain.predictions / f"{case}.nii.gz", chain.predictions / f"{case}_uncertainty.nii.gz",
                     chain.final / f"{case}.nii.gz"):
            written = sitk.ReadImage(str(file))
            assert written.GetSize() == image.GetSize()
            assert written.GetSpacing() == image.GetSpacing()
            assert written.GetOrigin() == image.GetOrigin()
            assert written.GetDirection() == image.GetDirection()


def test_the_segmentation_is_what_the_mean_probability_says(chain):
    regions = chain.configuration == "2d"
    for case in chain.cases:
        probabilities = volume(chain.predictions / f"{case}_probabilities.nii.gz")
        if regions:
            expected = np.zeros(probabilities.shape[1:], int)
            for label, region in enumerate(probabilities, 1):
                expected[region > 0.5] = label
        else:
            np.testing.assert_allclose(probabilities.sum(0), 1, atol=1e-4)
            expected = probabilities.argmax(0)
        assert (volume(chain.predictions / f"{case}.nii.gz") == expected).mean() > 0.9999


def test_uncertainty_is_the_normalised_entropy_of_the_mean(chain):
    for case in chain.cases:
        p = np.clip(volume(chain.predictions / f"{case}_probabilities.nii.gz").astype(float), 1e-7, 1)
        if chain.configuration == "2d":
            q = np.clip(1 - p, 1e-7, 1)
            expected = (-(p * np.log2(p) + q * np.log2(q))).max(0)
        else:
            expected = -(p * np.log(p)).sum(0) / np.log(len(p))
        np.testing.assert_allclose(volume(chain.predictions / f"{case}_uncertainty.nii.gz"), expected, atol=2e-3)


def test_mutual_information_is_no_more_than_the_doubt_of_the_samples_and_above_0_where_they_differ(chain):
    for case in chain.cases:
        shared = volume(chain.predictions / f"{case}_mutual_information.nii.gz")
        assert shared.shape == volume(chain.predictions / f"{case}.nii.gz").shape
        samples = volume(chain.predictions / f"{case}_samples.nii.gz")
        assert 0 <= shared.min() and 0 < shared.max() < 1
        differ = (samples != samples[:1]).any(0)
        assert shared[differ].mean() > shared[~differ].mean()


def reached_in_training(chain, structure: str) -> float:
    """Dice of a structure on the patches of the last epoch, mean of the folds."""
    logged = [load_safely(chain.model / f"fold_{fold}" / "checkpoint_final.pth")["logging"] for fold in FOLDS]
    rows = [of_fold["dice_per_class_or_region"][-1] for of_fold in logged]
    return float(np.nanmean(rows, axis=0)[list(structures(chain)).index(structure)])


def test_the_structures_for_a_person_to_look_at_are_marked(chain):
    for row in table(chain):
        assert row["flagged"] == ("yes" if float(row["expected_dice"]) < 0.999 else "no")


def test_the_table_of_cases_counts_the_voxels_of_the_files(chain):
    rows = table(chain)
    assert len(rows) == len(chain.cases) * len(structures(chain))
    for row in rows:
        image = sitk.ReadImage(str(chain.predictions / f"{row['case']}.nii.gz"))
        voxel = np.prod(image.GetSpacing()) / (1000 if chain.configuration != "2d" else 1)
        column = "area_mm2" if chain.configuration == "2d" else "volume_ml"
        values = structures(chain)[row["structure"]]
        mask = np.isin(sitk.GetArrayFromImage(image), values)
        samples = np.isin(volume(chain.predictions / f"{row['case']}_samples.nii.gz"), values)
        assert len(samples) == 3 * len(FOLDS) == int(row["num_samples"])
        sizes = samples.reshape(len(samples), -1).sum(1) * voxel
        assert float(row[column]) == pytest.approx(mask.sum() * voxel, rel=1e-4)
        lower, upper = (np.quantile(sizes, level) for level in (0.05, 0.95))
        assert float(row[f"{column}_p05"]) == pytest.approx(min(lower, mask.sum() * voxel), rel=1e-4, abs=1e-6)
        assert float(row[f"{column}_p95"]) == pytest.approx(max(upper, mask.sum() * voxel), rel=1e-4, abs=1e-6)
        dice = [1.0 if mask.sum() + s.sum() == 0 else 2 * (mask & s).sum() / (mask.sum() + s.sum()) for s in samples]
        most = reached_in_training(chain, row["structure"])
        assert float(row["expected_dice"]) == pytest.approx(min(np.mean(dice), most), abs=1e-4)
        assert (row["estimate"], row["expected_dice_low"]) == ("samples", "")
        assert float(row["expected_dice_between_samples"]) == pytest.approx(expected_dice_between_samples(samples),
                                                                            abs=1e-4)


def test_the_same_seed_gives_the_same_voxels_whatever_else_is_predicted(chain, tmp_path):
    case = chain.cases[1]
    alone = tmp_path / "alone"
    alone.mkdir()
    for file in (chain.raw / "imagesTs").glob(f"{case}_*"):
        (alone / file.name).symlink_to(file)
    options = f"-d {chain.dataset} -c {chain.configuration} -f 0 1 -device cpu --samples 3 --save_samples"
    assert command(f"predict -i {{0}} -o {{1}} {options}", alone, tmp_path / "same") == 0
    assert command(f"predict -i {{0}} -o {{1}} {options} --seed 1", alone, tmp_path / "other") == 0
    reference = volume(chain.predictions / f"{case}_samples.nii.gz")
    np.testing.assert_array_equal(volume(tmp_path / "same" / f"{case}_samples.nii.gz"), reference)
    assert (volume(tmp_path / "other" / f"{case}_samples.nii.gz") != reference).any()


def test_neither_the_size_of_a_batch_nor_the_memory_changes_the_masks(chain_2d, folders, tmp_path, monkeypatch):
    chain = chain_2d
    folders(chain.root)
    monkeypatch.setattr(predictor, "SAMPLES_PER_CALL", 1)
    monkeypatch.setattr(predictor, "SAMPLED_VOXELS_PER_CALL", 1)
    assert command(
        f"predict -i {{0}} -o {{1}} -d {chain.dataset} -c {chain.configuration} -f 0 1 -device cpu --samples 3 "
        "--save_samples --max_memory 0.000001", chain.raw / "imagesTs", tmp_path / "one_by_one") == 0
    for case in chain.cases:
        for name in (f"{case}.nii.gz", f"{case}_samples.nii.gz"):
            np.testing.assert_array_equal(volume(tmp_path / "one_by_one" / name), volume(chain.predictions / name))


@pytest.mark.parametrize("num_parts", [2, 3])
def test_parts_and_a_continued_prediction_give_the_files_of_one_run(chain_2d, folders, tmp_path, capsys, num_parts):
    """Two cases: the last of three parts has none."""
    chain = chain_2d
    folders(chain.root)
    line = (f"predict -i {{0}} -o {{1}} -d {chain.dataset} -c {chain.configuration} -f 0 1 -device cpu --samples 3 "
            f"--save_samples -num_parts {num_parts} -part_id ")
    for part in map(str, range(num_parts)):
        assert command(line + part, chain.raw / "imagesTs", tmp_path) == 0
    assert without_flags(tmp_path) == without_flags(chain.predictions)
    first, second = chain.cases
    for case in chain.cases:
        np.testing.assert_array_equal(volume(tmp_path / f"{case}_samples.nii.gz"),
                                      volume(chain.predictions / f"{case}_samples.nii.gz"))
    (tmp_path / f"{first}_samples.nii.gz").unlink()
    written = (tmp_path / f"{second}.nii.gz").stat().st_mtime_ns
    capsys.readouterr()
    for part in map(str, range(num_parts)):
        assert command(line + part + " --continue_prediction", chain.raw / "imagesTs", tmp_path) == 0
    assert "1 were there before" in capsys.readouterr().out
    assert (tmp_path / f"{first}_samples.nii.gz").is_file() and (tmp_path /
                                                                 f"{second}.nii.gz").stat().st_mtime_ns == written
    assert without_flags(tmp_path) == without_flags(chain.predictions)


@pytest.mark.parametrize("fusion", ["staple", "dice"])
def test_another_fusion_decodes_the_same_samples(chain_2d, folders, tmp_path, fusion):
    chain = chain_2d
    folders(chain.root)
    assert command(
        f"predict -i {{0}} -o {{1}} -d {chain.dataset} -c {chain.configuration} -f 0 1 -device cpu --samples 3 "
        f"--save_samples --fusion {fusion}", chain.raw / "imagesTs", tmp_path) == 0
    labels = PlansManager(str(chain.model / "plans.json")).get_label_manager(
        json.loads((chain.model / "dataset.json").read_text(encoding="utf-8")))
    for case in chain.cases:
        samples = volume(tmp_path / f"{case}_samples.nii.gz")
        np.testing.assert_array_equal(samples, volume(chain.predictions / f"{case}_samples.nii.gz"))
        np.testing.assert_array_equal(volume(tmp_path / f"{case}.nii.gz"), decode(fusion, None, samples, labels))


def test_a_finished_training_has_seen_every_iteration(chain):
    checkpoint = load_safely(chain.model / "fold_0" / "checkpoint_final.pth")
    assert checkpoint["current_epoch"] == checkpoint["ema"] == 10
    assert checkpoint["network_weights"].keys() == checkpoint["raw_weights"].keys()


def test_every_fold_is_validated_on_its_own_cases_by_nnunet(chain):
    splits = json.loads((chain.preprocessed / "splits_final.json").read_text(encoding="utf-8"))
    for fold in FOLDS:
        summary = json.loads((chain.model / f"fold_{fold}" / "validation" / "summary.json").read_text(encoding="utf-8"))
        cases = {
            entry["prediction_file"].rsplit("/", 1)[1].removesuffix(".nii.gz")
            for entry in summary["metric_per_case"]
        }
        assert cases == set(splits[fold]["val"])
        assert 0 <= summary["foreground_mean"]["Dice"] <= 1


def test_training_leaves_curves_and_previews(chain):
    fold = chain.model / "fold_0"
    assert (fold / "progress.png").stat().st_size > 0
    assert sorted(f.name for f in (fold / "previews").iterdir()) == [f"epoch_{n:04d}.png" for n in (2, 4, 6, 8, 10)]


def test_the_plan_is_explained_and_travels_with_the_model(chain):
    text = (chain.preprocessed / "MedSegDiffPlans.md").read_text(encoding="utf-8")
    plans = json.loads((chain.model / "plans.json").read_text(encoding="utf-8"))
    plan = DiffusionConfiguration.from_plan(plans["configurations"][chain.configuration]["diffusion"])
    assert "each by latent noise of its own" in text and "Noise shift" not in text  # there is no state
    assert plan.target == ("regions" if chain.configuration == "2d" else "classes")


def test_the_report_is_one_offline_file_with_the_chains_figures(chain):
    page = (chain.root / "report.html").read_text(encoding="utf-8")
    assert "<script src" not in page and 'src="http' not in page
    for case in chain.cases:
        assert case in page
