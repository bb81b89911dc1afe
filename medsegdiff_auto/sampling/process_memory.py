"""What this process takes, and what the machine has free."""

from __future__ import annotations

import logging
import sys
from functools import cache
from mmap import PAGESIZE
from pathlib import Path

import torch

from medsegdiff_auto.granted import free_memory_bytes
from medsegdiff_auto.heap import give_back_freed_memory

try:
    import resource
except ImportError:  # Windows
    resource = None

logger = logging.getLogger(__name__)

UNKNOWN_FREE_BYTES = 8e9
GIVEN_BACK_FROM = 0.95  # of a limit


def free_bytes(device: torch.device) -> float:
    """Memory that the device has free now; of the machine where the device shares it, within every limit that the
    process has there (:mod:`~medsegdiff_auto.granted`).

    What torch's allocator keeps on a GPU for its next tensors counts as free: this process will use it again.
    """
    if device.type == "cuda":
        kept_for_reuse = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept_for_reuse
    return min(free_memory_bytes().values(), default=UNKNOWN_FREE_BYTES)


def peak_resident_bytes() -> float:
    """The largest resident size of this process so far, without that of the process which started it.

    0 on a system without ``/proc`` and ``resource``, which the log says: what is stated is then what a case adds.
    """
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    if kilobytes:
        return 1024.0 * kilobytes[0]
    if resource is None:
        _say_that_memory_is_unknown()
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def resident_bytes() -> float:
    """The resident size of this process now; the largest so far where the system does not say."""
    statm = Path("/proc/self/statm")
    return float(statm.read_text(encoding="utf-8").split()[1]) * PAGESIZE if statm.is_file() else peak_resident_bytes()


class ResidentLimit:
    """Keeps the process below a peak that was stated, by giving freed memory back where it comes near.

    What a tile leaves behind for good lies in the hole of what it freed, and the next tile's blocks do not fit beside
    it: the heap may grow by a block a tile while as little is in use as before (results/cost_inference.md).

    Args:
        limit_bytes: of the resident size.
    """

    def __init__(self, limit_bytes: float):
        self._from = GIVEN_BACK_FROM * limit_bytes

    def keep(self) -> None:
        """Gives freed memory back from 95 % of the limit on, or once there was nothing to give, from 5 % more on."""
        if resident_bytes() > self._from:
            give_back_freed_memory()
            self._from = max(self._from, resident_bytes() / GIVEN_BACK_FROM)


@cache
def _say_that_memory_is_unknown() -> None:
    logger.warning(
        "This system does not say how much memory the process takes: stated peaks are what a case adds to it, "
        "and %.0f GB are taken as free where --max_memory does not say otherwise.", UNKNOWN_FREE_BYTES / 1e9)
