"""States and masks as colours: one colour per structure, the report's, on a dark ground."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from medsegdiff_auto.explanation.case import Tile
from medsegdiff_auto.palette import structure_colour
from medsegdiff_auto.reporting.figures import INK

MASK_OPACITY = 0.55


def structure_rgb(tile: Tile) -> np.ndarray:
    """(num_structures, 3) in [0, 1]."""
    return np.array([to_rgb(structure_colour(index)) for index in range(len(tile.structures))])


def state_as_colours(x: np.ndarray, tile: Tile) -> np.ndarray:
    """A state (K, height, width) as (height, width, 3) in [0, 1]; every channel counts with (x + 1) / 2, clipped to [0,
    1].

    Classes mix in these shares, with the ground for the background; regions lie over each other in their order.
    """
    weights, colours, ground = np.clip((x + 1) / 2, 0, 1), structure_rgb(tile), np.array(to_rgb(INK))
    if tile.target == "classes":
        of_channel = np.tile(ground, (len(x), 1))
        of_channel[[structure.channel for structure in tile.structures]] = colours
        return np.einsum("khw,kc->hwc", weights, of_channel) / np.maximum(weights.sum(0), 1e-6)[..., None]
    mixed = np.broadcast_to(ground, (*x.shape[1:], 3))
    for weight, colour in zip(weights[..., None], colours):
        mixed = (1 - weight) * mixed + weight * colour
    return mixed


def masks_on_image(masks: np.ndarray, image: np.ndarray, tile: Tile) -> np.ndarray:
    """Masks (num_structures, height, width) over a grey image (height, width) in [0, 1], as (height, width, 3)."""
    mixed = np.repeat(image[..., None], 3, axis=-1)
    filled = mixed.copy()
    for mask, colour in zip(masks, structure_rgb(tile)):
        filled[mask] = (1 - MASK_OPACITY) * mixed[mask] + MASK_OPACITY * colour
    return filled


def grey_image(tile: Tile) -> np.ndarray:
    """The plane of the first channel in [0, 1], its darkest 1 and brightest 0.5 % clipped."""
    shown = tile.plane.cut(tile.image[0].numpy())
    low, high = np.percentile(shown, (1, 99.5))
    return np.clip((shown - low) / max(high - low, 1e-6), 0, 1)


def legend_of(tile: Tile) -> list[Patch]:
    """One entry per structure."""
    return [
        Patch(color=structure_colour(index), label=structure.name) for index, structure in enumerate(tile.structures)
    ]
