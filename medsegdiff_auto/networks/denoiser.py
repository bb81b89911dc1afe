"""The denoiser: a U-Net over the noisy state, which sees the image through a conditioner or beside the state.

    code        meaning
    x_t         noisy state, (B, K, *spatial)
    pyramid     the conditioner's features, from the denoiser's finest resolution to the bottleneck
    cell        voxels that make up one position of the finest stage: the stride between the conditioner's two finest
                resolutions where the plan says ``space_to_depth``, so that no convolution runs at full resolution
                (Hoogeboom et al. 2023 patch their input likewise), else one voxel
"""

from __future__ import annotations

from typing import Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.state import probabilities_from_logits, state_from_probabilities
from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, convolution, depth_to_space,
                                             group_norm, space_to_depth, zero_initialised)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.fusion import DynamicConditionalEncoding
from medsegdiff_auto.networks.medsegdiff_v2 import AnchorAttention, SpectrumTransformer
from medsegdiff_auto.networks.time_embedding import TimeEmbedding
from medsegdiff_auto.networks.transformer import Transformer

EMBEDDING_PER_FEATURE = 4


class Denoiser(nn.Module):
    """Predicts logits of x_0, the noise or v from x_t, t and the image.

    At initialisation it equals the conditioner where it predicts logits behind one, and is 0 otherwise.

    Args:
        num_outputs: K, classes or regions.
        strides: into every stage; the first is the cell.
        kernel_sizes: of every stage.
        configuration: target, parameterisation, channels, and which modules there are.
        pyramid_channels: of the conditioner's features at the same stages; empty without a conditioner.
        num_image_channels: C where there is no conditioner and the image lies beside the state, else 0.
    """

    def __init__(self, num_outputs: int, strides: Sequence[Sequence[int]], kernel_sizes: Sequence[Sequence[int]],
                 configuration: DiffusionConfiguration, pyramid_channels: Sequence[int] = (),
                 num_image_channels: int = 0):
        super().__init__()
        c, features = configuration, configuration.features_per_stage
        dimension, last = len(strides[0]), len(features) - 1
        assert len(features) == len(strides) == len(kernel_sizes), (features, strides, kernel_sizes)
        assert len(pyramid_channels) in (0, len(features)), (pyramid_channels, features)
        assert bool(pyramid_channels) != bool(num_image_channels), (pyramid_channels, num_image_channels)
        self.cell, self.target = tuple(strides[0]), c.target
        self.sees_pyramid = bool(pyramid_channels)
        self.self_conditioning = c.self_conditioning
        self.predicts_logits = c.parameterisation == "x_start"
        embedding = EMBEDDING_PER_FEATURE * features[0]
        dropouts = [c.dropout if stage >= last - 1 else 0.0 for stage in range(last + 1)]
        num_states = 1 + self.sees_pyramid + c.self_conditioning
        channels_in = (num_states * num_outputs + num_image_channels) * torch.Size(self.cell).numel()
        channels_out = num_outputs * torch.Size(self.cell).numel()

        def block(stage: int, channels: int) -> FiLMResidualBlock:
            return FiLMResidualBlock(dimension, channels, features[stage], kernel_sizes[stage], embedding, dropouts[stage])

        self.time_embedding = TimeEmbedding(embedding)
        self.stem = convolution(dimension, channels_in, features[0], kernel_sizes[0])
        self.encoder = nn.ModuleList(block(s, features[s]) for s in range(last + 1))
        self.fusion = nn.ModuleList(
            DynamicConditionalEncoding(dimension, pyramid_channels[s], features[s], c.filter_grid_size)
            for s in range(last + 1)) if c.dynamic_encoding and self.sees_pyramid else None
        self.anchor = AnchorAttention(dimension, pyramid_channels[0], features[0]) if c.anchor_attention else None
        self.downsample = nn.ModuleList(
            convolution(dimension, features[s], features[s + 1], kernel_sizes[s + 1], strides[s + 1]) for s in range(last))
        self.spectrum_transformer = SpectrumTransformer(
            dimension, pyramid_channels[-1], features[-1], c.spectrum_transformer_layers, c.bottleneck_attention_heads,
            embedding, c.dropout) if c.spectrum_transformer_layers else None
        self.transformer = Transformer(features[-1], c.transformer_layers, c.bottleneck_attention_heads, embedding,
                                       c.dropout) if c.transformer_layers else None
        self.attention = (SpatialAttention(features[-1], c.bottleneck_attention_heads)
                          if c.bottleneck_attention_heads and not c.transformer_layers else nn.Identity())
        self.bottleneck = block(last, features[-1])
        self.reduce = nn.ModuleList(convolution(dimension, features[s + 1], features[s], 1) for s in range(last))
        self.decoder = nn.ModuleList(block(s, 2 * features[s]) for s in range(last))
        self.head = nn.Sequential(group_norm(features[0]), nn.SiLU(),
                                  zero_initialised(convolution(dimension, features[0], channels_out, 1)))
        self.trust = (zero_initialised(nn.Linear(embedding, num_outputs))
                      if self.predicts_logits and self.sees_pyramid else None)

    def input_cells(self, x_t: Tensor, condition: Condition, previous: Tensor | None) -> Tensor:
        """State, the conditioner's expected state or the image, and the previous prediction, as cells."""
        prior = condition.logits[0]
        parts = [x_t.to(prior.dtype)]
        if self.sees_pyramid:
            parts.append(state_from_probabilities(probabilities_from_logits(prior, self.target)))
        else:
            parts.append(condition.pyramid[0])
        if self.self_conditioning:
            parts.append(torch.zeros_like(prior) if previous is None else previous.to(prior.dtype))
        return torch.cat([space_to_depth(part, self.cell) for part in parts], 1)

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition, previous: Tensor | None = None) -> Tensor:
        """Logits, noise or v, (B, K, *spatial); t is (B,) in [0, 1], ``previous`` as x_t in [-1, 1]."""
        embedding = self.time_embedding(t)
        h, skips = self.stem(self.input_cells(x_t, condition, previous)), []
        for stage, encode in enumerate(self.encoder):
            h = encode(h, embedding)
            if self.fusion is not None:
                h = self.fusion[stage](h, condition.pyramid[stage])
            if stage == 0 and self.anchor is not None:
                h = self.anchor(h, condition.pyramid[0])
            if stage < len(self.downsample):
                skips.append(h)
                h = self.downsample[stage](h)
        h = self.at_bottleneck(h, condition, embedding)
        for stage in reversed(range(len(self.decoder))):
            h = nn.functional.interpolate(self.reduce[stage](h), size=skips[stage].shape[2:], mode="nearest")
            h = self.decoder[stage](torch.cat([h, skips[stage]], 1), embedding)
        output = depth_to_space(self.head(h), self.cell)
        if self.trust is None:
            return output
        trust = 1 + self.trust(embedding).reshape(len(x_t), -1, *[1] * (x_t.ndim - 2))
        return output + trust * condition.logits[0]

    def at_bottleneck(self, h: Tensor, condition: Condition, embedding: Tensor) -> Tensor:
        """What happens at the lowest resolution."""
        if self.spectrum_transformer is not None:
            h = self.spectrum_transformer(h, condition.pyramid[-1], embedding)
        if self.transformer is not None:
            h = self.transformer(h, embedding)
        return self.bottleneck(self.attention(h), embedding)
