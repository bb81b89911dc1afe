"""The denoiser: a U-Net over the noisy state, which sees the image through a conditioner or beside the state.

    code        meaning
    x_t         noisy state, (B, K, *spatial)
    pyramid     the conditioner's features, from the denoiser's finest resolution to the bottleneck
    latent      latent noise xi at the finest stage, (B, fields, *cells)
    cell        voxels that make up one position of the denoiser's finest stage: one at full resolution, else
                the strides up to its first stage, so that no convolution runs at full resolution (Hoogeboom et al. 2023
                patch their input likewise)
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.expected_mask import expected_probabilities
from medsegdiff_auto.diffusion.precision import at_least_float32, without_autocast
from medsegdiff_auto.diffusion.state import probabilities_from_logits, state_from_probabilities
from medsegdiff_auto.diffusion.transfer import entries
from medsegdiff_auto.networks.blocks import (FiLMResidualBlock, SpatialAttention, along_last, between_cells,
                                             between_cells_but_last, convolution, convolve_cells, depth_to_space,
                                             group_norm, zero_initialised)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.dynamic_encoding import DynamicConditionalEncoding, FusionTerms
from medsegdiff_auto.networks.medsegdiff_v2 import AnchorAttention, SpectrumTransformer
from medsegdiff_auto.networks.time_embedding import TimeEmbedding
from medsegdiff_auto.networks.transformer import Transformer

EMBEDDING_PER_FEATURE = 4
VALUES_PER_BLOCK = 2 ** 17  # of what is computed voxel by voxel on a CPU: they stay in its cache
COMPUTED_IN_BLOCKS = ("cpu", "meta")  # on the latter, what the former takes is counted
VALUES_AT_ONCE = 2 ** 22  # of the logits of draws on a GPU: some 100 MB with what is made of them
FEW_CLASSES, POSSIBLE_FROM = 8, 1e-6  # of more classes, those that are nowhere in a tile so probable are left out of it


class ImageTerms(NamedTuple):
    """What the denoiser computes of the image alone, each (B, channels, *spatial); B is 1 where samples share the
    image.

    Attributes:
        logits: the conditioner's, full resolution.
        stem: what the image adds to the first convolution.
        fusion: of every stage; empty without dynamic encoding.
        anchor_gate: of MedSegDiff-V2's attention; None without it.
        bottleneck: the conditioner's lowest features for the spectrum transformer; None without it.
        last: the last features u of a denoiser that sees no state, to which samples only add their latent noise; None
            where there is a state, and otherwise the rest but ``logits`` is None.
    """

    logits: Tensor
    stem: Tensor | None
    fusion: list[FusionTerms]
    anchor_gate: Tensor | None
    bottleneck: Tensor | None
    last: Tensor | None = None

    def of(self, rows: Sequence[int]) -> ImageTerms:
        """These entries of the batch."""
        return tree_map(lambda x: x if x is None else entries(x, rows), self)


def cell_of(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Voxels per axis of full resolution that one position after these strides covers."""
    return tuple(math.prod(along_axis) for along_axis in zip(*strides))


