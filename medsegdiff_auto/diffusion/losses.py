"""Losses of the denoiser. Cross-entropy is a proper score and leads; Dice is an option of the plan.

Shapes: logits and x_start are (B, K, *spatial), labels (B, 1, *spatial), valid (B, 1, *spatial) bool (False: ignored).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medsegdiff_auto.diffusion.state import probabilities_from_logits


def masked_mean(values: Tensor, valid: Tensor | None) -> Tensor:
    """Mean over the valid voxels; 0 where none is valid."""
    if valid is None:
        return values.mean()
    valid = valid.expand_as(values)
    return (values * valid).sum() / valid.sum().clamp(min=1)


def cross_entropy(logits: Tensor, x_start: Tensor, target: str, valid: Tensor | None = None) -> Tensor:
    """-sum_k y_k log p_k averaged over voxels (classes), or the binary one averaged over voxels and regions.

    The reference y = (x_0 + 1) / 2 is read off the state.
    """
    y = (x_start + 1) / 2
    if target == "classes":
        per_voxel = -(y * logits.log_softmax(1)).sum(1, keepdim=True)
    else:
        per_voxel = F.binary_cross_entropy_with_logits(logits, y, reduction="none")
    return masked_mean(per_voxel, valid)


def soft_dice_loss(logits: Tensor, x_start: Tensor, target: str, valid: Tensor | None = None,
                   smooth: float = 1e-5) -> Tensor:
    """1 - mean over samples and foreground channels of 2 sum(p y) / (sum p + sum y), without the background class."""
    p, y = probabilities_from_logits(logits, target), (x_start + 1) / 2
    if target == "classes":
        p, y = p[:, 1:], y[:, 1:]
    if valid is not None:
        p, y = p * valid, y * valid
    axes = tuple(range(2, logits.ndim))
    intersection, total = (p * y).sum(axes), p.sum(axes) + y.sum(axes)
    return 1 - ((2 * intersection + smooth) / (total + smooth)).mean()


def noise_mse(predicted: Tensor, noise: Tensor, valid: Tensor | None = None) -> Tensor:
    """|eps - eps_theta|^2, the loss of MedSegDiff (arXiv 2211.00611)."""
    return masked_mean((predicted - noise) ** 2, valid)
