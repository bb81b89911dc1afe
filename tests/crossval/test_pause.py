"""A training that is paused ends with another code than one that is done, and goes on as if nothing had happened."""

import json
import os
import shutil
import signal

import pytest
import torch
from folds_place import CASES, command, use
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from medsegdiff_auto.training.checkpoints import load_safely
from medsegdiff_auto.training.interruptible import InterruptibleTrainer
from medsegdiff_auto.training.termination import EXIT_CODE

TRAINERS = ("nnUNetTrainerMedSegDiff", "nnUNetTrainer")
ITERATIONS = 20  # ten epochs of two


@pytest.fixture(params=TRAINERS)
def fold(request, planned, monkeypatch):
    """The trainer's folder of a fold, and the line that trains it; gone again afterwards."""
    use(planned, monkeypatch)
    folder = planned.fold(request.param, 0)
    yield folder, f"train 921 2d 0 -tr {request.param} --iterations {ITERATIONS} -device cpu --seed 3 --c auto"
    shutil.rmtree(folder.parent)


def test_a_paused_training_goes_on_within_the_epoch_at_the_same_rates_to_the_same_weights(fold, monkeypatch, capsys):
    folder, line = fold
    assert command(line) == 0
    whole = load_safely(folder / "checkpoint_final.pth")
    shutil.rmtree(folder)

    steps = InterruptibleTrainer.train_step

    def pausing(self, batch):
        self.pause_after_hours = 0.0 if self.num_train_steps_done == 2 else None  # in the middle of the second epoch
        return steps(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(InterruptibleTrainer, "train_step", pausing)
        assert command(line) == EXIT_CODE == 75
    assert "--c auto goes on" in capsys.readouterr().out
    half = load_safely(folder / "checkpoint_latest.pth")
    assert (half["current_epoch"], half["num_train_steps_done"], len(half["outputs_of_epoch"])) == (1, 3, 1)
    assert not (folder / "checkpoint_final.pth").exists()

    assert command(line) == 0
    end = load_safely(folder / "checkpoint_final.pth")
    assert end["logging"]["lrs"] == whole["logging"]["lrs"]
    assert end["logging"]["train_losses"] == pytest.approx(whole["logging"]["train_losses"], rel=1e-12)
    for name, value in end["network_weights"].items():
        assert torch.equal(value, whole["network_weights"][name]), name


def test_a_limit_of_every_start_pauses_and_the_starts_together_come_to_the_end(fold):
    folder, line = fold
    line = line.replace(f"--iterations {ITERATIONS}", "--iterations 3")  # three epochs of one
    codes = [command(f"{line} --pause_after 1e-9") for _ in range(4)]
    assert codes == [75, 75, 75, 0]
    assert load_safely(folder / "checkpoint_final.pth")["num_train_steps_done"] == 3


def test_sigterm_during_the_validation_pauses_and_what_is_validated_is_not_validated_again(fold, monkeypatch):
    folder, line = fold
    line = line.replace(f"--iterations {ITERATIONS}", "--iterations 1")
    validation, predicted, predict = folder / "validation", [], nnUNetPredictor.predict_sliding_window_return_logits

    def interrupted(self, data):
        predicted.append(1)
        if len(predicted) == 2:  # nnU-Net writes the first case meanwhile
            while not (validation / f"{CASES[0]}.nii.gz").is_file():
                pass
            os.kill(os.getpid(), signal.SIGTERM)
        return predict(self, data)

    monkeypatch.setattr(nnUNetPredictor, "predict_sliding_window_return_logits", interrupted)
    assert command(line) == EXIT_CODE
    assert (folder / "checkpoint_final.pth").is_file() and not (validation / "summary.json").exists()
    (validation / f"{CASES[0]}.nii.gz").touch()  # whole by now, whenever its thread was done
    assert command(line) == 0
    assert len(predicted) == 2 + 2
    assert len(json.loads((validation / "summary.json").read_text(encoding="utf-8"))["metric_per_case"]) == 3

    (validation / "summary.json").unlink()
    (validation / f"{CASES[1]}.nii.gz").write_bytes((validation / f"{CASES[1]}.nii.gz").read_bytes()[:-20])
    os.utime(validation / f"{CASES[2]}.nii.gz", (0, 0))  # of an earlier training
    assert command(line) == 0
    assert len(predicted) == 4 + 2
