"""Checkpoints survive a kill, run no code and bring the random states back."""

import os
import random

import numpy as np
import pytest
import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.checkpoints import load_safely, random_states, restore_random_states, save_atomically


def test_an_interrupted_save_leaves_the_old_checkpoint_whole(tmp_path, monkeypatch):
    file = tmp_path / "checkpoint.pth"
    save_atomically({"epoch": 1}, file)

    def killed(checkpoint, target):
        with open(target, "wb") as stream:
            stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_atomically({"epoch": 2}, file)
    assert load_safely(file) == {"epoch": 1}


def test_a_checkpoint_with_code_in_it_is_refused_and_the_code_does_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    torch.save({"network_weights": Malicious()}, tmp_path / "checkpoint.pth")
    with pytest.raises(UserError, match=r"a reference to posix\.mkdir") as refused:
        load_safely(tmp_path / "checkpoint.pth")
    assert not (tmp_path / "owned").exists() and "weights_only" not in str(refused.value)


def test_numpy_scalars_of_nnunets_log_are_accepted(tmp_path):
    save_atomically({"best": np.float64(0.5), "loss": [np.float32(0.25)]}, tmp_path / "checkpoint.pth")
    assert load_safely(tmp_path / "checkpoint.pth") == {"best": 0.5, "loss": [0.25]}


def test_random_states_come_back(tmp_path):
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    save_atomically(random_states(), tmp_path / "states.pth")
    first = draw()
    restore_random_states(load_safely(tmp_path / "states.pth"))
    assert draw() == first
