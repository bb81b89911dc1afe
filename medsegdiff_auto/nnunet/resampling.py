"""From the grid of a file to that of the network, as nnU-Net's preprocessing goes.

The axes (z, y, x) of a file come in the plan's order, ``transpose_forward``. A 2-D plan has a spacing of two axes: the
first axis, which its slices follow, keeps the file's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from nnunetv2.preprocessing.resampling.default_resampling import compute_new_shape

from medsegdiff_auto.nnunet.managers import ConfigurationManager, PlansManager

Value = TypeVar("Value")


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
