"""What nnU-Net remembers of a case from its file to its export: the ``properties`` of readers and preprocessing.

    key                                            here              meaning
    spacing                                        spacing_of        of the file, (z, y, x), mm; see :data:`LONE_SLICE`
    shape_before_cropping                          whole_shape       in the plan's order of axes, as the next two
    bbox_used_for_cropping                         crop_of           first and last + 1 of what is not 0 along each axis
    shape_after_cropping_and_before_resampling     cropped_shape     of this box
    sitk_stuff, nibabel_stuff                      Header            what a reader needs to write a file alike
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONE_SLICE = 999
"""The distance of slices that the readers make up where there is one slice: so many times its largest spacing."""


def spacing_of(properties: dict) -> list[float]:
    """Spacing of the image as read, (z, y, x)."""
    return [float(one) for one in properties["spacing"]]


def whole_shape(properties: dict) -> tuple[int, ...]:
    """Shape before cropping, in the plan's order of axes."""
    return tuple(int(n) for n in properties["shape_before_cropping"])


def crop_of(properties: dict) -> tuple[slice, ...]:
    """The part of :func:`whole_shape` that was kept."""
    return tuple(slice(*bounds) for bounds in properties["bbox_used_for_cropping"])


def cropped_shape(properties: dict) -> tuple[int, ...]:
    """Shape of the part that was kept, before it was resampled."""
    return tuple(int(n) for n in properties["shape_after_cropping_and_before_resampling"])


@dataclass(frozen=True)
class Header:
    """Where the voxels of an image as read lie, as its reader remembers it; None are those of other readers.

    Attributes:
        itk: spacing, origin and direction by SimpleITK's reader, in the order x, y(, z); the direction row by row.
        affine: by nibabel's readers, from indices (x, y, z) to mm in RAS; of the turned image where a reader turns it.
    """

    itk: tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]] | None = None
    affine: np.ndarray | None = None


def header_of(properties: dict) -> Header:
    """What the reader remembers; both are None for formats that know of no position (PNG, TIFF)."""
    if "sitk_stuff" in properties:
        remembered = properties["sitk_stuff"]
        return Header(itk=(tuple(remembered["spacing"]), tuple(remembered["origin"]), tuple(remembered["direction"])))
    if "nibabel_stuff" in properties:
        remembered = properties["nibabel_stuff"]
        return Header(affine=np.asarray(remembered.get("reoriented_affine", remembered["original_affine"]), float))
    return Header()
