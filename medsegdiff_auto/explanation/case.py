"""The tile that is explained: a patch of a validation case around its structures, and the noise of its samples."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from torch import Tensor

from medsegdiff_auto.diffusion.latent_noise import LatentNoise
from medsegdiff_auto.diffusion.state import state_from_labels, state_from_regions
from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.dataset_files import next_stage_folder, read_splits
from medsegdiff_auto.nnunet.managers import previous_stage_channels
from medsegdiff_auto.nnunet.preprocessed import read_cases, require_data_folder
from medsegdiff_auto.nnunet.structures import Structure, ignore_label_of, structures_of
from medsegdiff_auto.explanation.plane import Plane
from medsegdiff_auto.inference.model import TrainedModel
from medsegdiff_auto.sampling.seeds import latent_seed, noise_volume
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
        structures: foreground labels or regions, in the order of their colours.
        target: ``classes`` or ``regions``.
        ignore_label: its voxels count in no score.
        plane: what is drawn of it.
        latent_of: the predictor's latent noise at this place by sample and step, (1, fields, *cells); None for a
            network without, and for a tile that is of no case.
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
    latent_of: Callable[[int, int], Tensor] | None = None

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
    case, image, reference = read_validation_case(model, preprocessed_folder, fold, case)
    patch, structures = model.configuration_manager.patch_size, structures_of(model.dataset_json)
    image, reference = (pad_nd_image(x, patch) for x in (image, reference))
    ignore_label = ignore_label_of(model.dataset_json)
    at = place(np.isin(reference, [label for s in structures for label in s.labels]), patch)
    num_outputs = model.plans_manager.get_label_manager(model.dataset_json).num_segmentation_heads
    noise = noise_at(at, (num_outputs, *reference.shape), case, num_samples, seed)
    whole, reference = reference.shape, reference[at]
    plane = Plane.through(np.isin(reference, [label for s in structures for label in s.labels]),
                          model.configuration_manager.spacing)
    x_start = state_of(reference, structures, model.diffusion.target, num_outputs, ignore_label)
    return Tile(case, torch.from_numpy(image[(slice(None), *at)]).float(), reference, x_start, noise, structures,
                model.diffusion.target, ignore_label, plane,
                latent_at(model, at, tuple(whole), case, seed))


def noise_at(at: tuple[int | slice, ...], shape: tuple[int, ...], case: str, num_samples: int, seed: int) -> Tensor:
    """The noise that samples of a case (shape (K, *spatial)) start from, at a place, (S, K, *patch)."""
    first = at[0] if isinstance(at[0], slice) else slice(at[0], at[0] + 1)
    noise = [noise_volume(shape, seed, case, k, rows=first)[(..., *at[1:])] for k in range(num_samples)]
    return torch.stack(noise if isinstance(at[0], slice) else [one[:, 0] for one in noise])


def latent_at(model: TrainedModel, at: tuple[int | slice, ...], shape: tuple[int, ...], case: str,
              seed: int) -> Callable[[int, int], Tensor] | None:
    """The latent noise that the predictor gives the samples of a case (shape *spatial) at a place."""
    if not model.network.has_latent_noise:
        return None
    place_of_tile = [one if isinstance(one, slice) else slice(one, one + 1) for one in at]
    is_flat = not isinstance(at[0], slice)

    def latent_of(sample: int, step: int) -> Tensor:
        noise = LatentNoise(shape, model.network.configuration, model.network.cell,
                            latent_seed(seed, case, sample, step)).at(place_of_tile)
        return noise.squeeze(-3) if is_flat else noise

    return latent_of


def read_validation_case(model: TrainedModel, preprocessed_folder: Path, fold: int,
                         case: str | None) -> tuple[str, np.ndarray, np.ndarray]:
    """Name, image (C, *spatial) and label map (*spatial) of a validation case; a cascade's image has its first stage.
    """
    data_folder = require_data_folder(preprocessed_folder, model.configuration_manager.data_identifier)
    case = require_case(case, read_splits(preprocessed_folder)[fold], fold)
    found = next(read_cases(data_folder, [case], first_stage_folder(model)))
    image = found.image
    if found.previous is not None:
        labels = model.plans_manager.get_label_manager(model.dataset_json)
        image = np.concatenate([image, previous_stage_channels(found.previous, labels, image.dtype)])
    return case, image, found.reference


def require_case(case: str | None, split: dict, fold: int) -> str:
    """``case``, or the first validation case of the split.

    Raises:
        UserError: the fold does not validate on this case.
    """
    known = split["val"]
    if case is None or case in known:
        return case or known[0]
    named = ", ".join(known[:NUM_CASES_NAMED]) + (f", ... ({len(known)} cases)" if len(known) > NUM_CASES_NAMED else "")
    nearest = difflib.get_close_matches(case, known, n=1)
    trained_on = f", a training case of fold {fold}" if case in split["train"] else ""
    raise UserError(f"Fold {fold} does not validate on this case.", found=f"{case}{trained_on}",
                    expected=f"one of {named}",
                    fix=f"give --case {nearest[0] if nearest else known[0]}, or leave out --case for {known[0]}")


def first_stage_folder(model: TrainedModel) -> Path | None:
    """Where a cascade's first stage left its label maps for the second; None for other configurations."""
    stage = model.configuration_manager.previous_stage_name
    if stage is None:
        return None
    kind, configuration = model.folder.name.rsplit("__", 1)
    folder = next_stage_folder(model.folder.with_name(f"{kind}__{stage}"), configuration)
    if not folder.is_dir():
        raise UserError("The cascade lacks the predictions of its first stage.", found=f"no {folder}",
                        expected="what the validation of the first stage wrote",
                        fix=f"train and validate {stage} first")
    return folder


def place(foreground: np.ndarray, patch: list[int]) -> tuple[int | slice, ...]:
    """Where the tile lies: a patch around the foreground voxel nearest to the middle of the foreground.

    For a 2-D patch of a volume, in the slice with the most foreground, whose number comes first.
    """
    if foreground.ndim > len(patch):
        index = int(foreground.sum(axis=(1, 2)).argmax()) if foreground.any() else len(foreground) // 2
        return index, *place(foreground[index], patch)
    places = np.argwhere(foreground)
    center = np.array(foreground.shape) // 2
    if len(places):
        center = places[((places - places.mean(0)) ** 2).sum(1).argmin()]
    return tuple(slice(*ends) for ends in patch_around(center, np.array(patch), np.array(foreground.shape)))


def state_of(reference: np.ndarray, structures: list[Structure], target: str, num_outputs: int,
             ignore_label: int | None) -> Tensor:
    """The reference as the state x_0, (K, *patch) in [-1, 1]; 0 where ignored."""
    labels = torch.from_numpy(reference.astype(np.int64))[None, None]
    if target == "classes":
        return state_from_labels(labels, num_outputs, ignore_label)[0]
    masks = torch.from_numpy(np.stack([structure.mask(reference) for structure in structures]))[None]
    return state_from_regions(masks, None if ignore_label is None else labels == ignore_label)[0]
