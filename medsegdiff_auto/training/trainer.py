"""The trainer: nnU-Net's, with a denoiser behind the network that nnU-Net plans."""

from __future__ import annotations

import copy
from time import monotonic

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import join
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medsegdiff_auto.diffusion.losses import anchor_loss
from medsegdiff_auto.diffusion.objective import denoiser_loss
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.diffusion.process import random_rows, uniform_times
from medsegdiff_auto.networks.build import build_network
from medsegdiff_auto.nnunet.contract import require_checked_version
from medsegdiff_auto.nnunet.known_names import require_known_names
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager, with_faster_norm
from medsegdiff_auto.nnunet.plans import diffusion_configuration
from medsegdiff_auto.networks.cpu_speed import channels_last
from medsegdiff_auto.training.batches import seed_everything
from medsegdiff_auto.training.checkpoint_content import content_of, restore
from medsegdiff_auto.training.checkpoints import load_safely, nnunet_weights, save_atomically
from medsegdiff_auto.training.ema import EMA
from medsegdiff_auto.training.interruptible import STEP_STREAM, InterruptibleTrainer
from medsegdiff_auto.training.previews import Previews
from medsegdiff_auto.training.raters import RaterDataset, rater_folders
from medsegdiff_auto.training.schedule import (polynomial_learning_rate, set_learning_rate,
                                               training_progress)
from medsegdiff_auto.training.skipped_steps import SkippedSteps, require_finite_weights
from medsegdiff_auto.training.step import downloaded, half_precision, reference_state, undo_backoff, update_weights

SHORT_TRAINING_ITERATIONS, SHORT_TRAINING_LEARNING_RATE = 10_000, 3e-3