class Denoiser(nn.Module):
    """Predicts logits of x_0, the noise or v from x_t, t and the image.

    At initialisation it equals the conditioner where it predicts logits behind one, and is 0 otherwise.

    Args:
        num_outputs: K, classes or regions.
        strides: into every stage of nnU-Net's network, full resolution first; the denoiser has those from its first
            stage on.
        kernel_sizes: of the same stages.
        configuration: target, parameterisation, channels, and which modules there are.
        pyramid_channels: of the conditioner's features at the same stages; empty without a conditioner.
        num_image_channels: C where there is no conditioner and the image lies beside the state, else 0.
    """

    fusion: Any  # a DynamicConditionalEncoding per stage, or None: a ModuleList forgets what it holds

    def __init__(self, num_outputs: int, strides: Sequence[Sequence[int]], kernel_sizes: Sequence[Sequence[int]],
                 configuration: DiffusionConfiguration, pyramid_channels: Sequence[int] = (),
                 num_image_channels: int = 0):
        super().__init__()
        c, features = configuration.network, configuration.network.features_per_stage
        self.cell = cell_of(strides[:c.first_stage + 1])
        strides, kernel_sizes = strides[c.first_stage:], kernel_sizes[c.first_stage:]
        dimension, last = len(self.cell), len(features) - 1
        assert len(features) == len(strides) == len(kernel_sizes), (features, strides, kernel_sizes)
        assert len(pyramid_channels) in (0, len(features)), (pyramid_channels, features)
        assert bool(pyramid_channels) != bool(num_image_channels), (pyramid_channels, num_image_channels)
        self.target = configuration.target
        self.sees_pyramid, self.sees_state = bool(pyramid_channels), c.sees_state
        self.predicts_logits = c.parameterisation == "x_start"
        embedding = EMBEDDING_PER_FEATURE * features[0]
        dropouts = [c.dropout if stage >= last - 1 else 0.0 for stage in range(last + 1)]
        of_state = num_outputs * torch.Size(self.cell).numel()
        of_image = of_state if self.sees_pyramid else num_image_channels * torch.Size(self.cell).numel()

        def block(stage: int, channels: int) -> FiLMResidualBlock:
            return FiLMResidualBlock(dimension, channels, features[stage], kernel_sizes[stage], embedding,
                                     dropouts[stage])

        self.time_embedding = TimeEmbedding(embedding)
        self.state_stem = convolution(dimension, of_state, features[0], kernel_sizes[0])
        self.image_stem = convolution(dimension, of_image, features[0], kernel_sizes[0])
        self.encoder = nn.ModuleList(block(s, features[s]) for s in range(last + 1))
        self.fusion = nn.ModuleList(
            DynamicConditionalEncoding(dimension, pyramid_channels[s], features[s], c.filter_grid_size)
            for s in range(last + 1)) if c.dynamic_encoding and self.sees_pyramid else None
        self.anchor = AnchorAttention(dimension, pyramid_channels[0], features[0]) if c.anchor_attention else None
        self.downsample = nn.ModuleList(
            convolution(dimension, features[s], features[s + 1], kernel_sizes[s + 1], strides[s + 1])
            for s in range(last))
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
                                  zero_initialised(convolution(dimension, features[0], of_state, 1)))
        self.num_latents = len(c.latent_scales) * c.latent_channels
        self.latent_gain = convolution(dimension, features[0], num_outputs * self.num_latents,
                                       1) if self.num_latents else None
        self.trust = (zero_initialised(nn.Linear(embedding, num_outputs))
                      if self.predicts_logits and self.sees_pyramid else None)

    def image_terms(self, condition: Condition | ImageTerms) -> ImageTerms:
        """All that the denoiser computes of the image alone: once for all steps and samples of a tile.

        Without a state that is everything up to the latent noise: an empty state at t = 1.
        """
        if isinstance(condition, ImageTerms):
            return condition
        terms = self._terms_beside_state(condition)
        if self.sees_state:
            return terms
        nothing, end = torch.zeros_like(terms.logits), torch.ones(len(terms.logits), device=terms.logits.device)
        last = self._last_features(nothing, terms, self.time_embedding(end))
        return ImageTerms(terms.logits, None, [], None, None, last)

    def _terms_beside_state(self, condition: Condition) -> ImageTerms:
        logits, pyramid = condition.logits[0], condition.pyramid
        if self.sees_pyramid:
            image = state_from_probabilities(probabilities_from_logits(logits, self.target))
        else:
            image = pyramid[0]
        return ImageTerms(
            logits, convolve_cells(self.image_stem, image, self.cell),
            [fuse.image_terms(features) for fuse, features in zip(self.fusion or [], pyramid)],
            None if self.anchor is None else self.anchor.image_gate(pyramid[0]),
            None if self.spectrum_transformer is None else pyramid[-1])

    def forward(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms,
                latent: Tensor | None = None) -> Tensor:
        """Logits, noise or v, (B, K, *spatial); t is (B,) in [0, 1].

        The condition is that of each of the B images, or of one image that all samples share. Without ``latent`` the
        latent noise is 0 everywhere. A denoiser that sees no state is given an empty one, at t = 1; it may be given the
        latent noise of m draws of each image, (m B, fields, *cells), and answers draw by draw, (m B, K, *spatial).
        """
        image = self.image_terms(condition)
        if image.last is not None and latent is not None and len(latent) > len(image.last):
            return self._draws(image, latent)
        embedding = self.time_embedding(t)
        last = self._last_features(x_t.to(image.logits.dtype), image, embedding) if image.last is None else image.last
        return self._beside_logits(self.at_head(last, latent), image.logits, embedding)

    def _beside_logits(self, output: Tensor, logits: Tensor, embedding: Tensor) -> Tensor:
        """What is added to the conditioner's logits, and how far these are trusted; embeddings (B, E)."""
        if self.trust is None:
            return output.expand(len(embedding), *output.shape[1:])
        trust = 1 + self.trust(embedding).reshape(len(embedding), -1, *[1] * (output.ndim - 2))
        return torch.addcmul(output, trust, logits)

    def _last_features(self, state: Tensor, image: ImageTerms, embedding: Tensor) -> Tensor:
        """From the first convolution to the last block of the decoder."""
        assert image.stem is not None, "the terms of a denoiser that sees no state have no stem"
        h, skips = convolve_cells(self.state_stem, state, self.cell) + image.stem, []
        for stage, encode in enumerate(self.encoder):
            h = encode(h, embedding)
            if self.fusion is not None:
                h = self.fusion[stage](h, image.fusion[stage])
            if stage == 0 and self.anchor is not None:
                h = self.anchor(h, image.anchor_gate)
            if stage < len(self.downsample):
                skips.append(h)
                h = self.downsample[stage](h)
        h = self.at_bottleneck(h, image.bottleneck, embedding)
        for stage in reversed(range(len(self.decoder))):
            h = nn.functional.interpolate(self.reduce[stage](h), size=skips[stage].shape[2:], mode="nearest")
            h = self.decoder[stage](torch.cat([h, skips[stage]], 1), embedding)
        return h

    def at_head(self, h: Tensor, latent: Tensor | None) -> Tensor:
        """head(u) + sum_c xi_c G_c u of the last features u, (B, K, *spatial).

        The first term says what the voxels of a cell are; the second, one value per cell and output, lies linearly
        between the cells, so that noise moves boundaries and draws no texture.
        """
        with without_autocast(h.device):  # it costs little, and halves what bfloat16 moves in the samples
            output, u = self._without_noise(h)
            if latent is None or self.latent_gain is None:
                return output
            gains = self.latent_gain(u).unflatten(1, (self.num_latents, -1))
            return output + between_cells((gains * latent.to(gains.dtype)[:, :, None]).sum(1), self.cell)

    def _without_noise(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """head(u) (B, K, *spatial) and u (B, F, *cells), float32 at least."""
        norm, activation, project = self.head
        u = activation(norm(at_least_float32(h)))
        return depth_to_space(project(u), self.cell), u

    def expected_probabilities(self, image: ImageTerms, dispersion: float) -> Tensor:
        """The mean mask over latent noise of this standard deviation, (B, K, *spatial) float32, of a denoiser that
        sees no state.
        """
        of_all, gains = self._response(image)
        if in_few_operations(of_all):
            of_voxels = (between_cells(dispersion * gain, self.cell) for gain in gains)
            return expected_probabilities(of_all, of_voxels, self.target)
        expected = torch.zeros(of_all.shape, device=of_all.device)
        for number, logits in enumerate(of_all):
            classes = self._possible(logits)
            logits = logits[classes]
            partly = [between_cells_but_last(dispersion * gain[number, classes][None], self.cell) for gain in gains]
            for rows in _blocks(logits):
                of_voxels = (along_last(gain[:, :, rows], self.cell[-1]) for gain in partly)
                of_rows = expected_probabilities(logits[None, :, rows], of_voxels, self.target)
                expected[number, classes, rows] = of_rows[0]
        return expected

    def _possible(self, logits: Tensor) -> slice | Tensor:
        """The classes, of logits (K, *spatial), that are worth computing with: all, or of many those that are possible
        somewhere.
        """
        if self.target == "regions" or len(logits) <= FEW_CLASSES or logits.is_meta:
            return slice(None)
        above_others = (logits - logits.logsumexp(0, keepdim=True)).flatten(1).amax(1)
        return (~(above_others < math.log(POSSIBLE_FROM))).nonzero()[:, 0]  # NaN is for others to find

    def draw_by_rows(self, image: ImageTerms,
                     latent: Tensor) -> Iterator[tuple[tuple[slice, slice | Tensor, slice], Tensor]]:
        """Logits of draws of one image by a denoiser that sees no state, in parts: draws, the classes that are possible
        and rows of the first spatial axis, and the logits there, (draws, classes, rows, *rest). A call for all voxels
        of many classes would wait for the memory at every operation; a GPU takes as many draws at once as are small.

        Args:
            image: of one image, or, for a GPU that takes all draws at once, of B.
            latent: (S, fields, *cells), of B images draw by draw; of a denoiser without latent noise no fields.
        """
        of_all, gains = self._response(image)
        if in_few_operations(of_all):
            together, everything = max(len(of_all), VALUES_AT_ONCE // of_all[0].numel()), slice(None)
            for first in range(0, len(latent), together):
                draws = slice(first, first + together)
                yield (draws, everything, everything), self._moved(of_all, gains, latent[draws])
            return
        logits, = of_all
        classes = self._possible(logits)
        logits, gains = logits[classes], [gain[:, classes] for gain in gains]
        for draw, fields in enumerate(latent):
            moved = [gain * field.to(gain.dtype) for gain, field in zip(gains, fields)]
            partly = between_cells_but_last(torch.stack(moved).sum(0), self.cell) if moved else None
            for rows in _blocks(logits):
                output = logits[:, rows]
                if partly is not None:
                    output = output + along_last(partly[0, :, rows], self.cell[-1]).to(logits.dtype)
                yield (slice(draw, draw + 1), classes, rows), output[None]

    def latent_response(self, image: ImageTerms) -> tuple[Tensor, Tensor]:
        """Logits without latent noise (B, K, *spatial), and what each field adds per unit (B, fields, K, *spatial)."""
        logits, gains = self._response(image)
        return logits, torch.stack([between_cells(one, self.cell) for one in gains], 1)

    def _response(self, image: ImageTerms) -> tuple[Tensor, Sequence[Tensor]]:
        """Logits without latent noise, and what each field adds in a cell (B, K, *cells), without a state."""
        assert image.last is not None, "a denoiser that sees a state answers to it"
        end = torch.ones(len(image.logits), device=image.logits.device)
        with without_autocast(end.device):
            output, u = self._without_noise(image.last)
            logits = self._beside_logits(output, image.logits, self.time_embedding(end))
            if self.latent_gain is None:
                return logits, ()
            return logits, self.latent_gain(u).unflatten(1, (self.num_latents, -1)).unbind(1)

    def _draws(self, image: ImageTerms, latent: Tensor) -> Tensor:
        """Several draws of each of B images by a denoiser that sees no state, (m B, K, *spatial), draw by draw.

        Everything but what the noise moves is computed once for all of them.

        Args:
            latent: (m B, fields, *cells).
        """
        return self._moved(*self._response(image), latent)

    def _moved(self, logits: Tensor, gains: Sequence[Tensor], latent: Tensor) -> Tensor:
        """Logits (m B, K, *spatial) of those without latent noise, (B, K, *spatial), of what each field adds in a cell,
        (B, K, *cells), and of latent noise (m B, fields, *cells).
        """
        if not gains:
            return logits.repeat(len(latent) // len(logits), *[1] * (logits.ndim - 1))
        of_draws = latent.to(gains[0].dtype).unflatten(0, (-1, len(logits)))[:, :, :, None]
        moved = between_cells((torch.stack(list(gains), 1) * of_draws).sum(2).flatten(0, 1), self.cell)
        return (logits + moved.to(logits.dtype).unflatten(0, (-1, len(logits)))).flatten(0, 1)

    def at_bottleneck(self, h: Tensor, image_features: Tensor | None, embedding: Tensor) -> Tensor:
        """What happens at the lowest resolution."""
        if self.spectrum_transformer is not None:
            h = self.spectrum_transformer(h, image_features, embedding)
        if self.transformer is not None:
            h = self.transformer(h, embedding)
        return self.bottleneck(self.attention(h), embedding)


def in_few_operations(logits: Tensor) -> bool:
    """Whether all voxels of logits (B, K, *spatial) are computed at once: on a GPU, which waits for each operation to
    be started, and of few classes.
    """
    return logits.device.type not in COMPUTED_IN_BLOCKS and logits.shape[1] <= FEW_CLASSES


def _blocks(logits: Tensor) -> list[slice]:
    """Rows of the first spatial axis of logits (K, *spatial), few at a time on a CPU, all at once elsewhere."""
    of_row, num_rows = max(1, logits[:, 0].numel()), logits.shape[1]
    thickness = max(1, VALUES_PER_BLOCK // of_row) if logits.device.type in COMPUTED_IN_BLOCKS else num_rows
    return [slice(start, min(start + thickness, num_rows)) for start in range(0, num_rows, thickness)]
