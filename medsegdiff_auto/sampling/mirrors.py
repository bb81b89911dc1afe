"""The mirrored views of a tile: for some of the samples one more look, not a multiplier of the cost."""

from __future__ import annotations

from itertools import combinations
from collections.abc import Sequence

import torch
from torch import Tensor


def mirror_views(allowed_axes: Sequence[int] | None, num_mirrors: int) -> list[tuple[int, ...]]:
    """The first ``num_mirrors`` of nnU-Net's views: the tile itself, then flips of one axis, of two, of three.

    Args:
        allowed_axes: spatial axes that training mirrored (0 is the first); None or empty allows no flip.
        num_mirrors: at least 1; more than there are views gives all of them.
    """
    axes = list(allowed_axes or [])
    views = [flip for count in range(len(axes) + 1) for flip in combinations(axes, count)]
    return views[:max(1, num_mirrors)]


def from_the_end(views: Sequence[tuple[int, ...]], dimension: int) -> list[tuple[int, ...]]:
    """The views with spatial axes counted from the last (-1), so that channels and batches may precede them."""
    return [tuple(axis - dimension for axis in view) for view in views]


def flipped(x: Tensor, view: tuple[int, ...]) -> Tensor:
    """x (..., *spatial) mirrored along the axes of a view counted from the end; its own inverse."""
    return torch.flip(x, view) if view else x
