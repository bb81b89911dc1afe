"""Latent noise: smooth fields that the denoiser turns into one of the masks that the image allows.

    code        symbol    meaning
    scales                distances of the fields' nodes, in structure diameters
    dispersion  tau       standard deviation of the fields, 1 in training
    latent      xi        normal fields at the denoiser's finest stage, (B, scales * channels, *cells)

A denoiser that is scored as a distribution (:mod:`~medsegdiff_auto.diffusion.energy_score`) learns what each of them
moves. They are coherent over tiles and views, as the states are: one set belongs to a sample, whatever the tiling.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.smooth_field import SmoothField, StackedFields, correlation_vox

ONE_BY_ONE = ("cpu", )  # devices on which samples are evaluated apart


def cell_of_volume(cell: Sequence[int], num_axes: int) -> tuple[int, ...]:
    """The cell of a 2-D plan has one slice of a volume."""
    return (1,) * (num_axes - len(cell)) + tuple(cell)


def node_distances(configuration: DiffusionConfiguration, cell: Sequence[int]) -> list[tuple[float, ...]]:
    """Distance of the nodes along each axis in voxels, for every scale; no less than a cell, whose mean is taken."""
    along = correlation_vox(configuration.noise.structure_diameter_vox, len(cell))
    return [tuple(max(float(size), scale * one) for size, one in zip(cell, along))
            for scale in configuration.network.latent_scales]


def num_nodes(shape: Sequence[int], configuration: DiffusionConfiguration, cell: Sequence[int]) -> int:
    """Numbers that the latent noise of one sample over a volume (*spatial) consists of, at most."""
    cell = cell_of_volume(cell, len(shape))
    return configuration.network.latent_channels * sum(
        math.prod(int((n - 1) / distance) + 3 for n, distance in zip(shape, distances))
        for distances in node_distances(configuration, cell))


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
        network = configuration.network
        self.cell = cell_of_volume(cell, len(shape))
        self.num_sets, self.num_channels = num_sets, network.latent_channels
        self.dispersion = configuration.sampling.dispersion
        self.fields = [
            SmoothField((num_sets * network.latent_channels, *shape), distance_vox, (seed + number) % 2**63)
            for number, distance_vox in enumerate(node_distances(configuration, self.cell))]

    def at(self, place: Sequence[slice]) -> Tensor:
        """All fields in a part of the volume, (num_sets, scales * channels, *cells)."""
        parts = [one.in_cells(place, self.cell).unflatten(0, (self.num_sets, self.num_channels)) for one in self.fields]
        return self.dispersion * torch.cat(parts, 1)

    def everywhere(self) -> Tensor:
        """All fields in the whole volume."""
        return self.at(self.fields[0].whole)


class LatentNoises:
    """The latent noise of several samples over one volume, evaluated on a device.

    On the CPU one sample after the other, so that values do not depend on what is evaluated together; on a GPU, which
    waits for each operation to be started, together.

    Args:
        samples: that of each; empty for a network without.
    """

    def __init__(self, samples: Sequence[LatentNoise], device: torch.device):
        self.samples, self.device = samples, device
        self._stacked: dict[tuple[int, ...], list[StackedFields]] = {}

    def __bool__(self) -> bool:
        return bool(self.samples)

    def at(self, rows: Sequence[int], place: Sequence[slice]) -> Tensor:
        """That of these samples in a part of the volume, (rows, fields, *cells)."""
        if self.device.type in ONE_BY_ONE:
            return torch.cat([self.samples[row].at(place) for row in rows])
        some = tuple(rows)
        if some not in self._stacked:
            of_scales = zip(*(self.samples[row].fields for row in some))
            self._stacked[some] = [StackedFields(fields, self.device) for fields in of_scales]
        one = self.samples[0]
        return one.dispersion * torch.cat([fields.in_cells(place, one.cell) for fields in self._stacked[some]], 1)
