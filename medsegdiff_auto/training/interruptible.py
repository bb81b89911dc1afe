"""nnU-Net's training loop, numbered and seeded: it may be interrupted, and goes on as if nothing had happened."""

from __future__ import annotations

import secrets
from itertools import chain, repeat
from pathlib import Path
from time import monotonic

import torch
from batchgenerators.utilities.file_and_folder_operations import join
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.default_n_proc_DA import get_allowed_n_proc_DA
from torch.nn.parallel import DistributedDataParallel

from medsegdiff_auto.files.scans import is_whole_scan
from medsegdiff_auto.training.agreement import Agreement
from medsegdiff_auto.training.batches import batches, nnunet_loaders
from medsegdiff_auto.training.console import epoch_line
from medsegdiff_auto.training.schedule import TrainingLength
from medsegdiff_auto.training.step import averaged, downloaded
from medsegdiff_auto.training.termination import EXIT_CODE, TerminationRequest, TrainingEnded, reason_to_end

SECONDS_BETWEEN_CHECKPOINTS = 30 * 60
TRAINING_STREAM, VALIDATION_STREAM, STEP_STREAM = range(3)


class InterruptibleTrainer(nnUNetTrainer):
    """Batches follow from ``seed`` and the number of the iteration alone; a checkpoint may lie between two iterations.

    Attributes:
        pause_after_hours: of this start; then a checkpoint is written, and the process ends with
            :data:`~medsegdiff_auto.training.termination.EXIT_CODE`.
        max_hours: of all starts together; then the training is over.
        keeps_validated: whether a validation leaves out the cases that an interrupted one has done.
    """

    def __init__(self, plans: dict, configuration: str, fold: int, dataset_json: dict,
                 device: torch.device = torch.device("cuda")):
        super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp and device.type == "cpu":
            self.device, self.grad_scaler = device, None
        elif self.is_ddp:  # nnU-Net's is numbered among the GPUs of all machines
            self.device = torch.device("cuda", torch.cuda.current_device())
        self.agreement = Agreement()
        self.seed = secrets.randbits(32)
        self.max_hours: float | None = None
        self.pause_after_hours: float | None = None
        self.keeps_validated = False
        self.length_is_given = False
        self.hours_before_resuming = 0.0
        self.num_train_steps_done = 0
        self.outputs_of_epoch: list[dict] = []
        self.outputs_to_repeat: list[dict] = []
        self.cases_of_epoch: list[list[str]] = []
        self.termination = TerminationRequest()
        self._validated: set[str] = set()
        self._start_time = self._checkpoint_time = monotonic()

    def _set_batch_size_and_oversample(self) -> None:
        """nnU-Net's; it then wraps the network as if alone, because its DDP knows the GPUs of one machine only."""
        super()._set_batch_size_and_oversample()
        self.is_ddp = False

    def initialize(self) -> None:
        """nnU-Net's, and DDP where several processes share the batch, on GPUs of one or several machines or on CPUs."""
        super().initialize()
        if torch.distributed.is_initialized():
            self.is_ddp = True
            self.network = DistributedDataParallel(
                torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network),
                device_ids=None if self.device.type == "cpu" else [self.device.index])
            self.loss = self._build_loss()

    def set_length(self, length: TrainingLength) -> None:
        """Sets epochs and iterations, before :meth:`initialize`; a checkpoint loaded later does not change them."""
        self.length_is_given = True
        length.give_to(self)

    def take_length_of(self, checkpoint: dict) -> None:
        """Sets the length of a checkpoint, unless one is given; nnU-Net's own checkpoints do not tell theirs."""
        if not self.length_is_given and "length" in checkpoint:
            length = checkpoint["length"]
            self.num_epochs, self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = length

    def get_dataloaders(self):
        """nnU-Net's loaders, whose batches are numbered and seeded, drawn by as many workers as nnU-Net would start."""
        num_workers = get_allowed_n_proc_DA()
        with nnunet_loaders():
            train, validation = (augmenter.data_loader for augmenter in super().get_dataloaders())
        on_gpu, rank = self.device.type == "cuda", self.local_rank
        num_repeated = len(self.outputs_to_repeat)
        first = self.current_epoch * self.num_iterations_per_epoch + num_repeated
        of_training = batches(train, (self.seed, TRAINING_STREAM, rank), first, num_workers, on_gpu)
        of_validation = batches(validation, (self.seed, VALIDATION_STREAM, rank),
                                self.current_epoch * self.num_val_iterations_per_epoch, (num_workers + 1) // 2, on_gpu)
        return chain(repeat({}, num_repeated), of_training), of_validation

    def print_to_log_file(self, *args, also_print_to_console: bool = True, add_timestamp: bool = True) -> None:
        """nnU-Net's log, in the file only; the console gets one line per epoch."""
        super().print_to_log_file(*args, also_print_to_console=False, add_timestamp=add_timestamp)

    def new_train_step(self, batch: dict) -> dict:
        """A step that the checkpoint does not have behind it: the weights move, and the losses come back."""
        raise NotImplementedError

    def train_step(self, batch: dict) -> dict:
        """One step; those that the checkpoint had behind it give their losses again.

        Saves every 30 minutes by the first process's clock, and when any process is asked to end: then all of them do.
        """
        self.cases_of_epoch.append([str(case) for case in batch.get("keys", ())])
        if self.outputs_to_repeat:
            return self.outputs_to_repeat.pop(0)
        self.outputs_of_epoch.append(self.new_train_step(batch))
        is_due = self.local_rank == 0 and monotonic() - self._checkpoint_time > SECONDS_BETWEEN_CHECKPOINTS
        ends, saves = self.agreement.any(self.termination.asked or self.is_to_pause(), is_due)
        if ends or saves:
            self.save_within_epoch()
        if ends:
            self.agreement.wait()
            raise SystemExit(EXIT_CODE)
        return self.outputs_of_epoch[-1]

    def is_to_pause(self) -> bool:
        """Whether this start has lasted as long as it may, by the first process's clock."""
        limit = self.pause_after_hours
        return limit is not None and self.local_rank == 0 and monotonic() - self._start_time >= limit * 3600

    def save_within_epoch(self) -> None:
        """A checkpoint from which every process goes on within the epoch, with the losses so far as means over all."""
        self.outputs_of_epoch = averaged(downloaded(self.outputs_of_epoch), self.agreement)
        self.current_epoch -= 1  # save_checkpoint stores the number of the next epoch as current + 1
        self.save_checkpoint(join(self.output_folder, "checkpoint_latest.pth"))
        self.current_epoch += 1

    @property
    def hours(self) -> float:
        """Hours of training so far, those before a resumption included."""
        return self.hours_before_resuming + (monotonic() - self._start_time) / 3600

    def on_train_start(self) -> None:
        """nnU-Net's preparations, with the first process's seed."""
        self.seed = self.agreement.of_first(self.seed)
        super().on_train_start()
        self._start_time = self._checkpoint_time = monotonic()

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """nnU-Net's curve; the epoch's steps are over."""
        super().on_train_epoch_end(train_outputs)
        self.outputs_of_epoch, self.cases_of_epoch = [], []

    def on_epoch_end(self) -> None:
        """nnU-Net's bookkeeping, and one line on the console."""
        epoch = self.current_epoch
        super().on_epoch_end()
        if self.local_rank == 0:
            print(epoch_line(self, epoch), flush=True)

    def end_if_asked(self) -> None:
        """Raises :class:`TrainingEnded` in all processes where the first one has a reason to end."""
        is_first = self.local_rank == 0
        reason = reason_to_end(self.output_folder, self.hours, self.max_hours) if is_first else None
        reason = self.agreement.of_first(reason)
        if reason is not None:
            raise TrainingEnded(reason)

    def run_training(self) -> None:
        """nnU-Net's loop; an early end still writes the final checkpoint, SIGTERM one to continue from."""
        try:
            with self.termination:
                self.run_to_an_end()
                if self.agreement.any(self.termination.asked)[0]:  # after the last step, with the final checkpoint
                    raise SystemExit(EXIT_CODE)
        finally:
            self.dataloader_train = self.dataloader_val = None  # ends their workers

    def run_to_an_end(self) -> None:
        """nnU-Net's loop, to its end or to an earlier one; either way the final checkpoint is written."""
        try:
            super().run_training()
        except TrainingEnded as reason:
            self.print_to_log_file(f"Training ended after epoch {self.current_epoch}: {reason}")
            if self.local_rank == 0:
                print(f"Training ended after epoch {self.current_epoch} of {self.num_epochs}: {reason}.")
            self.on_train_end()

    def do_split(self):
        """nnU-Net's split, while a validation runs without the cases that are validated already."""
        train, validation = super().do_split()
        return train, [case for case in validation if case not in self._validated]

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """nnU-Net's validation on whole volumes, of all cases or of those that an interrupted one has left."""
        validated = self.validated_cases(save_probabilities) if self.keeps_validated else set()
        self._validated = self.agreement.of_first(validated)
        try:
            super().perform_actual_validation(save_probabilities)
        finally:
            self._validated = set()

    def validated_cases(self, save_probabilities: bool) -> set[str]:
        """Cases whose files in ``validation`` are whole and not older than the finished training.

        A first stage, whose cases leave files for the second one too, is validated as a whole.
        """
        if self.configuration_manager.next_stage_names:
            return set()
        folder, final = Path(self.output_folder) / "validation", Path(self.output_folder) / "checkpoint_final.pth"
        reader, finished = self.plans_manager.image_reader_writer_class(), set()
        for case in super().do_split()[1]:
            label_map, probabilities = folder / f"{case}{self.dataset_json['file_ending']}", folder / f"{case}.npz"
            files = [probabilities, label_map] if save_probabilities else [label_map]  # in the order of writing
            if all(file.is_file() and file.stat().st_mtime >= final.stat().st_mtime
                   for file in files) and is_whole_scan(label_map, reader):
                finished.add(case)
        return finished
