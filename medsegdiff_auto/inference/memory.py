"""How a volume is sampled within the memory at hand: how many samples together, and how much of the features is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import torch

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.inference.tiling import Tiles

BYTES, GB = 4, 1e9  # of float32
SHARE_OF_FREE_MEMORY = 0.6
MOST_FOR_STATES = 0.5


@dataclass(frozen=True)
class MemoryPlan:
    """What a case is given.

    Attributes:
        samples_together: samples whose states are held at the same time.
        terms_bytes: for the features of tiles that are kept instead of computed again.
        state_device: where the states are.
        states_bytes: expected, of states and volumes that the samples share.
    """

    samples_together: int
    terms_bytes: float
    state_device: torch.device
    states_bytes: float


def free_bytes(device: torch.device) -> float:
    """Memory that the device has free now; of the machine where the device shares it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * kilobytes[0] if kilobytes else 8 * GB


def volumes_per_sample(diffusion: DiffusionConfiguration, solver: str) -> int:
    """Volumes of K channels that one sample needs: its state, and what its solver and guidance remember."""
    return (1 + (diffusion.state_guidance != 1) + (solver == "dpm_solver_pp_2m") + (solver == "ddpm")
            + 2 * diffusion.self_conditioning)


def memory_plan(num_outputs: int, image_shape: Sequence[int], tiles: Tiles, num_samples: int,
                diffusion: DiffusionConfiguration, solver: str, device: torch.device,
                max_memory_gb: float | None = None) -> MemoryPlan:
    """Divides the memory: states first, as many samples together as half of it holds, kept features the rest.

    Args:
        image_shape: (C, *spatial), padded.
        max_memory_gb: for states and features; None for 60 % of what is free.
    """
    num_voxels = torch.Size(image_shape[1:]).numel()
    volume = BYTES * num_outputs * num_voxels
    slab = volume * tiles.window.shape[0] / image_shape[1]
    per_sample = volumes_per_sample(diffusion, solver) * volume + slab
    room = {name: GB * max_memory_gb if max_memory_gb else SHARE_OF_FREE_MEMORY * free_bytes(torch.device(name))
            for name in {"cpu", device.type}}
    shared = 4 * volume + BYTES * num_voxels  # plain network, its state, the fused mean, one sample's probabilities
    fits = per_sample * num_samples <= MOST_FOR_STATES * room[device.type]
    state_device = device if fits else torch.device("cpu")
    left = room[state_device.type] - (shared if state_device.type == "cpu" else 0)
    together = int(max(1, min(num_samples, MOST_FOR_STATES * left // per_sample)))
    states = together * per_sample
    terms = room[device.type] - (states if state_device.type == device.type else 0) - (shared if device.type == "cpu" else 0)
    return MemoryPlan(together, max(0.0, terms), state_device, states + shared)
