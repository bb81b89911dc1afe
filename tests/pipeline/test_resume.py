"""A training that is stopped goes on from where it stood."""

import json

import pytest
from chain import command
from chain import threads_for_processes

from medsegdiff_auto.training.checkpoints import load_safely, save_atomically
from medsegdiff_auto.training.trainer import nnUNetTrainerMedSegDiff


def test_a_stopped_training_continues_to_its_end_and_beyond(spare_fold, monkeypatch):
    threads_for_processes(monkeypatch)
    spare_fold.mkdir()
    (spare_fold / "STOP").touch()
    assert command("train 902 2d 4 --iterations 4 -device cpu --seed 0") == 0
    stopped = load_safely(spare_fold / "checkpoint_final.pth")
    assert stopped["current_epoch"] == 1 and len(stopped["denoiser_losses"]) == 1

    assert command("train 902 2d 4 --c -device cpu") == 0
    finished = load_safely(spare_fold / "checkpoint_final.pth")
    assert finished["current_epoch"] == 4 and len(finished["denoiser_losses"]) == 4
    assert finished["denoiser_losses"][0] == stopped["denoiser_losses"][0]
    assert finished["ema"] == 4 * stopped["ema"]

    assert command("train 902 2d 4 --c --iterations 5 -device cpu") == 0
    assert load_safely(spare_fold / "checkpoint_final.pth")["current_epoch"] == 5


def test_training_by_the_clock_ends_when_the_time_is_over(spare_fold, monkeypatch, capsys):
    threads_for_processes(monkeypatch)
    assert command("train 902 2d 4 --iterations 100 --max_hours 0.0001 -device cpu --seed 0") == 0
    assert "0.0001 hours are over" in capsys.readouterr().out
    assert load_safely(spare_fold / "checkpoint_final.pth")["current_epoch"] < 5


def test_one_line_begins_continues_validates_and_knows_when_all_is_done(spare_fold, monkeypatch, capsys, caplog):
    """The line of a batch file, that is started again whatever became of it."""
    threads_for_processes(monkeypatch)
    line = "train 902 2d 4 --c auto --iterations 4 -device cpu --seed 0"
    trained = []
    epochs = nnUNetTrainerMedSegDiff.run_training

    def watched(self):
        trained.append(self.current_epoch)
        epochs(self)

    monkeypatch.setattr(nnUNetTrainerMedSegDiff, "run_training", watched)
    final, summary = spare_fold / "checkpoint_final.pth", spare_fold / "validation" / "summary.json"
    assert command(line) == 0 and trained == [0]
    whole = load_safely(final)
    assert command(line) == 0 and trained == [0]
    assert "nothing is left to do" in caplog.text and "Mean validation Dice" in capsys.readouterr().out

    summary.write_text(summary.read_text(encoding="utf-8")[:100])  # cut off
    assert command(line) == 0 and trained == [0]
    assert len(json.loads(summary.read_text(encoding="utf-8"))["metric_per_case"]) > 0

    half = whole | {"current_epoch": 2, "logging": {name: values[:2] for name, values in whole["logging"].items()},
                    "denoiser_losses": whole["denoiser_losses"][:2]}
    save_atomically(half, spare_fold / "checkpoint_latest.pth")
    final.unlink()
    assert command(line) == 0 and trained == [0, 2]
    assert load_safely(final)["current_epoch"] == 4

    (spare_fold / "STOP").touch()
    longer = line.replace("--iterations 4", "--iterations 6")
    assert command(longer) == 0 and load_safely(final)["current_epoch"] == 5  # stopped on its way
    assert command(longer) == 0 and load_safely(final)["current_epoch"] == 6 and trained == [0, 2, 4, 5]
    assert command(longer) == 0 and trained == [0, 2, 4, 5]


def test_a_fold_of_another_plan_is_not_called_done(spare_fold, chain_2d, monkeypatch, capsys):
    threads_for_processes(monkeypatch)
    line = "train 902 2d 4 --c auto --iterations 4 -device cpu --seed 0"
    assert command(line) == 0
    file = chain_2d.preprocessed / "MedSegDiffPlans.json"
    before = file.read_text(encoding="utf-8")
    plans = json.loads(before)
    plans["configurations"]["2d"]["batch_size"] += 1
    file.write_text(json.dumps(plans), encoding="utf-8")
    try:
        assert command(line) == 2
    finally:
        file.write_text(before, encoding="utf-8")
    assert "The plan of 2d has changed" in capsys.readouterr().err


@pytest.mark.parametrize("flags", ["--val", "--overwrite"])
def test_what_is_left_to_do_is_not_done_anew(spare_fold, capsys, flags):
    assert command(f"train 902 2d 4 --c auto {flags} -device cpu") == 2
    assert f"--c and {flags} exclude each other" in capsys.readouterr().err
