"""The predictor: folds x mirrors x samples over the whole volume, the conditioner once per tile and mirror."""

from __future__ import annotations

from contextlib import nullcontext, redirect_stdout
from dataclasses import dataclass, replace
from functools import cached_property
from io import StringIO
from math import inf, prod
from pathlib import Path
from tempfile import gettempdir
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.heap import give_back_freed_memory
from medsegdiff_auto.sampling.case_memory import CaseMemory
from medsegdiff_auto.sampling.case_size import CaseSize
from medsegdiff_auto.sampling.coherent import CoherentSampler, Decode, shown_samples
from medsegdiff_auto.sampling.conditions import Conditions, in_batches
from medsegdiff_auto.decision.fused_mean import EXPECTED, FUSED, LABELS, PLAIN, SAMPLE, FusedMean
from medsegdiff_auto.sampling.memory_plan import MemoryPlan, memory_plan
from medsegdiff_auto.sampling.mirrors import from_the_end, mirror_views
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.options import SamplingOptions
from medsegdiff_auto.nnunet.windows import require_few_tiles
from medsegdiff_auto.sampling.process_memory import ResidentLimit, resident_bytes
from medsegdiff_auto.sampling.seeds import latent_seed, noise_volume
from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.latent_noise import LatentNoise
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.tile_memory import TileMemory, tile_memory
from medsegdiff_auto.sampling.volume_store import InMemory, Storage, VolumeStore
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.cpu_speed import channels_last
from medsegdiff_auto.networks.sampling_network import LatentOfStep, Observe
from medsegdiff_auto.nnunet.managers import determine_num_input_channels

SAMPLES_PER_CALL = 8  # at least (results/cost_inference.md)
SAMPLED_VOXELS_PER_CALL = 2 ** 21  # small tiles gain from more samples in a call
FORWARD, EVALUATION, LEFT_OUT = "forward", "evaluation", "left out"
# functions of the network
COUNTED_AS = {"condition": FORWARD, "predict_x_start": EVALUATION, "predict_draws": EVALUATION}


@dataclass
class CaseDistribution:
    """What the folds say of one preprocessed case.

    Attributes:
        conditioner: the plain networks' mean probabilities, (K, *spatial) float32 in [0, 1].
        samples: one mask per entry as probabilities, (num_folds * num_samples, K, *spatial) float16.
        expected: the mean of all samples where it is known without drawing any, as ``conditioner``; else None.
        conditioner_weight: weight of the plain networks in :attr:`fused`.
    """

    conditioner: Tensor
    samples: Tensor
    conditioner_weight: float
    expected: Tensor | None = None

    @property
    def fused(self) -> Tensor:
        """Mean probabilities of plain networks and samples or the expected mask, (K, *spatial) float32."""
        mean = FusedMean(self.conditioner_weight)
        mean.add(PLAIN, InMemory(self.conditioner))
        if self.expected is not None:
            mean.add(EXPECTED, InMemory(self.expected))
        for sample in self.samples:
            mean.add(SAMPLE, InMemory(sample.float()))
        return mean.finish().read()


def by_itself(sample: int) -> int:
    """Every sample has its own."""
    return sample


def require_steps(diffusion: DiffusionConfiguration, num_steps: int | None) -> None:
    """
    Raises:
        UserError: the denoiser sees no state, which several steps could move.
    """
    if num_steps not in (None, 1) and not diffusion.network.sees_state:
        raise UserError("This model draws every sample in one step.", found=f"{num_steps} steps", expected="1",
                        fix="leave out --steps")


def finite(probabilities: VolumeStore, case: str, fold: int) -> VolumeStore:
    """The probabilities (K, *spatial) as they are.

    Args:
        fold: the how manyeth of the model's.

    Raises:
        UserError: one of them is not finite.
    """
    broken = sum(_num_broken(probabilities.read(rows)) for rows in probabilities.blocks())
    if broken:
        raise _not_finite(broken, prod(probabilities.shape), case, fold)
    return probabilities


def _num_broken(values: Tensor) -> int:
    return int((~values.isfinite()).sum())


