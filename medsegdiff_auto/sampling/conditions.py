"""What the network computes of the image: once per tile and view, kept for all steps and samples while there is room.

A volume with a channel per class is large. Where only the fused mean of plain network and expected mask is asked for,
one such volume is made instead of two.
"""

from __future__ import annotations

from itertools import islice
from math import prod
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from medsegdiff_auto.diffusion.transfer import on_device
from medsegdiff_auto.sampling.mirrors import flipped
from medsegdiff_auto.sampling.tiling import Tiles
from medsegdiff_auto.sampling.volume_store import SlabReader, Storage, VolumeStore
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.denoiser import ImageTerms
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

NO_FOREGROUND_BELOW = 1e-3
# of mirrored views in one call: on a CPU torch convolves a batch of one by another way (results/cost_inference.md)
VOXELS_PER_CALL = 2 ** 21


def num_bytes(tree) -> int:
    """Bytes of all tensors in a tree of tuples and lists."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


def in_batches(items: Iterable[int], size: int) -> Iterator[tuple[int, ...]]:
    """The items in their order, ``size`` at a time, the last batch perhaps smaller."""
    items = iter(items)
    return iter(lambda: tuple(islice(items, size)), ())


def views_per_call(patch_size: Sequence[int]) -> int:
    """Mirrored views of a tile in one call of nnU-Net's network: as many as :data:`VOXELS_PER_CALL` allows, at least
    one.
    """
    return max(1, VOXELS_PER_CALL // prod(patch_size))


class Conditions:
    """The image terms of all tiles and views of a volume, and the probabilities that need no sample.

    Attributes:
        plain: the plain network's mean over all views, blended, (K, *spatial) float32, where ``storage`` keeps it; None
            where :attr:`fused` holds it.
        expected: the mean of all samples likewise, where the network knows it without drawing any; else None.
        fused: the weighted mean of the two, in their place; None where no weight was given, or nothing is expected.
        is_active: per tile, whether any voxel has foreground of at least 0.001 in the plain network's mean. Without a
            conditioner nothing is known beforehand, and every tile is active.
        num_forwards: evaluations of the conditioner so far.

    Args:
        image: (C, *spatial), padded to at least a patch.
        views: axes along which each view is mirrored, counted from the end.
        evaluate: runs a function of the network under the predictor's precision.
        room_bytes: for the kept terms; what does not fit is computed again at every use.
        plain_weight: of the plain network in :attr:`fused`; None keeps the two apart.
    """

    def __init__(self, network: SamplingNetwork, image: VolumeStore, tiles: Tiles, views: Sequence[tuple[int, ...]],
                 device: torch.device, evaluate: Callable, num_outputs: int, room_bytes: float,
                 storage: Storage = Storage(), plain_weight: float | None = None):
        self.network, self.image_slab, self.tiles, self.views = network, SlabReader(image), tiles, views
        self.device, self.evaluate, self.num_outputs = device, evaluate, num_outputs
        self._plain_weight = plain_weight if network.has_expected_mask else None
        self.room_bytes, self.num_forwards = room_bytes, 0
        self.is_active = [False] * len(tiles)
        self._kept: dict[int, Condition | ImageTerms] = {}  # of all views, in their order
        self._latest: tuple[tuple[int, tuple[int, ...]], Condition | ImageTerms] | None = None
        num_kinds = 2 if network.has_expected_mask and plain_weight is None else 1
        kinds = [storage.empty((num_outputs, *tiles.shape)) for _ in range(num_kinds)]
        for rows, values in tiles.sweep((num_kinds, num_outputs), self._first_look, storage.device):
            for store, of_kind in zip(kinds, values):
                store.write(rows, of_kind)
        self.plain: VolumeStore | None = None
        self.expected: VolumeStore | None = None
        self.fused: VolumeStore | None = None
        if self._plain_weight is not None:
            self.fused, = kinds
        else:
            self.plain, self.expected = [*kinds, None][:2]

    def _first_look(self, index: int) -> Tensor:
        """Plain probabilities of a tile, the mean over its views, and the expected ones behind them where there are, or
        the fused ones, (1 or 2, K, *patch); keeps the terms of an active tile.
        """
        batches = self._view_batches(range(len(self.views)))
        conditions = [self._condition(index, views) for views in batches]
        plain = self._mean_of_views(batches, map(self.network.conditioner_probabilities, conditions))
        self.is_active[index] = not self.network.has_conditioner or self._has_foreground(plain)
        parts = [self.evaluate(self.network.image_terms, one) for one in conditions] if self.is_active[index] else []
        expected = plain
        if parts and self.network.has_expected_mask:
            expected = self._mean_of_views(
                batches, (self.evaluate(self.network.expected_probabilities, terms) for terms in parts))
        if parts:
            self._keep(index, parts)
        if not self.network.has_expected_mask:
            return plain[None]
        if self._plain_weight is None:
            return torch.stack([plain, expected])
        return torch.lerp(expected, plain, self._plain_weight)[None]

    def _mean_of_views(self, batches: Sequence[Sequence[int]], of_batches: Iterable[Tensor]) -> Tensor:
        """The mean of what the views of a tile say, batch by batch, each (B, K, *patch)."""
        return sum(flipped(values[row], self.views[view])
                   for views, values in zip(batches, of_batches) for row, view in enumerate(views)) / len(self.views)

    def _view_batches(self, views: Iterable[int]) -> list[tuple[int, ...]]:
        """Those that go through the network in one call."""
        return list(in_batches(views, views_per_call(self.tiles.window.shape)))

    def _has_foreground(self, probabilities: Tensor) -> bool:
        foreground = 1 - probabilities[0] if self.network.configuration.target == "classes" else probabilities
        return bool(foreground.max() >= NO_FOREGROUND_BELOW)

    def _condition(self, index: int, views: Sequence[int]) -> Condition:
        tile = self.tiles.cut_slab(self.image_slab(self.tiles.places[index][0]), index)
        self.num_forwards += self.network.has_conditioner * len(views)
        views_of_tile = torch.stack([flipped(tile, self.views[view]) for view in views])
        return self.evaluate(self.network.condition, on_device(views_of_tile, self.device))

    def _keep(self, index: int, parts: list[Condition | ImageTerms]) -> None:
        if sum(map(num_bytes, parts)) <= self.room_bytes:
            self.room_bytes -= sum(map(num_bytes, parts))
            self._kept[index] = parts[0] if len(parts) == 1 else tree_map(_joined, *parts)

    def terms(self, index: int, views: Sequence[int]) -> Condition | ImageTerms:
        """What the denoiser needs of a tile for samples that look through these views, repeats allowed."""
        if index in self._kept:
            return self._of_kept(index, tuple(views))
        needed = sorted(set(views))
        parts = [
            self.evaluate(self.network.image_terms, self._condition(index, some)) for some in self._view_batches(needed)
        ]
        return tree_map(_joined, *parts).of([needed.index(view) for view in views])

    def _of_kept(self, index: int, views: tuple[int, ...]) -> Condition | ImageTerms:
        """Those of the call before where it was the same tile and the same views: all calls of a small volume."""
        if self._latest is None or self._latest[0] != (index, views):
            self._latest = None  # before the next ones are made
            self._latest = (index, views), self._kept[index].of(list(views))
        return self._latest[1]


def _joined(*leaves: Tensor | None) -> Tensor | None:
    return None if leaves[0] is None else torch.cat(leaves)
