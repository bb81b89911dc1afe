"""The transformer at the lowest resolution: a U-ViT's (Hoogeboom et al. 2023, "simple diffusion", section 3.4).

Shapes: feature maps are (B, C, *spatial), tokens (B, N, C) with N positions, embeddings (B, E).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.networks.blocks import require_divisible, zero_initialised

WIDENING = 4
LONGEST_WAVE_VOX = 1000.0


def tokens_of(x: Tensor) -> Tensor:
    """One token per position."""
    return x.flatten(2).transpose(1, 2)


def feature_map_of(tokens: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of :func:`tokens_of`."""
    return tokens.transpose(1, 2).reshape(len(tokens), -1, *size)


def position_embedding(size: Sequence[int], channels: int, device: torch.device | None = None) -> Tensor:
    """cos and sin of every axis's position, (N, channels); equal shares of the channels per axis, the rest zero.

    Wavelengths from 2 pi to 2000 pi voxels (Vaswani et al. 2017), so that any size is served.
    """
    num_waves = channels // (2 * len(size))
    frequencies = torch.exp(-math.log(LONGEST_WAVE_VOX) * torch.arange(num_waves, device=device) / max(1, num_waves))
    axes = [torch.arange(n, device=device)[:, None] * frequencies for n in size]
    waves = [torch.cat([angles.cos(), angles.sin()], 1) for angles in axes]
    embedding = torch.zeros(*size, channels, device=device)
    for axis, wave in enumerate(waves):
        shape = [1] * len(size) + [2 * num_waves]
        shape[axis] = size[axis]
        embedding[..., 2 * num_waves * axis:2 * num_waves * (axis + 1)] = wave.reshape(shape)
    return embedding.reshape(-1, channels)


class Perceptron(nn.Module):
    """Pre-norm two-layer perceptron on tokens, residual; the identity at initialisation."""

    def __init__(self, channels: int, dropout: float):
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, WIDENING * channels), nn.GELU(),
                                    nn.Dropout(dropout), zero_initialised(nn.Linear(WIDENING * channels, channels)))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.layers(tokens)


class TransformerLayer(nn.Module):
    """Self-attention, scaled and shifted by the time embedding, and a perceptron; the identity at initialisation."""

    def __init__(self, channels: int, num_heads: int, embedding_size: int, dropout: float):
        super().__init__()
        require_divisible(channels, num_heads)
        self.norm = nn.LayerNorm(channels, elementwise_affine=False)
        self.film = zero_initialised(nn.Linear(embedding_size, 2 * channels))
        self.attention = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        zero_initialised(self.attention.out_proj)
        self.perceptron = Perceptron(channels, dropout)

    def forward(self, tokens: Tensor, embedding: Tensor) -> Tensor:
        scale, shift = self.film(embedding)[:, None].chunk(2, -1)
        h = self.norm(tokens) * (1 + scale) + shift
        attended, _ = self.attention(h, h, h, need_weights=False)
        return self.perceptron(tokens + attended)


class Transformer(nn.Module):
    """Layers over all positions of a feature map; knows where a token lies.

    Args:
        num_layers: at least 1.
        num_heads: of the attention; divides the channels.
        dropout: of attention weights and perceptrons.
    """

    def __init__(self, channels: int, num_layers: int, num_heads: int, embedding_size: int, dropout: float):
        super().__init__()
        self.position = zero_initialised(nn.Linear(channels, channels, bias=False))
        self.layers = nn.ModuleList(TransformerLayer(channels, num_heads, embedding_size, dropout)
                                    for _ in range(num_layers))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        positions = position_embedding(x.shape[2:], x.shape[1], x.device).to(x.dtype)
        tokens = tokens_of(x) + self.position(positions)
        for layer in self.layers:
            tokens = layer(tokens, embedding)
        return feature_map_of(tokens, x.shape[2:])
