"""The predictor: folds x mirrors x samples over the whole volume, the conditioner once per tile and mirror."""

from __future__ import annotations

from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Callable, Iterator

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

from medsegdiff_auto.inference.coherent import CoherentSampler
from medsegdiff_auto.inference.conditions import Conditions
from medsegdiff_auto.inference.memory import memory_plan
from medsegdiff_auto.inference.mirrors import from_the_end, mirror_views
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.seeds import field_seed, noise_volume
from medsegdiff_auto.inference.smooth_field import SmoothField, correlation_vox
from medsegdiff_auto.inference.tiling import Tiles
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.memory_format import channels_last
from medsegdiff_auto.networks.sampling_network import Adjust, Observe

SAMPLES_PER_CALL = {"cpu": 8, "cuda": 8, "mps": 8}  # in 3-D one by one takes three times as long on a CPU
PLAIN, SAMPLE = "plain", "sample"
FORWARD, EVALUATION, LEFT_OUT = "forward", "evaluation", "left out"
COUNTED_AS = {"condition": FORWARD, "predict_step": EVALUATION}  # functions of the network


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; None takes the plan's value.

    Attributes:
        num_samples: per fold.
        num_steps: network evaluations per sample.
        num_mirrors: mirrored views.
        solver: ``ddim``, ``ddpm`` or ``dpm_solver_pp_2m``.
        fusion: ``mean``, ``staple`` or ``dice``.
        seed: of the noise.
        samples_per_call: samples in one call of the network; None for what suits the device. The masks do not depend on it.
        max_memory_gb: that states and features may take; None for most of what is free.
        temperature: of the fused probabilities; the labels do not depend on it. None takes the fitted value.
    """

    num_samples: int | None = None
    num_steps: int | None = None
    num_mirrors: int | None = None
    solver: str | None = None
    fusion: str | None = None
    seed: int = 0
    samples_per_call: int | None = None
    max_memory_gb: float | None = None
    temperature: float | None = None


class FusedMean:
    """w plain + (1 - w) samples, of means that grow one volume at a time."""

    def __init__(self, conditioner_weight: float):
        self.weights = {PLAIN: conditioner_weight, SAMPLE: 1 - conditioner_weight}
        self.sums: dict[str, Tensor] = {}
        self.counts = {PLAIN: 0, SAMPLE: 0}

    def add(self, kind: str, probabilities: Tensor) -> None:
        """One more of :data:`PLAIN` or :data:`SAMPLE`, (K, *spatial); without weight it is not kept."""
        if self.weights[kind]:
            self.counts[kind] += 1
            self.sums[kind] = self.sums[kind].add_(probabilities) if kind in self.sums else probabilities.clone()

    @property
    def value(self) -> Tensor:
        """(K, *spatial) float32."""
        return sum(total.mul(self.weights[kind] / self.counts[kind]) for kind, total in self.sums.items())


@dataclass
class CaseDistribution:
    """What the folds say of one preprocessed case.

    Attributes:
        conditioner: the plain networks' mean probabilities, (K, *spatial) float32 in [0, 1].
        samples: one mask per entry as probabilities, (num_folds * num_samples, K, *spatial) float16.
        conditioner_weight: weight of the plain networks in :attr:`fused`.
    """

    conditioner: Tensor
    samples: Tensor
    conditioner_weight: float

    @property
    def fused(self) -> Tensor:
        """Mean probabilities of plain networks and samples, (K, *spatial) float32."""
        mean = torch.zeros_like(self.conditioner)
        for sample in self.samples:
            mean += sample.float() / len(self.samples)
        return self.conditioner_weight * self.conditioner + (1 - self.conditioner_weight) * mean


class MedSegDiffPredictor(nnUNetPredictor):
    """nnU-Net's predictor (tiles, window, preprocessing, export) with joint samples.

    Attributes:
        num_forwards, num_evaluations: of nnU-Net's network and of the denoiser, for the last case.
        temperature: the option's, or the fitted one.
        intervention: what the denoiser is shown in the place of the states, for the audit.
        on_call: told of every call that it was a :data:`FORWARD` or an :data:`EVALUATION` and of how many entries, and of
            evaluations that are :data:`LEFT_OUT` because their tiles have no foreground.

    Args:
        model: a trained model.
        options: how to sample.
        tile_step_size: of the sliding window, in patches.
    """

    def __init__(self, model: TrainedModel, options: SamplingOptions = SamplingOptions(),
                 device: torch.device = torch.device("cpu"), tile_step_size: float = 0.5):
        with redirect_stdout(StringIO()):  # nnU-Net says on every CPU that it is no GPU
            super().__init__(tile_step_size=tile_step_size, device=device, allow_tqdm=False,
                             perform_everything_on_device=device.type == "cuda")
        self.manual_initialization(model.network.to(device).eval(), model.plans_manager, model.configuration_manager,
                                   model.fold_weights, model.dataset_json, "", model.mirroring_axes)
        if device.type == "cpu":
            channels_last(self.network)
        self.options, self.diffusion = options, model.diffusion
        self.temperature = options.temperature or model.temperature
        self.views = mirror_views(model.mirroring_axes, options.num_mirrors or model.diffusion.num_mirrors)
        self.num_samples = options.num_samples or model.diffusion.num_samples
        self.num_forwards = self.num_evaluations = 0
        self.intervention: Callable[[Tensor], Tensor] | None = None
        self.on_call: Callable[[str, int], None] = lambda kind, count: None

    def sample_case(self, data: np.ndarray, case: str) -> CaseDistribution:
        """The distribution of one preprocessed case, (C, *spatial), over all folds, held in memory."""
        plain, samples = [], []
        for kind, probabilities in self.draw_case(data, case):
            (plain if kind == PLAIN else samples).append(probabilities.half() if kind == SAMPLE else probabilities)
        return CaseDistribution(sum(plain) / len(plain), torch.stack(samples), self.diffusion.conditioner_weight)

    @torch.inference_mode()
    def draw_case(self, data: np.ndarray, case: str) -> Iterator[tuple[str, Tensor]]:
        """For every fold :data:`PLAIN` and the plain network's probabilities, then :data:`SAMPLE` and those of each sample.

        Probabilities are (K, *spatial) float32 on the CPU. As many samples are drawn together as there is memory for.
        """
        image, revert_padding = pad_nd_image(torch.from_numpy(np.asarray(data)).float(),
                                             self.configuration_manager.patch_size, "constant", {"value": 0}, True, None)
        crop = (slice(None), *revert_padding[1:])
        tiles = Tiles(image.shape[1:], self.configuration_manager.patch_size,
                      self._internal_get_sliding_window_slicers(image.shape[1:]))
        num_outputs = self.label_manager.num_segmentation_heads
        memory = memory_plan(num_outputs, image.shape, tiles, self.num_samples, self.diffusion, self.solver, self.device,
                             self.options.max_memory_gb)
        views = from_the_end(self.views, len(self.configuration_manager.patch_size))
        self.num_forwards = self.num_evaluations = 0

        def noise_of(sample: int, step: int) -> Tensor:
            return noise_volume((num_outputs, *image.shape[1:]), self.options.seed, case, sample, step)

        distance_vox = correlation_vox(self.diffusion.structure_diameter_vox, image.ndim - 1)

        def field_of(sample: int) -> SmoothField:
            return SmoothField((num_outputs, *image.shape[1:]), distance_vox, field_seed(self.options.seed, case, sample))

        for fold, weights in enumerate(self.list_of_parameters):
            self.network.load_state_dict(weights)
            conditions = Conditions(self.network, image, tiles, views, self.device, self.evaluate, num_outputs,
                                    memory.terms_bytes)
            self.on_call(LEFT_OUT, (len(tiles) - sum(conditions.is_active)) * self.num_samples * self.num_steps)
            yield PLAIN, conditions.plain[crop]
            sampler = CoherentSampler(conditions, self.options.num_steps or self.diffusion.num_steps, self.solver,
                                      self.options.samples_per_call or SAMPLES_PER_CALL[self.device.type],
                                      memory.state_device, self.intervention)
            for first in range(0, self.num_samples, memory.samples_together):
                together = range(first, min(first + memory.samples_together, self.num_samples))
                for probabilities in sampler.draw([fold * self.num_samples + k for k in together], noise_of, field_of):
                    yield SAMPLE, probabilities[crop].cpu()
            self.num_forwards += conditions.num_forwards
            self.num_evaluations += sampler.num_evaluations

    @property
    def num_steps(self) -> int:
        """The option's, or the plan's."""
        return self.options.num_steps or self.diffusion.num_steps

    @property
    def samples_per_call(self) -> int:
        """The option's, or what suits the device."""
        return self.options.samples_per_call or SAMPLES_PER_CALL[self.device.type]

    @property
    def solver(self) -> str:
        """The option's, or the plan's."""
        return self.options.solver or self.diffusion.solver

    @property
    def fusion(self) -> str:
        """The option's, or the plan's."""
        return self.options.fusion or self.diffusion.fusion

    def evaluate(self, function: Callable, *inputs):
        """A function of the network in mixed precision on CUDA, as nnU-Net predicts."""
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            outputs = function(*inputs)
        if function.__name__ in COUNTED_AS:
            self.on_call(COUNTED_AS[function.__name__], len(inputs[0]))
        return outputs

    def condition_on(self, tiles: Tensor) -> Condition:
        """Logits and features of tiles (B, C, *patch)."""
        return self.evaluate(self.network.condition, tiles.to(self.device))

    def draw(self, condition: Condition, noise: Tensor, observe: Observe | None = None, adjust: Adjust | None = None) -> Tensor:
        """One mask per noise of single tiles, (B, K, *patch) probabilities on the CPU."""
        return self.evaluate(self.network.sample_probabilities, condition, noise, self.options.num_steps, self.options.solver,
                             observe, adjust).cpu()
