"""What a training step is made of: its precision, its references, its losses and the update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from medsegdiff_auto.diffusion.state import state_from_labels, state_from_regions
from medsegdiff_auto.nnunet.managers import LabelManager
from medsegdiff_auto.training.agreement import Agreement

HALF_PRECISION = {"cuda": torch.float16}
Losses = dict[str, Tensor | float]
GRADIENT_NORM_LIMIT = 12.0


def half_precision(device: torch.device) -> AbstractContextManager:
    """nnU-Net's autocast, but without its cache of half-precision weights; nothing on other devices.

    A recycled step first runs the denoiser without gradients. torch before its change 165068 (2.10 still) keeps the
    weights that were cast in that run for the next one, where they then carry no gradient: the denoiser would hardly
    learn from the step. Every weight is used once in a run, so that a cache saves next to nothing.
    """
    dtype = HALF_PRECISION.get(device.type)
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype, cache_enabled=False)


def reference_state(target: Tensor, label_manager: LabelManager) -> tuple[Tensor, Tensor | None]:
    """x_start (B, K, *spatial) in [-1, 1] and the valid voxels (B, 1, *spatial), None where all are.

    Args:
        target: from nnU-Net's loader: a label map (B, 1, *spatial), or regions (B, K, *spatial), and behind them the
            ignored voxels where the dataset has an ignore label.
    """
    ignore_label = label_manager.ignore_label
    if label_manager.has_regions:
        if ignore_label is None:
            return state_from_regions(target), None
        ignored = target[:, -1:].bool()
        return state_from_regions(target[:, :-1], ignored), ~ignored
    x_start = state_from_labels(target, label_manager.num_segmentation_heads, ignore_label)
    return x_start, None if ignore_label is None else target != ignore_label


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


def update_weights(loss: Tensor, parts: Sequence[tuple[nn.Module, Optimizer]], scaler: GradScaler | None) -> bool:
    """Backward pass; each part of the network is clipped by itself and takes a step of its optimizer.

    A gradient that is not finite leaves the weights as they are. Processes that share the batch share the gradients,
    and so decide alike.

    Returns:
        Whether the weights took the step. A scaler decides by itself, on the device, where nobody waits for the answer:
        with it, always true.
    """
    (scaler.scale(loss) if scaler is not None else loss).backward()
    norms = []
    for part, optimizer in parts:
        if scaler is not None:
            scaler.unscale_(optimizer)
        norms.append(nn.utils.clip_grad_norm_(part.parameters(), GRADIENT_NORM_LIMIT))
    if scaler is None and not all(bool(norm.isfinite()) for norm in norms):
        return False
    for _, optimizer in parts:
        if scaler is not None:
            scaler.step(optimizer)
        else:
            optimizer.step()
    if scaler is not None:
        scaler.update()
    return True


def undo_backoff(scaler: GradScaler | None, count: int) -> None:
    """Gives a scaler the scale back that losses that were not finite took: they say nothing about it."""
    if scaler is not None and count:
        scaler.update(scaler.get_scale() / scaler.get_backoff_factor() ** count)
