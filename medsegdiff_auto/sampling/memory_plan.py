"""How a volume is predicted within the memory at hand: states in memory or on disk, how many samples together, what is
kept.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.sampling.case_memory import CaseMemory
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.process_memory import free_bytes, peak_resident_bytes, resident_bytes
from medsegdiff_auto.sampling.volume_store import Storage

GB = 1e9
SHARE_OF_FREE_MEMORY = 0.6
MOST_FOR_STATES = 0.5  # of a GPU
MUCH_BYTES = 1e9  # a case of this size takes so long that fresh memory costs it nothing
HEADROOM = 0.95  # of a limit: the heap has gaps that no count sees


@dataclass(frozen=True)
class MemoryPlan:
    """What a case is given.

    Attributes:
        samples_together: samples whose states are held at the same time.
        terms_bytes: for the features of tiles that are kept instead of computed again.
        storage: where states and other volumes of K channels are.
        peak_bytes: expected, of the whole process, from the reading of the image to the last file.
        preparation_bytes: what nnU-Net's preprocessing takes beside the process.
        limit_bytes: that the peak should keep to.
        disk_bytes: 0 in memory.
        device_bytes: expected at the peak where the networks run, beside the weights: on a GPU, or in memory.
        keeps_labels: whether a sample becomes a label map slab by slab, and no volume of probabilities is made of it.
        is_large: whether what earlier cases have freed is given back first: its pieces may not fit, and the peak would
            be higher.
    """

    samples_together: int
    terms_bytes: float
    storage: Storage
    peak_bytes: float
    preparation_bytes: float
    limit_bytes: float
    disk_bytes: float
    device_bytes: float
    is_large: bool = False
    keeps_labels: bool = False

    @property
    def is_on_disk(self) -> bool:
        return self.storage.is_on_disk


def memory_plan(memory: CaseMemory, device: torch.device, baseline: float, max_memory_gb: float | None,
                folder: Path) -> MemoryPlan:
    """Memory where as many samples fit together as on disk, else as many as the disk holds; kept features the rest.

    Args:
        baseline: resident bytes of the process without a case.
        max_memory_gb: of the whole process and, apart from it, on the GPU; None for 60 % of what is free beside the
            baseline, to which counts what the process has freed and keeps.
        folder: of volumes on disk.

    Raises:
        UserError: the disk has too little space.
    """
    free = free_bytes(torch.device("cpu")) + max(0.0, resident_bytes() - baseline)
    limit = HEADROOM * GB * max_memory_gb if max_memory_gb else baseline + SHARE_OF_FREE_MEMORY * free
    samples = memory.num_samples
    if device.type != "cpu":
        on_device = GB * max_memory_gb if max_memory_gb else SHARE_OF_FREE_MEMORY * free_bytes(device)
        # the plain network's volume
        states, beside = memory.states(samples) + memory.volume, baseline + memory.beside_states()
        if states <= MOST_FOR_STATES * on_device and beside <= limit:
            terms = max(0.0, on_device - states - memory.networks(samples))
            return MemoryPlan(samples, terms, Storage(None, device), max(beside,
                                                                         peak_resident_bytes()), memory.preparation,
                              limit, 0, states + memory.networks(samples) + min(terms, memory.all_terms),
                              keeps_labels=memory.keeps_labels)

    def most(on_disk: bool) -> int:
        return next((count for count in range(samples, 0, -1) if baseline + memory.peak(count, on_disk) <= limit), 0)

    in_memory = most(False)
    on_disk = in_memory < samples and (most(True) > in_memory or not in_memory)
    together = max(1, most(True) if on_disk else in_memory)
    while on_disk and together > 1 and memory.on_disk(together) > free_on_disk(folder):
        together -= 1  # many classes: eight volumes with a channel for each are more than most disks hold
    expected, disk_bytes = baseline + memory.peak(together, on_disk), memory.on_disk(together) if on_disk else 0.0
    if on_disk:
        require_space(folder, disk_bytes)
    is_large = expected - baseline > MUCH_BYTES
    if device.type == "cpu":
        terms = max(0.0, limit - expected)
        expected += min(terms, memory.all_terms)
        device_bytes = expected - baseline
    else:
        terms = max(0.0, on_device - memory.networks(together))
        device_bytes = memory.networks(together) + min(terms, memory.all_terms)
    return MemoryPlan(together, terms, Storage(folder if on_disk else None), max(expected, peak_resident_bytes()),
                      memory.preparation, limit, disk_bytes, device_bytes, is_large, memory.keeps_labels)


def fit_beside(in_use: MemoryPlan, following: MemoryPlan) -> bool:
    """Whether the memory holds the preparation of the following case beside the one in use."""
    in_memory = not in_use.is_on_disk and not following.is_on_disk
    return in_memory and in_use.peak_bytes + following.preparation_bytes <= in_use.limit_bytes


def free_on_disk(folder: Path) -> float:
    """Bytes."""
    return float(shutil.disk_usage(folder).free)


def require_space(folder: Path, num_bytes: float) -> None:
    """
    Raises:
        UserError: the disk of the folder has less space.
    """
    free = free_on_disk(folder)
    if free < num_bytes:
        raise UserError("The case does not fit into the memory, and not on the disk either.",
                        found=f"{free / GB:.1f} GB free in {folder}",
                        expected=f"{num_bytes / GB:.1f} GB for the states of its samples",
                        fix="free some space, choose a folder on another disk with -o, or allow more --max_memory")


def memory_statement(case: str, size: CaseSize, num_samples: int, plan: MemoryPlan) -> str:
    """What a case will take, in one line."""
    extents = " x ".join(str(n) for n in size.image_shape[::-1])
    together = f", {plan.samples_together} at a time" if plan.samples_together < num_samples else ""
    where = f"on disk ({plan.disk_bytes / GB:.1f} GB)" if plan.is_on_disk else "in memory"
    peak = f"about {plan.peak_bytes / GB:.1f} GB at most"
    return f"{case}: {extents}, {num_samples} samples{together}, states {where}, {peak}"
