"""From the grid of a file to that of the network, as nnU-Net's preprocessing goes.

The axes (z, y, x) of a file come in the plan's order, ``transpose_forward``. A 2-D plan has a spacing of two axes: the
first axis, which its slices follow, keeps the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TypeVar

from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from medsegdiff_auto.errors import UserError
from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager

Value = TypeVar("Value")
MOST_VOXELS, MOST_GROWTH = 2**32, 16**3  # a body scanned at 0.5 mm; each axis stretched 16 times


def in_plan_order(values: Sequence[Value], plans_manager: PlansManager) -> list[Value]:
    """One value per axis (z, y, x) of a file, in the plan's order of axes."""
    return [values[axis] for axis in plans_manager.transpose_forward]


def network_spacing(spacing: Sequence[float], configuration_manager: ConfigurationManager) -> list[float]:
    """Spacing of the network's grid for an image of this spacing, both in the plan's order."""
    planned = list(configuration_manager.spacing)
    return [*spacing[:len(spacing) - len(planned)], *planned]


def network_shape(shape: Sequence[int], spacing: Sequence[float], plans_manager: PlansManager,
                  configuration_manager: ConfigurationManager) -> tuple[int, ...]:
    """Shape (*spatial) on the network's grid of an image (z, y, x) of which nothing is cropped."""
    spacing = in_plan_order(spacing, plans_manager)
    wanted = network_spacing(spacing, configuration_manager)
    return tuple(int(n) for n in compute_new_shape(in_plan_order(shape, plans_manager), spacing, wanted))


def require_sensible_shape(shape: Sequence[int], image_shape: Sequence[int], spacing: Sequence[float],
                           name: str) -> None:
    """Checks the shape on the network's grid of an image before anything is resampled.

    Raises:
        UserError: it has no voxel, or more than :data:`MOST_VOXELS` or :data:`MOST_GROWTH` for each of the image's.
    """
    if 0 < prod(shape) <= min(MOST_VOXELS, MOST_GROWTH * prod(image_shape)):
        return
    mm, size, wanted = (" x ".join(f"{n:g}" for n in axes) for axes in (spacing, image_shape, shape))
    raise UserError(f"The voxel spacing of {name} cannot be true.",
                    found=f"{mm} mm along the axes, which makes {wanted} voxels of {size}",
                    expected=f"1 to {MOST_VOXELS} voxels on the network's grid, at most {MOST_GROWTH} for each",
                    fix="write the spacing in millimetres into the image's header, or leave the case out")
