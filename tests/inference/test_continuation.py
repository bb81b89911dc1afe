"""Predictions of an earlier command are kept only where this one would make the same, from the same images, and they
are whole.
"""

import gzip
import json
import shutil
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

from medsegdiff_auto.cli.predict import main
from medsegdiff_auto.decision.fitted_sampling import FittedSampling

MODEL = Path(__file__).parent / "version_1"
CASES = ("first", "second")
OPTIONS = ("--samples", "2", "--steps", "1", "--seed", "1", "--save_uncertainty")


@pytest.fixture(scope="module")
def predicted(tmp_path_factory):
    """A model, two images, and their predictions."""
    root = tmp_path_factory.mktemp("predicted")
    shutil.copytree(MODEL, root / "model")
    (root / "images").mkdir()
    for case in CASES:
        shutil.copyfile(MODEL / "phantom_005_0000.nii.gz", root / "images" / f"{case}_0000.nii.gz")
    assert predict(root) == 0
    return root


@pytest.fixture
def folder(predicted, tmp_path):
    """A copy for one test."""
    return shutil.copytree(predicted, tmp_path / "copy")


def predict(root, *flags, options=OPTIONS) -> int:
    return main(["-i", str(root / "images"), "-o", str(root / "out"), "-m", str(root / "model"), "-device", "cpu",
                 *options, *flags])


def content(root) -> dict:
    return {file.name: file.read_bytes() for file in sorted((root / "out").iterdir())}


def run_json(root) -> dict:
    return json.loads((root / "out" / "run.json").read_text(encoding="utf-8"))


def predicted_anew(root, *flags, options=OPTIONS) -> set[str]:
    """The cases that a continued prediction makes again; the files of the others stay as they are."""
    before = {case: (root / "out" / f"{case}.nii.gz").stat().st_mtime_ns for case in CASES
              if (root / "out" / f"{case}.nii.gz").is_file()}
    assert predict(root, "--continue_prediction", *flags, options=options) == 0
    return {case for case in CASES if (root / "out" / f"{case}.nii.gz").stat().st_mtime_ns != before.get(case)}


def test_the_same_command_makes_nothing_again_and_the_record_says_what_all_is_made_from(folder):
    assert predicted_anew(folder) == set()
    record = run_json(folder)
    assert record["made_from"]["seed"] == 1 and record["made_from"]["samples"] == 2
    assert set(record["made_from"]["checkpoints"]) == {"fold_0/checkpoint_final.pth"}
    assert set(record["images"]) == set(CASES) and len(set(record["images"].values())) == 1


@pytest.mark.parametrize("options, named", [
    (("--samples", "3", "--steps", "1", "--seed", "1"), "samples 2"),
    (("--samples", "2", "--steps", "2", "--seed", "1"), "steps 1"),
    (("--samples", "2", "--steps", "1", "--seed", "2"), "seed 1"),
    (("--samples", "2", "--steps", "1", "--seed", "1", "--fusion", "dice"), "fusion mean"),
    (("--samples", "2", "--steps", "1", "--seed", "1", "--temperature", "2"), "temperature 1.0"),
    (("--samples", "2", "--steps", "1", "--seed", "1", "-step_size", "0.9"), "step_size 0.5"),
    (("--samples", "2", "--steps", "1", "--seed", "1", "--mirrors", "1"), "views")], ids=str)
@pytest.mark.parametrize("flags", [("--continue_prediction",), ("-num_parts", "2", "-part_id", "1")], ids=str)
def test_other_options_are_refused_by_name_and_every_file_stays(folder, capsys, options, named, flags):
    before = content(folder)
    assert predict(folder, *flags, options=options) == 2
    message = capsys.readouterr().err
    assert "were made otherwise" in message and named in message.split("found:")[1].splitlines()[0]
    assert content(folder) == before


def with_fit(folder) -> None:
    FittedSampling(0.0, 0.25, 2, 1, 20, 0.8, 0.8).write(folder / "model")


def with_other_checkpoint(folder) -> None:
    fold = folder / "model" / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(fold, weights_only=False)
    checkpoint["current_epoch"] += 1
    torch.save(checkpoint, fold)


@pytest.mark.parametrize("change, named", [(with_fit, "fit"), (with_other_checkpoint, "checkpoints")])
def test_another_fit_and_a_model_trained_anew_are_refused(folder, capsys, change, named):
    before = content(folder)
    change(folder)
    for option in (["--continue_prediction"], [], ["--overwrite", "-num_parts", "2"]):
        assert predict(folder, *option) == 2
        assert f"made otherwise: {named}" in capsys.readouterr().err and content(folder) == before
    assert predict(folder, "--overwrite") == 0
    assert run_json(folder)["made_from"] != json.loads(before["run.json"])["made_from"]


def test_an_image_that_was_replaced_is_predicted_anew(folder):
    file = str(folder / "images" / "second_0000.nii.gz")
    sitk.WriteImage(sitk.ReadImage(file) * 2, file)
    assert predicted_anew(folder) == {"second"}
    assert len(set(run_json(folder)["images"].values())) == 2


@pytest.mark.parametrize("file", ["second.nii.gz", "second_uncertainty.nii.gz"])
@pytest.mark.parametrize("length", [0, 100])
def test_a_file_that_is_empty_or_cut_is_not_finished(folder, file, length):
    whole = content(folder)
    (folder / "out" / file).write_bytes(whole[file][:length])
    assert predicted_anew(folder) >= {"second"}
    assert gzip.decompress(content(folder)[file]) == gzip.decompress(whole[file])


def test_a_mask_that_somebody_has_corrected_stays(folder):
    file = str(folder / "out" / "first.nii.gz")
    sitk.WriteImage(sitk.ReadImage(file) * 0, file)
    assert predicted_anew(folder) == set()


def test_predictions_of_an_earlier_version_are_accepted_with_a_line(folder, caplog):
    record = run_json(folder)
    (folder / "out" / "run.json").write_text(json.dumps({"command": record["command"]}))
    assert predicted_anew(folder) == set()
    assert "does not say what its predictions were made from" in caplog.text


@pytest.mark.parametrize("file, damaged", [("run.json", "[]"), ("run.json", '{"command": "medsegdiff_predict"}'),
                                           ("run.json", '{"images": {"first": 1}}'), ("run.json", '{"made'),
                                           ("cases.csv", "a,b\n1,2\n")])
def test_a_damaged_record_or_table_is_refused_by_name(folder, capsys, file, damaged):
    (folder / "out" / file).write_text(damaged)
    before = content(folder)
    assert predict(folder, "--continue_prediction") == 2
    message = capsys.readouterr().err
    assert file in message and "Traceback" not in message and content(folder) == before


def test_a_prediction_says_which_fit_it_uses(folder, caplog):
    with caplog.at_level("INFO"):
        assert predict(folder) == 0
        assert "Sampling as planned: nothing is fitted." in caplog.text
        with_fit(folder)
        assert predict(folder, "--overwrite") == 0
    assert "Sampling as fitted on 20 cases" in caplog.text
