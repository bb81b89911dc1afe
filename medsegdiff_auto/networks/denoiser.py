"""The light denoiser of preset ``auto``: a U-Net over the noisy state that sees the image through the conditioner.

    code        meaning
    x_t         noisy state, (B, K, *spatial)
    pyramid     the conditioner's features, second finest resolution to bottleneck
    patch       stride between the two finest resolutions: the finest stage works on the space-to-depth of the state,
                so that no convolution runs at full resolution (Hoogeboom et al. 2023 patch their input likewise)
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.state import probabilities_from_logits, state_from_probabilities
from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, convolution, depth_to_space,
                                             group_norm, space_to_depth, zero_initialised)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.fusion import DynamicConditionalEncoding
from medsegdiff_auto.networks.time_embedding import TimeEmbedding

EMBEDDING_PER_FEATURE = 4


class Denoiser(nn.Module):
    """Predicts the logits of x_0 from x_t, t and the image features; equals the conditioner at initialisation.

    Args:
        num_outputs: K, classes or regions.
        target: ``classes`` or ``regions``.
        features_per_stage: channels from the finest stage (stride 1 of the conditioner) to the bottleneck.
        pyramid_channels: channels of the conditioner's features, the same order.
        strides: the conditioner's strides into the same stages; the first is the patch of the space-to-depth.
        kernel_sizes: the conditioner's kernels of the same stages.
        attention_heads: of the bottleneck; 0 for none.
        dropout: probability at the two lowest resolutions.
    """

    def __init__(self, num_outputs: int, target: str, features_per_stage: Sequence[int],
                 pyramid_channels: Sequence[int], strides: Sequence[Sequence[int]],
                 kernel_sizes: Sequence[Sequence[int]], attention_heads: int, filter_grid_size: int, dropout: float):
        super().__init__()
        dimension, num_stages = len(strides[0]), len(features_per_stage)
        assert num_stages == len(pyramid_channels) == len(strides), (features_per_stage, pyramid_channels, strides)
        self.target, self.patch = target, tuple(strides[0])
        embedding = EMBEDDING_PER_FEATURE * features_per_stage[0]
        dropouts = [dropout if stage >= num_stages - 2 else 0.0 for stage in range(num_stages)]
        cell = num_outputs * torch.Size(self.patch).numel()

        def block(stage: int, channels_in: int) -> FiLMResidualBlock:
            return FiLMResidualBlock(dimension, channels_in, features_per_stage[stage], kernel_sizes[stage],
                                     embedding, dropouts[stage])

        self.time_embedding = TimeEmbedding(embedding)
        self.stem = convolution(dimension, 2 * cell, features_per_stage[0], kernel_sizes[0])
        self.encoder = nn.ModuleList(block(s, features_per_stage[s]) for s in range(num_stages))
        self.fusion = nn.ModuleList(
            DynamicConditionalEncoding(dimension, pyramid_channels[s], features_per_stage[s], filter_grid_size)
            for s in range(num_stages))
        self.downsample = nn.ModuleList(
            convolution(dimension, features_per_stage[s], features_per_stage[s + 1], kernel_sizes[s + 1],
                        strides[s + 1]) for s in range(num_stages - 1))
        self.attention = (SpatialAttention(features_per_stage[-1], attention_heads) if attention_heads
                          else nn.Identity())
        self.bottleneck = block(num_stages - 1, features_per_stage[-1])
        self.reduce = nn.ModuleList(
            convolution(dimension, features_per_stage[s + 1], features_per_stage[s], 1)
            for s in range(num_stages - 1))
        self.decoder = nn.ModuleList(block(s, 2 * features_per_stage[s]) for s in range(num_stages - 1))
        self.head = nn.Sequential(group_norm(features_per_stage[0]), nn.SiLU(),
                                  zero_initialised(convolution(dimension, features_per_stage[0], cell, 1)))
        self.trust = zero_initialised(nn.Linear(embedding, num_outputs))

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """Logits of x_0, (B, K, *spatial); t is (B,) in [0, 1]."""
        embedding = self.time_embedding(t)
        prior = condition.logits[0]
        prior_state = state_from_probabilities(probabilities_from_logits(prior, self.target))
        cells = [space_to_depth(x.to(prior.dtype), self.patch) for x in (x_t, prior_state)]
        h, skips = self.stem(torch.cat(cells, 1)), []
        for stage, (encode, fuse) in enumerate(zip(self.encoder, self.fusion)):
            h = fuse(encode(h, embedding), condition.pyramid[stage])
            if stage < len(self.downsample):
                skips.append(h)
                h = self.downsample[stage](h)
        h = self.bottleneck(self.attention(h), embedding)
        for stage in reversed(range(len(self.decoder))):
            h = nn.functional.interpolate(self.reduce[stage](h), size=skips[stage].shape[2:], mode="nearest")
            h = self.decoder[stage](torch.cat([h, skips[stage]], 1), embedding)
        trust = 1 + self.trust(embedding).reshape(len(x_t), -1, *[1] * (x_t.ndim - 2))
        return depth_to_space(self.head(h), self.patch) + trust * prior
