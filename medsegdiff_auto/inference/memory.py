"""How a volume is predicted within the memory at hand: states in memory or on disk, how many samples together, what is kept.

    code        meaning
    n, m        voxels on the network's grid, and of the image
    C, K        input channels; classes or regions
    volume      K n values, what a sample's state takes
    slab        K values of the slices under a row of tiles
"""

from __future__ import annotations

import math
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Sequence

import torch

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.inference.case_size import CaseSize
from medsegdiff_auto.inference.conditions import VOXELS_PER_CALL
from medsegdiff_auto.inference.tile_memory import TileMemory
from medsegdiff_auto.inference.tiling import Tiles
from medsegdiff_auto.inference.volume_store import ELEMENTS_PER_BLOCK, Storage

FLOAT, GB = 4, 1e9
SHARE_OF_FREE_MEMORY = 0.6
MOST_FOR_STATES = 0.5
BLOCKS = 12  # temporaries of what is computed voxel by voxel
LIBRARIES = 0.15 * GB  # what torch's libraries take at their first call
READ, CROPPED, RESAMPLED = 8, 6, 32  # bytes of a voxel in nnU-Net's preprocessing: per channel, mask, and float64 of resampling
ZOOMED = 16  # bytes of a voxel on either grid while one channel of probabilities is resampled


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
    """

    samples_together: int
    terms_bytes: float
    storage: Storage
    peak_bytes: float
    preparation_bytes: float
    limit_bytes: float
    disk_bytes: float

    @property
    def is_on_disk(self) -> bool:
        return self.storage.folder is not None


def free_bytes(device: torch.device) -> float:
    """Memory that the device has free now; of the machine where the device shares it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * kilobytes[0] if kilobytes else 8 * GB


