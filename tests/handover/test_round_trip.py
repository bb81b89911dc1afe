"""What comes out of a model file is the model that went in, voxel for voxel, and nothing else of the machine."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_file import rewritten
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from small_model import DICES, KEPT, STEPS, TERMS, write_model_folder

from medsegdiff_auto import Segmenter
from medsegdiff_auto.cli import export, import_model, predict
from medsegdiff_auto.decision.fitted_sampling import FittedSampling, read_fitted_sampling
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.files.provenance import checksum
from medsegdiff_auto.handover import importing
from medsegdiff_auto.handover.exporting import export_model
from medsegdiff_auto.inference import model_unpacking
from medsegdiff_auto.inference.model import load_model
from medsegdiff_auto.nnunet.postprocessing_steps import load_postprocessing
from medsegdiff_auto.training.checkpoints import load_safely

IMAGE = KEPT / "phantom_005_0000.nii.gz"
MODEL = "nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d"


@pytest.fixture(scope="module")
def imported(exported, tmp_path_factory) -> Path:
    """The model folder that import leaves; to be read only."""
    return importing.import_model(exported, tmp_path_factory.mktemp("imported") / "model").folder


def files_below(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_the_imported_folder_and_the_file_itself_predict_the_voxels_of_the_original(model_folder, imported, model_file):
    expected = Segmenter(model_folder, device="cpu", samples=2).predict(IMAGE)
    assert len(np.unique(expected.segmentation)) > 1 and (expected.samples[0] != expected.samples[2]).any()
    for model in (imported, model_file, str(model_file)):
        found = Segmenter(model, device="cpu", samples=2).predict(IMAGE)
        for name in ("segmentation", "samples", "probabilities"):
            np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
        assert found.volumes == expected.volumes or str(found.volumes) == str(expected.volumes)


def test_the_command_predicts_with_the_file_as_with_the_folder(model_folder, model_file, tmp_path):
    (tmp_path / "images").mkdir()
    shutil.copy(IMAGE, tmp_path / "images")
    for model, out in ((model_folder, "a"), (model_file, "b")):
        assert predict.main(["-m", str(model), "-i", str(tmp_path / "images"), "-o", str(tmp_path / out), "-device",
                             "cpu", "--samples", "2"]) == 0
    assert (tmp_path / "a" / "phantom_005.nii.gz").read_bytes() == (tmp_path / "b" / "phantom_005.nii.gz").read_bytes()
    assert (tmp_path / "a" / "cases.csv").read_text() == (tmp_path / "b" / "cases.csv").read_text()


def test_nnunets_own_predictor_reads_the_imported_folder(model_folder, imported, monkeypatch):
    monkeypatch.setenv("nnUNet_extTrainer", str(Path(model_unpacking.__file__).parents[1] / "ext_trainers"))
    logits = []
    for folder in (model_folder, imported):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False, use_mirroring=False)
        predictor.initialize_from_trained_model_folder(str(folder), (0, 1))
        torch.manual_seed(0)
        logits.append(predictor.predict_logits_from_preprocessed_data(
            torch.linspace(-2, 2, 32 * 32).reshape(1, 1, 32, 32)))
    assert torch.equal(*logits) and logits[0].std() > 0


def test_the_folder_holds_what_nnunet_and_the_commands_read_and_no_more(imported):
    assert files_below(imported) == {
        "plans.json", "dataset.json", "dataset_fingerprint.json", "sampling.json", "manifest.json", "README.md",
        "fold_0/checkpoint_final.pth", "fold_1/checkpoint_final.pth", "crossval_results_folds_0_1/postprocessing.pkl"}
    then, now = (load_safely(folder / "fold_0" / "checkpoint_final.pth") for folder in (KEPT, imported))
    assert {"optimizer_state", "raw_weights", "random_states"} <= then.keys() - now.keys()
    assert now["network_weights"].keys() == then["network_weights"].keys()
    assert all(torch.equal(value, now["network_weights"][name]) for name, value in then["network_weights"].items())
    assert now["inference_allowed_mirroring_axes"] == (0, 1) and now["current_epoch"] == then["current_epoch"] == 10
    np.testing.assert_array_equal(now["logging"]["train_losses"], then["logging"]["train_losses"])
    assert load_model(imported).validation_dice == pytest.approx(load_model(KEPT).validation_dice, nan_ok=True)


def test_no_name_of_a_case_or_a_folder_leaves_the_machine(exported, model_folder):
    assert b"MUELLER" in (model_folder / "dataset.json").read_bytes()
    with zipfile.ZipFile(exported) as parts:
        for name in parts.namelist():
            content = parts.read(name)
            assert not any(word in content for word in (b"MUELLER", b"/home", str(model_folder).encode())), name


def test_the_fit_travels_with_the_checksums_of_the_checkpoints_that_are_written(imported, model_folder):
    then, now = read_fitted_sampling(model_folder), read_fitted_sampling(imported)
    assert (now.dispersion, now.conditioner_weight, now.temperature, now.num_cases) == (0.0, 0.25, 1.5, 12)
    assert now.checkpoints == {name: checksum(imported / name) for name in then.checkpoints} != then.checkpoints


def test_one_fold_goes_with_a_fit_that_still_names_the_other(model_folder, tmp_path):
    export_model(model_folder, tmp_path / "one.zip", [1])
    folder = importing.import_model(tmp_path / "one.zip", tmp_path / "one").folder
    assert load_model(folder).folds == (1, )
    assert read_fitted_sampling(folder).checkpoints["fold_0/checkpoint_final.pth"] == checksum(
        model_folder / "fold_0" / "checkpoint_final.pth")


def test_steps_of_postprocessing_come_back_with_their_regions(imported, model_folder):
    functions, steps = load_postprocessing(imported / "crossval_results_folds_0_1" / "postprocessing.pkl")
    assert steps == [STEPS[0], {"labels_or_regions": [2], "background_label": 0}]
    assert functions == load_postprocessing(model_folder / "crossval_results_folds_0_1" / "postprocessing.pkl")[0]


def test_the_same_model_gives_the_same_bytes(exported, model_folder, tmp_path):
    export_model(model_folder, tmp_path / "again.zip", terms=TERMS)
    assert (tmp_path / "again.zip").read_bytes() == exported.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"again.zip"}


def test_weights_that_nnunet_holds_twice_are_written_once(exported):
    weights = load_safely(KEPT / "fold_0" / "checkpoint_final.pth")["network_weights"]
    once = sum(value.nbytes for value in {value.data_ptr(): value for value in weights.values()}.values())
    with zipfile.ZipFile(exported) as parts:
        assert once < parts.getinfo("fold_0/weights.safetensors").file_size < once + 16_000
    assert once < sum(value.nbytes for value in weights.values())


def test_scores_are_means_over_all_cases_with_an_interval_and_stand_in_the_card(exported):
    with zipfile.ZipFile(exported) as parts:
        manifest, card = json.loads(parts.read("manifest.json")), parts.read("README.md").decode()
    dices = [dice for of_fold in DICES.values() for dice in of_fold if dice == dice]
    score = manifest["scores"]["organ"]
    assert score["dice"] == pytest.approx(sum(dices) / 3) and score["num_cases"] == 3
    assert min(dices) <= score["low"] < score["dice"] < score["high"] <= max(dices)
    assert set(manifest["scores"]) == {"organ"} and "Not scored: lesion." in card
    assert f"| organ | 0.767 | {score['low']:.3f} to {score['high']:.3f} | 3 |" in card
    assert "Calibrated on 12 cases" in card and "temperature of the probabilities (1.5)" in card
    assert "license: cc-by-4.0" in card and "Somebody, 2026" in card and "The scores rest on 3 cases." in card


def test_a_card_says_what_is_not_known_and_shows_names_as_text(tmp_path):
    folder = shutil.copytree(KEPT, tmp_path / "model")
    dataset_json = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    dataset_json |= {"description": "<script>alert(1)</script>\n# a | b ![x](http://c)", "licence": ""}
    (folder / "dataset.json").write_text(json.dumps(dataset_json), encoding="utf-8")
    export_model(folder, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as parts:
        card = parts.read("README.md").decode()
    assert card.count("not stated: ask who made the model before you use it") == 2 and "license: other" in card
    assert "**Nothing was calibrated.**" in card and "how good it is is not known" in card
    assert "<script" not in card and "&lt;script&gt;alert(1)&lt;/script&gt; \\# a \\| b \\!\\[x\\](http://c)" in card


def test_a_model_handed_on_keeps_its_licence_and_scores(imported, tmp_path):
    manifest = export_model(imported, tmp_path / "on.zip")
    assert manifest.terms.weights_licence == "CC-BY-4.0" and manifest.scores["organ"].num_cases == 3


def test_the_commands_export_and_import_into_nnunets_place(model_folder, tmp_path, capsys):
    file = tmp_path / "model.zip"
    assert export.main(["-m", str(model_folder), "-o", str(file), "-f", "0"]) == 0
    assert "--weights_licence" in capsys.readouterr().err
    (tmp_path / "results").mkdir()
    assert import_model.main([str(file), "-results", str(tmp_path / "results")]) == 0
    folder = tmp_path / "results" / "Dataset904_VersionOne" / MODEL
    told = capsys.readouterr().out
    assert load_model(folder).folds == (0, ) and f"medsegdiff_predict -m {folder}" in told
    assert "Self-test: as when it was exported, in all 1024 voxels." in told and "Licence of the data: CC0-1.0" in told
    assert import_model.main([str(file), "-results", str(tmp_path / "results")]) == 2
    assert export.main(["-m", str(model_folder), "-o", str(file)]) == 2
    assert export.main(["-m", str(tmp_path / "none"), "-o", str(tmp_path / "b.zip")]) == 2
    assert [line.split(":")[0].strip() for line in capsys.readouterr().err.splitlines()] == 3 * [
        "error", "found", "expected", "fix"]
    assert not (tmp_path / "b.zip").exists() and load_model(folder).folds == (0, )


def test_a_trainer_that_nobody_else_has_is_not_handed_over(tmp_path):
    folder = write_model_folder(tmp_path / "model")
    checkpoint = torch.load(folder / "fold_1" / "checkpoint_final.pth", weights_only=False)
    torch.save(checkpoint | {"trainer_name": "nnUNetTrainerMedSegDiffMine"}, folder / "fold_1" / "checkpoint_final.pth")
    (folder / "sampling.json").unlink()
    with pytest.raises(UserError, match="nnUNetTrainerMedSegDiffMine"):
        export_model(folder, tmp_path / "model.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_a_file_is_unpacked_once_beside_itself_and_anew_when_it_changes(model_file, model_folder):
    first = model_unpacking.unpacked(model_file)
    assert first.parent == model_file.parent and first.name == f".model_{checksum(model_file)[:16]}"
    written = (first / "plans.json").stat().st_mtime_ns
    assert model_unpacking.unpacked(model_file) == first and (first / "plans.json").stat().st_mtime_ns == written
    model_file.unlink()
    export_model(model_folder, model_file, [0])
    assert model_unpacking.unpacked(model_file) != first
    assert not list(model_file.parent.glob(".*.lock"))


def test_a_file_in_a_folder_that_cannot_be_written_is_unpacked_for_this_user_alone(model_file, tmp_path, monkeypatch):
    monkeypatch.setattr(model_unpacking.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    monkeypatch.setattr(model_unpacking.os, "access", lambda path, mode: path != model_file.parent)
    (tmp_path / "temporary").mkdir()
    folder = model_unpacking.unpacked(model_file)
    own = tmp_path / "temporary" / f"medsegdiff_models_{os.getuid()}"
    assert folder.parent == own and own.stat().st_mode & 0o777 == 0o700 and (folder / "plans.json").is_file()
    own.chmod(0o777)
    with pytest.raises(UserError, match="not a folder of this user alone"):
        model_unpacking.unpacked(model_file)


def test_a_fit_of_another_training_is_not_taken_over(model_file, exported, tmp_path):
    fit = FittedSampling(0.0, 0.25, 8, 2, 12, 0.8, 0.79, checkpoints={"fold_0/checkpoint_final.pth": 64 * "0"})
    fit.write(tmp_path)
    rewritten(exported, model_file, {"sampling.json": (tmp_path / "sampling.json").read_bytes()})
    with pytest.raises(UserError, match="fitted on another training of fold_0"):
        importing.import_model(model_file, tmp_path / "model")
