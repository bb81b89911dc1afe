"""Smooth Gaussian fields: the part of a sample's doubt that moves a boundary as a whole.

    code          meaning
    tau           standard deviation of the field in logits, the plan's or the fitted ``dispersion``
    correlation   distance of the field's nodes along each axis, in voxels: a structure's typical diameter

l <- l + tau g: where the network is sure, its logits change steeply and the boundary stays; where it is not, the
boundary moves, and with it the neighbourhood. Independent noise per voxel would only roughen it. A stochastic
segmentation network (Monteiro et al. 2020) learns such a field; here its size is one scalar, fitted on cases that no
fold was trained on. The distance of the nodes is chosen on phantoms (results/uncertainty.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medsegdiff_auto.diffusion.configuration import DiffusionConfiguration
from medsegdiff_auto.diffusion.state import logits_from_state, probabilities_from_logits, state_from_probabilities


def correlation_vox(structure_diameter_vox: Sequence[float], num_axes: int) -> tuple[float, ...]:
    """Distance of the nodes along each axis of a volume; the slices of a 2-D plan get the mean of its two axes."""
    along = [max(1.0, diameter) for diameter in structure_diameter_vox] or [1.0] * num_axes
    return (sum(along) / len(along),) * (num_axes - len(along)) + tuple(along)


def interpolation(num_voxels: int, distance_vox: float, offset: float) -> Tensor:
    """Linear interpolation between nodes as a matrix (num_voxels, num_nodes), each row of unit norm.

    Independent standard normal nodes thus give every voxel variance 1. ``offset`` in [0, 1) places the first node.
    """
    positions = torch.arange(num_voxels, dtype=torch.float64) / distance_vox + offset
    nodes = torch.arange(int(positions[-1]) + 2, dtype=torch.float64)
    weights = (1 - (positions[:, None] - nodes).abs()).clamp(min=0)
    return (weights / weights.norm(dim=1, keepdim=True)).float()


class SmoothField:
    """A standard normal field (K, *spatial), evaluated place by place.

    Args:
        shape: (K, *spatial) with three spatial axes, or two.
        distance_vox: of the nodes, per axis.
        seed: of the nodes and of where they lie.
    """

    def __init__(self, shape: Sequence[int], distance_vox: Sequence[float], seed: int):
        generator = torch.Generator().manual_seed(seed)
        offsets = torch.rand(len(distance_vox), generator=generator).tolist()
        self.matrices = [interpolation(*one) for one in zip(shape[1:], distance_vox, offsets)]
        self.nodes = torch.randn((shape[0], *[matrix.shape[1] for matrix in self.matrices]), generator=generator)

    @property
    def whole(self) -> tuple[slice, ...]:
        """The place that is all of the volume."""
        return (slice(None),) * len(self.matrices)

    def to(self, device: torch.device) -> SmoothField:
        """The field on a device, where its places are then evaluated."""
        self.matrices = [matrix.to(device) for matrix in self.matrices]
        self.nodes = self.nodes.to(device)
        return self

    def at(self, place: Sequence[slice]) -> Tensor:
        """The field in a part of the volume, one slice per axis, (K, *place)."""
        return self.in_cells(place, (1,) * len(self.matrices))

    def in_cells(self, place: Sequence[slice], cell: Sequence[int]) -> Tensor:
        """Means over cells of voxels of a part of the volume, whose sides they divide: (K, *cells)."""
        values = self.nodes
        for axis, (matrix, along, size) in enumerate(zip(self.matrices, place, cell, strict=True)):
            rows = matrix[along]
            rows = rows if size == 1 else rows.unflatten(0, (-1, size)).mean(1)
            values = torch.tensordot(values, rows, dims=([axis + 1], [1])).movedim(-1, axis + 1)
        return values


def fields_at(fields: Sequence[SmoothField], rows: slice) -> Tensor:
    """All fields (S, K, rows, *rest) in some slices of the first of three spatial axes."""
    return torch.stack([one.at((rows, slice(None), slice(None))) for one in fields])


def moved(x_start: Tensor, field: Tensor, configuration: DiffusionConfiguration) -> Tensor:
    """Predicted states in [-1, 1] with tau times a field of their shape (S, K, *spatial) added to their logits."""
    return moved_from_logits(logits_from_state(x_start, configuration.target), field, configuration)


def moved_from_logits(logits: Tensor, field: Tensor, configuration: DiffusionConfiguration) -> Tensor:
    """Adds tau times the field to logits (S, K, *spatial) and returns the states 2 p - 1 in [-1, 1]."""
    logits = logits + configuration.field_dispersion * field.to(logits)
    return state_from_probabilities(probabilities_from_logits(logits, configuration.target))
