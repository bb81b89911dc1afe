"""nnU-Net's own training, which may be interrupted as ours."""

from __future__ import annotations

from time import monotonic

import torch
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as stock
from torch._dynamo import OptimizedModule

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.training.batches import seed_everything
from medsegdiff_auto.training.checkpoint_content import progress_of, restore_progress
from medsegdiff_auto.training.checkpoints import load_safely, require_keys, save_atomically
from medsegdiff_auto.training.interruptible import STEP_STREAM, InterruptibleTrainer
from medsegdiff_auto.training.schedule import ITERATIONS_PER_EPOCH


class nnUNetTrainer(InterruptibleTrainer):
    """nnU-Net's trainer under its own name: network, loss, optimizer, schedule, augmentation and step are nnU-Net's.

    Its batches follow from the seed, and its checkpoints are nnU-Net's with what it takes to go on from them. So those
    of nnU-Net's commands continue here, and these there.
    """

    @property
    def bare_network(self) -> torch.nn.Module:
        """The network without the wrappers of DDP and compilation."""
        network = self.network.module if self.is_ddp else self.network
        return network._orig_mod if isinstance(network, OptimizedModule) else network

    def new_train_step(self, batch: dict) -> dict:
        """nnU-Net's step."""
        seed_everything(self.seed, STEP_STREAM, self.local_rank, self.num_train_steps_done)
        loss = stock.nnUNetTrainer.train_step(self, batch)["loss"]
        self.num_train_steps_done += 1
        return {"loss": float(loss)}

    def on_epoch_end(self) -> None:
        """nnU-Net's bookkeeping; a STOP file ends the training."""
        super().on_epoch_end()
        if self.current_epoch < self.num_epochs:
            self.end_if_asked()

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint, whole or not at all, by the first process."""
        if self.local_rank == 0 and not self.disable_checkpointing:
            save_atomically({"network_weights": self.bare_network.state_dict()} | progress_of(self), filename)
            self._checkpoint_time = monotonic()

    def load_checkpoint(self, filename_or_checkpoint: dict | str) -> None:
        """Restores a checkpoint of this trainer, or of nnU-Net's, whose batches then begin anew from the epoch.

        Raises:
            UserError: the file is damaged, or the checkpoint of another training.
        """
        checkpoint, name = filename_or_checkpoint, "The checkpoint"
        if not isinstance(checkpoint, dict):
            name, checkpoint = str(checkpoint), load_safely(checkpoint, self.device)
            require_keys(checkpoint, name, {"network_weights": dict, "current_epoch": int, "optimizer_state": dict})
        self.take_length_of(checkpoint)
        if not self.was_initialized:
            self.initialize()
        epoch = checkpoint["current_epoch"]
        of_nnunet = {"num_train_steps_done": epoch * self.num_iterations_per_epoch, "outputs_of_epoch": [],
                     "seed": self.seed, "hours": 0.0, "length": [self.num_epochs, ITERATIONS_PER_EPOCH, 0]}
        try:
            weights = {key.removeprefix("module."): value for key, value in checkpoint["network_weights"].items()}
            self.bare_network.load_state_dict(weights)
            restore_progress(self, of_nnunet | checkpoint)
        except (LookupError, RuntimeError, TypeError, ValueError, AttributeError) as failure:
            if isinstance(failure, torch.OutOfMemoryError):
                raise
            raise UserError(f"{name} does not fit this training.",
                            found=f"{type(failure).__name__}: {failure}".splitlines()[0][:200],
                            expected="a checkpoint of nnUNetTrainer with the same plans",
                            fix="put back the checkpoint or the plans, or train anew with --overwrite") from failure