def peak_resident_bytes() -> float:
    """The largest resident size of this process so far, without that of the process which started it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    if kilobytes:
        return 1024.0 * kilobytes[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def resident_bytes() -> float:
    """The resident size of this process now; the largest so far where the system does not say."""
    statm = Path("/proc/self/statm")
    return float(statm.read_text().split()[1]) * resource.getpagesize() if statm.is_file() else peak_resident_bytes()


def volumes_per_sample(diffusion: DiffusionConfiguration, solver: str) -> int:
    """Volumes that one sample needs: its state, and what its solver, its guidance and self-conditioning remember."""
    return 1 + (diffusion.state_guidance != 1) + (solver == "dpm_solver_pp_2m") + 2 * diffusion.self_conditioning


@dataclass(frozen=True)
class CaseMemory:
    """The parts of a case's memory, in bytes."""

    case: CaseSize
    tiles: Tiles
    num_folds: int
    num_samples: int
    num_views: int
    diffusion: DiffusionConfiguration
    solver: str
    tile: TileMemory
    samples_per_call: int

    @property
    def preparation(self) -> float:
        """nnU-Net's reading and preprocessing: copies in float32, a mask, and float64 where it resamples."""
        n, m, c = math.prod(self.case.shape), math.prod(self.case.image_shape), self.case.num_channels
        copies = (READ * c + CROPPED) * m
        return copies + (RESAMPLED * max(n, m) + FLOAT * c * n if self.case.is_resampled else 0)

    @property
    def volume(self) -> float:
        return FLOAT * self.case.num_outputs * math.prod(self.tiles.shape)

    @property
    def image(self) -> float:
        return FLOAT * self.case.num_channels * math.prod(self.tiles.shape)

    @property
    def on_image(self) -> float:
        """K channels on the image's grid."""
        return FLOAT * self.case.num_outputs * math.prod(self.case.image_shape)

    @property
    def share_of_slab(self) -> float:
        return self.tiles.window.shape[0] / self.tiles.shape[0]

    @property
    def per_sample(self) -> float:
        """Of volumes that a sample needs while it is drawn."""
        return volumes_per_sample(self.diffusion, self.solver) * self.volume

    @property
    def labels(self) -> float:
        """Sampled label maps of all folds."""
        return float(self.num_folds * self.num_samples * math.prod(self.case.image_shape))

    @property
    def all_terms(self) -> float:
        """Of all tiles and views."""
        return len(self.tiles) * self.num_views * self.tile.terms

    @property
    def shared_volumes(self) -> float:
        """That do not grow with the samples: image, plain network, two sums, one sample and the mutual information on the image."""
        return self.image + 3 * self.volume + 2 * self.on_image + 2 * self.on_image / self.case.num_outputs

    def networks(self, samples: int) -> float:
        """While one tile is predicted, with what is cut out of the slabs for it."""
        patch = math.prod(self.tiles.window.shape)
        views = min(self.num_views, max(1, VOXELS_PER_CALL // patch))
        together, tile = min(samples, self.samples_per_call), FLOAT * self.case.num_outputs * patch
        step = (self.tile.step + self.tile.terms) * together + self.tile.terms * min(self.num_views, together) + 5 * tile * samples
        return max(self.tile.look * views + self.tile.terms * self.num_views, step) + LIBRARIES

    def temporaries(self) -> float:
        """Of what is computed voxel by voxel: a few blocks, but no more than the volume has."""
        slices = max(self.volume / self.tiles.shape[0], FLOAT * ELEMENTS_PER_BLOCK)
        return BLOCKS * min(slices, self.volume)

    def drawing(self, samples: int, on_disk: bool) -> float:
        """While samples are drawn: the sums over a row of tiles, what is read of a volume on disk, or the volumes."""
        slab = self.share_of_slab * self.volume
        window = slab / self.case.num_outputs
        if not on_disk:
            return samples * (self.per_sample + slab) + window + self.networks(samples) + self.temporaries()
        read = samples * slab * (1 + self.diffusion.self_conditioning) + slab + self.share_of_slab * self.image
        return read + samples * slab + window + self.networks(samples) + samples * self.temporaries() / 4

    def exporting(self) -> float:
        """While one channel of probabilities goes to the image's grid, or one map is written."""
        n, m = math.prod(self.tiles.shape), math.prod(self.case.image_shape)
        resampling = FLOAT * n + (ZOOMED * (n + m) + FLOAT * m if self.case.is_resampled else 0)
        maps = 2 * FLOAT * m + 3 * m  # one map and its cropped part, label maps
        return max(resampling, maps) + 2 * m + self.temporaries()


def memory_plan(memory: CaseMemory, device: torch.device, baseline: float, max_memory_gb: float | None, folder: Path) -> MemoryPlan:
    """Memory where as many samples fit together as on disk, else the disk; kept features the rest.

    Args:
        baseline: resident bytes of the process without a case.
        max_memory_gb: of the whole process and, apart from it, on the GPU; None for 60 % of what is free beside the baseline.
        folder: of volumes on disk.

    Raises:
        UserError: the disk has too little space.
    """
    limit = GB * max_memory_gb if max_memory_gb else baseline + SHARE_OF_FREE_MEMORY * free_bytes(torch.device("cpu"))
    samples = memory.num_samples
    if device.type != "cpu":
        room = GB * max_memory_gb if max_memory_gb else SHARE_OF_FREE_MEMORY * free_bytes(device)
        slab = memory.share_of_slab * memory.volume
        if samples * (memory.per_sample + slab) <= MOST_FOR_STATES * room:
            held = baseline + memory.shared_volumes + memory.labels + memory.volume
            peak = max(baseline + memory.preparation, held + memory.exporting())
            if peak <= limit:
                left = room - samples * (memory.per_sample + slab) - memory.networks(samples)
                return MemoryPlan(samples, max(0.0, left), Storage(None, device), peak, memory.preparation, limit, 0)

    def peak(together: int, on_disk: bool) -> float:
        kept = 0 if on_disk else memory.shared_volumes + memory.labels
        at_export = kept + memory.exporting() + (0 if on_disk else together * memory.per_sample)
        return baseline + max(memory.preparation, kept + memory.drawing(together, on_disk), at_export)

    def most(on_disk: bool) -> int:
        return next((count for count in range(samples, 0, -1) if peak(count, on_disk) <= limit), 0)

    in_memory = most(False)
    on_disk = in_memory < samples and (most(True) > in_memory or not in_memory)
    together = max(1, most(True) if on_disk else in_memory)
    expected = peak(together, on_disk)
    terms = max(0.0, limit - expected)
    disk_bytes = memory.shared_volumes + memory.labels + together * memory.per_sample if on_disk else 0.0
    if on_disk:
        require_space(folder, disk_bytes)
    if device.type == "cpu":
        expected += min(terms, memory.all_terms)
    else:
        terms = max(0.0, (GB * max_memory_gb if max_memory_gb else SHARE_OF_FREE_MEMORY * free_bytes(device))
                    - memory.networks(together))
    return MemoryPlan(together, terms, Storage(folder if on_disk else None), max(expected, peak_resident_bytes()),
                      memory.preparation, limit, disk_bytes)


def fit_beside(in_use: MemoryPlan, following: MemoryPlan) -> bool:
    """Whether the memory holds the preparation of the following case beside the one in use."""
    in_memory = not in_use.is_on_disk and not following.is_on_disk
    return in_memory and in_use.peak_bytes + following.preparation_bytes <= in_use.limit_bytes


def require_space(folder: Path, num_bytes: float) -> None:
    """
    Raises:
        UserError: the disk of the folder has less space.
    """
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError("The case does not fit into the memory, and not on the disk either.", found=f"{free / GB:.1f} GB free in {folder}",
                        expected=f"{num_bytes / GB:.1f} GB for the states of its samples",
                        fix="free some space, choose a folder on another disk with -o, or allow more --max_memory")


def statement(case: str, size: CaseSize, num_samples: int, plan: MemoryPlan) -> str:
    """What a case will take, in one line."""
    extents = " x ".join(str(n) for n in size.image_shape[::-1])
    together = f", {plan.samples_together} at a time" if plan.samples_together < num_samples else ""
    where = f"on disk ({plan.disk_bytes / GB:.1f} GB)" if plan.is_on_disk else "in memory"
    return f"{case}: {extents}, {num_samples} samples{together}, states {where}, about {plan.peak_bytes / GB:.1f} GB at most"
