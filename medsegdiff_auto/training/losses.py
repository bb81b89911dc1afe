"""The losses of an epoch's steps, which stay on the device until somebody needs the numbers."""

from __future__ import annotations

import torch
from torch import Tensor

from medsegdiff_auto.training.agreement import Agreement

Losses = dict[str, Tensor | float]


def downloaded(losses: list[Losses]) -> list[dict[str, float]]:
    """The losses of every step as numbers; those on the device come in one copy, which is the only wait for it."""
    on_device = [value for step in losses for value in step.values() if isinstance(value, Tensor)]
    numbers = iter(torch.stack(on_device).tolist() if on_device else [])
    return [{name: next(numbers) if isinstance(value, Tensor) else value for name, value in step.items()}
            for step in losses]


def averaged(losses: list[dict[str, float]], agreement: Agreement) -> list[dict[str, float]]:
    """The losses of every step as means over the processes."""
    means = iter(agreement.mean([value for step in losses for value in step.values()]))
    return [{name: next(means) for name in step} for step in losses]
