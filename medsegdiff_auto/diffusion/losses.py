"""Losses of the denoiser, and of MedSegDiff-V2's condition network.

Shapes: logits and x_start are (B, K, *spatial), valid (B, 1, *spatial) bool (False: ignored).
"""

from __future__ import annotations

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


def anchor_loss(logits: Tensor, x_start: Tensor, target: str, cross_entropy_weight: float = 1.0,
                valid: Tensor | None = None) -> Tensor:
    """Dice + beta CE on the condition network's own prediction (MedSegDiff-V2, arXiv 2301.11798)."""
    return (soft_dice_loss(logits, x_start, target, valid)
            + cross_entropy_weight * cross_entropy(logits, x_start, target, valid))


def mse(predicted: Tensor, reference: Tensor, valid: Tensor | None = None) -> Tensor:
    """|predicted - reference|^2, averaged; on the noise it is the loss of MedSegDiff (arXiv 2211.00611)."""
    return masked_mean((predicted - reference) ** 2, valid)


def multiscale_mse(predicted: Tensor, reference: Tensor, coarsest_size: int) -> Tensor:
    """sum_s (1/s) L^{s x s} over s = side, side/2, ... down to ``coarsest_size`` (Hoogeboom et al. 2023, section 3.3).

    L^{s x s} is the squared error of both averaged down to side s. The side is the longest axis; shorter ones are
    halved with it as long as they are even. The weights are divided by their sum, so that the scale is that of
    :func:`mse`.
    """
    total, weights = predicted.new_zeros(()), 0.0
    while True:
        side = max(predicted.shape[2:])
        total, weights = total + mse(predicted, reference) / side, weights + 1 / side
        factor = [2 if n % 2 == 0 else 1 for n in predicted.shape[2:]]
        if side // 2 < coarsest_size or factor[list(predicted.shape[2:]).index(side)] == 1:
            return total / weights
        predicted, reference = (average_pool(x, factor) for x in (predicted, reference))


def average_pool(x: Tensor, factor: list[int]) -> Tensor:
    """Means of cells of ``factor`` voxels."""
    return {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[x.ndim - 2](x, tuple(factor))
