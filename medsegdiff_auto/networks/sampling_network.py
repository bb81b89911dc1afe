"""What the networks of all presets share: nnU-Net's contract, the noising of a training step, sampling, fusion."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import Callable, NamedTuple

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.guidance import StateGuidance
from medsegdiff_auto.diffusion.process import q_sample, x_start_from_output
from medsegdiff_auto.diffusion.solvers import sample, trailing_times
from medsegdiff_auto.diffusion.schedules import Schedule
from medsegdiff_auto.diffusion.state import (logits_from_probabilities, probabilities_from_logits,
                                             probabilities_from_state, state_from_probabilities)
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.denoiser import ImageTerms

SELF_CONDITIONED_SHARE = 0.5
Observe = Callable[[Tensor, Tensor, Tensor], None]
Adjust = Callable[[Tensor], Tensor]


def state_dtype(device: torch.device) -> torch.dtype:
    """float64, or float32 on devices that have none (Apple's mps)."""
    return torch.float32 if device.type == "mps" else torch.float64


def content_seed(values: Tensor) -> int:
    """A seed that follows from the values of a tensor, whatever its device."""
    return zlib.crc32(values.detach().float().cpu().contiguous().numpy().tobytes())


def content_noise(tile: Tensor, shape: torch.Size) -> Tensor:
    """Standard normal noise of this shape, seeded by the tile's values; on the CPU, float64."""
    generator = torch.Generator().manual_seed(content_seed(tile))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


class TrainingOutput(NamedTuple):
    """What one training step compares with the references.

    Attributes:
        logits: of the conditioner, deep supervised, each (B, K, *spatial); None where there is no conditioner.
        output: of the denoiser, (B, K, *spatial): logits of x_0, noise or v.
        x_t: the state that the denoiser saw, as ``output``.
        log_snr: of x_t, (B,) float64.
    """

    logits: list[Tensor] | None
    output: Tensor
    x_t: Tensor
    log_snr: Tensor


class SamplingNetwork(nn.Module, ABC):
    """A network that draws masks given an image, with nnU-Net's contract; ``denoiser`` is set by the subclass.

    ``forward(image)`` returns :meth:`deep_supervised_logits` while ``deep_supervision`` is on (nnU-Net's validation loss
    during training), and otherwise the log-probabilities of one sample fused with the plain network's, which is what
    nnU-Net's own prediction expects of a network.
    """

    def __init__(self, configuration: DiffusionConfiguration, deep_supervision: bool):
        super().__init__()
        self.configuration = configuration
        self.deep_supervision = deep_supervision
        self.schedule = Schedule(configuration.schedule, configuration.log_snr_shift, configuration.num_train_steps,
                                 configuration.zero_terminal_snr)
        self.denoiser: nn.Module

    has_conditioner = False

    @abstractmethod
    def condition(self, image: Tensor) -> Condition:
        """All that sampling needs of images (B, C, *spatial): computed once, used at every step of every sample."""

    @abstractmethod
    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """Logits (B, K, *spatial), full resolution first, for nnU-Net's validation loss."""

    def forward(self, image: Tensor, x_start: Tensor | None = None, t: Tensor | None = None,
                noise: Tensor | None = None, recycled: Tensor | None = None):
        """With ``x_start``: one training step; see :meth:`training_forward`."""
        if x_start is not None:
            return self.training_forward(image, x_start, t, noise, recycled)
        if self.deep_supervision:
            return self.deep_supervised_logits(image)
        return self.fused_logits(image)

    def discrete_time(self, t: Tensor) -> Tensor:
        """The nearest of 1/T, 2/T, ..., 1 for the linear schedule, which is defined there only; else t itself."""
        if self.schedule.name != "linear":
            return t
        num_train_steps = self.schedule.num_train_steps
        return (t * num_train_steps).round().clamp(min=1) / num_train_steps

    def image_terms(self, condition: Condition) -> Condition | ImageTerms:
        """What :meth:`denoise` needs of the images, once for all steps and samples."""
        return condition

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms, previous: Tensor | None = None) -> Tensor:
        """The denoiser's output, (B, K, *spatial); t is (B,), ``previous`` the last prediction of x_0 or None."""
        if not self.configuration.sees_state:
            x_t, t, previous = torch.zeros_like(x_t), torch.ones_like(t), None
        return self.denoiser(x_t, self.discrete_time(t), condition, previous)

    def predict_x_start(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms,
                        previous: Tensor | None = None) -> Tensor:
        """The predicted x_0, clipped to [-1, 1], (B, K, *spatial); t is (B,)."""
        return self.x_start_of(self.denoise(x_t, t, condition, previous), x_t, t)

    def x_start_of(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x_0 of the denoiser's output at x_t and t, clipped to [-1, 1]."""
        c = self.configuration
        if c.parameterisation == "x_start":
            return state_from_probabilities(probabilities_from_logits(output, c.target))
        alpha, sigma = self.schedule.alpha_sigma(self.discrete_time(t))
        return x_start_from_output(output.to(x_t), x_t, alpha, sigma, c.parameterisation).clamp(-1, 1)

    def training_forward(self, image: Tensor, x_start: Tensor, t: Tensor, noise: Tensor,
                         recycled: Tensor | None) -> TrainingOutput:
        """Conditioner and denoiser on the noised reference.

        Args:
            image: (B, C, *spatial).
            x_start: reference state, (B, K, *spatial) in [-1, 1].
            t: (B,) in (0, 1].
            noise: standard normal, as x_start.
            recycled: (B,) bool or None; for these the noised state is the network's own prediction from pure noise.
        """
        c, t = self.configuration, self.discrete_time(t)
        with torch.set_grad_enabled(not c.frozen_conditioner):
            condition = self.condition(image)
        seen = self.image_terms(condition if c.gradient_into_conditioner else condition.detached())
        x_t = self.noised_state(x_start, t, noise, recycled, seen)
        output = self.denoise(x_t, t, seen, self.previous_prediction(x_t, t, seen))
        return TrainingOutput(condition.logits if self.has_conditioner else None, output, x_t, self.schedule.log_snr(t))

    def previous_prediction(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms) -> Tensor | None:
        """With self-conditioning: the own prediction for every second sample by chance, 0 for the others; else None."""
        if not self.configuration.self_conditioning:
            return None
        with torch.no_grad():
            own = self.predict_x_start(x_t, t, condition)
        keep = torch.rand(len(x_t), device=x_t.device) < SELF_CONDITIONED_SHARE
        return own * keep.reshape(-1, *[1] * (x_t.ndim - 1))

    def noised_state(self, x_start: Tensor, t: Tensor, noise: Tensor, recycled: Tensor | None,
                     condition: Condition | ImageTerms) -> Tensor:
        """x_t of the reference, or of the network's own prediction from pure noise where ``recycled`` (Fu et al.)."""
        if recycled is not None and recycled.any():
            with torch.no_grad():
                own = self.predict_x_start(torch.randn_like(noise[recycled]), torch.ones_like(t[recycled]),
                                           condition.of(recycled))
            x_start = x_start.masked_scatter(recycled.reshape(-1, *[1] * (x_start.ndim - 1)), own.to(x_start))
        return q_sample(x_start, noise, *self.schedule.alpha_sigma(t))

    def conditioner_probabilities(self, condition: Condition) -> Tensor:
        """The plain network's probabilities, (B, K, *spatial)."""
        return probabilities_from_logits(condition.logits[0], self.configuration.target)

    def predict_step(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms, previous: Tensor | None,
                     seen: Tensor | None = None) -> Tensor:
        """x_0 at one step of a sampler, t a scalar; ``seen`` is the state that the denoiser is shown in the place of x_t."""
        t = t.to(x_t.device).expand(len(x_t))
        shown = x_t if seen is None else seen
        return self.x_start_of(self.denoise(shown, t.float(), condition, previous), x_t, t)

    def sample_probabilities(self, condition: Condition, noise: Tensor, num_steps: int | None = None,
                             solver: str | None = None, observe: Observe | None = None,
                             adjust: Adjust | None = None, shown_first: Tensor | None = None) -> Tensor:
        """One mask per noise as probabilities, (B, K, *spatial) float32, each image a whole volume.

        Args:
            condition: of the B images.
            noise: standard normal, (B, K, *spatial); the same noise gives the same mask in any batch, the noise of
                stochastic steps included.
            observe: called with t, x_t and the predicted x_0 of every step.
            adjust: what becomes of every predicted x_0, (B, K, *spatial), before the step; the fitted field, for instance.
            shown_first: what the denoiser is shown at the first step in the place of the state, as ``noise``.
        """
        c = self.configuration
        noise = noise.to(condition.logits[0].device, state_dtype(condition.logits[0].device))
        times = trailing_times(num_steps or c.num_steps, c.start_time)
        x_t = noise
        if c.start_time < 1:
            prior = state_from_probabilities(self.conditioner_probabilities(condition)).to(noise)
            x_t = q_sample(prior, noise, *self.schedule.alpha_sigma(times[:1].expand(len(noise))))
        generators = [torch.Generator().manual_seed(content_seed(own)) for own in noise]
        terms, guided, shape = self.image_terms(condition), StateGuidance(c.state_guidance, c.target), noise.shape[1:]
        previous = None

        def predict(x_t: Tensor, t: Tensor) -> Tensor:
            nonlocal previous
            seen = None if shown_first is None or t != times[0] else shown_first.to(x_t)
            previous = guided(self.predict_step(x_t, t, terms, previous, seen))
            previous = previous if adjust is None else adjust(previous)
            if observe is not None:
                observe(t, x_t, previous)
            return previous

        def draw_noise() -> Tensor:
            return torch.stack([torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]).to(noise)

        x_start = sample(predict, x_t, times, self.schedule, solver or c.solver, draw_noise)
        return probabilities_from_state(x_start, c.target).float()

    def fused_logits(self, image: Tensor, num_steps: int | None = None) -> Tensor:
        """Logits of the fused probabilities for nnU-Net's own inference, which mirrors, tiles and averages itself.

        The noise is seeded by the content of each image, so that a tile always gives the same answer.
        """
        condition = self.condition(image)
        plain = self.conditioner_probabilities(condition)
        noise = torch.stack([content_noise(tile, plain.shape[1:]) for tile in image])
        drawn = self.sample_probabilities(condition, noise, num_steps)
        weight = self.configuration.conditioner_weight
        return logits_from_probabilities(weight * plain.float() + (1 - weight) * drawn, self.configuration.target)
