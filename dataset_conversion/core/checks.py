"""The check of one case before it is written: one grid for all its files, and labels that the dataset has."""

from __future__ import annotations

import itertools
from collections.abc import Collection

import numpy as np

from medsegdiff_auto.dataset_conversion.core.labels import as_whole_numbers
from medsegdiff_auto.dataset_conversion.core.source import CaseProblem, Sample
from medsegdiff_auto.dataset_conversion.core.volume import Volume

ROUNDING = 0.05       # of a voxel's edge: corners that lie nearer to each other differ by rounding only
ORTHONORMAL = 1e-4    # nnU-Net's reader refuses axes that are not perpendicular


def checked(sample: Sample, values: Collection[int], num_channels: int) -> Sample:
    """The sample on one grid, its label maps as whole numbers; geometry that differs by rounding is repaired and noted.

    Raises:
        CaseProblem: sizes or grids differ, axes are oblique, a label is unknown, an image holds NaN, or channels are
        missing.
    """
    first, notes = sample.channels[0], list(sample.notes)
    found = sum(channel.voxels.shape[2] if _is_colour(channel) else 1 for channel in sample.channels)
    if found != num_channels:
        raise CaseProblem(f"it has {found} channels, expected {num_channels}")
    if isinstance(first, Volume):
        _require_perpendicular(first)
    channels = [on_grid(channel, first, f"channel {number}", notes) for number, channel in enumerate(sample.channels)]
    for number, channel in enumerate(channels):
        if channel.voxels.dtype.kind == "f" and not np.all(np.isfinite(channel.voxels)):
            raise CaseProblem(f"channel {number} holds NaN or infinite values "
                              f"({np.count_nonzero(~np.isfinite(channel.voxels))} of {channel.voxels.size} voxels)")
    label = sample.label
    if label is not None:
        label = _checked_label(label, first, "the label map", values, notes)
    raters = {name: _checked_label(rater, first, f"the label map of {name}", values, notes)
              for name, rater in sample.raters.items()}
    return Sample(channels, label, raters, notes)


def _checked_label(label, first, what: str, values: Collection[int], notes: list[str]):
    if _is_colour(label):
        raise CaseProblem(f"{what} is a colour image, expected one label per pixel")
    whole = as_whole_numbers(label.voxels, what)
    unknown = sorted(set(np.unique(whole).tolist()) - set(values))
    if unknown:
        raise CaseProblem(f"{what} holds the label {', '.join(map(str, unknown))}, "
                          f"expected {', '.join(map(str, sorted(values)))}")
    return on_grid(label if whole is label.voxels else label.like(whole), first, what, notes)


def on_grid(one, first, what: str, notes: list[str]):
    """An image or label map in the geometry of the first image; ``what`` it is stands in the notes.

    Raises:
        CaseProblem: it has another size, or lies elsewhere.
    """
    sizes = [image.voxels.shape[:2] if _is_colour(image) else image.voxels.shape for image in (one, first)]
    if sizes[0] != sizes[1]:
        raise CaseProblem(f"{what} has the size {_size(sizes[0])}, expected {_size(sizes[1])} as the image")
    if not isinstance(one, Volume):
        return one
    if np.array_equal(one.affine, first.affine):
        return one if one.has_position == first.has_position else one.in_geometry_of(first)
    difference = displacement(one, first)
    if difference > ROUNDING:
        raise CaseProblem(f"{what} lies elsewhere than the image: a corner is displaced by {difference:.3g} voxels")
    notes.append(f"{what} took the geometry of the image (corners differed by up to {difference:.1e} voxels)")
    return one.in_geometry_of(first)


def require_contrast(sample: Sample) -> None:
    """Checks that there is something to see.

    Raises:
        CaseProblem: all channels are constant.
    """
    if all(channel.voxels.min() == channel.voxels.max() for channel in sample.channels):
        raise CaseProblem(f"its image is constant, {sample.channels[0].voxels.flat[0]:g} everywhere")


def displacement(one: Volume, other: Volume) -> float:
    """How far the corners of two grids of the same size lie from each other at most, in edges of the smallest voxel
    side.
    """
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, max(size - 1, 1)) for size in _three(one)))])
    shift = corners @ (one.affine - other.affine).T
    edges = np.linalg.norm(other.affine[:3, :3], axis=0)
    return float(np.linalg.norm(shift[:, :3], axis=1).max() / edges.min())


def _three(volume: Volume) -> tuple[int, ...]:
    return (*volume.voxels.shape[:3], 1, 1)[:3]


def _require_perpendicular(volume: Volume) -> None:
    axes = volume.affine[:3, :3]
    lengths = np.linalg.norm(axes, axis=0)
    if not np.all(lengths > 0):
        raise CaseProblem("its geometry has an axis of length 0")
    deviation = np.abs((axes / lengths).T @ (axes / lengths) - np.eye(3)).max()
    if deviation > ORTHONORMAL:
        raise CaseProblem(f"its axes are not perpendicular (cosine {deviation:.2g}); resample it on a straight grid")


def _is_colour(image) -> bool:
    return not isinstance(image, Volume) and image.voxels.ndim == 3


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
