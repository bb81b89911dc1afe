"""The energy score of sampled masks: a loss whose minimiser is the distribution of the masks, not their mean.

    code        symbol    meaning
    draws       S_j       m maps of an image, drawn independently given image and state, (m, B, K, *spatial)
    reference   Y         the annotated mask, 0 or 1, (B, K, *spatial)
    distance    d         between two maps, over blocks of 1, 2, 4, ... voxels along every axis, up to the whole patch

    L = 1/m sum_j d(S_j, Y) - 1/(m (m - 1)) sum_{j<k} d(S_j, S_k)                 the fair estimator: unbiased for any m
    d(P, Q) = mean over block sizes b of 1/2 mean over blocks sum_k w_k |mean_b P_k - mean_b Q_k|

A denoiser trained by it is that of distributional diffusion (De Bortoli et al. 2025). Voxel by voxel alone, the score
sees each place for itself, and samples of the right doubt have the wrong sizes; the means of blocks score the sizes.

Means of blocks are linear: each map is averaged once. At every scale one product of matrices gives all differences, so
that a GPU has few operations to start.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medsegdiff_auto.diffusion.losses import average_pool
from medsegdiff_auto.diffusion.precision import without_autocast
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
    pairs = [(j, m) for j in range(m)] + [(j, k) for k in range(m) for j in range(k)]
    weights = [1 / m] * m + [-1 / (m * (m - 1))] * (len(pairs) - m)
    distances = _distances(torch.cat([draws, reference[None].to(draws)]), pairs, class_weights, valid).mean(1)
    return distances @ _constant(weights, distances)


def multiscale_distance(first: Tensor, second: Tensor, class_weights: Sequence[float] = (),
                        valid: Tensor | None = None) -> Tensor:
    """d(P, Q) of the maps (B, K, *spatial), one number per image: (B,).

    A block counts by its share of valid voxels; beyond the border of the patch none is.
    """
    return _distances(torch.stack([first, second]), [(0, 1)], class_weights, valid)[0]


def _distances(maps: Tensor, pairs: Sequence[tuple[int, int]], class_weights: Sequence[float],
               valid: Tensor | None) -> Tensor:
    """d of pairs of the maps (M, B, K, *spatial), (pairs, B)."""
    signs = _constant([[float(number == j) - float(number == k) for number in range(len(maps))] for j, k in pairs],
                      maps)
    with without_autocast(maps.device):  # the product would be one of half precision
        of_scales = [(signs @ one.flatten(1)).reshape(len(pairs), len(one[0]), -1).abs().sum(2)
                     for one in _at_scales(maps, class_weights, valid)]
    return torch.stack(of_scales).mean(0) / 2


def _constant(values: Sequence, like: Tensor) -> Tensor:
    return on_device(torch.tensor(values, dtype=like.dtype, device="cpu"), like.device)


def _at_scales(maps: Tensor, class_weights: Sequence[float], valid: Tensor | None) -> Iterator[Tensor]:
    """Means of blocks of the maps (M, B, K, *spatial) at every scale, weighted so that their sum over an image is the
    mean over its valid voxels.
    """
    spatial = maps.shape[3:]
    if class_weights:
        counted = [k for k, weight in enumerate(class_weights) if weight]
        channels = slice(counted[0], counted[-1] + 1) if counted else slice(0)
        weights = _constant(class_weights[channels], maps)
        maps = maps[:, :, channels] * weights.reshape(-1, *[1] * len(spatial))
    if valid is None:
        maps = maps / spatial.numel()
    else:
        num_valid = valid.sum(tuple(range(1, valid.ndim)), keepdim=True).clamp(min=1)
        maps = maps * (valid / num_valid).to(maps.dtype)
    yield maps
    while max(maps.shape[3:]) > 1:
        voxels = [min(2, n) for n in maps.shape[3:]]
        maps = _halved(maps.flatten(0, 1)).unflatten(0, maps.shape[:2]) * math.prod(voxels)
        yield maps


def _halved(x: Tensor) -> Tensor:
    """Means of blocks of two along every axis that is longer than one voxel, zeros beyond the border."""
    odd = [n % 2 if n > 1 else 0 for n in x.shape[2:]]
    padded = F.pad(x, [side for n in reversed(odd) for side in (0, n)]) if any(odd) else x
    return average_pool(padded, [min(2, n) for n in padded.shape[2:]])
