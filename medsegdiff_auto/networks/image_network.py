"""Networks without a conditioner: every step of every sample sees the image itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.denoiser import Denoiser
from medsegdiff_auto.networks.paper import PaperDenoiser
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

MONITORING_STEPS = 2


class ImageNetwork(SamplingNetwork):
    """A denoiser and the image.

    While ``deep_supervision`` is on, ``forward(image)`` returns one entry: the logits of a sample of two steps, cheap
    enough for nnU-Net's validation loss during training.

    Args:
        denoiser: called with the state, the time, and a condition whose pyramid is the image.
        num_outputs: K, classes or regions.
    """

    def __init__(self, denoiser: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                 deep_supervision: bool):
        super().__init__(configuration, deep_supervision)
        self.num_outputs, self.denoiser = num_outputs, denoiser

    def condition(self, image: Tensor) -> Condition:
        """Logits of 0 (every class as likely) and the image itself: nothing of it can be computed once."""
        return Condition([image.new_zeros(len(image), self.num_outputs, *image.shape[2:])], [image])

    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """Logits of a sample of two steps, (B, K, *spatial)."""
        return [self.fused_logits(image, MONITORING_STEPS)]


def two_encoder_network(num_inputs: int, num_outputs: int, strides: Sequence[Sequence[int]],
                        kernel_sizes: Sequence[Sequence[int]], configuration: DiffusionConfiguration,
                        deep_supervision: bool) -> ImageNetwork:
    """MedSegDiff as published (preset ``paper``)."""
    denoiser = PaperDenoiser(num_inputs, num_outputs, strides, kernel_sizes, configuration)
    return ImageNetwork(denoiser, num_outputs, configuration, deep_supervision)


def concatenated_network(num_inputs: int, num_outputs: int, strides: Sequence[Sequence[int]],
                         kernel_sizes: Sequence[Sequence[int]], configuration: DiffusionConfiguration,
                         deep_supervision: bool) -> ImageNetwork:
    """A U-Net or U-ViT over state and image side by side (preset ``simple_diffusion``)."""
    denoiser = Denoiser(num_outputs, strides, kernel_sizes, configuration, num_image_channels=num_inputs)
    return ImageNetwork(denoiser, num_outputs, configuration, deep_supervision)
