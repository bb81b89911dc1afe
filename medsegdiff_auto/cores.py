"""The cores that this process may use: schedulers and containers grant fewer than the machine has."""

from __future__ import annotations

import os

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.granted import core_quota
from medsegdiff_auto.heap import keep_freed_memory

FEWEST_PROCESSES = {"nnUNet_def_n_proc": 1, "nnUNet_n_proc_DA": 0}  # 0 is nnU-Net's debugging switch


def num_cores() -> int:
    """The least of the machine's cores, the process's affinity mask and the quota of its control group, at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, core_quota()))


def num_threads() -> int:
    """Threads of a computation: ``OMP_NUM_THREADS`` where it is set, as torch itself has it, else one per core.

    Two processes with a thread per core each, on the same cores, wait for each other in every operation
    (results/cost_training.md).
    """
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(wanted), num_cores()) if wanted.isdigit() and int(wanted) else num_cores()


def require_process_counts() -> None:
    """Checks nnU-Net's environment variables that count processes; nnU-Net reads them when it is imported.

    Raises:
        UserError: one is no whole number, or too small.
    """
    for variable, fewest in FEWEST_PROCESSES.items():
        value = os.environ.get(variable, str(fewest)).strip()
        if not (value.isdecimal() and int(value) >= fewest):
            raise UserError(f"The environment variable {variable} is no number of processes.",
                            found=f"{variable}={value}", expected=f"a whole number from {fewest}",
                            fix=f"unset {variable}, or set it to the number of cores")


def compute_on_cpu(threads: int | None = None) -> None:
    """Sets up torch in a process that computes on the CPU: threads (None for :func:`num_threads`), and memory that is
    reused.
    """
    import torch  # seconds, which commands that compute nothing are spared

    torch.set_num_threads(threads or num_threads())
    keep_freed_memory()
