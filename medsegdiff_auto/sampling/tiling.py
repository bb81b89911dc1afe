"""The tiles of a volume, and what a network says of each blended over the volume with nnU-Net's window.

A volume is swept along its first axis: as soon as no further tile reaches a slice, its values are final and are handed
out. So only the slices under the tiles at hand are held twice.
"""

from __future__ import annotations

from itertools import groupby
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from medsegdiff_auto.nnunet.windows import Slicer, gaussian_window, place_of


class Tiles:
    """Places of a patch that cover a volume, in an order of their own, whatever the order they are given in.

    Attributes:
        shape: of the volume, (*spatial).
        places: one slice per axis and tile; of 2-D patches in a volume, a slice of one along the first axis.
        window: nnU-Net's Gaussian, as thick as a tile.

    Args:
        slicers: of nnU-Net's predictor.
    """

    def __init__(self, shape: Sequence[int], patch_size: Sequence[int], slicers: Sequence[Slicer]):
        self.shape = tuple(shape)
        self.flat = len(patch_size) < len(shape)
        self.places = sorted(map(place_of, slicers), key=lambda place: [one.start for one in place])
        window = gaussian_window(patch_size)
        self.window = window[None] if self.flat else window

    def __len__(self) -> int:
        return len(self.places)

    @property
    def patch_size(self) -> tuple[int, ...]:
        """Size of a tile as the network gets it, (*patch)."""
        return tuple(self.window.shape[self.flat:])

    def cut(self, volume: Tensor, index: int) -> Tensor:
        """The part of a volume (..., *spatial) under a tile, (..., *patch)."""
        return self.cut_slab(volume[..., self.places[index][0], :, :], index)

    def cut_slab(self, slab: Tensor, index: int) -> Tensor:
        """The part under a tile, (..., *patch), of the slices of the first axis that it covers, (..., slices, *rest).
        """
        part = slab[(..., *self.places[index][1:])]
        return part.squeeze(-3) if self.flat else part

    def sweep(self, leading: Sequence[int], of_tile: Callable[[int], Tensor],
              device: torch.device | str = "cpu") -> Iterator[tuple[slice, Tensor]]:
        """Slices of the first axis, from the first to the last, and their blended values (*leading, slices, *rest).

        The values are good until the next ones are asked for.

        Args:
            leading: what precedes the spatial axes, such as (K,).
            of_tile: values of a tile by its index, (*leading, *patch).
        """
        if len(self.places) == 1:
            values = of_tile(0).to(device)
            yield slice(0, self.shape[0]), values.unsqueeze(-3) if self.flat else values
            return
        window = self.window.to(device)
        thickness, before = window.shape[0], (slice(None),) * len(leading)
        sums = torch.zeros((*leading, thickness, *self.shape[1:]), device=device)
        weights = torch.zeros((thickness, *self.shape[1:]), device=device)
        rows = [(start, [index for index, _ in row]) for start, row in groupby(
            enumerate(self.places), key=lambda entry: entry[1][0].start)]
        for (start, row), following in zip(rows, [start for start, _ in rows[1:]] + [self.shape[0]]):
            for index in row:
                at = self.places[index][1:]
                values = of_tile(index).to(device)
                sums[(*before, slice(None), *at)].addcmul_(values.unsqueeze(-3) if self.flat else values, window)
                weights[(slice(None), *at)] += window
            final = following - start
            yield slice(start, following), sums[(*before, slice(0, final))].div_(weights[:final])
            for kept, axis in ((sums, len(leading)), (weights, 0)):
                # as many slices as they move by: more would overlap, and a copy would be as large as the sums
                for number in range(0, thickness - final, final):
                    num_slices = min(final, thickness - final - number)
                    kept.narrow(axis, number, num_slices).copy_(kept.narrow(axis, number + final, num_slices))
                kept.narrow(axis, thickness - final, final).zero_()

    def blended(self, leading: Sequence[int], of_tile: Callable[[int], Tensor],
                device: torch.device | str = "cpu") -> Tensor:
        """The whole sweep in one, (*leading, *spatial) float32."""
        volume = torch.empty((*leading, *self.shape), device=device)
        for at, values in self.sweep(leading, of_tile, device):
            volume[(*[slice(None)] * len(leading), at)] = values
        return volume
