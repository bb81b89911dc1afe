"""Masks as diffusion states, and network outputs back to probabilities.

A state x_0 has one channel per class or per region, -1 outside and +1 inside; voxels with the ignore label are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LOWEST_PROBABILITY = 1e-6


def state_from_labels(labels: Tensor, num_classes: int, ignore_label: int | None = None) -> Tensor:
    """One-hot of labels (B, 1, *spatial) scaled to {-1, +1}, (B, num_classes, *spatial), 0 where ignored."""
    labels = labels[:, 0].long()
    ignored = labels == ignore_label if ignore_label is not None else None
    if ignored is not None:
        labels = labels.masked_fill(ignored, 0)
    state = F.one_hot(labels, num_classes).movedim(-1, 1).float() * 2 - 1
    return state if ignored is None else state.masked_fill(ignored[:, None], 0.0)


def state_from_regions(regions: Tensor, ignored: Tensor | None = None) -> Tensor:
    """Region masks (B, K, *spatial) in {0, 1} scaled to {-1, +1}, 0 where ``ignored`` (B, 1, *spatial) is true."""
    state = regions.float() * 2 - 1
    return state if ignored is None else state.masked_fill(ignored.bool(), 0.0)


def background_state(shape: Sequence[int], target: str, device: torch.device | str) -> Tensor:
    """The state of a mask that is empty, (K, *spatial): -1, and +1 in the first channel of classes."""
    state = torch.full(tuple(shape), -1.0, device=device)
    if target == "classes":
        state[0] = 1.0
    return state


def probabilities_from_logits(logits: Tensor, target: str) -> Tensor:
    """Softmax over the classes, or a sigmoid per region, (B, K, *spatial) in [0, 1]."""
    return logits.softmax(1) if target == "classes" else logits.sigmoid()


def logits_from_probabilities(probabilities: Tensor, target: str) -> Tensor:
    """The finite logits to which nnU-Net's softmax or sigmoid gives the probabilities back (to 1e-6).

    |logit| stays below 14, so that nnU-Net's fp16 window sums stay finite.
    """
    probabilities = probabilities.clamp(LOWEST_PROBABILITY, 1 - LOWEST_PROBABILITY)
    return probabilities.log() if target == "classes" else torch.logit(probabilities)


def logits_from_state(x_start: Tensor, target: str) -> Tensor:
    """Finite logits of a predicted x_0 in [-1, 1]."""
    return logits_from_probabilities((x_start + 1) / 2, target)


def state_from_probabilities(probabilities: Tensor) -> Tensor:
    """The expected state E[x_0] = 2 p - 1, in [-1, 1]; one pass over the memory."""
    return torch.rsub(probabilities, -1, alpha=-2)


def probabilities_from_state(x_start: Tensor, target: str) -> Tensor:
    """Probabilities read off a predicted x_0 (noise parameterisation): clipped to [0, 1], classes normalised to 1."""
    probabilities = ((x_start + 1) / 2).clamp(0, 1)
    if target == "regions":
        return probabilities
    return (probabilities + LOWEST_PROBABILITY) / (probabilities + LOWEST_PROBABILITY).sum(1, keepdim=True)
