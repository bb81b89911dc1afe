"""The embedding of the diffusion time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

TIME_SCALE = 1000.0
LONGEST_PERIOD = 10000.0


def sinusoids(t: Tensor, size: int) -> Tensor:
    """(B,) t in [0, 1] to (B, size): cos and sin of 1000 t at frequencies from 1 to 1e-4 (Ho et al. 2020)."""
    frequencies = torch.exp(-math.log(LONGEST_PERIOD) * torch.arange(size // 2, device=t.device) / (size // 2))
    angles = TIME_SCALE * t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Sinusoids of t followed by a two-layer perceptron, (B,) to (B, size)."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size
        self.perceptron = nn.Sequential(nn.Linear(size, size), nn.SiLU(), nn.Linear(size, size), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        return self.perceptron(sinusoids(t, self.size).to(next(self.parameters()).dtype))
