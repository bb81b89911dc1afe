"""A training that is stopped goes on from where it stood."""

from chain import command
from conftest import threads_for_processes

from medsegdiff_auto.training.checkpoints import load_safely


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
