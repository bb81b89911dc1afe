"""The trainer: nnU-Net's, with a denoiser behind the network that nnU-Net plans."""

from __future__ import annotations

import copy
import os
from contextlib import nullcontext
from time import time

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import Tensor, nn
from torch._dynamo import OptimizedModule

from medsegdiff_auto.diffusion.configuration import PLANS_KEY, DiffusionConfiguration
from medsegdiff_auto.diffusion.losses import cross_entropy, noise_mse, soft_dice_loss
from medsegdiff_auto.diffusion.process import uniform_times
from medsegdiff_auto.diffusion.state import state_from_labels, state_from_regions
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.training.checkpoints import load_safely, random_states, restore_random_states, save_atomically
from medsegdiff_auto.training.ema import EMA
from medsegdiff_auto.training.previews import Previews
from medsegdiff_auto.training.schedule import (TrainingLength, polynomial_learning_rate, set_learning_rate,
                                               training_progress)

GRADIENT_NORM_LIMIT = 12.0
SECONDS_BETWEEN_CHECKPOINTS = 30 * 60
STOP_FILE = "STOP"


class TrainingEnded(Exception):
    """Raised at the end of an epoch when the time is up or a STOP file lies in the output folder."""


def diffusion_configuration(configuration_manager: ConfigurationManager) -> DiffusionConfiguration:
    """The diffusion section of a configuration of the plans."""
    return DiffusionConfiguration.from_plan(configuration_manager.configuration[PLANS_KEY])


