"""Several processes on the CPU: what they agree on, what they train, and how they end."""

import os
import signal
import time
from pathlib import Path
from threading import Event

import pytest
import torch
from tiny_plan import PRESETS, tiny_trainer
from two_processes import by_two_processes

from medsegdiff_auto.training.planned_training import random_batch
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training import distributed
from medsegdiff_auto.training.agreement import Agreement
from medsegdiff_auto.training.distributed import run_together
from medsegdiff_auto.training.step import averaged
from medsegdiff_auto.training.termination import EXIT_CODE, TerminationRequest

NUM_PROCESSES, NUM_STEPS, PATIENCE_S = 2, 3, 120


def agreed(rank: int) -> dict:
    agreement = Agreement()
    losses = [{"loss": 1.0 + rank, "denoiser_loss": 0.5}, {"loss": 3.0 * rank, "denoiser_loss": 0.25 * rank}]
    return {"first": agreement.of_first(f"reason of {rank}"), "any": agreement.any(rank == 1, rank == 7, True),
            "mean": agreement.mean([rank, 10.0]), "losses": averaged(losses, agreement)}


def test_the_first_process_decides_claims_of_one_count_for_all_and_values_are_averaged(tmp_path):
    expected = {"first": "reason of 0", "any": [True, False, True], "mean": [0.5, 10.0],
                "losses": [{"loss": 1.5, "denoiser_loss": 0.5}, {"loss": 1.5, "denoiser_loss": 0.125}]}
    assert by_two_processes(agreed, tmp_path / "group") == [expected, expected]


def test_a_single_process_agrees_with_itself():
    assert agreed(0) == {"first": "reason of 0", "any": [False, False, True], "mean": [0.0, 10.0],
                         "losses": [{"loss": 1.0, "denoiser_loss": 0.5}, {"loss": 0.0, "denoiser_loss": 0.0}]}


def trained(rank: int) -> list[dict]:
    """Weights of every preset after three steps on batches of its own."""
    weights = []
    for preset, changed in PRESETS:
        trainer = tiny_trainer(preset, **changed)
        for step in range(NUM_STEPS):
            trainer.train_step(random_batch(trainer, 10 * step + rank))
        weights.append(trainer.bare_network.state_dict())
    return weights


def test_every_preset_trains_by_two_processes_which_keep_the_same_weights(nnunet_folders, tmp_path):
    first, second = by_two_processes(trained, tmp_path / "group")
    assert len(first) == len(PRESETS)
    for weights, others, (preset, changed) in zip(first, second, PRESETS):
        before = tiny_trainer(preset, **changed).bare_network.state_dict()
        assert any(not torch.equal(value, before[name]) for name, value in weights.items()), preset
        for name, value in weights.items():
            assert torch.equal(value, others[name]), (preset, name)


def second_finds_a_mistake(rank: int) -> None:
    if rank == 1:
        raise UserError("This fold is already trained.", found="a", expected="b", fix="c")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as one that waits inside a library for a message
    Event().wait(PATIENCE_S)


def test_a_mistake_that_one_process_finds_ends_all_and_is_told_as_from_a_single_one(monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_TO_LEAVE", 0.1)
    with pytest.raises(UserError, match="This fold is already trained"):
        run_together(second_finds_a_mistake, (), NUM_PROCESSES)


def leave_when_asked(rank: int, asked: str, folder: Path) -> None:
    """Waits for SIGTERM, which the second process sends to whom ``asked`` names, and leaves a file when it comes."""
    with TerminationRequest() as termination:  # a mask would not hold for the threads that libraries have started
        (folder / "both_are_here").open("rw"[rank]).close()
        if rank == 1:
            os.kill({"parent": os.getppid(), "itself": os.getpid()}[asked], signal.SIGTERM)
        if rank == 0 and asked == "itself":
            Event().wait(PATIENCE_S)
        wait_for(termination)
    (folder / str(rank)).touch()
    raise SystemExit(EXIT_CODE)


def wait_for(termination: TerminationRequest) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not termination.asked:
        assert time.monotonic() < deadline, "no SIGTERM came"
        time.sleep(0.01)


@pytest.mark.parametrize("asked, patience_s, answer", [("parent", PATIENCE_S, ["0", "1"]), ("itself", 0.1, ["1"])])
def test_sigterm_to_the_parent_or_to_a_child_ends_all_with_the_exit_code_of_a_pause(asked, patience_s, answer, tmp_path,
                                                                                    monkeypatch):
    monkeypatch.setattr(distributed, "SECONDS_TO_LEAVE", patience_s)
    os.mkfifo(tmp_path / "both_are_here")
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # where it is not passed on it ends no test run
    try:
        with pytest.raises(SystemExit) as end:
            run_together(leave_when_asked, (asked, tmp_path), NUM_PROCESSES)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == EXIT_CODE == 75
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == answer


def interrupt_the_parent(rank: int, folder: Path) -> None:
    """The second process sends Ctrl-C's signal to the parent; both leave a file when SIGTERM comes."""
    with TerminationRequest() as termination:
        (folder / "both_are_here").open("rw"[rank]).close()
        if rank == 1:
            os.kill(os.getppid(), signal.SIGINT)
        wait_for(termination)
    (folder / str(rank)).touch()


def test_ctrl_c_ends_every_process_as_sigterm_does_and_waits_for_them(tmp_path):
    os.mkfifo(tmp_path / "both_are_here")
    with pytest.raises(KeyboardInterrupt):
        run_together(interrupt_the_parent, (tmp_path, ), NUM_PROCESSES)
    assert sorted(file.name for file in tmp_path.iterdir() if file.is_file()) == ["0", "1"]
