"""``medsegdiff_info`` says what is installed, where the folders are and what is trained."""

import json
from importlib.metadata import version

from cubes import DATASET

from medsegdiff_auto.cli import info


def test_json_holds_the_installed_versions_and_the_finished_folds_of_each_model(trained, capsys):
    model = "nnUNetTrainerMedSegDiff__MedSegDiffPlans__2d"
    for fold in (3, 1):
        (trained / "results" / DATASET / model / f"fold_{fold}" / "checkpoint_final.pth").touch()
    assert info.main(["--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["versions"]["torch"] == version("torch") and shown["versions"]["nnunetv2"] == version("nnunetv2")
    assert shown["folders"]["nnUNet_raw"] == str(trained / "raw")
    assert shown["datasets"][DATASET]["present_in"] == ["nnUNet_preprocessed", "nnUNet_results"]
    assert shown["datasets"][DATASET]["models"] == {
        model: ["1", "3"], "nnUNetTrainerMedSegDiff__MedSegDiffPlans__3d_fullres": []}


def test_unset_and_missing_folders_are_shown_as_such(monkeypatch, capsys):
    monkeypatch.delenv("nnUNet_raw", raising=False)
    monkeypatch.setenv("nnUNet_results", "/nowhere/results")
    info.main([])
    lines = capsys.readouterr().out.splitlines()
    assert any(line.split() == ["nnUNet_raw", "not", "set"] for line in lines)
    assert any(
        line.startswith("nnUNet_results") and line.endswith("/nowhere/results (does not exist)") for line in lines)


def test_the_trainer_folder_is_printed_alone_and_holds_the_shim(capsys):
    info.main(["--ext_trainer_dir"])
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 1 and (info.EXT_TRAINER_DIR / "nnUNetTrainerMedSegDiff.py").is_file()
    assert printed[0] == str(info.EXT_TRAINER_DIR)
