"""Preset ``auto``: nnU-Net's network as conditioner and a light denoiser of the mask behind it."""

from __future__ import annotations

from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.state import probabilities_from_logits, state_from_probabilities
from medsegdiff_auto.networks.conditioner import Condition, Conditioner
from medsegdiff_auto.networks.denoiser import Denoiser
from medsegdiff_auto.networks.sampling_network import SamplingNetwork


class MedSegDiff(SamplingNetwork):
    """Conditioner and denoiser as one network.

    While ``deep_supervision`` is on, ``forward(image)`` returns the conditioner's deep-supervised logits.
    """

    def __init__(self, unet: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                 deep_supervision: bool):
        super().__init__(configuration, deep_supervision)
        self.conditioner = Conditioner(unet)
        self.denoiser = Denoiser(num_outputs, configuration.target, configuration.features_per_stage,
                                 self.conditioner.pyramid_channels, self.conditioner.strides[1:],
                                 self.conditioner.kernel_sizes[1:], configuration.bottleneck_attention_heads,
                                 configuration.filter_grid_size, configuration.dropout)

    def condition(self, image: Tensor) -> Condition:
        """The conditioner's logits and features, once for all steps and samples."""
        return self.conditioner(image)

    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """nnU-Net's output of its own network, full resolution first, in training and in evaluation mode."""
        decoder = self.conditioner.unet.decoder
        before, decoder.deep_supervision = decoder.deep_supervision, True
        logits = self.conditioner.unet(image)
        decoder.deep_supervision = before
        return logits

    def training_forward(self, image: Tensor, x_start: Tensor, t: Tensor, noise: Tensor,
                         recycled: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Logits of conditioner (deep supervised) and denoiser on the noised reference.

        No gradient flows from the denoiser into the conditioner: the conditioner is trained as nnU-Net trains it.

        Args:
            image: (B, C, *spatial).
            x_start: reference state, (B, K, *spatial) in [-1, 1].
            t: (B,) in (0, 1].
            noise: standard normal, as x_start.
            recycled: (B,) bool; for these the noised state is the network's own prediction from pure noise.
        """
        condition = self.condition(image)
        seen = condition.detached()
        x_t = self.noised_state(x_start, t, noise, recycled, seen)
        return condition.logits, self.denoiser(x_t, t, seen)

    def predict_x_start(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The predicted x_0 in [-1, 1], (B, K, *spatial); t is (B,)."""
        logits = self.denoiser(x_t, t, condition)
        return state_from_probabilities(probabilities_from_logits(logits, self.configuration.target))
