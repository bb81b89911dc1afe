"""Preset ``auto``: nnU-Net's network as conditioner and a light denoiser of the mask behind it."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.process import q_sample
from medsegdiff_auto.diffusion.samplers import sample, trailing_times
from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.diffusion.state import (logits_from_probabilities, probabilities_from_logits,
                                             probabilities_from_state, state_from_probabilities)
from medsegdiff_auto.networks.conditioner import Condition, Conditioner
from medsegdiff_auto.networks.denoiser import Denoiser

SAMPLES_PER_FORWARD = 1


def state_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have none (Apple's mps)."""
    return torch.float32 if device.type == "mps" else torch.float64


class MedSegDiff(nn.Module):
    """Conditioner and denoiser as one network with nnU-Net's contract.

    ``forward(image)`` returns the conditioner's deep-supervised logits while ``deep_supervision`` is on (training and
    nnU-Net's validation loss), and otherwise the log-probabilities of conditioner and one sample fused, which is what
    nnU-Net's own prediction expects of a network.
    """

    def __init__(self, unet: nn.Module, num_outputs: int, configuration: DiffusionConfiguration,
                 deep_supervision: bool):
        super().__init__()
        self.configuration = configuration
        self.deep_supervision = deep_supervision
        self.schedule = Schedule(configuration.schedule, configuration.log_snr_shift, configuration.num_train_steps)
        self.conditioner = Conditioner(unet)
        self.denoiser = Denoiser(num_outputs, configuration.target, configuration.features_per_stage,
                                 self.conditioner.pyramid_channels, self.conditioner.strides[1:],
                                 self.conditioner.kernel_sizes[1:], configuration.bottleneck_attention_heads,
                                 configuration.filter_grid_size, configuration.dropout)

    def forward(self, image: Tensor, x_start: Tensor | None = None, t: Tensor | None = None,
                noise: Tensor | None = None, recycled: Tensor | None = None):
        """With ``x_start``: (conditioner logits, denoiser logits) of one training step; see :meth:`training_forward`."""
        if x_start is not None:
            return self.training_forward(image, x_start, t, noise, recycled)
        if self.deep_supervision:
            return self.deep_supervised_logits(image)
        return self.fused_logits(image)

    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """nnU-Net's output of its own network, full resolution first, in training and in evaluation mode."""
        decoder = self.conditioner.unet.decoder
        before, decoder.deep_supervision = decoder.deep_supervision, True
        logits = self.conditioner.unet(image)
        decoder.deep_supervision = before
        return logits

    def training_forward(self, image: Tensor, x_start: Tensor, t: Tensor, noise: Tensor,
                         recycled: Tensor) -> tuple[list[Tensor], Tensor]:
        """Logits of conditioner (deep supervised) and denoiser on the noised reference.

        No gradient flows from the denoiser into the conditioner: the conditioner is trained as nnU-Net trains it.

        Args:
            image: (B, C, *spatial).
            x_start: reference state, (B, K, *spatial) in [-1, 1].
            t: (B,) in (0, 1].
            noise: standard normal, as x_start.
            recycled: (B,) bool; for these the noised state is the network's own prediction from pure noise (Fu et al.).
        """
        condition = self.conditioner(image)
        seen = condition.detached()
        if recycled.any():
            with torch.no_grad():
                own = self.predict_x_start(torch.randn_like(noise), torch.ones_like(t), seen)
            x_start = torch.where(recycled.reshape(-1, *[1] * (x_start.ndim - 1)), own.to(x_start), x_start)
        x_t = q_sample(x_start, noise, *self.schedule.alpha_sigma(t))
        return condition.logits, self.denoiser(x_t, t, seen)

    def predict_x_start(self, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The predicted x_0 in [-1, 1], (B, K, *spatial); t is (B,)."""
        logits = self.denoiser(x_t, t, condition)
        return state_from_probabilities(probabilities_from_logits(logits, self.configuration.target))

    def conditioner_probabilities(self, condition: Condition) -> Tensor:
        """The plain network's probabilities, (B, K, *spatial)."""
        return probabilities_from_logits(condition.logits[0], self.configuration.target)

    def sample_probabilities(self, condition: Condition, noise: Tensor, num_steps: int | None = None,
                             solver: str | None = None) -> Tensor:
        """One mask per noise as probabilities, (B, K, *spatial) float32.

        Args:
            condition: of the B images.
            noise: standard normal, (B, K, *spatial); the same noise gives the same mask.
        """
        c = self.configuration
        noise = noise.to(condition.logits[0].device, state_dtype(condition.logits[0].device))
        times = trailing_times(num_steps or c.num_steps, c.start_time)
        x_t = noise
        if c.start_time < 1:
            prior = state_from_probabilities(self.conditioner_probabilities(condition)).to(noise)
            x_t = q_sample(prior, noise, *self.schedule.alpha_sigma(times[:1].expand(len(noise))))
        generator = torch.Generator().manual_seed(zlib.crc32(noise[0].float().cpu().numpy().tobytes()))

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            return self.predict_x_start(x_t, t.float().to(x_t.device).expand(len(x_t)), condition)

        def draw_noise() -> Tensor:
            return torch.randn(x_t.shape, generator=generator, dtype=torch.float64).to(x_t)

        x_start = sample(predict, x_t, times, self.schedule, solver or c.solver, draw_noise)
        return probabilities_from_state(x_start, c.target).float()

    def fused_logits(self, image: Tensor) -> Tensor:
        """Logits of the fused probabilities for nnU-Net's own inference, which mirrors, tiles and averages itself.

        The noise is seeded by the content of each image, so that a tile always gives the same answer.
        """
        condition = self.conditioner(image)
        plain = self.conditioner_probabilities(condition)
        noise = torch.stack([content_noise(tile, plain.shape[1:]) for tile in image])
        drawn = self.sample_probabilities(condition, noise)
        weight = self.configuration.conditioner_weight
        return logits_from_probabilities(weight * plain.float() + (1 - weight) * drawn, self.configuration.target)


def content_noise(tile: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal noise of this shape, seeded by the tile's values; on the CPU, float64."""
    seed = zlib.crc32(tile.detach().float().cpu().contiguous().numpy().tobytes())
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
