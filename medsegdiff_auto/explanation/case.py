"""The tile that is explained: a patch of a validation case around its structures, and the noise of its samples."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.state import state_from_labels, state_from_regions
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.evaluation.structures import Structure, ignore_label_of, structures_of
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.inference.seeds import field_seed, noise_volume
from medsegdiff_auto.inference.smooth_field import SmoothField, correlation_vox
from medsegdiff_auto.training.previews import patch_around

NUM_CASES_NAMED = 6


@dataclass(frozen=True)
class Tile:
    """One patch of a case, as the network sees it.

    Attributes:
        image: (C, *patch), preprocessed.
        reference: label map, (*patch).
        x_start: the reference as a state, (K, *patch) in [-1, 1].
        noise: standard normal, (S, K, *patch); the predictor's noise of samples 0 to S - 1 at this place.
        field: the predictor's smooth field of these samples at this place, as ``noise``; None where the dispersion is 0.
        structures: foreground labels or regions, in the order of their colours.
        target: ``classes`` or ``regions``.
        ignore_label: its voxels count in no score.
        plane: what is drawn of it.
    """

    case: str
    image: Tensor
    reference: np.ndarray
    x_start: Tensor
    noise: Tensor
    structures: list[Structure]
    target: str
    ignore_label: int | None
    plane: Plane
    field: Tensor | None = None

    def masks(self, probabilities: np.ndarray) -> np.ndarray:
        """Boolean masks (num_structures, ...) of probabilities (K, ...): the likeliest class, or regions above 1/2."""
        if self.target == "regions":
            return probabilities > 0.5
        likeliest = probabilities.argmax(0)
        return np.stack([likeliest == structure.channel for structure in self.structures])

    def reference_masks(self) -> np.ndarray:
        """Boolean masks of the reference, (num_structures, *patch)."""
        return np.stack([structure.mask(self.reference) for structure in self.structures])

    def valid(self) -> np.ndarray | None:
        """False where the reference is the ignore label, (*patch); None where the dataset has none."""
        return None if self.ignore_label is None else self.reference != self.ignore_label


def read_tile(model: TrainedModel, preprocessed_folder: Path, fold: int, case: str | None, num_samples: int,
              seed: int) -> Tile:
    """The tile of a validation case (default: the first) with the noise of its samples.

    Raises:
        UserError: the preprocessed data is missing, or the fold does not validate on this case.
    """
    case, image, reference = read_case(model, preprocessed_folder, fold, case)
    patch, structures = model.configuration_manager.patch_size, structures_of(model.dataset_json)
    image, reference = (pad_nd_image(x, patch) for x in (image, reference))
    ignore_label = ignore_label_of(model.dataset_json)
    at = place(np.isin(reference, [label for s in structures for label in s.labels]), patch)
    num_outputs = model.plans_manager.get_label_manager(model.dataset_json).num_segmentation_heads
    noise = noise_at(at, (num_outputs, *reference.shape), case, num_samples, seed)
    field = fields_at(at, (num_outputs, *reference.shape), model.diffusion, case, num_samples, seed)
    reference = reference[at]
    plane = Plane.through(np.isin(reference, [label for s in structures for label in s.labels]),
                          model.configuration_manager.spacing)
    x_start = state_of(reference, structures, model.diffusion.target, num_outputs, ignore_label)
    return Tile(case, torch.from_numpy(image[(slice(None), *at)]).float(), reference, x_start, noise, structures,
                model.diffusion.target, ignore_label, plane, field)


def noise_at(at: tuple[int | slice, ...], shape: tuple[int, ...], case: str, num_samples: int, seed: int) -> Tensor:
    """The noise that samples of a case (shape (K, *spatial)) start from, at a place, (S, K, *patch)."""
    first = at[0] if isinstance(at[0], slice) else slice(at[0], at[0] + 1)
    noise = [noise_volume(shape, seed, case, k, rows=first)[(..., *at[1:])] for k in range(num_samples)]
    return torch.stack(noise if isinstance(at[0], slice) else [one[:, 0] for one in noise])


def fields_at(at: tuple[int | slice, ...], shape: tuple[int, ...], diffusion: DiffusionConfiguration, case: str,
              num_samples: int, seed: int) -> Tensor | None:
    """The smooth fields of samples of a case (shape (K, *spatial)) at a place, (S, K, *patch); None without dispersion."""
    if not diffusion.dispersion:
        return None
    distance_vox = correlation_vox(diffusion.structure_diameter_vox, len(shape) - 1)
    place = [one if isinstance(one, slice) else slice(one, one + 1) for one in at]
    fields = [SmoothField(shape, distance_vox, field_seed(seed, case, k)).at(place) for k in range(num_samples)]
    return torch.stack(fields if isinstance(at[0], slice) else [field[:, 0] for field in fields])
