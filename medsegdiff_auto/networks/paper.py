"""The denoiser of preset ``paper``: MedSegDiff as published (arXiv 2211.00611), in any number of dimensions and for
several classes.

    code             paper              meaning
    image            I                  (B, C, *spatial)
    x_t              x_t                noisy state, (B, K, *spatial)
    image_encoder    E^I                residual encoder of the image, conditioned at every stage on the current mask
    mask_encoder     E^x                residual encoder of the noisy mask
    decoder          D                  eps_theta(x_t, I, t) = D((E_t^I + E_t^x, t), t)

Choices that the paper leaves open: one time embedding serves both encoders and the decoder; the skips come from E^x;
attention at the lowest resolution only.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, convolution, group_norm,
                                             zero_initialised)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.ff_parser import FFParser
from medsegdiff_auto.networks.dynamic_encoding import attentive_fusion, layer_norm
from medsegdiff_auto.networks.time_embedding import TimeEmbedding

BLOCKS_PER_STAGE = 2
EMBEDDING_PER_FEATURE = 4


class InlineConditionalEncoding(nn.Module):
    """m_I <- A(m_I, FF-Parser(m_x)), A(m_I, m_x) = (LN(m_I) * LN(m_x)) * m_I; both (B, C, *spatial).

    Without a residual m_I, as the paper writes it.
    """

    def __init__(self, dimension: int, channels: int, filter_grid_size: int):
        super().__init__()
        self.ff_parser = FFParser(dimension, channels, filter_grid_size)
        self.norm_image = layer_norm(channels)
        self.norm_mask = layer_norm(channels)

    def forward(self, m_image: Tensor, m_mask: Tensor) -> Tensor:
        return attentive_fusion(m_image, self.norm_image(m_image), self.norm_mask(self.ff_parser(m_mask)))


class ResidualStage(nn.Module):
    """An optional entry convolution, then two residual blocks with the time embedding."""

    def __init__(self, dimension: int, channels_in: int, channels: int, kernel_size: Sequence[int],
                 embedding_size: int, dropout: float, entry: nn.Module | None = None):
        super().__init__()
        self.entry = entry or nn.Identity()
        self.blocks = nn.ModuleList(
            FiLMResidualBlock(dimension, channels_in if index == 0 else channels, channels, kernel_size,
                              embedding_size, dropout) for index in range(BLOCKS_PER_STAGE))

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.entry(x)
        for block in self.blocks:
            x = block(x, embedding)
        return x


class PaperDenoiser(nn.Module):
    """eps_theta(x_t, I, t): both encoders and the decoder; the prediction is 0 at initialisation.

    Args:
        num_inputs: C, image channels.
        num_outputs: K, classes or regions.
        strides: into every stage; the first is 1 along every axis.
        kernel_sizes: of every stage.
        configuration: channels of both encoders and the decoder, full resolution first; attention; dropout.
    """

    def __init__(self, num_inputs: int, num_outputs: int, strides: Sequence[Sequence[int]],
                 kernel_sizes: Sequence[Sequence[int]], configuration: DiffusionConfiguration):
        super().__init__()
        c, features = configuration.network, configuration.network.features_per_stage
        dimension, last = len(strides[0]), len(features) - 1
        assert len(features) == len(strides) == len(kernel_sizes), (features, strides, kernel_sizes)
        assert set(strides[0]) == {1}, strides[0]
        embedding = EMBEDDING_PER_FEATURE * features[0]
        dropouts = [c.dropout if stage >= last - 1 else 0.0 for stage in range(last + 1)]

        def stage(s: int, channels_in: int, entry: nn.Module | None = None) -> ResidualStage:
            return ResidualStage(dimension, channels_in, features[s], kernel_sizes[s], embedding, dropouts[s], entry)

        def encoder(num_channels: int) -> nn.ModuleList:
            entering = [num_channels, *features[:-1]]
            return nn.ModuleList(stage(s, features[s], convolution(dimension, entering[s], features[s],
                                                                   kernel_sizes[s], strides[s]))
                                 for s in range(last + 1))

        self.time_embedding = TimeEmbedding(embedding)
        self.image_encoder = encoder(num_inputs)
        self.mask_encoder = encoder(num_outputs)
        self.fusion = nn.ModuleList(InlineConditionalEncoding(dimension, channels, c.filter_grid_size)
                                    for channels in features)
        self.attention = (SpatialAttention(features[last], c.bottleneck_attention_heads)
                          if c.bottleneck_attention_heads else nn.Identity())
        self.bottleneck = stage(last, features[last])
        self.reduce = nn.ModuleList(convolution(dimension, features[s + 1], features[s], 1) for s in range(last))
        self.decoder = nn.ModuleList(stage(s, 2 * features[s]) for s in range(last))
        self.head = nn.Sequential(group_norm(features[0]), nn.SiLU(),
                                  zero_initialised(convolution(dimension, features[0], num_outputs, kernel_sizes[0])))

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The predicted noise, (B, K, *spatial); t is (B,) in (0, 1]; the pyramid's only entry is the image.

        One image serves all B states, or each has its own.
        """
        embedding = self.time_embedding(t)
        m_image = condition.pyramid[0].expand(len(x_t), *condition.pyramid[0].shape[1:])
        m_mask, skips = x_t.to(m_image.dtype), []
        for encode_image, encode_mask, fuse in zip(self.image_encoder, self.mask_encoder, self.fusion):
            m_mask = encode_mask(m_mask, embedding)
            m_image = fuse(encode_image(m_image, embedding), m_mask)
            skips.append(m_mask)
        h = self.bottleneck(self.attention(m_image + m_mask), embedding)
        for s in reversed(range(len(self.decoder))):
            h = nn.functional.interpolate(self.reduce[s](h), size=skips[s].shape[2:], mode="nearest")
            h = self.decoder[s](torch.cat([h, skips[s]], 1), embedding)
        return self.head(h)