class nnUNetTrainerMedSegDiff(nnUNetTrainer):
    """nnU-Net's training of nnU-Net's network, and beside it the training of the denoiser on its features.

    The two share the batch and nothing else: the conditioner has nnU-Net's loss, optimizer, schedule and gradient
    clipping; the denoiser has cross-entropy and AdamW, and no gradient flows from it into the conditioner.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.diffusion = diffusion_configuration(self.configuration_manager)
        self.max_hours: float | None = None
        self.length_is_given = False
        self.hours_before_resuming = 0.0
        self.denoiser_losses: list[float] = []
        self.denoiser_optimizer: torch.optim.Optimizer | None = None
        self.ema: EMA | None = None
        self.previews: Previews | None = None
        self._start_time = self._checkpoint_time = time()

    def set_length(self, length: TrainingLength) -> None:
        """Sets epochs and iterations, before :meth:`initialize`; a checkpoint loaded later does not change them."""
        self.length_is_given = True
        self.num_epochs = length.num_epochs
        self.num_iterations_per_epoch = length.num_iterations_per_epoch
        self.num_val_iterations_per_epoch = length.num_val_iterations_per_epoch

    @staticmethod
    def build_network_architecture(plans_manager: PlansManager, configuration_manager: ConfigurationManager,
                                   num_input_channels: int, num_output_channels: int,
                                   enable_deep_supervision: bool = True) -> nn.Module:
        """nnU-Net's planned network inside the network of the preset; also what inference calls."""
        unet = nnUNetTrainer.build_network_architecture(plans_manager, configuration_manager, num_input_channels,
                                                        num_output_channels, enable_deep_supervision)
        return build_network(unet, num_output_channels, diffusion_configuration(configuration_manager),
                             enable_deep_supervision, num_input_channels)

    @property
    def bare_network(self) -> nn.Module:
        """The network without the wrappers of DDP and torch.compile."""
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def initialize(self) -> None:
        """nnU-Net's initialisation, the denoiser's optimizer and the weight average."""
        super().initialize()
        self.ema = EMA(self.bare_network, self.num_epochs * self.num_iterations_per_epoch, self.diffusion.ema_length)

    def configure_optimizers(self):
        """nnU-Net's SGD and schedule on the conditioner; AdamW on the denoiser, kept as ``denoiser_optimizer``.

        A preset without conditioner has the one optimizer under both names.
        """
        initial = self.diffusion.initial_learning_rate
        self.denoiser_optimizer = torch.optim.AdamW(self.bare_network.denoiser.parameters(), initial)
        if not self.has_conditioner:
            return self.denoiser_optimizer, PolyLRScheduler(self.denoiser_optimizer, initial, self.num_epochs)
        whole, self.network = self.network, self.bare_network.conditioner
        optimizer, scheduler = super().configure_optimizers()
        self.network = whole
        return optimizer, scheduler

    @property
    def has_conditioner(self) -> bool:
        """Whether nnU-Net's network is part of the network (``auto``) or not (``paper``)."""
        return hasattr(self.bare_network, "conditioner")

    @property
    def trained_parts(self) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """The parts of the network, each with the optimizer that trains it."""
        parts = [(self.bare_network.denoiser, self.denoiser_optimizer)]
        return [(self.bare_network.conditioner, self.optimizer), *parts] if self.has_conditioner else parts

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """On: ``forward`` gives nnU-Net's deep-supervised logits. Off: it samples."""
        self.bare_network.deep_supervision = enabled

    def _do_i_compile(self) -> bool:
        """Never: the network changes its graph between training, validation and sampling."""
        return False

    def print_to_log_file(self, *args, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """nnU-Net's log, in the file only; the console gets one line per epoch."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def reference_state(self, target: Tensor) -> tuple[Tensor, Tensor | None]:
        """x_start (B, K, *spatial) in [-1, 1] and the valid voxels (B, 1, *spatial), None where all are."""
        ignore_label = self.label_manager.ignore_label
        if self.label_manager.has_regions:
            if ignore_label is None:
                return state_from_regions(target), None
            ignored = target[:, -1:].bool()
            return state_from_regions(target[:, :-1], ignored), ~ignored
        x_start = state_from_labels(target, self.label_manager.num_segmentation_heads, ignore_label)
        return x_start, None if ignore_label is None else target != ignore_label

    def denoiser_loss(self, output: Tensor, x_start: Tensor, noise: Tensor, valid: Tensor | None) -> Tensor:
        """|eps - eps_theta|^2, or cross-entropy plus Dice of the predicted x_0's logits with the plan's weights."""
        d = self.diffusion
        if d.parameterisation == "noise":
            return noise_mse(output, noise, valid)
        loss = d.cross_entropy_weight * cross_entropy(output, x_start, d.target, valid)
        if d.dice_weight:
            loss = loss + d.dice_weight * soft_dice_loss(output, x_start, d.target, valid)
        return loss

    def train_step(self, batch: dict) -> dict:
        """One step of both networks on one batch; ``loss`` is nnU-Net's (without conditioner: the denoiser's)."""
        data = batch["data"].to(self.device, non_blocking=True)
        target = [t.to(self.device, non_blocking=True) for t in batch["target"]]
        x_start, valid = self.reference_state(target[0])
        t = uniform_times(len(data)).to(self.device, torch.float32 if self.device.type == "mps" else torch.float64)
        recycled = torch.rand(len(data), device=self.device) < self.diffusion.recycling_share
        noise = torch.randn_like(x_start)
        for _, optimizer in self.trained_parts:
            optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            logits, output = self.network(data, x_start, t, noise, recycled)
            denoiser_loss = self.denoiser_loss(output.float(), x_start, noise, valid)
            loss = self.loss(logits, target) if self.has_conditioner else denoiser_loss
        self.update_weights(loss + denoiser_loss if self.has_conditioner else loss)
        return {"loss": loss.detach().cpu().numpy(), "denoiser_loss": denoiser_loss.detach().cpu().numpy()}

    def update_weights(self, loss: Tensor) -> None:
        """Backward pass, clipping of each network by itself, both optimizers, the weight average."""
        scaler = self.grad_scaler
        (scaler.scale(loss) if scaler is not None else loss).backward()
        for part, optimizer in self.trained_parts:
            if scaler is not None:
                scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(part.parameters(), GRADIENT_NORM_LIMIT)
            if scaler is not None:
                scaler.step(optimizer)
            else:
                optimizer.step()
        if scaler is not None:
            scaler.update()
        self.ema.update(self.bare_network)

    @property
    def hours(self) -> float:
        """Hours of training so far, those before a resumption included."""
        return self.hours_before_resuming + (time() - self._start_time) / 3600

    def on_train_start(self) -> None:
        """nnU-Net's preparations and the cases of the previews."""
        super().on_train_start()
        self._start_time = self._checkpoint_time = time()
        if self.local_rank == 0:
            self.previews = Previews(self)

    def on_train_epoch_start(self) -> None:
        """Both learning rates from the progress by epochs or by hours."""
        super().on_train_epoch_start()
        progress = training_progress(self.current_epoch, self.num_epochs, self.hours, self.max_hours)
        set_learning_rate(self.optimizer, polynomial_learning_rate(self.initial_lr, progress))
        set_learning_rate(self.denoiser_optimizer,
                          polynomial_learning_rate(self.diffusion.initial_learning_rate, progress))

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's curve, and the denoiser's loss beside it."""
        super().on_train_epoch_end(train_outputs)
        self.denoiser_losses.append(float(np.mean([output["denoiser_loss"] for output in train_outputs])))

    def on_epoch_end(self) -> None:
        """nnU-Net's bookkeeping, one line on the console, previews, a checkpoint at least every 30 minutes."""
        epoch = self.current_epoch
        super().on_epoch_end()
        if self.local_rank == 0:
            print(self.epoch_line(epoch), flush=True)
            self.previews.draw_if_due(epoch)
        if time() - self._checkpoint_time > SECONDS_BETWEEN_CHECKPOINTS:
            self.current_epoch -= 1  # save_checkpoint stores the number of the next epoch as current + 1
            self.save_checkpoint(join(self.output_folder, "checkpoint_latest.pth"))
            self.current_epoch += 1
        if self.current_epoch < self.num_epochs:
            self.end_if_asked()

    def end_if_asked(self) -> None:
        """Raises :class:`TrainingEnded` where the time is up or a STOP file lies there; the file is used up."""
        stop_file = join(self.output_folder, STOP_FILE)
        if os.path.isfile(stop_file):
            os.remove(stop_file)
            raise TrainingEnded("STOP file found")
        if self.max_hours and self.hours >= self.max_hours:
            raise TrainingEnded(f"{self.max_hours:g} hours are over")

    def epoch_line(self, epoch: int) -> str:
        """``epoch 12/50 | loss ... | patch Dice ... | 31 s | 0:20 left``."""
        log = self.logger
        seconds = (log.get_value("epoch_end_timestamps", step=-1) - log.get_value("epoch_start_timestamps", step=-1))
        left = (self.num_epochs - epoch - 1) * seconds
        if self.max_hours:
            left = min(left, max(0.0, (self.max_hours - self.hours) * 3600))
        dice = " ".join(f"{value:.3f}" for value in log.get_value("dice_per_class_or_region", step=-1))
        return (f"epoch {epoch + 1}/{self.num_epochs} | loss {log.get_value('train_losses', step=-1):.3f} | "
                f"validation loss {log.get_value('val_losses', step=-1):.3f} | denoiser loss "
                f"{self.denoiser_losses[-1]:.4f} | patch Dice {dice} | {seconds:.0f} s | "
                f"{int(left // 3600)}:{int(left % 3600 // 60):02d}:{int(left % 60):02d} left")

    def run_training(self) -> None:
        """nnU-Net's loop; an early end still writes the final checkpoint."""
        try:
            super().run_training()
        except TrainingEnded as reason:
            self.print_to_log_file(f"Training ended after epoch {self.current_epoch}: {reason}")
            print(f"Training ended after epoch {self.current_epoch} of {self.num_epochs}: {reason}.")
            self.on_train_end()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's own validation on whole volumes, with the averaged weights."""
        raw = copy.deepcopy(self.bare_network.state_dict())
        self.bare_network.load_state_dict(self.ema.network.state_dict())
        super().perform_actual_validation(save_probabilities)
        self.bare_network.load_state_dict(raw)

    def save_checkpoint(self, filename: str) -> None:
        """``network_weights`` are the averaged ones, for prediction; everything else is for resuming. Atomic."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        scaler = self.grad_scaler
        save_atomically({
            "network_weights": self.ema.network.state_dict(),
            "raw_weights": self.bare_network.state_dict(),
            "ema": self.ema.state_dict()["num_updates"],
            "optimizer_state": self.optimizer.state_dict(),
            "denoiser_optimizer_state": self.denoiser_optimizer.state_dict(),
            "grad_scaler_state": scaler.state_dict() if scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "denoiser_losses": self.denoiser_losses,
            "random_states": random_states(),
            "hours": self.hours,
            "length": [self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch],
            "_best_ema": self._best_ema,
            "current_epoch": self.current_epoch + 1,
            "init_args": {key: str(value) if isinstance(value, torch.device) else value
                          for key, value in self.my_init_kwargs.items()},
            "trainer_name": self.__class__.__name__,
            "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
        }, filename)
        self._checkpoint_time = time()

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Restores everything that :meth:`save_checkpoint` stored; a path or a loaded checkpoint."""
        checkpoint = filename_or_checkpoint
        if not isinstance(checkpoint, dict):
            checkpoint = load_safely(checkpoint, self.device)
        if not self.length_is_given:
            length = checkpoint["length"]
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = length
        if not self.was_initialized:
            self.initialize()
        self.bare_network.load_state_dict(checkpoint["raw_weights"])
        self.ema.load_state_dict({"weights": checkpoint["network_weights"], "num_updates": checkpoint["ema"]})
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        self.denoiser_optimizer.load_state_dict(checkpoint["denoiser_optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.logger.load_checkpoint(checkpoint["logging"])
        self.denoiser_losses = checkpoint["denoiser_losses"]
        self.hours_before_resuming = checkpoint["hours"]
        self._best_ema, self.current_epoch = checkpoint["_best_ema"], checkpoint["current_epoch"]
        self.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]
        restore_random_states(checkpoint["random_states"])
