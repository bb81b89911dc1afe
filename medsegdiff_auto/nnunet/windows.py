"""The tiles of nnU-Net's sliding window, and how much each voxel of a tile counts where tiles overlap."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor

from medsegdiff_auto.errors import UserError

SIGMA_SCALE, MAXIMUM = 1 / 8, 10  # of the predictor's window: deviation in patches, value at the centre

MOST_TILES = 1_000_000

Slicer = tuple[slice | int, ...]
"""A tile by nnU-Net's predictor: all channels, then a slice per axis; of 2-D patches, the number of a slice first."""


def gaussian_window(patch_size: Sequence[int]) -> Tensor:
    """Weights of the voxels of a patch, float32 on the CPU, none of them 0."""
    return compute_gaussian(tuple(patch_size), sigma_scale=SIGMA_SCALE, value_scaling_factor=MAXIMUM,
                            dtype=torch.float32, device=torch.device("cpu"))


def require_few_tiles(shape: Sequence[int], patch_size: Sequence[int], step_size: float) -> None:
    """Counts the tiles of a volume (*spatial) along each axis, before they are listed.

    Raises:
        UserError: there are more than :data:`MOST_TILES`.
    """
    flat = len(shape) - len(patch_size)
    steps = compute_steps_for_sliding_window(tuple(shape[flat:]), tuple(patch_size), step_size)
    num_tiles = prod(shape[:flat]) * prod(map(len, steps))
    if num_tiles > MOST_TILES:
        raise UserError("The sliding window would never end.",
                        found=f"{num_tiles} tiles of {list(patch_size)} voxels in {list(shape)}, step {step_size:g}",
                        expected=f"at most {MOST_TILES} tiles", fix="give a larger -step_size, such as 0.5")


def place_of(slicer: Slicer) -> tuple[slice, ...]:
    """A slice per spatial axis; the number of a slice as a slice of one."""
    return tuple(one if isinstance(one, slice) else slice(one, one + 1) for one in slicer[1:])
