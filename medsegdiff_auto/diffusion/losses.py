"""Losses of the denoiser. Cross-entropy is a proper score and leads; Dice is an option of the plan.

    code        paper      meaning
    log_snr     lambda_t   (B,), log(alpha_t^2 / sigma_t^2)
    snr         SNR(t)     exp(lambda_t)
    weight      w_t        (B,), of the squared error of each sample

Shapes: logits and x_start are (B, K, *spatial), valid (B, 1, *spatial) bool (False: ignored).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medsegdiff_auto.diffusion.process import per_sample
from medsegdiff_auto.diffusion.state import probabilities_from_logits


MIN_SNR_GAMMA = 5.0
SIGMOID_BIAS = -3.0


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


def mse(predicted: Tensor, reference: Tensor, weight: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
    """w_t |predicted - reference|^2, averaged; unweighted on the noise it is the loss of MedSegDiff (arXiv 2211.00611)."""
    squared = (predicted - reference) ** 2
    return masked_mean(squared if weight is None else per_sample(weight, squared) * squared, valid)


def multiscale_mse(predicted: Tensor, reference: Tensor, coarsest_size: int, weight: Tensor | None = None) -> Tensor:
    """sum_s (1/s) L^{s x s} over s = side, side/2, ... down to ``coarsest_size`` ("simple diffusion", section 3.3).

    L^{s x s} is the squared error of both averaged down to side s. The side is the longest axis; shorter ones are halved
    with it as long as they are even. The weights are divided by their sum, so that the scale is that of :func:`mse`.
    """
    total, weights = 0.0, 0.0
    while True:
        side = max(predicted.shape[2:])
        total, weights = total + mse(predicted, reference, weight) / side, weights + 1 / side
        factor = [2 if n % 2 == 0 else 1 for n in predicted.shape[2:]]
        if side // 2 < coarsest_size or factor[list(predicted.shape[2:]).index(side)] == 1:
            return total / weights
        predicted, reference = (average_pool(x, factor) for x in (predicted, reference))


def average_pool(x: Tensor, factor: list[int]) -> Tensor:
    """Means of cells of ``factor`` voxels."""
    return {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}[x.ndim - 2](x, tuple(factor))


def min_snr_weight(log_snr: Tensor, parameterisation: str, gamma: float = MIN_SNR_GAMMA) -> Tensor:
    """min(SNR, gamma) on the error of x_0, divided by SNR on that of eps, by SNR + 1 on that of v (Hang et al. 2023)."""
    snr = log_snr.exp()
    return snr.clamp(max=gamma) / {"x_start": torch.ones_like(snr), "noise": snr, "v": snr + 1}[parameterisation]


def sigmoid_weight(log_snr: Tensor, parameterisation: str, bias: float = SIGMOID_BIAS) -> Tensor:
    """sigmoid(b - lambda) on the error of eps (Kingma and Gao 2023; Hoogeboom et al. 2024).

    |eps error|^2 = SNR |x_0 error|^2 = SNR / (SNR + 1) |v error|^2 turns it into that of the other parameterisations.
    """
    weight = torch.sigmoid(bias - log_snr)
    factor = {"noise": torch.ones_like(log_snr), "x_start": log_snr.exp(), "v": torch.sigmoid(log_snr)}
    return weight * factor[parameterisation]


def time_weight(name: str, log_snr: Tensor, parameterisation: str) -> Tensor | None:
    """The weight of a plan: ``none``, ``min_snr`` or ``sigmoid``, (B,)."""
    if name == "none":
        return None
    return {"min_snr": min_snr_weight, "sigmoid": sigmoid_weight}[name](log_snr, parameterisation)
