"""Preset ``paper``: MedSegDiff as published (arXiv 2211.00611), in any number of dimensions and for several classes.

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

from typing import Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.process import x_start_from_noise
from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, convolution, group_norm,
                                             zero_initialised)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.ff_parser import FFParser
from medsegdiff_auto.networks.fusion import attentive_fusion, layer_norm
from medsegdiff_auto.networks.sampling_network import SamplingNetwork
from medsegdiff_auto.networks.time_embedding import TimeEmbedding

BLOCKS_PER_STAGE = 2
EMBEDDING_PER_FEATURE = 4
MONITORING_STEPS = 2


class InlineConditionalEncoding(nn.Module):
    """m_I <- A(m_I, FF-Parser(m_x)), A(m_I, m_x) = (LN(m_I) * LN(m_x)) * m_I; both (B, C, *spatial).

    Without a residual m_I, as the paper writes it: on a 2-D toy with four stages it trained no worse than with one.
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
    """eps_theta(x_t, I, t): both encoders and the decoder; the predicted noise is 0 at initialisation.

    Args:
        num_inputs: C, image channels.
        num_outputs: K, classes or regions.
        features_per_stage: channels of both encoders and the decoder, full resolution first.
        strides: into every stage; the first is 1 along every axis.
        kernel_sizes: of every stage.
        attention_heads: at the lowest resolution; 0 for none.
        dropout: probability at the two lowest resolutions.
    """

    def __init__(self, num_inputs: int, num_outputs: int, features_per_stage: Sequence[int],
                 strides: Sequence[Sequence[int]], kernel_sizes: Sequence[Sequence[int]], attention_heads: int,
                 filter_grid_size: int, dropout: float):
        super().__init__()
        features, dimension, last = list(features_per_stage), len(strides[0]), len(features_per_stage) - 1
        assert len(features) == len(strides) == len(kernel_sizes), (features, strides, kernel_sizes)
        assert set(strides[0]) == {1}, strides[0]
        embedding = EMBEDDING_PER_FEATURE * features[0]
        dropouts = [dropout if stage >= last - 1 else 0.0 for stage in range(last + 1)]

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
        self.fusion = nn.ModuleList(InlineConditionalEncoding(dimension, channels, filter_grid_size)
                                    for channels in features)
        self.attention = SpatialAttention(features[last], attention_heads) if attention_heads else nn.Identity()
        self.bottleneck = stage(last, features[last])
        self.reduce = nn.ModuleList(convolution(dimension, features[s + 1], features[s], 1) for s in range(last))
        self.decoder = nn.ModuleList(stage(s, 2 * features[s]) for s in range(last))
        self.head = nn.Sequential(group_norm(features[0]), nn.SiLU(),
                                  zero_initialised(convolution(dimension, features[0], num_outputs, kernel_sizes[0])))

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The predicted noise, (B, K, *spatial); t is (B,) in (0, 1]; the pyramid's only entry is the image."""
        embedding = self.time_embedding(t)
        m_image = condition.pyramid[0]
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


class MedSegDiffPaper(SamplingNetwork):
    """MedSegDiff as published: every step of every sample runs both encoders; there is no plain network beside them.

    While ``deep_supervision`` is on, ``forward(image)`` returns one entry: the logits of a sample of two steps, cheap
    enough for nnU-Net's validation loss during training.
    """

    def __init__(self, num_inputs: int, num_outputs: int, features_per_stage: Sequence[int],
                 strides: Sequence[Sequence[int]], kernel_sizes: Sequence[Sequence[int]],
                 configuration: DiffusionConfiguration, deep_supervision: bool):
        super().__init__(configuration, deep_supervision)
        self.num_outputs = num_outputs
        self.denoiser = PaperDenoiser(num_inputs, num_outputs, features_per_stage, strides, kernel_sizes,
                                      configuration.bottleneck_attention_heads, configuration.filter_grid_size,
                                      configuration.dropout)

    def condition(self, image: Tensor) -> Condition:
        """Logits of 0 (every class as likely) and the image itself.

        E^I sees the mask at every stage, so that nothing of it can be computed once.
        """
        return Condition([image.new_zeros(len(image), self.num_outputs, *image.shape[2:])], [image])

    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of a sample of two steps, (B, K, *spatial)."""
        return [self.fused_logits(image, MONITORING_STEPS)]

    def discrete_time(self, t: Tensor) -> Tensor:
        """The nearest of 1/T, 2/T, ..., 1 for the linear schedule, which is defined there only; else t itself."""
        if self.schedule.name != "linear":
            return t
        num_train_steps = self.schedule.num_train_steps
        return (t * num_train_steps).round().clamp(min=1) / num_train_steps

    def training_forward(self, image: Tensor, x_start: Tensor, t: Tensor, noise: Tensor,
                         recycled: Tensor | None) -> tuple[None, Tensor]:
        """None (there are no conditioner logits) and the predicted noise, (B, K, *spatial).

        Args:
            image: (B, C, *spatial).
            x_start: reference state, (B, K, *spatial) in [-1, 1].
            t: (B,) in (0, 1].
            noise: standard normal, as x_start; the reference of the loss.
            recycled: (B,) bool or None; for these the noised state is the network's own prediction from pure noise.
        """
        condition, t = self.condition(image), self.discrete_time(t)
        x_t = self.noised_state(x_start, t, noise, recycled, condition)
        return None, self.predict_noise(x_t, t, condition)

    def predict_noise(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """eps_theta(x_t, I, t), (B, K, *spatial); t is (B,)."""
        return self.denoiser(x_t, self.discrete_time(t), condition)

    def predict_x_start(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """x_0 of the predicted noise, clipped to [-1, 1], (B, K, *spatial); t is (B,)."""
        alpha, sigma = self.schedule.alpha_sigma(self.discrete_time(t))
        return x_start_from_noise(self.predict_noise(x_t, t, condition).to(x_t), x_t, alpha, sigma).clamp(-1, 1)
