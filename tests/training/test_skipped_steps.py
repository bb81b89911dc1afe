"""Steps whose loss or gradient is not finite leave everything as it is, are named, and end a training at last."""

import copy
import logging

import numpy as np
import pytest
import torch
from tiny_plan import PRESETS, tiny_trainer
from torch.amp import GradScaler
from two_processes import by_two_processes

from medsegdiff_auto.training.planned_training import random_batch
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.agreement import Agreement
from medsegdiff_auto.training.checkpoint_content import content_of
from medsegdiff_auto.training.skipped_steps import MOST_IN_A_ROW, SkippedSteps
from medsegdiff_auto.training.step import undo_backoff, update_weights

NAN = float("nan")
FINE, BROKEN = {"loss": 0.5, "denoiser_loss": 0.25}, {"loss": 0.5, "denoiser_loss": NAN}


def broken_batch(trainer, value: float) -> dict:
    """A batch with one intensity that is not finite, of two named cases."""
    batch = random_batch(trainer, 0) | {"keys": np.array(["case_7", "case_1"])}
    batch["data"][0, 0, 3, 3] = value
    return batch


def learned(trainer) -> dict[str, torch.Tensor]:
    """A copy of weights, their average, and the number of its updates."""
    parts = {"raw": trainer.bare_network.state_dict(), "averaged": trainer.ema.averaged.state_dict()}
    return copy.deepcopy({f"{part}.{name}": value for part, state in parts.items() for name, value in state.items()})


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("preset, changed", PRESETS)
def test_a_batch_that_is_not_finite_changes_no_weight_and_the_next_one_does(nnunet_folders, preset, changed, value):
    trainer = tiny_trainer(preset, **changed)
    trainer.train_step(random_batch(trainer, 1))
    before, momenta = learned(trainer), copy.deepcopy(trainer.denoiser_optimizer.state_dict()["state"])
    assert np.isnan(trainer.train_step(broken_batch(trainer, value))["loss"])
    assert same(learned(trainer), before) and trainer.num_train_steps_done == 2
    for number, state in trainer.denoiser_optimizer.state_dict()["state"].items():
        assert same(state, momenta[number])
    assert torch.isfinite(trainer.train_step(random_batch(trainer, 2))["denoiser_loss"])
    assert not same(learned(trainer), before)


def test_a_gradient_that_overflows_under_a_finite_loss_changes_no_weight_of_either_part(nnunet_folders):
    trainer = tiny_trainer()
    parameter = next(trainer.bare_network.denoiser.parameters())
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = learned(trainer)
    assert np.isnan(trainer.train_step(random_batch(trainer, 1))["loss"]) and same(learned(trainer), before)


def test_a_scaler_skips_by_itself_and_gets_its_scale_back():
    part = torch.nn.Linear(2, 1)
    optimizer, scaler = torch.optim.AdamW(part.parameters(), 0.1), GradScaler("cpu", init_scale=1024.0)
    before = copy.deepcopy(part.state_dict())
    for value in (NAN, float("inf")):
        optimizer.zero_grad()
        assert update_weights(part(torch.full((1, 2), value)).sum(), [(part, optimizer)], scaler)
    assert same(part.state_dict(), before) and scaler.get_scale() == 256
    undo_backoff(scaler, 2)
    assert scaler.get_scale() == 1024
    optimizer.zero_grad()
    update_weights(part(torch.ones(1, 2)).sum(), [(part, optimizer)], scaler)
    assert not same(part.state_dict(), before)


def test_an_epochs_curve_is_that_of_its_finite_steps_and_the_cases_of_the_others_are_named(nnunet_folders, caplog):
    trainer = tiny_trainer()
    batches = [random_batch(trainer, 1), broken_batch(trainer, NAN), random_batch(trainer, 2)]
    trainer.logger.log("epoch_start_timestamps", 0.0, 0)
    outputs = [trainer.train_step(batch) for batch in batches]
    with caplog.at_level(logging.WARNING, "medsegdiff_auto"):
        trainer.on_train_epoch_end(outputs)
    finite = [float(step["loss"]) for step in (outputs[0], outputs[2])]
    assert trainer.logger.get_value("train_losses", step=-1) == pytest.approx(np.mean(finite))
    assert np.isfinite(trainer.denoiser_losses) and trainer.cases_of_epoch == []
    assert "1 of 3 steps" in caplog.text and caplog.text.rstrip().endswith("their batches: case_1, case_7.")


def test_steps_in_a_row_are_counted_over_epochs_and_end_the_training_by_name():
    steps, agreement = SkippedSteps(), Agreement()
    names = [["a"], ["b"]]
    assert steps.of_epoch([FINE, BROKEN], names, agreement) == [False, True] and steps.in_a_row == 1
    assert steps.of_epoch([BROKEN, FINE], names, agreement) == [True, False] and steps.in_a_row == 0
    steps.of_epoch([BROKEN] * (MOST_IN_A_ROW - 1), [["c"]] * MOST_IN_A_ROW, agreement)
    with pytest.raises(UserError, match=f"{MOST_IN_A_ROW} steps in a row .* with d"):
        steps.of_epoch([BROKEN], [["d"]], agreement)


def test_a_checkpoint_is_never_replaced_by_weights_that_are_not_finite(nnunet_folders, tmp_path):
    trainer, file = tiny_trainer(), tmp_path / "checkpoint.pth"
    trainer.disable_checkpointing = False
    trainer.save_checkpoint(str(file))
    kept = file.read_bytes()
    for network in (trainer.bare_network, trainer.ema.network):
        parameter = next(network.parameters())
        value = parameter.data.clone()
        parameter.data.view(-1)[0] = float("inf")
        with pytest.raises(UserError, match="no longer finite"):
            trainer.save_checkpoint(str(file))
        parameter.data.copy_(value)
    assert file.read_bytes() == kept
    trainer.save_checkpoint(str(file))


def test_a_training_does_not_go_on_from_weights_that_are_not_finite(nnunet_folders, tmp_path):
    trainer, file = tiny_trainer(), tmp_path / "checkpoint.pth"
    next(trainer.ema.network.parameters()).data.view(-1)[0] = NAN
    torch.save(content_of(trainer), file)
    with pytest.raises(UserError, match=r"checkpoint.pth are not finite"):
        tiny_trainer().load_checkpoint(str(file))


def after_a_broken_batch_of_the_second(rank: int) -> dict:
    trainer = tiny_trainer()
    before = learned(trainer)
    batch = broken_batch(trainer, NAN) if rank == 1 else random_batch(trainer, 5)
    outputs = [trainer.train_step(batch), trainer.train_step(random_batch(trainer, 7 + rank))]
    return {"stayed": same(before, learned(trainer)), "weights": trainer.bare_network.state_dict(),
            "skipped": SkippedSteps().of_epoch([{name: float(value) for name, value in step.items()}
                                                for step in outputs], trainer.cases_of_epoch, trainer.agreement)}


def test_processes_that_share_a_batch_skip_a_step_together(nnunet_folders, tmp_path):
    first, second = by_two_processes(after_a_broken_batch_of_the_second, tmp_path / "group")
    assert first["skipped"] == second["skipped"] == [True, False]
    assert not first["stayed"] and same(first["weights"], second["weights"])
    assert all(value.isfinite().all() for value in first["weights"].values())
