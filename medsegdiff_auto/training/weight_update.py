"""One step of the optimizers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

GRADIENT_NORM_LIMIT = 12.0


def update_weights(loss: Tensor, parts: Sequence[tuple[nn.Module, Optimizer]], scaler: GradScaler | None) -> None:
    """Backward pass; each part of the network is clipped by itself and takes a step of its optimizer."""
    (scaler.scale(loss) if scaler is not None else loss).backward()
    for part, optimizer in parts:
        if scaler is not None:
            scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(part.parameters(), GRADIENT_NORM_LIMIT)
        if scaler is not None:
            scaler.step(optimizer)
        else:
            optimizer.step()
    if scaler is not None:
        scaler.update()
