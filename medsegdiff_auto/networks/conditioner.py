"""The conditioner: nnU-Net's own network, run so that its decoder features come out beside its logits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.transfer import entries


class Condition(NamedTuple):
    """What the denoiser sees of the image.

    Attributes:
        logits: one (B, K, *spatial) per decoder stage, full resolution first; nnU-Net's deep-supervision order.
        pyramid: features from the finest resolution that the denoiser works on to the bottleneck.
    """

    logits: list[Tensor]
    pyramid: list[Tensor]

    def detached(self) -> Condition:
        """Cuts the gradient into the conditioner; the values stay."""
        return Condition([x.detach() for x in self.logits], [x.detach() for x in self.pyramid])

    def of(self, rows: Sequence[int]) -> Condition:
        """These entries of the batch, repeats allowed, full-resolution logits only."""
        return Condition([entries(self.logits[0], rows)], [entries(x, rows) for x in self.pyramid])

    def repeated(self, times: int) -> Condition:
        """Every sample of the batch ``times`` in a row, full-resolution logits only."""
        return Condition([self.logits[0].repeat_interleave(times, 0)],
                         [x.repeat_interleave(times, 0) for x in self.pyramid])


class Conditioner(nn.Module):
    """Wraps a PlainConvUNet or ResidualEncoderUNet of dynamic-network-architectures, parameter for parameter.

    An nnU-Net checkpoint of the same plan loads into ``unet`` as it is.

    Args:
        first_stage: the encoder stage at whose resolution the pyramid begins; 0 is full resolution.
    """

    unet: Any  # which of the two, and so which attributes, only the plan knows

    def __init__(self, unet: nn.Module, first_stage: int = 1):
        super().__init__()
        self.unet, self.first_stage = unet, first_stage

    @property
    def pyramid_channels(self) -> list[int]:
        """Channels of :attr:`Condition.pyramid`."""
        return list(self.unet.encoder.output_channels[self.first_stage:])

    @property
    def strides(self) -> list[tuple[int, ...]]:
        """Stride into every encoder stage, the first one included."""
        return [tuple(stride) for stride in self.unet.encoder.strides]

    @property
    def kernel_sizes(self) -> list[tuple[int, ...]]:
        """Kernel of every encoder stage."""
        return [tuple(kernel) for kernel in self.unet.encoder.kernel_sizes]

    def forward(self, image: Tensor) -> Condition:
        """(B, C, *spatial), normalised by nnU-Net, to logits and features of every decoder stage."""
        skips = self.unet.encoder(image)
        decoder = self.unet.decoder
        features, logits, pyramid = skips[-1], [], [skips[-1]]
        finest = len(decoder.stages) - 1
        for s, (upsample, stage) in enumerate(zip(decoder.transpconvs, decoder.stages)):
            features = stage(torch.cat((upsample(features), skips[-(s + 2)]), 1))
            if self.training or s == finest:
                logits.append(decoder.seg_layers[s](features))
            if s <= finest - self.first_stage:
                pyramid.append(features)
        return Condition(logits[::-1], pyramid[::-1])
