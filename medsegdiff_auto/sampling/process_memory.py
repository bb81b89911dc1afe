"""What this process takes, and what the machine has free."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch

UNKNOWN_FREE_BYTES = 8e9


def free_bytes(device: torch.device) -> float:
    """Memory that the device has free now; of the machine where the device shares it."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines() if Path("/proc/meminfo").is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("MemAvailable")]
    return 1024.0 * kilobytes[0] if kilobytes else UNKNOWN_FREE_BYTES


def peak_resident_bytes() -> float:
    """The largest resident size of this process so far, without that of the process which started it."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.is_file() else []
    kilobytes = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    if kilobytes:
        return 1024.0 * kilobytes[0]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else 1024 * peak)


def resident_bytes() -> float:
    """The resident size of this process now; the largest so far where the system does not say."""
    statm = Path("/proc/self/statm")
    return float(statm.read_text(encoding="utf-8").split()[1]) * resource.getpagesize() if statm.is_file() else peak_resident_bytes()
