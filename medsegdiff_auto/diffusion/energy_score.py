"""The energy score of sampled masks: a loss whose minimiser is the distribution of the masks, not their mean.

    code        symbol    meaning
    draws       S_j       m maps of an image, drawn independently given image and state, (m, B, K, *spatial)
    reference   Y         the annotated mask, 0 or 1, (B, K, *spatial)
    distance    d         between two maps, over blocks of 1, 2, 4, ... voxels along every axis, up to the whole patch

    L = 1/m sum_j d(S_j, Y) - 1/(m (m - 1)) sum_{j<k} d(S_j, S_k)                 the fair estimator: unbiased for any m
    d(P, Q) = mean over block sizes b of 1/2 mean over blocks sum_k w_k |mean_b P_k - mean_b Q_k|

A denoiser trained by it is that of distributional diffusion (De Bortoli et al. 2025). Voxel by voxel alone, the score
sees each place for itself, and samples of the right doubt have the wrong sizes; the means of blocks score the sizes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medsegdiff_auto.diffusion.losses import average_pool
from medsegdiff_auto.diffusion.transfer import on_device


def energy_score(draws: Tensor, reference: Tensor, class_weights: Sequence[float] = (),
                 valid: Tensor | None = None) -> Tensor:
    """The fair estimate of E d(S, Y) - 1/2 E d(S, S'), mean over images (Gneiting and Raftery 2007).

    Args:
        draws: (m, B, K, *spatial) in [0, 1], m at least 2, which share nothing but image and state.
        reference: (B, K, *spatial) in [0, 1].
        class_weights: w_k of every channel; empty for 1.
        valid: (B, 1, *spatial) bool; False where the reference is the ignore label, which no distance sees.
    """
    m = len(draws)
    assert m > 1, m
    to_reference = torch.stack([multiscale_distance(one, reference, class_weights, valid) for one in draws])
    between = torch.stack([multiscale_distance(draws[j], draws[k], class_weights, valid)
                           for k in range(m) for j in range(k)])
    return (to_reference.mean(0) - between.mean(0) / 2).mean()


def multiscale_distance(first: Tensor, second: Tensor, class_weights: Sequence[float] = (),
                        valid: Tensor | None = None) -> Tensor:
    """d(P, Q) of the maps (B, K, *spatial), one number per image: (B,).

    A block counts by its share of valid voxels; beyond the border of the patch none is.
    """
    difference, spatial = first - second, first.shape[2:]
    if class_weights:
        weights = on_device(torch.tensor(class_weights, dtype=difference.dtype, device="cpu"), difference.device)
        difference = difference * weights.reshape(1, -1, *[1] * len(spatial))
    if valid is None:
        valid = torch.ones((1, 1, *spatial), dtype=torch.bool, device=difference.device)
    difference, share = difference * valid, valid.to(difference.dtype)
    total, num_scales = difference.new_zeros(len(difference)), 0
    axes = tuple(range(1, difference.ndim))
    while True:
        num_valid = share.sum(axes).clamp(min=torch.finfo(share.dtype).tiny)
        total, num_scales = total + 0.5 * difference.abs().sum(axes) / num_valid, num_scales + 1
        if max(difference.shape[2:]) == 1:
            return total / num_scales
        difference, share = _halved(difference), _halved(share)


def _halved(x: Tensor) -> Tensor:
    """Means of blocks of two along every axis that is longer than one voxel, zeros beyond the border."""
    odd = [n % 2 if n > 1 else 0 for n in x.shape[2:]]
    padded = F.pad(x, [side for n in reversed(odd) for side in (0, n)]) if any(odd) else x
    return average_pool(padded, [min(2, n) for n in padded.shape[2:]])
