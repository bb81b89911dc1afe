"""From the CPU to a device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor on a device; one from the CPU goes to a GPU in a copy that nobody waits for."""
    if device.type == "cuda" and values.device.type == "cpu" and torch.cuda.is_available():
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


def entries(x: Tensor, rows: Sequence[int]) -> Tensor:
    """These entries of a batch, repeats allowed: a list as an index would be sent to the device in a copy that is
    waited for.
    """
    return x[on_device(torch.tensor(rows, dtype=torch.long, device="cpu"), x.device)]
