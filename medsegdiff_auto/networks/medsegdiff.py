"""nnU-Net's network as conditioner and a denoiser of the mask behind it (presets ``auto`` and ``paper_v2``)."""

from __future__ import annotations

from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.precision import wide_range, widened
from medsegdiff_auto.networks.conditioner import Condition, Conditioner
from medsegdiff_auto.networks.denoiser import Denoiser, ImageTerms
from medsegdiff_auto.networks.sampling_network import SamplingNetwork


class MedSegDiff(SamplingNetwork):
    """Conditioner and denoiser as one network.

    No gradient flows from the denoiser into the conditioner unless the plan says so: the conditioner is trained as
    nnU-Net trains it. While ``deep_supervision`` is on, ``forward(image)`` returns the conditioner's deep-supervised
    logits.
    """

    has_conditioner = True
    denoiser: Denoiser

    def __init__(self, unet: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                 deep_supervision: bool):
        super().__init__(configuration, deep_supervision)
        self.conditioner = Conditioner(
            unet, configuration.network.first_stage).requires_grad_(not configuration.network.frozen_conditioner)
        self.denoiser = Denoiser(num_outputs, self.conditioner.strides, self.conditioner.kernel_sizes, configuration,
                                 self.conditioner.pyramid_channels)
        # it compares the finest logits only: nothing trains the coarser heads
        if configuration.loss.anchor_loss_interval:
            self.conditioner.unet.decoder.seg_layers[:-1].requires_grad_(False)

    def condition(self, image: Tensor) -> Condition:
        """The conditioner's logits and features, once for all steps and samples."""
        return self.conditioner(image)

    def image_terms(self, condition: Condition) -> ImageTerms:
        """What the denoiser computes of the image alone, once for all steps and samples."""
        with wide_range(condition.logits[0].device):
            return self.denoiser.image_terms(widened(condition))

    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """nnU-Net's output of its own network, full resolution first, in training and in evaluation mode."""
        decoder = self.conditioner.unet.decoder
        before, decoder.deep_supervision = decoder.deep_supervision, True
        logits = self.conditioner.unet(image)
        decoder.deep_supervision = before
        return logits
