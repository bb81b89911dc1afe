"""The tiles of nnU-Net's sliding window, and how much each voxel of a tile counts where tiles overlap."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from torch import Tensor

SIGMA_SCALE, MAXIMUM = 1 / 8, 10  # of the predictor's window: deviation in patches, value at the centre

Slicer = tuple[slice | int, ...]
"""A tile by nnU-Net's predictor: all channels, then a slice per axis; of 2-D patches, the number of a slice first."""


def gaussian_window(patch_size: Sequence[int]) -> Tensor:
    """Weights of the voxels of a patch, float32 on the CPU, none of them 0."""
    return compute_gaussian(tuple(patch_size), sigma_scale=SIGMA_SCALE, value_scaling_factor=MAXIMUM,
                            dtype=torch.float32, device=torch.device("cpu"))


def place_of(slicer: Slicer) -> tuple[slice, ...]:
    """A slice per spatial axis; the number of a slice as a slice of one."""
    return tuple(one if isinstance(one, slice) else slice(one, one + 1) for one in slicer[1:])
