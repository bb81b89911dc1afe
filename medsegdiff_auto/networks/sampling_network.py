"""What the networks of all presets share: nnU-Net's contract, the noising of a training step, sampling, fusion."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from functools import partial
from typing import Any, NamedTuple
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.latent_noise import LatentNoise
from medsegdiff_auto.diffusion.precision import at_least_float32, wide_range, widened, without_autocast
from medsegdiff_auto.diffusion.process import q_sample, x_start_from_output
from medsegdiff_auto.diffusion.sampling import WHOLE, OneBlock, sample
from medsegdiff_auto.diffusion.state import (logits_from_probabilities, probabilities_from_logits,
                                             probabilities_from_state, state_from_probabilities)
from medsegdiff_auto.diffusion.transfer import entries, on_device
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.denoiser import Denoiser, ImageTerms
from medsegdiff_auto.tables import SOLVERS

LATENT_SEEDS_APART = 1000  # from one step to the next
Observe = Callable[[Tensor, Tensor, Tensor], None]
LatentOfStep = Callable[[int], Tensor]


def state_dtype(device: torch.device) -> torch.dtype:
    """float64 on the CPU; float32 on other devices, which have none (Apple's mps) or are slow with it."""
    return torch.float64 if device.type == "cpu" else torch.float32


def where_finite(values: Tensor, output: Tensor) -> Tensor:
    """The values made of a network's output, NaN where it is not finite: to sigmoid and clipping, infinity is sure."""
    return values.masked_fill(~output.isfinite(), torch.nan)


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
        output: of the denoiser, (B, K, *spatial): logits of x_0, noise or v; of m draws (m B, K, *spatial).
        x_t: the state that the denoiser saw, as ``output``.
        log_snr: of x_t, (B,) float64 on the CPU.
    """

    logits: list[Tensor] | None
    output: Tensor
    x_t: Tensor
    log_snr: Tensor


class SamplingNetwork(nn.Module, ABC):
    """A network that draws masks given an image, with nnU-Net's contract; ``denoiser`` is set by the subclass.

    ``forward(image)`` returns :meth:`deep_supervised_logits` while ``deep_supervision`` is on (nnU-Net's validation
    loss during training), and otherwise the log-probabilities of one sample fused with the plain network's, which is
    what nnU-Net's own prediction expects of a network.
    """

    def __init__(self, configuration: DiffusionConfiguration, deep_supervision: bool):
        super().__init__()
        self.configuration = configuration
        self.deep_supervision = deep_supervision
        self.schedule = configuration.noise.law
        self.denoiser: nn.Module

    has_conditioner = False
    _taken: Mapping[str, Tensor] | None = None

    def take_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Loads a state dictionary, unless it is the one that was loaded last: a case of a small image takes as long.
        """
        if self._taken is not weights:
            self.load_state_dict(weights)
            self._taken = weights

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """torch's; what was taken before is forgotten."""
        self._taken = None
        return super().load_state_dict(state_dict, strict, assign)

    @abstractmethod
    def condition(self, image: Tensor) -> Condition:
        """All that sampling needs of images (B, C, *spatial): computed once, used at every step of every sample."""

    @abstractmethod
    def deep_supervised_logits(self, image: Tensor) -> list[Tensor]:
        """Logits (B, K, *spatial), full resolution first, for nnU-Net's validation loss."""

    def forward(self, image: Tensor, x_start: Tensor | None = None, t: Sequence[float] = (),
                noise: Tensor | None = None, recycled: Sequence[int] = ()):
        """With ``x_start``: one training step; see :meth:`training_forward`."""
        if x_start is not None and noise is not None:
            return self.training_forward(image, x_start, t, noise, recycled)
        if self.deep_supervision:
            return self.deep_supervised_logits(image)
        return self.fused_logits(image)

    def image_terms(self, condition: Condition) -> Condition | ImageTerms:
        """What :meth:`denoise` needs of the images, once for all steps and samples."""
        return condition

    @property
    def has_latent_noise(self) -> bool:
        """Whether the denoiser sees latent noise beside the state."""
        return bool(self.configuration.network.latent_scales)

    @property
    def has_expected_mask(self) -> bool:
        """Whether the mean of all samples is known without drawing any: :meth:`expected_probabilities`."""
        return self.configuration.has_expected_mask

    def expected_probabilities(self, terms: Condition | ImageTerms) -> Tensor:
        """The mean of all samples of the images, (B, K, *spatial) float32; NaN where it is not finite."""
        assert isinstance(self.denoiser, Denoiser) and isinstance(terms, ImageTerms), type(self.denoiser)
        with without_autocast(terms.logits.device):
            return self.denoiser.expected_probabilities(terms, self.configuration.sampling.dispersion)

    def latent_response(self, terms: Condition | ImageTerms) -> tuple[Tensor, Tensor]:
        """Logits without latent noise (B, K, *spatial), and what each of its fields adds to them per unit
        (B, fields, K, *spatial), float32 at least, of a denoiser that sees no state.
        """
        assert isinstance(self.denoiser, Denoiser) and isinstance(terms, ImageTerms), type(self.denoiser)
        with without_autocast(terms.logits.device):
            logits, gains = self.denoiser.latent_response(terms)
        return at_least_float32(logits), at_least_float32(gains)

    @property
    def cell(self) -> tuple[int, ...]:
        """Voxels per axis that make up one position of the denoiser's finest stage, where latent noise lies."""
        assert isinstance(self.denoiser, Denoiser), type(self.denoiser)
        return self.denoiser.cell

    def latents(self, seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> Tensor | None:
        """The latent noise of a patch (*spatial) for every seed, (B, fields, *cells); None for a network without."""
        if not self.has_latent_noise:
            return None
        drawn = [LatentNoise(shape, self.configuration, self.cell, seed).everywhere() for seed in seeds]
        return on_device(torch.cat(drawn), device)

    def drawn_latents(self, count: int, shape: Sequence[int], device: torch.device) -> Tensor | None:
        """Latent noise of a patch for so many entries, of a seed that torch's generator draws, for training."""
        if not self.has_latent_noise or device.type == "meta":
            return self.empty_latents(count, shape)
        seed = int(torch.randint(2**62, (), device="cpu"))
        return on_device(LatentNoise(shape, self.configuration, self.cell, seed, count).everywhere(), device)

    def empty_latents(self, count: int, shape: Sequence[int]) -> Tensor | None:
        """The shape that latent noise has, on torch's default device, to count what it costs."""
        if not self.has_latent_noise:
            return None
        return self.silent_latents(count, shape, torch.get_default_device())

    def silent_latents(self, count: int, shape: Sequence[int], device: torch.device) -> Tensor:
        """Latent noise of a patch that is 0 everywhere, (count, fields, *cells), of no fields for a network without."""
        network = self.configuration.network
        cells = [n // size for n, size in zip(shape, self.cell)]
        return torch.zeros(count, len(network.latent_scales) * network.latent_channels, *cells, device=device)

    def denoise(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms,
                latent: Tensor | None = None) -> Tensor:
        """The denoiser's output, (B, K, *spatial); t is (B,), on the CPU."""
        if not self.configuration.network.sees_state:
            x_t, t = torch.zeros_like(x_t), torch.ones_like(t)
        t = on_device(self.schedule.discrete(t).float(), x_t.device)
        condition = widened(condition)
        with wide_range(x_t.device):
            return self.denoiser(x_t, t, condition) if latent is None else self.denoiser(x_t, t, condition, latent)

    def predict_x_start(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms,
                        shown: Tensor | None = None, latent: Tensor | None = None) -> Tensor:
        """The predicted x_0 in [-1, 1], (B, K, *spatial), float32 at least.

        Args:
            t: (B,) or a scalar, float64 on the CPU.
            shown: what the denoiser is shown in the place of x_t, as x_t.
            latent: of :meth:`latents`.
        """
        t = t.expand(len(x_t))
        return self.x_start_of(self.denoise(x_t if shown is None else shown, t, condition, latent), x_t, t)

    def predict_draws(self, latent: Tensor, terms: Condition | ImageTerms) -> Tensor:
        """x_0 in [-1, 1] of draws of one image by a denoiser that sees no state, (S, K, *spatial) float32; NaN where an
        output is not finite.

        Args:
            latent: (S, fields, *cells).
        """
        assert isinstance(self.denoiser, Denoiser) and isinstance(terms, ImageTerms), type(self.denoiser)
        target, shape = self.configuration.target, terms.logits.shape[1:]
        states = torch.full((len(latent), *shape), -1.0, device=latent.device)
        with without_autocast(latent.device):
            for place, output in self.denoiser.draw_by_rows(terms, latent):
                output = at_least_float32(output)
                drawn = state_from_probabilities(probabilities_from_logits(output, target))
                states[place] = where_finite(drawn, output)
        return states

    def x_start_of(self, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """x_0 of the denoiser's output at x_t and t, clipped to [-1, 1], NaN where the output is not finite; half
        precision ends here.
        """
        c, output = self.configuration, at_least_float32(output)
        if c.network.parameterisation == "x_start":
            return where_finite(state_from_probabilities(probabilities_from_logits(output, c.target)), output)
        alpha, sigma = self.schedule.alpha_sigma(self.schedule.discrete(t))
        x_start = x_start_from_output(output.to(x_t), x_t, alpha, sigma, c.network.parameterisation)
        return where_finite(x_start.clamp(-1, 1), output)

    def training_forward(self, image: Tensor, x_start: Tensor, t: Sequence[float], noise: Tensor,
                         recycled: Sequence[int]) -> TrainingOutput:
        """Conditioner and denoiser on the noised reference.

        Times and rows are plain numbers, which stay on the CPU where several processes share the batch.

        Args:
            image: (B, C, *spatial).
            x_start: reference state, (B, K, *spatial) in [-1, 1].
            t: B times in (0, 1].
            noise: standard normal, as x_start.
            recycled: entries of the batch whose noised state is the network's own prediction from pure noise.
        """
        c = self.configuration.network
        times = self.schedule.discrete(torch.tensor(t, dtype=torch.float64, device="cpu"))
        with torch.set_grad_enabled(not c.frozen_conditioner):
            condition = self.condition(image)
        seen = condition if c.gradient_into_conditioner else condition.detached()
        # without a state all of the denoiser is in these terms: left to its forward, which may be compiled
        terms = self.image_terms(seen) if c.sees_state else seen
        x_t = self.noised_state(x_start, times, noise, recycled, terms)
        output = self.drawn_outputs(x_t, times, terms)
        return TrainingOutput(condition.logits if self.has_conditioner else None, output, x_t,
                              self.schedule.log_snr(times))

    def drawn_outputs(self, x_t: Tensor, t: Tensor, condition: Condition | ImageTerms) -> Tensor:
        """The denoiser's output for the state and as many draws of the latent noise as the loss compares, (m B, K,
        *spatial), draw by draw; they share nothing but image and state.
        """
        rows = list(range(len(x_t))) * self.configuration.loss.num_training_draws
        latent = self.drawn_latents(len(rows), x_t.shape[2:], x_t.device)
        if len(rows) == len(x_t) or not self.configuration.network.sees_state:
            return self.denoise(x_t, t, condition, latent)
        return self.denoise(entries(x_t, rows), t[rows], condition.of(rows), latent)

    def noised_state(self, x_start: Tensor, t: Tensor, noise: Tensor, recycled: Sequence[int],
                     condition: Condition | ImageTerms) -> Tensor:
        """x_t of the reference, or of the network's own prediction from pure noise for ``recycled`` entries (Fu et
        al.).
        """
        if recycled:
            with torch.no_grad():
                pure_noise = torch.randn_like(entries(noise, recycled))
                latent = self.drawn_latents(len(recycled), x_start.shape[2:], x_start.device)
                own = self.predict_x_start(pure_noise, torch.ones_like(t[recycled]), condition.of(recycled),
                                           latent=latent)
            rows = on_device(torch.tensor(recycled, device="cpu"), x_start.device)
            x_start = x_start.index_copy(0, rows, own.to(x_start))
        return q_sample(x_start, noise, *self.schedule.alpha_sigma(t))

    def conditioner_probabilities(self, condition: Condition) -> Tensor:
        """The plain network's probabilities, (B, K, *spatial), float32 at least; NaN where its logits are not finite.
        """
        logits = at_least_float32(condition.logits[0])
        return where_finite(probabilities_from_logits(logits, self.configuration.target), logits)

    def sample_probabilities(self, condition: Condition, noise: Tensor, num_steps: int | None = None,
                             solver: str | None = None, observe: Observe | None = None,
                             shown_first: Tensor | None = None, latent_of: LatentOfStep | None = None) -> Tensor:
        """One mask per noise as probabilities, (B, K, *spatial) float32, each image a whole volume.

        Args:
            condition: of the B images.
            noise: standard normal, (B, K, *spatial); the same noise gives the same mask in any batch, the noise of
                stochastic steps included.
            observe: called with t, x_t and the predicted x_0 of every step.
            shown_first: what the denoiser is shown at the first step in the place of the state, as ``noise``.
            latent_of: latent noise of every step, as :meth:`latents`; None for one that follows from ``noise``.
        """
        c, row = self.configuration, SOLVERS.row(solver or self.configuration.sampling.solver)
        device = condition.logits[0].device
        drawn_from = [torch.Generator().manual_seed(content_seed(own)) for own in noise] if row.takes_noise else []
        shape, terms = noise.shape[1:], self.image_terms(condition)
        seeds = [content_seed(own) for own in noise] if self.has_latent_noise else []
        noise = on_device(noise.to(state_dtype(device)), device)
        states = OneBlock(noise)

        def predict(step: int, t: Tensor) -> Iterator[tuple[slice, Tensor]]:
            x_t = states.read()
            shown = shown_first.to(x_t) if shown_first is not None and step == 0 else None
            if latent_of is not None:
                latent: Tensor | None = on_device(latent_of(step), device)
            else:
                latent = self.latents([seed + LATENT_SEEDS_APART * step for seed in seeds], shape[1:], device)
            x_start = self.predict_x_start(x_t, t, terms, shown, latent)
            if observe is not None:
                observe(t, x_t, x_start)
            yield WHOLE, x_start

        def draw_noise(_step: int, _block: slice) -> Tensor:
            drawn = torch.stack([torch.randn(shape, generator=one, dtype=torch.float64) for one in drawn_from])
            return on_device(drawn.to(noise.dtype), device)

        sample(states, predict, num_steps or c.sampling.num_steps, row, self.schedule, draw_noise,
               partial(probabilities_from_state, target=c.target), OneBlock)
        return states.read().float()

    def fused_logits(self, image: Tensor, num_steps: int | None = None) -> Tensor:
        """Logits of the fused probabilities for nnU-Net's own inference, which mirrors, tiles and averages itself.

        The mean of all samples where it is known, else one sample, whose noise is seeded by the content of each image,
        so that a tile always gives the same answer.
        """
        condition = self.condition(image)
        plain, terms = self.conditioner_probabilities(condition), self.image_terms(condition)
        if self.has_expected_mask:
            drawn = self.expected_probabilities(terms)
        else:
            noise = torch.stack([content_noise(tile, plain.shape[1:]) for tile in image])
            drawn = self.sample_probabilities(condition, noise, num_steps)
        weight = self.configuration.sampling.conditioner_weight
        return logits_from_probabilities(weight * plain.float() + (1 - weight) * drawn, self.configuration.target)
