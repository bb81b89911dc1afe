"""What a training says of time, whatever the clock does."""

import time
from types import SimpleNamespace

import pytest

from medsegdiff_auto.training.console import epoch_line
from medsegdiff_auto.training.interruptible import InterruptibleTrainer

LOGGED = {"epoch_start_timestamps": 1000.0, "train_losses": 0.5, "val_losses": 0.25, "dice_per_class_or_region": [0.75]}


@pytest.mark.parametrize("end, shown", [(1031.0, "31 s | 0:19:38 left"), (10.0, "0 s | 0:00:00 left")])
def test_a_clock_that_is_set_back_shows_no_negative_time(end, shown):
    values = LOGGED | {"epoch_end_timestamps": end}
    trainer = SimpleNamespace(logger=SimpleNamespace(get_value=lambda name, step: values[name]), num_epochs=50,
                              max_hours=None, denoiser_losses=[0.125])
    assert epoch_line(trainer, 11) == (
        "epoch 12/50 | loss 0.500 | validation loss 0.250 | denoiser loss 0.1250 | patch Dice 0.750 | " + shown)


def test_the_hours_of_a_training_go_on_by_a_clock_that_nobody_sets(monkeypatch):
    trainer = SimpleNamespace(hours_before_resuming=2.0, _start_time=time.monotonic() - 1800)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert InterruptibleTrainer.hours.fget(trainer) == pytest.approx(2.5, abs=0.1)