def _not_finite(broken: int, of: int, case: str, fold: int) -> UserError:
    return UserError(f"The network's answer to {case} is not finite.",
                     found=f"{broken} of {of} probabilities of fold number {fold + 1} that are NaN or infinite",
                     expected="finite numbers",
                     fix="look for extreme intensities in the image, or predict with another checkpoint (-chk)")


class MedSegDiffPredictor(nnUNetPredictor):
    """nnU-Net's predictor (tiles, window, preprocessing, export) with joint samples.

    Attributes:
        num_forwards, num_evaluations: of nnU-Net's network and of the denoiser, for the last case.
        temperature: the option's, or the fitted one.
        intervention: what the denoiser is shown in the place of the states, for the audit.
        whose_latent: the number of the sample whose latent noise a sample gets, None for no noise, for the audit.
        on_call: told of every call that it was a :data:`FORWARD` or an :data:`EVALUATION` and of how many entries, and
            of evaluations that are :data:`LEFT_OUT` because their tiles have no foreground.

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
            self.manual_initialization(
                model.network.to(device).eval(), model.plans_manager, model.configuration_manager, model.fold_weights,
                model.dataset_json, "", model.mirroring_axes)
        require_steps(model.diffusion, options.num_steps)
        self.network = model.network  # as it is: nnUNet_compile would wrap it, whose parts are called one by one
        if device.type == "cpu":
            channels_last(self.network.denoiser)
        self.model, self.options, self.diffusion = model, options, model.diffusion
        self.temperature = options.temperature or model.temperature
        self.views = mirror_views(model.mirroring_axes, options.num_mirrors or model.diffusion.sampling.num_mirrors)
        self.num_samples = options.num_samples or model.diffusion.sampling.num_samples
        self.num_inputs = determine_num_input_channels(model.plans_manager, model.configuration_manager,
                                                       model.dataset_json)
        self.num_forwards = self.num_evaluations = 0
        self.baseline_bytes = resident_bytes()
        self._resident_limit = ResidentLimit(inf)
        self.intervention: Callable[[Tensor], Tensor] | None = None
        self.whose_latent: Callable[[int], int] | None = by_itself
        self.on_call: Callable[[str, int], None] = lambda kind, count: None

    def sample_case(self, data: np.ndarray, case: str) -> CaseDistribution:
        """The distribution of one preprocessed case, (C, *spatial), over all folds, held in memory."""
        drawn: dict[str, list[Tensor]] = {PLAIN: [], EXPECTED: [], SAMPLE: []}
        for kind, store in self.draw_case(data, case):
            drawn[kind].append(store.read().half() if kind == SAMPLE else store.read())
        plain, expected = (sum(drawn[kind]) / len(drawn[kind]) if drawn[kind] else None for kind in (PLAIN, EXPECTED))
        return CaseDistribution(plain, torch.stack(drawn[SAMPLE]), self.diffusion.sampling.conditioner_weight, expected)

    def tiles_of(self, shape: Sequence[int]) -> Tiles:
        """The tiles of a volume (*spatial), after padding to at least a patch.

        Raises:
            UserError: there are more than a million.
        """
        padded = [max(n, m) for n, m in zip(shape, [1] * (len(shape) - len(self.patch_size)) + self.patch_size)]
        require_few_tiles(padded, self.patch_size, self.tile_step_size)
        return Tiles(padded, self.patch_size, self._internal_get_sliding_window_slicers(tuple(padded)))

    @property
    def patch_size(self) -> list[int]:
        """The plan's."""
        return list(self.configuration_manager.patch_size)

    @cached_property
    def tile_memory(self) -> TileMemory:
        """What the network needs for one tile."""
        return tile_memory(self.network, self.num_inputs, self.label_manager.num_segmentation_heads, self.patch_size)

    @property
    def samples_per_call(self) -> int:
        """The option's, or :data:`SAMPLES_PER_CALL`, or as many as :data:`SAMPLED_VOXELS_PER_CALL` allows."""
        return self.options.samples_per_call or max(SAMPLES_PER_CALL, SAMPLED_VOXELS_PER_CALL // prod(self.patch_size))

    def memory_plan(self, size: CaseSize, folder: Path | None = None, mutual_information: bool = False) -> MemoryPlan:
        """How a case is predicted within the memory.

        Args:
            folder: of volumes that the memory does not hold; None for the system's folder of temporary files.
            mutual_information: whether it is asked for.
        """
        memory = CaseMemory(size, self.tiles_of(size.shape), len(self.list_of_parameters), self.num_samples,
                            len(self.views), self.diffusion, self.solver, self.tile_memory, self.samples_per_call,
                            self.fusion, mutual_information)
        return memory_plan(memory, self.device, self.baseline_bytes, self.options.max_memory_gb, folder
                           or Path(gettempdir()))

    @torch.inference_mode()
    def draw_case(self, data: np.ndarray, case: str, memory: MemoryPlan | None = None, fused: bool = False,
                  decode: Decode | None = None) -> Iterator[tuple[str, VolumeStore]]:
        """For every fold :data:`PLAIN` and the plain network's probabilities, :data:`EXPECTED` and the mean of all
        samples where it is known without drawing any, then :data:`SAMPLE` and those of each sample.

        Probabilities are (K, *spatial) float32 on the CPU, good until the next ones are asked for. As many samples are
        drawn together as there is memory for.

        Args:
            memory: of :meth:`memory_plan`; None plans for what is free now.
            fused: :data:`FUSED` and the weighted mean of the first two, in their place, where a mean is expected.
            decode: :data:`LABELS` and the label map (*spatial) in the place of each sample's probabilities, where
                ``memory`` says that these are kept.

        Raises:
            UserError: a probability is not finite.
        """
        num_outputs = self.label_manager.num_segmentation_heads
        memory = memory or self.memory_plan(CaseSize(data.shape[0], num_outputs, data.shape[1:], data.shape[1:]))
        if decode is None:  # samples are handed out one after the other, in their order
            memory = replace(memory, keeps_labels=False)
        if memory.is_large:
            give_back_freed_memory()
        self._resident_limit = ResidentLimit(memory.peak_bytes)
        image, revert_padding = pad_nd_image(torch.from_numpy(np.asarray(data)).float(), self.patch_size, "constant",
                                             {"value": 0}, True, None)
        crop, tiles = revert_padding[1:], self.tiles_of(data.shape[1:])
        del data
        image = self._stored(image, memory.storage.on_cpu())
        views = from_the_end(self.views, len(self.patch_size))
        self.num_forwards = self.num_evaluations = 0
        shape = (num_outputs, *tiles.shape)

        def noise_of(sample: int, step: int, rows: slice) -> Tensor:
            return noise_volume(shape, self.options.seed, case, sample, step, rows)

        def latent_of(sample: int, step: int) -> LatentNoise:
            whose = self.whose_latent(sample) if self.whose_latent else sample
            return LatentNoise(tiles.shape, self.network.configuration, self.network.cell,
                               latent_seed(self.options.seed, case, whose, step))

        for fold, weights in enumerate(self.list_of_parameters):
            self.network.take_weights(weights)
            conditions = Conditions(self.network, image, tiles, views, self.device, self.evaluate, num_outputs,
                                    memory.terms_bytes, memory.storage,
                                    self.diffusion.sampling.conditioner_weight if fused else None)
            evaluations_of_tile = sum(map(len, self.shown_samples(fold, memory)))
            self.on_call(LEFT_OUT, (len(tiles) - sum(conditions.is_active)) * evaluations_of_tile)
            for kind, store in ((FUSED, conditions.fused), (PLAIN, conditions.plain), (EXPECTED, conditions.expected)):
                if store is not None:
                    yield kind, finite(store.on_cpu().cropped(crop), case, fold)
            conditions.fused = conditions.plain = conditions.expected = store = None
            sampler = CoherentSampler(conditions, self.num_steps, self.solver,
                                      self.samples_per_call, memory.storage, self.intervention)
            latents = latent_of if self.whose_latent else None
            if memory.keeps_labels:
                maps = self._label_maps(sampler, fold, memory, latents, decode, case)
                for number in sorted(maps):
                    yield LABELS, maps[number].on_cpu().cropped(crop)
                del maps
            else:
                for together in self._drawn_together(fold, memory):
                    drawn = sampler.draw(together, noise_of, latents)
                    for number in range(len(together)):
                        yield SAMPLE, finite(drawn[number].on_cpu().cropped(crop), case, fold)
                    del drawn
            self.num_forwards += conditions.num_forwards
            self.num_evaluations += sampler.num_evaluations
            del conditions, sampler  # before those of the next fold

    def _label_maps(self, sampler: CoherentSampler, fold: int, memory: MemoryPlan,
                    latents: Callable[[int, int], LatentNoise] | None, decode: Decode,
                    case: str) -> dict[int, VolumeStore]:
        """The label map (*spatial) of every sample of a fold, by its number."""

        def decoded(states: Tensor) -> Tensor:
            if not states.sum().isfinite():  # one pass over the memory; states lie in [-1, 1]
                raise _not_finite(_num_broken(states), states.numel(), case, fold)
            return decode(states)

        maps: dict[int, VolumeStore] = {}
        for together in self._drawn_together(fold, memory):
            drawn = sampler.draw_labels(together, latents, decoded)
            maps |= {sample: drawn[row] for row, sample in enumerate(together)}
        return maps

    def _drawn_together(self, fold: int, memory: MemoryPlan) -> Iterator[tuple[int, ...]]:
        """The numbers of a fold's samples, as many at a time as are drawn together.

        Of label maps, which are kept until all are there, those that look through one view come together: its features
        serve all of them.
        """
        samples: Iterable[int] = range(fold * self.num_samples, (fold + 1) * self.num_samples)
        if memory.keeps_labels:
            samples = sorted(samples, key=lambda sample: (sample % len(self.views), sample))
        return in_batches(samples, memory.samples_together)

    def shown_samples(self, fold: int, memory: MemoryPlan) -> Iterator[Sequence[int]]:
        """The samples of a fold that the denoiser is shown in a tile: for those that are drawn together, step by step.
        """
        for together in self._drawn_together(fold, memory):
            for step in range(self.num_steps):
                yield shown_samples(self.network, together, len(self.views), step, self.num_steps)

    @staticmethod
    def _stored(image: Tensor, storage: Storage) -> VolumeStore:
        if not storage.is_on_disk:
            return InMemory(image)
        store = storage.empty(image.shape)
        for rows in store.blocks():
            store.write(rows, image[:, rows])
        return store

    @property
    def num_steps(self) -> int:
        """The option's, or the plan's."""
        return self.options.num_steps or self.diffusion.sampling.num_steps

    @property
    def solver(self) -> str:
        """The option's, or the plan's."""
        return self.options.solver or self.diffusion.sampling.solver

    @property
    def fusion(self) -> str:
        """The option's, or the plan's."""
        return self.options.fusion or self.diffusion.sampling.fusion

    def evaluate(self, function: Callable, *inputs):
        """A function of the network in mixed precision on CUDA, as nnU-Net predicts."""
        with torch.autocast("cuda") if self.device.type == "cuda" else nullcontext():
            outputs = function(*inputs)
        self._resident_limit.keep()
        if function.__name__ in COUNTED_AS:
            self.on_call(COUNTED_AS[function.__name__], len(inputs[0]))
        return outputs

    def condition_on(self, tiles: Tensor) -> Condition:
        """Logits and features of tiles (B, C, *patch)."""
        return self.evaluate(self.network.condition, tiles.to(self.device))

    def draw(self, condition: Condition, noise: Tensor, observe: Observe | None = None,
             shown_first: Tensor | None = None, latent_of: LatentOfStep | None = None) -> Tensor:
        """One mask per noise of single tiles, (B, K, *patch) probabilities on the CPU."""
        return self.evaluate(self.network.sample_probabilities, condition, noise, self.options.num_steps,
                             self.options.solver, observe, shown_first, latent_of).cpu()
