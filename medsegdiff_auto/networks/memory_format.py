"""Channels last: the memory order in which a CPU convolves faster."""

from __future__ import annotations

import torch
from torch import nn

FORMATS = {nn.Conv2d: torch.channels_last, nn.ConvTranspose2d: torch.channels_last,
           nn.Conv3d: torch.channels_last_3d, nn.ConvTranspose3d: torch.channels_last_3d}


def channels_last(network: nn.Module) -> None:
    """Reorders the weights of all convolutions in place; their outputs, and what follows, take the same order."""
    for module in network.modules():
        if type(module) in FORMATS:
            module.to(memory_format=FORMATS[type(module)])
