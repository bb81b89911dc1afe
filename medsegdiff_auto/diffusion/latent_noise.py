"""Latent noise: smooth fields that the denoiser turns into one of the masks that the image allows.

    code        symbol    meaning
    scales                distances of the fields' nodes, in structure diameters
    dispersion  tau       standard deviation of the fields, 1 in training
    latent      xi        normal fields at the denoiser's finest stage, (B, scales * channels, *cells)

A denoiser that is scored as a distribution (:mod:`~medsegdiff_auto.diffusion.energy_score`) learns what each of them
moves. They are coherent over tiles and views, as the states are: one set belongs to a sample, whatever the tiling.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.smooth_field import SmoothField, correlation_vox


class LatentNoise:
    """The latent noise of one sample over a volume, evaluated place by place.

    Args:
        shape: of the volume, (*spatial); it may have one axis more than the plan, that of the slices.
        cell: voxels per axis of the plan that make up one position of the denoiser's finest stage.
        seed: of all fields.
        num_sets: independent ones, for a batch; their nodes lie at the same places.
    """

    def __init__(self, shape: Sequence[int], configuration: DiffusionConfiguration, cell: Sequence[int], seed: int,
                 num_sets: int = 1):
        network, diameter = configuration.network, configuration.noise.structure_diameter_vox
        self.cell = (1,) * (len(shape) - len(cell)) + tuple(cell)
        self.num_sets, self.num_channels = num_sets, network.latent_channels
        self.dispersion = configuration.sampling.dispersion
        self.fields = [
            SmoothField((num_sets * network.latent_channels, *shape),
                        [max(1.0, scale * distance) for distance in correlation_vox(diameter, len(shape))],
                        (seed + number) % 2**63) for number, scale in enumerate(network.latent_scales)]

    def to(self, device: torch.device) -> LatentNoise:
        """The fields on a device, where their places are then evaluated."""
        self.fields = [one.to(device) for one in self.fields]
        return self

    def at(self, place: Sequence[slice]) -> Tensor:
        """All fields in a part of the volume, (num_sets, scales * channels, *cells)."""
        parts = [one.in_cells(place, self.cell).unflatten(0, (self.num_sets, self.num_channels)) for one in self.fields]
        return self.dispersion * torch.cat(parts, 1)

    def everywhere(self) -> Tensor:
        """All fields in the whole volume."""
        return self.at(self.fields[0].whole)
