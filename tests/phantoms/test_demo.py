"""The demonstration types commands that exist, in nnU-Net's layout, and does not hide a bad result."""

import importlib
import json

import pytest

from medsegdiff_auto.chain.steps import steps_of
from medsegdiff_auto.cli import demo, steps
from medsegdiff_auto.nnunet.dataset_files import NUM_FOLDS
from medsegdiff_auto.phantoms.nnunet_dataset import write_phantom_dataset
from medsegdiff_auto.phantoms.phantom import PhantomKind


@pytest.mark.parametrize("dimension", [2, 3])
def test_every_command_of_the_demonstration_is_accepted_by_its_parser(tmp_path, monkeypatch, dimension):
    accepted = []
    jobs = steps_of(demo.demo_chain(tmp_path, dimension))
    for job in jobs.values():
        module = importlib.import_module(f"medsegdiff_auto.cli.{job.command[0]}")
        monkeypatch.setattr(module, "run", lambda function, *args, **kwargs: accepted.append(function) or 0)
        assert steps.executed(job) == 0
    assert len(accepted) == 7 + NUM_FOLDS + 1
    assert list(jobs)[:2] == ["phantoms", "plan/MedSegDiffPlans"] and "calibrate/" in " ".join(jobs)


def test_a_step_prints_as_a_command_line_that_can_be_pasted(tmp_path):
    jobs = steps_of(demo.demo_chain(tmp_path / "with space", 3))
    assert steps.shown(jobs["phantoms"]).startswith("medsegdiff_phantoms -d 901 --dimension 3 --cases 24 --shape 24")
    assert f"-i '{tmp_path}/with space/nnUNet_raw/Dataset901_Phantoms/imagesTs' -o" in steps.shown(jobs["predict"])


@pytest.fixture
def unchanged_folders(monkeypatch):
    """nnU-Net's variables, given back afterwards."""
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(variable, "unchanged")


def test_the_demonstration_stops_at_the_first_command_that_fails_and_goes_on_there(tmp_path, monkeypatch, capsys,
                                                                                   unchanged_folders):
    given, raw = [], tmp_path / "demo" / "nnUNet_raw" / "Dataset901_Phantoms"

    def executed(job):
        given.append(job.command[0])
        if job.command[0] == "phantoms":
            raw.mkdir()
            (raw / "dataset.json").write_text('{"file_ending": ".nii.gz"}')
            return 0
        return 2

    monkeypatch.setattr(steps, "executed", executed)
    assert demo.main(["-o", str(tmp_path / "demo")]) == 2
    assert given == ["phantoms", "plan_and_preprocess"]
    assert "medsegdiff_plan_and_preprocess returned 2" in capsys.readouterr().err
    assert demo.main(["-o", str(tmp_path / "demo")]) == 2
    assert given == ["phantoms", "plan_and_preprocess", "plan_and_preprocess"]
    assert demo.main(["-o", str(tmp_path / "demo"), "--overwrite"]) == 2
    assert given[3:] == ["phantoms", "plan_and_preprocess"]
    assert demo.main(["-o", str(tmp_path / "demo"), "--seed", "1"]) == 2
    assert len(given) == 5 and "was begun otherwise" in capsys.readouterr().err


def test_the_demonstration_concludes_where_everything_is_done(tmp_path, monkeypatch, unchanged_folders):
    monkeypatch.setattr(steps, "_all_steps", lambda chain_of: 0)
    monkeypatch.setattr(demo, "_conclude", lambda folder, dimension: 1)
    assert demo.main(["-o", str(tmp_path / "demo")]) == 1


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


def test_a_folder_with_content_is_refused(tmp_path, capsys):
    (tmp_path / "precious.txt").touch()
    assert demo.main(["-o", str(tmp_path)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["precious.txt"]
    assert demo.main(["-o", str(tmp_path / "precious.txt")]) == 2
    assert capsys.readouterr().err.count("holds something else") == 2


def test_fewer_cases_than_folds_are_refused_before_anything_is_written(tmp_path, capsys):
    assert demo.main(["-o", str(tmp_path / "demo"), "--cases", "4"]) == 2
    assert "too few cases" in capsys.readouterr().err and not (tmp_path / "demo").exists()
