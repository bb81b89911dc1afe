"""The predictor: folds x mirrors x samples over the whole volume, the conditioner once per tile and mirror."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor

from medsegdiff_auto.inference.mirrors import mirror_views
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.seeds import noise_volume
from medsegdiff_auto.networks.conditioner import Condition

VOXELS_PER_BATCH = 128 ** 3


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample; None takes the plan's value.

    Attributes:
        num_samples: per fold.
        num_steps: network evaluations per sample.
        num_mirrors: mirrored views.
        solver: ``ddim``, ``ddpm`` or ``dpm_solver_pp_2m``.
        seed: of the noise.
    """

    num_samples: int | None = None
    num_steps: int | None = None
    num_mirrors: int | None = None
    solver: str | None = None
    seed: int = 0


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

    Args:
        model: a trained model.
        options: how to sample.
        tile_step_size: of the sliding window, in patches.
    """

    def __init__(self, model: TrainedModel, options: SamplingOptions = SamplingOptions(),
                 device: torch.device = torch.device("cpu"), tile_step_size: float = 0.5):
        super().__init__(tile_step_size=tile_step_size, device=device, allow_tqdm=False,
                         perform_everything_on_device=device.type == "cuda")
        self.manual_initialization(model.network.to(device).eval(), model.plans_manager, model.configuration_manager,
                                   model.fold_weights, model.dataset_json, "", model.mirroring_axes)
        self.options = options
        self.diffusion = model.diffusion
        self.views = mirror_views(model.mirroring_axes, options.num_mirrors or model.diffusion.num_mirrors)
        self.num_samples = options.num_samples or model.diffusion.num_samples

    @torch.inference_mode()
    def sample_case(self, data: np.ndarray, case: str) -> CaseDistribution:
        """The distribution of one preprocessed case, (C, *spatial), over all folds."""
        image, revert_padding = pad_nd_image(torch.from_numpy(np.asarray(data)).float(),
                                             self.configuration_manager.patch_size, "constant", {"value": 0}, True, None)
        conditioner, samples = 0, []
        for fold, weights in enumerate(self.list_of_parameters):
            self.network.load_state_dict(weights)
            plain, drawn = self.sample_fold(image, case, first_sample=fold * self.num_samples)
            conditioner = conditioner + plain / len(self.list_of_parameters)
            samples.append(drawn)
        crop = tuple(revert_padding[1:])
        return CaseDistribution(conditioner[(slice(None), *crop)], torch.cat(samples)[(slice(None), slice(None), *crop)],
                                self.diffusion.conditioner_weight)

    def sample_fold(self, image: Tensor, case: str, first_sample: int) -> tuple[Tensor, Tensor]:
        """Plain probabilities (K, *spatial) and samples (num_samples, K, *spatial) of one fold, on the CPU."""
        shape = image.shape[1:]
        num_outputs = self.label_manager.num_segmentation_heads
        noise = torch.stack([noise_volume((num_outputs, *shape), self.options.seed, case, first_sample + k)
                             for k in range(self.num_samples)])
        window = compute_gaussian(tuple(self.configuration_manager.patch_size), sigma_scale=1 / 8,
                                  value_scaling_factor=10, dtype=torch.float32, device=torch.device("cpu"))
        plain = torch.zeros((num_outputs, *shape))
        samples = torch.zeros((self.num_samples, num_outputs, *shape))
        weight = torch.zeros(shape)
        for tile in self._internal_get_sliding_window_slicers(shape):
            at = tuple(tile[1:])
            tile_plain, tile_samples = self.sample_tile(image[tile], noise[(slice(None), slice(None), *at)])
            plain[tile] += tile_plain * window
            samples[(slice(None), slice(None), *at)] += tile_samples * window
            weight[at] += window
        return plain / weight, (samples / weight).half()

    def sample_tile(self, tile: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Plain probabilities (K, *patch) and samples (S, K, *patch) of a tile (C, *patch) and noise (S, K, *patch).

        Sample k looks through view k modulo the number of views; its noise is mirrored with the tile and the mask is
        mirrored back, so that the noise belongs to the place in the image.
        """
        plain = torch.zeros(noise.shape[1:])
        samples = torch.empty(noise.shape)
        step = max(1, VOXELS_PER_BATCH // int(np.prod(tile.shape[1:])))
        for first in range(0, len(self.views), step):
            views = self.views[first:first + step]
            condition = self.condition_on(torch.stack([flipped(tile, view) for view in views]))
            for index, view in enumerate(views):
                probabilities = self.network.conditioner_probabilities(condition.of([index]))[0].float().cpu()
                plain += flipped(probabilities, view) / len(self.views)
            dealt = [(k, k % len(self.views) - first) for k in range(len(noise))
                     if first <= k % len(self.views) < first + len(views)]
            for start in range(0, len(dealt), step):
                part = dealt[start:start + step]
                drawn = self.draw(condition.of([i for _, i in part]),
                                  torch.stack([flipped(noise[k], views[i]) for k, i in part]))
                for (k, i), mask in zip(part, drawn):
                    samples[k] = flipped(mask, views[i])
        return plain, samples

    def autocast(self):
        """Mixed precision on CUDA, as nnU-Net predicts."""
        return torch.autocast("cuda") if self.device.type == "cuda" else nullcontext()

    def condition_on(self, tiles: Tensor) -> Condition:
        """Logits and features of tiles (B, C, *patch)."""
        with self.autocast():
            return self.network.condition(tiles.to(self.device))

    def draw(self, condition: Condition, noise: Tensor) -> Tensor:
        """One mask per noise, (B, K, *patch) probabilities on the CPU."""
        with self.autocast():
            return self.network.sample_probabilities(condition, noise, self.options.num_steps,
                                                     self.options.solver).cpu()


def flipped(x: Tensor, view: tuple[int, ...]) -> Tensor:
    """x (C, *spatial) mirrored along the spatial axes of a view; its own inverse."""
    return torch.flip(x, [axis + 1 for axis in view]) if view else x
