"""The cores that this process may use: schedulers and containers grant fewer than the machine has."""

from __future__ import annotations

import os


def num_cores() -> int:
    """Cores of the process's affinity mask where the system has one, else all of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
