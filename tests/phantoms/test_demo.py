"""The demonstration types commands that exist, in nnU-Net's layout, and does not hide a bad result."""

import importlib
import json

import pytest

from medsegdiff_auto.cli import demo
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind


@pytest.mark.parametrize("dimension", [2, 3])
def test_every_command_of_the_demonstration_is_accepted_by_its_parser(tmp_path, monkeypatch, dimension):
    accepted = []
    for step in demo.demo_steps(tmp_path, dimension):
        module = importlib.import_module(f"medsegdiff_auto.cli.{step.program.removeprefix('medsegdiff_')}")
        monkeypatch.setattr(module, "run", lambda function, *args, **kwargs: accepted.append(function) or 0)
        assert step.execute() == 0
    assert len(accepted) == 7 + len(demo.FOLDS)


def test_a_step_prints_as_a_command_line_that_can_be_pasted(tmp_path):
    step = demo.demo_steps(tmp_path / "with space", 3)[0]
    assert str(step).startswith(f"medsegdiff_phantoms -o '{tmp_path}/with space/nnUNet_raw' -d 901 --dimension 3")


def test_the_demonstration_stops_at_the_first_command_that_fails(tmp_path, monkeypatch, capsys):
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, "unchanged")
    executed = []
    monkeypatch.setattr(demo.CommandLine, "execute",
                        lambda step: executed.append(step.program) or (0, 2)[len(executed) - 1])
    assert demo.main(["-o", str(tmp_path / "demo")]) == 2
    assert executed == ["medsegdiff_phantoms", "medsegdiff_plan_and_preprocess"]
    assert "medsegdiff_plan_and_preprocess returned 2" in capsys.readouterr().err


@pytest.mark.parametrize("dice, code", [(0.90, 0), (0.80, 1), (float("nan"), 1)])
def test_a_mean_dice_below_the_minimum_ends_with_exit_code_1(tmp_path, capsys, dice, code):
    raw = write_phantom_dataset(tmp_path / "nnUNet_raw", 902, "Phantoms", (1, 1), PhantomKind(2, shape=(24, 24)))
    final = tmp_path / "predictions_postprocessed"
    final.mkdir()
    (raw / "labelsTs" / "phantom_001.nii.gz").rename(final / "phantom_001.nii.gz")
    (final / "phantom_001_samples.nii.gz").touch()
    (final / "summary.json").write_text(json.dumps({"foreground_mean": {"Dice": dice}}))
    assert demo._conclude(tmp_path, 2) == code
    output = capsys.readouterr()
    assert f"{dice:.4f}" in output.out and ("below 0.85" in output.err) == (code == 1)
    assert f"1 x {final / 'phantom_001.nii.gz'}  segmentations" in output.out


def test_a_folder_with_content_is_refused(tmp_path):
    (tmp_path / "precious.txt").touch()
    assert demo.main(["-o", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    with pytest.raises(UserError, match="empty folder"):
        demo._set_folders(tmp_path / "precious.txt")
