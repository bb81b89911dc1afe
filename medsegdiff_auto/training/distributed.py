"""One fold by several processes that share the batch of the plan: one per GPU (NCCL), or on the CPU (gloo).

They are started here, on this machine, or by torchrun, on one or several.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from nnunetv2.run.run_training import find_free_network_port
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from medsegdiff_auto.cores import compute_on_cpu, num_threads
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.inheritance import resolved
from medsegdiff_auto.training.run import TrainingRequest, load_plans, require_device, train
from medsegdiff_auto.training.termination import EXIT_CODE, TerminationRequest

SECONDS_TO_LEAVE = 10
OF_TORCHRUN = ("TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
               "MASTER_PORT")


class Member(NamedTuple):
    """One of several processes: its number and theirs, among all and among those of its machine."""

    rank: int
    num_processes: int
    local_rank: int
    num_local: int


def launched() -> Member | None:
    """This process among those that torchrun started; None where it was started otherwise."""
    if any(name not in os.environ for name in OF_TORCHRUN):
        return None
    return Member(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))


def require_processes(request: TrainingRequest, member: Member, preprocessed_folder: Path) -> None:
    """Checks that there are as many GPUs as processes on this machine, and a sample of the batch for each process.

    Raises:
        UserError: there are not.
    """
    device = require_device(request.device)
    if device.type == "cuda" and member.num_local > torch.cuda.device_count():
        num_gpus = torch.cuda.device_count()
        raise UserError("There are fewer GPUs than asked for.", found=f"{num_gpus} GPUs",
                        expected=f"{member.num_local}, one for each process",
                        fix=f"give at most -num_gpus {num_gpus}, or --nproc_per_node {num_gpus} of torchrun")
    plans = load_plans(preprocessed_folder, request.plans_identifier, request.configuration)
    batch_size = resolved(plans, request.configuration)["batch_size"]
    if member.num_processes > batch_size:
        raise UserError("The batch cannot be divided among the GPUs.",
                        found=f"a batch of {batch_size} for {member.num_processes} processes",
                        expected="at least one sample for each",
                        fix=f"give at most -num_gpus {batch_size}, or as many processes of torchrun")


def train_launched(request: TrainingRequest, preprocessed_folder: Path, results_folder: Path, member: Member) -> Path:
    """Like :func:`~medsegdiff_auto.training.run.train`, as one of the processes that torchrun started.

    Raises:
        UserError: there are fewer GPUs, or fewer samples in a batch, than processes.
    """
    require_processes(request, member, preprocessed_folder)
    _train_as_member(member, request, preprocessed_folder, results_folder)
    return request.fold_folder(results_folder)


def train_distributed(request: TrainingRequest, preprocessed_folder: Path, results_folder: Path,
                      num_processes: int) -> Path:
    """Like :func:`~medsegdiff_auto.training.run.train`, by ``num_processes`` processes on this machine.

    Raises:
        UserError: there are fewer GPUs, or fewer samples in a batch, than processes.
    """
    require_processes(request, Member(0, num_processes, 0, num_processes), preprocessed_folder)
    os.environ["MASTER_ADDR"], os.environ["MASTER_PORT"] = "localhost", str(find_free_network_port())
    run_together(_train_as, (num_processes, request, preprocessed_folder, results_folder), num_processes)
    return request.fold_folder(results_folder)


def run_together(function: Callable, arguments: tuple, num_processes: int) -> None:
    """Runs ``function(rank, *arguments)`` in each of several new processes, until all have ended.

    SIGTERM to this process is passed on to them. Where one of them fails, the others are ended, after a while by force.

    Raises:
        UserError: one of them raised it.
        SystemExit: SIGTERM ended them, whichever process received it.
        ProcessExitedException, ProcessRaisedException: one of them failed otherwise.
    """
    processes: list = []
    mistakes = torch.multiprocessing.get_context("spawn").SimpleQueue()

    def terminate() -> None:
        for process in processes:
            process.terminate()

    with TerminationRequest(terminate) as termination:
        context = torch.multiprocessing.spawn(_run_as, (function, arguments, mistakes), num_processes, join=False)
        processes += context.processes
        if termination.asked:  # while they were started
            terminate()
        try:
            while not context.join(grace_period=SECONDS_TO_LEAVE):
                pass
        except KeyboardInterrupt:
            terminate()  # each ends after a checkpoint
            for process in processes:
                process.join()
            raise
        except (ProcessExitedException, ProcessRaisedException) as failure:
            if termination.asked or getattr(failure, "exit_code", None) in (EXIT_CODE, -signal.SIGTERM):
                raise SystemExit(EXIT_CODE) from None
            raise failure if mistakes.empty() else mistakes.get() from None


def _run_as(rank: int, function: Callable, arguments: tuple, mistakes: SimpleQueue) -> None:
    try:
        function(rank, *arguments)
    except UserError as mistake:
        mistakes.put(mistake)
        raise


def _train_as(rank: int, num_processes: int, request: TrainingRequest, preprocessed_folder: Path,
              results_folder: Path) -> None:
    _train_as_member(Member(rank, num_processes, rank, num_processes), request, preprocessed_folder, results_folder)


def _train_as_member(member: Member, request: TrainingRequest, preprocessed_folder: Path,
                     results_folder: Path) -> None:
    on_gpu = request.device == "cuda"
    dist.init_process_group("nccl" if on_gpu else "gloo", rank=member.rank, world_size=member.num_processes)
    if on_gpu:
        torch.cuda.set_device(member.local_rank)
    else:
        compute_on_cpu(max(1, num_threads() // member.num_local))
    train(request, preprocessed_folder, results_folder)
    dist.barrier()
    dist.destroy_process_group()
