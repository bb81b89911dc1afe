"""Smooth Gaussian fields over a volume, evaluated place by place.

    code          meaning
    correlation   distance of the field's nodes along each axis, in voxels: a structure's typical diameter

A stochastic segmentation network (Monteiro et al. 2020) learns how far such fields move its logits; the latent noise
here (:mod:`~medsegdiff_auto.diffusion.latent_noise`) consists of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from medsegdiff_auto.diffusion.precision import without_autocast
from medsegdiff_auto.diffusion.transfer import on_device


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

    def at(self, place: Sequence[slice]) -> Tensor:
        """The field in a part of the volume, one slice per axis, (K, *place)."""
        return self.in_cells(place, (1,) * len(self.matrices))

    def in_cells(self, place: Sequence[slice], cell: Sequence[int]) -> Tensor:
        """Means over cells of voxels of a part of the volume, whose sides they divide: (K, *cells)."""
        values = self.nodes
        with without_autocast(values.device):
            for axis, (matrix, along, size) in enumerate(zip(self.matrices, place, cell, strict=True)):
                rows = matrix[along]
                rows = rows if size == 1 else rows.unflatten(0, (-1, size)).mean(1)
                values = torch.tensordot(values, rows, dims=([axis + 1], [1])).movedim(-1, axis + 1)
        return values


class StackedFields:
    """Several fields over one volume on a device, evaluated together: a GPU waits for each operation to be started.

    Nodes that a field has fewer of than another are zeros.
    """

    def __init__(self, fields: Sequence[SmoothField], device: torch.device):
        of_axes = zip(*(one.matrices for one in fields))
        self.matrices = [on_device(pad_sequence([matrix.T for matrix in of_axis], True), device) for of_axis in of_axes]
        nodes = torch.zeros(len(fields), len(fields[0].nodes), *[matrix.shape[1] for matrix in self.matrices])
        for row, one in zip(nodes, fields):
            row[(slice(None), *map(slice, one.nodes.shape[1:]))] = one.nodes
        self.nodes = on_device(nodes, device)

    def in_cells(self, place: Sequence[slice], cell: Sequence[int]) -> Tensor:
        """:meth:`SmoothField.in_cells` of every field, (fields, K, *cells)."""
        values = self.nodes
        with without_autocast(values.device):
            for axis, (matrices, along, size) in enumerate(zip(self.matrices, place, cell, strict=True), 2):
                columns = matrices[:, :, along]
                columns = columns if size == 1 else columns.unflatten(2, (-1, size)).mean(3)
                lines = values.movedim(axis, -1)
                values = (lines.flatten(1, -2) @ columns).reshape(*lines.shape[:-1], -1).movedim(-1, axis)
        return values