class nnUNetTrainerMedSegDiff(InterruptibleTrainer):
    """nnU-Net's training of nnU-Net's network, and beside it the training of the denoiser on its features.

    The two share the batch and nothing else: the conditioner has nnU-Net's loss, optimizer (AdamW in short trainings),
    schedule and gradient clipping; the denoiser has cross-entropy and AdamW, and no gradient flows from it into the
    conditioner.

    Batches, times, noise and dropout of an iteration follow from ``seed`` and the number of the iteration alone, so
    that a training resumed from any checkpoint goes on as if nothing had happened.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):
        require_known_names(plans)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.diffusion = diffusion_configuration(self.configuration_manager)
        self.conditioner_checkpoint: str | None = None
        self.denoiser_losses: list[float] = []
        self.skipped_steps = SkippedSteps()
        self.denoiser_optimizer: torch.optim.Optimizer | None = None
        self.ema: EMA | None = None
        self.previews: Previews | None = None
        self._is_short_training: bool | None = None

    @staticmethod
    def build_network_architecture(plans_manager: PlansManager, configuration_manager: ConfigurationManager,
                                   num_input_channels: int, num_output_channels: int,
                                   enable_deep_supervision: bool = True) -> nn.Module:
        """nnU-Net's planned network inside the network of the preset; also what inference calls."""
        require_checked_version()
        faster = ConfigurationManager(with_faster_norm(configuration_manager.configuration))
        unet = nnUNetTrainer.build_network_architecture(plans_manager, faster, num_input_channels, num_output_channels,
                                                        enable_deep_supervision)
        return build_network(unet, num_output_channels, diffusion_configuration(configuration_manager),
                             enable_deep_supervision, num_input_channels)

    @property
    def bare_network(self) -> nn.Module:
        """The network without the wrapper of DDP."""
        return self.network.module if isinstance(self.network, DistributedDataParallel) else self.network

    def initialize(self) -> None:
        """nnU-Net's initialisation, the denoiser's optimizer, the weight average; compilation where nnU-Net compiles.

        The parts are compiled in place: their weights keep their names, and the weight average stays as it is.
        """
        super().initialize()
        if self.conditioner_checkpoint is not None:
            self.bare_network.conditioner.unet.load_state_dict(nnunet_weights(self.conditioner_checkpoint))
        if self.device.type == "cpu":
            channels_last(self.bare_network.denoiser)
        num_steps = self.num_epochs * self.num_iterations_per_epoch
        self.ema = EMA(self.bare_network, num_steps, self.diffusion.loss.ema_length)
        if super()._do_i_compile():
            self.bare_network.denoiser.compile()
            if self.bare_network.has_conditioner:
                self.bare_network.conditioner.compile()

    def get_tr_and_val_datasets(self):
        """nnU-Net's split; where there are several raters, the training labels are drawn from them."""
        training, validation = super().get_tr_and_val_datasets()
        raters = rater_folders(self.preprocessed_dataset_folder)
        if raters:
            training = RaterDataset(self.preprocessed_dataset_folder, training.identifiers,
                                    self.folder_with_segs_from_previous_stage, raters)
        return training, validation

    def configure_optimizers(self):
        """nnU-Net's SGD and schedule on the conditioner; AdamW on the denoiser, kept as ``denoiser_optimizer``.

        In short trainings the conditioner has AdamW as well. Without a conditioner, or with a frozen one, there is the
        one optimizer under both names.
        """
        initial = self.diffusion.loss.initial_learning_rate
        self.denoiser_optimizer = torch.optim.AdamW(self.bare_network.denoiser.parameters(), initial, fused=True)
        if not self.trains_conditioner:
            return self.denoiser_optimizer, PolyLRScheduler(self.denoiser_optimizer, initial, self.num_epochs)
        if self.is_short_training:
            self.initial_lr = SHORT_TRAINING_LEARNING_RATE
            optimizer = torch.optim.AdamW(self.bare_network.conditioner.parameters(), self.initial_lr,
                                          weight_decay=self.weight_decay, fused=True)
            return optimizer, PolyLRScheduler(optimizer, self.initial_lr, self.num_epochs)
        whole, self.network = self.network, self.bare_network.conditioner
        optimizer, scheduler = super().configure_optimizers()
        self.network = whole
        return optimizer, scheduler

    @property
    def is_short_training(self) -> bool:
        """Too short for SGD with momentum 0.99, which spends its first hundreds of steps on a plateau.

        Decided once, at the first start: a resumed training keeps its optimizer, whatever its new length.
        """
        if self._is_short_training is None:
            self._is_short_training = self.num_epochs * self.num_iterations_per_epoch < SHORT_TRAINING_ITERATIONS
        return self._is_short_training

    @property
    def trains_conditioner(self) -> bool:
        """Whether nnU-Net's network is part of the network (``auto``) and not frozen (``--upgrade``)."""
        return self.bare_network.has_conditioner and not self.diffusion.network.frozen_conditioner

    @property
    def trained_parts(self) -> list[tuple[nn.Module, torch.optim.Optimizer]]:
        """The parts of the network, each with the optimizer that trains it."""
        parts = [(self.bare_network.denoiser, self.denoiser_optimizer)]
        return [(self.bare_network.conditioner, self.optimizer), *parts] if self.trains_conditioner else parts

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """On: ``forward`` gives nnU-Net's deep-supervised logits. Off: it samples."""
        self.bare_network.deep_supervision = enabled

    def _do_i_compile(self) -> bool:
        """Never: the network changes its graph between training, validation and sampling."""
        return False

    def conditioner_loss(self, logits: list[Tensor], target: list[Tensor], x_start: Tensor,
                         valid: Tensor | None) -> Tensor:
        """nnU-Net's deep-supervised loss, or MedSegDiff-V2's anchor loss at every few iterations."""
        interval = self.diffusion.loss.anchor_loss_interval
        if not interval:
            return self.loss(logits, target)
        due = self.num_train_steps_done % interval == 0
        return anchor_loss(logits[0].float(), x_start, self.diffusion.target, valid=valid) * float(due)

    def new_train_step(self, batch: dict) -> dict:
        """Forward, backward, both optimizers."""
        seed_everything(self.seed, STEP_STREAM, self.local_rank, self.num_train_steps_done)
        data = batch["data"].to(self.device, non_blocking=True)
        target = [t.to(self.device, non_blocking=True) for t in batch["target"]]
        x_start, valid = reference_state(target[0], self.label_manager)
        t = uniform_times(len(data)).tolist()
        if self.diffusion.loss.pure_noise_share:
            for row in random_rows(len(data), self.diffusion.loss.pure_noise_share):
                t[row] = 1.0
        recycled = random_rows(len(data), self.diffusion.loss.recycling_share)
        noise = torch.randn_like(x_start)
        for _, optimizer in self.trained_parts:
            optimizer.zero_grad(set_to_none=True)
        with half_precision(self.device):
            step = self.network(data, x_start, t, noise, recycled)
            of_denoiser = denoiser_loss(step.output.float(), x_start, step.x_t, step.log_snr, self.diffusion, valid)
            loss = whole = of_denoiser
            if self.trains_conditioner:
                loss = self.conditioner_loss(step.logits, target, x_start, valid)
                whole = loss + of_denoiser
        is_updated = update_weights(whole, self.trained_parts, self.grad_scaler)
        self.num_train_steps_done += 1
        if not is_updated:
            return {"loss": float("nan"), "denoiser_loss": float("nan")}
        self.ema.update(self.bare_network)
        return {"loss": loss.detach(), "denoiser_loss": of_denoiser.detach()}

    def on_train_start(self) -> None:
        """nnU-Net's preparations and the cases of the previews."""
        super().on_train_start()
        if self.local_rank == 0:
            _, validation = self.get_tr_and_val_datasets()
            self.previews = Previews(join(self.output_folder, "previews"), self.num_epochs, validation,
                                     self.configuration_manager.patch_size, self.label_manager)

    def on_train_epoch_start(self) -> None:
        """Both learning rates from the first process's progress by epochs or by hours."""
        super().on_train_epoch_start()
        progress = training_progress(self.current_epoch, self.num_epochs, self.hours, self.max_hours)
        progress = self.agreement.of_first(progress)
        set_learning_rate(self.optimizer, polynomial_learning_rate(self.initial_lr, progress))
        set_learning_rate(self.denoiser_optimizer,
                          polynomial_learning_rate(self.diffusion.loss.initial_learning_rate, progress))

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's curve, and the denoiser's loss beside it, of the steps that were not skipped.

        Raises:
            UserError: too many were, one after the other.
        """
        losses = downloaded(train_outputs)
        skipped = self.skipped_steps.of_epoch(losses, self.cases_of_epoch, self.agreement)
        undo_backoff(self.grad_scaler, sum(skipped))
        losses = [step for step, is_skipped in zip(losses, skipped) if not is_skipped] or losses
        super().on_train_epoch_end(losses)
        self.denoiser_losses.append(float(np.mean(self.agreement.mean([step["denoiser_loss"] for step in losses]))))

    def on_epoch_end(self) -> None:
        """nnU-Net's bookkeeping, one line on the console, previews."""
        epoch = self.current_epoch
        super().on_epoch_end()
        if self.local_rank == 0:
            self.previews.draw_if_due(epoch, self.ema.network)
        if self.current_epoch < self.num_epochs:
            self.end_if_asked()

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's own validation on whole volumes, with the averaged weights."""
        raw = copy.deepcopy(self.bare_network.state_dict())
        self.bare_network.load_state_dict(self.ema.network.state_dict())
        super().perform_actual_validation(save_probabilities)
        self.bare_network.load_state_dict(raw)

    def save_checkpoint(self, filename: str) -> None:
        """Everything that prediction and resuming need, atomically, by the first process.

        Raises:
            UserError: in every process, where a weight is not finite: the checkpoint stays as it was.
        """
        for network in (self.bare_network, self.ema.network):
            require_finite_weights(network, f"The weights are no longer finite, and {filename} stays as it was.")
        if self.local_rank == 0 and not self.disable_checkpointing:
            save_atomically(content_of(self), filename)
            self._checkpoint_time = monotonic()

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Restores everything that :meth:`save_checkpoint` stored; a path or a loaded checkpoint.

        Raises:
            UserError: the file is damaged, the checkpoint of another training, or of weights that are not finite.
        """
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, dict):
            self._restore(checkpoint)
            return
        file, checkpoint = checkpoint, load_safely(checkpoint, self.device)
        try:
            self._restore(checkpoint)
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as failure:
            if isinstance(failure, torch.OutOfMemoryError):
                raise
            raise UserError(f"{file} does not fit this training.",
                            found=f"{type(failure).__name__}: {failure}".splitlines()[0][:200],
                            expected=f"a checkpoint of {type(self).__name__} with the same plans",
                            fix="put back the checkpoint or the plans, or train anew with --overwrite") from failure
        for network in (self.bare_network, self.ema.network):
            require_finite_weights(network, f"The weights in {file} are not finite.")

    def _restore(self, checkpoint: dict) -> None:
        self.take_length_of(checkpoint)
        if not self.was_initialized:
            self._is_short_training = checkpoint["is_short_training"]
            self.initialize()
        restore(self, checkpoint)
