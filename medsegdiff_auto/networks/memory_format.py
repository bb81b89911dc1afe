"""Channels last: the memory order in which a CPU convolves faster in 3-D, and slower in 2-D (``results/cost_training.md``).

For networks of group norms, which take it as it is; instance norms copy it, which costs more than the convolutions gain.
"""

from __future__ import annotations

import torch
from torch import nn


def channels_last(network: nn.Module) -> None:
    """Reorders the weights of all 3-D convolutions in place; their outputs, and what follows, take the same order."""
    for module in network.modules():
        if type(module) in (nn.Conv3d, nn.ConvTranspose3d):
            module.to(memory_format=torch.channels_last_3d)
