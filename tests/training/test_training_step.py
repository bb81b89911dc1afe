"""A training step: what it trains, in half precision too, and its losses."""

import pytest
import torch
from tiny_plan import PRESETS, tiny_trainer

from medsegdiff_auto.training.planned_training import random_batch
from medsegdiff_auto.training import step as training_step
from medsegdiff_auto.training.step import downloaded


COARSEST_HEAD = "conditioner.unet.decoder.seg_layers.0"  # nnU-Net's loss leaves it out, but not with several processes


def gradients(trainer) -> dict[str, torch.Tensor | None]:
    """Gradients of the parameters that are trained."""
    parameters = trainer.bare_network.named_parameters()
    return {name: parameter.grad for name, parameter in parameters if parameter.requires_grad}


@pytest.mark.parametrize("preset, changed", PRESETS)
def test_whatever_is_trained_gets_a_gradient_at_every_step(nnunet_folders, preset, changed):
    trainer = tiny_trainer(preset, **changed)
    for step in range(2):  # MedSegDiff-V2's anchor loss counts at the first of them, but not at the second
        trainer.train_step(random_batch(trainer, step))
        without = [name.rpartition(".")[0] for name, gradient in gradients(trainer).items() if gradient is None]
        assert set(without) <= ({COARSEST_HEAD} if preset in ("auto", "state") else set())


def denoiser_gradients(trainer) -> list[torch.Tensor]:
    """Gradients of the denoiser in one step of which half the states are recycled, all parameters away from zero."""
    torch.manual_seed(1)
    for parameter in trainer.bare_network.denoiser.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)
    trainer.train_step(random_batch(trainer, 0))
    return [parameter.grad for parameter in trainer.bare_network.denoiser.parameters()]


def test_a_recycled_step_in_half_precision_has_the_gradients_of_one_without_cached_weights(nnunet_folders, monkeypatch):
    monkeypatch.setitem(training_step.HALF_PRECISION, "cpu", torch.bfloat16)
    trainer, runs = tiny_trainer(recycling_share=0.5, sees_state=True), []
    trainer.bare_network.denoiser.register_forward_pre_hook(
        lambda *_: runs.append((torch.is_grad_enabled(), torch.is_autocast_cache_enabled())))
    ours = denoiser_gradients(trainer)
    assert runs == [(False, False), (True, False)]  # what torch keeps from the first run for the second: nothing

    monkeypatch.setattr("medsegdiff_auto.training.trainer.half_precision",
                        lambda device: torch.autocast("cpu", torch.bfloat16, cache_enabled=False))
    of_other = denoiser_gradients(tiny_trainer(recycling_share=0.5, sees_state=True))
    for gradient, expected in zip(ours, of_other, strict=True):
        assert expected.abs().sum() > 0
        torch.testing.assert_close(gradient, expected)


def test_losses_stay_on_the_device_until_they_are_downloaded_at_once(nnunet_folders):
    trainer = tiny_trainer()
    steps = [trainer.train_step(random_batch(trainer, step)) for step in range(3)]
    assert all(isinstance(value, torch.Tensor) and not value.requires_grad for step in steps for value in step.values())
    assert downloaded(steps) == [{name: value.item() for name, value in step.items()} for step in steps]
    assert downloaded([{"loss": 0.1, "denoiser_loss": 0.2}, *steps])[1:] == downloaded(steps)
    assert downloaded([]) == []
