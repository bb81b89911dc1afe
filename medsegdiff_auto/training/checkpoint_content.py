"""What a checkpoint holds of a trainer: the network that predicts, and all that the training needs to go on."""

from __future__ import annotations

import torch

from medsegdiff_auto.training.checkpoints import random_states, restore_random_states


def content_of(trainer) -> dict:
    """The checkpoint of a trainer: ``network_weights`` are the averaged ones, for prediction; the rest is to resume."""
    return {
        "network_weights": trainer.ema.network.state_dict(),
        "raw_weights": trainer.bare_network.state_dict(),
        "ema": trainer.ema.state_dict()["num_updates"],
        "is_short_training": trainer.is_short_training,
        "denoiser_optimizer_state": trainer.denoiser_optimizer.state_dict(),
        "denoiser_losses": trainer.denoiser_losses,
    } | progress_of(trainer)


def progress_of(trainer) -> dict:
    """The checkpoint of any interruptible trainer but for its weights: how far it is, and what makes its next steps."""
    scaler, num_epochs_logged = trainer.grad_scaler, trainer.current_epoch + 1
    return {
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": scaler.state_dict() if scaler is not None else None,
        "logging": {name: values[:num_epochs_logged] for name, values in trainer.logger.get_checkpoint().items()},
        "num_train_steps_done": trainer.num_train_steps_done,
        "outputs_of_epoch": trainer.outputs_of_epoch,
        "seed": trainer.seed,
        "random_states": random_states(),
        "hours": trainer.hours,
        "length": [trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch],
        "_best_ema": trainer._best_ema,
        "current_epoch": trainer.current_epoch + 1,
        "init_args": {key: str(value) if isinstance(value, torch.device) else value
                      for key, value in trainer.my_init_kwargs.items()},
        "trainer_name": trainer.__class__.__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
    }


def restore(trainer, checkpoint: dict) -> None:
    """Gives an initialised trainer everything that :func:`content_of` took of it, but its length."""
    trainer.bare_network.load_state_dict(checkpoint["raw_weights"])
    trainer.ema.load_state_dict({"weights": checkpoint["network_weights"], "num_updates": checkpoint["ema"]})
    trainer.denoiser_optimizer.load_state_dict(checkpoint["denoiser_optimizer_state"])
    trainer.denoiser_losses = checkpoint["denoiser_losses"]
    restore_progress(trainer, checkpoint)


def restore_progress(trainer, checkpoint: dict) -> None:
    """Gives an initialised trainer everything that :func:`progress_of` took of it, but its length."""
    trainer.optimizer.load_state_dict(checkpoint["optimizer_state"])
    if trainer.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
        trainer.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
    trainer.logger.load_checkpoint(checkpoint["logging"])
    trainer.num_train_steps_done = checkpoint["num_train_steps_done"]
    goes_on_within_epoch = checkpoint["length"][1] == trainer.num_iterations_per_epoch
    trainer.outputs_of_epoch = checkpoint["outputs_of_epoch"] if goes_on_within_epoch else []
    trainer.outputs_to_repeat = list(trainer.outputs_of_epoch)
    trainer.seed = checkpoint["seed"]
    trainer.hours_before_resuming = checkpoint["hours"]
    trainer._best_ema, trainer.current_epoch = checkpoint["_best_ema"], checkpoint["current_epoch"]
    trainer.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]
    if "random_states" in checkpoint:  # nnU-Net's own have none
        restore_random_states(checkpoint["random_states"])
