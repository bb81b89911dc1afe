"""What the network computes of the image: once per tile and view, kept for all steps and samples while there is room."""

from __future__ import annotations

from typing import Callable, Sequence

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from medsegdiff_auto.diffusion.state import state_from_probabilities
from medsegdiff_auto.inference.mirrors import flipped
from medsegdiff_auto.inference.tiling import Tiles
from medsegdiff_auto.networks.conditioner import Condition
from medsegdiff_auto.networks.denoiser import ImageTerms
from medsegdiff_auto.networks.sampling_network import SamplingNetwork

NO_FOREGROUND_BELOW = 1e-3


def num_bytes(tree) -> int:
    """Of all tensors in a tree of tuples and lists."""
    return sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))


class Conditions:
    """The image terms of all tiles and views of a volume, and the plain network's probabilities.

    Attributes:
        plain: the plain network's mean over all views, blended, (K, *spatial) float32 on the CPU.
        is_active: per tile, whether any voxel has foreground of at least 0.001 in the plain network's mean. Without a
            conditioner nothing is known beforehand, and every tile is active.
        num_forwards: evaluations of the conditioner so far.

    Args:
        image: (C, *spatial), padded to at least a patch.
        views: axes along which each view is mirrored, counted from the end.
        evaluate: runs a function of the network under the predictor's precision.
        room_bytes: for the kept terms; what does not fit is computed again at every use.
    """

    def __init__(self, network: SamplingNetwork, image: Tensor, tiles: Tiles, views: Sequence[tuple[int, ...]],
                 device: torch.device, evaluate: Callable, num_outputs: int, room_bytes: float):
        self.network, self.image, self.tiles, self.views = network, image, tiles, views
        self.device, self.evaluate = device, evaluate
        self.room_bytes, self.num_forwards = room_bytes, 0
        self.is_active = [False] * len(tiles)
        self._kept: dict[tuple[int, int], Condition | ImageTerms] = {}
        self.plain = tiles.blended((num_outputs,), self._first_look)
        self.plain_state = state_from_probabilities(self.plain)

    def _first_look(self, index: int) -> Tensor:
        """Plain probabilities of a tile, the mean over its views; keeps the terms of an active one."""
        mean, conditions = 0, []
        for view in range(len(self.views)):
            condition = self._condition(index, view)
            probabilities = self.network.conditioner_probabilities(condition)[0].float()
            mean = mean + flipped(probabilities, self.views[view]) / len(self.views)
            if num_bytes(condition) * len(self.views) <= self.room_bytes:
                conditions.append(condition)
        self.is_active[index] = not self.network.has_conditioner or self._has_foreground(mean)
        if self.is_active[index]:
            for view, condition in enumerate(conditions):
                self._keep(index, view, condition)
        return mean.cpu()

    def _has_foreground(self, probabilities: Tensor) -> bool:
        foreground = 1 - probabilities[0] if self.network.configuration.target == "classes" else probabilities
        return bool(foreground.max() >= NO_FOREGROUND_BELOW)

    def _condition(self, index: int, view: int) -> Condition:
        tile = flipped(self.tiles.cut(self.image, index), self.views[view])[None].to(self.device)
        self.num_forwards += self.network.has_conditioner
        return self.evaluate(self.network.condition, tile)

    def _keep(self, index: int, view: int, condition: Condition) -> None:
        terms = self.evaluate(self.network.image_terms, condition)
        if num_bytes(terms) <= self.room_bytes:
            self.room_bytes -= num_bytes(terms)
            self._kept[index, view] = terms

    def terms(self, index: int, view: int) -> Condition | ImageTerms:
        """What the denoiser needs of a tile in a view, for a batch of one."""
        if (index, view) in self._kept:
            return self._kept[index, view]
        return self.evaluate(self.network.image_terms, self._condition(index, view))
